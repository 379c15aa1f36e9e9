//! Reading: schemas, keys in order, and rows in one snapshot.
//!
//! A snapshot is a read transaction on a connection of its own, pinned by its first read. A fetch is one hop to a
//! blocking thread and one statement for up to [`CHUNK`] tuples. Statements come in a few sizes, the rest filled up
//! with the last tuple, so that they stay prepared.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Statement;

use instep_core::{
    Column, ColumnKind, Error, Expression, Fetch, Key, Page, Position, Result, ResultExt, RowReader, Rows,
    Snapshot, TableName, TableSchema, Value,
};

use super::schema::Schema;
use super::value::{self, Bound};
use super::{
    Reader, SqliteSource, blocking, computed, failed, feed, quoted, quoted_list, schema_changed, table_of,
};

/// The most tuples of one statement, and the sizes that statements come in.
const CHUNK: usize = 512;
const SIZES: [usize; 5] = [1, 4, 16, 128, CHUNK];

/// Fewer than SQLite allows in one statement.
const MOST_VARIABLES: usize = 30_000;

#[async_trait]
impl RowReader for SqliteSource {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        let database = self.database.clone();
        blocking(move || {
            let reader = database.reader()?;
            begin(&reader)?;
            Ok(reader.schema()?.tables().cloned().collect())
        })
        .await
    }

    async fn describe(&self, table: &TableName, expression: &Expression) -> Result<Column> {
        let database = self.database.clone();
        let (table, expression) = (table.clone(), expression.clone());
        blocking(move || {
            let reader = database.reader()?;
            begin(&reader)?;
            let schema = reader.schema()?;
            computed::describe(table_of(&schema, table.as_str())?, &expression)
        })
        .await
    }

    async fn scan(
        &self,
        table: &TableSchema,
        condition: Option<&Expression>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Vec<Key>> {
        let database = self.database.clone();
        let table = table.clone();
        let (condition, after) = (condition.cloned(), after.cloned());
        blocking(move || {
            let reader = database.reader()?;
            begin(&reader)?;
            scan(&reader, &table, condition.as_ref(), after.as_ref(), n)
                .map_err(|error| error.context(format!("scanning `{}`", table.name)))
        })
        .await
    }

    async fn count(&self, table: &TableName) -> Result<u64> {
        let database = self.database.clone();
        let table = table.clone();
        blocking(move || {
            let reader = database.reader()?;
            let sql = format!("select count(*) from {}", quoted(table.as_str()));
            let count: i64 = reader
                .connection()
                .query_row(&sql, [], |row| row.get(0))
                .map_err(|error| failed(error, "counting rows"))?;
            Ok(count.unsigned_abs())
        })
        .await
    }

    async fn snapshot(&self, at_least: Option<&Position>) -> Result<Box<dyn Snapshot>> {
        let database = self.database.clone();
        let at_least = at_least.cloned();
        let snapshot = blocking(move || {
            let reader = database.reader()?;
            feed::let_writer_finish(&database.path);
            begin(&reader)?;
            let schema = reader.schema()?;
            if let Some(at_least) = &at_least
                && !feed::holds(reader.connection(), at_least)?
            {
                return Err(
                    Error::fatal("position_ahead", "the position is ahead of the database")
                        .with_remedy("the database was probably restored from a backup: scan it again"),
                );
            }
            Ok(SqliteSnapshot {
                open: Some((reader, schema)),
            })
        })
        .await?;
        Ok(Box::new(snapshot))
    }
}

/// Begins a read transaction. The next read pins what it sees.
fn begin(reader: &Reader) -> Result<()> {
    reader
        .connection()
        .execute_batch("begin")
        .map_err(|error| failed(error, "opening a snapshot"))
}

fn scan(
    reader: &Reader,
    table: &TableSchema,
    condition: Option<&Expression>,
    after: Option<&Key>,
    n: usize,
) -> Result<Vec<Key>> {
    table.require_key()?;
    let schema = reader.schema()?;
    let current = table_of(&schema, table.name.as_str())?;
    let kinds = kinds(current, &table.primary_key)?;
    let (sql, bound) = scan_sql(current, &table.primary_key, &kinds, condition, after, n);
    let read = || {
        let mut statement = reader.connection().prepare_cached(&sql)?;
        bind(&mut statement, &bound)?;
        let mut rows = statement.raw_query();
        let mut keys = Vec::with_capacity(n.min(10_000));
        while let Some(row) = rows.next()? {
            let mut parts = Vec::with_capacity(kinds.len());
            for (at, kind) in kinds.iter().enumerate() {
                parts.push(value::read(row.get_ref(at)?, *kind));
            }
            keys.push(Key::new(parts));
        }
        Ok(keys)
    };
    read().map_err(
        |error| match condition.is_some() && computed::is_of_a_row(&error) {
            true => Error::poison("uncomputed", "a condition cannot be computed for a row"),
            false => failed(error, "reading keys"),
        },
    )
}

fn scan_sql(
    table: &TableSchema,
    key: &[String],
    kinds: &[ColumnKind],
    condition: Option<&Expression>,
    after: Option<&Key>,
    n: usize,
) -> (String, Vec<Bound>) {
    let mut bound = Vec::new();
    let mut conditions: Vec<String> = after
        .into_iter()
        .map(|after| comes_after(key, kinds, after, &mut bound))
        .collect();
    // A row with NULL in its key cannot be named, so it is no document; `check` counts them.
    let nullable = key
        .iter()
        .filter(|name| table.column(name).is_none_or(|column| column.nullable));
    conditions.extend(nullable.map(|name| format!("{} is not null", quoted(name))));
    conditions.extend(condition.map(|condition| format!("({condition})")));
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!(" where {}", conditions.join(" and ")),
    };
    let columns = quoted_list(key);
    let from = quoted(table.name.as_str());
    (
        format!("select {columns} from {from}{condition} order by {columns} limit {n}"),
        bound,
    )
}

/// The condition that a row's key comes after this one, in SQLite's order of the key: NULL first.
fn comes_after(key: &[String], kinds: &[ColumnKind], after: &Key, bound: &mut Vec<Bound>) -> String {
    let parts = after.parts();
    if parts.iter().all(|part| !part.is_null()) {
        // A row with NULL before the first difference compares as unknown, which leaves it out: it came earlier.
        bound.extend(
            parts
                .iter()
                .zip(kinds)
                .map(|(part, kind)| Bound::new(part.clone(), *kind)),
        );
        let places = vec!["?"; parts.len()].join(", ");
        return format!("({}) > ({places})", quoted_list(key));
    }
    let mut alternatives = Vec::new();
    for at in 0..key.len() {
        let mut terms = Vec::new();
        for before in 0..at {
            terms.push(format!("{} is ?", quoted(&key[before])));
            bound.push(Bound::new(parts[before].clone(), kinds[before]));
        }
        match parts[at].is_null() {
            true => terms.push(format!("{} is not null", quoted(&key[at]))),
            false => {
                terms.push(format!("{} > ?", quoted(&key[at])));
                bound.push(Bound::new(parts[at].clone(), kinds[at]));
            }
        }
        alternatives.push(format!("({})", terms.join(" and ")));
    }
    format!("({})", alternatives.join(" or "))
}

/// A read transaction. The connection goes to the blocking thread of a fetch and comes back with its rows.
struct SqliteSnapshot {
    open: Option<(Reader, Arc<Schema>)>,
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
        let Some((_, schema)) = &self.open else {
            return Err(Error::transient(
                "snapshot_lost",
                "an earlier fetch of this snapshot was abandoned",
            ));
        };
        let mut query = Query::new(schema, wanted)?;
        if query.tuples.is_empty() {
            return Ok(Rows::new(query.kinds.len()));
        }
        let (reader, schema) = self.open.take().expect("it was there a moment ago");
        let (reader, rows) = blocking(move || {
            let rows = query.run(&reader);
            Ok((reader, rows))
        })
        .await?;
        self.open = Some((reader, schema));
        rows.context(|| format!("reading rows of `{}`", wanted.table))
    }
}

/// A fetch in SQLite's terms.
struct Query {
    table: String,
    /// The returned columns and their kinds.
    columns: String,
    kinds: Vec<ColumnKind>,
    /// For each returned column, whether it is an expression.
    computed: Vec<bool>,
    /// The returned columns without their expressions: an empty blob in the place of each.
    blank: String,
    /// For each returned column that is also matched, what it was asked for.
    asked: Vec<Option<Asked>>,
    /// The matched columns, how many they are, and the tuples one after the other.
    by: String,
    width: usize,
    tuples: Vec<Bound>,
    page: Option<PageQuery>,
}

struct PageQuery {
    condition: String,
    bound: Vec<Bound>,
    order: String,
    limit: usize,
}

impl Query {
    fn new(schema: &Schema, wanted: &Fetch) -> Result<Self> {
        if wanted.columns.is_empty() || wanted.by.is_empty() {
            return Err(Error::fatal(
                "bad_fetch",
                "a fetch names the columns it matches and returns",
            ));
        }
        let table = table_of(schema, wanted.table.as_str())?;
        let by_kinds = kinds(table, &wanted.by)?;
        let asked = wanted.columns.iter().map(|column| {
            let at = wanted.by.iter().position(|by| by == column)?;
            Some(Asked::new(at, wanted.values.iter().map(|tuple| &tuple[at])))
        });
        let page = wanted
            .page
            .as_ref()
            .map(|page| PageQuery::new(table, page))
            .transpose()?;
        let query = Query {
            table: quoted(wanted.table.as_str()),
            columns: quoted_list(&wanted.columns),
            kinds: kinds(table, &wanted.columns)?,
            computed: wanted
                .columns
                .iter()
                .map(|column| Expression::of_column(column).is_some())
                .collect(),
            blank: blanked(&wanted.columns),
            asked: asked.collect(),
            by: quoted_list(&wanted.by),
            width: wanted.by.len(),
            tuples: tuples(&wanted.values, &by_kinds),
            page,
        };
        if query.page.is_some() && query.tuples.len() > MOST_VARIABLES {
            return Err(Error::fatal(
                "bad_fetch",
                "a page matches too many tuples at once",
            ));
        }
        Ok(query)
    }

    fn run(&mut self, reader: &Reader) -> Result<Rows> {
        let mut out = Rows::new(self.kinds.len());
        // A page is cut from all tuples together; without one, each chunk has a statement.
        let most = match self.page {
            Some(_) => self.tuples.len() / self.width,
            None => CHUNK,
        };
        let mut asked = std::mem::take(&mut self.asked);
        for chunk in self.tuples.chunks(most * self.width) {
            let before = out.len();
            match self.run_chunk(reader, chunk, Computed::Asked, &mut asked, &mut out) {
                Err(error) if self.may_isolate(&error) => {
                    out.truncate(before);
                    self.run_one_by_one(reader, chunk, &mut asked, &mut out)
                }
                ran => ran,
            }
            .map_err(|error| failed(error, "reading rows"))?;
            if out.is_too_much() {
                return Err(Rows::too_much());
            }
        }
        Ok(out)
    }

    /// Whether an expression may be what failed, so that other rows can be read without its row.
    fn may_isolate(&self, error: &rusqlite::Error) -> bool {
        self.page.is_none() && self.computed.contains(&true) && computed::is_of_a_row(error)
    }

    /// Finds the tuples of the rows for which an expression cannot be computed; of those it is [`Value::Bytes`].
    fn run_one_by_one(
        &self,
        reader: &Reader,
        chunk: &[Bound],
        asked: &mut [Option<Asked>],
        out: &mut Rows,
    ) -> rusqlite::Result<()> {
        for tuple in chunk.chunks(self.width) {
            let before = out.len();
            match self.run_chunk(reader, tuple, Computed::Asked, asked, out) {
                Err(error) if self.may_isolate(&error) => {
                    out.truncate(before);
                    self.run_chunk(reader, tuple, Computed::Blank, asked, out)?;
                }
                ran => ran?,
            }
        }
        Ok(())
    }

    fn run_chunk(
        &self,
        reader: &Reader,
        chunk: &[Bound],
        computed: Computed,
        asked: &mut [Option<Asked>],
        out: &mut Rows,
    ) -> rusqlite::Result<()> {
        let tuples = chunk.len() / self.width;
        let size = SIZES.into_iter().find(|size| *size >= tuples).unwrap_or(tuples);
        let mut statement = reader.connection().prepare_cached(&self.sql(size, computed))?;
        let last = &chunk[chunk.len() - self.width..];
        let fill = std::iter::repeat_n(last, size - tuples).flatten();
        let after = self.page.iter().flat_map(|page| &page.bound);
        bind(&mut statement, chunk.iter().chain(fill).chain(after))?;
        let mut rows = statement.raw_query();
        while !out.is_too_much()
            && let Some(row) = rows.next()?
        {
            for (at, (kind, asked)) in self.kinds.iter().zip(asked.iter_mut()).enumerate() {
                let value = value::read(row.get_ref(at)?, *kind);
                out.push(match asked {
                    None => value,
                    Some(asked) => asked.form(value, &self.tuples, self.width),
                });
            }
        }
        Ok(())
    }

    /// The statement for so many tuples. Both forms use an index that leads with the matched columns.
    fn sql(&self, size: usize, computed: Computed) -> String {
        let Query { table, by, .. } = self;
        let columns = match computed {
            Computed::Asked => &self.columns,
            Computed::Blank => &self.blank,
        };
        let mut sql = format!("select {columns} from {table} where ");
        match self.width {
            1 => {
                let _ = write!(sql, "{by} in (");
                list(&mut sql, size, "?");
            }
            width => {
                let tuple = format!("({})", vec!["?"; width].join(","));
                let _ = write!(sql, "({by}) in (values ");
                list(&mut sql, size, &tuple);
            }
        }
        sql.push(')');
        if let Some(page) = &self.page {
            let PageQuery {
                condition,
                order,
                limit,
                ..
            } = page;
            let _ = write!(sql, "{condition} order by {order} limit {limit}");
        }
        sql
    }
}

/// Whether expressions are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Computed {
    Asked,
    Blank,
}

fn blanked(columns: &[String]) -> String {
    let spelled = columns.iter().map(|column| match Expression::of_column(column) {
        Some(_) => "x''".to_owned(),
        None => quoted(column),
    });
    spelled.collect::<Vec<_>>().join(", ")
}

impl PageQuery {
    fn new(table: &TableSchema, page: &Page) -> Result<Self> {
        let mut bound = Vec::new();
        let condition = match &page.after {
            None => String::new(),
            Some(after) => {
                let kinds = kinds(table, &page.key)?;
                format!(" and {}", comes_after(&page.key, &kinds, after, &mut bound))
            }
        };
        Ok(PageQuery {
            condition,
            bound,
            order: quoted_list(&page.key),
            limit: page.limit,
        })
    }
}

/// The values that a matched column was asked for.
///
/// SQLite compares by affinity: asked for the integer 5, a text column answers with `'5'`. The caller joins by equal
/// values, so it gets the form it asked with.
struct Asked {
    /// Which of the matched columns it is.
    at: usize,
    /// The kinds of value it was asked for, as bits. Nearly always one, and nearly always that of the answer.
    kinds: u8,
    by_text: Option<HashMap<String, Value>>,
}

impl Asked {
    fn new<'a>(at: usize, values: impl Iterator<Item = &'a Value>) -> Self {
        Asked {
            at,
            kinds: values.fold(0, |kinds, value| kinds | kind_bit(value)),
            by_text: None,
        }
    }

    fn form(&mut self, value: Value, tuples: &[Bound], width: usize) -> Value {
        if self.kinds & kind_bit(&value) != 0 {
            return value;
        }
        let at = self.at;
        let by_text = self.by_text.get_or_insert_with(|| {
            let mut by_text = HashMap::new();
            for tuple in tuples.chunks_exact(width) {
                let asked = tuple[at].value();
                by_text.entry(asked.to_string()).or_insert_with(|| asked.clone());
            }
            by_text
        });
        by_text.get(&value.to_string()).cloned().unwrap_or(value)
    }
}

fn kind_bit(value: &Value) -> u8 {
    match value {
        Value::Null => 1,
        Value::Bool(_) => 1 << 1,
        Value::Int(_) => 1 << 2,
        Value::Double(_) => 1 << 3,
        Value::Decimal(_) => 1 << 4,
        Value::Text(_) => 1 << 5,
        Value::Bytes(_) => 1 << 6,
        Value::Json(_) => 1 << 7,
    }
}

/// The tuples to match, one after the other, in every form in which they may be stored. Beyond one statement's worth
/// they are made distinct, because a statement only does so for its own.
fn tuples(values: &[Vec<Value>], kinds: &[ColumnKind]) -> Vec<Bound> {
    let mut flat = Vec::with_capacity(values.len() * kinds.len());
    let mut seen = HashSet::new();
    let typeless = kinds.contains(&ColumnKind::Any);
    for tuple in values {
        if values.len() > CHUNK && !seen.insert(tuple) {
            continue;
        }
        if !typeless {
            flat.extend(
                tuple
                    .iter()
                    .zip(kinds)
                    .map(|(value, kind)| Bound::new(value.clone(), *kind)),
            );
            continue;
        }
        let mut all: Vec<Vec<Bound>> = vec![Vec::new()];
        for (value, kind) in tuple.iter().zip(kinds) {
            let forms: Vec<Value> = value::forms(value, *kind).collect();
            all = all
                .iter()
                .flat_map(|start| {
                    forms.iter().map(|form| {
                        let next = Bound::new(form.clone(), *kind);
                        start.iter().cloned().chain([next]).collect()
                    })
                })
                .collect();
        }
        flat.extend(all.into_iter().flatten());
    }
    flat
}

fn kinds(table: &TableSchema, names: &[String]) -> Result<Vec<ColumnKind>> {
    let kind = |name: &String| match table.column(name) {
        Some(column) => Ok(column.kind),
        None if Expression::of_column(name).is_some() => Ok(ColumnKind::Any),
        None => Err(schema_changed(format!("no such column: `{}.{name}`", table.name))),
    };
    names.iter().map(kind).collect()
}

fn list(sql: &mut String, size: usize, item: &str) {
    sql.reserve(size * (item.len() + 1));
    for at in 0..size {
        if at > 0 {
            sql.push(',');
        }
        sql.push_str(item);
    }
}

fn bind<'a>(
    statement: &mut Statement<'_>,
    values: impl IntoIterator<Item = &'a Bound>,
) -> rusqlite::Result<()> {
    for (at, value) in values.into_iter().enumerate() {
        statement.raw_bind_parameter(at + 1, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rusqlite::Connection;

    use super::*;

    fn plan(connection: &Connection, sql: &str) -> String {
        let mut statement = connection.prepare(&format!("explain query plan {sql}")).unwrap();
        let steps = statement
            .raw_query()
            .mapped(|row| row.get::<_, String>(3))
            .collect::<rusqlite::Result<Vec<_>>>();
        steps.unwrap().join("; ")
    }

    #[test]
    fn every_statement_uses_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "create table r (id integer primary key, fk integer, code text collate nocase unique, note text);
                 create index r_fk on r (fk);
                 create table w (a integer, b text, c integer, primary key (a, b, c)) without rowid;
                 create table n (a integer, b text, role text, primary key (a, b, role));
                 create index n_b on n (b);",
            )
            .unwrap();
        let schema = Schema::read(&connection).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let fetches: [(&str, &[&str]); 8] = [
            ("r", &["id"]),
            ("r", &["fk"]),
            ("r", &["code"]),
            ("w", &["a"]),
            ("w", &["a", "b"]),
            ("w", &["c", "a", "b"]),
            ("n", &["a", "b", "role"]),
            ("n", &["b"]),
        ];
        for (table, by) in fetches {
            for size in SIZES {
                let values = vec![by.iter().map(|_| Value::Int(1)).collect::<Vec<_>>(); 2];
                let mut wanted = Fetch {
                    table: table.into(),
                    columns: names(by),
                    by: names(by),
                    values,
                    page: None,
                };
                let sql = Query::new(&schema, &wanted).unwrap().sql(size, Computed::Asked);
                let steps = plan(&connection, &sql);
                assert!(
                    steps.contains(&format!("SEARCH {table} USING")),
                    "{table} by {by:?}: {steps}"
                );
                assert!(
                    !steps.contains(&format!("SCAN {table}")),
                    "{table} by {by:?}: {steps}"
                );
                let key = schema.table(table).unwrap().primary_key.clone();
                wanted.page = Some(Page {
                    after: Some(Key::new(vec![Value::Int(1); key.len()])),
                    key,
                    limit: 10,
                });
                let steps = plan(
                    &connection,
                    &Query::new(&schema, &wanted).unwrap().sql(size, Computed::Asked),
                );
                assert!(
                    steps.contains(&format!("SEARCH {table} USING")),
                    "page of {table} by {by:?}: {steps}"
                );
            }
        }
        for table in ["r", "w", "n"] {
            let table = schema.table(table).unwrap();
            let kinds = kinds(table, &table.primary_key).unwrap();
            let after = Key::new(vec![Value::Int(1); kinds.len()]);
            let (sql, _) = scan_sql(table, &table.primary_key, &kinds, None, Some(&after), 10);
            let steps = plan(&connection, &sql);
            assert!(
                steps.starts_with("SEARCH") && !steps.contains("TEMP B-TREE"),
                "{sql}: {steps}"
            );
        }
    }
}
