//! Files that are refused by name, and what is left of them.

use std::fs;

use instep_core::{ChangeLog, DocId, DocKey, Error, Fault, Touch};
use instep_store::SqliteLog;
use rusqlite::Connection;

use crate::state::{FreshState, block_on, noon};

fn refusal(state: &FreshState) -> Error {
    match SqliteLog::open(state.path(), noon()) {
        Ok(_) => panic!("this file must be refused"),
        Err(error) => error,
    }
}

/// Opens with a code that names what is wrong, and leaves every byte as it was.
fn check_refused(state: &FreshState, code: &str) {
    let before = fs::read(state.path()).unwrap();
    let error = refusal(state);
    assert_eq!((error.fault(), error.code()), (Fault::Fatal, code), "{error}");
    assert!(error.remedy().is_some(), "{error}");
    assert!(
        fs::read(state.path()).unwrap() == before,
        "{code}: the file was changed"
    );
}

fn touch(log: &SqliteLog, n: usize) {
    let touches: Vec<Touch> = (0..n)
        .map(|n| {
            Touch::Document(DocKey {
                collection: "product".into(),
                id: DocId::parse(&format!("{n:06}")).unwrap(),
            })
        })
        .collect();
    block_on(log.append(&"shop".into(), None, &touches)).unwrap();
}

#[test]
fn a_second_holder_is_refused_until_the_first_is_gone() {
    let state = FreshState::new();
    let first = SqliteLog::open(state.path(), noon()).unwrap();
    let error = refusal(&state);
    assert_eq!((error.fault(), error.code()), (Fault::Fatal, "state_in_use"));
    drop(first);
    SqliteLog::open(state.path(), noon()).unwrap();
}

#[test]
fn a_reader_from_outside_sees_what_was_acknowledged() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    touch(&log, 10);
    let outside = Connection::open(state.path()).unwrap();
    let count: i64 = outside
        .query_row("select count(*) from change_log", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 10);
}

#[test]
fn no_database() {
    let state = FreshState::new();
    fs::write(state.path(), "collections = []\n".repeat(1_000)).unwrap();
    check_refused(&state, "state_corrupt");
}

#[test]
fn a_database_with_damaged_pages() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    touch(&log, 2_000);
    drop(log);
    let mut bytes = fs::read(state.path()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(state.path(), bytes).unwrap();
    check_refused(&state, "state_corrupt");
}

#[test]
fn a_database_that_was_cut() {
    let state = FreshState::new();
    let log = SqliteLog::open(state.path(), noon()).unwrap();
    touch(&log, 2_000);
    drop(log);
    let bytes = fs::read(state.path()).unwrap();
    fs::write(state.path(), &bytes[..bytes.len() / 2 / 4096 * 4096]).unwrap();
    check_refused(&state, "state_corrupt");
}

#[test]
fn the_database_of_an_application() {
    let state = FreshState::new();
    let shop = Connection::open(state.path()).unwrap();
    shop.execute_batch("create table car (id integer primary key); pragma user_version = 1;")
        .unwrap();
    drop(shop);
    check_refused(&state, "state_foreign");
}

#[test]
fn a_newer_version() {
    let state = FreshState::new();
    drop(SqliteLog::open(state.path(), noon()).unwrap());
    let newer = Connection::open(state.path()).unwrap();
    newer.execute_batch("pragma user_version = 1000;").unwrap();
    drop(newer);
    check_refused(&state, "state_newer");
}

#[test]
fn a_directory_that_does_not_exist() {
    let state = FreshState::new();
    let error = match SqliteLog::open(state.path().join("below").join("state.db"), noon()) {
        Ok(_) => panic!("there is no such directory"),
        Err(error) => error,
    };
    assert_eq!(error.code(), "state_unwritable");
}
