//! `check` and `former`: each prerequisite that is not met is named with the statement that mends it, and that statement
//! does mend it.

mod former;

use std::time::{Duration, Instant};

use instep_conformance::postgres::{Database, Server, Stop};
use instep_core::{Fetch, Finding, Severity, Source, Value, Watched};
use instep_sources::{PostgresOptions, PostgresSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn watched(table: &str, key: &[&str], columns: &[&str]) -> Watched {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Watched {
        table: table.into(),
        key: owned(key),
        columns: owned(columns),
    }
}

fn options(database: &Database) -> PostgresOptions {
    PostgresOptions {
        url: database.url(),
        slot: Some(format!("instep_{}", database.name())),
        ..PostgresOptions::default()
    }
}

fn source(options: PostgresOptions) -> PostgresSource {
    PostgresSource::new("shop".into(), options).unwrap()
}

/// The source as another role sees it.
fn source_as(role: &str, database: &Database) -> PostgresSource {
    let url = database.url().replace("postgres@", &format!("{role}@"));
    source(PostgresOptions {
        url,
        ..options(database)
    })
}

async fn check(database: &Database, tables: &[Watched]) -> Vec<Finding> {
    source(options(database)).check(tables).await.unwrap()
}

fn find<'a>(findings: &'a [Finding], code: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code} in {findings:#?}"))
}

fn has(findings: &[Finding], code: &str) -> bool {
    findings.iter().any(|finding| finding.code == code)
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect()
}

fn remedies(findings: &[Finding]) -> Vec<String> {
    errors(findings)
        .iter()
        .map(|finding| finding.remedy.clone().unwrap())
        .collect()
}

const SHOP: &str = "create table person (id int primary key, name text);
    create table note (id int primary key, person_id int not null references person, said text);
    create index on note (person_id)";

fn shop() -> [Watched; 2] {
    [
        watched("public.note", &["id"], &["person_id"]),
        watched("public.person", &["id"], &[]),
    ]
}

#[tokio::test]
async fn a_database_that_has_everything() {
    let database = Server::shared().database("check_all");
    database.execute(SHOP);
    let source = source(options(&database));
    let findings = source.check(&shop()).await.unwrap();
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    for code in [
        "database_readable",
        "version",
        "wal_level",
        "replication",
        "max_replication_slots",
        "max_wal_senders",
        "slot",
        "publication",
        "wal_sender_timeout",
        "clock",
        "rights",
        "table",
        "open_transactions",
    ] {
        assert_eq!(find(&findings, code).severity, Severity::Ok, "{code}");
    }
    assert!(
        find(&findings, "publication")
            .message
            .contains("made when following starts")
    );
    assert!(
        find(&findings, "slot")
            .message
            .contains("made when following starts")
    );
    // The default, whatever the defaults of the server's package.
    let kept = find(&findings, "max_slot_wal_keep_size");
    assert_eq!(kept.severity, Severity::Warning);
    assert!(
        kept.message.contains("-1") && kept.message.contains("0 bytes"),
        "{kept:?}"
    );
    // Nothing was made by asking.
    let made = "select (select count(*) from pg_publication) + (select count(*) from pg_replication_slots \
                where database = current_database())";
    assert_eq!(database.value(made), "0");

    let feed = source.follow(&shop(), None).await.unwrap();
    let findings = source.check(&shop()).await.unwrap();
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    assert!(
        find(&findings, "publication").message.contains("holds all"),
        "{findings:#?}"
    );
    assert!(
        find(&findings, "slot").message.contains("in use, by process"),
        "{findings:#?}"
    );
    drop(feed);
}

/// One thing is wrong, named by this code for this subject; the remedy, where it is SQL, ends it.
struct Wrong {
    script: &'static str,
    table: Watched,
    severity: Severity,
    code: &'static str,
    subject: &'static str,
    /// Whether the remedy can be run as it is.
    mends: bool,
}

fn wrong(
    script: &'static str,
    table: Watched,
    severity: Severity,
    code: &'static str,
    subject: &'static str,
) -> Wrong {
    Wrong {
        script,
        table,
        severity,
        code,
        subject,
        mends: false,
    }
}

fn mended(wrong: Wrong) -> Wrong {
    Wrong { mends: true, ..wrong }
}

fn all_wrong() -> Vec<Wrong> {
    use Severity::{Error, Warning};
    let t = || watched("public.t", &["id"], &[]);
    let publication = "instep_shop";
    vec![
        wrong("select 1", t(), Error, "table_missing", "public.t"),
        wrong("create view t as select 1 as id", t(), Error, "view", "public.t"),
        wrong("create materialized view t as select 1 as id", t(), Error, "materialized_view", "public.t"),
        wrong("create sequence t", t(), Error, "no_table", "public.t"),
        wrong(
            "create foreign data wrapper w; create server s foreign data wrapper w; create foreign table t (id int) server s",
            t(), Error, "foreign_table", "public.t",
        ),
        wrong(
            "create table root (id int primary key) partition by list (id); create table t partition of root for values in (1)",
            t(), Error, "partition", "public.t",
        ),
        mended(wrong("create unlogged table t (id int primary key)", t(), Error, "unlogged", "public.t")),
        mended(wrong(
            "create table t (id int primary key) partition by list (id); create unlogged table \"T 1\" partition of t for values in (1)",
            t(), Error, "unlogged", "public.t",
        )),
        wrong(
            "create foreign data wrapper w; create server s foreign data wrapper w;
             create table t (id int, a int) partition by list (id); create foreign table f partition of t for values in (1) server s",
            t(), Error, "foreign_partition", "public.t",
        ),
        wrong("create table t (id int)", t(), Error, "no_primary_key", "public.t"),
        wrong("create table t (id int primary key)", watched("public.t", &["id"], &["b"]), Error, "column_missing", "public.t.b"),
        wrong("create table t (id int primary key deferrable)", t(), Error, "no_replica_identity", "public.t"),
        wrong(
            "create table t (id int primary key); alter table t replica identity nothing",
            t(), Error, "no_replica_identity", "public.t",
        ),
        mended(wrong(
            "create table t (id int primary key, b int not null unique); alter table t replica identity using index t_b_key",
            t(), Warning, "identity_without_key", "public.t",
        )),
        wrong(
            "create table t (a int, id int generated always as (a + 1) stored primary key)",
            t(), Error, "generated_key", "public.t.id",
        ),
        wrong(
            "create table t (id int primary key, a int, b int generated always as (a + 1) stored); create index on t (b)",
            watched("public.t", &["id"], &["b"]), Warning, "generated_column", "public.t.b",
        ),
        mended(wrong(
            "create table t (id int primary key, b int)",
            watched("public.t", &["id"], &["b"]), Warning, "missing_index", "public.t.b",
        )),
        mended(wrong(
            "create table t (id int primary key, b int, c int) partition by range (id);
             create table t1 partition of t for values from (0) to (9); create index on t1 (c, b)",
            watched("public.t", &["id"], &["b"]), Warning, "missing_index", "public.t.b",
        )),
        wrong(
            "create table t (id int primary key); create table heir (primary key (id)) inherits (t)",
            t(), Warning, "inheritance", "public.t",
        ),
        wrong(
            "create table t (id int primary key); create publication instep_shop for all tables",
            t(), Warning, "publication_for_all_tables", publication,
        ),
        mended(wrong(
            "create table t (id int primary key); create publication instep_shop for table t with (publish = 'insert, update')",
            t(), Error, "publication_narrow", publication,
        )),
        mended(wrong(
            "create table t (id int primary key, a int); create publication instep_shop for table t where (id > 5)",
            t(), Error, "publication_narrow", publication,
        )),
        mended(wrong(
            "create table t (id int primary key, a int, b int); create index on t (b);
             create publication instep_shop for table t (id, a)",
            watched("public.t", &["id"], &["b"]), Error, "publication_narrow", publication,
        )),
        mended(wrong(
            "create table t (id int primary key) partition by list (id); create table t1 partition of t for values in (1);
             create publication instep_shop for table t with (publish_via_partition_root = true)",
            t(), Error, "publication_narrow", publication,
        )),
        wrong(
            "create table t (id int primary key); alter table t replica identity nothing; create publication instep_shop for table t",
            t(), Error, "published_without_identity", publication,
        ),
        wrong(
            "create table t (id int primary key); create table log (line text); create publication instep_shop for table t, log",
            t(), Warning, "published_without_identity", publication,
        ),
        wrong("create table t (id int primary key)", watched("other.t", &["id"], &[]), Error, "table_missing", "other.t"),
    ]
}

#[tokio::test]
async fn what_is_wrong_is_named_and_mended() {
    for (at, wrong) in all_wrong().into_iter().enumerate() {
        let database = Server::shared().database("check_wrong");
        database.execute(wrong.script);
        let tables = [wrong.table.clone()];
        let findings = check(&database, &tables).await;
        let matches = |finding: &&Finding| {
            finding.code == wrong.code
                && finding.subject == wrong.subject
                && finding.severity == wrong.severity
        };
        let Some(found) = findings.iter().find(matches) else {
            panic!("case {at}, {}: {findings:#?}", wrong.code);
        };
        assert!(
            found.remedy.is_some() && !found.message.ends_with('.'),
            "{found:?}"
        );
        assert!(
            !has(&findings, "table") || found.subject == "instep_shop",
            "case {at}: {findings:#?}"
        );
        if wrong.mends {
            // Statements one by one: some cannot run inside a transaction, which psql's script does not open.
            database.execute(found.remedy.as_deref().unwrap());
            let findings = check(&database, &tables).await;
            assert!(
                !has(&findings, wrong.code),
                "case {at}, {}: {findings:#?}",
                wrong.code
            );
        }
    }
}

/// What `check` prints is enough for a fresh role, statement by statement, to follow and to read.
#[tokio::test]
async fn a_role_with_the_printed_rights_suffices() {
    let database = Server::shared().database("check_role");
    let role = format!("{}_\"Role\"", database.name());
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    database.execute(&format!(
        "create schema \"my shop\";
         create table \"my shop\".person (id int primary key, name text);
         create table \"my shop\".note (id int primary key, person_id int not null) partition by range (id);
         create table \"my shop\".note_1 partition of \"my shop\".note for values from (0) to (100);
         create index on \"my shop\".note (person_id);
         alter table \"my shop\".person enable row level security;
         revoke all on database \"{name}\" from public;
         create role {quoted} login",
        name = database.name()
    ));
    let tables = [
        watched("my shop.note", &["id"], &["person_id"]),
        watched("my shop.person", &["id"], &[]),
    ];
    let source = source_as(&role.replace('"', "%22"), &database);
    let mut rounds = 0;
    loop {
        let findings = source.check(&tables).await.unwrap();
        let remedies = remedies(&findings);
        if remedies.is_empty() {
            break;
        }
        // First the right to connect, then all others at once.
        rounds += 1;
        assert!(rounds <= 2, "{findings:#?}");
        for remedy in remedies {
            database.execute(&remedy);
        }
    }
    assert_eq!(rounds, 2);
    let mut feed = source.follow(&tables, None).await.unwrap();
    database.execute("insert into \"my shop\".person values (7, 'Ann')");
    let delivered = async {
        loop {
            let batch = feed.next().await.unwrap();
            if !batch.changes.is_empty() {
                return batch;
            }
        }
    };
    let batch = tokio::time::timeout(Duration::from_secs(20), delivered)
        .await
        .unwrap();
    feed.acknowledge(&batch.upto).await.unwrap();
    let mut snapshot = source.reader().snapshot(Some(&batch.upto)).await.unwrap();
    let fetch = Fetch {
        table: "my shop.person".into(),
        columns: vec!["name".into()],
        by: vec!["id".into()],
        values: vec![vec![Value::Int(7)]],
        page: None,
    };
    let rows = snapshot.fetch(&fetch).await.unwrap();
    assert_eq!(rows.iter().collect::<Vec<_>>(), [[Value::text("Ann")]]);
    // The role owns nothing, and has nothing more than was printed.
    drop((snapshot, feed, source));
    forget(&database, &role);
}

/// Drops a role: roles belong to the whole server. Its sessions may still be there.
fn forget(database: &Database, role: &str) {
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    database.execute(&format!(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{role}';
         reassign owned by {quoted} to postgres; drop owned by {quoted}; drop role {quoted}"
    ));
}

#[tokio::test]
async fn rights_are_named_one_by_one() {
    let database = Server::shared().database("check_rights");
    let role = format!("{}_role", database.name());
    database.execute(&format!(
        "{SHOP}; create role {role} login; create publication mine for table person"
    ));
    let source = source_as(&role, &database);
    let findings = source.check(&shop()).await.unwrap();
    let replication = find(&findings, "replication");
    assert_eq!(
        replication.remedy.as_deref(),
        Some(format!("alter role \"{role}\" replication").as_str())
    );
    let publication = find(&findings, "publication");
    assert!(
        publication.severity == Severity::Error && publication.message.contains("may not create"),
        "{publication:?}"
    );
    assert_eq!(
        findings
            .iter()
            .filter(|finding| finding.code == "table_select")
            .count(),
        2
    );
    // Columns are enough where they are all that is needed.
    database.execute(&format!(
        "grant select (id, person_id) on note to {role}; grant select (name) on person to {role}"
    ));
    let findings = source.check(&shop()).await.unwrap();
    let lacking: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.code == "table_select")
        .map(|finding| finding.subject.as_str())
        .collect();
    assert_eq!(lacking, ["public.person"]);
    // A policy that hides rows; one that shows all of them does not, unless another one restricts it.
    database.execute(&format!(
        "grant select on person to {role}; alter table person enable row level security;
         create policy few on person for select using (id > 5)"
    ));
    let findings = source.check(&shop()).await.unwrap();
    assert_eq!(find(&findings, "row_security").severity, Severity::Error);
    database.execute("create policy every on person using (true)");
    assert!(!has(&source.check(&shop()).await.unwrap(), "row_security"));
    database.execute("create policy less on person as restrictive using (id > 5)");
    assert!(has(&source.check(&shop()).await.unwrap(), "row_security"));
    database.execute(&format!("alter role {role} bypassrls"));
    assert!(!has(&source.check(&shop()).await.unwrap(), "row_security"));
    // An owner of all tables who may create makes the publication; one of another's is not ours to complete.
    database.execute(&format!(
        "alter table person owner to {role}; alter table note owner to {role};
         grant create on database \"{}\" to {role}",
        database.name()
    ));
    assert_eq!(
        find(&source.check(&shop()).await.unwrap(), "publication").severity,
        Severity::Ok
    );
    database.execute("create publication instep_shop for table person");
    let publication = find(&source.check(&shop()).await.unwrap(), "publication").clone();
    assert!(
        publication.message.contains("does not own the publication"),
        "{publication:?}"
    );
    database.execute(publication.remedy.as_deref().unwrap());
    assert!(
        find(&source.check(&shop()).await.unwrap(), "publication")
            .message
            .contains("holds all")
    );
    drop(source);
    forget(&database, &role);
}

#[tokio::test]
async fn a_server_that_is_set_up_badly() {
    let server = Server::start(&[
        ("wal_level", "replica"),
        ("wal_sender_timeout", "0"),
        ("max_slot_wal_keep_size", "64MB"),
        ("max_replication_slots", "1"),
        ("max_wal_senders", "0"),
        ("synchronous_commit", "off"),
    ]);
    let database = server.database("check_server");
    database.execute(SHOP);
    database.execute("select pg_create_physical_replication_slot('other')");
    let findings = check(&database, &shop()).await;
    for (code, severity) in [
        ("wal_level", Severity::Error),
        ("replication", Severity::Error),
        ("max_replication_slots", Severity::Error),
        ("max_wal_senders", Severity::Error),
        ("wal_sender_timeout", Severity::Warning),
        ("max_slot_wal_keep_size", Severity::Warning),
        ("synchronous_commit", Severity::Ok),
        ("table", Severity::Ok),
    ] {
        assert_eq!(find(&findings, code).severity, severity, "{findings:#?}");
    }
    for code in ["wal_level", "max_replication_slots", "max_wal_senders"] {
        assert!(
            find(&findings, code)
                .remedy
                .as_deref()
                .unwrap()
                .starts_with("alter system set"),
            "{findings:#?}"
        );
    }
    // Another service, by its roles: other remedies.
    database.execute("create role rds_superuser");
    let findings = check(&database, &shop()).await;
    assert!(
        find(&findings, "wal_level")
            .remedy
            .as_deref()
            .unwrap()
            .contains("rds.logical_replication")
    );

    let other = Server::shared().database("check_other");
    other.execute(SHOP);
    let source = source(PostgresOptions {
        stream_url: Some(other.url()),
        ..options(&database)
    });
    let findings = source.check(&shop()).await.unwrap();
    assert_eq!(find(&findings, "other_cluster").severity, Severity::Error);
    server.stop(Stop::Immediate);
    let findings = check(&database, &shop()).await;
    assert_eq!(
        findings
            .iter()
            .map(|finding| finding.code.as_str())
            .collect::<Vec<_>>(),
        ["database_away"]
    );
}

#[tokio::test]
async fn slots_that_are_not_as_they_should_be() {
    let server = Server::start(&[
        ("max_slot_wal_keep_size", "32MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "48MB"),
    ]);
    let database = server.database("check_slots");
    database.execute(SHOP);
    let name = format!("instep_{}", database.name());
    database.execute(&format!(
        "select pg_create_logical_replication_slot('{name}', 'test_decoding')"
    ));
    assert_eq!(
        find(&check(&database, &shop()).await, "slot_taken").severity,
        Severity::Error
    );
    database.execute(&format!(
        "select pg_drop_replication_slot('{name}'); select pg_create_logical_replication_slot('{name}', 'pgoutput')"
    ));
    assert_eq!(
        find(&check(&database, &shop()).await, "slot").severity,
        Severity::Ok
    );
    let write = "create table if not exists filler (line text);
        insert into filler select repeat('x', 1000) from generate_series(1, 9000); select pg_switch_wal()";
    database.execute(write);
    database.execute(write);
    let slot = find(&check(&database, &shop()).await, "slot").clone();
    assert!(
        slot.severity == Severity::Warning && slot.message.contains("of 32 MB"),
        "{slot:?}"
    );
    assert!(slot.remedy.unwrap().contains("pg_drop_replication_slot"));
    for _ in 0..4 {
        database.execute(write);
        database.execute("checkpoint");
    }
    let lost = find(&check(&database, &shop()).await, "slot_lost").clone();
    assert!(lost.severity == Severity::Error && lost.remedy.unwrap().contains("rescan"));
}

#[tokio::test]
async fn transactions_that_a_new_slot_would_wait_for() {
    let server = Server::start(&[]);
    let database = server.database("check_open");
    database.execute(SHOP);
    // Nobody can wait for a minute here: the transaction is old in numbers, and its start is hidden from the role.
    database.execute(
        "create role watcher login replication; grant select on all tables in schema public to watcher;
         begin; insert into person values (1, 'a'); prepare transaction 'old';",
    );
    let mut open = database.psql();
    let mut child = open
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    use std::io::Write as _;
    let input = child.stdin.as_mut().unwrap();
    input
        .write_all(b"begin; insert into person values (2, 'b');\n")
        .unwrap();
    let busy =
        "select count(*) from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()";
    let deadline = Instant::now() + Duration::from_secs(20);
    while database.value(busy) == "0" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let source = source_as("watcher", &database);
    assert_eq!(
        find(&source.check(&shop()).await.unwrap(), "open_transactions").severity,
        Severity::Ok
    );
    database.execute(
        "do $$ begin for i in 1..10500 loop begin insert into person values (i + 100, 'x'); \
           exception when others then null; end; end loop; end $$;",
    );
    let found = find(&source.check(&shop()).await.unwrap(), "open_transactions").clone();
    assert!(
        found.severity == Severity::Warning && found.message.contains("hidden from this role"),
        "{found:?}"
    );
    assert!(found.message.contains("making the slot waits"), "{found:?}");
    drop(source);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn rows_from_a_replica() {
    use instep_conformance::postgres::Replication;
    let primary = Server::start(&[]);
    let database = primary.database("check_replica");
    database.execute(SHOP);
    let replica = primary.standby("copy", Replication::Asynchronous);
    replica.catch_up(&primary);
    let read = replica.existing(database.name());
    let both = || {
        source(PostgresOptions {
            url: read.url(),
            stream_url: Some(database.url()),
            ..options(&database)
        })
    };
    let findings = both().check(&shop()).await.unwrap();
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    assert_eq!(find(&findings, "same_database").severity, Severity::Ok);
    assert!(
        find(&findings, "replica")
            .message
            .contains("hot_standby_feedback is off")
    );
    replica.pause_replay();
    assert_eq!(
        find(&both().check(&shop()).await.unwrap(), "replica").severity,
        Severity::Warning
    );
    replica.resume_replay();
    // Without stream_url changes would come from the replica, too.
    let findings = check(&read, &shop()).await;
    assert_eq!(find(&findings, "stream_is_replica").severity, Severity::Error);
}

/// Lets ordinary connections through, and refuses what asks for replication, as most poolers do.
async fn pooler(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let length = client.read_u32().await.unwrap();
                let mut start = vec![0; length as usize - 4];
                client.read_exact(&mut start).await.unwrap();
                if start.windows(11).any(|part| part == b"replication") {
                    let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: replication\0\0";
                    client.write_u8(b'E').await.unwrap();
                    client.write_u32(fields.len() as u32 + 4).await.unwrap();
                    client.write_all(fields).await.unwrap();
                    return;
                }
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                server.write_u32(length).await.unwrap();
                server.write_all(&start).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_pooler_before_the_stream() {
    let server = Server::shared();
    let database = server.database("check_pooler");
    database.execute(SHOP);
    let pooled = database.url_through(pooler(server.port()).await) + "?sslmode=disable";
    let options = |stream_url| PostgresOptions {
        url: pooled.clone(),
        stream_url,
        ..options(&database)
    };
    let findings = source(options(None)).check(&shop()).await.unwrap();
    let found = find(&findings, "replication");
    assert!(
        found.severity == Severity::Error && found.remedy.as_deref().unwrap().contains("poolers"),
        "{found:?}"
    );
    let findings = source(options(Some(database.url())))
        .check(&shop())
        .await
        .unwrap();
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    assert!(has(&findings, "same_database"));
}

#[tokio::test]
async fn two_hundred_tables_take_no_longer_than_one() {
    let database = Server::shared().database("check_many");
    let mut script = String::from("create table t0 (id int primary key, up int);");
    for at in 1..200 {
        script += &format!(
            "create table t{at} (id int primary key, up int references t{});",
            at - 1
        );
    }
    database.execute(&script);
    let tables: Vec<Watched> = (0..200)
        .map(|at| watched(&format!("public.t{at}"), &["id"], &["up"]))
        .collect();
    let source = source(options(&database));
    let began = Instant::now();
    let findings = source.check(&tables).await.unwrap();
    let former = source.former(&tables).await.unwrap();
    let took = began.elapsed();
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    assert_eq!(
        findings
            .iter()
            .filter(|finding| finding.code == "missing_index")
            .count(),
        200
    );
    assert_eq!(former.len(), 200);
    assert!(took < Duration::from_secs(5), "{took:?}");
}
