//! Reading by id and walking; and cutting what is ours off a stored source.

use std::borrow::Cow;
use std::sync::Arc;

use instep_core::{
    Authorized, Cursor, DocId, Error, Fault, GetRequest, IndexName, Readers, Result, Stored, Ticket, Walked,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Inner;
use super::client::Call;
use super::fault::{self, Told};
use super::fields::{ID, OWN};
use super::index::check_name;

/// Documents of one request by id.
const AT_ONCE: usize = 1_000;
/// Documents of one step of a walk, at most.
const STEP: usize = 5_000;

/// A document of an answer.
#[derive(Deserialize)]
struct Found<'a> {
    #[serde(rename = "_index")]
    index: String,
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(default)]
    found: bool,
    #[serde(rename = "_source", borrow)]
    source: Option<&'a RawValue>,
    error: Option<Told>,
}

#[derive(Deserialize)]
struct Documents<'a> {
    #[serde(borrow)]
    docs: Vec<Found<'a>>,
}

/// Our own part of a source.
#[derive(Deserialize)]
struct Own<'a> {
    #[serde(default, borrow)]
    readers: Vec<Token<'a>>,
}

/// Borrowed where nothing in it is escaped, which is almost always.
#[derive(Deserialize)]
struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

/// A stored source in its two parts: who may read it, and the document byte for byte.
pub(crate) fn parts(stored: &str) -> Result<(Readers, Arc<str>)> {
    let foreign = || {
        Error::fatal(
            "foreign_document",
            "an index of ours holds a document that was not written by instep",
        )
        .with_remedy("verify with --repair, and let nobody else write to the index")
    };
    let rest = stored
        .strip_prefix("{\"")
        .and_then(|rest| rest.strip_prefix(OWN)?.strip_prefix("\":"))
        .ok_or_else(foreign)?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Own<'_>>();
    let own = values.next().and_then(Result::ok).ok_or_else(foreign)?;
    let rest = &rest[values.byte_offset()..];
    let members = rest.strip_prefix(',').unwrap_or(rest);
    let mut source = String::with_capacity(1 + members.len());
    source.push('{');
    source.push_str(members);
    let readers = Readers::of_tokens(own.readers.iter().map(|token| &*token.0));
    Ok((readers, source.into()))
}

/// The same of a document that may be foreign: then nobody may read it, and it is as it lies there.
fn parts_of_any(stored: &str) -> (Readers, Arc<str>) {
    parts(stored).unwrap_or_else(|_| (Readers::nobody(), stored.into()))
}

impl Found<'_> {
    fn stored(&self) -> Result<Stored> {
        let unreadable = || fault::unreadable("holds a document without its parts");
        let (readers, source) = parts_of_any(self.source.ok_or_else(unreadable)?.get());
        Ok(Stored {
            id: DocId::parse(&self.id)?,
            readers,
            source,
            ticket: Ticket(self.version.ok_or_else(unreadable)?),
        })
    }
}

impl Inner {
    /// See [`instep_core::Engine::read`].
    pub(crate) async fn read(&self, index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
        let wanted: Vec<(&IndexName, &DocId)> = ids.iter().map(|id| (index, id)).collect();
        self.documents(&wanted).await
    }

    /// See [`instep_core::Search::get`].
    pub(crate) async fn get(
        &self,
        indexes: &[IndexName],
        authorized: &Authorized<GetRequest>,
    ) -> Result<Vec<Option<(IndexName, Stored)>>> {
        let request = authorized.request();
        let wanted: Vec<(&IndexName, &DocId)> = request
            .ids
            .iter()
            .flat_map(|id| indexes.iter().map(move |index| (index, id)))
            .collect();
        let found = self.documents(&wanted).await?;
        if indexes.is_empty() {
            return Ok(request.ids.iter().map(|_| None).collect());
        }
        let mut documents = Vec::with_capacity(request.ids.len());
        for of_one in found.chunks(indexes.len()) {
            let first = indexes.iter().zip(of_one).find_map(|(index, stored)| {
                let stored = stored.as_ref()?;
                authorized
                    .visibility()
                    .admits(&stored.readers)
                    .then(|| (index.clone(), stored.clone()))
            });
            documents.push(first.map(|(index, mut stored)| {
                stored.source = request.source.apply(stored.source);
                (index, stored)
            }));
        }
        Ok(documents)
    }

    async fn documents(&self, wanted: &[(&IndexName, &DocId)]) -> Result<Vec<Option<Stored>>> {
        let mut documents = Vec::with_capacity(wanted.len());
        let (mut left, mut at_once) = (wanted, AT_ONCE);
        while !left.is_empty() {
            let (wanted, rest) = left.split_at(at_once.min(left.len()));
            let list: Vec<Value> = wanted
                .iter()
                .map(|(index, id)| json!({"_index": index.as_str(), "_id": id.as_str()}))
                .collect();
            let body = json!({"docs": list}).to_string();
            let answer = match self.client.call(Call::post("_mget", body.into_bytes())).await {
                Err(error) if is_too_much(&error) && wanted.len() > 1 => {
                    at_once = wanted.len() / 2;
                    continue;
                }
                answer => answer?,
            };
            left = rest;
            if !answer.is_success() {
                return Err(fault::of_administration(
                    answer.status,
                    &answer.body,
                    "reading documents by id",
                ));
            }
            let answered: Documents<'_> =
                serde_json::from_slice(&answer.body).map_err(|_| fault::unreadable("holds no documents"))?;
            if answered.docs.len() != wanted.len() {
                return Err(fault::unreadable("holds another number of documents"));
            }
            for ((index, id), found) in wanted.iter().zip(&answered.docs) {
                if let Some(told) = &found.error {
                    return Err(unread(index, told));
                }
                if found.id != id.as_str() || found.index != index.as_str() {
                    return Err(fault::unreadable("holds other documents"));
                }
                documents.push(match found.found {
                    true => Some(found.stored()?),
                    false => None,
                });
            }
        }
        Ok(documents)
    }

    /// See [`instep_core::Engine::walk`]: by id, each step a search of its own after the last one's id. Ids do not
    /// change, so a document that stays is seen whatever happens around it.
    pub(crate) async fn walk(&self, index: &IndexName, after: Option<&Cursor>, n: usize) -> Result<Walked> {
        check_name(index)?;
        if after.is_none() {
            // What was written before is to be seen.
            self.refresh(index).await?;
        }
        let mut size = n.clamp(1, STEP);
        loop {
            match self.step(index, after, size).await {
                Err(error) if is_too_much(&error) && size > 1 => size /= 2,
                walked => return walked,
            }
        }
    }

    async fn step(&self, index: &IndexName, after: Option<&Cursor>, size: usize) -> Result<Walked> {
        #[derive(Deserialize)]
        struct Answered<'a> {
            timed_out: bool,
            #[serde(rename = "_shards")]
            shards: Shards,
            #[serde(borrow)]
            hits: Hits<'a>,
        }
        #[derive(Deserialize)]
        struct Hits<'a> {
            #[serde(borrow)]
            hits: Vec<Found<'a>>,
        }
        let mut body = json!({
            "size": size, "sort": [{ID: "asc"}], "version": true, "track_total_hits": false,
        });
        if let Some(Cursor(id)) = after {
            body["search_after"] = json!([id]);
        }
        let path = format!("{index}/_search?allow_partial_search_results=false");
        let answer = self
            .client
            .call(Call::post(path, body.to_string().into_bytes()))
            .await?;
        if !answer.is_success() {
            let told = Told::read(&answer.body);
            if told.is("index_not_found_exception") {
                return Err(fault::missing(index.as_str()));
            }
            return Err(fault::of_administration(
                answer.status,
                &answer.body,
                &format!("walking index `{index}`"),
            ));
        }
        let answered: Answered<'_> =
            serde_json::from_slice(&answer.body).map_err(|_| fault::unreadable("holds no hits"))?;
        if answered.timed_out || answered.shards.failed > 0 {
            return Err(incomplete());
        }
        let documents = answered
            .hits
            .hits
            .iter()
            .map(Found::stored)
            .collect::<Result<Vec<_>>>()?;
        let next = match documents.len() < size {
            true => None,
            false => documents.last().map(|last| Cursor(last.id.to_string())),
        };
        Ok(Walked { documents, next })
    }

    /// See [`instep_core::Engine::refresh`].
    pub(crate) async fn refresh(&self, index: &IndexName) -> Result<()> {
        #[derive(Deserialize)]
        struct Answered {
            #[serde(rename = "_shards")]
            shards: Shards,
        }
        check_name(index)?;
        let answer = self
            .client
            .call(Call::post(format!("{index}/_refresh"), Vec::new()))
            .await?;
        if !answer.is_success() {
            if Told::read(&answer.body).is("index_not_found_exception") {
                return Err(fault::missing(index.as_str()));
            }
            return Err(fault::of_administration(
                answer.status,
                &answer.body,
                &format!("refreshing index `{index}`"),
            ));
        }
        match serde_json::from_slice(&answer.body) {
            Ok(Answered { shards }) if shards.failed == 0 => Ok(()),
            Ok(_) => Err(incomplete()),
            Err(_) => Err(fault::unreadable("tells of no shards")),
        }
    }
}

/// Whether so many documents may be too many at once: they are large, for us or for the cluster. Fewer are asked for then.
fn is_too_much(error: &Error) -> bool {
    matches!(
        error.code(),
        "engine_answer_too_long" | "engine_busy" | "engine_timeout"
    )
}

/// How many parts of an index took part.
#[derive(Deserialize)]
pub(crate) struct Shards {
    pub(crate) failed: u32,
}

/// An answer of less than all of the index.
pub(crate) fn incomplete() -> Error {
    Error::transient("engine_unavailable", "a part of the index did not answer")
        .with_remedy("look at the cluster's health: GET /_cluster/health; it goes on by itself")
}

fn unread(index: &IndexName, told: &Told) -> Error {
    if told.is("index_not_found_exception") {
        return Error::new(
            Fault::NotFound,
            "index_not_found_exception",
            format!("no such index [{index}]"),
        );
    }
    fault::of_everyone(200, told).unwrap_or_else(incomplete)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ours_is_cut_off_and_the_rest_is_as_it_was() {
        let only = |names: &[&str]| Readers::only(names.iter().map(|&name| name.to_owned()).collect());
        let cases = [
            (
                r#"{"_instep":{"id":"1","readers":["*"]},"a":1.50,"b":[ ]}"#,
                Readers::Public,
                r#"{"a":1.50,"b":[ ]}"#,
            ),
            (
                r#"{"_instep":{"id":"1","readers":["=*","=="]}}"#,
                only(&["*", "="]),
                "{}",
            ),
            (
                r#"{"_instep":{"readers":[],"values.x":["}"]},"_instep":2}"#,
                only(&[]),
                r#"{"_instep":2}"#,
            ),
        ];
        for (stored, readers, source) in cases {
            let (found, rest) = parts(stored).unwrap();
            assert_eq!((found, &*rest), (readers, source), "{stored}");
        }
        for foreign in ["{}", r#"{"a":1}"#, r#"{"_instep":1,"a":2}"#, ""] {
            assert_eq!(
                parts(foreign).unwrap_err().code(),
                "foreign_document",
                "{foreign}"
            );
        }
    }
}
