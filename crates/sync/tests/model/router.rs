//! Finds the documents that a change touches, and appends them to the log.
//!
//! The reverse queries read the rows as they are when asked, which may be long after the change. What was found lives
//! in memory until the append commits; a crash before that starts again at the log's source position.

use super::database::{Change, Database};
use super::log::{Append, Log};
use super::variant::{FormerParents, Variant};

#[derive(Debug, Default)]
pub(crate) struct Router {
    resolved: Option<Append>,
}

impl Router {
    /// Reads at most `n` changes after the source position and asks the database which documents they touch.
    pub(crate) fn resolve(&mut self, variant: Variant, database: &Database, log: &Log, n: usize) {
        if self.resolved.is_some() || log.has_open_append() {
            return;
        }
        let changes = database.changes_after(log.source_position(), n);
        if changes.is_empty() {
            return;
        }
        let upto = log.source_position() + changes.len();
        let mut append = Append {
            documents: Vec::new(),
            children: Vec::new(),
            upto,
        };
        for change in changes {
            touch(variant, database, *change, &mut append);
        }
        self.resolved = Some(append);
    }

    pub(crate) fn begin_append(&mut self, log: &mut Log) {
        if let Some(append) = self.resolved.take() {
            log.begin(append);
        }
    }

    /// Memory is lost, the open transaction is rolled back.
    pub(crate) fn crash(&mut self, log: &mut Log) {
        self.resolved = None;
        log.roll_back();
    }
}

fn touch(variant: Variant, database: &Database, change: Change, append: &mut Append) {
    match change {
        Change::Root(key) => append.documents.push(key),
        Change::Maker(maker) => append.documents.extend(database.roots_of(maker)),
        Change::Child { key, old_parent } => {
            append.documents.extend(database.parent_of(key));
            match variant.former_parents {
                FormerParents::OldValues => append.documents.extend(old_parent),
                FormerParents::RecordedReads(_) => append.children.push(key),
                FormerParents::ReverseQueryOnly => {}
            }
        }
    }
}
