//! The text of `on` and `order`: names with dots between them, quoted where they hold more than letters and digits.
//!
//! Leaves to `joins` which table and column a name means.

use instep_core::TableSchema;

use crate::config::problem::Problem;
use crate::config::raw::At;

/// A column and what stands before its last dot: (table, column).
pub(crate) type Side = (String, String);

/// The conditions of an `on`: `a.x = b.y and "b c".z = a.z`.
pub(crate) fn conditions(on: &At<String>) -> Result<Vec<(Side, Side)>, Problem> {
    let malformed = || {
        Problem::new(on.span(), format!("`{}` is not a condition", on.get_ref())).help(
            "write on = \"a.x = b.y and a.z = b.z\"; a name with blanks or dots stands in double quotes",
        )
    };
    let tokens = tokens(on.get_ref()).ok_or_else(malformed)?;
    tokens
        .split(|token| matches!(token, Token::Name(parts, false) if parts.len() == 1 && parts[0].eq_ignore_ascii_case("and")))
        .map(|condition| match condition {
            [Token::Name(left, _), Token::Equals, Token::Name(right, _)] => {
                side(left).zip(side(right)).ok_or_else(malformed)
            }
            _ => Err(malformed()),
        })
        .collect()
}

/// A name as `conditions` reads it back.
pub(crate) fn spell(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match plain && !name.eq_ignore_ascii_case("and") {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// A table's name without its schema's, and without quotes.
pub(crate) fn short(table: &TableSchema) -> String {
    parts(table.name.as_str()).pop().expect("a name has a part")
}

/// A table's whole name without quotes, as `on` reads it.
pub(crate) fn plain(table: &TableSchema) -> String {
    parts(table.name.as_str()).join(".")
}

/// The parts of a name between its dots: a part that holds a dot or a quote stands in double quotes. What is not
/// spelled in this way is split at every dot.
pub(crate) fn parts(name: &str) -> Vec<String> {
    let quoted = || {
        let mut parts = Vec::new();
        let mut rest = name;
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(inside) => in_quotes(inside)?,
                None => {
                    let (part, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                    (part.to_owned(), after)
                }
            };
            parts.push(part);
            match after.strip_prefix('.') {
                Some(after) => rest = after,
                None => return after.is_empty().then_some(parts),
            }
        }
    };
    quoted().unwrap_or_else(|| name.split('.').map(str::to_owned).collect())
}

enum Token {
    Equals,
    /// The parts between the dots, and whether one of them was quoted.
    Name(Vec<String>, bool),
}

fn side(parts: &[String]) -> Option<Side> {
    let (column, table) = parts.split_last()?;
    (!table.is_empty()).then(|| (table.join("."), column.clone()))
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('=') {
            tokens.push(Token::Equals);
            rest = after.trim_start();
            continue;
        }
        let (mut parts, mut quoted) = (Vec::new(), false);
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(inside) => {
                    quoted = true;
                    in_quotes(inside)?
                }
                None => {
                    let end = rest
                        .find(|c: char| c.is_whitespace() || matches!(c, '.' | '=' | '"'))
                        .unwrap_or(rest.len());
                    let (part, after) = rest.split_at(end);
                    (!part.is_empty()).then(|| (part.to_owned(), after))?
                }
            };
            parts.push(part);
            match after.strip_prefix('.') {
                Some(after) => rest = after,
                None => {
                    rest = after;
                    break;
                }
            }
        }
        tokens.push(Token::Name(parts, quoted));
        rest = rest.trim_start();
    }
    Some(tokens)
}

/// The text up to the closing quote, and what follows it. Two quotes stand for one.
fn in_quotes(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        out.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                rest = after;
            }
            None => return Some((out, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(on: &str) -> Option<Vec<(Side, Side)>> {
        conditions(&At::new(0..1, on.to_owned())).ok()
    }

    fn pair(a: (&str, &str), b: (&str, &str)) -> (Side, Side) {
        ((a.0.to_owned(), a.1.to_owned()), (b.0.to_owned(), b.1.to_owned()))
    }

    #[test]
    fn conditions_are_read() {
        let cases = [
            ("a.x = b.y", vec![pair(("a", "x"), ("b", "y"))]),
            ("a.x=b.y", vec![pair(("a", "x"), ("b", "y"))]),
            (
                "public.a.x = b.y AND a.z = b.z",
                vec![pair(("public.a", "x"), ("b", "y")), pair(("a", "z"), ("b", "z"))],
            ),
            (
                "\"a b\".\"c.\"\"d\" = \"and\".and",
                vec![pair(("a b", "c.\"d"), ("and", "and"))],
            ),
        ];
        for (on, expected) in cases {
            assert_eq!(read(on), Some(expected), "{on}");
        }
        for malformed in [
            "",
            "a.x",
            "a.x =",
            "= b.y",
            "x = b.y",
            "a.x = b.y and",
            "a.x = b.y or a.z = b.z",
            "a.x == b.y",
            "a. x = b.y",
            "a.\"x = b.y",
            "a.x < b.y",
        ] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn spelled_names_come_back() {
        for name in ["a", "a b", "a.b", "a\"b", "and", "", "=", "é"] {
            let on = format!("t.{} = {}.y", spell(name), spell(name));
            assert_eq!(read(&on), Some(vec![pair(("t", name), (name, "y"))]), "{on}");
        }
    }
}
