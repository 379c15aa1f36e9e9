//! What the follower and the expander promise.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, Error, SetState};
use instep_sync::SourceState;

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, SOURCE, fast};
use crate::moving::rows::Rows;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_indexed_and_followed() {
    let rows = Arc::new(Rows::default());
    (0..50).for_each(|id| rows.put(&format!("{id:03}"), id));
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("scanned", || async {
        rig.log
            .status()
            .await
            .unwrap()
            .iter()
            .any(|set| set.scans.iter().all(|scan| scan.finished))
    })
    .await;
    // Changes from before the start are the scan's.
    rows.put("001", 77);
    rows.remove("002");
    rows.put("100", 1);
    rig.rest().await;
    rig.assert_in_step().await;
    let counts = rig.status(0).await.counts;
    assert_eq!(
        (counts.touches, counts.indexed, counts.deleted, counts.scanned),
        (3, 2, 1, 50)
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_away_is_followed_again_and_nothing_is_lost() {
    let rows = Arc::new(Rows::default());
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("followed", || async {
        rig.log.position(&SOURCE.into()).await.unwrap().is_some()
    })
    .await;
    for round in 0..5_u64 {
        rows.fail_feed(Error::transient("source_away", "the source is away").with_remedy("start it"));
        rows.put("1", round);
        rows.put(&format!("new {round}"), round);
    }
    rig.rest().await;
    rig.assert_in_step().await;
    let position = rig.log.position(&SOURCE.into()).await.unwrap().unwrap();
    assert_eq!(position.at, "10");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_failure_halts_the_source_alone() {
    let rows = Arc::new(Rows::default());
    let mut rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("captured", || async { rig.source.borrow().captured })
        .await;
    rows.fail_feed(Error::fatal("slot_lost", "the slot is gone").with_remedy("make it again"));
    rig.until("halted", || async {
        rig.source.borrow().state == SourceState::Halted
    })
    .await;
    let problem = rig.source.borrow().problem.clone().unwrap();
    assert_eq!(
        (problem.code.as_str(), problem.remedy.as_deref()),
        ("slot_lost", Some("make it again"))
    );
    assert_eq!(rig.state(0).await, SetState::Following);
    // What was not acknowledged is delivered to the next follower.
    rows.put("1", 1);
    rig.follow();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_outs_are_expanded_in_chunks_and_survive_a_crash() {
    let rows = Arc::new(Rows::default());
    (0..95).for_each(|id| rows.put(&format!("{id:03}"), id));
    let mut rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("scanned", || async {
        rig.status(0).await.scans.iter().all(|scan| scan.finished)
    })
    .await;
    let before = rig.status(0).await.counts.touches;
    rows.touch_all();
    rig.until("begun", || async { rig.status(0).await.counts.touches > before })
        .await;
    rig.follow();
    rig.rest().await;
    let touches = rig.status(0).await.counts.touches - before;
    assert!(
        (95..=105).contains(&touches),
        "{touches}: a chunk of ten may come twice"
    );
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_set_does_not_hold_fan_outs() {
    let rows = Arc::new(Rows::default());
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1), Scripted::new(2)], fast()).await;
    rig.rest().await;
    rig.log.set_state(&"b".into(), &SetState::Paused).await.unwrap();
    (0..1_500).for_each(|id| rows.put(&format!("{id:04}"), id));
    rig.until("behind", || async { rig.status(1).await.pending > 1_400 })
        .await;
    rows.touch_all();
    rig.rest().await;
    assert_eq!(rig.status(0).await.fan_outs, 0);
    rig.log
        .set_state(&"b".into(), &SetState::Following)
        .await
        .unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_set_reacts_at_once() {
    let rows = Arc::new(Rows::default());
    let options = instep_sync::IndexerOptions {
        poll: Duration::from_secs(60),
        ..fast()
    };
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], options).await;
    rig.rest().await;
    let mut slowest = Duration::ZERO;
    for value in 0..20 {
        let started = std::time::Instant::now();
        rows.put("1", value);
        rig.until("indexed", || async {
            rig.sets[0]
                .engine
                .documents(&crate::moving::rig::index(&"a".into()))
                == rows.documents()
        })
        .await;
        slowest = slowest.max(started.elapsed());
    }
    assert!(
        slowest < Duration::from_secs(2),
        "{slowest:?}: it waited for a poll"
    );
    rig.stop().await;
}
