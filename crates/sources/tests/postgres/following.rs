//! What is delivered: every kind of statement and transaction, and what the stream does not tell.

use std::collections::BTreeSet;
use std::time::Duration;

use instep_conformance::postgres::{Server, or_skip};
use instep_core::{Change, Source};
use instep_sources::PostgresOptions;

use crate::followed::{Followed, eventually, next, refused, slot_of, source, source_with, watched};

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

const TABLE: &str = "create table t (id integer primary key, a text, b text)";
const TYPES: &str = "create type mood as enum ('sad', 'happy'); create type place as (x integer, y integer); \
                     alter table t add m mood, add p place[]";

#[tokio::test(flavor = "multi_thread")]
async fn committed_changes_of_every_kind_are_delivered_and_no_others() {
    let Some(_) = or_skip("committed_changes_of_every_kind_are_delivered_and_no_others") else {
        return;
    };
    let database = Server::shared().database("kinds");
    database.execute(
        "create schema \"Shop\"; \
         create table t (id integer primary key, a text); \
         create table \"Shop\".t (id integer primary key); \
         create table \"Shop\".\"order.item\" (\"A\" integer, b text, c date, primary key (b, \"A\", c)); \
         create table other (id integer primary key)",
    );
    let item = "Shop.\"order.item\"";
    let tables = [
        watched("public.t", &["id"], &["a"]),
        watched("Shop.t", &["id"], &[]),
        watched(item, &["b", "A", "c"], &[]),
    ];
    let mut followed = Followed::new(&database, &tables).await;
    for (script, keys) in [
        (
            "insert into t values (1, 'x'), (2, 'y')",
            vec!["public.t 1", "public.t 2"],
        ),
        ("insert into \"Shop\".t values (1)", vec!["Shop.t 1"]),
        ("insert into other values (1)", vec![]),
        (
            "copy t (id) from stdin;\n3\n4\n\\.\n",
            vec!["public.t 3", "public.t 4"],
        ),
        ("begin; insert into t values (5); rollback", vec![]),
        (
            "begin; insert into t values (6); savepoint s; insert into t values (7); rollback to s; \
             savepoint s2; insert into t values (8); release s2; commit",
            vec!["public.t 6", "public.t 8"],
        ),
        (
            "begin; insert into t values (9); prepare transaction 'kinds9'; \
             begin; insert into t values (10); prepare transaction 'kinds10'; \
             commit prepared 'kinds9'; rollback prepared 'kinds10'",
            vec!["public.t 9"],
        ),
        (
            "update t set id = 11 where id = 1",
            vec!["public.t 1", "public.t 11"],
        ),
        (
            "insert into \"Shop\".\"order.item\" values (1, 'b', '2020-01-02')",
            vec!["Shop.\"order.item\" b,1,2020-01-02"],
        ),
        (
            "update \"Shop\".\"order.item\" set b = 'c'",
            vec![
                "Shop.\"order.item\" b,1,2020-01-02",
                "Shop.\"order.item\" c,1,2020-01-02",
            ],
        ),
        ("delete from t where id = 2", vec!["public.t 2"]),
    ] {
        let delivered = followed.after(&database, script).await;
        assert_eq!(delivered.set(), set(&keys), "{script}");
        assert!(delivered.tables.is_empty());
    }
    let delivered = followed.after(&database, "truncate t, \"Shop\".t").await;
    assert_eq!(delivered.tables, set(&["public.t", "Shop.t"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_come_in_the_order_of_their_commits_and_large_ones_in_parts() {
    let Some(_) = or_skip("transactions_come_in_the_order_of_their_commits_and_large_ones_in_parts") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("parts");
    database.execute(TABLE);
    let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
    database.execute("insert into t select n from generate_series(1, 30000) n; insert into fence values (1)");
    let (mut rows, mut parts) = (0, Vec::new());
    while rows < 25_000 {
        let batch = next(&mut *followed.feed).await.unwrap();
        assert!(batch.changes.len() <= 8_000, "{}", batch.changes.len());
        rows += batch.changes.len();
        parts.push(batch.upto);
    }
    assert!(parts.len() > 2);
    // Whoever stops between two parts is delivered the whole transaction again.
    followed.upto = parts.pop().unwrap();
    followed.away(&database, || {}).await;
    let delivered = followed.until_fence(1).await;
    let keys: Vec<String> = (1..=30_000).map(|id| format!("public.t {id}")).collect();
    assert_eq!(delivered.keys(), keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_followed_under_their_root() {
    let Some(_) = or_skip("partitions_are_followed_under_their_root") else {
        return;
    };
    let database = Server::shared().database("partitions");
    database.execute(
        "create table p (id integer, day integer, note text, primary key (id, day)) partition by range (day); \
         create table p1 partition of p for values from (0) to (10); \
         create table p2 partition of p for values from (10) to (20) partition by range (day); \
         create table p2a partition of p2 for values from (10) to (15); \
         create table p3 (id integer, day integer, note text, primary key (id, day)); \
         insert into p3 values (1, 25, 'x')",
    );
    let mut followed = Followed::new(&database, &[watched("public.p", &["id", "day"], &[])]).await;
    for (script, keys) in [
        (
            "insert into p values (1, 1), (1, 11)",
            vec!["public.p 1,1", "public.p 1,11"],
        ),
        (
            "update p set day = 12 where day = 1",
            vec!["public.p 1,1", "public.p 1,12"],
        ),
        ("update p2a set note = 'x' where day = 11", vec!["public.p 1,11"]),
        ("insert into p3 values (2, 25)", vec![]),
    ] {
        let delivered = followed.after(&database, script).await;
        assert_eq!(delivered.set(), set(&keys), "{script}");
        assert!(delivered.tables.is_empty(), "{script}");
    }
    let delivered = followed.after(&database, "truncate p2a").await;
    assert_eq!(delivered.tables, set(&["public.p"]));
    database.execute("alter table p attach partition p3 for values from (20) to (30)");
    followed.touched("public.p").await;
    let delivered = followed
        .after(
            &database,
            "insert into p3 values (3, 26); insert into p values (4, 26)",
        )
        .await;
    assert_eq!(delivered.set(), set(&["public.p 3,26", "public.p 4,26"]));
    database.execute("alter table p detach partition p3");
    followed.touched("public.p").await;
    let delivered = followed.after(&database, "insert into p3 values (5, 27)").await;
    assert_eq!(delivered.set(), set(&[]));
    followed
        .away(&database, || {
            database.execute("alter table p attach partition p3 for values from (20) to (30)")
        })
        .await;
    followed.touched("public.p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_rows_unseen_touches_the_table() {
    let Some(_) = or_skip("what_changes_rows_unseen_touches_the_table") else {
        return;
    };
    for (script, touches) in [
        ("alter table t alter b type integer using length(b)", true),
        (
            "drop table t; create table t (id integer primary key, a text, b text)",
            true,
        ),
        (
            "alter table t drop column b, add column b text default 'new'",
            true,
        ),
        (
            "alter table t rename b to x; alter table t rename a to b; alter table t rename x to a",
            true,
        ),
        (
            "alter publication instep_NAME drop table t; insert into t values (9); alter publication instep_NAME add table t",
            true,
        ),
        ("alter type mood rename value 'sad' to 'low'", true),
        ("alter type place rename attribute x to longitude", true),
        ("alter type place add attribute z integer cascade", true),
        ("alter table t alter a type text using upper(a)", true),
        (
            "alter table t rename to t_old; create table t_new (like t_old including all); insert into t_new values (5); \
             alter table t_new rename to t",
            true,
        ),
        (
            "create schema elsewhere; alter table t set schema elsewhere; select pg_sleep(3); \
             alter table elsewhere.t set schema public",
            true,
        ),
        // Back before anybody has looked.
        (
            "create schema elsewhere; alter table t set schema elsewhere; update elsewhere.t set a = 'x' where id = 1; \
             select pg_sleep(0.5); alter table elsewhere.t set schema public",
            true,
        ),
        ("alter type mood add value 'fine' before 'sad'", false),
        (
            "alter table t add column n mood default 'sad', alter a set default 'a'",
            false,
        ),
        ("alter table t add column c integer default 5", false),
        ("create index on t (a); analyze t; vacuum full t", false),
        ("alter table t rename to u; alter table u rename to t", false),
    ] {
        let database = Server::shared().database("unseen");
        let script = script.replace("NAME", database.name());
        database.execute(TABLE);
        database.execute(TYPES);
        database.execute("insert into t values (1, 'a', 'b')");
        let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
        followed.delivered(&database).await;
        // The stream of this session has not described the table yet.
        followed.away(&database, || {}).await;
        database.execute(&script);
        match touches {
            true => followed.touched("public.t").await,
            false => followed.untouched().await,
        }
        let delivered = followed.after(&database, "insert into t (id) values (2)").await;
        assert_eq!(delivered.set(), set(&["public.t 2"]), "after {script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_rows_unseen_while_away_touches_the_table() {
    let Some(_) = or_skip("what_changed_rows_unseen_while_away_touches_the_table") else {
        return;
    };
    let server = Server::start(&[]);
    for script in [
        "alter table t alter b type integer using length(b)",
        "alter table t alter b type text using upper(b)",
        "alter type mood rename value 'sad' to 'low'",
        "drop table t; create table t (id integer primary key, a text, b text)",
        "alter table t drop column b; alter table t add column b text default 'new'",
        "alter publication instep_NAME drop table t; insert into t values (9); alter publication instep_NAME add table t",
        "alter publication instep_NAME drop table t; insert into t values (9)",
        "alter publication instep_NAME set (publish = 'insert'); delete from t; alter publication instep_NAME set (publish = 'insert, update, delete, truncate')",
    ] {
        let database = server.database("away");
        let script = script.replace("NAME", database.name());
        database.execute(TABLE);
        database.execute(TYPES);
        database.execute("insert into t values (1, 'a', 'b')");
        let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
        followed.delivered(&database).await;
        followed.away(&database, || database.execute(&script)).await;
        followed.touched("public.t").await;
        let delivered = followed.after(&database, "insert into t (id) values (2)").await;
        assert_eq!(delivered.set(), set(&["public.t 2"]), "after {script}");
        // It is told once.
        followed.away(&database, || {}).await;
        let delivered = followed.delivered(&database).await;
        assert!(
            delivered.tables.is_empty(),
            "after {script}: {}",
            followed.upto.at
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_and_comes_back_disturbs_no_other() {
    let Some(_) = or_skip("a_table_that_goes_and_comes_back_disturbs_no_other") else {
        return;
    };
    let database = Server::shared().database("gone");
    database.execute(TABLE);
    let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
    followed.after(&database, "drop table t").await;
    followed.untouched().await;
    followed.away(&database, || {}).await;
    followed.delivered(&database).await;
    // First without a key: publishing it now would break the application's updates.
    followed
        .after(
            &database,
            "create table t (id integer, a text); insert into t values (1); update t set a = 'x'",
        )
        .await;
    followed.untouched().await;
    database.execute("update t set a = 'y'; alter table t add primary key (id)");
    followed.touched("public.t").await;
    let delivered = followed.after(&database, "update t set a = 'z'").await;
    assert_eq!(delivered.set(), set(&["public.t 1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_joins_is_touched_once_older_writers_are_gone() {
    let Some(_) = or_skip("a_table_that_joins_is_touched_once_older_writers_are_gone") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("joins");
    database.execute(TABLE);
    let mut followed = Followed::new(&database, &[]).await;
    // The prepared transaction wrote before the table was published: its row is not in the stream.
    database.execute("begin; insert into t values (1); prepare transaction 'writer'");
    followed.watched.push(watched("public.t", &["id"], &[]));
    followed.away(&database, || {}).await;
    followed.untouched().await;
    followed.away(&database, || {}).await;
    database.execute("commit prepared 'writer'");
    followed.touched("public.t").await;
    let delivered = followed.after(&database, "insert into t values (2)").await;
    assert_eq!(delivered.set(), set(&["public.t 2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_waits_for_an_old_writer_says_so() {
    let Some(_) = or_skip("a_slot_that_waits_for_an_old_writer_says_so") else {
        return;
    };
    let server = Server::start(&[]);
    let database = server.database("waits");
    database.execute(TABLE);
    database.execute("begin; insert into t values (1); prepare transaction 'old'");
    let source = std::sync::Arc::new(source(&database));
    let following = {
        let source = source.clone();
        tokio::spawn(async move { source.follow(&[watched("public.t", &["id"], &[])], None).await })
    };
    eventually("the wait is told", || {
        source
            .waiting()
            .is_some_and(|finding| finding.code == "slot_waits" && finding.message.contains("prepared"))
    })
    .await;
    assert!(!following.is_finished());
    database.execute("commit prepared 'old'");
    let mut feed = following.await.unwrap().unwrap();
    next(&mut *feed).await.unwrap();
    assert_eq!(source.waiting(), None);
    // One who gives up while it waits does not leave the slot in use.
    drop(feed);
    database.execute("begin; insert into t values (2); prepare transaction 'old'");
    let waited = tokio::time::timeout(Duration::from_secs(4), source.follow(&[], None)).await;
    assert!(waited.is_err());
    assert_eq!(source.waiting(), None);
    eventually("the server has noticed", || {
        database.value("select count(*) from pg_replication_slots where active") == "0"
    })
    .await;
    database.execute("rollback prepared 'old'");
    source.follow(&[], None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_beside_a_busy_one_keeps_no_log_and_is_never_written() {
    let Some(_) = or_skip("an_idle_database_beside_a_busy_one_keeps_no_log_and_is_never_written") else {
        return;
    };
    let server = Server::start(&[]);
    let (database, neighbour) = (server.database("idle"), server.database("busy"));
    database.execute(TABLE);
    let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
    let began = followed.upto.clone();
    let xid = database.value("select pg_snapshot_xmax(pg_current_snapshot())");
    neighbour.execute("create table n (id integer, filler text)");
    let mut keep_alives = 0;
    for _ in 0..20 {
        neighbour.execute("insert into n select n, repeat('x', 1000) from generate_series(1, 2000) n");
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        while let Ok(batch) = tokio::time::timeout_at(until, followed.feed.next()).await {
            let batch = batch.unwrap();
            assert_eq!(batch.changes, []);
            keep_alives += 1;
            followed.feed.acknowledge(&batch.upto).await.unwrap();
        }
    }
    // Each costs its taker a write: few.
    assert!((1..=8).contains(&keep_alives), "{keep_alives}");
    let head = followed.source.head().await.unwrap().unwrap();
    assert!(!followed.source.reached(&began, &head));
    loop {
        let batch = next(&mut *followed.feed).await.unwrap();
        followed.feed.acknowledge(&batch.upto).await.unwrap();
        if followed.source.reached(&batch.upto, &head) {
            break;
        }
    }
    let retained = format!(
        "select pg_current_wal_lsn() - confirmed_flush_lsn < 100000 from pg_replication_slots where slot_name = '{}'",
        slot_of(&database)
    );
    eventually("the slot moves along", || database.value(&retained) == "t").await;
    // The neighbour's statements are all the transactions there were.
    let written: i64 = database
        .value(&format!(
            "select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - {xid})"
        ))
        .parse()
        .unwrap();
    assert_eq!(written, 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_needs_no_more_than_was_set_up_for_it() {
    let Some(_) = or_skip("a_role_needs_no_more_than_was_set_up_for_it") else {
        return;
    };
    let database = Server::shared().database("rights");
    let (role, slot) = (database.name(), slot_of(&database));
    database.execute(TABLE);
    database.execute(&format!(
        "create role {role} login; grant select on all tables in schema public to {role}"
    ));
    let url = database.url().replace("postgres@", &format!("{role}@"));
    let options = || PostgresOptions {
        url: url.clone(),
        ..PostgresOptions::default()
    };
    let tables = [watched("public.t", &["id"], &[])];
    let as_role = source_with(&database, options());
    // Neither the publication nor the slot.
    refused(&as_role, &tables, None, "set_up_needed").await;
    let statements = as_role.set_up_sql(&tables);
    database.execute(&format!("{};", statements.join(";\n")));
    refused(&as_role, &tables, None, "set_up_needed").await;
    database.execute(&format!("alter role {role} replication"));
    let mut feed = as_role.follow(&tables, None).await.unwrap();
    next(&mut *feed).await.unwrap();
    database.execute("insert into t values (1)");
    let mut batch = next(&mut *feed).await.unwrap();
    while batch.changes.is_empty() {
        batch = next(&mut *feed).await.unwrap();
    }
    drop(feed);
    crate::followed::free(&database).await;
    database.execute(&format!(
        "select pg_drop_replication_slot('{slot}'); drop owned by {role}; drop role {role}"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_withholds_changes_is_refused_with_its_cure() {
    let Some(_) = or_skip("a_publication_that_withholds_changes_is_refused_with_its_cure") else {
        return;
    };
    for (publication, cure) in [
        (
            "create publication mine for table t, p with (publish = 'insert, update, delete')",
            "set (publish",
        ),
        (
            "create publication mine for table t where (id > 3), p",
            "drop table",
        ),
        ("create publication mine for table t (id), p", "drop table"),
        (
            "create publication mine for table t",
            "add table only \"public\".\"p\"",
        ),
        (
            "create publication mine for table t, p with (publish_via_partition_root)",
            "publish_via_partition_root = false",
        ),
        ("create publication mine for table t, p", ""),
        ("create publication mine for all tables", ""),
        ("create publication mine for tables in schema public", ""),
    ] {
        let database = Server::shared().database("narrow");
        database.execute(
            "create table t (id integer primary key, a text, b text); \
             create table p (id integer primary key) partition by range (id); \
             create table p1 partition of p for values from (0) to (10)",
        );
        database.execute(publication);
        let options = PostgresOptions {
            publication: Some("mine".into()),
            ..PostgresOptions::default()
        };
        let source = source_with(&database, options);
        let tables = [
            watched("public.p", &["id"], &[]),
            watched("public.t", &["id"], &["a"]),
        ];
        if cure.is_empty() {
            source.follow(&tables, None).await.unwrap();
            continue;
        }
        let error = refused(&source, &tables, None, "publication_narrow").await;
        let remedy = error.remedy().unwrap_or_default();
        assert!(remedy.contains(cure), "{publication}: {remedy}");
        database.execute(remedy);
        source.follow(&tables, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_updates_would_fail_is_never_published() {
    let Some(_) = or_skip("a_table_whose_updates_would_fail_is_never_published") else {
        return;
    };
    let database = Server::shared().database("identity");
    database.execute("create table t (id integer primary key, a text); insert into t values (1)");
    let tables = [watched("public.t", &["id"], &[])];
    for spoiled in [
        "alter table t replica identity nothing",
        "create unique index i on t (id); alter table t replica identity using index i; drop index i",
    ] {
        database.execute(spoiled);
        refused(&source(&database), &tables, None, "no_replica_identity").await;
        database.execute("update t set a = 'x'");
    }
    database.execute("alter table t replica identity default");
    source(&database).follow(&tables, None).await.unwrap();
    database.execute("update t set a = 'y'");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_are_made_again() {
    let Some(_) = or_skip("sessions_that_are_ended_are_made_again") else {
        return;
    };
    let database = Server::shared().database("ended");
    database.execute(TABLE);
    let mut followed = Followed::new(&database, &[watched("public.t", &["id"], &[])]).await;
    followed.after(&database, "insert into t values (1)").await;
    for round in 0..5 {
        database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        );
        database.execute(&format!("insert into t values ({})", 10 + round));
        let mut seen = false;
        while !seen {
            match next(&mut *followed.feed).await {
                Ok(batch) => {
                    seen = batch
                        .changes
                        .iter()
                        .any(|change| matches!(change, Change::Row(_)));
                    followed.upto = batch.upto;
                }
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    loop {
                        match followed
                            .source
                            .follow(&followed.watched, Some(&followed.upto))
                            .await
                        {
                            Ok(feed) => break followed.feed = feed,
                            Err(error) => assert!(error.is_transient(), "{error}"),
                        }
                    }
                }
            }
        }
    }
}
