//! Which parts of documents to return: `_source` in a body, `_source*` in a URL.

use instep_core::request::SourceFilter;
use instep_core::{Error, Result};

use crate::capability::SOURCE;
use crate::json::{Json, shown};
use crate::params::Params;
use crate::place::Place;

/// `true`, `false`, `"a.*"`, `["a", "b"]`, `{"includes": …, "excludes": …}`.
pub(crate) fn parse(place: &Place<'_>) -> Result<SourceFilter> {
    let mut filter = SourceFilter::default();
    match place.json {
        Json::Bool(all) => filter.none = !all,
        Json::Text(_) | Json::Array(_) => filter.includes = patterns(place)?,
        Json::Null | Json::Number(_) | Json::Object(_) => {
            let members = place.clause(&SOURCE)?;
            if let Some(includes) = members.get("includes") {
                filter.includes = patterns(&includes)?;
            }
            if let Some(excludes) = members.get("excludes") {
                filter.excludes = patterns(&excludes)?;
            }
        }
    }
    contradiction(&filter).map_or(Ok(filter), |message| Err(place.illegal(message)))
}

fn patterns(place: &Place<'_>) -> Result<Vec<String>> {
    let items = place.items_or_self();
    items.iter().map(|item| item.text().map(str::to_owned)).collect()
}

/// What the URL says of `_source`; `None` when nothing.
pub(crate) fn from_params(params: &Params) -> Result<Option<SourceFilter>> {
    let list = |place: Place<'_>| -> Result<Vec<String>> {
        Ok(place.text()?.split(',').map(str::to_owned).collect())
    };
    let source = params.get("_source");
    let includes = params.get("_source_includes");
    let excludes = params.get("_source_excludes");
    if source.is_none() && includes.is_none() && excludes.is_none() {
        return Ok(None);
    }
    let mut filter = SourceFilter::default();
    if let Some(source) = source {
        match source.text()? {
            "true" | "" => {}
            "false" => filter.none = true,
            _ => filter.includes = list(source)?,
        }
    }
    if let Some(includes) = includes {
        if !filter.includes.is_empty() {
            return Err(includes.illegal("[_source_includes] and fields in [_source] exclude each other"));
        }
        filter.includes = list(includes)?;
    }
    if let Some(excludes) = excludes {
        filter.excludes = list(excludes)?;
    }
    if filter.none && !(filter.includes.is_empty() && filter.excludes.is_empty()) {
        let message = "[_source] is false, so nothing can be included or excluded";
        return Err(Error::invalid("illegal_argument_exception", message));
    }
    match contradiction(&filter) {
        None => Ok(Some(filter)),
        Some(message) => Err(Error::invalid("illegal_argument_exception", message)),
    }
}

/// One name in both lists asks for it and against it.
fn contradiction(filter: &SourceFilter) -> Option<String> {
    let both = filter
        .includes
        .iter()
        .find(|name| filter.excludes.contains(name))?;
    Some(format!(
        "[{}] is both included and excluded in [_source]",
        shown(both)
    ))
}
