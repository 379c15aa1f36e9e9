//! A node on cores of its own: in practice it has a machine of its own, and what it takes, nobody else is short of.

use std::process::{Command, Stdio};

use crate::http::Connection;

/// The process of the node at this address, as it says itself.
pub(crate) fn process_of(url: &str) -> u32 {
    let nodes = Connection::open(url).json("GET", "/_nodes/process", "");
    let nodes = nodes["nodes"].as_object().expect("nodes");
    let id = nodes
        .values()
        .next()
        .and_then(|node| node["process"]["id"].as_u64());
    u32::try_from(id.expect("its number")).expect("a number of a process")
}

/// From now on the node has the first half of the cores, and this process, with those that it starts, the rest. What a
/// heading says of it.
pub(crate) fn keep_apart(url: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let half = cores / 2;
    let pinned = half > 0
        && pin(process_of(url), &format!("0-{}", half - 1))
        && pin(std::process::id(), &format!("{half}-{}", cores - 1));
    match pinned {
        true => format!("the node has {half} of {cores} cores for itself, everything else the others"),
        false => format!("the node and everything else share {cores} cores"),
    }
}

/// Keeps a process, with all its threads, on these cores.
fn pin(process: u32, cores: &str) -> bool {
    let mut taskset = Command::new("taskset");
    taskset
        .args(["-a", "-c", "-p", cores, &process.to_string()])
        .stdout(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}
