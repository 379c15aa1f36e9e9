//! What is particular to reading from Postgres: values that no column can hold, changes of tables under a snapshot,
//! commits that are not on disk yet, and the speed of it all.

use std::time::{Duration, Instant};

use instep_conformance::postgres::{Database, Replication, Server};
use instep_core::{Fault, Fetch, Key, Page, Position, Result, Rows, Snapshot, Source, Value};
use instep_sources::{PostgresOptions, PostgresSource};
use proptest::prelude::*;

use super::source;

fn database(script: &str) -> Database {
    let database = Server::shared().database("reading");
    database.execute(script);
    database
}

fn fetch_of(table: &str, columns: &[&str], by: &[&str], values: Vec<Vec<Value>>) -> Fetch {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Fetch {
        table: table.into(),
        columns: owned(columns),
        by: owned(by),
        values,
        page: None,
    }
}

async fn snapshot(source: &dyn Source) -> Box<dyn Snapshot> {
    source.reader().snapshot(None).await.unwrap()
}

async fn rows(source: &dyn Source, wanted: &Fetch) -> Result<Vec<Vec<Value>>> {
    let rows = snapshot(source).await.fetch(wanted).await?;
    let mut rows = all(&rows);
    rows.sort();
    Ok(rows)
}

fn all(rows: &Rows) -> Vec<Vec<Value>> {
    rows.iter().map(<[Value]>::to_vec).collect()
}

fn text(text: &str) -> Value {
    Value::text(text)
}

#[tokio::test]
async fn values_that_no_column_can_hold_match_nothing() {
    let database = database(
        "create type mood as enum ('good', 'bad');
         create domain short as smallint check (value > 0);
         create table t (i integer, s short, u uuid, e mood, d date, n numeric, b bytea, x text, v varchar(3), k boolean,
                         f float8, net inet, primary key (i));
         insert into t values (1, 2, '00000000-0000-0000-0000-0000000000aa', 'good', '2024-02-29', 1.5, '\\x00ff', 'a',
                               'b', true, 2.5, '10.0.0.1');",
    );
    let source = source(&database);
    let cases: [(&str, Value, &[Value]); 12] = [
        (
            "i",
            Value::Int(1),
            &[
                text("abc"),
                Value::Int(1 << 40),
                text(""),
                Value::Double(1.5),
                text("1e99"),
            ],
        ),
        ("s", Value::Int(2), &[Value::Int(70_000), text("2x")]),
        (
            "u",
            text("00000000-0000-0000-0000-0000000000aa"),
            &[text("no"), text("00000000-0000-0000-0000-0000000000zz")],
        ),
        ("e", text("good"), &[text("neither"), text(""), Value::Int(1)]),
        (
            "d",
            text("2024-02-29"),
            &[text("2023-02-29"), text("tomorrow!"), text("10000000-01-01")],
        ),
        (
            "n",
            Value::Decimal("1.5".into()),
            &[text("one"), text("1e999999")],
        ),
        ("b", Value::Bytes(vec![0, 255].into()), &[text("zz")]),
        (
            "x",
            text("a"),
            &[text("a\0b"), text("'"), text("\\"), text("{}"), text("\",\"")],
        ),
        ("v", text("b"), &[text("bcdefgh")]),
        ("k", Value::Bool(true), &[text("perhaps"), Value::Int(7)]),
        ("f", Value::Double(2.5), &[text("x"), text("1e400")]),
        ("net", text("10.0.0.1"), &[text("10.0.0.256"), text("::g")]),
    ];
    for (column, good, bad) in cases {
        let tuples = bad
            .iter()
            .chain([&good])
            .map(|value| vec![value.clone()])
            .collect();
        let wanted = fetch_of("public.t", &["i"], &[column], tuples);
        assert_eq!(
            rows(&source, &wanted).await.unwrap(),
            [[Value::Int(1)]],
            "{column}"
        );
        for value in bad {
            let wanted = fetch_of("public.t", &["i"], &[column], vec![vec![value.clone()]]);
            assert!(
                rows(&source, &wanted).await.unwrap().is_empty(),
                "{column} {value:?}"
            );
            let tuple = vec![Value::Int(1), value.clone()];
            let wanted = fetch_of("public.t", &["x"], &["i", column], vec![tuple]);
            assert!(
                rows(&source, &wanted).await.unwrap().is_empty(),
                "{column} {value:?}"
            );
        }
    }
    // A snapshot goes on after such values, in the same state.
    let mut open = snapshot(&source).await;
    let one = fetch_of("public.t", &["x"], &["i"], vec![vec![Value::Int(1)]]);
    open.fetch(&one).await.unwrap();
    database.execute("update t set x = 'after'");
    let bad = fetch_of(
        "public.t",
        &["x"],
        &["e"],
        vec![vec![text("neither")], vec![text("good")]],
    );
    assert_eq!(all(&open.fetch(&bad).await.unwrap()), [[text("a")]]);
    assert_eq!(all(&open.fetch(&one).await.unwrap()), [[text("a")]]);
}

#[tokio::test]
async fn an_integer_may_refer_to_a_numeric() {
    let database =
        database("create table t (n numeric primary key, x text); insert into t values (5, 'five')");
    let wanted = fetch_of("public.t", &["n", "x"], &["n"], vec![vec![Value::Int(5)]]);
    let found = rows(&source(&database), &wanted).await.unwrap();
    assert!(matches!(&found[0][0], Value::Int(5)), "{found:?}");
}

#[test]
fn every_text_is_found_and_read_as_it_is() {
    let database =
        database("create table t (id text collate \"C\", part text collate \"C\", primary key (id, part));");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = source(&database);
    let hostile = prop_oneof![
        "[\\\\'\"{},() \n\t;$%_NULnul-]{0,12}",
        "\\PC{0,12}",
        "[0-9-]{0,4}",
        Just("NULL".to_owned()),
        Just("'); drop table t; --".to_owned()),
    ];
    let config = ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let pairs = prop::collection::btree_set((hostile.clone(), hostile), 1..20);
    runner
        .run(&pairs, |pairs| {
            // Hexadecimal, so that the server learns them in another way.
            let row = |(a, b): &(String, String)| {
                let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
                format!(
                    "(convert_from('\\x{}', 'UTF8'), convert_from('\\x{}', 'UTF8'))",
                    hex(a),
                    hex(b)
                )
            };
            let inserted: Vec<String> = pairs.iter().map(row).collect();
            database.execute(&format!(
                "truncate t; insert into t values {}",
                inserted.join(",")
            ));
            let tuples: Vec<Vec<Value>> = pairs.iter().map(|(a, b)| vec![text(a), text(b)]).collect();
            runtime.block_on(async {
                let both = fetch_of("public.t", &["id", "part"], &["id", "part"], tuples.clone());
                prop_assert_eq!(&rows(&source, &both).await.unwrap(), &tuples);
                let ids = tuples.iter().map(|tuple| vec![tuple[0].clone()]).collect();
                let one = fetch_of("public.t", &["id", "part"], &["id"], ids);
                prop_assert_eq!(&rows(&source, &one).await.unwrap(), &tuples);
                let tables = source.reader().tables().await.unwrap();
                let mut keys: Vec<Key> = Vec::new();
                loop {
                    let page = source
                        .reader()
                        .scan(&tables[0], None, keys.last(), 3)
                        .await
                        .unwrap();
                    let ended = page.len() < 3;
                    keys.extend(page);
                    if ended {
                        break;
                    }
                }
                let keys: Vec<Vec<Value>> = keys.iter().map(|key| key.parts().to_vec()).collect();
                prop_assert_eq!(&keys, &tuples);
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn a_table_that_is_changed_under_a_snapshot_is_never_read_wrongly() {
    let script = "create table other (id integer primary key);
         insert into other values (1);
         create table t (id integer primary key, at timestamp, n integer);
         insert into t values (1, '2024-02-29 12:00:00', 7);
         create table p (id integer primary key, n integer) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         insert into p values (1, 7);";
    for (table, change) in [
        ("public.t", "truncate t"),
        ("public.t", "alter table t alter n type bigint"),
        ("public.t", "vacuum full t"),
        ("public.t", "set timezone = 'UTC'; alter table t alter at type timestamptz"),
        ("public.t", "alter table t rename to s; create table t (id integer primary key, at timestamp, n integer)"),
        ("public.t", "alter table t drop n"),
        ("public.p", "truncate p1"),
        (
            "public.p",
            "create table p2 (like p1 including all); insert into p2 select * from p1; alter table p detach partition p1;
             alter table p attach partition p2 for values from (0) to (10)",
        ),
    ] {
        let database = database(script);
        let source = source(&database);
        let mut open = snapshot(&source).await;
        let other = fetch_of("public.other", &["id"], &["id"], vec![vec![Value::Int(1)]]);
        assert_eq!(open.fetch(&other).await.unwrap().len(), 1);
        database.execute(change);
        let columns: &[&str] = if table == "public.t" { &["id", "at", "n"] } else { &["id", "n"] };
        let wanted = fetch_of(table, columns, &["id"], vec![vec![Value::Int(1)]]);
        let error = open.fetch(&wanted).await.expect_err(change);
        assert_eq!((error.code(), error.fault()), ("schema_changed", Fault::Transient), "{change}: {error}");
        drop(open);
        // A new one reads the table as it is now; a dropped column is named.
        match snapshot(&source).await.fetch(&wanted).await {
            Ok(rows) => assert_eq!(rows.len(), usize::from(!change.contains("truncate") && !change.contains("rename"))),
            Err(error) => assert!(change.contains("drop n") && error.to_string().contains("public.t.n"), "{error}"),
        }
    }
}

#[tokio::test]
async fn tables_and_columns_that_appear_are_found() {
    let database = database("create table t (id integer primary key)");
    let source = source(&database);
    assert_eq!(source.reader().tables().await.unwrap().len(), 1);
    database.execute("alter table t add n integer default 7; insert into t values (1)");
    let wanted = fetch_of("public.t", &["n"], &["id"], vec![vec![Value::Int(1)]]);
    assert_eq!(rows(&source, &wanted).await.unwrap(), [[Value::Int(7)]]);
    let missing = fetch_of("public.nothing", &["n"], &["id"], vec![vec![Value::Int(1)]]);
    let error = rows(&source, &missing).await.unwrap_err();
    assert_eq!(
        (error.code(), error.fault()),
        ("schema_changed", Fault::Transient)
    );
    assert!(error.to_string().contains("public.nothing"), "{error}");
}

/// A crash right after rows were read of a transaction that did not wait for the disk.
#[tokio::test]
async fn what_was_read_outlives_a_crash() {
    let server = Server::start(&[("synchronous_commit", "off"), ("wal_writer_delay", "500ms")]);
    let database = server.database("crash");
    database.execute("create table t (id integer primary key); checkpoint");
    for id in 1..=5 {
        let source = source(&database);
        let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(id)]]);
        database.execute(&format!("insert into t values ({id})"));
        assert_eq!(rows(&source, &wanted).await.unwrap().len(), 1);
        server.crash();
        server.start_again();
        assert_eq!(
            database.value(&format!("select count(*) from t where id = {id}")),
            "1"
        );
    }
}

/// A session that took another role is not told how old its own backend is.
#[tokio::test]
async fn a_role_that_was_taken_waits_for_the_disk_too() {
    let server = Server::start(&[("synchronous_commit", "off"), ("wal_writer_delay", "500ms")]);
    let database = server.database("taken");
    database.execute(
        "create table t (id integer primary key); create role reader; grant select on t to reader;
         create role visitor login noinherit in role reader; alter role visitor set role = reader",
    );
    let source = PostgresSource::new(
        "shop".into(),
        PostgresOptions {
            url: database.url().replace("postgres@", "visitor@"),
            ..PostgresOptions::default()
        },
    )
    .unwrap();
    for id in 1..=3 {
        database.execute(&format!("insert into t values ({id})"));
        let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(id)]]);
        assert_eq!(rows(&source, &wanted).await.unwrap().len(), 1);
    }
}

fn place(at: &str) -> Position {
    Position {
        identity: "any".to_owned(),
        at: at.to_owned(),
    }
}

#[tokio::test]
async fn a_replica_is_read_when_it_has_come_as_far() {
    let primary = Server::start(&[]);
    let database = primary.database("replica");
    database.execute("create table t (id integer primary key); insert into t values (1)");
    let standby = primary.standby("reader", Replication::Asynchronous);
    standby.catch_up(&primary);
    let replica = standby.existing(database.name());
    let source = source(&replica);
    assert_eq!(source.reader().tables().await.unwrap().len(), 1);
    standby.pause_replay();
    database.execute("insert into t values (2)");
    let at = place(&database.value("select pg_current_wal_flush_lsn()"));
    let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(2)]]);
    let opening = source.reader().snapshot(Some(&at));
    let waited = tokio::time::timeout(Duration::from_millis(500), opening).await;
    assert!(waited.is_err(), "nothing is read before it is replayed");
    assert!(rows(&source, &wanted).await.unwrap().is_empty());
    standby.resume_replay();
    let mut open = source.reader().snapshot(Some(&at)).await.unwrap();
    assert_eq!(open.fetch(&wanted).await.unwrap().len(), 1);
    drop(open);
    // It becomes the primary while we know it as a replica.
    standby.promote();
    replica.execute("insert into t values (3)");
    let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(3)]]);
    assert_eq!(rows(&source, &wanted).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_position_ahead_of_the_database_is_refused() {
    let database = database("create table t (id integer primary key)");
    let source = source(&database);
    let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(1)]]);
    let mut open = source.reader().snapshot(Some(&place("FFFF/0"))).await.unwrap();
    let error = open.fetch(&wanted).await.unwrap_err();
    assert_eq!((error.code(), error.fault()), ("position_ahead", Fault::Fatal));
    assert!(source.reader().snapshot(Some(&place("x"))).await.is_err());
}

#[tokio::test]
async fn a_dropped_snapshot_leaves_no_transaction() {
    let database = database("create table t (id integer primary key)");
    let source = source(&database);
    let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(1)]]);
    for _ in 0..20 {
        let mut open = snapshot(&source).await;
        open.fetch(&wanted).await.unwrap();
        drop(open);
    }
    // Abandoned in the middle: whoever comes next sees the present.
    for id in 1..=60 {
        let mut open = snapshot(&source).await;
        let patience = Duration::from_micros(20 * u64::try_from(id).unwrap());
        let _ = tokio::time::timeout(patience, open.fetch(&wanted)).await;
        drop(open);
        database.execute(&format!("insert into t values ({id})"));
        let inserted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(id)]]);
        assert_eq!(rows(&source, &inserted).await.unwrap().len(), 1);
    }
    let since = Instant::now();
    loop {
        let open = database.value(
            "select count(*) from pg_stat_activity where datname = current_database() and state like '%transaction%'",
        );
        if open == "0" {
            break;
        }
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{open} transactions are open"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// As bytes, and only for the rows that hold it.
#[tokio::test]
async fn text_that_is_no_utf_8_arrives_as_bytes() {
    let server = Server::shared();
    let name = format!("ascii_{}", std::process::id());
    server.maintenance().execute(&format!(
        "create database {name} encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'"
    ));
    let database = server.existing(&name);
    database.execute(
        "set client_encoding = 'SQL_ASCII';
         create table t (id integer primary key, x text, y varchar(10));
         insert into t values (1, 'good', null), (2, E'b\\xe4d', 'y'), (3, E'\\xc3\\xa4', '');
         create table w (id text primary key, n integer);
         insert into w values (E'\\xe4', 1), ('a', 2), (E'\\xff\\xfe', 3);",
    );
    let source = source(&database);
    let by_id = (1..=3).map(|id| vec![Value::Int(id)]).collect();
    let wanted = fetch_of("public.t", &["id", "x", "y"], &["id"], by_id);
    let bad = Value::Bytes(b"b\xe4d".as_slice().into());
    assert_eq!(
        rows(&source, &wanted).await.unwrap(),
        [
            [Value::Int(1), text("good"), Value::Null],
            [Value::Int(2), bad.clone(), text("y")],
            [Value::Int(3), text("ä"), text("")],
        ]
    );
    let joined = fetch_of("public.t", &["id"], &["x"], vec![vec![bad], vec![text("good")]]);
    assert_eq!(
        rows(&source, &joined).await.unwrap(),
        [[Value::Int(1)], [Value::Int(2)]]
    );
    let tables = source.reader().tables().await.unwrap();
    let mut keys: Vec<Key> = Vec::new();
    while let [key] = &source
        .reader()
        .scan(&tables[1], None, keys.last(), 1)
        .await
        .unwrap()[..]
    {
        keys.push(key.clone());
    }
    assert_eq!(keys.len(), 3, "{keys:?}");
    drop(source);
    server
        .maintenance()
        .execute(&format!("drop database {name} with (force)"));
}

#[tokio::test]
async fn schemas_are_described_as_they_are() {
    let database = database(
        r#"create schema "sch.ema"; create schema hidden;
         create domain code as varchar(5);
         create table "sch.ema"."ta""ble" (a integer, b code not null, gone text, g integer generated always as (a * 2) stored,
             primary key (b, a));
         alter table "sch.ema"."ta""ble" drop gone;
         create table child (id bigint primary key, x integer, y varchar(5), z text,
             foreign key (y, x) references "sch.ema"."ta""ble" (b, a));
         create index on child (x, (lower(z)), y); create index on child (z) where x > 0;
         create index on child using gin (to_tsvector('simple', z)); create index on child using hash (y);
         create index on child (lower(z));
         create table part (id integer primary key, c bigint references child) partition by list (id);
         create table part1 partition of part for values in (1) partition by list (id);
         create table part11 partition of part1 for values in (1);
         create table part2 partition of part for values in (2);
         create view sight as select 1 as one; create materialized view seen as select 1 as one;
         create temporary table passing (id integer);
         create table hidden.away (id integer primary key, c integer);
         create table hidden.partly (id integer primary key, c integer, d integer);"#,
    );
    let described = source(&database).reader().tables().await.unwrap();
    let names: Vec<&str> = described.iter().map(|table| table.name.as_str()).collect();
    let table = "\"sch.ema\".\"ta\"\"ble\"";
    assert_eq!(
        names,
        [
            table,
            "hidden.away",
            "hidden.partly",
            "public.child",
            "public.part"
        ]
    );
    let columns = |at: usize| -> Vec<(String, bool)> {
        let columns = described[at].columns.iter();
        columns
            .map(|column| (column.name.clone(), column.nullable))
            .collect()
    };
    assert_eq!(
        columns(0),
        [("a".into(), false), ("b".into(), false), ("g".into(), true)]
    );
    assert_eq!(described[0].primary_key, ["b", "a"]);
    let child = &described[3];
    assert_eq!(child.foreign_keys.len(), 1);
    assert_eq!(child.foreign_keys[0].columns, ["y", "x"]);
    assert_eq!(child.foreign_keys[0].table.as_str(), table);
    assert_eq!(child.foreign_keys[0].referenced, ["b", "a"]);
    assert_eq!(child.indexes, [vec!["id"], vec!["x"], vec!["y"]]);
    assert_eq!(described[4].foreign_keys.len(), 1);
    assert_eq!(described[4].primary_key, ["id"]);

    let role = format!("reader_{}", database.name());
    database.execute(&format!(
        "create role {role} login; grant usage on schema hidden to {role};
         grant select on hidden.away, public.child to {role}; grant select (id, d) on hidden.partly to {role}"
    ));
    let url = database
        .url()
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    let options = instep_sources::PostgresOptions {
        url,
        ..Default::default()
    };
    let limited = instep_sources::PostgresSource::new("shop".into(), options).unwrap();
    let seen = limited.reader().tables().await.unwrap();
    let seen: Vec<(&str, usize)> = seen
        .iter()
        .map(|table| (table.name.as_str(), table.columns.len()))
        .collect();
    assert_eq!(
        seen,
        [("hidden.away", 2), ("hidden.partly", 2), ("public.child", 4)]
    );
    drop(limited);
    database.execute(&format!("drop owned by {role}; drop role {role}"));
}

/// What a column declares is what its domain is made of, at any depth; and a collation that takes different texts for
/// equal is named.
#[tokio::test]
async fn columns_are_declared_as_what_they_are_made_of() {
    let database = database(
        "create domain amount as numeric(12, 4); create domain positive as amount check (value > 0);
         create domain amounts as numeric(5, 1)[];
         create collation alike (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create domain loose as text collate alike;
         create table t (id integer primary key, a amount, b positive, c positive[], d amounts, e numeric(7, 3), f text[],
             g varchar(9) collate alike, h loose, i text collate \"C\");",
    );
    let described = source(&database).reader().tables().await.unwrap();
    let declared: Vec<&str> = described[0]
        .columns
        .iter()
        .map(|column| column.declared.as_str())
        .collect();
    let expected = [
        "integer",
        "numeric(12,4)",
        "numeric(12,4)",
        "numeric(12,4)[]",
        "numeric(5,1)[]",
        "numeric(7,3)",
        "text[]",
        "character varying(9) collate alike",
        "text collate alike",
        "text",
    ];
    assert_eq!(declared, expected);
}

type Tuple<'a> = &'a dyn Fn(i64) -> Vec<Value>;

/// Fetches by keys of an index never read the whole table, however many keys there are and whether the table has
/// statistics or not.
#[tokio::test]
async fn fetches_use_indexes() {
    let database = database(
        "create table one (id integer primary key, parent integer, code text);
         alter table one set (autovacuum_enabled = off);
         create table two (a integer, b varchar(20), n integer, primary key (a, b));
         alter table two set (autovacuum_enabled = off);
         insert into one select i, i / 5, 'code ' || i from generate_series(1, 300000) i;
         create index on one (parent); create index on one (code);
         insert into two select i, 'b' || i % 7, i from generate_series(1, 300000) i;",
    );
    const SCANS: &str = "select relname, seq_scan from pg_stat_user_tables order by relname";
    let before = database.query(SCANS);
    let source = source(&database);
    for analyzed in [false, true] {
        if analyzed {
            database.execute("analyze");
        }
        for count in [1, 1_000, 10_000] {
            let spread = |i: i64| i * 29 + 1;
            let ints = |i: i64| vec![Value::Int(spread(i))];
            let codes = |i: i64| vec![text(&format!("code {}", spread(i)))];
            let pairs = |i: i64| vec![Value::Int(spread(i)), text(&format!("b{}", spread(i) % 7))];
            let cases: [(&str, &[&str], Tuple<'_>, &str); 4] = [
                ("public.one", &["id"], &ints, "code"),
                ("public.one", &["parent"], &ints, "code"),
                ("public.one", &["code"], &codes, "code"),
                ("public.two", &["a", "b"], &pairs, "n"),
            ];
            for (table, by, value, column) in cases {
                let wanted = fetch_of(table, &[column], by, (0..count).map(value).collect());
                let since = Instant::now();
                let found = rows(&source, &wanted).await.unwrap().len();
                let took = since.elapsed();
                println!("{table} by {by:?}, {count} keys, analyzed {analyzed}: {found} rows in {took:?}");
                assert!(found >= 1);
                assert!(took < Duration::from_secs(2), "{table} by {by:?}: {took:?}");
            }
        }
    }
    // Statistics of sessions arrive when they end.
    drop(source);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(database.query(SCANS), before);
}

/// Without an index on the matched column the table is read from front to end, not through the index of something else.
#[tokio::test]
async fn a_column_without_an_index_is_found_by_one_walk_through_the_table() {
    let database = database(
        "create table t (id uuid primary key, parent integer, code text);
         insert into t select md5(i::text)::uuid, i / 5, i from generate_series(1, 300000) i; analyze t",
    );
    const WALKS: &str = "select seq_scan, idx_scan from pg_stat_user_tables";
    // Making the primary key was one.
    assert_eq!(database.query(WALKS), [["1", "0"]]);
    let source = source(&database);
    let mut snapshot = snapshot(&source).await;
    let parents = (0..1_000).map(|parent| vec![Value::Int(parent)]).collect();
    let since = Instant::now();
    let found = snapshot
        .fetch(&fetch_of("public.t", &["code"], &["parent"], parents))
        .await
        .unwrap();
    println!("1000 keys without an index: {:?}", since.elapsed());
    assert_eq!(found.len(), 4_999);
    // The next fetch of the same snapshot goes by its index again.
    let id = vec![vec![text("c4ca4238-a0b9-2382-0dcc-509a6f75849b")]];
    let found = snapshot
        .fetch(&fetch_of("public.t", &["code"], &["id"], id))
        .await
        .unwrap();
    assert_eq!(all(&found), [[text("1")]]);
    drop(snapshot);
    drop(source);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // Each process that takes part in the walk counts.
    let walks = database.query(WALKS).remove(0);
    assert!(
        walks[0].parse::<u32>().unwrap() >= 2 && walks[1] == "1",
        "{walks:?}"
    );
}

/// Who reads gives way soon: waiting for long, it could be part of a deadlock that ends the migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_is_named_and_read_later() {
    let database = database("create table t (id integer primary key); insert into t values (1)");
    let source = source(&database);
    let mut migration = database
        .psql()
        .args(["-c", "begin; lock table t; select pg_sleep(4); commit"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while database.value("select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "0" {}
    let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(1)]]);
    let since = Instant::now();
    let error = rows(&source, &wanted).await.unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(
        (error.code(), error.is_transient()),
        ("table_locked", true),
        "{error}"
    );
    assert!(migration.wait().unwrap().success());
    assert_eq!(rows(&source, &wanted).await.unwrap().len(), 1);
}

/// A page ends where it should, and the next goes on.
#[tokio::test]
async fn pages_of_a_text_key_go_on_where_they_ended() {
    let database = database(
        "create table t (id text primary key, parent integer);
         insert into t select chr(64 + i % 60) || i, i % 2 from generate_series(1, 200) i; create index on t (parent)",
    );
    let source = source(&database);
    let mut open = snapshot(&source).await;
    let mut wanted = fetch_of("public.t", &["id"], &["parent"], vec![vec![Value::Int(1)]]);
    let mut seen = Vec::new();
    loop {
        wanted.page = Some(Page {
            key: vec!["id".into()],
            after: seen.last().cloned().map(|row: Vec<Value>| Key::new(row)),
            limit: 7,
        });
        let page = all(&open.fetch(&wanted).await.unwrap());
        let ended = page.len() < 7;
        seen.extend(page);
        if ended {
            break;
        }
    }
    let expected: Vec<Vec<Value>> = database
        .query("select id from t where parent = 1 order by id")
        .iter()
        .map(|row| vec![text(&row[0])])
        .collect();
    assert_eq!(seen, expected);
}

/// Printed, not judged: run by hand, in release.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_fast_rows_are_read() {
    let database = database(
        "create table t (id integer primary key, parent integer, name text, price numeric(10, 2), at timestamptz);
         insert into t select i, i / 10, 'name ' || i, i / 7.0, now() from generate_series(1, 200000) i;
         create index on t (parent); vacuum analyze t",
    );
    let source = source(&database);
    for (by, keys) in [("id", 50_000_i64), ("parent", 5_000)] {
        let values: Vec<Vec<Value>> = (1..=keys).map(|i| vec![Value::Int(i)]).collect();
        for columns in [&["id", "parent"][..], &["id", "parent", "name", "price", "at"]] {
            let wanted = fetch_of("public.t", columns, &[by], values.clone());
            for _ in 0..3 {
                let (since, cpu) = (Instant::now(), cpu());
                let found = snapshot(&source).await.fetch(&wanted).await.unwrap().len();
                let (took, cpu) = (since.elapsed(), self::cpu() - cpu);
                println!(
                    "{found} rows of {} columns by {by}: {:.0} rows/s, {:.2} µs CPU per row",
                    columns.len(),
                    found as f64 / took.as_secs_f64(),
                    cpu.as_secs_f64() * 1e6 / found as f64
                );
            }
        }
    }
    let many: String = (0..2_000)
        .map(|i| {
            format!(
                "create table many_{i} (id integer primary key, a integer references t, b text, c text, d text, e text);
                 create index on many_{i} (a);"
            )
        })
        .collect();
    database.execute(&many);
    for _ in 0..3 {
        let since = Instant::now();
        let tables = source.reader().tables().await.unwrap().len();
        println!("{tables} tables described in {:?}", since.elapsed());
    }
}

/// How long reading waits for the disk beside writers of several kinds. Printed, not judged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn how_long_reading_waits_for_the_disk() {
    for (writer, script) in [
        ("none", ""),
        (
            "5 commits/s",
            "insert into t default values; select pg_sleep(0.2);",
        ),
        (
            "100 commits/s",
            "insert into t default values; select pg_sleep(0.01);",
        ),
        (
            "5 commits/s without waiting for the disk",
            "set synchronous_commit = off; insert into t default values; select pg_sleep(0.2);",
        ),
        (
            "5 commits/s beside a large transaction",
            "insert into t default values; select pg_sleep(0.2);",
        ),
    ] {
        let server = Server::start(&[]);
        let database = server.database("waiting");
        database.execute(
            "create table t (id bigserial primary key, x text default 'x'); create table big (i integer)",
        );
        let source = source(&database);
        let mut children = Vec::new();
        let mut start = |script: String| {
            use std::io::Write;
            let mut psql = database.psql();
            psql.stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::null());
            let mut child = psql.spawn().unwrap();
            child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            children.push(child);
        };
        if !script.is_empty() {
            start(script.repeat(if script.contains("0.01") { 1_500 } else { 60 }));
        }
        if writer.contains("large") {
            start("begin; insert into big select generate_series(1, 20000000); rollback".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let wanted = fetch_of("public.t", &["id"], &["id"], vec![vec![Value::Int(1)]]);
        let mut took = Vec::new();
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(8) {
            let one = Instant::now();
            snapshot(&source).await.fetch(&wanted).await.unwrap();
            took.push(one.elapsed());
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        took.sort();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!(
            "{writer}: {} reads, p50 {:?}, p90 {:?}, p99 {:?}, longest {:?}, over 2 ms {}",
            took.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            took.iter()
                .filter(|took| **took > Duration::from_millis(2))
                .count()
        );
        children.iter_mut().for_each(|child| {
            let _ = child.kill();
            let _ = child.wait();
        });
    }
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
