//! `check`: every prerequisite of following and reading, met or not, with the statement that mends it.
//!
//! Guarantees: nothing is changed; one query for each concern however many tables there are; what cannot be looked at is
//! a finding of its own, and the rest is looked at all the same. The statements that are printed are all that a fresh role
//! needs.

mod former;
mod managed;
mod published;
mod replication;
mod rights;
mod server;
mod slots;
mod tables;

use std::sync::Arc;

use instep_core::{Error, Finding, Result, Severity, Watched};

use super::connect::{Endpoint, Line, Session};
use super::schema::Schema;
use super::{Database, followed, literal, slot};

use self::server::Server;

pub(super) use self::former::former;

/// A statement of ours that takes longer has met a lock, or a catalog that cannot be looked through.
const LIMITS: &str = "set local statement_timeout = '30s'; set local lock_timeout = '5s'; set local jit = off; \
                      set local search_path = pg_catalog, pg_temp";

/// Looks at everything. Also a database that cannot be reached is a finding.
pub(super) async fn check(database: &Arc<Database>, watched: &[Watched]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let stream = reach(&database.stream, &mut findings).await;
    let is_one = database.read.config() == database.stream.config();
    let read = match is_one {
        true => None,
        false => reach(&database.read, &mut findings).await,
    };
    let reader = match is_one {
        true => stream.as_ref(),
        false => read.as_ref(),
    };
    let reader = reader.map(|(session, server)| (session, server, &database.read));
    let mut catalog = None;
    if let Some((session, server)) = &stream {
        findings.push(server::version(server, &database.stream));
        if let Some((_, reads, endpoint)) = reader.filter(|_| !is_one) {
            findings.push(server::same(server, reads, endpoint, &database.stream));
        }
        match follows(database, watched, session, server, &mut findings).await {
            Ok(seen) => catalog = seen,
            Err(error) => findings.push(of_error(&error, &database.stream.to_string())),
        }
    }
    if let Some((session, server, endpoint)) = reader {
        server::reads(server, endpoint, &mut findings);
        if let Err(error) = tables(watched, session, server, catalog.as_ref(), &mut findings).await {
            findings.push(of_error(&error, &endpoint.to_string()));
        }
    }
    Ok(findings)
}

/// What following needs of the server that changes come from.
async fn follows(
    database: &Arc<Database>,
    watched: &[Watched],
    session: &Session,
    server: &Server,
    findings: &mut Vec<Finding>,
) -> Result<Option<followed::Catalog>> {
    let facts = slot::facts(session, database).await?;
    findings.push(server::wal_level(server, &database.stream));
    if facts.in_recovery {
        // Neither slot nor publication can be made there, and the places in its log are not ours.
        if let Err(error) = facts.require() {
            findings.push(of_error(&error, &database.stream.to_string()));
        }
        return Ok(None);
    }
    slots::check(database, session, server, &facts, findings).await?;
    findings.push(replication::check(database, server, &facts).await);
    server::settings(server, &database.stream, findings);
    server::waits(session, facts.slot.is_some(), &database.stream, findings).await?;
    let sql = followed::sql(watched, &database.publication, facts.version);
    let catalog = followed::look(session, &sql, watched.len()).await?;
    published::check(database, watched, session, server, &catalog, findings).await?;
    Ok(Some(catalog))
}

/// What reading and following need of the tables, as the role that reads sees them.
async fn tables(
    watched: &[Watched],
    session: &Session,
    server: &Server,
    catalog: Option<&followed::Catalog>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let seen = tables::look(session, watched).await?;
    let schema = Schema::read(session, &Default::default()).await?;
    rights::check(watched, &seen, &server.role, findings);
    tables::check(watched, &seen, &schema, catalog, &server.role, findings);
    Ok(())
}

/// Connects, and asks the server what it is.
async fn reach(endpoint: &Endpoint, findings: &mut Vec<Finding>) -> Option<(Session, Server)> {
    let subject = endpoint.to_string();
    let reached = async {
        let session = endpoint.connect().await?;
        let server = Server::ask(&session).await?;
        Ok::<_, Error>((session, server))
    };
    match reached.await {
        Ok((session, server)) => {
            let message = format!("the database can be reached, as role `{}`", server.role);
            findings.push(ok("database_readable", &subject, message));
            Some((session, server))
        }
        Err(error) => {
            let mut finding = of_error(&error, &subject);
            if error.code() == "permission_denied" {
                let config = endpoint.config();
                let name = |name: Option<&str>| super::quoted(name.unwrap_or_default());
                let (database, user) = (name(config.get_dbname()), name(config.get_user()));
                finding.remedy = Some(format!("grant connect on database {database} to {user}"));
            }
            findings.push(finding);
            None
        }
    }
}

/// Runs one statement under our limits; a transaction of its own.
async fn ask(session: &Session, sql: &str) -> Result<Vec<Line>> {
    session.query(&format!("{LIMITS}; {sql}")).await
}

/// The followed tables as a relation `wanted (at, namespace, name)`, for a `with`.
fn wanted(watched: &[Watched]) -> String {
    let row = |(at, watched): (usize, &Watched)| {
        let (namespace, name) = followed::split(&watched.table);
        format!("({at}, {}::name, {}::name)", literal(&namespace), literal(&name))
    };
    let rows: Vec<String> = watched.iter().enumerate().map(row).collect();
    match rows.is_empty() {
        true => "wanted (at, namespace, name) as (values (-1, ''::name, ''::name))".to_owned(),
        false => format!("wanted (at, namespace, name) as (values {})", rows.join(", ")),
    }
}

fn number<T: std::str::FromStr>(line: &Line, at: usize) -> Result<T> {
    line.text(at)?.parse().map_err(|_| unreadable())
}

fn truth(line: &Line, at: usize) -> Result<bool> {
    Ok(line.get(at)? == Some("t"))
}

fn json<T: serde::de::DeserializeOwned + Default>(line: &Line, at: usize) -> Result<T> {
    match line.get(at)? {
        Some(text) => serde_json::from_str(text).map_err(|_| unreadable()),
        None => Ok(T::default()),
    }
}

fn unreadable() -> Error {
    Error::fatal(
        "bad_answer",
        "the catalog of the database says what it never should",
    )
}

/// A number of bytes as a person reads it.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    let fits = UNITS.iter().find(|(unit, _)| count >= *unit);
    match fits {
        Some((unit, name)) if count / unit >= 10 => format!("{} {name}", count / unit),
        Some((unit, name)) => format!("{}.{} {name}", count / unit, count % unit * 10 / unit),
        None => format!("{count} bytes"),
    }
}

/// The first few names of a list, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len() > SHOWN {
        true => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
        false => names.join(", "),
    }
}

fn ok(code: &str, subject: &str, message: impl Into<String>) -> Finding {
    finding(Severity::Ok, code, subject, message.into(), None)
}

fn warning(code: &str, subject: &str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    finding(
        Severity::Warning,
        code,
        subject,
        message.into(),
        Some(remedy.into()),
    )
}

fn error(code: &str, subject: &str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    finding(
        Severity::Error,
        code,
        subject,
        message.into(),
        Some(remedy.into()),
    )
}

fn of_error(error: &Error, subject: &str) -> Finding {
    let remedy = error.remedy().map(str::to_owned);
    finding(
        Severity::Error,
        error.code(),
        subject,
        error.message().to_owned(),
        remedy,
    )
}

fn finding(
    severity: Severity,
    code: &str,
    subject: &str,
    message: String,
    remedy: Option<String>,
) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        subject: subject.to_owned(),
        message,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (count, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 kB"),
            (64 << 20, "64 MB"),
            ((1 << 30) - 1, "1023 MB"),
            (5 << 29, "2.5 GB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..7).map(|at| format!("t{at}")).collect();
        assert_eq!(listed(&names), "t0, t1, t2, t3, t4 and 2 more");
        assert_eq!(listed(&names[..5]), "t0, t1, t2, t3, t4");
    }
}
