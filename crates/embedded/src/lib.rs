//! The engine that needs nothing installed, on Tantivy.
//!
//! [`Embedded`] keeps documents and answers searches as the traits of `instep-core` ask: what was committed survives
//! the end of the process, however it ends, and a caller sees no document, count or bucket beyond its view. No name
//! of the library shows outside this crate, apart from what [`analysis`] hands to it.

mod aggregate;
pub mod analysis;
#[doc(hidden)]
pub mod bare;
mod compile;
mod engine;
mod fault;
mod fields;
mod index;
mod ingest;
mod scoring;
mod search;
mod sort;
mod stop;
mod walk;
mod widen;
mod write;

pub use engine::{Embedded, Options};
