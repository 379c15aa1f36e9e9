//! Waiting until everything is in step.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{Error, SetState, Source};
use instep_sync::{CaughtUp, IndexerOptions, caught_up};

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, fast};
use crate::moving::rows::{COLLECTION, Rows, RowsSource};

async fn wait(rig: &Rig) -> CaughtUp {
    let source: Arc<dyn Source> = Arc::new(RowsSource(rig.rows.clone()));
    let sources = [(source, rig.source.clone(), vec![COLLECTION.into()])];
    let sets: Vec<_> = rig.sets.iter().map(|set| set.name.clone()).collect();
    let waited = caught_up(&rig.log, &sources, &sets);
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .expect("it ends")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_committed_before_is_indexed() {
    let rows = Arc::new(Rows::default());
    (0..300).for_each(|id| rows.put(&format!("{id:03}"), id));
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1), Scripted::new(2)], fast()).await;
    assert!(wait(&rig).await.is_complete());
    rig.assert_in_step().await;
    (0..100).for_each(|id| rows.put(&format!("{id:03}"), id + 1));
    rows.touch_all();
    assert!(wait(&rig).await.is_complete());
    rig.assert_in_step().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_indexed_is_named() {
    let rows = Arc::new(Rows::default());
    (0..30).for_each(|id| rows.put(&format!("{id:03}"), id));
    rows.poison("007", 7);
    let engines = vec![Scripted::new(1), Scripted::new(2)];
    let options = IndexerOptions {
        chunk: 40,
        batch: 40,
        ..fast()
    };
    let rig = Rig::start(rows.clone(), engines.clone(), options).await;
    let done = wait(&rig).await;
    assert!(!done.is_complete());
    let named: Vec<_> = done
        .troubles
        .iter()
        .map(|(set, trouble)| format!("{set} {}", trouble.key))
        .collect();
    assert_eq!(named, ["a car/007", "b car/007"]);
    rows.put("007", 7);
    engines[1]
        .failing
        .lock()
        .unwrap()
        .push(Error::fatal("unauthorized", "401"));
    let done = wait(&rig).await;
    assert!(!done.is_complete() && done.troubles.len() == 1, "{done:?}");
    assert!(matches!(&done.sets[1].state, SetState::Halted(reason) if reason.contains("401")));
    rig.stop().await;
}
