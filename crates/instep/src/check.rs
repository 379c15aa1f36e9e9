//! What `check` looks at before anything is written: each prerequisite, met or not, with its cause and its remedy.
//!
//! Nothing is written but a probe in the state folder, which is removed again. Leaves the databases' own prerequisites to
//! [`Source::check`], and printing to `output`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use instep_core::{Collection, Error, Finding, Language, ReadersRule, Severity, Source, SourceName};
use instep_embedded::analysis::{Analyzer, LanguageAnalyzer};
use instep_gateway::check_listen;
use instep_sync::Assembler;

use crate::config::{Config, Schemas};
use crate::serving;

/// Everything that is, or is not, as it should be. `sources` are those of the configuration that could be opened; one
/// that is missing is reported, and what depends on it is left out.
pub(crate) async fn check(config: &Config, sources: &HashMap<SourceName, Arc<dyn Source>>) -> Vec<Finding> {
    let mut findings = vec![listen(config), state(&config.state)];
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
            Err(error) => findings.push(failed(&format!("source {name}"), &error)),
        }
    }
    if schemas.len() < config.sources.len() {
        return findings;
    }
    let collections = match config.collections(&schemas) {
        Ok(collections) => collections,
        Err(error) => {
            findings.push(failed("configuration", &error));
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
    match Assembler::new(sources.clone(), collections) {
        Ok(assembler) => {
            for source in &config.sources {
                match sources[&source.name]
                    .check(&assembler.watched(&source.name))
                    .await
                {
                    Ok(found) => findings.extend(found),
                    Err(error) => findings.push(failed(&format!("source {}", source.name), &error)),
                }
            }
        }
        Err(error) => findings.push(failed("configuration", &error)),
    }
    findings
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
    let language = &collection.language;
    let mut findings = Vec::new();
    let own = match Analyzer::for_language(language.as_str()) {
        LanguageAnalyzer::Own(_) => true,
        LanguageAnalyzer::StandsIn => *language == Language::unspecified(),
    };
    if !own {
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
        ReadersRule::Column(_) | ReadersRule::Joined { .. } => config.keys.is_empty(),
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
    match locked(folder) {
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

/// A lock file in the folder that another process holds.
fn locked(folder: &Path) -> Option<PathBuf> {
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
