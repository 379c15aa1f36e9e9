//! What a cluster cannot make of a document's source by itself: the values of flattened fields, which are indexed as
//! fields of ours; and decimals beyond their type, which it would cut off in silence.
//!
//! A mapping with neither costs nothing: the source is not looked at. Otherwise only the way to those fields is read;
//! the source itself goes out as it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use instep_core::decimal::Scaled;
use instep_core::{Document, Error, FieldType, Mapping, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::PATH_END;

/// Lucene's limit of a term, in bytes.
const MAX_TERM: usize = 32_766;

/// The fields to look at.
#[derive(Default)]
pub(crate) struct Plan(BTreeMap<String, Step>);

enum Step {
    Object(Plan),
    Decimal { path: String, scale: u8 },
    Flattened { path: String },
}

/// The values of the flattened fields of one document.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Extra {
    /// By field: its values, and its values after their paths.
    pub(crate) flattened: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

impl Plan {
    pub(crate) fn of(mapping: &Mapping) -> Plan {
        let mut plan = Plan::default();
        for (path, kind) in &mapping.fields {
            let step = match kind {
                FieldType::Decimal { scale } => Step::Decimal {
                    path: path.clone(),
                    scale: *scale,
                },
                FieldType::Flattened => Step::Flattened { path: path.clone() },
                FieldType::Keyword
                | FieldType::Text { .. }
                | FieldType::Long
                | FieldType::Integer
                | FieldType::Double
                | FieldType::Boolean
                | FieldType::Date => continue,
            };
            plan.insert(path, step);
        }
        plan
    }

    fn insert(&mut self, path: &str, step: Step) {
        match path.split_once('.') {
            None => {
                self.0.insert(path.to_owned(), step);
            }
            Some((head, tail)) => {
                let entry = self.0.entry(head.to_owned());
                if let Step::Object(below) = entry.or_insert_with(|| Step::Object(Plan::default())) {
                    below.insert(tail, step);
                }
            }
        }
    }

    /// Looks at a source. Poison where a value does not fit.
    pub(crate) fn look(&self, source: &str) -> Result<Extra> {
        let mut extra = Extra::default();
        if !self.0.is_empty() {
            self.object(source, &mut extra, 0)?;
        }
        Ok(extra)
    }

    fn object(&self, raw: &str, extra: &mut Extra, depth: usize) -> Result<()> {
        if depth > Document::DEEPEST {
            return Err(too_deep("an object"));
        }
        match raw.as_bytes().first() {
            Some(b'[') => {
                for value in array(raw)? {
                    self.object(value.get(), extra, depth + 1)?;
                }
                Ok(())
            }
            Some(b'{') => {
                let members: Members<'_> = serde_json::from_str(raw).map_err(|_| no_json())?;
                for (name, value) in &members.0 {
                    match self.0.get(name.as_ref()) {
                        None => {}
                        Some(Step::Object(below)) => below.object(value.get(), extra, depth + 1)?,
                        Some(Step::Decimal { path, scale }) => decimal(value.get(), path, *scale, 0)?,
                        Some(Step::Flattened { path }) => {
                            let into = extra.flattened.entry(path.clone()).or_default();
                            flattened(value.get(), path, &mut String::new(), into, 0)?;
                        }
                    }
                }
                Ok(())
            }
            // The cluster refuses what is no object.
            Some(_) | None => Ok(()),
        }
    }
}

fn too_deep(what: &str) -> Error {
    Error::poison(
        "too_deep",
        format!("{what} nests deeper than {} levels", Document::DEEPEST),
    )
}

fn no_json() -> Error {
    Error::poison("bad_source", "the document's source is not JSON")
}

fn array(raw: &str) -> Result<Vec<&RawValue>> {
    serde_json::from_str(raw).map_err(|_| no_json())
}

fn decimal(raw: &str, path: &str, scale: u8, depth: usize) -> Result<()> {
    if depth > Document::DEEPEST {
        return Err(too_deep(&format!("a value of field `{path}`")));
    }
    let spelled = match raw.as_bytes().first() {
        Some(b'n') => return Ok(()),
        Some(b'[') => {
            return array(raw)?
                .into_iter()
                .try_for_each(|value| decimal(value.get(), path, scale, depth + 1));
        }
        Some(b'"') => raw.trim_matches('"'),
        Some(_) | None => raw,
    };
    let Some(scaled) = Scaled::parse(spelled, scale) else {
        return Err(super::bulk::mismatch(path, "decimal"));
    };
    match i64::try_from(scaled.nearest()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::poison(
            "out_of_range",
            format!("a number in field `{path}` does not fit the type decimal"),
        )
        .with_remedy("give the field a wider type")),
    }
}

fn flattened(
    raw: &str,
    field: &str,
    path: &mut String,
    into: &mut (Vec<String>, Vec<String>),
    depth: usize,
) -> Result<()> {
    if depth > Document::DEEPEST {
        return Err(too_deep(&format!("a value of field `{field}`")));
    }
    let value = match raw.as_bytes().first() {
        Some(b'n') => return Ok(()),
        Some(b'{') => {
            let members: Members<'_> = serde_json::from_str(raw).map_err(|_| no_json())?;
            for (name, value) in &members.0 {
                if name.contains(PATH_END) {
                    return Err(Error::poison(
                        "type_mismatch",
                        format!("field `{field}` has a name with a NUL character in it"),
                    ));
                }
                let length = path.len();
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                flattened(value.get(), field, path, into, depth + 1)?;
                path.truncate(length);
            }
            return Ok(());
        }
        Some(b'[') => {
            for value in array(raw)? {
                flattened(value.get(), field, path, into, depth + 1)?;
            }
            return Ok(());
        }
        Some(b'"') => serde_json::from_str::<String>(raw).map_err(|_| no_json())?,
        Some(_) | None => raw.to_owned(),
    };
    if path.len() + 1 + value.len() > MAX_TERM {
        return Err(super::bulk::too_long(field));
    }
    if !path.is_empty() {
        into.1.push(format!("{path}{PATH_END}{value}"));
    }
    into.0.push(value);
    Ok(())
}

/// The members of an object in their order, their values unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mapping(fields: &[(&str, FieldType)]) -> Mapping {
        Mapping {
            fields: fields
                .iter()
                .map(|(path, kind)| ((*path).to_owned(), kind.clone()))
                .collect(),
            language: "en".into(),
        }
    }

    #[test]
    fn flattened_values_and_their_paths() {
        let plan = Plan::of(&mapping(&[
            ("a.extra", FieldType::Flattened),
            ("n", FieldType::Long),
        ]));
        let extra = plan
            .look(r#"{"n":1,"a":[{"extra":{"x":{"y":[1,true,null]},"z":"\u00e9"}},{"extra":"bare"}],"extra":2}"#)
            .unwrap();
        let own = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let expected = (
            own(&["1", "true", "é", "bare"]),
            own(&["x.y\u{0}1", "x.y\u{0}true", "z\u{0}é"]),
        );
        assert_eq!(extra.flattened["a.extra"], expected);
    }

    #[test]
    fn decimals_beyond_their_type_are_poison() {
        let plan = Plan::of(&mapping(&[("price", FieldType::Decimal { scale: 2 })]));
        let cases = [
            (r#"{"price":12.50}"#, None),
            (r#"{"price":["1",null,-3e2]}"#, None),
            (r#"{"other":1e30}"#, None),
            (r#"{"price":1e30}"#, Some("out_of_range")),
            (r#"{"price":"x"}"#, Some("type_mismatch")),
            (r#"{"price":{"a":1}}"#, Some("type_mismatch")),
            (r#"{"price":"#, Some("bad_source")),
        ];
        for (source, expected) in cases {
            assert_eq!(
                plan.look(source).err().map(|error| error.code()),
                expected,
                "{source}"
            );
        }
    }
}
