//! The store's tests: the conformance suite, refused files, kill -9, and recorded reads in the file.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod dead;
mod files;
mod journal;
mod kill;
mod reads;
mod speed;
mod state;

use state::FreshState;

instep_conformance::change_log_suite!(FreshState::new());
