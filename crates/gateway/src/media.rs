//! Media types: what a request's body is, and what its answer is called.
//!
//! Official clients name JSON with a vendor and the version they are compatible with; the answer carries the name the
//! client used. A type that is not JSON is refused by name.

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};

/// A name for JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Json {
    /// `application/json`.
    #[default]
    Plain,
    /// `application/vnd.elasticsearch+json` with this `compatible-with`.
    Elasticsearch(u8),
    /// `application/vnd.opensearch+json` with this `compatible-with`.
    OpenSearch(u8),
}

impl Json {
    /// As a `Content-Type`.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Json::Plain => "application/json; charset=UTF-8",
            Json::Elasticsearch(7) => "application/vnd.elasticsearch+json; compatible-with=7",
            Json::Elasticsearch(8) => "application/vnd.elasticsearch+json; compatible-with=8",
            Json::Elasticsearch(_) => "application/vnd.elasticsearch+json; compatible-with=9",
            Json::OpenSearch(7) => "application/vnd.opensearch+json; compatible-with=7",
            Json::OpenSearch(8) => "application/vnd.opensearch+json; compatible-with=8",
            Json::OpenSearch(_) => "application/vnd.opensearch+json; compatible-with=9",
        })
    }

    fn parse(text: &str) -> Option<Json> {
        let mut pieces = text.split(';').map(str::trim);
        let name = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let mut version = None;
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            let (key, value) = piece.split_once('=')?;
            match key.trim().to_ascii_lowercase().as_str() {
                "charset" if value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") => {}
                "compatible-with" => match value.trim() {
                    "7" => version = Some(7),
                    "8" => version = Some(8),
                    "9" => version = Some(9),
                    _ => return None,
                },
                // How much a client prefers a type: any does.
                "q" => {}
                _ => return None,
            }
        }
        match (name.as_str(), version) {
            ("application/json", _) => Some(Json::Plain),
            ("application/vnd.elasticsearch+json", Some(version)) => Some(Json::Elasticsearch(version)),
            ("application/vnd.opensearch+json", Some(version)) => Some(Json::OpenSearch(version)),
            _ => None,
        }
    }
}

/// The name of the answer's JSON, from what the client accepts, or else from what it sent. `Err` is the text of an
/// `Accept` header that leaves no JSON.
pub(crate) fn answer(headers: &HeaderMap) -> Result<Json, String> {
    let accepted: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .map(|accept| accept.to_str().unwrap_or_default())
        .flat_map(|accept| accept.split(','))
        .map(str::trim)
        .filter(|accept| !accept.is_empty())
        .collect();
    if let Some(json) = accepted.iter().find_map(|accept| Json::parse(accept)) {
        return Ok(json);
    }
    let any = accepted.iter().any(|accept| {
        let name = accept.split(';').next().unwrap_or_default().trim();
        matches!(name, "*/*" | "application/*")
    });
    if any || accepted.is_empty() {
        return Ok(body(headers).unwrap_or_default());
    }
    Err(accepted.join(", "))
}

/// What the body is called. `Err` is the text of a `Content-Type` that is not JSON; empty without one.
pub(crate) fn body(headers: &HeaderMap) -> Result<Json, String> {
    let mut sent = headers.get_all(CONTENT_TYPE).iter();
    let first = sent.next().map(|sent| sent.to_str().unwrap_or_default());
    match (first, sent.next()) {
        (Some(text), None) => Json::parse(text).ok_or_else(|| text.to_owned()),
        (Some(_), Some(_)) => Err("more than one".to_owned()),
        (None, _) => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(accept: Option<&'static str>, content: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(content) = content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        }
        headers
    }

    #[test]
    fn answers_carry_the_name_the_client_used() {
        let vendor8 = "application/vnd.elasticsearch+json; compatible-with=8";
        let vendor9 = "application/vnd.elasticsearch+json;compatible-with=9";
        for (accept, content, expected) in [
            (None, None, Some(Json::Plain)),
            (Some("*/*"), Some("application/json"), Some(Json::Plain)),
            (Some(vendor8), None, Some(Json::Elasticsearch(8))),
            (Some(vendor9), Some(vendor9), Some(Json::Elasticsearch(9))),
            (Some("*/*"), Some(vendor8), Some(Json::Elasticsearch(8))),
            (
                Some("application/vnd.elasticsearch+json; compatible-with=8,text/plain"),
                None,
                Some(Json::Elasticsearch(8)),
            ),
            (
                Some("application/vnd.opensearch+json; compatible-with=7"),
                None,
                Some(Json::OpenSearch(7)),
            ),
            (Some("application/json, text/plain, */*"), None, Some(Json::Plain)),
            (
                Some("text/html,application/xml;q=0.9,*/*;q=0.8"),
                None,
                Some(Json::Plain),
            ),
            (Some("text/html"), None, None),
            (Some("application/yaml"), Some("application/json"), None),
            (
                Some("application/vnd.elasticsearch+json; compatible-with=12"),
                None,
                None,
            ),
        ] {
            let found = answer(&headers(accept, content));
            assert_eq!(found.ok(), expected, "{accept:?} {content:?}");
        }
    }

    #[test]
    fn bodies_are_json() {
        for (content, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/vnd.elasticsearch+json; compatible-with=8", true),
            ("application/vnd.elasticsearch+json", false),
            ("application/vnd.elasticsearch+json; compatible-with=x", false),
            ("application/vnd.elasticsearch+x-ndjson; compatible-with=8", false),
            ("application/x-ndjson", false),
            ("application/json; charset=latin1", false),
            ("application/json; boundary=x", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(body(&headers(None, Some(content))).is_ok(), good, "{content}");
        }
        assert_eq!(body(&headers(None, None)), Err(String::new()));
        let mut two = headers(None, Some("application/json"));
        two.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(body(&two).is_err());
    }

    #[test]
    fn names_are_read_back() {
        for json in [
            Json::Plain,
            Json::Elasticsearch(7),
            Json::Elasticsearch(8),
            Json::Elasticsearch(9),
            Json::OpenSearch(7),
        ] {
            assert_eq!(Json::parse(json.header().to_str().unwrap()), Some(json));
        }
    }
}
