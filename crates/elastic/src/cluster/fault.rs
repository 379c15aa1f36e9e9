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

/// The body of a failure. What comes before the request is understood tells it in words alone.
#[derive(Deserialize)]
struct Body {
    error: Words,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Told(Told),
    Only(String),
}

impl Told {
    /// Reads the body of a failure; an empty one where it cannot be read.
    pub(crate) fn read(body: &[u8]) -> Told {
        match serde_json::from_slice(body) {
            Ok(Body {
                error: Words::Told(told),
            }) => told,
            Ok(Body {
                error: Words::Only(reason),
            }) => Told {
                reason: Some(reason),
                ..Told::default()
            },
            Err(_) => Told::default(),
        }
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

    pub(crate) fn says(&self, text: &str) -> bool {
        self.all()
            .iter()
            .any(|told| told.reason.as_deref().is_some_and(|reason| reason.contains(text)))
    }
}

/// What concerns more than one request: `None` where the failure is the request's own.
pub(crate) fn of_everyone(status: u16, told: &Told) -> Option<Error> {
    if told.is("cluster_block_exception") {
        if told.says("read-only") || told.says("index write") {
            return Some(read_only());
        }
        return Some(unavailable("the cluster is blocked"));
    }
    if told.is("index_closed_exception") {
        return Some(closed());
    }
    let full = [
        "es_rejected_execution_exception",
        "rejected_execution_exception",
        "circuit_breaking_exception",
    ];
    if status == 429 || full.iter().any(|kind| told.is(kind)) {
        return Some(busy());
    }
    // A request for several documents is answered with success, and each of them refused. And a cluster whose index of
    // users is away knows nobody for a while.
    if matches!(status, 401 | 403) || told.is("security_exception") {
        let message = match status {
            401 => "the cluster does not know who we are",
            _ => "the cluster does not allow what we ask for",
        };
        return Some(Error::transient("engine_denied", message).with_remedy(
            "check the login in the cluster's section, and its rights: instep check prints those that are needed; it \
             goes on by itself",
        ));
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

/// An answer that is longer than is read: less is to be asked for.
pub(crate) fn too_long() -> Error {
    Error::transient(
        "engine_answer_too_long",
        "the cluster's answer is longer than is read at once",
    )
    .with_remedy("ask for less at once")
}

/// No write is taken.
pub(crate) fn read_only() -> Error {
    Error::transient(
        "engine_read_only",
        "the cluster takes no writes: the index is read-only",
    )
    .with_remedy(
        "free disk space on the cluster; where the block stays, set index.blocks.read_only_allow_delete \
         (or index.blocks.read_only, index.blocks.write) to null, and indexing goes on by itself; an \
         index that Elasticsearch 7 made stays so under 9: delete it, then: instep resume set:<name>",
    )
}

/// Neither reads nor writes are taken.
pub(crate) fn closed() -> Error {
    Error::transient("index_closed", "the index is closed")
        .with_remedy("open it: POST /<index>/_open; indexing goes on by itself")
}

/// The index is not there although it was made.
pub(crate) fn missing(index: &str) -> Error {
    Error::fatal("index_missing", format!("the index `{index}` is gone"))
        .with_remedy("instep resume set:<name>: the index is made anew and filled by a scan")
}

/// Another index stands in its place.
pub(crate) fn replaced(index: &str) -> Error {
    Error::fatal(
        "index_replaced",
        format!("the index `{index}` is not the one that was made here"),
    )
    .with_remedy("delete it, then instep resume set:<name>: it is made anew and filled by a scan")
}

/// Another instep fills the index.
pub(crate) fn of_another(index: &str) -> Error {
    Error::fatal(
        "index_of_another",
        format!("the index `{index}` is filled by another instep, or by a state that was lost"),
    )
    .with_remedy(
        "give the set a name that no other has in this cluster; or, where nobody fills the index any more, delete it, then: \
         instep resume set:<name>",
    )
}

/// A failure of a call that is about indexes, not about documents: what the cluster says may be told.
pub(crate) fn of_administration(status: u16, body: &[u8], what: &str) -> Error {
    let told = Told::read(body);
    if let Some(error) = of_everyone(status, &told) {
        return error.context(what.to_owned());
    }
    let error = match status {
        500.. => unavailable("the cluster failed"),
        _ => Error::invalid("cluster_refused", said(&told)).with_remedy(
            "mend the settings in the cluster's section and start again; or mend the cluster, then: instep resume set:<name>",
        ),
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
        "too_many_clauses",
        "too_many_nested_clauses",
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
            (
                500,
                body("too_many_nested_clauses", "maxClauseCount is set to 1024"),
                "illegal_argument_exception",
            ),
            (
                403,
                body(
                    "cluster_block_exception",
                    "index [a] blocked by: [FORBIDDEN/8/index write (api)];",
                ),
                "engine_read_only",
            ),
            (
                406,
                r#"{"error":"Content-Type header [a/b] is not supported","status":406}"#.to_owned(),
                "illegal_argument_exception",
            ),
            (
                200,
                body(
                    "security_exception",
                    "action [indices:data/read/mget[shard]] is unauthorized",
                ),
                "engine_denied",
            ),
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
        let words = Told::read(br#"{"error":"no handler found for uri [/x]","status":400}"#);
        assert!(words.says("no handler"));
    }
}
