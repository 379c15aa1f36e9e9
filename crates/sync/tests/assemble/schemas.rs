//! Random tables, join trees, rows and transactions. Few values, so that joins find rows and rows collide.

use instep_core::{Collection, Field, FieldType, NodeId, ReadersFrom, TableSchema, Value};

use super::definition::{Definition, column, object, objects, table, value, values};
use super::dice::Dice;
use super::memory::{Tables, Write};

const DEEPEST: usize = 4;
const MOST_NODES: usize = 9;
const TEXTS: [&str; 5] = ["x", "y", "a,b", "q\\", "ö\""];

/// One to four tables, with simple and composite keys.
pub(super) fn tables(dice: &mut Dice<'_>) -> Vec<TableSchema> {
    let shape = |at: usize, dice: &mut Dice<'_>| {
        let name = format!("t{at}");
        let rest = ["a", "b", "o", "d:text", "r:text"];
        match dice.below(4) {
            0 | 1 => table(&name, 1, &[&["k"], &rest[..]].concat()),
            2 => table(&name, 2, &[&["k", "l:text"], &rest[..]].concat()),
            _ => table(
                &name,
                2,
                &[&["a", "b"], &["k", "o", "d:text", "r:text"][..]].concat(),
            ),
        }
    };
    (0..1 + dice.below(4)).map(|at| shape(at, dice)).collect()
}

/// A collection over some of the tables.
pub(super) fn collection(name: &str, tables: &[TableSchema], dice: &mut Dice<'_>) -> Collection {
    let root = dice.one(tables).name.clone();
    let mut definition = Definition::new(tables, root.as_str());
    definition.collection.name = name.into();
    if dice.once_in(3) {
        definition.condition(0, "o");
    }
    let fields = grow(&mut definition, tables, 0, 0, dice);
    if dice.once_in(3) {
        return definition.fields(fields);
    }
    let mut places = Vec::new();
    for _ in 0..1 + dice.below(3) {
        places.push(match dice.below(4) {
            0 => ReadersFrom::Array("r".to_owned()),
            1 => ReadersFrom::Subject("d".to_owned()),
            kind => ReadersFrom::Joined {
                node: join(&mut definition, tables, 0, true, dice),
                column: "d".to_owned(),
                subject: kind == 2,
            },
        });
    }
    let deny = if places.len() > 1 {
        vec![places.remove(0)]
    } else {
        Vec::new()
    };
    definition.readers(places, deny);
    definition.fields(fields)
}

/// The fields of a node's object, and the joins below it.
fn grow(
    definition: &mut Definition,
    tables: &[TableSchema],
    node: NodeId,
    depth: usize,
    dice: &mut Dice<'_>,
) -> Vec<Field> {
    let mut fields = vec![column("d", FieldType::Keyword)];
    if dice.once_in(3) {
        fields.push(column("o", FieldType::Long));
    }
    for at in 0..dice.below(3) {
        if depth >= DEEPEST || definition.collection.nodes.len() >= MOST_NODES {
            break;
        }
        let name = format!("f{at}");
        let mut end = node;
        let steps = [1, 1, 2, 3][dice.below(4)];
        for step in 1..=steps {
            let many = dice.once_in(2) || (step == 1 && steps > 1);
            end = join(definition, tables, end, many, dice);
        }
        let below = depth + steps;
        let field = match dice.below(4) {
            0 => value(&name, end, "d"),
            1 => values(&name, end, "d"),
            2 => object(&name, end, grow(definition, tables, end, below, dice)),
            _ => objects(&name, end, grow(definition, tables, end, below, dice)),
        };
        fields.push(field);
    }
    if dice.once_in(2) {
        fields.push(column("a", FieldType::Long));
    }
    fields
}

fn join(
    definition: &mut Definition,
    tables: &[TableSchema],
    parent: NodeId,
    many: bool,
    dice: &mut Dice<'_>,
) -> NodeId {
    let above = definition.collection.nodes[parent].table.clone();
    let above = tables.iter().find(|table| table.name == above).unwrap();
    let below = dice.one(tables);
    let key = |table: &TableSchema| table.primary_key[0].clone();
    let mut pairs = match dice.below(4) {
        0 => vec![("a".to_owned(), key(below))],
        1 => vec![(key(above), "b".to_owned())],
        2 => vec![("b".to_owned(), "a".to_owned())],
        _ => match (above.column("l"), below.column("l")) {
            (Some(_), Some(_)) => vec![("k".to_owned(), "k".to_owned()), ("l".to_owned(), "l".to_owned())],
            (Some(_), None) => vec![("l".to_owned(), "d".to_owned())],
            (None, _) => vec![("d".to_owned(), "d".to_owned())],
        },
    };
    // The whole key of the parent, so that a row names it without a look.
    if dice.once_in(4) && above.primary_key == ["a", "b"] {
        pairs = vec![("a".to_owned(), "k".to_owned()), ("b".to_owned(), "o".to_owned())];
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(up, down)| (&**up, &**down)).collect();
    let node = match many {
        true => definition.many(parent, below.name.as_str(), &pairs),
        false => definition.one(parent, below.name.as_str(), &pairs),
    };
    let orders: [&[&str]; 5] = [&[], &[], &["o"], &["-o", "d"], &["d"]];
    let order = *dice.one(&orders);
    definition.order(node, order);
    if dice.once_in(4) {
        definition.condition(node, "o");
    }
    node
}

/// A row of a table.
pub(super) fn row(table: &TableSchema, dice: &mut Dice<'_>) -> Vec<Value> {
    let cell = |name: &str, dice: &mut Dice<'_>| match name {
        "r" => match dice.below(4) {
            0 => Value::Null,
            1 => Value::text("[]"),
            2 => Value::text(r#"["u","v"]"#),
            _ => Value::text(r#"["w"]"#),
        },
        "d" | "l" => match dice.below(TEXTS.len() + 1) {
            0 if name == "d" => Value::Null,
            at => Value::text(TEXTS[at % TEXTS.len()]),
        },
        _ => match dice.below(6) {
            0 if !table.primary_key.iter().any(|key| key == name) => Value::Null,
            number => Value::Int(number as i64),
        },
    };
    table
        .columns
        .iter()
        .map(|column| cell(&column.name, dice))
        .collect()
}

/// One to five writes.
pub(super) fn transaction(tables: &Tables, dice: &mut Dice<'_>) -> Vec<Write> {
    let schemas: Vec<_> = tables.values().collect();
    let write = |dice: &mut Dice<'_>| {
        let table = *dice.one(&schemas);
        let name = table.schema.name.clone();
        let keys: Vec<_> = table.rows.keys().collect();
        if keys.is_empty() || dice.once_in(4) {
            return Write::Put(name, row(&table.schema, dice));
        }
        let key = (*dice.one(&keys)).clone();
        if dice.once_in(4) {
            return Write::Delete(name, key);
        }
        let mut new = table.rows[&key].clone();
        let fresh = row(&table.schema, dice);
        for _ in 0..1 + dice.below(2) {
            let at = dice.below(new.len());
            new[at] = fresh[at].clone();
        }
        Write::Update(name, key, new)
    };
    (0..1 + dice.below(5)).map(|_| write(dice)).collect()
}
