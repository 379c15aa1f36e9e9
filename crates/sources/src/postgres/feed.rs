//! Following: set up, verified and started; then the stream's transactions, gate by gate, as batches.
//!
//! A task works for a feed: it takes the stream in, waits at the gate, looks after the followed tables, and hands batches
//! over; it ends with the feed. While nobody takes a batch, the next one grows: the slower the taker, the more
//! transactions share its work. A batch holds whole transactions, or parts of one: then its position is the one before.
//!
//! Places that move without changes (other databases of the server, other tables) are handed over about once a second,
//! so that the slot moves along and nothing is written for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use instep_core::{Change, ChangeBatch, ChangeFeed, Error, Position, Result, ResultExt, Watched};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::Session;
use super::followed::{self, Catalog, Followed, Newcomers};
use super::gate::{Awaited, Gate};
use super::lsn::Lsn;
use super::position::{self, Identity, place};
use super::slot::{self, Facts};
use super::stream::{Piece, Stream};
use super::{Database, locked, publication};

/// Changes in a batch, about.
const BATCH: usize = 5_000;
/// Batches that wait to be taken. With a full one more that waits for its place, the stream waits, and the server keeps
/// its log.
const BATCHES: usize = 1;

/// How often the followed tables are looked at, and how soon after the stream described one of them anew.
const LOOK: Duration = Duration::from_secs(2);
const LOOK_SOON: Duration = Duration::from_millis(50);

/// How often a place that moved without changes is handed over.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long a slot that somebody uses is waited for: the server takes a moment to notice that a client is gone.
const SLOT_WAIT: Duration = Duration::from_secs(2);

/// How long a fresh publication is waited for to be written by nobody who does not know it.
const SETTLE: Duration = Duration::from_secs(1);

/// Sets up what is missing, verifies `from`, and starts.
pub(super) async fn follow(
    database: &Arc<Database>,
    watched: &[Watched],
    from: Option<&Position>,
) -> Result<PostgresFeed> {
    // Readers and stream shall know the tables as they are now.
    database.forget_schema();
    // What was handed over before, perhaps by another process, stays visible to readers.
    if let Some(at) = from.and_then(place) {
        let mut released = database.released();
        *released = (*released).max(Awaited::Everything(at).past());
    }
    let session = database.stream.connect().await?;
    session
        .execute("set statement_timeout = '60s'; set idle_session_timeout = 0; set lock_timeout = '5s'")
        .await?;
    let facts = slot::facts(&session, database).await?;
    facts.require()?;
    let sql = followed::sql(watched, &database.publication, facts.version);
    let begun = match from {
        Some(from) => resumed(database, watched, from, &session, &sql, facts).await?,
        None => fresh(database, watched, &session, &sql, facts).await?,
    };
    let Begun {
        identity,
        at,
        followed,
        touched,
    } = begun;
    let stream = Arc::new(Stream::start(database, watched, at).await?);
    let (to_caller, batches) = mpsc::channel(BATCHES);
    let mut work = Work {
        gate: Gate::new(database, identity.clone()),
        database: database.clone(),
        watched: watched.to_vec(),
        identity: identity.clone(),
        session,
        sql,
        stream: stream.clone(),
        batches: to_caller,
        followed,
        at,
        handed: at,
        pending: Vec::new(),
        committed_ms: None,
        inside: false,
        described: HashSet::new(),
        looked: Instant::now(),
        look: Instant::now() + LOOK,
        handed_at: Instant::now(),
    };
    if from.is_none() {
        // The caller has to know where it began, also when nothing ever changes.
        work.hand_over().await?;
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run(touched));
    Ok(PostgresFeed {
        identity: identity.to_string(),
        batches,
        stream,
        _tasks: tasks,
    })
}

/// Where following begins.
struct Begun {
    identity: Identity,
    at: Lsn,
    followed: Followed,
    /// What may have changed unseen, and the place by which that is visible.
    touched: Touched,
}

/// Tables that are to be reported.
struct Touched {
    changes: Vec<Change>,
    at: Lsn,
}

async fn fresh(
    database: &Arc<Database>,
    watched: &[Watched],
    session: &Session,
    sql: &str,
    facts: Facts,
) -> Result<Begun> {
    let name = &database.slot;
    let catalog = followed::look(session, sql, watched.len()).await?;
    all_there(watched, &catalog)?;
    all_identified(watched, &catalog)?;
    let catalog = published(database, watched, session, sql, catalog).await?;
    if let Some(slot) = &facts.slot {
        facts.require_own(slot, name)?;
        unused(database, session, facts.clone()).await?;
        tracing::warn!(source = %database.name, slot = %name, "no position is known: the slot that exists is made anew");
        slot::remove(session, name)
            .await
            .map_err(|error| publication::without_right(error, database))?;
    }
    let at = slot::create(database, session)
        .await
        .context(|| format!("making the replication slot `{name}`"))?;
    // What was committed before the slot's place is in no batch: whoever reads from now on must see it. On a primary it
    // may be committed and not visible yet; a replica may be behind. Places of another timeline mean nothing any more.
    slot::settled(database, session).await?;
    *database.released() = Awaited::Everything(at).past();
    let facts = slot::facts(session, database).await?;
    let identity = facts.identity(name).ok_or_else(|| gone(database))?;
    let mut followed = Followed::default();
    followed.renew(watched, &catalog, Newcomers::Complete);
    Ok(Begun {
        identity,
        at,
        followed,
        touched: Touched {
            changes: Vec::new(),
            at,
        },
    })
}

async fn resumed(
    database: &Arc<Database>,
    watched: &[Watched],
    from: &Position,
    session: &Session,
    sql: &str,
    facts: Facts,
) -> Result<Begun> {
    let at = facts.judge(database, from)?;
    let facts = unused(database, session, facts).await?;
    // Whoever used it until now may have moved it.
    facts.judge(database, from)?;
    let identity = facts.identity(&database.slot).ok_or_else(|| gone(database))?;
    let catalog = followed::look(session, sql, watched.len()).await?;
    let mut catalog = published(database, watched, session, sql, catalog).await?;
    warn_of_missing(database, watched, &catalog);
    let mut followed = Followed::parse(position::parts(from).1);
    let mut difference = followed.renew(watched, &catalog, Newcomers::Missed);
    let began = Instant::now();
    while followed.is_unsettled() && began.elapsed() < SETTLE {
        tokio::time::sleep(Duration::from_millis(20)).await;
        catalog = followed::look(session, sql, watched.len()).await?;
        let more = followed.renew(watched, &catalog, Newcomers::Missed);
        difference.touched.extend(more.touched);
    }
    difference.touched.sort();
    difference.touched.dedup();
    for table in &difference.touched {
        tracing::warn!(source = %database.name, %table, "rows may have changed unseen: the table is scanned");
    }
    Ok(Begun {
        identity,
        at,
        followed,
        touched: Touched {
            changes: difference.touched.into_iter().map(Change::Table).collect(),
            at: catalog.at,
        },
    })
}

/// Waits a moment for a slot that somebody uses.
async fn unused(database: &Database, session: &Session, mut facts: Facts) -> Result<Facts> {
    let began = Instant::now();
    loop {
        let Some(pid) = facts.slot.as_ref().and_then(|slot| slot.active_pid.clone()) else {
            return Ok(facts);
        };
        if began.elapsed() > SLOT_WAIT {
            return Err(slot::active(&database.slot, &pid));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        facts = slot::facts(session, database).await?;
    }
}

/// Makes or completes the publication.
async fn published(
    database: &Database,
    watched: &[Watched],
    session: &Session,
    sql: &str,
    catalog: Catalog,
) -> Result<Catalog> {
    let Some(statement) = publication::missing(database, watched, &catalog)? else {
        return Ok(catalog);
    };
    publication::complete(session, &statement, database).await?;
    followed::look(session, sql, watched.len()).await
}

fn all_identified(watched: &[Watched], catalog: &Catalog) -> Result<()> {
    let tables = watched.iter().zip(&catalog.tables);
    for (watched, seen) in tables.filter_map(|(watched, seen)| Some((watched, seen.as_ref()?))) {
        publication::require_identity(watched, seen)?;
    }
    Ok(())
}

/// Nobody has begun to index yet: what the configuration names and the database lacks is most likely a mistake.
fn all_there(watched: &[Watched], catalog: &Catalog) -> Result<()> {
    for (watched, seen) in watched.iter().zip(&catalog.tables) {
        let table = &watched.table;
        let missing = match seen {
            None => Some(("no_such_table", format!("no such table: `{table}`"))),
            Some(seen) if seen.unlogged => Some((
                "unlogged",
                format!("table `{table}` (or a partition of it) is unlogged: its changes are in no log"),
            )),
            Some(seen) => seen
                .lacks(watched.key.iter().chain(&watched.columns))
                .map(|column| {
                    (
                        "no_such_column",
                        format!("no such column: `{column}` of table `{table}`"),
                    )
                }),
        };
        if let Some((code, message)) = missing {
            let remedy = match code {
                "unlogged" => format!("alter table {} set logged", followed::spelled(table)),
                _ => "create it, or correct the configuration (names have their schema, as public.t)".into(),
            };
            return Err(Error::fatal(code, message).with_remedy(remedy));
        }
    }
    Ok(())
}

/// Later on other collections go on: building those that need it fails by name.
fn warn_of_missing(database: &Database, watched: &[Watched], catalog: &Catalog) {
    let known = all_there(watched, catalog).and_then(|()| all_identified(watched, catalog));
    if let Err(error) = known {
        tracing::warn!(source = %database.name, code = error.code(), "a followed table changed: {error}");
    }
}

fn gone(database: &Database) -> Error {
    let message = format!("the publication `{}` is gone", database.publication);
    Error::fatal("publication_changed", message).with_remedy(slot::rescan(database))
}

/// Where the source is: every transaction that had committed before the call lies before.
pub(super) async fn head(database: &Arc<Database>) -> Result<Option<Position>> {
    let session = database.stream.connect().await?;
    let mut facts = slot::facts(&session, database).await?;
    if facts.in_recovery {
        facts.require()?;
    }
    let (Some(_), Some(identity)) = (&facts.slot, facts.identity(&database.slot)) else {
        return Ok(None);
    };
    // Commits may be asynchronous: what is written counts, and it becomes durable within a known time. What is
    // written later than that is no commit, and nobody makes it durable soon.
    let written = before_header(facts.written);
    let began = Instant::now();
    while facts.flushed < written && began.elapsed() < facts.flush_delay {
        tokio::time::sleep(Duration::from_millis(10)).await;
        facts = slot::facts(&session, database).await?;
    }
    let head = before_header(facts.flushed.min(written));
    let mut awaited = locked(&database.awaited);
    *awaited = (*awaited).max(head);
    Ok(Some(position::position(&identity, head, &Followed::default())))
}

/// A place right behind a page's header is that page's start: the record before ended there.
fn before_header(at: Lsn) -> Lsn {
    const PAGE: u64 = 8_192;
    const HEADERS: [u64; 2] = [24, 40];
    let inside = at.0 % PAGE;
    match HEADERS.contains(&inside) {
        true => Lsn(at.0 - inside),
        false => at,
    }
}

/// Whether a position has come as far as a head of the same stream.
pub(super) fn reached(position: &Position, head: &Position) -> bool {
    let places = place(position).zip(place(head));
    position.identity == head.identity && places.is_some_and(|(position, head)| position >= head)
}

/// The changes of one database. Dropping it ends its tasks and the stream.
pub(super) struct PostgresFeed {
    identity: String,
    batches: mpsc::Receiver<Result<ChangeBatch>>,
    stream: Arc<Stream>,
    /// Aborted when this is dropped.
    _tasks: JoinSet<()>,
}

#[async_trait]
impl ChangeFeed for PostgresFeed {
    async fn next(&mut self) -> Result<ChangeBatch> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(Error::transient(
                "feed_ended",
                "the feed ended with an error that was already reported",
            )),
        }
    }

    async fn acknowledge(&mut self, upto: &Position) -> Result<()> {
        let at = match place(upto) {
            Some(at) if upto.identity == self.identity => at,
            Some(_) | None => {
                return Err(Error::fatal(
                    "source_changed",
                    "the position acknowledged belongs to another source",
                )
                .with_remedy("follow this source anew"));
            }
        };
        self.stream.acknowledge(at);
        Ok(())
    }
}

/// Waits at the gate and makes batches.
struct Work {
    database: Arc<Database>,
    watched: Vec<Watched>,
    identity: Identity,
    gate: Gate,
    /// To the server of the stream.
    session: Session,
    /// The statement that looks at the followed tables.
    sql: String,
    stream: Arc<Stream>,
    batches: mpsc::Sender<Result<ChangeBatch>>,
    followed: Followed,
    /// Everything that committed before is pending or handed over.
    at: Lsn,
    /// The place of the last batch, and when it was handed over.
    handed: Lsn,
    handed_at: Instant,
    pending: Vec<Change>,
    committed_ms: Option<i64>,
    /// A transaction has begun and not ended.
    inside: bool,
    /// The relations that the stream has described.
    described: HashSet<u32>,
    /// When the tables were looked at, and when they are next.
    looked: Instant,
    look: Instant,
}

impl Work {
    async fn run(mut self, touched: Touched) {
        let batches = self.batches.clone();
        if let Err(error) = self.work(touched).await {
            // Nobody takes it when the feed is gone.
            let _ = batches.send(Err(error)).await;
        }
    }

    async fn work(&mut self, touched: Touched) -> Result<()> {
        self.report(touched).await?;
        let batches = self.batches.clone();
        loop {
            if self.pending.len() >= BATCH {
                self.hand_over().await?;
            }
            if Instant::now() >= self.look {
                self.look_at_tables().await?;
            }
            let piece = match self.stream.try_next() {
                Some(piece) => piece?,
                None => {
                    let due = !self.inside && (!self.pending.is_empty() || self.is_keep_alive_due());
                    // What is due waits for nothing but its place.
                    let wake = if due || self.inside {
                        self.look
                    } else {
                        self.wake()
                    };
                    tokio::select! {
                        biased;
                        place = batches.reserve(), if due => {
                            place.map_err(|_| ended())?.send(Ok(self.batch()));
                            continue;
                        }
                        piece = self.stream.next() => piece?,
                        () = tokio::time::sleep_until(wake) => continue,
                    }
                }
            };
            self.take(piece).await?;
        }
    }

    async fn take(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Begin {
                xid,
                commit,
                committed_ms,
            } => {
                let awaited = Awaited::Transaction { xid, commit };
                self.pass(awaited).await?;
                self.inside = true;
                self.committed_ms = Some(committed_ms);
            }
            Piece::Changes(changes) => self.pending.extend(changes),
            Piece::Commit { end } => {
                self.inside = false;
                self.at = self.at.max(end);
            }
            Piece::Idle(at) => self.at = self.at.max(at),
            Piece::Defined(oid) => {
                // The first description says what was looked at when following started.
                if !self.described.insert(oid) {
                    self.look = self.look.min(self.looked + LOOK_SOON).max(Instant::now());
                }
            }
        }
        // A busy neighbour sends transactions without changes, one upon the other.
        if !self.inside && self.pending.is_empty() && self.is_keep_alive_due() {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Waits until it is visible to readers; what is visible already is not kept meanwhile.
    async fn pass(&mut self, awaited: Awaited) -> Result<()> {
        if self.gate.shows(awaited).await? {
            return Ok(());
        }
        if !self.pending.is_empty() {
            self.hand_over().await?;
        }
        self.gate.wait(awaited, &self.session).await
    }

    fn is_keep_alive_due(&self) -> bool {
        if self.at <= self.handed {
            return false;
        }
        let awaited = *locked(&self.database.awaited);
        self.handed_at.elapsed() >= KEEP_ALIVE || (self.handed < awaited && self.at >= awaited)
    }

    fn wake(&self) -> Instant {
        match self.at > self.handed {
            true => self.look.min(self.handed_at + KEEP_ALIVE),
            false => self.look,
        }
    }

    async fn hand_over(&mut self) -> Result<()> {
        let batches = self.batches.clone();
        let place = batches.reserve().await.map_err(|_| ended())?;
        place.send(Ok(self.batch()));
        Ok(())
    }

    /// All that is pending, as a batch that is handed over now.
    fn batch(&mut self) -> ChangeBatch {
        (self.handed, self.handed_at) = (self.at, Instant::now());
        ChangeBatch {
            committed_ms: self.committed_ms.filter(|_| !self.pending.is_empty()),
            changes: std::mem::take(&mut self.pending),
            upto: position::position(&self.identity, self.at, &self.followed),
        }
    }

    async fn look_at_tables(&mut self) -> Result<()> {
        let catalog = followed::look(&self.session, &self.sql, self.watched.len()).await?;
        match &catalog.publication {
            Some(publication) if publication.oid == self.identity.publication => {}
            Some(_) | None => return Err(gone(&self.database)),
        }
        let catalog = published(&self.database, &self.watched, &self.session, &self.sql, catalog).await?;
        let mut followed = self.followed.clone();
        let difference = followed.renew(&self.watched, &catalog, Newcomers::Missed);
        self.looked = Instant::now();
        self.look = self.looked + LOOK;
        if !difference.any {
            return Ok(());
        }
        // Readers must see the tables as they are now before they read them anew; and what is handed over meanwhile
        // must not say yet that the difference was told.
        self.pass(Awaited::Everything(catalog.at)).await?;
        self.followed = followed;
        self.database.forget_schema();
        warn_of_missing(&self.database, &self.watched, &catalog);
        for table in &difference.touched {
            tracing::warn!(source = %self.database.name, %table, "rows may have changed unseen: the table is scanned");
        }
        let changes = difference.touched.into_iter().map(Change::Table).collect();
        self.report(Touched {
            changes,
            at: catalog.at,
        })
        .await
    }

    /// Hands tables over at once, when readers see them as they are now.
    async fn report(&mut self, touched: Touched) -> Result<()> {
        if touched.changes.is_empty() {
            return Ok(());
        }
        self.pass(Awaited::Everything(touched.at)).await?;
        self.pending.extend(touched.changes);
        self.hand_over().await
    }
}

fn ended() -> Error {
    Error::transient("stream_ended", "the stream of changes ended")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(identity: &str, at: &str) -> Position {
        Position {
            identity: identity.into(),
            at: at.into(),
        }
    }

    #[test]
    fn a_head_is_reached_by_the_place_alone() {
        for (position, head, expected) in [
            (at("a", "0/10"), at("a", "0/10"), true),
            (at("a", "1/0 1.2.3"), at("a", "0/FFFFFFFF"), true),
            (at("a", "0/9 1.2.3"), at("a", "0/10 4.5"), false),
            (at("b", "1/0"), at("a", "0/1"), false),
            (at("a", "nothing"), at("a", "0/1"), false),
        ] {
            assert_eq!(reached(&position, &head), expected, "{position} {head}");
        }
    }

    #[test]
    fn a_place_behind_a_header_is_the_pages_start() {
        for (written, meant) in [
            (8_192 + 24, 8_192),
            (16_777_216 + 40, 16_777_216),
            (8_192 + 32, 8_224),
            (8_192, 8_192),
        ] {
            assert_eq!(before_header(Lsn(written)), Lsn(meant));
        }
    }
}
