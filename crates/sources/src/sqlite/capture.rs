//! Capturing changes: generated triggers, the change table they fill, and the meaning of its rows.
//!
//! ```sql
//! instep_meta(name primary key, value)              -- identity, version
//! instep_capture(id, tbl, definition)               -- what the values of a change mean: a table, its key, its columns
//! instep_change(seq autoincrement, capture, nonce, v1, v2, …)
//! ```
//! A row of `instep_change` is an image of a touched row: the key's columns, then the watched ones, each stored in the
//! storage class it had (the columns have no type), so nothing is converted, and the triggers need no function that an
//! application's older SQLite might lack. A row of capture [`WHOLE_TABLE`] names a table whose changes were missed;
//! one of capture [`MARK`] is only a position.
//!
//! An insert writes the new image, a delete the old one, an update the new one, and the old one too when key or
//! watched columns differ. Rows that `or replace` removes fire no delete trigger: BEFORE triggers write an image of
//! every row that collides on a unique constraint. The triggers write to `instep_change` alone, which has none, so
//! they never recurse; nothing in them can violate a constraint. Definitions are not edited but replaced: the rows
//! that were captured under the old one keep their meaning.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;

use instep_core::{ColumnKind, Error, Result, TableName, Watched};

use super::schema::{Schema, Table, Unique};
use super::{failed, quoted, quoted_list};

/// Raised when the tables change; a database of a newer version is refused.
const VERSION: i64 = 1;

/// The capture of a row that only marks a position.
pub(super) const MARK: i64 = 0;

/// The capture of a row that names, in `v1`, a table of which changes were missed.
pub(super) const WHOLE_TABLE: i64 = -1;

/// The codes of what [`require`] does not find.
pub(super) const TABLE_MISSING: &str = "table_missing";
pub(super) const COLUMN_MISSING: &str = "column_missing";

const INSTALLING: &str = "installing triggers";

/// What the values of a change mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) table: TableName,
    /// The first of [`Capture::columns`]: so many are the key.
    pub(super) key: usize,
    /// Names in the order of `v1`, `v2`, …
    pub(super) columns: Vec<String>,
    /// Their kinds as the table declares them now.
    pub(super) kinds: Vec<ColumnKind>,
}

/// What a look at the triggers found.
pub(super) enum State {
    /// All are as they should be.
    InPlace,
    /// Some are missing or differ.
    Damaged,
    /// A watched table or column is not there.
    Vanished(Error),
}

/// Looks at the triggers of all watched tables without writing.
pub(super) fn state(connection: &Connection, schema: &Schema, watched: &[Watched]) -> Result<State> {
    let tables = watched
        .iter()
        .map(|wanted| require(schema, wanted))
        .collect::<Result<Vec<_>>>();
    let tables = match tables {
        Ok(tables) => tables,
        Err(error) => return Ok(State::Vanished(error)),
    };
    if !exists(connection)? {
        return Ok(State::Damaged);
    }
    let installed = installed(connection)?;
    for (wanted, table) in watched.iter().zip(tables) {
        let in_place = fitting(connection, wanted, table)?
            .is_some_and(|(id, columns)| has(&installed, wanted, &triggers(id, &columns, table)));
        if !in_place {
            return Ok(State::Damaged);
        }
    }
    Ok(State::InPlace)
}

/// Whether our tables exist.
pub(super) fn exists(connection: &Connection) -> Result<bool> {
    connection
        .query_row(
            "select count(*) = 3 from sqlite_schema where type = 'table'
               and name in ('instep_meta', 'instep_capture', 'instep_change')",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed(error, "reading the change table"))
}

/// The identity of the database, made once, together with our tables. Inside a write transaction.
pub(super) fn create(connection: &Connection) -> Result<()> {
    connection
        .execute_batch(
            "create table if not exists instep_meta (name text primary key, value) without rowid;
             create table if not exists instep_capture (
                id integer primary key, tbl text not null, definition text not null);
             create table if not exists instep_change (
                seq integer primary key autoincrement, capture integer not null,
                nonce integer not null default (random()), v1, v2, v3, v4);
             insert or ignore into instep_meta values ('identity', lower(hex(randomblob(16))));",
        )
        .and_then(|()| {
            connection.execute(
                "insert or ignore into instep_meta values ('version', ?1)",
                [VERSION],
            )
        })
        .map_err(|error| failed(error, "creating the change table"))?;
    let version: i64 = connection
        .query_row(
            "select value from instep_meta where name = 'version'",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed(error, "reading the change table"))?;
    if version > VERSION {
        return Err(Error::fatal(
            "newer_change_table",
            format!("the change table has version {version}, this program knows {VERSION}"),
        )
        .with_remedy("use the newer version of instep that made it"));
    }
    Ok(())
}

/// The identity of the database; `None` before [`create`].
pub(super) fn identity(connection: &Connection) -> Result<Option<String>> {
    if !exists(connection)? {
        return Ok(None);
    }
    connection
        .query_row(
            "select value from instep_meta where name = 'identity'",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(|error| failed(error, "reading the change table"))
}

/// What to say of a table whose triggers had to be put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// Changes may be missing: the whole table is a change.
    Report,
    /// Nobody needs what went before.
    Ignore,
}

/// Puts the triggers of all watched tables in place. Inside a write transaction; writes nothing where all is well.
pub(super) fn install(
    connection: &Connection,
    watched: &[Watched],
    missed: Missed,
) -> Result<HashMap<i64, Capture>> {
    let schema = Schema::read(connection)?;
    let installed = installed(connection)?;
    for wanted in watched {
        let table = require(&schema, wanted)?;
        let (id, columns) = match fitting(connection, wanted, table)? {
            Some(found) => found,
            None => define(connection, wanted, table)?,
        };
        let triggers = triggers(id, &columns, table);
        if has(&installed, wanted, &triggers) {
            continue;
        }
        put(connection, &installed, wanted, &triggers, columns.len())
            .map_err(|error| failed(error, INSTALLING))?;
        if missed == Missed::Report {
            tracing::info!(table = %wanted.table, "triggers were missing or out of date: put back, the table is scanned");
            connection
                .execute(
                    "insert into instep_change (capture, v1) values (?1, ?2)",
                    params![WHOLE_TABLE, wanted.table.as_str()],
                )
                .map_err(|error| failed(error, INSTALLING))?;
        }
    }
    captures(connection, &schema, watched)
}

/// Removes our triggers from tables that are not watched. Inside a write transaction.
pub(super) fn remove_others(connection: &Connection, watched: &[Watched]) -> Result<()> {
    for (name, trigger) in installed(connection)? {
        if watched
            .iter()
            .all(|wanted| wanted.table.as_str() != trigger.table)
        {
            connection
                .execute_batch(&format!("drop trigger {}", quoted(&name)))
                .map_err(|error| failed(error, "removing triggers"))?;
        }
    }
    Ok(())
}

/// The table of what is watched, with all its columns.
pub(super) fn require<'a>(schema: &'a Schema, wanted: &Watched) -> Result<&'a Table> {
    let Some(table) = schema.details(wanted.table.as_str()) else {
        return Err(
            Error::fatal(TABLE_MISSING, format!("table `{}` does not exist", wanted.table))
                .with_remedy("create it again, or remove it from the configuration"),
        );
    };
    if wanted.key.is_empty() {
        table.schema.require_key()?;
    }
    for column in wanted.key.iter().chain(&wanted.columns) {
        if table.schema.column(column).is_none() {
            return Err(Error::fatal(
                COLUMN_MISSING,
                format!("table `{}` has no column `{column}`", wanted.table),
            )
            .with_remedy("add it again, or remove it from the configuration"));
        }
    }
    Ok(table)
}

struct Trigger {
    table: String,
    sql: String,
}

/// Our triggers as the database has them.
fn installed(connection: &Connection) -> Result<BTreeMap<String, Trigger>> {
    let read = || {
        let mut statement = connection.prepare(
            "select name, tbl_name, sql from sqlite_schema where type = 'trigger' and name glob 'instep_[0-9]*'",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get(0)?,
                Trigger {
                    table: row.get(1)?,
                    sql: row.get(2)?,
                },
            ))
        })?;
        rows.collect::<rusqlite::Result<_>>()
    };
    read().map_err(|error| failed(error, "reading the triggers"))
}

/// Whether exactly these triggers of ours are on the table.
fn has(installed: &BTreeMap<String, Trigger>, wanted: &Watched, triggers: &[(String, String)]) -> bool {
    let ours = installed
        .values()
        .filter(|trigger| trigger.table == wanted.table.as_str());
    ours.count() == triggers.len()
        && triggers.iter().all(|(name, sql)| {
            installed
                .get(name)
                .is_some_and(|trigger| trigger.sql == *sql && trigger.table == wanted.table.as_str())
        })
}

/// The newest definition that has what is wanted, with its columns, the key's first.
fn fitting(connection: &Connection, wanted: &Watched, table: &Table) -> Result<Option<(i64, Vec<String>)>> {
    let newest = newest(connection, &wanted.table)?;
    Ok(newest
        .filter(|(_, key, columns)| {
            *key == wanted.key.len()
                && columns[..*key] == wanted.key[..]
                && wanted.columns.iter().all(|column| columns.contains(column))
                && columns.iter().all(|column| table.schema.column(column).is_some())
        })
        .map(|(id, _, columns)| (id, columns)))
}

/// A new definition: what is wanted, and what the last one had, in case another instance needs it.
fn define(connection: &Connection, wanted: &Watched, table: &Table) -> Result<(i64, Vec<String>)> {
    let mut extra = wanted.columns.clone();
    if let Some((_, _, columns)) = newest(connection, &wanted.table)? {
        extra.extend(
            columns
                .into_iter()
                .filter(|column| table.schema.column(column).is_some()),
        );
    }
    extra.sort();
    extra.dedup();
    extra.retain(|column| !wanted.key.contains(column));
    let definition = json!({ "key": wanted.key, "columns": extra }).to_string();
    let columns: Vec<String> = wanted.key.iter().cloned().chain(extra).collect();
    let id = connection
        .query_row(
            "insert into instep_capture (tbl, definition) values (?1, ?2) returning id",
            params![wanted.table.as_str(), definition],
            |row| row.get(0),
        )
        .map_err(|error| failed(error, INSTALLING))?;
    Ok((id, columns))
}

/// The last definition of a table: its id, how many columns are the key, and the columns.
fn newest(connection: &Connection, table: &TableName) -> Result<Option<(i64, usize, Vec<String>)>> {
    let found = connection
        .query_row(
            "select id, definition from instep_capture where tbl = ?1 order by id desc limit 1",
            [table.as_str()],
            |row| Ok((row.get(0)?, row.get::<_, String>(1)?)),
        )
        .optional()
        .map_err(|error| failed(error, "reading the change table"))?;
    found
        .map(|(id, definition)| parse(&definition).map(|(key, columns)| (id, key, columns)))
        .transpose()
}

fn parse(definition: &str) -> Result<(usize, Vec<String>)> {
    let parsed = || -> Option<(usize, Vec<String>)> {
        let definition: serde_json::Value = serde_json::from_str(definition).ok()?;
        let names = |part: &str| -> Option<Vec<String>> {
            let names = definition.get(part)?.as_array()?.iter();
            names.map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let mut columns = names("key")?;
        let key = columns.len();
        columns.extend(names("columns")?);
        Some((key, columns))
    };
    parsed().ok_or_else(|| {
        Error::fatal("change_table_damaged", "a definition in instep_capture cannot be read")
            .with_remedy("drop the tables instep_change, instep_capture and instep_meta and the triggers instep_*; everything is scanned again")
    })
}

/// The meaning of every capture of a watched table, with the kinds that its table's columns have now.
pub(super) fn captures(
    connection: &Connection,
    schema: &Schema,
    watched: &[Watched],
) -> Result<HashMap<i64, Capture>> {
    let read = || {
        let mut statement = connection.prepare("select id, tbl, definition from instep_capture")?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
            ))
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = read().map_err(|error| failed(error, "reading the change table"))?;
    let mut captures = HashMap::new();
    for (id, table, definition) in rows {
        // Others may be captured for another instance, or were watched until a moment ago.
        if watched.iter().all(|wanted| wanted.table.as_str() != table) {
            continue;
        }
        let (key, columns) = parse(&definition)?;
        let described = schema.table(&table);
        let kind = |column: &String| {
            described
                .and_then(|table| table.column(column))
                .map(|column| column.kind)
        };
        captures.insert(
            id,
            Capture {
                table: table.into(),
                key,
                kinds: columns
                    .iter()
                    .map(|column| kind(column).unwrap_or(ColumnKind::Any))
                    .collect(),
                columns,
            },
        );
    }
    Ok(captures)
}

/// How many value columns the change table has.
pub(super) fn width(connection: &Connection) -> rusqlite::Result<usize> {
    let mut statement = connection
        .prepare("select name from pragma_table_info('instep_change') where name glob 'v[0-9]*'")?;
    Ok(statement.query_map([], |_| Ok(()))?.count())
}

/// Replaces whatever triggers of ours the table has by these.
fn put(
    connection: &Connection,
    installed: &BTreeMap<String, Trigger>,
    wanted: &Watched,
    triggers: &[(String, String)],
    columns: usize,
) -> rusqlite::Result<()> {
    for next in width(connection)? + 1..=columns {
        connection.execute_batch(&format!("alter table instep_change add column v{next}"))?;
    }
    for (name, trigger) in installed {
        // By name too: an application that renames a table takes its triggers along.
        let same_name = triggers.iter().any(|(wanted, _)| wanted == name);
        if trigger.table == wanted.table.as_str() || same_name {
            connection.execute_batch(&format!("drop trigger {}", quoted(name)))?;
        }
    }
    for (_, sql) in triggers {
        connection.execute_batch(sql)?;
    }
    Ok(())
}

/// The triggers of a capture, each with its name. SQLite keeps their text as it is written here, which is how a
/// trigger that differs is noticed.
fn triggers(id: i64, columns: &[String], table: &Table) -> Vec<(String, String)> {
    let on = quoted(table.schema.name.as_str());
    let values: Vec<String> = (1..=columns.len()).map(|at| format!("v{at}")).collect();
    let into = format!("INSERT INTO instep_change (capture, {})", values.join(", "));
    let image = |row: &str| {
        let columns: Vec<String> = columns
            .iter()
            .map(|column| format!("{row}.{}", quoted(column)))
            .collect();
        format!("{id}, {}", columns.join(", "))
    };
    let (new, old, other) = (image("NEW"), image("OLD"), image("x"));
    let moved: Vec<String> = columns.iter().map(|column| differs(column, table)).collect();
    let moved = moved.join(" OR ");
    let mut made = Vec::new();
    let mut make = |what: &str, event: &str, body: String| {
        let name = format!("instep_{id}_{what}");
        let sql = format!("CREATE TRIGGER {name} {event} ON {on} FOR EACH ROW BEGIN {body} END");
        made.push((name, sql));
    };
    make("insert", "AFTER INSERT", format!("{into} VALUES ({new});"));
    make("delete", "AFTER DELETE", format!("{into} VALUES ({old});"));
    make(
        "update",
        "AFTER UPDATE",
        format!("{into} SELECT {old} WHERE {moved}; {into} VALUES ({new});"),
    );
    // Only after this comes what `or replace` needs.
    let rowid = table.hidden_rowid.map(|name| Unique {
        columns: vec![(name.to_owned(), "BINARY".to_owned())],
        condition: None,
    });
    let mut replaced = String::new();
    for unique in table.unique.iter().chain(&rowid) {
        let found = format!("{into} SELECT {other} FROM {on} AS x WHERE {};", collides(unique));
        replaced.push_str(&found);
    }
    if !replaced.is_empty() {
        make("replace", "BEFORE INSERT", replaced);
    }
    let mut displaced = String::new();
    let mut touched: Vec<String> = Vec::new();
    for unique in &table.unique {
        let changed: Vec<String> = unique
            .columns
            .iter()
            .map(|(column, _)| format!("OLD.{0} IS NOT NEW.{0}", quoted(column)))
            .collect();
        // A partial index may also be entered by a change of its condition's columns.
        let guard = match &unique.condition {
            None => format!("({}) AND ", changed.join(" OR ")),
            Some(_) => String::new(),
        };
        let found = format!(
            "{into} SELECT {other} FROM {on} AS x WHERE {guard}{};",
            collides(unique)
        );
        displaced.push_str(&found);
        touched.extend(unique.columns.iter().map(|(column, _)| column.clone()));
    }
    if !displaced.is_empty() {
        touched.sort();
        touched.dedup();
        let partial = table.unique.iter().any(|unique| unique.condition.is_some());
        let event = match partial {
            false => format!("BEFORE UPDATE OF {}", quoted_list(&touched)),
            true => "BEFORE UPDATE".to_owned(),
        };
        make("displace", &event, displaced);
    }
    made
}

/// Whether an update changed a column, to the last bit: not by its collation, and in a column without a type `1`,
/// `1.0` and `'1'` are three values.
fn differs(column: &str, table: &Table) -> String {
    let name = quoted(column);
    let differs = format!("(OLD.{name} COLLATE BINARY) IS NOT NEW.{name}");
    match table.schema.column(column).map(|column| column.kind) {
        Some(ColumnKind::Any) => format!("{differs} OR typeof(OLD.{name}) <> typeof(NEW.{name})"),
        _ => differs,
    }
}

/// The condition under which row `x` collides with the new row, in the terms of the index that finds it.
fn collides(unique: &Unique) -> String {
    let mut terms: Vec<String> = unique
        .columns
        .iter()
        .map(|(column, collation)| format!("x.{0} = NEW.{0} COLLATE {1}", quoted(column), quoted(collation)))
        .collect();
    terms.extend(unique.condition.iter().map(|condition| format!("({condition})")));
    terms.join(" AND ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn looking_for_replaced_rows_uses_their_indexes() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "create table t (k text, code text collate nocase unique, a, b, main integer, primary key (k), unique (a, b));
                 create unique index one_main on t (a) where main = 1;
                 create table w (a integer, b integer, primary key (a, b)) without rowid;
                 create table r (id integer primary key, x);",
            )
            .unwrap();
        let schema = Schema::read(&connection).unwrap();
        for (name, constraints) in [("t", 4), ("w", 1), ("r", 1)] {
            let table = schema.details(name).unwrap();
            assert_eq!(table.unique.len(), constraints, "{name}");
            for unique in &table.unique {
                let condition = unique
                    .columns
                    .iter()
                    .fold(collides(unique), |condition, (column, _)| {
                        condition.replace(&format!("NEW.{}", quoted(column)), "?1")
                    });
                let sql = format!("explain query plan select 1 from {name} as x where {condition}");
                let step: String = connection.query_row(&sql, [1], |row| row.get(3)).unwrap();
                assert!(step.starts_with("SEARCH x USING"), "{sql}: {step}");
            }
        }
    }

    #[test]
    fn an_old_image_is_written_only_where_something_moved() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("create table t (id integer primary key, p text, x)")
            .unwrap();
        let schema = Schema::read(&connection).unwrap();
        let triggers = triggers(7, &["id".into(), "p".into()], schema.details("t").unwrap());
        let (name, sql) = &triggers[2];
        assert_eq!(name, "instep_7_update");
        assert_eq!(
            sql,
            "CREATE TRIGGER instep_7_update AFTER UPDATE ON \"t\" FOR EACH ROW BEGIN \
             INSERT INTO instep_change (capture, v1, v2) SELECT 7, OLD.\"id\", OLD.\"p\" \
             WHERE (OLD.\"id\" COLLATE BINARY) IS NOT NEW.\"id\" OR (OLD.\"p\" COLLATE BINARY) IS NOT NEW.\"p\"; \
             INSERT INTO instep_change (capture, v1, v2) VALUES (7, NEW.\"id\", NEW.\"p\"); END"
        );
    }
}
