//! `init`, `check` and `config`: commands that look and write nothing.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use instep_core::{Error, Result};
use serde_json::json;

use crate::command::configuration;
use crate::config::{Config, source_url};
use crate::output::{Output, is_met};
use crate::{check, init, wiring};

/// `instep init`: a configuration from the database's own schema.
pub(crate) async fn init(url: &str, output: &Output) -> Result<ExitCode> {
    if !url.contains(':') {
        return Err(
            Error::invalid("unknown_source", format!("`{url}` is not a source"))
                .with_remedy(format!("if it is a SQLite file: instep init sqlite:{url}")),
        );
    }
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
    let mut sources = HashMap::new();
    let mut unopened = Vec::new();
    for source in &config.sources {
        match wiring::open_source(source.name.clone(), &source.url) {
            Ok(opened) => drop(sources.insert(source.name.clone(), opened)),
            Err(error) => unopened.push(check::failed(&format!("source {}", source.name), &error)),
        }
    }
    let mut findings = check::check(&config, &sources).await;
    for finding in &mut findings {
        if let Some(why) = unopened
            .iter()
            .find(|why| finding.code == "source_unopened" && why.subject == finding.subject)
        {
            *finding = why.clone();
        }
    }
    output.findings(&findings);
    Ok(if is_met(&findings) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
