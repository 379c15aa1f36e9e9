//! Sources that are Postgres: names with schemas, options and secrets.

use super::*;

/// A shop with schemas: names in several of them, and names that need quotes.
fn schemas() -> Schemas {
    let item = |name: &str| table(name, &["id"], &[ID, prose("name"), long("owner_id")]);
    let tables = vec![
        refers(item("public.item"), &["owner_id"], "public.owner"),
        refers(item("sales.item"), &["owner_id"], "sales.\"Ow.ner\""),
        table("public.owner", &["id"], &[ID, prose("name")]),
        table("sales.\"Ow.ner\"", &["id"], &[ID, prose("name")]),
        table("a.twice", &["id"], &[ID, prose("name")]),
        table("b.twice", &["id"], &[ID, prose("name")]),
        table("b.\"No\"\"te\"", &["id"], &[ID, prose("name")]),
    ];
    Schemas::from([("shop".into(), tables)])
}

fn with_root(root: &str, fields: &str) -> Result<Vec<Collection>> {
    let root = toml::Value::String(root.to_owned());
    let text = format!(
        "[source.shop]\nurl = \"postgres://u@h/d\"\n[collection.x]\nroot = {root}\npublic = true\n[collection.x.fields]\n{fields}"
    );
    parse(&text)?.collections(&schemas())
}

#[test]
fn tables_are_named_with_their_schema_or_without() {
    for (root, table) in [
        ("public.item", "public.item"),
        ("sales.item", "sales.item"),
        ("item", "public.item"),
        ("\"public\".\"item\"", "public.item"),
        ("owner", "public.owner"),
        ("sales.\"Ow.ner\"", "sales.\"Ow.ner\""),
        ("sales.Ow.ner", "sales.\"Ow.ner\""),
        ("Ow.ner", "sales.\"Ow.ner\""),
        ("\"Ow.ner\"", "sales.\"Ow.ner\""),
        ("\"No\"\"te\"", "b.\"No\"\"te\""),
    ] {
        let collections =
            with_root(root, "name = \"text\"").unwrap_or_else(|error| panic!("{root}: {error}"));
        assert_eq!(collections[0].root.name.as_str(), table, "{root}");
    }
    for (root, message) in [
        (
            "twice",
            "several tables are called `twice`\n    write a.twice or b.twice",
        ),
        (
            "nothing",
            "unknown table `nothing`\n    there are: a.twice, b.\"No\"\"te\", b.twice, public.item, public.owner, sales.\"Ow.ner\", sales.item",
        ),
    ] {
        let error = with_root(root, "name = \"text\"").unwrap_err().to_string();
        assert_eq!(error, format!("instep.toml:4:8: {message}"));
    }
}

#[test]
fn joins_name_tables_without_their_schema() {
    for (root, on) in [
        ("item", "item.owner_id = owner.id"),
        ("item", "public.item.owner_id = owner.id"),
        ("item", "public.item.owner_id = public.owner.id"),
    ] {
        let fields = format!("owner = {{ table = \"owner\", on = '{on}', fields = [\"name\"] }}");
        let collections = with_root(root, &fields).unwrap_or_else(|error| panic!("{on}: {error}"));
        let node = &collections[0].nodes[1];
        assert_eq!(
            (node.alias.as_str(), node.table.as_str()),
            ("owner", "public.owner")
        );
        assert_eq!(node.on, [("owner_id".to_owned(), "id".to_owned())]);
    }
    for on in [
        "item.owner_id = \"Ow.ner\".id",
        "sales.item.owner_id = sales.\"Ow.ner\".id",
        "item.owner_id = o.id",
    ] {
        let alias = if on.contains(" o.") { ", as = \"o\"" } else { "" };
        let fields = format!("o = {{ table = 'sales.\"Ow.ner\"'{alias}, on = '{on}', fields = [\"name\"] }}");
        let collections = with_root("sales.item", &fields).unwrap_or_else(|error| panic!("{on}: {error}"));
        assert_eq!(collections[0].nodes[1].table.as_str(), "sales.\"Ow.ner\"");
    }
    // A foreign key leads to the table it names, whatever others are called.
    let collections = with_root(
        "sales.item",
        "owner = { table = 'sales.\"Ow.ner\"', fields = [\"name\"] }",
    );
    assert_eq!(collections.unwrap()[0].nodes[1].on.len(), 1);
    // Two tables of one name in one join need a name of their own.
    let error = with_root(
        "item",
        "other = { table = \"sales.item\", on = \"item.id = item.id\", fields = [\"name\"] }",
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "instep.toml:7:38: `item` names both sides of the join\n    give the joined table a name of its own: as = \"…\""
    );
}

#[test]
fn a_table_of_sqlite_may_have_dots_and_quotes_in_its_name() {
    let tables = vec![
        table("a.b", &["id"], &[ID, prose("name")]),
        table("c\"d.e", &["id"], &[ID, prose("name"), long("ab")]),
        table("\"q\".r", &["id"], &[ID, prose("name")]),
    ];
    let schemas = Schemas::from([("shop".into(), tables)]);
    for (root, join, on) in [
        ("c\"d.e", "a.b", "\"c\"\"d.e\".ab = \"a.b\".id"),
        ("c\"d.e", "a.b", "\"c\"\"d.e\".ab = a.b.id"),
        ("\"q\".r", "a.b", "q.r.id = b.id"),
    ] {
        let text = format!(
            "[source.shop]\nurl = \"sqlite:a\"\n[collection.x]\nroot = '{root}'\npublic = true\n[collection.x.fields]\nj = {{ table = '{join}', on = '{on}', fields = [\"name\"] }}"
        );
        let collections = parse(&text).unwrap().collections(&schemas);
        let collections = collections.unwrap_or_else(|error| panic!("{on}: {error}"));
        assert_eq!(collections[0].root.name.as_str(), root);
        assert_eq!(collections[0].nodes[1].table.as_str(), join);
    }
}

/// Two columns of which one ignores case are equal or not depending on who compares; a nondeterministic collation is the
/// database's alone.
#[test]
fn joins_compare_as_the_database_does() {
    let text = |name: &'static str, declared: &'static str| (name, ColumnKind::Text, declared);
    let tables = vec![
        table(
            "public.a",
            &["id"],
            &[
                ID,
                text("c", "citext"),
                text("t", "text"),
                text("n", "text collate alike"),
            ],
        ),
        table(
            "public.b",
            &["id"],
            &[
                ID,
                text("c", "ext.citext"),
                text("t", "character varying(9)"),
                text("n", "text collate alike"),
            ],
        ),
    ];
    let schemas = Schemas::from([("shop".into(), tables)]);
    let joined = |up: &str, down: &str| {
        let text = format!(
            "[source.shop]\nurl = \"postgres://u@h/d\"\n[collection.x]\nroot = \"a\"\npublic = true\n[collection.x.fields]\nj = {{ table = \"b\", on = 'a.{up} = b.{down}', many = true, fields = [\"id\"] }}"
        );
        parse(&text).unwrap().collections(&schemas).map(drop)
    };
    assert!(joined("c", "c").is_ok() && joined("t", "t").is_ok());
    for (up, down, why) in [
        (
            "c",
            "t",
            "`c` (citext) of `public.a` with `t` (character varying(9)) of `public.b`\n    one of them ignores case",
        ),
        ("t", "c", "one of them ignores case"),
        ("n", "t", "`n` (text collate alike) of `public.a` with `t`"),
        ("n", "n", "a nondeterministic collation"),
        ("c", "n", "a nondeterministic collation"),
    ] {
        let error = joined(up, down).unwrap_err().to_string();
        assert!(
            error.starts_with("instep.toml:7:") && error.contains(why),
            "{up} {down}: {error}"
        );
    }
}

/// A certificate that signs itself, made for this test.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBijCCAS+gAwIBAgIUDVOzmlmb5+R2D8bulEFBE7vLQqgwCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIxMDEwMDA1WhgPMjEy\n\
NjEwMjgwMTAwMDVaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI\n\
zj0CAQYIKoZIzj0DAQcDQgAEF5gxhIMLRcOG72p9Y9kyfeU/65OlAqTUanoQa81n\n\
e0CnRDq+AVzg2Eul4rjEL4GolR/4/LbRCgfdPLXfrszcJqNTMFEwHQYDVR0OBBYE\n\
FET5RKSG1hQZoCTVwJzUk72VABdsMB8GA1UdIwQYMBaAFET5RKSG1hQZoCTVwJzU\n\
k72VABdsMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAPyf46v9\n\
TEo7CSpkJbtIVwWa3jZnC1u5Ja0wsmGjLN4+AiEAs1L3OQ/8f9z8q4zCyftY/skm\n\
dgOk+baHhHBzVGwlpPM=\n\
-----END CERTIFICATE-----\n\
";

#[test]
fn a_postgres_source_and_what_is_shown_of_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "hunter3\n").unwrap();
    let text = "[source.shop]\nurl = \"postgres://u:${PW}@h:1/d\"\nstream_url = \"postgres://u:${PW}@direct/d\"\npassword_file = \"pw\"\nroot_certificate = \"ca.pem\"\nslot = \"mine\"\n[source.other]\nurl = \"postgres://u@h/d\"\nroot_certificate = \"system\"\n[collection.a]\nsource = \"shop\"\nroot = \"a\"\npublic = true\nfields.name = \"text\"\n";
    let environment = |name: &str| (name == "PW").then(|| "hunter2@".to_owned());
    // The certificate is read when the source is opened.
    std::fs::write(folder.path().join("ca.pem"), CERTIFICATE).unwrap();
    let config = Config::parse(&folder.path().join("instep.toml"), text.to_owned(), &environment).unwrap();
    let [other, shop] = config.sources.as_slice() else {
        panic!("there are two sources");
    };
    let (SourceUrl::Postgres(other), SourceUrl::Postgres(shop)) = (&other.url, &shop.url) else {
        panic!("both are Postgres");
    };
    assert_eq!(shop.url.expose(), "postgres://u:hunter2%40@h:1/d");
    assert_eq!(shop.password.as_ref().unwrap().1.expose(), "hunter3");
    assert_eq!(shop.root_certificate, Some(folder.path().join("ca.pem")));
    assert_eq!(other.root_certificate, Some("system".into()));
    let printed = config.print();
    for shown in [
        "url = \"postgres://u@h:1/d\"",
        "stream_url = \"postgres://u@direct/d\"",
        "slot = \"mine\"\npublication = \"instep_shop\"",
        "slot = \"instep_other\"",
        "root_certificate = \"system\"",
    ] {
        assert!(printed.contains(shown), "{shown} in {printed}");
    }
    for text in [printed, format!("{config:?}")] {
        assert!(!text.contains("hunter") && !text.contains("${PW}"), "{text}");
    }
    assert_eq!(config.collections_of(&"shop".into()), ["a".into()]);
    assert!(config.collections_of(&"other".into()).is_empty());
}
