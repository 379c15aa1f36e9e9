//! What is paused: written down, so that it outlives every process.

use instep_core::{Pausable, Paused};
use rusqlite::{Connection, params};

use super::failure::{Done, corrupt};
use super::number::to_db;

/// Writes down that this is paused since now. Returns whether it was not.
pub(super) fn pause(conn: &Connection, now_ms: u64, what: &Pausable) -> Done<bool> {
    let (kind, name) = named(what);
    let new = conn
        .prepare_cached(
            "insert into paused (kind, name, since_ms) values (?1, ?2, ?3) on conflict do nothing",
        )?
        .execute(params![kind, name, to_db(now_ms)])?;
    Ok(new > 0)
}

/// Writes down that this is no longer paused. Returns whether it was.
pub(super) fn resume(conn: &Connection, what: &Pausable) -> Done<bool> {
    let (kind, name) = named(what);
    let gone = conn
        .prepare_cached("delete from paused where kind = ?1 and name = ?2")?
        .execute([kind, name])?;
    Ok(gone > 0)
}

/// All that is paused, by kind and name.
pub(super) fn paused(conn: &Connection) -> Done<Vec<Paused>> {
    let mut all = conn.prepare_cached("select kind, name, since_ms from paused order by kind, name")?;
    let mut rows = all.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let what = match kind.as_str() {
            "source" => Pausable::Source(name.into()),
            "collection" => Pausable::Collection(name.into()),
            _ => return Err(corrupt("the state file names something paused of no known kind").into()),
        };
        found.push(Paused {
            what,
            since_ms: row.get(2)?,
        });
    }
    Ok(found)
}

fn named(what: &Pausable) -> (&'static str, &str) {
    match what {
        Pausable::Source(name) => ("source", name.as_str()),
        Pausable::Collection(name) => ("collection", name.as_str()),
    }
}
