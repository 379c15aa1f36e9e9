//! Queries and aggregations: a closed tree, engine-neutral. What is not in it cannot be asked.
//!
//! The semantics are Elasticsearch's, as OpenSearch 3 answers. Field names are dotted paths; whether they exist is for
//! the engine to say, index by index (an unmapped field matches nothing).

use serde::{Deserialize, Serialize};

/// A value inside a query or a bucket: JSON's scalars.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// true, false.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// Text.
    Text(String),
}

/// What to find. `boost` multiplies the score; 1.0 without one.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Every document, score = boost.
    MatchAll {
        /// The score.
        boost: f32,
    },
    /// No document.
    MatchNone,
    /// Analysed text in one field.
    Match(Match),
    /// Analysed text in several fields, the best one counts (`best_fields`).
    MultiMatch(MultiMatch),
    /// Analysed words in this order, with their gaps.
    MatchPhrase {
        /// The field.
        field: String,
        /// The text.
        text: String,
        /// How far words may be out of place. Engines may refuse other values than 0.
        slop: u32,
        /// Factor of the score.
        boost: f32,
    },
    /// One exact value. Not analysed; on a text field it must equal a token.
    Term {
        /// The field.
        field: String,
        /// The value.
        value: Scalar,
        /// Factor of the score.
        boost: f32,
    },
    /// One of several exact values; constant score.
    Terms {
        /// The field.
        field: String,
        /// The values.
        values: Vec<Scalar>,
        /// The score.
        boost: f32,
    },
    /// Documents by `_id`; constant score.
    Ids {
        /// The ids.
        values: Vec<String>,
        /// The score.
        boost: f32,
    },
    /// Values between bounds; constant score.
    Range(Range),
    /// Documents that have a value in this field or, for an object, below it; constant score.
    Exists {
        /// The field.
        field: String,
        /// The score.
        boost: f32,
    },
    /// Values (tokens, on a text field) that start with this; constant score.
    Prefix {
        /// The field.
        field: String,
        /// The beginning, not analysed.
        value: String,
        /// Compare without regard to ASCII case.
        case_insensitive: bool,
        /// The score.
        boost: f32,
    },
    /// Clauses combined.
    Bool(Bool),
    /// A filter's documents, all with the same score.
    ConstantScore {
        /// The filter.
        filter: Box<Query>,
        /// The score.
        boost: f32,
    },
}

/// How the tokens of a text combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operator {
    /// Any of them.
    #[default]
    Or,
    /// All of them.
    And,
}

/// Analysed text in one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The field.
    pub field: String,
    /// The text; a number or boolean on a field of that type.
    pub text: Scalar,
    /// How its tokens combine.
    pub operator: Operator,
    /// How many tokens must match, where the operator is `or`.
    pub minimum_should_match: Option<MinimumShouldMatch>,
    /// Match every document when the analyzer leaves no token; no document otherwise.
    pub zero_terms_all: bool,
    /// Factor of the score.
    pub boost: f32,
}

/// Analysed text in several fields: the highest field's score, plus `tie_breaker` times the others'.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiMatch {
    /// Fields with their boosts; a `*` in a name matches every field of text or keyword type it fits.
    pub fields: Vec<(String, f32)>,
    /// The text.
    pub text: Scalar,
    /// How its tokens combine inside one field.
    pub operator: Operator,
    /// How many tokens must match inside one field.
    pub minimum_should_match: Option<MinimumShouldMatch>,
    /// What the fields besides the best one add.
    pub tie_breaker: f32,
    /// Factor of the score.
    pub boost: f32,
}

/// How many optional clauses must match, in Elasticsearch's notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinimumShouldMatch {
    /// `3`, or `-1`: all but one.
    Count(i32),
    /// `75%` (rounded down), or `-25%`: all but a quarter.
    Percent(i32),
    /// `2<75% 9<-3`: up to 2 clauses all, above 2 the first rule, above 9 the second. Thresholds ascend.
    Above(Vec<(u32, MinimumShouldMatch)>),
}

impl MinimumShouldMatch {
    /// How many of `clauses` optional clauses must match, never below 0; may exceed `clauses`, and then nothing matches.
    pub fn of(&self, clauses: usize) -> usize {
        let total = i64::try_from(clauses).unwrap_or(i64::MAX);
        let wanted = match self {
            MinimumShouldMatch::Count(n) if *n >= 0 => i64::from(*n),
            MinimumShouldMatch::Count(n) => total + i64::from(*n),
            MinimumShouldMatch::Percent(p) if *p >= 0 => total * i64::from(*p) / 100,
            MinimumShouldMatch::Percent(p) => total - total * i64::from(-p) / 100,
            MinimumShouldMatch::Above(rules) => {
                let rule = rules.iter().rev().find(|(above, _)| clauses > *above as usize);
                return rule.map_or(clauses, |(_, rule)| rule.of(clauses));
            }
        };
        usize::try_from(wanted.max(0)).unwrap_or(0)
    }
}

/// Values between bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// The field.
    pub field: String,
    /// The lower bound, and whether it belongs to the range.
    pub lower: Option<(Scalar, bool)>,
    /// The upper bound, and whether it belongs to the range.
    pub upper: Option<(Scalar, bool)>,
    /// The format of date bounds; ISO 8601 or milliseconds without one.
    pub format: Option<String>,
    /// The zone of date bounds that name none, as an offset in seconds; UTC without one.
    pub offset_seconds: i32,
    /// The score.
    pub boost: f32,
}

/// Clauses combined. Empty: every document. Only `must_not` or `filter`: score 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bool {
    /// Must match, and scores.
    pub must: Vec<Query>,
    /// Must match, does not score.
    pub filter: Vec<Query>,
    /// May match, and scores.
    pub should: Vec<Query>,
    /// Must not match.
    pub must_not: Vec<Query>,
    /// How many of `should` must match; without it 1 when there is neither `must` nor `filter`, else 0.
    pub minimum_should_match: Option<MinimumShouldMatch>,
    /// Factor of the score; 1.0 in [`Bool::default`] is spelled `None`.
    pub boost: Option<f32>,
}

/// A key to sort by.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    /// What to compare.
    pub by: SortBy,
    /// From the largest down.
    pub descending: bool,
    /// Documents without a value come first; last otherwise.
    pub missing_first: bool,
}

/// What a sort compares. A document with several values counts with its smallest ascending, its largest descending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The score.
    Score,
    /// By `_id`, then by index: no two documents tie, and nothing shows where a hidden one lies.
    Doc,
    /// The document's `_id`.
    Id,
    /// A field with exact values, and the type to assume in an index that does not have it.
    Field {
        /// The field.
        field: String,
        /// Answer as if the field had this type where it is not mapped; an error without it.
        unmapped_type: Option<String>,
    },
}

/// An aggregation with its sub-aggregations.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// What is computed.
    pub kind: AggregationKind,
    /// Computed inside each bucket; empty for metrics.
    pub aggregations: Vec<(String, Aggregation)>,
}

/// What an aggregation computes.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregationKind {
    /// A bucket for each of the most frequent values.
    Terms {
        /// The field.
        field: String,
        /// How many buckets.
        size: usize,
        /// The order; ties by key ascending. The default is by count, descending.
        order: Vec<BucketOrder>,
        /// Buckets with fewer documents are left out.
        min_doc_count: u64,
        /// The value of documents that have none.
        missing: Option<Scalar>,
    },
    /// A bucket for each given range of a numeric or date field: from inclusive, to exclusive.
    Range {
        /// The field.
        field: String,
        /// The ranges.
        ranges: Vec<RangeBucket>,
        /// Buckets as an object by key.
        keyed: bool,
    },
    /// A bucket for each interval of numbers.
    Histogram {
        /// The field.
        field: String,
        /// The width, above 0.
        interval: f64,
        /// Where buckets start, 0 ≤ offset < interval.
        offset: f64,
        /// Buckets with fewer documents are left out; 0 fills gaps.
        min_doc_count: u64,
        /// Buckets as an object by key.
        keyed: bool,
    },
    /// A bucket for each interval of time.
    DateHistogram {
        /// The field.
        field: String,
        /// The width.
        interval: DateInterval,
        /// Local time as an offset from UTC in seconds.
        offset_seconds: i32,
        /// Buckets with fewer documents are left out; 0 fills gaps.
        min_doc_count: u64,
        /// Buckets as an object by key.
        keyed: bool,
        /// The format of `key_as_string`; the field's own without one.
        format: Option<String>,
    },
    /// A number over a numeric or date field (`value_count`: any exact field).
    Metric {
        /// Which.
        metric: Metric,
        /// The field.
        field: String,
        /// The value of documents that have none.
        missing: Option<Scalar>,
    },
}

/// A number over the values of a bucket's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The smallest; null of none.
    Min,
    /// The largest; null of none.
    Max,
    /// The mean; null of none.
    Avg,
    /// The sum; 0 of none.
    Sum,
    /// Count, min, max, avg, sum at once.
    Stats,
    /// How many values.
    ValueCount,
}

/// How buckets are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOrder {
    /// By what.
    pub by: BucketOrderBy,
    /// From the largest down.
    pub descending: bool,
}

/// What buckets are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketOrderBy {
    /// The number of documents.
    Count,
    /// The key.
    Key,
    /// A metric among the bucket's own sub-aggregations; for stats, one of its values (`price_stats.avg`).
    Metric {
        /// The sub-aggregation.
        name: String,
        /// One of its values, where it has several.
        value: Option<String>,
    },
}

/// One range of a range aggregation.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeBucket {
    /// The bucket's key; made from the bounds without one.
    pub key: Option<String>,
    /// From here on, inclusive.
    pub from: Option<f64>,
    /// Up to here, exclusive.
    pub to: Option<f64>,
}

/// An interval of a date histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateInterval {
    /// So many milliseconds.
    Fixed(i64),
    /// A calendar minute, hour or day.
    Minute,
    /// A calendar hour.
    Hour,
    /// A calendar day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
    /// A quarter from January, April, July, October.
    Quarter,
    /// A calendar year.
    Year,
}

impl Aggregation {
    /// Takes away what would show values of documents outside the caller's view, at every depth: `min_doc_count: 0` of
    /// a terms aggregation lists terms of documents that did not match.
    pub fn restrict(&mut self) {
        match &mut self.kind {
            AggregationKind::Terms { min_doc_count, .. } => *min_doc_count = (*min_doc_count).max(1),
            // These fill gaps between buckets that the caller sees; they show no value of another document.
            AggregationKind::Range { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. }
            | AggregationKind::Metric { .. } => {}
        }
        self.aggregations
            .iter_mut()
            .for_each(|(_, inner)| inner.restrict());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_should_match_of_each_form() {
        use MinimumShouldMatch::{Above, Count, Percent};
        let cases = [
            (Count(2), 3, 2),
            (Count(5), 3, 5),
            (Count(-1), 3, 2),
            (Count(-5), 3, 0),
            (Percent(75), 4, 3),
            (Percent(75), 3, 2),
            (Percent(-25), 4, 3),
            (Percent(-25), 3, 3),
            (Above(vec![(2, Percent(75))]), 2, 2),
            (Above(vec![(2, Percent(75))]), 4, 3),
            (Above(vec![(2, Percent(75)), (9, Count(-3))]), 10, 7),
        ];
        for (rule, clauses, expected) in cases {
            assert_eq!(rule.of(clauses), expected, "{rule:?} of {clauses}");
        }
    }

    #[test]
    fn restriction_reaches_every_depth() {
        let terms = |aggregations| Aggregation {
            kind: AggregationKind::Terms {
                field: "f".into(),
                size: 10,
                order: vec![],
                min_doc_count: 0,
                missing: None,
            },
            aggregations,
        };
        let mut outer = terms(vec![("inner".to_owned(), terms(vec![]))]);
        outer.restrict();
        for aggregation in [&outer, &outer.aggregations[0].1] {
            assert!(matches!(
                aggregation.kind,
                AggregationKind::Terms { min_doc_count: 1, .. }
            ));
        }
    }
}
