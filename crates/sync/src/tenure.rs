//! One period of ownership of a set: take → build → apply → settle, pipelined, with scans and retries in a second lane.
//!
//! One loop holds the bookkeeping ([`Flight`], the walks, the breaker) and starts tasks; the tasks do the waiting. A
//! build starts as soon as there is something and its lane has room for one, so an idle set reacts at once; while
//! batches are under way, further touches of a document fold. Settling never waits for reads, nor reads for it.

mod end;
mod look;
mod pause;
mod scans;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use instep_core::{ChangeLog, CollectionName, DocKey, Error, Fault, Outcome, Owned, Result, Scan, Ticket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::backoff::{Backoff, Random, wait};
use crate::batch::{
    self, AppliedBatch, BuiltBatch, Context, FailedBatch, Failure, Fate, Phase, Route, Verdict,
};
use crate::breaker::Breaker;
use crate::flight::{Flight, Job, Landing, Lane};
use crate::health::{Health, Hold};
use crate::indexer::Indexer;
use crate::metrics;
use crate::scan::{Enumerated, Step, Walk};
use crate::signal::Signal;
use crate::status::{Shutdown, stopped};

/// Why a tenure ended.
pub(crate) enum Stop {
    /// It was told to.
    Shutdown,
    /// The set is to rest.
    NotFollowing,
    /// A failure: fatal, or of the log.
    Halt(Error),
    /// Another process owns the set now.
    Lost(Error),
}

/// A batch of live entries starts after at most this many others before one of the second lane gets its turn.
const LIVE_FIRST: usize = 8;
/// Builds of a lane at once: of live entries one, so that a document touched again meanwhile is built once; of the
/// second lane two, so that the source reads rows for one while we make documents of the other.
const LIVE_BUILDS: usize = 1;
const SECOND_BUILDS: usize = 2;
/// Numbers that may be taken beyond the position before one slow document stops the taking.
const HELD: usize = 100_000;
/// Retries looked up at once.
const DUE: usize = 500;
/// The code of a delete that was done, and is repeated once an older write can arrive no more.
pub const DELETE_UNCONFIRMED: &str = "delete_unconfirmed";

enum Event {
    Built(Result<BuiltBatch, Box<FailedBatch>>),
    Applied(Result<AppliedBatch, Box<FailedBatch>>),
    Enumerated(Step, Result<Enumerated>),
    Settled(Result<()>),
    Looked(Result<bool>),
}

/// What a lane has under way.
#[derive(Default)]
struct Traffic {
    building: usize,
    /// Built, and waiting for room in the budget.
    built: VecDeque<BuiltBatch>,
    applying: usize,
    bytes: usize,
    /// The mean size of its documents, so that a batch of large ones is small.
    mean: usize,
}

impl Traffic {
    fn batches(&self) -> usize {
        self.building + self.built.len() + self.applying
    }
}

/// What a batch draws before it reads rows.
#[derive(Clone, Copy)]
struct Drawn {
    ticket: Ticket,
    rows: u64,
}

/// What became of an attempt to start a build.
enum Started {
    /// It runs.
    Building,
    /// There was nothing to build for these documents: they have landed.
    Landed,
    /// No document may be built now.
    Nothing,
}

pub(crate) struct Tenure<'a> {
    on: &'a Indexer,
    context: Arc<Context>,
    /// Until then a write of a former owner may arrive.
    former_until: Instant,
    /// Until then one of our own may whose outcome is unknown.
    unknown_until: Instant,
    flight: Flight,
    walks: BTreeMap<CollectionName, Walk>,
    breaker: Breaker,
    lanes: [Traffic; 2],
    tasks: JoinSet<Event>,
    settling: bool,
    enumerating: bool,
    live_since_second: usize,
    /// The log may hold entries beyond the cursor.
    more: bool,
    /// Scans may have been started or started again.
    scans_changed: bool,
    /// The engine or the log failed: nothing new starts.
    hold: Hold,
    /// When the engine last answered, or was first asked after a rest.
    heard: Instant,
    /// When an idle engine was last looked at; `None` while it is.
    looked: Option<Instant>,
    /// Collections that could not be built or enumerated.
    health: Health,
    random: Random,
    signal: watch::Receiver<Signal>,
    seen: Signal,
    next_poll: Instant,
    next_state: Instant,
}

impl<'a> Tenure<'a> {
    /// `all_made`: the set's indexes were made just now.
    pub(crate) async fn new(on: &'a Indexer, owned: Owned, all_made: bool) -> Result<Self> {
        let mut signal = on.log.watch();
        let seen = *signal.borrow_and_update();
        let troubled = !on.log.troubles(&on.set, None, 1).await?.is_empty();
        for collection in on.targets.keys() {
            on.write_halt(collection, None).await?;
        }
        let former = end::former(on, &owned, all_made).await?;
        let now = Instant::now();
        let flight = Flight::new(owned.position, troubled);
        let context = Arc::new(Context {
            owned,
            builder: on.builder.clone(),
            engine: on.engine.clone(),
            log: on.log.clone(),
        });
        Ok(Tenure {
            former_until: now + former,
            unknown_until: now,
            flight,
            context,
            walks: BTreeMap::new(),
            breaker: Breaker::default(),
            lanes: [Traffic::default(), Traffic::default()],
            tasks: JoinSet::new(),
            settling: false,
            enumerating: false,
            live_since_second: 0,
            more: true,
            scans_changed: true,
            hold: hold(on, 1),
            heard: now,
            looked: Some(now),
            health: Health::new(on.options.grace, on.options.backoff.1),
            random: Random(on.options.seed ^ 2),
            seen,
            signal,
            next_poll: now,
            next_state: now + on.options.poll * 5,
            on,
        })
    }

    pub(crate) async fn run(&mut self, shutdown: &mut Shutdown) -> Stop {
        match self.work(shutdown).await {
            Ok(stop) => {
                if let Ok(true) = tokio::time::timeout(self.on.options.drain, self.drain()).await {
                    self.write_end().await;
                }
                stop
            }
            Err(error) => Stop::of(error),
        }
    }

    /// The loop. Returns when the set is to rest; an error is one of the set.
    async fn work(&mut self, shutdown: &mut Shutdown) -> Result<Stop> {
        loop {
            self.start().await?;
            let wake = self.wake_at();
            tokio::select! {
                () = stopped(shutdown) => return Ok(Stop::Shutdown),
                Some(ended) = self.tasks.join_next() => self.handle(ended)?,
                _ = self.signal.changed() => {
                    let signal = *self.signal.borrow_and_update();
                    self.more |= signal.touches != self.seen.touches;
                    self.scans_changed |= signal.scans != self.seen.scans;
                    let states_changed = signal.states != self.seen.states;
                    self.seen = signal;
                    if states_changed {
                        // Also what is paused.
                        self.next_poll = Instant::now();
                    }
                    if states_changed && !self.follows().await {
                        return Ok(Stop::NotFollowing);
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    if Instant::now() >= self.next_state {
                        self.next_state = Instant::now() + self.on.options.poll * 5;
                        if !self.follows().await {
                            return Ok(Stop::NotFollowing);
                        }
                    }
                }
            }
        }
    }

    /// A log that does not answer now is asked again later.
    async fn follows(&self) -> bool {
        self.on.follows().await.unwrap_or(true)
    }

    /// Finishes and settles what is under way; starts nothing new. Whether all of it has ended.
    async fn drain(&mut self) -> bool {
        loop {
            self.start_applies();
            self.start_settle();
            let Some(ended) = self.tasks.join_next().await else {
                return true;
            };
            if self.handle(ended).is_err() {
                return false;
            }
        }
    }

    fn wake_at(&self) -> Instant {
        if let Some(until) = self.hold.until.filter(|_| self.hold.is_on(Instant::now())) {
            return until;
        }
        let holds = self.health.next_try(Instant::now()).into_iter();
        holds
            .chain(self.next_silence())
            .chain(self.next_look())
            .chain(self.flight.next_delayed())
            .chain([self.next_poll])
            .min()
            .unwrap_or(self.next_poll)
    }

    /// Starts everything that can start now.
    async fn start(&mut self) -> Result<()> {
        let now = Instant::now();
        self.flight.wake(now);
        self.notice_silence(now);
        self.start_applies();
        self.start_settle();
        self.on.activity.send_if_modified(|activity| {
            let in_flight = self.flight.len() as u64;
            std::mem::replace(&mut activity.in_flight, in_flight) != in_flight
        });
        if self.hold.is_on(Instant::now()) {
            return Ok(());
        }
        let started = self.start_new(now).await;
        self.start_settle();
        match started {
            Err(error) if error.is_transient() => {
                self.put_on_hold(&error);
                Ok(())
            }
            started => started,
        }
    }

    async fn start_new(&mut self, now: Instant) -> Result<()> {
        if now >= self.next_poll {
            self.next_poll = now + self.on.options.poll;
            (self.more, self.scans_changed) = (true, true);
            self.look_for_paused().await?;
            if self.flight.is_troubled() {
                let due = self.on.log.due(&self.on.set, self.on.clock.now_ms(), DUE).await?;
                due.into_iter()
                    .filter(|due| self.on.targets.contains_key(&due.key.collection))
                    .for_each(|due| {
                        self.flight.retry(due.key);
                    });
            }
        }
        self.halt_collections().await?;
        self.start_live().await?;
        // Entries of a collection whose source is away wait for it, and hold nothing back.
        let live_moves = self.lanes[Lane::Live as usize].batches() > 0;
        let live_waits = live_moves && self.flight.waiting(Lane::Live) > 0;
        if live_waits && self.live_since_second < LIVE_FIRST {
            return Ok(());
        }
        self.start_enumerating().await?;
        self.start_second().await?;
        self.start_look(now);
        Ok(())
    }

    /// The engine answers: what was said of it holds no more.
    fn answered(&mut self) {
        self.on.show_answers(true);
        if self.hold.until.take().is_some() {
            self.hold.backoff.reset();
            if self.health.is_good() {
                self.on.report(None);
            }
        }
    }

    async fn start_live(&mut self) -> Result<()> {
        while (self.more || self.flight.waiting(Lane::Live) > 0) && self.is_free(Lane::Live) {
            let n = self.batch_size(Lane::Live);
            let room = if self.flight.held() < HELD {
                n.saturating_sub(self.flight.waiting(Lane::Live))
            } else {
                0
            };
            let before = self.flight.cursor();
            let drawn = self.take(if self.more { room } else { 0 }).await?;
            let has_taken = self.flight.cursor() > before;
            match self.start_build(Lane::Live, n, drawn) {
                Started::Building => self.live_since_second += 1,
                Started::Landed => {}
                // All that was taken may rest, or wait for its source: others may stand behind it.
                Started::Nothing if has_taken && self.more => {}
                Started::Nothing => break,
            }
        }
        Ok(())
    }

    async fn start_second(&mut self) -> Result<()> {
        while self.flight.waiting(Lane::Second) > 0 && self.is_free(Lane::Second) {
            let drawn = self.take(0).await?;
            match self.start_build(Lane::Second, self.batch_size(Lane::Second), drawn) {
                Started::Building => self.live_since_second = 0,
                Started::Landed => {}
                Started::Nothing => break,
            }
        }
        Ok(())
    }

    /// Begins, durably, the scans of the collections that are to halt, and writes down which halted and which went on.
    async fn halt_collections(&mut self) -> Result<()> {
        for (collection, problem) in self.health.halting() {
            let fingerprint = self.on.targets[&collection].fingerprint.clone();
            let scan = [(collection.clone(), fingerprint)];
            self.on.log.rescan(&self.on.set, &scan, true).await?;
            self.on.write_halt(&collection, Some(&problem)).await?;
            tracing::error!(set = %self.on.set, %collection, code = problem.code, "the collection is halted: {}", problem.line());
            self.walks.remove(&collection);
            self.scans_changed = true;
            self.health.halted(&collection);
            self.show_halted();
        }
        while let Some(collection) = self.health.recovered().last().cloned() {
            self.on.write_halt(&collection, None).await?;
            tracing::info!(set = %self.on.set, %collection, "the collection goes on");
            self.health.recovered().pop();
            self.show_halted();
        }
        Ok(())
    }

    fn show_halted(&self) {
        let halted = self.health.all_halted();
        self.on.activity.send_if_modified(|activity| {
            let differs = activity.halted != halted;
            activity.halted = halted;
            differs
        });
    }

    /// Draws a ticket and takes up to `n` entries.
    async fn take(&mut self, n: usize) -> Result<Drawn> {
        let taken = self
            .on
            .log
            .take(&self.context.owned, self.flight.cursor(), n)
            .await?;
        if n > 0 {
            self.more = taken.entries.len() >= n;
        }
        self.flight.arrive(taken.entries);
        Ok(Drawn {
            ticket: taken.ticket,
            rows: taken.rows,
        })
    }

    fn is_free(&self, lane: Lane) -> bool {
        let traffic = &self.lanes[lane as usize];
        let builds = match lane {
            Lane::Live => LIVE_BUILDS,
            Lane::Second => SECOND_BUILDS,
        };
        traffic.building < builds && traffic.built.is_empty() && traffic.batches() < self.on.options.batches
    }

    fn batch_size(&self, lane: Lane) -> usize {
        let share = self.on.options.budget / 8;
        (share / self.lanes[lane as usize].mean.max(1)).clamp(1, self.on.options.batch)
    }

    fn start_build(&mut self, lane: Lane, n: usize, drawn: Drawn) -> Started {
        let health = &self.health;
        let targets = &self.on.targets;
        let now = Instant::now();
        let closed = |name: &CollectionName| health.is_closed(name, now);
        let debounce =
            |name: &CollectionName| targets.get(name).map_or(Duration::ZERO, |target| target.debounce);
        let Some((collection, jobs)) = self.flight.next_batch(lane, n, now, closed, debounce) else {
            return Started::Nothing;
        };
        let Some(target) = targets.get(&collection).filter(|_| !health.leaves(&collection)) else {
            // The log also holds touches of collections that this set does not have: nothing is to be done for them.
            let is_known = targets.contains_key(&collection);
            for job in jobs {
                let unknown = Landing::Fine(Outcome::Deleted);
                self.flight
                    .land(job, if is_known { Landing::Left } else { unknown });
            }
            return Started::Landed;
        };
        let route = Route {
            lane,
            partitions: target.partitions.clone(),
            collection,
            ticket: drawn.ticket,
            rows: drawn.rows,
        };
        let context = self.context.clone();
        self.lanes[lane as usize].building += 1;
        self.tasks
            .spawn(async move { Event::Built(batch::build(&context, route, jobs).await) });
        Started::Building
    }

    fn is_applying(&self) -> bool {
        self.lanes.iter().any(|traffic| traffic.applying > 0)
    }

    fn start_applies(&mut self) {
        if self.hold.is_on(Instant::now()) {
            return;
        }
        if !self.is_applying() {
            self.heard = Instant::now();
        }
        let budget = self.on.options.budget / 2;
        for traffic in &mut self.lanes {
            while let Some(batch) = traffic.built.front() {
                if traffic.applying > 0 && traffic.bytes + batch.bytes > budget {
                    break;
                }
                let batch = traffic.built.pop_front().expect("it was just seen");
                traffic.applying += 1;
                traffic.bytes += batch.bytes;
                let (context, deadline) = (self.context.clone(), self.on.options.deadline);
                let applied = async move { Event::Applied(batch::apply(&context, batch, deadline).await) };
                self.tasks.spawn(applied);
            }
        }
    }

    fn start_settle(&mut self) {
        if self.settling {
            return;
        }
        let flight = &self.flight;
        let progress = |walk: &mut Walk| walk.progress(|chunk| flight.chunk_is_finished(chunk));
        let scans: Vec<Scan> = self.walks.values_mut().filter_map(progress).collect();
        for scan in scans.iter().filter(|scan| scan.finished) {
            tracing::info!(set = %self.on.set, collection = %scan.collection, documents = scan.done, "scanned");
        }
        let Some(settlement) = self.flight.settlement(scans) else {
            return;
        };
        self.settling = true;
        let context = self.context.clone();
        let (first, most) = self.on.options.backoff;
        let backoff = Backoff::new(first, most, self.on.options.seed ^ 3);
        self.tasks
            .spawn(async move { Event::Settled(batch::settle(&context, settlement, backoff).await) });
    }

    fn handle(&mut self, ended: Result<Event, tokio::task::JoinError>) -> Result<()> {
        let event = ended.map_err(|error| {
            Error::fatal("task_panicked", "a task of the indexer panicked")
                .with_source(error)
                .with_remedy("this is a defect of instep: please report it with the log around it")
        })?;
        if let Event::Applied(_) = event {
            self.heard = Instant::now();
        }
        match event {
            Event::Built(Ok(batch)) => self.built(batch),
            Event::Applied(Ok(batch)) => self.applied(batch),
            Event::Built(Err(failed)) | Event::Applied(Err(failed)) => self.failed(*failed),
            Event::Enumerated(step, found) => self.enumerated(&step, found),
            Event::Settled(result) => {
                self.settling = false;
                result
            }
            Event::Looked(result) => self.looked(result),
        }
    }

    fn built(&mut self, batch: BuiltBatch) -> Result<()> {
        let traffic = &mut self.lanes[batch.route.lane as usize];
        traffic.building -= 1;
        let documents = batch
            .items
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Put(_)))
            .count();
        if let Some(mean) = batch.bytes.checked_div(documents) {
            traffic.mean = if traffic.mean == 0 {
                mean
            } else {
                (traffic.mean * 3 + mean) / 4
            };
        }
        self.release(&batch.route.collection);
        let failures = batch.items.iter().filter_map(|(_, fate)| match fate {
            Fate::Bury(failure) => Some(failure),
            Fate::Put(_) | Fate::Delete | Fate::Keep(_) | Fate::Later(_) => None,
        });
        self.trip(documents, failures)?;
        self.lanes[batch.route.lane as usize].built.push_back(batch);
        Ok(())
    }

    /// Halts the set before a failure that is not the documents' own quarantines them.
    fn trip<'f>(&mut self, fine: usize, failures: impl Iterator<Item = &'f Failure>) -> Result<()> {
        let failures: Vec<&Failure> = failures.filter(|failure| !failure.is_known()).collect();
        let codes = failures.iter().map(|failure| Some(failure.code.to_owned()));
        let Some(code) = self.breaker.add(codes.chain(std::iter::repeat_n(None, fine))) else {
            return Ok(());
        };
        let example = failures
            .iter()
            .find(|failure| failure.code == code)
            .map_or("", |failure| &failure.reason);
        let message =
            format!("at least half of the latest documents failed for the same reason ({code}): {example}");
        Err(Error::fatal("too_many_failures", message)
            .with_remedy("mend the definition or the rows, then start instep again: a halted set follows again at each start"))
    }

    fn applied(&mut self, batch: AppliedBatch) -> Result<()> {
        let traffic = &mut self.lanes[batch.route.lane as usize];
        traffic.applying -= 1;
        traffic.bytes -= batch.bytes;
        self.answered();
        let refused = batch.items.iter().filter_map(|(_, verdict)| match verdict {
            Verdict::Refused(failure) => Some(failure),
            Verdict::Fine(_) | Verdict::Kept | Verdict::Buried(_) | Verdict::Later(_) => None,
        });
        self.trip(0, refused)?;
        let mut counts: HashMap<Outcome, u64> = HashMap::new();
        let mut graves = Vec::new();
        for (job, verdict) in batch.items {
            let landing = match verdict {
                Verdict::Refused(failure) => {
                    graves.push(buried(&batch.route, job, failure));
                    continue;
                }
                Verdict::Fine(Outcome::Deleted) if self.must_be_repeated(&job) => self.repeat(&job.key),
                // Removed from wherever else it might lie, where an older write may still arrive.
                Verdict::Fine(Outcome::Indexed)
                    if !job.sweep.is_empty() && self.sweep_must_be_repeated(&job) =>
                {
                    self.repeat(&job.key)
                }
                Verdict::Fine(outcome) => Landing::Fine(outcome),
                Verdict::Kept => Landing::Kept,
                Verdict::Buried(failure) => {
                    if !failure.is_known() {
                        tracing::warn!(set = %self.on.set, document = %job.key, code = failure.code, "not indexed: {}", failure.reason);
                    }
                    Landing::Trouble(failure.trouble(job.key.clone(), None))
                }
                Verdict::Later(failure) => self.later(&job, failure),
            };
            if let Some(outcome) = outcome_of(&landing) {
                *counts.entry(outcome).or_default() += 1;
            }
            self.flight.note(&job, batch.route.ticket, &landing);
            self.flight.land(job, landing);
        }
        for (outcome, n) in counts {
            metrics::finished(&self.on.set, outcome, n);
        }
        if !graves.is_empty() {
            let batch = BuiltBatch {
                route: batch.route,
                items: graves,
                bytes: 0,
            };
            self.lanes[batch.route.lane as usize].built.push_back(batch);
        }
        Ok(())
    }

    /// Engines that forget deleted documents' versions would let a write that is still on its way bring one back: one of
    /// our own whose outcome is unknown, or one of a former owner, whatever entry it was for, until its last request
    /// has ended. Where in the log the document stood tells nothing: one touched in flight has moved to the tail.
    fn must_be_repeated(&self, job: &Job) -> bool {
        let former_may_write = Instant::now() < self.former_until;
        self.on.engine.capabilities().forgets_deletes && (job.wanted.unconfirmed || former_may_write)
    }

    /// The same of removals from the partitions in which a document does not lie; before the first owner nobody wrote.
    fn sweep_must_be_repeated(&self, job: &Job) -> bool {
        let is_first = self.context.owned.epoch.0 <= 1;
        self.must_be_repeated(job) && (job.wanted.unconfirmed || !is_first)
    }

    fn repeat(&self, key: &DocKey) -> Landing {
        let deadline = i64::try_from(self.on.options.deadline.as_millis()).unwrap_or(i64::MAX / 2);
        Landing::Trouble(instep_core::Trouble {
            key: key.clone(),
            seq: instep_core::Seq(0),
            code: DELETE_UNCONFIRMED.to_owned(),
            reason: "an older write may still arrive: the delete is repeated after its deadline".to_owned(),
            attempts: 0,
            next_ms: Some(self.on.clock.now_ms() + deadline),
        })
    }

    /// Again soon; after some attempts, later and durably, so that the position can move on.
    fn later(&mut self, job: &Job, failure: Failure) -> Landing {
        self.is_unknown();
        let options = &self.on.options;
        let attempts = job.wanted.attempts + 1;
        if attempts < options.attempts {
            let (first, most) = options.backoff;
            let at = Instant::now() + wait(first, most, attempts, &mut self.random);
            return Landing::Again {
                at,
                attempts: 1,
                alone: false,
                unconfirmed: true,
            };
        }
        let (first, most) = options.retry;
        let delay = wait(first, most, failure.attempts() + 1, &mut self.random);
        let next = self.on.clock.now_ms() + i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 2);
        Landing::Trouble(failure.trouble(job.key.clone(), Some(next)))
    }

    /// A batch failed as a whole: what may succeed later is built again, the rest is one of the set, unless one
    /// document alone can be the reason.
    fn failed(&mut self, failed: FailedBatch) -> Result<()> {
        let FailedBatch {
            route,
            jobs,
            bytes,
            error,
            phase,
        } = failed;
        let traffic = &mut self.lanes[route.lane as usize];
        match phase {
            Phase::Build => traffic.building -= 1,
            Phase::Apply => {
                traffic.applying -= 1;
                traffic.bytes -= bytes;
                self.is_unknown();
            }
        }
        let until = match (error.fault(), phase) {
            (Fault::Transient, Phase::Apply) => self.put_on_hold(&error),
            (Fault::Poison, _) if jobs.len() > 1 => Instant::now(),
            (Fault::Poison, _) => {
                let failure = Failure::of(&error);
                self.trip(0, [&failure].into_iter())?;
                let items = jobs
                    .into_iter()
                    .map(|job| buried(&route, job, failure.clone()))
                    .collect();
                self.lanes[route.lane as usize].built.push_back(BuiltBatch {
                    route,
                    items,
                    bytes: 0,
                });
                return Ok(());
            }
            (_, Phase::Build) => self.hold_collection(&route.collection, &error),
            (
                Fault::Fatal
                | Fault::Invalid
                | Fault::Unauthenticated
                | Fault::Denied
                | Fault::NotFound
                | Fault::Conflict,
                Phase::Apply,
            ) => return Err(error.context(format!("indexing `{}`", route.collection))),
        };
        let alone = error.fault() == Fault::Poison;
        for job in jobs {
            let again = Landing::Again {
                at: until,
                attempts: 0,
                alone,
                unconfirmed: phase == Phase::Apply,
            };
            self.flight.land(job, again);
        }
        Ok(())
    }

    fn put_on_hold(&mut self, error: &Error) -> Instant {
        self.on.report(Some(error));
        let until = self.hold.extend(Instant::now());
        tracing::warn!(set = %self.on.set, code = error.code(), "the set waits: {error}");
        until
    }

    /// A collection cannot be built or walked over now: the others go on.
    fn hold_collection(&mut self, collection: &CollectionName, error: &Error) -> Instant {
        tracing::warn!(set = %self.on.set, %collection, code = error.code(), "the collection waits: {error}");
        self.on.report(Some(error));
        let on = self.on;
        let until = self
            .health
            .failed(collection, error, Instant::now(), || hold(on, 4).backoff);
        if self.health.leaves(collection) {
            // The walk that tried begins again where it was settled.
            self.walks.remove(collection);
            self.scans_changed = true;
        }
        until
    }

    /// The collection's source answered.
    fn release(&mut self, collection: &CollectionName) {
        let was_good = self.health.is_good();
        self.health.works(collection);
        if !was_good && self.health.is_good() {
            self.on.report(None);
        }
    }
}

fn hold(on: &Indexer, salt: u64) -> Hold {
    let (first, most) = on.options.backoff;
    Hold::new(Backoff::new(first, most, on.options.seed ^ salt))
}

/// A document that cannot be indexed, to be removed from wherever it may lie.
fn buried(route: &Route, mut job: Job, failure: Failure) -> (Job, Fate) {
    if route.partitions.len() > 1 {
        job.sweep = (0..route.partitions.len()).collect();
    }
    (job, Fate::Bury(failure))
}

fn outcome_of(landing: &Landing) -> Option<Outcome> {
    match landing {
        Landing::Fine(outcome) => Some(*outcome),
        Landing::Trouble(trouble) if trouble.next_ms.is_none() => Some(Outcome::Dead),
        Landing::Trouble(_) => Some(Outcome::Retrying),
        Landing::Kept | Landing::Left | Landing::Again { .. } => None,
    }
}
