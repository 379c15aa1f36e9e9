//! A replication connection: our own, because the ordinary client does not speak this part of the protocol.
//!
//! It reaches the primary of the hosts in the URL (`wire/login.rs`), runs simple commands, and turns into a two-way copy
//! in which the server sends frames and we send where we are. What the frames hold is left to `pgoutput.rs` and
//! `stream.rs`. Nothing here waits for ever but [`Wire::fill`], which is cancel-safe.

mod login;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, BytesMut};
use fallible_iterator::FallibleIterator;
use instep_core::{Error, Result};
use postgres_protocol::message::backend::{DataRowBody, ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_postgres::error::SqlState;

use super::connect::{self, Endpoint, said_by_server};
use super::lsn::Lsn;
use super::quoted;

/// A command that takes longer has hung. `START_REPLICATION` answers before it decodes anything.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a few bytes may take to leave. The server reads while it writes, so only a dead one takes longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much is read at once.
const READ_BYTES: usize = 128 << 10;
/// A buffer that one large row made larger than this is given back.
const KEPT_BYTES: usize = 4 << 20;
/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Bytes to and from a server, plain or encrypted.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection of the kind `replication=database`.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    /// What came and was not taken yet.
    pub(super) received: BytesMut,
    /// The server's major version.
    version: u32,
    encoding: String,
}

/// One row of an answer: texts, `None` for NULL.
pub(super) type Row = Vec<Option<String>>;

/// What the server says in an error or a notice.
pub(super) struct Said {
    pub(super) code: SqlState,
    pub(super) message: String,
}

impl Wire {
    /// Connects to the primary among the hosts of `endpoint`. A server that still recovers is taken only where there is
    /// no other and it can decode changes (16 and later).
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Wire> {
        let mut wire = login::primary(endpoint)
            .await
            .map_err(|error| error.context(format!("connecting to {endpoint} to follow changes")))?;
        // Such a database may hold bytes that are no UTF-8. A client that asks for UTF-8 is refused at such a row, at each
        // attempt; one that asks for nothing gets it, and can leave that one value out.
        if wire.encoding == "SQL_ASCII" {
            wire.query("set client_encoding to 'SQL_ASCII'").await?;
        }
        Ok(wire)
    }

    /// Runs one command; its rows.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let answered = async {
            self.send(sql).await?;
            let mut rows = Vec::new();
            let mut refused = None;
            loop {
                match self.message().await {
                    Ok(Message::DataRow(row)) => rows.push(texts(&row)?),
                    Ok(Message::ErrorResponse(said)) => refused = Some(Said::of(said.fields()).error()),
                    Ok(Message::ReadyForQuery(_)) => return refused.map_or(Ok(rows), Err),
                    Ok(_) => {}
                    // After an error that ends the session, the end is no news.
                    Err(ended) => return Err(refused.unwrap_or(ended)),
                }
            }
        };
        within(COMMAND_TIMEOUT, answered).await
    }

    /// Starts to stream a slot by a publication, from `from` or from where the slot stands if that is further. From
    /// now on only [`Self::fill`] and [`Self::report`] are of use.
    pub(super) async fn start_replication(
        &mut self,
        slot: &str,
        publication: &str,
        from: Lsn,
    ) -> Result<(), Started> {
        // A list of identifiers, inside a literal of a grammar that knows no escapes but the doubled quote.
        let publications = quoted(publication).replace('\'', "''");
        let slot = quoted(slot);
        let command = format!(
            "START_REPLICATION SLOT {slot} LOGICAL {from} (proto_version '1', publication_names '{publications}')"
        );
        let started = async {
            self.send(&command).await?;
            loop {
                match self.frame()? {
                    None => self.fill().await?,
                    // What the framing crate does not know: both sides copy from here on.
                    Some((b'W', length)) => {
                        self.received.advance(length);
                        return Ok(());
                    }
                    Some(_) => match self.message().await? {
                        Message::ErrorResponse(said) => {
                            return Err(Started::Refused(Said::of(said.fields())));
                        }
                        _ => continue,
                    },
                }
            }
        };
        tokio::time::timeout(COMMAND_TIMEOUT, started)
            .await
            .unwrap_or_else(|_| Err(Started::Failed(silent())))
    }

    /// The tag and the whole length of the frame that comes first in what was received, if all of it is there.
    pub(super) fn frame(&self) -> Result<Option<(u8, usize)>> {
        frame(&self.received)
    }

    /// Waits for more bytes. Cancel-safe. An end is an error.
    pub(super) async fn fill(&mut self) -> Result<()> {
        if self.received.is_empty() && self.received.capacity() > KEPT_BYTES {
            self.received = BytesMut::new();
        }
        // A frame of which the beginning is here gets room at once, but no more than what may well come: its length is
        // only what the other side says.
        let expected = match Header::parse(&self.received).map_err(unreadable)? {
            Some(header) => usize::try_from(header.len()).unwrap_or(0).min(16 << 20),
            None => 0,
        };
        let missing = expected.saturating_sub(self.received.len());
        self.received.reserve(missing.max(READ_BYTES));
        match self.socket.read_buf(&mut self.received).await {
            Ok(0) => Err(away("the server closed the connection")),
            Ok(_) => Ok(()),
            Err(error) => Err(away(error)),
        }
    }

    /// Says what came, and how far changes are safe with us where that is news.
    ///
    /// What is safe moves the slot; right behind it goes a message in which nothing is: a walsender without a flushed
    /// place is no candidate for a synchronous standby, whatever `synchronous_standby_names` says, and a server that shuts
    /// down waits until what it sent has come, not until it is safe. We would confirm a commit only once it is visible,
    /// and as a synchronous standby it would be visible only once we confirm it.
    pub(super) async fn report(&mut self, safe: Option<Lsn>, came: Lsn) -> Result<()> {
        let mut out = BytesMut::with_capacity(78);
        // Written, flushed, applied.
        for places in [safe.map(|safe| [safe; 3]), Some([came, Lsn(0), Lsn(0)])]
            .into_iter()
            .flatten()
        {
            frontend::CopyData::new(status(places))
                .map_err(unreadable)?
                .write(&mut out);
        }
        self.write(&out).await
    }

    /// Takes leave, so that the server's log shows no broken connection.
    pub(super) async fn end(mut self) {
        let mut out = BytesMut::new();
        frontend::copy_done(&mut out);
        frontend::terminate(&mut out);
        let left = tokio::time::timeout(Duration::from_secs(1), self.write(&out)).await;
        tracing::trace!(well = matches!(left, Ok(Ok(()))), "left a replication stream");
    }

    async fn send(&mut self, sql: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(unreadable)?;
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = async {
            self.socket.write_all(bytes).await.map_err(away)?;
            self.socket.flush().await.map_err(away)
        };
        within(WRITE_TIMEOUT, written).await
    }

    /// The next message that is neither a notice nor a parameter.
    async fn message(&mut self) -> Result<Message> {
        loop {
            match Message::parse(&mut self.received).map_err(unreadable)? {
                Some(Message::ParameterStatus(body)) => {
                    if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                        self.learn(name, value);
                    }
                }
                Some(Message::NoticeResponse(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    fn learn(&mut self, name: &str, value: &str) {
        match name {
            "server_encoding" => value.clone_into(&mut self.encoding),
            "server_version" => self.version = connect::major(value).unwrap_or(0),
            _ => {}
        }
    }
}

/// A standby's status.
fn status(places: [Lsn; 3]) -> BytesMut {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_micros())
        .unwrap_or(i64::MAX)
        .saturating_sub(EPOCH_US);
    let mut status = BytesMut::with_capacity(34);
    status.put_u8(b'r');
    for place in places {
        status.put_u64(place.0);
    }
    status.put_i64(now);
    status.put_u8(0);
    status
}

/// Why a stream did not start.
pub(super) enum Started {
    /// The server refuses it.
    Refused(Said),
    Failed(Error),
}

impl From<Error> for Started {
    fn from(error: Error) -> Self {
        Started::Failed(error)
    }
}

impl Said {
    /// Of the fields of an error or a notice. Detail, hint and context are not read: they may hold a row's values.
    pub(super) fn of(mut fields: ErrorFields<'_>) -> Said {
        let mut said = Said {
            code: SqlState::INTERNAL_ERROR,
            message: String::new(),
        };
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes());
            match field.type_() {
                b'C' => said.code = SqlState::from_code(&text()),
                b'M' => said.message = text().into_owned(),
                _ => {}
            }
        }
        said
    }

    /// As an error of ours, where nothing more is known.
    pub(super) fn error(&self) -> Error {
        said_by_server(&self.code, &self.message)
    }
}

/// The tag and the whole length of the first frame, if all of it is there.
pub(super) fn frame(received: &[u8]) -> Result<Option<(u8, usize)>> {
    let Some(header) = Header::parse(received).map_err(unreadable)? else {
        return Ok(None);
    };
    let length = usize::try_from(header.len()).map_err(unreadable)? + 1;
    Ok((received.len() >= length).then_some((header.tag(), length)))
}

fn texts(row: &DataRowBody) -> Result<Row> {
    let ranges = row.ranges().map(|range| {
        let bytes = range.map(|range| &row.buffer()[range]);
        Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    });
    ranges.collect().map_err(unreadable)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

fn silent() -> Error {
    away("the server does not answer")
}

/// The server, or what lies between, is not there now.
fn away(why: impl std::fmt::Display) -> Error {
    Error::transient("database_away", why.to_string())
        .with_remedy("look whether the database runs and can be reached; this is tried again")
}

/// Bytes that are not Postgres'.
fn unreadable(why: impl std::fmt::Display) -> Error {
    away(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server's answer cannot be understood: {why}"),
    ))
}

#[cfg(test)]
mod tests;
