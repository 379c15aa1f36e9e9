//! What a set's owner has taken and not finished, in its memory: pure bookkeeping, no IO and no clock.
//!
//! Work has one place for each document, whoever asked for it: an entry of the log, a scan, a retry. Asking again for a
//! document that waits is folded into what waits; asking for one that is being built parks until that build has
//! landed. So no document has two live builds, and some build always starts after the last touch.
//!
//! Entries finish in any order; the position is the number before the lowest unfinished one. Results of entries beyond
//! it are held until it has passed them: a new owner builds those again anyway.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use instep_core::{
    CollectionName, DocKey, Entry, Landed, Outcome, Placed, Reads, Scan, Seq, Settlement, Ticket, Trouble,
};
use tokio::time::{Duration, Instant};

/// A part of a scan that is finished as a whole.
pub(crate) type ChunkId = u64;

/// Entries of the log come before scans and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Live,
    Second,
}

/// Who asks for a document that has no entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The walk over the source's keys: write what is there.
    Source(ChunkId),
    /// The walk over the engine's documents: only remove what is gone.
    Engine(ChunkId),
    /// A retry whose time has come.
    Retry,
}

/// What is asked of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The entry behind it.
    pub(crate) seq: Option<Seq>,
    /// The chunks that wait for it.
    chunks: Vec<ChunkId>,
    /// A document that is there is to be written; else only one that is gone is to be removed.
    pub(crate) write: bool,
    /// Failed attempts in this flight.
    pub(crate) attempts: u32,
    /// To be built in a batch of its own, because a batch with it failed as a whole.
    pub(crate) alone: bool,
    /// A write of it may still be on its way to the engine, its outcome unknown.
    pub(crate) unconfirmed: bool,
    /// It was met in the engine: wherever it does not belong, it is to be removed.
    pub(crate) sweep: bool,
}

impl Wanted {
    fn lane(&self) -> Lane {
        match self.seq {
            Some(_) => Lane::Live,
            None => Lane::Second,
        }
    }

    /// Folds a later wish into this one. Returns the number that was folded away.
    fn fold(&mut self, later: Wanted) -> Option<Seq> {
        let folded = later.seq.and(self.seq);
        self.seq = later.seq.or(self.seq);
        self.chunks.extend(later.chunks);
        self.write |= later.write;
        self.attempts = self.attempts.max(later.attempts);
        self.alone |= later.alone;
        self.unconfirmed |= later.unconfirmed;
        self.sweep |= later.sweep;
        folded
    }
}

/// A document to be built now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) key: DocKey,
    pub(crate) wanted: Wanted,
    /// What it read, once it is built and where reads are recorded.
    pub(crate) reads: Option<Reads>,
    /// In a collection with several partitions, once it is built: those from which it is to be removed.
    pub(crate) sweep: Vec<usize>,
    /// In such a collection, once it is written: where it lies.
    pub(crate) placed: Option<Placed>,
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Landing {
    /// In order.
    Fine(Outcome),
    /// It is there, and nobody wanted it written.
    Kept,
    /// A retry or a dead letter. Its `seq` is filled in here when an entry stands behind the job.
    Trouble(Trouble),
    /// Not built, and not to be: a scan that was begun for it, durably, finds it. Nothing is known of it now.
    Left,
    /// Build it again, not before this moment.
    Again {
        at: Instant,
        attempts: u32,
        alone: bool,
        unconfirmed: bool,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Flying,
    Delayed(Instant),
}

#[derive(Debug)]
struct Doc {
    state: State,
    wanted: Wanted,
    parked: Option<Wanted>,
}

/// How a document's turn ended.
enum Ended {
    /// With what is to be settled of it; `None`: it is there, and nobody wanted it written.
    Built(Option<Result<Outcome, Trouble>>),
    Left,
}

#[derive(Debug)]
struct Finished {
    key: DocKey,
    outcome: Outcome,
    trouble: Option<Trouble>,
    /// The document was not built: what is known of it stands.
    left: bool,
}

/// So many rows on record make a settlement of their own.
const READS: usize = 10_000;

/// Everything a set's owner has under way.
#[derive(Debug)]
pub(crate) struct Flight {
    position: Seq,
    cursor: Seq,
    docs: HashMap<DocKey, Doc>,
    queues: [BTreeMap<CollectionName, VecDeque<DocKey>>; 2],
    queued: [usize; 2],
    last_served: [Option<CollectionName>; 2],
    delayed: BTreeSet<(Instant, DocKey)>,
    /// Documents that were built for the log lately, and until when they are not to be built for it again.
    resting: HashMap<DocKey, Instant>,
    rests: BTreeSet<(Instant, DocKey)>,
    unfinished: BTreeSet<Seq>,
    finished: BTreeMap<Seq, Finished>,
    /// The latest number in `finished` of each document.
    held: HashMap<DocKey, Seq>,
    /// Results without a number, in order, since the last settlement.
    loose: Vec<(DocKey, Result<Outcome, Trouble>)>,
    scanned: u64,
    /// What the latest build of each document read, since the last settlement.
    reads: HashMap<DocKey, Reads>,
    /// How many rows these are.
    reads_rows: usize,
    /// Where documents were written, since the last settlement.
    placed: HashMap<DocKey, Placed>,
    /// What is told of builds that ended, since the last settlement.
    landed: Vec<Landed>,
    /// Settlements so far.
    settlements: u64,
    chunks: HashMap<ChunkId, usize>,
    next_chunk: ChunkId,
    /// Whether the log may know troubles of this set: without any, nothing has to be healed.
    troubled: bool,
}

impl Flight {
    /// Nothing under way. `troubled`: the log knows retries or dead letters of this set. `head`: the log's last number
    /// when the set was owned.
    pub(crate) fn new(position: Seq, troubled: bool) -> Self {
        Flight {
            position,
            cursor: position,
            docs: HashMap::new(),
            queues: [BTreeMap::new(), BTreeMap::new()],
            queued: [0, 0],
            last_served: [None, None],
            delayed: BTreeSet::new(),
            resting: HashMap::new(),
            rests: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            finished: BTreeMap::new(),
            held: HashMap::new(),
            loose: Vec::new(),
            scanned: 0,
            reads: HashMap::new(),
            reads_rows: 0,
            placed: HashMap::new(),
            landed: Vec::new(),
            settlements: 0,
            chunks: HashMap::new(),
            next_chunk: 0,
            troubled,
        }
    }

    /// The highest number taken.
    pub(crate) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Documents under way.
    pub(crate) fn len(&self) -> usize {
        self.docs.len()
    }

    /// Numbers taken and not passed by the position: what memory holds because of one slow document.
    pub(crate) fn held(&self) -> usize {
        self.finished.len() + self.unfinished.len()
    }

    /// How many documents wait to be built, at most.
    pub(crate) fn waiting(&self, lane: Lane) -> usize {
        self.queued[lane as usize]
    }

    /// Whether documents of this collection may wait to be built.
    pub(crate) fn has_waiting(&self, lane: Lane, collection: &CollectionName) -> bool {
        self.queues[lane as usize].contains_key(collection)
    }

    /// Whether the log may know troubles of this set.
    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled
    }

    /// The entries after the cursor, in order of their numbers.
    pub(crate) fn arrive(&mut self, entries: Vec<Entry>) {
        for Entry { seq, key } in entries {
            debug_assert!(seq > self.cursor, "entries are taken in order");
            self.cursor = seq;
            self.unfinished.insert(seq);
            self.want(
                key,
                Wanted {
                    seq: Some(seq),
                    write: true,
                    ..Wanted::default()
                },
            );
        }
    }

    /// A new chunk of a scan: it is finished once all its documents are.
    pub(crate) fn chunk(&mut self, keys: Vec<DocKey>, request: impl Fn(ChunkId) -> Request) -> ChunkId {
        let id = self.next_chunk;
        self.next_chunk += 1;
        if !keys.is_empty() {
            self.chunks.insert(id, keys.len());
        }
        for key in keys {
            self.ask(key, request(id));
        }
        id
    }

    /// Whether all documents of a chunk are finished.
    pub(crate) fn chunk_is_finished(&self, id: ChunkId) -> bool {
        !self.chunks.contains_key(&id)
    }

    /// A document whose next attempt is due. One that is under way already is left alone.
    pub(crate) fn retry(&mut self, key: DocKey) {
        if !self.docs.contains_key(&key) {
            self.ask(key, Request::Retry);
        }
    }

    fn ask(&mut self, key: DocKey, request: Request) {
        let wanted = match request {
            Request::Source(chunk) => Wanted {
                chunks: vec![chunk],
                write: true,
                ..Wanted::default()
            },
            Request::Engine(chunk) => Wanted {
                chunks: vec![chunk],
                sweep: true,
                ..Wanted::default()
            },
            Request::Retry => Wanted {
                write: true,
                ..Wanted::default()
            },
        };
        self.want(key, wanted);
    }

    fn want(&mut self, key: DocKey, wanted: Wanted) {
        let Some(doc) = self.docs.get_mut(&key) else {
            self.enqueue(wanted.lane(), key.clone());
            self.docs.insert(
                key,
                Doc {
                    state: State::Ready,
                    wanted,
                    parked: None,
                },
            );
            return;
        };
        let folded = match doc.state {
            State::Ready | State::Delayed(_) => {
                let before = doc.wanted.lane();
                let folded = doc.wanted.fold(wanted);
                if doc.state == State::Ready && doc.wanted.lane() != before {
                    let lane = doc.wanted.lane();
                    self.enqueue(lane, key);
                }
                folded
            }
            State::Flying => match &mut doc.parked {
                Some(parked) => parked.fold(wanted),
                None => {
                    doc.parked = Some(wanted);
                    None
                }
            },
        };
        if let Some(seq) = folded {
            self.unfinished.remove(&seq);
        }
    }

    fn enqueue(&mut self, lane: Lane, key: DocKey) {
        self.queued[lane as usize] += 1;
        self.queues[lane as usize]
            .entry(key.collection.clone())
            .or_default()
            .push_back(key);
    }

    /// Up to `n` documents of one collection to be built now, the collections in turn; those that are `closed` wait.
    ///
    /// A document that entries of the log ask for rests for as long as `debounce` says after each build has started: what
    /// comes meanwhile folds, and is built when the rest is over.
    pub(crate) fn next_batch(
        &mut self,
        lane: Lane,
        n: usize,
        now: Instant,
        closed: impl Fn(&CollectionName) -> bool,
        debounce: impl Fn(&CollectionName) -> Duration,
    ) -> Option<(CollectionName, Vec<Job>)> {
        while let Some((until, key)) = self.rests.pop_first() {
            if until > now {
                self.rests.insert((until, key));
                break;
            }
            self.resting.remove(&key);
        }
        let at = lane as usize;
        let names: Vec<_> = self.queues[at]
            .keys()
            .filter(|name| !closed(name))
            .cloned()
            .collect();
        let first = names
            .iter()
            .position(|name| Some(name) > self.last_served[at].as_ref())
            .unwrap_or(0);
        for name in names[first..].iter().chain(&names[..first]) {
            let jobs = self.batch_of(lane, name, n, now, debounce(name));
            if !jobs.is_empty() {
                self.last_served[at] = Some(name.clone());
                return Some((name.clone(), jobs));
            }
        }
        None
    }

    fn batch_of(
        &mut self,
        lane: Lane,
        name: &CollectionName,
        n: usize,
        now: Instant,
        debounce: Duration,
    ) -> Vec<Job> {
        let at = lane as usize;
        let mut jobs: Vec<Job> = Vec::new();
        let Some(queue) = self.queues[at].get_mut(name) else {
            return jobs;
        };
        while jobs.len() < n
            && let Some(key) = queue.pop_front()
        {
            // What was folded into the other lane, or built early through an older place in the queue, is passed over.
            let doc = self
                .docs
                .get_mut(&key)
                .filter(|doc| doc.state == State::Ready && doc.wanted.lane() == lane);
            let Some(doc) = doc else {
                self.queued[at] -= 1;
                continue;
            };
            if doc.wanted.alone && !jobs.is_empty() {
                queue.push_front(key);
                break;
            }
            self.queued[at] -= 1;
            if lane == Lane::Live && !debounce.is_zero() {
                if let Some(until) = self.resting.get(&key) {
                    doc.state = State::Delayed(*until);
                    self.delayed.insert((*until, key));
                    continue;
                }
                let until = now + debounce;
                self.resting.insert(key.clone(), until);
                self.rests.insert((until, key.clone()));
            }
            doc.state = State::Flying;
            let alone = doc.wanted.alone;
            jobs.push(Job {
                wanted: doc.wanted.clone(),
                key,
                reads: None,
                sweep: Vec::new(),
                placed: None,
            });
            if alone {
                break;
            }
        }
        if queue.is_empty() {
            self.queues[at].remove(name);
        }
        jobs
    }

    /// A job is about to land: what is told of it. Documents that a scan wrote are not named: a first load would push
    /// everything else out of the journal.
    pub(crate) fn note(&mut self, job: &Job, ticket: Ticket, landing: &Landing) {
        let (outcome, code) = match landing {
            Landing::Fine(Outcome::Indexed) if job.wanted.seq.is_none() && !job.wanted.chunks.is_empty() => {
                return;
            }
            Landing::Fine(outcome) => (*outcome, None),
            Landing::Trouble(trouble) => (outcome_of(trouble), Some(trouble.code.clone())),
            Landing::Kept | Landing::Left | Landing::Again { .. } => return,
        };
        self.landed.push(Landed {
            key: job.key.clone(),
            seq: job.wanted.seq,
            ticket,
            outcome,
            code,
        });
    }

    /// A job has ended. What was parked behind it is ready now.
    pub(crate) fn land(&mut self, job: Job, landing: Landing) {
        let Job {
            key, reads, placed, ..
        } = job;
        let key = &key;
        let is_fine = matches!(landing, Landing::Fine(_));
        let doc = self.docs.get_mut(key).expect("only what flies lands");
        assert!(doc.state == State::Flying, "only what flies lands");
        let parked = doc.parked.take();
        let result = match landing {
            Landing::Fine(outcome) => Some(Ok(outcome)),
            Landing::Trouble(trouble) => Some(Err(trouble)),
            Landing::Kept => None,
            Landing::Left => {
                let wanted = std::mem::take(&mut doc.wanted);
                self.leave(key, parked);
                self.finish(key, wanted, Ended::Left);
                return;
            }
            Landing::Again {
                at,
                attempts,
                alone,
                unconfirmed,
            } => {
                doc.wanted.attempts += attempts;
                doc.wanted.alone |= alone;
                doc.wanted.unconfirmed |= unconfirmed;
                doc.state = State::Delayed(at);
                self.delayed.insert((at, key.clone()));
                // It was not built: it need not rest.
                if let Some(until) = self.resting.remove(key) {
                    self.rests.remove(&(until, key.clone()));
                }
                if let Some(seq) = parked.and_then(|parked| doc.wanted.fold(parked)) {
                    self.unfinished.remove(&seq);
                }
                return;
            }
        };
        let wanted = std::mem::take(&mut doc.wanted);
        if let Some(reads) = reads {
            self.reads_rows += reads.rows.len();
            if let Some(former) = self.reads.insert(key.clone(), reads) {
                self.reads_rows -= former.rows.len();
            }
        }
        if let Some(placed) = placed {
            let language = placed.language.filter(|_| is_fine);
            self.placed.insert(key.clone(), Placed { language, ..placed });
        }
        self.leave(key, parked);
        self.finish(key, wanted, Ended::Built(result));
    }

    /// The document's build is over; what was parked behind it is next.
    fn leave(&mut self, key: &DocKey, parked: Option<Wanted>) {
        let Some(parked) = parked else {
            self.docs.remove(key);
            return;
        };
        let lane = parked.lane();
        let doc = self.docs.get_mut(key).expect("it has just landed");
        (doc.state, doc.wanted) = (State::Ready, parked);
        self.enqueue(lane, key.clone());
    }

    fn finish(&mut self, key: &DocKey, wanted: Wanted, ended: Ended) {
        for chunk in wanted.chunks {
            if let Some(left) = self.chunks.get_mut(&chunk) {
                *left -= 1;
                if *left == 0 {
                    self.chunks.remove(&chunk);
                }
            }
        }
        let Some(seq) = wanted.seq else {
            if let Ended::Built(result) = ended {
                self.scanned += 1;
                if let Some(result) = result {
                    self.finish_loose(key, result);
                }
            }
            return;
        };
        self.unfinished.remove(&seq);
        let (outcome, trouble, left) = match ended {
            Ended::Left => (Outcome::Superseded, None, true),
            Ended::Built(None) => (Outcome::Indexed, None, false),
            Ended::Built(Some(Ok(outcome))) => (outcome, None, false),
            Ended::Built(Some(Err(trouble))) => {
                (outcome_of(&trouble), Some(Trouble { seq, ..trouble }), false)
            }
        };
        let finished = Finished {
            key: key.clone(),
            outcome,
            trouble,
            left,
        };
        self.finished.insert(seq, finished);
        self.held.insert(key.clone(), seq);
    }

    /// A scan or a retry of a document whose entry's result is still held replaces that result: the later build counts.
    fn finish_loose(&mut self, key: &DocKey, result: Result<Outcome, Trouble>) {
        let held = self
            .held
            .get(key)
            .and_then(|seq| Some((*seq, self.finished.get_mut(seq)?)));
        match (held, result) {
            // `dead` without a trouble says that a later build ended it.
            (Some((_, finished)), Ok(_)) => (finished.trouble, finished.left) = (None, false),
            (Some((seq, finished)), Err(trouble)) => {
                finished.outcome = outcome_of(&trouble);
                (finished.trouble, finished.left) = (Some(Trouble { seq, ..trouble }), false);
            }
            (None, result) => self.loose.push((key.clone(), result)),
        }
    }

    /// When the next delayed document may be built.
    pub(crate) fn next_delayed(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// Makes ready what was delayed until now.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some((at, key)) = self.delayed.pop_first() {
            if at > now {
                self.delayed.insert((at, key));
                return;
            }
            if let Some(doc) = self.docs.get_mut(&key)
                && doc.state == State::Delayed(at)
            {
                doc.state = State::Ready;
                let lane = doc.wanted.lane();
                self.enqueue(lane, key);
            }
        }
    }

    /// What is finished and not settled, with this progress of scans; `None` when there is nothing. The caller settles
    /// it, or nothing more.
    pub(crate) fn settlement(&mut self, scans: Vec<Scan>) -> Option<Settlement> {
        let position = match self.unfinished.first() {
            Some(lowest) => Seq(lowest.0 - 1),
            None => self.cursor,
        };
        let nothing_is_built = self.loose.is_empty() && self.scanned == 0 && self.reads_rows < READS;
        if position == self.position && nothing_is_built && scans.is_empty() {
            return None;
        }
        self.position = position;
        let beyond = self.finished.split_off(&Seq(position.0 + 1));
        let finished = std::mem::replace(&mut self.finished, beyond);
        let mut results: BTreeMap<DocKey, Result<Outcome, Trouble>> = self.loose.drain(..).collect();
        let mut passed = Vec::with_capacity(finished.len());
        for (seq, finished) in finished {
            if self.held.get(&finished.key) == Some(&seq) {
                self.held.remove(&finished.key);
            }
            passed.push((seq, finished.outcome));
            if finished.left {
                continue;
            }
            match (finished.trouble, finished.outcome) {
                (Some(trouble), _) => {
                    self.troubled = true;
                    results.insert(finished.key, Err(trouble));
                }
                // The build that ended it found the document in order.
                (None, Outcome::Dead | Outcome::Retrying) => {
                    results.insert(finished.key, Ok(Outcome::Superseded));
                }
                (None, outcome) if self.troubled => {
                    results.insert(finished.key, Ok(outcome));
                }
                // Without any trouble in the log it only ends what stands in this very settlement.
                (None, _) => {
                    results.remove(&finished.key);
                }
            }
        }
        self.settlements += 1;
        self.reads_rows = 0;
        let mut settlement = Settlement {
            number: self.settlements,
            position,
            passed,
            scans,
            scanned: std::mem::take(&mut self.scanned),
            reads: self.reads.drain().map(|(_, reads)| reads).collect(),
            landed: std::mem::take(&mut self.landed),
            placed: self.placed.drain().map(|(_, placed)| placed).collect(),
            ..Settlement::default()
        };
        for (key, result) in results {
            match result {
                Err(trouble) => settlement.troubles.push(trouble),
                Ok(outcome) => settlement.healed.push((key, outcome)),
            }
        }
        self.troubled |= !settlement.troubles.is_empty();
        if !self.troubled {
            settlement.healed.clear();
        }
        Some(settlement)
    }
}

fn outcome_of(trouble: &Trouble) -> Outcome {
    match trouble.next_ms {
        Some(_) => Outcome::Retrying,
        None => Outcome::Dead,
    }
}

#[cfg(test)]
mod tests;
