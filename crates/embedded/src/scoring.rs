//! Queries that the library lacks: scores with Lucene's statistics, and terms by their beginning.

use std::sync::Arc;

use tantivy::query::{
    BitSetDocSet, Bm25StatisticsProvider, BoostQuery, ConstScorer, EnableScoring, Explanation, Query, Scorer,
    Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, DocSet, Score, Searcher, SegmentReader, TantivyError, Term};

use crate::index::OpenIndex;

/// The library multiplies every score of BM25 by k1 + 1; Lucene, since it has `BM25Similarity`, does not.
const K1_PLUS_1: f32 = 2.2;

/// A query over one text field whose scores are Lucene's: its statistics count the documents that have the field,
/// where the library counts all, and its formula has no factor k1 + 1.
pub(crate) fn lexical(
    index: &Arc<OpenIndex>,
    field: Field,
    inner: Box<dyn Query>,
    boost: f32,
) -> Box<dyn Query> {
    let lexical = Lexical {
        index: Arc::clone(index),
        field,
        inner,
    };
    Box::new(BoostQuery::new(Box::new(lexical), boost / K1_PLUS_1))
}

struct Lexical {
    index: Arc<OpenIndex>,
    field: Field,
    inner: Box<dyn Query>,
}

impl Clone for Lexical {
    fn clone(&self) -> Self {
        Lexical {
            index: Arc::clone(&self.index),
            field: self.field,
            inner: self.inner.box_clone(),
        }
    }
}

impl std::fmt::Debug for Lexical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Query for Lexical {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        match scoring {
            EnableScoring::Enabled { searcher, .. } => {
                let statistics = FieldStatistics {
                    documents: self.index.documents_with(searcher, self.field)?,
                    searcher,
                };
                self.inner.weight(EnableScoring::enabled_from_statistics_provider(
                    &statistics,
                    searcher,
                ))
            }
            EnableScoring::Disabled { .. } => self.inner.weight(scoring),
        }
    }
}

struct FieldStatistics<'a> {
    documents: u64,
    searcher: &'a Searcher,
}

impl Bm25StatisticsProvider for FieldStatistics<'_> {
    fn total_num_tokens(&self, field: Field) -> tantivy::Result<u64> {
        self.searcher.total_num_tokens(field)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        self.searcher.doc_freq(term)
    }
}

/// Documents with a term that starts with these bytes; every score is 1.
#[derive(Clone, Debug)]
pub(crate) struct PrefixQuery {
    pub(crate) field: Field,
    pub(crate) prefix: Vec<u8>,
    /// Whether ASCII letters match in either case, from this byte of the prefix on.
    pub(crate) either_case_from: Option<usize>,
}

impl Query for PrefixQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl PrefixQuery {
    /// The bytes that every matching term starts with, compared exactly.
    fn exact(&self) -> &[u8] {
        &self.prefix[..self.either_case_from.unwrap_or(self.prefix.len())]
    }

    fn fits(&self, term: &[u8]) -> bool {
        match self.either_case_from {
            None => term.starts_with(&self.prefix),
            Some(from) => {
                term.starts_with(&self.prefix[..from])
                    && term
                        .get(from..self.prefix.len())
                        .is_some_and(|part| part.eq_ignore_ascii_case(&self.prefix[from..]))
            }
        }
    }
}

impl Weight for PrefixQuery {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut found = BitSet::with_max_value(reader.max_doc());
        let inverted = reader.inverted_index(self.field)?;
        let exact = self.exact();
        let mut terms = inverted.terms().range().ge(exact).into_stream()?;
        while terms.advance() {
            if !terms.key().starts_with(exact) {
                break;
            }
            if !self.fits(terms.key()) {
                continue;
            }
            let info = terms.value();
            let mut postings = inverted.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                for &doc in postings.docs() {
                    found.insert(doc);
                }
                postings.advance();
            }
        }
        Ok(Box::new(ConstScorer::new(BitSetDocSet::from(found), boost)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(reader, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument(format!(
                "document {doc} does not match"
            )));
        }
        Ok(Explanation::new("PrefixQuery", 1.0))
    }
}
