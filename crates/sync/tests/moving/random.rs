//! Random changes, random faults, random crashes: at the end each set equals f(rows), and at every settlement each
//! touch is accounted for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use instep_core::{ChangeLog, SetState};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence};

use crate::moving::engine::{Faults, Scripted};
use crate::moving::rig::{Rig, fast};
use crate::moving::rows::Rows;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u64),
    Remove(u8),
    Poison(u8, u64),
    TouchAll,
    TouchTable,
    Unseen(u8, u64),
    Kill(usize),
    KillFollower,
    Pause(usize),
    Resume(usize),
    Rescan(usize, bool),
    Faults(usize, u32, u32, u32),
    LogFaults(u32),
    FailBuilds(u32),
    FailFeed,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..40_u8;
    prop_oneof![
        24 => (id.clone(), 0..1_000_u64).prop_map(|(id, value)| Step::Put(id, value)),
        8 => id.clone().prop_map(Step::Remove),
        // Few enough that the breaker has no reason to trip.
        1 => (0..2_u8, 0..1_000_u64).prop_map(|(id, value)| Step::Poison(id, value)),
        1 => Just(Step::TouchAll),
        1 => Just(Step::TouchTable),
        1 => (id, 0..1_000_u64).prop_map(|(id, value)| Step::Unseen(id, value)),
        2 => (0..2_usize).prop_map(Step::Kill),
        1 => Just(Step::KillFollower),
        1 => (0..2_usize).prop_map(Step::Pause),
        2 => (0..2_usize).prop_map(Step::Resume),
        1 => (0..2_usize, any::<bool>()).prop_map(|(set, both)| Step::Rescan(set, both)),
        2 => (0..2_usize, 0..300_u32, 0..300_u32, 0..400_u32).prop_map(|(s, a, b, c)| Step::Faults(s, a, b, c)),
        1 => (0..200_u32).prop_map(Step::LogFaults),
        1 => (1..4_u32).prop_map(Step::FailBuilds),
        1 => Just(Step::FailFeed),
        10 => (0..6_u64).prop_map(Step::Wait),
    ]
}

async fn run(seed: u64, speaks: bool, before: u8, steps: Vec<Step>) {
    let rows = Arc::new(Rows::default());
    rows.speaks.store(speaks, Ordering::Relaxed);
    rows.build_us.store(300, Ordering::Relaxed);
    (0..before).for_each(|id| rows.put(&id.to_string(), 0));
    let engines = vec![Scripted::new(seed), Scripted::forgetful(seed ^ 7)];
    engines
        .iter()
        .for_each(|engine| engine.delay_us.store(1_500, Ordering::Relaxed));
    let options = instep_sync::IndexerOptions { seed, ..fast() };
    let mut rig = Rig::start(rows.clone(), engines, options).await;
    let fingerprint = [(rig.collection.name.clone(), rig.collection.fingerprint())];
    for step in steps {
        match step {
            Step::Put(id, value) => rows.put(&id.to_string(), value),
            Step::Remove(id) => rows.remove(&id.to_string()),
            Step::Poison(id, value) => rows.poison(&id.to_string(), value),
            Step::TouchAll => rows.touch_all(),
            Step::TouchTable => rows.touch_table(),
            Step::Unseen(id, value) => {
                let row = (value % 2 == 0).then(|| crate::moving::rows::Row {
                    value,
                    reader: "unseen".into(),
                    poison: false,
                });
                rows.write_unseen(&id.to_string(), row);
                rows.touch_table();
            }
            Step::Kill(at) => rig.index(at),
            Step::KillFollower => {
                // Indexers watch the status of the follower they were started with.
                rig.follow();
                (0..2).for_each(|at| rig.index(at));
            }
            Step::Pause(at) => set_state(&rig, at, SetState::Paused).await,
            Step::Resume(at) => set_state(&rig, at, SetState::Following).await,
            Step::Rescan(at, both) => {
                // A set that is not registered yet has its first scan before it.
                let _ = rig.log.rescan(&rig.sets[at].name, &fingerprint, both).await;
            }
            Step::Faults(at, refuse, lose_answer, item) => {
                rig.sets[at].engine.set_faults(Faults {
                    refuse,
                    lose_answer,
                    item,
                });
            }
            Step::LogFaults(thousandths) => rig.checked.faults.store(thousandths, Ordering::Relaxed),
            Step::FailBuilds(n) => rows.fail_builds(n),
            Step::FailFeed => {
                rows.fail_feed(instep_core::Error::transient("source_away", "the source is away"))
            }
            Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    rig.checked.faults.store(0, Ordering::Relaxed);
    for at in 0..2 {
        rig.sets[at].engine.set_faults(Faults::default());
        set_state(&rig, at, SetState::Following).await;
        let state = rig.state(at).await;
        assert_eq!(state, SetState::Following);
    }
    rig.rest().await;
    // What was in trouble at rest is dead, not waiting; whoever was paused has caught up.
    rig.assert_in_step().await;
    rig.stop().await;
}

async fn set_state(rig: &Rig, at: usize, state: SetState) {
    // Before the indexer has registered the set there is nothing to set.
    rig.until("registered", || async {
        let sets = rig.log.status().await.unwrap();
        sets.iter().any(|status| status.set == rig.sets[at].name)
    })
    .await;
    rig.log.set_state(&rig.sets[at].name, &state).await.unwrap();
}

proptest! {
    #![proptest_config(Config {
        cases: 48,
        max_shrink_iters: 20,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    })]

    #[test]
    fn every_set_ends_in_step(
        seed in any::<u32>(),
        speaks in any::<bool>(),
        before in 0..40_u8,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(u64::from(seed), speaks, before, steps));
    }
}
