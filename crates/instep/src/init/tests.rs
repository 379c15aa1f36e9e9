#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
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
    let config = Config::parse(Path::new("instep.toml"), text.to_owned(), &|name| {
        (name == "PGPASSWORD").then(|| "secret".to_owned())
    });
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

/// The same tables, spread over schemas, so that names meet across them.
fn with_schemas(mut tables: Vec<TableSchema>) -> Vec<TableSchema> {
    let part = |part: &str| match part.contains(['.', '"']) || part.is_empty() {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part.to_owned(),
    };
    let renamed: HashMap<TableName, TableName> = tables
        .iter()
        .enumerate()
        .map(|(at, table)| {
            let schema = ["public", "sales", "A.b", "select"][at / 2 % 4];
            let name = NAMES[at * 7 % NAMES.len() / 2];
            let name = match at < 40 {
                true => name.to_owned(),
                false => format!("{name}{at}"),
            };
            (
                table.name.clone(),
                format!("{}.{}", part(schema), part(&name)).into(),
            )
        })
        .collect();
    for table in &mut tables {
        let mut names: Vec<&mut TableName> = vec![&mut table.name];
        names.extend(table.foreign_keys.iter_mut().map(|key| &mut key.table));
        for name in names {
            *name = renamed
                .get(name)
                .cloned()
                .unwrap_or_else(|| "public.missing".into());
        }
    }
    let mut seen = HashSet::new();
    tables.retain(|table| seen.insert(table.name.clone()));
    tables
}

#[test]
fn a_postgres_database() {
    let mut tables = vec![
        table("public.item", ID, &[("id", Integer), ("name", Text)], &[]),
        table("sales.item", ID, &[("id", Integer), ("name", Text)], &[]),
        table(
            "sales.\"or.der\"",
            ID,
            &[("id", Integer), ("acl_readers", ColumnKind::Array)],
            &[],
        ),
    ];
    let text = configuration("postgres://app:hunter2@localhost/shop", &tables);
    assert!(!text.contains("hunter2"), "{text}");
    for line in [
        "url = \"postgres://app:${PGPASSWORD}@localhost/shop\"",
        "# password_file = \"main.password\"      # a file with the password alone, in place of one in the environment",
        "[collection.item]\nroot     = \"public.item\"",
        "[collection.sales_item]\nroot     = \"sales.item\"",
        "[collection.or_der]\nroot     = \"sales.\\\"or.der\\\"\"\nreaders  = \"acl_readers\"            # an array: who may read each document",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    resolves(&text, &tables);
    // What stands in comments about the source can be taken in.
    let text = text.replace("# slot = ", "slot = ");
    resolves(&text, &tables);
    tables.remove(0);
    assert!(configuration("postgres://app@localhost/shop", &tables).contains("[collection.item]\n"));
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
        holds(&with_schemas(tables));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3) })]

    #[test]
    fn large_schemas_too(tables in any_tables(201)) {
        holds(&tables);
        holds(&with_schemas(tables));
    }
}
