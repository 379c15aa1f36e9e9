//! `verify`: compares database and index, in both directions.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use instep_core::{Builder, Collection, Error, Result, SetName};
use instep_sync::{Verified, Verify, VerifyOptions};
use serde_json::json;

use crate::command::configuration;
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// What to verify, and whether to mend it.
pub(crate) struct Wanted {
    pub(crate) repair: bool,
    pub(crate) resume: bool,
    pub(crate) collection: Option<String>,
    pub(crate) set: Option<String>,
}

/// `instep verify`: also beside a running process. Fails when something differs, unless it was repaired.
pub(crate) async fn verify(path: &Path, wanted: Wanted, output: &Output) -> Result<ExitCode> {
    let parts = Parts::open(configuration(path)?, Access::Guest).await?;
    let sets = sets(&parts, wanted.set.as_deref())?;
    let collections = collections(&parts, wanted.collection.as_deref())?;
    let mut reports = Vec::new();
    for set in &sets {
        for collection in &collections {
            let found = one(&parts, set, collection, &wanted, output).await?;
            reports.push((set, &collection.name, found));
        }
    }
    let differences: u64 = reports
        .iter()
        .flat_map(|(_, _, found)| found.counts.values())
        .sum();
    let repaired: u64 = reports.iter().map(|(_, _, found)| found.repaired).sum();
    let clean = reports.iter().all(|(_, _, found)| found.is_clean());
    let shown = reports.iter().map(|(set, collection, found)| {
        let mut report = json!(found);
        report["set"] = json!(set);
        report["collection"] = json!(collection);
        report
    });
    let answer = json!({
        "clean": clean, "differences": differences, "repaired": repaired, "verified": shown.collect::<Vec<_>>(),
    });
    output.result(&text(&reports), &answer);
    if repaired > 0 {
        output.note(
            "repaired documents are indexed by the running server, or by the next `instep sync --once`",
        );
    }
    let mended =
        wanted.repair && repaired == differences && reports.iter().all(|(_, _, found)| found.unsettled == 0);
    Ok(if clean || mended {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn one(
    parts: &Parts,
    set: &SetName,
    collection: &Collection,
    wanted: &Wanted,
    output: &Output,
) -> Result<Verified> {
    let engine = parts.engine_of(set)?.engine.clone();
    let options = VerifyOptions {
        repair: wanted.repair,
        resume: wanted.resume,
        ..VerifyOptions::default()
    };
    let (builder, log) = (parts.assembler.clone(), parts.log.clone());
    let rows = parts.assembler.count(&collection.name).await?;
    // Both sides are walked; there are about as many documents as rows.
    let total = rows * 2;
    let bar = Mutex::new(output.progress(&format!("verifying {} in {set}", collection.name), Some(total)));
    let show = |found: &Verified| {
        let mut bar = bar.lock().expect("nothing panics while it is held");
        bar.set(found.rows + found.documents, Some(total));
    };
    let found = Verify::new(collection, set, engine, builder, log, options)
        .run(show)
        .await?;
    bar.into_inner()
        .expect("nothing panics while it is held")
        .finish();
    Ok(found)
}

/// The sets to verify: those whose engine keeps documents, or the one that was named.
fn sets(parts: &Parts, wanted: Option<&str>) -> Result<Vec<SetName>> {
    if let Some(wanted) = wanted {
        let set = SetName::from(wanted);
        parts.engine_of(&set)?;
        return Ok(vec![set]);
    }
    let mut sets = Vec::new();
    for set in &parts.config.sets {
        if parts.engine_of(&set.name)?.engine.capabilities().stores {
            sets.push(set.name.clone());
        }
    }
    Ok(sets)
}

fn collections<'a>(parts: &'a Parts, wanted: Option<&str>) -> Result<Vec<&'a Collection>> {
    let found: Vec<_> = parts
        .collections
        .iter()
        .filter(|collection| wanted.is_none_or(|wanted| collection.name.as_str() == wanted))
        .collect();
    match (found.is_empty(), wanted) {
        (true, Some(wanted)) => {
            let known = parts
                .collections
                .iter()
                .map(|collection| collection.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            Err(
                Error::invalid("unknown_collection", format!("there is no collection `{wanted}`"))
                    .with_remedy(format!("there are: {known}")),
            )
        }
        (true, None) | (false, _) => Ok(found),
    }
}

fn text(reports: &[(&SetName, &instep_core::CollectionName, Verified)]) -> String {
    let mut text = String::new();
    for (set, collection, found) in reports {
        let counts = found
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} {}", json!(kind).as_str().unwrap_or_default()));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let said = if found.is_clean() {
            match found.rejected {
                0 => "in step".to_owned(),
                rejected => {
                    format!("in step, but for {rejected} rows that cannot be indexed: see `instep status`")
                }
            }
        } else {
            counts
        };
        text.push_str(&format!(
            "{collection} in {set}: {} rows, {} documents: {said}\n",
            found.rows, found.documents
        ));
        if found.unsettled > 0 {
            text.push_str(&format!(
                "    {} documents changed at every look\n",
                found.unsettled
            ));
        }
        for difference in &found.differences {
            let trouble = difference
                .trouble
                .as_ref()
                .map(|why| format!(" ({why})"))
                .unwrap_or_default();
            let kind = json!(difference.kind);
            text.push_str(&format!(
                "    {}: {}{trouble}\n",
                kind.as_str().unwrap_or_default(),
                difference.id
            ));
        }
        if found.repaired > 0 {
            text.push_str(&format!("    {} touched to be indexed again\n", found.repaired));
        }
    }
    text
}
