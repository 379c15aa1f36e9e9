//! What becomes of an engine shows within five seconds, whether it is written to or not.

use instep_core::{Error, Result};
use tokio::time::{Duration, Instant};

use super::{Event, Tenure};

/// An engine that has not answered for so long is said to be silent; it is waited for all the same.
const SILENT: Duration = Duration::from_secs(3);
/// An engine that has nothing to do is looked at after so long.
const LOOK: Duration = Duration::from_secs(1);
/// And is given so long, unless it gives up by itself.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);
/// What a look may find of an engine that answers searches.
const SEARCHED_ALL_THE_SAME: [&str; 2] = ["engine_busy", "engine_read_only"];

impl Tenure<'_> {
    /// Says that the engine is silent, until it answers.
    pub(super) fn notice_silence(&mut self, now: Instant) {
        if self.is_applying() && self.hold.until.is_none() && now >= self.heard + SILENT {
            self.on.report(Some(&silent()));
            self.hold.until = Some(now);
        }
    }

    pub(super) fn next_silence(&self) -> Option<Instant> {
        Some(self.heard + SILENT).filter(|_| self.is_applying() && self.hold.until.is_none())
    }

    /// What became of an engine that is not written to shows before somebody writes.
    pub(super) fn start_look(&mut self, now: Instant) {
        if self.next_look().is_none_or(|next| now < next) {
            return;
        }
        self.looked = None;
        let targets = self.on.targets.values();
        let partitions = targets.flat_map(|target| target.partitions.iter());
        let indexes: Vec<_> = partitions.map(|partition| partition.index.clone()).collect();
        let engine = self.on.engine.clone();
        self.tasks.spawn(async move {
            let looked = tokio::time::timeout(LOOKED_WITHIN, engine.look(&indexes)).await;
            Event::Looked(looked.unwrap_or_else(|_| Err(silent())))
        });
    }

    /// `None` while it is looked at, and while there is work, which tells as much.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let is_idle = self.lanes.iter().all(|traffic| traffic.batches() == 0);
        self.looked.filter(|_| is_idle).map(|looked| looked + LOOK)
    }

    pub(super) fn looked(&mut self, result: Result<bool>) -> Result<()> {
        self.looked = Some(Instant::now());
        match result {
            Ok(true) if !self.is_applying() => self.answered(),
            Ok(_) => {}
            Err(error) if error.is_transient() => {
                // The next look tells whether it is over; and what is to be written is tried all the same.
                if self.on.report(Some(&error)) {
                    tracing::warn!(set = %self.on.set, code = error.code(), "the set waits: {error}");
                }
                self.on
                    .show_answers(SEARCHED_ALL_THE_SAME.contains(&error.code()));
                self.hold.until.get_or_insert(Instant::now());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn silent() -> Error {
    let message = format!("the engine has not answered for {} s", SILENT.as_secs());
    Error::transient("engine_silent", message).with_remedy(
        "look at its load and at the network between; what it was asked is asked again by itself",
    )
}
