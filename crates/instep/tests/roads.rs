//! The road to a cluster: encrypted, behind a login, over several hosts.

use std::time::Duration;

use instep_conformance::http::Faults;
use instep_conformance::node::{Node, OwnNode};
use instep_conformance::signature::Signatory;
use instep_conformance::tls::{Certificates, Tunnel};
use serde_json::{Value, json};

use crate::clusters;
use crate::support::http;
use crate::support::product::{Product, Server, eventually};
use crate::support::shop::{self, PRODUCTS};

/// `instep:a good password`, and the key that the configuration names, as `authorization` has them.
const BASIC: &str = "Basic aW5zdGVwOmEgZ29vZCBwYXNzd29yZA==";
const KEY: &str = "ApiKey VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==";

/// A configuration whose one set lives behind this address; `more` are lines of the cluster's section.
fn configuration(set: &str, address: &str, more: &str) -> String {
    let set = format!("{set}_{}", std::process::id());
    format!("{PRODUCTS}\n[cluster.main]\nurl = \"{address}\"\n{more}\n[set.{set}]\n")
}

fn found(server: &Server, word: &str) -> u64 {
    let body = json!({ "query": { "match": { "title": word } } });
    let answer = server.send("POST", "/product/_count", None, Some(&body));
    answer.json()["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", answer.body))
}

/// What `check` says of the cluster, whether it is content or not.
fn checked(product: &Product) -> String {
    let output = product.run(&["check", "--json"]);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn encrypted_and_behind_a_login() {
    let Some(url) = Node::any() else { return };
    let Some(certificates) = Certificates::new("a cluster behind TLS") else {
        return;
    };
    let (_, _clean) = clusters::configuration(PRODUCTS, &url, "roads");
    let door = Faults::before(&url);
    let tunnel = Tunnel::before(&door.url(), &certificates);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    std::fs::copy(certificates.path("ca.pem"), folder.path().join("ca.pem")).unwrap();
    std::fs::copy(
        certificates.path("stranger.pem"),
        folder.path().join("stranger.pem"),
    )
    .unwrap();
    std::fs::write(folder.path().join("password"), "a good password\n").unwrap();
    std::fs::write(folder.path().join("wrong"), "a bad password\n").unwrap();
    let with = |more: &str| Product::new(folder.path(), &configuration("roads", &tunnel.url(), more));

    // Who signed it is not known: the system's authorities did not, nor did the stranger.
    for more in ["", "ca = \"stranger.pem\""] {
        let said = checked(&with(more));
        assert!(said.contains("engine_certificate"), "{more}: {said}");
    }
    door.demand(&[BASIC]);
    for more in [
        "ca = \"ca.pem\"",
        "ca = \"ca.pem\"\nuser = \"instep\"\npassword_file = \"wrong\"",
        "ca = \"ca.pem\"\napi_key = \"VuaCfGcBCdbkQm-e5aOx:ui2lp2axTNmsyakw9tvNnw\"",
    ] {
        let said = checked(&with(more));
        assert!(said.contains("engine_denied"), "{more}: {said}");
        assert!(
            !said.contains("a bad password") && !said.contains("ui2lp2"),
            "{said}"
        );
    }

    let basic = "ca = \"ca.pem\"\nuser = \"instep\"\npassword_file = \"password\"";
    let product = with(basic);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));

    // The key in place of the password, and a login that is taken back while it serves.
    door.demand(&[KEY]);
    let product = with("ca = \"ca.pem\"\napi_key = \"VuaCfGcBCdbkQm-e5aOx:ui2lp2axTNmsyakw9tvNnw\"");
    let server = product.serve();
    eventually("searches", Duration::from_secs(20), || {
        found(&server, "bicycle") > 0
    });
    let encoded = format!(
        "ca = \"ca.pem\"\napi_key = \"{}\"",
        KEY.trim_start_matches("ApiKey ")
    );
    assert!(
        !checked(&with(&encoded)).contains("engine_denied"),
        "the same, encoded"
    );
    door.demand(&[BASIC]);
    database
        .execute("update product set name = 'a zeppelin' where id = 1", [])
        .unwrap();
    eventually("the refusal to be named", Duration::from_secs(5), || {
        let set = &server.status(None)["sets"][0];
        set.to_string().contains("engine_denied")
    });
    // Given back, it goes on by itself.
    door.demand(&[KEY]);
    eventually("the change", Duration::from_secs(30), || {
        found(&server, "zeppelin") == 1
    });
    assert_eq!(server.stop(), Some(0));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}

/// A domain of Amazon OpenSearch Service lets in only who signs each request, and says why it does not.
#[test]
fn signed_for_aws() {
    let Some(url) = Node::any() else { return };
    let (_, _clean) = clusters::configuration(PRODUCTS, &url, "signed");
    // Far away, so that bodies are compressed: what is signed is what is sent.
    let door = Faults::far_before(&url);
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let at_door = configuration("signed", &door.url(), "aws_region = \"eu-west-1\"");
    if cfg!(not(feature = "aws")) {
        let said = checked(&Product::new(folder.path(), &at_door));
        assert!(said.contains("--features aws"), "{said}");
        eprintln!("SKIPPED signing for AWS: without the feature `aws` (cargo xtask test has it)");
        return;
    }
    let signatory = |region: &str, secret: &str| Signatory {
        access_key: "AKIDEXAMPLE".into(),
        secret: secret.into(),
        token: Some("a token+/=".into()),
        region: region.into(),
        service: "es".into(),
    };
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    std::fs::write(
        folder.path().join("credentials"),
        format!(
            "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {secret}\naws_session_token = a token+/=\n"
        ),
    )
    .unwrap();
    let with = |credentials: &str| {
        let product = Product::new(folder.path(), &at_door);
        let inherited = [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
        ];
        inherited
            .iter()
            .fold(product, |product, name| product.without(name))
            .with("AWS_SHARED_CREDENTIALS_FILE", credentials)
            .with("AWS_CONFIG_FILE", "none")
            .with("AWS_EC2_METADATA_DISABLED", "true")
    };
    let product = with("credentials");

    // Another region, another secret: refused, and nobody is told the secret.
    for wrong in [signatory("eu-west-2", secret), signatory("eu-west-1", "another")] {
        door.demand_signature(wrong);
        let said = checked(&product);
        assert!(said.contains("engine_denied") && !said.contains(secret), "{said}");
    }
    door.demand_signature(signatory("eu-west-1", secret));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
    let server = product.serve();
    assert!(found(&server, "bicycle") > 0);
    database
        .execute("update product set name = 'a zeppelin' where id = 1", [])
        .unwrap();
    eventually("the change", Duration::from_secs(30), || {
        found(&server, "zeppelin") == 1
    });
    assert_eq!(server.stop(), Some(0));

    // Nobody signs: that is named, with where it was looked for.
    let said = checked(&with("none"));
    assert!(
        said.contains("aws_credentials") && said.contains("AWS_ACCESS_KEY_ID"),
        "{said}"
    );
}

/// Shards and their copies lie on two nodes, any of which answers; a host that is dead is nobody's matter.
#[test]
fn two_nodes_with_shards_and_replicas() {
    let Some(nodes) = OwnNode::several("a cluster of two nodes", 2) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    database
        .execute_batch(
            "with recursive n(i) as (select 100 union all select i + 1 from n where i < 2599)
             insert into product (id, name, seller_id) select i, 'thing ' || i, 1 from n",
        )
        .unwrap();
    let rows: i64 = database
        .query_row("select count(*) from product", [], |row| row.get(0))
        .unwrap();
    let urls = nodes.urls();
    let more = |replicas: u32| {
        format!(
            "urls = [\"http://127.0.0.1:1\", \"{}\"]\n\
             settings = {{ number_of_shards = 3, number_of_replicas = {replicas}, refresh_interval = \"200ms\" }}",
            urls[1]
        )
    };
    let product = Product::new(folder.path(), &configuration("nodes", &urls[0], &more(1)));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
    eventually("each shard to have its copy", Duration::from_secs(30), || {
        let health = ask(&urls[1], "/_cluster/health/documents-*");
        health["status"] == json!("green") && health["active_shards"] == json!(6)
    });

    // Pages hold each document once, whichever copies answer.
    let server = product.serve();
    let mut names = std::collections::BTreeSet::new();
    let mut after = Value::Null;
    loop {
        let mut body = json!({ "size": 400, "sort": [{ "name": "asc" }], "_source": false });
        if !after.is_null() {
            body["search_after"] = after.clone();
        }
        let answer = server.send("POST", "/product/_search", None, Some(&body)).json();
        let hits = answer["hits"]["hits"].as_array().expect("hits").clone();
        let Some(last) = hits.last() else { break };
        after = last["sort"].clone();
        for hit in &hits {
            assert!(names.insert(hit["_id"].to_string()), "twice: {hit}");
        }
    }
    assert_eq!(names.len() as i64, rows);

    // Changes go on, and the copies are done without.
    database
        .execute(
            "update product set name = 'a zeppelin' where id between 200 and 299",
            [],
        )
        .unwrap();
    eventually("the changes", Duration::from_secs(30), || {
        found(&server, "zeppelin") == 100
    });
    assert_eq!(server.stop(), Some(0));
    let product = Product::new(folder.path(), &configuration("nodes", &urls[0], &more(0)));
    let server = product.serve();
    eventually("no copies", Duration::from_secs(30), || {
        ask(&urls[1], "/_cluster/health/documents-*")["active_shards"] == json!(3)
    });
    assert_eq!(found(&server, "zeppelin"), 100);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}

fn ask(url: &str, path: &str) -> Value {
    let address = url.trim_start_matches("http://").parse().unwrap();
    http::send(address, "GET", path, None, None).unwrap().json()
}

/// A job that runs by the clock must end, and say what it waited for.
#[test]
fn a_sync_that_is_given_a_time_ends_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let _database = shop::write(folder.path());
    let product = Product::new(folder.path(), &configuration("nowhere", "http://127.0.0.1:1", ""));
    let said = product.refused(&["sync", "--once", "--within", "3s"], 1);
    for part in [
        "the set waits",
        "not everything was indexed within 3 s",
        "set nowhere",
        "cannot be reached",
        "check its url",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = product.refused(&["sync", "--once", "--within", "soon"], 2);
    assert!(said.contains("is not a duration"), "{said}");
    let demo = product.refused(
        &[
            "demo",
            "--folder",
            "market",
            "--cars",
            "10",
            "--cluster",
            "http://127.0.0.1:1",
        ],
        1,
    );
    assert!(
        demo.contains("cannot be reached") && !demo.contains("curl"),
        "{demo}"
    );
}
