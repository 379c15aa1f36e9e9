//! The order of hits: keys of 64 bits inside a segment, values across segments and indexes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use instep_core::query::{Scalar, Sort, SortBy};
use instep_core::{Error, Result, decimal, reading};
use tantivy::columnar::{Column, StrColumn, TermOrdHit};
use tantivy::{DocId, SegmentReader, f64_to_u64, i64_to_u64, u64_to_f64, u64_to_i64};

use crate::aggregate;
use crate::fault::{from_io, from_tantivy};
use crate::fields::{Fields, ID, Kind, Named, PATH_END, SEQUENCE};

/// A sort key, resolved for one index.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    by: By,
    descending: bool,
    missing_first: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum By {
    Score,
    /// By id, then by the index's place among several: an order that shows no gap where a document is hidden.
    Doc {
        place: Option<usize>,
    },
    Text {
        column: Option<String>,
        prefix: String,
    },
    Number {
        column: Option<String>,
        number: Number,
    },
}

/// What a number of 64 bits means.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Long,
    /// An integer of 32 bits, which a missing value's stand-in shows.
    Integer,
    Double,
    Decimal(u8),
    Boolean,
}

/// The value of a sort key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SortValue {
    Integer(i64),
    Double(f64),
    Decimal(i64, u8),
    Text(String),
    /// An id, and its index's place among several.
    Doc(String, Option<usize>),
    Missing,
}

/// The sort keys of a request, for one index; `place` is its own among several.
pub(crate) fn keys(fields: &Fields, sorts: &[Sort], place: Option<usize>) -> Result<Vec<Key>> {
    if sorts.is_empty() {
        return Ok(vec![Key {
            by: By::Score,
            descending: true,
            missing_first: false,
        }]);
    }
    sorts
        .iter()
        .map(|sort| {
            let by = match &sort.by {
                SortBy::Score => By::Score,
                SortBy::Doc => By::Doc { place },
                SortBy::Id => By::Text {
                    column: Some(ID.to_owned()),
                    prefix: String::new(),
                },
                SortBy::Field { field, unmapped_type } => by_field(fields, field, unmapped_type.as_deref())?,
            };
            Ok(Key {
                by,
                descending: sort.descending,
                missing_first: sort.missing_first,
            })
        })
        .collect()
}

fn by_field(fields: &Fields, field: &str, unmapped_type: Option<&str>) -> Result<By> {
    let number = |column: &str, number| By::Number {
        column: Some(column.to_owned()),
        number,
    };
    Ok(match fields.resolve(field) {
        Some(Named::Text { .. }) => {
            return Err(Error::invalid(
                "illegal_argument_exception",
                format!("text field [{field}] has no exact values to sort or aggregate by"),
            )
            .with_remedy(format!("use [{field}.keyword], or a keyword field")));
        }
        Some(Named::Inside { slot, path }) => By::Text {
            column: Some(slot.column.clone()),
            prefix: format!("{path}{PATH_END}"),
        },
        Some(Named::Exact { leaf, slot }) => match leaf.kind {
            Kind::Keyword | Kind::Text(_) | Kind::Flattened => By::Text {
                column: Some(slot.column.clone()),
                prefix: String::new(),
            },
            Kind::Long | Kind::Date => number(&slot.column, Number::Long),
            Kind::Integer => number(&slot.column, Number::Integer),
            Kind::Double => number(&slot.column, Number::Double),
            Kind::Decimal(scale) => number(&slot.column, Number::Decimal(scale)),
            Kind::Boolean => number(&slot.column, Number::Boolean),
        },
        Some(Named::Object) | None => {
            let number = |number| By::Number { column: None, number };
            match unmapped_type {
                Some("keyword") => By::Text {
                    column: None,
                    prefix: String::new(),
                },
                Some("long" | "date") => number(Number::Long),
                Some("integer" | "short" | "byte") => number(Number::Integer),
                Some("boolean") => number(Number::Boolean),
                Some("double" | "float" | "half_float" | "scaled_float" | "decimal") => {
                    number(Number::Double)
                }
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
            }
        }
    })
}

/// Refuses keys that mean text in one index and numbers in another.
pub(crate) fn check_agreement(all: &[Vec<Key>]) -> Result<()> {
    let Some((first, rest)) = all.split_first() else {
        return Ok(());
    };
    let text = |key: &Key| matches!(key.by, By::Text { .. });
    let same = |keys: &Vec<Key>| keys.iter().zip(first).all(|(a, b)| text(a) == text(b));
    if rest.iter().all(same) {
        return Ok(());
    }
    Err(Error::invalid(
        "illegal_argument_exception",
        "a sort field is text in one of the collections that are searched and a number in another",
    ))
}

impl Key {
    /// Whether the key needs scores.
    pub(crate) fn is_score(&self) -> bool {
        self.by == By::Score
    }

    /// Which of two values comes first.
    fn compare(&self, a: &SortValue, b: &SortValue) -> Ordering {
        use SortValue::{Decimal, Doc, Double, Integer, Missing, Text};
        let missing = if self.missing_first {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        let ordering = match (a, b) {
            (Missing, Missing) => return Ordering::Equal,
            (Missing, _) => return missing,
            (_, Missing) => return missing.reverse(),
            (Integer(a), Integer(b)) => a.cmp(b),
            (Decimal(a, x), Decimal(b, y)) if x == y => a.cmp(b),
            (Text(a), Text(b)) => a.cmp(b),
            (Doc(a, x), Doc(b, y)) => (a, x).cmp(&(b, y)),
            (Text(_) | Doc(..), _) => Ordering::Greater,
            (_, Text(_) | Doc(..)) => Ordering::Less,
            (Integer(_) | Double(_) | Decimal(..), Integer(_) | Double(_) | Decimal(..)) => {
                a.double().total_cmp(&b.double())
            }
        };
        if self.descending {
            ordering.reverse()
        } else {
            ordering
        }
    }

    /// What stands for a missing number.
    fn missing_number(&self, number: Number) -> u64 {
        let largest = self.descending == self.missing_first;
        let pick = |low: i64, high: i64| i64_to_u64(if largest { high } else { low });
        match number {
            Number::Long | Number::Decimal(_) => pick(i64::MIN, i64::MAX),
            Number::Integer | Number::Boolean => pick(i32::MIN.into(), i32::MAX.into()),
            Number::Double if largest => f64_to_u64(f64::INFINITY),
            Number::Double => f64_to_u64(f64::NEG_INFINITY),
        }
    }

    fn missing_text(&self) -> u64 {
        if self.missing_first { 0 } else { u64::MAX }
    }

    fn turned(&self, raw: u64) -> u64 {
        if self.descending { !raw } else { raw }
    }
}

impl SortValue {
    fn double(&self) -> f64 {
        match self {
            SortValue::Integer(value) => *value as f64,
            SortValue::Double(value) => *value,
            SortValue::Decimal(i64::MAX, _) => f64::INFINITY,
            SortValue::Decimal(i64::MIN, _) => f64::NEG_INFINITY,
            SortValue::Decimal(value, scale) => decimal::value(*value, *scale),
            SortValue::Text(_) | SortValue::Doc(..) | SortValue::Missing => f64::NAN,
        }
    }

    /// The value in an answer: what `search_after` takes.
    pub(crate) fn scalar(self) -> Option<Scalar> {
        match self {
            SortValue::Integer(value) => Some(Scalar::Int(value)),
            SortValue::Double(_) | SortValue::Decimal(..) => Some(match self.double() {
                f64::INFINITY => Scalar::Text("Infinity".to_owned()),
                f64::NEG_INFINITY => Scalar::Text("-Infinity".to_owned()),
                value => Scalar::Double(value),
            }),
            SortValue::Text(text) | SortValue::Doc(text, None) => Some(Scalar::Text(text)),
            SortValue::Doc(id, Some(place)) => Some(Scalar::Text(format!("{place}:{id}"))),
            SortValue::Missing => None,
        }
    }
}

/// A hit before its document is read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) values: Vec<SortValue>,
    pub(crate) score: f32,
    /// Its index's place among those searched.
    pub(crate) index: usize,
    pub(crate) segment: u32,
    pub(crate) doc: DocId,
    sequence: u64,
}

/// Which of two hits comes first; ties by index, then by order of insertion.
pub(crate) fn compare(keys: &[Key], a: &Found, b: &Found) -> Ordering {
    for (at, key) in keys.iter().enumerate() {
        let ordering = key.compare(&a.values[at], &b.values[at]);
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    (a.index, a.sequence).cmp(&(b.index, b.sequence))
}

/// The first hits of one segment.
pub(crate) struct Top<'a> {
    keys: &'a [Key],
    columns: Vec<Opened>,
    sequence: Option<Column<u64>>,
    after: Option<Vec<u64>>,
    most: usize,
    heap: BinaryHeap<Candidate>,
    /// The keys of the document at hand, and the number of its write.
    current: Vec<u64>,
    index: usize,
}

/// A sort key's values in a segment.
enum Opened {
    Score,
    Doc {
        ids: Option<StrColumn>,
        place: Option<usize>,
    },
    Text {
        column: Option<StrColumn>,
        within: Range<u64>,
        prefix: usize,
    },
    Integer(Option<Column<i64>>),
    Double(Option<Column<f64>>),
    Boolean(Option<Column<bool>>),
}

/// Ordered by its keys: the largest of a heap is the last hit.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    keys: Box<[u64]>,
    doc: DocId,
    score: u32,
}

impl<'a> Top<'a> {
    pub(crate) fn new(
        keys: &'a [Key],
        after: Option<&[Option<Scalar>]>,
        most: usize,
        index: usize,
        segment: &SegmentReader,
    ) -> Result<Self> {
        let what = "reading a column";
        let columns = keys
            .iter()
            .map(|key| key.open(segment))
            .collect::<Result<Vec<_>>>()?;
        let sequence = segment
            .fast_fields()
            .column_opt::<u64>(SEQUENCE)
            .map_err(|error| from_tantivy(error, what))?;
        let after = match after {
            None => None,
            Some(values) if values.len() == keys.len() => {
                let each = keys.iter().zip(&columns).zip(values);
                let raw = each.map(|((key, opened), value)| opened.after(key, value.as_ref()));
                Some(raw.collect::<Result<Vec<u64>>>()?)
            }
            Some(values) => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    format!(
                        "[search_after] has {} values and the sort {} keys",
                        values.len(),
                        keys.len()
                    ),
                ));
            }
        };
        let heap = BinaryHeap::new();
        Ok(Top {
            keys,
            columns,
            sequence,
            after,
            most,
            heap,
            current: Vec::new(),
            index,
        })
    }

    /// Considers a document.
    pub(crate) fn push(&mut self, doc: DocId, score: f32) {
        let sequence = self
            .sequence
            .as_ref()
            .and_then(|column| column.first(doc))
            .unwrap_or_default();
        self.current.clear();
        for (key, opened) in self.keys.iter().zip(&self.columns) {
            self.current.push(opened.raw(key, doc, score));
        }
        if self.after.as_ref().is_some_and(|after| self.current <= *after) {
            return;
        }
        self.current.push(sequence);
        if self.heap.len() == self.most {
            match self.heap.peek() {
                Some(last) if *self.current < *last.keys => {
                    self.heap.pop();
                }
                Some(_) | None => return,
            }
        }
        self.heap.push(Candidate {
            keys: self.current.as_slice().into(),
            doc,
            score: score.to_bits(),
        });
    }

    /// The hits, in no order.
    pub(crate) fn finish(self, segment: u32) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(self.heap.len());
        for candidate in self.heap {
            let each = self.keys.iter().zip(&self.columns).zip(&candidate.keys);
            let values = each
                .map(|((key, opened), raw)| opened.value(key, *raw))
                .collect::<Result<_>>()?;
            found.push(Found {
                values,
                score: f32::from_bits(candidate.score),
                index: self.index,
                segment,
                doc: candidate.doc,
                sequence: candidate.keys.last().copied().unwrap_or_default(),
            });
        }
        Ok(found)
    }
}

impl Key {
    fn open(&self, segment: &SegmentReader) -> Result<Opened> {
        let columns = segment.fast_fields();
        let failed = |error| from_tantivy(error, "reading a column");
        Ok(match &self.by {
            By::Score => Opened::Score,
            By::Doc { place } => Opened::Doc {
                ids: columns.str(ID).map_err(failed)?,
                place: *place,
            },
            By::Text { column, prefix } => {
                let column = match column {
                    Some(name) => columns.str(name).map_err(failed)?,
                    None => None,
                };
                let within = match &column {
                    Some(column) => aggregate::ordinals(column, prefix)
                        .map_err(|error| from_io(error, "reading a column"))?,
                    None => 0..0,
                };
                Opened::Text {
                    column,
                    within,
                    prefix: prefix.len(),
                }
            }
            By::Number { column: None, number } => match number {
                Number::Long | Number::Integer | Number::Decimal(_) => Opened::Integer(None),
                Number::Double => Opened::Double(None),
                Number::Boolean => Opened::Boolean(None),
            },
            By::Number {
                column: Some(name),
                number,
            } => match number {
                Number::Long | Number::Integer | Number::Decimal(_) => {
                    Opened::Integer(columns.column_opt(name).map_err(failed)?)
                }
                Number::Double => Opened::Double(columns.column_opt(name).map_err(failed)?),
                Number::Boolean => Opened::Boolean(columns.column_opt(name).map_err(failed)?),
            },
        })
    }

    fn number(&self) -> Number {
        match self.by {
            By::Number { number, .. } => number,
            By::Score | By::Doc { .. } | By::Text { .. } => Number::Double,
        }
    }
}

impl Opened {
    /// The key of a document: smaller ones come first.
    fn raw(&self, key: &Key, doc: DocId, score: f32) -> u64 {
        let number = |raw: Option<u64>| key.turned(raw.unwrap_or_else(|| key.missing_number(key.number())));
        match self {
            Opened::Score => key.turned(f64_to_u64(f64::from(score))),
            Opened::Doc { ids, .. } => {
                let ordinal = ids.as_ref().and_then(|column| column.ords().first(doc));
                ordinal.map_or_else(|| key.missing_text(), |ordinal| key.turned(ordinal * 2 + 2))
            }
            Opened::Integer(column) => number(
                column
                    .as_ref()
                    .and_then(|column| pick(key, column.values_for_doc(doc).map(i64_to_u64))),
            ),
            Opened::Double(column) => number(
                column
                    .as_ref()
                    .and_then(|column| pick(key, column.values_for_doc(doc).map(f64_to_u64))),
            ),
            Opened::Boolean(column) => {
                let truth = |value| i64_to_u64(i64::from(value));
                number(
                    column
                        .as_ref()
                        .and_then(|column| pick(key, column.values_for_doc(doc).map(truth))),
                )
            }
            Opened::Text { column, within, .. } => {
                let ordinals = column.as_ref().and_then(|column| {
                    let ordinals = column.ords().values_for_doc(doc);
                    pick(key, ordinals.filter(|ordinal| within.contains(ordinal)))
                });
                ordinals.map_or_else(|| key.missing_text(), |ordinal| key.turned(ordinal * 2 + 2))
            }
        }
    }

    /// The value behind a key.
    fn value(&self, key: &Key, raw: u64) -> Result<SortValue> {
        let turned = key.turned(raw);
        Ok(match self {
            Opened::Score | Opened::Double(_) => SortValue::Double(u64_to_f64(turned)),
            Opened::Boolean(_) => SortValue::Integer(u64_to_i64(turned)),
            Opened::Integer(_) => match key.number() {
                Number::Decimal(scale) => SortValue::Decimal(u64_to_i64(turned), scale),
                Number::Long | Number::Integer | Number::Boolean | Number::Double => {
                    SortValue::Integer(u64_to_i64(turned))
                }
            },
            Opened::Text { .. } | Opened::Doc { .. } if raw == key.missing_text() => SortValue::Missing,
            Opened::Doc { ids, place } => SortValue::Doc(term(ids.as_ref(), turned / 2 - 1)?, *place),
            Opened::Text { column, prefix, .. } => {
                let text = term(column.as_ref(), turned / 2 - 1)?;
                SortValue::Text(text.get(*prefix..).unwrap_or_default().to_owned())
            }
        })
    }

    /// The key after which hits are wanted.
    fn after(&self, key: &Key, value: Option<&Scalar>) -> Result<u64> {
        let bad = || {
            Error::invalid(
                "illegal_argument_exception",
                "a value of [search_after] does not fit its sort key",
            )
        };
        let integer = |value: &Scalar| {
            let scaled = reading::scaled(value, 0).ok_or_else(bad)?;
            i64::try_from(scaled.floor).map_err(|_| bad())
        };
        let infinite = |value: &Scalar| match value {
            Scalar::Text(text) if text == "Infinity" => Some(f64::INFINITY),
            Scalar::Text(text) if text == "-Infinity" => Some(f64::NEG_INFINITY),
            Scalar::Text(_) | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Double(_) => None,
        };
        Ok(match (self, value) {
            (Opened::Text { .. }, None) => key.missing_text(),
            (Opened::Doc { .. }, None) => return Err(bad()),
            (_, None) => key.turned(key.missing_number(key.number())),
            (Opened::Score, Some(value)) => {
                let score = reading::double(value).ok_or_else(bad)? as f32;
                key.turned(f64_to_u64(f64::from(score)))
            }
            (Opened::Doc { ids, place }, Some(value)) => {
                let text = reading::text(value);
                let (id, of) = match place {
                    None => (&text[..], None),
                    Some(_) => {
                        let (of, id) = text.split_once(':').ok_or_else(bad)?;
                        (id, Some(of.parse::<usize>().map_err(|_| bad())?))
                    }
                };
                let Some(column) = ids else {
                    return Ok(key.turned(1));
                };
                let hit = column.dictionary().term_ord_or_next(id.as_bytes());
                let raw = match hit.map_err(|error| from_io(error, "reading a column"))? {
                    // The same id in another index: before that document, or after it.
                    TermOrdHit::Exact(ordinal) => match place.cmp(&of) {
                        Ordering::Less => ordinal * 2 + 3,
                        Ordering::Equal => ordinal * 2 + 2,
                        Ordering::Greater => ordinal * 2 + 1,
                    },
                    TermOrdHit::Next(ordinal) => ordinal.min(column.dictionary().num_terms() as u64) * 2 + 1,
                };
                key.turned(raw)
            }
            (Opened::Double(_), Some(value)) => {
                let number = infinite(value)
                    .or_else(|| reading::double(value))
                    .ok_or_else(bad)?;
                key.turned(f64_to_u64(number))
            }
            (Opened::Boolean(_), Some(value)) => {
                let number = match reading::boolean(value) {
                    Some(truth) => i64::from(truth),
                    None => integer(value)?,
                };
                key.turned(i64_to_u64(number))
            }
            (Opened::Integer(_), Some(value)) => {
                let number = match (key.number(), infinite(value)) {
                    (Number::Decimal(_), Some(f64::INFINITY)) => i64::MAX,
                    (Number::Decimal(_), Some(_)) => i64::MIN,
                    (Number::Decimal(scale), None) => {
                        let scaled = reading::scaled(value, scale).ok_or_else(bad)?;
                        i64::try_from(scaled.nearest()).map_err(|_| bad())?
                    }
                    (Number::Long, _) => match (integer(value), value) {
                        (Ok(number), _) => number,
                        (Err(_), Scalar::Text(text)) => {
                            instep_core::date::parse(text, instep_core::date::Round::Down, 0)
                                .map_err(|_| bad())?
                        }
                        (Err(error), Scalar::Bool(_) | Scalar::Int(_) | Scalar::Double(_)) => {
                            return Err(error);
                        }
                    },
                    (Number::Integer | Number::Boolean | Number::Double, _) => integer(value)?,
                };
                key.turned(i64_to_u64(number))
            }
            (
                Opened::Text {
                    column,
                    within,
                    prefix,
                },
                Some(value),
            ) => {
                let text = reading::text(value);
                let Some(column) = column else {
                    return Ok(key.turned(1));
                };
                let failed = |error| from_io(error, "reading a column");
                let mut term = Vec::new();
                if *prefix > 0 && !within.is_empty() {
                    column
                        .dictionary()
                        .ord_to_term(within.start, &mut term)
                        .map_err(failed)?;
                    term.truncate(*prefix);
                }
                term.extend_from_slice(text.as_bytes());
                let terms = column.dictionary().num_terms() as u64;
                key.turned(
                    match column.dictionary().term_ord_or_next(&term).map_err(failed)? {
                        TermOrdHit::Exact(ordinal) => ordinal * 2 + 2,
                        TermOrdHit::Next(ordinal) => ordinal.min(terms) * 2 + 1,
                    },
                )
            }
        })
    }
}

/// The text of an ordinal, none without a column.
fn term(column: Option<&StrColumn>, ordinal: u64) -> Result<String> {
    let mut text = String::new();
    if let Some(column) = column {
        column
            .ord_to_str(ordinal, &mut text)
            .map_err(|error| from_io(error, "reading a column"))?;
    }
    Ok(text)
}

/// The value that counts: the smallest ascending, the largest descending.
fn pick(key: &Key, values: impl Iterator<Item = u64>) -> Option<u64> {
    if key.descending {
        values.max()
    } else {
        values.min()
    }
}
