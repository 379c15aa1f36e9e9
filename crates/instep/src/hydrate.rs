//! The rows behind hits, as they are now: what `?hydrate=true` adds; with what is joined to them (`joins.rs`), what
//! `?hydrate=joins` does.
//!
//! Guarantees: a row's columns are shown only as far as the collection declares them as fields of the root (a JSON
//! column only its declared members), beside its key; the row's readers are asked again, by the builder itself and as they
//! are in the same snapshot, and what cannot be understood admits nobody. One fetch reads all rows of a call, and one more
//! each table on the way to joined readers.

mod joins;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Collection, CollectionName, Content, DocId, Error, Expression, Field, Result, Value, Visibility,
};
use instep_gateway::{Hydrate, Hydration};
use instep_sync::{Assembler, RowsOf};
use serde_json::value::RawValue;

/// Reads the current rows of some collections.
pub(crate) struct Hydrator {
    assembler: Arc<Assembler>,
    collections: HashMap<CollectionName, Collection>,
}

/// How much of a column is shown.
#[derive(Clone)]
enum Part {
    Whole,
    /// Members of a JSON column.
    Members(Vec<Field>),
}

impl Hydrator {
    /// Reads rows of these collections by their builder, which knows who may read them.
    pub(crate) fn new(assembler: Arc<Assembler>, collections: &[Collection]) -> Self {
        let collections = collections.iter();
        Hydrator {
            assembler,
            collections: collections
                .map(|collection| (collection.name.clone(), collection.clone()))
                .collect(),
        }
    }
}

#[async_trait]
impl Hydrate for Hydrator {
    async fn rows(
        &self,
        collection: &CollectionName,
        ids: &[DocId],
        visibility: &Visibility,
        how: Hydration,
    ) -> Result<Vec<Option<Box<RawValue>>>> {
        let collection = self.collections.get(collection).ok_or_else(|| {
            let message = format!("`{collection}` has no definition to read rows by");
            Error::fatal("unknown_collection", message)
        })?;
        let wanted = match how {
            Hydration::Joins => RowsOf::Joined,
            Hydration::None | Hydration::Row => RowsOf::Root,
        };
        joins::read(&self.assembler, collection, ids, visibility, wanted).await
    }
}

/// The columns that a collection declares as fields of its root, each once, in their order.
fn columns(collection: &Collection) -> Vec<(String, Part)> {
    columns_of(&collection.fields)
}

/// The columns that fields of one object declare, each once, in their order. An expression is no column.
fn columns_of(fields: &[Field]) -> Vec<(String, Part)> {
    let mut shown: Vec<(String, Part)> = Vec::new();
    for field in fields {
        let (column, part) = match &field.content {
            Content::Column { column, .. } if Expression::of_column(column).is_some() => continue,
            Content::Column { column, .. } => (column, Part::Whole),
            Content::Json { column, fields } => (column, Part::Members(fields.clone())),
            Content::Joined { .. } | Content::Values { .. } => continue,
        };
        add(&mut shown, column.clone(), part);
    }
    shown
}

/// Adds a column to those that are shown, or more of one that is there.
fn add(shown: &mut Vec<(String, Part)>, column: String, part: Part) {
    match (shown.iter_mut().find(|(known, _)| *known == column), part) {
        (None, part) => shown.push((column, part)),
        (Some((_, Part::Members(known))), Part::Members(more)) => known.extend(more),
        (Some((_, known)), Part::Whole) => *known = Part::Whole,
        (Some((_, Part::Whole)), Part::Members(_)) => {}
    }
}

/// What is shown of a column's value.
fn part_json(value: &Value, part: &Part) -> Box<RawValue> {
    match part {
        Part::Whole => whole(value),
        Part::Members(fields) => members(value, fields),
    }
}

/// A column's value as JSON, with every digit; what JSON has no form for is text.
fn whole(value: &Value) -> Box<RawValue> {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(integer) => integer.to_string(),
        Value::Double(double) if double.is_finite() => serde_json::Value::from(*double).to_string(),
        Value::Decimal(text) | Value::Json(text) => text.to_string(),
        Value::Text(_) | Value::Double(_) | Value::Bytes(_) => return quoted(value),
    };
    RawValue::from_string(text).unwrap_or_else(|_| quoted(value))
}

fn quoted(value: &Value) -> Box<RawValue> {
    let text = serde_json::Value::from(value.to_string()).to_string();
    RawValue::from_string(text).expect("a JSON string is JSON")
}

/// The declared members of a JSON object; null for what is none.
fn members(value: &Value, fields: &[Field]) -> Box<RawValue> {
    let null = || RawValue::from_string("null".to_owned()).expect("null is JSON");
    let (Value::Text(text) | Value::Json(text)) = value else {
        return null();
    };
    let Some(text) = declared(text, fields) else {
        return null();
    };
    RawValue::from_string(text).expect("members of JSON make JSON")
}

fn declared(text: &str, fields: &[Field]) -> Option<String> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let mut shown: Vec<(&str, String)> = Vec::new();
    for field in fields {
        let (name, inner) = match &field.content {
            Content::Column { column, .. } => (column, None),
            Content::Json { column, fields } => (column, Some(fields)),
            Content::Joined { .. } | Content::Values { .. } => continue,
        };
        let Some(member) = object
            .get(name)
            .filter(|_| !shown.iter().any(|(known, _)| known == name))
        else {
            continue;
        };
        let json = match inner {
            None => member.get().to_owned(),
            Some(fields) => declared(member.get(), fields).unwrap_or_else(|| "null".to_owned()),
        };
        shown.push((name, json));
    }
    let members = shown
        .iter()
        .map(|(name, json)| format!("{}:{json}", serde_json::Value::from(*name)));
    Some(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
}

fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|_| Error::fatal("bad_row", "a row could not be written as JSON"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use instep_core::Source;
    use instep_sources::SqliteSource;
    use rusqlite::Connection;

    use super::*;
    use crate::config::{Config, Schemas};

    const SCHEMA: &str = "
        create table owner (id integer primary key, name text);
        create table item (a integer, b text, title text, hidden text, extra json, price decimal(10,2),
                           readers text, owner_id integer references owner (id), primary key (a, b)) without rowid;
        create table share (id integer primary key, a integer, b text, who_id integer references owner (id),
                            foreign key (a, b) references item (a, b));
        insert into owner values (1, 'ann'), (2, 'bob'), (3, null);
        insert into item values
            (1, 'x', 'One', 'h', '{\"size\": 1.10, \"cost\": 5, \"deep\": {\"in\": 1, \"out\": 2}}', '12.50', '[\"ann\"]', 1),
            (1, 'y,z', 'Two', 'h', null, '3', '[\"bob\", 7]', 2),
            (2, 'x', 'Three', 'h', '[1]', null, 'ann', 3);
        insert into share values (1, 1, 'x', 2), (2, 1, 'x', 1), (3, 2, 'x', 2), (4, 2, 'x', 3);
    ";

    async fn hydrator(readers: &str, folder: &Path) -> Hydrator {
        let path = folder.join("db.sqlite");
        if !path.exists() {
            Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        }
        let text = format!(
            "[source.db]\nurl = \"sqlite:db.sqlite\"\n[collection.item]\nroot = \"item\"\n{readers}\n[collection.item.fields]\nname = {{ type = \"text\", from = \"title\" }}\nprice = {{}}\nparts = {{ type = \"object\", from = \"extra\", fields = [\"size\"] }}\n\"parts.deep\" = {{ type = \"object\", fields = [\"in\"] }}\nowner = {{ table = \"owner\", fields = [\"name\"] }}\n"
        );
        let config = Config::parse(&folder.join("instep.toml"), text, &|_| None).unwrap();
        let source: Arc<dyn Source> = Arc::new(SqliteSource::open("db".into(), path).unwrap());
        let schemas = Schemas::from([("db".into(), source.reader().tables().await.unwrap())]);
        let collections = config.collections(&schemas).unwrap();
        let sources = HashMap::from([("db".into(), source)]);
        let assembler = Arc::new(Assembler::new(sources, collections.clone()).unwrap());
        Hydrator::new(assembler, &collections)
    }

    async fn read(hydrator: &Hydrator, ids: &[&str], visibility: Visibility) -> Vec<Option<String>> {
        let ids: Vec<DocId> = ids.iter().map(|id| DocId::parse(id).unwrap()).collect();
        let rows = hydrator
            .rows(&"item".into(), &ids, &visibility, Hydration::Row)
            .await
            .unwrap();
        rows.into_iter()
            .map(|row| row.map(|row| row.get().to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn rows_come_in_the_order_of_hits_with_declared_columns_alone() {
        let folder = tempfile::tempdir().unwrap();
        let hydrator = hydrator("public = true", folder.path()).await;
        let ids = ["2,x", "1,x", "9,x", "nonsense", "1,y\\,z", "1,x", "a\\!0"];
        let rows = read(&hydrator, &ids, Visibility::of(None, &[])).await;
        let one = r#"{"a":1,"b":"x","title":"One","price":12.5,"extra":{"size":1.10,"deep":{"in":1}}}"#;
        let two = r#"{"a":1,"b":"y,z","title":"Two","price":3,"extra":null}"#;
        let three = r#"{"a":2,"b":"x","title":"Three","price":null,"extra":null}"#;
        let expected = [Some(three), Some(one), None, None, Some(two), Some(one), None];
        let rows: Vec<Option<&str>> = rows.iter().map(Option::as_deref).collect();
        assert_eq!(rows, expected);
    }

    #[tokio::test]
    async fn readers_are_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let ids = ["1,x", "1,y\\,z", "2,x"];
        let column = "readers = \"readers\"";
        // Through a table that hangs on the item, and on to the owners it names.
        let joined = "readers = { table = \"owner\", through = \"share\", values = \"name\" }";
        let owner = "readers = { table = \"owner\", values = \"name\" }";
        for (rule, caller, seen) in [
            (column, "ann", [true, false, false]),
            (column, "bob", [false, true, false]),
            (column, "7", [false, true, false]),
            (column, "", [false, false, false]),
            (owner, "ann", [true, false, false]),
            (owner, "bob", [false, true, false]),
            (joined, "ann", [true, false, false]),
            (joined, "bob", [true, false, true]),
            (joined, "eve", [false, false, false]),
        ] {
            let hydrator = hydrator(rule, folder.path()).await;
            let rows = read(&hydrator, &ids, Visibility::of(Some(caller), &[])).await;
            let found: Vec<bool> = rows.iter().map(Option::is_some).collect();
            assert_eq!(found, seen, "{rule} for {caller}");
            let all = read(&hydrator, &ids, Visibility::Everything).await;
            assert!(all.iter().all(Option::is_some), "{rule}");
        }
    }

    #[test]
    fn values_keep_every_digit() {
        let cases = [
            (
                Value::Decimal("12345678901234567890.10".into()),
                "12345678901234567890.10",
            ),
            (Value::Decimal("NaN".into()), "\"NaN\""),
            (Value::Double(f64::INFINITY), "\"inf\""),
            (Value::Double(0.5), "0.5"),
            (Value::Bytes(vec![1, 255].into()), "\"01ff\""),
            (Value::text("a\"b"), "\"a\\\"b\""),
            (Value::Json("{\"a\": 1}".into()), "{\"a\": 1}"),
        ];
        for (value, expected) in cases {
            assert_eq!(whole(&value).get(), expected);
        }
    }
}
