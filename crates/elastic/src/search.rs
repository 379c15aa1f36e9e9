//! `_search` and `_count`: body and URL become one request.

use instep_core::Result;
use instep_core::query::Query;
use instep_core::request::{SearchRequest, SourceFilter, TrackTotalHits};

use crate::aggregation;
use crate::capability::{COUNT_BODY, Endpoint, MAX_WINDOW, SEARCH_BODY};
use crate::filter_path::FilterPath;
use crate::json::Json;
use crate::notation;
use crate::params::Params;
use crate::place::{Members, Place};
use crate::query::{self, Budget};
use crate::sort;
use crate::source_filter;

/// A search as a caller asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchCall {
    /// What to search.
    pub request: SearchRequest,
    /// How to write the answer.
    pub options: ResponseOptions,
}

/// How an answer is written, and what beside the engine's answer goes into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseOptions {
    /// `hits.total` as a number; -1 when it was not counted.
    pub rest_total_hits_as_int: bool,
    /// Aggregations are named `kind#name`.
    pub typed_keys: bool,
    /// Only these parts of the answer.
    pub filter_path: Option<FilterPath>,
    /// With line breaks and indentation.
    pub pretty: bool,
    /// Each hit has the current row as `_row`; null where it vanished.
    pub hydrate: bool,
    /// How long the caller is willing to wait. Answers are whole or an error, so an engine may ignore it.
    pub timeout_ms: Option<u64>,
}

impl ResponseOptions {
    /// What every endpoint has.
    pub(crate) fn common(params: &Params) -> Result<Self> {
        Ok(ResponseOptions {
            filter_path: params.filter_path()?,
            pretty: params.flag("pretty")?,
            hydrate: params.flag("hydrate")?,
            ..ResponseOptions::default()
        })
    }
}

/// Reads a search. An empty body asks for everything; where body and URL both name a value the URL's counts.
pub fn parse_search(body: &[u8], params: &Params, now_ms: i64) -> Result<SearchCall> {
    params.check(Endpoint::Search)?;
    let json = object_of(body)?;
    let root = Place::root(&json);
    let members = root.clause(&SEARCH_BODY)?;
    let budget = Budget::new();
    let either = |name| params.get(name).or_else(|| members.get(name));

    for absent in ["version", "seq_no_primary_term", "explain", "profile"] {
        if let Some(place) = members.get(absent) {
            place.only_false()?;
        }
    }
    let sort = match (members.get("sort"), params.get("sort")) {
        (Some(_), Some(url)) => {
            return Err(url.illegal("[sort] stands in the body and in the URL"));
        }
        (Some(body), None) => sort::parse(&body)?,
        (None, Some(url)) => sort::parse_parameter(&url)?,
        (None, None) => Vec::new(),
    };
    let search_after = members
        .get("search_after")
        .map(|place| sort::search_after(&place, &sort))
        .transpose()?;
    let from = either("from").map_or(Ok(0), |place| place.count(0, i32::MAX as usize))?;
    let size = either("size").map_or(Ok(10), |place| place.count(0, i32::MAX as usize))?;
    check_window(&root, from, size, search_after.is_some())?;
    let aggregations = match (members.get("aggs"), members.get("aggregations")) {
        (Some(_), Some(place)) => {
            return Err(place.malformed("[search] takes [aggs] or [aggregations], not both"));
        }
        (Some(place), None) | (None, Some(place)) => aggregation::parse(&place, &budget)?,
        (None, None) => Vec::new(),
    };
    let timeout = either("timeout");
    let mut options = ResponseOptions::common(params)?;
    options.rest_total_hits_as_int = params.flag("rest_total_hits_as_int")?;
    options.typed_keys = params.flag("typed_keys")?;
    options.timeout_ms = timeout
        .map(|place| notation::timeout(&place))
        .transpose()?
        .flatten();
    let request = SearchRequest {
        query: query_of(&members, params, &budget)?,
        from,
        size,
        sort,
        search_after,
        source: source(&members, params)?,
        track_total_hits: track_total_hits(either("track_total_hits"), options.rest_total_hits_as_int)?,
        track_scores: match params.get("track_scores") {
            Some(_) => params.flag("track_scores")?,
            None => members
                .get("track_scores")
                .map_or(Ok(false), |place| place.boolean())?,
        },
        min_score: members.get("min_score").map(|place| place.single()).transpose()?,
        aggregations,
        now_ms,
    };
    Ok(SearchCall { request, options })
}

/// Reads a count: a request without hits whose total is exact.
pub fn parse_count(body: &[u8], params: &Params, now_ms: i64) -> Result<SearchCall> {
    params.check(Endpoint::Count)?;
    let json = object_of(body)?;
    let root = Place::root(&json);
    let members = root.clause(&COUNT_BODY)?;
    let request = SearchRequest {
        query: query_of(&members, params, &Budget::new())?,
        size: 0,
        track_total_hits: TrackTotalHits::Exactly,
        min_score: params.get("min_score").map(|place| place.single()).transpose()?,
        now_ms,
        ..SearchRequest::default()
    };
    let options = ResponseOptions {
        filter_path: params.filter_path()?,
        pretty: params.flag("pretty")?,
        ..ResponseOptions::default()
    };
    Ok(SearchCall { request, options })
}

fn object_of(body: &[u8]) -> Result<Json> {
    if body.is_empty() {
        return Ok(Json::Object(Vec::new()));
    }
    Json::strict(body)
}

fn query_of(members: &Members<'_>, params: &Params, budget: &Budget) -> Result<Query> {
    let written = members.get("query");
    let Some(q) = params.get("q") else {
        return match written {
            Some(place) => query::parse(&place, budget),
            None => Ok(Query::MatchAll { boost: 1.0 }),
        };
    };
    if written.is_some() {
        return Err(q.illegal("[q] and [query] in the body exclude each other"));
    }
    match q.text()? {
        "*" | "*:*" => Ok(Query::MatchAll { boost: 1.0 }),
        _ => Err(q
            .illegal("[q] is supported only as `*` or `*:*`")
            .with_remedy("send a query in the body")),
    }
}

fn check_window(root: &Place<'_>, from: usize, size: usize, after: bool) -> Result<()> {
    if after && from > 0 {
        return Err(root.illegal("`from` parameter must be set to 0 when `search_after` is used"));
    }
    let window = from + size;
    if window <= MAX_WINDOW {
        return Ok(());
    }
    let message = format!(
        "Result window is too large, from + size must be less than or equal to: [{MAX_WINDOW}] but was [{window}]"
    );
    Err(root.illegal(message).with_remedy("page with `search_after`"))
}

fn source(members: &Members<'_>, params: &Params) -> Result<SourceFilter> {
    let written = members
        .get("_source")
        .map(|place| source_filter::parse(&place))
        .transpose()?;
    let from_url = source_filter::from_params(params)?;
    Ok(from_url.or(written).unwrap_or_default())
}

fn track_total_hits(place: Option<Place<'_>>, as_int: bool) -> Result<TrackTotalHits> {
    let Some(place) = place else {
        return Ok(if as_int {
            TrackTotalHits::Exactly
        } else {
            SearchRequest::default().track_total_hits
        });
    };
    if let Ok(track) = place.boolean() {
        return Ok(if track {
            TrackTotalHits::Exactly
        } else {
            TrackTotalHits::No
        });
    }
    if matches!(place.json, Json::Text(text) if text.is_empty()) {
        return Ok(TrackTotalHits::Exactly);
    }
    let up_to = place.count(0, i32::MAX as usize)?;
    if as_int {
        let message = format!("[rest_total_hits_as_int] needs an exact total, not one up to [{up_to}]");
        return Err(place.illegal(message));
    }
    Ok(TrackTotalHits::UpTo(up_to))
}
