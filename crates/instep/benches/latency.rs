//! From a commit of an application to our log, to the settlement, and to being found: while another process changes 5,
//! 50 and 500 rows a second.
//!
//! `cargo xtask bench latency [--seconds N] [--json]`

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

#[path = "measure/clock.rs"]
mod clock;
mod measure;
#[path = "measure/recorded.rs"]
mod recorded;
#[path = "../tests/support/tate.rs"]
#[allow(unreachable_pub, reason = "shared with the tests")]
mod tate;
#[path = "measure/writer.rs"]
mod writer;

use clock::{now_us, pause, quantile};
use measure::{Engine, machine};
use recorded::{Recorded, Times};
use writer::Load;

/// Changes in a second.
const RATES: [u32; 3] = [5, 50, 500];
/// How long after the last change everything has to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks of the search.
const LOOK: Duration = Duration::from_micros(500);
/// Documents that one look asks for.
const LOOKED_FOR: usize = 500;
/// Limits of the acknowledgement, in milliseconds.
const ACK_P50_MS: f64 = 5.0;
const ACK_P99_MS: f64 = 50.0;

fn main() {
    let Some(mut arguments) = measure::Arguments::of_process() else {
        return;
    };
    let number = |text: String| text.parse::<u32>().expect("a number");
    let seconds = arguments.value("--seconds").map_or(10, number);
    if let Some(database) = arguments.value("--writer") {
        let rate = arguments.value("--rate").map(number).expect("a rate");
        let marker = arguments.value("--marker").expect("a marker");
        print!(
            "{}",
            writer::write(Path::new(&database), Load { rate, seconds }, &marker)
        );
        return;
    }
    let as_json = arguments.flag("--json");
    arguments.end("--seconds N, --json");
    let Some(data) = tate::folder("bench latency") else {
        return;
    };

    let machine = machine::describe();
    let folder = tempfile::tempdir().expect("a folder");
    drop(tate::load(&data, &folder.path().join("tate.db")));
    let mut spans = Vec::new();
    for engine in [Engine::Null, Engine::Embedded] {
        spans.extend(measure::block_on(follow(folder.path(), engine, seconds)));
    }
    if as_json {
        let spans: Vec<Value> = spans.iter().map(Span::json).collect();
        println!(
            "{}",
            json!({ "bench": "latency", "machine": machine, "documents": tate::ARTWORKS, "seconds": seconds,
            "spans": spans })
        );
        return;
    }
    println!(
        "Tate Collection in SQLite (WAL), {} documents; {}",
        tate::ARTWORKS,
        machine::line(&machine)
    );
    println!("single-row updates by another process, {seconds} s at each rate; milliseconds\n");
    let rows: Vec<_> = spans.iter().map(Span::row).collect();
    println!(
        "{}",
        measure::table(
            &["", "changes/s", "count", "p50", "p99", "max", "of the limits"],
            &rows
        )
    );
    println!("\nlimits of ack (null engine): p50 {ACK_P50_MS} ms, p99 {ACK_P99_MS} ms");
}

/// How long something took, many times.
struct Span {
    name: String,
    rate: u32,
    /// Sorted, in milliseconds.
    times: Vec<f64>,
    limited: bool,
}

impl Span {
    fn new(name: String, rate: u32, mut times: Vec<f64>) -> Span {
        times.sort_by(f64::total_cmp);
        Span {
            name,
            rate,
            times,
            limited: false,
        }
    }

    fn figures(&self) -> [f64; 3] {
        [
            quantile(&self.times, 0.5),
            quantile(&self.times, 0.99),
            quantile(&self.times, 1.0),
        ]
    }

    /// p50 and p99, each against its limit.
    fn ratios(&self) -> Option<(f64, f64)> {
        let [p50, p99, _] = self.figures();
        self.limited.then_some((p50 / ACK_P50_MS, p99 / ACK_P99_MS))
    }

    fn row(&self) -> Vec<String> {
        let [p50, p99, max] = self.figures().map(|time| format!("{time:.2}"));
        let ratios = self
            .ratios()
            .map(|(p50, p99)| format!("{p50:.2}, {p99:.2}"))
            .unwrap_or_default();
        vec![
            self.name.clone(),
            self.rate.to_string(),
            self.times.len().to_string(),
            p50,
            p99,
            max,
            ratios,
        ]
    }

    fn json(&self) -> Value {
        let [p50, p99, max] = self.figures();
        let ratios = self.ratios();
        json!({ "name": self.name, "changes_per_second": self.rate, "count": self.times.len(), "p50_ms": p50,
                "p99_ms": p99, "max_ms": max, "p50_of_limit": ratios.map(|of| of.0), "p99_of_limit": ratios.map(|of| of.1) })
    }
}

/// Runs everything on one engine, and the writer at each rate beside it.
async fn follow(folder: &Path, engine: Engine, seconds: u32) -> Vec<Span> {
    let mut parts = measure::open(folder, engine).await.expect("the parts open");
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
    for rate in RATES {
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
        let writer = writer::start(&folder.join("tate.db"), load, &marker);
        let changes = tokio::task::spawn_blocking(|| writer::finish(writer))
            .await
            .expect("it ends");
        let until = Instant::now() + PATIENCE;
        while lock(&times).settled.len() < changes.len() {
            assert!(Instant::now() < until, "not every change was settled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = looker.map(|looker| looker.end(changes.len()));
        spans.extend(measured(engine, rate, &changes, &lock(&times), seen.as_ref()));
    }
    running.stop().await;
    spans
}

fn measured(
    engine: Engine,
    rate: u32,
    changes: &[writer::Change],
    times: &Times,
    seen: Option<&HashMap<String, u64>>,
) -> Vec<Span> {
    let name = engine.name();
    let since = |ends: &HashMap<String, u64>| {
        let took = |change: &writer::Change| ends[&change.id].saturating_sub(change.began_us) as f64 / 1e3;
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
    spans[2].limited = engine == Engine::Null;
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
        let index = IndexName::physical(&parts.active(), &collection, &parts.collections[0].language);
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
