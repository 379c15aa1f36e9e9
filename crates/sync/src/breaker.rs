//! The breaker: a wrong mapping must not quarantine a whole table, and one bad row must not halt a set.

use std::collections::{BTreeMap, VecDeque};

/// Documents that must have been seen before it trips.
const ENOUGH: usize = 20;
/// How many earlier documents are looked at beside a batch.
const WINDOW: usize = 100;

/// Watches what share of the latest documents failed for the same reason.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// The code each failed with; `None` for one that is in order.
    latest: VecDeque<Option<String>>,
}

impl Breaker {
    /// Adds a batch's documents. Returns the code for which at least half of the latest documents (this batch, and as
    /// many before it as fit the window) failed, when there are at least twenty. A batch is looked at as a whole:
    /// where in it the failures stand does not matter.
    ///
    /// Documents that were dead letters already are not to be added: touching all of them again must not halt a set.
    pub(crate) fn add(&mut self, batch: impl IntoIterator<Item = Option<String>>) -> Option<String> {
        let before = self.latest.len();
        self.latest.extend(batch);
        let keep = WINDOW.max(self.latest.len() - before);
        while self.latest.len() > keep {
            self.latest.pop_front();
        }
        let seen = self.latest.len();
        if seen < ENOUGH {
            return None;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for code in self.latest.iter().flatten() {
            *counts.entry(code).or_default() += 1;
        }
        let (code, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (count * 2 >= seen).then(|| code.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bad: usize, good: usize) -> Vec<Option<String>> {
        let bad = std::iter::repeat_n(Some("misfit".to_owned()), bad);
        bad.chain(std::iter::repeat_n(None, good)).collect()
    }

    #[test]
    fn trips_when_half_fail_alike() {
        let cases = [
            (batch(19, 0), false),
            (batch(20, 0), true),
            (batch(10, 10), true),
            (batch(30, 970), false),
            (batch(500, 500), true),
            (batch(499, 501), false),
            (batch(1, 0), false),
        ];
        for (batch, trips) in cases {
            let shown = format!("{} of {}", batch.iter().flatten().count(), batch.len());
            assert_eq!(Breaker::default().add(batch).is_some(), trips, "{shown}");
        }
    }

    #[test]
    fn different_reasons_do_not_add_up() {
        let codes = (0..40).map(|at| Some(format!("reason {}", at % 3)));
        assert_eq!(Breaker::default().add(codes), None);
    }

    #[test]
    fn single_documents_count_too() {
        let mut breaker = Breaker::default();
        let trips = (0..30).find(|_| breaker.add([Some("misfit".to_owned())]).is_some());
        assert_eq!(trips, Some(19));
        let mut breaker = Breaker::default();
        for _ in 0..200 {
            assert_eq!(breaker.add(batch(1, 0)).or(breaker.add(batch(0, 2))), None);
        }
    }
}
