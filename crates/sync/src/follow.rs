//! The follower of one source: changes → touched documents → the log, and only then is the source acknowledged.
//!
//! Touches are appended in the feed's order. What fails for a moment is tried again by following anew from the durable
//! position: changes are delivered at least once, and touching a document twice is harmless. A failure that a person
//! must mend halts this source alone.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use instep_core::{
    Builder, ChangeBatch, ChangeFeed, ChangeLog, CollectionName, Error, Result, ResultExt, Source,
    SourceName, Touch, Watched,
};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::metrics;
use crate::signal::SignalledLog;
use crate::status::{Problem, Shutdown, SourceState, SourceStatus, stopped};

/// Changes handled at once, about.
const CHANGES: usize = 4_000;
/// Touches in one append.
const TOUCHES: usize = 10_000;

/// A source to follow.
#[derive(Clone)]
pub struct SourceDefinition {
    /// Its name.
    pub name: SourceName,
    /// The source.
    pub source: Arc<dyn Source>,
    /// The tables to follow.
    pub watched: Vec<Watched>,
    /// The collections whose rows live there.
    pub collections: Vec<CollectionName>,
}

/// Follows one source.
pub struct Follower {
    definition: SourceDefinition,
    builder: Arc<dyn Builder>,
    log: Arc<SignalledLog>,
    clock: Arc<dyn Clock>,
    status: watch::Sender<SourceStatus>,
    backoff: Backoff,
}

impl Follower {
    /// A follower of this source. `seed`: of the jitter of its waits.
    pub fn new(
        definition: SourceDefinition,
        builder: Arc<dyn Builder>,
        log: Arc<SignalledLog>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        let status = watch::Sender::new(SourceStatus::starting());
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30), seed);
        Follower {
            definition,
            builder,
            log,
            clock,
            status,
            backoff,
        }
    }

    /// What it is doing, from now on.
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Follows until it is told to stop, or a failure halts it: the status says which.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let name = self.definition.name.clone();
        loop {
            let failed = tokio::select! {
                () = stopped(&mut shutdown) => break,
                failed = self.follow() => failed,
            };
            metrics::source_up(&name, false);
            if !failed.is_transient() {
                tracing::error!(source = %name, code = failed.code(), "the source is halted: {}", Problem::of(&failed).line());
                return self.enter(SourceState::Halted, Some(&failed));
            }
            self.enter(SourceState::BackingOff, Some(&failed));
            let wait = self.backoff.next();
            tracing::warn!(source = %name, code = failed.code(), ?wait, "following the source failed: {failed}");
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        metrics::source_up(&name, false);
        self.enter(SourceState::Stopped, None);
    }

    fn enter(&self, state: SourceState, error: Option<&Error>) {
        let now = self.clock.now_ms();
        self.status.send_if_modified(|status| {
            let problem = error.map(Problem::of);
            let differs = status.state != state || status.problem != problem;
            if differs {
                (status.state, status.since_ms, status.problem) = (state, now, problem);
            }
            differs
        });
    }

    /// Follows until something fails.
    async fn follow(&mut self) -> Error {
        match self.follow_from_position().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow_from_position(&mut self) -> Result<std::convert::Infallible> {
        let SourceDefinition {
            name,
            source,
            watched,
            ..
        } = self.definition.clone();
        let from = self.log.position(&name).await?;
        let mut feed = source
            .follow(&watched, from.as_ref())
            .await
            .context(|| format!("following source `{name}`"))?;
        if from.is_none() {
            self.scan_again().await?;
        }
        self.status
            .send_modify(|status| (status.captured, status.position) = (true, from));
        self.log.poke();
        metrics::source_up(&name, true);
        loop {
            let mut batch = match ready(feed.next()).await {
                Some(batch) => batch?,
                None => {
                    self.enter(SourceState::Waiting, None);
                    feed.next().await?
                }
            };
            self.enter(SourceState::Working, None);
            while batch.changes.len() < CHANGES
                && let Some(more) = ready(feed.next()).await
            {
                let more = more?;
                batch.changes.extend(more.changes);
                batch.upto = more.upto;
                batch.committed_ms = more.committed_ms.or(batch.committed_ms);
            }
            self.handle(&mut *feed, batch).await?;
            self.backoff.reset();
        }
    }

    /// Nothing is known of where this source was followed to: what was scanned before following began anew may have
    /// changed since. On the very first start there is nothing scanned.
    async fn scan_again(&self) -> Result<()> {
        let sets = self.log.status().await?;
        let begun = |name: &&CollectionName| {
            let mut scans = sets.iter().flat_map(|set| &set.scans);
            scans.any(|scan| scan.collection == **name && (scan.finished || scan.after.is_some()))
        };
        let scans: Vec<_> = self
            .definition
            .collections
            .iter()
            .filter(begun)
            .cloned()
            .map(Touch::Scan)
            .collect();
        if !scans.is_empty() {
            tracing::warn!(source = %self.definition.name, "no position is known of this source: its collections are scanned");
            self.log.append(&self.definition.name, None, &scans).await?;
        }
        Ok(())
    }

    async fn handle(&self, feed: &mut dyn ChangeFeed, batch: ChangeBatch) -> Result<()> {
        let ChangeBatch {
            changes,
            upto,
            committed_ms,
        } = batch;
        let name = &self.definition.name;
        let touches = match changes.is_empty() {
            true => Vec::new(),
            false => self.builder.affected(name, &changes, &upto).await?,
        };
        let mut rest = &touches[..];
        while rest.len() > TOUCHES {
            let (part, others) = rest.split_at(TOUCHES);
            self.log.append(name, None, part).await?;
            rest = others;
        }
        self.log.append(name, Some(&upto), rest).await?;
        feed.acknowledge(&upto).await?;
        let now = self.clock.now_ms();
        if let Some(committed_ms) = committed_ms.filter(|_| !changes.is_empty()) {
            metrics::acknowledged(name, now - committed_ms);
        }
        let filtered = if touches.is_empty() {
            changes.len() as u64
        } else {
            0
        };
        metrics::changes(name, changes.len() as u64, filtered);
        self.status.send_modify(|status| {
            status.position = Some(upto);
            if !changes.is_empty() {
                status.last_change_ms = Some(committed_ms.unwrap_or(now));
            }
        });
        Ok(())
    }
}

/// What a future says at once; `None`, and it is dropped, when it would wait. The feed's `next` allows that.
async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}
