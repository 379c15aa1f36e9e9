//! What the README promises, done word for word.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use instep_conformance::postgres;
use instep_core::Engine;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::shop;

const README: &str = include_str!("../../../README.md");

/// The fenced blocks of a language below a heading.
fn blocks(heading: &str, language: &str) -> Vec<&'static str> {
    let (_, section) = README
        .split_once(heading)
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    section
        .split(&fence)
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// A command as a shell runs it, with the binary on the path.
fn shell(folder: &Path, line: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_instep")).parent().unwrap();
    #[allow(clippy::disallowed_methods, reason = "a shell needs the path it always has")]
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", binary.display()));
    command.stdin(Stdio::null()).env_remove("INSTEP_CONFIG");
    command
}

/// A shop, in SQL that every database speaks: products that have a title and tags.
const SHOP: &str = "
    create table product (id integer primary key, title text not null, price decimal(10,2));
    create table tags (id integer primary key, name text not null);
    create table product_tags (product_id integer references product (id), tag_id integer references tags (id),
                               primary key (product_id, tag_id));
    insert into product values (1, 'A folding bicycle', 10), (2, 'A bicycle', 20), (3, 'A chair', 30);
    insert into tags values (1, 'city'), (2, 'small');
    insert into product_tags values (1, 1), (1, 2), (2, 1), (3, 2);";

#[test]
fn your_own_database_in_five_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let database = Connection::open(folder.path().join("shop.db")).unwrap();
    five_minutes(folder.path(), "sqlite:shop.db", &|script| {
        database.execute_batch(script).unwrap();
    });
}

#[test]
fn your_own_postgres_in_five_minutes() {
    if postgres::or_skip("the first five minutes with Postgres").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = postgres::Server::shared().database("five_minutes");
    five_minutes(folder.path(), &database.url(), &|script| database.execute(script));
}

/// What the README says to do, with the database at this address. `execute` runs statements in it.
fn five_minutes(folder: &Path, url: &str, execute: &dyn Fn(&str)) {
    let [commands, search] = blocks("## Your own database in five minutes", "sh")[..] else {
        panic!("two blocks")
    };
    let lines: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("instep "))
        .collect();
    let [init, check, serve] = lines[..] else {
        panic!("three commands: {lines:?}")
    };
    assert!(init.contains(" sqlite:shop.db > instep.toml") && serve.starts_with("instep serve "));
    let init = &init.replacen("sqlite:shop.db", url, 1);
    execute(SHOP);
    for line in [init, check] {
        let output = shell(folder, line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{line}\n{}\n{said}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(said.is_empty(), "{line} complains: {said}");
    }
    // The port alone is another one: several tests run at once. The shell makes way for the process, so that it is killed.
    let serve = serve.split('#').next().unwrap().trim();
    let server = Server::start(shell(
        folder,
        &format!("exec {serve} --json --listen 127.0.0.1:0"),
    ));

    // curl -s "$ADDRESS/product/_search" -H … -d '{…}'
    let path = search
        .split("$ADDRESS")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap();
    let body: Value = serde_json::from_str(
        search
            .split("-d '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next())
            .unwrap(),
    )
    .unwrap();
    let found = || {
        loop {
            let answer = server.send("POST", path, None, Some(&body));
            match answer.status {
                200 => return answer.json(),
                // The first load has not begun.
                503 => std::thread::park_timeout(Duration::from_millis(20)),
                other => panic!("{other}: {}", answer.body),
            }
        }
    };
    let titles = |found: &Value| -> Vec<String> {
        let hits = found["hits"]["hits"].as_array().unwrap();
        hits.iter()
            .map(|hit| hit["_source"]["title"].as_str().unwrap().to_owned())
            .collect()
    };
    eventually("both bicycles to be found", Duration::from_secs(20), || {
        titles(&found()) == ["A folding bicycle", "A bicycle"]
    });
    let buckets = &found()["aggregations"]["tags"]["buckets"];
    assert_eq!(
        *buckets,
        json!([{ "key": "city", "doc_count": 2 }, { "key": "small", "doc_count": 1 }])
    );

    // Change a row with any program and search again.
    let changed = std::time::Instant::now();
    execute("update product set title = 'A folding chair' where id = 3");
    eventually("the changed row to be found", Duration::from_secs(10), || {
        titles(&found()).contains(&"A folding chair".to_owned())
    });
    eprintln!("a change was found after {:.0?}", changed.elapsed());
    for line in [
        "instep status",
        "instep verify",
        "instep config schema",
        "instep config print",
    ] {
        assert!(README.contains(&format!("`{line}`")), "{line} is in the README");
        let output = shell(folder, line).output().unwrap();
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{line}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(server.stop(), Some(0));
    let output = shell(folder, "instep sync --once").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_example_configuration_works() {
    let [example] = blocks("## Configuration", "toml")[..] else {
        panic!("one block")
    };
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let secret = "a-secret-of-the-shop-window";
    let product = Product::new(folder.path(), example).with("SHOP_WINDOW_KEY", secret);
    let found = product.json(&["check"]);
    assert_eq!(found["ok"], json!(true), "{found}");
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));

    let server = product.serve();
    let ask = |id: &str| server.send("GET", &format!("/product/_doc/{id}"), Some(secret), None);
    let source = ask("1").json()["_source"].clone();
    let expected = json!({
        "title": "Red folding bicycle",
        "price": 199.5,
        "initial": "R",
        "seller": { "name": "Ann Cycles", "country": "SE" },
        "reviews": [
            { "stars": 3, "body": "it creaks", "author": { "name": "Dag" } },
            { "stars": 5, "body": "a great ride", "author": { "name": "Cia" } },
        ],
        "tags": ["city", "foldable"],
        "parent": { "name": "folding" },
    });
    assert_eq!(source, expected);
    assert_eq!(ask("2").status, 404, "for the staff alone");
    let other = server.send(
        "POST",
        "/product-en/_search",
        Some(secret),
        Some(&json!({ "query": { "term": { "parent.name.keyword": "folding" } } })),
    );
    assert_eq!(other.json()["hits"]["total"]["value"], json!(1), "{}", other.body);
    assert_eq!(
        server.send("GET", "/product/_count", None, None).status,
        404,
        "nothing is public"
    );

    // Every table of it is followed, over two joins as well.
    for (change, path, value) in [
        (
            "update customer set name = 'Doris' where id = 2",
            "/reviews/0/author/name",
            "Doris",
        ),
        (
            "update category set name = 'foldable' where id = 2",
            "/parent/name",
            "foldable",
        ),
        (
            "update seller set country = 'NO' where id = 1",
            "/seller/country",
            "NO",
        ),
        ("update tag set name = 'town' where id = 1", "/tags/0", "town"),
        (
            "insert into review values (9, 1, 1, 4, 'first', '2020-01-01')",
            "/reviews/0/body",
            "first",
        ),
    ] {
        database.execute(change, []).unwrap();
        eventually(change, Duration::from_secs(10), || {
            ask("1").json()["_source"].pointer(path) == Some(&json!(value))
        });
    }
}

/// What docs/clusters.md says of the engines is what they say of themselves, name by name.
#[test]
fn the_table_of_engines_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = instep_embedded::Embedded::open(folder.path(), Default::default()).unwrap();
    let cluster = instep_elastic::Cluster::new(instep_elastic::ClusterOptions {
        urls: vec!["http://127.0.0.1:9200".to_owned()],
        ..Default::default()
    })
    .unwrap();
    let told = |engine: &dyn Engine| serde_json::to_value(engine.capabilities()).unwrap();
    let (embedded, cluster) = (told(&embedded), told(&cluster));
    let text = include_str!("../../../docs/clusters.md");
    for (name, value) in embedded.as_object().unwrap() {
        let Some(here) = value.as_bool() else { continue };
        let there = cluster[name].as_bool().unwrap();
        let word = |yes: bool| if yes { "yes" } else { "no" };
        let row = format!("| `{name}` | {} | {} |", word(here), word(there));
        assert!(text.contains(&row), "docs/clusters.md lacks: {row}");
    }
}
