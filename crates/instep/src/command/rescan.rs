//! `rescan`: a source is followed anew.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{Error, Result};
use serde_json::json;

use crate::command::configuration;
use crate::output::Output;
use crate::wiring::{Access, Parts, followed_anew};
use crate::{check, following};

/// `instep rescan <source>`: forgets how far a source was followed, beside a running process or for the next one.
pub(crate) async fn rescan(path: &Path, source: &str, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let Some(known) = config.sources.iter().find(|known| known.name.as_str() == source) else {
        let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        return Err(
            Error::invalid("unknown_source", format!("there is no source `{source}`"))
                .with_remedy(format!("there are: {}", names.join(", "))),
        );
    };
    let log = Parts::log(&config, Access::Guest)?;
    following::ask_to_rescan(&log, &known.name).await?;
    let running = check::in_use(&config.state).is_some();
    let collections = config.collections_of(&known.name);
    let names: Vec<_> = collections.iter().map(|collection| collection.as_str()).collect();
    let scanned = match names.is_empty() {
        true => "no collection reads it".to_owned(),
        false => format!(
            "then its collections ({}) are scanned from both sides, which also finds what was deleted meanwhile",
            names.join(", ")
        ),
    };
    let anew = followed_anew(&known.url);
    let text = match running {
        true => format!(
            "source {source} is followed anew: {anew}; {scanned}\nthe running process begins at once, and search goes on with \
             what is indexed; `instep status` shows how far it is"
        ),
        false => format!(
            "source {source} will be followed anew: {anew}; {scanned}\nnothing runs now: the next `instep serve` or \
             `instep sync --once` does it"
        ),
    };
    let answer = json!({ "source": source, "collections": collections, "running": running });
    output.result(&text, &answer);
    Ok(ExitCode::SUCCESS)
}
