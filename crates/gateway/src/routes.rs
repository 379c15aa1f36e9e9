//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use instep_core::{Error, Result};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

use crate::answer::{Gateway, Shared};
use crate::asked::{self, Asked, pairs};
use crate::failure::Failure;
use crate::media::Json;
use crate::parts::Parts;
use crate::permits::{Permit, Permits};
use crate::read::Read;
use crate::{caller, layers};

/// Every route with its methods, as told to those who ask for another.
pub(crate) const ROUTES: [(&str, &str); 13] = [
    ("/", "GET, HEAD"),
    ("/_search", "GET, POST"),
    ("/{names}/_search", "GET, POST"),
    ("/_count", "GET, POST"),
    ("/{names}/_count", "GET, POST"),
    ("/{names}/_doc/{id}", "GET, HEAD"),
    ("/_mget", "GET, POST"),
    ("/{names}/_mget", "GET, POST"),
    ("/_instep/health/live", "GET"),
    ("/_instep/health/ready", "GET"),
    ("/_instep/status", "GET"),
    ("/_instep/capabilities", "GET"),
    ("/metrics", "GET"),
];

/// The search API over these parts. It expects the peer's address as axum's `ConnectInfo<SocketAddr>`, as
/// [`serve`](crate::serve) gives it: without one a caller that sends no key is refused.
pub fn router(parts: Parts) -> Router {
    let limits = parts.limits.clone();
    let permits = Permits::new(limits.concurrent_requests);
    let routes = ROUTES.iter().fold(Router::new(), |router, (path, _)| {
        router.route(path, handler(path))
    });
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .with_state(Shared(Arc::new(Gateway { parts, permits })))
        // One layer of several, from the outermost in: each by itself would be made anew for every request.
        .layer((
            CompressionLayer::new(),
            from_fn_with_state(limits.timeout, layers::pass),
            CatchPanicLayer::custom(layers::panicked),
            RequestDecompressionLayer::new(),
            DefaultBodyLimit::max(limits.body_bytes),
        ))
}

fn handler(path: &str) -> MethodRouter<Shared> {
    match path {
        "/" => get(info),
        "/_search" | "/{names}/_search" => get(search).post(search),
        "/_count" | "/{names}/_count" => get(count).post(count),
        "/{names}/_doc/{id}" => get(document),
        "/_mget" | "/{names}/_mget" => get(documents).post(documents),
        "/_instep/health/live" => get(live),
        "/_instep/health/ready" => get(ready),
        "/_instep/status" => get(status),
        "/_instep/capabilities" => get(capabilities),
        "/metrics" => get(metrics),
        other => unreachable!("the route {other} has no handler; a test builds the router"),
    }
}

async fn info(State(gateway): State<Shared>, request: Request) -> Result<Response, Failure> {
    let (head, _) = request.into_parts();
    // Clients ask here first: a key that is wrong is told here.
    caller::identify(&gateway.parts.keys, &head)?;
    asked::acceptable(&head)?;
    let mut pretty = false;
    for (name, value) in pairs(&head)? {
        match (name.as_str(), value.as_str()) {
            ("pretty" | "human", "false") | ("human", "" | "true") => {}
            ("pretty", "" | "true") => pretty = true,
            _ => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    format!("unknown parameter [{name}] of [/]; supported: pretty, human"),
                )
                .into());
            }
        }
    }
    let info = instep_elastic::render_info(env!("CARGO_PKG_VERSION"));
    Ok(json(StatusCode::OK, if pretty { indented(info) } else { info }))
}

async fn search(State(gateway): State<Shared>, asked: Asked) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, gateway.search(&asked).await?))
}

async fn count(State(gateway): State<Shared>, asked: Asked) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, gateway.count(&asked).await?))
}

async fn document(State(gateway): State<Shared>, asked: Asked) -> Result<Response, Failure> {
    Ok(match gateway.document(&asked).await? {
        Read::Found(body) => json(StatusCode::OK, body),
        Read::Missing(body) => json(StatusCode::NOT_FOUND, body),
    })
}

async fn documents(State(gateway): State<Shared>, asked: Asked) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, gateway.documents(&asked).await?))
}

async fn live() -> Response {
    json(StatusCode::OK, r#"{"status":"live"}"#.to_owned())
}

async fn ready(State(gateway): State<Shared>) -> Response {
    match gateway.parts.operations.ready().await {
        Ok(()) => json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
        Err(error) => {
            let body = serde_json::json!({"status": "not_ready", "code": error.code()});
            json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
        }
    }
}

async fn status(State(gateway): State<Shared>, request: Request) -> Result<Response, Failure> {
    let _permit = operator(&gateway, request)?;
    let status = gateway.parts.operations.status().await.map_err(inside)?;
    Ok(json(StatusCode::OK, status.to_string()))
}

async fn metrics(State(gateway): State<Shared>, request: Request) -> Result<Response, Failure> {
    let _permit = operator(&gateway, request)?;
    let text = gateway.parts.operations.metrics().await.map_err(inside)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}

async fn capabilities(State(gateway): State<Shared>, request: Request) -> Result<Response, Failure> {
    let (head, _) = request.into_parts();
    caller::identify(&gateway.parts.keys, &head)?;
    asked::acceptable(&head)?;
    Ok(json(StatusCode::OK, instep_elastic::capabilities()))
}

async fn unknown(method: Method, uri: Uri) -> Failure {
    let error = Error::not_found(
        "no_handler_found_exception",
        format!("no handler found for [{method} {}]", shown(&uri)),
    );
    Failure::new(StatusCode::NOT_FOUND, error.with_remedy(listed()))
}

async fn not_allowed(method: Method, uri: Uri) -> Failure {
    let error = Error::invalid(
        "method_not_allowed_exception",
        format!("[{method}] is not supported for [{}]", shown(&uri)),
    );
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, error.with_remedy(listed()))
}

/// Refuses who may not see operational state, and gives the others a place among the requests being answered.
fn operator(gateway: &Gateway, request: Request) -> Result<Permit, Failure> {
    let (head, _) = request.into_parts();
    let principal = caller::identify(&gateway.parts.keys, &head)?;
    caller::may_operate(&gateway.parts.keys, &principal)?;
    gateway.permits.take(&principal)
}

fn inside(error: Error) -> Failure {
    Failure::inside(error, &Default::default())
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, Json::Plain.header())], body).into_response()
}

fn indented(json: String) -> String {
    serde_json::from_str::<serde_json::Value>(&json)
        .map(|value| format!("{value:#}\n"))
        .unwrap_or(json)
}

/// The path as it was sent, cut to a readable length.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}

fn listed() -> String {
    let routes: Vec<String> = ROUTES
        .iter()
        .map(|(path, methods)| format!("{methods} {path}"))
        .collect();
    format!("this service answers: {}", routes.join("; "))
}
