//! An engine that does as it is told: delays, failures, lost answers, late writes, crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use instep_core::{
    Applied, Capabilities, Cursor, DocId, Document, Engine, Ensured, Error, IndexName, Mapping, Result,
    Settings, Stored, Ticket, Walked, Write,
};

type Index = BTreeMap<DocId, (Ticket, Option<Document>)>;

/// What it does wrong, in thousandths of calls or writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The call fails and nothing is written.
    pub(crate) refuse: u32,
    /// The call fails although everything is written, some of it later.
    pub(crate) lose_answer: u32,
    /// A write fails for a moment.
    pub(crate) item: u32,
}

pub(crate) struct Scripted {
    capabilities: Capabilities,
    indexes: Arc<Mutex<BTreeMap<IndexName, Index>>>,
    faults: Mutex<Faults>,
    random: AtomicU64,
    pub(crate) delay_us: AtomicU64,
    /// These documents are refused for good.
    pub(crate) poison: Mutex<BTreeSet<String>>,
    /// The next calls fail so.
    pub(crate) failing: Mutex<Vec<Error>>,
    /// What `ensure` answers for an index that is there.
    pub(crate) ensured: Mutex<Ensured>,
    pub(crate) calls: AtomicU32,
    pub(crate) writes: AtomicU64,
    /// Documents of calls under way: no document may be in two.
    flying: Arc<Mutex<BTreeSet<(IndexName, DocId)>>>,
    late: Arc<AtomicU32>,
}

impl Scripted {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Scripted {
            capabilities: Capabilities {
                name: "scripted",
                forgets_deletes: false,
                forgets_when_closed: false,
                stores: true,
                sloppy_phrases: false,
                exact_totals: false,
                exact_decimals: false,
            },
            indexes: Arc::default(),
            faults: Mutex::default(),
            random: AtomicU64::new(seed),
            delay_us: AtomicU64::new(0),
            poison: Mutex::default(),
            failing: Mutex::default(),
            ensured: Mutex::new(Ensured::Unchanged),
            calls: AtomicU32::new(0),
            writes: AtomicU64::new(0),
            flying: Arc::default(),
            late: Arc::default(),
        })
    }

    pub(crate) fn forgetful(seed: u64) -> Arc<Self> {
        let mut engine = Arc::into_inner(Scripted::new(seed)).unwrap();
        engine.capabilities.forgets_deletes = true;
        Arc::new(engine)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    fn chance(&self, thousandths: u32) -> bool {
        self.below(1_000) < u64::from(thousandths)
    }

    fn below(&self, n: u64) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Everything it holds in an index.
    pub(crate) fn documents(&self, index: &IndexName) -> BTreeMap<String, Document> {
        let indexes = self.indexes.lock().unwrap();
        let documents = indexes.get(index).into_iter().flatten();
        documents
            .filter_map(|(id, (_, d))| Some((id.to_string(), d.clone()?)))
            .collect()
    }

    /// Writes behind everybody's back.
    pub(crate) fn tamper(&self, index: &IndexName, id: &str, document: Option<Document>, ticket: Ticket) {
        let id = DocId::parse(id).unwrap();
        let mut indexes = self.indexes.lock().unwrap();
        let index = indexes.entry(index.clone()).or_default();
        match document {
            Some(document) => index.insert(id, (ticket, Some(document))),
            None => index.remove(&id),
        };
    }

    /// Late writes still on their way.
    pub(crate) fn late(&self) -> u32 {
        self.late.load(Ordering::SeqCst)
    }
}

fn put(
    indexes: &Mutex<BTreeMap<IndexName, Index>>,
    name: &IndexName,
    write: &Write,
    remember: bool,
) -> Applied {
    let mut indexes = indexes.lock().unwrap();
    let Some(index) = indexes.get_mut(name) else {
        return Applied::Failed(Error::fatal("no_index", "there is no such index"));
    };
    let ticket = write.ticket();
    if index.get(write.id()).is_some_and(|(there, _)| *there > ticket) {
        return Applied::Superseded;
    }
    match write {
        Write::Put(document, _) => index.insert(write.id().clone(), (ticket, Some(document.clone()))),
        Write::Delete(id, _) if remember => index.insert(id.clone(), (ticket, None)),
        Write::Delete(id, _) => index.remove(id),
    };
    Applied::Done
}

/// Takes the documents of a call out of those under way, also when the call is dropped.
struct Landing {
    flying: Arc<Mutex<BTreeSet<(IndexName, DocId)>>>,
    keys: Vec<(IndexName, DocId)>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flying = self.flying.lock().unwrap();
        self.keys.iter().for_each(|key| {
            flying.remove(key);
        });
    }
}

#[async_trait]
impl Engine for Scripted {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn place(&self) -> Result<String> {
        Ok("scripted".to_owned())
    }

    async fn ensure(&self, index: &IndexName, _: &Mapping, _: &Settings) -> Result<Ensured> {
        let mut indexes = self.indexes.lock().unwrap();
        if !indexes.contains_key(index) {
            indexes.insert(index.clone(), Index::new());
            return Ok(Ensured::Created);
        }
        Ok(*self.ensured.lock().unwrap())
    }

    async fn apply(&self, writes: Vec<(IndexName, Write)>) -> Result<Vec<Applied>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
        let keys: Vec<_> = writes
            .iter()
            .map(|(index, write)| (index.clone(), write.id().clone()))
            .collect();
        for key in &keys {
            assert!(
                self.flying.lock().unwrap().insert(key.clone()),
                "{key:?} has two live writes"
            );
        }
        let _landing = Landing {
            flying: self.flying.clone(),
            keys,
        };
        let delay = self.delay_us.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_micros(self.below(delay) + delay / 2)).await;
        }
        if let Some(error) = self.failing.lock().unwrap().pop() {
            return Err(error);
        }
        let faults = *self.faults.lock().unwrap();
        let remember = !self.capabilities.forgets_deletes;
        if self.chance(faults.refuse) {
            return Err(Error::transient("engine_busy", "the engine is busy"));
        }
        if self.chance(faults.lose_answer) {
            for (name, write) in writes {
                if self.chance(500) {
                    put(&self.indexes, &name, &write, remember);
                    continue;
                }
                let (indexes, late, wait) = (self.indexes.clone(), self.late.clone(), self.below(20));
                late.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    put(&indexes, &name, &write, remember);
                    late.fetch_sub(1, Ordering::SeqCst);
                });
            }
            return Err(Error::transient("connection_cut", "the connection was cut"));
        }
        let poison = self.poison.lock().unwrap().clone();
        let one = |(name, write): &(IndexName, Write)| match write {
            _ if self.chance(faults.item) => {
                Applied::Failed(Error::transient("too_many_requests", "try later"))
            }
            Write::Put(..) if poison.contains(write.id().as_str()) => Applied::Failed(Error::poison(
                "mapping_refused",
                "the mapping refuses the document",
            )),
            Write::Put(..) | Write::Delete(..) => put(&self.indexes, name, write, remember),
        };
        Ok(writes.iter().map(one).collect())
    }

    async fn walk(&self, index: &IndexName, after: Option<&Cursor>, n: usize) -> Result<Walked> {
        let indexes = self.indexes.lock().unwrap();
        let after = after.map_or("", |cursor| cursor.0.as_str());
        let there = indexes.get(index).into_iter().flatten();
        let stored = there
            .filter(|(id, _)| id.as_str() > after)
            .filter_map(|(id, (ticket, d))| stored(id, *ticket, d));
        let documents: Vec<_> = stored.take(n).collect();
        let next = documents
            .last()
            .filter(|_| documents.len() == n)
            .map(|last| Cursor(last.id.to_string()));
        Ok(Walked { documents, next })
    }

    async fn read(&self, index: &IndexName, ids: &[DocId]) -> Result<Vec<Option<Stored>>> {
        let indexes = self.indexes.lock().unwrap();
        let index = indexes.get(index);
        let one = |id: &DocId| index?.get(id).and_then(|(ticket, d)| stored(id, *ticket, d));
        Ok(ids.iter().map(one).collect())
    }

    async fn refresh(&self, _: &IndexName) -> Result<()> {
        Ok(())
    }

    async fn drop_index(&self, index: &IndexName) -> Result<()> {
        self.indexes.lock().unwrap().remove(index);
        *self.ensured.lock().unwrap() = Ensured::Unchanged;
        Ok(())
    }

    async fn indexes(&self) -> Result<Vec<IndexName>> {
        Ok(self.indexes.lock().unwrap().keys().cloned().collect())
    }
}

fn stored(id: &DocId, ticket: Ticket, document: &Option<Document>) -> Option<Stored> {
    let document = document.as_ref()?;
    Some(Stored {
        id: id.clone(),
        readers: document.readers.clone(),
        source: document.source.clone(),
        ticket,
    })
}
