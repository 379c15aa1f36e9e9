#![allow(clippy::unwrap_used)]
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use instep_core::DocId;
use proptest::prelude::*;

use super::*;

fn key(id: u8) -> DocKey {
    DocKey {
        collection: ["car", "ad"][usize::from(id % 2)].into(),
        id: DocId::parse(&id.to_string()).unwrap(),
    }
}

fn entry(seq: u64, id: u8) -> Entry {
    Entry {
        seq: Seq(seq),
        key: key(id),
    }
}

fn trouble(id: u8, dead: bool) -> Trouble {
    Trouble {
        key: key(id),
        seq: Seq(0),
        code: "misfit".into(),
        reason: String::new(),
        attempts: 1,
        next_ms: (!dead).then_some(1),
    }
}

fn flight() -> Flight {
    Flight::new(Seq(0), false)
}

/// A job that has ended; the flight looks at its key and its reads alone.
fn job(id: u8) -> Job {
    Job {
        key: key(id),
        wanted: Wanted::default(),
        reads: None,
        sweep: Vec::new(),
        placed: None,
    }
}

fn ids(batch: Option<(CollectionName, Vec<Job>)>) -> Vec<String> {
    batch.map_or_else(Vec::new, |(_, jobs)| {
        jobs.iter().map(|job| job.key.id.to_string()).collect()
    })
}

fn next(flight: &mut Flight, lane: Lane) -> Vec<String> {
    ids(flight.next_batch(lane, 10, Instant::now(), |_| false, |_| Duration::ZERO))
}

#[test]
fn a_document_touched_in_flight_waits_and_is_built_again() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 2), entry(2, 4)]);
    assert_eq!(next(&mut flight, Lane::Live), ["2", "4"]);
    flight.arrive(vec![entry(3, 2), entry(5, 2)]);
    assert_eq!(next(&mut flight, Lane::Live), [""; 0]);
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    assert_eq!(flight.settlement(vec![]).unwrap().position, Seq(1));
    assert_eq!(next(&mut flight, Lane::Live), ["2"]);
    flight.land(job(4), Landing::Fine(Outcome::Deleted));
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(settlement.position, Seq(5));
    assert_eq!(
        settlement.passed,
        [(Seq(2), Outcome::Deleted), (Seq(5), Outcome::Indexed)],
        "3 was folded"
    );
    assert!(flight.settlement(vec![]).is_none());
    assert_eq!((flight.len(), flight.held()), (0, 0));
}

/// The first change never waits; those that follow fold until the debounce is over. Scans do not rest.
#[test]
fn a_document_rests_between_builds() {
    let began = Instant::now();
    let mut flight = flight();
    let at = |flight: &mut Flight, lane: Lane, ms: u64| {
        let now = began + Duration::from_millis(ms);
        flight.wake(now);
        ids(flight.next_batch(lane, 10, now, |_| false, |_| Duration::from_millis(100)))
    };
    flight.arrive(vec![entry(1, 2)]);
    assert_eq!(at(&mut flight, Lane::Live, 0), ["2"]);
    flight.arrive(vec![entry(2, 2)]);
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    assert_eq!(at(&mut flight, Lane::Live, 10), [""; 0]);
    assert_eq!(flight.next_delayed(), Some(began + Duration::from_millis(100)));
    flight.arrive(vec![entry(3, 2), entry(4, 4)]);
    assert_eq!(
        at(&mut flight, Lane::Live, 50),
        ["4"],
        "another document does not wait"
    );
    assert_eq!(at(&mut flight, Lane::Live, 100), ["2"]);
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    flight.land(job(4), Landing::Fine(Outcome::Indexed));
    assert_eq!(flight.settlement(vec![]).unwrap().position, Seq(4));
    flight.chunk(vec![key(2)], Request::Source);
    assert_eq!(at(&mut flight, Lane::Second, 110), ["2"]);
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    flight.arrive(vec![entry(5, 2)]);
    assert_eq!(at(&mut flight, Lane::Live, 300), ["2"], "at rest for long");
}

#[test]
fn results_beyond_the_position_are_held() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 2), entry(2, 4), entry(3, 6)]);
    next(&mut flight, Lane::Live);
    flight.land(job(4), Landing::Trouble(trouble(4, true)));
    flight.land(job(6), Landing::Fine(Outcome::Indexed));
    assert!(flight.settlement(vec![]).is_none(), "the first is not finished");
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(settlement.position, Seq(3));
    assert_eq!(
        settlement.troubles,
        [Trouble {
            seq: Seq(2),
            ..trouble(4, true)
        }]
    );
}

#[test]
fn a_later_build_ends_a_trouble_that_is_not_settled() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 2), entry(2, 4)]);
    next(&mut flight, Lane::Live);
    flight.land(job(4), Landing::Trouble(trouble(4, true)));
    let chunk = flight.chunk(vec![key(4), key(2)], Request::Source);
    assert_eq!(next(&mut flight, Lane::Second), ["4"], "2 is in flight");
    flight.land(job(4), Landing::Fine(Outcome::Indexed));
    assert!(!flight.chunk_is_finished(chunk));
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    assert_eq!(
        next(&mut flight, Lane::Second),
        ["2"],
        "the scan reads what may have changed since"
    );
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    assert!(flight.chunk_is_finished(chunk));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(
        settlement.passed,
        [(Seq(1), Outcome::Indexed), (Seq(2), Outcome::Dead)]
    );
    assert_eq!((settlement.troubles.len(), settlement.scanned), (0, 2));
}

#[test]
fn a_scan_that_fails_after_a_held_success_is_not_healed_by_it() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 2), entry(2, 4)]);
    next(&mut flight, Lane::Live);
    flight.land(job(4), Landing::Fine(Outcome::Indexed));
    flight.retry(key(4));
    next(&mut flight, Lane::Second);
    flight.land(job(4), Landing::Trouble(trouble(4, false)));
    flight.land(job(2), Landing::Fine(Outcome::Indexed));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(
        settlement.troubles,
        [Trouble {
            seq: Seq(2),
            ..trouble(4, false)
        }]
    );
    assert_eq!(settlement.passed[1], (Seq(2), Outcome::Retrying));
    assert!(settlement.healed.is_empty());
}

#[test]
fn collections_take_turns_and_closed_ones_wait() {
    let mut flight = flight();
    flight.arrive((1..=6).map(|id| entry(id.into(), id)).collect());
    let first = ids(flight.next_batch(Lane::Live, 2, Instant::now(), |_| false, |_| Duration::ZERO));
    let second = ids(flight.next_batch(Lane::Live, 2, Instant::now(), |_| false, |_| Duration::ZERO));
    assert_eq!([first, second], [["1", "3"], ["2", "4"]]);
    assert_eq!(
        ids(flight.next_batch(
            Lane::Live,
            2,
            Instant::now(),
            |name| name.as_str() == "ad",
            |_| Duration::ZERO
        )),
        ["6"]
    );
    assert_eq!(
        ids(flight.next_batch(
            Lane::Live,
            2,
            Instant::now(),
            |name| name.as_str() == "ad",
            |_| Duration::ZERO
        )),
        [""; 0]
    );
    assert_eq!(flight.waiting(Lane::Live), 1);
}

#[test]
fn a_suspect_is_built_alone() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 2), entry(2, 4), entry(3, 6)]);
    next(&mut flight, Lane::Live);
    let now = Instant::now();
    for id in [2, 4] {
        flight.land(
            job(id),
            Landing::Again {
                at: now,
                attempts: 0,
                alone: true,
                unconfirmed: false,
            },
        );
    }
    flight.land(
        job(6),
        Landing::Again {
            at: now,
            attempts: 1,
            alone: false,
            unconfirmed: false,
        },
    );
    assert_eq!(next(&mut flight, Lane::Live), [""; 0]);
    flight.wake(now);
    assert_eq!(next(&mut flight, Lane::Live), ["2"]);
    assert_eq!(next(&mut flight, Lane::Live), ["4"]);
    assert_eq!(next(&mut flight, Lane::Live), ["6"]);
}

/// What the log does, as far as the flight can see: one entry for each document.
#[derive(Default)]
struct Model {
    head: u64,
    entries: BTreeMap<u64, u8>,
    position: u64,
    passed: HashSet<u64>,
    /// The moment of each document's last touch and of its last build's start that has landed well.
    touched: HashMap<u8, u64>,
    began: HashMap<u8, u64>,
    built: HashMap<u8, u64>,
    troubled: HashSet<u8>,
    flying: HashSet<u8>,
    moment: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Touch(u8),
    Take(usize),
    Start(bool, usize),
    Land(usize, u8),
    Scan(Vec<u8>),
    Retry(u8),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..8_u8).prop_map(Step::Touch),
        2 => (1..5_usize).prop_map(Step::Take),
        3 => (any::<bool>(), 1..4_usize).prop_map(|(live, n)| Step::Start(live, n)),
        4 => (0..8_usize, 0..6_u8).prop_map(|(at, how)| Step::Land(at, how)),
        1 => prop::collection::hash_set(0..8_u8, 0..5).prop_map(|ids| Step::Scan(ids.into_iter().collect())),
        1 => (0..8_u8).prop_map(Step::Retry),
        2 => Just(Step::Settle),
    ]
}

impl Model {
    fn run(&mut self, flight: &mut Flight, now: Instant, step: Step) {
        self.moment += 1;
        match step {
            Step::Touch(id) => {
                self.head += 1;
                self.entries.retain(|_, other| *other != id);
                self.entries.insert(self.head, id);
                self.touched.insert(id, self.moment);
            }
            Step::Take(n) => {
                let after = flight.cursor().0 + 1;
                let taken = self
                    .entries
                    .range(after..)
                    .take(n)
                    .map(|(seq, id)| entry(*seq, *id))
                    .collect();
                flight.arrive(taken);
            }
            Step::Start(live, n) => {
                let lane = if live { Lane::Live } else { Lane::Second };
                let Some((collection, jobs)) =
                    flight.next_batch(lane, n, Instant::now(), |_| false, |_| Duration::ZERO)
                else {
                    return;
                };
                for job in jobs {
                    assert_eq!(job.key.collection, collection);
                    let id = job.key.id.as_str().parse().unwrap();
                    assert!(self.flying.insert(id), "{id} has two live builds");
                    self.began.insert(id, self.moment);
                }
            }
            Step::Land(at, how) => {
                let mut flying: Vec<u8> = self.flying.iter().copied().collect();
                flying.sort_unstable();
                let Some(id) = flying.get(at % flying.len().max(1)).copied() else {
                    return;
                };
                self.flying.remove(&id);
                let began = self.began[&id];
                let landing = match how {
                    0 => Landing::Trouble(trouble(id, true)),
                    1 => Landing::Trouble(trouble(id, false)),
                    2 => Landing::Again {
                        at: now,
                        attempts: 1,
                        alone: false,
                        unconfirmed: false,
                    },
                    _ => Landing::Fine(Outcome::Indexed),
                };
                match how {
                    0 | 1 => {
                        self.built.insert(id, began);
                        self.troubled.insert(id);
                    }
                    2 => {}
                    _ => {
                        self.built.insert(id, began);
                        self.troubled.remove(&id);
                    }
                }
                flight.land(job(id), landing);
                flight.wake(now);
            }
            Step::Scan(ids) => {
                flight.chunk(ids.into_iter().map(key).collect(), Request::Source);
            }
            Step::Retry(id) => flight.retry(key(id)),
            Step::Settle => self.settle(flight),
        }
    }

    fn settle(&mut self, flight: &mut Flight) {
        let Some(done) = flight.settlement(vec![]) else {
            return;
        };
        assert!(done.position.0 >= self.position);
        for (seq, _) in &done.passed {
            assert!(self.passed.insert(seq.0), "{seq} was passed twice");
            assert!(seq.0 > self.position && *seq <= done.position);
        }
        for (seq, id) in &self.entries {
            if *seq <= done.position.0 && *seq > self.position {
                assert!(self.passed.contains(seq), "{seq} is unaccounted");
                assert!(
                    self.built[id] >= self.touched[id],
                    "{id} was not built after its touch"
                );
            }
        }
        self.position = done.position.0;
    }
}

proptest! {
    #[test]
    fn nothing_is_lost(steps in prop::collection::vec(step(), 0..200)) {
        let (mut flight, mut model, now) = (flight(), Model::default(), Instant::now() + Duration::from_secs(1));
        for step in steps {
            model.run(&mut flight, now, step);
        }
        // Everything comes to rest.
        for _ in 0..40 {
            model.run(&mut flight, now, Step::Take(100));
            model.run(&mut flight, now, Step::Start(true, 100));
            model.run(&mut flight, now, Step::Start(false, 100));
            while !model.flying.is_empty() {
                model.run(&mut flight, now, Step::Land(0, 5));
            }
            model.settle(&mut flight);
        }
        prop_assert_eq!(model.position, model.entries.keys().last().copied().unwrap_or(0));
        prop_assert_eq!((flight.len(), flight.held(), flight.waiting(Lane::Live), flight.waiting(Lane::Second)), (0, 0, 0, 0));
        prop_assert!(flight.chunks.is_empty() && flight.loose.is_empty());
    }

    /// The log's troubles, after each settlement, are those of the documents' last builds.
    #[test]
    fn troubles_follow_the_last_build(steps in prop::collection::vec(step(), 0..200)) {
        let (mut flight, mut model, now) = (flight(), Model::default(), Instant::now() + Duration::from_secs(1));
        let mut known: HashSet<String> = HashSet::new();
        let mut note = |done: Option<Settlement>| {
            let Some(done) = done else { return };
            for (key, _) in done.healed {
                known.remove(key.id.as_str());
            }
            known.extend(done.troubles.into_iter().map(|trouble| trouble.key.id.to_string()));
        };
        for step in steps {
            match step {
                Step::Settle => note(flight.settlement(vec![])),
                step => model.run(&mut flight, now, step),
            }
        }
        // What flies lands well or badly; nothing new starts, so held results are settled or stay held.
        while flight.len() > 0 {
            model.run(&mut flight, now, Step::Start(true, 100));
            model.run(&mut flight, now, Step::Start(false, 100));
            while !model.flying.is_empty() {
                let how = u8::from(model.moment % 3 == 0) * 5;
                model.run(&mut flight, now, Step::Land(0, how));
            }
        }
        note(flight.settlement(vec![]));
        let expected: HashSet<String> = model.troubled.iter().map(u8::to_string).collect();
        prop_assert_eq!(known, expected);
    }
}

fn reads(since: u64, rows: &[i64]) -> Option<Reads> {
    let row = |id: &i64| instep_core::RowKey {
        table: "part".into(),
        key: instep_core::Key::new([instep_core::Value::Int(*id)]),
    };
    Some(Reads {
        key: key(2),
        since,
        rows: rows.iter().map(row).collect(),
    })
}

fn read(id: u8, reads: Option<Reads>) -> Job {
    Job { reads, ..job(id) }
}

#[test]
fn what_the_latest_build_read_is_settled() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 4), entry(2, 2)]);
    assert_eq!(next(&mut flight, Lane::Live).len(), 2);
    flight.land(read(2, reads(1, &[7, 8])), Landing::Fine(Outcome::Indexed));
    flight.arrive(vec![entry(3, 2)]);
    assert_eq!(next(&mut flight, Lane::Live), ["2"]);
    flight.land(read(2, reads(2, &[8])), Landing::Fine(Outcome::Indexed));
    flight.land(job(4), Landing::Fine(Outcome::Indexed));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(settlement.reads, [reads(2, &[8]).unwrap()]);
    flight.arrive(vec![entry(4, 2)]);
    assert_eq!(next(&mut flight, Lane::Live), ["2"]);
    let again = Landing::Again {
        at: Instant::now(),
        attempts: 1,
        alone: false,
        unconfirmed: true,
    };
    flight.land(read(2, reads(3, &[9])), again);
    assert!(
        flight.settlement(vec![]).is_none(),
        "nothing is finished, so nothing was read for good"
    );
    flight.wake(Instant::now() + Duration::from_secs(1));
    assert_eq!(next(&mut flight, Lane::Live), ["2"]);
    flight.land(read(2, reads(4, &[])), Landing::Fine(Outcome::Deleted));
    assert_eq!(flight.settlement(vec![]).unwrap().reads, [reads(4, &[]).unwrap()]);
}

#[test]
fn many_rows_on_record_do_not_wait_for_a_slow_document() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 4), entry(2, 2)]);
    assert_eq!(next(&mut flight, Lane::Live).len(), 2);
    let many: Vec<i64> = (0..READS as i64).collect();
    flight.land(read(2, reads(1, &many)), Landing::Fine(Outcome::Indexed));
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!((settlement.position, settlement.reads.len()), (Seq(0), 1));
    assert!(flight.settlement(vec![]).is_none());
}

#[test]
fn what_is_left_to_a_scan_is_passed_and_keeps_its_trouble() {
    let mut flight = Flight::new(Seq(0), true);
    flight.arrive(vec![entry(1, 2), entry(2, 4)]);
    assert_eq!(next(&mut flight, Lane::Live).len(), 2);
    flight.arrive(vec![entry(3, 2)]);
    flight.land(job(2), Landing::Left);
    flight.land(job(4), Landing::Left);
    flight.retry(key(4));
    assert_eq!(next(&mut flight, Lane::Live), ["2"], "it was parked");
    flight.land(job(2), Landing::Left);
    assert_eq!(next(&mut flight, Lane::Second), ["4"]);
    flight.land(job(4), Landing::Left);
    let settlement = flight.settlement(vec![]).unwrap();
    assert_eq!(
        settlement.passed,
        [
            (Seq(1), Outcome::Superseded),
            (Seq(2), Outcome::Superseded),
            (Seq(3), Outcome::Superseded)
        ]
    );
    assert!(settlement.healed.is_empty() && settlement.troubles.is_empty());
    assert_eq!((settlement.scanned, flight.len(), flight.held()), (0, 0, 0));
}

/// What is told of builds: all but what a scan wrote in order, which would push everything else out of the journal.
#[test]
fn builds_are_told_but_for_what_a_scan_wrote_in_order() {
    let mut flight = flight();
    flight.arrive(vec![entry(1, 1)]);
    flight.chunk(vec![key(3), key(5), key(7)], Request::Source);
    flight.retry(key(9));
    let mut told = |lane: Lane, landing: fn(u8) -> Landing| {
        let (_, jobs) = flight
            .next_batch(lane, 10, Instant::now(), |_| false, |_| Duration::ZERO)
            .unwrap();
        for (at, job) in (0..).zip(jobs) {
            let landing = landing(at);
            flight.note(&job, Ticket(8), &landing);
            flight.land(job, landing);
        }
    };
    told(Lane::Live, |_| Landing::Fine(Outcome::Indexed));
    told(Lane::Second, |at| match at {
        0 => Landing::Fine(Outcome::Indexed),
        1 => Landing::Fine(Outcome::Deleted),
        2 => Landing::Trouble(trouble(7, true)),
        _ => Landing::Fine(Outcome::Indexed),
    });
    let settlement = flight.settlement(Vec::new()).unwrap();
    let landed: Vec<_> = settlement
        .landed
        .iter()
        .map(|landed| {
            (
                landed.key.clone(),
                landed.seq,
                landed.outcome,
                landed.code.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        landed,
        [
            (key(1), Some(Seq(1)), Outcome::Indexed, None),
            (key(5), None, Outcome::Deleted, None),
            (key(7), None, Outcome::Dead, Some("misfit")),
            (key(9), None, Outcome::Indexed, None)
        ]
    );
}
