//! One segment's share of the aggregations.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use instep_core::query::{AggregationKind, DateInterval, Metric};
use instep_core::{Error, Result, date, decimal};
use tantivy::columnar::{Column as Values, StrColumn};
use tantivy::{DocId, SegmentReader, f64_to_u64, i64_to_u64, u64_to_f64, u64_to_i64};

use super::budget::{Budget, TooMany};
use super::{Absent, Bucket, Column, ColumnKind, Gathered, Key, Numbers, Ordered, Plan, missing_key};
use crate::fault::{from_io, from_tantivy};

/// Gathers the values of one segment's documents.
pub(crate) struct Collector<'a> {
    nodes: Vec<Node<'a>>,
    parts: Vec<Part>,
    budget: Budget,
}

struct Node<'a> {
    plan: &'a Plan,
    source: Source,
    inner: Vec<Node<'a>>,
    /// The key of documents without a value.
    missing: Option<Key>,
}

/// The values of a segment.
enum Source {
    Nothing,
    /// Only these ordinals.
    Text {
        column: StrColumn,
        within: Range<u64>,
        prefix: usize,
    },
    Integer {
        column: Values<i64>,
        scale: u8,
    },
    Double(Values<f64>),
    Boolean(Values<bool>),
}

type Keyed = HashMap<u64, Inner, BuildHasherDefault<Mixed>>;

/// What is gathered in one segment, under keys of 64 bits whose meaning the source knows.
enum Part {
    Keyed { buckets: Keyed, missing: Option<Inner> },
    Ranges(Vec<Inner>),
    Numbers(Numbers),
}

#[derive(Default)]
struct Inner {
    count: u64,
    parts: Vec<Part>,
}

/// A hash of one number: a multiplication spreads it well enough.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(26);
    }
}

impl<'a> Collector<'a> {
    pub(crate) fn new(plans: &'a [(String, Plan)], segment: &SegmentReader) -> Result<Self> {
        let nodes = nodes(plans, segment)?;
        let mut budget = Budget::whole();
        let parts = fresh(&nodes, &mut budget)?;
        Ok(Collector { nodes, parts, budget })
    }

    pub(crate) fn collect(&mut self, doc: DocId) -> Result<(), TooMany> {
        let keys = &mut Vec::new();
        self.nodes
            .iter()
            .zip(&mut self.parts)
            .try_for_each(|(node, part)| node.collect(part, doc, keys, &mut self.budget))
    }

    /// What was gathered, under keys that hold for every segment.
    pub(crate) fn finish(self) -> Result<Vec<Gathered>> {
        lift(&self.nodes, self.parts)
    }

    /// The keys of this segment that a terms aggregation with `min_doc_count: 0` lists.
    pub(crate) fn absent(&self, segment: &SegmentReader, absent: &mut Absent) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.absent(segment, absent))
    }
}

fn nodes<'a>(plans: &'a [(String, Plan)], segment: &SegmentReader) -> Result<Vec<Node<'a>>> {
    plans
        .iter()
        .map(|(_, plan)| {
            let missing = match &plan.aggregation.kind {
                AggregationKind::Terms { missing, field, .. }
                | AggregationKind::Metric { missing, field, .. } => missing
                    .as_ref()
                    .map(|value| missing_key(plan.shape, value, field))
                    .transpose()?,
                AggregationKind::Range { .. }
                | AggregationKind::Histogram { .. }
                | AggregationKind::DateHistogram { .. } => None,
            };
            let source = source(plan.column.as_ref(), segment)?;
            Ok(Node {
                plan,
                source,
                inner: nodes(&plan.inner, segment)?,
                missing,
            })
        })
        .collect()
}

fn source(column: Option<&Column>, segment: &SegmentReader) -> Result<Source> {
    let what = "reading a column";
    let Some(Column { name, kind }) = column else {
        return Ok(Source::Nothing);
    };
    let columns = segment.fast_fields();
    let opened = match kind {
        ColumnKind::Text { prefix } => match columns.str(name).map_err(|error| from_tantivy(error, what))? {
            None => None,
            Some(column) => {
                let within = ordinals(&column, prefix).map_err(|error| from_io(error, what))?;
                Some(Source::Text {
                    column,
                    within,
                    prefix: prefix.len(),
                })
            }
        },
        ColumnKind::Integer { scale } => columns
            .column_opt::<i64>(name)
            .map_err(|error| from_tantivy(error, what))?
            .map(|column| Source::Integer {
                column,
                scale: *scale,
            }),
        ColumnKind::Double => columns
            .column_opt::<f64>(name)
            .map_err(|error| from_tantivy(error, what))?
            .map(Source::Double),
        ColumnKind::Boolean => columns
            .column_opt::<bool>(name)
            .map_err(|error| from_tantivy(error, what))?
            .map(Source::Boolean),
    };
    Ok(opened.unwrap_or(Source::Nothing))
}

/// The ordinals of the terms that start with a prefix.
pub(crate) fn ordinals(column: &StrColumn, prefix: &str) -> std::io::Result<Range<u64>> {
    use tantivy::columnar::TermOrdHit;
    let all = column.dictionary().num_terms() as u64;
    let Some(path) = prefix.strip_suffix(crate::fields::PATH_END) else {
        return Ok(0..all);
    };
    let at = |text: &str| {
        let hit = column.dictionary().term_ord_or_next(text.as_bytes())?;
        let (TermOrdHit::Exact(ordinal) | TermOrdHit::Next(ordinal)) = hit;
        Ok::<u64, std::io::Error>(ordinal.min(all))
    };
    Ok(at(prefix)?..at(&format!("{path}\u{1}"))?)
}

fn fresh(nodes: &[Node<'_>], budget: &mut Budget) -> Result<Vec<Part>, TooMany> {
    nodes.iter().map(|node| node.fresh(budget)).collect()
}

/// The bucket of a key, made if it is not there.
fn bucket<'b>(buckets: &'b mut Keyed, key: u64, budget: &mut Budget) -> Result<&'b mut Inner, TooMany> {
    match buckets.entry(key) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(vacant) => {
            budget.take(1)?;
            Ok(vacant.insert(Inner::default()))
        }
    }
}

impl Node<'_> {
    fn fresh(&self, budget: &mut Budget) -> Result<Part, TooMany> {
        Ok(match &self.plan.aggregation.kind {
            AggregationKind::Terms { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. } => Part::Keyed {
                buckets: HashMap::default(),
                missing: None,
            },
            AggregationKind::Range { ranges, .. } => {
                budget.take(ranges.len())?;
                Part::Ranges(ranges.iter().map(|_| Inner::default()).collect())
            }
            AggregationKind::Metric { .. } => Part::Numbers(Numbers::default()),
        })
    }

    fn collect(
        &self,
        part: &mut Part,
        doc: DocId,
        keys: &mut Vec<u64>,
        budget: &mut Budget,
    ) -> Result<(), TooMany> {
        keys.clear();
        match (&self.plan.aggregation.kind, part) {
            (AggregationKind::Terms { .. }, Part::Keyed { buckets, missing }) => {
                self.source.raw(doc, |raw| keys.push(raw));
                if keys.is_empty() {
                    if self.missing.is_none() {
                        return Ok(());
                    }
                    if missing.is_none() {
                        budget.take(1)?;
                    }
                    return self.count(missing.get_or_insert_default(), doc, budget);
                }
                self.count_each(buckets, keys, doc, budget)?;
            }
            (AggregationKind::Histogram { interval, offset, .. }, Part::Keyed { buckets, .. }) => {
                let number = |value: f64| ((value - offset) / interval).floor() as i64;
                self.source.numbers(doc, |value| keys.push(number(value) as u64));
                self.count_each(buckets, keys, doc, budget)?;
            }
            (
                AggregationKind::DateHistogram {
                    interval,
                    offset_seconds,
                    ..
                },
                Part::Keyed { buckets, .. },
            ) => {
                self.source.moments(doc, |ms| {
                    keys.push(self.start(ms, *interval, *offset_seconds) as u64)
                });
                self.count_each(buckets, keys, doc, budget)?;
            }
            (AggregationKind::Range { ranges, .. }, Part::Ranges(buckets)) => {
                let mut values = Vec::new();
                self.source.numbers(doc, |value| values.push(value));
                for (range, bucket) in ranges.iter().zip(buckets) {
                    let holds = |value: &f64| {
                        range.from.is_none_or(|from| *value >= from) && range.to.is_none_or(|to| *value < to)
                    };
                    if values.iter().any(holds) {
                        self.count(bucket, doc, budget)?;
                    }
                }
            }
            (
                AggregationKind::Metric {
                    metric: Metric::ValueCount,
                    ..
                },
                Part::Numbers(numbers),
            ) => {
                self.source.raw(doc, |raw| keys.push(raw));
                // An exact text counts once in a document, a number as often as it is there.
                if let Source::Text { .. } = self.source {
                    keys.sort_unstable();
                    keys.dedup();
                }
                let stands_in = keys.is_empty() && self.missing.is_some();
                numbers.count += keys.len() as u64 + u64::from(stands_in);
            }
            (AggregationKind::Metric { .. }, Part::Numbers(numbers)) => {
                let before = numbers.count;
                self.source.numbers(doc, |value| numbers.add(value));
                match &self.missing {
                    Some(Key::Integer(value)) if numbers.count == before => numbers.add(*value as f64),
                    Some(Key::Number(value)) if numbers.count == before => numbers.add(value.get()),
                    Some(Key::Text(text)) if numbers.count == before => {
                        text.parse().into_iter().for_each(|value| numbers.add(value));
                    }
                    Some(_) | None => {}
                }
            }
            (_, Part::Keyed { .. } | Part::Ranges(_) | Part::Numbers(_)) => {
                unreachable!("the part was made for this aggregation")
            }
        }
        Ok(())
    }

    fn start(&self, ms: i64, interval: DateInterval, offset_seconds: i32) -> i64 {
        date::floor(ms, interval, offset_seconds)
    }

    /// Counts a document once under each of these keys.
    fn count_each(
        &self,
        buckets: &mut Keyed,
        keys: &mut Vec<u64>,
        doc: DocId,
        budget: &mut Budget,
    ) -> Result<(), TooMany> {
        if let [key] = keys[..] {
            return self.count(bucket(buckets, key, budget)?, doc, budget);
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys.drain(..) {
            self.count(bucket(buckets, key, budget)?, doc, budget)?;
        }
        Ok(())
    }

    fn count(&self, bucket: &mut Inner, doc: DocId, budget: &mut Budget) -> Result<(), TooMany> {
        bucket.count += 1;
        if self.inner.is_empty() {
            return Ok(());
        }
        if bucket.parts.is_empty() {
            bucket.parts = fresh(&self.inner, budget)?;
        }
        let keys = &mut Vec::new();
        self.inner
            .iter()
            .zip(&mut bucket.parts)
            .try_for_each(|(node, part)| node.collect(part, doc, keys, budget))
    }

    fn absent(&self, segment: &SegmentReader, absent: &mut Absent) -> Result<()> {
        if let AggregationKind::Terms { min_doc_count: 0, .. } = self.plan.aggregation.kind {
            let mut keys = std::collections::BTreeSet::new();
            segment.doc_ids_alive().for_each(|doc| {
                self.source.raw(doc, |raw| {
                    keys.insert(raw);
                });
            });
            let known = absent.entry(self.plan.place).or_default();
            known.extend(self.source.keys(&keys.into_iter().collect::<Vec<_>>())?);
            Budget::whole().take(known.len())?;
        }
        self.inner
            .iter()
            .try_for_each(|node| node.absent(segment, absent))
    }
}

impl Source {
    /// The values as keys of 64 bits.
    fn raw(&self, doc: DocId, mut each: impl FnMut(u64)) {
        match self {
            Source::Nothing => {}
            Source::Text { column, within, .. } => {
                column
                    .ords()
                    .values_for_doc(doc)
                    .filter(|ordinal| within.contains(ordinal))
                    .for_each(each);
            }
            Source::Integer { column, .. } => {
                column
                    .values_for_doc(doc)
                    .for_each(|value| each(i64_to_u64(value)));
            }
            Source::Double(column) => column
                .values_for_doc(doc)
                .for_each(|value| each(f64_to_u64(value))),
            Source::Boolean(column) => column.values_for_doc(doc).for_each(|value| each(value.into())),
        }
    }

    /// What [`Source::raw`] meant by these, which are sorted: the words of a dictionary are read in one walk, each block of
    /// it once.
    fn keys(&self, raw: &[u64]) -> Result<Vec<Key>> {
        let number =
            |scale: u8, raw: &u64| Key::Number(Ordered::new(decimal::value(u64_to_i64(*raw), scale)));
        Ok(match self {
            Source::Nothing => raw.iter().map(|_| Key::Integer(0)).collect(),
            Source::Text { column, prefix, .. } => return words(column, *prefix, raw),
            Source::Integer { column: _, scale: 0 } => {
                raw.iter().map(|raw| Key::Integer(u64_to_i64(*raw))).collect()
            }
            Source::Integer { column: _, scale } => raw.iter().map(|raw| number(*scale, raw)).collect(),
            Source::Double(_) => raw
                .iter()
                .map(|raw| Key::Number(Ordered::new(u64_to_f64(*raw))))
                .collect(),
            Source::Boolean(_) => raw.iter().map(|raw| Key::Integer(*raw as i64)).collect(),
        })
    }

    fn numbers(&self, doc: DocId, mut each: impl FnMut(f64)) {
        match self {
            Source::Nothing | Source::Text { .. } => {}
            Source::Integer { column, scale } => {
                column
                    .values_for_doc(doc)
                    .for_each(|value| each(decimal::value(value, *scale)));
            }
            Source::Double(column) => column.values_for_doc(doc).for_each(each),
            Source::Boolean(column) => {
                column
                    .values_for_doc(doc)
                    .for_each(|value| each(f64::from(u8::from(value))));
            }
        }
    }

    fn moments(&self, doc: DocId, each: impl FnMut(i64)) {
        match self {
            Source::Integer { column, .. } => column.values_for_doc(doc).for_each(each),
            Source::Nothing | Source::Text { .. } | Source::Double(_) | Source::Boolean(_) => {}
        }
    }
}

/// The words of a column at these ordinals, which are sorted, each without its first so many bytes.
fn words(column: &StrColumn, prefix: usize, ordinals: &[u64]) -> Result<Vec<Key>> {
    let mut words = Vec::with_capacity(ordinals.len());
    let each = |word: &[u8]| {
        let word = std::str::from_utf8(word).unwrap_or_default();
        words.push(Key::Text(word.get(prefix..).unwrap_or_default().into()));
    };
    let all = column.dictionary().sorted_ords_to_term_cb(ordinals, each);
    match all.map_err(|error| from_io(error, "reading a column"))? {
        true => Ok(words),
        false => Err(Error::fatal(
            "broken_column",
            "a column of an index names words that its dictionary lacks",
        )
        .with_remedy("verify with --repair; or let the index be emptied and filled again")),
    }
}

fn lift(nodes: &[Node<'_>], parts: Vec<Part>) -> Result<Vec<Gathered>> {
    nodes
        .iter()
        .zip(parts)
        .map(|(node, part)| node.lift(part))
        .collect()
}

impl Node<'_> {
    fn bucket(&self, inner: Inner) -> Result<Bucket> {
        Ok(Bucket {
            count: inner.count,
            inner: lift(&self.inner, inner.parts)?,
        })
    }

    fn lift(&self, part: Part) -> Result<Gathered> {
        let terms = matches!(self.plan.aggregation.kind, AggregationKind::Terms { .. });
        Ok(match part {
            Part::Keyed { buckets, missing } if terms => {
                let mut lifted: HashMap<Key, Bucket> = HashMap::with_capacity(buckets.len() + 1);
                let mut buckets: Vec<(u64, Inner)> = buckets.into_iter().collect();
                buckets.sort_unstable_by_key(|(raw, _)| *raw);
                let raw: Vec<u64> = buckets.iter().map(|(raw, _)| *raw).collect();
                for (key, (_, inner)) in self.source.keys(&raw)?.into_iter().zip(buckets) {
                    lifted.entry(key).or_default().merge(self.bucket(inner)?);
                }
                if let (Some(key), Some(inner)) = (&self.missing, missing) {
                    lifted.entry(key.clone()).or_default().merge(self.bucket(inner)?);
                }
                Gathered::Terms(lifted)
            }
            Part::Keyed { buckets, .. } => {
                let lifted = buckets
                    .into_iter()
                    .map(|(raw, inner)| Ok((raw as i64, self.bucket(inner)?)));
                Gathered::Intervals(lifted.collect::<Result<BTreeMap<_, _>>>()?)
            }
            Part::Ranges(buckets) => {
                let lifted = buckets.into_iter().map(|inner| self.bucket(inner));
                Gathered::Ranges(lifted.collect::<Result<_>>()?)
            }
            Part::Numbers(numbers) => Gathered::Numbers(numbers),
        })
    }
}
