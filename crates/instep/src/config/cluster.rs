//! Clusters: which place a section of the configuration means, and what its options say.

use std::ops::Range;
use std::path::Path;

use instep_core::Settings;

use crate::config::problem::Problem;
use crate::config::raw::{At, RawCluster};
use crate::config::secret::{self, Environment, Secret};
use crate::config::{DEFAULT_WRITER_MEMORY_MB, EngineConfig, LEAST_WRITER_MEMORY_MB};

/// Where an OpenSearch or Elasticsearch cluster is, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterUrls {
    /// The addresses of its hosts.
    pub urls: Vec<String>,
    /// Who we are there.
    pub login: Login,
    /// PEM text of the authorities that signed its certificates; the system's without it.
    pub authorities: Option<String>,
    /// Settings of the indexes that are made there.
    pub settings: Settings,
}

impl ClusterUrls {
    /// The first of its addresses to which a login would go unencrypted, over a network.
    pub fn in_the_clear(&self) -> Option<&str> {
        let leaves = |url: &&String| {
            let host = url
                .strip_prefix("http://")
                .map(|rest| rest.split('/').next().unwrap_or_default());
            host.is_some_and(|host| {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                !matches!(name, "localhost" | "[::1]") && !name.starts_with("127.")
            })
        };
        match self.login {
            // A signature tells no secret.
            Login::Nobody | Login::Aws(_) => None,
            Login::User(..) | Login::Key(_) => self.urls.iter().find(leaves).map(String::as_str),
        }
    }
}

/// Who we are to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular.
    Nobody,
    /// A user with a password.
    User(String, Secret),
    /// An API key.
    Key(Secret),
    /// Whoever signs requests to this region of AWS.
    Aws(String),
}

/// A cluster as it may be shown: without its secrets.
pub(crate) fn printed(cluster: &ClusterUrls) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let urls: Vec<String> = cluster.urls.iter().map(|url| quoted(url)).collect();
    let mut lines = vec![format!("urls = [{}]", urls.join(", "))];
    match &cluster.login {
        Login::Nobody => {}
        Login::User(user, _) => {
            lines.push(format!("user = {}", quoted(user)));
            lines.push("password = \"(not shown)\"".to_owned());
        }
        Login::Aws(region) => lines.push(format!("aws_region = {}", quoted(region))),
        Login::Key(_) => lines.push("api_key = \"(not shown)\"".to_owned()),
    }
    if cluster.authorities.is_some() {
        lines.push("# ca: its certificates are not shown".to_owned());
    }
    if let Ok(settings) = toml::Table::try_from(&cluster.settings)
        && !settings.is_empty()
    {
        lines.push(format!("settings = {}", toml::Value::Table(settings)));
    }
    lines.join("\n")
}

/// A cluster, resolved without connecting; or everything that is wrong with it.
pub(crate) fn resolve(
    name: &At<String>,
    raw: &RawCluster,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<EngineConfig, Vec<Problem>> {
    let urls: Vec<&At<String>> = raw.url.iter().chain(&raw.urls).collect();
    let engine = match (&raw.engine, urls.is_empty()) {
        (Some(engine), _) => (engine.get_ref().as_str(), engine.span()),
        (None, false) => ("url", name.span()),
        (None, true) => {
            let problem = Problem::new(
                name.span(),
                format!("cluster `{}` says not what it is", name.get_ref()),
            );
            return Err(vec![problem.help(
                "write url = \"https://host:9200\" for OpenSearch or Elasticsearch, or engine = \"embedded\"",
            )]);
        }
    };
    match engine {
        ("embedded", _) => {
            refuse(
                of_clusters(raw),
                "the embedded engine",
                "only a cluster with a url takes it",
            )?;
            embedded(raw)
        }
        ("null", _) => {
            refuse(
                of_clusters(raw),
                "the null engine",
                "only a cluster with a url takes it",
            )?;
            refuse(
                of_embedded(raw),
                "the null engine",
                "only the embedded engine takes it",
            )?;
            Ok(EngineConfig::Null)
        }
        ("url", _) if raw.engine.is_none() => {
            refuse(
                of_embedded(raw),
                "a cluster with a url",
                "only the embedded engine takes it",
            )?;
            Remote {
                raw,
                folder,
                environment,
                problems: Vec::new(),
            }
            .resolve(&urls)
        }
        (unknown @ ("opensearch" | "elasticsearch"), place) => {
            let problem = Problem::new(place, format!("`{unknown}` is no engine to choose"));
            Err(vec![problem.help(
                "leave `engine` out and write url = \"https://host:9200\": what answers there is detected",
            )])
        }
        (unknown, place) => Err(vec![Problem::unknown(
            place,
            "engine",
            unknown,
            "",
            ["embedded", "null"],
        )]),
    }
}

fn embedded(raw: &RawCluster) -> Result<EngineConfig, Vec<Problem>> {
    let memory = raw.writer_memory_mb.as_ref();
    let megabytes = memory.map_or(DEFAULT_WRITER_MEMORY_MB, |memory| *memory.get_ref());
    if let Some(memory) = memory.filter(|_| megabytes < LEAST_WRITER_MEMORY_MB) {
        let message = format!("{megabytes} MB are too little for writing");
        let help = format!("at least {LEAST_WRITER_MEMORY_MB}");
        return Err(vec![Problem::new(memory.span(), message).help(help)]);
    }
    Ok(EngineConfig::Embedded {
        writer_memory: (megabytes as usize) << 20,
    })
}

type Given = Option<(&'static str, Range<usize>)>;

/// Refuses an option that says nothing about this engine.
fn refuse(given: Given, of: &str, help: &str) -> Result<(), Vec<Problem>> {
    match given {
        None => Ok(()),
        Some((option, place)) => {
            let problem = Problem::new(place, format!("`{option}` says nothing about {of}"));
            Err(vec![problem.help(help.to_owned())])
        }
    }
}

fn of_embedded(raw: &RawCluster) -> Given {
    let memory = raw.writer_memory_mb.as_ref();
    memory.map(|memory| ("writer_memory_mb", memory.span()))
}

/// The first option that only a cluster with an address has.
fn of_clusters(raw: &RawCluster) -> Given {
    let first = |name, given: Option<Range<usize>>| given.map(|place| (name, place));
    first("url", raw.url.as_ref().map(At::span))
        .or_else(|| first("urls", raw.urls.first().map(At::span)))
        .or_else(|| first("user", raw.user.as_ref().map(At::span)))
        .or_else(|| first("password", raw.password.as_ref().map(At::span)))
        .or_else(|| first("password_file", raw.password_file.as_ref().map(At::span)))
        .or_else(|| first("api_key", raw.api_key.as_ref().map(At::span)))
        .or_else(|| first("aws_region", raw.aws_region.as_ref().map(At::span)))
        .or_else(|| first("ca", raw.ca.as_ref().map(At::span)))
        .or_else(|| first("settings", raw.settings.as_ref().map(At::span)))
}

/// A cluster with addresses, being read.
struct Remote<'a> {
    raw: &'a RawCluster,
    folder: &'a Path,
    environment: Environment<'a>,
    problems: Vec<Problem>,
}

impl Remote<'_> {
    fn resolve(mut self, urls: &[&At<String>]) -> Result<EngineConfig, Vec<Problem>> {
        let mut resolved = Vec::new();
        for url in urls {
            let text = secret::resolve(url.get_ref(), url.span(), self.folder, self.environment);
            resolved.extend(self.keep(text));
        }
        let login = self.login();
        let authorities = self.raw.ca.as_ref().map(|path| {
            let read = secret::read(path.get_ref(), path.span(), self.folder, self.environment);
            self.keep(read)
        });
        let settings = match self.raw.settings.as_ref().map(At::get_ref) {
            None => Settings::new(),
            Some(table) => table
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), serde_json::to_value(value).ok()?)))
                .collect(),
        };
        match (self.problems.is_empty(), login) {
            (true, Some(login)) => Ok(EngineConfig::Cluster(ClusterUrls {
                urls: resolved,
                login,
                authorities: authorities.flatten(),
                settings,
            })),
            (_, _) => Err(self.problems),
        }
    }

    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn problem(&mut self, place: Range<usize>, message: &str, help: &str) -> Option<Login> {
        self.problems
            .push(Problem::new(place, message.to_owned()).help(help.to_owned()));
        None
    }

    fn login(&mut self) -> Option<Login> {
        let raw = self.raw;
        let password = match (&raw.password, &raw.password_file) {
            (Some(password), None) => {
                let text = password.get_ref().expose();
                let text = secret::resolve(text, password.span(), self.folder, self.environment);
                Some((self.keep(text)?, password.span()))
            }
            (None, Some(file)) => {
                let text = secret::read(file.get_ref(), file.span(), self.folder, self.environment);
                Some((self.keep(text)?, file.span()))
            }
            (Some(_), Some(file)) => {
                return self.problem(
                    file.span(),
                    "`password` and `password_file` exclude each other",
                    "keep one",
                );
            }
            (None, None) => None,
        };
        if let Some(region) = &raw.aws_region {
            if raw.user.is_some() || password.is_some() || raw.api_key.is_some() {
                return self.problem(
                    region.span(),
                    "`aws_region` excludes `user`, password and `api_key`",
                    "keep one way to sign in",
                );
            }
            let region = secret::expand(region.get_ref(), &region.span(), self.environment);
            return Some(Login::Aws(self.keep(region)?));
        }
        match (&raw.user, password, &raw.api_key) {
            (None, None, None) => Some(Login::Nobody),
            (Some(user), Some((password, _)), None) => {
                let user = secret::expand(user.get_ref(), &user.span(), self.environment);
                Some(Login::User(self.keep(user)?, Secret::new(password)))
            }
            (None, None, Some(key)) => {
                let text = key.get_ref().expose();
                let text = secret::resolve(text, key.span(), self.folder, self.environment);
                Some(Login::Key(Secret::new(self.keep(text)?)))
            }
            (Some(user), None, None) => self.problem(
                user.span(),
                "`user` stands without a password",
                "add password_file = \"<path>\" or password = \"${VARIABLE}\"",
            ),
            (None, Some((_, place)), None) => {
                self.problem(place, "a password stands without a user", "add user = \"…\"")
            }
            (_, _, Some(key)) => self.problem(
                key.span(),
                "`api_key` excludes `user` and password",
                "keep one way to sign in",
            ),
        }
    }
}
