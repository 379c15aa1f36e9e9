//! What operators see: the status as JSON, metrics, readiness. The same status is what `instep status` prints.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    ChangeLog, CollectionName, Error, Result, SetName, SetState, SetStatus, SourceName, Trouble,
};
use instep_gateway::Operations;
use instep_sync::{Activity, Problem, SignalledLog, SourceStatus};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::following::{former_memo, halt_memo, rescan_memo, waiting_memo};
use crate::running::{Running, problem_memo};

/// The operational state of a running instep.
pub struct Observed {
    log: Arc<SignalledLog>,
    active: SetName,
    sources: HashMap<SourceName, watch::Receiver<SourceStatus>>,
    sets: HashMap<SetName, watch::Receiver<Activity>>,
    fan_outs: watch::Receiver<Option<Problem>>,
    metrics: PrometheusHandle,
}

impl Observed {
    /// The state of these tasks.
    pub fn new(
        running: &Running,
        log: Arc<SignalledLog>,
        active: SetName,
        metrics: PrometheusHandle,
    ) -> Self {
        Observed {
            log,
            active,
            sources: running.sources.clone(),
            sets: running.sets.clone(),
            fan_outs: running.fan_outs.clone(),
            metrics,
        }
    }
}

#[async_trait]
impl Operations for Observed {
    async fn status(&self) -> Result<Value> {
        let mut names: Vec<SourceName> = self.sources.keys().cloned().collect();
        names.sort();
        let mut status = status(&self.log, &self.active, &names).await?;
        for shown in status["sources"].as_array_mut().into_iter().flatten() {
            let Some(name) = names.iter().find(|name| shown["source"] == name.as_str()) else {
                continue;
            };
            follow_status(&self.sources[name].borrow(), shown);
        }
        for set in status["sets"].as_array_mut().into_iter().flatten() {
            let activity = set["set"]
                .as_str()
                .and_then(|name| self.sets.get(name))
                .map(|activity| activity.borrow().clone());
            if activity.is_none() {
                // Nobody works on it here: what was written down of it is over.
                set["problem"] = Value::Null;
            }
            set["activity"] = json!(activity);
        }
        status["fan_out_problem"] = json!(*self.fan_outs.borrow());
        Ok(status)
    }

    async fn metrics(&self) -> Result<String> {
        instep_sync::metrics::record(&self.log.status().await?);
        self.metrics.run_upkeep();
        Ok(self.metrics.render())
    }

    /// Ready when the active set is there, follows, has been filled once, and can be asked.
    async fn ready(&self) -> Result<()> {
        let sets = self.log.status().await?;
        let not_ready = |why: &str| {
            Err(Error::transient(
                "not_ready",
                format!("set `{}` {why}", self.active),
            ))
        };
        let activity = self.sets.get(&self.active);
        let unanswered = activity.is_some_and(|activity| activity.borrow().unanswered);
        match sets.iter().find(|set| set.set == self.active) {
            None => not_ready("does not exist yet"),
            Some(set) if !matches!(set.state, SetState::Following | SetState::Paused) => {
                not_ready("does not follow")
            }
            Some(set) if set.scans.iter().any(|scan| !scan.finished && !scan.both) => {
                not_ready("is still being filled")
            }
            Some(_) if unanswered => not_ready("cannot be asked"),
            Some(_) => Ok(()),
        }
    }
}

/// How many retries and dead letters of each set status names; it counts them all.
const NAMED: usize = 20;

/// The sets, what is not indexed in them, and the sources: halted ones, what following them waits for, and by which means
/// former parents are known. All of it as the state has it.
pub(crate) async fn status(log: &SignalledLog, active: &SetName, sources: &[SourceName]) -> Result<Value> {
    let sets = log.status().await?;
    let mut troubles = Vec::new();
    for set in &sets {
        let of_set = log.troubles(&set.set, None, NAMED).await?;
        troubles.extend(of_set.into_iter().map(|trouble| (set.set.clone(), trouble)));
    }
    let mut status = shown(&sets, &troubles, active);
    for (set, shown) in sets
        .iter()
        .zip(status["sets"].as_array_mut().into_iter().flatten())
    {
        shown["dead_reasons"] = json!(log.dead_reasons(&set.set).await?);
        shown["problem"] = remembered(log, &problem_memo(&set.set)).await?;
    }
    let mut halted = Vec::new();
    let mut shown = Vec::new();
    for source in sources {
        let problem = remembered(log, &halt_memo(source)).await?;
        if !problem.is_null() {
            halted.push(json!({ "source": source, "problem": problem }));
        }
        let position = log.position(source).await?;
        shown.push(json!({
            "source": source,
            "position": position.map(|position| position.to_string()),
            "waiting": remembered(log, &waiting_memo(source)).await?,
            "former": remembered(log, &former_memo(source)).await?,
            "rescan_asked": log.memo(&rescan_memo(source)).await?.is_some(),
        }));
    }
    status["halted_collections"] = halted_collections(&instep_sync::halted_collections(log, &sets).await?);
    status["halted_sources"] = Value::Array(halted);
    status["paused"] = json!(log.paused().await?);
    status["sources"] = Value::Array(shown);
    Ok(status)
}

/// The collections that stand still in a set, and why.
pub(crate) fn halted_collections(halted: &[(SetName, CollectionName, Problem)]) -> Value {
    let shown = halted.iter().map(
        |(set, collection, problem)| json!({ "set": set, "collection": collection, "problem": problem }),
    );
    shown.collect()
}

/// What a running process wrote down as JSON; null where there is nothing.
async fn remembered(log: &SignalledLog, memo: &str) -> Result<Value> {
    let text = log.memo(memo).await?;
    Ok(text.map_or(Value::Null, |text| {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }))
}

/// Sets and troubles as status shows them.
pub(crate) fn shown(sets: &[SetStatus], troubles: &[(SetName, Trouble)], active: &SetName) -> Value {
    let sets = sets.iter().map(|set| {
        let mut shown = json!(set);
        shown["active"] = json!(set.set == *active);
        shown["lag"] = json!(set.lag());
        shown["conserved"] = json!(set.counts.conserved().is_ok());
        shown["counts"]["built"] = json!(set.counts.built());
        shown
    });
    let troubles = troubles.iter().map(|(set, trouble)| {
        json!({
            "set": set,
            "collection": trouble.key.collection,
            "key": trouble.key.id.as_str(),
            "code": trouble.code,
            "reason": trouble.reason,
            "attempts": trouble.attempts,
            "dead": trouble.next_ms.is_none(),
        })
    });
    json!({ "sets": sets.collect::<Vec<_>>(), "troubles": troubles.collect::<Vec<_>>() })
}

/// Adds what a source's follower is doing.
fn follow_status(status: &SourceStatus, shown: &mut Value) {
    shown["state"] = json!(status.state);
    shown["since_ms"] = json!(status.since_ms);
    shown["position"] = json!(status.position.as_ref().map(ToString::to_string));
    shown["last_change_ms"] = json!(status.last_change_ms);
    shown["problem"] = json!(status.problem);
    shown["waiting"] = json!(status.waiting);
}
