//! A source in memory. It checks what the contract of a fetch promises it, returns rows in a different order each
//! time, and delivers changes as images of rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use instep_core::{
    Change, ChangeFeed, Fetch, Finding, Key, Position, Result, RowChange, RowKey, RowReader, Rows, Snapshot,
    Source, TableName, TableSchema, Value, Watched,
};

/// All rows of all tables.
pub(super) type Tables = BTreeMap<TableName, Table>;

/// A table and its rows, in key order.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) schema: TableSchema,
    pub(super) rows: Arc<BTreeMap<Key, Vec<Value>>>,
    index: Arc<Mutex<Index>>,
}

/// For some columns, the rows by their values.
type Index = HashMap<Vec<usize>, Arc<HashMap<Vec<Value>, Vec<Key>>>>;

impl Table {
    pub(super) fn new(schema: TableSchema) -> Self {
        Table {
            schema,
            rows: Arc::default(),
            index: Arc::default(),
        }
    }

    /// Where a column stands in a row.
    pub(super) fn column(&self, name: &str) -> usize {
        let found = self.schema.columns.iter().position(|column| column.name == name);
        found.unwrap_or_else(|| panic!("no column {name} in {}", self.schema.name))
    }

    pub(super) fn key_of(&self, row: &[Value]) -> Key {
        let parts = self
            .schema
            .primary_key
            .iter()
            .map(|name| row[self.column(name)].clone());
        Key::new(parts.collect::<Vec<_>>())
    }

    pub(super) fn put(&mut self, row: Vec<Value>) -> Option<Vec<Value>> {
        assert_eq!(row.len(), self.schema.columns.len());
        self.index = Arc::default();
        let key = self.key_of(&row);
        Arc::make_mut(&mut self.rows).insert(key, row)
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Vec<Value>> {
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
pub(super) enum Write {
    /// Inserts a row, in the place of one that has its key.
    Put(TableName, Vec<Value>),
    /// Gives the row with this key new values, perhaps another key; a row in the way is replaced.
    Update(TableName, Key, Vec<Value>),
    Delete(TableName, Key),
}

/// What an image of a row holds besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    /// The watched columns and those of the key, as a trigger writes them.
    WithKey,
    /// The watched columns, which are never columns of the key.
    Watched,
}

/// A database in memory.
pub(super) struct Memory {
    tables: Mutex<Tables>,
    shuffled: Arc<AtomicU64>,
    /// How often rows were fetched, and how long that took.
    pub(super) fetches: Arc<Mutex<(usize, Duration)>>,
    pub(super) images: Images,
}

impl Memory {
    pub(super) fn new(schemas: Vec<TableSchema>) -> Self {
        let tables = schemas
            .into_iter()
            .map(|schema| (schema.name.clone(), Table::new(schema)));
        Memory {
            tables: Mutex::new(tables.collect()),
            shuffled: Arc::new(AtomicU64::new(1)),
            fetches: Arc::default(),
            images: Images::WithKey,
        }
    }

    /// All rows as they are now.
    pub(super) fn tables(&self) -> Tables {
        self.tables.lock().unwrap().clone()
    }

    /// Writes in one transaction, and returns its changes.
    pub(super) fn commit(&self, watched: &[Watched], writes: Vec<Write>) -> Vec<Change> {
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
        let image = |row: &[Value]| {
            let key = wanted.key.iter().filter(|_| self.images == Images::WithKey);
            let names = key.chain(&wanted.columns);
            Change::Row(RowChange {
                row: RowKey {
                    table: table.schema.name.clone(),
                    key: table.key_of(row),
                },
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
}

#[async_trait]
impl RowReader for Memory {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        Ok(self.tables().into_values().map(|table| table.schema).collect())
    }

    async fn scan(&self, table: &TableSchema, after: Option<&Key>, n: usize) -> Result<Vec<Key>> {
        let tables = self.tables();
        let keys = tables[&table.name]
            .rows
            .keys()
            .filter(|key| after.is_none_or(|after| *key > after));
        Ok(keys.take(n).cloned().collect())
    }

    async fn count(&self, table: &TableName) -> Result<u64> {
        Ok(self.tables()[table].rows.len() as u64)
    }

    async fn snapshot(&self, _: Option<&Position>) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(View {
            tables: self.tables(),
            shuffled: self.shuffled.clone(),
            fetches: self.fetches.clone(),
        }))
    }
}

struct View {
    tables: Tables,
    shuffled: Arc<AtomicU64>,
    fetches: Arc<Mutex<(usize, Duration)>>,
}

#[async_trait]
impl Snapshot for View {
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
        let start = Instant::now();
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
        let (by, columns) = (places(&wanted.by), places(&wanted.columns));
        let index = table.indexed(&by);
        let mut keys: Vec<&Key> = wanted
            .values
            .iter()
            .filter_map(|tuple| index.get(tuple))
            .flatten()
            .collect();
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
        let mut rows = Rows::new(columns.len());
        for key in keys {
            let row = &table.rows[key];
            columns.iter().for_each(|at| rows.push(row[*at].clone()));
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
