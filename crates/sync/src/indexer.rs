//! The indexer of one set: becomes its owner, makes its indexes exist, and works until it is told to stop.
//!
//! Each set has its own indexer and its own engine handle: one set's failure or slowness never delays another. A fatal
//! failure halts the set in the log, with the reason and the remedy; when a person sets it to follow again, the
//! indexer goes on from the position.
//!
//! An index that does not fit its collection's definition any more halts the set, until a person lets it be made again
//! ([`crate::remake_memo`]): while it is (`drop`, `ensure`, scan), searches of this set see it partly filled. One that another
//! version made, which cannot be searched anyway, is made again without asking.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use instep_core::{
    Builder, ChangeLog, Collection, CollectionName, Engine, Ensured, Error, Fault, IndexName, Language,
    Mapping, Result, ResultExt, SetName, SetState, Settings, SourceName,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::signal::SignalledLog;
use crate::status::{
    Activity, Problem, Shutdown, SourceStatus, definition_memo, halt_memo, place_memo, remake_memo, stopped,
};
use crate::tenure::{Stop, Tenure};

/// An engine of which a write tells this answers no search either.
const ROAD: [&str; 4] = [
    "engine_certificate",
    "engine_cut",
    "engine_timeout",
    "engine_unreachable",
];

/// A set to index: where, and what.
#[derive(Clone)]
pub struct SetDefinition {
    /// Its name.
    pub set: SetName,
    /// The collections it holds.
    pub collections: Vec<Collection>,
    /// Where its indexes are.
    pub engine: Arc<dyn Engine>,
    /// Settings of its indexes.
    pub settings: Settings,
}

/// How an indexer works. The defaults suit a small machine.
#[derive(Clone, Debug)]
pub struct IndexerOptions {
    /// Documents in a batch, at most.
    pub batch: usize,
    /// Batches of each lane under way, at most. Entries that come while as many are under way fold.
    pub batches: usize,
    /// Bytes of built documents in memory, over both lanes.
    pub budget: usize,
    /// Keys in a chunk of a scan.
    pub chunk: usize,
    /// Attempts of a document that fails for a moment, before it becomes a retry and the position moves on.
    pub attempts: u32,
    /// The first wait after a failure of the engine, a source or the log, and the longest.
    pub backoff: (Duration, Duration),
    /// The first wait of a retry, and the longest.
    pub retry: (Duration, Duration),
    /// How long a call of the engine may take; also after which a delete of unknown outcome is repeated.
    pub deadline: Duration,
    /// How long a collection may fail because the source does not fit its definition, before it halts.
    pub grace: Duration,
    /// How often to look for what other processes wrote.
    pub poll: Duration,
    /// How long to finish what is under way when told to stop.
    pub drain: Duration,
    /// Seeds the jitter of all waits.
    pub seed: u64,
}

impl Default for IndexerOptions {
    fn default() -> Self {
        IndexerOptions {
            batch: 1_000,
            batches: 8,
            budget: 16 << 20,
            chunk: 2_000,
            attempts: 5,
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            retry: (Duration::from_secs(1), Duration::from_secs(300)),
            deadline: Duration::from_secs(120),
            grace: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            drain: Duration::from_secs(10),
            seed: 0,
        }
    }
}

/// A collection as this set holds it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) fingerprint: String,
    pub(crate) source: SourceName,
    /// See [`Collection::debounce`].
    pub(crate) debounce: Duration,
    /// One for each language, at least one.
    pub(crate) partitions: Arc<[Partition]>,
}

impl Target {
    /// Whether an index is of this collection under another definition, in a language that it no longer has. What an
    /// index holds that nobody follows must not be found should the language come back.
    fn had(&self, set: &SetName, name: &CollectionName, index: &IndexName) -> bool {
        // No name of a set or a collection holds a `-`.
        let of_collection = format!("documents-{set}-{name}-");
        index.as_str().starts_with(&of_collection)
            && self.partitions.iter().all(|partition| partition.index != *index)
    }
}

/// The documents of a collection in one language.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) language: Language,
    pub(crate) index: IndexName,
    mapping: Mapping,
}

impl Partition {
    /// Those of a collection in a set.
    pub(crate) fn of(set: &SetName, collection: &Collection) -> Arc<[Partition]> {
        let languages = collection.language.all().into_iter();
        let partition = |language: Language| Partition {
            index: IndexName::physical(set, &collection.name, &language),
            mapping: Mapping::of(collection, &language),
            language,
        };
        languages.map(partition).collect()
    }
}

/// Moves one set forward.
pub struct Indexer {
    pub(crate) set: SetName,
    pub(crate) targets: BTreeMap<CollectionName, Target>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) log: Arc<SignalledLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sources: HashMap<SourceName, watch::Receiver<SourceStatus>>,
    pub(crate) options: IndexerOptions,
    settings: Settings,
    owner: String,
    pub(crate) activity: watch::Sender<Activity>,
}

impl Indexer {
    /// An indexer of this set. `owner` names this process in the log. `sources`: their followers' statuses: a scan
    /// starts once its source's changes are captured. A source without a follower here is not waited for.
    pub fn new(
        definition: SetDefinition,
        builder: Arc<dyn Builder>,
        log: Arc<SignalledLog>,
        clock: Arc<dyn Clock>,
        sources: HashMap<SourceName, watch::Receiver<SourceStatus>>,
        owner: &str,
        options: IndexerOptions,
    ) -> Self {
        let SetDefinition {
            set,
            collections,
            engine,
            settings,
        } = definition;
        let target = |collection: &Collection| Target {
            fingerprint: collection.fingerprint(),
            partitions: Partition::of(&set, collection),
            source: collection.source.clone(),
            debounce: collection.debounce,
        };
        let targets = collections
            .iter()
            .map(|collection| (collection.name.clone(), target(collection)))
            .collect();
        Indexer {
            targets,
            set,
            engine,
            builder,
            log,
            clock,
            sources,
            options,
            settings,
            owner: owner.to_owned(),
            activity: watch::Sender::new(Activity::default()),
        }
    }

    /// What it is doing, from now on.
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Works until it is told to stop; then it finishes what is under way. Registers the set with the log first.
    ///
    /// An `Err` means that another process became the set's owner: it works there, and no more here.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<()> {
        let (first, most) = self.options.backoff;
        let mut backoff = Backoff::new(first, most, self.options.seed);
        loop {
            let began = Instant::now();
            let stop = match self.follow_once(&mut shutdown).await {
                Ok(stop) => stop,
                Err(error) => Stop::of(error),
            };
            self.activity.send_modify(|activity| {
                (activity.working, activity.in_flight) = (false, 0);
                activity.halted.clear();
            });
            match stop {
                Stop::Shutdown => return Ok(()),
                Stop::NotFollowing => {
                    self.report(None);
                }
                Stop::Lost(error) => {
                    self.report(Some(&error));
                    return Err(error);
                }
                Stop::Halt(error) if error.is_transient() => {
                    if self.report(Some(&error)) {
                        let problem = Problem::of_set(&error, &self.set).line();
                        tracing::warn!(set = %self.set, code = error.code(), "the set waits: {problem}");
                    }
                    if began.elapsed() > most {
                        backoff.reset();
                    }
                    let wait = backoff.next();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stopped(&mut shutdown) => return Ok(()),
                    }
                }
                Stop::Halt(error) => self.halt(&error, &mut backoff, &mut shutdown).await,
            }
        }
    }

    /// Waits until the set follows, owns it, and works until something stops it.
    async fn follow_once(&self, shutdown: &mut Shutdown) -> Result<Stop> {
        let collections: Vec<_> = self
            .targets
            .iter()
            .map(|(name, target)| (name.clone(), target.fingerprint.clone()))
            .collect();
        self.log.register(&self.set, &collections).await?;
        let mut signal = self.log.watch();
        while !self.follows().await? {
            tokio::select! {
                _ = signal.changed() => {}
                () = tokio::time::sleep(self.options.poll) => {}
                () = stopped(shutdown) => return Ok(Stop::Shutdown),
            }
        }
        let owned = self.log.own(&self.set, &self.owner).await?;
        let all_made = self.prepare().await?;
        tracing::info!(set = %self.set, position = owned.position.0, "indexing");
        let mut tenure = Tenure::new(self, owned, all_made).await?;
        self.report(None);
        self.activity.send_modify(|activity| activity.working = true);
        Ok(tenure.run(shutdown).await)
    }

    /// Whether the log says that this set is to be worked on.
    pub(crate) async fn follows(&self) -> Result<bool> {
        let sets = self.log.status().await?;
        Ok(sets
            .iter()
            .any(|status| status.set == self.set && status.state == SetState::Following))
    }

    /// Makes the index of each collection exist. An index that is not there although the log believes that documents
    /// were written to it, or that has to be made again, is scanned from the beginning: that is written down first, so
    /// that a crash in between scans again rather than leaving it empty. Whether all of them were made just now.
    async fn prepare(&self) -> Result<bool> {
        if !self.engine.capabilities().stores {
            return Ok(true);
        }
        let mut all_made = true;
        self.stays().await?;
        let there = self.engine.indexes().await?;
        let scans = self.log.scans(&self.set).await?;
        for (name, target) in &self.targets {
            let begun = scans.iter().any(|scan| {
                scan.collection == *name && (scan.finished || scan.after.is_some() || scan.done > 0)
            });
            let leave = self.leave_to_remake(name, target).await?;
            let remade = leave.is_some();
            for index in there.iter().filter(|index| target.had(&self.set, name, index)) {
                tracing::warn!(set = %self.set, %index, "the collection has no documents in this language any more: the index is removed");
                self.engine.drop_index(index).await?;
            }
            for partition in target.partitions.iter() {
                let is_gone = begun && !there.contains(&partition.index);
                all_made &= self
                    .prepare_partition(name, target, partition, is_gone, remade)
                    .await?;
            }
            if let Some(definition) = leave {
                self.log
                    .set_memo(&definition_memo(&self.set, name), Some(&definition))
                    .await?;
                self.log.set_memo(&remake_memo(&self.set, name), None).await?;
            }
        }
        Ok(all_made)
    }

    /// What the log knows of a set's documents holds in the store where they were written. In another one, what is there
    /// may be from an earlier time: everything is compared with the rows, from both sides.
    async fn stays(&self) -> Result<()> {
        let place = self.engine.place().await?;
        let memo = place_memo(&self.set);
        let known = self.log.memo(&memo).await?;
        if known.as_ref() == Some(&place) {
            return Ok(());
        }
        if known.is_some() {
            tracing::warn!(set = %self.set, "the set lives in another store than before: its documents are compared with the rows");
            let all: Vec<_> = self
                .targets
                .iter()
                .map(|(name, target)| (name.clone(), target.fingerprint.clone()))
                .collect();
            self.log.rescan(&self.set, &all, true).await?;
        }
        self.log.set_memo(&memo, Some(&place)).await
    }

    async fn prepare_partition(
        &self,
        name: &CollectionName,
        target: &Target,
        partition: &Partition,
        is_gone: bool,
        remade: bool,
    ) -> Result<bool> {
        let rescan = [(name.clone(), target.fingerprint.clone())];
        let index = &partition.index;
        if remade {
            tracing::warn!(set = %self.set, %index, "the index is made again, as asked for, and filled by a scan");
            self.log.rescan(&self.set, &rescan, false).await?;
            self.engine.drop_index(index).await?;
        } else if is_gone {
            tracing::warn!(set = %self.set, %index, "the index is gone: it is made again and filled by a scan");
            self.log.rescan(&self.set, &rescan, false).await?;
        }
        let ensure = || self.engine.ensure(index, &partition.mapping, &self.settings);
        let ensured = ensure().await.context(|| format!("preparing index `{index}`"))?;
        match ensured {
            Ensured::Created => Ok(true),
            Ensured::Unchanged | Ensured::Extended => Ok(false),
            Ensured::Outdated => {
                tracing::warn!(set = %self.set, %index, "another version made the index: it is made again and filled by a scan");
                self.log.rescan(&self.set, &rescan, false).await?;
                self.engine.drop_index(index).await?;
                match ensure().await? {
                    Ensured::Created | Ensured::Unchanged | Ensured::Extended => Ok(false),
                    Ensured::Outdated | Ensured::NeedsNewIndex => Err(self.contradicted(name, index)),
                }
            }
            Ensured::NeedsNewIndex => Err(self.contradicted(name, index)),
        }
    }

    fn contradicted(&self, name: &CollectionName, index: &IndexName) -> Error {
        let message = format!("the definition of `{name}`, or a setting, does not fit index `{index}`");
        Error::fatal("needs_new_index", message).with_remedy(format!(
            "go back to what it was, or let the index be emptied and filled again: instep plan --remake {name} --set {set}, \
             then instep resume set:{set}",
            set = self.set
        ))
    }

    /// What is to be remembered of the definition, where a person let the indexes be remade for this very one.
    async fn leave_to_remake(&self, name: &CollectionName, target: &Target) -> Result<Option<String>> {
        let memo = self
            .log
            .memo(&remake_memo(&self.set, name))
            .await?
            .unwrap_or_default();
        let (fingerprint, definition) = memo.split_once('\n').unwrap_or((&memo, ""));
        Ok((fingerprint == target.fingerprint).then(|| definition.to_owned()))
    }

    async fn halt(&self, error: &Error, backoff: &mut Backoff, shutdown: &mut Shutdown) {
        self.report(Some(error));
        tracing::error!(set = %self.set, code = error.code(), fault = error.fault().as_str(), "the set is halted: {error}");
        let state = SetState::Halted(Problem::of_set(error, &self.set).line());
        while let Err(failed) = self.log.set_state(&self.set, &state).await {
            tracing::warn!(set = %self.set, "the set's state cannot be written: {failed}");
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = stopped(shutdown) => return,
            }
        }
    }

    /// Writes down that a collection is halted, and why, or that it is not; nothing where that is what is written.
    pub(crate) async fn write_halt(
        &self,
        collection: &CollectionName,
        problem: Option<&Problem>,
    ) -> Result<()> {
        let name = halt_memo(&self.set, collection);
        let text = problem.map(|problem| serde_json::to_string(problem).expect("a problem is JSON"));
        if self.log.memo(&name).await? != text {
            self.log.set_memo(&name, text.as_deref()).await?;
        }
        Ok(())
    }

    /// Shows whether the engine answers searches, as far as is known here.
    pub(crate) fn show_answers(&self, answers: bool) {
        self.activity
            .send_if_modified(|activity| std::mem::replace(&mut activity.unanswered, !answers) == answers);
    }

    /// Shows what is wrong, or that nothing is. Whether that is news.
    pub(crate) fn report(&self, error: Option<&Error>) -> bool {
        let problem = error.map(|error| Problem::of_set(error, &self.set));
        if problem
            .as_ref()
            .is_some_and(|problem| ROAD.contains(&problem.code.as_str()))
        {
            self.show_answers(false);
        }
        self.activity.send_if_modified(|activity| {
            let differs = activity.problem != problem;
            activity.problem = problem;
            differs
        })
    }
}

impl Stop {
    /// What a failure means for the set's owner.
    pub(crate) fn of(error: Error) -> Stop {
        match (error.code(), error.fault()) {
            ("ownership_lost", _) => Stop::Lost(error),
            (_, Fault::Transient)
            | (_, Fault::Poison)
            | (_, Fault::Fatal)
            | (_, Fault::Invalid)
            | (_, Fault::Unauthenticated)
            | (_, Fault::Denied)
            | (_, Fault::NotFound)
            | (_, Fault::Conflict) => Stop::Halt(error),
        }
    }
}
