//! Conditions and computed fields, on SQLite and Postgres alike: a row that enters or leaves a condition takes its document
//! with it, and an expression that fails for one row hurts no other.

use std::path::Path;
use std::time::Duration;

use instep_conformance::postgres::{self, Server as Postgres};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::postgres::stage::source_of;
use crate::support::product::{Product, Server, eventually};

const SCHEMA: &str = "
    create table seller (id integer primary key, name varchar(40), active boolean);
    create table car (id integer primary key, name varchar(40), price integer, vat integer, published boolean,
                      deleted_at timestamp, seller_id integer references seller (id), note varchar(20));
    create table photo (id integer primary key, car_id integer references car (id), url varchar(40), hidden boolean);
    create index photo_car on photo (car_id);
    create index car_seller on car (seller_id);
    insert into seller values (1, 'Ann', true), (2, 'Bo', false);
    insert into car values (1, 'Amazon', 100, 25, true, null, 1, '7'), (2, 'Beetle', 200, 20, false, null, 1, 'x'),
                           (3, 'Corsa', 300, 0, true, '2024-01-01', 2, null), (4, 'Dart', null, 20, true, null, 2, '8');
    insert into photo values (1, 1, 'a.jpg', false), (2, 1, 'b.jpg', true), (3, 4, 'c.jpg', null);";

const COLLECTIONS: &str = r#"
[collection.car]
root   = "car"
where  = "published and deleted_at is null"
public = true

[collection.car.fields]
name   = "text"
gross  = { sql = "price * (100 + vat) / 100", type = "long" }
label  = { sql = "upper(name)", type = "keyword" }
photos = { table = "photo", many = true, values = "url", where = "not hidden" }
seller = { table = "seller", fields = ["name"], where = "active" }
"seller.initial" = { sql = "substr(name, 1, 1)", type = "keyword" }

[collection.note]
root   = "car"
public = true

[collection.note.fields]
number = { sql = "FAILING", type = "long" }

# The condition keeps rows away for which the expression fails.
[collection.taxed]
root   = "car"
where  = "vat > 0"
public = true

[collection.taxed.fields]
rate = { sql = "price / vat", type = "long" }
"#;

/// A database of either kind, and the product over it.
struct Shop {
    product: Product,
    execute: Box<dyn Fn(&str)>,
    failing: &'static str,
    source: String,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn new(
        folder: tempfile::TempDir,
        source: String,
        failing: &'static str,
        execute: Box<dyn Fn(&str)>,
    ) -> Self {
        execute(SCHEMA);
        let collections = COLLECTIONS.replace("FAILING", failing);
        Shop {
            product: Product::new(folder.path(), &format!("{source}{collections}")),
            execute,
            failing,
            source,
            _folder: folder,
        }
    }

    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = open(folder.path());
        let execute = move |sql: &str| database.execute_batch(sql).unwrap();
        let source = "[source.main]\nurl = \"sqlite:shop.db\"\n".to_owned();
        Shop::new(folder, source, "json_extract(note, '$')", Box::new(execute))
    }

    fn postgres() -> Option<Self> {
        postgres::or_skip("conditions over Postgres")?;
        let database = Postgres::shared().database("conditions");
        let source = source_of("main", &database);
        let execute = move |sql: &str| database.execute(sql);
        let folder = tempfile::tempdir().unwrap();
        Some(Shop::new(
            folder,
            source,
            "cast(note as integer)",
            Box::new(execute),
        ))
    }
}

fn open(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("shop.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
}

fn document(served: &Server, path: &str) -> Option<Value> {
    let answer = served.send("GET", path, None, None);
    (answer.status == 200).then(|| answer.json()["_source"].clone())
}

fn becomes(served: &Server, what: &str, path: &str, expected: Option<Value>) {
    let mut found = None;
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while std::time::Instant::now() < until {
        found = document(served, path);
        if found == expected {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("after {what}: expected {expected:?}, found {found:?}");
}

fn count(served: &Server, collection: &str) -> u64 {
    let answer = served.send("GET", &format!("/{collection}/_count"), None, None);
    answer.json()["count"].as_u64().unwrap()
}

fn rows_enter_and_leave(shop: &Shop) {
    let served = shop.product.serve();
    let amazon = |gross: i64, photos: &[&str], seller: Value| {
        let mut document = json!({ "name": "Amazon", "gross": gross, "label": "AMAZON", "photos": photos });
        if !seller.is_null() {
            document["seller"] = seller;
        }
        Some(document)
    };
    let ann = || json!({ "name": "Ann", "initial": "A" });
    becomes(
        &served,
        "the first load",
        "/car/_doc/1",
        amazon(125, &["a.jpg"], ann()),
    );
    let dart = json!({ "name": "Dart", "gross": null, "label": "DART", "photos": [] });
    becomes(&served, "the first load", "/car/_doc/4", Some(dart));
    eventually("the two documents", Duration::from_secs(30), || {
        count(&served, "car") == 2
    });
    let verified = |what: &str| {
        let found = shop.product.json(&["verify"]);
        assert_eq!(found["differences"], 0, "after {what}: {found}");
    };
    verified("the first load");

    (shop.execute)("update photo set hidden = false where id = 2");
    becomes(
        &served,
        "a joined row that enters",
        "/car/_doc/1",
        amazon(125, &["a.jpg", "b.jpg"], ann()),
    );
    (shop.execute)("update photo set hidden = true where id = 1");
    becomes(
        &served,
        "a joined row that leaves",
        "/car/_doc/1",
        amazon(125, &["b.jpg"], ann()),
    );
    (shop.execute)("update seller set active = false where id = 1");
    becomes(
        &served,
        "a seller that leaves",
        "/car/_doc/1",
        amazon(125, &["b.jpg"], Value::Null),
    );
    (shop.execute)("update seller set active = true, name = 'Ann' where id = 1");
    becomes(
        &served,
        "a seller that enters",
        "/car/_doc/1",
        amazon(125, &["b.jpg"], ann()),
    );
    (shop.execute)("update car set price = 200 where id = 1");
    becomes(
        &served,
        "another price",
        "/car/_doc/1",
        amazon(250, &["b.jpg"], ann()),
    );
    (shop.execute)("update car set deleted_at = '2024-05-05' where id = 1");
    becomes(&served, "a soft delete", "/car/_doc/1", None);
    (shop.execute)("update car set deleted_at = null where id = 1");
    becomes(
        &served,
        "an undelete",
        "/car/_doc/1",
        amazon(250, &["b.jpg"], ann()),
    );
    (shop.execute)(
        "update car set published = null where id = 1; update car set published = true where id = 2",
    );
    becomes(&served, "an unknown publication", "/car/_doc/1", None);
    let beetle = json!({ "name": "Beetle", "gross": 240, "label": "BEETLE", "photos": [], "seller": ann() });
    becomes(&served, "a publication", "/car/_doc/2", Some(beetle));
    verified("all of it");

    let told = shop.product.json(&["explain", "doc", "car", "1"]);
    let because = &told["sets"][0]["because"][0];
    assert_eq!(because["code"], "condition_not_met", "{told}");
    assert!(
        because["message"]
            .as_str()
            .unwrap()
            .contains("published and deleted_at is null"),
        "{told}"
    );
    let before = served.status(None)["sets"][0]["counts"]["touches"]
        .as_u64()
        .unwrap();
    let touched = shop
        .product
        .json(&["touch", "car", "--where", "price >= 200 and published"]);
    assert_eq!(
        (&touched["touched"], &touched["running"]),
        (&json!(2), &json!(true)),
        "{touched}"
    );
    let after = || {
        served.status(None)["sets"][0]["counts"]["touches"]
            .as_u64()
            .unwrap()
    };
    eventually("the touches", Duration::from_secs(30), || after() == before + 2);
    let told = shop
        .product
        .refused(&["touch", "car", "--where", "price >= random()"], 2);
    assert!(
        told.contains("random") || told.contains("non-deterministic"),
        "{told}"
    );
    let told = shop.product.json(&["touch", "car"]);
    assert_eq!((&told["touched"], &told["scan"]), (&Value::Null, &json!(true)));
    verified("a scan");

    becomes(
        &served,
        "the first load",
        "/taxed/_doc/2",
        Some(json!({ "rate": 10 })),
    );
    becomes(&served, "the first load", "/taxed/_doc/3", None);
    (shop.execute)("update car set vat = 20 where id = 3; update car set vat = 0 where id = 2");
    becomes(&served, "a rate", "/taxed/_doc/3", Some(json!({ "rate": 15 })));
    becomes(&served, "no rate", "/taxed/_doc/2", None);

    // One row fails the other collection's expression, and no other does.
    becomes(
        &served,
        "the first load",
        "/note/_doc/1",
        Some(json!({ "number": 7 })),
    );
    becomes(
        &served,
        "the first load",
        "/note/_doc/4",
        Some(json!({ "number": 8 })),
    );
    becomes(
        &served,
        "the first load",
        "/note/_doc/3",
        Some(json!({ "number": null })),
    );
    becomes(&served, "the first load", "/note/_doc/2", None);
    let sets = served.status(None)["sets"].clone();
    assert_eq!(sets[0]["counts"]["dead_letters"], 1, "{sets}");
    (shop.execute)("update car set note = '9' where id = 2");
    becomes(
        &served,
        "a mended row",
        "/note/_doc/2",
        Some(json!({ "number": 9 })),
    );
    (shop.execute)("update car set note = 'y' where id = 1");
    becomes(&served, "a broken row", "/note/_doc/1", None);
    verified("a broken row");
    assert_eq!(served.stop(), Some(0));
}

/// With file, line and text, before anything is written.
fn expressions_are_refused_by_name(shop: &Shop) {
    for (line, said) in [
        ("where = \"random() > 0\"", "random"),
        ("where = \"id in (select 1)\"", "`select`, which reads other rows"),
        ("where = \"published and\"", "published and"),
        ("where = \"nothing is null\"", "nothing"),
        (
            "where = \"deleted_at > current_timestamp\"",
            "`current_timestamp`",
        ),
        ("where = '\"pubished\" = true'", "pubished"),
        ("where = \"age(deleted_at) > interval '30 days'\"", "age"),
        ("where = \"deleted_at > datetime()\"", "datetime"),
        ("fields.x = { sql = \"count(*)\", type = \"long\" }", "count"),
        ("fields.x = { sql = \"price +\", type = \"long\" }", "price +"),
        (
            "fields.x = { sql = \"price\", from = \"price\", type = \"long\" }",
            "`from` with `sql`",
        ),
        (
            "fields.p = { table = \"photo\", many = true, values = \"url\", where = \"missing\" }",
            "missing",
        ),
        (
            "fields.x = { from = \"price\", where = \"price > 0\" }",
            "`where` without `table`",
        ),
    ] {
        let text = format!(
            "{}[collection.bad]\nroot = \"car\"\npublic = true\n{line}\nfields.name = \"text\"\n",
            shop.source
        );
        std::fs::write(shop.product.folder.join("bad.toml"), &text).unwrap();
        let at = text.lines().position(|known| known == line).unwrap() + 1;
        let told = shop
            .product
            .refused(&["sync", "--once", "--config", "bad.toml"], 2);
        assert!(
            told.contains(&format!("bad.toml:{at}:")) && told.contains(said),
            "{line}: {told}"
        );
        assert!(
            !shop.product.folder.join("instep-state").exists(),
            "{line} wrote something"
        );
    }
    assert!(!shop.failing.is_empty());
}

#[test]
fn sqlite_rows_enter_and_leave() {
    rows_enter_and_leave(&Shop::sqlite());
}

#[test]
fn postgres_rows_enter_and_leave() {
    if let Some(shop) = Shop::postgres() {
        rows_enter_and_leave(&shop);
    }
}

#[test]
fn expressions_are_refused_by_name_in_sqlite() {
    expressions_are_refused_by_name(&Shop::sqlite());
}

#[test]
fn expressions_are_refused_by_name_in_postgres() {
    if let Some(shop) = Shop::postgres() {
        expressions_are_refused_by_name(&shop);
    }
}
