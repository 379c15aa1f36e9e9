\set id random(1, :last)
\set subject random(1, 16000)
insert into artwork_subject select a.id, s.id from artwork a, subject s
    where a.id = :id and s.id between :subject and :subject + 1 for key share of a on conflict do nothing;
delete from artwork_subject where artwork_id = :id and subject_id > :subject;
