//! The first synchronisation of the Tate Collection: documents per second, CPU per document, memory; each figure beside
//! its limit from the same run.
//!
//! `cargo xtask bench sync [--runs N] [--json]`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

mod measure;
#[path = "measure/parts.rs"]
mod parts;
#[path = "measure/process.rs"]
mod process;
#[path = "../tests/support/tate.rs"]
#[allow(unreachable_pub, reason = "shared with the tests")]
mod tate;

use measure::machine;
use parts::Part;

/// Our CPU on top of Tantivy's, for each document.
const ON_TOP_US: f64 = 20.0;
/// Anonymous memory beside the writer's budget.
const MEMORY_MB: f64 = 90.0;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    if let Some(name) = arguments.value("--part") {
        let part = Part::named(&name).expect("the process that started this one knows its parts");
        let folder = arguments.value("--folder").expect("the folder of the run");
        println!("{}", part.run(Path::new(&folder)));
        return;
    }
    let runs = arguments
        .value("--runs")
        .map_or(3, |runs| runs.parse().expect("--runs takes a number"));
    let as_json = arguments.flag("--json");
    arguments.end("--runs N, --json");
    let Some(data) = tate::folder("bench sync") else {
        return;
    };

    let machine = machine::describe();
    let folder = tempfile::tempdir().expect("a folder");
    drop(tate::load(&data, &folder.path().join("tate.db")));
    in_own_process(Part::Ready, folder.path());
    let measured = Measured::of(runs, folder.path());
    let config = measure::configuration(folder.path(), measure::Engine::Embedded);
    let budget_mb = parts::writer_memory(&config) as f64 / 1e6;
    let figures = figures(&measured, budget_mb);
    if as_json {
        let figures: Vec<Value> = figures.iter().map(Figure::json).collect();
        println!(
            "{}",
            json!({ "bench": "sync", "machine": machine, "documents": tate::ARTWORKS, "runs": runs,
            "figures": figures, "parts": measured.0 })
        );
        return;
    }
    println!(
        "Tate Collection in SQLite, {} documents; {}",
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!("median of {runs} runs that took turns, after one that is not counted\n");
    let rows: Vec<_> = figures.iter().map(Figure::row).collect();
    println!(
        "{}",
        measure::table(&["", "median", "min – max", "limit", "of the limit"], &rows)
    );
    println!("\nwhere the CPU of our threads goes, µs for each document, last run");
    for part in [Part::Null, Part::Embedded] {
        let last = measured.of_part(part).last().map(|run| &run["threads_cpu_us"]);
        println!("  {}: {}", part.name(), last.unwrap_or(&Value::Null));
    }
}

/// Runs a part in a process of its own.
fn in_own_process(part: Part, folder: &Path) -> Value {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command
        .args(["--bench", "--part", part.name(), "--folder"])
        .arg(folder);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("it starts again");
    assert!(output.status.success(), "part `{}` failed", part.name());
    serde_json::from_slice(&output.stdout).expect("a part prints its figures")
}

/// Every part's figures, run by run.
struct Measured(serde_json::Map<String, Value>);

impl Measured {
    /// Parts take turns, so that what changes on the machine meanwhile concerns all of them; the first turn warms up.
    fn of(runs: usize, folder: &Path) -> Measured {
        let mut measured = serde_json::Map::new();
        for turn in 0..=runs {
            for part in Part::MEASURED {
                let figures = in_own_process(part, folder);
                assert_eq!(
                    figures["documents"],
                    json!(tate::ARTWORKS),
                    "`{}` saw every document",
                    part.name()
                );
                if turn > 0 {
                    let runs = measured.entry(part.name()).or_insert_with(|| json!([]));
                    runs.as_array_mut().expect("it was just made").push(figures);
                }
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

/// A figure of several runs, and what it is held against.
struct Figure {
    name: &'static str,
    unit: &'static str,
    runs: Vec<f64>,
    limit: Option<f64>,
}

impl Figure {
    fn median(&self) -> f64 {
        median(&self.runs)
    }

    fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.median() / limit)
    }

    fn range(&self) -> (f64, f64) {
        let least = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    fn row(&self) -> Vec<String> {
        let (least, most) = self.range();
        let limit = self.limit.map(|limit| format!("{limit:.1}"));
        vec![
            format!("{} ({})", self.name, self.unit),
            format!("{:.1}", self.median()),
            format!("{least:.1} – {most:.1}"),
            limit.unwrap_or_default(),
            self.ratio()
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
        ]
    }

    fn json(&self) -> Value {
        let (min, max) = self.range();
        json!({ "name": self.name, "unit": self.unit, "median": self.median(), "min": min, "max": max,
                "limit": self.limit, "ratio": self.ratio() })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn figures(measured: &Measured, budget_mb: f64) -> Vec<Figure> {
    const RATE: &str = "documents_per_second";
    const CPU: &str = "cpu_us";
    const MEMORY: &str = "rss_anon_mb";
    let figure = |name, unit, part, of, limit| Figure {
        name,
        unit,
        runs: measured.figure(part, of),
        limit,
    };
    let limit = |part, of| Some(median(&measured.figure(part, of)));
    // Each run against the one beside it.
    let on_top = |part, base| {
        let pairs = measured
            .figure(part, CPU)
            .into_iter()
            .zip(measured.figure(base, CPU));
        pairs.map(|(ours, base)| ours - base).collect()
    };
    vec![
        figure(
            "SQLite alone, a statement for each table",
            "documents/s",
            Part::Tables,
            RATE,
            None,
        ),
        figure(
            "SQLite alone, a statement for each table",
            "CPU µs/document",
            Part::Tables,
            CPU,
            None,
        ),
        figure(
            "SQLite alone, JSON by one statement",
            "documents/s",
            Part::Json,
            RATE,
            None,
        ),
        figure(
            "SQLite alone, JSON by one statement",
            "CPU µs/document",
            Part::Json,
            CPU,
            None,
        ),
        figure(
            "to a null engine, limit: SQLite by tables",
            "documents/s",
            Part::Null,
            RATE,
            limit(Part::Tables, RATE),
        ),
        figure(
            "to a null engine, limit: SQLite's JSON",
            "documents/s",
            Part::Null,
            RATE,
            limit(Part::Json, RATE),
        ),
        figure(
            "to a null engine, limit: SQLite's JSON",
            "CPU µs/document",
            Part::Null,
            CPU,
            limit(Part::Json, CPU),
        ),
        figure(
            "Tantivy alone, fed with the JSON",
            "documents/s",
            Part::Raw,
            RATE,
            None,
        ),
        figure(
            "Tantivy alone, fed with the JSON",
            "CPU µs/document",
            Part::Raw,
            CPU,
            None,
        ),
        figure(
            "of this, reading the JSON",
            "CPU µs/document",
            Part::Raw,
            "reading_cpu_us",
            None,
        ),
        figure(
            "to the embedded engine, limit: Tantivy",
            "documents/s",
            Part::Embedded,
            RATE,
            limit(Part::Raw, RATE),
        ),
        figure(
            "to the embedded engine, limit: Tantivy",
            "CPU µs/document",
            Part::Embedded,
            CPU,
            limit(Part::Raw, CPU),
        ),
        Figure {
            name: "our CPU on top of Tantivy's",
            unit: "CPU µs/document",
            runs: on_top(Part::Embedded, Part::Raw),
            limit: Some(ON_TOP_US),
        },
        Figure {
            name: "of this, what a null engine costs too",
            unit: "CPU µs/document",
            runs: measured.figure(Part::Null, CPU),
            limit: None,
        },
        figure("RssAnon, null engine", "MB", Part::Null, MEMORY, Some(MEMORY_MB)),
        figure(
            "RssAnon, embedded engine",
            "MB",
            Part::Embedded,
            MEMORY,
            Some(MEMORY_MB + budget_mb),
        ),
    ]
}
