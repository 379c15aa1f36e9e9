//! kill -9 in the middle of appends and settlements: what was acknowledged is there, and nothing is half there.
//!
//! The writer is this test binary, started again as a child that runs `a_writer_until_killed` with a state file named
//! in its environment.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use instep_core::{ChangeLog, DocId, DocKey, Outcome, Owned, Position, Seq, Settlement, Touch};
use instep_store::SqliteLog;

use crate::state::{FreshState, block_on, noon};

const STATE: &str = "INSTEP_STORE_TEST_STATE";
const KILLS: u64 = 25;

/// Documents that append number `n` touches: some new, some again.
fn touched_by(n: u64) -> Vec<u64> {
    (0..=n % 7)
        .map(|k| (n * 3 + k * 5) % (40 + n))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

fn key(id: u64) -> DocKey {
    DocKey {
        collection: "product".into(),
        id: DocId::parse(&format!("{id:09}")).unwrap(),
    }
}

fn child_state() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "tells the child process what it is")]
    std::env::var_os(STATE).map(PathBuf::from)
}

/// Not a test by itself: what the child process runs. It says what was acknowledged, one line each.
#[test]
fn a_writer_until_killed() {
    let Some(path) = child_state() else { return };
    block_on(async {
        let log = SqliteLog::open(&path, noon()).unwrap();
        log.register(&"a".into(), &[]).await.unwrap();
        let owned = log.own(&"a".into(), "child").await.unwrap();
        let from = log
            .position(&"shop".into())
            .await
            .unwrap()
            .map_or(0, |upto| upto.at.parse::<u64>().unwrap());
        let mut position = owned.position.0;
        for n in from + 1.. {
            let touches: Vec<Touch> = touched_by(n)
                .into_iter()
                .map(|id| Touch::Document(key(id)))
                .collect();
            let upto = Position {
                identity: "db".into(),
                at: n.to_string(),
            };
            // Both at once, so that they share a transaction when they meet.
            let source = "shop".into();
            let (appended, settled) = tokio::join!(
                log.append(&source, Some(&upto), &touches),
                pass(&log, &owned, position)
            );
            appended.unwrap();
            position = settled;
            // Straight to the pipe: a buffered line would be lost with the process.
            std::io::stdout()
                .lock()
                .write_all(format!("\nacknowledged {n} {position}\n").as_bytes())
                .unwrap();
        }
    });
}

/// Builds some entries after the position: two of three are indexed, one is a dead letter.
async fn pass(log: &SqliteLog, owned: &Owned, position: u64) -> u64 {
    let entries = log.take(owned, Seq(position), 5).await.unwrap().entries;
    let Some(last) = entries.last() else {
        return position;
    };
    let outcome = |seq: Seq| {
        if seq.0.is_multiple_of(3) {
            Outcome::Dead
        } else {
            Outcome::Indexed
        }
    };
    let (dead, alive): (Vec<_>, Vec<_>) = entries
        .iter()
        .partition(|entry| outcome(entry.seq) == Outcome::Dead);
    let done = Settlement {
        position: last.seq,
        passed: entries
            .iter()
            .map(|entry| (entry.seq, outcome(entry.seq)))
            .collect(),
        troubles: dead
            .into_iter()
            .map(|entry| instep_core::Trouble {
                key: entry.key.clone(),
                seq: entry.seq,
                code: "refused".into(),
                reason: "no reason".into(),
                attempts: 1,
                next_ms: None,
            })
            .collect(),
        healed: alive
            .into_iter()
            .map(|entry| (entry.key.clone(), Outcome::Indexed))
            .collect(),
        ..Settlement::default()
    };
    log.settle(owned, &done).await.unwrap();
    last.seq.0
}

/// Runs the child for a while, kills it, and returns the last append and position it acknowledged.
fn run_and_kill(path: &Path, after: Duration) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kill::a_writer_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(STATE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = (0, 0);
    let mut killed = false;
    for line in lines {
        let line = line.unwrap();
        let Some(said) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        let (append, position) = said.split_once(' ').unwrap();
        last = (append.parse().unwrap(), position.parse().unwrap());
        if !killed {
            let (_never, wait) = std::sync::mpsc::sync_channel::<()>(1);
            let _ = wait.recv_timeout(after);
            // On Unix this is SIGKILL. Lines that are in the pipe already are still read: they were acknowledged.
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    last
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if child_state().is_some() {
        return;
    }
    let state = FreshState::new();
    let (mut appends, mut head) = (0, 0);
    for round in 0..KILLS {
        // From "in the first transactions" to "somewhere in the middle", never the same.
        let (append, position) = run_and_kill(&state.path(), Duration::from_micros(round * 1_337 % 20_000));
        let log = SqliteLog::open(state.path(), noon()).unwrap();
        block_on(async {
            let upto = log.position(&"shop".into()).await.unwrap().unwrap();
            let durable: u64 = upto.at.parse().unwrap();
            assert!(
                durable >= append,
                "append {append} was acknowledged, the file ends at {durable}"
            );
            // Whole appends only: the numbers are those of the appends up to the position, no more and no less.
            head += (appends + 1..=durable)
                .map(|n| touched_by(n).len() as u64)
                .sum::<u64>();
            appends = durable;
            assert_eq!(log.head().await.unwrap().0, head);

            let status = log.status().await.unwrap().remove(0);
            assert!(
                status.position.0 >= position,
                "position {position} was acknowledged"
            );
            status.counts.conserved().unwrap();
            assert_eq!(status.counts.touches, head);
            // Each document once, under the number of its last touch.
            let mut last = std::collections::BTreeMap::new();
            let mut number = 0;
            for n in 1..=appends {
                for id in touched_by(n) {
                    number += 1;
                    last.insert(key(id), number);
                }
            }
            last.retain(|_, number| *number > status.position.0);
            let owned = log.own(&"a".into(), "parent").await.unwrap();
            let entries = log
                .take(&owned, status.position, usize::MAX)
                .await
                .unwrap()
                .entries;
            let entries: std::collections::BTreeMap<_, _> = entries
                .into_iter()
                .map(|entry| (entry.key, entry.seq.0))
                .collect();
            assert_eq!(entries, last);
        });
    }
    assert!(
        appends > KILLS,
        "the child never got far: {appends} appends in {KILLS} lives"
    );
}
