//! The change log with a clock beside it: when each document's touch became durable, and when it was settled.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use instep_core::{
    Appended, ChangeLog, CollectionName, DeadFilter, DeadLetter, DeadReason, DocKey, FanOut, Language, Owned,
    Pausable, Paused, Position, Result, RowKey, Scan, Seq, SetName, SetState, SetStatus, Settlement,
    SourceName, Taken, Ticket, Touch, Trace, Trouble,
};

use crate::clock::now_us;

/// When things happened to documents, by id, in microseconds since 1970. Each document counts once.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) logged: HashMap<String, u64>,
    pub(crate) settled: HashMap<String, u64>,
    /// Logged, and not seen by a search yet.
    pub(crate) unseen: BTreeMap<u64, String>,
    waiting: BTreeMap<u64, String>,
}

/// Passes everything to a log, and remembers when it was done.
pub(crate) struct Recorded {
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) times: Arc<Mutex<Times>>,
}

impl Recorded {
    fn appended(&self, appended: &Appended, touches: &[Touch]) {
        let now = now_us();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let first = appended.head.0 - appended.touched + 1;
        let documents = touches.iter().filter_map(|touch| match touch {
            Touch::Document(key) => Some(key.id.as_str()),
            Touch::FanOut(_) | Touch::Scan(_) | Touch::Row(_) => None,
        });
        for (seq, id) in (first..).zip(documents) {
            times.logged.insert(id.to_owned(), now);
            times.waiting.insert(seq, id.to_owned());
            times.unseen.insert(seq, id.to_owned());
        }
    }
}

#[async_trait]
impl ChangeLog for Recorded {
    async fn position(&self, source: &SourceName) -> Result<Option<Position>> {
        self.log.position(source).await
    }

    async fn forget_position(&self, source: &SourceName) -> Result<()> {
        self.log.forget_position(source).await
    }

    async fn append(
        &self,
        source: &SourceName,
        upto: Option<&Position>,
        touches: &[Touch],
    ) -> Result<Appended> {
        let appended = self.log.append(source, upto, touches).await?;
        self.appended(&appended, touches);
        Ok(appended)
    }

    async fn fan_outs(&self, n: usize) -> Result<Vec<(u64, FanOut)>> {
        self.log.fan_outs(n).await
    }

    async fn expanded(&self, id: u64, left: Option<&FanOut>, touches: &[Touch]) -> Result<Appended> {
        self.log.expanded(id, left, touches).await
    }

    async fn register(&self, set: &SetName, collections: &[(CollectionName, String)]) -> Result<()> {
        self.log.register(set, collections).await
    }

    async fn own(&self, set: &SetName, owner: &str) -> Result<Owned> {
        self.log.own(set, owner).await
    }

    async fn take(&self, set: &Owned, after: Seq, n: usize) -> Result<Taken> {
        self.log.take(set, after, n).await
    }

    async fn settle(&self, set: &Owned, done: &Settlement) -> Result<Appended> {
        let again = self.log.settle(set, done).await?;
        let now = now_us();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let left = times.waiting.split_off(&(done.position.0 + 1));
        let settled = std::mem::replace(&mut times.waiting, left);
        times.settled.extend(settled.into_values().map(|id| (id, now)));
        Ok(again)
    }

    async fn rescan(
        &self,
        set: &SetName,
        collections: &[(CollectionName, String)],
        both: bool,
    ) -> Result<()> {
        self.log.rescan(set, collections, both).await
    }

    async fn scans(&self, set: &SetName) -> Result<Vec<Scan>> {
        self.log.scans(set).await
    }

    async fn placements(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Language>>> {
        self.log.placements(set, keys).await
    }

    async fn forget_placements(&self, set: &SetName, keys: &[DocKey], ticket: Ticket) -> Result<()> {
        self.log.forget_placements(set, keys, ticket).await
    }

    async fn due(&self, set: &SetName, now_ms: i64, n: usize) -> Result<Vec<Trouble>> {
        self.log.due(set, now_ms, n).await
    }

    async fn troubles(&self, set: &SetName, after: Option<&DocKey>, n: usize) -> Result<Vec<Trouble>> {
        self.log.troubles(set, after, n).await
    }

    async fn trouble_of(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Trouble>>> {
        self.log.trouble_of(set, keys).await
    }

    async fn dead_letters(
        &self,
        set: &SetName,
        wanted: &DeadFilter,
        after: Option<&DocKey>,
        n: usize,
    ) -> Result<Vec<DeadLetter>> {
        self.log.dead_letters(set, wanted, after, n).await
    }

    async fn dead_reasons(&self, set: &SetName) -> Result<Vec<DeadReason>> {
        self.log.dead_reasons(set).await
    }

    async fn discard(&self, set: &SetName, keys: &[DocKey]) -> Result<u64> {
        self.log.discard(set, keys).await
    }

    async fn entry_of(&self, key: &DocKey) -> Result<Option<Seq>> {
        self.log.entry_of(key).await
    }

    async fn trace(&self, key: &DocKey, n: usize) -> Result<Trace> {
        self.log.trace(key, n).await
    }

    async fn readers_of(&self, row: &RowKey, n: usize) -> Result<Vec<DocKey>> {
        self.log.readers_of(row, n).await
    }

    async fn reads_of(&self, set: &SetName, key: &DocKey) -> Result<Vec<RowKey>> {
        self.log.reads_of(set, key).await
    }

    async fn set_state(&self, set: &SetName, state: &SetState) -> Result<()> {
        self.log.set_state(set, state).await
    }

    async fn pause(&self, what: &Pausable) -> Result<bool> {
        self.log.pause(what).await
    }

    async fn resume(&self, what: &Pausable) -> Result<bool> {
        self.log.resume(what).await
    }

    async fn paused(&self) -> Result<Vec<Paused>> {
        self.log.paused().await
    }

    async fn status(&self) -> Result<Vec<SetStatus>> {
        self.log.status().await
    }

    async fn head(&self) -> Result<Seq> {
        self.log.head().await
    }

    async fn forget(&self) -> Result<u64> {
        self.log.forget().await
    }

    async fn memo(&self, name: &str) -> Result<Option<String>> {
        self.log.memo(name).await
    }

    async fn set_memo(&self, name: &str, text: Option<&str>) -> Result<()> {
        self.log.set_memo(name, text).await
    }
}
