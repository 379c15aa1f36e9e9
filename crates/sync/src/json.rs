//! JSON columns as trees whose numbers keep their spelling: a number that no machine type holds is never rounded.

use std::collections::BTreeMap;

use instep_core::{Document, Value};
use serde_json::value::RawValue;

/// A JSON value. Of members with the same name the last one counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As it was spelled.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    /// Sorted by name.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// The value that a text holds; `None` when it holds none, or one too deep.
    pub(crate) fn parse(text: &str) -> Option<Json> {
        read(text.trim_matches([' ', '\t', '\n', '\r']), Document::DEEPEST)
    }

    /// Whether a text has more levels of brackets than are read.
    pub(crate) fn is_too_deep(text: &str) -> bool {
        let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
        for byte in text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ if inside => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > Document::DEEPEST {
                return true;
            }
        }
        false
    }

    /// How many values that are neither arrays nor objects it holds, itself included.
    pub(crate) fn leaves(&self) -> usize {
        match self {
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => 1,
            Json::Array(items) => items.iter().map(Json::leaves).sum(),
            Json::Object(members) => members.values().map(Json::leaves).sum(),
        }
    }

    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::Text(_) => "text",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }

    /// As a column's value: members of JSON columns follow the same rules as columns.
    pub(crate) fn value(&self) -> Value {
        match self {
            Json::Null => Value::Null,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => number
                .parse()
                .map_or_else(|_| Value::Decimal(number.as_str().into()), Value::Int),
            Json::Text(text) => Value::text(text),
            Json::Array(_) | Json::Object(_) => {
                let mut out = Vec::new();
                self.write(&mut out);
                Value::Json(String::from_utf8(out).expect("JSON is UTF-8").into())
            }
        }
    }

    /// Appends it in canonical form: members sorted by name, no white space.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(true) => out.extend_from_slice(b"true"),
            Json::Bool(false) => out.extend_from_slice(b"false"),
            Json::Number(number) => out.extend_from_slice(number.as_bytes()),
            Json::Text(text) => write_string(text, out),
            Json::Array(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (at, (name, member)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    member.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Appends a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory cannot fail");
}

/// Reads a value without white space around it. Each level reads its own part again, so that numbers stay text.
fn read(raw: &str, depth: usize) -> Option<Json> {
    match raw.as_bytes().first()? {
        b'[' => {
            let depth = depth.checked_sub(1)?;
            let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            items
                .iter()
                .map(|item| read(item.get(), depth))
                .collect::<Option<_>>()
                .map(Json::Array)
        }
        b'{' => {
            let depth = depth.checked_sub(1)?;
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
            let member =
                |(name, raw): (String, &RawValue)| read(raw.get(), depth).map(|member| (name, member));
            members
                .into_iter()
                .map(member)
                .collect::<Option<_>>()
                .map(Json::Object)
        }
        b'"' => serde_json::from_str(raw).ok().map(Json::Text),
        b'n' => (raw == "null").then_some(Json::Null),
        b't' => (raw == "true").then_some(Json::Bool(true)),
        b'f' => (raw == "false").then_some(Json::Bool(false)),
        _ => {
            let number: &RawValue = serde_json::from_str(raw).ok()?;
            Some(Json::Number(number.get().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn canonical_form() {
        let cases = [
            (" null ", Some("null")),
            ("[ ]", Some("[]")),
            (
                "{\"b\":1,\"a\":{\"d\":[true,false,null],\"c\":\"x\"}}",
                Some(r#"{"a":{"c":"x","d":[true,false,null]},"b":1}"#),
            ),
            ("-0.10e+400", Some("-0.10e+400")),
            ("\"\\u00e9\\/\"", Some("\"é/\"")),
            ("", None),
            ("nul", None),
            ("truex", None),
            ("01", None),
            ("1 2", None),
            ("[1,]", None),
            ("{\"a\"}", None),
            ("\"\\ud800\"", None),
            ("NaN", None),
        ];
        for (text, expected) in cases {
            let written = Json::parse(text).map(|json| {
                let mut out = Vec::new();
                json.write(&mut out);
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written.as_deref(), expected, "{text}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(&nested(Document::DEEPEST)).is_some());
        assert!(Json::parse(&nested(Document::DEEPEST + 1)).is_none());
    }
}
