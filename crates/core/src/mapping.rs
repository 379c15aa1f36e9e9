//! Mappings: the fields of an index, derived from a collection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::collection::{Collection, Content, Field};
use crate::field::FieldType;
use crate::name::Language;

/// The fields of an index: each leaf by its dotted path. Objects are implied by the paths.
///
/// Sub-fields (`title.keyword`) are part of their field's type and have no entry of their own;
/// [`Mapping::resolve`] finds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Leaf fields by dotted path.
    pub fields: BTreeMap<String, FieldType>,
    /// The language of the index's documents.
    pub language: Language,
}

/// What a path in a query names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved<'a> {
    /// A leaf field.
    Field(&'a str, &'a FieldType),
    /// The exact text of a text field: `<field>.keyword`. The path is the text field's.
    KeywordOf(&'a str),
    /// A leaf inside a flattened field: the field's path, and the path below it.
    FlattenedPath(&'a str, &'a str),
    /// An object: some fields lie below it.
    Object,
}

impl Mapping {
    /// The mapping of a collection's index of documents in this language.
    pub fn of(collection: &Collection, language: &Language) -> Self {
        let mut fields = BTreeMap::new();
        leaves("", &collection.fields, &mut fields);
        if let Some(of_language) = collection.language.analyzer(language) {
            for kind in fields.values_mut() {
                if let FieldType::Text { analyzer, .. } = kind
                    && analyzer == FieldType::BY_LANGUAGE
                {
                    of_language.clone_into(analyzer);
                }
            }
        }
        Mapping {
            fields,
            language: language.clone(),
        }
    }

    /// What a dotted path names here; `None` when nothing.
    pub fn resolve<'a>(&'a self, path: &'a str) -> Option<Resolved<'a>> {
        if let Some((name, kind)) = self.fields.get_key_value(path) {
            return Some(Resolved::Field(name, kind));
        }
        for (at, _) in path.match_indices('.') {
            let (head, tail) = (&path[..at], &path[at + 1..]);
            match self.fields.get_key_value(head) {
                Some((name, FieldType::Text { keyword: true, .. })) if tail == "keyword" => {
                    return Some(Resolved::KeywordOf(name));
                }
                Some((name, FieldType::Flattened)) => return Some(Resolved::FlattenedPath(name, tail)),
                Some(_) | None => {}
            }
        }
        let below = format!("{path}.");
        self.fields
            .range(below.clone()..)
            .next()
            .filter(|(name, _)| name.starts_with(&below))
            .map(|_| Resolved::Object)
    }

    /// Whether a new field cannot have this path: it is one, lies inside one, or others lie below it.
    pub fn is_taken(&self, path: &str) -> bool {
        self.resolve(path).is_some()
            || path
                .match_indices('.')
                .any(|(at, _)| self.fields.contains_key(&path[..at]))
    }
}

fn leaves(prefix: &str, fields: &[Field], into: &mut BTreeMap<String, FieldType>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name);
        match &field.content {
            Content::Column { kind, .. } | Content::Values { kind, .. } => {
                into.insert(path, kind.clone());
            }
            Content::Json { fields, .. } | Content::Joined { fields, .. } => {
                leaves(&format!("{path}."), fields, into)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_resolve() {
        let text = FieldType::Text {
            analyzer: "standard".into(),
            keyword: true,
        };
        let fields = [
            ("title", text.clone()),
            ("seller.name", FieldType::Keyword),
            ("extra", FieldType::Flattened),
        ];
        let mapping = Mapping {
            fields: fields
                .into_iter()
                .map(|(name, kind)| (name.to_owned(), kind))
                .collect(),
            language: "en".into(),
        };
        let cases = [
            ("title", Some(Resolved::Field("title", &text))),
            ("title.keyword", Some(Resolved::KeywordOf("title"))),
            ("title.other", None),
            ("seller", Some(Resolved::Object)),
            (
                "seller.name",
                Some(Resolved::Field("seller.name", &FieldType::Keyword)),
            ),
            ("seller.nam", None),
            ("extra.a.b", Some(Resolved::FlattenedPath("extra", "a.b"))),
            ("sell", None),
        ];
        for (path, expected) in cases {
            assert_eq!(mapping.resolve(path), expected, "{path}");
        }
    }
}
