//! A TCP proxy that misbehaves on command: a cable that is cut, a peer that falls silent, a slow road.
//!
//! Guarantees: without a fault it passes every byte in order, and an end of stream in each direction by itself. A fault
//! holds for the connections there are and for new ones, until [`Proxy::heal`]. All its threads end with the value.
//!
//! Left to the test: what is at either end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a connection that waits for bytes looks whether it still should.
const LOOK: Duration = Duration::from_millis(5);

/// A port of this machine behind which is another address, until a fault says otherwise.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    road: Road,
    delay: Duration,
    /// How many bytes may still pass (both directions together) before the road is cut.
    allowance: Option<u64>,
    /// The connections there are; both halves of each.
    open: Vec<Weak<Pair>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Whole,
    Silent,
    Cut,
    /// The proxy is being dropped.
    Closed,
}

/// The two sockets of one connection.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Proxy {
    /// A proxy before this address, on a port of its own.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("a listener can be polled");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                road: Road::Whole,
                delay: Duration::ZERO,
                allowance: None,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// The port on 127.0.0.1 that stands for the target's.
    pub fn url_port(&self) -> u16 {
        self.port
    }

    /// Closes all connections and, until [`Proxy::heal`], each new one as soon as it is made.
    pub fn cut(&self) {
        self.shared.set(|state| state.cut());
    }

    /// Takes connections and keeps them, and passes nothing on: neither side can tell it from a peer that is slow.
    /// What is on the way arrives after [`Proxy::heal`].
    pub fn silence(&self) {
        self.shared.set(|state| state.road = Road::Silent);
    }

    /// Has every piece of data wait this long, in each direction, from now on.
    pub fn delay(&self, each: Duration) {
        self.shared.set(|state| state.delay = each);
    }

    /// Cuts the road as [`Proxy::cut`] does once this many more bytes have passed, both directions together; the last
    /// piece is passed in part, so that a message ends in its middle.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.set(|state| state.allowance = Some(bytes));
    }

    /// Ends every fault; connections that were cut stay closed.
    pub fn heal(&self) {
        self.shared.set(|state| {
            state.road = Road::Whole;
            state.delay = Duration::ZERO;
            state.allowance = None;
        });
    }

    /// Stands for another address from now on, as a name that a failover moved does; closes all connections.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.set(|state| {
            let road = state.road;
            state.cut();
            (state.road, state.target) = (road, target);
        });
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.shared
            .state()
            .open
            .iter()
            .filter(|pair| pair.strong_count() > 0)
            .count()
    }

    /// Whether the road is cut: by [`Proxy::cut`], or because the bytes of [`Proxy::cut_after`] have passed.
    pub fn is_cut(&self) -> bool {
        self.shared.state().road == Road::Cut
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(|state| {
            state.cut();
            state.road = Road::Closed;
        });
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in there has been printed.
            let _ended = acceptor.join();
        }
    }
}

impl State {
    fn cut(&mut self) {
        self.road = Road::Cut;
        self.allowance = None;
        for pair in self.open.drain(..).filter_map(|pair| pair.upgrade()) {
            pair.close();
        }
    }
}

impl Pair {
    fn close(&self) {
        // A socket that is closed already cannot be closed, which is as good.
        let _client = self.client.shutdown(Shutdown::Both);
        let _server = self.server.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until the road carries again; says whether it does, or is gone for this connection.
    fn may_pass(&self) -> bool {
        let mut state = self.state();
        while state.road == Road::Silent {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.road == Road::Whole
    }

    /// Waits out the delay, or until it is shorter.
    fn hold_back(&self, since: Instant) {
        let mut state = self.state();
        loop {
            let left = state.delay.saturating_sub(since.elapsed());
            if left.is_zero() || state.road == Road::Cut || state.road == Road::Closed {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many of these bytes may pass.
    fn allow(&self, bytes: usize) -> usize {
        let mut state = self.state();
        let Some(left) = &mut state.allowance else {
            return bytes;
        };
        let passing = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes);
        *left -= passing as u64;
        passing
    }

    /// Cuts the road when its bytes are used up.
    fn cut_when_used_up(&self) {
        let mut state = self.state();
        if state.allowance == Some(0) {
            state.cut();
            drop(state);
            self.changed.notify_all();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut copiers: Vec<JoinHandle<()>> = Vec::new();
    while shared.state().road != Road::Closed {
        copiers.retain(|copier| !copier.is_finished());
        match listener.accept() {
            Ok((client, _)) => copiers.extend(connect(client, shared)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let state = shared.state();
                let _waited = shared.changed.wait_timeout(state, LOOK);
            }
            // The client went before we got to it, or there is no descriptor left for a moment.
            Err(_) => {}
        }
    }
    for copier in copiers {
        let _ended = copier.join();
    }
}

/// Connects to the target and copies both ways; a client whose target refuses sees its connection closed.
fn connect(client: TcpStream, shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let target = {
        let state = shared.state();
        if state.road == Road::Cut {
            return Vec::new();
        }
        state.target
    };
    let Ok(server) = TcpStream::connect(target) else {
        return Vec::new();
    };
    for socket in [&client, &server] {
        let prepared = socket
            .set_nonblocking(false)
            .and_then(|()| socket.set_nodelay(true));
        if prepared.is_err() {
            return Vec::new();
        }
    }
    let pair = Arc::new(Pair { client, server });
    {
        let mut state = shared.state();
        if state.road == Road::Cut || state.road == Road::Closed {
            return Vec::new();
        }
        state.open.retain(|pair| pair.strong_count() > 0);
        state.open.push(Arc::downgrade(&pair));
    }
    let there = {
        let (pair, shared) = (Arc::clone(&pair), Arc::clone(shared));
        std::thread::spawn(move || copy(&pair.client, &pair.server, &pair, &shared))
    };
    let back = {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || copy(&pair.server, &pair.client, &pair, &shared))
    };
    vec![there, back]
}

/// Copies one direction until its end or the road's.
fn copy(mut from: &TcpStream, mut to: &TcpStream, pair: &Pair, shared: &Shared) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Reset by its peer: the other side sees an end as well.
            Err(_) => return pair.close(),
        };
        shared.hold_back(Instant::now());
        if !shared.may_pass() {
            return pair.close();
        }
        let passing = shared.allow(read);
        let written = to.write_all(&buffer[..passing]);
        shared.cut_when_used_up();
        if written.is_err() {
            return pair.close();
        }
    }
    if shared.may_pass() {
        let _ended = to.shutdown(Shutdown::Write);
    } else {
        pair.close();
    }
}
