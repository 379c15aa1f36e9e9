//! What the dialect can express, in one table: it drives the parser and its messages, and is what an endpoint shows.
//!
//! A clause that is not here cannot be parsed; a key that is not here is refused; a test asserts that each key here is
//! read, and that leaving one out changes what is asked unless the table says it cannot.

use instep_core::Result;
use instep_core::query::{AggregationKind, Query};
use serde::Serialize;

use crate::aggregation;
use crate::json::MAX_DEPTH;
use crate::place::Place;
use crate::query::{self, Budget};

/// Hits that can be reached by `from` and `size`.
pub(crate) const MAX_WINDOW: usize = 10_000;
/// Clauses and aggregations in one request.
pub(crate) const MAX_CLAUSES: usize = 1_024;
/// Clauses inside clauses, and aggregations inside aggregations.
pub(crate) const MAX_NESTING: usize = 20;
/// Values of one `terms` or `ids` query.
pub(crate) const MAX_VALUES: usize = 65_536;
/// Buckets of one terms aggregation; ranges of one range aggregation.
pub(crate) const MAX_BUCKETS: usize = 10_000;
/// Keys of one sort.
pub(crate) const MAX_SORT_KEYS: usize = 64;
/// Documents of one `_mget`.
pub(crate) const MAX_DOCUMENTS: usize = 10_000;

/// A JSON object of the dialect and the keys it may have.
#[derive(Debug, Serialize)]
pub struct Clause {
    /// Its name.
    pub name: &'static str,
    /// Its keys; all others are refused.
    pub keys: &'static [&'static str],
    /// The object is written below the name of a field: `{"match": {"<field>": {…}}}`.
    pub by_field: bool,
    /// Keys that are checked but cannot change an answer.
    pub without_effect: &'static [&'static str],
    /// What of the keys' values is possible, where it is not everything.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
    /// What to write in place of keys that people know from elsewhere.
    #[serde(skip)]
    pub(crate) instead: &'static [(&'static str, &'static str)],
}

impl Clause {
    const fn new(name: &'static str, keys: &'static [&'static str]) -> Self {
        Clause {
            name,
            keys,
            by_field: false,
            without_effect: &[],
            note: "",
            instead: &[],
        }
    }

    const fn by_field(mut self) -> Self {
        self.by_field = true;
        self
    }

    const fn without_effect(mut self, keys: &'static [&'static str]) -> Self {
        self.without_effect = keys;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    const fn instead(mut self, instead: &'static [(&'static str, &'static str)]) -> Self {
        self.instead = instead;
        self
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// The keys, for a message.
    pub(crate) fn listed(&self) -> String {
        match self.keys {
            [] => "none".to_owned(),
            keys => keys.join(", "),
        }
    }

    pub(crate) fn instead_of(&self, key: &str) -> Option<&'static str> {
        let found = self.instead.iter().find(|(known, _)| *known == key);
        found.map(|(_, remedy)| *remedy)
    }
}

/// A query clause and what reads it.
#[derive(Serialize)]
pub(crate) struct QueryClause {
    #[serde(flatten)]
    pub(crate) clause: Clause,
    #[serde(skip)]
    pub(crate) parse: fn(&Place<'_>, &'static Clause, &Budget) -> Result<Query>,
}

/// An aggregation and what reads it.
#[derive(Serialize)]
pub(crate) struct AggregationClause {
    #[serde(flatten)]
    pub(crate) clause: Clause,
    /// It has buckets, and so may have aggregations inside.
    pub(crate) buckets: bool,
    #[serde(skip)]
    pub(crate) parse: fn(&Place<'_>, &'static Clause) -> Result<AggregationKind>,
}

const TEXT_NOTE: &str = "no fuzziness, analyzer or lenient";

/// The queries.
pub(crate) static QUERIES: &[QueryClause] = &[
    QueryClause {
        clause: Clause::new("match_all", &["boost"]),
        parse: query::match_all,
    },
    QueryClause {
        clause: Clause::new("match_none", &[]),
        parse: query::match_none,
    },
    QueryClause {
        clause: Clause::new(
            "match",
            &[
                "query",
                "operator",
                "minimum_should_match",
                "zero_terms_query",
                "boost",
            ],
        )
        .by_field()
        .note(TEXT_NOTE),
        parse: query::match_text,
    },
    QueryClause {
        clause: Clause::new(
            "multi_match",
            &[
                "query",
                "fields",
                "type",
                "tie_breaker",
                "operator",
                "minimum_should_match",
                "boost",
            ],
        )
        .without_effect(&["type"])
        .note("type is best_fields; fields must be given"),
        parse: query::multi_match,
    },
    QueryClause {
        clause: Clause::new("match_phrase", &["query", "slop", "boost"])
            .by_field()
            .note("engines may refuse a slop above 0"),
        parse: query::match_phrase,
    },
    QueryClause {
        clause: Clause::new("term", &["value", "case_insensitive", "boost"])
            .by_field()
            .without_effect(&["case_insensitive"])
            .note("case_insensitive is false"),
        parse: query::term,
    },
    QueryClause {
        clause: Clause::new("terms", &["boost"])
            .note("one more key, a field with its array of values; no terms lookup"),
        parse: query::terms,
    },
    QueryClause {
        clause: Clause::new("ids", &["values", "boost"]),
        parse: query::ids,
    },
    QueryClause {
        clause: Clause::new(
            "range",
            &["gte", "gt", "lte", "lt", "format", "time_zone", "boost"],
        )
        .by_field()
        .note("time_zone is an offset (`+01:00`) or UTC")
        .instead(&[
            ("from", "use gte or gt"),
            ("to", "use lte or lt"),
            ("include_lower", "use gte or gt"),
            ("include_upper", "use lte or lt"),
        ]),
        parse: query::range,
    },
    QueryClause {
        clause: Clause::new("exists", &["field", "boost"]),
        parse: query::exists,
    },
    QueryClause {
        clause: Clause::new("prefix", &["value", "case_insensitive", "boost"]).by_field(),
        parse: query::prefix,
    },
    QueryClause {
        clause: Clause::new(
            "bool",
            &[
                "must",
                "filter",
                "should",
                "must_not",
                "minimum_should_match",
                "boost",
            ],
        )
        .instead(&[
            ("mustNot", "write must_not"),
            ("minimumShouldMatch", "write minimum_should_match"),
        ]),
        parse: query::boolean,
    },
    QueryClause {
        clause: Clause::new("constant_score", &["filter", "boost"]),
        parse: query::constant_score,
    },
];

/// The aggregations.
pub(crate) static AGGREGATIONS: &[AggregationClause] = &[
    AggregationClause {
        clause: Clause::new(
            "terms",
            &["field", "size", "order", "min_doc_count", "missing", "shard_size"],
        )
        .without_effect(&["shard_size"])
        .note("order by _count, _key or a metric directly inside"),
        buckets: true,
        parse: aggregation::terms,
    },
    AggregationClause {
        clause: Clause::new("range", &["field", "ranges", "keyed"]).note("bounds are numbers"),
        buckets: true,
        parse: aggregation::range,
    },
    AggregationClause {
        clause: Clause::new(
            "histogram",
            &["field", "interval", "offset", "min_doc_count", "keyed"],
        ),
        buckets: true,
        parse: aggregation::histogram,
    },
    AggregationClause {
        clause: Clause::new(
            "date_histogram",
            &[
                "field",
                "fixed_interval",
                "calendar_interval",
                "time_zone",
                "format",
                "keyed",
                "min_doc_count",
            ],
        )
        .note("time_zone is an offset (`+01:00`) or UTC")
        .instead(&[("interval", "use fixed_interval or calendar_interval")]),
        buckets: true,
        parse: aggregation::date_histogram,
    },
    AggregationClause {
        clause: Clause::new("min", METRIC_KEYS),
        buckets: false,
        parse: aggregation::min,
    },
    AggregationClause {
        clause: Clause::new("max", METRIC_KEYS),
        buckets: false,
        parse: aggregation::max,
    },
    AggregationClause {
        clause: Clause::new("avg", METRIC_KEYS),
        buckets: false,
        parse: aggregation::avg,
    },
    AggregationClause {
        clause: Clause::new("sum", METRIC_KEYS),
        buckets: false,
        parse: aggregation::sum,
    },
    AggregationClause {
        clause: Clause::new("stats", METRIC_KEYS),
        buckets: false,
        parse: aggregation::stats,
    },
    AggregationClause {
        clause: Clause::new("value_count", METRIC_KEYS),
        buckets: false,
        parse: aggregation::value_count,
    },
];

const METRIC_KEYS: &[&str] = &["field", "missing"];

/// One range of a range aggregation.
pub(crate) static RANGE_ENTRY: Clause = Clause::new("ranges", &["key", "from", "to"]);

/// The body of `_search`.
pub(crate) static SEARCH_BODY: Clause = Clause::new(
    "search",
    &[
        "query",
        "from",
        "size",
        "sort",
        "search_after",
        "_source",
        "track_total_hits",
        "track_scores",
        "min_score",
        "aggs",
        "aggregations",
        "timeout",
        "version",
        "seq_no_primary_term",
        "explain",
        "profile",
    ],
)
.without_effect(&["version", "seq_no_primary_term", "explain", "profile"])
.note("version, seq_no_primary_term, explain and profile are false");

/// The body of `_count`.
pub(crate) static COUNT_BODY: Clause = Clause::new("count", &["query"]);

/// The body of `_mget`.
pub(crate) static MGET_BODY: Clause = Clause::new("mget", &["docs", "ids"]);

/// One document of `_mget`.
pub(crate) static MGET_DOCUMENT: Clause = Clause::new("docs", &["_index", "_id", "_source"]);

/// `_source` as an object.
pub(crate) static SOURCE: Clause = Clause::new("_source", &["includes", "excludes"])
    .instead(&[("include", "write includes"), ("exclude", "write excludes")]);

/// A sort key by field.
pub(crate) static SORT_FIELD: Clause = Clause::new("sort", &["order", "missing", "unmapped_type"])
    .by_field()
    .note("missing is _last or _first");

/// A sort key by `_score`, `_doc` or `_id`.
pub(crate) static SORT_SPECIAL: Clause = Clause::new("sort by _score, _doc or _id", &["order"]);

/// Where a URL parameter may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `_search`.
    Search,
    /// `_count`.
    Count,
    /// `_doc/<id>`.
    Get,
    /// `_mget`.
    Mget,
}

impl Endpoint {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Endpoint::Search => "_search",
            Endpoint::Count => "_count",
            Endpoint::Get => "_doc",
            Endpoint::Mget => "_mget",
        }
    }
}

/// What values of a URL parameter are accepted.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Takes {
    /// What the parser makes of it; it changes the answer.
    Parsed,
    /// One of these, none of which changes an answer.
    WithoutEffect(&'static [&'static str]),
    /// A number from here on; it changes no answer.
    NumberWithoutEffect(i64),
    /// The name of a session, which changes no answer; names that select shards start with `_` and are refused.
    SessionName,
    /// States of indexes, which are all open and visible here: any that include the open ones.
    IndexStates,
}

/// A URL parameter.
#[derive(Clone, Debug, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it may stand.
    pub endpoints: &'static [Endpoint],
    /// Which values are accepted.
    pub(crate) takes: Takes,
    /// One of its values.
    pub example: &'static str,
    /// Why it may be accepted, or what of it is possible.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

const fn parsed(name: &'static str, endpoints: &'static [Endpoint], example: &'static str) -> Parameter {
    Parameter {
        name,
        endpoints,
        takes: Takes::Parsed,
        example,
        note: "",
    }
}

const fn inert(
    name: &'static str,
    endpoints: &'static [Endpoint],
    takes: Takes,
    example: &'static str,
    note: &'static str,
) -> Parameter {
    Parameter {
        name,
        endpoints,
        takes,
        example,
        note,
    }
}

const EVERYWHERE: &[Endpoint] = &[Endpoint::Search, Endpoint::Count, Endpoint::Get, Endpoint::Mget];
const SEARCHES: &[Endpoint] = &[Endpoint::Search, Endpoint::Count];
const SEARCH: &[Endpoint] = &[Endpoint::Search];
const READS: &[Endpoint] = &[Endpoint::Search, Endpoint::Get, Endpoint::Mget];
const BY_ID: &[Endpoint] = &[Endpoint::Get, Endpoint::Mget];
const FLAG: Takes = Takes::WithoutEffect(&["", "true", "false"]);
const ONLY_FALSE: Takes = Takes::WithoutEffect(&["false"]);
const COPIES: &str = "an index has one copy and one shard";

/// The URL parameters.
pub(crate) static PARAMETERS: &[Parameter] = &[
    parsed("q", SEARCHES, "*:*"),
    parsed("from", SEARCH, "5"),
    parsed("size", SEARCH, "5"),
    parsed("sort", SEARCH, "year:desc,_score"),
    parsed("_source", READS, "title,seller.*"),
    parsed("_source_includes", READS, "title"),
    parsed("_source_excludes", READS, "body"),
    parsed("track_total_hits", SEARCH, "true"),
    parsed("track_scores", SEARCH, "true"),
    parsed("min_score", &[Endpoint::Count], "0.5"),
    parsed("timeout", SEARCH, "500ms"),
    parsed("rest_total_hits_as_int", SEARCH, "true"),
    parsed("typed_keys", SEARCH, "true"),
    parsed("filter_path", EVERYWHERE, "hits.hits._id"),
    parsed("pretty", EVERYWHERE, "true"),
    parsed("hydrate", READS, "true"),
    inert(
        "human",
        EVERYWHERE,
        FLAG,
        "true",
        "no answer holds sizes or durations",
    ),
    inert(
        "error_trace",
        EVERYWHERE,
        ONLY_FALSE,
        "false",
        "errors have no stack trace",
    ),
    inert(
        "format",
        EVERYWHERE,
        Takes::WithoutEffect(&["json"]),
        "json",
        "answers are JSON",
    ),
    inert(
        "ignore_unavailable",
        SEARCHES,
        ONLY_FALSE,
        "false",
        "a name that does not exist is an error",
    ),
    inert(
        "allow_no_indices",
        SEARCHES,
        Takes::WithoutEffect(&["", "true"]),
        "true",
        "a pattern that fits nothing finds nothing",
    ),
    inert(
        "expand_wildcards",
        SEARCHES,
        Takes::IndexStates,
        "open,hidden",
        "every index is open and visible",
    ),
    inert("request_cache", SEARCH, FLAG, "true", "a cache changes no answer"),
    inert(
        "preference",
        EVERYWHERE,
        Takes::SessionName,
        "some-session",
        COPIES,
    ),
    inert(
        "search_type",
        SEARCH,
        Takes::WithoutEffect(&["query_then_fetch"]),
        "query_then_fetch",
        COPIES,
    ),
    inert(
        "ccs_minimize_roundtrips",
        SEARCH,
        FLAG,
        "true",
        "there are no remote clusters",
    ),
    inert(
        "batched_reduce_size",
        SEARCH,
        Takes::NumberWithoutEffect(2),
        "512",
        COPIES,
    ),
    inert(
        "max_concurrent_shard_requests",
        SEARCH,
        Takes::NumberWithoutEffect(1),
        "5",
        COPIES,
    ),
    inert(
        "pre_filter_shard_size",
        SEARCH,
        Takes::NumberWithoutEffect(1),
        "128",
        COPIES,
    ),
    inert(
        "allow_partial_search_results",
        SEARCH,
        FLAG,
        "true",
        "answers are whole or an error",
    ),
    inert(
        "version",
        SEARCH,
        ONLY_FALSE,
        "false",
        "documents carry no version that callers see",
    ),
    inert(
        "seq_no_primary_term",
        SEARCH,
        ONLY_FALSE,
        "false",
        "documents carry no version that callers see",
    ),
    inert("explain", SEARCH, ONLY_FALSE, "false", "scores are not explained"),
    inert(
        "realtime",
        BY_ID,
        Takes::WithoutEffect(&["", "true"]),
        "true",
        "reads by id see the newest durable state",
    ),
    inert(
        "refresh",
        BY_ID,
        ONLY_FALSE,
        "false",
        "reads by id see the newest durable state",
    ),
];

/// The whole table as JSON.
pub fn capabilities() -> String {
    #[derive(Serialize)]
    struct Limits {
        nesting: usize,
        json_depth: usize,
        clauses: usize,
        from_plus_size: usize,
        values_of_a_query: usize,
        buckets_of_an_aggregation: usize,
        sort_keys: usize,
        documents_by_id: usize,
    }
    #[derive(Serialize)]
    struct Table {
        queries: &'static [QueryClause],
        aggregations: &'static [AggregationClause],
        objects: [&'static Clause; 8],
        parameters: &'static [Parameter],
        limits: Limits,
    }
    let table = Table {
        queries: QUERIES,
        aggregations: AGGREGATIONS,
        objects: objects(),
        parameters: PARAMETERS,
        limits: Limits {
            nesting: MAX_NESTING,
            json_depth: MAX_DEPTH,
            clauses: MAX_CLAUSES,
            from_plus_size: MAX_WINDOW,
            values_of_a_query: MAX_VALUES,
            buckets_of_an_aggregation: MAX_BUCKETS,
            sort_keys: MAX_SORT_KEYS,
            documents_by_id: MAX_DOCUMENTS,
        },
    };
    serde_json::to_string(&table).expect("a table of names and numbers is JSON")
}

/// The objects that are neither query nor aggregation.
pub(crate) fn objects() -> [&'static Clause; 8] {
    [
        &SEARCH_BODY,
        &COUNT_BODY,
        &MGET_BODY,
        &MGET_DOCUMENT,
        &SOURCE,
        &SORT_FIELD,
        &SORT_SPECIAL,
        &RANGE_ENTRY,
    ]
}
