//! Documents that change their language move between the indexes of a collection, and leave nothing behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use instep_core::{ChangeLog, IndexName, Language, SetName, Ticket};

use crate::moving::engine::Scripted;
use crate::moving::rig::{Rig, fast};
use crate::moving::rows::{COLLECTION, Rows, document};

/// Values 0, 1 and 2 have these languages.
const LANGUAGES: [&str; 3] = ["en", "sv", "unspecified"];

fn index(language: usize) -> IndexName {
    let language = Language::from(LANGUAGES[language]);
    IndexName::physical(&SetName::from("a"), &COLLECTION.into(), &language)
}

async fn rig() -> (Arc<Rows>, Rig) {
    let rows = Arc::new(Rows::default());
    rows.speaks.store(true, Ordering::Relaxed);
    rows.put("1", 0);
    let rig = Rig::start(rows.clone(), vec![Scripted::new(1)], fast()).await;
    rig.until("registered", async || !rig.log.status().await.unwrap().is_empty())
        .await;
    rig.rest().await;
    rig.assert_in_step().await;
    (rows, rig)
}

async fn written(rig: &Rig, language: usize) {
    let engine = &rig.sets[0].engine;
    rig.until("written", async || {
        engine.documents(&index(language)).contains_key("1")
    })
    .await;
}

/// The log says where a document lay before moves that it has not heard of: nobody believes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_not_settled_is_not_forgotten() {
    for is_killed in [false, true] {
        let (rows, mut rig) = rig().await;
        rig.checked.holds_settlements.store(true, Ordering::Relaxed);
        rows.put("1", 1);
        written(&rig, 1).await;
        if is_killed {
            rig.index(0);
        }
        rows.put("1", 2);
        written(&rig, 2).await;
        rig.checked.holds_settlements.store(false, Ordering::Relaxed);
        rig.rest().await;
        rig.assert_in_step().await;
        rows.put("1", 0);
        rig.rest().await;
        rig.assert_in_step().await;
        rows.remove("1");
        rig.rest().await;
        rig.assert_in_step().await;
        rig.stop().await;
    }
}

/// A scan from both sides finds what lies where it does not belong, whatever the log says of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_what_lies_in_another_language() {
    let (_, rig) = rig().await;
    let row = crate::moving::rows::Row {
        value: 1,
        reader: "x".into(),
        poison: false,
    };
    let mut stray = document("1", &row);
    stray.language = LANGUAGES[1].into();
    rig.sets[0].engine.tamper(&index(1), "1", Some(stray), Ticket(1));
    let fingerprint = [(rig.collection.name.clone(), rig.collection.fingerprint())];
    rig.log.rescan(&"a".into(), &fingerprint, true).await.unwrap();
    rig.rest().await;
    rig.assert_in_step().await;
    rig.stop().await;
}
