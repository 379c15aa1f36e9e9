//! One suite per trait, run by every engine, source and store.

pub mod change_log;
pub mod engine;
pub mod source;
