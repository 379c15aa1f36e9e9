//! Documents beyond the limits, on SQLite and Postgres alike: each is a dead letter that says which limit, and nothing
//! happens to its neighbours. And documents that change all the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::both::Both;
use crate::support::product::{Server, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

const SCHEMA: &str = "
    create table paper (id integer primary key, title varchar(40), body text, extra text);
    create table word (id integer primary key, paper_id integer not null references paper (id), word varchar(10));
    create index word_paper on word (paper_id);
    insert into paper (id, title) values (1, 'small'), (2, 'too many rows'), (3, 'as many rows as may be'), (4, 'too large'),
        (5, 'far too large'), (6, 'too many values'), (7, 'as many values as may be'), (8, 'too deep'), (9, 'deep'), (10, 'small');
    insert into word values (1, 1, 'first'), (2, 10, 'last');
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 100001)
        insert into word select 1000000 + i, 2, 'w' from n;
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000)
        insert into word select 2000000 + i, 3, 'w' from n;";

const CONFIGURATION: &str = r#"
[collection.paper]
root   = "paper"
public = true
fields.title = "keyword"
fields.body  = "text"
fields.extra = "flattened"
fields.words = { table = "word", many = true, values = "word" }
"#;

/// A JSON object with so many members.
fn wide(members: usize) -> String {
    let members: Vec<String> = (0..members).map(|at| format!("\"m{at}\":{at}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON object of so many levels.
fn deep(levels: usize) -> String {
    format!("{}1{}", "{\"d\":".repeat(levels), "}".repeat(levels))
}

fn source(served: &Server, id: u32) -> Option<Value> {
    let answer = served.send("GET", &format!("/paper/_doc/{id}"), None, None);
    (answer.status == 200).then(|| answer.json()["_source"].clone())
}

fn reasons(shop: &Both) -> BTreeMap<String, String> {
    let listed = shop.product.json(&["dead", "list"]);
    let letters = listed["dead_letters"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    letters
        .iter()
        .map(|letter| (text(&letter["key"]), letter.to_string()))
        .collect()
}

#[test]
fn what_is_beyond_a_limit_is_a_dead_letter_that_says_which() {
    for shop in Both::each("sizes", SCHEMA, CONFIGURATION) {
        let text = |megabytes: usize| match shop.source.contains("sqlite:") {
            true => format!("replace(hex(zeroblob({})), '00', 'x ')", megabytes * 500_000),
            false => format!("repeat('x ', {})", megabytes * 500_000),
        };
        for (id, set) in [
            (4, format!("body = {}", text(50))),
            (5, format!("body = {}", text(70))),
            (6, format!("extra = '{}'", wide(10_001))),
            (7, format!("extra = '{}'", wide(10_000))),
            (8, format!("extra = '{}'", deep(101))),
            (9, format!("extra = '{}'", deep(30))),
        ] {
            (shop.execute)(&format!("update paper set {set} where id = {id}"));
        }
        let served = shop.product.serve();
        let indexed = [1, 3, 7, 9, 10];
        eventually("the neighbours", PATIENCE, || {
            indexed.iter().all(|id| source(&served, *id).is_some())
        });
        let expected = [
            ("2", "field `words`: more than 100000 rows are joined"),
            ("4", "the document is larger than 32 MiB"),
            ("5", "hold more than 64 MiB"),
            ("6", "it holds more than 10000 values"),
            ("8", "it nests deeper than 100 levels"),
        ];
        eventually("five dead letters", PATIENCE, || {
            reasons(&shop).len() == expected.len()
        });
        let reasons = reasons(&shop);
        for (id, said) in expected {
            assert!(reasons[id].contains(said), "{id}: {}", reasons[id]);
        }
        let rows = source(&served, 3).unwrap()["words"].as_array().unwrap().len();
        assert_eq!(rows, 100_000);
        assert_eq!(source(&served, 9).unwrap()["extra"].to_string(), deep(30));
        // Each mends by a change of what was too much.
        (shop.execute)(
            "delete from word where id = 1000001; update paper set body = 'x', extra = null where id in (4, 5, 6, 8)",
        );
        eventually("all of them", PATIENCE, || {
            (1..=10).all(|id| source(&served, id).is_some())
        });
        shop.verified("all are small enough");
        assert_eq!(served.stop(), Some(0));
    }
}

#[test]
fn a_collection_beyond_a_limit_is_refused_by_name() {
    let shop = Both::sqlite(SCHEMA, CONFIGURATION);
    let fields: String = (0..1_001)
        .map(|at| format!("fields.f{at} = {{ from = \"title\", type = \"keyword\" }}\n"))
        .collect();
    shop.configure(&format!(
        "[collection.paper]\nroot = \"paper\"\npublic = true\n{fields}"
    ));
    let told = shop.product.refused(&["serve"], 2);
    assert!(
        told.contains("collection `paper` has 1001 fields; at most 1000"),
        "{told}"
    );

    let joins: String = (1..=21)
        .map(|level| {
            let name = vec!["p"; level].join(".");
            let above = if level == 1 { "paper".to_owned() } else { format!("p{}", level - 1) };
            format!("\"{name}\" = {{ table = \"paper\", as = \"p{level}\", on = \"{above}.id = p{level}.id\", fields = [\"title\"] }}\n")
        })
        .collect();
    shop.configure(&format!(
        "[collection.paper]\nroot = \"paper\"\npublic = true\n[collection.paper.fields]\n{joins}"
    ));
    let told = shop.product.refused(&["serve"], 2);
    assert!(told.contains("objects of 22 levels; at most 20"), "{told}");
}

/// Changed as fast as can be for three seconds (more than 1,000 times a second, on a machine that does nothing else): built at most once in each debounce, plus the first and the last.
#[test]
fn a_document_that_changes_all_the_time_is_built_once_per_debounce() {
    let often = CONFIGURATION.replace("public = true", "public = true\ndebounce_ms = 250");
    for shop in Both::each(
        "debounce",
        &SCHEMA[..SCHEMA.find("with recursive").unwrap()],
        &often,
    ) {
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || source(&served, 10).is_some());
        let counts = || served.status(None)["sets"][0]["counts"].clone();
        let built = |counts: &Value| counts["indexed"].as_u64().unwrap();
        eventually("rest", PATIENCE, || served.status(None)["sets"][0]["lag"] == 0);
        let before = counts();
        let began = Instant::now();
        let mut changes = 0_u64;
        while began.elapsed() < Duration::from_secs(3) {
            // Each a transaction of its own.
            let some =
                (0..100).map(|at| format!("update paper set title = 't{}' where id = 1;", changes + at));
            (shop.execute)(&some.collect::<String>());
            changes += 100;
        }
        let took = began.elapsed();
        let last = json!(format!("t{}", changes - 1));
        eventually("the last change", PATIENCE, || {
            source(&served, 1).unwrap()["title"] == last
        });
        eventually("rest", PATIENCE, || served.status(None)["sets"][0]["lag"] == 0);
        let after = counts();
        let builds = built(&after) - built(&before);
        let most = u64::try_from(took.as_millis() / 250).unwrap() + 2;
        assert!(
            builds <= most,
            "{changes} changes in {took:?} were built {builds} times, at most {most}"
        );
        assert!(
            builds >= 5 && changes > 10 * builds,
            "{changes} changes, {builds} builds"
        );
        // A document at rest is built at once: nothing of the debounce is felt.
        let began = Instant::now();
        (shop.execute)("update paper set title = 'at rest' where id = 10");
        eventually("a single change", PATIENCE, || {
            source(&served, 10).unwrap()["title"] == "at rest"
        });
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(served.stop(), Some(0));
    }
}
