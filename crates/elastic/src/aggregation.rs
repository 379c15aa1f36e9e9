//! Aggregations, one function for each.

use instep_core::Result;
use instep_core::query::{
    Aggregation, AggregationKind, BucketOrder, BucketOrderBy, Metric, RangeBucket, Scalar,
};

use crate::capability::{AGGREGATIONS, AggregationClause, Clause, MAX_BUCKETS, RANGE_ENTRY};
use crate::json::{Json, shown};
use crate::notation;
use crate::place::{Members, Place};
use crate::query::Budget;

/// Named aggregations, in their order.
pub(crate) fn parse(place: &Place<'_>, budget: &Budget) -> Result<Vec<(String, Aggregation)>> {
    let mut aggregations = Vec::new();
    for (name, inner) in place.members()? {
        if name.is_empty() || name.contains(['[', ']', '>']) {
            let message = format!(
                "[{}] cannot be the name of an aggregation: it is empty or has one of [ ] >",
                shown(name)
            );
            return Err(place.illegal(message));
        }
        let aggregation = budget.spend(&inner, || one(name, &inner, budget))?;
        aggregations.push((name.to_owned(), aggregation));
    }
    Ok(aggregations)
}

fn one(name: &str, place: &Place<'_>, budget: &Budget) -> Result<Aggregation> {
    let mut known: Option<(&'static AggregationClause, AggregationKind)> = None;
    let mut inner: Option<Vec<(String, Aggregation)>> = None;
    for (key, member) in place.members()? {
        if matches!(key, "aggs" | "aggregations") {
            if inner.is_some() {
                return Err(place.malformed("an aggregation takes [aggs] or [aggregations], not both"));
            }
            inner = Some(parse(&member, budget)?);
            continue;
        }
        let Some(clause) = AGGREGATIONS.iter().find(|known| known.clause.name == key) else {
            return Err(place.unsupported(key, AGGREGATIONS.iter().map(|known| known.clause.name)));
        };
        if let Some((first, _)) = known {
            let message = format!(
                "the aggregation [{}] has two kinds, [{}] and [{key}]",
                shown(name),
                first.clause.name
            );
            return Err(place.malformed(message));
        }
        known = Some((clause, (clause.parse)(&member, &clause.clause)?));
    }
    let Some((clause, kind)) = known else {
        return Err(place.malformed(format!("the aggregation [{}] has no kind", shown(name))));
    };
    if inner.is_some() && !clause.buckets {
        let message = format!(
            "the aggregation [{}] of kind [{}] cannot have aggregations inside",
            shown(name),
            clause.clause.name
        );
        return Err(place.illegal(message));
    }
    let aggregation = Aggregation {
        kind,
        aggregations: inner.unwrap_or_default(),
    };
    check_order(place, &aggregation)?;
    Ok(aggregation)
}

/// Buckets are ordered by a metric that is computed in them.
fn check_order(place: &Place<'_>, aggregation: &Aggregation) -> Result<()> {
    let AggregationKind::Terms { order, .. } = &aggregation.kind else {
        return Ok(());
    };
    for key in order {
        let BucketOrderBy::Metric { name, value } = &key.by else {
            continue;
        };
        let inner = aggregation.aggregations.iter().find(|(known, _)| known == name);
        let wrong = match inner.map(|(_, inner)| &inner.kind) {
            None => format!(
                "[order] names [{}], which is no aggregation of these buckets",
                shown(name)
            ),
            Some(AggregationKind::Metric { metric, .. }) => match (metric, value.as_deref()) {
                (Metric::Stats, Some("count" | "min" | "max" | "avg" | "sum")) => continue,
                (Metric::Stats, Some(_) | None) => {
                    format!(
                        "[order] by [{}] needs one of its count, min, max, avg, sum",
                        shown(name)
                    )
                }
                (Metric::Min | Metric::Max | Metric::Avg | Metric::Sum | Metric::ValueCount, None) => {
                    continue;
                }
                (Metric::Min | Metric::Max | Metric::Avg | Metric::Sum | Metric::ValueCount, Some(value)) => {
                    format!("[order] by [{}] has no value [{}]", shown(name), shown(value))
                }
            },
            Some(
                AggregationKind::Terms { .. }
                | AggregationKind::Range { .. }
                | AggregationKind::Histogram { .. }
                | AggregationKind::DateHistogram { .. },
            ) => format!("[order] names [{}], which is no metric", shown(name)),
        };
        return Err(place.illegal(wrong));
    }
    Ok(())
}

pub(crate) fn terms(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    let members = place.clause(clause)?;
    if let Some(shard_size) = members.get("shard_size") {
        shard_size.integer_within(1, i64::from(i32::MAX))?;
    }
    let size = members.get("size");
    let order = members.get("order");
    Ok(AggregationKind::Terms {
        field: field(&members)?,
        size: size.map_or(Ok(10), |size| size.count(1, MAX_BUCKETS))?,
        order: order.map_or_else(|| Ok(vec![by_count()]), |order| orders(&order))?,
        min_doc_count: min_doc_count(&members, 1)?,
        missing: missing(&members)?,
    })
}

fn by_count() -> BucketOrder {
    BucketOrder {
        by: BucketOrderBy::Count,
        descending: true,
    }
}

fn orders(place: &Place<'_>) -> Result<Vec<BucketOrder>> {
    let mut orders = Vec::new();
    for item in place.items_or_self() {
        let (by, direction) = item.only_member("one thing to order by")?;
        orders.push(BucketOrder {
            by: order_by(&item, by)?,
            descending: direction.one_of(&[("asc", false), ("desc", true)])?,
        });
    }
    if orders.is_empty() {
        orders.push(by_count());
    }
    Ok(orders)
}

/// `_count`, `_key`, `average_price`, `price_stats.avg`.
fn order_by(place: &Place<'_>, by: &str) -> Result<BucketOrderBy> {
    match by {
        "_count" => return Ok(BucketOrderBy::Count),
        "_key" => return Ok(BucketOrderBy::Key),
        _ if by.starts_with('_') || by.contains(['>', '[', ']']) => {
            let message = format!("[order] by [{}] is not supported", shown(by));
            let remedy = "order by _count, _key or a metric directly inside, such as `price` or `prices.avg`";
            return Err(place.illegal(message).with_remedy(remedy));
        }
        _ => {}
    }
    let (name, value) = match by.rsplit_once('.') {
        Some((name, "value")) => (name, None),
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (by, None),
    };
    Ok(BucketOrderBy::Metric {
        name: name.to_owned(),
        value,
    })
}

pub(crate) fn range(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    let members = place.clause(clause)?;
    let ranges_place = members.required("ranges")?;
    let mut ranges = Vec::new();
    for item in ranges_place.items()? {
        let entry = item.clause(&RANGE_ENTRY)?;
        let bound = |bound: Option<Place<'_>>| -> Result<Option<f64>> {
            bound
                .filter(|bound| !bound.is_null())
                .map(|bound| bound.number())
                .transpose()
        };
        ranges.push(RangeBucket {
            key: entry
                .get("key")
                .map(|key| key.text().map(str::to_owned))
                .transpose()?,
            from: bound(entry.get("from"))?,
            to: bound(entry.get("to"))?,
        });
    }
    if ranges.is_empty() {
        return Err(ranges_place.illegal("[range] requires at least one of [ranges]"));
    }
    if ranges.len() > MAX_BUCKETS {
        return Err(ranges_place.illegal(format!("[range] takes at most [{MAX_BUCKETS}] ranges")));
    }
    Ok(AggregationKind::Range {
        field: field(&members)?,
        ranges,
        keyed: keyed(&members)?,
    })
}

pub(crate) fn histogram(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    let members = place.clause(clause)?;
    let interval_place = members.required("interval")?;
    let interval = interval_place.number()?;
    if interval <= 0.0 {
        return Err(interval_place.illegal("[interval] must be above 0"));
    }
    let offset = members.get("offset");
    let offset = offset
        .map_or(Ok(0.0), |offset| offset.number())?
        .rem_euclid(interval);
    Ok(AggregationKind::Histogram {
        field: field(&members)?,
        interval,
        // The remainder of a tiny negative offset is rounded up to the interval itself.
        offset: if offset < interval { offset } else { 0.0 },
        min_doc_count: min_doc_count(&members, 0)?,
        keyed: keyed(&members)?,
    })
}

pub(crate) fn date_histogram(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    let members = place.clause(clause)?;
    let interval = match (members.get("fixed_interval"), members.get("calendar_interval")) {
        (Some(fixed), None) => notation::fixed_interval(&fixed)?,
        (None, Some(calendar)) => notation::calendar_interval(&calendar)?,
        (None, None) | (Some(_), Some(_)) => {
            let message = "[date_histogram] requires either [fixed_interval] or [calendar_interval]";
            return Err(place.illegal(message));
        }
    };
    let zone = members.get("time_zone");
    let format = members.get("format");
    Ok(AggregationKind::DateHistogram {
        field: field(&members)?,
        interval,
        offset_seconds: zone.map_or(Ok(0), |zone| notation::zone(&zone))?,
        min_doc_count: min_doc_count(&members, 0)?,
        keyed: keyed(&members)?,
        format: format
            .map(|format| format.text().map(str::to_owned))
            .transpose()?,
    })
}

pub(crate) fn min(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::Min)
}

pub(crate) fn max(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::Max)
}

pub(crate) fn avg(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::Avg)
}

pub(crate) fn sum(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::Sum)
}

pub(crate) fn stats(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::Stats)
}

pub(crate) fn value_count(place: &Place<'_>, clause: &'static Clause) -> Result<AggregationKind> {
    metric(place, clause, Metric::ValueCount)
}

fn metric(place: &Place<'_>, clause: &'static Clause, metric: Metric) -> Result<AggregationKind> {
    let members = place.clause(clause)?;
    Ok(AggregationKind::Metric {
        metric,
        field: field(&members)?,
        missing: missing(&members)?,
    })
}

fn field(members: &Members<'_>) -> Result<String> {
    members.required("field")?.field()
}

fn keyed(members: &Members<'_>) -> Result<bool> {
    members.get("keyed").map_or(Ok(false), |keyed| keyed.boolean())
}

fn min_doc_count(members: &Members<'_>, default: u64) -> Result<u64> {
    let Some(place) = members.get("min_doc_count") else {
        return Ok(default);
    };
    let count = place.integer_within(0, i64::MAX)?;
    Ok(u64::try_from(count).expect("the bounds were checked"))
}

fn missing(members: &Members<'_>) -> Result<Option<Scalar>> {
    let missing = members.get("missing");
    missing
        .filter(|value| !matches!(value.json, Json::Null))
        .map(|value| value.scalar())
        .transpose()
}
