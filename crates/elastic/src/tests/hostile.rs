//! Input that nobody sane sends.

use proptest::prelude::*;

use super::{NOW, corpus, params, refusal, search};
use crate::json::{Json, MAX_DEPTH};
use crate::{Params, parse_count, parse_get, parse_mget, parse_search, write};

/// Words of the dialect, so that random trees reach deep into the parser.
const WORDS: &[&str] = &[
    "query",
    "bool",
    "must",
    "should",
    "filter",
    "must_not",
    "match",
    "term",
    "terms",
    "range",
    "gte",
    "lt",
    "aggs",
    "field",
    "size",
    "order",
    "_count",
    "sort",
    "_score",
    "search_after",
    "_source",
    "includes",
    "ranges",
    "from",
    "to",
    "interval",
    "histogram",
    "date_histogram",
    "fixed_interval",
    "boost",
    "value",
    "docs",
    "ids",
    "_id",
    "minimum_should_match",
    "fields",
    "multi_match",
    "constant_score",
    "exists",
    "1d",
    "75%",
    "2<3",
    "+01:00",
    "é\u{0}",
    "",
];

fn tree() -> impl Strategy<Value = Json> {
    let word = prop::sample::select(WORDS).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|n| Json::Number(n.to_string())),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| Json::Number(format!("{n:e}"))),
        word.clone().prop_map(Json::Text),
        ".{0,8}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((word.clone(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

/// A body of the corpus in which one value was exchanged for another.
fn mutated() -> impl Strategy<Value = Json> {
    let body = prop::sample::select(corpus::SEARCHES).prop_map(|body| Json::own(body).unwrap());
    (body, tree(), any::<prop::sample::Index>()).prop_map(|(mut body, other, at)| {
        let mut left = at.index(count(&body));
        replace(&mut body, &other, &mut left);
        body
    })
}

fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(members) => members.iter().map(|(_, value)| count(value)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => 0,
    }
}

fn replace(json: &mut Json, other: &Json, left: &mut usize) -> bool {
    if *left == 0 {
        *json = other.clone();
        return true;
    }
    *left -= 1;
    match json {
        Json::Array(items) => items.iter_mut().any(|item| replace(item, other, left)),
        Json::Object(members) => members.iter_mut().any(|(_, value)| replace(value, other, left)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => false,
    }
}

fn try_all(body: &[u8]) {
    let none = Params::default();
    for error in [
        parse_search(body, &none, NOW).err(),
        parse_count(body, &none, NOW).err(),
        parse_mget(body, &none).err(),
    ] {
        error.iter().for_each(|error| drop(refusal(error)));
    }
}

/// What `serde_json` makes of a text, with numbers as their literals' values.
fn same(ours: &Json, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Json::Null, serde_json::Value::Null) => true,
        (Json::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (Json::Text(a), serde_json::Value::String(b)) => a == b,
        (Json::Number(a), serde_json::Value::Number(b)) => {
            let (a, b) = (a.parse::<f64>().unwrap(), b.as_f64().unwrap());
            // Their reader may be off by the last digit, which says more the smaller the number.
            (a - b).abs() <= b.abs() * 1e-15 + 1e-300
        }
        (Json::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_refused_not_fatal(body in prop::collection::vec(any::<u8>(), 0..60)) {
        try_all(&body);
    }

    #[test]
    fn random_json_is_refused_not_fatal(json in tree()) {
        try_all(write::compact(&json).as_bytes());
    }

    #[test]
    fn changed_bodies_are_answered_or_refused(json in mutated()) {
        try_all(write::compact(&json).as_bytes());
    }

    #[test]
    fn random_parameters_are_refused_not_fatal(
        name in prop::sample::select(crate::capability::PARAMETERS), value in ".{0,12}",
    ) {
        let params = params(&[(name.name, &value)]);
        for error in [parse_search(b"", &params, NOW).err(), parse_get(&params).err()] {
            error.iter().for_each(|error| drop(refusal(error)));
        }
    }

    /// Two readers that disagree are a way past the one that decides.
    #[test]
    fn the_reader_agrees_with_another(json in tree(), at in any::<prop::sample::Index>(), byte in prop::sample::select(b"{}[]\",:\\0-+.eE tn\x01".as_slice())) {
        let mut text = write::compact(&json).into_bytes();
        let at = at.index(text.len());
        for text in [text.clone(), { text[at] = byte; text }] {
            let ours = Json::strict(&text);
            let theirs = serde_json::from_slice::<serde_json::Value>(&text);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs)),
                (Err(error), Ok(_)) => prop_assert!(error.message().contains("stands twice"), "{error}"),
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("number out of range"), "{error}"),
                (Err(_), Err(_)) => {}
            }
        }
    }
}

#[test]
fn strict_json() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let refused: Vec<(Vec<u8>, &str)> = vec![
        (b"{\"size\":1,\"size\":2}".to_vec(), "[size] stands twice"),
        (
            b"{\"query\":{\"match\":{\"a\":1,\"\\u0061\":2}}}".to_vec(),
            "[a] stands twice",
        ),
        (b"{} {}".to_vec(), "goes on after"),
        (b"{}x".to_vec(), "goes on after"),
        (b"\xef\xbb\xbf{}".to_vec(), "byte order mark"),
        (b"{\"a\":\"\xff\"}".to_vec(), "not UTF-8 from byte 6"),
        (b" ".to_vec(), "ends where"),
        (b"{".to_vec(), "expected a key"),
        (b"{\"a\":01}".to_vec(), "as JSON writes numbers"),
        (b"{\"a\":1.}".to_vec(), "as JSON writes numbers"),
        (b"{\"a\":+1}".to_vec(), "expected a JSON value"),
        (b"{\"a\":NaN}".to_vec(), "expected a JSON value"),
        (b"{'a':1}".to_vec(), "expected a key"),
        (b"{\"a\":1,}".to_vec(), "expected a key"),
        (b"{\"a\":\"\\ud800\"}".to_vec(), "bad escape"),
        (b"{\"a\":\"\n\"}".to_vec(), "control character"),
        (b"{\"a\n\":1}".to_vec(), "line 1, column 2"),
        (b"{}//".to_vec(), "goes on after"),
        (deep(MAX_DEPTH + 1).into_bytes(), "nests deeper than 100"),
        (deep(1_000_000).into_bytes(), "nests deeper than 100"),
    ];
    for (body, expected) in refused {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let error = parse_search(&body, &Params::default(), NOW).unwrap_err();
        assert!(refusal(&error).contains(expected), "{shown}: {error}");
    }
    assert!(Json::strict(deep(MAX_DEPTH).as_bytes()).is_ok());
}

#[test]
fn huge_numbers() {
    let integer = "9".repeat(400);
    for body in [
        r#"{"query":{"term":{"a":1e999}}}"#.to_owned(),
        format!(r#"{{"query":{{"term":{{"a":{integer}}}}}}}"#),
        r#"{"size":1e300}"#.to_owned(),
        r#"{"from":9223372036854775807,"size":9223372036854775807}"#.to_owned(),
        r#"{"size":99999999999999999999}"#.to_owned(),
        r#"{"query":{"match_all":{"boost":1e39}}}"#.to_owned(),
        r#"{"min_score":"inf"}"#.to_owned(),
        r#"{"aggs":{"a":{"histogram":{"field":"x","interval":"nan"}}}}"#.to_owned(),
    ] {
        refusal(&search(&body).unwrap_err());
    }
}

#[test]
fn too_much() {
    let nested = |levels: usize| {
        let open = r#"{"bool":{"must":["#.repeat(levels);
        format!(
            r#"{{"query":{open}{{"match_all":{{}}}}{}}}"#,
            "]}}".repeat(levels)
        )
    };
    assert!(search(&nested(19)).is_ok());
    assert!(refusal(&search(&nested(20)).unwrap_err()).contains("nest deeper than [20]"));

    let inside = |levels: usize| {
        let open = r#""aggs":{"a":{"terms":{"field":"x"},"#.repeat(levels);
        format!(
            r#"{{{open}"aggs":{{"n":{{"max":{{"field":"x"}}}}}}{}}}"#,
            "}}".repeat(levels)
        )
    };
    assert!(search(&inside(19)).is_ok());
    assert!(refusal(&search(&inside(20)).unwrap_err()).contains("nest deeper than [20]"));

    let wide = |clauses: usize| {
        let items = vec![r#"{"term":{"a":1}}"#; clauses].join(",");
        format!(r#"{{"query":{{"bool":{{"should":[{items}]}}}}}}"#)
    };
    assert!(search(&wide(1_023)).is_ok());
    assert!(refusal(&search(&wide(1_024)).unwrap_err()).contains("more than [1024]"));

    let keys = |keys: usize| format!(r#"{{"sort":[{}]}}"#, vec![r#""a""#; keys].join(","));
    assert!(search(&keys(64)).is_ok());
    assert!(refusal(&search(&keys(65)).unwrap_err()).contains("more than [64]"));

    let long = "x".repeat(100_000);
    let error = search(&format!(r#"{{"{long}":1}}"#)).unwrap_err();
    assert!(refusal(&error).len() < 1_000);
}
