//! Documents that together are longer than any answer is read.

use instep_conformance::node::Node;
use instep_core::{
    Applied, DocId, Document, Engine, FieldType, IndexName, Mapping, Readers, Settings, Ticket, Write,
};
use instep_elastic::{Cluster, ClusterOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_documents_are_walked_and_read_fewer_at_once() {
    let Some(url) = Node::any() else { return };
    let options = ClusterOptions {
        urls: vec![url],
        answer_bytes: 1 << 20,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(options).unwrap();
    let index = IndexName::from(format!("large-{}", std::process::id()));
    let mapping = Mapping {
        fields: [("extra".to_owned(), FieldType::Flattened)].into(),
        language: "en".into(),
    };
    cluster.drop_index(&index).await.unwrap();
    let replicas: Settings = [("number_of_replicas".to_owned(), 0.into())].into();
    cluster.ensure(&index, &mapping, &replicas).await.unwrap();
    // Numbers of one digit: few terms, and much to carry.
    let source = format!(r#"{{"extra":[{}1]}}"#, "1,".repeat(150_000));
    let ids: Vec<DocId> = (0..24)
        .map(|at| DocId::parse(&format!("{at:02}")).unwrap())
        .collect();
    for id in &ids {
        let document = Document {
            id: id.clone(),
            language: "en".into(),
            readers: Readers::Public,
            source: source.as_str().into(),
        };
        let write = Write::Put(document, Ticket(1));
        let written = cluster.apply(vec![(index.clone(), write)]).await.unwrap();
        assert!(matches!(written[..], [Applied::Done]), "{written:?}");
    }
    let (mut seen, mut after) = (0, None);
    loop {
        let walked = cluster.walk(&index, after.as_ref(), 1_000).await.unwrap();
        seen += walked.documents.len();
        assert!(walked.documents.iter().all(|stored| *stored.source == *source));
        match walked.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids.len());
    let read = cluster.read(&index, &ids).await.unwrap();
    assert_eq!(read.into_iter().flatten().count(), ids.len());
    cluster.drop_index(&index).await.unwrap();
}
