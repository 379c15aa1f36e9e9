//! An index gets new fields: the library's schemas never change, so a wider index is made beside it, filled with the same
//! documents, and takes its place. Searches see the former one until then.

use std::path::Path;

use instep_core::{Document, Error, Mapping, Result};
use tantivy::{DocAddress, TantivyDocument};

use crate::fault::from_tantivy;
use crate::fields::SEQUENCE;
use crate::index::{self, OpenIndex};
use crate::ingest::Ingest;
use crate::search;
use crate::write::Writers;

const WHAT: &str = "giving an index new fields";

/// Makes an index with this mapping beside `former`, with the same documents under the same tickets and in the same order;
/// fields that they did not declare are not in them until they are written again. Nobody writes to `former` meanwhile.
pub(crate) fn copy(
    former: &OpenIndex,
    directory: &Path,
    mapping: &Mapping,
    writer_memory: usize,
) -> Result<()> {
    let next = index::replacement(directory);
    index::create(&next, mapping)?;
    let failed = |error| from_tantivy(error, WHAT);
    let wide = OpenIndex::open(&former.name, &next)?;
    let mut writer = Writers::new(writer_memory).open(&wide)?;
    let mut ingest = Ingest::new(&wide.fields);
    let searcher = former.searcher();
    for (segment, reader) in (0..).zip(searcher.segment_readers()) {
        let sequences = reader.fast_fields().column_opt::<u64>(SEQUENCE);
        let sequences = sequences.map_err(failed)?;
        for doc in reader.doc_ids_alive() {
            let stored = search::stored(&former.fields, &searcher, DocAddress::new(segment, doc))?;
            let sequence = sequences
                .as_ref()
                .and_then(|column| column.first(doc))
                .unwrap_or(0);
            let document = Document {
                id: stored.id,
                language: mapping.language.clone(),
                readers: stored.readers,
                source: stored.source,
            };
            let made: TantivyDocument = ingest.document(&wide.fields, &document, stored.ticket, sequence)?;
            writer.add_document(made).map_err(failed)?;
        }
    }
    writer.commit().map_err(failed)?;
    let ended = writer.wait_merging_threads();
    ended.map_err(|error: tantivy::TantivyError| -> Error { failed(error) })
}
