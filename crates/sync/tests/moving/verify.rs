//! Verifying: all of a hundred seeded faults of each kind, none where there is none, resumed, repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use instep_core::{ChangeLog, Readers, Ticket};
use instep_sync::{DifferenceKind, Verified, Verify, VerifyOptions};

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, collection, fast, index};
use crate::moving::rows::{Row, Rows, document};

fn options() -> VerifyOptions {
    VerifyOptions {
        chunk: 64,
        pause: Duration::from_millis(30),
        ..VerifyOptions::default()
    }
}

fn verify(rig: &Rig, options: VerifyOptions) -> Verify {
    let set = &rig.sets[0];
    Verify::new(
        &collection(),
        &set.name,
        set.engine.clone(),
        rig.rows.clone(),
        rig.log.clone(),
        options,
    )
}

async fn filled(n: u64) -> (Arc<Rows>, Arc<Scripted>, Rig) {
    let rows = Arc::new(Rows::default());
    (0..n).for_each(|id| rows.put(&format!("{id:04}"), id));
    let engine = Scripted::new(1);
    let rig = Rig::start(
        rows.clone(),
        vec![engine.clone()],
        instep_sync::IndexerOptions {
            batch: 200,
            chunk: 200,
            ..fast()
        },
    )
    .await;
    rig.rest().await;
    (rows, engine, rig)
}

fn kinds(found: &Verified) -> BTreeMap<DifferenceKind, BTreeSet<String>> {
    let mut kinds: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for difference in &found.differences {
        assert!(
            kinds
                .entry(difference.kind)
                .or_default()
                .insert(difference.id.clone()),
            "{difference:?} twice"
        );
    }
    kinds
}

/// A hundred of each kind, in every way they come about.
fn seed(rows: &Rows, engine: &Scripted) -> BTreeMap<DifferenceKind, BTreeSet<String>> {
    let name = index(&"a".into());
    let mut seeded: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    let documents = rows.documents();
    for at in 0..100 {
        let [missing, orphan, stale, different] =
            [0, 100, 200, 300].map(|from| format!("{:04}", from + at * 7 % 100));
        match at % 2 {
            0 => engine.tamper(&name, &missing, None, Ticket(0)),
            // The change that was lost is an insert.
            _ => {
                rows.write_unseen(
                    &format!("x{missing}"),
                    Some(Row {
                        value: 1,
                        reader: "r".into(),
                        poison: false,
                    }),
                );
            }
        }
        let missing = if at % 2 == 0 {
            missing
        } else {
            format!("x{missing}")
        };
        let orphan = match at % 3 {
            0 => {
                rows.write_unseen(&orphan, None);
                orphan
            }
            1 => {
                rows.write_unseen(
                    &orphan,
                    Some(Row {
                        value: 1,
                        reader: "r".into(),
                        poison: true,
                    }),
                );
                orphan
            }
            _ => {
                let id = format!("y{orphan}");
                engine.tamper(
                    &name,
                    &id,
                    Some(document(
                        &id,
                        &Row {
                            value: 1,
                            reader: "r".into(),
                            poison: false,
                        },
                    )),
                    Ticket(1),
                );
                id
            }
        };
        let id = stale.parse::<u64>().unwrap();
        rows.write_unseen(
            &stale,
            Some(Row {
                value: id + 3_000,
                reader: format!("r{}", id % 3),
                poison: false,
            }),
        );
        let mut other = documents[&different].clone();
        match at % 4 {
            0 => other.readers = Readers::Public,
            1 => other.readers = Readers::only(vec!["r0".into(), "r1".into(), "r2".into()]),
            2 => other.source = "{\"value\":1,\"secret\":2}".into(),
            _ => other.source = "{\"value\":".into(),
        }
        engine.tamper(&name, &different, Some(other), Ticket(1 << 60));
        let kinds = [
            (DifferenceKind::Missing, missing),
            (DifferenceKind::Orphan, orphan),
            (DifferenceKind::Stale, stale),
            (DifferenceKind::Different, different),
        ];
        for (kind, id) in kinds {
            assert!(seeded.entry(kind).or_default().insert(id));
        }
    }
    seeded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seeded_fault_is_found_named_and_repaired() {
    let (rows, engine, rig) = filled(600).await;
    let clean = verify(&rig, options()).run(|_| {}).await.unwrap();
    assert!(
        clean.is_clean() && clean.rows == 600 && clean.documents == 600,
        "{clean:?}"
    );
    let seeded = seed(&rows, &engine);
    let found = verify(&rig, options()).run(|_| {}).await.unwrap();
    assert_eq!(kinds(&found), seeded);
    assert!(
        found.counts.values().all(|count| *count == 100),
        "{:?}",
        found.counts
    );
    // Rows that cannot be built are dead letters once they are touched; the breaker must not take them for a mistake.
    for id in rows.poisoned() {
        rows.write_unseen(&id, None);
    }
    let found = verify(
        &rig,
        VerifyOptions {
            repair: true,
            ..options()
        },
    )
    .run(|_| {})
    .await
    .unwrap();
    assert_eq!((kinds(&found), found.repaired), (seeded, 400));
    rig.rest().await;
    rig.assert_in_step().await;
    assert!(verify(&rig, options()).run(|_| {}).await.unwrap().is_clean());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_on_their_way_are_no_differences() {
    let (rows, _, rig) = filled(300).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (rows, stop) = (rows.clone(), stop.clone());
        async move {
            for at in 0.. {
                let id = format!("{:04}", at * 31 % 330);
                match at % 5 {
                    0 => rows.remove(&id),
                    _ => rows.put(&id, at),
                }
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        }
    });
    for _ in 0..5 {
        let found = verify(&rig, options()).run(|_| {}).await.unwrap();
        assert_eq!(found.differences, []);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    rig.rest().await;
    assert!(verify(&rig, options()).run(|_| {}).await.unwrap().is_clean());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_verification_goes_on_where_it_stopped() {
    let (rows, engine, rig) = filled(600).await;
    let seeded = seed(&rows, &engine);
    let whole = verify(&rig, options()).run(|_| {}).await.unwrap();
    for stop_at in [3, 9, 13] {
        let told = Arc::new(Mutex::new(0));
        let task = tokio::spawn({
            let (run, told) = (verify(&rig, options()), told.clone());
            async move { run.run(move |_| *told.lock().unwrap() += 1).await }
        });
        while *told.lock().unwrap() < stop_at && !task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        task.abort();
        let _ = task.await;
        let memo = rig.log.memo("verify/a/car").await.unwrap();
        assert!(memo.is_some(), "stopped at {stop_at}: nothing is remembered");
        let chunks = Arc::new(Mutex::new(0));
        let counted = chunks.clone();
        let found = verify(
            &rig,
            VerifyOptions {
                resume: true,
                ..options()
            },
        )
        .run(move |_| *counted.lock().unwrap() += 1)
        .await
        .unwrap();
        assert_eq!(
            (kinds(&found), found.rows, found.documents),
            (seeded.clone(), whole.rows, whole.documents)
        );
        assert!(
            *chunks.lock().unwrap() <= 21 - stop_at,
            "stopped at {stop_at}: it started again"
        );
        assert_eq!(rig.log.memo("verify/a/car").await.unwrap(), None);
    }
    rig.stop().await;
}
