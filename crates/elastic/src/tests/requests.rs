//! What valid requests become.

use instep_core::query::*;
use instep_core::request::{SearchRequest, SourceFilter, TrackTotalHits};

use super::{NOW, params, search};
use crate::{
    Hydration, Params, ResponseOptions, SearchCall, parse_count, parse_get, parse_mget, parse_search,
};

#[track_caller]
fn query(body: &str) -> Query {
    search(&format!(r#"{{"query":{body}}}"#)).unwrap().request.query
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

fn term(field: &str, value: i64) -> Query {
    Query::Term {
        field: field.to_owned(),
        value: Scalar::Int(value),
        boost: 1.0,
    }
}

#[test]
fn queries() {
    let cases = [
        (r#"{"match_all":{}}"#, Query::MatchAll { boost: 1.0 }),
        (r#"{"match_none":{}}"#, Query::MatchNone),
        (
            r#"{"match":{"title":"red car"}}"#,
            Query::Match(Match {
                field: "title".into(),
                text: text("red car"),
                operator: Operator::Or,
                minimum_should_match: None,
                zero_terms_all: false,
                boost: 1.0,
            }),
        ),
        (
            r#"{"match":{"title":{"query":7,"operator":"AND","minimum_should_match":-1,"zero_terms_query":"all","boost":"2"}}}"#,
            Query::Match(Match {
                field: "title".into(),
                text: Scalar::Int(7),
                operator: Operator::And,
                minimum_should_match: Some(MinimumShouldMatch::Count(-1)),
                zero_terms_all: true,
                boost: 2.0,
            }),
        ),
        (
            r#"{"multi_match":{"query":"red","fields":["title^3.5","b.*"],"tie_breaker":0.3}}"#,
            Query::MultiMatch(MultiMatch {
                fields: vec![("title".into(), 3.5), ("b.*".into(), 1.0)],
                text: text("red"),
                operator: Operator::Or,
                minimum_should_match: None,
                tie_breaker: 0.3,
                boost: 1.0,
            }),
        ),
        (
            r#"{"match_phrase":{"title":{"query":"red car","slop":3}}}"#,
            Query::MatchPhrase {
                field: "title".into(),
                text: "red car".into(),
                slop: 3,
                boost: 1.0,
            },
        ),
        (r#"{"term":{"a":1}}"#, term("a", 1)),
        (r#"{"term":{"a":{"value":-0}}}"#, term("a", 0)),
        (
            r#"{"terms":{"a":[1,2.5,"x",true,18446744073709551616]}}"#,
            Query::Terms {
                field: "a".into(),
                values: vec![
                    Scalar::Int(1),
                    Scalar::Double(2.5),
                    text("x"),
                    Scalar::Bool(true),
                    Scalar::Double(18_446_744_073_709_551_616.0),
                ],
                boost: 1.0,
            },
        ),
        (
            r#"{"terms":{"boost":["a"]}}"#,
            Query::Terms {
                field: "boost".into(),
                values: vec![text("a")],
                boost: 1.0,
            },
        ),
        (
            r#"{"ids":{"values":["1",2]}}"#,
            Query::Ids {
                values: vec!["1".into(), "2".into()],
                boost: 1.0,
            },
        ),
        (
            r#"{"range":{"a":{"gt":1,"lte":"now/d","time_zone":"-02:00","format":"yyyy"}}}"#,
            Query::Range(Range {
                field: "a".into(),
                lower: Some((Scalar::Int(1), false)),
                upper: Some((text("now/d"), true)),
                format: Some("yyyy".into()),
                offset_seconds: -7_200,
                boost: 1.0,
            }),
        ),
        (
            r#"{"range":{"a":{"gte":null}}}"#,
            Query::Range(Range {
                field: "a".into(),
                lower: None,
                upper: None,
                format: None,
                offset_seconds: 0,
                boost: 1.0,
            }),
        ),
        (
            r#"{"exists":{"field":"a.b"}}"#,
            Query::Exists {
                field: "a.b".into(),
                boost: 1.0,
            },
        ),
        (
            r#"{"prefix":{"a":{"value":"x","case_insensitive":true}}}"#,
            Query::Prefix {
                field: "a".into(),
                value: "x".into(),
                case_insensitive: true,
                boost: 1.0,
            },
        ),
        (r#"{"bool":{}}"#, Query::Bool(Bool::default())),
        (
            r#"{"bool":{"must":{"term":{"a":1}},"should":[{"term":{"b":1}},{"term":{"c":1}}],"must_not":[],"filter":[{"match_none":{}}],"minimum_should_match":"50%","boost":0}}"#,
            Query::Bool(Bool {
                must: vec![term("a", 1)],
                filter: vec![Query::MatchNone],
                should: vec![term("b", 1), term("c", 1)],
                must_not: vec![],
                minimum_should_match: Some(MinimumShouldMatch::Percent(50)),
                boost: Some(0.0),
            }),
        ),
        (
            r#"{"constant_score":{"filter":{"term":{"a":1}},"boost":3}}"#,
            Query::ConstantScore {
                filter: Box::new(term("a", 1)),
                boost: 3.0,
            },
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(query(body), expected, "{body}");
    }
}

#[test]
fn everything_of_a_body() {
    let call = search(
        r#"{"from":5,"size":"20","sort":["price",{"a":"desc","b":{"missing":"_first","unmapped_type":"long"}},"_score"],
            "search_after":null}"#,
    );
    assert!(call.is_err(), "null is no array");
    let call = search(
        r#"{"size":"20","sort":["price",{"a":"desc","b":{"missing":"_first","unmapped_type":"long"}},"_score"],
            "search_after":[0.1,null,"x",1.2],"_source":{"includes":"a","excludes":["b.*"]},
            "track_total_hits":50,"track_scores":true,"min_score":1,"timeout":"1m"}"#,
    )
    .unwrap();
    let by_field = |field: &str, unmapped: Option<&str>| SortBy::Field {
        field: field.into(),
        unmapped_type: unmapped.map(str::to_owned),
    };
    let sort = |by, descending, missing_first| Sort {
        by,
        descending,
        missing_first,
    };
    let request = SearchRequest {
        size: 20,
        sort: vec![
            sort(by_field("price", None), false, false),
            sort(by_field("a", None), true, false),
            sort(by_field("b", Some("long")), false, true),
            sort(SortBy::Score, true, false),
        ],
        search_after: Some(vec![
            Some(Scalar::Double(0.1)),
            None,
            Some(text("x")),
            Some(Scalar::Double(1.2)),
        ]),
        source: SourceFilter {
            none: false,
            includes: vec!["a".into()],
            excludes: vec!["b.*".into()],
        },
        track_total_hits: TrackTotalHits::UpTo(50),
        track_scores: true,
        min_score: Some(1.0),
        now_ms: NOW,
        ..SearchRequest::default()
    };
    let options = ResponseOptions {
        timeout_ms: Some(60_000),
        ..ResponseOptions::default()
    };
    assert_eq!(call, SearchCall { request, options });
}

#[test]
fn an_empty_search_is_ten_of_everything() {
    let expected = SearchRequest {
        now_ms: NOW,
        ..SearchRequest::default()
    };
    for body in ["", "{}"] {
        let call = parse_search(body.as_bytes(), &Params::default(), NOW).unwrap();
        assert_eq!(call.request, expected);
        assert_eq!(call.options, ResponseOptions::default());
    }
}

#[test]
fn the_url_goes_before_the_body() {
    let url = params(&[
        ("size", "3"),
        ("sort", "a:desc,_doc,b"),
        ("_source_excludes", "x,y"),
        ("track_total_hits", "false"),
        ("pretty", ""),
        ("typed_keys", "true"),
        ("hydrate", "true"),
    ]);
    let body = br#"{"size":7,"from":1,"_source":false,"track_total_hits":true}"#;
    let call = parse_search(body, &url, 0).unwrap();
    let request = call.request;
    assert_eq!((request.size, request.from), (3, 1));
    let sorted: Vec<_> = request
        .sort
        .iter()
        .map(|key| (key.by.clone(), key.descending))
        .collect();
    let field = |field: &str| SortBy::Field {
        field: field.into(),
        unmapped_type: None,
    };
    assert_eq!(
        sorted,
        [(field("a"), true), (SortBy::Doc, false), (field("b"), false)]
    );
    assert_eq!(request.source.excludes, ["x", "y"]);
    assert!(!request.source.none);
    assert_eq!(request.track_total_hits, TrackTotalHits::No);
    assert!(call.options.pretty && call.options.typed_keys && call.options.hydrate == Hydration::Row);
}

#[test]
fn totals() {
    let cases = [
        (&[("rest_total_hits_as_int", "true")][..], TrackTotalHits::Exactly),
        (&[("track_total_hits", "7")], TrackTotalHits::UpTo(7)),
        (&[("track_total_hits", "")], TrackTotalHits::Exactly),
        (
            &[("rest_total_hits_as_int", "true"), ("track_total_hits", "false")],
            TrackTotalHits::No,
        ),
    ];
    for (pairs, expected) in cases {
        let call = parse_search(b"", &params(pairs), 0).unwrap();
        assert_eq!(call.request.track_total_hits, expected, "{pairs:?}");
    }
}

#[test]
fn aggregations() {
    let call = search(
        r#"{"size":0,"aggs":{
            "brands":{"terms":{"field":"brand","order":{"p.avg":"asc"}},"aggs":{"p":{"stats":{"field":"price"}}}},
            "by_ten":{"histogram":{"field":"x","interval":10,"offset":-3}},
            "months":{"date_histogram":{"field":"d","calendar_interval":"month","time_zone":"+01:00"}},
            "ranges":{"range":{"field":"x","ranges":[{"to":1},{"key":"k","from":"2","to":null}]}}}}"#,
    )
    .unwrap();
    let stats = Aggregation {
        kind: AggregationKind::Metric {
            metric: Metric::Stats,
            field: "price".into(),
            missing: None,
        },
        aggregations: vec![],
    };
    let brands = Aggregation {
        kind: AggregationKind::Terms {
            field: "brand".into(),
            size: 10,
            order: vec![BucketOrder {
                by: BucketOrderBy::Metric {
                    name: "p".into(),
                    value: Some("avg".into()),
                },
                descending: false,
            }],
            min_doc_count: 1,
            missing: None,
        },
        aggregations: vec![("p".into(), stats)],
    };
    let plain = |kind| Aggregation {
        kind,
        aggregations: vec![],
    };
    let by_ten = plain(AggregationKind::Histogram {
        field: "x".into(),
        interval: 10.0,
        offset: 7.0,
        min_doc_count: 0,
        keyed: false,
    });
    let months = plain(AggregationKind::DateHistogram {
        field: "d".into(),
        interval: DateInterval::Month,
        offset_seconds: 3_600,
        min_doc_count: 0,
        keyed: false,
        format: None,
    });
    let range = |key: Option<&str>, from, to| RangeBucket {
        key: key.map(str::to_owned),
        from,
        to,
    };
    let ranges = plain(AggregationKind::Range {
        field: "x".into(),
        ranges: vec![range(None, None, Some(1.0)), range(Some("k"), Some(2.0), None)],
        keyed: false,
    });
    let expected = [
        ("brands", brands),
        ("by_ten", by_ten),
        ("months", months),
        ("ranges", ranges),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(name, a)| (name.to_owned(), a))
        .collect();
    assert_eq!(call.request.aggregations, expected);
}

#[test]
fn counts() {
    let call = parse_count(
        br#"{"query":{"term":{"a":1}}}"#,
        &params(&[("min_score", "0.5")]),
        NOW,
    )
    .unwrap();
    let expected = SearchRequest {
        query: term("a", 1),
        size: 0,
        track_total_hits: TrackTotalHits::Exactly,
        min_score: Some(0.5),
        now_ms: NOW,
        ..SearchRequest::default()
    };
    assert_eq!(call.request, expected);
}

#[test]
fn documents() {
    let call = parse_get(&params(&[
        ("_source", "a,b"),
        ("_source_excludes", "c"),
        ("hydrate", ""),
    ]))
    .unwrap();
    assert_eq!(call.source.includes, ["a", "b"]);
    assert_eq!(call.source.excludes, ["c"]);
    for (said, hydration) in [
        ("", Hydration::Row),
        ("true", Hydration::Row),
        ("false", Hydration::None),
        ("joins", Hydration::Joins),
    ] {
        let call = parse_get(&params(&[("hydrate", said)])).unwrap();
        assert_eq!(call.options.hydrate, hydration, "{said}");
    }
    assert!(parse_get(&params(&[("hydrate", "deep")])).is_err());

    let body = br#"{"docs":[{"_index":"car-sv","_id":"7"},{"_id":8,"_source":true}]}"#;
    let call = parse_mget(body, &params(&[("_source", "false")])).unwrap();
    let seen: Vec<_> = call
        .items
        .iter()
        .map(|item| (item.collection.as_deref(), item.id.as_str(), item.source.none))
        .collect();
    assert_eq!(seen, [(Some("car-sv"), "7", true), (None, "8", false)]);
}
