//! The library fed without the engine: the limit that the engine's own writes are measured against.
//!
//! The same schema, the same reading of the JSON, the same writer; no ticket is compared, nothing is deleted, nobody
//! waits in a queue, and a commit comes only when asked for. For benchmarks; not part of this crate's interface.

use std::path::Path;

use instep_core::{Document, Error, IndexName, Mapping, Result, Ticket};
use tantivy::IndexWriter;

use crate::engine::Options;
use crate::fault::from_tantivy;
use crate::index::{self, OpenIndex};
use crate::ingest::Ingest;
use crate::write::Writers;

/// One index with its writer.
pub struct Bare {
    index: OpenIndex,
    writer: IndexWriter,
    ingest: Ingest,
}

impl Bare {
    /// Makes an index in a directory that does not exist. Its writer takes what one of the engine's would.
    pub fn create(directory: &Path, mapping: &Mapping, options: Options) -> Result<Bare> {
        index::create(directory, mapping)?;
        let index = OpenIndex::open(&IndexName::from("bare"), directory)?;
        let writer = Writers::new(options.writer_memory_bytes).open(&index)?;
        let ingest = Ingest::new(&index.fields);
        Ok(Bare {
            index,
            writer,
            ingest,
        })
    }

    /// Reads a document's JSON and hands it to the writer.
    pub fn add(&mut self, document: &Document) -> Result<()> {
        let made = self.ingest.document(
            &self.index.fields,
            document,
            Ticket(1),
            self.index.next_sequence(),
        )?;
        let added = self.writer.add_document(made);
        added
            .map(drop)
            .map_err(|error| from_tantivy(error, "writing to an index"))
    }

    /// Reads a document's JSON, and no more.
    pub fn read(&mut self, document: &Document) -> Result<()> {
        let made = self.ingest.document(&self.index.fields, document, Ticket(1), 0)?;
        std::hint::black_box(made);
        Ok(())
    }

    /// Makes durable what was added.
    pub fn commit(&mut self) -> Result<()> {
        let committed = self.writer.commit();
        committed
            .map(drop)
            .map_err(|error| from_tantivy(error, "committing to an index"))
    }

    /// Ends the merges that have begun. Returns how many documents the index holds.
    pub fn close(self) -> Result<u64> {
        self.writer
            .wait_merging_threads()
            .map_err(|error: tantivy::TantivyError| -> Error {
                from_tantivy(error, "merging the segments of an index")
            })?;
        self.index
            .reload()
            .map_err(|error| from_tantivy(error, "reading a commit of an index"))?;
        Ok(self.index.searcher().num_docs())
    }
}
