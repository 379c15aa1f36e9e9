//! Queries of ours into queries of the library, for one index.
//!
//! The semantics are those that [`instep_core::query`] promises. A field that the index does not have matches
//! nothing; a value that its field's type cannot read is the caller's error.

use std::sync::Arc;

use instep_core::date;
use instep_core::query::{Bool, Match, MinimumShouldMatch, MultiMatch, Operator, Query, Range, Scalar};
use instep_core::reading::{self, Bound, Exact};
use instep_core::source_filter::fits;
use instep_core::{Error, Result, Visibility};
use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, EmptyQuery, ExistsQuery, Occur,
    PhraseQuery, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use crate::analysis::Token;
use crate::fields::{ID, Kind, Leaf, Named, PATH_END};
use crate::index::OpenIndex;
use crate::scoring::{PrefixQuery, lexical};

type Compiled = Box<dyn tantivy::query::Query>;

/// What a query is compiled for.
pub(crate) struct Compiler<'a> {
    pub(crate) index: &'a Arc<OpenIndex>,
    /// What `now` means.
    pub(crate) now_ms: i64,
}

/// Documents that the caller may see, all with score 0; `None` when that is every document.
pub(crate) fn visible(index: &OpenIndex, visibility: &Visibility) -> Option<Compiled> {
    let (showing, hiding) = visibility.tokens()?;
    let readers = index.fields.readers;
    let one_of = |tokens: Vec<String>| -> Compiled {
        let terms = tokens.iter().map(|token| Term::from_field_text(readers, token));
        Box::new(TermSetQuery::new(terms.collect::<Vec<_>>()))
    };
    let shown = one_of(showing);
    if hiding.is_empty() {
        return Some(constant(shown, 0.0));
    }
    let clauses = vec![(Occur::Must, shown), (Occur::MustNot, one_of(hiding))];
    Some(constant(Box::new(BooleanQuery::new(clauses)), 0.0))
}

fn constant(query: Compiled, score: f32) -> Compiled {
    Box::new(ConstScoreQuery::new(query, score))
}

fn nothing() -> Compiled {
    Box::new(EmptyQuery)
}

fn everything(score: f32) -> Compiled {
    constant(Box::new(AllQuery), score)
}

fn boosted(query: Compiled, boost: f32) -> Compiled {
    if boost == 1.0 {
        query
    } else {
        Box::new(BoostQuery::new(query, boost))
    }
}

fn one_of(queries: Vec<Compiled>, score: f32) -> Compiled {
    constant(Box::new(BooleanQuery::union(queries)), score)
}

fn plain(term: Term) -> Compiled {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

impl Compiler<'_> {
    /// The library's query.
    pub(crate) fn compile(&self, query: &Query) -> Result<Compiled> {
        match query {
            Query::MatchAll { boost } => Ok(everything(*boost)),
            Query::MatchNone => Ok(nothing()),
            Query::Match(wanted) => self.matching(wanted),
            Query::MultiMatch(wanted) => self.multi_match(wanted),
            Query::MatchPhrase {
                field,
                text,
                slop,
                boost,
            } => self.phrase(field, text, *slop, *boost),
            Query::Term { field, value, boost } => self.term(field, value, *boost),
            Query::Terms { field, values, boost } => self.terms(field, values, *boost),
            Query::Ids { values, boost } => Ok(self.ids(values.iter().map(String::as_str), *boost)),
            Query::Range(range) => self.range(range),
            Query::Exists { field, boost } => Ok(constant(self.exists(field), *boost)),
            Query::Prefix {
                field,
                value,
                case_insensitive,
                boost,
            } => self
                .prefix(field, value, *case_insensitive)
                .map(|query| constant(query, *boost)),
            Query::Bool(clauses) => self.boolean(clauses),
            Query::ConstantScore { filter, boost } => Ok(constant(self.compile(filter)?, *boost)),
        }
    }

    fn resolve<'q>(&'q self, field: &'q str) -> Option<Named<'q>> {
        self.index.fields.resolve(field)
    }

    fn ids<'v>(&self, values: impl Iterator<Item = &'v str>, score: f32) -> Compiled {
        let terms: Vec<Term> = values
            .map(|id| Term::from_field_text(self.index.fields.id, id))
            .collect();
        if terms.is_empty() {
            return nothing();
        }
        constant(Box::new(TermSetQuery::new(terms)), score)
    }

    fn matching(&self, wanted: &Match) -> Result<Compiled> {
        let Some(Named::Text { leaf, analyzer }) = self.resolve(&wanted.field) else {
            return self.term(&wanted.field, &wanted.text, wanted.boost);
        };
        let tokens = analyzer.analyze(&reading::text(&wanted.text));
        if tokens.is_empty() {
            return Ok(if wanted.zero_terms_all {
                everything(wanted.boost)
            } else {
                nothing()
            });
        }
        let rule = wanted.minimum_should_match.as_ref();
        Ok(self.words(leaf.main.field, tokens, wanted.operator, rule, wanted.boost))
    }

    /// A query for the tokens of a text, at least one.
    fn words(
        &self,
        field: Field,
        tokens: Vec<Token>,
        operator: Operator,
        rule: Option<&MinimumShouldMatch>,
        boost: f32,
    ) -> Compiled {
        let mut queries: Vec<Compiled> = tokens
            .into_iter()
            .map(|token| word(Term::from_field_text(field, &token.text)))
            .collect();
        let query: Compiled = match (queries.len(), operator) {
            (1, _) => queries.remove(0),
            (_, Operator::And) => Box::new(BooleanQuery::intersection(queries)),
            (count, Operator::Or) => {
                let least = rule.map_or(1, |rule| rule.of(count).max(1));
                Box::new(BooleanQuery::union_with_minimum_required_clauses(queries, least))
            }
        };
        lexical(self.index, field, query, boost)
    }

    fn multi_match(&self, wanted: &MultiMatch) -> Result<Compiled> {
        let mut queries = Vec::new();
        for (pattern, boost) in &wanted.fields {
            let fields = if pattern.contains('*') {
                self.fields_like(pattern)
            } else {
                vec![pattern.clone()]
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
        let query = match queries.len() {
            0 => nothing(),
            1 => queries.remove(0),
            _ => Box::new(DisjunctionMaxQuery::with_tie_breaker(queries, wanted.tie_breaker)),
        };
        Ok(boosted(query, wanted.boost))
    }

    /// The text and keyword fields that a pattern fits.
    fn fields_like(&self, pattern: &str) -> Vec<String> {
        let mut fields = Vec::new();
        for leaf in &self.index.fields.leaves {
            let (own, exact) = match leaf.kind {
                Kind::Keyword => (true, false),
                Kind::Text(_) => (true, leaf.exact.is_some()),
                Kind::Long
                | Kind::Integer
                | Kind::Double
                | Kind::Decimal(_)
                | Kind::Boolean
                | Kind::Date
                | Kind::Flattened => (false, false),
            };
            let keyword = format!("{}.keyword", leaf.path);
            if own && fits(pattern, &leaf.path) {
                fields.push(leaf.path.clone());
            }
            if exact && fits(pattern, &keyword) {
                fields.push(keyword);
            }
        }
        fields
    }

    fn phrase(&self, field: &str, text: &str, slop: u32, boost: f32) -> Result<Compiled> {
        if slop != 0 {
            return Err(Error::invalid(
                "parsing_exception",
                "[match_phrase] with a [slop] other than 0 is not supported by engine [embedded]",
            ));
        }
        let Some(Named::Text { leaf, analyzer }) = self.resolve(field) else {
            return self.term(field, &Scalar::Text(text.to_owned()), boost);
        };
        let tokens = analyzer.analyze(text);
        let field = leaf.main.field;
        Ok(match tokens.len() {
            0 => nothing(),
            1 => self.words(field, tokens, Operator::Or, None, boost),
            _ => {
                let terms = tokens
                    .iter()
                    .map(|token| (token.position, Term::from_field_text(field, &token.text)))
                    .collect();
                lexical(
                    self.index,
                    field,
                    Box::new(PhraseQuery::new_with_offset(terms)),
                    boost,
                )
            }
        })
    }

    fn term(&self, field: &str, value: &Scalar, boost: f32) -> Result<Compiled> {
        if field == ID {
            return Ok(self.ids([reading::text(value).as_ref()].into_iter(), boost));
        }
        match self.resolve(field) {
            Some(Named::Text { leaf, .. }) => {
                let field = leaf.main.field;
                let term = Term::from_field_text(field, &reading::text(value));
                Ok(lexical(self.index, field, word(term), boost))
            }
            named => Ok(constant(self.exactly(field, named.as_ref(), value)?, boost)),
        }
    }

    fn terms(&self, field: &str, values: &[Scalar], boost: f32) -> Result<Compiled> {
        if field == ID {
            let ids: Vec<_> = values.iter().map(reading::text).collect();
            return Ok(self.ids(ids.iter().map(AsRef::as_ref), boost));
        }
        let named = self.resolve(field);
        let queries = values
            .iter()
            .map(|value| self.exactly(field, named.as_ref(), value));
        let queries: Vec<Compiled> = queries.collect::<Result<_>>()?;
        Ok(if queries.is_empty() {
            nothing()
        } else {
            one_of(queries, boost)
        })
    }

    /// Documents that have this value in a field; their score is of no meaning.
    fn exactly(&self, path: &str, named: Option<&Named<'_>>, value: &Scalar) -> Result<Compiled> {
        let (leaf, slot) = match named {
            None | Some(Named::Object) => return Ok(nothing()),
            Some(Named::Text { leaf, .. }) => (*leaf, &leaf.main),
            Some(Named::Exact { leaf, slot }) => (*leaf, *slot),
            Some(Named::Inside { slot, path }) => {
                let token = format!("{path}{PATH_END}{}", reading::text(value));
                return Ok(plain(Term::from_field_text(slot.field, &token)));
            }
        };
        Ok(
            match reading::exact(path, leaf.kind.read_as(), value, self.now_ms)? {
                Exact::Nothing => nothing(),
                Exact::Text(text) => plain(Term::from_field_text(slot.field, &text)),
                Exact::Bool(value) => plain(Term::from_field_bool(slot.field, value)),
                Exact::Double(value) => plain(Term::from_field_f64(slot.field, value)),
                Exact::Int(value) => plain(Term::from_field_i64(slot.field, value)),
                Exact::Between(from, to) => integers(slot.field, from, to),
            },
        )
    }

    fn range(&self, range: &Range) -> Result<Compiled> {
        let Range {
            field,
            lower,
            upper,
            format,
            offset_seconds,
            boost,
        } = range;
        let named = self.resolve(field);
        if lower.is_none() && upper.is_none() {
            return Ok(constant(self.exists(field), *boost));
        }
        if let Some(format) = format {
            date::check_format(format)?;
        }
        let bounds = [lower.as_ref(), upper.as_ref()];
        let query = match named {
            None | Some(Named::Object) => nothing(),
            Some(Named::Inside { slot, path }) => {
                let prefix = format!("{path}{PATH_END}");
                strings(slot.field, &prefix, bounds)
            }
            Some(Named::Text { leaf, .. }) => strings(leaf.main.field, "", bounds),
            Some(Named::Exact { leaf, slot }) => {
                let bound = |bound: Option<&(Scalar, bool)>, side| {
                    bound
                        .map(|(value, inclusive)| {
                            let dates = reading::Dates {
                                format: format.as_deref(),
                                offset_seconds: *offset_seconds,
                                now_ms: self.now_ms,
                            };
                            reading::bound(field, leaf.kind.read_as(), value, *inclusive, side, &dates)
                        })
                        .transpose()
                };
                let lower = bound(bounds[0], reading::Side::Lower)?;
                let upper = bound(bounds[1], reading::Side::Upper)?;
                match leaf.kind {
                    Kind::Text(_) | Kind::Keyword | Kind::Flattened => strings(slot.field, "", bounds),
                    Kind::Long | Kind::Integer | Kind::Decimal(_) | Kind::Date => {
                        let end = |bound, open| match bound {
                            Some(Bound::Int(value)) => Some(value),
                            Some(Bound::Double(..) | Bound::Bool(_)) | None => Some(open),
                            Some(Bound::Beyond) => None,
                        };
                        match (end(lower, i64::MIN), end(upper, i64::MAX)) {
                            (Some(from), Some(to)) => integers(slot.field, from, to),
                            (None, _) | (_, None) => nothing(),
                        }
                    }
                    Kind::Double => doubles(slot.field, lower, upper),
                    Kind::Boolean => {
                        let least = !matches!(lower, Some(Bound::Bool(false)) | None);
                        let most = !matches!(upper, Some(Bound::Bool(false)));
                        let beyond = [lower, upper]
                            .iter()
                            .any(|bound| matches!(bound, Some(Bound::Beyond)));
                        let fitting = [false, true]
                            .into_iter()
                            .filter(|value| !beyond && least <= *value && *value <= most)
                            .map(|value| plain(Term::from_field_bool(slot.field, value)));
                        let fitting: Vec<Compiled> = fitting.collect();
                        if fitting.is_empty() {
                            nothing()
                        } else {
                            one_of(fitting, 1.0)
                        }
                    }
                }
            }
        };
        Ok(constant(query, *boost))
    }

    fn exists(&self, field: &str) -> Compiled {
        if field == ID {
            return Box::new(AllQuery);
        }
        let has = |leaf: &Leaf| match leaf.kind {
            Kind::Text(_) => plain(Term::from_field_text(self.index.fields.names, &leaf.path)),
            Kind::Keyword
            | Kind::Long
            | Kind::Integer
            | Kind::Double
            | Kind::Decimal(_)
            | Kind::Boolean
            | Kind::Date
            | Kind::Flattened => has_column(&leaf.main.column),
        };
        match self.resolve(field) {
            None => nothing(),
            Some(Named::Text { leaf, .. }) => has(leaf),
            Some(Named::Exact { slot, .. }) => has_column(&slot.column),
            Some(Named::Inside { slot, path }) => Box::new(PrefixQuery {
                field: slot.field,
                prefix: format!("{path}{PATH_END}").into_bytes(),
                either_case_from: None,
            }),
            Some(Named::Object) => Box::new(BooleanQuery::union(
                self.index.fields.below(field).map(has).collect(),
            )),
        }
    }

    fn prefix(&self, field: &str, value: &str, either_case: bool) -> Result<Compiled> {
        let (slot, inside) = match self.resolve(field) {
            None | Some(Named::Object) => return Ok(nothing()),
            Some(Named::Text { leaf, .. }) => (&leaf.main, String::new()),
            Some(Named::Inside { slot, path }) => (slot, format!("{path}{PATH_END}")),
            Some(Named::Exact { leaf, slot }) => match leaf.kind {
                Kind::Keyword | Kind::Text(_) | Kind::Flattened => (slot, String::new()),
                Kind::Long | Kind::Integer | Kind::Double | Kind::Decimal(_) | Kind::Boolean | Kind::Date => {
                    let kind = leaf.kind.name();
                    return Err(Error::invalid(
                        "query_shard_exception",
                        format!(
                            "a prefix query needs a keyword or text field, and [{field}] is of type [{kind}]"
                        ),
                    ));
                }
            },
        };
        let either_case_from = either_case.then_some(inside.len());
        let prefix = format!("{inside}{value}").into_bytes();
        Ok(Box::new(PrefixQuery {
            field: slot.field,
            prefix,
            either_case_from,
        }))
    }

    fn boolean(&self, clauses: &Bool) -> Result<Compiled> {
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
        let mut compiled: Vec<(Occur, Compiled)> = Vec::new();
        for query in must {
            compiled.push((Occur::Must, self.compile(query)?));
        }
        for query in filter {
            compiled.push((Occur::Must, constant(self.compile(query)?, 0.0)));
        }
        for query in must_not {
            compiled.push((Occur::MustNot, self.compile(query)?));
        }
        for query in should {
            compiled.push((Occur::Should, self.compile(query)?));
        }
        let required = !must.is_empty() || !filter.is_empty();
        let asked = minimum_should_match.as_ref().map(|rule| rule.of(should.len()));
        // Without a required clause at least one of the optional ones must match, whatever was asked.
        let least = match (required, should.is_empty()) {
            (true, _) => asked.unwrap_or(0),
            (false, true) => asked.unwrap_or(0),
            (false, false) => asked.unwrap_or(1).max(1),
        };
        if !required && should.is_empty() {
            compiled.push((Occur::Must, everything(0.0)));
        }
        let query = BooleanQuery::with_minimum_required_clauses(compiled, least);
        Ok(boosted(Box::new(query), boost))
    }
}

/// A scored term.
fn word(term: Term) -> Compiled {
    Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
}

fn has_column(column: &str) -> Compiled {
    Box::new(ExistsQuery::new(column.to_owned(), false))
}

/// Integers from one bound to the other, both inclusive.
fn integers(field: Field, from: i64, to: i64) -> Compiled {
    use std::ops::Bound::Included;
    if from > to {
        return nothing();
    }
    let term = |value| Included(Term::from_field_i64(field, value));
    Box::new(tantivy::query::RangeQuery::new(term(from), term(to)))
}

fn doubles(field: Field, lower: Option<Bound>, upper: Option<Bound>) -> Compiled {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let end = |bound| match bound {
        Some(Bound::Double(value, true)) => Included(Term::from_field_f64(field, value)),
        Some(Bound::Double(value, false)) => Excluded(Term::from_field_f64(field, value)),
        Some(Bound::Int(_) | Bound::Bool(_) | Bound::Beyond) | None => Unbounded,
    };
    Box::new(tantivy::query::RangeQuery::new(end(lower), end(upper)))
}

/// Terms between bounds, all after a prefix that both share.
fn strings(field: Field, prefix: &str, [lower, upper]: [Option<&(Scalar, bool)>; 2]) -> Compiled {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let end = |bound: Option<&(Scalar, bool)>| {
        bound.map(|(value, inclusive)| {
            let term = Term::from_field_text(field, &format!("{prefix}{}", reading::text(value)));
            if *inclusive {
                Included(term)
            } else {
                Excluded(term)
            }
        })
    };
    // What is left open ends where the prefix does: its last character is NUL, the next one U+0001.
    let floor = || match prefix {
        "" => Unbounded,
        _ => Included(Term::from_field_text(field, prefix)),
    };
    let ceiling = || match prefix.strip_suffix(PATH_END) {
        Some(path) => Excluded(Term::from_field_text(field, &format!("{path}\u{1}"))),
        None => Unbounded,
    };
    let (lower, upper) = (
        end(lower).unwrap_or_else(floor),
        end(upper).unwrap_or_else(ceiling),
    );
    Box::new(tantivy::query::InvertedIndexRangeQuery::new(lower, upper))
}
