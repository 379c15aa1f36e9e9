//! What was gathered as the answer: ordered, cut to size, gaps filled.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use instep_core::query::{
    AggregationKind, BucketOrder, BucketOrderBy, DateInterval, Metric, RangeBucket, Scalar,
};
use instep_core::request::{AggregationResult, Bucket as Answer, Buckets, TermsRest};
use instep_core::{Result, date};

use super::budget::Budget;
use super::{Absent, Bucket, Gathered, Key, Numbers, Plan, Shape};

/// The answers of these aggregations; `gathered` is `None` where no segment was searched.
pub(crate) fn finish(
    plans: &[(String, Plan)],
    gathered: Option<Vec<Gathered>>,
    absent: &Absent,
) -> Result<Vec<(String, AggregationResult)>> {
    let budget = &mut Budget::beside(gathered.iter().flatten())?;
    results(plans, gathered.unwrap_or_default(), absent, budget)
}

fn results(
    plans: &[(String, Plan)],
    gathered: Vec<Gathered>,
    absent: &Absent,
    budget: &mut Budget,
) -> Result<Vec<(String, AggregationResult)>> {
    let mut gathered = gathered.into_iter();
    plans
        .iter()
        .map(|(name, plan)| {
            let own = match gathered.next() {
                Some(own) => own,
                None => {
                    let own = Gathered::new(&plan.aggregation.kind);
                    budget.take(own.buckets())?;
                    own
                }
            };
            Ok((name.clone(), plan.result(own, absent, budget)?))
        })
        .collect()
}

impl Plan {
    fn result(&self, gathered: Gathered, absent: &Absent, budget: &mut Budget) -> Result<AggregationResult> {
        match (&self.aggregation.kind, gathered) {
            (
                AggregationKind::Terms {
                    size,
                    order,
                    min_doc_count,
                    ..
                },
                Gathered::Terms(buckets),
            ) => self.terms(buckets, *size, order, *min_doc_count, absent, budget),
            (AggregationKind::Range { ranges, keyed, .. }, Gathered::Ranges(buckets)) => {
                self.ranges(buckets, ranges, *keyed, absent, budget)
            }
            (
                AggregationKind::Histogram {
                    interval,
                    offset,
                    min_doc_count,
                    keyed,
                    ..
                },
                Gathered::Intervals(mut buckets),
            ) => {
                if *min_doc_count == 0 {
                    fill(&mut buckets, budget, |number| number.saturating_add(1))?;
                }
                let key = |number: i64| number as f64 * interval + offset;
                self.intervals(buckets, *min_doc_count, *keyed, absent, budget, |number| {
                    let text = match self.shape {
                        Shape::Date => date::format(key(number) as i64, None, 0).map(Some),
                        Shape::Unmapped | Shape::Text | Shape::Integer | Shape::Number | Shape::Boolean => {
                            Ok(None)
                        }
                    };
                    Ok((Scalar::Double(key(number)), text?))
                })
            }
            (
                AggregationKind::DateHistogram {
                    interval,
                    offset_seconds,
                    min_doc_count,
                    keyed,
                    format,
                    ..
                },
                Gathered::Intervals(mut buckets),
            ) => {
                let interval: DateInterval = *interval;
                if *min_doc_count == 0 {
                    fill(&mut buckets, budget, |start| {
                        date::next(start, interval, *offset_seconds)
                    })?;
                }
                self.intervals(buckets, *min_doc_count, *keyed, absent, budget, |start| {
                    let text = date::format(start, format.as_deref(), *offset_seconds)?;
                    Ok((Scalar::Int(start), Some(text)))
                })
            }
            (AggregationKind::Metric { metric, .. }, Gathered::Numbers(numbers)) => {
                Ok(self.metric(*metric, numbers))
            }
            (_, Gathered::Terms(_) | Gathered::Ranges(_) | Gathered::Intervals(_) | Gathered::Numbers(_)) => {
                unreachable!("what is gathered was made for this aggregation")
            }
        }
    }

    fn terms(
        &self,
        buckets: std::collections::HashMap<Key, Bucket>,
        size: usize,
        order: &[BucketOrder],
        min_doc_count: u64,
        absent: &Absent,
        budget: &mut Budget,
    ) -> Result<AggregationResult> {
        let mut buckets = buckets;
        if min_doc_count == 0 {
            for key in absent.get(&self.place).into_iter().flatten() {
                if !buckets.contains_key(key) {
                    budget.take(1)?;
                    buckets.insert(key.clone(), Bucket::default());
                }
            }
        }
        let mut buckets: Vec<(Key, Bucket)> = buckets
            .into_iter()
            .filter(|(_, bucket)| bucket.count >= min_doc_count)
            .collect();
        let by_count = [BucketOrder {
            by: BucketOrderBy::Count,
            descending: true,
        }];
        let order = if order.is_empty() { &by_count } else { order };
        buckets.sort_unstable_by(|a, b| self.compare(a, b, order));
        let rest = buckets.split_off(size.min(buckets.len()));
        let count_ascends = order
            .first()
            .is_some_and(|first| first.by == BucketOrderBy::Count && !first.descending);
        let terms = TermsRest {
            sum_other_doc_count: rest.iter().map(|(_, bucket)| bucket.count).sum(),
            doc_count_error_upper_bound: if count_ascends { -1 } else { 0 },
        };
        let mut answers = Vec::with_capacity(buckets.len());
        for (key, bucket) in buckets {
            let text = match (&key, self.shape) {
                (Key::Integer(value), Shape::Boolean) => Some((*value != 0).to_string()),
                (Key::Integer(ms), Shape::Date) => Some(date::format(*ms, None, 0)?),
                (Key::Integer(_) | Key::Number(_) | Key::Text(_), _) => None,
            };
            let key = match key {
                Key::Integer(value) => Scalar::Int(value),
                Key::Number(value) => Scalar::Double(value.get()),
                Key::Text(text) => Scalar::Text(text.into()),
            };
            answers.push(self.answer(key, text, bucket, absent, budget)?);
        }
        Ok(AggregationResult::Buckets(Buckets {
            buckets: answers,
            keyed: false,
            terms: Some(terms),
        }))
    }

    fn compare(&self, a: &(Key, Bucket), b: &(Key, Bucket), order: &[BucketOrder]) -> Ordering {
        for BucketOrder { by, descending } in order {
            let turned = |ordering: Ordering| if *descending { ordering.reverse() } else { ordering };
            let ordering = match by {
                BucketOrderBy::Count => turned(a.1.count.cmp(&b.1.count)),
                BucketOrderBy::Key => turned(a.0.cmp(&b.0)),
                BucketOrderBy::Metric { name, value } => {
                    let number = |bucket: &Bucket| self.number(bucket, name, value.as_deref());
                    match (number(&a.1), number(&b.1)) {
                        (Some(a), Some(b)) => turned(a.total_cmp(&b)),
                        // What has no number comes last, whatever the direction.
                        (Some(_), None) => Ordering::Less,
                        (None, Some(_)) => Ordering::Greater,
                        (None, None) => Ordering::Equal,
                    }
                }
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        a.0.cmp(&b.0)
    }

    /// A number of a metric inside a bucket.
    fn number(&self, bucket: &Bucket, name: &str, value: Option<&str>) -> Option<f64> {
        let at = self.inner.iter().position(|(inner, _)| inner == name)?;
        let AggregationKind::Metric { metric, .. } = self.inner[at].1.aggregation.kind else {
            return None;
        };
        let numbers = match bucket.inner.get(at) {
            Some(Gathered::Numbers(numbers)) => *numbers,
            Some(Gathered::Terms(_) | Gathered::Intervals(_) | Gathered::Ranges(_)) | None => {
                Numbers::default()
            }
        };
        let metric = match (metric, value) {
            (Metric::Stats, Some("count")) => Metric::ValueCount,
            (Metric::Stats, Some("min")) => Metric::Min,
            (Metric::Stats, Some("max")) => Metric::Max,
            (Metric::Stats, Some("avg")) => Metric::Avg,
            (Metric::Stats, _) => Metric::Sum,
            (metric, _) => metric,
        };
        numbers.value(metric)
    }

    fn ranges(
        &self,
        buckets: Vec<Bucket>,
        ranges: &[RangeBucket],
        keyed: bool,
        absent: &Absent,
        budget: &mut Budget,
    ) -> Result<AggregationResult> {
        let mut pairs: Vec<(&RangeBucket, Bucket)> = ranges.iter().zip(buckets).collect();
        let low = |range: &RangeBucket| range.from.unwrap_or(f64::NEG_INFINITY);
        let high = |range: &RangeBucket| range.to.unwrap_or(f64::INFINITY);
        pairs.sort_by(|(a, _), (b, _)| low(a).total_cmp(&low(b)).then(high(a).total_cmp(&high(b))));
        let mut answers = Vec::with_capacity(pairs.len());
        for (range, bucket) in pairs {
            let end = |end: Option<f64>| match (end, self.shape) {
                (None, _) => Ok("*".to_owned()),
                (Some(end), Shape::Date) => date::format(end as i64, None, 0),
                (
                    Some(end),
                    Shape::Unmapped | Shape::Text | Shape::Integer | Shape::Number | Shape::Boolean,
                ) => Ok(java_double(end)),
            };
            let key = match &range.key {
                Some(key) => key.clone(),
                None => format!("{}-{}", end(range.from)?, end(range.to)?),
            };
            let mut answer = self.answer(Scalar::Text(key), None, bucket, absent, budget)?;
            (answer.from, answer.to) = (range.from, range.to);
            answers.push(answer);
        }
        Ok(AggregationResult::Buckets(Buckets {
            buckets: answers,
            keyed,
            terms: None,
        }))
    }

    fn intervals(
        &self,
        buckets: BTreeMap<i64, Bucket>,
        min_doc_count: u64,
        keyed: bool,
        absent: &Absent,
        budget: &mut Budget,
        key: impl Fn(i64) -> Result<(Scalar, Option<String>)>,
    ) -> Result<AggregationResult> {
        let mut answers = Vec::with_capacity(buckets.len());
        for (number, bucket) in buckets {
            if bucket.count >= min_doc_count {
                let (key, text) = key(number)?;
                answers.push(self.answer(key, text, bucket, absent, budget)?);
            }
        }
        Ok(AggregationResult::Buckets(Buckets {
            buckets: answers,
            keyed,
            terms: None,
        }))
    }

    fn answer(
        &self,
        key: Scalar,
        text: Option<String>,
        bucket: Bucket,
        absent: &Absent,
        budget: &mut Budget,
    ) -> Result<Answer> {
        Ok(Answer {
            key,
            key_as_string: text,
            from: None,
            to: None,
            doc_count: bucket.count,
            aggregations: results(&self.inner, bucket.inner, absent, budget)?,
        })
    }

    fn metric(&self, metric: Metric, numbers: Numbers) -> AggregationResult {
        let value = |metric| numbers.value(metric);
        match metric {
            Metric::Stats => AggregationResult::Stats {
                count: numbers.count,
                min: value(Metric::Min),
                max: value(Metric::Max),
                avg: value(Metric::Avg),
                sum: numbers.total(),
            },
            Metric::ValueCount => AggregationResult::Value {
                value: value(metric),
                as_string: None,
            },
            Metric::Min | Metric::Max | Metric::Avg | Metric::Sum => {
                let value = value(metric);
                let as_string = match self.shape {
                    Shape::Date => value.and_then(|value| date::format(value as i64, None, 0).ok()),
                    Shape::Boolean => value.map(|value| (value != 0.0).to_string()),
                    Shape::Unmapped | Shape::Text | Shape::Integer | Shape::Number => None,
                };
                AggregationResult::Value { value, as_string }
            }
        }
    }
}

impl Numbers {
    fn value(&self, metric: Metric) -> Option<f64> {
        let some = self.count > 0;
        match metric {
            Metric::Min => some.then_some(self.min),
            Metric::Max => some.then_some(self.max),
            Metric::Avg => some.then(|| self.total() / self.count as f64),
            Metric::Sum | Metric::Stats => Some(self.total()),
            Metric::ValueCount => Some(self.count as f64),
        }
    }
}

/// Adds the empty buckets between the first and the last.
fn fill(buckets: &mut BTreeMap<i64, Bucket>, budget: &mut Budget, next: impl Fn(i64) -> i64) -> Result<()> {
    let (Some((&first, _)), Some((&last, _))) = (buckets.first_key_value(), buckets.last_key_value()) else {
        return Ok(());
    };
    let mut at = first;
    while at < last {
        if let Entry::Vacant(vacant) = buckets.entry(at) {
            budget.take(1)?;
            vacant.insert(Bucket::default());
        }
        at = next(at);
    }
    Ok(())
}

/// A double as Java writes it: `10.0`, `7.588182732131356E17`.
fn java_double(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&magnitude) || !value.is_finite() {
        return match value {
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            value => format!("{value:?}"),
        };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_as_java_writes_them() {
        let cases = [
            (10.0, "10.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (12.5, "12.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (7.588182732131356e17, "7.588182732131356E17"),
            (-1.5e-10, "-1.5E-10"),
        ];
        for (value, expected) in cases {
            assert_eq!(java_double(value), expected);
        }
    }
}
