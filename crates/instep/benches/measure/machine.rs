//! The machine that measures, from `/proc`.

use serde_json::{Value, json};

/// Processor, cores and memory.
pub(crate) fn describe() -> Value {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    json!({
        "processor": model.map_or("unknown", |(_, name)| name.trim()),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gb": kilobytes.unwrap_or(0_u64).div_ceil(1_000_000),
        "load_before": load(),
    })
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = loads.split(' ').next().and_then(|load| load.parse().ok());
    first.unwrap_or(f64::NAN)
}

/// The same in a line.
pub(crate) fn line(machine: &Value) -> String {
    format!(
        "{} × {}, {} GB, load {} when the run began",
        machine["cores"],
        machine["processor"].as_str().unwrap_or_default(),
        machine["memory_gb"],
        machine["load_before"]
    )
}
