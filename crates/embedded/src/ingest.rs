//! Documents into the index: one pass over the JSON text, each leaf straight into its fields.
//!
//! A value that its field cannot hold is poison for its document, named by field and kind, never by value.
//! Values of fields that the mapping does not have are kept in the source and not indexed.

use std::fmt;

use instep_core::date::{self, Round};
use instep_core::decimal::Scaled;
use instep_core::{Document, Error, Result, Ticket};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tantivy::TantivyDocument;

use crate::analysis::join_values;
use crate::fields::{Child, Fields, Kind, Leaf, Object, PATH_END};

/// The longest exact value, in bytes: Lucene's limit of a term.
const MAX_TERM: usize = 32_766;

/// The longest text that its `.keyword` holds, in characters: what Elasticsearch's dynamic mapping calls
/// `ignore_above: 256`.
const KEYWORD_CHARS: usize = 256;

/// Turns documents into those of the library; its buffers are used again.
pub(crate) struct Ingest {
    texts: Vec<Values>,
    buffer: String,
}

/// The values of one text field of the document at hand.
#[derive(Default)]
struct Values {
    text: String,
    /// Where each value ends in `text`.
    ends: Vec<usize>,
}

impl Ingest {
    pub(crate) fn new(fields: &Fields) -> Self {
        let texts = fields.leaves.iter().map(|_| Values::default()).collect();
        Ingest {
            texts,
            buffer: String::new(),
        }
    }

    /// The document as the library takes it.
    pub(crate) fn document(
        &mut self,
        fields: &Fields,
        document: &Document,
        ticket: Ticket,
        sequence: u64,
    ) -> Result<TantivyDocument> {
        let mut made = TantivyDocument::with_capacity(document.source.len() * 2 + 256);
        made.add_text(fields.id, document.id.as_str());
        made.add_u64(fields.ticket, ticket.0);
        made.add_u64(fields.sequence, sequence);
        made.add_bytes(fields.source, document.source.as_bytes());
        for token in document.readers.tokens() {
            if token.len() > MAX_TERM {
                return Err(too_long("readers"));
            }
            made.add_text(fields.readers, token);
        }
        self.texts.iter_mut().for_each(Values::clear);
        let mut problem = None;
        let into = Target {
            fields,
            made: &mut made,
            texts: &mut self.texts,
            buffer: &mut self.buffer,
            problem: &mut problem,
        };
        let mut deserializer = serde_json::Deserializer::from_str(&document.source);
        let read = ObjectSeed {
            object: &fields.root,
            path: "",
            into,
        }
        .deserialize(&mut deserializer);
        if let Err(error) = read.and_then(|()| deserializer.end()) {
            return Err(problem.unwrap_or_else(|| {
                let what = if error.is_data() {
                    "is not a JSON object"
                } else {
                    "is not JSON"
                };
                Error::poison("bad_source", format!("the document's source {what}"))
            }));
        }
        for (leaf, values) in fields.leaves.iter().zip(&self.texts) {
            if !values.ends.is_empty() {
                made.add_text(leaf.main.field, join_values(values.iter()));
                made.add_text(fields.names, &leaf.path);
            }
        }
        Ok(made)
    }
}

impl Values {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// Where values go.
struct Target<'a> {
    fields: &'a Fields,
    made: &'a mut TantivyDocument,
    texts: &'a mut [Values],
    buffer: &'a mut String,
    problem: &'a mut Option<Error>,
}

impl Target<'_> {
    fn again(&mut self) -> Target<'_> {
        Target {
            fields: self.fields,
            made: self.made,
            texts: self.texts,
            buffer: self.buffer,
            problem: self.problem,
        }
    }

    /// Ends the pass with this error.
    fn fail<T, E: serde::de::Error>(&mut self, error: Error) -> Result<T, E> {
        *self.problem = Some(error);
        Err(E::custom("refused"))
    }
}

fn mismatch(path: &str, kind: &str, found: &str) -> Error {
    Error::poison(
        "type_mismatch",
        format!("field `{path}` is {kind} and the document holds {found}"),
    )
    .with_remedy("change the field's type in the configuration, or the column's values")
}

fn out_of_range(path: &str, kind: &str) -> Error {
    Error::poison(
        "out_of_range",
        format!("a number in field `{path}` does not fit the type {kind}"),
    )
    .with_remedy("give the field a wider type")
}

fn too_long(path: &str) -> Error {
    Error::poison(
        "value_too_long",
        format!("an exact value in field `{path}` is longer than {MAX_TERM} bytes"),
    )
    .with_remedy("make it a text field without its keyword, or shorten the column")
}

/// An object of the mapping, or an array of such.
struct ObjectSeed<'a> {
    object: &'a Object,
    path: &'a str,
    into: Target<'a>,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ObjectSeed<'_> {
    fn refuse<E: serde::de::Error>(mut self, found: &str) -> Result<(), E> {
        if self.path.is_empty() {
            return Err(E::custom("not an object"));
        }
        let error = mismatch(self.path, "an object", found);
        self.into.fail(error)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(NameSeed(self.object))? {
            match child {
                None => {
                    let error = Error::poison(
                        "unknown_member",
                        "the document has a member that no field of the collection names",
                    );
                    return self.into.fail(error);
                }
                Some((Child::Leaf(place), _)) => {
                    let leaf = &self.into.fields.leaves[*place];
                    map.next_value_seed(LeafSeed {
                        leaf,
                        place: *place,
                        into: self.into.again(),
                    })?;
                }
                Some((Child::Object(object), name)) => {
                    let path = match self.path {
                        "" => name,
                        path => format!("{path}.{name}"),
                    };
                    map.next_value_seed(ObjectSeed {
                        object,
                        path: &path,
                        into: self.into.again(),
                    })?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        if self.path.is_empty() {
            return self.refuse("an array");
        }
        let (object, path) = (self.object, self.path);
        while seq
            .next_element_seed(ObjectSeed {
                object,
                path,
                into: self.into.again(),
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.path.is_empty() {
            self.refuse("null")
        } else {
            Ok(())
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.refuse("a boolean")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.refuse("a number")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.refuse("text")
    }
}

/// A field's name, looked up without being copied. The name comes back for objects only.
struct NameSeed<'a>(&'a Object);

impl<'de, 'a> DeserializeSeed<'de> for NameSeed<'a> {
    type Value = Option<(&'a Child, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for NameSeed<'a> {
    type Value = Option<(&'a Child, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name).map(|child| match child {
            Child::Leaf(_) => (child, String::new()),
            Child::Object(_) => (child, name.to_owned()),
        }))
    }
}

/// A leaf of the mapping, or an array of such, at any depth.
struct LeafSeed<'a> {
    leaf: &'a Leaf,
    place: usize,
    into: Target<'a>,
}

impl<'de> DeserializeSeed<'de> for LeafSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        match self.leaf.kind {
            // These need the number as it is spelled.
            Kind::Decimal(scale) => {
                let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
                self.decimal(raw.get(), scale, 0)
            }
            Kind::Flattened => {
                let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
                self.flattened(raw.get(), &mut String::new(), 0)
            }
            Kind::Keyword
            | Kind::Text(_)
            | Kind::Long
            | Kind::Integer
            | Kind::Double
            | Kind::Boolean
            | Kind::Date => deserializer.deserialize_any(self),
        }
    }
}

impl LeafSeed<'_> {
    fn refuse<E: serde::de::Error>(&mut self, found: &str) -> Result<(), E> {
        let kind = format!("of type {}", self.leaf.kind.name());
        let error = mismatch(&self.leaf.path, &kind, found);
        self.into.fail(error)
    }

    fn too_wide<E: serde::de::Error>(&mut self) -> Result<(), E> {
        let error = out_of_range(&self.leaf.path, self.leaf.kind.name());
        self.into.fail(error)
    }

    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        let (made, leaf) = (&mut self.into.made, self.leaf);
        let exact = match leaf.kind {
            Kind::Keyword => Some(leaf.main.field),
            Kind::Text(_) => {
                self.into.texts[self.place].push(text);
                // Beside a text it is for titles and names: longer texts are found by their words alone.
                let short = text.chars().take(KEYWORD_CHARS + 1).count() <= KEYWORD_CHARS;
                leaf.exact.as_ref().filter(|_| short).map(|slot| slot.field)
            }
            Kind::Boolean => {
                return match text {
                    "true" => self.boolean(true),
                    "false" | "" => self.boolean(false),
                    _ => self.refuse("text"),
                };
            }
            Kind::Date => {
                return match date::parse(text, Round::Down, 0) {
                    Ok(ms) => {
                        made.add_i64(leaf.main.field, ms);
                        Ok(())
                    }
                    Err(_) => self.refuse("text that is no date"),
                };
            }
            Kind::Long | Kind::Integer | Kind::Double | Kind::Decimal(_) | Kind::Flattened => {
                return self.refuse("text");
            }
        };
        if let Some(field) = exact {
            if text.len() > MAX_TERM {
                return self.into.fail(too_long(&leaf.path));
            }
            made.add_text(field, text);
        }
        Ok(())
    }

    fn boolean<E: serde::de::Error>(&mut self, value: bool) -> Result<(), E> {
        match self.leaf.kind {
            Kind::Boolean => {
                self.into.made.add_bool(self.leaf.main.field, value);
                Ok(())
            }
            Kind::Keyword | Kind::Text(_) => self.text(if value { "true" } else { "false" }),
            Kind::Long | Kind::Integer | Kind::Double | Kind::Decimal(_) | Kind::Date | Kind::Flattened => {
                self.refuse("a boolean")
            }
        }
    }

    fn integer<E: serde::de::Error>(&mut self, value: i64) -> Result<(), E> {
        let field = self.leaf.main.field;
        match self.leaf.kind {
            Kind::Integer if i32::try_from(value).is_err() => return self.too_wide(),
            Kind::Long | Kind::Integer => self.into.made.add_i64(field, value),
            Kind::Double => self.into.made.add_f64(field, value as f64),
            Kind::Date if (1000..10_000).contains(&value) => return self.text(&value.to_string()),
            Kind::Date => self.into.made.add_i64(field, value),
            Kind::Keyword | Kind::Text(_) => return self.text(&value.to_string()),
            Kind::Boolean | Kind::Decimal(_) | Kind::Flattened => return self.refuse("a number"),
        }
        Ok(())
    }

    fn decimal<E: serde::de::Error>(&mut self, raw: &str, scale: u8, depth: usize) -> Result<(), E> {
        self.bounded(depth)?;
        let spelled = match raw.as_bytes().first() {
            Some(b'n') => return Ok(()),
            Some(b't' | b'f') => return self.refuse("a boolean"),
            Some(b'{') => return self.refuse("an object"),
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(raw).map_err(E::custom)?;
                return values
                    .into_iter()
                    .try_for_each(|value| self.decimal(value.get(), scale, depth + 1));
            }
            Some(b'"') => raw.trim_matches('"'),
            _ => raw,
        };
        let Some(scaled) = Scaled::parse(spelled, scale) else {
            return self.refuse("text that is no number");
        };
        match i64::try_from(scaled.nearest()) {
            Ok(value) => {
                self.into.made.add_i64(self.leaf.main.field, value);
                Ok(())
            }
            Err(_) => self.too_wide(),
        }
    }

    /// What is read value by value is bounded by us alone: each level takes some of the stack.
    fn bounded<E: serde::de::Error>(&mut self, depth: usize) -> Result<(), E> {
        if depth <= Document::DEEPEST {
            return Ok(());
        }
        let error = Error::poison(
            "too_deep",
            format!(
                "a value of field `{}` nests deeper than {} levels",
                self.leaf.path,
                Document::DEEPEST
            ),
        );
        self.into.fail(error)
    }

    fn flattened<E: serde::de::Error>(
        &mut self,
        raw: &str,
        path: &mut String,
        depth: usize,
    ) -> Result<(), E> {
        self.bounded(depth)?;
        let unquoted;
        let value = match raw.as_bytes().first() {
            Some(b'n') => return Ok(()),
            Some(b'{') => {
                let fields: std::collections::BTreeMap<String, &RawValue> =
                    serde_json::from_str(raw).map_err(E::custom)?;
                for (name, value) in fields {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&name);
                    if name.contains(PATH_END) {
                        return self.refuse("a name with a NUL character");
                    }
                    self.flattened(value.get(), path, depth + 1)?;
                    path.truncate(length);
                }
                return Ok(());
            }
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(raw).map_err(E::custom)?;
                return values
                    .into_iter()
                    .try_for_each(|value| self.flattened(value.get(), path, depth + 1));
            }
            Some(b'"') => {
                unquoted = serde_json::from_str::<String>(raw).map_err(E::custom)?;
                unquoted.as_str()
            }
            _ => raw,
        };
        if path.len() + 1 + value.len() > MAX_TERM {
            return self.into.fail(too_long(&self.leaf.path));
        }
        self.into.made.add_text(self.leaf.main.field, value);
        if let Some(slot) = self.leaf.exact.as_ref().filter(|_| !path.is_empty()) {
            let buffer = &mut *self.into.buffer;
            buffer.clear();
            buffer.push_str(path);
            buffer.push(PATH_END);
            buffer.push_str(value);
            self.into.made.add_text(slot.field, &buffer);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for LeafSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_bool<E: serde::de::Error>(mut self, value: bool) -> Result<(), E> {
        self.boolean(value)
    }

    fn visit_i64<E: serde::de::Error>(mut self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: serde::de::Error>(mut self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), self.leaf.kind) {
            (Ok(value), _) => self.integer(value),
            (Err(_), Kind::Double) => self.visit_f64(value as f64),
            (Err(_), Kind::Keyword | Kind::Text(_)) => self.text(&value.to_string()),
            (Err(_), Kind::Long | Kind::Integer | Kind::Date) => self.too_wide(),
            (Err(_), Kind::Boolean | Kind::Decimal(_) | Kind::Flattened) => self.refuse("a number"),
        }
    }

    fn visit_f64<E: serde::de::Error>(mut self, value: f64) -> Result<(), E> {
        match self.leaf.kind {
            Kind::Double => {
                self.into.made.add_f64(self.leaf.main.field, value);
                Ok(())
            }
            Kind::Long | Kind::Integer if value.fract() != 0.0 => self.refuse("a number with a fraction"),
            Kind::Long | Kind::Integer if value.abs() < 9.2e18 => self.integer(value as i64),
            Kind::Long | Kind::Integer => self.too_wide(),
            Kind::Keyword | Kind::Text(_) => self.text(&serde_json::Value::from(value).to_string()),
            Kind::Boolean | Kind::Date | Kind::Decimal(_) | Kind::Flattened => self.refuse("a number"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let (leaf, place) = (self.leaf, self.place);
        while seq
            .next_element_seed(LeafSeed {
                leaf,
                place,
                into: self.into.again(),
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, _: A) -> Result<(), A::Error> {
        self.refuse("an object")
    }
}
