//! Real search nodes, which `cargo xtask test` starts once for all tests; see `cargo xtask node`.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A product that tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// OpenSearch 3.
    Opensearch,
    /// OpenSearch 2.
    Opensearch2,
    /// Elasticsearch 7.10.
    Elasticsearch,
}

impl Node {
    /// All of them.
    pub const ALL: [Node; 3] = [Node::Opensearch, Node::Opensearch2, Node::Elasticsearch];

    /// Its address, `http://127.0.0.1:…`; `None` where it does not run, after a line that the summary of the tests shows.
    pub fn url(self) -> Option<String> {
        let url = self.quietly();
        if url.is_none() {
            let line =
                format!("SKIPPED the tests on {self:?}: no such node runs (cargo xtask test starts one)");
            // The harness does not capture this.
            let _shown = writeln!(std::io::stderr(), "{line}");
        }
        url
    }

    /// The first node that runs.
    pub fn any() -> Option<String> {
        let url = Node::ALL.into_iter().find_map(Node::quietly);
        if url.is_none() {
            let line = "SKIPPED the tests on a search node: none runs (cargo xtask test starts them)";
            let _shown = writeln!(std::io::stderr(), "{line}");
        }
        url
    }

    #[allow(clippy::disallowed_methods, reason = "what cargo xtask test tells the tests")]
    fn quietly(self) -> Option<String> {
        let name = match self {
            Node::Opensearch => "INSTEP_TEST_OPENSEARCH",
            Node::Opensearch2 => "INSTEP_TEST_OPENSEARCH2",
            Node::Elasticsearch => "INSTEP_TEST_ELASTICSEARCH",
        };
        std::env::var(name).ok().filter(|url| !url.is_empty())
    }
}

/// A node of a test's own, or several that are one cluster, which it may end and start again over the same data.
#[derive(Debug)]
pub struct OwnNode {
    words: Vec<String>,
    port: u16,
    /// They listen on as many ports, one after the other.
    nodes: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl OwnNode {
    /// A node that answers; `None` where none can be had, after a line that the summary of the tests shows.
    ///
    /// # Panics
    /// Where it does not answer within minutes.
    pub fn start(wanted_by: &str) -> Option<OwnNode> {
        OwnNode::several(wanted_by, 1)
    }

    /// So many nodes that are one cluster, in one process; the rest as for [`OwnNode::start`].
    ///
    /// # Panics
    /// Where they do not answer within minutes.
    #[allow(clippy::disallowed_methods, reason = "what cargo xtask test tells the tests")]
    pub fn several(wanted_by: &str, nodes: u16) -> Option<OwnNode> {
        let starts = std::env::var("INSTEP_TEST_NODE_STARTS").unwrap_or_default();
        if starts.is_empty() {
            let line = format!("SKIPPED {wanted_by}: no node can be started (cargo xtask test says how)");
            let _shown = writeln!(std::io::stderr(), "{line}");
            return None;
        }
        let words = std::fs::read_to_string(starts).expect("the file that says how a node is started");
        let words: Vec<String> = words.split('\u{1f}').map(str::to_owned).collect();
        let free = |port: &u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).is_ok();
        // From the other end than the nodes of all tests.
        let are_free = |port: &u16| (*port..port + nodes).all(|port| free(&port));
        let port = (9250..=9299 - nodes)
            .rev()
            .find(are_free)
            .expect("a port is free");
        let mut node = OwnNode {
            words,
            port,
            nodes,
            folder: tempfile::tempdir().expect("a folder"),
            process: None,
        };
        node.up();
        Some(node)
    }

    /// Where it answers, or the first of several.
    pub fn url(&self) -> String {
        self.urls().remove(0)
    }

    /// Where each of several answers.
    pub fn urls(&self) -> Vec<String> {
        let ports = self.port..self.port + self.nodes;
        ports.map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    /// Ends it as a crash would: SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _killed = process.kill();
            let _reaped = process.wait();
        }
    }

    /// Starts it over the data it has, and waits until it answers.
    ///
    /// # Panics
    /// Where it does not within minutes.
    pub fn up(&mut self) {
        let (program, arguments) = self.words.split_first().expect("a program");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("-basePath")
            .arg(self.folder.path().join("data"))
            .args(["-numOfNode", &self.nodes.to_string(), "-clusterName"])
            .arg(format!("instep-own-{}", self.port))
            .args(["-baseHttpPort", &(self.port - 1).to_string(), "-useLogger"])
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(log(self.folder.path()))
            .stderr(log(self.folder.path()));
        self.process = Some(command.spawn().expect("a node starts"));
        let since = Instant::now();
        while !self.answers() {
            assert!(
                since.elapsed() < Duration::from_secs(180),
                "the node does not answer"
            );
            std::thread::park_timeout(Duration::from_millis(200));
        }
        let settings = r#"{"persistent":{"cluster.routing.allocation.disk.threshold_enabled":false}}"#;
        let _answer = self.ask("PUT", "/_cluster/settings", settings);
    }

    fn answers(&self) -> bool {
        let answer = self.ask("GET", "/_cluster/health?wait_for_status=yellow&timeout=5s", "");
        answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        use std::io::Read;
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log(folder: &Path) -> Stdio {
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log.txt"));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}
