//! Shorthand for the clauses of queries.

use instep_core::query::{Bool, Match, Operator, Query, Range, Scalar};

use super::fixture::text;

pub(super) fn all() -> Query {
    Query::MatchAll { boost: 1.0 }
}

pub(super) fn term(field: &str, value: impl Into<Value>) -> Query {
    Query::Term {
        field: field.into(),
        value: value.into().0,
        boost: 1.0,
    }
}

/// Lets the tables write plain literals.
pub(super) struct Value(pub(super) Scalar);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value(text(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value(Scalar::Int(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value(Scalar::Double(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value(Scalar::Bool(value))
    }
}

pub(super) fn matching(field: &str, value: impl Into<Value>) -> Match {
    Match {
        field: field.into(),
        text: value.into().0,
        operator: Operator::Or,
        minimum_should_match: None,
        zero_terms_all: false,
        boost: 1.0,
    }
}

pub(super) fn phrase(field: &str, value: &str) -> Query {
    Query::MatchPhrase {
        field: field.into(),
        text: value.into(),
        slop: 0,
        boost: 1.0,
    }
}

pub(super) fn prefix(field: &str, value: &str) -> Query {
    Query::Prefix {
        field: field.into(),
        value: value.into(),
        case_insensitive: false,
        boost: 1.0,
    }
}

pub(super) fn exists(field: &str) -> Query {
    Query::Exists {
        field: field.into(),
        boost: 1.0,
    }
}

pub(super) fn terms(field: &str, values: Vec<Value>) -> Query {
    let values = values.into_iter().map(|value| value.0).collect();
    Query::Terms {
        field: field.into(),
        values,
        boost: 1.0,
    }
}

/// A range in the order gt, gte, lt, lte.
pub(super) fn range(field: &str, ends: [Option<Value>; 4]) -> Query {
    let [gt, gte, lt, lte] = ends.map(|end| end.map(|value| value.0));
    let lower = gt.map(|value| (value, false)).or(gte.map(|value| (value, true)));
    let upper = lt.map(|value| (value, false)).or(lte.map(|value| (value, true)));
    Query::Range(Range {
        field: field.into(),
        lower,
        upper,
        format: None,
        offset_seconds: 0,
        boost: 1.0,
    })
}

pub(super) fn value(value: impl Into<Value>) -> Option<Value> {
    Some(value.into())
}

pub(super) fn within(field: &str, gte: impl Into<Value>, lte: impl Into<Value>) -> Query {
    range(field, [None, value(gte), None, value(lte)])
}

pub(super) fn boolean(clauses: Bool) -> Query {
    Query::Bool(clauses)
}
