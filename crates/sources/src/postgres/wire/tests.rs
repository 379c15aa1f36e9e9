//! Against a real server: being let in.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;

use instep_conformance::postgres::{self, Replication, Server};
use instep_core::Fault;

use super::*;

/// An authority and a certificate for `localhost` that it signed, made with the program `openssl`.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Option<Certificates> {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &str| {
            let made = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(&folder)
                .output();
            made.is_ok_and(|made| made.status.success())
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        let made = run(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
        )) && run(&format!(
            "req -x509 {key} -keyout x.key -out stranger.pem -days 2 -subj /CN=stranger"
        )) && run(&format!(
            "req {key} -keyout server.key -out server.csr -subj /CN=localhost"
        )) && run(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha384 -extfile names -out server.pem",
        ) && ["ca.pem", "stranger.pem"].into_iter().zip(["ca.key", "x.key"]).all(|(authority, signs)| {
            run(&format!("req {key} -keyout s-{signs} -out s.csr -subj /CN=s"))
                && run(&format!(
                    "x509 -req -in s.csr -CA {authority} -CAkey {signs} -CAcreateserial -days 2 -extfile names -out s-{authority}"
                ))
        });
        made.then_some(Certificates { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

async fn connect(url: &str, password: Option<&str>, root: Option<PathBuf>) -> Result<Wire> {
    let endpoint = Endpoint::parse(url, password, root.as_deref())?;
    Wire::connect(&endpoint).await
}

fn refused(connected: Result<Wire>) -> Error {
    connected.err().unwrap()
}

/// Who logs in how, and what is said when it fails.
#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    if postgres::or_skip("passwords").is_none() {
        return;
    }
    let server = Server::start(&[]);
    server.maintenance().execute(
        "create role s login replication password 'pä ss';
         set password_encryption = md5; create role m login replication password 'secret';
         create role c login replication password 'secret'; create role n login password 'secret'",
    );
    server.set_network_access(
        "host postgres s 127.0.0.1/32 scram-sha-256\nhost postgres m 127.0.0.1/32 md5\n\
         host postgres c 127.0.0.1/32 password\nhost postgres n 127.0.0.1/32 md5\n",
    );
    let url = |user: &str| format!("postgres://{user}@127.0.0.1:{}/postgres", server.port());
    for (user, password) in [("s", "pä ss"), ("m", "secret"), ("c", "secret")] {
        let mut wire = connect(&url(user), Some(password), None).await.unwrap();
        let rows = wire
            .query("select current_user::text, null, 'ü'; show datestyle")
            .await
            .unwrap();
        let expected = [
            vec![Some(user.to_owned()), None, Some("ü".to_owned())],
            vec![Some("ISO, YMD".to_owned())],
        ];
        assert_eq!(rows, expected);
        let error = wire.query("select 1/0").await.unwrap_err();
        assert!(
            !wire.query("IDENTIFY_SYSTEM").await.unwrap().is_empty(),
            "after {error}"
        );
        for (password, says) in [
            (Some("wrong"), "authentication failed"),
            (None, "asks for a password"),
        ] {
            let error = refused(connect(&url(user), password, None).await);
            assert_eq!(
                (error.fault(), error.code()),
                (Fault::Transient, "authentication_failed")
            );
            assert!(error.to_string().contains(says), "{user}: {error}");
        }
    }
    // A role that may not replicate.
    let error = refused(connect(&url("n"), Some("secret"), None).await);
    assert_eq!(
        (error.fault(), error.code()),
        (Fault::Transient, "permission_denied"),
        "{error}"
    );
    // Nobody lets it in.
    let error = refused(connect(&url("nobody"), Some("secret"), None).await);
    assert_eq!(error.code(), "authentication_failed", "{error}");
    // Binding needs TLS.
    let bound = format!("{}?channel_binding=require", url("s"));
    let error = refused(connect(&bound, Some("pä ss"), None).await);
    assert!(error.to_string().contains("did not bind"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_connections() {
    if postgres::or_skip("encrypted_connections").is_none() {
        return;
    }
    let Some(certificates) = Certificates::new() else {
        eprintln!("SKIPPED encrypted_connections: openssl is missing");
        return;
    };
    let server = Server::start(&[]);
    let url = |host: &str, rest: &str| format!("postgres://s@{host}:{}/postgres?{rest}", server.port());
    server
        .maintenance()
        .execute("create role s login replication password 'secret'");
    server.set_network_access("host all all 127.0.0.1/32 scram-sha-256\n");
    for mode in ["prefer", "allow"] {
        let url = url("127.0.0.1", &format!("sslmode={mode}"));
        let connected = connect(&url, Some("secret"), None).await;
        assert!(connected.is_ok(), "{mode}");
    }
    let error = refused(connect(&url("127.0.0.1", "sslmode=require"), Some("secret"), None).await);
    assert_eq!(error.code(), "no_tls", "{error}");

    server.put("server.crt", &certificates.text("server.pem"));
    server.put("server.key", &certificates.text("server.key"));
    server.set(&[("ssl", "on")]);
    server.set_network_access("hostssl all all 127.0.0.1/32 scram-sha-256\n");
    let (ours, strangers) = (certificates.path("ca.pem"), certificates.path("stranger.pem"));
    for (host, rest, root, lets_in) in [
        ("127.0.0.1", "sslmode=disable", None, false),
        ("127.0.0.1", "", None, true),
        ("127.0.0.1", "sslmode=allow", None, true),
        ("127.0.0.1", "sslmode=require&channel_binding=require", None, true),
        ("127.0.0.1", "sslmode=require&channel_binding=disable", None, true),
        (
            "127.0.0.1",
            "sslmode=verify-ca&channel_binding=require",
            Some(&ours),
            true,
        ),
        ("127.0.0.1", "sslmode=verify-ca", Some(&strangers), false),
        ("127.0.0.1", "sslmode=verify-full", Some(&ours), false),
        (
            "localhost",
            "sslmode=verify-full&channel_binding=require",
            Some(&ours),
            true,
        ),
        ("localhost", "sslmode=verify-full", Some(&strangers), false),
    ] {
        let connected = connect(&url(host, rest), Some("secret"), root.cloned()).await;
        match (connected, lets_in) {
            (Ok(mut wire), true) => {
                let encrypted = "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()";
                assert_eq!(wire.query(encrypted).await.unwrap(), [[Some("true".to_owned())]]);
            }
            (Err(error), false) => assert!(error.is_transient(), "{host} {rest}: {error}"),
            (Ok(_), false) => panic!("{host} {rest}: let in"),
            (Err(error), true) => panic!("{host} {rest}: {error}"),
        }
    }
    let wrong = refused(connect(&url("localhost", "sslmode=require"), Some("wrong"), None).await);
    assert_eq!(wrong.code(), "authentication_failed", "{wrong}");
}

/// A server that knows its clients by their certificates, for the stream and for sessions that read.
#[tokio::test(flavor = "multi_thread")]
async fn clients_with_a_certificate() {
    if postgres::or_skip("clients_with_a_certificate").is_none() {
        return;
    }
    let Some(certificates) = Certificates::new() else {
        eprintln!("SKIPPED clients_with_a_certificate: openssl is missing");
        return;
    };
    let server = Server::start(&[]);
    server.maintenance().execute("create role s login replication");
    for (name, from) in [
        ("server.crt", "server.pem"),
        ("server.key", "server.key"),
        ("ca.crt", "ca.pem"),
    ] {
        server.put(name, &certificates.text(from));
    }
    server.set(&[("ssl_ca_file", "ca.crt"), ("ssl", "on")]);
    server.set_network_access("hostssl all all 127.0.0.1/32 cert\n");
    let url = |certificate: &str, key: &str| {
        let (certificate, key) = (certificates.path(certificate), certificates.path(key));
        format!(
            "postgres://s@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            server.port(),
            certificates.path("ca.pem").display(),
            certificate.display(),
            key.display()
        )
    };
    let own = url("s-ca.pem", "s-ca.key");
    let mut wire = connect(&own, None, None).await.unwrap();
    let name = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(wire.query(name).await.unwrap(), [[Some("/CN=s".to_owned())]]);
    let session = Endpoint::parse(&own, None, None)
        .unwrap()
        .connect()
        .await
        .unwrap();
    assert_eq!(session.query(name).await.unwrap()[0].text(0).unwrap(), "/CN=s");

    // Somebody else's, none, and one that does not belong to its key.
    let none = format!(
        "postgres://s@localhost:{}/postgres?sslmode=require",
        server.port()
    );
    for refused_url in [url("s-stranger.pem", "s-x.key"), none] {
        let error = refused(connect(&refused_url, None, None).await);
        assert!(error.is_transient(), "{error}");
        let session = Endpoint::parse(&refused_url, None, None).unwrap().connect().await;
        assert!(session.err().unwrap().is_transient());
    }
    for (certificate, key) in [
        ("s-ca.pem", "s-x.key"),
        ("missing.pem", "s-ca.key"),
        ("s-ca.pem", "ca.pem"),
    ] {
        let error = Endpoint::parse(&url(certificate, key), None, None).err().unwrap();
        assert_eq!(error.code(), "bad_certificate", "{certificate} {key}: {error}");
        assert!(error.remedy().is_some());
    }
}

/// Of several hosts the primary is taken, wherever it stands in the list.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_in_order() {
    if postgres::or_skip("hosts_in_order").is_none() {
        return;
    }
    let server = Server::start(&[]);
    let standby = server.standby("hosts_in_order", Replication::Asynchronous);
    // Nobody listens there: a port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (first, second) = (server.port(), standby.port());
    let url = |ports: &[u16]| {
        let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("postgres://{}@{}/postgres", postgres::USER, hosts.join(","))
    };
    for ports in [
        vec![first],
        vec![second, first],
        vec![nobody, second, first],
        vec![first, nobody],
    ] {
        let mut wire = connect(&url(&ports), None, None).await.unwrap();
        let port = wire.query("show port").await.unwrap();
        assert_eq!(port, [[Some(first.to_string())]], "{ports:?}");
    }
    let error = refused(connect(&url(&[nobody]), None, None).await);
    assert_eq!((error.fault(), error.code()), (Fault::Transient, "database_away"));
    let decodes = connect(&url(&[second]), None, None).await;
    match decodes {
        Ok(wire) => assert!(wire.version >= 16),
        Err(error) => assert_eq!(
            (error.fault(), error.code()),
            (Fault::Transient, "not_primary"),
            "{error}"
        ),
    }
    standby.promote();
    let mut wire = connect(&url(&[nobody, second]), None, None).await.unwrap();
    assert_eq!(
        wire.query("show port").await.unwrap(),
        [[Some(second.to_string())]]
    );
}
