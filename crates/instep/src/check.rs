//! What `check` looks at before anything is written: each prerequisite, met or not, with its cause and its remedy.
//!
//! Nothing is written but a probe in the state folder, which is removed again. Leaves the databases' own prerequisites to
//! [`Source::check`], and printing to `output`.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use instep_core::{
    Collection, Error, Finding, Former, Language, Means, ReadersRule, Severity, Source, SourceName,
    TableName, TableSchema, Watched,
};
use instep_embedded::analysis::{Analyzer, LanguageAnalyzer};
use instep_gateway::check_listen;
use instep_sync::Assembler;
use serde_json::json;

use crate::config::joins::{Meant, meant};
use crate::config::{Config, EngineConfig, Schemas, SourceConfig};
use crate::following::RECORDED;
use crate::serving;
use crate::wiring::{create_index, in_full, look, product};

/// Everything that is, or is not, as it should be. `sources` are those of the configuration that could be opened; one
/// that is missing is reported, and what depends on it is left out.
pub(crate) async fn check(config: &Config, sources: &HashMap<SourceName, Arc<dyn Source>>) -> Vec<Finding> {
    let mut findings = vec![listen(config), state(&config.state)];
    findings.extend(clusters(config).await);
    let mut schemas = Schemas::new();
    for source in &config.sources {
        let name = &source.name;
        let Some(opened) = sources.get(name) else {
            findings.push(finding(
                Severity::Error,
                "source_unopened",
                &format!("source {name}"),
                "the database could not be opened",
            ));
            continue;
        };
        match opened.reader().tables().await {
            Ok(tables) => drop(schemas.insert(name.clone(), tables)),
            Err(error) => {
                // The source itself knows best why, and what mends it.
                let why = wrong(&**opened, &named(config, source, &[])).await;
                match why.is_empty() {
                    true => findings.push(failed(&format!("source {name}"), &error)),
                    false => findings.extend(why),
                }
            }
        }
    }
    if schemas.len() < config.sources.len() {
        return findings;
    }
    let collections = match config.resolved(sources, &mut schemas).await {
        Ok(collections) => collections,
        Err(error) => {
            findings.push(failed("configuration", &error));
            // A table that is not known may be one that may not be read, or no table.
            for source in &config.sources {
                let watched = named(config, source, &schemas[&source.name]);
                findings.extend(wrong(&*sources[&source.name], &watched).await);
            }
            return findings;
        }
    };
    let found = match collections.len() {
        1 => "one collection, whose tables, columns and joins exist".to_owned(),
        count => format!("{count} collections, whose tables, columns and joins exist"),
    };
    findings.push(finding(Severity::Ok, "configuration", "configuration", &found));
    findings.extend(
        collections
            .iter()
            .flat_map(|collection| about(collection, config)),
    );
    let joined: Vec<(SourceName, TableName)> = collections
        .iter()
        .flat_map(|collection| collection.nodes.iter().map(move |node| (collection, node)))
        .filter(|(_, node)| node.parent.is_some())
        .map(|(collection, node)| (collection.source.clone(), node.table.clone()))
        .collect();
    let mut missing: HashMap<&SourceName, Vec<Finding>> = config
        .sources
        .iter()
        .map(|source| {
            (
                &source.name,
                unindexed(source, &schemas[&source.name], &collections),
            )
        })
        .collect();
    match Assembler::new(sources.clone(), collections) {
        Ok(assembler) => {
            for source in &config.sources {
                let watched = assembler.watched(&source.name);
                let opened = &sources[&source.name];
                let failed = |error| failed(&format!("source {}", source.name), &error);
                match opened.check(&watched).await {
                    Ok(found) => {
                        // The source looks at the columns by which rows lead up to others.
                        let mut missing = missing.remove(&source.name).unwrap_or_default();
                        missing.retain(|missing| {
                            let same = |found: &Finding| {
                                found.code == missing.code && found.subject == missing.subject
                            };
                            !found.iter().any(same)
                        });
                        findings.extend(missing.into_iter().chain(found));
                    }
                    Err(error) => {
                        findings.push(failed(error));
                        continue;
                    }
                }
                match opened.former(&watched).await {
                    Ok(found) => {
                        let joined = joined.iter().filter(|(of, _)| *of == source.name);
                        let joined = joined.map(|(_, table)| table).collect();
                        findings.extend(former(&joined, &found));
                    }
                    Err(error) => findings.push(failed(error)),
                }
            }
        }
        Err(error) => findings.push(failed("configuration", &error)),
    }
    findings
}

/// What answers at the address of each cluster that a set lives in.
async fn clusters(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cluster in &config.clusters {
        if !config.sets.iter().any(|set| set.cluster == cluster.name) {
            continue;
        }
        let subject = format!("cluster {}", cluster.name);
        match product(&cluster.engine).await {
            Some(Ok(product)) => {
                findings.push(finding(Severity::Ok, "cluster", &subject, &product));
                let sets = config.sets.iter().filter(|set| set.cluster == cluster.name);
                let sets: Vec<&str> = sets.map(|set| set.name.as_str()).collect();
                findings.extend(roles(&subject, &product, &sets));
                if let Err(error) = look(&cluster.engine, &sets).await {
                    findings.push(failed(&subject, &error));
                }
            }
            Some(Err(error)) => findings.push(failed(&subject, &error)),
            None => {}
        }
        if let EngineConfig::Cluster(urls) = &cluster.engine
            && let Some(url) = urls.in_the_clear()
        {
            let message = format!("the login goes to {url} in the clear: whoever is on the way reads it");
            findings.push(Finding {
                remedy: Some(
                    "write https://, and `ca` where the system does not know who signed its certificate"
                        .to_owned(),
                ),
                ..finding(Severity::Warning, "no_tls", &subject, &message)
            });
        }
    }
    findings
}

/// The least that a login needs: to index into these sets, and to search them alone.
fn roles(subject: &str, product: &str, sets: &[&str]) -> [Finding; 2] {
    let indexes: Vec<String> = sets.iter().map(|set| format!("documents-{set}-*")).collect();
    let aliases = sets.iter().map(|set| format!("instep-Write-documents-{set}-*"));
    let all: Vec<String> = indexes.iter().cloned().chain(aliases).collect();
    let (path, writes, reads) = match product.starts_with("opensearch") {
        true => (
            "_plugins/_security/api/roles",
            json!({ "cluster_permissions": ["cluster_monitor", "cluster_composite_ops"],
                    "index_permissions": [{ "index_patterns": all, "allowed_actions": ["crud", "create_index", "manage"] }] }),
            json!({ "cluster_permissions": ["cluster_monitor", "cluster_composite_ops_ro"],
                    "index_permissions": [{ "index_patterns": indexes, "allowed_actions": ["read", "indices:admin/get", "indices:admin/mappings/get"] }] }),
        ),
        false => (
            "_security/role",
            json!({ "cluster": ["monitor"], "indices": [{ "names": all, "privileges": ["read", "write", "manage"] }] }),
            json!({ "cluster": ["monitor"], "indices": [{ "names": indexes, "privileges": ["read", "view_index_metadata"] }] }),
        ),
    };
    let said = |code, what: &str, name: &str, role: &serde_json::Value| {
        let message = format!("{what} takes no more than this role: PUT /{path}/{name} {role}");
        finding(Severity::Ok, code, subject, &message)
    };
    [
        said("writing_role", "indexing", "instep_writer", &writes),
        said("reading_role", "searching alone", "instep_reader", &reads),
    ]
}

/// What a source finds wrong, also about tables of which nothing but the name is known.
pub(crate) async fn wrong(source: &dyn Source, watched: &[Watched]) -> Vec<Finding> {
    let mut found = source.check(watched).await.unwrap_or_default();
    found.retain(|found| found.severity == Severity::Error);
    found
}

/// The tables that the configuration names in a source, before their keys and columns are known.
pub(crate) fn named(config: &Config, source: &SourceConfig, tables: &[TableSchema]) -> Vec<Watched> {
    let in_full = |name| match meant(tables, name) {
        Meant::Table(table) => table.name.clone(),
        Meant::Nothing | Meant::Several(_) => in_full(&source.url, name),
    };
    let names: BTreeSet<TableName> = config.tables_of(&source.name).into_iter().map(in_full).collect();
    let unknown = |table| Watched {
        table,
        key: Vec::new(),
        columns: Vec::new(),
    };
    names.into_iter().map(unknown).collect()
}

/// The columns by which rows refer to joined ones, where no index leads with them: when a joined row changes, the rows
/// that refer to it are looked up.
fn unindexed(source: &SourceConfig, tables: &[TableSchema], collections: &[Collection]) -> Vec<Finding> {
    let mut sought = BTreeSet::new();
    for collection in collections
        .iter()
        .filter(|collection| collection.source == source.name)
    {
        for node in &collection.nodes {
            let above = node.parent.map(|parent| &collection.nodes[parent].table);
            sought.extend(above.map(|above| (above.clone(), node.parent_columns())));
        }
    }
    let leads = |index: &Vec<String>, columns: &[String]| {
        index.iter().take_while(|column| columns.contains(column)).count() == columns.len()
    };
    let missing = |(table, columns): (TableName, Vec<String>)| {
        let schema = tables.iter().find(|schema| schema.name == table)?;
        let is_key = schema.primary_key.len() == columns.len() && leads(&schema.primary_key, &columns);
        if is_key || schema.indexes.iter().any(|index| leads(index, &columns)) {
            return None;
        }
        Some(Finding {
            remedy: Some(create_index(&source.url, &table, &columns)),
            ..finding(
                Severity::Warning,
                "missing_index",
                &format!("{table}.{}", columns.join(",")),
                "rows are looked up by these columns, and no index leads with them: each look-up reads the whole table",
            )
        })
    };
    sought.into_iter().filter_map(missing).collect()
}

/// How documents are found that contained a row before it moved or vanished: a finding for each joined table.
fn former(joined: &BTreeSet<&TableName>, former: &[Former]) -> Vec<Finding> {
    let told = |former: &Former| {
        let (severity, message) = match (&former.means, &former.cheaper) {
            (Means::Brought(by), None) => (Severity::Ok, format!("former parents are known by {by}")),
            (Means::Brought(by), Some(_)) => (
                Severity::Warning,
                format!("former parents are known by {by}, which costs more than it must"),
            ),
            (Means::Recorded, None) => (Severity::Ok, format!("former parents are known by {RECORDED}")),
            (Means::Recorded, Some(_)) => (
                Severity::Warning,
                format!(
                    "former parents are known by {RECORDED}: state that grows with the table, and work for each document"
                ),
            ),
        };
        Finding {
            remedy: former.cheaper.clone(),
            ..finding(
                severity,
                "former_parents",
                &format!("table {}", former.table),
                &message,
            )
        }
    };
    let of_joined = former.iter().filter(|former| joined.contains(&former.table));
    of_joined.map(told).collect()
}

/// A failure as a finding.
pub(crate) fn failed(subject: &str, error: &Error) -> Finding {
    Finding {
        remedy: error.remedy().map(str::to_owned),
        ..finding(Severity::Error, error.code(), subject, &error.to_string())
    }
}

fn finding(severity: Severity, code: &str, subject: &str, message: &str) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        subject: subject.to_owned(),
        message: message.to_owned(),
        remedy: None,
    }
}

/// What may surprise about a collection.
fn about(collection: &Collection, config: &Config) -> Vec<Finding> {
    let subject = format!("collection {}", collection.name);
    let mut findings = Vec::new();
    for language in collection.language.all() {
        let own = match Analyzer::for_language(language.as_str()) {
            LanguageAnalyzer::Own(_) => true,
            LanguageAnalyzer::StandsIn => language == Language::unspecified(),
        };
        if own {
            continue;
        }
        let message = format!(
            "language `{language}` has no analyzer of its own: text is analysed by words, without stemming and stop words"
        );
        findings.push(Finding {
            remedy: Some("nothing, or leave `language` out if the texts are in several languages".to_owned()),
            ..finding(Severity::Warning, "language_stands_in", &subject, &message)
        });
    }
    let hidden = match collection.readers {
        ReadersRule::Public => false,
        ReadersRule::Rows { .. } => config.keys.is_empty(),
    };
    if hidden {
        findings.push(Finding {
            remedy: Some("add a key: [key.<name>] with secret, subject and scopes".to_owned()),
            ..finding(
                Severity::Warning,
                "nobody_reads",
                &subject,
                "it has readers, but there is no key, so nobody can search it",
            )
        });
    }
    findings
}

fn listen(config: &Config) -> Finding {
    match serving::keys(config).and_then(|keys| check_listen(&config.listen, &keys)) {
        Ok(()) => {
            let who = match config.keys.len() {
                0 => "callers of this machine, without a key".to_owned(),
                1 => "callers with the one key, and of this machine without".to_owned(),
                count => format!("callers with one of {count} keys, and of this machine without"),
            };
            finding(
                Severity::Ok,
                "listen",
                &format!("address {}", config.listen),
                &format!("serves {who}"),
            )
        }
        Err(error) => failed(&format!("address {}", config.listen), &error),
    }
}

/// Whether the state folder can be written, and whether another process uses it.
fn state(folder: &Path) -> Finding {
    let subject = format!("state {}", folder.display());
    let existing = folder.ancestors().find(|path| path.is_dir());
    // A relative path without a folder that exists starts where we are.
    let existing = existing.unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() {
        Path::new(".")
    } else {
        existing
    };
    if let Err(error) = probe(existing) {
        return Finding {
            remedy: Some(format!(
                "let this user write `{}`, or name another folder: [state] path",
                existing.display()
            )),
            ..finding(
                Severity::Error,
                "state_unwritable",
                &subject,
                &format!("cannot write to `{}`: {error}", existing.display()),
            )
        };
    }
    if !folder.is_dir() {
        return finding(
            Severity::Ok,
            "state",
            &subject,
            "the folder does not exist yet and can be made",
        );
    }
    match in_use(folder) {
        Some(lock) => Finding {
            remedy: Some(
                "stop it before `serve` or `sync`, or give one of the two a state folder of its own"
                    .to_owned(),
            ),
            ..finding(
                Severity::Warning,
                "state_in_use",
                &subject,
                &format!("another process uses it (it holds `{}`)", lock.display()),
            )
        },
        None => finding(
            Severity::Ok,
            "state",
            &subject,
            "the folder can be written, and nobody uses it",
        ),
    }
}

fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".instep-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)
}

/// A lock file in the state folder that another process holds.
pub(crate) fn in_use(folder: &Path) -> Option<PathBuf> {
    let held = |path: &PathBuf| match File::open(path).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Ok(()) | Err(TryLockError::Error(_))) | Err(_) => false,
    };
    let entries = std::fs::read_dir(folder).ok()?;
    let mut locks = entries.flatten().map(|entry| entry.path());
    locks.find(|path| path.extension().is_some_and(|end| end == "lock") && held(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use instep_sources::SqliteSource;
    use rusqlite::Connection;

    use super::*;

    async fn found(text: &str, folder: &Path) -> Vec<(Severity, String, String)> {
        let config = Config::parse(&folder.join("instep.toml"), text.to_owned(), &|_| None).unwrap();
        let path = folder.join("shop.db");
        let mut sources: HashMap<SourceName, Arc<dyn Source>> = HashMap::new();
        if let Ok(source) = SqliteSource::open("shop".into(), path) {
            sources.insert("shop".into(), Arc::new(source));
        }
        let findings = check(&config, &sources).await;
        findings
            .into_iter()
            .map(|found| (found.severity, found.code, found.subject))
            .collect()
    }

    fn has(found: &[(Severity, String, String)], severity: Severity, code: &str) -> bool {
        found.iter().any(|(s, c, _)| *s == severity && c == code)
    }

    const SHOP: &str = "[source.shop]\nurl = \"sqlite:shop.db\"\n[collection.item]\nroot = \"item\"\nlanguage = \"fi\"\nreaders = \"readers\"\nfields.name = \"text\"\n";

    fn shop(folder: &Path) {
        let database = Connection::open(folder.join("shop.db")).unwrap();
        database
            .execute_batch("create table item (id integer primary key, name text, readers text)")
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_met_and_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        shop(folder.path());
        let all = found(SHOP, folder.path()).await;
        assert!(
            has(&all, Severity::Ok, "configuration")
                && has(&all, Severity::Ok, "listen")
                && has(&all, Severity::Ok, "state"),
            "{all:?}"
        );
        assert!(
            has(&all, Severity::Warning, "language_stands_in")
                && has(&all, Severity::Warning, "nobody_reads"),
            "{all:?}"
        );
        assert!(
            all.iter().all(|(severity, ..)| *severity != Severity::Error),
            "{all:?}"
        );
        // Asking leaves nothing behind.
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            names
                .iter()
                .all(|name| name.to_string_lossy().starts_with("shop.db")),
            "{names:?}"
        );

        let public = SHOP
            .replace("readers = \"readers\"", "public = true")
            .replace("\"fi\"", "\"sv\"");
        let all = found(&public, folder.path()).await;
        assert!(
            all.iter()
                .all(|(_, code, _)| code != "language_stands_in" && code != "nobody_reads"),
            "{all:?}"
        );

        let all = found(
            &format!("{SHOP}[server]\nlisten = \"0.0.0.0:9200\"\n"),
            folder.path(),
        )
        .await;
        assert!(has(&all, Severity::Error, "listen_without_keys"), "{all:?}");
        let all = found(&SHOP.replace("fields.name", "fields.nam"), folder.path()).await;
        assert!(has(&all, Severity::Error, "bad_configuration"), "{all:?}");
    }

    #[tokio::test]
    async fn a_database_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let all = found(SHOP, folder.path()).await;
        assert!(has(&all, Severity::Error, "source_unopened"), "{all:?}");
    }

    #[test]
    fn the_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("a/b");
        assert_eq!(state(&kept).severity, Severity::Ok);
        std::fs::create_dir_all(&kept).unwrap();
        let lock = File::create(kept.join("state.lock")).unwrap();
        assert_eq!(state(&kept).code, "state");
        lock.try_lock().unwrap();
        let found = state(&kept);
        assert_eq!(
            (found.severity, found.code.as_str()),
            (Severity::Warning, "state_in_use")
        );
        drop(lock);
        assert_eq!(state(&kept).severity, Severity::Ok);
        // A file stands where the folder should be made.
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(state(Path::new("/proc/none/state")).severity, Severity::Error);
    }
}
