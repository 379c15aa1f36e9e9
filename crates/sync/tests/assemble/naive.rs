//! Builds documents straight from their definition, row by row: no batches, no plan.
//!
//! It knows integers, texts and NULL; how other values become fields is checked where the expected text is written
//! down.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use instep_core::{
    Collection, Content, DocId, Field, NodeId, OrderBy, Reader, Readers, ReadersFrom, ReadersRule, Value,
};

use super::memory::{Table, Tables};

/// Each document of a collection: its source and its readers.
pub(crate) fn documents(collection: &Collection, tables: &Tables) -> BTreeMap<DocId, (String, Readers)> {
    let naive = Naive { collection, tables };
    let root = &tables[&collection.root.name];
    let document = |row: &Vec<Value>| {
        let id = DocId::naming(&root.key_of(row));
        (id, (naive.object(&collection.fields, 0, row), naive.readers(row)))
    };
    let rows = root.rows.values().filter(|row| naive.meets(0, row));
    rows.map(document).collect()
}

struct Naive<'a> {
    collection: &'a Collection,
    tables: &'a Tables,
}

type Row = [Value];

impl<'a> Naive<'a> {
    fn table(&self, node: NodeId) -> &'a Table {
        &self.tables[&self.collection.nodes[node].table]
    }

    fn value<'r>(&self, node: NodeId, row: &'r Row, column: &str) -> &'r Value {
        &row[self.table(node).column(column)]
    }

    fn meets(&self, node: NodeId, row: &Row) -> bool {
        let condition = self.collection.nodes[node].condition.as_ref();
        condition
            .is_none_or(|column| !matches!(self.value(node, row, column.sql()), Value::Null | Value::Int(0)))
    }

    fn object(&self, fields: &[Field], node: NodeId, row: &Row) -> String {
        let mut members = Vec::new();
        for field in fields {
            if let Some(content) = self.content(&field.content, node, row) {
                members.push(format!("{}:{content}", json(&field.name)));
            }
        }
        format!("{{{}}}", members.join(","))
    }

    fn content(&self, content: &Content, from: NodeId, row: &Row) -> Option<String> {
        match content {
            Content::Column { column, .. } => Some(shown(self.value(from, row, column))),
            Content::Joined { node, many, fields } => {
                let rows = self.rows(from, row, *node);
                let mut objects = rows.iter().map(|row| self.object(fields, *node, row));
                match many {
                    true => Some(format!("[{}]", objects.collect::<Vec<_>>().join(","))),
                    false => objects.next(),
                }
            }
            Content::Values {
                node, many, column, ..
            } => {
                let rows = self.rows(from, row, *node);
                let mut values = rows.iter().map(|row| self.value(*node, row, column));
                match many {
                    true => {
                        let values = values.filter(|value| !value.is_null()).map(shown);
                        Some(format!("[{}]", values.collect::<Vec<_>>().join(",")))
                    }
                    false => values.next().map(shown),
                }
            }
            Content::Json { .. } => panic!("JSON is checked by written documents"),
        }
    }

    /// The rows of `to` that belong to a row of `from`, in order. What is found through links is ordered by its own
    /// columns; without such an order, and where they are equal, the links' order stands.
    fn rows(&self, from: NodeId, row: &Row, to: NodeId) -> Vec<&'a Row> {
        let mut found = self.descend(from, row, to);
        let node = &self.collection.nodes[to];
        if node.parent != Some(from) {
            found.sort_by(|a, b| self.compare(to, &node.order, a, b));
        }
        found
    }

    fn descend(&self, from: NodeId, row: &Row, to: NodeId) -> Vec<&'a Row> {
        let parent = self.collection.nodes[to].parent.unwrap();
        if parent == from {
            return self.children(row, to);
        }
        let links = self.descend(from, row, parent);
        links.iter().flat_map(|link| self.children(link, to)).collect()
    }

    fn children(&self, row: &Row, to: NodeId) -> Vec<&'a Row> {
        let node = &self.collection.nodes[to];
        let parent = node.parent.unwrap();
        let belongs = |child: &&Vec<Value>| {
            node.on.iter().all(|(up, down)| {
                let up = self.value(parent, row, up);
                !up.is_null() && up == self.value(to, child, down)
            })
        };
        let table = self.table(to);
        let mut found: Vec<&Row> = table
            .rows
            .values()
            .filter(belongs)
            .map(|row| &row[..])
            .filter(|row| self.meets(to, row))
            .collect();
        found.sort_by(|a, b| {
            let by_key = || table.key_of(a).cmp(&table.key_of(b));
            self.compare(to, &node.order, a, b).then_with(by_key)
        });
        found
    }

    fn compare(&self, node: NodeId, order: &[OrderBy], a: &Row, b: &Row) -> Ordering {
        let mut ordering = Ordering::Equal;
        for by in order {
            let (a, b) = (self.value(node, a, &by.column), self.value(node, b, &by.column));
            ordering = ordering.then(if by.descending { b.cmp(a) } else { a.cmp(b) });
        }
        ordering
    }

    fn readers(&self, row: &Row) -> Readers {
        match &self.collection.readers {
            ReadersRule::Public => Readers::Public,
            ReadersRule::Rows { allow, deny } => {
                let named =
                    |from: &[ReadersFrom]| from.iter().flat_map(|from| self.named(row, from)).collect();
                Readers::of(named(allow), named(deny))
            }
        }
    }

    fn named(&self, row: &Row, from: &ReadersFrom) -> Vec<Reader> {
        match from {
            ReadersFrom::Array(column) => match self.value(0, row, column) {
                Value::Null => Vec::new(),
                Value::Text(list) => {
                    let inside = list.trim_start_matches('[').trim_end_matches(']');
                    let names = inside.split(',').map(|name| name.trim_matches('"').to_owned());
                    names.map(Reader::Named).collect()
                }
                other => panic!("no readers: {other:?}"),
            },
            ReadersFrom::Subject(column) => match self.value(0, row, column) {
                Value::Null => Vec::new(),
                value => vec![Reader::Subject(value.to_string())],
            },
            ReadersFrom::Joined {
                node,
                column,
                subject,
            } => {
                let rows = self.rows(0, row, *node);
                let values = rows.iter().map(|row| self.value(*node, row, column));
                let texts = values.filter(|value| !value.is_null()).map(Value::to_string);
                let reader = if *subject { Reader::Subject } else { Reader::Named };
                texts.map(reader).collect()
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Int(integer) => integer.to_string(),
        Value::Text(text) => json(text),
        other => panic!("the naive builder does not know {other:?}"),
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
