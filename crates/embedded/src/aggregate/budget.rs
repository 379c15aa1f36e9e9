//! How many buckets a request may make, counted where they are made, so that one that asks for too many ends before it
//! fills the memory.

use instep_core::query::AggregationKind;
use instep_core::{Error, Result};

use super::{Gathered, Plan};

/// The most buckets of one answer.
const MOST_BUCKETS: usize = 65_535;

/// What a request may still make. Each segment starts with all of it, since its buckets are those of other segments
/// once more: whether an answer is too large does not depend on how the documents lie in segments.
#[derive(Debug)]
pub(crate) struct Budget(usize);

/// More buckets than there may be.
#[derive(Debug)]
pub(crate) struct TooMany;

impl From<TooMany> for Error {
    fn from(_: TooMany) -> Self {
        let message = format!("the aggregations make more than {MOST_BUCKETS} buckets");
        Error::invalid("too_many_buckets_exception", message)
            .with_remedy("ask for wider intervals, or for fewer aggregations inside each other")
    }
}

impl Budget {
    /// For one segment.
    pub(crate) fn whole() -> Self {
        Budget(MOST_BUCKETS)
    }

    /// What is left beside the buckets that were gathered.
    pub(crate) fn beside<'g>(gathered: impl IntoIterator<Item = &'g Gathered>) -> Result<Self> {
        let mut budget = Budget::whole();
        let buckets = gathered.into_iter().map(Gathered::buckets).sum();
        budget.take(buckets)?;
        Ok(budget)
    }

    /// Counts this many buckets, before they are made.
    pub(crate) fn take(&mut self, buckets: usize) -> std::result::Result<(), TooMany> {
        self.0 = self.0.checked_sub(buckets).ok_or(TooMany)?;
        Ok(())
    }
}

/// Refuses aggregations whose ranges inside each other are too many, whatever the documents.
pub(super) fn check_ranges(plans: &[(String, Plan)]) -> Result<()> {
    Ok(Budget::whole().take(ranges(plans))?)
}

/// The buckets of ranges if every other aggregation had one bucket.
fn ranges(plans: &[(String, Plan)]) -> usize {
    let each = plans.iter().map(|(_, plan)| {
        let inner = ranges(&plan.inner);
        match &plan.aggregation.kind {
            AggregationKind::Range { ranges, .. } => ranges.len().saturating_mul(inner.saturating_add(1)),
            AggregationKind::Terms { .. }
            | AggregationKind::Histogram { .. }
            | AggregationKind::DateHistogram { .. } => inner,
            AggregationKind::Metric { .. } => 0,
        }
    });
    each.fold(0, usize::saturating_add)
}
