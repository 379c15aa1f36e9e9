//! The suite of [`Source`]: what every source promises to those who follow and read it.
//!
//! A source's tests implement [`Subject`] and call [`crate::source_suite!`], which makes a test of every case. The
//! statements are those that all SQL databases of interest share.

mod expressions;
mod reading;

use std::collections::BTreeSet;
use std::time::Duration;

use instep_core::{
    Change, ChangeFeed, Fault, Fetch, Key, Position, RowChange, Source, TableSchema, Value, Watched,
};

pub use expressions::{
    a_condition_cuts_a_scan, a_row_that_fails_an_expression_hurts_no_other, an_expression_is_a_column,
    an_expression_that_is_not_the_rows_is_refused,
};

pub use reading::{
    a_documents_id_leads_back_to_its_row, a_fetch_returns_each_matching_row_once,
    a_page_continues_after_its_key, a_snapshot_sees_one_state, fetches_at_once_are_answered_as_one_by_one,
    keys_are_scanned_in_one_order_from_any_point, schemas_are_described,
};

/// A database that starts empty, and an application that uses it.
pub trait Subject: Send + Sync {
    /// The source, opened anew as after a restart.
    fn open(&self) -> Box<dyn Source>;

    /// Runs these statements as the application, on a connection (better: in a process) that is not the source's.
    /// Each is a transaction of its own, unless the script says `begin`. Panics when one fails.
    fn execute(&self, script: &str);

    /// How the source spells the name of a table that scripts call by this name without a schema.
    fn table(&self, name: &str) -> String {
        name.to_owned()
    }

    /// An expression that makes an integer of the text column `note`, and fails where it is none.
    fn failing(&self) -> &'static str {
        "cast(note as integer)"
    }

    /// The statement that makes changes of a table bring their former values, where the database does not do so by
    /// itself.
    fn bring_former(&self, _table: &str) -> Option<String> {
        None
    }
}

/// Makes a test of every case of the suite: `source_suite!(subject)`, where `subject` is a function that makes a fresh
/// [`Subject`].
#[macro_export]
macro_rules! source_suite {
    ($subject:path) => {
        $crate::source_suite!(@cases $subject,
            statements_of_every_kind_are_delivered,
            rolled_back_changes_are_not_delivered,
            an_update_that_moves_a_row_brings_both_images,
            a_delete_brings_its_former_values,
            cascades_are_delivered,
            a_statement_that_touches_many_rows_is_delivered_whole,
            changes_come_in_the_order_of_commits,
            a_new_feed_says_where_it_began,
            a_feed_reaches_the_head,
            following_again_continues_at_the_position,
            acknowledging_is_idempotent_and_loses_nothing,
            a_position_of_another_source_is_refused,
            an_abandoned_wait_loses_nothing,
            a_missing_table_or_column_is_named,
            delivered_changes_are_visible,
            a_snapshot_sees_one_state,
            keys_are_scanned_in_one_order_from_any_point,
            a_fetch_returns_each_matching_row_once,
            a_page_continues_after_its_key,
            fetches_at_once_are_answered_as_one_by_one,
            composite_keys_and_awkward_names_work,
            a_documents_id_leads_back_to_its_row,
            schemas_are_described,
            an_expression_is_a_column,
            an_expression_that_is_not_the_rows_is_refused,
            a_condition_cuts_a_scan,
            a_row_that_fails_an_expression_hurts_no_other,
        );
    };
    (@cases $subject:path, $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::source::$case(&$subject()).await;
            }
        )*
    };
}

/// Parents, children with a foreign key, and a link between them.
const SCHEMA: &str = r#"
    create table parent (id integer primary key, name text not null, code text unique);
    create table child (id integer primary key, parent_id integer references parent (id), note text);
    create index child_parent on child (parent_id);
    create table link (a integer not null, b integer not null, rank integer, primary key (a, b));
    create table fence (id integer primary key);
"#;

fn watched(table: &str, key: &[&str], columns: &[&str]) -> Watched {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Watched {
        table: table.into(),
        key: owned(key),
        columns: owned(columns),
    }
}

fn all_watched(subject: &dyn Subject) -> Vec<Watched> {
    let watched = |table: &str, key: &[&str], columns: &[&str]| watched(&subject.table(table), key, columns);
    vec![
        watched("child", &["id"], &["parent_id"]),
        watched("fence", &["id"], &[]),
        watched("link", &["a", "b"], &[]),
        watched("parent", &["id"], &[]),
    ]
}

/// Makes the tables.
fn create(subject: &dyn Subject) {
    subject.execute(SCHEMA);
    bring_former(subject, "child");
}

fn bring_former(subject: &dyn Subject, table: &str) {
    if let Some(statement) = subject.bring_former(table) {
        subject.execute(&statement);
    }
}

fn int_key(parts: &[i64]) -> Key {
    Key::new(parts.iter().map(|part| Value::Int(*part)).collect::<Vec<_>>())
}

fn int_keys(keys: impl IntoIterator<Item = i64>) -> BTreeSet<Key> {
    keys.into_iter().map(|key| int_key(&[key])).collect()
}

/// What was delivered up to a point.
#[derive(Default)]
struct Delivered {
    rows: Vec<RowChange>,
    tables: BTreeSet<String>,
    upto: Option<Position>,
}

impl Delivered {
    fn keys(&self, table: &str) -> BTreeSet<Key> {
        self.of(table).map(|change| change.row.key.clone()).collect()
    }

    fn of(&self, table: &str) -> impl Iterator<Item = &RowChange> {
        self.rows
            .iter()
            .filter(move |change| change.row.table.as_str() == table)
    }

    fn upto(&self) -> Position {
        self.upto.clone().expect("at least one batch was delivered")
    }
}

/// Commits a row to the fence and takes changes until it arrives: whatever was committed before has been delivered.
async fn deliver(subject: &dyn Subject, feed: &mut dyn ChangeFeed, fence: i64) -> Delivered {
    subject.execute(&format!("insert into fence (id) values ({fence})"));
    deliver_until(feed, &subject.table("fence"), fence).await
}

async fn deliver_until(feed: &mut dyn ChangeFeed, table: &str, id: i64) -> Delivered {
    let mut delivered = Delivered::default();
    let awaited = int_key(&[id]);
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), feed.next()).await;
        let batch = next
            .unwrap_or_else(|_| panic!("no change of {table} {id} within 20 seconds"))
            .expect("a batch is delivered");
        delivered.upto = Some(batch.upto);
        for change in batch.changes {
            match change {
                Change::Row(row) => delivered.rows.push(row),
                Change::Table(table) => {
                    delivered.tables.insert(table.to_string());
                }
            }
        }
        if delivered.keys(table).contains(&awaited) {
            return delivered;
        }
    }
}

async fn follow(subject: &dyn Subject, source: &dyn Source, from: Option<&Position>) -> Box<dyn ChangeFeed> {
    source
        .follow(&all_watched(subject), from)
        .await
        .expect("following starts")
}

async fn schema_of(source: &dyn Source, table: &str) -> TableSchema {
    let tables = source.reader().tables().await.expect("tables are listed");
    let found = tables.into_iter().find(|schema| schema.name.as_str() == table);
    found.unwrap_or_else(|| panic!("table {table} is listed"))
}

fn fetch(table: &str, columns: &[&str], by: &[&str], values: Vec<Vec<Value>>) -> Fetch {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Fetch {
        table: table.into(),
        columns: owned(columns),
        by: owned(by),
        values,
        page: None,
    }
}

async fn rows(source: &dyn Source, wanted: &Fetch) -> Vec<Vec<Value>> {
    let mut snapshot = source.reader().snapshot(None).await.expect("a snapshot opens");
    let rows = snapshot.fetch(wanted).await.expect("rows are fetched");
    let mut rows: Vec<Vec<Value>> = rows.iter().map(<[Value]>::to_vec).collect();
    if wanted.page.is_none() {
        rows.sort();
    }
    rows
}

/// Insert, update, delete, upsert, several rows at once.
pub async fn statements_of_every_kind_are_delivered(subject: &dyn Subject) {
    create(subject);
    subject.execute("insert into parent (id, name) values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')");
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let cases = [
        ("insert into parent (id, name) values (10, 'x')", vec![10]),
        (
            "insert into parent (id, name) values (11, 'x'), (12, 'y'), (13, 'z')",
            vec![11, 12, 13],
        ),
        (
            "insert into parent (id, name) select id + 100, name from parent where id in (1, 2)",
            vec![101, 102],
        ),
        ("update parent set name = 'changed' where id = 1", vec![1]),
        ("update parent set name = 'all' where id < 4", vec![1, 2, 3]),
        (
            "insert into parent (id, name) values (2, 'u'), (20, 'v') on conflict (id) do update set name = 'upserted'",
            vec![2, 20],
        ),
        ("delete from parent where id = 3", vec![3]),
        ("delete from parent where id > 100", vec![101, 102]),
        (
            "begin; insert into parent (id, name) values (30, 'x'); delete from parent where id = 4; commit",
            vec![4, 30],
        ),
    ];
    for (fence, (statement, expected)) in cases.into_iter().enumerate() {
        subject.execute(statement);
        let delivered = deliver(subject, &mut *feed, fence as i64).await;
        assert_eq!(
            delivered.keys(&subject.table("parent")),
            int_keys(expected),
            "{statement}"
        );
    }
}

/// Neither whole transactions nor savepoints.
pub async fn rolled_back_changes_are_not_delivered(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    subject.execute("begin; insert into parent (id, name) values (1, 'a'); rollback");
    subject.execute(
        "begin; insert into parent (id, name) values (2, 'b'); savepoint s;
         insert into parent (id, name) values (3, 'c'); rollback to savepoint s; commit",
    );
    let delivered = deliver(subject, &mut *feed, 1).await;
    assert_eq!(delivered.keys(&subject.table("parent")), int_keys([2]));
}

fn images(delivered: &Delivered, table: &str, column: &str) -> Vec<(Key, Value)> {
    let image = |change: &RowChange| {
        let values = change
            .values(&[column.to_owned()])
            .expect("the watched column is in the image");
        (change.row.key.clone(), values[0].clone())
    };
    delivered.of(table).map(image).collect()
}

/// A new foreign key, and a new primary key.
pub async fn an_update_that_moves_a_row_brings_both_images(subject: &dyn Subject) {
    create(subject);
    subject.execute("insert into parent (id, name) values (1, 'a'), (2, 'b')");
    subject.execute("insert into child (id, parent_id) values (7, 1), (8, null)");
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let cases = [
        (
            "update child set parent_id = 2 where id = 7",
            vec![(7, Some(1)), (7, Some(2))],
        ),
        (
            "update child set parent_id = null where id = 7",
            vec![(7, Some(2)), (7, None)],
        ),
        (
            "update child set parent_id = 1 where id = 8",
            vec![(8, None), (8, Some(1))],
        ),
        (
            "update child set id = 9 where id = 8",
            vec![(8, Some(1)), (9, Some(1))],
        ),
        ("update child set note = 'x' where id = 9", vec![(9, Some(1))]),
    ];
    for (fence, (statement, expected)) in cases.into_iter().enumerate() {
        subject.execute(statement);
        let delivered = deliver(subject, &mut *feed, fence as i64).await;
        let expected: Vec<(Key, Value)> = expected
            .into_iter()
            .map(|(key, parent)| (int_key(&[key]), parent.map_or(Value::Null, Value::Int)))
            .collect();
        let mut images = images(&delivered, &subject.table("child"), "parent_id");
        images.dedup();
        assert_eq!(images, expected, "{statement}");
    }
}

/// A deleted child's parent must be known: the row cannot be asked any more.
pub async fn a_delete_brings_its_former_values(subject: &dyn Subject) {
    create(subject);
    subject.execute("insert into parent (id, name) values (1, 'a')");
    subject.execute("insert into child (id, parent_id) values (7, 1)");
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    subject.execute("delete from child where id = 7");
    let delivered = deliver(subject, &mut *feed, 1).await;
    assert_eq!(
        images(&delivered, &subject.table("child"), "parent_id"),
        [(int_key(&[7]), Value::Int(1))]
    );
}

/// Rows that a foreign key's action deletes or changes.
pub async fn cascades_are_delivered(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "create table part (id integer primary key, parent_id integer references parent (id) on delete cascade);
         create table loose (id integer primary key, parent_id integer references parent (id) on delete set null);
         insert into parent (id, name) values (1, 'a'), (2, 'b');
         insert into part (id, parent_id) values (10, 1), (11, 1), (12, 2);
         insert into loose (id, parent_id) values (20, 1), (21, 2)",
    );
    let source = subject.open();
    bring_former(subject, "loose");
    let mut tables = all_watched(subject);
    tables.push(watched(&subject.table("part"), &["id"], &["parent_id"]));
    tables.push(watched(&subject.table("loose"), &["id"], &["parent_id"]));
    let mut feed = source.follow(&tables, None).await.expect("following starts");
    subject.execute("delete from parent where id = 1");
    let delivered = deliver(subject, &mut *feed, 1).await;
    assert_eq!(delivered.keys(&subject.table("parent")), int_keys([1]));
    assert_eq!(delivered.keys(&subject.table("part")), int_keys([10, 11]));
    assert_eq!(
        images(&delivered, &subject.table("loose"), "parent_id"),
        [(int_key(&[20]), Value::Int(1)), (int_key(&[20]), Value::Null)]
    );
}

/// More rows than any batch holds.
pub async fn a_statement_that_touches_many_rows_is_delivered_whole(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    subject.execute(
        "insert into link (a, b) with recursive n (i) as (select 1 union all select i + 1 from n where i < 12000)
         select i, i % 7 from n",
    );
    subject.execute("update link set rank = a");
    let delivered = deliver(subject, &mut *feed, 1).await;
    let expected: BTreeSet<Key> = (1..=12_000).map(|i| int_key(&[i, i % 7])).collect();
    assert_eq!(delivered.keys(&subject.table("link")), expected);
    assert_eq!(delivered.of(&subject.table("link")).count(), 24_000);
}

/// Across tables too.
pub async fn changes_come_in_the_order_of_commits(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    for i in 0..60 {
        match i % 2 {
            0 => subject.execute(&format!("insert into parent (id, name) values ({i}, 'n')")),
            _ => subject.execute(&format!(
                "insert into child (id, parent_id) values ({i}, {})",
                i - 1
            )),
        }
    }
    let delivered = deliver(subject, &mut *feed, 100).await;
    let order: Vec<Key> = delivered
        .rows
        .iter()
        .map(|change| change.row.key.clone())
        .collect();
    let expected: Vec<Key> = (0..60).chain([100]).map(|i| int_key(&[i])).collect();
    assert_eq!(order, expected);
}

/// The position is there at once, also when nothing ever changes, and nothing before it is delivered again.
pub async fn a_new_feed_says_where_it_began(subject: &dyn Subject) {
    create(subject);
    subject.execute("insert into parent (id, name) values (1, 'before')");
    let source = subject.open();
    assert_eq!(
        source.head().await.expect("a head"),
        None,
        "nothing was followed yet"
    );
    let mut feed = follow(subject, &*source, None).await;
    let began = feed.next().await.expect("the first batch");
    assert_eq!(began.changes, []);
    drop(feed);
    let mut feed = follow(subject, &*source, Some(&began.upto)).await;
    assert!(
        deliver(subject, &mut *feed, 1)
            .await
            .keys(&subject.table("parent"))
            .is_empty()
    );
}

/// Coming as far as the head means that everything committed before was delivered, and not sooner.
pub async fn a_feed_reaches_the_head(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let mut began = feed.next().await.expect("the first batch").upto;
    let head = source.head().await.expect("a head").expect("it is followed");
    // Nothing was committed since; what others do on the same server may move its head.
    while !source.reached(&began, &head) {
        let batch = feed.next().await.expect("a batch");
        assert_eq!(batch.changes, []);
        began = batch.upto;
    }
    subject.execute(
        "insert into parent (id, name) values (1, 'a'); insert into parent (id, name) values (2, 'b')",
    );
    let head = source.head().await.expect("a head").expect("it is followed");
    assert!(!source.reached(&began, &head));
    subject.execute("insert into parent (id, name) values (3, 'c')");
    let mut keys = BTreeSet::new();
    let mut upto = began;
    while !source.reached(&upto, &head) {
        let batch = feed.next().await.expect("a batch");
        keys.extend(batch.changes.iter().filter_map(|change| match change {
            Change::Row(change) => Some(change.row.key.clone()),
            Change::Table(_) => None,
        }));
        upto = batch.upto;
    }
    assert!(keys.is_superset(&int_keys([1, 2])), "{keys:?}");
}

/// What commits while nobody follows is delivered afterwards, and what was not acknowledged is delivered again.
pub async fn following_again_continues_at_the_position(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    subject.execute("insert into parent (id, name) values (1, 'a')");
    let first = deliver(subject, &mut *feed, 1).await;
    subject.execute("insert into parent (id, name) values (2, 'b')");
    deliver(subject, &mut *feed, 2).await;
    drop(feed);
    drop(source);
    subject
        .execute("update parent set name = 'z' where id = 1; insert into parent (id, name) values (3, 'c')");

    let source = subject.open();
    let mut feed = follow(subject, &*source, Some(&first.upto())).await;
    let delivered = deliver(subject, &mut *feed, 3).await;
    assert_eq!(delivered.keys(&subject.table("parent")), int_keys([1, 2, 3]));
    assert_eq!(delivered.keys(&subject.table("fence")), int_keys([2, 3]));
    assert!(
        delivered.tables.is_empty(),
        "nothing was missed: {:?}",
        delivered.tables
    );
}

/// Repeated, and out of order.
pub async fn acknowledging_is_idempotent_and_loses_nothing(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let first = deliver(subject, &mut *feed, 1).await.upto();
    let second = deliver(subject, &mut *feed, 2).await.upto();
    for upto in [&second, &first, &second, &first] {
        feed.acknowledge(upto)
            .await
            .expect("acknowledging may be repeated");
    }
    let third = deliver(subject, &mut *feed, 3).await;
    assert_eq!(third.keys(&subject.table("fence")), int_keys([3]));
    drop(feed);
    let mut feed = follow(subject, &*subject.open(), Some(&second)).await;
    let again = deliver(subject, &mut *feed, 4).await;
    assert_eq!(again.keys(&subject.table("fence")), int_keys([3, 4]));
    assert!(again.tables.is_empty(), "nothing was missed: {:?}", again.tables);
}

/// By name, with the way on.
pub async fn a_position_of_another_source_is_refused(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let mut position = deliver(subject, &mut *feed, 1).await.upto();
    drop(feed);
    position.identity = "another".to_owned();
    let Err(error) = source.follow(&all_watched(subject), Some(&position)).await else {
        panic!("a position of another identity is refused");
    };
    assert_eq!((error.code(), error.fault()), ("source_changed", Fault::Fatal));
    assert!(error.remedy().is_some(), "the way on is named");
}

/// `next` is dropped whenever the caller has something better to do.
pub async fn an_abandoned_wait_loses_nothing(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    let mut seen = BTreeSet::new();
    let mut written = 0;
    let mut abandoned = 0_u32;
    while seen.len() < 40 {
        let wait = Duration::from_micros(u64::from(abandoned % 20) * 200);
        let Ok(batch) = tokio::time::timeout(wait, feed.next()).await else {
            abandoned += 1;
            assert!(
                abandoned < 5_000,
                "all changes are delivered, {} were",
                seen.len()
            );
            if written < 40 {
                subject.execute(&format!("insert into parent (id, name) values ({written}, 'n')"));
                written += 1;
            }
            continue;
        };
        for change in batch.expect("a batch is delivered").changes {
            if let Change::Row(row) = change {
                seen.insert(row.row.key);
            }
        }
    }
    assert_eq!(seen, int_keys(0..40));
}

/// Before anything is followed.
pub async fn a_missing_table_or_column_is_named(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    for (tables, name) in [
        (vec![watched(&subject.table("nothing"), &["id"], &[])], "nothing"),
        (
            vec![watched(&subject.table("child"), &["id"], &["no_such_column"])],
            "no_such_column",
        ),
    ] {
        let Err(error) = source.follow(&tables, None).await else {
            panic!("following {name} is refused");
        };
        assert_eq!(error.fault(), Fault::Fatal, "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.remedy().is_some(), "the way on is named");
    }
}

/// A reader that opens after a change was delivered sees it.
pub async fn delivered_changes_are_visible(subject: &dyn Subject) {
    create(subject);
    let source = subject.open();
    let mut feed = follow(subject, &*source, None).await;
    for i in 1..=50 {
        subject.execute(&format!("insert into parent (id, name) values ({i}, 'n')"));
        let delivered = deliver_until(&mut *feed, &subject.table("parent"), i).await;
        let mut snapshot = source
            .reader()
            .snapshot(Some(&delivered.upto()))
            .await
            .expect("a snapshot opens");
        let wanted = fetch(
            &subject.table("parent"),
            &["id"],
            &["id"],
            vec![vec![Value::Int(i)]],
        );
        let rows = snapshot.fetch(&wanted).await.expect("rows are fetched");
        assert_eq!(rows.len(), 1, "row {i} is visible");
    }
}

/// Quotes, keywords, spaces and capitals in the names of tables and columns.
pub async fn composite_keys_and_awkward_names_work(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        r#"create table "or""der" ("a""b" integer not null, "select" varchar(30) not null, "seq" integer, "é x" text,
             "tbl" integer, primary key ("select", "a""b"));
           insert into "or""der" values (1, 'it''s', 5, 'ü', 9)"#,
    );
    let source = subject.open();
    bring_former(subject, "or\"der");
    let mut tables = all_watched(subject);
    tables.push(watched(
        &subject.table("or\"der"),
        &["select", "a\"b"],
        &["seq", "tbl"],
    ));
    let mut feed = source.follow(&tables, None).await.expect("following starts");
    subject.execute(r#"update "or""der" set "seq" = 6, "é x" = 'x' where "a""b" = 1"#);
    let delivered = deliver(subject, &mut *feed, 1).await;
    let key = Key::new(vec![Value::text("it's"), Value::Int(1)]);
    assert_eq!(
        images(&delivered, &subject.table("or\"der"), "seq"),
        [(key.clone(), Value::Int(5)), (key.clone(), Value::Int(6))]
    );
    let schema = schema_of(&*source, &subject.table("or\"der")).await;
    assert_eq!(schema.primary_key, ["select", "a\"b"]);
    let keys = source
        .reader()
        .scan(&schema, None, None, 10)
        .await
        .expect("keys are scanned");
    assert_eq!(keys.as_slice(), std::slice::from_ref(&key));
    let wanted = fetch(
        &subject.table("or\"der"),
        &["é x", "tbl"],
        &["select", "a\"b"],
        vec![key.parts().to_vec()],
    );
    assert_eq!(rows(&*source, &wanted).await, [[Value::text("x"), Value::Int(9)]]);
}
