//! Dead letters from the outside, on SQLite and on Postgres alike: one bad row holds nobody up, a touch of any row it was
//! built from tries it again, and `instep dead` lists, retries and discards it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::both::Both as Shop;
use crate::support::product::{Server, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

/// A product with a seller and reviews; numbers are kept as text, so that a row can be wrong.
const SCHEMA: &str = "
    create table seller (id integer primary key, name text, rank text);
    create table product (id integer primary key, name text not null, seller_id integer references seller (id));
    create table review (id integer primary key, product_id integer not null references product (id), stars text);
    create index review_product on review (product_id);
    create index product_seller on product (seller_id);
    insert into seller values (1, 'Ann', '7'), (2, 'Bo', 'a rank beyond words');
    insert into product values (1, 'bicycle', 1), (2, 'chair', 2), (3, 'table', 1), (4, 'lamp', null);
    insert into review values (11, 1, '5'), (31, 3, '4'), (32, 3, 'stars beyond words');";

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
"#;

impl Shop {
    fn letters(&self) -> Vec<String> {
        let answer = self.product.json(&["dead", "list"]);
        let letters = answer["dead_letters"].as_array().unwrap();
        letters
            .iter()
            .map(|letter| letter["key"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn letters_become(&self, expected: &[&str]) {
        eventually(&format!("dead letters to be {expected:?}"), PATIENCE, || {
            self.letters() == expected
        });
    }
}

/// A document's source, or null.
pub fn document(served: &Server, id: &str) -> Value {
    served
        .send("GET", &format!("/product/_doc/{id}"), None, None)
        .json()["_source"]
        .clone()
}

#[track_caller]
fn conserved(served: &Server) {
    let status = served.status(None);
    assert_eq!(status["sets"][0]["conserved"], json!(true), "{status}");
}

#[test]
fn a_dead_letter_is_tried_again_when_the_row_of_a_to_one_join_is_touched() {
    for shop in Shop::each("dead_to_one", SCHEMA, COLLECTIONS) {
        let served = shop.product.serve();
        shop.letters_become(&["2", "3"]);
        assert_eq!(document(&served, "2"), Value::Null);
        // Touched, and still wrong.
        (shop.execute)("update seller set rank = 'another rank beyond words' where id = 2");
        eventually("another attempt", PATIENCE, || {
            let found = shop.product.json(&["dead", "show", "product", "2"]);
            found["dead_letters"][0]["attempts"] == json!(2)
        });
        (shop.execute)("update seller set rank = '9' where id = 2");
        shop.letters_become(&["3"]);
        eventually("the document", PATIENCE, || {
            document(&served, "2")
                == json!({ "name": "chair", "seller": { "name": "Bo", "rank": 9 }, "reviews": [] })
        });
        conserved(&served);
    }
}

#[test]
fn a_dead_letter_is_tried_again_when_a_row_of_a_to_many_join_is_touched() {
    for shop in Shop::each("dead_to_many", SCHEMA, COLLECTIONS) {
        let served = shop.product.serve();
        shop.letters_become(&["2", "3"]);
        (shop.execute)("update review set stars = '1' where id = 32");
        shop.letters_become(&["2"]);
        let stars = || document(&served, "3")["reviews"].as_array().map(Vec::len);
        eventually("the document", PATIENCE, || stars() == Some(2));
        // A row that vanishes, and one that moves to another parent.
        (shop.execute)("update review set stars = 'wrong again' where id = 32");
        shop.letters_become(&["2", "3"]);
        (shop.execute)("delete from review where id = 32");
        shop.letters_become(&["2"]);
        eventually("the document", PATIENCE, || stars() == Some(1));
        (shop.execute)("insert into review values (33, 3, 'wrong a third time')");
        shop.letters_become(&["2", "3"]);
        (shop.execute)("update review set product_id = 1 where id = 33");
        shop.letters_become(&["1", "2"]);
        eventually("the document", PATIENCE, || stars() == Some(1));
        conserved(&served);
        assert_eq!(served.stop(), Some(0));
    }
}

#[test]
fn one_bad_row_holds_no_other_up() {
    for shop in Shop::each("dead_neighbours", SCHEMA, COLLECTIONS) {
        let served = shop.product.serve();
        shop.letters_become(&["2", "3"]);
        for round in 0..20 {
            (shop.execute)(&format!(
                "update seller set rank = 'wrong {round}' where id = 2; update product set name = 'lamp {round}' where id = 4"
            ));
            let expected = json!(format!("lamp {round}"));
            eventually("a neighbour", PATIENCE, || {
                document(&served, "4")["name"] == expected
            });
        }
        assert_eq!(shop.letters(), ["2", "3"]);
        eventually("no lag", PATIENCE, || {
            served.status(None)["sets"][0]["lag"] == json!(0)
        });
        conserved(&served);
    }
}

#[test]
fn dead_letters_are_listed_retried_and_discarded() {
    for shop in Shop::each("dead_commands", SCHEMA, COLLECTIONS) {
        let product = &shop.product;
        let served = product.serve();
        shop.letters_become(&["2", "3"]);
        let listed = product.json(&["dead", "list"]);
        let letter = &listed["dead_letters"][0];
        assert_eq!(
            (&letter["collection"], &letter["set"], &letter["attempts"]),
            (&json!("product"), &json!("main"), &json!(1)),
            "{listed}"
        );
        let code = letter["code"].as_str().unwrap();
        assert!(
            letter["since_ms"].as_i64().unwrap() > 1_700_000_000_000,
            "{listed}"
        );
        assert!(letter["reason"].as_str().unwrap().contains("rank"), "{listed}");
        // By each condition.
        for (conditions, expected) in [
            (&["--reason", code][..], 2),
            (&["--reason", "another"], 0),
            (&["--collection", "product"], 2),
            (&["--older-than", "0s"], 2),
            (&["--older-than", "7d"], 0),
            (&["--set", "main"], 2),
            (&["--limit", "1"], 2),
            (&["product", "3"], 1),
            (&["product", "1"], 0),
        ] {
            let found = product.json(&[&["dead", "list"], conditions].concat());
            assert_eq!(found["total"], json!(expected), "{conditions:?}: {found}");
        }
        for (wrong, code) in [
            (&["list", "--collection", "nothing"][..], 2),
            (&["list", "--set", "nothing"], 2),
            (&["list", "--older-than", "soon"], 2),
            (&["list", "product"], 2),
            (&["retry"], 2),
            (&["discard", "--because", "x"], 2),
            (&["discard", "product", "2"], 2),
            (&["retry", "product", "1"], 1),
            (&["discard", "product", "1", "--because", "x"], 1),
            (&["show", "product", "1"], 1),
        ] {
            product.refused(&[&["dead"], wrong].concat(), code);
        }
        let status = served.status(None);
        assert_eq!(
            (
                &status["sets"][0]["dead_reasons"][0]["code"],
                &status["sets"][0]["dead_reasons"][0]["count"]
            ),
            (&json!(code), &json!(2)),
            "{status}"
        );
        let words = |arguments: &[&str]| {
            let output = product.run(arguments);
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
        };
        assert!(words(&["status"]).contains(&format!("dead letters in set main: 2 {code}")));
        let shown = words(&["dead", "show"]);
        for part in [
            "product/2 in set main",
            code,
            "attempts: 1",
            "next: ",
            "instep dead retry product 2",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }

        // Beside the server, and without one.
        assert_eq!(
            product.json(&["dead", "retry", "product", "2"])["running"],
            json!(true)
        );
        eventually("a second attempt", PATIENCE, || {
            product.json(&["dead", "show", "product", "2"])["dead_letters"][0]["attempts"] == json!(2)
        });
        assert_eq!(served.stop(), Some(0));
        let retried = product.json(&["dead", "retry", "--reason", code]);
        assert_eq!(
            (&retried["retried"], &retried["running"]),
            (&json!(2), &json!(false)),
            "{retried}"
        );
        assert_eq!(product.run(&["sync", "--once"]).status.code(), Some(1));
        let tried = product.json(&["dead", "show", "product", "2"]);
        assert_eq!(tried["dead_letters"][0]["attempts"], json!(3), "{tried}");

        // Discarded ones are gone from the list, counted once, and tried again by the next touch.
        let output = product.run(&[
            "dead",
            "discard",
            "product",
            "2",
            "--because",
            "the seller is closed",
        ]);
        let noise = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success()
                && noise.contains("a dead letter was discarded")
                && noise.contains("the seller is closed")
                && noise.contains("product/2"),
            "{noise}"
        );
        assert_eq!(shop.letters(), ["3"]);
        let status = product.json(&["status"]);
        let set = &status["sets"][0];
        assert_eq!(
            (&set["conserved"], &set["counts"]["dead_letters"]),
            (&json!(true), &json!(1)),
            "{status}"
        );
        let served = product.serve();
        (shop.execute)("update seller set rank = '3' where id = 2");
        eventually("the document", PATIENCE, || {
            document(&served, "2")["seller"]["rank"] == json!(3)
        });
        conserved(&served);
        assert_eq!(
            product.json(&["dead", "discard", "--all", "--because", "enough"])["discarded"],
            json!(1)
        );
        assert_eq!(shop.letters(), Vec::<String>::new());
        conserved(&served);
        let shown = words(&["dead", "list"]) + &words(&["dead", "show"]);
        assert!(shown.contains("there are no dead letters"), "{shown}");
        // No value of a row was ever said.
        for arguments in [&["dead", "list"][..], &["dead", "show"], &["status"]] {
            assert!(!words(arguments).contains("beyond words"), "{arguments:?}");
        }
    }
}
