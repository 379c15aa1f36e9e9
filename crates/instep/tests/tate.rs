//! The Tate Collection, 69,202 documents, through everything a database does to its rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::tate;

pub(crate) fn configuration() -> String {
    format!("[source.tate]\nurl = \"sqlite:tate.db\"\n{}", tate::COLLECTION)
}

/// Verifies; nothing may differ.
fn assert_clean(product: &Product, after: &str) {
    let found = product.json(&["verify"]);
    assert_eq!(found["differences"], json!(0), "after {after}: {found}");
}

fn count(server: &Server, query: Value) -> u64 {
    let answer = server.send("POST", "/artwork/_count", None, Some(&json!({ "query": query })));
    answer.json()["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", answer.body))
}

/// The one number a statement selects; none is negative here.
pub(crate) fn number(database: &Connection, sql: &str) -> u64 {
    let number: i64 = database.query_row(sql, [], |row| row.get(0)).expect("one number");
    u64::try_from(number).expect("it is not negative")
}

/// Waits until the set has passed everything that was committed so far.
fn in_step(server: &Server, holds: impl FnMut() -> bool) {
    eventually("the index to follow", Duration::from_secs(60), holds);
    eventually("no lag", Duration::from_secs(60), || {
        let status = server.status(None);
        assert_eq!(status["sets"][0]["conserved"], json!(true), "{status}");
        status["sets"][0]["lag"] == json!(0)
    });
}

#[test]
fn every_change_to_the_tate_is_followed() {
    let Some(data) = tate::folder("the Tate tests") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut database = tate::load(&data, &folder.path().join("tate.db"));
    let product = Product::new(folder.path(), &configuration());

    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    assert_eq!(done["sets"][0]["counts"]["scanned"], json!(tate::ARTWORKS));
    assert_clean(&product, "the first sync");

    let server = product.serve();
    assert_eq!(count(&server, json!({ "match_all": {} })), tate::ARTWORKS);

    let turners = "select count(distinct artwork_id) from artwork_artist where artist_id = 558";
    let turners = number(&database, turners);
    assert!(turners > 30_000, "artist 558 has the most artworks");
    database
        .execute("update artist set name = 'Turner, renamed' where id = 558", [])
        .expect("rename");
    let renamed = || {
        count(
            &server,
            json!({ "term": { "artists.name.keyword": "Turner, renamed" } }),
        )
    };
    in_step(&server, || renamed() == turners);
    assert_clean(&product, "the rename of an artist");

    let (artwork, from): (i64, i64) = database
        .query_row(
            "select artwork_id, artist_id from artwork_artist where artist_id <> 558 limit 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a link");
    database
        .execute(
            "update artwork_artist set artist_id = 558 where artwork_id = ? and artist_id = ?",
            [artwork, from],
        )
        .expect("move");
    in_step(&server, || renamed() == turners + 1);
    assert_clean(&product, "the move of an artwork");

    let subject =
        "select subject_id from artwork_subject group by 1 order by count(*) desc limit 1 offset 20";
    let subject = number(&database, subject);
    let name: String = database
        .query_row("select name from subject where id = ?", [subject as i64], |row| {
            row.get(0)
        })
        .expect("a name");
    let with_subject = || count(&server, json!({ "term": { "subjects": &name } }));
    let before = with_subject();
    let removed = database
        .execute(
            "delete from artwork_subject where subject_id = ?",
            [subject as i64],
        )
        .expect("delete") as u64;
    assert!(removed > 100 && before >= removed);
    in_step(&server, || with_subject() == before - removed);
    assert_clean(&product, "the deletion of links");

    let transaction = database.transaction().expect("a transaction");
    for statement in [
        "delete from artwork_artist where artist_id = 558",
        "delete from artist_movement where artist_id = 558",
        "delete from artist where id = 558",
    ] {
        transaction.execute(statement, []).expect("delete");
    }
    transaction.commit().expect("commit");
    in_step(&server, || renamed() == 0);
    assert_clean(&product, "the deletion of an artist with his links");

    let updated = database
        .execute("update artwork set medium = 'restored ' || coalesce(medium, '') where id in (select id from artwork order by id limit 10000)", [])
        .expect("update");
    assert_eq!(updated, 10_000);
    in_step(&server, || {
        count(&server, json!({ "match": { "medium": "restored" } })) >= 10_000
    });
    assert_clean(&product, "10,000 updates in one statement");

    let transaction = database.transaction().expect("a transaction");
    transaction
        .execute("update artwork set title = 'never' where id < 10000", [])
        .expect("update");
    transaction
        .execute("delete from artwork_artist where artwork_id < 10000", [])
        .expect("delete");
    transaction.rollback().expect("rollback");
    database
        .execute("update artwork set title = 'after the rollback' where id = 3", [])
        .expect("update");
    in_step(&server, || {
        count(
            &server,
            json!({ "match_phrase": { "title": "after the rollback" } }),
        ) == 1
    });
    assert_clean(&product, "the rollback");
    assert_eq!(count(&server, json!({ "term": { "title.keyword": "never" } })), 0);

    rebuild_artist(&mut database);
    database
        .execute("update artist set name = 'after the rebuild' where id = 1", [])
        .expect("update");
    let first = "select count(distinct artwork_id) from artwork_artist where artist_id = 1";
    let first = number(&database, first);
    in_step(&server, || {
        count(
            &server,
            json!({ "match_phrase": { "artists.name": "after the rebuild" } }),
        ) == first
    });
    assert_clean(&product, "the rebuild");

    // So far beside the server; once more without it.
    assert_eq!(server.stop(), Some(0));
    assert_clean(&product, "all changes");
}

/// Rebuilds a table as migrations do: create, copy, drop, rename. Our triggers are gone with the old table, and rows
/// change before anyone can notice.
fn rebuild_artist(database: &mut Connection) {
    database
        .execute_batch(
            "pragma foreign_keys = off;
             begin;
             create table artist_new (id integer primary key, name text not null, sort_name text, gender text, birth_year integer,
                                      death_year integer, birth_place text, url text, note text);
             insert into artist_new select *, null from artist;
             drop table artist;
             alter table artist_new rename to artist;
             update artist set name = name || ' (rebuilt)' where id between 100 and 200;
             commit;",
        )
        .expect("the migration");
}

/// Offline changes: what was committed while nothing ran is indexed by the next run.
#[test]
fn changes_while_nothing_runs_are_not_lost() {
    let Some(data) = tate::folder("the Tate tests") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let database = tate::load(&data, &folder.path().join("tate.db"));
    shrink(&database);
    let product = Product::new(folder.path(), &configuration());
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));

    database
        .execute("update artwork set title = 'while away' where id % 7 = 0", [])
        .expect("update");
    database
        .execute("delete from artwork_subject where artwork_id % 11 = 0", [])
        .expect("delete");
    database
        .execute("delete from artwork_artist where artwork_id % 13 = 0", [])
        .expect("delete");
    database
        .execute("delete from artwork where id % 13 = 0", [])
        .expect("delete");
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_clean(&product, "changes while nothing ran");
}

/// Leaves the first 3,000 artworks.
fn shrink(database: &Connection) {
    let last: i64 = database
        .query_row(
            "select id from artwork order by id limit 1 offset 3000",
            [],
            |row| row.get(0),
        )
        .expect("an id");
    for (table, column) in [
        ("artwork_subject", "artwork_id"),
        ("artwork_artist", "artwork_id"),
        ("artwork", "id"),
    ] {
        database
            .execute(&format!("delete from {table} where {column} >= ?"), [last])
            .expect("delete");
    }
}

/// A database of the first artworks, for tests that repeat much.
pub(crate) fn small(data: &Path, folder: &Path) -> (Connection, Product) {
    let database = tate::load(data, &folder.join("tate.db"));
    shrink(&database);
    (database, Product::new(folder, &configuration()))
}
