//! Query clauses, one function for each.

use std::cell::Cell;

use instep_core::Result;
use instep_core::query::{Bool, Match, MultiMatch, Operator, Query, Range, Scalar};

use crate::capability::{Clause, MAX_CLAUSES, MAX_NESTING, MAX_VALUES, QUERIES};
use crate::json::{Json, shown};
use crate::notation;
use crate::place::{Members, Place, field_name, field_or_id};

/// What is left of a request's clauses and nesting.
pub(crate) struct Budget {
    clauses: Cell<usize>,
    nesting: Cell<usize>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Budget {
            clauses: Cell::new(MAX_CLAUSES),
            nesting: Cell::new(MAX_NESTING),
        }
    }

    /// Reads one clause or aggregation, unless there are too many or they lie too deep.
    pub(crate) fn spend<T>(&self, place: &Place<'_>, read: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.clauses.get() == 0 {
            let message = format!("too many clauses: more than [{MAX_CLAUSES}] queries and aggregations");
            return Err(place.illegal(message));
        }
        if self.nesting.get() == 0 {
            let message = format!("queries or aggregations nest deeper than [{MAX_NESTING}] levels");
            return Err(place.illegal(message));
        }
        self.clauses.set(self.clauses.get() - 1);
        self.nesting.set(self.nesting.get() - 1);
        let read = read()?;
        self.nesting.set(self.nesting.get() + 1);
        Ok(read)
    }
}

/// Any query.
pub(crate) fn parse(place: &Place<'_>, budget: &Budget) -> Result<Query> {
    budget.spend(place, || {
        let (name, inner) = place.only_member("the name of one query")?;
        let known = QUERIES.iter().find(|query| query.clause.name == name);
        match known {
            Some(query) => (query.parse)(&inner, &query.clause, budget),
            None => Err(place.unsupported(name, QUERIES.iter().map(|query| query.clause.name))),
        }
    })
}

pub(crate) fn match_all(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let boost = place.clause(clause)?.boost()?;
    Ok(Query::MatchAll { boost })
}

pub(crate) fn match_none(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    place.clause(clause)?;
    Ok(Query::MatchNone)
}

pub(crate) fn match_text(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let (field, inner) = one_field(place)?;
    let field = field_or_id(place, field)?;
    let Some(members) = long_form(&inner, clause)? else {
        return Ok(Query::Match(Match {
            field,
            text: inner.scalar()?,
            operator: Operator::default(),
            minimum_should_match: None,
            zero_terms_all: false,
            boost: 1.0,
        }));
    };
    let zero_terms = members.get("zero_terms_query");
    Ok(Query::Match(Match {
        field,
        text: members.required("query")?.scalar()?,
        operator: operator(&members)?,
        minimum_should_match: minimum(&members)?,
        zero_terms_all: zero_terms
            .map_or(Ok(false), |word| word.one_of(&[("none", false), ("all", true)]))?,
        boost: members.boost()?,
    }))
}

pub(crate) fn multi_match(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let members = place.clause(clause)?;
    if let Some(kind) = members.get("type") {
        kind.one_of(&[("best_fields", ())])?;
    }
    let fields_place = members.required("fields")?;
    let mut fields = Vec::new();
    for field in fields_place.items_or_self() {
        fields.push(boosted_field(&field)?);
    }
    if fields.is_empty() {
        return Err(fields_place.illegal("[multi_match] requires at least one field"));
    }
    if fields.len() > MAX_CLAUSES {
        return Err(fields_place.illegal(format!("[multi_match] takes at most [{MAX_CLAUSES}] fields")));
    }
    let tie_breaker = members.get("tie_breaker");
    Ok(Query::MultiMatch(MultiMatch {
        fields,
        text: members.required("query")?.scalar()?,
        operator: operator(&members)?,
        minimum_should_match: minimum(&members)?,
        tie_breaker: tie_breaker.map_or(Ok(0.0), |value| value.boost())?,
        boost: members.boost()?,
    }))
}

/// `title`, `title^3`, `seller.*`.
fn boosted_field(place: &Place<'_>) -> Result<(String, f32)> {
    let text = place.text()?;
    let Some((name, boost)) = text.rsplit_once('^') else {
        return Ok((field_or_id(place, text)?, 1.0));
    };
    let boost = boost
        .parse()
        .ok()
        .filter(|boost: &f32| boost.is_finite() && *boost >= 0.0);
    match boost {
        Some(boost) => Ok((field_or_id(place, name)?, boost)),
        None => Err(place.illegal(format!("[{}] has no number of at least 0 after ^", shown(text)))),
    }
}

pub(crate) fn match_phrase(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let (field, inner) = one_field(place)?;
    let field = field_or_id(place, field)?;
    let Some(members) = long_form(&inner, clause)? else {
        return Ok(Query::MatchPhrase {
            field,
            text: inner.plain_text()?,
            slop: 0,
            boost: 1.0,
        });
    };
    let slop = members
        .get("slop")
        .map_or(Ok(0), |slop| slop.integer_within(0, i64::from(i32::MAX)))?;
    Ok(Query::MatchPhrase {
        field,
        text: members.required("query")?.plain_text()?,
        slop: u32::try_from(slop).expect("the bounds were checked"),
        boost: members.boost()?,
    })
}

pub(crate) fn term(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let (field, inner) = one_field(place)?;
    let field = field_or_id(place, field)?;
    let Some(members) = long_form(&inner, clause)? else {
        return Ok(Query::Term {
            field,
            value: inner.scalar()?,
            boost: 1.0,
        });
    };
    if let Some(flag) = members.get("case_insensitive") {
        flag.only_false()?;
    }
    Ok(Query::Term {
        field,
        value: members.required("value")?.scalar()?,
        boost: members.boost()?,
    })
}

/// The field is a key beside `boost`, so the clause's own keys are checked by hand.
pub(crate) fn terms(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let mut found: Option<(&str, Vec<Scalar>)> = None;
    let mut boost = 1.0;
    for (key, inner) in place.members()? {
        if clause.has(key) && !matches!(inner.json, Json::Array(_)) {
            boost = inner.boost()?;
            #[cfg(test)]
            crate::tests::was_read(clause.name, "boost");
            continue;
        }
        if let Some((field, _)) = found {
            let message = format!(
                "[terms] takes one field, found [{}] and [{}]",
                shown(field),
                shown(key)
            );
            return Err(place.malformed(message));
        }
        if matches!(inner.json, Json::Object(_)) {
            let message = format!("[terms] lookup is not supported, found for [{}]", shown(key));
            return Err(inner
                .malformed(message)
                .with_remedy("give the values as an array"));
        }
        found = Some((key, scalars(&inner)?));
    }
    match found {
        Some((field, values)) => Ok(Query::Terms {
            field: field_or_id(place, field)?,
            values,
            boost,
        }),
        None => Err(place.malformed("[terms] requires a field with an array of values")),
    }
}

fn scalars(place: &Place<'_>) -> Result<Vec<Scalar>> {
    let items = place.items()?;
    too_many(place, items.len())?;
    items.iter().map(Place::scalar).collect()
}

fn too_many(place: &Place<'_>, values: usize) -> Result<()> {
    if values > MAX_VALUES {
        return Err(place.illegal(format!("[{values}] values are more than [{MAX_VALUES}]")));
    }
    Ok(())
}

pub(crate) fn ids(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let members = place.clause(clause)?;
    let values = members.required("values")?;
    let items = values.items_or_self();
    too_many(&values, items.len())?;
    Ok(Query::Ids {
        values: items.iter().map(Place::plain_text).collect::<Result<_>>()?,
        boost: members.boost()?,
    })
}

pub(crate) fn range(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let (field, inner) = one_field(place)?;
    let members = inner.clause(clause)?;
    let format = members.get("format");
    let zone = members.get("time_zone");
    Ok(Query::Range(Range {
        field: field_name(place, field)?,
        lower: bound(&inner, &members, "gte", "gt")?,
        upper: bound(&inner, &members, "lte", "lt")?,
        format: format
            .map(|format| format.text().map(str::to_owned))
            .transpose()?,
        offset_seconds: zone.map_or(Ok(0), |zone| notation::zone(&zone))?,
        boost: members.boost()?,
    }))
}

/// A bound; `null` is no bound.
fn bound(
    place: &Place<'_>,
    members: &Members<'_>,
    inclusive: &'static str,
    exclusive: &'static str,
) -> Result<Option<(Scalar, bool)>> {
    let value = match (members.get(inclusive), members.get(exclusive)) {
        (Some(_), Some(_)) => {
            let message = format!("[range] takes [{inclusive}] or [{exclusive}], not both");
            return Err(place.illegal(message));
        }
        (Some(value), None) => Some((value, true)),
        (None, Some(value)) => Some((value, false)),
        (None, None) => None,
    };
    value
        .filter(|(value, _)| !value.is_null())
        .map(|(value, included)| Ok((value.scalar()?, included)))
        .transpose()
}

pub(crate) fn exists(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let members = place.clause(clause)?;
    Ok(Query::Exists {
        field: members.required("field")?.field_or_id()?,
        boost: members.boost()?,
    })
}

pub(crate) fn prefix(place: &Place<'_>, clause: &'static Clause, _: &Budget) -> Result<Query> {
    let (field, inner) = one_field(place)?;
    let field = field_name(place, field)?;
    let Some(members) = long_form(&inner, clause)? else {
        return Ok(Query::Prefix {
            field,
            value: inner.plain_text()?,
            case_insensitive: false,
            boost: 1.0,
        });
    };
    let case_insensitive = members.get("case_insensitive");
    Ok(Query::Prefix {
        field,
        value: members.required("value")?.plain_text()?,
        case_insensitive: case_insensitive.map_or(Ok(false), |flag| flag.boolean())?,
        boost: members.boost()?,
    })
}

pub(crate) fn boolean(place: &Place<'_>, clause: &'static Clause, budget: &Budget) -> Result<Query> {
    let members = place.clause(clause)?;
    let clauses = |occurrence: Option<Place<'_>>| -> Result<Vec<Query>> {
        let Some(occurrence) = occurrence else {
            return Ok(Vec::new());
        };
        let items = occurrence.items_or_self();
        items.iter().map(|item| parse(item, budget)).collect()
    };
    Ok(Query::Bool(Bool {
        must: clauses(members.get("must"))?,
        filter: clauses(members.get("filter"))?,
        should: clauses(members.get("should"))?,
        must_not: clauses(members.get("must_not"))?,
        minimum_should_match: minimum(&members)?,
        boost: members.get("boost").map(|boost| boost.boost()).transpose()?,
    }))
}

pub(crate) fn constant_score(place: &Place<'_>, clause: &'static Clause, budget: &Budget) -> Result<Query> {
    let members = place.clause(clause)?;
    Ok(Query::ConstantScore {
        filter: Box::new(parse(&members.required("filter")?, budget)?),
        boost: members.boost()?,
    })
}

fn one_field<'b>(place: &'b Place<'_>) -> Result<(&'b str, Place<'b>)> {
    place.only_member("the name of one field")
}

/// The members of the long form of a clause by field; `None` for the short form, which is the value itself.
fn long_form<'b>(place: &'b Place<'_>, clause: &'static Clause) -> Result<Option<Members<'b>>> {
    match place.json {
        Json::Object(_) => place.clause(clause).map(Some),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) => Ok(None),
    }
}

fn operator(members: &Members<'_>) -> Result<Operator> {
    let words = [
        ("or", Operator::Or),
        ("and", Operator::And),
        ("OR", Operator::Or),
        ("AND", Operator::And),
    ];
    let operator = members.get("operator");
    operator.map_or(Ok(Operator::default()), |word| word.one_of(&words))
}

fn minimum(members: &Members<'_>) -> Result<Option<instep_core::query::MinimumShouldMatch>> {
    let minimum = members.get("minimum_should_match");
    minimum
        .map(|minimum| notation::minimum_should_match(&minimum))
        .transpose()
}
