//! What the table says is what the parser does: nothing more, and nothing in silence.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static READ: RefCell<BTreeSet<(&'static str, &'static str)>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that the parser read a key of a clause.
pub(crate) fn was_read(clause: &'static str, key: &'static str) {
    READ.with_borrow_mut(|read| read.insert((clause, key)));
}

mod agreement;
mod answers;
mod corpus;
mod hostile;
mod refusals;
mod requests;

use instep_core::{Error, Result};

use crate::{Params, SearchCall, parse_search};

/// The time of every request here.
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) fn params(pairs: &[(&str, &str)]) -> Params {
    let owned = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Params::new(owned.collect()).unwrap()
}

pub(crate) fn search(body: &str) -> Result<SearchCall> {
    parse_search(body.as_bytes(), &Params::default(), NOW)
}

/// The whole text of a refusal, and that it is one of the caller's making.
#[track_caller]
pub(crate) fn refusal(error: &Error) -> String {
    assert_eq!(error.fault(), instep_core::Fault::Invalid, "{error}");
    assert!(
        matches!(error.code(), "parsing_exception" | "illegal_argument_exception"),
        "{error}"
    );
    error.to_string()
}
