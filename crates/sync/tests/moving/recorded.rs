//! The moving part over real joins and a source that brings no former values: what documents read is recorded, and a
//! collection whose table is gone halts alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use instep_core::{
    Change, ChangeBatch, ChangeFeed, ChangeLog, Collection, Error, Finding, Former, IndexName, Key, Position,
    Result, RowReader, SetName, SetState, Severity, Source, SourceName, Value, Watched,
};
use instep_store::SqliteLog;
use instep_sync::{
    Activity, Assembler, Clock, Expander, Follower, Indexer, IndexerOptions, SetDefinition, SignalledLog,
    SourceDefinition, SourceState, SourceStatus, SystemClock, caught_up, halted_collections,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::assemble::broken::two;
use crate::assemble::definition::{SOURCE, row};
use crate::assemble::memory::{Images, Memory, Write};
use crate::assemble::naive;
use crate::moving::engine::{Faults, Scripted};
use crate::moving::log::Checked;
use crate::moving::rig::fast;

/// Rows in memory that are followed.
struct Followed {
    memory: Memory,
    changes: Mutex<Vec<Change>>,
    watched: Mutex<Vec<Watched>>,
    acknowledged: AtomicUsize,
    changed: Notify,
    failing: Mutex<Vec<Error>>,
    waiting: Mutex<Option<Finding>>,
    /// While nothing changes, empty batches come that say so; so many came.
    keep_alives: AtomicUsize,
}

impl Followed {
    fn commit(&self, writes: Vec<Write>) {
        let mut changes = self.changes.lock().unwrap();
        changes.extend(self.memory.commit(&self.watched.lock().unwrap(), writes));
        drop(changes);
        self.changed.notify_waiters();
    }

    fn count(&self) -> usize {
        self.changes.lock().unwrap().len()
    }

    fn at(count: usize) -> Position {
        Position {
            identity: "memory".into(),
            at: count.to_string(),
        }
    }
}

struct Feed {
    of: Arc<Followed>,
    at: usize,
    fresh: bool,
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self) -> Result<ChangeBatch> {
        loop {
            let changed = self.of.changed.notified();
            if let Some(error) = self.of.failing.lock().unwrap().pop() {
                return Err(error);
            }
            let changes: Vec<Change> = {
                let all = self.of.changes.lock().unwrap();
                all[self.at..].iter().take(5).cloned().collect()
            };
            if std::mem::take(&mut self.fresh) || !changes.is_empty() {
                self.at += changes.len();
                return Ok(ChangeBatch {
                    changes,
                    upto: Followed::at(self.at),
                    committed_ms: None,
                });
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    self.of.keep_alives.fetch_add(1, Ordering::Relaxed);
                    self.fresh = true;
                }
            }
        }
    }

    async fn acknowledge(&mut self, upto: &Position) -> Result<()> {
        self.of
            .acknowledged
            .store(upto.at.parse().unwrap(), Ordering::Relaxed);
        Ok(())
    }
}

/// The source, shared.
struct Shared(Arc<Followed>);

#[async_trait]
impl Source for Shared {
    async fn follow(&self, _: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
        let at = from.map_or_else(|| self.0.count(), |position| position.at.parse().unwrap());
        Ok(Box::new(Feed {
            of: self.0.clone(),
            at,
            fresh: from.is_none(),
        }))
    }

    async fn head(&self) -> Result<Option<Position>> {
        Ok(Some(Followed::at(self.0.count())))
    }

    fn reached(&self, position: &Position, head: &Position) -> bool {
        let at = |position: &Position| position.at.parse::<usize>().unwrap();
        at(position) >= at(head)
    }

    fn reader(&self) -> &dyn RowReader {
        &self.0.memory
    }

    async fn check(&self, _: &[Watched]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>> {
        self.0.memory.former(watched).await
    }

    fn waiting(&self) -> Option<Finding> {
        self.0.waiting.lock().unwrap().clone()
    }
}

struct Rig {
    source: Arc<Followed>,
    assembler: Arc<Assembler>,
    collections: Vec<Collection>,
    checked: Arc<Checked>,
    log: Arc<SignalledLog>,
    engines: Vec<Arc<Scripted>>,
    follower: Option<JoinHandle<()>>,
    status: watch::Receiver<SourceStatus>,
    indexers: Vec<Option<JoinHandle<Result<()>>>>,
    activities: Vec<Option<watch::Receiver<Activity>>>,
    expander: JoinHandle<()>,
    stop: watch::Sender<bool>,
    options: IndexerOptions,
    owners: u64,
    _directory: tempfile::TempDir,
}

const SETS: [&str; 2] = ["a", "b"];

impl Rig {
    fn start(seed: u64, images: Images) -> Rig {
        let (mut memory, collections) = two();
        memory.images = images;
        let source = Arc::new(Followed {
            memory,
            changes: Mutex::default(),
            watched: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            changed: Notify::new(),
            failing: Mutex::default(),
            waiting: Mutex::default(),
            keep_alives: AtomicUsize::new(0),
        });
        let shared: Arc<dyn Source> = Arc::new(Shared(source.clone()));
        let sources = HashMap::from([(SourceName::from(SOURCE), shared)]);
        let assembler = Arc::new(
            Assembler::new(sources, collections.clone())
                .unwrap()
                .with_fan_out(2),
        );
        *source.watched.lock().unwrap() = assembler.watched(&SOURCE.into());
        let directory = tempfile::tempdir().unwrap();
        let now = || u64::try_from(SystemClock.now_ms()).unwrap();
        let store = SqliteLog::open(directory.path().join("state.db"), Arc::new(now)).unwrap();
        let checked = Arc::new(Checked::new(store, seed));
        let log = Arc::new(SignalledLog::new(checked.clone()));
        let engines = vec![Scripted::new(seed), Scripted::forgetful(seed ^ 5)];
        let (stop, stopped) = watch::channel(false);
        let expander = Expander::new(assembler.clone(), log.clone(), seed);
        let expander = tokio::spawn(expander.run(stopped.clone()));
        let (_, status) = watch::channel(follower(&source, &assembler, &log).status().borrow().clone());
        let mut rig = Rig {
            source,
            assembler,
            collections,
            checked,
            log,
            engines,
            follower: None,
            status,
            indexers: vec![None, None],
            activities: vec![None, None],
            expander,
            stop,
            options: IndexerOptions { seed, ..fast() },
            owners: 0,
            _directory: directory,
        };
        rig.follow();
        (0..2).for_each(|at| rig.index(at));
        rig
    }

    fn follow(&mut self) {
        if let Some(task) = self.follower.take() {
            task.abort();
        }
        let follower = follower(&self.source, &self.assembler, &self.log);
        self.status = follower.status();
        self.follower = Some(tokio::spawn(follower.run(self.stop.subscribe())));
    }

    fn index(&mut self, at: usize) {
        if let Some(task) = self.indexers[at].take() {
            task.abort();
        }
        self.owners += 1;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let definition = SetDefinition {
            set: SETS[at].into(),
            collections: self.collections.clone(),
            engine: self.engines[at].clone(),
            settings: Default::default(),
        };
        let indexer = Indexer::new(
            definition,
            self.assembler.clone(),
            self.log.clone(),
            clock,
            HashMap::from([(SourceName::from(SOURCE), self.status.clone())]),
            &self.owners.to_string(),
            self.options.clone(),
        );
        self.activities[at] = Some(indexer.activity());
        self.indexers[at] = Some(tokio::spawn(indexer.run(self.stop.subscribe())));
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !condition().await {
            if started.elapsed() > Duration::from_secs(20) {
                let sets = self.log.status().await.unwrap();
                let activities: Vec<_> = self
                    .activities
                    .iter()
                    .flatten()
                    .map(|a| a.borrow().clone())
                    .collect();
                panic!(
                    "never {what}: {sets:#?} {activities:#?} {:?}",
                    *self.status.borrow()
                );
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn rest(&self) {
        self.until("at rest", async || {
            let delivered = self.source.acknowledged.load(Ordering::Relaxed) == self.source.count();
            let sets = self.log.status().await.unwrap();
            delivered
                && sets.len() == SETS.len()
                && sets
                    .iter()
                    .all(|set| set.state == SetState::Following && set.lag() == 0)
                && self.engines.iter().all(|engine| engine.late() == 0)
        })
        .await;
    }

    fn wrong(&self, collection: &Collection) -> Vec<String> {
        let expected = naive::documents(collection, &self.source.memory.tables());
        let mut wrong = Vec::new();
        for (set, engine) in SETS.iter().zip(&self.engines) {
            let index = IndexName::physical(
                &SetName::from(*set),
                &collection.name,
                &collection.language.all()[0],
            );
            let found = engine.documents(&index);
            for (id, (source, _)) in &expected {
                let stored = found.get(id.as_str()).map(|document| &*document.source);
                if stored != Some(source.as_str()) {
                    wrong.push(format!(
                        "{set} {}/{id}: {stored:?}, expected {source}",
                        collection.name
                    ));
                }
            }
            let ids: Vec<_> = expected.keys().map(|id| id.as_str().to_owned()).collect();
            let more = found.keys().filter(|id| !ids.contains(id));
            wrong.extend(more.map(|id| format!("{set} {}/{id} should be gone", collection.name)));
        }
        wrong
    }

    async fn assert_in_step(&self) {
        for status in self.log.status().await.unwrap() {
            status.counts.conserved().unwrap();
        }
        let wrong: Vec<_> = self
            .collections
            .iter()
            .flat_map(|collection| self.wrong(collection))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.expander.abort();
        self.follower.iter().for_each(JoinHandle::abort);
        self.indexers.iter().flatten().for_each(JoinHandle::abort);
    }
}

fn follower(source: &Arc<Followed>, assembler: &Arc<Assembler>, log: &Arc<SignalledLog>) -> Follower {
    let definition = SourceDefinition {
        name: SOURCE.into(),
        source: Arc::new(Shared(source.clone())),
        watched: assembler.watched(&SOURCE.into()),
        collections: vec!["deep".into(), "flat".into()],
    };
    Follower::new(
        definition,
        assembler.clone(),
        log.clone(),
        Arc::new(SystemClock),
        1,
    )
    .learning(assembler.clone())
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Inserts, moves, detaches and deletes.
fn write(random: &mut Random) -> Write {
    let key = |id: u64| Key::new([Value::Int(id as i64)]);
    let up = |random: &mut Random, n: u64| match random.below(n + 1) {
        0 => Value::Null,
        id => Value::Int(id as i64),
    };
    match random.below(10) {
        0 => Write::Put("doc".into(), row![1 + random.below(5) as i64]),
        1 => Write::Delete("doc".into(), key(1 + random.below(5))),
        2..5 => Write::Put("part".into(), row![random.below(6) as i64, up(random, 5)]),
        5 => Write::Delete("part".into(), key(random.below(6))),
        6 => {
            let (from, to) = (random.below(6), random.below(6) as i64);
            Write::Update("part".into(), key(from), row![to, up(random, 5)])
        }
        7..9 => Write::Put("bit".into(), row![random.below(8) as i64, up(random, 5)]),
        _ => Write::Delete("bit".into(), key(random.below(8))),
    }
}

async fn random_run(seed: u64, images: Images) {
    let mut random = Random(seed);
    let mut rig = Rig::start(seed, images);
    for engine in &rig.engines {
        engine.delay_us.store(800, Ordering::Relaxed);
    }
    for _ in 0..60 {
        match random.below(40) {
            0 => rig.index(random.below(2) as usize),
            1 => {
                rig.follow();
                (0..2).for_each(|at| rig.index(at));
            }
            2 => rig
                .checked
                .faults
                .store(random.below(200) as u32, Ordering::Relaxed),
            3 => rig.engines[random.below(2) as usize].set_faults(Faults {
                refuse: random.below(200) as u32,
                lose_answer: random.below(200) as u32,
                item: random.below(300) as u32,
            }),
            4 => {
                let fingerprints = rig.assembler.fingerprints();
                // A set that is not registered yet has its first scan before it.
                let _ = rig
                    .log
                    .rescan(&SETS[random.below(2) as usize].into(), &fingerprints, true)
                    .await;
            }
            5..20 => tokio::time::sleep(Duration::from_micros(random.below(4_000))).await,
            _ => {
                let writes = (0..1 + random.below(3)).map(|_| write(&mut random)).collect();
                rig.source.commit(writes);
            }
        }
    }
    rig.checked.faults.store(0, Ordering::Relaxed);
    rig.engines
        .iter()
        .for_each(|engine| engine.set_faults(Faults::default()));
    rig.rest().await;
    rig.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_former_values_every_set_ends_in_step() {
    for seed in 0..24 {
        random_run(seed, Images::New).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_former_values_every_set_ends_in_step_and_nothing_is_recorded() {
    for seed in 100..110 {
        random_run(seed, Images::WithKey).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_whose_table_is_gone_halts_alone_and_catches_up_by_itself() {
    let mut rig = Rig::start(1, Images::New);
    rig.rest().await;
    rig.assert_in_step().await;
    let gone = |table: &str| {
        rig.source.memory.gone.lock().unwrap().insert(table.into());
    };
    gone("bit");
    rig.source.commit(vec![
        Write::Put("bit".into(), row![101, 10]),
        Write::Put("part".into(), row![11, 2]),
    ]);
    let halted = |at: usize| -> Vec<(String, String)> {
        let activity = rig.activities[at].as_ref().unwrap().borrow();
        let shown = |halted: &instep_sync::HaltedCollection| {
            (halted.collection.to_string(), halted.problem.code.clone())
        };
        activity.halted.iter().map(shown).collect()
    };
    let only_deep = [("deep".to_owned(), "schema_changed".to_owned())];
    rig.until("halted", async || (0..2).all(|at| halted(at) == only_deep))
        .await;
    // Far more than a set holds in memory would pin the position; here it moves on to the head.
    for id in 0..200 {
        rig.source.commit(vec![
            Write::Put("part".into(), row![1_000 + id, 2]),
            // With images, so that the changes can be looked up: only the halt begins a scan.
            Write::Put("bit".into(), row![10_000 + id, 1_000 + id]),
        ]);
    }
    let flat = rig.collections[0].clone();
    rig.until("going on", async || {
        let sets = rig.log.status().await.unwrap();
        let passed = |set: &instep_core::SetStatus| set.state == SetState::Following && set.pending == 0;
        rig.wrong(&flat).is_empty()
            && sets.iter().all(passed)
            && rig.source.acknowledged.load(Ordering::Relaxed) == rig.source.count()
    })
    .await;
    let sets = rig.log.status().await.unwrap();
    for set in &sets {
        set.counts.conserved().unwrap();
        assert!(set.lag() > 0, "its scan is still to be walked");
    }
    // Another process sees it, and whoever waits until all is done is not kept waiting.
    let shown = halted_collections(&*rig.log, &sets).await.unwrap();
    assert_eq!(shown.len(), 2, "{shown:?}");
    let shared: Arc<dyn Source> = Arc::new(Shared(rig.source.clone()));
    let sets = [SetName::from("a"), SetName::from("b")];
    let sources = [(shared, rig.status.clone(), vec![])];
    let waited = caught_up(&rig.log, &sources, &sets);
    let caught_up = tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .unwrap()
        .unwrap();
    assert!(!caught_up.is_complete() && caught_up.halted_collections.len() == 2);

    // A new owner halts it again, and forgets nothing.
    rig.index(0);
    let rig = rig;
    rig.until("halted again", async || {
        let activity = rig.activities[0].as_ref().unwrap().borrow();
        activity.halted.len() == 1
    })
    .await;
    rig.source.memory.gone.lock().unwrap().clear();
    rig.rest().await;
    rig.assert_in_step().await;
    let sets = rig.log.status().await.unwrap();
    assert!(halted_collections(&*rig.log, &sets).await.unwrap().is_empty());
    assert!(
        rig.activities
            .iter()
            .flatten()
            .all(|activity| activity.borrow().halted.is_empty())
    );
    rig.source.commit(vec![Write::Put("bit".into(), row![102, 11])]);
    rig.rest().await;
    rig.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_gone_for_a_moment_halts_nothing() {
    let rig = Rig::start(2, Images::New);
    rig.rest().await;
    let runs = async || {
        let sets = rig.log.status().await.unwrap();
        let scans = sets.into_iter().flat_map(|set| set.scans);
        scans.map(|scan| scan.run).collect::<Vec<_>>()
    };
    let before = runs().await;
    rig.source.memory.gone.lock().unwrap().insert("part".into());
    rig.source.commit(vec![Write::Put("doc".into(), row![3])]);
    tokio::time::sleep(Duration::from_millis(30)).await;
    rig.source.memory.gone.lock().unwrap().clear();
    rig.rest().await;
    rig.assert_in_step().await;
    assert_eq!(runs().await, before, "nothing was scanned again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_source_follows_again_once_its_position_is_forgotten() {
    let rig = Rig::start(3, Images::New);
    rig.rest().await;
    rig.source
        .failing
        .lock()
        .unwrap()
        .push(Error::fatal("slot_lost", "the slot is gone"));
    rig.until("halted", async || {
        rig.status.borrow().state == SourceState::Halted
    })
    .await;
    // What is not delivered: the slot is gone.
    rig.source.commit(vec![
        Write::Put("part".into(), row![11, 2]),
        Write::Delete("doc".into(), Key::new([Value::Int(1)])),
    ]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(rig.status.borrow().state, SourceState::Halted);
    // The sets go on meanwhile: a person may still have a document built again.
    let touch = instep_core::Touch::Document(instep_core::DocKey {
        collection: "flat".into(),
        id: instep_core::DocId::parse("2").unwrap(),
    });
    rig.log.append(&SOURCE.into(), None, &[touch]).await.unwrap();
    rig.until("built", async || {
        let sets = rig.log.status().await.unwrap();
        sets.iter()
            .all(|set| set.state == SetState::Following && set.lag() == 0)
    })
    .await;
    // Another process forgets it.
    rig.checked.forget_position(&SOURCE.into()).await.unwrap();
    rig.until("following", async || {
        rig.status.borrow().state == SourceState::Waiting
    })
    .await;
    rig.rest().await;
    rig.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_waits_for_is_shown() {
    let rig = Rig::start(4, Images::New);
    rig.rest().await;
    *rig.source.waiting.lock().unwrap() = Some(Finding {
        severity: Severity::Warning,
        code: "transaction_hangs".into(),
        subject: "transaction 7".into(),
        message: "waits for a standby".into(),
        remedy: None,
    });
    rig.until("shown", async || {
        let status = rig.status.borrow();
        status.waiting.as_ref().is_some_and(|waiting| {
            waiting.code == "transaction_hangs" && waiting.message == "transaction 7: waits for a standby"
        })
    })
    .await;
    *rig.source.waiting.lock().unwrap() = None;
    rig.until("over", async || rig.status.borrow().waiting.is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alives_write_nothing() {
    let rig = Rig::start(5, Images::New);
    rig.rest().await;
    let before = rig.checked.appends.load(Ordering::Relaxed);
    let came = rig.source.keep_alives.load(Ordering::Relaxed);
    rig.until("kept alive", async || {
        rig.source.keep_alives.load(Ordering::Relaxed) > came + 5
    })
    .await;
    assert_eq!(rig.checked.appends.load(Ordering::Relaxed), before);
    rig.source.commit(vec![Write::Put("doc".into(), row![3])]);
    rig.rest().await;
    rig.assert_in_step().await;
    assert_eq!(rig.checked.appends.load(Ordering::Relaxed), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_refuses_everything_halts_no_collection() {
    let rig = Rig::start(6, Images::WithKey);
    rig.rest().await;
    rig.source.memory.refuses.store(true, Ordering::Relaxed);
    rig.source.commit(vec![Write::Put("doc".into(), row![3])]);
    let activity = || rig.activities[0].as_ref().unwrap().borrow().clone();
    rig.until("reported", async || {
        activity()
            .problem
            .is_some_and(|problem| problem.message.contains("password_refused"))
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(activity().halted.is_empty());
    rig.source.memory.refuses.store(false, Ordering::Relaxed);
    rig.rest().await;
    rig.assert_in_step().await;
}
