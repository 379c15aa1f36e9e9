//! Postgres as a source, by logical replication.
//!
//! Changes come from a slot by the plugin `pgoutput` (`postgres/stream.rs`) and are handed over when their transaction is
//! visible to readers (`postgres/gate.rs`); rows are read in snapshots of their own (`postgres/read.rs`).
//!
//! Guarantees: nothing is ever written to a table, nothing is installed: a publication and a slot are all there is, and
//! a person with the rights may make both. The slot is acknowledged as soon as changes are durable elsewhere, so the
//! database keeps no WAL for a slow engine.

mod check;
mod computed;
mod connect;
mod feed;
mod followed;
mod gate;
mod lsn;
mod pgoutput;
mod position;
mod publication;
mod read;
mod schema;
mod slot;
mod stream;
mod tls;
mod value;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use instep_core::{
    ChangeFeed, Error, Finding, Former, Position, Result, RowReader, Source, SourceName, Watched,
};

use self::connect::{Endpoint, Session};
use self::schema::Schema;

pub use self::connect::redact;

/// Idle sessions kept for readers.
const IDLE_SESSIONS: usize = 8;

/// Where a Postgres database is, and what may be used of it.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Where rows are read: `postgres://user@host:port/database?sslmode=…`, as libpq reads it.
    pub url: String,
    /// Where changes are streamed from and set up, when `url` is a pooler or a replica.
    pub stream_url: Option<String>,
    /// The password, for both; wins over the URLs'.
    pub password: Option<String>,
    /// A file with the password, read again for each connection; wins over all others.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the authorities that signed the server's certificate, or `system` for the machine's own.
    pub root_certificate: Option<PathBuf>,
    /// The replication slot; `instep_<source>` unless named.
    pub slot: Option<String>,
    /// The publication; `instep_<source>` unless named.
    pub publication: Option<String>,
}

/// A Postgres database, followed and read.
pub struct PostgresSource {
    database: Arc<Database>,
}

impl PostgresSource {
    /// The database of these options. What is wrong with them is refused by name; nothing is connected yet.
    pub fn new(name: SourceName, options: PostgresOptions) -> Result<Self> {
        let password = options.password.as_deref();
        let root = options.root_certificate.as_deref();
        let file = &options.password_file;
        let read = Endpoint::parse(&options.url, password, root)?.with_password_file(file.clone());
        let stream = match &options.stream_url {
            Some(url) => Endpoint::parse(url, password, root)?.with_password_file(file.clone()),
            None => read.clone(),
        };
        let ours = || {
            let mut made = format!("instep_{name}").to_lowercase();
            made.retain(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            made.truncate(63);
            made.replace('-', "_")
        };
        let database = Arc::new(Database {
            read,
            stream,
            slot: slot::name(options.slot.unwrap_or_else(ours))?,
            publication_is_ours: options.publication.is_none(),
            publication: options.publication.unwrap_or_else(ours),
            name,
            idle: Mutex::default(),
            schema: Mutex::default(),
            computed: Mutex::default(),
            waiting: Mutex::default(),
            released: Mutex::default(),
            reading: Mutex::default(),
            awaited: Mutex::default(),
        });
        Ok(PostgresSource { database })
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &SourceName {
        &self.database.name
    }

    /// The statements that make the publication and the slot, in this order, for a person with the rights; run by us
    /// when following starts, where our role may.
    pub fn set_up_sql(&self, watched: &[Watched]) -> Vec<String> {
        slot::set_up_sql(&self.database, watched)
    }

    /// Those of the statements that are still needed, by what the database holds now; a publication that is there is
    /// completed. Nothing is changed.
    pub async fn missing_set_up_sql(&self, watched: &[Watched]) -> Result<Vec<String>> {
        slot::missing_set_up_sql(&self.database, watched).await
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn follow(&self, watched: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
        let feed = feed::follow(&self.database, watched, from).await?;
        Ok(Box::new(feed))
    }

    async fn head(&self) -> Result<Option<Position>> {
        feed::head(&self.database).await
    }

    fn reached(&self, position: &Position, head: &Position) -> bool {
        feed::reached(position, head)
    }

    fn reader(&self) -> &dyn RowReader {
        self
    }

    async fn check(&self, watched: &[Watched]) -> Result<Vec<Finding>> {
        check::check(&self.database, watched).await
    }

    async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>> {
        check::former(&self.database, watched).await
    }

    fn waiting(&self) -> Option<Finding> {
        self.database.waiting().clone()
    }
}

/// What all parts of a source share.
struct Database {
    name: SourceName,
    /// Where rows are read.
    read: Endpoint,
    /// Where changes come from.
    stream: Endpoint,
    slot: String,
    publication: String,
    /// Nobody named another: it is ours to add tables to.
    publication_is_ours: bool,
    /// Sessions to `read` that nobody uses now, outside any transaction.
    idle: Mutex<Vec<Session>>,
    /// The tables as they were when they were last read.
    schema: Mutex<Option<Arc<Schema>>>,
    /// Expressions that were asked for: they stand among their tables' columns.
    computed: Mutex<computed::Wanted>,
    /// What following waits for now.
    waiting: Mutex<Option<Finding>>,
    /// The highest commit that was handed over: a replica must have replayed past it before it is read.
    released: Mutex<lsn::Lsn>,
    /// The furthest head that somebody asked for: a feed says at once when it has come as far.
    awaited: Mutex<lsn::Lsn>,
    /// What readers learnt about the server.
    reading: Mutex<read::Reading>,
}

impl Database {
    /// A session for reading, from the pool.
    async fn session(self: &Arc<Self>) -> Result<Pooled> {
        while let Some(session) = self.idle().pop() {
            if !session.is_closed() {
                return Ok(Pooled::new(self, session));
            }
        }
        Ok(Pooled::new(self, self.read.connect().await?))
    }

    /// The tables of the database, read anew when they are not known.
    async fn schema(self: &Arc<Self>) -> Result<Arc<Schema>> {
        if let Some(known) = self.schema_slot().clone() {
            return Ok(known);
        }
        let session = self.session().await?;
        let wanted = locked(&self.computed).clone();
        let read = Arc::new(Schema::read(&session, &wanted).await?);
        session.give_back();
        *self.schema_slot() = Some(read.clone());
        Ok(read)
    }

    /// Forgets the tables: the next call of [`Self::schema`] reads them again.
    fn forget_schema(&self) {
        *self.schema_slot() = None;
    }

    fn schema_slot(&self) -> MutexGuard<'_, Option<Arc<Schema>>> {
        locked(&self.schema)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        locked(&self.idle)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Finding>> {
        locked(&self.waiting)
    }

    fn released(&self) -> MutexGuard<'_, lsn::Lsn> {
        locked(&self.released)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}

/// A session from the pool. Dropped without [`Pooled::give_back`] it is closed: what it was doing is unknown.
struct Pooled {
    database: Arc<Database>,
    session: Option<Session>,
}

impl Pooled {
    fn new(database: &Arc<Database>, session: Session) -> Self {
        Pooled {
            database: database.clone(),
            session: Some(session),
        }
    }

    /// Back to the pool; only outside a transaction.
    fn give_back(mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let mut idle = self.database.idle();
        if idle.len() < IDLE_SESSIONS && !session.is_closed() {
            idle.push(session);
        }
    }
}

impl std::ops::Deref for Pooled {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("it is there until it is given back")
    }
}

/// A name as SQL spells it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL spells it, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Nothing can be done with a table that is not there.
fn no_such_table(name: &str) -> Error {
    Error::transient("schema_changed", format!("no such table: `{name}`"))
        .with_remedy("finish the migration that changes this table, or correct the configuration")
}
