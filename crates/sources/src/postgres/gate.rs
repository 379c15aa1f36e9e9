//! The visibility gate: a transaction is handed over when a new snapshot of the server that is read sees it.
//!
//! The stream delivers a commit as soon as it is durable, which is before other sessions see it, and long before when a
//! synchronous standby is awaited or a replica is read. Whoever reads the row too early reads its former state, and
//! nothing would ever correct that. So transactions wait here, in the order of their commits, and none is skipped.
//!
//! On a primary, the transaction's id is compared with a snapshot. On a replica a snapshot may leave out a transaction
//! that still runs: there the replica must have replayed past the commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use instep_core::{Error, Finding, Result, Severity};

use super::Database;
use super::connect::Session;
use super::lsn::Lsn;
use super::position::Identity;

/// Between two questions about one transaction: the first wait and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// From when on waiting is worth telling, and how often it is told anew.
const PATIENCE: Duration = Duration::from_secs(1);

/// What must be visible.
#[derive(Clone, Copy, Debug)]
pub(super) enum Awaited {
    /// A transaction, by its id and the start of its commit record.
    Transaction { xid: u32, commit: Lsn },
    /// Everything that the primary had shown when its log ended here.
    Everything(Lsn),
}

impl Awaited {
    /// A replica that replayed further than this shows it.
    pub(super) fn past(self) -> Lsn {
        match self {
            Awaited::Transaction { commit, .. } => commit,
            Awaited::Everything(end) => Lsn(end.0.saturating_sub(1)),
        }
    }
}

/// What a new snapshot of the server that is read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum View {
    Primary(Snapshot),
    /// Replayed up to here.
    Replica(Lsn),
}

impl View {
    fn shows(&self, awaited: Awaited) -> bool {
        match (self, awaited) {
            (View::Replica(replayed), _) => *replayed > awaited.past(),
            (View::Primary(snapshot), Awaited::Transaction { xid, .. }) => snapshot.sees(xid),
            // It was read from a snapshot of the same server.
            (View::Primary(_), Awaited::Everything(_)) => true,
        }
    }
}

/// `pg_snapshot`: transactions below `next` that do not run have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    next: u64,
    /// In ascending order.
    running: Vec<u64>,
}

impl Snapshot {
    /// From `xmin:xmax:xip,…`.
    fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.splitn(3, ':').skip(1);
        let next = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
        let mut running: Vec<u64> = running.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        running.sort_unstable();
        Some(Snapshot { next, running })
    }

    /// Whether it sees a transaction that has committed.
    fn sees(&self, xid: u32) -> bool {
        let xid = full(xid, self.next);
        xid < self.next && self.running.binary_search(&xid).is_err()
    }
}

/// The transaction id with its epoch: of all that end in these 32 bits the nearest to `next`. Ids that are in use lie
/// within 2³¹ of each other.
fn full(xid: u32, next: u64) -> u64 {
    let low = (next & 0xffff_ffff) as u32;
    let distance = i64::from(xid.wrapping_sub(low).cast_signed());
    next.checked_add_signed(distance).unwrap_or(u64::from(xid))
}

/// Asks the server that is read.
pub(super) struct Gate {
    database: Arc<Database>,
    bound: Identity,
    session: Option<Session>,
    /// What was seen last. What it shows stays visible.
    view: Option<View>,
}

impl Gate {
    /// A gate for the stream of this identity.
    pub(super) fn new(database: &Arc<Database>, bound: Identity) -> Self {
        Gate {
            database: database.clone(),
            bound,
            session: None,
            view: None,
        }
    }

    /// Whether it is visible now. Asks only when what was seen last does not show it.
    pub(super) async fn shows(&mut self, awaited: Awaited) -> Result<bool> {
        if self.view.as_ref().is_some_and(|view| view.shows(awaited)) {
            self.release(awaited);
            return Ok(true);
        }
        let view = self.look().await?;
        let shows = view.shows(awaited);
        self.view = Some(view);
        if shows {
            self.release(awaited);
        }
        Ok(shows)
    }

    /// Waits until it is visible. What keeps it is told by the database's `waiting`, found out through `primary`.
    pub(super) async fn wait(&mut self, awaited: Awaited, primary: &Session) -> Result<()> {
        let began = Instant::now();
        let mut told: Option<Told> = None;
        let mut pause = FIRST_WAIT;
        while !self.shows(awaited).await? {
            let due = told.as_ref().map_or(began + PATIENCE, |told| told.at + PATIENCE);
            if Instant::now() >= due {
                let finding = self.what_keeps(awaited, began.elapsed(), primary).await?;
                if told.is_none() {
                    tracing::warn!(source = %self.database.name, "{}", finding.message);
                }
                *self.database.waiting() = Some(finding);
                let database = self.database.clone();
                match &mut told {
                    Some(told) => told.at = Instant::now(),
                    None => {
                        told = Some(Told {
                            database,
                            at: Instant::now(),
                        })
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_WAIT);
        }
        Ok(())
    }

    /// Readers from now on must see it, too: behind a balancer they may meet another replica.
    fn release(&self, awaited: Awaited) {
        let mut released = self.database.released();
        *released = (*released).max(awaited.past());
    }

    async fn look(&mut self) -> Result<View> {
        if let Some(session) = &self.session
            && let Ok(view) = view(session, &self.bound).await
        {
            return Ok(view);
        }
        // It ended, or said something odd: a new session says whether that stays.
        self.session = None;
        let session = self.database.read.connect().await?;
        same_cluster(&session, &self.bound).await?;
        let view = view(&session, &self.bound).await?;
        self.session = Some(session);
        Ok(view)
    }

    async fn what_keeps(&self, awaited: Awaited, waited: Duration, primary: &Session) -> Result<Finding> {
        let seconds = waited.as_secs();
        let (code, subject, message, remedy) = match (&self.view, awaited) {
            (Some(View::Primary(_)) | None, Awaited::Transaction { xid, .. }) => {
                let subject = format!("transaction {xid}");
                let what =
                    format!("transaction {xid} is in the log for {seconds} s and not visible to readers");
                let (message, remedy) = match committing(primary, xid).await? {
                    Some((pid, event)) if event == "SyncRep" => (
                        format!(
                            "{what}: its commit (process {pid}) waits for a synchronous standby; later changes wait behind it"
                        ),
                        "bring the standby back, or take it out of synchronous_standby_names and reload the configuration",
                    ),
                    Some((pid, event)) => (
                        format!(
                            "{what}: process {pid} still commits it ({event}); later changes wait behind it"
                        ),
                        "look at this process in pg_stat_activity",
                    ),
                    None => (
                        format!("{what}; later changes wait behind it"),
                        "look in pg_stat_activity for a commit that waits, as for a synchronous standby",
                    ),
                };
                ("transaction_hangs", subject, message, remedy)
            }
            (view, _) => {
                let replayed = match view {
                    Some(View::Replica(replayed)) => *replayed,
                    Some(View::Primary(_)) | None => Lsn::default(),
                };
                return Ok(replica_lags(&self.database, replayed, awaited.past(), waited));
            }
        };
        Ok(Finding {
            severity: Severity::Warning,
            code: code.into(),
            subject,
            message,
            remedy: Some(remedy.into()),
        })
    }
}

fn replica_lags(database: &Database, replayed: Lsn, past: Lsn, waited: Duration) -> Finding {
    let seconds = waited.as_secs();
    Finding {
        severity: Severity::Warning,
        code: "replica_lags".into(),
        subject: database.read.to_string(),
        message: format!(
            "the replica that is read is behind for {seconds} s: it has replayed up to {replayed}, the next change is at \
             {past}"
        ),
        remedy: Some(
            "look whether the replica runs, replays and is not paused; or let url lead to the primary".into(),
        ),
    }
}

/// Waits until the server that is read shows what was committed at this place, where it is a replica; how far it has
/// replayed then. Longer waits are told.
pub(super) async fn replayed(
    database: &Arc<Database>,
    session: &Session,
    commit: Lsn,
) -> Result<Option<Lsn>> {
    const REPLAYED: &str =
        "select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() end";
    let began = Instant::now();
    let mut told: Option<Told> = None;
    loop {
        let lines = session.query(REPLAYED).await?;
        let Some(text) = lines.first().ok_or_else(unreadable)?.get(0)? else {
            return Ok(None);
        };
        let replayed = text.parse().map_err(|()| unreadable())?;
        if replayed > commit {
            return Ok(Some(replayed));
        }
        if began.elapsed() >= PATIENCE {
            *database.waiting() = Some(replica_lags(database, replayed, commit, began.elapsed()));
            told = told.or_else(|| {
                Some(Told {
                    database: database.clone(),
                    at: began,
                })
            });
        }
        tokio::time::sleep(LONGEST_WAIT).await;
    }
}

/// How long tables wait for the transaction that changed them.
const TABLES_WAIT: Duration = Duration::from_secs(2);

/// Waits until a transaction is visible on the primary that is read, but not for ever: one that hangs, or a server that is
/// another one, is named by the gate, which waits for every transaction.
pub(super) async fn visible(session: &Session, xid: u32) -> Result<()> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    while began.elapsed() < TABLES_WAIT {
        let lines = session
            .query("select pg_catalog.pg_current_snapshot()::text")
            .await?;
        let text = lines.first().ok_or_else(unreadable)?.text(0)?;
        if Snapshot::parse(text).ok_or_else(unreadable)?.sees(xid) {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_WAIT);
    }
    Ok(())
}

/// Takes back what was told, however waiting ends.
struct Told {
    database: Arc<Database>,
    at: Instant,
}

impl Drop for Told {
    fn drop(&mut self) {
        *self.database.waiting() = None;
    }
}

async fn view(session: &Session, bound: &Identity) -> Result<View> {
    let lines = session
        .query(
            "select pg_catalog.pg_is_in_recovery(), pg_catalog.pg_current_snapshot()::text, \
               pg_catalog.pg_last_wal_replay_lsn(), \
               case when not pg_catalog.pg_is_in_recovery() then \
                 pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) end",
        )
        .await?;
    let line = lines.first().ok_or_else(unreadable)?;
    if line.text(0)? == "t" {
        let replayed = line
            .get(2)?
            .map_or(Ok(Lsn::default()), |text| text.parse().map_err(|()| unreadable()))?;
        return Ok(View::Replica(replayed));
    }
    // A replica that was promoted is another primary than the one whose stream this is: its ids mean nothing here.
    let timeline = u32::from_str_radix(line.text(3)?, 16).map_err(|_| unreadable())?;
    if timeline != bound.timeline {
        return Err(elsewhere("is on another timeline, as after a failover"));
    }
    Snapshot::parse(line.text(1)?)
        .map(View::Primary)
        .ok_or_else(unreadable)
}

async fn same_cluster(session: &Session, bound: &Identity) -> Result<()> {
    let lines = session
        .query(
            "select (select system_identifier from pg_catalog.pg_control_system()), d.oid \
             from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()",
        )
        .await?;
    let line = lines.first().ok_or_else(unreadable)?;
    if line.text(0)? != bound.system.to_string() {
        return Err(elsewhere("has another system id"));
    }
    if line.text(1)? != bound.database.to_string() {
        return Err(elsewhere("holds another database of this name"));
    }
    Ok(())
}

fn elsewhere(how: &str) -> Error {
    Error::transient(
        "read_elsewhere",
        format!("the server that is read is not the one that is followed, nor its replica: it {how}"),
    )
    .with_remedy(
        "let url and stream_url lead to one database; while a failover is under way this is tried again",
    )
}

fn unreadable() -> Error {
    Error::fatal(
        "bad_answer",
        "the server describes its snapshot in a way that is not known",
    )
}

/// The process that commits a transaction, and what it waits for.
async fn committing(primary: &Session, xid: u32) -> Result<Option<(String, String)>> {
    let sql = format!(
        "select pid, coalesce(wait_event, state, '') from pg_catalog.pg_stat_activity where backend_xid = '{xid}'"
    );
    let lines = primary.query(&sql).await?;
    let found =
        |line: &super::connect::Line| Ok::<_, Error>((line.text(0)?.to_owned(), line.text(1)?.to_owned()));
    lines.first().map(found).transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn epochs_come_from_the_snapshot() {
        const EPOCH: u64 = 1 << 32;
        for (xid, next, expected) in [
            (741, 800, 741),
            (800, 800, 800),
            (900, 800, 900),
            // The snapshot has crossed the boundary, the transaction has not.
            (u32::MAX, EPOCH + 5, EPOCH - 1),
            (4_000_000_000, EPOCH + 5, 4_000_000_000),
            // The other way round: the transaction began after the snapshot was taken.
            (3, EPOCH - 1, EPOCH + 3),
            (3, 7 * EPOCH - 1, 7 * EPOCH + 3),
            (7, 7 * EPOCH + 9, 7 * EPOCH + 7),
            // As far as ids may lie apart.
            (0x7fff_ffff, 3 * EPOCH, 3 * EPOCH + 0x7fff_ffff),
            (0x8000_0001, 3 * EPOCH, 2 * EPOCH + 0x8000_0001),
        ] {
            assert_eq!(full(xid, next), expected, "{xid} by {next}");
        }
    }

    #[test]
    fn a_snapshot_sees_what_has_ended_before_it() {
        let snapshot = Snapshot::parse("740:745:740,743").unwrap();
        let seen: Vec<u32> = (735..750).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [735, 736, 737, 738, 739, 741, 742, 744]);
        assert!(Snapshot::parse("740:740:").unwrap().sees(739));
        assert!(!Snapshot::parse("740:740:").unwrap().sees(740));
        let crossed = Snapshot::parse("4294967290:4294967300:4294967290,4294967299").unwrap();
        let seen = |xid| crossed.sees(xid);
        assert!(!seen(4_294_967_290) && seen(4_294_967_291) && seen(0) && seen(2) && !seen(3) && !seen(4));
        for text in ["", "1", "1:x:", "1:2:x"] {
            assert_eq!(Snapshot::parse(text), None);
        }
    }

    #[test]
    fn a_replica_must_have_replayed_past_the_commit() {
        let awaited = Awaited::Transaction {
            xid: 3,
            commit: Lsn(100),
        };
        for (replayed, shows) in [(99, false), (100, false), (101, true)] {
            assert_eq!(View::Replica(Lsn(replayed)).shows(awaited), shows);
        }
        assert!(View::Replica(Lsn(100)).shows(Awaited::Everything(Lsn(100))));
        assert!(!View::Replica(Lsn(99)).shows(Awaited::Everything(Lsn(100))));
    }
}
