//! Small notations inside values: `2<75%`, `+01:00`, `500ms`, `1M`.

use instep_core::Result;
use instep_core::query::{DateInterval, MinimumShouldMatch};

use crate::json::{Json, shown};
use crate::place::Place;

/// `3`, `-1`, `75%`, `-25%`, `2<75%`, `2<75% 9<-3`.
pub(crate) fn minimum_should_match(place: &Place<'_>) -> Result<MinimumShouldMatch> {
    let notation = match place.json {
        Json::Number(notation) | Json::Text(notation) => notation.trim(),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            return Err(place.malformed("a minimum of matches must be a number or text"));
        }
    };
    let unknown = || {
        let message = format!("[{}] is no minimum of matches", shown(notation));
        place
            .illegal(message)
            .with_remedy("write `3`, `-1`, `75%`, `-25%`, `2<75%` or several of the last, ascending")
    };
    if !notation.contains('<') {
        return plain_minimum(notation).ok_or_else(unknown);
    }
    let mut rules: Vec<(u32, MinimumShouldMatch)> = Vec::new();
    for rule in without_spaces_around(notation, '<').split_whitespace() {
        let (above, minimum) = rule.split_once('<').ok_or_else(unknown)?;
        let above = above.parse().map_err(|_| unknown())?;
        if rules.last().is_some_and(|(before, _)| *before >= above) {
            return Err(unknown());
        }
        rules.push((above, plain_minimum(minimum).ok_or_else(unknown)?));
    }
    Ok(MinimumShouldMatch::Above(rules))
}

fn plain_minimum(notation: &str) -> Option<MinimumShouldMatch> {
    match notation.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse().ok()?;
            (-100..=100)
                .contains(&percent)
                .then_some(MinimumShouldMatch::Percent(percent))
        }
        None => notation.parse().ok().map(MinimumShouldMatch::Count),
    }
}

fn without_spaces_around(text: &str, sign: char) -> String {
    let parts: Vec<&str> = text.split(sign).map(str::trim).collect();
    parts.join(&sign.to_string())
}

/// A zone as an offset in seconds: `+01:00`, `-0530`, `+1`, `Z`, `UTC`, `GMT`.
pub(crate) fn zone(place: &Place<'_>) -> Result<i32> {
    let name = place.text()?;
    if matches!(name, "Z" | "UTC" | "GMT") {
        return Ok(0);
    }
    offset(name).ok_or_else(|| {
        place
            .illegal(format!("the time zone [{}] is not supported", shown(name)))
            .with_remedy("give an offset such as `+01:00`, or `UTC`")
    })
}

fn offset(name: &str) -> Option<i32> {
    let (sign, rest) = match name.as_bytes().first()? {
        b'+' => (1, &name[1..]),
        b'-' => (-1, &name[1..]),
        _ => return None,
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes) = match rest.split_once(':') {
        Some((hours, minutes)) if hours.len() == 2 && minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if matches!(rest.len(), 1 | 2) => (rest, "0"),
        None if rest.len() == 4 && rest.is_ascii() => rest.split_at(2),
        None => return None,
    };
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3_600 + minutes * 60;
    (minutes < 60 && seconds <= 18 * 3_600).then_some(sign * seconds)
}

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A whole number of one of the units, in milliseconds; above 0.
fn milliseconds(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<i64>().ok()?.checked_mul(*factor)
}

/// How long a caller is willing to wait, in milliseconds; `None` for `-1`, which is for ever.
pub(crate) fn timeout(place: &Place<'_>) -> Result<Option<u64>> {
    let text = place.text()?;
    if text == "-1" {
        return Ok(None);
    }
    if text == "0" {
        return Ok(Some(0));
    }
    let units = [("ms", 1), ("s", SECOND), ("m", MINUTE), ("h", HOUR), ("d", DAY)];
    let parsed = milliseconds(text, &units).and_then(|ms| u64::try_from(ms).ok());
    match parsed {
        Some(ms) => Ok(Some(ms)),
        None => Err(place
            .illegal(format!("[{}] is no duration", shown(text)))
            .with_remedy("write a whole number and ms, s, m, h or d")),
    }
}

/// `30s`, `12h`, `7d`.
pub(crate) fn fixed_interval(place: &Place<'_>) -> Result<DateInterval> {
    let text = place.text()?;
    let units = [("ms", 1), ("s", SECOND), ("m", MINUTE), ("h", HOUR), ("d", DAY)];
    match milliseconds(text, &units).filter(|ms| *ms > 0) {
        Some(ms) => Ok(DateInterval::Fixed(ms)),
        None => Err(place
            .illegal(format!("[{}] is no fixed interval", shown(text)))
            .with_remedy("write a whole number above 0 and ms, s, m, h or d; or use calendar_interval")),
    }
}

/// `month`, `1M`. A calendar second is a fixed one.
pub(crate) fn calendar_interval(place: &Place<'_>) -> Result<DateInterval> {
    place.one_of(&[
        ("second", DateInterval::Fixed(SECOND)),
        ("1s", DateInterval::Fixed(SECOND)),
        ("minute", DateInterval::Minute),
        ("1m", DateInterval::Minute),
        ("hour", DateInterval::Hour),
        ("1h", DateInterval::Hour),
        ("day", DateInterval::Day),
        ("1d", DateInterval::Day),
        ("week", DateInterval::Week),
        ("1w", DateInterval::Week),
        ("month", DateInterval::Month),
        ("1M", DateInterval::Month),
        ("quarter", DateInterval::Quarter),
        ("1q", DateInterval::Quarter),
        ("year", DateInterval::Year),
        ("1y", DateInterval::Year),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(text: &str) -> Json {
        Json::Text(text.to_owned())
    }

    #[test]
    fn minimums() {
        use MinimumShouldMatch::{Above, Count, Percent};
        let cases = [
            ("3", Some(Count(3))),
            (" -1 ", Some(Count(-1))),
            ("75%", Some(Percent(75))),
            ("-25%", Some(Percent(-25))),
            ("2<75%", Some(Above(vec![(2, Percent(75))]))),
            ("2 < 75%", Some(Above(vec![(2, Percent(75))]))),
            (
                "2<-25% 9<-3",
                Some(Above(vec![(2, Percent(-25)), (9, Count(-3))])),
            ),
            ("9<1 2<3", None),
            ("2<", None),
            ("<2", None),
            ("", None),
            ("75 %", None),
            ("101%", None),
            ("2<3<4", None),
            ("1.5", None),
            ("99999999999", None),
        ];
        for (notation, expected) in cases {
            let json = text(notation);
            let parsed = minimum_should_match(&Place::root(&json));
            assert_eq!(parsed.ok(), expected, "{notation}");
        }
    }

    #[test]
    fn zones() {
        let cases = [
            ("Z", Some(0)),
            ("UTC", Some(0)),
            ("+01:00", Some(3_600)),
            ("-0530", Some(-19_800)),
            ("+1", Some(3_600)),
            ("+18:00", Some(64_800)),
            ("+18:01", None),
            ("+01:60", None),
            ("+1:00", None),
            ("01:00", None),
            ("++1", None),
            ("+é1", None),
            ("+0é1", None),
            ("Europe/Stockholm", None),
            ("", None),
        ];
        for (name, expected) in cases {
            let json = text(name);
            assert_eq!(zone(&Place::root(&json)).ok(), expected, "{name}");
        }
        let json = text("Europe/Stockholm");
        let error = zone(&Place::root(&json)).unwrap_err();
        assert!(error.to_string().contains("Europe/Stockholm"));
    }

    #[test]
    fn durations() {
        let cases = [
            ("-1", Some(None)),
            ("0", Some(Some(0))),
            ("500ms", Some(Some(500))),
            ("2s", Some(Some(2_000))),
            ("1d", Some(Some(86_400_000))),
            ("5", None),
            ("s", None),
            ("1.5s", None),
            ("-2s", None),
            ("9223372036854775807d", None),
            ("1é", None),
        ];
        for (written, expected) in cases {
            let json = text(written);
            assert_eq!(timeout(&Place::root(&json)).ok(), expected, "{written}");
        }
        for (written, expected) in [("90m", Some(5_400_000)), ("0d", None), ("1M", None), ("1w", None)] {
            let json = text(written);
            let parsed = fixed_interval(&Place::root(&json)).ok();
            assert_eq!(parsed, expected.map(DateInterval::Fixed), "{written}");
        }
    }
}
