//! A small schema of a test's own under the product, and the documents that plain SQL makes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use instep_conformance::postgres::{Database, Server as Postgres};
use serde_json::Value;

use super::world;
use crate::support::product::{Product, Server};

/// How long anything may take that takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A database, a configuration over it in a folder, and what its documents must be.
pub struct Stage {
    pub database: Database,
    pub product: Product,
    /// Statements that return id and document, by collection.
    expected: Vec<(&'static str, String)>,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Makes the tables. `configuration` follows the source, which is called `main`.
    pub fn new(
        server: &Postgres,
        hint: &str,
        schema: &str,
        configuration: &str,
        expected: &[(&'static str, &str)],
    ) -> Self {
        let database = server.database(hint);
        database.execute(schema);
        let configuration = format!("{}{configuration}", source_of("main", &database));
        Stage::over(database, &configuration, expected)
    }

    /// A database as it is, and a whole configuration.
    pub fn over(database: Database, configuration: &str, expected: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let product = Product::new(folder.path(), configuration);
        let owned = |(collection, statement): &(&'static str, &str)| (*collection, (*statement).to_owned());
        Stage {
            database,
            product,
            expected: expected.iter().map(owned).collect(),
            _folder: folder,
        }
    }

    /// Starts the server, and waits until it is in step for the first time.
    pub fn serve(&self) -> Server {
        let served = self.product.serve();
        self.compare(&served, "the first load", |_| true);
        served
    }

    /// Runs a script, waits until it is indexed, and compares.
    #[track_caller]
    pub fn after(&self, served: &Server, what: &str, script: &str) {
        self.database.execute(script);
        self.compare(served, what, |_| true);
    }

    /// Waits until everything that was committed before the call is indexed, and compares the documents of these ids.
    #[track_caller]
    pub fn compare(&self, served: &Server, what: &str, of: impl Fn(&str) -> bool) {
        settled(served, &self.database, "main");
        if let Some(difference) = self.difference(served, of) {
            panic!("after {what}: {difference}");
        }
    }

    /// Waits until all documents are what they must be: for what the stream does not tell, and is looked for.
    #[track_caller]
    pub fn comes_in_step(&self, served: &Server, what: &str) {
        let collections: Vec<&str> = self.expected.iter().map(|(name, _)| *name).collect();
        collections
            .iter()
            .for_each(|collection| self.collection_comes_in_step(served, collection, what));
        settled(served, &self.database, "main");
    }

    /// The same of one collection, whatever the others do.
    #[track_caller]
    pub fn collection_comes_in_step(&self, served: &Server, collection: &str, what: &str) {
        let (_, statement) = self
            .expected
            .iter()
            .find(|(name, _)| *name == collection)
            .expect("it is expected");
        let until = Instant::now() + Duration::from_secs(30);
        while let Some(difference) = difference(served, &self.database, collection, statement, |_| true) {
            assert!(Instant::now() < until, "after {what}: {difference}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn difference(&self, served: &Server, of: impl Fn(&str) -> bool) -> Option<String> {
        let differs = |(name, statement): &(&'static str, String)| {
            difference(served, &self.database, name, statement, &of)
        };
        self.expected.iter().find_map(differs)
    }

    /// Compares, and lets `verify` compare.
    #[track_caller]
    pub fn assert_verified(&self, served: &Server, what: &str) {
        self.compare(served, what, |_| true);
        let found = self.product.json(&["verify"]);
        assert_eq!(found["differences"], 0, "after {what}: {found}");
    }
}

/// A source over this database. A slot belongs to the whole server, which tests share.
pub fn source_of(name: &str, database: &Database) -> String {
    format!(
        "[source.{name}]\nurl = \"{}\"\nslot = \"{}\"\n",
        database.url(),
        database.name()
    )
}

/// How the documents that searches return differ from those that SQL makes, as far as their ids are `of` interest.
pub fn difference(
    served: &Server,
    database: &Database,
    collection: &str,
    statement: &str,
    of: impl Fn(&str) -> bool,
) -> Option<String> {
    let chosen = |documents: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        documents.into_iter().filter(|(id, _)| of(id)).collect()
    };
    let expected = chosen(world::expected(database, statement));
    let found = chosen(world::searched(served, collection));
    let differing: Vec<_> = expected
        .keys()
        .chain(found.keys())
        .filter(|id| expected.get(*id) != found.get(*id))
        .take(2)
        .map(|id| (id, expected.get(id).map(cut), found.get(id).map(cut)))
        .collect();
    (!differing.is_empty()).then(|| {
        format!(
            "of {collection} SQL makes {} documents, search returns {}; the first that differ (SQL's, then search's): \
             {differing:#?}\nstatus: {}",
            expected.len(),
            found.len(),
            served.status(None)
        )
    })
}

fn cut(document: &Value) -> String {
    document.to_string().chars().take(600).collect()
}

/// Waits until everything that was committed in this source before the call is indexed.
#[track_caller]
pub fn settled(served: &Server, database: &Database, source: &str) {
    let head = database.value("select pg_current_wal_insert_lsn()");
    let head = world::place(&head).expect("the server's own place");
    // The insert position may be behind a page's header that nothing follows yet.
    let arrived = |status: &Value| position(status, source).is_some_and(|at| at + 40 >= head);
    reaches(served, &format!("{source} to be followed to its head"), arrived);
    let indexed = reaches(served, &format!("{source} to be indexed"), |status| {
        status["sets"][0]["lag"] == 0
    });
    assert_eq!(indexed["sets"][0]["conserved"], true, "{indexed}");
}

/// Waits until the status is so, and returns it.
#[track_caller]
pub fn reaches(served: &Server, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = served.status(None);
        if so(&status) {
            return status;
        }
        assert!(Instant::now() < until, "waited in vain for {what}: {status}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// What the status says of a source.
pub fn source<'a>(status: &'a Value, name: &str) -> &'a Value {
    let sources = status["sources"].as_array().expect("sources");
    let found = sources.iter().find(|source| source["source"] == name);
    found.unwrap_or_else(|| panic!("no source {name} in {status}"))
}

/// How far a source was followed.
pub fn position(status: &Value, name: &str) -> Option<u64> {
    let text = source(status, name)["position"].as_str()?.to_owned();
    world::place(text.split(' ').next()?)
}

/// The findings of `check` with this code, whether or not it is content; and its exit code.
pub fn findings(product: &Product, code: &str) -> (Vec<Value>, Option<i32>) {
    let output = product.run(&["check", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let all: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error} in {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    let all = all["findings"].as_array().expect("findings").clone();
    let of_code = all
        .into_iter()
        .filter(|found| code.is_empty() || found["code"] == code);
    (of_code.collect(), output.status.code())
}

/// Waits for a source's state, and returns what the status says of it.
#[track_caller]
pub fn state(served: &Server, name: &str, wanted: &str) -> Value {
    let is_so = |status: &Value| source(status, name)["state"] == wanted;
    let status = reaches(served, &format!("source {name} to be {wanted}"), is_so);
    source(&status, name).clone()
}
