\set id random(1, :last)
begin;
update artwork set title = 'never' where id = :id;
delete from artwork_artist where artwork_id = :id;
rollback;
