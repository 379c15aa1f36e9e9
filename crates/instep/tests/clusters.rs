//! The same road to a real cluster: first synchronisation, changes, verification; and what happens between us and it.

use std::time::{Duration, Instant};

use instep_conformance::http::{Fault, Faults};
use instep_conformance::node::Node;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::{shop, tate};

/// A configuration whose one set lives in the cluster at this address, under a name of its own.
fn configuration(rest: &str, url: &str, set: &str) -> String {
    let set = format!("{set}_{}", std::process::id());
    format!(
        "{rest}\n[cluster.main]\nurl = \"{url}\"\nsettings = {{ number_of_replicas = 0, refresh_interval = \"200ms\" }}\n[set.{set}]\n"
    )
}

const SHOP: &str = r#"
[source.shop]
url = "sqlite:shop.db"

[collection.product]
root   = "product"
public = true

[collection.product.fields]
title  = { type = "text", from = "name" }
seller = { table = "seller", fields = ["name"] }
"#;

/// Removes what a test left in a cluster, however it ended.
struct Clean<'a> {
    url: String,
    index: &'a str,
}

impl Drop for Clean<'_> {
    fn drop(&mut self) {
        use std::io::{Read, Write};
        let index = format!("documents-{}_{}-*", self.index, std::process::id());
        let address = self.url.trim_start_matches("http://");
        let request = format!("DELETE /{index} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        if let Ok(mut stream) = std::net::TcpStream::connect(address)
            && stream.write_all(request.as_bytes()).is_ok()
        {
            let _answer = stream.read_to_end(&mut Vec::new());
        }
    }
}

fn only_set(server: &Server) -> Value {
    server.status(None)["sets"][0].clone()
}

fn in_step(server: &Server, within: Duration) {
    eventually("the set to be in step", within, || {
        let set = only_set(server);
        assert_eq!(set["conserved"], json!(true), "{set}");
        set["lag"] == json!(0)
    });
}

fn found(server: &Server, word: &str) -> u64 {
    let body = json!({ "query": { "match": { "title": word } } });
    let answer = server.send("POST", "/product/_count", None, Some(&body));
    answer.json()["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", answer.body))
}

fn rename(database: &Connection, to: &str) {
    database
        .execute("update product set name = ?1 where id = 1", [to])
        .unwrap();
}

#[test]
fn a_shop_lives_in_each_cluster_there_is() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let _clean = Clean {
            url: url.clone(),
            index: "shop",
        };
        let folder = tempfile::tempdir().unwrap();
        let database = shop::write(folder.path());
        let product = Product::new(folder.path(), &configuration(SHOP, &url, "shop"));
        let checked = product.json(&["check"]);
        assert!(checked.to_string().contains("cluster main"), "{checked}");
        let done = product.json(&["sync", "--once"]);
        assert_eq!(done["complete"], json!(true), "{node:?}: {done}");
        assert_eq!(product.json(&["verify"])["differences"], json!(0), "{node:?}");

        let server = product.serve();
        database
            .execute(
                "insert into product (id, name, seller_id) values (9, 'a zeppelin', 1)",
                [],
            )
            .unwrap();
        eventually("the change to be found", Duration::from_secs(20), || {
            found(&server, "zeppelin") == 1
        });
        in_step(&server, Duration::from_secs(20));
        // A new owner repeats its first deletes for a while, so the set is in step only later.
        database.execute("delete from product where id = 9", []).unwrap();
        eventually("the delete to be seen", Duration::from_secs(20), || {
            found(&server, "zeppelin") == 0
        });
        assert_eq!(server.stop(), Some(0));
        assert_eq!(product.json(&["verify"])["differences"], json!(0), "{node:?}");
    }
}

#[test]
fn the_tate_lives_in_a_cluster() {
    let (Some(url), Some(data)) = (Node::any(), tate::folder("the Tate in a cluster")) else {
        return;
    };
    let _clean = Clean {
        url: url.clone(),
        index: "tate",
    };
    let folder = tempfile::tempdir().unwrap();
    let _database = tate::load(&data, &folder.path().join("tate.db"));
    let rest = format!("[source.tate]\nurl = \"sqlite:tate.db\"\n{}", tate::COLLECTION);
    let product = Product::new(folder.path(), &configuration(&rest, &url, "tate"));
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    assert_eq!(done["sets"][0]["counts"]["scanned"], json!(tate::ARTWORKS));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}

/// Each fault is named within 5 seconds while writes go on, with its remedy; nothing is lost, and it goes on by itself.
#[test]
fn nothing_is_lost_on_a_bad_road() {
    let Some(url) = Node::any() else { return };
    let _clean = Clean {
        url: url.clone(),
        index: "road",
    };
    let faults = Faults::before(&url);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), &configuration(SHOP, &faults.url(), "road"));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    in_step(&server, Duration::from_secs(20));
    let cases = [
        (Fault::refusal(429), "engine_busy"),
        (Fault::refusal(503), "engine_unavailable"),
        (Fault::Html, "engine_unreadable"),
        (Fault::Half, "engine_unreadable"),
        (Fault::Cut(0), "engine_cut"),
        (Fault::Cut(60), "engine_cut"),
    ];
    for (round, (fault, code)) in cases.into_iter().enumerate() {
        let before = faults.disturbed();
        faults.disturb("_bulk", fault.clone());
        let word = format!("round{round}");
        rename(&database, &word);
        let since = Instant::now();
        eventually("the state to be named", Duration::from_secs(5), || {
            let problem = only_set(&server)["activity"]["problem"].clone();
            problem["code"] == json!(code) && problem["remedy"].is_string()
        });
        // It stays so, and does not wear itself out: a few attempts a second at most.
        std::thread::park_timeout(Duration::from_secs(1));
        let attempts = faults.disturbed() - before;
        assert!(
            (1..40).contains(&attempts),
            "{fault:?}: {attempts} in {:?}",
            since.elapsed()
        );
        faults.heal();
        eventually(
            "the change to be found after healing",
            Duration::from_secs(30),
            || found(&server, &word) == 1,
        );
        in_step(&server, Duration::from_secs(30));
        eventually("the problem to be gone", Duration::from_secs(30), || {
            only_set(&server)["activity"]["problem"].is_null()
        });
    }
    assert_eq!(server.stop(), Some(0));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}
