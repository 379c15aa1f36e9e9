//! Wires the parts: from a configuration to sources, log, engines, and the tasks that keep them in step.
//!
//! The only place that names a concrete source, store or engine.

mod away;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use instep_core::{
    ChangeLog, ClusterName, Collection, Engine, Error, Expression, Fetch, Result, ResultExt, Search, SetName,
    Settings, Source, SourceName, TableName, Watched,
};
use instep_elastic::{Cluster, ClusterOptions, Credentials};
use instep_embedded::Embedded;
use instep_sources::{PostgresOptions, PostgresSource, SqliteSource, postgres};
use instep_store::SqliteLog;
use instep_sync::{Assembler, NullEngine, SignalledLog};

use crate::config::on::parts;
use crate::config::{ClusterUrls, Config, EngineConfig, Login, PostgresConfig, Schemas, Secret, SourceUrl};
use crate::definitions;

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

/// Opens one source. A server is not connected to yet.
pub fn open_source(name: SourceName, url: &SourceUrl) -> Result<Arc<dyn Source>> {
    match url {
        SourceUrl::Sqlite(path) => Ok(Arc::new(SqliteSource::open(name, path)?)),
        SourceUrl::Postgres(config) => Ok(Arc::new(open_postgres(name, config)?)),
    }
}

fn open_postgres(name: SourceName, config: &PostgresConfig) -> Result<PostgresSource> {
    let exposed = |secret: &Secret| secret.expose().to_owned();
    let options = PostgresOptions {
        url: exposed(&config.url),
        stream_url: config.stream_url.as_ref().map(exposed),
        password: config.password.as_ref().map(|(_, password)| exposed(password)),
        password_file: config.password.as_ref().map(|(file, _)| file.clone()),
        root_certificate: config.root_certificate.clone(),
        slot: config.slot.clone(),
        publication: config.publication.clone(),
    };
    PostgresSource::new(name, options)
}

/// Why a source can never be opened, as far as its address alone says it.
pub(crate) fn refused(name: &SourceName, url: &SourceUrl) -> Option<Error> {
    match url {
        SourceUrl::Sqlite(_) => None,
        SourceUrl::Postgres(config) => open_postgres(name.clone(), config).err(),
    }
}

/// A source's options without its secrets.
pub(crate) fn shown(name: &SourceName, url: &SourceUrl) -> Vec<(&'static str, String)> {
    let config = match url {
        SourceUrl::Sqlite(path) => return vec![("url", format!("sqlite:{}", path.display()))],
        SourceUrl::Postgres(config) => config,
    };
    let ours = format!("instep_{name}");
    let stream = config.stream_url.as_ref();
    let password = config
        .password
        .as_ref()
        .map(|(file, _)| file.display().to_string());
    let certificate = config.root_certificate.as_ref();
    let options = [
        ("url", Some(without_password(config.url.expose()))),
        ("stream_url", stream.map(|url| without_password(url.expose()))),
        ("password_file", password),
        (
            "root_certificate",
            certificate.map(|path| path.display().to_string()),
        ),
        ("slot", Some(config.slot.clone().unwrap_or_else(|| ours.clone()))),
        ("publication", Some(config.publication.clone().unwrap_or(ours))),
    ];
    options
        .into_iter()
        .filter_map(|(option, value)| Some((option, value?)))
        .collect()
}

/// An address as people may see it.
pub(crate) fn without_password(url: &str) -> String {
    postgres::redact(url)
}

/// The statements that prepare a source to be followed, for a person with the rights; none where nothing needs to be
/// prepared any more.
pub(crate) async fn set_up_sql(
    name: &SourceName,
    url: &SourceUrl,
    watched: &[Watched],
) -> Result<Vec<String>> {
    match url {
        SourceUrl::Sqlite(_) => Ok(Vec::new()),
        SourceUrl::Postgres(config) => {
            let source = open_postgres(name.clone(), config)?;
            source.missing_set_up_sql(watched).await
        }
    }
}

/// A table's name as its source takes it, where the source does not list the table: one of Postgres without its schema's
/// name is the one in `public`.
pub(crate) fn in_full(url: &SourceUrl, name: &str) -> TableName {
    match url {
        SourceUrl::Postgres(_) if parts(name).len() == 1 => TableName::from(format!("public.{name}")),
        SourceUrl::Postgres(_) | SourceUrl::Sqlite(_) => TableName::from(name),
    }
}

/// The statement that creates an index.
pub(crate) fn create_index(url: &SourceUrl, table: &TableName, columns: &[String]) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list = columns
        .iter()
        .map(|column| quoted(column))
        .collect::<Vec<_>>()
        .join(", ");
    match url {
        SourceUrl::Sqlite(_) => {
            let name = format!("{table}_{}", columns.join("_"));
            format!(
                "create index {} on {} ({list})",
                quoted(&name),
                quoted(table.as_str())
            )
        }
        SourceUrl::Postgres(_) => {
            let table = parts(table.as_str());
            let table = table
                .iter()
                .map(|part| quoted(part))
                .collect::<Vec<_>>()
                .join(".");
            format!("create index concurrently on {table} ({list})")
        }
    }
}

/// What a fetch asks, as a person can run it: plain SQL with a placeholder for each value, which returns the same rows.
/// The source itself asks for many rows at once, in a form of its own.
pub(crate) fn select(url: &SourceUrl, fetch: &Fetch) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list = |names: &[String]| {
        names
            .iter()
            .map(|name| Expression::of_column(name).map_or_else(|| quoted(name), |sql| format!("({sql})")))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (table, placeholder): (String, fn(usize) -> String) = match url {
        SourceUrl::Sqlite(_) => (quoted(fetch.table.as_str()), |at| format!("?{at}")),
        SourceUrl::Postgres(_) => {
            let parts = parts(fetch.table.as_str());
            let parts: Vec<_> = parts.iter().map(|part| quoted(part)).collect();
            (parts.join("."), |at| format!("${at}"))
        }
    };
    let width = fetch.by.len();
    let tuple = |at: usize| {
        let places: Vec<_> = (1..=width).map(|place| placeholder(at * width + place)).collect();
        match &places[..] {
            [only] => only.clone(),
            several => format!("({})", several.join(", ")),
        }
    };
    let mut tuples: Vec<_> = (0..fetch.values.len().min(TUPLES)).map(tuple).collect();
    if fetch.values.len() > TUPLES {
        tuples.push("…".to_owned());
    }
    let by = match width {
        1 => list(&fetch.by),
        _ => format!("({})", list(&fetch.by)),
    };
    let condition = match &tuples[..] {
        [only] => format!("{by} = {only}"),
        // A list of tuples needs `values` in SQLite.
        several if width > 1 => format!("{by} in (values {})", several.join(", ")),
        several => format!("{by} in ({})", several.join(", ")),
    };
    format!("select {} from {table} where {condition}", list(&fetch.columns))
}

/// So many values are written out in a statement that a person reads.
const TUPLES: usize = 5;

/// What following a source anew does to it, in a few words.
pub(crate) fn followed_anew(url: &SourceUrl) -> &'static str {
    match url {
        SourceUrl::Sqlite(_) => "its changes are followed from now on",
        SourceUrl::Postgres(_) => "a new replication slot is made, and its changes are followed from now on",
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
    /// Opens everything a configuration names. What is wrong, a source that is away included, is refused by name before
    /// anything is written.
    pub async fn open(config: Config, access: Access) -> Result<Parts> {
        let sources = open_sources(&config)?;
        let mut schemas = schemas(&sources).await?;
        let collections = config.resolved(&sources, &mut schemas).await?;
        Parts::assemble(config, access, sources, &schemas, collections).await
    }

    /// Like [`Parts::open`], to index; but a source that is away does not keep the others waiting, nor searches, as long
    /// as its tables were seen before: what they were then is taken for what they are. One that was never seen is waited
    /// for. `tell` says which, and why.
    pub async fn open_patiently(config: Config, tell: &(dyn Fn(&str) + Sync)) -> Result<Parts> {
        let sources = open_sources(&config)?;
        let (schemas, collections) = away::collections(&config, &sources, tell).await?;
        Parts::assemble(config, Access::Owner, sources, &schemas, collections).await
    }

    async fn assemble(
        config: Config,
        access: Access,
        sources: HashMap<SourceName, Arc<dyn Source>>,
        schemas: &Schemas,
        collections: Vec<Collection>,
    ) -> Result<Parts> {
        let assembler = Arc::new(Assembler::new(sources.clone(), collections.clone())?);
        let log = Arc::new(Parts::log(&config, access)?);
        if access == Access::Owner {
            definitions::settle(&config, &collections, &log).await?;
            away::remember(&log, schemas).await?;
        }
        let owner = identity(&log, access).await?;
        let mut engines = BTreeMap::new();
        for cluster in &config.clusters {
            if config.sets.iter().any(|set| set.cluster == cluster.name) {
                engines.insert(
                    cluster.name.clone(),
                    open_engine(&config.state, &cluster.name, &cluster.engine, access, &owner)?,
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

    /// The settings of the indexes of a set.
    pub fn settings_of(&self, set: &SetName) -> Settings {
        let set = self.config.sets.iter().find(|known| known.name == *set);
        let named = set.map(|set| &set.cluster);
        let cluster = self
            .config
            .clusters
            .iter()
            .find(|cluster| Some(&cluster.name) == named);
        match cluster.map(|cluster| &cluster.engine) {
            Some(EngineConfig::Cluster(urls)) => urls.settings.clone(),
            Some(EngineConfig::Embedded { .. } | EngineConfig::Null) | None => Settings::new(),
        }
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

/// Who this state is, to clusters that others may use, too: made once, at random; empty in one that is older and was not
/// opened to index since.
async fn identity(log: &SignalledLog, access: Access) -> Result<String> {
    const MEMO: &str = "identity";
    if let Some(known) = log.memo(MEMO).await? {
        return Ok(known);
    }
    if access == Access::Guest {
        return Ok(String::new());
    }
    let random = || RandomState::new().hash_one(std::process::id());
    let made = format!("{:016x}{:016x}", random(), random());
    log.set_memo(MEMO, Some(&made)).await?;
    Ok(made)
}

fn open_engine(
    state: &Path,
    cluster: &ClusterName,
    engine: &EngineConfig,
    access: Access,
    owner: &str,
) -> Result<Opened> {
    match engine {
        EngineConfig::Embedded { writer_memory } => {
            let options = instep_embedded::Options {
                writer_memory_bytes: *writer_memory,
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
        EngineConfig::Cluster(urls) => {
            let engine = Arc::new(open_cluster(urls, owner)?);
            Ok(Opened {
                engine: engine.clone(),
                search: Some(engine),
            })
        }
    }
}

/// A handle of a cluster; nothing is asked yet.
fn open_cluster(cluster: &ClusterUrls, owner: &str) -> Result<Cluster> {
    let credentials = match &cluster.login {
        Login::Nobody => Credentials::None,
        Login::User(user, password) => Credentials::Basic {
            user: user.clone(),
            password: password.expose().to_owned(),
        },
        Login::Key(key) => Credentials::ApiKey(key.expose().to_owned()),
        Login::Aws(region) => Credentials::Aws {
            region: region.clone(),
        },
    };
    Cluster::new(ClusterOptions {
        urls: cluster.urls.clone(),
        credentials,
        authorities: cluster.authorities.clone(),
        owner: owner.to_owned(),
        ..ClusterOptions::default()
    })
}

/// Why a cluster can never be spoken to, as far as its section alone says it.
pub(crate) fn refused_cluster(engine: &EngineConfig) -> Option<Error> {
    match engine {
        EngineConfig::Cluster(urls) => open_cluster(urls, "").err(),
        EngineConfig::Embedded { .. } | EngineConfig::Null => None,
    }
}

/// What answers at a cluster's address, in words; `None` for what has none.
pub(crate) async fn product(engine: &EngineConfig) -> Option<Result<String>> {
    match engine {
        EngineConfig::Cluster(urls) => Some(match open_cluster(urls, "") {
            Ok(cluster) => cluster.product().await,
            Err(error) => Err(error),
        }),
        EngineConfig::Embedded { .. } | EngineConfig::Null => None,
    }
}

/// Looks at the indexes of these sets that are there: whether they can be listed, are open, and take writes.
pub(crate) async fn look(engine: &EngineConfig, sets: &[&str]) -> Result<()> {
    let EngineConfig::Cluster(urls) = engine else {
        return Ok(());
    };
    let cluster = open_cluster(urls, "")?;
    let mut indexes = cluster.indexes().await?;
    indexes.retain(|index| {
        let of = |set: &&str| index.as_str().starts_with(&format!("documents-{set}-"));
        sets.iter().any(of)
    });
    match indexes.is_empty() {
        true => Ok(()),
        false => cluster.look(&indexes).await.map(drop),
    }
}

/// Removes the indexes of a set from a cluster, whoever fills them.
pub(crate) async fn forget(engine: &EngineConfig, set: &SetName) -> Result<()> {
    let EngineConfig::Cluster(urls) = engine else {
        return Ok(());
    };
    let cluster = open_cluster(urls, "")?;
    let of_set = format!("documents-{set}-");
    for index in cluster.indexes().await? {
        if index.as_str().starts_with(&of_set) {
            cluster.drop_index(&index).await?;
        }
    }
    Ok(())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use instep_core::Value;

    use super::*;

    #[test]
    fn statements_that_a_person_can_run() {
        let sqlite = SourceUrl::Sqlite("a.db".into());
        let fetch = |table: &str, by: &[&str], tuples: usize| Fetch {
            table: table.into(),
            columns: vec!["id".to_owned(), "a\"b".to_owned()],
            by: by.iter().map(|name| (*name).to_owned()).collect(),
            values: (0..tuples)
                .map(|_| by.iter().map(|_| Value::Int(1)).collect())
                .collect(),
            page: None,
        };
        for (fetch, expected) in [
            (
                fetch("t", &["id"], 1),
                "select \"id\", \"a\"\"b\" from \"t\" where \"id\" = ?1",
            ),
            (
                fetch("t", &["id"], 2),
                "select \"id\", \"a\"\"b\" from \"t\" where \"id\" in (?1, ?2)",
            ),
            (
                fetch("t", &["x", "y"], 2),
                "select \"id\", \"a\"\"b\" from \"t\" where (\"x\", \"y\") in (values (?1, ?2), (?3, ?4))",
            ),
            (
                fetch("t", &["id"], 9),
                "select \"id\", \"a\"\"b\" from \"t\" where \"id\" in (?1, ?2, ?3, ?4, ?5, …)",
            ),
        ] {
            assert_eq!(select(&sqlite, &fetch), expected);
        }
    }
}
