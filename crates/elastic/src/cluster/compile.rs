//! Queries of ours into a cluster's JSON, by the mapping of the indexes they are for.
//!
//! What the mapping knows is decided here and not there, so that every product and version answers alike: which fields
//! there are, how values are read, where dates and decimals begin and end, what scores a constant.

use instep_core::date;
use instep_core::query::{Bool, Match, MinimumShouldMatch, MultiMatch, Operator, Query, Range, Scalar};
use instep_core::reading::{self, Bound, Dates, Exact, ReadAs, Side};
use instep_core::source_filter::fits;
use instep_core::{Error, FieldType, Mapping, Resolved, Result, Visibility};
use serde_json::{Value, json};

use super::fields::{DATES, ID, PATH_END, READERS, paths_of, values_of};

/// What a query is compiled for.
pub(crate) struct Compiler<'a> {
    pub(crate) mapping: &'a Mapping,
    /// What `now` means.
    pub(crate) now_ms: i64,
    /// By what scores of words are multiplied.
    pub(crate) lexical: f32,
}

/// Only documents that the caller may see, with the scores they have. A query of clauses takes the condition as one more:
/// how many of its optional ones must match, it says itself.
pub(crate) fn visible(query: Value, visibility: &Visibility) -> Value {
    let Some((showing, hiding)) = visibility.tokens() else {
        return query;
    };
    let with_one_of = |tokens: Vec<String>| json!({"terms": {READERS: tokens}});
    let mut clauses = match query {
        Value::Object(mut members) if members.contains_key("bool") => members["bool"].take(),
        query => json!({"must": [query]}),
    };
    let mut add = |kind: &str, tokens: Vec<String>| match &mut clauses[kind] {
        Value::Array(queries) => queries.push(with_one_of(tokens)),
        none => *none = Value::Array(vec![with_one_of(tokens)]),
    };
    add("filter", showing);
    if !hiding.is_empty() {
        add("must_not", hiding);
    }
    json!({"bool": clauses})
}

fn nothing() -> Value {
    json!({"match_none": {}})
}

fn everything(score: f32) -> Value {
    json!({"match_all": {"boost": score}})
}

fn constant(query: Value, score: f32) -> Value {
    json!({"constant_score": {"filter": query, "boost": score}})
}

/// Says by what a score is multiplied, unless it stays as it is.
fn boosted(clause: &mut Value, boost: f32) {
    if boost != 1.0 {
        clause["boost"] = json!(boost);
    }
}

fn any(queries: Vec<Value>) -> Value {
    match queries.is_empty() {
        true => nothing(),
        false => json!({"bool": {"should": queries, "minimum_should_match": 1}}),
    }
}

/// What a path names: the cluster's field, and how it is asked.
enum Named<'a> {
    Text(&'a str),
    Exact {
        field: String,
        kind: ReadAs,
    },
    /// A path inside a flattened field.
    Inside {
        field: String,
        path: &'a str,
    },
    Object(&'a str),
}

impl Compiler<'_> {
    /// The cluster's query.
    pub(crate) fn compile(&self, query: &Query) -> Result<Value> {
        Ok(match query {
            Query::MatchAll { boost } => everything(*boost),
            Query::MatchNone => nothing(),
            Query::Match(wanted) => self.matching(wanted)?,
            Query::MultiMatch(wanted) => self.multi_match(wanted)?,
            Query::MatchPhrase {
                field,
                text,
                slop,
                boost,
            } => match self.named(field) {
                Some(Named::Text(name)) => {
                    let boost = boost * self.lexical;
                    json!({"match_phrase": {name: {"query": text, "slop": slop, "boost": boost}}})
                }
                Some(Named::Exact { .. } | Named::Inside { .. } | Named::Object(_)) | None => {
                    self.term(field, &Scalar::Text(text.clone()), *boost)?
                }
            },
            Query::Term { field, value, boost } => self.term(field, value, *boost)?,
            Query::Terms { field, values, boost } => self.terms(field, values, *boost)?,
            Query::Ids { values, boost } => ids(values.clone(), *boost),
            Query::Range(range) => constant(self.range(range)?, range.boost),
            Query::Exists { field, boost } => constant(self.exists(field), *boost),
            Query::Prefix {
                field,
                value,
                case_insensitive,
                boost,
            } => constant(self.prefix(field, value, *case_insensitive)?, *boost),
            Query::Bool(clauses) => self.boolean(clauses)?,
            Query::ConstantScore { filter, boost } => constant(self.compile(filter)?, *boost),
        })
    }

    fn named<'q>(&'q self, path: &'q str) -> Option<Named<'q>> {
        named(self.mapping, path)
    }

    fn matching(&self, wanted: &Match) -> Result<Value> {
        let Some(Named::Text(field)) = self.named(&wanted.field) else {
            return self.term(&wanted.field, &wanted.text, wanted.boost);
        };
        let mut clause = json!({"query": reading::text(&wanted.text)});
        // What every product takes for granted is not said: it is read there for each search.
        if wanted.operator == Operator::And {
            clause["operator"] = json!("and");
        }
        if wanted.zero_terms_all {
            clause["zero_terms_query"] = json!("all");
        }
        boosted(&mut clause, wanted.boost * self.lexical);
        if let (Some(rule), Operator::Or) = (&wanted.minimum_should_match, wanted.operator) {
            clause["minimum_should_match"] = json!(notation(rule));
        }
        Ok(json!({"match": {field: clause}}))
    }

    fn multi_match(&self, wanted: &MultiMatch) -> Result<Value> {
        let mut queries = Vec::new();
        for (pattern, boost) in &wanted.fields {
            let fields = match pattern.contains('*') {
                true => self.fields_like(pattern),
                false => vec![pattern.clone()],
            };
            for field in fields {
                queries.push(self.matching(&Match {
                    field,
                    text: wanted.text.clone(),
                    operator: wanted.operator,
                    minimum_should_match: wanted.minimum_should_match.clone(),
                    zero_terms_all: false,
                    boost: *boost,
                })?);
            }
        }
        Ok(match queries.is_empty() {
            true => nothing(),
            false => json!({
                "dis_max": {"queries": queries, "tie_breaker": wanted.tie_breaker, "boost": wanted.boost}
            }),
        })
    }

    /// The text and keyword fields that a pattern fits.
    fn fields_like(&self, pattern: &str) -> Vec<String> {
        let mut fields = Vec::new();
        for (path, kind) in &self.mapping.fields {
            let (own, exact) = match kind {
                FieldType::Keyword => (true, false),
                FieldType::Text { keyword, .. } => (true, *keyword),
                FieldType::Long
                | FieldType::Integer
                | FieldType::Double
                | FieldType::Decimal { .. }
                | FieldType::Boolean
                | FieldType::Date
                | FieldType::Flattened => (false, false),
            };
            let keyword = format!("{path}.keyword");
            if own && fits(pattern, path) {
                fields.push(path.clone());
            }
            if exact && fits(pattern, &keyword) {
                fields.push(keyword);
            }
        }
        fields
    }

    fn term(&self, field: &str, value: &Scalar, boost: f32) -> Result<Value> {
        if field == "_id" {
            return Ok(ids(vec![reading::text(value).into_owned()], boost));
        }
        match self.named(field) {
            Some(Named::Text(name)) => {
                let boost = boost * self.lexical;
                Ok(json!({"term": {name: {"value": reading::text(value), "boost": boost}}}))
            }
            named => Ok(constant(self.exactly(field, named.as_ref(), value)?, boost)),
        }
    }

    fn terms(&self, field: &str, values: &[Scalar], boost: f32) -> Result<Value> {
        if field == "_id" {
            let values = values.iter().map(|value| reading::text(value).into_owned());
            return Ok(ids(values.collect(), boost));
        }
        let named = self.named(field);
        // Plain values go together, for a boolean query takes few clauses.
        let mut plain: Vec<Value> = Vec::new();
        let mut others = Vec::new();
        let mut name = String::new();
        for value in values {
            let mut query = self.exactly(field, named.as_ref(), value)?;
            match query.get_mut("term").and_then(Value::as_object_mut) {
                Some(term) => {
                    for (field, value) in std::mem::take(term) {
                        name = field;
                        plain.push(value);
                    }
                }
                None => others.push(query),
            }
        }
        if !plain.is_empty() {
            others.push(json!({"terms": {name: plain}}));
        }
        others.retain(|query| query.get("match_none").is_none());
        Ok(constant(any(others), boost))
    }

    /// Documents that have this value in a field; their score is of no meaning.
    fn exactly(&self, path: &str, named: Option<&Named<'_>>, value: &Scalar) -> Result<Value> {
        let (field, kind) = match named {
            None | Some(Named::Object(_)) => return Ok(nothing()),
            Some(Named::Text(name)) => (*name, ReadAs::Text),
            Some(Named::Exact { field, kind }) => (field.as_str(), *kind),
            Some(Named::Inside { field, path }) => {
                let token = format!("{path}{PATH_END}{}", reading::text(value));
                return Ok(json!({"term": {field: token}}));
            }
        };
        Ok(match reading::exact(path, kind, value, self.now_ms)? {
            Exact::Nothing => nothing(),
            Exact::Text(text) => json!({"term": {field: text}}),
            Exact::Bool(value) => json!({"term": {field: value}}),
            Exact::Double(value) => json!({"term": {field: value}}),
            Exact::Int(value) => match kind {
                ReadAs::Decimal(_) => numbers(field, kind, value, value),
                ReadAs::Text
                | ReadAs::Boolean
                | ReadAs::Double
                | ReadAs::Long
                | ReadAs::Integer
                | ReadAs::Date => json!({"term": {field: value}}),
            },
            Exact::Between(from, to) => numbers(field, kind, from, to),
        })
    }

    fn range(&self, range: &Range) -> Result<Value> {
        let Range {
            field,
            lower,
            upper,
            format,
            offset_seconds,
            boost: _,
        } = range;
        if lower.is_none() && upper.is_none() {
            return Ok(self.exists(field));
        }
        if let Some(format) = format {
            date::check_format(format)?;
        }
        let bounds = [lower.as_ref(), upper.as_ref()];
        let (name, kind) = match self.named(field) {
            None | Some(Named::Object(_)) => return Ok(nothing()),
            Some(Named::Inside { field, path }) => {
                return Ok(strings(&field, &format!("{path}{PATH_END}"), bounds));
            }
            Some(Named::Text(name)) => return Ok(strings(name, "", bounds)),
            Some(Named::Exact { field, kind }) => (field, kind),
        };
        let dates = Dates {
            format: format.as_deref(),
            offset_seconds: *offset_seconds,
            now_ms: self.now_ms,
        };
        let bound = |bound: Option<&(Scalar, bool)>, side| {
            bound
                .map(|(value, inclusive)| reading::bound(field, kind, value, *inclusive, side, &dates))
                .transpose()
        };
        let (lower, upper) = (bound(bounds[0], Side::Lower)?, bound(bounds[1], Side::Upper)?);
        Ok(match kind {
            ReadAs::Text => strings(&name, "", bounds),
            ReadAs::Long | ReadAs::Integer | ReadAs::Decimal(_) | ReadAs::Date => {
                let end = |bound, open| match bound {
                    Some(Bound::Int(value)) => Some(value),
                    Some(Bound::Double(..) | Bound::Bool(_)) | None => Some(open),
                    Some(Bound::Beyond) => None,
                };
                match (end(lower, i64::MIN), end(upper, i64::MAX)) {
                    (Some(from), Some(to)) => numbers(&name, kind, from, to),
                    (None, _) | (_, None) => nothing(),
                }
            }
            ReadAs::Double => {
                let mut ends = json!({});
                if let Some(Bound::Double(value, inclusive)) = lower {
                    ends[if inclusive { "gte" } else { "gt" }] = json!(value);
                }
                if let Some(Bound::Double(value, inclusive)) = upper {
                    ends[if inclusive { "lte" } else { "lt" }] = json!(value);
                }
                json!({"range": {name: ends}})
            }
            ReadAs::Boolean => {
                let least = !matches!(lower, Some(Bound::Bool(false)) | None);
                let most = !matches!(upper, Some(Bound::Bool(false)));
                let beyond = [lower, upper]
                    .iter()
                    .any(|bound| matches!(bound, Some(Bound::Beyond)));
                let fitting = [false, true]
                    .into_iter()
                    .filter(|value| !beyond && least <= *value && *value <= most)
                    .map(|value| json!({"term": {&name: value}}));
                any(fitting.collect())
            }
        })
    }

    fn exists(&self, field: &str) -> Value {
        if field == "_id" {
            return everything(1.0);
        }
        let has = |name: &str| json!({"exists": {"field": name}});
        match self.named(field) {
            None => nothing(),
            Some(Named::Text(name)) => has_text(name),
            Some(Named::Exact { field, .. }) => has(&field),
            Some(Named::Inside { field, path }) => {
                json!({"prefix": {field: format!("{path}{PATH_END}")}})
            }
            Some(Named::Object(path)) => {
                let below = format!("{path}.");
                let fields = self.mapping.fields.range(below.clone()..);
                let fields = fields.take_while(|(path, _)| path.starts_with(&below));
                let each = fields.map(|(path, kind)| match kind {
                    FieldType::Flattened => has(&values_of(path)),
                    FieldType::Text { .. } => has_text(path),
                    FieldType::Keyword
                    | FieldType::Long
                    | FieldType::Integer
                    | FieldType::Double
                    | FieldType::Decimal { .. }
                    | FieldType::Boolean
                    | FieldType::Date => has(path),
                });
                any(each.collect())
            }
        }
    }

    fn prefix(&self, path: &str, value: &str, either_case: bool) -> Result<Value> {
        let starts = |field: &str, value: &str| json!({"prefix": {field: {"value": value, "case_insensitive": either_case}}});
        Ok(match self.named(path) {
            None | Some(Named::Object(_)) => nothing(),
            Some(Named::Text(name)) => starts(name, value),
            Some(Named::Exact {
                field,
                kind: ReadAs::Text,
            }) => starts(&field, value),
            Some(Named::Inside { field, path }) => {
                let start = format!("{path}{PATH_END}");
                match either_case {
                    false => starts(&field, &format!("{start}{value}")),
                    // The path itself is compared exactly.
                    true => json!({"bool": {"filter": [
                        {"prefix": {&field: start}},
                        {"prefix": {&field: {"value": format!("{start}{value}"), "case_insensitive": true}}},
                    ]}}),
                }
            }
            Some(Named::Exact { kind, .. }) => {
                let kind = kind_name(kind);
                return Err(Error::invalid(
                    "query_shard_exception",
                    format!("a prefix query needs a keyword or text field, and [{path}] is of type [{kind}]"),
                ));
            }
        })
    }

    fn boolean(&self, clauses: &Bool) -> Result<Value> {
        let Bool {
            must,
            filter,
            should,
            must_not,
            minimum_should_match,
            boost,
        } = clauses;
        let boost = boost.unwrap_or(1.0);
        if must.is_empty() && filter.is_empty() && should.is_empty() && must_not.is_empty() {
            return Ok(everything(boost));
        }
        let each = |queries: &[Query]| -> Result<Vec<Value>> {
            queries.iter().map(|query| self.compile(query)).collect()
        };
        let mut compiled = json!({});
        let kinds = [
            ("must", must),
            ("filter", filter),
            ("should", should),
            ("must_not", must_not),
        ];
        for (kind, queries) in kinds {
            if !queries.is_empty() {
                compiled[kind] = Value::Array(each(queries)?);
            }
        }
        boosted(&mut compiled, boost);
        let required = !must.is_empty() || !filter.is_empty();
        let asked = minimum_should_match.as_ref().map(|rule| rule.of(should.len()));
        // Without a required clause at least one of the optional ones must match, whatever was asked.
        let least = match (required, should.is_empty()) {
            (true, _) => asked.unwrap_or(0),
            (false, true) => asked.unwrap_or(0),
            (false, false) => asked.unwrap_or(1).max(1),
        };
        if least > should.len() {
            return Ok(nothing());
        }
        if !should.is_empty() {
            compiled["minimum_should_match"] = json!(least);
        }
        Ok(json!({"bool": compiled}))
    }
}

/// Documents that have a text, be it an empty one. Said twice in the negative: OpenSearch 3 finds those with an empty
/// text and does not count them, unless it has to look at each.
fn has_text(field: &str) -> Value {
    json!({"bool": {"must_not": [{"bool": {"must_not": [{"exists": {"field": field}}]}}]}})
}

fn named<'q>(mapping: &'q Mapping, path: &'q str) -> Option<Named<'q>> {
    Some(match mapping.resolve(path)? {
        Resolved::Field(name, FieldType::Text { .. }) => Named::Text(name),
        Resolved::Field(name, FieldType::Flattened) => Named::Exact {
            field: values_of(name),
            kind: ReadAs::Text,
        },
        Resolved::Field(name, kind) => Named::Exact {
            field: name.to_owned(),
            kind: ReadAs::of(kind),
        },
        Resolved::KeywordOf(name) => Named::Exact {
            field: format!("{name}.keyword"),
            kind: ReadAs::Text,
        },
        Resolved::FlattenedPath(name, path) => Named::Inside {
            field: paths_of(name),
            path,
        },
        Resolved::Object => Named::Object(path),
    })
}

fn kind_name(kind: ReadAs) -> &'static str {
    match kind {
        ReadAs::Text => "keyword",
        ReadAs::Boolean => "boolean",
        ReadAs::Double => "double",
        ReadAs::Long => "long",
        ReadAs::Integer => "integer",
        ReadAs::Decimal(_) => "decimal",
        ReadAs::Date => "date",
    }
}

fn ids(values: Vec<String>, boost: f32) -> Value {
    match values.is_empty() {
        true => nothing(),
        // Our own field takes any text, and as many values as there may be.
        false => constant(json!({"terms": {ID: values}}), boost),
    }
}

/// Whole numbers from one bound to the other, both inclusive, as the field's type writes them.
fn numbers(field: &str, kind: ReadAs, from: i64, to: i64) -> Value {
    if from > to {
        return nothing();
    }
    let mut ends = json!({});
    match kind {
        ReadAs::Integer => {
            let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
            if from > most || to < least {
                return nothing();
            }
            ends["gte"] = json!(from.max(least));
            ends["lte"] = json!(to.min(most));
        }
        // Half a unit outside, so that no rounding of a binary number leaves a bound's own value out.
        ReadAs::Decimal(scale) => {
            let unit = 10_f64.powi(i32::from(scale));
            if from > i64::MIN {
                ends["gte"] = json!((from as f64 - 0.5) / unit);
            }
            if to < i64::MAX {
                ends["lte"] = json!((to as f64 + 0.5) / unit);
            }
        }
        ReadAs::Date => {
            if from > i64::MIN {
                ends["gte"] = json!(moment(from));
            }
            if to < i64::MAX {
                ends["lte"] = json!(moment(to));
            }
            ends["format"] = json!(DATES);
        }
        ReadAs::Text | ReadAs::Boolean | ReadAs::Double | ReadAs::Long => {
            ends["gte"] = json!(from);
            ends["lte"] = json!(to);
        }
    }
    if ends.get("gte").is_none() && ends.get("lte").is_none() {
        return json!({"exists": {"field": field}});
    }
    json!({"range": {field: ends}})
}

/// A moment as every version reads it: with a year of four digits where it has one, for a number of four digits would
/// be a year; in milliseconds otherwise.
fn moment(ms: i64) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    match (FIRST..=LAST).contains(&ms) {
        true => date::format(ms, None, 0).unwrap_or_else(|_| ms.to_string()),
        false => ms.to_string(),
    }
}

/// Terms between bounds, all after a prefix that both share.
fn strings(field: &str, prefix: &str, [lower, upper]: [Option<&(Scalar, bool)>; 2]) -> Value {
    let mut ends = json!({});
    match lower {
        Some((value, inclusive)) => {
            let name = if *inclusive { "gte" } else { "gt" };
            ends[name] = json!(format!("{prefix}{}", reading::text(value)));
        }
        None if prefix.is_empty() => {}
        None => ends["gte"] = json!(prefix),
    }
    match (upper, prefix.strip_suffix(PATH_END)) {
        (Some((value, inclusive)), _) => {
            let name = if *inclusive { "lte" } else { "lt" };
            ends[name] = json!(format!("{prefix}{}", reading::text(value)));
        }
        // What is left open ends where the prefix does: its last character is NUL, the next one U+0001.
        (None, Some(path)) => ends["lt"] = json!(format!("{path}\u{1}")),
        (None, None) => {}
    }
    json!({"range": {field: ends}})
}

/// As Elasticsearch writes it.
fn notation(rule: &MinimumShouldMatch) -> String {
    match rule {
        MinimumShouldMatch::Count(count) => count.to_string(),
        MinimumShouldMatch::Percent(percent) => format!("{percent}%"),
        MinimumShouldMatch::Above(rules) => {
            let each = rules
                .iter()
                .map(|(above, rule)| format!("{above}<{}", notation(rule)));
            each.collect::<Vec<_>>().join(" ")
        }
    }
}
