//! Proof that an index and its source agree, and what does not.
//!
//! Walks the source's keys in chunks and compares what the builder makes of each with what the engine holds, then walks
//! the engine's documents and asks the source for each. The kinds of difference:
//!
//! - **missing**: the row is there, the document is not;
//! - **orphan**: the document is there, but its row is gone, or cannot be built any more;
//! - **stale**: both are there, with the same readers, and the document has the fields that its definition gives it, with
//!   other content than the rows have now: an update that was missed;
//! - **different**: the document's readers are others than the rows say, or its source is not what any build under this
//!   definition writes (no JSON object, or a field that the definition does not have): a late update alone does not
//!   explain the latter, and the former decides who may see it.
//!
//! A change on its way is no difference: what differs is looked at again until the set has passed what the log held,
//! and is reported only when neither the rows nor the document changed between two looks. A document that changes at
//! every look is counted as unsettled.
//!
//! Verifying reads; it repairs by touching the documents, so that a repair goes the way of every change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use instep_core::{
    Builder, Built, ChangeLog, Collection, CollectionName, DocId, DocKey, Document, Engine, Error, Fault,
    Language, Result, ResultExt, SetName, SetState, SourceName, Stored, Ticket, Touch,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::indexer::Partition;
use crate::scan::{source_keys, walked};
use crate::signal::SignalledLog;

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The row is there, the document is not.
    Missing,
    /// The document is there, its row is not, or cannot be built.
    Orphan,
    /// The document has an older state of its fields.
    Stale,
    /// The document has other readers than its rows say, or a source that no build writes.
    Different,
}

/// A document that is not as its rows say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What is wrong.
    pub kind: DifferenceKind,
    /// The document's `_id`.
    pub id: String,
    /// The log knows it as a retry or a dead letter: why.
    pub trouble: Option<String>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Rows that were compared.
    pub rows: u64,
    /// Documents that were compared from the engine's side.
    pub documents: u64,
    /// Rows that cannot be built, or that the engine refuses, and that have no document: dead letters, as they should be.
    pub rejected: u64,
    /// Documents that changed at every look.
    pub unsettled: u64,
    /// How often each kind was found.
    pub counts: BTreeMap<DifferenceKind, u64>,
    /// The differences, at most [`VerifyOptions::listed`] of them.
    pub differences: Vec<Difference>,
    /// Documents that were touched to repair them.
    pub repaired: u64,
}

impl Verified {
    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty() && self.unsettled == 0
    }

    fn add(&mut self, difference: Difference, listed: usize) {
        *self.counts.entry(difference.kind).or_default() += 1;
        if self.differences.len() < listed {
            self.differences.push(difference);
        }
    }
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Touch what differs.
    pub repair: bool,
    /// Go on where an interrupted verification of the same definition stopped.
    pub resume: bool,
    /// Keys in a chunk.
    pub chunk: usize,
    /// How many differences are listed; all are counted.
    pub listed: usize,
    /// How long to wait for the set to pass what the log held, before what differs is reported all the same.
    pub patience: Duration,
    /// Between two looks at what differs.
    pub pause: Duration,
    /// Looks at a document that keeps changing, before it counts as unsettled.
    pub looks: u32,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            repair: false,
            resume: false,
            chunk: 1_000,
            listed: 1_000,
            patience: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            looks: 20,
        }
    }
}

/// Where an interrupted verification stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    fingerprint: String,
    engine_side: bool,
    after: Option<String>,
    found: Verified,
}

/// Verifies one collection in one set.
pub struct Verify {
    collection: CollectionName,
    source: SourceName,
    fingerprint: String,
    fields: HashSet<String>,
    set: SetName,
    partitions: Arc<[Partition]>,
    engine: Arc<dyn Engine>,
    builder: Arc<dyn Builder>,
    log: Arc<SignalledLog>,
    options: VerifyOptions,
}

/// A document as both sides have it.
#[derive(Clone, Debug, PartialEq)]
struct Look {
    built: Option<Result<Document, ()>>,
    stored: Option<Stored>,
    /// It also lies in a partition in which it does not belong.
    misplaced: bool,
}

impl Verify {
    /// A verification of this collection in this set of this engine.
    pub fn new(
        collection: &Collection,
        set: &SetName,
        engine: Arc<dyn Engine>,
        builder: Arc<dyn Builder>,
        log: Arc<SignalledLog>,
        options: VerifyOptions,
    ) -> Self {
        Verify {
            partitions: Partition::of(set, collection),
            collection: collection.name.clone(),
            source: collection.source.clone(),
            fingerprint: collection.fingerprint(),
            fields: collection.fields.iter().map(|field| field.name.clone()).collect(),
            set: set.clone(),
            engine,
            builder,
            log,
            options,
        }
    }

    /// Compares everything. An index that is still being filled by a scan is waited for, and refused
    /// (`still_scanning`) when that takes longer than our patience. `progress` is told what was found so far, after each chunk; an interrupted run can be
    /// resumed from the last chunk it was told of.
    pub async fn run(&self, progress: impl Fn(&Verified) + Send) -> Result<Verified> {
        if !self.engine.capabilities().stores {
            let message = format!(
                "the engine `{}` keeps no documents",
                self.engine.capabilities().name
            );
            return Err(Error::invalid("nothing_to_verify", message));
        }
        self.wait_for_scans().await?;
        let mut at = self.resumed().await?;
        while !at.engine_side {
            let after = at.after.as_deref().map(DocId::parse).transpose()?;
            let chunk = source_keys(&*self.builder, &self.collection, after, self.options.chunk)
                .await
                .context(|| format!("verifying `{}`", self.collection))?;
            at.found.rows += chunk.ids.len() as u64;
            self.compare(&chunk.ids, Side::Source, &mut at.found).await?;
            (at.after, at.engine_side) = (chunk.after, chunk.ended);
            if at.engine_side {
                at.after = None;
            }
            self.remember(&at).await?;
            progress(&at.found);
        }
        loop {
            let walked = walked(
                &*self.engine,
                &self.partitions,
                at.after.as_deref(),
                self.options.chunk,
            )
            .await?;
            at.found.documents += walked.ids.len() as u64;
            self.compare(&walked.ids, Side::Engine, &mut at.found).await?;
            if walked.ended {
                break;
            }
            at.after = walked.after;
            self.remember(&at).await?;
            progress(&at.found);
        }
        self.log.set_memo(&self.memo(), None).await?;
        progress(&at.found);
        Ok(at.found)
    }

    async fn wait_for_scans(&self) -> Result<()> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let scans = self.log.scans(&self.set).await?;
            if !scans
                .iter()
                .any(|scan| scan.collection == self.collection && !scan.finished)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let message = format!(
                    "`{}` is still being scanned into set `{}`",
                    self.collection, self.set
                );
                return Err(Error::new(Fault::Conflict, "still_scanning", message)
                    .with_remedy("let `instep serve` or `instep sync --once` finish the scan, then verify"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn memo(&self) -> String {
        format!("verify/{}/{}", self.set, self.collection)
    }

    async fn resumed(&self) -> Result<Progress> {
        let fresh = || Progress {
            fingerprint: self.fingerprint.clone(),
            ..Progress::default()
        };
        if !self.options.resume {
            return Ok(fresh());
        }
        let text = self.log.memo(&self.memo()).await?;
        let known = text.and_then(|text| serde_json::from_str::<Progress>(&text).ok());
        Ok(known
            .filter(|known| known.fingerprint == self.fingerprint)
            .unwrap_or_else(fresh))
    }

    async fn remember(&self, at: &Progress) -> Result<()> {
        let text = serde_json::to_string(at).expect("progress is JSON");
        self.log.set_memo(&self.memo(), Some(&text)).await
    }

    /// Compares these documents, and looks again at those that differ until it is sure.
    async fn compare(&self, ids: &[DocId], side: Side, found: &mut Verified) -> Result<()> {
        let looks = self.look(ids).await?;
        let mut suspects: Vec<(DocId, Look)> = Vec::new();
        for (id, look) in ids.iter().zip(looks) {
            if side == Side::Source
                && matches!(
                    look,
                    Look {
                        built: Some(Err(())),
                        stored: None,
                        ..
                    }
                )
            {
                found.rejected += 1;
            }
            if self.kind(&look).is_some_and(|kind| side.reports(kind)) {
                suspects.push((id.clone(), look));
            }
        }
        let mut sure: Vec<(DocId, DifferenceKind)> = Vec::new();
        for _ in 0..self.options.looks {
            if suspects.is_empty() {
                break;
            }
            self.wait_for_the_set().await?;
            tokio::time::sleep(self.options.pause).await;
            let ids: Vec<DocId> = suspects.iter().map(|(id, _)| id.clone()).collect();
            let looks = self.look(&ids).await?;
            let mut changing = Vec::new();
            for ((id, before), look) in suspects.into_iter().zip(looks) {
                match self.kind(&look).filter(|kind| side.reports(*kind)) {
                    None => {}
                    Some(kind) if before == look => sure.push((id, kind)),
                    Some(_) => changing.push((id, look)),
                }
            }
            suspects = changing;
        }
        found.unsettled += suspects.len() as u64;
        self.report(sure, found).await
    }

    /// A document that lacks its row is found from the engine's side, everything else from the source's: each once.
    fn kind(&self, look: &Look) -> Option<DifferenceKind> {
        match (&look.built, &look.stored) {
            (Some(Ok(_)), Some(_)) if look.misplaced => Some(DifferenceKind::Orphan),
            (None | Some(Err(())), None) => None,
            (None | Some(Err(())), Some(_)) => Some(DifferenceKind::Orphan),
            (Some(Ok(_)), None) => Some(DifferenceKind::Missing),
            (Some(Ok(built)), Some(stored)) if built.readers != stored.readers => {
                Some(DifferenceKind::Different)
            }
            (Some(Ok(built)), Some(stored)) if built.source == stored.source => None,
            (Some(Ok(_)), Some(stored)) if !self.is_well_formed(&stored.source) => {
                Some(DifferenceKind::Different)
            }
            (Some(Ok(_)), Some(_)) => Some(DifferenceKind::Stale),
        }
    }

    fn is_well_formed(&self, source: &str) -> bool {
        match serde_json::from_str(source) {
            Ok(serde_json::Value::Object(object)) => object.keys().all(|name| self.fields.contains(name)),
            Ok(_) | Err(_) => false,
        }
    }

    async fn look(&self, ids: &[DocId]) -> Result<Vec<Look>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // The engine first: what it lacks because a change is on its way, the second look finds.
        let real: Vec<DocId> = ids.iter().filter(|id| !id.is_stand_in()).cloned().collect();
        let mut stored: HashMap<DocId, Vec<(Language, Stored)>> = HashMap::new();
        for partition in self.partitions.iter() {
            let read = self.engine.read(&partition.index, &real).await?;
            for (id, found) in real.iter().zip(read) {
                if let Some(found) = found {
                    let places = stored.entry(id.clone()).or_default();
                    places.push((partition.language.clone(), found));
                }
            }
        }
        let built = self.builder.build(&self.collection, ids).await?;
        let one = |(id, built): (&DocId, Built)| {
            let built = match built {
                Built::Document(document, _) => Some(Ok(document)),
                Built::Rejected(..) => Some(Err(())),
                Built::Gone => None,
            };
            let mut places = stored.remove(id).unwrap_or_default();
            let own = match &built {
                Some(Ok(document)) => places
                    .iter()
                    .position(|(language, _)| *language == document.language),
                Some(Err(())) | None => (!places.is_empty()).then_some(0),
            };
            let own = own.map(|at| places.swap_remove(at).1);
            Look {
                built,
                stored: own,
                misplaced: !places.is_empty(),
            }
        };
        Ok(ids.iter().zip(built).map(one).collect())
    }

    /// Waits until the set has passed what the log holds now; not for a set that does not follow, nor for ever.
    async fn wait_for_the_set(&self) -> Result<()> {
        let head = self.log.head().await?;
        let deadline = Instant::now() + self.options.patience;
        let mut signal = self.log.watch();
        loop {
            signal.borrow_and_update();
            let sets = self.log.status().await?;
            let set = sets.iter().find(|status| status.set == self.set);
            if set.is_none_or(|set| set.position >= head || set.state != SetState::Following)
                || Instant::now() >= deadline
            {
                return Ok(());
            }
            tokio::select! {
                _ = signal.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    async fn report(&self, sure: Vec<(DocId, DifferenceKind)>, found: &mut Verified) -> Result<()> {
        if sure.is_empty() {
            return Ok(());
        }
        let named = |id: &DocId| DocKey {
            collection: self.collection.clone(),
            id: id.clone(),
        };
        let all: Vec<DocKey> = sure.iter().map(|(id, _)| named(id)).collect();
        let troubles = self.log.trouble_of(&self.set, &all).await?;
        let mut keys = Vec::new();
        for ((id, kind), trouble) in sure.into_iter().zip(troubles) {
            // The engine refuses it, and the log knows: as good as a row that cannot be built.
            let refused = trouble.as_ref().is_some_and(|trouble| trouble.next_ms.is_none());
            if kind == DifferenceKind::Missing && refused {
                found.rejected += 1;
                continue;
            }
            keys.push(named(&id));
            let trouble = trouble.map(|trouble| trouble.code);
            found.add(
                Difference {
                    kind,
                    id: id.to_string(),
                    trouble,
                },
                self.options.listed,
            );
        }
        if self.options.repair {
            keys.sort();
            keys.dedup();
            found.repaired += keys.len() as u64;
            if self.partitions.len() > 1 {
                // Where they lie may be what is wrong.
                self.log.forget_placements(&self.set, &keys, Ticket(0)).await?;
            }
            let touches: Vec<Touch> = keys.into_iter().map(Touch::Document).collect();
            self.log.append(&self.source, None, &touches).await?;
        }
        Ok(())
    }
}

/// Which walk asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Engine,
}

impl Side {
    fn reports(self, kind: DifferenceKind) -> bool {
        match kind {
            DifferenceKind::Missing | DifferenceKind::Stale | DifferenceKind::Different => {
                self == Side::Source
            }
            DifferenceKind::Orphan => self == Side::Engine,
        }
    }
}
