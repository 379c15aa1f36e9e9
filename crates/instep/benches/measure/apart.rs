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

/// From now on this process, and those that it starts, leave the first half of the cores to a node. What a heading says
/// of it.
pub(crate) fn leave_cores() -> String {
    let (half, cores) = half_of_cores();
    match half > 0 && pin(std::process::id(), &format!("{half}-{}", cores - 1)) {
        true => format!("the node has {half} of {cores} cores for itself, everything else the others"),
        false => format!("the node and everything else share {cores} cores"),
    }
}

/// From now on the node at this address has the first half of the cores.
pub(crate) fn take_cores(url: &str) {
    let (half, _) = half_of_cores();
    if half > 0 {
        pin(process_of(url), &format!("0-{}", half - 1));
    }
}

fn half_of_cores() -> (usize, usize) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    (cores / 2, cores)
}

/// Keeps a process, with all its threads, on these cores.
fn pin(process: u32, cores: &str) -> bool {
    let mut taskset = Command::new("taskset");
    taskset
        .args(["-a", "-c", "-p", cores, &process.to_string()])
        .stdout(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}
