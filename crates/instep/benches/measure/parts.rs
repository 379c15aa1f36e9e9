//! What `bench sync` measures: each part runs in a process of its own, so that none finds the memory, caches or threads
//! of another, and measures itself from when everything is open.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use instep::running::Running;
use instep_core::{Builder, Built, DocId, Document, Language, Mapping, Readers};
use instep_embedded::Options;
use instep_embedded::bare::Bare;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use instep::config::Config;

use crate::measure::{Engine, Home, block_on, configuration, open, parsed, text};
use crate::process::{Peak, cpu_us, threads_us};
use crate::{cluster, tate, world};

/// The columns that the documents hold, one statement for each table.
const TABLES: [&str; 8] = [
    "select id, acno, title, foreign_title, medium, classification, inscription, credit_line, date_text, start_year,
            end_year, acquisition_year, width, height, group_id from artwork order by id",
    "select artwork_id, artist_id, role, ord from artwork_artist order by artwork_id",
    "select id, name, birth_year, death_year from artist order by id",
    "select artist_id, movement_id from artist_movement order by artist_id",
    "select id, name from movement order by id",
    "select artwork_id, subject_id from artwork_subject order by artwork_id",
    "select id, name from subject order by id",
    "select id, title, type from catalogue_group order by id",
];

/// The documents, as far as SQL alone makes them.
const JSON: &str = "
    select a.id, json_object(
        'acno', acno, 'title', a.title, 'foreign_title', foreign_title, 'medium', medium,
        'classification', classification, 'inscription', inscription, 'credit_line', credit_line,
        'date_text', date_text, 'start_year', start_year, 'end_year', end_year,
        'acquisition_year', acquisition_year, 'width', width, 'height', height,
        'artists', (select json_group_array(json_object(
                'name', name, 'birth_year', birth_year, 'death_year', death_year,
                'movements', (select json_group_array(m.name) from artist_movement am
                              join movement m on m.id = am.movement_id where am.artist_id = artist.id)) order by ord)
            from artwork_artist aa join artist on artist.id = aa.artist_id where aa.artwork_id = a.id),
        'subjects', (select json_group_array(s.name) from artwork_subject x
            join subject s on s.id = x.subject_id where x.artwork_id = a.id),
        'group', (select json_object('title', g.title, 'type', g.type) from catalogue_group g where g.id = a.group_id))
    from artwork a order by a.id";

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// SQLite alone: every row of every table, one statement for each.
    Tables,
    /// SQLite alone: one statement that makes the JSON.
    Json,
    /// Postgres alone: one statement that makes the JSON, with each table joined by hash.
    Copy,
    /// Ours, into an engine that keeps nothing.
    Null,
    /// The same, with two collections more whose reads are recorded.
    Recorded,
    /// The same with the language from a column, so that where each document lies is written down.
    Placed,
    /// Writes the documents that ours makes into a file, for `Raw`. Not measured.
    Ready,
    /// Tantivy alone, fed with the documents that are ready.
    Raw,
    /// Ours, into the embedded engine.
    Embedded,
    /// Ours, into a cluster.
    Cluster,
    /// The documents that are ready, into a cluster.
    Loaded,
}

impl Part {
    const ALL: [Part; 11] = [
        Part::Tables,
        Part::Json,
        Part::Copy,
        Part::Null,
        Part::Recorded,
        Part::Placed,
        Part::Ready,
        Part::Raw,
        Part::Embedded,
        Part::Cluster,
        Part::Loaded,
    ];

    /// Those that are measured, in the order of a round.
    pub(crate) fn measured(home: &Home, engine: Engine) -> &'static [Part] {
        match (engine, home) {
            // The loader's index is made like ours.
            (Engine::Cluster, _) => &[Part::Cluster, Part::Loaded],
            (_, Home::Sqlite) => &[
                Part::Tables,
                Part::Json,
                Part::Null,
                Part::Placed,
                Part::Raw,
                Part::Embedded,
            ],
            (_, Home::Postgres(_)) => &[
                Part::Copy,
                Part::Null,
                Part::Recorded,
                Part::Placed,
                Part::Raw,
                Part::Embedded,
            ],
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Tables => "tables",
            Part::Json => "json",
            Part::Copy => "copy",
            Part::Null => "null",
            Part::Recorded => "recorded",
            Part::Placed => "placed",
            Part::Ready => "ready",
            Part::Raw => "raw",
            Part::Embedded => "embedded",
            Part::Cluster => "cluster",
            Part::Loaded => "loaded",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Runs it on these rows, with its files in this folder.
    pub(crate) fn run(self, folder: &Path, home: &Home) -> Value {
        match self {
            Part::Tables => read(folder, &TABLES),
            Part::Json => read(folder, &[JSON]),
            Part::Copy => copy(home),
            Part::Null => block_on(ours(configuration(folder, Engine::Null, home, ""))),
            Part::Recorded => {
                let config = configuration(folder, Engine::Null, home, world::MORE_COLLECTIONS);
                block_on(ours(config))
            }
            Part::Placed => {
                let text = text(Engine::Null, home, "").replace("language = \"en\"", LANGUAGES);
                block_on(ours(parsed(folder, text)))
            }
            Part::Ready => block_on(ready(folder, home)),
            Part::Raw => raw(folder, home),
            Part::Embedded => block_on(ours(configuration(folder, Engine::Embedded, home, ""))),
            Part::Cluster => cluster::synchronised(folder, home),
            Part::Loaded => cluster::loaded(folder),
        }
    }
}

/// In place of one language: a column of which nearly every value is none that is known.
const LANGUAGES: &str = "language = { column = \"classification\", known = [\"en\", \"sv\"] }";

/// What a part cost until its documents were done, and until it had ended.
pub(crate) struct Cost {
    began: Instant,
    cpu: u64,
    peak: Peak,
}

impl Cost {
    pub(crate) fn begin() -> Cost {
        Cost {
            peak: Peak::watch(),
            cpu: cpu_us(),
            began: Instant::now(),
        }
    }

    pub(crate) fn done(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(crate) fn end(self, documents: u64, seconds: f64) -> Value {
        json!({
            "documents": documents,
            "documents_per_second": documents as f64 / seconds,
            "cpu_us": (cpu_us() - self.cpu) as f64 / documents as f64,
            "rss_anon_mb": self.peak.end() as f64 / 1_000.0 * 1.024,
        })
    }
}

fn read(folder: &Path, statements: &[&str]) -> Value {
    let connection = Connection::open(folder.join("tate.db")).expect("the database opens");
    let cost = Cost::begin();
    let mut documents = 0;
    for (place, statement) in statements.iter().enumerate() {
        let mut statement = connection.prepare(statement).expect("the statement is valid");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("it runs");
        while let Some(row) = rows.next().expect("it goes on") {
            for column in 0..columns {
                let value = row.get_ref(column).expect("the column exists");
                std::hint::black_box(match value {
                    ValueRef::Null => 0,
                    ValueRef::Integer(number) => number,
                    ValueRef::Real(number) => number as i64,
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as i64,
                });
            }
            documents += u64::from(place == 0);
        }
    }
    let seconds = cost.done();
    cost.end(documents, seconds)
}

/// `psql` writes the documents to nothing; its start counts.
fn copy(home: &Home) -> Value {
    let Home::Postgres(url) = home else {
        panic!("the statement is Postgres'")
    };
    let binaries = instep_conformance::postgres::available().expect("the run began with a look");
    let statement = format!(
        "copy ({}) to stdout",
        include_str!("../../tests/support/tate.sql")
    );
    let cost = Cost::begin();
    let mut psql = binaries.command("psql");
    // Each join by hash, in memory: for the one inside the aggregation the planner would take nested loops.
    let settings = "set enable_nestloop = off; set enable_mergejoin = off; set work_mem = '256MB'";
    psql.args(["-X", "-q", "-c", settings, "-c", &statement, "-d", url])
        .stdout(Stdio::null());
    assert!(
        psql.status().expect("psql runs").success(),
        "the statement is valid"
    );
    let seconds = cost.done();
    cost.end(tate::ARTWORKS, seconds)
}

/// The first synchronisation through the library, from an empty state until every document is in the engine. Ending it
/// (the merges that have begun) counts as CPU, as it does for Tantivy alone.
pub(crate) async fn ours(config: Config) -> Value {
    let parts = open(config).await.expect("the parts open");
    let cost = Cost::begin();
    let running = Running::start(&parts).await.expect("the parts start");
    let done = running.caught_up().await.expect("the state can be read");
    let seconds = cost.done();
    assert!(done.is_complete(), "every row is indexed");
    let documents = done.sets[0].counts.scanned;
    let threads = threads_us();
    running.stop().await;
    drop(parts);
    let mut figures = cost.end(documents, seconds);
    let per_document = |us: u64| us as f64 / documents as f64;
    figures["threads_cpu_us"] = threads
        .into_iter()
        .map(|(name, us)| (name, json!(per_document(us))))
        .collect();
    figures
}

/// Ids and JSON, line by line.
async fn ready(folder: &Path, home: &Home) -> Value {
    let config = configuration(folder, Engine::Null, home, "");
    let parts = open(config).await.expect("the parts open");
    let collection = parts.collections[0].name.clone();
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join("ready")).expect("a file"));
    let mut after = None;
    loop {
        let ids = parts
            .assembler
            .scan(&collection, after.as_ref(), 2_000)
            .await
            .expect("keys");
        let Some(last) = ids.last().cloned() else { break };
        for built in parts.assembler.build(&collection, &ids).await.expect("documents") {
            let Built::Document(document, _) = built else {
                panic!("every row is a document")
            };
            assert_eq!(document.readers, Readers::Public, "the collection is public");
            writeln!(file, "{}\n{}", document.id.as_str(), document.source).expect("the file can be written");
        }
        after = Some(last);
    }
    file.flush().expect("the file can be written");
    Value::Null
}

/// As much memory and as many threads as the engine's writer has, one commit at the end.
fn raw(folder: &Path, home: &Home) -> Value {
    let text = std::fs::read_to_string(folder.join("ready")).expect("it was written before");
    let lines: Vec<&str> = text.lines().collect();
    let language = Language::from("en");
    let documents: Vec<Document> = lines
        .chunks_exact(2)
        .map(|pair| Document {
            id: DocId::parse(pair[0]).expect("it was an id"),
            language: language.clone(),
            readers: Readers::Public,
            source: Arc::from(pair[1]),
        })
        .collect();
    drop(lines);
    drop(text);
    let directory = folder.join("raw");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).expect("an earlier run's index can be removed");
    }
    let config = configuration(folder, Engine::Embedded, home, "");
    let mapping = block_on(async {
        let schemas =
            instep::wiring::schemas(&instep::wiring::open_sources(&config).expect("it opens")).await;
        let collections = config.collections(&schemas.expect("a schema"));
        Mapping::of(&collections.expect("it was valid before")[0], &language)
    });
    let mut bare = Bare::create(&directory, &mapping, options(&config)).expect("an index");
    let before = cpu_us();
    for document in &documents {
        bare.read(document).expect("it is valid");
    }
    let reading = (cpu_us() - before) as f64 / documents.len() as f64;
    let cost = Cost::begin();
    for document in &documents {
        bare.add(document).expect("it is valid");
    }
    bare.commit().expect("a commit");
    let seconds = cost.done();
    let count = bare.close().expect("it closes");
    assert_eq!(count, documents.len() as u64, "every document is in the index");
    let mut figures = cost.end(count, seconds);
    figures["reading_cpu_us"] = json!(reading);
    figures
}

/// What the product gives the embedded engine.
fn options(config: &instep::config::Config) -> Options {
    Options {
        writer_memory_bytes: writer_memory(config),
        ..Options::default()
    }
}

/// The writer's budget, in bytes.
pub(crate) fn writer_memory(config: &instep::config::Config) -> usize {
    use instep::config::EngineConfig;
    let budgets = config
        .clusters
        .iter()
        .filter_map(|cluster| match &cluster.engine {
            EngineConfig::Embedded { writer_memory } => Some(*writer_memory),
            EngineConfig::Null | EngineConfig::Cluster(_) => None,
        });
    budgets.max().expect("a cluster of the embedded engine")
}
