#![allow(clippy::unwrap_used)]
//! Small files, each with what is said about it.

mod clusters;
mod postgres;
mod valid;

use std::path::Path;

use instep_core::{
    Column, ColumnKind, Content, Field, FieldType, ForeignKey, Languages, OrderBy, ReadersFrom, ReadersRule,
    TableSchema,
};

use super::*;

use valid::column;

fn table(name: &str, key: &[&str], columns: &[(&str, ColumnKind, &str)]) -> TableSchema {
    let column = |(name, kind, declared): &(&str, ColumnKind, &str)| Column {
        name: (*name).to_owned(),
        kind: *kind,
        declared: (*declared).to_owned(),
        nullable: true,
    };
    TableSchema {
        name: name.into(),
        columns: columns.iter().map(column).collect(),
        primary_key: own(key),
        foreign_keys: Vec::new(),
        indexes: Vec::new(),
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn refers(mut from: TableSchema, columns: &[&str], to: &str) -> TableSchema {
    from.foreign_keys.push(ForeignKey {
        columns: own(columns),
        table: to.into(),
        referenced: own(&["id"]),
    });
    from
}

const ID: (&str, ColumnKind, &str) = ("id", ColumnKind::Integer, "INTEGER");

fn long(name: &str) -> (&str, ColumnKind, &str) {
    (name, ColumnKind::Integer, "INTEGER")
}

fn prose(name: &str) -> (&str, ColumnKind, &str) {
    (name, ColumnKind::Text, "TEXT")
}

/// A shop: products with a seller and a buyer's seller, reviews by customers, tags through a link table, categories
/// inside categories, persons who know each other.
fn shop() -> Schemas {
    let product = table(
        "product",
        &["id"],
        &[
            ID,
            prose("name"),
            ("price", ColumnKind::Decimal, "DECIMAL(10,3)"),
            long("seller_id"),
            long("category_id"),
            ("extra", ColumnKind::Json, "JSON"),
            ("code", ColumnKind::Keyword, "VARCHAR(20)"),
            ("raw", ColumnKind::Bytes, "BLOB"),
            ("loose", ColumnKind::Any, ""),
            ("acl", ColumnKind::Json, "JSON"),
            ("made", ColumnKind::Date, "DATE"),
        ],
    );
    let review = table(
        "review",
        &["id"],
        &[
            ID,
            long("product_id"),
            long("author_id"),
            long("stars"),
            prose("created_at"),
        ],
    );
    let transfer = table("transfer", &["id"], &[ID, long("from_seller"), long("to_seller")]);
    let knows = table("knows", &["a", "b"], &[long("a"), long("b"), long("since")]);
    let tables = vec![
        table("category", &["id"], &[ID, long("parent_id"), prose("name")]),
        table("customer", &["id"], &[ID, prose("name"), prose("_hidden")]),
        refers(refers(knows, &["a"], "customer"), &["b"], "customer"),
        table("no_key", &[], &[long("x")]),
        refers(
            refers(product, &["seller_id"], "seller"),
            &["category_id"],
            "category",
        ),
        refers(
            refers(
                table(
                    "product_tag",
                    &["product_id", "tag_id"],
                    &[long("product_id"), long("tag_id"), long("rank")],
                ),
                &["product_id"],
                "product",
            ),
            &["tag_id"],
            "tag",
        ),
        table("reader", &["id"], &[ID, long("product_id"), prose("who")]),
        refers(
            refers(review, &["product_id"], "product"),
            &["author_id"],
            "customer",
        ),
        table("seller", &["id"], &[ID, prose("name"), prose("country")]),
        table("tag", &["id"], &[ID, prose("name")]),
        refers(
            refers(transfer, &["from_seller"], "seller"),
            &["to_seller"],
            "seller",
        ),
    ];
    let tables = tables
        .into_iter()
        .map(|table| match table.name.as_str() {
            "category" => refers(table, &["parent_id"], "category"),
            "reader" => refers(table, &["product_id"], "product"),
            _ => table,
        })
        .collect();
    Schemas::from([("shop".into(), tables)])
}

fn nothing(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config> {
    Config::parse(Path::new("instep.toml"), text.to_owned(), &nothing)
}

fn resolve(text: &str) -> Result<Vec<Collection>> {
    parse(text)?.collections(&shop())
}

/// A file of one public collection with these fields; they start in line 6.
fn fields(fields: &str) -> String {
    format!(
        "[source.shop]\nurl = \"sqlite:a\"\n[collection.product]\nroot = \"product\"\npublic = true\n[collection.product.fields]\n{fields}"
    )
}

#[track_caller]
fn check(text: &str, expected: &str) {
    match resolve(text) {
        Ok(_) => panic!("no error in:\n{text}"),
        Err(error) => assert_eq!(error.to_string(), expected, "in:\n{text}"),
    }
}

/// A field in line 7, and what is said about it: `column: message`, and the help in a second line.
#[track_caller]
fn check_field(field: &str, expected: &str) {
    check(&fields(field), &format!("instep.toml:7:{expected}"));
}

const BASE: &str = "[source.shop]\nurl = \"sqlite:a\"\n[collection.product]\nroot = \"product\"\npublic = true\nfields.name = \"text\"\n";

#[test]
fn keys_that_do_not_exist_are_named_with_those_that_do() {
    let cases = [
        (
            "[colection.a]",
            "7:2: unknown key `colection`\n    there are: cluster, collection, key, server, set, source, state",
        ),
        (
            "[state]\nfolder = \"x\"",
            "8:1: unknown key `folder`\n    there are: path",
        ),
        (
            "[server]\nport = 1",
            "8:1: unknown key `port`\n    there are: listen",
        ),
        (
            "[source.b]\nurl = \"sqlite:b\"\nuser = \"u\"",
            "9:1: unknown key `user`\n    there are: password_file, publication, root_certificate, slot, stream_url, url",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nwhen = \"id > 1\"\nfields.name = \"text\"",
            "9:1: unknown key `when`\n    there are: debounce_ms, deny, fields, language, public, purge, readers, root, source, where",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nfields.name = { typ = \"text\" }",
            "9:17: unknown key `typ`\n    there are: analyzer, array, as, fields, from, keyword, language, many, on, order, scale, sql, table, through, type, values, where",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nreaders = { tabel = \"x\" }\nfields.name = \"text\"",
            "9:13: unknown key `tabel`\n    there are: analyzer, array, as, fields, from, keyword, language, many, on, order, scale, sql, table, through, type, values, where",
        ),
        (
            "[key.b]\npassword = \"x\"",
            "8:1: unknown key `password`\n    there are: scopes, secret, subject, units",
        ),
        (
            "[cluster.b]\nuri = \"x\"",
            "8:1: unknown key `uri`\n    there are: api_key, aws_region, ca, engine, password, password_file, settings, url, urls, user, writer_memory_mb",
        ),
        (
            "[set.b]\nname = \"x\"",
            "8:1: unknown key `name`\n    there are: active, cluster",
        ),
    ];
    for (text, expected) in cases {
        check(&format!("{BASE}{text}"), &format!("instep.toml:{expected}"));
    }
}

#[test]
fn what_toml_refuses_is_said_in_our_words() {
    let cases = [
        (
            "[server]\nlisten = 9200",
            "8:10: expected text in quotes, found integer `9200`",
        ),
        ("[collection.b]\nfields.x = \"long\"", "7:1: missing key `root`"),
        ("[collection.b]\nroot = \"tag\"", "7:1: missing key `fields`"),
        (
            "[key.b]\nsubject = \"b\"\nscopes = []",
            "7:1: missing key `secret`",
        ),
        (
            "[source]\nb = \"sqlite:x\"",
            "8:5: expected a table, found a value of type string",
        ),
        (
            "[cluster.b]\nengine = \"embedded\"\nwriter_memory_mb = -1",
            "9:20: expected a whole number of at least 0, found integer `-1`",
        ),
        (
            "[set.b]\nactive = \"yes\"",
            "8:10: expected true or false, found string `yes`",
        ),
        (
            "[state]\npath = \"a\"\npath = \"b\"",
            "9:1: the key `path` stands here twice",
        ),
        (
            "[state]\npath = a",
            "8:8: string values must be quoted, expected literal string",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nfields.name = 5",
            "9:15: expected the name of a type, or a table, found integer `5`",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nfields.name = { keyword = 1 }",
            "9:27: expected true or false, found integer `1`",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nfields.x = { table = \"seller\", fields = \"name\" }",
            "9:41: expected a list, found string `name`",
        ),
        (
            "[collection.b]\nroot = \"tag\"\nlanguage = { column = \"lang\" }\nfields.name = \"text\"",
            "9:12: missing key `known`",
        ),
    ];
    for (text, expected) in cases {
        check(&format!("{BASE}{text}"), &format!("instep.toml:{expected}"));
    }
    check(
        &fields(
            "reviews = { table = \"review\", many = true, fields = [\"stars\"] }\nreviews.author = { table = \"customer\", fields = [\"name\"] }",
        ),
        "instep.toml:8:1: `reviews` is an inline table, which the dotted key `reviews.author` cannot extend\n    quote the name: \"reviews.author\" = …",
    );
    check_field(
        "reviews.author = { table = \"customer\", fields = [\"name\"] }",
        "9: unknown key `author`\n    there are: analyzer, array, as, fields, from, keyword, language, many, on, order, scale, sql, table, through, type, values, where; or quote the name of a field of a joined object: \"reviews.author\" = …",
    );
}

#[test]
fn what_needs_no_database() {
    let cases = [
        (
            "",
            "1:1: no source is defined\n    add [source.<name>] with url = \"sqlite:<path>\" or \"postgres://user@host:port/database\"\ninstep.toml:1:1: no collection is defined\n    add [collection.<name>] with root and fields",
        ),
        (
            "[source.Shop]\nurl = \"sqlite:a\"\n[collection.a-b]\nroot = \"tag\"\nfields.name = \"text\"",
            "1:9: `Shop` cannot be the name of a source\n    use 1 to 64 of a-z, 0-9 and _, starting with a letter\ninstep.toml:3:13: `a-b` cannot be the name of a collection\n    use 1 to 64 of a-z, 0-9 and _, starting with a letter",
        ),
    ];
    for (text, expected) in cases {
        check(text, &format!("instep.toml:{expected}"));
    }
    let cases = [
        (
            "[server]\nlisten = \"everywhere\"",
            "8:10: `everywhere` is not an address\n    write address:port, such as 127.0.0.1:9200",
        ),
        (
            "[source.b]\nurl = \"postgres://u:hunter2@h\"",
            "8:7: this is not the URL of a Postgres database: it names no database\n    write it like postgres://user@host:5432/database?sslmode=verify-full",
        ),
        (
            "[source.b]\nurl = \"postgres://u@h/d\"\nstream_url = \"hunter2\"",
            "9:14: `stream_url` is not an address of Postgres\n    write it like url: postgres://user@host:port/database",
        ),
        (
            "[source.b]\nurl = \"postgres://u@h/d\"\nslot = \"A-b\"\npublication = \"\"",
            "9:8: `A-b` cannot be the name of a slot\n    Postgres allows 1 to 63 of a-z, 0-9 and _\ninstep.toml:10:15: `` cannot be the name of a publication\n    Postgres allows 1 to 63 bytes",
        ),
        (
            "[source.b]\nurl = \"postgres://u@h/d\"\npassword_file = \"none/at/all\"",
            "9:17: cannot read `none/at/all`: No such file or directory (os error 2)\n    make the file, readable by this user only; its path is relative to the configuration",
        ),
        (
            "[source.b]\nurl = \"sqlite:b\"\nslot = \"s\"",
            "9:8: `slot` says nothing about a SQLite source\n    only a Postgres source takes it",
        ),
        (
            "[source.b]\nurl = \"hunter2\"",
            "8:7: this is not a source\n    sources are sqlite:<path> and postgres://user@host:port/database",
        ),
        (
            "[source.b]\nurl = \"sqlite:${NO}\"",
            "8:7: the environment has no variable `NO`\n    set it: export NO=…",
        ),
        (
            "[cluster.b]\nengine = \"solr\"",
            "8:10: unknown engine `solr`\n    there are: embedded, null",
        ),
        (
            "[cluster.b]\nengine = \"embedded\"\nwriter_memory_mb = 3",
            "9:20: 3 MB are too little for writing\n    at least 15",
        ),
        (
            "[cluster.b]\nengine = \"null\"\nwriter_memory_mb = 30",
            "9:20: `writer_memory_mb` says nothing about the null engine\n    only the embedded engine takes it",
        ),
        (
            "[cluster.b]\nengine = \"null\"\n[set.a]\ncluster = \"c\"",
            "10:11: unknown cluster `c`\n    there are: b, embedded",
        ),
        (
            "[set.a]\nactive = true\n[set.b]\nactive = true",
            "9:6: sets `a` and `b` are both active\n    exactly one set answers searches",
        ),
        (
            "[key.b]\nsecret = \"0123456789abcdef\"\nsubject = \"\"\nunits = [\"*\", \" x\"]\nscopes = [\"serch\", \"search:none\"]",
            "9:11: `` cannot be a subject\n    a name is 1 to 256 bytes, without blanks around it, and is not *\ninstep.toml:10:10: `*` cannot be a unit\n    a name is 1 to 256 bytes, without blanks around it, and is not *\ninstep.toml:10:15: ` x` cannot be a unit\n    a name is 1 to 256 bytes, without blanks around it, and is not *\ninstep.toml:11:11: unknown scope `serch`\n    there are: operate, read_all, search, search:<collection>\ninstep.toml:11:20: unknown collection `none` in a scope\n    there are: product",
        ),
    ];
    for (text, expected) in cases {
        check(&format!("{BASE}{text}"), &format!("instep.toml:{expected}"));
    }
}

#[test]
fn tables_and_columns_that_do_not_exist() {
    let tables =
        "category, customer, knows, no_key, product, product_tag, reader, review, seller, tag, transfer";
    check(
        &BASE.replace("\"product\"", "\"products\""),
        &format!("instep.toml:4:8: unknown table `products`\n    there are: {tables}"),
    );
    check(
        &BASE.replace("\"product\"", "\"no_key\""),
        "instep.toml:4:8: table `no_key` has no primary key, so its rows cannot be named\n    declare a primary key on it, or leave it out of every collection",
    );
    let product = "acl, category_id, code, extra, id, loose, made, name, price, raw, seller_id";
    check_field(
        "x = \"long\"",
        &format!("5: unknown column `x` of table `product`\n    there are: {product}"),
    );
    check_field(
        "x = { from = \"y\", type = \"long\" }",
        &format!("14: unknown column `y` of table `product`\n    there are: {product}"),
    );
    check_field(
        "x = { table = \"sellers\", fields = [\"name\"] }",
        &format!("15: unknown table `sellers`\n    there are: {tables}"),
    );
    check_field(
        "x = { table = \"seller\", fields = [\"nam\"] }",
        "35: unknown column `nam` of table `seller`\n    there are: country, id, name",
    );
    check_field(
        "x = { table = \"seller\", values = \"nam\" }",
        "34: unknown column `nam` of table `seller`\n    there are: country, id, name",
    );
    check_field(
        "x = { table = \"review\", many = true, order = \"created\", fields = [\"stars\"] }",
        "46: unknown column `created` in `order`\n    there are: author_id, created_at, id, product_id, stars",
    );
    check_field(
        "x = { table = \"tag\", through = \"product_tag\", many = true, order = \"position\", values = \"name\" }",
        "68: unknown column `position` in `order`\n    there are: id, name, product_id, rank, tag_id",
    );
    check_field(
        "x = { table = \"seller\", on = \"product.seller = seller.id\", fields = [\"name\"] }",
        &format!("30: unknown column `seller` of table `product`\n    there are: {product}"),
    );
    check_field(
        "x = { table = \"seller\", on = \"prod.seller_id = seller.id\", fields = [\"name\"] }",
        "30: unknown table `prod` in `on`\n    there are: product, seller, x",
    );
}

#[test]
fn types_and_options_that_do_not_fit() {
    let types = "boolean, date, decimal, double, flattened, integer, keyword, long, object, text";
    let cases = [
        ("name = \"string\"", format!("8: unknown type `string`\n    there are: {types}")),
        ("raw = {}", "7: column `raw` has type BLOB, from which no field type follows\n    give the field a type".into()),
        ("loose = {}", "9: column `loose` has no declared type, from which no field type follows\n    give the field a type".into()),
        ("extra = \"object\"", "9: an object without fields\n    list the members of the JSON column: fields = [\"…\"]".into()),
        ("name = { type = \"keyword\", analyzer = \"english\" }", "8: `analyzer` says nothing about a field of type keyword\n    only a text field takes it".into()),
        ("name = { type = \"text\", analyzer = \"klingon\" }", "36: unknown analyzer `klingon`\n    there are: english, keyword, standard, swedish, whitespace".into()),
        ("name = { type = \"text\", language = \"klingon\" }", "36: `klingon` is not a language\n    write a tag such as en, sv or sv-SE".into()),
        ("name = { type = \"text\", language = \"sv\", analyzer = \"english\" }", "53: both `analyzer` and `language`\n    one of them picks the analyzer".into()),
        ("name = { type = \"text\", scale = 2 }", "8: `scale` says nothing about a field of type text\n    only a decimal field takes it".into()),
        ("price = { type = \"decimal\", scale = 19 }", "9: a scale of 19\n    0 to 18 digits fit 64 bits".into()),
        ("extra = { type = \"keyword\", fields = [\"a\"] }", "9: a field of type keyword has no fields\n    use type = \"object\"".into()),
        ("name = { type = \"text\", many = true }", "32: `many` without `table`\n    it belongs to a join: add table = \"…\"".into()),
        ("x = { table = \"seller\", from = \"name\" }", "32: `from` with `table`\n    a join takes `fields` or `values`".into()),
        ("x = { table = \"seller\", array = true }", "33: `array` with `table`\n    a join of several rows has many = true".into()),
        ("x = { table = \"seller\", values = \"name\", fields = [\"name\"] }", "34: both `fields` and `values`\n    a join is an object of fields, or the values of one column".into()),
        ("x = { table = \"seller\", type = \"keyword\", fields = [\"name\"] }", "32: a join of fields is an object, not a keyword\n    leave `type` out, or take one column: values = \"…\"".into()),
        ("x = { table = \"seller\", analyzer = \"english\", fields = [\"name\"] }", "36: `analyzer` says nothing about an object\n    give it to a field inside: \"<object>.<field>\" = { … }".into()),
        ("x = { table = \"seller\", fields = [\"name\", \"name\"] }", "43: `name` is listed twice".into()),
        ("x = { table = \"seller\" }", "1: `x` is an object without fields\n    add fields = [\"…\"], or take one column: values = \"…\"".into()),
        ("_x = \"long\"", "1: `_x` cannot be the name of a field\n    a name is not empty, does not start with _ and holds none of * , ^; a dot leads into a joined object".into()),
        ("\"a..b\" = \"long\"", "1: `a..b` cannot be the name of a field\n    a name is not empty, does not start with _ and holds none of * , ^; a dot leads into a joined object".into()),
        ("\"a.b\" = \"long\"", "1: `a` is not an object that a field can be added to\n    define it first: a = { table = \"…\" }".into()),
        ("extra = { type = \"object\", fields = [\"a\"] }\n\"extra.b\" = { table = \"seller\", fields = [\"name\"] }", String::new()),
    ];
    for (field, expected) in cases {
        match expected.is_empty() {
            true => check(&fields(field), "instep.toml:8:13: a JSON object joins no table"),
            false => check_field(field, &expected),
        }
    }
    check(
        &fields(""),
        "instep.toml:3:13: collection `product` has no fields",
    );
}

#[test]
fn joins_that_do_not_hold() {
    let cases = [
        (
            "x = { table = \"tag\", fields = [\"name\"] }",
            "1: no foreign key leads between `product` and `tag`\n    write the join: on = \"a.x = b.y\"",
        ),
        (
            "x = { table = \"review\", fields = [\"stars\"] }",
            "1: several rows of `review` may belong to one of `product`\n    add many = true, or write the join: on = \"…\"",
        ),
        (
            "x = { table = \"seller\", many = true, fields = [\"name\"] }",
            "1: one row of `seller` belongs to each of `product`, not several\n    leave many = true out, or write the join: on = \"…\"",
        ),
        (
            "x = { table = \"tag\", through = \"product_tag\", values = \"name\" }",
            "32: a link table joins several rows\n    add many = true",
        ),
        (
            "x = { table = \"tag\", through = \"review\", many = true, values = \"name\" }",
            "32: no foreign key leads between `review` and `tag`\n    write the join: on = \"a.x = b.y\"",
        ),
        (
            "x = { table = \"seller\", order = \"name\", fields = [\"name\"] }",
            "33: `order` of a join that finds one row\n    add many = true, where several rows belong to one",
        ),
        (
            "x = { table = \"seller\", on = \"product.seller_id\", fields = [\"name\"] }",
            "30: `product.seller_id` is not a condition\n    write on = \"a.x = b.y and a.z = b.z\"; a name with blanks or dots stands in double quotes",
        ),
        (
            "x = { table = \"seller\", on = \"product.seller_id = product.id\", fields = [\"name\"] }",
            "30: a condition compares two columns of one table\n    compare a column of `product` with one of `seller`",
        ),
        (
            "x = { table = \"seller\", on = \"product.seller_id = seller.name\", fields = [\"name\"] }",
            "30: the join compares `seller_id` (INTEGER) of `product` with `name` (TEXT) of `seller`\n    both columns must have the same type",
        ),
        (
            "x = { table = \"tag\", through = \"product_tag\", on = \"product.id = product_tag.product_id\", many = true, values = \"name\" }",
            "52: `on` does not lead from `product` through `product_tag` to `tag`\n    compare a column of the link table with each of the two",
        ),
        (
            "x = { table = \"tag\", through = \"product_tag\", on = \"product.id = tag.id\", many = true, values = \"name\" }",
            "52: a condition of a join through `product_tag` compares one of its columns with another table's",
        ),
    ];
    for (field, expected) in cases {
        check_field(field, expected);
    }
    let other =
        |root: &str, field: &str| fields(field).replace("root = \"product\"", &format!("root = \"{root}\""));
    check(
        &other("transfer", "x = { table = \"seller\", fields = [\"name\"] }"),
        "instep.toml:7:1: several foreign keys lead between `transfer` and `seller`\n    write the one you mean: on = \"transfer.from_seller = seller.id\", or on = \"transfer.to_seller = seller.id\"",
    );
    check(
        &other(
            "category",
            "up = { table = \"category\", on = \"category.parent_id = category.id\", fields = [\"name\"] }",
        ),
        "instep.toml:7:33: `category` names both sides of the join\n    give the joined table a name of its own: as = \"…\"",
    );
    check(
        &other(
            "customer",
            "friends = { table = \"customer\", through = \"knows\", many = true, values = \"name\" }",
        ),
        "instep.toml:7:43: several foreign keys lead between `customer` and `knows`\n    write both halves, such as on = \"customer.id = knows.a and knows.b = customer.id\" (and as = \"…\", in place of one of the two names)",
    );
    check(
        &other(
            "customer",
            "x = { table = \"review\", many = true, fields = [\"stars\"] }\ny = { table = \"customer\", fields = [\"_hidden\"], on = \"customer.id = y.id\", as = \"y\" }",
        ),
        "instep.toml:8:37: `_hidden` cannot be the name of a field\n    name it yourself: \"<object>.<field>\" = { from = \"<column>\", type = \"…\" }",
    );
}

#[test]
fn who_reads_a_collection() {
    let with = |readers: &str| BASE.replace("public = true", readers);
    let cases = [
        (
            "",
            "3:13: collection `product` does not say who reads it\n    add readers = \"<column>\", or public = true",
        ),
        (
            "public = false",
            "3:13: collection `product` does not say who reads it\n    add readers = \"<column>\", or public = true",
        ),
        (
            "public = true\nreaders = \"acl\"",
            "6:11: both `readers` and `public = true`\n    a collection is public, or has readers",
        ),
        (
            "readers = \"ac\"",
            "5:11: unknown column `ac` of table `product`\n    there are: acl, category_id, code, extra, id, loose, made, name, price, raw, seller_id",
        ),
        (
            "readers = \"seller_id\"",
            "5:11: column `seller_id` (INTEGER) cannot hold readers\n    readers are a JSON array of names, a joined table, or a rule: \"<column> = $subject\"",
        ),
        (
            "readers = { table = \"reader\" }",
            "5:11: readers that join nothing\n    write { table = \"…\", values = \"<column>\" }",
        ),
        (
            "readers = { table = \"reader\", values = \"name\" }",
            "5:40: unknown column `name` of table `reader`\n    there are: id, product_id, who",
        ),
        (
            "readers = { table = \"reader\", values = \"who\", order = \"who\" }",
            "5:55: `order` says nothing about readers\n    readers take table, as, on, through, many, where and values",
        ),
        (
            "readers = { table = \"customer\", values = \"name\" }",
            "5:11: no foreign key leads between `product` and `customer`\n    write the join: on = \"a.x = b.y\"",
        ),
    ];
    for (readers, expected) in cases {
        check(&with(readers), &format!("instep.toml:{expected}"));
    }
    let rule = |readers: &str| resolve(&with(readers)).unwrap().remove(0);
    let allowing = |from: ReadersFrom| ReadersRule::Rows {
        allow: vec![from],
        deny: vec![],
    };
    assert_eq!(rule("public = true").readers, ReadersRule::Public);
    for text in ["seller_id = $subject", "$subject=seller_id"] {
        let expected = allowing(ReadersFrom::Subject("seller_id".into()));
        assert_eq!(rule(&format!("readers = \"{text}\"")).readers, expected);
    }
    let several = "readers = [\"acl\", \"seller_id = $subject\"]\ndeny = { table = \"reader\", values = \"who = $subject\" }";
    assert_eq!(
        rule(several).readers,
        ReadersRule::Rows {
            allow: vec![
                ReadersFrom::Array("acl".into()),
                ReadersFrom::Subject("seller_id".into())
            ],
            deny: vec![ReadersFrom::Joined {
                node: 1,
                column: "who".into(),
                subject: true
            }],
        }
    );
    assert_eq!(
        rule("readers = \"acl\"").readers,
        allowing(ReadersFrom::Array("acl".into()))
    );
    for (readers, column, on) in [
        (
            "{ table = \"reader\", values = \"who\" }",
            "who",
            ("id", "product_id"),
        ),
        (
            "{ table = \"seller\", values = \"name\" }",
            "name",
            ("seller_id", "id"),
        ),
    ] {
        let collection = rule(&format!("readers = {readers}"));
        assert_eq!(
            collection.readers,
            allowing(ReadersFrom::Joined {
                node: 1,
                column: column.into(),
                subject: false,
            })
        );
        assert_eq!(collection.nodes[1].on, [(on.0.to_owned(), on.1.to_owned())]);
    }
}

#[test]
fn languages() {
    for (tag, language, analyzer) in [
        ("en", "en", "english"),
        ("sv-SE", "sv-se", "swedish"),
        ("fi", "fi", "standard"),
        ("unspecified", "unspecified", "standard"),
    ] {
        let text = BASE.replace("public = true", &format!("public = true\nlanguage = \"{tag}\""));
        let collection = resolve(&text).unwrap().remove(0);
        assert_eq!(collection.language, Languages::Fixed(language.into()));
        let kind = FieldType::Text {
            analyzer: analyzer.into(),
            keyword: true,
        };
        assert_eq!(collection.fields, [column("name", "name", kind)]);
    }
    for tag in ["", "e", "english", "en-", "en_GB", "12", "en-GB-x"] {
        let text = BASE.replace("public = true", &format!("public = true\nlanguage = \"{tag}\""));
        check(
            &text,
            &format!("instep.toml:6:12: `{tag}` is not a language\n    write a tag such as en, sv or sv-SE"),
        );
    }
}

#[test]
fn languages_from_a_column() {
    let with =
        |language: &str| BASE.replace("public = true", &format!("public = true\nlanguage = {language}"));
    let text = with("{ column = \"name\", known = [\"en\", \"sv-SE\"] }");
    let collection = resolve(&text).unwrap().remove(0);
    let tags: Vec<_> = collection
        .language
        .all()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(tags, ["en", "sv-se", "unspecified"]);
    for (language, analyzer) in [
        ("en", "english"),
        ("sv-se", "swedish"),
        ("unspecified", "standard"),
    ] {
        let mapping = instep_core::Mapping::of(&collection, &language.into());
        let kind = FieldType::Text {
            analyzer: analyzer.into(),
            keyword: true,
        };
        assert_eq!(mapping.fields["name"], kind);
    }
    for (language, said) in [
        (
            "{ column = \"nam\", known = [\"en\"] }",
            "6:23: unknown column `nam` of table `product`",
        ),
        ("{ column = \"name\", known = [] }", "6:12: no language is known"),
        (
            "{ column = \"name\", known = [\"english\"] }",
            "6:40: `english` is not a language",
        ),
        (
            "{ column = \"name\", known = [\"en\", \"en\"] }",
            "6:46: `en` is listed twice",
        ),
        (
            "{ column = \"name\", known = [\"en\"], other = \"?\" }",
            "6:55: `?` is not a language",
        ),
    ] {
        let error = resolve(&with(language)).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("instep.toml:{said}")),
            "{language}: {error}"
        );
    }
}

#[test]
fn several_sources() {
    let two = "[source.a]\nurl = \"sqlite:a\"\n[source.shop]\nurl = \"sqlite:b\"\n[collection.tag]\nSOURCE\nroot = \"tag\"\npublic = true\nfields.name = \"text\"\n";
    check(
        &two.replace("SOURCE", ""),
        "instep.toml:5:13: collection `tag` does not say which source it reads\n    there are: a, shop",
    );
    check(
        &two.replace("SOURCE", "source = \"b\""),
        "instep.toml:6:10: unknown source `b`\n    there are: a, shop",
    );
    assert_eq!(
        resolve(&two.replace("SOURCE", "source = \"shop\"")).unwrap()[0]
            .source
            .as_str(),
        "shop"
    );
}

#[test]
fn names_of_tables_with_schemas() {
    let make = |name: &str| table(name, &["id"], &[ID]);
    let schemas = Schemas::from([(
        "shop".into(),
        vec![make("a.product"), make("a.tag"), make("b.tag")],
    )]);
    let root = |root: &str| {
        let text = BASE
            .replace("\"product\"", &format!("\"{root}\""))
            .replace("fields.name = \"text\"", "fields.id = \"long\"");
        parse(&text)
            .unwrap()
            .collections(&schemas)
            .map(|found| found[0].root.name.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(root("product").unwrap(), "a.product");
    assert_eq!(root("b.tag").unwrap(), "b.tag");
    assert_eq!(
        root("tag").unwrap_err(),
        "instep.toml:4:8: several tables are called `tag`\n    write a.tag or b.tag"
    );
}

#[test]
fn all_problems_are_said_at_once_and_those_that_follow_from_another_are_not() {
    check(
        &fields("a = \"long\"\nb = { table = \"selers\" }\n\"b.c\" = \"long\"\nname = \"txt\""),
        "instep.toml:7:5: unknown column `a` of table `product`\n    there are: acl, category_id, code, extra, id, loose, made, name, price, raw, seller_id\ninstep.toml:8:15: unknown table `selers`\n    there are: category, customer, knows, no_key, product, product_tag, reader, review, seller, tag, transfer\ninstep.toml:10:8: unknown type `txt`\n    there are: boolean, date, decimal, double, flattened, integer, keyword, long, object, text",
    );
}
