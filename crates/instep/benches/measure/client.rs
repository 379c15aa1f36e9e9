//! A client of Postgres that does nothing but wait for each answer: libraries that may be used here have none.
//!
//! It speaks the simple protocol to a server that trusts it, which the benchmark's own does.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A session.
pub(crate) struct Client {
    socket: TcpStream,
}

impl Client {
    /// Connects as the URL of [`instep_conformance::postgres::Database::url`] says.
    pub(crate) fn connect(url: &str) -> Client {
        let rest = url.strip_prefix("postgres://").expect("a URL of Postgres");
        let (user, rest) = rest.split_once('@').expect("it names a user");
        let (address, database) = rest.split_once('/').expect("it names a database");
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).expect("a socket");
        let mut client = Client { socket };
        let mut hello = 196_608_u32.to_be_bytes().to_vec();
        for word in ["user", user, "database", database] {
            hello.extend_from_slice(word.as_bytes());
            hello.push(0);
        }
        hello.push(0);
        client.send(None, &hello);
        client.answer();
        client
    }

    /// Runs a script; the first field of each row, empty for NULL. Returns as soon as the server is ready again.
    pub(crate) fn run(&mut self, sql: &str) -> Vec<String> {
        self.send(Some(b'Q'), format!("{sql}\0").as_bytes());
        self.answer()
    }

    fn send(&mut self, tag: Option<u8>, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).expect("a short message");
        let mut message: Vec<u8> = tag.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.socket.write_all(&message).expect("the server reads");
    }

    fn answer(&mut self) -> Vec<String> {
        let mut first = Vec::new();
        loop {
            let mut head = [0; 5];
            self.socket.read_exact(&mut head).expect("the server answers");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut body = vec![0; length - 4];
            self.socket.read_exact(&mut body).expect("the server answers");
            match head[0] {
                b'D' => first.push(field(&body)),
                b'E' => panic!("the server refuses: {}", String::from_utf8_lossy(&body)),
                b'Z' => return first,
                _ => {}
            }
        }
    }
}

/// The first of a row: behind the number of fields and its own length.
fn field(row: &[u8]) -> String {
    let length = row.get(2..6).and_then(|length| length.try_into().ok());
    let length = i32::from_be_bytes(length.expect("rows have fields"));
    let bytes = &row[6..6 + usize::try_from(length).unwrap_or(0)];
    String::from_utf8(bytes.to_vec()).expect("text is UTF-8")
}
