//! One index for each language of a collection: a document lies in one of them, and moves when its language does.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};

const CONFIGURATION: &str = r#"
[source.shop]
url = "sqlite:shop.db"

[collection.product]
root     = "product"
language = { column = "lang", known = ["en", "sv", "pt-br"] }
public   = true

[collection.product.fields]
title = "text"
"#;

/// Ids of hits of a request, sorted; `None` while there is no index yet.
fn found(served: &Server, path: &str, query: &Value) -> Option<Vec<String>> {
    let body = json!({ "query": query, "size": 100 });
    let answer = served.send("POST", &format!("/{path}/_search"), None, Some(&body));
    if answer.status == 503 {
        return None;
    }
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let hits = answer.json()["hits"]["hits"].as_array().unwrap().clone();
    let mut ids: Vec<String> = hits
        .iter()
        .map(|hit| hit["_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    Some(ids)
}

fn becomes(served: &Server, what: &str, path: &str, query: &Value, ids: &[&str]) {
    eventually(
        &format!("{what}: {path} {query}"),
        Duration::from_secs(30),
        || found(served, path, query).is_some_and(|found| found == ids),
    );
}

#[test]
fn documents_lie_in_the_index_of_their_language() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Connection::open(folder.path().join("shop.db")).unwrap();
    shop.pragma_update(None, "journal_mode", "wal").unwrap();
    shop.execute_batch(
        "create table product (id integer primary key, title text, lang text);
         insert into product values (1, 'running shoes', 'en'), (2, 'springande hästar', 'sv'), (3, 'correndo', 'pt_BR'),
                                    (4, 'courir', 'fr'), (5, 'nobody knows', null), (6, 'svenska bilar', 'SV-se');",
    )
    .unwrap();
    let product = Product::new(folder.path(), CONFIGURATION);
    let served = product.serve();
    let all = json!({ "match_all": {} });
    for (path, ids) in [
        ("product", &["1", "2", "3", "4", "5", "6"][..]),
        ("product-en", &["1"]),
        ("product-sv", &["2", "6"]),
        ("product-pt-br", &["3"]),
        ("product-unspecified", &["4", "5"]),
    ] {
        becomes(&served, "the first load", path, &all, ids);
    }
    // Each by its language's own analyzer.
    becomes(
        &served,
        "stems",
        "product",
        &json!({ "match": { "title": "run" } }),
        &["1"],
    );
    becomes(
        &served,
        "stems",
        "product",
        &json!({ "match": { "title": "häst" } }),
        &["2"],
    );
    let unknown = served.send("POST", "/product-fr/_search", None, Some(&json!({})));
    assert_eq!(unknown.status, 404, "{}", unknown.body);

    let verified = |what: &str| {
        let found = product.json(&["verify"]);
        assert_eq!(found["differences"], 0, "after {what}: {found}");
    };
    verified("the first load");
    for (script, moves) in [
        (
            "update product set lang = 'sv' where id = 1",
            &[("product-en", &[][..]), ("product-sv", &["1", "2", "6"])][..],
        ),
        (
            "update product set lang = 'xx' where id = 2",
            &[
                ("product-sv", &["1", "6"][..]),
                ("product-unspecified", &["2", "4", "5"]),
            ],
        ),
        (
            "update product set lang = 'en' where id in (4, 5)",
            &[("product-en", &["4", "5"][..]), ("product-unspecified", &["2"])],
        ),
        ("delete from product where id = 6", &[("product-sv", &["1"][..])]),
        (
            "update product set lang = 'sv', title = 'bilar' where lang = 'en'",
            &[("product-en", &[][..]), ("product-sv", &["1", "4", "5"])],
        ),
    ] {
        shop.execute_batch(script).unwrap();
        for (path, ids) in moves {
            becomes(&served, script, path, &all, ids);
        }
    }
    becomes(&served, "all of it", "product", &all, &["1", "2", "3", "4", "5"]);
    verified("all of it");
    let told = product.json(&["explain", "doc", "product", "1"]);
    assert_eq!(told["sets"][0]["state"], "in_step", "{told}");
    assert_eq!(served.stop(), Some(0));

    // Killed between the engine and the log, again and again, while rows change their language.
    for round in 0..6 {
        let served = product.serve();
        let until = std::time::Instant::now() + Duration::from_millis(300 + 60 * round);
        let mut n = 0_i64;
        while std::time::Instant::now() < until {
            n += 1;
            let lang = ["en", "sv", "pt-br", "xx"][(n * 7) as usize % 4];
            shop.execute(
                "update product set lang = ?1 where id = ?2",
                rusqlite::params![lang, n % 5 + 1],
            )
            .unwrap();
        }
        drop(served);
    }
    let served = product.serve();
    eventually("everything to be indexed", Duration::from_secs(30), || {
        served.status(None)["sets"][0]["lag"] == 0
    });
    becomes(&served, "six kills", "product", &all, &["1", "2", "3", "4", "5"]);
    verified("six kills");
    // Another definition: one language less, and none at all.
    assert_eq!(served.stop(), Some(0));
    let fewer = CONFIGURATION.replace("known = [\"en\", \"sv\", \"pt-br\"]", "known = [\"en\"]");
    std::fs::write(folder.path().join("instep.toml"), fewer).unwrap();
    let told = product.refused(&["serve"], 2);
    assert!(told.contains("`sv` is none of its languages any more"), "{told}");
    product.json(&["plan", "--remake", "product"]);
    let served = product.serve();
    becomes(
        &served,
        "fewer languages",
        "product",
        &all,
        &["1", "2", "3", "4", "5"],
    );
    verified("fewer languages");
    shop.execute("delete from product where id = 3", []).unwrap();
    becomes(
        &served,
        "a row that goes meanwhile",
        "product",
        &all,
        &["1", "2", "4", "5"],
    );
    assert_eq!(served.stop(), Some(0));
    std::fs::write(folder.path().join("instep.toml"), CONFIGURATION).unwrap();
    let served = product.serve();
    becomes(
        &served,
        "the former languages",
        "product",
        &all,
        &["1", "2", "4", "5"],
    );
    verified("the former languages");
}
