//! The application never meets a lock of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use instep_core::Fetch;

use super::*;

/// Following, acknowledging and reading as hard as possible, beside a writer that does not wait for locks at all.
async fn refusals(journal: Journal, think: Duration) -> (usize, usize) {
    let database = Database::new(journal);
    database.run("create table t (id integer primary key, n integer)");
    let mut followed = Followed::new(&database, &[watched("t", &["id"], &["n"])]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, path) = (stop.clone(), database.path.clone());
        std::thread::spawn(move || {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            let (mut written, mut refused) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                match connection.execute("insert into t (n) values (1)", []) {
                    Ok(_) => written += 1,
                    Err(_) => refused += 1,
                }
                std::thread::park_timeout(think);
            }
            (written, refused)
        })
    };
    let until = Instant::now() + Duration::from_secs(2);
    let mut delivered = 0;
    while Instant::now() < until {
        let batch = next(&mut *followed.feed).await.unwrap();
        delivered += batch.changes.len();
        followed.feed.acknowledge(&batch.upto).await.unwrap();
        let mut snapshot = followed
            .source
            .reader()
            .snapshot(Some(&batch.upto))
            .await
            .unwrap();
        let wanted = Fetch {
            table: "t".into(),
            columns: vec!["n".into()],
            by: vec!["id".into()],
            values: (1..200).map(|id| vec![Value::Int(id)]).collect(),
            page: None,
        };
        snapshot.fetch(&wanted).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (written, refused) = writer.join().unwrap();
    assert!(delivered > 0);
    (written, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_wal_mode_no_write_is_refused() {
    for think in [Duration::ZERO, Duration::from_millis(2)] {
        let (written, refused) = refusals(Journal::Wal, think).await;
        assert!(written > 50, "{written}");
        assert_eq!(refused, 0, "of {written} writes, with pauses of {think:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_rollback_journal_few_writes_are_refused_to_a_writer_that_never_waits() {
    let (written, refused) = refusals(Journal::Rollback, Duration::from_millis(5)).await;
    println!(
        "rollback journal: {refused} of {} writes refused",
        written + refused
    );
    assert!(refused * 4 < written, "{refused} refused, {written} written");
}
