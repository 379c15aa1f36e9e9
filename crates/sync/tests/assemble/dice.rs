//! Choices drawn from a list of numbers, so that a failing case shrinks with the list.

/// What is left of the list; when nothing is left every choice is the first one.
pub(super) struct Dice<'a>(std::slice::Iter<'a, u16>);

impl<'a> Dice<'a> {
    pub(super) fn new(numbers: &'a [u16]) -> Self {
        Dice(numbers.iter())
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |number| usize::from(*number) % n)
    }

    /// True once in `n` times.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub(super) fn one<'b, T>(&mut self, items: &'b [T]) -> &'b T {
        &items[self.below(items.len())]
    }

    pub(super) fn used_up(&self) -> bool {
        self.0.len() == 0
    }
}
