//! `init`, `check` and `config`: commands that look and write nothing.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use instep_core::{Error, Finding, Result};
use instep_sync::Assembler;
use serde_json::json;

use crate::command::{configuration, environment};
use crate::config::{Config, address, source_url};
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
    let here = Path::new("");
    let address = address(url, 0..0, here, &environment).map_err(|problem| {
        let error = Error::invalid("bad_address", problem.message);
        error.with_remedy(problem.help.unwrap_or_default())
    })?;
    let source = wiring::open_source("database".into(), &source_url(&address, here)?)?;
    let tables = source.reader().tables().await?;
    if tables.is_empty() {
        output.note(&format!("there is no collection in it: {}", init::NO_TABLE));
    }
    let text = init::configuration(url, &tables);
    output.result(&text, &json!({ "configuration": text }));
    Ok(ExitCode::SUCCESS)
}

/// `instep check --sql`: the statements that prepare the sources to be followed.
pub(crate) async fn set_up_sql(path: &Path, output: &Output) -> Result<ExitCode> {
    let config = configuration(path)?;
    let sources = wiring::open_sources(&config)?;
    let mut schemas = wiring::schemas(&sources).await?;
    // Tables that our role may not read yet are not in the schemas, so that collections over them are not known.
    let collections = config.resolved(&sources, &mut schemas).await;
    let (assembler, unresolved) = match collections {
        Ok(collections) => (Some(Assembler::new(sources.clone(), collections)?), None),
        Err(error) => (None, Some(error)),
    };
    let mut text = String::new();
    let mut shown = Vec::new();
    let mut lacks_rights = false;
    for source in &config.sources {
        let name = &source.name;
        let watched = match &assembler {
            Some(assembler) => assembler.watched(name),
            None => check::named(&config, source, &schemas[name]),
        };
        let mut needed = rights(&check::wrong(&*sources[name], &watched).await);
        lacks_rights |= !needed.is_empty();
        needed.extend(wiring::set_up_sql(name, &source.url, &watched).await?);
        let cheaper: Vec<String> = match &assembler {
            Some(_) => {
                let former = sources[name].former(&watched).await?;
                former.into_iter().filter_map(|former| former.cheaper).collect()
            }
            None => Vec::new(),
        };
        text.push_str(&format!("-- source {name}"));
        text.push_str(match needed.is_empty() {
            true => ": nothing more needs to be prepared\n",
            false => ", in this order\n",
        });
        for statement in &needed {
            let end = if statement.starts_with("--") { "" } else { ";" };
            text.push_str(&format!("{}{end}\n", statement.trim_end().trim_end_matches(';')));
        }
        if !cheaper.is_empty() {
            text.push_str("-- not needed; former parents would be known at less cost with:\n");
        }
        for line in cheaper.iter().flat_map(|statement| statement.lines()) {
            text.push_str(&format!("-- {line}\n"));
        }
        shown.push(json!({ "source": name, "needed": needed, "cheaper": cheaper }));
    }
    if let Some(error) = unresolved {
        if !lacks_rights {
            return Err(error);
        }
        output.note("not all tables can be read yet: after these statements, `instep check` says whether that was all");
    }
    output.result(&text, &json!({ "sources": shown }));
    Ok(ExitCode::SUCCESS)
}

/// The statements that give our role the rights it lacks. How it may replicate is said in words by some services: then it
/// is a comment.
fn rights(found: &[Finding]) -> Vec<String> {
    let of = |code: &'static str| {
        let of_code = found.iter().filter(move |found| found.code == code);
        of_code.filter_map(|found| found.remedy.clone())
    };
    let spoken = |remedy: String| {
        let is_statement = remedy.starts_with("alter role ") || remedy.starts_with("grant ");
        match is_statement && !remedy.contains(['(', ',']) {
            true => remedy,
            false => format!("-- {remedy}"),
        }
    };
    let replication = of("replication").map(spoken);
    let tables = ["schema_usage", "table_select", "row_security"];
    replication.chain(tables.into_iter().flat_map(of)).collect()
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
