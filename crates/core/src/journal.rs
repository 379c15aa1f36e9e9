//! The journal: what happened lately to each document, for people. Bounded: what is old is forgotten.

use crate::key::DocKey;
use crate::log::{Outcome, Seq, Ticket};
use crate::name::{SetName, SourceName};

/// What the journal tells of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The journal goes back to here, in milliseconds since 1970; `None` while it is empty.
    pub since_ms: Option<i64>,
    /// What happened, the oldest first.
    pub events: Vec<Happened>,
}

/// Something that happened to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When it became durable, in milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub event: Event,
}

/// What can happen to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was touched, and is to be built under this number.
    Touched {
        /// The number.
        seq: Seq,
        /// Why.
        by: TouchedBy,
    },
    /// A build of it ended.
    Built {
        /// In this set.
        set: SetName,
        /// The touch behind it; `None` for a scan or a retry.
        seq: Option<Seq>,
        /// The ticket of its batch.
        ticket: Ticket,
        /// What became of it.
        outcome: Outcome,
        /// The failure's code, of a dead letter or a retry.
        code: Option<String>,
    },
    /// A person took it off the list of dead letters of this set.
    Discarded(SetName),
}

/// Why a document was touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TouchedBy {
    /// A change of this source, or a person who asked for it.
    Source(SourceName),
    /// A change that reaches many documents.
    FanOut,
    /// A row that it read changed while it was being built.
    Read,
}

/// A build that ended, as the owner of a set tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// The document.
    pub key: DocKey,
    /// The touch behind it.
    pub seq: Option<Seq>,
    /// The ticket of its batch.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Outcome,
    /// The failure's code, of a dead letter or a retry.
    pub code: Option<String>,
}
