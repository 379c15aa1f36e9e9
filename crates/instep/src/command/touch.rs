//! `touch`: documents are built again without a change of their rows, for what no change says: a data migration under
//! triggers that were off, a function that computes otherwise than before.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{
    ChangeLog, Collection, DocId, DocKey, Error, Expression, Result, ResultExt, Source, TableSchema, Touch,
};
use serde_json::json;

use crate::check;
use crate::command::{collection, configuration};
use crate::output::Output;
use crate::wiring::{Access, Parts};

/// Keys read, and documents touched, at once.
const CHUNK: usize = 2_000;

/// `instep touch <collection> [--where <condition>]`: beside a running process or for the next one. Without a condition the
/// collection is scanned from both sides, which also finds what should be gone.
pub(crate) async fn touch(
    path: &Path,
    name: &str,
    condition: Option<&str>,
    output: &Output,
) -> Result<ExitCode> {
    let config = configuration(path)?;
    let name = collection(&config, name)?;
    let parts = Parts::open(config, Access::Guest).await?;
    let definition = parts.assembler.collection(&name)?;
    let touched = match condition {
        Some(condition) => Some(touch_rows(&parts, definition, condition).await?),
        None => {
            let scan = [Touch::Scan(name.clone())];
            parts.log.append(&definition.source, None, &scan).await?;
            None
        }
    };
    let running = check::in_use(&parts.config.state).is_some();
    let what = match touched {
        Some(touched) => format!("{touched} documents of {name} touched"),
        None => format!("{name} is scanned from both sides"),
    };
    let next = match running {
        true => "the running process builds them now",
        false => "nothing runs now: the next `instep serve` or `instep sync --once` builds them",
    };
    let answer =
        json!({ "collection": name, "touched": touched, "scan": touched.is_none(), "running": running });
    output.result(&format!("{what}\n{next}"), &answer);
    Ok(ExitCode::SUCCESS)
}

/// Touches the documents of the root rows that meet a condition, as many as are there when the walk comes by.
async fn touch_rows(parts: &Parts, collection: &Collection, condition: &str) -> Result<u64> {
    let source = &parts.sources[&collection.source];
    let condition = Expression::condition(condition)?;
    let table = &collection.root;
    source
        .reader()
        .describe(&table.name, &condition)
        .await
        .context(|| format!("`--where` over table `{}`", table.name))?;
    let mut touched = 0;
    let mut after = None;
    loop {
        let keys = keys(&**source, table, &condition, after.as_ref()).await?;
        let ids = keys.iter().map(DocId::naming);
        let mut documents: Vec<DocKey> = ids
            .map(|id| DocKey {
                collection: collection.name.clone(),
                id,
            })
            .collect();
        documents.sort();
        documents.dedup();
        touched += documents.len() as u64;
        let touches: Vec<Touch> = documents.into_iter().map(Touch::Document).collect();
        if !touches.is_empty() {
            parts.log.append(&collection.source, None, &touches).await?;
        }
        if keys.len() < CHUNK {
            return Ok(touched);
        }
        after = keys.into_iter().last();
    }
}

async fn keys(
    source: &dyn Source,
    table: &TableSchema,
    condition: &Expression,
    after: Option<&instep_core::Key>,
) -> Result<Vec<instep_core::Key>> {
    let keys = source.reader().scan(table, Some(condition), after, CHUNK).await;
    keys.map_err(|error| match error.fault() {
        instep_core::Fault::Poison => Error::invalid("uncomputed", error.to_string())
            .with_remedy("write a condition that takes every row of the table"),
        _ => error,
    })
}
