//! The library's failures as ours: what each means for the indexer and what a person can do about it.

use std::io::{Error as IoError, ErrorKind};

use instep_core::{Error, Fault};
use tantivy::TantivyError;
use tantivy::directory::error::{OpenReadError, OpenWriteError};

/// A failure of the library while doing `what` with an index.
pub(crate) fn from_tantivy(error: TantivyError, what: &str) -> Error {
    let full = io_cause(&error).is_some_and(is_full);
    let made = match &error {
        _ if full => disk_full(what),
        TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::OpenDirectoryError(_)
        | TantivyError::SchemaError(_)
        | TantivyError::FieldNotFound(_) => {
            Error::fatal("index_unreadable", format!("{what}: the index cannot be read"))
                .with_remedy("drop the index and scan its collection again")
        }
        TantivyError::LockFailure(..) => Error::fatal(
            "index_locked",
            format!("{what}: another process writes to the index"),
        )
        .with_remedy("stop the other process, or give this one a directory of its own"),
        TantivyError::IoError(_) | TantivyError::OpenWriteError(_) | TantivyError::ErrorInThread(_) => {
            Error::transient(
                "index_io",
                format!("{what}: the index's files cannot be read or written: {error}"),
            )
            .with_remedy("look at the disk that holds the index: space, permissions, health")
        }
        TantivyError::AggregationError(_)
        | TantivyError::IndexAlreadyExists
        | TantivyError::InvalidArgument(_)
        | TantivyError::Poisoned
        | TantivyError::IndexBuilderMissingArgument(_)
        | TantivyError::SystemError(_)
        | TantivyError::InternalError(_)
        | TantivyError::DeserializeError(_) => {
            Error::fatal("index_failed", format!("{what}: the index library failed"))
                .with_remedy("report this; dropping the index and scanning its collection again may help")
        }
        _ => Error::fatal("index_failed", format!("{what}: the index library failed")),
    };
    made.with_source(error)
}

/// A failure of the file system while doing `what`.
pub(crate) fn from_io(error: IoError, what: &str) -> Error {
    let made = if is_full(&error) {
        disk_full(what)
    } else {
        Error::transient("index_io", format!("{what}: {}", error.kind()))
            .with_remedy("look at the disk that holds the index: space, permissions, health")
    };
    made.with_source(error)
}

/// Something that cannot happen has happened.
pub(crate) fn internal(message: impl Into<String>) -> Error {
    Error::new(Fault::Fatal, "internal", message).with_remedy("report this")
}

fn disk_full(what: &str) -> Error {
    Error::transient(
        "disk_full",
        format!("{what}: the disk that holds the index is full"),
    )
    .with_remedy("free some space; the work goes on by itself")
}

fn is_full(error: &IoError) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn io_cause(error: &TantivyError) -> Option<&IoError> {
    match error {
        TantivyError::IoError(io) => Some(io),
        TantivyError::OpenWriteError(OpenWriteError::IoError { io_error, .. })
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => Some(io_error),
        _ => None,
    }
}
