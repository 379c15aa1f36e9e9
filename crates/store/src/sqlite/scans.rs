//! Scans of a set: started, restarted and moved on. A start draws a run, and only progress of that run counts.

use instep_core::{CollectionName, Scan, SetName, Side};
use rusqlite::{Connection, Row, params};

use super::failure::{Done, corrupt};
use super::number::{from_db, to_db};

/// A number for a start of scans, higher than any before.
pub(super) fn draw_run(conn: &Connection) -> Done<i64> {
    let run = conn
        .prepare_cached("update log_head set runs = runs + 1 returning runs")?
        .query_row([], |row| row.get(0))?;
    Ok(run)
}

/// Starts a scan from the beginning, in place of any other of this collection. In place of one that has the engine's
/// side still to walk, it walks both too.
pub(super) fn start(
    conn: &Connection,
    set: &SetName,
    collection: &CollectionName,
    fingerprint: &str,
    both: bool,
) -> Done<()> {
    let run = draw_run(conn)?;
    conn.prepare_cached(
        "insert or replace into scan
             (set_name, collection, fingerprint, run, side, both_sides, after_key, done, finished)
         values (?1, ?2, ?3, ?4, 'source',
                 ?5 or exists (select 1 from scan
                               where set_name = ?1 and collection = ?2 and both_sides and not finished),
                 null, 0, 0)",
    )?
    .execute(params![set.as_str(), collection.as_str(), fingerprint, run, both])?;
    Ok(())
}

/// Replaces a scan by its progress, unless it was started again meanwhile.
pub(super) fn progress(conn: &Connection, set: &SetName, scan: &Scan) -> Done<()> {
    conn.prepare_cached(
        "update scan set side = ?4, both_sides = ?5, after_key = ?6, done = ?7, finished = ?8
         where set_name = ?1 and collection = ?2 and run = ?3",
    )?
    .execute(params![
        set.as_str(),
        scan.collection.as_str(),
        to_db(scan.run),
        side_text(scan.side),
        scan.both,
        scan.after,
        to_db(scan.done),
        scan.finished
    ])?;
    Ok(())
}

/// The scans of a set, by collection.
pub(super) fn of(conn: &Connection, set: &SetName) -> Done<Vec<Scan>> {
    let mut found = conn.prepare_cached(
        "select collection, fingerprint, run, side, both_sides, after_key, done, finished
         from scan where set_name = ?1 order by collection",
    )?;
    let mut rows = found.query([set.as_str()])?;
    let mut scans = Vec::new();
    while let Some(row) = rows.next()? {
        scans.push(read(row)?);
    }
    Ok(scans)
}

fn read(row: &Row<'_>) -> Done<Scan> {
    let side: String = row.get(3)?;
    Ok(Scan {
        collection: row.get::<_, String>(0)?.into(),
        fingerprint: row.get(1)?,
        run: from_db(row.get(2)?),
        side: match side.as_str() {
            "source" => Side::Source,
            "engine" => Side::Engine,
            _ => return Err(corrupt("a scan in the state file walks no known side").into()),
        },
        both: row.get(4)?,
        after: row.get(5)?,
        done: from_db(row.get(6)?),
        finished: row.get(7)?,
    })
}

fn side_text(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Engine => "engine",
    }
}
