//! The durable state: the compacted change log, the index sets' records, recorded reads and touched rows.
//!
//! Each method is one transaction, except an append of the router, which begins and commits in two steps so that
//! others can run, or the router can crash, in between.

use super::database::{CHILDREN, ChildKey, DOCUMENTS, DocKey, Reads};
use super::variant::{LookUp, Numbers, Recheck};

pub(crate) const SETS: usize = 2;

/// A log number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u64);

/// Drawn by a batch before it reads rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// Which ownership of a set is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(pub(crate) u32);

/// An index set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetKey(pub(crate) usize);

/// A document that was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) document: DocKey,
    pub(crate) seq: Seq,
}

/// What an append writes: touched documents, touched to-many rows, and how far the source has been read.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) documents: Vec<DocKey>,
    pub(crate) children: Vec<ChildKey>,
    pub(crate) upto: usize,
}

/// The caller no longer owns the set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// What a new owner finds.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) epoch: Epoch,
    pub(crate) position: Seq,
    pub(crate) leased_upto: Seq,
}

/// The durable side of taking a batch.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) ticket: Ticket,
    /// The log's head when the ticket was drawn: a row touched later has a higher number.
    pub(crate) head: Seq,
}

/// A finished document of a batch.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) document: DocKey,
    pub(crate) reads: Reads,
    pub(crate) head: Seq,
}

/// The durable record of one index set.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetRecord {
    pub(crate) position: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) last_ticket: Ticket,
    pub(crate) leased_upto: Seq,
    pub(crate) settlements: u32,
    reads: [Reads; DOCUMENTS],
}

#[derive(Debug)]
struct OpenAppend {
    entries: Vec<Entry>,
    rows: Vec<(ChildKey, Seq)>,
    upto: usize,
}

#[derive(Debug)]
pub(crate) struct Log {
    numbers: Numbers,
    look_up: LookUp,
    last_drawn: Seq,
    head: Seq,
    entries: Vec<Entry>,
    touched_rows: [Option<Seq>; CHILDREN],
    source_position: usize,
    open: Option<OpenAppend>,
    sets: [SetRecord; SETS],
}

impl Log {
    pub(crate) fn new(numbers: Numbers, look_up: LookUp) -> Self {
        Self {
            numbers,
            look_up,
            last_drawn: Seq::default(),
            head: Seq::default(),
            entries: Vec::new(),
            touched_rows: [None; CHILDREN],
            source_position: 0,
            open: None,
            sets: Default::default(),
        }
    }

    pub(crate) fn source_position(&self) -> usize {
        self.source_position
    }

    /// The highest number that was committed.
    pub(crate) fn head(&self) -> Seq {
        self.head
    }

    /// The committed entries, in the order of their commits.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn set(&self, set: SetKey) -> &SetRecord {
        &self.sets[set.0]
    }

    /// Whether another append or a settle would have to wait for the row of the log's head.
    pub(crate) fn is_locked(&self) -> bool {
        match self.numbers {
            Numbers::HeadRow => self.open.is_some(),
            Numbers::DatabaseSequence => false,
        }
    }

    pub(crate) fn has_open_append(&self) -> bool {
        self.open.is_some()
    }

    /// Begins the router's append: draws its numbers and finds the documents that recorded a read of its rows.
    pub(crate) fn begin(&mut self, append: Append) {
        assert!(self.open.is_none(), "the router has one append at a time");
        let mut documents = append.documents;
        let looked_into = match self.look_up {
            LookUp::InAllSets => &self.sets[..],
            LookUp::InOneSet => &self.sets[..1],
        };
        for document in (0..DOCUMENTS).map(DocKey) {
            let read_one = |child: &ChildKey| {
                looked_into
                    .iter()
                    .any(|set| set.reads[document.0].contains(*child))
            };
            if append.children.iter().any(read_one) {
                documents.push(document);
            }
        }
        documents.sort_unstable();
        documents.dedup();
        let entries = documents
            .into_iter()
            .map(|document| Entry {
                document,
                seq: self.draw(),
            })
            .collect();
        let rows = append
            .children
            .into_iter()
            .map(|child| (child, self.draw()))
            .collect();
        self.open = Some(OpenAppend {
            entries,
            rows,
            upto: append.upto,
        });
    }

    /// Commits what [`begin`](Self::begin) began; without such an append, nothing happens.
    pub(crate) fn commit(&mut self) {
        let Some(open) = self.open.take() else { return };
        for entry in open.entries {
            self.push(entry);
        }
        for (child, seq) in open.rows {
            self.touched_rows[child.0] = Some(seq);
            self.head = self.head.max(seq);
        }
        self.source_position = open.upto;
    }

    /// What a crash does to an append that is not committed. A sequence keeps its numbers, a row does not.
    pub(crate) fn roll_back(&mut self) {
        self.open = None;
        match self.numbers {
            Numbers::HeadRow => self.last_drawn = self.head,
            Numbers::DatabaseSequence => {}
        }
    }

    /// Touches a document in a transaction of its own, as a repair does.
    pub(crate) fn touch(&mut self, document: DocKey) {
        let seq = self.draw();
        self.push(Entry { document, seq });
    }

    /// Makes the caller the owner of the set; the former owner can neither take nor settle any more.
    pub(crate) fn own(&mut self, set: SetKey) -> Owned {
        let record = &mut self.sets[set.0];
        record.epoch.0 += 1;
        Owned {
            epoch: record.epoch,
            position: record.position,
            leased_upto: record.leased_upto,
        }
    }

    /// Draws a ticket and notes how far the owner has taken entries.
    pub(crate) fn lease(&mut self, set: SetKey, epoch: Epoch, upto: Seq) -> Result<Lease, Lost> {
        let head = self.head;
        let record = self.owned(set, epoch)?;
        record.last_ticket.0 += 1;
        record.leased_upto = record.leased_upto.max(upto);
        Ok(Lease {
            ticket: record.last_ticket,
            head,
        })
    }

    /// Replaces the recorded reads of finished documents, touches again those that read a row which was touched after
    /// their `head`, and moves the position. Returns how many documents were touched again.
    ///
    /// Appends look into the recorded reads and settle looks at the touched rows: unless one waits for the other, both
    /// look too early. So settle takes the row of the log's head, too, even where it touches nothing.
    pub(crate) fn settle(
        &mut self,
        set: SetKey,
        epoch: Epoch,
        settled: &[Settled],
        position: Seq,
        recheck: Recheck,
    ) -> Result<usize, Lost> {
        assert!(!self.is_locked(), "settle waits for the open append");
        let record = self.owned(set, epoch)?;
        for done in settled {
            record.reads[done.document.0] = done.reads;
        }
        record.position = position;
        record.settlements += 1;
        let read_too_early = |done: &&Settled| {
            done.reads
                .iter()
                .any(|child| self.touched_rows[child.0] > Some(done.head))
        };
        let again: Vec<DocKey> = match recheck {
            Recheck::AtSettle(_) => settled
                .iter()
                .filter(read_too_early)
                .map(|done| done.document)
                .collect(),
            Recheck::Never => Vec::new(),
        };
        for document in &again {
            self.touch(*document);
        }
        Ok(again.len())
    }

    /// Drops what every set has passed.
    pub(crate) fn forget(&mut self) {
        let passed = self
            .sets
            .iter()
            .map(|set| set.position)
            .min()
            .expect("there are sets");
        self.entries.retain(|entry| entry.seq > passed);
        for touched in &mut self.touched_rows {
            *touched = touched.filter(|seq| *seq > passed);
        }
    }

    fn owned(&mut self, set: SetKey, epoch: Epoch) -> Result<&mut SetRecord, Lost> {
        let record = &mut self.sets[set.0];
        if record.epoch == epoch {
            Ok(record)
        } else {
            Err(Lost)
        }
    }

    fn draw(&mut self) -> Seq {
        self.last_drawn.0 += 1;
        self.last_drawn
    }

    /// One entry per document: touching it again moves its entry to the tail.
    fn push(&mut self, entry: Entry) {
        self.entries.retain(|other| other.document != entry.document);
        self.entries.push(entry);
        self.head = self.head.max(entry.seq);
    }
}
