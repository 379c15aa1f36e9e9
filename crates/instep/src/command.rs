//! The commands: one file for each subject.

pub(crate) mod demo;
pub(crate) mod inspect;
pub(crate) mod rescan;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod verify;

use std::path::Path;

use instep_core::Result;

use crate::config::Config;

/// Reads a configuration, `${VAR}` from this process's environment.
pub(crate) fn configuration(path: &Path) -> Result<Config> {
    Config::load(path, &environment)
}

/// A variable of this process's environment.
#[allow(clippy::disallowed_methods, reason = "the configuration resolves ${VAR}")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns when the process is asked to stop: SIGINT or SIGTERM.
pub(crate) async fn asked_to_stop() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!("SIGTERM cannot be waited for: {error}");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
