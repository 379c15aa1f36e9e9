//! What others write in the same database costs us little more than reading the stream, and changes nothing of ours.

use std::process::{Child, Stdio};

use instep_conformance::in_full;
use instep_conformance::postgres::{self, Server as Postgres};
use serde_json::Value;

use super::faults::pause;
use super::stage::{PATIENCE, Stage};
use super::writing::Neighbour;
use crate::support::product::{Server, eventually};

const SCHEMA: &str = "
    create table item (id int primary key, name text);
    insert into item select n, 'item ' || n from generate_series(1, 100) n;";

const COLLECTION: &str = "[collection.item]\nroot = \"item\"\npublic = true\nfields.name = \"text\"\n";

const EXPECTED: (&str, &str) = ("item", "select id, json_build_object('name', name) from item");

/// A client that reads a slot and drops what it reads.
struct Reading(Child);

impl Reading {
    /// `pg_recvlogical` on a slot of its own, of the same kind and with the same publication.
    fn start(stage: &Stage) -> Self {
        let recvlogical = |action: &str| {
            let binaries = postgres::available().expect("the test began with a look");
            let mut command = binaries.command("pg_recvlogical");
            command.args([action, "--slot=peer", "--dbname", &stage.database.url()]);
            command
        };
        let made = recvlogical("--create-slot").arg("--plugin=pgoutput").output();
        assert!(made.expect("pg_recvlogical runs").status.success());
        let child = recvlogical("--start")
            .args([
                "--file=/dev/null",
                "--option=proto_version=1",
                "--option=publication_names=instep_main",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Reading(child.expect("pg_recvlogical runs"))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processor time of a process, in the system's ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').expect("it has a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| -> u64 { fields[at].parse().expect("a number") };
    field(11) + field(12)
}

/// Memory of a process that no file stands behind, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a size")
}

/// What must not move: how much was ever touched, and what is pending.
fn log(served: &Server) -> [Value; 2] {
    let status = served.status(None);
    let set = &status["sets"][0];
    [set["counts"]["touches"].clone(), set["pending"].clone()]
}

/// How many bytes of the server's log a slot is behind.
fn behind(stage: &Stage, slot: &str) -> u64 {
    let sql = format!(
        "select pg_current_wal_flush_lsn() - confirmed_flush_lsn from pg_replication_slots where slot_name = '{slot}'"
    );
    stage.database.value(&sql).parse().expect("a number")
}

/// 10 seconds of pgbench on its own tables (3 without `--long`), first with a publication of our tables, then with one of
/// all: nothing of it reaches our log, our slot moves along, our memory stays. The processor time of our whole process
/// beside that of a client that drops what it reads is printed; what it is depends on the machine.
#[test]
fn pgbench_on_its_own_tables_costs_little_more_than_reading_its_stream() {
    if postgres::or_skip("pgbench beside us").is_none() || !std::path::Path::new("/proc/self/stat").exists() {
        return;
    }
    for publication in ["", "create publication instep_main for all tables"] {
        let server = Postgres::start(&[]);
        let stage = Stage::new(&server, "beside", SCHEMA, COLLECTION, &[EXPECTED]);
        stage.database.execute(publication);
        measured(
            &stage,
            if publication.is_empty() {
                "our tables"
            } else {
                "all tables"
            },
        );
    }
}

fn measured(stage: &Stage, published: &str) {
    let served = stage.serve();
    let slot = stage.database.name().to_owned();
    // Its tables are made before anything is measured.
    drop(Neighbour::at_full_speed(&stage.database));
    let peer = Reading::start(stage);
    eventually("the peer to read", PATIENCE, || {
        let active = "select count(*) from pg_replication_slots where active";
        stage.database.value(active) == "2"
    });
    eventually("our slot to come along", PATIENCE, || {
        behind(stage, &slot) < 64 * 1024
    });

    let (log_before, wal_before) = (log(&served), wal(stage));
    let [ours, theirs] = [served.id(), peer.0.id()];
    let before = [ticks(ours), ticks(theirs), memory(ours)];
    let length_ms = if in_full() { 10_000 } else { 3_000 };
    pause(length_ms);
    let resting = [ticks(ours) - before[0], ticks(theirs) - before[1]];
    let neighbour = Neighbour::at_full_speed(&stage.database);
    pause(length_ms);
    let made = neighbour.ended(&stage.database);
    eventually("both slots to come along", PATIENCE, || {
        behind(stage, &slot) < 64 * 1024 && sent(stage)
    });
    let after = [ticks(ours), ticks(theirs), memory(ours)];

    let spent = [0, 1].map(|of| after[of] - before[of] - resting[of]);
    let grown = after[2].saturating_sub(before[2]);
    println!(
        "{published} published, {made} transactions of pgbench, {} kB of log: {} ticks of processor time of our whole process \
         ({} more at rest), {} of pg_recvlogical to nothing ({} more at rest), ratio {:.2}; {grown} KiB more memory",
        (wal(stage) - wal_before) / 1024,
        spent[0],
        resting[0],
        spent[1],
        resting[1],
        spent[0] as f64 / spent[1].max(1) as f64,
    );
    assert_eq!(log(&served), log_before, "nothing of it is in our log");
    assert!(grown < 16 * 1024, "{grown} KiB more memory");
    stage.after(
        &served,
        "pgbench beside it",
        "update item set name = name || ' again' where id % 2 = 0; delete from item where id % 7 = 0",
    );
    stage.assert_verified(&served, "pgbench beside it");
}

/// Whether every slot's stream was sent to its end.
fn sent(stage: &Stage) -> bool {
    let behind = "select count(*) from pg_stat_replication where sent_lsn < pg_current_wal_flush_lsn() - 65536::numeric";
    stage.database.value(behind) == "0"
}

fn wal(stage: &Stage) -> u64 {
    let at = stage.database.value("select pg_current_wal_flush_lsn() - '0/0'");
    at.parse().expect("a number")
}
