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

mod durable;
mod literal;
mod sieve;
mod view;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Column, Error, Expression, Fetch, Key, Page, Position, Result, ResultExt, RowReader, Rows, Snapshot,
    TableName, TableSchema, Value,
};

use super::schema::{Kind, Schema, Table};
use super::{Database, PostgresSource, computed, locked, no_such_table, position};

use self::sieve::Tuples;
use self::view::{Read, View};

pub(super) use self::durable::Durable;
pub(super) use self::view::{Reading, relation};

/// Tables that the statistics say are smaller than this are counted, up to [`COUNTED`] rows.
const SMALL: u64 = 10_000;
const COUNTED: u64 = 100_000;

#[async_trait]
impl RowReader for PostgresSource {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        self.database.forget_schema();
        let schema = self.database.schema().await?;
        let mut tables: Vec<TableSchema> = schema.tables().iter().map(|table| table.schema.clone()).collect();
        for table in &mut tables {
            table
                .columns
                .retain(|column| Expression::of_column(&column.name).is_none());
        }
        Ok(tables)
    }

    async fn describe(&self, table: &TableName, expression: &Expression) -> Result<Column> {
        let database = &self.database;
        let schema = schema_with(database, table, &[]).await?;
        let known = table_of(&schema, table)?;
        let session = database.session().await?;
        let refused = |error: Error| match error.is_transient() && error.code() != "schema_changed" {
            true => error,
            false => Error::invalid("bad_expression", error.to_string()),
        };
        computed::require_deterministic(&session, expression).await?;
        computed::type_of(&session, known, expression.sql())
            .await
            .map_err(refused)?;
        session.give_back();
        let name = [expression.column()];
        let schema = schema_with(database, table, &[&name]).await?;
        let known = table_of(&schema, table)?;
        let at = places(known, &name)?[0];
        Ok(known.schema.columns[at].clone())
    }

    async fn scan(
        &self,
        table: &TableSchema,
        condition: Option<&Expression>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Vec<Key>> {
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
        let mut join = " where ";
        if let Some(condition) = condition {
            let _ = write!(from, "{join}({condition})");
            join = " and ";
        }
        if let Some(after) = after {
            from.push_str(join);
            comes_after(database, known, &key, after, &mut from)?;
        }
        let _ = write!(from, " order by {} limit {n}", list(known, &key));
        let read = Read {
            table: known,
            columns: key,
            from,
            by_index: true,
            doubtful: false,
            blank: false,
        };
        let uncomputed = |error: Error| match condition.is_some() && view::is_refused_value(&error) {
            true => Error::poison("uncomputed", error.to_string()),
            false => error,
        };
        let rows = view.read(&read).await.map_err(uncomputed).context(scanning)?;
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
        let schema = self.schema_for(wanted).await.context(reading)?;
        let table = table_of(&schema, &wanted.table)?;
        let mut view = self.taken()?;
        let rows = fetch(&self.database, &mut view, table, wanted)
            .await
            .context(reading)?;
        self.view = Some(view);
        Ok(rows)
    }

    /// In one round trip, unless the server may refuse a value or an expression of one of them.
    async fn fetch_all(&mut self, wanted: &[Fetch]) -> Result<Vec<Rows>> {
        let reading = || {
            let tables: Vec<String> = wanted
                .iter()
                .map(|wanted| format!("`{}`", wanted.table))
                .collect();
            format!("reading rows of {}", tables.join(", "))
        };
        let mut schemas = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            schemas.push(self.schema_for(wanted).await.context(reading)?);
        }
        let database = self.database.clone();
        let mut prepared = Vec::with_capacity(wanted.len());
        for (wanted, schema) in wanted.iter().zip(&schemas) {
            let table = table_of(schema, &wanted.table)?;
            let (statement, tuples) = statement(&database, table, wanted).context(reading)?;
            let read = match tuples.is_empty() {
                true => None,
                false => Some(statement.read(&tuples, 0..tuples.count, false).context(reading)?),
            };
            prepared.push((statement.columns.len(), read));
        }
        let doubtful =
            |(_, read): &(usize, Option<Read<'_>>)| read.as_ref().is_some_and(|read| read.doubtful);
        if prepared.iter().any(doubtful) {
            let mut all = Vec::with_capacity(wanted.len());
            for wanted in wanted {
                all.push(self.fetch(wanted).await?);
            }
            return Ok(all);
        }
        let mut view = self.taken()?;
        let widths: Vec<(usize, bool)> = prepared
            .iter()
            .map(|(width, read)| (*width, read.is_some()))
            .collect();
        let reads: Vec<Read<'_>> = prepared.into_iter().filter_map(|(_, read)| read).collect();
        let answered = match reads.is_empty() {
            true => Vec::new(),
            false => view.read_all(&reads).await.context(reading)?,
        };
        self.view = Some(view);
        let mut answered = answered.into_iter();
        let rows = wanted
            .iter()
            .zip(widths)
            .map(|(wanted, (width, is_read))| match is_read {
                true => answered.next().map(|rows| as_asked(rows, wanted)),
                false => Some(Rows::new(width)),
            });
        let rows: Option<Vec<Rows>> = rows.collect();
        rows.ok_or_else(|| Error::fatal("bad_answer", "fewer statements were answered than asked"))
    }
}

impl PostgresSnapshot {
    /// The tables as they must be for this fetch.
    async fn schema_for(&self, wanted: &Fetch) -> Result<Arc<Schema>> {
        if wanted.columns.is_empty() || wanted.by.is_empty() {
            let message = "a fetch names the columns it matches and returns";
            return Err(Error::fatal("bad_fetch", message));
        }
        let page = wanted.page.as_ref().map_or(&[][..], |page| &page.key);
        let named = [wanted.columns.as_slice(), wanted.by.as_slice(), page];
        schema_with(&self.database, &wanted.table, &named).await
    }

    fn taken(&mut self) -> Result<View> {
        self.view.take().ok_or_else(|| {
            let message = "an earlier fetch of this snapshot failed or was abandoned";
            Error::transient("snapshot_lost", message)
        })
    }
}

fn statement<'a>(
    database: &'a Database,
    table: &'a Table,
    wanted: &'a Fetch,
) -> Result<(Statement<'a>, Tuples<'a>)> {
    let columns = places(table, &wanted.columns)?;
    let by = places(table, &wanted.by)?;
    let tuples = Tuples::of(database, table, by, &wanted.values);
    let statement = Statement {
        database,
        table,
        columns,
        page: wanted.page.as_ref(),
    };
    Ok((statement, tuples))
}

async fn fetch(database: &Database, view: &mut View, table: &Table, wanted: &Fetch) -> Result<Rows> {
    let (statement, tuples) = statement(database, table, wanted)?;
    if tuples.is_empty() {
        return Ok(Rows::new(statement.columns.len()));
    }
    Ok(as_asked(statement.run(view, tuples).await?, wanted))
}

/// What a fetch reads, whichever rows it is asked for.
struct Statement<'a> {
    database: &'a Database,
    table: &'a Table,
    columns: Vec<usize>,
    page: Option<&'a Page>,
}

impl<'a> Statement<'a> {
    async fn run(&self, view: &mut View, mut tuples: Tuples<'a>) -> Result<Rows> {
        let is_computed = self.is_computed();
        let read = self.read(&tuples, 0..tuples.count, false)?;
        let refused = match view.read(&read).await {
            Err(error) if read.doubtful && view::is_refused_value(&error) => error,
            read => return read,
        };
        view.recover().await?;
        if tuples.doubtful {
            let sieved = tuples.sieved(view).await?;
            if sieved.is_empty() {
                return Ok(Rows::new(self.columns.len()));
            }
            if sieved.count < tuples.count {
                tuples = sieved;
                let read = self.read(&tuples, 0..tuples.count, false)?;
                match view.read(&read).await {
                    Err(error) if is_computed && view::is_refused_value(&error) => view.recover().await?,
                    read => return read,
                }
            }
        }
        match is_computed && self.page.is_none() {
            true => self.by_halves(view, &tuples).await,
            false => Err(refused),
        }
    }

    /// Finds the tuples of the rows for which an expression cannot be computed; of those it is [`Value::Bytes`].
    async fn by_halves(&self, view: &mut View, tuples: &Tuples<'a>) -> Result<Rows> {
        let mut out = Rows::new(self.columns.len());
        let mut open: Vec<_> = std::iter::once(0..tuples.count).collect();
        while let Some(range) = open.pop() {
            match view.read(&self.read(tuples, range.clone(), false)?).await {
                Ok(rows) => rows.iter().flatten().for_each(|value| out.push(value.clone())),
                Err(error) if view::is_refused_value(&error) => {
                    view.recover().await?;
                    if range.len() > 1 {
                        let middle = range.start + range.len() / 2;
                        open.extend([range.start..middle, middle..range.end]);
                        continue;
                    }
                    let rows = view.read(&self.read(tuples, range, true)?).await?;
                    for row in rows.iter() {
                        for (value, at) in row.iter().zip(&self.columns) {
                            out.push(match self.table.is_computed(*at) {
                                true => Value::Bytes([].into()),
                                false => value.clone(),
                            });
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn is_computed(&self) -> bool {
        self.columns.iter().any(|at| self.table.is_computed(*at))
    }

    fn read(&self, tuples: &Tuples<'_>, range: std::ops::Range<usize>, blank: bool) -> Result<Read<'a>> {
        let table = self.table;
        let mut from = from(table);
        from.push_str(" where ");
        tuples.condition(range, &mut from);
        if let Some(page) = self.page {
            let key = places(table, &page.key)?;
            if let Some(after) = &page.after {
                from.push_str(" and ");
                comes_after(self.database, table, &key, after, &mut from)?;
            }
            let _ = write!(from, " order by {} limit {}", list(table, &key), page.limit);
        }
        Ok(Read {
            table,
            columns: self.columns.clone(),
            from,
            by_index: self.page.is_some() || tuples.have_index(),
            doubtful: tuples.doubtful || self.is_computed(),
            blank,
        })
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
    let expressions = columns.iter().copied().flatten();
    let expressions =
        expressions.filter_map(|name| Some((table.clone(), Expression::of_column(name)?.to_owned())));
    locked(&database.computed).extend(expressions);
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
            let message = match Expression::of_column(name) {
                Some(sql) => format!("`{sql}` cannot be computed from rows of `{}`", table.schema.name),
                None => format!("no such column: `{}.{name}`", table.schema.name),
            };
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
    let names: Vec<String> = columns.iter().map(|at| table.spelled(*at)).collect();
    names.join(",")
}
