//! A real Postgres for tests: servers that can be restarted, crashed, frozen, replicated and promoted.
//!
//! Guarantees: each server has its own folder, port and system identifier (a standby has its primary's), uses only
//! 127.0.0.1 and a socket in its folder, and is stopped and removed when its value is dropped or its process ends,
//! however that ends. Everything here blocks; within a runtime that matters only to what else the same thread runs.
//!
//! Left to the test: whether Postgres is there ([`or_skip`] first), and what it does with its databases.

mod binaries;
mod database;
mod watchdog;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use self::binaries::{Binaries, available, or_skip};
pub use self::database::{Database, USER};

use self::binaries::{Account, set_mode};
use self::database::Fate;
use self::watchdog::watched;

/// How long a server may take to start, stop or answer; generous, for machines under load.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a server is started with unless the test says otherwise.
const DEFAULTS: [(&str, &str); 13] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "on"),
    ("max_connections", "100"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_prepared_transactions", "10"),
    ("shared_buffers", "32MB"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %d "),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("timezone", "UTC"),
];

/// Over the socket everybody may do everything; the control of the server does not depend on what a test allows.
const SOCKET_ACCESS: &str = "local all all trust\nlocal replication all trust\n";

/// Who may connect over the network until [`Server::set_network_access`].
const NETWORK_ACCESS: &str = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n";

/// A running (or, in between, stopped) server.
///
/// All methods take `&self` and may be called from any thread.
#[derive(Debug)]
pub struct Server {
    binaries: Binaries,
    account: Account,
    folder: PathBuf,
    name: String,
    port: u16,
    postmaster: Mutex<Option<Child>>,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, transactions rolled back, a checkpoint written; logical walsenders get all of it first.
    Fast,
    /// Every process ends at once; the next start recovers from the WAL.
    Immediate,
}

/// Whether a commit on the primary waits for the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// It does not.
    Asynchronous,
    /// It waits until the standby has flushed it (or as `synchronous_commit` says); without the standby it hangs.
    Synchronous,
}

impl Server {
    /// A new cluster, running, with these settings over the defaults (`wal_level=logical`, `fsync=on`, 20 slots and
    /// walsenders, 10 prepared transactions).
    ///
    /// # Panics
    /// When there is no Postgres, or it does not start; with the end of its log.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let binaries = available().expect("Postgres is missing: call or_skip first");
        let server = Self::folder_for("server", binaries);
        server.initialise();
        server.configure(settings);
        server.start_again();
        server
    }

    /// A server for all tests of this process that need no other: one that nobody stops, and whose settings nobody
    /// changes.
    ///
    /// Slots wait for every open transaction of a server, and so do visibility horizons: a test that holds
    /// transactions open for long starts its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// The port on 127.0.0.1; stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The programs the server is run with.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server has logged so far.
    pub fn log_text(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The identifier of the cluster, which its standbys share.
    pub fn system_id(&self) -> String {
        self.maintenance()
            .value("select system_identifier from pg_control_system()")
    }

    /// A new empty database with a unique name that contains `hint` (lower-case letters, digits and `_`); it is
    /// dropped with the value.
    pub fn database(&self, hint: &str) -> Database {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{hint}_{number}");
        let plain = name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        assert!(plain && name.len() < 48, "not a plain name: {name}");
        // The template every database is copied from may be in use by another copy for a moment.
        let create = format!("create database \"{name}\" template template0");
        within(PATIENCE, "a database is created", || {
            match self.maintenance().try_execute(&create) {
                Ok(()) => Some(()),
                Err(error) if error.contains("is being accessed by other users") => None,
                Err(error) => panic!("{error}"),
            }
        });
        let mut database = self.existing(&name);
        database.fate = Fate::Dropped;
        database
    }

    /// A database that is there already (on a standby, its primary's); it stays when the value is dropped.
    pub fn existing(&self, name: &str) -> Database {
        Database {
            binaries: self.binaries.clone(),
            socket: self.folder.clone(),
            port: self.port,
            name: name.to_owned(),
            fate: Fate::Kept,
        }
    }

    /// The database `postgres`, for what concerns the whole server.
    pub fn maintenance(&self) -> Database {
        self.existing("postgres")
    }

    /// Starts the server after [`Server::stop`] or [`Server::crash`] and returns when it takes connections.
    ///
    /// # Panics
    /// When it runs already, or does not start.
    pub fn start_again(&self) {
        let mut postmaster = self.postmaster();
        assert!(postmaster.is_none(), "{} is running", self.name);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begin = self.log_text().len();
            match self.try_start() {
                Ok(child) => {
                    *postmaster = Some(child);
                    return;
                }
                Err(()) => {
                    let log = self.log_text();
                    let said = log.get(begin..).unwrap_or_default();
                    // The port may be in use for a moment, and processes of a crashed server take one to notice.
                    let passes = said.contains("could not bind") || said.contains("shared memory block");
                    assert!(
                        passes && Instant::now() < deadline,
                        "{} does not start:\n{said}",
                        self.name
                    );
                    nap();
                }
            }
        }
    }

    /// Stops the server and returns when it has ended.
    ///
    /// # Panics
    /// When it does not run, or does not end: a fast stop waits for standbys and walsenders that read.
    pub fn stop(&self, how: Stop) {
        let mut child = self.postmaster().take().expect("the server is running");
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        send(signal, child.id());
        let ended = poll(PATIENCE, || {
            child.try_wait().expect("our child can be waited for")
        });
        if ended.is_none() {
            let _killed = child.kill();
            let _status = child.wait();
            panic!("{} did not stop:\n{}", self.name, self.log_tail());
        }
    }

    /// [`Server::stop`] and [`Server::start_again`].
    pub fn restart(&self, how: Stop) {
        self.stop(how);
        self.start_again();
    }

    /// Kills the postmaster with SIGKILL, as the system does when memory runs out; its processes follow by themselves.
    pub fn crash(&self) {
        let mut child = self.postmaster().take().expect("the server is running");
        child.kill().expect("our own child can be killed");
        let _status = child.wait();
    }

    /// Kills one session with SIGKILL, upon which Postgres ends all others and recovers; returns when it takes
    /// connections again.
    pub fn crash_session(&self) {
        let mut victim = self
            .maintenance()
            .psql()
            .args(["-c", "select pg_sleep(3600) /* victim */"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql can be started");
        let find = "select pid from pg_stat_activity where query like 'select pg_sleep(3600) /* victim%'";
        let pid = within(PATIENCE, "the session to kill is there", || {
            let rows = self.maintenance().query(find);
            rows.first().map(|row| row[0].clone())
        });
        send("KILL", &pid);
        let _status = victim.wait();
        within(PATIENCE, "the server has recovered", || {
            self.maintenance().try_query("select 1").ok()
        });
    }

    /// A running copy that follows this server, as `name` in its `pg_stat_replication`, by a physical slot
    /// `standby_<name>`; returns when it streams.
    ///
    /// With [`Replication::Synchronous`] commits wait for it from now on, beside those that were so before.
    pub fn standby(&self, name: &str, replication: Replication) -> Self {
        let standby = Self::folder_for(name, self.binaries.clone());
        let mut copy = self.binaries.command("pg_basebackup");
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S"])
            .arg(format!("standby_{name}"))
            .arg("-D")
            .arg(standby.data())
            .arg("-d")
            .arg(format!(
                "host=127.0.0.1 port={} user={USER} application_name={name}",
                self.port
            ));
        standby.run(&mut copy);
        standby.configure(&[]);
        standby.start_again();
        let streams = format!(
            "select 1 from pg_stat_replication where application_name = '{name}' and state = 'streaming'"
        );
        within(PATIENCE, "the standby streams", || {
            (!self.maintenance().query(&streams).is_empty()).then_some(())
        });
        match replication {
            Replication::Asynchronous => {}
            Replication::Synchronous => {
                self.wait_for_commits_on(name);
                let is_sync = format!("{streams} and sync_state = 'sync'");
                within(PATIENCE, "the standby is synchronous", || {
                    (!self.maintenance().query(&is_sync).is_empty()).then_some(())
                });
            }
        }
        standby
    }

    /// Makes a standby a primary of a new timeline; returns when it takes writes.
    pub fn promote(&self) {
        let promoted = self.maintenance().value("select pg_promote(true, 60)");
        assert_eq!(
            promoted,
            "t",
            "{} is not promoted:\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Holds a standby's replay: it receives and confirms what the primary writes, and shows none of it to readers.
    pub fn pause_replay(&self) {
        self.maintenance().execute("select pg_wal_replay_pause()");
        within(PATIENCE, "replay is paused", || {
            let state = self.maintenance().value("select pg_get_wal_replay_pause_state()");
            (state == "paused").then_some(())
        });
    }

    /// Ends [`Server::pause_replay`].
    pub fn resume_replay(&self) {
        self.maintenance().execute("select pg_wal_replay_resume()");
    }

    /// Stops a standby's receiver (SIGSTOP): it neither receives nor confirms, so a synchronous commit on the primary
    /// hangs; what it had received is shown to readers.
    pub fn freeze_receiver(&self) {
        send("STOP", self.receiver());
    }

    /// Ends [`Server::freeze_receiver`].
    pub fn thaw_receiver(&self) {
        send("CONT", self.receiver());
    }

    /// Returns when this standby shows its readers everything that `primary` had committed at the call.
    pub fn catch_up(&self, primary: &Self) {
        let end = primary.maintenance().value("select pg_current_wal_insert_lsn()");
        // What was only inserted is sent once it is flushed, which a commit does.
        primary
            .maintenance()
            .execute("select pg_logical_emit_message(true, 'catch up', '')");
        let shown = format!("select pg_last_wal_replay_lsn() >= '{end}'");
        within(PATIENCE, "the standby has caught up", || {
            (self.maintenance().value(&shown) == "t").then_some(())
        });
    }

    /// Changes settings with `alter system` and reloads; some need a [`Server::restart`] to hold.
    pub fn set(&self, settings: &[(&str, &str)]) {
        let mut script = String::new();
        for (name, value) in settings {
            let _ = writeln!(script, "alter system set {name} = {};", literal(value));
        }
        script.push_str("select pg_reload_conf();\n");
        self.maintenance().execute(&script);
    }

    /// Replaces who may connect over the network, in the words of `pg_hba.conf`; holds for the next connections.
    pub fn set_network_access(&self, lines: &str) {
        self.put("pg_hba.conf", &format!("{SOCKET_ACCESS}{lines}\n"));
        self.maintenance().execute("select pg_reload_conf()");
    }

    /// Writes a file into the data folder that only the server may read, such as a certificate's key.
    pub fn put(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, content).expect("the data folder is writable");
        set_mode(&path, 0o600);
        self.account.own(&path);
    }

    /// A folder below this process's own, and a port; nothing runs.
    fn folder_for(name: &str, binaries: Binaries) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = watched().folder.join(format!("{number}"));
        std::fs::create_dir(&folder).expect("our own folder is writable");
        watched().account.own(&folder);
        Self {
            binaries,
            account: watched().account,
            folder,
            name: format!("{name} ({number})"),
            port: free_port(),
            postmaster: Mutex::new(None),
        }
    }

    fn initialise(&self) {
        let locale = if cfg!(target_os = "macos") {
            "en_US.UTF-8"
        } else {
            "C.UTF-8"
        };
        let mut initdb = self.binaries.command("initdb");
        initdb
            .args(["-A", "trust", "--no-sync", "-E", "UTF8", "-U", USER])
            .arg(format!("--locale={locale}"))
            .arg("-D")
            .arg(self.data());
        self.run(&mut initdb);
    }

    /// Appends to `postgresql.conf`, where the last line on a setting holds.
    fn configure(&self, settings: &[(&str, &str)]) {
        let port = self.port.to_string();
        let folder = self.folder.to_str().expect("temporary folders have plain names");
        let own = [("port", port.as_str()), ("unix_socket_directories", folder)];
        // A standby already has its primary's settings, of which only these two must differ.
        let is_new = !self.data().join("standby.signal").exists();
        let defaults: &[_] = if is_new { &DEFAULTS } else { &[] };
        let mut lines = String::new();
        for (name, value) in defaults.iter().chain(&own).chain(settings) {
            let _ = writeln!(lines, "{name} = {}", literal(value));
        }
        OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .expect("the configuration is writable");
        if is_new {
            self.put("pg_hba.conf", &format!("{SOCKET_ACCESS}{NETWORK_ACCESS}"));
        }
    }

    /// Starts the postmaster as our child; `Err` when it ended before it took connections.
    fn try_start(&self) -> Result<Child, ()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("our own folder is writable");
        let mut command = self.binaries.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .current_dir(&self.folder)
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            // The terminal's Ctrl-C ends the tests; the watchdog ends the server.
            .process_group(0);
        let mut child = self
            .account
            .run(&mut command)
            .spawn()
            .expect("postgres can be started");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if child.try_wait().expect("our child can be waited for").is_some() {
                return Err(());
            }
            if self.is_ready(child.id()) {
                return Ok(child);
            }
            if Instant::now() > deadline {
                send("QUIT", child.id());
                let _status = child.wait();
                panic!("{} is not ready in time:\n{}", self.name, self.log_tail());
            }
            nap();
        }
    }

    /// Whether the postmaster says in its file that it takes connections, as `pg_ctl start` asks.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(about) = std::fs::read_to_string(self.data().join("postmaster.pid")) else {
            return false;
        };
        let lines: Vec<&str> = about.lines().map(str::trim).collect();
        let state = lines.get(7).copied();
        lines.first() == Some(&pid.to_string().as_str())
            && (state == Some("ready") || state == Some("standby"))
    }

    fn receiver(&self) -> String {
        within(PATIENCE, "the standby has a receiver", || {
            let rows = self.maintenance().query("select pid from pg_stat_wal_receiver");
            rows.first().map(|row| row[0].clone())
        })
    }

    fn wait_for_commits_on(&self, name: &str) {
        let before = self.maintenance().value("show synchronous_standby_names");
        let mut names: Vec<&str> = before
            .split_once('(')
            .and_then(|(_, list)| list.strip_suffix(')'))
            .map_or_else(Vec::new, |list| list.split(", ").collect());
        names.push(name);
        let all = format!("FIRST {} ({})", names.len(), names.join(", "));
        self.set(&[("synchronous_standby_names", &all)]);
    }

    /// Runs a program that writes into our folder.
    fn run(&self, command: &mut Command) {
        command.current_dir(&self.folder);
        let output = self
            .account
            .run(command)
            .output()
            .expect("Postgres's program can be started");
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_tail(&self) -> String {
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked in here leaves the child or its absence, both of which are true.
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.postmaster().take() {
            send("QUIT", child.id());
            if poll(PATIENCE, || child.try_wait().ok()?).is_none() {
                let _killed = child.kill();
                let _status = child.wait();
            }
        }
        remove(&self.folder);
    }
}

/// What is left over, the watchdog removes; the processes of a crashed server may still write for a moment.
fn remove(folder: &Path) {
    let _removed = std::fs::remove_dir_all(folder);
}

/// A port that was free a moment ago, outside the range that outgoing connections take theirs from, so that it is
/// still free when a stopped server starts again.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes that run at the same time begin far from each other.
        let number = FIRST + (std::process::id().wrapping_mul(211).wrapping_add(step)) % COUNT;
        let port = u16::try_from(number).expect("the range ends below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {FIRST} on")
}

/// A setting's value or an SQL literal without escapes in it.
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Sends a signal by name; a process that has ended in the meantime is no error.
fn send(signal: &str, pid: impl ToString) {
    let _status = Command::new("/bin/sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a shell can be started");
}

#[track_caller]
fn within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    match poll(limit, look) {
        Some(found) => found,
        None => panic!("not within {limit:?}: {what}"),
    }
}

fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        nap();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the control of a test server blocks, and says so"
)]
fn nap() {
    std::thread::sleep(Duration::from_millis(10));
}
