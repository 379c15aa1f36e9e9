//! Reads what the test binaries print and keeps the count: passed, failed, ignored, skipped.
//!
//! A test that cannot run here (a client, a data set is missing) writes a line that starts with `SKIPPED` straight to
//! standard error, where the test harness does not capture it. Those lines are collected for the closing summary, so
//! that a skipped test is never mistaken for a passed one.

/// The word a skip line starts with.
const SKIPPED: &str = "SKIPPED";

/// Counts over all test binaries read so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    /// The names of the failed tests.
    pub(crate) failing: Vec<String>,
    /// Skip lines without the leading word, each once.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// Takes one line of output, without its line end.
    pub(crate) fn read(&mut self, line: &str) {
        let line = line.trim();
        // With one thread the harness prints `test name ... ` before the test runs and writes.
        let said = line.split_once(" ... ").map_or(line, |(_, said)| said);
        if let Some(reason) = said.strip_prefix(SKIPPED) {
            let reason = reason.trim_start_matches([':', ' ']).to_owned();
            if !self.skipped.contains(&reason) {
                self.skipped.push(reason);
            }
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failing.push(name.to_owned());
        }
    }

    /// Adds what another reader counted.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failing.extend(other.failing);
        for reason in other.skipped {
            if !self.skipped.contains(&reason) {
                self.skipped.push(reason);
            }
        }
    }
}

/// The number in front of a word: `ok. 3 passed; 0 failed` has 3 before `passed`.
fn count(counts: &str, word: &str) -> usize {
    let parts = counts.split(['.', ';']).map(str::trim);
    let mut numbers = parts.filter_map(|part| part.strip_suffix(word)?.trim_end().parse().ok());
    numbers.next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_binaries() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test key::orders ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "SKIPPED tate: no real data",
            "SKIPPED: tate: no real data",
            "test tate::moves ... SKIPPED tate: no real data",
            "test src/lib.rs - Name (line 3) ... FAILED",
            "test a::b ... FAILED",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s",
        ] {
            tally.read(line);
        }
        let expected = Tally {
            passed: 13,
            failed: 2,
            failing: vec!["src/lib.rs - Name (line 3)".to_owned(), "a::b".to_owned()],
            ignored: 1,
            skipped: vec!["tate: no real data".to_owned()],
        };
        assert_eq!(tally, expected);
    }
}
