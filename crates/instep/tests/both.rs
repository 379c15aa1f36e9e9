//! A small database of either kind, and the product over it: what holds on SQLite holds on Postgres.

use std::path::Path;
use std::time::Duration;

use instep_conformance::postgres::{self, Server as Postgres};
use rusqlite::Connection;

use crate::postgres::stage::source_of;
use crate::support::product::Product;

/// A database with a schema, and a folder for the product.
pub struct Both {
    /// The product; its configuration is [`Both::source`] and what the test adds.
    pub product: Product,
    /// The part of the configuration that names the database.
    pub source: String,
    /// Runs statements.
    pub execute: Box<dyn Fn(&str) + Send>,
    /// The rows of a query, each as one text: the columns joined by `|`.
    pub rows: Rows,
    connect: Box<dyn Fn() -> Write>,
    _folder: tempfile::TempDir,
}

/// The rows of a query, each as one text.
pub type Rows = Box<dyn Fn(&str) -> Vec<String> + Send>;

/// Runs statements on a connection of its own, and says what was refused. What failed is rolled back.
pub type Write = Box<dyn Fn(&str) -> Result<(), String> + Send>;

impl Both {
    /// Over these tables, with this configuration after the source's part, in SQLite and in Postgres: one each, as far as
    /// they are there.
    pub fn each(hint: &str, schema: &str, configuration: &str) -> Vec<Self> {
        let postgres = Both::postgres(hint, schema, configuration);
        let sqlite = Both::sqlite(schema, configuration);
        [sqlite].into_iter().chain(postgres).collect()
    }

    /// A SQLite file.
    pub fn sqlite(schema: &str, configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (writes, reads) = (open(folder.path()), open(folder.path()));
        let execute = move |sql: &str| writes.execute_batch(sql).unwrap();
        let rows = move |sql: &str| {
            let mut statement = reads.prepare(sql).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                let values = (0..columns).map(|at| row.get_ref(at).map(shown));
                Ok(values.collect::<Result<Vec<_>, _>>()?.join("|"))
            };
            statement
                .query_map([], row)
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let path = folder.path().to_owned();
        let connect = move || -> Write {
            let writes = open(&path);
            Box::new(move |sql| {
                let refused = writes.execute_batch(sql).map_err(|error| error.to_string());
                if refused.is_err() && !writes.is_autocommit() {
                    writes.execute_batch("rollback").unwrap();
                }
                refused
            })
        };
        let source = "[source.main]\nurl = \"sqlite:shop.db\"\n".to_owned();
        Both::new(
            folder,
            source,
            schema,
            configuration,
            Box::new(execute),
            Box::new(rows),
            Box::new(connect),
        )
    }

    /// A database of the Postgres that tests share; `None` where there is none.
    pub fn postgres(name: &str, schema: &str, configuration: &str) -> Option<Self> {
        postgres::or_skip(name)?;
        let database = std::sync::Arc::new(Postgres::shared().database(name));
        let source = source_of("main", &database);
        let (writes, connected) = (database.clone(), database.clone());
        let connect = move || -> Write {
            let database = connected.clone();
            Box::new(move |sql| database.try_execute(sql))
        };
        let execute = move |sql: &str| writes.execute(sql);
        let rows = move |sql: &str| {
            let rows = database.query(sql).into_iter();
            rows.map(|row| row.join("|")).collect()
        };
        let folder = tempfile::tempdir().unwrap();
        Some(Both::new(
            folder,
            source,
            schema,
            configuration,
            Box::new(execute),
            Box::new(rows),
            Box::new(connect),
        ))
    }

    fn new(
        folder: tempfile::TempDir,
        source: String,
        schema: &str,
        configuration: &str,
        execute: Box<dyn Fn(&str) + Send>,
        rows: Rows,
        connect: Box<dyn Fn() -> Write>,
    ) -> Self {
        execute(schema);
        Both {
            product: Product::new(folder.path(), &format!("{source}{configuration}")),
            source,
            execute,
            rows,
            connect,
            _folder: folder,
        }
    }

    /// A connection of its own to write through.
    pub fn connect(&self) -> Write {
        (self.connect)()
    }

    /// Writes another configuration after the source's part.
    pub fn configure(&self, configuration: &str) {
        let text = format!("{}{configuration}", self.source);
        std::fs::write(self.product.folder.join("instep.toml"), text).unwrap();
    }

    /// Nothing in the index differs from the rows.
    pub fn verified(&self, after: &str) {
        let found = self.product.json(&["verify"]);
        assert_eq!(found["differences"], 0, "after {after}: {found}");
    }
}

fn open(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("shop.db")).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database.pragma_update(None, "foreign_keys", true).unwrap();
    database
}

fn shown(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{bytes:?}"),
    }
}
