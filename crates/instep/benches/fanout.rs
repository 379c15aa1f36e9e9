//! The rename of a row that 50,000 documents contain: how long until all are indexed, and how long a change of one row
//! takes meanwhile.
//!
//! `cargo xtask bench fanout [--rounds N] [--json]`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use instep::running::Running;
use instep::wiring::Parts;
use instep_core::ChangeLog;
use instep_sync::SignalledLog;
use serde_json::{Value, json};

#[path = "measure/client.rs"]
mod client;
#[path = "measure/clock.rs"]
mod clock;
#[path = "measure/figure.rs"]
mod figure;
mod measure;
#[path = "measure/process.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod process;
#[path = "measure/recorded.rs"]
mod recorded;
#[path = "measure/server.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod server;
#[path = "measure/span.rs"]
mod span;
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
#[path = "measure/writer.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod writer;

use client::Client;
use clock::now_us;
use figure::Figure;
use measure::{Engine, Home, machine};
use recorded::{Recorded, Times};
use server::Postgres;
use span::Span;
use support::tate;
use writer::{Change, Load};

/// Documents that contain the row.
const CONTAIN: u64 = 50_000;
/// Single changes, of rows that do not contain it, from before each rename until well after it.
const LOAD: Load = Load {
    rate: 100,
    seconds: 8,
};
/// When the rename comes.
const BEFORE: Duration = Duration::from_secs(1);
/// How long after the last change everything has to be there.
const PATIENCE: Duration = Duration::from_secs(60);
/// A single change meanwhile, 99th percentile.
const P99_MS: f64 = 100.0;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    if writer::is_this(&mut arguments) {
        return;
    }
    let rounds = arguments
        .value("--rounds")
        .map_or(3, |rounds| rounds.parse().expect("--rounds takes a number"));
    let as_json = arguments.flag("--json");
    arguments.end("--rounds N, --json");
    let Some(data) = tate::folder("bench fanout") else {
        return;
    };
    let machine = machine::describe();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(postgres) = Postgres::with_tate("bench fanout", &data) else {
        return;
    };
    let shared = Shared::make(&postgres);
    let measured = [Engine::Null, Engine::Embedded]
        .map(|engine| measure::block_on(follow(folder.path(), engine, &postgres.home(), &shared, rounds)));
    let figures = measured.iter().map(|(figure, _)| figure);
    let spans = measured.iter().flat_map(|(_, spans)| spans);
    if as_json {
        let figures: Vec<Value> = figures.map(Figure::json).collect();
        let spans: Vec<Value> = spans.map(Span::json).collect();
        println!(
            "{}",
            json!({ "bench": "fanout", "machine": machine, "documents": CONTAIN, "rounds": rounds,
            "figures": figures, "spans": spans })
        );
        return;
    }
    println!(
        "a row that {CONTAIN} of {} documents contain, in Postgres; {}",
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!(
        "{rounds} renames, beside {} single-row updates a second\n",
        LOAD.rate
    );
    let lines: Vec<_> = figures.map(Figure::row).collect();
    println!("{}\n", measure::table(&Figure::HEAD, &lines));
    let lines: Vec<_> = spans.map(Span::row).collect();
    println!("{}", measure::table(&Span::HEAD, &lines));
    println!(
        "\nlimit of settled, while fanning out: p99 {P99_MS} ms; load {} at the end",
        machine::load()
    );
}

/// The row.
struct Shared {
    group: i64,
    /// Artworks up to this one belong to it.
    last: i64,
}

impl Shared {
    fn make(postgres: &Postgres) -> Shared {
        let database = &postgres.database;
        let number = |sql: &str| database.value(sql).parse::<i64>().expect("a number");
        let group = number("select min(id) from catalogue_group");
        let last = number(&format!(
            "select id from artwork order by id offset {} limit 1",
            CONTAIN - 1
        ));
        database.execute(&format!(
            "update artwork set group_id = case when id <= {last} then {group} else nullif(group_id, {group}) end"
        ));
        database.execute("vacuum full artwork; vacuum analyze artwork; checkpoint");
        assert_eq!(
            number(&format!("select count(*) from artwork where group_id = {group}")),
            i64::try_from(CONTAIN).expect("few")
        );
        Shared { group, last }
    }
}

/// Renames so many times, on one engine.
async fn follow(
    folder: &Path,
    engine: Engine,
    home: &Home,
    shared: &Shared,
    rounds: u32,
) -> (Figure, Vec<Span>) {
    let Home::Postgres(url) = home else {
        panic!("the row is in Postgres")
    };
    let config = measure::configuration(folder, engine, home, "");
    let mut parts = measure::open(config).await.expect("the parts open");
    let times = Arc::new(Mutex::new(Times::default()));
    parts.log = Arc::new(SignalledLog::new(Arc::new(Recorded {
        log: parts.log.clone(),
        times: times.clone(),
    })));
    let running = Running::start(&parts).await.expect("the parts start");
    let done = running.caught_up().await.expect("the state can be read");
    assert!(done.is_complete(), "the first load is whole");

    let mut took = Vec::new();
    let (mut quiet, mut busy) = (Waited::default(), Waited::default());
    for round in 0..=rounds {
        *lock(&times) = Times::default();
        let before = indexed(&parts).await;
        let only = format!("id > {}", shared.last);
        let writer = writer::start(folder, home, LOAD, &format!("{} {round}", engine.name()), &only);
        tokio::time::sleep(BEFORE).await;
        let mut client = Client::connect(url);
        client.run(&format!(
            "update catalogue_group set title = 'renamed {round}, {}' where id = {}",
            engine.name(),
            shared.group
        ));
        let (began_us, began) = (now_us(), Instant::now());
        let done = running.caught_up().await.expect("the state can be read");
        let (ended_us, seconds) = (now_us(), began.elapsed().as_secs_f64());
        assert!(done.is_complete(), "every document is indexed");
        let now = indexed(&parts).await;
        assert!(now - before >= CONTAIN, "{} documents were indexed", now - before);
        let changes = tokio::task::spawn_blocking(|| writer::finish(writer))
            .await
            .expect("it ends");
        let until = Instant::now() + PATIENCE;
        while lock(&times).settled.len() < changes.len() {
            assert!(Instant::now() < until, "not every change was settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The first warms up.
        if round > 0 {
            took.push(seconds);
            for change in &changes {
                let meanwhile = change.ended_us >= began_us && change.ended_us <= ended_us;
                let waited = if meanwhile { &mut busy } else { &mut quiet };
                waited.add(change, &lock(&times));
            }
        }
    }
    running.stop().await;
    let name = match engine {
        Engine::Null => "until all are indexed, null engine",
        Engine::Embedded | Engine::Cluster => "until all are indexed, embedded engine",
    };
    let figure = Figure {
        name,
        unit: "s",
        runs: took,
        limit: None,
    };
    let mut spans = quiet.spans(engine, "before and after");
    spans.extend(busy.spans(engine, "while fanning out"));
    spans.last_mut().expect("there are some").limits = Some((f64::INFINITY, P99_MS));
    (figure, spans)
}

async fn indexed(parts: &Parts) -> u64 {
    let status = parts.log.status().await.expect("the state can be read");
    status[0].counts.indexed
}

fn lock(times: &Mutex<Times>) -> std::sync::MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From when a commit returned, in milliseconds.
#[derive(Default)]
struct Waited {
    logged: Vec<f64>,
    settled: Vec<f64>,
}

impl Waited {
    fn add(&mut self, change: &Change, times: &Times) {
        let since = |end: u64| end.saturating_sub(change.ended_us) as f64 / 1e3;
        self.logged.push(since(times.logged[&change.id]));
        self.settled.push(since(times.settled[&change.id]));
    }

    fn spans(self, engine: Engine, when: &str) -> Vec<Span> {
        let name = |what| format!("commit → {what} ({}), {when}", engine.name());
        vec![
            Span::new(name("logged"), LOAD.rate, self.logged),
            Span::new(name("settled"), LOAD.rate, self.settled),
        ]
    }
}
