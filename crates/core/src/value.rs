//! The values a source reads from a column.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A column's value, as exact as the source has it.
///
/// Types a database has beyond these arrive in the one form that loses nothing (a numeric as [`Value::Decimal`], a
/// timestamp as ISO 8601 text); the rule for each type is the source's and is documented there.
///
/// The serialised form keeps every bit and is for our own state only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A boolean, where the source has them.
    Bool(bool),
    /// Any integer of up to 64 bits.
    Int(i64),
    /// A binary floating point number; may be NaN or infinite.
    Double(#[serde(with = "bits")] f64),
    /// An exact decimal in its text form, as the source spells it: `12.50`, `-3e10`, `NaN`.
    Decimal(Arc<str>),
    /// Text, and every type whose exact form is text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A JSON value in its text form, valid JSON.
    Json(Arc<str>),
}

impl Value {
    /// A text value.
    pub fn text(text: &str) -> Self {
        Value::Text(text.into())
    }

    /// Whether this is SQL NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// What kind of value this is, for messages that must not show the value.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Double(_) => "floating point number",
            Value::Decimal(_) => "decimal",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Json(_) => "JSON",
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Double(_) => 2,
            Value::Decimal(_) => 3,
            Value::Text(_) => 4,
            Value::Json(_) => 5,
            Value::Bytes(_) => 6,
        }
    }
}

/// A total order: NULL first, then by kind, numbers by value (NaN last among them, integers before equal doubles, equal
/// decimals by their spelling).
/// Sources sort and compare keys with it only where their own order is not needed.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Double(a), Value::Double(b)) => a.total_cmp(b),
            (Value::Int(a), Value::Double(b)) => (*a as f64).total_cmp(b).then(Ordering::Less),
            (Value::Double(a), Value::Int(b)) => a.total_cmp(&(*b as f64)).then(Ordering::Greater),
            (Value::Decimal(a), Value::Decimal(b)) => {
                Magnitude::of(a).cmp(&Magnitude::of(b)).then_with(|| a.cmp(b))
            }
            (Value::Text(a), Value::Text(b)) | (Value::Json(a), Value::Json(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

/// How large a decimal is: its sign, then how many digits stand before the point, then the digits.
struct Magnitude<'a> {
    class: Class,
    exponent: i64,
    /// From the first digit that is not zero to the last, perhaps with the point between them.
    digits: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    NegativeInfinity,
    Negative,
    Zero,
    Positive,
    Infinity,
    NotANumber,
}

impl<'a> Magnitude<'a> {
    fn of(text: &'a str) -> Self {
        let special = |class| Magnitude {
            class,
            exponent: 0,
            digits: "",
        };
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let infinite = unsigned
                .get(..3)
                .is_some_and(|start| start.eq_ignore_ascii_case("inf"));
            return special(match (infinite, negative) {
                (true, true) => Class::NegativeInfinity,
                (true, false) => Class::Infinity,
                (false, _) => Class::NotANumber,
            });
        }
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let Some(first) = mantissa.find(|c: char| matches!(c, '1'..='9')) else {
            return special(Class::Zero);
        };
        let last = mantissa.rfind(|c: char| matches!(c, '1'..='9')).unwrap_or(first);
        let point = mantissa.find('.').unwrap_or(mantissa.len());
        // 123.4 has three digits before the point, 0.05 minus one.
        let before = match first < point {
            true => point as i64 - first as i64,
            false => point as i64 + 1 - first as i64,
        };
        Magnitude {
            class: if negative {
                Class::Negative
            } else {
                Class::Positive
            },
            exponent: exponent.parse::<i64>().unwrap_or(0).saturating_add(before),
            digits: &mantissa[first..=last],
        }
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.digits.bytes().filter(|digit| *digit != b'.')
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = || {
            self.exponent
                .cmp(&other.exponent)
                .then_with(|| self.digits().cmp(other.digits()))
        };
        self.class.cmp(&other.class).then_with(|| match self.class {
            Class::Negative => size().reverse(),
            Class::Positive => size(),
            Class::NegativeInfinity | Class::Zero | Class::Infinity | Class::NotANumber => Ordering::Equal,
        })
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Value::Null => {}
            Value::Bool(b) => b.hash(state),
            Value::Int(i) => i.hash(state),
            Value::Double(d) => d.to_bits().hash(state),
            Value::Decimal(s) | Value::Text(s) | Value::Json(s) => s.hash(state),
            Value::Bytes(b) => b.hash(state),
        }
    }
}

/// The text form of a value inside a key, a link or a message that may show it. Bytes are lower-case hexadecimal.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Double(d) => write!(f, "{d:?}"),
            Value::Decimal(s) | Value::Text(s) | Value::Json(s) => f.write_str(s),
            Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::text(value)
    }
}

/// Doubles as their bits: JSON has no NaN and no infinity.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_by_value() {
        let ascending = [
            "-Infinity",
            "-1e30",
            "-100",
            "-20",
            "-3.5",
            "-3.05",
            "-0.5",
            "-1E-9",
            "0",
            "1e-400",
            "0.001",
            "0.01",
            "0.099",
            "0.1",
            "0.5",
            "1",
            "1.05",
            "1.5",
            "9.5",
            "10",
            "10.01",
            "99",
            "1e2",
            "100.5",
            "1000000",
            "1e300",
            "Infinity",
            "NaN",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                let (a, b) = (Value::Decimal((*a).into()), Value::Decimal((*b).into()));
                assert_eq!(a.cmp(&b), at.cmp(&other), "{a:?} {b:?}");
            }
        }
        for (a, b) in [
            ("0", "-0.00"),
            ("1", "1.0"),
            ("1.0", "10e-1"),
            ("0.10", ".1"),
            ("+5", "5"),
        ] {
            assert_eq!(
                Magnitude::of(a).cmp(&Magnitude::of(b)),
                Ordering::Equal,
                "{a} {b}"
            );
            assert_ne!(Value::Decimal(a.into()), Value::Decimal(b.into()));
        }
    }
}
