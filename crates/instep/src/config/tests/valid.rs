//! Valid files, with the collections and settings they stand for, and what is never shown of them.

use instep_core::Node;

use super::*;

pub(super) fn column(name: &str, from: &str, kind: FieldType) -> Field {
    Field {
        name: name.into(),
        content: Content::Column {
            column: from.into(),
            kind,
            array: false,
        },
    }
}

fn text() -> FieldType {
    FieldType::Text {
        analyzer: "standard".into(),
        keyword: true,
    }
}

fn node(alias: &str, table: &str, parent: usize, on: &[(&str, &str)], many: bool) -> Node {
    Node {
        alias: alias.into(),
        table: table.into(),
        key: own(&["id"]),
        parent: Some(parent),
        on: on
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect(),
        many,
        order: Vec::new(),
        condition: None,
    }
}

fn by(column: &str, descending: bool) -> Vec<OrderBy> {
    vec![OrderBy {
        column: column.into(),
        descending,
    }]
}

#[test]
fn columns_and_their_types() {
    let collection = resolve(&fields(
        "name = { analyzer = \"english\", keyword = false }\ntitle = { type = \"keyword\", from = \"name\" }\nprice = {}\ncents = { type = \"decimal\", scale = 0, from = \"price\" }\ncode = {}\nmade = {}\nid = {}\nraw = \"keyword\"\nextra = {}\nacl = { array = true }\nparts = { type = \"object\", from = \"extra\", fields = [\"a\", \"b\"] }\n\"parts.b\" = { type = \"integer\", array = true }\n\"parts.c\" = { type = \"date\", from = \"d\" }",
    ))
    .unwrap()
    .remove(0);
    let mut parts = vec![
        column("a", "a", text()),
        column("b", "b", FieldType::Integer),
        column("c", "d", FieldType::Date),
    ];
    if let Content::Column { array, .. } = &mut parts[1].content {
        *array = true;
    }
    let mut acl = column("acl", "acl", FieldType::Keyword);
    if let Content::Column { array, .. } = &mut acl.content {
        *array = true;
    }
    let expected = [
        column(
            "name",
            "name",
            FieldType::Text {
                analyzer: "english".into(),
                keyword: false,
            },
        ),
        column("title", "name", FieldType::Keyword),
        column("price", "price", FieldType::Decimal { scale: 3 }),
        column("cents", "price", FieldType::Decimal { scale: 0 }),
        column("code", "code", FieldType::Keyword),
        column("made", "made", FieldType::Date),
        column("id", "id", FieldType::Long),
        column("raw", "raw", FieldType::Keyword),
        column("extra", "extra", FieldType::Flattened),
        acl,
        Field {
            name: "parts".into(),
            content: Content::Json {
                column: "extra".into(),
                fields: parts,
            },
        },
    ];
    assert_eq!(collection.fields, expected);
    assert_eq!(collection.nodes.len(), 1);
    assert_eq!(collection.root.name.as_str(), "product");
}

#[test]
fn joins_of_every_kind() {
    let collection = resolve(&fields(
        "seller = { table = \"seller\", fields = [\"name\"] }\nreviews = { table = \"review\", many = true, order = \"created_at desc\", fields = [\"stars\"] }\n\"reviews.author\" = { table = \"customer\", on = \"review.author_id = author.id\", fields = [\"name\"] }\n\"reviews.author.name\" = \"keyword\"\ntags = { table = \"tag\", through = \"product_tag\", many = true, values = \"name\", order = \"product_tag.rank\" }\nstars = { table = \"review\", many = true, values = \"stars\", type = \"integer\" }\nup = { table = \"category\", as = \"c\", on = \"product.category_id = c.id\", fields = [\"name\"] }\n\"up.up\" = { table = \"category\", fields = [\"name\"] }",
    ))
    .unwrap()
    .remove(0);
    let link = Node {
        key: own(&["product_id", "tag_id"]),
        order: by("rank", false),
        ..node("product_tag", "product_tag", 0, &[("id", "product_id")], true)
    };
    let root = Node {
        parent: None,
        ..node("product", "product", 0, &[], false)
    };
    let nodes = [
        root,
        node("seller", "seller", 0, &[("seller_id", "id")], false),
        Node {
            order: by("created_at", true),
            ..node("review", "review", 0, &[("id", "product_id")], true)
        },
        link,
        node("tag", "tag", 3, &[("tag_id", "id")], false),
        node("review", "review", 0, &[("id", "product_id")], true),
        node("c", "category", 0, &[("category_id", "id")], false),
        node("customer", "customer", 2, &[("author_id", "id")], false),
        node("category", "category", 6, &[("parent_id", "id")], false),
    ];
    assert_eq!(collection.nodes, nodes);
    let object = |name: &str, node, many, fields| Field {
        name: name.into(),
        content: Content::Joined { node, many, fields },
    };
    let values = |name: &str, node, column: &str, kind| Field {
        name: name.into(),
        content: Content::Values {
            node,
            many: true,
            column: column.into(),
            kind,
        },
    };
    let name = || vec![column("name", "name", text())];
    let author = object(
        "author",
        7,
        false,
        vec![column("name", "name", FieldType::Keyword)],
    );
    let mut up = name();
    up.push(object("up", 8, false, name()));
    let expected = [
        object("seller", 1, false, name()),
        object(
            "reviews",
            2,
            true,
            vec![column("stars", "stars", FieldType::Long), author],
        ),
        values("tags", 4, "name", FieldType::Keyword),
        values("stars", 5, "stars", FieldType::Integer),
        object("up", 6, false, up),
    ];
    assert_eq!(collection.fields, expected);
}

#[test]
fn joins_that_are_written_out() {
    let cases = [
        // One row, though the key leads up: the file says so.
        (
            "product",
            "x = { table = \"reader\", on = \"reader.product_id = product.id\", fields = [\"who\"] }",
            node("reader", "reader", 0, &[("id", "product_id")], false),
        ),
        // Sides in either order, the field's name in place of the table's, several conditions.
        (
            "review",
            "made = { table = \"product\", on = \"made.id = review.product_id and review.stars = made.seller_id\", fields = [\"code\"] }",
            node(
                "product",
                "product",
                0,
                &[("product_id", "id"), ("stars", "seller_id")],
                false,
            ),
        ),
        (
            "transfer",
            "to = { table = \"seller\", as = \"to\", on = \"transfer.to_seller = to.id\", fields = [\"name\"] }",
            node("to", "seller", 0, &[("to_seller", "id")], false),
        ),
        // Along its only foreign key a table finds its parent, and with `many` its children.
        (
            "category",
            "up = { table = \"category\", fields = [\"name\"] }",
            node("category", "category", 0, &[("parent_id", "id")], false),
        ),
        (
            "category",
            "below = { table = \"category\", many = true, fields = [\"name\"] }",
            node("category", "category", 0, &[("id", "parent_id")], true),
        ),
    ];
    for (root, field, expected) in cases {
        let text = fields(field).replace("root = \"product\"", &format!("root = \"{root}\""));
        let collection = resolve(&text)
            .unwrap_or_else(|error| panic!("{field}: {error}"))
            .remove(0);
        assert_eq!(collection.nodes[1], expected, "{field}");
    }
    let friends = "friends = { table = \"customer\", as = \"friend\", through = \"knows\", on = \"customer.id = knows.a and knows.b = friend.id\", many = true, values = \"name\", order = \"since desc\" }";
    let text = fields(friends).replace("root = \"product\"", "root = \"customer\"");
    let nodes = resolve(&text).unwrap().remove(0).nodes;
    assert_eq!(
        (nodes[1].table.as_str(), &nodes[1].on),
        ("knows", &vec![("id".to_owned(), "a".to_owned())])
    );
    assert_eq!(
        (nodes[2].alias.as_str(), &nodes[2].on),
        ("friend", &vec![("b".to_owned(), "id".to_owned())])
    );
    assert_eq!((&nodes[1].order, &nodes[2].order), (&by("since", true), &vec![]));
}

#[test]
fn defaults_and_what_is_set() {
    let config = Config::parse(Path::new("/etc/i/instep.toml"), BASE.to_owned(), &nothing).unwrap();
    assert_eq!(config.state, Path::new("/etc/i/instep-state"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9200");
    let SourceUrl::Sqlite(path) = &config.sources[0].url else {
        panic!("it is a SQLite file");
    };
    assert_eq!(path, Path::new("/etc/i/a"));
    let embedded = ClusterConfig {
        name: "embedded".into(),
        engine: EngineConfig::Embedded {
            writer_memory: 128 << 20,
        },
    };
    assert_eq!(config.clusters, std::slice::from_ref(&embedded));
    let set = |name: &str, cluster: &str, active| SetConfig {
        name: name.into(),
        cluster: cluster.into(),
        active,
    };
    assert_eq!(config.sets, [set("main", "embedded", true)]);
    assert!(config.keys.is_empty());

    let text = format!(
        "{BASE}[state]\npath = \"/var/s\"\n[server]\nlisten = \"localhost:0\"\n[cluster.bench]\nengine = \"null\"\n[set.a]\n[set.b]\ncluster = \"bench\"\n[key.k]\nsecret = \"${{SECRET}}\"\nsubject = \"s\"\nscopes = [\"search:product\", \"operate\"]\n"
    );
    let environment = |_: &str| Some("0123456789abcdef".to_owned());
    let config = Config::parse(Path::new("instep.toml"), text, &environment).unwrap();
    assert_eq!(config.state, Path::new("/var/s"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert_eq!(
        config.clusters,
        [
            embedded,
            ClusterConfig {
                name: "bench".into(),
                engine: EngineConfig::Null
            }
        ]
    );
    assert_eq!(
        config.sets,
        [set("a", "embedded", true), set("b", "bench", false)]
    );
    let key = &config.keys[0];
    assert_eq!(
        (key.name.as_str(), key.secret.expose(), key.subject.as_str()),
        ("k", "0123456789abcdef", "s")
    );
    let scopes = Scopes {
        search: Grant::Only(vec!["product".into()]),
        operate: true,
        read_all: false,
    };
    assert_eq!(key.scopes, scopes);
}

#[test]
fn secrets_are_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "hunter2-of-the-file\n").unwrap();
    let environment = |name: &str| (name == "KEY").then(|| "hunter2-environment".to_owned());
    let keys = "[key.a]\nsecret = \"hunter2-literally\"\nsubject = \"a\"\nscopes = [\"search\"]\n[key.b]\nsecret = \"file:key\"\nsubject = \"b\"\nscopes = []\n[key.c]\nsecret = \"${KEY}\"\nsubject = \"c\"\nscopes = []\n";
    let path = folder.path().join("instep.toml");
    let config = Config::parse(&path, format!("{BASE}{keys}"), &environment).unwrap();
    assert!(
        config
            .keys
            .iter()
            .all(|key| key.secret.expose().starts_with("hunter2"))
    );
    for shown in [format!("{config:?}"), format!("{config:#?}"), config.print()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    let same = "[key.a]\nsecret = \"hunter2-literally\"\nsubject = \"a\"\nscopes = [\"search\"]\n[key.b]\nsecret = \"hunter2-literally\"\nsubject = \"b\"\nscopes = []";
    for wrong in [
        "[key.a]\nsecret = \"hunter2\"\nsubject = \"a\"\nscopes = []",
        "[key.a]\nsecret = \"hunter2 with blanks in it\"\nsubject = \"a\"\nscopes = []",
        "[key.a]\nsecret = \"${KEY}\"\nsubject = \"*\"\nscopes = []",
        "[key.a]\nsecret = \"hunter2${hunter2\"\nsubject = \"*\"\nscopes = []",
        "[key.a]\nsecret = \"a${hunter2-}\"\nsubject = \"*\"\nscopes = []",
        "[key.a]\nsecret = [\"hunter2\"]",
        "[key.a]\nsecret = { hunter = \"hunter2\" }",
        "[key.a]\nsecret = hunter2",
        "[key.a]\nsecret = \"hunter2",
        "[key]\na = \"hunter2\"",
        "key = \"hunter2\"",
        "[source.b]\nurl = \"mysql://root:hunter2@host/db\"",
        "[source]\nb = \"mysql://root:hunter2@host/db\"",
        same,
    ] {
        let parsed = Config::parse(&path, format!("{BASE}{wrong}"), &environment);
        let error = parsed.map(|_| ()).expect_err(wrong);
        let shown = format!("{error} {error:?} {:?}", error.remedy());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // A number, which could be anywhere in a text.
    for number in ["4711471147114711", "4711.4711", "0x4711", "2011-04-11"] {
        let error =
            Config::parse(&path, format!("{BASE}[key.a]\nsecret = {number}"), &environment).unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains("a secret is text in quotes") && !shown.contains("4711"),
            "{shown}"
        );
    }
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    let text = format!(
        "{BASE}[server]\nlisten = \"[::1]:9300\"\n[set.a]\n[set.b]\nactive = true\n[key.k]\nsecret = \"0123456789abcdef\"\nsubject = \"a \\\"b\\\"\"\nunits = [\"u\"]\nscopes = [\"search\", \"read_all\"]\n"
    );
    let config = parse(&text).unwrap();
    let printed = config.print().replace("(not shown)", "0123456789abcdef");
    let again = parse(&printed).unwrap();
    assert_eq!(again.print(), config.print());
    assert_eq!(
        (again.listen, &again.sets, &again.clusters),
        (config.listen, &config.sets, &config.clusters)
    );
    assert_eq!(
        again.collections(&shop()).unwrap(),
        config.collections(&shop()).unwrap()
    );
}

#[test]
fn the_schema_describes_the_file() {
    let schema = Config::schema();
    assert_eq!(schema["additionalProperties"], serde_json::Value::Bool(false));
    for part in ["state", "server", "source", "collection", "key", "cluster", "set"] {
        assert!(schema["properties"][part]["description"].is_string(), "{part}");
    }
    let definitions = schema["$defs"].as_object().unwrap();
    assert!(
        definitions["RawTable"]["properties"]["as"].is_object()
            && definitions["RawTable"]["properties"]["type"].is_object()
    );
    assert_eq!(
        definitions["RawCollection"]["required"],
        serde_json::json!(["root", "fields"])
    );
    assert_eq!(
        definitions["RawKey"]["required"],
        serde_json::json!(["secret", "subject", "scopes"])
    );
}
