//! A change touches every document that it changes, whatever the join tree, and builds never depend on the order of
//! rows or the size of batches. Where no former values come, what documents read is recorded, and found by that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use instep_core::{
    Builder, Built, Change, Collection, DocId, DocKey, FanOut, FieldType, Position, RowKey, Touch, Value,
};
use instep_sync::Assembler;
use proptest::prelude::*;

use super::definition::{Definition, SOURCE, assembler, column, database, objects, row, table};
use super::dice::Dice;
use super::memory::{Images, Memory, Write};
use super::{naive, now, schemas};

fn position() -> Position {
    Position {
        identity: "memory".to_owned(),
        at: "0".to_owned(),
    }
}

fn affected(assembler: &Assembler, changes: &[Change]) -> Vec<Touch> {
    now(assembler.affected(&SOURCE.into(), changes, &position())).unwrap()
}

/// What each document read when it was built last, as a log records it.
type Record = BTreeMap<DocKey, BTreeSet<RowKey>>;

/// Builds these documents, and replaces what is on record of them.
fn record(assembler: &Assembler, record: &mut Record, keys: &BTreeSet<DocKey>) {
    for key in keys {
        let built = now(assembler.build(&key.collection, std::slice::from_ref(&key.id)));
        let rows = match built.unwrap().remove(0) {
            Built::Document(_, rows) => rows,
            Built::Gone => Vec::new(),
            Built::Rejected(error, _) => panic!("{key}: {error}"),
        };
        let distinct: BTreeSet<RowKey> = rows.iter().cloned().collect();
        assert_eq!(distinct.len(), rows.len(), "{key} names a row twice: {rows:?}");
        record.insert(key.clone(), distinct);
    }
}

/// The documents among these touches, fan-outs walked to their end.
struct Touched {
    documents: BTreeSet<DocKey>,
    fan_outs: Vec<FanOut>,
    rows: BTreeSet<RowKey>,
}

impl Touched {
    fn by(touches: Vec<Touch>) -> Self {
        let mut touched = Touched {
            documents: BTreeSet::new(),
            fan_outs: Vec::new(),
            rows: BTreeSet::new(),
        };
        touched.take(touches);
        touched
    }

    /// The documents that are on record to have read touched rows are touched, too.
    fn look_up(&mut self, record: &Record) {
        let read_one = |rows: &BTreeSet<RowKey>| rows.iter().any(|row| self.rows.contains(row));
        let found = record.iter().filter(|(_, rows)| read_one(rows));
        self.documents.extend(found.map(|(key, _)| key.clone()));
    }

    /// Takes the touches of one call: each document once, in order of keys.
    fn take(&mut self, touches: Vec<Touch>) {
        let mut last: Option<DocKey> = None;
        let mut rows = BTreeSet::new();
        for touch in touches {
            match touch {
                Touch::Document(key) => {
                    assert!(last.is_none_or(|last| last < key), "out of order or twice: {key}");
                    last = Some(key.clone());
                    self.documents.insert(key);
                }
                Touch::FanOut(fan_out) => self.fan_outs.push(fan_out),
                Touch::Row(row) => assert!(rows.insert(row), "a row is touched twice"),
                Touch::Scan(collection) => {
                    panic!("no table was touched as a whole, yet {collection} is scanned")
                }
            }
        }
        self.rows.extend(rows);
    }

    /// Each chunk may be walked by another process: only what is stored goes on.
    fn expand(&mut self, assembler: &Assembler) {
        let mut chunks = 0;
        while let Some(fan_out) = self.fan_outs.pop() {
            let stored = serde_json::to_string(&fan_out).unwrap();
            let fan_out: FanOut = serde_json::from_str(&stored).unwrap();
            let (touches, left) = now(assembler.expand(&fan_out)).unwrap();
            self.take(touches);
            self.fan_outs.extend(left);
            chunks += 1;
            assert!(chunks < 100_000, "a fan-out has no end");
        }
    }
}

/// What the documents of a collection are, by the naive builder, must be what the assembler builds.
fn check_builds(
    assembler: &Assembler,
    memory: &Memory,
    collection: &Collection,
    others: &BTreeSet<DocId>,
    dice: &mut Dice<'_>,
) {
    let expected = naive::documents(collection, &memory.tables());
    let mut ids: Vec<DocId> = expected
        .keys()
        .chain(others)
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let turn = dice.below(ids.len().max(1));
    ids.rotate_left(turn);
    if dice.once_in(2) {
        ids.reverse();
    }
    let size = 1 + dice.below(7);
    for chunk in ids.chunks(size) {
        let built = now(assembler.build(&collection.name, chunk)).unwrap();
        assert_eq!(built.len(), chunk.len());
        for (id, built) in chunk.iter().zip(built) {
            match (built, expected.get(id)) {
                (Built::Document(document, _), Some((source, readers))) => {
                    assert_eq!(&document.id, id);
                    assert_eq!(&*document.source, source);
                    assert_eq!(&document.readers, readers);
                }
                (Built::Gone, None) => {}
                (built, expected) => panic!("{id}: built {built:?}, expected {expected:?}"),
            }
        }
    }
}

/// When the touches of a transaction are looked up.
#[derive(Clone, Copy, Debug)]
enum Follower {
    /// Before the next one commits.
    AtOnce,
    /// After all of them have, one by one.
    Late,
    /// After all of them have, in one batch.
    Together,
}

fn check_routes(numbers: &[u16], fan_out: usize, images: Images, follower: Follower) {
    let dice = &mut Dice::new(numbers);
    let tables = schemas::tables(dice);
    let collections: Vec<_> = ["doc", "other"][..1 + dice.below(2)]
        .iter()
        .map(|name| schemas::collection(name, &tables, dice))
        .collect();
    let mut memory = Memory::new(tables.clone());
    memory.images = images;
    let rows = tables.iter().flat_map(|table| {
        let many = dice.below(9);
        (0..many)
            .map(|_| Write::Put(table.name.clone(), schemas::row(table, dice)))
            .collect::<Vec<_>>()
    });
    let rows = rows.collect();
    memory.commit(&[], rows);
    let memory = Arc::new(memory);
    let assembler = assembler(&memory, collections.clone()).with_fan_out(fan_out);
    let watched = assembler.watched(&SOURCE.into());
    let mut transactions: Vec<Vec<Change>> = Vec::new();
    let mut touched = Touched::by(Vec::new());
    let mut before = memory.tables();
    let keys = |tables: &super::memory::Tables| -> BTreeSet<DocKey> {
        let of = |collection: &Collection| {
            let name = collection.name.clone();
            let ids = naive::documents(collection, tables).into_keys();
            ids.map(move |id| DocKey {
                collection: name.clone(),
                id,
            })
            .collect::<Vec<_>>()
        };
        collections.iter().flat_map(of).collect()
    };
    let mut on_record = Record::new();
    record(&assembler, &mut on_record, &keys(&before));
    let check = |touched: &mut Touched,
                 on_record: &Record,
                 before: &super::memory::Tables,
                 transactions: &[Vec<Change>]| {
        if images != Images::New {
            assert!(touched.rows.is_empty(), "all former values came");
        }
        touched.look_up(on_record);
        touched.expand(&assembler);
        for collection in &collections {
            let (old, new) = (
                naive::documents(collection, before),
                naive::documents(collection, &memory.tables()),
            );
            for id in old.keys().chain(new.keys()) {
                let key = DocKey {
                    collection: collection.name.clone(),
                    id: id.clone(),
                };
                assert!(
                    old.get(id) == new.get(id) || touched.documents.contains(&key),
                    "{key} changed and was not touched: {:?}, then {:?}, by {transactions:?}",
                    old.get(id),
                    new.get(id),
                );
            }
        }
    };
    for _ in 0..8 {
        if dice.used_up() {
            break;
        }
        let writes = schemas::transaction(&memory.tables(), dice);
        let changes = memory.commit(&watched, writes);
        if let Follower::AtOnce = follower {
            let mut touched = Touched::by(affected(&assembler, &changes));
            check(&mut touched, &on_record, &before, std::slice::from_ref(&changes));
            // Only these are built again: what is on record of the others must still hold.
            record(&assembler, &mut on_record, &touched.documents);
            before = memory.tables();
        }
        transactions.push(changes);
    }
    match follower {
        Follower::AtOnce => {}
        Follower::Late => {
            transactions
                .iter()
                .for_each(|changes| touched.take(affected(&assembler, changes)));
            check(&mut touched, &on_record, &before, &transactions);
        }
        Follower::Together => {
            touched.take(affected(&assembler, &transactions.concat()));
            check(&mut touched, &on_record, &before, &transactions);
        }
    }
    for collection in &collections {
        let mut others: BTreeSet<DocId> = naive::documents(collection, &before).into_keys().collect();
        others.extend(["99", "1,nobody", "text", "1,2,3"].map(|id| DocId::parse(id).unwrap()));
        check_builds(&assembler, &memory, collection, &others, dice);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_changed_document_is_touched(
        numbers in prop::collection::vec(any::<u16>(), 50..900),
        fan_out in prop::sample::select(vec![1_usize, 2, 3, 1000]),
        images in prop::sample::select(vec![Images::WithKey, Images::Watched, Images::New]),
        follower in prop::sample::select(vec![Follower::AtOnce, Follower::Late, Follower::Together]),
    ) {
        check_routes(&numbers, fan_out, images, follower);
    }
}

/// Rows of `star` ← `fan` ← `doc`, `fans` × `docs` of them.
fn star(fans: i64, docs: i64) -> (Arc<Memory>, Collection) {
    let tables = [
        table("star", 1, &["id", "name:text"]),
        table("fan", 1, &["id", "star"]),
        table("doc", 1, &["id", "fan"]),
    ];
    let mut rows = vec![("star", row![1, "s"])];
    for fan in 0..fans {
        rows.push(("fan", row![fan, 1]));
        rows.extend((0..docs).map(|doc| ("doc", row![fan * docs + doc, fan])));
    }
    let mut definition = Definition::new(&tables, "doc");
    let fan = definition.one(0, "fan", &[("fan", "id")]);
    let star = definition.one(fan, "star", &[("star", "id")]);
    let collection = definition.fields(vec![super::definition::value("star", star, "name")]);
    (database(&tables, &rows), collection)
}

#[test]
fn fan_outs_are_nested_and_end() {
    for (fans, docs, fan_out) in [
        (5, 5, 2),
        (4, 4, 4),
        (4, 4, 2),
        (2, 9, 3),
        (9, 2, 3),
        (1, 1, 1),
        (40, 40, 7),
    ] {
        let (memory, collection) = star(fans, docs);
        let assembler = assembler(&memory, vec![collection]).with_fan_out(fan_out);
        let watched = assembler.watched(&SOURCE.into());
        let changes = memory.commit(&watched, vec![Write::Put("star".into(), row![1, "t"])]);
        let touches = affected(&assembler, &changes);
        let fanned = touches.iter().any(|touch| matches!(touch, Touch::FanOut(_)));
        assert_eq!(
            fanned,
            fans > fan_out as i64 || docs > fan_out as i64,
            "{fans} {docs} {fan_out}"
        );
        let mut touched = Touched::by(touches);
        touched.expand(&assembler);
        assert_eq!(
            touched.documents.len() as i64,
            fans * docs,
            "{fans} {docs} {fan_out}"
        );
    }
}

#[test]
fn no_call_holds_more_documents_than_it_should() {
    // Each row has fewer rows above it than a fan-out takes, and yet all of them together are many.
    let (memory, collection) = star(150, 150);
    let assembler = assembler(&memory, vec![collection]).with_fan_out(150);
    let watched = assembler.watched(&SOURCE.into());
    let changes = memory.commit(&watched, vec![Write::Put("star".into(), row![1, "t"])]);
    let touches = affected(&assembler, &changes);
    assert!(touches.len() < 16_000, "{} touches", touches.len());
    let mut touched = Touched::by(touches);
    touched.expand(&assembler);
    assert_eq!(touched.documents.len(), 22_500);
}

#[test]
fn many_rows_are_looked_up_together() {
    let (memory, collection) = star(2_000, 3);
    let assembler = assembler(&memory, vec![collection]).with_fan_out(100);
    let watched = assembler.watched(&SOURCE.into());
    let writes = (0..2_000).map(|fan| Write::Put("fan".into(), row![fan, 2]));
    let changes = memory.commit(&watched, writes.collect());
    *memory.fetches.lock().unwrap() = Default::default();
    let mut touched = Touched::by(affected(&assembler, &changes));
    let fetches = memory.fetches.lock().unwrap().0;
    assert!(fetches < 200, "{fetches} fetches for 2,000 rows");
    touched.expand(&assembler);
    assert_eq!(touched.documents.len(), 6_000);
}

#[test]
fn a_fan_out_of_another_definition_is_dropped() {
    let (memory, collection) = star(5, 5);
    let assembler = assembler(&memory, vec![collection]).with_fan_out(2);
    let fan_out = |fingerprint: String| FanOut {
        collection: "doc".into(),
        fingerprint,
        node: 2,
        values: row![1],
        after: None,
    };
    let (touches, left) = now(assembler.expand(&fan_out("of another".to_owned()))).unwrap();
    assert!(touches.is_empty() && left.is_none());
    let fingerprint = assembler.fingerprints().remove(0).1;
    let (touches, left) = now(assembler.expand(&fan_out(fingerprint))).unwrap();
    assert!(!touches.is_empty() && left.is_some());
}

#[test]
fn a_touched_table_scans_each_collection_that_reads_it_once() {
    let tables = [table("a", 1, &["id", "up"]), table("b", 1, &["id", "a"])];
    let own = |name: &str, joined: &str| {
        let mut definition = Definition::new(&tables, "a");
        definition.collection.name = name.into();
        let node = definition.many(0, joined, &[("id", if joined == "a" { "up" } else { "a" })]);
        definition.fields(vec![objects("x", node, vec![column("id", FieldType::Long)])])
    };
    let memory = database(&tables, &[]);
    let assembler = assembler(&memory, vec![own("itself", "a"), own("both", "b")]);
    let scans = |names: &[&str]| {
        let changes: Vec<_> = names.iter().map(|name| Change::Table((*name).into())).collect();
        affected(&assembler, &changes)
    };
    let scan = |name: &str| Touch::Scan(name.into());
    assert_eq!(scans(&["a"]), [scan("both"), scan("itself")]);
    assert_eq!(scans(&["a", "b", "a"]), [scan("both"), scan("itself")]);
    assert_eq!(scans(&["b"]), [scan("both")]);
    assert_eq!(scans(&["elsewhere"]), []);
}

#[test]
fn an_image_without_columns_is_read_from_the_row() {
    let (memory, collection) = star(2, 2);
    let assembler = assembler(&memory, vec![collection]);
    let watched = assembler.watched(&SOURCE.into());
    let write = || Write::Put("fan".into(), row![1, 1]);
    let mut changes = memory.commit(&watched, vec![write(), write(), write()]);
    for change in &mut changes {
        let Change::Row(change) = change else {
            panic!("a row was changed")
        };
        change.columns.clear();
    }
    let touched = Touched::by(affected(&assembler, &changes));
    let ids: Vec<_> = touched
        .documents
        .iter()
        .map(|key| key.id.as_str().to_owned())
        .collect();
    assert_eq!(ids, ["2", "3"]);
    let Change::Row(mut change) = changes.remove(0) else {
        panic!("a row was changed")
    };
    change.row.key = instep_core::Key::new([Value::Null]);
    assert_eq!(affected(&assembler, &[Change::Row(change)]), []);
}
