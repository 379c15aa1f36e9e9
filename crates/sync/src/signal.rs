//! A log that tells this process's tasks when it changed, so that an idle indexer starts at once instead of polling.
//!
//! Everything that writes to the log of this process goes through one [`SignalledLog`]. Other processes' writes are
//! found by the tasks' slow polls.

use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Appended, ChangeLog, CollectionName, DeadFilter, DeadLetter, DeadReason, DocKey, FanOut, Language, Owned,
    Pausable, Paused, Position, Result, RowKey, Scan, Seq, SetName, SetState, SetStatus, Settlement,
    SourceName, Taken, Ticket, Touch, Trace, Trouble,
};
use tokio::sync::watch;

use crate::metrics;

/// Counts what was written, by what waits for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Touches of documents.
    pub(crate) touches: u64,
    /// Starts and restarts of scans.
    pub(crate) scans: u64,
    /// Fan-outs.
    pub(crate) fan_outs: u64,
    /// Changes of sets' states.
    pub(crate) states: u64,
    /// Settlements.
    pub(crate) settled: u64,
}

/// A change log, with a signal after each write. Counts touches for the metrics.
pub struct SignalledLog {
    log: Arc<dyn ChangeLog>,
    signal: watch::Sender<Signal>,
}

impl SignalledLog {
    /// This log, with a signal after each write that goes through here.
    pub fn new(log: Arc<dyn ChangeLog>) -> Self {
        SignalledLog {
            log,
            signal: watch::Sender::new(Signal::default()),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// Makes everybody look: something that is not in the log changed, such as a source that is followed now.
    pub(crate) fn poke(&self) {
        self.signal.send_modify(|signal| signal.scans += 1);
    }

    fn touched(&self, appended: &Appended, touches: &[Touch]) {
        let fan_outs = touches
            .iter()
            .filter(|touch| matches!(touch, Touch::FanOut(_)))
            .count() as u64;
        // A row that too many documents read becomes a scan.
        let scans = touches
            .iter()
            .any(|touch| matches!(touch, Touch::Scan(_) | Touch::Row(_)));
        metrics::touched(appended, fan_outs);
        self.signal.send_modify(|signal| {
            signal.touches += u64::from(appended.touched > 0);
            signal.fan_outs += u64::from(fan_outs > 0);
            signal.scans += u64::from(scans);
        });
    }
}

#[async_trait]
impl ChangeLog for SignalledLog {
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
        self.touched(&appended, touches);
        Ok(appended)
    }

    async fn fan_outs(&self, n: usize) -> Result<Vec<(u64, FanOut)>> {
        self.log.fan_outs(n).await
    }

    async fn expanded(&self, id: u64, left: Option<&FanOut>, touches: &[Touch]) -> Result<Appended> {
        let appended = self.log.expanded(id, left, touches).await?;
        self.touched(&appended, touches);
        Ok(appended)
    }

    async fn register(&self, set: &SetName, collections: &[(CollectionName, String)]) -> Result<()> {
        self.log.register(set, collections).await?;
        self.signal.send_modify(|signal| signal.scans += 1);
        Ok(())
    }

    async fn own(&self, set: &SetName, owner: &str) -> Result<Owned> {
        self.log.own(set, owner).await
    }

    async fn take(&self, set: &Owned, after: Seq, n: usize) -> Result<Taken> {
        self.log.take(set, after, n).await
    }

    async fn settle(&self, set: &Owned, done: &Settlement) -> Result<Appended> {
        let again = self.log.settle(set, done).await?;
        self.touched(&again, &[]);
        self.signal.send_modify(|signal| signal.settled += 1);
        Ok(again)
    }

    async fn rescan(
        &self,
        set: &SetName,
        collections: &[(CollectionName, String)],
        both: bool,
    ) -> Result<()> {
        self.log.rescan(set, collections, both).await?;
        self.signal.send_modify(|signal| signal.scans += 1);
        Ok(())
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
        self.log.set_state(set, state).await?;
        self.signal.send_modify(|signal| signal.states += 1);
        Ok(())
    }

    async fn pause(&self, what: &Pausable) -> Result<bool> {
        let done = self.log.pause(what).await?;
        self.signal.send_modify(|signal| signal.states += 1);
        Ok(done)
    }

    async fn resume(&self, what: &Pausable) -> Result<bool> {
        let done = self.log.resume(what).await?;
        self.signal.send_modify(|signal| signal.states += 1);
        Ok(done)
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
