//! Changes: keys, not data.
//!
//! A change says *this row was touched*. What the row holds now is read when a document is built; a row that is gone
//! means its document is deleted. Inserts, updates and deletes are therefore one thing.

use std::fmt;

use crate::error::Error;
use crate::key::{Key, RowKey};
use crate::name::TableName;
use crate::value::Value;

/// One touched row, or one touched table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row was touched. An update that moves a row (its key, or a column that a join uses) is two changes: the
    /// former image and the new one, in this order.
    Row(RowChange),
    /// Rows of this table were touched and their keys are not known (TRUNCATE, lost triggers): every collection that
    /// reads it is scanned, from both sides.
    Table(TableName),
}

/// An image of a touched row: its key and the watched columns, as they were before or after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The row.
    pub row: RowKey,
    /// Watched columns of this image that the source has, by name. A watched column that is missing here must be
    /// read from the row.
    pub columns: Vec<(String, Value)>,
    /// The row may have had other values of the watched columns before this change, and the source does not know them:
    /// the documents that were built from its former state are found by what they recorded to have read, or else by a
    /// scan. Never true where the source delivers the former image.
    pub former_unknown: bool,
}

impl RowChange {
    /// The image's values of these columns, or `None` when the source did not have all of them.
    pub fn values(&self, names: &[String]) -> Option<Vec<Value>> {
        let value = |name: &String| {
            self.columns
                .iter()
                .find(|(column, _)| column == name)
                .map(|(_, value)| value.clone())
        };
        names.iter().map(value).collect()
    }
}

/// How far a source was followed, in the source's own words, together with the identity of the source it belongs to.
///
/// Opaque outside the source: ordered, compared and printed by nobody else. A position of another identity, or one
/// that is ahead of the source, is refused by name when following starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// What the position is bound to: system id and timeline, the id in our change table.
    pub identity: String,
    /// How far, as text.
    pub at: String,
}

impl fmt::Display for Position {
    /// The first word of the text: what may follow it is the source's own affair, and long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.at.split(' ').next().unwrap_or_default())
    }
}

/// What a feed delivers at once: changes of transactions that are visible to readers by the time they are delivered.
///
/// A large transaction may come in several batches. All but its last leave the position before it: whoever stops
/// between them is delivered the whole transaction again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatch {
    /// In commit order. May be empty: a keep-alive that only moves the position.
    pub changes: Vec<Change>,
    /// Everything up to here was delivered.
    pub upto: Position,
    /// When the newest of the changes was committed, in milliseconds since 1970, where the source knows.
    pub committed_ms: Option<i64>,
}

/// A table to follow, and the columns whose former and new values routing needs (always with the primary key).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The table.
    pub table: TableName,
    /// Its primary key's columns, in order.
    pub key: Vec<String>,
    /// Columns by which its rows lead up to other rows, without those of the key; sorted.
    pub columns: Vec<String>,
}

/// The rows of one fetch: a table of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    width: usize,
    values: Vec<Value>,
    /// Bytes of the texts in `values`.
    bytes: usize,
}

impl Rows {
    /// No rows yet, of `width` columns each. `width` is at least 1.
    pub fn new(width: usize) -> Self {
        assert!(width > 0, "a row has at least one column");
        Rows {
            width,
            values: Vec::new(),
            bytes: 0,
        }
    }

    /// Bytes of texts in the answer to one fetch, at most: what a builder holds in memory of each node of a batch.
    pub const MOST_BYTES: usize = 64 << 20;

    /// Appends one value; a row is complete after `width` of them.
    pub fn push(&mut self, value: Value) {
        self.bytes += text_bytes(&value);
        self.values.push(value);
    }

    /// Whether they have grown beyond [`Rows::MOST_BYTES`] of texts, or as many values as that is in memory: then the fetch
    /// is answered with [`Rows::too_much`], and the rest need not be read.
    pub fn is_too_much(&self) -> bool {
        self.bytes + self.values.len() * size_of::<Value>() > 2 * Self::MOST_BYTES
            || self.bytes > Self::MOST_BYTES
    }

    /// The error of a fetch whose answer is too large: fewer keys may have a smaller one.
    pub fn too_much() -> Error {
        let megabytes = Self::MOST_BYTES >> 20;
        Error::poison(
            "too_much",
            format!("the rows that are read at once hold more than {megabytes} MiB"),
        )
    }

    /// Drops the rows that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&[Value]) -> bool) {
        let width = self.width;
        let kept: Vec<bool> = self.iter().map(keep).collect();
        let mut at = 0;
        self.values.retain(|_| {
            at += 1;
            kept.get((at - 1) / width).copied().unwrap_or(false)
        });
        self.bytes = self.values.iter().map(text_bytes).sum();
    }

    /// Drops all rows but the first `len`, and what there is of an incomplete one.
    pub fn truncate(&mut self, len: usize) {
        self.values.truncate(len * self.width);
        self.bytes = self.values.iter().map(text_bytes).sum();
    }

    /// How many complete rows there are.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `index`, its values in the order of the fetch's columns.
    pub fn row(&self, index: usize) -> &[Value] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[Value]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// Bytes that a value has outside of itself.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) | Value::Decimal(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
    }
}

/// Which rows to read, by the values of some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The table.
    pub table: TableName,
    /// The columns to return, in this order. An expression stands under its own name ([`crate::Expression::column`]); on
    /// a row for which the database cannot compute it, its value is [`Value::Bytes`], which no field and no condition
    /// takes.
    pub columns: Vec<String>,
    /// The columns to match, in this order.
    pub by: Vec<String>,
    /// The tuples to match, distinct, each as long as `by` and without NULL. A row that matches one of them is
    /// returned once.
    pub values: Vec<Vec<Value>>,
    /// Without a page, all matching rows in any order. With one, at most `limit` rows in the order of the primary key.
    pub page: Option<Page>,
}

/// A part of the matching rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The table's primary key columns, in order.
    pub key: Vec<String>,
    /// Only rows whose key comes after this one in the source's own key order.
    pub after: Option<Key>,
    /// At most this many.
    pub limit: usize,
}
