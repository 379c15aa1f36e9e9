//! Keys: what names a row in its table, and a document in its collection.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::{CollectionName, TableName};
use crate::value::Value;

/// The primary key of a row: its parts in the order of the table's primary key. Never empty, never NULL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub Arc<[Value]>);

impl Key {
    /// A key of these parts, in the order of the table's primary key.
    pub fn new(parts: impl Into<Arc<[Value]>>) -> Self {
        Key(parts.into())
    }

    /// The parts, in the order of the table's primary key.
    pub fn parts(&self) -> &[Value] {
        &self.0
    }
}

/// A row, named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The table.
    pub table: TableName,
    /// The row's primary key.
    pub key: Key,
}

/// A document's `_id`: the parts of its root row's key, joined by `,`, with `\` before `,` and `\`.
///
/// Two keys of one table never share an id. At most [`DocId::MAX_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(Arc<str>);

/// Marks a stand-in: in ids, a backslash is only ever followed by `,` or another backslash.
const STAND_IN: &str = "\\!";

impl DocId {
    /// The longest id an engine takes, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 512;

    /// An id as it came from outside, or from our own state. Only its length and emptiness are checked.
    pub fn parse(id: &str) -> Result<Self> {
        if id.is_empty() || id.len() > Self::MAX_BYTES {
            let message = format!(
                "a document's _id has 1 to {} bytes, this one {}",
                Self::MAX_BYTES,
                id.len()
            );
            return Err(Error::poison("bad_id", message));
        }
        Ok(DocId(id.into()))
    }

    /// The id of the document whose root row has this key. Poison when a part is NULL or the id would be empty or too long.
    pub fn of(key: &Key) -> Result<Self> {
        let mut id = String::new();
        for (at, part) in key.parts().iter().enumerate() {
            if part.is_null() {
                return Err(Error::poison(
                    "null_key",
                    "a part of the row's key is NULL, so the row cannot be named",
                ));
            }
            if at > 0 {
                id.push(',');
            }
            for c in part.to_string().chars() {
                if matches!(c, ',' | '\\') {
                    id.push('\\');
                }
                id.push(c);
            }
        }
        DocId::parse(&id)
    }

    /// The id of a row that may not be nameable: [`DocId::of`], or else a stand-in under which the row is reported as a
    /// dead letter. A stand-in holds the key's beginning and a hash of all of it, so that two rows rarely share one; it
    /// is never the id of a document.
    pub fn naming(key: &Key) -> Self {
        DocId::of(key).unwrap_or_else(|_| {
            let whole = key
                .parts()
                .iter()
                .map(Value::to_string)
                .collect::<Vec<_>>()
                .join(",");
            let cut = (0..=64.min(whole.len()))
                .rev()
                .find(|at| whole.is_char_boundary(*at))
                .unwrap_or(0);
            let hash = crate::collection::fnv1a(whole.as_bytes());
            DocId(format!("{}{STAND_IN}{hash:016x}", whole[..cut].replace('\\', "/")).into())
        })
    }

    /// Whether this is a stand-in for a row that cannot be named.
    pub fn is_stand_in(&self) -> bool {
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            if c == '\\' && chars.next() == Some('!') {
                return true;
            }
        }
        false
    }

    /// The texts of the key's parts, unescaped: the inverse of [`DocId::of`] up to the parts' types, which the source
    /// knows from its columns.
    pub fn parts(&self) -> Vec<String> {
        let mut parts = vec![String::new()];
        let mut escaped = false;
        for c in self.0.chars() {
            let part = parts.last_mut().expect("there is always one part");
            match c {
                _ if escaped => {
                    part.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                ',' => parts.push(String::new()),
                c => part.push(c),
            }
        }
        parts
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document, named: what the change log holds and the builder builds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocKey {
    /// The collection.
    pub collection: CollectionName,
    /// The document's id inside it.
    pub id: DocId,
}

impl fmt::Display for DocKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn key(parts: &[&str]) -> Key {
        Key::new(parts.iter().map(|part| Value::text(part)).collect::<Vec<_>>())
    }

    #[test]
    fn ids_of_composite_keys() {
        let cases = [
            (vec!["7"], "7"),
            (vec!["a", "b"], "a,b"),
            (vec!["a,b"], "a\\,b"),
            (vec!["a\\", "b"], "a\\\\,b"),
            (vec!["", "b"], ",b"),
        ];
        for (parts, id) in cases {
            assert_eq!(DocId::of(&key(&parts)).unwrap().as_str(), id);
        }
        assert_eq!(DocId::of(&key(&[""])).unwrap_err().fault(), crate::Fault::Poison);
        assert_eq!(
            DocId::of(&Key::new(vec![Value::Null])).unwrap_err().fault(),
            crate::Fault::Poison
        );
        assert_eq!(
            DocId::of(&key(&[&"x".repeat(513)])).unwrap_err().fault(),
            crate::Fault::Poison
        );
    }

    #[test]
    fn rows_that_cannot_be_named_have_stand_ins() {
        let long = DocId::naming(&key(&[&"é".repeat(400)]));
        assert!(long.is_stand_in() && long.as_str().len() < DocId::MAX_BYTES);
        assert!(DocId::naming(&Key::new(vec![Value::Null])).is_stand_in());
        assert!(!DocId::naming(&key(&["a\\!", "\\!"])).is_stand_in());
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in prop::collection::vec(".{1,20}", 1..4)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert_eq!(DocId::of(&key(&parts)).unwrap().parts(), parts);
        }
    }
}
