//! Answers, byte for byte.

use std::sync::Arc;

use instep_core::key::DocId;
use instep_core::name::IndexName;
use instep_core::query::Scalar;
use instep_core::request::{AggregationResult, Bucket, Buckets, Hit, SearchResponse, TermsRest, TotalHits};
use instep_core::{Error, Fault};

use super::{NOW, params};
use crate::{
    Answered, GetAnswer, GetOutcome, ResponseOptions, parse_search, render_count, render_error, render_get,
    render_info, render_mget, render_search,
};

fn logical(index: &IndexName) -> &'static str {
    match index.as_str() {
        "documents-a-car-sv" => "car-sv",
        other => panic!("{other}"),
    }
}

fn hit(id: &str, score: Option<f32>, source: Option<&str>, sort: Vec<Option<Scalar>>) -> Hit {
    Hit {
        index: "documents-a-car-sv".into(),
        id: DocId::parse(id).unwrap(),
        score,
        source: source.map(Arc::from),
        sort,
    }
}

fn found(hits: Vec<Hit>) -> SearchResponse {
    SearchResponse {
        total: Some(TotalHits {
            value: 2,
            exact: true,
        }),
        max_score: hits.first().and_then(|hit| hit.score),
        hits,
        aggregations: vec![],
    }
}

#[track_caller]
fn check(
    body: &str,
    url: &[(&str, &str)],
    response: &SearchResponse,
    rows: Option<&[Option<String>]>,
    expected: &str,
) {
    let call = parse_search(body.as_bytes(), &params(url), NOW).unwrap();
    let answered = Answered {
        took_ms: 3,
        indexes: 2,
        logical_name: &|index| logical(index),
        rows,
    };
    assert_eq!(render_search(&call, response, &answered), expected);
}

#[test]
fn hits() {
    let response = found(vec![
        hit("7", Some(1.0), Some(r#"{"b":1.10,"a":"\u00e9"}"#), vec![]),
        hit("8\"", Some(0.00012), None, vec![]),
    ]);
    check(
        "",
        &[],
        &response,
        None,
        r#"{"took":3,"timed_out":false,"_shards":{"total":2,"successful":2,"skipped":0,"failed":0},"hits":{"total":{"value":2,"relation":"eq"},"max_score":1.0,"hits":[{"_index":"car-sv","_id":"7","_score":1.0,"_source":{"b":1.10,"a":"\u00e9"}},{"_index":"car-sv","_id":"8\"","_score":1.2E-4}]}}"#,
    );
    check(
        "",
        &[
            ("rest_total_hits_as_int", ""),
            ("filter_path", "hits.total,**._id"),
        ],
        &response,
        None,
        r#"{"hits":{"total":2,"hits":[{"_id":"7"},{"_id":"8\""}]}}"#,
    );
    let rows = [Some(r#"{"id":7,"x":null}"#.to_owned()), None];
    check(
        "",
        &[("hydrate", "true"), ("filter_path", "hits.hits._row")],
        &response,
        Some(&rows),
        r#"{"hits":{"hits":[{"_row":{"id":7,"x":null}},{"_row":null}]}}"#,
    );
}

#[test]
fn rows_stand_beside_their_hits() {
    let response = found(vec![
        hit("7", Some(1.0), None, vec![]),
        hit("8", None, None, vec![]),
    ]);
    let rows = [Some(r#"{"id":7}"#.to_owned()), None];
    check(
        "",
        &[
            ("hydrate", "true"),
            ("filter_path", "-took,-timed_out,-_shards,-hits.total"),
        ],
        &response,
        Some(&rows),
        r#"{"hits":{"max_score":1.0,"hits":[{"_index":"car-sv","_id":"7","_score":1.0,"_row":{"id":7}},{"_index":"car-sv","_id":"8","_score":null,"_row":null}]}}"#,
    );
}

#[test]
fn sort_values() {
    let values = vec![
        Some(Scalar::Double(f64::from(1.2_f32))),
        Some(Scalar::Double(1.2)),
        Some(Scalar::Int(i64::MIN)),
        Some(Scalar::Text("a\nb".to_owned())),
        Some(Scalar::Bool(true)),
        None,
    ];
    check(
        r#"{"sort":["_score","p","q","r","s","t"]}"#,
        &[("filter_path", "hits.hits")],
        &found(vec![hit("7", None, None, values)]),
        None,
        r#"{"hits":{"hits":[{"_index":"car-sv","_id":"7","_score":null,"sort":[1.2,1.2,-9223372036854775808,"a\nb",true,null]}]}}"#,
    );
}

#[test]
fn totals() {
    let mut response = found(vec![]);
    response.total = Some(TotalHits {
        value: 10_000,
        exact: false,
    });
    let only = ("filter_path", "hits");
    let gte = r#"{"hits":{"total":{"value":10000,"relation":"gte"},"max_score":null,"hits":[]}}"#;
    check("", &[only], &response, None, gte);
    response.total = None;
    let none = r#"{"hits":{"max_score":null,"hits":[]}}"#;
    check(r#"{"track_total_hits":false}"#, &[only], &response, None, none);
    check(
        r#"{"track_total_hits":false}"#,
        &[only, ("rest_total_hits_as_int", "true")],
        &response,
        None,
        r#"{"hits":{"total":-1,"max_score":null,"hits":[]}}"#,
    );
}

#[test]
fn pretty() {
    let response = found(vec![]);
    check(
        "",
        &[("pretty", ""), ("filter_path", "took,hits.total,hits.hits")],
        &response,
        None,
        "{\n  \"took\" : 3,\n  \"hits\" : {\n    \"total\" : {\n      \"value\" : 2,\n      \"relation\" : \"eq\"\n    },\n    \"hits\" : []\n  }\n}\n",
    );
}

fn bucket(key: Scalar, doc_count: u64) -> Bucket {
    Bucket {
        key,
        key_as_string: None,
        from: None,
        to: None,
        doc_count,
        aggregations: vec![],
    }
}

fn buckets(buckets: Vec<Bucket>, keyed: bool, terms: Option<TermsRest>) -> AggregationResult {
    AggregationResult::Buckets(Buckets {
        buckets,
        keyed,
        terms,
    })
}

#[track_caller]
fn check_aggregation(asked: &str, url: &[(&str, &str)], result: AggregationResult, expected: &str) {
    let mut response = found(vec![]);
    response.aggregations = vec![("a".to_owned(), result)];
    let body = format!(r#"{{"aggs":{{"a":{asked}}}}}"#);
    let url: Vec<_> = [("filter_path", "aggregations")]
        .iter()
        .chain(url)
        .copied()
        .collect();
    check(
        &body,
        &url,
        &response,
        None,
        &format!(r#"{{"aggregations":{{{expected}}}}}"#),
    );
}

#[test]
fn terms() {
    let asked =
        r#"{"terms":{"field":"x"},"aggs":{"n":{"value_count":{"field":"y"}},"m":{"avg":{"field":"y"}}}}"#;
    let rest = Some(TermsRest {
        sum_other_doc_count: 4,
        doc_count_error_upper_bound: 0,
    });
    let number = |value| AggregationResult::Value {
        value,
        as_string: None,
    };
    let mut with_metrics = bucket(Scalar::Text("saab".into()), 3);
    with_metrics.aggregations = vec![("n".into(), number(Some(3.0))), ("m".into(), number(Some(2.0)))];
    let mut empty = bucket(Scalar::Text("".into()), 1);
    empty.aggregations = vec![("n".into(), number(Some(0.0))), ("m".into(), number(None))];
    check_aggregation(
        asked,
        &[("typed_keys", "")],
        buckets(vec![with_metrics, empty], false, rest),
        r#""sterms#a":{"doc_count_error_upper_bound":0,"sum_other_doc_count":4,"buckets":[{"key":"saab","doc_count":3,"value_count#n":{"value":3},"avg#m":{"value":2.0}},{"key":"","doc_count":1,"value_count#n":{"value":0},"avg#m":{"value":null}}]}"#,
    );
    let asked = r#"{"terms":{"field":"x"}}"#;
    let cases = [
        (
            Scalar::Bool(true),
            r#""lterms#a""#,
            r#"{"key":1,"key_as_string":"true","doc_count":1}"#,
        ),
        (Scalar::Int(-4), r#""lterms#a""#, r#"{"key":-4,"doc_count":1}"#),
        (
            Scalar::Double(4.0),
            r#""dterms#a""#,
            r#"{"key":4.0,"doc_count":1}"#,
        ),
    ];
    for (key, name, expected) in cases {
        let expected = format!(
            r#"{name}:{{"doc_count_error_upper_bound":-1,"sum_other_doc_count":0,"buckets":[{expected}]}}"#
        );
        let rest = TermsRest {
            sum_other_doc_count: 0,
            doc_count_error_upper_bound: -1,
        };
        let result = buckets(vec![bucket(key, 1)], false, Some(rest));
        check_aggregation(asked, &[("typed_keys", "true")], result, &expected);
    }
    check_aggregation(
        asked,
        &[("typed_keys", "true")],
        buckets(vec![], false, Some(TermsRest::default())),
        r#""umterms#a":{"doc_count_error_upper_bound":0,"sum_other_doc_count":0,"buckets":[]}"#,
    );
}

fn ranges() -> Vec<Bucket> {
    let range = |key: &str, from, to| Bucket {
        from,
        to,
        ..bucket(Scalar::Text(key.to_owned()), 1)
    };
    vec![
        // However an engine calls a range without a key, its key is made of its bounds.
        range("*-10", None, Some(10.0)),
        range("mid", Some(10.0), Some(20.5)),
        range("", Some(758_818_273_213_135_600.0), None),
    ]
}

#[test]
fn range_buckets() {
    let asked = |keyed: bool| {
        format!(
            r#"{{"range":{{"field":"x","keyed":{keyed},"ranges":[{{"to":10}},{{"key":"mid","from":10,"to":20.5}},{{"from":758818273213135600}}]}}}}"#
        )
    };
    check_aggregation(
        &asked(false),
        &[],
        buckets(ranges(), false, None),
        r#""a":{"buckets":[{"key":"*-10.0","to":10.0,"doc_count":1},{"key":"mid","from":10.0,"to":20.5,"doc_count":1},{"key":"7.588182732131356E17-*","from":7.588182732131356E17,"doc_count":1}]}"#,
    );
    check_aggregation(
        &asked(true),
        &[],
        buckets(ranges(), true, None),
        r#""a":{"buckets":{"*-10.0":{"to":10.0,"doc_count":1},"mid":{"from":10.0,"to":20.5,"doc_count":1},"7.588182732131356E17-*":{"from":7.588182732131356E17,"doc_count":1}}}"#,
    );
}

#[test]
fn histograms() {
    for keyed in [false, true] {
        let asked = format!(r#"{{"histogram":{{"field":"x","interval":10,"keyed":{keyed}}}}}"#);
        let expected = match keyed {
            false => r#""a":{"buckets":[{"key":10.0,"doc_count":2},{"key":20.0,"doc_count":0}]}"#,
            true => {
                r#""a":{"buckets":{"10.0":{"key":10.0,"doc_count":2},"20.0":{"key":20.0,"doc_count":0}}}"#
            }
        };
        let keys = vec![bucket(Scalar::Int(10), 2), bucket(Scalar::Double(20.0), 0)];
        check_aggregation(&asked, &[], buckets(keys, keyed, None), expected);

        let asked =
            format!(r#"{{"date_histogram":{{"field":"x","calendar_interval":"1M","keyed":{keyed}}}}}"#);
        let expected = match keyed {
            false => r#""a":{"buckets":[{"key_as_string":"2020-01","key":1577836800000,"doc_count":2}]}"#,
            true => {
                r#""a":{"buckets":{"2020-01":{"key_as_string":"2020-01","key":1577836800000,"doc_count":2}}}"#
            }
        };
        for key in [
            Scalar::Int(1_577_836_800_000),
            Scalar::Double(1_577_836_800_000.0),
        ] {
            let mut month = bucket(key, 2);
            month.key_as_string = Some("2020-01".into());
            check_aggregation(&asked, &[], buckets(vec![month], keyed, None), expected);
        }
    }
}

#[test]
fn metrics() {
    let stats = |min, sum| AggregationResult::Stats {
        count: 2,
        min,
        max: Some(20.0),
        avg: Some(0.1),
        sum,
    };
    check_aggregation(
        r#"{"stats":{"field":"x"}}"#,
        &[("typed_keys", "")],
        stats(Some(1e7), 0.0),
        r#""stats#a":{"count":2,"min":1.0E7,"max":20.0,"avg":0.1,"sum":0.0}"#,
    );
    check_aggregation(
        r#"{"stats":{"field":"x"}}"#,
        &[],
        stats(None, f64::NEG_INFINITY),
        r#""a":{"count":2,"min":null,"max":20.0,"avg":0.1,"sum":"-Infinity"}"#,
    );
    let date = AggregationResult::Value {
        value: Some(1_577_836_800_000.0),
        as_string: Some("2020-01-01T00:00:00.000Z".into()),
    };
    check_aggregation(
        r#"{"max":{"field":"x"}}"#,
        &[],
        date,
        r#""a":{"value":1.5778368E12,"value_as_string":"2020-01-01T00:00:00.000Z"}"#,
    );
}

#[test]
fn counts() {
    let call = crate::parse_count(b"", &params(&[]), NOW).unwrap();
    assert_eq!(
        render_count(&call, &found(vec![]), 1),
        r#"{"count":2,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0}}"#
    );
}

#[test]
fn documents() {
    let id = DocId::parse("7").unwrap();
    let answer = |outcome| GetAnswer {
        index: "car",
        id: &id,
        outcome,
    };
    let plain = ResponseOptions::default();
    let found = answer(GetOutcome::Found {
        source: Some(r#"{"a":1}"#),
        row: Some(None),
    });
    let error = Error::not_found("index_not_found_exception", "no such index [lorry]");
    let failed = answer(GetOutcome::Failed(&error));
    let missing = answer(GetOutcome::Missing);
    let there = r#"{"_index":"car","_id":"7","found":true,"_source":{"a":1},"_row":null}"#;
    let not_there = r#"{"_index":"car","_id":"7","found":false}"#;
    assert_eq!(render_get(&found, &plain), there);
    assert_eq!(render_get(&missing, &plain), not_there);
    let wrong = r#"{"_index":"car","_id":"7","error":{"root_cause":[{"type":"index_not_found_exception","reason":"no such index [lorry]"}],"type":"index_not_found_exception","reason":"no such index [lorry]","code":"index_not_found_exception"}}"#;
    assert_eq!(
        render_mget(&[found, missing, failed], &plain),
        format!(r#"{{"docs":[{there},{not_there},{wrong}]}}"#)
    );
}

#[test]
fn failures() {
    let error = super::search(r#"{"query":{"bool":{"must":[{"nested":{}}]}}}"#).unwrap_err();
    let (status, body) = render_error(&error);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"]), (400, &400.into()));
    assert_eq!(body["error"]["type"], "parsing_exception");
    assert_eq!(body["error"]["root_cause"][0]["reason"], body["error"]["reason"]);
    let reason = body["error"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("query.bool.must[0]: [nested] is not supported by instep; supported: "));

    let cases = [
        (Fault::Invalid, 400, "illegal_argument_exception"),
        (Fault::Unauthenticated, 401, "security_exception"),
        (Fault::Denied, 403, "security_exception"),
        (Fault::NotFound, 404, "resource_not_found_exception"),
        (Fault::Conflict, 409, "version_conflict_engine_exception"),
        (Fault::Transient, 503, "no_shard_available_action_exception"),
        (Fault::Fatal, 500, "exception"),
        (Fault::Poison, 500, "exception"),
    ];
    for (fault, status, kind) in cases {
        let error = Error::new(fault, "some_code", "it \"broke\"").with_remedy("mend it");
        let expected = format!(
            r#"{{"error":{{"root_cause":[{{"type":"{kind}","reason":"it \"broke\""}}],"type":"{kind}","reason":"it \"broke\"","code":"some_code","remedy":"mend it"}},"status":{status}}}"#
        );
        assert_eq!(render_error(&error), (status, expected));
    }
}

#[test]
fn identity() {
    let info: serde_json::Value = serde_json::from_str(&render_info("0.1.0")).unwrap();
    assert_eq!(info["version"]["number"], "7.10.2");
    assert_eq!(info["version"]["distribution"], "opensearch");
    assert_eq!(info["version"]["build_flavor"], "default");
    assert_eq!(info["tagline"], "You Know, for Search");
    assert_eq!(info["cluster_name"], "instep-0.1.0");
}
