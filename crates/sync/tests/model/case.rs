//! One random interleaving: made from a seed, run, and, when it fails, cut down to a trace that a reader can follow.

use std::fmt::Write as _;

use super::database::{CHILDREN, ChildKey, DOCUMENTS, DocKey, MAKERS, MakerKey, Statement};
use super::log::{SETS, SetKey};
use super::network::Fate;
use super::variant::Variant;
use super::world::{Action, Failure, Seen, Step, World};

/// Short interleavings show what a later touch would mend, long ones reach states that take many steps.
const SHORTEST: usize = 40;
const LONGEST: usize = 120;

/// What makes a case: the same seed is the same interleaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

/// Runs the seed's interleaving by the rules of the variant.
pub(crate) fn run(variant: Variant, seed: Seed) -> (Result<(), Failure>, Seen) {
    let mut world = World::new(variant);
    let outcome = world.run(&interleaving(seed));
    (outcome, world.seen())
}

/// The seed, its failure, and the fewest of its steps found that still fail.
pub(crate) fn explain(variant: Variant, seed: Seed) -> String {
    let steps = cut_down(variant, interleaving(seed));
    let mut text = format!("{variant:?}\n{seed:?}, {} steps left:\n", steps.len());
    for step in &steps {
        writeln!(text, "  {step:?}").expect("a string takes all that is written");
    }
    match World::new(variant).run(&steps) {
        Ok(()) => writeln!(text, "passes"),
        Err(failure) => writeln!(text, "{failure:?}"),
    }
    .expect("a string takes all that is written");
    text
}

/// Leaves out ever smaller parts as long as what remains still fails.
fn cut_down(variant: Variant, mut steps: Vec<Step>) -> Vec<Step> {
    let fails = |steps: &[Step]| World::new(variant).run(steps).is_err();
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < steps.len() {
            let end = (start + part).min(steps.len());
            let rest = [&steps[..start], &steps[end..]].concat();
            if fails(&rest) {
                steps = rest;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        if !(has_shrunk && part == 1) {
            part /= 2;
        }
    }
    steps
}

fn interleaving(seed: Seed) -> Vec<Step> {
    let mut random = Random(seed.0);
    let length = SHORTEST + random.below(LONGEST - SHORTEST);
    (0..length).map(|_| step(&mut random)).collect()
}

/// How often each kind of step comes, in per mille.
fn step(random: &mut Random) -> Step {
    match random.below(1000) {
        0..170 => Step::Commit(
            statement(random),
            (random.below(4) == 0).then(|| statement(random)),
        ),
        170..260 => Step::Resolve {
            changes: 1 + random.below(4),
        },
        260..350 => Step::BeginAppend,
        350..440 => Step::CommitAppend,
        440..445 => Step::CrashRouter,
        445..455 => Step::Repair(document(random)),
        455..465 => Step::Forget,
        465..485 => Step::CollectGarbage(set(random)),
        485..780 => {
            let nth = if random.below(6) == 0 {
                1 + random.below(2)
            } else {
                0
            };
            Step::Worker {
                set: set(random),
                nth,
                action: action(random),
            }
        }
        780..925 => Step::Deliver {
            nth: random.below(16),
            fate: fate(random),
        },
        925..945 => Step::TakeOver(set(random)),
        945..955 => Step::Crash(set(random)),
        955.. => Step::Wait,
    }
}

fn statement(random: &mut Random) -> Statement {
    let child = ChildKey(random.below(CHILDREN));
    match random.below(20) {
        0..2 => Statement::PutRoot(document(random), MakerKey(random.below(MAKERS))),
        2..4 => Statement::DeleteRoot(document(random)),
        4..6 => Statement::RenameMaker(MakerKey(random.below(MAKERS))),
        6..17 => Statement::PutChild(child, Some(document(random))),
        17 => Statement::PutChild(child, None),
        18.. => Statement::DeleteChild(child),
    }
}

fn action(random: &mut Random) -> Action {
    let batch = random.below(DOCUMENTS);
    match random.below(100) {
        0..25 => Action::Take {
            documents: 1 + random.below(DOCUMENTS),
        },
        25..88 => Action::Advance { batch },
        88..92 => Action::Resend { batch },
        92.. => Action::GiveUp { batch },
    }
}

fn fate(random: &mut Random) -> Fate {
    match random.below(100) {
        0..65 => Fate::Answered,
        65..73 => Fate::PartlyRefused,
        73..81 => Fate::AnswerLost,
        81..87 => Fate::Copied,
        87..92 => Fate::AnsweredAndCopied,
        92.. => Fate::Lost,
    }
}

fn document(random: &mut Random) -> DocKey {
    DocKey(random.below(DOCUMENTS))
}

fn set(random: &mut Random) -> SetKey {
    SetKey(random.below(SETS))
}

/// splitmix64: neighbouring seeds give unrelated numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let remainder = z % u64::try_from(n).expect("a usize fits 64 bits");
        usize::try_from(remainder).expect("less than a usize")
    }
}
