//! Reaching a server and being let in: hosts in order, sockets, TLS, passwords.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use instep_core::{Error, Result};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256, Sha384, Sha512};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_postgres::Config;
use tokio_postgres::config::{self, Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_rustls::TlsConnector;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::super::connect::Endpoint;
use super::super::value;
use super::*;

/// Since when a standby can decode changes.
const DECODES_ON_STANDBY: u32 = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the first host that is no standby, or else to the first standby that can decode changes.
pub(super) async fn primary(endpoint: &Endpoint) -> Result<Wire> {
    let config = endpoint.config();
    let mut standby = None;
    let mut failure = None;
    for place in places(config).await? {
        let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let reached = within(limit, async {
            let mut wire = enter(endpoint, &place).await?;
            let answer = wire.query("select pg_catalog.pg_is_in_recovery()").await?;
            let recovers = answer.first().and_then(|row| row.first()?.as_deref()) != Some("f");
            Ok((wire, recovers))
        });
        match reached.await {
            Ok((wire, false)) => return Ok(wire),
            Ok((wire, true)) => {
                let writes = config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
                match wire.version >= DECODES_ON_STANDBY && !writes {
                    true => standby = standby.or(Some(wire)),
                    false => failure = failure.or_else(|| Some(not_primary(wire.version))),
                }
            }
            // What a server says tells more than that another one is not there.
            Err(error) if error.code() == "database_away" => failure = failure.or(Some(error)),
            Err(error) => failure = Some(error),
        }
    }
    let failure = || failure.unwrap_or_else(|| away("its host has no address"));
    standby.ok_or_else(failure)
}

fn not_primary(version: u32) -> Error {
    let message =
        format!("the server is a standby (version {version}), and changes are followed on the primary");
    Error::transient("not_primary", message).with_remedy(
        "name the primary in stream_url, or all hosts with a comma between them; after a failover this is tried again",
    )
}

/// Where a server may be listening.
enum Place<'a> {
    Tcp {
        address: IpAddr,
        port: u16,
        /// The name its certificate must bear.
        name: String,
    },
    Unix(&'a Path, u16),
}

/// All addresses of all hosts, in order. A name that does not resolve is passed over while another one does.
async fn places(config: &Config) -> Result<Vec<Place<'_>>> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(miscounted("host and hostaddr"));
    }
    let count = hosts.len().max(addresses.len());
    if ports.len() > 1 && ports.len() != count {
        return Err(miscounted("host and port"));
    }
    let mut places = Vec::new();
    let mut failure = None;
    for at in 0..count {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match (hosts.get(at), addresses.get(at)) {
            (Some(Host::Unix(folder)), None) => places.push(Place::Unix(folder, port)),
            (Some(Host::Tcp(name)), None) => match lookup_host((name.as_str(), port)).await {
                Ok(found) => places.extend(found.map(|found| Place::Tcp {
                    address: found.ip(),
                    port,
                    name: name.clone(),
                })),
                Err(error) => failure = Some(away(error)),
            },
            (host, Some(address)) => places.push(Place::Tcp {
                address: *address,
                port,
                name: match host {
                    Some(Host::Tcp(name)) => name.clone(),
                    Some(Host::Unix(_)) | None => address.to_string(),
                },
            }),
            (None, None) => {}
        }
    }
    match failure {
        Some(error) if places.is_empty() => Err(error),
        _ => Ok(places),
    }
}

fn miscounted(what: &str) -> Error {
    Error::invalid(
        "bad_url",
        format!("this is not the URL of a Postgres database: {what} name different numbers of servers"),
    )
    .with_remedy("name one of each for every server")
}

/// Connects and logs in.
async fn enter(endpoint: &Endpoint, place: &Place<'_>) -> Result<Wire> {
    let config = &endpoint.current()?;
    let (socket, binding) = match place {
        Place::Unix(folder, port) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let socket = UnixStream::connect(path).await.map_err(away)?;
            (Box::new(socket) as Box<dyn Socket>, None)
        }
        Place::Tcp { address, port, name } => {
            let socket = TcpStream::connect((*address, *port)).await.map_err(away)?;
            tune(&socket, config).map_err(away)?;
            encrypted(socket, endpoint, name).await?
        }
    };
    let mut wire = Wire {
        socket,
        received: BytesMut::new(),
        version: 0,
        encoding: String::new(),
    };
    let user = config.get_user().unwrap_or_default();
    wire.start_up(config, user).await?;
    wire.log_in(config, user, binding).await?;
    loop {
        match wire.message().await? {
            Message::ReadyForQuery(_) => return Ok(wire),
            Message::ErrorResponse(said) => return Err(Said::of(said.fields()).error()),
            _ => {}
        }
    }
}

fn tune(socket: &TcpStream, config: &Config) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(config.get_tcp_user_timeout().copied())?;
    if !config.get_keepalives() {
        return Ok(());
    }
    let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
    if let Some(interval) = config.get_keepalives_interval() {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        keepalive = keepalive.with_retries(retries);
    }
    socket.set_tcp_keepalive(&keepalive)
}

/// The socket under TLS, with what binds a password to this server's certificate; as it is where the URL allows that and
/// the server has no TLS.
async fn encrypted(
    mut socket: TcpStream,
    endpoint: &Endpoint,
    name: &str,
) -> Result<(Box<dyn Socket>, Option<Vec<u8>>)> {
    let config = endpoint.config();
    let Some(tls) = endpoint.tls() else {
        return Ok((Box::new(socket), None));
    };
    let direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
    if !direct {
        let mut ask = BytesMut::new();
        frontend::ssl_request(&mut ask);
        socket.write_all(&ask).await.map_err(away)?;
        // One byte and no more: what follows belongs to TLS.
        match socket.read_u8().await.map_err(away)? {
            b'S' => {}
            _ if config.get_ssl_mode() == SslMode::Prefer => return Ok((Box::new(socket), None)),
            _ => {
                return Err(
                    Error::transient("no_tls", "the server does not speak TLS").with_remedy(
                        "turn ssl on in the server, or correct sslmode in the url; this is tried again",
                    ),
                );
            }
        }
    }
    let mut tls = tls.clone();
    if direct {
        Arc::make_mut(&mut tls).alpn_protocols = vec![b"postgresql".to_vec()];
    }
    let name = ServerName::try_from(name.to_owned()).map_err(untrusted)?;
    let socket = TlsConnector::from(tls)
        .connect(name, socket)
        .await
        .map_err(untrusted)?;
    let (_, session) = socket.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let binding = certificate.and_then(|certificate| end_point(certificate));
    Ok((Box::new(socket), binding))
}

fn untrusted(why: impl std::fmt::Display) -> Error {
    Error::transient("database_away", format!("error performing TLS handshake: {why}")).with_remedy(
        "look whether root_certificate and the host's name fit the server's certificate; this is tried again",
    )
}

/// What binds a password to a certificate (`tls-server-end-point`): its hash, by the hash of its signature. `None` where
/// the signature has no hash of its own.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let read = Certificate::from_der(certificate).ok()?;
    match read.signature_algorithm.oid.to_string().as_str() {
        // RSA and ECDSA with SHA-256, and what is taken for it: RSA with MD5 and RSA and ECDSA with SHA-1.
        "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1" => Some(Sha256::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

impl Wire {
    async fn start_up(&mut self, config: &Config, user: &str) -> Result<()> {
        let mut options = config.get_options().unwrap_or_default().to_owned();
        // Ours come last, so they win: a key in a change must be spelled as the key that is read.
        for (name, value) in value::SETTINGS
            .iter()
            .filter(|(name, _)| *name != "client_encoding")
        {
            let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
            options.push_str(&format!(" -c {name}={value}"));
        }
        let parameters = [
            ("user", user),
            ("database", config.get_dbname().unwrap_or(user)),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            (
                "application_name",
                config.get_application_name().unwrap_or("instep"),
            ),
            ("options", options.trim_start()),
        ];
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out).map_err(unreadable)?;
        self.write(&out).await
    }

    async fn log_in(&mut self, config: &Config, user: &str, binding: Option<Vec<u8>>) -> Result<()> {
        let password = || {
            config
                .get_password()
                .ok_or_else(|| refused("the server asks for a password and there is none"))
        };
        let mut bound = false;
        loop {
            match self.message().await? {
                Message::AuthenticationOk
                    if config.get_channel_binding() == config::ChannelBinding::Require && !bound =>
                {
                    return Err(refused("channel_binding=require, and the server did not bind"));
                }
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => self.answer(password()?).await?,
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password()?, body.salt());
                    self.answer(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let wanted = config.get_channel_binding() != config::ChannelBinding::Disable;
                    let binding = binding.clone().filter(|_| wanted);
                    bound = self.scram(password()?, &body, binding).await?;
                }
                Message::ErrorResponse(said) => return Err(Said::of(said.fields()).error()),
                _ => {
                    return Err(refused(
                        "the server asks for a kind of authentication that is not known",
                    ));
                }
            }
        }
    }

    async fn answer(&mut self, password: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::password_message(password, &mut out).map_err(unreadable)?;
        self.write(&out).await
    }

    /// Proves that we know the password, and has the server prove it, too. Whether the proof is bound to the server's
    /// certificate.
    async fn scram(
        &mut self,
        password: &[u8],
        offered: &AuthenticationSaslBody,
        binding: Option<Vec<u8>>,
    ) -> Result<bool> {
        let offered: Vec<&str> = offered.mechanisms().collect().map_err(unreadable)?;
        let (mechanism, channel) = match binding {
            Some(binding) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))
            }
            // Says that we could: a server that could, too, then knows that somebody between took its offer away.
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offered.contains(&mechanism) {
            return Err(refused("the server offers no SCRAM that is known"));
        }
        let mut scram = ScramSha256::new(password, channel);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(unreadable)?;
        self.write(&out).await?;
        match self.message().await? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data()).map_err(refused)?,
            Message::ErrorResponse(said) => return Err(Said::of(said.fields()).error()),
            _ => return Err(unreadable("out of order")),
        }
        let mut out = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut out).map_err(unreadable)?;
        self.write(&out).await?;
        match self.message().await? {
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(refused)?,
            Message::ErrorResponse(said) => return Err(Said::of(said.fields()).error()),
            _ => return Err(unreadable("out of order")),
        }
        Ok(mechanism == SCRAM_SHA_256_PLUS)
    }
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::transient("authentication_failed", why.to_string())
        .with_remedy("correct user and password, or the server's pg_hba.conf; this is tried again")
}
