//! The routes as callers meet them, over an engine that records what it is given.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod hiding;
mod matrix;
mod serving;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use instep_core::request::{Hit, SearchResponse, TotalHits};
use instep_core::{
    Authorized, CollectionName, DocId, Error, GetRequest, Grant, IndexName, Policy, Readers, Result, Scopes,
    Search, SearchRequest, Stored, Ticket, Visibility,
};
use serde_json::Value;
use serde_json::value::RawValue;
use tower::ServiceExt;

use crate::{Hydrate, Hydration, KeyDefinition, Keys, Limits, Operations, Parts, Served, router};

const BUYER: &str = "ApiKey buyer-secret-0123456789";
const STAFF: &str = "ApiKey staff-secret-0123456789";

/// A part of every physical name, and of nothing that a caller may see.
const SET: &str = "blue7";

/// What the engine does when it is asked.
#[derive(Clone, Default)]
enum Does {
    #[default]
    Answer,
    Fail(fn() -> Error),
    Panic,
    Hang,
    AnswerFrom(&'static str),
    IgnoreReaders,
}

/// An engine of a few documents. Every query matches all of them.
#[derive(Default)]
struct Engine {
    documents: BTreeMap<String, Vec<(&'static str, Readers)>>,
    does: Mutex<Does>,
    given: Mutex<Vec<(Vec<String>, Visibility)>>,
}

impl Engine {
    async fn begin(&self, indexes: &[IndexName], visibility: &Visibility) -> Result<Does> {
        let names = indexes.iter().map(ToString::to_string).collect();
        self.given.lock().unwrap().push((names, visibility.clone()));
        let does = self.does.lock().unwrap().clone();
        match does {
            Does::Fail(error) => Err(error()),
            Does::Panic => panic!("a secret of {SET}"),
            Does::Hang => std::future::pending().await,
            Does::Answer | Does::AnswerFrom(_) | Does::IgnoreReaders => Ok(does),
        }
    }

    fn visible(&self, index: &IndexName, visibility: &Visibility) -> Vec<(&'static str, Readers)> {
        let all = self.documents.get(index.as_str()).cloned().unwrap_or_default();
        all.into_iter()
            .filter(|(_, readers)| visibility.admits(readers))
            .collect()
    }
}

fn source(id: &str) -> Arc<str> {
    format!(r#"{{"name":"name of {id}","price":1.0}}"#).into()
}

#[async_trait]
impl Search for Engine {
    async fn search(
        &self,
        indexes: &[IndexName],
        request: &Authorized<SearchRequest>,
    ) -> Result<SearchResponse> {
        let does = self.begin(indexes, request.visibility()).await?;
        let found = indexes.iter().flat_map(|index| {
            let visible = self.visible(index, request.visibility());
            visible.into_iter().map(move |(id, _)| (index, id))
        });
        let hits: Vec<Hit> = found
            .map(|(index, id)| Hit {
                index: match does {
                    Does::AnswerFrom(index) => index.into(),
                    _ => index.clone(),
                },
                id: DocId::parse(id).unwrap(),
                score: Some(1.0),
                source: Some(source(id)),
                sort: vec![],
            })
            .collect();
        Ok(SearchResponse {
            total: Some(TotalHits {
                value: hits.len() as u64,
                exact: true,
            }),
            max_score: Some(1.0),
            hits: hits.into_iter().take(request.request().size).collect(),
            aggregations: vec![],
        })
    }

    async fn get(
        &self,
        indexes: &[IndexName],
        request: &Authorized<GetRequest>,
    ) -> Result<Vec<Option<(IndexName, Stored)>>> {
        let does = self.begin(indexes, request.visibility()).await?;
        let sees = match does {
            Does::IgnoreReaders => &Visibility::Everything,
            _ => request.visibility(),
        };
        let find = |id: &DocId| {
            indexes.iter().find_map(|index| {
                let visible = self.visible(index, sees);
                let (_, readers) = visible.into_iter().find(|(known, _)| *known == id.as_str())?;
                let stored = Stored {
                    id: id.clone(),
                    readers,
                    source: source(id.as_str()),
                    ticket: Ticket(1),
                };
                Some((index.clone(), stored))
            })
        };
        Ok(request.request().ids.iter().map(find).collect())
    }
}

/// Rows of every document but those named `gone`; records each call.
#[derive(Default)]
struct Rows(Mutex<Vec<(String, Vec<String>, Visibility)>>);

#[async_trait]
impl Hydrate for Rows {
    async fn rows(
        &self,
        collection: &CollectionName,
        ids: &[DocId],
        visibility: &Visibility,
        how: Hydration,
    ) -> Result<Vec<Option<Box<RawValue>>>> {
        let names = ids.iter().map(ToString::to_string).collect();
        self.0
            .lock()
            .unwrap()
            .push((collection.to_string(), names, visibility.clone()));
        let row = |id: &DocId| {
            (id.as_str() != "gone").then(|| {
                let joins = if how == Hydration::Joins {
                    r#","_joins":{}"#
                } else {
                    ""
                };
                RawValue::from_string(format!(r#"{{"row":"{collection}/{}"{joins}}}"#, id.as_str())).unwrap()
            })
        };
        Ok(ids.iter().map(row).collect())
    }
}

struct State(bool);

#[async_trait]
impl Operations for State {
    async fn status(&self) -> Result<Value> {
        Ok(serde_json::json!({"lag": 0}))
    }

    async fn metrics(&self) -> Result<String> {
        Ok("lag 0\n".to_owned())
    }

    async fn ready(&self) -> Result<()> {
        match self.0 {
            true => Ok(()),
            false => Err(Error::transient("no_active_set", format!("no set {SET} yet"))),
        }
    }
}

/// The gateway under test.
struct Shop {
    engine: Arc<Engine>,
    rows: Arc<Rows>,
    app: Router,
}

/// `ad` (English and Swedish) has readers, `seller` is public, `ledger` is granted to staff only. The buyer belongs to
/// `everyone`; staff read all.
fn shop() -> Shop {
    shop_with(keys(), Limits::default(), true)
}

fn keys() -> Keys {
    let key = |name: &str, authorization: &str, units: &[&str], scopes| KeyDefinition {
        name: name.into(),
        secret: authorization.strip_prefix("ApiKey ").unwrap().into(),
        subject: format!("{name}-subject"),
        units: units.iter().map(ToString::to_string).collect(),
        scopes,
    };
    Keys::new(vec![
        key(
            "buyer",
            BUYER,
            &["everyone"],
            Scopes {
                search: Grant::Only(vec!["ad".into(), "seller".into()]),
                ..Scopes::default()
            },
        ),
        key(
            "staff",
            STAFF,
            &[],
            Scopes {
                search: Grant::All,
                operate: true,
                read_all: true,
            },
        ),
    ])
    .unwrap()
}

fn shop_with(keys: Keys, limits: Limits, is_ready: bool) -> Shop {
    let only = |names: &[&str]| Readers::only(names.iter().map(ToString::to_string).collect());
    let index = |rest: &str| format!("documents-{SET}-{rest}");
    let engine = Arc::new(Engine {
        documents: BTreeMap::from([
            (
                index("ad-en"),
                vec![
                    ("open", Readers::Public),
                    ("shared", only(&["everyone"])),
                    ("hidden", only(&["nobody-else"])),
                ],
            ),
            (index("ad-sv"), vec![("svensk", only(&["everyone"]))]),
            (
                index("seller-unspecified"),
                vec![
                    ("1", Readers::Public),
                    ("gone", Readers::Public),
                    ("a/b,ö ?%", Readers::Public),
                ],
            ),
            (
                index("ledger-unspecified"),
                vec![("entry", only(&["staff-subject"]))],
            ),
        ]),
        ..Engine::default()
    });
    let rows = Arc::new(Rows::default());
    let hydrate: Arc<dyn Hydrate> = rows.clone();
    let served = |name: &str, languages: &[&str], hydrate| Served {
        name: name.into(),
        languages: languages.iter().map(|language| (*language).into()).collect(),
        hydrate,
    };
    let app = router(Parts {
        policy: Policy::new(vec![
            ("ad".into(), false),
            ("seller".into(), true),
            ("ledger".into(), false),
        ]),
        keys,
        collections: vec![
            served("ad", &["en", "sv"], Some(hydrate.clone())),
            served("seller", &["unspecified"], Some(hydrate)),
            served("ledger", &["unspecified"], None),
        ],
        search: engine.clone(),
        active: Arc::new(|| SET.into()),
        operations: Arc::new(State(is_ready)),
        limits,
    });
    Shop { engine, rows, app }
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body without how long it took.
    fn timeless(&self) -> String {
        let mut json = self.json();
        if let Some(took) = json.get_mut("took") {
            *took = 0.into();
        }
        json.to_string()
    }

    /// `_index/_id` of each hit.
    fn hits(&self) -> Vec<String> {
        self.json()["hits"]["hits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| {
                format!(
                    "{}/{}",
                    hit["_index"].as_str().unwrap(),
                    hit["_id"].as_str().unwrap()
                )
            })
            .collect()
    }

    fn error_type(&self) -> String {
        self.json()["error"]["type"].as_str().unwrap().to_owned()
    }

    fn reason(&self) -> String {
        self.json()["error"]["reason"].as_str().unwrap().to_owned()
    }
}

impl Shop {
    /// A request as a client on this machine sends it; JSON, where it has a body.
    async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: &str) -> Answer {
        let mut headers = Vec::new();
        headers.extend(key.map(|key| ("authorization", key)));
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, body.to_owned()).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        let peer: SocketAddr = "127.0.0.1:50000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    fn engine_does(&self, does: Does) {
        *self.engine.does.lock().unwrap() = does;
    }

    /// What the engine was given since it was last asked: the indexes without their common beginning.
    fn given(&self) -> Vec<String> {
        let given = std::mem::take(&mut *self.engine.given.lock().unwrap());
        let prefix = format!("documents-{SET}-");
        given
            .into_iter()
            .flat_map(|(indexes, _)| indexes)
            .map(|index| index.strip_prefix(&prefix).unwrap().to_owned())
            .collect()
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits {
        timeout: Duration::from_secs(10),
        ..Limits::default()
    };
    change(&mut limits);
    limits
}
