//! Buckets and numbers, over one index and over several.

use instep_core::query::{
    Aggregation, AggregationKind, BucketOrder, BucketOrderBy, DateInterval, Metric, Query, RangeBucket,
    Scalar,
};
use instep_core::request::AggregationResult;
use instep_core::{Fault, IndexName, SearchRequest};
use serde_json::{Map, Value, json};

use super::fixture::{ask, filled, public, querying, text};
use super::{Failures, Subject};

fn alone(kind: AggregationKind) -> Aggregation {
    Aggregation {
        kind,
        aggregations: Vec::new(),
    }
}

fn with(kind: AggregationKind, inner: Vec<(&str, Aggregation)>) -> Aggregation {
    let aggregations = inner
        .into_iter()
        .map(|(name, inner)| (name.to_owned(), inner))
        .collect();
    Aggregation { kind, aggregations }
}

fn terms(field: &str) -> AggregationKind {
    AggregationKind::Terms {
        field: field.into(),
        size: 10,
        order: vec![],
        min_doc_count: 1,
        missing: None,
    }
}

fn ordered(field: &str, by: BucketOrderBy, descending: bool, taken: usize) -> AggregationKind {
    AggregationKind::Terms {
        field: field.into(),
        size: taken,
        order: vec![BucketOrder { by, descending }],
        min_doc_count: 1,
        missing: None,
    }
}

fn metric(metric: Metric, field: &str) -> AggregationKind {
    AggregationKind::Metric {
        metric,
        field: field.into(),
        missing: None,
    }
}

fn histogram(field: &str, interval: f64, offset: f64, min_doc_count: u64) -> AggregationKind {
    AggregationKind::Histogram {
        field: field.into(),
        interval,
        offset,
        min_doc_count,
        keyed: false,
    }
}

fn dates(interval: DateInterval, offset_seconds: i32, min_doc_count: u64) -> AggregationKind {
    AggregationKind::DateHistogram {
        field: "at".into(),
        interval,
        offset_seconds,
        min_doc_count,
        keyed: false,
        format: None,
    }
}

fn ranges(field: &str, ranges: &[(Option<f64>, Option<f64>)]) -> AggregationKind {
    let ranges = ranges
        .iter()
        .map(|&(from, to)| RangeBucket { key: None, from, to })
        .collect();
    AggregationKind::Range {
        field: field.into(),
        ranges,
        keyed: false,
    }
}

fn scalar(value: &Scalar) -> Value {
    serde_json::to_value(value).expect("a scalar is JSON")
}

/// A result in a short form: `[key, count, key as text?, {inner}?]` for a bucket, a number for a number.
fn short(result: &AggregationResult) -> Value {
    match result {
        AggregationResult::Value {
            value,
            as_string: None,
        } => json!(value),
        AggregationResult::Value { value, as_string } => json!([value, as_string]),
        AggregationResult::Stats {
            count,
            min,
            max,
            avg,
            sum,
        } => {
            json!({"count": count, "min": min, "max": max, "avg": avg, "sum": sum})
        }
        AggregationResult::Buckets(buckets) => {
            let each = buckets.buckets.iter().map(|bucket| {
                let mut parts = vec![scalar(&bucket.key), json!(bucket.doc_count)];
                parts.extend(bucket.key_as_string.iter().map(|text| json!(text)));
                if !bucket.aggregations.is_empty() {
                    parts.push(shorts(&bucket.aggregations));
                }
                Value::Array(parts)
            });
            let each: Vec<Value> = each.collect();
            match buckets.terms {
                Some(rest) if rest.sum_other_doc_count > 0 => {
                    json!({"buckets": each, "other": rest.sum_other_doc_count})
                }
                Some(_) | None => Value::Array(each),
            }
        }
    }
}

fn shorts(results: &[(String, AggregationResult)]) -> Value {
    let each = results.iter().map(|(name, result)| (name.clone(), short(result)));
    Value::Object(each.collect::<Map<_, _>>())
}

/// Name, aggregation, the short form of its result over all public documents.
fn table() -> Vec<(&'static str, Aggregation, Value)> {
    let missing = |field: &str, value: Scalar| AggregationKind::Terms {
        field: field.into(),
        size: 10,
        order: vec![],
        min_doc_count: 1,
        missing: Some(value),
    };
    let at_least = |field: &str, min_doc_count| AggregationKind::Terms {
        field: field.into(),
        size: 10,
        order: vec![],
        min_doc_count,
        missing: None,
    };
    let by_metric = |name: &str, value: Option<&str>| BucketOrderBy::Metric {
        name: name.into(),
        value: value.map(str::to_owned),
    };
    let day = 86_400_000;
    vec![
        // A document counts once in a bucket, however often it has the value; ties by key.
        (
            "terms",
            alone(terms("tag")),
            json!([["a", 2], ["b", 2], ["B", 1], ["c", 1]]),
        ),
        ("terms of integers", alone(terms("i")), json!([[10, 2], [-5, 1]])),
        (
            "terms of doubles",
            alone(terms("rating")),
            json!([[4.5, 2], [-0.5, 1]]),
        ),
        (
            "terms of decimals",
            alone(terms("price")),
            json!([[9.99, 1], [12.5, 1], [100.0, 1]]),
        ),
        (
            "terms of booleans",
            alone(terms("ok")),
            json!([[1, 2, "true"], [0, 1, "false"]]),
        ),
        (
            "terms of dates",
            alone(ordered("at", BucketOrderBy::Key, false, 2)),
            json!({"buckets": [
                [1_559_347_200_000_i64, 1, "2019-06-01T00:00:00.000Z"],
                [1_579_082_400_000_i64, 1, "2020-01-15T10:00:00.000Z"],
            ], "other": 3}),
        ),
        (
            "terms of a sub-field",
            alone(ordered("title.keyword", BucketOrderBy::Key, false, 2)),
            json!({
                "buckets": [["", 1], ["A quick red fox jumps over", 1]], "other": 4
            }),
        ),
        (
            "terms of a flattened path",
            alone(terms("extra.color")),
            json!([["blue", 1], ["red", 1]]),
        ),
        ("terms of an unmapped field", alone(terms("nowhere")), json!([])),
        (
            "terms, missing",
            alone(missing("tag", text("none"))),
            json!([["a", 2], ["b", 2], ["none", 2], ["B", 1], ["c", 1]]),
        ),
        (
            "terms, missing joins a bucket",
            alone(missing("i", Scalar::Int(-5))),
            json!([[-5, 4], [10, 2]]),
        ),
        (
            "terms by key",
            alone(ordered("tag", BucketOrderBy::Key, true, 2)),
            json!({
                "buckets": [["c", 1], ["b", 2]], "other": 3
            }),
        ),
        (
            "terms by count, ascending",
            alone(ordered("tag", BucketOrderBy::Count, false, 3)),
            json!({
                "buckets": [["B", 1], ["c", 1], ["a", 2]], "other": 2
            }),
        ),
        (
            "terms, min_doc_count",
            alone(at_least("tag", 2)),
            json!([["a", 2], ["b", 2]]),
        ),
        (
            "terms by a metric",
            with(
                ordered("tag", by_metric("sum", None), true, 10),
                vec![("sum", alone(metric(Metric::Sum, "price")))],
            ),
            json!([
                ["b", 2, {"sum": 109.99}], ["a", 2, {"sum": 9.99}], ["B", 1, {"sum": 0.0}], ["c", 1, {"sum": 0.0}]
            ]),
        ),
        (
            "terms by a metric without values",
            with(
                ordered("tag", by_metric("s", Some("min")), false, 10),
                vec![("s", alone(metric(Metric::Stats, "i")))],
            ),
            json!([
                ["b", 2, {"s": {"count": 2, "min": -5.0, "max": 10.0, "avg": 2.5, "sum": 5.0}}],
                ["a", 2, {"s": {"count": 2, "min": 10.0, "max": 10.0, "avg": 10.0, "sum": 20.0}}],
                ["c", 1, {"s": {"count": 1, "min": 10.0, "max": 10.0, "avg": 10.0, "sum": 10.0}}],
                ["B", 1, {"s": {"count": 0, "min": null, "max": null, "avg": null, "sum": 0.0}}],
            ]),
        ),
        (
            "terms in terms",
            with(terms("ok"), vec![("tags", alone(terms("tag")))]),
            json!([
                [1, 2, "true", {"tags": [["a", 2], ["b", 1], ["c", 1]]}],
                [0, 1, "false", {"tags": [["b", 1]]}],
            ]),
        ),
        ("min", alone(metric(Metric::Min, "i")), json!(-5.0)),
        (
            "max of an array of objects",
            alone(metric(Metric::Max, "reviews.stars")),
            json!(5.0),
        ),
        ("avg", alone(metric(Metric::Avg, "rating")), json!(8.5 / 3.0)),
        (
            "sum of decimals",
            alone(metric(Metric::Sum, "price")),
            json!(122.49),
        ),
        (
            "sum of booleans",
            alone(metric(Metric::Sum, "ok")),
            json!([2.0, "true"]),
        ),
        (
            "value_count",
            alone(metric(Metric::ValueCount, "reviews.stars")),
            json!(3.0),
        ),
        (
            "value_count of keywords, once each",
            alone(metric(Metric::ValueCount, "tag")),
            json!(6.0),
        ),
        (
            "min of dates",
            alone(metric(Metric::Min, "at")),
            json!([1_559_347_200_000.0, "2019-06-01T00:00:00.000Z"]),
        ),
        ("avg of none", alone(metric(Metric::Avg, "nowhere")), json!(null)),
        ("sum of none", alone(metric(Metric::Sum, "nowhere")), json!(0.0)),
        (
            "value_count of none",
            alone(metric(Metric::ValueCount, "nowhere")),
            json!(0.0),
        ),
        (
            "stats",
            alone(metric(Metric::Stats, "i")),
            json!({"count": 3, "min": -5.0, "max": 10.0, "avg": 5.0, "sum": 15.0}),
        ),
        (
            "sum, missing",
            alone(AggregationKind::Metric {
                metric: Metric::Sum,
                field: "i".into(),
                missing: Some(Scalar::Int(100)),
            }),
            json!(315.0),
        ),
        (
            "range",
            alone(ranges("i", &[(None, Some(10.0)), (Some(10.0), None)])),
            json!([["*-10.0", 1], ["10.0-*", 2]]),
        ),
        (
            "ranges overlap, and are put in order",
            with(
                ranges(
                    "price",
                    &[
                        (Some(12.5), Some(100.0)),
                        (Some(0.0), Some(1e7)),
                        (Some(1e8), None),
                    ],
                ),
                vec![("n", alone(metric(Metric::Avg, "n")))],
            ),
            json!([["0.0-1.0E7", 3, {"n": 2.0}], ["12.5-100.0", 1, {"n": 3.0}], ["1.0E8-*", 0, {"n": null}]]),
        ),
        (
            "range of several values",
            alone(ranges(
                "reviews.stars",
                &[(Some(3.0), Some(6.0)), (Some(5.0), Some(6.0))],
            )),
            json!([["3.0-6.0", 2], ["5.0-6.0", 1]]),
        ),
        (
            "histogram fills gaps",
            alone(histogram("i", 5.0, 0.0, 0)),
            json!([[-5.0, 1], [0.0, 0], [5.0, 0], [10.0, 2]]),
        ),
        (
            "histogram, min_doc_count",
            alone(histogram("i", 5.0, 0.0, 1)),
            json!([[-5.0, 1], [10.0, 2]]),
        ),
        (
            "histogram, offset",
            alone(histogram("rating", 2.0, 1.0, 1)),
            json!([[-1.0, 1], [3.0, 2]]),
        ),
        (
            "histogram of several values, once each",
            alone(histogram("reviews.stars", 10.0, 0.0, 1)),
            json!([[0.0, 2]]),
        ),
        (
            "histogram of decimals",
            alone(histogram("price", 10.0, 0.0, 1)),
            json!([[0.0, 1], [10.0, 1], [100.0, 1]]),
        ),
        (
            "years",
            alone(dates(DateInterval::Year, 0, 0)),
            json!([
                [1_546_300_800_000_i64, 1, "2019-01-01T00:00:00.000Z"],
                [1_577_836_800_000_i64, 3, "2020-01-01T00:00:00.000Z"],
                [1_609_459_200_000_i64, 1, "2021-01-01T00:00:00.000Z"],
            ]),
        ),
        (
            "years of local time",
            with(
                dates(DateInterval::Year, 3600, 1),
                vec![("n", alone(metric(Metric::ValueCount, "n")))],
            ),
            json!([
                [1_546_297_200_000_i64, 1, "2019-01-01T00:00:00.000+01:00", {"n": 0.0}],
                [1_577_833_200_000_i64, 2, "2020-01-01T00:00:00.000+01:00", {"n": 2.0}],
                [1_609_455_600_000_i64, 2, "2021-01-01T00:00:00.000+01:00", {"n": 1.0}],
            ]),
        ),
        (
            "quarters",
            alone(dates(DateInterval::Quarter, 0, 1)),
            json!([
                [1_554_076_800_000_i64, 1, "2019-04-01T00:00:00.000Z"],
                [1_577_836_800_000_i64, 2, "2020-01-01T00:00:00.000Z"],
                [1_601_510_400_000_i64, 1, "2020-10-01T00:00:00.000Z"],
                [1_617_235_200_000_i64, 1, "2021-04-01T00:00:00.000Z"],
            ]),
        ),
        (
            "fixed intervals",
            alone(dates(DateInterval::Fixed(365 * day), 0, 1)),
            json!([
                [49 * 365 * day, 1, "2018-12-20T00:00:00.000Z"],
                [50 * 365 * day, 2, "2019-12-20T00:00:00.000Z"],
                [51 * 365 * day, 2, "2020-12-19T00:00:00.000Z"],
            ]),
        ),
    ]
}

/// Name, aggregation: refused as the caller's error.
fn refused() -> Vec<(&'static str, Aggregation)> {
    let by = |name: &str| BucketOrderBy::Metric {
        name: name.into(),
        value: None,
    };
    vec![
        ("terms of text", alone(terms("title"))),
        ("sum of keywords", alone(metric(Metric::Sum, "tag"))),
        ("histogram of keywords", alone(histogram("tag", 1.0, 0.0, 1))),
        (
            "dates of booleans",
            alone(AggregationKind::DateHistogram {
                field: "ok".into(),
                interval: DateInterval::Year,
                offset_seconds: 0,
                min_doc_count: 1,
                keyed: false,
                format: None,
            }),
        ),
        ("order by nothing", alone(ordered("tag", by("x"), true, 1))),
        (
            "order by a bucket",
            with(ordered("tag", by("x"), true, 1), vec![("x", alone(terms("ok")))]),
        ),
    ]
}

/// So many ranges, which no value is in.
fn many_ranges(count: u32, inner: Option<Aggregation>) -> Aggregation {
    let low = |at| Some(1e9 + f64::from(at));
    let all: Vec<_> = (0..count).map(|at| (low(at), low(at + 1))).collect();
    with(
        ranges("i", &all),
        inner.map(|inner| ("inner", inner)).into_iter().collect(),
    )
}

/// Name, aggregation: more buckets than an answer may have.
fn too_many() -> Vec<(&'static str, Aggregation)> {
    let within = |kind, count| with(kind, vec![("inner", many_ranges(count, None))]);
    vec![
        ("a histogram's gaps", alone(histogram("n", 1.0, 0.0, 0))),
        ("ranges inside gaps", within(histogram("i", 0.01, 0.0, 0), 100)),
        ("ranges", many_ranges(65_536, None)),
        (
            "ranges inside ranges",
            many_ranges(1000, Some(many_ranges(1000, None))),
        ),
        (
            "ranges inside the terms of a segment",
            within(terms("tag"), 30_000),
        ),
        (
            "ranges inside the terms of all segments",
            within(terms("n"), 20_000),
        ),
    ]
}

async fn short_of(
    subject: Subject<'_>,
    indexes: &[IndexName],
    query: Query,
    aggregation: Aggregation,
) -> Result<Value, String> {
    let aggregations = vec![("x".to_owned(), aggregation)];
    let request = SearchRequest {
        aggregations,
        size: 0,
        ..querying(query)
    };
    let response = ask(subject, indexes, request)
        .await
        .map_err(|error| error.to_string())?;
    Ok(response
        .aggregations
        .first()
        .map_or(Value::Null, |(_, result)| short(result)))
}

/// Every aggregation over one index, then over the same documents in two, in three halves, and under a query.
pub async fn aggregations(subject: Subject<'_>) {
    let documents = public();
    let whole = [filled(subject, "aggregations", &documents).await];
    let (left, right) = documents.split_at(3);
    let halves = [
        filled(subject, "aggregations-a", left).await,
        filled(subject, "aggregations-b", right).await,
    ];
    let mut failures = Failures::default();
    let all = || Query::MatchAll { boost: 1.0 };
    for (name, aggregation, expected) in table() {
        let found = short_of(subject, &whole, all(), aggregation.clone()).await;
        failures.check(name, found, Ok(expected.clone()));
        let found = short_of(subject, &halves, all(), aggregation).await;
        failures.check(format!("{name}, in two indexes"), found, Ok(expected));
    }
    for (name, aggregation) in refused() {
        let aggregations = vec![("x".to_owned(), aggregation)];
        let request = SearchRequest {
            aggregations,
            size: 0,
            ..querying(all())
        };
        let fault = ask(subject, &whole, request)
            .await
            .err()
            .map(|error| error.fault());
        failures.check(name, fault, Some(Fault::Invalid));
    }
    for (name, aggregation) in too_many() {
        let found = short_of(subject, &halves, all(), aggregation).await;
        let refused = found
            .err()
            .is_some_and(|error| error.contains("more than 65535 buckets"));
        failures.check(format!("too many buckets: {name}"), refused, true);
    }
    // 60,004 buckets, which are made more than once: the documents of a key lie in several segments and indexes.
    let fits = with(terms("tag"), vec![("inner", many_ranges(15_000, None))]);
    let found = short_of(subject, &halves, all(), fits).await;
    failures.check("as many buckets as there may be", found.is_ok(), true);
    let some = Query::Term {
        field: "tag".into(),
        value: text("a"),
        boost: 1.0,
    };
    let found = short_of(subject, &whole, some.clone(), alone(terms("tag"))).await;
    failures.check("under a query", found, Ok(json!([["a", 2], ["b", 1], ["c", 1]])));
    let zero = AggregationKind::Terms {
        field: "tag".into(),
        size: 10,
        order: vec![],
        min_doc_count: 0,
        missing: None,
    };
    let found = short_of(subject, &whole, some, alone(zero.clone())).await;
    failures.check(
        "terms that did not match",
        found,
        Ok(json!([["a", 2], ["b", 1], ["c", 1], ["B", 0]])),
    );
    let found = short_of(
        subject,
        &whole,
        Query::MatchNone,
        with(terms("tag"), vec![("y", alone(zero))]),
    )
    .await;
    failures.check("of nothing", found, Ok(json!([])));
    for index in whole.iter().chain(&halves) {
        subject.engine.drop_index(index).await.expect("drop");
    }
    failures.none();
}
