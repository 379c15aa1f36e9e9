//! Everything together: runs one interleaving step by step, watches the invariants, heals, drains and compares.

use super::database::{CHILDREN, ChildKey, DOCUMENTS, Database, DocKey, MAKERS, MakerKey, Statement};
use super::engine::{Applied, Engine};
use super::log::{Epoch, Log, Lost, SETS, Seq, SetKey, Ticket};
use super::network::{Fate, Request, TIMEOUT, Time};
use super::router::Router;
use super::variant::{Deletes, Variant};
use super::worker::{Settlement, Worker};

/// One step of an interleaving. A step that is impossible at its moment does nothing; `nth` counts what there is,
/// modulo. So any part of an interleaving is an interleaving, and a failing one can be cut down.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A transaction of the application.
    Commit(Statement, Option<Statement>),
    /// The router reads changes and asks for their documents.
    Resolve {
        changes: usize,
    },
    BeginAppend,
    CommitAppend,
    CrashRouter,
    /// Somebody touches a document by hand.
    Repair(DocKey),
    Forget,
    CollectGarbage(SetKey),
    Worker {
        set: SetKey,
        nth: usize,
        action: Action,
    },
    Deliver {
        nth: usize,
        fate: Fate,
    },
    /// A new worker takes the set; a former owner that has not crashed does not notice.
    TakeOver(SetKey),
    /// The newest worker of the set is gone with all it knew.
    Crash(SetKey),
    /// Time passes.
    Wait,
}

/// What a worker does; `0` is the newest worker, higher ones lost the set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Take { documents: usize },
    Advance { batch: usize },
    Resend { batch: usize },
    GiveUp { batch: usize },
}

/// Why a run is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Broken(&'static str),
    NeverDrained,
    Diverged { set: SetKey, document: DocKey },
}

/// How often a run met what the rules are for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) superseded: usize,
    pub(crate) refused: usize,
    pub(crate) touched_again: usize,
    pub(crate) deletes_to_repeat: usize,
    pub(crate) expired: usize,
    pub(crate) held_back: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Seen) {
        self.superseded += other.superseded;
        self.refused += other.refused;
        self.touched_again += other.touched_again;
        self.deletes_to_repeat += other.deletes_to_repeat;
        self.expired += other.expired;
        self.held_back += other.held_back;
    }
}

#[derive(Debug)]
pub(crate) struct World {
    variant: Variant,
    now: Time,
    database: Database,
    log: Log,
    router: Router,
    network: Vec<Request>,
    engines: [Engine; SETS],
    /// The newest worker last; at most that one owns the set.
    workers: [Vec<Worker>; SETS],
    workers_started: u32,
    last_tickets: [Ticket; SETS],
    seen: Seen,
}

/// What must not change, or only forward, in a step.
struct Before {
    positions: [Seq; SETS],
    settlements: [u32; SETS],
}

impl World {
    pub(crate) fn new(variant: Variant) -> Self {
        Self {
            variant,
            now: Time(1),
            database: Database::default(),
            log: Log::new(variant.numbers, variant.look_up),
            router: Router::default(),
            network: Vec::new(),
            engines: Default::default(),
            workers: Default::default(),
            workers_started: 0,
            last_tickets: Default::default(),
            seen: Seen::default(),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// Fills the tables and indexes them, runs the steps, heals, drains and compares.
    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.start()?;
        for step in steps {
            self.step(*step)?;
        }
        self.drain()?;
        self.compare()
    }

    fn start(&mut self) -> Result<(), Failure> {
        let makers = (0..MAKERS).map(|key| Statement::RenameMaker(MakerKey(key)));
        let roots = (0..DOCUMENTS).map(|key| Statement::PutRoot(DocKey(key), MakerKey(key % MAKERS)));
        let children =
            (0..CHILDREN).map(|key| Statement::PutChild(ChildKey(key), Some(DocKey(key % DOCUMENTS))));
        self.database.commit(makers.chain(roots).chain(children));
        for set in (0..SETS).map(SetKey) {
            self.step(Step::TakeOver(set))?;
        }
        self.work_until_idle()?;
        self.compare()
    }

    fn step(&mut self, step: Step) -> Result<(), Failure> {
        let before = self.before();
        let actor = self.actor(step);
        match step {
            Step::Commit(first, second) => self.database.commit([Some(first), second].into_iter().flatten()),
            Step::Resolve { changes } => {
                self.router
                    .resolve(self.variant, &self.database, &self.log, changes)
            }
            Step::BeginAppend => self.router.begin_append(&mut self.log),
            Step::CommitAppend => self.log.commit(),
            Step::CrashRouter => self.router.crash(&mut self.log),
            Step::Repair(document) => {
                if !self.log.is_locked() {
                    self.log.touch(document);
                }
            }
            Step::Forget => self.log.forget(),
            Step::CollectGarbage(set) => self.collect_garbage(set),
            Step::Worker { set, nth, action } => self.act(set, nth, action)?,
            Step::Deliver { nth, fate } => self.deliver(nth, fate),
            Step::TakeOver(set) => self.take_over(set),
            Step::Crash(set) => {
                self.workers[set.0].pop();
            }
            Step::Wait => self.now.0 += 1,
        }
        self.check_log(&before)?;
        self.check_settlements(&before, actor)?;
        self.check_builds()
    }

    fn act(&mut self, set: SetKey, nth: usize, action: Action) -> Result<(), Failure> {
        let Some(index) = self.worker_index(set, nth) else {
            return Ok(());
        };
        let worker = &mut self.workers[set.0][index];
        let batch_count = worker.batch_count().max(1);
        let mut ticket = None;
        let outcome = match action {
            Action::Take { documents } => worker.take(&mut self.log, self.now, documents).map(|drawn| {
                ticket = drawn;
                Settlement::default()
            }),
            Action::Advance { batch } => worker.advance(
                self.variant,
                batch % batch_count,
                &self.database,
                &mut self.network,
                &mut self.log,
                self.now,
            ),
            Action::Resend { batch } => {
                worker.resend(batch % batch_count, &mut self.network);
                Ok(Settlement::default())
            }
            Action::GiveUp { batch } => {
                worker.give_up(batch % batch_count);
                Ok(Settlement::default())
            }
        };
        self.seen.held_back += usize::from(worker.holds_back());
        match outcome {
            Ok(settlement) => {
                self.seen.touched_again += settlement.touched_again;
                self.seen.deletes_to_repeat += settlement.deletes_to_repeat;
            }
            Err(Lost) => {
                self.seen.refused += 1;
                self.workers[set.0].remove(index);
            }
        }
        match ticket {
            Some(ticket) => self.check_ticket(set, ticket),
            None => Ok(()),
        }
    }

    /// Counts from the newest worker back.
    fn worker_index(&self, set: SetKey, nth: usize) -> Option<usize> {
        let count = self.workers[set.0].len();
        (count > 0).then(|| count - 1 - nth % count)
    }

    fn take_over(&mut self, set: SetKey) {
        self.workers_started += 1;
        let owned = self.log.own(set);
        self.workers[set.0].push(Worker::new(set, self.workers_started, owned, self.now));
    }

    fn collect_garbage(&mut self, set: SetKey) {
        match self.variant.deletes {
            Deletes::Remembered => {}
            Deletes::Forgotten(_) => self.engines[set.0].collect_garbage(),
        }
    }

    fn deliver(&mut self, nth: usize, fate: Fate) {
        if self.network.is_empty() {
            return;
        }
        let nth = nth % self.network.len();
        let request = self.network.swap_remove(nth);
        let (expires, copies_of_answered) = match self.variant.deletes {
            Deletes::Remembered => (false, true),
            Deletes::Forgotten(_) => (true, false),
        };
        if expires && self.now > request.deadline {
            self.seen.expired += 1;
            return;
        }
        match fate {
            Fate::Answered => {
                let outcomes = self.apply(&request, request.writes.len());
                self.answer(&request, outcomes);
            }
            Fate::PartlyRefused => {
                let outcomes = self.apply(&request, 1);
                self.answer(&request, outcomes);
            }
            Fate::AnswerLost => {
                self.apply(&request, request.writes.len());
            }
            Fate::Copied => {
                self.apply(&request, request.writes.len());
                self.network.push(request);
            }
            Fate::AnsweredAndCopied => {
                let outcomes = self.apply(&request, request.writes.len());
                if copies_of_answered {
                    self.answer(&request, outcomes);
                }
                self.network.push(request);
            }
            Fate::Lost => {}
        }
    }

    /// Applies the first `n` writes and refuses the others.
    fn apply(&mut self, request: &Request, n: usize) -> Vec<Applied> {
        let engine = &mut self.engines[request.set.0];
        let mut outcomes: Vec<Applied> = request
            .writes
            .iter()
            .take(n)
            .map(|write| engine.apply(write))
            .collect();
        self.seen.superseded += outcomes
            .iter()
            .filter(|outcome| **outcome == Applied::Superseded)
            .count();
        outcomes.resize(request.writes.len(), Applied::Failed);
        outcomes
    }

    fn answer(&mut self, request: &Request, outcomes: Vec<Applied>) {
        let sender = self.workers[request.set.0]
            .iter_mut()
            .find(|worker| worker.id() == request.batch.worker);
        if let Some(worker) = sender {
            worker.answer(request.batch, outcomes);
        }
    }

    /// Heals everything and works until nothing is left, but holds back what was late, and what workers that lost
    /// their set had built, until the engines look finished; then lets all of it arrive.
    fn drain(&mut self) -> Result<(), Failure> {
        for set in (0..SETS).map(SetKey) {
            let is_owned = self.workers[set.0]
                .last()
                .is_some_and(|worker| worker.epoch() == self.log.set(set).epoch);
            if !is_owned {
                self.step(Step::TakeOver(set))?;
            }
            for batch in (0..DOCUMENTS).rev() {
                self.step(Step::Worker {
                    set,
                    nth: 0,
                    action: Action::GiveUp { batch },
                })?;
            }
        }
        for _ in 0..3 {
            self.work_until_idle()?;
            self.step(Step::CollectGarbage(SetKey(0)))?;
            self.step(Step::CollectGarbage(SetKey(1)))?;
            self.let_the_late_arrive()?;
            for _ in 0..=TIMEOUT {
                self.step(Step::Wait)?;
            }
        }
        Ok(())
    }

    fn work_until_idle(&mut self) -> Result<(), Failure> {
        for _ in 0..100 {
            if self.is_idle() {
                return Ok(());
            }
            self.step(Step::Resolve {
                changes: usize::MAX / 2,
            })?;
            self.step(Step::BeginAppend)?;
            self.step(Step::CommitAppend)?;
            for set in (0..SETS).map(SetKey) {
                self.step(Step::Worker {
                    set,
                    nth: 0,
                    action: Action::Take { documents: DOCUMENTS },
                })?;
                self.finish_batches(set)?;
            }
        }
        Err(Failure::NeverDrained)
    }

    /// Build, send, deliver, settle: whatever stage the owner's batches are in.
    fn finish_batches(&mut self, set: SetKey) -> Result<(), Failure> {
        let owner = self.worker_index(set, 0).expect("drain gave every set an owner");
        for batch in (0..self.workers[set.0][owner].batch_count()).rev() {
            for _ in 0..3 {
                let late = self.network.len();
                self.step(Step::Worker {
                    set,
                    nth: 0,
                    action: Action::Advance { batch },
                })?;
                if self.network.len() > late {
                    self.step(Step::Deliver {
                        nth: late,
                        fate: Fate::Answered,
                    })?;
                }
            }
            // Its request may have expired on its last step.
            self.step(Step::Worker {
                set,
                nth: 0,
                action: Action::GiveUp { batch },
            })?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let all_changes_appended = self
            .database
            .changes_after(self.log.source_position(), 1)
            .is_empty();
        let owners_are_idle = (self.workers.iter()).all(|workers| {
            workers
                .last()
                .is_some_and(|owner| owner.is_idle(&self.log, self.now))
        });
        all_changes_appended && !self.log.has_open_append() && owners_are_idle
    }

    fn let_the_late_arrive(&mut self) -> Result<(), Failure> {
        for set in (0..SETS).map(SetKey) {
            for nth in 1..self.workers[set.0].len() {
                for _ in 0..2 {
                    self.step(Step::Worker {
                        set,
                        nth,
                        action: Action::Advance { batch: 0 },
                    })?;
                }
            }
        }
        while !self.network.is_empty() {
            self.step(Step::Deliver {
                nth: 0,
                fate: Fate::AnswerLost,
            })?;
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), Failure> {
        for set in (0..SETS).map(SetKey) {
            for document in (0..DOCUMENTS).map(DocKey) {
                if self.engines[set.0].document(document) != self.database.document(document) {
                    return Err(Failure::Diverged { set, document });
                }
            }
        }
        Ok(())
    }

    fn before(&self) -> Before {
        let set = |index| self.log.set(SetKey(index));
        Before {
            positions: std::array::from_fn(|index| set(index).position),
            settlements: std::array::from_fn(|index| set(index).settlements),
        }
    }

    /// The worker that is about to do something.
    fn actor(&self, step: Step) -> Option<(SetKey, Epoch)> {
        let Step::Worker { set, nth, action: _ } = step else {
            return None;
        };
        self.worker_index(set, nth)
            .map(|index| (set, self.workers[set.0][index].epoch()))
    }

    fn check_log(&self, before: &Before) -> Result<(), Failure> {
        let entries = self.log.entries();
        if entries.windows(2).any(|pair| pair[0].seq >= pair[1].seq) {
            return Err(Failure::Broken("order of numbers is order of commits"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index]
                .iter()
                .any(|other| other.document == entry.document)
            {
                return Err(Failure::Broken("one entry per document"));
            }
        }
        for (index, position) in before.positions.iter().enumerate() {
            if self.log.set(SetKey(index)).position < *position {
                return Err(Failure::Broken("a position never goes back"));
            }
        }
        Ok(())
    }

    fn check_settlements(&self, before: &Before, actor: Option<(SetKey, Epoch)>) -> Result<(), Failure> {
        for set in (0..SETS).map(SetKey) {
            let record = self.log.set(set);
            let settled =
                record.settlements != before.settlements[set.0] || record.position != before.positions[set.0];
            if settled && actor != Some((set, record.epoch)) {
                return Err(Failure::Broken("only the owner settles"));
            }
        }
        Ok(())
    }

    fn check_ticket(&mut self, set: SetKey, ticket: Ticket) -> Result<(), Failure> {
        let last = std::mem::replace(&mut self.last_tickets[set.0], ticket);
        if ticket <= last {
            return Err(Failure::Broken("tickets strictly increase"));
        }
        Ok(())
    }

    /// Also of a worker that lost its set: it lost it only for the log, not in its own view.
    fn check_builds(&self) -> Result<(), Failure> {
        for worker in self.workers.iter().flatten() {
            let mut builds = [0; DOCUMENTS];
            for document in worker.documents_in_flight() {
                builds[document.0] += 1;
            }
            if builds.iter().any(|count| *count > 1) {
                return Err(Failure::Broken("no two live builds of one document in one set"));
            }
        }
        Ok(())
    }
}
