//! `trace`: what happened to one document, from the journal.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{ChangeLog, DocKey, Event, Happened, Outcome, Result, Ticket, TouchedBy, Trace};
use serde_json::{Value, json};

use crate::command::{collection, configuration, document_id, moment};
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// `instep trace <collection> <key>`: also beside a running process. The last `limit` events, the oldest first.
pub(crate) async fn trace(
    path: &Path,
    of: &str,
    key: &str,
    limit: usize,
    output: &Output,
) -> Result<ExitCode> {
    let config = configuration(path)?;
    let key = DocKey {
        collection: collection(&config, of)?,
        id: document_id(key)?,
    };
    let log = Parts::log(&config, Access::Guest)?;
    let trace = log.trace(&key, limit).await?;
    let events: Vec<Value> = trace.events.iter().map(shown).collect();
    let answer = json!({
        "collection": key.collection, "key": key.id.as_str(), "since_ms": trace.since_ms, "events": events,
    });
    output.result(&text(&key, &trace), &answer);
    Ok(ExitCode::SUCCESS)
}

fn text(key: &DocKey, trace: &Trace) -> String {
    let mut text = String::new();
    for Happened { at_ms, event } in &trace.events {
        text.push_str(&format!("{}  {}\n", moment(Some(*at_ms)), line(event)));
    }
    if trace.events.is_empty() {
        text.push_str(&format!("nothing is on record of {key}\n"));
    }
    if trace.since_ms.is_some() {
        text.push_str(&format!(
            "the journal goes back to {}; documents that a scan wrote are not named in it\n",
            moment(trace.since_ms)
        ));
    }
    text.push_str(&format!(
        "next: instep explain doc {} {}\n",
        key.collection,
        crate::command::word(key.id.as_str())
    ));
    text
}

fn line(event: &Event) -> String {
    match event {
        Event::Touched { seq, by } => {
            let by = match by {
                TouchedBy::Source(source) => format!("by a change of source {source}, or a command"),
                TouchedBy::FanOut => "by a change that reaches many documents".to_owned(),
                TouchedBy::Read => "because a row it was built from changed meanwhile".to_owned(),
            };
            format!("touched {by}: number {seq}")
        }
        Event::Built {
            set,
            seq,
            ticket,
            outcome,
            code,
        } => {
            let number = seq.map_or("a scan or a retry".to_owned(), |seq| format!("number {seq}"));
            let code = code.as_ref().map_or(String::new(), |code| format!(" ({code})"));
            format!(
                "built for {number} and {}{code} in set {set}, ticket {} of {}",
                became(*outcome).1,
                ticket.0,
                moment(Some(drawn_ms(*ticket)))
            )
        }
        Event::Discarded(set) => format!("taken off the list of dead letters of set {set}"),
    }
}

/// An outcome as JSON and as words have it.
fn became(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Indexed => ("indexed", "indexed"),
        Outcome::Deleted => ("deleted", "deleted, since there is no document"),
        Outcome::Superseded => ("superseded", "superseded by a newer build"),
        Outcome::Dead => ("dead", "refused: a dead letter"),
        Outcome::Retrying => ("retrying", "put off: it is tried again"),
    }
}

fn shown(happened: &Happened) -> Value {
    let mut shown = match &happened.event {
        Event::Touched { seq, by } => {
            let (by, source) = match by {
                TouchedBy::Source(source) => ("source", Some(source)),
                TouchedBy::FanOut => ("fan_out", None),
                TouchedBy::Read => ("read", None),
            };
            json!({ "event": "touched", "number": seq, "by": by, "source": source })
        }
        Event::Built {
            set,
            seq,
            ticket,
            outcome,
            code,
        } => json!({
            "event": "built", "set": set, "number": seq, "ticket": ticket, "drawn_ms": drawn_ms(*ticket),
            "outcome": became(*outcome).0, "code": code,
        }),
        Event::Discarded(set) => json!({ "event": "discarded", "set": set }),
    };
    shown["at_ms"] = json!(happened.at_ms);
    shown
}

/// When a ticket was drawn: its upper bits are the time, as long as the clock never went back.
pub(crate) fn drawn_ms(ticket: Ticket) -> i64 {
    i64::try_from(ticket.0 >> 20).unwrap_or(i64::MAX)
}
