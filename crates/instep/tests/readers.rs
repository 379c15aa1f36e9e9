//! Who sees a document, on SQLite and Postgres alike: several places that name readers, rules over the caller's subject,
//! deny beside allow; and rows of readers that change are followed like any other.

use std::time::Duration;

use serde_json::json;

use crate::both::Both;
use crate::support::product::{Server, eventually};

const SCHEMA: &str = "
    create table paper (id integer primary key, title varchar(40), acl varchar(80), owner integer, blocked varchar(80));
    create table share (id integer primary key, paper_id integer references paper (id), who varchar(40), open boolean);
    create table secret (id integer primary key, paper_id integer references paper (id), kept_from integer);
    create index share_paper on share (paper_id);
    create index secret_paper on secret (paper_id);
    insert into paper values
        (1, 'owned by ann', null, 1, null), (2, 'of a unit called 1', '[\"1\"]', null, null),
        (3, 'staff without bo', '[\"staff\"]', null, '[\"2\"]'), (4, 'shared', '[]', 3, '[]'),
        (5, 'nobody reads it', null, null, '[\"staff\"]'), (6, 'kept from its owner', '[\"staff\"]', 1, null);
    insert into share values (1, 4, 'staff', true), (2, 5, 'ann', false);
    insert into secret values (1, 6, 1);";

const CONFIGURATION: &str = r#"
[collection.paper]
root    = "paper"
readers = ["acl", "owner = $subject", { table = "share", values = "who", where = "open" }]
deny    = ["blocked", { table = "secret", values = "kept_from = $subject" }]
fields.title = "keyword"

[key.ann]
secret  = "ann-ann-ann-ann-ann"
subject = "1"
scopes  = ["search", "operate"]

[key.bo]
secret  = "bo-bo-bo-bo-bo-bo"
subject = "2"
units   = ["staff", "1"]
scopes  = ["search"]

[key.cy]
secret  = "cy-cy-cy-cy-cy-cy"
subject = "3"
units   = ["staff"]
scopes  = ["search"]

[key.all]
secret  = "all-all-all-all-all"
subject = "4"
scopes  = ["search", "read_all"]
"#;

/// What a key sees by searching, by counting, in a facet, by id, and of the rows behind hits: the same.
fn seen(served: &Server, key: &str) -> Vec<u64> {
    let body = json!({ "size": 20, "aggs": { "ids": { "terms": { "field": "title", "size": 20 } } } });
    let path = "/paper/_search?hydrate=true";
    let found = served.send("POST", path, Some(key), Some(&body)).json();
    let hits = found["hits"]["hits"]
        .as_array()
        .unwrap_or_else(|| panic!("{found}"));
    let mut ids: Vec<u64> = hits
        .iter()
        .map(|hit| hit["_id"].as_str().unwrap().parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(found["hits"]["total"]["value"], ids.len(), "{found}");
    let buckets = found["aggregations"]["ids"]["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), ids.len(), "{found}");
    for id in 1..=6 {
        let answer = served.send("GET", &format!("/paper/_doc/{id}"), Some(key), None);
        assert_eq!(answer.status == 200, ids.contains(&id), "{id} for {key}");
    }
    ids
}

fn sees(served: &Server, what: &str, expected: [&[u64]; 4]) {
    let keys = [
        "ann-ann-ann-ann-ann",
        "bo-bo-bo-bo-bo-bo",
        "cy-cy-cy-cy-cy-cy",
        "all-all-all-all-all",
    ];
    let mut found = Vec::new();
    eventually(&format!("{what}: {expected:?}"), Duration::from_secs(30), || {
        let everything = json!({ "size": 20 });
        let ids = |key: &&str| {
            let answer = served.send("POST", "/paper/_search", Some(key), Some(&everything));
            answer.json()["hits"]["total"]["value"].as_u64().unwrap_or(0)
        };
        let counts: Vec<u64> = keys.iter().map(ids).collect();
        if counts
            .iter()
            .zip(expected)
            .any(|(count, ids)| *count != ids.len() as u64)
        {
            return false;
        }
        found = keys.iter().map(|key| seen(served, key)).collect();
        found == expected
    });
}

#[test]
fn whoever_is_named_and_not_denied() {
    for shop in Both::each("readers", SCHEMA, CONFIGURATION) {
        named_and_not_denied(&shop);
    }
}

fn named_and_not_denied(shop: &Both) {
    let served = shop.product.serve();
    // Bo's unit "1" is not the subject 1; the staff sees 3 but for bo, 4 by the open share, 6 but for its owner.
    sees(
        &served,
        "the first load",
        [&[1, 2], &[2, 4, 6], &[3, 4, 6], &[1, 2, 3, 4, 5, 6]],
    );
    shop.verified("the first load");
    // Why a key does not see it.
    let told = shop.product.json(&["explain", "doc", "paper", "3"]);
    let keys = &told["readers"]["keys"];
    assert_eq!(
        (
            &keys["cy"]["sees"],
            &keys["bo"]["why_not"],
            &keys["ann"]["why_not"]
        ),
        (&json!(true), &json!("denied"), &json!("not among its readers")),
        "{told}"
    );
    // A row hydrated is asked for its readers again.
    let body = json!({ "size": 20, "sort": ["_id"] });
    let found = served.send(
        "POST",
        "/paper/_search?hydrate=true",
        Some("cy-cy-cy-cy-cy-cy"),
        Some(&body),
    );
    let rows = found.json()["hits"]["hits"].clone();
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|hit| hit["_row"]["title"].is_string()),
        "{rows}"
    );

    (shop.execute)("update share set open = true where id = 2");
    sees(
        &served,
        "a share that opens, for a name nobody has",
        [&[1, 2], &[2, 4, 6], &[3, 4, 6], &[1, 2, 3, 4, 5, 6]],
    );
    (shop.execute)("update share set who = '3' where id = 2");
    sees(
        &served,
        "a share with cy, whose unit is denied",
        [&[1, 2], &[2, 4, 6], &[3, 4, 6], &[1, 2, 3, 4, 5, 6]],
    );
    (shop.execute)("update paper set blocked = null where id = 5");
    sees(
        &served,
        "nobody denied",
        [&[1, 2], &[2, 4, 6], &[3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]],
    );
    (shop.execute)("delete from secret");
    sees(
        &served,
        "no secret",
        [&[1, 2, 6], &[2, 4, 6], &[3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]],
    );
    (shop.execute)(
        "update paper set owner = 2 where id = 1; update paper set blocked = '[\"staff\"]' where id = 4",
    );
    sees(
        &served,
        "another owner, another block",
        [&[2, 6], &[1, 2, 6], &[3, 5, 6], &[1, 2, 3, 4, 5, 6]],
    );
    shop.verified("all of it");
    // What cannot be understood hides its document from everybody, and says so.
    (shop.execute)("update paper set blocked = 'staff' where id = 6");
    sees(
        &served,
        "a broken list",
        [&[2], &[1, 2], &[3, 5], &[1, 2, 3, 4, 5]],
    );
    let dead = shop.product.json(&["dead", "list"]);
    assert!(dead.to_string().contains("`readers`"), "{dead}");
    assert_eq!(served.stop(), Some(0));
}
