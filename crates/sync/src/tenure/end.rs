//! How long writes may arrive that are older than this period of ownership, from one owner to the next.
//!
//! An owner that ends in order knows that its own requests have ended, and passes on what it knew of those before it. One
//! that is killed passes on nothing: then its last request may still arrive, until the deadline of a call is over.
//! The moment is one of the machine's clock: one that jumps ahead between two owners, of which the first had trouble at
//! its very end, shortens it.

use instep_core::{ChangeLog, Owned, Result};
use tokio::time::{Duration, Instant};

use super::Tenure;
use crate::indexer::Indexer;
use crate::status::ended_memo;

/// How much longer a write of a former owner may arrive. Before the first owner, who made the indexes, nobody wrote.
pub(super) async fn former(on: &Indexer, owned: &Owned, all_made: bool) -> Result<Duration> {
    if owned.epoch.0 <= 1 && all_made {
        return Ok(Duration::ZERO);
    }
    let deadline = on.options.deadline;
    let memo = on.log.memo(&ended_memo(&on.set)).await?;
    let known = memo.as_deref().and_then(|memo| {
        let (epoch, until_ms) = memo.split_once(' ')?;
        Some((epoch.parse::<u64>().ok()?, until_ms.parse::<i64>().ok()?))
    });
    Ok(match known {
        Some((epoch, until_ms)) if epoch + 1 == owned.epoch.0 => {
            let left = until_ms.saturating_sub(on.clock.now_ms()).max(0);
            Duration::from_millis(left.unsigned_abs()).min(deadline)
        }
        Some(_) | None => deadline,
    })
}

impl Tenure<'_> {
    /// A write of ours may have arrived or not, or still arrive.
    pub(super) fn is_unknown(&mut self) {
        self.unknown_until = Instant::now() + self.on.options.deadline;
    }

    /// Passes on to the next owner until when writes may arrive. Where that cannot be written, it waits longer.
    pub(super) async fn write_end(&self) {
        if !self.on.engine.capabilities().forgets_deletes {
            return;
        }
        let left = self.former_until.max(self.unknown_until) - Instant::now();
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX / 2);
        let until_ms = self.on.clock.now_ms() + left;
        let text = format!("{} {until_ms}", self.context.owned.epoch.0);
        if let Err(error) = self.on.log.set_memo(&ended_memo(&self.on.set), Some(&text)).await {
            tracing::debug!(set = %self.on.set, "the end cannot be written down: {error}");
        }
    }
}
