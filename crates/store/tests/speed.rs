//! Prints what a touch and a settlement cost. Asserts nothing about time: `cargo test --release -p instep-store speed --
//! --nocapture` shows it.

use std::time::Instant;

use instep_core::{ChangeLog, DocId, DocKey, Outcome, Seq, Settlement, Touch};
use instep_store::SqliteLog;

use crate::state::{FreshState, block_on, noon};

const DOCUMENTS: usize = 20_000;
const BATCH: usize = 1_000;

#[test]
fn speed() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    let touches: Vec<Touch> = (0..DOCUMENTS)
        .map(|n| {
            Touch::Document(DocKey {
                collection: "product".into(),
                id: DocId::parse(&format!("{n:08}")).unwrap(),
            })
        })
        .collect();
    block_on(async {
        log.register(&"a".into(), &[("product".into(), "1".into())])
            .await
            .unwrap();
        let owned = log.own(&"a".into(), "speed").await.unwrap();
        let source = "shop".into();
        for what in ["new", "moved", "moved again"] {
            let started = Instant::now();
            for batch in touches.chunks(BATCH) {
                log.append(&source, None, batch).await.unwrap();
            }
            print(&format!("touch, {what}"), started, DOCUMENTS);
        }
        let (mut position, mut taking, mut settling) = (Seq(0), Vec::new(), Vec::new());
        loop {
            let started = Instant::now();
            let entries = log.take(&owned, position, BATCH).await.unwrap().entries;
            taking.push(started.elapsed());
            let Some(last) = entries.last() else { break };
            position = last.seq;
            let done = Settlement {
                position,
                passed: entries
                    .iter()
                    .map(|entry| (entry.seq, Outcome::Indexed))
                    .collect(),
                healed: entries
                    .into_iter()
                    .map(|entry| (entry.key, Outcome::Indexed))
                    .collect(),
                ..Settlement::default()
            };
            let started = Instant::now();
            log.settle(&owned, &done).await.unwrap();
            settling.push(started.elapsed());
        }
        let per = |spent: &[std::time::Duration]| {
            spent.iter().sum::<std::time::Duration>().as_secs_f64() * 1e6 / DOCUMENTS as f64
        };
        println!(
            "take: {:.2} µs, settle: {:.2} µs per document",
            per(&taking),
            per(&settling)
        );

        let started = Instant::now();
        for touch in &touches[..200] {
            log.append(&source, None, std::slice::from_ref(touch))
                .await
                .unwrap();
        }
        print("append of one touch, one after the other", started, 200);
        let started = Instant::now();
        let all = touches[..200]
            .iter()
            .map(|touch| log.append(&source, None, std::slice::from_ref(touch)));
        let mut waiting: Vec<_> = all.collect();
        std::future::poll_fn(|context| {
            waiting.retain_mut(|append| append.as_mut().poll(context).is_pending());
            if waiting.is_empty() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        print("append of one touch, many at once", started, 200);
        let status = log.status().await.unwrap().remove(0);
        status.counts.conserved().unwrap();
        assert_eq!((status.counts.indexed, status.pending), (DOCUMENTS as u64, 200));
    });
}

fn print(what: &str, started: Instant, n: usize) {
    let each = started.elapsed().as_secs_f64() * 1e6 / n as f64;
    println!("{what}: {each:.2} µs");
}
