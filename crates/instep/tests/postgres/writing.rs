//! Many writers at once, with savepoints, long transactions and rollbacks: nothing missing, stale, orphaned or
//! resurrected.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use instep_conformance::in_full;
use instep_conformance::node::Node;
use instep_conformance::postgres::{self, Database, Replication};
use serde_json::json;

use super::world::{assert_in_step, comes_in_step, configuration, load, settled};
use crate::clusters;
use crate::faults::{Dice, kill_in_the_first_load};
use crate::support::product::Product;
use crate::support::state::scans;
use crate::support::tate;

/// The highest id of an artwork that the writers change.
pub(super) const LAST: i64 = 6_000;

/// Weights of the writers' transactions.
const SCRIPTS: [(&str, u32); 8] = [
    ("update", 40),
    ("rename", 5),
    ("move", 20),
    ("vanish", 10),
    ("link", 10),
    ("savepoints", 10),
    ("long", 1),
    ("never", 5),
];

/// Three clients that make so many transactions a second for so long, in another process.
pub(super) fn writers(database: &Database, rate: u32, seconds: u64) -> Child {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/writers");
    let mut command = pgbench();
    command.args([
        "--no-vacuum",
        "--client=3",
        "--jobs=1",
        "--max-tries=10",
        "--random-seed=7",
    ]);
    command.arg(format!("--rate={rate}"));
    command.arg(format!("--time={seconds}"));
    command.arg(format!("--define=last={LAST}"));
    for (script, weight) in SCRIPTS {
        command.arg(format!(
            "--file={}@{weight}",
            folder.join(format!("{script}.sql")).display()
        ));
    }
    command
        .arg(database.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pgbench runs")
}

pub(super) fn pgbench() -> Command {
    let binaries = postgres::available().expect("the test began with a look");
    binaries.command("pgbench")
}

/// Waits for writers, and says how many transactions they made; none may have failed, though one may have been tried
/// several times.
pub(super) fn finished(writers: Child) -> u64 {
    let output = writers.wait_with_output().expect("pgbench ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counted = |what: &str| -> u64 {
        let rest = said.lines().find_map(|line| line.strip_prefix(what));
        let rest = rest.unwrap_or_else(|| panic!("pgbench does not say the {what:?}: {said}"));
        let number = rest.split(['/', ' ']).next().unwrap_or_default();
        number.parse().expect("a number")
    };
    assert_eq!(counted("number of failed transactions: "), 0, "{said}");
    counted("number of transactions actually processed: ")
}

/// pgbench on tables of its own in the same database, as fast as it can, until dropped.
pub(super) struct Neighbour {
    child: Child,
    /// How many transactions were made before.
    before: u64,
}

impl Neighbour {
    pub(super) fn at_full_speed(database: &Database) -> Self {
        if database.value("select to_regclass('pgbench_accounts') is null") == "t" {
            let made = pgbench()
                .args(["--initialize", "--quiet", "--scale=2", &database.url()])
                .output();
            assert!(made.expect("pgbench runs").status.success());
        }
        let child = pgbench()
            .args(["--client=2", "--no-vacuum", "--time=3600", &database.url()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbench runs");
        let before = Self::made(database);
        Neighbour { child, before }
    }

    fn made(database: &Database) -> u64 {
        let made = database.value("select count(*) from pgbench_history");
        made.parse().expect("a number")
    }

    /// Ends it, and says how many transactions it made; it must have run until now.
    pub(super) fn ended(mut self, database: &Database) -> u64 {
        let ended = self.child.try_wait().expect("it was started");
        assert!(ended.is_none(), "pgbench ended early: {ended:?}");
        let before = self.before;
        drop(self);
        let made = Self::made(database) - before;
        assert!(made > 100, "pgbench made only {made} transactions");
        made
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended with the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both cores busy until dropped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn on_both_cores() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let burn = |stop: Arc<AtomicBool>| {
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..2).map(|_| burn(stop.clone())).collect();
        Load { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().expect("it only spins"));
    }
}

/// 200 transactions a second for 20 seconds, and for 5 minutes with `--long`, one of them open for 11 s; then half as many
/// beside pgbench on its own tables in the same database, as fast as it can.
#[test]
fn concurrent_writers_leave_nothing_behind() {
    let (Some(data), Some(_)) = (
        tate::folder("concurrent writers"),
        postgres::or_skip("concurrent writers"),
    ) else {
        return;
    };
    let server = postgres::Server::start(&[]);
    let database = server.database("writers");
    load(&data, &database, Some(LAST));
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&database.url()));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let served = product.serve();

    let seconds = if in_full() { 300 } else { 20 };
    let rate = 200;
    let writing = writers(&database, rate, seconds);
    // Beside the writers' own, which are open for half a second, one that stays open while thousands come and go, and
    // makes none of them wait.
    database.execute(
        "begin; update catalogue_group set title = 'open for long' where id % 20 = 0; select pg_sleep(11);
         update catalogue_group set title = title || ', and closed' where id % 40 = 0; commit",
    );
    let made = finished(writing);
    let least = if in_full() { 190 } else { 150 };
    assert!(
        made >= seconds * least,
        "only {made} transactions in {seconds} s, of {rate} a second"
    );
    settled(&served, &database);
    assert_in_step(
        &product,
        &served,
        &database,
        &format!("{made} transactions of three writers"),
    );

    let neighbour = Neighbour::at_full_speed(&database);
    let made = finished(writers(&database, 100, seconds));
    neighbour.ended(&database);
    settled(&served, &database);
    assert_in_step(
        &product,
        &served,
        &database,
        &format!("{made} transactions beside pgbench on its own tables"),
    );
}

/// The same writers, 100 transactions a second, into a cluster, while our process is killed: 5 times in the first load,
/// or 10 with `--long`, and then every two seconds for ten, or every five for two minutes.
#[test]
fn writers_and_kills_into_a_cluster_leave_nothing_behind() {
    let (Some(url), Some(data), Some(_)) = (
        Node::any(),
        tate::folder("writers into a cluster"),
        postgres::or_skip("writers into a cluster"),
    ) else {
        return;
    };
    let server = postgres::Server::start(&[]);
    let database = server.database("cluster");
    load(&data, &database, (!in_full()).then_some(20_000));
    let folder = tempfile::tempdir().expect("a folder");
    let (text, _clean) = clusters::configuration(&configuration(&database.url()), &url, "writers");
    let product = Product::new(folder.path(), &text);
    let (loading, seconds, pause) = if in_full() { (10, 120, 5) } else { (5, 10, 2) };
    let writing = writers(&database, 100, u64::from(loading) * 2);
    let loaded = kill_in_the_first_load(&product, &mut Dice(13), loading);
    let mut made = finished(writing);
    let mut served = product.serve();
    let writing = writers(&database, 100, seconds);
    for _ in 0..seconds / pause {
        std::thread::park_timeout(Duration::from_secs(pause));
        drop(served);
        served = product.serve();
    }
    made += finished(writing);
    let kills = u64::from(loading) + seconds / pause;
    let what = format!("{made} transactions and {kills} kills into a cluster");
    // Deletes are repeated for two minutes, so that there is a lag for so long; the documents are what they must be sooner.
    comes_in_step(&served, &database, &what);
    assert_eq!(scans(&product), Some(loaded), "nothing was scanned again");
    assert_in_step(&product, &served, &database, &what);
}

/// 2,000 single-row updates at 50 a second with both cores loaded and pgbench on its own tables beside them, also with a
/// synchronous standby that lags, and with rows read from a replica: none is stale. (300 updates each without `--long`.)
#[test]
fn updates_under_load_leave_nothing_stale() {
    let (Some(data), Some(_)) = (
        tate::folder("updates under load"),
        postgres::or_skip("updates under load"),
    ) else {
        return;
    };
    let primary = postgres::Server::start(&[]);
    let database = primary.database("load");
    load(&data, &database, Some(LAST));
    {
        let folder = tempfile::tempdir().expect("a folder");
        let product = Product::new(folder.path(), &configuration(&database.url()));
        update_under_load(&product, &database, "updates under load");
        // Its slot is gone with it, or it would keep the WAL of what follows.
        database.execute("select pg_drop_replication_slot('instep_tate')");
    }

    // Every commit waits for the standby, which takes its time; it is decoded before it is visible.
    let standby = primary.standby("lagging", Replication::Synchronous);
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                standby.freeze_receiver();
                std::thread::park_timeout(Duration::from_millis(40));
                standby.thaw_receiver();
                std::thread::park_timeout(Duration::from_millis(60));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let product = Product::new(folder.path(), &configuration(&database.url()));
        update_under_load(
            &product,
            &database,
            "updates with a synchronous standby that lags",
        );
        database.execute("select pg_drop_replication_slot('instep_tate')");

        let replica = standby.existing(database.name());
        let stream = format!("stream_url = \"{}\"\n[collection.artwork]", database.url());
        let read = configuration(&replica.url()).replacen("[collection.artwork]", &stream, 1);
        let folder = tempfile::tempdir().expect("a folder");
        let product = Product::new(folder.path(), &read);
        update_under_load(&product, &database, "updates that are read from a replica");
        stop.store(true, Ordering::Relaxed);
    });
}

fn update_under_load(product: &Product, database: &Database, what: &str) {
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let served = product.serve();
    let updates = if in_full() { 2_000 } else { 300 };
    let load = Load::on_both_cores();
    let neighbour = Neighbour::at_full_speed(database);
    let mut session = database.psql();
    let mut session = session
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("psql runs");
    let mut input = session.stdin.take().expect("it is piped");
    let mut next = Instant::now();
    for update in 0..updates {
        use std::io::Write;
        let id = update * 7_919 % LAST;
        writeln!(input, "update artwork set title = 'update {update}' where id = (select max(id) from artwork where id <= greatest({id}, 100));")
            .expect("psql reads");
        next += Duration::from_millis(20);
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    drop(input);
    assert!(session.wait().expect("psql ends").success());
    neighbour.ended(database);
    settled(&served, database);
    drop(load);
    settled(&served, database);
    assert_in_step(product, &served, database, what);
    assert_eq!(served.stop(), Some(0));
}
