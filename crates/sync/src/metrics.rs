//! The names of all metrics of this crate, with unit and help text, and the few functions that write them.
//!
//! Labels are `set`, `source`, `outcome`, `kind` and `phase`: names from the configuration and closed lists, never ids.

use std::time::Duration;

use instep_core::{Appended, Outcome, SetName, SetState, SetStatus, SourceName};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Changes that a source delivered.
pub const SOURCE_CHANGES: &str = "instep_source_changes_total";
/// Changes that touch no document.
pub const SOURCE_FILTERED: &str = "instep_source_filtered_total";
/// Whether a source is followed (1) or not (0).
pub const SOURCE_UP: &str = "instep_source_up";
/// From a source's commit to its touches being durable.
pub const ACK_SECONDS: &str = "instep_ack_seconds";
/// Documents touched.
pub const TOUCHES: &str = "instep_touches_total";
/// Touches that moved an entry which was there already.
pub const MOVED: &str = "instep_touches_moved_total";
/// Fan-outs begun.
pub const FAN_OUTS: &str = "instep_fan_outs_total";
/// Fan-outs not yet expanded.
pub const FAN_OUTS_PENDING: &str = "instep_fan_outs_pending";
/// Documents finished, by set and outcome.
pub const FINISHED: &str = "instep_documents_finished_total";
/// Seconds of the phases of a batch: build, apply, settle.
pub const PHASE_SECONDS: &str = "instep_phase_seconds";
/// The last number of the log.
pub const HEAD: &str = "instep_log_head";
/// A set's position in the log.
pub const POSITION: &str = "instep_set_position";
/// What a set has left to do.
pub const LAG: &str = "instep_set_lag";
/// Whether a set follows (1) or not (0).
pub const FOLLOWING: &str = "instep_set_following";
/// Touches since a set was made, by what became of them.
pub const SET_TOUCHES: &str = "instep_set_touches";
/// Documents that scans and retries of a set built.
pub const SET_SCANNED: &str = "instep_set_scanned";
/// Dead letters of a set.
pub const DEAD_LETTERS: &str = "instep_set_dead_letters";
/// Retries of a set that wait for their time.
pub const RETRIES: &str = "instep_set_retries";
/// Touches that are not accounted for; anything but 0 is a bug.
pub const UNACCOUNTED: &str = "instep_set_unaccounted";

/// Describes every metric to the recorder that is installed. Call once, after installing it.
pub fn describe() {
    describe_counter!(SOURCE_CHANGES, Unit::Count, "changes that a source delivered");
    describe_counter!(SOURCE_FILTERED, Unit::Count, "changes that touch no document");
    describe_gauge!(
        SOURCE_UP,
        Unit::Count,
        "whether a source is followed (1) or not (0)"
    );
    describe_histogram!(
        ACK_SECONDS,
        Unit::Seconds,
        "from a commit in the source to its touches being durable"
    );
    describe_counter!(TOUCHES, Unit::Count, "documents touched by changes");
    describe_counter!(
        MOVED,
        Unit::Count,
        "touches that moved an entry which was in the log already"
    );
    describe_counter!(
        FAN_OUTS,
        Unit::Count,
        "changes that reach more documents than fit a batch"
    );
    describe_gauge!(FAN_OUTS_PENDING, Unit::Count, "fan-outs not yet expanded");
    describe_counter!(FINISHED, Unit::Count, "documents finished, by set and outcome");
    describe_histogram!(
        PHASE_SECONDS,
        Unit::Seconds,
        "duration of a batch's phases: build, apply, settle"
    );
    describe_gauge!(HEAD, Unit::Count, "the last number of the change log");
    describe_gauge!(POSITION, Unit::Count, "the position of a set in the change log");
    describe_gauge!(
        LAG,
        Unit::Count,
        "entries, scans, fan-outs and retries that a set has left to do"
    );
    describe_gauge!(
        FOLLOWING,
        Unit::Count,
        "whether a set follows the log (1) or is paused or halted (0)"
    );
    describe_gauge!(
        SET_TOUCHES,
        Unit::Count,
        "touches since a set was made, by what became of them"
    );
    describe_gauge!(
        SET_SCANNED,
        Unit::Count,
        "documents that scans and retries of a set built"
    );
    describe_gauge!(
        DEAD_LETTERS,
        Unit::Count,
        "documents that cannot be built or indexed"
    );
    describe_gauge!(RETRIES, Unit::Count, "documents that are tried again later");
    describe_gauge!(
        UNACCOUNTED,
        Unit::Count,
        "touches that are not accounted for: anything but 0 is a bug"
    );
}

/// Writes the gauges of the sets: call it with [`instep_core::ChangeLog::status`] before the metrics are rendered.
pub fn record(sets: &[SetStatus]) {
    if let Some(first) = sets.first() {
        gauge!(HEAD).set(first.head.0 as f64);
        gauge!(FAN_OUTS_PENDING).set(first.fan_outs as f64);
    }
    for status in sets {
        let set = status.set.to_string();
        let counts = &status.counts;
        gauge!(POSITION, "set" => set.clone()).set(status.position.0 as f64);
        gauge!(LAG, "set" => set.clone()).set(status.lag() as f64);
        gauge!(FOLLOWING, "set" => set.clone()).set(f64::from(u8::from(status.state == SetState::Following)));
        gauge!(SET_SCANNED, "set" => set.clone()).set(counts.scanned as f64);
        gauge!(DEAD_LETTERS, "set" => set.clone()).set(counts.dead_letters as f64);
        gauge!(RETRIES, "set" => set.clone()).set(counts.retries as f64);
        let sum = counts.folded + counts.built() + counts.ahead;
        gauge!(UNACCOUNTED, "set" => set.clone()).set(counts.touches as f64 - sum as f64);
        let kinds = [
            ("all", counts.touches),
            ("ahead", counts.ahead),
            ("folded", counts.folded),
            ("indexed", counts.indexed),
            ("deleted", counts.deleted),
            ("superseded", counts.superseded),
            ("dead", counts.dead),
            ("retrying", counts.retrying),
        ];
        for (kind, count) in kinds {
            gauge!(SET_TOUCHES, "set" => set.clone(), "kind" => kind).set(count as f64);
        }
    }
}

pub(crate) fn touched(appended: &Appended, fan_outs: u64) {
    counter!(TOUCHES).increment(appended.touched);
    counter!(MOVED).increment(appended.moved);
    counter!(FAN_OUTS).increment(fan_outs);
}

pub(crate) fn changes(source: &SourceName, changes: u64, filtered: u64) {
    counter!(SOURCE_CHANGES, "source" => source.to_string()).increment(changes);
    counter!(SOURCE_FILTERED, "source" => source.to_string()).increment(filtered);
}

pub(crate) fn source_up(source: &SourceName, up: bool) {
    gauge!(SOURCE_UP, "source" => source.to_string()).set(f64::from(u8::from(up)));
}

pub(crate) fn acknowledged(source: &SourceName, since_commit_ms: i64) {
    histogram!(ACK_SECONDS, "source" => source.to_string()).record(since_commit_ms.max(0) as f64 / 1e3);
}

pub(crate) fn finished(set: &SetName, outcome: Outcome, n: u64) {
    let outcome = match outcome {
        Outcome::Indexed => "indexed",
        Outcome::Deleted => "deleted",
        Outcome::Superseded => "superseded",
        Outcome::Dead => "dead",
        Outcome::Retrying => "retrying",
    };
    counter!(FINISHED, "set" => set.to_string(), "outcome" => outcome).increment(n);
}

pub(crate) fn phase(set: &SetName, phase: &'static str, took: Duration) {
    histogram!(PHASE_SECONDS, "set" => set.to_string(), "phase" => phase).record(took.as_secs_f64());
}
