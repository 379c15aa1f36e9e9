//! Recorded reads: which rows each document was built from, so that a touched row finds its documents without its
//! former values.
//!
//! Two things make it complete. A touched row touches the documents that recorded it, in any set, in the append that
//! brings it. And since a document may be built from the row's former state at that moment, before it has recorded it,
//! the row stays in `touched_row` for a while under the counter of such appends: a settlement touches a document again
//! when one of its rows was touched after the counter its batch was drawn under, or may have been.
//!
//! What a set recorded goes with its collection or with the set: at once for look-ups, from the file little by little.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use instep_core::{CollectionName, DocKey, Reads, RowKey, SetName, TableName, Touch};
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::{Done, corrupt};
use super::number::{from_db, limit, to_db};
use super::row_key::Stored;
use super::sets;

/// Documents that the rows of one append touch at most; rows beyond that become scans too, so that no append keeps the
/// others waiting for long.
const REACHED: usize = 50_000;

/// Touched rows that are remembered at least.
const REMEMBERED: i64 = 200_000;

/// Rows that one call of [`forget_some`] removes, more or less, so that appends never wait long behind it.
const FORGET: i64 = 10_000;

/// What touched rows ask for.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) documents: BTreeSet<DocKey>,
    pub(super) scans: BTreeSet<CollectionName>,
}

/// Remembers the rows among these touches, and finds who recorded them.
pub(super) fn touched(conn: &Connection, touches: &[Touch]) -> Done<Reached> {
    let mut reached = Reached::default();
    let rows: BTreeSet<&RowKey> = touches
        .iter()
        .filter_map(|touch| match touch {
            Touch::Row(row) => Some(row),
            Touch::Document(_) | Touch::FanOut(_) | Touch::Scan(_) => None,
        })
        .collect();
    if rows.is_empty() {
        return Ok(reached);
    }
    let at: i64 = conn
        .prepare_cached("update log_head set rows = rows + 1 returning rows")?
        .query_row([], |row| row.get(0))?;
    let mut tables = Tables::default();
    let places = places(conn)?;
    let mut remember = conn.prepare_cached(
        "insert into touched_row (tbl, key, at) values (?1, ?2, ?3) on conflict do update set at = excluded.at",
    )?;
    for row in rows {
        let (table, key) = (tables.id(conn, &row.table)?, Stored::of(&row.key));
        remember.execute(params![table, key, at])?;
        reach(conn, table, &key, &places, &mut reached)?;
    }
    Ok(reached)
}

/// Adds the documents that recorded a row, or, when they are too many, their collections.
fn reach(
    conn: &Connection,
    table: i64,
    key: &Stored,
    places: &HashMap<i64, CollectionName>,
    reached: &mut Reached,
) -> Done<()> {
    let mut readers = conn.prepare_cached(
        "select read_doc.place, read_doc.doc from read_row join read_doc on read_doc.id = read_row.doc
         where read_row.tbl = ?1 and read_row.key = ?2",
    )?;
    let mut rows = readers.query(params![table, key])?;
    let mut documents = BTreeSet::new();
    let mut collections = BTreeSet::new();
    let mut new = 0;
    while let Some(row) = rows.next()? {
        let Some(collection) = places.get(&row.get::<_, i64>(0)?) else {
            continue;
        };
        collections.insert(collection);
        if is_too_much(documents.len(), new, reached) {
            // From here on, only the collections count.
            if collections.len() == places.values().collect::<BTreeSet<_>>().len() {
                break;
            }
            continue;
        }
        let id = sets::doc_id(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
        let key = DocKey {
            collection: collection.clone(),
            id,
        };
        let known = reached.documents.contains(&key);
        new += usize::from(documents.insert(key) && !known);
    }
    if is_too_much(documents.len(), new, reached) {
        reached.scans.extend(collections.into_iter().cloned());
    } else {
        reached.documents.append(&mut documents);
    }
    Ok(())
}

fn is_too_much(readers: usize, new: usize, reached: &Reached) -> bool {
    readers > Touch::MOST_READERS || reached.documents.len() + new > REACHED
}

/// How many appends had touched rows.
pub(super) fn counter(conn: &Connection) -> Done<u64> {
    let rows = conn
        .prepare_cached("select rows from log_head")?
        .query_row([], |row| row.get(0))?;
    Ok(from_db(rows))
}

/// Replaces what these documents of a set recorded. Returns those that must be built again: a row of theirs was touched
/// after it may have been read, as far as is remembered.
pub(super) fn record(conn: &Connection, set: &SetName, reads: &[Reads]) -> Done<BTreeSet<DocKey>> {
    let mut again = BTreeSet::new();
    let (counter, forgotten): (i64, i64) = conn
        .prepare_cached("select rows, rows_forgotten from log_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // A document that was built twice: the later build is what the engine holds.
    let last: BTreeMap<&DocKey, &Reads> = reads.iter().map(|reads| (&reads.key, reads)).collect();
    let mut tables = Tables::default();
    let mut places = HashMap::new();
    for (key, reads) in last {
        let rows = Rows::of(conn, &mut tables, &reads.rows)?;
        let known = match places.get(&key.collection) {
            Some(known) => *known,
            None => place(conn, set, &key.collection)?,
        };
        let place = match known {
            Some(place) => place,
            None if rows.0.is_empty() => continue,
            None => new_place(conn, set, &key.collection)?,
        };
        places.insert(&key.collection, Some(place));
        replace(conn, place, key, &rows)?;
        let since = to_db(reads.since);
        if since < counter && !rows.0.is_empty() && (since < forgotten || rows.touched_after(conn, since)?) {
            again.insert(key.clone());
        }
    }
    Ok(again)
}

fn replace(conn: &Connection, place: i64, key: &DocKey, rows: &Rows) -> Done<()> {
    let known: Option<(i64, String)> = conn
        .prepare_cached("select id, rows from read_doc where place = ?1 and doc = ?2")?
        .query_row(params![place, key.id.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (id, former) = match known {
        None if rows.0.is_empty() => return Ok(()),
        None => {
            conn.prepare_cached("insert into read_doc (place, doc, rows) values (?1, ?2, ?3)")?
                .execute(params![place, key.id.as_str(), rows.to_text()?])?;
            (conn.last_insert_rowid(), Rows::default())
        }
        Some((id, _)) if rows.0.is_empty() => return remove(conn, id).map(drop),
        Some((id, former)) => {
            let text = rows.to_text()?;
            if text == former {
                return Ok(());
            }
            conn.prepare_cached("update read_doc set rows = ?2 where id = ?1")?
                .execute(params![id, text])?;
            (id, Rows::from_text(&former)?)
        }
    };
    let mut gone = conn.prepare_cached("delete from read_row where tbl = ?1 and key = ?2 and doc = ?3")?;
    for (table, key) in former.not_in(rows) {
        gone.execute(params![table, key, id])?;
    }
    let mut new = conn.prepare_cached("insert into read_row (tbl, key, doc) values (?1, ?2, ?3)")?;
    for (table, key) in rows.not_in(&former) {
        new.execute(params![table, key, id])?;
    }
    Ok(())
}

/// Removes all that a document recorded. Returns how many rows.
fn remove(conn: &Connection, id: i64) -> Done<i64> {
    let rows: String = conn
        .prepare_cached("delete from read_doc where id = ?1 returning rows")?
        .query_row([id], |row| row.get(0))?;
    let rows = Rows::from_text(&rows)?;
    let mut gone = conn.prepare_cached("delete from read_row where tbl = ?1 and key = ?2 and doc = ?3")?;
    let mut removed = 0;
    for (table, key) in rows.iter() {
        gone.execute(params![table, key, id])?;
        removed += 1;
    }
    Ok(removed)
}

/// Rows by table, each once, in a fixed order, so that equal ones have equal texts.
#[derive(Default, PartialEq)]
struct Rows(BTreeMap<i64, BTreeSet<Stored>>);

impl Rows {
    fn of(conn: &Connection, tables: &mut Tables, rows: &[RowKey]) -> Done<Rows> {
        let mut by_table: BTreeMap<i64, BTreeSet<Stored>> = BTreeMap::new();
        for row in rows {
            let table = tables.id(conn, &row.table)?;
            by_table.entry(table).or_default().insert(Stored::of(&row.key));
        }
        Ok(Rows(by_table))
    }

    fn to_text(&self) -> Done<String> {
        let text = serde_json::to_string(&self.0);
        text.map_err(|_| corrupt("rows that a document read cannot be written as JSON").into())
    }

    fn from_text(text: &str) -> Done<Rows> {
        let rows = serde_json::from_str(text).map(Rows);
        rows.map_err(|_| corrupt("the rows that a document read, in the state file, cannot be read").into())
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &Stored)> {
        let tables = self.0.iter();
        tables.flat_map(|(table, keys)| keys.iter().map(|key| (*table, key)))
    }

    fn has(&self, table: i64, key: &Stored) -> bool {
        self.0.get(&table).is_some_and(|keys| keys.contains(key))
    }

    fn not_in<'a>(&'a self, other: &'a Rows) -> impl Iterator<Item = (i64, &'a Stored)> {
        self.iter().filter(|(table, key)| !other.has(*table, key))
    }

    fn touched_after(&self, conn: &Connection, since: i64) -> Done<bool> {
        let mut later =
            conn.prepare_cached("select 1 from touched_row where tbl = ?1 and key = ?2 and at > ?3")?;
        for (table, key) in self.iter() {
            if later.exists(params![table, key, since])? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The numbers of tables that were asked for.
#[derive(Default)]
struct Tables(HashMap<TableName, i64>);

impl Tables {
    fn id(&mut self, conn: &Connection, table: &TableName) -> Done<i64> {
        if let Some(id) = self.0.get(table) {
            return Ok(*id);
        }
        let known = conn
            .prepare_cached("select id from read_table where name = ?1")?
            .query_row([table.as_str()], |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                conn.prepare_cached("insert into read_table (name) values (?1)")?
                    .execute([table.as_str()])?;
                conn.last_insert_rowid()
            }
        };
        self.0.insert(table.clone(), id);
        Ok(id)
    }
}

/// The collections of all sets of which something is recorded, by their place.
fn places(conn: &Connection) -> Done<HashMap<i64, CollectionName>> {
    let mut alive = conn.prepare_cached("select id, collection from read_place where not gone")?;
    let places = alive.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?;
    Ok(places.collect::<rusqlite::Result<_>>()?)
}

fn place(conn: &Connection, set: &SetName, collection: &CollectionName) -> Done<Option<i64>> {
    let place = conn
        .prepare_cached("select id from read_place where set_name = ?1 and collection = ?2 and not gone")?
        .query_row([set.as_str(), collection.as_str()], |row| row.get(0))
        .optional()?;
    Ok(place)
}

fn new_place(conn: &Connection, set: &SetName, collection: &CollectionName) -> Done<i64> {
    conn.prepare_cached("insert into read_place (set_name, collection) values (?1, ?2)")?
        .execute([set.as_str(), collection.as_str()])?;
    Ok(conn.last_insert_rowid())
}

/// The documents that recorded a row, in any set.
pub(super) fn readers_of(conn: &Connection, row: &RowKey, n: usize) -> Done<Vec<DocKey>> {
    let mut readers = conn.prepare_cached(
        "select distinct read_place.collection, read_doc.doc
         from read_table join read_row on read_row.tbl = read_table.id
             join read_doc on read_doc.id = read_row.doc join read_place on read_place.id = read_doc.place
         where read_table.name = ?1 and read_row.key = ?2 and not read_place.gone order by 1, 2 limit ?3",
    )?;
    let mut rows = readers.query(params![row.table.as_str(), Stored::of(&row.key), limit(n)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(DocKey {
            collection: row.get::<_, String>(0)?.into(),
            id: sets::doc_id(&row.get::<_, String>(1)?)?,
        });
    }
    Ok(found)
}

/// What a document of a set recorded.
pub(super) fn of(conn: &Connection, set: &SetName, key: &DocKey) -> Done<Vec<RowKey>> {
    let Some(place) = place(conn, set, &key.collection)? else {
        return Ok(Vec::new());
    };
    let rows: Option<String> = conn
        .prepare_cached("select rows from read_doc where place = ?1 and doc = ?2")?
        .query_row(params![place, key.id.as_str()], |row| row.get(0))
        .optional()?;
    let Some(rows) = rows else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (table, stored) in Rows::from_text(&rows)?.iter() {
        let name: String = conn
            .prepare_cached("select name from read_table where id = ?1")?
            .query_row([table], |row| row.get(0))?;
        let key = stored
            .key()
            .ok_or_else(|| corrupt("a row's key in the state file cannot be read"))?;
        found.push(RowKey {
            table: name.into(),
            key,
        });
    }
    Ok(found)
}

/// What a set recorded is no longer looked up, except of these collections.
pub(super) fn keep_only(
    conn: &Connection,
    set: &SetName,
    wanted: impl Fn(&CollectionName) -> bool,
) -> Done<()> {
    let mut alive =
        conn.prepare_cached("select id, collection from read_place where set_name = ?1 and not gone")?;
    let places = alive.query_map([set.as_str()], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?.into()))
    })?;
    let places: Vec<(i64, CollectionName)> = places.collect::<rusqlite::Result<_>>()?;
    for (place, _) in places.iter().filter(|(_, collection)| !wanted(collection)) {
        conn.prepare_cached("update read_place set gone = 1 where id = ?1")?
            .execute([place])?;
    }
    Ok(())
}

/// Removes some of what is no longer looked up, and of the touched rows beyond those that are remembered. Returns whether
/// there may be more.
pub(super) fn forget_some(conn: &Connection) -> Done<bool> {
    let more_gone = sweep(conn)?;
    Ok(forget_touched(conn)? || more_gone)
}

fn forget_touched(conn: &Connection) -> Done<bool> {
    let known: i64 = conn
        .prepare_cached("select count(*) from touched_row")?
        .query_row([], |row| row.get(0))?;
    let excess = (known - REMEMBERED).min(FORGET);
    if excess <= 0 {
        return Ok(false);
    }
    // A build that was drawn before the newest of those that go may have read any of them.
    conn.prepare_cached(
        "update log_head set rows_forgotten = max(rows_forgotten,
             (select max(at) from (select at from touched_row order by at, tbl, key limit ?1)))",
    )?
    .execute([excess])?;
    conn.prepare_cached(
        "delete from touched_row where (tbl, key) in
             (select tbl, key from touched_row order by at, tbl, key limit ?1)",
    )?
    .execute([excess])?;
    Ok(excess == FORGET)
}

fn sweep(conn: &Connection) -> Done<bool> {
    let gone: Option<i64> = conn
        .prepare_cached("select id from read_place where gone limit 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(place) = gone else { return Ok(false) };
    let mut next = conn.prepare_cached("select id from read_doc where place = ?1 limit 1")?;
    let mut removed = 0;
    while removed < FORGET {
        let Some(id) = next.query_row([place], |row| row.get(0)).optional()? else {
            conn.prepare_cached("delete from read_place where id = ?1")?
                .execute([place])?;
            break;
        };
        removed += remove(conn, id)?;
    }
    Ok(true)
}
