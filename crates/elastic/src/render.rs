//! Answers in Elasticsearch's shapes.

use instep_core::Error;
use instep_core::key::DocId;
use instep_core::name::IndexName;
use instep_core::query::{Scalar, Sort, SortBy};
use instep_core::request::{Hit, SearchResponse};

use crate::number;
use crate::render_aggregation;
use crate::render_error;
use crate::search::{ResponseOptions, SearchCall};
use crate::write::{self, Members};

/// What the caller of an engine knows of an answer beside the answer itself.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many indexes were searched; each counts as one shard.
    pub indexes: usize,
    /// The name by which callers know an index.
    pub logical_name: &'a dyn Fn(&IndexName) -> &'a str,
    /// When the rows were asked for: one for each hit, in hit order, as JSON; `None` for one that vanished.
    pub rows: Option<&'a [Option<String>]>,
}

/// The answer of `_search`.
///
/// With `typed_keys`, a terms aggregation's prefix follows its keys: `sterms`, `lterms` (integers, booleans, dates),
/// `dterms`, and `umterms` where there is no bucket to tell.
pub fn render_search(call: &SearchCall, response: &SearchResponse, answered: &Answered<'_>) -> String {
    let options = &call.options;
    // About its length, so that it is not moved while it grows.
    let hit = |hit: &Hit| hit.source.as_deref().map_or(0, str::len) + 128;
    let mut out = String::with_capacity(512 + response.hits.iter().map(hit).sum::<usize>());
    write::object(&mut out, |o| {
        o.number("took", answered.took_ms);
        o.raw("timed_out", "false");
        shards(o, answered.indexes);
        o.object("hits", |o| {
            total(o, response, options);
            o.raw("max_score", &score(response.max_score));
            o.array("hits", response.hits.iter().enumerate(), |out, (at, hit)| {
                let row = answered.rows.map(|rows| rows.get(at).and_then(Option::as_deref));
                render_hit(out, hit, row, &call.request.sort, answered.logical_name);
            });
        });
        if !response.aggregations.is_empty() {
            o.object("aggregations", |o| {
                render_aggregation::all(
                    o,
                    &call.request.aggregations,
                    &response.aggregations,
                    options.typed_keys,
                );
            });
        }
    });
    write::finish(out, options)
}

fn shards(o: &mut Members<'_>, indexes: usize) {
    o.object("_shards", |o| {
        o.number("total", indexes);
        o.number("successful", indexes);
        o.raw("skipped", "0");
        o.raw("failed", "0");
    });
}

fn total(o: &mut Members<'_>, response: &SearchResponse, options: &ResponseOptions) {
    match (response.total, options.rest_total_hits_as_int) {
        (Some(total), true) => o.number("total", total.value),
        (None, true) => o.raw("total", "-1"),
        (Some(total), false) => o.object("total", |o| {
            o.number("value", total.value);
            o.text("relation", if total.exact { "eq" } else { "gte" });
        }),
        (None, false) => {}
    }
}

fn score(score: Option<f32>) -> String {
    score.map_or_else(|| "null".to_owned(), number::float)
}

fn render_hit<'a>(
    out: &mut String,
    hit: &Hit,
    row: Option<Option<&str>>,
    sort: &[Sort],
    logical_name: &dyn Fn(&IndexName) -> &'a str,
) {
    write::object(out, |o| {
        o.text("_index", logical_name(&hit.index));
        o.text("_id", hit.id.as_str());
        o.raw("_score", &score(hit.score));
        if let Some(source) = &hit.source {
            o.raw("_source", source);
        }
        if !hit.sort.is_empty() {
            o.array("sort", hit.sort.iter().enumerate(), |out, (at, value)| {
                sort_value(out, value.as_ref(), sort.get(at));
            });
        }
        if let Some(row) = row {
            o.raw("_row", row.unwrap_or("null"));
        }
    });
}

/// Scores are floats, so their shortest digits are a float's.
fn sort_value(out: &mut String, value: Option<&Scalar>, key: Option<&Sort>) {
    match value {
        None => out.push_str("null"),
        Some(Scalar::Double(score)) if key.is_some_and(|key| key.by == SortBy::Score) => {
            out.push_str(&number::float(*score as f32));
        }
        Some(value) => write::scalar(out, value),
    }
}

/// The answer of `_count`.
pub fn render_count(call: &SearchCall, response: &SearchResponse, indexes: usize) -> String {
    let mut out = String::new();
    write::object(&mut out, |o| {
        o.number("count", response.total.map_or(0, |total| total.value));
        shards(o, indexes);
    });
    write::finish(out, &call.options)
}

/// A document that was asked for by its id.
#[derive(Clone, Copy, Debug)]
pub struct GetAnswer<'a> {
    /// The index by the name callers know.
    pub index: &'a str,
    /// The document's id.
    pub id: &'a DocId,
    /// What became of it.
    pub outcome: GetOutcome<'a>,
}

/// What became of reading a document by its id.
#[derive(Clone, Copy, Debug)]
pub enum GetOutcome<'a> {
    /// It is there, and the caller may read it.
    Found {
        /// The parts of its source that were asked for, as JSON; `None` when none.
        source: Option<&'a str>,
        /// When the row was asked for: the row as JSON, or `None` where it vanished.
        row: Option<Option<&'a str>>,
    },
    /// It is not there, or the caller may not read it.
    Missing,
    /// Reading it failed; of one document among several.
    Failed(&'a Error),
}

/// The answer of `_doc/<id>`. A missing document's status is 404.
pub fn render_get(answer: &GetAnswer<'_>, options: &ResponseOptions) -> String {
    let mut out = String::new();
    document(&mut out, answer);
    write::finish(out, options)
}

/// The answer of `_mget`: one document for each that was asked for, in that order.
pub fn render_mget(answers: &[GetAnswer<'_>], options: &ResponseOptions) -> String {
    let mut out = String::new();
    write::object(&mut out, |o| o.array("docs", answers, document));
    write::finish(out, options)
}

fn document(out: &mut String, answer: &GetAnswer<'_>) {
    write::object(out, |o| {
        o.text("_index", answer.index);
        o.text("_id", answer.id.as_str());
        match answer.outcome {
            GetOutcome::Found { source, row } => {
                o.raw("found", "true");
                if let Some(source) = source {
                    o.raw("_source", source);
                }
                if let Some(row) = row {
                    o.raw("_row", row.unwrap_or("null"));
                }
            }
            GetOutcome::Missing => o.raw("found", "false"),
            GetOutcome::Failed(error) => render_error::member(o, error),
        }
    });
}

/// The answer of `/`: the identity that the clients of Elasticsearch and OpenSearch accept. They compare number,
/// distribution, flavor and tagline; the true name is the cluster's.
pub fn render_info(version: &str) -> String {
    let mut out = String::new();
    write::object(&mut out, |o| {
        o.text("name", "instep");
        o.text("cluster_name", &format!("instep-{version}"));
        o.text("cluster_uuid", "instep");
        o.object("version", |o| {
            o.text("number", "7.10.2");
            o.text("distribution", "opensearch");
            o.text("build_flavor", "default");
            o.text("build_type", "instep");
            o.text("build_hash", version);
            o.text("build_date", "1970-01-01T00:00:00Z");
            o.raw("build_snapshot", "false");
            o.text("lucene_version", "8.7.0");
            o.text("minimum_wire_compatibility_version", "6.8.0");
            o.text("minimum_index_compatibility_version", "6.0.0-beta1");
        });
        o.text("tagline", "You Know, for Search");
    });
    out
}
