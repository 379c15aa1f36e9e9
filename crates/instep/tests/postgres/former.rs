//! Rows that move and vanish, under each of the means by which their former parents are known: no document keeps what
//! it no longer has.

use std::process::{Child, Stdio};

use instep_conformance::postgres::{self, Database, Server as Postgres};
use serde_json::Value;

use super::stage::{PATIENCE, Stage, findings, source};
use crate::support::product::{Server, eventually};

/// Every way in which rows lead up to others: one of many, a chain of two, one by a unique column that is no key from
/// either side, the same table from both sides.
const CONFIGURATION: &str = r#"
[collection.parent]
root   = "parent"
public = true

[collection.parent.fields]
name     = "text"
boss     = { table = "parent", as = "boss", on = "parent.boss_id = boss.id", fields = ["name"] }
reports  = { table = "parent", as = "report", on = "report.boss_id = parent.id", many = true, values = "name" }
region   = { table = "region", on = "parent.region_code = region.code", fields = ["label"] }
badge    = { table = "badge", on = "badge.owner_code = parent.code", fields = ["label"] }
children = { table = "child", on = "child.parent_id = parent.id", many = true, fields = ["id", "note", "big"] }
"children.grand" = { table = "grand", on = "grand.child_id = child.id", many = true, values = "word" }
"#;

const EXPECTED: (&str, &str) = (
    "parent",
    "select p.id, json_build_object(
         'name', p.name,
         'boss', (select json_build_object('name', b.name) from parent b where b.id = p.boss_id),
         'reports', coalesce((select json_agg(r.name order by r.id) from parent r where r.boss_id = p.id), '[]'),
         'region', (select json_build_object('label', r.label) from region r where r.code = p.region_code),
         'badge', (select json_build_object('label', b.label) from badge b where b.owner_code = p.code),
         'children', coalesce((select json_agg(json_build_object('id', c.id, 'note', c.note, 'big', c.big, 'grand',
                 coalesce((select json_agg(g.word order by g.id) from grand g where g.child_id = c.id), '[]')) order by c.id)
             from child c where c.parent_id = p.id), '[]'))
     from parent p",
);

/// Ids from here on belong to whoever writes beside the test.
const OTHERS: u32 = 900;

const ROWS: &str = "
    alter table child alter column big set storage external;
    insert into region select * from (values (1, 'r1', 'north'), (2, 'r2', 'south'), (3, 'r3', 'west')) as r (id, code, label);
    insert into parent (id, code, name, boss_id, region_code)
        select id, 'c' || id, 'parent ' || id, case when id in (3, 4, 5) then 2 else {none} end, 'r' || 1 + id % 3
        from generate_series(1, 8) id;
    insert into badge (id, owner_code, label) select id, 'c' || id, 'badge ' || id from generate_series(1, 4) id;
    insert into child (id, parent_id, note) select id, 1 + id % 5, 'child ' || id from generate_series(11, 50) id;
    update child set big = id || repeat(' a long value', 400) where id % 4 = 0;
    insert into grand (id, child_id, word) select id, 11 + id % 30, 'word ' || id from generate_series(101, 190) id;
    insert into parent (id, code, name, boss_id) select id, 'c' || id, 'other ' || id, {none} from generate_series(901, 910) id;
    insert into child (id, parent_id, note) select id, 901 + id % 10, 'other' from generate_series(901, 930) id;
    create index on parent (boss_id);
    create index on parent (region_code);
    create index on child (parent_id);
    create index on grand (child_id);
";

/// By what the former parents are known.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Key,
    Index,
    Full,
    Recorded,
}

impl By {
    /// The tables with this means, and rows.
    fn schema(self) -> String {
        let mut made = String::new();
        made += match self {
            // A row's key holds its parent's, so that it cannot be without one. The tree of parents has no such key.
            By::Key => "
                create table parent (id int primary key, code text unique, name text, boss_id int, region_code text);
                alter table parent replica identity full;
                create table region (id int unique, code text primary key, label text);
                create table badge (id int unique, owner_code text primary key, label text);
                create table child (id int, parent_id int, note text, big text, primary key (parent_id, id));
                create table grand (id int, child_id int, word text, primary key (child_id, id));
                create index on child (id);",
            By::Index => "
                create table parent (id int primary key, code text unique, name text, boss_id int not null, region_code text);
                create table region (id int primary key, code text not null unique, label text);
                create table badge (id int primary key, owner_code text not null unique, label text);
                create table child (id int primary key, parent_id int not null, note text, big text);
                create table grand (id int primary key, child_id int not null, word text);
                create unique index parent_up on parent (id, boss_id);
                create unique index region_up on region (code, id);
                create unique index badge_up on badge (id, owner_code);
                create unique index child_up on child (id, parent_id);
                create unique index grand_up on grand (id, child_id);
                alter table parent replica identity using index parent_up;
                alter table region replica identity using index region_up;
                alter table badge replica identity using index badge_up;
                alter table child replica identity using index child_up;
                alter table grand replica identity using index grand_up;",
            By::Full | By::Recorded => "
                create table parent (id int primary key, code text unique, name text, boss_id int, region_code text);
                create table region (id int primary key, code text unique, label text);
                create table badge (id int primary key, owner_code text unique, label text);
                create table child (id int primary key, parent_id int, note text, big text);
                create table grand (id int primary key, child_id int, word text);",
        };
        if self == By::Full {
            for table in ["parent", "region", "badge", "child", "grand"] {
                made += &format!("alter table {table} replica identity full;");
            }
        }
        made + &self.spell(ROWS)
    }

    /// A row without a parent says NULL, or where its column may not, a parent that there is not.
    fn spell(self, script: &str) -> String {
        let (none, nocode) = match self {
            By::Key | By::Index => ("0", "'none'"),
            By::Full | By::Recorded => ("null", "null"),
        };
        script.replace("{none}", none).replace("{nocode}", nocode)
    }

    /// What `check` calls the means of the children.
    fn called(self) -> &'static str {
        match self {
            By::Key => "the primary key",
            By::Index => "replica identity index child_up",
            By::Full => "replica identity full",
            By::Recorded => "recorded reads",
        }
    }
}

/// Each is committed, waited for, and compared with plain SQL.
const STEPS: [(&str, &str); 41] = [
    ("a move", "update child set parent_id = 6 where id = 11"),
    ("a move and its neighbour's change", "update child set parent_id = 1, note = 'moved' where id = 11"),
    (
        "a move through two parents in one transaction",
        "begin; update child set parent_id = 7 where id = 12; update child set parent_id = 8 where id = 12; commit",
    ),
    (
        "a move there and back in two transactions",
        "update child set parent_id = 7 where id = 13; update child set parent_id = 4 where id = 13",
    ),
    (
        "a move under a savepoint that is rolled back, and another",
        "begin; savepoint a; update child set parent_id = 6 where id = 17; rollback to a;
         savepoint b; update child set parent_id = 7 where id = 17; release b; commit",
    ),
    ("a move that is rolled back", "begin; update child set parent_id = 6 where id = 18; rollback"),
    ("a detached child", "update child set parent_id = {none} where id = 14"),
    ("a detached child attached again", "update child set parent_id = 6 where id = 14"),
    ("all children of one detached", "update child set parent_id = {none} where parent_id = 5"),
    ("a deleted child", "delete from child where id = 15"),
    (
        "deleted and inserted again under its key with another parent, in one transaction",
        "begin; delete from child where id = 16; insert into child (id, parent_id, note) values (16, 6, 'again'); commit",
    ),
    (
        "deleted and inserted again under its key with another parent, in two",
        "delete from child where id = 21; insert into child (id, parent_id, note) values (21, 6, 'again')",
    ),
    (
        "inserted, moved and deleted in one transaction",
        "begin; insert into child (id, parent_id, note) values (60, 1, 'short'); update child set parent_id = 2 where id = 60;
         delete from child where id = 60; commit",
    ),
    (
        "inserted in one transaction, deleted in the next",
        "insert into child (id, parent_id, note) values (61, 3, 'short'); delete from child where id = 61",
    ),
    ("another key", "update child set id = 1022 where id = 22"),
    ("another key and another parent", "update child set id = 1023, parent_id = 6 where id = 23"),
    (
        "two that swap their keys",
        "begin; update child set id = -1 where id = 25; update child set id = 25 where id = 26;
         update child set id = 26 where id = -1; commit",
    ),
    ("a long value beside the change", "update child set note = 'beside a long value' where id = 28"),
    ("a move with a long value that is unchanged", "update child set parent_id = 6 where id = 28"),
    ("a detached child with a long value", "update child set parent_id = {none} where id = 32"),
    ("a deleted child with a long value", "delete from child where id = 36"),
    ("another key with a long value", "update child set id = 1040 where id = 40"),
    ("a changed grandchild", "update grand set word = 'changed' where id = 101"),
    ("a moved grandchild", "update grand set child_id = 12 where id = 102"),
    ("a detached grandchild", "update grand set child_id = {none} where id = 103"),
    ("a deleted grandchild", "delete from grand where id = 104"),
    ("grandchildren deleted with a child that stays", "delete from grand where child_id = 27"),
    ("a child that takes its grandchildren along", "update child set parent_id = 8 where id = 29"),
    (
        "a child, its grandchild and the grandchild's new child, all at once",
        "begin; update grand set child_id = 30 where id = 107; update child set parent_id = 7 where id = 30;
         delete from child where id = 31; commit",
    ),
    ("a badge that moves", "update badge set owner_code = 'c6' where id = 1"),
    ("a badge that belongs to nobody", "update badge set owner_code = {nocode} where id = 2"),
    ("a badge that is gone", "delete from badge where id = 3"),
    (
        "a badge whose owner is called otherwise, and one who takes over the name",
        "update parent set code = 'free' where id = 4; update parent set code = 'c4' where id = 7",
    ),
    ("a region that is called otherwise", "update region set code = 'r9' where id = 1"),
    (
        "regions that swap their codes",
        "begin; update region set code = 'r8' where id = 2; update region set code = 'r2' where id = 3;
         update region set code = 'r3' where id = 2; commit",
    ),
    ("a region that is gone", "delete from region where id = 3"),
    ("another boss", "update parent set boss_id = 1 where id = 3"),
    ("no boss", "update parent set boss_id = {none} where id = 4"),
    (
        "a boss who is one's own, and one who reports to a report",
        "update parent set boss_id = 5 where id = 5; update parent set boss_id = 3 where id = 1",
    ),
    ("a boss with another key", "update parent set id = 20 where id = 1"),
    ("a deleted boss whose reports and children stay", "delete from parent where id = 2"),
];

/// A parent with many children, of which some go, then all.
const MANY: [(&str, &str); 6] = [
    (
        "3,000 children",
        "insert into child (id, parent_id, note) select 10000 + n, 6, 'one of many' from generate_series(1, 3000) n",
    ),
    (
        "one of 3,000 moves",
        "update child set parent_id = 7 where id = 10005",
    ),
    ("one of 3,000 goes", "delete from child where id = 10006"),
    (
        "their parent is renamed",
        "update parent set name = 'of many' where id = 6",
    ),
    (
        "half of them move",
        "update child set parent_id = 8 where parent_id = 6 and id % 2 = 0",
    ),
    ("all that stayed go", "delete from child where parent_id = 6"),
];

/// A process that keeps changing rows of its own until it is dropped.
struct Others(Child);

impl Others {
    fn on(database: &Database) -> Others {
        let change = "update child set note = clock_timestamp()::text, parent_id = 901 + (random() * 9)::int
                      where id = 901 + (random() * 29)::int \\watch 0.3\n";
        let mut psql = database.psql();
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql runs");
        let mut input = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut input, change.as_bytes()).expect("psql reads");
        Others(child)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ours(id: &str) -> bool {
    id.parse::<u32>()
        .is_ok_and(|id| !(OTHERS..OTHERS + 100).contains(&id))
}

fn run(stage: &Stage, served: &Server, by: By, steps: &[(&str, &str)]) {
    for (what, script) in steps {
        stage.database.execute(&by.spell(script));
        stage.compare(served, what, ours);
    }
}

fn rows_that_move(by: By, hint: &str) {
    if postgres::or_skip(hint).is_none() {
        return;
    }
    let stage = Stage::new(Postgres::shared(), hint, &by.schema(), CONFIGURATION, &[EXPECTED]);
    let (told, code) = means(&stage, "public.child");
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|told| told.contains(by.called())),
        "{told}"
    );
    assert_eq!(code, Some(0), "{:?}", findings(&stage.product, ""));
    let served = stage.serve();
    {
        let _others = Others::on(&stage.database);
        run(&stage, &served, by, &STEPS);
        run(&stage, &served, by, &MANY);
    }
    stage.assert_verified(&served, "everything, and what others did beside it");
    assert_eq!(named(&served, "public.child")["means"], by.called());

    // The same while nothing runs.
    assert_eq!(served.stop(), Some(0));
    stage.database.execute(&by.spell(
        "update child set parent_id = 7 where id = 33; delete from child where id = 34;
         update grand set child_id = 33 where id = 120; delete from grand where id = 121;
         update child set parent_id = {none} where id = 37; update badge set owner_code = 'c8' where id = 1;
         delete from child where id = 38; insert into child (id, parent_id, note) values (38, 8, 'again');
         update parent set boss_id = {none} where id = 5",
    ));
    let served = stage.product.serve();
    stage.assert_verified(&served, "changes while nothing ran");
}

/// What `check` says of the table's means, and its exit code.
fn means(stage: &Stage, table: &str) -> (Value, Option<i32>) {
    let (found, code) = findings(&stage.product, "former_parents");
    let subject = format!("table {table}");
    let of_table = found.iter().find(|found| found["subject"] == subject.as_str());
    let of_table = of_table.unwrap_or_else(|| panic!("nothing is said of {table}: {found:?}"));
    (of_table.clone(), code)
}

/// What `status` says of the table's means.
fn named(served: &Server, table: &str) -> Value {
    let mut found = Value::Null;
    eventually("the means to be named", PATIENCE, || {
        let status = served.status(None);
        let all = source(&status, "main")["former"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of_table = all.into_iter().find(|former| former["table"] == table);
        found = of_table.unwrap_or_default();
        !found.is_null()
    });
    found
}

#[test]
fn known_by_the_key() {
    rows_that_move(By::Key, "former_key");
}

#[test]
fn known_by_an_index() {
    rows_that_move(By::Index, "former_index");
}

#[test]
fn known_by_the_whole_row() {
    rows_that_move(By::Full, "former_full");
}

#[test]
fn known_by_recorded_reads() {
    rows_that_move(By::Recorded, "former_recorded");
}

/// Partitions, each with an identity of its own; one with its columns in another order.
const PARTITIONS: &str = "
    create table parent (id int primary key, code text unique, name text, boss_id int, region_code text);
    create table region (id int primary key, code text unique, label text);
    create table badge (id int primary key, owner_code text unique, label text);
    create table grand (id int primary key, child_id int, word text);
    create table child (id int primary key, parent_id int, note text, big text) partition by range (id);
    create table child_full partition of child for values from (0) to (20);
    create table child_index (big text, gone int, parent_id int not null, note text, id int primary key);
    alter table child_index drop column gone;
    alter table child attach partition child_index for values from (20) to (30);
    create table child_sub partition of child for values from (30) to (800) partition by range (id);
    create table child_sub_full partition of child_sub for values from (30) to (40);
    create table child_sub_rest partition of child_sub default;
    create table child_rest partition of child default;
    create unique index child_index_up on child_index (id, parent_id);
    alter table child_full replica identity full;
    alter table child_index replica identity using index child_index_up;
    alter table child_sub_full replica identity full;
";

/// What happens to partitions themselves.
const OF_PARTITIONS: [(&str, &str); 5] = [
    (
        "moves between partitions",
        "update child set id = id + 1500 where id in (17, 18); update child set id = 2019, parent_id = 7 where id = 19",
    ),
    ("one partition truncated", "truncate child_index"),
    ("one partition's partition truncated", "truncate child_sub_rest"),
    (
        "a detached partition",
        "alter table child detach partition child_full",
    ),
    (
        "it is attached again, with other rows",
        "update child_full set parent_id = 8 where id = 13; delete from child_full where id = 12;
         alter table child attach partition child_full for values from (0) to (20)",
    ),
];

fn partitions_that_move(hint: &str, identities: &str, called: &str, steps: &[(&str, &str)]) {
    if postgres::or_skip(hint).is_none() {
        return;
    }
    let by = By::Recorded;
    // One partition's column may not be NULL.
    let spell = |script: &str| script.replace("{none}", "0").replace("{nocode}", "null");
    let schema = format!("{PARTITIONS}{identities}{}", spell(ROWS));
    let stage = Stage::new(Postgres::shared(), hint, &schema, CONFIGURATION, &[EXPECTED]);
    let (told, _) = means(&stage, "public.child");
    assert!(
        told["message"].as_str().is_some_and(|told| told.contains(called)),
        "{told}"
    );
    let served = stage.serve();
    {
        let _others = Others::on(&stage.database);
        let spelled: Vec<_> = steps
            .iter()
            .map(|(what, script)| (*what, spell(script)))
            .collect();
        for (what, script) in &spelled {
            run(&stage, &served, by, &[(what, script)]);
        }
    }
    stage.assert_verified(&served, "everything with rows of partitions");
    for (what, script) in OF_PARTITIONS {
        stage.database.execute(script);
        stage.comes_in_step(&served, what);
    }
    // A partition that is there from now on is followed with the rest.
    stage.after(
        &served,
        "moves after it came back",
        "update child set parent_id = 4 where id = 13; delete from child where id = 14",
    );
    stage.database.execute(
        "create table child_new (like child including all); insert into child_new (id, parent_id, note) values (5001, 8, 'new');
         alter table child detach partition child_rest;
         alter table child attach partition child_new for values from (5000) to (6000);
         insert into child (id, parent_id, note) values (5002, 7, 'newer')",
    );
    stage.comes_in_step(&served, "a new partition in the place of another");
    stage.after(
        &served,
        "moves in the new partition",
        "update child set parent_id = 4 where id = 5001; delete from child where id = 5002",
    );
    stage.assert_verified(&served, "what happened to partitions");
}

#[test]
fn partitions_of_which_each_brings_them() {
    let all =
        "alter table child_sub_rest replica identity full; alter table child_rest replica identity full;";
    partitions_that_move(
        "former_parts",
        all,
        "replica identities of the partitions",
        &STEPS[..22],
    );
}

#[test]
fn partitions_of_which_some_bring_nothing() {
    partitions_that_move("former_mixed", "", "recorded reads", &STEPS[..22]);
}

/// What children do after each change of the identity, from its very first moment.
fn moves(round: u32) -> String {
    let id = 11 + round * 4;
    format!(
        "update child set parent_id = 6 where id = {id}; delete from child where id = {};
         update child set parent_id = null where id = {} and {round} < 3;
         begin; delete from child where id = {}; insert into child (id, parent_id, note) values ({}, 7, 'again'); commit;",
        id + 1,
        id + 2,
        id + 3,
        id + 3
    )
}

#[test]
fn an_identity_that_changes_while_it_is_followed() {
    if postgres::or_skip("an identity that changes").is_none() {
        return;
    }
    let stage = Stage::new(
        Postgres::shared(),
        "former_changes",
        &By::Full.schema(),
        CONFIGURATION,
        &[EXPECTED],
    );
    let served = stage.serve();
    let changes = [
        ("the beginning, whole rows", ""),
        ("from whole rows to the key", "alter table child replica identity default;"),
        ("still by the key", ""),
        (
            "from the key to an index",
            "delete from child where parent_id is null; alter table child alter column parent_id set not null;
             create unique index child_up on child (id, parent_id); alter table child replica identity using index child_up;",
        ),
        ("back to the key", "alter table child replica identity default;"),
        ("back to whole rows", "alter table child replica identity full;"),
        ("to the key in the transaction of the moves", "begin; alter table child replica identity default;"),
    ];
    for (round, (what, change)) in (0..).zip(changes) {
        let script = match change.starts_with("begin;") {
            true => format!(
                "{change} update child set parent_id = 8 where id = 35; delete from child where id = 36; commit"
            ),
            false => format!("{change}{}", moves(round)),
        };
        stage.after(&served, what, &script);
        if round == 0 {
            assert_eq!(named(&served, "public.child")["means"], "replica identity full");
        }
    }
    stage.assert_verified(&served, "changes of the identity");
    assert_eq!(served.stop(), Some(0));
    let served = stage.product.serve();
    stage.after(
        &served,
        "a restart",
        "update child set parent_id = 3 where id = 35; delete from child where id = 37",
    );
    eventually("the means to be named anew", PATIENCE, || {
        named(&served, "public.child")["means"] == "recorded reads"
    });
}

/// Exactly what is printed makes it cheaper: from recorded reads to whole rows, and to an index once no row may be
/// without a parent.
#[test]
fn what_check_prints_makes_it_cheaper() {
    if postgres::or_skip("cheaper means").is_none() {
        return;
    }
    let schema = By::Recorded.schema();
    let stage = Stage::new(
        Postgres::shared(),
        "former_cheaper",
        &schema,
        CONFIGURATION,
        &[EXPECTED],
    );
    let called = |told: &Value| told["message"].as_str().unwrap_or_default().to_owned();
    for table in ["public.child", "public.grand", "public.badge"] {
        let (told, code) = means(&stage, table);
        assert_eq!((&told["severity"], code), (&"warning".into(), Some(0)), "{told}");
        assert!(called(&told).contains("recorded reads"), "{told}");
        let cheaper = told["remedy"].as_str().expect("a statement");
        assert!(cheaper.contains("replica identity full"), "{told}");
        stage.database.execute(cheaper);
        let (told, _) = means(&stage, table);
        assert!(
            called(&told).contains("replica identity full") && told["severity"] == "ok",
            "{told}"
        );
    }
    // `status` says the same, and the statement of `check --sql` is the same.
    stage.database.execute("update child set parent_id = 1 where parent_id is null; alter table child alter column parent_id set not null");
    let (told, _) = means(&stage, "public.child");
    assert_eq!(told["severity"], "warning", "{told}");
    let cheaper = told["remedy"].as_str().expect("a statement").to_owned();
    assert!(cheaper.contains("create unique index concurrently"), "{told}");
    let printed = stage.product.json(&["check", "--sql"]);
    assert!(
        printed["sources"][0]["cheaper"]
            .as_array()
            .is_some_and(|all| all.contains(&cheaper.clone().into())),
        "{printed}"
    );
    let served = stage.serve();
    assert_eq!(named(&served, "public.child")["cheaper"], cheaper.as_str());
    let output = stage.product.run(&["status"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        cheaper.lines().all(|line| shown.contains(line)),
        "{cheaper}\n{shown}"
    );
    stage.database.execute(&cheaper);
    let (told, _) = means(&stage, "public.child");
    assert!(
        called(&told).contains("replica identity index") && told["severity"] == "ok",
        "{told}"
    );
    stage.after(
        &served,
        "the cheaper means",
        "update child set parent_id = 6 where id = 11; delete from child where id = 12",
    );

    // Partitions one by one: a statement for each that lacks one, and none for the others.
    let schema = format!("{PARTITIONS}{}", ROWS.replace("{none}", "0"));
    let stage = Stage::new(
        Postgres::shared(),
        "former_cheaper",
        &schema,
        CONFIGURATION,
        &[EXPECTED],
    );
    let (told, _) = means(&stage, "public.child");
    let cheaper = told["remedy"].as_str().expect("a statement").to_owned();
    assert!(
        cheaper.contains("child_sub_rest")
            && cheaper.contains("child_rest")
            && !cheaper.contains("child_full"),
        "{told}"
    );
    stage.database.execute(&cheaper);
    let (told, _) = means(&stage, "public.child");
    assert!(
        called(&told).contains("replica identities of the partitions"),
        "{told}"
    );
}
