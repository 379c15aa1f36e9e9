//! What the state file says of scans, read beside whatever the product does.

use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::product::Product;

/// All scans of all sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scans {
    /// How many were ever started.
    pub started: u64,
    /// How many are not through.
    pub unfinished: u64,
    /// How many walk, or walked, both sides.
    pub both: u64,
    /// Documents that were scanned.
    pub done: u64,
}

/// `None` before there is a state file with scans in it.
pub fn scans(product: &Product) -> Option<Scans> {
    let place = product.folder.join("instep-state/state.db");
    let database = Connection::open_with_flags(place, OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
    database.busy_timeout(Duration::from_secs(10)).ok()?;
    let sql = "select (select runs from log_head), count(*) filter (where not finished),
                      count(*) filter (where both_sides), coalesce(sum(done), 0)
               from scan having count(*) > 0";
    let number = |row: &rusqlite::Row<'_>, at| row.get(at).map(|number: i64| number.unsigned_abs());
    database
        .query_row(sql, [], |row| {
            Ok(Scans {
                started: number(row, 0)?,
                unfinished: number(row, 1)?,
                both: number(row, 2)?,
                done: number(row, 3)?,
            })
        })
        .ok()
}
