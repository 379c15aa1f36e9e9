//! Against a real server.
#![allow(clippy::unwrap_used)]

mod faults;
mod speed;

use instep_conformance::postgres::{self, Server};
use instep_core::{Fault, Value};

use super::*;
use crate::postgres::{PostgresOptions, PostgresSource};

const PATIENCE: Duration = Duration::from_secs(30);

/// A database with a publication of all its tables and a slot, and a stream of that.
struct Followed {
    own: postgres::Database,
    database: Arc<Database>,
    stream: Stream,
}

impl Followed {
    async fn start(server: &Server, tables: &str, watched: &[(&str, &str, &str)]) -> Followed {
        let own = server.database("stream");
        Followed::of(own, tables, watched).await
    }

    async fn of(own: postgres::Database, tables: &str, watched: &[(&str, &str, &str)]) -> Followed {
        own.execute(tables);
        let name = own.name().to_owned();
        own.execute(&format!("create publication {name} for all tables"));
        own.execute(&format!(
            "select pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ));
        let database = source(&own, &own.url());
        let stream = Stream::start(&database, &parsed(watched), Lsn(0)).await.unwrap();
        Followed {
            own,
            database,
            stream,
        }
    }

    async fn next(&mut self) -> Piece {
        next(&mut self.stream).await
    }

    /// Runs a script; the changes of all its transactions.
    async fn after(&mut self, script: &str) -> Vec<String> {
        self.own.execute(script);
        let end: Lsn = self
            .own
            .value("select pg_current_wal_insert_lsn()")
            .parse()
            .unwrap();
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                Piece::Changes(changes) => seen.extend(changes.iter().map(shown)),
                Piece::Commit { end: at } | Piece::Idle(at) if at >= end => return seen,
                Piece::Begin { .. } | Piece::Commit { .. } | Piece::Idle(_) | Piece::Defined(_) => {}
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // The slot outlives its database otherwise, which then cannot be dropped.
        self.stream.queue.leave();
        let name = self.own.name();
        let slot = format!("from pg_replication_slots where slot_name = '{name}'");
        for _ in 0..100 {
            if self
                .own
                .try_query(&format!(
                    "select pg_terminate_backend(active_pid) {slot} and active"
                ))
                .is_err()
            {
                return;
            }
            if self
                .own
                .try_query(&format!("select pg_drop_replication_slot(slot_name) {slot}"))
                .is_ok()
            {
                return;
            }
        }
    }
}

fn source(own: &postgres::Database, url: &str) -> Arc<Database> {
    let options = PostgresOptions {
        url: url.to_owned(),
        slot: Some(own.name().to_owned()),
        publication: Some(own.name().to_owned()),
        ..PostgresOptions::default()
    };
    PostgresSource::new("shop".into(), options).unwrap().database
}

/// `(table, key, columns)`, comma-separated.
fn parsed(watched: &[(&str, &str, &str)]) -> Vec<Watched> {
    let list = |names: &str| {
        names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let one = |(table, key, columns): &(&str, &str, &str)| Watched {
        table: (*table).into(),
        key: list(key),
        columns: list(columns),
    };
    watched.iter().map(one).collect()
}

async fn next(stream: &mut Stream) -> Piece {
    tokio::time::timeout(PATIENCE, stream.next())
        .await
        .unwrap()
        .unwrap()
}

/// The error that a stream ends with.
async fn ended(stream: &mut Stream) -> Error {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// `table[key] column=value …`, with `?` where the former image is unknown; `table*` for all of it.
fn shown(change: &Change) -> String {
    let value = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    };
    match change {
        Change::Table(table) => format!("{table}*"),
        Change::Row(row) => {
            let key: Vec<String> = row.row.key.parts().iter().map(value).collect();
            let mut text = format!("{}[{}]", row.row.table, key.join(","));
            for (name, column) in &row.columns {
                text.push_str(&format!(" {name}={}", value(column)));
            }
            if row.former_unknown {
                text.push_str(" ?");
            }
            text
        }
    }
}

/// What changes of a table bring: each script with its changes, in order.
async fn check(tables: &str, watched: (&str, &str, &str), cases: &[(&str, &[&str])]) {
    let mut followed = Followed::start(Server::shared(), tables, &[watched]).await;
    for (script, expected) in cases {
        assert_eq!(followed.after(script).await, *expected, "{script}");
    }
}

/// The former image is there when a watched column or the key changed and all of it is known.
#[tokio::test(flavor = "multi_thread")]
async fn images_with_identity_full() {
    if postgres::or_skip("images_with_identity_full").is_none() {
        return;
    }
    check(
        "create table t (n text, id int primary key, a int, b text, c int); alter table t replica identity full",
        ("public.t", "id", "a,b"),
        &[
            ("insert into t values ('x', 1, 10, null, 5)", &["public.t[1] a=10 b=null"]),
            ("update t set n = 'y', c = 6", &["public.t[1] a=10 b=null"]),
            ("update t set a = 11", &["public.t[1] a=10 b=null", "public.t[1] a=11 b=null"]),
            ("update t set b = ''", &["public.t[1] a=11 b=null", "public.t[1] a=11 b="]),
            ("update t set a = null, b = null", &["public.t[1] a=11 b=", "public.t[1] a=null b=null"]),
            ("update t set id = 2", &["public.t[1] a=null b=null", "public.t[2] a=null b=null"]),
            ("delete from t", &["public.t[2] a=null b=null"]),
            ("insert into t values ('x', 1, 1, 'b', 1); truncate t", &["public.t[1] a=1 b=b", "public.t*"]),
            ("begin; insert into t values ('x', 3); rollback", &[]),
            (
                "begin; insert into t values ('x', 4); savepoint s; insert into t values ('x', 5); rollback to s; commit",
                &["public.t[4] a=null b=null"],
            ),
            (
                "begin; insert into t values ('x', 6); prepare transaction 'images_full'; commit prepared 'images_full'",
                &["public.t[6] a=null b=null"],
            ),
        ],
    )
    .await;
}

/// With the default identity only the key is known, and only when it changed.
#[tokio::test(flavor = "multi_thread")]
async fn images_with_the_default_identity() {
    if postgres::or_skip("images_with_the_default_identity").is_none() {
        return;
    }
    check(
        "create table t (a int, id1 int, id2 text, primary key (id2, id1))",
        ("public.t", "id2,id1", "a"),
        &[
            ("insert into t values (10, 1, 'x')", &["public.t[x,1] a=10"]),
            ("update t set a = 10", &["public.t[x,1] a=10 ?"]),
            (
                "update t set id1 = 2, a = 12",
                &["public.t[x,1] ?", "public.t[x,2] a=12 ?"],
            ),
            ("delete from t", &["public.t[x,2] ?"]),
        ],
    )
    .await;
}

/// Without watched columns nothing is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn images_of_keys_alone() {
    if postgres::or_skip("images_of_keys_alone").is_none() {
        return;
    }
    check(
        "create table t (id bigint primary key, a text)",
        ("public.t", "id", ""),
        &[
            (
                "insert into t values (9007199254740993, 'x')",
                &["public.t[9007199254740993]"],
            ),
            ("update t set a = 'y'", &["public.t[9007199254740993]"]),
            (
                "update t set id = -1",
                &["public.t[9007199254740993]", "public.t[-1]"],
            ),
            ("delete from t", &["public.t[-1]"]),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_with_an_index_as_identity() {
    if postgres::or_skip("images_with_an_index_as_identity").is_none() {
        return;
    }
    // All that is watched is in it.
    check(
        "create table t (id int primary key, a int not null, b text);
         create unique index identity on t (id, a); alter table t replica identity using index identity",
        ("public.t", "id", "a"),
        &[
            ("insert into t values (1, 10)", &["public.t[1] a=10"]),
            ("update t set b = 'x'", &["public.t[1] a=10"]),
            ("update t set a = 11", &["public.t[1] a=10", "public.t[1] a=11"]),
            ("update t set id = 2", &["public.t[1] a=11", "public.t[2] a=11"]),
            ("delete from t", &["public.t[2] a=11"]),
        ],
    )
    .await;
    // A part of it is.
    check(
        "create table t (id int primary key, a int not null, b text);
         create unique index identity on t (id, a); alter table t replica identity using index identity",
        ("public.t", "id", "a,b"),
        &[
            ("insert into t values (1, 10, 'x')", &["public.t[1] a=10 b=x"]),
            ("update t set a = 11", &["public.t[1] a=11 b=x ?"]),
            ("delete from t", &["public.t[1] a=11 ?"]),
        ],
    )
    .await;
    // The key is not: which row it was cannot be said.
    check(
        "create table t (id int primary key, a int not null unique); alter table t replica identity using index t_a_key",
        ("public.t", "id", "a"),
        &[
            ("insert into t values (1, 10), (2, 20)", &["public.t[1] a=10", "public.t[2] a=20"]),
            ("update t set id = id + 10", &["public.t*"]),
            ("delete from t", &["public.t*"]),
        ],
    )
    .await;
}

/// A large value that an update does not touch is not sent: it is taken from the former row, or left out.
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_large_values_are_never_null() {
    if postgres::or_skip("unchanged_large_values_are_never_null").is_none() {
        return;
    }
    let table =
        "create table t (id int primary key, big text, b int); alter table t alter big set storage external";
    let insert = "insert into t values (1, repeat('x', 5000), 1)";
    let big = "x".repeat(5000);
    let whole = format!("public.t[1] b=1 big={big}");
    let left_out = "public.t[1] b=2 ?";
    check(
        table,
        ("public.t", "id", "b,big"),
        &[(insert, &[&whole]), ("update t set b = 2", &[left_out])],
    )
    .await;
    let after = format!("public.t[1] b=2 big={big}");
    check(
        &format!("{table}; alter table t replica identity full"),
        ("public.t", "id", "b,big"),
        &[(insert, &[&whole]), ("update t set b = 2", &[&whole, &after])],
    )
    .await;
    // A large key is known even so.
    let key = "x".repeat(2400);
    check(
        "create table t (id text primary key, b int); alter table t alter id set storage external",
        ("public.t", "id", "b"),
        &[
            (
                "insert into t values (repeat('x', 2400), 1)",
                &[&format!("public.t[{key}] b=1")],
            ),
            ("update t set b = 2", &[&format!("public.t[{key}] b=2 ?")]),
            (
                "update t set id = 'y'",
                &[&format!("public.t[{key}] ?"), "public.t[y] b=2 ?"],
            ),
        ],
    )
    .await;
}

/// A partition's rows are its root's, each by its own identity; a partition that leaves takes its rows along.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_lead_to_their_root() {
    if postgres::or_skip("partitions_lead_to_their_root").is_none() {
        return;
    }
    check(
        "create table r (id int, a int, primary key (id)) partition by range (id);
         create table low partition of r for values from (0) to (10);
         create table mid (a int, gone int, id int not null); alter table mid drop gone;
         alter table r attach partition mid for values from (10) to (20);
         create table high partition of r for values from (20) to (40) partition by range (id);
         create table higher partition of high for values from (30) to (40);
         alter table mid replica identity full",
        ("public.r", "id", "a"),
        &[
            (
                "insert into r values (1, 1), (11, 2), (31, 3)",
                &["public.r[1] a=1", "public.r[11] a=2", "public.r[31] a=3"],
            ),
            (
                "update r set a = a + 1 where id in (1, 11)",
                &["public.r[1] a=2 ?", "public.r[11] a=2", "public.r[11] a=3"],
            ),
            // A row that moves between partitions is deleted in one and inserted in the other.
            ("update r set id = 2 where id = 11", &["public.r[11] a=3", "public.r[2] a=3"]),
            ("truncate r", &["public.r*"]),
            (
                "create table new partition of r for values from (50) to (60); insert into r values (51, 5)",
                &["public.r[51] a=5"],
            ),
            // It was an ordinary table when it was described first.
            ("create table later (id int not null, a int); insert into later values (61, 6)", &[]),
            (
                "alter table r attach partition later for values from (60) to (70); insert into r values (62, 6)",
                &["public.r[62] a=6"],
            ),
            ("alter table r detach partition new; insert into new values (52, 5)", &["public.r*"]),
            ("insert into new values (53, 5)", &[]),
        ],
    )
    .await;
}

/// Columns are found by name as they were when the row changed; what is missing is not guessed.
#[tokio::test(flavor = "multi_thread")]
async fn columns_and_tables_that_change() {
    if postgres::or_skip("columns_and_tables_that_change").is_none() {
        return;
    }
    check(
        "create table t (id int primary key, a int, b int); create table other (id int primary key)",
        ("public.t", "id", "a,b"),
        &[
            ("insert into other values (1); insert into t values (1, 1, 1)", &["public.t[1] a=1 b=1"]),
            ("alter table t add c int; insert into t values (2, 2, 2, 2)", &["public.t[2] a=2 b=2"]),
            (
                "begin; alter table t drop a; insert into t values (3, 3); alter table t add a text default 'x';
                 insert into t values (4, 4); commit",
                // Of two shapes in one transaction the later one is what can be read.
                &["public.t[3] b=3", "public.t[4] a=x b=4"],
            ),
            ("alter table t rename b to d; insert into t values (5, 5)", &["public.t[5] a=x"]),
            ("alter table t rename id to key; insert into t values (6, 6)", &["public.t*"]),
            ("insert into t values (7, 6)", &["public.t*"]),
            ("alter table t rename to u; insert into u values (8, 6)", &["public.t*"]),
            ("insert into u values (9, 6)", &[]),
            ("alter table other rename to t; insert into t values (2)", &["public.t[2]"]),
            ("drop table t", &[]),
            // What it was like nobody can say when its first row comes.
            ("begin; create table t (id int primary key); insert into t values (4); drop table t; commit", &["public.t*"]),
        ],
    )
    .await;
}

/// Transactions without anything of ours, here or in a neighbour's database, only move the place; what is acknowledged
/// moves the slot, and only that does.
#[tokio::test(flavor = "multi_thread")]
async fn places_move_without_changes() {
    if postgres::or_skip("places_move_without_changes").is_none() {
        return;
    }
    let server = Server::shared();
    let mut followed = Followed::start(
        server,
        "create table t (id int primary key); create table other (id int); alter table other replica identity full",
        &[("public.t", "id", "")],
    )
    .await;
    let neighbour = server.database("neighbour");
    neighbour.execute("create table n (id int)");
    let slot = format!(
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = '{}'",
        followed.own.name()
    );
    let at_first: Lsn = followed.own.value(&slot).parse().unwrap();
    for writer in ["neighbour", "own"] {
        let before: Lsn = followed
            .own
            .value("select pg_current_wal_insert_lsn()")
            .parse()
            .unwrap();
        for _ in 0..30 {
            match writer {
                "neighbour" => neighbour.execute("insert into n values (1)"),
                _ => followed.own.execute("insert into other values (1)"),
            }
        }
        let end: Lsn = followed
            .own
            .value("select pg_current_wal_flush_lsn()")
            .parse()
            .unwrap();
        let mut places = 0;
        loop {
            let Piece::Idle(place) = followed.next().await else {
                panic!("{writer} wrote nothing of ours")
            };
            places += 1;
            if place >= end {
                break;
            }
        }
        assert!(before < end && places < 20, "{writer}: {places} places");
    }
    let unmoved: Lsn = followed.own.value(&slot).parse().unwrap();
    assert_eq!(unmoved, at_first);
    let end: Lsn = followed
        .own
        .value("select pg_current_wal_flush_lsn()")
        .parse()
        .unwrap();
    followed.stream.acknowledge(end);
    followed.stream.acknowledge(Lsn(1));
    let deadline = Instant::now() + Duration::from_secs(2);
    while followed.own.value(&slot).parse::<Lsn>().unwrap() < end {
        assert!(Instant::now() < deadline, "the slot did not move");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The pieces of a transaction stand between its begin and its commit, and carry its id, place and time.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_whole() {
    if postgres::or_skip("transactions_are_whole").is_none() {
        return;
    }
    let mut followed = Followed::start(
        Server::shared(),
        "create table t (id int primary key)",
        &[("public.t", "id", "")],
    )
    .await;
    let before = followed
        .own
        .value("select (extract(epoch from clock_timestamp()) * 1000)::bigint");
    followed.own.execute(
        "begin; create table seen as select pg_current_xact_id()::text as xid;
         insert into t select generate_series(1, 4500); commit",
    );
    let xid = followed.own.value("select xid from seen");
    let (begun, began_at) = loop {
        match followed.next().await {
            Piece::Begin {
                xid,
                commit,
                committed_ms,
            } => {
                assert!(
                    committed_ms >= before.parse().unwrap()
                        && committed_ms < before.parse::<i64>().unwrap() + 60_000
                );
                break (xid, commit);
            }
            Piece::Idle(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(begun.to_string(), xid);
    assert!(matches!(followed.next().await, Piece::Defined(_)));
    let mut sizes = Vec::new();
    let end = loop {
        match followed.next().await {
            Piece::Changes(changes) => sizes.push(changes.len()),
            Piece::Commit { end } => break end,
            other => panic!("{other:?}"),
        }
    };
    assert!(sizes.iter().all(|size| *size <= PIECE_CHANGES), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 4500);
    assert!(end > began_at);
}
