//! The Tate Collection, 69,202 artworks (the first 20,000 ids without `--long`), through everything Postgres does to rows.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use instep_conformance::postgres::{self, Database};
use serde_json::json;

use super::world::{self, assert_in_step, comes_in_step, configuration, load, settled};
use crate::support::product::{Product, Server};
use crate::support::tate;

/// Foreign keys that follow their keys.
const CASCADES: &str = "
    alter table artwork_artist
        drop constraint artwork_artist_artist_id_fkey,
        add foreign key (artist_id) references artist on update cascade on delete cascade,
        drop constraint artwork_artist_artwork_id_fkey,
        add foreign key (artwork_id) references artwork on update cascade on delete cascade;
    alter table artist_movement
        drop constraint artist_movement_artist_id_fkey,
        add foreign key (artist_id) references artist on update cascade on delete cascade;
    alter table artwork_subject
        drop constraint artwork_subject_artwork_id_fkey,
        add foreign key (artwork_id) references artwork on update cascade on delete cascade;
";

/// A link table rebuilt as a migration does it, which leaves out some rows.
const REBUILD: &str = "begin;
    create table artwork_subject_new (like artwork_subject including all);
    insert into artwork_subject_new select * from artwork_subject where subject_id % 5 <> 0;
    alter table artwork_subject_new
        add foreign key (subject_id) references subject,
        add foreign key (artwork_id) references artwork on update cascade on delete cascade;
    drop table artwork_subject;
    alter table artwork_subject_new rename to artwork_subject;
    commit";

fn copy_in(database: &Database, table: &str, rows: &str) {
    let mut child = database
        .psql()
        .arg("-c")
        .arg(format!("\\copy {table} from pstdin (format csv)"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("psql runs");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(rows.as_bytes()).expect("psql reads");
    drop(input);
    assert!(child.wait().expect("psql ends").success(), "copying into {table}");
}

#[test]
fn every_change_to_the_tate_is_followed() {
    let (Some(data), Some(_)) = (
        tate::folder("the Tate in Postgres"),
        postgres::or_skip("the Tate in Postgres"),
    ) else {
        return;
    };
    let server = postgres::Server::start(&[]);
    let database = server.database("tate");
    load(
        &data,
        &database,
        (!instep_conformance::in_full()).then_some(20_000),
    );
    database.execute(CASCADES);
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&database.url()));
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");

    let served = product.serve();
    assert_in_step(&product, &served, &database, "the first sync");
    for (what, statements) in CHANGES {
        database.execute(statements);
        settled(&served, &database);
        assert_in_step(&product, &served, &database, what);
    }

    copy_in(
        &database,
        "artwork (id, acno, title)",
        &(900_000..905_000)
            .map(|id| format!("{id},C{id},copied {id}\n"))
            .collect::<String>(),
    );
    let subject: i64 = database
        .value("select min(id) from subject")
        .parse()
        .expect("an id");
    copy_in(
        &database,
        "artwork_subject",
        &(900_000..905_000)
            .map(|id| format!("{id},{subject}\n"))
            .collect::<String>(),
    );
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "COPY in");

    // Nothing in the stream leads from the former table to the one that bears its name.
    database.execute(REBUILD);
    comes_in_step(&served, &database, "the rebuild of a link table");
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "the rebuild of a link table");
    database.execute(
        "delete from artwork_subject where artwork_id % 17 = 0;
         insert into artwork_subject select min(a.id), s.id from artwork a, subject s where s.id < 300 group by s.id on conflict do nothing",
    );
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "changes of the rebuilt table");

    // While nothing runs.
    assert_eq!(served.stop(), Some(0));
    database.execute(
        "update artwork set title = 'while away' where id % 7 = 0;
         delete from artwork_subject where artwork_id % 11 = 0;
         delete from artwork where id % 13 = 0;
         update artwork set group_id = null where group_id % 3 = 0;",
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let served = product.serve();
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "changes while nothing ran");
    assert_search_sees(&served);
}

fn assert_search_sees(served: &Server) {
    let found = served.send(
        "POST",
        "/artwork/_count",
        None,
        Some(&json!({ "query": { "match_phrase": { "title": "while away" } } })),
    );
    assert!(found.json()["count"].as_u64() > Some(1_000), "{}", found.body);
    let all = world::searched(served, "artwork");
    assert!(all.values().all(|document| document["title"] != json!("never")));
}

/// Each is committed, waited for, verified, and compared with plain SQL.
const CHANGES: [(&str, &str); 12] = [
    (
        "the rename of an artist",
        "update artist set name = 'Turner, renamed' where id = 558",
    ),
    (
        "the move of an artwork",
        "update artwork_artist set artist_id = 558
         where (artwork_id, artist_id) = (select artwork_id, artist_id from artwork_artist where artist_id <> 558 limit 1)",
    ),
    (
        "moves between groups, by a column in no key",
        "update artwork set group_id = (select min(id) from catalogue_group) where id % 50 = 0;
         update artwork set group_id = null where id % 75 = 0",
    ),
    (
        "moves in the tree of subjects",
        "update subject set parent_id = (select min(id) from subject) where id % 40 = 0 and id > 100;
         update subject set parent_id = null where id % 60 = 0",
    ),
    (
        "the deletion of links",
        "delete from artwork_subject where subject_id = (select subject_id from artwork_subject group by 1 order by count(*) desc limit 1 offset 20)",
    ),
    (
        "the deletion of an artist with his links",
        "begin; delete from artwork_artist where artist_id = 558; delete from artist_movement where artist_id = 558;
         delete from artist where id = 558; commit",
    ),
    (
        "a deletion that cascades",
        "delete from artist where id = (select artist_id from artwork_artist group by 1 order by count(*) desc limit 1)",
    ),
    (
        "keys that change and cascade",
        "update artist set id = id + 1000000 where id % 10 = 0;
         update artwork set id = id + 1000000 where id % 100 = 0",
    ),
    (
        "10,000 updates in one statement",
        "update artwork set medium = 'restored ' || coalesce(medium, '') where id in (select id from artwork order by id limit 10000)",
    ),
    (
        "rolled back transactions and savepoints",
        "begin; update artwork set title = 'never' where id < 10000; delete from artwork_artist where artwork_id < 10000; rollback;
         begin; update artwork set title = 'after the rollback' where id = 3; savepoint s; update artwork set title = 'never' where id < 5000;
         rollback to savepoint s; commit",
    ),
    ("the truncation of a link table", "truncate artwork_subject"),
    (
        "a link table filled again",
        "insert into artwork_subject select a.id, s.id from artwork a join subject s on s.id % 16 = a.id % 16 and s.id < 64",
    ),
];

/// What is committed while the first load runs is not lost.
#[test]
fn changes_during_the_first_load_are_not_lost() {
    let (Some(data), Some(_)) = (
        tate::folder("the first load from Postgres"),
        postgres::or_skip("the first load from Postgres"),
    ) else {
        return;
    };
    let server = postgres::Server::shared();
    let database = server.database("first_load");
    load(&data, &database, None);
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &configuration(&database.url()));
    let served = product.serve();
    for round in 0..40 {
        database.execute(&format!(
            "update artwork set title = 'round {round}' where id % 400 = {round};
             update artist set name = name || ' {round}' where id % 400 = {round};
             delete from artwork_subject where artwork_id % 400 = {round};
             update artwork set group_id = null where id % 410 = {round}"
        ));
        std::thread::park_timeout(Duration::from_millis(25));
    }
    settled(&served, &database);
    assert_in_step(&product, &served, &database, "changes during the first load");
}
