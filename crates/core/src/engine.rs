//! Engines: what stores and searches documents.
//!
//! Two traits, because two parts of the product use them: `sync` sees [`Engine`] alone, `gateway` sees [`Search`] alone.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;

use crate::document::{Document, Stored};
use crate::error::{Error, Result};
use crate::key::DocId;
use crate::log::Ticket;
use crate::mapping::Mapping;
use crate::name::IndexName;
use crate::policy::Authorized;
use crate::request::{GetRequest, SearchRequest, SearchResponse};

/// Stores documents. Used in batches.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What it can do; the same for its whole life.
    fn capabilities(&self) -> &Capabilities;

    /// Which store this is: the same for as long as it keeps what was written to it, another one for a store that was made
    /// anew or stands elsewhere. Empty where nothing is kept.
    async fn place(&self) -> Result<String>;

    /// Whether these indexes are there as they were made, and take writes: an error is what a write would be told. Asked of
    /// an engine that has nothing else to do, every second; changes nothing. `false`: it cannot tell, as one that lives in
    /// this process.
    async fn look(&self, indexes: &[IndexName]) -> Result<bool> {
        let _ = indexes;
        Ok(false)
    }

    /// Makes the index exist with at least this mapping. Repeating it is harmless.
    async fn ensure(&self, index: &IndexName, mapping: &Mapping, settings: &Settings) -> Result<Ensured>;

    /// Writes documents: one outcome for each write, in their order. [`Applied::Done`] is durable. Writes of one
    /// document in one call take effect in their order; a write whose ticket is lower than that of a write in flight
    /// is [`Applied::Superseded`]. Calls may overlap: an engine that commits in groups commits at once when idle.
    /// A document that its mapping does not fit is [`Applied::Failed`] as poison, one with a member that no field names
    /// among them: nothing is stored that cannot be found.
    /// An `Err` is a failure of the whole call: the outcome of each write is unknown and the call may be repeated.
    async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>>;

    /// Documents of an index in any order, up to `n` after the cursor. A document that exists during the whole walk is
    /// seen at least once.
    async fn walk(&self, index: &IndexName, after: Option<&Cursor>, n: usize) -> Result<Walked>;

    /// The newest durable state of these documents, in their order, whoever may read them: for comparing, not for
    /// callers. `None` for a document that is not there.
    async fn read(&self, index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>>;

    /// After it returned, searches see everything that was [`Applied::Done`] before.
    async fn refresh(&self, index: &IndexName) -> Result<()>;

    /// Removes the index and its documents. One that does not exist is fine.
    async fn drop_index(&self, index: &IndexName) -> Result<()>;

    /// The indexes that exist, sorted.
    async fn indexes(&self) -> Result<Vec<IndexName>>;
}

/// Searches documents.
#[async_trait]
pub trait Search: Send + Sync {
    /// Answers a request over these indexes as one collection of documents.
    async fn search(
        &self,
        indexes: &[IndexName],
        request: &Authorized<SearchRequest>,
    ) -> Result<SearchResponse>;

    /// The newest durable state of documents by id: for each id the first index that holds it and where the caller may
    /// read it. A document the caller may not read is `None`, as one that does not exist.
    async fn get(
        &self,
        indexes: &[IndexName],
        request: &Authorized<GetRequest>,
    ) -> Result<Vec<Option<(IndexName, Stored)>>>;
}

/// What an engine can do; differences between engines are named here and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The engine's name.
    pub name: &'static str,
    /// Versions of deleted documents are forgotten, so a delete of unknown outcome must be repeated.
    pub forgets_deletes: bool,
    /// Tickets of documents are forgotten when the engine is closed. Only for one that a single process writes to, and that
    /// none of its writes outlives: then no lower ticket can come after.
    pub forgets_when_closed: bool,
    /// Documents are kept and can be walked and searched (a null engine keeps none).
    pub stores: bool,
    /// Phrases are found with a slop; others refuse one as the caller's error.
    pub sloppy_phrases: bool,
    /// Totals are exact beyond `track_total_hits`, too; others tell at least how many there are.
    pub exact_totals: bool,
    /// Decimals of up to 18 digits are compared exactly; others compare them as binary numbers.
    pub exact_decimals: bool,
}

/// Settings of an index, engine by engine; unknown ones are refused by the engine.
pub type Settings = BTreeMap<String, serde_json::Value>;

/// What [`Engine::ensure`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// The index was made and is empty.
    Created,
    /// It was there and fits.
    Unchanged,
    /// Its mapping was extended; its documents lack the new fields until they are built again.
    Extended,
    /// Another version of instep made it, which this one can neither read nor write: it is to be made again.
    Outdated,
    /// It cannot be made to fit: a field has another type there, or was made in another way. Nothing was changed.
    NeedsNewIndex,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Puts a document in place of whatever was there.
    Put(Document, Ticket),
    /// Removes a document. One that does not exist is [`Applied::Done`].
    Delete(DocId, Ticket),
}

impl Write {
    /// The document's id.
    pub fn id(&self) -> &DocId {
        match self {
            Write::Put(document, _) => &document.id,
            Write::Delete(id, _) => id,
        }
    }

    /// The write's ticket.
    pub fn ticket(&self) -> Ticket {
        match self {
            Write::Put(_, ticket) | Write::Delete(_, ticket) => *ticket,
        }
    }
}

/// What became of one write.
#[derive(Debug)]
pub enum Applied {
    /// Durable.
    Done,
    /// The engine holds a newer state.
    Superseded,
    /// Refused: [`crate::Fault::Poison`] for this document, or [`crate::Fault::Transient`].
    Failed(Error),
}

/// Where a walk is; opaque outside the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A part of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Documents.
    pub documents: Vec<Stored>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}
