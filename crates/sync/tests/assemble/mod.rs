//! The builder: documents from rows, and from changed rows to documents.
//!
//! Everything runs over a source in memory. Documents are compared with those of a naive builder that follows the
//! definition row by row ([`naive`]), and with documents written down here ([`golden`]).

#![allow(clippy::unwrap_used)]

pub(crate) mod broken;
pub(crate) mod definition;
mod dice;
mod golden;
mod measure;
pub(crate) mod memory;
mod misfits;
pub(crate) mod naive;
mod routes;
mod schemas;
mod unnameable;
mod worth;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a future that never waits: a source in memory answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a source in memory does not wait"),
    }
}
