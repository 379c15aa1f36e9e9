//! Everything put together: rows, a log in a file, engines, and the tasks, which can be killed and started again.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use instep_core::{
    ChangeLog, Collection, Column, ColumnKind, Content, Document, Field, FieldType, IndexName, Language,
    Languages, Node, ReadersRule, SetName, SetState, SetStatus, SourceName, Spoken, TableSchema,
};
use instep_store::SqliteLog;
use instep_sync::{
    Activity, Clock, Expander, Follower, Indexer, IndexerOptions, SetDefinition, SignalledLog,
    SourceDefinition, SourceStatus, SystemClock,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::moving::engine::Scripted;
use crate::moving::log::Checked;
use crate::moving::rows::{COLLECTION, Rows, RowsSource};

pub(crate) const SOURCE: &str = "shop";

/// One set and what works for it.
pub(crate) struct Set {
    pub(crate) name: SetName,
    pub(crate) engine: Arc<Scripted>,
    pub(crate) activity: Option<watch::Receiver<Activity>>,
    task: Option<JoinHandle<instep_core::Result<()>>>,
}

pub(crate) struct Rig {
    pub(crate) rows: Arc<Rows>,
    pub(crate) checked: Arc<Checked>,
    pub(crate) log: Arc<SignalledLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sets: Vec<Set>,
    pub(crate) options: IndexerOptions,
    pub(crate) collection: Collection,
    pub(crate) source: watch::Receiver<SourceStatus>,
    follower: Option<JoinHandle<()>>,
    expander: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    owners: AtomicU64,
    _directory: tempfile::TempDir,
}

pub(crate) fn fast() -> IndexerOptions {
    IndexerOptions {
        batch: 7,
        batches: 4,
        budget: 600,
        chunk: 5,
        attempts: 3,
        backoff: (Duration::from_millis(1), Duration::from_millis(20)),
        retry: (Duration::from_millis(20), Duration::from_millis(100)),
        deadline: Duration::from_millis(200),
        grace: Duration::from_millis(100),
        poll: Duration::from_millis(50),
        drain: Duration::from_secs(2),
        seed: 1,
    }
}

pub(crate) fn collection() -> Collection {
    Collection {
        name: COLLECTION.into(),
        source: SourceName::from(SOURCE),
        nodes: vec![Node {
            alias: COLLECTION.into(),
            table: COLLECTION.into(),
            key: vec!["id".into()],
            parent: None,
            on: vec![],
            many: false,
            order: vec![],
            condition: None,
        }],
        root: TableSchema {
            name: COLLECTION.into(),
            columns: vec![Column {
                name: "id".into(),
                kind: ColumnKind::Text,
                declared: "TEXT".into(),
                nullable: false,
            }],
            primary_key: vec!["id".into()],
            foreign_keys: vec![],
            indexes: vec![],
        },
        fields: vec![Field {
            name: "value".into(),
            content: Content::Column {
                column: "value".into(),
                kind: FieldType::Long,
                array: false,
            },
        }],
        language: Languages::Fixed(Language::from("en")),
        readers: ReadersRule::Public,
        debounce: std::time::Duration::ZERO,
        purge: None,
    }
}

/// The same with an index for each of three languages.
pub(crate) fn in_languages() -> Collection {
    let spoken = |tag: &str| Spoken {
        language: tag.into(),
        analyzer: "standard".into(),
    };
    Collection {
        language: Languages::Column {
            column: "lang".into(),
            known: vec![spoken("en"), spoken("sv")],
            other: spoken("unspecified"),
        },
        ..collection()
    }
}

pub(crate) fn index(set: &SetName) -> IndexName {
    IndexName::physical(set, &COLLECTION.into(), &"en".into())
}

impl Rig {
    /// Everything is started, over the rows that are there.
    pub(crate) async fn start(rows: Arc<Rows>, engines: Vec<Arc<Scripted>>, options: IndexerOptions) -> Rig {
        let mut rig = Rig::idle(rows, engines, options);
        rig.follow();
        for at in 0..rig.sets.len() {
            rig.index(at);
        }
        rig
    }

    /// Nothing is started.
    pub(crate) fn idle(rows: Arc<Rows>, engines: Vec<Arc<Scripted>>, options: IndexerOptions) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("state.db");
        let now = || u64::try_from(SystemClock.now_ms()).unwrap();
        let checked = Arc::new(Checked::new(
            SqliteLog::open(&path, Arc::new(now)).unwrap(),
            options.seed,
        ));
        let log = Arc::new(SignalledLog::new(checked.clone()));
        let sets = engines.into_iter().zip(["a", "b", "c"]);
        let set = |(engine, name): (Arc<Scripted>, &str)| Set {
            name: name.into(),
            engine,
            activity: None,
            task: None,
        };
        let (stop, _) = watch::channel(false);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let source = follower(&rows, &log, &clock).status();
        Rig {
            sets: sets.map(set).collect(),
            checked,
            log,
            clock,
            options,
            collection: match rows.speaks.load(Ordering::Relaxed) {
                true => in_languages(),
                false => collection(),
            },
            rows,
            source,
            follower: None,
            expander: None,
            stop,
            owners: AtomicU64::new(0),
            _directory: directory,
        }
    }

    /// Starts the follower and the expander, after killing those there were.
    pub(crate) fn follow(&mut self) {
        [self.follower.take(), self.expander.take()]
            .into_iter()
            .flatten()
            .for_each(|task| task.abort());
        let follower = follower(&self.rows, &self.log, &self.clock);
        self.source = follower.status();
        self.follower = Some(tokio::spawn(follower.run(self.stop.subscribe())));
        let expander = Expander::new(self.rows.clone(), self.log.clone(), 1);
        self.expander = Some(tokio::spawn(expander.run(self.stop.subscribe())));
    }

    /// Starts the indexer of a set, after killing the one there was.
    pub(crate) fn index(&mut self, at: usize) {
        let owner = self.owners.fetch_add(1, Ordering::Relaxed);
        let sources = HashMap::from([(SourceName::from(SOURCE), self.source.clone())]);
        let set = &mut self.sets[at];
        if let Some(task) = set.task.take() {
            task.abort();
        }
        let definition = SetDefinition {
            set: set.name.clone(),
            collections: vec![self.collection.clone()],
            engine: set.engine.clone(),
            settings: Default::default(),
        };
        let indexer = Indexer::new(
            definition,
            self.rows.clone(),
            self.log.clone(),
            self.clock.clone(),
            sources,
            &format!("owner {owner}"),
            IndexerOptions {
                seed: self.options.seed + owner,
                ..self.options.clone()
            },
        );
        set.activity = Some(indexer.activity());
        set.task = Some(tokio::spawn(indexer.run(self.stop.subscribe())));
    }

    pub(crate) async fn status(&self, at: usize) -> SetStatus {
        loop {
            let sets = self.log.status().await.unwrap();
            if let Some(status) = sets.into_iter().find(|status| status.set == self.sets[at].name) {
                return status;
            }
            // Its indexer has not registered it yet.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn state(&self, at: usize) -> SetState {
        self.status(at).await.state
    }

    /// Waits for a condition; fails loudly when it does not come to hold.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let started = Instant::now();
        while !condition().await {
            if started.elapsed() > Duration::from_secs(20) {
                let sets = self.log.status().await.unwrap();
                let activities: Vec<_> = self
                    .sets
                    .iter()
                    .filter_map(|set| Some(set.activity.as_ref()?.borrow().clone()))
                    .collect();
                let source = self.source.borrow().clone();
                panic!(
                    "never {what}: {sets:#?} {activities:#?} {source:?} changes {}",
                    self.rows.changes()
                );
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Waits until the following sets have nothing left to do: everything was delivered, passed, scanned and retried.
    pub(crate) async fn rest(&self) {
        self.until("at rest", || async {
            // Asked first: what was delivered is in the log.
            let delivered = self.rows.acknowledged() == self.rows.changes();
            let status = self.log.status().await.unwrap();
            let at_rest = |set: &SetStatus| set.state != SetState::Following || set.lag() == 0;
            delivered
                && status.len() == self.sets.len()
                && status.iter().all(at_rest)
                && self.no_late_writes()
        })
        .await;
    }

    fn no_late_writes(&self) -> bool {
        self.sets.iter().all(|set| set.engine.late() == 0)
    }

    /// Each following set holds exactly f(rows), its dead letters are exactly the rows that cannot be built, and
    /// every touch is accounted for.
    pub(crate) async fn assert_in_step(&self) {
        for (at, set) in self.sets.iter().enumerate() {
            let status = self.status(at).await;
            status.counts.conserved().unwrap();
            assert_eq!(status.counts.ahead, 0, "{status:#?}");
            let expected = self.rows.documents();
            let mut found: BTreeMap<String, Vec<Document>> = BTreeMap::new();
            for language in self.collection.language.all() {
                let index = IndexName::physical(&set.name, &self.collection.name, &language);
                for (id, document) in set.engine.documents(&index) {
                    assert!(document.language == language, "{document:?} lies in {index}");
                    found.entry(id).or_default().push(document);
                }
            }
            let wrong: Vec<_> = expected
                .keys()
                .chain(found.keys())
                .filter(|id| {
                    let found = found.get(*id).map_or(&[][..], Vec::as_slice);
                    found != expected.get(*id).map_or(&[][..], std::slice::from_ref)
                })
                .map(|id| format!("{id}: expected {:?}, found {:?}", expected.get(id), found.get(id)))
                .collect();
            assert!(wrong.is_empty(), "set {}: {wrong:#?} {status:#?}", set.name);
            let troubles = self.log.troubles(&set.name, None, 1_000).await.unwrap();
            let dead: std::collections::BTreeSet<_> = troubles.iter().map(|t| t.key.id.to_string()).collect();
            assert_eq!(dead, self.rows.poisoned(), "dead letters of {}", set.name);
        }
    }

    /// Tells everything to stop, and waits for it.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        for set in &mut self.sets {
            if let Some(task) = set.task.take() {
                let _ = tokio::time::timeout(Duration::from_secs(15), task)
                    .await
                    .expect("the indexer stops");
            }
        }
        if let Some(task) = self.follower.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.sets
            .iter_mut()
            .filter_map(|set| set.task.take())
            .for_each(|task| task.abort());
        [self.follower.take(), self.expander.take()]
            .into_iter()
            .flatten()
            .for_each(|task| task.abort());
    }
}

fn follower(rows: &Arc<Rows>, log: &Arc<SignalledLog>, clock: &Arc<dyn Clock>) -> Follower {
    let definition = SourceDefinition {
        name: SOURCE.into(),
        source: Arc::new(RowsSource(rows.clone())),
        watched: vec![],
        collections: vec![COLLECTION.into()],
    };
    Follower::new(definition, rows.clone(), log.clone(), clock.clone(), 1)
}
