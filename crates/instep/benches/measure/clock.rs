//! Times that processes can compare, and waiting in a thread.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("not that late")
}

/// Holds this thread, as finely as the kernel does.
#[allow(
    clippy::disallowed_methods,
    reason = "the thread does nothing but keep a rhythm; a wait of tokio's is a millisecond or more"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The value below which this share of the values lies.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).or(sorted.last()).copied().unwrap_or(f64::NAN)
}
