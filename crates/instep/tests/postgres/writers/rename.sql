\set artist random(1, 3000)
\set n random(1, 1000000000)
update artist set name = 'name ' || :n where id = :artist;
