//! The Tate Collection in Postgres: three collections over its tables, the documents that plain SQL makes of them, and a
//! comparison of both.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use instep_conformance::postgres::Database;
use serde_json::{Value, json};

use crate::support::product::{Product, Server, eventually};
use crate::support::tate;

/// Beside the artworks: the groups they are shown in, and the tree of subjects. Rows of both are led to by columns that
/// are not in the key of the row that holds them.
pub const MORE_COLLECTIONS: &str = r#"
[collection.catalogue_group]
source   = "tate"
root     = "catalogue_group"
language = "en"
public   = true

[collection.catalogue_group.fields]
title    = "text"
type     = "keyword"
artworks = { table = "artwork", on = "artwork.group_id = catalogue_group.id", many = true, fields = ["acno", "title"] }

[collection.subject]
source   = "tate"
root     = "subject"
language = "en"
public   = true

[collection.subject.fields]
name     = "text"
parent   = { table = "subject", as = "parent", on = "subject.parent_id = parent.id", fields = ["name"] }
children = { table = "subject", as = "child", on = "child.parent_id = subject.id", many = true, values = "name" }
"#;

/// What plain SQL says the documents are, by collection: statements that return id and document.
const EXPECTED: [(&str, &str); 3] = [
    ("artwork", include_str!("../support/tate.sql")),
    (
        "catalogue_group",
        "select g.id, json_build_object('title', g.title, 'type', g.type, 'artworks', coalesce(
             (select json_agg(json_build_object('acno', a.acno, 'title', a.title) order by a.id) from artwork a where a.group_id = g.id),
             '[]'::json))
         from catalogue_group g",
    ),
    (
        "subject",
        "select s.id, json_build_object('name', s.name,
             'parent', (select json_build_object('name', p.name) from subject p where p.id = s.parent_id),
             'children', coalesce((select json_agg(c.name order by c.id) from subject c where c.parent_id = s.id), '[]'::json))
         from subject s",
    ),
];

/// The configuration over this database.
pub fn configuration(url: &str) -> String {
    let source = format!("[source.tate]\nurl = \"{url}\"\n");
    format!("{source}{}{MORE_COLLECTIONS}", tate::COLLECTION)
}

/// Creates the tables and fills them. `last`: only artworks with an id up to it, for tests that repeat much.
pub fn load(data: &Path, database: &Database, last: Option<i64>) {
    database.execute(tate::SCHEMA);
    // Without it each statement below, on a table that nobody analysed, is planned as if tables were empty.
    database.execute("create index subject_parent on subject (parent_id)");
    for table in tate::TABLES {
        let mut rows = String::new();
        let file = std::fs::File::open(data.join(format!("{table}.csv.gz"))).expect("the table's file");
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut rows)
            .expect("the file is text");
        let columns = rows.lines().next().expect("a header").to_owned();
        let copy = format!("\\copy {table} ({columns}) from pstdin (format csv, header)");
        let mut child = database
            .psql()
            .args(["-c", &copy])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql runs");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(rows.as_bytes()).expect("psql reads");
        drop(input);
        assert!(child.wait().expect("psql ends").success(), "loading {table}");
    }
    if let Some(last) = last {
        database.execute(&format!(
            "delete from artwork_subject where artwork_id > {last};
             delete from artwork_artist where artwork_id > {last};
             delete from artwork where id > {last};"
        ));
    }
    database.execute("vacuum analyze");
}

/// Waits until everything that was committed before the call is indexed.
pub fn settled(server: &Server, database: &Database) {
    let head = database.value("select pg_current_wal_insert_lsn()");
    eventually(
        "the source to be followed to its head",
        Duration::from_secs(120),
        || {
            let status = server.status(None);
            let at = status["sources"][0]["position"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let at = at.split(' ').next().unwrap_or_default().to_owned();
            place(&at).is_some_and(|at| at + 40 >= place(&head).expect("the server's own place"))
        },
    );
    eventually("no lag", Duration::from_secs(120), || {
        let status = server.status(None);
        assert_eq!(status["sets"][0]["conserved"], json!(true), "{status}");
        status["sets"][0]["lag"] == json!(0)
    });
}

/// A place in the WAL as a number.
pub fn place(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// `verify`, and independently of all our code that reads rows: the documents that searches return are the ones that
/// plain SQL builds.
pub fn assert_in_step(product: &Product, server: &Server, database: &Database, after: &str) {
    let found = product.json(&["verify"]);
    assert_eq!(found["differences"], json!(0), "after {after}: {found}");
    if let Some(difference) = difference(server, database) {
        panic!("after {after}: {difference}");
    }
}

/// Waits until all documents are what they must be: for what the stream does not tell, and is looked for.
pub fn comes_in_step(server: &Server, database: &Database, after: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while let Some(difference) = difference(server, database) {
        assert!(Instant::now() < until, "after {after}: {difference}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// How the documents that searches return differ from those that SQL makes.
fn difference(server: &Server, database: &Database) -> Option<String> {
    EXPECTED.iter().find_map(|(collection, statement)| {
        let expected = expected(database, statement);
        let found = searched(server, collection);
        let differing: Vec<_> = expected
            .keys()
            .chain(found.keys())
            .filter(|id| expected.get(*id) != found.get(*id))
            .take(3)
            .map(|id| (id, expected.get(id), found.get(id)))
            .collect();
        (!differing.is_empty()).then(|| {
            format!(
                "{collection}: SQL makes {} documents, search returns {}; the first that differ: {differing:#?}",
                expected.len(),
                found.len()
            )
        })
    })
}

pub fn expected(database: &Database, statement: &str) -> BTreeMap<String, Value> {
    let rows = database.query(statement);
    rows.into_iter()
        .map(|row| {
            let document = serde_json::from_str(&row[1]).expect("Postgres makes valid JSON");
            (row[0].clone(), without_nulls(document))
        })
        .collect()
}

/// Every document of a collection, page by page.
pub fn searched(server: &Server, collection: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut after = Value::Null;
    loop {
        let mut request = json!({ "size": 5_000, "sort": ["_doc"], "query": { "match_all": {} } });
        if !after.is_null() {
            request["search_after"] = after;
        }
        let answer = server.send("POST", &format!("/{collection}/_search"), None, Some(&request));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        let hits = answer["hits"]["hits"].as_array().expect("hits");
        for hit in hits {
            let id = hit["_id"].as_str().expect("an id").to_owned();
            let former = found.insert(id, without_nulls(hit["_source"].clone()));
            assert!(former.is_none(), "a page repeats {}", hit["_id"]);
        }
        match hits.last() {
            Some(last) if hits.len() == 5_000 => after = last["sort"].clone(),
            Some(_) | None => return found,
        }
    }
}

/// A member that is null, and one that is not there, say the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}
