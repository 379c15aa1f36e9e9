//! Collections that a person paused: nothing is built, nothing is lost, and nobody else is kept waiting.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, DocId, DocKey, Pausable, Touch};
use instep_sync::IndexerOptions;

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, SOURCE, fast, index};
use crate::moving::rows::{COLLECTION, Rows};

fn rows() -> Arc<Rows> {
    let rows = Arc::new(Rows::default());
    (0..30).for_each(|id| rows.put(&format!("{id:03}"), id));
    rows
}

fn touches(collection: &str, from: u32, to: u32) -> Vec<Touch> {
    let key = |id: u32| DocKey {
        collection: collection.into(),
        id: DocId::parse(&format!("x{id:06}")).unwrap(),
    };
    (from..to).map(|id| Touch::Document(key(id))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paused_waits_across_owners_and_goes_on_where_it_stopped() {
    for what in [
        Pausable::Collection(COLLECTION.into()),
        Pausable::Source(SOURCE.into()),
    ] {
        let rows = rows();
        let engine = Scripted::new(1);
        let mut rig = Rig::start(rows.clone(), vec![engine.clone()], fast()).await;
        rig.rest().await;
        let before = engine.documents(&index(&"a".into()));
        assert!(rig.log.pause(&what).await.unwrap());
        assert!(!rig.log.pause(&what).await.unwrap(), "it was paused already");
        // Its owner looks at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
        rows.put("003", 500);
        rows.remove("004");
        rows.put("900", 1);
        rig.until("taken into the log", || async {
            rig.status(0).await.pending == 3
        })
        .await;
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(engine.documents(&index(&"a".into())), before);
            // A new owner does not build it either.
            rig.index(0);
        }
        let scanned = rig.status(0).await.counts.scanned;
        assert!(rig.log.resume(&what).await.unwrap());
        assert!(!rig.log.resume(&what).await.unwrap(), "it was not paused");
        rig.rest().await;
        rig.assert_in_step().await;
        assert_eq!(rig.status(0).await.counts.scanned, scanned, "no scan was needed");
        rig.stop().await;
    }
}

/// The log also holds touches of collections that this set does not have; they pass at once, and stand for the other
/// collections of a set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_pause_holds_no_other_collection_up() {
    let rows = rows();
    let engine = Scripted::new(1);
    let options = IndexerOptions {
        batch: 2_000,
        ..fast()
    };
    let mut rig = Rig::start(rows.clone(), vec![engine.clone()], options).await;
    rig.rest().await;
    let before = engine.documents(&index(&"a".into()));
    let what = Pausable::Collection(COLLECTION.into());
    rig.log.pause(&what).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    rows.put("003", 500);
    rig.until("taken into the log", || async {
        rig.status(0).await.pending == 1
    })
    .await;
    for round in 0..12 {
        let some = touches("other", round * 10_000, (round + 1) * 10_000);
        rig.log.append(&SOURCE.into(), None, &some).await.unwrap();
    }
    rig.until("passed by the others", || async {
        let status = rig.status(0).await;
        status.position == status.head && status.scans.iter().any(|scan| !scan.finished)
    })
    .await;
    assert_eq!(engine.documents(&index(&"a".into())), before);
    rig.index(0);
    rows.put("005", 501);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(engine.documents(&index(&"a".into())), before);
    rig.log.resume(&what).await.unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}
