//! The HTTP search API: routes, authentication, names, limits, and what a caller is told when something fails.
//!
//! Guarantees: no request reaches an engine but as an `Authorized` one that `Policy` made, with indexes that were
//! derived from the collections it grants; callers can neither name nor learn of physical indexes; a document that may
//! not be read answers as one that does not exist; every answer, also of a failure, has Elasticsearch's shape. Leaves
//! the dialect to `instep_elastic`, the search itself to the engine behind `Search`, and reading rows and operational
//! state to the program around it ([`Hydrate`], [`Operations`]).

mod answer;
mod asked;
mod caller;
mod failure;
mod keys;
mod layers;
mod media;
mod names;
mod parts;
mod permits;
mod read;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use instep_elastic::Hydration;
pub use keys::{KeyDefinition, Keys, MAX_UNITS, MIN_SECRET_BYTES, check_listen};
pub use parts::{Hydrate, Limits, Operations, Parts, Served};
pub use routes::router;
pub use server::serve;
