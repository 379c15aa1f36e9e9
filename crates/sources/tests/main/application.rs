//! The application: another process that writes to the database.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use rusqlite::Connection;

use instep_conformance::source::Subject;
use instep_core::Source;
use instep_sources::SqliteSource;

/// Where the child process finds its database.
const PATH: &str = "INSTEP_TEST_DATABASE";

/// What marks an answer among what the test harness prints.
const ANSWER: &str = "answer:";

#[derive(Clone, Copy)]
pub(crate) enum Journal {
    Wal,
    Rollback,
}

/// A database in a directory of its own, with an application.
pub(crate) struct Database {
    pub(crate) path: PathBuf,
    application: Mutex<Application>,
    _directory: tempfile::TempDir,
}

struct Application {
    child: Child,
    scripts: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Database {
    pub(crate) fn new(journal: Journal) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        let connection = Connection::open(&path).unwrap();
        let mode = match journal {
            Journal::Wal => "wal",
            Journal::Rollback => "delete",
        };
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        drop(connection);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "application::child_process",
                "--ignored",
                "--nocapture",
            ])
            .env(PATH, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let application = Application {
            scripts: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        Database {
            path,
            application: Mutex::new(application),
            _directory: directory,
        }
    }

    pub(crate) fn source(&self) -> SqliteSource {
        SqliteSource::open("app".into(), &self.path).unwrap()
    }

    /// Runs a script in the application's process, with foreign keys on.
    pub(crate) fn run(&self, script: &str) {
        if let Err(error) = self.try_run(script) {
            panic!("{script}: {error}");
        }
    }

    pub(crate) fn try_run(&self, script: &str) -> Result<(), String> {
        let mut application = self.application.lock().unwrap();
        let line = serde_json::to_string(script).unwrap();
        writeln!(application.scripts.as_mut().unwrap(), "{line}").unwrap();
        loop {
            let mut line = String::new();
            assert!(
                application.answers.read_line(&mut line).unwrap() > 0,
                "the application ended"
            );
            if let Some((_, answer)) = line.trim_end().split_once(ANSWER) {
                return match answer {
                    "" => Ok(()),
                    error => Err(error.to_owned()),
                };
            }
        }
    }

    /// A connection in this process, for looking.
    pub(crate) fn connection(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut application = self.application.lock().unwrap();
        application.scripts = None;
        let _ = application.child.wait();
    }
}

impl Subject for Database {
    fn open(&self) -> Box<dyn Source> {
        Box::new(self.source())
    }

    fn execute(&self, script: &str) {
        self.run(script);
    }

    /// A cast never fails in SQLite.
    fn failing(&self) -> &'static str {
        "json_extract(note, '$')"
    }
}

/// Not a test: what the child process runs.
#[test]
#[ignore = "the application's process of the other tests"]
#[allow(clippy::disallowed_methods, reason = "the parent process names the database")]
fn child_process() {
    let Some(path) = std::env::var_os(PATH) else {
        return;
    };
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("pragma foreign_keys = on; pragma busy_timeout = 5000")
        .unwrap();
    for line in std::io::stdin().lock().lines() {
        let script: String = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match connection.execute_batch(&script) {
            Ok(()) => String::new(),
            Err(error) => error.to_string().replace('\n', " "),
        };
        println!("{ANSWER}{answer}");
    }
}
