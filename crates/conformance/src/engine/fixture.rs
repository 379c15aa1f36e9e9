//! The documents of the suites, and shorthand for requests.

use instep_core::query::{Query, Scalar};
use instep_core::{
    Applied, Authorized, DocId, Document, Engine, Error, FieldType, Grant, IndexName, Mapping, Policy,
    Principal, Readers, Scopes, SearchRequest, SearchResponse, Settings, Ticket, Write,
};

use super::Subject;

/// The collection that the suites' requests are authorised for.
pub(super) const COLLECTION: &str = "thing";

pub(super) fn mapping() -> Mapping {
    let text = |analyzer: &str, keyword| FieldType::Text {
        analyzer: analyzer.into(),
        keyword,
    };
    let fields = [
        ("title", text("english", true)),
        ("body", text("standard", false)),
        ("tag", FieldType::Keyword),
        ("n", FieldType::Long),
        ("i", FieldType::Integer),
        ("price", FieldType::Decimal { scale: 2 }),
        ("rating", FieldType::Double),
        ("ok", FieldType::Boolean),
        ("at", FieldType::Date),
        ("extra", FieldType::Flattened),
        ("seller.name", FieldType::Keyword),
        ("seller.city", text("standard", false)),
        ("reviews.stars", FieldType::Integer),
        ("reviews.by", text("standard", true)),
    ];
    let fields = fields
        .into_iter()
        .map(|(path, kind)| (path.to_owned(), kind))
        .collect();
    Mapping {
        fields,
        language: "en".into(),
    }
}

/// The documents that everybody may read.
pub(super) const PUBLIC: [(&str, &str); 6] = [
    (
        "1",
        r#"{"title":"The quick brown fox","tag":["a","b"],"n":1,"i":10,"price":9.99,"rating":4.5,"ok":true,"at":"2020-01-15T10:00:00Z","seller":{"name":"ann","city":"Oslo"},"extra":{"color":"red","size":{"w":3}},"reviews":[{"stars":5,"by":"fox news"},{"stars":3,"by":"old man"}]}"#,
    ),
    (
        "2",
        r#"{"title":"A quick red fox jumps over","tag":"b","n":2,"i":-5,"price":"100","rating":-0.5,"ok":false,"at":"2020-02-29","seller":{"name":"bob"},"extra":{"color":"blue","red":1}}"#,
    ),
    (
        "3",
        r#"{"title":"Lazy dogs","body":["the first one","two of them"],"tag":[],"n":3,"price":12.50,"at":"2020-12-31T23:59:59.999Z"}"#,
    ),
    (
        "4",
        r#"{"title":["Foxes and dogs","running"],"body":"the one","tag":["c","a","a"],"n":null,"i":10,"rating":4.5,"ok":true,"at":["2019-06-01","2021-06-01"],"reviews":{"stars":3}}"#,
    ),
    (
        "5",
        r#"{"n":9007199254740993,"tag":["B"],"title":"","seller":{"name":"Ann"}}"#,
    ),
    ("6", r"{}"),
];

pub(super) fn id(text: &str) -> DocId {
    DocId::parse(text).expect("ids of the suites are short")
}

pub(super) fn document(id_text: &str, readers: Readers, source: &str) -> Document {
    Document {
        id: id(id_text),
        language: "en".into(),
        readers,
        source: source.into(),
    }
}

pub(super) fn put(id: &str, source: &str, ticket: u64) -> Write {
    Write::Put(document(id, Readers::Public, source), Ticket(ticket))
}

/// An empty index.
pub(super) async fn fresh(subject: Subject<'_>, name: &str) -> IndexName {
    let index = subject.index(name);
    subject.engine.drop_index(&index).await.expect("drop");
    subject
        .engine
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .expect("ensure");
    index
}

/// An index of these documents.
pub(super) async fn filled(subject: Subject<'_>, name: &str, documents: &[Document]) -> IndexName {
    let index = fresh(subject, name).await;
    // One by one and in halves, so that there are several segments.
    let (first, rest) = documents.split_at(documents.len() / 2);
    for part in first.chunks(1).chain([rest]) {
        let writes = part
            .iter()
            .map(|document| Write::Put(document.clone(), Ticket(1)));
        done(subject.engine, &index, writes.collect()).await;
    }
    subject.engine.refresh(&index).await.expect("refresh");
    index
}

pub(super) fn public() -> Vec<Document> {
    PUBLIC
        .iter()
        .map(|(id, source)| document(id, Readers::Public, source))
        .collect()
}

/// Applies writes that must all succeed.
pub(super) async fn done(engine: &dyn Engine, index: &IndexName, writes: Vec<Write>) {
    for outcome in applied(engine, index, writes).await {
        assert_eq!(outcome, "done");
    }
}

/// Applies writes; the outcomes by name, failures with their code.
pub(super) async fn applied(engine: &dyn Engine, index: &IndexName, writes: Vec<Write>) -> Vec<String> {
    let writes = writes.into_iter().map(|write| (index.clone(), write)).collect();
    let outcomes = engine.apply(writes).await.expect("apply");
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Applied::Done => "done".to_owned(),
            Applied::Superseded => "superseded".to_owned(),
            Applied::Failed(error) => format!("failed {}", error.fault().as_str()),
        })
        .collect()
}

/// A caller with these names.
pub(super) fn caller(subject: &str, units: &[&str]) -> Principal {
    Principal {
        subject: Some(subject.into()),
        units: units.iter().map(|&unit| unit.to_owned()).collect(),
        scopes: Scopes {
            search: Grant::All,
            ..Scopes::default()
        },
    }
}

/// A caller who sees everything.
pub(super) fn everyone() -> Principal {
    let mut principal = caller("root", &[]);
    principal.scopes.read_all = true;
    principal
}

pub(super) fn policy() -> Policy {
    Policy::new(vec![(COLLECTION.into(), true)])
}

pub(super) fn authorized(principal: &Principal, request: SearchRequest) -> Authorized<SearchRequest> {
    policy()
        .search(principal, &[COLLECTION.into()], request)
        .expect("the collection is public")
}

pub(super) async fn ask(
    subject: Subject<'_>,
    indexes: &[IndexName],
    request: SearchRequest,
) -> Result<SearchResponse, Error> {
    subject
        .search
        .search(indexes, &authorized(&everyone(), request))
        .await
}

/// A request for a query alone.
pub(super) fn querying(query: Query) -> SearchRequest {
    SearchRequest {
        query,
        size: 100,
        // 2020-03-01T12:00:00Z.
        now_ms: 1_583_064_000_000,
        ..SearchRequest::default()
    }
}

/// The hits' ids, in order.
pub(super) fn ids(response: &SearchResponse) -> Vec<String> {
    response.hits.iter().map(|hit| hit.id.to_string()).collect()
}

pub(super) fn text(value: &str) -> Scalar {
    Scalar::Text(value.to_owned())
}
