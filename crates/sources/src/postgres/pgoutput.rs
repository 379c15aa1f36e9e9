//! The messages of the plugin `pgoutput`, protocol version 1, in text format.
//!
//! Pure and without copies: what is decoded borrows from the bytes. Every length is checked; bytes that are cut short or
//! unknown are errors by name, never panics. What the messages mean is left to `stream.rs`.

use std::borrow::Cow;

use instep_core::{Error, Result};

use super::lsn::Lsn;

/// Milliseconds from 1970 to 2000, where Postgres counts from.
const EPOCH_MS: i64 = 946_684_800_000;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A transaction that was committed begins.
    Begin(Begin),
    /// It ends; the end of its commit record.
    Commit(Lsn),
    /// What follows looks like this.
    Relation(Relation<'a>),
    /// A row was inserted.
    Insert { relation: u32, new: Tuple<'a> },
    /// A row was updated. `old` is there when the identity's columns changed, or always with identity FULL.
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete { relation: u32, old: Old<'a> },
    /// Tables were emptied.
    Truncate(Vec<u32>),
    /// An origin, a type's name, or a message of an application: nothing for us.
    Nothing,
}

/// The head of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// Its id, 32 bits.
    pub(super) xid: u32,
    /// Where its commit record starts.
    pub(super) commit: Lsn,
    /// When it was committed, in milliseconds since 1970.
    pub(super) committed_ms: i64,
}

/// A relation as it was when the changes that follow were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation<'a> {
    pub(super) oid: u32,
    pub(super) namespace: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    /// Its replica identity: `d`efault, `n`othing, `f`ull, `i`ndex.
    pub(super) identity: u8,
    /// Those that are published, in order.
    pub(super) columns: Vec<Column<'a>>,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) name: Cow<'a, str>,
    /// Whether it is part of the replica identity.
    pub(super) identity: bool,
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
}

/// What is known of a row before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// The identity's columns; all others are NULL in it, and mean nothing.
    Key(Tuple<'a>),
    /// All columns.
    Full(Tuple<'a>),
}

impl<'a> Old<'a> {
    pub(super) fn tuple(&self) -> Tuple<'a> {
        match self {
            Old::Key(tuple) | Old::Full(tuple) => *tuple,
        }
    }
}

/// The values of a row. Its bytes were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datum<'a> {
    Null,
    /// A large value that the change did not touch, and that was not read for us.
    Unchanged,
    /// Its text, in the client's encoding; not checked.
    Text(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Its values, in the order of the relation's columns.
    pub(super) fn iter(&self) -> impl Iterator<Item = Datum<'a>> {
        let mut reader = Reader(self.bytes);
        (0..self.columns).map_while(move |_| reader.datum().ok())
    }
}

/// The relation of an insert, update or delete, without looking at the rest; `None` for all other messages.
pub(super) fn row_of(message: &[u8]) -> Option<u32> {
    match message {
        [b'I' | b'U' | b'D', a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Decodes one message.
pub(super) fn decode(message: &[u8]) -> Result<Message<'_>> {
    let mut reader = Reader(message);
    let decoded = match reader.u8()? {
        b'B' => {
            let commit = Lsn(reader.u64()?);
            let committed_ms = EPOCH_MS.saturating_add(reader.i64()?.div_euclid(1000));
            let xid = reader.u32()?;
            Message::Begin(Begin {
                xid,
                commit,
                committed_ms,
            })
        }
        b'C' => {
            reader.take(1 + 8)?;
            let end = Lsn(reader.u64()?);
            reader.take(8)?;
            Message::Commit(end)
        }
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            let new = reader.tuple()?;
            Message::Insert { relation, new }
        }
        b'U' => {
            let relation = reader.u32()?;
            let (old, mark) = match reader.u8()? {
                mark @ (b'K' | b'O') => (Some(reader.old(mark)?), reader.u8()?),
                mark => (None, mark),
            };
            if mark != b'N' {
                return Err(unknown("part of an update", mark));
            }
            let new = reader.tuple()?;
            Message::Update { relation, old, new }
        }
        b'D' => {
            let relation = reader.u32()?;
            let mark = reader.u8()?;
            let old = reader.old(mark)?;
            Message::Delete { relation, old }
        }
        b'T' => {
            let count = reader.u32()?;
            reader.take(1)?;
            let oids = reader.take(usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(4))?;
            let oids = oids.chunks_exact(4).map(|oid| Reader(oid).u32());
            Message::Truncate(oids.collect::<Result<_>>()?)
        }
        // Their contents are of no use here, whatever they hold.
        b'O' | b'Y' | b'M' => return Ok(Message::Nothing),
        kind => return Err(unknown("message", kind)),
    };
    match reader.0 {
        [] => Ok(decoded),
        rest => Err(malformed(format!("{} bytes too many", rest.len()))),
    }
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return Err(malformed(format!(
                "{count} bytes expected, {} left",
                self.0.len()
            )));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| malformed(format!("{N} bytes expected, {} left", self.0.len())))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn expect(&mut self, mark: u8) -> Result<()> {
        match self.u8()? {
            found if found == mark => Ok(()),
            found => Err(unknown("part of a change", found)),
        }
    }

    /// A text that ends with a zero byte. In a database of encoding SQL_ASCII it may be no UTF-8.
    fn text(&mut self) -> Result<Cow<'a, str>> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or_else(|| malformed("a name does not end"))?)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(text))
    }

    fn relation(&mut self) -> Result<Relation<'a>> {
        let oid = self.u32()?;
        let namespace = match self.text()? {
            none if none.is_empty() => Cow::Borrowed("pg_catalog"),
            namespace => namespace,
        };
        let name = self.text()?;
        let identity = self.u8()?;
        let count = self.u16()?;
        let columns = (0..count).map(|_| {
            Ok(Column {
                identity: self.u8()? & 1 != 0,
                name: self.text()?,
                type_oid: self.u32()?,
                modifier: self.u32()?.cast_signed(),
            })
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Relation {
            oid,
            namespace,
            name,
            identity,
            columns,
        })
    }

    fn old(&mut self, mark: u8) -> Result<Old<'a>> {
        match mark {
            b'K' => self.tuple().map(Old::Key),
            b'O' => self.tuple().map(Old::Full),
            other => Err(unknown("part of a change", other)),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let columns = self.u16()?;
        let start = self.0;
        for _ in 0..columns {
            self.datum()?;
        }
        let bytes = &start[..start.len() - self.0.len()];
        Ok(Tuple { columns, bytes })
    }

    fn datum(&mut self) -> Result<Datum<'a>> {
        match self.u8()? {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            b't' => {
                let length = self.u32()?;
                let text = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                Ok(Datum::Text(text))
            }
            kind => Err(unknown("kind of value", kind)),
        }
    }
}

fn unknown(what: &str, kind: u8) -> Error {
    malformed(format!("unknown {what} `{}`", char::from(kind).escape_default()))
}

pub(super) fn malformed(why: impl std::fmt::Display) -> Error {
    Error::fatal(
        "protocol",
        format!("the replication stream cannot be understood: {why}"),
    )
    .with_remedy("report it with the version of Postgres and what stands between it and us")
}

#[cfg(test)]
mod tests;
