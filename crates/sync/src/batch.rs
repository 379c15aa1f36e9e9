//! One batch on its way: building its documents, writing them, settling. Each is one task without access to the owner's
//! bookkeeping; what they return is judged by the owner.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{
    Applied, Builder, Built, ChangeLog, CollectionName, DocId, DocKey, Document, Engine, Error, Fault,
    IndexName, Language, Outcome, Owned, Placed, Reads, Result, RowKey, Seq, Settlement, Ticket, Trouble,
    Write,
};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::flight::{Job, Lane};
use crate::indexer::Partition;
use crate::metrics;
use crate::signal::SignalledLog;

/// What all batches of a set share.
pub(crate) struct Context {
    pub(crate) owned: Owned,
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Arc<SignalledLog>,
}

/// Where a batch belongs.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) lane: Lane,
    pub(crate) collection: CollectionName,
    pub(crate) partitions: Arc<[Partition]>,
    pub(crate) ticket: Ticket,
    /// [`instep_core::Taken::rows`], drawn with the ticket.
    pub(crate) rows: u64,
}

/// About what one recorded row takes in memory.
const READ: usize = 100;

/// A batch whose documents are built.
#[derive(Debug)]
pub(crate) struct BuiltBatch {
    pub(crate) route: Route,
    pub(crate) items: Vec<(Job, Fate)>,
    /// The size of its documents.
    pub(crate) bytes: usize,
}

/// What is to be done for a document that was built.
#[derive(Debug)]
pub(crate) enum Fate {
    /// Write it.
    Put(Document),
    /// Its row is gone.
    Delete,
    /// It is there, in this language, and only its absence would matter.
    Keep(Language),
    /// It cannot be built or indexed. An older state must not stay: its readers are no longer known.
    Bury(Failure),
    /// It could not be built now.
    Later(Failure),
}

/// Why a document failed, and what is known of its former failures.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    pub(crate) known: Option<Trouble>,
}

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        let reason = match error.remedy() {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        };
        Failure {
            code: error.code(),
            reason,
            known: None,
        }
    }

    /// Whether the document was a dead letter for this reason before.
    pub(crate) fn is_known(&self) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| known.next_ms.is_none() && known.code == self.code)
    }

    /// The trouble to be settled; `next_ms` as there.
    pub(crate) fn trouble(self, key: DocKey, next_ms: Option<i64>) -> Trouble {
        let (seq, attempts) = self
            .known
            .map_or((Seq(0), 0), |known| (known.seq, known.attempts));
        Trouble {
            key,
            seq,
            code: self.code.to_owned(),
            reason: self.reason,
            attempts: attempts + 1,
            next_ms,
        }
    }

    /// How often it was tried before.
    pub(crate) fn attempts(&self) -> u32 {
        self.known.as_ref().map_or(0, |known| known.attempts)
    }
}

/// A batch whose writes were handed to the engine.
#[derive(Debug)]
pub(crate) struct AppliedBatch {
    pub(crate) route: Route,
    pub(crate) items: Vec<(Job, Verdict)>,
    pub(crate) bytes: usize,
}

/// What became of one document.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// In order.
    Fine(Outcome),
    /// It is there, and nobody wanted it written.
    Kept,
    /// A dead letter, and nothing of the document is left in the engine.
    Buried(Failure),
    /// The engine refuses it: what it holds of the document has to go.
    Refused(Failure),
    /// Not now.
    Later(Failure),
}

/// A batch that failed as a whole: every outcome is unknown.
#[derive(Debug)]
pub(crate) struct FailedBatch {
    pub(crate) route: Route,
    pub(crate) jobs: Vec<Job>,
    pub(crate) bytes: usize,
    pub(crate) error: Error,
    /// What failed.
    pub(crate) phase: Phase,
}

/// The two halves of a batch's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Build,
    Apply,
}

/// Builds a batch.
pub(crate) async fn build(
    context: &Context,
    route: Route,
    jobs: Vec<Job>,
) -> Result<BuiltBatch, Box<FailedBatch>> {
    let ids: Vec<DocId> = jobs.iter().map(|job| job.key.id.clone()).collect();
    let records = context.builder.records(&route.collection);
    let started = Instant::now();
    let built = context.builder.build(&route.collection, &ids).await;
    metrics::phase(&context.owned.set, "build", started.elapsed());
    let failed = |route, jobs, error| {
        Box::new(FailedBatch {
            route,
            jobs,
            bytes: 0,
            error,
            phase: Phase::Build,
        })
    };
    let built = match built {
        Ok(built) if built.len() == jobs.len() => built,
        Ok(built) => {
            let message = format!("{} documents were built for {} keys", built.len(), jobs.len());
            return Err(failed(route, jobs, Error::fatal("bad_builder", message)));
        }
        Err(error) => return Err(failed(route, jobs, error)),
    };
    let mut bytes = 0;
    let mut items = Vec::with_capacity(jobs.len());
    for (mut job, built) in jobs.into_iter().zip(built) {
        let (fate, rows) = judge_built(built, job.wanted.write);
        if let Fate::Put(document) = &fate {
            bytes += document.source.len();
        }
        let rows = rows.filter(|rows: &Vec<RowKey>| records || !rows.is_empty());
        job.reads = rows.map(|rows| {
            bytes += rows.len() * READ;
            Reads {
                key: job.key.clone(),
                since: route.rows,
                rows,
            }
        });
        items.push((job, fate));
    }
    let failures = items.iter_mut().filter_map(|(job, fate)| match fate {
        Fate::Bury(failure) | Fate::Later(failure) => Some((&job.key, failure)),
        Fate::Put(_) | Fate::Delete | Fate::Keep(_) => None,
    });
    let looked_up = look_up(context, failures.collect()).await;
    let placed = match looked_up {
        Ok(()) => place(context, &route, &mut items).await,
        Err(error) => Err(error),
    };
    match placed {
        Ok(()) => Ok(BuiltBatch { route, items, bytes }),
        Err(error) => Err(failed(
            route,
            items.into_iter().map(|(job, _)| job).collect(),
            error,
        )),
    }
}

/// In a collection with several partitions: from which of them each document is to be removed. Where it lies is forgotten
/// before it is written elsewhere, so that no crash leaves a record of where it no longer lies.
async fn place(context: &Context, route: &Route, items: &mut [(Job, Fate)]) -> Result<()> {
    if route.partitions.len() == 1 || items.is_empty() {
        return Ok(());
    }
    let keys: Vec<DocKey> = items.iter().map(|(job, _)| job.key.clone()).collect();
    let known = context.log.placements(&context.owned.set, &keys).await?;
    let mut moved = Vec::new();
    for ((job, fate), known) in items.iter_mut().zip(known) {
        let own = match fate {
            Fate::Put(document) => Some(document.language.clone()),
            Fate::Keep(language) => Some(language.clone()),
            Fate::Delete | Fate::Bury(_) => None,
            Fate::Later(_) => continue,
        };
        let is_certain = !job.wanted.unconfirmed && !job.wanted.sweep;
        let known = known.filter(|_| is_certain);
        let known = known.filter(|known| route.partitions.iter().any(|one| one.language == *known));
        let holds = |partition: &Partition| match &known {
            Some(known) => partition.language == *known,
            None => true,
        };
        let others = route.partitions.iter().enumerate();
        let others = others.filter(|(_, one)| Some(&one.language) != own.as_ref() && holds(one));
        job.sweep = others.map(|(at, _)| at).collect();
        // Also where nothing is known: a settlement on its way may hold an older write.
        if matches!(fate, Fate::Put(_)) && !job.sweep.is_empty() {
            moved.push(job.key.clone());
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    let set = &context.owned.set;
    context.log.forget_placements(set, &moved, route.ticket).await
}

/// What is to be done for a document, and the rows it read, where they replace what was recorded before.
fn judge_built(built: Built, write: bool) -> (Fate, Option<Vec<RowKey>>) {
    match built {
        // What the engine holds was built before, and is not replaced: neither is what that build read.
        Built::Document(document, _) if !write => (Fate::Keep(document.language), None),
        Built::Document(document, rows) => (Fate::Put(document), Some(rows)),
        Built::Gone => (Fate::Delete, Some(Vec::new())),
        Built::Rejected(error, rows) => match error.fault() {
            Fault::Transient => (Fate::Later(Failure::of(&error)), Some(rows)),
            Fault::Poison
            | Fault::Fatal
            | Fault::Invalid
            | Fault::Unauthenticated
            | Fault::Denied
            | Fault::NotFound
            | Fault::Conflict => (Fate::Bury(Failure::of(&error)), Some(rows)),
        },
    }
}

/// Writes a batch. Documents that were rejected are deleted; the stand-in of a row that cannot be named has none.
pub(crate) async fn apply(
    context: &Context,
    batch: BuiltBatch,
    deadline: Duration,
) -> Result<AppliedBatch, Box<FailedBatch>> {
    let BuiltBatch { route, items, bytes } = batch;
    let mut writes = Vec::with_capacity(items.len());
    let mut pending = Vec::with_capacity(items.len());
    for (mut job, fate) in items {
        let ticket = route.ticket;
        let delete = || Write::Delete(job.key.id.clone(), ticket);
        let (write, hope) = match fate {
            Fate::Put(document) => (
                Some(Write::Put(document, ticket)),
                Verdict::Fine(Outcome::Indexed),
            ),
            Fate::Delete => (Some(delete()), Verdict::Fine(Outcome::Deleted)),
            Fate::Keep(_) => (None, Verdict::Kept),
            Fate::Later(failure) => (None, Verdict::Later(failure)),
            Fate::Bury(failure) if job.key.id.is_stand_in() => (None, Verdict::Buried(failure)),
            Fate::Bury(failure) => (Some(delete()), Verdict::Buried(failure)),
        };
        let before = writes.len();
        match &route.partitions[..] {
            [only] => writes.extend(write.map(|write| (only.index.clone(), write))),
            several => {
                let placed = write.is_some();
                let language = match write {
                    Some(Write::Put(document, ticket)) => {
                        let language = document.language.clone();
                        let own = several.iter().find(|one| one.language == language);
                        let own = own.expect("a document is built in one of its collection's languages");
                        writes.push((own.index.clone(), Write::Put(document, ticket)));
                        Some(language)
                    }
                    Some(Write::Delete(..)) | None => None,
                };
                if !job.key.id.is_stand_in() {
                    let elsewhere = job.sweep.iter().map(|at| (several[*at].index.clone(), delete()));
                    writes.extend(elsewhere);
                }
                job.placed = placed.then(|| Placed {
                    key: job.key.clone(),
                    language,
                    ticket,
                });
            }
        }
        let count = writes.len() - before;
        pending.push((job, hope, count));
    }
    let outcomes = match write(context, writes, deadline).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let jobs = pending.into_iter().map(|(job, ..)| job).collect();
            return Err(Box::new(FailedBatch {
                route,
                jobs,
                bytes,
                error,
                phase: Phase::Apply,
            }));
        }
    };
    let mut outcomes = outcomes.into_iter();
    let mut superseded = Vec::new();
    let mut items = Vec::with_capacity(pending.len());
    for (job, hope, count) in pending {
        let outcome = outcomes.by_ref().take(count).reduce(worse);
        if matches!(outcome, Some(Applied::Superseded)) {
            superseded.push(job.key.id.clone());
        }
        items.push((job, judge(hope, outcome)));
    }
    let failures = items.iter_mut().filter_map(|(job, verdict)| match verdict {
        Verdict::Refused(failure) | Verdict::Later(failure) => Some((&job.key, failure)),
        Verdict::Fine(_) | Verdict::Kept | Verdict::Buried(_) => None,
    });
    let looked_up = look_up(context, failures.collect()).await;
    match looked_up.and(explain(context, &route, &superseded).await) {
        Ok(()) => Ok(AppliedBatch { route, items, bytes }),
        Err(error) => {
            let jobs = items.into_iter().map(|(job, _)| job).collect();
            Err(Box::new(FailedBatch {
                route,
                jobs,
                bytes,
                error,
                phase: Phase::Apply,
            }))
        }
    }
}

/// One outcome for each write. A failure that neither waiting nor leaving one document out can mend is one of the call.
async fn write(
    context: &Context,
    writes: Vec<(IndexName, Write)>,
    deadline: Duration,
) -> Result<Vec<Applied>> {
    let count = writes.len();
    if count == 0 {
        return Ok(Vec::new());
    }
    let started = Instant::now();
    let applied = tokio::time::timeout(deadline, context.engine.apply(writes)).await;
    metrics::phase(&context.owned.set, "apply", started.elapsed());
    let applied = applied.unwrap_or_else(|_| {
        Err(Error::transient(
            "apply_timeout",
            format!("the engine did not answer within {deadline:?}"),
        ))
    })?;
    if applied.len() != count {
        return Err(Error::fatal(
            "bad_engine",
            format!("the engine answered {} of {count} writes", applied.len()),
        ));
    }
    let mut outcomes = Vec::with_capacity(count);
    for outcome in applied {
        match outcome {
            Applied::Failed(error) if !matches!(error.fault(), Fault::Transient | Fault::Poison) => {
                return Err(error);
            }
            Applied::Failed(_) | Applied::Done | Applied::Superseded => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}

/// What became of several writes of one document: a failure of any, else whether some index holds a newer state.
fn worse(first: Applied, later: Applied) -> Applied {
    match (first, later) {
        (Applied::Failed(error), _) | (_, Applied::Failed(error)) => Applied::Failed(error),
        (Applied::Superseded, _) | (_, Applied::Superseded) => Applied::Superseded,
        (Applied::Done, Applied::Done) => Applied::Done,
    }
}

fn judge(hope: Verdict, outcome: Option<Applied>) -> Verdict {
    match (outcome, hope) {
        (None | Some(Applied::Done), hope) => hope,
        (Some(Applied::Superseded), Verdict::Buried(failure)) => Verdict::Buried(failure),
        (Some(Applied::Superseded), _) => Verdict::Fine(Outcome::Superseded),
        (Some(Applied::Failed(error)), _) if error.is_transient() => Verdict::Later(Failure::of(&error)),
        // What cannot even be deleted keeps the reason why it had to be.
        (Some(Applied::Failed(_)), Verdict::Buried(failure)) => Verdict::Buried(failure),
        (Some(Applied::Failed(error)), _) => Verdict::Refused(Failure::of(&error)),
    }
}

/// Makes a settlement durable. The same one is repeated until the log has it or refuses it.
pub(crate) async fn settle(context: &Context, settlement: Settlement, mut backoff: Backoff) -> Result<()> {
    let started = Instant::now();
    loop {
        match context.log.settle(&context.owned, &settlement).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(set = %context.owned.set, code = error.code(), "settling waits: {error}");
                tokio::time::sleep(backoff.next()).await;
            }
            settled => {
                metrics::phase(&context.owned.set, "settle", started.elapsed());
                return settled.map(drop);
            }
        }
    }
}

/// Adds to failures what the log knows of the documents.
async fn look_up(context: &Context, failures: Vec<(&DocKey, &mut Failure)>) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let keys: Vec<DocKey> = failures.iter().map(|(key, _)| (*key).clone()).collect();
    let known = context.log.trouble_of(&context.owned.set, &keys).await?;
    for ((_, failure), known) in failures.into_iter().zip(known) {
        failure.known = known;
    }
    Ok(())
}

/// An engine that holds a higher ticket than the next one we draw was written by a log that knew more than ours: a
/// restored state file, a second installation. Going on would leave its documents as they are for ever.
async fn explain(context: &Context, route: &Route, superseded: &[DocId]) -> Result<()> {
    if superseded.is_empty() {
        return Ok(());
    }
    let mut highest: Option<Ticket> = None;
    for partition in route.partitions.iter() {
        let stored = context.engine.read(&partition.index, superseded).await?;
        let here = stored.into_iter().flatten().map(|stored| stored.ticket).max();
        highest = highest.max(here);
    }
    let Some(highest) = highest else { return Ok(()) };
    if highest <= route.ticket {
        return Ok(());
    }
    let next = context
        .log
        .take(&context.owned, context.owned.position, 0)
        .await?
        .ticket;
    if highest <= next {
        return Ok(());
    }
    let message = format!(
        "the engine holds ticket {} in `{}`, the log of this set is at {}",
        highest.0, route.partitions[0].index, next.0
    );
    Err(Error::fatal("ticket_behind", message).with_remedy(
        "the state file is older than the index: index into a new set, or restore the newer state file",
    ))
}

#[cfg(test)]
mod tests {
    use instep_core::{Key, Language, Readers, Value};

    use super::*;

    fn rows() -> Vec<RowKey> {
        vec![RowKey {
            table: "part".into(),
            key: Key::new([Value::Int(1)]),
        }]
    }

    fn document() -> Built {
        let document = Document {
            id: DocId::naming(&Key::new([Value::Int(1)])),
            language: Language::unspecified(),
            readers: Readers::Public,
            source: "{}".into(),
        };
        Built::Document(document, rows())
    }

    /// A row that has just left the document would no longer lead to the older state that the engine still holds.
    #[test]
    fn a_document_that_is_not_written_keeps_what_is_on_record() {
        assert!(matches!(judge_built(document(), false), (Fate::Keep(_), None)));
        let (fate, read) = judge_built(document(), true);
        assert!(matches!(fate, Fate::Put(_)) && read == Some(rows()));
    }

    #[test]
    fn what_is_gone_read_nothing_and_what_is_rejected_did() {
        for write in [true, false] {
            let (fate, read) = judge_built(Built::Gone, write);
            assert!(matches!(fate, Fate::Delete) && read == Some(Vec::new()));
            let poison = Built::Rejected(Error::poison("misfit", "does not fit"), rows());
            let (fate, read) = judge_built(poison, write);
            assert!(matches!(fate, Fate::Bury(_)) && read == Some(rows()));
            let busy = Built::Rejected(Error::transient("busy", "not now"), rows());
            let (fate, read) = judge_built(busy, write);
            assert!(matches!(fate, Fate::Later(_)) && read == Some(rows()));
        }
    }
}
