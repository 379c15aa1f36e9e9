//! Dead letters in the file: their times, what is chosen, and that discarding keeps the touches conserved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use instep_core::{
    ChangeLog, DeadFilter, DocId, DocKey, Outcome, Owned, Seq, SetName, Settlement, Touch, Trouble,
};
use instep_store::SqliteLog;
use rusqlite::Connection;

use crate::state::{FreshState, block_on, noon};

fn doc(id: &str) -> DocKey {
    DocKey {
        collection: "product".into(),
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

async fn touch(log: &SqliteLog, id: &str) -> u64 {
    let touches = [Touch::Document(doc(id))];
    log.append(&"shop".into(), None, &touches).await.unwrap().head.0
}

fn trouble(id: &str, seq: u64, code: &str, next_ms: Option<i64>) -> Trouble {
    Trouble {
        key: doc(id),
        seq: Seq(seq),
        code: code.into(),
        reason: "it does not fit".into(),
        attempts: 1,
        next_ms,
    }
}

/// Passes these numbers as dead.
fn dead(number: u64, position: u64, troubles: Vec<Trouble>) -> Settlement {
    Settlement {
        number,
        position: Seq(position),
        passed: troubles
            .iter()
            .map(|trouble| (trouble.seq, Outcome::Dead))
            .collect(),
        troubles,
        ..Settlement::default()
    }
}

async fn listed(log: &SqliteLog, wanted: &DeadFilter) -> Vec<String> {
    let letters = log.dead_letters(&set(), wanted, None, 100).await.unwrap();
    letters
        .iter()
        .map(|letter| letter.trouble.key.id.to_string())
        .collect()
}

#[test]
fn letters_are_chosen_by_reason_collection_and_age() {
    let state = FreshState::new();
    let now = Arc::new(AtomicU64::new(1_000));
    let clock = {
        let now = now.clone();
        Arc::new(move || now.load(Ordering::Relaxed))
    };
    let log = SqliteLog::open(state.path(), clock).unwrap();
    block_on(async {
        let owned = owned(&log).await;
        touch(&log, "1").await;
        touch(&log, "2").await;
        let first = vec![
            trouble("1", 1, "misfit", None),
            trouble("2", 2, "too_large", None),
        ];
        log.settle(&owned, &dead(1, 2, first)).await.unwrap();
        now.store(5_000, Ordering::Relaxed);
        touch(&log, "1").await;
        touch(&log, "3").await;
        touch(&log, "4").await;
        let mut second = dead(
            2,
            5,
            vec![
                trouble("1", 3, "misfit", None),
                trouble("3", 4, "misfit", None),
                trouble("4", 5, "busy", Some(9_000)),
            ],
        );
        second.passed[2].1 = Outcome::Retrying;
        log.settle(&owned, &second).await.unwrap();

        let all = log
            .dead_letters(&set(), &DeadFilter::default(), None, 100)
            .await
            .unwrap();
        let times: Vec<_> = all
            .iter()
            .map(|letter| (letter.since_ms, letter.last_ms))
            .collect();
        assert_eq!(
            times,
            [
                (Some(1_000), Some(5_000)),
                (Some(1_000), Some(1_000)),
                (Some(5_000), Some(5_000))
            ]
        );
        let of = |code: Option<&str>, collection: Option<&str>, before_ms| DeadFilter {
            code: code.map(str::to_owned),
            collection: collection.map(Into::into),
            before_ms,
        };
        for (wanted, expected) in [
            (of(None, None, None), &["1", "2", "3"][..]),
            (of(Some("misfit"), None, None), &["1", "3"]),
            (of(Some("busy"), None, None), &[]),
            (of(None, Some("product"), None), &["1", "2", "3"]),
            (of(None, Some("seller"), None), &[]),
            (of(None, None, Some(5_000)), &["1", "2"]),
            (of(Some("misfit"), None, Some(5_000)), &["1"]),
        ] {
            assert_eq!(listed(&log, &wanted).await, expected, "{wanted:?}");
        }
        let after = log
            .dead_letters(&set(), &DeadFilter::default(), Some(&doc("1")), 1)
            .await
            .unwrap();
        assert_eq!(after[0].trouble.key, doc("2"));
        let reasons = log.dead_reasons(&set()).await.unwrap();
        let reasons: Vec<_> = reasons
            .iter()
            .map(|reason| (reason.code.as_str(), reason.count, reason.since_ms))
            .collect();
        assert_eq!(
            reasons,
            [("misfit", 2, Some(1_000)), ("too_large", 1, Some(1_000))]
        );
    });
}

#[test]
fn discarding_keeps_the_touches_conserved() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let owned = owned(&log).await;
        for id in ["1", "2", "3", "4"] {
            touch(&log, id).await;
        }
        // 1 and 2 are passed; 4 is dead ahead of the position, which 3 holds back; 5 was never touched.
        let mut done = dead(
            1,
            2,
            vec![trouble("1", 1, "misfit", None), trouble("2", 2, "misfit", None)],
        );
        done.troubles.push(trouble("4", 4, "misfit", None));
        done.troubles.push(trouble("5", 0, "misfit", None));
        log.settle(&owned, &done).await.unwrap();
        touch(&log, "2").await;
        let keys = ["1", "2", "4", "5", "9"].map(doc);
        assert_eq!(log.discard(&set(), &keys).await.unwrap(), 4);
        assert_eq!(log.discard(&set(), &keys).await.unwrap(), 0);
        let counts = async || log.status().await.unwrap()[0].counts;
        let now = counts().await;
        now.conserved().unwrap();
        assert_eq!(
            (now.deleted, now.superseded, now.dead, now.dead_letters),
            (1, 1, 0, 0)
        );
        // The settlement sent again changes nothing.
        log.settle(&owned, &done).await.unwrap();
        assert_eq!(counts().await, now);
        let rest = Settlement {
            number: 2,
            position: Seq(5),
            passed: vec![
                (Seq(3), Outcome::Indexed),
                (Seq(4), Outcome::Dead),
                (Seq(5), Outcome::Indexed),
            ],
            healed: vec![(doc("2"), Outcome::Indexed)],
            ..Settlement::default()
        };
        log.settle(&owned, &rest).await.unwrap();
        let now = counts().await;
        now.conserved().unwrap();
        assert_eq!((now.indexed, now.deleted, now.superseded), (2, 1, 2));
    });
}

/// A file of the version before: what is in trouble there has no times, counts as older than all, and gets them when it
/// fails again.
#[test]
fn letters_of_an_earlier_version_are_older_than_all() {
    let state = FreshState::new();
    let file = Connection::open(state.path()).unwrap();
    file.execute_batch(concat!(
        include_str!("../src/sqlite/1.sql"),
        include_str!("../src/sqlite/2.sql"),
        "insert into index_set values ('a', 'following', null, 0, 0, null, 0, 0, 0, 0, 0, 0, 0, 0);
         insert into scan values ('a', 'product', '1', 1, 'source', 0, null, 0, 0);
         insert into trouble values ('a', 'product', '1', 0, 'misfit', 'it does not fit', 1, null);
         pragma application_id = 1768846196; pragma user_version = 2;",
    ))
    .unwrap();
    drop(file);
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    block_on(async {
        let before = DeadFilter {
            before_ms: Some(0),
            ..DeadFilter::default()
        };
        assert_eq!(listed(&log, &before).await, ["1"]);
        let owned = owned(&log).await;
        let again = Settlement {
            number: 1,
            troubles: vec![trouble("1", 0, "misfit", None)],
            ..Settlement::default()
        };
        log.settle(&owned, &again).await.unwrap();
        let letters = log.dead_letters(&set(), &before, None, 10).await.unwrap();
        assert_eq!(
            (letters[0].since_ms, letters[0].last_ms),
            (None, Some(1_700_000_000_000))
        );
    });
}
