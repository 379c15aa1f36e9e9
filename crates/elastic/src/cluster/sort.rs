//! Sort keys into a cluster's JSON, and sort values both ways: into `search_after`, and out of hits.

use instep_core::query::{Scalar, Sort, SortBy};
use instep_core::reading;
use instep_core::{Error, FieldType, IndexName, Mapping, Resolved, Result};
use serde_json::{Value, json};

use super::fields::{ID, NONE, PATH_END, paths_of, values_of};

/// A sort key, resolved for all indexes of a request.
pub(crate) struct Key {
    by: By,
    descending: bool,
    missing_first: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum By {
    Score,
    /// By id, and among several indexes by index: an order that shows no gap where a document is hidden.
    Doc,
    Id,
    Text {
        field: String,
        unmapped: Option<&'static str>,
    },
    /// A path inside a flattened field.
    Inside {
        field: String,
        path: String,
    },
    Number {
        field: String,
        number: Number,
        unmapped: Option<&'static str>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Long,
    /// Integers and booleans, whose missing value shows 32 bits.
    Integer,
    Double,
    /// See [`needs_scores`].
    Decimal,
}

/// What a request knows when it sorts.
pub(crate) struct Sorting<'a> {
    pub(crate) indexes: &'a [IndexName],
}

/// The first sort values of a script: there is a value, or there is none and that comes first or last.
const PRESENT: &str = "1";
const FIRST: &str = "0";
const LAST: &str = "2";

/// Finds the smallest or the largest value below a path. A list of values is sorted already.
const INSIDE: &str = "String found = null; for (v in doc[params.field]) { if (v.startsWith(params.prefix)) { \
                      found = v.substring(params.prefix.length()); if (params.smallest) { break; } } } \
                      return found == null ? params.missing : '1' + found;";

/// The keys of a request.
pub(crate) fn keys(mappings: &[&Mapping], sorts: &[Sort]) -> Result<Vec<Key>> {
    sorts
        .iter()
        .map(|sort| {
            let by = match &sort.by {
                SortBy::Score => By::Score,
                SortBy::Doc => By::Doc,
                SortBy::Id => By::Id,
                SortBy::Field { field, unmapped_type } => {
                    by_field(mappings, field, unmapped_type.as_deref())?
                }
            };
            Ok(Key {
                by,
                descending: sort.descending,
                missing_first: sort.missing_first,
            })
        })
        .collect()
}

fn by_field(mappings: &[&Mapping], field: &str, unmapped_type: Option<&str>) -> Result<By> {
    let mut found: Option<By> = None;
    let mut is_missing = false;
    for mapping in mappings {
        let Some(by) = by_mapped(mapping, field)? else {
            is_missing = true;
            continue;
        };
        match &found {
            Some(known) if is_text(known) != is_text(&by) => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    "a sort field is text in one of the collections that are searched and a number in another",
                ));
            }
            Some(_) => {}
            None => found = Some(by),
        }
    }
    found = match found {
        Some(by) if !is_missing => return Ok(by),
        found => found,
    };
    let unmapped = match unmapped_type {
        Some("keyword") => "keyword",
        Some("long") => "long",
        Some("date") => "date",
        Some("integer") => "integer",
        Some("short") => "short",
        Some("byte") => "byte",
        Some("boolean") => "boolean",
        Some("double" | "float" | "half_float" | "scaled_float" | "decimal") => "double",
        Some(other) => {
            return Err(Error::invalid(
                "illegal_argument_exception",
                format!("[unmapped_type] of sort field [{field}] names no sortable type: [{other}]"),
            ));
        }
        None => {
            return Err(Error::invalid(
                "query_shard_exception",
                format!("no field [{field}] to sort by in the mapping"),
            )
            .with_remedy("set [unmapped_type] where some collections lack the field"));
        }
    };
    Ok(match found {
        Some(By::Text { field, .. }) => By::Text {
            field,
            unmapped: Some("keyword"),
        },
        Some(By::Number { field, number, .. }) => By::Number {
            field,
            number,
            unmapped: Some(match number {
                Number::Long => "long",
                Number::Integer => "integer",
                Number::Double | Number::Decimal => "double",
            }),
        },
        Some(by) => by,
        None => {
            let (field, unmapped_type) = (NONE.to_owned(), Some(unmapped));
            let number = match unmapped {
                "keyword" => {
                    return Ok(By::Text {
                        field,
                        unmapped: unmapped_type,
                    });
                }
                "long" | "date" => Number::Long,
                "double" => Number::Double,
                _ => Number::Integer,
            };
            By::Number {
                field,
                number,
                unmapped: unmapped_type,
            }
        }
    })
}

fn by_mapped(mapping: &Mapping, field: &str) -> Result<Option<By>> {
    let text = |field: String| By::Text {
        field,
        unmapped: None,
    };
    let number = |number| By::Number {
        field: field.to_owned(),
        number,
        unmapped: None,
    };
    Ok(Some(match mapping.resolve(field) {
        None | Some(Resolved::Object) => return Ok(None),
        Some(Resolved::KeywordOf(name)) => text(format!("{name}.keyword")),
        Some(Resolved::FlattenedPath(name, path)) => By::Inside {
            field: paths_of(name),
            path: path.to_owned(),
        },
        Some(Resolved::Field(name, kind)) => match kind {
            FieldType::Text { .. } => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    format!("text field [{field}] has no exact values to sort or aggregate by"),
                )
                .with_remedy(format!("use [{field}.keyword], or a keyword field")));
            }
            FieldType::Keyword => text(name.to_owned()),
            FieldType::Flattened => text(values_of(name)),
            FieldType::Long | FieldType::Date => number(Number::Long),
            FieldType::Integer | FieldType::Boolean => number(Number::Integer),
            FieldType::Double => number(Number::Double),
            FieldType::Decimal { .. } => number(Number::Decimal),
        },
    }))
}

fn is_text(by: &By) -> bool {
    matches!(by, By::Text { .. } | By::Inside { .. })
}

impl Key {
    fn is_score(&self) -> bool {
        self.by == By::Score
    }

    /// What the cluster sorts by: two keys where one of ours is.
    fn rendered(&self, sorting: &Sorting<'_>, into: &mut Vec<Value>) {
        let order = if self.descending { "desc" } else { "asc" };
        let missing = if self.missing_first { "_first" } else { "_last" };
        let plain = |field: &str| json!({field: {"order": order}});
        match &self.by {
            By::Score => into.push(plain("_score")),
            By::Id => into.push(plain(ID)),
            By::Doc => {
                into.push(plain(ID));
                if sorting.indexes.len() > 1 {
                    into.push(plain("_index"));
                }
            }
            By::Text { field, unmapped } | By::Number { field, unmapped, .. } => {
                let mut key = json!({"order": order, "missing": missing});
                // Whether integers sort with 32 bits or with 64 depends on the version that made the index, and with
                // it what a missing one shows, and what may come after it. So it is said.
                if let By::Number {
                    number: Number::Integer,
                    ..
                } = &self.by
                {
                    key["missing"] = json!(self.end());
                }
                if let Some(unmapped) = unmapped {
                    key["unmapped_type"] = json!(unmapped);
                }
                into.push(json!({field: key}));
            }
            By::Inside { field, path } => {
                let params = json!({
                    "field": field, "prefix": format!("{path}{PATH_END}"), "smallest": !self.descending,
                    "missing": self.missing(),
                });
                into.push(json!({"_script": {
                    "type": "string", "order": order, "script": {"lang": "painless", "source": INSIDE, "params": params}
                }}));
            }
        }
    }

    /// What a script answers where there is no value: the largest word where that comes last ascending, or first
    /// descending.
    fn missing(&self) -> &'static str {
        match self.missing_first == self.descending {
            true => LAST,
            false => FIRST,
        }
    }

    /// What stands for a missing integer: the largest where it comes last ascending, or first descending.
    fn end(&self) -> i32 {
        match self.missing_first == self.descending {
            true => i32::MAX,
            false => i32::MIN,
        }
    }

    /// The cluster's values of this key, as many as it has keys.
    fn after(&self, value: Option<&Scalar>, sorting: &Sorting<'_>, into: &mut Vec<Value>) -> Result<()> {
        match (&self.by, value) {
            (By::Doc, None) => return Err(bad()),
            (By::Doc, Some(value)) => {
                let text = reading::text(value);
                if sorting.indexes.len() <= 1 {
                    into.push(json!(text));
                    return Ok(());
                }
                let (place, id) = text.split_once(':').ok_or_else(bad)?;
                let place: usize = place.parse().map_err(|_| bad())?;
                let index = sorting.indexes.get(place).ok_or_else(bad)?;
                into.extend([json!(id), json!(index.as_str())]);
            }
            (By::Score, value) => {
                let score = value.and_then(reading::double).ok_or_else(bad)?;
                into.push(json!(score));
            }
            (By::Id, value) => into.push(json!(reading::text(value.ok_or_else(bad)?))),
            (By::Text { .. }, value) => into.push(json!(value.map(reading::text))),
            (By::Inside { .. }, None) => into.push(json!(self.missing())),
            (By::Inside { .. }, Some(value)) => {
                into.push(json!(format!("{PRESENT}{}", reading::text(value))));
            }
            (By::Number { number, .. }, value) => into.push(self.number_after(*number, value)?),
        }
        Ok(())
    }

    fn number_after(&self, number: Number, value: Option<&Scalar>) -> Result<Value> {
        let is_largest = self.missing_first == self.descending;
        let Some(value) = value else {
            return Ok(match (number, is_largest) {
                (Number::Double | Number::Decimal, true) => json!("Infinity"),
                (Number::Double | Number::Decimal, false) => json!("-Infinity"),
                (Number::Integer, _) => json!(self.end()),
                (Number::Long, true) => json!(i64::MAX),
                (Number::Long, false) => json!(i64::MIN),
            });
        };
        if matches!(number, Number::Double | Number::Decimal) {
            return match value {
                Scalar::Text(text) if matches!(text.as_str(), "Infinity" | "-Infinity") => Ok(json!(text)),
                value => Ok(json!(reading::double(value).ok_or_else(bad)?)),
            };
        }
        let whole = reading::scaled(value, 0)
            .and_then(|scaled| i64::try_from(scaled.floor).ok())
            .or_else(|| reading::boolean(value).map(i64::from));
        let whole = match (whole, value) {
            (Some(whole), _) => whole,
            (None, Scalar::Text(text)) if number == Number::Long => {
                instep_core::date::parse(text, instep_core::date::Round::Down, 0).map_err(|_| bad())?
            }
            (None, _) => return Err(bad()),
        };
        Ok(json!(whole))
    }

    /// Our value of this key from the cluster's.
    fn value(
        &self,
        values: &mut impl Iterator<Item = Value>,
        sorting: &Sorting<'_>,
    ) -> Option<Option<Scalar>> {
        let value = values.next()?;
        Some(match &self.by {
            By::Doc if sorting.indexes.len() > 1 => {
                let index = values.next()?;
                let index = index.as_str()?;
                let place = sorting.indexes.iter().position(|known| known.as_str() == index)?;
                Some(Scalar::Text(format!("{place}:{}", value.as_str()?)))
            }
            By::Inside { .. } => match value.as_str()?.split_at_checked(1)? {
                (PRESENT, text) => Some(Scalar::Text(text.to_owned())),
                _ => None,
            },
            By::Number {
                number: Number::Integer,
                ..
            } => {
                let whole = value.as_i64()?;
                Some(Scalar::Int(whole.clamp(i32::MIN.into(), i32::MAX.into())))
            }
            By::Number {
                number: Number::Double | Number::Decimal,
                ..
            }
            | By::Score => match value {
                Value::String(text) => Some(Scalar::Text(text)),
                value => Some(double(value.as_f64()?)),
            },
            By::Doc
            | By::Id
            | By::Text { .. }
            | By::Number {
                number: Number::Long, ..
            } => scalar(value),
        })
    }
}

fn bad() -> Error {
    Error::invalid(
        "illegal_argument_exception",
        "a value of [search_after] does not fit its sort key",
    )
}

/// A double, or the word for one that is not finite; the largest ones stand for what is missing.
fn double(value: f64) -> Scalar {
    match value {
        f64::MAX | f64::INFINITY => Scalar::Text("Infinity".to_owned()),
        f64::MIN | f64::NEG_INFINITY => Scalar::Text("-Infinity".to_owned()),
        value => Scalar::Double(value),
    }
}

/// A JSON scalar; `None` for null and for what is no scalar.
pub(crate) fn scalar(value: Value) -> Option<Scalar> {
    match value {
        Value::Bool(value) => Some(Scalar::Bool(value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(Scalar::Int(whole)),
            None => number.as_f64().map(Scalar::Double),
        },
        Value::String(text) => Some(Scalar::Text(text)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The sort of a request; empty without keys, which is by score.
pub(crate) fn rendered(keys: &[Key], sorting: &Sorting<'_>) -> Vec<Value> {
    let mut sort = Vec::new();
    for key in keys {
        key.rendered(sorting, &mut sort);
    }
    sort
}

/// `search_after` of a request.
pub(crate) fn after(keys: &[Key], values: &[Option<Scalar>], sorting: &Sorting<'_>) -> Result<Vec<Value>> {
    if values.len() != keys.len() {
        return Err(Error::invalid(
            "illegal_argument_exception",
            format!(
                "[search_after] has {} values and the sort {} keys",
                values.len(),
                keys.len()
            ),
        ));
    }
    let mut after = Vec::new();
    for (key, value) in keys.iter().zip(values) {
        key.after(value.as_ref(), sorting, &mut after)?;
    }
    Ok(after)
}

/// The sort values of a hit; `None` where the answer has others.
pub(crate) fn values(keys: &[Key], values: Vec<Value>, sorting: &Sorting<'_>) -> Option<Vec<Option<Scalar>>> {
    let mut values = values.into_iter();
    keys.iter().map(|key| key.value(&mut values, sorting)).collect()
}

/// Whether hits come in the order of their scores first, and whether scores are computed for the sort at all.
pub(crate) fn by_score(keys: &[Key]) -> (bool, bool) {
    let first = keys.first().is_none_or(Key::is_score);
    (first, keys.is_empty() || keys.iter().any(Key::is_score))
}

/// Whether scores have to be computed although nobody asks for them: OpenSearch leaves out hits of a page sorted by a
/// decimal, because it takes them to be beyond the page by comparing its end with decimals as they are stored. Where it
/// scores, it looks at every hit.
pub(crate) fn needs_scores(keys: &[Key]) -> bool {
    let is_decimal = |key: &Key| {
        matches!(
            &key.by,
            By::Number {
                number: Number::Decimal,
                ..
            }
        )
    };
    keys.iter().any(is_decimal)
}

/// Whether the best score is the first hit's.
pub(crate) fn best_first(keys: &[Key]) -> bool {
    keys.first().is_none_or(|key| key.is_score() && key.descending)
}
