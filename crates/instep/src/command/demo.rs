//! `demo`: a car marketplace, from nothing to searches, on one machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use instep_core::{Error, Result};
use rusqlite::Connection;
use serde_json::json;

use crate::command::serve::serve_parts;
use crate::config::Config;
use crate::demo::{Live, Setup, configuration, write};
use crate::output::Output;
use crate::serving;
use crate::wiring::{Access, Parts, forget};

/// What the demo takes.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many cars.
    #[arg(long, default_value_t = 20_000)]
    cars: u32,
    /// The same seed gives the same marketplace.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Serve on this loopback port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Keep changing rows, so that one can watch the index follow.
    #[arg(long)]
    live: bool,
    /// Index into this OpenSearch or Elasticsearch, instead of the embedded engine: http://127.0.0.1:9200. Its indexes are
    /// called documents-demo_…; those of the folder's earlier demo are removed.
    #[arg(long, value_name = "URL")]
    cluster: Option<String>,
    /// Where the demo keeps its files. An earlier demo there is made again.
    #[arg(long, value_name = "FOLDER", default_value = "instep-demo")]
    folder: PathBuf,
}

/// The files of a demo, besides the state folder.
const FILES: [&str; 5] = [
    "market.db",
    "market.db-wal",
    "market.db-shm",
    "market.db-journal",
    "instep.toml",
];

/// What the index set of a demo in a cluster begins with; the rest is drawn for each folder.
const SET: &str = "demo_";

/// How long between two changes of `--live`.
const LIVE_PAUSE: Duration = Duration::from_millis(500);

/// `instep demo`.
pub(crate) async fn run(demo: Demo, output: &Output) -> Result<ExitCode> {
    let began = Instant::now();
    let former = former_set(&demo.folder);
    clear(&demo.folder)?;
    // A name of its own, so that no other demo's indexes are met; kept at once, so that the next demo here finds them.
    let set = former
        .clone()
        .unwrap_or_else(|| format!("{SET}{:010x}", crate::wiring::now_ms()));
    let file = demo.folder.join("instep.toml");
    if demo.cluster.is_some() {
        std::fs::write(&file, format!("[set.{set}]\n")).map_err(|error| unwritable(&file, &error))?;
    }
    let database = demo.folder.join("market.db");
    let mut connection = Connection::open(&database).map_err(|error| broken(&database, error))?;
    let counts = write(&mut connection, demo.cars, demo.seed).map_err(|error| broken(&database, error))?;
    output.note(&format!(
        "{}: {} cars, {} ads, {} sellers, written in {:.1} s",
        database.display(),
        counts.cars,
        counts.ads,
        counts.sellers,
        began.elapsed().as_secs_f64()
    ));

    let keys = Secrets::random(&connection).map_err(|error| broken(&database, error))?;
    let listen = SocketAddr::from(([127, 0, 0, 1], demo.port));
    let mut text = configuration(Setup {
        source: "sqlite:market.db",
        listen: &listen.to_string(),
        buyer: &keys.buyer,
        dealer: &keys.dealer,
        seller: &keys.seller,
        staff: &keys.staff,
    });
    if let Some(url) = &demo.cluster {
        let url = toml::Value::String(url.clone());
        text.push_str(&format!(
            "\n# Where documents live.\n[cluster.main]\nurl = {url}\nsettings = {{ number_of_replicas = 0 }}\n\n\
             [set.{set}]\ncluster = \"main\"\n"
        ));
    }
    std::fs::write(&file, &text).map_err(|error| unwritable(&file, &error))?;

    let parts = Parts::open(Config::parse(&file, text, &|_| None)?, Access::Owner).await?;
    if demo.cluster.is_some() {
        // It fails here, and not after inviting to an empty index.
        parts.engine_of(&parts.active())?.engine.place().await?;
        output.note(&format!(
            "documents live in the cluster's indexes documents-{set}-*; they stay until the next demo in this folder"
        ));
    }
    if demo.cluster.is_some() && former.is_some() {
        // Their state is gone, and nobody follows them.
        let cluster = parts
            .config
            .clusters
            .iter()
            .find(|cluster| cluster.name.as_str() == "main");
        if let Some(cluster) = cluster {
            forget(&cluster.engine, &parts.active()).await?;
        }
    }
    let listener = serving::listen(&parts.config, listen).await?;
    let live = demo
        .live
        .then(|| tokio::spawn(keep_changing(connection, demo.seed, *output)));
    let folder = demo.folder.clone();
    let done = serve_parts(&parts, listener, output, |address| {
        invite(address, &keys, &folder, began, output)
    })
    .await;
    if let Some(live) = live {
        live.abort();
    }
    done
}

/// The set in a cluster of the demo that this folder holds.
fn former_set(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("instep.toml")).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let sets = table.get("set")?.as_table()?;
    sets.keys().find(|name| name.starts_with(SET)).cloned()
}

/// Removes what an earlier demo left; anything else in the folder is refused by name.
fn clear(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let entries = std::fs::read_dir(folder).map_err(|error| unwritable(folder, &error))?;
    let names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if let Some(stranger) = names
        .iter()
        .find(|name| !FILES.contains(&name.as_str()) && *name != "instep-state")
    {
        let message = format!("`{}` holds `{stranger}`, which no demo wrote", folder.display());
        return Err(
            Error::invalid("folder_in_use", message).with_remedy("choose another folder: --folder <path>")
        );
    }
    let state = folder.join("instep-state");
    if state.exists() {
        // Opening it first refuses a folder in which another demo still runs.
        drop(instep_store::SqliteLog::open(
            state.join("state.db"),
            std::sync::Arc::new(crate::wiring::now_ms),
        )?);
        std::fs::remove_dir_all(&state).map_err(|error| unwritable(&state, &error))?;
    }
    for name in FILES
        .iter()
        .filter(|name| names.iter().any(|there| there == *name))
    {
        let path = folder.join(name);
        std::fs::remove_file(&path).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

/// The keys of one demo: random, so that no demo anywhere has a known one.
struct Secrets {
    buyer: String,
    dealer: String,
    seller: String,
    staff: String,
}

impl Secrets {
    fn random(connection: &Connection) -> rusqlite::Result<Self> {
        let key = |name: &str| {
            connection
                .query_row("select lower(hex(randomblob(16)))", [], |row| {
                    row.get::<_, String>(0)
                })
                .map(|hex| format!("{name}-{hex}"))
        };
        Ok(Secrets {
            buyer: key("buyer")?,
            dealer: key("dealer")?,
            seller: key("seller")?,
            staff: key("staff")?,
        })
    }
}

fn invite(address: SocketAddr, keys: &Secrets, folder: &Path, began: Instant, output: &Output) {
    let curl = |key: &str, what: &str, body: &str| {
        format!(
            "curl -s http://{address}/{what} -H 'authorization: Bearer {key}' -H 'content-type: application/json' -d '{body}'"
        )
    };
    let words = r#"{"query":{"match":{"title":"estate"}},"size":3,"aggs":{"makes":{"terms":{"field":"car.model.manufacturer.name.keyword","size":5}}}}"#;
    let restricted = r#"{"query":{"match_phrase":{"body":"trade only"}},"size":1}"#;
    let lines = [
        (
            "ads for estates, and who makes them, as staff",
            curl(&keys.staff, "ad/_search", words),
        ),
        (
            "ads for the trade, as a dealer",
            curl(&keys.dealer, "ad/_search", restricted),
        ),
        (
            "the same as a buyer: there is nothing to see",
            curl(&keys.buyer, "ad/_search", restricted),
        ),
    ];
    let mut text = format!(
        "\nserving on http://{address} after {:.1} s; configuration, database and index are in {}\n",
        began.elapsed().as_secs_f64(),
        folder.display()
    );
    for (what, line) in &lines {
        text.push_str(&format!("\n# {what}\n{line}\n"));
    }
    text.push_str("\nstop with ctrl-c\n");
    let answer = json!({
        "address": address.to_string(),
        "folder": folder.display().to_string(),
        "seconds": began.elapsed().as_secs_f64(),
        "keys": { "buyer": keys.buyer, "dealer": keys.dealer, "seller": keys.seller, "staff": keys.staff },
        "try": lines.iter().map(|(_, line)| line).collect::<Vec<_>>(),
    });
    output.result(&text, &answer);
}

/// Changes a row every now and then, until the task is stopped.
async fn keep_changing(connection: Connection, seed: u64, output: Output) {
    let mut state = Some((Live::new(seed), connection));
    while let Some((mut live, mut connection)) = state.take() {
        tokio::time::sleep(LIVE_PAUSE).await;
        let stepped = tokio::task::spawn_blocking(move || {
            let said = live.step(&mut connection);
            (live, connection, said)
        });
        let Ok((live, connection, said)) = stepped.await else {
            return;
        };
        match said {
            Ok(said) => output.note(&said),
            Err(error) => tracing::warn!("no change was made: {error}"),
        }
        state = Some((live, connection));
    }
}

fn broken(path: &Path, error: rusqlite::Error) -> Error {
    Error::fatal(
        "demo_failed",
        format!("cannot write `{}`: {error}", path.display()),
    )
    .with_source(error)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::invalid(
        "demo_failed",
        format!("cannot write `{}`: {error}", path.display()),
    )
    .with_remedy("choose another folder: --folder <path>")
}
