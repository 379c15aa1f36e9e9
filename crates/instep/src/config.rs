//! The configuration: raw as it stands in the file, then resolved, in two steps.
//!
//! [`Config::load`] resolves everything that needs no database; [`Config::collections`] looks every table and column up
//! in the sources' schemas. Both report all problems at once, each with file, line, the offending text and the names
//! that exist. Nothing is written by either.

mod cluster;
mod database;
mod expressions;
pub(crate) mod joins;
pub(crate) mod kind;
pub(crate) mod on;
mod problem;
mod raw;
pub(crate) mod resolve;
mod secret;
mod syntax;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use instep_core::name::checked;
use instep_core::{
    ClusterName, Collection, CollectionName, Error, Grant, Result, Scopes, SetName, Source, SourceName,
};

use crate::wiring;
pub(crate) use database::{address, is_postgres, without_password};
use problem::{Problem, Text};
use raw::{At, RawConfig};

pub use cluster::{ClusterUrls, Login};
pub use database::{PostgresConfig, SourceUrl, source_url};
pub use resolve::Schemas;
pub use secret::{Environment, Secret};

/// A configuration, resolved as far as it can be without a database.
#[derive(Debug)]
pub struct Config {
    text: Text,
    raw: RawConfig,
    /// The folder of instep's own state.
    pub state: PathBuf,
    /// Where the search API listens.
    pub listen: SocketAddr,
    /// The databases, by name.
    pub sources: Vec<SourceConfig>,
    /// The API keys, by name.
    pub keys: Vec<KeyConfig>,
    /// The places to index, by name.
    pub clusters: Vec<ClusterConfig>,
    /// The index sets, by name.
    pub sets: Vec<SetConfig>,
}

/// A database.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name.
    pub name: SourceName,
    /// What it is and where.
    pub url: SourceUrl,
}

/// An API key.
#[derive(Clone, Debug)]
pub struct KeyConfig {
    /// Its name.
    pub name: String,
    /// The secret the caller sends.
    pub secret: Secret,
    /// Who the caller is.
    pub subject: String,
    /// Groups the caller belongs to.
    pub units: Vec<String>,
    /// What the caller may do.
    pub scopes: Scopes,
}

/// A place to index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Its name.
    pub name: ClusterName,
    /// What it is.
    pub engine: EngineConfig,
}

/// What a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineConfig {
    /// The embedded engine, with so many bytes of memory for writing.
    Embedded {
        /// Bytes.
        writer_memory: usize,
    },
    /// Takes everything and keeps nothing.
    Null,
    /// OpenSearch or Elasticsearch.
    Cluster(ClusterUrls),
}

/// An index set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetConfig {
    /// Its name.
    pub name: SetName,
    /// Where it lives.
    pub cluster: ClusterName,
    /// Whether it answers searches.
    pub active: bool,
}

const DEFAULT_STATE: &str = "instep-state";
const DEFAULT_LISTEN: &str = "127.0.0.1:9200";
const DEFAULT_WRITER_MEMORY_MB: u32 = 128;
const LEAST_WRITER_MEMORY_MB: u32 = 15;
const LEAST_SECRET: usize = 16;

impl Config {
    /// Reads a file. Paths in it are relative to its folder; `${VAR}` comes from the environment given.
    pub fn load(path: &Path, environment: Environment<'_>) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(
                "no_configuration",
                format!("cannot read the configuration `{}`: {error}", path.display()),
            )
            .with_remedy("make one with `instep init <database> > instep.toml` (sqlite:<path> or postgres://user@host/database), or name one with --config")
        })?;
        Config::parse(path, text, environment)
    }

    /// Like [`Config::load`], of a text.
    pub fn parse(path: &Path, text: String, environment: Environment<'_>) -> Result<Config> {
        let text = Text::new(path, text);
        let raw: RawConfig = toml::from_str(text.as_str())
            .map_err(|error| text.error(vec![syntax::problem(&error, text.as_str())]))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut edge = Edge {
            folder: &folder,
            environment,
            problems: Vec::new(),
        };
        let state = folder.join(
            raw.state
                .path
                .as_ref()
                .map_or(DEFAULT_STATE, |path| path.get_ref()),
        );
        let listen = edge.listen(&raw);
        let sources = edge.sources(&raw);
        let keys = edge.keys(&raw);
        let clusters = edge.clusters(&raw);
        let sets = edge.sets(&raw);
        for name in raw.collection.keys() {
            edge.name("collection", name);
        }
        if raw.collection.is_empty() {
            edge.problems.push(
                Problem::new(0..0, "no collection is defined")
                    .help("add [collection.<name>] with root and fields"),
            );
        }
        if !edge.problems.is_empty() {
            return Err(text.error(edge.problems));
        }
        Ok(Config {
            state,
            listen,
            sources,
            keys,
            clusters,
            sets,
            text,
            raw,
        })
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.text.path
    }

    /// The names of the collections whose rows live in a source.
    pub fn collections_of(&self, source: &SourceName) -> Vec<CollectionName> {
        let of_source = self.living_in(source);
        of_source
            .map(|(name, _)| name.get_ref().as_str().into())
            .collect()
    }

    /// The tables that the collections of a source name, as they stand in the file, each once.
    pub fn tables_of(&self, source: &SourceName) -> BTreeSet<&str> {
        let of_source = self.living_in(source);
        of_source.flat_map(|(_, raw)| raw.tables()).collect()
    }

    fn living_in(&self, source: &SourceName) -> impl Iterator<Item = (&At<String>, &raw::RawCollection)> {
        let lives_there = move |raw: &raw::RawCollection| match &raw.source {
            Some(named) => named.get_ref() == source.as_str(),
            None => self.sources.len() == 1,
        };
        self.raw
            .collection
            .iter()
            .filter(move |(_, raw)| lives_there(raw))
    }

    /// Its collections, as [`Config::collections`]; every expression was shown to its source first, where that is among
    /// `sources`, and stands in the schemas since. Fails transiently when a source is away.
    pub async fn resolved(
        &self,
        sources: &HashMap<SourceName, Arc<dyn Source>>,
        schemas: &mut Schemas,
    ) -> Result<Vec<Collection>> {
        let names = self.sources.iter().flat_map(|source| {
            let living = self.living_in(&source.name);
            living.map(|(_, raw)| (source.name.clone(), raw))
        });
        let problems = expressions::describe(names, sources, schemas).await?;
        match problems.is_empty() {
            true => self.collections(schemas),
            false => Err(self.text.error(problems)),
        }
    }

    /// Its collections, every name looked up in the schemas of the sources.
    pub fn collections(&self, schemas: &Schemas) -> Result<Vec<Collection>> {
        let sources: Vec<SourceName> = self.sources.iter().map(|source| source.name.clone()).collect();
        let mut problems = Vec::new();
        let mut collections = Vec::new();
        for (name, raw) in &self.raw.collection {
            match resolve::collection(name, raw, &sources, schemas) {
                Ok(collection) => collections.push(collection),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(collections)
        } else {
            Err(self.text.error(problems))
        }
    }

    /// The settings with their defaults, as TOML, without secrets; the collections as they stand in the file.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("# {}, resolved", self.text.path.display()));
        line(format!(
            "[state]\npath = {}\n",
            quoted(&self.state.display().to_string())
        ));
        line(format!(
            "[server]\nlisten = {}\n",
            quoted(&self.listen.to_string())
        ));
        for source in &self.sources {
            line(format!("[source.{}]", source.name));
            for (option, value) in wiring::shown(&source.name, &source.url) {
                line(format!("{option} = {}", quoted(&value)));
            }
            line(String::new());
        }
        for cluster in &self.clusters {
            let engine = match &cluster.engine {
                EngineConfig::Embedded { writer_memory } => {
                    format!(
                        "engine = \"embedded\"\nwriter_memory_mb = {}",
                        writer_memory >> 20
                    )
                }
                EngineConfig::Null => "engine = \"null\"".to_owned(),
                EngineConfig::Cluster(urls) => cluster::printed(urls),
            };
            line(format!("[cluster.{}]\n{engine}\n", cluster.name));
        }
        for set in &self.sets {
            line(format!(
                "[set.{}]\ncluster = {}\nactive = {}\n",
                set.name,
                quoted(set.cluster.as_str()),
                set.active
            ));
        }
        for key in &self.keys {
            let units = key
                .units
                .iter()
                .map(|unit| quoted(unit))
                .collect::<Vec<_>>()
                .join(", ");
            let scopes = spelled(&key.scopes)
                .iter()
                .map(|scope| quoted(scope))
                .collect::<Vec<_>>()
                .join(", ");
            let subject = quoted(&key.subject);
            line(format!(
                "[key.{}]\nsecret = \"(not shown)\"\nsubject = {subject}\nunits = [{units}]\nscopes = [{scopes}]\n",
                key.name
            ));
        }
        // The file was read before, so this cannot fail; what follows holds no secret.
        let mut file: toml::Table = self.text.as_str().parse().unwrap_or_default();
        file.retain(|part, _| part == "collection");
        out.push_str(&file.to_string());
        out
    }

    /// The JSON Schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(RawConfig).to_value()
    }
}

fn spelled(scopes: &Scopes) -> Vec<String> {
    let mut out = match &scopes.search {
        Grant::Nothing => vec![],
        Grant::All => vec!["search".to_owned()],
        Grant::Only(names) => names.iter().map(|name| format!("search:{name}")).collect(),
    };
    out.extend(scopes.operate.then(|| "operate".to_owned()));
    out.extend(scopes.read_all.then(|| "read_all".to_owned()));
    out
}

/// Resolves the parts that need no database, and gathers what is wrong.
struct Edge<'a> {
    folder: &'a Path,
    environment: Environment<'a>,
    problems: Vec<Problem>,
}

impl Edge<'_> {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn name(&mut self, kind: &str, name: &At<String>) {
        if let Err(error) = checked(kind, name.get_ref()) {
            let problem = Problem::new(name.span(), error.to_string());
            self.problems
                .push(problem.help(error.remedy().unwrap_or_default().to_owned()));
        }
    }

    fn text(&mut self, text: &str, place: Range<usize>) -> Option<String> {
        let resolved = secret::resolve(text, place, self.folder, self.environment);
        self.keep(resolved)
    }

    fn listen(&mut self, raw: &RawConfig) -> SocketAddr {
        let default = DEFAULT_LISTEN.parse().expect("the default is an address");
        let Some(listen) = &raw.server.listen else {
            return default;
        };
        let parsed = listen
            .get_ref()
            .replace("localhost:", "127.0.0.1:")
            .parse::<SocketAddr>()
            .map_err(|_| {
                Problem::new(listen.span(), format!("`{}` is not an address", listen.get_ref()))
                    .help("write address:port, such as 127.0.0.1:9200")
            });
        self.keep(parsed).unwrap_or(default)
    }

    fn sources(&mut self, raw: &RawConfig) -> Vec<SourceConfig> {
        let mut sources = Vec::new();
        if raw.source.is_empty() {
            self.problems
                .push(Problem::new(0..0, "no source is defined").help(
                "add [source.<name>] with url = \"sqlite:<path>\" or \"postgres://user@host:port/database\"",
            ));
        }
        for (name, source) in &raw.source {
            self.name("source", name);
            let name: SourceName = name.get_ref().as_str().into();
            match database::resolve(source, self.folder, self.environment) {
                Ok(url) => match wiring::refused(&name, &url) {
                    None => sources.push(SourceConfig { name, url }),
                    Some(error) => {
                        let problem = Problem::new(source.url.span(), error.to_string());
                        self.problems
                            .push(problem.help(error.remedy().unwrap_or_default().to_owned()));
                    }
                },
                Err(problems) => self.problems.extend(problems),
            }
        }
        sources
    }

    fn keys(&mut self, raw: &RawConfig) -> Vec<KeyConfig> {
        let collections: BTreeSet<&str> = raw
            .collection
            .keys()
            .map(|name| name.get_ref().as_str())
            .collect();
        let mut keys: Vec<KeyConfig> = Vec::new();
        for (name, key) in &raw.key {
            self.name("key", name);
            let subject = self.identity("subject", &key.subject);
            let units = key
                .units
                .iter()
                .filter_map(|unit| self.identity("unit", unit))
                .collect();
            let scopes = self.scopes(&key.scopes, &collections);
            let Some(secret) = self.text(key.secret.get_ref().expose(), key.secret.span()) else {
                continue;
            };
            if secret.len() < LEAST_SECRET {
                let message = format!(
                    "the secret of key `{}` is shorter than {LEAST_SECRET} bytes",
                    name.get_ref()
                );
                self.problems.push(
                    Problem::new(key.secret.span(), message)
                        .help("use a generated one, such as the output of `openssl rand -hex 32`"),
                );
            }
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = format!(
                    "the secret of key `{}` has blanks or characters other than ASCII's",
                    name.get_ref()
                );
                self.problems.push(
                    Problem::new(key.secret.span(), message).help("callers send it in a header of HTTP"),
                );
            }
            if let Some(other) = keys.iter().find(|other| other.secret.expose() == secret) {
                let message = format!(
                    "keys `{}` and `{}` have the same secret",
                    other.name,
                    name.get_ref()
                );
                self.problems.push(Problem::new(key.secret.span(), message));
            }
            let Some(subject) = subject else { continue };
            keys.push(KeyConfig {
                name: name.get_ref().clone(),
                secret: Secret::new(secret),
                subject,
                units,
                scopes,
            });
        }
        keys
    }

    /// A name that readers can list: exact bytes, and nothing that reads like a pattern.
    fn identity(&mut self, what: &str, name: &At<String>) -> Option<String> {
        let text = name.get_ref();
        let bad = text.is_empty()
            || text.trim() != text
            || text == "*"
            || text.len() > 256
            || text.chars().any(char::is_control);
        if bad {
            let help = "a name is 1 to 256 bytes, without blanks around it, and is not *";
            self.problems
                .push(Problem::new(name.span(), format!("`{text}` cannot be a {what}")).help(help));
        }
        (!bad).then(|| text.clone())
    }

    fn scopes(&mut self, raw: &[At<String>], collections: &BTreeSet<&str>) -> Scopes {
        let mut scopes = Scopes::default();
        let mut named: Vec<CollectionName> = Vec::new();
        for scope in raw {
            match scope.get_ref().split_once(':') {
                None if scope.get_ref() == "search" => scopes.search = Grant::All,
                None if scope.get_ref() == "operate" => scopes.operate = true,
                None if scope.get_ref() == "read_all" => scopes.read_all = true,
                Some(("search", name)) if collections.contains(name) => named.push(name.into()),
                Some(("search", name)) => {
                    let known = collections.iter().copied();
                    self.problems.push(Problem::unknown(
                        scope.span(),
                        "collection",
                        name,
                        " in a scope",
                        known,
                    ));
                }
                Some(_) | None => {
                    let known = ["search", "search:<collection>", "operate", "read_all"];
                    self.problems.push(Problem::unknown(
                        scope.span(),
                        "scope",
                        scope.get_ref(),
                        "",
                        known,
                    ));
                }
            }
        }
        if scopes.search == Grant::Nothing && !named.is_empty() {
            scopes.search = Grant::Only(named);
        }
        scopes
    }

    fn clusters(&mut self, raw: &RawConfig) -> Vec<ClusterConfig> {
        let mut clusters = Vec::new();
        for (name, cluster) in &raw.cluster {
            self.name("cluster", name);
            let engine = match cluster::resolve(name, cluster, self.folder, self.environment) {
                Ok(engine) => engine,
                Err(problems) => {
                    self.problems.extend(problems);
                    continue;
                }
            };
            if let Some(error) = wiring::refused_cluster(&engine) {
                let problem = Problem::new(name.span(), error.to_string());
                self.problems
                    .push(problem.help(error.remedy().unwrap_or_default().to_owned()));
            }
            clusters.push(ClusterConfig {
                name: name.get_ref().as_str().into(),
                engine,
            });
        }
        if !clusters.iter().any(|cluster| cluster.name.as_str() == "embedded") {
            let engine = EngineConfig::Embedded {
                writer_memory: (DEFAULT_WRITER_MEMORY_MB as usize) << 20,
            };
            clusters.insert(
                0,
                ClusterConfig {
                    name: "embedded".into(),
                    engine,
                },
            );
        }
        clusters
    }

    fn sets(&mut self, raw: &RawConfig) -> Vec<SetConfig> {
        let named = raw.cluster.keys().map(|name| name.get_ref().as_str());
        let clusters: Vec<&str> = named.chain(["embedded"]).collect();
        let usual = usual_cluster(raw);
        let mut sets = Vec::new();
        let mut active: Option<&At<String>> = None;
        for (name, set) in &raw.set {
            self.name("set", name);
            let cluster = set.cluster.as_ref().map_or(usual, |cluster| cluster.get_ref());
            if let Some(place) = set.cluster.as_ref().filter(|_| !clusters.contains(&cluster)) {
                let known = clusters.iter().copied();
                self.problems
                    .push(Problem::unknown(place.span(), "cluster", cluster, "", known));
            }
            let wanted = set.active.as_ref().is_some_and(|active| *active.get_ref());
            if let Some(first) = active.filter(|_| wanted) {
                let message = format!(
                    "sets `{}` and `{}` are both active",
                    first.get_ref(),
                    name.get_ref()
                );
                self.problems
                    .push(Problem::new(name.span(), message).help("exactly one set answers searches"));
            }
            active = if wanted { Some(name) } else { active };
            sets.push(SetConfig {
                name: name.get_ref().as_str().into(),
                cluster: cluster.into(),
                active: wanted,
            });
        }
        if sets.is_empty() {
            sets.push(SetConfig {
                name: "main".into(),
                cluster: usual.into(),
                active: true,
            });
        }
        if active.is_none() {
            sets[0].active = true;
        }
        sets
    }
}

/// Where a set lives that does not say: in the one cluster with an address, where there is exactly one.
fn usual_cluster(raw: &RawConfig) -> &str {
    let mut remote = raw
        .cluster
        .iter()
        .filter(|(_, cluster)| cluster.url.is_some() || !cluster.urls.is_empty());
    match (remote.next(), remote.next()) {
        (Some((name, _)), None) => name.get_ref(),
        (Some(_), Some(_)) | (None, _) => "embedded",
    }
}

#[cfg(test)]
mod tests;
