//! The commands: what they answer in words and in JSON, their exit codes, and how they refuse.

use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::shop;

fn told(output: &Output) -> (String, String) {
    (
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

/// A product and its sellers, for everybody.
const SMALL: &str = "[source.shop]\nurl = \"sqlite:shop.db\"\n[collection.product]\nroot = \"product\"\npublic = true\n[collection.product.fields]\ntitle = { type = \"text\", from = \"name\" }\nprice = \"decimal\"\nstocked_on = \"date\"\nseller = { table = \"seller\", fields = [\"name\"] }\n";

#[test]
fn every_command_answers_in_words_and_in_json() {
    let folder = tempfile::tempdir().unwrap();
    drop(shop::write(folder.path()));
    let product = Product::at(folder.path());
    let made = product.json(&["init", "sqlite:shop.db"])["configuration"]
        .as_str()
        .unwrap()
        .to_owned();
    let (text, noise) = told(&product.run(&["init", "sqlite:shop.db"]));
    assert_eq!((text.trim_end(), noise.as_str()), (made.trim_end(), ""));
    for part in [
        "[collection.product]",
        "readers  = \"acl_readers\"",
        "[collection.seller]",
        "through = \"product_tag\"",
        "# ",
    ] {
        assert!(made.contains(part), "{part} in {made}");
    }
    std::fs::write(folder.path().join("instep.toml"), made).unwrap();

    for (arguments, words, member) in [
        (&["check"][..], "0 errors", "findings"),
        (&["sync", "--once"], "main (active)", "complete"),
        (&["sync", "--once", "--rescan"], "main (active)", "complete"),
        (&["status"], "following", "sets"),
        (&["verify"], "in step", "differences"),
        (&["config", "print"], "writer_memory_mb = 128", "configuration"),
        (&["config", "schema"], "$schema", "properties"),
    ] {
        let output = product.run(arguments);
        let (text, noise) = told(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{text}\n{noise}");
        assert!(text.contains(words), "{arguments:?}: {text}");
        assert!(
            !noise.contains("WARN") && !noise.contains("error"),
            "{arguments:?}: {noise}"
        );

        let output = product.run(&[arguments, &["--json"]].concat());
        let (text, noise) = told(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{text}\n{noise}");
        let json: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"));
        assert!(json.get(member).is_some(), "{arguments:?}: {json}");
        for line in noise.lines() {
            serde_json::from_str::<Value>(line)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {line}"));
        }
    }
    let status = product.json(&["status"]);
    let set = &status["sets"][0];
    assert_eq!(
        (&set["lag"], &set["conserved"], &set["active"]),
        (&json!(0), &json!(true), &json!(true)),
        "{set}"
    );
    // What is printed is a configuration again.
    let printed = product.json(&["config", "print"])["configuration"]
        .as_str()
        .unwrap()
        .to_owned();
    std::fs::write(folder.path().join("printed.toml"), &printed).unwrap();
    let again = product.json(&["config", "print", "--config", "printed.toml"])["configuration"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        again.lines().skip(1).collect::<Vec<_>>(),
        printed.lines().skip(1).collect::<Vec<_>>()
    );

    assert_eq!(product.run(&["--version"]).status.code(), Some(0));
    for wrong in [
        &["sync"][..],
        &["frobnicate"],
        &["serve", "--listen", "nowhere"],
        &["status", "--log", "[["],
    ] {
        product.refused(wrong, 2);
    }
}

#[test]
fn the_first_sync_indexes_and_the_next_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), SMALL);
    let scanned = |answer: &Value| answer["sets"][0]["counts"]["scanned"].as_u64().unwrap();
    let first = product.json(&["sync", "--once"]);
    assert_eq!(
        (first["complete"].clone(), scanned(&first)),
        (json!(true), 5),
        "{first}"
    );
    let nothing = product.json(&["sync", "--once"]);
    assert_eq!(
        scanned(&nothing),
        5,
        "nothing changed, so nothing is read again: {nothing}"
    );
    database
        .execute("update product set name = 'Green bicycle' where id = 3", [])
        .unwrap();
    let third = product.json(&["sync", "--once"]);
    let counts = &third["sets"][0]["counts"];
    assert_eq!((scanned(&third), &counts["indexed"]), (5, &json!(1)), "{third}");
    let status = product.json(&["status"]);
    assert_eq!(status["sets"][0]["counts"], *counts);
}

#[test]
fn errors_name_file_line_cause_and_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let changed = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from}");
        SMALL.replace(from, to)
    };
    for (text, place, parts) in [
        (changed("root = ", "rooot = "), ":4:", &["rooot", "root"][..]),
        (
            changed("root = \"product\"", "root = \"prodcut\""),
            ":4:",
            &["prodcut", "product"],
        ),
        (
            changed("\"decimal\"", "\"desimal\""),
            ":8:",
            &["desimal", "decimal", "keyword"],
        ),
        (
            changed("price = \"decimal\"", "prize = \"decimal\""),
            ":8:",
            &["prize", "price"],
        ),
        (
            changed("[\"name\"]", "[\"nmae\"]"),
            ":10:",
            &["nmae", "country", "name"],
        ),
        (
            changed("table = \"seller\"", "table = \"sellers\""),
            ":10:",
            &["sellers", "seller"],
        ),
        (changed("public = true", "public = 1"), ":5:", &["true or false"]),
        (changed("public = true", ""), ":3:", &["readers", "public"]),
        (changed("sqlite:shop.db", "mysql:shop"), ":2:", &["sqlite:"]),
        (
            format!("{SMALL}[server]\nlisten = \"localhst\"\n"),
            ":12:",
            &["localhst", "127.0.0.1:9200"],
        ),
        (
            format!("{SMALL}[set.b]\ncluster = \"nowhere\"\n"),
            ":12:",
            &["nowhere", "embedded"],
        ),
        (format!("{SMALL}["), ":11:", &[]),
    ] {
        let product = Product::new(folder.path(), &text);
        for command in [&["sync", "--once"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let said = product.refused(command, 2);
            assert!(said.contains(&format!("instep.toml{place}")), "{place} in {said}");
            for part in parts {
                assert!(said.contains(part), "{part} in {said}");
            }
            let error: Value =
                serde_json::from_str(product.refused(&[command, &["--json"]].concat(), 2).trim()).unwrap();
            assert_eq!(error["error"]["code"], json!("bad_configuration"), "{error}");
        }
        let output = product.run(&["check"]);
        assert!(
            [Some(1), Some(2)].contains(&output.status.code()),
            "check of {text}"
        );
    }
    // Nothing was written: no state, no trigger, no change table.
    assert!(!folder.path().join("instep-state").exists());
    let ours: i64 = database
        .query_row(
            "select count(*) from sqlite_schema where name like '%instep%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(ours, 0);

    let product = Product::new(folder.path(), SMALL);
    let said = product.refused(&["status"], 2);
    assert!(
        said.contains("instep-state") && said.contains("next: ") && said.contains("instep serve"),
        "{said}"
    );
    let said = product.refused(&["status", "--config", "elsewhere.toml"], 2);
    assert!(
        said.contains("elsewhere.toml") && said.contains("instep init"),
        "{said}"
    );
    let said = product.refused(&["init", "sqlite:nowhere.db"], 1);
    assert!(said.contains("nowhere.db") && said.contains("next: "), "{said}");
    assert!(
        !folder.path().join("nowhere.db").exists(),
        "a misspelt name makes no database"
    );
    let missing = Product::new(folder.path(), &SMALL.replace("shop.db", "gone.db"));
    for command in [&["check"][..], &["sync", "--once"]] {
        let output = missing.run(command);
        let (text, noise) = told(&output);
        assert!(
            !output.status.success() && (text + &noise).contains("gone.db"),
            "{command:?}"
        );
    }
    assert!(!folder.path().join("gone.db").exists());
}

#[test]
fn check_names_what_mends_it_and_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = Connection::open(folder.path().join("shop.db")).unwrap();
    database.execute_batch(shop::SCHEMA).unwrap();
    let text = SMALL.to_owned()
        + "reviews = { table = \"review\", many = true, fields = [\"body\"] }\ntags = { table = \"tag\", through = \"product_tag\", many = true, values = \"name\" }\n";
    let product = Product::new(folder.path(), &text);
    let wanting = |found: &Value| -> Vec<(String, String, String)> {
        let text = |found: &Value, name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let all = found["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|found| found["severity"] != "ok");
        all.map(|found| (text(found, "code"), text(found, "subject"), text(found, "remedy")))
            .collect()
    };
    let found = product.json(&["check"]);
    assert_eq!(found["ok"], json!(true));
    let found = wanting(&found);
    let of = |code: &str| {
        found
            .iter()
            .filter(|(known, ..)| known == code)
            .map(|(_, subject, remedy)| (subject.as_str(), remedy.as_str()))
            .collect::<Vec<_>>()
    };
    assert!(
        matches!(of("journal_mode")[..], [("shop.db", remedy)] if remedy.contains("wal")),
        "{found:?}"
    );
    let missing: Vec<&str> = of("missing_index").iter().map(|(subject, _)| *subject).collect();
    assert_eq!(
        missing,
        ["product.seller_id", "product_tag.tag_id", "review.product_id"]
    );
    let (words, _) = told(&product.run(&["check"]));
    for (_, _, remedy) in &found {
        assert!(
            words.contains(remedy.lines().next().unwrap()),
            "{remedy} in {words}"
        );
        // Exactly as printed.
        database
            .execute_batch(remedy)
            .unwrap_or_else(|error| panic!("{error}: {remedy}"));
    }
    assert_eq!(wanting(&product.json(&["check"])), []);
}

#[test]
fn tables_without_a_key_and_open_doors_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    database
        .execute_batch("create table keyless (name text, product_id integer references product (id))")
        .unwrap();
    let root = SMALL
        .replace("root = \"product\"", "root = \"keyless\"")
        .replace("price = \"decimal\"\n", "")
        .replace("stocked_on = \"date\"\n", "");
    let root = root
        .lines()
        .filter(|line| !line.starts_with("seller"))
        .collect::<Vec<_>>()
        .join("\n");
    let joined = format!("{SMALL}notes = {{ table = \"keyless\", many = true, values = \"name\" }}\n");
    for text in [root, joined] {
        let product = Product::new(folder.path(), &text);
        for command in [&["sync", "--once"][..], &["serve", "--listen", "127.0.0.1:0"]] {
            let said = product.refused(command, 2);
            assert!(said.contains("keyless") && said.contains("primary key"), "{said}");
        }
        let output = product.run(&["check"]);
        let (words, noise) = told(&output);
        assert!(
            !output.status.success() && (words + &noise).contains("keyless"),
            "check"
        );
    }

    let open = format!("{SMALL}[server]\nlisten = \"0.0.0.0:0\"\n");
    let product = Product::new(folder.path(), &open);
    let words = product.refused(&["serve"], 2);
    assert!(
        words.contains("0.0.0.0") && words.contains("key") && words.contains("next: "),
        "{words}"
    );
    let (words, _) = told(&product.run(&["check"]));
    assert!(words.contains("ERROR") && words.contains("0.0.0.0"), "{words}");
    product.refused(&["check"], 1);
    let product = Product::new(folder.path(), SMALL);
    product.refused(&["serve", "--listen", "0.0.0.0:0"], 2);
    product.refused(&["serve", "--listen", "[::]:0"], 2);
    // With a key it listens.
    let product = Product::new(folder.path(), &shop::configuration());
    let server = Server::start(
        product
            .command(&["serve", "--json", "--listen", "0.0.0.0:0"])
            .stderr(Stdio::null()),
    );
    assert!(server.said["address"].as_str().unwrap().starts_with("0.0.0.0:"));
    let port = server.address.port();
    let answer =
        crate::support::http::send(([127, 0, 0, 1], port).into(), "GET", "/", Some(shop::STAFF), None)
            .unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_row_that_cannot_be_indexed_fails_sync_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let broken = "a price beyond words";
    database
        .execute("update product set price = ?1 where id = 2", [broken])
        .unwrap();
    let product = Product::new(folder.path(), SMALL);
    let output = product.run(&["sync", "--once"]);
    let (words, noise) = told(&output);
    assert_eq!(output.status.code(), Some(1), "{words}\n{noise}");
    assert!(
        words.contains("not indexed: product/2 in set main") && words.contains("price"),
        "{words}"
    );
    assert!(
        !words.contains(broken) && !noise.contains(broken),
        "no value of a row: {words}\n{noise}"
    );

    let output = product.run(&["sync", "--once", "--json"]);
    let (words, _) = told(&output);
    let answer: Value = serde_json::from_str(&words).unwrap();
    assert_eq!(
        (output.status.code(), &answer["complete"]),
        (Some(1), &json!(false))
    );
    let trouble = &answer["troubles"][0];
    assert_eq!(
        (&trouble["collection"], &trouble["key"], &trouble["dead"]),
        (&json!("product"), &json!("2"), &json!(true)),
        "{answer}"
    );
    assert_eq!(answer["sets"][0]["counts"]["dead_letters"], json!(1));
    assert!(!words.contains(broken));

    // The others are there, and the next touch tries again.
    let server = product.serve();
    let count = server.send("GET", "/product/_count", None, None).json()["count"].clone();
    assert_eq!((server.stop(), count), (Some(0), json!(4)));
    database
        .execute("update product set price = 7 where id = 2", [])
        .unwrap();
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(
        product.json(&["status"])["sets"][0]["counts"]["dead_letters"],
        json!(0)
    );
}

#[test]
fn secrets_are_in_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let [from_environment, from_file, literal] = [
        "env-5ca1ab1e-0123456789",
        "file-5ca1ab1e-0123456789",
        "text-5ca1ab1e-0123456789",
    ];
    std::fs::write(folder.path().join("key.txt"), format!("{from_file}\n")).unwrap();
    let key = |name: &str, secret: &str, scope: &str| {
        format!("[key.{name}]\nsecret = \"{secret}\"\nsubject = \"{name}\"\nscopes = [\"{scope}\"]\n")
    };
    let keys = [
        key("a", "${SHOP_KEY}", "search"),
        key("b", "file:key.txt", "operate"),
        key("c", literal, "search"),
    ]
    .concat();
    let good = format!("{SMALL}{keys}");
    let product = Product::new(folder.path(), &good).with("SHOP_KEY", from_environment);
    let mut everything = String::new();
    let mut keep = |output: &Output| {
        let (words, noise) = told(output);
        everything.push_str(&words);
        everything.push_str(&noise);
    };
    for command in [
        &["check"][..],
        &["sync", "--once"],
        &["sync", "--once", "--rescan"],
        &["status"],
        &["config", "print"],
        &["config", "schema"],
        &["init", "sqlite:shop.db"],
    ] {
        for more in [&["--log", "trace"][..], &["--json", "--log", "trace"]] {
            let output = product.run(&[command, more].concat());
            assert_eq!(output.status.code(), Some(0), "{command:?}: {:?}", told(&output));
            keep(&output);
        }
    }
    // A server that logs everything, asked with each key, in each way a key can be sent, and with wrong ones.
    let log = std::fs::File::create(folder.path().join("log.txt")).unwrap();
    let mut command = product.command(&["serve", "--json", "--listen", "127.0.0.1:0", "--log", "trace"]);
    let server = Server::start(command.stderr(log));
    database
        .execute("update product set name = 'Bicycle' where id = 1", [])
        .unwrap();
    let mut answers = String::new();
    for secret in [from_environment, from_file, literal, "wrong-5ca1ab1e-0123456789"] {
        for path in [
            "/",
            "/product/_search",
            "/_instep/status",
            "/metrics",
            "/nowhere",
            "/product/_search?x=y",
        ] {
            answers.push_str(&server.send("GET", path, Some(secret), None).body);
        }
    }
    assert!(
        answers.contains("\"hits\"") && answers.contains("instep_set_lag"),
        "the keys work"
    );
    assert_eq!(server.stop(), Some(0));
    everything.push_str(&answers);
    std::fs::File::open(folder.path().join("log.txt"))
        .unwrap()
        .read_to_string(&mut everything)
        .unwrap();
    // Configurations that are wrong in the very line of a secret.
    for wrong in [
        good.replace(literal, "5ca1ab1e"),
        good.replace(&format!("\"{literal}\""), &format!("\"{literal}")),
        good.replace(&format!("\"{literal}\""), &format!("[\"{literal}\"]")),
        good.replace("secret = \"text", "sekret = \"text"),
        good.replace("${SHOP_KEY}", literal),
        good.replace("${SHOP_KEY}", "${NO_SUCH_KEY}"),
        good.replace("file:key.txt", "file:no-such.txt"),
        good.replace(literal, &format!("{literal} with blanks")),
    ] {
        assert_ne!(wrong, good);
        let product = Product::new(folder.path(), &wrong).with("SHOP_KEY", from_environment);
        for more in [&[][..], &["--json"]] {
            let output = product.run(&[&["sync", "--once"], more].concat());
            assert_eq!(output.status.code(), Some(2));
            keep_all(&mut everything, &output);
        }
    }
    assert!(
        everything.contains("NO_SUCH_KEY") && everything.contains("no-such.txt"),
        "errors name what is missing"
    );
    if let Some(at) = everything.find("5ca1ab1e") {
        let from = everything.floor_char_boundary(at.saturating_sub(200));
        panic!(
            "a secret was told: {}",
            &everything[from..everything.floor_char_boundary(at + 40)]
        );
    }
    no_secret_in(&folder.path().join("instep-state"), b"5ca1ab1e");
}

fn keep_all(everything: &mut String, output: &Output) {
    let (words, noise) = told(output);
    everything.push_str(&words);
    everything.push_str(&noise);
}

fn no_secret_in(folder: &Path, secret: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret_in(&path, secret);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret),
                "a secret is in {}",
                path.display()
            );
        }
    }
}

#[test]
fn one_process_indexes_and_others_look_on() {
    let folder = tempfile::tempdir().unwrap();
    let database = shop::write(folder.path());
    let product = Product::new(folder.path(), SMALL);
    let server = product.serve();
    eventually("the first load", Duration::from_secs(20), || {
        server
            .send("GET", "/product/_count", None, None)
            .body
            .contains("\"count\":5")
    });
    for second in [&["serve", "--listen", "127.0.0.1:0"][..], &["sync", "--once"]] {
        let said = product.refused(second, 1);
        assert!(
            said.contains("another process") && said.contains("instep-state") && said.contains("next: "),
            "{said}"
        );
    }
    let found = product.json(&["check"]);
    let findings = found["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|found| found["code"] == json!("state_in_use")),
        "{found}"
    );
    database
        .execute("update product set name = 'Seen by both' where id = 1", [])
        .unwrap();
    eventually("the change to be counted", Duration::from_secs(10), || {
        let beside = product.json(&["status"])["sets"][0]["counts"].clone();
        beside["indexed"] == json!(1) && beside == server.status(None)["sets"][0]["counts"]
    });
    assert_eq!(product.json(&["verify"])["differences"], json!(0));

    // Another shop, and the same port.
    let other = tempfile::tempdir().unwrap();
    drop(shop::write(other.path()));
    let address = server.address.to_string();
    let said = Product::new(other.path(), SMALL).refused(&["serve", "--listen", &address], 1);
    assert!(said.contains(&address) && said.contains("next: "), "{said}");
    assert!(!other.path().join("instep-state").exists(), "nothing was begun");
    assert_eq!(server.stop(), Some(0));
    // The configuration may lie elsewhere; paths in it start where it lies.
    let elsewhere = Product::at(other.path()).with(
        "INSTEP_CONFIG",
        folder.path().join("instep.toml").to_str().unwrap(),
    );
    assert_eq!(
        elsewhere.json(&["status"])["sets"][0]["counts"]["indexed"],
        json!(1)
    );
}

/// What is wrong with a value by a schema; of the words of JSON Schema only those below are known.
fn problems(schema: &Value, root: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut found = Vec::new();
    let each = schema
        .as_object()
        .unwrap_or_else(|| panic!("a schema is an object, not {schema}"));
    for (word, says) in each {
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => {}
            "$ref" => {
                let target = root.pointer(says.as_str().unwrap().strip_prefix('#').unwrap());
                found.extend(problems(
                    target.unwrap_or_else(|| panic!("{says} leads nowhere")),
                    root,
                    value,
                    place,
                ));
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                if !says
                    .as_array()
                    .map_or_else(|| is(says), |names| names.iter().any(is))
                {
                    found.push(format!("{place} is not {says}"));
                }
            }
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        found.extend(problems(schema, root, value, &format!("{place}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                let known = |name: &String| {
                    each.get("properties")
                        .is_some_and(|known| known.get(name).is_some())
                };
                for (name, value) in value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(name, _)| !known(name))
                {
                    match says {
                        Value::Bool(false) => found.push(format!("{place}.{name} is not known")),
                        Value::Bool(true) => {}
                        schema => found.extend(problems(schema, root, value, &format!("{place}.{name}"))),
                    }
                }
            }
            "required" => {
                let missing = says
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|name| value.is_object() && value.get(name.as_str().unwrap()).is_none());
                found.extend(missing.map(|name| format!("{place} has no {name}")));
            }
            "items" => {
                for (at, value) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(problems(says, root, value, &format!("{place}[{at}]")));
                }
            }
            "anyOf" | "oneOf" => {
                let matching = says
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|schema| problems(schema, root, value, place).is_empty())
                    .count();
                if matching == 0 || (word == "oneOf" && matching > 1) {
                    found.push(format!("{place} fits {matching} of {word}"));
                }
            }
            "enum" | "const" => {
                if !(*says == *value || says.as_array().is_some_and(|all| all.contains(value))) {
                    found.push(format!("{place} is not one of {says}"));
                }
            }
            "minimum" | "maximum" => {
                let (limit, number) = (says.as_f64().unwrap(), value.as_f64());
                let outside = |number: f64| {
                    if word == "minimum" {
                        number < limit
                    } else {
                        number > limit
                    }
                };
                if number.is_some_and(outside) {
                    found.push(format!("{place} is beyond {word} {says}"));
                }
            }
            other => panic!("`{other}` is no word of JSON Schema that is known here"),
        }
    }
    found
}

#[test]
fn the_schema_accepts_what_the_configuration_does() {
    let folder = tempfile::tempdir().unwrap();
    drop(shop::write(folder.path()));
    let product = Product::at(folder.path());
    let schema = product.json(&["config", "schema"]);
    assert!(
        schema["$schema"].as_str().unwrap().contains("json-schema.org"),
        "{}",
        schema["$schema"]
    );
    let check = |text: &str| {
        let value: toml::Table = text.parse().unwrap();
        problems(&schema, &schema, &serde_json::to_value(value).unwrap(), "")
    };
    let readme = include_str!("../../../README.md")
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let made = product.json(&["init", "sqlite:shop.db"])["configuration"]
        .as_str()
        .unwrap()
        .to_owned();
    let sets = "[cluster.second]\nengine = \"embedded\"\nwriter_memory_mb = 32\n[set.a]\ncluster = \"second\"\nactive = true\n[state]\npath = \"kept\"\n[server]\nlisten = \"127.0.0.1:0\"\n";
    for good in [
        readme,
        &made,
        SMALL,
        &shop::configuration(),
        &format!("{SMALL}{sets}"),
    ] {
        assert_eq!(check(good), Vec::<String>::new(), "{good}");
    }
    for (wrong, expected) in [
        (
            SMALL.replace("root = ", "rooot = "),
            ".collection.product.rooot is not known",
        ),
        (
            SMALL.replace("public = true", "public = 1"),
            ".collection.product.public is not [\"boolean\",\"null\"]",
        ),
        (
            SMALL.replace("url = \"sqlite:shop.db\"", ""),
            ".source.shop has no \"url\"",
        ),
        (
            SMALL.replace("[\"name\"]", "\"name\""),
            ".collection.product.fields.seller fits 0 of anyOf",
        ),
        (
            format!("{SMALL}[cluster.c]\nengine = \"embedded\"\nwriter_memory_mb = \"much\"\n"),
            ".cluster.c.writer_memory_mb is not",
        ),
        (
            format!("{SMALL}[key.k]\nsecret = \"s\"\nsubject = \"x\"\n"),
            ".key.k has no \"scopes\"",
        ),
    ] {
        let found = check(&wrong);
        assert!(
            found.iter().any(|found| found.starts_with(expected)),
            "{expected}: {found:?}"
        );
        // And the binary agrees.
        let product = Product::new(folder.path(), &wrong);
        product.refused(&["config", "print"], 2);
    }
}

/// A set that the configuration no longer names is nobody's work, and `status` says so.
#[test]
fn a_removed_set_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let database = rusqlite::Connection::open(folder.path().join("a.db")).unwrap();
    database
        .execute_batch(
            "create table thing (id integer primary key, name text); insert into thing values (1, 'a');",
        )
        .unwrap();
    let with_sets = |sets: &str| {
        format!(
            "[source.a]\nurl = \"sqlite:a.db\"\n[collection.thing]\nroot = \"thing\"\npublic = true\n\
             [collection.thing.fields]\nname = \"keyword\"\n{sets}"
        )
    };
    let product = Product::new(folder.path(), &with_sets("[set.a]\nactive = true\n[set.b]\n"));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    database.execute("insert into thing values (2, 'b')", []).unwrap();
    let product = Product::new(folder.path(), &with_sets("[set.b]\nactive = true\n"));
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let said = String::from_utf8(product.run(&["status"]).stdout).unwrap();
    assert!(said.contains("a is not in the configuration"), "{said}");
}

/// A source that is halted is named by `status`, beside the server and after it, with the way on; the way on works.
#[test]
fn a_halted_source_is_named_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table thing (id integer primary key, name text); insert into thing values (1, 'a');",
        )
        .unwrap();
    let product = Product::new(
        folder.path(),
        "[source.a]\nurl = \"sqlite:a.db\"\n[collection.thing]\nroot = \"thing\"\npublic = true\n[collection.thing.fields]\nname = \"keyword\"\n",
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    std::fs::copy(&path, folder.path().join("backup.db")).unwrap();
    database
        .execute_batch("insert into thing values (2, 'b'); update thing set name = 'c';")
        .unwrap();
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    drop(database);
    std::fs::copy(folder.path().join("backup.db"), &path).unwrap();

    let done = product.run(&["sync", "--once"]);
    assert!(!done.status.success());
    let status = product.run(&["status"]);
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(
        !status.status.success() && said.contains("source a is halted") && said.contains("instep rescan a"),
        "{said}"
    );
    assert_eq!(
        product.json(&["sync", "--once", "--rescan"])["complete"],
        json!(true)
    );
    assert_eq!(product.json(&["status"])["halted_sources"], json!([]));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));
}
