-- A row with its links goes, and another comes under the same key.
\set id random(1, :last)
\set n random(1, 1000000000)
begin;
select 1 from artwork where id = :id for update;
delete from artwork_subject where artwork_id = :id;
delete from artwork_artist where artwork_id = :id;
delete from artwork where id = :id;
\if :n % 2 = 0
insert into artwork (id, acno, title) values (:id, 'X' || :id, 'again ' || :n) on conflict do nothing;
\endif
commit;
