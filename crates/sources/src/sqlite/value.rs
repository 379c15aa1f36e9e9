//! Values between SQLite's storage classes and ours.
//!
//! | stored | column's kind | becomes |
//! |---|---|---|
//! | integer | boolean (0 and 1), decimal, any other | `Bool`, `Decimal`, `Int` |
//! | real | decimal, any other | `Decimal`, `Double` |
//! | text | decimal (when it reads as a number), JSON (when valid), any other | `Decimal`, `Json`, `Text` |
//! | blob | any | `Bytes` |
//! | text that is not UTF-8 | any | `Bytes`: a text field refuses it, so that one document fails and no other |

use std::sync::Arc;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use instep_core::{ColumnKind, Value};

/// A stored value of a column of this kind.
pub(super) fn read(stored: ValueRef<'_>, kind: ColumnKind) -> Value {
    match stored {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => match kind {
            ColumnKind::Boolean if integer == 0 || integer == 1 => Value::Bool(integer == 1),
            ColumnKind::Decimal => Value::Decimal(integer.to_string().into()),
            _ => Value::Int(integer),
        },
        ValueRef::Real(real) => match kind {
            ColumnKind::Decimal => Value::Decimal(format!("{real:?}").into()),
            _ => Value::Double(real),
        },
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => match kind {
                ColumnKind::Decimal if is_number(text) => Value::Decimal(text.into()),
                ColumnKind::Json if is_json(text) => Value::Json(text.into()),
                _ => Value::Text(text.into()),
            },
            Err(_) => Value::Bytes(bytes.into()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.into()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let shape = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    digits && shape && text.parse::<f64>().is_ok()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// A value as it is compared with a column of this kind: typed, so that the column's affinity has the last word.
#[derive(Clone)]
pub(super) struct Bound {
    value: Value,
    kind: ColumnKind,
}

impl Bound {
    pub(super) fn new(value: Value, kind: ColumnKind) -> Self {
        Bound { value, kind }
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }
}

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let stored = match &self.value {
            Value::Null => ValueRef::Null,
            Value::Bool(boolean) => ValueRef::Integer(i64::from(*boolean)),
            Value::Int(integer) => ValueRef::Integer(*integer),
            Value::Double(double) => ValueRef::Real(*double),
            Value::Decimal(text) => match self.kind {
                ColumnKind::Text | ColumnKind::Keyword => ValueRef::Text(text.as_bytes()),
                _ => match (text.parse(), text.parse()) {
                    (Ok(integer), _) => ValueRef::Integer(integer),
                    (Err(_), Ok(real)) => ValueRef::Real(real),
                    (Err(_), Err(_)) => ValueRef::Text(text.as_bytes()),
                },
            },
            Value::Text(text) | Value::Json(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        };
        Ok(ToSqlOutput::Borrowed(stored))
    }
}

/// The forms under which a value may be stored in a column of this kind, the given one first.
///
/// A column without a type holds `5` and `'5'` side by side, and a document's id does not say which of them it came
/// from ([`instep_core::TableSchema::key_of`] answers with text).
pub(super) fn forms(value: &Value, kind: ColumnKind) -> impl Iterator<Item = Value> {
    let other = match (value, kind) {
        (Value::Text(text), ColumnKind::Any) => number(text),
        _ => None,
    };
    std::iter::once(value.clone()).chain(other)
}

fn number(text: &Arc<str>) -> Option<Value> {
    let integer = text.parse::<i64>().ok().map(Value::Int);
    let found = integer.or_else(|| text.parse::<f64>().ok().map(Value::Double))?;
    (found.to_string() == **text).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stored_values_become_ours() {
        use ColumnKind as K;
        let text = |t: &'static str| ValueRef::Text(t.as_bytes());
        let cases: [(ValueRef<'_>, K, Value); 17] = [
            (ValueRef::Null, K::Integer, Value::Null),
            (ValueRef::Integer(i64::MAX), K::Integer, Value::Int(i64::MAX)),
            (ValueRef::Integer(1), K::Boolean, Value::Bool(true)),
            (ValueRef::Integer(0), K::Boolean, Value::Bool(false)),
            (ValueRef::Integer(2), K::Boolean, Value::Int(2)),
            (ValueRef::Integer(5), K::Decimal, Value::Decimal("5".into())),
            (ValueRef::Real(12.5), K::Decimal, Value::Decimal("12.5".into())),
            (ValueRef::Real(0.1), K::Double, Value::Double(0.1)),
            (text("12.50"), K::Decimal, Value::Decimal("12.50".into())),
            (text("-3e10"), K::Decimal, Value::Decimal("-3e10".into())),
            (text("abc"), K::Decimal, Value::text("abc")),
            (text("inf"), K::Decimal, Value::text("inf")),
            (text("[1]"), K::Json, Value::Json("[1]".into())),
            (text("[1"), K::Json, Value::text("[1")),
            (text("2024-01-01"), K::Date, Value::text("2024-01-01")),
            (
                ValueRef::Blob(&[1, 2]),
                K::Any,
                Value::Bytes([1u8, 2].as_slice().into()),
            ),
            (
                ValueRef::Text(&[0xff]),
                K::Text,
                Value::Bytes([0xffu8].as_slice().into()),
            ),
        ];
        for (stored, kind, expected) in cases {
            assert_eq!(read(stored, kind), expected, "{stored:?} as {kind:?}");
        }
    }

    #[test]
    fn text_in_a_typeless_column_is_also_sought_as_the_number_it_spells() {
        let all = |text: &str, kind| forms(&Value::text(text), kind).collect::<Vec<_>>();
        assert_eq!(all("5", ColumnKind::Any), [Value::text("5"), Value::Int(5)]);
        assert_eq!(
            all("5.5", ColumnKind::Any),
            [Value::text("5.5"), Value::Double(5.5)]
        );
        assert_eq!(all("05", ColumnKind::Any), [Value::text("05")]);
        assert_eq!(all("5", ColumnKind::Text), [Value::text("5")]);
    }
}
