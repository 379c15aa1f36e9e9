//! Scans: the first load, both sides, resumed, started again, and indexes that were lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use instep_core::{ChangeLog, Engine, Ensured, SetState, Ticket};

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, collection, fast, index};
use crate::moving::rows::{Row, Rows, document};

fn rows(n: u64) -> Arc<Rows> {
    let rows = Arc::new(Rows::default());
    (0..n).for_each(|id| rows.put(&format!("{id:03}"), id));
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_touched_table_is_scanned_from_both_sides() {
    let rows = rows(60);
    let engine = Scripted::new(1);
    let rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    for id in 0..30 {
        rows.write_unseen(&format!("{id:03}"), None);
    }
    for id in 30..40 {
        rows.write_unseen(
            &format!("{id:03}"),
            Some(Row {
                value: 1_000,
                reader: "x".into(),
                poison: false,
            }),
        );
    }
    rows.write_unseen(
        "new",
        Some(Row {
            value: 1,
            reader: "x".into(),
            poison: false,
        }),
    );
    rows.touch_table();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_goes_on_where_it_was_settled() {
    let rows = rows(200);
    rows.build_us.store(20_000, Ordering::Relaxed);
    let engine = Scripted::new(1);
    let mut rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    for settled in [40, 80, 120] {
        rig.until("under way", || async {
            let sets = rig.log.status().await.unwrap();
            sets.iter()
                .flat_map(|set| &set.scans)
                .any(|scan| scan.done >= settled)
        })
        .await;
        rig.index(0);
    }
    rig.rest().await;
    rig.assert_in_step().await;
    let writes = engine.writes.load(Ordering::Relaxed);
    assert!(
        writes < 200 + 3 * 60,
        "{writes} writes: three crashes repeat what was under way, no more"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_changes_do_not_wait_for_a_scan() {
    let rows = rows(400);
    rows.build_us.store(10_000, Ordering::Relaxed);
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("scanning", || async {
        let sets = rig.log.status().await.unwrap();
        sets.iter().flat_map(|set| &set.scans).any(|scan| scan.done > 0)
    })
    .await;
    rows.put("new", 1);
    rig.until("indexed", || async {
        rig.sets[0]
            .engine
            .documents(&index(&"a".into()))
            .contains_key("new")
    })
    .await;
    let scan = rig.status(0).await.scans.remove(0);
    assert!(
        !scan.finished && scan.done < 300,
        "{scan:?}: the change waited for the scan"
    );
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_gone_is_filled_again() {
    let rows = rows(30);
    let engine = Scripted::new(1);
    let mut rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    engine.drop_index(&index(&"a".into())).await.unwrap();
    rig.index(0);
    rig.until("filled", || async {
        engine.documents(&index(&"a".into())) == rows.documents()
    })
    .await;
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_does_not_fit_its_definition_is_made_again_when_a_person_says_so() {
    let rows = rows(30);
    let engine = Scripted::new(1);
    let mut rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    let name = index(&"a".into());
    engine.tamper(
        &name,
        "left over",
        Some(document(
            "left over",
            &Row {
                value: 1,
                reader: "x".into(),
                poison: false,
            },
        )),
        Ticket(1),
    );
    *engine.ensured.lock().unwrap() = Ensured::NeedsNewIndex;
    rig.index(0);
    rig.until("halted", || async {
        matches!(rig.status(0).await.state, SetState::Halted(_))
    })
    .await;
    assert!(
        engine.documents(&name).contains_key("left over"),
        "nothing was touched"
    );
    let set = rig.status(0).await.set;
    let asked = instep_sync::remake_memo(&set, &collection().name);
    rig.log
        .set_memo(&asked, Some(&collection().fingerprint()))
        .await
        .unwrap();
    rig.log.set_state(&set, &SetState::Following).await.unwrap();
    rig.until("filled", || async { engine.documents(&name) == rows.documents() })
        .await;
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_enumerated_before_changes_are_captured() {
    let rows = rows(30);
    let engine = Scripted::new(1);
    let mut rig = Rig::idle(rows.clone(), vec![engine.clone()], fast());
    rig.index(0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(engine.writes.load(Ordering::Relaxed), 0);
    rig.follow();
    // The indexer that waits watches the first follower, which never ran.
    rig.index(0);
    rig.rest().await;
    rig.until("filled", || async {
        engine.documents(&index(&"a".into())) == rows.documents()
    })
    .await;
    rig.stop().await;
}

/// A follower that dies before its position is durable has captured nothing: whoever follows next begins later. A scan
/// that had begun under it kept what was deleted in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_enumerated_before_a_position_is_durable() {
    let rows = rows(30);
    let engine = Scripted::new(1);
    let mut rig = Rig::idle(rows.clone(), vec![engine.clone()], fast());
    rig.checked.holds_appends.store(true, Ordering::Relaxed);
    rig.follow();
    rig.index(0);
    rig.until("followed", || async {
        rig.checked.appends.load(Ordering::Relaxed) > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(engine.writes.load(Ordering::Relaxed), 0);
    assert!(!rig.source.borrow().captured);
    rows.remove("007");
    rig.checked.holds_appends.store(false, Ordering::Relaxed);
    rig.follow();
    rig.index(0);
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_that_is_started_again_is_walked_again() {
    let rows = rows(100);
    rows.build_us.store(5_000, Ordering::Relaxed);
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    let fingerprint = [(collection().name, collection().fingerprint())];
    rig.until("scanning", || async {
        let sets = rig.log.status().await.unwrap();
        sets.iter().flat_map(|set| &set.scans).any(|scan| scan.done > 20)
    })
    .await;
    // Behind the walk, unseen: only a walk from the beginning finds it.
    rows.write_unseen(
        "000",
        Some(Row {
            value: 9,
            reader: "x".into(),
            poison: false,
        }),
    );
    rig.log.rescan(&"a".into(), &fingerprint, true).await.unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_whose_row_vanished_unseen_ends_with_the_next_scan() {
    let rows = rows(30);
    rows.poison("007", 1);
    let options = instep_sync::IndexerOptions {
        chunk: 40,
        batch: 40,
        ..fast()
    };
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], options).await;
    rig.rest().await;
    rig.assert_in_step().await;
    rows.write_unseen("007", None);
    rows.touch_table();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}
