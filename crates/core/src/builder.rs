//! The builder: from changes to touched documents, and from keys to documents.

use async_trait::async_trait;

use crate::change::{Change, Position};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::key::{DocId, RowKey};
use crate::log::{FanOut, Touch};
use crate::name::{CollectionName, SourceName};

/// Turns changes into touches and keys into documents. A pure function of the rows it reads; touches no engine.
#[async_trait]
pub trait Builder: Send + Sync {
    /// The documents that these changes of a source touch: each at most once, in order of their keys. A change that reaches more
    /// documents than fit a batch becomes a [`Touch::FanOut`]; a touched table becomes [`Touch::Scan`]s.
    async fn affected(&self, source: &SourceName, changes: &[Change], upto: &Position) -> Result<Vec<Touch>>;

    /// The next chunk of a fan-out: touches (nested fan-outs among them), and the fan-out that is left, if any.
    async fn expand(&self, fan_out: &FanOut) -> Result<(Vec<Touch>, Option<FanOut>)>;

    /// Builds these documents of one collection from one snapshot: one outcome for each id, in their order.
    ///
    /// Two builds of the same rows are byte-identical. An error is one of the whole batch (the source is away);
    /// what concerns one document is [`Built::Rejected`].
    async fn build(&self, collection: &CollectionName, ids: &[DocId]) -> Result<Vec<Built>>;

    /// Whether builds of this collection may bring rows whose reads are recorded. Then those of each of its documents
    /// are, also where a document read none.
    fn records(&self, _collection: &CollectionName) -> bool {
        false
    }

    /// Up to `n` ids of the documents of a collection after `after`, in the source's key order. Fewer than `n` means the end.
    /// More than `n` come where rows that cannot be named stand at the end of a page: no key can be told from a
    /// stand-in, so a page ends in one only at the end of the table.
    async fn scan(&self, collection: &CollectionName, after: Option<&DocId>, n: usize) -> Result<Vec<DocId>>;

    /// How many root rows a collection has, perhaps an estimate: for progress only.
    async fn count(&self, collection: &CollectionName) -> Result<u64>;
}

/// What became of one key.
#[derive(Debug)]
pub enum Built {
    /// The document as its rows are now, and the rows it read of tables whose former values the source does not bring
    /// ([`crate::Means::Recorded`]), each once, in any order.
    Document(Document, Vec<RowKey>),
    /// Its root row does not exist, or does not meet the collection's condition: the document must not exist either.
    Gone,
    /// It cannot be built ([`crate::Fault::Poison`]): a dead letter. With the rows it read, as above: when one of them
    /// is touched, it is tried again.
    Rejected(Error, Vec<RowKey>),
}
