//! Connections: where a database is, how it is reached (TLS, passwords), and sessions that speak SQL.
//!
//! A session sends simple queries only and reads text: that works behind every pooler, and gives each value in the one
//! form that the replication stream has, too. Errors never hold a password or a row's value.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use instep_core::{Error, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls::{self, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing arrives is probed after this, and given up after about three times as long.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The oldest version that is read and followed.
const OLDEST: u32 = 14;

/// A database, and how to reach it.
#[derive(Clone)]
pub(super) struct Endpoint {
    config: Config,
    /// Holds the password; read again for each connection, so that a rotated one needs no restart.
    password_file: Option<PathBuf>,
    tls: Option<Arc<rustls::ClientConfig>>,
    shown: String,
}

impl Endpoint {
    /// From a URL as libpq reads it: `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=…`.
    /// A password given beside it wins; so does a root certificate.
    pub(super) fn parse(
        url: &str,
        password: Option<&str>,
        root_certificate: Option<&Path>,
    ) -> Result<Endpoint> {
        let (url, options) = tls_options(url)?;
        let mut config = Config::from_str(&url).map_err(|error| bad_url(cause(&error)))?;
        if let Some(password) = password {
            config.password(password);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(bad_url("it names no host"));
        }
        if config.get_user().is_none() {
            return Err(bad_url("it names no user"));
        }
        if config.get_dbname().is_none() {
            return Err(bad_url("it names no database"));
        }
        if config.get_application_name().is_none() {
            config.application_name("instep");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config
            .keepalives(true)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE / 2)
            .keepalives_retries(4)
            .tcp_user_timeout(KEEPALIVE * 3);
        let root = root_certificate.map(Path::to_owned).or(options.root);
        // An authority that is named is there to be checked.
        let mode = options
            .mode
            .or_else(|| root_certificate.map(|_| "verify-full".to_owned()));
        let trust = match mode.as_deref() {
            Some("disable") => None,
            None | Some("allow" | "prefer") => Some(Trust::Anyone),
            // As libpq does it: a root certificate turns `require` into `verify-ca`.
            Some("require") => Some(root.as_ref().map_or(Trust::Anyone, |_| Trust::Authority)),
            Some("verify-ca") => Some(Trust::Authority),
            Some("verify-full") => Some(Trust::Name),
            Some(_) => {
                return Err(bad_url(
                    "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        config.ssl_mode(match mode.as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("allow" | "prefer") => SslMode::Prefer,
            Some(_) => SslMode::Require,
        });
        let tls = trust
            .map(|trust| tls::client(trust, root.as_deref(), options.identity.as_ref()))
            .transpose()?
            .map(Arc::new);
        Ok(Endpoint {
            shown: shown(&config),
            config,
            password_file: None,
            tls,
        })
    }

    /// The same endpoint; the password is what this file says when a connection is made.
    #[must_use]
    pub(super) fn with_password_file(mut self, file: Option<PathBuf>) -> Self {
        self.password_file = file;
        self
    }

    /// How to connect now: with the password as it is now.
    pub(super) fn current(&self) -> Result<Config> {
        let mut config = self.config.clone();
        if let Some(file) = &self.password_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Error::transient(
                    "password_unreadable",
                    format!("the password file `{}` cannot be read: {error}", file.display()),
                )
                .with_remedy("make it readable for the user that runs instep")
            })?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        Ok(config)
    }

    /// What it says beside the password.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// How TLS is spoken; `None` without.
    pub(super) fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    /// Connects. A server that is too old is refused before it is asked anything.
    pub(super) async fn connect(&self) -> Result<Session> {
        let refused = |error| failed(&error).context(format!("connecting to {self}"));
        let config = self.current()?;
        let (client, connection) = match &self.tls {
            Some(tls) => {
                let tls = MakeRustlsConnect::new((**tls).clone());
                let (client, connection) = config.connect(tls).await.map_err(refused)?;
                require_version(connection.parameter("server_version"))?;
                (client, tokio::spawn(run(connection)))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                require_version(connection.parameter("server_version"))?;
                (client, tokio::spawn(run(connection)))
            }
        };
        Ok(Session { client, connection })
    }
}

/// The major version in what a server says of itself when it greets: `15.14 (Debian 15.14-0+deb12u1)`, `17beta1`.
pub(super) fn major(server_version: &str) -> Option<u32> {
    let digits = server_version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Refuses a version that is too old. One that is not told, as by a pooler, is taken for new enough.
fn require_version(server_version: Option<&str>) -> Result<()> {
    match server_version.and_then(major) {
        Some(major) if major < OLDEST => {
            let message = format!("Postgres {major} cannot be followed: version {OLDEST} or later is needed");
            Err(Error::fatal("unsupported_version", message)
                .with_remedy("upgrade the database to a version that its makers still maintain"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Host, port and database: nothing secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The connection's own work: it ends when the session is dropped or the server ends it.
async fn run<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(error = cause(&error), "a connection to Postgres ended");
    }
}

/// A session: simple queries, text answers. Dropping it closes the connection, and with it a transaction under way.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    /// Runs one or more statements; the rows of all of them.
    pub(super) async fn query(&self, sql: &str) -> Result<Vec<Line>> {
        let messages = self
            .client
            .simple_query(sql)
            .await
            .map_err(|error| failed(&error))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Line(row)),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs one or more statements and hands over their rows as they come, each with the number of its statement among
    /// those that return rows. When `take` refuses one, the rest is dropped.
    pub(super) async fn each(
        &self,
        sql: &str,
        mut take: impl FnMut(usize, Line) -> Result<()>,
    ) -> Result<()> {
        let answer = self
            .client
            .simple_query_raw(sql)
            .await
            .map_err(|error| failed(&error))?;
        let mut answer = std::pin::pin!(answer);
        let mut statements = 0_usize;
        while let Some(message) = std::future::poll_fn(|context| answer.as_mut().poll_next(context)).await {
            match message.map_err(|error| failed(&error))? {
                SimpleQueryMessage::RowDescription(_) => statements += 1,
                SimpleQueryMessage::Row(row) => take(statements.saturating_sub(1), Line(row))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs one or more statements; what they return is dropped.
    pub(super) async fn execute(&self, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| failed(&error))
    }

    /// Whether the server, or the network, ended it.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.connection.is_finished()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A statement that still runs would keep the connection until it ends.
        self.connection.abort();
    }
}

/// One row of an answer.
pub(super) struct Line(SimpleQueryRow);

impl Line {
    /// The text of a column, `None` for NULL. Poison when it is no UTF-8, which a database with encoding SQL_ASCII may
    /// hold.
    pub(super) fn get(&self, at: usize) -> Result<Option<&str>> {
        self.0.try_get(at).map_err(|_| {
            Error::poison("bad_encoding", "a value is not valid UTF-8")
                .with_remedy("correct the value; a database with encoding SQL_ASCII stores what it is given")
        })
    }

    /// The text of a column that is never NULL.
    pub(super) fn text(&self, at: usize) -> Result<&str> {
        let answer = || Error::fatal("bad_answer", "the database answered NULL where it never should");
        self.get(at)?.ok_or_else(answer)
    }

    /// How many columns there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What an URL says about TLS, taken out of it: `tokio_postgres` knows less than libpq.
#[derive(Default)]
struct TlsOptions {
    mode: Option<String>,
    root: Option<PathBuf>,
    identity: Option<tls::Identity>,
}

fn tls_options(url: &str) -> Result<(String, TlsOptions)> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), TlsOptions::default()));
    };
    let mut options = TlsOptions::default();
    let (mut certificate, mut key) = (None, None);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value =
            decoded(value).ok_or_else(|| bad_url("a % in it is not followed by two hexadecimal digits"))?;
        match name {
            "sslmode" => options.mode = Some(value),
            "sslrootcert" => options.root = Some(value.into()),
            "sslcert" => certificate = Some(PathBuf::from(value)),
            "sslkey" => key = Some(PathBuf::from(value)),
            _ => rest.push(pair),
        }
    }
    options.identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(tls::Identity { certificate, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(bad_url("sslcert and sslkey belong together"));
        }
    };
    let url = match rest.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", rest.join("&")),
    };
    Ok((url, options))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The URL without its password, for people and for files.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // A password may hold a slash or a question mark that should have been encoded: all before the last @ is the user's.
    let (user, tail) = match rest.rsplit_once('@') {
        Some((user, tail)) => (user.split_once(':').map_or(user, |(user, _)| user), tail),
        None => ("", rest),
    };
    let at = if user.is_empty() { "" } else { "@" };
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let query: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("password="))
        .collect();
    let query = match query.is_empty() {
        true => String::new(),
        false => format!("?{}", query.join("&")),
    };
    format!("{scheme}://{user}{at}{path}{query}")
}

fn shown(config: &Config) -> String {
    let host = config.get_hosts().first().map(|host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let address = config.get_hostaddrs().first().map(ToString::to_string);
    let host = host.or(address).unwrap_or_default();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}

fn bad_url(why: impl fmt::Display) -> Error {
    Error::invalid(
        "bad_url",
        format!("this is not the URL of a Postgres database: {why}"),
    )
    .with_remedy("write it like postgres://user@host:5432/database?sslmode=verify-full")
}

/// An error's own message with its causes. tokio_postgres' messages hold no values of ours, except for what a server's
/// error says, which [`failed`] leaves out.
fn cause(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Our error for one of Postgres'. The server's primary message is kept, its detail and hint are not: they may hold a
/// row's values.
pub(super) fn failed(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(said) => said_by_server(said.code(), said.message()),
        None => Error::transient("database_away", cause(error)).with_remedy(
            "look whether the database runs and can be reached; where TLS fails, at sslmode and certificates",
        ),
    }
}

/// Our error for a code and primary message of the server.
pub(super) fn said_by_server(code: &SqlState, message: &str) -> Error {
    let state = code.code();
    // Messages of class 22 (data exceptions) repeat the offending value.
    let message = match state.starts_with("22") {
        true => format!("the database refuses a value (SQLSTATE {state})"),
        false => format!("{message} (SQLSTATE {state})"),
    };
    match state {
        "28000" | "28P01" => Error::transient("authentication_failed", message).with_remedy(
            "correct user and password, or the server's pg_hba.conf",
        ),
        "3D000" => Error::transient("no_such_database", message)
            .with_remedy("create the database, or correct its name in the url"),
        "42501" => Error::transient("permission_denied", message)
            .with_remedy("`instep check` prints the rights that are needed"),
        "42P01" | "42703" | "3F000" => Error::transient("schema_changed", message).with_remedy(
            "finish the migration that changes this table, or correct the configuration",
        ),
        "22021" | "22P05" => Error::poison("bad_encoding", message),
        "55P03" => Error::transient("table_locked", message).with_remedy(
            "nothing needs to be done: it is tried again once whoever locks the table, as a migration does, is through",
        ),
        "55006" => Error::transient("object_in_use", message),
        "0A000" | "42601" | "42804" | "42883" => Error::fatal("postgres", message),
        _ if state.starts_with("22") => Error::fatal("bad_value", message),
        // Domains' checks, limits, and what functions raise: their messages may repeat a value.
        "23514" | "54000" | "P0001" | "P0002" | "P0003" | "P0004" => Error::fatal(
            "bad_value",
            format!("the database refuses to compute with a value (SQLSTATE {state})"),
        ),
        // Connection, resources, operator intervention, system and internal errors, serialization failures.
        _ if ["08", "25", "40", "53", "55", "57", "58", "XX"]
            .iter()
            .any(|class| state.starts_with(class)) =>
        {
            Error::transient("database_away", message)
        }
        _ => Error::fatal("postgres", message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_lose_their_password_only() {
        for (url, shown) in [
            ("postgres://a:secret@h:1/d", "postgres://a@h:1/d"),
            (
                "postgres://a:se%40cret@h/d?sslmode=require",
                "postgres://a@h/d?sslmode=require",
            ),
            (
                "postgres://a@h/d?password=x&application_name=y",
                "postgres://a@h/d?application_name=y",
            ),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://a:x@y@h/d", "postgres://a@h/d"),
            ("postgres://a:x/y?z@h/d", "postgres://a@h/d"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn a_version_that_is_too_old_is_refused_in_a_sentence() {
        for (said, refused) in [
            ("13.22 (Debian 13.22-0+deb11u1)", Some("Postgres 13")),
            ("13.0", Some("Postgres 13")),
            ("9.6.24", Some("Postgres 9")),
            ("14.0", None),
            ("15.14 (Debian 15.14-0+deb12u1)", None),
            ("17beta1", None),
            ("", None),
            ("unknown", None),
        ] {
            match (require_version(Some(said)), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(named)) => {
                    assert_eq!(error.code(), "unsupported_version", "{said}");
                    assert!(error.to_string().starts_with(named), "{said}: {error}");
                    assert!(error.remedy().is_some() && !error.is_transient());
                }
                (found, _) => panic!("{said}: {found:?}"),
            }
        }
        assert!(require_version(None).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (url, why) in [
            ("postgres://a:secret@h/d?sslmode=maybe", "sslmode is one of"),
            ("postgres://a:secret@h/d?sslcert=x", "belong together"),
            ("postgres://a:secret@h/d?sslrootcert=%zz", "hexadecimal"),
            ("postgres://a:secret@h:port/d", "not the URL"),
            ("postgres://a:secret@h", "names no database"),
        ] {
            let error = Endpoint::parse(url, None, None).err().unwrap().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
        let endpoint = Endpoint::parse("postgres://a:secret@h:5/d", None, None).unwrap();
        assert_eq!(endpoint.to_string(), "h:5/d");
    }
}
