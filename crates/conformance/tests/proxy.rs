//! The faults of the TCP proxy, as both of its ends see them.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use instep_conformance::proxy::Proxy;

/// Long enough to tell "nothing comes" from "it comes".
const MOMENT: Duration = Duration::from_millis(200);

/// Answers every byte with the same byte.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let mut writer = stream;
                let _ended = std::io::copy(&mut reader, &mut writer);
                let _closed = writer.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.url_port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn say(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut heard = vec![0; bytes.len()];
    stream.read_exact(&mut heard)?;
    Ok(heard)
}

/// Whether the peer has closed, as opposed to fallen silent.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn it_passes_bytes_and_ends() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    let much: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = much.clone();
    let sender = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    sender.join().unwrap();
    assert!(heard == much);
}

#[test]
fn a_cut_closes_what_is_open_and_what_comes_until_it_heals() {
    let proxy = Proxy::to(echo());
    let mut before = connect(&proxy);
    assert_eq!(say(&mut before, b"one").unwrap(), b"one");
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    assert!(is_closed(&mut before));
    assert!(is_closed(&mut connect(&proxy)));
    assert!(proxy.is_cut());
    proxy.heal();
    assert_eq!(say(&mut connect(&proxy), b"two").unwrap(), b"two");
    assert!(is_closed(&mut before));
}

#[test]
fn silence_keeps_connections_and_what_was_sent() {
    let proxy = Proxy::to(echo());
    let mut before = connect(&proxy);
    assert_eq!(say(&mut before, b"one").unwrap(), b"one");
    proxy.silence();
    let mut during = connect(&proxy);
    for stream in [&mut before, &mut during] {
        stream.write_all(b"two").unwrap();
        stream.set_read_timeout(Some(MOMENT)).unwrap();
        assert!(!is_closed(stream));
    }
    proxy.heal();
    for stream in [&mut before, &mut during] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut heard = [0; 3];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"two");
    }
}

#[test]
fn a_silent_road_can_be_cut() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    proxy.silence();
    stream.write_all(b"lost").unwrap();
    proxy.cut();
    assert!(is_closed(&mut stream));
}

#[test]
fn a_delay_holds_in_each_direction() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    proxy.delay(MOMENT);
    let begun = Instant::now();
    assert_eq!(say(&mut stream, b"slow").unwrap(), b"slow");
    assert!(begun.elapsed() >= 2 * MOMENT, "{:?}", begun.elapsed());
    proxy.heal();
    assert_eq!(say(&mut stream, b"fast").unwrap(), b"fast");
}

#[test]
fn a_cut_after_bytes_passes_exactly_these() {
    let proxy = Proxy::to(echo());
    let mut stream = connect(&proxy);
    // Four there and four back, then two of the next four.
    proxy.cut_after(10);
    assert_eq!(say(&mut stream, b"four").unwrap(), b"four");
    let _refused_or_cut = stream.write_all(b"more");
    let mut rest = Vec::new();
    let _reset_or_end = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(proxy.is_cut());
}

#[test]
fn a_target_that_refuses_closes_the_connection() {
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(is_closed(&mut connect(&Proxy::to(gone))));
}
