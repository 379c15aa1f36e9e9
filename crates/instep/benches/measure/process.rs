//! What this process costs, from `/proc/self`.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// `/proc` counts CPU time in hundredths of a second, on every Linux.
const TICK_US: u64 = 10_000;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// CPU time of all threads so far, ended ones among them, in microseconds.
pub(crate) fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    used(&stat)
}

/// CPU time of the threads there are, by name, in microseconds.
pub(crate) fn threads_us() -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
        let name = name
            .map_or("?", |(name, _)| name)
            .trim_end_matches(|digit: char| digit.is_ascii_digit());
        *threads.entry(name.to_owned()).or_default() += used(&stat);
    }
    threads
}

/// utime + stime: the 14th and 15th field; the second may hold spaces and ends with the last parenthesis.
fn used(stat: &str) -> u64 {
    let (_, after) = stat.rsplit_once(')').expect("the name is in parentheses");
    let ticks = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("ticks"));
    ticks.sum::<u64>() * TICK_US
}

/// Anonymous memory in the process's resident set, in kB.
pub(crate) fn rss_anon_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("Linux 4.5 or later");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of kB")
}

/// Watches the anonymous memory until it is asked for the highest.
pub(crate) struct Peak {
    stop: SyncSender<()>,
    watcher: JoinHandle<u64>,
}

impl Peak {
    pub(crate) fn watch() -> Peak {
        // Nothing is ever sent: dropping the sender ends the watch.
        let (stop, stopped) = sync_channel::<()>(0);
        let watch = move || {
            let mut highest = 0;
            loop {
                highest = highest.max(rss_anon_kb());
                if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                    return highest;
                }
            }
        };
        Peak {
            stop,
            watcher: std::thread::spawn(watch),
        }
    }

    /// The highest so far, in kB.
    pub(crate) fn end(self) -> u64 {
        drop(self.stop);
        self.watcher.join().expect("it only reads a file")
    }
}
