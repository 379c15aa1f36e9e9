//! Dead letters: documents that cannot be built or indexed, as people list, retry and discard them.

use serde::Serialize;

use crate::log::Trouble;
use crate::name::CollectionName;

/// A dead letter as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The document, and why it failed.
    pub trouble: Trouble,
    /// Since when the document is in trouble, retries before it was given up included, in milliseconds since 1970.
    /// `None` where a version wrote it that did not write down times.
    pub since_ms: Option<i64>,
    /// When it failed last; `None` as above.
    pub last_ms: Option<i64>,
}

/// Which dead letters are meant: those that meet every condition that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// With this code.
    pub code: Option<String>,
    /// Of this collection.
    pub collection: Option<CollectionName>,
    /// In trouble since before this moment, in milliseconds since 1970. One whose time is not known is older than all.
    pub before_ms: Option<i64>,
}

/// The dead letters of a set that failed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadReason {
    /// The failure's stable code.
    pub code: String,
    /// How many.
    pub count: u64,
    /// Since when the oldest is in trouble, as [`DeadLetter::since_ms`].
    pub since_ms: Option<i64>,
}
