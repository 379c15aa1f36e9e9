//! Requests on their way to an engine: delivered in any order, late, lost or more than once.

use super::engine::Write;
use super::log::SetKey;

/// Only a step that waits moves the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) u64);

/// How long after its batch was taken a request may still be sent or applied.
pub(crate) const TIMEOUT: u64 = 4;

/// A worker, and a batch of it; never used again, so that an answer finds its batch or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchId {
    pub(crate) worker: u32,
    pub(crate) batch: u32,
}

/// The writes of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) set: SetKey,
    pub(crate) batch: BatchId,
    pub(crate) deadline: Time,
    pub(crate) writes: Vec<Write>,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is applied and answered.
    Answered,
    /// Only its first write is applied, the rest is refused for now; answered.
    PartlyRefused,
    /// It is applied, its answer is lost.
    AnswerLost,
    /// It is applied, its answer is lost, and a copy stays on its way (a proxy that tries again).
    Copied,
    /// It is applied and answered, and a copy stays on its way. Where deletes are forgotten this counts as
    /// [`Copied`](Self::Copied): no rule protects such an engine from copies of a request that was answered.
    AnsweredAndCopied,
    /// It vanishes.
    Lost,
}
