//! What the gateway is built from, and the two seams it leaves to the program around it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use instep_core::{CollectionName, DocId, Language, Policy, Result, Search, SetName, Visibility};
use instep_elastic::Hydration;
use serde_json::value::RawValue;

use crate::keys::Keys;
use crate::names::Partition;

/// Everything the gateway needs. Nothing is opened or started by building a router from it.
#[derive(Clone)]
pub struct Parts {
    /// Who may read what.
    pub policy: Policy,
    /// The API keys; without any, callers are anonymous.
    pub keys: Keys,
    /// The collections that can be searched. One that the policy does not know cannot be named by anyone.
    pub collections: Vec<Served>,
    /// What answers searches.
    pub search: Arc<dyn Search>,
    /// The set that is active now; asked once for each request, so that one answer never mixes two sets.
    pub active: Arc<dyn Fn() -> SetName + Send + Sync>,
    /// The operational state to show.
    pub operations: Arc<dyn Operations>,
    /// What one request, and all of them together, may take.
    pub limits: Limits,
}

/// A collection that can be searched.
#[derive(Clone)]
pub struct Served {
    /// Its name.
    pub name: CollectionName,
    /// The languages its documents are kept in, `unspecified` among them where documents may have none: one physical
    /// index for each.
    pub languages: Vec<Language>,
    /// What reads its current rows for `?hydrate=true`; without it that is refused.
    pub hydrate: Option<Arc<dyn Hydrate>>,
}

impl Served {
    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> {
        self.languages.iter().map(|language| Partition {
            collection: self.name.clone(),
            language: language.clone(),
        })
    }
}

/// The name and the languages.
impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("name", &self.name)
            .field("languages", &self.languages)
            .finish_non_exhaustive()
    }
}

/// Reads the rows behind documents as they are now.
///
/// Who may read a document gets its root row's columns that the collection declares as fields; columns that no
/// collection declares are never read. The index may lag behind the rows, so the reader checks the row again.
#[async_trait]
pub trait Hydrate: Send + Sync {
    /// The current root rows of these documents as JSON objects: one entry for each id, in their order, read together,
    /// with the rows joined to each where `how` says so.
    /// `None` where the row is gone, no longer meets the collection's condition, or no longer admits `visibility` by
    /// its current readers; the three are not told apart.
    async fn rows(
        &self,
        collection: &CollectionName,
        ids: &[DocId],
        visibility: &Visibility,
        how: Hydration,
    ) -> Result<Vec<Option<Box<RawValue>>>>;
}

/// What operators see.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Sources, sets, lag, troubles: what `instep status --json` prints.
    async fn status(&self) -> Result<serde_json::Value>;

    /// All metrics in Prometheus' text format.
    async fn metrics(&self) -> Result<String>;

    /// Whether requests can be answered: the active set is there and holds no older state than it may. Shown to
    /// anyone by code alone.
    async fn ready(&self) -> Result<()>;
}

/// What one request, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body, in bytes, after decompression. Beyond it: 413.
    pub body_bytes: usize,
    /// How long a request may take. Beyond it: 503.
    pub timeout: Duration,
    /// How many requests are answered at once, once they were read; callers without a key together get at most half
    /// of the places, a key's subject at most three quarters. What is answered without any work, such as health
    /// checks, needs none. Beyond it: 429.
    pub concurrent_requests: usize,
}

/// 1 MB, 10 seconds, 64 at once.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes: 1_000_000,
            timeout: Duration::from_secs(10),
            concurrent_requests: 64,
        }
    }
}
