//! Text analysis by Lucene's rules: what a text is searched by, at index time and in a query.
//!
//! [`Analyzer::analyze`] is the one place where text becomes terms; the index reaches it through
//! [`Analyzer::tokenizer`], queries and highlighting call it directly, so both sides always agree.
//! Tokens, positions and stop-word holes are those of Lucene's analyzers of the same names.
//! What is not here: which field has which analyzer (the schema), and normalisation of keyword fields.

mod adapter;
mod characters;
mod porter;
mod standard;
mod stop_words;
mod values;
mod whitespace;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use instep_core::error::{Error, Result};
use rust_stemmers::{Algorithm, Stemmer};

pub use adapter::{AnalyzerStream, AnalyzerTokenizer};
pub use values::{POSITION_GAP, join_values};

/// The state of the rules below: raise it with every change of any token or position, since that needs a
/// re-index. `fingerprint_of_the_rules` in the tests fails when a dependency changes them unasked.
const REVISION: u32 = 1;

/// How a text is cut into terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Analyzer {
    /// Words by UAX #29 with Lucene's additions, in lower case. No stop words, no stemming.
    Standard,
    /// As `Standard`, then: possessive `'s` cut, 33 stop words left out, Porter's first stemmer.
    English,
    /// As `Standard`, then: the Snowball project's Swedish stop words left out, its Swedish stemmer.
    Swedish,
    /// The whole text as one term, unchanged.
    Keyword,
    /// What stands between white space, unchanged.
    Whitespace,
}

/// One term of a text, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The term, as the index holds it.
    pub text: String,
    /// How many words precede it; stop words count, so that a phrase knows of the hole.
    pub position: usize,
    /// The byte at which its word starts in the text; a character boundary.
    pub start: usize,
    /// The byte after its word; a character boundary.
    pub end: usize,
}

/// The analyzer of a language, and whether it was made for that language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanguageAnalyzer {
    /// The language has an analyzer of its own.
    Own(Analyzer),
    /// The language has none yet: [`Analyzer::Standard`] stands in, without stemming and stop words.
    StandsIn,
}

impl LanguageAnalyzer {
    /// The analyzer to use.
    pub fn analyzer(self) -> Analyzer {
        match self {
            LanguageAnalyzer::Own(analyzer) => analyzer,
            LanguageAnalyzer::StandsIn => Analyzer::Standard,
        }
    }
}

impl Analyzer {
    /// Every analyzer there is.
    pub const ALL: [Analyzer; 5] = [
        Analyzer::Standard,
        Analyzer::English,
        Analyzer::Swedish,
        Analyzer::Keyword,
        Analyzer::Whitespace,
    ];

    /// The name in configuration, mappings and `_analyze`.
    pub fn as_str(self) -> &'static str {
        match self {
            Analyzer::Standard => "standard",
            Analyzer::English => "english",
            Analyzer::Swedish => "swedish",
            Analyzer::Keyword => "keyword",
            Analyzer::Whitespace => "whitespace",
        }
    }

    /// The analyzer of this name; an unknown name is `Invalid` and its remedy lists the names that exist.
    pub fn named(name: &str) -> Result<Analyzer> {
        Analyzer::ALL
            .into_iter()
            .find(|analyzer| analyzer.as_str() == name)
            .ok_or_else(|| {
                let known = Analyzer::ALL.map(Analyzer::as_str).join(", ");
                Error::invalid("unknown_analyzer", format!("there is no analyzer `{name}`"))
                    .with_remedy(format!("use one of: {known}"))
            })
    }

    /// The analyzer of a language tag (`sv`, `en-GB`, `sv_SE`): its first part decides, in either case.
    pub fn for_language(language: &str) -> LanguageAnalyzer {
        let primary = language.split(['-', '_']).next().unwrap_or(language);
        match primary.to_ascii_lowercase().as_str() {
            "en" => LanguageAnalyzer::Own(Analyzer::English),
            "sv" => LanguageAnalyzer::Own(Analyzer::Swedish),
            _ => LanguageAnalyzer::StandsIn,
        }
    }

    /// The terms of one text, in order. Never fails; offsets never decrease and are character boundaries.
    pub fn analyze(self, text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut terms = Terms::new(self, text);
        let mut term = String::new();
        while let Some((position, word)) = terms.next_into(&mut term) {
            tokens.push(Token {
                text: std::mem::take(&mut term),
                position,
                start: word.start,
                end: word.end,
            });
        }
        tokens
    }

    /// Writes the term of a word to `term`, and says whether there is one (a stop word has none).
    fn term_of(self, word: &str, term: &mut String) -> bool {
        term.clear();
        match self {
            Analyzer::Standard => push_lower_case(word, term),
            Analyzer::English => {
                push_lower_case(without_possessive(word), term);
                if stop_words::is_english(term) {
                    return false;
                }
                porter::stem(term);
            }
            Analyzer::Swedish => {
                push_lower_case(word, term);
                if stop_words::is_swedish(term) {
                    return false;
                }
                let stemmed = match Stemmer::create(Algorithm::Swedish).stem(term) {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(stemmed) => Some(stemmed),
                };
                if let Some(stemmed) = stemmed {
                    *term = stemmed;
                }
            }
            Analyzer::Keyword | Analyzer::Whitespace => term.push_str(word),
        }
        true
    }
}

/// The version of every rule of this module, for the metadata of an index set: a set built with another version
/// must be indexed anew.
pub fn version() -> String {
    format!("analysis-{REVISION} porter-1 swedish-rust-stemmers-1.2")
}

/// The terms of one text, one at a time into a buffer that is used again.
struct Terms<'a> {
    analyzer: Analyzer,
    text: &'a str,
    words: Words<'a>,
    /// The words met so far, stop words among them.
    seen: usize,
}

enum Words<'a> {
    Standard(standard::Words<'a>),
    Whitespace(whitespace::Words<'a>),
    Whole(Option<usize>),
}

impl<'a> Terms<'a> {
    fn new(analyzer: Analyzer, text: &'a str) -> Self {
        let words = match analyzer {
            Analyzer::Standard | Analyzer::English | Analyzer::Swedish => {
                Words::Standard(standard::Words::new(text))
            }
            Analyzer::Keyword => Words::Whole(Some(text.len())),
            Analyzer::Whitespace => Words::Whitespace(whitespace::Words::new(text)),
        };
        Terms {
            analyzer,
            text,
            words,
            seen: 0,
        }
    }

    /// Writes the next term to `term`; returns its position and the bytes of its word.
    fn next_into(&mut self, term: &mut String) -> Option<(usize, Range<usize>)> {
        loop {
            let word = match &mut self.words {
                Words::Standard(words) => words.next(),
                Words::Whitespace(words) => words.next(),
                Words::Whole(length) => length.take().map(|length| 0..length),
            }?;
            let position = self.seen;
            self.seen += 1;
            if self.analyzer.term_of(&self.text[word.clone()], term) {
                return Some((position, word));
            }
        }
    }

    /// How many positions the text takes, once [`Terms::next_into`] has returned `None`: trailing stop words count.
    fn positions(&self) -> usize {
        self.seen
    }
}

/// Lower case character by character, as Lucene does: `İ` becomes `i` without a dot, and a final `Σ` becomes `σ`.
fn push_lower_case(word: &str, term: &mut String) {
    for character in word.chars() {
        if character.is_ascii() {
            term.push(character.to_ascii_lowercase());
        } else {
            term.extend(character.to_lowercase().next());
        }
    }
}

/// The word without `'s` at its end, with any of the three apostrophes that Lucene knows.
fn without_possessive(word: &str) -> &str {
    word.strip_suffix(['s', 'S'])
        .and_then(|rest| rest.strip_suffix(['\'', '\u{2019}', '\u{FF07}']))
        .unwrap_or(word)
}
