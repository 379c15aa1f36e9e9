//! Porter's first stemmer of English (M. F. Porter, "An algorithm for suffix stripping", 1980), as Lucene has it.
//!
//! Lucene keeps three later departures of its author: a word of one or two letters stays as it is, `bli` becomes
//! `ble` (the paper: `abli` becomes `able`), and `logi` becomes `log`.
//! A word is a series of UTF-16 units, as for Lucene: every one but `aeiou` and a vocalic `y` is a consonant.

/// Suffixes and what takes their place where at least one vowel-consonant pair precedes them (step 2 of the paper).
const DOUBLE_SUFFIXES: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("logi", "log"),
];

/// As [`DOUBLE_SUFFIXES`], for what that step left (step 3).
const DERIVED_SUFFIXES: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Suffixes that go where at least two vowel-consonant pairs precede them (step 4); of several, the longest counts.
const SINGLE_SUFFIXES: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// Replaces the lower-case word by its stem.
pub(super) fn stem(word: &mut String) {
    if word.is_ascii() {
        let mut units = std::mem::take(word).into_bytes();
        Stem(&mut units).reduce();
        *word = String::from_utf8(units).expect("ASCII stays ASCII");
    } else {
        let mut units: Vec<u16> = word.encode_utf16().collect();
        Stem(&mut units).reduce();
        // Steps cut ASCII letters and one of two equal units, so never half of a surrogate pair.
        *word = String::from_utf16(&units).expect("only whole characters are cut");
    }
}

struct Stem<'a, Unit>(&'a mut Vec<Unit>);

impl<Unit: Copy + PartialEq + From<u8>> Stem<'_, Unit> {
    fn reduce(&mut self) {
        if self.0.len() <= 2 {
            return;
        }
        self.cut_plural();
        self.cut_past_and_participle();
        if let Some(before) = self.before("y")
            && self.has_vowel(before)
        {
            self.replace(before, "i");
        }
        if self.0.len() > 1 {
            self.replace_first(DOUBLE_SUFFIXES);
        }
        self.replace_first(DERIVED_SUFFIXES);
        if self.0.len() > 1 {
            self.cut_single_suffix();
        }
        self.cut_final_e();
    }

    fn cut_plural(&mut self) {
        if let Some(before) = self.before("sses") {
            self.replace(before, "ss");
        } else if let Some(before) = self.before("ies") {
            self.replace(before, "i");
        } else if self.ends_with("s") && !self.ends_with("ss") {
            self.0.pop();
        }
    }

    fn cut_past_and_participle(&mut self) {
        if let Some(before) = self.before("eed") {
            if self.measure(before) > 0 {
                self.0.pop();
            }
            return;
        }
        let Some(before) = self.before("ed").or_else(|| self.before("ing")) else {
            return;
        };
        if !self.has_vowel(before) {
            return;
        }
        self.0.truncate(before);
        if self.ends_with("at") || self.ends_with("bl") || self.ends_with("iz") {
            self.push('e');
        } else if self.ends_in_double_consonant() {
            if !(self.ends_with("l") || self.ends_with("s") || self.ends_with("z")) {
                self.0.pop();
            }
        } else if self.measure(before) == 1 && self.is_short(before) {
            self.push('e');
        }
    }

    fn cut_single_suffix(&mut self) {
        let Some(before) = SINGLE_SUFFIXES
            .iter()
            .filter_map(|suffix| self.before(suffix).map(|before| (suffix, before)))
            .filter(|&(suffix, before)| *suffix != "ion" || self.is_any_of(before, b"st"))
            .map(|(_, before)| before)
            .min()
        else {
            return;
        };
        if self.measure(before) > 1 {
            self.0.truncate(before);
        }
    }

    /// Step 5: a final `e`, and one `l` of two.
    fn cut_final_e(&mut self) {
        let whole = self.0.len();
        let measure = self.measure(whole);
        if let Some(before) = self.before("e")
            && (measure > 1 || measure == 1 && !self.is_short(before))
        {
            self.0.pop();
        }
        if self.ends_with("ll") && measure > 1 {
            self.0.pop();
        }
    }

    /// Replaces the first suffix of the table that the word ends with, if enough precedes it.
    fn replace_first(&mut self, table: &[(&str, &str)]) {
        for (suffix, replacement) in table {
            if let Some(before) = self.before(suffix) {
                if self.measure(before) > 0 {
                    self.replace(before, replacement);
                }
                return;
            }
        }
    }

    fn replace(&mut self, before: usize, replacement: &str) {
        self.0.truncate(before);
        self.0.extend(replacement.bytes().map(Unit::from));
    }

    fn push(&mut self, letter: char) {
        self.0.extend(u8::try_from(letter).map(Unit::from));
    }

    /// How many units precede the suffix, if the word ends with it.
    fn before(&self, suffix: &str) -> Option<usize> {
        let before = self.0.len().checked_sub(suffix.len())?;
        let ends = self.0[before..]
            .iter()
            .copied()
            .eq(suffix.bytes().map(Unit::from));
        ends.then_some(before)
    }

    fn ends_with(&self, suffix: &str) -> bool {
        self.before(suffix).is_some()
    }

    /// Whether the unit before `end` is one of these.
    fn is_any_of(&self, end: usize, letters: &[u8]) -> bool {
        end.checked_sub(1)
            .is_some_and(|last| letters.iter().any(|&letter| self.0[last] == Unit::from(letter)))
    }

    /// Which of the first `end` units are consonants; a `y` is one at the start and after a vowel.
    fn consonants(&self, end: usize) -> impl Iterator<Item = bool> {
        self.0[..end].iter().scan(false, |before, &unit| {
            let is = |letter: &u8| unit == Unit::from(*letter);
            *before = if is(&b'y') {
                !*before
            } else {
                !b"aeiou".iter().any(is)
            };
            Some(*before)
        })
    }

    fn is_consonant(&self, at: usize) -> bool {
        self.consonants(at + 1).last().unwrap_or(false)
    }

    /// The number of vowel-consonant pairs in the first `end` units: the paper's m.
    fn measure(&self, end: usize) -> usize {
        let mut pairs = 0;
        let mut after_vowel = false;
        for consonant in self.consonants(end) {
            pairs += usize::from(consonant && after_vowel);
            after_vowel = !consonant;
        }
        pairs
    }

    fn has_vowel(&self, end: usize) -> bool {
        self.consonants(end).any(|consonant| !consonant)
    }

    fn ends_in_double_consonant(&self) -> bool {
        match self.0.as_slice() {
            [.., first, last] => first == last && self.is_consonant(self.0.len() - 1),
            _ => false,
        }
    }

    /// Whether the first `end` units end in consonant, vowel, consonant, the last of which is not `w`, `x` or `y`:
    /// the paper's *o, for which a cut `e` is given back (`hop(e)`).
    fn is_short(&self, end: usize) -> bool {
        end >= 3
            && self.is_consonant(end - 3)
            && !self.is_consonant(end - 2)
            && self.is_consonant(end - 1)
            && !self.is_any_of(end, b"wxy")
    }
}
