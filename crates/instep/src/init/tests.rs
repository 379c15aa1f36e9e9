#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{Config, Schemas};

fn column(name: &str, kind: ColumnKind, nullable: bool) -> Column {
    let declared = match kind {
        ColumnKind::Decimal => "DECIMAL(10,2)",
        ColumnKind::Any => "",
        _ => "TYPE",
    };
    Column {
        name: name.to_owned(),
        kind,
        declared: declared.to_owned(),
        nullable,
    }
}

fn table(
    name: &str,
    key: &[&str],
    columns: &[(&str, ColumnKind)],
    keys: &[(&[&str], &str, &[&str])],
) -> TableSchema {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    TableSchema {
        name: name.into(),
        columns: columns
            .iter()
            .map(|(name, kind)| column(name, *kind, false))
            .collect(),
        primary_key: own(key),
        foreign_keys: keys
            .iter()
            .map(|(columns, to, referenced)| ForeignKey {
                columns: own(columns),
                table: (*to).into(),
                referenced: own(referenced),
            })
            .collect(),
        indexes: Vec::new(),
    }
}

use ColumnKind::{Any, Bytes, Decimal, Integer, Text};

const ID: &[&str] = &["id"];

fn resolves(text: &str, tables: &[TableSchema]) -> Vec<instep_core::Collection> {
    let config = Config::parse(Path::new("instep.toml"), text.to_owned(), &|_| None);
    let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    let schemas = Schemas::from([("main".into(), tables.to_vec())]);
    config
        .collections(&schemas)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The file with every field that is a comment taken in.
fn with_comments(text: &str) -> String {
    let taken = |line: &str| {
        let field = line.strip_prefix("# ").filter(|field| {
            let why = [DOCUMENTS, READERS, MANY, WITH, "looks like a secret"];
            why.iter().any(|why| field.ends_with(&format!("# {why}"))) && !field.starts_with('#')
        });
        field.unwrap_or(line).to_owned()
    };
    text.lines().map(taken).collect::<Vec<_>>().join("\n")
}

fn shop() -> Vec<TableSchema> {
    vec![
        table("audit", &[], &[("what", Text)], &[]),
        table(
            "category",
            ID,
            &[("id", Integer), ("parent_id", Integer), ("name", Text)],
            &[(&["parent_id"], "category", ID)],
        ),
        table(
            "line",
            &["order_id", "nr"],
            &[
                ("order_id", Integer),
                ("nr", Integer),
                ("product_id", Integer),
                ("count", Integer),
            ],
            &[(&["order_id"], "order", ID), (&["product_id"], "product", ID)],
        ),
        table(
            "order",
            ID,
            &[
                ("id", Integer),
                ("from_id", Integer),
                ("to_id", Integer),
                ("Order Nr.", Text),
            ],
            &[(&["from_id"], "place", ID), (&["to_id"], "place", ID)],
        ),
        table(
            "place",
            ID,
            &[("id", Integer), ("name", Text), ("api_token", Text)],
            &[],
        ),
        table(
            "product",
            ID,
            &[
                ("id", Integer),
                ("name", Text),
                ("price", Decimal),
                ("category_id", Integer),
                ("photo", Bytes),
                ("odd", Any),
                ("acl_readers", Text),
            ],
            &[(&["category_id"], "category", ID)],
        ),
        table(
            "product_tag",
            &["product_id", "tag_id"],
            &[("product_id", Integer), ("tag_id", Integer)],
            &[(&["product_id"], "product", ID), (&["tag_id"], "tag", ID)],
        ),
        table("tag", ID, &[("id", Integer), ("name", Text)], &[]),
    ]
}

const SHOP: &str = include_str!("shop.toml");

#[test]
fn a_shop() {
    let text = configuration("sqlite:shop.db", &shop());
    assert_eq!(text, SHOP);
    let names: Vec<String> = resolves(&text, &shop())
        .iter()
        .map(|found| found.name.to_string())
        .collect();
    assert_eq!(names, ["category", "order", "place", "product", "tag"]);
    resolves(&with_comments(&text), &shop());
}

#[test]
fn names_of_collections() {
    let mut taken = HashSet::new();
    for (table, expected) in [
        ("product", "product"),
        ("Product", "product_2"),
        ("order items", "order_items"),
        ("1st", "table_1st"),
        ("Straße", "stra_e"),
        ("_", "table"),
        ("", "table_2"),
    ] {
        assert_eq!(collection_name(table, &mut taken), expected, "{table}");
    }
}

#[test]
fn text_of_toml_is_one_line() {
    let awkward = "a\n\"b\\\t\u{7f}é";
    let text = format!("{} = {}", key(awkward), quoted(awkward));
    assert_eq!(text.lines().count(), 1);
    let back: toml::Table = text.parse().unwrap();
    assert_eq!(back[awkward].as_str(), Some(awkward));
}

const NAMES: [&str; 26] = [
    "a",
    "b",
    "id",
    "x.a",
    "a.b",
    "a b",
    "Ä",
    "\"q\"",
    "'",
    "*",
    "_x",
    "",
    " ",
    "and",
    "or=",
    "readers",
    "password",
    "x\ny",
    "name",
    "a_id",
    "a_2",
    "\\",
    "#",
    "^,",
    "seller_id",
    "1",
];
const KINDS: [ColumnKind; 11] = [
    ColumnKind::Boolean,
    Integer,
    ColumnKind::Double,
    Decimal,
    Text,
    ColumnKind::Keyword,
    ColumnKind::Date,
    ColumnKind::Json,
    ColumnKind::Array,
    Bytes,
    Any,
];

/// Any tables: names from few, so that they meet; keys and foreign keys over any columns, also ones that do not exist.
fn any_tables(most: usize) -> impl Strategy<Value = Vec<TableSchema>> {
    let columns = prop::collection::btree_map(0..NAMES.len(), (0..KINDS.len(), any::<bool>()), 1..7);
    let foreign = (
        prop::collection::vec(0..7_usize, 1..3),
        0..most,
        prop::collection::vec(0..7_usize, 1..3),
    );
    let table = (columns, 0..4_usize, prop::collection::vec(foreign, 0..4));
    prop::collection::vec(table, 1..most).prop_map(|drawn| {
        let name = |at: usize| match NAMES.get(at) {
            Some(name) => (*name).to_owned(),
            None => format!("{}.{at}", NAMES[at % NAMES.len()]),
        };
        let mut tables: Vec<TableSchema> = Vec::new();
        for (at, (columns, key, _)) in drawn.iter().enumerate() {
            let columns: Vec<Column> = columns
                .iter()
                .map(|(name, (kind, nullable))| column(NAMES[*name], KINDS[*kind], *nullable))
                .collect();
            let primary_key = columns
                .iter()
                .take(*key)
                .map(|column| column.name.clone())
                .collect();
            tables.push(TableSchema {
                name: name(at).into(),
                columns,
                primary_key,
                foreign_keys: Vec::new(),
                indexes: Vec::new(),
            });
        }
        for (at, (_, _, keys)) in drawn.iter().enumerate() {
            for (columns, to, referenced) in keys {
                let pick = |table: &TableSchema, picked: &[usize]| -> Vec<String> {
                    picked
                        .iter()
                        .map(|at| {
                            table
                                .columns
                                .get(*at)
                                .map_or("missing".to_owned(), |column| column.name.clone())
                        })
                        .collect()
                };
                let width = columns.len().min(referenced.len());
                let target = tables.get(*to).cloned();
                let key = ForeignKey {
                    columns: pick(&tables[at], &columns[..width]),
                    table: target
                        .as_ref()
                        .map_or("missing".into(), |table| table.name.clone()),
                    referenced: target
                        .as_ref()
                        .map_or_else(Vec::new, |table| pick(table, &referenced[..width])),
                };
                tables[at].foreign_keys.push(key);
            }
        }
        tables
    })
}

fn holds(tables: &[TableSchema]) {
    if tables.iter().all(|table| table.primary_key.is_empty()) {
        return;
    }
    let text = configuration("sqlite:a \"b\"\\c.db", tables);
    assert!(!resolves(&text, tables).is_empty());
    resolves(&with_comments(&text), tables);
    for table in tables {
        assert!(text.contains(&quoted(table.name.as_str())), "{}", table.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_schema_has_a_configuration_that_resolves(tables in any_tables(9)) {
        holds(&tables);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3) })]

    #[test]
    fn large_schemas_too(tables in any_tables(201)) {
        holds(&tables);
    }
}
