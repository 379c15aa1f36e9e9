//! The change log in one SQLite file.
//!
//! What was answered is on the disk (`synchronous = FULL`), also after kill -9 or a power cut. One process at a time
//! holds the file; inside it one thread writes and one reads. The file can be read with `sqlite3` at any time.
//!
//! Left to others: what is in flight (the owner's memory), and when to forget, retry or scan.

mod append;
mod dead;
mod failure;
mod file;
mod journal;
mod number;
mod pause;
mod placement;
mod read;
mod reads;
mod row_key;
mod scans;
mod sets;
mod settle;
mod thread;
mod tickets;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Appended, ChangeLog, CollectionName, DeadFilter, DeadLetter, DeadReason, DocKey, FanOut, Language, Owned,
    Pausable, Paused, Position, Result, RowKey, Scan, Seq, SetName, SetState, SetStatus, Settlement,
    SourceName, Taken, Ticket, Touch, Trace, Trouble,
};

use thread::{Desk, Thread};
use tickets::Tickets;

/// The time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The change log in one SQLite file.
///
/// Calls may be made from any task or thread; those that write at the same time share one fsync. A call whose future
/// is dropped may still take effect. Dropping the log finishes the calls that were made, then lets go of the file.
pub struct SqliteLog {
    // Dropped in this order: the reader's connection closes before the writer's, which ends the WAL.
    reader: Thread,
    writer: Thread,
}

impl SqliteLog {
    /// Opens the state file, makes it when there is none (its directory must exist), and brings an older version up
    /// to this one.
    ///
    /// Refused by name, before anything is written to it: a file that another process has open (`state_in_use`), a
    /// damaged one or no database (`state_corrupt`), another program's database (`state_foreign`), and one that a
    /// newer version wrote (`state_newer`).
    pub fn open(path: impl AsRef<Path>, clock: Clock) -> Result<SqliteLog> {
        let held = file::hold(path.as_ref())?;
        Self::opened(path.as_ref(), clock, Some(held))
    }

    /// Opens a state file that exists, beside a process that may have it open: to look, and to append touches or write
    /// memos. Never own a set through it: that is for the one process that holds the file.
    pub fn open_beside(path: impl AsRef<Path>, clock: Clock) -> Result<SqliteLog> {
        Self::opened(path.as_ref(), clock, None)
    }

    fn opened(path: &Path, clock: Clock, held: Option<file::Held>) -> Result<SqliteLog> {
        let conn = file::open_writer(path)?;
        let reader = file::open_reader(path)?;
        let desk = Desk {
            conn,
            tickets: Tickets::new(clock),
            held,
        };
        Ok(SqliteLog {
            reader: Thread::reading(reader)?,
            writer: Thread::writing(desk)?,
        })
    }
}

#[async_trait]
impl ChangeLog for SqliteLog {
    async fn position(&self, source: &SourceName) -> Result<Option<Position>> {
        let source = source.clone();
        let read = move |desk: &mut Desk| read::position(&desk.conn, &source);
        self.reader.call(read).await
    }

    async fn forget_position(&self, source: &SourceName) -> Result<()> {
        let source = source.clone();
        self.writer
            .call(move |desk| append::forget_position(&desk.conn, &source))
            .await
    }

    async fn append(
        &self,
        source: &SourceName,
        upto: Option<&Position>,
        touches: &[Touch],
    ) -> Result<Appended> {
        let (source, upto, touches) = (source.clone(), upto.cloned(), touches.to_vec());
        let write = move |desk: &mut Desk| {
            append::append(
                &desk.conn,
                desk.tickets.now_ms(),
                &source,
                upto.as_ref(),
                &touches,
            )
        };
        self.writer.call(write).await
    }

    async fn fan_outs(&self, n: usize) -> Result<Vec<(u64, FanOut)>> {
        let read = move |desk: &mut Desk| read::fan_outs(&desk.conn, n);
        self.reader.call(read).await
    }

    async fn expanded(&self, id: u64, left: Option<&FanOut>, touches: &[Touch]) -> Result<Appended> {
        let (left, touches) = (left.cloned(), touches.to_vec());
        let write = move |desk: &mut Desk| {
            append::expanded(&desk.conn, desk.tickets.now_ms(), id, left.as_ref(), &touches)
        };
        self.writer.call(write).await
    }

    async fn register(&self, set: &SetName, collections: &[(CollectionName, String)]) -> Result<()> {
        let (set, collections) = (set.clone(), collections.to_vec());
        let write = move |desk: &mut Desk| sets::register(&desk.conn, &set, &collections);
        self.writer.call(write).await
    }

    async fn own(&self, set: &SetName, owner: &str) -> Result<Owned> {
        let (set, owner) = (set.clone(), owner.to_owned());
        let write = move |desk: &mut Desk| sets::own(&desk.conn, &set, &owner);
        self.writer.call(write).await
    }

    async fn take(&self, set: &Owned, after: Seq, n: usize) -> Result<Taken> {
        let set = set.clone();
        let write = move |desk: &mut Desk| sets::take(desk, &set, after, n);
        self.writer.call(write).await
    }

    async fn settle(&self, set: &Owned, done: &Settlement) -> Result<Appended> {
        let (set, done) = (set.clone(), done.clone());
        let write = move |desk: &mut Desk| settle::settle(&desk.conn, desk.tickets.now_ms(), &set, &done);
        self.writer.call(write).await
    }

    async fn rescan(
        &self,
        set: &SetName,
        collections: &[(CollectionName, String)],
        both: bool,
    ) -> Result<()> {
        let (set, collections) = (set.clone(), collections.to_vec());
        let write = move |desk: &mut Desk| sets::rescan(&desk.conn, &set, &collections, both);
        self.writer.call(write).await
    }

    async fn scans(&self, set: &SetName) -> Result<Vec<Scan>> {
        let set = set.clone();
        let read = move |desk: &mut Desk| read::scans(&desk.conn, &set);
        self.reader.call(read).await
    }

    async fn placements(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Language>>> {
        let (set, keys) = (set.clone(), keys.to_vec());
        let read = move |desk: &mut Desk| placement::of(&desk.conn, &set, &keys);
        self.reader.call(read).await
    }

    async fn forget_placements(&self, set: &SetName, keys: &[DocKey], ticket: Ticket) -> Result<()> {
        let (set, keys) = (set.clone(), keys.to_vec());
        let write = move |desk: &mut Desk| placement::forget(&desk.conn, &set, &keys, ticket);
        self.writer.call(write).await
    }

    async fn due(&self, set: &SetName, now_ms: i64, n: usize) -> Result<Vec<Trouble>> {
        let set = set.clone();
        let read = move |desk: &mut Desk| read::due(&desk.conn, &set, now_ms, n);
        self.reader.call(read).await
    }

    async fn troubles(&self, set: &SetName, after: Option<&DocKey>, n: usize) -> Result<Vec<Trouble>> {
        let (set, after) = (set.clone(), after.cloned());
        let read = move |desk: &mut Desk| read::troubles(&desk.conn, &set, after.as_ref(), n);
        self.reader.call(read).await
    }

    async fn trouble_of(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Trouble>>> {
        let (set, keys) = (set.clone(), keys.to_vec());
        let read = move |desk: &mut Desk| read::trouble_of(&desk.conn, &set, &keys);
        self.reader.call(read).await
    }

    async fn dead_letters(
        &self,
        set: &SetName,
        wanted: &DeadFilter,
        after: Option<&DocKey>,
        n: usize,
    ) -> Result<Vec<DeadLetter>> {
        let (set, wanted, after) = (set.clone(), wanted.clone(), after.cloned());
        let read = move |desk: &mut Desk| dead::dead_letters(&desk.conn, &set, &wanted, after.as_ref(), n);
        self.reader.call(read).await
    }

    async fn dead_reasons(&self, set: &SetName) -> Result<Vec<DeadReason>> {
        let set = set.clone();
        let read = move |desk: &mut Desk| dead::reasons(&desk.conn, &set);
        self.reader.call(read).await
    }

    async fn discard(&self, set: &SetName, keys: &[DocKey]) -> Result<u64> {
        let (set, keys) = (set.clone(), keys.to_vec());
        let write = move |desk: &mut Desk| dead::discard(&desk.conn, desk.tickets.now_ms(), &set, &keys);
        self.writer.call(write).await
    }

    async fn entry_of(&self, key: &DocKey) -> Result<Option<Seq>> {
        let key = key.clone();
        let read = move |desk: &mut Desk| read::entry_of(&desk.conn, &key);
        self.reader.call(read).await
    }

    async fn trace(&self, key: &DocKey, n: usize) -> Result<Trace> {
        let key = key.clone();
        let read = move |desk: &mut Desk| journal::trace(&desk.conn, &key, n);
        self.reader.call(read).await
    }

    async fn readers_of(&self, row: &RowKey, n: usize) -> Result<Vec<DocKey>> {
        let row = row.clone();
        let read = move |desk: &mut Desk| reads::readers_of(&desk.conn, &row, n);
        self.reader.call(read).await
    }

    async fn reads_of(&self, set: &SetName, key: &DocKey) -> Result<Vec<RowKey>> {
        let (set, key) = (set.clone(), key.clone());
        let read = move |desk: &mut Desk| reads::of(&desk.conn, &set, &key);
        self.reader.call(read).await
    }

    async fn set_state(&self, set: &SetName, state: &SetState) -> Result<()> {
        let (set, state) = (set.clone(), state.clone());
        let write = move |desk: &mut Desk| sets::set_state(&desk.conn, &set, &state);
        self.writer.call(write).await
    }

    async fn pause(&self, what: &Pausable) -> Result<bool> {
        let what = what.clone();
        let write = move |desk: &mut Desk| pause::pause(&desk.conn, desk.tickets.now_ms(), &what);
        self.writer.call(write).await
    }

    async fn resume(&self, what: &Pausable) -> Result<bool> {
        let what = what.clone();
        let write = move |desk: &mut Desk| pause::resume(&desk.conn, &what);
        self.writer.call(write).await
    }

    async fn paused(&self) -> Result<Vec<Paused>> {
        self.reader.call(|desk| pause::paused(&desk.conn)).await
    }

    async fn status(&self) -> Result<Vec<SetStatus>> {
        self.reader.call(|desk| read::status(&desk.conn)).await
    }

    async fn head(&self) -> Result<Seq> {
        self.reader.call(|desk| read::head(&desk.conn)).await
    }

    async fn forget(&self) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let (some, more) = self.writer.call(|desk| append::forget_some(&desk.conn)).await?;
            forgotten += some;
            if !more {
                return Ok(forgotten);
            }
        }
    }

    async fn memo(&self, name: &str) -> Result<Option<String>> {
        let name = name.to_owned();
        let read = move |desk: &mut Desk| read::memo(&desk.conn, &name);
        self.reader.call(read).await
    }

    async fn set_memo(&self, name: &str, text: Option<&str>) -> Result<()> {
        let (name, text) = (name.to_owned(), text.map(str::to_owned));
        let write = move |desk: &mut Desk| read::set_memo(&desk.conn, &name, text.as_deref());
        self.writer.call(write).await
    }
}
