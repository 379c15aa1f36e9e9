//! The durable state of instep: change log, index sets, scans, retries and dead letters.
//!
//! One file for each kind of store. Nothing outside this crate writes its tables.

mod sqlite;

pub use sqlite::{Clock, SqliteLog};
