//! The table, the parser and the corpus say the same.

use std::collections::BTreeSet;

use super::{NOW, READ, corpus, params, refusal, search};
use crate::capability::{AGGREGATIONS, Endpoint, PARAMETERS, QUERIES, SEARCH_BODY, Takes, objects};
use crate::json::Json;
use crate::{Clause, Params, capabilities, parse_count, parse_get, parse_mget, parse_search, write};

/// What one endpoint makes of a body, as text that is equal when the call is equal.
fn parsed(endpoint: Endpoint, body: &str, params: &Params) -> Result<String, instep_core::Error> {
    let body = body.as_bytes();
    match endpoint {
        Endpoint::Search => parse_search(body, params, NOW).map(|call| format!("{call:?}")),
        Endpoint::Count => parse_count(body, params, NOW).map(|call| format!("{call:?}")),
        Endpoint::Get => parse_get(params).map(|call| format!("{call:?}")),
        Endpoint::Mget => parse_mget(body, params).map(|call| format!("{call:?}")),
    }
}

fn bodies() -> impl Iterator<Item = (Endpoint, &'static str)> {
    let searches = corpus::SEARCHES.iter().map(|body| (Endpoint::Search, *body));
    let counts = corpus::COUNTS.iter().map(|body| (Endpoint::Count, *body));
    let mgets = corpus::MGETS.iter().map(|body| (Endpoint::Mget, *body));
    searches.chain(counts).chain(mgets)
}

fn clauses() -> Vec<&'static Clause> {
    let queries = QUERIES.iter().map(|query| &query.clause);
    let aggregations = AGGREGATIONS.iter().map(|aggregation| &aggregation.clause);
    queries.chain(aggregations).chain(objects()).collect()
}

#[test]
fn every_key_of_the_table_is_read() {
    READ.take();
    for (endpoint, body) in bodies() {
        parsed(endpoint, body, &Params::default()).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    let read = READ.take();
    let table: BTreeSet<(&str, &str)> = clauses()
        .iter()
        .flat_map(|clause| clause.keys.iter().map(|key| (clause.name, *key)))
        .collect();
    let unread: Vec<_> = table.difference(&read).collect();
    assert!(unread.is_empty(), "in the table but not read: {unread:?}");
}

type Change<'a> = &'a dyn Fn(&[(String, Json)]) -> Vec<Json>;

/// The value with one of its objects changed, for every object and every way of changing it.
fn each_object(json: &Json, change: Change<'_>) -> Vec<Json> {
    match json {
        Json::Object(members) => {
            let mut changed = change(members);
            for (at, (key, value)) in members.iter().enumerate() {
                for inner in each_object(value, change) {
                    let mut members = members.clone();
                    members[at] = (key.clone(), inner);
                    changed.push(Json::Object(members));
                }
            }
            changed
        }
        Json::Array(items) => {
            let mut changed = Vec::new();
            for (at, item) in items.iter().enumerate() {
                for inner in each_object(item, change) {
                    let mut items = items.clone();
                    items[at] = inner;
                    changed.push(Json::Array(items));
                }
            }
            changed
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => Vec::new(),
    }
}

#[test]
fn an_unknown_key_in_any_object_is_refused_by_name() {
    let with_unknown = |members: &[(String, Json)]| {
        let unknown = || ("zz_unknown".to_owned(), Json::Number("1".to_owned()));
        let first = std::iter::once(unknown())
            .chain(members.iter().cloned())
            .collect();
        let last = members
            .iter()
            .cloned()
            .chain(std::iter::once(unknown()))
            .collect();
        vec![Json::Object(first), Json::Object(last)]
    };
    let mut tried = 0;
    for (endpoint, body) in bodies() {
        for changed in each_object(&Json::own(body).unwrap(), &with_unknown) {
            let changed = write::compact(&changed);
            match parsed(endpoint, &changed, &Params::default()) {
                Ok(call) => panic!("accepted: {changed}\nas {call}"),
                Err(error) => assert!(refusal(&error).contains("zz_unknown"), "{changed}: {error}"),
            }
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried} objects are too few to say anything");
}

#[test]
fn leaving_out_a_key_changes_what_is_asked() {
    let without_effect: BTreeSet<&str> = clauses()
        .iter()
        .flat_map(|clause| clause.without_effect)
        .copied()
        .collect();
    for (endpoint, body) in bodies() {
        let whole = parsed(endpoint, body, &Params::default()).unwrap();
        let without_one = |members: &[(String, Json)]| {
            let without = |at: usize| {
                let mut rest = members.to_vec();
                let (key, _) = rest.remove(at);
                (key, rest)
            };
            (0..members.len())
                .map(without)
                .filter(|(key, _)| !without_effect.contains(key.as_str()))
                .map(|(_, rest)| Json::Object(rest))
                .collect()
        };
        for changed in each_object(&Json::own(body).unwrap(), &without_one) {
            let changed = write::compact(&changed);
            match parsed(endpoint, &changed, &Params::default()) {
                Ok(call) => assert_ne!(call, whole, "a key had no effect: {body}\nwithout it {changed}"),
                Err(error) => drop(refusal(&error)),
            }
        }
    }
}

#[test]
fn parameters_do_what_the_table_says() {
    for endpoint in [Endpoint::Search, Endpoint::Count, Endpoint::Get, Endpoint::Mget] {
        let body = match endpoint {
            Endpoint::Search | Endpoint::Count => "{}",
            Endpoint::Get => "",
            Endpoint::Mget => r#"{"ids":["7"]}"#,
        };
        let plain = parsed(endpoint, body, &Params::default()).unwrap();
        for parameter in PARAMETERS {
            let name = parameter.name;
            let call = parsed(endpoint, body, &params(&[(name, parameter.example)]));
            if !parameter.endpoints.contains(&endpoint) {
                assert!(
                    refusal(&call.unwrap_err()).contains(&format!("[{name}]")),
                    "{name}"
                );
                continue;
            }
            let call = call.unwrap_or_else(|error| panic!("{name}: {error}"));
            match parameter.takes {
                // Everything is what is searched without `q`, too.
                Takes::Parsed if name == "q" => assert_eq!(call, plain),
                Takes::Parsed => assert_ne!(call, plain, "{name} is dropped"),
                Takes::WithoutEffect(_)
                | Takes::NumberWithoutEffect(_)
                | Takes::SessionName
                | Takes::IndexStates => assert_eq!(call, plain, "{name} has an effect"),
            }
        }
        let error = parsed(endpoint, body, &params(&[("zz_unknown", "1")])).unwrap_err();
        assert!(refusal(&error).contains("[zz_unknown]"));
    }
}

#[test]
fn names_in_the_table_are_unique() {
    for names in [
        QUERIES.iter().map(|q| q.clause.name).collect::<Vec<_>>(),
        AGGREGATIONS.iter().map(|a| a.clause.name).collect(),
        PARAMETERS.iter().map(|p| p.name).collect(),
    ] {
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
    for clause in clauses() {
        assert!(
            clause.without_effect.iter().all(|key| clause.has(key)),
            "{}",
            clause.name
        );
        assert!(
            clause.instead.iter().all(|(key, _)| !clause.has(key)),
            "{}",
            clause.name
        );
    }
}

#[test]
fn the_table_is_shown_whole() {
    let shown: serde_json::Value = serde_json::from_str(&capabilities()).unwrap();
    let names = |list: &str| -> Vec<String> {
        let entries = shown[list].as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("queries").len(), QUERIES.len());
    assert_eq!(names("aggregations").len(), AGGREGATIONS.len());
    assert_eq!(names("parameters").len(), PARAMETERS.len());
    assert_eq!(shown["limits"]["from_plus_size"], 10_000);
    for name in names("queries") {
        let body = format!(r#"{{"query":{{"{name}":{{"zz_unknown":{{"zz_deep":1}},"boost":2}}}}}}"#);
        let text = refusal(&search(&body).unwrap_err());
        assert!(!text.contains("not supported by instep"), "{text}");
    }
    assert!(SEARCH_BODY.keys.contains(&"query"));
}
