//! Where documents lie, in collections with several partitions. A language says: there, and in no other partition.

use instep_core::{DocKey, Language, Placed, SetName, Ticket};
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Done;
use super::number::to_db;

/// What is known of these documents, in their order.
pub(super) fn of(conn: &Connection, set: &SetName, keys: &[DocKey]) -> Done<Vec<Option<Language>>> {
    let mut known = conn.prepare_cached(
        "select language from placement where set_name = ?1 and collection = ?2 and doc = ?3",
    )?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let language: Option<Option<String>> = known
            .query_row([set.as_str(), key.collection.as_str(), key.id.as_str()], |row| {
                row.get(0)
            })
            .optional()?;
        found.push(language.flatten().map(Language::from));
    }
    Ok(found)
}

/// Forgets these. What is settled later under a lower ticket changes nothing.
pub(super) fn forget(conn: &Connection, set: &SetName, keys: &[DocKey], ticket: Ticket) -> Done<()> {
    let mut forget = conn.prepare_cached(
        "insert into placement (set_name, collection, doc, language, ticket) values (?1, ?2, ?3, null, ?4)
         on conflict do update set language = null, ticket = max(ticket, excluded.ticket)",
    )?;
    for key in keys {
        let (collection, doc) = (key.collection.as_str(), key.id.as_str());
        forget.execute(params![set.as_str(), collection, doc, to_db(ticket.0)])?;
    }
    Ok(())
}

/// Writes down what a settlement says.
pub(super) fn settle(conn: &Connection, set: &SetName, placed: &[Placed]) -> Done<()> {
    if placed.is_empty() {
        return Ok(());
    }
    let mut place = conn.prepare_cached(
        "insert into placement (set_name, collection, doc, language, ticket) values (?1, ?2, ?3, ?4, ?5)
         on conflict do update set language = excluded.language, ticket = excluded.ticket
             where excluded.ticket >= ticket",
    )?;
    let mut remove = conn.prepare_cached(
        "delete from placement where set_name = ?1 and collection = ?2 and doc = ?3 and ticket <= ?4",
    )?;
    for Placed {
        key,
        language,
        ticket,
    } in placed
    {
        let (collection, doc, ticket) = (key.collection.as_str(), key.id.as_str(), to_db(ticket.0));
        match language {
            Some(language) => {
                place.execute(params![set.as_str(), collection, doc, language.as_str(), ticket])?
            }
            None => remove.execute(params![set.as_str(), collection, doc, ticket])?,
        };
    }
    Ok(())
}

/// Forgets a collection of a set, or all of them.
pub(super) fn forget_all(conn: &Connection, set: &SetName, collection: Option<&str>) -> Done<()> {
    conn.prepare_cached("delete from placement where set_name = ?1 and (?2 is null or collection = ?2)")?
        .execute(params![set.as_str(), collection])?;
    Ok(())
}
