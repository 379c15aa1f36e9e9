//! Tickets: drawn from memory, reserved in the file ahead of time.
//!
//! The file holds, for each set, a number up to which tickets may have been drawn. Drawing writes only when that is
//! reached; after a restart the next ticket is above all that were reserved.

use std::collections::HashMap;

use instep_core::{SetName, Ticket};
use rusqlite::{Connection, params};

use super::Clock;
use super::failure::Done;
use super::number::{from_db, to_db};

/// How far ahead of the clock tickets are reserved.
const AHEAD_MS: u64 = 10_000;

/// Tickets reserved at once when the clock stands behind the last one.
const BLOCK: u64 = 1 << 20;

/// The tickets of all sets that were asked for since the file was opened.
#[derive(Default)]
pub(super) struct Tickets {
    clock: Option<Clock>,
    drawn: HashMap<SetName, Drawn>,
}

struct Drawn {
    last: Ticket,
    /// `None` when it must be read from the file.
    reserved: Option<Ticket>,
}

impl Tickets {
    pub(super) fn new(clock: Clock) -> Tickets {
        Tickets {
            clock: Some(clock),
            drawn: HashMap::new(),
        }
    }

    /// After a rollback a reservation may not be in the file. What was drawn stays drawn.
    pub(super) fn forget_reserved(&mut self) {
        for drawn in self.drawn.values_mut() {
            drawn.reserved = None;
        }
    }

    /// The time, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.as_ref().map_or(0, |clock| clock())
    }

    /// The next ticket of a set that exists.
    pub(super) fn draw(&mut self, conn: &Connection, set: &SetName) -> Done<Ticket> {
        let now_ms = self.now_ms();
        let known = self.drawn.get(set).map(|drawn| (drawn.last, drawn.reserved));
        let (last, reserved) = match known {
            Some((last, Some(reserved))) => (last, reserved),
            Some((last, None)) => {
                let reserved = reserved_in(conn, set)?;
                (last.max(reserved), reserved)
            }
            None => {
                let reserved = reserved_in(conn, set)?;
                (reserved, reserved)
            }
        };
        let next = Ticket::after(last, now_ms);
        let reserved = if next > reserved {
            let ahead = now_ms.saturating_add(AHEAD_MS).saturating_mul(BLOCK);
            let upto = Ticket(ahead.max(next.0 + BLOCK));
            conn.prepare_cached("update index_set set last_ticket = ?1 where name = ?2")?
                .execute(params![to_db(upto.0), set.as_str()])?;
            upto
        } else {
            reserved
        };
        let drawn = Drawn {
            last: next,
            reserved: Some(reserved),
        };
        self.drawn.insert(set.clone(), drawn);
        Ok(next)
    }
}

fn reserved_in(conn: &Connection, set: &SetName) -> Done<Ticket> {
    let reserved = conn
        .prepare_cached("select last_ticket from index_set where name = ?1")?
        .query_row([set.as_str()], |row| row.get(0))?;
    Ok(Ticket(from_db(reserved)))
}
