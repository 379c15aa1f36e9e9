//! Appending touches: the entry of a document moves to the tail, its former number is remembered as moved.

use instep_core::{
    Appended, CollectionName, DocKey, Error, FanOut, Position, Seq, SourceName, Touch, TouchedBy,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::failure::Done;
use super::number::{from_db, to_db};
use super::{journal, reads, scans};

/// Entries that one call of [`forget_some`] removes, so that appends never wait long behind it.
const FORGET: i64 = 10_000;

/// Writes touches and how far their source was followed. `now_ms`: the time.
pub(super) fn append(
    conn: &Connection,
    now_ms: u64,
    source: &SourceName,
    upto: Option<&Position>,
    touches: &[Touch],
) -> Done<Appended> {
    let appended = touch(conn, now_ms, &TouchedBy::Source(source.clone()), touches)?;
    if let Some(upto) = upto {
        conn.prepare_cached(
            "insert into source_position (source, identity, at) values (?1, ?2, ?3)
             on conflict (source) do update set identity = excluded.identity, at = excluded.at",
        )?
        .execute(params![source.as_str(), upto.identity, upto.at])?;
    }
    Ok(appended)
}

/// Forgets how far a source was followed. One that is not known is fine.
pub(super) fn forget_position(conn: &Connection, source: &SourceName) -> Done<()> {
    conn.prepare_cached("delete from source_position where source = ?1")?
        .execute([source.as_str()])?;
    Ok(())
}

/// Replaces a fan-out by what is left of it and writes its touches. One that is finished already stays finished.
pub(super) fn expanded(
    conn: &Connection,
    now_ms: u64,
    id: u64,
    left: Option<&FanOut>,
    touches: &[Touch],
) -> Done<Appended> {
    let appended = touch(conn, now_ms, &TouchedBy::FanOut, touches)?;
    match left {
        Some(left) => conn
            .prepare_cached("update fan_out set body = ?2 where id = ?1")?
            .execute(params![to_db(id), body(left)?])?,
        None => conn
            .prepare_cached("delete from fan_out where id = ?1")?
            .execute([to_db(id)])?,
    };
    Ok(appended)
}

/// Touches documents once more, each at most once and in order of their keys.
pub(super) fn touch_again(
    conn: &Connection,
    now_ms: u64,
    documents: impl IntoIterator<Item = DocKey>,
) -> Done<Appended> {
    let touches: Vec<Touch> = documents.into_iter().map(Touch::Document).collect();
    touch(conn, now_ms, &TouchedBy::Read, &touches)
}

fn touch(conn: &Connection, now_ms: u64, by: &TouchedBy, touches: &[Touch]) -> Done<Appended> {
    let mut reached = reads::touched(conn, touches)?;
    if !reached.documents.is_empty() {
        for touch in touches {
            if let Touch::Document(key) = touch {
                reached.documents.remove(key);
            }
        }
    }
    let named = touches
        .iter()
        .filter(|touch| matches!(touch, Touch::Document(_)))
        .count();
    let documents = (named + reached.documents.len()) as i64;
    // Nothing is written beside this transaction, so no later number is ever durable before an earlier one.
    let head: i64 = conn
        .prepare_cached("update log_head set seq = seq + ?1, touches = touches + ?1 returning seq")?
        .query_row([documents], |row| row.get(0))?;
    let lowest = lowest_position(conn)?.map_or(head, to_db);
    let mut tail = Tail::after(conn, head - documents, lowest)?;
    for touch in touches {
        match touch {
            Touch::Document(key) => tail.take_in(key)?,
            Touch::FanOut(fan_out) => add_fan_out(conn, fan_out)?,
            // Behind the documents, below.
            Touch::Row(_) => {}
            Touch::Scan(collection) => restart_scans(conn, collection)?,
        }
    }
    for key in &reached.documents {
        tail.take_in(key)?;
    }
    for collection in &reached.scans {
        restart_scans(conn, collection)?;
    }
    let touched = touches.iter().filter_map(|touch| match touch {
        Touch::Document(key) => Some(key),
        Touch::FanOut(_) | Touch::Row(_) | Touch::Scan(_) => None,
    });
    let first = from_db(head - documents + 1);
    journal::touched(conn, now_ms, by, first, touched.chain(&reached.documents))?;
    Ok(Appended {
        head: Seq(from_db(head)),
        touched: from_db(documents),
        moved: tail.moved,
    })
}

/// The end of the log, while an append adds to it.
struct Tail<'a> {
    seq: i64,
    lowest: i64,
    moved: u64,
    former: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    advance: CachedStatement<'a>,
    remember: CachedStatement<'a>,
}

impl Tail<'_> {
    /// Numbers follow `seq`; those that move are remembered when some set has not passed them.
    fn after(conn: &Connection, seq: i64, lowest: i64) -> Done<Tail<'_>> {
        Ok(Tail {
            seq,
            lowest,
            moved: 0,
            former: conn.prepare_cached("select seq from change_log where collection = ?1 and doc = ?2")?,
            insert: conn
                .prepare_cached("insert into change_log (seq, collection, doc) values (?1, ?2, ?3)")?,
            advance: conn.prepare_cached("update change_log set seq = ?1 where seq = ?2")?,
            remember: conn.prepare_cached("insert into moved (seq) values (?1)")?,
        })
    }

    /// The next number is this document's.
    fn take_in(&mut self, key: &DocKey) -> Done<()> {
        self.seq += 1;
        let (collection, doc) = (key.collection.as_str(), key.id.as_str());
        let known: Option<i64> = self
            .former
            .query_row([collection, doc], |row| row.get(0))
            .optional()?;
        match known {
            None => {
                self.insert.execute(params![self.seq, collection, doc])?;
            }
            Some(known) => {
                self.advance.execute([self.seq, known])?;
                self.moved += 1;
                if known > self.lowest {
                    self.remember.execute([known])?;
                }
            }
        }
        Ok(())
    }
}

/// The lowest position of the sets that hold entries back; `None` without any.
fn lowest_position(conn: &Connection) -> Done<Option<u64>> {
    let lowest: Option<i64> = conn
        .prepare_cached("select min(position) from index_set where state <> 'retiring'")?
        .query_row([], |row| row.get(0))?;
    Ok(lowest.map(from_db))
}

fn add_fan_out(conn: &Connection, fan_out: &FanOut) -> Done<()> {
    conn.prepare_cached("insert into fan_out (collection, body) values (?1, ?2)")?
        .execute(params![fan_out.collection.as_str(), body(fan_out)?])?;
    Ok(())
}

fn body(fan_out: &FanOut) -> Done<String> {
    let body = serde_json::to_string(fan_out);
    body.map_err(|error| {
        Error::fatal("bad_fan_out", "a fan-out cannot be written as JSON")
            .with_source(error)
            .into()
    })
}

/// Scans a collection again from both sides, in every set that has it and is not retiring.
fn restart_scans(conn: &Connection, collection: &CollectionName) -> Done<()> {
    let run = scans::draw_run(conn)?;
    conn.prepare_cached(
        "update scan set run = ?2, side = 'source', both_sides = 1, after_key = null, done = 0, finished = 0
         where collection = ?1 and set_name in (select name from index_set where state <> 'retiring')",
    )?
    .execute(params![collection.as_str(), run])?;
    Ok(())
}

/// Removes some of the entries that no set holds back, and the moved numbers among them; and some of what was recorded of
/// rows and is no longer needed. Returns how many entries, and whether there may be more.
pub(super) fn forget_some(conn: &Connection) -> Done<(u64, bool)> {
    let lowest = match lowest_position(conn)? {
        Some(lowest) => to_db(lowest),
        None => conn.query_row("select seq from log_head", [], |row| row.get(0))?,
    };
    let some = |table: &str| {
        let sql = format!(
            "delete from {table} where seq in (select seq from {table} where seq <= ?1 order by seq limit ?2)"
        );
        conn.prepare_cached(&sql)?.execute([lowest, FORGET])
    };
    let entries = some("change_log")? as i64;
    let moved = some("moved")? as i64;
    let more = reads::forget_some(conn)?;
    Ok((from_db(entries), entries == FORGET || moved == FORGET || more))
}
