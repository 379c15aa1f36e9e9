//! The engine over HTTP against real nodes.

#![allow(clippy::unwrap_used)]

mod by_hand;
mod conformance;
mod faults;
mod large;
mod names;
mod recorded;
