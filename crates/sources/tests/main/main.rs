//! SQLite as a source: the suite that every source passes, and what is particular to SQLite.
//!
//! The application is another process: this test binary again, which runs what it reads from its standard input.
#![allow(clippy::unwrap_used)]

mod application;
mod capture;
mod migration;
mod position;
mod reading;
mod speed;
mod unobtrusive;

use std::collections::BTreeSet;
use std::time::Duration;

use instep_core::{Change, ChangeFeed, Position, RowChange, Source, Value, Watched};
use instep_sources::SqliteSource;

use application::{Database, Journal};

fn wal() -> Database {
    Database::new(Journal::Wal)
}

fn rollback() -> Database {
    Database::new(Journal::Rollback)
}

mod suite {
    instep_conformance::source_suite!(super::wal);
}

/// All but the case whose writer commits while a snapshot is open: with a rollback journal it has to wait.
mod suite_with_a_rollback_journal {
    instep_conformance::source_suite!(@cases super::rollback,
        statements_of_every_kind_are_delivered,
        rolled_back_changes_are_not_delivered,
        an_update_that_moves_a_row_brings_both_images,
        a_statement_that_touches_many_rows_is_delivered_whole,
        changes_come_in_the_order_of_commits,
        following_again_continues_at_the_position,
        acknowledging_is_idempotent_and_loses_nothing,
        delivered_changes_are_visible,
    );
}

fn watched(table: &str, key: &[&str], columns: &[&str]) -> Watched {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Watched {
        table: table.into(),
        key: owned(key),
        columns: owned(columns),
    }
}

/// A followed database, for tests of what is delivered.
struct Followed {
    source: SqliteSource,
    feed: Box<dyn ChangeFeed>,
    watched: Vec<Watched>,
    fence: i64,
}

impl Followed {
    /// Follows these tables and a fence, which is created.
    async fn new(database: &Database, tables: &[Watched]) -> Self {
        database.run("create table fence (id integer primary key)");
        let source = database.source();
        let mut watched = tables.to_vec();
        watched.push(self::watched("fence", &["id"], &[]));
        let feed = source.follow(&watched, None).await.unwrap();
        Followed {
            source,
            feed,
            watched,
            fence: 0,
        }
    }

    /// Runs a script and returns what was delivered for it, up to and without the fence.
    async fn after(&mut self, database: &Database, script: &str) -> Delivered {
        database.run(script);
        self.delivered(database).await
    }

    async fn delivered(&mut self, database: &Database) -> Delivered {
        self.fence += 1;
        let fence = self.fence;
        database.run(&format!("insert into fence values ({fence})"));
        let mut delivered = Delivered::default();
        loop {
            let batch = next(&mut *self.feed).await.unwrap();
            delivered.upto = Some(batch.upto);
            let mut arrived = false;
            for change in batch.changes {
                match change {
                    Change::Row(row) if row.row.table.as_str() == "fence" => {
                        arrived |= row.row.key.parts() == [Value::Int(fence)];
                    }
                    Change::Row(row) => delivered.rows.push(row),
                    Change::Table(table) => {
                        delivered.tables.insert(table.to_string());
                    }
                }
            }
            if arrived {
                return delivered;
            }
        }
    }

    /// Follows again from a position, as after a restart.
    async fn again(&mut self, database: &Database, from: &Position) {
        self.source = database.source();
        self.feed = self.source.follow(&self.watched, Some(from)).await.unwrap();
    }
}

#[derive(Default)]
struct Delivered {
    rows: Vec<RowChange>,
    tables: BTreeSet<String>,
    upto: Option<Position>,
}

impl Delivered {
    /// The images as text, one `table key columns…` each: `t 1 a=5`. Repetitions of neighbours are left out.
    fn images(&self) -> Vec<String> {
        let mut images: Vec<String> = self.rows.iter().map(image).collect();
        images.dedup();
        images
    }

    fn sorted(&self) -> Vec<String> {
        let mut images = self.images();
        images.sort();
        images.dedup();
        images
    }

    fn upto(&self) -> Position {
        self.upto.clone().unwrap()
    }
}

fn image(change: &RowChange) -> String {
    let parts: Vec<String> = change.row.key.parts().iter().map(Value::to_string).collect();
    let mut text = format!("{} {}", change.row.table, parts.join(","));
    // The key's columns come first among the columns, and were just said.
    for (name, value) in &change.columns[parts.len()..] {
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

async fn next(feed: &mut dyn ChangeFeed) -> instep_core::Result<instep_core::ChangeBatch> {
    tokio::time::timeout(Duration::from_secs(20), feed.next())
        .await
        .expect("something is delivered within 20 seconds")
}
