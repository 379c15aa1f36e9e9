//! How many bulk requests run at once: one more after each round of successes, half as many after a refusal.

use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A limit that feels its way: additive increase, multiplicative decrease.
pub(crate) struct Throttle {
    places: Semaphore,
    most: usize,
    state: Mutex<State>,
}

struct State {
    limit: usize,
    successes: usize,
}

impl Throttle {
    pub(crate) fn new(most: usize) -> Self {
        Throttle {
            places: Semaphore::new(most),
            most,
            state: Mutex::new(State {
                limit: most,
                successes: 0,
            }),
        }
    }

    /// A place, once one is free.
    pub(crate) async fn place(&self) -> SemaphorePermit<'_> {
        self.places
            .acquire()
            .await
            .expect("the semaphore is never closed")
    }

    /// The cluster took a request.
    pub(crate) fn taken(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.successes += 1;
        if state.successes >= state.limit && state.limit < self.most {
            state.successes = 0;
            state.limit += 1;
            self.places.add_permits(1);
        }
    }

    /// The cluster had no room for a request, or for a part of it. The caller still holds its place.
    pub(crate) fn refused(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.successes = 0;
        let wanted = (state.limit / 2).max(1);
        // Places that are taken now cannot be removed: they shrink with the next refusal.
        let removed = self.places.forget_permits(state.limit - wanted);
        state.limit -= removed;
    }

    #[cfg(test)]
    fn limit(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_halves_and_grows_by_one() {
        let throttle = Throttle::new(8);
        throttle.refused();
        assert_eq!(throttle.limit(), 4);
        for _ in 0..5 {
            throttle.refused();
        }
        assert_eq!(throttle.limit(), 1);
        let _place = throttle.place().await;
        throttle.taken();
        assert_eq!(throttle.limit(), 2);
        throttle.taken();
        assert_eq!(throttle.limit(), 2);
        throttle.taken();
        assert_eq!(throttle.limit(), 3);
    }
}
