//! The first synchronisation of the Tate Collection: documents per second, CPU per document, memory; each figure beside
//! its limit from the same run.
//!
//! `cargo xtask bench sync [--source sqlite|postgres] [--engine opensearch [--together]] [--runs N] [--json]`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

#[path = "measure/apart.rs"]
mod apart;
#[path = "measure/cluster.rs"]
mod cluster;
#[path = "measure/figure.rs"]
mod figure;
#[path = "measure/http.rs"]
mod http;
mod measure;
#[path = "measure/parts.rs"]
mod parts;
#[path = "measure/process.rs"]
mod process;
#[path = "measure/server.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared with the tests"
)]
mod support;
#[path = "../tests/postgres/world.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared with the tests"
)]
mod world;

use figure::{Figure, median};
use measure::{Engine, Home, machine};
use parts::Part;
use server::Rows;
use support::tate;

/// Our CPU on top of Tantivy's, for each document.
const ON_TOP_US: f64 = 20.0;
/// Anonymous memory beside the writer's budget.
const MEMORY_MB: f64 = 90.0;
/// Turns before a cluster is measured: Java compiles what runs often, on all the cores there are.
const CLUSTER_WARM_UP: usize = 5;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    if let Some(name) = arguments.value("--part") {
        let part = Part::named(&name).expect("the process that started this one knows its parts");
        let folder = arguments.value("--folder").expect("the folder of the run");
        let home = Home::of(&mut arguments);
        println!("{}", part.run(Path::new(&folder), &home));
        return;
    }
    let as_json = arguments.flag("--json");
    let source = Rows::source(&mut arguments);
    let engine = match arguments.value("--engine").as_deref() {
        None => Engine::Embedded,
        Some("opensearch") => Engine::Cluster,
        Some(other) => panic!("--engine is opensearch, not {other}"),
    };
    // Merges fall into one run and not into the next.
    let runs_of_its_own = match engine {
        Engine::Cluster => 9,
        _ => 3,
    };
    let runs = arguments.value("--runs").map_or(runs_of_its_own, |runs| {
        runs.parse().expect("--runs takes a number")
    });
    let source = match engine {
        Engine::Cluster => source.or(Some("postgres".to_owned())),
        _ => source,
    };
    let together = arguments.flag("--together");
    arguments.end("--source sqlite|postgres, --engine opensearch, --together, --runs N, --json");
    let Some(data) = tate::folder("bench sync") else {
        return;
    };

    let machine = machine::describe();
    // Before the database starts, which stays on the cores that this process has.
    let cores = match engine {
        Engine::Cluster if !together => Some(apart::leave_cores()),
        _ => None,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let Some(rows) = Rows::load(source.as_deref(), "bench sync", &data, folder.path()) else {
        return;
    };
    let home = rows.home();
    in_own_process(Part::Ready, folder.path(), &home);
    let warm_up = match engine {
        Engine::Cluster => CLUSTER_WARM_UP,
        _ => 1,
    };
    for _ in 0..warm_up {
        one_turn(folder.path(), &rows, engine);
    }
    if cores.is_some() {
        apart::take_cores(&cluster::url());
        one_turn(folder.path(), &rows, engine);
    }
    let measured = Measured::of(runs, folder.path(), &rows, engine);
    let config = measure::configuration(folder.path(), Engine::Embedded, &home, "");
    let budget_mb = parts::writer_memory(&config) as f64 / 1e6;
    let mut figures = match (engine, &rows) {
        (Engine::Cluster, _) => to_cluster(&measured),
        (_, Rows::Sqlite) => beside_sqlite(&measured),
        (_, Rows::Postgres(_)) => beside_postgres(&measured),
    };
    if engine != Engine::Cluster {
        figures.extend(to_engines(&measured, budget_mb));
    }
    if as_json {
        let figures: Vec<Value> = figures.iter().map(Figure::json).collect();
        println!(
            "{}",
            json!({ "bench": "sync", "source": rows.name(), "machine": machine, "documents": tate::ARTWORKS,
            "runs": runs, "cores": cores, "figures": figures, "parts": measured.0 })
        );
        return;
    }
    println!(
        "Tate Collection in {}, {} documents; {}",
        rows.name(),
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!("median of {runs} runs that took turns, after others that are not counted");
    println!("{}\n", cores.unwrap_or_default());
    let lines: Vec<_> = figures.iter().map(Figure::row).collect();
    println!("{}", measure::table(&Figure::HEAD, &lines));
    println!("load {} at the end", machine::load());
    println!("\nwhere the CPU of our threads goes, µs for each document, last run");
    for part in [Part::Null, Part::Embedded, Part::Cluster] {
        if let Some(last) = measured.of_part(part).last() {
            println!("  {}: {}", part.name(), last["threads_cpu_us"]);
        }
    }
}

/// Runs a part in a process of its own.
fn in_own_process(part: Part, folder: &Path, home: &Home) -> Value {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command
        .args(["--bench", "--part", part.name(), "--folder"])
        .arg(folder);
    if let Home::Postgres(url) = home {
        command.args(["--url", url]);
    }
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("it starts again");
    assert!(output.status.success(), "part `{}` failed", part.name());
    serde_json::from_slice(&output.stdout).expect("a part prints its figures")
}

/// Runs every part once, each with its figures.
fn one_turn(folder: &Path, rows: &Rows, engine: Engine) -> Vec<(Part, Value)> {
    let home = rows.home();
    let parts = Part::measured(&home, engine).iter().copied();
    let each = parts.map(|part| {
        let before = rows.cpu_us();
        let mut figures = in_own_process(part, folder, &home);
        let server = rows.cpu_us() - before;
        let documents = figures["documents"].as_u64().expect("every part counts them");
        figures["server_cpu_us"] = json!(server as f64 / documents as f64);
        match part {
            Part::Recorded => assert!(documents > tate::ARTWORKS, "there are more collections"),
            Part::Tables
            | Part::Json
            | Part::Copy
            | Part::Null
            | Part::Placed
            | Part::Ready
            | Part::Raw
            | Part::Embedded
            | Part::Cluster
            | Part::Loaded => {
                assert_eq!(documents, tate::ARTWORKS, "`{}` saw every document", part.name());
            }
        }
        (part, figures)
    });
    each.collect()
}

/// Every part's figures, run by run.
struct Measured(serde_json::Map<String, Value>);

impl Measured {
    /// Parts take turns, so that what changes on the machine meanwhile concerns all of them.
    fn of(runs: usize, folder: &Path, rows: &Rows, engine: Engine) -> Measured {
        let mut measured = serde_json::Map::new();
        for _ in 0..runs {
            for (part, figures) in one_turn(folder, rows, engine) {
                let runs = measured.entry(part.name()).or_insert_with(|| json!([]));
                runs.as_array_mut().expect("it was just made").push(figures);
            }
        }
        Measured(measured)
    }

    fn of_part(&self, part: Part) -> &[Value] {
        self.0
            .get(part.name())
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn figure(&self, part: Part, name: &str) -> Vec<f64> {
        self.of_part(part)
            .iter()
            .map(|run| run[name].as_f64().expect("every run has it"))
            .collect()
    }
}

const RATE: &str = "documents_per_second";
const CPU: &str = "cpu_us";
const SERVER: &str = "server_cpu_us";
const MEMORY: &str = "rss_anon_mb";
const PER_SECOND: &str = "documents/s";
const PER_DOCUMENT: &str = "CPU µs/document";

impl Measured {
    /// One figure of a part.
    fn one(
        &self,
        name: &'static str,
        unit: &'static str,
        part: Part,
        of: &str,
        limit: Option<f64>,
    ) -> Figure {
        Figure {
            name,
            unit,
            runs: self.figure(part, of),
            limit,
        }
    }

    /// What another part is held against.
    fn limit(&self, part: Part, of: &str) -> Option<f64> {
        Some(median(&self.figure(part, of)))
    }
}

fn beside_sqlite(measured: &Measured) -> Vec<Figure> {
    let tables = "SQLite alone, a statement for each table";
    let json = "SQLite alone, JSON by one statement";
    let by_tables = measured.limit(Part::Tables, RATE);
    let by_json = |of| measured.limit(Part::Json, of);
    let (beside_tables, beside_json) = (
        "to a null engine, limit: SQLite by tables",
        "to a null engine, limit: SQLite's JSON",
    );
    vec![
        measured.one(tables, PER_SECOND, Part::Tables, RATE, None),
        measured.one(tables, PER_DOCUMENT, Part::Tables, CPU, None),
        measured.one(json, PER_SECOND, Part::Json, RATE, None),
        measured.one(json, PER_DOCUMENT, Part::Json, CPU, None),
        measured.one(beside_tables, PER_SECOND, Part::Null, RATE, by_tables),
        measured.one(beside_json, PER_SECOND, Part::Null, RATE, by_json(RATE)),
        measured.one(beside_json, PER_DOCUMENT, Part::Null, CPU, by_json(CPU)),
    ]
}

fn beside_postgres(measured: &Measured) -> Vec<Figure> {
    let copy = "Postgres alone, JSON by one statement";
    let null = "to a null engine, limit: Postgres alone";
    let recorded = "the same with recorded reads, three collections";
    vec![
        measured.one(copy, PER_SECOND, Part::Copy, RATE, None),
        measured.one(copy, "server's CPU µs/document", Part::Copy, SERVER, None),
        measured.one(
            null,
            PER_SECOND,
            Part::Null,
            RATE,
            measured.limit(Part::Copy, RATE),
        ),
        measured.one("to a null engine", PER_DOCUMENT, Part::Null, CPU, Some(ON_TOP_US)),
        measured.one(
            null,
            "server's CPU µs/document",
            Part::Null,
            SERVER,
            measured.limit(Part::Copy, SERVER),
        ),
        measured.one(recorded, PER_SECOND, Part::Recorded, RATE, None),
        measured.one(recorded, PER_DOCUMENT, Part::Recorded, CPU, Some(ON_TOP_US)),
    ]
}

fn to_cluster(measured: &Measured) -> Vec<Figure> {
    let loader = "a loader with ready documents, over as many connections";
    let ours = "to OpenSearch, limit: the loader";
    let rate = measured.limit(Part::Loaded, RATE);
    vec![
        measured.one(loader, PER_SECOND, Part::Loaded, RATE, None),
        measured.one(loader, PER_DOCUMENT, Part::Loaded, CPU, None),
        measured.one(ours, PER_SECOND, Part::Cluster, RATE, rate),
        measured.one("to OpenSearch", PER_DOCUMENT, Part::Cluster, CPU, None),
        measured.one("RssAnon, to OpenSearch", "MB", Part::Cluster, MEMORY, None),
    ]
}

fn to_engines(measured: &Measured, budget_mb: f64) -> Vec<Figure> {
    // Each run against the one beside it.
    let on_top = |part, base| {
        let pairs = measured
            .figure(part, CPU)
            .into_iter()
            .zip(measured.figure(base, CPU));
        pairs.map(|(ours, base)| ours - base).collect()
    };
    let raw = "Tantivy alone, fed with the JSON";
    let embedded = "to the embedded engine, limit: Tantivy";
    let by_raw = |of| measured.limit(Part::Raw, of);
    let with_budget = Some(MEMORY_MB + budget_mb);
    let placed = "to a null engine, the language from a column";
    vec![
        measured.one(placed, PER_SECOND, Part::Placed, RATE, None),
        measured.one(placed, PER_DOCUMENT, Part::Placed, CPU, Some(ON_TOP_US)),
        measured.one(raw, PER_SECOND, Part::Raw, RATE, None),
        measured.one(raw, PER_DOCUMENT, Part::Raw, CPU, None),
        measured.one(
            "of this, reading the JSON",
            PER_DOCUMENT,
            Part::Raw,
            "reading_cpu_us",
            None,
        ),
        measured.one(embedded, PER_SECOND, Part::Embedded, RATE, by_raw(RATE)),
        measured.one(embedded, PER_DOCUMENT, Part::Embedded, CPU, by_raw(CPU)),
        Figure {
            name: "our CPU on top of Tantivy's",
            unit: PER_DOCUMENT,
            runs: on_top(Part::Embedded, Part::Raw),
            limit: Some(ON_TOP_US),
        },
        measured.one(
            "of this, what a null engine costs too",
            PER_DOCUMENT,
            Part::Null,
            CPU,
            None,
        ),
        measured.one("RssAnon, null engine", "MB", Part::Null, MEMORY, Some(MEMORY_MB)),
        measured.one(
            "RssAnon, embedded engine",
            "MB",
            Part::Embedded,
            MEMORY,
            with_budget,
        ),
    ]
}
