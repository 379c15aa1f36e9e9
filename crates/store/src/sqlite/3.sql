-- Since when a document is in trouble, and when it failed last: milliseconds since 1970, null for what an earlier
-- version wrote.
alter table trouble add column since_ms integer;
alter table trouble add column last_ms integer;

-- What happened lately: one row for each append and each settlement. The number counts all bytes ever written up to the
-- row's end, so that the oldest rows beyond a bound are one range.
create table journal (
    upto  integer primary key,
    at_ms integer not null,
    kind  text not null check (kind in ('touched', 'built', 'discarded')),
    name  text not null, -- the source or the set
    body  text not null  -- JSON
) strict;

create table paused (
    kind     text not null check (kind in ('source', 'collection')),
    name     text not null,
    since_ms integer not null,
    primary key (kind, name)
) strict, without rowid;

-- Where the documents of collections with several partitions lie: a language says there and nowhere else, null that it is
-- not known since the write under this ticket.
create table placement (
    set_name   text not null,
    collection text not null,
    doc        text not null,
    language   text,
    ticket     integer not null,
    primary key (set_name, collection, doc)
) strict, without rowid;
