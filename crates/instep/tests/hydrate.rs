//! Rows beside hits from the outside, on SQLite and on Postgres alike.

use std::time::Duration;

use serde_json::{Value, json};

use crate::both::Both as Shop;
use crate::support::product::{Server, eventually};

const PATIENCE: Duration = Duration::from_secs(30);
const STAFF: &str = "staff-0123456789abcdef";
const EVA: &str = "eva-0123456789abcdef01";

const SCHEMA: &str = "
    create table seller (id integer primary key, name text, secret text);
    create table product (id integer primary key, name text not null, acl text, secret text, seller_id integer references seller (id));
    create table review (id integer primary key, product_id integer not null references product (id), stars integer,
                         secret text);
    create index review_product on review (product_id);
    create index product_seller on product (seller_id);
    insert into seller values (1, 'Ann', 'not shown'), (2, 'Bo', 'not shown');
    insert into product values (1, 'bicycle', '[\"staff\", \"eva\"]', 'not shown', 1), (2, 'chair', '[\"staff\"]', 'not shown', 2),
                               (3, 'lamp', '[\"staff\", \"eva\"]', 'not shown', null);
    insert into review values (11, 1, 3, 'not shown'), (12, 1, 5, 'not shown'), (21, 2, 1, 'not shown');";

const COLLECTIONS: &str = r#"
[collection.product]
root    = "product"
readers = "acl"

[collection.product.fields]
name    = "keyword"
seller  = { table = "seller", fields = ["name"] }
reviews = { table = "review", many = true, order = "stars desc", fields = ["stars"] }

[key.staff]
secret  = "staff-0123456789abcdef"
subject = "staff"
scopes  = ["search"]

[key.eva]
secret  = "eva-0123456789abcdef01"
subject = "eva"
scopes  = ["search"]
"#;

fn rows(served: &Server, how: &str, key: &str) -> Vec<(String, Value)> {
    let body = json!({ "sort": [{ "name": "desc" }] });
    let path = format!("/product/_search?hydrate={how}");
    let answer = served.send("POST", &path, Some(key), Some(&body));
    assert!(!answer.body.contains("not shown"), "{}", answer.body);
    let found = answer.json();
    let hits = found["hits"]["hits"].as_array().into_iter().flatten();
    hits.map(|hit| (hit["_id"].as_str().unwrap().to_owned(), hit["_row"].clone()))
        .collect()
}

#[test]
fn rows_come_with_what_is_joined_to_them_in_the_order_of_hits() {
    for shop in Shop::each("hydrate_joins", SCHEMA, COLLECTIONS) {
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || {
            rows(&served, "true", STAFF).len() == 3
        });
        let bicycle = json!({ "id": 1, "name": "bicycle",
            "_joins": { "seller": { "name": "Ann" }, "review": [{ "stars": 5 }, { "stars": 3 }] } });
        let chair = json!({ "id": 2, "name": "chair",
            "_joins": { "seller": { "name": "Bo" }, "review": [{ "stars": 1 }] } });
        let lamp = json!({ "id": 3, "name": "lamp", "_joins": { "seller": null, "review": [] } });
        let named = |id: &str, row: &Value| (id.to_owned(), row.clone());
        assert_eq!(
            rows(&served, "joins", STAFF),
            [named("3", &lamp), named("2", &chair), named("1", &bicycle)]
        );
        assert_eq!(
            rows(&served, "joins", EVA),
            [named("3", &lamp), named("1", &bicycle)]
        );
        let plain = json!({ "id": 1, "name": "bicycle" });
        assert_eq!(rows(&served, "true", EVA)[1], named("1", &plain));
        let one = served
            .send("GET", "/product/_doc/1?hydrate=joins", Some(EVA), None)
            .json();
        assert_eq!(one["_row"], bicycle);
        let wrong = served.send("GET", "/product/_doc/1?hydrate=deep", Some(EVA), None);
        assert_eq!(wrong.status, 400, "{}", wrong.body);
        assert!(wrong.body.contains("hydrate"), "{}", wrong.body);

        // The index is behind: the rows are not, and whom they no longer admit does not see them.
        shop.product.json(&["pause", "product"]);
        std::thread::park_timeout(Duration::from_millis(1_500));
        (shop.execute)(
            "delete from product where id = 3; update product set acl = '[\"staff\"]' where id = 1;
             update review set stars = 2 where id = 12",
        );
        let bicycle = json!({ "id": 1, "name": "bicycle",
            "_joins": { "seller": { "name": "Ann" }, "review": [{ "stars": 3 }, { "stars": 2 }] } });
        assert_eq!(
            rows(&served, "joins", STAFF),
            [named("3", &Value::Null), named("2", &chair), named("1", &bicycle)]
        );
        assert_eq!(
            rows(&served, "joins", EVA),
            [named("3", &Value::Null), named("1", &Value::Null)]
        );
    }
}
