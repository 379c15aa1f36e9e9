//! Which states of the database are on disk, so that no crash takes them back.
//!
//! With `synchronous_commit = off` a transaction is visible before its commit is on disk; after a crash of the server it
//! is gone, and no change says so. Every commit that a view sees lies before the end of the log at the time the view was
//! opened, so rows are handed over when the log is flushed up to there. That is not waited for where the view sees no
//! transaction that an earlier view did not see, and never longer than an asynchronous commit can take to reach the disk:
//! three times `wal_writer_delay`, as Postgres promises.

use std::time::Duration;

use instep_core::{Error, Result};
use tokio::time::Instant;

use super::super::connect::Line;
use super::super::lsn::Lsn;
use super::view::bad_answer;

/// More than Postgres' own promise by this.
const FLUSH_MARGIN: Duration = Duration::from_millis(100);

/// As many backends are remembered.
const REMEMBERED: usize = 16;

/// What is known to be on disk, as each backend saw it. A backend does not outlive a crash; behind a pooler a session may
/// outlive even a server, so all is forgotten when the stream is connected anew.
#[derive(Default)]
pub(in super::super) struct Durable(Vec<Known>);

struct Known {
    backend: u32,
    visible: Visible,
    since: Instant,
}

/// What a view sees and may not be on disk.
pub(super) struct Unflushed {
    pub(super) backend: u32,
    pub(super) visible: Visible,
    /// As the server names it: [`without_header`].
    pub(super) end: Lsn,
    pub(super) since: Instant,
}

impl Durable {
    /// It is on disk.
    pub(super) fn add(&mut self, flushed: Unflushed) {
        self.0.retain(|known| known.backend != flushed.backend);
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(Known {
            backend: flushed.backend,
            visible: flushed.visible,
            since: Instant::now(),
        });
    }

    /// Whether the view sees nothing that this backend, which is so old, has not seen on disk before. Another process of
    /// the same number is younger than what is known of the former.
    fn covers(&self, unflushed: &Unflushed, backend_age: Duration) -> bool {
        self.0.iter().any(|known| {
            known.backend == unflushed.backend
                && known.since.elapsed() < backend_age
                && known.visible.covers(&unflushed.visible)
        })
    }
}

/// How far the log is on disk; NULL on a replica.
pub(super) const FLUSHED: &str = "select case when pg_catalog.pg_is_in_recovery() then null else pg_catalog.pg_current_wal_flush_lsn() end;";

/// What a wait for the disk depends on, which few views need.
pub(super) const WAIT: &str = "select pg_catalog.current_setting('wal_block_size'), \
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')), \
    (extract(epoch from pg_catalog.current_setting('wal_writer_delay')::interval) * 1000)::int8, \
    (select (extract(epoch from pg_catalog.clock_timestamp() - backend_start) * 1000)::int8 \
     from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()))";

pub(super) struct Wait {
    block: u64,
    segment: u64,
    writer_delay: Duration,
    backend_age: Duration,
}

impl Wait {
    pub(super) fn of(line: &Line) -> Result<Wait> {
        let positive = |at| {
            // A role that is not told how old its own backend is gets NULL.
            let number = line.get(at)?.map_or(Ok(0), str::parse::<i64>);
            let number = number.map_err(|_| bad_answer())?;
            Ok::<_, Error>(u64::try_from(number).unwrap_or(0))
        };
        Ok(Wait {
            block: positive(0)?,
            segment: positive(1)?,
            writer_delay: Duration::from_millis(positive(2)?),
            backend_age: Duration::from_millis(positive(3)?),
        })
    }

    /// Whether what is seen is on disk, now that the log is up to `flushed`.
    pub(super) fn is_over(&self, unflushed: &Unflushed, flushed: Option<Lsn>, durable: &Durable) -> bool {
        let end = without_header(unflushed.end, self.block, self.segment);
        flushed.is_none_or(|upto| upto >= end)
            || unflushed.since.elapsed() >= self.writer_delay * 3 + FLUSH_MARGIN
            || durable.covers(unflushed, self.backend_age)
    }
}

/// The end of the log as a place that can be flushed. After the last record of a page Postgres names the place after the
/// next page's header, which is written with the next record alone.
fn without_header(end: Lsn, block: u64, segment: u64) -> Lsn {
    const SHORT: u64 = 24;
    const LONG: u64 = 40;
    let header = match (end.0.checked_rem(segment), end.0.checked_rem(block)) {
        (Some(LONG), _) => LONG,
        (_, Some(SHORT)) => SHORT,
        _ => 0,
    };
    Lsn(end.0 - header)
}

/// Which transactions a snapshot sees, as `pg_current_snapshot()` spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visible {
    /// Transactions from here on are not.
    end: u64,
    /// Nor are these, which run. Sorted.
    running: Vec<u64>,
}

impl Visible {
    pub(super) fn parse(text: &str) -> Option<Visible> {
        let mut parts = text.split(':').skip(1);
        let end = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let mut running: Vec<u64> = running.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        running.sort_unstable();
        Some(Visible { end, running })
    }

    /// Whether the other sees no transaction that this one does not.
    fn covers(&self, other: &Visible) -> bool {
        let hidden = |xid: u64| xid >= other.end || other.running.binary_search(&xid).is_ok();
        self.running.iter().all(|xid| hidden(*xid)) && {
            let new = other.end.saturating_sub(self.end);
            // Each new one must be among those that run.
            new <= other.running.len() as u64 && (self.end..other.end).all(hidden)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_process_of_the_same_number_has_seen_nothing() {
        let seen = |text| Unflushed {
            backend: 7,
            visible: visible(text),
            end: Lsn(100),
            since: Instant::now(),
        };
        let mut durable = Durable::default();
        durable.add(seen("10:11:10"));
        let wait = |age| Wait {
            block: 0x2000,
            segment: 16 << 20,
            writer_delay: Duration::from_millis(200),
            backend_age: Duration::from_secs(age),
        };
        assert!(wait(60).is_over(&seen("10:11:10"), Some(Lsn(99)), &durable));
        assert!(
            !wait(0).is_over(&seen("10:11:10"), Some(Lsn(99)), &durable),
            "younger"
        );
        assert!(
            !wait(60).is_over(&seen("10:12:10"), Some(Lsn(99)), &durable),
            "sees more"
        );
        assert!(
            wait(0).is_over(&seen("10:12:10"), Some(Lsn(100)), &durable),
            "flushed"
        );
    }

    fn visible(text: &str) -> Visible {
        Visible::parse(text).unwrap()
    }

    #[test]
    fn a_snapshot_that_sees_nothing_new_is_covered() {
        for (earlier, later, covered) in [
            ("10:10:", "10:10:", true),
            ("10:10:", "10:11:", false),
            ("10:10:", "10:11:10", true),
            ("10:10:", "10:12:10", false),
            ("10:13:10,12", "10:13:10,12", true),
            ("10:13:10,12", "12:13:12", false),
            ("10:13:10,12", "10:14:10,12,13", true),
            ("10:13:10,12", "10:14:10,13", false),
            // A snapshot that was taken before the earlier one sees less.
            ("10:13:10", "8:9:8", true),
            ("5:100:", "5:18446744073709551615:", false),
        ] {
            assert_eq!(
                visible(earlier).covers(&visible(later)),
                covered,
                "{earlier} {later}"
            );
        }
        assert!(
            Visible::parse("10").is_none()
                && Visible::parse("1:x:").is_none()
                && Visible::parse("1:2:x").is_none()
        );
    }

    #[test]
    fn the_end_of_the_log_never_points_behind_a_header() {
        const SEGMENT: u64 = 16 << 20;
        for (end, flushable) in [
            (0x2000 + 24, 0x2000),
            (0x2000 + 40, 0x2000 + 40),
            (0x2000 + 32, 0x2000 + 32),
            (SEGMENT + 40, SEGMENT),
            (SEGMENT + 64, SEGMENT + 64),
            (0x2000, 0x2000),
            (0x1ff8, 0x1ff8),
        ] {
            assert_eq!(without_header(Lsn(end), 0x2000, SEGMENT), Lsn(flushable), "{end}");
        }
        assert_eq!(without_header(Lsn(24), 0, 0), Lsn(24));
    }
}
