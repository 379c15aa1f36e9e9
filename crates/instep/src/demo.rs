//! The demo's data: a marketplace of used cars, made from a seed, and a stream of small changes to it.
//!
//! The same seed gives the same bytes on every machine: nothing here asks the clock, the system's randomness or the
//! network. Indexing and serving are left to the command that calls this.

mod catalogue;
mod configuration;
mod dice;
mod draw;
mod facts;
mod live;
mod market;
mod prose;

pub(crate) use configuration::{Setup, configuration};
pub(crate) use live::Live;
pub(crate) use market::write;
