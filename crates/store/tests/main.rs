//! The store's tests: the conformance suite, refused files, and kill -9.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod files;
mod kill;
mod speed;
mod state;

use state::FreshState;

instep_conformance::change_log_suite!(FreshState::new());
