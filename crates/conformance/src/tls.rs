//! TLS before a server that has none: certificates of a test's own, and a tunnel that ends the encryption.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority (`ca.pem`), a certificate for `localhost` that it signed (`server.pem`, `server.key`), and an authority
/// that signed nothing (`stranger.pem`), made with the program `openssl`.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// New ones; `None` where there is no `openssl`, after a line that the summary of the tests shows.
    ///
    /// # Panics
    /// Where `openssl` refuses to make them.
    pub fn new(wanted_by: &str) -> Option<Certificates> {
        let certificates = Certificates {
            folder: tempfile::tempdir().expect("a folder"),
        };
        if !certificates.openssl("version") {
            let line = format!("SKIPPED {wanted_by}: openssl is missing");
            // The harness does not capture this.
            let _shown = writeln!(std::io::stderr(), "{line}");
            return None;
        }
        std::fs::write(certificates.path("names"), "subjectAltName = DNS:localhost\n").expect("a file");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for name in ["ca", "stranger"] {
            assert!(
                certificates.openssl(&format!(
                    "req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
                )),
                "openssl makes an authority"
            );
        }
        let made = certificates.openssl(&format!(
            "req {key} -keyout server.key -out server.csr -subj /CN=localhost"
        )) && certificates.openssl(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        assert!(made, "openssl makes a certificate");
        Some(certificates)
    }

    /// Where a file of them lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a file of them says.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("openssl made it")
    }

    fn openssl(&self, arguments: &str) -> bool {
        let ran = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output();
        ran.is_ok_and(|ran| ran.status.success())
    }
}

/// A port of this machine that speaks TLS, and passes all that it decrypts to another server. It ends with the value.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    /// Dropped, it ends the connections.
    _runtime: tokio::runtime::Runtime,
}

impl Tunnel {
    /// Before the server at this address, `http://127.0.0.1:9200`.
    ///
    /// # Panics
    /// Where the certificates cannot be used.
    pub fn before(url: &str, certificates: &Certificates) -> Tunnel {
        let target: SocketAddr = url
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .expect("an address of HTTP");
        let chain = CertificateDer::pem_file_iter(certificates.path("server.pem")).expect("a certificate");
        let chain = chain.map(|one| one.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("its versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key belongs to the certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // What fails on the way is what the client sees: a connection that ends.
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Tunnel {
            port,
            _runtime: runtime,
        }
    }

    /// Its address: `https://localhost:…`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}
