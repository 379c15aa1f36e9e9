//! `cargo xtask test`: every test, and everything the tests need.
//!
//! What a test needs beyond the workspace reaches it by environment variables, set only when the thing is there:
//! `INSTEP_DATA` (the real data sets), `INSTEP_POSTGRES` (the folder of Postgres's programs), `INSTEP_PYTHON` (an
//! interpreter) and `INSTEP_PY_ES7`, `_ES8`, `_ES9`, `_OS` (folders for `PYTHONPATH`, one per official client),
//! `INSTEP_TEST_OPENSEARCH`, `_OPENSEARCH2`, `_ELASTICSEARCH` (addresses of search nodes, started once for all tests and
//! stopped at the end, however it comes). A test without its variable skips and says so; the summary lists what was skipped. `INSTEP_LONG=1` asks tests that have a
//! long variant for it.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Args;

use crate::clients;
use crate::command::{self, Failure};
use crate::needs::{self, C_COMPILER, Consent, JAVA, MAVEN, OPENSSL, POOLER, POSTGRES, PYTHON};
use crate::node::{self, Life, Node};
use crate::postgres;
use crate::surroundings::Surroundings;
use crate::tally::Tally;

/// How long output may go on after the tests ended, in case one left a process behind that holds the pipe.
const STRAGGLERS: Duration = Duration::from_secs(10);

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Install what is missing without asking.
    #[arg(long, conflicts_with = "no_install")]
    yes: bool,
    /// Install nothing; tests whose needs are missing are skipped.
    #[arg(long)]
    no_install: bool,
    /// Test only this package; may be given more than once.
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Run tests that have a short and a long variant in the long one: minutes of writers, dozens of kills.
    #[arg(long)]
    long: bool,
    /// Run only the tests whose name contains this.
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// What follows when tests would be skipped for want of a database.
    #[arg(skip)]
    without_database: WithoutDatabase,
}

/// What follows when the tests of a database cannot run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WithoutDatabase {
    /// They are skipped, and the summary says so.
    #[default]
    Skip,
    /// The run fails before it begins: what it checks would be too little to merge on.
    Fail,
}

impl Options {
    /// Whether tests on search nodes may be among those that were chosen.
    fn may_index_into_clusters(&self) -> bool {
        const INDEXING: [&str; 2] = ["instep", "instep-elastic"];
        self.package.is_empty() || self.package.iter().any(|name| INDEXING.contains(&name.as_str()))
    }

    /// All tests in their short variants, none skipped for want of a database.
    pub(crate) fn before_merging() -> Self {
        Self {
            without_database: WithoutDatabase::Fail,
            ..Self::default()
        }
    }
}

/// Runs the tests and prints a summary; fails when a test failed or something did not build.
pub(crate) fn run(around: &Surroundings, options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    around.check_postgres()?;
    let consent = Consent::decide(options.yes, options.no_install, around.audience);
    let needed = [&C_COMPILER, &PYTHON, &POSTGRES, &POOLER, &OPENSSL, &JAVA, &MAVEN];
    if let Err(failure) = needs::provide(around, &needed, consent) {
        // What is still missing decides below; much of it can be done without.
        eprintln!("\n{failure}");
    }
    if !C_COMPILER.is_met(around) {
        return Err(Failure::new("without a C compiler nothing can be built"));
    }

    let mut variables = Vec::new();
    let mut notes = Vec::new();
    let mut skipped = Vec::new();
    if !PYTHON.is_met(around) {
        skipped.push("the official search clients: Python 3 with venv is missing".to_owned());
    } else {
        let installed = clients::install(&around.target, consent);
        variables.extend(installed.variables);
        if !installed.versions.is_empty() {
            notes.push(format!("clients    {}", installed.versions.join(", ")));
        }
        skipped.extend(
            installed
                .missing
                .into_iter()
                .map(|line| format!("official search client {line}")),
        );
    }
    match (around.postgres(), options.without_database) {
        (Some(folder), WithoutDatabase::Skip | WithoutDatabase::Fail) => {
            notes.push(format!("Postgres   {}", postgres::version(&folder)));
            variables.push(("INSTEP_POSTGRES", folder));
        }
        (None, WithoutDatabase::Skip) => skipped.push("the tests on Postgres: it is missing".to_owned()),
        (None, WithoutDatabase::Fail) => {
            return Err(Failure::new(
                "without Postgres the tests of following it cannot run",
            ));
        }
    }
    match &around.data {
        Some(folder) => {
            notes.push(format!("real data  {}", folder.display()));
            variables.push(("INSTEP_DATA", folder.clone()));
        }
        None => skipped.push("the tests on real data: no ../shared/data beside the project".to_owned()),
    }

    // Dropping them stops them: at the end, and on the way out of a failure.
    let nodes = search_nodes(around, options, &mut notes, &mut skipped)?;

    let mut failures = Vec::new();
    let mut tally = Tally::default();
    for (name, arguments) in passes(&options.package) {
        let mut command = around.cargo(&["test", "--no-fail-fast"]);
        command.args(arguments).args(&options.filter);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.envs(nodes.iter().map(|(kind, node)| (kind.variable(), &node.url)));
        // For tests that end a node: how another one of the first kind is started.
        if let Some((_, node)) = nodes.first() {
            command.env("INSTEP_TEST_NODE_STARTS", &node.starts);
        }
        if options.long {
            command.env("INSTEP_LONG", "1");
        }
        let (counted, ended) = follow(name, command, std::io::stdout());
        tally.add(counted);
        failures.extend(ended.err());
    }

    drop(nodes);
    skipped.append(&mut tally.skipped);
    summarise(&tally, &notes, &skipped, started.elapsed());
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(first),
    }
}

/// The search nodes that this machine can start, for tests that may need them.
fn search_nodes(
    around: &Surroundings,
    options: &Options,
    notes: &mut Vec<String>,
    skipped: &mut Vec<String>,
) -> Result<Vec<(node::Kind, Node)>, Failure> {
    let mut nodes = Vec::new();
    if !options.may_index_into_clusters() {
        return Ok(nodes);
    }
    for kind in node::Kind::ALL {
        match Node::start(kind, around, Life::Ours) {
            Ok(node) => {
                notes.push(format!("node       {}", kind.name()));
                nodes.push((kind, node));
            }
            Err(failure) => skipped.push(format!("the tests on {}: {}", kind.name(), failure.what())),
        }
    }
    match (nodes.is_empty(), options.without_database) {
        (true, WithoutDatabase::Fail) => {
            for line in skipped {
                eprintln!("  SKIPPED    {line}");
            }
            Err(Failure::new(
                "without a search node the tests of indexing into clusters cannot run",
            ))
        }
        (true, WithoutDatabase::Skip) | (false, WithoutDatabase::Skip | WithoutDatabase::Fail) => Ok(nodes),
    }
}

/// With what a build leaves out unless it is asked for.
const WHOLE: [&str; 2] = ["--features", "instep/aws"];

/// The runs of `cargo test` that cover all tests: name and arguments.
///
/// Doc tests are a run of their own, because `--all-targets` leaves them out. For chosen packages cargo's own choice
/// of targets includes them, and does not mind a package without a library.
fn passes(packages: &[String]) -> Vec<(&'static str, Vec<&str>)> {
    if packages.is_empty() {
        vec![
            ("tests", [&["--workspace", "--all-targets"], &WHOLE[..]].concat()),
            ("doc tests", [&["--workspace", "--doc"], &WHOLE[..]].concat()),
        ]
    } else {
        let mut arguments: Vec<&str> = packages.iter().flat_map(|name| ["--package", name]).collect();
        if packages.iter().any(|name| name == "instep") {
            arguments.extend(WHOLE);
        }
        vec![("tests", arguments)]
    }
}

/// Runs a command to its end; copies its output to `out` line by line while counting it.
fn follow(
    name: &str,
    mut command: Command,
    mut out: impl Write + Send + 'static,
) -> (Tally, Result<(), Failure>) {
    let line = command::line(&command);
    command::announce(name, &line);
    let started = Instant::now();
    // One pipe for both streams keeps their lines in order.
    let spawned = std::io::pipe().and_then(|(reader, writer)| {
        let second = writer.try_clone()?;
        Ok((reader, command.stdout(writer).stderr(second).spawn()?))
    });
    // The command holds our copies of the pipe's writing end, and reading ends only when all are closed.
    drop(command);
    let (reader, mut child) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => return (Tally::default(), Err(command::not_started(&line, &error))),
    };

    let counted = Arc::new(Mutex::new(Tally::default()));
    // Room for the one message there is, so the reader never waits.
    let (finished, end) = mpsc::sync_channel(1);
    std::thread::spawn({
        let counted = Arc::clone(&counted);
        move || {
            let mut lines = BufReader::new(reader);
            let mut bytes = Vec::new();
            while matches!(lines.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
                // Our own output may be closed (a pager that was left); the tests still run to their end.
                let _written = out.write_all(&bytes);
                counted
                    .lock()
                    .expect("counting does not panic")
                    .read(&String::from_utf8_lossy(&bytes));
                bytes.clear();
            }
            // The receiver has gone only when it no longer waits for us.
            let _sent = finished.send(());
        }
    });
    let ended = match child.wait() {
        Ok(status) => command::close(name, &line, status, started.elapsed()),
        Err(error) => Err(Failure::new(format!("{name}: {error}")).repeat_with(&line)),
    };
    if end.recv_timeout(STRAGGLERS).is_err() {
        eprintln!("warning: a test left a process running that still holds its output");
    }
    let tally = std::mem::take(&mut *counted.lock().expect("counting does not panic"));
    (tally, ended)
}

fn summarise(tally: &Tally, notes: &[String], skipped: &[String], took: Duration) {
    eprintln!("\n── summary after {}", command::duration(took));
    eprintln!(
        "  tests      {} passed, {} failed, {} ignored",
        tally.passed, tally.failed, tally.ignored
    );
    for note in notes {
        eprintln!("  {note}");
    }
    for line in skipped {
        eprintln!("  SKIPPED    {line}");
    }
    for name in &tally.failing {
        eprintln!("  FAILED     {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The output goes nowhere: the run that runs these tests must not count it as its own.
    fn shell(script: &str) -> (Tally, Result<(), Failure>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        follow("probe", command, std::io::sink())
    }

    #[test]
    fn both_streams_are_counted() {
        let script = "echo 'test result: ok. 4 passed; 0 failed; 0 ignored'; echo 'SKIPPED it: why' >&2";
        let (tally, ended) = shell(script);
        assert_eq!((tally.passed, tally.skipped), (4, vec!["it: why".to_owned()]));
        assert!(ended.is_ok());
    }

    #[test]
    fn a_failure_keeps_its_count_and_its_status() {
        let (tally, ended) = shell("echo 'test a::b ... FAILED'; exit 101");
        assert_eq!(tally.failing, ["a::b"]);
        let failure = ended.expect_err("the script fails").to_string();
        assert!(failure.contains("exit status: 101"), "{failure}");
    }

    #[test]
    fn output_is_passed_on_unchanged() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe can be made");
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\ntwo \\377 no line end'"]);
        let (_, ended) = follow("probe", command, writer);
        let mut copied = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut copied).expect("the pipe is readable");
        assert!(ended.is_ok());
        assert_eq!(copied, b"one\ntwo \xff no line end");
    }
}
