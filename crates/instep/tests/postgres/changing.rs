//! Databases that change under what follows them: their definitions, and rows in every way that Postgres has.

use std::process::Command;
use std::time::{Duration, Instant};

use instep_conformance::in_full;
use instep_conformance::postgres::{self, Database, Server as Postgres};
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, difference, findings, position, reaches, settled, source, source_of};
use crate::support::product::{Product, Server, eventually};

const SHOP: &str = "
    create table item (id int primary key, name varchar(80), note text, size int, unused text);
    create table tag (item_id int, word text, primary key (item_id, word));
    create table other (id int primary key, name text, item_id int);
    create index on other (item_id);
    insert into item select id, 'item ' || id, 'note ' || id, id * 3, 'unused' from generate_series(1, 40) id;
    insert into tag select id, 'word ' || n from generate_series(1, 40) id, generate_series(1, 2) n;
    insert into other select id, 'other ' || id, id from generate_series(1, 20) id;
";

/// `item` and `tagged` follow the same tables; `other` reads none of what the tests take away from `item`.
const COLLECTIONS: &str = r#"
[collection.item]
root   = "item"
public = true

[collection.item.fields]
name = "text"
note = "text"
size = "integer"
tags = { table = "tag", on = "tag.item_id = item.id", many = true, values = "word" }

[collection.tagged]
root   = "item"
public = true

[collection.tagged.fields]
name   = "keyword"
tags   = { table = "tag", on = "tag.item_id = item.id", many = true, values = "word" }
others = { table = "other", on = "other.item_id = item.id", many = true, values = "name" }

[collection.other]
root   = "other"
public = true

[collection.other.fields]
name = "text"
item = { table = "item", on = "other.item_id = item.id", fields = ["name"] }
"#;

const ITEM: (&str, &str) = (
    "item",
    "select i.id, json_build_object('name', i.name, 'note', i.note, 'size', i.size, 'tags',
         coalesce((select json_agg(t.word order by t.word) from tag t where t.item_id = i.id), '[]')) from item i",
);
const TAGGED: (&str, &str) = (
    "tagged",
    "select i.id, json_build_object('name', i.name,
         'tags', coalesce((select json_agg(t.word order by t.word) from tag t where t.item_id = i.id), '[]'),
         'others', coalesce((select json_agg(o.name order by o.id) from other o where o.item_id = i.id), '[]')) from item i",
);
const OTHER: (&str, &str) = (
    "other",
    "select o.id, json_build_object('name', o.name,
         'item', (select json_build_object('name', i.name) from item i where i.id = o.item_id)) from other o",
);

fn shop(hint: &str) -> Option<Stage> {
    postgres::or_skip(hint)?;
    Some(Stage::new(
        Postgres::shared(),
        hint,
        SHOP,
        COLLECTIONS,
        &[ITEM, TAGGED, OTHER],
    ))
}

/// Waits until exactly these collections stand still, and returns what the status says of the first.
#[track_caller]
fn halted(served: &Server, collections: &[&str]) -> Value {
    let named = |status: &Value| -> Vec<String> {
        let all = status["halted_collections"]
            .as_array()
            .expect("halted collections");
        let mut names: Vec<_> = all
            .iter()
            .map(|halted| halted["collection"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    let status = reaches(served, &format!("{collections:?} to be halted"), |status| {
        named(status) == collections
    });
    status["halted_collections"][0].clone()
}

/// Where the slot of this database is, as far as it was acknowledged.
fn confirmed(database: &Database) -> u64 {
    let bytes = database.value(&format!(
        "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = '{}'",
        database.name()
    ));
    bytes.parse().expect("a number")
}

fn written(database: &Database) -> u64 {
    let bytes = database.value("select (pg_current_wal_lsn() - '0/0')::bigint");
    bytes.parse().expect("a number")
}

/// What nobody needs comes and goes unnoticed; the next build sees what is needed.
#[test]
fn definitions_that_change() {
    let Some(stage) = shop("definitions") else {
        return;
    };
    let served = stage.serve();
    for (what, script) in [
        (
            "a new column",
            "alter table item add column more text default 'more'; update item set more = 'x', name = 'with more' where id = 1",
        ),
        (
            "a new table",
            "create table newcomer (id int primary key); insert into newcomer values (1); update item set name = 'beside' where id = 2",
        ),
        (
            "a column renamed that nobody needs",
            "alter table item rename column more to less; update item set name = 'less' where id = 3",
        ),
        (
            "columns dropped that nobody needs",
            "alter table item drop column less, drop column unused; update item set name = 'fewer' where id = 4; delete from item where id = 5",
        ),
        (
            "a column and a row in one transaction",
            "begin; alter table item add column late int; update item set late = 1, name = 'late' where id = 6; commit",
        ),
        (
            "a change of the table under a savepoint",
            "begin; savepoint a; alter table item drop column note; rollback to a; update item set note = 'kept' where id = 7; commit",
        ),
        (
            "a wider type",
            "alter table item alter column name type varchar(200); update item set name = repeat('long ', 30) where id = 8",
        ),
        (
            "a table dropped that nobody needs",
            "drop table newcomer; update item set name = 'alone' where id = 9",
        ),
    ] {
        stage.after(&served, what, script);
    }
    for (what, script) in [
        ("another type", "alter table item alter column name type text using upper(name)"),
        ("another type of numbers", "alter table item alter column size type bigint using size * 1000"),
        ("a column that is new under an old name", "alter table item drop column note; alter table item add column note text default 'anew'"),
        (
            "columns that swap their names",
            "alter table item add column swap text default 'swapped'; alter table item rename note to old; alter table item rename swap to note",
        ),
        ("a table dropped and made again", "drop table tag; create table tag (item_id int, word text, primary key (item_id, word)); insert into tag values (1, 'again')"),
        (
            "a table dropped and made again in one transaction",
            "begin; drop table other; create table other (id int primary key, name text, item_id int); insert into other values (1, 'again', 2), (77, 'new', 3); commit",
        ),
        (
            "a table in the place of another",
            "create table tag_new (item_id int, word text, primary key (item_id, word)); insert into tag_new values (2, 'in its place');
             begin; alter table tag rename to tag_old; alter table tag_new rename to tag; commit",
        ),
    ] {
        stage.database.execute(script);
        stage.comes_in_step(&served, what);
    }
    stage.after(
        &served,
        "rows of tables that were made again",
        "insert into tag values (3, 'followed'); delete from tag where item_id = 2; update other set item_id = 4 where id = 77;
         insert into other values (78, 'newer', 3)",
    );
    stage.assert_verified(&served, "changes of definitions");
}

/// A table is written anew with other values, and nothing in its definition says so.
#[test]
fn values_that_change_with_a_definition_that_stays() {
    let Some(stage) = shop("rewritten") else {
        return;
    };
    let served = stage.serve();
    stage
        .database
        .execute("alter table item alter column note type text using 'rewritten ' || note");
    stage.comes_in_step(&served, "the same type with other values");
    stage.assert_verified(&served, "a table that was written anew");
}

/// A collection stands still by name while what it needs is gone; others go on, search stays up, the database keeps no
/// log for it, and it goes on by itself.
#[test]
fn what_is_needed_goes_and_comes_back() {
    let Some(stage) = shop("needed") else {
        return;
    };
    let served = stage.serve();
    let all = &["item", "tagged"][..];
    let rounds = [
        (
            "a dropped column and a renamed table",
            "begin; alter table item drop column note; alter table tag rename to label; commit",
            all,
            "alter table item add column note text default 'back'; alter table label rename to tag",
        ),
        (
            "a renamed column",
            "alter table item rename column note to remark",
            &["item"][..],
            "alter table item rename column remark to note",
        ),
        (
            "a dropped table",
            "drop table tag",
            all,
            "create table tag (item_id int, word text, primary key (item_id, word)); insert into tag values (1, 'back'), (2, 'back')",
        ),
    ];
    let rounds = &rounds[..if in_full() { rounds.len() } else { 1 }];
    for (round, (what, taken, stand_still, given)) in rounds.iter().copied().enumerate() {
        stage.database.execute(taken);
        // Something has to be built for it to be missed.
        stage.database.execute(&format!(
            "update item set name = 'while away {round}' where id = 10"
        ));
        let told = halted(&served, stand_still);
        let problem = told["problem"].to_string();
        assert!(
            problem.contains("note") || problem.contains("tag"),
            "{what}: {told}"
        );
        assert!(told["problem"]["remedy"].is_string(), "{what}: {told}");
        for collection in ["item", "tagged", "other"] {
            let answer = served.send("GET", &format!("/{collection}/_count"), None, None);
            assert_eq!(
                (answer.status, &answer.json()["count"]),
                (200, &json!(if collection == "other" { 20 + round } else { 40 })),
                "{what}"
            );
        }
        stage.database.execute(&format!(
            "insert into other values ({}, 'beside {what}', 11)",
            100 + round
        ));
        stage.collection_comes_in_step(&served, "other", &format!("{what}, a collection that goes on"));
        let end = written(&stage.database);
        eventually(
            "the slot to be acknowledged while a collection stands still",
            PATIENCE,
            || confirmed(&stage.database) >= end,
        );
        let listed = stage.product.run(&["status"]);
        assert_eq!(listed.status.code(), Some(1), "{what}");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(
            listed.contains("collection item stands still"),
            "{what}: {listed}"
        );

        stage.database.execute(given);
        halted_none(&served, what);
        stage.comes_in_step(&served, what);
    }
    stage.assert_verified(&served, "what was needed came back");
}

#[track_caller]
fn halted_none(served: &Server, what: &str) {
    reaches(served, &format!("everything to go on after {what}"), |status| {
        status["halted_collections"] == json!([])
    });
}

const SCHEMAS: &str = r#"
    create schema "a"; create schema "b"; create schema "odd.one";
    create table a.thing (id int primary key, name text, b_id int);
    create table b.thing (id int primary key, name text, a_id int references a.thing);
    create table "odd.one"."Thing ""x"" é" ("Id" int, "two.parts" text, "name" text, thing_id int, primary key ("Id", "two.parts"));
    create index on a.thing (b_id); create index on b.thing (a_id); create index on "odd.one"."Thing ""x"" é" (thing_id);
    insert into a.thing select id, 'a ' || id, 1 + id % 5 from generate_series(1, 10) id;
    insert into b.thing select id, 'b ' || id, 1 + id % 5 from generate_series(1, 10) id;
    insert into "odd.one"."Thing ""x"" é" select id, 'part,' || id, 'odd ' || id, 1 + id % 5 from generate_series(1, 10) id;
"#;

const OF_SCHEMAS: &str = r#"
[collection.a]
root   = "a.thing"
public = true

[collection.a.fields]
name = "text"
b    = { table = "b.thing", as = "bs", on = "bs.a_id = thing.id", many = true, values = "name" }
odd  = { table = '"odd.one"."Thing ""x"" é"', as = "odd", on = "odd.thing_id = thing.id", many = true, values = "name" }

[collection.b]
root   = "b.thing"
public = true

[collection.b.fields]
name = "text"
a    = { table = "a.thing", as = "as", on = "as.b_id = thing.id", many = true, values = "name" }

[collection.odd]
root   = '"odd.one"."Thing ""x"" é"'
public = true

[collection.odd.fields]
name = "text"
"#;

/// The same table name in two schemas, names that have to be quoted, composite keys.
#[test]
fn names_in_several_schemas() {
    if postgres::or_skip("names in schemas").is_none() {
        return;
    }
    let expected = [
        (
            "a",
            r#"select t.id, json_build_object('name', t.name,
                   'b', coalesce((select json_agg(b.name order by b.id) from b.thing b where b.a_id = t.id), '[]'),
                   'odd', coalesce((select json_agg(o.name order by o."Id", o."two.parts" collate "C") from "odd.one"."Thing ""x"" é" o where o.thing_id = t.id), '[]'))
               from a.thing t"#,
        ),
        (
            "b",
            "select t.id, json_build_object('name', t.name,
                 'a', coalesce((select json_agg(a.name order by a.id) from a.thing a where a.b_id = t.id), '[]')) from b.thing t",
        ),
        (
            "odd",
            r#"select "Id" || ',' || replace(replace("two.parts", '\', '\\'), ',', '\,'), json_build_object('name', name) from "odd.one"."Thing ""x"" é""#,
        ),
    ];
    let stage = Stage::new(Postgres::shared(), "schemas", SCHEMAS, OF_SCHEMAS, &expected);
    let served = stage.serve();
    for (what, script) in [
        (
            "a change in one schema",
            "update a.thing set name = 'only a' where id = 1",
        ),
        (
            "a change in the other",
            "update b.thing set name = 'only b' where id = 1",
        ),
        (
            "a move in the other",
            "update b.thing set a_id = 7 where id = 2; update a.thing set b_id = null where id = 3",
        ),
        (
            "keys of two parts",
            r#"update "odd.one"."Thing ""x"" é" set "two.parts" = 'back\slash,' || "Id" where "Id" < 4;
               update "odd.one"."Thing ""x"" é" set "Id" = 20, "two.parts" = '', thing_id = 2 where "Id" = 5;
               delete from "odd.one"."Thing ""x"" é" where "Id" = 6;
               insert into "odd.one"."Thing ""x"" é" values (20, ' ', 'another', 2), (20, 'é"''', 'third', 2)"#,
        ),
        ("a truncated table", r#"truncate "odd.one"."Thing ""x"" é""#),
        (
            "a truncation that cascades",
            "truncate a.thing cascade; insert into a.thing values (50, 'after', 1)",
        ),
        (
            "a truncation and rows in one transaction",
            "begin; insert into b.thing values (60, 'before', 50); truncate b.thing; insert into b.thing values (1, 'after', 50); commit",
        ),
        (
            "a truncation that is rolled back",
            "begin; truncate b.thing; rollback; update b.thing set name = 'stays' where id = 1",
        ),
    ] {
        stage.after(&served, what, script);
    }
    stage.assert_verified(&served, "several schemas");
}

/// Prepared transactions and savepoints.
#[test]
fn transactions_of_every_kind() {
    let Some(stage) = shop("transactions") else {
        return;
    };
    let served = stage.serve();
    let name = stage.database.name();
    stage.after(
        &served,
        "a prepared transaction that nobody has ended",
        &format!("begin; update item set name = 'prepared' where id = 1; delete from tag where item_id = 2; prepare transaction '{name} one';
                  begin; update item set name = 'never' where id = 3; prepare transaction '{name} two';
                  update item set name = 'beside' where id = 4"),
    );
    stage.after(
        &served,
        "one that is committed",
        &format!("commit prepared '{name} one'"),
    );
    stage.after(
        &served,
        "one that is rolled back",
        &format!("rollback prepared '{name} two'; update item set name = 'after' where id = 5"),
    );
    stage.after(
        &served,
        "nested savepoints",
        "begin;
         update item set name = 'outer' where id = 6;
         savepoint a; update item set name = 'a' where id = 7; insert into tag values (8, 'a');
         savepoint b; update item set name = 'b' where id = 6; delete from item where id = 9;
         rollback to b; insert into tag values (8, 'b'); release b;
         savepoint c; delete from tag where item_id = 8; rollback to c;
         release a; delete from item where id = 11; commit",
    );
    // Prepared and then left while we are away.
    stage.database.execute(&format!(
        "begin; update item set name = 'over a restart' where id = 12; prepare transaction '{name} three'"
    ));
    assert_eq!(served.stop(), Some(0));
    let served = stage.product.serve();
    stage.after(
        &served,
        "a restart between both halves",
        &format!("commit prepared '{name} three'"),
    );
    assert!(stage.database.value("select name from item where id = 12") == "over a restart");
    stage.assert_verified(&served, "transactions of every kind");
}

/// How much of a process's memory was resident at most, in MB.
fn peak(served: &Server) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes / 1024)
}

/// One transaction of many rows passes through in bounded memory, and arrives as a whole.
#[test]
fn a_large_transaction() {
    if postgres::or_skip("a large transaction").is_none() {
        return;
    }
    let rows = if in_full() { 1_000_000 } else { 200_000 };
    // Of a few documents, so that the engine's memory is not what is measured.
    let stage = Stage::new(
        Postgres::shared(),
        "large",
        "create table parent (id int primary key, name text);
         create table part (parent_id int, id int, filler text, primary key (parent_id, id));
         insert into parent select id, 'parent ' || id from generate_series(1, 200) id;",
        "[collection.parent]
         root = \"parent\"
         public = true
         fields.name = \"text\"
         fields.parts = { table = \"part\", on = \"part.parent_id = parent.id\", many = true, values = \"id\" }",
        &[(
            "parent",
            "select p.id, json_build_object('name', p.name, 'parts',
                 coalesce((select json_agg(x.id order by x.id) from part x where x.parent_id = p.id), '[]')) from parent p",
        )],
    );
    let served = stage.serve();
    let before = peak(&served);
    stage.after(
        &served,
        "a large transaction",
        &format!(
            "begin;
             insert into part select 1 + n % 200, n, repeat('x', 100) from generate_series(1, {rows}) n;
             update part set filler = repeat('y', 100);
             delete from part where id > 400;
             update parent set name = 'afterwards' where id = 1;
             commit"
        ),
    );
    let count: u64 = stage
        .database
        .value("select count(*) from part")
        .parse()
        .expect("a number");
    assert_eq!(count, 400);
    stage.assert_verified(&served, "a large transaction");
    match (before, peak(&served)) {
        (Some(before), Some(after)) => {
            // A transaction held as a whole would be hundreds of bytes for each of its changes, of which there are three a row.
            assert!(after < before + 100, "{rows} rows took {before} MB to {after} MB");
        }
        _ => {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED the memory of a large transaction: /proc is missing"
            );
        }
    }
}

/// Two sources, of which one collection each, in one process; one goes away and comes back while the other goes on.
#[test]
fn two_databases_at_once() {
    if postgres::or_skip("two databases").is_none() {
        return;
    }
    let server = Postgres::shared();
    let (left, right) = (server.database("left"), server.database("right"));
    let tables = "create table item (id int primary key, name text); insert into item select id, current_database() || id from generate_series(1, 30) id";
    left.execute(tables);
    right.execute(tables);
    let proxy = instep_conformance::proxy::Proxy::to(([127, 0, 0, 1], server.port()).into());
    let collection = |name: &str| {
        format!(
            "[collection.{name}]\nsource = \"{name}\"\nroot = \"item\"\npublic = true\nfields.name = \"text\"\n"
        )
    };
    let through = source_of("right", &right).replace(&right.url(), &right.url_through(proxy.url_port()));
    let configuration = format!(
        "{}{through}{}{}",
        source_of("left", &left),
        collection("left"),
        collection("right")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration);
    let served = product.serve();
    let statement = "select id, json_build_object('name', name) from item";
    let in_step = |database: &Database, name: &str, what: &str| {
        settled(&served, database, name);
        if let Some(difference) = difference(&served, database, name, statement, |_| true) {
            panic!("after {what}: {difference}");
        }
    };
    in_step(&left, "left", "the first load");
    in_step(&right, "right", "the first load");
    left.execute("update item set name = 'left' where id = 1; delete from item where id = 2");
    right.execute("update item set name = 'right' where id = 2; insert into item values (31, 'more')");
    in_step(&left, "left", "changes in both");
    in_step(&right, "right", "changes in both");

    proxy.cut();
    right.execute("update item set name = 'while away' where id < 10");
    left.execute("update item set name = 'goes on' where id < 10");
    let end = written(&left);
    reaches(&served, "the other source to go on", |status| {
        position(status, "left").is_some_and(|at| at >= end)
    });
    eventually("documents of the other source", PATIENCE, || {
        difference(&served, &left, "left", statement, |_| true).is_none()
    });
    reaches(&served, "the source that is away to be named", |status| {
        source(status, "right")["problem"]["code"] == "database_away"
    });
    proxy.heal();
    in_step(&right, "right", "an absence");
    assert_eq!(product.json(&["verify"])["differences"], 0);
}

/// Tables that cannot be followed are named, with the way on.
#[test]
fn tables_that_cannot_be_followed_are_named() {
    named(&[
        ("hasty", "unlogged", "set logged"),
        ("part_of", "unlogged", "hasty_part set logged"),
        ("keyless", "no primary key", "primary key"),
    ]);
}

/// What is no table is said to be none, and what it is.
#[test]
fn what_is_no_table_is_named() {
    named(&[
        ("seen", "view", "tables"),
        ("kept", "materialized view", "tables"),
        ("far", "foreign table", "source"),
        ("one_part", "partition of", "part_of"),
    ]);
}

/// Each table: what `check` says of it, and of the way on.
fn named(relations: &[(&str, &str, &str)]) {
    if postgres::or_skip("views and other relations").is_none() {
        return;
    }
    let database = Postgres::shared().database("relations");
    database.execute(
        "create table plain (id int primary key, name text);
         create unlogged table hasty (id int primary key, name text);
         create view seen as select * from plain;
         create materialized view kept as select * from plain;
         create foreign data wrapper nothing; create server elsewhere foreign data wrapper nothing;
         create foreign table far (id int, name text) server elsewhere;
         create table part_of (id int primary key, name text) partition by range (id);
         create table one_part partition of part_of for values from (0) to (10);
         create unlogged table hasty_part partition of part_of for values from (10) to (20);
         create table keyless (id int, name text)",
    );
    let folder = tempfile::tempdir().expect("a folder");
    for (table, word, remedy) in relations {
        let collection =
            format!("[collection.thing]\nroot = \"{table}\"\npublic = true\nfields.name = \"text\"\n");
        let product = Product::new(
            folder.path(),
            &format!("{}{collection}", source_of("main", &database)),
        );
        let (found, code) = findings(&product, "");
        assert_eq!(code, Some(1), "{table}: {found:?}");
        let named = found.iter().any(|found| {
            found["severity"] == "error"
                && found.to_string().contains(table)
                && found["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(word))
                && found["remedy"].as_str().is_some_and(|told| told.contains(remedy))
        });
        assert!(named, "{table} should be called {word}: {found:#?}");
    }
}

fn signal(served: &Server, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &served.id().to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

/// A process that stands still longer than the server's patience loses its connection, and nothing else.
#[test]
fn standing_still_longer_than_the_server_waits() {
    if postgres::or_skip("a process that stands still").is_none() {
        return;
    }
    let server = Postgres::start(&[("wal_sender_timeout", "2s"), ("fsync", "off")]);
    let stage = Stage::new(&server, "still", SHOP, COLLECTIONS, &[ITEM, TAGGED, OTHER]);
    let served = stage.serve();
    // Idle for longer than that, keep-alives are answered: the same walsender stays.
    let sender = "select active_pid from pg_replication_slots where active";
    let first = stage.database.value(sender);
    std::thread::park_timeout(Duration::from_millis(3_500));
    assert_eq!(
        stage.database.value(sender),
        first,
        "the connection outlives silence"
    );

    signal(&served, "STOP");
    stage.database.execute("update item set name = 'while frozen'; delete from tag where item_id < 20; insert into item (id, name) values (500, 'new')");
    let gone = Instant::now();
    eventually("the server to give up", PATIENCE, || {
        stage.database.query(sender).is_empty()
    });
    assert!(gone.elapsed() > Duration::from_secs(1), "the server was patient");
    stage
        .database
        .execute("update item set note = 'and after it was given up' where id % 2 = 0; truncate other");
    signal(&served, "CONT");
    stage.assert_verified(&served, "standing still");
    eventually("one walsender", PATIENCE, || {
        stage.database.query(sender).len() == 1
    });
}

/// A database where nothing happens keeps no log for us, whatever happens beside it.
#[test]
fn an_idle_database_beside_a_busy_one() {
    if postgres::or_skip("an idle database").is_none() {
        return;
    }
    let server = Postgres::start(&[("fsync", "off")]);
    let stage = Stage::new(&server, "idle", SHOP, COLLECTIONS, &[ITEM, TAGGED, OTHER]);
    let served = stage.serve();
    let busy = server.database("busy");
    let begin = written(&stage.database);
    busy.execute("create table noise (filler text); insert into noise select repeat(md5(n::text), 30) from generate_series(1, 40000) n; checkpoint");
    let made = written(&stage.database) - begin;
    assert!(made > 30 << 20, "{made} bytes of log");
    let retained = format!(
        "select (pg_current_wal_lsn() - restart_lsn)::bigint from pg_replication_slots where slot_name = '{}'",
        stage.database.name()
    );
    eventually("the slot to need nothing of it", PATIENCE, || {
        // A checkpoint writes down which transactions run, from where a slot may begin.
        server.maintenance().execute("checkpoint");
        let kept: u64 = stage.database.value(&retained).parse().expect("a number");
        kept < 1 << 20
    });
    stage.after(
        &served,
        "the busy neighbour",
        "update item set name = 'awake' where id = 1",
    );
}
