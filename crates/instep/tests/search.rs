//! Who sees what, over real HTTP: every path, every caller; what is refused; rows behind hits; operations.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::shop::{self, BUYER, OPERATOR, STAFF};

struct Shop {
    // The process ends before its folder goes.
    server: Server,
    database: Connection,
    _folder: tempfile::TempDir,
}

fn open() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), &shop::configuration());
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    Shop {
        server: product.serve(),
        database,
        _folder: folder,
    }
}

impl Shop {
    fn post(&self, path: &str, key: Option<&str>, body: Value) -> Value {
        let answer = self.server.send("POST", path, key, Some(&body));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    fn status(&self, method: &str, path: &str, key: Option<&str>) -> u16 {
        self.server.send(method, path, key, None).status
    }
}

fn ids(answer: &Value) -> Vec<&str> {
    let mut ids: Vec<&str> = answer["hits"]["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["_id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

/// The staff, the buyer and what each of them sees.
const CALLERS: [(&str, &[&str]); 2] = [(STAFF, &["1", "2", "3"]), (BUYER, &["1", "3", "4"])];

#[test]
fn each_caller_sees_what_readers_say_on_every_path() {
    let shop = open();
    for (key, seen) in CALLERS {
        let all = shop.post("/product/_search", Some(key), json!({}));
        assert_eq!(ids(&all), seen, "_search");
        assert_eq!(all["hits"]["total"]["value"], json!(seen.len()));
        // Asking for the others by name, or for everything but one's own, finds no more.
        for query in [
            json!({ "ids": { "values": ["1", "2", "3", "4", "5"] } }),
            json!({ "bool": { "should": [{ "match_all": {} }, { "terms": { "_id": ["2", "5"] } }] } }),
            json!({ "bool": { "must_not": [{ "match_none": {} }] } }),
            json!({ "constant_score": { "filter": { "exists": { "field": "title" } } } }),
        ] {
            let found = shop.post("/product/_search", Some(key), json!({ "query": query }));
            assert_eq!(ids(&found), seen, "{query}");
        }
        assert_eq!(
            shop.post("/product/_count", Some(key), json!({}))["count"],
            json!(seen.len())
        );
        for id in ["1", "2", "3", "4", "5", "6"] {
            let (there, path) = (seen.contains(&id), format!("/product/_doc/{id}"));
            let answer = shop.server.send("GET", &path, Some(key), None);
            assert_eq!(answer.status, if there { 200 } else { 404 }, "GET {path}");
            assert_eq!(answer.json()["found"], json!(there));
            assert_eq!(
                shop.status("HEAD", &path, Some(key)),
                answer.status,
                "HEAD {path}"
            );
        }
        // One that may not be read looks exactly like one that does not exist.
        let hidden = shop.server.send("GET", "/product/_doc/5", Some(key), None).body;
        let missing = shop.server.send("GET", "/product/_doc/6", Some(key), None).body;
        assert_eq!(hidden.replace("\"5\"", "\"6\""), missing);
        let docs = shop.post(
            "/product/_mget",
            Some(key),
            json!({ "ids": ["5", "4", "3", "2", "1"] }),
        );
        let found: Vec<bool> = docs["docs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|doc| doc["found"] == json!(true))
            .collect();
        assert_eq!(
            found,
            ["5", "4", "3", "2", "1"].map(|id| seen.contains(&id)),
            "_mget"
        );

        let aggregations = json!({
            "size": 0,
            "aggs": {
                "sellers": { "terms": { "field": "seller.name.keyword" }, "aggs": { "dearest": { "max": { "field": "price" } } } },
                "tags": { "terms": { "field": "tags" } },
                "prices": { "stats": { "field": "price" } },
                "steps": { "range": { "field": "price", "ranges": [{ "to": 500 }, { "from": 500 }] } },
                "bars": { "histogram": { "field": "price", "interval": 100 } },
                "count": { "value_count": { "field": "price" } },
            },
        });
        let found = shop.post("/product/_search", Some(key), aggregations)["aggregations"].clone();
        assert_eq!(found["count"]["value"], json!(seen.len()));
        assert_eq!(found["prices"]["count"], json!(seen.len()));
        let staff = key == STAFF;
        assert_eq!(found["prices"]["max"], json!(if staff { 999.0 } else { 199.5 }));
        assert_eq!(found["prices"]["min"], json!(if staff { 99.9 } else { 19.9 }));
        assert_eq!(found["steps"]["buckets"][1]["doc_count"], json!(u8::from(staff)));
        assert_eq!(
            found["tags"].to_string().contains("prototype"),
            staff,
            "a tag that only hidden products have"
        );
        let bars = found["bars"]["buckets"].as_array().unwrap();
        assert_eq!(
            bars.iter()
                .map(|bar| bar["doc_count"].as_u64().unwrap())
                .sum::<u64>(),
            seen.len() as u64
        );
        let dearest: Vec<_> = found["sellers"]["buckets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bucket| (bucket["key"].clone(), bucket["dearest"]["value"].clone()))
            .collect();
        assert!(
            dearest.contains(&(json!("Ann Cycles"), json!(if staff { 999.0 } else { 199.5 }))),
            "{dearest:?}"
        );
    }
    // Units and subjects are exact bytes; the readers' field itself is no field of theirs.
    let asked = shop.server.send(
        "POST",
        "/product/_search",
        Some(BUYER),
        Some(&json!({ "query": { "term": { "acl_readers": "staff" } } })),
    );
    assert!(
        asked.status == 400 || ids(&asked.json()).is_empty(),
        "{}",
        asked.body
    );
    let shown = shop.post("/product/_search", Some(BUYER), json!({})).to_string();
    for hidden in ["staff", "everyone", "note-one", "Secret", "acl_readers"] {
        assert!(!shown.contains(hidden), "{hidden} is in {shown}");
    }
    // Words that only hidden documents have leave no trace in what is found.
    let secret = shop.post(
        "/product/_search",
        Some(BUYER),
        json!({ "query": { "match": { "title": "secret" } } }),
    );
    assert_eq!(
        (
            secret["hits"]["total"]["value"].clone(),
            secret["hits"]["max_score"].clone()
        ),
        (json!(0), Value::Null)
    );
}

#[test]
fn rights_follow_the_rows() {
    let shop = open();
    // By searching and by reading alike.
    let is_seen = |key: &str, id: &str, seen: bool| {
        let query = json!({ "query": { "ids": { "values": [id] } } });
        let found = shop.post("/product/_search", Some(key), query);
        let read = shop.status("HEAD", &format!("/product/_doc/{id}"), Some(key));
        (ids(&found) == [id]) == seen && (read == 200) == seen
    };
    for (id, buyer) in [("1", true), ("2", false), ("4", true)] {
        assert!(is_seen(BUYER, id, buyer), "{id}");
    }
    for (id, readers, buyer, staff) in [
        ("1", Some("[\"staff\"]"), false, true),
        ("2", Some("[\"eva\", \"staff\"]"), true, true),
        ("4", None, false, false),
        ("3", Some("[]"), false, false),
        ("5", Some("[\"sue\", \"*\"]"), false, true),
    ] {
        shop.database
            .execute("update product set acl_readers = ?1 where id = ?2", (readers, id))
            .unwrap();
        eventually(
            &format!("{id} to be read by {readers:?}"),
            Duration::from_secs(10),
            || is_seen(BUYER, id, buyer) && is_seen(STAFF, id, staff),
        );
    }
    // What is no array of names admits nobody, and does not pass for public.
    shop.database
        .execute("update product set acl_readers = 'everyone' where id = 2", [])
        .unwrap();
    eventually(
        "readers that are no array to admit nobody",
        Duration::from_secs(10),
        || is_seen(BUYER, "2", false) && is_seen(STAFF, "2", false),
    );
    // The fields that instep keeps for itself are nobody's to ask.
    for field in ["_readers", "acl_readers", "_ticket", "_seq", "secret_note"] {
        for body in [
            json!({ "query": { "term": { field: "staff" } } }),
            json!({ "query": { "prefix": { field: "s" } } }),
            json!({ "query": { "exists": { "field": field } } }),
            json!({ "sort": [{ field: "asc" }] }),
            json!({ "aggs": { "a": { "terms": { "field": field } } } }),
            json!({ "aggs": { "a": { "max": { "field": field } } } }),
        ] {
            let answer = shop
                .server
                .send("POST", "/product/_search", Some(STAFF), Some(&body));
            if answer.status != 400 {
                let found = answer.json();
                let asked_for_hits = body.get("query").is_some();
                assert!(!asked_for_hits || ids(&found).is_empty(), "{body}: {found}");
                let buckets = found["aggregations"]["a"]["buckets"]
                    .as_array()
                    .map_or(0, Vec::len);
                assert!(
                    buckets == 0 && found["aggregations"]["a"]["value"].is_null(),
                    "{body}: {found}"
                );
            }
        }
    }
}

#[test]
fn callers_without_a_key_see_public_collections_alone() {
    let shop = open();
    let sellers = shop.post(
        "/seller/_search",
        None,
        json!({ "aggs": { "countries": { "terms": { "field": "country" } } } }),
    );
    assert_eq!(
        (
            ids(&sellers),
            sellers["aggregations"]["countries"]["buckets"]
                .as_array()
                .unwrap()
                .len()
        ),
        (vec!["1", "2"], 2)
    );
    assert_eq!(shop.post("/seller/_count", None, json!({}))["count"], json!(2));
    assert_eq!(
        (
            shop.status("GET", "/seller/_doc/1", None),
            shop.status("HEAD", "/seller/_doc/9", None)
        ),
        (200, 404)
    );
    // Everything is what one may see.
    let all = shop.post("/_search", None, json!({}));
    assert!(
        all["hits"]["hits"]
            .as_array()
            .unwrap()
            .iter()
            .all(|hit| hit["_index"].as_str().unwrap().starts_with("seller")),
        "{all}"
    );
    assert_eq!(shop.post("/_count", None, json!({}))["count"], json!(2));
    for (method, path) in [
        ("POST", "/product/_search"),
        ("POST", "/product,seller/_search"),
        ("GET", "/product/_count"),
        ("GET", "/product/_doc/1"),
        ("HEAD", "/product/_doc/1"),
        ("GET", "/product/_mget"),
    ] {
        let mget = path.ends_with("_mget");
        let body = mget.then(|| json!({ "ids": ["1"] }));
        let answer = shop.server.send(method, path, None, body.as_ref());
        // Each document of an `_mget` is answered by itself.
        assert_eq!(
            answer.status,
            if mget { 200 } else { 404 },
            "{method} {path}: {}",
            answer.body
        );
        // Not even that it exists.
        let nowhere = shop
            .server
            .send(method, &path.replace("product", "nowhere"), None, body.as_ref());
        assert_eq!(answer.body.replace("product", "nowhere"), nowhere.body, "{path}");
    }
    // A wrong key is not a missing one.
    for path in ["/", "/seller/_search", "/product/_search", "/metrics"] {
        assert_eq!(
            shop.status("GET", path, Some("a-wrong-secret-0123456789")),
            401,
            "{path}"
        );
    }
    // Who operates does not search, who searches does not operate.
    assert_eq!(shop.status("GET", "/product/_count", Some(OPERATOR)), 404);
    assert_eq!(shop.status("GET", "/_instep/status", Some(BUYER)), 403);
    assert_eq!(shop.status("GET", "/metrics", Some(BUYER)), 403);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let shop = open();
    for (path, body, named) in [
        (
            "/product/_search",
            json!({ "query": { "more_or_less": { "title": "x" } } }),
            "more_or_less",
        ),
        (
            "/product/_search",
            json!({ "query": { "bool": { "must": [{ "bool": { "filter": [{ "fuzzyish": {} }] } }] } } }),
            "fuzzyish",
        ),
        (
            "/product/_search",
            json!({ "query": { "match": { "title": { "query": "x", "fuzzyness": 2 } } } }),
            "fuzzyness",
        ),
        ("/product/_search", json!({ "sise": 3 }), "sise"),
        (
            "/product/_search",
            json!({ "aggs": { "a": { "terms": { "field": "tags" }, "aggs": { "b": { "medium": { "field": "price" } } } } } }),
            "medium",
        ),
        ("/product/_search?routes=1", json!({}), "routes"),
        (
            "/product/_count",
            json!({ "query": { "match_all": {} }, "aggs": {} }),
            "aggs",
        ),
    ] {
        let answer = shop.server.send("POST", path, Some(STAFF), Some(&body));
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let error = &answer.json()["error"];
        assert!(
            error["reason"].as_str().unwrap().contains(named),
            "{named}: {error}"
        );
        assert!(
            error["root_cause"].is_array()
                && error["type"].is_string()
                && answer.json()["status"] == json!(400),
            "{error}"
        );
    }
    // Physical indexes have no public name.
    for path in [
        "/documents-main-product-en/_search",
        "/products/_search",
        "/product-sv/_search",
        "/product-en-main/_count",
    ] {
        let answer = shop.server.send("POST", path, Some(STAFF), Some(&json!({})));
        assert!(
            [400, 404].contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.body
        );
    }
    assert_eq!(
        shop.post("/product-en/_count", Some(STAFF), json!({}))["count"],
        json!(3)
    );
}

#[test]
fn rows_come_with_hits_and_a_vanished_one_is_reported() {
    let shop = open();
    let body = json!({ "query": { "match": { "title": "bicycle" } }, "sort": [{ "price": "desc" }] });
    let found = shop.post("/product/_search?hydrate=true", Some(STAFF), body.clone());
    let hits = found["hits"]["hits"].as_array().unwrap();
    let rows: Vec<_> = hits
        .iter()
        .map(|hit| {
            (
                hit["_id"].as_str().unwrap(),
                hit["_row"]["name"].as_str().unwrap(),
                hit["_row"]["id"].to_string(),
            )
        })
        .collect();
    let row = |id: &'static str, name| (id, name, id.to_owned());
    assert_eq!(
        rows,
        [
            row("2", "Secret folding bicycle"),
            row("1", "Red folding bicycle"),
            row("3", "Blue city bicycle")
        ]
    );
    assert!(
        !found.to_string().contains("note-"),
        "a column that no collection names: {found}"
    );

    // Stop the indexing, so that the index is behind its rows: every new product is one that cannot be built.
    shop.database
        .execute_batch(
            "with recursive n (i) as (select 100 union all select i + 1 from n where i < 160)
             insert into product (id, name, price, acl_readers, seller_id) select i, 'Broken', 'no number', '[\"staff\"]', 1 from n",
        )
        .unwrap();
    let status = || shop.server.status(Some(OPERATOR))["sets"][0].clone();
    eventually("the set to halt", Duration::from_secs(30), || {
        status()["state"] == json!("halted")
    });
    assert!(
        status()["reason"].as_str().unwrap().len() > 20 && status()["conserved"] == json!(true),
        "{}",
        status()
    );
    assert_eq!(shop.status("GET", "/_instep/health/ready", None), 503);
    shop.database.execute_batch("delete from product_tag where product_id = 3; delete from product where id = 3; update product set name = 'Now red' where id = 1").unwrap();
    let found = shop.post("/product/_search?hydrate=true", Some(STAFF), body);
    let hits = found["hits"]["hits"].as_array().unwrap();
    let rows: Vec<_> = hits
        .iter()
        .map(|hit| (hit["_id"].as_str().unwrap(), hit["_row"]["name"].as_str()))
        .collect();
    assert_eq!(
        rows,
        [
            ("2", Some("Secret folding bicycle")),
            ("1", Some("Now red")),
            ("3", None)
        ],
        "{found}"
    );
    assert!(
        hits[2].get("_row").is_some_and(Value::is_null),
        "the vanished row is said to be none: {}",
        hits[2]
    );
    assert_eq!(
        hits[1]["_source"]["title"],
        json!("Red folding bicycle"),
        "the index is behind, and the row is not"
    );
    let one = shop
        .server
        .send("GET", "/product/_doc/3?hydrate=true", Some(STAFF), None)
        .json();
    assert_eq!(
        (one["found"].clone(), one.get("_row")),
        (json!(true), Some(&Value::Null)),
        "{one}"
    );

    // Whom the row no longer admits does not see it, whatever the index still says.
    shop.database
        .execute("update product set acl_readers = '[\"staff\"]' where id = 1", [])
        .unwrap();
    let found = shop.post(
        "/product/_search?hydrate=true",
        Some(BUYER),
        json!({ "query": { "ids": { "values": ["1"] } } }),
    );
    assert!(!found.to_string().contains("Now red"), "{found}");
}

#[test]
fn operators_see_that_every_touch_is_accounted_for() {
    let shop = open();
    for (at, change) in [
        "update product set name = name || '!' where id < 4",
        "update product set stocked_on = '2020-02-02' where id = 1",
        "delete from review where id = 3",
        "update seller set name = 'Ann Cycles AB' where id = 1",
        "insert into product (id, name, price, acl_readers, seller_id) values (6, 'Unicycle', 'cheap', '[\"staff\"]', 1)",
        "delete from product_tag where product_id = 2; delete from product where id = 2",
    ]
    .into_iter()
    .enumerate()
    {
        shop.database.execute_batch(change).unwrap();
        if at % 2 == 0 {
            std::thread::park_timeout(Duration::from_millis(60));
        }
    }
    let status = || shop.server.status(Some(OPERATOR));
    eventually("everything to be indexed", Duration::from_secs(20), || {
        let set = status()["sets"][0].clone();
        assert_eq!(set["conserved"], json!(true), "{set}");
        let counts = &set["counts"];
        set["pending"] == json!(0)
            && counts["deleted"].as_u64().unwrap() > 0
            && counts["dead_letters"] == json!(1)
            && set["lag"] == json!(0)
    });
    let status = status();
    let counts = &status["sets"][0]["counts"];
    let number = |name: &str| {
        counts[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {counts}"))
    };
    assert_eq!(
        number("touches"),
        number("folded") + number("built") + number("ahead"),
        "{counts}"
    );
    assert_eq!(
        number("built"),
        number("indexed") + number("deleted") + number("superseded") + number("dead") + number("retrying")
    );
    assert!(number("touches") >= 6 && number("dead") == 1, "{counts}");
    assert_eq!(status["sources"][0]["source"], json!("shop"));

    let metrics = shop.server.send("GET", "/metrics", Some(OPERATOR), None).body;
    let gauge = |wanted: &str| -> u64 {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(wanted))
            .unwrap_or_else(|| panic!("{wanted} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
    };
    for (kind, name) in [
        ("all", "touches"),
        ("folded", "folded"),
        ("indexed", "indexed"),
        ("deleted", "deleted"),
        ("dead", "dead"),
    ] {
        assert_eq!(
            gauge(&format!("instep_set_touches{{set=\"main\",kind=\"{kind}\"}}")),
            number(name),
            "{kind}"
        );
    }
    assert_eq!(gauge("instep_set_unaccounted{set=\"main\"}"), 0);
    assert_eq!(gauge("instep_set_dead_letters{set=\"main\"}"), 1);
    assert!(metrics.contains("# HELP instep_set_lag ") && metrics.contains("# TYPE instep_set_lag gauge"));
    for secret in [STAFF, BUYER, OPERATOR, "Unicycle", "bicycle", "cheap"] {
        assert!(
            !metrics.contains(secret) && !status.to_string().contains(secret),
            "{secret}"
        );
    }
}
