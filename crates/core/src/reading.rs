//! Values of a query as a field's type reads them: the same for every engine that does not read them itself.

use std::borrow::Cow;

use crate::date::{self, Round};
use crate::decimal::Scaled;
use crate::error::{Error, Result};
use crate::field::FieldType;
use crate::query::Scalar;

/// How values of a query are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAs {
    /// As text, whatever they are.
    Text,
    /// `true` and `false`, also as text.
    Boolean,
    /// A number, also as text.
    Double,
    /// A whole number of 64 bits, also as text.
    Long,
    /// A whole number of 32 bits, also as text.
    Integer,
    /// A decimal with so many digits after the point, also as text.
    Decimal(u8),
    /// A date, or milliseconds.
    Date,
}

impl ReadAs {
    /// How the values of a field of this type are read.
    pub fn of(kind: &FieldType) -> Self {
        match kind {
            FieldType::Keyword | FieldType::Text { .. } | FieldType::Flattened => ReadAs::Text,
            FieldType::Boolean => ReadAs::Boolean,
            FieldType::Double => ReadAs::Double,
            FieldType::Long => ReadAs::Long,
            FieldType::Integer => ReadAs::Integer,
            FieldType::Decimal { scale } => ReadAs::Decimal(*scale),
            FieldType::Date => ReadAs::Date,
        }
    }

    fn name(self) -> &'static str {
        match self {
            ReadAs::Text => "keyword",
            ReadAs::Boolean => "boolean",
            ReadAs::Double => "double",
            ReadAs::Long => "long",
            ReadAs::Integer => "integer",
            ReadAs::Decimal(_) => "decimal",
            ReadAs::Date => "date",
        }
    }
}

/// An exact value, as the index holds it.
#[derive(Debug, PartialEq)]
pub enum Exact<'a> {
    /// No document can have it: 3.5 in a field of integers.
    Nothing,
    /// Text.
    Text(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A binary number.
    Double(f64),
    /// A whole number, a scaled decimal, milliseconds.
    Int(i64),
    /// A span of integers, both ends inclusive: a partial date.
    Between(i64, i64),
}

/// The end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Inclusive.
    Int(i64),
    /// With whether it is inclusive.
    Double(f64, bool),
    /// Inclusive.
    Bool(bool),
    /// No value lies on its inner side.
    Beyond,
}

/// Which end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The lower one.
    Lower,
    /// The upper one.
    Upper,
}

/// How dates of a query are written.
pub struct Dates<'a> {
    /// The format; ISO 8601 or milliseconds without one.
    pub format: Option<&'a str>,
    /// The zone of dates that name none, as an offset in seconds.
    pub offset_seconds: i32,
    /// What `now` means.
    pub now_ms: i64,
}

/// The value as text.
pub fn text(value: &Scalar) -> Cow<'_, str> {
    match value {
        Scalar::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Scalar::Int(value) => Cow::Owned(value.to_string()),
        Scalar::Double(value) => Cow::Owned(serde_json::Value::from(*value).to_string()),
        Scalar::Text(value) => Cow::Borrowed(value),
    }
}

fn unreadable(field: &str, kind: ReadAs) -> Error {
    let kind = kind.name();
    Error::invalid(
        "query_shard_exception",
        format!("a value for field [{field}] cannot be read as [{kind}]"),
    )
}

/// A value to be equal to.
pub fn exact<'a>(field: &str, kind: ReadAs, value: &'a Scalar, now_ms: i64) -> Result<Exact<'a>> {
    let unreadable = || unreadable(field, kind);
    Ok(match kind {
        ReadAs::Text => Exact::Text(text(value)),
        ReadAs::Boolean => Exact::Bool(boolean(value).ok_or_else(unreadable)?),
        ReadAs::Double => Exact::Double(double(value).ok_or_else(unreadable)?),
        ReadAs::Long => whole(scaled(value, 0).ok_or_else(unreadable)?),
        ReadAs::Integer => match whole(scaled(value, 0).ok_or_else(unreadable)?) {
            Exact::Int(value) if i32::try_from(value).is_err() => Exact::Nothing,
            exact => exact,
        },
        ReadAs::Decimal(scale) => whole(scaled(value, scale).ok_or_else(unreadable)?),
        ReadAs::Date => {
            let dates = Dates {
                format: None,
                offset_seconds: 0,
                now_ms,
            };
            let at = |round| moment(field, value, round, &dates);
            Exact::Between(at(Round::Down)?, at(Round::Up)?)
        }
    })
}

fn whole<'a>(scaled: Scaled) -> Exact<'a> {
    match i64::try_from(scaled.floor) {
        Ok(value) if scaled.exact => Exact::Int(value),
        Ok(_) | Err(_) => Exact::Nothing,
    }
}

/// A value to be compared with.
pub fn bound(
    field: &str,
    kind: ReadAs,
    value: &Scalar,
    inclusive: bool,
    side: Side,
    dates: &Dates<'_>,
) -> Result<Bound> {
    let unreadable = || unreadable(field, kind);
    let inward = |at: i128| match side {
        Side::Lower => at + i128::from(!inclusive),
        Side::Upper => at - i128::from(!inclusive),
    };
    let integer = |at: i128| match (i64::try_from(at), side) {
        (Ok(at), _) => Bound::Int(at),
        (Err(_), Side::Lower) if at < 0 => Bound::Int(i64::MIN),
        (Err(_), Side::Upper) if at > 0 => Bound::Int(i64::MAX),
        (Err(_), Side::Lower | Side::Upper) => Bound::Beyond,
    };
    let number = |scale| {
        let scaled = scaled(value, scale).ok_or_else(unreadable)?;
        Ok(integer(match (scaled.exact, side) {
            (true, _) => inward(scaled.floor),
            (false, Side::Lower) => scaled.ceil(),
            (false, Side::Upper) => scaled.floor,
        }))
    };
    match kind {
        // These are compared as text, which needs no reading.
        ReadAs::Text => Ok(Bound::Beyond),
        ReadAs::Boolean => Ok(match (boolean(value).ok_or_else(unreadable)?, side, inclusive) {
            (value, _, true) => Bound::Bool(value),
            (false, Side::Lower, false) => Bound::Bool(true),
            (true, Side::Upper, false) => Bound::Bool(false),
            (true, Side::Lower, false) | (false, Side::Upper, false) => Bound::Beyond,
        }),
        ReadAs::Double => Ok(Bound::Double(double(value).ok_or_else(unreadable)?, inclusive)),
        ReadAs::Long | ReadAs::Integer => number(0),
        ReadAs::Decimal(scale) => number(scale),
        ReadAs::Date => {
            let round = match (side, inclusive) {
                (Side::Lower, true) | (Side::Upper, false) => Round::Down,
                (Side::Lower, false) | (Side::Upper, true) => Round::Up,
            };
            Ok(integer(inward(i128::from(moment(field, value, round, dates)?))))
        }
    }
}

/// A moment; a number is read as the text it is written with.
fn moment(field: &str, value: &Scalar, round: Round, dates: &Dates<'_>) -> Result<i64> {
    if let Scalar::Bool(_) = value {
        return Err(unreadable(field, ReadAs::Date));
    }
    let whole = match value {
        Scalar::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
            Some((*value as i64).to_string())
        }
        Scalar::Bool(_) | Scalar::Int(_) | Scalar::Double(_) | Scalar::Text(_) => None,
    };
    let text = whole.map_or_else(|| text(value), Cow::Owned);
    date::bound(&text, dates.format, round, dates.offset_seconds, dates.now_ms)
        .map_err(|error| error.context(format!("field [{field}]")))
}

/// A boolean, also as text.
pub fn boolean(value: &Scalar) -> Option<bool> {
    match value {
        Scalar::Bool(value) => Some(*value),
        Scalar::Text(text) => match text.as_str() {
            "true" => Some(true),
            "false" | "" => Some(false),
            _ => None,
        },
        Scalar::Int(_) | Scalar::Double(_) => None,
    }
}

/// A finite number, also as text.
pub fn double(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Int(value) => Some(*value as f64),
        Scalar::Double(value) => Some(*value),
        Scalar::Text(text) => text.trim().parse().ok().filter(|value: &f64| value.is_finite()),
        Scalar::Bool(_) => None,
    }
}

/// A number at a scale, also as text.
pub fn scaled(value: &Scalar, scale: u8) -> Option<Scaled> {
    match value {
        Scalar::Int(value) => Scaled::parse(&value.to_string(), scale),
        Scalar::Double(value) => Scaled::parse(&format!("{value:?}"), scale),
        Scalar::Text(text) => Scaled::parse(text.trim(), scale),
        Scalar::Bool(_) => None,
    }
}
