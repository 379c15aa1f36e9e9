//! The rows behind hits, as they are now: what `?hydrate=true` adds; with what is joined to them (`joins.rs`), what
//! `?hydrate=joins` does.
//!
//! Guarantees: a row's columns are shown only as far as the collection declares them as fields of the root (a JSON
//! column only its declared members), beside its key; the row's readers are asked again, as they are in the same
//! snapshot, and one that cannot be understood admits nobody. One fetch reads all rows of a call, and one more each
//! table on the way to joined readers.

mod joins;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Collection, CollectionName, Condition, Content, DocId, Error, Expression, Fetch, Field, Key, Node,
    NodeId, Reader, Readers, ReadersFrom, ReadersRule, Result, ResultExt, Rows, Snapshot, Source, SourceName,
    Value, Visibility,
};
use instep_gateway::{Hydrate, Hydration};
use instep_sync::Assembler;
use serde_json::value::RawValue;

/// Reads the current rows of some collections.
pub(crate) struct Hydrator {
    assembler: Arc<Assembler>,
    sources: HashMap<SourceName, Arc<dyn Source>>,
    collections: HashMap<CollectionName, Shown>,
}

/// A collection, and what is shown of its root rows.
struct Shown {
    collection: Collection,
    columns: Vec<(String, Part)>,
}

/// How much of a column is shown.
#[derive(Clone)]
enum Part {
    Whole,
    /// Members of a JSON column.
    Members(Vec<Field>),
}

impl Hydrator {
    /// Reads rows of these collections from these sources; by the builder where joined rows are wanted.
    pub(crate) fn new(
        assembler: Arc<Assembler>,
        sources: HashMap<SourceName, Arc<dyn Source>>,
        collections: &[Collection],
    ) -> Self {
        let shown = |collection: &Collection| Shown {
            columns: columns(collection),
            collection: collection.clone(),
        };
        let collections = collections
            .iter()
            .map(|collection| (collection.name.clone(), shown(collection)))
            .collect();
        Hydrator {
            assembler,
            sources,
            collections,
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
        let unknown = |what: &str| {
            Error::fatal(
                "unknown_collection",
                format!("`{collection}` has no {what} to read rows from"),
            )
        };
        let shown = self
            .collections
            .get(collection)
            .ok_or_else(|| unknown("definition"))?;
        match how {
            Hydration::Joins => {
                return joins::read(&self.assembler, &shown.collection, ids, visibility).await;
            }
            Hydration::None | Hydration::Row => {}
        }
        let source = self
            .sources
            .get(&shown.collection.source)
            .ok_or_else(|| unknown("source"))?;
        let mut snapshot = source.reader().snapshot(None).await?;
        let found = shown
            .read(&mut *snapshot, ids, visibility)
            .await
            .context(|| format!("reading the rows behind hits of `{collection}`"))?;
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }
}

impl Shown {
    /// The rows of these documents that the caller may see.
    async fn read(
        &self,
        snapshot: &mut dyn Snapshot,
        ids: &[DocId],
        visibility: &Visibility,
    ) -> Result<HashMap<DocId, Box<RawValue>>> {
        let root = &self.collection.root;
        let keys: BTreeSet<Vec<Value>> = ids
            .iter()
            .filter(|id| !id.is_stand_in())
            .filter_map(|id| root.key_of(id))
            .map(|key| key.parts().to_vec())
            .collect();
        let mut wanted = Columns::of(root.primary_key.clone());
        for (column, _) in &self.columns {
            wanted.at(column);
        }
        let asked = *visibility != Visibility::Everything;
        // Whoever sees everything need not be looked up.
        let parts: Vec<(&ReadersFrom, bool)> = match &self.collection.readers {
            ReadersRule::Rows { allow, deny } if asked => {
                let allow = allow.iter().map(|from| (from, true));
                allow.chain(deny.iter().map(|from| (from, false))).collect()
            }
            ReadersRule::Public | ReadersRule::Rows { .. } => Vec::new(),
        };
        let places: Vec<Vec<usize>> = parts
            .iter()
            .map(|(from, _)| match from {
                ReadersFrom::Array(column) | ReadersFrom::Subject(column) => vec![wanted.at(column)],
                ReadersFrom::Joined { node, .. } => {
                    let first = self.path(*node)[0];
                    let columns = self.collection.nodes[first].parent_columns();
                    columns.iter().map(|column| wanted.at(column)).collect()
                }
            })
            .collect();
        let condition_at = condition_at(&self.collection.nodes[0], &mut wanted);
        let mut rows = fetch(snapshot, &root.name, wanted.0.clone(), &root.primary_key, keys).await?;
        // A row that left the condition has no document, whatever the index still holds.
        rows.retain(|row| condition_at.is_none_or(|at| Condition::holds(&row[at])));
        let mut named = vec![Some((Vec::new(), Vec::new())); rows.len()];
        for ((from, allows), places) in parts.iter().zip(&places) {
            let readers: Vec<Option<Vec<Reader>>> = match from {
                ReadersFrom::Array(_) => rows.iter().map(|row| listed(&row[places[0]])).collect(),
                ReadersFrom::Subject(_) => {
                    let values = rows.iter().map(|row| &row[places[0]]);
                    let reader = |value: &Value| (!value.is_null()).then(|| from.reader(value));
                    values
                        .map(|value| Some(reader(value).into_iter().collect()))
                        .collect()
                }
                ReadersFrom::Joined { node, column, .. } => {
                    let by = rows.iter().map(|row| tuple(row, places)).collect();
                    let values = self.joined(snapshot, &self.path(*node), column, by).await?;
                    let readers =
                        |values: Vec<Value>| values.iter().map(|value| from.reader(value)).collect();
                    values.into_iter().map(|values| Some(readers(values))).collect()
                }
            };
            for (row, readers) in named.iter_mut().zip(readers) {
                match (row.as_mut(), readers) {
                    (Some((allow, deny)), Some(readers)) => {
                        let list = if *allows { allow } else { deny };
                        list.extend(readers);
                    }
                    // What cannot be understood admits nobody.
                    (Some(_), None) => *row = None,
                    (None, _) => {}
                }
            }
        }
        let open = !asked || self.collection.readers == ReadersRule::Public;
        let readers = named.into_iter().map(|named| match named {
            _ if open => Readers::Public,
            Some((allow, deny)) => Readers::of(allow, deny),
            None => Readers::nobody(),
        });
        let mut found = HashMap::with_capacity(rows.len());
        for (row, readers) in rows.iter().zip(readers) {
            if visibility.admits(&readers) {
                let key = Key::new(row[..root.primary_key.len()].to_vec());
                found.insert(DocId::naming(&key), self.json(row, &wanted)?);
            }
        }
        Ok(found)
    }

    /// The nodes from the root down to this one, without the root.
    fn path(&self, node: NodeId) -> Vec<NodeId> {
        let mut path = Vec::new();
        let mut at = node;
        while let Some(parent) = self.collection.nodes[at].parent {
            path.push(at);
            at = parent;
        }
        path.reverse();
        path
    }

    /// The values of a column of what is joined to each root row; NULLs are left out.
    async fn joined(
        &self,
        snapshot: &mut dyn Snapshot,
        path: &[NodeId],
        column: &str,
        from: Vec<Vec<Value>>,
    ) -> Result<Vec<Vec<Value>>> {
        let roots = from.len();
        let mut reached: BTreeSet<(usize, Vec<Value>)> = from.into_iter().enumerate().collect();
        for (at, id) in path.iter().enumerate() {
            let node = &self.collection.nodes[*id];
            let next = match path.get(at + 1) {
                Some(next) => self.collection.nodes[*next].parent_columns(),
                None => vec![column.to_owned()],
            };
            let mut wanted = Columns::of(Vec::new());
            let own: Vec<usize> = node
                .own_columns()
                .iter()
                .map(|column| wanted.at(column))
                .collect();
            let next: Vec<usize> = next.iter().map(|column| wanted.at(column)).collect();
            reached.retain(|(_, tuple)| !tuple.iter().any(Value::is_null));
            let condition_at = condition_at(node, &mut wanted);
            let values = reached.iter().map(|(_, tuple)| tuple.clone()).collect();
            let mut rows = fetch(snapshot, &node.table, wanted.0, &node.own_columns(), values).await?;
            rows.retain(|row| condition_at.is_none_or(|at| Condition::holds(&row[at])));
            let mut below: HashMap<Vec<Value>, Vec<Vec<Value>>> = HashMap::new();
            for row in rows.iter() {
                below.entry(tuple(row, &own)).or_default().push(tuple(row, &next));
            }
            let follow = |(root, from): &(usize, Vec<Value>)| {
                let found = below.get(from).into_iter().flatten();
                found.map(|next| (*root, next.clone())).collect::<Vec<_>>()
            };
            reached = reached.iter().flat_map(follow).collect();
        }
        let mut found = vec![Vec::new(); roots];
        for (root, values) in reached {
            found[root].extend(values.into_iter().filter(|value| !value.is_null()));
        }
        Ok(found)
    }

    fn json(&self, row: &[Value], wanted: &Columns) -> Result<Box<RawValue>> {
        let mut object: Vec<(&str, Box<RawValue>)> = Vec::new();
        let key = self
            .collection
            .root
            .primary_key
            .iter()
            .map(|column| (column, &Part::Whole));
        let listed = self.columns.iter().map(|(column, part)| (column, part));
        for (column, part) in key.chain(listed) {
            if object.iter().any(|(known, _)| known == column) {
                continue;
            }
            let at = wanted.0.iter().position(|known| known == column);
            let value = &row[at.expect("every column that is shown was wanted")];
            object.push((column, part_json(value, part)));
        }
        let members = object
            .iter()
            .map(|(column, json)| format!("{}:{json}", serde_json::Value::from(*column)));
        raw(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
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

/// Columns to fetch, each once.
struct Columns(Vec<String>);

impl Columns {
    fn of(columns: Vec<String>) -> Self {
        Columns(columns)
    }

    /// Where a column stands; added when it is new.
    fn at(&mut self, column: &str) -> usize {
        self.0
            .iter()
            .position(|known| known == column)
            .unwrap_or_else(|| {
                self.0.push(column.to_owned());
                self.0.len() - 1
            })
    }
}

/// Where it stands whether a row meets its node's condition.
fn condition_at(node: &Node, wanted: &mut Columns) -> Option<usize> {
    let condition = node.condition.as_ref()?;
    Some(wanted.at(&condition.expression().column()))
}

async fn fetch(
    snapshot: &mut dyn Snapshot,
    table: &instep_core::TableName,
    columns: Vec<String>,
    by: &[String],
    values: BTreeSet<Vec<Value>>,
) -> Result<Rows> {
    if values.is_empty() {
        return Ok(Rows::new(columns.len()));
    }
    let wanted = Fetch {
        table: table.clone(),
        columns,
        by: by.to_vec(),
        values: values.into_iter().collect(),
        page: None,
    };
    snapshot.fetch(&wanted).await
}

fn tuple(row: &[Value], at: &[usize]) -> Vec<Value> {
    at.iter().map(|at| row[*at].clone()).collect()
}

/// The readers in a column; `None` where it is not an array of texts and numbers.
fn listed(value: &Value) -> Option<Vec<Reader>> {
    let text = match value {
        Value::Null => return Some(Vec::new()),
        Value::Text(text) | Value::Json(text) => text,
        Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Decimal(_) | Value::Bytes(_) => {
            return None;
        }
    };
    let names = serde_json::from_str::<Option<Vec<serde_json::Value>>>(text).ok()?;
    let name = |name| match name {
        serde_json::Value::String(name) => Some(Reader::Named(name)),
        serde_json::Value::Number(number) => Some(Reader::Named(number.to_string())),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    };
    names.unwrap_or_default().into_iter().map(name).collect()
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
        let assembler = Arc::new(Assembler::new(sources.clone(), collections.clone()).unwrap());
        Hydrator::new(assembler, sources, &collections)
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
    fn readers_that_are_no_array_admit_nobody() {
        for text in [
            "ann",
            "\"ann\"",
            "{\"ann\": 1}",
            "[\"ann\", null]",
            "[[\"ann\"]]",
            "[\"ann\"",
            "",
        ] {
            assert_eq!(listed(&Value::text(text)), None, "{text}");
        }
        assert_eq!(listed(&Value::Int(1)), None);
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
