//! The server itself: what it is, whether both ends lead to the same one, and the settings that matter.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instep_core::{Finding, Result};

use super::managed::Managed;
use super::{ask, error, json, number, ok, truth, unreadable, warning};
use crate::postgres::connect::{Endpoint, Session};

/// Clocks that differ by more are worth telling.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// A limit below this ends streams that only waited for a moment.
const SHORTEST_SENDER_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction that is open for longer is worth telling.
const LONG: i64 = 60;
/// The same, where its start is hidden from our role: so many transactions have begun since.
const MANY: i64 = 10_000;

/// What a server says of itself to our role.
pub(super) struct Server {
    pub(super) role: String,
    pub(super) database: String,
    pub(super) version: u32,
    pub(super) managed: Managed,
    oid: u32,
    in_recovery: bool,
    replay_paused: bool,
    system: String,
    encoding: String,
    /// How far its clock is from ours, ahead or behind.
    clock: Duration,
    settings: HashMap<String, String>,
}

impl Server {
    /// Asks a server.
    pub(super) async fn ask(session: &Session) -> Result<Server> {
        let roles = Managed::roles();
        let sql = format!(
            "select current_user, d.datname, current_setting('server_version_num'), d.oid, pg_is_in_recovery(), \
               case when pg_is_in_recovery() then pg_is_wal_replay_paused() end, \
               (select system_identifier from pg_control_system()), current_setting('server_encoding'), \
               extract(epoch from clock_timestamp())::numeric(20, 3), \
               (select json_agg(r.rolname) from pg_roles r where r.rolname in ({roles})), \
               (select json_object_agg(s.name, s.setting) from pg_settings s where s.name in ('wal_level', \
                 'max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', 'wal_sender_timeout', \
                 'synchronous_commit', 'synchronous_standby_names', 'hot_standby_feedback', 'idle_replication_slot_timeout', 'max_wal_size')) \
             from pg_database d where d.datname = current_database()"
        );
        let asked = unix_now();
        let lines = ask(session, &sql).await?;
        let ours = asked + (unix_now().saturating_sub(asked)) / 2;
        let line = lines.first().ok_or_else(unreadable)?;
        let theirs: f64 = number(line, 8)?;
        let theirs = Duration::try_from_secs_f64(theirs).map_err(|_| unreadable())?;
        let roles: Vec<String> = json(line, 9)?;
        Ok(Server {
            role: line.text(0)?.to_owned(),
            database: line.text(1)?.to_owned(),
            version: number(line, 2)?,
            managed: Managed::of(&roles),
            oid: number(line, 3)?,
            in_recovery: truth(line, 4)?,
            replay_paused: truth(line, 5)?,
            system: line.text(6)?.to_owned(),
            encoding: line.text(7)?.to_owned(),
            clock: ours.abs_diff(theirs),
            settings: json(line, 10)?,
        })
    }

    /// A setting, in the unit that the server keeps it in; empty when it has none of this name.
    pub(super) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// A setting that is a number.
    pub(super) fn limit(&self, name: &str) -> Option<i64> {
        self.setting(name).parse().ok()
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The version; one that cannot be followed is refused when connecting.
pub(super) fn version(server: &Server, endpoint: &Endpoint) -> Finding {
    let message = format!("Postgres {} can be followed", server.version / 10_000);
    ok("version", &endpoint.to_string(), message)
}

/// Whether rows are read from where changes come from.
pub(super) fn same(stream: &Server, read: &Server, from: &Endpoint, to: &Endpoint) -> Finding {
    let subject = from.to_string();
    let remedy = "let url and stream_url lead to the same database: stream_url to its primary, url to the primary, to a \
                  replica of it, or to a pooler before one of them";
    if stream.system != read.system {
        let message = format!(
            "rows are read from another cluster than changes come from ({to}): their system ids differ"
        );
        return error("other_cluster", &subject, message, remedy);
    }
    if stream.oid != read.oid {
        let message = format!(
            "rows are read from the database `{}`, changes come from `{}`",
            read.database, stream.database
        );
        return error("other_database", &subject, message, remedy);
    }
    let message = format!("rows are read from the database that changes come from ({to})");
    ok("same_database", &subject, message)
}

/// Whether the log holds what following needs.
pub(super) fn wal_level(server: &Server, endpoint: &Endpoint) -> Finding {
    let subject = endpoint.to_string();
    match server.setting("wal_level") {
        "logical" => ok("wal_level", &subject, "wal_level is logical"),
        other => error(
            "wal_level",
            &subject,
            format!("wal_level is {other}: the log does not hold what following needs"),
            server.managed.wal_level(),
        ),
    }
}

/// Settings of the server that changes come from.
pub(super) fn settings(server: &Server, endpoint: &Endpoint, findings: &mut Vec<Finding>) {
    let subject = endpoint.to_string();
    let timeout = server
        .limit("wal_sender_timeout")
        .and_then(|limit| u64::try_from(limit).ok());
    findings.push(match timeout.map(Duration::from_millis) {
        Some(Duration::ZERO) => warning(
            "wal_sender_timeout",
            &subject,
            "wal_sender_timeout is 0: after a network that failed unnoticed, the server keeps the slot in use for as long \
             as its system keeps the dead connection, and following again waits for that",
            server.managed.set("wal_sender_timeout", "60s"),
        ),
        Some(limit) if limit < SHORTEST_SENDER_TIMEOUT => warning(
            "wal_sender_timeout",
            &subject,
            format!(
                "wal_sender_timeout is {} ms: a pause of the network or of this machine that is longer ends the stream, \
                 which then starts anew",
                limit.as_millis()
            ),
            server.managed.set("wal_sender_timeout", "60s"),
        ),
        Some(limit) => ok(
            "wal_sender_timeout",
            &subject,
            format!("a dead stream is noticed by the server after {} s", limit.as_secs()),
        ),
        None => ok("wal_sender_timeout", &subject, "the server has no wal_sender_timeout"),
    });
    if server.setting("synchronous_commit") == "off" {
        findings.push(ok(
            "synchronous_commit",
            &subject,
            "synchronous_commit is off: rows are used only when their commits are on disk, which takes a moment longer",
        ));
    }
    let ours = endpoint.config().get_application_name().unwrap_or_default();
    if counts(server.setting("synchronous_standby_names"), ours) {
        findings.push(warning(
            "synchronous_standby_names",
            &subject,
            format!(
                "synchronous_standby_names holds `*` or `{ours}`, so the connection that follows changes is taken for a \
                 standby for a moment whenever it acknowledges: a commit may then be confirmed that no standby has, or \
                 wait until the standby speaks again"
            ),
            "name the standbys in synchronous_standby_names, each by its application_name",
        ));
    }
    if !matches!(server.encoding.as_str(), "UTF8" | "SQL_ASCII" | "LATIN1") {
        findings.push(warning(
            "encoding",
            &subject,
            format!(
                "the database's encoding is {}: a value with a character that UTF-8 does not have, or that is not valid in \
                 this encoding, ends the stream until the source is rescanned",
                server.encoding
            ),
            "dump the database and restore it into one with encoding UTF8, or make sure that no followed table has such values",
        ));
    }
    if server.encoding == "SQL_ASCII" {
        findings.push(warning(
            "encoding",
            &subject,
            "the database's encoding is SQL_ASCII, so it stores bytes of any meaning: values that are not UTF-8 cannot be \
             indexed, and become dead letters",
            "keep values in UTF-8, or dump the database and restore it into one with encoding UTF8",
        ));
    }
    findings.push(clock(server.clock, &subject));
}

/// Whether `synchronous_standby_names` counts a connection of this name.
fn counts(names: &str, ours: &str) -> bool {
    let mut parts = names.split(|c: char| matches!(c, ',' | '(' | ')' | '"') || c.is_whitespace());
    parts.any(|name| name == "*" || !ours.is_empty() && name.eq_ignore_ascii_case(ours))
}

fn clock(difference: Duration, subject: &str) -> Finding {
    match difference > CLOCK_DIFFERENCE {
        true => warning(
            "clock",
            subject,
            format!(
                "the server's clock differs from this machine's by {} s: ages and lags that are shown are wrong by that",
                difference.as_secs()
            ),
            "let both machines take their time from a time server",
        ),
        false => ok("clock", subject, "the server's clock agrees with this machine's"),
    }
}

/// What it means where rows are read from.
pub(super) fn reads(server: &Server, endpoint: &Endpoint, findings: &mut Vec<Finding>) {
    if !server.in_recovery {
        return;
    }
    let subject = endpoint.to_string();
    if server.replay_paused {
        findings.push(warning(
            "replica",
            &subject,
            "rows are read from a replica whose replay is paused: nothing that changes now is indexed until it goes on",
            "select pg_wal_replay_resume()",
        ));
        return;
    }
    let feedback = match server.setting("hot_standby_feedback") {
        "on" => "",
        _ => {
            "; hot_standby_feedback is off, so it may cancel a read that hinders replay, which is then repeated"
        }
    };
    let message = format!(
        "rows are read from a replica: a change is indexed when the replica has replayed it, so its lag adds to ours{feedback}"
    );
    findings.push(ok("replica", &subject, message));
}

/// Transactions that are open for long: making a slot waits for them, and a slot cannot forget the log since their start.
pub(super) async fn waits(
    session: &Session,
    has_slot: bool,
    endpoint: &Endpoint,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let sql = format!(
        "select o.what, o.seconds from ( \
           select 'process ' || a.pid || coalesce(' (' || a.state || ')', '') as what, \
             extract(epoch from clock_timestamp() - a.xact_start)::bigint as seconds, age(a.backend_xid) as younger \
           from pg_stat_activity a where a.backend_xid is not null and a.pid <> pg_backend_pid() \
           union all \
           select 'a prepared transaction of database ' || p.database, \
             extract(epoch from clock_timestamp() - p.prepared)::bigint, age(p.transaction) \
           from pg_prepared_xacts p) o \
         where o.seconds > {LONG} or o.seconds is null and o.younger > {MANY} \
         order by o.seconds desc nulls last, o.younger desc"
    );
    let subject = endpoint.to_string();
    let mut open = Vec::new();
    for line in ask(session, &sql).await? {
        let age = match line.get(1)? {
            Some(seconds) => format!("open for {seconds} s"),
            None => "since when is hidden from this role".to_owned(),
        };
        open.push(format!("{}, {age}", line.text(0)?));
    }
    let consequence = match has_slot {
        true => "the server keeps its log since their start for the slot",
        false => "making the slot waits until they have ended",
    };
    findings.push(match open.is_empty() {
        true => ok("open_transactions", &subject, "no transaction that has written is open for long"),
        false => warning(
            "open_transactions",
            &subject,
            format!("transactions that have written are open for long: {}; {consequence}", super::listed(&open)),
            "let them end; where one hangs: select pg_terminate_backend(<process>), or rollback prepared '<name>' (names \
             are in pg_prepared_xacts)",
        ),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use instep_core::Severity;

    #[test]
    fn clocks_that_differ_are_told() {
        for (milliseconds, severity) in [
            (0, Severity::Ok),
            (4_900, Severity::Ok),
            (5_100, Severity::Warning),
            (3_600_000, Severity::Warning),
        ] {
            let found = clock(Duration::from_millis(milliseconds), "db");
            assert_eq!(found.severity, severity, "{milliseconds} ms: {found:?}");
            let told = found.message.contains(&format!("by {} s", milliseconds / 1_000));
            let warned = severity == Severity::Warning;
            assert_eq!((told, found.remedy.is_some()), (warned, warned), "{found:?}");
        }
    }

    #[test]
    fn names_of_standbys_that_count_us() {
        for (names, expected) in [
            ("", false),
            ("*", true),
            ("first 1 (*)", true),
            ("ANY 2 (s1, \"Instep\")", true),
            ("s1,instep", true),
            ("FIRST 1 (instep2, s1)", false),
        ] {
            assert_eq!(counts(names, "instep"), expected, "{names}");
        }
    }
}
