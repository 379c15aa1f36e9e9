//! `init`, `check` and `config`: commands that look and write nothing.

use std::path::Path;
use std::process::ExitCode;

use instep_core::Result;
use serde_json::json;

use crate::command::configuration;
use crate::config::{Config, source_url};
use crate::output::{Output, is_met};
use crate::{check, init, wiring};

/// `instep init`: a configuration from the database's own schema.
pub(crate) async fn init(url: &str, output: &Output) -> Result<ExitCode> {
    let source = wiring::open_source("database".into(), &source_url(url, Path::new(""))?)?;
    let text = init::configuration(url, &source.reader().tables().await?);
    output.result(&text, &json!({ "configuration": text }));
    Ok(ExitCode::SUCCESS)
}

/// `instep config schema`.
pub(crate) fn schema(output: &Output) -> Result<ExitCode> {
    let schema = Config::schema();
    output.result(&format!("{schema:#}"), &schema);
    Ok(ExitCode::SUCCESS)
}

/// `instep config print`.
pub(crate) fn print(path: &Path, output: &Output) -> Result<ExitCode> {
    let text = configuration(path)?.print();
    output.result(&text, &json!({ "configuration": text }));
    Ok(ExitCode::SUCCESS)
}

/// `instep check`: every prerequisite. Warnings do not fail it.
pub(crate) async fn check(path: &Path, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let sources = wiring::open_sources(&config)?;
    let findings = check::check(&config, &sources).await;
    output.findings(&findings);
    Ok(if is_met(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
