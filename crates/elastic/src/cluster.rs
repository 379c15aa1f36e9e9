//! The engine over HTTP: OpenSearch, and Elasticsearch from 7.10 on.
//!
//! Guarantees: [`instep_core::Engine`]'s and [`instep_core::Search`]'s contracts. Tickets are external versions, so a
//! lower one never wins; a document's source goes in and comes out byte for byte; an answer that is not whole, is no
//! JSON or is not a success is never taken for one. A caller's JSON never reaches the cluster: requests are rendered anew
//! from the closed ones. Indexes are made by [`instep_core::Engine::ensure`] alone: writes go through an alias that only
//! it makes, so a write can neither create an index nor reach one that somebody put in its place.
//!
//! Leaves to others: when to repeat what failed for a moment.

mod aggregate;
mod answer;
#[cfg(feature = "aws")]
mod aws;
mod bulk;
mod client;
mod compile;
mod extra;
mod fault;
mod fields;
mod hosts;
mod index;
mod product;
mod read;
mod request;
mod sort;
mod throttle;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use instep_core::{
    Applied, Authorized, Capabilities, Cursor, DocId, Engine, Ensured, GetRequest, IndexName, Mapping,
    Result, Search, SearchRequest, SearchResponse, Settings, Stored, Walked, Write,
};

use self::client::Client;
use self::fields::Known;
use self::throttle::Throttle;

/// Where a cluster is, and how to speak to it.
#[derive(Clone)]
pub struct ClusterOptions {
    /// The addresses of its hosts: `https://host:9200`. They take turns; one that does not answer is set aside.
    pub urls: Vec<String>,
    /// Who we are there.
    pub credentials: Credentials,
    /// PEM text of the authorities that signed the hosts' certificates; the system's without it.
    pub authorities: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Bytes of one bulk request, about; a document that is larger goes alone.
    pub bulk_bytes: usize,
    /// Documents of one bulk request.
    pub bulk_documents: usize,
    /// Bytes of the longest answer that is read; where several documents are more, fewer are asked for at once.
    pub answer_bytes: usize,
    /// Who fills the indexes: written into each, and one that another made is refused by name. Empty: it is not asked.
    pub owner: String,
}

/// No credentials, 20 seconds, 8 MB and 2,000 documents; answers of up to 128 MB.
impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            urls: Vec::new(),
            credentials: Credentials::None,
            authorities: None,
            timeout: Duration::from_secs(20),
            bulk_bytes: 8 << 20,
            bulk_documents: 2_000,
            answer_bytes: 128 << 20,
            owner: String::new(),
        }
    }
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterOptions")
            .field("hosts", &self.urls.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Who we are to a cluster.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An API key as the cluster gave it out: `id:key`, or that in base64.
    ApiKey(String),
    /// Each request is signed for Amazon OpenSearch Service in this region, by whom AWS's own tools would sign it as. Only
    /// in a build with the feature `aws`.
    Aws {
        /// `eu-west-1`.
        region: String,
    },
}

/// A cluster as an engine. A value is a handle; clones share it.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    capabilities: Capabilities,
    client: Client,
    throttle: Throttle,
    bulk_bytes: usize,
    bulk_documents: usize,
    owner: String,
    /// What is known of indexes, from making or from asking for them.
    known: Mutex<HashMap<IndexName, Arc<Known>>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// Bulk requests under way at once, at most.
const MOST_BULKS: usize = 8;

impl Cluster {
    /// A cluster by its address. Nothing is asked yet; an address or authorities that cannot be read are refused.
    pub fn new(options: ClusterOptions) -> Result<Self> {
        Ok(Cluster(Arc::new(Inner {
            capabilities: Capabilities {
                name: "cluster",
                forgets_deletes: true,
                forgets_when_closed: false,
                stores: true,
                sloppy_phrases: true,
                exact_totals: false,
                exact_decimals: false,
            },
            client: Client::new(&options)?,
            throttle: Throttle::new(MOST_BULKS),
            bulk_bytes: options.bulk_bytes.max(1),
            bulk_documents: options.bulk_documents.max(1),
            owner: options.owner,
            known: Mutex::default(),
        })))
    }

    /// What answers there: `opensearch 3.8.0`. Fails where nothing does, or nothing that is served.
    pub async fn product(&self) -> Result<String> {
        Ok(self.0.client.product().await?.to_string())
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, HashMap<IndexName, Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Cluster {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn place(&self) -> Result<String> {
        Ok(self.0.client.product().await?.cluster.clone())
    }

    async fn look(&self, indexes: &[IndexName]) -> Result<bool> {
        self.0.look(indexes).await?;
        Ok(true)
    }

    async fn ensure(&self, index: &IndexName, mapping: &Mapping, settings: &Settings) -> Result<Ensured> {
        self.0.ensure(index, mapping, settings).await
    }

    async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>> {
        self.0.apply(writes).await
    }

    async fn walk(&self, index: &IndexName, after: Option<&Cursor>, n: usize) -> Result<Walked> {
        self.0.walk(index, after, n).await
    }

    async fn read(&self, index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
        self.0.read(index, ids).await
    }

    async fn refresh(&self, index: &IndexName) -> Result<()> {
        self.0.refresh(index).await
    }

    async fn drop_index(&self, index: &IndexName) -> Result<()> {
        self.0.drop_index(index).await
    }

    async fn indexes(&self) -> Result<Vec<IndexName>> {
        self.0.indexes().await
    }
}

#[async_trait]
impl Search for Cluster {
    async fn search(
        &self,
        indexes: &[IndexName],
        request: &Authorized<SearchRequest>,
    ) -> Result<SearchResponse> {
        self.0.search(indexes, request).await
    }

    async fn get(
        &self,
        indexes: &[IndexName],
        request: &Authorized<GetRequest>,
    ) -> Result<Vec<Option<(IndexName, Stored)>>> {
        self.0.get(indexes, request).await
    }
}
