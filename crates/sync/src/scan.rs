//! A scan, walked by the owner of its set: chunks are enumerated ahead, finish in any order, and are settled in order.
//!
//! Pure bookkeeping beside [`next_chunk`], which asks the source or the engine for the next chunk.

use std::collections::VecDeque;

use instep_core::{
    Builder, ChangeLog, CollectionName, Cursor, DocId, DocKey, Engine, Error, Result, Scan, SetName, Side,
};

use crate::batch::Context;
use crate::flight::ChunkId;
use crate::indexer::Partition;

/// How many chunks may be under way.
const AHEAD: usize = 4;

/// The walk of one scan.
#[derive(Debug)]
pub(crate) struct Walk {
    /// What is finished.
    scan: Scan,
    /// Where enumerating goes on.
    cursor: Option<String>,
    /// Enumerated and not finished, in order.
    chunks: VecDeque<Chunk>,
    /// The side has no more keys.
    ended: bool,
}

#[derive(Debug)]
struct Chunk {
    id: ChunkId,
    size: u64,
    after: Option<String>,
}

/// Where a walk goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) collection: CollectionName,
    pub(crate) run: u64,
    pub(crate) side: Side,
    pub(crate) after: Option<String>,
}

/// A chunk of keys.
#[derive(Debug)]
pub(crate) struct Enumerated {
    /// Documents in trouble, at the beginning of a walk: neither side may know of them any more.
    pub(crate) troubled: Vec<DocId>,
    pub(crate) ids: Vec<DocId>,
    pub(crate) after: Option<String>,
    pub(crate) ended: bool,
}

impl Walk {
    /// Goes on where the scan was settled.
    pub(crate) fn new(scan: Scan) -> Self {
        Walk {
            cursor: scan.after.clone(),
            chunks: VecDeque::new(),
            ended: false,
            scan,
        }
    }

    /// Which start of the scan this walks.
    pub(crate) fn run(&self) -> u64 {
        self.scan.run
    }

    /// Where to enumerate next, unless enough is under way.
    pub(crate) fn next(&self) -> Option<Step> {
        let open = !self.scan.finished && !self.ended && self.chunks.len() < AHEAD;
        open.then(|| Step {
            collection: self.scan.collection.clone(),
            run: self.scan.run,
            side: self.scan.side,
            after: self.cursor.clone(),
        })
    }

    /// Whether a step that was enumerated is still the next one of this walk.
    pub(crate) fn expects(&self, step: &Step) -> bool {
        self.next().as_ref() == Some(step)
    }

    /// A chunk was enumerated and its documents are under way.
    pub(crate) fn enumerated(&mut self, id: ChunkId, size: u64, after: Option<String>, ended: bool) {
        self.cursor.clone_from(&after);
        self.ended = ended;
        self.chunks.push_back(Chunk { id, size, after });
    }

    /// What is finished now, in order; `None` when that is what was said before.
    pub(crate) fn progress(&mut self, is_finished: impl Fn(ChunkId) -> bool) -> Option<Scan> {
        let mut moved = false;
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| is_finished(chunk.id)) {
            self.scan.after = chunk.after;
            self.scan.done += chunk.size;
            moved = true;
        }
        if self.ended && self.chunks.is_empty() && !self.scan.finished {
            moved = true;
            match (self.scan.side, self.scan.both) {
                (Side::Source, true) => {
                    self.scan.side = Side::Engine;
                    (self.scan.after, self.cursor, self.ended) = (None, None, false);
                }
                (Side::Source, false) | (Side::Engine, _) => self.scan.finished = true,
            }
        }
        moved.then(|| self.scan.clone())
    }
}

/// The next keys of a walk; at its beginning with the documents in trouble.
pub(crate) async fn next_chunk(
    context: &Context,
    partitions: &[Partition],
    step: &Step,
    n: usize,
) -> Result<Enumerated> {
    let mut found = enumerate(&*context.builder, &*context.engine, partitions, step, n).await?;
    if step.side == Side::Source && step.after.is_none() {
        found.troubled = troubled(&*context.log, &context.owned.set, &step.collection).await?;
    }
    Ok(found)
}

/// The next chunk of about `n` keys.
async fn enumerate(
    builder: &dyn Builder,
    engine: &dyn Engine,
    partitions: &[Partition],
    step: &Step,
    n: usize,
) -> Result<Enumerated> {
    match step.side {
        Side::Source => {
            let after = step.after.as_deref().map(DocId::parse).transpose()?;
            source_keys(builder, &step.collection, after, n).await
        }
        Side::Engine if !engine.capabilities().stores => Ok(Enumerated {
            troubled: Vec::new(),
            ids: Vec::new(),
            after: None,
            ended: true,
        }),
        Side::Engine => walked(engine, partitions, step.after.as_deref(), n).await,
    }
}

/// The next documents of all partitions, one after the other.
pub(crate) async fn walked(
    engine: &dyn Engine,
    partitions: &[Partition],
    after: Option<&str>,
    n: usize,
) -> Result<Enumerated> {
    let (at, cursor) = place(partitions, after);
    let walked = engine.walk(&partitions[at].index, cursor.as_ref(), n).await?;
    let ids = walked.documents.into_iter().map(|stored| stored.id).collect();
    let after = match (walked.next, partitions.get(at + 1)) {
        (Some(Cursor(cursor)), _) if partitions.len() == 1 => Some(cursor),
        (Some(Cursor(cursor)), _) => Some(format!("{} {cursor}", partitions[at].language)),
        (None, Some(next)) => Some(format!("{} ", next.language)),
        (None, None) => None,
    };
    Ok(Enumerated {
        troubled: Vec::new(),
        ids,
        ended: after.is_none(),
        after,
    })
}

/// Where a walk over several partitions is: in which, and where there. Its text is the language, a blank, and the engine's
/// cursor, which is empty at a partition's beginning; of one partition, the cursor alone.
fn place(partitions: &[Partition], after: Option<&str>) -> (usize, Option<Cursor>) {
    let Some(after) = after else { return (0, None) };
    if partitions.len() == 1 {
        return (0, Some(Cursor(after.to_owned())));
    }
    let (language, cursor) = after.split_once(' ').unwrap_or((after, ""));
    let found = partitions
        .iter()
        .position(|one| one.language.as_str() == language);
    match found {
        Some(at) => (
            at,
            Some(Cursor(cursor.to_owned())).filter(|cursor| !cursor.0.is_empty()),
        ),
        // A language that is no more: from the beginning.
        None => (0, None),
    }
}

/// All documents of a collection that are retries or dead letters of this set. One whose row vanished unseen is in
/// neither the source nor the engine: only its trouble names it.
async fn troubled(log: &dyn ChangeLog, set: &SetName, collection: &CollectionName) -> Result<Vec<DocId>> {
    const PAGE: usize = 1_000;
    let mut ids = Vec::new();
    let mut after: Option<DocKey> = None;
    loop {
        let page = log.troubles(set, after.as_ref(), PAGE).await?;
        let ended = page.len() < PAGE;
        after = page.last().map(|trouble| trouble.key.clone());
        let keys = page.into_iter().map(|trouble| trouble.key);
        ids.extend(keys.filter(|key| key.collection == *collection).map(|key| key.id));
        if ended {
            return Ok(ids);
        }
    }
}

/// Stand-ins do not lead back to their rows, so a chunk is resumed after the last key that does: stand-ins at its end
/// are enumerated twice.
pub(crate) async fn source_keys(
    builder: &dyn Builder,
    collection: &CollectionName,
    after: Option<DocId>,
    mut n: usize,
) -> Result<Enumerated> {
    loop {
        let ids = builder.scan(collection, after.as_ref(), n).await?;
        let ended = ids.len() < n;
        let last = ids
            .iter()
            .rev()
            .find(|id| !id.is_stand_in())
            .map(|id| id.as_str().to_owned());
        if ended || last.is_some() {
            return Ok(Enumerated {
                troubled: Vec::new(),
                ids,
                after: last,
                ended,
            });
        }
        if n > 1_000_000 {
            return Err(Error::fatal(
                "unnameable_rows",
                format!("over {n} rows of `{collection}` in a row cannot be named"),
            )
            .with_remedy("shorten their keys, or leave them out by the collection's `where`"));
        }
        n *= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(both: bool) -> Scan {
        Scan {
            collection: "product".into(),
            fingerprint: String::new(),
            run: 1,
            side: Side::Source,
            both,
            after: None,
            done: 0,
            finished: false,
        }
    }

    #[test]
    fn chunks_are_settled_in_order() {
        let mut walk = Walk::new(scan(true));
        walk.enumerated(0, 2, Some("b".into()), false);
        walk.enumerated(1, 2, Some("d".into()), false);
        walk.enumerated(2, 1, Some("e".into()), true);
        assert_eq!(walk.next(), None, "the side has ended");
        assert_eq!(walk.progress(|id| id == 1), None, "the first is not finished");
        let settled = walk.progress(|id| id <= 1).expect("two are finished");
        assert_eq!((settled.after.as_deref(), settled.done), (Some("d"), 4));
        let settled = walk.progress(|_| true).expect("the side is finished");
        assert_eq!(
            (settled.side, settled.after, settled.done, settled.finished),
            (Side::Engine, None, 5, false)
        );
        assert_eq!(walk.next().map(|step| step.side), Some(Side::Engine));
        walk.enumerated(3, 0, None, true);
        assert!(walk.progress(|_| true).expect("it ends").finished);
        assert!(walk.next().is_none() && walk.progress(|_| true).is_none());
    }

    #[test]
    fn an_empty_source_ends_at_once() {
        let mut walk = Walk::new(scan(false));
        walk.enumerated(0, 0, None, true);
        assert!(walk.progress(|_| true).expect("it ends").finished);
    }

    #[test]
    fn only_so_many_chunks_are_under_way() {
        let mut walk = Walk::new(scan(false));
        for id in 0..AHEAD as u64 {
            assert!(walk.next().is_some());
            walk.enumerated(id, 1, Some(id.to_string()), false);
        }
        assert_eq!(walk.next(), None);
    }
}
