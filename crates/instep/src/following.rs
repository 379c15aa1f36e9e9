//! One source while it is followed: its follower, begun anew when a person asks for it, and what `status` says of it
//! beside this process and after it.
//!
//! To follow a source anew means to forget its position: the follower then captures changes from now on, and has every
//! collection scanned from both sides that was scanned before. The wish is a memo in the state (`instep rescan` writes
//! it), removed only after the position is forgotten, so that it outlives a crash. Leaves following itself to
//! `instep-sync`.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use instep_core::{ChangeLog, Former, Means, Result, Source, SourceName, TableName, Touch, Watched};
use instep_sync::{
    Assembler, Clock, Follower, Problem, Shutdown, SignalledLog, SourceDefinition, SourceState, SourceStatus,
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How often it is looked whether somebody wants a source to be followed anew.
const LOOK: Duration = Duration::from_secs(1);
/// How often what a source waits for is written down.
const WAITING: Duration = Duration::from_secs(1);
/// How often it is asked by which means former parents are known.
const FORMER: Duration = Duration::from_secs(60);

/// How remedies name the command that follows a source anew; shown with the source's own name.
const REMEDY: &str = "instep rescan <source>";

/// The memo that says why a source is halted.
pub(crate) fn halt_memo(source: &SourceName) -> String {
    format!("halted/{source}")
}

/// The memo that says what following a source waits for.
pub(crate) fn waiting_memo(source: &SourceName) -> String {
    format!("waiting/{source}")
}

/// The memo that says by which means former parents are known.
pub(crate) fn former_memo(source: &SourceName) -> String {
    format!("former/{source}")
}

/// The memo that says that a source is to be followed anew.
pub(crate) fn rescan_memo(source: &SourceName) -> String {
    format!("rescan/{source}")
}

/// Asks for a source to be followed anew: by the process that owns the state, or by the next one.
pub(crate) async fn ask_to_rescan(log: &SignalledLog, source: &SourceName) -> Result<()> {
    log.set_memo(&rescan_memo(source), Some("asked for")).await?;
    log.set_memo(&halt_memo(source), None).await
}

/// A source to follow.
pub(crate) struct Following {
    definition: SourceDefinition,
    assembler: Arc<Assembler>,
    log: Arc<SignalledLog>,
    clock: Arc<dyn Clock>,
    seed: u64,
    shown: watch::Sender<SourceStatus>,
}

impl Following {
    /// Nothing begins before [`Self::run`]. `seed`: of the jitter of the follower's waits.
    pub(crate) fn new(
        definition: SourceDefinition,
        assembler: Arc<Assembler>,
        log: Arc<SignalledLog>,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        let starting = SourceStatus {
            state: SourceState::Starting,
            since_ms: 0,
            captured: false,
            position: None,
            last_change_ms: None,
            problem: None,
            waiting: None,
        };
        Following {
            definition,
            assembler,
            log,
            clock,
            seed,
            shown: watch::Sender::new(starting),
        }
    }

    /// What its follower is doing, whichever it is by then.
    pub(crate) fn status(&self) -> watch::Receiver<SourceStatus> {
        self.shown.subscribe()
    }

    /// Follows until it is told to stop; anew whenever somebody asks for it, also after a halt.
    pub(crate) async fn run(self, mut stopped: Shutdown) {
        let mut is_first = true;
        loop {
            tokio::select! {
                () = self.forget_when_asked() => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
            let follower = self.follower(is_first);
            is_first = false;
            let mut status = follower.status();
            self.show(&status.borrow_and_update());
            let (stop, stopping) = watch::channel(false);
            let mut work = pin!(follower.run(stopping));
            let mut asked = pin!(self.asked());
            let mut ended = false;
            let anew = loop {
                tokio::select! {
                    () = &mut work, if !ended => {
                        ended = true;
                        self.show(&status.borrow_and_update());
                    }
                    changed = status.changed(), if !ended => {
                        if changed.is_ok() {
                            self.show(&status.borrow_and_update());
                        }
                    }
                    () = &mut asked => break true,
                    _ = stopped.wait_for(|stop| *stop) => break false,
                }
            };
            // Its receiver is gone when the follower has ended by itself.
            let _ = stop.send(true);
            if !ended {
                work.await;
            }
            if !anew {
                if !ended {
                    self.show(&status.borrow());
                }
                return;
            }
            tracing::warn!(source = %self.definition.name, "the source is followed anew: a person asked for it");
        }
    }

    fn follower(&self, is_first: bool) -> Follower {
        let (builder, log) = (self.assembler.clone(), self.log.clone());
        let follower = Follower::new(
            self.definition.clone(),
            builder,
            log,
            self.clock.clone(),
            self.seed,
        );
        let follower = follower.learning(self.assembler.clone());
        match is_first {
            true => follower,
            false => follower.after_another(),
        }
    }

    fn show(&self, status: &SourceStatus) {
        let mut status = status.clone();
        let remedy = status
            .problem
            .as_mut()
            .and_then(|problem| problem.remedy.as_mut());
        if let Some(remedy) = remedy {
            *remedy = remedy.replace(REMEDY, &format!("instep rescan {}", self.definition.name));
        }
        self.shown.send_if_modified(|known| {
            // A new follower has not seen any change yet.
            status.last_change_ms = status.last_change_ms.or(known.last_change_ms);
            let differs = *known != status;
            *known = status;
            differs
        });
    }

    /// Returns once somebody asks for the source to be followed anew.
    async fn asked(&self) {
        while !self.is_asked().await {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_asked(&self) -> bool {
        match self.log.memo(&rescan_memo(&self.definition.name)).await {
            Ok(asked) => asked.is_some(),
            Err(error) => {
                tracing::warn!("the state cannot be read: {error}");
                false
            }
        }
    }

    async fn forget_when_asked(&self) {
        while self.is_asked().await {
            match self.forget().await {
                Ok(()) => return,
                Err(error) => tracing::warn!("the position cannot be forgotten: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The scans are written down first: a process that dies in between scans from both sides all the same.
    async fn forget(&self) -> Result<()> {
        let name = &self.definition.name;
        let collections = self.definition.collections.iter().cloned();
        let scans: Vec<_> = collections.map(Touch::Scan).collect();
        self.log.append(name, None, &scans).await?;
        self.log.forget_position(name).await?;
        self.log.set_memo(&rescan_memo(name), None).await
    }
}

/// Writes down that a source is halted, so that `status` can say so beside this process and after it.
pub(crate) async fn remember_halt(
    log: Arc<SignalledLog>,
    source: SourceName,
    mut status: watch::Receiver<SourceStatus>,
    mut stopped: Shutdown,
) {
    let mut is_last = false;
    loop {
        let halt = {
            let status = status.borrow_and_update();
            status
                .problem
                .clone()
                .filter(|_| status.state == SourceState::Halted)
        };
        let text = halt.map(|problem| json!(problem).to_string());
        if let Err(error) = log.set_memo(&halt_memo(&source), text.as_deref()).await {
            tracing::warn!(source = %source, "the source's state cannot be written: {error}");
        }
        if is_last {
            return;
        }
        tokio::select! {
            changed = status.wait_for(|status| (status.state == SourceState::Halted) != text.is_some()) => {
                if changed.is_err() {
                    return;
                }
            }
            // Whoever stops because of a halt must not be faster than its being written down.
            _ = stopped.wait_for(|stop| *stop) => is_last = true,
        }
    }
}

/// Writes down what a source waits for and by which means former parents of rows of joined tables are known, until it is
/// told to stop.
pub(crate) async fn remember_source(
    log: Arc<SignalledLog>,
    name: SourceName,
    source: Arc<dyn Source>,
    watched: Vec<Watched>,
    joined: BTreeSet<TableName>,
    status: watch::Receiver<SourceStatus>,
    mut stopped: Shutdown,
) {
    let remembering = async {
        let mut written = None;
        let mut due = Instant::now();
        loop {
            let waiting = waits_for(&status.borrow()).map(|problem| json!(problem).to_string());
            if written.as_ref() != Some(&waiting) {
                write(&log, &waiting_memo(&name), waiting.as_deref()).await;
                written = Some(waiting);
            }
            // While the source is away its follower says so.
            if status.borrow().captured
                && Instant::now() >= due
                && let Ok(mut former) = source.former(&watched).await
            {
                former.retain(|former| joined.contains(&former.table));
                write(
                    &log,
                    &former_memo(&name),
                    Some(&shown_former(&former).to_string()),
                )
                .await;
                due = Instant::now() + FORMER;
            }
            tokio::time::sleep(WAITING).await;
        }
    };
    tokio::select! {
        () = remembering => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    write(&log, &waiting_memo(&name), None).await;
}

/// What following waits for now: something in the source, or the source itself, which is tried again.
fn waits_for(status: &SourceStatus) -> Option<&Problem> {
    let tried_again = status
        .problem
        .as_ref()
        .filter(|_| status.state == SourceState::BackingOff);
    status.waiting.as_ref().or(tried_again)
}

pub(crate) async fn write(log: &SignalledLog, memo: &str, text: Option<&str>) {
    if let Err(error) = log.set_memo(memo, text).await {
        tracing::warn!("`{memo}` cannot be written: {error}");
    }
}

/// By which means former parents are known, as `status` shows it.
fn shown_former(former: &[Former]) -> Value {
    let shown = former.iter().map(|former| {
        let means = match &former.means {
            Means::Brought(by) => by.as_str(),
            Means::Recorded => RECORDED,
        };
        json!({ "table": former.table, "means": means, "cheaper": former.cheaper })
    });
    shown.collect()
}

/// What `check` and `status` call [`Means::Recorded`].
pub(crate) const RECORDED: &str = "recorded reads";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use instep_core::SetState;
    use rusqlite::Connection;

    use super::*;
    use crate::config::Config;
    use crate::running::Running;
    use crate::wiring::{Access, Parts};

    async fn parts(folder: &Path) -> Parts {
        let text = "[source.shop]\nurl = \"sqlite:shop.db\"\n[collection.item]\nroot = \"item\"\npublic = true\nfields.name = \"text\"\n";
        let config = Config::parse(&folder.join("instep.toml"), text.to_owned(), &|_| None).unwrap();
        Parts::open(config, Access::Owner).await.unwrap()
    }

    fn shop(folder: &Path) -> Connection {
        let shop = Connection::open(folder.join("shop.db")).unwrap();
        shop.execute_batch(
            "create table item (id integer primary key, name text); insert into item values (1, 'a');",
        )
        .unwrap();
        shop
    }

    /// Waits until the collection was scanned from both sides, and returns how often that is waited for at most.
    async fn scanned_again(log: &SignalledLog) {
        for _ in 0..600 {
            let scans = log.scans(&"main".into()).await.unwrap();
            if scans.iter().all(|scan| scan.both && scan.finished) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it is not scanned again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_source_is_followed_anew_while_it_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let shop = shop(folder.path());
        let parts = parts(folder.path()).await;
        let running = Running::start(&parts).await.unwrap();
        assert!(running.caught_up().await.unwrap().is_complete());
        let before = parts.log.position(&"shop".into()).await.unwrap();
        ask_to_rescan(&parts.log, &"shop".into()).await.unwrap();
        scanned_again(&parts.log).await;
        // The scan is written down before the position is forgotten, and that before the wish is.
        for _ in 0..600 {
            if parts.log.memo("rescan/shop").await.unwrap().is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(parts.log.memo("rescan/shop").await.unwrap(), None);
        shop.execute_batch("insert into item values (2, 'b')").unwrap();
        assert!(running.caught_up().await.unwrap().is_complete());
        let status = running.sources[&SourceName::from("shop")].borrow().clone();
        assert!(status.captured && status.problem.is_none(), "{status:?}");
        assert_ne!(parts.log.position(&"shop".into()).await.unwrap(), before);
        let sets = parts.log.status().await.unwrap();
        assert!(
            sets.iter()
                .all(|set| set.state == SetState::Following && set.counts.conserved().is_ok())
        );
        running.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wish_is_carried_out_by_the_next_process_and_a_halt_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let shop = shop(folder.path());
        let parts = parts(folder.path()).await;
        let running = Running::start(&parts).await.unwrap();
        assert!(running.caught_up().await.unwrap().is_complete());
        running.stop().await;
        // A database restored from a backup: the position is ahead of it.
        shop.execute_batch(
            "delete from instep_change; delete from sqlite_sequence; insert into item values (3, 'c');",
        )
        .unwrap();
        let running = Running::start(&parts).await.unwrap();
        let mut status = running.sources[&SourceName::from("shop")].clone();
        let halted = status
            .wait_for(|status| status.state == SourceState::Halted)
            .await
            .unwrap()
            .clone();
        let remedy = halted.problem.unwrap().remedy.unwrap();
        assert!(remedy.contains("`instep rescan shop`"), "{remedy}");
        running.stop().await;

        assert!(parts.log.memo("halted/shop").await.unwrap().is_some());
        ask_to_rescan(&parts.log, &"shop".into()).await.unwrap();
        assert!(parts.log.memo("halted/shop").await.unwrap().is_none());
        let running = Running::start(&parts).await.unwrap();
        assert!(running.caught_up().await.unwrap().is_complete());
        scanned_again(&parts.log).await;
        assert_eq!(parts.log.memo("rescan/shop").await.unwrap(), None);
        running.stop().await;
    }
}
