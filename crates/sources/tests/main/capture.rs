//! What the triggers catch, and that the application does not notice them.

use super::*;

async fn check(database: &Database, tables: &[Watched], cases: &[(&str, &[&str])]) {
    let mut followed = Followed::new(database, tables).await;
    for (script, expected) in cases {
        let delivered = followed.after(database, script).await;
        assert_eq!(delivered.sorted(), *expected, "{script}");
        assert!(delivered.tables.is_empty(), "{script}");
    }
}

#[tokio::test]
async fn rows_that_replace_removes_are_delivered() {
    let database = wal();
    database.run(
        "create table t (id integer primary key, code text unique, a, b, parent integer, unique (a, b));
         insert into t values (1, 'one', 1, 1, 10), (2, 'two', 1, 2, 20), (3, 'three', 2, 1, 30), (4, null, null, 1, 40)",
    );
    check(
        &database,
        &[watched("t", &["id"], &["parent"])],
        &[
            (
                "insert or replace into t values (1, 'uno', 7, 7, 11)",
                &["t 1 parent=10", "t 1 parent=11"],
            ),
            (
                "insert or replace into t values (9, 'two', 8, 8, 90)",
                &["t 2 parent=20", "t 9 parent=90"],
            ),
            (
                "replace into t values (10, 'two', 2, 1, 100)",
                &["t 10 parent=100", "t 3 parent=30", "t 9 parent=90"],
            ),
            (
                "update or replace t set code = 'uno' where id = 4",
                &["t 1 parent=11", "t 4 parent=40"],
            ),
            (
                "update or replace t set id = 10 where id = 4",
                &["t 10 parent=100", "t 10 parent=40", "t 4 parent=40"],
            ),
            (
                "insert into t values (11, 'uno', 3, 3, 1) on conflict (code) do update set parent = 50",
                &["t 10 parent=40", "t 10 parent=50"],
            ),
            (
                "insert or replace into t (code, a, b, parent) values (null, null, 1, 60)",
                &["t 11 parent=60"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn rows_that_replace_removes_through_partial_indexes_collations_and_rowids_are_delivered() {
    let database = wal();
    database.run(
        "create table t (id text primary key, code text collate nocase unique, owner integer, main integer);
         create unique index one_main on t (owner) where main = 1;
         insert into t (rowid, id, code, owner, main) values (100, 'a', 'X', 1, 1), (101, 'b', 'Y', 1, 0), (102, 'c', 'Z', 2, 1)",
    );
    check(&database, &[watched("t", &["id"], &[])], &[
        ("insert or replace into t values ('d', 'D', 1, 1)", &["t a", "t d"]),
        ("insert or replace into t values ('e', 'y', 7, 0)", &["t b", "t e"]),
        ("update or replace t set owner = 2 where id = 'd'", &["t c", "t d"]),
        ("update or replace t set main = 1, owner = 2 where id = 'e'", &["t d", "t e"]),
        ("insert or replace into t (rowid, id, code, owner, main) select rowid, 'f', 'F', 9, 0 from t where id = 'e'",
            &["t e", "t f"]),
    ]).await;
}

#[tokio::test]
async fn cascades_of_a_replaced_parent_are_delivered() {
    let database = wal();
    database.run(
        "create table p (id integer primary key, code text unique);
         create table c (id integer primary key, p integer references p (id) on delete cascade on update cascade);
         insert into p values (1, 'a'), (2, 'b'); insert into c values (10, 1), (20, 2)",
    );
    let tables = [watched("p", &["id"], &[]), watched("c", &["id"], &["p"])];
    check(
        &database,
        &tables,
        &[
            (
                "insert or replace into p values (3, 'a')",
                &["c 10 p=1", "p 1", "p 3"],
            ),
            (
                "update p set id = 5 where id = 2",
                &["c 20 p=2", "c 20 p=5", "p 2", "p 5"],
            ),
            ("delete from p", &["c 20 p=5", "p 3", "p 5"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn values_keep_their_storage_class_and_every_bit() {
    let database = wal();
    database.run(
        "create table t (k blob, n, primary key (k, n)) without rowid;
         create table typed (id integer primary key, i integer, r real, d decimal(10,2), b boolean, x)",
    );
    let tables = [
        watched("t", &["k", "n"], &[]),
        watched("typed", &["id"], &["b", "d", "i", "r", "x"]),
    ];
    let mut followed = Followed::new(&database, &tables).await;
    let delivered = followed
        .after(
            &database,
            "insert into t values (x'00ff', 9223372036854775807), (1, '1'), (1, 1), (1.5, 'a' || char(0) || 'b');
             insert into typed values (9007199254740993, -9223372036854775808, 0.1, 12.5, 1, 'x'),
                                      (2, 'not a number', 3, 3, 0, 2)",
        )
        .await;
    let found: Vec<Vec<Value>> = delivered
        .rows
        .iter()
        .map(|change| change.columns.iter().map(|(_, value)| value.clone()).collect())
        .collect();
    let expected = vec![
        vec![Value::Bytes([0u8, 255].as_slice().into()), Value::Int(i64::MAX)],
        vec![Value::Int(1), Value::text("1")],
        vec![Value::Int(1), Value::Int(1)],
        vec![Value::Double(1.5), Value::text("a\0b")],
        vec![
            Value::Int(9_007_199_254_740_993),
            Value::Bool(true),
            Value::Decimal("12.5".into()),
            Value::Int(i64::MIN),
            Value::Double(0.1),
            Value::text("x"),
        ],
        vec![
            Value::Int(2),
            Value::Bool(false),
            Value::Decimal("3".into()),
            Value::text("not a number"),
            Value::Double(3.0),
            Value::Int(2),
        ],
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_update_that_only_a_collation_or_a_type_hides_brings_both_images() {
    let database = wal();
    database.run("create table t (id text collate nocase primary key, x); insert into t values ('abc', 1)");
    check(
        &database,
        &[watched("t", &["id"], &["x"])],
        &[
            ("update t set id = 'ABC'", &["t ABC x=1", "t abc x=1"]),
            ("update t set x = 1.0", &["t ABC x=1", "t ABC x=1.0"]),
            ("update t set x = null", &["t ABC x=1.0", "t ABC x=null"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn keys_with_null_are_delivered_because_a_join_may_need_them() {
    let database = wal();
    database.run("create table link (a integer, b integer, role text, primary key (a, b, role))");
    check(
        &database,
        &[watched("link", &["a", "b", "role"], &[])],
        &[
            ("insert into link values (1, 2, null)", &["link 1,2,null"]),
            ("delete from link", &["link 1,2,null"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn generated_columns_and_recursive_triggers_are_no_obstacle() {
    let database = wal();
    database.run(
        "create table t (id integer primary key, a integer, twice integer generated always as (a * 2) stored,
                         thrice integer generated always as (a * 3) virtual unique);
         pragma recursive_triggers = on",
    );
    check(
        &database,
        &[watched("t", &["id"], &["thrice", "twice"])],
        &[
            ("insert into t (id, a) values (1, 5)", &["t 1 thrice=15 twice=10"]),
            (
                "insert or replace into t (id, a) values (2, 5)",
                &["t 1 thrice=15 twice=10", "t 2 thrice=15 twice=10"],
            ),
            (
                "update t set a = 6",
                &["t 2 thrice=15 twice=10", "t 2 thrice=18 twice=12"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_application_does_not_notice_the_triggers() {
    let database = wal();
    database.run(
        "create table t (id integer primary key autoincrement, seq integer, tbl text, v1 text unique, old, new);
         insert into t (id, v1) values (41, 'x')",
    );
    let mut followed = Followed::new(
        &database,
        &[watched("t", &["id"], &["new", "old", "seq", "tbl", "v1"])],
    )
    .await;
    let connection = database.connection();
    connection.execute("insert into t (v1) values ('a')", []).unwrap();
    assert_eq!(connection.last_insert_rowid(), 42);
    assert_eq!(connection.changes(), 1);
    let changed = connection.execute("update t set seq = 3", []).unwrap();
    assert_eq!(changed, 2);
    let replaced = connection
        .execute("insert or replace into t (v1) values ('a')", [])
        .unwrap();
    assert_eq!((replaced, connection.last_insert_rowid()), (1, 43));
    let returned: i64 = connection
        .query_row("insert into t (v1) values ('r') returning id", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(returned, 44);
    assert!(
        connection.execute("insert into t (v1) values ('r')", []).is_err(),
        "constraints hold as before"
    );
    assert_eq!(
        connection
            .execute("insert or ignore into t (v1) values ('r')", [])
            .unwrap(),
        0
    );
    connection.pragma_update(None, "trusted_schema", 0).unwrap();
    assert_eq!(connection.execute("delete from t", []).unwrap(), 3);
    let delivered = followed.delivered(&database).await;
    let keys: BTreeSet<String> = delivered
        .rows
        .iter()
        .map(|change| change.row.key.parts()[0].to_string())
        .collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["41", "42", "43", "44"]);
}
