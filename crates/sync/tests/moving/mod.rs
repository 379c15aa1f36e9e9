//! The moving part as a whole: followers, expander and indexers over a real log, with rows, engines and failures that
//! the tests script.

#![allow(clippy::unwrap_used)]

mod engine;
mod follower;
mod halts;
mod languages;
mod log;
mod once;
mod pause;
mod random;
mod recorded;
mod rig;
mod rows;
mod scans;
mod verify;
