//! Random histories of a change log against a model of it.
//!
//! The model keeps the fate of each single number, where a store keeps counters, and a small world: which touch of each
//! document the engine's copy contains. Owners are honest: they build what they took, one build per document at a time,
//! in any order, with any outcome; they are replaced and killed at any step. Each build reads some rows, and rows are
//! touched at any step: by what each set recorded, the model says exactly which documents that touches, and which ones a
//! settlement touches again. After every settlement the counters agree with the fates, and no touch is lost: it is built,
//! or in trouble, or still ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use instep_core::{
    Appended, Counts, Fault, Key, Outcome, Owned, Reads, RowKey, Scan, Seq, SetName, Settlement, Taken,
    Touch, Trouble, Value,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{Bench, Fresh, block_on, doc, products, refused, source};

const DOCUMENTS: u8 = 6;
const ROWS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// Touch these documents and these rows; bit n is document n, row n.
    Touch(u8, u8),
    /// Touch the whole table.
    TouchTable,
    Take(usize, usize),
    /// Build one of those in flight.
    Build(usize, usize, Built),
    /// Build one of those in trouble.
    Retry(usize, usize, Built),
    /// Build any document in a chunk of the scan.
    Scan(usize, u8, Built),
    /// Handle a chunk of the scan, perhaps the last one.
    Walk(usize, bool),
    Settle(usize),
    Repeat(usize),
    NewOwner(usize),
    Crash,
    Forget,
    AddSet,
    Clock(i32),
}

/// How a build ended, and the rows it read; bit n is row n.
#[derive(Clone, Copy, Debug)]
struct Built {
    outcome: Outcome,
    rows: u8,
}

fn built() -> impl Strategy<Value = Built> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Indexed),
        1 => Just(Outcome::Deleted),
        1 => Just(Outcome::Superseded),
        2 => Just(Outcome::Retrying),
        2 => Just(Outcome::Dead),
    ];
    let rows = prop_oneof![1 => Just(0), 3 => 0..(1u8 << ROWS)];
    (outcome, rows).prop_map(|(outcome, rows)| Built { outcome, rows })
}

fn step() -> impl Strategy<Value = Step> {
    let set = || 0..3usize;
    prop_oneof![
        5 => (1..(1u8 << DOCUMENTS)).prop_map(|documents| Step::Touch(documents, 0)),
        4 => (0..ROWS).prop_map(|row| Step::Touch(0, 1 << row)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(documents, rows)| Step::Touch(documents, rows)),
        1 => Just(Step::TouchTable),
        4 => (set(), 1..5usize).prop_map(|(set, n)| Step::Take(set, n)),
        10 => (set(), 0..8usize, built()).prop_map(|(set, at, built)| Step::Build(set, at, built)),
        3 => (set(), 0..8usize, built()).prop_map(|(set, at, built)| Step::Retry(set, at, built)),
        2 => (set(), 0..DOCUMENTS, built()).prop_map(|(set, id, built)| Step::Scan(set, id, built)),
        2 => (set(), any::<bool>()).prop_map(|(set, last)| Step::Walk(set, last)),
        6 => set().prop_map(Step::Settle),
        1 => set().prop_map(Step::Repeat),
        1 => set().prop_map(Step::NewOwner),
        1 => Just(Step::Crash),
        1 => Just(Step::Forget),
        1 => Just(Step::AddSet),
        1 => (-20_000..20_000i32).prop_map(Step::Clock),
    ]
}

/// Random appends, takes, builds, settlements in and out of order, retries, scans, new owners and crashes keep every
/// promise at every settlement.
pub fn any_history(fresh: Fresh<'_>) {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let histories = prop::collection::vec(step(), 1..120);
    let result = TestRunner::new(config).run(&histories, |steps| block_on(play(fresh, steps)));
    if let Err(error) = result {
        panic!("{error}");
    }
}

async fn play(fresh: Fresh<'_>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World {
        bench: Bench::new(fresh),
        head: 0,
        entries: BTreeMap::new(),
        last_touch: BTreeMap::new(),
        rows: 0,
        touched_rows: [0; ROWS as usize],
        sets: Vec::new(),
    };
    world.add_set().await;
    world.add_set().await;
    for step in steps {
        world.step(&step).await?;
    }
    // Whatever happened, honest work brings every set to the head.
    for set in 0..world.sets.len() {
        world.catch_up(set).await?;
    }
    Ok(())
}

struct World {
    bench: Bench,
    head: u64,
    /// The log's entries that are not forgotten: number by document.
    entries: BTreeMap<u8, u64>,
    last_touch: BTreeMap<u8, u64>,
    /// Appends that touched rows, and the last of them for each row.
    rows: u64,
    touched_rows: [u64; ROWS as usize],
    sets: Vec<Set>,
}

struct Set {
    name: SetName,
    start: u64,
    position: u64,
    /// What became of each number up to the position, unless a trouble stands for it.
    fates: BTreeMap<u64, Fate>,
    troubles: BTreeMap<u8, Known>,
    scanned: u64,
    scan: Walked,
    /// The last touch that the engine's copy of each document contains.
    engine: BTreeMap<u8, u64>,
    last_ticket: u64,
    /// The rows that each document read, as recorded.
    reads: BTreeMap<u8, u8>,
    owner: Option<Owner>,
    last: Option<(Owned, Settlement)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Folded,
    Built(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    seq: u64,
    dead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Default)]
struct Walked {
    done: u64,
    finished: bool,
}

/// What an owner has in memory.
struct Owner {
    owned: Owned,
    after: u64,
    in_flight: Vec<Flying>,
    finished: BTreeMap<u64, Outcome>,
    troubles: BTreeMap<u8, Trouble>,
    healed: BTreeMap<u8, Outcome>,
    scans: Vec<Scan>,
    scanned: u64,
    /// What the builds since the last settlement read, in their order.
    reads: Vec<Read>,
    /// The counter of touched rows at the last take.
    since: u64,
    /// Settlements so far.
    settled: u64,
}

/// An entry that was taken.
#[derive(Clone, Copy)]
struct Flying {
    seq: u64,
    id: u8,
    since: u64,
}

#[derive(Clone, Copy)]
struct Read {
    id: u8,
    since: u64,
    rows: u8,
}

fn in_trouble(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Dead | Outcome::Retrying => true,
        Outcome::Indexed | Outcome::Deleted | Outcome::Superseded => false,
    }
}

fn key(id: u8) -> String {
    format!("d{id}")
}

fn id_of(key: &instep_core::DocKey) -> u8 {
    key.id.as_str()[1..].parse().unwrap()
}

/// The rows in a set of bits. Two tables have the same keys.
fn rows_in(bits: u8) -> impl Iterator<Item = (u8, RowKey)> {
    let rows = (0..ROWS).filter(move |row| bits & (1 << row) != 0);
    rows.map(|row| {
        let table = if row % 2 == 0 { "even" } else { "odd" };
        let key = Key::new(vec![Value::Int(i64::from(row / 2))]);
        (
            row,
            RowKey {
                table: table.into(),
                key,
            },
        )
    })
}

impl Owner {
    /// A build of a document ended, which was drawn when the counter stood at `since`. `seq` is the touch behind it, or 0.
    fn ended(&mut self, id: u8, seq: u64, since: u64, built: Built, attempts: u32) {
        let Built { outcome, rows } = built;
        self.reads.push(Read { id, since, rows });
        if in_trouble(outcome) {
            self.healed.remove(&id);
            let trouble = Trouble {
                key: doc(&key(id)),
                seq: Seq(seq),
                code: "refused".into(),
                reason: "no reason".into(),
                attempts,
                next_ms: (outcome == Outcome::Retrying).then_some(i64::from(id)),
            };
            self.troubles.insert(id, trouble);
        } else {
            self.troubles.remove(&id);
            self.healed.insert(id, outcome);
        }
    }

    fn is_building(&self, id: u8) -> bool {
        self.in_flight.iter().any(|flying| flying.id == id)
            || self.troubles.contains_key(&id)
            || self.healed.contains_key(&id)
    }

    fn settlement(&mut self) -> Settlement {
        let lowest = self.in_flight.iter().map(|flying| flying.seq - 1).min();
        let position = lowest.unwrap_or(self.after);
        let later = self.finished.split_off(&(position + 1));
        let passed = std::mem::replace(&mut self.finished, later);
        self.settled += 1;
        Settlement {
            number: self.settled,
            position: Seq(position),
            passed: passed
                .into_iter()
                .map(|(seq, outcome)| (Seq(seq), outcome))
                .collect(),
            troubles: std::mem::take(&mut self.troubles).into_values().collect(),
            healed: std::mem::take(&mut self.healed)
                .into_iter()
                .map(|(id, outcome)| (doc(&key(id)), outcome))
                .collect(),
            scans: std::mem::take(&mut self.scans),
            scanned: std::mem::take(&mut self.scanned),
            landed: Vec::new(),
            placed: Vec::new(),
            reads: std::mem::take(&mut self.reads)
                .into_iter()
                .map(|read| Reads {
                    key: doc(&key(read.id)),
                    since: read.since,
                    rows: rows_in(read.rows).map(|(_, row)| row).collect(),
                })
                .collect(),
        }
    }
}

impl World {
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Touch(documents, rows) => self.touch(documents, rows).await?,
            Step::TouchTable => {
                let touches = [Touch::Scan("product".into())];
                self.bench.log().append(&source(), None, &touches).await.unwrap();
                for set in &mut self.sets {
                    set.scan = Walked::default();
                }
            }
            Step::Take(set, n) => self.take(set, n).await?,
            Step::Build(set, at, built) => self.build(set, at, built).await,
            Step::Retry(set, at, built) => self.retry(set, at, built).await?,
            Step::Scan(set, id, built) => {
                self.walk(set, false).await?;
                self.scan(set, id, built).await?;
            }
            Step::Walk(set, last) => self.walk(set, last).await?,
            Step::Settle(set) => self.settle(set).await?,
            Step::Repeat(set) => self.repeat(set).await?,
            Step::NewOwner(set) => self.new_owner(set).await?,
            Step::Crash => {
                self.bench.reopen();
                for set in &mut self.sets {
                    set.owner = None;
                }
                self.agree().await?;
            }
            Step::Forget => self.forget().await?,
            Step::AddSet => {
                if self.sets.len() < 3 {
                    self.add_set().await;
                }
            }
            Step::Clock(by) => {
                let now = self.bench.now.load(Ordering::Relaxed);
                self.bench
                    .now
                    .store(now.saturating_add_signed(i64::from(by)), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn add_set(&mut self) {
        let name: SetName = format!("s{}", self.sets.len()).into();
        self.bench.log().register(&name, &products("1")).await.unwrap();
        self.sets.push(Set {
            name,
            start: self.head,
            position: self.head,
            fates: BTreeMap::new(),
            troubles: BTreeMap::new(),
            scanned: 0,
            scan: Walked::default(),
            engine: BTreeMap::new(),
            last_ticket: 0,
            reads: BTreeMap::new(),
            owner: None,
            last: None,
        });
    }

    async fn touch(&mut self, documents: u8, rows: u8) -> Result<(), TestCaseError> {
        let ids: Vec<u8> = (0..DOCUMENTS).filter(|id| documents & (1 << id) != 0).collect();
        let mut touches: Vec<Touch> = ids.iter().map(|id| Touch::Document(doc(&key(*id)))).collect();
        touches.extend(rows_in(rows).map(|(_, row)| Touch::Row(row)));
        let appended = self.bench.log().append(&source(), None, &touches).await.unwrap();
        let mut touched = ids;
        if rows_in(rows).next().is_some() {
            self.rows += 1;
            for (row, _) in rows_in(rows) {
                self.touched_rows[usize::from(row)] = self.rows;
            }
            let readers = self.sets.iter().flat_map(|set| &set.reads);
            let readers = readers.filter(|(id, read)| *read & rows != 0 && !touched.contains(id));
            let readers: BTreeSet<u8> = readers.map(|(id, _)| *id).collect();
            touched.extend(readers);
        }
        self.touched(&touched, appended)
    }

    /// These documents draw the next numbers, and the store says the same.
    fn touched(&mut self, ids: &[u8], appended: Appended) -> Result<(), TestCaseError> {
        let mut moved = 0;
        for id in ids {
            self.head += 1;
            moved += u64::from(self.entries.insert(*id, self.head).is_some());
            self.last_touch.insert(*id, self.head);
        }
        prop_assert_eq!(appended.head.0, self.head);
        prop_assert_eq!(appended.touched, ids.len() as u64);
        prop_assert_eq!(appended.moved, moved);
        Ok(())
    }

    /// The set's owner, who takes over when there is none.
    async fn owner(&mut self, index: usize) -> Option<usize> {
        let set = self.sets.get_mut(index)?;
        if set.owner.is_none() {
            let owned = self.bench.log().own(&set.name, "model").await.unwrap();
            assert_eq!(owned.position.0, set.position);
            set.owner = Some(Owner {
                after: owned.position.0,
                owned,
                in_flight: Vec::new(),
                finished: BTreeMap::new(),
                troubles: BTreeMap::new(),
                healed: BTreeMap::new(),
                scans: Vec::new(),
                scanned: 0,
                reads: Vec::new(),
                since: 0,
                settled: 0,
            });
        }
        Some(index)
    }

    async fn take(&mut self, set: usize, n: usize) -> Result<(), TestCaseError> {
        let Some(set) = self.owner(set).await else {
            return Ok(());
        };
        let set = &mut self.sets[set];
        let owner = set.owner.as_mut().unwrap();
        let taken = self.bench.log().take(&owner.owned, Seq(owner.after), n).await;
        let Taken {
            ticket,
            rows,
            entries,
        } = taken.unwrap();
        prop_assert_eq!(rows, self.rows);
        owner.since = rows;
        prop_assert!(ticket.0 > set.last_ticket, "tickets rise");
        set.last_ticket = ticket.0;
        let mut expected: Vec<(u64, u8)> = self.entries.iter().map(|(id, seq)| (*seq, *id)).collect();
        expected.retain(|(seq, _)| *seq > owner.after);
        expected.sort_unstable();
        expected.truncate(n);
        let entries: Vec<(u64, u8)> = entries
            .iter()
            .map(|entry| (entry.seq.0, id_of(&entry.key)))
            .collect();
        prop_assert_eq!(&entries, &expected);
        if let Some((last, _)) = entries.last() {
            owner.after = *last;
        }
        let flying = |(seq, id)| Flying { seq, id, since: rows };
        owner.in_flight.extend(entries.into_iter().map(flying));
        Ok(())
    }

    async fn build(&mut self, set: usize, at: usize, built: Built) {
        let Some(set) = self.owner(set).await else { return };
        let set = &mut self.sets[set];
        let owner = set.owner.as_mut().unwrap();
        if owner.in_flight.is_empty() {
            return;
        }
        // One build at a time: of a document that is in flight twice, the earlier number is built first.
        let id = owner.in_flight[at % owner.in_flight.len()].id;
        let at = owner.in_flight.iter().position(|other| other.id == id).unwrap();
        let Flying { seq, since, .. } = owner.in_flight.remove(at);
        owner.finished.insert(seq, built.outcome);
        owner.ended(id, seq, since, built, 1);
        if !in_trouble(built.outcome) {
            set.engine.insert(id, self.last_touch[&id]);
        }
    }

    async fn retry(&mut self, set: usize, at: usize, built: Built) -> Result<(), TestCaseError> {
        self.take(set, 0).await?;
        let Some(set) = self.owner(set).await else {
            return Ok(());
        };
        let set = &mut self.sets[set];
        let found = self.bench.log().troubles(&set.name, None, 100).await.unwrap();
        let known: Vec<(u8, Known)> = found
            .iter()
            .map(|trouble| (id_of(&trouble.key), known(trouble)))
            .collect();
        prop_assert_eq!(known, set.troubles.clone().into_iter().collect::<Vec<_>>());
        let due = self.bench.log().due(&set.name, i64::MAX, 100).await.unwrap();
        let retries = set.troubles.values().filter(|known| !known.dead).count();
        prop_assert_eq!(due.len(), retries);
        let owner = set.owner.as_mut().unwrap();
        if found.is_empty() {
            return Ok(());
        }
        let trouble = &found[at % found.len()];
        let id = id_of(&trouble.key);
        if owner.is_building(id) {
            return Ok(());
        }
        owner.scanned += 1;
        owner.ended(id, trouble.seq.0, owner.since, built, trouble.attempts + 1);
        if !in_trouble(built.outcome) {
            set.engine
                .insert(id, self.last_touch.get(&id).copied().unwrap_or(0));
        }
        Ok(())
    }

    async fn scan(&mut self, set: usize, id: u8, built: Built) -> Result<(), TestCaseError> {
        self.take(set, 0).await?;
        let Some(set) = self.owner(set).await else {
            return Ok(());
        };
        let set = &mut self.sets[set];
        let owner = set.owner.as_mut().unwrap();
        if owner.is_building(id) {
            return Ok(());
        }
        owner.scanned += 1;
        owner.ended(id, 0, owner.since, built, 1);
        if !in_trouble(built.outcome) {
            set.engine
                .insert(id, self.last_touch.get(&id).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// Reads the scan, and reports progress of it at the next settlement; a restart in between ends it.
    async fn walk(&mut self, set: usize, last: bool) -> Result<(), TestCaseError> {
        let Some(set) = self.owner(set).await else {
            return Ok(());
        };
        let set = &mut self.sets[set];
        let scan = self.bench.log().scans(&set.name).await.unwrap().remove(0);
        prop_assert_eq!((scan.done, scan.finished), (set.scan.done, set.scan.finished));
        let owner = set.owner.as_mut().unwrap();
        owner.scans = vec![Scan {
            done: scan.done + 1,
            finished: last,
            after: Some(format!("after {}", scan.done)),
            ..scan
        }];
        Ok(())
    }

    async fn settle(&mut self, set: usize) -> Result<(), TestCaseError> {
        let Some(set) = self.owner(set).await else {
            return Ok(());
        };
        let index = set;
        let set = &mut self.sets[set];
        let owner = set.owner.as_mut().unwrap();
        let reads: BTreeMap<u8, Read> = owner.reads.iter().map(|read| (read.id, *read)).collect();
        let done = owner.settlement();
        let runs = self.bench.log().scans(&set.name).await.unwrap();
        let appended = self.bench.log().settle(&owner.owned, &done).await.unwrap();
        set.last = Some((owner.owned.clone(), done.clone()));
        for scan in &done.scans {
            if runs[0].run == scan.run {
                set.scan = Walked {
                    done: scan.done,
                    finished: scan.finished,
                };
            }
        }
        self.account(index, &done);
        let again = self.record(index, &reads);
        self.touched(&again, appended)?;
        self.agree().await
    }

    /// Replaces what was recorded. Returns the documents of which a row was touched since.
    fn record(&mut self, set: usize, reads: &BTreeMap<u8, Read>) -> Vec<u8> {
        let mut again = Vec::new();
        for (id, read) in reads {
            self.sets[set].reads.insert(*id, read.rows);
            let touched = |row: u8| self.touched_rows[usize::from(row)] > read.since;
            if rows_in(read.rows).any(|(row, _)| touched(row)) {
                again.push(*id);
            }
        }
        again
    }

    /// The fate of each number, by the contract of [`Settlement`].
    fn account(&mut self, set: usize, done: &Settlement) {
        let set = &mut self.sets[set];
        let old = set.position;
        for (key, outcome) in &done.healed {
            let id = id_of(key);
            let Some(former) = set.troubles.remove(&id) else {
                continue;
            };
            if former.seq > 0 && former.seq <= old {
                let touched_again = self.last_touch[&id] > former.seq;
                let fate = if touched_again {
                    Outcome::Superseded
                } else {
                    *outcome
                };
                set.fates.insert(former.seq, Fate::Built(fate));
            }
        }
        for trouble in &done.troubles {
            let id = id_of(&trouble.key);
            let mut now = known(trouble);
            if let Some(former) = set.troubles.get(&id) {
                if now.seq <= former.seq {
                    now.seq = former.seq;
                } else if former.seq > 0 && former.seq <= old {
                    set.fates.insert(former.seq, Fate::Built(Outcome::Superseded));
                }
            }
            set.troubles.insert(id, now);
        }
        let passed: BTreeMap<u64, Outcome> = done
            .passed
            .iter()
            .map(|(seq, outcome)| (seq.0, *outcome))
            .collect();
        for number in old + 1..=done.position.0 {
            let stands = set.troubles.values().any(|known| known.seq == number);
            let fate = match passed.get(&number) {
                _ if stands => continue,
                Some(outcome) if in_trouble(*outcome) => Fate::Built(Outcome::Superseded),
                Some(outcome) => Fate::Built(*outcome),
                None => Fate::Folded,
            };
            set.fates.insert(number, fate);
        }
        set.position = done.position.0;
        set.scanned += done.scanned;
    }

    async fn repeat(&mut self, set: usize) -> Result<(), TestCaseError> {
        let Some((owned, done)) = self.sets.get(set).and_then(|set| set.last.clone()) else {
            return Ok(());
        };
        let current = self.sets[set].owner.as_ref().map(|owner| owner.owned.epoch);
        let result = self.bench.log().settle(&owned, &done).await;
        match current {
            Some(epoch) if epoch != owned.epoch => {
                prop_assert_eq!(refused(result), (Fault::Conflict, "ownership_lost"));
            }
            // Without an owner the last one may still be known to the log: then it is a repetition.
            Some(_) | None => match result {
                Ok(appended) => self.touched(&[], appended)?,
                Err(error) => prop_assert_eq!(error.code(), "ownership_lost"),
            },
        }
        self.agree().await
    }

    async fn new_owner(&mut self, set: usize) -> Result<(), TestCaseError> {
        let Some(former) = self.sets.get_mut(set).and_then(|set| set.owner.take()) else {
            return Ok(());
        };
        self.owner(set).await;
        let late = Settlement {
            position: Seq(self.head),
            ..Settlement::default()
        };
        let lost = (Fault::Conflict, "ownership_lost");
        prop_assert_eq!(refused(self.bench.log().settle(&former.owned, &late).await), lost);
        prop_assert_eq!(
            refused(self.bench.log().take(&former.owned, Seq(0), 1).await),
            lost
        );
        self.agree().await
    }

    async fn forget(&mut self) -> Result<(), TestCaseError> {
        let lowest = self.sets.iter().map(|set| set.position).min().unwrap();
        let before = self.entries.len();
        self.entries.retain(|_, seq| *seq > lowest);
        let forgotten = self.bench.log().forget().await.unwrap();
        prop_assert_eq!(forgotten, (before - self.entries.len()) as u64);
        self.agree().await
    }

    async fn catch_up(&mut self, set: usize) -> Result<(), TestCaseError> {
        // What was built before may be touched again by the first settlement; what is built from now on is not.
        for _ in 0..2 {
            self.take(set, 1_000).await?;
            while !self.sets[set].owner.as_ref().unwrap().in_flight.is_empty() {
                let outcome = Outcome::Indexed;
                let built = Built { outcome, rows: 3 };
                self.build(set, 0, built).await;
            }
            self.settle(set).await?;
        }
        prop_assert_eq!(self.sets[set].position, self.head);
        Ok(())
    }

    /// The store says what the model says, and no touch is lost.
    async fn agree(&self) -> Result<(), TestCaseError> {
        let all = self.bench.log().status().await.unwrap();
        prop_assert_eq!(all.len(), self.sets.len());
        for (status, set) in all.iter().zip(&self.sets) {
            status.counts.conserved().map_err(TestCaseError::fail)?;
            prop_assert_eq!(&status.counts, &self.counts(set));
            prop_assert_eq!((status.position.0, status.head.0), (set.position, self.head));
            prop_assert_eq!(
                status.pending,
                self.entries.values().filter(|seq| **seq > set.position).count() as u64
            );
            for (id, touch) in &self.last_touch {
                let ahead = *touch > set.position;
                let built = set.engine.get(id).is_some_and(|built| built >= touch);
                let lost = *touch > set.start && !ahead && !built && !set.troubles.contains_key(id);
                prop_assert!(
                    !lost,
                    "touch {} of document {} is lost in {}",
                    touch,
                    id,
                    set.name
                );
            }
        }
        Ok(())
    }

    fn counts(&self, set: &Set) -> Counts {
        let fates = |fate: Fate| set.fates.values().filter(|known| **known == fate).count() as u64;
        let troubles = |dead: bool, counted: bool| {
            let fits = |known: &&Known| {
                known.dead == dead && (!counted || (known.seq > 0 && known.seq <= set.position))
            };
            set.troubles.values().filter(fits).count() as u64
        };
        Counts {
            touches: self.head - set.start,
            ahead: self.head - set.position,
            folded: fates(Fate::Folded),
            indexed: fates(Fate::Built(Outcome::Indexed)),
            deleted: fates(Fate::Built(Outcome::Deleted)),
            superseded: fates(Fate::Built(Outcome::Superseded)),
            dead: troubles(true, true),
            retrying: troubles(false, true),
            scanned: set.scanned,
            dead_letters: troubles(true, false),
            retries: troubles(false, false),
        }
    }
}

fn known(trouble: &Trouble) -> Known {
    Known {
        seq: trouble.seq.0,
        dead: trouble.next_ms.is_none(),
    }
}
