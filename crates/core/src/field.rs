//! Field types: what a document's field is, and how a column's value becomes it.

use serde::{Deserialize, Serialize};

/// The type of a field. Names in configuration and mappings are those of Elasticsearch, where one exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum FieldType {
    /// Exact text: filters, sorting, aggregations.
    Keyword,
    /// Prose, analysed.
    Text {
        /// The analyzer's name: `standard`, `english`, `swedish`.
        analyzer: String,
        /// Whether `<field>.keyword` holds the exact text too, where it has at most 256 characters.
        keyword: bool,
    },
    /// A 64-bit integer.
    Long,
    /// A 32-bit integer.
    Integer,
    /// A binary floating point number.
    Double,
    /// An exact decimal, kept as value × 10^scale in a 64-bit integer.
    Decimal {
        /// Digits after the point, 0 to 18.
        scale: u8,
    },
    /// True or false.
    Boolean,
    /// A day or a moment, ISO 8601 or milliseconds since 1970; compared as milliseconds.
    Date,
    /// A JSON value whose leaves are keywords, under one field; `<field>.<path>` addresses a leaf.
    Flattened,
}

impl FieldType {
    /// Stands for an analyzer in the definition of a collection with several languages: each partition's own.
    pub const BY_LANGUAGE: &str = "by language";

    /// The type's name.
    pub fn name(&self) -> &'static str {
        match self {
            FieldType::Keyword => "keyword",
            FieldType::Text { .. } => "text",
            FieldType::Long => "long",
            FieldType::Integer => "integer",
            FieldType::Double => "double",
            FieldType::Decimal { .. } => "decimal",
            FieldType::Boolean => "boolean",
            FieldType::Date => "date",
            FieldType::Flattened => "flattened",
        }
    }
}
