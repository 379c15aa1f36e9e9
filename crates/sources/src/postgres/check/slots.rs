//! Slots and walsenders that are left, our own slot, and how much log the server keeps for it.

use instep_core::{Error, Finding, Result};

use super::server::Server;
use super::{ask, bytes, error, number, of_error, ok, unreadable, warning};
use crate::postgres::connect::Session;
use crate::postgres::slot::{self, Facts};
use crate::postgres::{Database, literal};

/// A slot that keeps more than this is worth telling where nothing else limits it; less than this is a small limit.
const MUCH: u64 = 1 << 30;

/// What the server says of slots.
struct Kept {
    slots: i64,
    senders: i64,
    /// The log that our slot keeps; none without it.
    bytes: u64,
    /// What may be written until it is lost, where that is limited.
    left: Option<i64>,
    status: String,
}

pub(super) async fn check(
    database: &Database,
    session: &Session,
    server: &Server,
    facts: &Facts,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let sql = format!(
        "select (select count(*) from pg_replication_slots), (select count(*) from pg_stat_get_wal_senders()), \
           greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint, s.safe_wal_size, s.wal_status \
         from (select 1) one left join pg_replication_slots s on s.slot_name = {}",
        literal(&database.slot)
    );
    let lines = ask(session, &sql).await?;
    let line = lines.first().ok_or_else(unreadable)?;
    let whole = |at| -> Result<Option<i64>, Error> {
        line.get(at)?
            .map(|text| text.parse().map_err(|_| unreadable()))
            .transpose()
    };
    let kept = Kept {
        slots: number(line, 0)?,
        senders: number(line, 1)?,
        bytes: whole(2)?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        left: whole(3)?,
        status: line.get(4)?.unwrap_or_default().to_owned(),
    };
    let in_use = facts.slot.as_ref().is_some_and(|slot| slot.active_pid.is_some());
    let subject = database.stream.to_string();
    findings.push(room(
        server,
        &subject,
        Room::slots(kept.slots),
        facts.slot.is_some(),
    ));
    findings.push(room(server, &subject, Room::senders(kept.senders), in_use));
    findings.push(own(database, server, facts, &kept));
    retention(server, &subject, &kept, findings);
    Ok(())
}

/// Something of which the server has a limited number.
struct Room {
    setting: &'static str,
    what: &'static str,
    used: i64,
}

impl Room {
    fn slots(used: i64) -> Room {
        Room {
            setting: "max_replication_slots",
            what: "replication slots",
            used,
        }
    }

    fn senders(used: i64) -> Room {
        Room {
            setting: "max_wal_senders",
            what: "walsenders",
            used,
        }
    }
}

fn room(server: &Server, subject: &str, room: Room, have: bool) -> Finding {
    let Room { setting, what, used } = room;
    let limit = server.limit(setting).unwrap_or(0);
    if have || used < limit {
        return ok(setting, subject, format!("{used} of {limit} {what} are in use"));
    }
    let more = limit.max(used) + 2;
    error(
        setting,
        subject,
        format!("all {limit} {what} are in use, and following needs one"),
        server.managed.set_at_start(setting, &more.to_string()),
    )
}

/// Our own slot.
fn own(database: &Database, server: &Server, facts: &Facts, kept: &Kept) -> Finding {
    let name = &database.slot;
    let Some(found) = &facts.slot else {
        return ok(
            "slot",
            name,
            "the replication slot does not exist yet: it is made when following starts",
        );
    };
    if let Err(error) = facts.require_own(found, name) {
        return of_error(&error, name);
    }
    if let Some(reason) = &found.lost {
        let message = format!(
            "the replication slot lost changes ({reason}): they are not in the server's log any more"
        );
        return error("slot_lost", name, message, slot::rescan(database));
    }
    let used = match &found.active_pid {
        Some(pid) => format!("it is in use, by process {pid} of the server"),
        None => "nobody uses it now".to_owned(),
    };
    let amount = bytes(kept.bytes);
    let limit = keep_size(server);
    let too_much = match limit {
        Some(limit) => kept.bytes > limit / 2,
        None => kept.bytes > MUCH,
    };
    if kept.status == "unreserved" || too_much {
        let left = match (limit, kept.left) {
            (Some(limit), Some(left)) => format!(
                " of {} that max_slot_wal_keep_size allows; {} more and it is lost",
                bytes(limit),
                bytes(u64::try_from(left).unwrap_or(0))
            ),
            (Some(limit), None) => format!(" of {} that max_slot_wal_keep_size allows", bytes(limit)),
            (None, _) => String::new(),
        };
        let message = format!("the server keeps {amount} of its log for the slot{left}; {used}");
        let remedy = match found.active_pid {
            Some(_) => "look at what following waits for: instep status".to_owned(),
            None => format!(
                "start instep again; if it shall not come back: select pg_drop_replication_slot({})",
                literal(name)
            ),
        };
        return warning("slot", name, message, remedy);
    }
    ok(
        "slot",
        name,
        format!("the replication slot keeps {amount} of the server's log; {used}"),
    )
}

/// `max_slot_wal_keep_size` in bytes; `None` without a limit.
fn keep_size(server: &Server) -> Option<u64> {
    let megabytes = server.limit("max_slot_wal_keep_size")?;
    u64::try_from(megabytes).ok().map(|megabytes| megabytes << 20)
}

/// What happens to the server, and to the slot, while nobody follows.
fn retention(server: &Server, subject: &str, kept: &Kept, findings: &mut Vec<Finding>) {
    let code = "max_slot_wal_keep_size";
    let service = server
        .managed
        .slots()
        .map(|text| format!("; {text}"))
        .unwrap_or_default();
    findings.push(match keep_size(server) {
        None => warning(
            code,
            subject,
            format!(
                "{code} is -1: while instep is stopped the server keeps its whole log for the slot, without limit, and may \
                 fill its disk ({} are kept now){service}",
                bytes(kept.bytes)
            ),
            server.managed.set(code, "50GB") + " -- as much as its disk can spare",
        ),
        Some(limit) if limit < MUCH => warning(
            code,
            subject,
            format!(
                "{code} is {}: a pause of instep in which more than that is written loses the slot, and everything is \
                 scanned again{service}",
                bytes(limit)
            ),
            server.managed.set(code, "50GB") + " -- as much as its disk can spare",
        ),
        Some(limit) => ok(
            code,
            subject,
            format!("the server keeps at most {} of its log for the slot{service}", bytes(limit)),
        ),
    });
    let idle = server.limit("idle_replication_slot_timeout").unwrap_or(0);
    if idle > 0 {
        findings.push(warning(
            "idle_replication_slot_timeout",
            subject,
            "idle_replication_slot_timeout is set: a pause of instep that is longer loses the slot, and everything is \
             scanned again",
            server.managed.set("idle_replication_slot_timeout", "0"),
        ));
    }
}
