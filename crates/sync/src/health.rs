//! Which collections of a set cannot be built now, and what is done about each: pure bookkeeping.
//!
//! While a source is away, its collections' documents wait. When the source no longer fits a collection's definition (a
//! table or a column is gone, or must not be read), they wait for a grace time, because a migration may have several
//! steps. Then that collection halts by name: a scan of it is begun, durably, and what is touched from then on is left
//! to that scan, so that it holds nothing back and nothing grows. Now and then the scan tries; once something can be
//! built, the collection goes on, and the scan makes up for all that was left.
//!
//! A collection that a person paused is held back by the same means: its documents wait, or are left to a scan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use instep_core::{CollectionName, Error};
use tokio::time::Instant;

use crate::assemble::is_of_the_definition;
use crate::backoff::Backoff;
use crate::status::{HaltedCollection, Problem};

/// Not before this moment.
pub(crate) struct Hold {
    pub(crate) backoff: Backoff,
    pub(crate) until: Option<Instant>,
}

impl Hold {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Hold { backoff, until: None }
    }

    pub(crate) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Something failed. What fails while it is on already was begun before, and does not count again.
    pub(crate) fn extend(&mut self, now: Instant) -> Instant {
        match self.until.filter(|_| self.is_on(now)) {
            Some(until) => until,
            None => *self.until.insert(now + self.backoff.next()),
        }
    }
}

/// The collections of a set that failed lately.
pub(crate) struct Health {
    grace: Duration,
    /// Failures that are further apart have nothing to do with each other.
    apart: Duration,
    ailing: BTreeMap<CollectionName, Ailing>,
    /// Paused by a person.
    paused: BTreeMap<CollectionName, Pause>,
    /// Went on after they were halted, and nobody wrote it down yet.
    recovered: Vec<CollectionName>,
}

/// What is done with the documents of a paused collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// They wait.
    Waiting,
    /// They are left to a scan, which is begun.
    Left,
}

struct Ailing {
    hold: Hold,
    stage: Stage,
    /// When the source was first and last found not to fit the definition.
    unfit: Option<(Instant, Instant)>,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its documents wait for the hold's end.
    Waiting,
    /// It is to halt once its scan is begun.
    Halting,
    /// What is touched is left to the scan.
    Halted,
    /// It is halted, and the scan tries.
    Trying,
}

impl Health {
    /// All are well. `longest`: the longest wait between two attempts.
    pub(crate) fn new(grace: Duration, longest: Duration) -> Self {
        Health {
            grace,
            apart: grace.max(longest) * 2,
            ailing: BTreeMap::new(),
            paused: BTreeMap::new(),
            recovered: Vec::new(),
        }
    }

    /// Whether no document of this collection may be built now.
    pub(crate) fn is_closed(&self, collection: &CollectionName, now: Instant) -> bool {
        match self.paused.get(collection) {
            Some(Pause::Waiting) => return true,
            // They are landed at once.
            Some(Pause::Left) => return false,
            None => {}
        }
        self.ailing
            .get(collection)
            .is_some_and(|ailing| match ailing.stage {
                Stage::Waiting | Stage::Trying => ailing.hold.is_on(now),
                Stage::Halting => true,
                // They are landed at once.
                Stage::Halted => false,
            })
    }

    /// Whether this collection may not be enumerated now.
    pub(crate) fn is_closed_to_scans(&self, collection: &CollectionName, now: Instant) -> bool {
        if self.paused.contains_key(collection) {
            return true;
        }
        self.ailing
            .get(collection)
            .is_some_and(|ailing| match ailing.stage {
                Stage::Waiting | Stage::Trying | Stage::Halted => ailing.hold.is_on(now),
                Stage::Halting => true,
            })
    }

    /// Whether the documents of this collection are left to its scan.
    pub(crate) fn leaves(&self, collection: &CollectionName) -> bool {
        let ailing = self.ailing.get(collection);
        self.paused.get(collection) == Some(&Pause::Left)
            || ailing.is_some_and(|ailing| ailing.stage == Stage::Halted)
    }

    /// These collections are paused now, and no others. Returns whether one goes on whose documents were left to a scan.
    pub(crate) fn pause(&mut self, collections: BTreeSet<CollectionName>) -> bool {
        let former = std::mem::take(&mut self.paused);
        let mut goes_on = false;
        for (collection, pause) in former {
            match collections.contains(&collection) {
                true => {
                    self.paused.insert(collection, pause);
                }
                false => goes_on |= pause == Pause::Left,
            }
        }
        for collection in collections {
            self.paused.entry(collection).or_insert(Pause::Waiting);
        }
        goes_on
    }

    /// Whether any collection is paused.
    pub(crate) fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// The paused collections whose documents wait.
    pub(crate) fn waiting_paused(&self) -> impl Iterator<Item = &CollectionName> {
        let waiting = self.paused.iter().filter(|(_, pause)| **pause == Pause::Waiting);
        waiting.map(|(collection, _)| collection)
    }

    /// The scan of this paused collection is begun: its documents are left to it.
    pub(crate) fn leave_paused(&mut self, collection: &CollectionName) {
        if let Some(pause) = self.paused.get_mut(collection) {
            *pause = Pause::Left;
        }
    }

    /// Whether this collection is halted, or about to be.
    pub(crate) fn is_halted(&self, collection: &CollectionName) -> bool {
        let ailing = self.ailing.get(collection);
        ailing.is_some_and(|ailing| ailing.stage != Stage::Waiting)
    }

    /// The scan of this collection goes on: when it is halted, it tries.
    pub(crate) fn enumerating(&mut self, collection: &CollectionName) {
        if let Some(ailing) = self.ailing.get_mut(collection)
            && ailing.stage == Stage::Halted
        {
            ailing.stage = Stage::Trying;
        }
    }

    /// A build or a walk over the source failed. Returns when to try again.
    pub(crate) fn failed(
        &mut self,
        collection: &CollectionName,
        error: &Error,
        now: Instant,
        backoff: impl FnOnce() -> Backoff,
    ) -> Instant {
        let ailing = self.ailing.entry(collection.clone()).or_insert_with(|| Ailing {
            hold: Hold::new(backoff()),
            stage: Stage::Waiting,
            unfit: None,
            problem: Problem::of(error),
        });
        if !is_of_the_definition(error) {
            return ailing.hold.extend(now);
        }
        let former = ailing.unfit.filter(|(_, last)| now - *last < self.apart);
        if former.is_none() && ailing.stage == Stage::Waiting {
            ailing.hold.backoff.reset();
        }
        let since = former.map_or(now, |(first, _)| first);
        ailing.unfit = Some((since, now));
        ailing.problem = Problem::of(error);
        match ailing.stage {
            Stage::Waiting if now - since >= self.grace => ailing.stage = Stage::Halting,
            Stage::Trying => ailing.stage = Stage::Halted,
            Stage::Waiting | Stage::Halting => {}
            // What was begun before: it is left.
            Stage::Halted => return now,
        }
        ailing.hold.extend(now)
    }

    /// Something of this collection was built, or there is nothing to build.
    pub(crate) fn works(&mut self, collection: &CollectionName) {
        let Some(ailing) = self.ailing.get_mut(collection) else {
            return;
        };
        match ailing.stage {
            // What was begun before it halted proves nothing.
            Stage::Halting | Stage::Halted => return,
            Stage::Trying => self.recovered.push(collection.clone()),
            Stage::Waiting => {}
        }
        ailing.stage = Stage::Waiting;
        ailing.hold.until = None;
        // A document that reads nothing of what is gone can still be built, so that it is remembered for a while.
        if ailing.unfit.is_none() {
            self.ailing.remove(collection);
        }
    }

    /// The collections that are to halt, each with the reason.
    pub(crate) fn halting(&self) -> Vec<(CollectionName, Problem)> {
        self.shown(|stage| stage == Stage::Halting)
            .map(|(name, ailing)| (name.clone(), ailing.problem.clone()))
            .collect()
    }

    /// The scan of this collection is begun.
    pub(crate) fn halted(&mut self, collection: &CollectionName) {
        if let Some(ailing) = self.ailing.get_mut(collection) {
            ailing.stage = Stage::Halted;
        }
    }

    /// Those that went on and were not written down yet.
    pub(crate) fn recovered(&mut self) -> &mut Vec<CollectionName> {
        &mut self.recovered
    }

    /// The collections that are halted, for people.
    pub(crate) fn all_halted(&self) -> Vec<HaltedCollection> {
        let halted = self.shown(|stage| stage != Stage::Waiting);
        let shown = |(name, ailing): (&CollectionName, &Ailing)| HaltedCollection {
            collection: name.clone(),
            problem: ailing.problem.clone(),
        };
        halted.map(shown).collect()
    }

    /// Whether none is waited for.
    pub(crate) fn is_good(&self) -> bool {
        self.ailing
            .values()
            .all(|ailing| ailing.stage == Stage::Waiting && ailing.hold.until.is_none())
    }

    /// When the next may be tried again.
    pub(crate) fn next_try(&self, now: Instant) -> Option<Instant> {
        let holds = self.ailing.values().map(|ailing| &ailing.hold);
        holds
            .filter(|hold| hold.is_on(now))
            .filter_map(|hold| hold.until)
            .min()
    }

    fn shown(&self, which: impl Fn(Stage) -> bool) -> impl Iterator<Item = (&CollectionName, &Ailing)> {
        self.ailing.iter().filter(move |(_, ailing)| which(ailing.stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30), 1)
    }

    fn gone() -> Error {
        Error::transient("schema_changed", "no such column")
    }

    fn away() -> Error {
        Error::transient("source_away", "the source is away")
    }

    /// A health of one collection, and a clock.
    struct Case {
        health: Health,
        now: Instant,
    }

    fn car() -> CollectionName {
        "car".into()
    }

    impl Case {
        fn new() -> Self {
            Case {
                health: Health::new(Duration::from_secs(10), Duration::from_secs(30)),
                now: Instant::now(),
            }
        }

        fn fail(&mut self, error: &Error) {
            self.health.failed(&car(), error, self.now, backoff);
        }

        fn wait(&mut self, secs: u64) {
            self.now += Duration::from_secs(secs);
        }

        fn is_closed(&self) -> bool {
            self.health.is_closed(&car(), self.now)
        }

        fn leaves(&self) -> bool {
            self.health.leaves(&car())
        }
    }

    #[test]
    fn a_collection_halts_after_the_grace_time_and_goes_on_when_it_can() {
        let mut case = Case::new();
        case.fail(&gone());
        assert!(case.is_closed() && !case.leaves() && !case.health.is_good());
        case.wait(9);
        case.fail(&gone());
        assert!(case.health.halting().is_empty());
        case.wait(1);
        case.fail(&gone());
        assert_eq!(case.health.halting().len(), 1);
        case.wait(60);
        assert!(case.is_closed(), "until its scan is begun");
        case.health.halted(&car());
        assert!(case.leaves() && !case.is_closed());
        assert_eq!(case.health.all_halted().len(), 1);
        case.health.works(&car());
        assert!(case.leaves(), "what was begun before proves nothing");
        case.health.enumerating(&car());
        assert!(!case.leaves() && case.health.is_halted(&car()));
        case.fail(&gone());
        assert!(case.leaves() && case.health.halting().is_empty());
        assert!(case.health.is_closed_to_scans(&car(), case.now));
        case.wait(60);
        assert!(!case.health.is_closed_to_scans(&car(), case.now));
        case.health.enumerating(&car());
        case.health.works(&car());
        assert_eq!(std::mem::take(case.health.recovered()), [car()]);
        assert!(case.health.is_good() && case.health.all_halted().is_empty() && !case.is_closed());
        case.wait(1);
        case.fail(&gone());
        assert_eq!(case.health.halting().len(), 0, "that was over a minute ago");
        case.wait(10);
        case.fail(&gone());
        assert_eq!(case.health.halting().len(), 1);
    }

    #[test]
    fn a_paused_collection_waits_and_then_is_left_to_a_scan() {
        let mut case = Case::new();
        assert!(!case.health.has_paused() && !case.health.pause(BTreeSet::from([car()])));
        case.wait(3_600);
        assert!(case.is_closed() && !case.leaves() && case.health.is_closed_to_scans(&car(), case.now));
        assert!(case.health.is_good(), "nothing is wrong with it");
        assert_eq!(case.health.waiting_paused().collect::<Vec<_>>(), [&car()]);
        case.health.leave_paused(&car());
        // Seen again, it stays left.
        assert!(!case.health.pause(BTreeSet::from([car()])));
        assert!(!case.is_closed() && case.leaves() && case.health.is_closed_to_scans(&car(), case.now));
        assert_eq!(case.health.waiting_paused().count(), 0);
        assert!(case.health.pause(BTreeSet::new()), "its scan runs now");
        assert!(!case.is_closed() && !case.leaves() && !case.health.is_closed_to_scans(&car(), case.now));
        assert!(!case.health.pause(BTreeSet::new()));
    }

    #[test]
    fn what_was_not_whole_after_all_halts_at_once() {
        let mut case = Case::new();
        for _ in 0..12 {
            case.fail(&gone());
            case.health.works(&car());
            case.wait(1);
        }
        assert_eq!(
            case.health.halting().len(),
            1,
            "only some documents read what is gone"
        );
    }

    #[test]
    fn a_source_that_is_away_halts_nothing() {
        let mut case = Case::new();
        for _ in 0..100 {
            case.fail(&away());
            assert!(case.is_closed() && case.health.halting().is_empty());
            case.wait(60);
        }
        case.health.works(&car());
        assert!(case.health.is_good() && case.health.ailing.is_empty());
    }

    #[test]
    fn failures_far_apart_have_nothing_to_do_with_each_other() {
        let mut case = Case::new();
        for _ in 0..10 {
            case.fail(&gone());
            assert!(case.health.halting().is_empty());
            case.health.works(&car());
            case.wait(100);
        }
    }
}
