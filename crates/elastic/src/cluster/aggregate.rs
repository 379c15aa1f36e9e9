//! Aggregations into a cluster's JSON, and its results back.
//!
//! Gaps of histograms are filled here, and buckets counted: a cluster that fills them fills its memory first, and a
//! request for more than there may be would end everybody's.

use instep_core::query::{
    Aggregation, AggregationKind, BucketOrder, BucketOrderBy, DateInterval, Metric, RangeBucket, Scalar,
};
use instep_core::request::{AggregationResult, Bucket, Buckets, TermsRest};
use instep_core::{Error, FieldType, Mapping, Resolved, Result, date};
use serde_json::{Map, Value, json};

use super::fields::{NONE, PATH_END, paths_of, values_of};
use super::sort::scalar;
use crate::number::plain_double;

/// Where an aggregation finds its values.
enum Values {
    Field(String),
    /// A path inside a flattened field.
    Inside {
        field: String,
        prefix: String,
    },
}

/// The values below a path, without it.
const INSIDE: &str = "List found = new ArrayList(); for (v in doc[params.field]) { if (v.startsWith(params.prefix)) { \
                      found.add(v.substring(params.prefix.length())); } } return found;";

/// Aggregations of a request over indexes with these mappings.
pub(crate) fn rendered(
    mappings: &[&Mapping],
    aggregations: &[(String, Aggregation)],
) -> Result<Map<String, Value>> {
    aggregations
        .iter()
        .map(|(name, aggregation)| Ok((name.clone(), one(mappings, aggregation)?)))
        .collect()
}

fn one(mappings: &[&Mapping], aggregation: &Aggregation) -> Result<Value> {
    check_order(aggregation)?;
    let (kind, mut body) = match &aggregation.kind {
        AggregationKind::Terms {
            field,
            size,
            order,
            min_doc_count,
            missing,
        } => {
            let mut body = json!({"size": size, "min_doc_count": min_doc_count});
            match (values(mappings, field)?, missing) {
                (Values::Field(field), _) => body["field"] = json!(field),
                (Values::Inside { field, prefix }, None) => {
                    body["field"] = json!(field);
                    body["include"] = json!(format!("{}.*", escaped(&prefix)));
                }
                (Values::Inside { field, prefix }, Some(_)) => {
                    body["script"] = script(&field, &prefix);
                    body["value_type"] = json!("string");
                }
            }
            if !order.is_empty() {
                body["order"] = order.iter().map(ordered).collect();
            }
            with_missing(&mut body, missing.as_ref());
            ("terms", body)
        }
        AggregationKind::Range {
            field,
            ranges,
            keyed: _,
        } => {
            let each = ranges.iter().map(|range| {
                let mut one = Map::new();
                let mut set = |name: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        one.insert(name.to_owned(), value);
                    }
                };
                set("key", range.key.as_ref().map(|key| json!(key)));
                set("from", range.from.map(|from| json!(from)));
                set("to", range.to.map(|to| json!(to)));
                Value::Object(one)
            });
            let ranges: Vec<Value> = each.collect();
            (
                "range",
                json!({"field": plain(mappings, field)?, "ranges": ranges}),
            )
        }
        AggregationKind::Histogram {
            field,
            interval,
            offset,
            min_doc_count,
            keyed: _,
        } => {
            let field = plain(mappings, field)?;
            (
                "histogram",
                json!({"field": field, "interval": interval, "offset": offset, "min_doc_count": min_doc_count.max(&1)}),
            )
        }
        AggregationKind::DateHistogram {
            field,
            interval,
            offset_seconds,
            min_doc_count,
            keyed: _,
            format,
        } => {
            dated(mappings, field)?;
            let mut body = json!({
                "field": plain(mappings, field)?, "min_doc_count": min_doc_count.max(&1), "time_zone": zone(*offset_seconds),
            });
            match interval {
                DateInterval::Fixed(ms) => body["fixed_interval"] = json!(format!("{ms}ms")),
                DateInterval::Minute => body["calendar_interval"] = json!("minute"),
                DateInterval::Hour => body["calendar_interval"] = json!("hour"),
                DateInterval::Day => body["calendar_interval"] = json!("day"),
                DateInterval::Week => body["calendar_interval"] = json!("week"),
                DateInterval::Month => body["calendar_interval"] = json!("month"),
                DateInterval::Quarter => body["calendar_interval"] = json!("quarter"),
                DateInterval::Year => body["calendar_interval"] = json!("year"),
            }
            if let Some(format) = format {
                instep_core::date::check_format(format)?;
                body["format"] = json!(format);
            }
            ("date_histogram", body)
        }
        AggregationKind::Metric {
            metric,
            field,
            missing,
        } => {
            let mut body = match values(mappings, field)? {
                Values::Field(field) => json!({"field": field}),
                Values::Inside { field, prefix } => json!({"script": script(&field, &prefix)}),
            };
            with_missing(&mut body, missing.as_ref());
            (metric_name(*metric), body)
        }
    };
    let inner = rendered(mappings, &aggregation.aggregations)?;
    let body = std::mem::take(&mut body);
    Ok(match inner.is_empty() {
        true => json!({kind: body}),
        false => json!({kind: body, "aggs": inner}),
    })
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Min => "min",
        Metric::Max => "max",
        Metric::Avg => "avg",
        Metric::Sum => "sum",
        Metric::Stats => "stats",
        Metric::ValueCount => "value_count",
    }
}

fn with_missing(body: &mut Value, missing: Option<&Scalar>) {
    if let Some(missing) = missing {
        body["missing"] = json!(missing);
    }
}

fn script(field: &str, prefix: &str) -> Value {
    json!({"lang": "painless", "source": INSIDE, "params": {"field": field, "prefix": prefix}})
}

/// Text inside a pattern of Lucene's.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if !c.is_alphanumeric() && c != PATH_END && c != '_' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn ordered(order: &BucketOrder) -> Value {
    let direction = if order.descending { "desc" } else { "asc" };
    match &order.by {
        BucketOrderBy::Count => json!({"_count": direction}),
        BucketOrderBy::Key => json!({"_key": direction}),
        BucketOrderBy::Metric { name, value: None } => json!({name: direction}),
        BucketOrderBy::Metric {
            name,
            value: Some(value),
        } => json!({format!("{name}.{value}"): direction}),
    }
}

/// Buckets can be ordered by numbers of the metrics directly inside them.
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
            }) => value.is_some(),
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

fn zone(offset_seconds: i32) -> String {
    let (sign, seconds) = if offset_seconds < 0 {
        ('-', -offset_seconds)
    } else {
        ('+', offset_seconds)
    };
    format!("{sign}{:02}:{:02}", seconds / 3_600, seconds / 60 % 60)
}

/// The field of values that are no paths.
fn plain(mappings: &[&Mapping], path: &str) -> Result<String> {
    match values(mappings, path)? {
        Values::Field(field) => Ok(field),
        Values::Inside { .. } => Err(Error::invalid(
            "illegal_argument_exception",
            format!("field [{path}] of type [flattened] has no numbers to aggregate"),
        )),
    }
}

/// Refuses a histogram of dates over what holds no moments: clusters disagree about it.
fn dated(mappings: &[&Mapping], path: &str) -> Result<()> {
    let kinds = mappings.iter().filter_map(|mapping| match mapping.resolve(path) {
        Some(Resolved::Field(_, kind)) => Some(kind),
        _ => None,
    });
    for kind in kinds {
        let kind = match kind {
            FieldType::Boolean => "boolean",
            FieldType::Double | FieldType::Decimal { .. } => "double",
            _ => continue,
        };
        return Err(Error::invalid(
            "illegal_argument_exception",
            format!("field [{path}] of type [{kind}] is not supported for aggregation [date_histogram]"),
        ));
    }
    Ok(())
}

/// Where the values of a path are, in the first mapping that has it.
fn values(mappings: &[&Mapping], path: &str) -> Result<Values> {
    for mapping in mappings {
        return Ok(match mapping.resolve(path) {
            None | Some(Resolved::Object) => continue,
            Some(Resolved::KeywordOf(name)) => Values::Field(format!("{name}.keyword")),
            Some(Resolved::FlattenedPath(name, below)) => Values::Inside {
                field: paths_of(name),
                prefix: format!("{below}{PATH_END}"),
            },
            Some(Resolved::Field(_, FieldType::Text { .. })) => {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    format!("text field [{path}] has no exact values to sort or aggregate by"),
                )
                .with_remedy(format!("use [{path}.keyword], or a keyword field")));
            }
            Some(Resolved::Field(name, FieldType::Flattened)) => Values::Field(values_of(name)),
            Some(Resolved::Field(name, _)) => Values::Field(name.to_owned()),
        });
    }
    Ok(Values::Field(NONE.to_owned()))
}

/// The most buckets of one answer.
const MOST_BUCKETS: usize = 65_535;

/// Refuses aggregations whose ranges inside each other are too many, whatever the documents.
pub(crate) fn check_ranges(aggregations: &[(String, Aggregation)]) -> Result<()> {
    match ranges(aggregations) > MOST_BUCKETS {
        true => Err(too_many()),
        false => Ok(()),
    }
}

/// The buckets of ranges if every other aggregation had one bucket.
fn ranges(aggregations: &[(String, Aggregation)]) -> usize {
    let each = aggregations.iter().map(|(_, aggregation)| {
        let inner = ranges(&aggregation.aggregations);
        match &aggregation.kind {
            AggregationKind::Range { ranges, .. } => ranges.len().saturating_mul(inner.saturating_add(1)),
            AggregationKind::Terms { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. } => inner,
            AggregationKind::Metric { .. } => 0,
        }
    });
    each.fold(0, usize::saturating_add)
}

/// More buckets than there may be.
pub(crate) fn too_many() -> Error {
    Error::invalid(
        "too_many_buckets_exception",
        format!("the aggregations make more than {MOST_BUCKETS} buckets"),
    )
    .with_remedy("ask for wider intervals, or for fewer aggregations inside each other")
}

/// The results of these aggregations, in their order.
pub(crate) fn results(
    mappings: &[&Mapping],
    asked: &[(String, Aggregation)],
    answered: &Map<String, Value>,
) -> Result<Vec<(String, AggregationResult)>> {
    let mut reader = Reader {
        mappings,
        left: MOST_BUCKETS,
    };
    reader.all(asked, answered)
}

/// Reads results, and counts their buckets where they are made.
struct Reader<'a> {
    mappings: &'a [&'a Mapping],
    left: usize,
}

fn unreadable() -> Error {
    super::fault::unreadable("lacks a part of an aggregation")
}

impl Reader<'_> {
    fn all(
        &mut self,
        asked: &[(String, Aggregation)],
        answered: &Map<String, Value>,
    ) -> Result<Vec<(String, AggregationResult)>> {
        asked
            .iter()
            .map(|(name, aggregation)| {
                let answered = answered.get(name).ok_or_else(unreadable)?;
                Ok((name.clone(), self.one(aggregation, answered)?))
            })
            .collect()
    }

    fn take(&mut self, buckets: usize) -> Result<()> {
        self.left = self.left.checked_sub(buckets).ok_or_else(too_many)?;
        Ok(())
    }

    fn one(&mut self, asked: &Aggregation, answered: &Value) -> Result<AggregationResult> {
        if let AggregationKind::Metric { metric, .. } = &asked.kind {
            return metric_of(*metric, answered).ok_or_else(unreadable);
        }
        let buckets = answered
            .get("buckets")
            .and_then(Value::as_array)
            .ok_or_else(unreadable)?;
        self.take(buckets.len())?;
        let prefix = self.prefix(&asked.kind)?;
        let mut read = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            if !is_made_up(&asked.kind, bucket) {
                read.push(self.bucket(asked, bucket, &prefix)?);
            }
        }
        let rest = |name: &str| answered.get(name).and_then(Value::as_i64).ok_or_else(unreadable);
        let (keyed, terms) = match &asked.kind {
            AggregationKind::Terms { .. } => (
                false,
                Some(TermsRest {
                    sum_other_doc_count: u64::try_from(rest("sum_other_doc_count")?).unwrap_or(0),
                    doc_count_error_upper_bound: rest("doc_count_error_upper_bound")?,
                }),
            ),
            AggregationKind::Histogram {
                interval,
                offset,
                min_doc_count,
                keyed,
                ..
            } => {
                if *min_doc_count == 0 {
                    read = self.fill_numbers(asked, read, *interval, *offset)?;
                }
                (*keyed, None)
            }
            AggregationKind::DateHistogram {
                interval,
                offset_seconds,
                min_doc_count,
                keyed,
                format,
                ..
            } => {
                if *min_doc_count == 0 {
                    read = self.fill_dates(asked, read, *interval, *offset_seconds, format.as_deref())?;
                }
                (*keyed, None)
            }
            AggregationKind::Range { keyed, .. } => (*keyed, None),
            AggregationKind::Metric { .. } => (false, None),
        };
        Ok(AggregationResult::Buckets(Buckets {
            buckets: read,
            keyed,
            terms,
        }))
    }

    /// What stands before each key of a terms aggregation over a path.
    fn prefix(&self, kind: &AggregationKind) -> Result<String> {
        Ok(match kind {
            AggregationKind::Terms {
                field, missing: None, ..
            } => match values(self.mappings, field)? {
                Values::Inside { prefix, .. } => prefix,
                Values::Field(_) => String::new(),
            },
            AggregationKind::Terms { .. }
            | AggregationKind::Range { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. }
            | AggregationKind::Metric { .. } => String::new(),
        })
    }

    fn bucket(&mut self, asked: &Aggregation, bucket: &Value, prefix: &str) -> Result<Bucket> {
        let key = bucket
            .get("key")
            .cloned()
            .and_then(scalar)
            .ok_or_else(unreadable)?;
        let key = match (&asked.kind, key) {
            (AggregationKind::Histogram { .. }, Scalar::Int(key)) => Scalar::Double(key as f64),
            (_, Scalar::Text(key)) => {
                Scalar::Text(key.strip_prefix(prefix).ok_or_else(unreadable)?.to_owned())
            }
            (_, key) => key,
        };
        let count = bucket.get("doc_count").and_then(Value::as_u64);
        Ok(Bucket {
            key,
            key_as_string: bucket
                .get("key_as_string")
                .and_then(Value::as_str)
                .map(str::to_owned),
            from: number(bucket.get("from")),
            to: number(bucket.get("to")),
            doc_count: count.ok_or_else(unreadable)?,
            aggregations: self.all(&asked.aggregations, bucket.as_object().ok_or_else(unreadable)?)?,
        })
    }

    fn fill_numbers(
        &mut self,
        asked: &Aggregation,
        read: Vec<Bucket>,
        interval: f64,
        offset: f64,
    ) -> Result<Vec<Bucket>> {
        let mut filled: Vec<Bucket> = Vec::with_capacity(read.len());
        let mut last: Option<f64> = None;
        for bucket in read {
            let Scalar::Double(key) = bucket.key else {
                return Err(unreadable());
            };
            let place = ((key - offset) / interval).round();
            if let Some(last) = last {
                let missing = place - last - 1.0;
                if missing > self.left as f64 {
                    return Err(too_many());
                }
                let mut at = last + 1.0;
                while at < place {
                    let key = at * interval + offset;
                    let as_text = bucket
                        .key_as_string
                        .as_ref()
                        .and_then(|_| date::format(key as i64, None, 0).ok());
                    filled.push(self.gap(asked, Scalar::Double(key), as_text)?);
                    at += 1.0;
                }
            }
            last = Some(place);
            filled.push(bucket);
        }
        Ok(filled)
    }

    fn fill_dates(
        &mut self,
        asked: &Aggregation,
        read: Vec<Bucket>,
        interval: DateInterval,
        offset_seconds: i32,
        format: Option<&str>,
    ) -> Result<Vec<Bucket>> {
        let mut filled: Vec<Bucket> = Vec::with_capacity(read.len());
        let mut expected: Option<i64> = None;
        for bucket in read {
            let Scalar::Int(key) = bucket.key else {
                return Err(unreadable());
            };
            while let Some(at) = expected.filter(|at| *at < key) {
                let as_text = date::format(at, format, offset_seconds)?;
                filled.push(self.gap(asked, Scalar::Int(at), Some(as_text))?);
                expected = Some(date::next(at, interval, offset_seconds));
            }
            expected = Some(date::next(key, interval, offset_seconds));
            filled.push(bucket);
        }
        Ok(filled)
    }

    /// A bucket that no document is in.
    fn gap(&mut self, asked: &Aggregation, key: Scalar, key_as_string: Option<String>) -> Result<Bucket> {
        self.take(1)?;
        Ok(Bucket {
            key,
            key_as_string,
            from: None,
            to: None,
            doc_count: 0,
            aggregations: self.all_of_nothing(&asked.aggregations)?,
        })
    }

    fn all_of_nothing(
        &mut self,
        asked: &[(String, Aggregation)],
    ) -> Result<Vec<(String, AggregationResult)>> {
        asked
            .iter()
            .map(|(name, aggregation)| Ok((name.clone(), self.of_nothing(aggregation)?)))
            .collect()
    }

    /// The result over no document.
    fn of_nothing(&mut self, asked: &Aggregation) -> Result<AggregationResult> {
        let (buckets, keyed, terms) = match &asked.kind {
            AggregationKind::Metric { metric, .. } => {
                return Ok(match metric {
                    Metric::Stats => AggregationResult::Stats {
                        count: 0,
                        min: None,
                        max: None,
                        avg: None,
                        sum: 0.0,
                    },
                    Metric::Sum | Metric::ValueCount => AggregationResult::Value {
                        value: Some(0.0),
                        as_string: None,
                    },
                    Metric::Min | Metric::Max | Metric::Avg => AggregationResult::Value {
                        value: None,
                        as_string: None,
                    },
                });
            }
            AggregationKind::Terms { .. } => (Vec::new(), false, Some(TermsRest::default())),
            AggregationKind::Histogram { keyed, .. } | AggregationKind::DateHistogram { keyed, .. } => {
                (Vec::new(), *keyed, None)
            }
            AggregationKind::Range { ranges, keyed, .. } => {
                self.take(ranges.len())?;
                let mut sorted: Vec<&RangeBucket> = ranges.iter().collect();
                let low = |range: &RangeBucket| range.from.unwrap_or(f64::NEG_INFINITY);
                let high = |range: &RangeBucket| range.to.unwrap_or(f64::INFINITY);
                sorted.sort_by(|a, b| low(a).total_cmp(&low(b)).then(high(a).total_cmp(&high(b))));
                let mut buckets = Vec::with_capacity(sorted.len());
                for range in sorted {
                    let end = |end: Option<f64>| end.map_or_else(|| "*".to_owned(), plain_double);
                    let named = || format!("{}-{}", end(range.from), end(range.to));
                    buckets.push(Bucket {
                        key: Scalar::Text(range.key.clone().unwrap_or_else(named)),
                        key_as_string: None,
                        from: range.from,
                        to: range.to,
                        doc_count: 0,
                        aggregations: self.all_of_nothing(&asked.aggregations)?,
                    });
                }
                (buckets, *keyed, None)
            }
        };
        Ok(AggregationResult::Buckets(Buckets {
            buckets,
            keyed,
            terms,
        }))
    }
}

/// Clusters list the value of documents without one among the terms that no document has, where these are listed.
fn is_made_up(kind: &AggregationKind, bucket: &Value) -> bool {
    match kind {
        AggregationKind::Terms {
            min_doc_count: 0,
            missing: Some(missing),
            ..
        } => {
            bucket.get("doc_count").and_then(Value::as_u64) == Some(0)
                && bucket.get("key").cloned().and_then(scalar).as_ref() == Some(missing)
        }
        AggregationKind::Terms { .. }
        | AggregationKind::Range { .. }
        | AggregationKind::Histogram { .. }
        | AggregationKind::DateHistogram { .. }
        | AggregationKind::Metric { .. } => false,
    }
}

fn metric_of(metric: Metric, answered: &Value) -> Option<AggregationResult> {
    let of = |name: &str| number(answered.get(name));
    if metric == Metric::Stats {
        return Some(AggregationResult::Stats {
            count: answered.get("count")?.as_u64()?,
            min: of("min"),
            max: of("max"),
            avg: of("avg"),
            sum: of("sum")?,
        });
    }
    let value = match answered.get("value")? {
        Value::Null => None,
        value => Some(number(Some(value))?),
    };
    let text = answered.get("value_as_string").and_then(Value::as_str);
    Some(AggregationResult::Value {
        as_string: value.and(text).map(str::to_owned),
        value,
    })
}

/// A number, also one that JSON cannot say.
fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
