//! Following: a thread that polls `data_version`, reads the change table in order, and forgets what was acknowledged.
//!
//! A position is the number of a row of the change table, with the random number that was drawn for that row. Rows
//! become visible when their transaction commits, and SQLite has one writer, so their order is the order of commits;
//! numbers that were rolled back leave gaps. The row at the position itself is never removed: when it is missing,
//! somebody else removed rows that we had not read, and every watched table is reported as a whole; when its random
//! number differs, the database went another way (a backup was restored and written to).
//!
//! The thread owns one connection. It holds no transaction while it waits, and batches are copied before they are
//! handed over. It hands over one batch at a time: when nobody takes it, the changes stay in the change table.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::mpsc;

use instep_core::{
    Change, ChangeBatch, ChangeFeed, Error, Key, Position, Result, RowChange, RowKey, TableName, Watched,
};

use super::capture::{self, Capture, Missed, State};
use super::schema::{self, Schema};
use super::{Database, FileId, LOCK_WAIT, failed, value};

/// Rows in a batch. With a rollback journal a read keeps the application from committing: fewer then.
const BATCH: i64 = 5_000;
const BATCH_ROLLBACK: i64 = 500;

/// How often `data_version` is looked at: for a while after a change, then, and after a minute.
const POLL_ACTIVE: Duration = Duration::from_millis(1);
const POLL_IDLE: Duration = Duration::from_millis(3);
const POLL_RESTING: Duration = Duration::from_millis(5);
const ACTIVE_FOR: Duration = Duration::from_millis(500);
const RESTING_AFTER: Duration = Duration::from_mins(1);

/// Acknowledged rows that stay, so that a state that was restored, or a second reader, need not scan.
const RETAINED: i64 = 1_000;

/// Rows removed in one transaction, and the quiet time it waits for. Beyond `CROWDED` rows it waits no longer.
const PRUNED_AT_ONCE: i64 = 500;
const QUIET: Duration = Duration::from_millis(100);
const PRUNE_PAUSE: Duration = Duration::from_millis(10);
const CROWDED: i64 = 50_000;

/// How long a watched table may be away: a migration that is not one transaction drops it before it renames the new
/// one.
const GRACE: Duration = Duration::from_secs(5);

/// How long we keep away from a rollback journal that is in use; a journal left by a crash is resolved by reading.
const KEEP_AWAY: Duration = Duration::from_secs(1);

/// How long errors that may pass are swallowed before the caller learns of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates what is missing, verifies `from`, and starts the thread.
pub(super) fn follow(
    database: &Arc<Database>,
    watched: &[Watched],
    from: Option<&Position>,
) -> Result<SqliteFeed> {
    let file = database.file_id()?;
    let mut connection = database.writer()?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| failed(error, "starting to follow"))?;
    let identity = capture::identity(&transaction)?;
    if let Some(from) = from
        && identity.as_ref() != Some(&from.identity)
    {
        return Err(source_changed());
    }
    capture::create(&transaction)?;
    let identity = capture::identity(&transaction)?.expect("it was just created");
    let cursor = match from {
        Some(from) => {
            let cursor = Cursor::parse(&from.at)?;
            cursor.verify(&transaction)?;
            Some(cursor)
        }
        None => None,
    };
    let missed = match cursor {
        Some(_) => Missed::Report,
        None => Missed::Ignore,
    };
    let captures = capture::install(&transaction, watched, missed)?;
    capture::remove_others(&transaction, watched)?;
    let cursor = match cursor {
        Some(cursor) => cursor,
        None => Cursor::mark(&transaction)?,
    };
    let schema_version = schema::version(&transaction)?;
    transaction
        .commit()
        .map_err(|error| failed(error, "starting to follow"))?;

    // From here on the thread repeats what meets a lock; it must not sit in a wait when it is asked to stop.
    connection
        .busy_timeout(Duration::ZERO)
        .map_err(|error| failed(error, "starting to follow"))?;
    let shared = Arc::new(Shared {
        acknowledged: AtomicI64::new(0),
        stop: AtomicBool::new(false),
    });
    // One batch waits while the caller works on another; a full channel stops the thread from reading on.
    let (sender, batches) = mpsc::channel(1);
    if from.is_none() {
        // The caller has to know where it began, also when nothing ever changes.
        let began = ChangeBatch {
            changes: Vec::new(),
            upto: cursor.position(&identity),
            committed_ms: None,
        };
        sender.try_send(Ok(began)).expect("a new channel has room");
    }
    let follower = Follower {
        connection,
        database: database.clone(),
        file,
        identity: identity.clone(),
        watched: watched.to_vec(),
        captures,
        schema_version,
        complete: true,
        cursor,
        pruned: 0,
        shared: shared.clone(),
        sender,
    };
    let thread = thread::Builder::new()
        .name("instep-sqlite-feed".into())
        .spawn(move || follower.run())
        .map_err(|error| Error::transient("no_thread", "cannot start a thread").with_source(error))?;
    Ok(SqliteFeed {
        identity,
        batches,
        shared,
        thread: Some(thread),
    })
}

/// The changes of one database. Dropping it stops the thread.
pub(super) struct SqliteFeed {
    identity: String,
    batches: mpsc::Receiver<Result<ChangeBatch>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    acknowledged: AtomicI64,
    stop: AtomicBool,
}

#[async_trait]
impl ChangeFeed for SqliteFeed {
    async fn next(&mut self) -> Result<ChangeBatch> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(Error::fatal(
                "feed_ended",
                "the feed ended with an error that was already reported",
            )
            .with_remedy("mend what it named, then start to follow again")),
        }
    }

    async fn acknowledge(&mut self, upto: &Position) -> Result<()> {
        if upto.identity != self.identity {
            return Err(source_changed());
        }
        let cursor = Cursor::parse(&upto.at)?;
        self.shared.acknowledged.fetch_max(cursor.seq, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for SqliteFeed {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.batches.close();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It stops within one statement. A panic there was already printed, and ended the stream.
            let _ = thread.join();
        }
    }
}

fn source_changed() -> Error {
    Error::fatal(
        "source_changed",
        "the database is not the one that was followed: it has another identity",
    )
    .with_remedy("point the source at the former database, or scan this one, from both sides: run `instep rescan <source>`")
}

/// A position: a row of the change table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    seq: i64,
    nonce: i64,
}

impl Cursor {
    fn parse(at: &str) -> Result<Self> {
        let parsed = || {
            let (seq, nonce) = at.split_once(':')?;
            Some(Cursor {
                seq: seq.parse().ok()?,
                nonce: u64::from_str_radix(nonce, 16).ok()?.cast_signed(),
            })
        };
        parsed().ok_or_else(|| {
            Error::fatal("bad_position", "the position is not one of a SQLite source")
                .with_remedy("scan again, from both sides: run `instep rescan <source>`")
        })
    }

    /// A new row that only marks where we are.
    fn mark(connection: &Connection) -> Result<Self> {
        connection
            .query_row(
                "insert into instep_change (capture) values (?1) returning seq, nonce",
                [capture::MARK],
                |row| {
                    Ok(Cursor {
                        seq: row.get(0)?,
                        nonce: row.get(1)?,
                    })
                },
            )
            .map_err(|error| failed(error, "marking the position"))
    }

    /// Whether what follows this position can be read from the change table.
    fn verify(self, connection: &Connection) -> Result<Continuity> {
        let read = || -> rusqlite::Result<(Option<i64>, i64)> {
            let mut row = connection.prepare_cached("select nonce from instep_change where seq = ?1")?;
            let nonce = row.query_row([self.seq], |row| row.get(0)).optional()?;
            if nonce == Some(self.nonce) {
                return Ok((nonce, self.seq));
            }
            Ok((nonce, last_seq(connection)?))
        };
        let (nonce, last) = read().map_err(|error| failed(error, "verifying the position"))?;
        if last < self.seq {
            return Err(Error::fatal(
                "position_ahead",
                "the position is ahead of the database, which was probably restored from a backup",
            )
            .with_remedy("scan again, from both sides: run `instep rescan <source>`"));
        }
        match nonce {
            Some(nonce) if nonce == self.nonce => Ok(Continuity::Unbroken),
            Some(_) => Err(Error::fatal(
                "source_changed",
                "the database went another way after this position: it was restored from a backup and written to",
            )
            .with_remedy("scan again, from both sides: run `instep rescan <source>`")),
            None => Ok(Continuity::Broken),
        }
    }

    fn position(self, identity: &str) -> Position {
        Position {
            identity: identity.to_owned(),
            at: format!("{}:{:x}", self.seq, self.nonce.cast_unsigned()),
        }
    }
}

/// The largest number ever drawn for a row of the change table.
fn last_seq(connection: &Connection) -> rusqlite::Result<i64> {
    let mut statement =
        connection.prepare_cached("select seq from sqlite_sequence where name = 'instep_change'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Whether a connection's view holds everything up to a position.
pub(super) fn holds(connection: &Connection, at_least: &Position) -> Result<bool> {
    let cursor = Cursor::parse(&at_least.at)?;
    if capture::identity(connection)?.as_ref() != Some(&at_least.identity) {
        return Err(source_changed());
    }
    let last = last_seq(connection).map_err(|error| failed(error, "opening a snapshot"))?;
    Ok(last >= cursor.seq)
}

/// The position of the newest change; `None` before the change table exists.
pub(super) fn head(database: &Arc<Database>) -> Result<Option<Position>> {
    let reader = database.reader()?;
    let Some(identity) = capture::identity(reader.connection())? else {
        return Ok(None);
    };
    let seq =
        last_seq(reader.connection()).map_err(|error| failed(error, "looking for the newest change"))?;
    // Whoever compares with it looks at the number alone: the row itself may be pruned already.
    Ok(Some(Cursor { seq, nonce: 0 }.position(&identity)))
}

/// Whether a position is that of a change as new as a head's, or newer.
pub(super) fn reached(position: &Position, head: &Position) -> bool {
    let seq = |position: &Position| Cursor::parse(&position.at).map(|cursor| cursor.seq).ok();
    position.identity == head.identity && seq(position) >= seq(head)
}

enum Continuity {
    Unbroken,
    /// Rows after the position were removed before we read them.
    Broken,
}

/// What a round of the thread leads to.
enum Round {
    /// Something was handed over, or there is more to read.
    Again,
    /// Nothing new.
    Nothing,
    /// The feed was dropped.
    Stopped,
}

struct Follower {
    connection: Connection,
    database: Arc<Database>,
    file: FileId,
    identity: String,
    watched: Vec<Watched>,
    captures: HashMap<i64, Capture>,
    schema_version: i64,
    /// Whether all triggers were in place when the schema had this version.
    complete: bool,
    cursor: Cursor,
    /// Rows before this one were removed.
    pruned: i64,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Result<ChangeBatch>>,
}

impl Follower {
    fn run(mut self) {
        let mut seen: Option<i64> = None;
        let mut last_change = Instant::now();
        let mut last_prune = Instant::now();
        let mut last_look = Instant::now();
        let mut failing: Option<Instant> = None;
        let mut vanished: Option<Instant> = None;
        let mut avoided: Option<Instant> = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let idle = last_change.elapsed();
            let round = match self.avoid(&mut avoided) {
                true => Ok(Round::Nothing),
                false => self.round(&mut seen, &mut vanished),
            };
            match round {
                Ok(Round::Stopped) => return,
                Ok(Round::Again) => {
                    failing = None;
                    last_change = Instant::now();
                    continue;
                }
                Ok(Round::Nothing) => failing = None,
                Err(error) if error.is_transient() => {
                    seen = None;
                    let since = *failing.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        failing = None;
                        if self.sender.blocking_send(Err(error)).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => {
                    let _ = self.sender.blocking_send(Err(error));
                    return;
                }
            }
            if last_prune.elapsed() >= PRUNE_PAUSE && (idle >= QUIET || self.backlog() > CROWDED) {
                last_prune = Instant::now();
                self.prune();
            }
            if last_look.elapsed() > QUIET {
                last_look = Instant::now();
                match self.reopen_when_replaced() {
                    Ok(false) => {}
                    Ok(true) => seen = None,
                    Err(error) => {
                        tracing::warn!(%error, "another file has taken the database's place and cannot be opened yet");
                    }
                }
            }
            let poll = match idle {
                idle if idle < ACTIVE_FOR => POLL_ACTIVE,
                idle if idle < RESTING_AFTER => POLL_IDLE,
                _ => POLL_RESTING,
            };
            thread::park_timeout(poll);
        }
    }

    /// With a rollback journal in use, a transaction is under way: nothing new is committed, and a read of ours could
    /// make its commit fail.
    fn avoid(&self, since: &mut Option<Instant>) -> bool {
        if !journal_in_use(&self.database.path) {
            *since = None;
            return false;
        }
        since.get_or_insert_with(Instant::now).elapsed() < KEEP_AWAY
    }

    /// One look, and what there is to hand over.
    fn round(&mut self, seen: &mut Option<i64>, vanished: &mut Option<Instant>) -> Result<Round> {
        let version = self.data_version()?;
        let expired = vanished.is_some_and(|since| since.elapsed() > GRACE);
        if *seen == Some(version) && !expired {
            return Ok(Round::Nothing);
        }
        let schema_version = schema::version(&self.connection)?;
        if schema_version != self.schema_version || !self.complete {
            self.restore(vanished)?;
        }
        let Some(batch) = self.read()? else {
            *seen = Some(version);
            return Ok(Round::Nothing);
        };
        match self.sender.blocking_send(Ok(batch)) {
            Ok(()) => Ok(Round::Again),
            Err(_) => Ok(Round::Stopped),
        }
    }

    fn data_version(&self) -> Result<i64> {
        let read = || {
            let mut statement = self.connection.prepare_cached("pragma data_version")?;
            statement.query_row([], |row| row.get(0))
        };
        read().map_err(|error| failed(error, "looking for changes"))
    }

    /// The schema has changed: the triggers are put back where a migration lost them.
    fn restore(&mut self, vanished: &mut Option<Instant>) -> Result<()> {
        self.complete = false;
        self.verify_identity()?;
        let version = schema::version(&self.connection)?;
        let schema = Schema::read(&self.connection)?;
        let away = match capture::state(&self.connection, &schema, &self.watched)? {
            State::InPlace => {
                self.captures = capture::captures(&self.connection, &schema, &self.watched)?;
                self.schema_version = version;
                None
            }
            State::Damaged => match self.put_back() {
                Ok(()) => None,
                // It went away since the look above.
                Err(error) if matches!(error.code(), capture::TABLE_MISSING | capture::COLUMN_MISSING) => {
                    Some(error)
                }
                Err(error) => return Err(error),
            },
            State::Vanished(error) => Some(error),
        };
        if let Some(error) = away {
            let since = *vanished.get_or_insert_with(Instant::now);
            return match since.elapsed() > GRACE {
                true => Err(error),
                false => Ok(()),
            };
        }
        self.complete = true;
        *vanished = None;
        Ok(())
    }

    /// In the transaction that puts triggers back, each table concerned is noted as a change: whatever it missed was
    /// committed before.
    fn put_back(&mut self) -> Result<()> {
        let putting = |error| failed(error, "putting triggers back");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(putting)?;
        let captures = capture::install(&transaction, &self.watched, Missed::Report)?;
        let version = schema::version(&transaction)?;
        transaction.commit().map_err(putting)?;
        self.captures = captures;
        self.schema_version = version;
        Ok(())
    }

    fn verify_identity(&self) -> Result<()> {
        match capture::identity(&self.connection)? {
            Some(identity) if identity == self.identity => Ok(()),
            Some(_) => Err(source_changed()),
            None => Err(
                Error::fatal("change_table_missing", "the change table was dropped")
                    .with_remedy("scan the source again; its change table is made anew"),
            ),
        }
    }

    /// Goes on with the file that now has the database's name. What it is, the next round finds out.
    fn reopen_when_replaced(&mut self) -> Result<bool> {
        let Ok(file) = self.database.file_id() else {
            return Ok(false);
        };
        if file == self.file {
            return Ok(false);
        }
        let connection = self.database.writer()?;
        connection
            .busy_timeout(Duration::ZERO)
            .map_err(|error| failed(error, "opening the database"))?;
        self.connection = connection;
        self.file = file;
        self.complete = false;
        Ok(true)
    }

    /// The changes after the cursor, which moves behind them; `None` when there are none.
    fn read(&mut self) -> Result<Option<ChangeBatch>> {
        let limit = match rollback_journal(&self.connection)? {
            true => BATCH_ROLLBACK,
            false => BATCH,
        };
        // One view for both: rows removed in between would go unnoticed.
        let reading = |error| failed(error, "reading the change table");
        let transaction = self.connection.unchecked_transaction().map_err(reading)?;
        let continuity = self.cursor.verify(&transaction)?;
        let changes = self.read_rows(limit).map_err(reading)?;
        drop(transaction);
        if let Continuity::Broken = continuity {
            return self.missed().map(Some);
        }
        let Some((changes, cursor)) = changes else {
            return Ok(None);
        };
        self.cursor = cursor;
        Ok(Some(self.batch(changes)))
    }

    /// Somebody removed rows we had not read: all watched tables count as touched, and we go on from the head.
    fn missed(&mut self) -> Result<ChangeBatch> {
        self.verify_identity()?;
        tracing::warn!(
            "rows of the change table were removed before they were read: all watched tables are scanned"
        );
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failed(error, "marking the position"))?;
        let cursor = Cursor::mark(&transaction)?;
        transaction
            .commit()
            .map_err(|error| failed(error, "marking the position"))?;
        self.cursor = cursor;
        let tables = self
            .watched
            .iter()
            .map(|watched| Change::Table(watched.table.clone()));
        Ok(self.batch(tables.collect()))
    }

    fn batch(&self, changes: Vec<Change>) -> ChangeBatch {
        ChangeBatch {
            changes,
            upto: self.cursor.position(&self.identity),
            committed_ms: None,
        }
    }

    fn read_rows(&self, limit: i64) -> rusqlite::Result<Option<(Vec<Change>, Cursor)>> {
        let connection = &self.connection;
        let mut statement =
            connection.prepare_cached("select * from instep_change where seq > ?1 order by seq limit ?2")?;
        let mut rows = statement.query(params![self.cursor.seq, limit])?;
        let mut changes = Vec::new();
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some(Cursor {
                seq: row.get(0)?,
                nonce: row.get(2)?,
            });
            match row.get(1)? {
                capture::MARK => {}
                capture::WHOLE_TABLE => {
                    let table = TableName::from(row.get::<_, String>(3)?);
                    if self.watches(&table) {
                        changes.push(Change::Table(table));
                    }
                }
                id => changes.extend(
                    self.captures
                        .get(&id)
                        .map(|capture| image(capture, row))
                        .transpose()?,
                ),
            }
        }
        Ok(last.map(|last| (changes, last)))
    }

    fn watches(&self, table: &TableName) -> bool {
        self.watched.iter().any(|watched| watched.table == *table)
    }

    fn backlog(&self) -> i64 {
        self.shared.acknowledged.load(Ordering::Relaxed) - RETAINED - self.pruned
    }

    /// Removes some of what was acknowledged. A lock of the application's is no matter: it is tried again.
    fn prune(&mut self) {
        if self.backlog() <= 0 {
            return;
        }
        let before = self.shared.acknowledged.load(Ordering::Relaxed) - RETAINED;
        let removed = self.connection.execute(
            "delete from instep_change where seq in
               (select seq from instep_change where seq < ?1 order by seq limit ?2)",
            params![before, PRUNED_AT_ONCE],
        );
        match removed {
            Ok(removed) if (removed as i64) < PRUNED_AT_ONCE => self.pruned = before,
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %failed(error, "pruning the change table"), "pruned later"),
        }
    }
}

/// A captured image. The key's columns are among the image's columns too: joins use them.
fn image(capture: &Capture, row: &rusqlite::Row<'_>) -> rusqlite::Result<Change> {
    let mut columns = Vec::with_capacity(capture.columns.len());
    for (at, (name, kind)) in capture.columns.iter().zip(&capture.kinds).enumerate() {
        columns.push((name.clone(), value::read(row.get_ref(at + 3)?, *kind)));
    }
    let key: Vec<_> = columns[..capture.key]
        .iter()
        .map(|(_, value)| value.clone())
        .collect();
    Ok(Change::Row(RowChange {
        row: RowKey {
            table: capture.table.clone(),
            key: Key::new(key),
        },
        columns,
        former_unknown: false,
    }))
}

/// Whether the database keeps a rollback journal, so that readers and writers wait for each other.
pub(super) fn rollback_journal(connection: &Connection) -> Result<bool> {
    let read = || {
        let mut statement = connection.prepare_cached("pragma journal_mode")?;
        statement.query_row([], |row| row.get::<_, String>(0))
    };
    let mode = read().map_err(|error| failed(error, "reading the journal mode"))?;
    Ok(!mode.eq_ignore_ascii_case("wal"))
}

/// Whether a rollback journal says that a transaction is under way. In WAL mode there is none, and a persistent one
/// says nothing: it is taken for in use at most for [`KEEP_AWAY`].
fn journal_in_use(path: &Path) -> bool {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    std::fs::metadata(journal).is_ok_and(|metadata| metadata.len() > 0)
}

/// Gives a transaction of the application's that is under way a moment to finish before a longer read begins.
pub(super) fn let_writer_finish(path: &Path) {
    let deadline = Instant::now() + LOCK_WAIT / 100;
    while journal_in_use(path) && Instant::now() < deadline {
        thread::park_timeout(POLL_ACTIVE);
    }
}
