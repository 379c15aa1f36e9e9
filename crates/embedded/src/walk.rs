//! Walking an index in the order of ids: the cursor is the last id, so it survives every commit and merge.

use instep_core::{Cursor, Result, Walked};
use tantivy::{DocAddress, Searcher};

use crate::fault::{from_io, from_tantivy};
use crate::index::OpenIndex;
use crate::search::{locate, stored};

const WHAT: &str = "walking an index";

/// The next documents after a cursor; blocks.
pub(crate) fn walk(index: &OpenIndex, after: Option<&Cursor>, n: usize) -> Result<Walked> {
    let searcher = index.searcher();
    let (ids, more) = ids(index, &searcher, after, n.max(1))?;
    let next = ids.last().filter(|_| more).cloned();
    let mut addresses: Vec<DocAddress> = Vec::with_capacity(ids.len());
    for id in &ids {
        let found = locate(&index.fields, &searcher, id).map_err(|error| from_tantivy(error, WHAT))?;
        addresses.extend(found);
    }
    // Neighbours in the store share a compressed block.
    addresses.sort_unstable();
    let documents = addresses
        .into_iter()
        .map(|address| stored(&index.fields, &searcher, address))
        .collect::<Result<Vec<_>>>()?;
    Ok(Walked {
        documents,
        next: next.map(|id| Cursor(String::from_utf8_lossy(&id).into_owned())),
    })
}

/// The next `n` ids, of deleted documents among them, and whether there may be more.
fn ids(
    index: &OpenIndex,
    searcher: &Searcher,
    after: Option<&Cursor>,
    n: usize,
) -> Result<(Vec<Vec<u8>>, bool)> {
    let mut ids = Vec::new();
    let mut more = false;
    for segment in searcher.segment_readers() {
        let inverted = segment
            .inverted_index(index.fields.id)
            .map_err(|error| from_tantivy(error, WHAT))?;
        let range = inverted.terms().range();
        let range = match after {
            Some(Cursor(id)) => range.gt(id.as_bytes()),
            None => range,
        };
        let mut terms = range.into_stream().map_err(|error| from_io(error, WHAT))?;
        let mut taken = 0;
        while terms.advance() {
            if taken == n {
                more = true;
                break;
            }
            ids.push(terms.key().to_vec());
            taken += 1;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    more |= ids.len() > n;
    ids.truncate(n);
    Ok((ids, more))
}
