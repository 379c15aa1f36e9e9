//! The second lane of the log: expands fan-outs, chunk by chunk.
//!
//! A chunk is expanded only while every following set has little left to do, so that a live change waits behind one
//! chunk at most. Paused, halted and retiring sets hold nothing back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use instep_core::{Builder, ChangeLog, Error, FanOut, Result, ResultExt, SetState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::signal::SignalledLog;
use crate::status::{Problem, Shutdown, stopped};

/// A following set with more entries than this before it holds the expansion. Fewer than a chunk has: with as many, a
/// second chunk would come before the first is done.
const LOW: u64 = 500;
/// How many fan-outs are looked at: one that fails does not hold the others.
const LOOK: usize = 32;
/// How often to look without a signal.
const POLL: Duration = Duration::from_secs(1);

/// Expands the fan-outs of one log.
pub struct Expander {
    builder: Arc<dyn Builder>,
    log: Arc<SignalledLog>,
    problem: watch::Sender<Option<Problem>>,
    failed: HashMap<u64, (Backoff, Instant)>,
    seed: u64,
}

impl Expander {
    /// An expander of this log's fan-outs. One in each installation suffices; two do the same work twice. `seed`: of
    /// the jitter of its waits.
    pub fn new(builder: Arc<dyn Builder>, log: Arc<SignalledLog>, seed: u64) -> Self {
        Expander {
            builder,
            log,
            problem: watch::Sender::new(None),
            failed: HashMap::new(),
            seed,
        }
    }

    /// What is wrong, while something is.
    pub fn problem(&self) -> watch::Receiver<Option<Problem>> {
        self.problem.subscribe()
    }

    /// Expands until it is told to stop. A fan-out that fails is tried again later, whatever the failure: it is durable
    /// and must not be lost.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut signal = self.log.watch();
        loop {
            signal.borrow_and_update();
            let expanded = tokio::select! {
                () = stopped(&mut shutdown) => return,
                expanded = self.expand_one() => expanded,
            };
            if expanded.is_ok() && self.failed.is_empty() {
                self.problem.send_if_modified(|problem| problem.take().is_some());
            }
            match expanded {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => self.report(&error),
            }
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                () = tokio::time::sleep(POLL) => {}
                _ = signal.changed() => {}
            }
        }
    }

    fn report(&self, error: &Error) {
        tracing::warn!(code = error.code(), "expanding a fan-out failed: {error}");
        self.problem.send_replace(Some(Problem::of(error)));
    }

    /// Expands one chunk. `false` when there is nothing to do now.
    async fn expand_one(&mut self) -> Result<bool> {
        let fan_outs = self.log.fan_outs(LOOK).await?;
        self.failed
            .retain(|id, _| fan_outs.iter().any(|(other, _)| other == id));
        let now = Instant::now();
        let is_held = |id: u64| self.failed.get(&id).is_some_and(|(_, until)| *until > now);
        let Some((id, fan_out)) = fan_outs.into_iter().find(|(id, _)| !is_held(*id)) else {
            return Ok(false);
        };
        let sets = self.log.status().await?;
        if sets
            .iter()
            .any(|status| status.state == SetState::Following && status.pending > LOW)
        {
            return Ok(false);
        }
        match self.expand(id, &fan_out).await {
            Ok(()) => {
                self.failed.remove(&id);
            }
            Err(error) => {
                self.report(&error);
                let fresh = || {
                    (
                        Backoff::new(
                            Duration::from_millis(200),
                            Duration::from_secs(60),
                            self.seed ^ id,
                        ),
                        now,
                    )
                };
                let (backoff, until) = self.failed.entry(id).or_insert_with(fresh);
                *until = now + backoff.next();
            }
        }
        Ok(true)
    }

    async fn expand(&self, id: u64, fan_out: &FanOut) -> Result<()> {
        let expanded = self.builder.expand(fan_out).await;
        let (touches, left) =
            expanded.context(|| format!("expanding a fan-out of `{}`", fan_out.collection))?;
        self.log.expanded(id, left.as_ref(), &touches).await?;
        Ok(())
    }
}
