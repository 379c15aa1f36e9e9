//! A collection whose table is gone does not keep the others' changes waiting, and is scanned; sources that know less
//! than they said.

use std::sync::Arc;

use instep_core::{Builder, Change, FieldType, Position, RowKey, Touch};
use instep_store::SqliteLog;
use instep_sync::Assembler;

use super::definition::{Definition, SOURCE, assembler, column, database, objects, row, table};
use super::memory::{Images, Memory, Write};
use super::now;

/// Two collections: `deep` reads parts of parts, `flat` the parts alone.
pub(crate) fn two() -> (Memory, Vec<instep_core::Collection>) {
    let tables = [
        table("doc", 1, &["id"]),
        table("part", 1, &["id", "doc"]),
        table("bit", 1, &["id", "part"]),
    ];
    let shown = || vec![column("id", FieldType::Long)];
    let mut flat = Definition::new(&tables, "doc");
    flat.collection.name = "flat".into();
    let part = flat.many(0, "part", &[("id", "doc")]);
    let flat = flat.fields(vec![objects("parts", part, shown())]);
    let mut deep = Definition::new(&tables, "doc");
    deep.collection.name = "deep".into();
    let part = deep.many(0, "part", &[("id", "doc")]);
    let bit = deep.many(part, "bit", &[("id", "part")]);
    let deep = deep.fields(vec![objects("bits", bit, shown())]);
    let memory = Memory::new(tables.to_vec());
    let rows = [
        ("doc", row![1]),
        ("doc", row![2]),
        ("part", row![10, 1]),
        ("bit", row![100, 10]),
    ];
    let writes = rows.into_iter().map(|(table, row)| Write::Put(table.into(), row));
    memory.commit(&[], writes.collect());
    (memory, vec![flat, deep])
}

fn affected(assembler: &Assembler, changes: &[Change]) -> Vec<Touch> {
    let upto = Position {
        identity: "memory".to_owned(),
        at: "0".to_owned(),
    };
    now(assembler.affected(&SOURCE.into(), changes, &upto)).unwrap()
}

fn shown(touches: &[Touch]) -> Vec<String> {
    let shown = |touch: &Touch| match touch {
        Touch::Document(key) => key.to_string(),
        Touch::FanOut(fan_out) => format!("fan-out of {}", fan_out.collection),
        Touch::Row(RowKey { table, key }) => format!("row {table}/{}", key.parts()[0]),
        Touch::Scan(collection) => format!("scan of {collection}"),
    };
    touches.iter().map(shown).collect()
}

#[test]
fn a_collection_that_cannot_be_looked_up_is_scanned_and_the_others_are_touched() {
    let (memory, collections) = two();
    let memory = Arc::new(memory);
    let assembler = assembler(&memory, collections);
    let watched = assembler.watched(&SOURCE.into());
    let writes = |bit: i64| {
        vec![
            Write::Put("part".into(), row![11, 2]),
            Write::Put("bit".into(), row![bit, 10]),
        ]
    };
    let changes = memory.commit(&watched, writes(101));
    memory.gone.lock().unwrap().insert("part".into());
    // It is asked for the documents above a bit, not for those above a part.
    assert_eq!(shown(&affected(&assembler, &changes)), ["flat/2", "scan of deep"]);
    memory.gone.lock().unwrap().clear();
    assert_eq!(
        shown(&affected(&assembler, &changes)),
        ["deep/1", "deep/2", "flat/2"]
    );
}

#[test]
fn reads_are_recorded_where_the_source_says_so_and_nowhere_else() {
    let (mut memory, collections) = two();
    memory.images = Images::New;
    let memory = Arc::new(memory);
    let assembler = assembler(&memory, collections);
    let rows = |assembler: &Assembler| {
        let built = now(assembler.build(&"deep".into(), &[super::definition::id(row![1])])).unwrap();
        let instep_core::Built::Document(_, rows) = built.into_iter().next().unwrap() else {
            panic!("no document")
        };
        rows.iter().map(|row| row.table.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&assembler), ["bit", "part"], "nobody asked the source yet");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path().join("state.db"), Arc::new(|| 1)).unwrap();
    runtime.block_on(async {
        let formers = assembler.learn(&SOURCE.into(), &log).await.unwrap();
        assert_eq!(formers.len(), 3);
    });
    assert_eq!(rows(&assembler), ["bit", "part"]);
    assert!(assembler.records(&"deep".into()));
}

/// A table's means change from one start to the next, and under way: what was built without a record is scanned.
#[test]
fn a_source_that_knows_less_than_before_has_its_collections_scanned() {
    let (mut memory, collections) = two();
    memory.images = Images::WithKey;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path().join("state.db"), Arc::new(|| 1)).unwrap();
    let start = |memory: Arc<Memory>| {
        let assembler = assembler(&memory, collections.clone());
        runtime.block_on(assembler.learn(&SOURCE.into(), &log)).unwrap();
        assembler
    };
    let runs = || {
        use instep_core::ChangeLog;
        let scans = runtime.block_on(log.scans(&"a".into())).unwrap();
        scans.iter().map(|scan| scan.run).collect::<Vec<_>>()
    };
    let memory = Arc::new(memory);
    let first = start(memory.clone());
    {
        use instep_core::ChangeLog;
        runtime
            .block_on(log.register(&"a".into(), &first.fingerprints()))
            .unwrap();
    }
    let begun = runs();
    {
        // The first load is done: what is built with fewer records than are needed later is there.
        use instep_core::ChangeLog;
        let owned = runtime.block_on(log.own(&"a".into(), "test")).unwrap();
        let mut scans = runtime.block_on(log.scans(&"a".into())).unwrap();
        scans.iter_mut().for_each(|scan| scan.finished = true);
        let done = instep_core::Settlement {
            number: 1,
            position: owned.position,
            scans,
            ..Default::default()
        };
        runtime.block_on(log.settle(&owned, &done)).unwrap();
    }
    assert!(!first.records(&"deep".into()) && !first.records(&"flat".into()));
    start(memory.clone());
    assert_eq!(runs(), begun, "nothing is new");

    // Under way: the source brought former values when it was asked.
    let watched = first.watched(&SOURCE.into());
    let mut changes = memory.commit(&watched, vec![Write::Put("bit".into(), row![100, 10])]);
    for change in &mut changes {
        let Change::Row(change) = change else {
            panic!("a row was changed")
        };
        change.former_unknown = true;
    }
    assert_eq!(
        shown(&affected(&first, &changes)),
        ["deep/1", "row bit/100", "scan of deep"]
    );
    assert!(first.records(&"deep".into()) && !first.records(&"flat".into()));
    assert_eq!(
        shown(&affected(&first, &changes)),
        ["deep/1", "row bit/100"],
        "the scan is begun"
    );

    // At the next start.
    let (mut memory, _) = two();
    memory.images = Images::New;
    let memory = Arc::new(memory);
    start(memory.clone());
    let again = runs();
    assert!(
        again.iter().zip(&begun).all(|(again, begun)| again > begun),
        "{again:?} {begun:?}"
    );
    start(memory);
    assert_eq!(runs(), again, "it is known by now");
}

#[test]
fn columns_in_the_key_need_no_record() {
    let tables = [
        table("doc", 1, &["id"]),
        table("link", 2, &["doc", "tag"]),
        table("tag", 1, &["id", "name:text"]),
    ];
    let mut definition = Definition::new(&tables, "doc");
    let link = definition.many(0, "link", &[("id", "doc")]);
    let tag = definition.one(link, "tag", &[("tag", "id")]);
    let collection = definition.fields(vec![super::definition::values("tags", tag, "name")]);
    let memory = database(
        &tables,
        &[("doc", row![1]), ("link", row![1, 5]), ("tag", row![5, "x"])],
    );
    let assembler = assembler(&memory, vec![collection]);
    assert!(
        !assembler.records(&"doc".into()),
        "links and to-one rows name their parents by their keys"
    );
}
