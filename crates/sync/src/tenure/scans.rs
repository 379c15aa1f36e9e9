//! Scans: chunks of keys are enumerated one at a time, and go into the second lane.

use instep_core::{ChangeLog, CollectionName, DocKey, Result, Side};
use tokio::time::Instant;

use super::{Event, Tenure};
use crate::flight::{Lane, Request};
use crate::indexer::Target;
use crate::scan::{self, Enumerated, Step, Walk};

impl Tenure<'_> {
    pub(super) async fn start_enumerating(&mut self) -> Result<()> {
        if self.enumerating || self.flight.waiting(Lane::Second) >= self.on.options.chunk {
            return Ok(());
        }
        if self.scans_changed || self.walks.values().any(|walk| walk.next().is_some()) {
            self.refresh_walks().await?;
        }
        let closed = |name: &CollectionName| self.health.is_closed_to_scans(name, Instant::now());
        let open = self
            .walks
            .iter()
            .filter(|(name, _)| !closed(name) && self.is_captured(&self.on.targets[*name]));
        let Some(step) = open.filter_map(|(_, walk)| walk.next()).next() else {
            return Ok(());
        };
        self.enumerating = true;
        self.health.enumerating(&step.collection);
        let context = self.context.clone();
        let partitions = self.on.targets[&step.collection].partitions.clone();
        let chunk = self.on.options.chunk;
        self.tasks.spawn(async move {
            let found = scan::next_chunk(&context, &partitions, &step, chunk).await;
            Event::Enumerated(step, found)
        });
        Ok(())
    }

    /// A scan that was started again is walked from its beginning; what is left of the former walk finishes unheard.
    async fn refresh_walks(&mut self) -> Result<()> {
        self.scans_changed = false;
        for scan in self.on.log.scans(&self.on.set).await? {
            let name = scan.collection.clone();
            let is_ours = self
                .on
                .targets
                .get(&name)
                .is_some_and(|target| target.fingerprint == scan.fingerprint);
            match self.walks.get(&name) {
                Some(walk) if walk.run() == scan.run => {}
                Some(_) | None if is_ours && !scan.finished => {
                    tracing::info!(set = %self.on.set, collection = %name, run = scan.run, "scanning");
                    self.walks.insert(name, Walk::new(scan));
                }
                Some(_) => {
                    self.walks.remove(&name);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Keys that are enumerated before changes are captured would leave a gap.
    fn is_captured(&self, target: &Target) -> bool {
        self.on
            .sources
            .get(&target.source)
            .is_none_or(|status| status.borrow().captured)
    }

    pub(super) fn enumerated(&mut self, step: &Step, found: Result<Enumerated>) -> Result<()> {
        self.enumerating = false;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_transient() || step.side == Side::Source => {
                self.hold_collection(&step.collection, &error);
                return Ok(());
            }
            Err(error) => return Err(error.context(format!("scanning `{}`", step.collection))),
        };
        if self.health.leaves(&step.collection) {
            return Ok(());
        }
        // While there is something to build, only that proves that the collection is whole.
        if found.ids.is_empty() && found.troubled.is_empty() || !self.health.is_halted(&step.collection) {
            self.release(&step.collection);
        }
        // A scan that was started again meanwhile does not hear of the former walk's chunk.
        let Some(walk) = self
            .walks
            .get_mut(&step.collection)
            .filter(|walk| walk.expects(step))
        else {
            return Ok(());
        };
        let collection = &step.collection;
        let name = |id| DocKey {
            collection: collection.clone(),
            id,
        };
        if !found.troubled.is_empty() {
            let keys = found.troubled.into_iter().map(name).collect();
            let id = self.flight.chunk(keys, Request::Source);
            walk.enumerated(id, 0, None, false);
        }
        let size = found.ids.len() as u64;
        let keys = found.ids.into_iter().map(name).collect();
        let request = |id| match step.side {
            Side::Source => Request::Source(id),
            Side::Engine => Request::Engine(id),
        };
        let id = self.flight.chunk(keys, request);
        walk.enumerated(id, size, found.after, found.ended);
        Ok(())
    }
}
