//! `touch` and `purge`: documents are built again without a change of their rows, for what no change says: a data migration under
//! triggers that were off, a function that computes otherwise than before.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{ChangeLog, Error, Expression, Result, ResultExt, Touch};
use serde_json::json;

use crate::check;
use crate::command::{collection, configuration};
use crate::output::Output;
use crate::purging::touch_due;
use crate::touching::touch_rows;
use crate::wiring::{Access, Parts, now_ms};

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
        Some(condition) => {
            let condition = Expression::condition(condition).context(|| "`--where`".to_owned())?;
            let source = &parts.sources[&definition.source];
            Some(touch_rows(&**source, &parts.log, definition, &condition).await?)
        }
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

/// `instep purge <collection>`: touches the documents of rows that were soft-deleted longer ago than the collection's
/// `purge` says, so that they go now; a running process does so by itself every hour.
pub(crate) async fn purge(path: &Path, name: &str, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let name = collection(&config, name)?;
    let parts = Parts::open(config, Access::Guest).await?;
    let definition = parts.assembler.collection(&name)?;
    let Some(purge) = &definition.purge else {
        let message = format!("collection `{name}` does not say when documents of soft-deleted rows go");
        return Err(Error::invalid("no_purge", message)
            .with_remedy("add purge = { column = \"deleted_at\", after_days = 30 }"));
    };
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let source = &parts.sources[&definition.source];
    let touched = touch_due(
        &**source,
        &parts.log,
        definition,
        purge,
        None,
        purge.cutoff_ms(now),
    )
    .await?;
    let running = check::in_use(&parts.config.state).is_some();
    let next = match running {
        true => "the running process removes those that are left",
        false => {
            "nothing runs now: the next `instep serve` or `instep sync --once` removes those that are left"
        }
    };
    let text =
        format!("{touched} rows of {name} were soft-deleted so long ago that they have no documents\n{next}");
    output.result(
        &text,
        &json!({ "collection": name, "due": touched, "running": running }),
    );
    Ok(ExitCode::SUCCESS)
}
