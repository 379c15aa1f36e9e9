//! Values of every kind from a table to what a search returns, digit for digit; and what cannot be a field's value is a
//! dead letter that names field and kind, never the value.

use std::fmt::Write as _;

use instep_conformance::postgres::{self, Server as Postgres};
use serde_json::Value;

use super::stage::{settled, source_of};
use crate::support::product::{Product, Server};

const TYPES: &str = r#"
    create extension hstore; create extension citext;
    create type mood as enum ('sad', 'so, so');
    create domain adult as integer check (value >= 18);
    create type pair as (n numeric, "some text" text);
"#;

/// Columns with their types, and the type of the field where it is not the one that the column suggests.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("small", "smallint", ""),
    ("whole", "integer", ""),
    ("big", "bigint", ""),
    ("big_double", "bigint", "double"),
    ("amount", "numeric", ""),
    ("scaled", "numeric(12,4)", ""),
    ("digits", "numeric", "keyword"),
    ("short", "real", ""),
    ("long", "double precision", ""),
    ("prose", "text", ""),
    ("padded", "char(5)", ""),
    ("folded", "citext", ""),
    ("raw", "bytea", "keyword"),
    ("truth", "boolean", ""),
    ("day", "date", ""),
    ("any_day", "date", "keyword"),
    ("clock", "time", ""),
    ("local", "timestamp", ""),
    ("moment", "timestamptz", ""),
    ("span", "interval", ""),
    ("unique_id", "uuid", ""),
    ("tree", "json", ""),
    ("tree_b", "jsonb", ""),
    ("feeling", "mood", ""),
    ("age", "adult", ""),
    ("numbers", "integer[]", ""),
    ("words", "text[]", ""),
    ("composed", "pair", ""),
    ("between", "int4range", ""),
    ("during", "tstzrange", ""),
    ("ranges", "int4multirange", ""),
    ("host", "inet", ""),
    ("net", "cidr", ""),
    ("card", "macaddr", ""),
    ("pairs", "hstore", ""),
    ("place", "point", ""),
    ("markup", "xml", ""),
    ("lexemes", "tsvector", ""),
    ("object_id", "oid", ""),
    ("price", "money", ""),
    ("flags", "bit(4)", ""),
];

/// A column, an expression for its value, and the field as it is in the document, as JSON text.
const KEPT: &[(&str, &str, &str)] = &[
    ("small", "-32768", "-32768"),
    ("whole", "2147483647", "2147483647"),
    ("big", "9223372036854775807", "9223372036854775807"),
    ("big", "-9223372036854775808", "-9223372036854775808"),
    // The one rounding: to the nearest double, where somebody asked for a double.
    ("big_double", "9007199254740993", "9007199254740992.0"),
    ("amount", "12.50", "12.5"),
    ("amount", "-0.05", "-0.05"),
    ("scaled", "-12345678.1234", "-12345678.1234"),
    (
        "digits",
        "123456789012345678901234567890.123456789",
        "\"123456789012345678901234567890.123456789\"",
    ),
    ("digits", "'NaN'", "\"NaN\""),
    ("digits", "'-Infinity'", "\"-Infinity\""),
    ("short", "0.1", "0.1"),
    ("short", "'-0'", "-0.0"),
    ("long", "0.1::float8 + 0.2::float8", "0.30000000000000004"),
    ("long", "'5e-324'", "5e-324"),
    ("prose", r#"E' zwölf \\ " \n 漢 '"#, r#"" zwölf \\ \" \n 漢 ""#),
    ("prose", "''", "\"\""),
    ("padded", "'a b'", "\"a b\""),
    ("folded", "'Ada@Example.org'", "\"Ada@Example.org\""),
    ("truth", "false", "false"),
    ("day", "'2024-02-29'", "\"2024-02-29\""),
    ("any_day", "'infinity'", "\"infinity\""),
    ("any_day", "'0044-03-15 BC'", "\"0044-03-15 BC\""),
    ("clock", "'24:00'", "\"24:00:00\""),
    (
        "local",
        "'2024-05-06 07:08:09.123456'",
        "\"2024-05-06T07:08:09.123456\"",
    ),
    (
        "moment",
        "'2024-05-06 07:08:09.123456+02'",
        "\"2024-05-06T05:08:09.123456Z\"",
    ),
    ("span", "'-1 year +3 days -04:05:06.7'", "\"P-1Y3DT-4H-5M-6.7S\""),
    (
        "unique_id",
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
        "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
    ),
    (
        "tree",
        r#"'{"b": 12345678901234567890.10, "a": 1, "a": 2}'"#,
        r#"{"a":2,"b":12345678901234567890.10}"#,
    ),
    (
        "tree_b",
        r#"'{"b": [null, {"c": 1e2}]}'"#,
        r#"{"b":[null,{"c":100}]}"#,
    ),
    ("feeling", "'so, so'", "\"so, so\""),
    ("age", "18", "18"),
    ("numbers", "'[2:3][1:2]={{1,NULL},{-3,4}}'", r#"["1","-3","4"]"#),
    ("numbers", "'{}'", "[]"),
    (
        "words",
        r#"array['null', '', 'a "b"', null]"#,
        r#"["null","","a \"b\""]"#,
    ),
    (
        "composed",
        "row(1.50, null)::pair",
        r#"{"n":1.50,"some text":null}"#,
    ),
    ("between", "'[1,10]'", r#"{"gte":1,"lt":11}"#),
    ("between", "'empty'", r#"{"empty":true}"#),
    (
        "during",
        "'[2024-01-01 10:00+02,infinity)'",
        r#"{"gte":"2024-01-01T08:00:00Z","lt":"infinity"}"#,
    ),
    (
        "ranges",
        "'{[1,3),[9,)}'",
        r#"["{\"gte\":1,\"lt\":3}","{\"gte\":9}"]"#,
    ),
    ("host", "'10.0.0.1/32'", "\"10.0.0.1\""),
    ("net", "'10'", "\"10.0.0.0/8\""),
    ("card", "'08002B010203'", "\"08:00:2b:01:02:03\""),
    ("pairs", r#"'a=>1, "b c"=>NULL'"#, r#"{"a":"1","b c":null}"#),
    ("place", "'(1.5,-2)'", r#"{"x":1.5,"y":-2.0}"#),
    ("place", "'(NaN,Infinity)'", r#"{"x":"NaN","y":"inf"}"#),
    ("markup", "'<a b=\"1\">é</a>'", r#""<a b=\"1\">é</a>""#),
    ("lexemes", "'fat:2A cat:3'", "\"'cat':3 'fat':2A\""),
    ("object_id", "4294967295", "4294967295"),
    ("price", "'-1234567.8'", "-1234567.8"),
    ("flags", "B'0101'", "\"0101\""),
];

/// A column, an expression for a value that its field cannot take, the kind of value that the dead letter names, and
/// what of the value must be nowhere.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("amount", "'NaN'", "decimal", "NaN"),
    ("amount", "'-Infinity'", "decimal", "Infinity"),
    ("amount", "7.77123", "decimal", "7.77123"),
    ("amount", "77712345678901234567", "decimal", "777123"),
    ("short", "'NaN'", "floating point number", "NaN"),
    ("long", "'Infinity'", "floating point number", "inf"),
    ("raw", "'\\x777123'", "bytes", "777123"),
    ("day", "'infinity'", "text", "infinity"),
    ("day", "'0777-03-15 BC'", "text", "0777"),
    ("local", "'77712-01-01'", "text", "77712"),
    ("moment", "'-infinity'", "text", "infinity"),
    ("tree", "'[777123]'", "JSON", "777123"),
    ("tree", "'{\"a\": \"\\ud800 777123\"}'", "JSON", "777123"),
    (
        "tree",
        "(repeat('{\"x777123\":', 200) || '1' || repeat('}', 200))::json",
        "JSON",
        "777123",
    ),
    ("tree_b", "'\"x777123\"'", "JSON", "777123"),
];

fn configuration(source: &str) -> String {
    let mut text = format!(
        "{source}[collection.oddity]\nroot = \"oddity\"\npublic = true\n[collection.oddity.fields]\n"
    );
    for (name, _, kind) in COLUMNS {
        let _ = match *kind {
            "" => writeln!(text, "{name} = {{}}"),
            kind => writeln!(text, "{name} = \"{kind}\""),
        };
    }
    text
}

/// Statements that insert every case, from this key on.
fn rows(from: usize) -> String {
    let kept = KEPT.iter().map(|(column, value, _)| (column, value));
    let refused = REFUSED.iter().map(|(column, value, ..)| (column, value));
    let mut sql = String::new();
    for (at, (column, value)) in kept.chain(refused).enumerate() {
        let _ = writeln!(
            sql,
            "insert into oddity (id, {column}) values ({}, {value});",
            from + at
        );
    }
    sql
}

fn assert_documents(served: &Server, from: usize) {
    for (at, (column, value, expected)) in KEPT.iter().enumerate() {
        let answer = served.send("GET", &format!("/oddity/_doc/{}", from + at), None, None);
        assert_eq!(answer.status, 200, "{column} {value}: {}", answer.body);
        // As text, so that no digit is lost in the comparison.
        let field = format!("\"{column}\":{expected}");
        let found = answer.body.split_once(&field);
        assert!(
            found.is_some_and(|(_, rest)| rest.starts_with([',', '}'])),
            "{column} {value}: {field} is not in {}",
            answer.body
        );
        let document = answer.json();
        let source = document["_source"].as_object().expect("a document");
        let others = source
            .iter()
            .filter(|(name, value)| *name != column && !value.is_null());
        assert_eq!(others.count(), 0, "{column} {value}: {document}");
    }
    for (at, (column, value, ..)) in REFUSED.iter().enumerate() {
        let key = from + KEPT.len() + at;
        let answer = served.send("GET", &format!("/oddity/_doc/{key}"), None, None);
        assert_eq!(answer.status, 404, "{column} {value}: {}", answer.body);
    }
}

/// What `status` says: each refused row is named with its field and the kind of its value, and with nothing of it.
fn assert_dead_letters(product: &Product, from: usize) {
    let output = product.run(&["status", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let status: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON");
    let troubles = status["troubles"].as_array().expect("troubles");
    assert_eq!(troubles.len(), REFUSED.len(), "{status:#}");
    for (at, (column, value, kind, secret)) in REFUSED.iter().enumerate() {
        let key = (from + KEPT.len() + at).to_string();
        let trouble = troubles.iter().find(|trouble| trouble["key"] == key.as_str());
        let trouble = trouble.unwrap_or_else(|| panic!("{column} {value} is no dead letter: {status:#}"));
        assert_eq!(trouble["dead"], true, "{trouble}");
        let reason = trouble["reason"].as_str().expect("a reason");
        assert!(
            reason.contains(column) && reason.contains(kind),
            "{column} {value}: {trouble}"
        );
        assert!(
            !trouble.to_string().contains(secret),
            "{column} {value}: {trouble}"
        );
    }
}

#[test]
fn every_kind_of_value_arrives_as_it_is_or_is_named() {
    if postgres::or_skip("values from table to search").is_none() {
        return;
    }
    let database = Postgres::shared().database("oddities");
    let columns: String = COLUMNS
        .iter()
        .map(|(name, declared, _)| format!(", {name} {declared}"))
        .collect();
    database.execute(&format!(
        "{TYPES} create table oddity (id integer primary key{columns});"
    ));
    database.execute(&rows(0));
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&source_of("main", &database)));
    let served = product.serve();
    settled(&served, &database, "main");
    assert_documents(&served, 0);
    assert_dead_letters(&product, 0);
    // The same by way of the stream; rows that are gone are no dead letters.
    database.execute("delete from oddity");
    database.execute(&rows(1_000));
    settled(&served, &database, "main");
    assert_documents(&served, 1_000);
    assert_dead_letters(&product, 1_000);
    assert_eq!(served.stop(), Some(0));
}
