//! What the state file says: positions, troubles, status. Each call reads one snapshot.

use instep_core::{
    Counts, DocKey, Error, FanOut, Position, Seq, SetName, SetStatus, SourceName, Ticket, Trouble,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::{Done, corrupt};
use super::number::{from_db, limit};
use super::{scans, sets};

/// How far a source was followed.
pub(super) fn position(conn: &Connection, source: &SourceName) -> Done<Option<Position>> {
    let position = conn
        .prepare_cached("select identity, at from source_position where source = ?1")?
        .query_row([source.as_str()], |row| {
            Ok(Position {
                identity: row.get(0)?,
                at: row.get(1)?,
            })
        })
        .optional()?;
    Ok(position)
}

/// The oldest fan-outs.
pub(super) fn fan_outs(conn: &Connection, n: usize) -> Done<Vec<(u64, FanOut)>> {
    let mut oldest = conn.prepare_cached("select id, body from fan_out order by id limit ?1")?;
    let mut rows = oldest.query([limit(n)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body: String = row.get(1)?;
        let fan_out = serde_json::from_str(&body);
        let fan_out = fan_out.map_err(|_| corrupt("a fan-out in the state file cannot be read"))?;
        found.push((from_db(row.get(0)?), fan_out));
    }
    Ok(found)
}

/// The scans of a set.
pub(super) fn scans(conn: &Connection, set: &SetName) -> Done<Vec<instep_core::Scan>> {
    sets::must_exist(conn, set)?;
    scans::of(conn, set)
}

const TROUBLE: &str =
    "select collection, doc, seq, code, reason, attempts, next_ms from trouble where set_name = ?1";

/// Documents whose next attempt is due, oldest first.
pub(super) fn due(conn: &Connection, set: &SetName, now_ms: i64, n: usize) -> Done<Vec<Trouble>> {
    sets::must_exist(conn, set)?;
    let sql = format!(
        "{TROUBLE} and next_ms is not null and next_ms <= ?2 order by next_ms, collection, doc limit ?3"
    );
    let mut found = conn.prepare_cached(&sql)?;
    collect(found.query(params![set.as_str(), now_ms, limit(n)])?)
}

/// Retries and dead letters by collection and document, after the given one.
pub(super) fn troubles(
    conn: &Connection,
    set: &SetName,
    after: Option<&DocKey>,
    n: usize,
) -> Done<Vec<Trouble>> {
    sets::must_exist(conn, set)?;
    // No collection and no document has an empty name.
    let (collection, doc) = after.map_or(("", ""), |key| (key.collection.as_str(), key.id.as_str()));
    let sql = format!("{TROUBLE} and (collection, doc) > (?2, ?3) order by collection, doc limit ?4");
    let mut found = conn.prepare_cached(&sql)?;
    collect(found.query(params![set.as_str(), collection, doc, limit(n)])?)
}

/// The known trouble of these documents, in their order.
pub(super) fn trouble_of(conn: &Connection, set: &SetName, keys: &[DocKey]) -> Done<Vec<Option<Trouble>>> {
    sets::must_exist(conn, set)?;
    let sql = format!("{TROUBLE} and collection = ?2 and doc = ?3");
    let mut one = conn.prepare_cached(&sql)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let rows = one.query([set.as_str(), key.collection.as_str(), key.id.as_str()])?;
        found.push(collect(rows)?.pop());
    }
    Ok(found)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Done<Vec<Trouble>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(trouble(row)?);
    }
    Ok(found)
}

/// A trouble in the first columns of a row, in the order of [`TROUBLE`].
pub(super) fn trouble(row: &Row<'_>) -> Done<Trouble> {
    let doc: String = row.get(1)?;
    Ok(Trouble {
        key: DocKey {
            collection: row.get::<_, String>(0)?.into(),
            id: sets::doc_id(&doc)?,
        },
        seq: Seq(from_db(row.get(2)?)),
        code: row.get(3)?,
        reason: row.get(4)?,
        attempts: row.get(5)?,
        next_ms: row.get(6)?,
    })
}

/// The number of a document's entry.
pub(super) fn entry_of(conn: &Connection, key: &DocKey) -> Done<Option<Seq>> {
    let seq = conn
        .prepare_cached("select seq from change_log where collection = ?1 and doc = ?2")?
        .query_row([key.collection.as_str(), key.id.as_str()], |row| row.get(0))
        .optional()?;
    Ok(seq.map(from_db).map(Seq))
}

/// The last number drawn.
pub(super) fn head(conn: &Connection) -> Done<Seq> {
    let head = conn
        .prepare_cached("select seq from log_head")?
        .query_row([], |row| row.get(0))?;
    Ok(Seq(from_db(head)))
}

/// All sets with their counters, by name.
pub(super) fn status(conn: &Connection) -> Done<Vec<SetStatus>> {
    let head = head(conn)?;
    let touches: i64 = conn.query_row("select touches from log_head", [], |row| row.get(0))?;
    let fan_outs: i64 = conn.query_row("select count(*) from fan_out", [], |row| row.get(0))?;
    let mut all = conn.prepare_cached(
        "select name, state, reason, position, touches_before, last_ticket,
                folded, indexed, deleted, superseded, scanned
         from index_set order by name",
    )?;
    let mut rows = all.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let set: SetName = row.get::<_, String>(0)?.into();
        let state: String = row.get(1)?;
        let position: i64 = row.get(3)?;
        let troubles = Troubles::count(conn, &set, position)?;
        let pending = count_after(conn, "change_log", position)?;
        let ahead = if state == "retiring" {
            // What it has not passed may be forgotten, so it cannot be counted.
            head.0.saturating_sub(from_db(position))
        } else {
            pending + count_after(conn, "moved", position)?
        };
        found.push(SetStatus {
            state: sets::state_of(&state, row.get(2)?)?,
            position: Seq(from_db(position)),
            head,
            pending,
            fan_outs: from_db(fan_outs),
            last_ticket: Ticket(from_db(row.get(5)?)),
            scans: scans::of(conn, &set)?,
            counts: Counts {
                touches: from_db(touches - row.get::<_, i64>(4)?),
                ahead,
                folded: from_db(row.get(6)?),
                indexed: from_db(row.get(7)?),
                deleted: from_db(row.get(8)?),
                superseded: from_db(row.get(9)?),
                dead: troubles.dead,
                retrying: troubles.retrying,
                scanned: from_db(row.get(10)?),
                dead_letters: troubles.dead_letters,
                retries: troubles.retries,
            },
            set,
        });
    }
    Ok(found)
}

struct Troubles {
    dead: u64,
    retrying: u64,
    dead_letters: u64,
    retries: u64,
}

impl Troubles {
    fn count(conn: &Connection, set: &SetName, position: i64) -> Done<Troubles> {
        let mut counted = conn.prepare_cached(
            "select count(*) filter (where next_ms is null and seq > 0 and seq <= ?2),
                    count(*) filter (where next_ms is not null and seq > 0 and seq <= ?2),
                    count(*) filter (where next_ms is null),
                    count(*) filter (where next_ms is not null)
             from trouble where set_name = ?1",
        )?;
        let counted = counted.query_row(params![set.as_str(), position], |row| {
            Ok(Troubles {
                dead: from_db(row.get(0)?),
                retrying: from_db(row.get(1)?),
                dead_letters: from_db(row.get(2)?),
                retries: from_db(row.get(3)?),
            })
        })?;
        Ok(counted)
    }
}

fn count_after(conn: &Connection, table: &str, position: i64) -> Done<u64> {
    let sql = format!("select count(*) from {table} where seq > ?1");
    let count = conn
        .prepare_cached(&sql)?
        .query_row([position], |row| row.get(0))?;
    Ok(from_db(count))
}

/// A small named text.
pub(super) fn memo(conn: &Connection, name: &str) -> Done<Option<String>> {
    let text = conn
        .prepare_cached("select text from memo where name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(text)
}

/// Writes or removes a small named text.
pub(super) fn set_memo(conn: &Connection, name: &str, text: Option<&str>) -> Done<()> {
    if name.is_empty() {
        return Err(Error::invalid("bad_name", "a memo needs a name").into());
    }
    match text {
        Some(text) => conn
            .prepare_cached("insert or replace into memo (name, text) values (?1, ?2)")?
            .execute([name, text])?,
        None => conn
            .prepare_cached("delete from memo where name = ?1")?
            .execute([name])?,
    };
    Ok(())
}
