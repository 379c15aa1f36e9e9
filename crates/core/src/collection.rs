//! Collections: a document type as the configuration defines it, resolved against the source's schema.
//!
//! Joins form a tree of [`Node`]s; node 0 is the root table. The documents' shape is a tree of [`Field`]s that refers
//! to nodes. Both are closed: everything named here exists and was checked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::Watched;
use crate::date;
use crate::document::Reader;
use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::field::FieldType;
use crate::language::Languages;
use crate::name::{CollectionName, SourceName, TableName};
use crate::source::TableSchema;
use crate::value::Value;

/// A document type: root table, joins, fields, language, readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: CollectionName,
    /// Where its rows live.
    pub source: SourceName,
    /// The join tree; node 0 is the root table, a parent comes before its children.
    pub nodes: Vec<Node>,
    /// The schema of the root table.
    pub root: TableSchema,
    /// The documents' fields, in the order of the configuration.
    pub fields: Vec<Field>,
    /// The languages of its documents: each has an index of its own.
    pub language: Languages,
    /// Who may read a document.
    pub readers: ReadersRule,
    /// A document that changes again so soon after it was built waits until so much time has passed, and is then built
    /// once for all changes meanwhile. The first change of a document at rest never waits.
    pub debounce: Duration,
    /// Documents that go although their rows are there.
    pub purge: Option<Purge>,
}

/// When the document of a soft-deleted row goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// The column of the root that holds the moment of the soft delete; NULL: it is not deleted.
    pub column: String,
    /// So long after it.
    pub after: Duration,
}

impl Purge {
    const HOUR_MS: i64 = 3_600_000;

    /// What was soft-deleted before this moment goes. It moves on with each hour.
    pub fn cutoff_ms(&self, now_ms: i64) -> i64 {
        let after = i64::try_from(self.after.as_millis()).unwrap_or(i64::MAX);
        (now_ms - now_ms.rem_euclid(Self::HOUR_MS)).saturating_sub(after)
    }

    /// Whether the document of a row with this value is to go. What is no day or moment of ISO 8601, a number included, keeps
    /// its document.
    pub fn is_due(&self, deleted: &Value, now_ms: i64) -> bool {
        let moment = match deleted {
            Value::Text(text) => {
                let iso = text.replacen(' ', "T", 1);
                date::parse(&iso, date::Round::Down, 0).ok()
            }
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Decimal(_)
            | Value::Bytes(_)
            | Value::Json(_) => None,
        };
        moment.is_some_and(|moment| moment < self.cutoff_ms(now_ms))
    }
}

/// A place in [`Collection::nodes`].
pub type NodeId = usize;

/// A table in the join tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What the configuration calls it: the alias, or the table's name.
    pub alias: String,
    /// The table.
    pub table: TableName,
    /// The table's primary key.
    pub key: Vec<String>,
    /// The node it is joined to; `None` for the root.
    pub parent: Option<NodeId>,
    /// Pairs (column of the parent, column of this table) that must be equal. Empty for the root.
    pub on: Vec<(String, String)>,
    /// Whether several rows may match one row of the parent.
    pub many: bool,
    /// The order of the rows of one parent; the primary key breaks ties, and is the order without any.
    /// A node behind a link table may be ordered by the link's columns: then the order stands on the link's node.
    pub order: Vec<OrderBy>,
    /// Only rows that meet it belong to the tree: of the root, the others are no documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// What a row has to meet: an expression that is true or false ([`Expression::condition`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition(String);

impl TryFrom<String> for Condition {
    type Error = Error;

    fn try_from(sql: String) -> Result<Self> {
        Condition::parse(&sql)
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.0
    }
}

impl Condition {
    /// The condition that this text holds.
    pub fn parse(sql: &str) -> Result<Self> {
        Expression::condition(sql)?;
        Ok(Condition(sql.trim().to_owned()))
    }

    /// As it was written.
    pub fn sql(&self) -> &str {
        &self.0
    }

    /// Whether the value of [`Self::expression`] says that a row meets it. One that could not be computed does not.
    pub fn holds(value: &Value) -> bool {
        match value {
            Value::Bool(holds) => *holds,
            Value::Int(holds) => *holds != 0,
            Value::Null
            | Value::Bytes(_)
            | Value::Double(_)
            | Value::Decimal(_)
            | Value::Text(_)
            | Value::Json(_) => false,
        }
    }

    /// As a source computes it.
    pub fn expression(&self) -> Expression {
        Expression::condition(&self.0).expect("it was parsed when it was made")
    }
}

impl Node {
    /// The parent's columns that the join compares, in order.
    pub fn parent_columns(&self) -> Vec<String> {
        self.on.iter().map(|(parent, _)| parent.clone()).collect()
    }

    /// This table's columns that the join compares, in order.
    pub fn own_columns(&self) -> Vec<String> {
        self.on.iter().map(|(_, own)| own.clone()).collect()
    }
}

/// A column to order by. Values compare by [`crate::Value`]'s order; NULL first, last when descending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderBy {
    /// The column.
    pub column: String,
    /// From the largest down.
    pub descending: bool,
}

/// A field of a document or of an object inside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, without dots.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a field holds. Column names are those of the node whose object the field belongs to, unless a node is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A column's value, or an expression's ([`Expression::column`]).
    Column {
        /// The column.
        column: String,
        /// The field's type.
        #[serde(flatten)]
        kind: FieldType,
        /// The column holds an array (JSON, where the source has no arrays): the field has each of its values.
        array: bool,
    },
    /// Members of a JSON column, as an object of declared fields; `column` of the inner fields is the member's name.
    Json {
        /// The column.
        column: String,
        /// The members, each [`Content::Column`] or [`Content::Json`].
        fields: Vec<Field>,
    },
    /// The joined row of a to-one join, as an object; absent when there is none.
    /// The joined rows of a to-many join, as an array of objects; empty when there is none.
    Joined {
        /// The joined node. It may lie behind a link node that has no fields of its own.
        node: NodeId,
        /// Whether it is an array.
        many: bool,
        /// The object's fields.
        fields: Vec<Field>,
    },
    /// One column of the joined row or rows, without an object around it; NULLs are left out of an array.
    Values {
        /// The joined node.
        node: NodeId,
        /// Whether it is an array.
        many: bool,
        /// The column there.
        column: String,
        /// The field's type.
        #[serde(flatten)]
        kind: FieldType,
    },
}

/// Who may read a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadersRule {
    /// Everybody, without a key too.
    Public,
    /// Those whom the rows name: who is denied sees nothing, whatever allows it; then, who is allowed. Others: nothing.
    Rows {
        /// Where those are named who may; what any of them names.
        allow: Vec<ReadersFrom>,
        /// Where those are named who may not.
        deny: Vec<ReadersFrom>,
    },
}

/// A column that names readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadersFrom {
    /// An array column of the root (JSON text where the source has no arrays), of names. NULL or empty: none.
    Array(String),
    /// A column of the root with one subject. NULL: none.
    Subject(String),
    /// A column of joined rows, each with one name. No row, or NULL: none.
    Joined {
        /// The joined node.
        node: NodeId,
        /// The column there.
        column: String,
        /// It holds subjects rather than names.
        subject: bool,
    },
}

impl ReadersFrom {
    /// The reader that a value of the column is, unless it lists several: a text as it is, an integer in digits. NULL is
    /// none. `Err`: a value of another kind, which may be spelled in several ways, so that nobody can say whom it names.
    pub fn reader(&self, value: &Value) -> Result<Option<Reader>, &'static str> {
        let name = match value {
            Value::Null => return Ok(None),
            Value::Text(text) => text.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Decimal(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.to_string(),
            Value::Bool(_) | Value::Double(_) | Value::Decimal(_) | Value::Bytes(_) | Value::Json(_) => {
                return Err(value.kind());
            }
        };
        Ok(Some(match self {
            ReadersFrom::Subject(_) | ReadersFrom::Joined { subject: true, .. } => Reader::Subject(name),
            ReadersFrom::Array(_) | ReadersFrom::Joined { subject: false, .. } => Reader::Named(name),
        }))
    }
}

impl Collection {
    /// The tables this collection reads, each with the columns that routing needs, sorted by name.
    pub fn watched(&self) -> Vec<Watched> {
        let mut tables: BTreeMap<&TableName, Watched> = BTreeMap::new();
        for node in &self.nodes {
            let entry = tables.entry(&node.table).or_insert_with(|| Watched {
                table: node.table.clone(),
                key: node.key.clone(),
                columns: Vec::new(),
            });
            // The columns by which a parent leads down to its children are not needed: its own change touches the
            // documents above it, whatever it leads to now.
            entry.columns.extend(node.own_columns());
        }
        let mut watched: Vec<Watched> = tables.into_values().collect();
        for table in &mut watched {
            table.columns.sort();
            table.columns.dedup();
            let key = table.key.clone();
            table.columns.retain(|column| !key.contains(column));
        }
        watched
    }

    /// A short text that changes when the definition does in a way that changes documents or where they lie: an edited
    /// definition is scanned again.
    pub fn fingerprint(&self) -> String {
        let definition = serde_json::json!({
            "root": self.root.name, "key": self.root.primary_key, "nodes": self.nodes,
            "fields": self.fields, "language": self.language, "readers": self.readers, "purge": self.purge,
        });
        format!("{:016x}", fnv1a(definition.to_string().as_bytes()))
    }
}

/// FNV-1a, 64 bits (the Fowler–Noll–Vo hash, offset basis 0xcbf29ce484222325, prime 0x100000001b3).
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
