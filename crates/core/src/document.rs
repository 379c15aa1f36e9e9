//! Documents: what the builder makes and engines store.

use std::sync::Arc;

use crate::key::DocId;
use crate::name::Language;

/// A built document. Two builds of the same rows are equal, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its id inside the collection.
    pub id: DocId,
    /// The partition it lies in.
    pub language: Language,
    /// Who may read it.
    pub readers: Readers,
    /// Its fields: one JSON object in canonical form (fields in the order of the definition, no white space).
    pub source: Arc<str>,
}

/// Who may read a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody.
    Public,
    /// Callers whose subject or one of whose units is listed; sorted, without duplicates. Empty: nobody.
    Only(Vec<String>),
}

impl Readers {
    /// These readers, sorted, without duplicates and without empty names, which no caller can have.
    pub fn only(mut names: Vec<String>) -> Self {
        names.retain(|name| !name.is_empty());
        names.sort();
        names.dedup();
        Readers::Only(names)
    }
}

/// A document as an engine holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: DocId,
    /// Who may read it.
    pub readers: Readers,
    /// Its fields, byte for byte as they were written.
    pub source: Arc<str>,
    /// The ticket it was written under.
    pub ticket: crate::log::Ticket,
}
