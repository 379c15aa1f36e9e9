//! Aggregations in Elasticsearch's shapes. The request tells what the numbers are: a histogram's keys are doubles, a
//! date's are milliseconds, a count is an integer.

use instep_core::query::{Aggregation, AggregationKind, Metric, RangeBucket, Scalar};
use instep_core::request::{AggregationResult, Bucket, Buckets};

use crate::number;
use crate::write::{self, Members};

/// All results by name, with those inside their buckets.
pub(crate) fn all(
    o: &mut Members<'_>,
    asked: &[(String, Aggregation)],
    results: &[(String, AggregationResult)],
    typed_keys: bool,
) {
    for (name, result) in results {
        let asked = asked.iter().find(|(known, _)| known == name);
        let asked = asked.map(|(_, aggregation)| aggregation);
        let key = match asked {
            Some(asked) if typed_keys => format!("{}#{name}", prefix(&asked.kind, result)),
            Some(_) | None => name.clone(),
        };
        o.object(&key, |o| one(o, asked, result, typed_keys));
    }
}

fn prefix(kind: &AggregationKind, result: &AggregationResult) -> &'static str {
    match kind {
        AggregationKind::Terms { .. } => terms_prefix(result),
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

fn terms_prefix(result: &AggregationResult) -> &'static str {
    let first = match result {
        AggregationResult::Buckets(buckets) => buckets.buckets.first(),
        AggregationResult::Value { .. } | AggregationResult::Stats { .. } => None,
    };
    match first.map(|bucket| &bucket.key) {
        Some(Scalar::Text(_)) => "sterms",
        Some(Scalar::Int(_) | Scalar::Bool(_)) => "lterms",
        Some(Scalar::Double(_)) => "dterms",
        None => "umterms",
    }
}

fn one(o: &mut Members<'_>, asked: Option<&Aggregation>, result: &AggregationResult, typed_keys: bool) {
    match result {
        AggregationResult::Buckets(buckets) => buckets_of(o, asked, buckets, typed_keys),
        AggregationResult::Value { value, as_string } => {
            if asked.is_some_and(|asked| is_count(&asked.kind)) {
                o.number("value", value.unwrap_or(0.0) as u64);
            } else {
                o.double("value", *value);
            }
            if let Some(text) = as_string {
                o.text("value_as_string", text);
            }
        }
        AggregationResult::Stats {
            count,
            min,
            max,
            avg,
            sum,
        } => {
            o.number("count", count);
            o.double("min", *min);
            o.double("max", *max);
            o.double("avg", *avg);
            o.double("sum", Some(*sum));
        }
    }
}

fn is_count(kind: &AggregationKind) -> bool {
    matches!(
        kind,
        AggregationKind::Metric {
            metric: Metric::ValueCount,
            ..
        }
    )
}

fn buckets_of(o: &mut Members<'_>, asked: Option<&Aggregation>, buckets: &Buckets, typed_keys: bool) {
    if let Some(rest) = buckets.terms {
        o.number("doc_count_error_upper_bound", rest.doc_count_error_upper_bound);
        o.number("sum_other_doc_count", rest.sum_other_doc_count);
    }
    let shape = Shape {
        kind: asked.map(|asked| &asked.kind),
        inner: asked.map_or(&[], |asked| &asked.aggregations),
        typed_keys,
    };
    if !buckets.keyed {
        o.array("buckets", &buckets.buckets, |out, bucket| {
            write::object(out, |o| shape.bucket(o, bucket, false));
        });
        return;
    }
    o.object("buckets", |o| {
        for bucket in &buckets.buckets {
            o.object(&shape.key_text(bucket), |o| shape.bucket(o, bucket, true));
        }
    });
}

/// How the buckets of one aggregation look.
struct Shape<'a> {
    kind: Option<&'a AggregationKind>,
    inner: &'a [(String, Aggregation)],
    typed_keys: bool,
}

impl Shape<'_> {
    fn bucket(&self, o: &mut Members<'_>, bucket: &Bucket, keyed: bool) {
        match self.kind {
            Some(AggregationKind::Range { ranges, .. }) => {
                if !keyed {
                    o.text("key", &range_key(bucket, ranges));
                }
                if bucket.from.is_some() {
                    o.double("from", bucket.from);
                }
                if bucket.to.is_some() {
                    o.double("to", bucket.to);
                }
            }
            Some(AggregationKind::DateHistogram { .. }) => {
                if let Some(text) = &bucket.key_as_string {
                    o.text("key_as_string", text);
                }
                match &bucket.key {
                    Scalar::Double(ms) => o.number("key", *ms as i64),
                    Scalar::Bool(_) | Scalar::Int(_) | Scalar::Text(_) => {
                        write::scalar(o.key("key"), &bucket.key)
                    }
                }
            }
            Some(AggregationKind::Histogram { .. }) => {
                if let Some(text) = &bucket.key_as_string {
                    o.text("key_as_string", text);
                }
                match &bucket.key {
                    Scalar::Int(key) => o.double("key", Some(*key as f64)),
                    Scalar::Bool(_) | Scalar::Double(_) | Scalar::Text(_) => {
                        write::scalar(o.key("key"), &bucket.key);
                    }
                }
            }
            Some(AggregationKind::Terms { .. } | AggregationKind::Metric { .. }) | None => {
                terms_key(o, bucket)
            }
        }
        o.number("doc_count", bucket.doc_count);
        all(o, self.inner, &bucket.aggregations, self.typed_keys);
    }

    /// The key of a bucket where buckets are an object.
    fn key_text(&self, bucket: &Bucket) -> String {
        if let Some(AggregationKind::Range { ranges, .. }) = self.kind {
            return range_key(bucket, ranges);
        }
        if let Some(text) = &bucket.key_as_string {
            return text.clone();
        }
        match (&bucket.key, self.kind) {
            (Scalar::Int(key), Some(AggregationKind::Histogram { .. })) => number::plain_double(*key as f64),
            (Scalar::Int(key), _) => key.to_string(),
            (Scalar::Double(key), _) => number::plain_double(*key),
            (Scalar::Bool(key), _) => key.to_string(),
            (Scalar::Text(key), _) => key.clone(),
        }
    }
}

/// Booleans have the keys 0 and 1.
fn terms_key(o: &mut Members<'_>, bucket: &Bucket) {
    if let Scalar::Bool(key) = bucket.key {
        o.number("key", u8::from(key));
        o.text("key_as_string", if key { "true" } else { "false" });
        return;
    }
    write::scalar(o.key("key"), &bucket.key);
    if let Some(text) = &bucket.key_as_string {
        o.text("key_as_string", text);
    }
}

/// The key the caller gave a range, or one made from its bounds: `*-10.0`, `10.0-20.0`, `20.0-*`.
fn range_key(bucket: &Bucket, ranges: &[RangeBucket]) -> String {
    if let Scalar::Text(key) = &bucket.key
        && ranges.iter().any(|range| range.key.as_ref() == Some(key))
    {
        return key.clone();
    }
    let bound = |bound: Option<f64>| bound.map_or_else(|| "*".to_owned(), number::plain_double);
    format!("{}-{}", bound(bucket.from), bound(bucket.to))
}
