//! The suite of every engine, on every node there is: one line each.

use instep_conformance::engine::{self, Subject};
use instep_conformance::node::Node;
use instep_elastic::{Cluster, ClusterOptions};

macro_rules! suites {
    ($node:ident: $($suite:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $suite() {
                let Some(url) = Node::$node.url() else { return };
                let options = ClusterOptions { urls: vec![url], ..ClusterOptions::default() };
                let cluster = Cluster::new(options).expect("an engine");
                let prefix = format!("conformance-{}-{}", stringify!($suite), std::process::id());
                engine::$suite(Subject { engine: &cluster, search: &cluster, prefix: &prefix }).await;
            }
        )*
    };
}

mod opensearch {
    use super::*;
    suites!(Opensearch: writes queries sorting aggregations access);
}

mod opensearch2 {
    use super::*;
    suites!(Opensearch2: writes queries sorting aggregations access);
}

mod elasticsearch {
    use super::*;
    suites!(Elasticsearch: writes queries sorting aggregations access);
}
