//! `_doc/<id>` and `_mget`: documents by their ids.

use instep_core::Result;
use instep_core::key::DocId;
use instep_core::request::SourceFilter;

use crate::capability::{Endpoint, MAX_DOCUMENTS, MGET_BODY, MGET_DOCUMENT};
use crate::json::Json;
use crate::params::Params;
use crate::place::Place;
use crate::search::ResponseOptions;
use crate::source_filter;

/// A document's request as a caller made it; collection and id stand in the URL's path.
#[derive(Clone, Debug, PartialEq)]
pub struct GetCall {
    /// Which parts of the document to return.
    pub source: SourceFilter,
    /// How to write the answer.
    pub options: ResponseOptions,
}

/// Several documents, in the order of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct MgetCall {
    /// The documents; at least one. An id may stand more than once.
    pub items: Vec<MgetItem>,
    /// How to write the answer.
    pub options: ResponseOptions,
}

/// One document of an `_mget`.
#[derive(Clone, Debug, PartialEq)]
pub struct MgetItem {
    /// The collection as the caller wrote it; that of the URL's path without one.
    pub collection: Option<String>,
    /// The document's id.
    pub id: DocId,
    /// Which parts of it to return.
    pub source: SourceFilter,
}

/// Reads the parameters of `_doc/<id>`.
pub fn parse_get(params: &Params) -> Result<GetCall> {
    params.check(Endpoint::Get)?;
    Ok(GetCall {
        source: source_filter::from_params(params)?.unwrap_or_default(),
        options: ResponseOptions::common(params)?,
    })
}

/// Reads an `_mget`: `{"docs": [{"_index": …, "_id": …, "_source": …}]}` or `{"ids": […]}`.
pub fn parse_mget(body: &[u8], params: &Params) -> Result<MgetCall> {
    params.check(Endpoint::Mget)?;
    let json = Json::strict(body)?;
    let root = Place::root(&json);
    let members = root.clause(&MGET_BODY)?;
    let source = source_filter::from_params(params)?.unwrap_or_default();
    let items = match (members.get("docs"), members.get("ids")) {
        (Some(docs), None) => items(&docs, |place| document(place, &source))?,
        (None, Some(ids)) => items(&ids, |place| {
            Ok(MgetItem {
                collection: None,
                id: id(place)?,
                source: source.clone(),
            })
        })?,
        (None, None) | (Some(_), Some(_)) => {
            return Err(root.malformed("[mget] requires either [docs] or [ids]"));
        }
    };
    Ok(MgetCall {
        items,
        options: ResponseOptions::common(params)?,
    })
}

fn items(place: &Place<'_>, read: impl Fn(&Place<'_>) -> Result<MgetItem>) -> Result<Vec<MgetItem>> {
    let documents = place.items()?;
    if documents.is_empty() {
        return Err(place.illegal("no documents to get"));
    }
    if documents.len() > MAX_DOCUMENTS {
        let message = format!("[{}] documents are more than [{MAX_DOCUMENTS}]", documents.len());
        return Err(place.illegal(message));
    }
    documents.iter().map(read).collect()
}

fn document(place: &Place<'_>, default: &SourceFilter) -> Result<MgetItem> {
    let members = place.clause(&MGET_DOCUMENT)?;
    let collection = members.get("_index");
    let source = members.get("_source");
    Ok(MgetItem {
        collection: collection
            .map(|name| name.text().map(str::to_owned))
            .transpose()?,
        id: id(&members.required("_id")?)?,
        source: source.map_or_else(|| Ok(default.clone()), |source| source_filter::parse(&source))?,
    })
}

fn id(place: &Place<'_>) -> Result<DocId> {
    DocId::parse(&place.plain_text()?).map_err(|error| place.illegal(error.message()))
}
