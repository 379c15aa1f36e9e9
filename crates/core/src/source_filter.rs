//! Which parts of a document's source to return: paths in, JSON out.
//!
//! What remains keeps its order and its bytes: a number is never written anew.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::request::SourceFilter;

impl SourceFilter {
    /// The parts of a document that this filter lets through, as JSON.
    ///
    /// Without patterns the bytes stay as they are; with `none`, or where nothing fits, the answer is `{}`. A pattern
    /// that names an object stands for everything below it. Objects inside arrays are filtered one by one, and left
    /// out where nothing of them remains. A source that is not a JSON object is returned as it is.
    pub fn apply(&self, source: impl Borrow<str> + Into<Arc<str>>) -> Arc<str> {
        if self.none {
            return "{}".into();
        }
        if self.includes.is_empty() && self.excludes.is_empty() {
            return source.into();
        }
        let Ok(fields) = serde_json::from_str::<Fields>(source.borrow()) else {
            return source.into();
        };
        let mut kept = String::with_capacity(source.borrow().len());
        self.object(&fields, &mut String::new(), self.includes.is_empty(), &mut kept);
        kept.into()
    }

    /// Writes what remains of an object at `path`, braces included, and says whether anything does; `included` when a
    /// pattern includes it as a whole.
    fn object(&self, fields: &Fields<'_>, path: &mut String, included: bool, into: &mut String) -> bool {
        into.push('{');
        let start = into.len();
        for (name, value) in &fields.0 {
            let (length, before) = (path.len(), into.len());
            if length > 0 {
                path.push('.');
            }
            path.push_str(name);
            if before > start {
                into.push(',');
            }
            into.push_str(&serde_json::Value::from(name.as_ref()).to_string());
            into.push(':');
            if !self.field(value.get(), path, included, into) {
                into.truncate(before);
            }
            path.truncate(length);
        }
        let any = into.len() > start;
        into.push('}');
        any
    }

    fn field(&self, raw: &str, path: &mut String, included: bool, into: &mut String) -> bool {
        if self.excludes.iter().any(|pattern| fits(pattern, path)) {
            return false;
        }
        let included = included || self.includes.iter().any(|pattern| fits(pattern, path));
        if included && self.excludes.is_empty() {
            into.push_str(raw);
            return true;
        }
        self.value(raw, path, included, into)
    }

    /// Writes what remains of a value; an element of an array lies at the array's own path.
    fn value(&self, raw: &str, path: &mut String, included: bool, into: &mut String) -> bool {
        if let Some(fields) = within(raw, '{').and_then(|raw| serde_json::from_str::<Fields>(raw).ok()) {
            return self.object(&fields, path, included, into) || (included && fields.0.is_empty());
        }
        if let Some(values) =
            within(raw, '[').and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw).ok())
        {
            into.push('[');
            let start = into.len();
            for value in &values {
                let before = into.len();
                if before > start {
                    into.push(',');
                }
                if !self.value(value.get(), path, included, into) {
                    into.truncate(before);
                }
            }
            let any = into.len() > start;
            into.push(']');
            return any || (included && values.is_empty());
        }
        if included {
            into.push_str(raw);
        }
        included
    }
}

/// The text, where it starts with this bracket.
fn within(raw: &str, bracket: char) -> Option<&str> {
    raw.starts_with(bracket).then_some(raw)
}

/// The fields of an object in their order, their values unread.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a pattern fits a path, `*` standing for any characters, dots among them.
pub fn fits(pattern: &str, path: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"{"id":1,"title":"A","seller":{"name":"N","city":{"name":"C","zip":9}},"reviews":[{"stars":5.0,"by":"x"},{"stars":4}],"tags":["a","b"],"none":null,"empty":{}}"#;

    #[test]
    fn patterns_fit_paths() {
        let cases = [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("*", "", true),
            ("*.b", "a.b", true),
            ("*.b", "a.x.b", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(fits(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn parts_of_a_source() {
        let cases: [(&[&str], &[&str], &str); 13] = [
            (&[], &[], SOURCE),
            (&["title"], &[], r#"{"title":"A"}"#),
            (
                &["seller"],
                &[],
                r#"{"seller":{"name":"N","city":{"name":"C","zip":9}}}"#,
            ),
            (&["seller.name"], &[], r#"{"seller":{"name":"N"}}"#),
            (&["seller"], &["seller.city"], r#"{"seller":{"name":"N"}}"#),
            (&["*.name"], &[], r#"{"seller":{"name":"N","city":{"name":"C"}}}"#),
            (
                &["reviews.stars"],
                &[],
                r#"{"reviews":[{"stars":5.0},{"stars":4}]}"#,
            ),
            (&["reviews.by"], &[], r#"{"reviews":[{"by":"x"}]}"#),
            (&["tags", "none"], &[], r#"{"tags":["a","b"],"none":null}"#),
            (&["empty"], &["title"], r#"{"empty":{}}"#),
            (&["nothing"], &[], "{}"),
            (&["id", "title"], &["t*"], r#"{"id":1}"#),
            (&[], &["seller", "reviews", "t*", "none", "empty"], r#"{"id":1}"#),
        ];
        for (includes, excludes, expected) in cases {
            let own = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
            let filter = SourceFilter {
                none: false,
                includes: own(includes),
                excludes: own(excludes),
            };
            assert_eq!(&*filter.apply(SOURCE), expected, "{includes:?} {excludes:?}");
        }
        let none = SourceFilter {
            none: true,
            ..SourceFilter::default()
        };
        assert_eq!(&*none.apply(SOURCE), "{}");
        assert_eq!(&*SourceFilter::default().apply(SOURCE), SOURCE);
    }
}
