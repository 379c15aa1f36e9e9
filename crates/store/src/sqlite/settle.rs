//! Settling: finished work becomes durable, and every number is accounted for exactly once.
//!
//! Each number up to a set's position is in one of two places: in one of its counters, or behind a row of `trouble`
//! (`seq` > 0). It enters when the position passes it. It leaves a row only into a counter. These are all the ways:
//!
//! | at the settlement | a row stands for the number | no row does |
//! |---|---|---|
//! | passed as indexed, deleted, superseded | the counter; the row stays without its number | the counter |
//! | passed as dead or retrying | the row | superseded: a later build ended it |
//! | not passed but moved (folded) | the row: it failed once before it was folded | folded |
//! | neither | refused | refused |
//!
//! A row whose number was passed before: healed, or another touch of its document failed → superseded when the log
//! holds a later touch of the document, else the outcome of the retry or scan that healed it. A dead letter that a person
//! discards (`dead.rs`) → the same, with deleted as the outcome.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use instep_core::{Appended, DocKey, Error, Fault, Outcome, Owned, Seq, SetName, Settlement, Trouble};
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::{Done, Failure};
use super::number::{from_db, to_db};
use super::{append, journal, placement, reads, scans, sets};

/// What a settlement adds to a set's counters.
#[derive(Default)]
struct Added {
    folded: u64,
    indexed: u64,
    deleted: u64,
    superseded: u64,
}

impl Added {
    fn count(&mut self, outcome: Settled) {
        match outcome {
            Settled::Indexed => self.indexed += 1,
            Settled::Deleted => self.deleted += 1,
            Settled::Superseded => self.superseded += 1,
        }
    }
}

/// An outcome after which nothing is left to do.
#[derive(Clone, Copy)]
enum Settled {
    Indexed,
    Deleted,
    Superseded,
}

/// `None` while the document is in trouble.
fn in_order(outcome: Outcome) -> Option<Settled> {
    match outcome {
        Outcome::Indexed => Some(Settled::Indexed),
        Outcome::Deleted => Some(Settled::Deleted),
        Outcome::Superseded => Some(Settled::Superseded),
        Outcome::Dead | Outcome::Retrying => None,
    }
}

/// Makes finished work durable, or refuses all of it. Returns what it touched again.
/// `now_ms`: the time.
pub(super) fn settle(conn: &Connection, now_ms: u64, owned: &Owned, done: &Settlement) -> Done<Appended> {
    let known = sets::still_owned(conn, owned)?;
    let digest = digest(done);
    if digest == known.settled {
        return Ok(nothing_touched(head(conn)?));
    }
    let set = &owned.set;
    let old = known.position;
    let new = done.position.0;
    let head = head(conn)?;
    check(conn, set, old, head, done)?;

    let mut added = Added::default();
    // Healed first: a document that is in both lists stays in trouble.
    heal(conn, set, old, &done.healed, &mut added)?;
    for trouble in &done.troubles {
        write_trouble(conn, now_ms, set, old, trouble, &mut added)?;
    }
    if new > old {
        pass(conn, set, old, new, &done.passed, &mut added)?;
    }
    for scan in &done.scans {
        scans::progress(conn, set, scan)?;
    }
    conn.prepare_cached(
        "update index_set set position = ?2, folded = folded + ?3, indexed = indexed + ?4, deleted = deleted + ?5,
             superseded = superseded + ?6, scanned = scanned + ?7, settled = ?8
         where name = ?1",
    )?
    .execute(params![
        set.as_str(),
        to_db(new),
        to_db(added.folded),
        to_db(added.indexed),
        to_db(added.deleted),
        to_db(added.superseded),
        to_db(done.scanned),
        digest
    ])?;
    placement::settle(conn, set, &done.placed)?;
    journal::landed(conn, now_ms, set, &done.landed)?;
    if done.reads.is_empty() {
        return Ok(nothing_touched(head));
    }
    // Last of all: the numbers that are drawn now belong to no settlement before the next.
    let again = reads::record(conn, set, &done.reads)?;
    append::touch_again(conn, now_ms, again)
}

fn nothing_touched(head: u64) -> Appended {
    Appended {
        head: Seq(head),
        touched: 0,
        moved: 0,
    }
}

/// The last number drawn.
fn head(conn: &Connection) -> Done<u64> {
    let head = conn
        .prepare_cached("select seq from log_head")?
        .query_row([], |row| row.get(0))?;
    Ok(from_db(head))
}

/// Refuses what no owner that follows the contract sends.
fn check(conn: &Connection, set: &SetName, old: u64, head: u64, done: &Settlement) -> Done<()> {
    let new = done.position.0;
    if new < old {
        return Err(Error::new(
            Fault::Conflict,
            "position_behind",
            format!("the set `{set}` stands at {old}; a settlement to {new} would move it back"),
        )
        .into());
    }
    if new > head {
        return Err(unaccounted(set, old, new, head + 1));
    }
    let bad = |what: &str| -> Failure {
        Error::fatal(
            "bad_settlement",
            format!("a settlement of the set `{set}` {what}"),
        )
        .into()
    };
    if done.passed.iter().any(|(seq, _)| seq.0 > new) {
        return Err(bad("passes a number beyond its own position"));
    }
    if done.troubles.iter().any(|trouble| trouble.seq.0 > head) {
        return Err(bad("has a trouble whose number was never drawn"));
    }
    if let Some(latest) = done.reads.iter().map(|reads| reads.since).max()
        && latest > reads::counter(conn)?
    {
        return Err(bad("has reads of a time that has not come"));
    }
    if done
        .healed
        .iter()
        .any(|(_, outcome)| in_order(*outcome).is_none())
    {
        return Err(bad("calls a document healed that is in trouble"));
    }
    Ok(())
}

fn heal(
    conn: &Connection,
    set: &SetName,
    old: u64,
    healed: &[(DocKey, Outcome)],
    added: &mut Added,
) -> Done<()> {
    // The usual case, a set without any trouble, costs one look.
    if healed.is_empty() || !any_trouble(conn, set)? {
        return Ok(());
    }
    for (key, outcome) in healed {
        let Some(seq) = number_behind(conn, set, key)? else {
            continue;
        };
        conn.prepare_cached("delete from trouble where set_name = ?1 and collection = ?2 and doc = ?3")?
            .execute([set.as_str(), key.collection.as_str(), key.id.as_str()])?;
        let counted_as_trouble = seq > 0 && seq <= old;
        if !counted_as_trouble {
            continue;
        }
        let outcome = in_order(*outcome).expect("checked before anything was written");
        added.count(if touched_after(conn, key, seq)? {
            Settled::Superseded
        } else {
            outcome
        });
    }
    Ok(())
}

/// Writes a trouble in place of what was known of its document, and settles which touch stands behind it.
fn write_trouble(
    conn: &Connection,
    now_ms: u64,
    set: &SetName,
    old: u64,
    trouble: &Trouble,
    added: &mut Added,
) -> Done<()> {
    let known = number_behind(conn, set, &trouble.key)?;
    let told = trouble.seq.0;
    let seq = match known {
        // A later touch failed. Only one that is not passed yet: the others are counted already.
        Some(known) if told > known && told > old => {
            if known > 0 && known <= old {
                added.superseded += 1;
            }
            told
        }
        Some(known) => known,
        None if told > old => told,
        None => 0,
    };
    conn.prepare_cached(
        "insert into trouble (set_name, collection, doc, seq, code, reason, attempts, next_ms, since_ms, last_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
         on conflict (set_name, collection, doc) do update set seq = excluded.seq, code = excluded.code,
             reason = excluded.reason, attempts = excluded.attempts, next_ms = excluded.next_ms,
             last_ms = excluded.last_ms",
    )?
    .execute(params![
        set.as_str(),
        trouble.key.collection.as_str(),
        trouble.key.id.as_str(),
        to_db(seq),
        trouble.code,
        trouble.reason,
        trouble.attempts,
        trouble.next_ms,
        to_db(now_ms)
    ])?;
    Ok(())
}

/// Accounts for every number in (old, new].
fn pass(
    conn: &Connection,
    set: &SetName,
    old: u64,
    new: u64,
    passed: &[(Seq, Outcome)],
    added: &mut Added,
) -> Done<()> {
    let moved = moved_between(conn, old, new)?;
    // What lies below was passed by an earlier settlement.
    let mut passed: Vec<(u64, Outcome)> = passed
        .iter()
        .map(|(seq, outcome)| (seq.0, *outcome))
        .filter(|(seq, _)| *seq > old)
        .collect();
    passed.sort_unstable_by_key(|(seq, _)| *seq);

    let mut with_row = numbers_in_trouble(conn, set, old, new)?;
    let mut folded = moved.iter().copied().peekable();
    let mut built = passed.into_iter().peekable();
    for number in old + 1..=new {
        let is_moved = folded.next_if_eq(&number).is_some();
        let outcome = built
            .next_if(|(seq, _)| *seq == number)
            .map(|(_, outcome)| outcome);
        if built.peek().is_some_and(|(seq, _)| *seq == number) {
            return Err(Error::fatal(
                "bad_settlement",
                format!("a settlement of the set `{set}` passes the number {number} twice"),
            )
            .into());
        }
        let row = with_row.remove(&number);
        match (outcome.map(in_order), is_moved) {
            (Some(Some(outcome)), _) => {
                added.count(outcome);
                if let Some((collection, doc)) = row {
                    conn.prepare_cached(
                        "update trouble set seq = 0 where set_name = ?1 and collection = ?2 and doc = ?3",
                    )?
                    .execute([set.as_str(), &collection, &doc])?;
                }
            }
            (Some(None), _) => {
                if row.is_none() {
                    added.superseded += 1;
                }
            }
            (None, true) => {
                if row.is_none() {
                    added.folded += 1;
                }
            }
            (None, false) => return Err(unaccounted(set, old, new, number)),
        }
    }
    Ok(())
}

fn unaccounted(set: &SetName, old: u64, new: u64, number: u64) -> Failure {
    Error::fatal(
        "unaccounted",
        format!(
            "the set `{set}` would pass from {old} to {new}, but number {number} was neither built nor folded"
        ),
    )
    .with_remedy("scan the set's collections again; this is a defect, please report it")
    .into()
}

fn any_trouble(conn: &Connection, set: &SetName) -> Done<bool> {
    let any = conn
        .prepare_cached("select 1 from trouble where set_name = ?1 limit 1")?
        .exists([set.as_str()])?;
    Ok(any)
}

/// The touch behind a document's trouble; `None` when it is in order.
fn number_behind(conn: &Connection, set: &SetName, key: &DocKey) -> Done<Option<u64>> {
    let seq = conn
        .prepare_cached("select seq from trouble where set_name = ?1 and collection = ?2 and doc = ?3")?
        .query_row([set.as_str(), key.collection.as_str(), key.id.as_str()], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(seq.map(from_db))
}

/// Whether the log holds a later touch of the document.
pub(super) fn touched_after(conn: &Connection, key: &DocKey, seq: u64) -> Done<bool> {
    let later = conn
        .prepare_cached("select 1 from change_log where collection = ?1 and doc = ?2 and seq > ?3")?
        .exists(params![key.collection.as_str(), key.id.as_str(), to_db(seq)])?;
    Ok(later)
}

fn moved_between(conn: &Connection, old: u64, new: u64) -> Done<Vec<u64>> {
    let mut moved = conn.prepare_cached("select seq from moved where seq > ?1 and seq <= ?2 order by seq")?;
    let numbers = moved.query_map([to_db(old), to_db(new)], |row| row.get(0).map(from_db))?;
    Ok(numbers.collect::<rusqlite::Result<_>>()?)
}

/// The numbers in (old, new] that stand behind a trouble, with its document.
fn numbers_in_trouble(
    conn: &Connection,
    set: &SetName,
    old: u64,
    new: u64,
) -> Done<HashMap<u64, (String, String)>> {
    let mut found = conn.prepare_cached(
        "select seq, collection, doc from trouble where set_name = ?1 and seq > 0 and seq > ?2 and seq <= ?3",
    )?;
    let rows = found.query_map(params![set.as_str(), to_db(old), to_db(new)], |row| {
        Ok((from_db(row.get(0)?), (row.get(1)?, row.get(2)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Tells whether a settlement is the last one, sent again. Never 0.
fn digest(done: &Settlement) -> i64 {
    let mut hasher = DefaultHasher::new();
    let Settlement {
        number,
        position,
        passed,
        troubles,
        healed,
        scans,
        scanned,
        reads,
        // What is told of the work is no part of it.
        landed: _,
        placed,
    } = done;
    (number, position, passed, healed, scanned, reads, placed).hash(&mut hasher);
    for trouble in troubles {
        let Trouble {
            key,
            seq,
            code,
            reason,
            attempts,
            next_ms,
        } = trouble;
        (key, seq, code, reason, attempts, next_ms).hash(&mut hasher);
    }
    for scan in scans {
        let instep_core::Scan {
            collection,
            fingerprint,
            run,
            side,
            both,
            after,
            done,
            finished,
        } = scan;
        let side = matches!(side, instep_core::Side::Engine);
        (collection, fingerprint, run, side, both, after, done, finished).hash(&mut hasher);
    }
    to_db((hasher.finish() >> 1).max(1))
}
