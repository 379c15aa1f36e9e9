//! An HTTP server that stands before a real one and misbehaves on command: storms of refusals, pages that are no answer,
//! answers that are cut, lost or never come.
//!
//! Guarantees: without a fault every request and answer passes as it is, one for each connection. A fault holds for the
//! requests whose address contains a given text, from the next one on, until another one for the same text or
//! [`Faults::heal`]. All its threads end with the value.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::signature::Signatory;

/// How often a thread that waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(10);

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status, these further header lines and this body, and never passed on.
    Answer {
        /// The status.
        status: u16,
        /// Header lines, without line ends.
        headers: Vec<String>,
        /// The body.
        body: String,
    },
    /// It is passed on, and a page of HTML comes back in place of the answer, with status 200.
    Html,
    /// It is passed on, and the connection ends after this many bytes of the answer; 0 loses all of it.
    Cut(usize),
    /// It is passed on, and the answer's body comes back without its last half, as if that were all of it.
    Half,
    /// It is taken, and nothing ever comes back.
    Silence,
}

impl Fault {
    /// A refusal without a body.
    pub fn refusal(status: u16) -> Self {
        Fault::Answer {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }
}

/// A port of this machine behind which is another server, until a fault says otherwise.
#[derive(Debug)]
pub struct Faults {
    address: Ipv4Addr,
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    /// By the text that an address contains; the first that fits holds.
    faults: Mutex<Vec<(String, Fault)>>,
    door: Mutex<Door>,
    disturbed: AtomicUsize,
    /// The head of the last request.
    last: Mutex<String>,
    closed: AtomicBool,
}

/// Who is let in.
#[derive(Debug, Default)]
enum Door {
    #[default]
    Open,
    /// Who sends one of these values of `authorization`.
    Logins(Vec<String>),
    /// Whose requests this one signed.
    Signed(Signatory),
}

impl Door {
    /// Why a request is not let in.
    fn refuses(&self, head: &str, body: &[u8]) -> Option<String> {
        match self {
            Door::Open => None,
            Door::Logins(logins) => {
                let login = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("authorization").then(|| value.trim())
                });
                let is_known = logins.iter().any(|known| Some(known.as_str()) == login);
                (!is_known).then(|| "unable to authenticate".to_owned())
            }
            Door::Signed(signatory) => signatory.refuses(head, body),
        }
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Vec<(String, Fault)>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Faults {
    /// A server before the one at this address, `http://127.0.0.1:9200`, on a port of its own.
    pub fn before(url: &str) -> Self {
        Faults::at(Ipv4Addr::LOCALHOST, url)
    }

    /// The same on another address of this machine's loopback, as if it were far away. Where there is one alone: there.
    pub fn far_before(url: &str) -> Self {
        let far = Ipv4Addr::new(127, 0, 0, 2);
        match TcpListener::bind((far, 0)) {
            Ok(_) => Faults::at(far, url),
            Err(_) => Faults::before(url),
        }
    }

    fn at(address: Ipv4Addr, url: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("a listener can be polled");
        let target = url.strip_prefix("http://").expect("an address of HTTP");
        let shared = Arc::new(Shared {
            target: target.trim_end_matches('/').to_owned(),
            faults: Mutex::default(),
            door: Mutex::default(),
            disturbed: AtomicUsize::new(0),
            last: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Faults {
            address,
            port,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Its address, to be used in place of the server's.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.address, self.port)
    }

    /// Disturbs every request whose method and path contain this text.
    pub fn disturb(&self, containing: &str, fault: Fault) {
        let mut faults = self.shared.faults();
        faults.retain(|(known, _)| known != containing);
        faults.push((containing.to_owned(), fault));
    }

    /// Lets in only those who send one of these values of `authorization`; others are refused as a cluster refuses them.
    pub fn demand(&self, logins: &[&str]) {
        let logins = logins.iter().map(|login| (*login).to_owned()).collect();
        *self.shared.door() = Door::Logins(logins);
    }

    /// Lets in only requests that this one signed; others are refused with the reason why they are not.
    pub fn demand_signature(&self, signatory: Signatory) {
        *self.shared.door() = Door::Signed(signatory);
    }

    /// Disturbs nothing any more.
    pub fn heal(&self) {
        self.shared.faults().clear();
    }

    /// The request line and the header lines of the last request, but for its connection's.
    pub fn last_head(&self) -> String {
        let last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// How many requests were disturbed: a test that disturbed none proves nothing.
    pub fn disturbed(&self) -> usize {
        self.shared.disturbed.load(Ordering::Relaxed)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic there was shown when it happened.
            let _ended = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    while !shared.is_closed() {
        match listener.accept() {
            Ok((client, _)) => {
                let shared = Arc::clone(shared);
                connections.push(std::thread::spawn(move || {
                    // What fails on the way is what the client sees: a connection that ends.
                    let _ended = serve(client, &shared);
                }));
                connections.retain(|connection| !connection.is_finished());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => pause(),
            Err(_) => break,
        }
    }
    for connection in connections {
        let _ended = connection.join();
    }
}

fn pause() {
    std::thread::park_timeout(LOOK);
}

/// One request of a connection.
fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(LOOK))?;
    let Some(request) = request(&mut client, shared)? else {
        return Ok(());
    };
    let end = request.windows(4).position(|four| four == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&request[..end.unwrap_or(request.len())]).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let body = end.map_or(&[][..], |end| &request[end + 4..]);
    let refused = shared.door().refuses(&head, body);
    *shared.last.lock().unwrap_or_else(PoisonError::into_inner) = head;
    if let Some(reason) = refused {
        let body = format!(r#"{{"error":{{"type":"security_exception","reason":{reason:?}}},"status":401}}"#);
        let head = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: application/json\r\n\
                    WWW-Authenticate: Basic realm=\"security\"\r\nContent-Length: ";
        return client.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
    }
    let fault = shared
        .faults()
        .iter()
        .find(|(containing, _)| line.contains(containing))
        .map(|(_, fault)| fault.clone());
    if fault.is_some() {
        shared.disturbed.fetch_add(1, Ordering::Relaxed);
    }
    match fault {
        Some(Fault::Answer {
            status,
            headers,
            body,
        }) => {
            let mut head = format!(
                "HTTP/1.1 {status} Refused\r\nConnection: close\r\nContent-Length: {}\r\n",
                body.len()
            );
            for header in headers {
                head.push_str(&header);
                head.push_str("\r\n");
            }
            client.write_all(format!("{head}\r\n{body}").as_bytes())
        }
        Some(Fault::Silence) => {
            let mut byte = [0];
            // Until the client gives up.
            while !shared.is_closed() {
                match client.read(&mut byte) {
                    Ok(0) => return Ok(()),
                    Err(error) if !is_timeout(&error) => return Ok(()),
                    Ok(_) | Err(_) => {}
                }
            }
            Ok(())
        }
        Some(Fault::Html) => {
            pass_on(&request, shared)?;
            let page = "<html><body>It works!</body></html>";
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: ";
            client.write_all(format!("{head}{}\r\n\r\n{page}", page.len()).as_bytes())
        }
        Some(Fault::Cut(bytes)) => {
            let answer = pass_on(&request, shared)?;
            client.write_all(&answer[..bytes.min(answer.len())])?;
            client.shutdown(Shutdown::Both)
        }
        Some(Fault::Half) => {
            let answer = pass_on(&request, shared)?;
            let start = answer
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(0, |at| at + 4);
            let body = &answer[start..];
            let body = &body[..body.len() / 2];
            let head =
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ";
            client.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes())?;
            client.write_all(body)
        }
        None => {
            let answer = pass_on(&request, shared)?;
            client.write_all(&answer)
        }
    }
}

/// The whole request, told to close the connection; `None` where there is none.
fn request(client: &mut TcpStream, shared: &Shared) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = |line: &str| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            };
            let length = head.split("\r\n").find_map(length).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let mut lines: Vec<&str> = head.split("\r\n").collect();
                lines.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
                let mut whole = lines.join("\r\n").into_bytes();
                whole.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
                whole.extend_from_slice(&bytes[end + 4..end + 4 + length]);
                return Ok(Some(whole));
            }
        }
        match client.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if is_timeout(&error) && !shared.is_closed() => {}
            Err(error) => return Err(error),
        }
    }
}

/// The server's answer, to its end, with a line that tells the client so: servers do not always say it themselves.
fn pass_on(request: &[u8], shared: &Shared) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(&shared.target)?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let line = answer.windows(2).position(|two| two == b"\r\n");
    if let Some(line) = line {
        answer.splice(line + 2..line + 2, *b"Connection: close\r\n");
    }
    Ok(answer)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
