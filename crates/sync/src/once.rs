//! Running until everything is in step, for `sync --once`.

use std::time::Duration;

use instep_core::{ChangeLog, Error, Result, SetName, SetState, SetStatus, Trouble};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::signal::SignalledLog;
use crate::status::{Problem, SourceState, SourceStatus};

/// How long a source has to deliver nothing before it counts as drained.
const QUIET: Duration = Duration::from_millis(300);
/// How many documents in trouble are named.
const NAMED: usize = 100;

/// What a run that was waited for has come to.
#[derive(Clone, Debug, Serialize)]
pub struct CaughtUp {
    /// The sets, each with what is left.
    pub sets: Vec<SetStatus>,
    /// Documents that are retries or dead letters: the first hundred of each set.
    #[serde(skip)]
    pub troubles: Vec<(SetName, Trouble)>,
    /// Sources that are halted.
    pub halted_sources: Vec<Problem>,
}

impl CaughtUp {
    /// Whether every row is indexed in every set that is not retiring.
    pub fn is_complete(&self) -> bool {
        let is_in_step = |status: &SetStatus| match &status.state {
            SetState::Following => status.counts.retries == 0 && status.counts.dead_letters == 0,
            SetState::Paused | SetState::Halted(_) => false,
            SetState::Retiring => true,
        };
        self.halted_sources.is_empty() && self.sets.iter().all(is_in_step)
    }
}

/// Waits until every source has delivered what was committed before the call, and every following set has passed the
/// head of the log as it was then, with all scans and fan-outs done. Sources that halt, sets that do not follow, and
/// retries are not waited for: the answer names them. `sets`: those that are indexed here; they are waited for even
/// before their indexers have made them known to the log.
///
/// A source counts as drained when its follower waits for changes, and has for a moment; a source that delivers a
/// commit later than that after it was made is not waited for.
pub async fn caught_up(
    log: &SignalledLog,
    clock: &dyn Clock,
    sources: &[watch::Receiver<SourceStatus>],
    sets: &[SetName],
) -> Result<CaughtUp> {
    let named = sets;
    let started = Instant::now();
    let mut signal = log.watch();
    while !drained(clock, sources) || started.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut head = log.head().await?;
    let mut fans_out = false;
    loop {
        signal.borrow_and_update();
        let sets = log.status().await?;
        let is_known = |name: &SetName| sets.iter().any(|status| status.set == *name);
        let pending = sets.first().map_or(0, |first| first.fan_outs);
        if fans_out && pending == 0 {
            // What they touched to the last belongs to the call.
            head = sets.first().map_or(head, |first| first.head);
        }
        fans_out = pending > 0;
        if !fans_out && named.iter().all(is_known) && sets.iter().all(|status| !is_behind(status, head)) {
            return answer(log, sets, sources).await;
        }
        tokio::select! {
            _ = signal.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn drained(clock: &dyn Clock, sources: &[watch::Receiver<SourceStatus>]) -> bool {
    let quiet = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
    let now = clock.now_ms();
    sources.iter().all(|source| {
        let status = source.borrow();
        match status.state {
            SourceState::Halted | SourceState::Stopped => true,
            SourceState::Waiting => now - status.since_ms >= quiet,
            SourceState::Starting | SourceState::Working | SourceState::BackingOff => false,
        }
    })
}

fn is_behind(status: &SetStatus, head: instep_core::Seq) -> bool {
    match status.state {
        SetState::Following => status.position < head || status.scans.iter().any(|scan| !scan.finished),
        SetState::Paused | SetState::Halted(_) | SetState::Retiring => false,
    }
}

async fn answer(
    log: &SignalledLog,
    sets: Vec<SetStatus>,
    sources: &[watch::Receiver<SourceStatus>],
) -> Result<CaughtUp, Error> {
    let mut troubles = Vec::new();
    for status in &sets {
        let of_set = log.troubles(&status.set, None, NAMED).await?;
        troubles.extend(of_set.into_iter().map(|trouble| (status.set.clone(), trouble)));
    }
    let halted = |source: &watch::Receiver<SourceStatus>| {
        let status = source.borrow();
        status
            .problem
            .clone()
            .filter(|_| status.state == SourceState::Halted)
    };
    Ok(CaughtUp {
        sets,
        troubles,
        halted_sources: sources.iter().filter_map(halted).collect(),
    })
}
