//! Recorded reads: touched rows touch the documents that were built from them, also those that are being built.

use instep_core::{
    FanOut, Fault, Key, Outcome, Owned, Reads, RowKey, Seq, SetState, Settlement, Touch, Value,
};

use super::{Bench, Fresh, block_on, cases, doc, passed, products, refused, source, trouble};

/// A row of the table `review`.
fn row(id: i64) -> RowKey {
    RowKey {
        table: "review".into(),
        key: Key::new(vec![Value::Int(id)]),
    }
}

fn reads(id: &str, since: u64, rows: &[i64]) -> Reads {
    Reads {
        key: doc(id),
        since,
        rows: rows.iter().copied().map(row).collect(),
    }
}

fn having_read(position: u64, reads: Vec<Reads>) -> Settlement {
    Settlement {
        position: Seq(position),
        reads,
        ..Settlement::default()
    }
}

impl Bench {
    /// Touches rows; returns the numbers and documents that this made.
    async fn touch_rows(&self, owned: &Owned, rows: &[i64]) -> Vec<(u64, String)> {
        let before = self.log().head().await.unwrap().0;
        let touches: Vec<Touch> = rows.iter().map(|id| Touch::Row(row(*id))).collect();
        let appended = self.log().append(&source(), None, &touches).await.unwrap();
        let touched = self.take(owned, before).await;
        assert_eq!(
            (appended.head.0, appended.touched),
            (before + touched.len() as u64, touched.len() as u64)
        );
        touched
    }

    /// The counter of appends that touched rows.
    async fn rows(&self, owned: &Owned) -> u64 {
        self.log().take(owned, Seq(0), 0).await.unwrap().rows
    }
}

cases! {
    /// A row touches the documents that recorded it, in any set that is not retiring, after those that are named; each
    /// once, by key. Appends that touch rows are counted, whoever read them.
    async fn touched_rows_touch_their_readers(bench) {
        let (a, b, gone) = (bench.set("a").await, bench.set("b").await, bench.set("gone").await);
        bench.settle(&a, having_read(0, vec![reads("2", 0, &[7, 8]), reads("1", 0, &[8]), reads("4", 0, &[7, 7])])).await.unwrap();
        bench.settle(&b, having_read(0, vec![reads("3", 0, &[7]), reads("2", 0, &[7]), reads("5", 0, &[9])])).await.unwrap();
        bench.settle(&gone, having_read(0, vec![reads("6", 0, &[7])])).await.unwrap();
        bench.log().set_state(&"gone".into(), &SetState::Retiring).await.unwrap();
        bench.reopen();
        assert_eq!(bench.rows(&a).await, 0);
        let touches = [
            Touch::Document(doc("4")),
            Touch::Document(doc("9")),
            Touch::Row(row(7)),
            Touch::Row(row(8)),
            Touch::Row(row(7)),
            Touch::Row(RowKey { table: "seller".into(), ..row(9) }),
            Touch::Row(RowKey { key: Key::new(vec![Value::text("9")]), ..row(9) }),
            Touch::Row(RowKey { key: Key::new(vec![Value::Int(9), Value::Int(9)]), ..row(9) }),
        ];
        let appended = bench.log().append(&source(), None, &touches).await.unwrap();
        assert_eq!((appended.head.0, appended.touched, appended.moved), (5, 5, 0));
        let numbered = |pairs: &[(u64, &str)]| -> Vec<(u64, String)> {
            pairs.iter().map(|(seq, id)| (*seq, (*id).to_owned())).collect()
        };
        assert_eq!(bench.take(&a, 0).await, numbered(&[(1, "4"), (2, "9"), (3, "1"), (4, "2"), (5, "3")]));
        for set in ["a", "b", "gone"] {
            let counts = bench.counts(set).await;
            assert_eq!((counts.touches, counts.ahead), (5, 5), "{set}");
        }
        bench.touch(&["1"]).await;
        assert_eq!((bench.rows(&a).await, bench.rows(&b).await), (1, 1));
        // Moved ones are counted, and a step of a fan-out touches rows too.
        let fan_out = FanOut { collection: "product".into(), fingerprint: "1".into(), node: 1, values: vec![], after: None };
        bench.log().append(&source(), None, &[Touch::FanOut(fan_out)]).await.unwrap();
        let id = bench.log().fan_outs(1).await.unwrap()[0].0;
        let appended = bench.log().expanded(id, None, &[Touch::Row(row(8)), Touch::Row(row(9))]).await.unwrap();
        assert_eq!((appended.head.0, appended.touched, appended.moved), (9, 3, 2));
        assert_eq!(bench.take(&a, 6).await, numbered(&[(7, "1"), (8, "2"), (9, "5")]));
        assert_eq!(bench.rows(&b).await, 2);
        bench.counts("a").await;
    }

    /// A row that was touched after the take under which a document was built from it, touches the document again; at the
    /// settlement, once, for every set. What was touched before that take does not.
    async fn a_row_touched_while_it_was_read_is_read_again(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        assert_eq!(bench.touch_rows(&a, &[1]).await, []);
        bench.touch(&["1", "2", "3"]).await;
        let taken = bench.log().take(&a, Seq(0), 10).await.unwrap();
        assert_eq!((taken.rows, taken.entries.len()), (1, 3));
        // Nobody has recorded anything yet.
        assert_eq!(bench.touch_rows(&a, &[2]).await, []);
        bench.reopen();
        let mut done = passed(3, &[(1, Outcome::Indexed), (2, Outcome::Indexed), (3, Outcome::Dead)]);
        done.reads = vec![reads("3", 1, &[2]), reads("1", 1, &[1, 2]), reads("2", 1, &[1, 3])];
        done.troubles = vec![trouble("3", 3, None)];
        let again = bench.settle(&a, done.clone()).await.unwrap();
        assert_eq!((again.head, again.touched, again.moved), (Seq(5), 2, 2));
        let repeated = bench.settle(&a, done).await.unwrap();
        assert_eq!((repeated.head, repeated.touched, repeated.moved), (Seq(5), 0, 0));
        let tail = [(4, "1".to_owned()), (5, "3".to_owned())];
        assert_eq!(bench.take(&a, 3).await, tail);
        assert_eq!(bench.take(&b, 0).await, [&[(2, "2".to_owned())], &tail[..]].concat());
        let status = bench.status("a").await;
        assert_eq!((status.position, status.head, status.pending), (Seq(3), Seq(5), 2));
        let counts = bench.counts("a").await;
        assert_eq!((counts.touches, counts.ahead, counts.indexed, counts.dead), (5, 2, 2, 1));
        assert_eq!(bench.counts("b").await.ahead, 5);

        // Built under a later take, they are as they should be.
        let taken = bench.log().take(&a, Seq(3), 10).await.unwrap();
        assert_eq!(taken.rows, 2);
        let mut done = passed(5, &[(4, Outcome::Indexed), (5, Outcome::Indexed)]);
        done.reads = vec![reads("1", 2, &[1, 2]), reads("3", 2, &[2])];
        done.healed = vec![(doc("3"), Outcome::Indexed)];
        assert_eq!(bench.settle(&a, done).await.unwrap().touched, 0);
        bench.counts("a").await;
        // What was read is recorded, also of a document that is touched again.
        assert_eq!(bench.touch_rows(&a, &[2]).await, [(6, "1".to_owned()), (7, "3".to_owned())]);
        // One that was drawn long before the last touch is touched again, in a set that never saw the row as well.
        let all = [2, 6, 7].map(|number| (number, Outcome::Indexed));
        let mut done = passed(7, &all);
        done.reads = vec![reads("2", 0, &[1]), reads("9", 0, &[3])];
        let again = bench.settle(&b, done).await.unwrap();
        assert_eq!((again.head, again.touched, again.moved), (Seq(8), 1, 1));
        assert_eq!(bench.take(&b, 7).await, [(8, "2".to_owned())]);
        bench.counts("a").await;
        bench.counts("b").await;
        let early = having_read(7, vec![reads("1", 4, &[])]);
        assert_eq!(refused(bench.settle(&b, early).await), (Fault::Fatal, "bad_settlement"));
    }

    /// What a document read is what its last build read; a document that read nothing is found by no row.
    async fn reads_are_replaced_by_the_last_build(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        for owned in [&a, &b] {
            bench.settle(owned, having_read(0, vec![reads("1", 0, &[1, 2, 3]), reads("2", 0, &[1])])).await.unwrap();
        }
        let both = |first: u64| vec![(first, "1".to_owned()), (first + 1, "2".to_owned())];
        assert_eq!(bench.touch_rows(&a, &[1]).await, both(1));
        // One set after the other: each remembers for itself.
        bench.settle(&a, having_read(0, vec![reads("1", 1, &[3, 4]), reads("2", 1, &[])])).await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1]).await, both(3));
        bench.settle(&b, having_read(0, vec![reads("2", 2, &[]), reads("1", 2, &[1, 2]), reads("1", 2, &[3])])).await.unwrap();
        bench.reopen();
        assert_eq!(bench.touch_rows(&a, &[1, 2]).await, []);
        assert_eq!(bench.touch_rows(&a, &[3]).await, [(5, "1".to_owned())]);
        assert_eq!(bench.touch_rows(&a, &[4]).await, [(6, "1".to_owned())]);
        // Nothing was read, so nothing was missed; and of two builds, the later is in the engine.
        let since_then = vec![reads("2", 0, &[]), reads("1", 0, &[3]), reads("1", 5, &[3])];
        assert_eq!(bench.settle(&a, having_read(0, since_then)).await.unwrap().touched, 0);
        assert_eq!(bench.touch_rows(&a, &[4]).await, []);
        bench.settle(&b, having_read(0, vec![reads("1", 6, &[])])).await.unwrap();
        bench.settle(&a, having_read(0, vec![reads("1", 6, &[])])).await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1, 2, 3, 4]).await, []);
        bench.counts("a").await;
    }

    /// A removed collection and a set that goes take along what they recorded, an edited collection keeps it until its
    /// documents are built again; forgetting changes nothing that is still looked up.
    async fn reads_go_with_their_collection_and_set(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        bench.settle(&a, having_read(0, vec![reads("1", 0, &[1])])).await.unwrap();
        bench.settle(&b, having_read(0, vec![reads("2", 0, &[1])])).await.unwrap();
        bench.log().register(&"a".into(), &products("2")).await.unwrap();
        bench.log().forget().await.unwrap();
        let both = [(1, "1".to_owned()), (2, "2".to_owned())];
        assert_eq!(bench.touch_rows(&a, &[1]).await, both);
        bench.log().register(&"a".into(), &[("seller".into(), "1".into())]).await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1]).await, [(3, "2".to_owned())]);
        // It comes back, and knows nothing of before.
        bench.log().register(&"a".into(), &products("1")).await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1]).await, [(4, "2".to_owned())]);
        bench.settle(&a, having_read(0, vec![reads("1", 3, &[1, 5])])).await.unwrap();
        bench.log().forget().await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1]).await, [(5, "1".to_owned()), (6, "2".to_owned())]);
        bench.log().set_state(&"b".into(), &SetState::Retiring).await.unwrap();
        assert_eq!(bench.touch_rows(&a, &[1]).await, [(7, "1".to_owned())]);
        bench.log().forget().await.unwrap();
        bench.reopen();
        assert_eq!(bench.touch_rows(&a, &[5]).await, [(8, "1".to_owned())]);
        // What was touched is still remembered.
        let again = bench.settle(&a, having_read(0, vec![reads("3", 5, &[1, 5])])).await.unwrap();
        assert_eq!((again.head.0, again.touched), (9, 1));
    }

    /// A row that more documents read than may be touched by it scans their collections from both sides, in every set; a
    /// document that two sets read counts once.
    async fn a_row_that_very_many_read_is_a_scan(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        bench.log().register(&"b".into(), &[("product".into(), "1".into()), ("seller".into(), "1".into())]).await.unwrap();
        let most = Touch::MOST_READERS;
        let read_by = |ids: std::ops::Range<usize>| having_read(0, ids.map(|id| reads(&format!("{id:05}"), 0, &[1])).collect());
        let ended = async || {
            for (name, owned) in [("a", &a), ("b", &b)] {
                let mut done = passed(0, &[]);
                done.scans = bench.log().scans(&name.into()).await.unwrap();
                for scan in &mut done.scans {
                    scan.finished = true;
                }
                done.number = bench.log().head().await.unwrap().0;
                bench.settle(owned, done).await.unwrap();
            }
        };
        bench.settle(&a, read_by(0..most)).await.unwrap();
        bench.settle(&b, read_by(0..10)).await.unwrap();
        bench.settle(&b, having_read(0, vec![reads("x", 0, &[2]), reads("00003", 0, &[0, 1])])).await.unwrap();
        ended().await;
        let appended = bench.log().append(&source(), None, &[Touch::Row(row(1))]).await.unwrap();
        assert_eq!((appended.touched, appended.moved), (most as u64, 0));
        assert!(bench.log().scans(&"a".into()).await.unwrap()[0].finished);

        bench.settle(&b, read_by(most..most + 1)).await.unwrap();
        ended().await;
        // One of the too many is touched by another row.
        let touches = [0, 1, 2].map(|id| Touch::Row(row(id)));
        let appended = bench.log().append(&source(), None, &touches).await.unwrap();
        assert_eq!((appended.touched, appended.moved, appended.head.0), (2, 1, most as u64 + 3));
        for (name, collections) in [("a", 1), ("b", 2)] {
            let scans = bench.log().scans(&name.into()).await.unwrap();
            assert_eq!(scans.len(), collections);
            for scan in scans {
                let started = scan.collection.as_str() == "product";
                assert_eq!((scan.both || !started, !scan.finished), (true, started), "{name} {scan:?}");
            }
        }
        // Whoever is being built from its former state is told apart all the same.
        let again = bench.settle(&a, having_read(0, vec![reads("00001", 1, &[1])])).await.unwrap();
        assert_eq!((again.touched, again.moved), (1, 1));
        bench.counts("a").await;
    }
}
