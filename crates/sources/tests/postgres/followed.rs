//! A followed database: what a script changes, and what is delivered for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use instep_conformance::postgres::Database;
use instep_core::{
    Change, ChangeBatch, ChangeFeed, Error, Fault, Position, RowChange, Source, Value, Watched,
};
use instep_sources::{PostgresOptions, PostgresSource};

pub(crate) fn watched(table: &str, key: &[&str], columns: &[&str]) -> Watched {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Watched {
        table: table.into(),
        key: owned(key),
        columns: owned(columns),
    }
}

/// A source of this name (which its slot has), read and followed in the database.
pub(crate) fn source(database: &Database) -> PostgresSource {
    source_with(database, PostgresOptions::default())
}

/// The same with other options; without a url, the database's.
pub(crate) fn source_with(database: &Database, mut options: PostgresOptions) -> PostgresSource {
    if options.url.is_empty() {
        options.url = database.url();
    }
    PostgresSource::new(database.name().into(), options).unwrap()
}

pub(crate) fn slot_of(database: &Database) -> String {
    format!("instep_{}", database.name())
}

/// A followed database.
pub(crate) struct Followed {
    pub(crate) source: PostgresSource,
    pub(crate) feed: Box<dyn ChangeFeed>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) upto: Position,
    fence: i64,
}

impl Followed {
    /// Follows these tables and a fence, which is created.
    pub(crate) async fn new(database: &Database, tables: &[Watched]) -> Followed {
        Self::with(database, source(database), tables).await
    }

    pub(crate) async fn with(database: &Database, source: PostgresSource, tables: &[Watched]) -> Followed {
        database.execute("create table fence (id integer primary key)");
        let mut watched = tables.to_vec();
        watched.push(self::watched("public.fence", &["id"], &[]));
        let mut feed = source.follow(&watched, None).await.unwrap();
        let began = next(&mut *feed).await.unwrap();
        assert_eq!(began.changes, []);
        Followed {
            source,
            feed,
            watched,
            upto: began.upto,
            fence: 0,
        }
    }

    /// Runs a script and returns what is delivered for it, up to and without the fence.
    pub(crate) async fn after(&mut self, database: &Database, script: &str) -> Delivered {
        database.execute(script);
        self.delivered(database).await
    }

    pub(crate) async fn delivered(&mut self, database: &Database) -> Delivered {
        self.fence += 1;
        let fence = self.fence;
        database.execute(&format!("insert into fence values ({fence})"));
        self.until_fence(fence).await
    }

    pub(crate) async fn until_fence(&mut self, fence: i64) -> Delivered {
        self.fence = fence;
        let mut delivered = Delivered::default();
        loop {
            let batch = next(&mut *self.feed).await.unwrap();
            self.upto.clone_from(&batch.upto);
            let mut arrived = false;
            for change in batch.changes {
                match change {
                    Change::Row(row) if row.row.table.as_str() == "public.fence" => {
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

    /// Waits for the touch of a whole table, which may come a few seconds later than what caused it.
    pub(crate) async fn touched(&mut self, table: &str) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            let batch = next(&mut *self.feed).await.unwrap();
            self.upto = batch.upto;
            if batch.changes.contains(&Change::Table(table.into())) {
                return;
            }
        }
        panic!("{table} is not touched");
    }

    /// For long enough that the tables were looked at, nothing is said of a whole table.
    pub(crate) async fn untouched(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Ok(batch) = tokio::time::timeout(left, self.feed.next()).await else {
                return;
            };
            let batch = batch.unwrap();
            let whole = |change: &Change| matches!(change, Change::Table(_));
            assert!(!batch.changes.iter().any(whole), "{:?}", batch.changes);
            self.upto = batch.upto;
        }
    }

    /// Ends, lets something happen, and follows again from where it was, as after a restart.
    pub(crate) async fn away(&mut self, database: &Database, meanwhile: impl FnOnce()) {
        self.feed = Box::new(Nothing);
        free(database).await;
        meanwhile();
        self.source = source(database);
        self.feed = self.source.follow(&self.watched, Some(&self.upto)).await.unwrap();
    }

    /// Ends; then following again is refused, by this name and with a way on.
    pub(crate) async fn refused(
        mut self,
        database: &Database,
        meanwhile: impl FnOnce(),
        code: &str,
    ) -> Error {
        self.feed = Box::new(Nothing);
        free(database).await;
        meanwhile();
        refused(&source(database), &self.watched, Some(&self.upto), code).await
    }
}

/// Following is refused by this name, for ever, with a way on.
pub(crate) async fn refused(
    source: &PostgresSource,
    watched: &[Watched],
    from: Option<&Position>,
    code: &str,
) -> Error {
    let Err(error) = source.follow(watched, from).await else {
        panic!("{code} is refused");
    };
    assert_eq!((error.code(), error.fault()), (code, Fault::Fatal), "{error}");
    assert!(error.remedy().is_some());
    error
}

/// Waits until nobody uses the slot.
pub(crate) async fn free(database: &Database) {
    let sql = format!(
        "select active from pg_replication_slots where slot_name = '{}'",
        slot_of(database)
    );
    eventually("the slot is free", || {
        database.query(&sql).iter().all(|row| row[0] == "f")
    })
    .await;
}

pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(40), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn next(feed: &mut dyn ChangeFeed) -> instep_core::Result<ChangeBatch> {
    tokio::time::timeout(Duration::from_secs(30), feed.next())
        .await
        .expect("a batch within 30 seconds")
}

pub(crate) struct Nothing;

#[async_trait::async_trait]
impl ChangeFeed for Nothing {
    async fn next(&mut self) -> instep_core::Result<ChangeBatch> {
        std::future::pending().await
    }

    async fn acknowledge(&mut self, _: &Position) -> instep_core::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Delivered {
    pub(crate) rows: Vec<RowChange>,
    pub(crate) tables: BTreeSet<String>,
}

impl Delivered {
    /// Each row as its table and key, in the order of delivery.
    pub(crate) fn keys(&self) -> Vec<String> {
        let key = |change: &RowChange| {
            let parts: Vec<String> = change.row.key.parts().iter().map(ToString::to_string).collect();
            format!("{} {}", change.row.table, parts.join(","))
        };
        self.rows.iter().map(key).collect()
    }

    pub(crate) fn set(&self) -> BTreeSet<String> {
        self.keys().into_iter().collect()
    }
}
