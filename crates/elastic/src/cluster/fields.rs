//! What an index of ours looks like to a cluster: the names of our own fields, the mapping, and what is known of an index
//! that exists.
//!
//! Everything that is ours lies under one object, [`OWN`], which stands first in each stored source and is cut off when
//! a document is read. Callers cannot name it: no field of theirs starts with an underscore.

use std::collections::BTreeMap;

use instep_core::{FieldType, Mapping};
use serde_json::{Map, Value, json};

/// The object of our own fields.
pub(crate) const OWN: &str = "_instep";
/// The document's id, as a field: sorted and paged by, which clusters do not offer of `_id` everywhere.
pub(crate) const ID: &str = "_instep.id";
/// Who may read a document.
pub(crate) const READERS: &str = "_instep.readers";
/// A field that no index has.
pub(crate) const NONE: &str = "_instep.none";
/// Stands between a path and its value in a flattened field.
pub(crate) const PATH_END: char = '\0';

/// The prefix of the aliases that writes go through. An index cannot have a name with a capital letter: so where the alias
/// is gone, a delete makes no index of that name (clusters make one for a delete with a version, whatever
/// `require_alias` says).
const WRITE: &str = "instep-Write-";

/// The version of the layout above, and of the mapping below: an index of another one is made anew.
pub(crate) const LAYOUT: u32 = 1;

/// The longest text that its `.keyword` holds.
const KEYWORD_CHARS: u32 = 256;

/// The alias through which an index is written to.
pub(crate) fn write_alias(index: &str) -> String {
    format!("{WRITE}{index}")
}

/// All write aliases there are, and the index behind one.
pub(crate) const WRITE_ALIASES: &str = "instep-Write-*";

/// The values of a flattened field, wherever they lie in it.
pub(crate) fn values_of(path: &str) -> String {
    format!("{OWN}.values.{path}")
}

/// The values of a flattened field, each after its path.
pub(crate) fn paths_of(path: &str) -> String {
    format!("{OWN}.paths.{path}")
}

/// What is known of an index that was made here.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) mapping: Mapping,
    /// The id that the cluster gave to the index.
    pub(crate) uuid: Option<String>,
    /// When that was learned.
    pub(crate) since: tokio::time::Instant,
}

/// The properties of these fields, and of ours that go with them.
pub(crate) fn properties(fields: &BTreeMap<String, FieldType>) -> Value {
    let mut root = Map::new();
    place(&mut root, ID, json!({"type": "keyword"}));
    place(&mut root, READERS, json!({"type": "keyword"}));
    for (path, kind) in fields {
        place(&mut root, path, property(kind));
        if *kind == FieldType::Flattened {
            place(&mut root, &values_of(path), json!({"type": "keyword"}));
            place(&mut root, &paths_of(path), json!({"type": "keyword"}));
        }
    }
    Value::Object(root)
}

fn property(kind: &FieldType) -> Value {
    match kind {
        FieldType::Keyword => json!({"type": "keyword"}),
        FieldType::Text {
            analyzer,
            keyword: false,
        } => json!({"type": "text", "analyzer": analyzer}),
        FieldType::Text {
            analyzer,
            keyword: true,
        } => json!({
            "type": "text", "analyzer": analyzer,
            "fields": {"keyword": {"type": "keyword", "ignore_above": KEYWORD_CHARS}}
        }),
        FieldType::Long => json!({"type": "long", "coerce": false}),
        FieldType::Integer => json!({"type": "integer", "coerce": false}),
        FieldType::Double => json!({"type": "double", "coerce": false}),
        FieldType::Decimal { scale } => {
            json!({"type": "scaled_float", "scaling_factor": 10_f64.powi(i32::from(*scale))})
        }
        FieldType::Boolean => json!({"type": "boolean"}),
        FieldType::Date => json!({"type": "date", "format": DATES}),
        // Its values are indexed as fields of ours: a type for this is not everywhere, nor the same.
        FieldType::Flattened => json!({"type": "object", "enabled": false}),
    }
}

/// How dates are written in documents and in requests of ours.
pub(crate) const DATES: &str = "strict_date_optional_time||epoch_millis";

/// Puts a property at a dotted path, with the objects above it.
fn place(properties: &mut Map<String, Value>, path: &str, property: Value) {
    match path.split_once('.') {
        None => {
            properties.insert(path.to_owned(), property);
        }
        Some((head, tail)) => {
            let object = properties
                .entry(head)
                .or_insert_with(|| json!({"properties": {}}));
            if let Some(below) = object.get_mut("properties").and_then(Value::as_object_mut) {
                place(below, tail, property);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_a_tree_with_ours_beside() {
        let fields = [
            ("seller.name", FieldType::Keyword),
            ("extra", FieldType::Flattened),
            ("price", FieldType::Decimal { scale: 2 }),
        ];
        let fields = fields.into_iter().map(|(path, kind)| (path.to_owned(), kind));
        let keyword = json!({"type": "keyword"});
        let below = |name: &str| json!({"properties": {name: keyword}});
        let expected = json!({
            "_instep": {"properties": {
                "id": keyword, "readers": keyword, "values": below("extra"), "paths": below("extra"),
            }},
            "extra": {"type": "object", "enabled": false},
            "price": {"type": "scaled_float", "scaling_factor": 100.0},
            "seller": below("name"),
        });
        assert_eq!(properties(&fields.collect()), expected);
    }
}
