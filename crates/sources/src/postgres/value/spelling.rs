//! Single values as Postgres spells them: numbers, money, bytes, UUIDs.

use instep_core::Value;

/// A binary number. Where it is a `real`, the shortest text that tells it from its neighbours: what a person wrote.
pub(super) fn double(text: &str) -> Option<f64> {
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e');
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        number if number.bytes().all(plain) => number.parse().ok(),
        _ => None,
    }
}

/// Whether this is an exact decimal: digits with or without a point, or one of the three that are no number.
pub(super) fn is_decimal(text: &str) -> bool {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    are_digits(whole) && are_digits(fraction)
}

/// Whether Postgres reads this as a number, in whatever form: an exponent, no digit before the point.
pub(super) fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    // Beyond this it overflows every type.
    let has_exponent = are_digits(exponent) && exponent.len() <= 4;
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    is_decimal(text) || has_exponent && is_decimal(&format!("0{mantissa}"))
}

/// The integer that a number is, whatever its type.
pub(super) fn integer(value: &Value) -> Option<i128> {
    // Every integer below is exact as a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Int(integer) => Some((*integer).into()),
        Value::Double(double) if double.fract() == 0.0 && double.abs() <= EXACT => Some(*double as i128),
        Value::Decimal(text) => match text.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole.parse().ok(),
            Some(_) => None,
            None => text.parse().ok(),
        },
        Value::Null
        | Value::Bool(_)
        | Value::Double(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Json(_) => None,
    }
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The digits after the point of `money` under `lc_monetary` C.
const PLACES_OF_C: usize = 2;

/// Money under `lc_monetary` C, `-$1,234.50`, as a decimal with so many digits after the point: the database counts its
/// smallest unit, and only its own `lc_monetary` says how many of them are one.
pub(super) fn money(text: &str, places: u32) -> Option<String> {
    let (sign, amount) = match text.strip_prefix('-') {
        Some(amount) => ("-", amount),
        None => ("", text),
    };
    let amount: String = amount.strip_prefix('$')?.chars().filter(|c| *c != ',').collect();
    let (whole, fraction) = amount.split_once('.')?;
    if !are_digits(whole) || !are_digits(fraction) || fraction.len() != PLACES_OF_C {
        return None;
    }
    let units = format!("{whole}{fraction}");
    Some(format!("{sign}{}", pointed(&units, places as usize)))
}

/// The inverse of [`money`]: a decimal as money under `lc_monetary` C. `None` when money cannot be it.
pub(super) fn as_money(decimal: &str, places: u32) -> Option<String> {
    let places = places as usize;
    let (sign, amount) = match decimal.strip_prefix('-') {
        Some(amount) => ("-", amount),
        None => ("", decimal),
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !are_digits(&digits) {
        return None;
    }
    let (kept, cut) = fraction.split_at_checked(places).unwrap_or((fraction, ""));
    let units: i64 = format!("{sign}{whole}{kept:0<places$}").parse().ok()?;
    let exact = cut.bytes().all(|byte| byte == b'0');
    exact.then(|| {
        format!(
            "{sign}{}",
            pointed(&units.unsigned_abs().to_string(), PLACES_OF_C)
        )
    })
}

/// A number of smallest units with a point before the last `places` digits.
fn pointed(units: &str, places: usize) -> String {
    let units = units.trim_start_matches('0');
    let padded = format!("{units:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    match fraction {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// Bytes as `\x` and hexadecimal digits.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    digits.chunks_exact(2).map(byte).collect()
}

/// Whether this is a UUID as Postgres spells it.
pub(super) fn is_uuid(text: &str) -> bool {
    let at = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(at)
}
