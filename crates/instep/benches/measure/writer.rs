//! The application: a process of its own that changes a row at a time, at a steady rate.

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::client::Client;
use crate::clock::{now_us, pause};
use crate::measure::{Arguments, Home};

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

/// Starts a process that writes: each row at most once, `marker` into its `date_text`; only rows for which `only` holds.
pub(crate) fn start(folder: &Path, home: &Home, load: Load, marker: &str, only: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program has a file"));
    command.args(["--bench", "--writer"]).arg(folder);
    if let Home::Postgres(url) = home {
        command.args(["--url", url]);
    }
    command.args([
        "--rate",
        &load.rate.to_string(),
        "--seconds",
        &load.seconds.to_string(),
        "--marker",
        marker,
        "--only",
        only,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts again")
}

/// The writer itself, when this process was started as one. Prints what it did at its end, so that printing disturbs
/// nothing.
pub(crate) fn is_this(arguments: &mut Arguments) -> bool {
    let Some(folder) = arguments.value("--writer") else {
        return false;
    };
    let mut value = |name: &str| {
        arguments
            .value(name)
            .expect("the process that started this one gives it")
    };
    let number = |text: String| text.parse::<u32>().expect("a number");
    let load = Load {
        rate: number(value("--rate")),
        seconds: number(value("--seconds")),
    };
    let (marker, only) = (value("--marker"), value("--only"));
    let done = match Home::of(arguments) {
        Home::Sqlite => {
            let mut application = Sqlite::open(&Path::new(&folder).join("tate.db"));
            let ids = application.ids(load, &only);
            write(load, &ids, |id| application.change(id, &marker))
        }
        Home::Postgres(url) => {
            let mut client = Client::connect(&url);
            let ids = client.run(&statement(load, &only));
            write(load, &ids, |id| change(&mut client, id, &marker))
        }
    };
    print!("{done}");
    true
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

/// Each in its turn; a turn that comes late is not left out.
fn write(load: Load, ids: &[String], mut change: impl FnMut(&str) -> (u64, u64)) -> String {
    let began = Instant::now();
    let mut done = String::new();
    for (turn, id) in ids.iter().enumerate() {
        let due = Duration::from_secs(1) * u32::try_from(turn).expect("few") / load.rate;
        pause(due.saturating_sub(began.elapsed()));
        let (began_us, ended_us) = change(id);
        writeln!(done, "{id} {began_us} {ended_us}").expect("a string grows");
    }
    done
}

/// So many rows, from all over the table.
fn statement(load: Load, only: &str) -> String {
    let count = u64::from(load.rate) * u64::from(load.seconds);
    format!("select id from artwork where {only} order by id * 2654435761 % 1000003 limit {count}")
}

/// One transaction; when its `commit` began and ended.
fn change(client: &mut Client, id: &str, marker: &str) -> (u64, u64) {
    client.run(&format!(
        "begin; update artwork set date_text = '{marker}' where id = {id}"
    ));
    let began_us = now_us();
    client.run("commit");
    (began_us, now_us())
}

/// `synchronous = normal`, as an application in WAL mode has it.
struct Sqlite(Connection);

impl Sqlite {
    fn open(database: &Path) -> Sqlite {
        let connection = Connection::open(database).expect("the database opens");
        connection.busy_timeout(Duration::from_secs(5)).expect("a time");
        connection
            .pragma_update(None, "synchronous", "normal")
            .expect("a mode");
        Sqlite(connection)
    }

    fn ids(&self, load: Load, only: &str) -> Vec<String> {
        let mut ids = self.0.prepare(&statement(load, only)).expect("valid");
        let ids = ids.query_map([], |row| row.get::<_, i64>(0)).expect("it runs");
        ids.map(|id| id.expect("an id").to_string()).collect()
    }

    fn change(&mut self, id: &str, marker: &str) -> (u64, u64) {
        self.0.execute_batch("begin immediate").expect("it begins");
        self.0
            .prepare_cached("update artwork set date_text = ?2 where id = ?1")
            .and_then(|mut update| update.execute(rusqlite::params![id, marker]))
            .expect("the row is there");
        let began_us = now_us();
        self.0.execute_batch("commit").expect("it commits");
        (began_us, now_us())
    }
}
