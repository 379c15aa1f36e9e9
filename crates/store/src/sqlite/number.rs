//! Numbers: ours are unsigned, SQLite's are signed. All that we count stays far below 2⁶³.

/// For the file. A number that could not have been counted is cut at SQLite's largest.
pub(super) fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// From the file, which only holds what [`to_db`] wrote.
pub(super) fn from_db(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A limit of rows.
pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
