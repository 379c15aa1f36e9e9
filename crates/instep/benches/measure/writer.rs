//! The application: a process of its own that changes a row at a time, at a steady rate.

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::clock::{now_us, pause};

/// What the writer does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Changes in a second, each a transaction.
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
}

/// A committed change: the row's id, and when its `commit` began and ended.
pub(crate) struct Change {
    pub(crate) id: String,
    pub(crate) began_us: u64,
    pub(crate) ended_us: u64,
}

/// Starts a process that writes: each row at most once, `marker` into its `date_text`.
pub(crate) fn start(database: &Path, load: Load, marker: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command.args(["--bench", "--writer"]).arg(database);
    command.args([
        "--rate",
        &load.rate.to_string(),
        "--seconds",
        &load.seconds.to_string(),
        "--marker",
        marker,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts again")
}

/// Waits for the writer's end, and reads what it did.
pub(crate) fn finish(writer: Child) -> Vec<Change> {
    let output = writer.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the writer failed");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let change = |line: &str| {
        let mut parts = line.split(' ');
        let mut next = || parts.next().expect("three numbers to a line");
        let id = next().to_owned();
        Change {
            id,
            began_us: next().parse().expect("a time"),
            ended_us: next().parse().expect("a time"),
        }
    };
    text.lines().map(change).collect()
}

/// The writer itself. `synchronous = normal`, as an application in WAL mode has it. Prints what it did at its end, so
/// that printing disturbs nothing.
pub(crate) fn write(database: &Path, load: Load, marker: &str) -> String {
    let connection = Connection::open(database).expect("the database opens");
    connection.busy_timeout(Duration::from_secs(5)).expect("a time");
    connection
        .pragma_update(None, "synchronous", "normal")
        .expect("a mode");
    let count = i64::from(load.rate) * i64::from(load.seconds);
    let ids = ids(&connection, count);
    let mut update = connection
        .prepare("update artwork set date_text = ?2 where id = ?1")
        .expect("valid");
    let began = Instant::now();
    let mut done = String::new();
    for (turn, id) in ids.iter().enumerate() {
        let due = Duration::from_secs(1) * u32::try_from(turn).expect("few") / load.rate;
        pause(due.saturating_sub(began.elapsed()));
        connection.execute_batch("begin immediate").expect("it begins");
        update
            .execute(rusqlite::params![id, marker])
            .expect("the row is there");
        let began_us = now_us();
        connection.execute_batch("commit").expect("it commits");
        writeln!(done, "{id} {began_us} {}", now_us()).expect("a string grows");
    }
    done
}

/// So many rows, from all over the table.
fn ids(connection: &Connection, count: i64) -> Vec<i64> {
    let mut ids = connection
        .prepare("select id from artwork order by id * 2654435761 % 1000003 limit ?1")
        .expect("valid");
    let ids = ids.query_map([count], |row| row.get(0)).expect("it runs");
    ids.collect::<rusqlite::Result<_>>().expect("ids")
}
