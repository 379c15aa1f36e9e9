//! The product as a user runs it: the binary, a folder with a configuration, its commands, its server.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{self, Answer};

/// A folder with `instep.toml`, in which commands run.
pub struct Product {
    pub folder: PathBuf,
    environment: Vec<(String, String)>,
    without: Vec<String>,
}

impl Product {
    /// Writes the configuration into the folder.
    pub fn new(folder: &Path, configuration: &str) -> Self {
        std::fs::write(folder.join("instep.toml"), configuration).expect("the configuration is written");
        Product::at(folder)
    }

    /// A folder as it is.
    pub fn at(folder: &Path) -> Self {
        Product {
            folder: folder.to_owned(),
            environment: Vec::new(),
            without: Vec::new(),
        }
    }

    /// Runs commands without this variable, whoever set it.
    pub fn without(mut self, name: &str) -> Self {
        self.without.push(name.to_owned());
        self
    }

    /// Runs commands with this variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A command that is not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instep"));
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        for name in &self.without {
            command.env_remove(name);
        }
        command
            .env_remove("INSTEP_CONFIG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Starts a command whose output nobody reads.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs")
    }

    /// Runs a command that must fail with this exit code; what it says on standard error.
    pub fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let (out, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(
            output.status.code(),
            Some(code),
            "instep {arguments:?}\n{out}\n{said}"
        );
        said.into_owned()
    }

    /// Runs a command with `--json` that must succeed; its answer is the last line of standard output.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "instep {arguments:?} failed\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let last = text
            .lines()
            .last()
            .unwrap_or_else(|| panic!("instep {arguments:?} said nothing"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last}"))
    }

    /// Starts `instep serve` on a free port and waits for its address.
    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve", "--json", "--listen", "127.0.0.1:0"]))
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// The line that held the address.
    pub said: Value,
}

impl Server {
    /// Starts a command that prints a JSON line with `address`.
    pub fn start(mut command: impl std::borrow::BorrowMut<Command>) -> Self {
        let command = command.borrow_mut();
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = std::sync::mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // Read to the end, so that the process never waits for a reader; nobody listens after the address.
                let _ = sender.try_send(line);
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).unwrap_or_else(|error| {
                let _ = child.kill();
                let _ = child.wait();
                panic!("no address was printed: {error}")
            });
            let Ok(said) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if let Some(address) = said["address"].as_str().and_then(|text| text.parse().ok()) {
                return Server { child, address, said };
            }
        }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request that must be answered.
    pub fn send(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Answer {
        http::send(self.address, method, path, key, body)
            .unwrap_or_else(|| panic!("{method} {path} was not answered"))
    }

    /// The operational status.
    pub fn status(&self, key: Option<&str>) -> Value {
        let answer = self.send("GET", "/_instep/status", key, None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill runs");
        let mut code = None;
        eventually(
            "the process to end after SIGTERM",
            Duration::from_secs(30),
            || {
                code = self
                    .child
                    .try_wait()
                    .expect("it can be waited for")
                    .map(|ended| ended.code());
                code.is_some()
            },
        );
        code.flatten()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the condition holds; panics with what it waited for otherwise.
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !holds() {
        assert!(
            Instant::now() < until,
            "{what} did not come true within {limit:?}"
        );
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
