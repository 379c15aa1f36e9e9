//! Over real connections: callers that are slow, idle or many.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::server::{Patience, serve_with};

const SHORT: Patience = Patience {
    header: Duration::from_millis(200),
    quiet: Duration::from_millis(400),
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(app: Router, patience: Patience) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_with(listener, app, stopped, patience));
        Server { address, stop, task }
    }

    /// A connection on which this was sent.
    async fn open(&self, sent: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        connection
    }

    /// The whole answer to a request without a body.
    async fn ask(&self, method: &str, path: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        rest(self.open(&request).await).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap();
    }
}

/// Everything that comes until the connection is closed.
async fn rest(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    // A closed connection may also be one that was reset.
    let _ = tokio::time::timeout(LONG, read)
        .await
        .expect("it is closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Seventy callers without a key who sent one byte of a body blocked everybody.
#[tokio::test]
async fn bodies_that_do_not_come_block_nobody() {
    let shop = shop_with(
        keys(),
        limits(|limits| {
            limits.concurrent_requests = 2;
            limits.timeout = Duration::from_secs(1);
        }),
        true,
    );
    let server = Server::start(shop.app, Patience::default()).await;
    let half = "POST /_search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
    let mut slow = Vec::new();
    for _ in 0..70 {
        slow.push(server.open(half).await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..3 {
        let answer = server.ask("GET", "/seller/_count").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for connection in slow {
        let answer = rest(connection).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("timeout_exception"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn callers_have_shares() {
    let shop = shop_with(
        keys(),
        limits(|limits| {
            limits.concurrent_requests = 8;
            limits.timeout = Duration::from_millis(300);
        }),
        true,
    );
    shop.engine_does(Does::Hang);
    let ask = |key| shop.ask("GET", "/seller/_search", key, "");
    let rejected = |answers: &[Answer]| answers.iter().filter(|answer| answer.status == 429).count();

    let anonymous = tokio::join!(
        ask(None),
        ask(None),
        ask(None),
        ask(None),
        ask(None),
        ask(Some(BUYER))
    );
    let (a, b, c, d, e, keyed) = anonymous;
    assert_eq!(rejected(&[a, b, c, d]), 0);
    assert_eq!(e.error_type(), "rejected_execution_exception");
    assert!(e.reason().contains("without an API key"), "{}", e.body);
    assert_eq!(keyed.status, 503, "it has a place, and times out there");

    let buyer = || ask(Some(BUYER));
    let keyed = tokio::join!(
        buyer(),
        buyer(),
        buyer(),
        buyer(),
        buyer(),
        buyer(),
        buyer(),
        ask(None),
        ask(Some(STAFF)),
        ask(Some(STAFF)),
    );
    let (a, b, c, d, e, f, g, anonymous, staff, last) = keyed;
    assert_eq!(rejected(&[a, b, c, d, e, f]), 0);
    assert!(g.reason().contains("of this API key"), "{}", g.body);
    assert_eq!(rejected(&[anonymous, staff]), 0);
    assert_eq!(rejected(&[last]), 1, "all places are taken");
}

#[tokio::test]
async fn connections_on_which_nothing_happens_are_closed() {
    let server = Server::start(shop().app, SHORT).await;
    for sent in [
        "",
        "P",
        "GET /_count HTTP/1.1\r\nhost: loc",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        rest(server.open(sent).await).await;
    }
    let kept = server
        .open("GET /seller/_count HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let answer = rest(kept).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("count"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_request_in_flight_is_no_silence() {
    let limits = limits(|limits| limits.timeout = SHORT.quiet * 3);
    let shop = shop_with(keys(), limits, true);
    shop.engine_does(Does::Hang);
    let server = Server::start(shop.app.clone(), SHORT).await;
    let answer = server.ask("GET", "/seller/_search").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_what_it_began() {
    let limits = limits(|limits| limits.timeout = Duration::from_millis(500));
    let shop = shop_with(keys(), limits, true);
    shop.engine_does(Does::Hang);
    let server = Server::start(shop.app.clone(), Patience::default()).await;
    let request = "GET /seller/_search HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (idle, busy) = (server.open("").await, server.open(request).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (answer, nothing, ()) = tokio::join!(rest(busy), rest(idle), server.stop());
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(nothing, "");
}

/// It was `content-length: 0`.
#[tokio::test]
async fn head_tells_the_length_that_get_has() {
    let server = Server::start(shop().app, Patience::default()).await;
    let length = |answer: &str| {
        let (_, rest) = answer.split_once("content-length: ").expect("a length is told");
        rest.split_once("\r\n").unwrap().0.to_owned()
    };
    for path in ["/", "/seller/_doc/1", "/seller/_doc/none", "/none/_doc/1"] {
        let get = server.ask("GET", path).await;
        let head = server.ask("HEAD", path).await;
        let (_, body) = get.split_once("\r\n\r\n").unwrap();
        assert_eq!(length(&get), body.len().to_string(), "{path}");
        assert_eq!(length(&head), body.len().to_string(), "{path}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
    server.stop().await;
}

/// Log lines, as a writer.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A database that was locked for a moment was logged as an error.
#[tokio::test]
async fn failures_that_pass_are_warnings() {
    let passes: fn() -> Error = || Error::transient("database_locked", "the database is locked");
    let stays: fn() -> Error = || Error::fatal("disk_broken", "the disk is broken");
    for (error, level) in [(passes, " WARN "), (stays, "ERROR ")] {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let shop = shop();
        shop.engine_does(Does::Fail(error));
        let guard = tracing::subscriber::set_default(subscriber);
        assert!(
            shop.ask("GET", "/seller/_search", None, "")
                .await
                .status
                .is_server_error()
        );
        drop(guard);
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains(level) && log.contains(error().code()), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
