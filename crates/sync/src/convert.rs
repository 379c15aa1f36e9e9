//! How a column's value becomes a field's value: one rule for each field type, as JSON text.
//!
//! A value without a rule, or one that does not fit, is refused with its kind; never a different value.

use std::borrow::Cow;

use instep_core::date::{self, Round};
use instep_core::{Document, FieldType, Value};

use crate::json::{Json, write_string};

/// Why a value cannot be a field's value; the value itself is not in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) String);

type Written = Result<(), Misfit>;

/// Appends the value as JSON. NULL is `null` for every type.
pub(crate) fn write(value: &Value, kind: &FieldType, out: &mut Vec<u8>) -> Written {
    if value.is_null() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match kind {
        FieldType::Keyword | FieldType::Text { .. } => write_text(value, kind, out),
        FieldType::Long => write_integer(value, i64::MIN, i64::MAX, kind, out),
        FieldType::Integer => write_integer(value, i32::MIN.into(), i32::MAX.into(), kind, out),
        FieldType::Double => write_double(value, out),
        FieldType::Decimal { scale } => write_decimal(value, *scale, out),
        FieldType::Boolean => write_boolean(value, out),
        FieldType::Date => write_date(value, out),
        FieldType::Flattened => write_flattened(value, out),
    }
}

impl Misfit {
    /// A column that should hold JSON of some form.
    pub(crate) fn json(kind: &str, wanted: &str) -> Self {
        Misfit(format!("a value of kind {kind} is not {wanted}"))
    }
}

fn misfit(value: &Value, kind: &FieldType) -> Misfit {
    Misfit(format!(
        "a value of kind {} cannot be a field of type {}",
        value.kind(),
        kind.name()
    ))
}

fn because(value: &Value, kind: &FieldType, why: &str) -> Misfit {
    Misfit(format!("{}: {why}", misfit(value, kind).0))
}

fn write_text(value: &Value, kind: &FieldType, out: &mut Vec<u8>) -> Written {
    match value {
        Value::Text(text) | Value::Decimal(text) | Value::Json(text) => write_string(text, out),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => write_string(&value.to_string(), out),
        Value::Null | Value::Bytes(_) => return Err(misfit(value, kind)),
    }
    Ok(())
}

fn write_integer(value: &Value, least: i64, most: i64, kind: &FieldType, out: &mut Vec<u8>) -> Written {
    // 2^63 as a double: every integral double in [-2^63, 2^63) converts exactly.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let integer = match value {
        Value::Int(integer) => Some(*integer),
        Value::Double(double) if double.fract() == 0.0 && (-LIMIT..LIMIT).contains(double) => {
            Some(*double as i64)
        }
        Value::Text(text) | Value::Decimal(text) => text.parse().ok().or_else(|| scaled(text, 0)),
        Value::Null | Value::Bool(_) | Value::Double(_) | Value::Bytes(_) | Value::Json(_) => None,
    };
    let integer = integer.ok_or_else(|| because(value, kind, "it is not an integer of 64 bits"))?;
    if integer < least || integer > most {
        return Err(because(value, kind, "it is too large"));
    }
    write_digits(integer, out);
    Ok(())
}

fn write_digits(integer: i64, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &integer).expect("writing an integer to memory cannot fail");
}

fn write_double(value: &Value, out: &mut Vec<u8>) -> Written {
    let double = match value {
        Value::Int(integer) => Some(*integer as f64),
        Value::Double(double) => Some(*double),
        Value::Text(text) | Value::Decimal(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Bytes(_) | Value::Json(_) => None,
    };
    let double = double.ok_or_else(|| misfit(value, &FieldType::Double))?;
    if !double.is_finite() {
        return Err(because(value, &FieldType::Double, "it is not finite"));
    }
    serde_json::to_writer(out, &double).expect("a finite double is JSON");
    Ok(())
}

fn write_decimal(value: &Value, scale: u8, out: &mut Vec<u8>) -> Written {
    let kind = FieldType::Decimal { scale };
    let text = match value {
        Value::Int(_) | Value::Double(_) => value.to_string(),
        Value::Text(text) | Value::Decimal(text) => text.to_string(),
        Value::Null | Value::Bool(_) | Value::Bytes(_) | Value::Json(_) => return Err(misfit(value, &kind)),
    };
    let units = scaled(&text, scale).ok_or_else(|| {
        because(
            value,
            &kind,
            &format!("it is not a number of 64 bits with at most {scale} digits after the point"),
        )
    })?;
    let digits = format!("{:0width$}", units.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let fraction = fraction.trim_end_matches('0');
    let sign = if units < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    out.extend_from_slice(format!("{sign}{whole}{point}{fraction}").as_bytes());
    Ok(())
}

/// A decimal in text form times 10^scale, when that is an integer of 64 bits: digits, an optional point, an optional
/// exponent. Nothing is rounded.
pub(crate) fn scaled(text: &str, scale: u8) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty()
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let trailing = i32::try_from(digits.len() - digits.trim_end_matches('0').len()).ok()?;
    let power = exponent
        .checked_add(i32::from(scale))?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?
        .checked_add(trailing)?;
    let power = u32::try_from(power).ok().filter(|power| *power <= 19)?;
    let units = significant
        .parse::<i128>()
        .ok()?
        .checked_mul(10_i128.checked_pow(power)?)?;
    i64::try_from(if negative { -units } else { units }).ok()
}

fn write_boolean(value: &Value, out: &mut Vec<u8>) -> Written {
    let truth = match value {
        Value::Bool(truth) => Some(*truth),
        Value::Int(0) => Some(false),
        Value::Int(1) => Some(true),
        Value::Text(text) => match &**text {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        Value::Null
        | Value::Int(_)
        | Value::Double(_)
        | Value::Decimal(_)
        | Value::Bytes(_)
        | Value::Json(_) => None,
    };
    let truth = truth.ok_or_else(|| misfit(value, &FieldType::Boolean))?;
    out.extend_from_slice(if truth { b"true" } else { b"false" });
    Ok(())
}

/// Integers are milliseconds since 1970. In text, SQL's blank between day and time becomes ISO 8601's `T`.
fn write_date(value: &Value, out: &mut Vec<u8>) -> Written {
    match value {
        Value::Int(millis) => write_digits(*millis, out),
        Value::Text(text) => {
            let iso: Cow<'_, str> = match text.as_bytes().get(10) {
                Some(b' ') => format!("{}T{}", &text[..10], &text[11..]).into(),
                Some(_) | None => (&**text).into(),
            };
            if date::parse(&iso, Round::Down, 0).is_err() {
                return Err(because(value, &FieldType::Date, "it is not a date of ISO 8601"));
            }
            write_string(&iso, out);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Double(_)
        | Value::Decimal(_)
        | Value::Bytes(_)
        | Value::Json(_) => {
            return Err(misfit(value, &FieldType::Date));
        }
    }
    Ok(())
}

/// Why a text that should be JSON is not read.
pub(crate) fn not_json(text: &str) -> String {
    match Json::is_too_deep(text) {
        true => format!("it nests deeper than {} levels", Document::DEEPEST),
        false => "it is not JSON".to_owned(),
    }
}

/// Values in one flattened field of one document, at most.
const MOST_LEAVES: usize = 10_000;

/// JSON in canonical form: members sorted by name, no white space, numbers as they were spelled.
fn write_flattened(value: &Value, out: &mut Vec<u8>) -> Written {
    let (Value::Json(text) | Value::Text(text)) = value else {
        return Err(misfit(value, &FieldType::Flattened));
    };
    let tree = Json::parse(text).ok_or_else(|| because(value, &FieldType::Flattened, &not_json(text)))?;
    if tree.leaves() > MOST_LEAVES {
        let why = format!("it holds more than {MOST_LEAVES} values");
        return Err(because(value, &FieldType::Flattened, &why));
    }
    match tree {
        // JSON's null is as good as SQL's.
        Json::Null | Json::Object(_) => tree.write(out),
        Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) => {
            return Err(because(value, &FieldType::Flattened, "it is not an object"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(value: Value, kind: &FieldType) -> Option<String> {
        let mut out = Vec::new();
        write(&value, kind, &mut out)
            .ok()
            .map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_type_has_its_rule() {
        let decimal = FieldType::Decimal { scale: 2 };
        let cases = [
            (Value::Null, FieldType::Long, Some("null")),
            (Value::text("a\"b"), FieldType::Keyword, Some("\"a\\\"b\"")),
            (Value::Int(7), FieldType::Keyword, Some("\"7\"")),
            (Value::Bytes(vec![1].into()), FieldType::Keyword, None),
            (Value::Int(i64::MAX), FieldType::Long, Some("9223372036854775807")),
            (Value::Int(1 << 31), FieldType::Integer, None),
            (Value::Double(3.0), FieldType::Long, Some("3")),
            (Value::Double(3.5), FieldType::Long, None),
            (Value::Double(9.3e18), FieldType::Long, None),
            (Value::text("x"), FieldType::Long, None),
            (Value::Double(f64::NAN), FieldType::Double, None),
            (Value::Double(0.1), FieldType::Double, Some("0.1")),
            (Value::Decimal("1e400".into()), FieldType::Double, None),
            (Value::Decimal("12.50".into()), decimal.clone(), Some("12.5")),
            (Value::Decimal("-0.05".into()), decimal.clone(), Some("-0.05")),
            (Value::Decimal("0.001".into()), decimal.clone(), None),
            (Value::Int(3), decimal.clone(), Some("3")),
            (Value::Decimal("NaN".into()), decimal.clone(), None),
            (Value::Decimal("1e17".into()), decimal.clone(), None),
            (Value::Int(1), FieldType::Boolean, Some("true")),
            (Value::Int(2), FieldType::Boolean, None),
            (
                Value::text("2020-02-29 10:00:00"),
                FieldType::Date,
                Some("\"2020-02-29T10:00:00\""),
            ),
            (Value::text("2021-02-29"), FieldType::Date, None),
            (
                Value::text("2024-05-06T05:08:09.123456Z"),
                FieldType::Date,
                Some("\"2024-05-06T05:08:09.123456Z\""),
            ),
            (Value::text("infinity"), FieldType::Date, None),
            (Value::text("0044-03-15 BC"), FieldType::Date, None),
            (Value::text("0044-03-15 10:00:00+00 BC"), FieldType::Date, None),
            (Value::text("10000-01-01"), FieldType::Date, None),
            (Value::text("10000-01-01 00:00:00+00"), FieldType::Date, None),
            (Value::text("294276-12-31 23:59:59.999999"), FieldType::Date, None),
            (Value::text("infinity"), FieldType::Keyword, Some("\"infinity\"")),
            (Value::Double(-0.0), FieldType::Double, Some("-0.0")),
            (Value::Double(f64::INFINITY), FieldType::Double, None),
            (Value::Double(f64::NAN), decimal.clone(), None),
            (Value::Decimal("Infinity".into()), decimal.clone(), None),
            (Value::Decimal("NaN".into()), FieldType::Long, None),
            (Value::Decimal("NaN".into()), FieldType::Double, None),
            (Value::Decimal("NaN".into()), FieldType::Keyword, Some("\"NaN\"")),
            (Value::Json("\"\\ud800\"".into()), FieldType::Flattened, None),
            (
                Value::Json("{\"a\":1e400,\"a\":12345678901234567890.10}".into()),
                FieldType::Flattened,
                Some("{\"a\":12345678901234567890.10}"),
            ),
            (
                Value::Json("{\"b\": 1, \"a\": [2]}".into()),
                FieldType::Flattened,
                Some("{\"a\":[2],\"b\":1}"),
            ),
            (Value::Json("[1]".into()), FieldType::Flattened, None),
        ];
        for (value, kind, expected) in cases {
            assert_eq!(
                written(value.clone(), &kind).as_deref(),
                expected,
                "{value:?} as {kind:?}"
            );
        }
    }

    #[test]
    fn decimals_scale_without_rounding() {
        let cases = [
            ("12.34", 2, Some(1234)),
            ("1.2e1", 0, Some(12)),
            ("100e-2", 0, Some(1)),
            ("-9223372036854775808", 0, Some(i64::MIN)),
            ("9223372036854775808", 0, None),
            (".5", 1, Some(5)),
            (".", 1, None),
            ("", 1, None),
            ("1e999999999999", 0, None),
            ("0e99999", 0, Some(0)),
            ("1,5", 1, None),
        ];
        for (text, scale, expected) in cases {
            assert_eq!(scaled(text, scale), expected, "{text}");
        }
    }
}
