//! The tests of `sync` that need no running engine or source.

mod assemble;
mod model;
mod moving;
