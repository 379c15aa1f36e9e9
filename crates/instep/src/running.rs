//! The tasks that keep indexes in step: a follower for each source, an indexer for each set, one expander of fan-outs,
//! and the forgetting of what every set has passed. Every task is awaited by [`Running::stop`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, Result, SetName, SetState, Source, SourceName};
use instep_sync::{
    Activity, Assembler, CaughtUp, Expander, Indexer, IndexerOptions, Problem, SetDefinition, Shutdown,
    SignalledLog, SourceDefinition, SourceStatus, SystemClock, caught_up,
};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::following::{Following, remember_halt, remember_source, write};
use crate::purging::Purging;
use crate::wiring::{Parts, now_ms};

/// How often entries that every set has passed are forgotten, and metrics are brought up to date.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// The running tasks.
pub struct Running {
    log: Arc<SignalledLog>,
    assembler: Arc<Assembler>,
    opened: HashMap<SourceName, Arc<dyn Source>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    /// What each source's follower is doing.
    pub sources: HashMap<SourceName, watch::Receiver<SourceStatus>>,
    /// What each set's indexer is doing.
    pub sets: HashMap<SetName, watch::Receiver<Activity>>,
    /// What is wrong with fan-outs, while something is.
    pub fan_outs: watch::Receiver<Option<Problem>>,
}

impl Running {
    /// Starts all tasks. Sets that were halted follow again: starting the process is a person's answer to the halt.
    pub async fn start(parts: &Parts) -> Result<Running> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let clock = Arc::new(SystemClock);
        let seed = now_ms();
        let owner = format!("{}", std::process::id());

        for status in parts.log.status().await? {
            if matches!(status.state, SetState::Halted(_)) {
                parts.log.set_state(&status.set, &SetState::Following).await?;
            }
        }

        let mut sources = HashMap::new();
        for (name, source) in &parts.sources {
            let of_source = parts
                .collections
                .iter()
                .filter(|collection| collection.source == *name);
            let definition = SourceDefinition {
                name: name.clone(),
                source: source.clone(),
                watched: parts.assembler.watched(name),
                collections: of_source.map(|collection| collection.name.clone()).collect(),
            };
            let watched = definition.watched.clone();
            let following = Following::new(
                definition,
                parts.assembler.clone(),
                parts.log.clone(),
                clock.clone(),
                seed,
            );
            sources.insert(name.clone(), following.status());
            let log = || parts.log.clone();
            let of_source = parts
                .collections
                .iter()
                .filter(|collection| collection.source == *name);
            let joined =
                of_source.flat_map(|collection| collection.nodes.iter().filter(|node| node.parent.is_some()));
            let joined = joined.map(|node| node.table.clone()).collect();
            tasks.spawn(remember_halt(
                log(),
                name.clone(),
                following.status(),
                stopped.clone(),
            ));
            tasks.spawn(remember_source(
                log(),
                name.clone(),
                source.clone(),
                watched,
                joined,
                following.status(),
                stopped.clone(),
            ));
            tasks.spawn(following.run(stopped.clone()));
        }

        let expander = Expander::new(parts.assembler.clone(), parts.log.clone(), seed);
        let fan_outs = expander.problem();
        tasks.spawn(expander.run(stopped.clone()));

        let mut sets = HashMap::new();
        for set in &parts.config.sets {
            let definition = SetDefinition {
                set: set.name.clone(),
                collections: parts.collections.clone(),
                engine: parts.engine_of(&set.name)?.engine.clone(),
                settings: parts.settings_of(&set.name),
            };
            let options = IndexerOptions {
                seed,
                ..IndexerOptions::default()
            };
            let (builder, log) = (parts.assembler.clone(), parts.log.clone());
            let indexer = Indexer::new(
                definition,
                builder,
                log,
                clock.clone(),
                sources.clone(),
                &owner,
                options,
            );
            sets.insert(set.name.clone(), indexer.activity());
            tasks.spawn(remember_problem(
                parts.log.clone(),
                set.name.clone(),
                indexer.activity(),
                stopped.clone(),
            ));
            let (name, stopped) = (set.name.clone(), stopped.clone());
            tasks.spawn(async move {
                if let Err(error) = indexer.run(stopped).await {
                    tracing::error!(set = %name, code = error.code(), "the set is indexed elsewhere: {error}");
                }
            });
        }

        for collection in &parts.collections {
            if let Some(purge) = &collection.purge {
                let purging = Purging {
                    collection: collection.clone(),
                    purge: purge.clone(),
                    source: parts.sources[&collection.source].clone(),
                    log: parts.log.clone(),
                };
                tasks.spawn(purging.run(stopped.clone()));
            }
        }
        tasks.spawn(housekeeping(parts.log.clone(), stopped));
        Ok(Running {
            log: parts.log.clone(),
            assembler: parts.assembler.clone(),
            opened: parts.sources.clone(),
            stop,
            tasks,
            sources,
            sets,
            fan_outs,
        })
    }

    /// Waits until everything that was committed before the call is indexed, or cannot be.
    pub async fn caught_up(&self) -> Result<CaughtUp> {
        let opened = |(name, status): (&SourceName, &watch::Receiver<_>)| {
            let collections = self.assembler.collections_of(name);
            (self.opened[name].clone(), status.clone(), collections)
        };
        let sources: Vec<_> = self.sources.iter().map(opened).collect();
        let sets: Vec<_> = self.sets.keys().cloned().collect();
        // A set that is not at work yet has not said what is to be scanned: an index may be gone, or another one's.
        for (set, activity) in &self.sets {
            let mut activity = activity.clone();
            while !activity.borrow_and_update().working && self.follows(set).await? {
                tokio::select! {
                    changed = activity.changed() => if changed.is_err() { break },
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
            }
        }
        caught_up(&self.log, &sources, &sets).await
    }

    /// Whether the log says of a set that it follows, or does not know it yet.
    async fn follows(&self, set: &SetName) -> Result<bool> {
        let sets = self.log.status().await?;
        let known = sets.iter().find(|status| status.set == *set);
        Ok(known.is_none_or(|status| status.state == SetState::Following))
    }

    /// The builder of all collections.
    pub fn assembler(&self) -> &Arc<Assembler> {
        &self.assembler
    }

    /// Stops every task and waits until what was under way is finished.
    pub async fn stop(mut self) {
        // Nobody listens any more when every task has ended by itself.
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("a task ended in a panic: {error}");
            }
        }
    }
}

async fn housekeeping(log: Arc<SignalledLog>, mut stopped: watch::Receiver<bool>) {
    loop {
        match log.status().await {
            Ok(sets) => instep_sync::metrics::record(&sets),
            Err(error) => tracing::warn!("the state cannot be read: {error}"),
        }
        if let Err(error) = log.forget().await {
            tracing::warn!("passed entries cannot be forgotten: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// The memo that says what indexing a set waits for.
pub(crate) fn problem_memo(set: &SetName) -> String {
    format!("problem/{set}")
}

/// Writes down what indexing a set waits for, so that `status` can say so beside this process, until it is told to stop.
pub(crate) async fn remember_problem(
    log: Arc<SignalledLog>,
    set: SetName,
    mut activity: watch::Receiver<Activity>,
    mut stopped: Shutdown,
) {
    let code = |problem: &Option<Problem>| problem.as_ref().map(|problem| problem.code.clone());
    loop {
        let problem = activity.borrow_and_update().problem.clone();
        let text = problem.as_ref().map(|problem| json!(problem).to_string());
        let written = log.set_memo(&problem_memo(&set), text.as_deref()).await;
        if let Err(error) = &written {
            tracing::warn!(%set, "what the set waits for cannot be written: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING), if written.is_err() => {}
            changed = activity.wait_for(|activity| code(&activity.problem) != code(&problem)) => {
                if changed.is_err() {
                    break;
                }
            }
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    write(&log, &problem_memo(&set), None).await;
}
