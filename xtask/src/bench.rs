//! `cargo xtask bench`: builds in release and measures; the figures themselves are the benchmarks' subject.

use clap::{Args, ValueEnum};

use crate::command::{self, Failure};
use crate::node::{Kind, Life, Node};
use crate::surroundings::Surroundings;

#[derive(Args)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum)]
    benchmark: Benchmark,
    /// Passed on to the benchmark.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// First synchronisation: documents per second, CPU per document, memory.
    Sync,
    /// From a commit to its acknowledgement and to being found.
    Latency,
    /// A row that many documents contain is renamed: until all are indexed, and what a single change takes meanwhile.
    Fanout,
    /// Changes per second from Postgres into the log.
    Stream,
    /// Searches on the embedded engine, on OpenSearch, and on OpenSearch through the gateway.
    Search,
}

/// Runs one benchmark, with the real data when it is there.
pub(crate) fn run(around: &Surroundings, options: &Options) -> Result<(), Failure> {
    let name = match options.benchmark {
        Benchmark::Sync => "sync",
        Benchmark::Latency => "latency",
        Benchmark::Fanout => "fanout",
        Benchmark::Stream => "stream",
        Benchmark::Search => "search",
    };
    let mut command = around.cargo(&["bench", "--package", "instep", "--bench", name, "--"]);
    command.args(&options.arguments);
    match &around.data {
        Some(folder) => {
            command.env("INSTEP_DATA", folder);
        }
        None => eprintln!("no ../shared/data beside the project: figures on real data are left out"),
    }
    let needs_node = options.benchmark == Benchmark::Search
        || options
            .arguments
            .iter()
            .any(|argument| argument.starts_with("--engine"));
    // It ends with this function.
    let _node = match needs_node {
        true => {
            // Built before, so that no compiler is measured beside a node that warms up.
            let mut build = around.cargo(&["bench", "--package", "instep", "--bench", name, "--no-run"]);
            command::run("build", &mut build)?;
            let node = Node::start(Kind::Opensearch, around, Life::Ours)?;
            command.env(Kind::Opensearch.variable(), &node.url);
            Some(node)
        }
        false => None,
    };
    command::run(name, &mut command)
}
