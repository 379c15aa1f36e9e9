//! Arrays of text: the values of one field, far enough apart that no phrase spans two of them.

use std::borrow::Cow;

use super::{Analyzer, Terms, Token};

/// The positions left free between two values of a field.
pub const POSITION_GAP: usize = 100;

/// Stands between values in one text. A noncharacter: text for interchange does not hold it.
const SEPARATOR: char = '\u{FFFF}';

/// Takes the place of a [`SEPARATOR`] that a value holds after all; as long, and as little a word.
const STAND_IN: char = '\u{FFFE}';

/// The values of a field as one text for the index: the tokenizer of [`Analyzer::tokenizer`] takes it apart again
/// and leaves [`POSITION_GAP`] positions between them. The text of a single value is borrowed.
///
/// (The index's own gap between values is 1, and its pre-tokenized values go through JSON.)
pub fn join_values<'a>(values: impl IntoIterator<Item = &'a str>) -> Cow<'a, str> {
    let mut values = values.into_iter();
    let Some(first) = values.next() else {
        return Cow::Borrowed("");
    };
    let mut joined = without_separator(first);
    for value in values {
        let joined = joined.to_mut();
        joined.push(SEPARATOR);
        joined.push_str(&without_separator(value));
    }
    joined
}

fn without_separator(value: &str) -> Cow<'_, str> {
    if value.contains(SEPARATOR) {
        Cow::Owned(value.replace(SEPARATOR, STAND_IN.encode_utf8(&mut [0; 4])))
    } else {
        Cow::Borrowed(value)
    }
}

impl Analyzer {
    /// The terms of all values of a field: positions as in the index, offsets within each token's own value.
    /// The number beside a token says which value it is from.
    pub fn analyze_values<'a>(self, values: impl IntoIterator<Item = &'a str>) -> Vec<(usize, Token)> {
        let mut tokens = Vec::new();
        let mut term = String::new();
        let mut base = 0;
        for (index, value) in values.into_iter().enumerate() {
            let mut terms = Terms::new(self, value);
            while let Some((position, word)) = terms.next_into(&mut term) {
                let text = std::mem::take(&mut term);
                let position = base + position;
                tokens.push((
                    index,
                    Token {
                        text,
                        position,
                        start: word.start,
                        end: word.end,
                    },
                ));
            }
            base += terms.positions() + POSITION_GAP;
        }
        tokens
    }
}

/// The terms of a text made by [`join_values`]; offsets are within that text.
pub(super) struct JoinedTerms<'a> {
    analyzer: Analyzer,
    terms: Terms<'a>,
    /// Where the value at hand starts in the joined text.
    offset: usize,
    /// The position of its first word.
    base: usize,
    /// The values behind it.
    rest: Option<&'a str>,
}

impl<'a> JoinedTerms<'a> {
    pub(super) fn new(analyzer: Analyzer, joined: &'a str) -> Self {
        let (value, rest) = first_value(joined);
        JoinedTerms {
            analyzer,
            terms: Terms::new(analyzer, value),
            offset: 0,
            base: 0,
            rest,
        }
    }

    /// Writes the next term to `token`; false at the end.
    pub(super) fn next_into(&mut self, token: &mut tantivy::tokenizer::Token) -> bool {
        loop {
            if let Some((position, word)) = self.terms.next_into(&mut token.text) {
                token.position = self.base + position;
                token.offset_from = self.offset + word.start;
                token.offset_to = self.offset + word.end;
                return true;
            }
            let Some(rest) = self.rest else {
                return false;
            };
            let (value, rest) = first_value(rest);
            self.offset += self.terms.text.len() + SEPARATOR.len_utf8();
            self.base += self.terms.positions() + POSITION_GAP;
            self.terms = Terms::new(self.analyzer, value);
            self.rest = rest;
        }
    }
}

fn first_value(joined: &str) -> (&str, Option<&str>) {
    match joined.split_once(SEPARATOR) {
        Some((value, rest)) => (value, Some(rest)),
        None => (joined, None),
    }
}
