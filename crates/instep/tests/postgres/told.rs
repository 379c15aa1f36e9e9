//! What commands tell a person about a Postgres source: why a table cannot be indexed, what a role lacks, where a source
//! is, and what `rescan` does.

use std::time::Duration;

use instep_conformance::postgres::{self, Server as Postgres};
use serde_json::{Value, json};

use super::stage::{findings, source_of};
use crate::support::product::{Product, eventually};

/// A collection over this table, of which nothing but the name needs to be known.
fn collection_of(table: &str) -> String {
    let root = Value::from(table);
    format!("[collection.c]\nroot = {root}\npublic = true\nfields.id = \"long\"\n")
}

#[test]
fn why_a_table_is_not_among_those_that_can_be_read() {
    if postgres::or_skip("tables that cannot be indexed").is_none() {
        return;
    }
    let database = Postgres::shared().database("no_table");
    let role = format!("{}_reader", database.name());
    database.execute(&format!(
        "create schema other;
         create table item (id int primary key); create table other.hidden (id int primary key);
         create table parted (id int primary key) partition by list (id);
         create table parted_one partition of parted for values in (1);
         create view seen as select * from item; create materialized view kept as select * from item;
         create table keyless (id int);
         create role {role} login; grant usage on schema public to {role};
         grant select on item, parted, parted_one, seen, kept, keyless to {role};"
    ));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let folder = tempfile::tempdir().unwrap();
    for (table, code, subject, remedy) in [
        ("seen", "view", "public.seen", "name the tables that it reads"),
        (
            "kept",
            "materialized_view",
            "public.kept",
            "name the tables that it reads",
        ),
        (
            "public.parted_one",
            "partition",
            "public.parted_one",
            "name public.parted in",
        ),
        ("keyless", "no_primary_key", "public.keyless", "add primary key"),
        (
            "other.hidden",
            "schema_usage",
            "other",
            "grant usage on schema \"other\" to",
        ),
        (
            "other.hidden",
            "table_select",
            "other.hidden",
            "grant select on table \"other\".\"hidden\" to",
        ),
        (
            "nothing",
            "table_missing",
            "public.nothing",
            "correct the configuration",
        ),
        // A link table and a joined one are looked at like a root.
        ("item", "view", "public.seen", "name the tables that it reads"),
    ] {
        let mut configuration = format!(
            "[source.main]\nurl = \"{url}\"\nslot = \"{}\"\n{}",
            database.name(),
            collection_of(table)
        );
        if table == "item" {
            configuration +=
                "fields.joined = { table = \"seen\", on = \"seen.id = item.id\", fields = [\"id\"] }\n";
        }
        let product = Product::new(folder.path(), &configuration);
        let (all, exit) = findings(&product, "");
        assert_eq!(exit, Some(1), "{table}: {all:#?}");
        let found: Vec<_> = all.iter().filter(|found| found["code"] == code).collect();
        let [found] = found[..] else {
            panic!("{table}: {all:#?}");
        };
        assert_eq!(found["subject"], subject, "{table}: {found}");
        let told = found["remedy"].as_str().unwrap_or_default();
        assert!(told.contains(remedy), "{table}: {found}");
        // The configuration's own problem stands beside it.
        assert!(
            all.iter().any(|found| found["code"] == "bad_configuration"),
            "{table}: {all:#?}"
        );
    }
    database.execute(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn why_a_database_cannot_be_reached() {
    if postgres::or_skip("a database that cannot be reached").is_none() {
        return;
    }
    let database = Postgres::shared().database("unreached");
    let role = format!("{}_reader", database.name());
    database.execute(&format!(
        "create table item (id int primary key); create role {role} login; revoke all on database {} from public",
        database.name()
    ));
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let as_role = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let grant = format!("grant connect on database \"{}\" to \"{role}\"", database.name());
    let folder = tempfile::tempdir().unwrap();
    for (url, code, remedy) in [
        (
            database.url_through(free),
            "database_away",
            "whether the database runs",
        ),
        (as_role, "permission_denied", grant.as_str()),
    ] {
        let product = Product::new(
            folder.path(),
            &format!("[source.main]\nurl = \"{url}\"\n{}", collection_of("item")),
        );
        let (all, exit) = findings(&product, "");
        let wrong: Vec<_> = all.iter().filter(|found| found["severity"] == "error").collect();
        let [found] = wrong[..] else {
            panic!("{code}: {all:#?}");
        };
        assert_eq!((exit, &found["code"]), (Some(1), &json!(code)), "{found}");
        assert!(
            found["remedy"].as_str().unwrap_or_default().contains(remedy),
            "{found}"
        );
    }
    database.execute(&format!("drop owned by {role}; drop role {role}"));
}

/// One script of `check --sql`, run by somebody with the rights, is all that a role needs which may do nothing yet.
#[test]
fn one_script_gives_a_role_all_it_needs() {
    if postgres::or_skip("a role without any rights").is_none() {
        return;
    }
    let database = Postgres::shared().database("one_script");
    let role = format!("{}_reader", database.name());
    database.execute(&format!(
        "create schema \"Odd one\"; create table item (id int primary key, name text);
         create table \"Odd one\".tag (item_id int, word text, primary key (item_id, word));
         create table later (id int primary key);
         alter table \"Odd one\".tag enable row level security;
         insert into item values (1, 'a'), (2, 'b'); insert into \"Odd one\".tag values (1, 'x');
         revoke all on schema public from public; create role {role} login"
    ));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let configuration = format!(
        "[source.main]\nurl = \"{url}\"\nslot = \"{}\"\n[collection.item]\nroot = \"item\"\npublic = true\n\
         [collection.item.fields]\nname = \"text\"\n\
         tags = {{ table = \"Odd one.tag\", on = \"tag.item_id = item.id\", many = true, values = \"word\" }}\n",
        database.name()
    );
    let folder = tempfile::tempdir().unwrap();
    let product = Product::new(folder.path(), &configuration);
    let printed = |product: &Product| {
        let output = product.run(&["check", "--sql"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    // A first configuration has nothing in it yet, and says why.
    let first = product.run(&["init", &url]);
    let said = String::from_utf8_lossy(&first.stderr);
    assert!(
        first.status.success() && said.contains("no table that can be read"),
        "{said}"
    );

    let script = printed(&product);
    database.execute(&script);
    let (found, exit) = findings(&product, "");
    let wrong: Vec<_> = found
        .iter()
        .filter(|found| found["severity"] == "error")
        .collect();
    assert_eq!((exit, wrong.len()), (Some(0), 0), "after {script}: {wrong:#?}");
    assert!(printed(&product).contains("nothing more needs to be prepared"));
    assert_eq!(
        product.json(&["check", "--sql"])["sources"][0]["needed"],
        json!([])
    );
    let served = product.serve();
    let has = |id: &str, name: &str| {
        served
            .send("GET", &format!("/item/_doc/{id}"), None, None)
            .body
            .contains(name)
    };
    eventually("the first load", Duration::from_secs(30), || has("1", "x"));
    database.execute("update item set name = 'changed' where id = 2");
    eventually("a change", Duration::from_secs(30), || has("2", "changed"));
    assert_eq!(served.stop(), Some(0));

    // One more collection: the publication that is there is completed.
    let more =
        format!("{configuration}[collection.later]\nroot = \"later\"\npublic = true\nfields.id = \"long\"\n");
    let product = Product::new(folder.path(), &more);
    let script = printed(&product);
    assert!(
        script.contains("alter publication") && !script.contains("create publication"),
        "{script}"
    );
    assert!(!script.contains("pg_create_logical_replication_slot"), "{script}");
    database.execute(&script);
    let (found, exit) = findings(&product, "");
    assert_eq!(exit, Some(0), "{found:#?}");
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));

    // What is wrong with the configuration itself is said, not printed as SQL.
    let product = Product::new(
        folder.path(),
        &more.replace("root = \"later\"", "root = \"latr\""),
    );
    let said = product.refused(&["check", "--sql"], 2);
    assert!(said.contains("unknown table `latr`"), "{said}");
    database.execute(&format!(
        "select pg_drop_replication_slot('{}'); drop owned by {role}; drop role {role}",
        database.name()
    ));
}

/// `status` and `rescan` say what is true: beside a server, after it, and while the source is halted.
#[test]
fn what_status_and_rescan_say_is_true() {
    if postgres::or_skip("status and rescan").is_none() {
        return;
    }
    let database = Postgres::shared().database("told");
    database.execute(
        "create table item (id int primary key, maker_id int); create table maker (id int primary key, name text);
         insert into maker values (1, 'm'); insert into item select id, 1 from generate_series(1, 9) id",
    );
    let configuration = format!(
        "{}[collection.item]\nroot = \"item\"\npublic = true\n[collection.item.fields]\nid = \"long\"\n\
         maker = {{ table = \"maker\", on = \"item.maker_id = maker.id\", fields = [\"name\"] }}\n",
        source_of("main", &database)
    );
    let folder = tempfile::tempdir().unwrap();
    let product = Product::new(folder.path(), &configuration);
    let said = |arguments: &[&str], code: i32| {
        let output = product.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{error}");
        assert!(
            text.lines()
                .all(|line| line.len() < 400 && line.trim_end() == line),
            "{text}"
        );
        text
    };
    let status = || {
        let output = product.run(&["status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["sources"][0].clone()
    };
    assert!(
        product.refused(&["rescan", "main"], 2).contains("instep serve"),
        "there is no state yet"
    );

    let served = product.serve();
    eventually("the source to be followed", Duration::from_secs(30), || {
        let shown = status();
        shown["state"] == "followed" && shown["former"].is_array() && shown["position"].is_string()
    });
    let position = status()["position"].as_str().unwrap().to_owned();
    assert!(
        position.len() <= 17 && position.contains('/') && !position.contains(' '),
        "{position}"
    );
    let text = said(&["status"], 0);
    assert!(
        text.contains("main") && text.contains("followed") && text.contains(&position[..3]),
        "{text}"
    );
    assert!(text.contains("former parents of public.maker"), "{text}");
    // The root has no rows above it.
    assert!(!text.contains("public.item"), "{text}");
    let shown = served.status(None)["sources"][0].clone();
    assert!(!shown["position"].as_str().unwrap().contains(' '), "{shown}");

    // Beside a healthy server.
    let built = || {
        served.status(None)["sets"][0]["counts"]["scanned"]
            .as_u64()
            .unwrap()
    };
    let before = built();
    let text = said(&["rescan", "main"], 0);
    assert!(
        text.contains("the running process begins at once") && text.contains("(item)"),
        "{text}"
    );
    eventually("the scan from both sides", Duration::from_secs(30), || {
        built() >= before + 9
    });
    // The scan is written down before the position is forgotten, and that before the wish is.
    eventually("the wish to be carried out", Duration::from_secs(30), || {
        status()["rescan_asked"] == json!(false)
    });

    // After it.
    assert_eq!(served.stop(), Some(0));
    assert_eq!(status()["state"], "not_running");
    assert!(said(&["status"], 0).contains("not running"));
    let text = said(&["rescan", "main"], 0);
    assert!(
        text.contains("will be followed anew") && text.contains("nothing runs now"),
        "{text}"
    );
    assert!(said(&["status"], 0).contains("source main is to be followed anew"));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(status()["rescan_asked"], json!(false));

    // Halted: what was deleted meanwhile is found.
    database.execute(&format!(
        "select pg_drop_replication_slot('{}'); delete from item where id = 9",
        database.name()
    ));
    let served = product.serve();
    eventually("the source to be halted", Duration::from_secs(30), || {
        status()["state"] == "halted"
    });
    let text = said(&["status"], 1);
    assert!(
        text.contains("source main is halted") && text.contains("`instep rescan main`"),
        "{text}"
    );
    let count = || served.send("GET", "/item/_count", None, None).json()["count"].clone();
    assert_eq!(count(), json!(9), "search goes on with what is indexed");
    let text = said(&["rescan", "main"], 0);
    assert!(text.contains("search goes on with what is indexed"), "{text}");
    eventually("the deleted row to be gone", Duration::from_secs(30), || {
        count() == json!(8)
    });
    eventually("the source to be followed again", Duration::from_secs(30), || {
        status()["state"] == "followed"
    });
    said(&["status"], 0);
    assert_eq!(served.stop(), Some(0));
}
