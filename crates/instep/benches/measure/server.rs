//! A Postgres server of the run's own, and what it costs.

use std::path::Path;

use instep_conformance::postgres::{Database, Server, or_skip};

use crate::measure::{Arguments, Home};
use crate::{process, world};

/// More than the Tate's tables and their indexes, and room for the log of a long transaction.
const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "256MB"), ("max_wal_size", "8GB")];

/// A server with one database of the benchmark's.
pub(crate) struct Postgres {
    /// Dropped before its server.
    pub(crate) database: Database,
    pub(crate) server: Server,
}

impl Postgres {
    /// A running server; `None`, and a loud line, where there is no Postgres.
    pub(crate) fn start(wanted_by: &str) -> Option<Postgres> {
        or_skip(wanted_by)?;
        let server = Server::start(&SETTINGS);
        let database = server.database("measured");
        Some(Postgres { database, server })
    }

    /// The same with the Tate in it, at rest.
    pub(crate) fn with_tate(wanted_by: &str, data: &Path) -> Option<Postgres> {
        let postgres = Postgres::start(wanted_by)?;
        world::load(data, &postgres.database, None);
        postgres.database.execute("checkpoint");
        Some(postgres)
    }

    pub(crate) fn home(&self) -> Home {
        Home::Postgres(self.database.url())
    }

    /// CPU time of all processes of the server so far, ended ones among them, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        let lock = std::fs::read_to_string(self.server.data().join("postmaster.pid")).expect("it runs");
        let postmaster = lock.lines().next().expect("its number");
        let mut used = 0;
        for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let own = pid == postmaster;
            if own || process::parent(&stat) == Some(postmaster) {
                used += process::used(&stat) + if own { process::children_us(&stat) } else { 0 };
            }
        }
        used
    }
}

/// The rows that `--source` names.
pub(crate) enum Rows {
    Sqlite,
    Postgres(Box<Postgres>),
}

impl Rows {
    /// Takes the argument out, and loads the Tate; `None` where something is missing.
    pub(crate) fn load(source: Option<&str>, wanted_by: &str, data: &Path, folder: &Path) -> Option<Rows> {
        match source {
            None | Some("sqlite") => {
                drop(crate::tate::load(data, &folder.join("tate.db")));
                Some(Rows::Sqlite)
            }
            Some("postgres") => Postgres::with_tate(wanted_by, data)
                .map(Box::new)
                .map(Rows::Postgres),
            Some(other) => panic!("--source is sqlite or postgres, not {other}"),
        }
    }

    pub(crate) fn source(arguments: &mut Arguments) -> Option<String> {
        arguments.value("--source")
    }

    pub(crate) fn home(&self) -> Home {
        match self {
            Rows::Sqlite => Home::Sqlite,
            Rows::Postgres(postgres) => postgres.home(),
        }
    }

    /// As a heading says it.
    pub(crate) fn name(&self) -> String {
        match self {
            Rows::Sqlite => "SQLite (WAL)".to_owned(),
            Rows::Postgres(postgres) => {
                let version = postgres.database.value("show server_version");
                format!("Postgres {}", version.split(' ').next().unwrap_or_default())
            }
        }
    }

    /// CPU time of the server; nothing where there is none.
    pub(crate) fn cpu_us(&self) -> u64 {
        match self {
            Rows::Sqlite => 0,
            Rows::Postgres(postgres) => postgres.cpu_us(),
        }
    }
}
