//! What a person paused: collections, or all collections of a source.

use std::fmt;

use serde::Serialize;

use crate::name::{CollectionName, SourceName};

/// What can be paused. Changes are taken into the log all the same; no document is built until it is resumed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Pausable {
    /// All collections that live in a source.
    Source(SourceName),
    /// One collection.
    Collection(CollectionName),
}

/// Something that is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// What.
    #[serde(flatten)]
    pub what: Pausable,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

impl Paused {
    /// Whether this keeps a collection, which lives in this source, from being indexed.
    pub fn holds(&self, collection: &CollectionName, source: &SourceName) -> bool {
        match &self.what {
            Pausable::Source(name) => name == source,
            Pausable::Collection(name) => name == collection,
        }
    }
}

impl fmt::Display for Pausable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pausable::Source(name) => write!(f, "source {name}"),
            Pausable::Collection(name) => write!(f, "collection {name}"),
        }
    }
}
