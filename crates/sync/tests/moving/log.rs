//! The real log, which fails now and then when told to, and is checked at every settlement: touches are conserved.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use async_trait::async_trait;
use instep_core::{
    Appended, ChangeLog, CollectionName, DeadFilter, DeadLetter, DeadReason, DocKey, Error, FanOut, Language,
    Owned, Pausable, Paused, Position, Result, RowKey, Scan, Seq, SetName, SetState, SetStatus, Settlement,
    SourceName, Taken, Ticket, Touch, Trace, Trouble,
};
use instep_store::SqliteLog;

pub(crate) struct Checked {
    pub(crate) log: SqliteLog,
    /// In thousandths of settlements and takes.
    pub(crate) faults: AtomicU32,
    random: AtomicU64,
    pub(crate) settlements: AtomicU64,
    pub(crate) appends: AtomicU64,
    /// No append is done, nor refused.
    pub(crate) holds_appends: AtomicBool,
    /// The same of settlements.
    pub(crate) holds_settlements: AtomicBool,
}

impl Checked {
    pub(crate) fn new(log: SqliteLog, seed: u64) -> Self {
        Checked {
            log,
            faults: AtomicU32::new(0),
            random: AtomicU64::new(seed),
            settlements: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            holds_appends: AtomicBool::new(false),
            holds_settlements: AtomicBool::new(false),
        }
    }

    fn fails(&self) -> Result<()> {
        let drawn = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let drawn = (drawn ^ (drawn >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33;
        match drawn % 1_000 < u64::from(self.faults.load(Ordering::Relaxed)) {
            true => Err(Error::transient("log_busy", "the log is busy")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl ChangeLog for Checked {
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
        let keys = touches.iter().filter_map(|touch| match touch {
            Touch::Document(key) => Some(key),
            Touch::FanOut(_) | Touch::Scan(_) | Touch::Row(_) => None,
        });
        assert!(keys.is_sorted_by(|a, b| a < b), "touches are sorted and distinct");
        self.appends.fetch_add(1, Ordering::Relaxed);
        if self.holds_appends.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.fails()?;
        self.log.append(source, upto, touches).await
    }
    async fn fan_outs(&self, n: usize) -> Result<Vec<(u64, FanOut)>> {
        self.log.fan_outs(n).await
    }
    async fn expanded(&self, id: u64, left: Option<&FanOut>, touches: &[Touch]) -> Result<Appended> {
        self.fails()?;
        self.log.expanded(id, left, touches).await
    }
    async fn register(&self, set: &SetName, collections: &[(CollectionName, String)]) -> Result<()> {
        self.log.register(set, collections).await
    }
    async fn own(&self, set: &SetName, owner: &str) -> Result<Owned> {
        self.log.own(set, owner).await
    }
    async fn take(&self, set: &Owned, after: Seq, n: usize) -> Result<Taken> {
        self.fails()?;
        self.log.take(set, after, n).await
    }
    async fn settle(&self, set: &Owned, done: &Settlement) -> Result<Appended> {
        while self.holds_settlements.load(Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.fails()?;
        let again = self.log.settle(set, done).await?;
        self.settlements.fetch_add(1, Ordering::Relaxed);
        for status in self.log.status().await? {
            status.counts.conserved().unwrap();
        }
        // The answer is lost: the same settlement comes again.
        self.fails()?;
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
