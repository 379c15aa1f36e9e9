//! What a caller is told when a request fails.
//!
//! Guarantees: the body has Elasticsearch's shape; what went wrong inside (a path, a physical index, a cluster's
//! answer) goes to the log and not to the caller, who gets a stable code; physical names that an engine's message
//! carries are replaced by the names callers use.

use std::collections::BTreeMap;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use instep_core::{Error, Fault, IndexName};

use crate::media::Json;

/// How physical names begin: see [`IndexName::physical`].
const PHYSICAL: &str = "documents-";

/// A failed request: a status and what is said about it.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: Error,
}

impl Failure {
    /// A failure whose status says more than its fault does.
    pub(crate) fn new(status: StatusCode, error: Error) -> Self {
        Failure { status, error }
    }

    /// A failure while answering over these indexes.
    pub(crate) fn inside(error: Error, names: &BTreeMap<IndexName, String>) -> Self {
        let told = match error.fault() {
            // It passes by itself, and the caller is told to come again.
            Fault::Transient => {
                tracing::warn!(code = error.code(), fault = error.fault().as_str(), %error, "a request failed");
                hidden(&error)
            }
            Fault::Poison | Fault::Fatal => {
                tracing::error!(code = error.code(), fault = error.fault().as_str(), %error, "a request failed");
                hidden(&error)
            }
            // Names lead to collections that are served: an index that is not there is one that is not made yet.
            Fault::NotFound if error.code() == "index_not_found_exception" => {
                Error::transient("not_ready", "a collection of this request is not indexed yet")
                    .with_remedy("try again in a moment: /_instep/health/ready says when")
            }
            Fault::Invalid | Fault::Unauthenticated | Fault::Denied | Fault::NotFound | Fault::Conflict => {
                let told = Error::new(error.fault(), error.code(), logical(&error.to_string(), names));
                match error.remedy() {
                    Some(remedy) => told.with_remedy(logical(remedy, names)),
                    None => told,
                }
            }
        };
        Failure::from(told)
    }

    /// The answer's status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said about it.
    pub(crate) fn into_error(self) -> Error {
        self.error
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.fault() {
            Fault::Transient => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Poison | Fault::Fatal => StatusCode::INTERNAL_SERVER_ERROR,
            Fault::Invalid => StatusCode::BAD_REQUEST,
            Fault::Unauthenticated => StatusCode::UNAUTHORIZED,
            Fault::Denied => StatusCode::FORBIDDEN,
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::Conflict => StatusCode::CONFLICT,
        };
        Failure { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = body(&self.error, self.status);
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, Json::Plain.header());
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey"));
            headers.append(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"instep\", charset=\"UTF-8\""),
            );
        }
        response
    }
}

/// The body names the status that is sent, which may say more than the error's fault.
fn body(error: &Error, sent: StatusCode) -> String {
    let (status, body) = instep_elastic::render_error(error);
    if status == sent.as_u16() {
        return body;
    }
    match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(mut value) => {
            value["status"] = sent.as_u16().into();
            value.to_string()
        }
        Err(_) => body,
    }
}

/// What a caller is told of a failure that is not theirs.
fn hidden(error: &Error) -> Error {
    let message = if error.is_transient() {
        "the service cannot answer now"
    } else {
        "the service failed to answer; its log says why"
    };
    Error::new(
        error.fault(),
        "search_phase_execution_exception",
        format!("{message} [{}]", error.code()),
    )
}

/// The same text with callers' names in place of physical ones, also of those that were not searched.
fn logical(text: &str, names: &BTreeMap<IndexName, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PHYSICAL) {
        let (before, from) = rest.split_at(at);
        let end = from
            .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')))
            .unwrap_or(from.len());
        out.push_str(before);
        out.push_str(names.get(&from[..end]).map_or("an index", String::as_str));
        rest = &from[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_names_do_not_get_out() {
        let names = BTreeMap::from([
            (IndexName::from("documents-a-ad-sv"), "ad-sv".to_owned()),
            (IndexName::from("documents-a-ad-sv-se"), "ad-sv-se".to_owned()),
        ]);
        for (text, expected) in [
            (
                "no field [x] in [documents-a-ad-sv-se]",
                "no field [x] in [ad-sv-se]",
            ),
            ("documents-a-ad-sv, documents-b-ad", "ad-sv, an index"),
            ("documents-documents-a-ad-sv.", "an index."),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(logical(text, &names), expected);
        }
    }

    #[test]
    fn failures_inside_are_told_by_code_alone() {
        for fault in [Fault::Transient, Fault::Poison, Fault::Fatal] {
            let error = Error::new(fault, "disk_full", "cannot write /var/lib/x").with_remedy("empty /var");
            let failure = Failure::inside(error, &BTreeMap::new());
            let told = format!("{} {:?}", failure.error, failure.error.remedy());
            assert!(told.contains("disk_full") && !told.contains("/var"), "{told}");
            assert!(failure.status.is_server_error());
        }
    }
}
