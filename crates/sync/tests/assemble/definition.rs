//! Short ways to write tables, join trees and fields.

use std::collections::HashMap;
use std::sync::Arc;

use instep_core::{
    Builder, Built, Collection, Column, ColumnKind, Condition, Content, DocId, Document, Field, FieldType,
    Key, Language, Languages, Node, NodeId, OrderBy, ReadersFrom, ReadersRule, SourceName, TableSchema,
    Value,
};
use instep_sync::Assembler;

use super::memory::Memory;
use super::now;

pub(crate) const SOURCE: &str = "db";

/// A table; its first `key` columns are the primary key. Columns are `name:kind`, of integers without a kind.
pub(crate) fn table(name: &str, key: usize, columns: &[&str]) -> TableSchema {
    let column = |text: &&str| {
        let (name, kind) = text.split_once(':').unwrap_or((text, "int"));
        let declared = kind.to_owned();
        let kind = match kind {
            "int" => ColumnKind::Integer,
            "text" | "citext" => ColumnKind::Text,
            "decimal" => ColumnKind::Decimal,
            "double" => ColumnKind::Double,
            "json" => ColumnKind::Json,
            "bytes" => ColumnKind::Bytes,
            "any" => ColumnKind::Any,
            other => panic!("unknown kind {other}"),
        };
        Column {
            name: name.to_owned(),
            kind,
            declared,
            nullable: true,
        }
    };
    let columns: Vec<_> = columns.iter().map(column).collect();
    TableSchema {
        name: name.into(),
        primary_key: columns[..key].iter().map(|column| column.name.clone()).collect(),
        columns,
        foreign_keys: Vec::new(),
        indexes: Vec::new(),
    }
}

/// A collection that grows node by node.
pub(crate) struct Definition {
    tables: Vec<TableSchema>,
    pub(crate) collection: Collection,
}

impl Definition {
    pub(crate) fn new(tables: &[TableSchema], root: &str) -> Self {
        let schema = tables
            .iter()
            .find(|table| table.name.as_str() == root)
            .unwrap()
            .clone();
        let mut definition = Definition {
            tables: tables.to_vec(),
            collection: Collection {
                name: "doc".into(),
                source: SOURCE.into(),
                nodes: Vec::new(),
                root: schema,
                fields: Vec::new(),
                language: Languages::Fixed(Language::unspecified()),
                readers: ReadersRule::Public,
                debounce: std::time::Duration::ZERO,
                purge: None,
            },
        };
        definition.node(None, root, &[], false);
        definition
    }

    fn node(&mut self, parent: Option<NodeId>, table: &str, on: &[(&str, &str)], many: bool) -> NodeId {
        let schema = self
            .tables
            .iter()
            .find(|schema| schema.name.as_str() == table)
            .unwrap();
        let pair = |(up, down): &(&str, &str)| ((*up).to_owned(), (*down).to_owned());
        self.collection.nodes.push(Node {
            alias: format!("{table}_{}", self.collection.nodes.len()),
            table: schema.name.clone(),
            key: schema.primary_key.clone(),
            parent,
            on: on.iter().map(pair).collect(),
            many,
            order: Vec::new(),
            condition: None,
        });
        self.collection.nodes.len() - 1
    }

    pub(crate) fn one(&mut self, parent: NodeId, table: &str, on: &[(&str, &str)]) -> NodeId {
        self.node(Some(parent), table, on, false)
    }

    pub(crate) fn many(&mut self, parent: NodeId, table: &str, on: &[(&str, &str)]) -> NodeId {
        self.node(Some(parent), table, on, true)
    }

    /// Orders a node by columns, `-` before those that descend.
    pub(crate) fn order(&mut self, node: NodeId, columns: &[&str]) {
        let by = |column: &&str| OrderBy {
            column: column.trim_start_matches('-').to_owned(),
            descending: column.starts_with('-'),
        };
        self.collection.nodes[node].order = columns.iter().map(by).collect();
    }

    /// Only rows whose column is true belong to a node.
    pub(crate) fn condition(&mut self, node: NodeId, column: &str) {
        self.collection.nodes[node].condition = Some(Condition::parse(column).unwrap());
    }

    pub(crate) fn readers(&mut self, allow: Vec<ReadersFrom>, deny: Vec<ReadersFrom>) {
        self.collection.readers = ReadersRule::Rows { allow, deny };
    }

    pub(crate) fn fields(mut self, fields: Vec<Field>) -> Collection {
        self.collection.fields = fields;
        self.collection
    }
}

pub(crate) fn column(name: &str, kind: FieldType) -> Field {
    field(
        name,
        Content::Column {
            column: name.to_owned(),
            kind,
            array: false,
        },
    )
}

pub(crate) fn field(name: &str, content: Content) -> Field {
    Field {
        name: name.to_owned(),
        content,
    }
}

pub(crate) fn object(name: &str, node: NodeId, fields: Vec<Field>) -> Field {
    field(
        name,
        Content::Joined {
            node,
            many: false,
            fields,
        },
    )
}

pub(crate) fn objects(name: &str, node: NodeId, fields: Vec<Field>) -> Field {
    field(
        name,
        Content::Joined {
            node,
            many: true,
            fields,
        },
    )
}

pub(crate) fn value(name: &str, node: NodeId, column: &str) -> Field {
    field(
        name,
        Content::Values {
            node,
            many: false,
            column: column.to_owned(),
            kind: FieldType::Keyword,
        },
    )
}

pub(crate) fn values(name: &str, node: NodeId, column: &str) -> Field {
    field(
        name,
        Content::Values {
            node,
            many: true,
            column: column.to_owned(),
            kind: FieldType::Keyword,
        },
    )
}

/// A database with these rows.
pub(crate) fn database(tables: &[TableSchema], rows: &[(&str, Vec<Value>)]) -> Arc<Memory> {
    let memory = Memory::new(tables.to_vec());
    let writes = rows
        .iter()
        .map(|(table, row)| super::memory::Write::Put((*table).into(), row.clone()));
    memory.commit(&[], writes.collect());
    Arc::new(memory)
}

pub(crate) fn assembler(memory: &Arc<Memory>, collections: Vec<Collection>) -> Assembler {
    let source: Arc<dyn instep_core::Source> = memory.clone();
    let sources = HashMap::from([(SourceName::from(SOURCE), source)]);
    Assembler::new(sources, collections).unwrap()
}

pub(crate) fn id(parts: Vec<Value>) -> DocId {
    DocId::naming(&Key::new(parts))
}

/// What these ids of the collection `doc` build.
pub(crate) fn built(assembler: &Assembler, ids: &[DocId]) -> Vec<Built> {
    now(assembler.build(&"doc".into(), ids)).unwrap()
}

/// The document with this key, which must have one.
pub(crate) fn document(assembler: &Assembler, key: impl Into<Value>) -> Document {
    match built(assembler, &[id(vec![key.into()])]).remove(0) {
        Built::Document(document, _) => document,
        other => panic!("no document: {other:?}"),
    }
}

/// A row: integers, texts, and `()` for NULL.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::assemble::definition::Cell::from($value).0),*] };
}
pub(crate) use row;

/// A value of a row.
pub(crate) struct Cell(pub(crate) Value);

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Cell(Value::Int(value))
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Cell(Value::text(value))
    }
}

impl From<()> for Cell {
    fn from((): ()) -> Self {
        Cell(Value::Null)
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Cell(value)
    }
}
