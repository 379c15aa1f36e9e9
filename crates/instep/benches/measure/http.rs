//! A client of HTTP that does nothing but wait for each answer, over one connection that stays open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A connection.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to `http://host:port`, or `host:port`.
    pub(crate) fn open(url: &str) -> Connection {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let socket = TcpStream::connect(&host).expect("the server listens");
        socket.set_nodelay(true).expect("a socket");
        Connection {
            reader: BufReader::with_capacity(64 << 10, socket),
            host,
        }
    }

    /// Sends a request and reads its whole answer: the status, and the body.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.reader
            .get_mut()
            .write_all(&request)
            .expect("the server reads");
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a length"),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let mut body = Vec::new();
        if !chunked {
            self.bytes(length, &mut body);
        }
        while chunked {
            let size = usize::from_str_radix(&self.line(), 16).expect("a chunk's size");
            self.bytes(size, &mut body);
            self.line();
            chunked = size > 0;
        }
        (status.expect("a status"), body)
    }

    /// A request that must succeed, in JSON.
    pub(crate) fn json(&mut self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.ask(
            method,
            path,
            "content-type: application/json\r\n",
            body.as_bytes(),
        );
        let text = String::from_utf8_lossy(&answer);
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the server answers");
        line.trim_end().to_owned()
    }

    fn bytes(&mut self, count: usize, into: &mut Vec<u8>) {
        let before = into.len();
        into.resize(before + count, 0);
        self.reader
            .read_exact(&mut into[before..])
            .expect("the server answers");
    }
}
