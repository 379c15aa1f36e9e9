//! What every engine must do, as tables of cases: the same documents, the same requests, the same answers.
//!
//! An engine calls [`all`], or each suite in a test of its own, and [`reopened`]. Differences between engines are read from
//! [`instep_core::Capabilities`], never skipped. Each suite makes the indexes it needs, under the prefix it is given, and
//! drops them at its end; the cases of a suite fail together, named.

mod access;
mod aggregations;
mod analyzers;
mod clauses;
mod fixture;
mod limits;
mod queries;
mod reopened;
mod scores;
mod sorting;
mod writes;

use instep_core::{Engine, IndexName, Search};

pub use access::access;
pub use aggregations::aggregations;
pub use analyzers::analyzers;
pub use limits::limits;
pub use queries::queries;
pub use reopened::reopened;
pub use sorting::sorting;
pub use writes::writes;

/// The engine under test, through both of its traits.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Stores.
    pub engine: &'a dyn Engine,
    /// Searches what `engine` stored.
    pub search: &'a dyn Search,
    /// Starts the names of all indexes.
    pub prefix: &'a str,
}

impl Subject<'_> {
    fn index(&self, name: &str) -> IndexName {
        IndexName::from(format!("{}-{name}", self.prefix))
    }
}

/// Every suite, one after the other.
pub async fn all(subject: Subject<'_>) {
    writes(subject).await;
    queries(subject).await;
    sorting(subject).await;
    aggregations(subject).await;
    access(subject).await;
    analyzers(subject).await;
    limits(subject).await;
}

/// Gathers the failures of a table, so that one run names them all.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, case: impl std::fmt::Display, found: T, expected: T) {
        if found != expected {
            self.0.push(format!(
                "{case}\n    expected {expected:?}\n    found    {found:?}"
            ));
        }
    }

    fn none(self) {
        assert!(
            self.0.is_empty(),
            "{} cases differ:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}
