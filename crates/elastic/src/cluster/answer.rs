//! The answer of a search: read whole, or refused.
//!
//! Each hit is held against the caller's view once more: a document that the filter let through by mistake never leaves.

use std::borrow::Cow;

use instep_core::request::{AggregationResult, Hit, TotalHits};
use instep_core::{
    Authorized, DocId, Error, IndexName, Mapping, Readers, Result, SearchRequest, SearchResponse,
    TrackTotalHits,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fields::READERS;
use super::read::{Shards, incomplete, parts};
use super::sort::{self, Key, Sorting};
use super::{aggregate, fault};

/// What was asked.
pub(crate) struct Asked<'a> {
    pub(crate) authorized: &'a Authorized<SearchRequest>,
    pub(crate) mappings: &'a [&'a Mapping],
    pub(crate) keys: &'a [Key],
    pub(crate) sorting: &'a Sorting<'a>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(borrow)]
    hits: Hits<'a>,
    aggregations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Hits<'a> {
    total: Option<Total>,
    max_score: Option<f32>,
    #[serde(borrow)]
    hits: Vec<Found<'a>>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
    relation: String,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(rename = "_index", borrow)]
    index: Cow<'a, str>,
    #[serde(rename = "_id", borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "_score")]
    score: Option<f32>,
    #[serde(rename = "_source", borrow)]
    source: Option<&'a RawValue>,
    #[serde(default)]
    sort: Vec<Value>,
    #[serde(default)]
    fields: Map<String, Value>,
}

/// The answer of `_msearch` to one search.
#[derive(Deserialize)]
struct Several<'a> {
    #[serde(borrow)]
    responses: [&'a RawValue; 1],
}

/// Reads the answer of `_search`.
pub(crate) fn read(body: &[u8], asked: &Asked<'_>) -> Result<SearchResponse> {
    // Once for all of it, rather than for each source by itself.
    one(text(body)?, asked)
}

/// Reads the answer of `_msearch`.
pub(crate) fn read_of_several(body: &[u8], asked: &Asked<'_>) -> Result<SearchResponse> {
    #[derive(Deserialize)]
    struct Status {
        status: u16,
    }
    let Several { responses: [inner] } = serde_json::from_str(text(body)?).map_err(|_| unreadable())?;
    let status = serde_json::from_str(inner.get()).map_or(200, |Status { status }| status);
    match status {
        200 => one(inner.get(), asked),
        _ => Err(fault::of_search(status, inner.get().as_bytes())),
    }
}

fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    fault::unreadable("to a search cannot be read")
}

fn one(body: &str, asked: &Asked<'_>) -> Result<SearchResponse> {
    let answered: Answered<'_> = serde_json::from_str(body).map_err(|_| unreadable())?;
    if answered.timed_out || answered.shards.failed > 0 {
        return Err(incomplete());
    }
    let request = asked.authorized.request();
    let (score_is_first, by_score) = sort::by_score(asked.keys);
    let shows_scores = by_score || request.track_scores;
    let hits = answered
        .hits
        .hits
        .into_iter()
        .map(|found| hit(found, asked, shows_scores))
        .collect::<Result<Vec<_>>>()?;
    let aggregations = match request.aggregations.is_empty() {
        true => Vec::new(),
        false => {
            let answered = answered.aggregations.as_ref();
            let answered = answered.ok_or_else(|| fault::unreadable("lacks the aggregations"))?;
            aggregate::results(asked.mappings, &request.aggregations, answered)?
        }
    };
    // Older versions do not tell the best score where a sort is given: it is the first hit's.
    let first = match request.from == 0 && request.search_after.is_none() && sort::best_first(asked.keys) {
        true => hits.first().and_then(|hit| hit.score),
        false => None,
    };
    Ok(SearchResponse {
        total: match request.track_total_hits {
            TrackTotalHits::No => None,
            TrackTotalHits::Exactly | TrackTotalHits::UpTo(_) => {
                let total = answered
                    .hits
                    .total
                    .ok_or_else(|| fault::unreadable("lacks the total"))?;
                Some(TotalHits {
                    value: total.value,
                    exact: total.relation == "eq",
                })
            }
        },
        max_score: answered
            .hits
            .max_score
            .or(first)
            .filter(|_| score_is_first && request.size > 0),
        hits,
        aggregations,
    })
}

fn hit(found: Found<'_>, asked: &Asked<'_>, shows_scores: bool) -> Result<Hit> {
    let unreadable = || fault::unreadable("has a hit that lacks a part");
    let request = asked.authorized.request();
    let index = asked
        .sorting
        .indexes
        .iter()
        .find(|index| index.as_str() == found.index)
        .ok_or_else(|| fault::unreadable("has a hit of another index"))?;
    let (readers, source) = match (request.source.none, found.source) {
        (true, _) => (readers(&found.fields), None),
        (false, Some(stored)) => {
            let (readers, source) = parts(stored.get())?;
            (readers, Some(request.source.apply(source)))
        }
        (false, None) => return Err(unreadable()),
    };
    if !asked.authorized.visibility().admits(&readers) {
        return Err(Error::fatal(
            "engine_broke_visibility",
            "a search found a document that its caller may not read; nothing of it was shown",
        ));
    }
    Ok(Hit {
        index: IndexName::clone(index),
        id: DocId::parse(&found.id)?,
        score: found.score.filter(|_| shows_scores),
        source,
        sort: sort::values(asked.keys, found.sort, asked.sorting).ok_or_else(unreadable)?,
    })
}

/// Who may read a document, from the column of its readers.
fn readers(fields: &Map<String, Value>) -> Readers {
    let tokens = fields.get(READERS).and_then(Value::as_array);
    let tokens = tokens.into_iter().flatten();
    Readers::of_tokens(tokens.map(|token| token.as_str().unwrap_or_default()))
}

/// The answer where no index is searched.
pub(crate) fn of_nothing(request: &SearchRequest) -> SearchResponse {
    let aggregations: Vec<(String, AggregationResult)> = Vec::new();
    SearchResponse {
        total: match request.track_total_hits {
            TrackTotalHits::No => None,
            TrackTotalHits::Exactly | TrackTotalHits::UpTo(_) => Some(TotalHits {
                value: 0,
                exact: true,
            }),
        },
        max_score: None,
        hits: Vec::new(),
        aggregations,
    }
}
