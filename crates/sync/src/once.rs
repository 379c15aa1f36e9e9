//! Running until everything is in step, for `sync --once`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use instep_core::{
    ChangeLog, CollectionName, Error, Fault, Position, Result, SetName, SetState, SetStatus, Source, Trouble,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::signal::SignalledLog;
use crate::status::{Problem, SourceState, SourceStatus, halt_memo};
use crate::tenure::DELETE_UNCONFIRMED;

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
    /// Of the retries of each set those that are deletes which were done: they are repeated once an older write can arrive
    /// no more, by the next run if need be.
    #[serde(skip)]
    pub repeats: BTreeMap<SetName, u64>,
    /// Sources that are halted.
    pub halted_sources: Vec<Problem>,
    /// Collections that are halted in a set.
    pub halted_collections: Vec<(SetName, CollectionName, Problem)>,
}

impl CaughtUp {
    /// Whether every row is indexed in every set that is not retiring.
    pub fn is_complete(&self) -> bool {
        let is_in_step = |status: &SetStatus| match &status.state {
            SetState::Following => {
                let repeats = self.repeats.get(&status.set).copied().unwrap_or(0);
                status.counts.retries <= repeats && status.counts.dead_letters == 0
            }
            SetState::Paused | SetState::Halted(_) => false,
            SetState::Retiring => true,
        };
        self.halted_sources.is_empty()
            && self.halted_collections.is_empty()
            && self.sets.iter().all(is_in_step)
    }
}

/// A source, what its follower does, and the collections that live in it.
pub type Drained = (
    Arc<dyn Source>,
    watch::Receiver<SourceStatus>,
    Vec<CollectionName>,
);

/// Waits until every source has delivered what was committed before the call, and every following set has passed the
/// head of the log as it was then, with all scans and fan-outs done. Sources that halt, sets that do not follow,
/// collections that are halted, and retries are not waited for: the answer names them. `sets`: those that are indexed here; they alone are waited for,
/// even before their indexers have made them known to the log. A set that the log knows from an earlier configuration is
/// nobody's work. Refused (`paused`) while something is paused.
///
/// A source counts as drained once its follower has come as far as the source was at the call, whatever is committed
/// meanwhile; one that was never followed, once its changes are captured: the scans find the rest.
pub async fn caught_up(log: &SignalledLog, sources: &[Drained], sets: &[SetName]) -> Result<CaughtUp> {
    let named = sets;
    refuse_paused(log).await?;
    let mut signal = log.watch();
    for (source, status, _) in sources {
        let goal = source.head().await?;
        let mut status = status.clone();
        // An error means that the follower is gone: its last status says why.
        let _ = status
            .wait_for(|status| is_drained(&**source, status, goal.as_ref()))
            .await;
    }
    let mut head = log.head().await?;
    let mut fans_out = false;
    loop {
        signal.borrow_and_update();
        let mut sets = log.status().await?;
        sets.retain(|status| named.contains(&status.set));
        let is_known = |name: &SetName| sets.iter().any(|status| status.set == *name);
        let pending = sets.first().map_or(0, |first| first.fan_outs);
        if fans_out && pending == 0 {
            // What they touched to the last belongs to the call.
            head = sets.first().map_or(head, |first| first.head);
        }
        fans_out = pending > 0;
        refuse_paused(log).await?;
        let halted = halted_collections(log, &sets).await?;
        // Scans of a collection whose source halted before its changes were captured wait for a person.
        let stuck: BTreeSet<CollectionName> = sources
            .iter()
            .filter(|(_, status, _)| {
                let status = status.borrow();
                status.state == SourceState::Halted && !status.captured
            })
            .flat_map(|(_, _, collections)| collections.iter().cloned())
            .collect();
        let is_behind = |status: &SetStatus| is_behind(status, head, &halted, &stuck);
        if !fans_out && named.iter().all(is_known) && !sets.iter().any(is_behind) {
            return answer(log, sets, sources, halted).await;
        }
        tokio::select! {
            _ = signal.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// What is paused is not indexed, and would be waited for for ever.
async fn refuse_paused(log: &SignalledLog) -> Result<()> {
    let paused = log.paused().await?;
    if paused.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = paused.iter().map(|paused| paused.what.to_string()).collect();
    let message = format!("{} is paused, so not everything is indexed", names.join(", "));
    Err(Error::new(Fault::Conflict, "paused", message)
        .with_remedy("instep resume <name>, or let `instep serve` index the rest"))
}

fn is_drained(source: &dyn Source, status: &SourceStatus, goal: Option<&Position>) -> bool {
    match (status.state, goal, &status.position) {
        (SourceState::Halted | SourceState::Stopped, _, _) => true,
        (_, None, _) => status.captured,
        (_, Some(goal), Some(position)) => status.captured && source.reached(position, goal),
        (_, Some(_), None) => false,
    }
}

/// The collections that are halted in these sets, as the log knows them: also those that another process works on.
pub async fn halted_collections(
    log: &dyn ChangeLog,
    sets: &[SetStatus],
) -> Result<Vec<(SetName, CollectionName, Problem)>> {
    let mut halted = Vec::new();
    for status in sets {
        // What is halted has a scan to make up for it.
        for scan in status.scans.iter().filter(|scan| !scan.finished) {
            let written = log.memo(&halt_memo(&status.set, &scan.collection)).await?;
            let problem = written.and_then(|text| serde_json::from_str(&text).ok());
            halted.extend(problem.map(|problem| (status.set.clone(), scan.collection.clone(), problem)));
        }
    }
    Ok(halted)
}

fn is_behind(
    status: &SetStatus,
    head: instep_core::Seq,
    halted: &[(SetName, CollectionName, Problem)],
    stuck: &BTreeSet<CollectionName>,
) -> bool {
    let is_halted = |collection: &CollectionName| {
        let mut all = halted.iter();
        stuck.contains(collection) || all.any(|(set, name, _)| *set == status.set && name == collection)
    };
    let mut scans = status.scans.iter();
    match status.state {
        SetState::Following => {
            status.position < head || scans.any(|scan| !scan.finished && !is_halted(&scan.collection))
        }
        SetState::Paused | SetState::Halted(_) | SetState::Retiring => false,
    }
}

async fn answer(
    log: &SignalledLog,
    sets: Vec<SetStatus>,
    sources: &[Drained],
    halted_collections: Vec<(SetName, CollectionName, Problem)>,
) -> Result<CaughtUp, Error> {
    let mut troubles = Vec::new();
    let mut repeats = BTreeMap::new();
    for status in &sets {
        if status.counts.retries > 0 {
            repeats.insert(status.set.clone(), repeats_of(log, &status.set).await?);
        }
        let of_set = log.troubles(&status.set, None, NAMED).await?;
        troubles.extend(of_set.into_iter().map(|trouble| (status.set.clone(), trouble)));
    }
    let halted = |(_, status, _): &Drained| {
        let status = status.borrow();
        status
            .problem
            .clone()
            .filter(|_| status.state == SourceState::Halted)
    };
    Ok(CaughtUp {
        sets,
        troubles,
        repeats,
        halted_sources: sources.iter().filter_map(halted).collect(),
        halted_collections,
    })
}

/// How many of a set's retries are deletes that were done.
async fn repeats_of(log: &SignalledLog, set: &SetName) -> Result<u64> {
    let mut count = 0;
    let mut after = None;
    loop {
        let some = log.troubles(set, after.as_ref(), NAMED).await?;
        let Some(last) = some.last() else { return Ok(count) };
        after = Some(last.key.clone());
        let is_repeat = |trouble: &&Trouble| trouble.code == DELETE_UNCONFIRMED && trouble.next_ms.is_some();
        count += some.iter().filter(is_repeat).count() as u64;
    }
}
