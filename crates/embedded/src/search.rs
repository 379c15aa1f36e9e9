//! A search over several indexes as one, and reading by id.
//!
//! The readers' filter is a clause of its own around the compiled query, so no query reaches past it; each document
//! that leaves is held against the caller's view once more.

use std::sync::Arc;

use instep_core::request::{Hit, TotalHits};
use instep_core::{
    Authorized, DocId, GetRequest, IndexName, Readers, Result, SearchRequest, SearchResponse, Stored, Ticket,
    TrackTotalHits, Visibility,
};
use tantivy::query::{BooleanQuery, EnableScoring, Occur, Weight};
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocAddress, DocSet, Searcher, SegmentReader, TERMINATED, TantivyDocument, Term,
};

use crate::aggregate::{self, Absent, Budget, Collector, Gathered, Plan};
use crate::compile::{Compiler, visible};
use crate::fault::{from_tantivy, internal};
use crate::fields::{Fields, TICKET};
use crate::index::OpenIndex;
use crate::sort::{self, Found, Key, Top};
use crate::stop::Stop;

const WHAT: &str = "searching an index";

/// After so many documents a search looks whether it is still wanted.
const STRIDE: usize = 4096;

/// One index of a search.
struct Target {
    index: Arc<OpenIndex>,
    searcher: Searcher,
    weight: Box<dyn Weight>,
}

/// What the segments have found so far.
#[derive(Default)]
struct Tally {
    total: u64,
    best: Option<f32>,
    found: Vec<Found>,
    gathered: Option<Vec<Gathered>>,
    absent: Absent,
}

/// Answers a search; blocks.
pub(crate) fn search(
    indexes: &[Arc<OpenIndex>],
    authorized: &Authorized<SearchRequest>,
    stop: &Stop,
) -> Result<SearchResponse> {
    let request = authorized.request();
    let several = indexes.len() > 1;
    let keys = indexes
        .iter()
        .enumerate()
        .map(|(place, index)| sort::keys(&index.fields, &request.sort, several.then_some(place)))
        .collect::<Result<Vec<_>>>()?;
    sort::check_agreement(&keys)?;
    let mut plans = indexes
        .iter()
        .map(|index| aggregate::plan(&index.fields, &request.aggregations))
        .collect::<Result<Vec<_>>>()?;
    aggregate::agree(&mut plans)?;
    let by_score = keys.iter().flatten().any(Key::is_score);
    let scored = (by_score && request.size > 0) || request.track_scores || request.min_score.is_some();
    let mut tally = Tally::default();
    let mut targets = Vec::with_capacity(indexes.len());
    for (place, index) in indexes.iter().enumerate() {
        let target = Target::new(index, authorized, scored)?;
        for (segment, reader) in target.searcher.segment_readers().iter().enumerate() {
            stop.check()?;
            let segment = u32::try_from(segment).unwrap_or(u32::MAX);
            tally.segment(
                &target,
                reader,
                segment,
                place,
                request,
                &keys[place],
                &plans[place],
                scored,
                stop,
            )?;
        }
        targets.push(target);
    }
    let Tally {
        total,
        best,
        mut found,
        gathered,
        absent,
    } = tally;
    if let Some(keys) = keys.first() {
        found.sort_unstable_by(|a, b| sort::compare(keys, a, b));
    }
    let shows_scores = request.sort.is_empty() || by_score || request.track_scores;
    let hits = found
        .into_iter()
        .skip(request.from)
        .take(request.size)
        .map(|found| hit(&targets, found, authorized, shows_scores))
        .collect::<Result<Vec<_>>>()?;
    let score_is_first = keys
        .first()
        .and_then(|keys| keys.first())
        .is_some_and(Key::is_score);
    let aggregations = match plans.first() {
        Some(plans) => aggregate::finish(plans, gathered, &absent)?,
        None => Vec::new(),
    };
    Ok(SearchResponse {
        total: match request.track_total_hits {
            TrackTotalHits::No => None,
            TrackTotalHits::Exactly | TrackTotalHits::UpTo(_) => Some(TotalHits {
                value: total,
                exact: true,
            }),
        },
        max_score: best.filter(|_| score_is_first && request.size > 0),
        hits,
        aggregations,
    })
}

impl Target {
    fn new(index: &Arc<OpenIndex>, authorized: &Authorized<SearchRequest>, scored: bool) -> Result<Self> {
        let request = authorized.request();
        let searcher = index.searcher();
        let compiled = Compiler {
            index,
            now_ms: request.now_ms,
        }
        .compile(&request.query)?;
        let query = match visible(index, authorized.visibility()) {
            None => compiled,
            Some(filter) => Box::new(BooleanQuery::new(vec![
                (Occur::Must, compiled),
                (Occur::Must, filter),
            ])),
        };
        let scoring = if scored {
            EnableScoring::enabled_from_searcher(&searcher)
        } else {
            EnableScoring::disabled_from_searcher(&searcher)
        };
        let weight = query.weight(scoring).map_err(|error| from_tantivy(error, WHAT))?;
        Ok(Target {
            index: Arc::clone(index),
            searcher,
            weight,
        })
    }
}

impl Tally {
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one loop, which nothing else calls"
    )]
    fn segment(
        &mut self,
        target: &Target,
        reader: &SegmentReader,
        segment: u32,
        place: usize,
        request: &SearchRequest,
        keys: &[Key],
        plans: &[(String, Plan)],
        scored: bool,
        stop: &Stop,
    ) -> Result<()> {
        let failed = |error| from_tantivy(error, WHAT);
        let most = if request.size == 0 {
            0
        } else {
            request.from.saturating_add(request.size)
        };
        if most == 0 && plans.is_empty() && request.min_score.is_none() {
            if request.track_total_hits != TrackTotalHits::No {
                self.total += u64::from(target.weight.count(reader).map_err(failed)?);
            }
            return Ok(());
        }
        let after = request.search_after.as_deref();
        let mut top = if most > 0 {
            Some(Top::new(keys, after, most, place, reader)?)
        } else {
            None
        };
        let mut collector = Collector::new(plans, reader)?;
        let alive = reader.alive_bitset();
        let least = request.min_score.unwrap_or(f32::NEG_INFINITY);
        let (total, best) = (&mut self.total, &mut self.best);
        let mut take = |doc, score: f32| -> Result<()> {
            if alive.is_some_and(|alive| alive.is_deleted(doc)) || score < least {
                return Ok(());
            }
            *total += 1;
            if scored && best.is_none_or(|best| score > best) {
                *best = Some(score);
            }
            if let Some(top) = &mut top {
                top.push(doc, score);
            }
            Ok(collector.collect(doc)?)
        };
        let mut scorer = target.weight.scorer(reader, 1.0).map_err(failed)?;
        let mut looked = 0;
        if scored {
            let mut doc = scorer.doc();
            while doc != TERMINATED {
                take(doc, scorer.score())?;
                doc = scorer.advance();
                looked += 1;
                if looked % STRIDE == 0 {
                    stop.check()?;
                }
            }
        } else {
            let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
            loop {
                let filled = scorer.fill_buffer(&mut block);
                block[..filled].iter().try_for_each(|&doc| take(doc, 0.0))?;
                if filled < block.len() {
                    break;
                }
                looked += filled;
                if looked % STRIDE == 0 {
                    stop.check()?;
                }
            }
        }
        if let Some(top) = top {
            self.found.extend(top.finish(segment)?);
        }
        if !plans.is_empty() {
            collector.absent(reader, &mut self.absent)?;
            let gathered = collector.finish()?;
            match &mut self.gathered {
                None => self.gathered = Some(gathered),
                Some(known) => {
                    known
                        .iter_mut()
                        .zip(gathered)
                        .for_each(|(known, new)| known.merge(new));
                }
            }
            Budget::beside(self.gathered.iter().flatten())?;
        }
        Ok(())
    }
}

fn hit(
    targets: &[Target],
    found: Found,
    authorized: &Authorized<SearchRequest>,
    shows_scores: bool,
) -> Result<Hit> {
    let request = authorized.request();
    let target = &targets[found.index];
    let document = target
        .searcher
        .doc(DocAddress::new(found.segment, found.doc))
        .map_err(|error| from_tantivy(error, WHAT))?;
    let fields = &target.index.fields;
    check(authorized.visibility(), &readers(fields, &document))?;
    let source = if request.source.none {
        None
    } else {
        Some(request.source.apply(source(fields, &document)?))
    };
    let sort = if request.sort.is_empty() {
        Vec::new()
    } else {
        found.values.into_iter().map(sort::SortValue::scalar).collect()
    };
    Ok(Hit {
        index: target.index.name.clone(),
        id: id(fields, &document)?,
        score: shows_scores.then_some(found.score),
        source,
        sort,
    })
}

/// The second lock: a document that the filter let through by mistake never leaves.
fn check(visibility: &Visibility, readers: &Readers) -> Result<()> {
    if visibility.admits(readers) {
        return Ok(());
    }
    Err(internal(
        "a search found a document that its caller may not read; nothing of it was shown",
    ))
}

fn readers(fields: &Fields, document: &TantivyDocument) -> Readers {
    let tokens = document.get_all(fields.readers);
    // What is no text is no token, and admits nobody.
    Readers::of_tokens(tokens.map(|token| token.as_str().unwrap_or_default()))
}

fn source<'d>(fields: &Fields, document: &'d TantivyDocument) -> Result<&'d str> {
    document
        .get_first(fields.source)
        .and_then(|value| value.as_bytes())
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| internal("a document in the index has no source"))
}

fn id(fields: &Fields, document: &TantivyDocument) -> Result<DocId> {
    let id = document.get_first(fields.id);
    let id = id
        .and_then(|value| value.as_str())
        .ok_or_else(|| internal("a document in the index has no id"))?;
    DocId::parse(id)
}

/// A document as it was written.
pub(crate) fn stored(fields: &Fields, searcher: &Searcher, address: DocAddress) -> Result<Stored> {
    let document: TantivyDocument = searcher.doc(address).map_err(|error| from_tantivy(error, WHAT))?;
    let tickets = searcher
        .segment_reader(address.segment_ord)
        .fast_fields()
        .column_opt::<u64>(TICKET);
    let ticket = tickets
        .map_err(|error| from_tantivy(error, WHAT))?
        .and_then(|column| column.first(address.doc_id))
        .ok_or_else(|| internal("a document in the index has no ticket"))?;
    Ok(Stored {
        id: id(fields, &document)?,
        readers: readers(fields, &document),
        source: source(fields, &document)?.into(),
        ticket: Ticket(ticket),
    })
}

/// Where the newest state of a document lies.
pub(crate) fn locate(fields: &Fields, searcher: &Searcher, id: &[u8]) -> tantivy::Result<Option<DocAddress>> {
    let Ok(id) = std::str::from_utf8(id) else {
        return Ok(None);
    };
    let term = Term::from_field_text(fields.id, id);
    for (segment, reader) in (0..).zip(searcher.segment_readers()) {
        let inverted = reader.inverted_index(fields.id)?;
        let Some(mut postings) = inverted.read_postings(&term, IndexRecordOption::Basic)? else {
            continue;
        };
        while postings.doc() != TERMINATED {
            if !reader.is_deleted(postings.doc()) {
                return Ok(Some(DocAddress::new(segment, postings.doc())));
            }
            postings.advance();
        }
    }
    Ok(None)
}

/// Reads documents by id; blocks.
pub(crate) fn get(
    indexes: &[Arc<OpenIndex>],
    authorized: &Authorized<GetRequest>,
) -> Result<Vec<Option<(IndexName, Stored)>>> {
    let request = authorized.request();
    let searchers: Vec<Searcher> = indexes.iter().map(|index| index.searcher()).collect();
    let mut documents = Vec::with_capacity(request.ids.len());
    for wanted in &request.ids {
        let mut document = None;
        for (index, searcher) in indexes.iter().zip(&searchers) {
            let address = locate(&index.fields, searcher, wanted.as_str().as_bytes());
            let Some(address) = address.map_err(|error| from_tantivy(error, "reading from an index"))? else {
                continue;
            };
            let mut stored = stored(&index.fields, searcher, address)?;
            if authorized.visibility().admits(&stored.readers) {
                stored.source = request.source.apply(stored.source);
                document = Some((index.name.clone(), stored));
                break;
            }
        }
        documents.push(document);
    }
    Ok(documents)
}

/// Reads documents by id, whoever may see them; blocks.
pub(crate) fn read(index: &OpenIndex, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
    let searcher = index.searcher();
    ids.iter()
        .map(|id| {
            let address = locate(&index.fields, &searcher, id.as_str().as_bytes())
                .map_err(|error| from_tantivy(error, "reading from an index"))?;
            address
                .map(|address| stored(&index.fields, &searcher, address))
                .transpose()
        })
        .collect()
}
