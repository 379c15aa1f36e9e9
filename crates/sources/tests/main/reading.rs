//! Schemas, values, look-ups through indexes, and `check`.

use instep_core::{Fetch, Finding, Key, Page, Severity};

use super::*;

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

async fn rows(database: &Database, wanted: &Fetch) -> Vec<Vec<Value>> {
    let source = database.source();
    let mut snapshot = source.reader().snapshot(None).await.unwrap();
    let rows = snapshot.fetch(wanted).await.unwrap();
    rows.iter().map(<[Value]>::to_vec).collect()
}

#[tokio::test]
async fn values_are_read_by_storage_class_and_kind() {
    let database = wal();
    database.run(
        "create table t (id integer primary key, i integer, r real, d decimal, b boolean, j json, x blob, k varchar(9), n);
         insert into t values (1, 5, 1.5, 12.25, 1, '[1, 2]', x'01', 'k', null),
                              (2, 'five', 2, 7, 0, '[1', 'text', 'k', 9),
                              (3, null, null, null, null, null, null, cast(x'ff41' as text), 0.5)",
    );
    let all = ["i", "r", "d", "b", "j", "x", "k", "n"];
    let found = rows(
        &database,
        &fetch("t", &all, &["id"], (1..=3).map(|i| vec![Value::Int(i)]).collect()),
    )
    .await;
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.into());
    assert_eq!(
        found,
        [
            vec![
                Value::Int(5),
                Value::Double(1.5),
                Value::Decimal("12.25".into()),
                Value::Bool(true),
                Value::Json("[1, 2]".into()),
                bytes(&[1]),
                Value::text("k"),
                Value::Null
            ],
            vec![
                Value::text("five"),
                Value::Double(2.0),
                Value::Decimal("7".into()),
                Value::Bool(false),
                Value::text("[1"),
                Value::text("text"),
                Value::text("k"),
                Value::Int(9)
            ],
            vec![
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                bytes(&[0xff, 0x41]),
                Value::Double(0.5)
            ],
        ]
    );
}

#[tokio::test]
async fn matched_values_come_back_in_the_form_they_were_asked_for() {
    let database = wal();
    database.run(
        "create table t (id text, loose, n integer, d decimal, name text);
         insert into t values ('5', 5, 5, 5, 'five'), ('x', 'x', 6, 1.5, 'ex'), ('7', '7', 7, 7, 'seven')",
    );
    let cases = [
        ("id", Value::Int(5), "five"),
        ("id", Value::text("x"), "ex"),
        ("loose", Value::text("5"), "five"),
        ("loose", Value::Int(5), "five"),
        ("loose", Value::text("7"), "seven"),
        ("n", Value::text("6"), "ex"),
        ("n", Value::Decimal("6".into()), "ex"),
        ("d", Value::Int(5), "five"),
        ("d", Value::Decimal("1.5".into()), "ex"),
    ];
    for (column, asked, name) in cases {
        let wanted = fetch("t", &[column, "name"], &[column], vec![vec![asked.clone()]]);
        assert_eq!(
            rows(&database, &wanted).await,
            [[asked.clone(), Value::text(name)]],
            "{column} {asked:?}"
        );
    }
    let both = fetch(
        "t",
        &["loose", "name"],
        &["loose", "id"],
        vec![
            vec![Value::text("5"), Value::text("5")],
            vec![Value::text("7"), Value::text("7")],
            vec![Value::text("7"), Value::text("8")],
        ],
    );
    assert_eq!(rows(&database, &both).await.len(), 2);
}

#[tokio::test]
async fn keys_are_scanned_without_rows_that_have_no_key() {
    let database = wal();
    database.run(
        "create table t (a integer, b text, primary key (a, b));
         insert into t values (1, 'x'), (1, null), (2, null), (null, 'y'), (2, 'z'), (1, 'a')",
    );
    let source = database.source();
    let schema = source.reader().tables().await.unwrap().remove(0);
    let mut keys: Vec<Key> = Vec::new();
    loop {
        let page = source.reader().scan(&schema, None, keys.last(), 1).await.unwrap();
        if page.is_empty() {
            break;
        }
        keys.extend(page);
    }
    let key = |a, b: &str| Key::new(vec![Value::Int(a), Value::text(b)]);
    assert_eq!(keys, [key(1, "a"), key(1, "x"), key(2, "z")]);
}

#[tokio::test]
async fn a_page_goes_on_after_a_key_with_null() {
    let database = wal();
    database.run(
        "create table t (a integer, b integer, c text, p integer, primary key (a, b, c));
         insert into t values (1, 1, null, 9), (1, 1, 'x', 9), (1, 2, null, 9), (null, 1, 'y', 9), (2, null, null, 9)",
    );
    let mut seen: Vec<Vec<Value>> = Vec::new();
    loop {
        let mut wanted = fetch("t", &["a", "b", "c"], &["p"], vec![vec![Value::Int(9)]]);
        wanted.page = Some(Page {
            key: vec!["a".into(), "b".into(), "c".into()],
            after: seen.last().map(|row| Key::new(row.clone())),
            limit: 1,
        });
        let page = rows(&database, &wanted).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        assert!(seen.len() <= 5, "{seen:?}");
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[tokio::test]
async fn vanished_tables_and_columns_are_named() {
    let database = wal();
    database.run("create table t (id integer primary key)");
    let source = database.source();
    let mut snapshot = source.reader().snapshot(None).await.unwrap();
    for (wanted, name) in [
        (fetch("gone", &["id"], &["id"], vec![vec![Value::Int(1)]]), "gone"),
        (
            fetch("t", &["absent"], &["id"], vec![vec![Value::Int(1)]]),
            "absent",
        ),
        (
            fetch("t", &["id"], &["absent"], vec![vec![Value::Int(1)]]),
            "absent",
        ),
    ] {
        let error = snapshot.fetch(&wanted).await.unwrap_err();
        assert_eq!(error.code(), "schema_changed");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn an_abandoned_fetch_does_not_harm_the_next_snapshot() {
    let database = wal();
    database.run("create table t (id integer primary key); insert into t values (1)");
    let source = database.source();
    let wanted = fetch("t", &["id"], &["id"], vec![vec![Value::Int(1)]]);
    for _ in 0..20 {
        let mut snapshot = source.reader().snapshot(None).await.unwrap();
        let abandoned = tokio::time::timeout(Duration::ZERO, snapshot.fetch(&wanted)).await;
        if abandoned.is_err() {
            assert_eq!(snapshot.fetch(&wanted).await.unwrap_err().code(), "snapshot_lost");
        }
        drop(snapshot);
        let mut snapshot = source.reader().snapshot(None).await.unwrap();
        assert_eq!(snapshot.fetch(&wanted).await.unwrap().len(), 1);
    }
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.db");
    let text = directory.path().join("text.db");
    std::fs::write(
        &text,
        "this is no database, it is a text that is long enough to be read as a header of one",
    )
    .unwrap();
    for (path, code) in [(missing, "database_missing"), (text, "not_a_database")] {
        let Err(error) = SqliteSource::open("app".into(), path) else {
            panic!("{code} is an error");
        };
        assert_eq!(error.code(), code);
        assert!(error.remedy().is_some());
    }
}

fn bad(findings: &[Finding]) -> Vec<String> {
    let bad = findings.iter().filter(|finding| finding.severity != Severity::Ok);
    bad.map(|finding| {
        assert!(finding.remedy.is_some(), "{finding:?}");
        let subject = finding.subject.rsplit('/').next().unwrap_or_default();
        format!("{:?} {} {subject}", finding.severity, finding.code)
    })
    .collect()
}

#[tokio::test]
async fn check_names_what_is_missing_with_the_statement() {
    let database = rollback();
    database.run(
        "create table parent (id integer primary key, region text);
         create table child (id primary key, parent_id integer references parent);
         create table link (a integer references parent, b integer references parent, primary key (a, b));
         create table keyless (id integer);
         create unique index lowered on parent (lower(region));
         insert into parent values (1, 'a'), (2, 'b'); insert into child values (null, 1), (null, 2)",
    );
    let tables = [
        watched("child", &["id"], &["parent_id"]),
        watched("keyless", &[], &["id"]),
        watched("link", &["a", "b"], &[]),
        watched("nothing", &["id"], &[]),
        watched("parent", &["id"], &["absent"]),
    ];
    let findings = database.source().check(&tables).await.unwrap();
    assert_eq!(
        bad(&findings),
        [
            "Warning journal_mode app.db",
            "Warning typeless_key child.id",
            "Warning null_key child.id",
            "Warning missing_index child.parent_id",
            "Error no_primary_key keyless",
            "Warning missing_index link.b",
            "Error table_missing nothing",
            "Error column_missing parent.absent",
        ]
    );
    let remedies: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding.remedy.as_deref())
        .collect();
    let index = r#"create index "child_parent_id" on "child" ("parent_id")"#;
    assert!(remedies.contains(&index), "{remedies:?}");

    database.run("pragma journal_mode = wal");
    for remedy in remedies
        .iter()
        .filter(|remedy| remedy.starts_with("create index"))
    {
        database.run(remedy);
    }
    database.run("delete from child");
    let tables = [
        watched("child", &["id"], &["parent_id"]),
        watched("link", &["a", "b"], &[]),
        watched("parent", &["id"], &["region"]),
    ];
    let source = database.source();
    drop(source.follow(&tables, None).await.unwrap());
    let findings = source.check(&tables).await.unwrap();
    assert_eq!(
        bad(&findings),
        [
            "Warning typeless_key child.id",
            "Warning missing_index parent.region",
            "Warning unique_expression parent.lowered",
        ]
    );
}
