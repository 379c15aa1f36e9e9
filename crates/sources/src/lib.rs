//! Sources: where rows live, and how they are followed. One file or folder for each source, with the same function
//! names in each.
//!
//! A source delivers every committed change of a followed table at least once, reads rows in one snapshot, and
//! enumerates keys. It never writes the user's tables. What a change means for documents is left to the router.

pub mod postgres;
pub mod sqlite;

pub use postgres::{PostgresOptions, PostgresSource};
pub use sqlite::SqliteSource;
