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

/// What is added to each hit of the rows behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hydration {
    /// Nothing.
    #[default]
    None,
    /// The current root row.
    Row,
    /// The current root row, with the rows joined to it.
    Joins,
}

impl Hydration {
    /// Whether rows are read at all.
    pub fn is_on(self) -> bool {
        match self {
            Hydration::None => false,
            Hydration::Row | Hydration::Joins => true,
        }
    }
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
    pub hydrate: Hydration,
    /// How long the caller is willing to wait. Answers are whole or an error, so an engine may ignore it.
    pub timeout_ms: Option<u64>,
}

impl ResponseOptions {
    /// What every endpoint has.
    pub(crate) fn common(params: &Params) -> Result<Self> {
        Ok(ResponseOptions {
            filter_path: params.filter_path()?,
            pretty: params.flag("pretty")?,
            hydrate: params.hydration()?,
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
    let hits = |place: &Place<'_>| place.count(0, i32::MAX as usize);
    let from = either(&members, params, "from", hits)?.unwrap_or(0);
    let size = either(&members, params, "size", hits)?.unwrap_or(10);
    check_window(&root, from, size, search_after.is_some())?;
    let aggregations = match (members.get("aggs"), members.get("aggregations")) {
        (Some(_), Some(place)) => {
            return Err(place.malformed("[search] takes [aggs] or [aggregations], not both"));
        }
        (Some(place), None) | (None, Some(place)) => aggregation::parse(&place, &budget)?,
        (None, None) => Vec::new(),
    };
    let mut options = ResponseOptions::common(params)?;
    options.rest_total_hits_as_int = params.flag("rest_total_hits_as_int")?;
    options.typed_keys = params.flag("typed_keys")?;
    options.timeout_ms = either(&members, params, "timeout", notation::timeout)?.flatten();
    let scores_in_body = members.get("track_scores").map(|place| place.boolean());
    let scores_in_body = scores_in_body.transpose()?.unwrap_or_default();
    let request = SearchRequest {
        query: query_of(&members, params, &budget)?,
        from,
        size,
        sort,
        search_after,
        source: source(&members, params)?,
        track_total_hits: track_total_hits(&members, params, options.rest_total_hits_as_int)?,
        track_scores: match params.get("track_scores") {
            Some(_) => params.flag("track_scores")?,
            None => scores_in_body,
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

/// A value that body and URL may name: the URL's counts, and the body's must be right nonetheless.
fn either<T>(
    members: &Members<'_>,
    params: &Params,
    name: &'static str,
    read: impl Fn(&Place<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let written = members.get(name).map(|place| read(&place)).transpose()?;
    let from_url = params.get(name).map(|place| read(&place)).transpose()?;
    Ok(from_url.or(written))
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

fn track_total_hits(members: &Members<'_>, params: &Params, as_int: bool) -> Result<TrackTotalHits> {
    const NAME: &str = "track_total_hits";
    match either(members, params, NAME, tracked)? {
        None if as_int => Ok(TrackTotalHits::Exactly),
        None => Ok(SearchRequest::default().track_total_hits),
        Some(TrackTotalHits::UpTo(up_to)) if as_int => {
            let place = params.get(NAME).or_else(|| members.get(NAME));
            let place = place.expect("the value was read there");
            let message = format!("[rest_total_hits_as_int] needs an exact total, not one up to [{up_to}]");
            Err(place.illegal(message))
        }
        Some(tracked) => Ok(tracked),
    }
}

fn tracked(place: &Place<'_>) -> Result<TrackTotalHits> {
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
    Ok(TrackTotalHits::UpTo(place.count(0, i32::MAX as usize)?))
}
