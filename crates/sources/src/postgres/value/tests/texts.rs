//! Texts of composed values: what was written comes back, whatever is in it, and what nobody wrote is refused.

use std::fmt::Write as _;

use instep_core::{ColumnKind as K, Fault, Value};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::{Rule, Type};
use super::lines::{database, under_settings};
use crate::postgres::connect::Endpoint;
use crate::postgres::literal;

fn of(rule: Rule) -> Type {
    Type::new("its name", "its.name", K::Any, rule)
}

fn plain() -> Type {
    of(Rule::Text)
}

fn texts() -> Type {
    of(Rule::Array(plain(), ','))
}

fn triple() -> Type {
    let names = ["a", "b\"", "ç"];
    let attributes = names.map(|name| (name.to_owned(), plain()));
    of(Rule::Composite(attributes.into()))
}

/// The value as a tree.
fn tree(kind: &Type, text: &str) -> serde_json::Value {
    match kind.read(Some(text)).unwrap() {
        Value::Json(json) => serde_json::from_str(&json).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A text with what the forms give a meaning.
fn item() -> impl Strategy<Value = Option<String>> {
    let word = prop_oneof![
        "[\"\\\\{},;()=> \\[\\]'a\t\n]{0,8}",
        "(NULL|null|empty|é|漢|\u{1}|=>|\\\\x){0,3}",
        "[^\u{0}]{0,6}",
    ];
    proptest::option::weighted(0.85, word)
}

/// Arrays of one to three dimensions, as Postgres has them: every part of a dimension is as long as the others.
fn nested() -> impl Strategy<Value = serde_json::Value> {
    let lengths = proptest::collection::vec(1_usize..4, 1..4);
    lengths.prop_flat_map(|lengths| {
        let count = lengths.iter().product::<usize>();
        proptest::collection::vec(item(), count).prop_map(move |items| {
            let mut parts: Vec<serde_json::Value> = items.into_iter().map(serde_json::Value::from).collect();
            for length in lengths[1..].iter().rev() {
                parts = parts.chunks(*length).map(|chunk| chunk.to_vec().into()).collect();
            }
            parts.into()
        })
    })
}

/// A text between quotes, `guard` before each character that needs one.
fn quoted(text: &str, guard: impl Fn(char) -> &'static str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted += guard(c);
        }
        quoted.push(c);
    }
    quoted + "\""
}

fn array_literal(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::String(text) => quoted(text, |_| "\\"),
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(array_literal).collect();
            format!("{{{}}}", items.join(","))
        }
        other => panic!("{other}"),
    }
}

fn composite_literal(items: &[Option<String>]) -> String {
    let guard = |c| if c == '"' { "\"" } else { "\\" };
    let items = items
        .iter()
        .map(|item| item.as_deref().map_or(String::new(), |text| quoted(text, guard)));
    format!("({})", items.collect::<Vec<_>>().join(","))
}

fn hstore_literal(members: &std::collections::BTreeMap<String, Option<String>>) -> String {
    let member = |(name, value): (&String, &Option<String>)| {
        let value = value
            .as_ref()
            .map_or("NULL".to_owned(), |text| quoted(text, |_| "\\"));
        format!("{}=>{value}", quoted(name, |_| "\\"))
    };
    members.iter().map(member).collect::<Vec<_>>().join(", ")
}

fn members() -> impl Strategy<Value = std::collections::BTreeMap<String, Option<String>>> {
    proptest::collection::btree_map(item().prop_map(Option::unwrap_or_default), item(), 0..4)
}

fn triples() -> impl Strategy<Value = Vec<Option<String>>> {
    proptest::collection::vec(item(), 3)
}

fn object(items: &[Option<String>]) -> serde_json::Value {
    serde_json::json!({"a": items[0], "b\"": items[1], "ç": items[2]})
}

proptest! {
    #[test]
    fn arrays_come_back(value in nested()) {
        prop_assert_eq!(tree(&texts(), &array_literal(&value)), value);
    }

    #[test]
    fn composites_come_back(items in triples()) {
        prop_assert_eq!(tree(&triple(), &composite_literal(&items)), object(&items));
    }

    #[test]
    fn hstores_come_back(members in members()) {
        let expected = serde_json::to_value(&members).unwrap();
        prop_assert_eq!(tree(&of(Rule::Hstore), &hstore_literal(&members)), expected);
    }

    /// Whatever the text, the answer is a value or poison that does not show it.
    #[test]
    fn no_text_breaks_anything(text in "([\\[\\](){}\",\\\\=> .:a1é-]|empty|NULL|infinity|\\+00){0,24}") {
        let composed = [
            texts(),
            triple(),
            of(Rule::Hstore),
            of(Rule::Range(plain())),
            of(Rule::Multirange(plain())),
            of(Rule::Vector(of(Rule::Integer(0, 9)))),
            of(Rule::Point),
        ];
        for kind in &composed {
            match kind.read(Some(&text)) {
                Ok(Value::Json(json)) => {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(error) => prop_assert!(text.len() < 4 || !error.to_string().contains(&text)),
            }
        }
        for rule in [Rule::Boolean, Rule::Unsigned, Rule::Double, Rule::Decimal, Rule::Money(2), Rule::Padded,
            Rule::Bytes, Rule::Date, Rule::Timestamp, Rule::Moment]
        {
            let kind = of(rule);
            let _ = kind.read(Some(&text));
            let _ = kind.write(&Value::text(&text));
            let _ = kind.write(&Value::Decimal(text.as_str().into()));
        }
    }
}

/// Some of what a strategy makes, the same at each run.
fn samples<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    let sample = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(sample).collect()
}

#[test]
fn what_the_server_spells_comes_back() {
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
        let arrays = samples(nested(), 200);
        let objects = samples(triples(), 200);
        let stores = samples(members(), 200);
        session
            .execute("create type triple as (a text, \"b\"\"\" text, \"ç\" text)")
            .await
            .unwrap();
        let arrays = arrays
            .into_iter()
            .map(|value| (texts(), "text[]", array_literal(&value), value));
        let objects = objects
            .into_iter()
            .map(|items| (triple(), "triple", composite_literal(&items), object(&items)));
        let stores = stores.into_iter().map(|members| {
            let expected = serde_json::to_value(&members).unwrap();
            (of(Rule::Hstore), "hstore", hstore_literal(&members), expected)
        });
        let mut script = String::new();
        let all: Vec<_> = arrays.chain(objects).chain(stores).collect();
        for (_, name, written, _) in &all {
            if !script.is_empty() {
                script += " union all ";
            }
            write!(script, "select {}::{name}::text t", literal(written)).unwrap();
        }
        let joined = format!("select json_agg(t)::text from ({script}) all_of_them");
        let answer = under_settings(&session, &joined).await.unwrap();
        let spelled: Vec<String> = serde_json::from_str(&answer).unwrap();
        assert_eq!(spelled.len(), 600);
        for (text, (kind, _, _, expected)) in spelled.iter().zip(&all) {
            assert_eq!(&tree(kind, text), expected, "{text}");
        }
    });
}

#[test]
fn what_nobody_wrote_is_refused() {
    let integers = || of(Rule::Integer(i64::MIN, i64::MAX));
    let cases: Vec<(Type, &[&str])> = vec![
        (of(Rule::Boolean), &["true", "", "T"]),
        (integers(), &["", "1.0", "9223372036854775808", "x"]),
        (of(Rule::Unsigned), &["-x", "18446744073709551616"]),
        (of(Rule::Double), &["", "nan", "inf", "0x1", "1,5"]),
        (of(Rule::Decimal), &["", ".5", "5.", "1e5", "--1", "1,5", "Inf"]),
        (
            of(Rule::Money(2)),
            &["1.00", "$1", "$1.0", "€1.00", "$1.000", "($1.00)", "$.00"],
        ),
        (of(Rule::Bytes), &["", "\\x0", "\\xgg", "\\000", "00"]),
        (
            of(Rule::Moment),
            &["2024-05-06 07:08:09", "2024-05-06 07:08:09+02", "06/05/2024"],
        ),
        (
            of(Rule::Array(integers(), ',')),
            &[
                "",
                "{",
                "{1",
                "{1,}",
                "{1}x",
                "{,1}",
                "[1:1]",
                "[1:1]{1}",
                "{{1}",
                "{a}",
                "{{{{{{{1}}}}}}}",
                "{\"1}",
                "{\"1\\",
            ],
        ),
        (
            of(Rule::Range(integers())),
            &["", "[", "[1", "[1,", "[1,2", "1,2)", "[1,2)x", "[a,2)", "[\"1,2)"],
        ),
        (
            of(Rule::Multirange(integers())),
            &["", "{", "{[1,2)", "{[1,2),}", "{[1,2) [3,4)}", "[1,2)"],
        ),
        (
            of(Rule::Composite(vec![("a".into(), integers())])),
            &["", "(", "(1", "(1)x", "(x)"],
        ),
        (
            of(Rule::Hstore),
            &[
                "a=>1",
                "\"a\"",
                "\"a\"=>",
                "\"a\"=>x",
                "\"a\"=>\"1\",",
                "\"a\"=>\"1\"\"b\"=>\"2\"",
            ],
        ),
        (of(Rule::Point), &["", "(1)", "(1,2", "1,2", "(a,b)", "(1,2,3)"]),
    ];
    for (kind, texts) in cases {
        for text in texts {
            let error = kind.read(Some(text)).expect_err(text);
            assert_eq!(error.fault(), Fault::Poison, "{text}");
            let message = error.to_string();
            assert!(message.contains("its name"), "{message}");
        }
    }
}

#[test]
fn a_composite_that_gained_or_lost_an_attribute_is_read_again() {
    for text in ["(1,2)", "(1,2,3,4)", "()", "(1,2,)x"] {
        let error = triple().read(Some(text)).unwrap_err();
        assert_eq!(error.is_transient(), !text.ends_with('x'), "{text}");
    }
}

#[test]
fn money_has_the_digits_of_its_database() {
    for (text, places, expected) in [
        ("$1,234.50", 2, "1234.50"),
        ("$1,234.50", 0, "123450"),
        ("$1,234.50", 3, "123.450"),
        ("-$0.05", 0, "-5"),
        ("-$0.05", 3, "-0.005"),
        ("$0.00", 0, "0"),
    ] {
        let kind = of(Rule::Money(places));
        let value = kind.read(Some(text)).unwrap();
        assert_eq!(value, Value::Decimal(expected.into()), "{text}");
        let plain: String = text.chars().filter(|c| !matches!(c, '$' | ',')).collect();
        assert_eq!(kind.write(&value), Some(plain), "{text}");
    }
}

#[test]
fn a_value_is_written_for_every_type_that_it_can_equal_and_no_other() {
    let small = || of(Rule::Integer(-10, 10));
    let decimal = |text: &str| Value::Decimal(text.into());
    let cases = [
        (small(), Value::Int(10), Some("10")),
        (small(), Value::Int(11), None),
        (small(), decimal("5.00"), Some("5")),
        (small(), decimal("5.01"), None),
        (small(), Value::Double(-3.0), Some("-3")),
        (small(), Value::Double(0.5), None),
        (small(), Value::text("5"), None),
        (of(Rule::Unsigned), Value::Int(-1), None),
        (
            of(Rule::Unsigned),
            decimal("18446744073709551615"),
            Some("18446744073709551615"),
        ),
        (of(Rule::Unsigned), decimal("18446744073709551616"), None),
        (of(Rule::Decimal), Value::Int(5), Some("5")),
        (of(Rule::Decimal), decimal(".125e2"), Some(".125e2")),
        (of(Rule::Decimal), decimal("NaN"), Some("NaN")),
        (of(Rule::Decimal), decimal("1e99999"), None),
        (of(Rule::Decimal), decimal("abc"), None),
        (of(Rule::Decimal), Value::text("1"), None),
        (of(Rule::Double), decimal("-1.5"), Some("-1.5")),
        (of(Rule::Double), Value::Double(f64::NAN), Some("NaN")),
        (of(Rule::Money(2)), decimal("5"), Some("5.00")),
        (of(Rule::Money(2)), decimal("5.001"), None),
        (of(Rule::Money(2)), decimal("99999999999999999999"), None),
        (of(Rule::Boolean), Value::Bool(false), Some("f")),
        (of(Rule::Boolean), Value::Int(1), None),
        (plain(), Value::text("a'b"), Some("a'b")),
        (plain(), Value::text("a\0b"), None),
        (
            of(Rule::Uuid),
            Value::text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ),
        (of(Rule::Uuid), Value::text("a0eebc99"), None),
        (
            of(Rule::Bytes),
            Value::Bytes([0, 255].as_slice().into()),
            Some("\\x00ff"),
        ),
        (of(Rule::Bytes), Value::text("00ff"), None),
        (of(Rule::Date), Value::text("2024-02-29"), Some("2024-02-29")),
        (of(Rule::Date), Value::text("2023-02-29"), None),
        (of(Rule::Date), Value::text("0000-01-01"), None),
        (
            of(Rule::Date),
            Value::text("0005-02-29 BC"),
            Some("0005-02-29 BC"),
        ),
        (of(Rule::Date), Value::text("0004-02-29 BC"), None),
        (of(Rule::Date), Value::text("yesterday"), None),
        (of(Rule::Timestamp), Value::text("2024-02-29T24:00:00"), None),
        (of(Rule::Timestamp), Value::text("now"), None),
        (
            of(Rule::Moment),
            Value::text("20000-01-01 00:00:00+00"),
            Some("20000-01-01 00:00:00+00"),
        ),
        (of(Rule::Moment), Value::text("infinity"), Some("infinity")),
        (of(Rule::Moment), Value::Null, None),
        (texts(), Value::Json("[]".into()), None),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(kind.write(&value).as_deref(), expected, "{value:?} as {kind:?}");
    }
}
