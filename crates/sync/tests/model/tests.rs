//! The right rules never fail; each rule that is left out is missed.
//!
//! `INSTEP_MODEL_CASES` sets the cases per right variant, `INSTEP_MODEL_SEED` replays one seed by all right variants. A
//! failing right variant prints its seed and a minimal trace.

use std::env;

use super::case::{Seed, explain, run};
use super::variant::{Deletes, Fence, FormerParents, LookUp, Numbers, Recheck, Repeat, Since, Variant};
use super::world::{Failure, Seen};

const CASES: u64 = 20_000;

/// From how many cases on a run must have met everything that the rules are for.
const ENOUGH_CASES: u64 = 1_000;

/// In how many cases a wrong variant must be caught at the latest.
const HUNT: u64 = 60_000;

const RECORDED_READS: Variant = Variant {
    fence: Fence::Ticket,
    former_parents: FormerParents::RecordedReads(Recheck::AtSettle(Since::BeforeReading)),
    look_up: LookUp::InAllSets,
    deletes: Deletes::Remembered,
    numbers: Numbers::HeadRow,
};

const OLD_VALUES: Variant = Variant {
    former_parents: FormerParents::OldValues,
    ..RECORDED_READS
};

const REPEATED_DELETES: Deletes = Deletes::Forgotten(Repeat::WhileWritesMayArrive);

#[test]
fn ticket_and_recorded_reads_never_fail() {
    never_fails(RECORDED_READS, |seen| seen.touched_again > 0);
}

#[test]
fn ticket_and_old_values_never_fail() {
    never_fails(OLD_VALUES, |seen| seen.touched_again == 0);
}

#[test]
fn forgetting_engine_with_recorded_reads_never_fails() {
    let variant = Variant {
        deletes: REPEATED_DELETES,
        ..RECORDED_READS
    };
    never_fails(variant, |seen| {
        seen.touched_again > 0 && seen.deletes_to_repeat > 0 && seen.expired > 0
    });
}

#[test]
fn forgetting_engine_with_old_values_never_fails() {
    let variant = Variant {
        deletes: REPEATED_DELETES,
        ..OLD_VALUES
    };
    never_fails(variant, |seen| seen.deletes_to_repeat > 0 && seen.expired > 0);
}

/// Two builds by one log number are equal to the engine, though they read different rows. With recorded reads no later
/// number need come: the build that loses its set recorded nothing. With old values one comes, and no failure is found.
#[test]
fn log_sequence_as_fence_diverges() {
    diverges(Variant {
        fence: Fence::LogSequence,
        ..RECORDED_READS
    });
}

#[test]
fn no_fence_diverges() {
    diverges(Variant {
        fence: Fence::None,
        ..RECORDED_READS
    });
    diverges(Variant {
        fence: Fence::None,
        ..OLD_VALUES
    });
}

#[test]
fn recorded_reads_without_recheck_diverge() {
    diverges(Variant {
        former_parents: FormerParents::RecordedReads(Recheck::Never),
        ..RECORDED_READS
    });
}

/// A row that was touched between the reading and the moment that counts is taken for known.
#[test]
fn recorded_reads_since_after_reading_diverge() {
    diverges(Variant {
        former_parents: FormerParents::RecordedReads(Recheck::AtSettle(Since::AfterReading)),
        ..RECORDED_READS
    });
}

/// What one set has read tells nothing of another, which is behind it or ahead of it.
#[test]
fn recorded_reads_of_one_set_alone_diverge() {
    diverges(Variant {
        look_up: LookUp::InOneSet,
        ..RECORDED_READS
    });
}

#[test]
fn reverse_query_only_diverges() {
    diverges(Variant {
        former_parents: FormerParents::ReverseQueryOnly,
        ..RECORDED_READS
    });
}

#[test]
fn forgetting_engine_without_repeated_deletes_diverges() {
    diverges(Variant {
        deletes: Deletes::Forgotten(Repeat::Never),
        ..RECORDED_READS
    });
    diverges(Variant {
        deletes: Deletes::Forgotten(Repeat::Never),
        ..OLD_VALUES
    });
}

/// A document in flight that is touched has its entry moved behind `leased_upto`. The new owner finds it there, deletes
/// it once, the engine forgets that, and the former owner's late put brings the document back.
#[test]
fn deletes_repeated_only_in_the_leased_range_diverge() {
    diverges(Variant {
        deletes: Deletes::Forgotten(Repeat::LeasedRange),
        ..RECORDED_READS
    });
    diverges(Variant {
        deletes: Deletes::Forgotten(Repeat::LeasedRange),
        ..OLD_VALUES
    });
}

/// Seen as soon as it happens, before an entry that is passed and forgotten unseen makes an engine diverge.
#[test]
fn numbers_from_a_database_sequence_break_the_order() {
    let failure = first_failure(Variant {
        numbers: Numbers::DatabaseSequence,
        ..OLD_VALUES
    });
    assert_eq!(failure, Failure::Broken("order of numbers is order of commits"));
}

fn never_fails(variant: Variant, covers: fn(&Seen) -> bool) {
    let seeds = match setting("INSTEP_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("INSTEP_MODEL_CASES").unwrap_or(CASES),
    };
    let are_enough = seeds.end - seeds.start >= ENOUGH_CASES;
    let mut total = Seen::default();
    for seed in seeds.map(Seed) {
        let (outcome, seen) = run(variant, seed);
        assert!(outcome.is_ok(), "{}", explain(variant, seed));
        total.add(seen);
    }
    if are_enough {
        assert!(
            total.superseded > 0 && total.refused > 0 && total.held_back > 0,
            "{total:?}"
        );
        assert!(covers(&total), "{total:?}");
    }
}

fn diverges(variant: Variant) {
    let failure = first_failure(variant);
    assert!(
        matches!(failure, Failure::Diverged { .. }),
        "{failure:?}: {variant:?}"
    );
}

fn first_failure(variant: Variant) -> Failure {
    (0..HUNT)
        .find_map(|seed| run(variant, Seed(seed)).0.err())
        .unwrap_or_else(|| panic!("not caught in {HUNT} cases: {variant:?}"))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test's size and replay are set where it is run, there is no configuration"
)]
fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
