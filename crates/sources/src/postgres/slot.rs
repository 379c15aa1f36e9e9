//! The slot: what the server says of it and of itself, whether a position can be followed through it, and making it.
//!
//! A slot that is not where our position left it is refused by name, never used: with any other one, changes between
//! the two places would be missing without an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use instep_core::{Error, Finding, Position, Result, Severity, Watched};

use super::connect::Session;
use super::lsn::Lsn;
use super::position::{self, Identity};
use super::{Database, followed, literal, publication};

/// How often it is looked at what a new slot waits for, and from when on that is worth telling.
const LOOK: Duration = Duration::from_millis(500);

/// A slot's name, when Postgres takes it.
pub(super) fn name(name: String) -> Result<String> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.len() <= 63 && name.chars().all(valid) {
        return Ok(name);
    }
    Err(Error::invalid(
        "bad_slot_name",
        format!("`{name}` cannot be the name of a replication slot"),
    )
    .with_remedy("use 1 to 63 lower-case letters, digits and underscores"))
}

/// The statements that make publication and slot, the publication first: a slot does not know publications that are
/// younger than itself.
pub(super) fn set_up_sql(database: &Database, watched: &[Watched]) -> Vec<String> {
    let mut statements = publication::create_sql(&database.publication, watched);
    statements.push(create_sql(&database.slot));
    statements
}

/// Those of [`set_up_sql`] that the database still needs.
pub(super) async fn missing_set_up_sql(database: &Database, watched: &[Watched]) -> Result<Vec<String>> {
    let session = database.stream.connect().await?;
    let facts = facts(&session, database).await?;
    facts.require()?;
    let sql = followed::sql(watched, &database.publication, facts.version);
    let catalog = followed::look(&session, &sql, watched.len()).await?;
    let mut statements = match publication::missing(database, watched, &catalog) {
        Ok(statement) => Vec::from_iter(statement),
        // Its remedy is the statement that we do not run by ourselves.
        Err(error) if error.code() == "publication_narrow" => {
            Vec::from_iter(error.remedy().map(str::to_owned))
        }
        Err(error) => return Err(error),
    };
    if !statements.is_empty() {
        statements.insert(0, publication::LOCK_TIMEOUT.into());
    }
    if facts.slot.is_none() {
        statements.push(create_sql(&database.slot));
    }
    Ok(statements)
}

fn create_sql(slot: &str) -> String {
    let slot = literal(slot);
    format!("select lsn from pg_catalog.pg_create_logical_replication_slot({slot}, 'pgoutput')")
}

/// What a server says of itself and of our slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version: u32,
    pub(super) wal_level: String,
    pub(super) in_recovery: bool,
    pub(super) system: u64,
    /// 0 on a replica, like the places below.
    pub(super) timeline: u32,
    pub(super) database: u32,
    database_name: String,
    /// The end of what is durable, and of what is written.
    pub(super) flushed: Lsn,
    pub(super) written: Lsn,
    pub(super) publication: Option<u32>,
    pub(super) slot: Option<Slot>,
    /// How long a commit may stay unflushed at most.
    pub(super) flush_delay: Duration,
}

/// Our slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) plugin: String,
    pub(super) database: String,
    pub(super) active_pid: Option<String>,
    /// Everything that was committed before was acknowledged.
    pub(super) confirmed: Lsn,
    /// It lost WAL that it needs, or was invalidated otherwise: why.
    pub(super) lost: Option<String>,
}

/// Asks a server.
pub(super) async fn facts(session: &Session, database: &Database) -> Result<Facts> {
    // Written so that replicas answer, too: they are refused by name.
    let sql = format!(
        "select pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('wal_level'), \
           pg_catalog.pg_is_in_recovery(), (select system_identifier from pg_catalog.pg_control_system()), \
           case when not pg_catalog.pg_is_in_recovery() then \
             pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) end, \
           d.oid, d.datname, \
           case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_wal_flush_lsn() end, \
           case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_wal_insert_lsn() end, \
           (select p.oid from pg_catalog.pg_publication p where p.pubname = {publication}), \
           coalesce(s.plugin, s.slot_type), s.database, s.active_pid, s.confirmed_flush_lsn, s.restart_lsn, s.wal_status, \
           pg_catalog.to_jsonb(s) ->> 'invalidation_reason', \
           (select setting from pg_catalog.pg_settings where name = 'wal_writer_delay') \
         from pg_catalog.pg_database d \
         left join pg_catalog.pg_replication_slots s on s.slot_name = {slot} \
         where d.datname = pg_catalog.current_database()",
        publication = literal(&database.publication),
        slot = literal(&database.slot),
    );
    let lines = session.query(&sql).await?;
    let line = lines.first().ok_or_else(unreadable)?;
    let lsn = |at| -> Result<Lsn> {
        match line.get(at)? {
            Some(text) => text.parse().map_err(|()| unreadable()),
            None => Ok(Lsn::default()),
        }
    };
    fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
        text.parse().map_err(|_| unreadable())
    }
    let slot = match line.get(10)? {
        None => None,
        Some(plugin) => Some(Slot {
            plugin: plugin.to_owned(),
            database: line.get(11)?.unwrap_or_default().to_owned(),
            active_pid: line.get(12)?.map(str::to_owned),
            confirmed: lsn(13)?,
            lost: match (line.get(16)?, line.get(14)?, line.get(15)?) {
                (Some(reason), _, _) => Some(reason.to_owned()),
                (None, None, _) | (None, _, Some("lost")) => Some("wal_removed".to_owned()),
                (None, Some(_), _) => None,
            },
        }),
    };
    let timeline = line
        .get(4)?
        .map(|text| u32::from_str_radix(text, 16).map_err(|_| unreadable()));
    Ok(Facts {
        version: number(line.text(0)?)?,
        wal_level: line.text(1)?.to_owned(),
        in_recovery: line.text(2)? == "t",
        system: number(line.text(3)?)?,
        timeline: timeline.transpose()?.unwrap_or_default(),
        database: number(line.text(5)?)?,
        database_name: line.text(6)?.to_owned(),
        flushed: lsn(7)?,
        written: lsn(8)?,
        publication: line.get(9)?.map(number).transpose()?,
        slot,
        flush_delay: Duration::from_millis(number::<u64>(line.text(17)?)?) * 3,
    })
}

fn unreadable() -> Error {
    Error::fatal("bad_answer", "the server says of itself what it never should")
}

impl Facts {
    /// What positions of this stream are bound to. `None` without a publication.
    pub(super) fn identity(&self, slot: &str) -> Option<Identity> {
        Some(Identity {
            system: self.system,
            timeline: self.timeline,
            database: self.database,
            publication: self.publication?,
            slot: slot.to_owned(),
        })
    }

    /// Refuses a server that cannot be followed.
    pub(super) fn require(&self) -> Result<()> {
        if self.in_recovery {
            return Err(Error::transient(
                "stream_is_replica",
                "the server that changes are to come from is a replica: only the primary has the slot",
            )
            .with_remedy(
                "let stream_url lead to the primary; while a failover is under way this is tried again",
            ));
        }
        if self.wal_level != "logical" {
            let message = format!(
                "wal_level is {}: the log does not hold what following needs",
                self.wal_level
            );
            return Err(Error::fatal("wal_level", message).with_remedy(
                "alter system set wal_level = logical, then restart the database; on a managed service set its \
                 parameter for logical replication",
            ));
        }
        Ok(())
    }

    /// Refuses a slot of this name that is not ours.
    pub(super) fn require_own(&self, slot: &Slot, name: &str) -> Result<()> {
        let whose = match (slot.plugin.as_str(), slot.database == self.database_name) {
            ("pgoutput", true) => return Ok(()),
            ("pgoutput", false) => format!("belongs to the database `{}`", slot.database),
            ("physical", _) => "is a physical one".to_owned(),
            (plugin, _) => format!("is by the plugin {plugin}"),
        };
        Err(
            Error::fatal("slot_taken", format!("the replication slot `{name}` {whose}"))
                .with_remedy("give this source a slot of its own: slot = \"…\""),
        )
    }

    /// Refuses a position that this slot cannot be followed from.
    pub(super) fn judge(&self, database: &Database, from: &Position) -> Result<Lsn> {
        let refused = |code, message: String| Err(Error::fatal(code, message).with_remedy(rescan(database)));
        let (Some(bound), Some(at)) = (Identity::parse(&from.identity), position::place(from)) else {
            return refused("source_changed", "the position belongs to another source".into());
        };
        let name = &database.slot;
        if bound.system != self.system {
            return refused(
                "source_changed",
                "the server is not the one that was followed: its system id differs".into(),
            );
        }
        if bound.database != self.database {
            return refused(
                "source_changed",
                "the database is not the one that was followed: it was made anew, or the url names another"
                    .into(),
            );
        }
        if bound.timeline != self.timeline {
            let message = format!(
                "the server went another way: it is on timeline {}, following ended on {}, as after a failover or a restored \
                 backup, and changes may be missing or taken back",
                self.timeline, bound.timeline
            );
            return refused("source_changed", message);
        }
        if bound.slot != *name {
            let message = format!(
                "the position belongs to the replication slot `{}`, not to `{name}`",
                bound.slot
            );
            return refused("slot_changed", message);
        }
        let Some(slot) = &self.slot else {
            let message =
                format!("the replication slot `{name}` is gone: what was changed since is not known");
            return refused("slot_missing", message);
        };
        self.require_own(slot, name)?;
        if let Some(reason) = &slot.lost {
            let message = format!(
                "the replication slot `{name}` lost changes ({reason}): the database removed WAL that was still needed, \
                 because more was kept than max_slot_wal_keep_size allows"
            );
            return Err(Error::fatal("slot_lost", message).with_remedy(format!(
                "raise max_slot_wal_keep_size, so that the log outlasts the longest pause; then {}",
                rescan(database)
            )));
        }
        let publication = &database.publication;
        if self.publication != Some(bound.publication) {
            let became = match self.publication {
                Some(_) => "was made anew",
                None => "is gone",
            };
            let message =
                format!("the publication `{publication}` {became}: changes may be missing from the stream");
            return refused("publication_changed", message);
        }
        if at > self.flushed {
            let message = format!(
                "the position {at} is ahead of the database, whose log ends at {}",
                self.flushed
            );
            return refused("position_ahead", message);
        }
        if slot.confirmed > at {
            let message = format!(
                "the replication slot `{name}` is at {}, past the position {at}: it was made anew or used by another, or \
                 our state is older than what was acknowledged",
                slot.confirmed
            );
            return refused("slot_recreated", message);
        }
        Ok(at)
    }
}

/// The way on when a position cannot be followed.
pub(super) fn rescan(database: &Database) -> String {
    format!(
        "run `instep rescan {}`: it follows from now on and scans the collections from both sides, so that what was \
         changed or deleted meanwhile is found",
        database.name
    )
}

/// A slot that somebody uses now.
pub(super) fn active(name: &str, pid: &str) -> Error {
    Error::transient("slot_active", format!("the replication slot `{name}` is in use by process {pid} of the server"))
        .with_remedy("stop the other instance that follows this source, or wait until the server notices that it is gone; this is tried again")
}

/// Drops a slot of ours that nobody uses.
pub(super) async fn remove(session: &Session, name: &str) -> Result<()> {
    let sql = format!("select pg_catalog.pg_drop_replication_slot({})", literal(name));
    session.execute(&sql).await
}

/// Makes the slot, which waits for every transaction that has written and still runs: what it waits for is told. Returns
/// the place after which every commit is delivered.
pub(super) async fn create(database: &Arc<Database>, watching: &Session) -> Result<Lsn> {
    let creating = database.stream.connect().await?;
    creating
        .execute("set statement_timeout = 0; set lock_timeout = 0; set idle_session_timeout = 0")
        .await?;
    // Without it a server keeps waiting for us when we are gone; not every platform has it.
    if let Err(error) = creating
        .execute("set client_connection_check_interval = '1s'")
        .await
    {
        tracing::debug!(source = %database.name, "the server does not notice clients that go away: {error}");
    }
    let pid = creating.query("select pg_catalog.pg_backend_pid()").await?;
    let pid = pid.first().ok_or_else(unreadable)?.text(0)?.to_owned();
    let sql = create_sql(&database.slot);
    let mut made = std::pin::pin!(creating.query(&sql));
    let told = Told(database);
    let lines = loop {
        tokio::select! {
            lines = &mut made => break lines,
            () = tokio::time::sleep(LOOK) => tell_what_blocks(database, watching, &pid).await?,
        }
    };
    drop(told);
    let lines = lines.map_err(|error| publication::without_right(error, database))?;
    let at = lines.first().ok_or_else(unreadable)?.text(0)?;
    at.parse().map_err(|()| unreadable())
}

/// Waits until every transaction of this database that runs now has ended. A transaction that waits for a synchronous
/// standby is committed in the log, perhaps before the new slot's place, and not visible yet: the slot does not deliver
/// it, and whoever reads the tables now does not see it.
pub(super) async fn settled(database: &Arc<Database>, session: &Session) -> Result<()> {
    // Not from a snapshot, which leaves out what is younger than the last that has ended.
    const RUNNING: &str = "select a.backend_xid::text from pg_catalog.pg_stat_activity a \
         where a.backend_xid is not null and a.datname = pg_catalog.current_database() \
         union select p.transaction::text from pg_catalog.pg_prepared_xacts p \
         where p.database = pg_catalog.current_database()";
    let mut open: Option<Vec<String>> = None;
    let began = Instant::now();
    let _told = Told(database);
    let mut tell = began + LOOK;
    loop {
        let mut running = Vec::new();
        for line in session.query(RUNNING).await? {
            let xid = line.text(0)?.to_owned();
            if open.as_ref().is_none_or(|open| open.contains(&xid)) {
                running.push(xid);
            }
        }
        let Some(xid) = running.first().cloned() else {
            return Ok(());
        };
        open = Some(running);
        if Instant::now() >= tell {
            tell = Instant::now() + LOOK;
            let seconds = began.elapsed().as_secs();
            *database.waiting() = Some(waits(
                database,
                format!(
                    "the replication slot is made, and waits until all that was committed before is visible: transaction \
                     {xid} has written and still runs after {seconds} s, or its commit waits for a synchronous standby"
                ),
            ));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn waits(database: &Database, message: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        code: "slot_waits".into(),
        subject: database.slot.clone(),
        message,
        remedy: Some(
            "let it end; where it hangs: select pg_terminate_backend(<process>), or rollback prepared".into(),
        ),
    }
}

/// Takes back what was told, however it ends.
struct Told<'a>(&'a Database);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        *self.0.waiting() = None;
    }
}

async fn tell_what_blocks(database: &Database, watching: &Session, pid: &str) -> Result<()> {
    let sql = format!(
        "select b.pid, coalesce(a.application_name, ''), \
           coalesce(', ' || extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))::bigint \
             || ' s old', ''), \
           a.state, p.gid is not null \
         from pg_catalog.unnest(pg_catalog.pg_blocking_pids({pid})) b (pid) \
         left join pg_catalog.pg_stat_activity a on a.pid = b.pid \
         left join lateral (select * from pg_catalog.pg_prepared_xacts order by prepared limit 1) p on b.pid = 0"
    );
    let mut blocking = Vec::new();
    for line in watching.query(&sql).await? {
        // How old another role's transaction is, not every role may see.
        let (pid, application, age) = (line.text(0)?, line.text(1)?, line.text(2)?);
        blocking.push(match line.text(4)? == "t" {
            true => format!("a prepared transaction{age}"),
            false => format!(
                "process {pid}{}{}{age}",
                if application.is_empty() { "" } else { " of " },
                application
            ),
        });
    }
    let message = match blocking.is_empty() {
        true => "the new replication slot waits for transactions that are older than itself".into(),
        false => format!(
            "the new replication slot waits for a transaction that has written and still runs: {}",
            blocking.join("; ")
        ),
    };
    *database.waiting() = Some(waits(database, message));
    Ok(())
}

#[cfg(test)]
#[path = "slot/tests.rs"]
mod tests;
