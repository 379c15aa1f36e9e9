//! The rules that a run of the model follows: one field per question, one enum per set of answers.

/// The rules of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) fence: Fence,
    pub(crate) former_parents: FormerParents,
    pub(crate) look_up: LookUp,
    pub(crate) deletes: Deletes,
    pub(crate) numbers: Numbers,
}

/// What a write carries as its external version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The ticket of the batch, drawn before its rows were read.
    Ticket,
    /// The number of the log entry that asked for the build.
    LogSequence,
    /// Nothing: the engine takes the last write that arrives.
    None,
}

/// How a child's change reaches the document that the child has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormerParents {
    /// The change brings the old foreign key.
    OldValues,
    /// Each document records the children that it read; a touched child touches the documents that recorded it.
    RecordedReads(Recheck),
    /// Not at all: only the child's present parent is asked for.
    ReverseQueryOnly,
}

/// What happens to a read that is recorded only after its row was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recheck {
    /// Settle touches the document again when the row was touched since then.
    AtSettle(Since),
    /// Nothing.
    Never,
}

/// What counts as touched meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// What was appended after the ticket was drawn, before the rows were read.
    BeforeReading,
    /// What was appended after the rows were read: what came in between is taken for known.
    AfterReading,
}

/// Whose recorded reads an append looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookUp {
    /// Those of all sets: an entry is one for all, and each set may have read something else.
    InAllSets,
    /// Those of the first set.
    InOneSet,
}

/// Whether an engine remembers the version of a deleted document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// For ever. Late writes may then arrive at any time, so this network never drops them for age.
    Remembered,
    /// Until its next garbage collection. Requests then expire at their deadline.
    Forgotten(Repeat),
}

/// Which deletes are made once more after the deadline of the writes that may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Those of documents with a write of unknown outcome, and *every* delete that a new owner makes before the
    /// requests of the former owner have expired.
    WhileWritesMayArrive,
    /// As above, but of a new owner only the deletes whose entry lies in the range that the former owner had leased.
    /// A touch moves the entry of a document in flight behind that range, so this is not enough.
    LeasedRange,
    /// None.
    Never,
}

/// Where log numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// A row that each append updates first, and so holds until it commits.
    HeadRow,
    /// A sequence of the database: a number drawn early may be committed late.
    DatabaseSequence,
}
