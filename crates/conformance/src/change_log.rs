//! What every change log must do, whatever it is stored in: one case for each promise of
//! [`instep_core::ChangeLog`], those about recorded reads in `reads`, and a property over random histories (`model`).
//!
//! A store runs all of them by one line in its tests: `instep_conformance::change_log_suite!(fresh_place());`. Each case
//! is a test of its own, so that a failing line names it.

#![allow(clippy::unwrap_used)] // a suite fails by panicking

mod model;
mod placements;
mod reads;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use instep_core::{
    Appended, ChangeLog, CollectionName, Counts, DocId, DocKey, Entry, FanOut, Fault, Key, Outcome, Owned,
    Position, Result, Scan, Seq, SetName, SetState, SetStatus, Settlement, Side, SourceName, Touch, Trouble,
    Value,
};

pub use model::any_history;
pub use placements::placements_are_kept_until_they_are_forgotten;
pub use reads::{
    a_row_that_very_many_read_is_a_scan, a_row_touched_while_it_was_read_is_read_again,
    reads_are_replaced_by_the_last_build, reads_go_with_their_collection_and_set,
    touched_rows_touch_their_readers,
};

/// The time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A store that was empty when it was made. Opening it again, after the log that was opened before is dropped, finds
/// what was acknowledged.
pub trait Place: Send + Sync {
    /// Opens the log.
    fn open(&self, clock: Clock) -> Box<dyn ChangeLog>;
}

/// Runs all cases on a change log; the argument makes a new empty [`Place`] for each.
#[macro_export]
macro_rules! change_log_suite {
    ($fresh:expr) => {
        $crate::change_log_suite!($fresh;
            numbers_follow_the_order_of_touches touching_again_moves_the_entry positions_are_kept_with_touches
            a_new_set_starts_at_the_head a_known_set_scans_what_changed a_removed_collection_takes_its_trouble_along
            settlements_that_are_alike_are_told_apart_by_number
            only_the_last_owner_works unknown_sets_are_not_found tickets_only_rise
            settling_counts_each_number_once unaccounted_numbers_are_refused folded_numbers_are_counted
            a_retry_heals_by_its_outcome a_later_touch_supersedes_trouble trouble_ahead_of_the_position
            a_troubled_number_that_was_folded_is_counted_once stale_trouble_is_counted_once troubles_are_listed
            restarted_scans_are_not_overwritten touched_collections_are_scanned_by_every_set
            fan_outs_survive_until_expanded entries_are_forgotten_when_all_sets_passed retiring_sets_hold_nothing_back
            states_are_kept memos_are_kept concurrent_appends_are_all_kept
            touched_rows_touch_their_readers a_row_touched_while_it_was_read_is_read_again
            reads_are_replaced_by_the_last_build reads_go_with_their_collection_and_set
            a_row_that_very_many_read_is_a_scan placements_are_kept_until_they_are_forgotten any_history);
    };
    ($fresh:expr; $($case:ident)+) => {
        mod change_log_suite {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::change_log::$case(&|| Box::new($fresh));
                }
            )+
        }
    };
}

/// Makes a new empty place.
pub type Fresh<'a> = &'a dyn Fn() -> Box<dyn Place>;

/// A place with its log open and a clock that the case sets.
pub(crate) struct Bench {
    place: Box<dyn Place>,
    log: Option<Box<dyn ChangeLog>>,
    now: Arc<AtomicU64>,
}

impl Bench {
    pub(crate) fn new(fresh: Fresh<'_>) -> Bench {
        let mut bench = Bench {
            place: fresh(),
            log: None,
            now: Arc::new(AtomicU64::new(1_700_000_000_000)),
        };
        bench.reopen();
        bench
    }

    pub(crate) fn reopen(&mut self) {
        self.log = None;
        let now = self.now.clone();
        self.log = Some(self.place.open(Arc::new(move || now.load(Ordering::Relaxed))));
    }

    pub(crate) fn log(&self) -> &dyn ChangeLog {
        &**self.log.as_ref().expect("open between reopens")
    }

    async fn touch(&self, ids: &[&str]) -> u64 {
        let touches: Vec<Touch> = ids.iter().map(|id| Touch::Document(doc(id))).collect();
        self.log().append(&source(), None, &touches).await.unwrap().head.0
    }

    async fn set(&self, name: &str) -> Owned {
        self.log().register(&name.into(), &products("1")).await.unwrap();
        self.log().own(&name.into(), "test").await.unwrap()
    }

    async fn settle(&self, owned: &Owned, done: Settlement) -> Result<Appended> {
        self.log().settle(owned, &done).await
    }

    async fn take(&self, owned: &Owned, after: u64) -> Vec<(u64, String)> {
        let entries = self.log().take(owned, Seq(after), 1_000).await.unwrap().entries;
        entries
            .into_iter()
            .map(|Entry { seq, key }| (seq.0, key.id.to_string()))
            .collect()
    }

    async fn status(&self, set: &str) -> SetStatus {
        let all = self.log().status().await.unwrap();
        all.into_iter().find(|status| status.set.as_str() == set).unwrap()
    }

    /// The counters, which must be conserved.
    async fn counts(&self, set: &str) -> Counts {
        let counts = self.status(set).await.counts;
        counts.conserved().unwrap();
        counts
    }
}

/// Runs a case to its end.
pub(crate) fn block_on<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(case)
}

fn source() -> SourceName {
    "shop".into()
}

pub(crate) fn doc(id: &str) -> DocKey {
    DocKey {
        collection: "product".into(),
        id: DocId::parse(id).unwrap(),
    }
}

fn products(fingerprint: &str) -> Vec<(CollectionName, String)> {
    vec![("product".into(), fingerprint.into())]
}

fn passed(position: u64, passed: &[(u64, Outcome)]) -> Settlement {
    Settlement {
        position: Seq(position),
        passed: passed
            .iter()
            .map(|(seq, outcome)| (Seq(*seq), *outcome))
            .collect(),
        ..Settlement::default()
    }
}

fn trouble(id: &str, seq: u64, next_ms: Option<i64>) -> Trouble {
    Trouble {
        key: doc(id),
        seq: Seq(seq),
        code: "mapping_refused".into(),
        reason: "the field price is no number".into(),
        attempts: 1,
        next_ms,
    }
}

fn refused<T>(result: Result<T>) -> (Fault, &'static str) {
    match result {
        Ok(_) => panic!("this must be refused"),
        Err(error) => (error.fault(), error.code()),
    }
}

macro_rules! cases {
    ($($(#[$doc:meta])* async fn $name:ident($bench:ident) $body:block)+) => {
        $(
            $(#[$doc])*
            pub fn $name(fresh: Fresh<'_>) {
                let mut bench = Bench::new(fresh);
                block_on(async {
                    let $bench = &mut bench;
                    $body
                });
            }
        )+
    };
}
use cases;

cases! {
    /// Numbers are consecutive, in the order given; entries come back in the order of their numbers.
    async fn numbers_follow_the_order_of_touches(bench) {
        let owned = bench.set("a").await;
        assert_eq!(bench.touch(&["1", "2", "3"]).await, 3);
        assert_eq!(bench.touch(&["4"]).await, 4);
        assert_eq!(bench.log().head().await.unwrap(), Seq(4));
        let numbered = |pairs: &[(u64, &str)]| -> Vec<(u64, String)> {
            pairs.iter().map(|(seq, id)| (*seq, (*id).to_owned())).collect()
        };
        assert_eq!(bench.take(&owned, 0).await, numbered(&[(1, "1"), (2, "2"), (3, "3"), (4, "4")]));
        assert_eq!(bench.take(&owned, 2).await, numbered(&[(3, "3"), (4, "4")]));
        let two = bench.log().take(&owned, Seq(1), 2).await.unwrap().entries;
        assert_eq!(two.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [2, 3]);
        bench.reopen();
        assert_eq!(bench.take(&owned, 3).await, numbered(&[(4, "4")]));
    }

    /// One entry for each document: a second touch moves it to the tail, in one collection only.
    async fn touching_again_moves_the_entry(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2"]).await;
        let other = DocKey { collection: "seller".into(), id: DocId::parse("1").unwrap() };
        let touches = [Touch::Document(doc("1")), Touch::Document(doc("9")), Touch::Document(other)];
        let appended = bench.log().append(&source(), None, &touches).await.unwrap();
        assert_eq!((appended.head.0, appended.touched, appended.moved), (5, 3, 1));
        let seqs: Vec<u64> = bench.take(&owned, 0).await.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(seqs, [2, 3, 4, 5]);
        let status = bench.status("a").await;
        assert_eq!((status.pending, status.counts.touches, status.counts.ahead), (4, 5, 5));
    }

    /// A source's position is written by the append that brings it, and read back after reopening.
    async fn positions_are_kept_with_touches(bench) {
        let at = |at: &str| Position { identity: "db-7".into(), at: at.into() };
        assert_eq!(bench.log().position(&source()).await.unwrap(), None);
        bench.log().append(&source(), Some(&at("10")), &[]).await.unwrap();
        bench.log().append(&source(), None, &[Touch::Document(doc("1"))]).await.unwrap();
        bench.log().append(&"other".into(), Some(&at("99")), &[]).await.unwrap();
        assert_eq!(bench.log().position(&source()).await.unwrap(), Some(at("10")));
        bench.log().append(&source(), Some(&at("11")), &[Touch::Document(doc("1"))]).await.unwrap();
        bench.reopen();
        assert_eq!(bench.log().position(&source()).await.unwrap(), Some(at("11")));
        assert_eq!(bench.log().position(&"other".into()).await.unwrap(), Some(at("99")));
    }

    /// A new set has nothing behind it, and a scan from one side: its indexes are empty.
    async fn a_new_set_starts_at_the_head(bench) {
        bench.touch(&["1", "2"]).await;
        let owned = bench.set("a").await;
        assert_eq!(owned.position, Seq(2));
        let status = bench.status("a").await;
        assert_eq!(status.state, SetState::Following);
        assert_eq!((status.position, status.head, status.pending), (Seq(2), Seq(2), 0));
        assert_eq!(status.counts, Counts::default());
        let scans = bench.log().scans(&"a".into()).await.unwrap();
        assert_eq!(scans.len(), 1);
        let scan = &scans[0];
        assert_eq!((scan.fingerprint.as_str(), scan.side, scan.both, scan.finished), ("1", Side::Source, false, false));
        assert_eq!((scan.after.as_deref(), scan.done), (None, 0));
    }

    /// Registering again keeps position and scans, except of new and edited collections, which are scanned from both sides.
    async fn a_known_set_scans_what_changed(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1"]).await;
        bench.settle(&owned, passed(1, &[(1, Outcome::Indexed)])).await.unwrap();
        let before = bench.log().scans(&"a".into()).await.unwrap();
        bench.log().register(&"a".into(), &products("1")).await.unwrap();
        assert_eq!(bench.log().scans(&"a".into()).await.unwrap(), before);
        let collections = [("product".into(), "2".to_owned()), ("seller".into(), "1".to_owned())];
        bench.log().register(&"a".into(), &collections).await.unwrap();
        let after = bench.log().scans(&"a".into()).await.unwrap();
        let seen: Vec<_> = after.iter().map(|scan| (scan.collection.as_str(), scan.fingerprint.as_str(), scan.both)).collect();
        assert_eq!(seen, [("product", "2", true), ("seller", "1", true)]);
        assert!(after[0].run > before[0].run);
        assert_eq!(bench.status("a").await.position, Seq(1));
    }

    /// What is no longer defined has neither scan nor trouble, and the sum still holds.
    async fn a_removed_collection_takes_its_trouble_along(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1"]).await;
        let mut done = passed(1, &[(1, Outcome::Dead)]);
        done.troubles = vec![trouble("1", 1, None), trouble("2", 0, None)];
        bench.settle(&owned, done).await.unwrap();
        bench.log().register(&"a".into(), &[("seller".into(), "1".into())]).await.unwrap();
        assert_eq!(bench.log().troubles(&"a".into(), None, 10).await.unwrap(), []);
        let scans = bench.log().scans(&"a".into()).await.unwrap();
        assert_eq!(scans.iter().map(|scan| scan.collection.as_str()).collect::<Vec<_>>(), ["seller"]);
        let counts = bench.counts("a").await;
        assert_eq!((counts.deleted, counts.dead, counts.dead_letters), (1, 0, 0));
    }

    /// A settlement sent again counts once; another one that is like it counts.
    async fn settlements_that_are_alike_are_told_apart_by_number(bench) {
        let owned = bench.set("a").await;
        let counted = |number| Settlement { number, scanned: 7, ..Settlement::default() };
        for number in [1, 1, 2, 3, 3] {
            bench.settle(&owned, counted(number)).await.unwrap();
        }
        assert_eq!(bench.counts("a").await.scanned, 21);
    }

    /// Each owner fences out the former, in one set only, also after reopening.
    async fn only_the_last_owner_works(bench) {
        let first = bench.set("a").await;
        let other = bench.set("b").await;
        bench.touch(&["1"]).await;
        let second = bench.log().own(&"a".into(), "second").await.unwrap();
        assert!(second.epoch > first.epoch);
        bench.reopen();
        let lost = (Fault::Conflict, "ownership_lost");
        assert_eq!(refused(bench.log().take(&first, Seq(0), 1).await), lost);
        assert_eq!(refused(bench.settle(&first, passed(1, &[(1, Outcome::Indexed)])).await), lost);
        assert_eq!(bench.status("a").await.position, Seq(0));
        bench.settle(&second, passed(1, &[(1, Outcome::Indexed)])).await.unwrap();
        bench.settle(&other, passed(1, &[(1, Outcome::Deleted)])).await.unwrap();
        assert_eq!(bench.log().own(&"a".into(), "third").await.unwrap().position, Seq(1));
    }

    /// A set that was never registered is named as unknown by every call on it.
    async fn unknown_sets_are_not_found(bench) {
        let set: SetName = "nobody".into();
        let owned = Owned { set: set.clone(), epoch: instep_core::Epoch(1), position: Seq(0) };
        let unknown = (Fault::NotFound, "unknown_set");
        let log = bench.log();
        assert_eq!(refused(log.own(&set, "test").await), unknown);
        assert_eq!(refused(log.take(&owned, Seq(0), 1).await), unknown);
        assert_eq!(refused(log.settle(&owned, &Settlement::default()).await), unknown);
        assert_eq!(refused(log.rescan(&set, &products("1"), true).await), unknown);
        assert_eq!(refused(log.scans(&set).await), unknown);
        assert_eq!(refused(log.due(&set, 0, 1).await), unknown);
        assert_eq!(refused(log.troubles(&set, None, 1).await), unknown);
        assert_eq!(refused(log.trouble_of(&set, &[]).await), unknown);
        assert_eq!(refused(log.set_state(&set, &SetState::Paused).await), unknown);
    }

    /// Tickets rise over takes, owners, reopening and a clock that goes back, and follow the clock.
    async fn tickets_only_rise(bench) {
        let mut owned = bench.set("a").await;
        let mut last = 0;
        let mut clock = bench.now.load(Ordering::Relaxed);
        let first = clock;
        for round in 0..400u64 {
            clock = match round % 4 {
                0 => clock + 30_000,
                1 => clock - 45_000,
                2 => clock + 1,
                _ => clock + 7_000,
            };
            bench.now.store(clock, Ordering::Relaxed);
            if round % 7 == 0 {
                bench.reopen();
            }
            if round % 11 == 0 {
                owned = bench.log().own(&"a".into(), "next").await.unwrap();
            }
            let ticket = bench.log().take(&owned, Seq(0), 1).await.unwrap().ticket;
            assert!(ticket.0 > last, "round {round}");
            last = ticket.0;
        }
        bench.now.store(first + 3_600_000, Ordering::Relaxed);
        let ticket = bench.log().take(&owned, Seq(0), 1).await.unwrap().ticket;
        assert!(ticket.0 >= (first + 3_600_000) << 20);
        assert!(bench.status("a").await.last_ticket >= ticket);
    }

    /// Outcomes are counted once, also when the settlement is sent twice; the position never goes back.
    async fn settling_counts_each_number_once(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2", "3", "4"]).await;
        let mut done = passed(3, &[(3, Outcome::Superseded), (1, Outcome::Indexed), (2, Outcome::Deleted)]);
        done.scanned = 5;
        bench.settle(&owned, done.clone()).await.unwrap();
        bench.reopen();
        bench.settle(&owned, done.clone()).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.indexed, counts.deleted, counts.superseded, counts.ahead, counts.scanned), (1, 1, 1, 1, 5));
        assert_eq!(refused(bench.settle(&owned, passed(2, &[(2, Outcome::Indexed)])).await), (Fault::Conflict, "position_behind"));
        bench.settle(&owned, passed(4, &[(3, Outcome::Indexed), (4, Outcome::Indexed)])).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.indexed, counts.superseded, counts.ahead), (2, 1, 0));
    }

    /// A number that was neither built nor folded is never passed, and a refused settlement leaves nothing behind.
    async fn unaccounted_numbers_are_refused(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2", "3"]).await;
        let unaccounted = (Fault::Fatal, "unaccounted");
        let mut done = passed(3, &[(1, Outcome::Indexed), (3, Outcome::Retrying)]);
        done.troubles = vec![trouble("3", 3, Some(7))];
        assert_eq!(refused(bench.settle(&owned, done).await), unaccounted);
        assert_eq!(bench.log().troubles(&"a".into(), None, 10).await.unwrap(), []);
        let all = [(1, Outcome::Indexed), (2, Outcome::Indexed), (3, Outcome::Indexed), (4, Outcome::Indexed)];
        assert_eq!(refused(bench.settle(&owned, passed(4, &all)).await), unaccounted);
        let bad = (Fault::Fatal, "bad_settlement");
        assert_eq!(refused(bench.settle(&owned, passed(1, &all[..2])).await), bad);
        assert_eq!(refused(bench.settle(&owned, passed(2, &[all[0], all[0], all[1]])).await), bad);
        let mut drawn = passed(0, &[]);
        drawn.troubles = vec![trouble("3", 4, None)];
        assert_eq!(refused(bench.settle(&owned, drawn).await), bad);
        let mut healed = passed(0, &[]);
        healed.healed = vec![(doc("1"), Outcome::Dead)];
        assert_eq!(refused(bench.settle(&owned, healed).await), bad);
        let counts = bench.counts("a").await;
        assert_eq!((counts.built(), counts.ahead), (0, 3));
    }

    /// A number whose entry moved on counts as folded, unless it was built before that; each set counts for itself.
    async fn folded_numbers_are_counted(bench) {
        let (fast, slow) = (bench.set("fast").await, bench.set("slow").await);
        bench.touch(&["1", "2"]).await;
        bench.settle(&fast, passed(2, &[(1, Outcome::Indexed), (2, Outcome::Indexed)])).await.unwrap();
        bench.touch(&["1"]).await;
        bench.touch(&["1"]).await;
        bench.settle(&fast, passed(4, &[(4, Outcome::Indexed)])).await.unwrap();
        assert_eq!(bench.counts("fast").await.folded, 1);
        // Taken as number 1, built, and touched again meanwhile: built, not folded.
        bench.settle(&slow, passed(4, &[(1, Outcome::Indexed), (2, Outcome::Indexed), (4, Outcome::Indexed)])).await.unwrap();
        let counts = bench.counts("slow").await;
        assert_eq!((counts.indexed, counts.folded), (3, 1));
    }

    /// The touch behind a retry, or behind a dead letter that a scan builds, ends in the outcome of that build.
    async fn a_retry_heals_by_its_outcome(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2"]).await;
        let mut done = passed(2, &[(1, Outcome::Retrying), (2, Outcome::Dead)]);
        done.troubles = vec![trouble("1", 1, Some(100)), trouble("2", 2, None), trouble("3", 0, None)];
        bench.settle(&owned, done).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.retrying, counts.dead, counts.retries, counts.dead_letters), (1, 1, 1, 2));
        // The retry fails for good, and a scan fails on the same document: the touch still stands behind it.
        for (seq, attempts) in [(1, 2), (0, 3)] {
            let mut again = passed(2, &[]);
            again.troubles = vec![Trouble { attempts, ..trouble("1", seq, None) }];
            bench.settle(&owned, again).await.unwrap();
            let counts = bench.counts("a").await;
            assert_eq!((counts.retrying, counts.dead, counts.dead_letters), (0, 2, 3));
            let known = bench.log().trouble_of(&"a".into(), &[doc("1")]).await.unwrap().remove(0).unwrap();
            assert_eq!((known.seq, known.attempts), (Seq(1), attempts));
        }
        let mut healed = passed(2, &[]);
        healed.healed = vec![(doc("1"), Outcome::Indexed), (doc("2"), Outcome::Deleted), (doc("3"), Outcome::Indexed), (doc("4"), Outcome::Indexed)];
        healed.scanned = 4;
        bench.settle(&owned, healed.clone()).await.unwrap();
        bench.settle(&owned, healed).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.indexed, counts.deleted, counts.dead, counts.dead_letters, counts.scanned), (1, 1, 0, 0, 4));
    }

    /// When a later touch of the document is built, whether it fails or not, the touch behind the trouble is superseded.
    async fn a_later_touch_supersedes_trouble(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2"]).await;
        let mut done = passed(2, &[(1, Outcome::Dead), (2, Outcome::Retrying)]);
        done.troubles = vec![trouble("1", 1, None), trouble("2", 2, Some(5))];
        bench.settle(&owned, done).await.unwrap();
        bench.touch(&["1", "2"]).await;
        // Number 4 is finished before number 3: what it ended is counted at once, itself when it is passed.
        let mut fourth = passed(2, &[]);
        fourth.healed = vec![(doc("2"), Outcome::Indexed)];
        bench.settle(&owned, fourth).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.superseded, counts.indexed, counts.dead, counts.retrying), (1, 0, 1, 0));
        let mut third = passed(4, &[(3, Outcome::Dead), (4, Outcome::Indexed)]);
        third.troubles = vec![trouble("1", 3, None)];
        bench.settle(&owned, third).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.superseded, counts.indexed, counts.dead), (2, 1, 1));
        let known = bench.log().trouble_of(&"a".into(), &[doc("1")]).await.unwrap().remove(0).unwrap();
        assert_eq!(known.seq, Seq(3));
    }

    /// Trouble may be known before the position passes its number; it counts from then on, or as superseded if a later
    /// build ended it in between.
    async fn trouble_ahead_of_the_position(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2", "3"]).await;
        let mut early = passed(0, &[]);
        early.troubles = vec![trouble("2", 2, Some(1)), trouble("3", 3, None)];
        bench.settle(&owned, early).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.ahead, counts.retrying, counts.retries, counts.dead_letters), (3, 0, 1, 1));
        let mut healed = passed(0, &[]);
        healed.healed = vec![(doc("2"), Outcome::Indexed)];
        bench.settle(&owned, healed).await.unwrap();
        assert_eq!(bench.counts("a").await.indexed, 0);
        let all = [(1, Outcome::Indexed), (2, Outcome::Retrying), (3, Outcome::Dead)];
        bench.settle(&owned, passed(3, &all)).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.indexed, counts.superseded, counts.dead), (1, 1, 1));
    }

    /// An owner that failed a number and died; its document was touched again, so the next owner never sees the number.
    async fn a_troubled_number_that_was_folded_is_counted_once(bench) {
        let first = bench.set("a").await;
        bench.touch(&["1", "2"]).await;
        let mut failed = passed(0, &[]);
        failed.troubles = vec![trouble("1", 1, None), trouble("2", 2, None)];
        bench.settle(&first, failed).await.unwrap();
        bench.touch(&["1"]).await;
        bench.reopen();
        let second = bench.log().own(&"a".into(), "second").await.unwrap();
        let mut done = passed(2, &[(2, Outcome::Indexed)]);
        done.healed = vec![(doc("2"), Outcome::Indexed)];
        bench.settle(&second, done).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.dead, counts.folded, counts.indexed, counts.ahead), (1, 0, 1, 1));
        let mut last = passed(3, &[(3, Outcome::Indexed)]);
        last.healed = vec![(doc("1"), Outcome::Indexed)];
        bench.settle(&second, last).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.dead, counts.superseded, counts.indexed), (0, 1, 2));
    }

    /// Trouble under a number that is counted already, and a number passed in order while its trouble stays, break no sum.
    async fn stale_trouble_is_counted_once(bench) {
        let owned = bench.set("a").await;
        bench.touch(&["1", "2"]).await;
        let mut early = passed(0, &[]);
        early.troubles = vec![trouble("2", 2, None)];
        bench.settle(&owned, early).await.unwrap();
        bench.settle(&owned, passed(2, &[(1, Outcome::Indexed), (2, Outcome::Indexed)])).await.unwrap();
        let mut stale = passed(2, &[]);
        stale.troubles = vec![trouble("1", 1, Some(1))];
        bench.settle(&owned, stale).await.unwrap();
        let mut again = passed(2, &[]);
        again.troubles = vec![Trouble { attempts: 2, ..trouble("1", 1, Some(1)) }];
        bench.settle(&owned, again).await.unwrap();
        let counts = bench.counts("a").await;
        assert_eq!((counts.indexed, counts.dead, counts.retrying), (2, 0, 0));
        assert_eq!((counts.dead_letters, counts.retries), (1, 1));
    }

    /// By time when due, by key when listed, by the order asked for when looked up.
    async fn troubles_are_listed(bench) {
        let owned = bench.set("a").await;
        bench.set("b").await;
        let mut done = passed(0, &[]);
        done.troubles = vec![trouble("1", 0, Some(300)), trouble("2", 0, None), trouble("3", 0, Some(100)), trouble("4", 0, Some(200))];
        bench.settle(&owned, done).await.unwrap();
        bench.reopen();
        let (a, b): (SetName, SetName) = ("a".into(), "b".into());
        let ids = |found: Vec<Trouble>| found.iter().map(|trouble| trouble.key.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(bench.log().due(&a, 250, 10).await.unwrap()), ["3", "4"]);
        assert_eq!(ids(bench.log().due(&a, 1_000, 2).await.unwrap()), ["3", "4"]);
        assert_eq!(ids(bench.log().due(&a, 99, 10).await.unwrap()), [""; 0]);
        assert_eq!(ids(bench.log().troubles(&a, None, 3).await.unwrap()), ["1", "2", "3"]);
        assert_eq!(ids(bench.log().troubles(&a, Some(&doc("3")), 3).await.unwrap()), ["4"]);
        assert_eq!(ids(bench.log().troubles(&b, None, 3).await.unwrap()), [""; 0]);
        let known = bench.log().trouble_of(&a, &[doc("4"), doc("9"), doc("2")]).await.unwrap();
        assert_eq!(known, [Some(trouble("4", 0, Some(200))), None, Some(trouble("2", 0, None))]);
        assert_eq!(bench.status("a").await.lag(), 1 + 3);
    }

    /// Progress that was made before a restart does not undo the restart.
    async fn restarted_scans_are_not_overwritten(bench) {
        let owned = bench.set("a").await;
        let walk = |scan: &Scan, after: &str, done: u64| Scan { after: Some(after.into()), done, ..scan.clone() };
        let first = bench.log().scans(&"a".into()).await.unwrap().remove(0);
        let mut done = passed(0, &[]);
        done.scans = vec![walk(&first, "10", 10)];
        bench.settle(&owned, done).await.unwrap();
        bench.reopen();
        let seen = bench.log().scans(&"a".into()).await.unwrap().remove(0);
        assert_eq!((seen.after.as_deref(), seen.done), (Some("10"), 10));

        bench.log().rescan(&"a".into(), &products("1"), true).await.unwrap();
        let mut late = passed(0, &[]);
        late.scans = vec![Scan { finished: true, side: Side::Engine, ..walk(&first, "20", 20) }];
        bench.settle(&owned, late).await.unwrap();
        let again = bench.log().scans(&"a".into()).await.unwrap().remove(0);
        assert_eq!((again.after.as_deref(), again.done, again.finished, again.both), (None, 0, false, true));
        assert_eq!(again.side, Side::Source);
        let mut done = passed(0, &[]);
        done.scans = vec![Scan { finished: true, side: Side::Engine, ..walk(&again, "z", 30) }];
        bench.settle(&owned, done).await.unwrap();
        let last = bench.log().scans(&"a".into()).await.unwrap().remove(0);
        assert_eq!((last.side, last.done, last.finished), (Side::Engine, 30, true));
        assert_eq!(bench.status("a").await.lag(), 0);
    }

    /// A touched table scans its collections from both sides in every set that has them and is not retiring.
    async fn touched_collections_are_scanned_by_every_set(bench) {
        for set in ["a", "b", "gone"] {
            let owned = bench.set(set).await;
            let scan = bench.log().scans(&set.into()).await.unwrap().remove(0);
            let mut done = passed(0, &[]);
            done.scans = vec![Scan { finished: true, done: 7, ..scan }];
            bench.settle(&owned, done).await.unwrap();
        }
        bench.log().set_state(&"gone".into(), &SetState::Retiring).await.unwrap();
        let touches = [Touch::Scan("product".into()), Touch::Scan("unheard_of".into())];
        let appended = bench.log().append(&source(), None, &touches).await.unwrap();
        assert_eq!((appended.head, appended.touched), (Seq(0), 0));
        for (set, restarted) in [("a", true), ("b", true), ("gone", false)] {
            let scans = bench.log().scans(&set.into()).await.unwrap();
            assert_eq!(scans.len(), 1);
            let scan = &scans[0];
            assert_eq!((scan.both, !scan.finished, scan.done == 0), (restarted, restarted, restarted), "{set}");
            assert_eq!(scan.fingerprint, "1");
        }
    }

    /// Fan-outs come back oldest first; a step replaces one and writes its touches; repeating a finished one does no harm.
    async fn fan_outs_survive_until_expanded(bench) {
        let fan_out = |value: i64, after: Option<i64>| FanOut {
            collection: "product".into(),
            fingerprint: "1".into(),
            node: 3,
            values: vec![Value::Int(value), Value::Double(f64::NAN), Value::text("ö")],
            after: after.map(|after| Key::new(vec![Value::Int(after)])),
        };
        bench.set("a").await;
        let touches = [Touch::FanOut(fan_out(1, None)), Touch::FanOut(fan_out(2, None))];
        bench.log().append(&source(), None, &touches).await.unwrap();
        assert_eq!(bench.status("a").await.fan_outs, 2);
        bench.reopen();
        let found = bench.log().fan_outs(10).await.unwrap();
        assert_eq!(found.iter().map(|(_, fan_out)| fan_out.clone()).collect::<Vec<_>>(), [fan_out(1, None), fan_out(2, None)]);
        assert_eq!(bench.log().fan_outs(1).await.unwrap().len(), 1);
        let id = found[0].0;
        let step = [Touch::Document(doc("1")), Touch::FanOut(fan_out(3, None))];
        let appended = bench.log().expanded(id, Some(&fan_out(1, Some(50))), &step).await.unwrap();
        assert_eq!((appended.head, appended.touched), (Seq(1), 1));
        let found = bench.log().fan_outs(10).await.unwrap();
        assert_eq!(found.iter().map(|(_, fan_out)| fan_out.clone()).collect::<Vec<_>>(), [fan_out(1, Some(50)), fan_out(2, None), fan_out(3, None)]);
        bench.log().expanded(id, None, &[Touch::Document(doc("2"))]).await.unwrap();
        bench.log().append(&source(), None, &[Touch::FanOut(fan_out(4, None))]).await.unwrap();
        let appended = bench.log().expanded(id, Some(&fan_out(1, Some(50))), &[Touch::Document(doc("2"))]).await.unwrap();
        assert_eq!((appended.head, appended.moved), (Seq(3), 1));
        let found = bench.log().fan_outs(10).await.unwrap();
        assert_eq!(found.iter().map(|(_, fan_out)| fan_out.clone()).collect::<Vec<_>>(), [fan_out(2, None), fan_out(3, None), fan_out(4, None)]);
    }

    /// The slowest set decides, paused and halted ones too.
    async fn entries_are_forgotten_when_all_sets_passed(bench) {
        let (a, b) = (bench.set("a").await, bench.set("b").await);
        bench.touch(&["1", "2", "3"]).await;
        bench.touch(&["1"]).await;
        let all = [(2, Outcome::Indexed), (3, Outcome::Indexed), (4, Outcome::Indexed)];
        bench.settle(&a, passed(4, &all)).await.unwrap();
        assert_eq!(bench.log().forget().await.unwrap(), 0);
        bench.settle(&b, passed(2, &all[..1])).await.unwrap();
        bench.log().set_state(&"b".into(), &SetState::Paused).await.unwrap();
        assert_eq!(bench.log().forget().await.unwrap(), 1);
        assert_eq!(bench.take(&b, 0).await, [(3, "3".to_owned()), (4, "1".to_owned())]);
        assert_eq!(bench.counts("b").await.ahead, 2);
        bench.settle(&b, passed(4, &all[1..])).await.unwrap();
        assert_eq!(bench.log().forget().await.unwrap(), 2);
        assert_eq!(bench.take(&b, 0).await, []);
        bench.touch(&["1"]).await;
        assert_eq!(bench.take(&a, 4).await, [(5, "1".to_owned())]);
        bench.counts("a").await;
    }

    /// A retiring set lets everything go, and can neither be worked on nor brought back.
    async fn retiring_sets_hold_nothing_back(bench) {
        let (a, gone) = (bench.set("a").await, bench.set("gone").await);
        bench.touch(&["1"]).await;
        bench.log().set_state(&"gone".into(), &SetState::Retiring).await.unwrap();
        bench.touch(&["1"]).await;
        bench.settle(&a, passed(2, &[(2, Outcome::Indexed)])).await.unwrap();
        assert_eq!(bench.log().forget().await.unwrap(), 1);
        bench.counts("gone").await;
        let retiring = (Fault::Conflict, "set_retiring");
        assert_eq!(refused(bench.log().take(&gone, Seq(0), 1).await), retiring);
        assert_eq!(refused(bench.settle(&gone, passed(0, &[])).await), retiring);
        assert_eq!(refused(bench.log().set_state(&"gone".into(), &SetState::Following).await), retiring);
        assert_eq!(refused(bench.log().register(&"gone".into(), &products("1")).await), retiring);
        bench.log().set_state(&"gone".into(), &SetState::Retiring).await.unwrap();
    }

    /// States survive reopening, with the reason of a halt.
    async fn states_are_kept(bench) {
        bench.set("a").await;
        bench.set("b").await;
        let halted = SetState::Halted("the cluster refused our credentials".into());
        for state in [SetState::Paused, halted, SetState::Following] {
            bench.log().set_state(&"a".into(), &state).await.unwrap();
            bench.reopen();
            assert_eq!(bench.status("a").await.state, state);
            assert_eq!(bench.status("b").await.state, SetState::Following);
        }
        let names: Vec<String> = bench.log().status().await.unwrap().iter().map(|status| status.set.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    /// Memos are written, replaced, removed, and survive reopening.
    async fn memos_are_kept(bench) {
        assert_eq!(bench.log().memo("active").await.unwrap(), None);
        bench.log().set_memo("active", Some("a")).await.unwrap();
        bench.log().set_memo("active", Some("b")).await.unwrap();
        bench.log().set_memo("verify", Some("")).await.unwrap();
        bench.reopen();
        assert_eq!(bench.log().memo("active").await.unwrap().as_deref(), Some("b"));
        assert_eq!(bench.log().memo("verify").await.unwrap().as_deref(), Some(""));
        bench.log().set_memo("active", None).await.unwrap();
        assert_eq!(bench.log().memo("active").await.unwrap(), None);
    }

    /// Appends from many tasks at once: each draws its own consecutive numbers, none is lost, none is shared; a refused
    /// call among them undoes only itself, and each reads what was acknowledged to it.
    async fn concurrent_appends_are_all_kept(bench) {
        let owned = bench.set("a").await;
        let mut heads: Vec<u64> = {
        let log = bench.log();
        let one = async |task: usize| {
            let mut heads = Vec::new();
            for step in 0..20 {
                let touches: Vec<Touch> = (0..3).map(|n| Touch::Document(doc(&format!("{task}-{step}-{n}")))).collect();
                heads.push(log.append(&source(), None, &touches).await.unwrap().head.0);
                assert!(log.head().await.unwrap().0 >= heads[step]);
                assert_eq!(refused(log.settle(&owned, &passed(1, &[])).await), (Fault::Fatal, "unaccounted"));
            }
            heads
        };
        let tasks: [_; 8] = std::array::from_fn(one);
        let [a, b, c, d, e, f, g, h] = tasks;
        let (a, b, c, d, e, f, g, h) = tokio::join!(a, b, c, d, e, f, g, h);
        [a, b, c, d, e, f, g, h].concat()
        };
        heads.sort_unstable();
        assert_eq!(heads, (1..=160).map(|n| n * 3).collect::<Vec<u64>>());
        bench.reopen();
        let entries = bench.log().take(&owned, Seq(0), 1_000).await.unwrap().entries;
        assert_eq!(entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), (1..=480).collect::<Vec<u64>>());
        for chunk in entries.chunks(3) {
            let of = |entry: &Entry| entry.key.id.as_str().rsplit_once('-').unwrap().0.to_owned();
            assert!(chunk.iter().all(|entry| of(entry) == of(&chunk[0])));
        }
    }
}
