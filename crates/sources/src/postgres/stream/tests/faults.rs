//! What goes wrong, and what is said about it.

use super::*;
use instep_conformance::postgres::Stop;

const TABLE: &str = "create table t (id int primary key, a text)";
const WATCHED: &[(&str, &str, &str)] = &[("public.t", "id", "")];

fn is(error: &Error, fault: Fault, code: &str, says: &str) {
    let remedy = error.remedy().unwrap_or_default();
    assert_eq!((error.fault(), error.code()), (fault, code), "{error}");
    assert!(format!("{error}; {remedy}").contains(says), "{error}; {remedy}");
}

/// Nobody takes anything for longer than the server waits: the connection stays, and what is read ahead is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_taker_costs_neither_the_connection_nor_memory() {
    if postgres::or_skip("a_frozen_taker_costs_neither_the_connection_nor_memory").is_none() {
        return;
    }
    let server = Server::start(&[("wal_sender_timeout", "2s")]);
    let mut followed = Followed::start(&server, TABLE, WATCHED).await;
    let pid = "select active_pid from pg_replication_slots";
    let served_by = followed.own.value(pid);
    followed
        .own
        .execute("insert into t select g, repeat('x', 1000) from generate_series(1, 200000) g");
    tokio::time::sleep(Duration::from_secs(7)).await;
    let held = followed.stream.queue.held();
    assert!(held.0 >= 20_000 && held.0 <= 20_000 + PIECE_CHANGES, "{held:?}");
    assert_eq!(followed.own.value(pid), served_by);
    let mut rows = 0;
    while rows < 200_000 {
        if let Piece::Changes(changes) = followed.next().await {
            rows += changes.len();
        }
    }
    assert_eq!(followed.own.value(pid), served_by);
    // A shutdown in order waits until everything is acknowledged, which is soon.
    let stopping = std::thread::spawn(move || {
        server.stop(Stop::Fast);
        server
    });
    let error = loop {
        match tokio::time::timeout(PATIENCE, followed.stream.next())
            .await
            .unwrap()
        {
            Ok(Piece::Commit { end: place } | Piece::Idle(place)) => followed.stream.acknowledge(place),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    is(&error, Fault::Transient, "database_away", "");
    let server = stopping.join().unwrap();
    server.start_again();
    drop(followed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walsender_that_ends_is_passing() {
    if postgres::or_skip("a_walsender_that_ends_is_passing").is_none() {
        return;
    }
    let mut followed = Followed::start(Server::shared(), TABLE, WATCHED).await;
    let active = format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}'",
        followed.own.name()
    );
    followed.own.query(&active);
    is(
        &ended(&mut followed.stream).await,
        Fault::Transient,
        "database_away",
        "",
    );
    // Again, and from then on for ever.
    is(
        &ended(&mut followed.stream).await,
        Fault::Transient,
        "database_away",
        "ended",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_cannot_be_streamed_are_named() {
    if postgres::or_skip("slots_that_cannot_be_streamed_are_named").is_none() {
        return;
    }
    let server = Server::start(&[("max_slot_wal_keep_size", "16MB"), ("min_wal_size", "32MB")]);
    let followed = Followed::start(&server, TABLE, WATCHED).await;
    let watched = parsed(WATCHED);
    let pid = followed.own.value("select active_pid from pg_replication_slots");
    let error = Stream::start(&followed.database, &watched, Lsn(0))
        .await
        .err()
        .unwrap();
    is(&error, Fault::Transient, "slot_active", &pid);

    followed.stream.queue.leave();
    while followed
        .own
        .value("select count(*) from pg_replication_slots where active")
        != "0"
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..4 {
        let rows =
            "insert into t select g, repeat('x', 1000) from generate_series(1, 20000) g; delete from t";
        followed.own.execute(rows);
        followed.own.execute("select pg_switch_wal(); checkpoint");
    }
    let error = Stream::start(&followed.database, &watched, Lsn(0))
        .await
        .err()
        .unwrap();
    is(&error, Fault::Fatal, "slot_lost", "max_slot_wal_keep_size");
    is(&error, Fault::Fatal, "slot_lost", "instep rescan shop");

    let name = followed.own.name();
    followed
        .own
        .execute(&format!("select pg_drop_replication_slot('{name}')"));
    let error = Stream::start(&followed.database, &watched, Lsn(0))
        .await
        .err()
        .unwrap();
    is(&error, Fault::Fatal, "slot_missing", "instep rescan shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_was_missing_is_a_gap() {
    if postgres::or_skip("a_publication_that_was_missing_is_a_gap").is_none() {
        return;
    }
    let mut followed = Followed::start(Server::shared(), TABLE, WATCHED).await;
    let name = followed.own.name().to_owned();
    followed
        .own
        .execute(&format!("drop publication {name}; insert into t values (1)"));
    followed.own.execute(&format!(
        "create publication {name} for all tables; insert into t values (2)"
    ));
    is(
        &ended(&mut followed.stream).await,
        Fault::Fatal,
        "publication_gap",
        "instep rescan shop",
    );
}

/// A value that is no UTF-8 costs that value, not the stream.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text() {
    if postgres::or_skip("bytes_that_are_no_text").is_none() {
        return;
    }
    let server = Server::start(&[]);
    server
        .maintenance()
        .execute("create database ascii encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'");
    let mut followed = Followed::of(
        server.existing("ascii"),
        "create table t (id text primary key, a text); alter table t replica identity full",
        &[("public.t", "id", "a")],
    )
    .await;
    let cases: &[(&str, &[&str])] = &[
        (
            "set client_encoding = sql_ascii; insert into t values ('1', E'\\xff')",
            &["public.t[1]"],
        ),
        ("update t set a = 'é'", &["public.t[1] ?", "public.t[1] a=é ?"]),
        (
            "set client_encoding = sql_ascii; insert into t values (E'\\xff', 'x')",
            &["public.t*"],
        ),
        ("insert into t values ('2', 'x')", &["public.t[2] a=x"]),
    ];
    for (script, expected) in cases {
        assert_eq!(followed.after(script).await, *expected, "{script}");
    }
}
