//! The state file: who may open it, how its connections are set up, and how it grows from version to version.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use instep_core::{Error, Result};
use rusqlite::{Connection, OpenFlags};

use super::failure::{REBUILD, corrupt, from_sqlite};

/// Marks a SQLite file as ours ("inst").
const APPLICATION_ID: i64 = 0x696e_7374;

/// Step n makes version n + 1 of version n. Steps that were released are never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("1.sql"),
    include_str!("2.sql"),
    include_str!("3.sql"),
];

/// Holds the state file for this process until it is dropped, also when the process is killed.
#[derive(Debug)]
pub(super) struct Held {
    // The file stays when the lock goes: removing it would race with the next holder.
    lock: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started has a copy of every open file until it
        // executes its program, and would hold the lock for that moment.
        let _ = self.lock.unlock();
    }
}

/// Takes the state file at `path` for this process. A lock of the file beside it rather than SQLite's exclusive mode,
/// so that `sqlite3` can still read the state while we run.
pub(super) fn hold(path: &Path) -> Result<Held> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside);
    let lock = open.map_err(|error| {
        Error::fatal(
            "state_unwritable",
            format!("cannot open the lock file `{}`: {error}", beside.display()),
        )
        .with_remedy("let this process write the directory of the state file; it must exist")
        .with_source(error)
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(Held { lock }),
        Err(TryLockError::WouldBlock) => Err(Error::fatal(
            "state_in_use",
            format!("another process uses the state file `{}`", path.display()),
        )
        .with_remedy("stop the other process, or give this one a state file of its own")),
        Err(TryLockError::Error(error)) => Err(Error::fatal(
            "state_unlockable",
            format!("cannot lock `{}`: {error}", beside.display()),
        )
        .with_remedy("put the state file on a file system that has file locks")
        .with_source(error)),
    }
}

/// The connection that writes, on a file that is ours, whole, and of this version.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path).map_err(from_sqlite)?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(from_sqlite)?;
    recognise(&conn, path)?;
    // WAL: readers never wait for the writer. FULL: a commit that was answered is on the disk.
    set_up(&conn).map_err(from_sqlite)?;
    migrate(&conn)?;
    Ok(conn)
}

/// A connection that only reads. The one that writes must be open.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(from_sqlite)?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(from_sqlite)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

fn set_up(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -8192)?;
    // A log that one large transaction made long is cut again at the next checkpoint.
    conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Refuses by name what is not a state file of ours, what is damaged, and what a newer version wrote; writes nothing.
fn recognise(conn: &Connection, path: &Path) -> Result<()> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let shown = path.display();
    let named = |error: rusqlite::Error| from_sqlite(error).context(format!("opening `{shown}`"));
    let tables: i64 = conn
        .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
        .map_err(named)?;
    let application = number("application_id").map_err(named)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(Error::fatal(
            "state_foreign",
            format!("`{shown}` is a database, but not a state file of instep"),
        )
        .with_remedy("name another path for the state file; this one was left as it is"));
    }
    let version = number("user_version").map_err(named)?;
    let known = MIGRATIONS.len();
    if version > known as i64 {
        return Err(Error::fatal(
            "state_newer",
            format!("`{shown}` has version {version}, this program knows versions up to {known}"),
        )
        .with_remedy(format!("run the newer program again, or {REBUILD}")));
    }
    let whole: String = conn
        .query_row("pragma quick_check(1)", [], |row| row.get(0))
        .map_err(named)?;
    if whole != "ok" {
        return Err(corrupt(format!("`{shown}` is damaged: {whole}")));
    }
    Ok(())
}

/// Brings the file to this version. Each step is one transaction together with its number.
fn migrate(conn: &Connection) -> Result<()> {
    let version: i64 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(from_sqlite)?;
    let done = usize::try_from(version).map_err(|_| corrupt("the state file has a negative version"))?;
    for (at, step) in MIGRATIONS.iter().enumerate().skip(done) {
        let next = at + 1;
        let sql = format!(
            "begin immediate; {step}; pragma application_id = {APPLICATION_ID}; pragma user_version = {next}; commit;"
        );
        conn.execute_batch(&sql).map_err(|error| {
            from_sqlite(error).context(format!("bringing the state file to version {next}"))
        })?;
    }
    Ok(())
}
