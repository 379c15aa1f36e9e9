//! The analyzers as the index library wants them.

use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager};

use super::Analyzer;
use super::values::JoinedTerms;

/// An [`Analyzer`] as a tokenizer of the index, for texts made by [`join_values`](super::join_values).
#[derive(Clone, Debug)]
pub struct AnalyzerTokenizer(Analyzer);

/// The terms that an [`AnalyzerTokenizer`] finds; made as they are asked for.
pub struct AnalyzerStream<'a> {
    terms: JoinedTerms<'a>,
    token: Token,
}

impl Analyzer {
    /// The tokenizer of this analyzer.
    pub fn tokenizer(self) -> AnalyzerTokenizer {
        AnalyzerTokenizer(self)
    }

    /// The name of the tokenizer in an index's schema; it never is one of the library's own.
    pub fn tokenizer_name(self) -> &'static str {
        match self {
            Analyzer::Standard => "instep_standard",
            Analyzer::English => "instep_english",
            Analyzer::Swedish => "instep_swedish",
            Analyzer::Keyword => "instep_keyword",
            Analyzer::Whitespace => "instep_whitespace",
        }
    }

    /// Makes every analyzer known to an index, under its [`Analyzer::tokenizer_name`]. An index forgets it when
    /// closed.
    pub fn register_all(tokenizers: &TokenizerManager) {
        for analyzer in Analyzer::ALL {
            tokenizers.register(
                analyzer.tokenizer_name(),
                TextAnalyzer::from(analyzer.tokenizer()),
            );
        }
    }
}

impl Tokenizer for AnalyzerTokenizer {
    type TokenStream<'a> = AnalyzerStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> AnalyzerStream<'a> {
        AnalyzerStream {
            terms: JoinedTerms::new(self.0, text),
            token: Token::default(),
        }
    }
}

impl TokenStream for AnalyzerStream<'_> {
    fn advance(&mut self) -> bool {
        self.terms.next_into(&mut self.token)
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
