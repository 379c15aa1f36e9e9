//! What every request passes through: limits on the way in, the product's headers on the way out.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use instep_core::Error;

use crate::failure::Failure;
use crate::media;

/// Official clients of Elasticsearch refuse answers without it.
const PRODUCT: HeaderName = HeaderName::from_static("x-elastic-product");

/// Lets a request in, for as long as it may take, and puts the headers of every answer; names its JSON as the client does.
pub(crate) async fn pass(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let json = media::answer(request.headers()).unwrap_or_default();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match encoding_is_known(request.headers()) {
        true => within(limit, next.run(request)).await,
        false => {
            let error = Error::invalid(
                "illegal_argument_exception",
                "the Content-Encoding header is not supported; supported: gzip",
            );
            Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(PRODUCT, HeaderValue::from_static("Elasticsearch"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let is_json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|name| name.as_bytes().starts_with(b"application/json"));
    if is_json {
        headers.insert(CONTENT_TYPE, json.header());
    }
    // The route's pattern, not the path: names and ids stay out of the log.
    tracing::debug!(
        %method,
        route = route.as_ref().map_or("none", |route| route.as_str()),
        status = response.status().as_u16(),
        micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// Gives a request up when its time is over.
async fn within(limit: Duration, answer: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(limit, answer).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request took longer than {} ms", limit.as_millis());
            Failure::from(Error::transient("timeout_exception", message)).into_response()
        }
    }
}

/// Bodies come as they are, or as gzip.
fn encoding_is_known(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let first = encodings.next();
    first.is_none_or(|encoding| matches!(encoding.as_bytes(), b"gzip" | b"identity" | b""))
        && encodings.next().is_none()
}

/// The answer of a request that panicked: nothing of the panic's message, which may hold anything.
pub(crate) fn panicked(_panic: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request panicked");
    Failure::from(Error::fatal(
        "exception",
        "the service failed to answer; its log says why",
    ))
    .into_response()
}
