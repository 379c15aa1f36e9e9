//! SQLite as a source.
//!
//! Changes are captured by generated triggers into a change table in the user's database (`sqlite/capture.rs`), so that
//! other processes, other languages and other SQLite versions are followed alike. A feed polls `data_version` for the
//! wake-up (`sqlite/feed.rs`), readers read in short transactions of their own (`sqlite/read.rs`).
//!
//! Guarantees: no table of the user is ever written; our own writes are the triggers (once, and after a migration
//! that lost them) and small deletes from the change table. In WAL mode nothing of ours blocks the application's
//! reads, and only those small writes could make one of its writes wait. With a rollback journal any reader makes a
//! commit wait: reads there are short and keep away from a transaction under way, and `check` recommends WAL.
//!
//! One instance of instep follows a database at a time; a second one is safe, but both may scan more than needed.

mod capture;
mod check;
mod computed;
mod feed;
mod read;
mod schema;
mod value;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use instep_core::{
    ChangeFeed, Error, Expression, Finding, Former, Means, Position, Result, RowReader, Source, SourceName,
    TableSchema, Watched,
};

use self::schema::Schema;

/// How long our reads and the installation of triggers wait for a lock of the application.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Idle connections kept for readers: each holds up to 2 MiB of cached pages.
const IDLE_READERS: usize = 4;

/// Statements a reader's connection keeps prepared: a few sizes for each table and shape of fetch.
const PREPARED: usize = 256;

/// A SQLite database, followed and read.
pub struct SqliteSource {
    name: SourceName,
    database: Arc<Database>,
}

impl SqliteSource {
    /// The database in this file, which must exist and be readable. Nothing is written before [`Source::follow`].
    pub fn open(name: SourceName, path: impl Into<PathBuf>) -> Result<Self> {
        let database = Arc::new(Database {
            path: path.into(),
            idle: Mutex::default(),
        });
        let reader = database.reader()?;
        reader
            .schema()
            .map_err(|error| error.context(format!("opening source {name}")))?;
        drop(reader);
        Ok(SqliteSource { name, database })
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.database.path
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn follow(&self, watched: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
        let database = self.database.clone();
        let watched = watched.to_vec();
        let from = from.cloned();
        let feed = blocking(move || feed::follow(&database, &watched, from.as_ref())).await?;
        Ok(Box::new(feed))
    }

    async fn head(&self) -> Result<Option<Position>> {
        let database = self.database.clone();
        blocking(move || feed::head(&database)).await
    }

    fn reached(&self, position: &Position, head: &Position) -> bool {
        feed::reached(position, head)
    }

    fn reader(&self) -> &dyn RowReader {
        self
    }

    async fn check(&self, watched: &[Watched]) -> Result<Vec<Finding>> {
        let database = self.database.clone();
        let watched = watched.to_vec();
        blocking(move || check::check(&database, &watched)).await
    }

    async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>> {
        let by_triggers = |watched: &Watched| Former {
            table: watched.table.clone(),
            means: Means::Brought("triggers".into()),
            cheaper: None,
        };
        Ok(watched.iter().map(by_triggers).collect())
    }
}

/// The file, and the connections that read it.
struct Database {
    path: PathBuf,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    readers: Vec<Connection>,
    /// The file these connections opened; another file under the same name leaves them looking at the old one.
    file: Option<FileId>,
    /// The schema at its version.
    schema: Option<(i64, Arc<Schema>)>,
}

impl Database {
    /// A connection that may write our own tables.
    fn writer(&self) -> Result<Connection> {
        let connection = self.connect()?;
        // In WAL mode a commit then writes without waiting for the disk, so the write lock is held for microseconds.
        // What it may lose with the machine is the pruning of changes, which is done again.
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(|e| failed(e, "opening the database"))?;
        // Checkpoints are the application's: the work of copying its pages back should not happen on our commits.
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .map_err(|e| failed(e, "opening the database"))?;
        Ok(connection)
    }

    /// A connection that cannot write, from the pool.
    fn reader(self: &Arc<Self>) -> Result<Reader> {
        let file = self.file_id()?;
        let pooled = {
            let mut idle = self.idle();
            if idle.file != Some(file) {
                *idle = Idle {
                    file: Some(file),
                    ..Idle::default()
                };
            }
            idle.readers.pop()
        };
        let connection = match pooled {
            Some(connection) => connection,
            None => {
                let connection = self.connect()?;
                computed::strict(&connection).map_err(|e| failed(e, "opening the database"))?;
                connection
                    .pragma_update(None, "query_only", 1)
                    .map_err(|e| failed(e, "opening the database"))?;
                connection
            }
        };
        Ok(Reader {
            connection: Some(connection),
            file,
            database: self.clone(),
        })
    }

    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)
            .map_err(|error| failed(error, "opening the database"))?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection
            .busy_timeout(LOCK_WAIT)
            .map_err(|error| failed(error, "opening the database"))?;
        Ok(connection)
    }

    fn file_id(&self) -> Result<FileId> {
        file_id(&self.path).map_err(|error| {
            Error::fatal(
                "database_missing",
                format!("cannot read the database file `{}`", self.path.display()),
            )
            .with_remedy("check the path, and that this user may read and write the file and its directory")
            .with_source(error)
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle
            .lock()
            .expect("no thread panics while it holds this lock")
    }
}

/// A file's identity: the same for as long as its name leads to the same file.
type FileId = (u64, u64);

#[cfg(unix)]
fn file_id(path: &Path) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(path: &Path) -> std::io::Result<FileId> {
    std::fs::metadata(path).map(|_| (0, 0))
}

/// A pooled connection that cannot write. Dropping it ends its transaction and gives it back.
struct Reader {
    connection: Option<Connection>,
    file: FileId,
    database: Arc<Database>,
}

impl Reader {
    fn connection(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("a reader has its connection until it is dropped")
    }

    /// The schema as this connection's transaction sees it.
    fn schema(&self) -> Result<Arc<Schema>> {
        let connection = self.connection();
        let version = schema::version(connection)?;
        if let Some((at, schema)) = &self.database.idle().schema
            && *at == version
        {
            return Ok(schema.clone());
        }
        let schema = Arc::new(Schema::read(connection)?);
        // Without a transaction the schema may have changed between the version and the tables: not kept then.
        if schema::version(connection)? == version {
            let mut idle = self.database.idle();
            if idle.file == Some(self.file) {
                idle.schema = Some((version, schema.clone()));
            }
        }
        Ok(schema)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if !connection.is_autocommit() && connection.execute_batch("rollback").is_err() {
            return;
        }
        let mut idle = self.database.idle();
        if idle.readers.len() < IDLE_READERS && idle.file == Some(self.file) {
            idle.readers.push(connection);
        }
    }
}

/// Runs SQLite's blocking calls off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::transient("shutting_down", "the runtime is shutting down")),
        },
    }
}

/// Our error for SQLite's: the fault by its code, SQLite's message without our statement.
fn failed(error: rusqlite::Error, doing: &str) -> Error {
    let text = match &error {
        rusqlite::Error::SqliteFailure(code, message) => message.clone().unwrap_or_else(|| code.to_string()),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let made = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::transient("database_busy", format!("the application holds a lock on the database: {text}"))
                .with_remedy("try again when its transaction has ended; `pragma journal_mode = wal` lets readers and writers work at once")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Error::fatal("read_only", text).with_remedy(
            "following needs to create triggers and a change table: let this user write the database file and its directory",
        ),
        Some(ErrorCode::NotADatabase) => Error::fatal("not_a_database", text)
            .with_remedy("check the path; an encrypted database cannot be read"),
        Some(ErrorCode::DatabaseCorrupt) => Error::fatal("database_corrupt", text)
            .with_remedy("run `pragma integrity_check` on it, and restore it from a backup"),
        Some(ErrorCode::CannotOpen) => Error::fatal("database_missing", text)
            .with_remedy("check the path, and that this user may read and write the file and its directory"),
        Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted) => {
            Error::transient("database_io", text)
        }
        _ if text.starts_with("no such table") || text.starts_with("no such column") => schema_changed(text),
        _ if text.starts_with("no such collation sequence") => Error::fatal("unknown_collation", text)
            .with_remedy("keys and join columns must use one of SQLite's own collations"),
        _ => Error::fatal("sqlite", text),
    };
    made.context(doing.to_owned()).with_source(error)
}

/// A table or column that a reader was asked for is not there. Repeated, because a migration may be under way; a table
/// that stays away is a fatal error of the feed.
fn schema_changed(message: impl Into<String>) -> Error {
    Error::transient("schema_changed", message)
        .with_remedy("finish the migration that changes this table, or correct the configuration")
}

/// A name as SQL spells it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names as SQL spells them, separated by commas; an expression as it is.
fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| Expression::of_column(name).map_or_else(|| quoted(name), |sql| format!("({sql})")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A table that the caller named, or the reason why it cannot be read.
fn table_of<'a>(schema: &'a Schema, name: &str) -> Result<&'a TableSchema> {
    schema
        .table(name)
        .ok_or_else(|| schema_changed(format!("no such table: `{name}`")))
}
