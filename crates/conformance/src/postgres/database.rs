//! One database of a server, driven through `psql`.
//!
//! Each call is a connection of its own over the server's socket, which lets everybody in: what a test changes about
//! network access does not lock it out. Tests that hold transactions open use a client of their own with [`Database::url`].

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::Binaries;

/// The superuser of every server.
pub const USER: &str = "postgres";

const FIELD: &str = "\u{1f}";
const RECORD: &str = "\u{1e}";

/// A database; one that [`super::Server::database`] made is dropped with this value, with its replication slots and
/// prepared transactions.
#[derive(Debug)]
pub struct Database {
    pub(super) binaries: Binaries,
    pub(super) socket: PathBuf,
    pub(super) port: u16,
    pub(super) name: String,
    pub(super) fate: Fate,
}

/// What becomes of a database at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Dropped,
    Kept,
}

impl Database {
    /// Its name, unique on the server; a good stem for the names of roles and slots, which the whole server shares.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients find it, as superuser and without a password.
    pub fn url(&self) -> String {
        self.url_through(self.port)
    }

    /// [`Database::url`] by way of another port of this machine, such as a [`crate::proxy::Proxy`]'s.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{}", self.name)
    }

    /// Runs a script; every statement is a transaction of its own unless the script says `begin`.
    ///
    /// # Panics
    /// At the first statement that fails, with Postgres's message.
    #[track_caller]
    pub fn execute(&self, script: &str) {
        if let Err(error) = self.try_execute(script) {
            panic!("{error}\nin: {}", excerpt(script));
        }
    }

    /// Runs a script like [`Database::execute`] and returns Postgres's message when a statement fails.
    ///
    /// # Errors
    /// What `psql` wrote to standard error.
    pub fn try_execute(&self, script: &str) -> Result<(), String> {
        let mut psql = self.psql();
        psql.stdout(Stdio::null());
        succeeded(run(psql, script)).map(|_| ())
    }

    /// The rows of one statement; NULL reads `\N`.
    ///
    /// # Panics
    /// When the statement fails, with Postgres's message.
    #[track_caller]
    pub fn query(&self, statement: &str) -> Vec<Vec<String>> {
        match self.try_query(statement) {
            Ok(rows) => rows,
            Err(error) => panic!("{error}\nin: {}", excerpt(statement)),
        }
    }

    /// The rows of one statement like [`Database::query`], or Postgres's message.
    ///
    /// # Errors
    /// What `psql` wrote to standard error.
    pub fn try_query(&self, statement: &str) -> Result<Vec<Vec<String>>, String> {
        let mut psql = self.psql();
        psql.stdout(Stdio::piped());
        psql.args(["-A", "-t", "-F", FIELD, "-R", RECORD, "-P", "null=\\N"]);
        succeeded(run(psql, statement)).map(|written| rows(&written))
    }

    /// The first field of the first row.
    ///
    /// # Panics
    /// When the statement fails or returns nothing.
    #[track_caller]
    pub fn value(&self, statement: &str) -> String {
        let rows = self.query(statement);
        let first = rows.into_iter().next().and_then(|row| row.into_iter().next());
        first.unwrap_or_else(|| panic!("no row from: {}", excerpt(statement)))
    }

    /// A `psql` in this database that stops at the first error, without any personal settings.
    pub fn psql(&self) -> Command {
        let mut psql = self.binaries.command("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-h"])
            .arg(&self.socket)
            .arg("-p")
            .arg(self.port.to_string())
            .args(["-d", &self.name])
            .env("PGCLIENTENCODING", "UTF8");
        psql
    }

    fn beside(&self, name: &str) -> Self {
        Self {
            binaries: self.binaries.clone(),
            socket: self.socket.clone(),
            port: self.port,
            name: name.to_owned(),
            fate: Fate::Kept,
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match self.fate {
            Fate::Kept => {}
            Fate::Dropped => {
                let name = &self.name;
                // What holds a database up: sessions, prepared transactions (only their own database can end them)
                // and slots. None of it waits for a standby that may be gone. A server that was stopped, or a panic's remains, may refuse; its folder goes anyway.
                let _prepared = self.try_execute(
                    "set synchronous_commit to local;\n\
                     select format('rollback prepared %L', gid) from pg_prepared_xacts \
                     where database = current_database() \\gexec\n",
                );
                let _dropped = self.beside("postgres").try_execute(&format!(
                    "set synchronous_commit to local;\n\
                     alter database \"{name}\" with allow_connections false;\n\
                     select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}';\n\
                     select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                     where database = '{name}';\n\
                     drop database \"{name}\" with (force);\n"
                ));
            }
        }
    }
}

/// Writes the script while the output is read, so that neither side waits for the other.
fn run(mut psql: Command, script: &str) -> Output {
    let mut child = psql
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .args(["-f", "-"])
        .spawn()
        .expect("psql can be started");
    let mut input = child.stdin.take().expect("standard input is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A script that fails early is not read to its end.
            let _written = input.write_all(script.as_bytes());
        });
        child.wait_with_output().expect("psql can be waited for")
    })
}

fn succeeded(output: Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("the client encoding is UTF-8"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// `psql` separates records, and ends the last one with a line end.
fn rows(written: &str) -> Vec<Vec<String>> {
    if written.is_empty() {
        return Vec::new();
    }
    let written = written.strip_suffix('\n').unwrap_or(written);
    written
        .split(RECORD)
        .map(|row| row.split(FIELD).map(str::to_owned).collect())
        .collect()
}

fn excerpt(script: &str) -> &str {
    let end = script.char_indices().nth(400).map_or(script.len(), |(at, _)| at);
    &script[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_reads_as_rows() {
        let cases: [(&str, &[&[&str]]); 4] = [
            ("", &[]),
            ("\n", &[&[""]]),
            ("1\u{1f}a\n\u{1e}2\u{1f}\\N\n", &[&["1", "a\n"], &["2", "\\N"]]),
            ("é\u{1f}\n", &[&["é", ""]]),
        ];
        for (written, expected) in cases {
            assert_eq!(rows(written), expected, "{written:?}");
        }
    }
}
