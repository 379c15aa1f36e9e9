//! Names at their limits: more of them than an address holds are searched as one collection all the same.

use instep_conformance::node::Node;
use instep_core::query::{Query, Sort, SortBy};
use instep_core::{
    DocId, Document, Engine, FieldType, Grant, IndexName, Mapping, Policy, Principal, Readers, Scopes,
    Search, SearchRequest, Settings, Ticket, TrackTotalHits, Write,
};
use instep_elastic::{Cluster, ClusterOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_long_names_are_searched_as_one() {
    let Some(url) = Node::any() else { return };
    let options = ClusterOptions {
        urls: vec![url],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(options).unwrap();
    let mapping = Mapping {
        fields: [("n".to_owned(), FieldType::Long)].into(),
        language: "en".into(),
    };
    let replicas: Settings = [("number_of_replicas".to_owned(), 0.into())].into();
    let mut indexes = Vec::new();
    for at in 0..20 {
        let start = format!("names-{}-{at:02}-", std::process::id());
        let index = IndexName::from(format!("{start}{}", "x".repeat(200 - start.len())));
        cluster.ensure(&index, &mapping, &replicas).await.unwrap();
        let document = Document {
            id: DocId::parse("same").unwrap(),
            language: "en".into(),
            readers: Readers::Public,
            source: format!(r#"{{"n":{at}}}"#).into(),
        };
        cluster
            .apply(vec![(index.clone(), Write::Put(document, Ticket(1)))])
            .await
            .unwrap();
        cluster.refresh(&index).await.unwrap();
        indexes.push(index);
    }
    let principal = Principal {
        subject: None,
        units: Vec::new(),
        scopes: Scopes {
            search: Grant::All,
            ..Scopes::default()
        },
    };
    let ask = |field: &str| {
        let sort = Sort {
            by: SortBy::Field {
                field: field.to_owned(),
                unmapped_type: None,
            },
            descending: true,
            missing_first: false,
        };
        let request = SearchRequest {
            query: Query::MatchAll { boost: 1.0 },
            size: 3,
            sort: vec![sort],
            track_total_hits: TrackTotalHits::Exactly,
            ..SearchRequest::default()
        };
        Policy::new(vec![("thing".into(), true)])
            .search(&principal, &["thing".into()], request)
            .unwrap()
    };
    assert!(cluster.look(&indexes).await.unwrap(), "all is well with them");
    let found = cluster.search(&indexes, &ask("n")).await.unwrap();
    assert_eq!(found.total.map(|total| total.value), Some(20));
    let sources: Vec<_> = found
        .hits
        .iter()
        .filter_map(|hit| hit.source.as_deref())
        .collect();
    assert_eq!(sources, [r#"{"n":19}"#, r#"{"n":18}"#, r#"{"n":17}"#]);
    let refused = cluster.search(&indexes, &ask("nowhere")).await.unwrap_err();
    assert_eq!(refused.code(), "query_shard_exception");

    // One of them is dropped by another process: that is told, and not left out.
    cluster.drop_index(&indexes[3]).await.unwrap();
    let missing = cluster.search(&indexes, &ask("n")).await.unwrap_err();
    assert_eq!(missing.code(), "index_not_found_exception");
    for index in &indexes {
        cluster.drop_index(index).await.unwrap();
    }
}
