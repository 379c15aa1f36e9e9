//! A figure of several runs beside its limit.

use serde_json::{Value, json};

/// A figure of several runs, and what it is held against.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) runs: Vec<f64>,
    pub(crate) limit: Option<f64>,
}

impl Figure {
    /// What [`Figure::row`] holds.
    pub(crate) const HEAD: [&str; 5] = ["", "median", "min – max", "limit", "of the limit"];

    pub(crate) fn median(&self) -> f64 {
        median(&self.runs)
    }

    fn ratio(&self) -> Option<f64> {
        self.limit.map(|limit| self.median() / limit)
    }

    fn range(&self) -> (f64, f64) {
        let least = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    pub(crate) fn row(&self) -> Vec<String> {
        let (least, most) = self.range();
        let limit = self.limit.map(|limit| format!("{limit:.1}"));
        vec![
            format!("{} ({})", self.name, self.unit),
            format!("{:.1}", self.median()),
            format!("{least:.1} – {most:.1}"),
            limit.unwrap_or_default(),
            self.ratio()
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let (min, max) = self.range();
        json!({ "name": self.name, "unit": self.unit, "median": self.median(), "min": min, "max": max,
                "limit": self.limit, "ratio": self.ratio() })
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
