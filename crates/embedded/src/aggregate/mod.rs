//! Aggregations over columns: planned for each index, collected for each segment, merged, then written once.
//!
//! What is merged are exact counts and sums of every bucket, never finished results, so an answer over many segments
//! and indexes is the one that a single segment would give.

mod budget;
mod collect;
mod finish;

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use instep_core::query::{Aggregation, AggregationKind, BucketOrderBy, Metric, Scalar};
use instep_core::{Error, Result, reading};

use crate::fields::{Fields, Kind, Named, PATH_END};

pub(crate) use budget::Budget;
pub(crate) use collect::{Collector, ordinals};
pub(crate) use finish::finish;

/// What the values of a field are, for the buckets' keys and their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No index has the field.
    Unmapped,
    Text,
    Integer,
    Number,
    Boolean,
    Date,
}

/// An aggregation, planned for one index.
pub(crate) struct Plan {
    /// Its place among all aggregations of the request, the same in every index.
    place: usize,
    aggregation: Aggregation,
    shape: Shape,
    column: Option<Column>,
    inner: Vec<(String, Plan)>,
}

/// Where the values lie.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: ColumnKind,
}

#[derive(Clone, Debug)]
enum ColumnKind {
    /// Only the terms after this prefix, without it.
    Text {
        prefix: String,
    },
    /// Divided by ten to this power.
    Integer {
        scale: u8,
    },
    Double,
    Boolean,
}

/// The key of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Integer(i64),
    Number(Ordered),
    Text(Box<str>),
}

/// A double in its total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ordered(u64);

impl Ordered {
    fn new(value: f64) -> Self {
        Ordered(value.to_bits())
    }

    fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().total_cmp(&other.get())
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What an aggregation has gathered so far.
#[derive(Debug)]
pub(crate) enum Gathered {
    Terms(HashMap<Key, Bucket>),
    /// By the interval's number, or the start of a date's.
    Intervals(BTreeMap<i64, Bucket>),
    /// In the order of the request.
    Ranges(Vec<Bucket>),
    Numbers(Numbers),
}

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    count: u64,
    inner: Vec<Gathered>,
}

/// Count, sum (with its rounding error), smallest and largest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    count: u64,
    sum: f64,
    error: f64,
    min: f64,
    max: f64,
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers {
            count: 0,
            sum: 0.0,
            error: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl Numbers {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.add_to_sum(value);
    }

    /// Adds to the sum; what rounding loses, whichever side is larger, goes to the error.
    fn add_to_sum(&mut self, value: f64) {
        let sum = self.sum + value;
        let added = sum - self.sum;
        let lost = (self.sum - (sum - added)) + (value - added);
        if lost.is_finite() {
            self.error += lost;
        }
        self.sum = sum;
    }

    /// The sum, with what rounding had left over.
    fn total(&self) -> f64 {
        self.sum + self.error
    }

    fn merge(&mut self, other: Numbers) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.add_to_sum(other.sum);
        self.add_to_sum(other.error);
    }
}

/// Keys that a terms aggregation lists although no document has them, by the aggregation's place.
pub(crate) type Absent = BTreeMap<usize, BTreeSet<Key>>;

impl Gathered {
    /// Nothing yet.
    fn new(kind: &AggregationKind) -> Self {
        match kind {
            AggregationKind::Terms { .. } => Gathered::Terms(HashMap::new()),
            AggregationKind::Histogram { .. } | AggregationKind::DateHistogram { .. } => {
                Gathered::Intervals(BTreeMap::new())
            }
            AggregationKind::Range { ranges, .. } => {
                Gathered::Ranges(ranges.iter().map(|_| Bucket::default()).collect())
            }
            AggregationKind::Metric { .. } => Gathered::Numbers(Numbers::default()),
        }
    }

    /// Adds what another segment gathered for the same aggregation.
    pub(crate) fn merge(&mut self, other: Gathered) {
        match (self, other) {
            (Gathered::Terms(mine), Gathered::Terms(theirs)) => {
                for (key, bucket) in theirs {
                    match mine.entry(key) {
                        Entry::Occupied(mut known) => known.get_mut().merge(bucket),
                        Entry::Vacant(vacant) => {
                            vacant.insert(bucket);
                        }
                    }
                }
            }
            (Gathered::Intervals(mine), Gathered::Intervals(theirs)) => {
                for (key, bucket) in theirs {
                    mine.entry(key).or_default().merge(bucket);
                }
            }
            (Gathered::Ranges(mine), Gathered::Ranges(theirs)) => {
                mine.iter_mut()
                    .zip(theirs)
                    .for_each(|(mine, theirs)| mine.merge(theirs));
            }
            (Gathered::Numbers(mine), Gathered::Numbers(theirs)) => mine.merge(theirs),
            (Gathered::Terms(_) | Gathered::Intervals(_) | Gathered::Ranges(_) | Gathered::Numbers(_), _) => {
                unreachable!("both sides were made from one request")
            }
        }
    }

    fn buckets(&self) -> usize {
        let within = |bucket: &Bucket| 1 + bucket.inner.iter().map(Gathered::buckets).sum::<usize>();
        match self {
            Gathered::Terms(buckets) => buckets.values().map(within).sum(),
            Gathered::Intervals(buckets) => buckets.values().map(within).sum(),
            Gathered::Ranges(buckets) => buckets.iter().map(within).sum(),
            Gathered::Numbers(_) => 0,
        }
    }
}

impl Bucket {
    fn merge(&mut self, other: Bucket) {
        self.count += other.count;
        if self.inner.is_empty() {
            self.inner = other.inner;
        } else {
            self.inner
                .iter_mut()
                .zip(other.inner)
                .for_each(|(mine, theirs)| mine.merge(theirs));
        }
    }
}

/// Plans the aggregations of a request for an index; refuses what a field's type cannot answer, and more ranges than
/// an answer may have.
pub(crate) fn plan(fields: &Fields, aggregations: &[(String, Aggregation)]) -> Result<Vec<(String, Plan)>> {
    let mut place = 0;
    let plans = plans(fields, aggregations, &mut place)?;
    budget::check_ranges(&plans)?;
    Ok(plans)
}

fn plans(
    fields: &Fields,
    aggregations: &[(String, Aggregation)],
    place: &mut usize,
) -> Result<Vec<(String, Plan)>> {
    aggregations
        .iter()
        .map(|(name, aggregation)| Ok((name.clone(), Plan::new(fields, aggregation, place)?)))
        .collect()
}

/// The name of an aggregation as requests spell it.
fn spelled(kind: &AggregationKind) -> &'static str {
    match kind {
        AggregationKind::Terms { .. } => "terms",
        AggregationKind::Range { .. } => "range",
        AggregationKind::Histogram { .. } => "histogram",
        AggregationKind::DateHistogram { .. } => "date_histogram",
        AggregationKind::Metric { metric, .. } => match metric {
            Metric::Min => "min",
            Metric::Max => "max",
            Metric::Avg => "avg",
            Metric::Sum => "sum",
            Metric::Stats => "stats",
            Metric::ValueCount => "value_count",
        },
    }
}

impl Plan {
    fn new(fields: &Fields, aggregation: &Aggregation, place: &mut usize) -> Result<Self> {
        let own = *place;
        *place += 1;
        let (AggregationKind::Terms { field, .. }
        | AggregationKind::Range { field, .. }
        | AggregationKind::Histogram { field, .. }
        | AggregationKind::DateHistogram { field, .. }
        | AggregationKind::Metric { field, .. }) = &aggregation.kind;
        let (shape, column) = column(fields, field)?;
        let text = match &aggregation.kind {
            AggregationKind::Terms { .. }
            | AggregationKind::Metric {
                metric: Metric::ValueCount,
                ..
            } => true,
            AggregationKind::Range { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. }
            | AggregationKind::Metric { .. } => false,
        };
        let dates = matches!(aggregation.kind, AggregationKind::DateHistogram { .. });
        let fits = match shape {
            Shape::Unmapped | Shape::Date | Shape::Integer => true,
            Shape::Text => text,
            Shape::Number | Shape::Boolean => !dates,
        };
        if !fits {
            let kind = match shape {
                Shape::Text => "keyword",
                Shape::Boolean => "boolean",
                Shape::Number => "double",
                Shape::Integer => "long",
                Shape::Date => "date",
                Shape::Unmapped => "unmapped",
            };
            let aggregation = spelled(&aggregation.kind);
            return Err(Error::invalid(
                "illegal_argument_exception",
                format!("field [{field}] of type [{kind}] is not supported for aggregation [{aggregation}]"),
            ));
        }
        check_order(aggregation)?;
        if let AggregationKind::DateHistogram {
            format: Some(format), ..
        } = &aggregation.kind
        {
            instep_core::date::check_format(format)?;
        }
        let inner = plans(fields, &aggregation.aggregations, place)?;
        Ok(Plan {
            place: own,
            aggregation: aggregation.clone(),
            shape,
            column,
            inner,
        })
    }
}

fn check_order(aggregation: &Aggregation) -> Result<()> {
    let AggregationKind::Terms { order, .. } = &aggregation.kind else {
        return Ok(());
    };
    for order in order {
        let BucketOrderBy::Metric { name, value } = &order.by else {
            continue;
        };
        let named = aggregation.aggregations.iter().find(|(inner, _)| inner == name);
        let fits = match named.map(|(_, inner)| &inner.kind) {
            Some(AggregationKind::Metric {
                metric: Metric::Stats,
                ..
            }) => value
                .as_deref()
                .is_some_and(|value| ["count", "min", "max", "avg", "sum"].contains(&value)),
            Some(AggregationKind::Metric { .. }) => value.as_deref().is_none_or(|value| value == "value"),
            Some(
                AggregationKind::Terms { .. }
                | AggregationKind::Range { .. }
                | AggregationKind::Histogram { .. }
                | AggregationKind::DateHistogram { .. },
            )
            | None => false,
        };
        if !fits {
            return Err(Error::invalid(
                "aggregation_execution_exception",
                format!("buckets cannot be ordered by [{name}]: it names no number of a metric inside them"),
            ));
        }
    }
    Ok(())
}

fn column(fields: &Fields, field: &str) -> Result<(Shape, Option<Column>)> {
    let plain = |name: &str, shape, kind| {
        (
            shape,
            Some(Column {
                name: name.to_owned(),
                kind,
            }),
        )
    };
    Ok(match fields.resolve(field) {
        None | Some(Named::Object) => (Shape::Unmapped, None),
        Some(Named::Text { .. }) => {
            return Err(Error::invalid(
                "illegal_argument_exception",
                format!("text field [{field}] has no exact values to sort or aggregate by"),
            )
            .with_remedy(format!("use [{field}.keyword], or a keyword field")));
        }
        Some(Named::Inside { slot, path }) => {
            let prefix = format!("{path}{PATH_END}");
            plain(&slot.column, Shape::Text, ColumnKind::Text { prefix })
        }
        Some(Named::Exact { leaf, slot }) => {
            let (shape, kind) = match leaf.kind {
                Kind::Keyword | Kind::Text(_) | Kind::Flattened => (
                    Shape::Text,
                    ColumnKind::Text {
                        prefix: String::new(),
                    },
                ),
                Kind::Long | Kind::Integer => (Shape::Integer, ColumnKind::Integer { scale: 0 }),
                Kind::Date => (Shape::Date, ColumnKind::Integer { scale: 0 }),
                Kind::Decimal(scale) => (Shape::Number, ColumnKind::Integer { scale }),
                Kind::Double => (Shape::Number, ColumnKind::Double),
                Kind::Boolean => (Shape::Boolean, ColumnKind::Boolean),
            };
            plain(&slot.column, shape, kind)
        }
    })
}

/// The value that stands for a missing one, as a key.
fn missing_key(shape: Shape, value: &Scalar, field: &str) -> Result<Key> {
    let unreadable = || {
        Error::invalid(
            "illegal_argument_exception",
            format!("[missing] cannot be read as a value of [{field}]"),
        )
    };
    let integer = || reading::scaled(value, 0).and_then(|scaled| i64::try_from(scaled.floor).ok());
    Ok(match shape {
        Shape::Text | Shape::Unmapped => Key::Text(reading::text(value).into()),
        Shape::Integer => Key::Integer(integer().ok_or_else(unreadable)?),
        Shape::Date => match value {
            Scalar::Text(text) => {
                Key::Integer(instep_core::date::parse(text, instep_core::date::Round::Down, 0)?)
            }
            Scalar::Bool(_) | Scalar::Int(_) | Scalar::Double(_) => {
                Key::Integer(integer().ok_or_else(unreadable)?)
            }
        },
        Shape::Boolean => {
            let truth = reading::boolean(value).or_else(|| integer().map(|number| number != 0));
            Key::Integer(truth.ok_or_else(unreadable)?.into())
        }
        Shape::Number => Key::Number(Ordered::new(reading::double(value).ok_or_else(unreadable)?)),
    })
}

/// The shapes of the same aggregations in several indexes, brought together.
pub(crate) fn agree(plans: &mut [Vec<(String, Plan)>]) -> Result<()> {
    let mut shapes: BTreeMap<usize, Shape> = BTreeMap::new();
    for (_, plan) in plans.iter().flatten() {
        plan.note(&mut shapes)?;
    }
    for (_, plan) in plans.iter_mut().flatten() {
        plan.take(&shapes);
    }
    Ok(())
}

impl Plan {
    fn note(&self, shapes: &mut BTreeMap<usize, Shape>) -> Result<()> {
        let known = shapes.entry(self.place).or_insert(self.shape);
        match (*known, self.shape) {
            (_, Shape::Unmapped) => {}
            (Shape::Unmapped, shape) => *known = shape,
            (known, shape) if known == shape => {}
            (_, _) => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    "an aggregation's field has different types in the collections that are searched",
                )
                .with_remedy("aggregate these collections one by one"));
            }
        }
        self.inner.iter().try_for_each(|(_, plan)| plan.note(shapes))
    }

    fn take(&mut self, shapes: &BTreeMap<usize, Shape>) {
        if let Some(shape) = shapes.get(&self.place) {
            self.shape = *shape;
        }
        self.inner.iter_mut().for_each(|(_, plan)| plan.take(shapes));
    }
}
