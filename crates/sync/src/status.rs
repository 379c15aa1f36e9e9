//! What the running parts are doing, for `status`, for progress bars and for tests: published through watch channels,
//! so that reading it never waits for the work.

use instep_core::{CollectionName, Error, Finding, Position, SetName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A failure as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its stable code.
    pub code: String,
    /// What failed, in a sentence without row values.
    pub message: String,
    /// The next step, where one is known.
    pub remedy: Option<String>,
}

impl Problem {
    pub(crate) fn of(error: &Error) -> Self {
        Problem {
            code: error.code().to_owned(),
            message: error.to_string(),
            remedy: error.remedy().map(str::to_owned),
        }
    }

    /// A failure of a set: an engine that says how a set goes on does not know the set's name.
    pub(crate) fn of_set(error: &Error, set: &SetName) -> Self {
        let mut problem = Problem::of(error);
        if let Some(remedy) = &mut problem.remedy {
            *remedy = remedy.replace("set:<name>", &format!("set:{set}"));
        }
        problem
    }

    /// What a source waits for.
    pub(crate) fn found(finding: Finding) -> Self {
        Problem {
            code: finding.code,
            message: format!("{}: {}", finding.subject, finding.message),
            remedy: finding.remedy,
        }
    }

    /// The message and the remedy in one line.
    pub fn line(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{} ({}); {remedy}", self.message, self.code),
            None => format!("{} ({})", self.message, self.code),
        }
    }
}

/// What a follower is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It has not connected yet.
    Starting,
    /// It handles changes.
    Working,
    /// It has handled everything the source delivered, and waits for changes.
    Waiting,
    /// A transient failure: it tries again by itself.
    BackingOff,
    /// A failure that a person must mend stopped it.
    Halted,
    /// It was told to stop.
    Stopped,
}

/// A source, as its follower sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// What the follower is doing.
    pub state: SourceState,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// Changes are captured, from a durable position on: keys that are enumerated from now on leave no gap, whoever
    /// follows next.
    pub captured: bool,
    /// How far it was followed, durably.
    pub position: Option<Position>,
    /// When the last change was committed, or else arrived, in milliseconds since 1970.
    pub last_change_ms: Option<i64>,
    /// What is wrong, while something is.
    pub problem: Option<Problem>,
    /// What following waits for, while nothing is wrong and yet nothing moves: a transaction that hangs, a lock.
    pub waiting: Option<Problem>,
}

impl SourceStatus {
    pub(crate) fn starting() -> Self {
        SourceStatus {
            state: SourceState::Starting,
            since_ms: 0,
            captured: false,
            position: None,
            last_change_ms: None,
            problem: None,
            waiting: None,
        }
    }
}

/// What an indexer is doing. The set's state and counters are the log's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// It owns its set and works.
    pub working: bool,
    /// Documents taken and not finished.
    pub in_flight: u64,
    /// What is wrong, while something is: a failure it retries by itself, or why it stopped.
    pub problem: Option<Problem>,
    /// The engine answers nothing, searches neither, as far as was seen.
    pub unanswered: bool,
    /// Collections that the source no longer fits, by name: they stand still, the others of the set go on. Each goes on
    /// by itself when the source fits it again.
    pub halted: Vec<HaltedCollection>,
}

/// A collection that stands still in a set, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HaltedCollection {
    /// The collection.
    pub collection: CollectionName,
    /// What is missing.
    pub problem: Problem,
}

/// The name of the memo that says why a collection is halted in a set: for `status` in another process.
pub(crate) fn halt_memo(set: &SetName, collection: &CollectionName) -> String {
    format!("halted/{set}/{collection}")
}

/// The name of the memo that says which definition the documents of a collection in a set follow.
pub fn definition_memo(set: &SetName, collection: &CollectionName) -> String {
    format!("definition/{set}/{collection}")
}

/// The name of the memo that says in which store the documents of a set are.
pub(crate) fn place_memo(set: &SetName) -> String {
    format!("place/{set}")
}

/// The name of the memo that says which owner of a set ended in order, and until when a write older than it may arrive.
pub(crate) fn ended_memo(set: &SetName) -> String {
    format!("ended/{set}")
}

/// The name of the memo by which a person lets the indexes of a collection in a set be made again: emptied, and filled by a
/// scan. Its first line is the fingerprint of the definition that it is meant for, the rest what [`definition_memo`] holds
/// once that has begun and this is gone.
pub fn remake_memo(set: &SetName, collection: &CollectionName) -> String {
    format!("remake/{set}/{collection}")
}

/// Tells tasks to stop: the value turns true, or the sender is dropped.
pub type Shutdown = watch::Receiver<bool>;

/// Returns when the task has to stop. Cancel-safe.
pub(crate) async fn stopped(shutdown: &mut Shutdown) {
    // An error means that the sender is gone, and with it whoever wanted the work done.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
