//! Sources: where rows live.
//!
//! A source follows changes, reads rows in one snapshot, and enumerates keys. It never writes the user's tables.

use async_trait::async_trait;

use crate::change::{ChangeBatch, Fetch, Position, Rows, Watched};
use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::key::{DocId, Key};
use crate::name::TableName;
use crate::value::Value;

/// A database, followed and read.
#[async_trait]
pub trait Source: Send + Sync {
    /// Starts to follow these tables after `from`; from now on when there is no position yet.
    ///
    /// After it returned, every change that commits is delivered at least once: keys enumerated afterwards leave no
    /// gap. Creates what it needs to follow (triggers and the like); repeating it is harmless. Refuses by name, with
    /// the way on, a position of another identity (`source_changed`) or ahead of the source (`position_ahead`).
    /// Without `from`, the first batch comes at once and is empty: its position is where following began.
    /// When changes may have been missed since `from` the first batch says so with [`crate::Change::Table`].
    async fn follow(&self, watched: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>>;

    /// Where the source is now: a feed that has come as far has delivered everything that was committed before the
    /// call. `None` while nothing was ever followed.
    async fn head(&self) -> Result<Option<Position>>;

    /// Whether a feed's position has come as far as a head.
    fn reached(&self, position: &Position, head: &Position) -> bool;

    /// Reads rows and schemas.
    fn reader(&self) -> &dyn RowReader;

    /// Everything that `check` reports for these tables: each prerequisite, met or not.
    async fn check(&self, watched: &[Watched]) -> Result<Vec<Finding>>;

    /// How the former values of the watched columns become known, for each of these tables. May change while the source
    /// is followed: a change whose former values turn out to be unknown says so ([`crate::RowChange::former_unknown`]).
    async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>>;

    /// What following waits for now, where that is worth telling a person: a transaction that hangs, a lock. `None` while
    /// all is well. Never blocks.
    fn waiting(&self) -> Option<Finding> {
        None
    }
}

/// How the former values of a table's watched columns become known when a row moves or vanishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The table.
    pub table: TableName,
    /// By what.
    pub means: Means,
    /// The statement that makes it cheaper, where there is one.
    pub cheaper: Option<String>,
}

/// By what the former values of watched columns become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// Every change brings them: by what, in a few words.
    Brought(String),
    /// No change brings them: each document's reads of this table are recorded.
    Recorded,
}

/// One stream of changes. Dropping it stops following; nothing is lost by that.
#[async_trait]
pub trait ChangeFeed: Send {
    /// Waits for changes and returns them. Cancel-safe: when the future is dropped, the next call delivers the same.
    async fn next(&mut self) -> Result<ChangeBatch>;

    /// The changes up to here are durable elsewhere: the source may forget them.
    async fn acknowledge(&mut self, upto: &Position) -> Result<()>;
}

/// Reads schemas, keys and rows.
#[async_trait]
pub trait RowReader: Send + Sync {
    /// All tables that can be read, ours left out, sorted by name.
    async fn tables(&self) -> Result<Vec<TableSchema>>;

    /// What an expression over this table's rows is: a column that has [`Expression::column`] as its name. From then on
    /// that name may be fetched as any other column's. Refuses one that the database refuses, and one that calls a
    /// function whose value may change while the row does not.
    async fn describe(&self, table: &TableName, expression: &Expression) -> Result<Column>;

    /// Up to `n` keys after `after` of the rows that meet the condition, in the source's own key order: the same order at
    /// each call. Fewer than `n` means the end. A row on which the condition fails is an error of the whole call, with
    /// [`crate::Fault::Poison`]: whoever can judge rows one by one scans without it.
    async fn scan(
        &self,
        table: &TableSchema,
        condition: Option<&Expression>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Vec<Key>>;

    /// How many rows the table has, perhaps an estimate: for progress only.
    async fn count(&self, table: &TableName) -> Result<u64>;

    /// Opens one consistent view of the whole database, not older than `at_least`. Held as short as possible.
    async fn snapshot(&self, at_least: Option<&Position>) -> Result<Box<dyn Snapshot>>;
}

/// One consistent view: every fetch sees the same state of all tables.
#[async_trait]
pub trait Snapshot: Send {
    /// Reads rows. One statement, or a few by size; never one per row.
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows>;

    /// Several at once, in the order of the answers: the same rows as one by one, perhaps sooner.
    async fn fetch_all(&mut self, wanted: &[Fetch]) -> Result<Vec<Rows>> {
        let mut all = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            all.push(self.fetch(wanted).await?);
        }
        Ok(all)
    }
}

/// A prerequisite and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable snake_case name.
    pub code: String,
    /// What it is about: a table, a column, the database.
    pub subject: String,
    /// What was found, in a sentence.
    pub message: String,
    /// The statement or action that mends it.
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but could be better.
    Warning,
    /// Does not work.
    Error,
}

/// A table as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableSchema {
    /// Its name, with its schema where the source has schemas.
    pub name: TableName,
    /// In the table's order.
    pub columns: Vec<Column>,
    /// The primary key's columns in key order; empty without one.
    pub primary_key: Vec<String>,
    /// Declared foreign keys of this table.
    pub foreign_keys: Vec<ForeignKey>,
    /// The leading columns of each index, the primary key's and unique constraints' included.
    pub indexes: Vec<Vec<String>>,
}

/// A column as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
    /// Its type as the source spells it; of a domain, the type it is based on. ` collate …` follows where the source takes
    /// different texts of the column for equal.
    pub declared: String,
    /// Whether NULL is allowed.
    pub nullable: bool,
}

/// What a column's values are, as far as the source declares it. Fields derive their default type from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// True and false.
    Boolean,
    /// Integers of up to 64 bits.
    Integer,
    /// Binary floating point.
    Double,
    /// Exact decimals.
    Decimal,
    /// Text without a declared limit, likely prose.
    Text,
    /// Short text: identifiers, enums, UUIDs, limited columns.
    Keyword,
    /// Days, and moments.
    Date,
    /// JSON.
    Json,
    /// An array of scalars.
    Array,
    /// Bytes.
    Bytes,
    /// Nothing declared: values of any kind.
    Any,
}

/// When a source takes two texts of a column for equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equality {
    /// When they are the same bytes.
    Bytes,
    /// When they differ at most in case.
    Caseless,
    /// By rules of the source's own.
    Collation,
}

/// A declared foreign key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ForeignKey {
    /// The columns of this table.
    pub columns: Vec<String>,
    /// The table they refer to.
    pub table: TableName,
    /// The columns there, in the same order.
    pub referenced: Vec<String>,
}

impl Column {
    /// When the source takes two texts of it for equal, as its declared type says.
    pub fn equality(&self) -> Equality {
        if self.declared.contains(" collate ") {
            return Equality::Collation;
        }
        let name = self.declared.rsplit('.').next().unwrap_or(&self.declared);
        match name.trim_matches('"').eq_ignore_ascii_case("citext") {
            true => Equality::Caseless,
            false => Equality::Bytes,
        }
    }
}

impl TableSchema {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The key of the row that a document's id names: the inverse of [`DocId::of`], by the key columns' kinds.
    /// `None` when the id does not have as many parts as the key: no such row can exist.
    pub fn key_of(&self, id: &DocId) -> Option<Key> {
        let parts = id.parts();
        if parts.len() != self.primary_key.len() {
            return None;
        }
        let kind = |name: &String| self.column(name).map_or(ColumnKind::Any, |column| column.kind);
        let values = self
            .primary_key
            .iter()
            .zip(parts)
            .map(|(name, part)| key_value(kind(name), part));
        Some(Key::new(values.collect::<Vec<_>>()))
    }

    /// Refuses a table that has no primary key: its rows cannot be named.
    pub fn require_key(&self) -> Result<()> {
        if !self.primary_key.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(
            "no_primary_key",
            format!(
                "table `{}` has no primary key, so its rows cannot be named",
                self.name
            ),
        )
        .with_remedy("declare a primary key on it, or leave it out of every collection"))
    }
}

fn key_value(kind: ColumnKind, part: String) -> Value {
    let text = |part: String| Value::Text(part.into());
    match kind {
        ColumnKind::Integer => part.parse().map(Value::Int).unwrap_or_else(|_| text(part)),
        ColumnKind::Boolean => match part.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            digits => digits.parse().map(Value::Int).unwrap_or_else(|_| text(part)),
        },
        ColumnKind::Double => part.parse().map(Value::Double).unwrap_or_else(|_| text(part)),
        ColumnKind::Decimal => Value::Decimal(part.into()),
        ColumnKind::Bytes => unhex(&part)
            .map(|bytes| Value::Bytes(bytes.into()))
            .unwrap_or_else(|| text(part)),
        ColumnKind::Text
        | ColumnKind::Keyword
        | ColumnKind::Date
        | ColumnKind::Json
        | ColumnKind::Array
        | ColumnKind::Any => text(part),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_are_equal_as_their_type_says() {
        for (declared, equality) in [
            ("text", Equality::Bytes),
            ("", Equality::Bytes),
            ("VARCHAR(20)", Equality::Bytes),
            ("citext", Equality::Caseless),
            ("public.citext", Equality::Caseless),
            ("\"Odd\".\"citext\"", Equality::Caseless),
            ("character varying(20) collate ignores_case", Equality::Collation),
            ("citext collate \"a b\"", Equality::Collation),
        ] {
            let column = Column {
                name: "a".into(),
                kind: ColumnKind::Text,
                declared: declared.into(),
                nullable: false,
            };
            assert_eq!(column.equality(), equality, "{declared}");
        }
    }

    #[test]
    fn keys_come_back_from_ids() {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
            declared: String::new(),
            nullable: false,
        };
        let table = TableSchema {
            name: "t".into(),
            columns: vec![
                column("a", ColumnKind::Integer),
                column("b", ColumnKind::Text),
                column("c", ColumnKind::Bytes),
            ],
            primary_key: vec!["a".into(), "b".into(), "c".into()],
            foreign_keys: vec![],
            indexes: vec![],
        };
        let key = Key::new(vec![
            Value::Int(-7),
            Value::text("x,y"),
            Value::Bytes(vec![0, 255].into()),
        ]);
        let id = DocId::of(&key).unwrap();
        assert_eq!(id.as_str(), "-7,x\\,y,00ff");
        assert_eq!(table.key_of(&id), Some(key));
        assert_eq!(table.key_of(&DocId::parse("1").unwrap()), None);
    }
}
