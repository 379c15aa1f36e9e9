//! Elasticsearch 8 and 9, by what they answered elsewhere: their first page, their refusals. The rest of each road is a
//! server that can be had, so that what is sent to them is seen to do its work.

use instep_conformance::http::{Fault, Faults};
use instep_conformance::node::Node;
use instep_core::query::Query;
use instep_core::{
    Applied, DocId, Document, Engine, Error, FieldType, GetRequest, IndexName, Mapping, Policy, Principal,
    Readers, Search, SearchRequest, Settings, Ticket, Write,
};
use instep_elastic::{Cluster, ClusterOptions, Credentials};

/// The first pages of servers of 8.12.1 and 9.5.4, and of the service without servers.
const EIGHT: &str = r#"{"name":"instance-0000000000","cluster_name":"my_test_cluster","cluster_uuid":"5QaxoN0pRZuOmWSxstBBwQ","version":{"number":"8.12.1","build_flavor":"default","build_type":"docker","build_hash":"6185ba65d27469afabc9bc951cded6c17c21e3f3","build_date":"2024-02-01T13:07:13.727175297Z","build_snapshot":false,"lucene_version":"9.9.2","minimum_wire_compatibility_version":"7.17.0","minimum_index_compatibility_version":"7.0.0"},"tagline":"You Know, for Search"}"#;
const NINE: &str = r#"{"name":"es01","cluster_name":"tp-eisi","cluster_uuid":"WIiu3F8ZQw6NPZJ13CZOQw","version":{"number":"9.5.4","build_flavor":"default","build_type":"docker","build_hash":"9170df19cae1adb107b7b489b4d82dec66d7a337","build_date":"2026-09-09T22:42:53.976833287Z","build_snapshot":false,"lucene_version":"10.5.1","minimum_wire_compatibility_version":"8.19.0","minimum_index_compatibility_version":"8.0.0"},"tagline":"You Know, for Search"}"#;
const SERVERLESS: &str = r#"{"name":"serverless","cluster_name":"home","cluster_uuid":"ad4sd8ddTbKaWbnPbDk4Kw","version":{"number":"8.11.0","build_flavor":"serverless","build_type":"docker","build_hash":"00000000","build_date":"2023-10-31","build_snapshot":false,"lucene_version":"9.7.0","minimum_wire_compatibility_version":"8.11.0","minimum_index_compatibility_version":"8.11.0"},"tagline":"You Know, for Search"}"#;

/// To a call without a login, and to one with a key that is not known.
const NO_LOGIN: &str = r#"{"error":{"root_cause":[{"type":"security_exception","reason":"missing authentication credentials for REST request [/]","header":{"WWW-Authenticate":["Basic realm=\"security\" charset=\"UTF-8\"","ApiKey"]}}],"type":"security_exception","reason":"missing authentication credentials for REST request [/]","header":{"WWW-Authenticate":["Basic realm=\"security\" charset=\"UTF-8\"","ApiKey"]}},"status":401}"#;
const NO_KEY: &str = r#"{"error":{"root_cause":[{"type":"security_exception","reason":"unable to authenticate with provided credentials and anonymous access is not allowed for this request","additional_unsuccessful_credentials":"API key: unable to find apikey with id foo","header":{"WWW-Authenticate":["Basic realm=\"security\", charset=\"UTF-8\"","Bearer realm=\"security\"","ApiKey"]}}],"type":"security_exception","reason":"unable to authenticate with provided credentials and anonymous access is not allowed for this request","additional_unsuccessful_credentials":"API key: unable to find apikey with id foo","header":{"WWW-Authenticate":["Basic realm=\"security\", charset=\"UTF-8\"","Bearer realm=\"security\"","ApiKey"]}},"status":401}"#;
/// To a key without rights: of a whole call, and of one document of several.
const NO_RIGHT: &str = r#"{"error":{"root_cause":[{"type":"security_exception","reason":"action [indices:admin/auto_create] is unauthorized for API key id [dyLlOpUBcNADYlky6Egd] of user [elastic] on indices [i], this action is granted by the index privileges [auto_configure,create_index,manage,all]"}],"type":"security_exception","reason":"action [indices:admin/auto_create] is unauthorized for API key id [dyLlOpUBcNADYlky6Egd] of user [elastic] on indices [i], this action is granted by the index privileges [auto_configure,create_index,manage,all]"},"status":403}"#;
const NO_RIGHT_TO_ONE: &str = r#"{"docs":[{"_index":"i","_id":"1","error":{"root_cause":[{"type":"security_exception","reason":"action [indices:data/read/mget[shard]] is unauthorized"}],"type":"security_exception","reason":"action [indices:data/read/mget[shard]] is unauthorized"}}]}"#;
/// To a version of the API that the server does not speak, as a client of another one is answered.
const NO_VERSION: &str = r#"{"error":{"root_cause":[{"type":"media_type_header_exception","reason":"Invalid media-type value on headers [Accept, Content-Type]"}],"type":"media_type_header_exception","reason":"Invalid media-type value on headers [Accept, Content-Type]","caused_by":{"type":"status_exception","reason":"Accept version must be either version 8 or 7, but found 9. Accept=application/vnd.elasticsearch+json; compatible-with=9"}},"status":400}"#;
/// To a kind of content that is not served.
const NO_CONTENT: &str =
    r#"{"error":"Content-Type header [application/x-ndjson] is not supported","status":406}"#;

fn page(status: u16, body: &str) -> Fault {
    Fault::Answer {
        status,
        headers: vec![
            "content-type: application/json".to_owned(),
            "X-elastic-product: Elasticsearch".to_owned(),
        ],
        body: body.to_owned(),
    }
}

fn behind(faults: &Faults, credentials: Credentials) -> Cluster {
    let options = ClusterOptions {
        urls: vec![faults.url()],
        credentials,
        ..ClusterOptions::default()
    };
    Cluster::new(options).unwrap()
}

fn mapping() -> Mapping {
    Mapping {
        fields: [("n".to_owned(), FieldType::Long)].into(),
        language: "en".into(),
    }
}

/// Versions are asked for in both headers or in none, and then the server's own is spoken: with none, nothing is refused
/// by 8, by 9, or by what comes after. An API key goes along as those versions take it.
fn speaks_plainly(faults: &Faults) {
    let head = faults.last_head().to_ascii_lowercase();
    assert!(!head.contains("compatible-with"), "{head}");
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    assert!(matches!(header("accept:"), None | Some("*/*")), "{head}");
    let content = header("content-type:");
    assert!(
        matches!(content, None | Some("application/json" | "application/x-ndjson")),
        "{head}"
    );
    assert!(head.contains("authorization: apikey "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_road_to_8_and_9() {
    let Some(url) = Node::any() else { return };
    for (root, product) in [
        (EIGHT, "elasticsearch 8.12.1"),
        (NINE, "elasticsearch 9.5.4"),
        (SERVERLESS, "elasticsearch 8.11.0"),
    ] {
        let faults = Faults::before(&url);
        faults.disturb("GET / ", page(200, root));
        let cluster = behind(&faults, Credentials::ApiKey("id:key".to_owned()));
        assert_eq!(cluster.product().await.unwrap(), product);
        speaks_plainly(&faults);
        let index = IndexName::from(format!("recorded-{}", std::process::id()));
        cluster.drop_index(&index).await.unwrap();
        cluster
            .ensure(&index, &mapping(), &Settings::new())
            .await
            .unwrap();
        speaks_plainly(&faults);
        let id = DocId::parse("1").unwrap();
        let document = Document {
            id: id.clone(),
            language: "en".into(),
            readers: Readers::Public,
            source: r#"{"n":1}"#.into(),
        };
        let written = cluster
            .apply(vec![(index.clone(), Write::Put(document, Ticket(7)))])
            .await
            .unwrap();
        assert!(matches!(written[..], [Applied::Done]), "{written:?}");
        speaks_plainly(&faults);
        assert_eq!(cluster.walk(&index, None, 10).await.unwrap().documents.len(), 1);
        speaks_plainly(&faults);
        let policy = Policy::new(vec![("thing".into(), true)]);
        let anyone = Principal::anonymous();
        let request = SearchRequest {
            query: Query::MatchAll { boost: 1.0 },
            ..SearchRequest::default()
        };
        let search = policy.search(&anyone, &["thing".into()], request).unwrap();
        let found = cluster
            .search(std::slice::from_ref(&index), &search)
            .await
            .unwrap();
        assert_eq!(found.hits.len(), 1);
        speaks_plainly(&faults);
        let request = GetRequest {
            ids: vec![id],
            source: Default::default(),
        };
        let get = policy.get(&anyone, &"thing".into(), request).unwrap();
        let got = cluster.get(std::slice::from_ref(&index), &get).await.unwrap();
        assert_eq!(got.into_iter().flatten().count(), 1);
        speaks_plainly(&faults);
        cluster.drop_index(&index).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_refusals_are_named() {
    let Some(url) = Node::any() else { return };
    let faults = Faults::before(&url);
    let code = |error: Error| error.code();
    for (status, body) in [(401, NO_LOGIN), (401, NO_KEY), (403, NO_RIGHT)] {
        faults.disturb("GET / ", page(status, body));
        let cluster = behind(&faults, Credentials::None);
        assert_eq!(
            cluster.product().await.map_err(code),
            Err("engine_denied"),
            "{body}"
        );
    }
    faults.heal();
    let cluster = behind(&faults, Credentials::None);
    let index = IndexName::from(format!("recorded-refusals-{}", std::process::id()));
    cluster
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .unwrap();
    let write = || {
        let id = DocId::parse("1").unwrap();
        cluster.apply(vec![(index.clone(), Write::Delete(id, Ticket(1)))])
    };
    // A refusal that is no document's matter makes no dead letter, even where the request holds one document alone.
    for (status, body, expected) in [
        (401, NO_KEY, "engine_denied"),
        (403, NO_RIGHT, "engine_denied"),
        (400, NO_VERSION, "engine_refused"),
        (406, NO_CONTENT, "engine_unreadable"),
    ] {
        faults.disturb("_bulk", page(status, body));
        let error = write().await.expect_err(body);
        assert_eq!(error.code(), expected, "{body}");
        assert!(error.is_transient(), "{error}");
    }
    faults.disturb("_mget", page(200, NO_RIGHT_TO_ONE));
    let id = DocId::parse("1").unwrap();
    let error = cluster.read(&index, &[id]).await.expect_err("it is refused");
    assert_eq!(error.code(), "engine_denied");
    faults.heal();
    assert!(matches!(write().await.unwrap()[..], [Applied::Done]));
    cluster.drop_index(&index).await.unwrap();
}
