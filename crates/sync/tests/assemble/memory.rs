//! A source in memory. It checks what the contract of a fetch promises it, returns rows in a different order each
//! time, and delivers changes as images of rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use instep_core::{
    Change, ChangeFeed, Column, Error, Expression, Fetch, Finding, Former, Key, Means, Position, Result,
    RowChange, RowKey, RowReader, Rows, Snapshot, Source, TableName, TableSchema, Value, Watched,
};

/// All rows of all tables.
pub(crate) type Tables = BTreeMap<TableName, Table>;

/// A table and its rows, in key order.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: TableSchema,
    pub(crate) rows: Arc<BTreeMap<Key, Vec<Value>>>,
    index: Arc<Mutex<Index>>,
}

/// For some columns, the rows by their values.
type Index = HashMap<Vec<usize>, Arc<HashMap<Vec<Value>, Vec<Key>>>>;

impl Table {
    pub(crate) fn new(schema: TableSchema) -> Self {
        Table {
            schema,
            rows: Arc::default(),
            index: Arc::default(),
        }
    }

    /// Where a column stands in a row.
    pub(crate) fn column(&self, name: &str) -> usize {
        let found = self.schema.columns.iter().position(|column| column.name == name);
        found.unwrap_or_else(|| panic!("no column {name} in {}", self.schema.name))
    }

    pub(crate) fn key_of(&self, row: &[Value]) -> Key {
        let parts = self
            .schema
            .primary_key
            .iter()
            .map(|name| row[self.column(name)].clone());
        Key::new(parts.collect::<Vec<_>>())
    }

    pub(crate) fn put(&mut self, row: Vec<Value>) -> Option<Vec<Value>> {
        assert_eq!(row.len(), self.schema.columns.len());
        self.index = Arc::default();
        let key = self.key_of(&row);
        Arc::make_mut(&mut self.rows).insert(key, row)
    }

    /// A column of a row. The only expressions are whether a column is true, which fails for texts.
    pub(crate) fn value(&self, row: &[Value], column: &str) -> Value {
        let Some(sql) = Expression::of_column(column) else {
            return row[self.column(column)].clone();
        };
        let name = sql.trim_start_matches('(').trim_end_matches(") is true");
        match &row[self.column(name)] {
            Value::Int(integer) => Value::Bool(*integer != 0),
            Value::Null => Value::Bool(false),
            _ => Value::Bytes([].into()),
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Vec<Value>> {
        self.index = Arc::default();
        Arc::make_mut(&mut self.rows).remove(key)
    }

    fn indexed(&self, by: &[usize]) -> Arc<HashMap<Vec<Value>, Vec<Key>>> {
        let mut index = self.index.lock().unwrap();
        let rows = index.entry(by.to_vec()).or_insert_with(|| {
            let mut found: HashMap<Vec<Value>, Vec<Key>> = HashMap::new();
            for (key, row) in &*self.rows {
                let tuple = by.iter().map(|at| row[*at].clone()).collect();
                found.entry(tuple).or_default().push(key.clone());
            }
            Arc::new(found)
        });
        rows.clone()
    }
}

/// A row to write or to remove.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Inserts a row, in the place of one that has its key.
    Put(TableName, Vec<Value>),
    /// Gives the row with this key new values, perhaps another key; a row in the way is replaced.
    Update(TableName, Key, Vec<Value>),
    Delete(TableName, Key),
}

/// What an image of a row holds besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// The watched columns and those of the key, as a trigger writes them.
    WithKey,
    /// The watched columns, which are never columns of the key.
    Watched,
    /// As above, and there are no former images: of a row that is gone, only its key is known.
    New,
}

/// A database in memory.
pub(crate) struct Memory {
    tables: Mutex<Tables>,
    shuffled: Arc<AtomicU64>,
    /// How often rows were fetched, and how long that took.
    pub(crate) fetches: Arc<Mutex<(usize, Duration)>>,
    pub(crate) images: Images,
    /// Values are compared as Postgres does: numbers by what they are worth, citext without its case.
    pub(crate) compares_worth: bool,
    /// No view of it can be opened.
    pub(crate) refuses: Arc<std::sync::atomic::AtomicBool>,
    /// Tables that are gone for now.
    pub(crate) gone: Arc<Mutex<BTreeSet<TableName>>>,
}

impl Memory {
    pub(crate) fn new(schemas: Vec<TableSchema>) -> Self {
        let tables = schemas
            .into_iter()
            .map(|schema| (schema.name.clone(), Table::new(schema)));
        Memory {
            tables: Mutex::new(tables.collect()),
            shuffled: Arc::new(AtomicU64::new(1)),
            fetches: Arc::default(),
            images: Images::WithKey,
            compares_worth: false,
            refuses: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// All rows as they are now.
    pub(crate) fn tables(&self) -> Tables {
        self.tables.lock().unwrap().clone()
    }

    /// Writes in one transaction, and returns its changes.
    pub(crate) fn commit(&self, watched: &[Watched], writes: Vec<Write>) -> Vec<Change> {
        let mut tables = self.tables.lock().unwrap();
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put(name, row) => {
                    let table = tables.get_mut(&name).unwrap();
                    let old = table.put(row.clone());
                    self.images(watched, table, old.as_deref(), None, &mut changes);
                    self.images(watched, table, None, Some(&row), &mut changes);
                }
                Write::Update(name, key, row) => {
                    let table = tables.get_mut(&name).unwrap();
                    let Some(old) = table.remove(&key) else { continue };
                    let replaced = table.put(row.clone());
                    self.images(watched, table, replaced.as_deref(), None, &mut changes);
                    self.images(watched, table, Some(&old), Some(&row), &mut changes);
                }
                Write::Delete(name, key) => {
                    let table = tables.get_mut(&name).unwrap();
                    let old = table.remove(&key);
                    self.images(watched, table, old.as_deref(), None, &mut changes);
                }
            }
        }
        changes
    }

    /// The images of a changed row: the old one too, when key or watched columns differ.
    fn images(
        &self,
        watched: &[Watched],
        table: &Table,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
        changes: &mut Vec<Change>,
    ) {
        let Some(wanted) = watched.iter().find(|watched| watched.table == table.schema.name) else {
            return;
        };
        if self.images == Images::New {
            let moves = !wanted.columns.is_empty();
            let before = old.map(|row| table.key_of(row));
            let after = new.map(|row| table.key_of(row));
            let change = |key: Key, former_unknown, columns| {
                Change::Row(RowChange {
                    row: RowKey {
                        table: table.schema.name.clone(),
                        key,
                    },
                    former_unknown,
                    columns,
                })
            };
            let was_there = before.is_some();
            if let Some(key) = before.filter(|key| Some(key) != after.as_ref()) {
                changes.push(change(key, moves, Vec::new()));
            }
            if let (Some(key), Some(row)) = (after, new) {
                let value = |name: &String| (name.clone(), row[table.column(name)].clone());
                changes.push(change(
                    key,
                    moves && was_there,
                    wanted.columns.iter().map(value).collect(),
                ));
            }
            return;
        }
        let image = |row: &[Value]| {
            let key = wanted.key.iter().filter(|_| self.images == Images::WithKey);
            let names = key.chain(&wanted.columns);
            Change::Row(RowChange {
                row: RowKey {
                    table: table.schema.name.clone(),
                    key: table.key_of(row),
                },
                former_unknown: false,
                columns: names
                    .map(|name| (name.clone(), row[table.column(name)].clone()))
                    .collect(),
            })
        };
        let (old, new) = (old.map(image), new.map(image));
        if old != new {
            changes.extend(old);
        }
        changes.extend(new);
    }
}

#[async_trait]
impl Source for Memory {
    async fn follow(&self, _: &[Watched], _: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
        panic!("changes are handed over by the tests")
    }

    async fn head(&self) -> Result<Option<Position>> {
        Ok(None)
    }

    fn reached(&self, _: &Position, _: &Position) -> bool {
        true
    }

    fn reader(&self) -> &dyn RowReader {
        self
    }

    async fn check(&self, _: &[Watched]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn former(&self, watched: &[Watched]) -> Result<Vec<Former>> {
        let means = match self.images {
            Images::WithKey | Images::Watched => Means::Brought("images".to_owned()),
            Images::New => Means::Recorded,
        };
        let former = |watched: &Watched| Former {
            table: watched.table.clone(),
            means: means.clone(),
            cheaper: None,
        };
        Ok(watched.iter().map(former).collect())
    }
}

#[async_trait]
impl RowReader for Memory {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        Ok(self.tables().into_values().map(|table| table.schema).collect())
    }

    async fn describe(&self, _: &TableName, expression: &Expression) -> Result<Column> {
        panic!("nobody describes {expression}")
    }

    async fn scan(
        &self,
        table: &TableSchema,
        condition: Option<&Expression>,
        after: Option<&Key>,
        n: usize,
    ) -> Result<Vec<Key>> {
        let tables = self.tables();
        let table = &tables[&table.name];
        let mut keys = Vec::new();
        for (key, row) in table.rows.iter() {
            if after.is_some_and(|after| key <= after) || keys.len() == n {
                continue;
            }
            match condition.map(|condition| table.value(row, &condition.column())) {
                None | Some(Value::Bool(true)) => keys.push(key.clone()),
                Some(Value::Bytes(_)) => {
                    return Err(Error::poison("uncomputed", "a row fails the condition"));
                }
                Some(_) => {}
            }
        }
        Ok(keys)
    }

    async fn count(&self, table: &TableName) -> Result<u64> {
        Ok(self.tables()[table].rows.len() as u64)
    }

    async fn snapshot(&self, _: Option<&Position>) -> Result<Box<dyn Snapshot>> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Error::fatal("password_refused", "the password is refused"));
        }
        Ok(Box::new(View {
            tables: self.tables(),
            shuffled: self.shuffled.clone(),
            fetches: self.fetches.clone(),
            compares_worth: self.compares_worth,
            gone: self.gone.lock().unwrap().clone(),
        }))
    }
}

struct View {
    tables: Tables,
    shuffled: Arc<AtomicU64>,
    fetches: Arc<Mutex<(usize, Duration)>>,
    compares_worth: bool,
    gone: BTreeSet<TableName>,
}

/// What a value is worth to a column that is declared so. Small numbers only.
fn worth(value: &Value, declared: &str) -> String {
    match value {
        Value::Int(integer) => format!("number {}", *integer as f64 + 0.0),
        Value::Double(double) => format!("number {}", double + 0.0),
        Value::Decimal(text) => format!("number {}", text.parse::<f64>().unwrap() + 0.0),
        Value::Text(text) if declared == "citext" => format!("text {}", text.to_lowercase()),
        other => format!("{} {other}", other.kind()),
    }
}

#[async_trait]
impl Snapshot for View {
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
        let start = Instant::now();
        if self.gone.contains(&wanted.table) {
            let message = format!("no such table: `{}`", wanted.table);
            return Err(Error::transient("schema_changed", message));
        }
        let table = &self.tables[&wanted.table];
        assert!(!wanted.columns.is_empty() && !wanted.by.is_empty(), "{wanted:?}");
        assert!(!wanted.values.is_empty(), "a fetch of nothing: {wanted:?}");
        let distinct: BTreeSet<_> = wanted.values.iter().collect();
        assert_eq!(
            distinct.len(),
            wanted.values.len(),
            "tuples are distinct: {wanted:?}"
        );
        for tuple in &wanted.values {
            assert!(
                tuple.len() == wanted.by.len() && !tuple.iter().any(Value::is_null),
                "{wanted:?}"
            );
        }
        let places = |names: &[String]| names.iter().map(|name| table.column(name)).collect::<Vec<_>>();
        let by = places(&wanted.by);
        let index = table.indexed(&by);
        let of_worth = |tuple: &[Value]| -> Vec<String> {
            let declared = by.iter().map(|at| &*table.schema.columns[*at].declared);
            tuple
                .iter()
                .zip(declared)
                .map(|(value, as_declared)| worth(value, as_declared))
                .collect()
        };
        let worths: BTreeSet<_> = wanted.values.iter().map(|tuple| of_worth(tuple)).collect();
        let mut keys: Vec<&Key> = if self.compares_worth {
            let tuple = |row: &[Value]| by.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
            let matching = |(_, row): &(&Key, &Vec<Value>)| worths.contains(&of_worth(&tuple(row)));
            table.rows.iter().filter(matching).map(|(key, _)| key).collect()
        } else {
            let found = wanted.values.iter().filter_map(|tuple| index.get(tuple));
            found.flatten().collect()
        };
        match &wanted.page {
            Some(page) => {
                assert_eq!(page.key, table.schema.primary_key);
                assert!(page.limit > 0);
                keys.sort();
                keys.retain(|key| page.after.as_ref().is_none_or(|after| *key > after));
                keys.truncate(page.limit);
            }
            None => shuffle(&mut keys, self.shuffled.fetch_add(1, Ordering::Relaxed)),
        }
        let mut rows = Rows::new(wanted.columns.len());
        for key in keys {
            let row = &table.rows[key];
            let values = wanted.columns.iter().map(|column| table.value(row, column));
            values.for_each(|value| rows.push(value));
        }
        let mut fetches = self.fetches.lock().unwrap();
        *fetches = (fetches.0 + 1, fetches.1 + start.elapsed());
        Ok(rows)
    }
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(at, (state % (at as u64 + 1)) as usize);
    }
}
