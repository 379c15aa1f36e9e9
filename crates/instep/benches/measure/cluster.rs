//! Documents into a real cluster: ours, and a loader that does nothing else.

use std::path::Path;
use std::sync::Mutex;

use instep_conformance::node::Node;
use serde_json::{Value, json};

use crate::http::Connection;
use crate::measure::{Engine, Home, block_on, configuration};
use crate::parts::{Cost, ours};

/// What ours makes, for the one collection in its one language,
const OURS: &str = "documents-main-artwork-en";
/// and what the loader makes.
const LOADED: &str = "loaded-artwork";
/// As many requests at once as ours has at most,
const CONNECTIONS: usize = 8;
/// each of so many documents.
const DOCUMENTS: usize = 1_000;

/// Where the cluster is.
pub(crate) fn url() -> String {
    Node::Opensearch.url().expect("cargo xtask bench starts a node")
}

fn remove(connection: &mut Connection, index: &str) {
    let path = format!("/{index}?ignore_unavailable=true");
    connection.json("DELETE", &path, "");
}

fn refresh(connection: &mut Connection, index: &str) -> u64 {
    connection.json("POST", &format!("/{index}/_refresh"), "");
    let count = connection.json("GET", &format!("/{index}/_count"), "");
    count["count"].as_u64().expect("a number")
}

/// Ours, from an empty state and without an index.
pub(crate) fn synchronised(folder: &Path, home: &Home) -> Value {
    let mut connection = Connection::open(&url());
    remove(&mut connection, OURS);
    let figures = block_on(ours(configuration(folder, Engine::Cluster, home, "")));
    assert_eq!(
        figures["documents"].as_u64(),
        Some(refresh(&mut connection, OURS)),
        "every document is there"
    );
    figures
}

/// The documents that are ready, in bulk requests over as many connections, into an index that is made like ours.
pub(crate) fn loaded(folder: &Path) -> Value {
    let mut connection = Connection::open(&url());
    remove(&mut connection, LOADED);
    let like = connection.json("GET", &format!("/{OURS}"), "");
    let like = &like[OURS];
    let mut mappings = like["mappings"].clone();
    mappings.as_object_mut().expect("an object").remove("_meta");
    let mut settings = json!({ "number_of_replicas": 0 });
    if let Some(analysis) = like["settings"]["index"].get("analysis") {
        settings["analysis"] = analysis.clone();
    }
    let made = json!({ "mappings": mappings, "settings": settings });
    connection.json("PUT", &format!("/{LOADED}"), &made.to_string());

    let text = std::fs::read_to_string(folder.join("ready")).expect("it was written before");
    let lines: Vec<&str> = text.lines().collect();
    let documents = lines.len() as u64 / 2;
    let chunks = Mutex::new(lines.chunks(2 * DOCUMENTS));
    let cost = Cost::begin();
    std::thread::scope(|threads| {
        for _ in 0..CONNECTIONS {
            threads.spawn(|| {
                let mut connection = Connection::open(&url());
                loop {
                    let chunk = chunks.lock().expect("nobody panicked").next();
                    let Some(chunk) = chunk else { return };
                    send(&mut connection, chunk);
                }
            });
        }
    });
    let seconds = cost.done();
    assert_eq!(
        refresh(&mut connection, LOADED),
        documents,
        "every document is there"
    );
    cost.end(documents, seconds)
}

/// One bulk request. Its documents hold what ours do, the object of ours among it.
fn send(connection: &mut Connection, lines: &[&str]) {
    let mut body = String::with_capacity(lines.iter().map(|line| line.len() + 120).sum());
    for pair in lines.chunks_exact(2) {
        let (id, source) = (pair[0], pair[1]);
        body.push_str(&format!(
            "{{\"index\":{{\"_id\":\"{id}\"}}}}\n{{\"_instep\":{{\"id\":\"{id}\",\"readers\":[\"*\"]}},"
        ));
        body.push_str(&source[1..]);
        body.push('\n');
    }
    let path = format!("/{LOADED}/_bulk?filter_path=errors");
    let (status, answer) = connection.ask(
        "POST",
        &path,
        "content-type: application/x-ndjson\r\n",
        body.as_bytes(),
    );
    let answer = String::from_utf8_lossy(&answer);
    assert!(status == 200 && answer.contains("false"), "{status} {answer}");
}
