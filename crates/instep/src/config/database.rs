//! Sources: which database an address means, and what its options say.

use std::path::{Path, PathBuf};

use instep_core::{Error, Result};

use crate::config::problem::Problem;
use crate::config::raw::{At, RawSource};
use crate::config::secret::{self, Environment, Secret};
use crate::wiring;

/// What a source is and where.
#[derive(Clone, Debug)]
pub enum SourceUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A Postgres database.
    Postgres(PostgresConfig),
}

/// Where a Postgres database is, and what may be used of it.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Where rows are read.
    pub url: Secret,
    /// Where changes are streamed from, when `url` is a pooler or a replica.
    pub stream_url: Option<Secret>,
    /// The password, for both, and the file it came from; wins over the URLs'.
    pub password: Option<(PathBuf, Secret)>,
    /// The authorities that signed the server's certificate.
    pub root_certificate: Option<PathBuf>,
    /// The replication slot, where it has a name of its own.
    pub slot: Option<String>,
    /// The publication, where it has a name of its own.
    pub publication: Option<String>,
}

/// The spelling of addresses, for messages.
pub(crate) const SPELLING: &str = "sources are sqlite:<path> and postgres://user@host:port/database";

/// The longest name Postgres keeps whole, in bytes.
const LONGEST_NAME: usize = 63;

/// A source from its address alone, `sqlite:<path>` or `postgres://…`; a relative path starts at the folder.
pub fn source_url(url: &str, folder: &Path) -> Result<SourceUrl> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(SourceUrl::Sqlite(
            folder.join(path.strip_prefix("//").unwrap_or(path)),
        )),
        Some(_) if is_postgres(url) => Ok(SourceUrl::Postgres(PostgresConfig {
            url: Secret::new(url),
            stream_url: None,
            password: None,
            root_certificate: None,
            slot: None,
            publication: None,
        })),
        // The text may hold a password, so it is not repeated.
        Some(_) | None => Err(Error::invalid("unknown_source", "this is not a source").with_remedy(SPELLING)),
    }
}

/// Whether an address is one of Postgres.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// An address with `${VAR}` replaced, or read from a file.
pub(crate) fn address(
    text: &str,
    span: std::ops::Range<usize>,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<String, Problem> {
    let Some(at) = is_postgres(text).then(|| credentials_end(text)).flatten() else {
        return secret::resolve(text, span, folder, environment);
    };
    let encoded = |name: &str| environment(name).map(|value| percent_encoded(&value));
    let (credentials, rest) = text.split_at(at);
    let credentials = secret::expand(credentials, &span, &encoded)?;
    Ok(credentials + &secret::expand(rest, &span, environment)?)
}

/// Where user and password of an address end: at the last `@` before the path.
fn credentials_end(url: &str) -> Option<usize> {
    let start = url.find("://")? + 3;
    let authority = &url[start..];
    let end = authority.find(['/', '?']).unwrap_or(authority.len());
    authority[..end].rfind('@').map(|at| start + at)
}

/// What stands for a password that an address held.
const PASSWORD: &str = "${PGPASSWORD}";

/// An address as it may stand in a file: a password is replaced by a variable of the environment, unless it is one.
pub(crate) fn without_password(url: &str) -> String {
    let credentials = credentials_end(url).filter(|_| is_postgres(url));
    let Some((before, after)) = credentials.map(|at| url.split_at(at)) else {
        return wiring::without_password(url);
    };
    let in_query = after.contains("?password=") || after.contains("&password=");
    let start = before.find("://").map_or(0, |at| at + 3);
    match before[start..].split_once(':') {
        Some((_, variable)) if variable.starts_with("${") && variable.ends_with('}') && !in_query => {
            url.to_owned()
        }
        None if !in_query => url.to_owned(),
        Some(_) | None => {
            let redacted = wiring::without_password(url);
            match credentials_end(&redacted) {
                Some(at) => format!("{}:{PASSWORD}{}", &redacted[..at], &redacted[at..]),
                None => redacted,
            }
        }
    }
}

/// A text as a part of an address that means nothing but itself.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A source, resolved as far as it can be without connecting; or everything that is wrong with it.
pub(crate) fn resolve(
    raw: &RawSource,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<SourceUrl, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut text = |written: &At<String>| {
        address(written.get_ref(), written.span(), folder, environment)
            .map_err(|problem| problems.push(problem))
            .ok()
    };
    let url = text(&raw.url);
    let stream_url = raw.stream_url.as_ref().map(&mut text);
    let (Some(url), Some(stream_url)) = (url, stream_url.map_or(Some(None), |url| url.map(Some))) else {
        return Err(problems);
    };
    let place = |error: Error| {
        Problem::new(raw.url.span(), error.to_string()).help(error.remedy().unwrap_or_default().to_owned())
    };
    let mut postgres = match source_url(&url, folder).map_err(|error| vec![place(error)])? {
        SourceUrl::Sqlite(path) => {
            return match postgres_options(raw) {
                None => Ok(SourceUrl::Sqlite(path)),
                Some((option, span)) => Err(vec![
                    Problem::new(span, format!("`{option}` says nothing about a SQLite source"))
                        .help("only a Postgres source takes it"),
                ]),
            };
        }
        SourceUrl::Postgres(postgres) => postgres,
    };
    if let (Some(stream), Some(written)) = (stream_url, &raw.stream_url) {
        if !is_postgres(&stream) {
            let problem = Problem::new(written.span(), "`stream_url` is not an address of Postgres");
            problems.push(problem.help("write it like url: postgres://user@host:port/database"));
        }
        postgres.stream_url = Some(Secret::new(stream));
    }
    if let Some(written) = &raw.password_file {
        match secret::read(written.get_ref(), written.span(), folder, environment) {
            Ok(password) => {
                postgres.password = Some((folder.join(written.get_ref()), Secret::new(password)));
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut part = |written: &At<String>| {
        secret::expand(written.get_ref(), &written.span(), environment)
            .map_err(|problem| problems.push(problem))
            .ok()
            .map(|text| (text, written.span()))
    };
    let root_certificate = raw.root_certificate.as_ref().and_then(&mut part);
    let slot = raw.slot.as_ref().and_then(&mut part);
    let publication = raw.publication.as_ref().and_then(&mut part);
    postgres.root_certificate = root_certificate.map(|(path, _)| match path.as_str() {
        "system" => PathBuf::from(path),
        _ => folder.join(path),
    });
    if let Some((slot, span)) = slot {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if slot.is_empty() || slot.len() > LONGEST_NAME || !slot.chars().all(named) {
            let problem = Problem::new(span, format!("`{slot}` cannot be the name of a slot"));
            problems.push(problem.help("Postgres allows 1 to 63 of a-z, 0-9 and _"));
        }
        postgres.slot = Some(slot);
    }
    if let Some((publication, span)) = publication {
        let long = publication.len() > LONGEST_NAME || publication.contains('\0');
        if publication.is_empty() || long {
            let problem = Problem::new(
                span,
                format!("`{publication}` cannot be the name of a publication"),
            );
            problems.push(problem.help("Postgres allows 1 to 63 bytes"));
        }
        postgres.publication = Some(publication);
    }
    match problems.is_empty() {
        true => Ok(SourceUrl::Postgres(postgres)),
        false => Err(problems),
    }
}

/// The first option that only Postgres has.
fn postgres_options(raw: &RawSource) -> Option<(&'static str, std::ops::Range<usize>)> {
    [
        ("stream_url", &raw.stream_url),
        ("password_file", &raw.password_file),
        ("root_certificate", &raw.root_certificate),
        ("slot", &raw.slot),
        ("publication", &raw.publication),
    ]
    .into_iter()
    .find_map(|(option, given)| given.as_ref().map(|given| (option, given.span())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_in_credentials_mean_themselves() {
        let environment = |name: &str| match name {
            "USER" => Some("a b".to_owned()),
            "PW" => Some("p@s/s:%?#".to_owned()),
            "HOSTS" => Some("a:1,b:2".to_owned()),
            "ALL" => Some("postgres://u:p%40@h/d".to_owned()),
            _ => None,
        };
        let resolved =
            |text: &str| address(text, 0..1, Path::new(""), &environment).map_err(|problem| problem.message);
        for (text, expected) in [
            (
                "postgres://${USER}:${PW}@${HOSTS}/d?x=${HOSTS}",
                "postgres://a%20b:p%40s%2Fs%3A%25%3F%23@a:1,b:2/d?x=a:1,b:2",
            ),
            ("${ALL}", "postgres://u:p%40@h/d"),
            ("postgresql://h/d", "postgresql://h/d"),
            ("sqlite:${USER}.db", "sqlite:a b.db"),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(expected));
        }
        assert!(resolved("postgres://u:${NO}@h/d").unwrap_err().contains("`NO`"));
    }

    #[test]
    fn what_a_file_may_hold() {
        for (url, written) in [
            (
                "postgres://a:secret@h:1/d?x=y",
                "postgres://a:${PGPASSWORD}@h:1/d?x=y",
            ),
            ("postgres://a:s@cret@h/d", "postgres://a:${PGPASSWORD}@h/d"),
            (
                "postgres://a@h/d?password=secret&x=y",
                "postgres://a:${PGPASSWORD}@h/d?x=y",
            ),
            ("postgres://a:${MINE}@h/d", "postgres://a:${MINE}@h/d"),
            ("postgres://a@h/d", "postgres://a@h/d"),
            ("postgresql://h/d", "postgresql://h/d"),
            ("${DATABASE_URL}", "${DATABASE_URL}"),
            ("sqlite:a.db", "sqlite:a.db"),
        ] {
            assert_eq!(without_password(url), written);
        }
    }

    #[test]
    fn an_address_with_its_secrets_is_never_printed() {
        let url = source_url("postgres://u:hunter2@h/d", Path::new("")).unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
        let error = source_url("mysql://u:hunter2@h/d", Path::new("")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
