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

/// utime + stime, in microseconds: the 14th and 15th field of `stat`.
pub(crate) fn used(stat: &str) -> u64 {
    ticks(stat, 14) + ticks(stat, 15)
}

/// The same of children that ended and were waited for: the 16th and 17th.
pub(crate) fn children_us(stat: &str) -> u64 {
    ticks(stat, 16) + ticks(stat, 17)
}

/// The parent's number.
pub(crate) fn parent(stat: &str) -> Option<&str> {
    field(stat, 4)
}

/// A field as the manual numbers it, from the third on: the second may hold spaces and ends with the last parenthesis.
fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(number - 3)
}

fn ticks(stat: &str, number: usize) -> u64 {
    let ticks = field(stat, number).and_then(|ticks| ticks.parse::<u64>().ok());
    ticks.expect("a number of ticks") * TICK_US
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
