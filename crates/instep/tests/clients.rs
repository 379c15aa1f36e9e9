//! The official Python clients against the demo: they connect, search, page, and understand a refusal.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use instep_conformance::node::Node;

use serde_json::json;

use crate::clusters::remove_demo;
use crate::demo::Market;
use crate::support::product::Product;

/// The clients: what `clients.py` calls them, and the variable that says where they are installed.
const CLIENTS: [(&str, &str); 4] = [
    ("elasticsearch", "INSTEP_PY_ES7"),
    ("elasticsearch", "INSTEP_PY_ES8"),
    ("elasticsearch", "INSTEP_PY_ES9"),
    ("opensearch", "INSTEP_PY_OS"),
];

#[allow(
    clippy::disallowed_methods,
    reason = "tests learn from the environment where the clients lie"
)]
fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    if value.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED the official clients of {name}: the variable is not set (cargo xtask test sets it)"
        );
    }
    value
}

/// Runs the script with one client; its closing line.
fn drive(python: &Path, folder: &Path, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients.py");
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", folder)
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn official_clients_connect_search_page_and_are_refused_properly() {
    let Some(python) = variable("INSTEP_PYTHON") else {
        return;
    };
    let installed: Vec<_> = CLIENTS
        .iter()
        .filter_map(|(kind, name)| Some((*kind, variable(name)?)))
        .collect();
    if installed.is_empty() {
        return;
    }
    drive_all(&python, &installed, None);
    if let Some(cluster) = Node::any() {
        drive_all(&python, &installed, Some(&cluster));
    }
}

/// Every client that is installed, on a market in the embedded engine or in a cluster.
fn drive_all(python: &Path, installed: &[(&str, PathBuf)], cluster: Option<&str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut arguments = vec!["--cars", "1200"];
    arguments.extend(cluster.into_iter().flat_map(|url| ["--cluster", url]));
    let market = Market::start(folder.path(), &arguments);
    // Which sees to it that everything can be searched.
    let verified = Product::at(&folder.path().join("market")).json(&["verify"]);
    assert_eq!(verified["differences"], json!(0), "{verified}");
    let url = format!("http://{}", market.server.address);
    let count = |path: &str, key: Option<&str>| {
        let answer = market.server.send("GET", path, key, None);
        answer.json()["count"]
            .as_u64()
            .unwrap_or_else(|| panic!("{}", answer.body))
    };
    let dealer = market.key("dealer");
    let (ads, seen) = (
        count("/ad/_count", Some(market.key("staff"))),
        count("/ad/_count", Some(dealer)),
    );
    assert!(
        seen > 500 && seen < ads,
        "the dealer needs several pages, and sees {seen} of {ads}"
    );
    let sellers = count("/seller/_count", None);
    assert!(sellers > 10);
    for (kind, folder) in installed {
        let with_key = drive(
            python,
            folder,
            &[kind, &url, "ad", "price", &seen.to_string(), "dealer", dealer],
        );
        assert!(
            with_key.contains(&format!("{seen} documents paged, the unknown clause refused")),
            "{with_key}"
        );
        let without = drive(
            python,
            folder,
            &[kind, &url, "seller", "city", &sellers.to_string()],
        );
        assert!(
            without.contains(&format!("{sellers} documents paged")),
            "{without}"
        );
        let _ = write!(std::io::stderr(), "with a key: {with_key}without:    {without}");
    }
    if let Some(url) = cluster {
        drop(market);
        remove_demo(url, folder.path());
    }
}
