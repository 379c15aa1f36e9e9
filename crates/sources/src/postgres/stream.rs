//! The stream of a slot: what changed, transaction by transaction, in the order of commits.
//!
//! One task owns the connection. It reads and decodes ahead of whoever takes pieces, by a bounded amount, and tells the
//! server where we are whatever else happens: a slow log, a frozen taker or a catalog that is slow to read never make the
//! server believe that we are gone.
//!
//! Guarantees: each change of a watched table that the slot delivers is a piece, in order, between its transaction's
//! begin and commit; places never go back; nothing is acknowledged but what [`Stream::acknowledge`] was told. When a
//! transaction becomes visible to readers, and what a position is bound to, is left to others.

mod queue;
mod relation;

use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use instep_core::{Change, Error, Result, TableName, Watched};
use postgres_protocol::message::backend::{COPY_DATA_TAG, Message as Backend};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::error::SqlState;

use self::queue::Queue;
use self::relation::{Known, Made, Tables};
use super::lsn::Lsn;
use super::pgoutput::{self, Begin, Message};
use super::schema::Schema;
use super::slot::rescan;
use super::wire::{self, Said, Started, Wire};
use super::{Database, gate, literal};

/// Changes in one piece.
const PIECE_CHANGES: usize = 2_000;
/// About how many bytes of changes there are in one piece.
const PIECE_BYTES: usize = 1 << 20;
/// How long a place without changes, or what is safe, waits for a later one.
const COALESCED: Duration = Duration::from_millis(100);
/// How often the server hears from us at least, where it has no shorter patience.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the stream delivers.
#[derive(Debug)]
pub(super) enum Piece {
    /// A transaction begins that touches a watched table.
    Begin {
        /// Its id, 32 bits.
        xid: u32,
        /// Where its commit record starts.
        commit: Lsn,
        /// When it was committed, in milliseconds since 1970.
        committed_ms: i64,
    },
    /// Changes of the transaction begun, at most 2,000.
    Changes(Vec<Change>),
    /// The transaction ends.
    Commit {
        /// The end of its commit record: the position to acknowledge.
        end: Lsn,
    },
    /// Outside a transaction: everything that was committed before this place was delivered.
    Idle(Lsn),
    /// The server described this relation, which leads or led to a watched table: it may have changed. Always inside a
    /// transaction, and before the first of its changes that came after the description.
    Defined(u32),
}

/// A running stream. Dropping it ends the connection; the slot stays where it was acknowledged.
pub(super) struct Stream {
    queue: Arc<Queue>,
}

impl Stream {
    /// Starts to stream the slot from `from`, or from where the slot stands if that is further.
    pub(super) async fn start(database: &Arc<Database>, watched: &[Watched], from: Lsn) -> Result<Stream> {
        // What a table is called is known before its first change comes, which may come under another name.
        let tables = read_schema(database.clone(), None).await?;
        let mut wire = Wire::connect(&database.stream).await?;
        super::locked(&database.reading).durable = super::read::Durable::default();
        let stands = stands(&mut wire, database).await?;
        let patience = wire
            .query("select setting from pg_catalog.pg_settings where name = 'wal_sender_timeout'")
            .await?;
        let patience = patience
            .first()
            .and_then(|row| row.first()?.as_deref()?.parse().ok());
        let report_every = match patience.map(Duration::from_millis) {
            Some(patience) if !patience.is_zero() => REPORT_EVERY.min(patience / 3),
            Some(_) | None => REPORT_EVERY,
        };
        wire.start_replication(&database.slot, &database.publication, from)
            .await
            .map_err(|why| match why {
                Started::Refused(said) => not_started(&said, database),
                Started::Failed(error) => {
                    error.context(format!("starting to stream slot `{}`", database.slot))
                }
            })?;
        let queue = Arc::new(Queue::default());
        let mut reader = Reader {
            wire,
            database: database.clone(),
            queue: queue.clone(),
            watched: watched
                .iter()
                .map(|watched| (watched.table.clone(), watched.clone()))
                .collect(),
            known: HashMap::new(),
            tables: None,
            ours: HashMap::new(),
            transaction: None,
            room: true,
            idle: None,
            reached: from.max(stands),
            idle_told: Instant::now(),
            stands,
            report_every,
            reported: Instant::now(),
            asked: true,
            safer: false,
        };
        reader.know(tables);
        tokio::spawn(reader.run());
        Ok(Stream { queue })
    }

    /// The next piece. Cancel-safe. After an error there is nothing more.
    pub(super) async fn next(&self) -> Result<Piece> {
        self.queue.take().await
    }

    /// The next piece if it is there already.
    pub(super) fn try_next(&self) -> Option<Result<Piece>> {
        self.queue.try_take()
    }

    /// Everything up to here is durable elsewhere; the server is told soon. It never goes back.
    pub(super) fn acknowledge(&self, upto: Lsn) {
        self.queue.acknowledge(upto);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The reader takes leave of the server and ends by itself, in a second at most.
        self.queue.leave();
    }
}

/// Where the slot stands; refuses one that cannot be streamed. The codes of the errors that the server would give say
/// less, and their texts depend on its language.
async fn stands(wire: &mut Wire, database: &Database) -> Result<Lsn> {
    let sql = format!(
        "select confirmed_flush_lsn::text, wal_status from pg_catalog.pg_replication_slots where slot_name = {}",
        literal(&database.slot)
    );
    let rows = wire.query(&sql).await?;
    let Some([at, status]) = rows.first().map(Vec::as_slice) else {
        return Err(slot_missing(database));
    };
    if status.as_deref() == Some("lost") {
        return Err(slot_lost(database));
    }
    Ok(at.as_deref().and_then(|at| at.parse().ok()).unwrap_or_default())
}

fn slot_missing(database: &Database) -> Error {
    let message = format!(
        "replication slot `{}` does not exist: changes were missed since it was dropped",
        database.slot
    );
    Error::fatal("slot_missing", message).with_remedy(rescan(database))
}

fn slot_lost(database: &Database) -> Error {
    let message = format!(
        "the server gave up replication slot `{}`, because it kept more WAL than max_slot_wal_keep_size allows: changes \
         were missed",
        database.slot
    );
    Error::fatal("slot_lost", message)
        .with_remedy(format!("raise max_slot_wal_keep_size, then {}", rescan(database)))
}

fn not_started(said: &Said, database: &Database) -> Error {
    if said.code == SqlState::OBJECT_IN_USE {
        let message = format!("replication slot `{}` is in use: {}", database.slot, said.message);
        return Error::transient("slot_active", message).with_remedy(
            "stop the other instance that follows this slot, or name another slot; this is tried again",
        );
    }
    if said.code == SqlState::UNDEFINED_OBJECT {
        return slot_missing(database);
    }
    // Given up between our look and now.
    if said.code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
        && said.message.contains("can no longer get changes")
    {
        return slot_lost(database);
    }
    said.error()
        .context(format!("starting to stream slot `{}`", database.slot))
}

/// What the server ends a running stream with.
fn broken_off(said: &Said, database: &Database) -> Error {
    let streaming = || format!("streaming slot `{}`", database.slot);
    if said.code == SqlState::UNDEFINED_OBJECT
        && said.message.contains(&format!("\"{}\"", database.publication))
    {
        return publication_gap(database);
    }
    match said.error() {
        // No row of ours that could be left out: the server cannot put it into our encoding, and its log keeps the value,
        // whatever the table holds by now.
        poison if poison.fault() == instep_core::Fault::Poison => {
            Error::fatal("bad_encoding", poison.message().to_owned())
                .with_remedy(format!(
                    "correct the value that has no equal in UTF-8, then {}",
                    rescan(database)
                ))
                .context(streaming())
        }
        error => error.context(streaming()),
    }
}

fn publication_gap(database: &Database) -> Error {
    let message = format!(
        "publication `{}` did not exist when some of the changes that come next were made: which of them are ours \
         cannot be known",
        database.publication
    );
    Error::fatal("publication_gap", message).with_remedy(rescan(database))
}

/// The task that owns the connection.
struct Reader {
    wire: Wire,
    database: Arc<Database>,
    queue: Arc<Queue>,
    watched: Tables,
    /// The relations that were described since the stream started.
    known: HashMap<u32, Known>,
    tables: Option<Described>,
    /// What watched tables were called when their oids were last read: one that moved away since is touched by its
    /// changes all the same.
    ours: HashMap<u32, TableName>,
    transaction: Option<Transaction>,
    /// Whether the queue has room.
    room: bool,
    /// A place without changes that was not delivered yet.
    idle: Option<Lsn>,
    /// The last place that was delivered, or is about to be.
    reached: Lsn,
    idle_told: Instant,
    /// Where the slot stands.
    stands: Lsn,
    report_every: Duration,
    reported: Instant,
    /// The server wants to hear from us now.
    asked: bool,
    /// More is safe than the server knows.
    safer: bool,
}

/// The transaction that is coming in.
struct Transaction {
    begin: Begin,
    /// When it began to come in: it is committed, so what is read of the catalog later, once it is visible, knows it.
    received: Instant,
    /// Whether its begin was delivered.
    announced: bool,
    made: Made,
}

/// The tables as they were read.
struct Described {
    schema: Arc<Schema>,
    /// When reading them began.
    began: Instant,
    /// How far the server that was asked had replayed then, where it is a replica.
    replayed: Option<Lsn>,
}

impl Described {
    /// Whether they are as the transaction knew them, or younger.
    fn know(&self, transaction: &Transaction) -> bool {
        self.began >= transaction.received
            && self
                .replayed
                .is_none_or(|replayed| replayed > transaction.begin.commit)
    }
}

/// What must happen before more can be decoded.
enum Need {
    Bytes,
    Room,
    Schema,
}

type Reading = Pin<Box<dyn Future<Output = Result<Described>> + Send>>;

impl Reader {
    async fn run(mut self) {
        let queue = self.queue.clone();
        tokio::select! {
            () = queue.left() => self.wire.end().await,
            why = self.follow() => queue.end(why),
        }
    }

    /// Works until it cannot go on; why.
    async fn follow(&mut self) -> Error {
        let mut reading: Option<Reading> = None;
        let queue = self.queue.clone();
        loop {
            let need = match self.decode() {
                Ok(need) => need,
                Err(error) => return error,
            };
            queue.announce();
            if let Err(error) = self.keep_in_touch().await {
                return error;
            }
            if matches!(need, Need::Schema) && reading.is_none() {
                let begin = self.transaction.as_ref().map(|transaction| transaction.begin);
                reading = Some(read_schema(self.database.clone(), begin));
            }
            let due = self.due();
            let happened = tokio::select! {
                filled = self.wire.fill(), if matches!(need, Need::Bytes) => filled,
                () = queue.room(), if matches!(need, Need::Room) => {
                    self.room = true;
                    Ok(())
                }
                read = read_by(&mut reading) => {
                    reading = None;
                    read.map(|tables| self.know(tables))
                }
                () = queue.safer() => {
                    self.safer = true;
                    Ok(())
                }
                () = sleep_until(due) => Ok(()),
            };
            if let Err(error) = happened {
                return error;
            }
        }
    }

    fn know(&mut self, tables: Described) {
        for name in self.watched.keys() {
            let Some(table) = tables.schema.table(name.as_str()) else {
                continue;
            };
            self.ours.insert(table.oid, name.clone());
            let leaves = table.leaves.iter();
            self.ours.extend(leaves.map(|leaf| (leaf.oid, name.clone())));
        }
        self.tables = Some(tables);
    }

    /// When something must be done even if nothing comes.
    fn due(&self) -> Instant {
        let report = match self.safer {
            true => self.reported + COALESCED,
            false => self.reported + self.report_every,
        };
        let idle = self.idle.map(|_| self.idle_told + COALESCED);
        idle.map_or(report, |idle| idle.min(report))
    }

    /// Tells the server where we are, and the taker that nothing came, where it is time.
    async fn keep_in_touch(&mut self) -> Result<()> {
        let now = Instant::now();
        if let Some(place) = self.idle
            && now >= self.idle_told + COALESCED
        {
            self.idle = None;
            self.idle_told = now;
            self.queue.put(Piece::Idle(place), 0);
            self.queue.announce();
        }
        let since = now.duration_since(self.reported);
        if !(self.asked || since >= self.report_every || self.safer && since >= COALESCED) {
            return Ok(());
        }
        (self.asked, self.safer, self.reported) = (false, false, now);
        // A place before the slot's own would move it back, on some servers.
        let safe = Some(self.queue.safe_upto()).filter(|safe| *safe > self.stands);
        self.stands = safe.unwrap_or(self.stands);
        self.wire.report(safe, self.reached).await
    }

    /// Decodes what was received, as far as possible.
    fn decode(&mut self) -> Result<Need> {
        let mut received = std::mem::take(&mut self.wire.received);
        let need = loop {
            if !self.room {
                break Ok(Need::Room);
            }
            let (tag, length) = match wire::frame(&received) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(Need::Bytes),
                Err(error) => break Err(error),
            };
            if tag != COPY_DATA_TAG {
                match self.said(tag, received.split_to(length)) {
                    Ok(()) => continue,
                    Err(error) => break Err(error),
                }
            }
            match self.copied(&received[5..length]) {
                Ok(Went::On) => received.advance(length),
                Ok(Went::NeedsSchema) => break Ok(Need::Schema),
                Err(error) => break Err(error),
            }
        };
        self.wire.received = received;
        need
    }

    /// What comes beside the copied data.
    fn said(&mut self, tag: u8, mut frame: BytesMut) -> Result<()> {
        // The end of the copy, of a server that shuts down.
        if tag == b'c' || tag == b'C' {
            return Err(Error::transient("database_away", "the server ended the stream"));
        }
        match Backend::parse(&mut frame).map_err(pgoutput::malformed)? {
            Some(Backend::ErrorResponse(body)) => Err(broken_off(&Said::of(body.fields()), &self.database)),
            Some(Backend::NoticeResponse(body)) => {
                // Later servers pass over a publication that is missing, and with it over its tables' changes.
                let said = Said::of(body.fields());
                let publication = format!("\"{}\"", self.database.publication);
                match said.code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                    && said.message.contains(&publication)
                {
                    true => Err(publication_gap(&self.database)),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn copied(&mut self, data: &[u8]) -> Result<Went> {
        match data {
            // Where the message begins, how far the server's log goes, its clock.
            [b'w', rest @ ..] if rest.len() > 24 => self.logical(&rest[24..]),
            [b'k', rest @ ..] if rest.len() == 17 => {
                let (end, rest) = rest.split_first_chunk::<8>().expect("its length was compared");
                if rest.last() == Some(&1) {
                    self.asked = true;
                }
                if self.transaction.is_none() {
                    self.passed(Lsn(u64::from_be_bytes(*end)));
                }
                Ok(Went::On)
            }
            _ => Err(pgoutput::malformed(
                "a frame that is neither changes nor a keep-alive",
            )),
        }
    }

    /// Everything before this place was delivered, and nothing of ours is on the way.
    fn passed(&mut self, place: Lsn) {
        if place > self.reached {
            self.reached = place;
            self.idle = Some(place);
        }
    }

    fn logical(&mut self, message: &[u8]) -> Result<Went> {
        if let Some(relation) = pgoutput::row_of(message) {
            let transaction = begun(&mut self.transaction)?;
            let known = self.known.get(&relation);
            let known =
                known.ok_or_else(|| pgoutput::malformed("a row of a relation that was not described"))?;
            if matches!(known, Known::Unwatched) {
                return Ok(Went::On);
            }
            known.row(&pgoutput::decode(message)?, &mut transaction.made)?;
            self.hand_over(Fill::Piece);
            return Ok(Went::On);
        }
        match pgoutput::decode(message)? {
            Message::Begin(begin) => {
                if self.transaction.is_some() {
                    return Err(pgoutput::malformed("a transaction inside another"));
                }
                self.transaction = Some(Transaction {
                    begin,
                    received: Instant::now(),
                    announced: false,
                    made: Made::default(),
                });
            }
            Message::Commit(end) => {
                self.hand_over(Fill::All);
                match begun(&mut self.transaction)?.announced {
                    true => {
                        self.idle = None;
                        self.reached = self.reached.max(end);
                        self.put(Piece::Commit { end }, 0);
                    }
                    false => self.passed(end),
                }
                self.transaction = None;
            }
            Message::Relation(relation) => return self.described(&relation),
            Message::Truncate(relations) => {
                let transaction = begun(&mut self.transaction)?;
                for table in relations.iter().filter_map(|oid| self.known.get(oid)?.table()) {
                    transaction.made.table(table);
                }
            }
            Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } | Message::Nothing => {}
        }
        Ok(Went::On)
    }

    /// A relation is described when its first row comes, and again when anything about it may have changed, its place
    /// among partitions included. So the tables are read again, unless they were since this transaction came in.
    fn described(&mut self, relation: &pgoutput::Relation<'_>) -> Result<Went> {
        let transaction = begun(&mut self.transaction)?;
        let Some(tables) = self.tables.as_ref().filter(|tables| tables.know(transaction)) else {
            return Ok(Went::NeedsSchema);
        };
        let known = Known::of(relation, &tables.schema, &self.watched);
        let before = self.known.get(&relation.oid).and_then(Known::table).cloned();
        let before = before.or_else(|| self.ours.get(&relation.oid).cloned());
        if before.is_none() && known.table().is_none() {
            self.known.insert(relation.oid, known);
            return Ok(Went::On);
        }
        if let Some(before) = before
            && known.table() != Some(&before)
        {
            // It left this table: a partition that was detached took its rows along.
            transaction.made.table(&before);
            self.ours.remove(&relation.oid);
        }
        self.known.insert(relation.oid, known);
        self.hand_over(Fill::All);
        self.announce();
        self.put(Piece::Defined(relation.oid), 0);
        Ok(Went::On)
    }

    /// Delivers the changes that were made, if there are enough.
    fn hand_over(&mut self, fill: Fill) {
        let Some(transaction) = &mut self.transaction else {
            return;
        };
        let made = &mut transaction.made;
        let enough = match fill {
            // One change of a row is at most two of ours.
            Fill::Piece => made.changes.len() + 2 > PIECE_CHANGES || made.bytes > PIECE_BYTES,
            Fill::All => !made.changes.is_empty(),
        };
        if !enough {
            return;
        }
        let bytes = std::mem::take(&mut made.bytes);
        let changes = std::mem::take(&mut made.changes);
        self.announce();
        self.put(Piece::Changes(changes), bytes);
    }

    /// Delivers the transaction's begin, once.
    fn announce(&mut self) {
        let Some(transaction) = self
            .transaction
            .as_mut()
            .filter(|transaction| !transaction.announced)
        else {
            return;
        };
        transaction.announced = true;
        let Begin {
            xid,
            commit,
            committed_ms,
        } = transaction.begin;
        // Changes come, so a place before them is no news.
        self.idle = None;
        self.put(
            Piece::Begin {
                xid,
                commit,
                committed_ms,
            },
            0,
        );
    }

    fn put(&mut self, piece: Piece, bytes: usize) {
        self.room = self.queue.put(piece, bytes);
    }
}

/// When changes are delivered.
enum Fill {
    /// When a piece is full.
    Piece,
    All,
}

enum Went {
    On,
    /// Not without the tables as they are now; then the same again.
    NeedsSchema,
}

fn begun(transaction: &mut Option<Transaction>) -> Result<&mut Transaction> {
    transaction
        .as_mut()
        .ok_or_else(|| pgoutput::malformed("a change outside a transaction"))
}

/// Reads the tables, whoever else has read them before. They are read when the server shows what this transaction
/// committed: it is decoded before others see it, and its tables may be among what it changed.
fn read_schema(database: Arc<Database>, begin: Option<Begin>) -> Reading {
    Box::pin(async move {
        let read = async {
            let session = database.session().await?;
            let commit = begin.map_or(Lsn::default(), |begin| begin.commit);
            let replayed = gate::replayed(&database, &session, commit).await?;
            if let (None, Some(begin)) = (replayed, begin) {
                gate::visible(&session, begin.xid).await?;
            }
            let began = Instant::now();
            let computed = super::locked(&database.computed).clone();
            let schema = Arc::new(Schema::read(&session, &computed).await?);
            session.give_back();
            Ok(Described {
                schema,
                began,
                replayed,
            })
        };
        let tables = read
            .await
            .map_err(|error: Error| error.context("reading the tables that the stream describes"))?;
        *database.schema_slot() = Some(tables.schema.clone());
        Ok(tables)
    })
}

async fn read_by(reading: &mut Option<Reading>) -> Result<Described> {
    match reading {
        Some(reading) => reading.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
