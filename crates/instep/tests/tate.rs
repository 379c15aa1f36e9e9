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

/// Paintings alone, by a condition; how large, by an expression; their living artists, by a condition of the join; who is
/// credited reads them, others do not; and in the languages that their foreign titles give away.
const PAINTINGS: &str = r#"
[source.tate]
url = "sqlite:tate.db"

[collection.painting]
root     = "artwork"
where    = "classification = 'painting' and width > 0 and height > 0"
language = { column = "medium", known = ["en", "sv"], other = "unspecified" }
readers  = { table = "artist", through = "artwork_artist", values = "name" }
deny     = { table = "subject", as = "theme", through = "artwork_subject", values = "name" }

[collection.painting.fields]
title  = "text"
area   = { sql = "width * height", type = "long" }
living = { table = "artist", as = "living", through = "artwork_artist", many = true, values = "name", where = "death_year is null and birth_year is not null" }
themes = { table = "subject", through = "artwork_subject", many = true, fields = ["name"] }
"themes.parent" = { table = "subject", as = "parent", on = "subject.parent_id = parent.id", fields = ["name"] }

[key.turner]
secret  = "turner-turner-turner"
subject = "Joseph Mallord William Turner"
scopes  = ["search"]

[key.group]
secret  = "group-group-group-gr"
subject = "somebody"
units   = ["Joseph Mallord William Turner", "THEME"]
scopes  = ["search"]

[key.all]
secret  = "all-all-all-all-all-"
subject = "all"
scopes  = ["search", "read_all", "operate"]
"#;

#[test]
fn conditions_expressions_and_readers_over_the_tate() {
    let Some(data) = tate::folder("the Tate's paintings") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let database = tate::load(&data, &folder.path().join("tate.db"));
    // What most of his paintings show, and not all.
    let sql = "select s.name from artwork_artist aa join artist p on p.id = aa.artist_id join artwork a on a.id = aa.artwork_id
               join artwork_subject x on x.artwork_id = a.id join subject s on s.id = x.subject_id
               where p.name = 'Joseph Mallord William Turner' and a.classification = 'painting'
               group by s.name order by count(*) desc, s.name limit 1";
    let theme: String = database.query_row(sql, [], |row| row.get(0)).expect("a theme");
    let product = Product::new(folder.path(), &PAINTINGS.replace("THEME", &theme));
    let plan = product.json(&["plan"]);
    assert_eq!(
        (&plan["plan"][0]["effect"], &plan["refused"]),
        (&json!("new"), &json!(false)),
        "{plan}"
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_clean(&product, "the first sync");
    let paintings = "from artwork a where classification = 'painting' and width > 0 and height > 0";
    let server = product.serve();
    let asked = |key: &str, body: Value| {
        let answer = server.send("POST", "/painting/_search", Some(key), Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let all = "all-all-all-all-all-";
    let body =
        json!({ "size": 0, "track_total_hits": true, "aggs": { "area": { "sum": { "field": "area" } } } });
    let found = asked(all, body.clone());
    let count = number(&database, &format!("select count(*) {paintings}"));
    assert!(count > 1_000);
    assert_eq!(found["hits"]["total"]["value"], json!(count));
    let area = number(&database, &format!("select sum(width * height) {paintings}"));
    assert_eq!(found["aggregations"]["area"]["value"].as_f64(), Some(area as f64));
    // By one living artist: as many as SQL finds.
    let living = "exists (select 1 from artwork_artist aa join artist p on p.id = aa.artist_id
                   where aa.artwork_id = a.id and p.death_year is null and p.birth_year is not null)";
    let expected = number(&database, &format!("select count(*) {paintings} and {living}"));
    let query = json!({ "size": 0, "track_total_hits": true, "query": { "exists": { "field": "living" } } });
    assert_eq!(asked(all, query)["hits"]["total"]["value"], json!(expected));
    // Readers are who is credited, by subject or unit; whom a theme is called after is denied its paintings.
    let turners = "exists (select 1 from artwork_artist aa join artist p on p.id = aa.artist_id
                    where aa.artwork_id = a.id and p.name = 'Joseph Mallord William Turner')";
    let his = number(&database, &format!("select count(*) {paintings} and {turners}"));
    assert!(his > 10, "{his}");
    assert_eq!(
        asked("turner-turner-turner", body.clone())["hits"]["total"]["value"],
        json!(his)
    );
    let denied = format!(
        "exists (select 1 from artwork_subject x join subject s on s.id = x.subject_id where x.artwork_id = a.id and s.name = '{theme}')"
    );
    let without = number(
        &database,
        &format!("select count(*) {paintings} and {turners} and not {denied}"),
    );
    assert!(without > 0 && without < his, "{without} of {his}");
    assert_eq!(
        asked("group-group-group-gr", body.clone())["hits"]["total"]["value"],
        json!(without)
    );
    // It leaves the condition, and comes back.
    let id = number(&database, &format!("select min(id) {paintings}"));
    for (classification, is_there) in [("on paper", false), ("painting", true)] {
        database
            .execute(
                "update artwork set classification = ?1 where id = ?2",
                rusqlite::params![classification, id as i64],
            )
            .expect("an update");
        eventually("the condition to hold", Duration::from_secs(20), || {
            let answer = server.send("GET", &format!("/painting/_doc/{id}"), Some(all), None);
            (answer.status == 200) == is_there
        });
    }
    assert_clean(&product, "leaving and coming back");
    assert_eq!(server.stop(), Some(0));
}
