//! The root row of each hit, for `?hydrate=joins` with the rows joined to it, as a tree under the definition's own aliases.
//!
//! Of a joined row only columns are shown that the collection declares as fields there; a join that only readers need is
//! not shown at all. Joined rows stand in `_joins`, so that no alias can hide a column.

use std::collections::HashMap;

use instep_core::{Collection, Content, DocId, Field, NodeId, Result, ResultExt, Visibility};
use instep_sync::{Assembler, RowTree, RowsOf};
use serde_json::value::RawValue;

use super::{Part, add, columns, part_json, raw};

/// Where joined rows stand in a row.
const JOINS: &str = "_joins";

/// The rows of these documents that the caller may see, with what is joined to them.
pub(super) async fn read(
    assembler: &Assembler,
    collection: &Collection,
    ids: &[DocId],
    visibility: &Visibility,
    wanted: RowsOf,
) -> Result<Vec<Option<Box<RawValue>>>> {
    let trees = assembler.trees(&collection.name, ids, wanted).await;
    let trees = trees.context(|| format!("reading the rows behind hits of `{}`", collection.name))?;
    let shown = Shown::of(
        collection,
        &assembler.columns_read(&collection.name, wanted)?,
        wanted,
    );
    trees
        .into_iter()
        .map(|root| match root {
            Some(root) if visibility.admits(&root.readers) => raw(shown.json(&root.tree)).map(Some),
            Some(_) | None => Ok(None),
        })
        .collect()
}

/// What is shown of each node.
struct Shown<'a> {
    collection: &'a Collection,
    /// The columns, each with its place among those that are read.
    columns: Vec<Vec<(String, usize, Part)>>,
    /// Whether the node, or one below it, has anything to show.
    is_shown: Vec<bool>,
}

impl<'a> Shown<'a> {
    fn of(collection: &'a Collection, read: &[Vec<String>], wanted: RowsOf) -> Self {
        let mut declared: HashMap<NodeId, Vec<(String, Part)>> = HashMap::new();
        let key = collection.root.primary_key.iter();
        let mut root: Vec<(String, Part)> = key.map(|column| (column.clone(), Part::Whole)).collect();
        columns(collection)
            .into_iter()
            .for_each(|(column, part)| add(&mut root, column, part));
        declared.insert(0, root);
        if wanted == RowsOf::Joined {
            joined(&collection.fields, &mut declared);
        }
        let place = |node: NodeId, (column, part): (String, Part)| {
            let at = read[node].iter().position(|known| *known == column)?;
            Some((column, at, part))
        };
        let columns: Vec<Vec<_>> = (0..collection.nodes.len())
            .map(|node| {
                let of_node = declared.remove(&node).unwrap_or_default().into_iter();
                of_node.filter_map(|column| place(node, column)).collect()
            })
            .collect();
        let mut is_shown: Vec<bool> = columns.iter().map(|columns| !columns.is_empty()).collect();
        // A parent stands before its children.
        for (id, node) in collection.nodes.iter().enumerate().rev() {
            if let Some(parent) = node.parent
                && is_shown[id]
            {
                is_shown[parent] = true;
            }
        }
        Shown {
            collection,
            columns,
            is_shown,
        }
    }

    fn json(&self, row: &RowTree) -> String {
        let columns = self.columns[row.node].iter();
        let mut members: Vec<String> = columns
            .map(|(column, at, part)| member(column, part_json(&row.values[*at], part).get()))
            .collect();
        let joined = row.joined.iter().filter(|(node, _)| self.is_shown[*node]);
        let joined: Vec<String> = joined
            .map(|(node, rows)| {
                let definition = &self.collection.nodes[*node];
                let mut rows = rows.iter().map(|row| self.json(row));
                let json = match definition.many {
                    true => format!("[{}]", rows.collect::<Vec<_>>().join(",")),
                    false => rows.next().unwrap_or_else(|| "null".to_owned()),
                };
                member(&definition.alias, &json)
            })
            .collect();
        if !joined.is_empty() {
            members.push(member(JOINS, &format!("{{{}}}", joined.join(","))));
        }
        format!("{{{}}}", members.join(","))
    }
}

fn member(name: &str, json: &str) -> String {
    format!("{}:{json}", serde_json::Value::from(name))
}

/// The columns of joined nodes that are declared as fields, each once, in their order.
fn joined(fields: &[Field], declared: &mut HashMap<NodeId, Vec<(String, Part)>>) {
    for field in fields {
        match &field.content {
            Content::Column { .. } | Content::Json { .. } => {}
            Content::Values { node, column, .. } => {
                add(declared.entry(*node).or_default(), column.clone(), Part::Whole);
            }
            Content::Joined { node, fields, .. } => {
                let shown = declared.entry(*node).or_default();
                for (column, part) in super::columns_of(fields) {
                    add(shown, column, part);
                }
                joined(fields, declared);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use instep_core::{
        ChangeFeed, Column, Expression, Fetch, Finding, Former, Key, Position, RowReader, Rows, Snapshot,
        Source, TableName, TableSchema, Watched,
    };
    use instep_gateway::{Hydrate, Hydration};
    use instep_sources::SqliteSource;
    use rusqlite::Connection;

    use super::super::Hydrator;
    use super::*;
    use crate::config::{Config, Schemas};

    /// A source that remembers which tables were read.
    #[derive(Clone)]
    struct Counting {
        inner: Arc<SqliteSource>,
        tables: Arc<Mutex<Vec<TableName>>>,
    }

    #[async_trait]
    impl Source for Counting {
        async fn follow(&self, watched: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
            self.inner.follow(watched, from).await
        }
        async fn head(&self) -> Result<Option<Position>> {
            self.inner.head().await
        }
        fn reached(&self, position: &Position, head: &Position) -> bool {
            self.inner.reached(position, head)
        }
        fn reader(&self) -> &dyn RowReader {
            self
        }
        async fn check(&self, watched: &[Watched]) -> Result<Vec<Finding>> {
            self.inner.check(watched).await
        }
        async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>> {
            self.inner.former(watched).await
        }
    }

    #[async_trait]
    impl RowReader for Counting {
        async fn tables(&self) -> Result<Vec<TableSchema>> {
            self.inner.reader().tables().await
        }
        async fn describe(&self, table: &TableName, expression: &Expression) -> Result<Column> {
            self.inner.reader().describe(table, expression).await
        }

        async fn scan(
            &self,
            table: &TableSchema,
            condition: Option<&Expression>,
            after: Option<&Key>,
            n: usize,
        ) -> Result<Vec<Key>> {
            self.inner.reader().scan(table, condition, after, n).await
        }
        async fn count(&self, table: &TableName) -> Result<u64> {
            self.inner.reader().count(table).await
        }
        async fn snapshot(&self, at_least: Option<&Position>) -> Result<Box<dyn Snapshot>> {
            let inner = self.inner.reader().snapshot(at_least).await?;
            let tables = self.tables.clone();
            Ok(Box::new(CountingSnapshot { inner, tables }))
        }
    }

    struct CountingSnapshot {
        inner: Box<dyn Snapshot>,
        tables: Arc<Mutex<Vec<TableName>>>,
    }

    #[async_trait]
    impl Snapshot for CountingSnapshot {
        async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
            self.tables.lock().unwrap().push(wanted.table.clone());
            self.inner.fetch(wanted).await
        }
    }

    const SCHEMA: &str = "
        create table person (id integer primary key, name text, secret text);
        create table item (id integer primary key, title text, hidden text, readers text, owner_id integer references person (id));
        create table note (id integer primary key, item_id integer references item (id), author_id integer references person (id),
                           body text, hidden text);
        create table label (id integer primary key, name text);
        create table item_label (item_id integer references item (id), label_id integer references label (id),
                                 primary key (item_id, label_id));
        create table share (id integer primary key, item_id integer references item (id), who text);
        insert into person values (1, 'ann', 'x-ann'), (2, 'bob', 'x-bob');
        insert into item values (1, 'One', 'x', '[\"ann\"]', 1), (2, 'Two', 'x', '[\"bob\"]', null), (3, 'Three', 'x', 'nonsense', 2);
        insert into note values (11, 1, 2, 'b', 'x'), (12, 1, null, 'a', 'x'), (21, 2, 1, 'c', 'x');
        insert into label values (1, 'red'), (2, 'new');
        insert into item_label values (1, 2), (1, 1), (3, 1);
        insert into share values (1, 1, 'ann'), (2, 2, 'bob'), (3, 3, 'ann'), (4, 3, 'bob');";

    const FIELDS: &str = "[collection.item.fields]\ntitle = \"text\"\n\
        owner = { table = \"person\", as = \"owner\", on = \"item.owner_id = owner.id\", fields = [\"name\"] }\n\
        notes = { table = \"note\", many = true, order = \"body\", fields = [\"body\"] }\n\
        \"notes.author\" = { table = \"person\", as = \"author\", on = \"note.author_id = author.id\", fields = [\"name\"] }\n\
        labels = { table = \"label\", through = \"item_label\", many = true, values = \"name\" }\n";

    async fn hydrator(readers: &str, folder: &Path) -> (Hydrator, Arc<Mutex<Vec<TableName>>>) {
        let path = folder.join("db.sqlite");
        if !path.exists() {
            Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        }
        let text = format!(
            "[source.db]\nurl = \"sqlite:db.sqlite\"\n[collection.item]\nroot = \"item\"\n{readers}\n{FIELDS}"
        );
        let config = Config::parse(&folder.join("instep.toml"), text, &|_| None).unwrap();
        let tables = Arc::new(Mutex::default());
        let source: Arc<dyn Source> = Arc::new(Counting {
            inner: Arc::new(SqliteSource::open("db".into(), path).unwrap()),
            tables: tables.clone(),
        });
        let schemas = Schemas::from([("db".into(), source.reader().tables().await.unwrap())]);
        let collections = config.collections(&schemas).unwrap();
        let sources = HashMap::from([("db".into(), source)]);
        let assembler = Arc::new(Assembler::new(sources, collections.clone()).unwrap());
        (Hydrator::new(assembler, &collections), tables)
    }

    async fn read(hydrator: &Hydrator, ids: &[&str], visibility: Visibility) -> Vec<Option<String>> {
        let ids: Vec<DocId> = ids.iter().map(|id| DocId::parse(id).unwrap()).collect();
        let rows = hydrator
            .rows(&"item".into(), &ids, &visibility, Hydration::Joins)
            .await
            .unwrap();
        rows.into_iter()
            .map(|row| row.map(|row| row.get().to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn joined_rows_stand_under_their_aliases_with_declared_columns_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (hydrator, tables) = hydrator("public = true", folder.path()).await;
        tables.lock().unwrap().clear();
        let ids = ["2", "9", "1", "nonsense", "2", "3"];
        let rows = read(&hydrator, &ids, Visibility::of(None, &[])).await;
        let one = r#"{"id":1,"title":"One","_joins":{"owner":{"name":"ann"},"note":[{"body":"a","_joins":{"author":null}},{"body":"b","_joins":{"author":{"name":"bob"}}}],"item_label":[{"_joins":{"label":{"name":"red"}}},{"_joins":{"label":{"name":"new"}}}]}}"#;
        let two = r#"{"id":2,"title":"Two","_joins":{"owner":null,"note":[{"body":"c","_joins":{"author":{"name":"ann"}}}],"item_label":[]}}"#;
        let three = r#"{"id":3,"title":"Three","_joins":{"owner":{"name":"bob"},"note":[],"item_label":[{"_joins":{"label":{"name":"red"}}}]}}"#;
        let normal =
            |row: Option<&str>| row.map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        let found: Vec<_> = rows.iter().map(|row| normal(row.as_deref())).collect();
        let expected = [Some(two), None, Some(one), None, Some(two), Some(three)];
        assert_eq!(found, expected.map(normal));
        // One query for each table of the definition, whatever the number of hits; one that is joined twice, twice.
        let mut read = tables.lock().unwrap().clone();
        read.sort();
        let names: Vec<&str> = read.iter().map(TableName::as_str).collect();
        assert_eq!(names, ["item", "item_label", "label", "note", "person", "person"]);
    }

    #[tokio::test]
    async fn readers_are_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let column = "readers = \"readers\"";
        let joined = "readers = { table = \"share\", values = \"who\" }";
        for (rule, caller, seen) in [
            (column, "ann", [true, false, false]),
            (column, "bob", [false, true, false]),
            (joined, "ann", [true, false, true]),
            (joined, "bob", [false, true, true]),
            (joined, "eve", [false, false, false]),
        ] {
            let (hydrator, _) = hydrator(rule, folder.path()).await;
            let rows = read(&hydrator, &["1", "2", "3"], Visibility::of(Some(caller), &[])).await;
            let found: Vec<bool> = rows.iter().map(Option::is_some).collect();
            assert_eq!(found, seen, "{rule} for {caller}");
            let all = read(&hydrator, &["1", "2", "3"], Visibility::Everything).await;
            assert!(all.iter().all(Option::is_some), "{rule}");
            assert!(
                all.iter()
                    .flatten()
                    .all(|row| !row.contains("share") && !row.contains("who"))
            );
        }
    }
}
