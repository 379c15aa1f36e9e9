//! The demo's market of cars beyond the demo: from SQLite and from Postgres into every cluster there is, at once.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use instep_conformance::node::Node;
use instep_conformance::postgres::{self, Database, Server as Postgres};
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::clusters::Clean;
use crate::demo::Market;
use crate::postgres::stage::source_of;
use crate::support::product::{Product, Server, eventually};

/// In an order in which rows come after those that they name.
const TABLES: [&str; 8] = [
    "manufacturer",
    "model",
    "car",
    "seller",
    "ad",
    "tag",
    "ad_tag",
    "block",
];

/// What changes beside the indexing, in either dialect; each a statement of its own.
const CHANGES: [&str; 7] = [
    "update ad set price = '1.50', title = title || ' zeppelin' where id % 7 = 0",
    "update ad set state = 'sold' where id % 11 = 0",
    "update ad set lang = 'de' where id % 13 = 0",
    "update seller set name = 'Zeppelin & Co' where id % 5 = 0",
    "update car set km = km + 1 where id % 17 = 0",
    "delete from ad where id % 19 = 0",
    "insert into block (id, seller_id, who) select 100000 + id, id, 'dealer' from seller where id % 3 = 0",
];

/// The rows of the demo's database as statements for Postgres.
fn for_postgres(database: &rusqlite::Connection) -> String {
    let mut text = include_str!("../src/demo/schema.sql")
        .replace("WITHOUT ROWID", "")
        .replace(
            "json_type(readers) = 'array'",
            "json_typeof(readers::json) = 'array'",
        );
    for table in TABLES {
        let mut rows = database.prepare(&format!("select * from {table}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = (0..columns).map(|at| match row.get_ref(at).unwrap() {
                ValueRef::Null => "null".to_owned(),
                ValueRef::Integer(whole) => whole.to_string(),
                ValueRef::Text(text) => {
                    format!("'{}'", std::str::from_utf8(text).unwrap().replace('\'', "''"))
                }
                other => panic!("{other:?} in {table}"),
            });
            let values: Vec<String> = values.collect();
            writeln!(text, "insert into {table} values ({});", values.join(", ")).unwrap();
        }
    }
    text.push_str(include_str!("../src/demo/indexes.sql"));
    text
}

/// The demo's configuration, with this source and a set in every cluster there is.
fn configuration(demo: &str, source: &str, name: &str) -> (String, Vec<Clean<'static>>) {
    let start = demo.find("[source.market]").unwrap();
    let end = start + demo[start..].find("\n\n").unwrap();
    let mut text = format!("[state]\npath = \"state-{name}\"\n{source}{}", &demo[end..]);
    let mut clean = Vec::new();
    for (at, node) in Node::ALL.into_iter().enumerate() {
        let Some(url) = node.url() else { continue };
        writeln!(
            text,
            "[cluster.c{at}]\nurl = \"{url}\"\nsettings = {{ number_of_replicas = 0, refresh_interval = \"200ms\" }}\n\
             [set.market_{}_{name}_{at}]\ncluster = \"c{at}\"\nactive = {}",
            std::process::id(),
            clean.is_empty()
        )
        .unwrap();
        clean.push(Clean::of(&url, "market"));
    }
    (text, clean)
}

/// What each key of the demo sees: how many, and the first ones.
fn seen(server: &Server, secrets: &[String]) -> Value {
    let ask = |key: &String, path: &str, query: Value| {
        let answer = server.send("POST", path, Some(key), Some(&query));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut answer = answer.json();
        answer["took"].take();
        answer
    };
    let of_one = |key: &String| {
        json!([
            ask(
                key,
                "/ad/_search",
                json!({
                "query": { "match": { "title": "zeppelin" } }, "track_total_hits": true, "size": 50,
                "sort": [{ "price": "asc" }, { "_id": "asc" }],
                "aggs": { "makes": { "terms": { "field": "car.model.manufacturer.name.keyword" } } } })
            ),
            ask(
                key,
                "/ad-sv/_count",
                json!({ "query": { "match": { "body": "bilen" } } })
            ),
            ask(
                key,
                "/ad/_search",
                json!({
                "query": { "range": { "car.power_hp": { "gte": 150 } } }, "size": 50, "sort": [{ "_id": "desc" }] })
            ),
        ])
    };
    secrets.iter().map(of_one).collect()
}

#[test]
fn from_both_databases_into_each_cluster() {
    if Node::any().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let market = Market::start(folder.path(), &["--cars", "1500"]);
    let secrets: Vec<String> = ["buyer", "dealer", "staff"]
        .iter()
        .map(|name| market.key(name).to_owned())
        .collect();
    assert_eq!(market.server.stop(), Some(0));
    let folder = folder.path().join("market");
    let demo = std::fs::read_to_string(folder.join("instep.toml")).unwrap();
    let sqlite = rusqlite::Connection::open(folder.join("market.db")).unwrap();
    let mut shown = Vec::new();

    let server = postgres::or_skip("the market from Postgres into clusters").map(|_| Postgres::shared());
    if let Some(server) = server {
        let database: Database = server.database("market");
        database.execute(&for_postgres(&sqlite));
        let change = |sql: &str| database.execute(sql);
        let source = source_of("market", &database);
        shown.push(follow(&folder, &demo, &source, "postgres", &secrets, change));
    }
    let change = |sql: &str| {
        sqlite.execute_batch(sql).unwrap();
    };
    let source = "[source.market]\nurl = \"sqlite:market.db\"\n";
    shown.push(follow(&folder, &demo, source, "sqlite", &secrets, change));
    for other in &shown[1..] {
        assert!(
            other == &shown[0],
            "both databases hold the same, so everybody sees the same"
        );
    }
}

/// Indexes the market, changes it meanwhile, and verifies every set; what is seen in the end.
fn follow(
    folder: &Path,
    demo: &str,
    source: &str,
    name: &str,
    secrets: &[String],
    change: impl Fn(&str),
) -> Value {
    let (text, _clean) = configuration(demo, source, name);
    let product = Product::new(folder, &text);
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{name}: {done}");
    assert_eq!(product.json(&["verify"])["differences"], json!(0), "{name}");
    let server = product.serve();
    for sql in CHANGES {
        change(sql);
    }
    eventually(
        "the changes to be in every cluster",
        Duration::from_secs(60),
        || product.json(&["verify"])["differences"] == json!(0),
    );
    let seen = seen(&server, secrets);
    let total = |of: usize| seen[of][0]["hits"]["total"]["value"].as_u64().unwrap();
    let (buyer, dealer, staff) = (total(0), total(1), total(2));
    assert!(
        0 < buyer && buyer < staff && 0 < dealer && dealer < staff && buyer != dealer,
        "{buyer}, {dealer}, {staff}: the dealer sees the trade's ads, and not those of who blocked him"
    );
    assert_eq!(server.stop(), Some(0));
    seen
}
