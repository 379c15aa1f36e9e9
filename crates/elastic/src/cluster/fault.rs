//! What a cluster's failures mean: who acts on them, and how. No value of a document and no text of a cluster's answer
//! to a write is in a message; an answer to a search speaks of the caller's own request, and may be.

use instep_core::{Error, Fault};
use serde::Deserialize;

/// A failure as a cluster tells it, of a request or of one item of a bulk.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Told {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) caused_by: Option<Box<Told>>,
    #[serde(default)]
    pub(crate) root_cause: Vec<Told>,
    #[serde(default)]
    pub(crate) failed_shards: Vec<FailedShard>,
}

/// Why one shard failed.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FailedShard {
    #[serde(default)]
    reason: Box<Told>,
}

/// The body of a failure.
#[derive(Deserialize)]
struct Body {
    error: Told,
}

impl Told {
    /// Reads the body of a failure; an empty one where it cannot be read.
    pub(crate) fn read(body: &[u8]) -> Told {
        serde_json::from_slice::<Body>(body)
            .map(|body| body.error)
            .unwrap_or_default()
    }

    /// This failure and everything it says it comes from, outermost first.
    pub(crate) fn all(&self) -> Vec<&Told> {
        let mut all = vec![self];
        let mut at = 0;
        while at < all.len() && all.len() < 50 {
            let told = all[at];
            all.extend(told.root_cause.iter().take(5));
            all.extend(told.failed_shards.iter().take(5).map(|shard| &*shard.reason));
            all.extend(told.caused_by.as_deref());
            at += 1;
        }
        all
    }

    /// Whether it, or what it comes from, is of this kind.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.all().iter().any(|told| told.kind == kind)
    }

    fn says(&self, text: &str) -> bool {
        self.all()
            .iter()
            .any(|told| told.reason.as_deref().is_some_and(|reason| reason.contains(text)))
    }
}

/// What concerns more than one request: `None` where the failure is the request's own.
pub(crate) fn of_everyone(status: u16, told: &Told) -> Option<Error> {
    if told.is("cluster_block_exception") {
        if told.says("read-only") {
            return Some(
                Error::transient("engine_read_only", "the cluster takes no writes: the index is read-only")
                    .with_remedy(
                        "free disk space on the cluster; where the block stays, set index.blocks.read_only_allow_delete \
                         (or index.blocks.read_only, index.blocks.write) to null; indexing goes on by itself",
                    ),
            );
        }
        return Some(unavailable("the cluster is blocked"));
    }
    if told.is("index_closed_exception") {
        return Some(
            Error::transient("index_closed", "the index is closed")
                .with_remedy("open it: POST /<index>/_open; indexing goes on by itself"),
        );
    }
    let full = [
        "es_rejected_execution_exception",
        "rejected_execution_exception",
        "circuit_breaking_exception",
    ];
    if status == 429 || full.iter().any(|kind| told.is(kind)) {
        return Some(busy());
    }
    if status == 401 || status == 403 {
        let message = match status {
            401 => "the cluster does not know who we are",
            _ => "the cluster does not allow what we ask for",
        };
        return Some(
            Error::fatal("engine_denied", message)
                .with_remedy("check user, password or api_key in the configuration, and their rights"),
        );
    }
    if told.is("unavailable_shards_exception") || told.is("no_shard_available_action_exception") {
        return Some(unavailable("a part of the index is not available"));
    }
    if matches!(status, 502..=504) {
        return Some(unavailable("the cluster is not available"));
    }
    None
}

/// The cluster has no room for a request now.
pub(crate) fn busy() -> Error {
    Error::transient("engine_busy", "the cluster has no room for more requests")
        .with_remedy("it is asked less often, and goes on by itself; a larger cluster takes more")
}

fn unavailable(message: &str) -> Error {
    Error::transient("engine_unavailable", message)
        .with_remedy("look at the cluster's health: GET /_cluster/health; it goes on by itself")
}

/// An answer that is none: cut, HTML, of another shape.
pub(crate) fn unreadable(what: &str) -> Error {
    Error::transient("engine_unreadable", format!("the cluster's answer {what}"))
        .with_remedy("something between instep and the cluster may have answered in its place")
}

/// The index is not there although it was made.
pub(crate) fn missing(index: &str) -> Error {
    Error::fatal("index_missing", format!("the index `{index}` is gone"))
        .with_remedy("set the index set to follow again: the index is made anew and filled by a scan")
}

/// Another index stands in its place.
pub(crate) fn replaced(index: &str) -> Error {
    Error::fatal(
        "index_replaced",
        format!("the index `{index}` is not the one that was made here"),
    )
    .with_remedy("delete it, then set the index set to follow again: it is made anew and filled by a scan")
}

/// A failure of a call that is about indexes, not about documents: what the cluster says may be told.
pub(crate) fn of_administration(status: u16, body: &[u8], what: &str) -> Error {
    let told = Told::read(body);
    if let Some(error) = of_everyone(status, &told) {
        return error.context(what.to_owned());
    }
    let error = match status {
        500.. => unavailable("the cluster failed"),
        _ => Error::invalid("cluster_refused", said(&told)),
    };
    error.context(what.to_owned())
}

/// A failure of a search.
pub(crate) fn of_search(status: u16, body: &[u8]) -> Error {
    let told = Told::read(body);
    if told.is("too_many_buckets_exception") {
        return super::aggregate::too_many();
    }
    if told.is("index_not_found_exception") {
        return Error::not_found("index_not_found_exception", "no such index");
    }
    if let Some(error) = of_everyone(status, &told) {
        return error;
    }
    // Some wrong requests are told as failures of the cluster's own.
    let callers = [
        "aggregation_execution_exception",
        "illegal_argument_exception",
        "parsing_exception",
    ];
    match status {
        500.. if callers.iter().any(|kind| told.is(kind)) => {
            Error::invalid("illegal_argument_exception", said(&told))
        }
        500.. => unavailable("the cluster failed to search"),
        _ => {
            let code = match told.is("query_shard_exception") {
                true => "query_shard_exception",
                false => "illegal_argument_exception",
            };
            Error::new(Fault::Invalid, code, said(&told))
        }
    }
}

/// What the innermost cause says, shortened.
fn said(told: &Told) -> String {
    let all = told.all();
    let reason = all.iter().rev().find_map(|told| told.reason.as_deref());
    let reason = reason.unwrap_or("the cluster refused the request and did not say why");
    let end = reason.char_indices().nth(300).map_or(reason.len(), |(at, _)| at);
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_a_code_each() {
        let body = |kind: &str, reason: &str| {
            format!(
                r#"{{"error":{{"root_cause":[{{"type":"{kind}","reason":"{reason}"}}],"type":"{kind}","reason":"{reason}"}},"status":1}}"#
            )
        };
        let cases = [
            (
                403,
                body(
                    "cluster_block_exception",
                    "index [a] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
                ),
                "engine_read_only",
            ),
            (
                503,
                body(
                    "cluster_block_exception",
                    "blocked by: [SERVICE_UNAVAILABLE/2/no master];",
                ),
                "engine_unavailable",
            ),
            (
                429,
                body("es_rejected_execution_exception", "full"),
                "engine_busy",
            ),
            (429, String::new(), "engine_busy"),
            (400, body("index_closed_exception", "closed"), "index_closed"),
            (401, String::new(), "engine_denied"),
            (403, "<html>".to_owned(), "engine_denied"),
            (503, "<html>".to_owned(), "engine_unavailable"),
            (500, String::new(), "engine_unavailable"),
            (
                404,
                body("index_not_found_exception", "no such index [a]"),
                "index_not_found_exception",
            ),
            (
                503,
                body("too_many_buckets_exception", "x"),
                "too_many_buckets_exception",
            ),
            (
                500,
                body("aggregation_execution_exception", "order"),
                "illegal_argument_exception",
            ),
            (
                400,
                body("query_shard_exception", "failed"),
                "query_shard_exception",
            ),
        ];
        for (status, body, code) in cases {
            assert_eq!(of_search(status, body.as_bytes()).code(), code, "{status} {body}");
        }
    }
}
