\set id random(1, :last)
\set n random(1, 1000000000)
update artwork set title = 'title ' || :n where id = :id;
