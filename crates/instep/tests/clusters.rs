//! The same road to a real cluster: first synchronisation, changes, verification; and what happens between us and it.

use std::path::Path;
use std::time::{Duration, Instant};

use instep_conformance::http::{Fault, Faults};
use instep_conformance::node::{Node, OwnNode};
use instep_conformance::postgres;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::demo::Market;
use crate::postgres::world;
use crate::support::product::{Product, Server, eventually};
use crate::support::shop::{self, PRODUCTS};
use crate::support::tate;

/// A configuration whose one set lives in the cluster at this address, under a name of its own; and what removes it there.
pub fn configuration<'a>(rest: &str, url: &str, name: &'a str) -> (String, Clean<'a>) {
    let clean = Clean::of(url, name);
    let set = format!("{name}_{}", std::process::id());
    let configuration = format!(
        "{rest}\n[cluster.main]\nurl = \"{url}\"\nsettings = {{ number_of_replicas = 0, refresh_interval = \"200ms\" }}\n[set.{set}]\n"
    );
    (configuration, clean)
}

/// Removes what a test left in a cluster, however it ended.
pub struct Clean<'a> {
    url: String,
    index: &'a str,
}

impl<'a> Clean<'a> {
    /// Of what sets of this process whose names start so left there.
    pub fn of(url: &str, index: &'a str) -> Self {
        Clean {
            url: url.to_owned(),
            index,
        }
    }
}

impl Drop for Clean<'_> {
    fn drop(&mut self) {
        remove(
            &self.url,
            &format!("documents-{}_{}*", self.index, std::process::id()),
        );
    }
}

fn remove(url: &str, indexes: &str) {
    let _status = answered(url, "DELETE", indexes, "");
}

/// A request beside the product, which must succeed.
pub fn send(url: &str, method: &str, path: &str, body: &str) {
    let answer = answered(url, method, path, body).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
}

fn answered(url: &str, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://"))?;
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
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
        let folder = tempfile::tempdir().unwrap();
        let database = shop::write(folder.path());
        let (text, _clean) = configuration(PRODUCTS, &url, "shop");
        let product = Product::new(folder.path(), &text);
        let checked = product.json(&["check"]);
        let checked = checked.to_string();
        assert!(checked.contains("cluster main"), "{checked}");
        assert!(
            checked.contains("instep_writer") && checked.contains("documents-shop_"),
            "{checked}"
        );
        let path = match node {
            Node::Opensearch | Node::Opensearch2 => "/_plugins/_security/api/roles/",
            Node::Elasticsearch => "/_security/role/",
        };
        assert!(checked.contains(path), "{node:?}: {checked}");
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
fn the_tate_lives_in_each_cluster_there_is() {
    let Some(data) = tate::folder("the Tate in a cluster") else {
        return;
    };
    if Node::any().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let _database = tate::load(&data, &folder.path().join("tate.db"));
    let mut sources = vec!["sqlite:tate.db".to_owned()];
    // The server outlives its database.
    let server =
        postgres::or_skip("the Tate from Postgres into a cluster").map(|_| postgres::Server::start(&[]));
    let database = server.as_ref().map(|server| server.database("tate"));
    if let Some(database) = &database {
        world::load(&data, database, None);
        sources.push(database.url());
    }
    for (at, source) in sources.iter().enumerate() {
        let mut text = format!(
            "[state]\npath = \"state-{at}\"\n[source.tate]\nurl = \"{source}\"\n{}",
            tate::COLLECTION
        );
        let mut clean = Vec::new();
        let mut sets = 0;
        for node in Node::ALL {
            let Some(url) = node.url() else { continue };
            let name = format!("tate_{}", std::process::id());
            text.push_str(&format!(
                "[cluster.{node:?}]\nurl = \"{url}\"\nsettings = {{ number_of_replicas = 0 }}\n\
                 [set.{name}_{sets}]\ncluster = \"{node:?}\"\nactive = {}\n",
                sets == 0
            ));
            clean.push(Clean::of(&url, "tate"));
            sets += 1;
        }
        let product = Product::new(
            folder.path(),
            &text
                .replace("Opensearch", "opensearch")
                .replace("Elasticsearch", "elasticsearch"),
        );
        let done = product.json(&["sync", "--once"]);
        assert_eq!(done["complete"], json!(true), "{source}: {done}");
        for set in 0..sets {
            assert_eq!(done["sets"][set]["counts"]["scanned"], json!(tate::ARTWORKS));
        }
        assert_eq!(product.json(&["verify"])["differences"], json!(0), "{source}");
    }
}

/// Each fault is named within 5 seconds while writes go on, with its remedy; nothing is lost, and it goes on by itself.
#[test]
fn nothing_is_lost_on_a_bad_road() {
    let Some(url) = Node::any() else { return };
    let (_, _clean) = configuration(PRODUCTS, &url, "road");
    let faults = Faults::before(&url);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let text = configuration(PRODUCTS, &faults.url(), "road").0;
    let product = Product::new(folder.path(), &text);
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
        (Fault::Silence, "engine_silent"),
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

/// The demo, there as here: twice, so that the second meets what the first left.
#[test]
fn the_demo_lives_in_each_cluster_there_is() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let folder = tempfile::tempdir().unwrap();
        for cars in ["700", "400"] {
            let market = Market::start(folder.path(), &["--cars", cars, "--cluster", &url]);
            let database = Connection::open(folder.path().join("market/market.db")).unwrap();
            let sql = "select count(*) from ad where state = 'open'";
            let open = database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            eventually("all open ads", Duration::from_secs(60), || {
                let answer = market
                    .server
                    .send("GET", "/ad/_count", Some(market.key("staff")), None);
                answer.json()["count"] == json!(open)
            });
            let product = Product::at(&folder.path().join("market"));
            assert_eq!(product.json(&["verify"])["differences"], json!(0), "{node:?}");
            assert_eq!(market.server.stop(), Some(0));
        }
        remove_demo(&url, folder.path());
    }
}

/// Removes what the demo in this folder left in a cluster.
pub fn remove_demo(url: &str, folder: &Path) {
    let text = std::fs::read_to_string(folder.join("market/instep.toml")).unwrap();
    let set = text.split("[set.").nth(1).unwrap().split(']').next().unwrap();
    remove(url, &format!("documents-{set}-*"));
}

/// Killed twice while rows are written, and started again over its data: `status` names it within seconds with the remedy,
/// and nothing is lost, stale, or there too much.
#[test]
fn a_node_that_is_killed_under_load_loses_nothing() {
    let Some(mut node) = OwnNode::start("the killed node") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let text = configuration(PRODUCTS, &node.url(), "killed").0;
    let product = Product::new(folder.path(), &text);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    in_step(&server, Duration::from_secs(30));
    let until = Instant::now() + Duration::from_secs(25);
    let path = folder.path().join("shop.db");
    let writer = std::thread::spawn(move || {
        let database = Connection::open(path).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        let mut at = 100;
        while Instant::now() < until {
            let sql = format!(
                "insert into product (id, name, seller_id) values ({at}, 'p{at}', 1);
                 update product set name = 'q{at}' where id = {at} - 7; delete from product where id = {at} - 20 and id % 3 = 0;
                 update seller set name = 's{at}' where id = 1 + {at} % 2"
            );
            database.execute_batch(&sql).unwrap();
            at += 1;
            std::thread::park_timeout(Duration::from_millis(20));
        }
        at
    });
    for _ in 0..2 {
        std::thread::park_timeout(Duration::from_secs(1));
        node.kill();
        eventually("the state to be named", Duration::from_secs(5), || {
            only_set(&server)["activity"]["problem"]["remedy"].is_string()
        });
        node.up();
        eventually("the problem to be over", Duration::from_secs(30), || {
            only_set(&server)["activity"]["problem"].is_null()
        });
    }
    let written = writer.join().unwrap();
    assert!(written > 300, "{written}");
    // Deletes are repeated for two minutes, so that there is a lag for so long; the documents are there sooner.
    let ids = database
        .query_row("select count(*) from product", [], |row| row.get::<_, i64>(0))
        .unwrap();
    eventually("as many documents as rows", Duration::from_secs(60), || {
        server.send("GET", "/product/_count", None, None).json()["count"] == json!(ids)
    });
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
    assert_eq!(server.stop(), Some(0));
}

/// Two sets from one source: the cluster says nothing any more, and the embedded engine does not wait for it.
#[test]
fn the_embedded_engine_does_not_wait_for_a_cluster_beside_it() {
    let Some(url) = Node::any() else { return };
    let (_, _clean) = configuration(PRODUCTS, &url, "far");
    let faults = Faults::before(&url);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let far = format!("far_{}", std::process::id());
    let text = format!(
        "{PRODUCTS}\n[cluster.near]\nengine = \"embedded\"\n[cluster.main]\nurl = \"{}\"\nsettings = {{ number_of_replicas = 0 }}\n\
         [set.near]\ncluster = \"near\"\nactive = true\n[set.{far}]\ncluster = \"main\"\n",
        faults.url()
    );
    let product = Product::new(folder.path(), &text);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    let set = |name: &str| {
        let sets = server.status(None)["sets"].as_array().unwrap().clone();
        sets.into_iter().find(|set| set["set"] == json!(name)).unwrap()
    };
    eventually("both to be in step", Duration::from_secs(30), || {
        set("near")["lag"] == json!(0) && set(&far)["lag"] == json!(0)
    });
    for (round, fault) in [Fault::Cut(0), Fault::refusal(503)].into_iter().enumerate() {
        faults.disturb("_bulk", fault);
        for at in 0..20 {
            let word = format!("near{round}x{at}");
            let since = Instant::now();
            rename(&database, &word);
            eventually("the embedded engine to follow", Duration::from_secs(5), || {
                found(&server, &word) == 1
            });
            assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        }
        assert_ne!(set(&far)["lag"], json!(0));
        faults.heal();
        eventually("the cluster to come along", Duration::from_secs(60), || {
            set(&far)["lag"] == json!(0)
        });
    }
    assert_eq!(server.stop(), Some(0));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}
