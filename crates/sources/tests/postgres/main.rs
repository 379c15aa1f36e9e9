//! Postgres as a source: the suite that every source passes, and what is particular to Postgres.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod checking;
mod followed;
mod following;
mod gate;
mod positions;
mod reading;
mod values;

use instep_conformance::postgres::{Database, Server};
use instep_core::Source;
use instep_sources::{PostgresOptions, PostgresSource};

/// A database of the shared server, and whoever writes to it.
struct Application {
    database: Database,
}

fn application() -> Application {
    Application {
        database: Server::shared().database("suite"),
    }
}

fn source(database: &Database) -> PostgresSource {
    let options = PostgresOptions {
        url: database.url(),
        // Slots belong to the whole server.
        slot: Some(format!("instep_{}", database.name())),
        ..PostgresOptions::default()
    };
    PostgresSource::new("shop".into(), options).unwrap()
}

impl instep_conformance::source::Subject for Application {
    fn open(&self) -> Box<dyn Source> {
        Box::new(source(&self.database))
    }

    fn execute(&self, script: &str) {
        self.database.execute(script);
    }

    fn table(&self, name: &str) -> String {
        match name.contains('"') {
            true => format!("public.\"{}\"", name.replace('"', "\"\"")),
            false => format!("public.{name}"),
        }
    }

    fn bring_former(&self, table: &str) -> Option<String> {
        let table = table.replace('"', "\"\"");
        Some(format!("alter table \"{table}\" replica identity full"))
    }
}

mod suite {
    instep_conformance::source_suite!(super::application);
}
