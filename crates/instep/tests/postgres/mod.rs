//! Postgres as the source, from the outside: the built binary, real servers, real data.

mod access;
mod beside;
mod changing;
mod documents;
mod engine;
mod faults;
mod first;
mod former;
mod old;
pub mod stage;
mod tate;
mod told;
mod values;
pub mod world;
mod writing;
