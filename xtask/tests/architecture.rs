//! ARCHITECTURE.md names files; this holds it to them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The paths a page names: words in backticks, outside of code blocks, that hold a `/` or end like a file.
///
/// Words with spaces, `<placeholders>`, `a::b` paths, routes (`/_count`) and globs are no paths of the tree.
fn paths(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).filter(|word| is_path(word)));
        }
    }
    found
}

fn is_path(word: &str) -> bool {
    let foreign =
        word.starts_with(['/', '-', '.']) && !word.starts_with(".ci") && !word.starts_with(".cargo");
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let file = [".rs", ".toml", ".md", ".sql"]
        .iter()
        .any(|ending| word.ends_with(ending));
    plain && !foreign && (word.contains('/') || file)
}

#[test]
fn every_path_that_architecture_names_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = paths(&page);
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names paths that do not exist: {missing:?}"
    );
    assert!(
        named.len() >= 10,
        "the page has a code map, so more than {} paths are expected",
        named.len()
    );
}

#[test]
fn every_crate_is_on_the_map() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = paths(&page);
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().join("Cargo.toml").exists() {
            let name = format!("crates/{}", entry.file_name().to_string_lossy());
            let mapped = named
                .iter()
                .any(|path| *path == name || path.starts_with(&format!("{name}/")));
            assert!(mapped, "{name} is missing from ARCHITECTURE.md");
        }
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            assert!(
                root().join(target).exists(),
                "{page} links to {target}, which does not exist"
            );
        }
    }
}

#[test]
fn words_are_told_from_paths() {
    let cases = [
        ("`crates/core`", vec!["crates/core"]),
        ("`deny.toml` and `.ci/run`", vec!["deny.toml", ".ci/run"]),
        (
            "`cargo xtask ci` `Policy` `instep_core::Error` `/_count` `<a>/<b>` `crates/*`",
            vec![],
        ),
        ("```\n`crates/none`\n```\n`xtask/src`", vec!["xtask/src"]),
    ];
    for (page, expected) in cases {
        assert_eq!(paths(page), expected, "{page}");
    }
}
