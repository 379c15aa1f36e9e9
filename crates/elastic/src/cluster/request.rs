//! A search as one request to the cluster: rendered anew, with concrete names of indexes, under the caller's view.

use std::collections::BTreeMap;
use std::sync::Arc;

use instep_core::{
    Authorized, FieldType, IndexName, Mapping, Result, SearchRequest, SearchResponse, TrackTotalHits,
};
use serde_json::{Value, json};

use super::Inner;
use super::aggregate;
use super::answer::{self, Asked};
use super::client::Call;
use super::compile::{Compiler, visible};
use super::fault;
use super::fields::{Known, READERS};
use super::index::check_name;
use super::sort::{self, Sorting};
use crate::write;

/// Names of indexes in an address are no longer than this; longer lists go into the body.
pub(crate) const LONGEST_PATH: usize = 3_000;

impl Inner {
    /// See [`instep_core::Search::search`].
    pub(crate) async fn search(
        &self,
        indexes: &[IndexName],
        authorized: &Authorized<SearchRequest>,
    ) -> Result<SearchResponse> {
        let request = authorized.request();
        let mut names: Vec<IndexName> = Vec::with_capacity(indexes.len());
        for index in indexes {
            check_name(index)?;
            if !names.contains(index) {
                names.push(index.clone());
            }
        }
        if names.is_empty() {
            return Ok(answer::of_nothing(request));
        }
        let mut known: Vec<Arc<Known>> = Vec::with_capacity(names.len());
        for index in &names {
            known.push(self.known_of(index).await?);
        }
        let mappings: Vec<&Mapping> = known.iter().map(|known| &known.mapping).collect();
        let product = self.client.product().await?;
        let sorting = Sorting { indexes: &names };
        let keys = sort::keys(&mappings, &request.sort)?;
        aggregate::check_ranges(&request.aggregations)?;
        let aggregations = aggregate::rendered(&mappings, &request.aggregations)?;
        let query = query(&names, &mappings, request, product.lexical_factor())?;

        let sort = sort::rendered(&keys, &sorting);
        let after = match &request.search_after {
            Some(values) => Some(sort::after(&keys, values, &sorting)?),
            None => None,
        };
        let mut body = String::with_capacity(1024);
        write::object(&mut body, |o| {
            o.number("query", visible(query, authorized.visibility()));
            o.number("from", request.from);
            o.number("size", request.size);
            o.number("track_scores", request.track_scores || sort::needs_scores(&keys));
            match request.track_total_hits {
                TrackTotalHits::Exactly => o.raw("track_total_hits", "true"),
                TrackTotalHits::UpTo(most) => o.number("track_total_hits", most),
                TrackTotalHits::No => o.raw("track_total_hits", "false"),
            }
            // Patterns are applied here, so that the bytes stay as they are; readers come along for the second look.
            if request.source.none {
                o.raw("_source", "false");
                o.array("docvalue_fields", [READERS], write::text);
            }
            if !sort.is_empty() {
                o.number("sort", json!(sort));
            }
            if let Some(after) = after {
                o.number("search_after", json!(after));
            }
            if let Some(least) = request.min_score {
                o.number("min_score", json!(least));
            }
            if !aggregations.is_empty() {
                o.number("aggs", Value::Object(aggregations));
            }
        });
        let several = call_of_several(&names, &body);
        let reads = match several {
            None => answer::read,
            Some(_) => answer::read_of_several,
        };
        let call = several.unwrap_or_else(|| call(&names, body));
        let answer = self.client.call(call.hurried()).await?;
        let asked = Asked {
            authorized,
            mappings: &mappings,
            keys: &keys,
            sorting: &sorting,
        };
        match answer.is_success() {
            true => reads(&answer.body, &asked),
            false => {
                let error = fault::of_search(answer.status, &answer.body);
                if error.code() == "index_not_found_exception" {
                    names.iter().for_each(|index| self.forget(index));
                }
                Err(error)
            }
        }
    }
}

fn call(names: &[IndexName], body: String) -> Call {
    // An address that is signed is told apart by its bytes: a comma is written in one way alone.
    let list: Vec<&str> = names.iter().map(IndexName::as_str).collect();
    let path = format!("{}/_search?allow_partial_search_results=false", list.join("%2C"));
    Call::post(path, body)
}

/// The same where the names are too many for an address: the one search of an `_msearch`.
fn call_of_several(names: &[IndexName], body: &str) -> Option<Call> {
    let length: usize = names.iter().map(|name| name.as_str().len() + 3).sum();
    (length > LONGEST_PATH).then(|| {
        let list: Vec<&str> = names.iter().map(IndexName::as_str).collect();
        let head = json!({"index": list, "allow_partial_search_results": false});
        Call::lines("_msearch", format!("{head}\n{body}\n").into_bytes())
    })
}

/// The query for all indexes: one, where they have the same fields; else one for each kind of index.
fn query(names: &[IndexName], mappings: &[&Mapping], request: &SearchRequest, lexical: f32) -> Result<Value> {
    let compile = |mapping| {
        let compiler = Compiler {
            mapping,
            now_ms: request.now_ms,
            lexical,
        };
        compiler.compile(&request.query)
    };
    if let [only] = mappings {
        return compile(only);
    }
    let mut kinds: Vec<(BTreeMap<&str, FieldType>, &Mapping, Vec<&str>)> = Vec::new();
    for (name, mapping) in names.iter().zip(mappings) {
        let shape = shape(mapping);
        match kinds.iter_mut().find(|(known, ..)| *known == shape) {
            Some((_, _, names)) => names.push(name.as_str()),
            None => kinds.push((shape, mapping, vec![name.as_str()])),
        }
    }
    let mut compiled = Vec::with_capacity(kinds.len());
    for (_, mapping, names) in &kinds {
        compiled.push((names, compile(mapping)?));
    }
    if compiled.len() == 1 {
        return Ok(compiled.remove(0).1);
    }
    let each = compiled
        .into_iter()
        .map(|(names, query)| json!({"bool": {"must": [query], "filter": [{"terms": {"_index": names}}]}}));
    let each: Vec<Value> = each.collect();
    Ok(json!({"bool": {"should": each, "minimum_should_match": 1}}))
}

/// What a query sees of a mapping: not by which analyzer a text is cut.
fn shape(mapping: &Mapping) -> BTreeMap<&str, FieldType> {
    let each = mapping.fields.iter().map(|(path, kind)| {
        let kind = match kind {
            FieldType::Text { keyword, .. } => FieldType::Text {
                analyzer: String::new(),
                keyword: *keyword,
            },
            kind => kind.clone(),
        };
        (path.as_str(), kind)
    });
    each.collect()
}
