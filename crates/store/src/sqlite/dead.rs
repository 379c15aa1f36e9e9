//! Dead letters: listed, counted, and taken off the list.

use instep_core::{DeadFilter, DeadLetter, DeadReason, DocKey, SetName};
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Done;
use super::number::{from_db, limit, to_db};
use super::{journal, read, sets, settle};

/// The dead letters of a set that are meant, by collection and document, after the given one.
pub(super) fn dead_letters(
    conn: &Connection,
    set: &SetName,
    wanted: &DeadFilter,
    after: Option<&DocKey>,
    n: usize,
) -> Done<Vec<DeadLetter>> {
    sets::must_exist(conn, set)?;
    // No collection and no document has an empty name.
    let (collection, doc) = after.map_or(("", ""), |key| (key.collection.as_str(), key.id.as_str()));
    let mut found = conn.prepare_cached(
        "select collection, doc, seq, code, reason, attempts, next_ms, since_ms, last_ms from trouble
         where set_name = ?1 and next_ms is null and (collection, doc) > (?2, ?3)
             and (?4 is null or code = ?4) and (?5 is null or collection = ?5)
             and (?6 is null or since_ms is null or since_ms < ?6)
         order by collection, doc limit ?7",
    )?;
    let mut rows = found.query(params![
        set.as_str(),
        collection,
        doc,
        wanted.code,
        wanted.collection.as_ref().map(|name| name.as_str()),
        wanted.before_ms,
        limit(n)
    ])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(DeadLetter {
            trouble: read::trouble(row)?,
            since_ms: row.get(7)?,
            last_ms: row.get(8)?,
        });
    }
    Ok(letters)
}

/// How many dead letters a set has for each reason, the most frequent first.
pub(super) fn reasons(conn: &Connection, set: &SetName) -> Done<Vec<DeadReason>> {
    sets::must_exist(conn, set)?;
    let mut counted = conn.prepare_cached(
        "select code, count(*), min(since_ms) from trouble where set_name = ?1 and next_ms is null
         group by code order by count(*) desc, code",
    )?;
    let reasons = counted.query_map([set.as_str()], |row| {
        Ok(DeadReason {
            code: row.get(0)?,
            count: from_db(row.get(1)?),
            since_ms: row.get(2)?,
        })
    })?;
    Ok(reasons.collect::<rusqlite::Result<_>>()?)
}

/// Takes these documents off the list, as far as they are dead letters. Returns how many were. `now_ms`: the time.
pub(super) fn discard(conn: &Connection, now_ms: u64, set: &SetName, keys: &[DocKey]) -> Done<u64> {
    sets::must_exist(conn, set)?;
    let position: i64 = conn
        .prepare_cached("select position from index_set where name = ?1")?
        .query_row([set.as_str()], |row| row.get(0))?;
    let (mut deleted, mut superseded) = (0, 0);
    let mut discarded = Vec::new();
    for key in keys {
        let seq: Option<i64> = conn
            .prepare_cached(
                "delete from trouble where set_name = ?1 and collection = ?2 and doc = ?3 and next_ms is null
                 returning seq",
            )?
            .query_row([set.as_str(), key.collection.as_str(), key.id.as_str()], |row| {
                row.get(0)
            })
            .optional()?;
        let Some(seq) = seq else { continue };
        discarded.push(key);
        if seq == 0 || seq > position {
            continue;
        }
        match settle::touched_after(conn, key, from_db(seq))? {
            true => superseded += 1,
            false => deleted += 1,
        }
    }
    conn.prepare_cached(
        "update index_set set deleted = deleted + ?2, superseded = superseded + ?3 where name = ?1",
    )?
    .execute(params![set.as_str(), to_db(deleted), to_db(superseded)])?;
    journal::discarded(conn, now_ms, set, &discarded)?;
    Ok(discarded.len() as u64)
}
