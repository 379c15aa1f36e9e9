//! The journal in the file: what it tells of a document, that it is bounded, and that it is no part of the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use instep_core::{
    ChangeLog, DocId, DocKey, Event, Key, Landed, Outcome, Owned, Reads, RowKey, Seq, SetName, Settlement,
    Ticket, Touch, TouchedBy, Value,
};
use instep_store::SqliteLog;
use rusqlite::Connection;

use crate::state::{FreshState, block_on, noon};

fn doc(collection: &str, id: &str) -> DocKey {
    DocKey {
        collection: collection.into(),
        id: DocId::parse(id).unwrap(),
    }
}

fn set() -> SetName {
    "a".into()
}

async fn owned(log: &SqliteLog) -> Owned {
    log.register(&set(), &[("product".into(), "1".into())])
        .await
        .unwrap();
    log.own(&set(), "test").await.unwrap()
}

fn landed(key: DocKey, seq: Option<u64>, outcome: Outcome, code: Option<&str>) -> Landed {
    Landed {
        key,
        seq: seq.map(Seq),
        ticket: Ticket(7 << 20),
        outcome,
        code: code.map(str::to_owned),
    }
}

async fn events(log: &SqliteLog, key: &DocKey, n: usize) -> Vec<(i64, Event)> {
    let trace = log.trace(key, n).await.unwrap();
    let events = trace.events.into_iter();
    events.map(|happened| (happened.at_ms, happened.event)).collect()
}

#[test]
fn what_happened_to_one_document_is_told_in_order() {
    let state = FreshState::new();
    let now = Arc::new(AtomicU64::new(100));
    let clock = {
        let now = now.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let log = SqliteLog::open(state.path(), clock).unwrap();
    // Ids that JSON escapes, and one that is part of another.
    let (odd, plain, other) = (
        doc("product", "a\"b\\,c"),
        doc("product", "1"),
        doc("seller", "1"),
    );
    block_on(async {
        let owned = owned(&log).await;
        assert_eq!(log.trace(&plain, 10).await.unwrap().since_ms, None);
        let touches: Vec<Touch> = [plain.clone(), doc("product", "11"), odd.clone(), other.clone()]
            .into_iter()
            .map(Touch::Document)
            .collect();
        log.append(&"shop".into(), None, &touches).await.unwrap();
        now.store(200, Ordering::Relaxed);
        let mut done = Settlement {
            number: 1,
            position: Seq(4),
            passed: (1..=4).map(|seq| (Seq(seq), Outcome::Indexed)).collect(),
            landed: vec![
                landed(plain.clone(), Some(1), Outcome::Indexed, None),
                landed(odd.clone(), None, Outcome::Dead, Some("misfit")),
            ],
            ..Settlement::default()
        };
        log.settle(&owned, &done).await.unwrap();
        // Sent again, with another story: it is the same settlement, and tells nothing.
        done.landed.clear();
        log.settle(&owned, &done).await.unwrap();
        let by = TouchedBy::Source("shop".into());
        let touched = |seq| {
            (
                100,
                Event::Touched {
                    seq: Seq(seq),
                    by: by.clone(),
                },
            )
        };
        let built = |seq: Option<u64>, outcome, code: Option<&str>| {
            let event = Event::Built {
                set: set(),
                seq: seq.map(Seq),
                ticket: Ticket(7 << 20),
                outcome,
                code: code.map(str::to_owned),
            };
            (200, event)
        };
        assert_eq!(
            events(&log, &plain, 10).await,
            [touched(1), built(Some(1), Outcome::Indexed, None)]
        );
        assert_eq!(
            events(&log, &odd, 10).await,
            [touched(3), built(None, Outcome::Dead, Some("misfit"))]
        );
        assert_eq!(events(&log, &other, 10).await, [touched(4)]);
        assert_eq!(
            events(&log, &plain, 1).await,
            [built(Some(1), Outcome::Indexed, None)]
        );
        assert_eq!(events(&log, &doc("product", "2"), 10).await, []);
        assert_eq!(log.trace(&other, 10).await.unwrap().since_ms, Some(100));
        assert_eq!(log.entry_of(&odd).await.unwrap(), Some(Seq(3)));
        log.forget().await.unwrap();
        assert_eq!(log.entry_of(&odd).await.unwrap(), None);
    });
}

#[test]
fn the_journal_is_bounded() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        for round in 0..40 {
            let ids = (0..1_000).map(|n| doc("product", &format!("{round}-{n}-{}", "x".repeat(500))));
            let touches: Vec<Touch> = ids.map(Touch::Document).collect();
            log.append(&"shop".into(), None, &touches).await.unwrap();
        }
        let file = Connection::open(state.path()).unwrap();
        let bytes: i64 = file
            .query_row("select sum(length(body)) from journal", [], |row| row.get(0))
            .unwrap();
        // The oldest row counts as long as its end does.
        assert!((15 << 20..=17 << 20).contains(&bytes), "{bytes}");
        let last = doc("product", &format!("39-999-{}", "x".repeat(500)));
        assert_eq!(events(&log, &last, 10).await.len(), 1);
        let first = doc("product", &format!("0-0-{}", "x".repeat(500)));
        assert_eq!(events(&log, &first, 10).await, []);
    });
}

#[test]
fn rows_on_record_are_read_both_ways() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let owned = owned(&log).await;
        let row = |table: &str, parts: &[Value]| RowKey {
            table: table.into(),
            key: Key::new(parts.to_vec()),
        };
        let uuid = Value::text("123e4567-e89b-12d3-a456-426614174000");
        let rows = [
            row("review", &[Value::Int(7)]),
            row("review", &[Value::Int(8)]),
            row("tag", &[uuid, Value::text("a,b\\c")]),
        ];
        let reads = |id: &str, rows: &[RowKey]| Reads {
            key: doc("product", id),
            since: 0,
            rows: rows.to_vec(),
        };
        let done = Settlement {
            number: 1,
            reads: vec![reads("1", &rows), reads("2", &rows[..1])],
            ..Settlement::default()
        };
        log.settle(&owned, &done).await.unwrap();
        let mut found = log.reads_of(&set(), &doc("product", "1")).await.unwrap();
        found.sort();
        assert_eq!(found, rows);
        assert_eq!(log.reads_of(&set(), &doc("product", "3")).await.unwrap(), []);
        let readers = async |row: &RowKey, n| log.readers_of(row, n).await.unwrap();
        assert_eq!(
            readers(&rows[0], 10).await,
            [doc("product", "1"), doc("product", "2")]
        );
        assert_eq!(readers(&rows[0], 1).await, [doc("product", "1")]);
        assert_eq!(readers(&rows[2], 10).await, [doc("product", "1")]);
        assert_eq!(readers(&row("review", &[Value::Int(9)]), 10).await, []);
        assert_eq!(readers(&row("seller", &[Value::Int(7)]), 10).await, []);
    });
}
