//! Writing JSON text in the order of the calls, with raw parts passed through as they are.

use instep_core::query::Scalar;

use crate::json::Json;
use crate::number;
use crate::search::ResponseOptions;

/// The members of an object being written.
pub(crate) struct Members<'a> {
    out: &'a mut String,
    first: bool,
}

impl Members<'_> {
    /// Writes the key; the caller writes the value into what is returned.
    pub(crate) fn key(&mut self, key: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        text(self.out, key);
        self.out.push(':');
        self.out
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        text(self.key(key), value);
    }

    /// A value that is JSON already.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key).push_str(value);
    }

    pub(crate) fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        self.raw(key, &value.to_string());
    }

    pub(crate) fn double(&mut self, key: &str, value: Option<f64>) {
        let written = value.map_or_else(|| "null".to_owned(), number::double);
        self.raw(key, &written);
    }

    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Members<'_>)) {
        object(self.key(key), fill);
    }

    pub(crate) fn array<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut String, T),
    ) {
        array(self.key(key), items, write);
    }
}

pub(crate) fn object(out: &mut String, fill: impl FnOnce(&mut Members<'_>)) {
    out.push('{');
    fill(&mut Members { out, first: true });
    out.push('}');
}

pub(crate) fn array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

pub(crate) fn text(out: &mut String, value: &str) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if value.bytes().all(plain) {
        out.push('"');
        out.push_str(value);
        out.push('"');
        return;
    }
    out.push_str(&serde_json::to_string(value).expect("text is JSON"));
}

pub(crate) fn scalar(out: &mut String, value: &Scalar) {
    match value {
        Scalar::Bool(value) => out.push_str(&value.to_string()),
        Scalar::Int(value) => out.push_str(&value.to_string()),
        Scalar::Double(value) => out.push_str(&number::double(*value)),
        Scalar::Text(value) => text(out, value),
    }
}

/// An answer as the caller wants it: filtered, and with line breaks.
pub(crate) fn finish(answer: String, options: &ResponseOptions) -> String {
    if options.filter_path.is_none() && !options.pretty {
        return answer;
    }
    // A part that came from elsewhere may be no JSON, or nest beyond reason: then the answer stays as it is.
    let Some(mut json) = Json::own(&answer) else {
        return answer;
    };
    if let Some(filter) = &options.filter_path {
        json = filter.apply(json);
    }
    if !options.pretty {
        return compact(&json);
    }
    let mut out = String::new();
    indented(&mut out, &json, 0);
    out.push('\n');
    out
}

pub(crate) fn compact(json: &Json) -> String {
    let mut out = String::new();
    compact_into(&mut out, json);
    out
}

fn compact_into(out: &mut String, json: &Json) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(&value.to_string()),
        Json::Number(literal) => out.push_str(literal),
        Json::Text(value) => text(out, value),
        Json::Array(items) => array(out, items, compact_into),
        Json::Object(members) => object(out, |o| {
            for (key, value) in members {
                compact_into(o.key(key), value);
            }
        }),
    }
}

fn indented(out: &mut String, json: &Json, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match json {
        Json::Object(members) if !members.is_empty() => {
            out.push('{');
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                text(out, key);
                out.push_str(" : ");
                indented(out, value, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('[');
            for (at, value) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                indented(out, value, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
            compact_into(out, json);
        }
    }
}
