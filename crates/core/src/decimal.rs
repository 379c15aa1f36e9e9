//! Exact decimals as 64-bit integers: value × 10^scale.

/// A decimal at some scale: the largest integer that is not above it, and whether it is that integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The largest integer that is not above it.
    pub floor: i128,
    /// Whether it is that integer.
    pub exact: bool,
    /// Whether the nearest integer is the one above (a half goes away from zero).
    up: bool,
}

impl Scaled {
    /// A number as JSON or SQL spells it: `-12.50`, `3e10`. `None` when it is no number.
    pub fn parse(text: &str, scale: u8) -> Option<Scaled> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (digits, exponent) = match digits.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // How many of the digits lie before the point, once the value is scaled.
        let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
        let mut magnitude: i128 = 0;
        let (mut half_or_more, mut rest) = (false, false);
        let mut count = 0;
        for byte in all() {
            if count < kept {
                magnitude = push_digit(magnitude, byte - b'0');
            } else {
                half_or_more |= count == kept && byte >= b'5';
                rest |= byte != b'0';
            }
            count += 1;
        }
        if magnitude != 0 {
            for _ in count..kept.min(count + 40) {
                magnitude = push_digit(magnitude, 0);
            }
        }
        let (floor, up) = match (negative, rest) {
            (false, _) => (magnitude, half_or_more),
            (true, false) => (-magnitude, false),
            (true, true) => (-magnitude - 1, !half_or_more),
        };
        Some(Scaled {
            floor,
            exact: !rest,
            up,
        })
    }

    /// The nearest integer; a half goes away from zero.
    pub fn nearest(self) -> i128 {
        self.floor + i128::from(self.up)
    }

    /// The smallest integer that is not below it.
    pub fn ceil(self) -> i128 {
        self.floor + i128::from(!self.exact)
    }
}

/// Saturates far beyond 64 bits.
fn push_digit(magnitude: i128, digit: u8) -> i128 {
    magnitude
        .saturating_mul(10)
        .saturating_add(i128::from(digit))
        .min(i128::MAX / 1000)
}

/// The value of a scaled integer: the nearest double, up to 15 digits or so.
pub fn value(unscaled: i64, scale: u8) -> f64 {
    unscaled as f64 / 10_f64.powi(i32::from(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_scale_exactly() {
        let cases = [
            ("12.50", 2, Some((1250, 1250, 1250))),
            ("12.5", 2, Some((1250, 1250, 1250))),
            ("0", 2, Some((0, 0, 0))),
            ("-12.345", 2, Some((-1235, -1235, -1234))),
            ("-12.344", 2, Some((-1235, -1234, -1234))),
            ("12.345", 2, Some((1234, 1235, 1235))),
            ("12.344", 2, Some((1234, 1234, 1235))),
            ("3e2", 1, Some((3000, 3000, 3000))),
            ("1.5E-3", 3, Some((1, 2, 2))),
            ("5e-1", 0, Some((0, 1, 1))),
            ("1e-9", 2, Some((0, 0, 1))),
            (
                "92233720368547758.07",
                2,
                Some((i64::MAX.into(), i64::MAX.into(), i64::MAX.into())),
            ),
            ("", 2, None),
            (".", 2, None),
            ("1.2.3", 2, None),
            ("NaN", 2, None),
            ("1e", 2, None),
        ];
        for (text, scale, expected) in cases {
            let scaled = Scaled::parse(text, scale);
            assert_eq!(
                scaled.map(|scaled| (scaled.floor, scaled.nearest(), scaled.ceil())),
                expected,
                "{text}"
            );
        }
        assert!(Scaled::parse("1e300", 2).is_some_and(|scaled| scaled.floor > i128::from(i64::MAX)));
        assert!(Scaled::parse("-1e2000000000", 2).is_some_and(|scaled| scaled.floor < i128::from(i64::MIN)));
    }
}
