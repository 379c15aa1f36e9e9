//! How the database is reached, and as whom: roles with few rights, passwords, TLS, poolers, replicas.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use instep_conformance::postgres::{self, Database, Replication, Server as Postgres};
use instep_conformance::tls::Certificates;
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, difference, findings, reaches, settled, source, state};
use crate::support::product::{Product, Server, eventually};

/// Roles are let in by password, `only_tls_…` by encryption alone, the superuser by anything.
const NETWORK_ACCESS: &str = "
    host all postgres 127.0.0.1/32 trust
    host replication postgres 127.0.0.1/32 trust
    hostssl all only_tls 127.0.0.1/32 trust
    hostnossl all only_tls 127.0.0.1/32 reject
    host all all 127.0.0.1/32 scram-sha-256";

/// A server that asks for passwords, shared by these tests.
pub(super) fn guarded() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start(&[("fsync", "off"), ("password_encryption", "scram-sha-256")]);
        server.set_network_access(NETWORK_ACCESS);
        server
    })
}

const TABLES: &str = "
    create schema inner_one;
    create table public.item (id int primary key, name text);
    create table inner_one.tag (item_id int, word text, primary key (item_id, word));
    insert into item select id, 'item ' || id from generate_series(1, 20) id;
    insert into inner_one.tag select id, 'word' from generate_series(1, 20) id;
";

const COLLECTION: &str = r#"
[collection.item]
root   = "item"
public = true

[collection.item.fields]
name = "text"
tags = { table = "inner_one.tag", on = "tag.item_id = item.id", many = true, values = "word" }
"#;

const EXPECTED: (&str, &str) = (
    "item",
    "select i.id, json_build_object('name', i.name, 'tags',
         coalesce((select json_agg(t.word order by t.word) from inner_one.tag t where t.item_id = i.id), '[]')) from public.item i",
);

/// A source whose address is this one.
fn at(url: &str, slot: &str, options: &str) -> String {
    format!("[source.main]\nurl = \"{url}\"\nslot = \"{slot}\"\n{options}\n{COLLECTION}")
}

pub(super) fn url_as(role: &str, database: &Database) -> String {
    database.url().replacen("postgres@", &format!("{role}@"), 1)
}

/// A role without any rights is told what it lacks; what is printed, run as it stands, is all it needs.
#[test]
fn a_role_with_exactly_the_rights_that_are_printed() {
    if postgres::or_skip("a role with few rights").is_none() {
        return;
    }
    let database = guarded().database("rights");
    database.execute(TABLES);
    // Others may do nothing by themselves.
    database.execute(&format!(
        "revoke all on database {} from public; revoke all on schema public from public",
        database.name()
    ));
    let role = format!("{}_reader", database.name());
    database.execute(&format!("create role {role} login password 'reads'"));
    let url = url_as(&format!("{role}:reads"), &database);
    let configuration = at(&url, database.name(), "");
    let stage = Stage::over(database, &configuration, &[EXPECTED]);

    let mut printed = Vec::new();
    for _ in 0..8 {
        let (found, code) = findings(&stage.product, "");
        let lacking: Vec<_> = found
            .iter()
            .filter(|found| found["severity"] == "error")
            .collect();
        assert_eq!(code, Some(i32::from(!lacking.is_empty())), "{found:?}");
        if lacking.is_empty() {
            break;
        }
        // A table that may not be read is unknown to the configuration: what it is and what it needs is said beside it.
        let told = lacking
            .into_iter()
            .filter(|found| found["code"] != "bad_configuration");
        let told: Vec<_> = told.collect();
        assert!(!told.is_empty(), "nothing says what is missing: {found:?}");
        for found in told {
            let statement = found["remedy"]
                .as_str()
                .unwrap_or_else(|| panic!("no remedy in {found}"))
                .to_owned();
            if let Err(error) = stage.database.try_execute(&statement) {
                panic!("{error}: {statement}\nof {found}");
            }
            printed.push(statement);
        }
    }
    let (found, code) = findings(&stage.product, "");
    assert_eq!(code, Some(0), "after {printed:#?}: {found:#?}");
    let rights = stage.database.query(&format!("select rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolreplication from pg_roles where rolname = '{role}'"));
    assert_eq!(rights[0].concat(), "fffft", "{printed:#?}");
    let owned = stage.database.value(&format!(
        "select count(*) from pg_class where relowner = '{role}'::regrole"
    ));
    assert_eq!(owned, "0");

    let served = stage.serve();
    stage.after(
        &served,
        "changes, as a role with few rights",
        "update item set name = 'changed' where id < 5; delete from inner_one.tag where item_id = 6; insert into item values (100, 'new')",
    );
    stage.assert_verified(&served, "all of it");
    assert_eq!(served.stop(), Some(0));

    // Each table right is one that is needed.
    stage
        .database
        .execute(&format!("revoke select on inner_one.tag from {role}"));
    let (found, code) = findings(&stage.product, "");
    assert_eq!(code, Some(1), "{found:?}");
}

/// Where nothing is created on request: all that a person with the rights has to run is printed, and enough.
#[test]
fn what_is_printed_prepares_the_database() {
    if postgres::or_skip("statements to prepare a database").is_none() {
        return;
    }
    let database = guarded().database("prepared");
    database.execute(TABLES);
    let role = format!("{}_reader", database.name());
    database.execute(&format!(
        "create role {role} login replication password 'reads'; grant usage on schema inner_one to {role};
         grant select on item, inner_one.tag to {role}"
    ));
    let stage = Stage::over(database, "", &[EXPECTED]);
    let url = url_as(&format!("{role}:reads"), &stage.database);
    std::fs::write(
        stage.product.folder.join("instep.toml"),
        at(&url, stage.database.name(), ""),
    )
    .expect("it is written");
    let log = stage.product.folder.join("log");
    let mut command = stage.product.command(&["sync", "--once"]);
    let mut running = command
        .stderr(File::create(&log).expect("a file"))
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let ended = loop {
        match running.try_wait().expect("it can be waited for") {
            Some(ended) => break ended,
            None if std::time::Instant::now() > until => {
                let _ = running.kill();
                let _ = running.wait();
                panic!(
                    "`sync --once` does not end where the publication may not be made: {}",
                    said()
                );
            }
            None => std::thread::park_timeout(std::time::Duration::from_millis(50)),
        }
    };
    assert_eq!(ended.code(), Some(1), "{}", said());
    assert!(said().contains("check --sql"), "{}", said());
    let printed = stage.product.run(&["check", "--sql"]);
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(
        printed.find("create publication").expect("a publication")
            < printed
                .find("pg_create_logical_replication_slot")
                .expect("a slot"),
        "{printed}"
    );
    stage.database.execute(&printed);
    let done = stage.product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    let served = stage.serve();
    stage.after(
        &served,
        "what was printed",
        "update item set name = 'followed' where id = 1",
    );
}

pub(super) const PASSWORD: &str = r#"p@s/s:%25?#'\ "ü€"#;

pub(super) fn with_password(hint: &str) -> (Database, String) {
    let database = guarded().database(hint);
    database.execute(TABLES);
    let role = format!("{}_owner", database.name());
    database.execute(&format!(
        "create role {role} login superuser password '{}'",
        PASSWORD.replace('\'', "''")
    ));
    (database, role)
}

/// Serves with its standard error in a file.
fn serve_into(product: &Product, log: &Path) -> Server {
    let mut command = product.command(&["serve", "--json", "--log", "debug", "--listen", "127.0.0.1:0"]);
    command.stderr(File::create(log).expect("a file"));
    Server::start(command)
}

/// A password comes from a file, a variable or the address, and shows nowhere.
#[test]
fn passwords_are_taken_and_never_shown() {
    if postgres::or_skip("passwords").is_none() {
        return;
    }
    let (database, role) = with_password("passwords");
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let in_variable = url_as(&format!("{role}:${{DATABASE_PASSWORD}}"), &database);
    let in_url = url_as(&format!("{role}:{encoded}"), &database);
    let plain = url_as(&role, &database);
    let ways = [
        (
            "a file",
            at(&plain, database.name(), "password_file = \"secret\""),
        ),
        ("a variable", at(&in_variable, database.name(), "")),
        ("the address", at(&in_url, database.name(), "")),
        ("a file with the address", at("file:address", database.name(), "")),
        (
            "a variable with the address",
            at("${DATABASE_URL}", database.name(), ""),
        ),
    ];
    for (way, configuration) in ways {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it is written");
        write("secret", &format!("{PASSWORD}\n"));
        write("address", &format!("{in_url}\n"));
        let product = Product::new(folder.path(), &configuration)
            .with("DATABASE_PASSWORD", PASSWORD)
            .with("DATABASE_URL", &in_url);
        let log = folder.path().join("log");
        let served = serve_into(&product, &log);
        settled(&served, &database, "main");
        let differs = difference(&served, &database, EXPECTED.0, EXPECTED.1, |_| true);
        assert_eq!(differs, None, "by {way}");

        let mut said = served.status(None).to_string();
        said += &served.send("GET", "/_instep/metrics", None, None).body;
        for command in [
            &["config", "print"][..],
            &["check"],
            &["check", "--json"],
            &["check", "--sql"],
            &["status", "--json"],
            &["verify"],
        ] {
            let output = product.run(command);
            assert!(
                output.status.success(),
                "{command:?} by {way}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            said += &String::from_utf8_lossy(&output.stdout);
            said += &String::from_utf8_lossy(&output.stderr);
        }
        // What failure says.
        database.execute(&format!("alter role {role} password 'another'"));
        for command in [&["check"][..], &["verify"]] {
            let output = product.run(command);
            assert!(!output.status.success(), "{command:?} by {way}");
            said += &String::from_utf8_lossy(&output.stdout);
            said += &String::from_utf8_lossy(&output.stderr);
        }
        assert!(said.contains("authentication failed"), "{said}");
        database.execute(&format!(
            "alter role {role} password '{}'",
            PASSWORD.replace('\'', "''")
        ));
        assert_eq!(served.stop(), Some(0));
        said += &std::fs::read_to_string(&log).expect("a log");
        for secret in [PASSWORD, &encoded] {
            assert!(!said.contains(secret), "the password is shown, by {way}: {said}");
            for file in files(&folder.path().join("instep-state")) {
                let content = std::fs::read(&file).expect("a file");
                let holds = content
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                assert!(!holds, "the password is kept in {}, by {way}", file.display());
            }
        }
        database.execute(&format!("select pg_drop_replication_slot('{}')", database.name()));
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}

/// A password that the server no longer takes is named; search stays up; once it is corrected there, nothing needs a
/// restart.
#[test]
fn a_wrong_password_is_named_and_mended_while_running() {
    let Some((stage, role)) = locked("wrong") else {
        return;
    };
    let served = stage.serve();
    lock_out(&stage, &role, &served, "another");
    stage.database.execute(&format!(
        "update item set name = 'locked out' where id = 1; alter role {role} password '{}'",
        PASSWORD.replace('\'', "''")
    ));
    stage.comes_in_step(&served, "a correction in the database");
}

/// The same where the password was changed on purpose, and its file follows.
#[test]
fn a_password_that_is_rotated_is_read_again() {
    let Some((stage, role)) = locked("rotated") else {
        return;
    };
    let served = stage.serve();
    lock_out(&stage, &role, &served, "rotated");
    stage
        .database
        .execute("update item set name = 'rotated' where id = 2");
    std::fs::write(stage.product.folder.join("secret"), "rotated\n").expect("it is written");
    stage.comes_in_step(&served, "a correction in the file");
}

/// A source whose password is in the file `secret`.
fn locked(hint: &str) -> Option<(Stage, String)> {
    postgres::or_skip(hint)?;
    let (database, role) = with_password(hint);
    let configuration = at(
        &url_as(&role, &database),
        database.name(),
        "password_file = \"secret\"",
    );
    let stage = Stage::over(database, &configuration, &[EXPECTED]);
    std::fs::write(stage.product.folder.join("secret"), PASSWORD).expect("it is written");
    Some((stage, role))
}

/// Gives the role this password, which nobody is told, and waits until that is named.
fn lock_out(stage: &Stage, role: &str, served: &Server, password: &str) {
    stage.database.execute(&format!(
        "alter role {role} password '{password}'; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
    ));
    let refused = |status: &Value| source(status, "main")["problem"]["code"] == "authentication_failed";
    let status = reaches(served, "the wrong password to be named", refused);
    let told = source(&status, "main")["problem"]["remedy"]
        .as_str()
        .unwrap_or_default();
    assert!(told.contains("password"), "{status}");
    let found = served.send("GET", "/item/_count", None, None);
    assert_eq!(
        (found.status, &found.json()["count"]),
        (200, &json!(20)),
        "search stays up"
    );
}

#[test]
fn tls_by_every_mode() {
    if postgres::or_skip("TLS").is_none() {
        return;
    }
    let Some(certificates) = Certificates::new("TLS") else {
        return;
    };
    let server = guarded();
    for (name, made) in [("server.crt", "server.pem"), ("server.key", "server.key")] {
        server.put(name, &certificates.text(made));
    }
    server.set(&[("ssl", "on")]);
    let database = server.database("tls");
    database.execute(TABLES);
    database.execute("create role only_tls login superuser");
    eventually("the server to speak TLS", PATIENCE, || {
        server.maintenance().value("show ssl") == "on"
    });
    let configuration = |host: &str, role: &str, mode: &str, root: &str| {
        let url = url_as(role, &database).replacen("127.0.0.1", host, 1);
        let root = match root {
            "" => String::new(),
            name => format!("root_certificate = \"{}\"", certificates.path(name).display()),
        };
        at(&format!("{url}?sslmode={mode}"), database.name(), &root)
    };
    let folder_of = tempfile::tempdir().expect("a folder");
    // Host, role, mode, authority; what is said where it is refused.
    for (host, role, mode, root, refused) in [
        ("127.0.0.1", "postgres", "disable", "", None),
        ("127.0.0.1", "only_tls", "disable", "", Some("pg_hba.conf")),
        ("127.0.0.1", "only_tls", "prefer", "", None),
        ("127.0.0.1", "only_tls", "require", "", None),
        (
            "127.0.0.1",
            "only_tls",
            "require",
            "stranger.pem",
            Some("certificate"),
        ),
        ("127.0.0.1", "only_tls", "verify-ca", "ca.pem", None),
        (
            "127.0.0.1",
            "only_tls",
            "verify-ca",
            "stranger.pem",
            Some("certificate"),
        ),
        ("127.0.0.1", "only_tls", "verify-ca", "", Some("root_certificate")),
        ("localhost", "only_tls", "verify-full", "ca.pem", None),
        (
            "127.0.0.1",
            "only_tls",
            "verify-full",
            "ca.pem",
            Some("certificate"),
        ),
        (
            "localhost",
            "only_tls",
            "verify-full",
            "stranger.pem",
            Some("certificate"),
        ),
        (
            "localhost",
            "only_tls",
            "verify-full",
            "missing.pem",
            Some("missing.pem"),
        ),
    ] {
        let case = format!("{mode} as {role} to {host} with {root:?}");
        let product = Product::new(folder_of.path(), &configuration(host, role, mode, root));
        let output = product.run(&["check", "--json"]);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.success(), refused.is_none(), "{case}: {said}");
        if let Some(word) = refused {
            assert!(said.contains(word), "{case}: {said}");
        }
    }

    // Readers and the stream, each by the strictest mode, and neither by a server without TLS.
    let product = Product::new(
        folder_of.path(),
        &configuration("localhost", "only_tls", "verify-full", "ca.pem"),
    );
    let served = product.serve();
    settled(&served, &database, "main");
    database.execute("update item set name = 'encrypted' where id = 1");
    settled(&served, &database, "main");
    assert_eq!(
        difference(&served, &database, EXPECTED.0, EXPECTED.1, |_| true),
        None
    );
    let plain = "select count(*), count(*) filter (where a.backend_type = 'walsender') from pg_stat_ssl s
                 join pg_stat_activity a using (pid) where a.usename = 'only_tls' and s.ssl";
    let encrypted = database.query(plain).concat();
    assert!(encrypted[0] != "0" && encrypted[1] == "1", "{encrypted:?}");
    server.set(&[("ssl", "off")]);
    database.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'only_tls'");
    let told = reaches(&served, "the server without TLS to be named", |status| {
        let problem = source(status, "main")["problem"]["message"]
            .as_str()
            .unwrap_or_default();
        problem.contains("TLS")
    });
    assert_eq!(
        served.send("GET", "/item/_count", None, None).status,
        200,
        "{told}"
    );
    server.set(&[("ssl", "on")]);
    database.execute("update item set name = 'encrypted again' where id = 2");
    state(&served, "main", "waiting");
    settled(&served, &database, "main");
    assert_eq!(
        difference(&served, &database, EXPECTED.0, EXPECTED.1, |_| true),
        None
    );
    assert_eq!(served.stop(), Some(0));
    drop(product);
    database.execute(&format!(
        "select pg_drop_replication_slot('{}'); drop publication instep_main",
        database.name()
    ));
}

/// Rows from a replica, changes from its primary.
#[test]
fn a_replica_is_read_and_its_primary_followed() {
    if postgres::or_skip("a replica").is_none() {
        return;
    }
    let primary = Postgres::start(&[("fsync", "off")]);
    let database = primary.database("replica");
    database.execute(TABLES);
    let standby = primary.standby("copy", Replication::Asynchronous);
    standby.catch_up(&primary);
    let replica = standby.existing(database.name());
    let slot = database.name().to_owned();
    let stream = |url: &str| format!("stream_url = \"{url}\"");

    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::new(folder.path(), &at(&replica.url(), &slot, ""));
    let (found, code) = findings(&product, "stream_is_replica");
    assert_eq!(
        (code, found.len()),
        (Some(1), 1),
        "the replica has no stream: {found:?}"
    );
    assert!(
        found[0]["remedy"]
            .as_str()
            .is_some_and(|told| told.contains("stream_url")),
        "{found:?}"
    );

    let configuration = at(&replica.url(), &slot, &stream(&database.url()));
    let stage = Stage::over(database, &configuration, &[EXPECTED]);
    let (found, code) = findings(&stage.product, "");
    assert_eq!(code, Some(0), "{found:?}");
    let served = stage.serve();
    stage.after(
        &served,
        "changes on the primary",
        "update item set name = 'by way of the replica' where id < 9; delete from item where id = 9",
    );
    // The replica shows nothing of it: it is waited for, and said.
    standby.pause_replay();
    stage
        .database
        .execute("update item set name = 'held back' where id = 10");
    reaches(&served, "the wait for the replica to be named", |status| {
        let shown = source(status, "main");
        shown["waiting"].to_string().contains("repl")
            || shown["problem"].to_string().contains("repl")
            || status["sets"][0]["activity"]["problem"]
                .to_string()
                .contains("repl")
    });
    standby.resume_replay();
    stage.comes_in_step(&served, "a replica that lagged");
    stage.assert_verified(&served, "reading from a replica");
}

/// A process that ends with the test.
struct Pooler(Child);

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pooler(server: &Postgres, folder: &Path) -> Option<(Pooler, u16)> {
    let program = [
        "/usr/sbin/pgbouncer",
        "/usr/bin/pgbouncer",
        "/opt/homebrew/bin/pgbouncer",
    ];
    let Some(program) = program.into_iter().find(|program| Path::new(program).is_file()) else {
        let _ = std::io::stderr().write_all(b"SKIPPED a pooler: pgbouncer is missing\n");
        return None;
    };
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    };
    let configuration = folder.join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n",
        server.port()
    );
    std::fs::write(&configuration, text).expect("it is written");
    let mut command = Command::new(program);
    command
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // As root it refuses to run, like the server; whose files it is enough to be able to read.
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let owner = std::fs::metadata(server.data())
        .expect("the server's folder")
        .uid();
    if std::fs::metadata(folder).expect("a folder").uid() != owner {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("our own folder");
        command.uid(owner);
    }
    let pooler = Pooler(command.spawn().expect("pgbouncer runs"));
    eventually("the pooler to listen", PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some((pooler, port))
}

/// Rows through a pooler that lends its connections for one transaction, changes past it.
#[test]
fn rows_come_through_a_pooler() {
    if postgres::or_skip("a pooler").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = guarded();
    let Some((_pooler, port)) = pooler(server, folder.path()) else {
        return;
    };
    let database = server.database("pooled");
    database.execute(TABLES);
    let configuration = at(
        &database.url_through(port),
        database.name(),
        &format!("stream_url = \"{}\"", database.url()),
    );
    let stage = Stage::over(database, &configuration, &[EXPECTED]);
    let (found, code) = findings(&stage.product, "");
    assert_eq!(code, Some(0), "{found:?}");
    let served = stage.serve();
    for round in 0..5 {
        stage.after(
            &served,
            "changes past the pooler",
            &format!("update item set name = 'round {round}' where id % 5 = {round}; delete from inner_one.tag where item_id = {round}"),
        );
    }
    // The pooler's other clients find their sessions as they left them.
    let pooled = setting_of_another_client(&stage.database, port);
    assert_eq!(
        pooled, "postgres, MDY",
        "settings of ours stay in our transactions"
    );
    stage.assert_verified(&served, "a pooler");
    // The pooler alone has no stream.
    let alone = at(&stage.database.url_through(port), stage.database.name(), "");
    std::fs::write(stage.product.folder.join("instep.toml"), alone).expect("it is written");
    let (found, code) = findings(&stage.product, "");
    assert_eq!(code, Some(1), "{found:?}");
    assert!(
        found
            .iter()
            .any(|found| found["severity"] == "error" && found.to_string().contains("stream_url")),
        "{found:#?}"
    );
}

/// A setting that readers change for themselves, as another client of the pooler sees it.
fn setting_of_another_client(database: &Database, port: u16) -> String {
    let mut psql = postgres::available()
        .expect("the test began with a look")
        .command("psql");
    let output = psql
        .args(["-X", "-A", "-t", "-c", "select current_setting('IntervalStyle') || ', ' || split_part(current_setting('DateStyle'), ', ', 2)"])
        .arg(database.url_through(port))
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
