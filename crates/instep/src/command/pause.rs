//! `pause` and `resume`: a source or a collection is not indexed for a while, and nothing is lost. A set that halted is
//! resumed as well, once what it named is mended.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{ChangeLog, CollectionName, Error, Pausable, Result, SetState, SourceName};
use serde_json::json;

use crate::check;
use crate::command::{configuration, unknown};
use crate::config::Config;
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// `instep pause <source-or-collection>`: beside a running process, and until it is resumed, across restarts.
pub(crate) async fn pause(path: &Path, name: &str, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let log = Parts::log(&config, Access::Guest)?;
    let what = named(&config, name, &[])?;
    let is_new = log.pause(&what).await?;
    let text = match is_new {
        true => format!(
            "{what} is paused: its changes are still taken into the log, and no document of {} is built\nnext: instep resume {}",
            collections(&config, &what),
            spelled(&what)
        ),
        false => format!(
            "{what} was paused already\nnext: instep resume {}",
            spelled(&what)
        ),
    };
    let running = check::in_use(&config.state).is_some();
    output.result(
        &text,
        &json!({ "paused": what, "was_paused": !is_new, "running": running }),
    );
    Ok(ExitCode::SUCCESS)
}

/// `instep resume <source, collection or set>`.
pub(crate) async fn resume(path: &Path, name: &str, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let log = Parts::log(&config, Access::Guest)?;
    if let Some(set) = name.strip_prefix("set:") {
        return resume_set(&config, &log, set, output).await;
    }
    // What is paused may be gone from the configuration.
    let paused: Vec<Pausable> = log
        .paused()
        .await?
        .into_iter()
        .map(|paused| paused.what)
        .collect();
    let what = named(&config, name, &paused)?;
    let was_paused = log.resume(&what).await?;
    let running = check::in_use(&config.state).is_some();
    let next = match running {
        true => "the running process indexes what waited",
        false => "nothing runs now: the next `instep serve` or `instep sync --once` indexes what waited",
    };
    let text = match was_paused {
        true => format!("{what} is resumed: {next}"),
        false => format!("{what} was not paused"),
    };
    output.result(
        &text,
        &json!({ "resumed": what, "was_paused": was_paused, "running": running }),
    );
    Ok(ExitCode::SUCCESS)
}

/// A set that halted follows again: what it named is taken as mended, and looked at anew.
async fn resume_set(config: &Config, log: &impl ChangeLog, name: &str, output: &Output) -> Result<ExitCode> {
    let sets = log.status().await?;
    let is_configured = config.sets.iter().any(|set| set.name.as_str() == name);
    let found = sets.iter().find(|status| status.set.as_str() == name);
    let Some(found) = found.filter(|_| is_configured) else {
        let names: Vec<String> = config
            .sets
            .iter()
            .map(|set| format!("set:{}", set.name))
            .collect();
        return Err(unknown(
            "unknown_name",
            &format!("there is no index set `{name}`"),
            &names,
        ));
    };
    let was_halted = matches!(found.state, SetState::Halted(_));
    if was_halted {
        log.set_state(&found.set, &SetState::Following).await?;
    }
    let running = check::in_use(&config.state).is_some();
    let text = match (was_halted, running) {
        (false, _) => format!("index set {name} was not halted"),
        (true, true) => format!("index set {name} follows again: the running process goes on with it"),
        (true, false) => {
            format!(
                "index set {name} follows again: nothing runs now, the next `instep serve` goes on with it"
            )
        }
    };
    output.result(
        &text,
        &json!({ "resumed": { "set": name }, "was_halted": was_halted, "running": running }),
    );
    Ok(ExitCode::SUCCESS)
}

fn collections(config: &Config, what: &Pausable) -> String {
    match what {
        Pausable::Collection(name) => name.to_string(),
        Pausable::Source(source) => {
            let names: Vec<String> = config
                .collections_of(source)
                .iter()
                .map(ToString::to_string)
                .collect();
            match names.is_empty() {
                true => "it".to_owned(),
                false => names.join(", "),
            }
        }
    }
}

/// What a name means: with a prefix what that says, otherwise the one thing that is called so.
fn named(config: &Config, name: &str, also: &[Pausable]) -> Result<Pausable> {
    let sources = config.sources.iter().map(|source| source.name.clone());
    let sources: Vec<SourceName> = sources.collect();
    let collections: Vec<CollectionName> = sources
        .iter()
        .flat_map(|source| config.collections_of(source))
        .collect();
    let known = sources.iter().cloned().map(Pausable::Source);
    let known = known.chain(collections.iter().cloned().map(Pausable::Collection));
    let mut known: Vec<Pausable> = known.chain(also.iter().cloned()).collect();
    known.sort();
    known.dedup();
    let meant: Vec<&Pausable> = known
        .iter()
        .filter(|what| match (what, name.split_once(':')) {
            (Pausable::Source(known), None) => known.as_str() == name,
            (Pausable::Collection(known), None) => known.as_str() == name,
            (Pausable::Source(known), Some((kind, name))) => kind == "source" && known.as_str() == name,
            (Pausable::Collection(known), Some((kind, name))) => {
                kind == "collection" && known.as_str() == name
            }
        })
        .collect();
    match meant[..] {
        [what] => Ok(what.clone()),
        [] => {
            let names: Vec<String> = known.iter().map(spelled).collect();
            Err(unknown(
                "unknown_name",
                &format!("there is no source and no collection `{name}`"),
                &names,
            ))
        }
        _ => Err(
            Error::invalid("ambiguous_name", format!("`{name}` is a source and a collection"))
                .with_remedy(format!("say which: source:{name} or collection:{name}")),
        ),
    }
}

/// As the command takes it, whatever else has that name.
pub(crate) fn spelled(what: &Pausable) -> String {
    match what {
        Pausable::Source(name) => format!("source:{name}"),
        Pausable::Collection(name) => format!("collection:{name}"),
    }
}
