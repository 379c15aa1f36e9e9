//! What `docs/postgres.md` says, done word for word.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use instep_conformance::postgres::{self, Server as Postgres};

use crate::support::product::{Product, Server, eventually};

const PAGE: &str = include_str!("../../../../docs/postgres.md");

/// The fenced blocks of a language below a heading.
fn blocks(heading: &str, language: &str) -> Vec<&'static str> {
    let (_, section) = PAGE
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("```{language}\n");
    let blocks = section.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

const SCHEMA: &str = "
    create table product (id int primary key, title text);
    create table review (id int primary key, product_id int not null references product, body text);
    create index on review (product_id);
    insert into product values (1, 'A bicycle'); insert into review values (1, 1, 'it rolls');";

/// A server of its own: the page names role and slot.
fn server() -> Postgres {
    let server = Postgres::start(&[("fsync", "off")]);
    server
        .set_network_access("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256");
    server
}

#[test]
fn from_nothing() {
    if postgres::or_skip("the page about Postgres").is_none() {
        return;
    }
    let server = server();
    let database = server.database("shop");
    database.execute(SCHEMA);
    let ([prepare], [commands]) = (
        &blocks("From nothing", "sql")[..],
        &blocks("From nothing", "sh")[..],
    ) else {
        panic!("one block for each side");
    };
    database.execute(prepare);
    let lines: Vec<String> = commands
        .replace(
            "db.example:5432/shop",
            &format!("127.0.0.1:{}/{}", server.port(), database.name()),
        )
        .lines()
        .map(str::to_owned)
        .collect();
    let [export, init, prepare, check, serve] = &lines[..] else {
        panic!("five commands: {lines:?}");
    };
    assert_eq!(serve, "instep serve");
    let folder = tempfile::tempdir().unwrap();
    let shell = |line: &str| {
        let binary = Path::new(env!("CARGO_BIN_EXE_instep")).parent().unwrap();
        let psql = server.binaries().command("psql");
        let psql = Path::new(psql.get_program()).parent().unwrap().to_owned();
        #[allow(clippy::disallowed_methods, reason = "a shell needs the path it always has")]
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{export}\n{line}")])
            .current_dir(folder.path())
            .env("PATH", format!("{}:{}:{path}", binary.display(), psql.display()));
        command.stdin(Stdio::null()).env_remove("INSTEP_CONFIG");
        command
    };
    for line in [init, prepare, check] {
        let output = shell(line).output().unwrap();
        let (out, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && said.is_empty(),
            "{line}\n{out}\n{said}"
        );
    }
    let written = std::fs::read_to_string(folder.path().join("instep.toml")).unwrap();
    assert!(
        written.contains("${INSTEP_PASSWORD}") && !written.contains("change-me"),
        "{written}"
    );
    let served = Server::start(shell(&format!("exec {serve} --json --listen 127.0.0.1:0")));
    let holds = |text: &str| {
        served
            .send("GET", "/product/_doc/1", None, None)
            .body
            .contains(text)
    };
    eventually("the first load", Duration::from_secs(30), || holds("it rolls"));
    database.execute("update review set body = 'it rolls well'");
    eventually("a change", Duration::from_secs(30), || holds("it rolls well"));
    assert_eq!(served.stop(), Some(0));
}

/// The publication, the options of a source, and the slot that is dropped, as they are spelled there.
#[test]
fn what_is_spelled_out_holds() {
    if postgres::or_skip("statements of the page about Postgres").is_none() {
        return;
    }
    let server = server();
    let database = server.database("shop");
    database.execute(SCHEMA);
    let ([publication], [source]) = (
        &blocks("The publication", "sql")[..],
        &blocks("In the configuration", "toml")[..],
    ) else {
        panic!("one block each");
    };
    database.execute(publication);
    // Without TLS, which this server has not.
    let source = source
        .replace(
            "postgres://instep@db.example:5432/shop?sslmode=verify-full",
            &format!("{}?sslmode=disable", database.url()),
        )
        .replace(
            "root_certificate = \"authority.pem\"",
            "root_certificate = \"system\"",
        )
        .replace("# slot", "slot")
        .replace("# publication", "publication");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.password"), "change-me\n").unwrap();
    let collection = "[collection.product]\nroot = \"product\"\npublic = true\n[collection.product.fields]\ntitle = \"text\"\n\
         reviews = { table = \"review\", many = true, fields = [\"body\"] }\n";
    let product = Product::new(folder.path(), &format!("{source}{collection}"));
    assert_eq!(product.json(&["check"])["ok"], true);
    assert_eq!(product.json(&["sync", "--once"])["complete"], true);
    let told = product.run(&["rescan", "shop"]);
    assert!(PAGE.contains("`instep rescan shop`") && told.status.success());
    assert_eq!(product.json(&["sync", "--once"])["complete"], true);
    let dropped = PAGE
        .split('`')
        .find(|text| text.starts_with("select pg_drop_replication_slot"));
    database.execute(dropped.expect("the page says how a slot is dropped"));
    let slots = "select count(*) from pg_replication_slots where slot_name = 'instep_shop'";
    assert_eq!(database.value(slots), "0");
}
