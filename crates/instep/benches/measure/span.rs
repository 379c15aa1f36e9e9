//! How long something took, many times, beside its limits.

use serde_json::{Value, json};

use crate::clock::quantile;

/// How long something took, many times.
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) rate: u32,
    /// Sorted, in milliseconds.
    times: Vec<f64>,
    /// What p50 and p99 must not exceed.
    pub(crate) limits: Option<(f64, f64)>,
}

impl Span {
    /// What [`Span::row`] holds.
    pub(crate) const HEAD: [&str; 7] = ["", "changes/s", "count", "p50", "p99", "max", "of the limits"];

    pub(crate) fn new(name: String, rate: u32, mut times: Vec<f64>) -> Span {
        times.sort_by(f64::total_cmp);
        Span {
            name,
            rate,
            times,
            limits: None,
        }
    }

    fn figures(&self) -> [f64; 3] {
        [
            quantile(&self.times, 0.5),
            quantile(&self.times, 0.99),
            quantile(&self.times, 1.0),
        ]
    }

    /// p50 and p99, each against its limit.
    fn ratios(&self) -> Option<(f64, f64)> {
        let [p50, p99, _] = self.figures();
        self.limits.map(|limits| (p50 / limits.0, p99 / limits.1))
    }

    pub(crate) fn row(&self) -> Vec<String> {
        let [p50, p99, max] = self.figures().map(|time| format!("{time:.2}"));
        let ratios = self
            .ratios()
            .map(|(p50, p99)| format!("{p50:.2}, {p99:.2}"))
            .unwrap_or_default();
        vec![
            self.name.clone(),
            self.rate.to_string(),
            self.times.len().to_string(),
            p50,
            p99,
            max,
            ratios,
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let [p50, p99, max] = self.figures();
        let ratios = self.ratios();
        json!({ "name": self.name, "changes_per_second": self.rate, "count": self.times.len(), "p50_ms": p50,
                "p99_ms": p99, "max_ms": max, "p50_of_limit": ratios.map(|of| of.0), "p99_of_limit": ratios.map(|of| of.1) })
    }
}
