//! Each line of `docs/postgres-types.md`, against a server; and the texts of composed values, random ones included.

#![allow(clippy::unwrap_used)]

mod lines;
mod texts;
