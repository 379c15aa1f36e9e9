//! Every kind of value in every type of field: its form, or a refusal that names the field and the kind and never the
//! value.

use instep_core::{Built, Collection, Content, Fault, FieldType, ReadersFrom, Value};

use super::definition::{
    Definition, assembler, built, column, database, document, field, id, object, row, table,
};

fn kinds() -> Vec<FieldType> {
    vec![
        FieldType::Keyword,
        FieldType::Text {
            analyzer: "english".to_owned(),
            keyword: true,
        },
        FieldType::Long,
        FieldType::Integer,
        FieldType::Double,
        FieldType::Decimal { scale: 2 },
        FieldType::Boolean,
        FieldType::Date,
        FieldType::Flattened,
    ]
}

/// The text of field `f` with this value; `None` when the document is refused, which is checked.
fn written(value: Value, kind: &FieldType) -> Option<String> {
    let tables = [table("t", 1, &["id", "f:any"]), table("u", 1, &["id", "t"])];
    let memory = database(&tables, &[("t", row![1, value.clone()]), ("u", row![1, 1])]);
    let own = Definition::new(&tables, "t").fields(vec![column("f", kind.clone())]);
    let mut below = Definition::new(&tables, "u");
    let node = below.one(0, "t", &[("t", "id")]);
    let below = below.fields(vec![object("o", node, vec![column("f", kind.clone())])]);
    refused(&assembler(&memory, vec![below]), "`o.f`", &value);
    refused(&assembler(&memory, vec![own]), "`f`", &value).map(|source| {
        let text = source
            .strip_prefix("{\"f\":")
            .and_then(|text| text.strip_suffix('}'));
        text.unwrap().to_owned()
    })
}

/// The document with key 1, or `None` when it is refused as it should be.
fn refused(assembler: &instep_sync::Assembler, path: &str, value: &Value) -> Option<String> {
    match built(assembler, &[id(row![1])]).remove(0) {
        Built::Document(document, _) => Some(document.source.to_string()),
        Built::Gone => panic!("the row is there"),
        Built::Rejected(error, _) => {
            assert_eq!(error.fault(), Fault::Poison);
            let message = error.to_string();
            assert!(message.contains(path), "{message} does not name {path}");
            assert!(
                !message.contains("secret") && !message.contains("4242"),
                "{message} shows the value"
            );
            assert!(error.remedy().is_some());
            assert!(
                message.contains(value.kind()),
                "{message} does not name {}",
                value.kind()
            );
            None
        }
    }
}

#[test]
fn each_kind_in_each_type() {
    let decimal = |text: &str| Value::Decimal(text.into());
    let json = |text: &str| Value::Json(text.into());
    // In the order of `kinds`: keyword, text, long, integer, double, decimal, boolean, date, flattened.
    let cases: Vec<(Value, [Option<&str>; 9])> = vec![
        (Value::Null, [Some("null"); 9]),
        (
            Value::Bool(true),
            [
                Some("\"true\""),
                Some("\"true\""),
                None,
                None,
                None,
                None,
                Some("true"),
                None,
                None,
            ],
        ),
        (
            Value::Int(424242),
            [
                Some("\"424242\""),
                Some("\"424242\""),
                Some("424242"),
                Some("424242"),
                Some("424242.0"),
                Some("424242"),
                None,
                Some("424242"),
                None,
            ],
        ),
        (
            Value::Int(4_242_424_242),
            [
                Some("\"4242424242\""),
                Some("\"4242424242\""),
                Some("4242424242"),
                None,
                Some("4242424242.0"),
                Some("4242424242"),
                None,
                Some("4242424242"),
                None,
            ],
        ),
        (
            Value::Double(4242.125),
            [
                Some("\"4242.125\""),
                Some("\"4242.125\""),
                None,
                None,
                Some("4242.125"),
                None,
                None,
                None,
                None,
            ],
        ),
        (
            Value::Double(f64::INFINITY),
            [
                Some("\"inf\""),
                Some("\"inf\""),
                None,
                None,
                None,
                None,
                None,
                None,
                None,
            ],
        ),
        (
            decimal("4242.50"),
            [
                Some("\"4242.50\""),
                Some("\"4242.50\""),
                None,
                None,
                Some("4242.5"),
                Some("4242.5"),
                None,
                None,
                None,
            ],
        ),
        (
            decimal("4242424242424242424242"),
            [
                Some("\"4242424242424242424242\""),
                Some("\"4242424242424242424242\""),
                None,
                None,
                Some("4.2424242424242425e+21"),
                None,
                None,
                None,
                None,
            ],
        ),
        (
            Value::text("secret"),
            [
                Some("\"secret\""),
                Some("\"secret\""),
                None,
                None,
                None,
                None,
                None,
                None,
                None,
            ],
        ),
        (
            Value::text("42"),
            [
                Some("\"42\""),
                Some("\"42\""),
                Some("42"),
                Some("42"),
                Some("42.0"),
                Some("42"),
                None,
                None,
                None,
            ],
        ),
        (
            Value::text("2020-02-29 23:59:59.5"),
            [
                Some("\"2020-02-29 23:59:59.5\""),
                Some("\"2020-02-29 23:59:59.5\""),
                None,
                None,
                None,
                None,
                None,
                Some("\"2020-02-29T23:59:59.5\""),
                None,
            ],
        ),
        (Value::Bytes(b"secret".as_slice().into()), [None; 9]),
        (
            json("{\"b\":\"secret\",\"a\":[]}"),
            [
                Some("\"{\\\"b\\\":\\\"secret\\\",\\\"a\\\":[]}\""),
                Some("\"{\\\"b\\\":\\\"secret\\\",\\\"a\\\":[]}\""),
                None,
                None,
                None,
                None,
                None,
                None,
                Some("{\"a\":[],\"b\":\"secret\"}"),
            ],
        ),
        (
            json("[\"secret\"]"),
            [
                Some("\"[\\\"secret\\\"]\""),
                Some("\"[\\\"secret\\\"]\""),
                None,
                None,
                None,
                None,
                None,
                None,
                None,
            ],
        ),
    ];
    for (value, expected) in cases {
        for (kind, expected) in kinds().iter().zip(expected) {
            let written = written(value.clone(), kind);
            // The one text that is also a year.
            if *kind == FieldType::Date && value == Value::text("42") {
                continue;
            }
            assert_eq!(written.as_deref(), expected, "{value:?} as {kind:?}");
        }
    }
}

fn refusal(collection: Collection, value: Value) -> String {
    let tables = [table("t", 1, &["id", "f:any"])];
    let memory = database(&tables, &[("t", row![1, value])]);
    match built(&assembler(&memory, vec![collection]), &[id(row![1])]).remove(0) {
        Built::Rejected(error, _) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn json_that_does_not_fit_is_refused() {
    let tables = [table("t", 1, &["id", "f:any"])];
    let array = || {
        let column = "f".to_owned();
        let kind = FieldType::Long;
        Definition::new(&tables, "t").fields(vec![field(
            "f",
            Content::Column {
                column,
                kind,
                array: true,
            },
        )])
    };
    let members = || {
        let inner = Content::Json {
            column: "in".to_owned(),
            fields: vec![column("n", FieldType::Long)],
        };
        let column = "f".to_owned();
        let fields = vec![field("in", inner)];
        Definition::new(&tables, "t").fields(vec![field("f", Content::Json { column, fields })])
    };
    let json = |text: &str| Value::Json(text.into());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        (array(), json("{}"), "`f`"),
        (array(), json("\"secret\""), "`f`"),
        (array(), json("[1,\"secret\"]"), "`f`"),
        (array(), Value::text("secret"), "`f`"),
        (array(), Value::Int(4242), "`f`"),
        (array(), json(&deep), "`f`"),
        (members(), json("[\"secret\"]"), "`f`"),
        (members(), json("4242"), "`f`"),
        (members(), Value::text("{\"secret"), "`f`"),
        (members(), json("{\"in\":4242}"), "`f.in`"),
        (members(), json("{\"in\":{\"n\":\"secret\"}}"), "`f.in.n`"),
        (members(), json("{\"in\":{\"n\":[4242]}}"), "`f.in.n`"),
        (
            members(),
            json("{\"in\":{\"n\":4242424242424242424242}}"),
            "`f.in.n`",
        ),
    ];
    for (collection, value, path) in cases {
        let message = refusal(collection, value.clone());
        assert!(message.contains(path), "{message}");
        assert!(
            !message.contains("secret") && !message.contains("4242"),
            "{message} shows the value"
        );
    }
}

#[test]
fn readers_that_are_none_are_refused() {
    let tables = [table("t", 1, &["id", "f:any"])];
    let json = |text: &str| Value::Json(text.into());
    let values = [
        json("{}"),
        json("\"secret\""),
        json("[\"secret\",null]"),
        json("[true]"),
        json("[[\"secret\"]]"),
        Value::text("secret"),
        Value::Int(4242),
        Value::Bytes(b"[]".as_slice().into()),
    ];
    for value in values {
        let mut definition = Definition::new(&tables, "t");
        definition.readers(vec![], vec![ReadersFrom::Array("f".to_owned())]);
        let message = refusal(definition.fields(vec![]), value.clone());
        assert!(message.contains("`readers`"), "{message}");
        assert!(
            !message.contains("secret") && !message.contains("4242"),
            "{message} shows the value"
        );
    }
}

#[test]
fn one_document_that_does_not_fit_leaves_the_others_alone() {
    let tables = [table("t", 1, &["id", "f:text"])];
    let rows: Vec<_> = (0..9)
        .map(|id| ("t", row![id, if id % 3 == 0 { "x" } else { "7" }]))
        .collect();
    let memory = database(&tables, &rows);
    let assembler = assembler(
        &memory,
        vec![Definition::new(&tables, "t").fields(vec![column("f", FieldType::Long)])],
    );
    let ids: Vec<_> = (0..9).map(|key| id(row![key])).collect();
    for (at, built) in built(&assembler, &ids).into_iter().enumerate() {
        match built {
            Built::Rejected(..) => assert_eq!(at % 3, 0),
            Built::Document(document, _) => assert!(at % 3 > 0 && &*document.source == "{\"f\":7}"),
            Built::Gone => panic!("{at} is there"),
        }
    }
    assert_eq!(&*document(&assembler, 1).source, "{\"f\":7}");
}
