//! `instep demo`, as a person runs it for the first time.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};

/// A running demo.
pub(crate) struct Market {
    pub(crate) server: Server,
    answer: Value,
}

impl Market {
    /// Starts a demo in a folder, which it makes, and waits until its index is filled.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Product::at(folder).command(&["demo", "--json", "--folder", "market"]);
        let notes = std::fs::File::create(folder.join("notes.txt")).unwrap();
        let server = Server::start(command.args(arguments).stderr(notes));
        let answer = server.said.clone();
        let market = Market { server, answer };
        eventually("the demo to be ready", Duration::from_secs(60), || {
            market
                .server
                .send("GET", "/_instep/health/ready", None, None)
                .status
                == 200
        });
        market
    }

    /// A key's secret.
    pub(crate) fn key(&self, name: &str) -> &str {
        self.answer["keys"][name]
            .as_str()
            .unwrap_or_else(|| panic!("{}", self.answer))
    }

    /// It was made with so many ads, and all that are open are found.
    fn holds_all_of(&self, folder: &Path, ads: i64) {
        let database = rusqlite::Connection::open(folder.join("market/market.db")).unwrap();
        let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let answer = self
            .server
            .send("GET", "/ad/_count", Some(self.key("staff")), None);
        let open = count("select count(*) from ad where state = 'open'");
        assert_eq!(
            (answer.json()["count"].as_i64(), count("select count(*) from ad")),
            (Some(open), ads)
        );
    }

    fn hits(&self, path: &str, key: Option<&str>, body: &Value) -> Value {
        let answer = self.server.send("POST", path, key, Some(body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["hits"].clone()
    }
}

#[test]
fn from_the_binary_to_the_first_hit() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let mut command = Product::at(folder.path()).command(&["demo", "--json", "--folder", "market"]);
    let server = Server::start(command.stderr(Stdio::null()));
    let served = began.elapsed();
    let staff = server.said["keys"]["staff"].as_str().unwrap().to_owned();
    let query = json!({ "query": { "match": { "title": "estate" } }, "size": 1 });
    eventually("the first hit", Duration::from_secs(60), || {
        let answer = server.send("POST", "/ad/_search", Some(&staff), Some(&query));
        answer.status == 200 && answer.json()["hits"]["hits"][0]["_source"]["title"].is_string()
    });
    let hit = began.elapsed();
    let database = rusqlite::Connection::open(folder.path().join("market/market.db")).unwrap();
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let open = count("select count(*) from ad where state = 'open'");
    assert!(open > 19_000 && count("select count(*) from ad") == 20_000);
    eventually("all open ads", Duration::from_secs(60), || {
        server.send("GET", "/ad/_count", Some(&staff), None).json()["count"] == json!(open)
    });
    let all = began.elapsed();
    let _ = writeln!(
        std::io::stderr(),
        "demo, debug build: serving after {served:.1?}, first hit after {hit:.1?}, all {open} open ads after {all:.1?}"
    );
    assert_eq!(server.stop(), Some(0), "SIGTERM is an ordinary end");
}

/// Runs a line as a person's shell would.
fn shell(line: &str) -> Value {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn the_lines_it_prints_do_what_they_say() {
    if Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED the demo's curl lines: there is no curl"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let market = Market::start(folder.path(), &["--cars", "2000"]);
    let lines: Vec<&str> = market.answer["try"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let [staff, dealer, buyer] = lines[..] else {
        panic!("{lines:?}")
    };
    let found = shell(staff);
    assert!(found["hits"]["total"]["value"].as_u64().unwrap() > 3, "{found}");
    assert_eq!(found["hits"]["hits"].as_array().unwrap().len(), 3);
    let makes = found["aggregations"]["makes"]["buckets"].as_array().unwrap();
    assert!(
        makes.len() > 1 && makes[0]["doc_count"].as_u64().unwrap() >= makes[1]["doc_count"].as_u64().unwrap()
    );
    let found = shell(dealer);
    assert!(
        found["hits"]["total"]["value"].as_u64().unwrap() > 0,
        "the dealer sees what is offered to the trade: {found}"
    );
    let body = found["hits"]["hits"][0]["_source"]["body"]
        .as_str()
        .unwrap()
        .to_lowercase();
    assert!(body.contains("trade only"), "{body}");
    let found = shell(buyer);
    assert_eq!(
        found["hits"]["total"],
        json!({ "value": 0, "relation": "eq" }),
        "{found}"
    );

    // The same lines are told to people who read no JSON.
    let mut said = String::new();
    let other = tempfile::tempdir().unwrap();
    let mut child = Product::at(other.path())
        .command(&["demo", "--cars", "50"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    for line in std::io::BufRead::lines(out).map_while(Result::ok) {
        said.push_str(&format!("{line}\n"));
        if line.contains("ctrl-c") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        said.contains("serving on http://127.0.0.1:") && said.matches("\ncurl -s http://").count() == 3,
        "{said}"
    );
    assert!(
        other.path().join("instep-demo/instep.toml").is_file(),
        "the folder it names is there"
    );
}

/// What its configuration shows: a condition, languages, rules, deny, an expression; all of it is what SQL says.
#[test]
fn who_sees_what_and_in_which_language() {
    let folder = tempfile::tempdir().unwrap();
    let market = Market::start(folder.path(), &["--cars", "3000"]);
    let database = rusqlite::Connection::open(folder.path().join("market/market.db")).unwrap();
    let count = |sql: &str| {
        let sql = format!("select count(*) from ad where state = 'open' and {sql}");
        json!(database.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap())
    };
    let found = |path: &str, key: &str| {
        let answer = market.server.send("GET", path, Some(market.key(key)), None);
        answer.json()["count"].clone()
    };
    let blocked = "seller_id in (select seller_id from block)";
    let names = |names: &str| format!("exists (select 1 from json_each(readers) where value in ({names}))");
    assert_eq!(found("/ad/_count", "staff"), count(&names("'everyone', 'staff'")));
    assert_eq!(
        found("/ad/_count", "dealer"),
        count(&format!("{} and not {blocked}", names("'everyone', 'dealers'")))
    );
    assert_ne!(count(blocked), json!(0));
    assert_eq!(
        found("/ad/_count", "seller"),
        count(&format!("({} or seller_id = 1)", names("'everyone'")))
    );
    for language in ["en", "sv", "de"] {
        let expected = count(&format!("lang = '{language}'"));
        assert_eq!(
            found(&format!("/ad-{language}/_count"), "staff"),
            expected,
            "{language}"
        );
    }
    let hp = json!({ "size": 1, "query": { "range": { "car.power_hp": { "gte": 100 } } } });
    let hits = market.hits("/ad/_search", Some(market.key("staff")), &hp);
    let car = &hits["hits"][0]["_source"]["car"];
    let hp = (car["power_kw"].as_f64().unwrap() * 1.35962).round();
    assert_eq!(car["power_hp"].as_f64(), Some(hp), "{car}");
    let product = Product::at(&folder.path().join("market"));
    assert_eq!(product.json(&["verify"])["differences"], 0);
    assert_eq!(market.server.stop(), Some(0));
}

#[test]
fn the_same_seed_gives_the_same_rows() {
    let bytes = |seed: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Product::at(folder.path()).command(&["demo", "--json", "--folder", "market"]);
        let server = Server::start(
            command
                .args(["--cars", "300", "--seed", seed])
                .stderr(Stdio::null()),
        );
        drop(server);
        // Without what instep adds to follow it.
        let database = rusqlite::Connection::open(folder.path().join("market/market.db")).unwrap();
        let tables = database
            .prepare("select name from sqlite_schema where type = 'table' and name not like '%instep%' and name not like 'sqlite%' order by name")
            .unwrap()
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let mut rows = BTreeMap::new();
        for table in tables {
            let mut statement = database.prepare(&format!("select * from \"{table}\"")).unwrap();
            let width = statement.column_count();
            let all: Vec<Vec<rusqlite::types::Value>> = statement
                .query_map([], |row| (0..width).map(|at| row.get(at)).collect())
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            rows.insert(table, all);
        }
        rows
    };
    let (first, again, other) = (bytes("7"), bytes("7"), bytes("8"));
    assert!(
        first["ad"].len() == 300 && first["car"].len() == 300,
        "{:?}",
        first.keys()
    );
    assert!(first == again, "the same seed");
    assert!(first != other, "another seed");
}

#[test]
fn live_changes_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let market = Market::start(folder.path(), &["--cars", "200", "--live"]);
    let database = rusqlite::Connection::open(folder.path().join("market/market.db")).unwrap();
    // Beside the running demo, as a person would look.
    let product = Product::at(&folder.path().join("market"));
    let state = || product.json(&["status"])["sets"][0].clone();
    let before = state()["counts"]["touches"].as_u64().unwrap();
    // `ad 17: price 9900.00 → 9100.00 (…)` is what can be searched a moment later.
    let mut told = None;
    eventually("a price to change", Duration::from_secs(30), || {
        let notes = std::fs::read_to_string(folder.path().join("notes.txt")).unwrap();
        told = notes.lines().rev().find_map(|line| {
            let (ad, rest) = line.split_once("\"ad ")?.1.split_once(": price ")?;
            let (before, after) = rest.split_once(" (")?.0.split_once(" → ")?;
            Some((
                ad.to_owned(),
                before.parse::<f64>().ok()?,
                after.parse::<f64>().ok()?,
            ))
        });
        told.is_some()
    });
    let (ad, old, new) = told.unwrap();
    assert_ne!(old, new);
    eventually("the price it printed to be found", Duration::from_secs(5), || {
        let found = market
            .server
            .send("GET", &format!("/ad/_doc/{ad}"), Some(market.key("staff")), None);
        found.json()["_source"]["price"] == json!(new)
    });
    eventually(
        "five changes to be made and indexed",
        Duration::from_secs(30),
        || {
            let set = state();
            assert_eq!(set["conserved"], json!(true), "{set}");
            set["counts"]["touches"].as_u64().unwrap() >= before + 5
        },
    );
    // What the rows say now is what is found, ad by ad.
    eventually(
        "the index to say what the rows say",
        Duration::from_secs(20),
        || {
            let rows: BTreeMap<String, String> = database
                .prepare("select id, title from ad where state = 'open'")
                .unwrap()
                .query_map([], |row| Ok((row.get::<_, i64>(0)?.to_string(), row.get(1)?)))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let body = json!({ "size": 1000, "_source": ["title"] });
            let staff = market.hits("/ad/_search", Some(market.key("staff")), &body);
            let found: BTreeMap<String, String> = staff["hits"]
                .as_array()
                .unwrap()
                .iter()
                .map(|hit| {
                    (
                        hit["_id"].as_str().unwrap().to_owned(),
                        hit["_source"]["title"].as_str().unwrap().to_owned(),
                    )
                })
                .collect();
            !rows.is_empty()
                && found.iter().all(|(id, title)| rows.get(id) == Some(title))
                && found.len() + 5 > rows.len()
        },
    );
    assert_eq!(market.server.stop(), Some(0));
}

#[test]
fn a_second_demo_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let product = Product::at(folder.path());
    let demo = ["demo", "--folder", "market", "--cars", "50"];
    let market = Market::start(folder.path(), &["--cars", "50"]);
    let said = product.refused(&demo, 1);
    assert!(said.contains("instep-state") && said.contains("next: "), "{said}");
    market.holds_all_of(folder.path(), 50);
    assert_eq!(market.server.stop(), Some(0));
    // It is over: the folder is taken again.
    let market = Market::start(folder.path(), &["--cars", "60"]);
    market.holds_all_of(folder.path(), 60);
    drop(market);
    // What no demo wrote is not touched.
    std::fs::write(folder.path().join("market/thesis.txt"), "years of work").unwrap();
    let said = product.refused(&demo, 2);
    assert!(said.contains("thesis.txt") && said.contains("--folder"), "{said}");
    assert!(folder.path().join("market/market.db").is_file());
}
