//! What operators see: the status as JSON, metrics, readiness. The same status is what `instep status` prints.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{ChangeLog, Error, Result, SetName, SetState, SetStatus, SourceName, Trouble};
use instep_gateway::Operations;
use instep_sync::{Activity, Problem, SignalledLog, SourceStatus};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::running::{Running, halt_memo};

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
        let names: Vec<SourceName> = self.sources.keys().cloned().collect();
        let mut status = status(&self.log, &self.active, &names).await?;
        let mut sources: Vec<_> = self
            .sources
            .iter()
            .map(|(name, source)| source_status(name, &source.borrow()))
            .collect();
        sources.sort_by(|a, b| a["source"].as_str().cmp(&b["source"].as_str()));
        status["sources"] = Value::Array(sources);
        for set in status["sets"].as_array_mut().into_iter().flatten() {
            let activity = set["set"]
                .as_str()
                .and_then(|name| self.sets.get(name))
                .map(|activity| activity.borrow().clone());
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

    /// Ready when the active set is there, follows, and has been filled once.
    async fn ready(&self) -> Result<()> {
        let sets = self.log.status().await?;
        let not_ready = |why: &str| {
            Err(Error::transient(
                "not_ready",
                format!("set `{}` {why}", self.active),
            ))
        };
        match sets.iter().find(|set| set.set == self.active) {
            None => not_ready("does not exist yet"),
            Some(set) if !matches!(set.state, SetState::Following | SetState::Paused) => {
                not_ready("does not follow")
            }
            Some(set) if set.scans.iter().any(|scan| !scan.finished && !scan.both) => {
                not_ready("is still being filled")
            }
            Some(_) => Ok(()),
        }
    }
}

/// How many retries and dead letters of each set status names; it counts them all.
const NAMED: usize = 20;

/// The sets, what is not indexed in them, and halted sources, as the log knows them.
pub(crate) async fn status(log: &SignalledLog, active: &SetName, sources: &[SourceName]) -> Result<Value> {
    let sets = log.status().await?;
    let mut troubles = Vec::new();
    for set in &sets {
        let of_set = log.troubles(&set.set, None, NAMED).await?;
        troubles.extend(of_set.into_iter().map(|trouble| (set.set.clone(), trouble)));
    }
    let mut status = shown(&sets, &troubles, active);
    let mut halted = Vec::new();
    for source in sources {
        if let Some(problem) = log.memo(&halt_memo(source)).await? {
            let problem: Value = serde_json::from_str(&problem).unwrap_or(Value::String(problem));
            halted.push(json!({ "source": source, "problem": problem }));
        }
    }
    status["halted_sources"] = Value::Array(halted);
    Ok(status)
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

fn source_status(name: &SourceName, status: &SourceStatus) -> Value {
    json!({
        "source": name,
        "state": status.state,
        "since_ms": status.since_ms,
        "position": status.position.as_ref().map(ToString::to_string),
        "last_change_ms": status.last_change_ms,
        "problem": status.problem,
    })
}
