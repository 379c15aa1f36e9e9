//! How fast changes come from Postgres into the log, beside `pg_recvlogical` that reads the same content of a slot to
//! nothing: one transaction of a million rows, and transactions of one row.
//!
//! `cargo xtask bench stream [--runs N] [--json]`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use instep::running::Running;
use instep::wiring::Parts;
use instep_conformance::postgres::Database;
use instep_core::{ChangeLog, Position, Source, SourceName};
use instep_sync::{Follower, SourceDefinition, SystemClock};
use serde_json::{Value, json};

#[path = "measure/figure.rs"]
mod figure;
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod measure;
#[path = "measure/process.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod process;
#[path = "measure/server.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
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
use measure::machine;
use server::Postgres;
use support::tate;

/// How the same row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    OneTransaction,
    SingleRows,
}

impl Shape {
    fn rows(self) -> u64 {
        match self {
            Shape::OneTransaction => 1_000_000,
            Shape::SingleRows => 100_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Shape::OneTransaction => "1,000,000 rows in one transaction",
            Shape::SingleRows => "100,000 transactions of one row",
        }
    }

    fn script(self) -> String {
        let row = "i, i % 1000, 'a title of some words', now(), 1.5";
        let rows = self.rows();
        match self {
            Shape::OneTransaction => format!("insert into t select {row} from generate_series(1, {rows}) i"),
            Shape::SingleRows => format!(
                "set synchronous_commit = off; \
                 do $$ begin for i in 1..{rows} loop insert into t values ({row}); commit; end loop; end $$"
            ),
        }
    }
}

const COLLECTION: &str = r#"
[collection.t]
source = "measured"
root   = "t"
public = true

[collection.t.fields]
title  = "text"
price  = "decimal"
"#;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    let runs = arguments
        .value("--runs")
        .map_or(3, |runs| runs.parse().expect("--runs takes a number"));
    let as_json = arguments.flag("--json");
    arguments.end("--runs N, --json");
    let machine = machine::describe();
    let Some(postgres) = Postgres::start("bench stream") else {
        return;
    };
    let mut figures = Vec::new();
    for shape in [Shape::OneTransaction, Shape::SingleRows] {
        let mut taken = Vec::new();
        // The first warms up.
        for turn in 0..=runs {
            let turn_taken = measure::block_on(turn_of(&postgres, shape));
            if turn > 0 {
                taken.push(turn_taken);
            }
        }
        figures.push((shape, Taken::figures(&taken)));
    }
    if as_json {
        let shape = |(shape, figures): &(Shape, Vec<Figure>)| json!({ "shape": shape.name(), "figures": figures.iter().map(Figure::json).collect::<Vec<Value>>() });
        let shapes: Vec<Value> = figures.iter().map(shape).collect();
        println!(
            "{}",
            json!({ "bench": "stream", "machine": machine, "runs": runs, "shapes": shapes })
        );
        return;
    }
    println!("Postgres to the log; {}", machine::line(&machine));
    println!("median of {runs} runs that took turns, after one that is not counted");
    for (shape, figures) in &figures {
        let lines: Vec<_> = figures.iter().map(Figure::row).collect();
        println!("\n{}\n{}", shape.name(), measure::table(&Figure::HEAD, &lines));
    }
    println!("\nload {} at the end", machine::load());
}

/// What one turn took, in seconds, and our CPU in microseconds for each change.
struct Taken {
    rows: f64,
    peer: f64,
    feed: f64,
    log: f64,
    feed_cpu: f64,
    log_cpu: f64,
}

impl Taken {
    fn figures(taken: &[Taken]) -> Vec<Figure> {
        let rate = |seconds: fn(&Taken) -> f64| taken.iter().map(|turn| turn.rows / seconds(turn)).collect();
        let cpu = |of: fn(&Taken) -> f64| taken.iter().map(of).collect();
        let figure = |name, unit, runs, limit| Figure {
            name,
            unit,
            runs,
            limit,
        };
        let peer: Vec<f64> = rate(|turn| turn.peer);
        let limit = Some(median(&peer));
        vec![
            figure("pg_recvlogical to nothing", "changes/s", peer, None),
            figure("decoder and gate", "changes/s", rate(|turn| turn.feed), limit),
            figure(
                "decoder and gate",
                "CPU µs/change",
                cpu(|turn| turn.feed_cpu),
                None,
            ),
            figure(
                "decoder, gate, router and log",
                "changes/s",
                rate(|turn| turn.log),
                limit,
            ),
            figure(
                "decoder, gate, router and log",
                "CPU µs/change",
                cpu(|turn| turn.log_cpu),
                None,
            ),
        ]
    }
}

/// Writes, and reads what was written three times: `pg_recvlogical` from a slot of its own, then our feed, which
/// acknowledges nothing, then all that is between a source and its log.
async fn turn_of(postgres: &Postgres, shape: Shape) -> Taken {
    let database = postgres.server.database("stream");
    database.execute(
        "create table t (id int primary key, parent int, title text, at timestamptz, price numeric)",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let parts = followed_to_its_head(folder.path(), &database).await;
    let (name, source) = parts.sources.iter().next().expect("one source");
    let peer = format!("peer_{}", database.name());
    database.execute(&format!(
        "select pg_copy_logical_replication_slot('instep_measured', '{peer}')"
    ));
    database.execute(&shape.script());
    database.execute("checkpoint");
    let end = database.value("select pg_current_wal_flush_lsn()");

    let peer_seconds = received(postgres, &database, &peer, &end);
    let head = source.head().await.expect("it answers").expect("there is a slot");
    let (feed, feed_cpu) = fed(&parts, name, &**source, &head, shape.rows()).await;
    idle(&database).await;
    let (log, log_cpu) = logged(&parts, name, source, &head, shape.rows()).await;
    idle(&database).await;
    let per_row = |us: u64| us as f64 / shape.rows() as f64;
    Taken {
        rows: shape.rows() as f64,
        peer: peer_seconds,
        feed,
        log,
        feed_cpu: per_row(feed_cpu),
        log_cpu: per_row(log_cpu),
    }
}

/// The product has followed the empty table to its head, and runs no more.
async fn followed_to_its_head(folder: &Path, database: &Database) -> Parts {
    let text = format!(
        "[state]\npath = \"state\"\n[source.measured]\nurl = \"{}\"\n{COLLECTION}\n\
         [cluster.measured]\nengine = \"null\"\n[set.main]\ncluster = \"measured\"\nactive = true\n",
        database.url()
    );
    let parts = measure::open(measure::parsed(folder, text))
        .await
        .expect("the parts open");
    let running = Running::start(&parts).await.expect("the parts start");
    let done = running.caught_up().await.expect("the state can be read");
    assert!(done.is_complete(), "there is nothing to index");
    running.stop().await;
    idle(database).await;
    parts
}

/// Nobody uses a slot of this database any more.
async fn idle(database: &Database) {
    let active = "select count(*) from pg_replication_slots where active and database = current_database()";
    while database.value(active) != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Seconds of `pg_recvlogical`.
fn received(postgres: &Postgres, database: &Database, slot: &str, end: &str) -> f64 {
    let mut command = postgres.server.binaries().command("pg_recvlogical");
    let url = database.url();
    command.args([
        "-d",
        &url,
        "-S",
        slot,
        "--start",
        "-f",
        "/dev/null",
        "-F",
        "0",
        "--endpos",
        end,
    ]);
    command.args(["-o", "proto_version=1", "-o", "publication_names=instep_measured"]);
    let began = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .status()
        .expect("pg_recvlogical runs");
    assert!(status.success(), "pg_recvlogical read to the end");
    began.elapsed().as_secs_f64()
}

/// Seconds and CPU of our feed alone.
async fn fed(
    parts: &Parts,
    name: &SourceName,
    source: &dyn Source,
    head: &Position,
    rows: u64,
) -> (f64, u64) {
    let from = parts.log.position(name).await.expect("the state can be read");
    let (began, cpu) = (Instant::now(), process::cpu_us());
    let mut feed = source
        .follow(&parts.assembler.watched(name), from.as_ref())
        .await
        .expect("it can be followed");
    let mut changes = 0;
    loop {
        let batch = feed.next().await.expect("it goes on");
        changes += batch.changes.len() as u64;
        if source.reached(&batch.upto, head) {
            break;
        }
    }
    let taken = (began.elapsed().as_secs_f64(), process::cpu_us() - cpu);
    assert_eq!(changes, rows, "every change came");
    taken
}

/// Seconds and CPU of everything up to the durable log.
async fn logged(
    parts: &Parts,
    name: &SourceName,
    source: &Arc<dyn Source>,
    head: &Position,
    rows: u64,
) -> (f64, u64) {
    let before = parts.log.head().await.expect("the state can be read");
    let definition = SourceDefinition {
        name: name.clone(),
        source: source.clone(),
        watched: parts.assembler.watched(name),
        collections: parts.collections.iter().map(|of| of.name.clone()).collect(),
    };
    let (builder, log) = (parts.assembler.clone(), parts.log.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (began, cpu) = (Instant::now(), process::cpu_us());
    let follower =
        Follower::new(definition, builder.clone(), log, Arc::new(SystemClock), 1).learning(builder);
    let mut status = follower.status();
    let task = tokio::spawn(follower.run(stopped));
    let there = |position: &Option<Position>| position.as_ref().is_some_and(|at| source.reached(at, head));
    status
        .wait_for(|status| there(&status.position))
        .await
        .expect("it follows");
    let taken = (began.elapsed().as_secs_f64(), process::cpu_us() - cpu);
    stop.send(true).expect("it runs");
    task.await.expect("it ends");
    let after = parts.log.head().await.expect("the state can be read");
    assert_eq!(after.0 - before.0, rows, "every row touched its document");
    taken
}
