//! `explain` and `trace` from the outside, on SQLite and on Postgres alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::both::Both as Shop;
use crate::dead::document;
use crate::support::product::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    create table seller (id integer primary key, name text, rank text);
    create table product (id integer primary key, name text not null, seller_id integer references seller (id));
    create table review (id integer primary key, product_id integer not null references product (id), stars text);
    create table stranger (id integer primary key);
    create index review_product on review (product_id);
    create index product_seller on product (seller_id);
    insert into seller values (1, 'Ann of value', '7'), (2, 'Bo of value', 'a rank beyond words');
    insert into product values (1, 'bicycle of value', 1), (2, 'chair of value', 2), (3, 'table of value', 1),
                               (4, 'lamp of value', null);
    insert into review values (11, 1, '5'), (12, 1, '4');";

const COLLECTIONS: &str = r#"
[collection.product]
root   = "product"
public = true

[collection.product.fields]
name    = "text"
seller  = { table = "seller", on = "product.seller_id = seller.id", fields = ["name"] }
"seller.rank" = "long"
reviews = { table = "review", on = "review.product_id = product.id", many = true, fields = ["id"] }
"reviews.stars" = "long"

[collection.shop]
root   = "seller"
public = true

[collection.shop.fields]
name = "text"
"#;

fn words(shop: &Shop, arguments: &[&str]) -> String {
    let output = shop.product.run(arguments);
    let noise = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {noise}");
    String::from_utf8(output.stdout).unwrap() + &noise
}

fn codes(explained: &Value) -> Vec<&str> {
    let because = explained["sets"][0]["because"].as_array().unwrap();
    because
        .iter()
        .map(|reason| reason["code"].as_str().unwrap())
        .collect()
}

#[test]
fn a_document_is_explained_by_its_rows_and_by_what_keeps_it_away() {
    for shop in Shop::each("why_doc", SCHEMA, COLLECTIONS) {
        let explain = |key: &str| shop.product.json(&["explain", "doc", "product", key]);
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || {
            document(&served, "4") != Value::Null
        });
        eventually("the dead letter", PATIENCE, || {
            codes(&explain("2")).contains(&"dead_letter")
        });

        let found = explain("1");
        let rows: Vec<(&str, &str)> = found["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["alias"].as_str().unwrap(), row["key"].as_str().unwrap()))
            .collect();
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        assert_eq!(rows[0], ("product", "1"), "the root first");
        assert_eq!(
            sorted,
            [
                ("product", "1"),
                ("review", "11"),
                ("review", "12"),
                ("seller", "1")
            ]
        );
        let set = &found["sets"][0];
        assert_eq!(
            (&set["state"], codes(&found).len()),
            (&json!("in_step"), 0),
            "{found}"
        );
        assert!(set["held"]["written_ms"].as_i64().unwrap() > 1_700_000_000_000);
        let statements = found["statements"].as_array().unwrap();
        assert_eq!(statements.len(), 3);
        for statement in statements {
            let sql = statement["sql"].as_str().unwrap();
            // One key, or one tuple: it can be run with a value for its placeholder.
            let sql = sql.replace("?1", "1").replace("$1", "1");
            (shop.execute)(&format!("create table probe as {sql}; drop table probe"));
        }
        let said = words(&shop, &["explain", "doc", "product", "1"]);
        for part in ["product: ", "seller: ", "select ", "in step", "under ticket"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(
            !said.contains("of value") && !found.to_string().contains("of value"),
            "{said}"
        );
        let with_values = words(&shop, &["explain", "doc", "product", "1", "--values"]);
        assert!(with_values.contains("bicycle of value") && with_values.contains("Ann of value"));
        let with_values = shop.product.json(&["explain", "doc", "product", "1", "--values"]);
        assert_eq!(
            (
                &with_values["built"]["source"],
                &with_values["rows"][0]["columns"]["name"]
            ),
            (
                &with_values["sets"][0]["held"]["source"],
                &json!("bicycle of value")
            )
        );

        // Refused, and gone.
        let refused = explain("2");
        assert_eq!(
            (
                &refused["built"]["becomes"],
                &refused["sets"][0]["state"],
                codes(&refused)
            ),
            (
                &json!("refused"),
                &json!("absent"),
                vec!["refused", "dead_letter"]
            ),
            "{refused}"
        );
        assert!(!refused.to_string().contains("beyond words"));
        let gone = explain("99");
        assert_eq!(
            (&gone["built"]["becomes"], &gone["sets"][0]["state"], codes(&gone)),
            (&json!("nothing"), &json!("absent"), vec!["row_gone"]),
            "{gone}"
        );

        // Behind, because nobody follows.
        assert_eq!(served.stop(), Some(0));
        (shop.execute)("update product set name = 'another lamp' where id = 4");
        (shop.execute)("delete from review; delete from product where id = 1");
        let behind = explain("4");
        assert_eq!(
            (&behind["sets"][0]["state"], codes(&behind)),
            (&json!("differs"), vec!["not_running"]),
            "{behind}"
        );
        let left = explain("1");
        assert_eq!(
            (&left["sets"][0]["state"], codes(&left)),
            (&json!("left_over"), vec!["row_gone", "not_running"]),
            "{left}"
        );
        let served = shop.product.serve();
        eventually("to be in step again", PATIENCE, || {
            explain("4")["sets"][0]["state"] == json!("in_step")
                && explain("1")["sets"][0]["state"] == json!("absent")
        });
        drop(served);
        for wrong in [
            &["doc", "nothing", "1"][..],
            &["doc", "product", ""],
            &["doc", "product", "1", "--set", "x"],
        ] {
            shop.product.refused(&[&["explain"], wrong].concat(), 2);
        }
    }
}

#[test]
fn a_change_is_explained_by_the_ways_it_leads_up() {
    for shop in Shop::each("why_change", SCHEMA, COLLECTIONS) {
        (shop.execute)(
            "with recursive n (i) as (select 1000 union all select i + 1 from n where i < 2499)
             insert into product select i, 'many', 2 from n;
             insert into seller values (3, 'nobody', null);",
        );
        let explain = |table: &str, key: &str| shop.product.json(&["explain", "change", table, key]);
        (shop.execute)("update seller set rank = '8' where id = 2");
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || {
            document(&served, "2") != Value::Null
        });
        let ways = |found: &Value| -> Vec<(Vec<String>, u64, u64, Vec<String>)> {
            let texts = |list: &Value| -> Vec<String> {
                let list = list.as_array().unwrap().iter();
                list.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let touches = found["touches"].as_array().unwrap().iter();
            touches
                .map(|way| {
                    let number = |name: &str| way[name].as_u64().unwrap();
                    (
                        texts(&way["path"]),
                        number("count"),
                        number("fan_outs"),
                        texts(&way["documents"]),
                    )
                })
                .collect()
        };
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            ways(&explain("seller", "1")),
            [
                (path(&["product", "seller"]), 2, 0, path(&["1", "3"])),
                (path(&["seller"]), 1, 0, path(&["1"]))
            ]
        );
        assert_eq!(
            ways(&explain("review", "11")),
            [(path(&["product", "review"]), 1, 0, path(&["1"]))]
        );
        assert_eq!(
            ways(&explain("product", "4")),
            [(path(&["product"]), 1, 0, path(&["4"]))]
        );
        let many = ways(&explain("seller", "2"));
        assert_eq!(
            (many[0].1, many[0].2, many[0].3.len()),
            (1_501, 1, 20),
            "{many:?}"
        );
        assert_eq!(ways(&explain("seller", "3"))[0].1, 0);
        let gone = explain("review", "99");
        assert_eq!(
            (&gone["touches"][0]["row_is_there"], &gone["touches"][0]["count"]),
            (&json!(false), &json!(0))
        );
        assert_eq!(explain("stranger", "1")["touches"], json!([]));
        let said = words(&shop, &["explain", "change", "seller", "2"]);
        for part in ["product -> seller", "1501 documents of product", "fan-out", "…"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        for wrong in [
            &["nothing", "1"][..],
            &["review", "1,2"],
            &["review", "1", "--source", "x"],
        ] {
            shop.product.refused(&[&["explain", "change"], wrong].concat(), 2);
        }
        // Where former parents are known by a record, what was built from the row is named by it.
        if explain("review", "11")["table"] == json!("public.review") {
            assert_eq!(
                explain("review", "11")["recorded"],
                json!([{ "collection": "product", "key": "1" }])
            );
            assert_eq!(explain("public.review", "11")["touches"][0]["count"], json!(1));
            let shown = shop.product.json(&["explain", "doc", "product", "1"]);
            assert_eq!(shown["rows"][0]["table"], json!("public.product"));
        }
        drop(served);
    }
}

#[test]
fn a_trace_tells_what_happened_to_one_document() {
    for shop in Shop::each("why_trace", SCHEMA, COLLECTIONS) {
        let trace = |key: &str| -> Vec<(String, String)> {
            let found = shop.product.json(&["trace", "product", key]);
            let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let events = found["events"].as_array().unwrap().iter();
            events
                .map(|event| (text(event, "event"), text(event, "outcome")))
                .collect()
        };
        let said = |event: &str, outcome: &str| (event.to_owned(), outcome.to_owned());
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || {
            document(&served, "4") != Value::Null
        });
        eventually("the dead letter", PATIENCE, || {
            trace("2") == [said("built", "dead")]
        });
        assert_eq!(trace("1"), []);
        (shop.execute)("update product set name = 'first' where id = 1");
        eventually("a change", PATIENCE, || {
            document(&served, "1")["name"] == json!("first")
        });
        (shop.execute)("update seller set name = 'second' where id = 1");
        let twice = [
            said("touched", ""),
            said("built", "indexed"),
            said("touched", ""),
            said("built", "indexed"),
        ];
        eventually("two builds", PATIENCE, || trace("1") == twice);
        (shop.execute)("delete from review where product_id = 1");
        (shop.execute)("delete from product where id = 1");
        eventually("the end", PATIENCE, || {
            trace("1").last() == Some(&said("built", "deleted"))
        });
        // Numbers, tickets and times; and it outlives the process.
        let found = shop.product.json(&["trace", "product", "1", "--limit", "1"]);
        let event = &found["events"][0];
        assert_eq!(
            (&event["set"], found["events"].as_array().unwrap().len()),
            (&json!("main"), 1),
            "{found}"
        );
        for number in ["at_ms", "drawn_ms", "ticket", "number"] {
            assert!(event[number].as_i64().unwrap() > 0, "{number} in {event}");
        }
        shop.product
            .json(&["dead", "discard", "product", "2", "--because", "for the test"]);
        assert_eq!(trace("2"), [said("built", "dead"), said("discarded", "")]);
        let text = words(&shop, &["trace", "product", "1"]);
        for part in [
            "touched by a change of source main",
            "indexed",
            "deleted",
            "ticket",
            "the journal goes back to",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("of value") && !text.contains("second"), "{text}");
        assert!(words(&shop, &["trace", "product", "77"]).contains("nothing is on record of product/77"));
        shop.product.refused(&["trace", "nothing", "1"], 2);
    }
}
