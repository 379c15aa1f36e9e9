//! Values: from the one text form that Postgres gives each of them to ours, and back.
//!
//! Guarantees: under [`SETTINGS`] a value has the same text, and so the same [`Value`], whether a statement read it or
//! the replication stream brought it; nothing is rounded, and a text that is not spelled as its type's values are is
//! refused, with the type's name and without the value. The rule for each type is in `docs/postgres-types.md`.
//!
//! Left to others: what a field makes of a value, and refuses.

mod catalogue;
mod moment;
mod nested;
mod spelling;

use std::sync::Arc;

use instep_core::{ColumnKind, Error, Result, Value};

pub(super) use self::catalogue::Catalogue;
use self::nested::{Json, Misread};

/// The settings under which every value has one text form. Readers set them for a transaction, the stream when it
/// connects.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    // The shortest text that reads back as the same number.
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    // Expressions of the configuration are read by one rule.
    ("standard_conforming_strings", "on"),
    // The names that `regclass` and its like show.
    ("quote_all_identifiers", "off"),
];

/// What the values of a column are. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Type(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As the database spells it, for messages.
    name: String,
    /// Its name in SQL, with its schema and without a modifier.
    sql: String,
    kind: ColumnKind,
    rule: Rule,
}

/// How a text becomes a value.
#[derive(Debug)]
enum Rule {
    Boolean,
    /// Integers between these two.
    Integer(i64, i64),
    /// Integers of 64 bits without a sign.
    Unsigned,
    Double,
    Decimal,
    /// With so many digits after the point in the database's own `lc_monetary`.
    Money(u32),
    Text,
    /// Text without the blanks at its end.
    Padded,
    /// Text that names no row: its type has no equality to speak of, or the text changes without the row.
    Shown,
    Uuid,
    Bytes,
    Date,
    /// Without a time zone.
    Timestamp,
    /// With a time zone, so in UTC.
    Moment,
    Json,
    Point,
    Hstore,
    /// The elements' type, and what stands between them.
    Array(Type, char),
    /// `int2vector` and `oidvector`.
    Vector(Type),
    /// The attributes.
    Composite(Vec<(String, Type)>),
    /// The bounds' type.
    Range(Type),
    /// The bounds' type.
    Multirange(Type),
}

impl Type {
    fn new(name: &str, sql: &str, kind: ColumnKind, rule: Rule) -> Self {
        Type(Arc::new(Inner {
            name: name.to_owned(),
            sql: sql.to_owned(),
            kind,
            rule,
        }))
    }

    /// As the database spells it.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// What fields derive their type from.
    pub(super) fn kind(&self) -> ColumnKind {
        self.0.kind
    }

    /// What [`Self::write`]'s text is cast to in SQL; of a domain its base type. It has no modifier, so nothing is cut.
    pub(super) fn sql(&self) -> &str {
        &self.0.sql
    }

    /// The value of a text under [`SETTINGS`], `None` for NULL.
    ///
    /// Poison when it is not spelled as this type's values are; transient when a composite type changed since the
    /// catalog was read.
    pub(super) fn read(&self, text: Option<&str>) -> Result<Value> {
        let Some(text) = text else {
            return Ok(Value::Null);
        };
        self.value(text).map_err(|misread| match misread {
            Misread::Spelling => Error::poison(
                "unknown_spelling",
                format!(
                    "a value of type {} is not spelled as values of it are known to be",
                    self.0.name
                ),
            )
            .with_remedy(
                "leave the column out of the collection, and report the type and the server's version",
            ),
            Misread::Outdated => Error::transient(
                "schema_changed",
                format!("type {} has other attributes than before", self.0.name),
            ),
        })
    }

    fn value(&self, text: &str) -> Result<Value, Misread> {
        let spelt = |value: Option<Value>| value.ok_or(Misread::Spelling);
        match &self.0.rule {
            Rule::Boolean => spelt(match text {
                "t" => Some(Value::Bool(true)),
                "f" => Some(Value::Bool(false)),
                _ => None,
            }),
            Rule::Integer(..) => spelt(text.parse().ok().map(Value::Int)),
            Rule::Unsigned => spelt(match (text.parse(), text.parse::<u64>()) {
                (Ok(integer), _) => Some(Value::Int(integer)),
                (Err(_), Ok(_)) => Some(Value::Decimal(text.into())),
                (Err(_), Err(_)) => None,
            }),
            Rule::Double => spelt(spelling::double(text).map(Value::Double)),
            Rule::Decimal => spelt(spelling::is_decimal(text).then(|| Value::Decimal(text.into()))),
            Rule::Money(places) => {
                spelt(spelling::money(text, *places).map(|decimal| Value::Decimal(decimal.into())))
            }
            Rule::Text | Rule::Shown | Rule::Uuid | Rule::Date => Ok(Value::text(text)),
            Rule::Timestamp => {
                Ok(moment::iso(text).map_or_else(|| Value::text(text), |iso| Value::Text(iso.into())))
            }
            Rule::Moment => spelt(moment::utc(text).map(|iso| Value::Text(iso.into()))),
            Rule::Padded => Ok(Value::text(text.trim_end_matches(' '))),
            Rule::Bytes => spelt(spelling::bytes(text).map(|bytes| Value::Bytes(bytes.into()))),
            Rule::Json => Ok(Value::Json(text.into())),
            Rule::Point
            | Rule::Hstore
            | Rule::Array(..)
            | Rule::Vector(_)
            | Rule::Composite(_)
            | Rule::Range(_)
            | Rule::Multirange(_) => {
                let mut json = Json::default();
                self.json(text, &mut json)?;
                Ok(Value::Json(json.into_text().into()))
            }
        }
    }

    /// Appends a value that is inside another.
    fn json(&self, text: &str, json: &mut Json) -> Result<(), Misread> {
        match &self.0.rule {
            Rule::Point => nested::point(text, json),
            Rule::Hstore => nested::hstore(text, json),
            Rule::Array(element, delimiter) => nested::array(text, element, *delimiter, json),
            Rule::Vector(element) => nested::vector(text, element, json),
            Rule::Composite(attributes) => nested::composite(text, attributes, json),
            Rule::Range(bound) => nested::range(text, bound, json),
            Rule::Multirange(bound) => nested::multirange(text, bound, json),
            Rule::Boolean
            | Rule::Integer(..)
            | Rule::Unsigned
            | Rule::Double
            | Rule::Decimal
            | Rule::Money(_)
            | Rule::Text
            | Rule::Padded
            | Rule::Shown
            | Rule::Uuid
            | Rule::Bytes
            | Rule::Date
            | Rule::Timestamp
            | Rule::Moment
            | Rule::Json => self.value(text).map(|value| json.scalar(&value)),
        }
    }

    /// The text that, cast to [`Self::sql`] under [`SETTINGS`], equals this value: one that [`Self::read`] made, here or
    /// for a column that is joined to this one, or one that an id names. `None` when no row can hold it: a number out of
    /// range, a text that is no date.
    pub(super) fn write(&self, value: &Value) -> Option<String> {
        let text_if = |holds: fn(&str) -> bool| match value {
            Value::Text(text) => holds(text).then(|| text.to_string()),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Decimal(_)
            | Value::Bytes(_)
            | Value::Json(_) => None,
        };
        match (&self.0.rule, value) {
            (Rule::Boolean, Value::Bool(truth)) => Some(if *truth { "t" } else { "f" }.to_owned()),
            (Rule::Integer(least, most), number) => spelling::integer(number)
                .filter(|integer| (i128::from(*least)..=i128::from(*most)).contains(integer))
                .map(|integer| integer.to_string()),
            (Rule::Unsigned, number) => spelling::integer(number)
                .filter(|integer| (0..=i128::from(u64::MAX)).contains(integer))
                .map(|integer| integer.to_string()),
            (Rule::Double | Rule::Decimal, Value::Int(_) | Value::Double(_)) => Some(value.to_string()),
            (Rule::Double | Rule::Decimal, Value::Decimal(text)) => {
                spelling::is_number(text).then(|| text.to_string())
            }
            (Rule::Money(places), Value::Decimal(text)) => spelling::as_money(text, *places),
            (Rule::Bytes, Value::Bytes(_)) => Some(format!("\\x{value}")),
            (Rule::Text | Rule::Padded, _) => text_if(|text| !text.contains('\0')),
            (Rule::Uuid, _) => text_if(spelling::is_uuid),
            (Rule::Date, _) => text_if(moment::is_date),
            (Rule::Timestamp | Rule::Moment, _) => text_if(moment::is_timestamp),
            (
                Rule::Boolean
                | Rule::Double
                | Rule::Decimal
                | Rule::Money(_)
                | Rule::Bytes
                | Rule::Shown
                | Rule::Json
                | Rule::Point
                | Rule::Hstore
                | Rule::Array(..)
                | Rule::Vector(_)
                | Rule::Composite(_)
                | Rule::Range(_)
                | Rule::Multirange(_),
                _,
            ) => None,
        }
    }

    /// Whether such values can name rows and join tables: they are compared as they are read, and [`Self::write`] is
    /// the way back. Composed values cannot, and neither can those whose type has no equality, or whose text changes
    /// without the row.
    pub(super) fn names_rows(&self) -> bool {
        match &self.0.rule {
            Rule::Boolean
            | Rule::Integer(..)
            | Rule::Unsigned
            | Rule::Double
            | Rule::Decimal
            | Rule::Money(_)
            | Rule::Text
            | Rule::Padded
            | Rule::Uuid
            | Rule::Bytes
            | Rule::Date
            | Rule::Timestamp
            | Rule::Moment => true,
            Rule::Shown
            | Rule::Json
            | Rule::Point
            | Rule::Hstore
            | Rule::Array(..)
            | Rule::Vector(_)
            | Rule::Composite(_)
            | Rule::Range(_)
            | Rule::Multirange(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
