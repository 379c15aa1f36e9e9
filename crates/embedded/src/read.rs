//! Values of a query as a field's type reads them.

use std::borrow::Cow;

use instep_core::date::{self, Round};
use instep_core::query::Scalar;
use instep_core::{Error, Result};

use crate::decimal::Scaled;
use crate::fields::Kind;

/// An exact value, as the index holds it.
#[derive(Debug, PartialEq)]
pub(crate) enum Exact<'a> {
    /// No document can have it: 3.5 in a field of integers.
    Nothing,
    Text(Cow<'a, str>),
    Bool(bool),
    Double(f64),
    Int(i64),
    /// A span of integers, both ends inclusive: a partial date.
    Between(i64, i64),
}

/// The end of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
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
pub(crate) enum Side {
    Lower,
    Upper,
}

/// How dates of a query are written.
pub(crate) struct Dates<'a> {
    pub(crate) format: Option<&'a str>,
    pub(crate) offset_seconds: i32,
    pub(crate) now_ms: i64,
}

/// The value as text.
pub(crate) fn text(value: &Scalar) -> Cow<'_, str> {
    match value {
        Scalar::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Scalar::Int(value) => Cow::Owned(value.to_string()),
        Scalar::Double(value) => Cow::Owned(serde_json::Value::from(*value).to_string()),
        Scalar::Text(value) => Cow::Borrowed(value),
    }
}

fn unreadable(field: &str, kind: Kind) -> Error {
    let kind = kind.name();
    Error::invalid(
        "query_shard_exception",
        format!("a value for field [{field}] cannot be read as [{kind}]"),
    )
}

/// A value to be equal to.
pub(crate) fn exact<'a>(field: &str, kind: Kind, value: &'a Scalar, now_ms: i64) -> Result<Exact<'a>> {
    let unreadable = || unreadable(field, kind);
    Ok(match kind {
        Kind::Keyword | Kind::Text(_) | Kind::Flattened => Exact::Text(text(value)),
        Kind::Boolean => Exact::Bool(boolean(value).ok_or_else(unreadable)?),
        Kind::Double => Exact::Double(double(value).ok_or_else(unreadable)?),
        Kind::Long => whole(scaled(value, 0).ok_or_else(unreadable)?),
        Kind::Integer => match whole(scaled(value, 0).ok_or_else(unreadable)?) {
            Exact::Int(value) if i32::try_from(value).is_err() => Exact::Nothing,
            exact => exact,
        },
        Kind::Decimal(scale) => whole(scaled(value, scale).ok_or_else(unreadable)?),
        Kind::Date => {
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
pub(crate) fn bound(
    field: &str,
    kind: Kind,
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
        Kind::Keyword | Kind::Text(_) | Kind::Flattened => Ok(Bound::Beyond),
        Kind::Boolean => Ok(match (boolean(value).ok_or_else(unreadable)?, side, inclusive) {
            (value, _, true) => Bound::Bool(value),
            (false, Side::Lower, false) => Bound::Bool(true),
            (true, Side::Upper, false) => Bound::Bool(false),
            (true, Side::Lower, false) | (false, Side::Upper, false) => Bound::Beyond,
        }),
        Kind::Double => Ok(Bound::Double(double(value).ok_or_else(unreadable)?, inclusive)),
        Kind::Long | Kind::Integer => number(0),
        Kind::Decimal(scale) => number(scale),
        Kind::Date => {
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
        return Err(unreadable(field, Kind::Date));
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

pub(crate) fn boolean(value: &Scalar) -> Option<bool> {
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

pub(crate) fn double(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Int(value) => Some(*value as f64),
        Scalar::Double(value) => Some(*value),
        Scalar::Text(text) => text.trim().parse().ok().filter(|value: &f64| value.is_finite()),
        Scalar::Bool(_) => None,
    }
}

pub(crate) fn scaled(value: &Scalar, scale: u8) -> Option<Scaled> {
    match value {
        Scalar::Int(value) => Scaled::parse(&value.to_string(), scale),
        Scalar::Double(value) => Scaled::parse(&format!("{value:?}"), scale),
        Scalar::Text(text) => Scaled::parse(text.trim(), scale),
        Scalar::Bool(_) => None,
    }
}
