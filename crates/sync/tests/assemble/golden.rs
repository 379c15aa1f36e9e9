//! Documents, written down.

use std::sync::Arc;

use instep_core::{Built, Collection, Content, FieldType, Readers, ReadersFrom, TableSchema, Value};

use super::definition::{
    Definition, assembler, built, column, database, document, field, id, object, objects, row, table, value,
    values,
};

fn check(
    tables: &[TableSchema],
    rows: &[(&str, Vec<Value>)],
    collection: Collection,
    key: i64,
    expected: &str,
) {
    let memory = database(tables, rows);
    let source = document(&assembler(&memory, vec![collection]), key).source;
    assert_eq!(&*source, expected);
}

fn long(name: &str) -> instep_core::Field {
    column(name, FieldType::Long)
}

fn keyword(name: &str) -> instep_core::Field {
    column(name, FieldType::Keyword)
}

/// Artworks, artists, movements, and artworks' subjects through a link table.
fn gallery() -> (Vec<TableSchema>, Vec<(&'static str, Vec<Value>)>) {
    let tables = vec![
        table("artwork", 1, &["id", "title:text", "artist", "part_of"]),
        table("artist", 1, &["id", "name:text", "movement"]),
        table("movement", 1, &["id", "name:text"]),
        table("subject", 1, &["id", "name:text", "rank", "parent"]),
        table("artwork_subject", 2, &["artwork", "subject", "place"]),
    ];
    let rows = vec![
        ("movement", row![1, "Vorticism"]),
        ("artist", row![1, "Ann", 1]),
        ("artist", row![2, "Bo", ()]),
        ("artist", row![3, "Cy", 77]),
        ("subject", row![1, "sea", 5, ()]),
        ("subject", row![2, "sky", (), 1]),
        ("subject", row![3, "ship", 5, 1]),
        ("subject", row![4, (), 1, 2]),
        ("artwork", row![1, "One", 1, ()]),
        ("artwork", row![2, "Two", 2, 1]),
        ("artwork", row![3, "Three", 3, 1]),
        ("artwork", row![4, (), (), 2]),
        ("artwork", row![5, "Five", 99, 5]),
        ("artwork_subject", row![1, 1, 3]),
        ("artwork_subject", row![1, 2, 2]),
        ("artwork_subject", row![1, 3, 1]),
        ("artwork_subject", row![1, 4, ()]),
        ("artwork_subject", row![2, 9, 1]),
        ("artwork_subject", row![9, 1, 1]),
    ];
    (tables, rows)
}

fn check_gallery(key: i64, expected: &str, define: impl Fn(&mut Definition) -> Vec<instep_core::Field>) {
    let (tables, rows) = gallery();
    let mut definition = Definition::new(&tables, "artwork");
    let fields = define(&mut definition);
    check(&tables, &rows, definition.fields(fields), key, expected);
}

#[test]
fn columns_stand_in_the_order_of_the_definition() {
    check_gallery(1, r#"{"title":"One","id":1,"part_of":null}"#, |_| {
        vec![keyword("title"), long("id"), long("part_of")]
    });
    check_gallery(1, "{}", |_| vec![]);
}

#[test]
fn to_one_joins() {
    let cases = [
        (
            1,
            r#"{"artist":{"name":"Ann","movement":{"name":"Vorticism"}},"id":1}"#,
        ),
        (2, r#"{"artist":{"name":"Bo"},"id":2}"#),
        (3, r#"{"artist":{"name":"Cy"},"id":3}"#),
        (4, r#"{"id":4}"#),
        (5, r#"{"id":5}"#),
    ];
    for (key, expected) in cases {
        check_gallery(key, expected, |tree| {
            let artist = tree.one(0, "artist", &[("artist", "id")]);
            let movement = tree.one(artist, "movement", &[("movement", "id")]);
            let below = vec![
                keyword("name"),
                object("movement", movement, vec![keyword("name")]),
            ];
            vec![object("artist", artist, below), long("id")]
        });
    }
}

#[test]
fn a_value_of_a_to_one_join_is_a_field() {
    let cases = [
        (1, r#"{"artist":"Ann","movement":"Vorticism"}"#),
        (2, r#"{"artist":"Bo"}"#),
        (4, "{}"),
    ];
    for (key, expected) in cases {
        check_gallery(key, expected, |tree| {
            let artist = tree.one(0, "artist", &[("artist", "id")]);
            let movement = tree.one(artist, "movement", &[("movement", "id")]);
            vec![
                value("artist", artist, "name"),
                value("movement", movement, "name"),
            ]
        });
    }
    // The row is there and the value is not: as in an object.
    check_gallery(1, r#"{"first":null,"rank":"5"}"#, |tree| {
        let link = tree.one(0, "artwork_subject", &[("id", "artwork")]);
        let subject = tree.one(link, "subject", &[("subject", "id")]);
        vec![value("first", subject, "parent"), value("rank", subject, "rank")]
    });
}

#[test]
fn a_to_one_join_that_finds_several_rows_takes_the_first() {
    check_gallery(1, r#"{"part":{"id":2,"title":"Two"},"title":"Two"}"#, |tree| {
        let part = tree.one(0, "artwork", &[("id", "part_of")]);
        vec![
            object("part", part, vec![long("id"), keyword("title")]),
            value("title", part, "title"),
        ]
    });
    check_gallery(1, r#"{"part":{"id":3}}"#, |tree| {
        let part = tree.one(0, "artwork", &[("id", "part_of")]);
        tree.order(part, &["-id"]);
        vec![object("part", part, vec![long("id")])]
    });
}

#[test]
fn self_joins() {
    check_gallery(
        2,
        r#"{"whole":{"id":1,"artist":{"name":"Ann"}},"parts":[{"id":4}]}"#,
        |tree| {
            let whole = tree.one(0, "artwork", &[("part_of", "id")]);
            let artist = tree.one(whole, "artist", &[("artist", "id")]);
            let parts = tree.many(0, "artwork", &[("id", "part_of")]);
            let artist = object("artist", artist, vec![keyword("name")]);
            vec![
                object("whole", whole, vec![long("id"), artist]),
                objects("parts", parts, vec![long("id")]),
            ]
        },
    );
    // A row that is its own whole.
    check_gallery(5, r#"{"whole":{"id":5},"parts":["5"]}"#, |tree| {
        let whole = tree.one(0, "artwork", &[("part_of", "id")]);
        let parts = tree.many(0, "artwork", &[("id", "part_of")]);
        vec![
            object("whole", whole, vec![long("id")]),
            values("parts", parts, "id"),
        ]
    });
}

#[test]
fn link_tables() {
    let cases: [(&[&str], &[&str], &str); 7] = [
        (&[], &[], r#"["sea","sky","ship"]"#),
        (&["place"], &[], r#"["ship","sky","sea"]"#),
        (&["-place"], &[], r#"["sea","sky","ship"]"#),
        (&[], &["name"], r#"["sea","ship","sky"]"#),
        (&[], &["-name"], r#"["sky","ship","sea"]"#),
        // NULL comes first, and last from the largest down; the link's order breaks ties.
        (&["place"], &["rank"], r#"["sky","ship","sea"]"#),
        (&[], &["-rank"], r#"["sea","ship","sky"]"#),
    ];
    for (link_order, order, expected) in cases {
        check_gallery(1, &format!(r#"{{"subjects":{expected}}}"#), |tree| {
            let link = tree.many(0, "artwork_subject", &[("id", "artwork")]);
            let subject = tree.one(link, "subject", &[("subject", "id")]);
            tree.order(link, link_order);
            tree.order(subject, order);
            vec![values("subjects", subject, "name")]
        });
    }
    for key in [2, 4] {
        check_gallery(key, r#"{"names":[],"subjects":[]}"#, |tree| {
            let link = tree.many(0, "artwork_subject", &[("id", "artwork")]);
            let subject = tree.one(link, "subject", &[("subject", "id")]);
            vec![
                values("names", subject, "name"),
                objects("subjects", subject, vec![long("id")]),
            ]
        });
    }
}

#[test]
fn joins_inside_joins() {
    let expected = concat!(
        r#"{"subjects":[{"name":"sea","siblings":[]},"#,
        r#"{"name":"ship","parent":{"name":"sea"},"siblings":["sky","ship"]},"#,
        r#"{"name":null,"parent":{"name":"sky"},"siblings":[]},"#,
        r#"{"name":"sky","parent":{"name":"sea"},"siblings":["sky","ship"]}]}"#
    );
    check_gallery(1, expected, |tree| {
        let link = tree.many(0, "artwork_subject", &[("id", "artwork")]);
        let subject = tree.one(link, "subject", &[("subject", "id")]);
        let parent = tree.one(subject, "subject", &[("parent", "id")]);
        let siblings = tree.many(subject, "subject", &[("parent", "parent")]);
        tree.order(subject, &["-rank", "name"]);
        let parent = object("parent", parent, vec![keyword("name")]);
        let below = vec![keyword("name"), parent, values("siblings", siblings, "name")];
        vec![objects("subjects", subject, below)]
    });
}

#[test]
fn composite_keys() {
    let tables = [
        table("page", 2, &["book:text", "number", "ink:text", "shade"]),
        table("ink", 2, &["name:text", "shade", "maker:text"]),
        table("note", 1, &["id", "book:text", "page", "body:text"]),
    ];
    let rows = [
        ("page", row!["a,b", 1, "red", 2]),
        ("page", row!["a", 1, "red", ()]),
        ("page", row!["a\\", 2, "blue", 1]),
        ("ink", row!["red", 2, "R2"]),
        ("ink", row!["red", 1, "R1"]),
        ("ink", row!["blue", 2, "B2"]),
        ("note", row![1, "a,b", 1, "first"]),
        ("note", row![2, "a", 1, "second"]),
        ("note", row![3, "a,b", 2, "third"]),
        ("note", row![4, (), 1, "fourth"]),
    ];
    let mut definition = Definition::new(&tables, "page");
    let ink = definition.one(0, "ink", &[("shade", "shade"), ("ink", "name")]);
    let notes = definition.many(0, "note", &[("number", "page"), ("book", "book")]);
    let fields = vec![
        keyword("book"),
        value("ink", ink, "maker"),
        values("notes", notes, "body"),
    ];
    let memory = database(&tables, &rows);
    let assembler = assembler(&memory, vec![definition.fields(fields)]);
    let cases = [
        (
            "a,b",
            1,
            "a\\,b,1",
            r#"{"book":"a,b","ink":"R2","notes":["first"]}"#,
        ),
        ("a", 1, "a,1", r#"{"book":"a","notes":["second"]}"#),
        ("a\\", 2, "a\\\\,2", r#"{"book":"a\\","notes":[]}"#),
    ];
    let ids: Vec<_> = cases
        .iter()
        .map(|(book, number, ..)| id(row![*book, *number]))
        .collect();
    for ((_, _, id, expected), built) in cases.iter().zip(built(&assembler, &ids)) {
        let Built::Document(document, _) = built else {
            panic!("{id}: {built:?}")
        };
        assert_eq!((document.id.as_str(), &*document.source), (*id, *expected));
    }
}

#[test]
fn ids_that_name_no_row_are_gone() {
    let (tables, rows) = gallery();
    let memory = database(&tables, &rows);
    let assembler = assembler(
        &memory,
        vec![Definition::new(&tables, "artwork").fields(vec![long("id")])],
    );
    let ids: Vec<_> = ["6", "one", "1,2", "01", "+1", "1", "1"]
        .iter()
        .map(|id| instep_core::DocId::parse(id).unwrap())
        .collect();
    let built = built(&assembler, &ids);
    for (id, built) in ids.iter().zip(built) {
        match id.as_str() {
            "1" => assert!(matches!(built, Built::Document(..)), "{id}: {built:?}"),
            _ => assert!(matches!(built, Built::Gone), "{id}: {built:?}"),
        }
    }
    assert!(super::definition::built(&assembler, &[]).is_empty());
}

#[test]
fn each_node_is_read_once() {
    let (tables, rows) = gallery();
    let memory = database(&tables, &rows);
    let mut definition = Definition::new(&tables, "artwork");
    let artist = definition.one(0, "artist", &[("artist", "id")]);
    let link = definition.many(0, "artwork_subject", &[("id", "artwork")]);
    let subject = definition.one(link, "subject", &[("subject", "id")]);
    let fields = vec![
        value("artist", artist, "name"),
        values("subjects", subject, "name"),
    ];
    let assembler = assembler(&memory, vec![definition.fields(fields)]);
    let fetches = |keys: &[i64]| {
        *memory.fetches.lock().unwrap() = Default::default();
        let ids: Vec<_> = keys.iter().map(|key| id(row![*key])).collect();
        built(&assembler, &ids);
        memory.fetches.lock().unwrap().0
    };
    assert_eq!(fetches(&[1, 2, 3, 4, 5]), 4);
    assert_eq!(fetches(&[1]), 4);
    assert_eq!(fetches(&[]), 0);
    // Nothing to join, or no row at all: the tables below are not asked.
    assert_eq!(fetches(&[4]), 2);
    assert_eq!(fetches(&[77]), 1);
}

#[test]
fn decimals_order_by_their_value() {
    let tables = [
        table("car", 1, &["id"]),
        table("bid", 1, &["id", "car", "price:any"]),
    ];
    let mut rows = vec![("car", row![1])];
    let prices = [
        "10", "9.5", "-2", "-10.00", "1e2", "0.01", "9.50", "0", "-0.5", "1E-3",
    ];
    let bid = |(at, price): (usize, &&str)| ("bid", row![at as i64, 1, Value::Decimal((*price).into())]);
    rows.extend(prices.iter().enumerate().map(bid));
    let mut definition = Definition::new(&tables, "car");
    let bids = definition.many(0, "bid", &[("id", "car")]);
    definition.order(bids, &["price"]);
    let fields = vec![values("bids", bids, "price")];
    let expected = r#"{"bids":["-10.00","-2","-0.5","0","1E-3","0.01","9.5","9.50","10","1e2"]}"#;
    check(&tables, &rows, definition.fields(fields), 1, expected);
}

fn json(text: &str) -> Value {
    Value::Json(text.into())
}

#[test]
fn arrays_and_members_of_json() {
    let tables = [table("t", 1, &["id", "list:json", "data:json"])];
    let array = |kind| {
        field(
            "list",
            Content::Column {
                column: "list".to_owned(),
                kind,
                array: true,
            },
        )
    };
    let data = || {
        let inner = Content::Json {
            column: "in side".to_owned(),
            fields: vec![long("n")],
        };
        let flags = Content::Column {
            column: "flags".to_owned(),
            kind: FieldType::Boolean,
            array: true,
        };
        let price = Content::Column {
            column: "price".to_owned(),
            kind: FieldType::Decimal { scale: 2 },
            array: false,
        };
        field(
            "data",
            Content::Json {
                column: "data".to_owned(),
                fields: vec![
                    keyword("na\"me"),
                    field("inner", inner),
                    field("flags", flags),
                    field("price", price),
                ],
            },
        )
    };
    let cases = [
        (Value::Null, Value::Null, r#"{"list":null,"data":null}"#),
        (json("null"), json("null"), r#"{"list":null,"data":null}"#),
        (json("[]"), json("{}"), r#"{"list":[],"data":{}}"#),
        (
            json("[3, null ,1,3]"),
            json(r#"{"x":1,"na\"me":null}"#),
            r#"{"list":[3,1,3],"data":{"na\"me":null}}"#,
        ),
        (
            Value::text(r#"["4"]"#),
            Value::text(r#"{"price":12345678901234567.89,"in side":{"n":7,"m":8},"flags":[true,0,"f"]}"#),
            r#"{"list":[4],"data":{"inner":{"n":7},"flags":[true,false,false],"price":12345678901234567.89}}"#,
        ),
        (
            json("[1e3]"),
            json(r#"{"in side":null,"flags":null}"#),
            r#"{"list":[1000],"data":{"inner":null,"flags":null}}"#,
        ),
        (
            json("[[1,null],[[2],3],[]]"),
            json(r#"{"flags":[[true],[false]]}"#),
            r#"{"list":[1,2,3],"data":{"flags":[true,false]}}"#,
        ),
        (
            json("[9223372036854775807, -9223372036854775808]"),
            json(r#"{"na\"me":100000000000000000000000000001,"price":0.10}"#),
            r#"{"list":[9223372036854775807,-9223372036854775808],"data":{"na\"me":"100000000000000000000000000001","price":0.1}}"#,
        ),
    ];
    for (list, object, expected) in cases {
        let collection = Definition::new(&tables, "t").fields(vec![array(FieldType::Long), data()]);
        check(&tables, &[("t", row![1, list, object])], collection, 1, expected);
    }
}

#[test]
fn flattened_json_is_canonical_and_exact() {
    let tables = [table("t", 1, &["id", "data:json"])];
    let cases = [
        (
            r#" { "b" : [ 1 , {"d":2,"c":1.50} ], "a":"ö\u00f6\n" } "#,
            r#"{"a":"öö\n","b":[1,{"c":1.50,"d":2}]}"#,
        ),
        ("{}", "{}"),
        (
            r#"{"n":123456789012345678901234567890,"t":true,"z":null}"#,
            r#"{"n":123456789012345678901234567890,"t":true,"z":null}"#,
        ),
        (r#"{"same":1,"same":2}"#, r#"{"same":2}"#),
    ];
    for (text, expected) in cases {
        let collection = Definition::new(&tables, "t").fields(vec![column("data", FieldType::Flattened)]);
        check(
            &tables,
            &[("t", row![1, json(text)])],
            collection,
            1,
            &format!(r#"{{"data":{expected}}}"#),
        );
    }
}

#[test]
fn readers_in_every_form() {
    let tables = [
        table("t", 1, &["id", "acl:json"]),
        table("reader", 1, &["id", "t", "who:any"]),
    ];
    let only = |names: &[&str]| Readers::only(names.iter().map(|name| (*name).to_owned()).collect());
    let listed = [
        (Value::Null, only(&[])),
        (json("null"), only(&[])),
        (json("[]"), only(&[])),
        (json(r#"["b","a","b",""]"#), only(&["a", "b"])),
        (
            Value::text(r#"["å", 7, 123456789012345678901234567890]"#),
            only(&["123456789012345678901234567890", "7", "å"]),
        ),
    ];
    for (acl, expected) in listed {
        let mut definition = Definition::new(&tables, "t");
        definition.readers(vec![ReadersFrom::Array("acl".to_owned())], vec![]);
        let memory = database(&tables, &[("t", row![1, acl])]);
        let document = document(&assembler(&memory, vec![definition.fields(vec![])]), 1);
        assert_eq!(document.readers, expected);
    }
    let mut definition = Definition::new(&tables, "t");
    let node = definition.many(0, "reader", &[("id", "t")]);
    let column = "who".to_owned();
    let subject = false;
    definition.readers(
        vec![ReadersFrom::Joined {
            node,
            column,
            subject,
        }],
        vec![],
    );
    let rows = [
        ("t", row![1, ()]),
        ("t", row![2, ()]),
        ("reader", row![1, 1, "zoe"]),
        ("reader", row![2, 1, 5]),
        ("reader", row![3, 1, ()]),
        ("reader", row![4, 1, "zoe"]),
        ("reader", row![5, (), "nobody"]),
    ];
    let memory = database(&tables, &rows);
    let assembler = assembler(&memory, vec![definition.fields(vec![])]);
    assert_eq!(document(&assembler, 1).readers, only(&["5", "zoe"]));
    assert_eq!(document(&assembler, 2).readers, only(&[]));
    let public = Definition::new(&tables, "t").fields(vec![]);
    let memory: Arc<_> = memory;
    assert_eq!(
        document(&super::definition::assembler(&memory, vec![public]), 1).readers,
        Readers::Public
    );
}
