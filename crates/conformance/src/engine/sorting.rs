//! The order of hits, their sort values, and paging.

use instep_core::query::{Query, Scalar, Sort, SortBy};
use instep_core::{Document, Fault, Readers, SearchRequest};

use super::fixture::{ask, document, filled, ids, public, querying, text};
use super::{Failures, Subject};

fn by(field: &str, descending: bool, missing_first: bool) -> Sort {
    let by = match field {
        "_score" => SortBy::Score,
        "_doc" => SortBy::Doc,
        "_id" => SortBy::Id,
        field => SortBy::Field {
            field: field.into(),
            unmapped_type: None,
        },
    };
    Sort {
        by,
        descending,
        missing_first,
    }
}

fn up(field: &str) -> Sort {
    by(field, false, false)
}

fn down(field: &str) -> Sort {
    by(field, true, false)
}

fn sorted(sort: Vec<Sort>) -> SearchRequest {
    SearchRequest {
        sort,
        ..querying(Query::MatchAll { boost: 1.0 })
    }
}

/// Name, keys, the ids in order, the first hit's and the last hit's first value.
type Sorted = (
    &'static str,
    Vec<Sort>,
    &'static str,
    Option<Scalar>,
    Option<Scalar>,
);

/// Hits in order, the first hit's and the last hit's sort values, pages of every size, and what cannot be sorted by.
pub async fn sorting(subject: Subject<'_>) {
    let index = [filled(subject, "sorting", &public()).await];
    let mut failures = Failures::default();
    let int = |value| Some(Scalar::Int(value));
    let double = |value| Some(Scalar::Double(value));
    let word = |value: &str| Some(text(value));
    let date = by("at", true, false);
    let cases: Vec<Sorted> = vec![
        ("insertion", vec![], "123456", None, None),
        ("id", vec![up("_id")], "123456", word("1"), word("6")),
        ("id down", vec![down("_id")], "654321", word("6"), word("1")),
        // On purpose not the order of insertion, whose numbers would count the documents that a caller may not see.
        ("doc", vec![up("_doc")], "123456", word("1"), word("6")),
        ("doc down", vec![down("_doc")], "654321", word("6"), word("1")),
        ("long", vec![up("n")], "123546", int(1), int(i64::MAX)),
        (
            "long down",
            vec![down("n")],
            "532146",
            int(9_007_199_254_740_993),
            int(i64::MIN),
        ),
        (
            "long, missing first",
            vec![by("n", false, true)],
            "461235",
            int(i64::MIN),
            int(9_007_199_254_740_993),
        ),
        ("integer", vec![up("i")], "214356", int(-5), int(i32::MAX.into())),
        (
            "integer down",
            vec![down("i")],
            "142356",
            int(10),
            int(i32::MIN.into()),
        ),
        (
            "double",
            vec![up("rating")],
            "214356",
            double(-0.5),
            word("Infinity"),
        ),
        (
            "decimal",
            vec![up("price")],
            "132456",
            double(9.99),
            word("Infinity"),
        ),
        (
            "decimal down",
            vec![down("price")],
            "231456",
            double(100.0),
            word("-Infinity"),
        ),
        (
            "boolean",
            vec![down("ok")],
            "142356",
            int(1),
            int(i32::MIN.into()),
        ),
        ("keyword, smallest", vec![up("tag")], "514236", word("B"), None),
        ("keyword, largest", vec![down("tag")], "412536", word("c"), None),
        (
            "keyword, missing first",
            vec![by("tag", true, true)],
            "364125",
            None,
            word("B"),
        ),
        ("sub-field", vec![up("title.keyword")], "524316", word(""), None),
        (
            "date, smallest",
            vec![up("at")],
            "412356",
            int(1_559_347_200_000),
            int(i64::MAX),
        ),
        (
            "date, largest",
            vec![date],
            "432156",
            int(1_622_505_600_000),
            int(i64::MIN),
        ),
        (
            "flattened path",
            vec![up("extra.color")],
            "213456",
            word("blue"),
            None,
        ),
        (
            "two keys",
            vec![up("i"), down("_id")],
            "241653",
            int(-5),
            int(i32::MAX.into()),
        ),
        (
            "three keys",
            vec![up("ok"), up("rating"), down("_id")],
            "241653",
            int(0),
            int(i32::MAX.into()),
        ),
        (
            "score first",
            vec![down("_score"), down("_id")],
            "654321",
            double(1.0),
            double(1.0),
        ),
    ];
    for (name, sort, order, first, last) in cases {
        let paged = !sort.is_empty();
        let response = match ask(subject, &index, sorted(sort.clone())).await {
            Ok(response) => response,
            Err(error) => {
                failures.check(name, error.to_string(), "an answer".to_owned());
                continue;
            }
        };
        failures.check(name, ids(&response).concat(), order.to_owned());
        if paged {
            let of = |at: usize| response.hits[at].sort[0].clone();
            failures.check(format!("{name}: first value"), of(0), first);
            failures.check(format!("{name}: last value"), of(response.hits.len() - 1), last);
            let shown = sort[0].by == SortBy::Score;
            failures.check(format!("{name}: score"), response.hits[0].score.is_some(), shown);
            failures.check(format!("{name}: max_score"), response.max_score.is_some(), shown);
            for size in 1..4 {
                let mut sort = sort.clone();
                sort.push(up("_doc"));
                let found = pages(subject, &index, sort, size).await;
                failures.check(format!("{name}: pages of {size}"), found, order.to_owned());
            }
        }
        for from in 0..7 {
            let request = SearchRequest {
                from,
                size: 2,
                ..sorted(sort.clone())
            };
            let response = ask(subject, &index, request).await.expect(name);
            let expected = order.chars().skip(from).take(2).collect::<String>();
            failures.check(format!("{name}: from {from}"), ids(&response).concat(), expected);
        }
    }
    for (name, sort) in [
        ("text", up("title")),
        ("unmapped", up("nowhere")),
        ("object", up("seller")),
    ] {
        let fault = ask(subject, &index, sorted(vec![sort]))
            .await
            .err()
            .map(|error| error.fault());
        failures.check(format!("sort by {name}"), fault, Some(Fault::Invalid));
    }
    let unmapped = SortBy::Field {
        field: "nowhere".into(),
        unmapped_type: Some("long".into()),
    };
    let unmapped = Sort {
        by: unmapped,
        descending: false,
        missing_first: false,
    };
    let response = ask(subject, &index, sorted(vec![unmapped]))
        .await
        .expect("unmapped_type");
    failures.check("unmapped_type", ids(&response).concat(), "123456".to_owned());
    let short = SearchRequest {
        search_after: Some(vec![]),
        ..sorted(vec![up("n")])
    };
    let fault = ask(subject, &index, short).await.err().map(|error| error.fault());
    failures.check("search_after of another length", fault, Some(Fault::Invalid));
    several(subject, &mut failures).await;
    shared_ids(subject, &mut failures).await;
    failures.none();
    subject.engine.drop_index(&index[0]).await.expect("drop");
}

/// All pages, one after the other.
async fn pages(
    subject: Subject<'_>,
    indexes: &[instep_core::IndexName],
    sort: Vec<Sort>,
    size: usize,
) -> String {
    let mut found = String::new();
    let mut search_after = None;
    for _ in 0..100 {
        let request = SearchRequest {
            size,
            search_after,
            ..sorted(sort.clone())
        };
        let response = match ask(subject, indexes, request).await {
            Ok(response) => response,
            Err(error) => return error.to_string(),
        };
        let Some(last) = response.hits.last() else { break };
        found.push_str(&ids(&response).concat());
        search_after = Some(last.sort.clone());
    }
    found
}

/// Several indexes answer as one.
async fn several(subject: Subject<'_>, failures: &mut Failures) {
    let number = |id: &str, n: i64| document(id, Readers::Public, &format!(r#"{{"n":{n},"tag":"t{n}"}}"#));
    let documents =
        |ids: &[(&str, i64)]| -> Vec<Document> { ids.iter().map(|(id, n)| number(id, *n)).collect() };
    let first = filled(subject, "several-a", &documents(&[("a", 3), ("b", 1), ("c", 2)])).await;
    let second = filled(subject, "several-b", &documents(&[("d", 2), ("e", 3), ("f", 1)])).await;
    let both = [first, second];
    for (name, sort, expected) in [
        ("one by one", vec![], "abcdef"),
        ("long", vec![up("n")], "bfcdae"),
        ("keyword down", vec![down("tag")], "aecdbf"),
        ("id down", vec![down("_id")], "fedcba"),
    ] {
        let response = ask(subject, &both, sorted(sort.clone())).await.expect(name);
        failures.check(
            format!("two indexes: {name}"),
            ids(&response).concat(),
            expected.to_owned(),
        );
        failures.check(
            format!("two indexes: {name}: total"),
            response.total.map(|t| t.value),
            Some(6),
        );
        if !sort.is_empty() {
            for size in 1..5 {
                let mut sort = sort.clone();
                sort.push(up("_doc"));
                let found = pages(subject, &both, sort, size).await;
                failures.check(
                    format!("two indexes: {name}: pages of {size}"),
                    found,
                    expected.to_owned(),
                );
            }
        }
    }
    for index in &both {
        subject.engine.drop_index(index).await.expect("drop");
    }
}

/// Two indexes with documents of the same ids: with `_doc` as the last key, pages of every size show each once.
async fn shared_ids(subject: Subject<'_>, failures: &mut Failures) {
    let documents = |ids: &[&str]| -> Vec<Document> {
        ids.iter()
            .map(|id| document(id, Readers::Public, r#"{"n":1}"#))
            .collect()
    };
    let both = [
        filled(subject, "shared-a", &documents(&["c", "b", "a", "x:1"])).await,
        filled(subject, "shared-b", &documents(&["b", "c", "d", "x:1"])).await,
    ];
    let (ascending, descending) = ("abbccdx:1x:1", "x:1x:1dccbba");
    for (name, sort, expected) in [
        ("doc", vec![up("_doc")], ascending),
        ("doc down", vec![down("_doc")], descending),
        ("id, doc", vec![up("_id"), up("_doc")], ascending),
        ("id down, doc", vec![down("_id"), up("_doc")], descending),
        ("score, doc", vec![down("_score"), up("_doc")], ascending),
    ] {
        for size in 1..5 {
            let found = pages(subject, &both, sort.clone(), size).await;
            let name = format!("shared ids: {name}: pages of {size}");
            failures.check(name, found, expected.to_owned());
        }
    }
    for value in [Some(text("a")), Some(text("x:1")), None] {
        let request = SearchRequest {
            search_after: Some(vec![value]),
            ..sorted(vec![up("_doc")])
        };
        let fault = ask(subject, &both, request)
            .await
            .err()
            .map(|error| error.fault());
        failures.check("search_after of no document", fault, Some(Fault::Invalid));
    }
    for index in &both {
        subject.engine.drop_index(index).await.expect("drop");
    }
}
