//! Sort keys, from a body and from a URL.

use instep_core::Result;
use instep_core::query::{Scalar, Sort, SortBy};

use crate::capability::{MAX_SORT_KEYS, SORT_FIELD, SORT_SPECIAL};
use crate::json::{Json, shown};
use crate::place::{Members, Place, field_name};

const ORDERS: &[(&str, bool)] = &[("asc", false), ("desc", true)];

/// Types that an index without the field can be told to assume.
const TYPES: &[(&str, ())] = &[
    ("keyword", ()),
    ("long", ()),
    ("integer", ()),
    ("double", ()),
    ("decimal", ()),
    ("boolean", ()),
    ("date", ()),
];

/// `"price"`, `{"price": "desc"}`, `{"price": {"order": "desc", "missing": "_first"}}`, or an array of those.
pub(crate) fn parse(place: &Place<'_>) -> Result<Vec<Sort>> {
    let mut keys = Vec::new();
    for item in place.items_or_self() {
        match item.json {
            Json::Text(name) => keys.push(plain(&item, name)?),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                for (name, inner) in item.members()? {
                    keys.push(key(name, &inner)?);
                }
            }
        }
    }
    within_limit(place, keys)
}

/// `price:desc,_score`.
pub(crate) fn parse_parameter(place: &Place<'_>) -> Result<Vec<Sort>> {
    let mut keys = Vec::new();
    for item in place.text()?.split(',') {
        let Some((name, order)) = item.rsplit_once(':') else {
            keys.push(plain(place, item)?);
            continue;
        };
        let mut key = plain(place, name)?;
        key.descending = match order {
            "asc" => false,
            "desc" => true,
            _ => {
                let message = format!(
                    "the order [{}] is not supported; supported: asc, desc",
                    shown(order)
                );
                return Err(place.illegal(message));
            }
        };
        keys.push(key);
    }
    within_limit(place, keys)
}

fn within_limit(place: &Place<'_>, keys: Vec<Sort>) -> Result<Vec<Sort>> {
    if keys.len() > MAX_SORT_KEYS {
        return Err(place.illegal(format!(
            "[{}] sort keys are more than [{MAX_SORT_KEYS}]",
            keys.len()
        )));
    }
    Ok(keys)
}

fn plain(place: &Place<'_>, name: &str) -> Result<Sort> {
    let by = match special(name) {
        Some(by) => by,
        None => SortBy::Field {
            field: field_name(place, name)?,
            unmapped_type: None,
        },
    };
    Ok(Sort {
        descending: by == SortBy::Score,
        by,
        missing_first: false,
    })
}

fn special(name: &str) -> Option<SortBy> {
    match name {
        "_score" => Some(SortBy::Score),
        "_doc" => Some(SortBy::Doc),
        "_id" => Some(SortBy::Id),
        _ => None,
    }
}

fn key(name: &str, place: &Place<'_>) -> Result<Sort> {
    let mut key = plain(place, name)?;
    if let Json::Text(_) = place.json {
        key.descending = place.one_of(ORDERS)?;
        return Ok(key);
    }
    let clause = if special(name).is_some() {
        &SORT_SPECIAL
    } else {
        &SORT_FIELD
    };
    let members = place.clause(clause)?;
    if let Some(order) = members.get("order") {
        key.descending = order.one_of(ORDERS)?;
    }
    if special(name).is_none() {
        field_options(&members, &mut key)?;
    }
    Ok(key)
}

fn field_options(members: &Members<'_>, key: &mut Sort) -> Result<()> {
    if let Some(missing) = members.get("missing") {
        key.missing_first = missing.one_of(&[("_last", false), ("_first", true)])?;
    }
    if let (Some(assumed), SortBy::Field { unmapped_type, .. }) = (members.get("unmapped_type"), &mut key.by)
    {
        assumed.one_of(TYPES)?;
        *unmapped_type = Some(assumed.text()?.to_owned());
    }
    Ok(())
}

/// The sort values of the last hit seen: one for each sort key.
pub(crate) fn search_after(place: &Place<'_>, sort: &[Sort]) -> Result<Vec<Option<Scalar>>> {
    let values = place.items()?;
    if sort.is_empty() {
        return Err(place.illegal("[search_after] requires [sort] with at least one key"));
    }
    if values.len() != sort.len() {
        return Err(place.illegal(format!(
            "[search_after] has {} values but [sort] has {} keys",
            values.len(),
            sort.len()
        )));
    }
    let value = |value: &Place<'_>| match value.json {
        Json::Null => Ok(None),
        Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
            value.scalar().map(Some)
        }
    };
    values.iter().map(value).collect()
}
