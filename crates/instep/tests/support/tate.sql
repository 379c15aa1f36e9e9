-- The documents of the Tate Collection, built by one statement: each table is read once, aggregated, and joined; by hash
-- where nested loops and merging are off, as the benchmark `sync --source postgres` has it. The comparison in
-- `tests/postgres` reads it too; psql runs it as it is.
select
    a.id,
    json_build_object(
        'acno', a.acno, 'title', a.title, 'foreign_title', a.foreign_title, 'medium', a.medium,
        'classification', a.classification, 'inscription', a.inscription, 'credit_line', a.credit_line,
        'date_text', a.date_text, 'start_year', a.start_year, 'end_year', a.end_year,
        'acquisition_year', a.acquisition_year, 'width', a.width, 'height', a.height,
        'artists', coalesce(artists.list, '[]'::json),
        'subjects', coalesce(subjects.list, '[]'::json),
        'group', case when g.id is not null then json_build_object('title', g.title, 'type', g.type) end
    ) as document
from artwork a
left join (
    select link.artwork_id,
           json_agg(json_build_object('name', artist.name, 'birth_year', artist.birth_year, 'death_year', artist.death_year,
                                      'movements', coalesce(movements.list, '[]'::json))
                    order by link.ord nulls first, link.artist_id, link.role) as list
    from artwork_artist link
    join artist on artist.id = link.artist_id
    left join (
        select link.artist_id, json_agg(movement.name order by movement.id) as list
        from artist_movement link
        join movement on movement.id = link.movement_id
        group by link.artist_id
    ) movements on movements.artist_id = artist.id
    group by link.artwork_id
) artists on artists.artwork_id = a.id
left join (
    select link.artwork_id, json_agg(subject.name order by subject.id) as list
    from artwork_subject link
    join subject on subject.id = link.subject_id
    group by link.artwork_id
) subjects on subjects.artwork_id = a.id
left join catalogue_group g on g.id = a.group_id
