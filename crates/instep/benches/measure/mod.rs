//! What the benchmarks share: their arguments, the Tate Collection behind a configuration, the machine, tables.

pub(crate) mod machine;

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use instep::config::Config;
use instep::wiring::{Access, Parts};
use instep_core::Result;

use crate::tate;

/// Says how a benchmark was started. `cargo test --all-targets` runs it without `--bench`: then there is nothing to do.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    /// The arguments of a process that is to measure; `None` when it is not.
    pub(crate) fn of_process() -> Option<Arguments> {
        let mut given: Vec<String> = std::env::args().skip(1).collect();
        let before = given.len();
        given.retain(|argument| argument != "--bench");
        (given.len() < before).then_some(Arguments(given))
    }

    /// Takes a flag out.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|argument| argument != name);
        self.0.len() < before
    }

    /// Takes `--name value` out.
    pub(crate) fn value(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|argument| argument == name)?;
        assert!(at + 1 < self.0.len(), "{name} needs a value");
        self.0.remove(at);
        Some(self.0.remove(at))
    }

    /// Refuses what nobody took.
    pub(crate) fn end(self, known: &str) {
        assert!(
            self.0.is_empty(),
            "unknown arguments {:?}; there are: {known}",
            self.0
        );
    }
}

/// Where documents go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Null,
    Embedded,
    /// The node that `cargo xtask bench` started.
    #[allow(dead_code, reason = "one benchmark goes there")]
    Cluster,
}

impl Engine {
    /// Its name in a configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Null => "null",
            Engine::Embedded => "embedded",
            Engine::Cluster => "opensearch",
        }
    }

    fn section(self) -> String {
        match self {
            Engine::Null | Engine::Embedded => format!("engine = \"{}\"", self.name()),
            Engine::Cluster => {
                let url = instep_conformance::node::Node::Opensearch.url();
                let url = url.expect("cargo xtask bench starts a node");
                format!("url = \"{url}\"\nsettings = {{ number_of_replicas = 0 }}")
            }
        }
    }
}

/// Where the Tate's rows are.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// `tate.db` in the folder of the run.
    Sqlite,
    /// The Postgres database of this URL.
    Postgres(String),
}

impl Home {
    /// What a process that was started with `--url` is to read.
    pub(crate) fn of(arguments: &mut Arguments) -> Home {
        arguments.value("--url").map_or(Home::Sqlite, Home::Postgres)
    }

    fn url(&self) -> &str {
        match self {
            Home::Sqlite => "sqlite:tate.db",
            Home::Postgres(url) => url,
        }
    }
}

/// The configuration of the Tate's documents: state in this folder, one set on this engine. `more`: further
/// collections.
pub(crate) fn configuration(folder: &Path, engine: Engine, home: &Home, more: &str) -> Config {
    parsed(folder, text(engine, home, more))
}

/// The text of it.
pub(crate) fn text(engine: Engine, home: &Home, more: &str) -> String {
    let (name, url) = (engine.name(), home.url());
    format!(
        "[state]\npath = \"{name}-state\"\n[source.tate]\nurl = \"{url}\"\n{}{more}\n\
         [cluster.measured]\n{}\n[set.main]\ncluster = \"measured\"\nactive = true\n",
        tate::COLLECTION,
        engine.section()
    )
}

/// A configuration of the folder's.
pub(crate) fn parsed(folder: &Path, text: String) -> Config {
    Config::parse(&folder.join("instep.toml"), text, &|_| None).expect("the configuration is valid")
}

/// Everything opened, with an empty state.
pub(crate) async fn open(config: Config) -> Result<Parts> {
    if config.state.exists() {
        std::fs::remove_dir_all(&config.state).expect("an earlier run's state can be removed");
    }
    Parts::open(config, Access::Owner).await
}

/// Runs what the product runs in, with its runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A table as text: the first column to the left, figures to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
