//! One test for each suite, so that a failure names its subject.

use instep_conformance::engine::{self, Subject};
use instep_core::IndexName;
use instep_embedded::{Embedded, Options};

macro_rules! suites {
    ($($suite:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $suite() {
                let directory = tempfile::tempdir().expect("a directory for the index");
                let embedded = Embedded::open(directory.path(), Options::default()).expect("an engine");
                engine::$suite(Subject { engine: &embedded, search: &embedded, prefix: "conformance" }).await;
            }
        )*
    };
}

suites!(writes queries sorting aggregations access analyzers limits);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reopened() {
    let directory = tempfile::tempdir().expect("a directory for the index");
    let open = async |_: &IndexName| Embedded::open(directory.path(), Options::default()).expect("an engine");
    engine::reopened("conformance", open).await;
}
