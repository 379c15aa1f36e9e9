//! One process that works, or believes to work, for an index set: take → build → send → settle.
//!
//! All it knows lives in memory. It guarantees that a document is in at most one of its batches, that the position
//! never passes a document that is not finished, and that a delete is repeated as the variant says. Whether it still
//! owns the set only the log can tell.

use std::collections::BTreeMap;

use super::database::{DOCUMENTS, Database, DocKey, Reads};
use super::engine::{Applied, Version, Write};
use super::log::{Epoch, Log, Lost, Owned, Seq, SetKey, Settled, Ticket};
use super::network::{BatchId, Request, TIMEOUT, Time};
use super::variant::{Deletes, Fence, FormerParents, Recheck, Repeat, Since, Variant};

#[derive(Debug)]
pub(crate) struct Worker {
    set: SetKey,
    id: u32,
    owned: Owned,
    /// When the last request of the former owner has expired.
    inherited_until: Time,
    /// When the last write of unknown outcome of a document has expired.
    uncertain_until: [Time; DOCUMENTS],
    /// Entries up to here were taken from the log.
    cursor: Seq,
    /// Taken, and to be built when no batch holds the document and its time has come.
    pending: BTreeMap<DocKey, Pending>,
    batches: Vec<Batch>,
    batches_taken: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    numbers: Span,
    /// Zero, unless a delete is waiting to be repeated.
    after: Time,
}

#[derive(Debug)]
struct Batch {
    id: BatchId,
    ticket: Ticket,
    head: Seq,
    deadline: Time,
    items: Vec<Item>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    document: DocKey,
    numbers: Span,
}

/// The numbers of the touches that one build answers: the lowest holds the position back, the highest is the entry's.
#[derive(Clone, Copy, Debug)]
struct Span {
    lowest: Seq,
    highest: Seq,
}

#[derive(Debug)]
enum Stage {
    Taken,
    Built(Vec<Write>),
    Sent(Vec<Write>),
    /// Outcomes match writes, and both match the batch's items, one to one.
    Answered(Vec<Write>, Vec<Applied>),
}

/// What a settlement led to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settlement {
    pub(crate) touched_again: usize,
    pub(crate) deletes_to_repeat: usize,
}

impl Worker {
    pub(crate) fn new(set: SetKey, id: u32, owned: Owned, now: Time) -> Self {
        let is_first = owned.epoch == Epoch(1);
        Self {
            set,
            id,
            inherited_until: if is_first {
                Time::default()
            } else {
                Time(now.0 + TIMEOUT)
            },
            uncertain_until: [Time::default(); DOCUMENTS],
            cursor: owned.position,
            owned,
            pending: BTreeMap::new(),
            batches: Vec::new(),
            batches_taken: 0,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.owned.epoch
    }

    pub(crate) fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// The documents of all batches, one by one.
    pub(crate) fn documents_in_flight(&self) -> impl Iterator<Item = DocKey> {
        self.batches
            .iter()
            .flat_map(|batch| &batch.items)
            .map(|item| item.document)
    }

    /// Whether a document waits here for its batch to end.
    pub(crate) fn holds_back(&self) -> bool {
        self.documents_in_flight()
            .any(|document| self.pending.contains_key(&document))
    }

    /// Whether nothing is left to do except, perhaps, deletes whose time to be repeated has not come.
    pub(crate) fn is_idle(&self, log: &Log, now: Time) -> bool {
        let has_passed_all = log.entries().iter().all(|entry| entry.seq <= self.cursor);
        has_passed_all && self.batches.is_empty() && self.pending.values().all(|pending| pending.after >= now)
    }

    /// Takes at most `n` entries from the log and makes a batch of at most `n` documents that are due. Returns the
    /// batch's ticket; none is drawn for an empty batch.
    pub(crate) fn take(&mut self, log: &mut Log, now: Time, n: usize) -> Result<Option<Ticket>, Lost> {
        let entries: Vec<_> = log
            .entries()
            .iter()
            .filter(|entry| entry.seq > self.cursor)
            .take(n)
            .copied()
            .collect();
        for entry in entries {
            self.cursor = self.cursor.max(entry.seq);
            self.put_back(
                entry.document,
                Span {
                    lowest: entry.seq,
                    highest: entry.seq,
                },
                Time::default(),
            );
        }
        let in_flight: Vec<DocKey> = self.documents_in_flight().collect();
        let is_due =
            |(document, pending): &(&DocKey, &Pending)| pending.after < now && !in_flight.contains(document);
        let items: Vec<Item> = (self.pending.iter().filter(is_due).take(n))
            .map(|(document, pending)| Item {
                document: *document,
                numbers: pending.numbers,
            })
            .collect();
        if items.is_empty() {
            return Ok(None);
        }
        let lease = log.lease(self.set, self.owned.epoch, self.cursor)?;
        for item in &items {
            self.pending.remove(&item.document);
        }
        self.batches_taken += 1;
        self.batches.push(Batch {
            id: BatchId {
                worker: self.id,
                batch: self.batches_taken,
            },
            ticket: lease.ticket,
            head: lease.head,
            deadline: Time(now.0 + TIMEOUT),
            items,
            stage: Stage::Taken,
        });
        Ok(Some(lease.ticket))
    }

    /// Moves one batch on by one step; one that waits for its answer stays.
    pub(crate) fn advance(
        &mut self,
        variant: Variant,
        nth: usize,
        database: &Database,
        network: &mut Vec<Request>,
        log: &mut Log,
        now: Time,
    ) -> Result<Settlement, Lost> {
        let Some(batch) = self.batches.get_mut(nth) else {
            return Ok(Settlement::default());
        };
        match &batch.stage {
            Stage::Taken => batch.stage = Stage::Built(build(variant, batch, database)),
            Stage::Built(writes) => {
                let writes = writes.clone();
                match variant.former_parents {
                    FormerParents::RecordedReads(Recheck::AtSettle(Since::AfterReading)) => {
                        batch.head = log.head();
                    }
                    FormerParents::RecordedReads(
                        Recheck::AtSettle(Since::BeforeReading) | Recheck::Never,
                    )
                    | FormerParents::OldValues
                    | FormerParents::ReverseQueryOnly => {}
                }
                self.send(variant, nth, writes, network, now);
            }
            Stage::Sent(_) => {}
            Stage::Answered(..) if log.is_locked() => {}
            Stage::Answered(..) => return self.settle(variant, nth, log, now),
        }
        Ok(Settlement::default())
    }

    /// Sends a request again, with the same ticket, while its first copy may still be on its way.
    pub(crate) fn resend(&mut self, nth: usize, network: &mut Vec<Request>) {
        let Some(batch) = self.batches.get(nth) else {
            return;
        };
        let Stage::Sent(writes) = &batch.stage else {
            return;
        };
        network.push(Request {
            set: self.set,
            batch: batch.id,
            deadline: batch.deadline,
            writes: writes.clone(),
        });
        note_unknown_outcome(&mut self.uncertain_until, batch.deadline, writes);
    }

    /// Stops waiting for an answer: the outcome stays unknown, and the documents are built again.
    pub(crate) fn give_up(&mut self, nth: usize) {
        let Some(batch) = self.batches.get(nth) else {
            return;
        };
        let Stage::Sent(writes) = &batch.stage else {
            return;
        };
        note_unknown_outcome(&mut self.uncertain_until, batch.deadline, writes);
        self.build_again(nth);
    }

    /// An answer for a batch that was given up is ignored.
    pub(crate) fn answer(&mut self, id: BatchId, outcomes: Vec<Applied>) {
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == id) else {
            return;
        };
        if let Stage::Sent(writes) = &mut batch.stage {
            batch.stage = Stage::Answered(std::mem::take(writes), outcomes);
        }
    }

    fn send(
        &mut self,
        variant: Variant,
        nth: usize,
        writes: Vec<Write>,
        network: &mut Vec<Request>,
        now: Time,
    ) {
        let batch = &mut self.batches[nth];
        let may_be_sent = match variant.deletes {
            Deletes::Remembered => true,
            Deletes::Forgotten(_) => now <= batch.deadline,
        };
        if !may_be_sent {
            return self.build_again(nth);
        }
        network.push(Request {
            set: self.set,
            batch: batch.id,
            deadline: batch.deadline,
            writes: writes.clone(),
        });
        batch.stage = Stage::Sent(writes);
    }

    /// Ends a batch without a settlement.
    fn build_again(&mut self, nth: usize) {
        for item in self.batches.remove(nth).items {
            self.put_back(item.document, item.numbers, Time::default());
        }
    }

    fn settle(&mut self, variant: Variant, nth: usize, log: &mut Log, now: Time) -> Result<Settlement, Lost> {
        let batch = self.batches.remove(nth);
        let Stage::Answered(writes, outcomes) = batch.stage else {
            unreachable!("only answered batches are settled")
        };
        let mut settlement = Settlement::default();
        let mut settled = Vec::new();
        for ((item, write), outcome) in batch.items.iter().zip(&writes).zip(&outcomes) {
            match outcome {
                Applied::Failed => self.put_back(item.document, item.numbers, Time::default()),
                Applied::Done | Applied::Superseded => {
                    let reads = recorded(variant, write);
                    settled.push(Settled {
                        document: item.document,
                        reads,
                        head: batch.head,
                    });
                    let late_until = self.late_writes_until(variant, *item);
                    if write.document.is_none() && late_until >= now {
                        self.put_back(item.document, item.numbers, late_until);
                        settlement.deletes_to_repeat += 1;
                    }
                }
            }
        }
        let recheck = match variant.former_parents {
            FormerParents::RecordedReads(recheck) => recheck,
            FormerParents::OldValues | FormerParents::ReverseQueryOnly => Recheck::Never,
        };
        let position = self.finished_upto();
        settlement.touched_again = log.settle(self.set, self.owned.epoch, &settled, position, recheck)?;
        Ok(settlement)
    }

    /// A document that is touched, or failed, while a delete of it waits to be repeated is built at once.
    fn put_back(&mut self, document: DocKey, numbers: Span, after: Time) {
        let pending = self.pending.entry(document).or_insert(Pending { numbers, after });
        pending.numbers.lowest = pending.numbers.lowest.min(numbers.lowest);
        pending.numbers.highest = pending.numbers.highest.max(numbers.highest);
        pending.after = pending.after.min(after);
    }

    /// The lowest unfinished number − 1.
    fn finished_upto(&self) -> Seq {
        let in_batches = self
            .batches
            .iter()
            .flat_map(|batch| &batch.items)
            .map(|item| item.numbers.lowest);
        let unfinished = in_batches
            .chain(self.pending.values().map(|pending| pending.numbers.lowest))
            .min();
        unfinished.map_or(self.cursor, |seq| Seq(seq.0 - 1))
    }

    /// Until when an earlier put of the document may arrive after its delete, as far as the variant cares.
    fn late_writes_until(&self, variant: Variant, item: Item) -> Time {
        let own = self.uncertain_until[item.document.0];
        match variant.deletes {
            Deletes::Remembered | Deletes::Forgotten(Repeat::Never) => Time::default(),
            Deletes::Forgotten(Repeat::WhileWritesMayArrive) => own.max(self.inherited_until),
            Deletes::Forgotten(Repeat::LeasedRange) if item.numbers.lowest <= self.owned.leased_upto => {
                own.max(self.inherited_until)
            }
            Deletes::Forgotten(Repeat::LeasedRange) => own,
        }
    }
}

/// Reads the rows of a whole batch in one snapshot.
fn build(variant: Variant, batch: &Batch, database: &Database) -> Vec<Write> {
    let write = |item: &Item| Write {
        key: item.document,
        version: match variant.fence {
            Fence::Ticket => Version::External(batch.ticket.0),
            Fence::LogSequence => Version::External(item.numbers.highest.0),
            Fence::None => Version::Unfenced,
        },
        document: database.document(item.document),
    };
    batch.items.iter().map(write).collect()
}

fn recorded(variant: Variant, write: &Write) -> Reads {
    match variant.former_parents {
        FormerParents::RecordedReads(_) => write
            .document
            .map_or_else(Reads::default, |document| document.reads()),
        FormerParents::OldValues | FormerParents::ReverseQueryOnly => Reads::default(),
    }
}

/// A late put is what a forgotten delete must fear; a late delete meets a live document, whose version is remembered.
fn note_unknown_outcome(uncertain_until: &mut [Time; DOCUMENTS], deadline: Time, writes: &[Write]) {
    for write in writes.iter().filter(|write| write.document.is_some()) {
        let until = &mut uncertain_until[write.key.0];
        *until = deadline.max(*until);
    }
}
