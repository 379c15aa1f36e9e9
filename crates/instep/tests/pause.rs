//! `pause` and `resume` from the outside, on SQLite and on Postgres alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::both::Both as Shop;
use crate::support::product::{Server, eventually};
use crate::support::shop;

const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    create table seller (id integer primary key, name text);
    create table product (id integer primary key, name text not null, seller_id integer references seller (id));
    create index product_seller on product (seller_id);
    insert into seller values (1, 'Ann'), (2, 'Bo');
    insert into product values (1, 'bicycle', 1), (2, 'chair', 2), (3, 'table', 1);";

const COLLECTIONS: &str = r#"
[collection.product]
root   = "product"
public = true

[collection.product.fields]
name   = "keyword"
seller = { table = "seller", fields = ["name"] }

[collection.seller]
root   = "seller"
public = true

[collection.seller.fields]
name = "keyword"
"#;

fn name(served: &Server, collection: &str, id: &str) -> Value {
    served
        .send("GET", &format!("/{collection}/_doc/{id}"), None, None)
        .json()["_source"]["name"]
        .clone()
}

/// Time for what must not happen.
fn wait() {
    std::thread::park_timeout(Duration::from_millis(1_500));
}

#[test]
fn a_paused_collection_waits_across_a_kill_and_the_others_go_on() {
    for shop in Shop::each("pause_collection", SCHEMA, COLLECTIONS) {
        let product = &shop.product;
        let served = product.serve();
        eventually("the first load", PATIENCE, || {
            name(&served, "product", "3") == json!("table") && name(&served, "seller", "2") == json!("Bo")
        });
        let paused = product.json(&["pause", "product"]);
        assert_eq!(
            paused,
            json!({ "paused": { "kind": "collection", "name": "product" }, "was_paused": false, "running": true })
        );
        assert_eq!(
            product.json(&["pause", "collection:product"])["was_paused"],
            json!(true)
        );
        // The running process looks every second.
        wait();
        (shop.execute)(
            "update product set name = 'folding bicycle' where id = 1; update seller set name = 'Eva' where id = 1",
        );
        eventually("the other collection", PATIENCE, || {
            name(&served, "seller", "1") == json!("Eva")
        });
        assert_eq!(name(&served, "product", "1"), json!("bicycle"));
        let status = served.status(None);
        let shown = &status["paused"][0];
        assert_eq!(
            (&shown["kind"], &shown["name"], &status["sets"][0]["conserved"]),
            (&json!("collection"), &json!("product"), &json!(true)),
            "{status}"
        );
        assert!(shown["since_ms"].as_i64().unwrap() > 1_700_000_000_000);
        assert!(status["sets"][0]["lag"].as_u64().unwrap() > 0);
        let words = String::from_utf8(product.run(&["status"]).stdout).unwrap();
        assert!(
            words.contains("collection product is paused since 20")
                && words.contains("next: instep resume collection:product"),
            "{words}"
        );
        let why = product.json(&["explain", "doc", "product", "1"]);
        let codes: Vec<_> = why["sets"][0]["because"]
            .as_array()
            .unwrap()
            .iter()
            .map(|why| why["code"].clone())
            .collect();
        assert_eq!(codes, [json!("pending"), json!("paused")], "{why}");

        // Killed, changed meanwhile, and started again: still paused.
        drop(served);
        (shop.execute)("delete from product where id = 2; insert into product values (4, 'lamp', 2)");
        let served = product.serve();
        (shop.execute)("update seller set name = 'Liv' where id = 2");
        eventually("the other collection", PATIENCE, || {
            name(&served, "seller", "2") == json!("Liv")
        });
        wait();
        assert_eq!(
            (
                name(&served, "product", "1"),
                name(&served, "product", "2"),
                name(&served, "product", "4")
            ),
            (json!("bicycle"), json!("chair"), Value::Null)
        );
        assert_eq!(served.stop(), Some(0));
        let refused = product.refused(&["sync", "--once"], 1);
        assert!(
            refused.contains("collection product is paused") && refused.contains("instep resume"),
            "{refused}"
        );

        let served = product.serve();
        assert_eq!(product.json(&["resume", "product"])["was_paused"], json!(true));
        eventually("to be in step", PATIENCE, || {
            name(&served, "product", "1") == json!("folding bicycle")
                && name(&served, "product", "2") == Value::Null
                && name(&served, "product", "4") == json!("lamp")
        });
        eventually("no lag", PATIENCE, || {
            served.status(None)["sets"][0]["lag"] == json!(0)
        });
        let status = served.status(None);
        assert_eq!(
            (&status["paused"], &status["sets"][0]["conserved"]),
            (&json!([]), &json!(true))
        );
        assert_eq!(product.json(&["verify"])["differences"], json!(0));
        assert_eq!(product.json(&["resume", "product"])["was_paused"], json!(false));
    }
}

#[test]
fn a_paused_source_is_taken_in_and_not_indexed() {
    for shop in Shop::each("pause_source", SCHEMA, COLLECTIONS) {
        let product = &shop.product;
        assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
        // Before the server is started.
        assert_eq!(product.json(&["pause", "main"])["running"], json!(false));
        let served = product.serve();
        (shop.execute)(
            "update product set name = 'folding bicycle' where id = 1; update seller set name = 'Eva' where id = 1",
        );
        eventually("the changes to be taken in", PATIENCE, || {
            served.status(None)["sets"][0]["pending"].as_u64().unwrap() >= 2
        });
        wait();
        assert_eq!(
            (name(&served, "product", "1"), name(&served, "seller", "1")),
            (json!("bicycle"), json!("Ann"))
        );
        product.json(&["resume", "source:main"]);
        eventually("to be in step", PATIENCE, || {
            name(&served, "product", "1") == json!("folding bicycle")
                && name(&served, "seller", "1") == json!("Eva")
        });
        eventually("no lag", PATIENCE, || {
            served.status(None)["sets"][0]["lag"] == json!(0)
        });
        assert_eq!(product.json(&["verify"])["differences"], json!(0));
    }
}

#[test]
fn names_that_are_not_clear_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(shop::write(folder.path()));
    let text = "[source.product]\nurl = \"sqlite:shop.db\"\n[collection.product]\nroot = \"product\"\npublic = true\nfields.name = \"text\"\n";
    let product = crate::support::product::Product::new(folder.path(), text);
    product.json(&["sync", "--once"]);
    let said = product.refused(&["pause", "product"], 2);
    assert!(
        said.contains("source:product") && said.contains("collection:product"),
        "{said}"
    );
    for wrong in ["nothing", "source:nothing", "set:product", ""] {
        let said = product.refused(&["pause", wrong], 2);
        assert!(
            said.contains("source:product, collection:product"),
            "{wrong}: {said}"
        );
        product.refused(&["resume", wrong], 2);
    }
    for name in ["source:product", "collection:product"] {
        product.json(&["pause", name]);
    }
    assert_eq!(product.json(&["status"])["paused"].as_array().unwrap().len(), 2);
    // What is no longer configured can still be resumed.
    let renamed = text.replace("[source.product]", "[source.shop]");
    let product = crate::support::product::Product::new(folder.path(), &renamed);
    assert_eq!(
        product.json(&["resume", "source:product"])["was_paused"],
        json!(true)
    );
    assert_eq!(product.json(&["resume", "product"])["was_paused"], json!(true));
    assert_eq!(product.json(&["status"])["paused"], json!([]));
}
