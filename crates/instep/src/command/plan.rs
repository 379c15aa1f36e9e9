//! `plan`: what starting with this configuration would do to what is indexed, before anything does.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use instep_core::{Builder, ChangeLog, CollectionName, Result};
use instep_sync::{Assembler, remake_memo};
use serde_json::{Value, json};

use crate::command::{collection, configuration, sets};
use crate::definitions::{Difference, Effect, differences, leave_to_remake, ways_on};
use crate::output::Output;
use crate::wiring::{self, Access, Parts};

/// So many documents are built to see how long all of them take.
const SAMPLE: usize = 1_000;

/// `instep plan [--remake <collection>] [--keep <collection>] [--set <set>]`: exits with 1 when something is refused. Nothing
/// is written but the leave to empty an index, where it is given or taken back.
pub(crate) async fn plan(
    path: &Path,
    remake: Option<&str>,
    keep: Option<&str>,
    set: Option<&str>,
    output: &Output,
) -> Result<ExitCode> {
    let config = configuration(path)?;
    let wanted = sets(&config, set)?;
    let sources = wiring::open_sources(&config)?;
    let mut schemas = wiring::schemas(&sources).await?;
    let collections = config.resolved(&sources, &mut schemas).await?;
    let assembler = Assembler::new(sources, collections.clone())?;
    let log = match Parts::log(&config, Access::Guest) {
        Ok(log) => Some(log),
        Err(error) if error.code() == "no_state" && remake.is_none() => None,
        Err(error) => return Err(error),
    };
    if let (Some(name), Some(log)) = (remake, &log) {
        let name = collection(&config, name)?;
        // It is meant of the definition as it is now.
        let leave = leave_to_remake(assembler.collection(&name)?);
        for set in &wanted {
            log.set_memo(&remake_memo(set, &name), Some(&leave)).await?;
        }
    }
    if let (Some(name), Some(log)) = (keep, &log) {
        let name = collection(&config, name)?;
        for set in &wanted {
            log.set_memo(&remake_memo(set, &name), None).await?;
        }
    }
    let mut found = differences(&config, &collections, log.as_ref()).await?;
    found.retain(|difference| wanted.contains(&difference.set));
    let mut shown = Vec::new();
    for difference in &found {
        let work = match difference.effect {
            Effect::Unchanged | Effect::Refused => None,
            Effect::New | Effect::Rebuilt | Effect::Remade => {
                Some(work(&assembler, &difference.collection).await?)
            }
        };
        shown.push((difference, work));
    }
    let lines: Vec<String> = shown
        .iter()
        .map(|(difference, work)| line(difference, work.as_ref()))
        .collect();
    let answer: Vec<Value> = shown
        .iter()
        .map(|(difference, work)| answer(difference, work.as_ref()))
        .collect();
    let refused = found
        .iter()
        .any(|difference| difference.effect == Effect::Refused);
    output.result(&lines.join("\n"), &json!({ "plan": answer, "refused": refused }));
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What is to be built.
struct Work {
    /// Root rows, perhaps an estimate.
    documents: u64,
    /// How long building them takes, as the first of them did; writing them to the engine comes on top.
    takes: Duration,
}

async fn work(assembler: &Assembler, collection: &CollectionName) -> Result<Work> {
    let documents = assembler.count(collection).await?;
    let ids = assembler.scan(collection, None, SAMPLE).await?;
    let began = Instant::now();
    assembler.build(collection, &ids).await?;
    let each = began.elapsed().as_secs_f64() / ids.len().max(1) as f64;
    Ok(Work {
        documents,
        takes: Duration::from_secs_f64(each * documents as f64),
    })
}

fn line(difference: &Difference, work: Option<&Work>) -> String {
    let Difference { set, collection, .. } = difference;
    let what = match difference.effect {
        Effect::New => "new: its index is made and filled",
        Effect::Unchanged => "unchanged",
        Effect::Rebuilt => {
            "changed: the index gets what is new, and every document is built again; search goes on meanwhile"
        }
        Effect::Refused => "REFUSED: it contradicts what is indexed, and instep does not start with it",
        Effect::Remade => "remade: the index is emptied and filled again; search finds a part meanwhile",
    };
    let mut text = format!("{collection} in set {set}: {what}");
    if let Some(Work { documents, takes }) = work {
        let seconds = takes.as_secs_f64();
        text.push_str(&format!(
            "\n    {documents} documents to build, about {seconds:.1} s and the time to write them"
        ));
    }
    for change in &difference.changes {
        text.push_str(&format!("\n    {change}"));
    }
    for contradiction in &difference.contradictions {
        text.push_str(&format!("\n    contradiction: {contradiction}"));
    }
    if difference.effect == Effect::Refused {
        text.push_str(&format!("\n    next: {}", ways_on(set, collection)));
    }
    text
}

fn answer(difference: &Difference, work: Option<&Work>) -> Value {
    let mut answer = json!(difference);
    if let Some(Work { documents, takes }) = work {
        answer["documents"] = json!(documents);
        answer["build_seconds"] = json!(takes.as_secs_f64());
    }
    answer
}
