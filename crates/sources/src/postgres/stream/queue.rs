//! What lies between the task that reads the socket and the one that takes pieces.
//!
//! Bounded by changes and by bytes: when it is full the task stops to read, and the server waits with what it has. Many
//! places without changes are one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use instep_core::{Error, Result};
use tokio::sync::Notify;

use super::Piece;
use crate::postgres::locked;
use crate::postgres::lsn::Lsn;

/// No more is read while so many changes wait.
const CHANGES: usize = 20_000;
/// No more is read while changes of about so many bytes wait.
const BYTES: usize = 32 << 20;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to take.
    filled: Notify,
    /// There is room again.
    drained: Notify,
    /// Nobody takes any more.
    left: Notify,
    /// Something is safe that the server was not told.
    safe: Notify,
    safe_upto: AtomicU64,
    untold: AtomicBool,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<(Piece, usize)>,
    changes: usize,
    bytes: usize,
    /// The task waits for room.
    full: bool,
    end: Option<Error>,
}

impl State {
    fn has_room(&self) -> bool {
        self.changes < CHANGES && self.bytes < BYTES
    }
}

fn weight(piece: &Piece) -> usize {
    match piece {
        Piece::Changes(changes) => changes.len(),
        Piece::Begin { .. } | Piece::Commit { .. } | Piece::Idle(_) | Piece::Defined(_) => 0,
    }
}

impl Queue {
    /// Puts a piece, of changes that hold about so many bytes; [`Self::announce`] must follow. Whether there is room for
    /// more: if not, wait for [`Self::room`].
    pub(super) fn put(&self, piece: Piece, bytes: usize) -> bool {
        let mut state = self.state();
        // A later place says all that an earlier one does.
        if matches!(piece, Piece::Idle(_)) && matches!(state.pieces.back(), Some((Piece::Idle(_), _))) {
            state.pieces.pop_back();
        }
        state.changes += weight(&piece);
        state.bytes += bytes;
        state.pieces.push_back((piece, bytes));
        let room = state.has_room();
        state.full = !room;
        room
    }

    /// Wakes the taker for what was put. Once for all of it: waking costs more than a short transaction.
    pub(super) fn announce(&self) {
        self.filled.notify_one();
    }

    /// Waits for room. Cancel-safe.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.drained.notified().await;
        }
    }

    fn has_room(&self) -> bool {
        let mut state = self.state();
        let room = state.has_room();
        state.full = !room;
        room
    }

    /// Nothing more comes, and this is why.
    pub(super) fn end(&self, why: Error) {
        self.state().end = Some(why);
        self.filled.notify_one();
    }

    /// Waits for the next piece. Cancel-safe: what it took is returned at once.
    pub(super) async fn take(&self) -> Result<Piece> {
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    /// The next piece if it is there already.
    pub(super) fn try_take(&self) -> Option<Result<Piece>> {
        let mut state = self.state();
        let Some((piece, bytes)) = state.pieces.pop_front() else {
            let ended = || Error::transient("database_away", "the stream has ended");
            return state.end.as_mut().map(|end| Err(std::mem::replace(end, ended())));
        };
        state.changes -= weight(&piece);
        state.bytes -= bytes;
        // Not at the first place that is free: both sides shall work for a while before they change places.
        if state.full && state.changes < CHANGES / 2 && state.bytes < BYTES / 2 {
            state.full = false;
            self.drained.notify_one();
        }
        Some(Ok(piece))
    }

    /// Nobody takes any more.
    pub(super) fn leave(&self) {
        self.left.notify_one();
    }

    /// Waits until nobody takes any more.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// Everything up to here is safe. It never goes back.
    pub(super) fn acknowledge(&self, upto: Lsn) {
        if self.safe_upto.fetch_max(upto.0, Ordering::AcqRel) < upto.0
            && !self.untold.swap(true, Ordering::AcqRel)
        {
            self.safe.notify_one();
        }
    }

    /// Waits until more is safe than [`Self::safe_upto`] has said.
    pub(super) async fn safer(&self) {
        self.safe.notified().await;
    }

    /// Up to where everything is safe; 0 before anything is.
    pub(super) fn safe_upto(&self) -> Lsn {
        // In this order: what comes between the two is announced again.
        self.untold.store(false, Ordering::Release);
        Lsn(self.safe_upto.load(Ordering::Acquire))
    }

    /// How many changes wait, and about how many bytes they hold.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let state = self.state();
        (state.changes, state.bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}
