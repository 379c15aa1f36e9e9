//! A server that is too old: every command refuses it in a sentence, and none waits for it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::stage::findings;
use crate::support::product::Product;

/// Something that greets like Postgres 13 and answers nothing more; its port. It ends with the process.
fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that goes away early is none of its concern.
            std::thread::spawn(move || drop(greet(client)));
        }
    });
    port
}

fn greet(mut client: TcpStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut startup)?;
    client.write_all(&message(b'R', &0_u32.to_be_bytes()))?;
    client.write_all(&message(
        b'S',
        b"server_version\x0013.22 (Debian 13.22-0+deb11u1)\0",
    ))?;
    client.write_all(&message(b'S', b"client_encoding\0UTF8\0"))?;
    client.write_all(&message(b'Z', b"I"))?;
    std::io::copy(&mut client, &mut std::io::sink())?;
    Ok(())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("it is short");
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

#[test]
fn postgres_13_is_refused_in_a_sentence_by_every_command() {
    let url = format!("postgres://nobody@127.0.0.1:{}/shop?sslmode=disable", greeter());
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(
        folder.path(),
        &format!(
            "[source.shop]\nurl = \"{url}\"\n[collection.item]\nroot = \"item\"\npublic = true\nfields.name = \"text\"\n"
        ),
    );
    let sentence = "Postgres 13 cannot be followed: version 14 or later is needed";
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["sync", "--once"],
        &["verify"],
        &["check", "--sql"],
        &["init", &url],
    ] {
        let said = product.refused(command, 1);
        assert!(
            said.contains(sentence) && said.contains("upgrade"),
            "{command:?}: {said}"
        );
    }
    let (found, code) = findings(&product, "unsupported_version");
    assert_eq!(code, Some(1), "{found:?}");
    let [found] = found.as_slice() else {
        panic!("one finding says it: {found:?}");
    };
    assert_eq!(found["message"], Value::from(sentence));
    assert!(found["remedy"].is_string(), "{found}");
}
