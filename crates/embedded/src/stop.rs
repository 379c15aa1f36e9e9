//! When a search ends early: whoever asked no longer waits for the answer.
//!
//! A search runs on a thread that nothing can take away from it, so it looks for itself: between indexes, between
//! segments, and every few thousand documents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use instep_core::{Error, Result};

/// Tells a search whether its caller is gone; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// Stops the search when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Stop);

impl Stop {
    /// What the caller holds for as long as it waits.
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(self.clone())
    }

    /// Fails as soon as nobody waits for the answer.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::transient(
                "search_stopped",
                "nobody waits for the search any more",
            ));
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
