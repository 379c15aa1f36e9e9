//! When two values of a join are equal: as databases compare them, not by their spelling.
//!
//! Numbers compare by what they are worth, whatever their type and their zeros; text compares byte by byte, except in
//! columns that ignore case. Fields still show each row's own spelling.

use instep_core::Value;

/// The form that all values have which a join takes for equal. `caseless`: the column ignores case.
///
/// Numbers become integers where they are integers of 64 bits, so that most joins compare nothing else.
pub(crate) fn canonical(value: &Value, caseless: bool) -> Value {
    match value {
        Value::Double(double) => of_double(*double),
        Value::Decimal(text) => of_decimal(text),
        Value::Text(text) if caseless => Value::Text(text.to_lowercase().into()),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Bytes(_) | Value::Json(_) => {
            value.clone()
        }
    }
}

/// Integers of at most this size are exact as doubles.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn of_double(double: f64) -> Value {
    if double.is_nan() {
        return Value::Decimal("NaN".into());
    }
    if double.is_infinite() {
        return infinity(double < 0.0);
    }
    if double.abs() <= EXACT && double.fract() == 0.0 {
        return Value::Int(double as i64);
    }
    Value::Double(double)
}

fn infinity(negative: bool) -> Value {
    Value::Decimal(if negative { "-Infinity" } else { "Infinity" }.into())
}

fn of_decimal(text: &str) -> Value {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let infinite = unsigned
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("inf"));
        return if infinite {
            infinity(negative)
        } else {
            Value::Decimal("NaN".into())
        };
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let point = mantissa.find('.').unwrap_or(mantissa.len());
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let significant = digits.trim_start_matches('0');
    let zeros = digits.len() - significant.len();
    let significant = significant.trim_end_matches('0');
    if significant.is_empty() {
        return Value::Int(0);
    }
    // The value is 0.significant × 10^before.
    let before = (point as i64 - zeros as i64).saturating_add(exponent.parse().unwrap_or(0));
    let sign = if negative { "-" } else { "" };
    if before >= significant.len() as i64 && before <= 19 {
        let width = before as usize;
        if let Ok(integer) = format!("{sign}{significant:0<width$}").parse() {
            return Value::Int(integer);
        }
    }
    Value::Decimal(format!("{sign}.{significant}e{before}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Value {
        canonical(&Value::Decimal(text.into()), false)
    }

    #[test]
    fn decimals_of_one_worth_are_alike() {
        for alike in [
            &["1", "1.0", "1.00", "+1", "10e-1", "0.1e1", "01"][..],
            &["0", "-0.00", "0e5", ".0"],
            &["0.5", ".50", "5e-1"],
            &["-12.5", "-12.50", "-125e-1"],
            &["1e30", "1000000000000000000000000000000", "1.0E+30"],
            &["9223372036854775808", "9223372036854775808.0"],
            &["NaN", "nan"],
            &["Infinity", "inf"],
        ] {
            for other in &alike[1..] {
                assert_eq!(decimal(alike[0]), decimal(other), "{} {other}", alike[0]);
            }
        }
        let different = [
            "0",
            "1",
            "-1",
            "10",
            "0.1",
            "0.01",
            "1.01",
            "1e30",
            "1e31",
            "NaN",
            "Infinity",
            "-Infinity",
        ];
        for (at, a) in different.iter().enumerate() {
            for b in &different[at + 1..] {
                assert_ne!(decimal(a), decimal(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn integers_stay_integers_in_every_type() {
        for (text, integer) in [
            ("7.000", 7),
            ("-7e2", -700),
            ("9223372036854775807.0", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(decimal(text), Value::Int(integer));
        }
        assert_eq!(canonical(&Value::Double(-0.0), false), Value::Int(0));
        assert_eq!(canonical(&Value::Double(3.0), false), Value::Int(3));
        assert_eq!(canonical(&Value::Double(1e300), false), Value::Double(1e300));
        assert_eq!(canonical(&Value::Double(f64::NAN), false), decimal("NaN"));
    }

    #[test]
    fn text_ignores_case_only_where_its_column_does() {
        assert_eq!(canonical(&Value::text("ÅbC"), true), Value::text("åbc"));
        assert_eq!(canonical(&Value::text("ÅbC"), false), Value::text("ÅbC"));
    }
}
