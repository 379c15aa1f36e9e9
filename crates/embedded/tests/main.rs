//! The embedded engine against the suites that every engine runs, and what only it promises.

mod conformance;
mod durability;
