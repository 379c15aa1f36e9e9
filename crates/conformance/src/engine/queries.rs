//! Which documents each query finds, and the constant scores.

use instep_core::query::{Bool, Match, MinimumShouldMatch, MultiMatch, Operator, Query};
use instep_core::{Fault, IndexName, SearchRequest, TrackTotalHits};

use super::clauses::{all, boolean, exists, matching, phrase, prefix, range, term, terms, value, within};
use super::fixture::{ask, done, filled, fresh, ids, public, put, querying, text};
use super::scores::{bm25, constant_scores};
use super::{Failures, Subject};

/// Name, query, the ids it finds.
fn table() -> Vec<(&'static str, Query, &'static [&'static str])> {
    let and = |field, value: &str| {
        Query::Match(Match {
            operator: Operator::And,
            ..matching(field, value)
        })
    };
    let least = |field, value: &str, rule| {
        Query::Match(Match {
            minimum_should_match: Some(rule),
            ..matching(field, value)
        })
    };
    let multi = |fields: &[&str], value: &str| {
        Query::MultiMatch(MultiMatch {
            fields: fields.iter().map(|&field| (field.to_owned(), 1.0)).collect(),
            text: text(value),
            operator: Operator::Or,
            minimum_should_match: None,
            tie_breaker: 0.0,
            boost: 1.0,
        })
    };
    let should = |queries: Vec<Query>, rule| {
        boolean(Bool {
            should: queries,
            minimum_should_match: rule,
            ..Bool::default()
        })
    };
    let count = |count| Some(MinimumShouldMatch::Count(count));
    let mut table = vec![
        ("match_all", all(), &["1", "2", "3", "4", "5", "6"][..]),
        ("match_none", Query::MatchNone, &[]),
        // Keywords: whole values, in their case.
        ("term keyword", term("tag", "a"), &["1", "4"]),
        ("term keyword, other case", term("tag", "A"), &[]),
        (
            "term keyword sub-field",
            term("title.keyword", "Lazy dogs"),
            &["3"],
        ),
        (
            "term keyword sub-field, empty text",
            term("title.keyword", ""),
            &["5"],
        ),
        ("term in an object", term("seller.name", "ann"), &["1"]),
        (
            "term in an array of objects",
            term("reviews.stars", 3),
            &["1", "4"],
        ),
        ("term unmapped", term("nowhere", "a"), &[]),
        ("term on an object", term("seller", "ann"), &[]),
        // Text: tokens as the index holds them.
        ("term text, stemmed", term("title", "fox"), &["1", "2", "4"]),
        ("term text, not stemmed", term("title", "foxes"), &[]),
        ("match keyword", Query::Match(matching("tag", "a")), &["1", "4"]),
        (
            "match keyword is one value",
            Query::Match(matching("tag", "a b")),
            &[],
        ),
        ("match number as text", Query::Match(matching("n", "2")), &["2"]),
        // Numbers.
        ("term long", term("n", 2), &["2"]),
        (
            "term long beyond doubles",
            term("n", 9_007_199_254_740_993),
            &["5"],
        ),
        ("term long, neighbour", term("n", 9_007_199_254_740_992), &[]),
        ("term long as text", term("n", "2"), &["2"]),
        ("term long with fraction", term("n", 2.5), &[]),
        ("term long, whole double", term("n", 2.0), &["2"]),
        ("term integer out of range", term("i", 9_999_999_999), &[]),
        ("term double", term("rating", 4.5), &["1", "4"]),
        ("term decimal", term("price", 12.5), &["3"]),
        ("term decimal as text", term("price", "12.50"), &["3"]),
        ("term decimal, too fine", term("price", 12.501), &[]),
        (
            "term decimal, written as text in the source",
            term("price", 100),
            &["2"],
        ),
        ("term boolean", term("ok", true), &["1", "4"]),
        ("term boolean as text", term("ok", "false"), &["2"]),
        // Dates: a partial date is its whole span.
        ("term day", term("at", "2020-02-29"), &["2"]),
        ("term month", term("at", "2020-12"), &["3"]),
        ("term year", term("at", "2020"), &["1", "2", "3"]),
        ("term moment", term("at", "2020-01-15T10:00:00Z"), &["1"]),
        ("term milliseconds", term("at", 1_579_082_400_000), &["1"]),
        // Flattened.
        ("term flattened path", term("extra.color", "red"), &["1"]),
        ("term flattened deep path", term("extra.size.w", "3"), &["1"]),
        ("term flattened value", term("extra", "red"), &["1"]),
        ("term flattened, other path", term("extra.red", "1"), &["2"]),
        ("exists flattened path", exists("extra.color"), &["1", "2"]),
        ("prefix flattened path", prefix("extra.color", "b"), &["2"]),
        ("range flattened path", within("extra.color", "c", "z"), &["1"]),
        (
            "open range flattened path",
            range("extra.color", [None, value("a"), None, None]),
            &["1", "2"],
        ),
        // Terms and ids.
        (
            "terms",
            terms("tag", vec!["a".into(), "B".into()]),
            &["1", "4", "5"],
        ),
        ("terms of none", terms("tag", vec![]), &[]),
        (
            "terms numbers",
            terms("n", vec![1.into(), 3.into(), 7.into()]),
            &["1", "3"],
        ),
        (
            "terms text",
            terms("title", vec!["fox".into(), "lazi".into()]),
            &["1", "2", "3", "4"],
        ),
        ("terms unmapped", terms("nowhere", vec!["a".into()]), &[]),
        (
            "ids",
            Query::Ids {
                values: vec!["2".into(), "9".into(), "6".into()],
                boost: 1.0,
            },
            &["2", "6"],
        ),
        (
            "ids of none",
            Query::Ids {
                values: vec![],
                boost: 1.0,
            },
            &[],
        ),
        ("term _id", term("_id", "3"), &["3"]),
        // Exists.
        ("exists keyword", exists("tag"), &["1", "2", "4", "5"]),
        ("exists text", exists("title"), &["1", "2", "3", "4", "5"]),
        (
            "exists long, null is no value",
            exists("n"),
            &["1", "2", "3", "5"],
        ),
        ("exists object", exists("seller"), &["1", "2", "5"]),
        (
            "exists sub-field",
            exists("title.keyword"),
            &["1", "2", "3", "4", "5"],
        ),
        ("exists unmapped", exists("unknown"), &[]),
        // Ranges.
        ("range long", within("n", 2, 3), &["2", "3"]),
        (
            "range exclusive",
            range("n", [value(1), None, value(3), None]),
            &["2"],
        ),
        ("range rounds inwards", within("n", 1.5, 2.5), &["2"]),
        ("range of fractions holds none", within("n", 2.1, 2.9), &[]),
        (
            "range gt fraction",
            range("n", [value(1.5), None, None, value(3)]),
            &["2", "3"],
        ),
        (
            "range open above",
            range("n", [None, value(3), None, None]),
            &["3", "5"],
        ),
        (
            "range open below",
            range("n", [None, None, value(2), None]),
            &["1"],
        ),
        (
            "range without ends",
            range("n", [None, None, None, None]),
            &["1", "2", "3", "5"],
        ),
        ("range backwards", within("n", 3, 1), &[]),
        ("range as text", within("n", "2", "3"), &["2", "3"]),
        (
            "range double",
            range("rating", [None, None, value(0), None]),
            &["2"],
        ),
        (
            "range double exclusive",
            range("rating", [value(4.5), None, None, None]),
            &[],
        ),
        ("range decimal", within("price", 9.985, 12.5), &["1", "3"]),
        (
            "range decimal rounds inwards",
            range("price", [value(9.985), None, value(9.991), None]),
            &["1"],
        ),
        ("range keyword", within("tag", "a", "b"), &["1", "2", "4"]),
        (
            "range keyword exclusive",
            range("tag", [value("a"), None, value("c"), None]),
            &["1", "2"],
        ),
        (
            "range integers of several values",
            within("reviews.stars", 4, 6),
            &["1"],
        ),
        (
            "range date",
            within("at", "2020-01-01", "2020-02-29"),
            &["1", "2"],
        ),
        (
            "range gt month is after it",
            range("at", [value("2020-02"), None, None, None]),
            &["3", "4"],
        ),
        (
            "range gte month",
            range("at", [None, value("2020-02"), None, None]),
            &["2", "3", "4"],
        ),
        (
            "range lt month",
            range("at", [None, None, value("2020-02"), None]),
            &["1", "4"],
        ),
        (
            "range lte month",
            range("at", [None, None, None, value("2020-02")]),
            &["1", "2", "4"],
        ),
        (
            "range lte year end",
            range("at", [value("2020-02"), None, None, value("2020-12-31")]),
            &["3"],
        ),
        (
            "range now",
            range("at", [None, value("now-1d/d"), None, value("now")]),
            &["2"],
        ),
        (
            "range now, not rounded",
            range("at", [None, value("now-1d"), None, value("now")]),
            &[],
        ),
        (
            "range now, two days",
            range("at", [None, value("now-1M/M"), None, value("now/y")]),
            &["2", "3"],
        ),
        (
            "range date math",
            range("at", [None, value("2020-01-01||+1M"), None, value("2020-02||/M")]),
            &["2"],
        ),
        (
            "range date math down",
            range("at", [None, value("2020-03||-1d"), value("2020-03||/M"), None]),
            &["2"],
        ),
        ("range boolean", within("ok", true, true), &["1", "4"]),
        ("range unmapped", within("nowhere", 1, 2), &[]),
        // Prefixes.
        ("prefix keyword", prefix("seller.name", "a"), &["1"]),
        ("prefix text token", prefix("title", "do"), &["3", "4"]),
        ("prefix is not analysed", prefix("title", "Do"), &[]),
        ("prefix empty", prefix("tag", ""), &["1", "2", "4", "5"]),
        ("prefix unmapped", prefix("nowhere", "a"), &[]),
        // Matches.
        (
            "match any",
            Query::Match(matching("title", "quick dog")),
            &["1", "2", "3", "4"],
        ),
        ("match all", and("title", "quick FOXES"), &["1", "2"]),
        (
            "match all, stop words do not count",
            and("title", "the quick"),
            &["1", "2"],
        ),
        (
            "match only stop words",
            Query::Match(matching("title", "the and")),
            &[],
        ),
        ("match all of only stop words", and("title", "the and"), &[]),
        (
            "match only stop words, asked for all",
            Query::Match(Match {
                zero_terms_all: true,
                ..matching("title", "the")
            }),
            &["1", "2", "3", "4", "5", "6"],
        ),
        (
            "match one term ignores the minimum",
            least("title", "fox", MinimumShouldMatch::Count(2)),
            &["1", "2", "4"],
        ),
        (
            "match two equal terms do not",
            least("title", "fox fox", MinimumShouldMatch::Count(3)),
            &[],
        ),
        (
            "match two of three",
            least("title", "quick red dog", MinimumShouldMatch::Count(2)),
            &["2"],
        ),
        (
            "match percent",
            least("title", "quick brown dog", MinimumShouldMatch::Percent(67)),
            &["1"],
        ),
        (
            "match in an array of objects",
            Query::Match(matching("reviews.by", "fox")),
            &["1"],
        ),
        (
            "match in an object",
            Query::Match(matching("seller.city", "oslo")),
            &["1"],
        ),
        ("match unmapped", Query::Match(matching("nowhere", "fox")), &[]),
        // Several fields.
        ("multi", multi(&["title", "body"], "one lazy"), &["3", "4"]),
        ("multi, any field", multi(&["*"], "fox"), &["1", "2", "4"]),
        ("multi, sub-fields too", multi(&["ti*"], "Lazy dogs"), &["3", "4"]),
        (
            "multi, unmapped field",
            multi(&["title", "nowhere"], "lazy"),
            &["3"],
        ),
        ("multi, no field", multi(&["x*"], "lazy"), &[]),
        // Phrases.
        ("phrase", phrase("title", "quick brown"), &["1"]),
        ("phrase in order", phrase("title", "brown quick"), &[]),
        ("phrase stems", phrase("title", "red foxes jump"), &["2"]),
        (
            "phrase, stop word is a hole",
            phrase("title", "foxes and dogs"),
            &["4"],
        ),
        ("phrase, hole must be there", phrase("title", "foxes dogs"), &[]),
        (
            "phrase, any stop word fills the hole",
            phrase("title", "foxes the dogs"),
            &["4"],
        ),
        ("phrase of one word", phrase("title", "fox"), &["1", "2", "4"]),
        ("phrase of stop words", phrase("title", "the and"), &[]),
        ("phrase does not span values", phrase("body", "one two"), &[]),
        (
            "phrase does not span values, stemmed",
            phrase("title", "dogs running"),
            &[],
        ),
        (
            "phrase within a later value",
            phrase("body", "two of them"),
            &["3"],
        ),
        ("phrase on a keyword", phrase("tag", "a"), &["1", "4"]),
        // Clauses combined.
        (
            "bool empty",
            boolean(Bool::default()),
            &["1", "2", "3", "4", "5", "6"],
        ),
        (
            "bool only must_not",
            boolean(Bool {
                must_not: vec![exists("n")],
                ..Bool::default()
            }),
            &["4", "6"],
        ),
        (
            "bool only filter",
            boolean(Bool {
                filter: vec![term("tag", "a")],
                ..Bool::default()
            }),
            &["1", "4"],
        ),
        (
            "bool must and must_not",
            boolean(Bool {
                must: vec![term("tag", "a")],
                must_not: vec![term("n", 1)],
                ..Bool::default()
            }),
            &["4"],
        ),
        (
            "bool should",
            should(vec![term("tag", "a"), term("n", 2)], None),
            &["1", "2", "4"],
        ),
        (
            "bool should, both",
            should(vec![term("tag", "a"), term("n", 1)], count(2)),
            &["1"],
        ),
        (
            "bool one should, minimum 2",
            should(vec![term("tag", "a")], count(2)),
            &[],
        ),
        (
            "bool should, minimum 0",
            should(vec![term("tag", "a"), term("n", 2)], count(0)),
            &["1", "2", "4"],
        ),
        (
            "bool should beside must is free",
            boolean(Bool {
                must: vec![term("ok", true)],
                should: vec![term("n", 1)],
                ..Bool::default()
            }),
            &["1", "4"],
        ),
        (
            "bool should beside filter, minimum 1",
            boolean(Bool {
                filter: vec![term("ok", true)],
                should: vec![term("n", 1)],
                minimum_should_match: count(1),
                ..Bool::default()
            }),
            &["1"],
        ),
        (
            "bool in bool",
            boolean(Bool {
                filter: vec![boolean(Bool {
                    must_not: vec![term("tag", "b")],
                    ..Bool::default()
                })],
                must: vec![exists("title")],
                ..Bool::default()
            }),
            &["3", "4", "5"],
        ),
        (
            "constant_score",
            Query::ConstantScore {
                filter: Box::new(term("tag", "a")),
                boost: 3.0,
            },
            &["1", "4"],
        ),
        (
            "constant_score of only must_not",
            Query::ConstantScore {
                filter: Box::new(boolean(Bool {
                    must_not: vec![exists("n")],
                    ..Bool::default()
                })),
                boost: 1.0,
            },
            &["4", "6"],
        ),
    ];
    let either = |field: &str, value: &str| Query::Prefix {
        field: field.into(),
        value: value.into(),
        case_insensitive: true,
        boost: 1.0,
    };
    table.push(("prefix either case", either("seller.name", "aN"), &["1", "5"]));
    table.push((
        "prefix either case, flattened",
        either("extra.color", "RE"),
        &["1"],
    ));
    table
}

/// Name, query: refused as the caller's error.
fn refused() -> Vec<(&'static str, Query)> {
    vec![
        ("term on a long", term("n", "abc")),
        ("term on a long, boolean", term("n", true)),
        ("term on a boolean", term("ok", "yes")),
        ("term on a date", term("at", "soon")),
        ("range on a long", within("n", "a", "b")),
        ("range on a date", within("at", "2020-13", "2021")),
        ("match on a long", Query::Match(matching("n", "two"))),
        ("prefix on a long", prefix("n", "1")),
        ("terms on a double", terms("rating", vec!["x".into()])),
    ]
}

/// What each query finds, its constant scores, what is refused, `min_score` and totals, and BM25 by hand.
pub async fn queries(subject: Subject<'_>) {
    let index = [filled(subject, "queries", &public()).await];
    let mut failures = Failures::default();
    for (name, query, expected) in table() {
        let request = SearchRequest {
            track_total_hits: TrackTotalHits::Exactly,
            ..querying(query)
        };
        match ask(subject, &index, request).await {
            Ok(response) => {
                let mut found = ids(&response);
                found.sort();
                failures.check(name, found, expected.iter().map(ToString::to_string).collect());
                let total = response.total.map(|total| (total.value, total.exact));
                failures.check(
                    format!("{name}: total"),
                    total,
                    Some((expected.len() as u64, true)),
                );
            }
            Err(error) => failures.check(name, error.to_string(), "an answer".to_owned()),
        }
    }
    for (name, query, expected) in constant_scores() {
        let response = ask(subject, &index, querying(query)).await.expect(name);
        failures.check(format!("{name}: some hit"), response.hits.is_empty(), false);
        for hit in &response.hits {
            failures.check(format!("{name}: score of {}", hit.id), hit.score, Some(expected));
        }
        failures.check(format!("{name}: max_score"), response.max_score, Some(expected));
    }
    for (name, query) in refused() {
        let fault = ask(subject, &index, querying(query))
            .await
            .err()
            .map(|error| error.fault());
        failures.check(name, fault, Some(Fault::Invalid));
    }
    let least = SearchRequest {
        min_score: Some(1.5),
        ..querying(boolean(Bool {
            should: vec![term("tag", "a"), term("n", 1)],
            ..Bool::default()
        }))
    };
    let response = ask(subject, &index, least).await.expect("min_score");
    failures.check("min_score", ids(&response), vec!["1".to_owned()]);
    failures.check(
        "min_score: total",
        response.total.map(|total| total.value),
        Some(1),
    );
    bm25(subject, &mut failures).await;
    by_capability(subject, &index, &mut failures).await;
    failures.none();
    subject.engine.drop_index(&index[0]).await.expect("drop");
}

/// What engines may differ in, each as it says of itself.
async fn by_capability(subject: Subject<'_>, index: &[IndexName], failures: &mut Failures) {
    let capabilities = subject.engine.capabilities();
    let sloppy = Query::MatchPhrase {
        field: "title".into(),
        text: "quick fox".into(),
        slop: 1,
        boost: 1.0,
    };
    let found = ask(subject, index, querying(sloppy)).await;
    let found = found.map(|found| {
        let mut ids = ids(&found);
        ids.sort();
        ids
    });
    let expected = match capabilities.sloppy_phrases {
        true => Ok(vec!["1".to_owned(), "2".to_owned()]),
        false => Err(Fault::Invalid),
    };
    failures.check(
        "a phrase with a slop",
        found.map_err(|error| error.fault()),
        expected,
    );

    // Beyond what is asked for a total is at least that, and says so unless it is exact.
    let counted = SearchRequest {
        track_total_hits: TrackTotalHits::UpTo(2),
        size: 1,
        ..querying(all())
    };
    let total = ask(subject, index, counted).await.expect("a search").total;
    let expected = match capabilities.exact_totals {
        true => (6, true),
        false => (2, false),
    };
    let total = total.map(|total| (total.value, total.exact));
    failures.check("a total beyond", total, Some(expected));

    // Sixteen digits, of which the last one differs.
    let decimals = fresh(subject, "decimals").await;
    let prices = [("a", "90000000000000.02"), ("b", "90000000000000.01")];
    let writes = prices.map(|(id, price)| put(id, &format!(r#"{{"price":{price}}}"#), 1));
    done(subject.engine, &decimals, writes.into()).await;
    subject.engine.refresh(&decimals).await.expect("refresh");
    let between = range("price", [None, value("90000000000000.02"), None, None]);
    let found = ask(subject, std::slice::from_ref(&decimals), querying(between)).await;
    let found = found.expect("a search").hits.len();
    let expected = match capabilities.exact_decimals {
        true => found == 1,
        false => found == 2,
    };
    failures.check("decimals that differ far behind", expected, true);
    subject.engine.drop_index(&decimals).await.expect("drop");
}
