//! Moves changes to engines.
//!
//! [`Assembler`] knows which documents a row belongs to and builds documents from rows; the indexer takes touched
//! documents from the log, builds them, applies them to an engine, and settles. This crate names no engine and no
//! database: it sees the traits of `instep-core` alone.

mod alike;
mod assemble;
mod backoff;
mod batch;
mod breaker;
mod clock;
mod convert;
mod expand;
mod flight;
mod follow;
mod health;
mod indexer;
mod json;
mod known;
mod load;
pub mod metrics;
mod null;
mod once;
mod plan;
mod render;
mod route;
mod scan;
mod signal;
mod status;
mod tenure;
mod verify;

pub use assemble::{Assembler, Explained, Fetched, Reached, RootTree, RowRead, RowTree, RowsOf};
pub use clock::{Clock, SystemClock};
pub use expand::Expander;
pub use follow::{Follower, SourceDefinition};
pub use indexer::{Indexer, IndexerOptions, SetDefinition};
pub use null::NullEngine;
pub use once::{CaughtUp, Drained, caught_up, halted_collections};
pub use signal::SignalledLog;
pub use status::{
    Activity, HaltedCollection, Problem, Shutdown, SourceState, SourceStatus, definition_memo, remake_memo,
};
pub use tenure::DELETE_UNCONFIRMED;
pub use verify::{Difference, DifferenceKind, Verified, Verify, VerifyOptions};
