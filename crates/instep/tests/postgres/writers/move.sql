-- From one parent to another: by a key, by a column that is in no key, to none, and by a whole tree.
\set id random(1, :last)
\set artist random(1, 3000)
\set group random(1, 1200)
\set subject random(1, 16000)
\set parent random(1, 16000)
\set which random(1, 4)
begin;
\if :which = 1
update artwork_artist set artist_id = :artist where artwork_id = :id and role = 'artist'
    and exists (select 1 from artist where id = :artist)
    and not exists (select 1 from artwork_artist where artwork_id = :id and artist_id = :artist)
    and (select count(*) from artwork_artist where artwork_id = :id) = 1;
\elif :which = 2
update artwork set group_id = (select id from catalogue_group where id = :group) where id = :id;
\elif :which = 3
update artwork set group_id = null where id = :id;
\else
update subject set parent_id = (select id from subject where id = :parent and id <> :subject) where id = :subject;
\endif
commit;
