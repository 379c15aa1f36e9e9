//! A strict JSON tree: members in their order, numbers as they were written, one value for each key.
//!
//! A tree of our own, because ours must keep the order of members, refuse a key that stands twice, bound the depth,
//! and read numbers exactly (`search_after` takes back the very double that was given out).

use instep_core::{Error, Result};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// The literal, as it was written; its grammar was checked.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// How deep arrays and objects may nest: twenty clauses of four levels each, and room for the rest.
pub(crate) const MAX_DEPTH: usize = 100;

/// How documents of our own are read again: they may nest as deep as the builder lets them.
const OWN_DEPTH: usize = 400;

impl Json {
    /// Reads a request's body.
    pub(crate) fn strict(body: &[u8]) -> Result<Json> {
        if body.starts_with(b"\xef\xbb\xbf") {
            return Err(malformed("the body starts with a byte order mark"));
        }
        let text = std::str::from_utf8(body).map_err(|error| {
            malformed(format!(
                "the body is not UTF-8 from byte {} on",
                error.valid_up_to()
            ))
        })?;
        Reader::new(text, MAX_DEPTH, Duplicates::Refused).document()
    }

    /// Reads JSON that we wrote ourselves; `None` when it is none.
    pub(crate) fn own(text: &str) -> Option<Json> {
        Reader::new(text, OWN_DEPTH, Duplicates::Kept).document().ok()
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::Text(_) => "text",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }
}

/// Text from a caller as it appears in a message: shortened, so that an answer is not longer than its question.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn malformed(message: impl Into<String>) -> Error {
    Error::invalid("parsing_exception", message)
}

#[derive(Clone, Copy, PartialEq)]
enum Duplicates {
    Refused,
    Kept,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth_left: usize,
    duplicates: Duplicates,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, depth: usize, duplicates: Duplicates) -> Self {
        Reader {
            text,
            at: 0,
            depth_left: depth,
            duplicates,
        }
    }

    fn document(mut self) -> Result<Json> {
        let value = self.value()?;
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(self.wrong("the body goes on after its JSON value")),
        }
    }

    fn value(&mut self) -> Result<Json> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Json::Bool(true)),
            Some(b'f') => self.literal("false", Json::Bool(false)),
            Some(b'n') => self.literal("null", Json::Null),
            Some(_) => Err(self.wrong("expected a JSON value")),
            None => Err(self.wrong("the body ends where a JSON value is expected")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json>) -> Result<Json> {
        if self.depth_left == 0 {
            return Err(self.wrong(format!("the body nests deeper than {MAX_DEPTH} levels")));
        }
        self.depth_left -= 1;
        self.at += 1;
        let value = read(self)?;
        self.depth_left += 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Json> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(b',', "expected `,` or `]` in an array")?;
        }
    }

    fn object(&mut self) -> Result<Json> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a key in an object"));
            }
            let key = self.string()?;
            if self.duplicates == Duplicates::Refused && !seen.insert(key.clone()) {
                return Err(self.wrong(format!("the key [{}] stands twice in one object", shown(&key))));
            }
            self.expect(b':', "expected `:` after a key")?;
            let value = self.value()?;
            members.push((key, value));
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(b',', "expected `,` or `}` in an object")?;
        }
    }

    /// Finds the end of the string; what is inside is `serde_json`'s to check and unescape.
    fn string(&mut self) -> Result<String> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err(self.wrong("a string has no end")),
            }
        }
        let value = serde_json::from_str(&self.text[start..=end])
            .map_err(|_| self.wrong("a string has a bad escape or an unescaped control character"))?;
        self.at = end + 1;
        Ok(value)
    }

    fn number(&mut self) -> Result<Json> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let integer = start + usize::from(bytes[start] == b'-');
        let mut end = digits(integer);
        let leading_zero = bytes.get(integer) == Some(&b'0') && end > integer + 1;
        let mut wrong = end == integer || leading_zero;
        if bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            wrong |= end == fraction;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = end + 1;
            let exponent = sign + usize::from(matches!(bytes.get(sign), Some(b'+' | b'-')));
            end = digits(exponent);
            wrong |= end == exponent;
        }
        if wrong {
            return Err(self.wrong("a number is not written as JSON writes numbers"));
        }
        self.at = end;
        Ok(Json::Number(self.text[start..end].to_owned()))
    }

    fn literal(&mut self, word: &str, value: Json) -> Result<Json> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("expected a JSON value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8, otherwise: &str) -> Result<()> {
        if self.take(byte) {
            return Ok(());
        }
        Err(self.wrong(otherwise))
    }

    fn wrong(&self, message: impl std::fmt::Display) -> Error {
        let before = &self.text[..self.text.floor_char_boundary(self.at)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        malformed(format!("{message} (line {line}, column {column})"))
    }
}
