//! A model of the ticket fence, the change log's ownership, and former parents.
//!
//! It answers one question: which of the rules that `sync` follows are needed, and are they enough? Everything else
//! is left out: a database of three small tables, one change log, two index sets, an engine per set, and a network
//! between worker and engine that loses, delays and repeats requests. One random interleaving of their steps is one
//! case. At its end all faults heal, all work drains, and each set's engine must equal `f(rows)`.
//!
//! A [`Variant`](variant::Variant) names the rules of a run. The right ones never fail; each wrong one differs from a
//! right one in a single rule and must be caught, which shows that the model is able to see what the rule prevents.
//!
//! Reading order: `variant`, `database`, `log`, `engine`, `network`, `router`, `worker`, `world`, `case`, `tests`.
//! The model knows nothing of the product's code; real engines, sources and stores have their conformance suites.

mod case;
mod database;
mod engine;
mod log;
mod network;
mod router;
mod tests;
mod variant;
mod worker;
mod world;
