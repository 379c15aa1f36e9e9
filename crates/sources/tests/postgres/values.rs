//! A value is the same whether the stream brings it, as new or as former, or a statement reads it; and a key that the
//! stream brings names the row that is read. What each value is, the tests beside `postgres/value.rs` say.

use instep_conformance::postgres::{Server, or_skip};
use instep_core::{Fetch, RowChange, Source, Value};

use crate::followed::{Followed, watched};

const SET_UP: &str = r#"
create extension hstore; create extension citext; create extension ltree;
create type mood as enum ('sad', 'so, so');
create domain adult as integer check (value >= 18);
create type pair as (n numeric, "some text" text, at timestamptz);
"#;

/// Types of primary keys, and a value of each whose text depends on some setting, or is not plain.
const KEYS: &[(&str, &str)] = &[
    ("smallint", "-7"),
    ("bigint", "'-9223372036854775808'"),
    ("numeric", "'12345678901234567890.50'"),
    ("numeric(10,2)", "'-0.10'"),
    ("numeric", "'NaN'"),
    ("real", "0.1"),
    ("float8", "0.1::float8 + 0.2::float8"),
    ("float8", "'-Infinity'"),
    ("text", "E' a,\\\\\"b\\'\\n漢 '"),
    ("varchar(9)", "'a  '"),
    ("char(9)", "'a b'"),
    ("name", "'Some Name'"),
    ("\"char\"", "'x'"),
    ("citext", "'Ada@Example.org'"),
    ("bytea", "'\\x00ff5c27'"),
    ("boolean", "true"),
    ("date", "'2024-02-29'"),
    ("date", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("time", "'07:08:09.000001'"),
    ("timetz", "'07:08:09+02'"),
    ("timestamp", "'2024-05-06 07:08:09.123456'"),
    ("timestamp", "'0044-03-15 10:00 BC'"),
    ("timestamptz", "'2024-05-06 07:08:09.5+02'"),
    ("timestamptz", "'20000-01-01 00:00+00'"),
    ("timestamptz", "'-infinity'"),
    ("interval", "'-1 year +3 days -04:05:06.7'"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    ("mood", "'so, so'"),
    ("adult", "18"),
    ("inet", "'10.0.0.1/8'"),
    ("cidr", "'10.0.0.0/8'"),
    ("macaddr", "'08002B010203'"),
    ("macaddr8", "'08002B0102030405'"),
    ("money", "'-1234.56'"),
    ("bit(4)", "B'0101'"),
    ("varbit", "B'010'"),
    ("oid", "4294967295"),
    ("xid8", "'18446744073709551615'"),
    ("pg_lsn", "'16/B374D848'"),
    ("tid", "'(0,1)'"),
    ("tsquery", "'fat & !cat'"),
    ("tsvector", "'fat:2A cat:3'"),
    ("ltree", "'Top.Science'"),
];

/// Types of other columns, likewise.
const OTHERS: &[(&str, &str)] = &[
    ("json", "'{\"b\": 1e400, \"a\":1, \"a\":2}'"),
    ("jsonb", "'{\"b\": 1.10, \"a\":[null]}'"),
    ("jsonpath", "'$.a[*]'"),
    (
        "timestamptz[]",
        "array['2024-05-06 07:08:09+02'::timestamptz, null, 'infinity']",
    ),
    ("numeric[]", "'[2:3][1:2]={{1.50,NaN},{NULL,-0.1}}'"),
    ("bytea[]", "array['\\x00ff'::bytea]"),
    ("money[]", "array['1.5'::money]"),
    (
        "pair",
        "row(1.50, E'a \"b\" \\\\ ,()', '2024-05-06 07:08:09+02')::pair",
    ),
    ("pair[]", "array[row(null, '', null)::pair, null]"),
    ("tstzrange", "'[2024-01-01 10:00+02,infinity)'"),
    ("datemultirange", "'{[2024-01-01,2024-02-01),[2024-03-01,)}'"),
    ("hstore", "'a=>1, \"b \\\"c\"=>NULL'"),
    ("point", "'(0.1,NaN)'"),
    ("box", "'(0,0),(1,1)'"),
    ("xml", "'<a>é</a>'"),
    ("regclass", "'pg_class'"),
    ("oidvector", "'1 2'"),
    ("xid", "'7'"),
    ("pg_snapshot", "'10:20:10,14'"),
];

fn column(change: &RowChange) -> &Value {
    let mut columns = change.columns.iter();
    let (_, value) = columns.find(|(name, _)| name == "c").expect("the watched column");
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_and_the_reader_agree_on_every_type() {
    let Some(_) = or_skip("the_stream_and_the_reader_agree_on_every_type") else {
        return;
    };
    let database = Server::shared().database("values");
    let name = database.name();
    // What a person may have set must not matter.
    database.execute(&format!(
        "{SET_UP}
        alter database {name} set DateStyle = 'SQL, DMY';
        alter database {name} set IntervalStyle = 'sql_standard';
        alter database {name} set TimeZone = 'Asia/Kathmandu';
        alter database {name} set extra_float_digits = -5;
        alter database {name} set bytea_output = 'escape'"
    ));
    let all = || KEYS.iter().chain(OTHERS).enumerate();
    let (mut create, mut insert, mut clear) = (String::new(), String::new(), String::new());
    let mut tables = Vec::new();
    for (at, (declared, expression)) in all() {
        create += &format!("create table v{at} (id integer primary key, c {declared}); ");
        create += &format!("alter table v{at} replica identity full; ");
        insert += &format!("insert into v{at} select {at}, {expression}; ");
        clear += &format!("update v{at} set c = null; ");
        tables.push(watched(&format!("public.v{at}"), &["id"], &["c"]));
        if at < KEYS.len() {
            create += &format!("create table k{at} (c {declared} primary key); ");
            insert += &format!("insert into k{at} select {expression}; ");
            tables.push(watched(&format!("public.k{at}"), &["c"], &[]));
        }
    }
    database.execute(&create);
    let mut followed = Followed::new(&database, &tables).await;
    let inserted = followed.after(&database, &insert).await;
    assert_eq!(inserted.rows.len(), tables.len());
    let mut read = Vec::new();
    let mut snapshot = followed.source.reader().snapshot(None).await.unwrap();
    for (at, (declared, expression)) in all() {
        let shown = format!("{expression} as {declared}");
        let of = |prefix: &str| {
            let name = format!("public.{prefix}{at}");
            let mut rows = inserted.rows.iter();
            rows.find(|change| change.row.table.as_str() == name).unwrap()
        };
        let change = of("v");
        let mut fetch = Fetch {
            table: change.row.table.clone(),
            columns: vec!["c".into()],
            by: vec!["id".into()],
            values: vec![change.row.key.parts().to_vec()],
            page: None,
        };
        let rows = snapshot.fetch(&fetch).await.unwrap();
        assert_eq!(rows.row(0), [column(change).clone()], "{shown}");
        assert!(!rows.row(0)[0].is_null(), "{shown}");
        read.push(rows.row(0)[0].clone());
        if at < KEYS.len() {
            let key = &of("k").row.key;
            assert_eq!(key.parts(), rows.row(0), "{shown}");
            fetch.table = format!("public.k{at}").as_str().into();
            fetch.by = vec!["c".into()];
            fetch.values = vec![key.parts().to_vec()];
            let found = snapshot.fetch(&fetch).await.unwrap();
            assert_eq!(found.len(), 1, "{shown}");
            assert_eq!(found.row(0), key.parts(), "{shown}");
        }
    }
    drop(snapshot);
    let cleared = followed.after(&database, &clear).await;
    for (at, (declared, expression)) in all() {
        let name = format!("public.v{at}");
        let images = cleared
            .rows
            .iter()
            .filter(|change| change.row.table.as_str() == name);
        let images: Vec<&Value> = images.map(column).collect();
        assert_eq!(images, [&read[at], &Value::Null], "{expression} as {declared}");
    }
}
