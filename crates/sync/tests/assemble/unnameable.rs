//! Rows whose keys make no id: each is reported under a stand-in, and none hides the rows after it.

use std::collections::BTreeSet;

use instep_core::{Builder, Built, DocId, Fault, FieldType, Position, TableSchema, Touch, Value};
use instep_sync::Assembler;

use super::definition::{Definition, SOURCE, assembler, built, column, database, row, table};
use super::memory::Write;
use super::now;

/// All ids, in pages of `n`.
fn scanned(assembler: &Assembler, n: usize) -> Vec<DocId> {
    let mut ids: Vec<DocId> = Vec::new();
    loop {
        let page = now(assembler.scan(&"doc".into(), ids.last(), n)).unwrap();
        let end = page.len() < n;
        ids.extend(page);
        if end {
            return ids;
        }
        assert!(ids.len() < 1_000, "the scan has no end");
    }
}

fn check(tables: &[TableSchema], rows: Vec<Vec<Value>>) {
    let root = tables[0].name.as_str();
    let count = rows.len();
    let rows: Vec<_> = rows.into_iter().map(|row| (root, row)).collect();
    let memory = database(tables, &rows);
    let assembler = assembler(
        &memory,
        vec![Definition::new(tables, root).fields(vec![column("v", FieldType::Long)])],
    );
    for n in 1..count + 2 {
        let ids = scanned(&assembler, n);
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), distinct.len()), (count, count), "in pages of {n}");
        for (id, built) in ids.iter().zip(built(&assembler, &ids)) {
            match built {
                Built::Document(..) => assert!(!id.is_stand_in()),
                Built::Rejected(error, _) => {
                    assert!(id.is_stand_in());
                    assert_eq!((error.fault(), error.code()), (Fault::Poison, "bad_id"));
                }
                Built::Gone => panic!("{id} is there"),
            }
        }
    }
}

#[test]
fn a_scan_passes_keys_that_are_too_long() {
    let tables = [table("t", 1, &["k:text", "v"])];
    let long = |start: &str, end: &str| format!("{start}{}{end}", "m".repeat(600));
    let keys = |names: &[String]| names.iter().map(|name| row![&**name, 1]).collect::<Vec<_>>();
    let short = |name: &str| name.to_owned();
    check(
        &tables,
        keys(&[
            long("a", "1"),
            long("a", "2"),
            long("b", "1"),
            short("c"),
            short("d"),
        ]),
    );
    check(
        &tables,
        keys(&[
            short("a"),
            long("b", "1"),
            long("b", "2"),
            long("b", "3"),
            short("b"),
            short("bz"),
        ]),
    );
    check(
        &tables,
        keys(&[short("a"), short("b"), long("z", "1"), long("z", "2")]),
    );
    check(&tables, keys(&[long("z", "1"), long("z", "2"), long("z", "3")]));
    check(&tables, keys(&[]));
}

#[test]
fn a_scan_passes_keys_with_null() {
    let simple = [table("t", 1, &["k", "v"])];
    check(&simple, vec![row![(), 1], row![1, 1], row![2, 1], row![3, 1]]);
    let composite = [table("t", 2, &["k:text", "l:text", "v"])];
    check(
        &composite,
        vec![
            row!["a", (), 1],
            row!["a", "b", 1],
            row!["a", "z", 1],
            row!["b", (), 1],
            row![(), "b", 1],
        ],
    );
}

#[test]
fn a_touched_row_without_a_name_is_refused() {
    let tables = [table("t", 1, &["k:text", "v"])];
    let memory = database(&tables, &[]);
    let assembler = assembler(
        &memory,
        vec![Definition::new(&tables, "t").fields(vec![column("v", FieldType::Long)])],
    );
    let long = "m".repeat(600);
    let changes = memory.commit(
        &assembler.watched(&SOURCE.into()),
        vec![
            Write::Put("t".into(), row![&*long, 1]),
            Write::Put("t".into(), row!["short", 1]),
        ],
    );
    let position = Position {
        identity: String::new(),
        at: String::new(),
    };
    let touches = now(assembler.affected(&SOURCE.into(), &changes, &position)).unwrap();
    let ids: Vec<_> = touches
        .iter()
        .map(|touch| match touch {
            Touch::Document(key) => key.id.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let refused: Vec<_> = built(&assembler, &ids)
        .iter()
        .map(|built| matches!(built, Built::Rejected(..)))
        .collect();
    assert_eq!(refused, [true, false]);
}
