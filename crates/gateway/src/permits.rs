//! How many requests are answered at once, and how many of them for one caller.
//!
//! Guarantees: no caller can take all places: those without a key together take at most half of them, one key's
//! subject at most three quarters. Whoever asks beyond that is refused at once, rather than made to wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use instep_core::{Error, Principal};

use crate::failure::Failure;

/// Places of requests that are being answered.
#[derive(Debug)]
pub(crate) struct Permits {
    places: usize,
    /// Those taken, by subject; `None` are all callers without a key.
    taken: Arc<Mutex<HashMap<Option<String>, usize>>>,
}

/// One place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    subject: Option<String>,
    taken: Arc<Mutex<HashMap<Option<String>, usize>>>,
}

impl Permits {
    pub(crate) fn new(places: usize) -> Self {
        Permits {
            places,
            taken: Arc::default(),
        }
    }

    /// A place for a request of this caller; 429 where there is none.
    pub(crate) fn take(&self, principal: &Principal) -> Result<Permit, Failure> {
        let subject = principal.subject.clone();
        let share = match subject {
            Some(_) => self.places - self.places / 4,
            None => self.places.div_ceil(2),
        };
        let mut taken = lock(&self.taken);
        let all: usize = taken.values().sum();
        let own = taken.get(&subject).copied().unwrap_or_default();
        if all >= self.places {
            return Err(refused("too many requests are being answered"));
        }
        if own >= share {
            return Err(refused(match subject {
                Some(_) => "too many requests of this API key are being answered",
                None => "too many requests without an API key are being answered",
            }));
        }
        taken.insert(subject.clone(), own + 1);
        Ok(Permit {
            subject,
            taken: self.taken.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match taken.get_mut(&self.subject) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(taken.remove(&self.subject)),
        }
    }
}

/// Nothing panics while it is held; were it so, the counts would still be whole.
fn lock(taken: &Mutex<HashMap<Option<String>, usize>>) -> MutexGuard<'_, HashMap<Option<String>, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(message: &str) -> Failure {
    Failure::new(
        StatusCode::TOO_MANY_REQUESTS,
        Error::transient("rejected_execution_exception", message),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn caller(subject: Option<&str>) -> Principal {
        Principal {
            subject: subject.map(str::to_owned),
            ..Principal::anonymous()
        }
    }

    /// How many places the caller gets on top of those that are taken.
    fn takes(permits: &Permits, subject: Option<&str>) -> Vec<Permit> {
        std::iter::from_fn(|| permits.take(&caller(subject)).ok()).collect()
    }

    #[test]
    fn no_caller_takes_all_places() {
        for (places, anonymous, keyed) in [
            (64, 32, 48),
            (8, 4, 6),
            (3, 2, 3),
            (2, 1, 2),
            (1, 1, 1),
            (0, 0, 0),
        ] {
            let permits = Permits::new(places);
            assert_eq!(takes(&permits, None).len(), anonymous, "{places} places");
            assert_eq!(takes(&permits, Some("a")).len(), keyed, "{places} places");
            assert!(permits.taken.lock().unwrap().is_empty(), "dropped ones are free");
        }
    }

    #[test]
    fn places_are_shared_by_all() {
        let permits = Permits::new(8);
        let anonymous = takes(&permits, None);
        let keyed = takes(&permits, Some("a"));
        assert_eq!((anonymous.len(), keyed.len()), (4, 4));
        assert_eq!(takes(&permits, Some("b")).len(), 0);
        drop(keyed);
        assert_eq!(takes(&permits, Some("b")).len(), 4);
        assert_eq!(takes(&permits, None).len(), 0);
        drop(anonymous);
        assert_eq!(takes(&permits, Some("b")).len(), 6);
    }
}
