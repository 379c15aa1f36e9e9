//! Tables, columns, keys and indexes as SQLite's catalogue describes them.
//!
//! Left out: views, virtual tables and their shadows, SQLite's own tables and ours.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use instep_core::{Column, ColumnKind, ForeignKey, Result, TableName, TableSchema};

use super::{failed, quoted};

const READING: &str = "reading the database's schema";

/// All tables at one version of the schema.
#[derive(Debug)]
pub(super) struct Schema {
    tables: BTreeMap<TableName, Table>,
}

/// A table, with what capturing needs beyond its description.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) schema: TableSchema,
    /// Its unique constraints and indexes, the primary key's included: what `insert or replace` removes rows by.
    pub(super) unique: Vec<Unique>,
    /// Unique indexes over expressions.
    pub(super) unique_expressions: Vec<String>,
    /// The name under which the hidden rowid can be reached: no declared integer key stands for it.
    pub(super) hidden_rowid: Option<&'static str>,
}

/// A unique constraint or index over plain columns.
#[derive(Debug)]
pub(super) struct Unique {
    /// Its columns, each with the collation it compares by.
    pub(super) columns: Vec<(String, String)>,
    /// The condition of a partial index, as SQL.
    pub(super) condition: Option<String>,
}

/// A number that changes with every change of the schema.
pub(super) fn version(connection: &Connection) -> Result<i64> {
    let mut statement = connection
        .prepare_cached("pragma schema_version")
        .map_err(|error| failed(error, READING))?;
    statement
        .query_row([], |row| row.get(0))
        .map_err(|error| failed(error, READING))
}

impl Schema {
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        read_tables(connection)
            .map(|tables| Schema { tables })
            .map_err(|error| failed(error, READING))
    }

    /// The description of the table of this name.
    pub(super) fn table(&self, name: &str) -> Option<&TableSchema> {
        self.tables.get(name).map(|table| &table.schema)
    }

    /// The table of this name.
    pub(super) fn details(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// All tables, by name.
    pub(super) fn tables(&self) -> impl Iterator<Item = &TableSchema> {
        self.tables.values().map(|table| &table.schema)
    }
}

fn read_tables(connection: &Connection) -> rusqlite::Result<BTreeMap<TableName, Table>> {
    let mut statement = connection.prepare(
        "select name, wr from pragma_table_list
         where schema = 'main' and type = 'table'
           and name not like 'sqlite\\_%' escape '\\' and name not like 'instep\\_%' escape '\\'",
    )?;
    let listed = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut tables = BTreeMap::new();
    for (name, without_rowid) in listed {
        tables.insert(
            TableName::from(name.as_str()),
            read_table(connection, &name, without_rowid)?,
        );
    }
    let primary_keys: BTreeMap<TableName, TableSchema> = tables
        .iter()
        .map(|(name, table)| (name.clone(), table.schema.clone()))
        .collect();
    for (name, table) in &mut tables {
        table.schema.foreign_keys = read_foreign_keys(connection, name, &primary_keys)?;
    }
    Ok(tables)
}

fn read_table(connection: &Connection, name: &str, without_rowid: bool) -> rusqlite::Result<Table> {
    let mut columns = Vec::new();
    let mut key = Vec::new();
    let mut statement = connection
        .prepare("select name, type, \"notnull\", pk from pragma_table_xinfo(?1) where hidden <> 1")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let position: i64 = row.get(3)?;
        if position > 0 {
            key.push((position, column.clone()));
        }
        columns.push(Column {
            kind: kind_of(&declared),
            nullable: !(row.get::<_, bool>(2)? || without_rowid && position > 0),
            name: column,
            declared,
        });
    }
    key.sort();
    let primary_key: Vec<String> = key.into_iter().map(|(_, column)| column).collect();
    let mut table = Table {
        unique: Vec::new(),
        unique_expressions: Vec::new(),
        hidden_rowid: None,
        schema: TableSchema {
            name: name.into(),
            columns,
            primary_key,
            foreign_keys: Vec::new(),
            indexes: Vec::new(),
        },
    };
    let key_has_index = read_indexes(connection, name, &mut table)?;
    if !without_rowid
        && !key_has_index
        && let [only] = table.schema.primary_key.as_slice()
    {
        // The only primary key without an index of its own stands for the rowid.
        let only = only.clone();
        for column in &mut table.schema.columns {
            column.nullable &= column.name != only;
        }
        table.schema.indexes.insert(0, vec![only.clone()]);
        table.unique.insert(
            0,
            Unique {
                columns: vec![(only, "BINARY".into())],
                condition: None,
            },
        );
        return Ok(table);
    }
    if !without_rowid {
        table.hidden_rowid = ["rowid", "_rowid_", "oid"].into_iter().find(|alias| {
            let columns = &table.schema.columns;
            columns
                .iter()
                .all(|column| !column.name.eq_ignore_ascii_case(alias))
        });
    }
    Ok(table)
}

/// Adds the table's indexes; answers whether the primary key is among them.
fn read_indexes(connection: &Connection, name: &str, table: &mut Table) -> rusqlite::Result<bool> {
    let mut statement = connection
        .prepare("select name, \"unique\", origin, partial from pragma_index_list(?1) order by origin = 'pk' desc, seq")?;
    let listed = statement
        .query_map([name], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, bool>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, bool>(3)?,
            ))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut key_has_index = false;
    for (index, unique, origin, partial) in listed {
        let mut statement = connection
            .prepare("select name, coll from pragma_index_xinfo(?1) where key = 1 order by seqno")?;
        let parts = statement
            .query_map([&index], |row| {
                Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        key_has_index |= origin == "pk";
        let plain: Vec<(String, String)> = parts
            .iter()
            .map_while(|(column, collation)| Some((column.clone()?, collation.clone())))
            .collect();
        if !partial && !plain.is_empty() {
            table
                .schema
                .indexes
                .push(plain.iter().map(|(column, _)| column.clone()).collect());
        }
        if !unique {
            continue;
        }
        let condition = match partial {
            true => condition_of(connection, &index)?,
            false => None,
        };
        if plain.len() < parts.len() || (partial && condition.is_none()) {
            table.unique_expressions.push(index);
            continue;
        }
        table.unique.push(Unique {
            columns: plain,
            condition,
        });
    }
    Ok(key_has_index)
}

/// The condition of a partial index, from the statement that created it.
fn condition_of(connection: &Connection, index: &str) -> rusqlite::Result<Option<String>> {
    let sql: Option<String> = connection
        .query_row(
            "select sql from sqlite_schema where type = 'index' and name = ?1",
            params![index],
            |row| row.get(0),
        )
        .optional()?
        .flatten();
    Ok(sql.and_then(|sql| condition_in(&sql)))
}

/// What follows `where` after the column list of a `create index`. Quotes, brackets and comments are stepped over.
fn condition_in(sql: &str) -> Option<String> {
    let bytes = sql.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => at += 1 + sql[at + 1..].find(char::from(quote))?,
            b'[' => at += sql[at..].find(']')?,
            b'-' if sql[at..].starts_with("--") => at += sql[at..].find('\n')?,
            b'/' if sql[at..].starts_with("/*") => at += sql[at..].find("*/")? + 1,
            b'(' => depth += 1,
            b')' if depth == 1 => break,
            b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    let rest = sql.get(at + 1..)?.trim_start();
    let condition = rest
        .get(5..)
        .filter(|_| rest[..5].eq_ignore_ascii_case("where"))?;
    // A comment at the end would swallow what follows it in a trigger.
    (!condition.contains("--")).then(|| condition.trim().to_owned())
}

fn read_foreign_keys(
    connection: &Connection,
    table: &TableName,
    tables: &BTreeMap<TableName, TableSchema>,
) -> rusqlite::Result<Vec<ForeignKey>> {
    let mut statement = connection.prepare(
        "select id, \"table\", \"from\", \"to\" from pragma_foreign_key_list(?1) order by id desc, seq",
    )?;
    let mut rows = statement.query([table.as_str()])?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let (target, from, to): (String, String, Option<String>) = (row.get(1)?, row.get(2)?, row.get(3)?);
        // References may spell names in another case than their declaration.
        let parent = tables
            .values()
            .find(|parent| parent.name.as_str().eq_ignore_ascii_case(&target));
        if keys.last().is_none_or(|(last, _)| *last != id) {
            keys.push((
                id,
                ForeignKey {
                    columns: Vec::new(),
                    table: parent.map_or_else(|| target.as_str().into(), |parent| parent.name.clone()),
                    referenced: Vec::new(),
                },
            ));
        }
        let (_, key) = keys.last_mut().expect("one was just pushed");
        let position = key.columns.len();
        let referenced = match (to, parent) {
            (Some(to), Some(parent)) => {
                let known = parent
                    .columns
                    .iter()
                    .find(|column| column.name.eq_ignore_ascii_case(&to));
                known.map(|column| column.name.clone()).or(Some(to))
            }
            (Some(to), None) => Some(to),
            (None, parent) => parent.and_then(|parent| parent.primary_key.get(position).cloned()),
        };
        key.columns.push(from);
        key.referenced.extend(referenced);
    }
    let complete = |key: &ForeignKey| key.columns.len() == key.referenced.len();
    Ok(keys.into_iter().map(|(_, key)| key).filter(complete).collect())
}

/// What a declared type says about a column's values. SQLite itself only derives an affinity from it.
fn kind_of(declared: &str) -> ColumnKind {
    let upper = declared.trim().to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    if upper.is_empty() {
        ColumnKind::Any
    } else if has("BOOL") {
        ColumnKind::Boolean
    } else if has("INT") {
        ColumnKind::Integer
    } else if has("JSON") {
        ColumnKind::Json
    } else if has("CHAR") {
        match length_of(&upper) {
            Some(length) if length <= 255 => ColumnKind::Keyword,
            None if !has("VAR") => ColumnKind::Keyword,
            _ => ColumnKind::Text,
        }
    } else if has("TEXT") || has("CLOB") || has("STRING") {
        ColumnKind::Text
    } else if has("UUID") || has("GUID") || has("ENUM") {
        ColumnKind::Keyword
    } else if has("BLOB") || has("BINARY") || has("BYTEA") {
        ColumnKind::Bytes
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        ColumnKind::Double
    } else if has("DATE") || has("TIME") {
        ColumnKind::Date
    } else if has("NUM") || has("DEC") || has("MONEY") {
        ColumnKind::Decimal
    } else {
        ColumnKind::Any
    }
}

fn length_of(declared: &str) -> Option<u64> {
    let (_, rest) = declared.split_once('(')?;
    rest.split([')', ',']).next()?.trim().parse().ok()
}

/// The statement that creates an index on these columns.
pub(super) fn create_index(table: &str, columns: &[String]) -> String {
    let name = format!("{table}_{}", columns.join("_"));
    let list = super::quoted_list(columns);
    format!("create index {} on {} ({list})", quoted(&name), quoted(table))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_follow_the_declared_type() {
        use ColumnKind as K;
        let cases = [
            ("INTEGER", K::Integer),
            ("bigint", K::Integer),
            ("tinyint(1)", K::Integer),
            ("TEXT", K::Text),
            ("varchar(255)", K::Keyword),
            ("VARCHAR(256)", K::Text),
            ("varchar", K::Text),
            ("char", K::Keyword),
            ("character(20)", K::Keyword),
            ("uuid", K::Keyword),
            ("REAL", K::Double),
            ("double precision", K::Double),
            ("NUMERIC", K::Decimal),
            ("decimal(10,2)", K::Decimal),
            ("boolean", K::Boolean),
            ("date", K::Date),
            ("DATETIME", K::Date),
            ("timestamp", K::Date),
            ("json", K::Json),
            ("BLOB", K::Bytes),
            ("", K::Any),
            ("ANY", K::Any),
        ];
        for (declared, kind) in cases {
            assert_eq!(kind_of(declared), kind, "{declared}");
        }
    }

    #[test]
    fn conditions_of_partial_indexes() {
        let cases = [
            ("create unique index i on t (a) where b = 1", Some("b = 1")),
            (
                "CREATE UNIQUE INDEX \"i)(\" ON t(a, \"b)\")\n  WHERE (c is null) ",
                Some("(c is null)"),
            ),
            (
                "create unique index i on t (lower(a)) where x = ')'",
                Some("x = ')'"),
            ),
            ("create unique index i on t (a) -- where\n", None),
            (
                "create unique index i on [t(] (a /* ) where */) where y",
                Some("y"),
            ),
            ("create unique index i on t (a) where y -- why", None),
        ];
        for (sql, expected) in cases {
            assert_eq!(condition_in(sql).as_deref(), expected, "{sql}");
        }
    }
}
