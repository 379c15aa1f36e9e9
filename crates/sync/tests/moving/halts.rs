//! Failures of documents, of engines, of sets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use instep_core::{ChangeLog, Error, Fault, SetState, Ticket, Touch};
use instep_sync::IndexerOptions;

use crate::moving::engine::{Faults, Scripted};
use crate::moving::rig::{Rig, SOURCE, fast, index};
use crate::moving::rows::{Rows, key};

fn rows(n: u64) -> Arc<Rows> {
    let rows = Arc::new(Rows::default());
    (0..n).for_each(|id| rows.put(&format!("{id:03}"), id));
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_built_leaves_the_engine_and_becomes_a_dead_letter() {
    let rows = rows(30);
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.rest().await;
    rows.poison("003", 9);
    rows.put("004", 9);
    rig.rest().await;
    rig.assert_in_step().await;
    let letters = rig.log.troubles(&"a".into(), None, 10).await.unwrap();
    assert_eq!(
        (letters.len(), letters[0].code.as_str(), letters[0].attempts),
        (1, "value_misfit", 1)
    );
    rows.poison("003", 10);
    rig.rest().await;
    assert_eq!(
        rig.log.troubles(&"a".into(), None, 10).await.unwrap()[0].attempts,
        2
    );
    rows.put("003", 10);
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_the_engine_refuses_does_not_stay_in_an_older_state() {
    let rows = rows(30);
    let engine = Scripted::new(1);
    let rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    engine.poison.lock().unwrap().insert("003".into());
    rows.put("003", 500);
    rig.rest().await;
    assert!(!engine.documents(&index(&"a".into())).contains_key("003"));
    let letters = rig.log.troubles(&"a".into(), None, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].code.as_str()), (1, "mapping_refused"));
    engine.poison.lock().unwrap().clear();
    rig.log
        .append(&SOURCE.into(), None, &[Touch::Document(key("003"))])
        .await
        .unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_halts_before_a_table_is_quarantined_and_spares_the_other_set() {
    let rows = rows(60);
    let engines = vec![Scripted::new(1), Scripted::new(2)];
    let rig = Rig::start(
        rows.clone(),
        engines.clone(),
        IndexerOptions {
            batch: 60,
            chunk: 60,
            ..fast()
        },
    )
    .await;
    rig.rest().await;
    *engines[0].poison.lock().unwrap() = rows.documents().into_keys().collect();
    rig.log.set_state(&"a".into(), &SetState::Paused).await.unwrap();
    (0..60).for_each(|id| rows.put(&format!("{id:03}"), id + 1_000));
    rig.until("appended", || async { rows.acknowledged() == rows.changes() })
        .await;
    rig.log
        .set_state(&"a".into(), &SetState::Following)
        .await
        .unwrap();
    rig.until("halted", || async {
        matches!(rig.state(0).await, SetState::Halted(_))
    })
    .await;
    let SetState::Halted(reason) = rig.state(0).await else {
        unreachable!()
    };
    assert!(
        reason.contains("mapping_refused") && reason.contains("start instep again"),
        "{reason}"
    );
    assert_eq!(rig.status(0).await.counts.dead_letters, 0, "none is quarantined");
    assert_eq!(
        engines[0].documents(&index(&"a".into())).len(),
        60,
        "none is removed"
    );
    rig.rest().await;
    assert_eq!(engines[1].documents(&index(&"b".into())), rows.documents());
    // A person mends the mapping and lets it follow again.
    engines[0].poison.lock().unwrap().clear();
    rig.log
        .set_state(&"a".into(), &SetState::Following)
        .await
        .unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn touching_known_dead_letters_again_does_not_trip_the_breaker() {
    let rows = rows(200);
    let rig = Rig::start(
        rows.clone(),
        vec![Scripted::new(1)],
        IndexerOptions {
            batch: 500,
            chunk: 500,
            ..fast()
        },
    )
    .await;
    rig.rest().await;
    for id in 0..40 {
        rows.poison(&format!("{id:03}"), 7);
        (0..4).for_each(|other| rows.put(&format!("1{:02}", (id + other) % 100), id));
        rig.rest().await;
    }
    rig.assert_in_step().await;
    let touches: Vec<_> = (0..40)
        .map(|id| Touch::Document(key(&format!("{id:03}"))))
        .collect();
    rig.log.append(&SOURCE.into(), None, &touches).await.unwrap();
    rig.rest().await;
    assert_eq!(rig.state(0).await, SetState::Following);
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_away_costs_neither_position_nor_the_other_set() {
    let rows = rows(20);
    let engines = vec![Scripted::new(1), Scripted::new(2)];
    let rig = Rig::start(rows.clone(), engines.clone(), fast()).await;
    rig.rest().await;
    engines[0].set_faults(Faults {
        refuse: 1_000,
        ..Faults::default()
    });
    (0..20).for_each(|id| rows.put(&format!("{id:03}"), id + 100));
    rig.until("b in step", || async {
        engines[1].documents(&index(&"b".into())) == rows.documents()
    })
    .await;
    rig.until("b settled", || async { rig.status(1).await.pending == 0 })
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = rig.status(0).await;
    assert_eq!(
        (status.pending, status.counts.retries, status.counts.dead_letters),
        (20, 0, 0),
        "{status:#?}"
    );
    let problem = rig.sets[0]
        .activity
        .as_ref()
        .unwrap()
        .borrow()
        .problem
        .clone()
        .unwrap();
    assert_eq!(problem.code, "engine_busy");
    engines[0].set_faults(Faults::default());
    rig.rest().await;
    rig.assert_in_step().await;
    assert_eq!(rig.sets[0].activity.as_ref().unwrap().borrow().problem, None);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_item_that_fails_for_long_becomes_a_retry_and_the_position_moves_on() {
    let rows = rows(10);
    let engine = Scripted::new(1);
    let options = IndexerOptions {
        retry: (Duration::from_secs(3_600), Duration::from_secs(3_600)),
        ..fast()
    };
    let mut rig = Rig::start(rows.clone(), vec![engine.clone()], options).await;
    rig.rest().await;
    engine.set_faults(Faults {
        item: 1_000,
        ..Faults::default()
    });
    rows.put("003", 100);
    rig.until("retrying", || async { rig.status(0).await.counts.retrying == 1 })
        .await;
    assert_eq!(rig.status(0).await.pending, 0);
    engine.set_faults(Faults::default());
    // A new owner knows of it, and the next touch does not wait for its time.
    rig.index(0);
    rows.put("003", 101);
    rig.until("healed", || async { rig.status(0).await.counts.retries == 0 })
        .await;
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_failure_of_the_engine_halts_the_set_with_its_remedy() {
    let rows = rows(10);
    let engines = vec![Scripted::new(1), Scripted::new(2)];
    let rig = Rig::start(rows.clone(), engines.clone(), fast()).await;
    rig.rest().await;
    engines[0]
        .failing
        .lock()
        .unwrap()
        .push(Error::fatal("unauthorized", "401").with_remedy("mend the password"));
    rows.put("003", 100);
    rig.until("halted", || async {
        matches!(rig.state(0).await, SetState::Halted(_))
    })
    .await;
    let SetState::Halted(reason) = rig.state(0).await else {
        unreachable!()
    };
    assert!(
        reason.contains("401") && reason.contains("mend the password"),
        "{reason}"
    );
    rig.rest().await;
    assert_eq!(engines[1].documents(&index(&"b".into())), rows.documents());
    rig.log
        .set_state(&"a".into(), &SetState::Following)
        .await
        .unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused_as_a_whole_is_taken_apart() {
    let rows = rows(0);
    let engine = Scripted::new(1);
    let rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    let poison = || Error::new(Fault::Poison, "bad_bulk", "the bulk cannot be read");
    engine.failing.lock().unwrap().push(poison());
    rig.log.set_state(&"a".into(), &SetState::Paused).await.unwrap();
    (0..5).for_each(|id| rows.put(&id.to_string(), id));
    rig.until("appended", || async { rows.acknowledged() == rows.changes() })
        .await;
    rig.log
        .set_state(&"a".into(), &SetState::Following)
        .await
        .unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    assert!(
        engine.calls.load(Ordering::Relaxed) >= 6,
        "one of five, five of one"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_knows_more_than_the_log_halts_the_set() {
    let rows = rows(5);
    let engine = Scripted::new(1);
    let rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    let name = index(&"a".into());
    let document = rows.documents().remove("003");
    engine.tamper(&name, "003", document, Ticket(u64::MAX >> 2));
    rows.put("003", 100);
    rig.until("halted", || async {
        matches!(rig.state(0).await, SetState::Halted(_))
    })
    .await;
    let SetState::Halted(reason) = rig.state(0).await else {
        unreachable!()
    };
    assert!(reason.contains("ticket_behind"), "{reason}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_of_unknown_outcome_are_repeated_where_versions_of_deletes_are_forgotten() {
    let rows = rows(5);
    let engine = Scripted::forgetful(1);
    let rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
    rig.rest().await;
    engine.set_faults(Faults {
        lose_answer: 1_000,
        ..Faults::default()
    });
    rows.remove("003");
    tokio::time::sleep(Duration::from_millis(20)).await;
    engine.set_faults(Faults::default());
    rig.until("repeating", || async { rig.status(0).await.counts.retrying == 1 })
        .await;
    let troubles = rig.log.troubles(&"a".into(), None, 10).await.unwrap();
    assert_eq!(troubles[0].code, "delete_unconfirmed");
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_another_process_took_over_is_left_to_it() {
    let rows = rows(5);
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.rest().await;
    rig.log.own(&"a".into(), "another").await.unwrap();
    rows.put("003", 100);
    rig.until("lost", || async {
        let activity = rig.sets[0].activity.as_ref().unwrap().borrow().clone();
        activity
            .problem
            .is_some_and(|problem| problem.code == "ownership_lost")
            && !activity.working
    })
    .await;
    assert_eq!(rig.state(0).await, SetState::Following, "the other goes on");
}
