//! Search requests and their answers, engine-neutral.

use std::sync::Arc;

use crate::key::DocId;
use crate::name::IndexName;
use crate::query::{Aggregation, Query, Scalar, Sort};

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// What to find.
    pub query: Query,
    /// Hits to skip.
    pub from: usize,
    /// Hits to return.
    pub size: usize,
    /// The order of hits; by score without one. Ties by the order in the index.
    pub sort: Vec<Sort>,
    /// Only hits after these sort values, one for each key of `sort`.
    pub search_after: Option<Vec<Option<Scalar>>>,
    /// Which parts of the documents to return.
    pub source: SourceFilter,
    /// How far to count.
    pub track_total_hits: TrackTotalHits,
    /// Compute scores even though they are not sorted by.
    pub track_scores: bool,
    /// Leave out hits (and do not count documents) below this score.
    pub min_score: Option<f32>,
    /// Computed over every document found.
    pub aggregations: Vec<(String, Aggregation)>,
    /// The time of the request, in milliseconds since 1970: what `now` means in date bounds.
    pub now_ms: i64,
}

/// Ten hits of everything.
impl Default for SearchRequest {
    fn default() -> Self {
        SearchRequest {
            query: Query::MatchAll { boost: 1.0 },
            from: 0,
            size: 10,
            sort: Vec::new(),
            search_after: None,
            source: SourceFilter::default(),
            track_total_hits: TrackTotalHits::UpTo(10_000),
            track_scores: false,
            min_score: None,
            aggregations: Vec::new(),
            now_ms: 0,
        }
    }
}

/// How far to count hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackTotalHits {
    /// All of them.
    Exactly,
    /// At least up to here; beyond it the answer may say "at least".
    UpTo(usize),
    /// Not at all: the answer has no total.
    No,
}

/// Which parts of a document's source to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFilter {
    /// Return nothing of it.
    pub none: bool,
    /// Only paths that one of these patterns fits (`*` stands for any characters); everything when empty.
    pub includes: Vec<String>,
    /// Without paths that one of these patterns fits.
    pub excludes: Vec<String>,
}

/// Documents to read by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRequest {
    /// Their ids.
    pub ids: Vec<DocId>,
    /// Which parts of them to return.
    pub source: SourceFilter,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchResponse {
    /// How many documents; `None` when not counted.
    pub total: Option<TotalHits>,
    /// The highest score, where scores were computed and are what hits are sorted by first.
    pub max_score: Option<f32>,
    /// The hits, in order.
    pub hits: Vec<Hit>,
    /// The aggregations, in the order of the request.
    pub aggregations: Vec<(String, AggregationResult)>,
}

/// How many documents were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalHits {
    /// As many.
    pub value: u64,
    /// Exactly, rather than at least.
    pub exact: bool,
}

/// A document that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The index it lies in.
    pub index: IndexName,
    /// Its id.
    pub id: DocId,
    /// Its score, where scores were computed.
    pub score: Option<f32>,
    /// The parts of its source that were asked for, as JSON.
    pub source: Option<Arc<str>>,
    /// Its values of the sort keys, when the request sorts: what `search_after` takes.
    pub sort: Vec<Option<Scalar>>,
}

/// What an aggregation computed.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregationResult {
    /// Buckets.
    Buckets(Buckets),
    /// One number (min, max, avg, sum, value_count); `None` is null.
    Value {
        /// The number.
        value: Option<f64>,
        /// The number as the field's format writes it, where it has one (dates).
        as_string: Option<String>,
    },
    /// Count, min, max, avg, sum.
    Stats {
        /// How many values.
        count: u64,
        /// The smallest.
        min: Option<f64>,
        /// The largest.
        max: Option<f64>,
        /// The mean.
        avg: Option<f64>,
        /// The sum.
        sum: f64,
    },
}

/// The buckets of an aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// In order.
    pub buckets: Vec<Bucket>,
    /// Written as an object by key.
    pub keyed: bool,
    /// For terms: documents in buckets that were left out by size, and how far a count may be too low.
    pub terms: Option<TermsRest>,
}

/// What a terms aggregation left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermsRest {
    /// Documents in buckets beyond the size.
    pub sum_other_doc_count: u64,
    /// How far a count may be too low; -1 when not known.
    pub doc_count_error_upper_bound: i64,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Its key.
    pub key: Scalar,
    /// The key as the field's format writes it, where it has one (dates, booleans).
    pub key_as_string: Option<String>,
    /// For ranges: the lower bound.
    pub from: Option<f64>,
    /// For ranges: the upper bound.
    pub to: Option<f64>,
    /// How many documents.
    pub doc_count: u64,
    /// The sub-aggregations.
    pub aggregations: Vec<(String, AggregationResult)>,
}
