-- The state of instep, first version. Numbers (seq) are those of the change log.

-- One row. Each append updates it first, so that the order of numbers is the order of commits.
create table log_head (
    one     integer primary key check (one = 1),
    seq     integer not null, -- the last number drawn
    touches integer not null, -- document touches in all, counted apart from the numbers
    runs    integer not null  -- the last number of a scan's start
) strict;
insert into log_head values (1, 0, 0, 0);

-- At most one entry for each document; touching it again moves the entry to the tail.
create table change_log (
    seq        integer primary key,
    collection text not null,
    doc        text not null,
    unique (collection, doc)
) strict;

-- Numbers whose entry moved to the tail before every set had passed them.
create table moved (seq integer primary key) strict;

-- Ids are never used twice, so that a repeated step cannot meet another fan-out.
create table fan_out (
    id         integer primary key autoincrement,
    collection text not null,
    body       text not null -- JSON
) strict;

create table source_position (
    source   text primary key,
    identity text not null,
    at       text not null
) strict, without rowid;

create table index_set (
    name           text primary key,
    state          text not null check (state in ('following', 'paused', 'halted', 'retiring')),
    reason         text,             -- why it is halted
    position       integer not null,
    touches_before integer not null, -- log_head.touches when it was made
    owner          text,
    epoch          integer not null,
    last_ticket    integer not null, -- reserved up to here
    folded         integer not null,
    indexed        integer not null,
    deleted        integer not null,
    superseded     integer not null,
    scanned        integer not null,
    settled        integer not null  -- digest of the last settlement, 0 for none
) strict, without rowid;

create table scan (
    set_name    text not null,
    collection  text not null,
    fingerprint text not null,
    run         integer not null,
    side        text not null check (side in ('source', 'engine')),
    both_sides  integer not null,
    after_key   text,
    done        integer not null,
    finished    integer not null,
    primary key (set_name, collection)
) strict, without rowid;

-- Retries, and dead letters (those without a next attempt).
create table trouble (
    set_name   text not null,
    collection text not null,
    doc        text not null,
    seq        integer not null, -- the touch behind it, or 0
    code       text not null,
    reason     text not null,
    attempts   integer not null,
    next_ms    integer,
    primary key (set_name, collection, doc)
) strict, without rowid;
create unique index trouble_of_touch on trouble (set_name, seq) where seq > 0;
create index trouble_due on trouble (set_name, next_ms) where next_ms is not null;

create table memo (
    name text primary key,
    text text not null
) strict, without rowid;
