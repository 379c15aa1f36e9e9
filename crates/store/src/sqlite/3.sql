-- Since when a document is in trouble, and when it failed last: milliseconds since 1970, null for what an earlier
-- version wrote.
alter table trouble add column since_ms integer;
alter table trouble add column last_ms integer;
