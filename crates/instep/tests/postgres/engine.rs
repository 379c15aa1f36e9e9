//! The engine is away while the database goes on: its changes are taken into our log, and it keeps no log of its own for us.

use std::time::Duration;

use instep_conformance::postgres::{self, Server as Postgres};
use serde_json::json;

use super::stage::{Stage, reaches, source};
use crate::support::product::eventually;

const SCHEMA: &str = "
    create table item (id int primary key, name text, body text);
    insert into item select n, 'item ' || n, '' from generate_series(1, 2000) n;";

const COLLECTION: &str =
    "[collection.item]\nroot = \"item\"\npublic = true\nfields.name = \"text\"\nfields.body = \"keyword\"\n";

const EXPECTED: (&str, &str) = (
    "item",
    "select id, json_build_object('name', name, 'body', body) from item",
);

/// Text that does not shrink when it is compressed.
const BODY: &str =
    "(select string_agg(md5(random()::text || n), '') from generate_series(1, 60) n where item.id > 0)";

#[test]
fn an_engine_that_is_away_makes_the_database_keep_nothing() {
    if postgres::or_skip("an engine that is away").is_none() {
        return;
    }
    let server = Postgres::start(&[("min_wal_size", "32MB"), ("max_wal_size", "64MB")]);
    let stage = Stage::new(&server, "engine_away", SCHEMA, COLLECTION, &[EXPECTED]);
    let served = stage.serve();
    let bytes = |sql: &str| -> u64 { stage.database.value(sql).parse().expect("a number") };
    let slot = |column: &str| {
        format!(
            "select pg_current_wal_flush_lsn() - {column} from pg_replication_slots where slot_name = '{}'",
            stage.database.name()
        )
    };

    // Its disk is gone: a file stands where its folder was.
    let folder = &stage.product.folder;
    let (place, aside) = (
        folder.join("instep-state/index/embedded"),
        folder.join("taken-away"),
    );
    std::fs::rename(&place, &aside).expect("the index is there");
    std::fs::write(&place, "").expect("the state's folder is writable");
    let began = bytes("select pg_current_wal_flush_lsn() - '0/0'");
    for round in 0..12 {
        stage.database.execute(&format!(
            "update item set name = 'round {round} ' || id, body = {BODY};
             delete from item where id % 100 = {round};
             insert into item select 3000 + n + {round} * 100, 'new', '' from generate_series(1, 20) n"
        ));
    }
    let written = bytes("select pg_current_wal_flush_lsn() - '0/0'") - began;
    assert!(written > 30 << 20, "only {written} bytes were written");
    eventually("the slot to reach the end", Duration::from_secs(60), || {
        bytes(&slot("confirmed_flush_lsn")) < 64 << 10
    });
    eventually("the database to forget its log", Duration::from_secs(60), || {
        stage.database.execute("checkpoint");
        bytes(&slot("restart_lsn")) < 1 << 20
    });
    let status = reaches(&served, "the engine's fault to be named", |status| {
        let set = &status["sets"][0];
        set["lag"] != json!(0) && (set["state"] == json!("halted") || set["activity"]["problem"].is_object())
    });
    assert_eq!(status["sets"][0]["conserved"], json!(true), "{status}");
    let state = source(&status, "main")["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(["waiting", "working"].contains(&state.as_str()), "{status}");
    assert_eq!(served.stop(), Some(0));

    // Put back, it goes on from where it was.
    std::fs::remove_file(&place).expect("it is a file");
    std::fs::rename(&aside, &place).expect("it goes back");
    assert_eq!(stage.product.json(&["sync", "--once"])["complete"], json!(true));
    let served = stage.serve();
    stage.assert_verified(&served, "an engine that was away");
}
