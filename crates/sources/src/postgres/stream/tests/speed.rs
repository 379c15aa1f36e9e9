//! How fast, and in how much memory: run by hand, in a release build.

use super::*;

/// Resident memory in KiB, and CPU seconds, of this process.
fn used() -> (u64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let resident = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (resident, ticks / 100.0)
}

async fn slots_are_free(own: &postgres::Database) {
    while own.value("select count(*) from pg_replication_slots where active") != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Streams the same content by `pg_recvlogical` to nothing, and by us: a transaction of a million rows, and many of one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run it by hand with --release"]
async fn a_million_rows() {
    if postgres::or_skip("a_million_rows").is_none() {
        return;
    }
    let server = Server::start(&[("fsync", "off"), ("max_wal_size", "8GB")]);
    let row = "i, i % 1000, 'a title of some words', now(), 1.5";
    let shapes = [
        (
            "one transaction",
            format!("insert into t select {row} from generate_series(1, 1000000) i"),
        ),
        (
            "single rows",
            format!(
                "do $$ begin for i in 1..100000 loop insert into t values ({row}); commit; end loop; end $$"
            ),
        ),
    ];
    for (shape, script) in shapes {
        let own = server.database("speed");
        own.execute(
            "create table t (id int primary key, parent int, title text, at timestamptz, price numeric)",
        );
        let name = own.name().to_owned();
        own.execute(&format!("create publication {name} for all tables"));
        own.execute(&format!(
            "select pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ));
        own.execute(&format!("set synchronous_commit = off; {script}"));
        own.execute("checkpoint");
        let end = own.value("select pg_current_wal_flush_lsn()");
        let rows: usize = own.value("select count(*) from t").parse().unwrap();
        for round in 0..3 {
            // It acknowledges what it reads, so it reads a copy of the slot.
            let peer = format!("{name}_{round}");
            own.execute(&format!(
                "select pg_copy_logical_replication_slot('{name}', '{peer}')"
            ));
            let began = Instant::now();
            let mut command = server.binaries().command("pg_recvlogical");
            command
                .args([
                    "-d",
                    &own.url(),
                    "-S",
                    &peer,
                    "--start",
                    "-f",
                    "/dev/null",
                    "-F",
                    "0",
                    "--endpos",
                    &end,
                ])
                .args([
                    "-o",
                    "proto_version=1",
                    "-o",
                    &format!("publication_names={name}"),
                ]);
            assert!(command.status().unwrap().success());
            let theirs = began.elapsed();
            slots_are_free(&own).await;
            own.execute(&format!("select pg_drop_replication_slot('{peer}')"));

            let database = source(&own, &own.url());
            let (resident, cpu) = used();
            let began = Instant::now();
            let watched = parsed(&[("public.t", "id", "parent")]);
            let mut stream = Stream::start(&database, &watched, Lsn(0)).await.unwrap();
            let (mut seen, mut highest) = (0, resident);
            while seen < rows {
                if let Piece::Changes(changes) = next(&mut stream).await {
                    seen += changes.len();
                    if changes.len() > 1 || seen % 5000 == 0 {
                        highest = highest.max(used().0);
                    }
                }
            }
            let ours = began.elapsed();
            let spent = used().1 - cpu;
            println!(
                "{shape}: {:.0} rows/s, pg_recvlogical {:.0} rows/s, ratio {:.2}; {:.2} µs CPU a row; {} KiB more memory",
                rows as f64 / ours.as_secs_f64(),
                rows as f64 / theirs.as_secs_f64(),
                theirs.as_secs_f64() / ours.as_secs_f64(),
                spent * 1e6 / rows as f64,
                highest - resident,
            );
            drop(stream);
            slots_are_free(&own).await;
        }
        own.execute(&format!("select pg_drop_replication_slot('{name}')"));
    }
}

/// What it costs us when another database of the server is written as fast as it can be.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run it by hand with --release"]
async fn a_busy_neighbour() {
    if postgres::or_skip("a_busy_neighbour").is_none() {
        return;
    }
    let server = Server::start(&[]);
    let followed = Followed::start(
        &server,
        "create table t (id int primary key)",
        &[("public.t", "id", "")],
    )
    .await;
    let neighbour = server.database("neighbour");
    let pgbench = |arguments: &[&str]| {
        let mut command = server.binaries().command("pgbench");
        command.args(arguments).arg(neighbour.url());
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    assert!(pgbench(&["-i", "-q"]).wait().unwrap().success());
    let done = "select xact_commit from pg_stat_database where datname = current_database()";
    let before: f64 = neighbour.value(done).parse().unwrap();
    let (began, (_, cpu)) = (Instant::now(), used());
    let mut running = pgbench(&["-c", "4", "-T", "10", "-N"]);
    let mut places = 0;
    while began.elapsed() < Duration::from_secs(10) {
        match tokio::time::timeout(Duration::from_secs(1), followed.stream.next()).await {
            Ok(Ok(Piece::Idle(place))) => {
                places += 1;
                followed.stream.acknowledge(place);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    let spent = used().1 - cpu;
    running.wait().unwrap();
    let transactions = neighbour.value(done).parse::<f64>().unwrap() - before;
    println!(
        "{:.0} transactions/s next door: {:.2} % of a core, {places} places in 10 s",
        transactions / 10.0,
        spent * 10.0
    );
}
