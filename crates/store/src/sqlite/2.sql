-- Which rows each document was built from, where the source does not bring their former values; which of them were
-- touched lately. Row keys are integers, or text that starts with their kind (reads.rs).

-- How many appends had touched rows; at or below which of them touched rows are no longer remembered.
alter table log_head add column rows integer not null default 0;
alter table log_head add column rows_forgotten integer not null default 0;

-- Short numbers for long names: each stands in millions of rows.
create table read_table (
    id   integer primary key,
    name text not null unique
) strict;

create table read_place (
    id         integer primary key,
    set_name   text not null,
    collection text not null,
    gone       integer not null default 0 -- no longer looked up, and removed little by little
) strict;
create unique index read_place_alive on read_place (set_name, collection) where not gone;

-- What a document read, to replace it; there is no row for a document that read nothing.
create table read_doc (
    id    integer primary key,
    place integer not null,
    doc   text not null,
    rows  text not null, -- JSON: keys by table
    unique (place, doc)
) strict;

-- The same the other way round: who read a row.
create table read_row (
    tbl integer not null,
    key any not null,
    doc integer not null,
    primary key (tbl, key, doc)
) strict, without rowid;

-- The last append that touched a row.
create table touched_row (
    tbl integer not null,
    key any not null,
    at  integer not null,
    primary key (tbl, key)
) strict, without rowid;
create index touched_row_age on touched_row (at);
