//! Joins of values that a database takes for equal though they are spelled differently.

use std::sync::Arc;

use instep_core::{Builder, DocKey, FieldType, Position, Touch, Value};

use super::definition::{Definition, SOURCE, assembler, document, objects, row, table, value};
use super::memory::{Memory, Write};
use super::now;

fn decimal(text: &str) -> Value {
    Value::Decimal(text.into())
}

fn database(tables: &[instep_core::TableSchema], rows: Vec<(&str, Vec<Value>)>) -> Arc<Memory> {
    let mut memory = Memory::new(tables.to_vec());
    memory.compares_worth = true;
    let writes = rows.into_iter().map(|(table, row)| Write::Put(table.into(), row));
    memory.commit(&[], writes.collect());
    Arc::new(memory)
}

/// Documents with a `code` of their own, and parts with the same one, in columns of these types.
fn check(up: &str, down: &str, ups: Vec<Value>, downs: Vec<Value>, expected: &[&[i64]]) {
    let tables = [
        table("doc", 1, &["id", &format!("code:{up}")]),
        table("part", 1, &["id", &format!("code:{down}")]),
    ];
    let docs = ups
        .into_iter()
        .enumerate()
        .map(|(at, code)| ("doc", row![at as i64, code]));
    let parts = downs
        .into_iter()
        .enumerate()
        .map(|(at, code)| ("part", row![at as i64, code]));
    let memory = database(&tables, docs.chain(parts).collect());
    let mut definition = Definition::new(&tables, "doc");
    let part = definition.many(0, "part", &[("code", "code")]);
    let shown = super::definition::column("id", FieldType::Long);
    let assembler = assembler(
        &memory,
        vec![definition.fields(vec![objects("parts", part, vec![shown])])],
    );
    let ids: Vec<_> = (0..expected.len() as i64)
        .map(|at| super::definition::id(row![at]))
        .collect();
    let built = super::definition::built(&assembler, &ids);
    for (built, expected) in built.into_iter().zip(expected) {
        let instep_core::Built::Document(document, _) = built else {
            panic!("{up} = {down}: {built:?}")
        };
        let parts: Vec<_> = expected.iter().map(|id| format!("{{\"id\":{id}}}")).collect();
        let wanted = format!("{{\"parts\":[{}]}}", parts.join(","));
        assert_eq!(&*document.source, wanted, "{up} = {down}");
    }
}

#[test]
fn joins_compare_what_values_are_worth() {
    let decimals = |all: &[&str]| all.iter().map(|text| decimal(text)).collect::<Vec<_>>();
    let texts = |all: &[&str]| all.iter().map(|text| Value::text(text)).collect::<Vec<_>>();
    let doubles = |all: &[f64]| {
        all.iter()
            .map(|double| Value::Double(*double))
            .collect::<Vec<_>>()
    };
    let integers = |all: &[i64]| all.iter().map(|integer| Value::Int(*integer)).collect::<Vec<_>>();
    check(
        "decimal",
        "decimal",
        decimals(&["1.0", "1.00", "2.50", "3"]),
        decimals(&["1", "1.000", "2.5", "30"]),
        &[&[0, 1], &[0, 1], &[2], &[]],
    );
    check(
        "double",
        "double",
        doubles(&[0.0, -0.0, 0.5]),
        doubles(&[-0.0, 0.0, 0.5]),
        &[&[0, 1], &[0, 1], &[2]],
    );
    check(
        "int",
        "decimal",
        integers(&[1, 2]),
        decimals(&["2.00", "1.0"]),
        &[&[1], &[0]],
    );
    check(
        "decimal",
        "int",
        decimals(&["1.0", "2.00"]),
        integers(&[2, 1]),
        &[&[1], &[0]],
    );
    check(
        "int",
        "double",
        integers(&[1, 0]),
        doubles(&[-0.0, 1.0]),
        &[&[1], &[0]],
    );
    check(
        "citext",
        "citext",
        texts(&["Anna", "ANNA", "Bo", "c"]),
        texts(&["anna", "AnnA", "bo", "d"]),
        &[&[0, 1], &[0, 1], &[2], &[]],
    );
    check(
        "text",
        "text",
        texts(&["Anna", "ANNA"]),
        texts(&["anna", "ANNA"]),
        &[&[], &[1]],
    );
}

#[test]
fn fields_show_each_rows_own_spelling() {
    let tables = [
        table("doc", 1, &["id", "owner:citext"]),
        table("person", 1, &["name:citext"]),
    ];
    let rows = vec![
        ("doc", row![1, "ANNA"]),
        ("doc", row![2, "anna"]),
        ("person", row!["Anna"]),
    ];
    let memory = database(&tables, rows);
    let mut definition = Definition::new(&tables, "doc");
    let person = definition.one(0, "person", &[("owner", "name")]);
    let own = super::definition::column("owner", FieldType::Keyword);
    let assembler = assembler(
        &memory,
        vec![definition.fields(vec![own, value("person", person, "name")])],
    );
    for (id, spelled) in [(1, "ANNA"), (2, "anna")] {
        let expected = format!(r#"{{"owner":"{spelled}","person":"Anna"}}"#);
        assert_eq!(&*document(&assembler, id).source, expected);
    }
}

/// A child names its parent by another spelling of the parent's key: the parent's document is touched, by its own id.
#[test]
fn a_parents_key_is_spelled_as_its_row_spells_it() {
    for (kind, key, reference) in [
        ("decimal", decimal("1.50"), decimal("1.5")),
        ("citext", Value::text("Anna"), Value::text("aNNa")),
        ("int", Value::Int(1), decimal("1.00")),
    ] {
        let tables = [
            table("doc", 1, &[&format!("key:{kind}")]),
            table("part", 1, &["id", &format!("doc:{kind}")]),
        ];
        let memory = database(&tables, vec![("doc", row![key.clone()])]);
        let mut definition = Definition::new(&tables, "doc");
        let part = definition.many(0, "part", &[("key", "doc")]);
        let shown = super::definition::column("id", FieldType::Long);
        let assembler = assembler(
            &memory,
            vec![definition.fields(vec![objects("parts", part, vec![shown])])],
        );
        let watched = assembler.watched(&SOURCE.into());
        let changes = memory.commit(&watched, vec![Write::Put("part".into(), row![1, reference])]);
        let upto = Position {
            identity: "memory".to_owned(),
            at: "0".to_owned(),
        };
        let touches = now(assembler.affected(&SOURCE.into(), &changes, &upto)).unwrap();
        let expected = DocKey {
            collection: "doc".into(),
            id: super::definition::id(vec![key]),
        };
        assert_eq!(touches, [Touch::Document(expected)], "{kind}");
    }
}
