//! Who sees what, on every path: hits, counts, pages, aggregations, reading by id.

use instep_core::query::{Aggregation, AggregationKind, Bool, Metric, Query, Scalar, Sort, SortBy};
use instep_core::request::AggregationResult;
use instep_core::{GetRequest, Principal, Reader, Readers, SearchRequest, SourceFilter, TrackTotalHits};

use super::fixture::{
    COLLECTION, authorized, caller, document, everyone, filled, id, policy, querying, text,
};
use super::{Failures, Subject};

/// The documents: each with its readers and a number of its own.
fn documents() -> Vec<(&'static str, Readers)> {
    let only = |names: &[&str]| Readers::only(names.iter().map(|&name| name.to_owned()).collect());
    let named = |name: &str| Reader::Named(name.to_owned());
    let subject = |name: &str| Reader::Subject(name.to_owned());
    vec![
        ("p", Readers::Public),
        ("a", only(&["ann"])),
        ("b", only(&["bob"])),
        ("d", only(&["dealers"])),
        ("m", only(&["ann", "bob"])),
        ("n", only(&[])),
        // Readers whose names look like something else.
        ("s", only(&["*", "=ann", "an", "annn", "Ann", "ann "])),
        // A subject, whatever units are called so; and some who are denied what others of their units see.
        ("o", Readers::of(vec![subject("ann")], vec![])),
        (
            "x",
            Readers::of(vec![named("dealers"), named("ann")], vec![named("bob")]),
        ),
        (
            "y",
            Readers::of(vec![named("ann"), named("bob")], vec![subject("bob")]),
        ),
    ]
}

/// Who asks, and which documents exist for them.
fn callers() -> Vec<(Principal, &'static str)> {
    vec![
        (Principal::anonymous(), "p"),
        (caller("ann", &[]), "pamoxy"),
        (caller("bob", &[]), "pbm"),
        (caller("bob", &["dealers"]), "pbdm"),
        (caller("cy", &["ann", "dealers"]), "padmxy"),
        (caller("cy", &["ann", "bob"]), "pabmy"),
        (caller("eve", &["staff"]), "p"),
        (caller("*", &[]), "ps"),
        (caller("", &[]), "p"),
        (everyone(), "pabdmnsoxy"),
    ]
}

/// Every path shows exactly the caller's documents.
pub async fn access(subject: Subject<'_>) {
    let all = documents();
    let stored: Vec<_> = (1..)
        .zip(&all)
        .map(|(at, (name, readers))| {
            let source = format!(r#"{{"n":{at},"tag":["t{name}","t"],"title":"fox {name}"}}"#);
            document(name, readers.clone(), &source)
        })
        .collect();
    let index = [filled(subject, "access", &stored).await];
    let mut failures = Failures::default();
    for (principal, visible) in callers() {
        let who = format!("{:?} {:?}", principal.subject, principal.units);
        let expected = all
            .iter()
            .filter(|(name, _)| visible.contains(name))
            .map(|(name, _)| *name);
        let expected: String = expected.collect();
        let number = |name: char| {
            all.iter()
                .position(|(known, _)| known.starts_with(name))
                .map_or(0, |at| at + 1)
        };
        let sum: usize = expected.chars().map(number).sum();
        for (path, query) in paths() {
            let sort = Sort {
                by: SortBy::Id,
                descending: false,
                missing_first: false,
            };
            let terms = AggregationKind::Terms {
                field: "tag".into(),
                size: 100,
                order: vec![],
                min_doc_count: 0,
                missing: Some(text("none")),
            };
            let total = AggregationKind::Metric {
                metric: Metric::Sum,
                field: "n".into(),
                missing: None,
            };
            let alone = |kind| Aggregation {
                kind,
                aggregations: Vec::new(),
            };
            let nested = Aggregation {
                kind: AggregationKind::Histogram {
                    field: "n".into(),
                    interval: 100.0,
                    offset: 0.0,
                    min_doc_count: 0,
                    keyed: false,
                },
                aggregations: vec![("terms".into(), alone(terms.clone()))],
            };
            let request = SearchRequest {
                track_total_hits: TrackTotalHits::Exactly,
                aggregations: vec![
                    ("terms".into(), alone(terms)),
                    ("sum".into(), alone(total)),
                    ("nested".into(), nested),
                ],
                ..querying(query.clone())
            };
            let response = subject
                .search
                .search(&index, &authorized(&principal, request.clone()))
                .await
                .unwrap_or_else(|error| panic!("{who} {path}: {error}"));
            let mut hits: Vec<String> = response.hits.iter().map(|hit| hit.id.to_string()).collect();
            hits.sort();
            let mut wanted: Vec<String> = expected.chars().map(String::from).collect();
            wanted.sort();
            failures.check(format!("{who} {path}: hits"), &hits, &wanted);
            let total = response.total.map(|total| total.value);
            failures.check(format!("{who} {path}: total"), total, Some(expected.len() as u64));
            let count = SearchRequest {
                size: 0,
                aggregations: vec![],
                ..request.clone()
            };
            let counted = subject
                .search
                .search(&index, &authorized(&principal, count))
                .await
                .expect("count");
            let counted = counted.total.map(|total| total.value);
            failures.check(
                format!("{who} {path}: count"),
                counted,
                Some(expected.len() as u64),
            );
            for (name, result) in &response.aggregations {
                let found = seen(result);
                match name.as_str() {
                    "sum" => failures.check(format!("{who} {path}: sum"), found, sum.to_string()),
                    _ => {
                        let mut tags: Vec<String> = wanted.iter().map(|name| format!("t{name}")).collect();
                        tags.insert(0, "t".into());
                        failures.check(format!("{who} {path}: {name}"), found, tags.join(" "));
                    }
                }
            }
            let by_doc = SearchRequest {
                sort: vec![Sort {
                    by: SortBy::Doc,
                    descending: false,
                    missing_first: false,
                }],
                aggregations: vec![],
                ..request.clone()
            };
            let by_doc = subject
                .search
                .search(&index, &authorized(&principal, by_doc))
                .await
                .expect("by _doc");
            let values: Vec<_> = by_doc.hits.iter().map(|hit| hit.sort.clone()).collect();
            // The ids themselves: a number of the document's place would show how many hidden ones lie between.
            let places: Vec<_> = wanted.iter().map(|id| vec![Some(text(id))]).collect();
            failures.check(format!("{who} {path}: values of _doc"), values, places);
            let last = wanted.first().cloned().unwrap_or_default();
            let page = SearchRequest {
                sort: vec![sort],
                search_after: Some(vec![Some(Scalar::Text(last))]),
                aggregations: vec![],
                ..request
            };
            let page = subject
                .search
                .search(&index, &authorized(&principal, page))
                .await
                .expect("page");
            let found: Vec<String> = page.hits.iter().map(|hit| hit.id.to_string()).collect();
            failures.check(format!("{who} {path}: next page"), found.as_slice(), &wanted[1..]);
        }
        let ids = all
            .iter()
            .map(|(name, _)| id(name))
            .chain([id("absent")])
            .collect();
        let request = GetRequest {
            ids,
            source: SourceFilter::default(),
        };
        let request = policy()
            .get(&principal, &COLLECTION.into(), request)
            .expect("the collection is public");
        let found = subject.search.get(&index, &request).await.expect("get");
        let found: String = found
            .iter()
            .flatten()
            .map(|(_, stored)| stored.id.to_string())
            .collect();
        failures.check(format!("{who}: get"), found, expected);
    }
    failures.none();
    subject.engine.drop_index(&index[0]).await.expect("drop");
}

/// Queries that find every document, each by another way.
fn paths() -> Vec<(&'static str, Query)> {
    let term = Query::Term {
        field: "tag".into(),
        value: text("t"),
        boost: 1.0,
    };
    let absent = Query::Term {
        field: "tag".into(),
        value: text("absent"),
        boost: 1.0,
    };
    let ids = documents().iter().map(|(name, _)| (*name).to_owned()).collect();
    vec![
        ("match_all", Query::MatchAll { boost: 1.0 }),
        ("term", term.clone()),
        (
            "ids",
            Query::Ids {
                values: ids,
                boost: 1.0,
            },
        ),
        (
            "prefix",
            Query::Prefix {
                field: "title".into(),
                value: "fo".into(),
                case_insensitive: false,
                boost: 1.0,
            },
        ),
        (
            "must_not",
            Query::Bool(Bool {
                must_not: vec![absent.clone()],
                ..Bool::default()
            }),
        ),
        (
            "should",
            Query::Bool(Bool {
                should: vec![Query::MatchAll { boost: 1.0 }, absent],
                ..Bool::default()
            }),
        ),
        ("bool empty", Query::Bool(Bool::default())),
        (
            "constant_score",
            Query::ConstantScore {
                filter: Box::new(term),
                boost: 0.0,
            },
        ),
        (
            "exists",
            Query::Exists {
                field: "n".into(),
                boost: 1.0,
            },
        ),
    ]
}

/// The keys of buckets at the innermost level, sorted, or the number.
fn seen(result: &AggregationResult) -> String {
    match result {
        AggregationResult::Buckets(buckets) => {
            let inner = buckets.buckets.iter().flat_map(|bucket| &bucket.aggregations);
            if let Some((_, inner)) = inner.last() {
                return seen(inner);
            }
            let mut keys: Vec<String> = buckets
                .buckets
                .iter()
                .map(|bucket| match &bucket.key {
                    Scalar::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                })
                .collect();
            keys.sort();
            keys.join(" ")
        }
        AggregationResult::Value { value, .. } => {
            value.map_or_else(|| "null".into(), |value| value.to_string())
        }
        AggregationResult::Stats { sum, .. } => sum.to_string(),
    }
}
