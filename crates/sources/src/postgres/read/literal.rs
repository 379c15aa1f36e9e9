//! Values as SQL spells them. Nothing a caller says reaches a statement in any other way.

use instep_core::{ColumnKind, Value};

use super::super::value::Type;

/// The text of a value that a column of this type may hold; `None` when no row can.
///
/// Text that is no UTF-8 was read as bytes ([`super`]), and is written as it was where the server takes any bytes.
pub(super) fn written(value: &Value, kind: &Type, any_bytes: bool) -> Option<Vec<u8>> {
    let text = match value {
        Value::Bytes(bytes) if kind.kind() != ColumnKind::Bytes => match any_bytes {
            true => bytes.to_vec(),
            false => return None,
        },
        Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Decimal(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::Json(_) => kind.write(value)?.into_bytes(),
        Value::Null => return None,
    };
    // Postgres holds no text with a zero byte, and reads a statement only up to one.
    (!text.contains(&0)).then_some(text)
}

/// Appends a text as a literal.
pub(super) fn text(text: &[u8], sql: &mut String) {
    sql.push_str("E'");
    escaped(text, sql);
    sql.push('\'');
}

/// Appends texts as the literal of an array.
pub(super) fn array<'a>(elements: impl Iterator<Item = &'a [u8]>, sql: &mut String) {
    sql.push_str("E'{");
    for (at, element) in elements.enumerate() {
        if at > 0 {
            sql.push(',');
        }
        if !element.is_empty() && element.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
            escaped(element, sql);
            continue;
        }
        // An array's own escapes first, each of whose backslashes the string literal doubles.
        sql.push('"');
        let mut rest = element;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            escaped(&rest[..at], sql);
            sql.push_str("\\\\");
            escaped(&rest[at..=at], sql);
            rest = &rest[at + 1..];
        }
        escaped(rest, sql);
        sql.push('"');
    }
    sql.push_str("}'");
}

/// Appends bytes as the inside of an `E''` literal.
fn escaped(bytes: &[u8], sql: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '\\' | '\'') {
                sql.push(c);
            }
            sql.push(c);
        }
        for byte in chunk.invalid() {
            sql.push_str(&format!("\\x{byte:02x}"));
        }
    }
}
