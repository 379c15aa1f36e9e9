//! The Postgres server that tests use, itself under test.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use instep_conformance::postgres::{Replication, Server, Stop, or_skip};
use instep_conformance::proxy::Proxy;

#[test]
fn databases_are_empty_and_independent() {
    let Some(_) = or_skip("two databases of one Postgres server") else {
        return;
    };
    let server = Server::shared();
    let (one, two) = (server.database("apart"), server.database("apart"));
    assert_ne!(one.url(), two.url());
    one.execute(
        "create table t (a int, b text);\ninsert into t values (1, 'x|y'), (2, null), (3, e'\\n'), (4, '')",
    );
    assert_eq!(
        two.value("select count(*) from pg_tables where schemaname = 'public'"),
        "0"
    );
    let expected = [["1", "x|y"], ["2", "\\N"], ["3", "\n"], ["4", ""]];
    assert_eq!(one.query("select a, b from t order by a"), expected);
    assert!(one.query("select a from t where a > 9").is_empty());
}

#[test]
fn a_script_stops_at_its_first_error_and_keeps_what_went_before() {
    let Some(_) = or_skip("a script that fails on Postgres") else {
        return;
    };
    let database = Server::shared().database("script");
    let error = database
        .try_execute("create table kept (a int);\nselect 1/0;\ncreate table never (a int);")
        .unwrap_err();
    assert!(error.contains("division by zero"), "{error}");
    let tables = "select tablename from pg_tables where schemaname = 'public'";
    assert_eq!(database.query(tables), [["kept"]]);
    let rolled_back = "begin; create table never (a int); select 1/0; commit;";
    assert!(database.try_execute(rolled_back).is_err());
    assert_eq!(database.query(tables), [["kept"]]);
}

#[test]
fn a_dropped_database_leaves_no_slot_and_no_prepared_transaction() {
    let Some(_) = or_skip("dropping a database of Postgres") else {
        return;
    };
    let server = Server::shared();
    let database = server.database("gone");
    let name = database.name().to_owned();
    database.execute(&format!(
        "select pg_create_logical_replication_slot('{name}', 'pgoutput');\n\
         create table t (a int);\nbegin;\ninsert into t values (1);\nprepare transaction '{name}';"
    ));
    drop(database);
    let left = format!(
        "select (select count(*) from pg_database where datname = '{name}') \
         + (select count(*) from pg_replication_slots where slot_name = '{name}') \
         + (select count(*) from pg_prepared_xacts where gid = '{name}')"
    );
    assert_eq!(server.maintenance().value(&left), "0");
}

#[test]
fn a_server_keeps_its_rows_over_stops_and_crashes_and_is_nobody_elses_copy() {
    let Some(_) = or_skip("restarting Postgres") else {
        return;
    };
    let server = Server::start(&[("max_wal_senders", "3")]);
    assert_ne!(server.system_id(), Server::shared().system_id());
    let database = server.database("rows");
    assert_eq!(database.value("show max_wal_senders"), "3");
    assert_eq!(database.value("show wal_level"), "logical");
    database.execute("create table t (a int)");
    let mut expected = 0;
    let mut check = |after: &str| {
        assert_eq!(
            database.value("select count(*) from t"),
            expected.to_string(),
            "{after}"
        );
        database.execute("insert into t values (1)");
        expected += 1;
    };
    check("start");
    server.restart(Stop::Fast);
    check("fast stop");
    server.restart(Stop::Immediate);
    check("immediate stop");
    server.crash();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).is_err());
    server.start_again();
    check("crash");
    server.crash_session();
    check("crash of a session");
    assert!(
        server
            .log_text()
            .contains("database system was not properly shut down")
    );

    server.set(&[("work_mem", "1234kB")]);
    assert_eq!(database.value("show work_mem"), "1234kB");
    server.set_network_access("host all all 127.0.0.1/32 reject");
    let through = |database: &str| {
        let mut psql = server.binaries().command("psql");
        psql.args(["-X", "-c", "select 1", database])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!through(&database.url()));
    server.set_network_access("host all all 127.0.0.1/32 trust");
    assert!(through(&database.url()));
}

#[test]
fn a_standby_follows_lags_on_command_and_is_promoted() {
    let Some(_) = or_skip("a standby of Postgres") else {
        return;
    };
    let primary = Server::start(&[]);
    let database = primary.database("followed");
    database.execute("create table t (a int)");
    let standby = primary.standby("second", Replication::Synchronous);
    let copy = standby.existing(database.name());
    let insert = || database.execute("insert into t values (1)");
    let seen = || copy.value("select count(*) from t");

    insert();
    standby.catch_up(&primary);
    assert_eq!(seen(), "1");
    assert_eq!(standby.system_id(), primary.system_id());
    assert_eq!(copy.value("select pg_is_in_recovery()"), "t");

    // Confirmed, and not shown.
    standby.pause_replay();
    insert();
    assert_eq!(seen(), "1");
    standby.resume_replay();
    standby.catch_up(&primary);
    assert_eq!(seen(), "2");

    // Neither received nor confirmed: the commit waits.
    standby.freeze_receiver();
    std::thread::scope(|scope| {
        let commit = scope.spawn(insert);
        let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        let deadline = Instant::now() + Duration::from_secs(30);
        while database.value(waits) == "0" {
            assert!(Instant::now() < deadline, "the commit did not wait");
        }
        assert!(!commit.is_finished());
        standby.thaw_receiver();
        commit.join().unwrap();
    });

    let third = primary.standby("third", Replication::Asynchronous);
    let states = "select application_name, sync_state from pg_stat_replication order by 1";
    assert_eq!(
        primary.maintenance().query(states),
        [["second", "sync"], ["third", "async"]]
    );
    drop(third);

    standby.catch_up(&primary);
    primary.crash();
    standby.promote();
    standby.set(&[("synchronous_standby_names", "")]);
    copy.execute("insert into t values (1)");
    assert_eq!(seen(), "4");
    standby.restart(Stop::Fast);
    let timeline = "select timeline_id from pg_control_checkpoint()";
    assert_eq!(copy.value(timeline), "2");
}

#[test]
fn postgres_behind_a_cut_road_is_gone_and_comes_back() {
    let Some(_) = or_skip("Postgres behind a cut network") else {
        return;
    };
    let server = Server::shared();
    let database = server.database("road");
    let proxy = Proxy::to((Ipv4Addr::LOCALHOST, server.port()).into());
    let connects = || {
        let mut psql = server.binaries().command("psql");
        psql.args(["-X", "-c", "select 1"])
            .arg(database.url_through(proxy.url_port()));
        psql.output().unwrap().status.success()
    };
    assert!(connects());
    proxy.cut();
    assert!(!connects());
    proxy.heal();
    assert!(connects());
}

/// Not a test: the process that the next one kills. It starts a server, says where, and waits.
#[test]
#[ignore = "started by nothing_outlives_a_process_that_is_killed"]
fn victim() {
    let server = Server::start(&[]);
    let standby = server.standby("second", Replication::Asynchronous);
    for one in [&server, &standby] {
        println!("\nserver {} {}", one.port(), one.data().display());
    }
    std::thread::park();
}

#[test]
fn nothing_outlives_a_process_that_is_killed() {
    let Some(_) = or_skip("the end of Postgres with its process") else {
        return;
    };
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let servers: Vec<(u16, String)> = lines
        .map_while(Result::ok)
        .filter_map(|line| {
            let (port, folder) = line.strip_prefix("server ")?.split_once(' ')?;
            Some((port.parse().unwrap(), folder.to_owned()))
        })
        .take(2)
        .collect();
    assert_eq!(servers.len(), 2);
    for (port, folder) in &servers {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok());
        assert!(Path::new(folder).is_dir());
    }
    victim.kill().unwrap();
    victim.wait().unwrap();

    let root = Path::new(&servers[0].1).ancestors().nth(2).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while root.exists() {
        assert!(Instant::now() < deadline, "{} is still there", root.display());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    for (port, _) in &servers {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err());
    }
}
