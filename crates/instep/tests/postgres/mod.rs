//! Postgres as the source, from the outside: the built binary, real servers, real data.

mod access;
mod changing;
mod documents;
mod faults;
mod first;
mod former;
pub mod stage;
mod tate;
mod told;
mod world;
mod writing;
