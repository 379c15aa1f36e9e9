//! One consistent view: a read transaction, and what must hold before the rows it returns may be used.
//!
//! **Only states that a crash cannot take back are used**: `durable.rs` says which those are.
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
use super::super::schema::{Kind, Schema, Table};
use super::super::{Database, Pooled, computed, literal, quoted, value};
use super::durable::{Durable, FLUSHED, Unflushed, Visible, WAIT, Wait};

/// How long a replica may take to replay what was handed over.
const REPLAY_PATIENCE: Duration = Duration::from_secs(30);

/// What readers learnt about the server.
#[derive(Default)]
pub(in super::super) struct Reading {
    /// Whether it is a replica; `None` until it is asked.
    replica: Option<bool>,
    /// Whether its texts are bytes of no known meaning (encoding SQL_ASCII).
    pub(in super::super) any_bytes: bool,
    pub(in super::super) durable: Durable,
}

/// A transaction on a session from the pool; nothing is asked before the first read, which is where the view is taken.
pub(super) struct View {
    session: Option<Pooled>,
    /// The tables as they were known before the view was taken.
    known: Option<Arc<Schema>>,
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
        let replica = super::super::locked(&database.reading).replica;
        if replica != Some(false) {
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
        // Several replicas may answer at one address, and the one that told of the tables may be ahead of this one.
        let is_primary = super::super::locked(&database.reading).replica == Some(false);
        let known = database.schema_slot().clone().filter(|_| is_primary);
        Ok(View {
            session: Some(session),
            known,
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
        }
        checks_sql(reads, self.known.as_deref(), &mut sql);
        let flushing = self.begun.as_ref().is_none_or(|begun| begun.unflushed.is_some());
        if flushing {
            sql.push_str(FLUSHED);
        }
        let first = usize::from(opening);
        let mut answers: Vec<Answer<'_>> = reads.iter().map(Answer::of).collect();
        let mut checked = 0;
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
                if let Some(answer) = answers.get_mut(at) {
                    return answer.row(&line, form);
                }
                if at > answers.len() {
                    flushed = lsn(&line, 0)?;
                    return Ok(());
                }
                let answer = answers.get_mut(checked).ok_or_else(bad_answer)?;
                checked += 1;
                answer.checked(&line)
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
        if answers.iter().any(|answer| answer.changed) && self.known.take().is_some() {
            self.check_again(&mut answers).await?;
        }
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

    /// A table may have been rewritten before the view was taken: what the view itself knows of its file decides.
    async fn check_again(&mut self, answers: &mut [Answer<'_>]) -> Result<()> {
        self.forget_schema();
        for answer in answers {
            let mut sql = String::new();
            checks_sql(std::slice::from_ref(answer.read), None, &mut sql);
            self.stage = Stage::Asking;
            let lines = self.session()?.query(&sql).await;
            self.stage = Stage::Answered;
            answer.checked(lines?.first().ok_or_else(bad_answer)?)?;
        }
        Ok(())
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
                begun.unflushed = Some(Unflushed {
                    backend: opened.backend,
                    visible: opened.visible,
                    end,
                    since: Instant::now(),
                });
            }
        }
        drop(reading);
        self.begun = Some(begun);
        Ok(())
    }

    /// Returns when all that the view sees is on disk. `flushed` is how far the log is; without an answer the server is a
    /// replica by now: what it has, it has from a log that was flushed.
    async fn wait_until_flushed(&mut self, flushed: Option<Lsn>) -> Result<()> {
        let Some(unflushed) = self.begun.as_mut().and_then(|begun| begun.unflushed.take()) else {
            return Ok(());
        };
        if flushed.is_some_and(|upto| upto < unflushed.end) {
            self.wait_for(&unflushed).await?;
        }
        let database = &self.pooled()?.database;
        super::super::locked(&database.reading).durable.add(unflushed);
        Ok(())
    }

    async fn wait_for(&mut self, unflushed: &Unflushed) -> Result<()> {
        let mut pause = Duration::from_millis(1);
        let flushed = loop {
            self.stage = Stage::Asking;
            let answer = self.session()?.query(&format!("{WAIT}; {FLUSHED}")).await;
            self.stage = Stage::Answered;
            let answer = answer?;
            let [wait, flushed] = answer.as_slice() else {
                return Err(bad_answer());
            };
            let (wait, flushed) = (Wait::of(wait)?, lsn(flushed, 0)?);
            let database = &self.pooled()?.database;
            if wait.is_over(
                unflushed,
                flushed,
                &super::super::locked(&database.reading).durable,
            ) {
                break flushed;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(5));
        };
        let waited = unflushed.since.elapsed();
        if waited >= Duration::from_millis(1) {
            tracing::debug!(
                waited_ms = waited.as_millis(),
                flushed = flushed.is_none_or(|upto| upto >= unflushed.end),
                "waited until what is read is on disk"
            );
        }
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
         pg_catalog.pg_current_snapshot(),\
         pg_catalog.pg_backend_pid(),\
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

/// What the opening statement returned.
struct Opened {
    /// The end of the log; `None` on a replica.
    end: Option<Lsn>,
    visible: Visible,
    backend: u32,
}

impl Opened {
    fn of(line: &Line) -> Result<Opened> {
        Ok(Opened {
            end: lsn(line, 0)?,
            visible: Visible::parse(line.text(1)?).ok_or_else(bad_answer)?,
            backend: line.text(2)?.parse().map_err(|_| bad_answer())?,
        })
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

/// Asks whether each table is the one that is known, of which the view sees what there is: after the rows were read their
/// tables are locked against change. A row for each read, and one statement for all: the server plans it anew each time.
///
/// The file of a table's rows is compared with the one of before the view was taken, or where that is not known, with the
/// one in `pg_class`, which answers as of the view; the functions answer as of now.
fn checks_sql(reads: &[Read<'_>], known: Option<&Schema>, sql: &mut String) {
    for (at, read) in reads.iter().enumerate() {
        sql.push_str(if at == 0 { "values (" } else { ",(" });
        let Table { oid, kind, .. } = *read.table;
        let name = relation(read.table);
        sql.push_str("pg_catalog.to_regclass(");
        sql.push_str(&literal(&name));
        sql.push_str(")::oid,");
        let file = known.and_then(|known| known.table_of(oid)).and_then(Table::file);
        match (kind, file) {
            (Kind::Plain, Some(file)) => {
                sql.push_str(&format!("pg_catalog.pg_relation_filenode({oid}) is not distinct from {file}"));
            }
            (Kind::Plain, None) => sql.push_str(&format!(
                "pg_catalog.pg_relation_filenode({oid}) is not distinct from \
                 (select relfilenode from pg_catalog.pg_class where oid = {oid})"
            )),
            (Kind::Partitioned, _) => sql.push_str(&format!(
                "not exists (select from pg_catalog.pg_partition_tree({oid}) p \
                 left join pg_catalog.pg_class c on c.oid = p.relid \
                 where p.isleaf and pg_catalog.pg_relation_filenode(p.relid) is distinct from nullif(c.relfilenode, 0))"
            )),
        }
        for (place, column) in read.columns.iter().enumerate() {
            sql.push_str(if place == 0 { ",array[" } else { "," });
            let column = &read.table.schema.columns[*column].name;
            match Expression::of_column(column) {
                Some(expression) => sql.push_str(&computed::type_sql(read.table, expression)),
                None => {
                    let column = quoted(column);
                    sql.push_str(&format!("pg_catalog.pg_typeof((null::{name}).{column})::oid"));
                }
            }
        }
        sql.push_str("])");
    }
    sql.push(';');
}

fn check_holds(line: &Line, read: &Read<'_>) -> Result<bool> {
    let types: Vec<String> = read
        .columns
        .iter()
        .map(|column| read.table.type_oids[*column].to_string())
        .collect();
    Ok(line.get(0)? == Some(read.table.oid.to_string().as_str())
        && line.get(1)? == Some("t")
        && line.get(2)? == Some(format!("{{{}}}", types.join(",")).as_str()))
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

pub(super) fn bad_answer() -> Error {
    Error::fatal(
        "bad_answer",
        "the database answered something else than was asked",
    )
}
