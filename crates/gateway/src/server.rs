//! The server: connections, their number and their patience.
//!
//! Guarantees: a connection on which nothing happens is closed, whether its caller sent nothing, half a header, or
//! does not read its answer; told to stop, it takes no more connections and lets requests in flight end. Leaves
//! requests to the router.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use instep_core::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long requests in flight may take to end after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Connections that are open at once; more wait to be accepted. Below the 1,024 files that a process may commonly
/// open, so that the index and the database have theirs.
const MAX_CONNECTIONS: usize = 512;

/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 64;

/// How long a connection may be without work.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// From its opening to its first request; over HTTP/1 from the end of one request to the end of the next one's
    /// header.
    pub(crate) header: Duration,
    /// From the last answer's beginning to the next request.
    pub(crate) quiet: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            header: Duration::from_secs(10),
            quiet: Duration::from_secs(60),
        }
    }
}

/// Answers requests until `shutdown` is done, and then those in flight, for ten seconds at most.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    serve_with(listener, router, shutdown, Patience::default()).await;
    Ok(())
}

pub(crate) async fn serve_with(
    mut listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    patience: Patience,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            let slot = slot.expect("the semaphore is never closed");
            let (stream, peer) = Listener::accept(&mut listener).await;
            (slot, stream, peer)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (slot, stream, peer) = accepted => {
                let connection = connection(stream, peer, router.clone(), stopping.clone(), patience);
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("connections were closed before their requests had ended");
    }
}

/// Answers the requests of one connection until it ends, has been quiet too long, or the server stops.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    patience: Patience,
) {
    // Small answers go out at once; a connection that cannot have it works without.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS);
    let activity = Activity::default();
    let app = TowerToHyperService::new(router);
    let answer = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let busy = activity.begin();
        let answer = app.call(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
    let stopped = async {
        // Also when the sender is gone: then nobody waits for this connection.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection failed");
            }
            return;
        }
        () = stopped => {}
        () = activity.over(patience) => {
            connection.as_mut().graceful_shutdown();
            // Time to say so, and no more.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
            return;
        }
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// What happens on a connection.
#[derive(Clone)]
struct Activity(Arc<Mutex<Seen>>);

struct Seen {
    had_request: bool,
    in_flight: usize,
    last: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        Activity(Arc::new(Mutex::new(Seen {
            had_request: false,
            in_flight: 0,
            last: Instant::now(),
        })))
    }
}

impl Activity {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut seen);
        seen.last = Instant::now();
    }

    /// A request is in flight until the answer is dropped.
    fn begin(&self) -> Busy {
        self.note(|seen| {
            seen.had_request = true;
            seen.in_flight += 1;
        });
        Busy(self.clone())
    }

    /// How much longer the connection may be as it is.
    fn left(&self, patience: Patience) -> Duration {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = if seen.had_request {
            patience.quiet
        } else {
            patience.header
        };
        if seen.in_flight > 0 {
            return limit;
        }
        limit.saturating_sub(seen.last.elapsed())
    }

    /// Ends when the connection has been without a request for too long.
    async fn over(&self, patience: Patience) {
        loop {
            let left = self.left(patience);
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// A request in flight.
struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.note(|seen| seen.in_flight -= 1);
    }
}
