//! Reading: schemas, keys in order, and rows in one snapshot.
//!
//! A snapshot is a read transaction on a session of its own; its first fetch opens it and brings rows in one round trip.
//! A fetch is one statement, however many values it matches: they go in as arrays, cast to the columns' own types so
//! that indexes are used.
//!
//! A value that is not valid UTF-8, or that the rule of its type refuses, arrives as [`Value::Bytes`] of what the
//! database holds. No field takes bytes, so the documents that use the value are dead letters that name column and kind,
//! and no other document is held up.
//!
//! Rows that a policy hides from our role are not there for us: `check` names such tables.

mod literal;
mod view;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    ColumnKind, Error, Fetch, Key, Page, Position, Result, ResultExt, RowReader, Rows, Snapshot, TableName,
    TableSchema, Value,
};

use super::schema::{Kind, Schema, Table};
use super::{Database, PostgresSource, locked, no_such_table, position, quoted};

use self::view::{Read, View};

pub(super) use self::view::Reading;

/// Tables that the statistics say are smaller than this are counted, up to [`COUNTED`] rows.
const SMALL: u64 = 10_000;
const COUNTED: u64 = 100_000;

/// The most statements that look for values which the server refuses.
const MOST_SIEVES: usize = 1_000;

#[async_trait]
impl RowReader for PostgresSource {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        self.database.forget_schema();
        let schema = self.database.schema().await?;
        Ok(schema.tables().iter().map(|table| table.schema.clone()).collect())
    }

    async fn scan(&self, table: &TableSchema, after: Option<&Key>, n: usize) -> Result<Vec<Key>> {
        table.require_key()?;
        let database = &self.database;
        let scanning = || format!("scanning `{}`", table.name);
        let wanted = [table.primary_key.as_slice()];
        let schema = schema_with(database, &table.name, &wanted)
            .await
            .context(scanning)?;
        let known = table_of(&schema, &table.name)?;
        let key = places(known, &table.primary_key)?;
        if let Some(at) = key.iter().find(|at| !known.types[**at].names_rows()) {
            let column = &known.schema.columns[*at];
            let message = format!(
                "values of type {} (`{}`) cannot name rows",
                column.declared, column.name
            );
            return Err(Error::invalid("bad_key_type", message)
                .context(scanning())
                .with_remedy(
                    "give the table a primary key of another type, or leave it out of every collection",
                ));
        }
        let mut view = View::open(database, None).await.context(scanning)?;
        let mut from = from(known);
        if let Some(after) = after {
            from.push_str(" where ");
            comes_after(database, known, &key, after, &mut from)?;
        }
        let _ = write!(from, " order by {} limit {n}", list(known, &key));
        let read = Read {
            table: known,
            columns: key,
            from,
            by_index: true,
            doubtful: false,
        };
        let rows = view.read(&read).await.context(scanning)?;
        Ok(rows.iter().map(|row| Key::new(row.to_vec())).collect())
    }

    async fn count(&self, table: &TableName) -> Result<u64> {
        let database = &self.database;
        let counting = || format!("counting the rows of `{table}`");
        let schema = schema_with(database, table, &[]).await.context(counting)?;
        let known = table_of(&schema, table)?;
        let leaves: Vec<String> = known.leaves.iter().map(|leaf| leaf.oid.to_string()).collect();
        let session = database.session().await?;
        let estimate = format!(
            "select coalesce(sum(reltuples), 0)::int8 from pg_catalog.pg_class \
             where oid = any ('{{{}}}') and reltuples > 0",
            leaves.join(",")
        );
        let number = async |sql: &str| {
            let lines = session.query(sql).await.context(counting)?;
            let text = lines.first().map(|line| line.text(0)).transpose()?;
            Ok::<u64, Error>(text.and_then(|text| text.parse().ok()).unwrap_or(0))
        };
        let mut count = number(&estimate).await?;
        if count < SMALL {
            let from = from(known);
            count = number(&format!("select count(*) from (select {from} limit {COUNTED}) s")).await?;
        }
        session.give_back();
        Ok(count)
    }

    async fn snapshot(&self, at_least: Option<&Position>) -> Result<Box<dyn Snapshot>> {
        let place = |position| {
            position::place(position)
                .ok_or_else(|| Error::fatal("bad_position", "this is not a position of a Postgres database"))
        };
        let at_least = at_least.map(place).transpose()?;
        let view = View::open(&self.database, at_least)
            .await
            .context(|| "opening a snapshot".to_owned())?;
        Ok(Box::new(PostgresSnapshot {
            database: self.database.clone(),
            view: Some(view),
        }))
    }
}

/// One view, fetch by fetch. It is gone for good when a fetch fails or is abandoned.
struct PostgresSnapshot {
    database: Arc<Database>,
    view: Option<View>,
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
        let reading = || format!("reading rows of `{}`", wanted.table);
        if wanted.columns.is_empty() || wanted.by.is_empty() {
            let message = "a fetch names the columns it matches and returns";
            return Err(Error::fatal("bad_fetch", message));
        }
        let page = wanted.page.as_ref().map_or(&[][..], |page| &page.key);
        let named = [wanted.columns.as_slice(), wanted.by.as_slice(), page];
        let schema = schema_with(&self.database, &wanted.table, &named)
            .await
            .context(reading)?;
        let table = table_of(&schema, &wanted.table)?;
        let Some(mut view) = self.view.take() else {
            let message = "an earlier fetch of this snapshot failed or was abandoned";
            return Err(Error::transient("snapshot_lost", message));
        };
        let rows = fetch(&self.database, &mut view, table, wanted)
            .await
            .context(reading)?;
        self.view = Some(view);
        Ok(rows)
    }
}

async fn fetch(database: &Database, view: &mut View, table: &Table, wanted: &Fetch) -> Result<Rows> {
    let columns = places(table, &wanted.columns)?;
    let by = places(table, &wanted.by)?;
    let tuples = Tuples::of(database, table, &by, &wanted.values);
    let rows = Rows::new(columns.len());
    if tuples.is_empty() {
        return Ok(rows);
    }
    let read = fetch_read(database, table, columns.clone(), &tuples, wanted.page.as_ref())?;
    let rows = match view.read(&read).await {
        Err(error) if read.doubtful && view::is_refused_value(&error) => {
            view.recover().await?;
            let sieved = tuples.sieved(view).await?;
            if sieved.count == tuples.count {
                return Err(error);
            }
            if sieved.is_empty() {
                return Ok(rows);
            }
            view.read(&fetch_read(
                database,
                table,
                columns,
                &sieved,
                wanted.page.as_ref(),
            )?)
            .await?
        }
        read => read?,
    };
    Ok(as_asked(rows, wanted))
}

fn fetch_read<'a>(
    database: &Database,
    table: &'a Table,
    columns: Vec<usize>,
    tuples: &Tuples<'_>,
    page: Option<&Page>,
) -> Result<Read<'a>> {
    let mut from = from(table);
    from.push_str(" where ");
    tuples.condition(&mut from);
    if let Some(page) = page {
        let key = places(table, &page.key)?;
        if let Some(after) = &page.after {
            from.push_str(" and ");
            comes_after(database, table, &key, after, &mut from)?;
        }
        let _ = write!(from, " order by {} limit {}", list(table, &key), page.limit);
    }
    Ok(Read {
        table,
        columns,
        from,
        by_index: page.is_some() || tuples.have_index(),
        doubtful: tuples.doubtful,
    })
}

/// The tuples to match, column by column, each value as text that its column's type takes.
struct Tuples<'a> {
    table: &'a Table,
    by: &'a [usize],
    columns: Vec<Vec<Vec<u8>>>,
    count: usize,
    /// Whether there is anything else than integers, which are judged without the server.
    doubtful: bool,
}

impl<'a> Tuples<'a> {
    /// Without those that no row can have.
    fn of(database: &Database, table: &'a Table, by: &'a [usize], values: &[Vec<Value>]) -> Self {
        let any_bytes = locked(&database.reading).any_bytes;
        let mut tuples = Tuples {
            table,
            by,
            columns: vec![Vec::with_capacity(values.len()); by.len()],
            count: 0,
            doubtful: false,
        };
        for tuple in values {
            let written = tuple
                .iter()
                .zip(by)
                .map(|(value, at)| literal::written(value, &table.types[*at], any_bytes));
            let Some(written) = written.collect::<Option<Vec<_>>>() else {
                continue;
            };
            tuples.doubtful |= tuple.iter().any(|value| !matches!(value, Value::Int(_)));
            tuples.count += 1;
            for (column, text) in tuples.columns.iter_mut().zip(written) {
                column.push(text);
            }
        }
        tuples
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// That a row is one of them, in a form that an index on the columns serves.
    fn condition(&self, sql: &mut String) {
        if let ([at], false) = (self.by, self.has_arrays()) {
            let _ = write!(sql, "{} = any (", list(self.table, &[*at]));
            self.array(0, 0..self.count, sql);
            sql.push(')');
            return;
        }
        let _ = write!(sql, "({}) in (select ", list(self.table, self.by));
        for (place, at) in self.by.iter().enumerate() {
            let cast = self.table.types[*at].sql();
            let _ = write!(sql, "{}u.c{place}::{cast}", if place > 0 { "," } else { "" });
        }
        sql.push_str(" from rows from (");
        for place in 0..self.by.len() {
            sql.push_str(if place > 0 {
                ",pg_catalog.unnest("
            } else {
                "pg_catalog.unnest("
            });
            self.array(place, 0..self.count, sql);
            sql.push(')');
        }
        sql.push_str(") u (");
        for place in 0..self.by.len() {
            let _ = write!(sql, "{}c{place}", if place > 0 { "," } else { "" });
        }
        sql.push_str("))");
    }

    /// Whether some index begins with one of the matched columns.
    fn have_index(&self) -> bool {
        let schema = &self.table.schema;
        let matched = |name: &String| self.by.iter().any(|at| schema.columns[*at].name == *name);
        let begins = |index: &Vec<String>| index.first().is_some_and(matched);
        schema.indexes.iter().any(begins)
    }

    fn has_arrays(&self) -> bool {
        self.by.iter().any(|at| self.is_array(*at))
    }

    /// There is no array of arrays.
    fn is_array(&self, at: usize) -> bool {
        self.table.types[at].kind() == ColumnKind::Array
    }

    /// A column's values as an array of its type; as texts where the type is an array itself.
    fn array(&self, place: usize, range: std::ops::Range<usize>, sql: &mut String) {
        literal::array(self.columns[place][range].iter().map(Vec::as_slice), sql);
        let at = self.by[place];
        match self.is_array(at) {
            true => sql.push_str("::pg_catalog.text[]"),
            false => {
                let _ = write!(sql, "::{}[]", self.table.types[at].sql());
            }
        }
    }

    /// Those whose values the server takes: found by halves.
    async fn sieved(&self, view: &mut View) -> Result<Tuples<'a>> {
        let mut good = Vec::new();
        let mut open: Vec<_> = std::iter::once(0..self.count).collect();
        let mut statements = 0;
        while let Some(range) = open.pop() {
            statements += 1;
            if statements > MOST_SIEVES {
                let message =
                    "too many of the values that rows are asked by are no values of their columns' types";
                return Err(Error::fatal("bad_value", message));
            }
            if view.accepts(&self.values_sql(range.clone())).await? {
                good.push(range);
            } else if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                open.extend([range.start..middle, middle..range.end]);
            }
        }
        let part = |column: &Vec<Vec<u8>>| {
            let parts = good.iter().flat_map(|range| &column[range.clone()]);
            parts.cloned().collect()
        };
        Ok(Tuples {
            columns: self.columns.iter().map(part).collect(),
            count: good.iter().map(std::ops::Range::len).sum(),
            ..*self
        })
    }

    /// Fails when a value is refused, and returns little.
    fn values_sql(&self, range: std::ops::Range<usize>) -> String {
        let mut sql = String::from("select ");
        for (place, at) in self.by.iter().enumerate() {
            if place > 0 {
                sql.push(',');
            }
            match self.is_array(*at) {
                false => {
                    sql.push_str("pg_catalog.cardinality(");
                    self.array(place, range.clone(), &mut sql);
                    sql.push(')');
                }
                true => {
                    let _ = write!(
                        sql,
                        "(select count(x::{}) from pg_catalog.unnest(",
                        self.table.types[*at].sql()
                    );
                    self.array(place, range.clone(), &mut sql);
                    sql.push_str(") x)");
                }
            }
        }
        sql
    }
}

/// The condition that a row's key comes after this one, in the order of the key's index.
fn comes_after(
    database: &Database,
    table: &Table,
    key: &[usize],
    after: &Key,
    sql: &mut String,
) -> Result<()> {
    let no_key = || Error::fatal("bad_cursor", format!("this is no key of `{}`", table.schema.name));
    if after.parts().len() != key.len() {
        return Err(no_key());
    }
    let any_bytes = locked(&database.reading).any_bytes;
    let _ = write!(sql, "({}) > (", list(table, key));
    for (place, (at, part)) in key.iter().zip(after.parts()).enumerate() {
        if place > 0 {
            sql.push(',');
        }
        let written = literal::written(part, &table.types[*at], any_bytes).ok_or_else(no_key)?;
        literal::text(&written, sql);
        let _ = write!(sql, "::{}", table.types[*at].sql());
    }
    sql.push(')');
    Ok(())
}

/// A column that is matched and returned answers with the kind of value it was asked for: the caller joins by equal
/// values, and an integer may refer to a numeric.
fn as_asked(rows: Rows, wanted: &Fetch) -> Rows {
    let mut asked: Vec<Option<Asked<'_>>> = wanted
        .columns
        .iter()
        .map(|column| {
            let at = wanted.by.iter().position(|by| by == column)?;
            Some(Asked::of(wanted, at))
        })
        .collect();
    let differs = |row: &[Value]| {
        let mut pairs = row.iter().zip(&asked);
        pairs.any(|(value, asked)| asked.as_ref().is_some_and(|asked| !asked.has_kind_of(value)))
    };
    if !rows.iter().any(differs) {
        return rows;
    }
    let mut out = Rows::new(wanted.columns.len());
    for row in rows.iter() {
        for (value, asked) in row.iter().zip(&mut asked) {
            out.push(match asked {
                None => value.clone(),
                Some(asked) => asked.form(value),
            });
        }
    }
    out
}

struct Asked<'a> {
    wanted: &'a Fetch,
    /// Which of the matched columns it is.
    at: usize,
    kinds: Vec<std::mem::Discriminant<Value>>,
    by_text: Option<HashMap<String, &'a Value>>,
}

impl<'a> Asked<'a> {
    fn of(wanted: &'a Fetch, at: usize) -> Self {
        let mut kinds = Vec::new();
        for tuple in &wanted.values {
            let kind = std::mem::discriminant(&tuple[at]);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Asked {
            wanted,
            at,
            kinds,
            by_text: None,
        }
    }

    fn has_kind_of(&self, value: &Value) -> bool {
        self.kinds.contains(&std::mem::discriminant(value))
    }

    fn form(&mut self, value: &Value) -> Value {
        if self.has_kind_of(value) {
            return value.clone();
        }
        let Asked { wanted, at, .. } = *self;
        let by_text = self.by_text.get_or_insert_with(|| {
            let texts = wanted
                .values
                .iter()
                .map(|tuple| (tuple[at].to_string(), &tuple[at]));
            texts.collect()
        });
        by_text.get(&value.to_string()).copied().unwrap_or(value).clone()
    }
}

/// The tables, read again once when what is named is not there.
async fn schema_with(
    database: &Arc<Database>,
    table: &TableName,
    columns: &[&[String]],
) -> Result<Arc<Schema>> {
    let known = database.schema().await?;
    if missing(&known, table, columns).is_none() {
        return Ok(known);
    }
    database.forget_schema();
    let schema = database.schema().await?;
    match missing(&schema, table, columns) {
        None => Ok(schema),
        Some(error) => Err(error),
    }
}

fn missing(schema: &Schema, table: &TableName, columns: &[&[String]]) -> Option<Error> {
    let known = match table_of(schema, table) {
        Ok(known) => known,
        Err(error) => return Some(error),
    };
    columns.iter().find_map(|columns| places(known, columns).err())
}

fn table_of<'a>(schema: &'a Schema, name: &TableName) -> Result<&'a Table> {
    schema
        .table(name.as_str())
        .ok_or_else(|| no_such_table(name.as_str()))
}

fn places(table: &Table, names: &[String]) -> Result<Vec<usize>> {
    let place = |name: &String| {
        table.place(name).ok_or_else(|| {
            let message = format!("no such column: `{}.{name}`", table.schema.name);
            Error::transient("schema_changed", message)
                .with_remedy("finish the migration that changes this table, or correct the configuration")
        })
    };
    names.iter().map(place).collect()
}

/// From the table alone: rows of tables that inherit from it are theirs.
fn from(table: &Table) -> String {
    let only = match table.kind {
        Kind::Plain => "only ",
        Kind::Partitioned => "",
    };
    format!("from {only}{}", view::relation(table))
}

fn list(table: &Table, columns: &[usize]) -> String {
    let names: Vec<String> = columns
        .iter()
        .map(|at| quoted(&table.schema.columns[*at].name))
        .collect();
    names.join(",")
}
