//! A request, read whole: who asks, for what names, with which parameters and body.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts as Head;
use instep_core::{DocId, Error, Principal, Result};
use instep_elastic::Params;

use crate::answer::Shared;
use crate::failure::Failure;
use crate::permits::Permit;
use crate::{caller, media};

/// A request of the search API.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) principal: Principal,
    /// The names in the path, decoded.
    pub(crate) names: Option<String>,
    /// The document's id in the path, decoded.
    pub(crate) id: Option<String>,
    pub(crate) params: Params,
    pub(crate) body: Bytes,
    pub(crate) now_ms: i64,
    pub(crate) started: Instant,
    /// Its place among the requests being answered.
    _permit: Permit,
}

impl Asked {
    /// How long ago it came, in milliseconds.
    pub(crate) fn took_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The document's id.
    pub(crate) fn document(&self) -> Result<DocId> {
        let id = self.id.as_deref().unwrap_or_default();
        DocId::parse(id).map_err(|error| Error::invalid("illegal_argument_exception", error.message()))
    }

    /// Refuses a body where none is read.
    pub(crate) fn without_body(&self) -> Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(
            "illegal_argument_exception",
            "a body was sent, and this request has none",
        ))
    }
}

/// Reads in the order in which reading costs: the caller first, the body last.
impl FromRequest<Shared> for Asked {
    type Rejection = Failure;

    async fn from_request(request: Request, gateway: &Shared) -> Result<Self, Failure> {
        let started = Instant::now();
        let (mut head, body) = request.into_parts();
        let principal = caller::identify(&gateway.parts.keys, &head)?;
        acceptable(&head)?;
        let (names, id) = path(&mut head).await?;
        let params = Params::new(pairs(&head)?)?;
        let content = media::body(&head.headers);
        let request = Request::from_parts(head, body);
        let body = Bytes::from_request(request, gateway)
            .await
            .map_err(|refused| match refused.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Failure::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Error::invalid(
                        "body_too_large_exception",
                        format!(
                            "the body is longer than {} bytes",
                            gateway.parts.limits.body_bytes
                        ),
                    ),
                ),
                _ => Error::invalid("illegal_argument_exception", "the body could not be read").into(),
            })?;
        if let (Err(content), false) = (content, body.is_empty()) {
            let message = format!("Content-Type header [{content}] is not supported");
            return Err(Failure::new(
                StatusCode::NOT_ACCEPTABLE,
                Error::invalid("media_type_header_exception", message)
                    .with_remedy("send `Content-Type: application/json`"),
            ));
        }
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        // Only now: a caller that is slow to send keeps nobody else from being answered.
        let permit = gateway.permits.take(&principal)?;
        Ok(Asked {
            principal,
            names,
            id,
            params,
            body,
            now_ms,
            started,
            _permit: permit,
        })
    }
}

/// Refuses who accepts no JSON.
pub(crate) fn acceptable(head: &Head) -> Result<(), Failure> {
    media::answer(&head.headers).map(drop).map_err(|accept| {
        let message = format!("Accept header [{accept}] is not supported: answers are JSON");
        Failure::new(
            StatusCode::NOT_ACCEPTABLE,
            Error::invalid("media_type_header_exception", message),
        )
    })
}

/// The names and the id in the path, decoded.
async fn path(head: &mut Head) -> Result<(Option<String>, Option<String>), Failure> {
    let params = RawPathParams::from_request_parts(head, &())
        .await
        .map_err(|_| Error::invalid("illegal_argument_exception", "the path is not UTF-8"))?;
    let get = |name| {
        params
            .iter()
            .find_map(|(known, value)| (known == name).then(|| value.to_owned()))
    };
    Ok((get("names"), get("id")))
}

/// The URL's parameters, decoded, in their order.
pub(crate) fn pairs(head: &Head) -> Result<Vec<(String, String)>> {
    Query::<Vec<(String, String)>>::try_from_uri(&head.uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| {
            Error::invalid(
                "illegal_argument_exception",
                "the URL's parameters could not be read",
            )
        })
}
