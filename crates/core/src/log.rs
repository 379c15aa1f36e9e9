//! The change log: what each index set still has to do, durably.
//!
//! Compacted: at most one entry for each document. Touching a document again moves its entry to the tail under a new
//! number. Numbers are consecutive and their order is the order of commits. A set follows the log from its own
//! position: the highest number below which nothing of this set is unfinished.
//!
//! What is in flight lives in the memory of the set's one owner; durable state is the position and what deviates from
//! it: scans, retries and dead letters. A new owner builds everything after the position again.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::change::Position;
use crate::collection::NodeId;
use crate::dead::{DeadFilter, DeadLetter, DeadReason};
use crate::error::Result;
use crate::index_set::{SetState, SetStatus};
use crate::journal::{Landed, Trace};
use crate::key::{DocKey, Key, RowKey};
use crate::name::{CollectionName, Language, SetName, SourceName};
use crate::pause::{Pausable, Paused};
use crate::value::Value;

/// A number of the change log. Each document touch draws one; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version under which a document is written: drawn before its rows are read, so that a higher one never holds
/// older rows. Strictly increasing in a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);

impl Ticket {
    /// The ticket after `last`, at this time: max(last + 1, milliseconds since 1970 × 2²⁰). A state file restored from
    /// a backup therefore still draws higher tickets than before, as long as the clock does not go back.
    pub fn after(last: Ticket, now_ms: u64) -> Ticket {
        Ticket((last.0 + 1).max(now_ms << 20))
    }
}

/// Counts the owners a set has had. Only the owner with the current epoch settles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// What a change asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Build this document again.
    Document(DocKey),
    /// Build every document that contains a row, found in chunks.
    FanOut(FanOut),
    /// Build every document again that read this row, as far as it was recorded ([`Reads`]), in any set; and those that
    /// are being built from its former state while it is touched.
    Row(RowKey),
    /// Scan this collection from both sides, in every set.
    Scan(CollectionName),
}

impl Touch {
    /// A row that more documents recorded than this becomes a scan of their collections.
    pub const MOST_READERS: usize = 10_000;
}

/// A change that reaches more documents than fit a batch: a resumable walk from a row up to the documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOut {
    /// The collection.
    pub collection: CollectionName,
    /// [`crate::Collection::fingerprint`] when it was made: the node's number means something only under it. A
    /// fan-out of another definition is dropped, because that collection is scanned.
    pub fingerprint: String,
    /// The node whose row was touched.
    pub node: NodeId,
    /// The row's values of the node's own join columns.
    pub values: Vec<Value>,
    /// The last row of the node's parent that was handled, by its key.
    pub after: Option<Key>,
}

/// A touched document that a set has not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// The document.
    pub key: DocKey,
}

/// What [`ChangeLog::take`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Higher than any drawn before in this set.
    pub ticket: Ticket,
    /// How many appends had touched rows ([`Touch::Row`]) when it was drawn: what these touched is older than what is
    /// read from now on.
    pub rows: u64,
    /// The entries, in order of their numbers.
    pub entries: Vec<Entry>,
}

/// The rows that a build read of tables whose former values the source does not bring.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reads {
    /// The document.
    pub key: DocKey,
    /// [`Taken::rows`] of the batch it was built in.
    pub since: u64,
    /// The rows; replaces what was recorded before.
    pub rows: Vec<RowKey>,
}

/// What an append did, or a settlement that touched documents again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The last number drawn so far.
    pub head: Seq,
    /// Document touches in it.
    pub touched: u64,
    /// Of these, how many moved an entry that was there already.
    pub moved: u64,
}

/// A set, owned. Lost, not shared: when another owner takes over, every call with this one fails with `ownership_lost`.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The set.
    pub set: SetName,
    /// This owner's epoch.
    pub epoch: Epoch,
    /// The set's position when it was taken over.
    pub position: Seq,
}

/// What became of a document that was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is in the engine.
    Indexed,
    /// It is not in the engine.
    Deleted,
    /// The engine holds a newer state.
    Superseded,
    /// It cannot be built or indexed: a dead letter.
    Dead,
    /// It is tried again later.
    Retrying,
}

/// Why a document is not as it should be: a retry or a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The document.
    pub key: DocKey,
    /// The touch behind it, which it keeps through retries and scans; 0 when none but a scan ever failed.
    pub seq: Seq,
    /// The failure's stable code.
    pub code: String,
    /// The failure in a sentence, without row values.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When to try again, in milliseconds since 1970. `None` for a dead letter.
    pub next_ms: Option<i64>,
}

/// Which side of a scan is being walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The source's keys: finds what is missing or stale.
    Source,
    /// The engine's documents: finds what should be gone.
    Engine,
}

/// A resumable walk over a collection, for one set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scan {
    /// The collection.
    pub collection: CollectionName,
    /// The definition it is made under.
    pub fingerprint: String,
    /// Which start of it this is: every start and restart draws a higher number. Progress that is settled for an
    /// earlier run is ignored, so that a restart (a touched table, an edited definition) is never overwritten by the
    /// walk it ended: the owner reads [`ChangeLog::scans`] again before each chunk.
    pub run: u64,
    /// The side being walked.
    pub side: Side,
    /// Walk the engine's side after the source's. Not needed for the first load of an empty index.
    pub both: bool,
    /// The last key (or the engine's cursor) that was settled.
    pub after: Option<String>,
    /// Documents handled so far, on both sides.
    pub done: u64,
    /// Finished.
    pub finished: bool,
}

/// What the owner has finished, to be made durable in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Counts the owner's settlements, so that one that is sent again is told from another like it.
    pub number: u64,
    /// The new position: everything up to here is finished. Never below the current one.
    pub position: Seq,
    /// The entries this owner built whose numbers lie in (current position, new position], with what became of each.
    /// Every other number in there was folded into a later one; a number that is neither is an error (`unaccounted`).
    pub passed: Vec<(Seq, Outcome)>,
    /// Documents that are in trouble now; replaces what was known of each. The touch that failed keeps standing behind
    /// it until a later touch of the document fails, which makes the former `superseded`. `dead` or `retrying` in
    /// `passed` without a trouble that stands for that number counts as `superseded` too: a later build ended it.
    pub troubles: Vec<Trouble>,
    /// Documents that were built by any means and are in order now, with what became of each (`indexed`, `deleted` or
    /// `superseded`): their trouble ends. The touch behind it counts as `superseded` when the log holds a later touch
    /// of the document, which has a number of its own; else, after a retry or a scan, by this outcome. Documents without
    /// known trouble may be named and change nothing. One that is in `troubles` too stays in trouble.
    pub healed: Vec<(DocKey, Outcome)>,
    /// Progress of scans: replaces the scan of that collection, when it is still the same run.
    pub scans: Vec<Scan>,
    /// Documents that scans and retries built (they have no number).
    pub scanned: u64,
    /// What the documents that were built read. A document one of whose rows was touched after its `since`, or may have
    /// been because its `since` is older than what is remembered of touched rows, is touched again in the same
    /// transaction, and draws a number of its own. Such numbers follow all others, in order of the documents' keys. Of a
    /// document that is named twice, the last counts. Documents that read nothing of the kind, and had nothing recorded,
    /// need not be named.
    pub reads: Vec<Reads>,
    /// Builds that ended, for the journal.
    pub landed: Vec<Landed>,
    /// Documents of collections with several partitions that were written.
    pub placed: Vec<Placed>,
}

/// Where a document lies, in a collection with several partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    /// The document.
    pub key: DocKey,
    /// The one partition in which it lies, or `None` where that is not known, or it is gone.
    pub language: Option<Language>,
    /// Under which it was written there. What was forgotten under a higher one stays forgotten.
    pub ticket: Ticket,
}

/// The durable state of all sets. One implementation per kind of store.
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// How far a source was followed.
    async fn position(&self, source: &SourceName) -> Result<Option<Position>>;

    /// Forgets how far a source was followed, so that it is followed from now on; collections are scanned by whoever
    /// asked for it. The way on when a position is refused.
    async fn forget_position(&self, source: &SourceName) -> Result<()>;

    /// Writes touches and the source's position in one durable transaction: after it returned, the source may be
    /// acknowledged. Document touches draw numbers in the order given; the caller sends each document at most once and
    /// sorted by key. The documents behind touched rows follow them, sorted by key, unless they are touched already;
    /// a row that more documents read than a batch should touch ([`Touch::MOST_READERS`], fewer when the append touches
    /// very many already) becomes a scan of their collections. That a row was
    /// touched is remembered for a while under a counter of such appends, for what is being built meanwhile.
    async fn append(
        &self,
        source: &SourceName,
        upto: Option<&Position>,
        touches: &[Touch],
    ) -> Result<Appended>;

    /// The oldest fan-outs, with their ids.
    async fn fan_outs(&self, n: usize) -> Result<Vec<(u64, FanOut)>>;

    /// Replaces a fan-out by what is left of it, and appends its touches, in one transaction. Repeating it after a
    /// crash touches the same documents again, which is harmless.
    async fn expanded(&self, id: u64, left: Option<&FanOut>, touches: &[Touch]) -> Result<Appended>;

    /// Makes a set known: it follows from the current head, and has a scan for each of these collections. A set that
    /// is known keeps its position; collections that are new to it or whose fingerprint changed get a scan.
    async fn register(&self, set: &SetName, collections: &[(CollectionName, String)]) -> Result<()>;

    /// Becomes the set's owner. Any former owner is fenced out from now on.
    async fn own(&self, set: &SetName, owner: &str) -> Result<Owned>;

    /// A ticket for a batch, higher than any drawn before by this or any former owner, and up to `n` entries with a
    /// number above `after`, in order of their numbers.
    async fn take(&self, set: &Owned, after: Seq, n: usize) -> Result<Taken>;

    /// Makes finished work durable in one transaction. One that would move the position back is refused
    /// (`position_behind`), one that passes a number without accounting for it too (`unaccounted`). Repeating the last
    /// settlement changes nothing: two in a row that say the same are one. What was built without a number is told
    /// apart by the progress of its scan or the attempts of its retry. Returns what was touched again because of the rows
    /// it had read; nothing when it is repeated.
    async fn settle(&self, set: &Owned, done: &Settlement) -> Result<Appended>;

    /// Starts a scan of these collections in a set, from the beginning; a running one is started again, and walks both
    /// sides when it had the engine's still to walk.
    async fn rescan(&self, set: &SetName, collections: &[(CollectionName, String)], both: bool)
    -> Result<()>;

    /// The scans of a set, finished ones included, by collection.
    async fn scans(&self, set: &SetName) -> Result<Vec<Scan>>;

    /// The partition in which each of these documents lies, where the set's owners wrote that down: it lies in no other.
    async fn placements(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Language>>>;

    /// Forgets where these documents lie, durably: to be called before one is written to another partition, so that whoever
    /// comes after a crash looks for it in all of them. `ticket`: the write's, or 0.
    async fn forget_placements(&self, set: &SetName, keys: &[DocKey], ticket: Ticket) -> Result<()>;

    /// Documents whose next attempt is due, oldest first.
    async fn due(&self, set: &SetName, now_ms: i64, n: usize) -> Result<Vec<Trouble>>;

    /// Retries and dead letters of a set, by collection and document, after the given one.
    async fn troubles(&self, set: &SetName, after: Option<&DocKey>, n: usize) -> Result<Vec<Trouble>>;

    /// The known trouble of these documents, in their order.
    async fn trouble_of(&self, set: &SetName, keys: &[DocKey]) -> Result<Vec<Option<Trouble>>>;

    /// The dead letters of a set that are meant, by collection and document, after the given one.
    async fn dead_letters(
        &self,
        set: &SetName,
        wanted: &DeadFilter,
        after: Option<&DocKey>,
        n: usize,
    ) -> Result<Vec<DeadLetter>>;

    /// How many dead letters a set has for each reason, the most frequent first.
    async fn dead_reasons(&self, set: &SetName) -> Result<Vec<DeadReason>>;

    /// Takes dead letters off the list of a set; returns how many there were of these. The touch behind one counts as
    /// `superseded` when the log holds a later touch of the document, else as `deleted`: the document is not in the engine.
    /// The next touch of the document tries again. Any process may do it, beside the set's owner.
    async fn discard(&self, set: &SetName, keys: &[DocKey]) -> Result<u64>;

    /// The number of the document's entry, while the log holds one: a set whose position is below has still to build it.
    async fn entry_of(&self, key: &DocKey) -> Result<Option<Seq>>;

    /// What happened to a document lately: the last `n` events.
    async fn trace(&self, key: &DocKey, n: usize) -> Result<Trace>;

    /// Documents that are on record to have been built from a row, in any set, up to `n`, in order.
    async fn readers_of(&self, row: &RowKey, n: usize) -> Result<Vec<DocKey>>;

    /// The rows that a set's document is on record to have been built from, in any order: those of tables whose former
    /// values the source does not bring. Empty also where nothing was recorded.
    async fn reads_of(&self, set: &SetName, key: &DocKey) -> Result<Vec<RowKey>>;

    /// Changes a set's state. Halting keeps everything; following resumes where it stopped.
    async fn set_state(&self, set: &SetName, state: &SetState) -> Result<()>;

    /// Writes down that this is paused; returns whether it was not before. Every owner of a set sees it soon, in whichever
    /// process. Touches are taken in as before.
    async fn pause(&self, what: &Pausable) -> Result<bool>;

    /// Ends a pause; returns whether there was one.
    async fn resume(&self, what: &Pausable) -> Result<bool>;

    /// All that is paused.
    async fn paused(&self) -> Result<Vec<Paused>>;

    /// All sets with their counters, by name.
    async fn status(&self) -> Result<Vec<SetStatus>>;

    /// The last number drawn.
    async fn head(&self) -> Result<Seq>;

    /// Removes entries that every set (retiring ones left out) has passed. Returns how many.
    async fn forget(&self) -> Result<u64>;

    /// A small named text of ours (progress of a verification, the active set), or `None`.
    async fn memo(&self, name: &str) -> Result<Option<String>>;

    /// Writes or removes a small named text of ours.
    async fn set_memo(&self, name: &str, text: Option<&str>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_increase_even_when_the_clock_goes_back() {
        let first = Ticket::after(Ticket(0), 1_000);
        assert_eq!(first, Ticket(1_000 << 20));
        assert_eq!(Ticket::after(first, 999), Ticket((1_000 << 20) + 1));
        assert_eq!(Ticket::after(first, 1_001), Ticket(1_001 << 20));
    }
}
