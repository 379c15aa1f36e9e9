//! What the TOML reader says about a file, in the words of our own messages: the offending text, and the keys that exist.
//!
//! A value is shown only where the file cannot hold a secret: one that stands in place of a whole table is not.

use std::ops::Range;

use crate::config::problem::Problem;
use crate::config::secret::NOT_TEXT;

/// The reader's error about this text.
pub(crate) fn problem(error: &toml::de::Error, text: &str) -> Problem {
    let span = error.span().unwrap_or_default();
    let message = error.message();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown_key(rest, span, text);
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return Problem::new(span, format!("missing key {key}"));
    }
    if let Some(rest) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
    {
        return wrong_type(rest, span);
    }
    if message == "duplicate key" {
        let key = text.get(span.clone()).unwrap_or_default().trim();
        return Problem::new(span, format!("the key `{key}` stands here twice"));
    }
    if message.starts_with("cannot extend value of type inline table") {
        let key = key_before_equals(text, span.start);
        let object = key.split('.').next().unwrap_or(key);
        return Problem::new(
            span,
            format!("`{object}` is an inline table, which the dotted key `{key}` cannot extend"),
        )
        .help(format!("quote the name: \"{key}\" = …"));
    }
    match message {
        NOT_TEXT => Problem::new(span, NOT_TEXT)
            .help("write secret = \"${NAME}\" for a variable of the environment, or \"file:<path>\""),
        message => Problem::new(span, message),
    }
}

/// `` `x`, expected one of `a`, `b` ``
fn unknown_key(rest: &str, span: Range<usize>, text: &str) -> Problem {
    let (key, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let key = key.trim_matches('`');
    let known = known.split('`').skip(1).step_by(2);
    let dotted = text[..span.start.min(text.len())].ends_with('.');
    let problem = Problem::unknown(span.clone(), "key", key, "", known);
    if !dotted {
        return problem;
    }
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let key = key_before_equals(text, start);
    let help = problem.help.clone().unwrap_or_default();
    problem.help(format!(
        "{help}; or quote the name of a field of a joined object: \"{key}\" = …"
    ))
}

/// `string "x", expected a boolean`
fn wrong_type(rest: &str, span: Range<usize>) -> Problem {
    let Some((found, expected)) = rest.rsplit_once(", expected ") else {
        return Problem::new(span, "this value has the wrong type");
    };
    let expected = match expected {
        "struct RawTable" | "a map" => "a table",
        name if name.starts_with("struct Raw") => "a table",
        "a string" => "text in quotes",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number of at least 0",
        other => other,
    };
    let kind = found.split([' ', '`', '"']).next().unwrap_or(found);
    if expected == "a table" {
        // A password of a database may stand here.
        return Problem::new(span, format!("expected a table, found a value of type {kind}"));
    }
    Problem::new(
        span,
        format!("expected {expected}, found {}", found.replace('"', "`")),
    )
}

/// The key of the line that goes on at `at`.
fn key_before_equals(text: &str, at: usize) -> &str {
    let line = text
        .get(at..)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default();
    line.split('=').next().unwrap_or_default().trim()
}
