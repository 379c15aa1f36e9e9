//! `status`: how far each set is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use instep_core::Result;
use instep_sync::DELETE_UNCONFIRMED;
use serde_json::Value;

use crate::check;
use crate::command::configuration;
use crate::operations;
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// So many tables are named in one line.
const NAMED: usize = 8;

/// `instep status`: reads the state, also beside a running process. Fails when a set, a collection or a source is halted, a
/// set waits for its engine or a source, or touches are not conserved.
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
    let runs = check::in_use(&config.state).is_some();
    let halted = answer["halted_sources"].clone();
    let is_halted = |source: &Value| {
        let mut halted = halted.as_array().into_iter().flatten();
        halted.any(|halted| halted["source"] == *source)
    };
    for source in answer["sources"].as_array_mut().into_iter().flatten() {
        if !runs {
            // Nobody follows: what was waited for is over.
            source["waiting"] = Value::Null;
        }
        let state = match (is_halted(&source["source"]), runs) {
            (true, _) => "halted",
            (false, true) if source["waiting"].is_null() => "followed",
            (false, true) => "held_up",
            (false, false) => "not_running",
        };
        source["state"] = state.into();
    }
    for set in answer["sets"].as_array_mut().into_iter().flatten() {
        let configured = config.sets.iter().any(|known| set["set"] == known.name.as_str());
        set["configured"] = configured.into();
        if !runs || !configured {
            // Nobody asks its engine.
            set["problem"] = Value::Null;
        }
    }
    output.result(&table(&answer), &answer);
    let healthy = answer["sets"]
        .as_array()
        .into_iter()
        .flatten()
        .all(|set| set["state"] != "halted" && set["problem"].is_null() && set["conserved"] == true);
    let none = |halted: &str| answer[halted].as_array().is_none_or(Vec::is_empty);
    let healthy = healthy && none("halted_sources") && none("halted_collections");
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
        if set["state"] != "halted" && set["problem"].is_object() {
            let part = |name: &str| set["problem"][name].as_str().unwrap_or_default();
            notes.push(format!(
                "set {} waits: {} ({})\n    next: {}",
                set["set"].as_str().unwrap_or_default(),
                part("message"),
                part("code"),
                part("remedy")
            ));
        }
        if let Some(reason) = set["reason"].as_str() {
            notes.push(format!(
                "set {} is halted: {reason}",
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
        notes.extend(dead_note(set));
        if set["configured"] == false {
            notes.push(format!(
                "set {} is not in the configuration: nobody works on it, and it holds the change log back; define it again",
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
    for halted in status["halted_collections"].as_array().into_iter().flatten() {
        let part = |name: &str| halted[name].as_str().unwrap_or_default();
        let problem = |name: &str| halted["problem"][name].as_str().unwrap_or_default();
        notes.push(format!(
            "collection {} stands still in set {}: {}\n    next: {}",
            part("collection"),
            part("set"),
            problem("message"),
            problem("remedy")
        ));
    }
    for paused in status["paused"].as_array().into_iter().flatten() {
        let part = |name: &str| paused[name].as_str().unwrap_or_default();
        notes.push(format!(
            "{} {} is paused since {}\n    next: instep resume {0}:{1}",
            part("kind"),
            part("name"),
            crate::command::moment(paused["since_ms"].as_i64())
        ));
    }
    for source in status["sources"].as_array().into_iter().flatten() {
        notes.extend(source_notes(source));
    }
    let troubles = status["troubles"].as_array().map_or(&[][..], Vec::as_slice);
    let (repeated, troubles): (Vec<&Value>, Vec<&Value>) = troubles
        .iter()
        .partition(|trouble| trouble["code"] == DELETE_UNCONFIRMED);
    if !repeated.is_empty() {
        notes.push(
            "deletes are done, and repeated once no write that is older than they can arrive any more: within two minutes"
                .to_owned(),
        );
    }
    for trouble in &troubles {
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
    let named = (troubles.len() + repeated.len()) as u64;
    if total > named {
        notes.push(format!("and {} more", total - named));
    }
    if !troubles.is_empty() {
        notes.push(
            "mend the rows, or the fields' types: the next change of a row tries its document again"
                .to_owned(),
        );
    }
    let mut text = lines(&table);
    let sources = status["sources"].as_array().map_or(&[][..], Vec::as_slice);
    if !sources.is_empty() {
        text.push('\n');
        text.push_str(&lines(&source_table(sources)));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// How many dead letters a set has, by reason.
fn dead_note(set: &Value) -> Option<String> {
    let reasons = set["dead_reasons"].as_array()?;
    let counted = |reason: &Value| {
        format!(
            "{} {}",
            reason["count"],
            reason["code"].as_str().unwrap_or_default()
        )
    };
    let counted: Vec<String> = reasons.iter().map(counted).collect();
    (!counted.is_empty()).then(|| {
        format!(
            "dead letters in set {}: {}\n    next: instep dead list",
            set["set"].as_str().unwrap_or_default(),
            counted.join(", ")
        )
    })
}

/// A table without the blanks at the ends of its lines.
fn lines(table: &comfy_table::Table) -> String {
    let text = table.to_string();
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// Where each source is. The position is how far its changes are in our log: of Postgres the place in its own log.
fn source_table(sources: &[Value]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["source", "state", "position"]);
    for source in sources {
        let name = source["source"].as_str().unwrap_or_default().to_owned();
        let part = |name: &str| source[name].as_str().unwrap_or("-").replace('_', " ");
        table.add_row([name, part("state"), part("position")]);
    }
    table
}

/// What a person should know about a source: what it waits for, and how it knows former parents.
fn source_notes(source: &Value) -> Vec<String> {
    let name = source["source"].as_str().unwrap_or_default();
    let mut notes = Vec::new();
    if source["rescan_asked"] == true {
        notes.push(format!(
            "source {name} is to be followed anew: a running server does it at once, otherwise `instep serve` or `instep sync --once`"
        ));
    }
    if let Some(message) = source["waiting"]["message"].as_str() {
        let next = source["waiting"]["remedy"].as_str();
        let next = next
            .map(|remedy| format!("\n    next: {remedy}"))
            .unwrap_or_default();
        notes.push(format!("source {name} waits: {message}{next}"));
    }
    let mut means: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut cheaper = Vec::new();
    for former in source["former"].as_array().into_iter().flatten() {
        let part = |part: &str| former[part].as_str().unwrap_or_default();
        means.entry(part("means")).or_default().push(part("table"));
        cheaper.extend(former["cheaper"].as_str());
    }
    for (means, tables) in means {
        let named = tables.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = match tables.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        notes.push(format!(
            "source {name}: former parents of {named}{more} are known by {means}"
        ));
    }
    if !cheaper.is_empty() {
        let named = cheaper.iter().take(NAMED);
        let statements: String = named
            .map(|sql| format!("\n    {}", sql.replace('\n', "\n    ")))
            .collect();
        let more = match cheaper.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("\n    and {more} more, which `instep check` prints"),
        };
        notes.push(format!(
            "source {name}: former parents are known at less cost after{statements}{more}"
        ));
    }
    notes
}
