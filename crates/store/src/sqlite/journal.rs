//! The journal in the file: one row for each append and each settlement, not for each document, and a bound in bytes.
//!
//! The number of a row counts all bytes that were ever written up to its end, so that the bound is one range of numbers.
//! Documents that a scan found or wrote in order are not named: a first load would push everything else out, and the
//! engine's own ticket says when they were written.

use std::borrow::Cow;

use instep_core::{DocKey, Event, Happened, Landed, Outcome, Seq, SetName, Ticket, TouchedBy, Trace};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::failure::{Done, corrupt};
use super::number::limit;

/// Bytes that are kept; about what a row takes beside its text.
const KEPT: i64 = 16 << 20;
const ROW: usize = 64;

/// Documents of one append: their numbers follow each other.
#[derive(Serialize, Deserialize)]
struct Touched<'a> {
    by: By,
    first: u64,
    documents: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Source,
    FanOut,
    Read,
}

/// A build: collection, id, number or 0, ticket, outcome, code.
type Build<'a> = (Cow<'a, str>, Cow<'a, str>, u64, u64, Became, Option<Cow<'a, str>>);

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Became {
    #[serde(rename = "i")]
    Indexed,
    #[serde(rename = "d")]
    Deleted,
    #[serde(rename = "s")]
    Superseded,
    #[serde(rename = "x")]
    Dead,
    #[serde(rename = "r")]
    Retrying,
}

impl Became {
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Indexed => Became::Indexed,
            Outcome::Deleted => Became::Deleted,
            Outcome::Superseded => Became::Superseded,
            Outcome::Dead => Became::Dead,
            Outcome::Retrying => Became::Retrying,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Became::Indexed => Outcome::Indexed,
            Became::Deleted => Outcome::Deleted,
            Became::Superseded => Outcome::Superseded,
            Became::Dead => Outcome::Dead,
            Became::Retrying => Outcome::Retrying,
        }
    }
}

/// Documents were touched, in this order, the first under this number.
pub(super) fn touched<'a>(
    conn: &Connection,
    now_ms: u64,
    by: &TouchedBy,
    first: u64,
    documents: impl Iterator<Item = &'a DocKey>,
) -> Done<()> {
    let mut grouped: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)> = Vec::new();
    for key in documents {
        match grouped.last_mut() {
            Some((collection, ids)) if *collection == key.collection.as_str() => {
                ids.push(key.id.as_str().into());
            }
            Some(_) | None => {
                grouped.push((key.collection.as_str().into(), vec![key.id.as_str().into()]));
            }
        }
    }
    if grouped.is_empty() {
        return Ok(());
    }
    let (name, by) = match by {
        TouchedBy::Source(source) => (source.as_str(), By::Source),
        TouchedBy::FanOut => ("", By::FanOut),
        TouchedBy::Read => ("", By::Read),
    };
    let body = Touched {
        by,
        first,
        documents: grouped,
    };
    write(conn, now_ms, "touched", name, &body)
}

/// Builds of a set ended.
pub(super) fn landed(conn: &Connection, now_ms: u64, set: &SetName, landed: &[Landed]) -> Done<()> {
    if landed.is_empty() {
        return Ok(());
    }
    let body: Vec<Build<'_>> = landed
        .iter()
        .map(|landed| {
            (
                landed.key.collection.as_str().into(),
                landed.key.id.as_str().into(),
                landed.seq.map_or(0, |seq| seq.0),
                landed.ticket.0,
                Became::of(landed.outcome),
                landed.code.as_deref().map(Into::into),
            )
        })
        .collect();
    write(conn, now_ms, "built", set.as_str(), &body)
}

/// Dead letters of a set were discarded.
pub(super) fn discarded(conn: &Connection, now_ms: u64, set: &SetName, keys: &[&DocKey]) -> Done<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let body: Vec<(&str, &str)> = keys
        .iter()
        .map(|key| (key.collection.as_str(), key.id.as_str()))
        .collect();
    write(conn, now_ms, "discarded", set.as_str(), &body)
}

fn write(conn: &Connection, now_ms: u64, kind: &str, name: &str, body: &impl Serialize) -> Done<()> {
    let body = serde_json::to_string(body).map_err(|_| corrupt("the journal cannot be written as JSON"))?;
    conn.prepare_cached(
        "insert into journal (upto, at_ms, kind, name, body)
         values ((select coalesce(max(upto), 0) from journal) + ?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        limit(body.len() + ROW),
        limit_ms(now_ms),
        kind,
        name,
        body
    ])?;
    conn.prepare_cached("delete from journal where upto <= (select max(upto) from journal) - ?1")?
        .execute([KEPT])?;
    Ok(())
}

fn limit_ms(now_ms: u64) -> i64 {
    i64::try_from(now_ms).unwrap_or(i64::MAX)
}

/// The last `n` events of a document.
pub(super) fn trace(conn: &Connection, key: &DocKey, n: usize) -> Done<Trace> {
    let since_ms = conn
        .prepare_cached("select at_ms from journal order by upto limit 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    // The id as JSON writes it stands in every row that names the document.
    let id =
        serde_json::to_string(key.id.as_str()).map_err(|_| corrupt("an id cannot be written as JSON"))?;
    let mut named = conn.prepare_cached(
        "select at_ms, kind, name, body from journal where instr(body, ?1) > 0 order by upto desc",
    )?;
    let mut rows = named.query([id])?;
    let mut events = Vec::new();
    while events.len() < n
        && let Some(row) = rows.next()?
    {
        let (at_ms, kind, name): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let body: String = row.get(3)?;
        let mut found = events_of(key, &kind, &name, &body)?;
        found.reverse();
        events.extend(found.into_iter().map(|event| Happened { at_ms, event }));
    }
    events.truncate(n);
    events.reverse();
    Ok(Trace { since_ms, events })
}

/// What a row tells of one document, in order.
fn events_of(key: &DocKey, kind: &str, name: &str, body: &str) -> Done<Vec<Event>> {
    let unreadable = |_| corrupt("the journal in the state file cannot be read");
    let is_it = |collection: &str, id: &str| collection == key.collection.as_str() && id == key.id.as_str();
    let mut found = Vec::new();
    match kind {
        "touched" => {
            let touched: Touched<'_> = serde_json::from_str(body).map_err(unreadable)?;
            let by = match touched.by {
                By::Source => TouchedBy::Source(name.into()),
                By::FanOut => TouchedBy::FanOut,
                By::Read => TouchedBy::Read,
            };
            let mut seq = touched.first;
            for (collection, ids) in &touched.documents {
                for id in ids {
                    if is_it(collection, id) {
                        found.push(Event::Touched {
                            seq: Seq(seq),
                            by: by.clone(),
                        });
                    }
                    seq += 1;
                }
            }
        }
        "built" => {
            let builds: Vec<Build<'_>> = serde_json::from_str(body).map_err(unreadable)?;
            for (collection, id, seq, ticket, became, code) in builds {
                if is_it(&collection, &id) {
                    found.push(Event::Built {
                        set: name.into(),
                        seq: (seq > 0).then_some(Seq(seq)),
                        ticket: Ticket(ticket),
                        outcome: became.outcome(),
                        code: code.map(Into::into),
                    });
                }
            }
        }
        "discarded" => {
            let documents: Vec<(String, String)> = serde_json::from_str(body).map_err(unreadable)?;
            let of_it = documents.iter().filter(|(collection, id)| is_it(collection, id));
            found.extend(of_it.map(|_| Event::Discarded(name.into())));
        }
        _ => return Err(corrupt("the journal in the state file has a row of no known kind").into()),
    }
    Ok(found)
}
