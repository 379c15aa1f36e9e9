//! The demo's only source of chance: splitmix64, so that a seed decides every byte.
//!
//! It is not for secrets, and it asks neither the clock nor the system. Its draws are part of what a seed means: change
//! them and every demo database changes.

/// A seeded sequence of draws.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The high half of a 32 × 32 bit product; its bias is far below what a demo could show.
        let draw = self.next() >> 32;
        u32::try_from((draw * u64::from(bound)) >> 32)
            .expect("the product of two 32-bit numbers, shifted by 32, fits")
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 draws.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, each as likely as the others. `items` must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let length = u32::try_from(items.len()).expect("the demo's lists are short");
        &items[self.below(length) as usize]
    }

    /// One of `items`, as likely as its weight says. The weights must not all be 0.
    pub(crate) fn weighted<T: Copy>(&mut self, items: &[(u32, T)]) -> T {
        let total: u32 = items.iter().map(|(weight, _)| weight).sum();
        let mut draw = self.below(total);
        for &(weight, item) in items {
            if draw < weight {
                return item;
            }
            draw -= weight;
        }
        unreachable!("a draw below the sum of the weights falls within one of them")
    }

    /// Puts `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(u32::try_from(last + 1).expect("the demo's lists are short")) as usize;
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference sequence of splitmix64 from seed 1234567.
    #[test]
    fn follows_the_published_sequence() {
        let mut dice = Dice::new(1_234_567);
        assert_eq!(
            [dice.next(), dice.next(), dice.next()],
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn stays_within_its_bounds_and_reaches_them() {
        let mut dice = Dice::new(7);
        let mut seen = [false; 4];
        for _ in 0..1_000 {
            let draw = dice.between(3, 6);
            seen[(draw - 3) as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn a_weight_of_nothing_is_never_drawn() {
        let mut dice = Dice::new(9);
        let drawn: Vec<char> = (0..1_000)
            .map(|_| dice.weighted(&[(0, 'a'), (1, 'b'), (3, 'c')]))
            .collect();
        assert!(!drawn.contains(&'a'));
        assert!((200..300).contains(&drawn.iter().filter(|letter| **letter == 'b').count()));
    }
}
