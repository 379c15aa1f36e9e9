//! Writes: a queue for each index, one thread at a time that empties it, and a commit that many calls share.
//!
//! A commit is due as soon as no write waits; under load when enough bytes or time have gathered. Only a commit
//! answers the calls, so `Done` is durable, and the reader is reloaded first, so it is visible, too. Writers of the
//! library hold memory and threads: they are opened on demand, and the longest unused one closes when another index
//! needs its place, so their memory is bounded whatever the number of indexes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use instep_core::{Applied, DocId, Error, IndexName, Result, Ticket, Write};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{IndexWriter, TantivyDocument, Term};
use tokio::sync::{Semaphore, oneshot};

use crate::fault::from_tantivy;
use crate::index::{OpenIndex, missing};
use crate::ingest::Ingest;

/// The least memory of a writer that the library accepts.
const WRITER_BYTES: usize = 15_000_000;
/// A commit is due when documents of so many bytes wait for it,
const COMMIT_BYTES: usize = 16 << 20;
/// or the oldest has waited so long.
const COMMIT_AFTER: Duration = Duration::from_millis(1500);
/// A group of more bytes is a bulk load: its commit waits a little for the next call,
const BULK_BYTES: usize = 256 << 10;
/// unless a call of fewer bytes is among it: somebody waits for that one.
const URGENT_BYTES: usize = 32 << 10;
/// For at most so long.
const LINGER: Duration = Duration::from_millis(100);
/// Tickets that are remembered after their commit, for each index: between this many and twice as many.
const REMEMBERED: usize = 8192;

/// The answer to the writes of one call to one index: each with its place in the call.
pub(crate) type Answer = Result<Vec<(usize, Applied)>>;

/// The writes of one call to one index.
struct Job {
    writes: Vec<(usize, Write)>,
    answer: oneshot::Sender<Answer>,
}

/// The writes that wait for an index. Not bounded by itself: each call waits for its answer.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
    tickets: Mutex<Tickets>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// A thread empties the queue.
    busy: bool,
    /// The index is being removed.
    closed: bool,
}

/// The highest ticket of each document that was lately written. What is not committed yet is always remembered.
#[derive(Default)]
struct Tickets {
    young: HashMap<DocId, Ticket>,
    old: HashMap<DocId, Ticket>,
}

impl Tickets {
    /// Remembers a ticket, unless a higher one is known.
    fn draw(&mut self, id: &DocId, ticket: Ticket) -> bool {
        let known = self.young.get(id).or_else(|| self.old.get(id));
        if known.is_some_and(|known| *known > ticket) {
            return false;
        }
        self.young.insert(id.clone(), ticket);
        true
    }

    fn committed(&mut self) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Closes the queue for good and waits until nobody works on it; blocks.
    pub(crate) fn close(&self) {
        let mut waiting = lock(&self.state);
        waiting.closed = true;
        self.changed.notify_all();
        while waiting.busy {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Remembers what the queue of the former index remembers, which is closed.
    pub(crate) fn go_on_from(&self, former: &Queue) {
        *lock(&self.tickets) = std::mem::take(&mut *lock(&former.tickets));
    }
}

/// Queues the writes of a call; the answer comes with the commit.
pub(crate) fn submit(
    index: &Arc<OpenIndex>,
    writers: &Arc<Writers>,
    writes: Vec<(usize, Write)>,
) -> oneshot::Receiver<Answer> {
    let (answer, receiver) = oneshot::channel();
    let mut waiting = lock(&index.queue.state);
    if waiting.closed {
        let _ = answer.send(Err(missing(&index.name)));
        return receiver;
    }
    waiting.jobs.push_back(Job { writes, answer });
    index.queue.changed.notify_all();
    let idle = !std::mem::replace(&mut waiting.busy, true);
    drop(waiting);
    if idle {
        let (busy, writers) = (
            Busy {
                index: Arc::clone(index),
                ended: false,
            },
            Arc::clone(writers),
        );
        let runtime = tokio::runtime::Handle::current();
        // Owned by the calls, which wait for its answers, and by the engine, which waits for its end when it closes.
        tokio::task::spawn_blocking(move || empty(busy, &writers, &runtime));
    }
    receiver
}

/// Frees the queue when its thread panics or never starts: the calls in it are answered by their senders' end.
struct Busy {
    index: Arc<OpenIndex>,
    ended: bool,
}

impl Busy {
    /// Leaves the queue, if it is empty: whoever fills it next starts another thread.
    fn leave(&mut self) -> bool {
        let queue = &self.index.queue;
        let mut waiting = lock(&queue.state);
        if waiting.jobs.is_empty() {
            waiting.busy = false;
            self.ended = true;
            queue.changed.notify_all();
        }
        self.ended
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.ended {
            let queue = &self.index.queue;
            let mut waiting = lock(&queue.state);
            waiting.busy = false;
            waiting.jobs.clear();
            queue.changed.notify_all();
        }
    }
}

fn empty(mut busy: Busy, writers: &Writers, runtime: &tokio::runtime::Handle) {
    let index = Arc::clone(&busy.index);
    let mut ingest = Ingest::new(&index.fields);
    let mut last_commit = Duration::ZERO;
    loop {
        // The semaphore is fair: with more busy indexes than writers, they take turns.
        let permit = runtime
            .block_on(writers.permits.acquire())
            .expect("the semaphore is never closed");
        turn(&index, writers, &mut ingest, &mut last_commit);
        drop(permit);
        if busy.leave() {
            return;
        }
    }
}

/// Writes and commits until the queue is empty or another index waits for a writer.
fn turn(index: &OpenIndex, writers: &Writers, ingest: &mut Ingest, last_commit: &mut Duration) {
    let mut writer = match writers.take(index) {
        Ok(writer) => writer,
        Err(error) => return fail(index, Vec::new(), &error),
    };
    loop {
        let mut group = Group::default();
        let done = group
            .fill(index, &mut writer, ingest, *last_commit)
            .and_then(|()| {
                let started = Instant::now();
                group.commit(index, &mut writer)?;
                *last_commit = started.elapsed();
                Ok(())
            });
        match done {
            Ok(()) => group.answer(),
            Err(error) => {
                // What the writer holds is unknown: without a commit, dropping it forgets it.
                writers.discard(writer);
                *lock(&index.queue.tickets) = Tickets::default();
                return fail(index, group.calls, &error);
            }
        }
        if lock(&index.queue.state).jobs.is_empty() || writers.permits.available_permits() == 0 {
            return writers.give(index, writer);
        }
    }
}

/// Answers these calls, and those that wait, with a failure of the whole call.
fn fail(index: &OpenIndex, calls: Vec<Call>, error: &Error) {
    let again = || {
        let made = Error::new(error.fault(), error.code(), error.message());
        match error.remedy() {
            Some(remedy) => made.with_remedy(remedy),
            None => made,
        }
    };
    tracing::warn!(index = %index.name, code = error.code(), "writing to an index failed");
    let waiting: Vec<Job> = lock(&index.queue.state).jobs.drain(..).collect();
    let answers = calls
        .into_iter()
        .map(|call| call.answer)
        .chain(waiting.into_iter().map(|job| job.answer));
    for answer in answers {
        let _ = answer.send(Err(again()));
    }
}

/// A call whose writes were handed to the writer.
struct Call {
    outcomes: Vec<(usize, Applied)>,
    answer: oneshot::Sender<Answer>,
}

/// The calls that share a commit.
#[derive(Default)]
struct Group {
    calls: Vec<Call>,
    /// Whether there is anything to commit.
    written: bool,
    /// Whether its commit waits for no other call.
    urgent: bool,
}

impl Group {
    /// Hands waiting writes to the writer until a commit is due.
    fn fill(
        &mut self,
        index: &OpenIndex,
        writer: &mut IndexWriter,
        ingest: &mut Ingest,
        last_commit: Duration,
    ) -> Result<()> {
        let started = Instant::now();
        let mut bytes = 0;
        loop {
            while bytes < COMMIT_BYTES && started.elapsed() < COMMIT_AFTER {
                let Some(job) = lock(&index.queue.state).jobs.pop_front() else {
                    break;
                };
                let added = self.add(index, writer, ingest, job)?;
                self.urgent |= added < URGENT_BYTES;
                bytes += added;
            }
            let left = COMMIT_AFTER.saturating_sub(started.elapsed());
            if self.urgent || !(BULK_BYTES..COMMIT_BYTES).contains(&bytes) || left.is_zero() {
                return Ok(());
            }
            let patience = LINGER.min(last_commit / 2).min(left);
            let waiting = lock(&index.queue.state);
            let (waiting, _) = index
                .queue
                .changed
                .wait_timeout_while(waiting, patience, |waiting| {
                    waiting.jobs.is_empty() && !waiting.closed
                })
                .unwrap_or_else(PoisonError::into_inner);
            if waiting.jobs.is_empty() {
                return Ok(());
            }
        }
    }

    fn add(
        &mut self,
        index: &OpenIndex,
        writer: &mut IndexWriter,
        ingest: &mut Ingest,
        job: Job,
    ) -> Result<usize> {
        let Job { writes, answer } = job;
        let mut call = Call {
            outcomes: Vec::with_capacity(writes.len()),
            answer,
        };
        let mut bytes = 0;
        let mut failed = None;
        let mut tickets = lock(&index.queue.tickets);
        for (place, write) in writes {
            let outcome = match apply(index, writer, ingest, &mut tickets, &write) {
                Ok(size) => {
                    bytes += size;
                    self.written = true;
                    Applied::Done
                }
                Err(Refused::Superseded) => Applied::Superseded,
                Err(Refused::Poison(error)) => Applied::Failed(error),
                Err(Refused::Writer(error)) => {
                    failed = Some(error);
                    break;
                }
            };
            call.outcomes.push((place, outcome));
        }
        self.calls.push(call);
        failed.map_or(Ok(bytes), Err)
    }

    fn commit(&self, index: &OpenIndex, writer: &mut IndexWriter) -> Result<()> {
        if self.written {
            writer
                .commit()
                .map_err(|error| from_tantivy(error, "committing to an index"))?;
            index
                .reload()
                .map_err(|error| from_tantivy(error, "reading a commit of an index"))?;
            lock(&index.queue.tickets).committed();
        }
        Ok(())
    }

    fn answer(self) {
        for call in self.calls {
            // Nobody listens when the caller gave up; the writes are durable all the same.
            let _ = call.answer.send(Ok(call.outcomes));
        }
    }
}

/// Why a write was not handed to the writer.
enum Refused {
    Superseded,
    Poison(Error),
    /// The writer failed: nothing since the last commit is safe.
    Writer(Error),
}

/// Hands one write to the writer; returns its size.
fn apply(
    index: &OpenIndex,
    writer: &IndexWriter,
    ingest: &mut Ingest,
    tickets: &mut Tickets,
    write: &Write,
) -> Result<usize, Refused> {
    let fields = &index.fields;
    if !tickets.draw(write.id(), write.ticket()) {
        return Err(Refused::Superseded);
    }
    let former = Term::from_field_text(fields.id, write.id().as_str());
    match write {
        Write::Put(document, ticket) => {
            let made = ingest
                .document(fields, document, *ticket, index.next_sequence())
                .map_err(Refused::Poison)?;
            writer.delete_term(former);
            writer
                .add_document(made)
                .map_err(|error| Refused::Writer(from_tantivy(error, "writing to an index")))?;
            Ok(document.source.len() + 64)
        }
        Write::Delete(..) => {
            writer.delete_term(former);
            Ok(64)
        }
    }
}

/// The writers of all indexes.
pub(crate) struct Writers {
    /// One for each writer that may be open.
    permits: Semaphore,
    most: usize,
    bytes: usize,
    state: Mutex<Open>,
    closed: Condvar,
}

#[derive(Default)]
struct Open {
    /// Open and unused, the longest unused first.
    idle: VecDeque<(IndexName, IndexWriter)>,
    /// Being closed: they still hold the lock of their index.
    closing: HashSet<IndexName>,
    /// Open writers, used or not.
    count: usize,
}

impl Writers {
    /// Writers that take about this much memory together, at least that of one.
    pub(crate) fn new(bytes: usize) -> Self {
        let most = (bytes / WRITER_BYTES).clamp(1, 32);
        let each = (bytes / most).max(WRITER_BYTES);
        Writers {
            permits: Semaphore::new(most),
            most,
            bytes: each,
            state: Mutex::default(),
            closed: Condvar::new(),
        }
    }

    /// The memory of one writer.
    pub(crate) fn memory(&self) -> usize {
        self.bytes
    }

    /// The writer of an index, opened if needed. The caller holds a permit and gives the writer back.
    fn take(&self, index: &OpenIndex) -> Result<IndexWriter> {
        let mut open = lock(&self.state);
        while open.closing.contains(&index.name) {
            open = self.closed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(at) = open.idle.iter().position(|(name, _)| *name == index.name) {
            let (_, writer) = open.idle.remove(at).expect("its place was just found");
            return Ok(writer);
        }
        if open.count >= self.most
            && let Some((name, writer)) = open.idle.pop_front()
        {
            open = self.close(open, name, writer);
        }
        open.count += 1;
        drop(open);
        self.open(index).inspect_err(|_| lock(&self.state).count -= 1)
    }

    /// A writer that is not counted.
    pub(crate) fn open(&self, index: &OpenIndex) -> Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(self.bytes)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer: IndexWriter<TantivyDocument> = index
            .index
            .writer_with_options(options)
            .map_err(|error| from_tantivy(error, "opening an index for writing"))?;
        let mut policy = LogMergePolicy::default();
        policy.set_min_layer_size(2_000);
        policy.set_del_docs_ratio_before_merge(0.3);
        writer.set_merge_policy(Box::new(policy));
        // A process that died while it committed may have left files of the commit that never was. The next commit would
        // take the same names, and fail over them for ever.
        writer
            .garbage_collect_files()
            .wait()
            .map_err(|error| from_tantivy(error, "opening an index for writing"))?;
        Ok(writer)
    }

    fn give(&self, index: &OpenIndex, writer: IndexWriter) {
        lock(&self.state).idle.push_back((index.name.clone(), writer));
    }

    /// Closes a writer that failed, with all that it did not commit.
    fn discard(&self, writer: IndexWriter) {
        drop(writer);
        lock(&self.state).count -= 1;
    }

    /// Closes the idle writer of an index that is being removed.
    pub(crate) fn forget(&self, name: &IndexName) {
        let mut open = lock(&self.state);
        while open.closing.contains(name) {
            open = self.closed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(at) = open.idle.iter().position(|(idle, _)| idle == name) {
            let (name, writer) = open.idle.remove(at).expect("its place was just found");
            drop(self.close(open, name, writer));
        }
    }

    /// Closes the writers that nobody uses, after the merges they have begun.
    pub(crate) fn close_idle(&self) {
        let mut open = lock(&self.state);
        while let Some((name, writer)) = open.idle.pop_front() {
            open = self.close(open, name, writer);
        }
    }

    /// Closes a writer, after the merges it has begun.
    fn close<'a>(
        &'a self,
        mut open: MutexGuard<'a, Open>,
        name: IndexName,
        writer: IndexWriter,
    ) -> MutexGuard<'a, Open> {
        open.closing.insert(name.clone());
        drop(open);
        if let Err(error) = writer.wait_merging_threads() {
            tracing::warn!(index = %name, %error, "a merge of segments failed; the segments stay as they were");
        }
        let mut open = lock(&self.state);
        open.closing.remove(&name);
        open.count -= 1;
        self.closed.notify_all();
        open
    }
}
