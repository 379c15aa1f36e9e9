//! Dates: ISO 8601 and patterns to milliseconds since 1970 and back, partial dates, date math (`now-1d/d`).
//!
//! Pure: what `now` is comes in as an argument, and zones are offsets in seconds. The rules are those of
//! Elasticsearch's `strict_date_optional_time||epoch_millis`: a partial date stands for its beginning or its end, as the
//! caller rounds. Zones with daylight saving are left to the caller, who knows the offset.

use crate::error::{Error, Result};
use crate::query::DateInterval;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// What a partial date or a rounding stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// The first millisecond: `2020-12` is 1 December, midnight.
    Down,
    /// The last millisecond: `2020-12` is 31 December, 23:59:59.999.
    Up,
}

/// A date in milliseconds since 1970: ISO 8601 from the year down to nanoseconds (what is finer than a millisecond is
/// cut off), or a number of milliseconds. A year has four digits, so every longer or signed number is milliseconds.
/// A date that names no zone is local time at `offset_seconds` from UTC.
pub fn parse(text: &str, round: Round, offset_seconds: i32) -> Result<i64> {
    iso(text, round, offset_seconds)
        .or_else(|| epoch_millis(text))
        .ok_or_else(|| bad_date("`strict_date_optional_time||epoch_millis`"))
}

/// A date in one of the formats that `format` lists, separated by `||`: the names `strict_date_optional_time`,
/// `date_optional_time`, `epoch_millis`, `epoch_second`, or patterns of `yyyy MM dd HH mm ss SSS XXX` and literals.
pub fn parse_as(text: &str, format: &str, round: Round, offset_seconds: i32) -> Result<i64> {
    let mut known = Ok(());
    for alternative in format.split("||") {
        let parsed = match alternative {
            "strict_date_optional_time" | "date_optional_time" => iso(text, round, offset_seconds),
            "epoch_millis" => epoch_millis(text),
            "epoch_second" => epoch_millis(text).and_then(|seconds| seconds.checked_mul(1000)),
            pattern => match items(pattern) {
                Ok(items) => by_pattern(text, &items, round, offset_seconds),
                Err(error) => {
                    known = Err(error);
                    None
                }
            },
        };
        if let Some(ms) = parsed {
            return Ok(ms);
        }
    }
    known.and(Err(bad_date(&format!("`{format}`"))))
}

/// The bound of a range, or an exact date, as a query writes it: a date as [`parse`] (or [`parse_as`], with a format)
/// takes it, `now`, or either with date math: `now-1d/d`, `2020-01-01||+1M/M`. Rounding in the math goes where `round`
/// says; a date before `||` is rounded down.
pub fn bound(
    text: &str,
    format: Option<&str>,
    round: Round,
    offset_seconds: i32,
    now_ms: i64,
) -> Result<i64> {
    let plain = |text: &str, round| match format {
        Some(format) => parse_as(text, format, round, offset_seconds),
        None => parse(text, round, offset_seconds),
    };
    if let Some(steps) = text.strip_prefix("now") {
        return math(now_ms, steps, round, offset_seconds);
    }
    match text.split_once("||") {
        Some((anchor, steps)) => math(plain(anchor, Round::Down)?, steps, round, offset_seconds),
        None => plain(text, round),
    }
}

/// The date as text, in local time at `offset_seconds` from UTC: `2020-01-01T00:00:00.000Z` without a format, else as
/// the first of its alternatives says.
pub fn format(ms: i64, format: Option<&str>, offset_seconds: i32) -> Result<String> {
    let pattern = format.map_or("strict_date_optional_time", |format| {
        format.split("||").next().unwrap_or(format)
    });
    match pattern {
        "strict_date_optional_time" | "date_optional_time" => Ok(render(
            ms,
            &items("yyyy-MM-dd'T'HH:mm:ss.SSSXXX")?,
            offset_seconds,
        )),
        "epoch_millis" => Ok(ms.to_string()),
        "epoch_second" => Ok(ms.div_euclid(1000).to_string()),
        pattern => Ok(render(ms, &items(pattern)?, offset_seconds)),
    }
}

/// Whether `format` is one that [`parse_as`] and [`format()`] know.
pub fn check_format(format: &str) -> Result<()> {
    format.split("||").try_for_each(|alternative| match alternative {
        "strict_date_optional_time" | "date_optional_time" | "epoch_millis" | "epoch_second" => Ok(()),
        pattern => items(pattern).map(|_| ()),
    })
}

/// The start of the interval that holds this moment, in UTC milliseconds; days, weeks and so on are those of local time
/// at `offset_seconds` from UTC.
pub fn floor(ms: i64, interval: DateInterval, offset_seconds: i32) -> i64 {
    let offset = i64::from(offset_seconds) * 1000;
    let local = ms.saturating_add(offset);
    let day = local.div_euclid(DAY);
    let days = |start: i64| start.saturating_mul(DAY);
    let start = match interval {
        DateInterval::Fixed(width) => local.div_euclid(width.max(1)) * width.max(1),
        DateInterval::Minute => local.div_euclid(60_000) * 60_000,
        DateInterval::Hour => local.div_euclid(3_600_000) * 3_600_000,
        DateInterval::Day => days(day),
        // 1970-01-01 was a Thursday.
        DateInterval::Week => days(day - (day + 3).rem_euclid(7)),
        DateInterval::Month => {
            let (year, month, _) = civil(day);
            days(day_number(year, month, 1))
        }
        DateInterval::Quarter => {
            let (year, month, _) = civil(day);
            days(day_number(year, (month - 1) / 3 * 3 + 1, 1))
        }
        DateInterval::Year => days(day_number(civil(day).0, 1, 1)),
    };
    start.saturating_sub(offset)
}

/// The start of the interval after the one that starts here.
pub fn next(start: i64, interval: DateInterval, offset_seconds: i32) -> i64 {
    let months = |count| add_months(start, count, offset_seconds);
    match interval {
        DateInterval::Fixed(width) => start.saturating_add(width.max(1)),
        DateInterval::Minute => start.saturating_add(60_000),
        DateInterval::Hour => start.saturating_add(3_600_000),
        DateInterval::Day => start.saturating_add(DAY),
        DateInterval::Week => start.saturating_add(7 * DAY),
        DateInterval::Month => months(1),
        DateInterval::Quarter => months(3),
        DateInterval::Year => months(12),
    }
}

fn bad_date(format: &str) -> Error {
    Error::invalid("bad_date", format!("the date does not fit the format {format}"))
        .with_remedy("write a date as 2020-12-31, 2020-12-31T23:59:59Z or milliseconds since 1970")
}

fn epoch_millis(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The parts of a date that a text names.
#[derive(Default)]
struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    milli: Option<i64>,
    offset: Option<i64>,
}

impl Parts {
    fn moment(&self, round: Round, offset_seconds: i32) -> Option<i64> {
        let up = round == Round::Up;
        let rest = |part: Option<i64>, last| part.unwrap_or(if up { last } else { 0 });
        let year = self.year.unwrap_or(1970);
        let month = self.month.unwrap_or(if up { 12 } else { 1 });
        if !(1..=12).contains(&month) {
            return None;
        }
        let last_day = days_in(year, month);
        let day = self.day.unwrap_or(if up { last_day } else { 1 });
        let (hour, minute) = (rest(self.hour, 23), rest(self.minute, 59));
        let (second, milli) = (rest(self.second, 59), rest(self.milli, 999));
        let fits = (1..=last_day).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second);
        let offset = self.offset.unwrap_or(i64::from(offset_seconds));
        fits.then(|| {
            let seconds = day_number(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
            (seconds - offset) * 1000 + milli
        })
    }
}

/// A text that is read from left to right.
struct Scan<'a>(&'a str);

impl Scan<'_> {
    fn eat(&mut self, literal: char) -> bool {
        match self.0.strip_prefix(literal) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<(i64, usize)> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at(count);
        let parsed = (count >= least).then(|| number.parse().ok()).flatten()?;
        self.0 = rest;
        Some((parsed, count))
    }

    /// A fraction of a second of up to nine digits, in milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        let (number, count) = self.digits(1, 9)?;
        let exponent = u32::try_from(count).ok()?;
        Some(number * 1000 / 10_i64.pow(exponent))
    }

    /// `Z`, `+01`, `+0100`, `+01:00`; in seconds.
    fn offset(&mut self) -> Option<i64> {
        if self.eat('Z') {
            return Some(0);
        }
        let sign = if self.eat('+') {
            1
        } else if self.eat('-') {
            -1
        } else {
            return None;
        };
        let (hours, _) = self.digits(2, 2)?;
        let minutes = if self.eat(':') {
            self.digits(2, 2)?.0
        } else {
            self.digits(2, 2).map_or(0, |(minutes, _)| minutes)
        };
        (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn iso(text: &str, round: Round, offset_seconds: i32) -> Option<i64> {
    let mut scan = Scan(text);
    let mut parts = Parts {
        year: Some(scan.digits(4, 4)?.0),
        ..Parts::default()
    };
    if scan.eat('-') {
        parts.month = Some(scan.digits(2, 2)?.0);
        if scan.eat('-') {
            parts.day = Some(scan.digits(2, 2)?.0);
        }
    }
    if scan.eat('T') {
        parts.day?;
        if let Some((hour, _)) = scan.digits(2, 2) {
            parts.hour = Some(hour);
            if scan.eat(':') {
                parts.minute = Some(scan.digits(2, 2)?.0);
                if scan.eat(':') {
                    parts.second = Some(scan.digits(2, 2)?.0);
                    if scan.eat('.') || scan.eat(',') {
                        parts.milli = Some(scan.fraction()?);
                    }
                }
            }
            if !scan.0.is_empty() {
                parts.offset = Some(scan.offset()?);
            }
        }
    }
    if !scan.0.is_empty() {
        return None;
    }
    parts.moment(round, offset_seconds)
}

/// One item of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// A letter, so many times.
    Field(char, usize),
    Literal(char),
}

fn items(pattern: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut characters = pattern.chars().peekable();
    let unknown = || {
        Error::invalid("bad_date_format", format!("the date format `{pattern}` is not supported")).with_remedy(
            "use strict_date_optional_time, epoch_millis, epoch_second or a pattern of yyyy MM dd HH mm ss SSS XXX",
        )
    };
    while let Some(character) = characters.next() {
        match character {
            '\'' => loop {
                match characters.next() {
                    Some('\'') => break,
                    Some(quoted) => items.push(Item::Literal(quoted)),
                    None => return Err(unknown()),
                }
            },
            'y' | 'u' | 'M' | 'd' | 'H' | 'm' | 's' | 'S' | 'X' => {
                let mut count = 1;
                while characters.next_if_eq(&character).is_some() {
                    count += 1;
                }
                let supported = match character {
                    'y' | 'u' => count == 4,
                    'X' => matches!(count, 1..=3),
                    'S' => count <= 9,
                    _ => count <= 2,
                };
                if !supported {
                    return Err(unknown());
                }
                items.push(Item::Field(if character == 'u' { 'y' } else { character }, count));
            }
            letter if letter.is_alphabetic() => return Err(unknown()),
            literal => items.push(Item::Literal(literal)),
        }
    }
    if items.is_empty() {
        return Err(unknown());
    }
    Ok(items)
}

fn by_pattern(text: &str, items: &[Item], round: Round, offset_seconds: i32) -> Option<i64> {
    let mut scan = Scan(text);
    let mut parts = Parts::default();
    for item in items {
        match item {
            Item::Literal(literal) => {
                if !scan.eat(*literal) {
                    return None;
                }
            }
            Item::Field('y', _) => parts.year = Some(scan.digits(4, 4)?.0),
            Item::Field('X', _) => parts.offset = Some(scan.offset()?),
            Item::Field('S', count) => {
                let (number, digits) = scan.digits(*count, *count)?;
                parts.milli = Some(number * 1000 / 10_i64.pow(u32::try_from(digits).ok()?));
            }
            Item::Field(letter, count) => {
                let number = Some(scan.digits(*count, 2)?.0);
                match letter {
                    'M' => parts.month = number,
                    'd' => parts.day = number,
                    'H' => parts.hour = number,
                    'm' => parts.minute = number,
                    _ => parts.second = number,
                }
            }
        }
    }
    if !scan.0.is_empty() {
        return None;
    }
    parts.moment(round, offset_seconds)
}

fn render(ms: i64, items: &[Item], offset_seconds: i32) -> String {
    let local = ms.saturating_add(i64::from(offset_seconds) * 1000);
    let (year, month, day) = civil(local.div_euclid(DAY));
    let of_day = local.rem_euclid(DAY);
    let mut text = String::new();
    for item in items {
        match item {
            Item::Literal(literal) => text.push(*literal),
            Item::Field('y', _) if year < 0 => text.push_str(&format!("-{:04}", -year)),
            Item::Field('y', _) if year > 9999 => text.push_str(&format!("+{year}")),
            Item::Field('y', _) => text.push_str(&format!("{year:04}")),
            Item::Field('S', count) => {
                let nanos = format!("{:09}", of_day % 1000 * 1_000_000);
                text.push_str(&nanos[..*count]);
            }
            Item::Field('X', count) => text.push_str(&offset_text(offset_seconds, *count)),
            Item::Field(letter, count) => {
                let number = match letter {
                    'M' => month,
                    'd' => day,
                    'H' => of_day / 3_600_000,
                    'm' => of_day / 60_000 % 60,
                    _ => of_day / 1000 % 60,
                };
                text.push_str(&format!("{number:0count$}"));
            }
        }
    }
    text
}

fn offset_text(offset_seconds: i32, letters: usize) -> String {
    if offset_seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if offset_seconds < 0 { '-' } else { '+' };
    let minutes = offset_seconds.unsigned_abs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match letters {
        1 if minutes == 0 => format!("{sign}{hours:02}"),
        1 | 2 => format!("{sign}{hours:02}{minutes:02}"),
        _ => format!("{sign}{hours:02}:{minutes:02}"),
    }
}

/// Applies `+1d`, `-2M`, `/d` one after the other.
fn math(from: i64, steps: &str, round: Round, offset_seconds: i32) -> Result<i64> {
    let bad = || {
        Error::invalid("bad_date_math", "the date math cannot be read")
            .with_remedy("write it as now-1d/d or 2020-01-01||+1M/M, with the units y M w d h H m s")
    };
    let mut time = from;
    let mut scan = Scan(steps);
    while !scan.0.is_empty() {
        let rounds = scan.eat('/');
        let sign = match rounds {
            true => 0,
            false if scan.eat('+') => 1,
            false if scan.eat('-') => -1,
            false => return Err(bad()),
        };
        let count = match rounds {
            true => 1,
            false => scan.digits(0, 9).map_or(1, |(count, _)| count),
        };
        let mut rest = scan.0.chars();
        let unit = rest.next().ok_or_else(bad)?;
        scan.0 = rest.as_str();
        let interval = match unit {
            'y' => DateInterval::Year,
            'M' => DateInterval::Month,
            'w' => DateInterval::Week,
            'd' => DateInterval::Day,
            'h' | 'H' => DateInterval::Hour,
            'm' => DateInterval::Minute,
            's' => DateInterval::Fixed(1000),
            _ => return Err(bad()),
        };
        time = if rounds {
            let start = floor(time, interval, offset_seconds);
            match round {
                Round::Down => start,
                Round::Up => next(start, interval, offset_seconds).saturating_sub(1),
            }
        } else {
            let count = sign * count;
            let plus = |width: i64| time.saturating_add(count.saturating_mul(width));
            match interval {
                DateInterval::Year => add_months(time, count.saturating_mul(12), offset_seconds),
                DateInterval::Quarter => add_months(time, count.saturating_mul(3), offset_seconds),
                DateInterval::Month => add_months(time, count, offset_seconds),
                DateInterval::Week => plus(7 * DAY),
                DateInterval::Day => plus(DAY),
                DateInterval::Hour => plus(3_600_000),
                DateInterval::Minute => plus(60_000),
                DateInterval::Fixed(width) => plus(width),
            }
        };
    }
    Ok(time)
}

/// The same day and time so many months later; the last day of the month where the day does not exist.
fn add_months(ms: i64, count: i64, offset_seconds: i32) -> i64 {
    let offset = i64::from(offset_seconds) * 1000;
    let local = ms.saturating_add(offset);
    let (year, month, day) = civil(local.div_euclid(DAY));
    let months = (year * 12 + month - 1)
        .saturating_add(count)
        .clamp(-120_000_000, 120_000_000);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let day = day.min(days_in(year, month));
    day_number(year, month, day)
        .saturating_mul(DAY)
        .saturating_add(local.rem_euclid(DAY))
        .saturating_sub(offset)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, in the proleptic Gregorian calendar: years are counted from 1 March, in cycles of 400.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (cycle, of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
}

/// The inverse of [`day_number`]: year, month, day.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day.saturating_add(719_468);
    let (cycle, of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The date of a full text, through the format side.
    fn shown(ms: i64) -> String {
        format(ms, None, 0).unwrap()
    }

    #[test]
    fn known_moments() {
        let cases = [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2020-02-29T12:30:45.678Z", 1_582_979_445_678),
            ("2020-02-29T12:30:45.678901234Z", 1_582_979_445_678),
            ("2020-02-29T13:30:45.678+01:00", 1_582_979_445_678),
            ("2020-02-29T07:00:45,678-0530", 1_582_979_445_678),
            ("1969-12-31T23:59:59.999Z", -1),
            ("0001-01-01", -62_135_596_800_000),
            ("1582979445678", 1_582_979_445_678),
            ("-1", -1),
            ("2020", 1_577_836_800_000),
            ("20200", 20_200),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text, Round::Down, 0).unwrap(), ms, "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        let cases = [
            "",
            "x",
            "2020-13",
            "2020-02-30",
            "2020-1-1",
            "2020-01-01 00:00",
            "2020-01-01T25",
            "2020-01T05",
            "2020-01-01T00:00:00.Z",
            "2020-01-01Z",
            "12.5",
            "2020-01-01T00:00:00+1",
            "2020-01-01T00:60",
            "١٢٣٤",
        ];
        for text in cases {
            let error = parse(text, Round::Down, 0).unwrap_err();
            assert_eq!(error.code(), "bad_date", "{text}");
        }
    }

    #[test]
    fn partial_dates_round() {
        let cases = [
            ("2020", "2020-01-01T00:00:00.000Z", "2020-12-31T23:59:59.999Z"),
            ("2020-02", "2020-02-01T00:00:00.000Z", "2020-02-29T23:59:59.999Z"),
            (
                "2021-02-03",
                "2021-02-03T00:00:00.000Z",
                "2021-02-03T23:59:59.999Z",
            ),
            (
                "2021-02-03T04",
                "2021-02-03T04:00:00.000Z",
                "2021-02-03T04:59:59.999Z",
            ),
            (
                "2021-02-03T04:05:06",
                "2021-02-03T04:05:06.000Z",
                "2021-02-03T04:05:06.999Z",
            ),
            (
                "2021-02-03T04:05:06.5Z",
                "2021-02-03T04:05:06.500Z",
                "2021-02-03T04:05:06.500Z",
            ),
        ];
        for (text, down, up) in cases {
            assert_eq!(shown(parse(text, Round::Down, 0).unwrap()), down, "{text}");
            assert_eq!(shown(parse(text, Round::Up, 0).unwrap()), up, "{text}");
        }
    }

    #[test]
    fn bounds_with_math() {
        let now = parse("2020-03-31T10:20:30.400Z", Round::Down, 0).unwrap();
        let cases = [
            ("now", "2020-03-31T10:20:30.400Z", "2020-03-31T10:20:30.400Z"),
            ("now-1d", "2020-03-30T10:20:30.400Z", "2020-03-30T10:20:30.400Z"),
            ("now-1d/d", "2020-03-30T00:00:00.000Z", "2020-03-30T23:59:59.999Z"),
            ("now-1M/M", "2020-02-01T00:00:00.000Z", "2020-02-29T23:59:59.999Z"),
            ("now+1M", "2020-04-30T10:20:30.400Z", "2020-04-30T10:20:30.400Z"),
            ("now/w", "2020-03-30T00:00:00.000Z", "2020-04-05T23:59:59.999Z"),
            ("now/y+1h", "2020-01-01T01:00:00.000Z", "2021-01-01T00:59:59.999Z"),
            ("now-d", "2020-03-30T10:20:30.400Z", "2020-03-30T10:20:30.400Z"),
            (
                "2020-01-31||+1M",
                "2020-02-29T00:00:00.000Z",
                "2020-02-29T00:00:00.000Z",
            ),
            (
                "2020-01||/M",
                "2020-01-01T00:00:00.000Z",
                "2020-01-31T23:59:59.999Z",
            ),
            ("2020-12", "2020-12-01T00:00:00.000Z", "2020-12-31T23:59:59.999Z"),
        ];
        for (text, down, up) in cases {
            assert_eq!(
                shown(bound(text, None, Round::Down, 0, now).unwrap()),
                down,
                "{text}"
            );
            assert_eq!(shown(bound(text, None, Round::Up, 0, now).unwrap()), up, "{text}");
        }
        for text in ["now-", "now-1x", "now1d", "nowish", "2020||", "||", "2020||d"] {
            let expected = text == "2020||";
            assert_eq!(bound(text, None, Round::Down, 0, now).is_ok(), expected, "{text}");
        }
        let local = bound("now/d", None, Round::Down, -5 * 3600, now).unwrap();
        assert_eq!(shown(local), "2020-03-31T05:00:00.000Z");
    }

    #[test]
    fn formats_both_ways() {
        let ms = parse("2020-02-09T04:05:06.078Z", Round::Down, 0).unwrap();
        let cases = [
            (None, 0, "2020-02-09T04:05:06.078Z"),
            (None, 3600, "2020-02-09T05:05:06.078+01:00"),
            (Some("yyyy-MM-dd"), 0, "2020-02-09"),
            (Some("yyyy-MM||yyyy"), 0, "2020-02"),
            (Some("yyyy"), 0, "2020"),
            (Some("epoch_millis"), 0, "1581221106078"),
            (Some("dd/MM/yyyy HH:mm"), 0, "09/02/2020 04:05"),
            (Some("d.M.yyyy"), 0, "9.2.2020"),
        ];
        for (pattern, offset, expected) in cases {
            assert_eq!(format(ms, pattern, offset).unwrap(), expected);
        }
        let parsed = |text, pattern, round| parse_as(text, pattern, round, 0).map(shown);
        assert_eq!(
            parsed("09/02/2020", "dd/MM/yyyy", Round::Down).unwrap(),
            "2020-02-09T00:00:00.000Z"
        );
        assert_eq!(
            parsed("2020-02", "yyyy-MM-dd||yyyy-MM", Round::Up).unwrap(),
            "2020-02-29T23:59:59.999Z"
        );
        assert_eq!(
            parsed("2020-02-09", "yyyy", Round::Down).unwrap_err().code(),
            "bad_date"
        );
        assert_eq!(
            parsed("2020", "QQQQ", Round::Down).unwrap_err().code(),
            "bad_date_format"
        );
        assert_eq!(check_format("EEE").unwrap_err().code(), "bad_date_format");
    }

    #[test]
    fn intervals_of_local_time() {
        let ms = parse("2020-05-20T22:30:00Z", Round::Down, 0).unwrap();
        let cases = [
            (
                DateInterval::Hour,
                0,
                "2020-05-20T22:00:00.000Z",
                "2020-05-20T23:00:00.000Z",
            ),
            (
                DateInterval::Day,
                7200,
                "2020-05-20T22:00:00.000Z",
                "2020-05-21T22:00:00.000Z",
            ),
            (
                DateInterval::Week,
                0,
                "2020-05-18T00:00:00.000Z",
                "2020-05-25T00:00:00.000Z",
            ),
            (
                DateInterval::Month,
                7200,
                "2020-04-30T22:00:00.000Z",
                "2020-05-31T22:00:00.000Z",
            ),
            (
                DateInterval::Quarter,
                0,
                "2020-04-01T00:00:00.000Z",
                "2020-07-01T00:00:00.000Z",
            ),
            (
                DateInterval::Year,
                0,
                "2020-01-01T00:00:00.000Z",
                "2021-01-01T00:00:00.000Z",
            ),
            (
                DateInterval::Fixed(7 * DAY),
                0,
                "2020-05-14T00:00:00.000Z",
                "2020-05-21T00:00:00.000Z",
            ),
        ];
        for (interval, offset, start, end) in cases {
            let floored = floor(ms, interval, offset);
            assert_eq!(shown(floored), start, "{interval:?}");
            assert_eq!(shown(next(floored, interval, offset)), end, "{interval:?}");
        }
    }

    proptest! {
        #[test]
        fn dates_come_back(ms in -62_135_500_000_000_i64..253_402_200_000_000, offset in -1080..1080_i32) {
            let text = format(ms, None, offset * 60).unwrap();
            prop_assert_eq!(parse(&text, Round::Down, 0).unwrap(), ms);
            let day = ms.div_euclid(DAY);
            let (year, month, of_month) = civil(day);
            prop_assert_eq!(day_number(year, month, of_month), day);
        }

        #[test]
        fn moments_lie_in_their_interval(ms in -1_000_000_000_000_i64..4_000_000_000_000, offset in -720..720_i32) {
            for interval in [
                DateInterval::Minute, DateInterval::Hour, DateInterval::Day, DateInterval::Week,
                DateInterval::Month, DateInterval::Quarter, DateInterval::Year, DateInterval::Fixed(90_000),
            ] {
                let start = floor(ms, interval, offset * 60);
                let end = next(start, interval, offset * 60);
                prop_assert!(start <= ms && ms < end, "{interval:?}");
                prop_assert_eq!(floor(end, interval, offset * 60), end);
                prop_assert_eq!(floor(end - 1, interval, offset * 60), start);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,24}", pattern in ".{0,12}") {
            let _ = bound(&text, None, Round::Up, 0, 0);
            let _ = parse_as(&text, &pattern, Round::Down, 0);
            let _ = format(i64::MAX, Some(&pattern), 3600);
            let _ = format(i64::MIN, None, 0);
        }
    }
}
