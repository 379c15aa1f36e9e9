//! The search API over the running parts.

use std::net::SocketAddr;
use std::sync::Arc;

use instep_core::{Error, Policy, ReadersRule, Result};
use instep_gateway::{KeyDefinition, Keys, Limits, Served};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::hydrate::Hydrator;
use crate::operations::Observed;
use crate::running::Running;
use crate::wiring::Parts;

/// The API keys of a configuration.
pub(crate) fn keys(config: &Config) -> Result<Keys> {
    let definitions = config.keys.iter().map(|key| KeyDefinition {
        name: key.name.clone(),
        secret: key.secret.expose().to_owned(),
        subject: key.subject.clone(),
        units: key.units.clone(),
        scopes: key.scopes.clone(),
    });
    Keys::new(definitions.collect())
}

/// Binds the address that searches are served on. An address that others can reach without any key is refused.
pub(crate) async fn listen(config: &Config, address: SocketAddr) -> Result<TcpListener> {
    instep_gateway::check_listen(&address, &keys(config)?)?;
    TcpListener::bind(address).await.map_err(|error| {
        Error::fatal("cannot_listen", format!("cannot listen on {address}: {error}"))
            .with_remedy("choose another address or a free port: --listen 127.0.0.1:0")
    })
}

/// The router of the search API.
pub(crate) fn gateway(
    parts: &Parts,
    running: &Running,
    metrics: PrometheusHandle,
) -> Result<instep_gateway::Parts> {
    let active = parts.active();
    let search = parts.engine_of(&active)?.search.clone().ok_or_else(|| {
        Error::invalid(
            "set_keeps_nothing",
            format!("the active set `{active}` lives in an engine that answers no searches"),
        )
        .with_remedy("make another set active: [set.<name>] active = true")
    })?;
    let hydrator = Arc::new(Hydrator::new(parts.assembler.clone(), &parts.collections));
    let collections = parts.collections.iter().map(|collection| Served {
        name: collection.name.clone(),
        languages: collection.language.all(),
        hydrate: Some(hydrator.clone()),
    });
    let public = |collection: &instep_core::Collection| collection.readers == ReadersRule::Public;
    let operations = Observed::new(running, parts.log.clone(), active.clone(), metrics);
    Ok(instep_gateway::Parts {
        policy: Policy::new(
            parts
                .collections
                .iter()
                .map(|collection| (collection.name.clone(), public(collection)))
                .collect(),
        ),
        keys: keys(&parts.config)?,
        collections: collections.collect(),
        search,
        active: Arc::new(move || active.clone()),
        operations: Arc::new(operations),
        limits: Limits::default(),
    })
}

/// Starts to record metrics. Once in a process.
pub(crate) fn record_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Error::fatal("no_metrics", format!("metrics cannot be recorded: {error}")))?;
    instep_sync::metrics::describe();
    Ok(handle)
}
