//! Wires the parts: from a configuration to sources, log, engines, and the tasks that keep them in step.
//!
//! The only place that names a concrete source, store or engine.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use instep_core::{
    ChangeLog, ClusterName, Collection, Engine, Error, Result, ResultExt, Search, SetName, Source, SourceName,
};
use instep_embedded::Embedded;
use instep_sources::SqliteSource;
use instep_store::SqliteLog;
use instep_sync::{Assembler, NullEngine, SignalledLog};

use crate::config::{Config, EngineConfig, Schemas, SourceUrl};

/// The parts of a running instep, opened and checked, nothing started.
pub struct Parts {
    /// The configuration they were made from.
    pub config: Config,
    /// The sources, by name.
    pub sources: HashMap<SourceName, Arc<dyn Source>>,
    /// The builder of all collections.
    pub assembler: Arc<Assembler>,
    /// The definitions of the collections, by name.
    pub collections: Vec<Collection>,
    /// The change log.
    pub log: Arc<SignalledLog>,
    /// The engines, by cluster.
    pub engines: BTreeMap<ClusterName, Opened>,
}

/// An opened engine.
#[derive(Clone)]
pub struct Opened {
    /// Where documents are written.
    pub engine: Arc<dyn Engine>,
    /// Where they are searched; a null engine answers no searches.
    pub search: Option<Arc<dyn Search>>,
}

/// How the state is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To index: one process at a time.
    Owner,
    /// To look, and to touch documents, beside a running owner.
    Guest,
}

/// Opens every source of a configuration. Nothing is written.
pub fn open_sources(config: &Config) -> Result<HashMap<SourceName, Arc<dyn Source>>> {
    let mut sources: HashMap<SourceName, Arc<dyn Source>> = HashMap::new();
    for source in &config.sources {
        let opened = open_source(source.name.clone(), &source.url)?;
        sources.insert(source.name.clone(), opened);
    }
    Ok(sources)
}

/// Opens one source.
pub fn open_source(name: SourceName, url: &SourceUrl) -> Result<Arc<dyn Source>> {
    match url {
        SourceUrl::Sqlite(path) => Ok(Arc::new(SqliteSource::open(name, path)?)),
    }
}

/// Reads the schemas of all sources.
pub async fn schemas(sources: &HashMap<SourceName, Arc<dyn Source>>) -> Result<Schemas> {
    let mut schemas = Schemas::new();
    for (name, source) in sources {
        let tables = source
            .reader()
            .tables()
            .await
            .context(|| format!("reading the schema of source `{name}`"))?;
        schemas.insert(name.clone(), tables);
    }
    Ok(schemas)
}

impl Parts {
    /// Opens everything a configuration names. What is wrong is refused by name before anything is written.
    pub async fn open(config: Config, access: Access) -> Result<Parts> {
        let sources = open_sources(&config)?;
        let collections = config.collections(&schemas(&sources).await?)?;
        let assembler = Arc::new(Assembler::new(sources.clone(), collections.clone())?);
        let log = Arc::new(Parts::log(&config, access)?);
        let mut engines = BTreeMap::new();
        for cluster in &config.clusters {
            if config.sets.iter().any(|set| set.cluster == cluster.name) {
                engines.insert(
                    cluster.name.clone(),
                    open_engine(&config.state, &cluster.name, cluster.engine, access)?,
                );
            }
        }
        Ok(Parts {
            config,
            sources,
            assembler,
            collections,
            log,
            engines,
        })
    }

    /// Opens the change log alone.
    pub fn log(config: &Config, access: Access) -> Result<SignalledLog> {
        Ok(SignalledLog::new(open_log(&config.state, access)?))
    }

    /// The set that answers searches.
    pub fn active(&self) -> SetName {
        let set = self
            .config
            .sets
            .iter()
            .find(|set| set.active)
            .expect("the configuration has one active set");
        set.name.clone()
    }

    /// The engine a set lives in.
    pub fn engine_of(&self, set: &SetName) -> Result<&Opened> {
        let set = self
            .config
            .sets
            .iter()
            .find(|known| known.name == *set)
            .ok_or_else(|| {
                let known = self
                    .config
                    .sets
                    .iter()
                    .map(|set| set.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                Error::invalid("unknown_set", format!("there is no index set `{set}`"))
                    .with_remedy(format!("there are: {known}"))
            })?;
        Ok(&self.engines[&set.cluster])
    }
}

fn open_log(state: &Path, access: Access) -> Result<Arc<dyn ChangeLog>> {
    let path = state.join("state.db");
    match access {
        Access::Owner => {
            std::fs::create_dir_all(state).map_err(|error| {
                Error::fatal(
                    "state_unwritable",
                    format!("cannot make the folder `{}`: {error}", state.display()),
                )
                .with_remedy("make it writable for this user, or name another: [state] path = \"…\"")
            })?;
            Ok(Arc::new(SqliteLog::open(path, Arc::new(now_ms))?))
        }
        Access::Guest if path.exists() => Ok(Arc::new(SqliteLog::open_beside(path, Arc::new(now_ms))?)),
        Access::Guest => Err(Error::invalid(
            "no_state",
            format!("there is no state in `{}`", state.display()),
        )
        .with_remedy("index first: instep serve, or instep sync --once")),
    }
}

fn open_engine(state: &Path, cluster: &ClusterName, engine: EngineConfig, access: Access) -> Result<Opened> {
    match engine {
        EngineConfig::Embedded { writer_memory } => {
            let options = instep_embedded::Options {
                writer_memory_bytes: writer_memory,
                ..Default::default()
            };
            let directory = state.join("index").join(cluster.as_str());
            let engine = Arc::new(match access {
                Access::Owner => Embedded::open(directory, options)?,
                Access::Guest => Embedded::open_beside(directory, options),
            });
            Ok(Opened {
                engine: engine.clone(),
                search: Some(engine),
            })
        }
        EngineConfig::Null => Ok(Opened {
            engine: Arc::new(NullEngine::new()),
            search: None,
        }),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
