//! An engine that keeps nothing: for benches that measure everything but the engine.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use instep_core::{
    Applied, Capabilities, Cursor, DocId, Engine, Ensured, IndexName, Mapping, Result, Settings, Stored,
    Walked, Write,
};

/// Accepts every write, counts it and forgets it.
pub struct NullEngine {
    capabilities: Capabilities,
    puts: AtomicU64,
    deletes: AtomicU64,
    bytes: AtomicU64,
}

impl NullEngine {
    /// An engine that has counted nothing yet.
    pub fn new() -> Self {
        let capabilities = Capabilities {
            name: "null",
            forgets_deletes: false,
            forgets_when_closed: false,
            stores: false,
            sloppy_phrases: false,
            exact_totals: false,
            exact_decimals: false,
        };
        NullEngine {
            capabilities,
            puts: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Documents put so far.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// Deletes so far.
    pub fn deletes(&self) -> u64 {
        self.deletes.load(Ordering::Relaxed)
    }

    /// The length of the sources of all documents put so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Default for NullEngine {
    fn default() -> Self {
        NullEngine::new()
    }
}

#[async_trait]
impl Engine for NullEngine {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn place(&self) -> Result<String> {
        Ok(String::new())
    }

    async fn ensure(&self, _index: &IndexName, _mapping: &Mapping, _settings: &Settings) -> Result<Ensured> {
        Ok(Ensured::Unchanged)
    }

    async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>> {
        for (_, write) in &writes {
            match write {
                Write::Put(document, _) => {
                    self.puts.fetch_add(1, Ordering::Relaxed);
                    self.bytes
                        .fetch_add(document.source.len() as u64, Ordering::Relaxed);
                }
                Write::Delete(..) => {
                    self.deletes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(writes.iter().map(|_| Applied::Done).collect())
    }

    async fn walk(&self, _index: &IndexName, _after: Option<&Cursor>, _n: usize) -> Result<Walked> {
        Ok(Walked {
            documents: Vec::new(),
            next: None,
        })
    }

    async fn read(&self, _index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
        Ok(ids.iter().map(|_| None).collect())
    }

    async fn refresh(&self, _index: &IndexName) -> Result<()> {
        Ok(())
    }

    async fn drop_index(&self, _index: &IndexName) -> Result<()> {
        Ok(())
    }

    async fn indexes(&self) -> Result<Vec<IndexName>> {
        Ok(Vec::new())
    }
}
