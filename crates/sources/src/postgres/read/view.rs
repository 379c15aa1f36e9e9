//! One consistent view: a read transaction, and what must hold before the rows it returns may be used.
//!
//! **Only states that a crash cannot take back are used.** With `synchronous_commit = off` a transaction is visible
//! before its commit is on disk; after a crash of the server it is gone, and no change says so. Every commit that a view
//! sees lies before the end of the log at the time the view was opened, so rows are handed over when the log is flushed
//! up to there. That is not waited for where the view sees no transaction that an earlier view did not see, and never
//! longer than an asynchronous commit can take to reach the disk: three times `wal_writer_delay`, as Postgres promises.
//!
//! **A replica is asked only when it has replayed** what was handed over by the stream.
//!
//! **A table that was rewritten after the view was opened** (TRUNCATE, some of ALTER TABLE) looks empty in it, and a
//! column whose type was changed has values of another form. Both are found by a check that follows the rows in the same
//! round trip, and make the read fail as transient.

use std::sync::Arc;
use std::time::Duration;

use instep_core::{Error, Expression, Fault, Result, Rows, Value};
use tokio::time::Instant;

use super::super::connect::{Line, Session};
use super::super::lsn::Lsn;
use super::super::schema::{Kind, Table};
use super::super::{Database, Pooled, computed, literal, quoted, value};

/// How long a replica may take to replay what was handed over.
const REPLAY_PATIENCE: Duration = Duration::from_secs(30);

/// More than Postgres' own promise by this.
const FLUSH_MARGIN: Duration = Duration::from_millis(100);

/// As many backends are remembered.
const REMEMBERED: usize = 16;

/// What readers learnt about the server.
#[derive(Default)]
pub(in super::super) struct Reading {
    /// Whether it is a replica; `None` until it is asked.
    replica: Option<bool>,
    /// Whether its texts are bytes of no known meaning (encoding SQL_ASCII).
    pub(in super::super) any_bytes: bool,
    /// What is known to be on disk, as each backend saw it. A backend does not outlive a crash.
    durable: Vec<(String, Visible)>,
}

/// A transaction on a session from the pool; nothing is asked before the first read, which is where the view is taken.
pub(super) struct View {
    session: Option<Pooled>,
    at_least: Option<Lsn>,
    begun: Option<Begun>,
    stage: Stage,
    /// Whether the planner was told to use an index wherever one serves.
    by_index: bool,
}

/// What a session may be in the middle of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked.
    Fresh,
    /// Statements are under way; whoever waited for the answer may have gone.
    Asking,
    /// Answered, in a transaction that may have failed.
    Answered,
}

struct Begun {
    /// What is waited for; `None` when nothing is, or not any more.
    unflushed: Option<Unflushed>,
}

struct Unflushed {
    backend: String,
    visible: Visible,
    end: Lsn,
    since: Instant,
    longest: Duration,
}

/// How values are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    /// Hexadecimal digits of the text's bytes: for what is no UTF-8.
    Hex,
}

/// A statement that reads columns of one table.
pub(super) struct Read<'a> {
    pub(super) table: &'a Table,
    /// The returned columns, as places in the table.
    pub(super) columns: Vec<usize>,
    /// All that follows the select list's `from`.
    pub(super) from: String,
    /// Whether an index finds the rows. Without statistics a thousand keys look like the whole table, so the planner is
    /// told to use it; told so where none serves, it would walk through some other index, row by row.
    pub(super) by_index: bool,
    /// Whether the server may refuse values: those that rows are asked by, or those that it computes with.
    pub(super) doubtful: bool,
    /// Expressions are not computed: NULL stands in their place.
    pub(super) blank: bool,
}

/// The answer to one read, while it comes.
struct Answer<'a> {
    read: &'a Read<'a>,
    types: Vec<&'a value::Type>,
    rows: Rows,
    readable: bool,
    /// Until the check that follows the rows says otherwise.
    changed: bool,
}

impl<'a> Answer<'a> {
    fn of(read: &'a Read<'a>) -> Self {
        let types: Vec<&value::Type> = read.columns.iter().map(|at| &read.table.types[*at]).collect();
        Answer {
            rows: Rows::new(types.len()),
            read,
            types,
            readable: true,
            changed: true,
        }
    }

    fn row(&mut self, line: &Line, form: Form) -> Result<()> {
        self.readable &= push(line, &self.types, form, &mut self.rows)?;
        match self.rows.is_too_much() {
            true => Err(Rows::too_much()),
            false => Ok(()),
        }
    }

    fn checked(&mut self, line: &Line) -> Result<()> {
        self.changed = !check_holds(line, self.read)?;
        Ok(())
    }
}

impl View {
    /// A view not older than `at_least` and than all that was handed over.
    pub(super) async fn open(database: &Arc<Database>, at_least: Option<Lsn>) -> Result<View> {
        let session = database.session().await?;
        let known = super::super::locked(&database.reading).replica;
        if known != Some(false) {
            let wanted = Wanted {
                released: *database.released(),
                at_least: at_least.unwrap_or_default(),
            };
            let replica = replayed(&session, &wanted).await?;
            let encoding = session
                .query("select pg_catalog.current_setting('server_encoding')")
                .await?;
            let mut reading = super::super::locked(&database.reading);
            reading.replica = Some(replica);
            reading.any_bytes = encoding.first().map(|line| line.text(0)).transpose()? == Some("SQL_ASCII");
        }
        Ok(View {
            session: Some(session),
            at_least,
            begun: None,
            stage: Stage::Fresh,
            by_index: false,
        })
    }

    /// The rows of one statement. After an error the view is of no use any more, but for [`View::recover`] after the
    /// refusal of a value in a doubtful one.
    pub(super) async fn read(&mut self, read: &Read<'_>) -> Result<Rows> {
        let mut rows = self.read_all(std::slice::from_ref(read)).await?;
        rows.pop().ok_or_else(bad_answer)
    }

    /// The same for several, of which none is doubtful unless it is the only one: in one round trip.
    pub(super) async fn read_all(&mut self, reads: &[Read<'_>]) -> Result<Vec<Rows>> {
        let mut all = Vec::with_capacity(reads.len());
        for (read, rows) in reads.iter().zip(self.read_as(reads, Form::Text).await?) {
            all.push(match rows {
                Some(rows) => rows,
                None => {
                    let hex = self
                        .read_as(std::slice::from_ref(read), Form::Hex)
                        .await?
                        .pop()
                        .flatten();
                    hex.ok_or_else(|| Error::fatal("bad_answer", "hexadecimal digits are not valid UTF-8"))?
                }
            });
        }
        Ok(all)
    }

    /// `None` when a value is no UTF-8.
    async fn read_as(&mut self, reads: &[Read<'_>], form: Form) -> Result<Vec<Option<Rows>>> {
        let mut sql = String::with_capacity(reads.iter().map(|read| read.from.len() + 2_000).sum());
        let opening = self.begun.is_none();
        if opening {
            opening_sql(&mut sql);
        }
        for read in reads {
            if read.by_index != self.by_index {
                let whole = if read.by_index { "off" } else { "on" };
                sql.push_str(&format!("set local enable_seqscan = {whole};"));
                self.by_index = read.by_index;
            }
            if read.doubtful {
                sql.push_str("savepoint read;");
            }
            data_sql(read, form, &mut sql);
            check_sql(read, &mut sql);
        }
        let flushing = self.begun.as_ref().is_none_or(|begun| begun.unflushed.is_some());
        if flushing {
            sql.push_str(FLUSHED);
        }
        let first = usize::from(opening);
        let mut answers: Vec<Answer<'_>> = reads.iter().map(Answer::of).collect();
        let mut opened = None;
        let mut flushed = None;
        self.stage = Stage::Asking;
        let answer = self
            .session()?
            .each(&sql, |statement, line| {
                let Some(at) = statement.checked_sub(first) else {
                    opened = Some(Opened::of(&line)?);
                    return Ok(());
                };
                match answers.get_mut(at / 2) {
                    Some(answer) if at % 2 == 0 => answer.row(&line, form),
                    Some(answer) => answer.checked(&line),
                    None => {
                        flushed = lsn(&line, 0)?;
                        Ok(())
                    }
                }
            })
            .await;
        // What was too much is not read to its end: the session is given up.
        if !answer.as_ref().is_err_and(|error| error.code() == "too_much") {
            self.stage = Stage::Answered;
        }
        // The server may have opened the view before it refused the rest.
        if let Some(opened) = opened {
            self.opened(opened)?;
        }
        answer.inspect_err(|error| {
            if error.code() == "schema_changed" {
                self.forget_schema();
            }
        })?;
        if let Some(changed) = answers.iter().find(|answer| answer.changed) {
            self.forget_schema();
            return Err(Error::transient(
                "schema_changed",
                format!(
                    "table `{}` was changed while it was read",
                    changed.read.table.schema.name
                ),
            )
            .with_remedy("nothing needs to be done: it is read again"));
        }
        self.wait_until_flushed(flushed).await?;
        let rows = answers
            .into_iter()
            .map(|answer| answer.readable.then_some(answer.rows));
        Ok(rows.collect())
    }

    /// Back to before a statement whose values were refused.
    pub(super) async fn recover(&mut self) -> Result<()> {
        self.execute("rollback to savepoint read").await
    }

    async fn execute(&mut self, sql: &str) -> Result<()> {
        self.stage = Stage::Asking;
        let done = self.session()?.execute(sql).await;
        self.stage = Stage::Answered;
        done
    }

    /// Whether the server takes the values that `sql` selects.
    pub(super) async fn accepts(&mut self, sql: &str) -> Result<bool> {
        match self.execute(sql).await {
            Ok(()) => Ok(true),
            Err(error) if is_refused_value(&error) => {
                self.recover().await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn forget_schema(&self) {
        if let Some(pooled) = &self.session {
            pooled.database.forget_schema();
        }
    }

    fn session(&self) -> Result<&Session> {
        self.pooled().map(|pooled| &**pooled)
    }

    fn pooled(&self) -> Result<&Pooled> {
        self.session
            .as_ref()
            .ok_or_else(|| Error::transient("snapshot_lost", "the snapshot has ended"))
    }

    fn opened(&mut self, opened: Opened) -> Result<()> {
        let mut begun = Begun { unflushed: None };
        let database = &self.pooled()?.database;
        let mut reading = super::super::locked(&database.reading);
        match opened.end {
            None if reading.replica == Some(false) => {
                reading.replica = None;
                return Err(Error::transient(
                    "database_away",
                    "the database has become a replica",
                ));
            }
            None => {}
            Some(end) => {
                if self.at_least.is_some_and(|at_least| at_least > end) {
                    return Err(
                        Error::fatal("position_ahead", "the position is ahead of the database").with_remedy(
                            "the database was probably restored from a backup, or a failover lost changes: scan it again",
                        ),
                    );
                }
                reading.replica = Some(false);
                let durable = reading
                    .durable
                    .iter()
                    .find(|(backend, _)| *backend == opened.backend);
                if !durable.is_some_and(|(_, durable)| durable.covers(&opened.visible)) {
                    begun.unflushed = Some(Unflushed {
                        backend: opened.backend,
                        visible: opened.visible,
                        end,
                        since: Instant::now(),
                        longest: opened.writer_delay * 3 + FLUSH_MARGIN,
                    });
                }
            }
        }
        drop(reading);
        self.begun = Some(begun);
        Ok(())
    }

    /// Returns when all that the view sees is on disk. `flushed` is how far the log is.
    async fn wait_until_flushed(&mut self, mut flushed: Option<Lsn>) -> Result<()> {
        let Some(unflushed) = self.begun.as_mut().and_then(|begun| begun.unflushed.take()) else {
            return Ok(());
        };
        let mut pause = Duration::from_millis(1);
        // Without an answer the server is a replica by now: what it has, it has from a log that was flushed.
        while let Some(upto) = flushed
            && upto < unflushed.end
            && unflushed.since.elapsed() < unflushed.longest
        {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(5));
            self.stage = Stage::Asking;
            let answer = self.session()?.query(FLUSHED).await;
            self.stage = Stage::Answered;
            let answer = answer?;
            flushed = answer.first().map(|line| lsn(line, 0)).transpose()?.flatten();
        }
        let waited = unflushed.since.elapsed();
        if waited >= Duration::from_millis(1) {
            tracing::debug!(
                waited_ms = waited.as_millis(),
                flushed = flushed.is_none_or(|upto| upto >= unflushed.end),
                "waited until what is read is on disk"
            );
        }
        let database = &self.pooled()?.database;
        let mut reading = super::super::locked(&database.reading);
        reading
            .durable
            .retain(|(backend, _)| *backend != unflushed.backend);
        if reading.durable.len() >= REMEMBERED {
            reading.durable.remove(0);
        }
        reading.durable.push((unflushed.backend, unflushed.visible));
        Ok(())
    }
}

/// The transaction ends, and the session goes back to the pool.
impl Drop for View {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        match self.stage {
            Stage::Fresh => return session.give_back(),
            // Closed: the next to use it would be in this transaction.
            Stage::Asking => return,
            Stage::Answered => {}
        }
        // Without a runtime nobody could wait for the answer: the connection is closed, which ends it, too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if session.execute("rollback").await.is_ok() {
                    session.give_back();
                }
            });
        }
    }
}

/// Whether the server found a value in the statement that no column can hold.
pub(super) fn is_refused_value(error: &Error) -> bool {
    matches!(error.code(), "bad_value" | "bad_encoding")
}

/// What a replica must have replayed.
struct Wanted {
    /// Commit records that start here, and before.
    released: Lsn,
    /// All that ends here, and before.
    at_least: Lsn,
}

/// Waits until a replica has replayed so much. Whether it is one.
async fn replayed(session: &Session, wanted: &Wanted) -> Result<bool> {
    const REPLAYED: &str =
        "select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() end";
    let since = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let answer = session.query(REPLAYED).await?;
        let Some(replayed) = answer.first().map(|line| lsn(line, 0)).transpose()?.flatten() else {
            return Ok(false);
        };
        if replayed > wanted.released && replayed >= wanted.at_least {
            return Ok(true);
        }
        if since.elapsed() > REPLAY_PATIENCE {
            let behind = wanted.released.max(wanted.at_least).0.saturating_sub(replayed.0);
            return Err(Error::transient(
                "replica_lags",
                format!(
                    "the replica that is read lags {behind} bytes of log behind the stream, for {} seconds",
                    REPLAY_PATIENCE.as_secs()
                ),
            )
            .with_remedy(
                "look why it does not replay (pg_stat_replication, a long query on it), or read the primary",
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Begins, and asks what the view depends on. The view is taken when this statement starts, so the end of the log that
/// it returns lies behind every commit in the view. The settings hold from the next statement on.
fn opening_sql(sql: &mut String) {
    sql.push_str(
        "begin isolation level repeatable read read only;\
         select case when pg_catalog.pg_is_in_recovery() then null else pg_catalog.pg_current_wal_insert_lsn() end,\
         pg_catalog.current_setting('wal_block_size'),\
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),\
         (extract(epoch from pg_catalog.current_setting('wal_writer_delay')::interval) * 1000)::int8,\
         pg_catalog.pg_current_snapshot(),\
         (select pid || '@' || backend_start from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())),\
         pg_catalog.set_config('jit', 'off', true)",
    );
    // Shorter than `deadlock_timeout`, which is a second: in a deadlock with a migration that locks several tables it is
    // we who give way, before the server ends either.
    sql.push_str(",pg_catalog.set_config('lock_timeout', '500ms', true)");
    for (name, setting) in value::SETTINGS {
        let (name, setting) = (literal(name), literal(setting));
        sql.push_str(&format!(",pg_catalog.set_config({name}, {setting}, true)"));
    }
    // Bytes pass as they are where the server does not know what they mean.
    sql.push_str(
        ",case pg_catalog.current_setting('server_encoding') when 'SQL_ASCII' \
         then pg_catalog.set_config('client_encoding', 'SQL_ASCII', true) end;",
    );
}

/// How far the log is on disk; NULL on a replica.
const FLUSHED: &str = "select case when pg_catalog.pg_is_in_recovery() then null else pg_catalog.pg_current_wal_flush_lsn() end;";

/// What the opening statement returned.
struct Opened {
    /// The end of the log; `None` on a replica.
    end: Option<Lsn>,
    writer_delay: Duration,
    visible: Visible,
    backend: String,
}

impl Opened {
    fn of(line: &Line) -> Result<Opened> {
        let number = |at| line.text(at)?.parse::<u64>().map_err(|_| bad_answer());
        let (block, segment) = (number(1)?, number(2)?);
        Ok(Opened {
            end: lsn(line, 0)?.map(|end| without_header(end, block, segment)),
            writer_delay: Duration::from_millis(number(3)?),
            visible: Visible::parse(line.text(4)?).ok_or_else(bad_answer)?,
            backend: line.get(5)?.unwrap_or_default().to_owned(),
        })
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
struct Visible {
    /// Transactions from here on are not.
    end: u64,
    /// Nor are these, which run. Sorted.
    running: Vec<u64>,
}

impl Visible {
    fn parse(text: &str) -> Option<Visible> {
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

fn data_sql(read: &Read<'_>, form: Form, sql: &mut String) {
    sql.push_str("select ");
    for (at, column) in read.columns.iter().enumerate() {
        if at > 0 {
            sql.push(',');
        }
        let name = match read.blank && read.table.is_computed(*column) {
            true => "null".to_owned(),
            false => read.table.spelled(*column),
        };
        match form {
            Form::Text => sql.push_str(&name),
            Form::Hex => sql.push_str(&format!(
                "case when {name} is distinct from null then pg_catalog.encode(\
                 pg_catalog.textsend(pg_catalog.format('%s', {name})), 'hex') end"
            )),
        }
    }
    sql.push(' ');
    sql.push_str(&read.from);
    sql.push(';');
}

/// Asks whether the table is the one that is known, of which the view sees what there is: after the rows were read their
/// table is locked against change. `pg_class` answers as of the view, the functions as of now.
fn check_sql(read: &Read<'_>, sql: &mut String) {
    let Table { oid, kind, .. } = *read.table;
    let name = relation(read.table);
    sql.push_str("select pg_catalog.to_regclass(");
    sql.push_str(&literal(&name));
    sql.push_str(")::oid,");
    match kind {
        Kind::Plain => sql.push_str(&format!(
            "pg_catalog.pg_relation_filenode({oid}) is not distinct from \
             (select relfilenode from pg_catalog.pg_class where oid = {oid})"
        )),
        Kind::Partitioned => sql.push_str(&format!(
            "not exists (select from pg_catalog.pg_partition_tree({oid}) p \
             left join pg_catalog.pg_class c on c.oid = p.relid \
             where p.isleaf and pg_catalog.pg_relation_filenode(p.relid) is distinct from nullif(c.relfilenode, 0))"
        )),
    }
    for column in &read.columns {
        let column = &read.table.schema.columns[*column].name;
        match Expression::of_column(column) {
            Some(expression) => {
                sql.push(',');
                sql.push_str(&computed::type_sql(read.table, expression));
            }
            None => {
                let column = quoted(column);
                sql.push_str(&format!(",pg_catalog.pg_typeof((null::{name}).{column})::oid"));
            }
        }
    }
    sql.push(';');
}

fn check_holds(line: &Line, read: &Read<'_>) -> Result<bool> {
    let is = |at, oid: u32| Ok::<_, Error>(line.get(at)?.and_then(|text| text.parse().ok()) == Some(oid));
    if !is(0, read.table.oid)? || line.get(1)? != Some("t") {
        return Ok(false);
    }
    for (at, column) in read.columns.iter().enumerate() {
        if !is(at + 2, read.table.type_oids[*column])? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A table as SQL names it.
pub(in super::super) fn relation(table: &Table) -> String {
    format!("{}.{}", quoted(&table.namespace), quoted(&table.name))
}

/// Appends a row; false when a value of it is no UTF-8. A value that its type's rule refuses becomes the bytes of its
/// text, which no field takes: so only the documents that use it are dead letters.
fn push(line: &Line, types: &[&value::Type], form: Form, rows: &mut Rows) -> Result<bool> {
    if line.len() != types.len() {
        return Err(bad_answer());
    }
    let mut readable = true;
    for (at, kind) in types.iter().enumerate() {
        let text = match line.get(at) {
            Ok(text) => text,
            Err(_) => {
                readable = false;
                None
            }
        };
        let bytes = match (form, text) {
            (Form::Hex, Some(digits)) => Some(unhex(digits).ok_or_else(bad_answer)?),
            (Form::Hex, None) | (Form::Text, _) => None,
        };
        let text = match &bytes {
            None => text,
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(_) => {
                    rows.push(Value::Bytes(bytes.as_slice().into()));
                    continue;
                }
            },
        };
        rows.push(match kind.read(text) {
            Ok(value) => value,
            Err(error) if error.fault() == Fault::Poison => {
                Value::Bytes(text.unwrap_or_default().as_bytes().into())
            }
            Err(error) => return Err(error),
        });
    }
    Ok(readable)
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(pair).collect()
}

fn lsn(line: &Line, at: usize) -> Result<Option<Lsn>> {
    line.get(at)?
        .map(|text| text.parse().map_err(|()| bad_answer()))
        .transpose()
}

fn bad_answer() -> Error {
    Error::fatal(
        "bad_answer",
        "the database answered something else than was asked",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
