//! Positions: what cannot be followed is refused by name and never used.

use std::time::Duration;

use instep_conformance::postgres::{Database, Replication, Server, Stop, or_skip};
use instep_core::Source;
use instep_sources::PostgresOptions;

use crate::followed::{Followed, eventually, next, refused, slot_of, source, source_with, watched};

async fn followed(database: &Database) -> Followed {
    database.execute("create table t (id integer primary key)");
    let mut followed = Followed::new(database, &[watched("public.t", &["id"], &[])]).await;
    followed.after(database, "insert into t values (1)").await;
    let upto = followed.upto.clone();
    followed.feed.acknowledge(&upto).await.unwrap();
    let confirmed = format!(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{}'",
        slot_of(database)
    );
    let at = upto.at.split(' ').next().unwrap().to_owned();
    eventually("the slot is acknowledged", || database.value(&confirmed) == at).await;
    followed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_not_where_we_left_it_is_refused() {
    let Some(_) = or_skip("a_slot_that_is_not_where_we_left_it_is_refused") else {
        return;
    };
    for (code, script) in [
        ("slot_missing", "select pg_drop_replication_slot('SLOT')"),
        (
            "slot_recreated",
            "select pg_drop_replication_slot('SLOT'); insert into t values (2); \
             select pg_create_logical_replication_slot('SLOT', 'pgoutput')",
        ),
        (
            "slot_recreated",
            "insert into t values (2); select pg_replication_slot_advance('SLOT', pg_current_wal_lsn())",
        ),
        (
            "slot_taken",
            "select pg_drop_replication_slot('SLOT'); select pg_create_physical_replication_slot('SLOT')",
        ),
        ("publication_changed", "drop publication SLOT"),
        (
            "publication_changed",
            "drop publication SLOT; insert into t values (2); create publication SLOT for table t, fence",
        ),
    ] {
        let database = Server::shared().database("slots");
        let followed = followed(&database).await;
        let script = script.replace("SLOT", &slot_of(&database));
        let watched = followed.watched.clone();
        let error = followed
            .refused(&database, || database.execute(&script), code)
            .await;
        if code == "slot_taken" {
            // The name is another's: it must not be dropped either.
            refused(&source(&database), &watched, None, code).await;
            database.execute(&format!(
                "select pg_drop_replication_slot('{}')",
                slot_of(&database)
            ));
            continue;
        }
        let remedy = error.remedy().unwrap_or_default();
        assert!(
            remedy.contains(&format!("instep rescan {}", database.name())),
            "{remedy}"
        );
        // The way on: forget the position.
        let mut feed = source(&database).follow(&watched, None).await.unwrap();
        next(&mut *feed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_ahead_is_refused() {
    let Some(_) = or_skip("a_position_that_is_ahead_is_refused") else {
        return;
    };
    let database = Server::shared().database("ahead");
    let mut followed = followed(&database).await;
    followed.upto.at = followed.upto.at.replacen("0/", "7/", 1);
    followed.refused(&database, || {}, "position_ahead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_or_database_is_refused() {
    let Some(_) = or_skip("another_cluster_or_database_is_refused") else {
        return;
    };
    let database = Server::shared().database("original");
    let followed = followed(&database).await;
    let server = Server::start(&[]);
    let elsewhere = server.existing("postgres");
    elsewhere.execute("create table t (id integer primary key); create table fence (id integer primary key)");
    let beside = Server::shared().database("beside");
    beside.execute("create table t (id integer primary key); create table fence (id integer primary key)");
    for other in [&elsewhere, &beside] {
        let options = PostgresOptions {
            url: other.url(),
            ..PostgresOptions::default()
        };
        let source = source_with(&database, options);
        refused(&source, &followed.watched, Some(&followed.upto), "source_changed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_is_refused_and_a_rescan_goes_on_there() {
    let Some(_) = or_skip("a_promoted_standby_is_refused_and_a_rescan_goes_on_there") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("failover");
    let followed = followed(&database).await;
    let standby = server.standby("heir", Replication::Asynchronous);
    standby.catch_up(&server);
    let heir = standby.existing(database.name());
    let at_heir = || {
        let options = PostgresOptions {
            url: heir.url(),
            ..PostgresOptions::default()
        };
        source_with(&database, options)
    };
    // Until it is promoted it may still be.
    let Err(error) = at_heir().follow(&followed.watched, Some(&followed.upto)).await else {
        panic!("a replica has no slot to follow");
    };
    assert_eq!((error.code(), error.is_transient()), ("stream_is_replica", true));
    server.stop(Stop::Immediate);
    standby.promote();
    let error = refused(
        &at_heir(),
        &followed.watched,
        Some(&followed.upto),
        "source_changed",
    )
    .await;
    assert!(error.to_string().contains("timeline"), "{error}");
    let mut feed = at_heir().follow(&followed.watched, None).await.unwrap();
    next(&mut *feed).await.unwrap();
    server.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_lost_its_log_is_refused_with_the_setting_that_lost_it() {
    let Some(_) = or_skip("a_slot_that_lost_its_log_is_refused_with_the_setting_that_lost_it") else {
        return;
    };
    let server = Server::start(&[
        ("max_slot_wal_keep_size", "1MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ]);
    let database = server.database("lost");
    let followed = followed(&database).await;
    let lose = || {
        for _ in 0..5 {
            database.execute("create table filler as select repeat('x', 500) from generate_series(1, 2000)");
            database.execute("drop table filler; select pg_switch_wal(); checkpoint");
        }
    };
    let watched = followed.watched.clone();
    let error = followed.refused(&database, lose, "slot_lost").await;
    assert!(error.to_string().contains("max_slot_wal_keep_size"), "{error}");
    let mut feed = source(&database).follow(&watched, None).await.unwrap();
    next(&mut *feed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_is_waited_for() {
    let Some(_) = or_skip("a_slot_in_use_is_waited_for") else {
        return;
    };
    let database = Server::shared().database("used");
    let first = followed(&database).await;
    for from in [None, Some(&first.upto)] {
        let Err(error) = source(&database).follow(&first.watched, from).await else {
            panic!("it is in use");
        };
        assert_eq!(
            (error.code(), error.is_transient()),
            ("slot_active", true),
            "{error}"
        );
    }
    let (watched, upto) = (first.watched.clone(), first.upto.clone());
    drop(first);
    source(&database).follow(&watched, Some(&upto)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_not_delivered_again_and_the_rest_is() {
    let Some(_) = or_skip("what_was_acknowledged_is_not_delivered_again_and_the_rest_is") else {
        return;
    };
    let database = Server::shared().database("again");
    let mut followed = followed(&database).await;
    let acknowledged = followed.upto.clone();
    for restart in 0..20 {
        let id = 10 + restart;
        followed
            .after(&database, &format!("insert into t values ({id})"))
            .await;
        followed.upto = acknowledged.clone();
        followed.away(&database, || {}).await;
        let again = followed.delivered(&database).await;
        let expected: Vec<String> = (10..=id).map(|id| format!("public.t {id}")).collect();
        assert_eq!(again.keys(), expected);
        followed.upto = acknowledged.clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_loses_and_invents_nothing() {
    let Some(_) = or_skip("a_crash_of_the_server_loses_and_invents_nothing") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("crash");
    let mut followed = followed(&database).await;
    for round in 0..3 {
        database.execute(&format!("insert into t values ({})", 100 + round));
        server.crash_session();
        let error = loop {
            match next(&mut *followed.feed).await {
                Ok(batch) => followed.upto = batch.upto,
                Err(error) => break error,
            }
        };
        assert!(error.is_transient(), "{error}");
        let began = std::time::Instant::now();
        followed.feed = loop {
            match followed
                .source
                .follow(&followed.watched, Some(&followed.upto))
                .await
            {
                Ok(feed) => break feed,
                Err(error) => assert!(
                    error.is_transient() && began.elapsed() < Duration::from_secs(30),
                    "{error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let delivered = followed.delivered(&database).await;
        assert!(delivered.tables.is_empty());
        assert!(delivered.rows.len() <= 1);
    }
}
