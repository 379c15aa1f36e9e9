//! One suite per trait, run by every engine, source and store; and what tests of several crates run against: a real
//! Postgres, a network and a server that fail on command.

pub mod change_log;
pub mod engine;
pub mod http;
pub mod node;
#[cfg(unix)]
pub mod postgres;
pub mod proxy;
pub mod signature;
pub mod source;
pub mod tls;

/// Whether a test with a short and a long variant runs the long one: `cargo xtask test --long` sets `INSTEP_LONG=1`.
#[allow(clippy::disallowed_methods, reason = "what cargo xtask test tells the tests")]
pub fn in_full() -> bool {
    std::env::var_os("INSTEP_LONG").is_some_and(|value| value == "1")
}
