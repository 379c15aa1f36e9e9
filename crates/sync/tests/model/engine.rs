//! The engine of one index set: documents with external versions, `external_gte`.
//!
//! A lower version never replaces a higher one, an equal one is a repeat. Versions of live documents are remembered
//! for ever, those of deleted ones until [`Engine::collect_garbage`].

use super::database::{DOCUMENTS, DocKey, Document};

/// What fences a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Unfenced,
    External(u64),
}

/// Puts the document, or deletes it when there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) key: DocKey,
    pub(crate) version: Version,
    pub(crate) document: Option<Document>,
}

/// The outcome of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Done,
    Superseded,
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
enum Slot {
    #[default]
    Unknown,
    Live(Version, Document),
    Deleted(Version),
}

#[derive(Debug, Default)]
pub(crate) struct Engine {
    slots: [Slot; DOCUMENTS],
}

impl Engine {
    pub(crate) fn apply(&mut self, write: &Write) -> Applied {
        let slot = &mut self.slots[write.key.0];
        let superseded = match slot {
            Slot::Unknown => false,
            Slot::Live(version, _) | Slot::Deleted(version) => write.version < *version,
        };
        if superseded {
            return Applied::Superseded;
        }
        *slot = match write.document {
            Some(document) => Slot::Live(write.version, document),
            None => Slot::Deleted(write.version),
        };
        Applied::Done
    }

    pub(crate) fn document(&self, key: DocKey) -> Option<Document> {
        match self.slots[key.0] {
            Slot::Live(_, document) => Some(document),
            Slot::Unknown | Slot::Deleted(_) => None,
        }
    }

    /// Forgets the versions of deleted documents, as garbage collection, a restart and a relocation do.
    pub(crate) fn collect_garbage(&mut self) {
        for slot in &mut self.slots {
            if let Slot::Deleted(_) = slot {
                *slot = Slot::Unknown;
            }
        }
    }
}
