//! The vocabulary and the decisions of instep: what a change, a collection, a document, a query is; which traits a
//! source, a log, a builder and an engine fulfil; who may read what.
//!
//! No IO, no runtime, no clock, no randomness: time and ids come in as arguments. Every other crate depends on this
//! one; this one depends on none of them. Not covered by semantic versioning: users depend on the crate `instep`.

pub mod builder;
pub mod change;
pub mod collection;
pub mod date;
pub mod dead;
pub mod decimal;
pub mod document;
pub mod engine;
pub mod error;
pub mod expression;
pub mod field;
pub mod index_set;
pub mod journal;
pub mod key;
pub mod language;
pub mod log;
pub mod mapping;
pub mod name;
pub mod pause;
pub mod policy;
pub mod query;
pub mod reading;
pub mod request;
pub mod source;
pub mod source_filter;
pub mod value;

pub use builder::{Builder, Built};
pub use change::{Change, ChangeBatch, Fetch, Page, Position, RowChange, Rows, Watched};
pub use collection::{
    Collection, Condition, Content, Field, Node, NodeId, OrderBy, Purge, ReadersFrom, ReadersRule,
};
pub use dead::{DeadFilter, DeadLetter, DeadReason};
pub use document::{Document, Reader, Readers, Stored, Visibility};
pub use engine::{Applied, Capabilities, Cursor, Engine, Ensured, Search, Settings, Walked, Write};
pub use error::{Error, Fault, Result, ResultExt};
pub use expression::Expression;
pub use field::FieldType;
pub use index_set::{Counts, SetState, SetStatus};
pub use journal::{Event, Happened, Landed, TouchedBy, Trace};
pub use key::{DocId, DocKey, Key, RowKey};
pub use language::{Languages, Spoken};
pub use log::{
    Appended, ChangeLog, Entry, Epoch, FanOut, Outcome, Owned, Placed, Reads, Scan, Seq, Settlement, Side,
    Taken, Ticket, Touch, Trouble,
};
pub use mapping::{Mapping, Resolved};
pub use name::{ClusterName, CollectionName, IndexName, Language, SetName, SourceName, TableName};
pub use pause::{Pausable, Paused};
pub use policy::{Authorized, Grant, Policy, Principal, Scopes};
pub use request::{GetRequest, SearchRequest, SearchResponse, SourceFilter, TrackTotalHits};
pub use source::{
    ChangeFeed, Column, ColumnKind, Equality, Finding, ForeignKey, Former, Means, RowReader, Severity,
    Snapshot, Source, TableSchema,
};
pub use value::Value;
