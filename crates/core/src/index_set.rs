//! Index sets: generations of physical indexes, each following the log from its own position.

use serde::{Deserialize, Serialize};

use crate::log::{Scan, Seq, Ticket};
use crate::name::SetName;

/// Whether a set is being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum SetState {
    /// It follows the log.
    Following,
    /// A person stopped it; it keeps its position.
    Paused,
    /// A fatal failure stopped it: what failed, and the remedy.
    Halted(String),
    /// It is being removed and holds nothing back.
    Retiring,
}

/// A set as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetStatus {
    /// Its name.
    pub set: SetName,
    /// Its state.
    #[serde(flatten)]
    pub state: SetState,
    /// Everything up to here is finished.
    pub position: Seq,
    /// The last number of the log.
    pub head: Seq,
    /// Entries after the position.
    pub pending: u64,
    /// Fan-outs not yet expanded, of all sets.
    pub fan_outs: u64,
    /// The last ticket that was reserved.
    pub last_ticket: Ticket,
    /// Its scans.
    pub scans: Vec<Scan>,
    /// What became of its touches.
    pub counts: Counts,
}

/// What became of every touch since the set was made: the unit is one document touched by one change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Touches since the set was made.
    pub touches: u64,
    /// Touches after the position, folded ones among them.
    pub ahead: u64,
    /// Touches that were folded into a later one of the same document.
    pub folded: u64,
    /// Built and in the engine.
    pub indexed: u64,
    /// Built and found gone: not in the engine.
    pub deleted: u64,
    /// Built, and overtaken by a newer build before it was in order.
    pub superseded: u64,
    /// Dead letters behind which a touch stands.
    pub dead: u64,
    /// Retries behind which a touch stands.
    pub retrying: u64,
    /// Documents built by scans and retries; they are no touches.
    pub scanned: u64,
    /// Dead letters in all, those of scans included.
    pub dead_letters: u64,
    /// Retries in all, those of scans included.
    pub retries: u64,
}

impl Counts {
    /// Touches that were built: passed by the position and not folded.
    pub fn built(&self) -> u64 {
        self.indexed + self.deleted + self.superseded + self.dead + self.retrying
    }

    /// The law of conservation: touches = folded + built + ahead. Says by how much it is broken.
    pub fn conserved(&self) -> Result<(), String> {
        let sum = self.folded + self.built() + self.ahead;
        if sum == self.touches {
            return Ok(());
        }
        Err(format!(
            "{} touches, but folded {} + built {} + ahead {} = {sum}",
            self.touches,
            self.folded,
            self.built(),
            self.ahead
        ))
    }
}

impl SetStatus {
    /// How much is left: entries after the position, scans that are not finished (at least one each), fan-outs, retries.
    pub fn lag(&self) -> u64 {
        let scans = self.scans.iter().filter(|scan| !scan.finished).count() as u64;
        self.pending + scans + self.fan_outs + self.counts.retries
    }
}
