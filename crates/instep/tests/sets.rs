//! Several index sets at once: all follow, and one that cannot does not hold the others.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use instep_core::{ChangeLog, SetState};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::shop;

const SETS: &str = r#"
[cluster.embedded]
engine = "embedded"
writer_memory_mb = 15

[cluster.second]
engine = "embedded"
writer_memory_mb = 15

[cluster.nowhere]
engine = "null"

[set.blue]
cluster = "embedded"
active  = true

[set.green]
cluster = "second"

[set.measured]
cluster = "nowhere"
"#;

fn sets() -> String {
    format!("{}{SETS}", shop::PRODUCTS)
}

fn set(server: &Server, name: &str) -> Value {
    let status = server.status(None);
    let sets = status["sets"].as_array().unwrap();
    let set = sets.iter().find(|set| set["set"] == json!(name));
    set.unwrap_or_else(|| panic!("{name} in {status}")).clone()
}

fn in_step(server: &Server, names: &[&str]) {
    for name in names {
        eventually(&format!("{name} to be in step"), Duration::from_secs(20), || {
            let set = set(server, name);
            assert_eq!(set["conserved"], json!(true), "{set}");
            set["lag"] == json!(0)
        });
    }
}

fn titles(server: &Server) -> Vec<String> {
    let found = server
        .send("POST", "/product/_search", None, Some(&json!({ "size": 100 })))
        .json();
    let mut titles: Vec<String> = found["hits"]["hits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hit| hit["_source"]["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    titles
}

fn rename(database: &Connection, to: &str) {
    database
        .execute("update product set name = ?1 where id = 1", [to])
        .unwrap();
}

/// What a console would do: the state of one set, written while nothing runs.
fn set_state(folder: &Path, name: &str, state: SetState) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let log = instep_store::SqliteLog::open(
            folder.join("instep-state/state.db"),
            Arc::new(|| 1_700_000_000_000),
        )
        .unwrap();
        log.set_state(&name.into(), &state).await.unwrap();
    });
}

#[test]
fn all_sets_follow_and_any_embedded_one_can_answer() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), &sets());
    let done = product.json(&["sync", "--once"]);
    assert_eq!(
        (done["complete"].clone(), done["sets"].as_array().unwrap().len()),
        (json!(true), 3),
        "{done}"
    );
    for set in done["sets"].as_array().unwrap() {
        assert_eq!(
            (&set["counts"]["scanned"], &set["lag"], &set["conserved"]),
            (&json!(5), &json!(0), &json!(true)),
            "{set}"
        );
    }
    let server = product.serve();
    rename(&database, "Renamed once");
    database.execute("delete from product where id = 4", []).unwrap();
    database
        .execute("update seller set name = 'Bo & Co' where id = 2", [])
        .unwrap();
    eventually("the active set to follow", Duration::from_secs(10), || {
        titles(&server).contains(&"Renamed once".to_owned())
    });
    in_step(&server, &["blue", "green", "measured"]);
    for name in ["blue", "green", "measured"] {
        let counts = set(&server, name)["counts"].clone();
        assert_eq!(
            counts["touches"],
            set(&server, "blue")["counts"]["touches"],
            "every set is told of every touch: {counts}"
        );
        assert!(
            counts["indexed"].as_u64().unwrap() + counts["deleted"].as_u64().unwrap() >= 3,
            "{counts}"
        );
    }
    let expected = titles(&server);
    assert_eq!(server.stop(), Some(0));
    // The other embedded set holds the same.
    let swapped = sets()
        .replace("active  = true", "")
        .replace("cluster = \"second\"", "cluster = \"second\"\nactive = true");
    let server = Product::new(folder.path(), &swapped).serve();
    assert_eq!(set(&server, "green")["active"], json!(true));
    assert_eq!(titles(&server), expected);
    drop(server);
    // One that keeps nothing cannot.
    let null = sets()
        .replace("active  = true", "")
        .replace("cluster = \"nowhere\"", "cluster = \"nowhere\"\nactive = true");
    let said = Product::new(folder.path(), &null).refused(&["serve", "--listen", "127.0.0.1:0"], 2);
    assert!(
        said.contains("measured") && said.contains("active = true"),
        "{said}"
    );
}

#[test]
fn a_paused_set_holds_nobody_and_catches_up_later() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), &sets());
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    set_state(folder.path(), "green", SetState::Paused);
    let server = product.serve();
    for turn in 0..5 {
        rename(&database, &format!("Turn {turn}"));
        eventually("the active set to follow", Duration::from_secs(10), || {
            titles(&server).contains(&format!("Turn {turn}"))
        });
    }
    in_step(&server, &["blue", "measured"]);
    let green = set(&server, "green");
    assert_eq!(
        (&green["state"], &green["pending"], &green["conserved"]),
        (&json!("paused"), &json!(1), &json!(true)),
        "one document, one entry: {green}"
    );
    assert_eq!(
        server.send("GET", "/_instep/health/ready", None, None).status,
        200,
        "another set is paused, and not the active one"
    );
    assert_eq!(server.stop(), Some(0));

    // `sync --once` does not wait for it, and says that it is not complete.
    let output = product.run(&["sync", "--once", "--json"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    set_state(folder.path(), "green", SetState::Following);
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    let green = done["sets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|set| set["set"] == json!("green"))
        .unwrap()
        .clone();
    assert_eq!(
        (&green["lag"], &green["counts"]["folded"]),
        (&json!(0), &json!(4)),
        "{green}"
    );
}

#[test]
fn a_set_whose_index_cannot_be_written_holds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), &sets());
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    in_step(&server, &["blue", "green", "measured"]);
    // Its disk is gone: a file stands where its folder was.
    let place = folder.path().join("instep-state/index/second");
    std::fs::rename(&place, folder.path().join("taken-away")).unwrap();
    std::fs::write(&place, "").unwrap();
    for turn in 0..5 {
        rename(&database, &format!("Turn {turn}"));
        eventually("the active set to follow", Duration::from_secs(10), || {
            titles(&server).contains(&format!("Turn {turn}"))
        });
    }
    in_step(&server, &["blue", "measured"]);
    eventually(
        "the fault of the other to be shown",
        Duration::from_secs(20),
        || {
            let green = set(&server, "green");
            assert_eq!(green["conserved"], json!(true), "{green}");
            green["lag"] != json!(0)
                && (green["state"] == json!("halted") || green["activity"]["problem"].is_object())
        },
    );
    assert_eq!(
        server.send("GET", "/_instep/health/ready", None, None).status,
        200
    );
    assert_eq!(server.stop(), Some(0));
    // Put back, it goes on from where it was.
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(folder.path().join("taken-away"), &place).unwrap();
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
}
