//! One test for each line of the table: what a column of the type becomes, and how a row is found by it again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use instep_conformance::postgres::{Database, Server, or_skip};
use instep_core::{ColumnKind as K, Value};

use super::super::{Catalogue, SETTINGS, Type};
use crate::postgres::connect::{Endpoint, Session};
use crate::postgres::literal;

/// The column's type in SQL, an expression for its value, and what it becomes.
type Case = (&'static str, &'static str, Value);

/// A test for each line of the table, and the list of the lines.
macro_rules! lines {
    ($($test:ident $line:literal $kind:expr => [$($case:expr),+ $(,)?];)+) => {
        /// The lines that have a test.
        const TESTED: &[&str] = &[$($line),+];

        $(#[test]
        fn $test() {
            check($line, $kind, &[$($case),+]);
        })+
    };
}

fn text(text: &str) -> Value {
    Value::text(text)
}

fn decimal(text: &str) -> Value {
    Value::Decimal(text.into())
}

fn json(text: &str) -> Value {
    Value::Json(text.into())
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.into())
}

lines! {
    smallint "`smallint`" K::Integer => [
        ("smallint", "-32768", Value::Int(-32768)),
        ("smallint", "32767", Value::Int(32767)),
        ("smallint", "null", Value::Null),
    ];
    integer "`integer`" K::Integer => [("integer", "-2147483648", Value::Int(-2147483648))];
    bigint "`bigint`" K::Integer => [
        ("bigint", "9223372036854775807", Value::Int(i64::MAX)),
        ("bigint", "-9223372036854775808", Value::Int(i64::MIN)),
    ];
    numeric "`numeric`" K::Decimal => [
        ("numeric", "'12.50'", decimal("12.50")),
        ("numeric", "'-0.05'", decimal("-0.05")),
        ("numeric(10,4)", "1", decimal("1.0000")),
        ("numeric", "'NaN'", decimal("NaN")),
        ("numeric", "'Infinity'", decimal("Infinity")),
        ("numeric", "'-Infinity'", decimal("-Infinity")),
        ("numeric", "'1e30'", decimal("1000000000000000000000000000000")),
        ("numeric", "'123456789012345678901234567890.123456789'", decimal("123456789012345678901234567890.123456789")),
    ];
    real "`real`" K::Double => [
        ("real", "0.1", Value::Double(0.1)),
        ("real", "16777216", Value::Double(16_777_216.0)),
        ("real", "'3.4028235e38'", Value::Double(3.4028235e38)),
        ("real", "'NaN'", Value::Double(f64::NAN)),
        ("real", "'-infinity'", Value::Double(f64::NEG_INFINITY)),
        ("real", "'-0'", Value::Double(-0.0)),
    ];
    double_precision "`double precision`" K::Double => [
        ("float8", "0.1::float8 + 0.2::float8", Value::Double(0.1 + 0.2)),
        ("float8", "'1e-5'", Value::Double(1e-5)),
        ("float8", "'1.7976931348623157e308'", Value::Double(f64::MAX)),
        ("float8", "'5e-324'", Value::Double(5e-324)),
        ("float8", "'NaN'", Value::Double(f64::NAN)),
        ("float8", "'infinity'", Value::Double(f64::INFINITY)),
        ("float8", "'-0'", Value::Double(-0.0)),
    ];
    prose "`text`" K::Text => [
        ("text", "''", text("")),
        ("text", "E'  zwölf \\\\ \\' \" \\n 漢字 '", text("  zwölf \\ ' \" \n 漢字 ")),
        ("text", "'null'", text("null")),
    ];
    varchar "`varchar`" K::Keyword => [
        ("varchar(255)", "'a  '", text("a  ")),
        ("varchar(3)", "'äöü'", text("äöü")),
    ];
    padded "`char(n)`" K::Keyword => [
        ("char(5)", "'a b'", text("a b")),
        ("char(3)", "''", text("")),
        ("char(2)", "E'\\t'", text("\t")),
        ("char", "'x'", text("x")),
    ];
    catalog_name "`name`" K::Keyword => [("name", "'Some Name'", text("Some Name"))];
    single_byte "`\"char\"`" K::Keyword => [
        ("\"char\"", "'a'", text("a")),
        ("\"char\"", "''", text("")),
    ];
    citext "`citext`" K::Keyword => [("citext", "'Ada@Example.org'", text("Ada@Example.org"))];
    bytea "`bytea`" K::Bytes => [
        ("bytea", "'\\x00ff10'", bytes(&[0, 255, 16])),
        ("bytea", "''", bytes(&[])),
    ];
    boolean "`boolean`" K::Boolean => [
        ("boolean", "true", Value::Bool(true)),
        ("boolean", "false", Value::Bool(false)),
        ("boolean", "null", Value::Null),
    ];
    date "`date`" K::Date => [
        ("date", "'2024-02-29'", text("2024-02-29")),
        ("date", "'0001-01-01'", text("0001-01-01")),
        ("date", "'infinity'", text("infinity")),
        ("date", "'-infinity'", text("-infinity")),
        ("date", "'0044-03-15 BC'", text("0044-03-15 BC")),
        ("date", "'4713-01-01 BC'", text("4713-01-01 BC")),
        ("date", "'0001-02-29 BC'", text("0001-02-29 BC")),
        ("date", "'5874897-12-31'", text("5874897-12-31")),
    ];
    time "`time`" K::Keyword => [
        ("time", "'07:08:09.5'", text("07:08:09.5")),
        ("time", "'24:00'", text("24:00:00")),
        ("time(0)", "'07:08:09.5'", text("07:08:10")),
    ];
    timetz "`timetz`" K::Keyword => [
        ("timetz", "'07:08:09+02'", text("07:08:09+02")),
        ("timetz", "'07:08:09.000001-03:30'", text("07:08:09.000001-03:30")),
    ];
    timestamp "`timestamp`" K::Date => [
        ("timestamp", "'2024-05-06 07:08:09.123456'", text("2024-05-06T07:08:09.123456")),
        ("timestamp(0)", "'2024-05-06 07:08:09'", text("2024-05-06T07:08:09")),
        ("timestamp", "'9999-12-31 23:59:59.999999'", text("9999-12-31T23:59:59.999999")),
        ("timestamp", "'10000-01-01'", text("10000-01-01 00:00:00")),
        ("timestamp", "'294276-12-31 23:59:59.999999'", text("294276-12-31 23:59:59.999999")),
        ("timestamp", "'4713-12-31 BC'", text("4713-12-31 00:00:00 BC")),
        ("timestamp", "'infinity'", text("infinity")),
    ];
    timestamptz "`timestamptz`" K::Date => [
        ("timestamptz", "'2024-05-06 07:08:09.123456+02'", text("2024-05-06T05:08:09.123456Z")),
        ("timestamptz", "'2024-07-01 12:00 America/New_York'", text("2024-07-01T16:00:00Z")),
        ("timestamptz", "'1883-11-18 12:00 America/New_York'", text("1883-11-18T17:00:00Z")),
        ("timestamptz", "'9999-12-31 23:59:59-01'", text("10000-01-01 00:59:59+00")),
        ("timestamptz", "'0044-03-15 10:00+00 BC'", text("0044-03-15 10:00:00+00 BC")),
        ("timestamptz", "'-infinity'", text("-infinity")),
        ("timestamptz", "null", Value::Null),
    ];
    interval "`interval`" K::Keyword => [
        ("interval", "'1 year 2 months 3 days 4:05:06.5'", text("P1Y2M3DT4H5M6.5S")),
        ("interval", "'-1 year -2 mons +3 days -04:05:06'", text("P-1Y-2M3DT-4H-5M-6S")),
        ("interval", "'0'", text("PT0S")),
        ("interval", "'1 microsecond'", text("PT0.000001S")),
    ];
    uuid "`uuid`" K::Keyword => [
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ];
    json_as_written "`json`" K::Json => [
        ("json", "'{\"b\": 1e400, \"a\":1, \"a\":2}'", json("{\"b\": 1e400, \"a\":1, \"a\":2}")),
        ("json", "'null'", json("null")),
        ("json", "'\"\\ud800\"'", json("\"\\ud800\"")),
        ("json", "(repeat('[', 200) || repeat(']', 200))::json", Value::Json(("[".repeat(200) + &"]".repeat(200)).into())),
        ("json", "null", Value::Null),
    ];
    jsonb "`jsonb`" K::Json => [
        ("jsonb", "'{\"b\": 12345678901234567890.10, \"a\":1, \"a\":2}'", json("{\"a\": 2, \"b\": 12345678901234567890.10}")),
        ("jsonb", "'[]'", json("[]")),
    ];
    jsonpath "`jsonpath`" K::Keyword => [("jsonpath", "'$.a[*]'", text("$.\"a\"[*]"))];
    enumeration "enum" K::Keyword => [
        ("mood", "'so, so'", text("so, so")),
        ("mood", "'sad'", text("sad")),
    ];
    domain "domain" K::Integer => [
        ("age", "7", Value::Int(7)),
        ("adult", "18", Value::Int(18)),
        ("adult", "null", Value::Null),
    ];
    array "array" K::Array => [
        ("int[]", "'{1,NULL,-3}'", json("[1,null,-3]")),
        ("int[]", "'{}'", json("[]")),
        ("int[]", "'[2:3]={1,2}'", json("[1,2]")),
        ("int[]", "'{{1,2},{3,NULL}}'", json("[[1,2],[3,null]]")),
        ("int[]", "'[-1:0][5:6]={{1,2},{3,4}}'", json("[[1,2],[3,4]]")),
        ("text[]", "array['null', '', 'a b', '{x,y}', E'q\"b\\\\s\\n', 'é', null]",
            json(r#"["null","","a b","{x,y}","q\"b\\s\n","é",null]"#)),
        ("bigint[]", "'{9223372036854775807}'", json("[9223372036854775807]")),
        ("numeric[]", "'{1.50,NaN,-0.1}'", json("[1.50,\"NaN\",-0.1]")),
        ("float8[]", "'{1,-0,0.1,1e300,NaN,-Infinity}'", json("[1.0,-0.0,0.1,1e300,\"NaN\",\"-inf\"]")),
        ("boolean[]", "'{t,f}'", json("[true,false]")),
        ("char(3)[]", "'{a,\"b c\"}'", json("[\"a\",\"b c\"]")),
        ("timestamptz[]", "'{2024-05-06 07:08:09+02,infinity}'", json("[\"2024-05-06T05:08:09Z\",\"infinity\"]")),
        ("bytea[]", "array['\\x00ff'::bytea]", json("[\"00ff\"]")),
        ("jsonb[]", "array['{\"a\": [1]}'::jsonb, 'null', '\"x\"']", json("[{\"a\": [1]},null,\"x\"]")),
        ("box[]", "array['(1,1),(0,0)'::box, '(2,2),(0,0)'::box]", json("[\"(1,1),(0,0)\",\"(2,2),(0,0)\"]")),
        ("int4range[]", "array['[1,3)'::int4range, 'empty']", json("[{\"gte\":1,\"lt\":3},{\"empty\":true}]")),
        ("mood[]", "array['so, so']::mood[]", json("[\"so, so\"]")),
        ("pair[]", "array[row(1, 'a,\"b\"')::pair, null]", json("[{\"n\":1,\"some text\":\"a,\\\"b\\\"\"},null]")),
        ("int_list[]", "'{\"{1,2}\",\"{3}\"}'", json("[[1,2],[3]]")),
        ("hstore[]", "array['a=>1'::hstore]", json("[{\"a\":\"1\"}]")),
    ];
    vectors "`int2vector`, `oidvector`" K::Array => [
        ("int2vector", "'1 -2 3'", json("[1,-2,3]")),
        ("oidvector", "'4294967295 1'", json("[4294967295,1]")),
        ("oidvector", "''", json("[]")),
    ];
    composite "composite" K::Json => [
        ("pair", "row(1, 'x')::pair", json("{\"n\":1,\"some text\":\"x\"}")),
        ("pair", "row(null, null)::pair", json("{\"n\":null,\"some text\":null}")),
        ("pair", "row(1, '')::pair", json("{\"n\":1,\"some text\":\"\"}")),
        ("pair", "row(-1, E'a \"b\" \\\\ (c),\\n')::pair", json("{\"n\":-1,\"some text\":\"a \\\"b\\\" \\\\ (c),\\n\"}")),
        ("nest", "row(row(1, 'a\"')::pair, array[row(2, null)::pair], 3)::nest",
            json("{\"p\":{\"n\":1,\"some text\":\"a\\\"\"},\"ps\":[{\"n\":2,\"some text\":null}],\"late\":3}")),
        ("single", "row(null)::single", json("{\"lone\":null}")),
        ("blank", "row()::blank", json("{}")),
        ("pair", "null", Value::Null),
    ];
    range "range" K::Json => [
        ("int4range", "'[1,10]'", json("{\"gte\":1,\"lt\":11}")),
        ("int8range", "'(,5]'", json("{\"lt\":6}")),
        ("numrange", "'(1.50,2]'", json("{\"gt\":1.50,\"lte\":2}")),
        ("numrange", "'(,)'", json("{}")),
        ("daterange", "'empty'", json("{\"empty\":true}")),
        ("tsrange", "'[2024-01-01 10:00,infinity)'", json("{\"gte\":\"2024-01-01T10:00:00\",\"lt\":\"infinity\"}")),
        ("tstzrange", "'[2024-01-01 10:00+02,]'", json("{\"gte\":\"2024-01-01T08:00:00Z\"}")),
        ("words", "words('a\"b', 'c,\\ ()', '[]')", json("{\"gte\":\"a\\\"b\",\"lte\":\"c,\\\\ ()\"}")),
        ("words", "words('', null)", json("{\"gte\":\"\"}")),
    ];
    multirange "multirange" K::Array => [
        ("int4multirange", "'{[1,3),[5,7),[9,)}'", json("[{\"gte\":1,\"lt\":3},{\"gte\":5,\"lt\":7},{\"gte\":9}]")),
        ("datemultirange", "'{}'", json("[]")),
        ("wordses", "wordses(words('a}', 'b,'), words('x', 'y\"'))",
            json("[{\"gte\":\"a}\",\"lt\":\"b,\"},{\"gte\":\"x\",\"lt\":\"y\\\"\"}]")),
    ];
    inet "`inet`" K::Keyword => [
        ("inet", "'10.0.0.1/32'", text("10.0.0.1")),
        ("inet", "'10.0.0.1/8'", text("10.0.0.1/8")),
        ("inet", "'2001:DB8::1'", text("2001:db8::1")),
    ];
    cidr "`cidr`" K::Keyword => [("cidr", "'10'", text("10.0.0.0/8")), ("cidr", "'1.2.3.4'", text("1.2.3.4/32"))];
    macaddr "`macaddr`" K::Keyword => [("macaddr", "'08002B010203'", text("08:00:2b:01:02:03"))];
    macaddr8 "`macaddr8`" K::Keyword => [("macaddr8", "'08002B0102030405'", text("08:00:2b:01:02:03:04:05"))];
    hstore "`hstore`" K::Json => [
        ("hstore", "'a=>1, \"b c\"=>NULL, \"x\\\"y\\\\z\"=>\"\", \"\"=>\"é, =>\"'",
            json(r#"{"":"é, =>","a":"1","b c":null,"x\"y\\z":""}"#)),
        ("hstore", "''", json("{}")),
    ];
    point "`point`" K::Json => [
        ("point", "'(1.5,-2)'", json("{\"x\":1.5,\"y\":-2.0}")),
        ("point", "'(NaN,Infinity)'", json("{\"x\":\"NaN\",\"y\":\"inf\"}")),
    ];
    geometry "`line`, `lseg`, `box`, `path`, `polygon`, `circle`" K::Keyword => [
        ("line", "'{1,2,3}'", text("{1,2,3}")),
        ("lseg", "'(0,0),(1,1)'", text("[(0,0),(1,1)]")),
        ("box", "'(0,0),(1,1)'", text("(1,1),(0,0)")),
        ("path", "'[(0,0),(1,1)]'", text("[(0,0),(1,1)]")),
        ("polygon", "'((0,0),(1,1),(2,0))'", text("((0,0),(1,1),(2,0))")),
        ("circle", "'<(0,0),1.5>'", text("<(0,0),1.5>")),
    ];
    xml "`xml`" K::Text => [
        ("xml", "'<a b=\"1\">é</a>'", text("<a b=\"1\">é</a>")),
        ("xml", "'<?xml version=\"1.0\" encoding=\"latin1\"?><a/>'", text("<a/>")),
    ];
    tsvector "`tsvector`" K::Text => [("tsvector", "'fat:2A cat:3 it''s'", text("'cat':3 'fat':2A 'it''s'"))];
    tsquery "`tsquery`" K::Keyword => [("tsquery", "'fat & !cat'", text("'fat' & !'cat'"))];
    money "`money`" K::Decimal => [
        ("money", "'1234.5'", decimal("1234.50")),
        ("money", "'-1234567.89'", decimal("-1234567.89")),
        ("money", "'0.05'", decimal("0.05")),
        ("money", "'-92233720368547758.08'", decimal("-92233720368547758.08")),
    ];
    bit "`bit`" K::Keyword => [("bit(4)", "B'0101'", text("0101")), ("bit", "B'1'", text("1"))];
    varbit "`varbit`" K::Keyword => [("varbit", "B'010'", text("010")), ("varbit", "B''", text(""))];
    oid "`oid`" K::Integer => [("oid", "4294967295", Value::Int(4294967295))];
    registered "`regclass` and the other `reg…` types" K::Keyword => [
        ("regclass", "'pg_class'", text("pg_class")),
        ("regtype", "'int'", text("integer")),
        ("regproc", "'now'", text("now")),
        ("regrole", "'postgres'", text("postgres")),
        ("regnamespace", "'public'", text("public")),
        ("regconfig", "'english'", text("english")),
        ("regclass", "0", text("-")),
    ];
    transaction "`xid`, `cid`" K::Integer => [("xid", "'4294967295'", Value::Int(4294967295)), ("cid", "'7'", Value::Int(7))];
    xid8 "`xid8`" K::Integer => [
        ("xid8", "'5000000000'", Value::Int(5_000_000_000)),
        ("xid8", "'18446744073709551615'", decimal("18446744073709551615")),
    ];
    pg_lsn "`pg_lsn`" K::Keyword => [("pg_lsn", "'16/B374D848'", text("16/B374D848"))];
    snapshots "`pg_snapshot`, `txid_snapshot`" K::Keyword => [
        ("pg_snapshot", "'10:20:10,14'", text("10:20:10,14")),
        ("txid_snapshot", "'10:20:'", text("10:20:")),
    ];
    tid "`tid`" K::Keyword => [("tid", "'(0,1)'", text("(0,1)"))];
    unknown "any other type" K::Any => [
        ("ltree", "'Top.Science'", text("Top.Science")),
        ("cube", "'(1,2),(3,4)'", text("(1, 2),(3, 4)")),
        ("aclitem", "'postgres=r/postgres'", text("postgres=r/postgres")),
    ];
}

/// The types that cases use beside those of the server.
const SET_UP: &str = r#"
create extension hstore; create extension citext; create extension ltree; create extension cube;
create type mood as enum ('sad', 'so, so');
create domain age as integer check (value >= 0);
create domain adult as age check (value >= 18);
create domain int_list as int[];
create type pair as (n int, gone text, "some text" text);
alter type pair drop attribute gone;
create type nest as (p pair, ps pair[]);
alter type nest add attribute late int;
create type single as (lone text);
create type blank as ();
create type words as range (subtype = text, multirange_type_name = wordses);
"#;

/// The database of these tests; `None` where there is no Postgres.
pub(super) fn database() -> Option<&'static Database> {
    static DATABASE: OnceLock<Option<Database>> = OnceLock::new();
    let made = || {
        or_skip("the lines of docs/postgres-types.md")?;
        let database = Server::shared().database("types");
        database.execute(SET_UP);
        // What a person may have set must not matter.
        let name = database.name();
        database.execute(&format!(
            "alter database {name} set DateStyle = 'SQL, DMY';
            alter database {name} set IntervalStyle = 'sql_standard';
            alter database {name} set TimeZone = 'Asia/Kathmandu';
            alter database {name} set extra_float_digits = -5;
            alter database {name} set bytea_output = 'escape';
            alter database {name} set quote_all_identifiers = on"
        ));
        Some(database)
    };
    DATABASE.get_or_init(made).as_ref()
}

fn check(line: &str, kind: K, cases: &[Case]) {
    if let Some(database) = database() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run(database, line, kind, cases));
    }
}

async fn run(database: &Database, line: &str, kind: K, cases: &[Case]) {
    static TABLES: AtomicU32 = AtomicU32::new(0);
    let session = Endpoint::parse(&database.url(), None, None)
        .unwrap()
        .connect()
        .await
        .unwrap();
    for (declared, expression, expected) in cases {
        let shown = format!("{line}: {expression} as {declared}");
        let table = format!("t{}", TABLES.fetch_add(1, Ordering::Relaxed));
        let made = format!("create table {table} (c {declared}); insert into {table} select {expression}");
        let refused = session.execute(&made).await.err();
        assert!(refused.is_none(), "{shown}: {refused:?}");
        let kept = type_of(&session, &table).await;
        assert_eq!(kept.kind(), kind, "{shown}");
        let read = under_settings(&session, &format!("select c from {table}")).await;
        let value = kept.read(read.as_deref()).unwrap();
        assert_eq!(&value, expected, "{shown}");
        assert_eq!(
            std::mem::discriminant(&value),
            std::mem::discriminant(expected),
            "{shown}"
        );
        if !kept.names_rows() {
            assert_eq!(kept.write(&value), None, "{shown}");
        } else if !value.is_null() {
            let written = kept.write(&value).unwrap();
            let found = format!("select c = {}::{} from {table}", literal(&written), kept.sql());
            let found = under_settings(&session, &found).await;
            assert_eq!(found.as_deref(), Some("t"), "{shown}");
        }
    }
}

async fn type_of(session: &Session, table: &str) -> Type {
    let mut catalogue = Catalogue::read(session, &[]).await.unwrap();
    let lines = session
        .query(&format!(
            "select atttypid, atttypmod from pg_attribute where attrelid = '{table}'::regclass and attnum = 1"
        ))
        .await
        .unwrap();
    let number = |at: usize| lines[0].text(at).unwrap();
    catalogue.of(number(0).parse().unwrap(), number(1).parse().unwrap())
}

/// The one value that a statement returns under the settings.
pub(super) async fn under_settings(session: &Session, statement: &str) -> Option<String> {
    let mut script = "begin;".to_owned();
    for (name, setting) in SETTINGS {
        script += &format!("set local {name} = '{setting}';");
    }
    let lines = session
        .query(&format!("{script} {statement}; commit"))
        .await
        .unwrap();
    assert_eq!(lines.len(), 1, "{statement}");
    lines[0].get(0).unwrap().map(str::to_owned)
}

#[test]
fn every_line_has_a_test_and_every_test_a_line() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/postgres-types.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| "));
    let lines: Vec<&str> = rows
        .map(|row| row.split(" | ").next().unwrap())
        .filter(|first| *first != "type")
        .collect();
    assert_eq!(lines, TESTED);
}

#[test]
fn limits_tell_names_from_prose() {
    let Some(database) = database() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let session = Endpoint::parse(&database.url(), None, None)
            .unwrap()
            .connect()
            .await
            .unwrap();
        for (declared, kind) in [
            ("varchar", K::Text),
            ("varchar(255)", K::Keyword),
            ("varchar(256)", K::Text),
            ("char(256)", K::Text),
            ("bpchar", K::Keyword),
        ] {
            session
                .execute(&format!(
                    "drop table if exists limits; create table limits (c {declared})"
                ))
                .await
                .unwrap();
            assert_eq!(type_of(&session, "limits").await.kind(), kind, "{declared}");
        }
    });
}
