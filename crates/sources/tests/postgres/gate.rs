//! The visibility gate, with standbys that hang and replicas that lag.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use instep_conformance::postgres::{Replication, Server, Stop, or_skip};
use instep_core::{Change, Source};
use instep_sources::PostgresOptions;

use crate::followed::{self, Followed, eventually, next, source_with, watched};

fn table() -> [instep_core::Watched; 1] {
    [watched("public.t", &["id"], &[])]
}

/// Ends the wait for standbys, however the test ends: nothing could be cleaned up behind a dead one.
struct Alone<'a>(&'a Server);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.set(&[("synchronous_standby_names", "")]);
    }
}

/// For a while nothing but keep-alives comes.
async fn nothing_comes(followed: &mut Followed, how_long: Duration) {
    let until = tokio::time::Instant::now() + how_long;
    while let Ok(batch) = tokio::time::timeout_at(until, followed.feed.next()).await {
        let batch = batch.unwrap();
        assert_eq!(batch.changes, []);
        followed.upto = batch.upto;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_hangs_on_a_dead_standby_is_not_delivered_and_named() {
    let Some(_) = or_skip("a_commit_that_hangs_on_a_dead_standby_is_not_delivered_and_named") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("hangs");
    database.execute("create table t (id integer primary key)");
    let mut followed = Followed::new(&database, &table()).await;
    let standby = server.standby("second", Replication::Synchronous);
    let _alone = Alone(&server);
    followed.after(&database, "insert into t values (1)").await;
    standby.freeze_receiver();
    // With a savepoint, so that the stream names another id than the rows have.
    let mut hanging = database
        .psql()
        .args([
            "-c",
            "begin; savepoint s; insert into t values (2); release s; insert into t values (3); commit",
        ])
        .spawn()
        .unwrap();
    eventually("the commit waits for the standby", || {
        database.value("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") != "0"
    })
    .await;
    // This one is visible at once, but was committed later.
    database
        .execute("set synchronous_commit = local; insert into t values (4); insert into fence values (100)");
    nothing_comes(&mut followed, Duration::from_secs(2)).await;
    assert_eq!(
        database.value("select string_agg(id::text, ',' order by id) from t"),
        "1,4"
    );
    let finding = followed.source.waiting().expect("the wait is told");
    assert_eq!(finding.code, "transaction_hangs");
    assert!(
        finding.message.contains("synchronous standby"),
        "{}",
        finding.message
    );
    let remedy = finding.remedy.unwrap();
    assert!(remedy.contains("synchronous_standby_names"), "{remedy}");
    let before = followed.upto.clone();
    standby.thaw_receiver();
    let delivered = followed.until_fence(100).await;
    assert_eq!(delivered.keys(), ["public.t 2", "public.t 3", "public.t 4"]);
    assert_eq!(followed.source.waiting(), None);
    assert_ne!(followed.upto.at, before.at);
    assert!(hanging.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_does_not_show_yet_is_not_delivered() {
    let Some(_) = or_skip("what_a_replica_does_not_show_yet_is_not_delivered") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("lags");
    database.execute("create table t (id integer primary key, a text)");
    let replica = server.standby("reader", Replication::Asynchronous);
    let on_replica = replica.existing(database.name());
    let options = PostgresOptions {
        url: on_replica.url(),
        stream_url: Some(database.url()),
        ..PostgresOptions::default()
    };
    let source = source_with(&database, options);
    let mut followed = Followed::with(&database, source, &table()).await;
    let delivered = followed.after(&database, "insert into t values (1)").await;
    assert_eq!(delivered.keys(), ["public.t 1"]);
    replica.pause_replay();
    database.execute("insert into t values (2)");
    nothing_comes(&mut followed, Duration::from_secs(2)).await;
    let finding = followed.source.waiting().expect("the wait is told");
    assert_eq!(finding.code, "replica_lags", "{}", finding.message);
    replica.resume_replay();
    let mut batch = next(&mut *followed.feed).await.unwrap();
    while batch.changes.is_empty() {
        batch = next(&mut *followed.feed).await.unwrap();
    }
    assert_eq!(on_replica.value("select count(*) from t"), "2");
    assert_eq!(followed.source.waiting(), None);
    // A table that was rewritten is read anew only where the replica shows it rewritten.
    replica.pause_replay();
    database.execute("alter table t alter a type integer using 7");
    nothing_comes(&mut followed, Duration::from_secs(5)).await;
    replica.resume_replay();
    followed.touched("public.t").await;
    let read =
        "select data_type from information_schema.columns where table_name = 't' and column_name = 'a'";
    assert_eq!(on_replica.value(read), "integer");
    // Every row can be read the moment it is delivered.
    for id in 10..60 {
        database.execute(&format!("insert into t values ({id})"));
        loop {
            let batch = next(&mut *followed.feed).await.unwrap();
            if batch
                .changes
                .iter()
                .any(|change| matches!(change, Change::Row(_)))
            {
                break;
            }
        }
        assert_eq!(
            on_replica.value(&format!("select count(*) from t where id = {id}")),
            "1"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_cluster_and_a_promoted_one_are_noticed() {
    let Some(_) = or_skip("a_replica_of_another_cluster_and_a_promoted_one_are_noticed") else {
        return;
    };
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let database = server.database("elsewhere");
    database.execute("create table t (id integer primary key)");
    let replica = server.standby("reader", Replication::Asynchronous);
    for (url, promoted) in [
        (other.maintenance().url(), false),
        (replica.existing(database.name()).url(), true),
    ] {
        let options = PostgresOptions {
            url,
            stream_url: Some(database.url()),
            ..PostgresOptions::default()
        };
        let source = source_with(&database, options);
        let mut feed = source.follow(&table(), None).await.unwrap();
        next(&mut *feed).await.unwrap();
        if promoted {
            database.execute("insert into t values (1)");
            while next(&mut *feed).await.unwrap().changes.is_empty() {}
            replica.promote();
        }
        database.execute(&format!(
            "insert into t values ({})",
            if promoted { 2 } else { 3 }
        ));
        let error = loop {
            match next(&mut *feed).await {
                Ok(batch) => assert_eq!(batch.changes, []),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), "read_elsewhere", "{error}");
        drop(feed);
        crate::followed::free(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_ids_went_round_is_followed() {
    let Some(_) = or_skip("a_server_whose_ids_went_round_is_followed") else {
        return;
    };
    let server = Server::start(&[]);
    server.stop(Stop::Fast);
    // Postgres's programs run under the account that owns the data.
    let owner = std::fs::metadata(server.data()).unwrap();
    let reset = server
        .binaries()
        .command("pg_resetwal")
        .args(["-e", "3", "-D"])
        .arg(server.data())
        .uid(owner.uid())
        .gid(owner.gid())
        .status();
    assert!(reset.unwrap().success());
    server.start_again();
    let database = server.database("epoch");
    let epoch = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> 32";
    assert_eq!(database.value(epoch), "3");
    database.execute("create table t (id integer primary key)");
    let mut followed = Followed::new(&database, &table()).await;
    for id in 0..20 {
        let delivered = followed
            .after(&database, &format!("insert into t values ({id})"))
            .await;
        assert_eq!(delivered.keys(), [format!("public.t {id}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_again_takes_a_moment() {
    let Some(_) = or_skip("following_again_takes_a_moment") else {
        return;
    };
    let database = Server::shared().database("quick");
    database.execute("create table t (id integer primary key)");
    let mut followed = Followed::new(&database, &table()).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        // As after a kill: the server has to notice by itself that nobody uses the slot any more.
        followed.feed = Box::new(followed::Nothing);
        let began = Instant::now();
        followed.feed = followed
            .source
            .follow(&followed.watched, Some(&followed.upto))
            .await
            .unwrap();
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(500), "{took:?}");
}

/// The slot's place may lie behind a commit that is not visible yet: it is in no batch, and a first load that does not
/// see it would never index it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_sees_commits_that_hung_while_the_slot_was_made() {
    let Some(_) = or_skip("a_first_load_sees_commits_that_hung_while_the_slot_was_made") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("first");
    database.execute("create table t (id integer primary key); create table u (id integer)");
    let standby = server.standby("second", Replication::Synchronous);
    let _alone = Alone(&server);
    let running = |script: &str| database.psql().args(["-c", script]).spawn().unwrap();
    let sleeping = |number: usize| {
        let count =
            "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and backend_xid is not null";
        database.value(count) == number.to_string()
    };
    // The slot waits for the first; meanwhile the second begins, for which it waits next.
    let first = running("begin; insert into u values (1); select pg_sleep(4); rollback");
    eventually("the first writes", || sleeping(1)).await;
    let source = std::sync::Arc::new(source_with(&database, PostgresOptions::default()));
    let following = {
        let source = source.clone();
        tokio::spawn(async move { source.follow(&table(), None).await })
    };
    eventually("the slot waits", || source.waiting().is_some()).await;
    let second = running("begin; insert into u values (1); select pg_sleep(8); rollback");
    eventually("the second writes", || sleeping(2)).await;
    eventually("the first has ended", || sleeping(1)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    standby.freeze_receiver();
    let hanging = running("insert into t values (1)");
    let made = "select count(*) from pg_replication_slots where slot_name like 'instep%' and confirmed_flush_lsn is not null";
    eventually("the slot is made", || database.value(made) == "1").await;
    eventually("the wait for the standby is told", || {
        source.waiting().is_some_and(|finding| {
            finding.code == "slot_waits" && finding.message.contains("synchronous standby")
        })
    })
    .await;
    assert!(!following.is_finished());
    standby.thaw_receiver();
    let feed = following.await.unwrap().unwrap();
    assert_eq!(database.value("select count(*) from t"), "1");
    assert_eq!(source.waiting(), None);
    drop(feed);
    for mut child in [first, second, hanging] {
        child.wait().unwrap();
    }
}

/// What lies before the place where following begins is in no batch: readers must see it, also on a replica that lags,
/// and also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_following_began_is_read_from_a_replica() {
    let Some(_) = or_skip("what_was_committed_before_following_began_is_read_from_a_replica") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("before");
    database.execute("create table t (id integer primary key)");
    let replica = server.standby("reader", Replication::Asynchronous);
    let reading = || {
        let options = PostgresOptions {
            url: replica.existing(database.name()).url(),
            stream_url: Some(database.url()),
            ..PostgresOptions::default()
        };
        source_with(&database, options)
    };
    replica.catch_up(&server);
    let keys_read = async |source: instep_sources::PostgresSource| {
        let scanning = tokio::spawn(async move {
            let schema = source.reader().tables().await.unwrap().remove(0);
            source.reader().scan(&schema, None, None, 10).await.unwrap().len()
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!scanning.is_finished());
        replica.resume_replay();
        scanning.await.unwrap()
    };
    replica.pause_replay();
    database.execute("insert into t values (1)");
    let first = reading();
    let mut feed = first.follow(&table(), None).await.unwrap();
    next(&mut *feed).await.unwrap();
    drop(feed);
    assert_eq!(keys_read(first).await, 1);
    crate::followed::free(&database).await;
    // Somebody who read the primary has come further than the replica.
    let on_primary = source_with(&database, PostgresOptions::default());
    let mut feed = on_primary.follow(&table(), None).await.unwrap();
    next(&mut *feed).await.unwrap();
    replica.catch_up(&server);
    replica.pause_replay();
    database.execute("insert into t values (2)");
    let upto = loop {
        let batch = next(&mut *feed).await.unwrap();
        if !batch.changes.is_empty() {
            break batch.upto;
        }
    };
    drop(feed);
    crate::followed::free(&database).await;
    let again = reading();
    let _feed = again.follow(&table(), Some(&upto)).await.unwrap();
    assert_eq!(keys_read(again).await, 2);
}

/// A partition that the replica does not know yet when its first row comes is known when the next one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_younger_than_the_replica_is_followed() {
    let Some(_) = or_skip("a_partition_younger_than_the_replica_is_followed") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("younger");
    database.execute("create table t (id integer primary key) partition by range (id)");
    let replica = server.standby("reader", Replication::Asynchronous);
    let options = PostgresOptions {
        url: replica.existing(database.name()).url(),
        stream_url: Some(database.url()),
        ..PostgresOptions::default()
    };
    let source = source_with(&database, options);
    let mut followed = Followed::with(&database, source, &table()).await;
    replica.catch_up(&server);
    followed.delivered(&database).await;
    replica.pause_replay();
    database.execute("create table p partition of t for values from (0) to (100); insert into t values (1)");
    eventually("the wait for the replica is told", || {
        followed
            .source
            .waiting()
            .is_some_and(|finding| finding.code == "replica_lags")
    })
    .await;
    replica.resume_replay();
    followed.touched("public.t").await;
    // The first row may come with the table's touch, or after it.
    followed.delivered(&database).await;
    let delivered = followed.after(&database, "insert into t values (2)").await;
    assert_eq!(delivered.keys(), ["public.t 2"]);
}

/// Whatever `synchronous_standby_names` says, no commit waits for us: we wait for commits.
#[tokio::test(flavor = "multi_thread")]
async fn we_are_no_synchronous_standby() {
    let Some(_) = or_skip("we_are_no_synchronous_standby") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("sync");
    database.execute("create table t (id integer primary key)");
    // Before the standby, so that we would be chosen.
    let mut followed = Followed::new(&database, &table()).await;
    followed.after(&database, "insert into t values (0)").await;
    let upto = followed.upto.clone();
    followed.feed.acknowledge(&upto).await.unwrap();
    let _standby = server.standby("second", Replication::Asynchronous);
    server.set(&[("synchronous_standby_names", "*")]);
    let _alone = Alone(&server);
    let synchronous =
        "select string_agg(application_name, ',') from pg_stat_replication where sync_state <> 'async'";
    eventually("commits wait for the standby alone", || {
        database.value(synchronous) == "second"
    })
    .await;
    let before = database.value("select pg_current_wal_lsn()");
    for id in 1..30 {
        let began = Instant::now();
        let delivered = followed
            .after(&database, &format!("insert into t values ({id})"))
            .await;
        assert_eq!(delivered.keys(), [format!("public.t {id}")]);
        let upto = followed.upto.clone();
        followed.feed.acknowledge(&upto).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    }
    eventually("the slot moves all the same", || {
        let moved = format!(
            "select confirmed_flush_lsn > '{before}' from pg_replication_slots where slot_name = '{}'",
            followed::slot_of(&database)
        );
        database.value(&moved) == "t"
    })
    .await;
}

/// A server that shuts down does not wait for what we have not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_acknowledgements() {
    let Some(_) = or_skip("a_shutdown_does_not_wait_for_acknowledgements") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("shut");
    database.execute("create table t (id integer primary key)");
    let mut followed = Followed::new(&database, &table()).await;
    followed.after(&database, "insert into t values (1)").await;
    database.execute("insert into t values (2)");
    let began = Instant::now();
    server.stop(Stop::Fast);
    let took = began.elapsed();
    server.start_again();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    followed.away(&database, || {}).await;
    let delivered = followed.delivered(&database).await;
    assert!(
        delivered.keys().contains(&"public.t 2".to_owned()),
        "{:?}",
        delivered.keys()
    );
}
