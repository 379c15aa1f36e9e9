//! The same searches on the embedded engine, on OpenSearch directly, and on OpenSearch through the gateway, in turns:
//! latency, requests per second, CPU. Access control is on: the gateway by its key, OpenSearch by a filter in the request.
//! Beside them OpenSearch with a process between that reads nothing and passes every byte on: what any hop costs here.
//!
//! `cargo xtask bench search [--requests N] [--together] [--json]`
//!
//! The node has cores of its own unless `--together` says otherwise.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use instep_conformance::node::Node;
use rusqlite::Connection as Database;
use serde_json::{Value, json};

#[path = "measure/apart.rs"]
mod apart;
#[path = "measure/http.rs"]
mod http;
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod measure;
#[path = "measure/process.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod process;
#[path = "../tests/support/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared with the tests"
)]
mod support;

use http::Connection;
use measure::machine;
use support::product::{Product, Server};
use support::tate;

/// The index of the collection in the cluster.
const INDEX: &str = "documents-measured-artwork-en";
/// The gateway's median over the direct one's.
const LIMIT: f64 = 1.10;
/// Requests that run at once.
const CONCURRENCIES: [usize; 2] = [1, 8];
/// Requests of one turn. Targets take turns, so that what changes on the machine meanwhile concerns all of them.
const TURN: usize = 100;
/// Turns of each search before anything is measured.
const WARM_UP: usize = 120;
/// Words that are searched.
const WORDS: usize = 300;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    let requests = arguments.value("--requests").map_or(2_000, |requests| {
        requests.parse().expect("--requests takes a number")
    });
    let as_json = arguments.flag("--json");
    let together = arguments.flag("--together");
    arguments.end("--requests N, --together, --json");
    let (Some(data), Some(node)) = (tate::folder("bench search"), Node::Opensearch.url()) else {
        return;
    };
    let machine = machine::describe();
    let cores = match together {
        true => "the node shares its cores with everything else".to_owned(),
        false => apart::leave_cores(),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let words = rows(&data, folder.path());
    let mut connection = Connection::open(&node);
    connection.json("DELETE", &format!("/{INDEX}?ignore_unavailable=true"), "");
    let embedded = serve(folder.path(), "embedded", "");
    let cluster = format!(
        "[cluster.main]\nurl = \"{node}\"\nsettings = {{ number_of_replicas = 0 }}\n[set.measured]\nactive = true\n"
    );
    let gateway = serve(folder.path(), "gateway", &cluster);
    connection.json("POST", &format!("/{INDEX}/_forcemerge?max_num_segments=1"), "");
    let process = apart::process_of(&node);
    let direct = |name, url| Target {
        name,
        url,
        path: format!("/{INDEX}/_search"),
        headers: "content-type: application/json\r\n".to_owned(),
        process: None,
        node: Some(process),
    };
    let targets = [
        direct("OpenSearch, directly", node.clone()),
        direct("OpenSearch, bytes passed on", passing_on(&node)),
        Target::ours("OpenSearch, through the gateway", &gateway, Some(process)),
        Target::ours("embedded, through the gateway", &embedded, None),
    ];
    // Java compiles what runs often, on all the cores there are.
    for search in Search::ALL {
        for turn in 0..WARM_UP {
            for target in &targets {
                one_turn(search, 8, turn * TURN, &words, target);
            }
        }
    }
    if !together {
        apart::take_cores(&node);
    }
    for process in [process, gateway.id(), embedded.id()] {
        rest(process);
    }
    let mut measured = Vec::new();
    for search in Search::ALL {
        agree(search, &words, &targets);
        for concurrency in CONCURRENCIES {
            measured.extend(measure(search, concurrency, requests, &words, &targets));
        }
    }
    if as_json {
        let figures: Vec<Value> = measured.iter().map(Measured::json).collect();
        println!(
            "{}",
            json!({ "bench": "search", "machine": machine, "documents": tate::ARTWORKS, "requests": requests,
            "cores": cores, "figures": figures })
        );
        return;
    }
    println!(
        "Tate Collection, {} documents, of which a caller sees nine in ten; {}",
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!("{requests} requests of each kind to each, in turns of {TURN}; {cores}\n");
    let rows: Vec<_> = measured.iter().map(Measured::row).collect();
    println!("{}", measure::table(&Measured::HEAD, &rows));
    println!(
        "\nlimit of the ratio: {LIMIT}; load {} at the end",
        machine::load()
    );
}

/// Writes the Tate into the folder, with readers for each artwork. Words of its titles, of middling frequency.
fn rows(data: &Path, folder: &Path) -> Vec<String> {
    let database: Database = tate::load(data, &folder.join("tate.db"));
    database
        .execute_batch(
            "alter table artwork add column readers text;
             update artwork set readers = iif(id % 10 = 0, '[\"staff\"]', '[\"everyone\"]');",
        )
        .expect("the table is there");
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut titles = database
        .prepare("select title from artwork where title is not null")
        .expect("a statement");
    let titles = titles
        .query_map([], |row| row.get::<_, String>(0))
        .expect("it runs");
    for title in titles {
        let title = title.expect("a text").to_lowercase();
        for word in title.split(|c: char| !c.is_ascii_alphabetic()) {
            if word.len() > 4 {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    let mut words: Vec<(usize, String)> = counts
        .into_iter()
        .filter(|(_, count)| (20..2_000).contains(count))
        .map(|(word, count)| (count, word))
        .collect();
    words.sort();
    let step = (words.len() / WORDS).max(1);
    words.into_iter().step_by(step).map(|(_, word)| word).collect()
}

/// The product with this cluster, its index filled, with a key that sees what everybody may see.
fn serve(folder: &Path, name: &str, cluster: &str) -> Server {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).expect("a folder");
    let collection = tate::COLLECTION.replace("public   = true", "readers  = \"readers\"");
    let text = format!(
        "[source.tate]\nurl = \"sqlite:../tate.db\"\n{collection}\n{cluster}\n\
         [key.reader]\nsecret = \"a-key-of-the-benchmark\"\nsubject = \"reader\"\nunits = [\"everyone\"]\nscopes = [\"search\"]\n"
    );
    let product = Product::new(&folder, &text);
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    product.serve()
}

/// The address of a hop that passes bytes on and reads none of them.
fn passing_on(node: &str) -> String {
    let node = node.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let server = TcpStream::connect(&node).expect("the node listens");
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("a socket");
            }
            for (mut from, mut to) in [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))]
                .map(|(from, to)| (from.expect("a socket"), to.expect("a socket")))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    address.to_string()
}

/// Who is asked.
struct Target {
    name: &'static str,
    url: String,
    path: String,
    headers: String,
    /// Our process, where one is between.
    process: Option<u32>,
    /// The process of the node, where there is one behind it.
    node: Option<u32>,
}

/// CPU time of a process so far, in microseconds.
fn used(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    process::used(&stat)
}

/// Waits until a process takes next to nothing: it may have a start, or a load, to get over.
fn rest(process: u32) {
    for _ in 0..120 {
        let before = used(process);
        std::thread::park_timeout(Duration::from_millis(500));
        if used(process) - before <= 20_000 {
            return;
        }
    }
    panic!("process {process} does not come to rest");
}

impl Target {
    fn ours(name: &'static str, server: &Server, node: Option<u32>) -> Target {
        Target {
            name,
            url: server.address.to_string(),
            path: "/artwork/_search".to_owned(),
            headers: "content-type: application/json\r\nauthorization: Bearer a-key-of-the-benchmark\r\n"
                .to_owned(),
            process: Some(server.id()),
            node,
        }
    }

    fn is_direct(&self) -> bool {
        self.process.is_none()
    }

    /// CPU time so far of our process, in microseconds.
    fn our_cpu(&self) -> u64 {
        self.process.map_or(0, used)
    }

    /// The same of the node.
    fn node_cpu(&self) -> u64 {
        self.node.map_or(0, used)
    }

    /// The request's body. The product adds what a caller may see; directly it is a filter of the request.
    fn body(&self, search: Search, word: &str) -> String {
        let mut body = search.body(word);
        if self.is_direct() {
            let query = body["query"].take();
            body["query"] = json!({ "bool": { "must": [query],
                "filter": [{ "terms": { "_instep.readers": ["*", "=everyone", "=reader", "@reader"] } }],
                "must_not": [{ "terms": { "_instep.readers": ["!=everyone", "!=reader", "!@reader"] } }] } });
        }
        body.to_string()
    }
}

/// What is asked.
#[derive(Clone, Copy)]
enum Search {
    /// A page as people see it: twenty hits for either of two words within a condition, and two facets. About a millisecond.
    Page,
    /// The first twenty hits for a word.
    Word,
    /// The same within conditions, sorted.
    Filtered,
    /// Facets of what a word finds.
    Facets,
}

impl Search {
    const ALL: [Search; 4] = [Search::Page, Search::Word, Search::Filtered, Search::Facets];

    fn name(self) -> &'static str {
        match self {
            Search::Page => "a page",
            Search::Word => "a word",
            Search::Filtered => "filtered, sorted",
            Search::Facets => "facets",
        }
    }

    fn body(self, word: &str) -> Value {
        let found = json!({ "match": { "title": word } });
        match self {
            Search::Page => json!({
                "query": { "bool": {
                    "must": [{ "match": { "title": format!("{word} landscape") } }],
                    "filter": [{ "range": { "start_year": { "gte": 1700 } } }] } },
                "size": 20,
                "aggs": { "kind": { "terms": { "field": "classification" } }, "subject": { "terms": { "field": "subjects" } } } }),
            Search::Word => json!({ "query": found, "size": 20 }),
            Search::Filtered => json!({
                "query": { "bool": { "must": [found], "filter": [{ "range": { "start_year": { "gte": 1800 } } }] } },
                "sort": [{ "start_year": "asc" }, { "acno": "asc" }], "size": 10 }),
            Search::Facets => json!({
                "query": found, "size": 0,
                "aggs": { "kind": { "terms": { "field": "classification" } } } }),
        }
    }
}

/// All find as many, and what one index answers is the same however it is asked: otherwise nothing would be compared.
fn agree(search: Search, words: &[String], targets: &[Target]) {
    for word in words.iter().step_by(10) {
        let told: Vec<Value> = targets
            .iter()
            .map(|target| {
                let (status, body) = Connection::open(&target.url).ask(
                    "POST",
                    &target.path,
                    &target.headers,
                    target.body(search, word).as_bytes(),
                );
                let answer: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(status, 200, "{answer}");
                let hits = answer["hits"]["hits"].as_array().expect("hits").iter();
                let ids: Vec<&Value> = hits.map(|hit| &hit["_id"]).collect();
                json!([answer["hits"]["total"], ids, answer["aggregations"]])
            })
            .collect();
        for (target, one) in targets.iter().zip(&told) {
            assert_eq!(one[0], told[0][0], "`{word}`, {}", target.name);
            if target.node.is_some() {
                assert_eq!(one, &told[0], "`{word}`, {}", target.name);
            }
        }
    }
}

/// One target at one concurrency.
struct Measured {
    search: Search,
    target: &'static str,
    concurrency: usize,
    /// Milliseconds, sorted.
    times: Vec<f64>,
    per_second: f64,
    our_cpu_us: f64,
    node_cpu_us: f64,
    ratio: Option<f64>,
}

impl Measured {
    const HEAD: [&str; 9] = [
        "",
        "asked",
        "at once",
        "p50 ms",
        "p99 ms",
        "requests/s",
        "our CPU µs",
        "node's CPU µs",
        "p50 over direct",
    ];

    fn at(&self, share: f64) -> f64 {
        let place = (self.times.len() as f64 * share) as usize;
        self.times[place.min(self.times.len() - 1)]
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.search.name().to_owned(),
            self.target.to_owned(),
            self.concurrency.to_string(),
            format!("{:.2}", self.at(0.5)),
            format!("{:.2}", self.at(0.99)),
            format!("{:.0}", self.per_second),
            format!("{:.0}", self.our_cpu_us),
            format!("{:.0}", self.node_cpu_us),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        json!({ "search": self.search.name(), "target": self.target, "concurrency": self.concurrency,
            "p50_ms": self.at(0.5), "p99_ms": self.at(0.99), "requests_per_second": self.per_second,
            "our_cpu_us": self.our_cpu_us, "node_cpu_us": self.node_cpu_us, "ratio": self.ratio })
    }
}

fn measure(
    search: Search,
    concurrency: usize,
    requests: usize,
    words: &[String],
    targets: &[Target],
) -> Vec<Measured> {
    let mut measured: Vec<Measured> = targets
        .iter()
        .map(|target| Measured {
            search,
            target: target.name,
            concurrency,
            times: Vec::new(),
            per_second: 0.0,
            our_cpu_us: 0.0,
            node_cpu_us: 0.0,
            ratio: None,
        })
        .collect();
    let mut seconds = vec![0.0; targets.len()];
    for turn in 0..1 + requests.div_ceil(TURN) {
        for (place, target) in targets.iter().enumerate() {
            let cpu = (target.our_cpu(), target.node_cpu());
            let (times, took) = one_turn(search, concurrency, turn * TURN, words, target);
            // The first turn is for what the former search left in caches.
            if turn == 0 {
                continue;
            }
            let one = &mut measured[place];
            one.times.extend(times);
            one.our_cpu_us += (target.our_cpu() - cpu.0) as f64;
            one.node_cpu_us += (target.node_cpu() - cpu.1) as f64;
            seconds[place] += took;
        }
    }
    for (one, seconds) in measured.iter_mut().zip(seconds) {
        let count = one.times.len() as f64;
        one.times.sort_by(f64::total_cmp);
        one.per_second = count / seconds;
        one.our_cpu_us /= count;
        one.node_cpu_us /= count;
    }
    let direct = measured[0].at(0.5);
    for one in &mut measured[1..] {
        one.ratio = Some(one.at(0.5) / direct);
    }
    measured
}

/// The milliseconds of each request, and the seconds of all.
fn one_turn(
    search: Search,
    concurrency: usize,
    first: usize,
    words: &[String],
    target: &Target,
) -> (Vec<f64>, f64) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let times = std::thread::scope(|threads| {
        let workers: Vec<_> = (0..concurrency)
            .map(|_| {
                threads.spawn(|| {
                    let mut connection = Connection::open(&target.url);
                    let mut times = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= TURN {
                            return times;
                        }
                        let body = target.body(search, &words[(first + at) % words.len()]);
                        let since = Instant::now();
                        let (status, _) =
                            connection.ask("POST", &target.path, &target.headers, body.as_bytes());
                        times.push(since.elapsed().as_secs_f64() * 1_000.0);
                        assert_eq!(status, 200, "{}", target.name);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker ends"))
            .collect()
    });
    (times, began.elapsed().as_secs_f64())
}
