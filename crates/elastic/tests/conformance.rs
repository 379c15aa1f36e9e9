//! The suite of every engine, on every node there is: one line each.

use instep_conformance::engine::{self, Subject};
use instep_conformance::node::Node;
use instep_core::{Engine, IndexName};
use instep_elastic::{Cluster, ClusterOptions};

use crate::by_hand::send;

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
    suites!(Opensearch: writes queries sorting aggregations access analyzers limits);
}

mod opensearch2 {
    use super::*;
    suites!(Opensearch2: writes queries sorting aggregations access analyzers limits);
}

mod elasticsearch {
    use super::*;
    suites!(Elasticsearch: writes queries sorting aggregations access analyzers limits);
}

/// Flushed, closed and opened again between writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reopened() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let prefix = format!("conformance-{}", std::process::id());
        let open = async |index: &IndexName| {
            let options = ClusterOptions {
                urls: vec![url.clone()],
                ..ClusterOptions::default()
            };
            let cluster = Cluster::new(options).expect("an engine");
            if cluster.indexes().await.expect("a list").contains(index) {
                send(&url, "POST", &format!("{index}/_flush?force=true"), "");
                send(&url, "POST", &format!("{index}/_close"), "");
                send(&url, "POST", &format!("{index}/_open"), "");
            }
            cluster
        };
        engine::reopened(&prefix, open).await;
    }
}
