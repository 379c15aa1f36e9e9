//! Index sets: made known, owned, worked on, stopped.

use std::collections::BTreeMap;

use instep_core::{CollectionName, DocId, DocKey, Entry, Epoch, Error, Owned, Seq, SetName, SetState, Taken};
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::{Done, Failure, corrupt};
use super::number::{from_db, limit, to_db};
use super::thread::Desk;
use super::{placement, reads, scans};

/// What a set's owner needs to know of it.
pub(super) struct Known {
    pub(super) position: u64,
    pub(super) settled: i64,
}

/// Makes a set known, or brings its scans in line with the collections there are now.
pub(super) fn register(
    conn: &Connection,
    set: &SetName,
    collections: &[(CollectionName, String)],
) -> Done<()> {
    let known: Option<String> = conn
        .prepare_cached("select state from index_set where name = ?1")?
        .query_row([set.as_str()], |row| row.get(0))
        .optional()?;
    match known.as_deref() {
        None => {
            conn.execute(
                "insert into index_set
                     (name, state, position, touches_before, epoch, last_ticket,
                      folded, indexed, deleted, superseded, scanned, settled)
                 select ?1, 'following', seq, touches, 0, 0, 0, 0, 0, 0, 0, 0 from log_head",
                [set.as_str()],
            )?;
            for (collection, fingerprint) in collections {
                scans::start(conn, set, collection, fingerprint, false)?;
            }
            Ok(())
        }
        Some("retiring") => Err(retiring(set)),
        Some(_) => align(conn, set, collections),
    }
}

fn align(conn: &Connection, set: &SetName, collections: &[(CollectionName, String)]) -> Done<()> {
    let wanted: BTreeMap<&CollectionName, &String> =
        collections.iter().map(|(name, print)| (name, print)).collect();
    let mut known = BTreeMap::new();
    for scan in scans::of(conn, set)? {
        if !wanted.contains_key(&scan.collection) {
            remove_collection(conn, set, &scan.collection)?;
        }
        known.insert(scan.collection, scan.fingerprint);
    }
    // What an edited collection recorded stays until its documents are built again: until then it is what they hold.
    reads::keep_only(conn, set, |collection| wanted.contains_key(collection))?;
    for (collection, fingerprint) in wanted {
        if known.get(collection) != Some(fingerprint) {
            // Other languages may have partitions now.
            placement::forget_all(conn, set, Some(collection.as_str()))?;
            scans::start(conn, set, collection, fingerprint, true)?;
        }
    }
    Ok(())
}

/// A collection that is no longer defined has no documents: touches that stand behind its troubles count as deleted.
fn remove_collection(conn: &Connection, set: &SetName, collection: &CollectionName) -> Done<()> {
    let of = [set.as_str(), collection.as_str()];
    conn.execute(
        "update index_set set deleted = deleted
             + (select count(*) from trouble
                where set_name = ?1 and collection = ?2 and seq > 0 and seq <= index_set.position)
         where name = ?1",
        of,
    )?;
    conn.execute("delete from trouble where set_name = ?1 and collection = ?2", of)?;
    conn.execute("delete from scan where set_name = ?1 and collection = ?2", of)?;
    placement::forget_all(conn, set, Some(collection.as_str()))
}

/// A new epoch, which fences out the former owner.
pub(super) fn own(conn: &Connection, set: &SetName, owner: &str) -> Done<Owned> {
    let owned = conn
        .prepare_cached(
            "update index_set set owner = ?2, epoch = epoch + 1, settled = 0 where name = ?1
             returning epoch, position",
        )?
        .query_row(params![set.as_str(), owner], |row| {
            Ok(Owned {
                set: set.clone(),
                epoch: Epoch(from_db(row.get(0)?)),
                position: Seq(from_db(row.get(1)?)),
            })
        })
        .optional()?;
    owned.ok_or_else(|| unknown(set))
}

/// The set, when this is still its owner and there is work to do in it.
pub(super) fn still_owned(conn: &Connection, owned: &Owned) -> Done<Known> {
    let found = conn
        .prepare_cached("select epoch, state, position, settled from index_set where name = ?1")?
        .query_row([owned.set.as_str()], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })
        .optional()?;
    let (epoch, state, position, settled) = found.ok_or_else(|| unknown(&owned.set))?;
    if from_db(epoch) != owned.epoch.0 {
        let set = &owned.set;
        let lost = Error::new(
            instep_core::Fault::Conflict,
            "ownership_lost",
            format!("another owner took over the set `{set}`"),
        );
        return Err(lost.into());
    }
    if state == "retiring" {
        // Nothing is held back for it, so what it still has to do is no longer known.
        return Err(retiring(&owned.set));
    }
    Ok(Known {
        position: from_db(position),
        settled,
    })
}

/// A ticket, and the next entries.
pub(super) fn take(desk: &mut Desk, owned: &Owned, after: Seq, n: usize) -> Done<Taken> {
    still_owned(&desk.conn, owned)?;
    let ticket = desk.tickets.draw(&desk.conn, &owned.set)?;
    let mut next = desk
        .conn
        .prepare_cached("select seq, collection, doc from change_log where seq > ?1 order by seq limit ?2")?;
    let mut rows = next.query([to_db(after.0), limit(n)])?;
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        // Most entries of a batch are of one collection: they share its name.
        let collection = match entries.last() {
            Some(last) if last.key.collection.as_str() == name => last.key.collection.clone(),
            Some(_) | None => name.into(),
        };
        let id = doc_id(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?;
        entries.push(Entry {
            seq: Seq(from_db(row.get(0)?)),
            key: DocKey { collection, id },
        });
    }
    Ok(Taken {
        ticket,
        rows: reads::counter(&desk.conn)?,
        entries,
    })
}

/// Starts scans from the beginning.
pub(super) fn rescan(
    conn: &Connection,
    set: &SetName,
    collections: &[(CollectionName, String)],
    both: bool,
) -> Done<()> {
    must_exist(conn, set)?;
    for (collection, fingerprint) in collections {
        scans::start(conn, set, collection, fingerprint, both)?;
    }
    Ok(())
}

/// Changes a set's state. A retiring set stays retiring: entries that it has not passed may be forgotten.
pub(super) fn set_state(conn: &Connection, set: &SetName, state: &SetState) -> Done<()> {
    let (name, reason) = match state {
        SetState::Following => ("following", None),
        SetState::Paused => ("paused", None),
        SetState::Halted(reason) => ("halted", Some(reason)),
        SetState::Retiring => ("retiring", None),
    };
    let changed = conn
        .prepare_cached(
            "update index_set set state = ?2, reason = ?3
             where name = ?1 and (state <> 'retiring' or ?2 = 'retiring')",
        )?
        .execute(params![set.as_str(), name, reason])?;
    if changed == 0 {
        must_exist(conn, set)?;
        return Err(retiring(set));
    }
    if *state == SetState::Retiring {
        reads::keep_only(conn, set, |_| false)?;
        placement::forget_all(conn, set, None)?;
    }
    Ok(())
}

/// A state as it stands in the file.
pub(super) fn state_of(name: &str, reason: Option<String>) -> Done<SetState> {
    match name {
        "following" => Ok(SetState::Following),
        "paused" => Ok(SetState::Paused),
        "halted" => Ok(SetState::Halted(reason.unwrap_or_default())),
        "retiring" => Ok(SetState::Retiring),
        _ => Err(corrupt("a set in the state file has no known state").into()),
    }
}

/// A document's id as it stands in the file.
pub(super) fn doc_id(id: &str) -> Done<DocId> {
    DocId::parse(id).map_err(|_| corrupt("the state file names a document by an impossible id").into())
}

/// An error when the set does not exist.
pub(super) fn must_exist(conn: &Connection, set: &SetName) -> Done<()> {
    let exists = conn
        .prepare_cached("select 1 from index_set where name = ?1")?
        .exists([set.as_str()])?;
    if exists { Ok(()) } else { Err(unknown(set)) }
}

fn unknown(set: &SetName) -> Failure {
    Error::new(
        instep_core::Fault::NotFound,
        "unknown_set",
        format!("there is no set `{set}`"),
    )
    .into()
}

fn retiring(set: &SetName) -> Failure {
    Error::new(
        instep_core::Fault::Conflict,
        "set_retiring",
        format!("the set `{set}` is being removed, and the log holds nothing back for it"),
    )
    .with_remedy("make a new set under another name")
    .into()
}
