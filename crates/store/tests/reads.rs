//! Recorded reads in the file: a file of the version before them, what is forgotten when, and what they cost.

use std::time::{Duration, Instant};

use instep_core::{
    ChangeLog, DocId, DocKey, Key, Outcome, Owned, Reads, RowKey, Seq, Settlement, Touch, Value,
};
use instep_store::SqliteLog;
use rusqlite::Connection;

use crate::state::{FreshState, block_on, noon};

fn doc(id: impl std::fmt::Display) -> DocKey {
    DocKey {
        collection: "product".into(),
        id: DocId::parse(&format!("{id}")).unwrap(),
    }
}

fn row(id: i64) -> RowKey {
    RowKey {
        table: "review".into(),
        key: Key::new(vec![Value::Int(id)]),
    }
}

async fn set(log: &SqliteLog, name: &str) -> Owned {
    let products = [("product".into(), "1".into())];
    log.register(&name.into(), &products).await.unwrap();
    log.own(&name.into(), "test").await.unwrap()
}

async fn touch(log: &SqliteLog, rows: impl IntoIterator<Item = i64>) -> u64 {
    let touches: Vec<Touch> = rows.into_iter().map(|id| Touch::Row(row(id))).collect();
    log.append(&"shop".into(), None, &touches).await.unwrap().touched
}

/// Records what these documents read. Returns how many were touched again.
async fn record(log: &SqliteLog, owned: &Owned, since: u64, read: &[(&str, &[i64])]) -> u64 {
    let reads = read.iter().map(|(id, rows)| Reads {
        key: doc(id),
        since,
        rows: rows.iter().copied().map(row).collect(),
    });
    let done = Settlement {
        position: owned.position,
        reads: reads.collect(),
        ..Settlement::default()
    };
    log.settle(owned, &done).await.unwrap().touched
}

fn count(state: &FreshState, table: &str) -> u64 {
    let file = Connection::open(state.path()).unwrap();
    let sql = format!("select count(*) from {table}");
    file.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

#[test]
fn a_file_of_the_first_version_is_brought_up_and_works() {
    let state = FreshState::new();
    let old = Connection::open(state.path()).unwrap();
    old.execute_batch(include_str!("../src/sqlite/1.sql")).unwrap();
    old.execute_batch(
        "insert into index_set values ('a', 'following', null, 1, 0, 'old', 3, 5, 0, 1, 0, 0, 0, 0);
         insert into scan values ('a', 'product', '1', 1, 'source', 0, null, 0, 1);
         insert into change_log values (1, 'product', '1'), (2, 'product', '2');
         update log_head set seq = 2, touches = 2, runs = 1;
         pragma application_id = 1768846196; pragma user_version = 1;",
    )
    .unwrap();
    drop(old);
    // Twice: it is brought up once.
    drop(SqliteLog::open(state.path(), noon()).unwrap());
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let owned = set(&log, "a").await;
        let taken = log.take(&owned, owned.position, 10).await.unwrap();
        assert_eq!(
            (taken.rows, taken.entries.len(), taken.entries[0].seq),
            (0, 1, Seq(2))
        );
        assert_eq!(touch(&log, [7]).await, 0);
        let done = Settlement {
            position: Seq(2),
            passed: vec![(Seq(2), Outcome::Indexed)],
            reads: vec![Reads {
                key: doc("2"),
                since: 0,
                rows: vec![row(7)],
            }],
            ..Settlement::default()
        };
        let again = log.settle(&owned, &done).await.unwrap();
        assert_eq!((again.head, again.touched), (Seq(3), 1));
        assert_eq!(touch(&log, [7]).await, 1);
        let status = log.status().await.unwrap().remove(0);
        status.counts.conserved().unwrap();
        assert_eq!((status.counts.touches, status.counts.indexed), (4, 2));
    });
}

/// What is no longer remembered counts as touched; the last 200,000 rows are remembered.
#[test]
fn touched_rows_are_forgotten_from_the_oldest() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let owned = set(&log, "a").await;
        touch(&log, [-1]).await;
        touch(&log, [-2, -3]).await;
        for n in 0..20 {
            touch(&log, (0..10_000).map(|id| n * 10_000 + id)).await;
        }
        touch(&log, [-4]).await;
        // 200,004 rows in 23 appends: the four oldest go, one of them from the third append.
        log.forget().await.unwrap();
        assert_eq!(count(&state, "touched_row"), 200_000);
        assert_eq!(record(&log, &owned, 2, &[("1", &[77_777_777])]).await, 1);
        // Nothing that may be forgotten was touched after the third append.
        assert_eq!(
            record(&log, &owned, 3, &[("2", &[0, 9_999, 77_777_777])]).await,
            0
        );
        assert_eq!(record(&log, &owned, 3, &[("3", &[10_000])]).await, 1);
        // Nothing read, nothing missed.
        assert_eq!(record(&log, &owned, 0, &[("4", &[])]).await, 0);
        // Bounded work in each step, and yet to the end.
        for n in 20..23 {
            touch(&log, (0..10_000).map(|id| n * 10_000 + id)).await;
        }
        log.forget().await.unwrap();
        assert_eq!(count(&state, "touched_row"), 200_000);
        drop(log);
        let log = SqliteLog::open(state.path(), noon()).unwrap();
        let owned = set(&log, "a").await;
        assert_eq!(record(&log, &owned, 5, &[("5", &[77_777_777])]).await, 1);
        assert_eq!(record(&log, &owned, 6, &[("6", &[77_777_777])]).await, 0);
    });
}

#[test]
fn nothing_is_left_of_what_is_gone() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let (a, b) = (set(&log, "a").await, set(&log, "b").await);
        let many: Vec<i64> = (0..8_000).collect();
        let read: &[(&str, &[i64])] = &[("1", &many), ("2", &[]), ("3", &many), ("4", &[1])];
        record(&log, &a, 0, read).await;
        record(&log, &b, 0, read).await;
        assert_eq!(
            (count(&state, "read_doc"), count(&state, "read_row")),
            (6, 32_002)
        );
        record(&log, &a, 0, &[("1", &[]), ("4", &[2, 3])]).await;
        assert_eq!(
            (count(&state, "read_doc"), count(&state, "read_row")),
            (5, 24_003)
        );
        log.register(&"a".into(), &[]).await.unwrap();
        log.forget().await.unwrap();
        assert_eq!(
            (count(&state, "read_doc"), count(&state, "read_row")),
            (3, 16_001)
        );
        log.set_state(&"b".into(), &instep_core::SetState::Retiring)
            .await
            .unwrap();
        log.forget().await.unwrap();
        assert_eq!((count(&state, "read_doc"), count(&state, "read_row")), (0, 0));
        assert_eq!(count(&state, "read_place"), 0);
    });
}

/// Many rows that many documents read each: an append touches a bounded number of documents, the rest is scanned.
#[test]
fn an_append_touches_a_bounded_number_of_documents() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let (owned, other) = (set(&log, "a").await, set(&log, "b").await);
        for n in 0..6 {
            let reads = (0..9_000).map(|id| Reads {
                key: doc(n * 9_000 + id),
                since: 0,
                // The documents of the first row read two.
                rows: if n == 0 {
                    vec![row(0), row(6)]
                } else {
                    vec![row(n)]
                },
            });
            let mut scans = log.scans(&"a".into()).await.unwrap();
            scans[0].finished = true;
            let done = Settlement {
                reads: reads.collect(),
                scans,
                ..Settlement::default()
            };
            log.settle(&owned, &done).await.unwrap();
            // Another set that read the same makes no document count twice.
            log.settle(
                &other,
                &Settlement {
                    scans: vec![],
                    ..done
                },
            )
            .await
            .unwrap();
        }
        assert_eq!(touch(&log, [0, 1, 2, 3, 4, 6]).await, 45_000);
        assert!(log.scans(&"a".into()).await.unwrap()[0].finished);
        assert_eq!(touch(&log, 0..6).await, 45_000);
        assert!(!log.scans(&"a".into()).await.unwrap()[0].finished);
        log.status().await.unwrap()[0].counts.conserved().unwrap();
    });
}

/// Prints what recorded rows cost: `cargo test --release -p instep-store cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints a measurement"]
fn cost_of_recorded_rows() {
    cost(
        "integer keys, a document's rows together",
        &|id| row(id % DOCUMENTS * EACH + id / DOCUMENTS),
        1,
    );
    cost("integer keys, everywhere", &row, 7_919);
    let uuid = |id: i64| {
        let mixed = (id as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let hex = format!("{mixed:032x}");
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        RowKey {
            table: "review".into(),
            key: Key::new(vec![Value::text(&parts.join("-"))]),
        }
    };
    cost("UUID keys", &uuid, 1);
}

const DOCUMENTS: i64 = 70_000;
const EACH: i64 = 6;
const BATCH: i64 = 500;

/// `row` names the n-th row of a document by n × DOCUMENTS + the document's number, the documents come in `steps`.
fn cost(what: &str, row: &dyn Fn(i64) -> RowKey, steps: i64) {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    let size = |state: &FreshState| {
        let file = Connection::open(state.path()).unwrap();
        file.query_row(
            "select page_count * page_size from pragma_page_count, pragma_page_size",
            [],
            |row| row.get::<_, i64>(0),
        )
        .unwrap()
    };
    let settlement = |number: i64, since: u64, shift: i64| Settlement {
        number: number as u64,
        reads: (number * BATCH..(number + 1) * BATCH)
            .map(|id| Reads {
                key: doc(format!("{id:06}")),
                since,
                rows: (0..EACH)
                    .map(|nth| row(nth * DOCUMENTS + (id * steps + shift) % DOCUMENTS))
                    .collect(),
            })
            .collect(),
        ..Settlement::default()
    };
    block_on(async {
        let owned = set(&log, "a").await;
        let empty = size(&state);
        let settle = async |what: &str, since: u64, shift: i64, first: i64| {
            let mut spent = Duration::ZERO;
            for number in 0..DOCUMENTS / BATCH {
                let mut done = settlement(number, since, shift);
                done.number += first as u64;
                let started = Instant::now();
                log.settle(&owned, &done).await.unwrap();
                spent += started.elapsed();
            }
            let each = spent.as_secs_f64() * 1e6 / DOCUMENTS as f64;
            println!(
                "  {what}: {each:.2} µs per document, {:.2} µs per row",
                each / EACH as f64
            );
        };
        println!("{what}, {} rows of {DOCUMENTS} documents", DOCUMENTS * EACH);
        settle("recorded", 0, 0, 1).await;
        let bytes = size(&state) - empty;
        println!(
            "  {bytes} bytes, {:.1} per row",
            bytes as f64 / (DOCUMENTS * EACH) as f64
        );
        settle("recorded again, unchanged", 0, 0, 10_000).await;
        log.append(&"shop".into(), None, &[Touch::Row(row(-1))])
            .await
            .unwrap();
        settle("unchanged, while rows are touched", 0, 0, 20_000).await;
        settle("all rows replaced", 1, 1, 30_000).await;

        let rows = 20_000;
        let touches: Vec<Touch> = (0..rows).map(|id| Touch::Row(row(id * 17))).collect();
        let started = Instant::now();
        let mut touched = 0;
        for batch in touches.chunks(1_000) {
            touched += log.append(&"shop".into(), None, batch).await.unwrap().touched;
        }
        let each = started.elapsed().as_secs_f64() * 1e6 / rows as f64;
        println!("  touched row with its document: {each:.2} µs ({touched} touches of {rows} rows)");
        let bytes = size(&state) - empty;
        println!("  {bytes} bytes in the end");
    });
}
