//! Whatever dies while three writers go on: nothing missing, stale, orphaned or resurrected.

use std::time::{Duration, Instant};

use instep_conformance::in_full;
use instep_conformance::postgres::{self, Database, Replication, Stop};
use instep_conformance::proxy::Proxy;
use serde_json::{Value, json};

use super::world::{assert_in_step, configuration, load, settled};
use super::writing::{LAST, Neighbour, finished, writers};
use crate::faults::{Dice, kill_in_the_first_load, kill_while_it_follows};
use crate::support::product::{Product, Server, eventually};
use crate::support::state::scans;
use crate::support::tate;

const RATE: u32 = 100;

fn data(test: &str) -> Option<std::path::PathBuf> {
    postgres::or_skip(test).and_then(|_| tate::folder(test))
}

pub(super) fn pause(milliseconds: u64) {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// 50 kills with `--long`, otherwise 15; 10 or 5 of them in the first load. No scan of both sides mends what they lose
/// before anybody looks.
#[test]
fn kills_of_ours_lose_nothing() {
    let Some(data) = data("kills of instep beside Postgres") else {
        return;
    };
    let server = postgres::Server::start(&[]);
    let database = server.database("kills");
    load(&data, &database, (!in_full()).then_some(20_000));
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&database.url()));
    let (loading, following) = if in_full() { (10, 40) } else { (5, 10) };
    let mut dice = Dice(11);
    let writing = writers(&database, RATE, u64::from(loading) * 2);
    let loaded = kill_in_the_first_load(&product, &mut dice, loading);
    let mut made = finished(writing);
    let writing = writers(&database, RATE, u64::from(following));
    kill_while_it_follows(&product, &mut dice, following, 1_000);
    made += finished(writing);
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let served = product.serve();
    settled(&served, &database);
    assert_eq!(scans(&product), Some(loaded), "nothing was scanned again");
    assert_in_step(
        &product,
        &served,
        &database,
        &format!("{made} transactions and {} kills", loading + following),
    );
}

/// How a server ends.
#[derive(Clone, Copy)]
enum End {
    /// The postmaster is killed.
    Postmaster,
    /// A session is killed, and the server recovers by itself.
    Session,
    Told(Stop),
}

/// 10 crashes and 2 stops in order.
const ENDS: [End; 12] = [
    End::Postmaster,
    End::Session,
    End::Told(Stop::Immediate),
    End::Told(Stop::Fast),
    End::Session,
    End::Postmaster,
    End::Told(Stop::Immediate),
    End::Session,
    End::Postmaster,
    End::Told(Stop::Fast),
    End::Told(Stop::Immediate),
    End::Postmaster,
];

/// 10 crashes of the whole server with `--long`, otherwise 3, and restarts in order; with commits that wait for the disk
/// and with such that do not. Then the processes that serve us are killed, and the network is cut, while writers and
/// pgbench on its own tables go on.
#[test]
fn a_database_that_dies_loses_nothing() {
    let Some(data) = data("crashes of Postgres") else {
        return;
    };
    let server = postgres::Server::start(&[]);
    let database = server.database("crashes");
    load(&data, &database, Some(LAST));
    let proxy = Proxy::to(([127, 0, 0, 1], server.port()).into());
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(
        folder.path(),
        &configuration(&database.url_through(proxy.url_port())),
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let loaded = scans(&product);
    let served = product.serve();

    let rounds = if in_full() { 12 } else { 4 };
    for (round, end) in ENDS.into_iter().enumerate().take(rounds) {
        // A commit that nobody waits for may be read and taken back by a crash.
        let commits = if round % 3 == 0 { "on" } else { "off" };
        server.set(&[("synchronous_commit", commits)]);
        // They die with the server, and are not asked what they have done.
        let mut writing = writers(&database, RATE, 3);
        pause(700);
        match end {
            End::Postmaster => server.crash(),
            End::Session => server.crash_session(),
            End::Told(how) => server.stop(how),
        }
        if !matches!(end, End::Session) {
            server.start_again();
        }
        writing.wait().expect("pgbench ends");
        answers(&database);
        let writing = writers(&database, RATE, 1);
        finished(writing);
    }
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "crashes of Postgres");

    server.set(&[("synchronous_commit", "on")]);
    let writing = writers(&database, RATE, if in_full() { 60 } else { 15 });
    let neighbour = Neighbour::at_full_speed(&database);
    for _ in 0..3 {
        database.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
        pause(400);
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'instep' and pid <> pg_backend_pid()",
        );
        pause(400);
        proxy.cut();
        pause(500);
        proxy.heal();
        pause(500);
        proxy.cut_after(200_000);
        pause(500);
        proxy.heal();
    }
    neighbour.ended(&database);
    let made = finished(writing);
    settled(&served, &database);
    assert_eq!(scans(&product), loaded, "nothing was scanned again");
    assert_in_step(
        &product,
        &served,
        &database,
        &format!("{made} transactions, killed walsenders and cut networks"),
    );
}

/// A network that says nothing for longer than the server waits: the server ends the stream, we learn it when the network
/// is back, and what was written meanwhile comes then. Twice, and the second time rows are being read.
#[test]
fn a_silent_network_loses_nothing() {
    let Some(data) = data("a silent network before Postgres") else {
        return;
    };
    let server = postgres::Server::start(&[("wal_sender_timeout", "2s")]);
    let database = server.database("silence");
    load(&data, &database, Some(LAST));
    let proxy = Proxy::to(([127, 0, 0, 1], server.port()).into());
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(
        folder.path(),
        &configuration(&database.url_through(proxy.url_port())),
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let loaded = scans(&product);
    let served = product.serve();
    let writing = writers(&database, RATE, 20);
    for silence_ms in [5_000, 3_000] {
        pause(1_000);
        proxy.silence();
        database.execute("update artist set name = name || ' unheard' where id % 3 = 0");
        let slot = "select active from pg_replication_slots where slot_name = 'instep_tate'";
        pause(silence_ms);
        assert_eq!(database.value(slot), "f", "the server gave the stream up");
        proxy.heal();
        eventually("the stream to come back", Duration::from_secs(60), || {
            database.value(slot) == "t"
        });
    }
    let made = finished(writing);
    settled(&served, &database);
    assert_eq!(scans(&product), loaded, "nothing was scanned again");
    assert_in_step(
        &product,
        &served,
        &database,
        &format!("{made} transactions and two silences"),
    );
}

fn answers(database: &Database) {
    eventually("Postgres to answer again", Duration::from_secs(60), || {
        database.try_query("select 1").is_ok()
    });
}

/// A standby is promoted: another timeline, without our slot. It is refused by name, search stays up, and a re-scan finds
/// what was lost with the primary as well as what came since.
#[test]
fn a_failover_is_refused_by_name_and_mended_by_a_rescan() {
    let Some(data) = data("a failover of Postgres") else {
        return;
    };
    let primary = postgres::Server::start(&[]);
    let database = primary.database("failover");
    load(&data, &database, Some(LAST));
    let standby = primary.standby("next", Replication::Asynchronous);
    standby.catch_up(&primary);
    let proxy = Proxy::to(([127, 0, 0, 1], primary.port()).into());
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(
        folder.path(),
        &configuration(&database.url_through(proxy.url_port())),
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let served = product.serve();
    finished(writers(&database, RATE, 3));
    settled(&served, &database);

    // What the standby never gets: it was indexed, and is gone with the primary.
    standby.freeze_receiver();
    database.execute("update artwork set title = 'lost' where id % 10 = 0; insert into artwork (id, acno, title) values (800000, 'lost', 'lost')");
    settled(&served, &database);
    primary.stop(Stop::Immediate);
    standby.thaw_receiver();
    standby.promote();
    let promoted = standby.existing(database.name());
    promoted.execute("update artwork set title = 'after the failover' where id % 7 = 0");
    proxy.retarget(([127, 0, 0, 1], standby.port()).into());

    let problem = halted(&served);
    assert_eq!(problem["code"], json!("source_changed"), "{problem}");
    let remedy = problem["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("instep rescan tate"), "{remedy}");
    let found = served.send("GET", "/artwork/_count", None, None);
    assert_eq!(found.status, 200, "search stays up: {}", found.body);

    product.json(&["rescan", "tate"]);
    eventually("the source to be followed again", Duration::from_secs(60), || {
        served.status(None)["sources"][0]["state"] == json!("waiting")
    });
    settled(&served, &promoted);
    assert_in_step(&product, &served, &promoted, "the failover and the re-scan");
    finished(writers(&promoted, RATE, 3));
    settled(&served, &promoted);
    assert_in_step(&product, &served, &promoted, "writing after the failover");
}

/// A slot that the server gave up stops the source by name; a re-scan also finds what was deleted meanwhile.
#[test]
fn a_lost_slot_is_named_and_mended_by_a_rescan() {
    let Some(data) = data("a lost slot") else {
        return;
    };
    let server = postgres::Server::start(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ]);
    let database = server.database("lost");
    load(&data, &database, Some(LAST));
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&database.url()));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    database.execute("delete from artwork_subject where artwork_id < 500; delete from artwork_artist where artwork_id < 500; delete from artwork where id < 500");
    for _ in 0..6 {
        database.execute("update artwork set medium = medium || ' '; select pg_switch_wal(); checkpoint");
    }
    let status = "select wal_status from pg_replication_slots where slot_name = 'instep_tate'";
    assert_eq!(database.value(status), "lost");

    let served = product.serve();
    let problem = halted(&served);
    assert_eq!(problem["code"], json!("slot_lost"), "{problem}");
    assert!(
        problem.to_string().contains("max_slot_wal_keep_size"),
        "{problem}"
    );
    let found = served.send("GET", "/artwork/_count", None, None);
    assert_eq!(found.status, 200, "search stays up: {}", found.body);
    product.json(&["rescan", "tate"]);
    eventually("the source to be followed again", Duration::from_secs(60), || {
        served.status(None)["sources"][0]["state"] == json!("waiting")
    });
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "the lost slot and the re-scan");
}

/// Waits until the source is halted; what the status says of it.
fn halted(served: &Server) -> Value {
    let mut problem = Value::Null;
    eventually("the source to be halted by name", Duration::from_secs(60), || {
        let status = served.status(None);
        problem = status["sources"][0]["problem"].clone();
        status["sources"][0]["state"] == json!("halted")
    });
    problem
}
