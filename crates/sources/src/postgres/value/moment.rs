//! Days and moments as Postgres spells them under ISO style.
//!
//! Years of four digits after Christ become ISO 8601; what that cannot say (`infinity`, `BC`, longer years) keeps
//! Postgres' spelling, and a date field refuses it.

/// A timestamp as ISO 8601: `2024-05-06T07:08:09.5`. `None` when ISO 8601 has no form for it.
pub(super) fn iso(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let plain = bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b' ') && !text.ends_with("BC");
    plain.then(|| format!("{}T{}", &text[..10], &text[11..]))
}

/// A timestamp with time zone as ISO 8601 in UTC, or as Postgres spells it where that has no form for it. `None` when it
/// is not in UTC.
pub(super) fn utc(text: &str) -> Option<String> {
    if is_infinite(text) || text.ends_with("+00 BC") {
        return Some(text.to_owned());
    }
    let local = text.strip_suffix("+00")?;
    Some(iso(local).map_or_else(|| text.to_owned(), |iso| iso + "Z"))
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity")
}

/// Whether this is a date that Postgres has, in the form of [`super::Type::read`].
pub(super) fn is_date(text: &str) -> bool {
    let (day, before_christ) = era(text);
    is_infinite(text) || is_day(day, before_christ, 5_874_897)
}

/// Whether this is a timestamp that Postgres has, in the form of [`super::Type::read`].
pub(super) fn is_timestamp(text: &str) -> bool {
    let (moment, before_christ) = era(text);
    let local = moment
        .strip_suffix('Z')
        .or_else(|| moment.strip_suffix("+00"))
        .unwrap_or(moment);
    let Some((day, time)) = local.split_once(['T', ' ']) else {
        return is_infinite(text);
    };
    is_day(day, before_christ, 294_276) && is_time(time)
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |day| (day, true))
}

fn is_day(text: &str, before_christ: bool, last_year: i32) -> bool {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4, 7), number(month, 2, 2), number(day, 2, 2))
    else {
        return false;
    };
    if year == 0 || year > if before_christ { 4713 } else { last_year } {
        return false;
    }
    // 1 BC is the year 0, and Postgres' days begin on 24 November of 4714 BC.
    let year = if before_christ { 1 - year } else { year };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=last).contains(&day)
}

fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':').map(|part| number(part, 2, 2));
    let within = matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some(Some(0..24)), Some(Some(0..60)), Some(Some(0..60)), None)
    );
    within && number(fraction, 1, 6).is_some()
}

fn number(text: &str, least: usize, most: usize) -> Option<i32> {
    let digits = (least..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
