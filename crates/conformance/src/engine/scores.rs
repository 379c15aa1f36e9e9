//! The scores of hits: constants, and BM25 by its formula.

use instep_core::query::{Bool, Match, MultiMatch, Operator, Query};

use super::clauses::{all, boolean, exists, matching, phrase, prefix, term, terms, within};
use super::fixture::{ask, fresh, ids, querying, text};
use super::{Failures, Subject};

/// Name, query, the score of every hit.
pub(super) fn constant_scores() -> Vec<(&'static str, Query, f32)> {
    let scored = |query| Query::ConstantScore {
        filter: Box::new(query),
        boost: 3.0,
    };
    let filter = boolean(Bool {
        filter: vec![term("tag", "a")],
        ..Bool::default()
    });
    vec![
        ("match_all", all(), 1.0),
        ("match_all boosted", Query::MatchAll { boost: 2.5 }, 2.5),
        ("term on a keyword", term("tag", "a"), 1.0),
        (
            "match on a keyword",
            Query::Match(Match {
                boost: 2.0,
                ..matching("tag", "a")
            }),
            2.0,
        ),
        ("term on a number", term("n", 1), 1.0),
        ("terms", terms("title", vec!["fox".into()]), 1.0),
        (
            "ids",
            Query::Ids {
                values: vec!["1".into()],
                boost: 4.0,
            },
            4.0,
        ),
        ("range", within("n", 1, 2), 1.0),
        ("exists", exists("title"), 1.0),
        ("prefix", prefix("title", "fo"), 1.0),
        (
            "constant_score",
            scored(Query::Match(matching("title", "fox"))),
            3.0,
        ),
        (
            "bool empty",
            boolean(Bool {
                boost: Some(2.0),
                ..Bool::default()
            }),
            2.0,
        ),
        ("bool only filter", filter.clone(), 0.0),
        (
            "bool only must_not",
            boolean(Bool {
                must_not: vec![exists("n")],
                ..Bool::default()
            }),
            0.0,
        ),
        (
            "boost 0 keeps hits",
            Query::Term {
                field: "tag".into(),
                value: text("a"),
                boost: 0.0,
            },
            0.0,
        ),
        ("constant_score of a filter", scored(filter.clone()), 3.0),
        (
            "filter adds nothing",
            boolean(Bool {
                must: vec![term("tag", "a")],
                filter: vec![exists("title")],
                ..Bool::default()
            }),
            1.0,
        ),
        (
            "clauses add up, and are boosted",
            boolean(Bool {
                must: vec![term("tag", "a")],
                should: vec![exists("title"), Query::MatchNone],
                boost: Some(2.0),
                ..Bool::default()
            }),
            4.0,
        ),
    ]
}

/// Name, query, the hits in order with their scores.
type Scored = (&'static str, Query, Vec<(&'static str, f32)>);

/// BM25 by its formula: k1 = 1.2, b = 0.75, no factor k1 + 1, over the documents that have the field.
pub(super) async fn bm25(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "bm25").await;
    let sources = [
        r#"{"body":"red red blue"}"#,
        r#"{"body":"red green"}"#,
        r#"{"body":"grey"}"#,
        r"{}",
        r"{}",
    ];
    let writes = sources
        .iter()
        .zip(1..)
        .map(|(source, id)| super::fixture::put(&format!("{id}"), source, 1));
    super::fixture::done(subject.engine, &index, writes.collect()).await;
    subject.engine.refresh(&index).await.expect("refresh");
    let score = |n: f32, frequency: f32, length: f32| {
        let (documents, average) = (3.0_f32, 2.0_f32);
        let idf = (1.0 + (documents - n + 0.5) / (n + 0.5)).ln();
        idf * frequency / (frequency + 1.2 * (0.25 + 0.75 * length / average))
    };
    let mixed = boolean(Bool {
        should: vec![
            Query::Match(matching("body", "red")),
            Query::Ids {
                values: vec!["3".into()],
                boost: 1.0,
            },
        ],
        ..Bool::default()
    });
    let best = Query::MultiMatch(MultiMatch {
        fields: vec![("body".into(), 2.0), ("title".into(), 1.0)],
        text: text("red"),
        operator: Operator::Or,
        minimum_should_match: None,
        tie_breaker: 0.5,
        boost: 3.0,
    });
    let (first, second) = (score(2.0, 2.0, 3.0), score(2.0, 1.0, 2.0));
    let cases: Vec<Scored> = vec![
        (
            "bm25",
            Query::Match(matching("body", "red")),
            vec![("1", first), ("2", second)],
        ),
        (
            "bm25 of a term",
            term("body", "red"),
            vec![("1", first), ("2", second)],
        ),
        (
            "bm25 beside a constant",
            mixed,
            vec![("3", 1.0), ("1", first), ("2", second)],
        ),
        (
            "bm25 in the best field",
            best,
            vec![("1", 6.0 * first), ("2", 6.0 * second)],
        ),
        (
            "bm25 of equal terms",
            Query::Match(matching("body", "red red")),
            vec![("1", 2.0 * first), ("2", 2.0 * second)],
        ),
        (
            "bm25 of a phrase",
            phrase("body", "red blue"),
            vec![(
                "1",
                (score(2.0, 1.0, 3.0) / score(2.0, 1.0, 1.0)) * (score(2.0, 1.0, 1.0) + score(1.0, 1.0, 1.0)),
            )],
        ),
    ];
    for (name, query, expected) in cases {
        let response = ask(subject, std::slice::from_ref(&index), querying(query))
            .await
            .expect(name);
        failures.check(
            name,
            ids(&response),
            expected.iter().map(|(id, _)| id.to_string()).collect(),
        );
        for (hit, (_, expected)) in response.hits.iter().zip(expected) {
            let score = hit.score.unwrap_or_default();
            let near = (score - expected).abs() <= expected * 1e-5;
            failures.check(
                format!("{name}: {} has {score}, not {expected}", hit.id),
                near,
                true,
            );
        }
    }
    subject.engine.drop_index(&index).await.expect("drop");
}
