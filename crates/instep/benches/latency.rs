//! From a commit of an application to our log, to the settlement, and to being found: while another process changes 5 to
//! 500 rows a second in SQLite, 5 to 1,000 in Postgres.
//!
//! `cargo xtask bench latency [--source sqlite|postgres] [--seconds N] [--json]`
//!
//! In SQLite the time runs from when `commit` began, in Postgres from when it returned: before that, nobody can know
//! that the change was made.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use instep::running::Running;
use instep_core::query::{Bool, Query, Scalar};
use instep_core::request::{SearchRequest, SourceFilter, TrackTotalHits};
use instep_core::{IndexName, Policy, Principal, Search};
use instep_sync::SignalledLog;
use serde_json::{Value, json};

#[path = "measure/client.rs"]
mod client;
#[path = "measure/clock.rs"]
mod clock;
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
mod writer;

use clock::{now_us, pause};
use measure::{Engine, Home, machine};
use recorded::{Recorded, Times};
use server::Rows;
use span::Span;
use support::tate;
use writer::Load;

/// Changes in a second.
const SQLITE_RATES: &[u32] = &[5, 50, 500];
const POSTGRES_RATES: &[u32] = &[5, 20, 100, 1_000];
/// How long after the last change everything has to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks of the search.
const LOOK: Duration = Duration::from_micros(500);
/// Documents that one look asks for.
const LOOKED_FOR: usize = 500;
/// Limits of the acknowledgement: p50 and p99, in milliseconds.
const ACK_MS: (f64, f64) = (5.0, 50.0);

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    if writer::is_this(&mut arguments) {
        return;
    }
    let seconds = arguments
        .value("--seconds")
        .map_or(10, |seconds| seconds.parse().expect("--seconds takes a number"));
    let source = Rows::source(&mut arguments);
    let as_json = arguments.flag("--json");
    arguments.end("--source sqlite|postgres, --seconds N, --json");
    let Some(data) = tate::folder("bench latency") else {
        return;
    };

    let machine = machine::describe();
    let folder = tempfile::tempdir().expect("a folder");
    let Some(rows) = Rows::load(source.as_deref(), "bench latency", &data, folder.path()) else {
        return;
    };
    let home = rows.home();
    let mut spans = Vec::new();
    for engine in [Engine::Null, Engine::Embedded] {
        spans.extend(measure::block_on(follow(folder.path(), engine, &home, seconds)));
    }
    if as_json {
        let spans: Vec<Value> = spans.iter().map(Span::json).collect();
        println!(
            "{}",
            json!({ "bench": "latency", "source": rows.name(), "machine": machine, "documents": tate::ARTWORKS,
            "seconds": seconds, "spans": spans })
        );
        return;
    }
    println!(
        "Tate Collection in {}, {} documents; {}",
        rows.name(),
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!("single-row updates by another process, {seconds} s at each rate; milliseconds\n");
    let lines: Vec<_> = spans.iter().map(Span::row).collect();
    println!("{}", measure::table(&Span::HEAD, &lines));
    println!(
        "\nlimits of logged and ack (null engine): p50 {} ms, p99 {} ms; load {} at the end",
        ACK_MS.0,
        ACK_MS.1,
        machine::load()
    );
}

/// Runs everything on one engine, and the writer at each rate beside it.
async fn follow(folder: &Path, engine: Engine, home: &Home, seconds: u32) -> Vec<Span> {
    let config = measure::configuration(folder, engine, home, "");
    let mut parts = measure::open(config).await.expect("the parts open");
    let times = Arc::new(Mutex::new(Times::default()));
    parts.log = Arc::new(SignalledLog::new(Arc::new(Recorded {
        log: parts.log.clone(),
        times: times.clone(),
    })));
    let running = Running::start(&parts).await.expect("the parts start");
    assert!(
        running
            .caught_up()
            .await
            .expect("the state can be read")
            .is_complete(),
        "the first load is whole"
    );

    let mut spans = Vec::new();
    let rates = match home {
        Home::Sqlite => SQLITE_RATES,
        Home::Postgres(_) => POSTGRES_RATES,
    };
    for &rate in rates {
        *lock(&times) = Times::default();
        let marker = format!("{} {rate} {}", engine.name(), now_us());
        spans.push(Span::new(
            "the disk: 4 KB and fdatasync".to_owned(),
            rate,
            fsync(folder),
        ));
        let looker = parts
            .engine_of(&parts.active())
            .expect("the set has an engine")
            .search
            .clone();
        let looker = looker.map(|search| Looker::start(&parts, search, times.clone(), marker.clone()));
        let load = Load { rate, seconds };
        let writer = writer::start(folder, home, load, &marker, "true");
        let changes = tokio::task::spawn_blocking(|| writer::finish(writer))
            .await
            .expect("it ends");
        let until = Instant::now() + PATIENCE;
        while lock(&times).settled.len() < changes.len() {
            assert!(Instant::now() < until, "not every change was settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = looker.map(|looker| looker.end(changes.len()));
        spans.extend(measured(
            engine,
            home,
            rate,
            &changes,
            &lock(&times),
            seen.as_ref(),
        ));
    }
    running.stop().await;
    spans
}

fn measured(
    engine: Engine,
    home: &Home,
    rate: u32,
    changes: &[writer::Change],
    times: &Times,
    seen: Option<&HashMap<String, u64>>,
) -> Vec<Span> {
    let name = engine.name();
    let since = |ends: &HashMap<String, u64>| {
        let took = |change: &writer::Change| {
            let since = match home {
                Home::Sqlite => change.began_us,
                Home::Postgres(_) => change.ended_us,
            };
            ends[&change.id].saturating_sub(since) as f64 / 1e3
        };
        changes.iter().map(took).collect()
    };
    let own = changes
        .iter()
        .map(|change| (change.ended_us - change.began_us) as f64 / 1e3)
        .collect();
    let mut spans = vec![
        Span::new("the application's own commit".to_owned(), rate, own),
        Span::new(format!("commit → logged ({name})"), rate, since(&times.logged)),
        Span::new(format!("commit → ack ({name})"), rate, since(&times.settled)),
    ];
    if engine == Engine::Null {
        spans[1].limits = Some(ACK_MS);
        spans[2].limits = Some(ACK_MS);
    }
    if let Some(seen) = seen {
        spans.push(Span::new(format!("commit → visible ({name})"), rate, since(seen)));
    }
    spans
}

/// What the disk takes to make 4 KB durable, where the state lies.
fn fsync(folder: &Path) -> Vec<f64> {
    let mut file = File::create(folder.join("fsync")).expect("a file");
    file.write_all(&[0; 4096])
        .and_then(|()| file.sync_all())
        .expect("the disk takes it");
    let mut times = Vec::new();
    for turn in 0..200_u8 {
        let began = Instant::now();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.write_all(&[turn; 4096])
            .and_then(|()| file.sync_data())
            .expect("the disk takes it");
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn lock(times: &Mutex<Times>) -> std::sync::MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Searches again and again for the changes that are logged and were not found yet.
struct Looker {
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Times>>,
    thread: std::thread::JoinHandle<HashMap<String, u64>>,
}

impl Looker {
    fn start(
        parts: &instep::wiring::Parts,
        search: Arc<dyn Search>,
        times: Arc<Mutex<Times>>,
        marker: String,
    ) -> Looker {
        let collection = parts.collections[0].name.clone();
        let index = IndexName::physical(
            &parts.active(),
            &collection,
            &parts.collections[0].language.all()[0],
        );
        let policy = Policy::new(vec![(collection.clone(), true)]);
        let runtime = tokio::runtime::Handle::current();
        let stop = Arc::new(AtomicBool::new(false));
        let look = {
            let (times, stop) = (times.clone(), stop.clone());
            move || {
                let mut seen = HashMap::new();
                while !stop.load(Ordering::Relaxed) {
                    pause(LOOK);
                    let unseen: BTreeMap<u64, String> = lock(&times)
                        .unseen
                        .iter()
                        .take(LOOKED_FOR)
                        .map(|(seq, id)| (*seq, id.clone()))
                        .collect();
                    if unseen.is_empty() {
                        continue;
                    }
                    let request = request(unseen.values().cloned().collect(), &marker);
                    let request = policy.search(
                        &Principal::anonymous(),
                        std::slice::from_ref(&collection),
                        request,
                    );
                    let request = request.expect("the collection is public");
                    let found = runtime
                        .block_on(search.search(std::slice::from_ref(&index), &request))
                        .expect("an answer");
                    let now = now_us();
                    let found: std::collections::HashSet<_> =
                        found.hits.iter().map(|hit| hit.id.as_str()).collect();
                    lock(&times).unseen.retain(|_, id| !found.contains(id.as_str()));
                    seen.extend(found.into_iter().map(|id| (id.to_owned(), now)));
                }
                seen
            }
        };
        Looker {
            stop,
            times,
            thread: std::thread::spawn(look),
        }
    }

    /// Waits until all were seen.
    fn end(self, count: usize) -> HashMap<String, u64> {
        let until = Instant::now() + PATIENCE;
        while !lock(&self.times).unseen.is_empty() && Instant::now() < until {
            pause(Duration::from_millis(10));
        }
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().expect("it only searches");
        assert_eq!(seen.len(), count, "every change was found");
        seen
    }
}

fn request(ids: Vec<String>, marker: &str) -> SearchRequest {
    let size = ids.len();
    let marked = Query::Term {
        field: "date_text".to_owned(),
        value: Scalar::Text(marker.to_owned()),
        boost: 1.0,
    };
    let query = Query::Bool(Bool {
        filter: vec![
            Query::Ids {
                values: ids,
                boost: 1.0,
            },
            marked,
        ],
        ..Bool::default()
    });
    let source = SourceFilter {
        none: true,
        ..SourceFilter::default()
    };
    SearchRequest {
        query,
        size,
        source,
        track_total_hits: TrackTotalHits::No,
        ..SearchRequest::default()
    }
}
