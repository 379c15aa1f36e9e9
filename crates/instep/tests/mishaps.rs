//! What people and disks do to indexes while they are followed: each is named with what mends it, and nothing is lost.

use std::time::Duration;

use instep_conformance::http::{Fault, Faults};
use instep_conformance::node::Node;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clusters::{configuration, send};
use crate::support::product::{Product, Server, eventually};
use crate::support::shop::{self, PRODUCTS};

fn found(server: &Server, word: &str) -> u64 {
    let body = json!({ "query": { "match": { "title": word } } });
    let answer = server.send("POST", "/product/_count", None, Some(&body));
    answer.json()["count"].as_u64().unwrap_or_default()
}

fn rename(database: &Connection, to: &str) {
    database
        .execute("update product set name = ?1 where id = 1", [to])
        .unwrap();
}

/// The set's trouble: in its activity while it is tried again, in its state once it is halted.
fn trouble(server: &Server) -> String {
    let set = &server.status(None)["sets"][0];
    format!("{} {}", set["activity"]["problem"], set["why"])
}

/// Nobody writes: what becomes of the cluster shows all the same, to whoever asks on the command line and to whoever
/// balances load.
#[test]
fn an_idle_set_notices() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let folder = tempfile::tempdir().unwrap();
        let _database = shop::write(folder.path());
        let (_, _clean) = configuration(PRODUCTS, &url, "idle");
        let faults = Faults::before(&url);
        let product = Product::new(folder.path(), &configuration(PRODUCTS, &faults.url(), "idle").0);
        let set = format!("idle_{}", std::process::id());
        let index = format!("documents-{set}-product-unspecified");
        assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
        let server = product.serve();
        let status = || {
            let status = product.run(&["status"]);
            let shown = String::from_utf8_lossy(&status.stdout).into_owned();
            (status.status.success(), shown)
        };
        let is_ready = || server.send("GET", "/_instep/health/ready", None, None).status == 200;
        let named = |code: &str, remedy: &str| {
            eventually(code, Duration::from_secs(5), || {
                let (healthy, shown) = status();
                !healthy && shown.contains(code) && shown.contains(remedy)
            });
        };
        let well = || {
            eventually("all to be well", Duration::from_secs(30), || {
                status().0 && is_ready()
            });
        };
        well();
        let settings = |value: &str| {
            let body = format!(r#"{{"index.blocks.read_only_allow_delete":{value}}}"#);
            send(&url, "PUT", &format!("{index}/_settings"), &body);
        };
        settings("true");
        named("engine_read_only", "free disk space");
        assert!(is_ready(), "it can be searched");
        settings("null");
        well();
        send(&url, "POST", &format!("{index}/_close"), "");
        named("index_closed", "_open");
        assert!(!is_ready());
        let check = product.run(&["check"]);
        let shown = String::from_utf8_lossy(&check.stdout).into_owned();
        assert!(
            !check.status.success() && shown.contains("the index is closed"),
            "{shown}"
        );
        send(&url, "POST", &format!("{index}/_open"), "");
        well();
        for (fault, code, remedy) in [
            (Fault::refusal(503), "engine_unavailable", "cluster"),
            (Fault::refusal(401), "engine_denied", "check the login"),
            (Fault::Cut(0), "engine_cut", "made again"),
            (Fault::Silence, "engine_timeout", "network"),
        ] {
            faults.disturb("", fault);
            named(code, remedy);
            assert!(!is_ready(), "{code}");
            faults.heal();
            well();
        }
        send(&url, "DELETE", &index, "");
        named("index_missing", &format!("instep resume set:{set}"));
        product.json(&["resume", &format!("set:{set}")]);
        well();
        assert_eq!(product.json(&["verify"])["differences"], json!(0), "{node:?}");
        assert_eq!(server.stop(), Some(0));
        assert!(status().0, "what nobody waits for is not said");
    }
}

/// Blocked, closed, without its alias, deleted, replaced: by hand, while rows change.
#[test]
fn an_index_by_hand() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let folder = tempfile::tempdir().unwrap();
        let database = shop::write(folder.path());
        let (text, _clean) = configuration(PRODUCTS, &url, "hand");
        let set = format!("hand_{}", std::process::id());
        let index = format!("documents-{set}-product-unspecified");
        let product = Product::new(folder.path(), &text);
        assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
        let server = product.serve();
        let named = |code: &str| {
            eventually("the state to be named", Duration::from_secs(5), || {
                let trouble = trouble(&server);
                trouble.contains(code)
            });
        };
        let healed = |word: &str| {
            eventually("the change after healing", Duration::from_secs(30), || {
                found(&server, word) == 1
            });
            assert_eq!(
                product.json(&["verify"])["differences"],
                json!(0),
                "{node:?}: {word}"
            );
        };
        let settings = |value: &str| {
            send(
                &url,
                "PUT",
                &format!("{index}/_settings"),
                &format!(r#"{{"index.blocks.read_only_allow_delete":{value}}}"#),
            );
        };
        settings("true");
        rename(&database, "blocked");
        named("engine_read_only");
        settings("null");
        healed("blocked");

        send(&url, "POST", &format!("{index}/_close"), "");
        rename(&database, "closed");
        named("index_closed");
        send(&url, "POST", &format!("{index}/_open"), "");
        healed("closed");

        send(&url, "DELETE", &format!("{index}/_alias/*"), "");
        rename(&database, "nameless");
        healed("nameless");

        send(&url, "DELETE", &index, "");
        rename(&database, "deleted");
        named("index_missing");
        let resumed = product.json(&["resume", &format!("set:{set}")]);
        assert_eq!(resumed["was_halted"], json!(true), "{resumed}");
        healed("deleted");

        send(&url, "DELETE", &index, "");
        send(&url, "PUT", &index, "{}");
        rename(&database, "replaced");
        named("index_replaced");
        let status = product.run(&["status"]);
        let shown = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(
            shown.contains(&format!("instep resume set:{set}")) && !status.status.success(),
            "{shown}"
        );
        send(&url, "DELETE", &index, "");
        product.json(&["resume", &format!("set:{set}")]);
        healed("replaced");
        assert_eq!(server.stop(), Some(0));
    }
    let folder = tempfile::tempdir().unwrap();
    shop::write(folder.path());
    let product = Product::new(folder.path(), PRODUCTS);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(product.json(&["resume", "set:main"])["was_halted"], json!(false));
    let said = product.refused(&["resume", "set:mian"], 2);
    assert!(said.contains("set:main"), "{said}");
}

/// A cluster that never answers, and one that refuses, while many rows change: what waits does not pile up in memory.
#[test]
fn memory_is_bounded_while_a_cluster_is_away() {
    let Some(url) = Node::any() else { return };
    let (_, _clean) = configuration(PRODUCTS, &url, "bounded");
    let faults = Faults::before(&url);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(
        folder.path(),
        &configuration(PRODUCTS, &faults.url(), "bounded").0,
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    let anonymous_kb = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Two kilobytes of text in each row: 80 MB in all.
    let fill = |from: u32, count: u32| {
        let sql = format!(
            "with recursive n(i) as (select {from} union all select i + 1 from n where i < {})
             insert into product (id, name, seller_id) select i, hex(randomblob(1000)) || ' filled', 1 from n",
            from + count - 1
        );
        database.execute_batch(&sql).unwrap();
    };
    fill(1_000, 2_000);
    eventually("the first rows", Duration::from_secs(60), || {
        found(&server, "filled") == 2_000
    });
    let before = anonymous_kb();
    let mut most = before;
    for (round, fault) in [Fault::Silence, Fault::refusal(429)].into_iter().enumerate() {
        faults.disturb("_bulk", fault);
        for part in 0..10 {
            fill(10_000 + (round as u32 * 10 + part) * 2_000, 2_000);
            std::thread::park_timeout(Duration::from_millis(400));
            most = most.max(anonymous_kb());
        }
        faults.heal();
    }
    eventually("all rows", Duration::from_secs(120), || {
        most = most.max(anonymous_kb());
        found(&server, "filled") == 42_000
    });
    let grown = (most - before) / 1_024;
    eprintln!(
        "memory while 80 MB waited: {} MB, and {grown} MB at most on top",
        before / 1_024
    );
    assert!(grown < 48, "{grown} MB on top of {} MB", before / 1_024);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}

/// One source into both: the embedded engine's disk goes away, and the cluster is followed all the same.
#[test]
fn a_cluster_does_not_wait_for_the_embedded_engine_beside_it() {
    let Some(url) = Node::any() else { return };
    let (text, _clean) = configuration(PRODUCTS, &url, "beside");
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let text = format!(
        "{text}active = true\n[cluster.near]\nengine = \"embedded\"\n[set.near]\ncluster = \"near\"\n"
    );
    let product = Product::new(folder.path(), &text);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();
    let set = |name: &str| -> Value {
        let sets = server.status(None)["sets"].as_array().unwrap().clone();
        sets.into_iter().find(|set| set["set"] == json!(name)).unwrap()
    };
    rename(&database, "healthy");
    eventually("both to follow", Duration::from_secs(30), || {
        found(&server, "healthy") == 1 && set("near")["lag"] == json!(0)
    });
    // Every file of the embedded index is gone, and its folder is none.
    let indexes = folder.path().join("instep-state/index/near");
    let index = std::fs::read_dir(&indexes)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir() && path.to_string_lossy().contains("product"))
        .unwrap();
    std::fs::remove_dir_all(&index).unwrap();
    std::fs::write(&index, "no folder").unwrap();
    for at in 0..20 {
        let word = format!("word{at}");
        let since = std::time::Instant::now();
        rename(&database, &word);
        eventually("the cluster to follow", Duration::from_secs(5), || {
            found(&server, &word) == 1
        });
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    }
    let near = set("near");
    assert_ne!(near["lag"], json!(0), "{near}");
    let trouble = format!("{} {}", near["activity"]["problem"], near["why"]);
    assert!(trouble.len() > 20, "it is named: {near}");
    assert_eq!(server.stop(), Some(0));
    // A person takes away what lies in the place of the index: it is made anew and filled.
    std::fs::remove_file(&index).unwrap();
    let server = product.serve();
    eventually(
        "the embedded engine to come along",
        Duration::from_secs(60),
        || {
            let sets = server.status(None)["sets"].as_array().unwrap().clone();
            sets.iter().all(|set| set["state"] == json!("following"))
        },
    );
    eventually("both to hold the same", Duration::from_secs(60), || {
        product.run(&["verify"]).status.success()
    });
    assert_eq!(server.stop(), Some(0));
}

/// Into a cluster and back: what was left behind there is of an earlier time, and is compared when the set comes back.
#[test]
fn a_set_that_moves_and_comes_back() {
    let Some(url) = Node::any() else { return };
    let (_, _clean) = configuration(PRODUCTS, &url, "moves");
    let set = format!("moves_{}", std::process::id());
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let living_in = |cluster: &str| {
        let text = format!(
            "{PRODUCTS}\n[cluster.near]\nengine = \"embedded\"\n[cluster.far]\nurl = \"{url}\"\n\
             settings = {{ number_of_replicas = 0 }}\n[set.{set}]\ncluster = \"{cluster}\"\n"
        );
        Product::new(folder.path(), &text)
    };
    for (round, cluster) in ["near", "far", "near", "far"].into_iter().enumerate() {
        let product = living_in(cluster);
        assert_eq!(
            product.json(&["sync", "--once"])["complete"],
            json!(true),
            "{cluster}"
        );
        assert_eq!(
            product.json(&["verify"])["differences"],
            json!(0),
            "{round}: {cluster}"
        );
        // Each move misses a change and a deletion that the store before has seen.
        rename(&database, &format!("round{round}"));
        let gone = format!(
            "delete from review where product_id = {0}; delete from product_tag where product_id = {0}; delete from product where id = {0}",
            2 + round
        );
        database.execute_batch(&gone).unwrap();
        assert_eq!(
            product.json(&["sync", "--once"])["complete"],
            json!(true),
            "{cluster}"
        );
    }
}

/// Runs by the clock, each another owner: what each deletes is settled by it, and not by a later one.
#[test]
fn jobs_that_delete_leave_nothing_to_do() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let folder = tempfile::tempdir().unwrap();
        let database = shop::write(folder.path());
        let (text, _clean) = configuration(PRODUCTS, &url, "jobs");
        let product = Product::new(folder.path(), &text);
        assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
        for id in [4, 5] {
            let sql = format!("delete from product where id = {id}");
            database.execute(&sql, []).unwrap();
            let done = product.json(&["sync", "--once"]);
            let set = &done["sets"][0];
            assert_eq!(
                (&done["complete"], &set["lag"], &set["counts"]["retries"]),
                (&json!(true), &json!(0), &json!(0)),
                "{node:?}: {done}"
            );
        }
        // Whoever is killed may have a write on its way: then it is waited for.
        let killed = product.serve();
        rename(&database, "alive");
        eventually("the owner to be at work", Duration::from_secs(30), || {
            found(&killed, "alive") == 1
        });
        drop(killed);
        database
            .execute_batch("delete from product_tag where product_id = 3; delete from product where id = 3")
            .unwrap();
        let done = product.json(&["sync", "--once"]);
        assert_eq!(done["sets"][0]["counts"]["retries"], json!(1), "{done}");
        let shown = product.run(&["status"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            shown.contains("deletes are done") && !shown.contains("mend the rows"),
            "{shown}"
        );
        assert_eq!(product.json(&["verify"])["differences"], json!(0), "{node:?}");
    }
}

/// Two installations that call their sets alike, and one whose state was lost: neither writes over what is there, nor
/// shows it.
#[test]
fn an_index_that_another_fills_is_left_alone() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let (text, _clean) = configuration(PRODUCTS, &url, "shared");
        let set = format!("shared_{}", std::process::id());
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = folders.each_ref().map(|folder| {
            let database = shop::write(folder.path());
            (Product::new(folder.path(), &text), database)
        });
        assert_eq!(first.0.json(&["sync", "--once"])["complete"], json!(true));
        rename(&second.1, "intruder");
        let server = second.0.serve();
        let status = || String::from_utf8_lossy(&second.0.run(&["status"]).stdout).into_owned();
        eventually("it to be named", Duration::from_secs(5), || {
            let shown = status();
            shown.contains("index_of_another") && shown.contains(&format!("resume set:{set}"))
        });
        let body = json!({ "query": { "match_all": {} } });
        let answer = server.send("POST", "/product/_search", None, Some(&body));
        assert!(
            answer.status >= 500 && !answer.body.contains("bicycle"),
            "{}",
            answer.body
        );
        assert_eq!(first.0.json(&["verify"])["differences"], json!(0), "{node:?}");
        // One whose documents are in another language meets another index, which is not its own to remove.
        let third = tempfile::tempdir().unwrap();
        shop::write(third.path());
        let english = text.replace("public = true", "public = true\nlanguage = \"en\"");
        let third = Product::new(third.path(), &english);
        let said = third.refused(&["sync", "--once", "--within", "10s"], 1);
        let done = third.run(&["status"]);
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(shown.contains("index_of_another"), "{said} {shown}");
        assert_eq!(first.0.json(&["verify"])["differences"], json!(0), "{node:?}");
        // The first is given up: then the second may have the name.
        let index = format!("documents-{set}-product-unspecified");
        send(&url, "DELETE", &index, "");
        second.0.json(&["resume", &format!("set:{set}")]);
        eventually("its own documents", Duration::from_secs(30), || {
            found(&server, "intruder") == 1
        });
        assert_eq!(second.0.json(&["verify"])["differences"], json!(0), "{node:?}");
        assert_eq!(server.stop(), Some(0));
        // Its state is lost.
        std::fs::remove_dir_all(folders[1].path().join("instep-state")).unwrap();
        let done = second.0.run(&["sync", "--once", "--json"]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            !done.status.success() && said.contains("index_of_another"),
            "{said}"
        );
    }
}
