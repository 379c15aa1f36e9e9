-- Open for a while, so that later transactions commit before it.
\set id random(1, :last)
\set n random(1, 1000000000)
\set wait random(50, 600)
begin;
update artwork set inscription = 'long ' || :n where id = :id;
\sleep :wait ms
update artwork set inscription = 'longer ' || :n where id = :id;
commit;
