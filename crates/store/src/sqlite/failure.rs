//! What goes wrong inside the state file, and which fault that is.

use instep_core::{Error, Fault};
use rusqlite::ErrorCode;

/// Why a job did not do its work.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// The call is refused.
    Refused(Error),
}

/// The result of a job.
pub(super) type Done<T> = Result<T, Failure>;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Refused(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sqlite(error) => from_sqlite(error),
            Failure::Refused(error) => error,
        }
    }
}

/// What to do about a state file that cannot be used as it is.
pub(super) const REBUILD: &str = "move the file and its -wal and -shm files away and start again: everything in it \
                                  can be built again by a scan";

/// A state file that holds what we never wrote.
pub(super) fn corrupt(what: impl Into<String>) -> Error {
    Error::fatal("state_corrupt", what).with_remedy(REBUILD)
}

/// The fault of a failure of SQLite. Its messages name tables and columns of ours, never a document.
pub(super) fn from_sqlite(error: rusqlite::Error) -> Error {
    let said = error.to_string();
    let made = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::transient(
            "state_busy",
            format!("another program holds a lock on the state file: {said}"),
        )
        .with_remedy("end the transaction that another program has open on the state file"),
        Some(ErrorCode::DiskFull) => Error::transient("state_full", "the disk of the state file is full")
            .with_remedy("free space on the disk; the work goes on by itself"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            corrupt(format!("the state file is damaged: {said}"))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Error::fatal(
            "state_unwritable",
            format!("the state file cannot be opened or written: {said}"),
        )
        .with_remedy("let this process read and write the state file and its directory"),
        Some(ErrorCode::SystemIoFailure) => Error::fatal(
            "state_io",
            format!("the disk failed under the state file: {said}"),
        )
        .with_remedy("look at the disk, then start again: what was acknowledged is in the file"),
        _ => Error::fatal("state_failed", format!("the state file: {said}")),
    };
    made.with_source(error)
}

/// The same failure, for another caller whose work it undid.
pub(super) fn repeated(error: &Error) -> Error {
    let (fault, code): (Fault, &'static str) = (error.fault(), error.code());
    let again = Error::new(fault, code, error.to_string());
    match error.remedy() {
        Some(remedy) => again.with_remedy(remedy),
        None => again,
    }
}
