//! Starting while a source is away: with its tables as they were last seen, or as soon as it is back.
//!
//! Every process that indexes writes down the tables it found. They are used only while the source cannot be asked, so
//! that search and the other sources need not wait for it; what has changed meanwhile is found out when it is back, as
//! it is while a process runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, Collection, Error, Result, ResultExt, Source, SourceName, TableSchema};
use instep_sync::SignalledLog;

use super::{Access, Parts};
use crate::config::{Config, Schemas};

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The tables of all sources and the collections over them. Fails at once for what waiting does not mend.
pub(super) async fn collections(
    config: &Config,
    sources: &HashMap<SourceName, Arc<dyn Source>>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<(Schemas, Vec<Collection>)> {
    let mut schemas = Schemas::new();
    let mut away = BTreeMap::new();
    for (name, source) in sources {
        match tables(name, source).await {
            Ok(tables) => drop(schemas.insert(name.clone(), tables)),
            Err(error) if error.is_transient() => {
                away.insert(name.clone(), said(&error));
            }
            Err(error) => return Err(error),
        }
    }
    if away.is_empty() {
        let collections = config.resolved(sources, &mut schemas).await?;
        return Ok((schemas, collections));
    }
    let seen = remembered(config, away.keys()).await;
    for (name, _) in away.iter().filter(|(name, _)| !seen.contains_key(*name)) {
        let tables = wait(name, &sources[name], tell).await?;
        schemas.insert(name.clone(), tables);
    }
    let mut guessed = schemas.clone();
    guessed.extend(seen.clone());
    let here = |(name, _): &(&SourceName, &Arc<dyn Source>)| !seen.contains_key(*name);
    let here = sources
        .iter()
        .filter(here)
        .map(|(name, source)| (name.clone(), source.clone()));
    if let Ok(collections) = config.resolved(&here.collect(), &mut guessed).await {
        for (name, why) in away.iter().filter(|(name, _)| seen.contains_key(*name)) {
            tell(&format!(
                "source `{name}` is away: {why}. Until it is back, what is indexed is served"
            ));
        }
        return Ok((guessed, collections));
    }
    // The configuration may be right about tables that are new.
    tell("the configuration does not fit the tables as they were last seen: waiting for the sources");
    for name in seen.keys() {
        let tables = wait(name, &sources[name], tell).await?;
        schemas.insert(name.clone(), tables);
    }
    let collections = config.resolved(sources, &mut schemas).await?;
    Ok((schemas, collections))
}

/// Asks again until the source answers.
async fn wait(
    name: &SourceName,
    source: &Arc<dyn Source>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Vec<TableSchema>> {
    let mut wait = FIRST_WAIT;
    let mut told = None;
    loop {
        match tables(name, source).await {
            Ok(tables) => {
                tell(&format!("source `{name}` is back"));
                return Ok(tables);
            }
            Err(error) if error.is_transient() => {
                let text = said(&error);
                if told.as_ref() != Some(&text) {
                    tell(&format!("waiting for source `{name}`: {text}"));
                    told = Some(text);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn tables(name: &SourceName, source: &Arc<dyn Source>) -> Result<Vec<TableSchema>> {
    let read = source.reader().tables().await;
    read.context(|| format!("reading the schema of source `{name}`"))
}

fn said(error: &Error) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}; {remedy}"),
        None => error.to_string(),
    }
}

fn memo(source: &SourceName) -> String {
    format!("tables/{source}")
}

/// Writes down the tables of these sources.
pub(super) async fn remember(log: &SignalledLog, schemas: &Schemas) -> Result<()> {
    for (name, tables) in schemas {
        let text = serde_json::to_string(tables).expect("schemas are made of names and lists");
        if log.memo(&memo(name)).await?.as_ref() != Some(&text) {
            log.set_memo(&memo(name), Some(&text)).await?;
        }
    }
    Ok(())
}

/// The tables that were written down of these sources. What cannot be read is as good as not there.
async fn remembered<'a>(config: &Config, sources: impl Iterator<Item = &'a SourceName>) -> Schemas {
    let mut schemas = Schemas::new();
    let Ok(log) = Parts::log(config, Access::Guest) else {
        return schemas;
    };
    for source in sources {
        let Ok(Some(text)) = log.memo(&memo(source)).await else {
            continue;
        };
        if let Ok(tables) = serde_json::from_str(&text) {
            schemas.insert(source.clone(), tables);
        }
    }
    schemas
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use instep_core::{
        ChangeFeed, Column, ColumnKind, Expression, Finding, Former, Key, Position, RowReader, Snapshot,
        TableName, Watched,
    };

    use super::*;

    /// A source of one table, away for so many calls.
    struct Away {
        calls: AtomicUsize,
        column: &'static str,
    }

    fn away() -> Error {
        Error::transient("database_away", "nobody answers")
    }

    #[async_trait]
    impl Source for Away {
        async fn follow(&self, _: &[Watched], _: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
            Err(away())
        }
        async fn head(&self) -> Result<Option<Position>> {
            Err(away())
        }
        fn reached(&self, _: &Position, _: &Position) -> bool {
            false
        }
        fn reader(&self) -> &dyn RowReader {
            self
        }
        async fn check(&self, _: &[Watched]) -> Result<Vec<Finding>> {
            Err(away())
        }
        async fn former(&self, _: &[Watched]) -> Result<Vec<Former>> {
            Err(away())
        }
    }

    #[async_trait]
    impl RowReader for Away {
        async fn tables(&self) -> Result<Vec<TableSchema>> {
            let left = self.calls.load(Ordering::SeqCst);
            if left > 0 {
                self.calls.store(left - 1, Ordering::SeqCst);
                return Err(away());
            }
            let column = |name: &str, kind| Column {
                name: name.to_owned(),
                kind,
                declared: String::new(),
                nullable: false,
            };
            Ok(vec![TableSchema {
                name: "item".into(),
                columns: vec![
                    column("id", ColumnKind::Integer),
                    column(self.column, ColumnKind::Text),
                ],
                primary_key: vec!["id".into()],
                foreign_keys: Vec::new(),
                indexes: Vec::new(),
            }])
        }
        async fn describe(&self, _: &TableName, _: &Expression) -> Result<Column> {
            Err(Error::fatal(
                "not_used",
                "the tests of this source use no expressions",
            ))
        }

        async fn scan(
            &self,
            _: &TableSchema,
            _: Option<&Expression>,
            _: Option<&Key>,
            _: usize,
        ) -> Result<Vec<Key>> {
            Err(away())
        }
        async fn count(&self, _: &TableName) -> Result<u64> {
            Err(away())
        }
        async fn snapshot(&self, _: Option<&Position>) -> Result<Box<dyn Snapshot>> {
            Err(away())
        }
    }

    /// Resolves a collection with this field over a table with this column, from a source that is away for so many
    /// calls; returns whether it worked, and what was told.
    async fn started(folder: &Path, field: &str, column: &'static str, calls: usize) -> (bool, Vec<String>) {
        let text = format!(
            "[source.shop]\nurl = \"sqlite:none\"\n[collection.item]\nroot = \"item\"\npublic = true\nfields.{field} = \"text\"\n"
        );
        let config = Config::parse(&folder.join("instep.toml"), text, &|_| None).unwrap();
        let source = Away {
            calls: calls.into(),
            column,
        };
        let sources = HashMap::from([("shop".into(), Arc::new(source) as Arc<dyn Source>)]);
        let told = Mutex::new(Vec::new());
        let tell = |text: &str| told.lock().unwrap().push(text.to_owned());
        let found = collections(&config, &sources, &tell).await;
        if let Ok((schemas, _)) = &found {
            let log = Parts::log(&config, Access::Owner).unwrap();
            remember(&log, schemas).await.unwrap();
        }
        (found.is_ok(), told.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_source_that_was_never_seen_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (started, told) = started(folder.path(), "name", "name", 2).await;
        assert!(started);
        assert_eq!(
            told,
            [
                "waiting for source `shop`: reading the schema of source `shop`: nobody answers",
                "source `shop` is back"
            ]
        );
    }

    #[tokio::test]
    async fn a_source_that_was_seen_is_not_waited_for_as_long_as_the_configuration_fits() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(started(folder.path(), "name", "name", 0).await, (true, vec![]));
        let (is_started, told) = started(folder.path(), "name", "name", 1_000_000).await;
        assert!(
            is_started && told.len() == 1 && told[0].starts_with("source `shop` is away"),
            "{told:?}"
        );
        // The table has another column meanwhile, and the configuration knows.
        let (is_started, told) = started(folder.path(), "title", "title", 3).await;
        assert!(
            is_started && told.iter().any(|told| told.contains("does not fit")),
            "{told:?}"
        );
        // What no waiting mends is said at once.
        assert!(!started(folder.path(), "nothing", "title", 0).await.0);
    }
}
