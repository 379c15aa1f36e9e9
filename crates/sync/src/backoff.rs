//! How long to wait before the next attempt: exponential, with jitter from a seed, so that a test can replay it and
//! many waiters do not return at once.

use std::time::Duration;

/// Waits between the attempts of one thing.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
    random: Random,
}

impl Backoff {
    /// The first wait is about `first`, each further one doubles, none is longer than `most`.
    pub(crate) fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Backoff {
            first,
            most,
            attempts: 0,
            random: Random(seed),
        }
    }

    /// The wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        wait(self.first, self.most, self.attempts, &mut self.random)
    }

    /// It worked: the next failure starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The wait after this many failed attempts: three to five quarters of `first × 2^(attempts − 1)`, at most `most`.
pub(crate) fn wait(first: Duration, most: Duration, attempts: u32, random: &mut Random) -> Duration {
    let doubled = first.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    let micros = u64::try_from(doubled.min(most).as_micros()).unwrap_or(u64::MAX / 2);
    Duration::from_micros(micros - micros / 4 + random.below(micros / 2 + 1)).min(most)
}

/// Random numbers from a seed (splitmix64): good enough to spread waits, nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_spread() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 1);
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        for (at, wait) in waits.iter().enumerate() {
            let middle = Duration::from_millis(100 << at.min(10)).min(Duration::from_secs(5));
            assert!(
                *wait >= middle.mul_f64(0.74) && *wait <= middle.mul_f64(1.26),
                "{at}: {wait:?}"
            );
        }
        assert!(waits[20..].windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        backoff.reset();
        assert!(backoff.next() < Duration::from_millis(130));
    }
}
