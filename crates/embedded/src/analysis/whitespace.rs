//! What stands between white space, as Lucene's whitespace tokenizer finds it.

use std::ops::Range;

use super::standard::MAX_WORD;

/// The words of a text, as ranges of bytes on character boundaries, in order and disjoint. One that reaches
/// [`MAX_WORD`] UTF-16 units ends there, and the rest is the next.
pub(super) struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Words { text, at: 0 }
    }
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at + self.text[self.at..].find(|character| !is_white_space(character))?;
        let mut units = 0;
        self.at = self.text.len();
        for (offset, character) in self.text[start..].char_indices() {
            if units >= MAX_WORD || is_white_space(character) {
                self.at = start + offset;
                break;
            }
            units += character.len_utf16();
        }
        Some(start..self.at)
    }
}

/// White space that may break a line; the information separators count, the non-breaking spaces do not.
fn is_white_space(character: char) -> bool {
    match character {
        '\u{1C}'..='\u{1F}' => true,
        '\u{85}' | '\u{A0}' | '\u{2007}' | '\u{202F}' => false,
        _ => character.is_whitespace(),
    }
}
