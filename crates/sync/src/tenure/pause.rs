//! Collections that a person paused: looked up now and then, held back, and let go.
//!
//! What is touched meanwhile waits in the log and, once taken, in memory. When so much has been taken behind it that the
//! other collections would have to stop, it is left to a scan instead, which is begun durably first and runs when the
//! collection is resumed.

use std::collections::BTreeSet;

use instep_core::{ChangeLog, CollectionName, Result};

use super::{HELD, Tenure};
use crate::flight::Lane;

/// Numbers taken beyond the position before a paused collection no longer keeps any of them.
const KEPT: usize = HELD / 2;

impl Tenure<'_> {
    /// Brings what is held back in line with what is paused now.
    pub(super) async fn look_for_paused(&mut self) -> Result<()> {
        let paused = self.on.log.paused().await?;
        if paused.is_empty() && !self.health.has_paused() {
            return Ok(());
        }
        let targets = self.on.targets.iter();
        let held = targets.filter(|(name, target)| paused.iter().any(|one| one.holds(name, &target.source)));
        let held: BTreeSet<CollectionName> = held.map(|(name, _)| name.clone()).collect();
        if self.health.pause(held) {
            // What was left is scanned now.
            self.scans_changed = true;
        }
        if self.flight.held() >= KEPT {
            self.leave_paused().await?;
        }
        Ok(())
    }

    /// What paused collections keep waiting is left to scans, so that the position moves on.
    async fn leave_paused(&mut self) -> Result<()> {
        let keeping: Vec<CollectionName> = self
            .health
            .waiting_paused()
            .filter(|name| self.flight.has_waiting(Lane::Live, name))
            .cloned()
            .collect();
        for collection in keeping {
            let fingerprint = self.on.targets[&collection].fingerprint.clone();
            self.on
                .log
                .rescan(&self.on.set, &[(collection.clone(), fingerprint)], true)
                .await?;
            tracing::info!(set = %self.on.set, %collection, "many changes wait for the paused collection: it is scanned when it is resumed");
            self.walks.remove(&collection);
            self.scans_changed = true;
            self.health.leave_paused(&collection);
        }
        Ok(())
    }
}
