//! Numbers as Elasticsearch writes them: Java's `Double.toString` and `Float.toString`.

/// A double: the shortest digits that read back as the same number, always with a point, with an exponent below 1e-3
/// and from 1e7 on. What JSON cannot say becomes text.
pub(crate) fn double(value: f64) -> String {
    if let Some(word) = not_finite(value) {
        return format!("\"{word}\"");
    }
    plain_double(value)
}

/// A double inside text, such as the key of a range.
pub(crate) fn plain_double(value: f64) -> String {
    match not_finite(value) {
        Some(word) => word.to_owned(),
        None => written(value.abs(), format!("{value:?}"), format!("{value:e}")),
    }
}

/// A float, like [`double`].
pub(crate) fn float(value: f32) -> String {
    match not_finite(f64::from(value)) {
        Some(word) => format!("\"{word}\""),
        None => written(f64::from(value.abs()), format!("{value:?}"), format!("{value:e}")),
    }
}

fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        return Some("NaN");
    }
    if value.is_infinite() {
        return Some(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    None
}

fn written(magnitude: f64, plain: String, scientific: String) -> String {
    // No float widens across these bounds, so doubles decide for both.
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return plain;
    }
    let (digits, exponent) = scientific.split_once('e').expect("the notation has an exponent");
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_java_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (10.0, "10.0"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.000_999, "9.99E-4"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (-12_345_678.0, "-1.2345678E7"),
            (758_818_273_213_135_600.0, "7.588182732131356E17"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::NEG_INFINITY, "\"-Infinity\""),
            (f64::NAN, "\"NaN\""),
        ];
        for (value, expected) in cases {
            assert_eq!(double(value), expected);
        }
        let floats = [
            (1.2_f32, "1.2"),
            (0.001, "0.001"),
            (1e7, "1.0E7"),
            (16_777_216.0, "1.6777216E7"),
            (3.4e-5, "3.4E-5"),
        ];
        for (value, expected) in floats {
            assert_eq!(float(value), expected);
        }
    }

    proptest! {
        #[test]
        fn the_same_number_comes_back(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(double(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn the_same_float_comes_back(value in any::<f32>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(float(value).parse::<f32>().unwrap().to_bits(), value.to_bits());
        }
    }
}
