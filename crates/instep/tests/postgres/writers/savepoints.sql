-- Of three changes the middle one is taken back; a later one is made in a savepoint of its own.
\set id random(1, :last)
\set other random(1, :last)
\set n random(1, 1000000000)
begin;
update artwork set medium = 'first ' || :n where id = :id;
savepoint a;
update artwork set title = 'never' where id = :other;
delete from artwork_subject where artwork_id = :id;
rollback to savepoint a;
savepoint b;
update artwork set credit_line = 'kept ' || :n where id = :id;
release savepoint b;
commit;
