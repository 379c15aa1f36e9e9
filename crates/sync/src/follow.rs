//! The follower of one source: changes → touched documents → the log, and only then is the source acknowledged.
//!
//! Touches are appended in the feed's order. What fails for a moment is tried again by following anew from the durable
//! position: changes are delivered at least once, and touching a document twice is harmless. A failure that a person
//! must mend halts this source alone; it follows again once its position was forgotten, by which that person says that
//! it is mended.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use instep_core::{
    Builder, ChangeBatch, ChangeFeed, ChangeLog, CollectionName, Error, Position, Result, ResultExt, Scan,
    Source, SourceName, Touch, Watched,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::assemble::Assembler;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::metrics;
use crate::signal::SignalledLog;
use crate::status::{Problem, Shutdown, SourceState, SourceStatus, stopped};

/// Changes handled at once, about.
const CHANGES: usize = 4_000;
/// Touches in one append.
const TOUCHES: usize = 10_000;
/// How often to look what the source waits for, and whether the position of a halted one was forgotten.
const LOOK: Duration = Duration::from_secs(1);
/// How often a source is tried again that halted before it was ever followed: there is no position to forget.
const NEVER_FOLLOWED: Duration = Duration::from_secs(30);

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
    assembler: Option<Arc<Assembler>>,
    /// It followed before, in this process: scans may have begun under that.
    followed: bool,
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
            assembler: None,
            followed: false,
        }
    }

    /// The same follower; whenever it starts to follow, the assembler learns how former values become known
    /// ([`Assembler::learn`]). To be given wherever the builder is an assembler.
    #[must_use]
    pub fn learning(mut self, assembler: Arc<Assembler>) -> Self {
        self.assembler = Some(assembler);
        self
    }

    /// The same follower, in a process in which another one has followed this source before: scans may have begun under
    /// that.
    #[must_use]
    pub fn after_another(mut self) -> Self {
        self.followed = true;
        self
    }

    /// What it is doing, from now on.
    pub fn status(&self) -> watch::Receiver<SourceStatus> {
        self.status.subscribe()
    }

    /// Follows until it is told to stop. A failure that a person must mend halts it until its position is forgotten: the
    /// status says so.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let name = self.definition.name.clone();
        let mut halted: Option<Problem> = None;
        loop {
            let failed = tokio::select! {
                () = stopped(&mut shutdown) => break,
                failed = self.follow() => failed,
            };
            metrics::source_up(&name, false);
            self.status
                .send_if_modified(|status| status.waiting.take().is_some());
            if !failed.is_transient() {
                let problem = Problem::of(&failed);
                if halted.as_ref() != Some(&problem) {
                    tracing::error!(source = %name, code = failed.code(), "the source is halted: {}", problem.line());
                }
                halted = Some(problem);
                self.enter(SourceState::Halted, Some(&failed));
                tokio::select! {
                    () = stopped(&mut shutdown) => return,
                    was_known = self.forgotten() => halted = halted.filter(|_| !was_known),
                }
                continue;
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

    /// Waits until the position of this source is forgotten. Where none is known, following from the beginning can
    /// harm nothing: that is tried now and then. Returns whether one was known.
    async fn forgotten(&self) -> bool {
        let name = &self.definition.name;
        let mut was_known = false;
        let mut looks = 0;
        loop {
            looks += 1;
            tokio::time::sleep(LOOK).await;
            match self.log.position(name).await {
                Ok(Some(_)) => was_known = true,
                Ok(None) if was_known => {
                    tracing::info!(source = %name, "the position was forgotten: the source is followed again");
                    return true;
                }
                Ok(None) if LOOK * looks >= NEVER_FOLLOWED => return false,
                Ok(None) => {}
                Err(error) => tracing::warn!(source = %name, "the position cannot be read: {error}"),
            }
        }
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
        if let Some(assembler) = &self.assembler {
            let learned = assembler.learn(&name, &*self.log).await;
            learned.context(|| format!("asking source `{name}` for its tables"))?;
        }
        let mut look = Instant::now() + LOOK;
        let mut feed = self
            .watching(&mut look, source.follow(&watched, from.as_ref()))
            .await
            .context(|| format!("following source `{name}`"))?;
        if from.is_none() {
            self.scan_again().await?;
        }
        self.followed = true;
        let mut appended = from.clone();
        if from.is_some() {
            self.captured(from);
        }
        metrics::source_up(&name, true);
        loop {
            let mut batch = match ready(feed.next()).await {
                Some(batch) => batch?,
                None => {
                    self.enter(SourceState::Waiting, None);
                    self.watching(&mut look, feed.next()).await?
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
            self.handle(&mut *feed, batch, &mut appended).await?;
            self.backoff.reset();
        }
    }

    /// A position is durable: whoever follows next, also after a crash, begins there or before, so scans leave no gap.
    /// Where none was known, that is once the first batch was handled, which a feed delivers at once.
    fn captured(&self, position: Option<Position>) {
        let mut was_captured = false;
        self.status.send_modify(|status| {
            was_captured = std::mem::replace(&mut status.captured, true);
            status.position = position;
        });
        if !was_captured {
            self.log.poke();
        }
    }

    /// Waits for something of the source, and shows what the source itself waits for meanwhile. `look`: when to look
    /// next.
    async fn watching<T>(&self, look: &mut Instant, waited: impl Future<Output = T>) -> T {
        let mut waited = pin!(waited);
        loop {
            tokio::select! {
                done = &mut waited => return done,
                () = tokio::time::sleep_until(*look) => {
                    *look = Instant::now() + LOOK;
                    let waiting = self.definition.source.waiting().map(Problem::found);
                    self.status.send_if_modified(|status| {
                        let differs = status.waiting != waiting;
                        status.waiting = waiting;
                        differs
                    });
                }
            }
        }
    }

    /// Nothing is known of where this source was followed to: what was scanned before following began anew may have
    /// changed since. On the very first start there is nothing scanned, because scans wait for a durable position; later,
    /// also a scan that has come nowhere yet may have read keys.
    async fn scan_again(&self) -> Result<()> {
        let sets = self.log.status().await?;
        let of = |name: &CollectionName| {
            let name = name.clone();
            let scans = sets.iter().flat_map(|set| &set.scans);
            scans.filter(move |scan| scan.collection == name)
        };
        let has_come = |scan: &Scan| scan.finished || scan.after.is_some();
        let begun =
            |name: &&CollectionName| self.followed || of(name).any(|scan| has_come(scan) || scan.both);
        let scans: Vec<_> = self
            .definition
            .collections
            .iter()
            .filter(begun)
            .cloned()
            .map(Touch::Scan)
            .collect();
        if !scans.is_empty() {
            // Whoever asked for it wrote down scans that have come nowhere yet.
            if self.definition.collections.iter().flat_map(of).any(has_come) {
                tracing::warn!(source = %self.definition.name, "no position is known of this source: its collections are scanned");
            }
            self.log.append(&self.definition.name, None, &scans).await?;
        }
        Ok(())
    }

    /// `appended`: the position that the log holds.
    async fn handle(
        &self,
        feed: &mut dyn ChangeFeed,
        batch: ChangeBatch,
        appended: &mut Option<Position>,
    ) -> Result<()> {
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
        // A keep-alive, or a part of a large transaction that touches nothing: the log knows it all.
        if !rest.is_empty() || appended.as_ref() != Some(&upto) {
            self.log.append(name, Some(&upto), rest).await?;
            *appended = Some(upto.clone());
        }
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
        self.captured(Some(upto));
        if !changes.is_empty() {
            let at = committed_ms.unwrap_or(now);
            self.status.send_modify(|status| status.last_change_ms = Some(at));
        }
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
