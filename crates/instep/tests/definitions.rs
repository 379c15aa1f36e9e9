//! Edited definitions, on SQLite and Postgres alike: what adds is applied while search goes on, what contradicts is refused
//! before anything is written, the way back works, and `plan` says all of it first.

use std::time::Duration;

use serde_json::{Value, json};

use crate::both::Both;
use crate::support::product::{Server, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    create table car (id integer primary key, name varchar(40), price integer, colour varchar(20), sold boolean not null);
    create table tag (id integer primary key, car_id integer not null references car (id), word varchar(20));
    create index tag_car on tag (car_id);
    insert into car values (1, 'Amazon', 100, 'red', false), (2, 'Beetle', 200, 'blue', false), (3, 'Corsa', 300, 'red', true);
    insert into tag values (1, 1, 'old'), (2, 1, 'rare');";

const FIRST: &str = r#"
[set.main]
active = true

[collection.car]
root   = "car"
public = true
fields.name  = "text"
fields.price = "long"
"#;

const MORE: &str = r#"
[set.main]
active = true

[collection.car]
root   = "car"
where  = "not sold"
public = true
fields.name   = "text"
fields.price  = "long"
fields.colour = "keyword"
fields.tags   = { table = "tag", many = true, fields = ["word"] }
"#;

fn source(served: &Server, id: u32) -> Value {
    let answer = served.send("GET", &format!("/car/_doc/{id}"), None, None);
    answer.json()["_source"].clone()
}

fn count(served: &Server, query: Value) -> u64 {
    let body = json!({ "query": query });
    let answer = served.send("POST", "/car/_count", None, Some(&body)).json();
    // Nothing is there before the first load.
    answer["count"].as_u64().unwrap_or(0)
}

fn planned(shop: &Both) -> Value {
    let output = shop.product.run(&["plan", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let plan: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error} in {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.success(), plan["refused"] == json!(false), "{plan}");
    plan["plan"][0].clone()
}

#[test]
fn what_adds_is_applied_and_taken_back_while_search_goes_on() {
    for shop in Both::each("definitions_added", SCHEMA, FIRST) {
        assert_eq!(planned(&shop)["effect"], "new");
        let first = json!({ "name": "Corsa", "price": 300 });
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || source(&served, 3) == first);
        assert_eq!(served.stop(), Some(0));
        assert_eq!(planned(&shop)["effect"], "unchanged");

        for _ in 0..2 {
            shop.configure(MORE);
            let plan = planned(&shop);
            assert_eq!(
                (&plan["effect"], &plan["documents"]),
                (&json!("rebuilt"), &json!(3)),
                "{plan}"
            );
            let changes = plan["changes"].to_string();
            for change in [
                "field `colour`: new",
                "field `tags`: new",
                "join `tag`: new",
                "where: changed",
            ] {
                assert!(changes.contains(change), "{plan}");
            }
            let served = shop.product.serve();
            // From the first answer on: what was indexed is found.
            assert!(count(&served, json!({ "match": { "name": "amazon beetle" } })) == 2);
            let amazon = json!({ "name": "Amazon", "price": 100, "colour": "red", "tags": [{ "word": "old" }, { "word": "rare" }] });
            eventually("the new fields", PATIENCE, || source(&served, 1) == amazon);
            eventually("what is sold to vanish", PATIENCE, || {
                source(&served, 3) == Value::Null
            });
            assert_eq!(count(&served, json!({ "term": { "colour": "red" } })), 1);
            assert_eq!(count(&served, json!({ "term": { "tags.word": "rare" } })), 1);
            shop.verified("what was added");
            assert_eq!(served.stop(), Some(0));

            shop.configure(FIRST);
            assert_eq!(planned(&shop)["effect"], "rebuilt");
            let served = shop.product.serve();
            assert!(count(&served, json!({ "match": { "name": "amazon beetle" } })) == 2);
            eventually("what was sold", PATIENCE, || source(&served, 3) == first);
            eventually("the former fields", PATIENCE, || {
                source(&served, 1) == json!({ "name": "Amazon", "price": 100 })
            });
            shop.verified("the way back");
            assert_eq!(served.stop(), Some(0));
        }
    }
}

#[test]
fn what_contradicts_is_refused_before_anything_is_written() {
    for shop in Both::each("definitions_refused", SCHEMA, FIRST) {
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || {
            count(&served, json!({ "match_all": {} })) == 3
        });
        assert_eq!(served.stop(), Some(0));
        let contradictions = [
            (
                "fields.price = \"long\"",
                "fields.price = \"keyword\"",
                "field `price` is keyword, and was long",
            ),
            (
                "fields.name  = \"text\"",
                "fields.name = { type = \"text\", analyzer = \"english\" }",
                "field `name` is text (english), and was text (standard)",
            ),
            (
                "root   = \"car\"",
                "root = \"tag\"\nfields.word = \"text\"",
                "its root is",
            ),
        ];
        for (was, is, said) in contradictions {
            let mut edited = FIRST.replace(was, is);
            if is.contains("tag") {
                edited = edited.replace("fields.name  = \"text\"\nfields.price = \"long\"", "");
            }
            shop.configure(&edited);
            let plan = planned(&shop);
            assert_eq!(plan["effect"], "refused", "{plan}");
            assert!(plan["contradictions"].to_string().contains(said), "{plan}");
            for command in [&["serve"][..], &["sync", "--once"]] {
                let told = shop.product.refused(command, 2);
                assert!(
                    told.contains(said) && told.contains("plan --remake car --set main"),
                    "{told}"
                );
            }
        }
        // Who read it before must not read it until it is built again.
        let guarded = FIRST.replace("public = true", "readers = \"name = $subject\"");
        shop.configure(&guarded);
        assert_eq!(planned(&shop)["effect"], "refused");
        // Nothing was touched, and what was asked for can be taken back.
        shop.product.json(&["plan", "--remake", "car"]);
        assert_eq!(planned(&shop)["effect"], "remade");
        shop.product.run(&["plan", "--keep", "car"]);
        assert_eq!(planned(&shop)["effect"], "refused");
        shop.configure(FIRST);
        assert_eq!(planned(&shop)["effect"], "unchanged");
        shop.verified("refusals");

        // A person says that the index may be emptied.
        shop.configure(&FIRST.replace("fields.price = \"long\"", "fields.price = \"keyword\""));
        shop.product.json(&["plan", "--remake", "car"]);
        assert_eq!(planned(&shop)["effect"], "remade");
        let served = shop.product.serve();
        eventually("the other type", PATIENCE, || {
            source(&served, 2)["price"] == "200"
        });
        eventually("all documents", PATIENCE, || {
            count(&served, json!({ "exists": { "field": "price" } })) == 3
        });
        shop.verified("the index made again");
        assert_eq!(served.stop(), Some(0));
        assert_eq!(planned(&shop)["effect"], "unchanged");
    }
}

/// Joins of fields come and go beside joined readers; who is named by them must not change.
#[test]
fn readers_are_compared_by_what_they_say() {
    let first = FIRST.replace(
        "public = true",
        "readers = { table = \"tag\", values = \"word\" }",
    );
    for shop in Both::each("definitions_readers", SCHEMA, &first) {
        assert_eq!(shop.product.json(&["sync", "--once"])["complete"], true);
        shop.configure(&format!(
            "{first}fields.tags = {{ table = \"tag\", many = true, fields = [\"id\"] }}\n"
        ));
        assert_eq!(planned(&shop)["effect"], "rebuilt");
        for narrower in ["values = \"word\", where = \"word <> 'old'\"", "values = \"id\""] {
            shop.configure(&first.replace("values = \"word\"", narrower));
            assert_eq!(planned(&shop)["effect"], "refused", "{narrower}");
        }
        // Leave to remake is for one definition: another edit takes it back.
        shop.product.json(&["plan", "--remake", "car"]);
        assert_eq!(planned(&shop)["effect"], "remade");
        shop.configure(&first);
        assert_eq!(shop.product.json(&["sync", "--once"])["complete"], true);
        shop.configure(&first.replace("values = \"word\"", "values = \"id\""));
        assert_eq!(planned(&shop)["effect"], "refused");
    }
}
