//! The words of a text as Lucene's standard tokenizer finds them.
//!
//! Word boundaries are those of UAX #29, from the segmentation library; Lucene adds: emoji and flags are words,
//! an ideograph or Hiragana is a word, a run of an unspaced script (Thai) is one word, and no word is longer than
//! [`MAX_WORD`] UTF-16 units: a longer one is cut into pieces of that length. As Lucene's scanner does, each
//! step looks at no more than that many units from where it stands, takes the longest word that starts there, and
//! else goes one character on; so the time is bounded whatever the text.
//!
//! Known to differ from Lucene 9: what became a letter or digit after Unicode 12.1 is one here; a Hebrew word may end
//! elsewhere where an apostrophe stands within or behind it; so may a word with a joiner before `ℹ` or `Ⓜ`.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::characters::{
    EMOJI_PRESENTATION, KEY_CAP, TEXT_PRESENTATION, ZERO_WIDTH_JOINER, is_connector, is_emoji_modifier,
    is_extending, is_latin_letter, is_pictograph, is_regional_indicator, is_tag, is_tag_end, is_unspaced,
    is_word_by_itself, is_word_or_connector,
};

/// The longest word, in UTF-16 units.
pub(super) const MAX_WORD: usize = 255;

/// Enough bytes to hold more than [`MAX_WORD`] units of any text.
const WINDOW_BYTES: usize = 1024;

/// The words of a text, as ranges of bytes on character boundaries, in order and disjoint.
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
        while let Some(first) = self.text[self.at..].chars().next() {
            let start = self.at;
            match step(&self.text[start..], first) {
                Step::Word(length) => {
                    self.at += length;
                    return Some(start..self.at);
                }
                Step::Skip(length) => self.at += length,
            }
        }
        None
    }
}

/// What the scanner does where it stands, with a number of bytes.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Word(usize),
    Skip(usize),
}

fn step(rest: &str, first: char) -> Step {
    if let Some(length) = plain_word(rest) {
        return Step::Word(length);
    }
    general_step(rest, first)
}

fn general_step(rest: &str, first: char) -> Step {
    let may_be_key_cap =
        matches!(first, '#' | '*') && rest.as_bytes().get(1).is_some_and(|byte| !byte.is_ascii());
    if first.is_ascii() && !is_word_or_connector(first) && !may_be_key_cap {
        return Step::Skip(1);
    }
    // What is found within more than enough and is short enough is also the longest within the window itself.
    let found = match longest(&rest[..rest.floor_char_boundary(WINDOW_BYTES)], first) {
        Some(length) if length > MAX_WORD => longest(window(rest), first),
        found => found,
    };
    match found {
        Some(length) => Step::Word(length),
        None if is_connector(first) => Step::Skip(connectors(rest)),
        None => Step::Skip(first.len_utf8()),
    }
}

/// The longest word that the window starts with.
fn longest(window: &str, first: char) -> Option<usize> {
    let word = if is_unspaced(first) {
        Some(run(window, |character| {
            is_unspaced(character) || is_extending(character)
        }))
    } else if is_word_by_itself(first) {
        Some(extended(window, first.len_utf8()))
    } else if is_word_or_connector(first) {
        word(window)
    } else {
        None
    };
    word.max(symbol(window, first))
}

/// A word of Latin letters and digits with an end that needs no rule: most words of most texts.
fn plain_word(rest: &str) -> Option<usize> {
    let plain = |character: char| character.is_ascii_alphanumeric() || is_latin_letter(character);
    // One unit more than a word may have: a run of that many is left to the general rule.
    let length = rest
        .char_indices()
        .take(MAX_WORD + 1)
        .find(|&(_, character)| !plain(character));
    let length = match length {
        Some((length, _)) => length,
        None if rest.len() <= MAX_WORD => rest.len(),
        None => return None,
    };
    if length == 0 || length > MAX_WORD {
        return None;
    }
    let mut after = rest[length..].bytes();
    let ends = match after.next() {
        None => true,
        Some(b'_') => false,
        // These join what stands on both sides of them, unless what follows is certainly neither letter nor digit.
        Some(b'.' | b',' | b':' | b';' | b'\'') => after
            .next()
            .is_none_or(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric()),
        Some(byte) => byte.is_ascii(),
    };
    ends.then_some(length)
}

/// The part of the text that one step may look at: [`MAX_WORD`] units, and no half character.
fn window(rest: &str) -> &str {
    let mut units = 0;
    for (offset, character) in rest.char_indices() {
        units += character.len_utf16();
        if units > MAX_WORD {
            return &rest[..offset];
        }
    }
    rest
}

/// The word of letters, digits, Katakana and connectors that the window starts with.
fn word(window: &str) -> Option<usize> {
    let mut word = first_segment(window);
    // UAX #29 joins a pictograph to a joiner (WB3c); here it is a word of its own, unless it is a letter too (`ℹ`).
    if let Some((joined, pictograph)) = joined_pictograph(word) {
        let before = first_segment(&word[..joined]);
        if before.len() < joined || !is_word_or_connector(pictograph) {
            word = before;
        }
    }
    let has_more_than_connectors = word
        .chars()
        .any(|character| !is_connector(character) && is_word_or_connector(character));
    has_more_than_connectors.then_some(word.len())
}

fn first_segment(text: &str) -> &str {
    text.split_word_bounds().next().unwrap_or(text)
}

/// The first pictograph that follows a joiner, and where it stands.
fn joined_pictograph(word: &str) -> Option<(usize, char)> {
    word.match_indices(ZERO_WIDTH_JOINER)
        .find_map(|(offset, joiner)| {
            let after = offset + joiner.len();
            let next = word[after..].chars().next()?;
            is_pictograph(next).then_some((after, next))
        })
}

/// How far to skip where connectors stand that no word follows within the window: to their end, to a character among
/// them that may start a word, or to where a word behind them first comes into the window.
fn connectors(rest: &str) -> usize {
    let near = &rest[..rest.floor_char_boundary(4 * WINDOW_BYTES)];
    let end = run(near, |character| {
        is_connector(character) || is_extending(character)
    });
    let starts_a_word = |character: char| {
        character == ZERO_WIDTH_JOINER || is_unspaced(character) || is_emoji_modifier(character)
    };
    let mut skipped = near[..end].find(starts_a_word).unwrap_or(end);
    let mut units = 0;
    for (offset, character) in near[..end].char_indices().rev() {
        units += character.len_utf16();
        if units >= MAX_WORD - 1 {
            skipped = skipped.min(offset);
            break;
        }
    }
    skipped.max(rest.chars().next().map_or(0, char::len_utf8))
}

/// The length of the longest beginning of the text of which every character passes.
fn run(text: &str, passes: impl Fn(char) -> bool) -> usize {
    text.find(|character| !passes(character)).unwrap_or(text.len())
}

/// The end of the extending characters that stand at `from`.
fn extended(window: &str, from: usize) -> usize {
    from + run(&window[from..], is_extending)
}

/// As [`extended`], but the presentation selectors end it.
fn extended_to_presentation(window: &str, from: usize) -> usize {
    let extends =
        |character| !matches!(character, TEXT_PRESENTATION | EMOJI_PRESENTATION) && is_extending(character);
    from + run(&window[from..], extends)
}

/// The emoji sequence, key cap or flag that the window starts with.
fn symbol(window: &str, first: char) -> Option<usize> {
    if matches!(first, '#' | '*') {
        key_cap(window)
    } else if first.is_ascii() || is_latin_letter(first) {
        None
    } else if is_regional_indicator(first) {
        flag(window)
    } else {
        emoji(window)
    }
}

fn key_cap(window: &str) -> Option<usize> {
    let end = extended_to_presentation(window, 1);
    if window[end..]
        .strip_prefix(EMOJI_PRESENTATION)
        .is_some_and(|after| after.starts_with(KEY_CAP))
    {
        return Some(extended_to_presentation(
            window,
            end + EMOJI_PRESENTATION.len_utf8(),
        ));
    }
    window[..end].contains(KEY_CAP).then_some(end)
}

fn flag(window: &str) -> Option<usize> {
    let first = window.chars().next()?;
    let second_at = extended(window, first.len_utf8());
    let second = window[second_at..].chars().next()?;
    is_regional_indicator(second).then(|| extended(window, second_at + second.len_utf8()))
}

fn emoji(window: &str) -> Option<usize> {
    let mut part = emoji_part(window, 0)?;
    if let Some(end) = tags(window, part.end) {
        return Some(end);
    }
    while let Some(next) = part.next_at(window).and_then(|at| emoji_part(window, at)) {
        part = next;
    }
    Some(part.end)
}

/// One emoji of a sequence of joined ones.
struct EmojiPart {
    end: usize,
    has_presentation: bool,
}

impl EmojiPart {
    /// Where the next part of the sequence may start: behind a joiner.
    fn next_at(&self, window: &str) -> Option<usize> {
        if self.has_presentation {
            window[self.end..]
                .starts_with(ZERO_WIDTH_JOINER)
                .then(|| self.end + ZERO_WIDTH_JOINER.len_utf8())
        } else {
            window[..self.end]
                .ends_with(ZERO_WIDTH_JOINER)
                .then_some(self.end)
        }
    }
}

fn emoji_part(window: &str, start: usize) -> Option<EmojiPart> {
    let at = start + run(&window[start..], |character| character == ZERO_WIDTH_JOINER);
    let first = window[at..].chars().next()?;
    if is_emoji_modifier(first) && at == start {
        let end = extended_to_presentation(window, at + first.len_utf8());
        return Some(EmojiPart {
            end,
            has_presentation: false,
        });
    }
    if !is_pictograph(first) {
        return None;
    }
    let end = extended_to_presentation(window, at + first.len_utf8());
    match window[end..].strip_prefix(EMOJI_PRESENTATION) {
        Some(_) => Some(EmojiPart {
            end: end + EMOJI_PRESENTATION.len_utf8(),
            has_presentation: true,
        }),
        None => Some(EmojiPart {
            end,
            has_presentation: false,
        }),
    }
}

/// The end of the spelling of a region behind a flag, where one stands at `from`.
fn tags(window: &str, from: usize) -> Option<usize> {
    let end = from + run(&window[from..], is_tag);
    let last = window[end..].chars().next()?;
    (end > from && is_tag_end(last)).then(|| end + last.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_cut_agrees_with_the_general_rule(text in "[a-cA-C0-3é_.,:;' \u{301}\u{ad}\u{fe0f}\u{20e3}א字ア]{0,12}|[a ]{250,260}") {
            for (offset, first) in text.char_indices() {
                if let Some(length) = plain_word(&text[offset..]) {
                    prop_assert_eq!(Step::Word(length), general_step(&text[offset..], first));
                }
            }
        }
    }
}
