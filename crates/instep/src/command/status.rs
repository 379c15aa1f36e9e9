//! `status`: how far each set is.

use std::path::Path;
use std::process::ExitCode;

use instep_core::Result;
use serde_json::Value;

use crate::command::configuration;
use crate::operations;
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// `instep status`: reads the state, also beside a running process. Fails when a set or a source is halted, or touches
/// are not conserved.
pub(crate) async fn status(path: &Path, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let active = config
        .sets
        .iter()
        .find(|set| set.active)
        .map(|set| set.name.clone());
    let log = Parts::log(&config, Access::Guest)?;
    let active = active.expect("the configuration has one active set");
    let sources: Vec<_> = config.sources.iter().map(|source| source.name.clone()).collect();
    let mut answer = operations::status(&log, &active, &sources).await?;
    for set in answer["sets"].as_array_mut().into_iter().flatten() {
        let configured = config.sets.iter().any(|known| set["set"] == known.name.as_str());
        set["configured"] = configured.into();
    }
    output.result(&table(&answer), &answer);
    let healthy = answer["sets"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|set| set["state"] != "halted" && set["conserved"] == true);
    let healthy = healthy && answer["halted_sources"].as_array().is_none_or(Vec::is_empty);
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The status as a table.
pub(crate) fn table(status: &Value) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "set",
        "state",
        "position",
        "lag",
        "built",
        "folded",
        "retries",
        "dead letters",
    ]);
    let mut notes = Vec::new();
    for set in status["sets"].as_array().into_iter().flatten() {
        let counts = &set["counts"];
        let name = format!(
            "{}{}",
            set["set"].as_str().unwrap_or_default(),
            if set["active"] == true { " (active)" } else { "" }
        );
        let built = counts["scanned"].as_u64().unwrap_or(0) + counts["built"].as_u64().unwrap_or(0);
        table.add_row([
            name,
            set["state"].as_str().unwrap_or_default().to_owned(),
            format!("{} of {}", set["position"], set["head"]),
            set["lag"].to_string(),
            built.to_string(),
            counts["folded"].to_string(),
            counts["retries"].to_string(),
            counts["dead_letters"].to_string(),
        ]);
        if let Some(reason) = set["reason"].as_str() {
            notes.push(format!(
                "{} is halted: {reason}",
                set["set"].as_str().unwrap_or_default()
            ));
        }
        for scan in set["scans"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|scan| scan["finished"] == false)
        {
            notes.push(format!(
                "scanning {}: {} documents so far",
                scan["collection"].as_str().unwrap_or_default(),
                scan["done"]
            ));
        }
        if set["configured"] == false {
            notes.push(format!(
                "{} is not in the configuration: nobody works on it, and it holds the change log back; define it again",
                set["set"].as_str().unwrap_or_default()
            ));
        }
        if set["conserved"] == false {
            notes.push(
                "the touches of this set do not add up: run `instep verify --repair`, and report it"
                    .to_owned(),
            );
        }
    }
    for halted in status["halted_sources"].as_array().into_iter().flatten() {
        let part = |name: &str| halted["problem"][name].as_str().unwrap_or_default();
        let source = halted["source"]
            .as_str()
            .map_or("a source".to_owned(), |name| format!("source {name}"));
        notes.push(format!(
            "{source} is halted: {}\n    next: {}",
            part("message"),
            part("remedy")
        ));
    }
    for trouble in status["troubles"].as_array().into_iter().flatten() {
        let part = |name: &str| trouble[name].as_str().unwrap_or_default();
        let what = if trouble["dead"] == true {
            "not indexed"
        } else {
            "tried again later"
        };
        notes.push(format!(
            "{what}: {}/{} in set {}: {} ({})",
            part("collection"),
            part("key"),
            part("set"),
            part("reason"),
            part("code")
        ));
    }
    let counted = |set: &Value| {
        set["counts"]["retries"].as_u64().unwrap_or(0) + set["counts"]["dead_letters"].as_u64().unwrap_or(0)
    };
    let total: u64 = status["sets"].as_array().into_iter().flatten().map(counted).sum();
    let named = status["troubles"].as_array().map_or(0, Vec::len) as u64;
    if total > named {
        notes.push(format!("and {} more", total - named));
    }
    if named > 0 {
        notes.push(
            "mend the rows, or the fields' types: the next change of a row tries its document again"
                .to_owned(),
        );
    }
    let mut text = table.to_string();
    for note in notes {
        text.push('\n');
        text.push_str(&note);
    }
    text
}
