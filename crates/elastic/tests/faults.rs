//! What a cluster, or something in its place, may answer: each is named, none is taken for a success, and what was sent
//! can be sent again.

use std::time::Duration;

use instep_conformance::http::{Fault, Faults};
use instep_conformance::node::Node;
use instep_core::{
    Applied, DocId, Document, Engine, Error, FieldType, IndexName, Mapping, Readers, Settings, Ticket, Write,
};
use instep_elastic::{Cluster, ClusterOptions, Credentials};

/// A cluster with a server that misbehaves before it, and an index.
struct Road {
    faults: Faults,
    cluster: Cluster,
    index: IndexName,
}

impl Road {
    async fn new(name: &str) -> Option<Road> {
        let faults = Faults::before(&Node::any()?);
        let options = ClusterOptions {
            urls: vec![faults.url()],
            timeout: Duration::from_secs(2),
            bulk_documents: 4,
            ..ClusterOptions::default()
        };
        let cluster = Cluster::new(options).unwrap();
        let index = IndexName::from(format!("faults-{name}-{}", std::process::id()));
        let fields = [
            ("n".to_owned(), FieldType::Long),
            ("t".to_owned(), FieldType::Keyword),
        ];
        let mapping = Mapping {
            fields: fields.into(),
            language: "en".into(),
        };
        cluster.drop_index(&index).await.unwrap();
        cluster.ensure(&index, &mapping, &Settings::new()).await.unwrap();
        Some(Road {
            faults,
            cluster,
            index,
        })
    }

    fn writes(&self, ticket: u64) -> Vec<(IndexName, Write)> {
        let put = |at: usize| {
            let document = Document {
                id: DocId::parse(&format!("{at}")).unwrap(),
                language: "en".into(),
                readers: Readers::Public,
                source: format!(r#"{{"n":{ticket}}}"#).into(),
            };
            (self.index.clone(), Write::Put(document, Ticket(ticket)))
        };
        (0..10).map(put).collect()
    }

    /// How many documents have this ticket.
    async fn written(&self, ticket: u64) -> usize {
        let ids: Vec<DocId> = (0..10)
            .map(|at| DocId::parse(&format!("{at}")).unwrap())
            .collect();
        let found = self.cluster.read(&self.index, &ids).await.unwrap();
        found
            .into_iter()
            .flatten()
            .filter(|stored| stored.ticket == Ticket(ticket))
            .count()
    }

    async fn end(self) {
        self.faults.heal();
        self.cluster.drop_index(&self.index).await.unwrap();
    }
}

fn all_done(outcomes: &[Applied]) -> bool {
    outcomes.len() == 10 && outcomes.iter().all(|outcome| matches!(outcome, Applied::Done))
}

/// Waits out the time for which a host that failed is set aside, and repeats as the indexer would.
async fn again(road: &Road, ticket: u64) -> Vec<Applied> {
    for _ in 0..20 {
        match road.cluster.apply(road.writes(ticket)).await {
            Ok(outcomes) => return outcomes,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("it heals");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_answer_is_a_success() {
    let Some(road) = Road::new("answers").await else {
        return;
    };
    let cases = [
        (Fault::refusal(429), "engine_busy"),
        (Fault::refusal(503), "engine_unavailable"),
        (Fault::refusal(502), "engine_unavailable"),
        (Fault::refusal(500), "engine_failed"),
        (Fault::refusal(204), "engine_unreadable"),
        (Fault::refusal(301), "engine_unreadable"),
        (Fault::Html, "engine_unreadable"),
        (Fault::Half, "engine_unreadable"),
        (Fault::Cut(0), "engine_cut"),
        (Fault::Cut(40), "engine_cut"),
        (Fault::Silence, "engine_timeout"),
    ];
    for (ticket, (fault, code)) in (1..).zip(cases) {
        let before = road.faults.disturbed();
        road.faults.disturb("_bulk", fault.clone());
        let failed = road.cluster.apply(road.writes(ticket)).await;
        let error = failed.expect_err("no answer is no success");
        assert_eq!(error.code(), code, "{fault:?}: {error}");
        assert!(
            error.is_transient() && error.remedy().is_some() || code == "engine_failed",
            "{fault:?}"
        );
        assert!(road.faults.disturbed() > before, "{fault:?} happened");
        road.faults.heal();
        // What may have been written under the same ticket is written again, harmlessly.
        assert!(all_done(&again(&road, ticket).await), "{fault:?}");
        assert_eq!(road.written(ticket).await, 10, "{fault:?}");
    }
    road.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_large_is_cut() {
    let Some(road) = Road::new("large").await else {
        return;
    };
    road.faults.disturb("_bulk", Fault::refusal(413));
    let outcomes = road.cluster.apply(road.writes(1)).await.unwrap();
    let codes: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Applied::Failed(error) => error.code(),
            Applied::Done | Applied::Superseded => "written",
        })
        .collect();
    assert_eq!(codes, ["document_too_large"; 10]);
    // Parts of 4, 4 and 2: each with its halves.
    assert_eq!(road.faults.disturbed(), 7 + 7 + 3);
    road.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rest_that_is_asked_for_is_kept() {
    let Some(road) = Road::new("rest").await else {
        return;
    };
    let busy = |seconds: u32| Fault::Answer {
        status: 503,
        headers: vec![format!("Retry-After: {seconds}")],
        body: String::new(),
    };
    road.faults.disturb("_bulk", busy(30));
    assert!(road.cluster.apply(road.writes(1)).await.is_err());
    road.faults.heal();
    // Its only host rests: nothing is sent.
    let error = road.cluster.apply(road.writes(1)).await.expect_err("it rests");
    assert_eq!((error.code(), road.faults.disturbed()), ("engine_busy", 1));
    let other = Road::new("rest-shortly").await.unwrap();
    other.faults.disturb("_bulk", busy(1));
    assert!(other.cluster.apply(other.writes(1)).await.is_err());
    other.faults.heal();
    assert!(all_done(&other.cluster.apply(other.writes(1)).await.unwrap()));
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_or_none_is_named() {
    let Some(url) = Node::any() else { return };
    let cluster = |url: &str| {
        let options = ClusterOptions {
            urls: vec![url.to_owned()],
            timeout: Duration::from_secs(2),
            ..ClusterOptions::default()
        };
        Cluster::new(options).unwrap()
    };
    let code = |error: Error| error.code();
    let faults = Faults::before(&url);
    let pages = [
        (Fault::Html, "not_a_cluster"),
        (Fault::refusal(401), "engine_denied"),
        (
            Fault::Answer {
                status: 200,
                headers: vec![],
                body: instep_elastic::render_info("1"),
            },
            "not_a_cluster",
        ),
    ];
    for (page, expected) in pages {
        faults.disturb("GET / ", page);
        assert_eq!(
            cluster(&faults.url()).product().await.map_err(code),
            Err(expected)
        );
    }
    faults.heal();
    let one = cluster(&faults.url());
    assert!(one.product().await.is_ok());
    // The host fails once, and what answers then is another cluster.
    faults.disturb("_alias", Fault::Cut(0));
    assert_eq!(one.indexes().await.map_err(code), Err("engine_cut"));
    let other = r#"{"cluster_uuid":"other","version":{"distribution":"opensearch","number":"3.0.0"}}"#;
    faults.disturb(
        "GET / ",
        Fault::Answer {
            status: 200,
            headers: vec![],
            body: other.to_owned(),
        },
    );
    assert_eq!(one.indexes().await.map_err(code), Err("cluster_replaced"));
    // Nothing fails on the road: its connections idled, and are made anew.
    faults.heal();
    let idle = cluster(&faults.url());
    assert!(idle.product().await.is_ok());
    faults.disturb(
        "GET / ",
        Fault::Answer {
            status: 200,
            headers: vec![],
            body: other.to_owned(),
        },
    );
    let index = IndexName::from(format!("faults-idle-{}", std::process::id()));
    let id = DocId::parse("1").unwrap();
    let written = idle
        .apply(vec![(index.clone(), Write::Delete(id, Ticket(1)))])
        .await;
    assert_eq!(
        written.map(drop).map_err(code),
        Err("index_missing"),
        "nothing is known of it"
    );
    let mapping = Mapping {
        fields: [("n".to_owned(), FieldType::Long)].into(),
        language: "en".into(),
    };
    let made = idle.ensure(&index, &mapping, &Settings::new()).await;
    assert_eq!(made.map(drop).map_err(code), Err("cluster_replaced"));
    // Port 9 discards; nothing listens there.
    assert_eq!(
        cluster("http://127.0.0.1:9").product().await.map_err(code),
        Err("engine_unreachable")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_sent_and_not_told() {
    let Some(url) = Node::any() else { return };
    let faults = Faults::before(&url);
    let basic = Credentials::Basic {
        user: "u".to_owned(),
        password: "pw:1".to_owned(),
    };
    let cases = [
        (Credentials::None, None),
        (basic, Some("authorization: Basic dTpwdzox")),
        (
            Credentials::ApiKey("aWQ6a2V5".to_owned()),
            Some("authorization: ApiKey aWQ6a2V5"),
        ),
    ];
    for (credentials, expected) in cases {
        let options = ClusterOptions {
            urls: vec![faults.url()],
            credentials,
            ..ClusterOptions::default()
        };
        assert!(!format!("{options:?}").contains("pw:1"));
        let cluster = Cluster::new(options).unwrap();
        faults.heal();
        cluster.product().await.unwrap();
        let head = faults.last_head();
        let sent = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("authorization"));
        assert_eq!(sent, expected, "{head}");
        faults.disturb("", Fault::refusal(401));
        let error = cluster.indexes().await.unwrap_err();
        assert_eq!(error.code(), "engine_denied");
        let told = format!("{error:?}");
        assert!(
            !told.contains("pw") && !told.contains("aWQ6a2V5") && !told.contains("dTpw"),
            "{told}"
        );
    }
}

/// What is sent to a cluster that is not on this machine is compressed, and so are answers that nobody waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_compressed_on_the_way_to_far_clusters() {
    let Some(url) = Node::any() else { return };
    let faults = Faults::far_before(&url);
    if faults.url().contains("127.0.0.1") {
        eprintln!("SKIPPED compression: this machine's loopback has one address alone");
        return;
    }
    let options = ClusterOptions {
        urls: vec![faults.url()],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::new(options).unwrap();
    let index = IndexName::from(format!("faults-far-{}", std::process::id()));
    let mapping = Mapping {
        fields: [("t".to_owned(), FieldType::Keyword)].into(),
        language: "en".into(),
    };
    cluster.drop_index(&index).await.unwrap();
    cluster.ensure(&index, &mapping, &Settings::new()).await.unwrap();
    let writes = (0..500).map(|at| {
        let document = Document {
            id: DocId::parse(&format!("{at}")).unwrap(),
            language: "en".into(),
            readers: Readers::Public,
            source: format!(r#"{{"t":"a value that is there many times {at}"}}"#).into(),
        };
        (index.clone(), Write::Put(document, Ticket(1)))
    });
    let outcomes = cluster.apply(writes.collect()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Applied::Done)));
    let head = faults.last_head().to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.trim().parse::<usize>().unwrap());
    assert!(length.is_some_and(|length| length < 20_000), "{head}");
    assert_eq!(
        cluster.walk(&index, None, 1_000).await.unwrap().documents.len(),
        500
    );
    let head = faults.last_head().to_ascii_lowercase();
    assert!(head.contains("accept-encoding: gzip"), "{head}");
    cluster.drop_index(&index).await.unwrap();
}
