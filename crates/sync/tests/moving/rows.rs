//! The rows: a source and a builder in one. Document = f(row), so the end of every test is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use instep_core::{
    Builder, Built, Change, ChangeBatch, ChangeFeed, CollectionName, Column, DocId, DocKey, Document, Error,
    Expression, FanOut, Finding, Former, Key, Language, Position, Readers, Result, RowChange, RowKey,
    RowReader, Snapshot, Source, SourceName, TableName, TableSchema, Touch, Value, Watched,
};
use tokio::sync::Notify;

/// The collection of all tests.
pub(crate) const COLLECTION: &str = "car";

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) value: u64,
    pub(crate) reader: String,
    /// It cannot be built.
    pub(crate) poison: bool,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<String, Row>,
    /// Every change ever made, in order; a position is how many of them were handled.
    changes: Vec<Change>,
    acknowledged: usize,
    failing: Vec<Error>,
    fail_builds: u32,
}

/// A database of one table.
#[derive(Default)]
pub(crate) struct Rows {
    state: Mutex<State>,
    changed: Notify,
    /// How long a build takes, in microseconds.
    pub(crate) build_us: std::sync::atomic::AtomicU64,
    /// Documents have one of three languages, by their values.
    pub(crate) speaks: std::sync::atomic::AtomicBool,
}

impl Rows {
    pub(crate) fn put(&self, id: &str, value: u64) {
        let reader = format!("r{}", value % 3);
        self.write(
            id,
            Some(Row {
                value,
                reader,
                poison: false,
            }),
        );
    }

    pub(crate) fn poison(&self, id: &str, value: u64) {
        self.write(
            id,
            Some(Row {
                value,
                reader: String::new(),
                poison: true,
            }),
        );
    }

    pub(crate) fn remove(&self, id: &str) {
        self.write(id, None);
    }

    fn write(&self, id: &str, row: Option<Row>) {
        self.write_unseen(id, row);
        let mut state = self.state.lock().unwrap();
        let row = RowKey {
            table: TableName::from(COLLECTION),
            key: Key::new(vec![Value::text(id)]),
        };
        state.changes.push(Change::Row(RowChange {
            row,
            columns: vec![],
            former_unknown: false,
        }));
        drop(state);
        self.changed.notify_waiters();
    }

    /// Writes without a change: what a source that lost its triggers does.
    pub(crate) fn write_unseen(&self, id: &str, row: Option<Row>) {
        let mut state = self.state.lock().unwrap();
        match row {
            Some(row) => state.rows.insert(id.to_owned(), row),
            None => state.rows.remove(id),
        };
    }

    /// A change of the whole table.
    pub(crate) fn touch_table(&self) {
        self.state
            .lock()
            .unwrap()
            .changes
            .push(Change::Table(COLLECTION.into()));
        self.changed.notify_waiters();
    }

    /// A change that reaches every row that there is, as a fan-out.
    pub(crate) fn touch_all(&self) {
        let row = RowKey {
            table: TableName::from("maker"),
            key: Key::new(vec![Value::Int(1)]),
        };
        self.state.lock().unwrap().changes.push(Change::Row(RowChange {
            row,
            columns: vec![],
            former_unknown: false,
        }));
        self.changed.notify_waiters();
    }

    /// The next calls of the feed or the router fail so.
    pub(crate) fn fail_feed(&self, error: Error) {
        self.state.lock().unwrap().failing.push(error);
        self.changed.notify_waiters();
    }

    /// The next `n` builds fail for a moment.
    pub(crate) fn fail_builds(&self, n: u32) {
        self.state.lock().unwrap().fail_builds = n;
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.state.lock().unwrap().acknowledged
    }

    pub(crate) fn changes(&self) -> usize {
        self.state.lock().unwrap().changes.len()
    }

    /// What every set has to hold.
    pub(crate) fn documents(&self) -> BTreeMap<String, Document> {
        let state = self.state.lock().unwrap();
        let good = state.rows.iter().filter(|(_, row)| !row.poison);
        good.map(|(id, row)| (id.clone(), self.document(id, row)))
            .collect()
    }

    pub(crate) fn poisoned(&self) -> BTreeSet<String> {
        let state = self.state.lock().unwrap();
        state
            .rows
            .iter()
            .filter(|(_, row)| row.poison)
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn document(&self, id: &str, row: &Row) -> Document {
        let mut document = document(id, row);
        if self.speaks.load(std::sync::atomic::Ordering::Relaxed) {
            document.language = ["en", "sv", "unspecified"][row.value as usize % 3].into();
        }
        document
    }

    fn failure(&self) -> Result<()> {
        match self.state.lock().unwrap().failing.pop() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

pub(crate) fn document(id: &str, row: &Row) -> Document {
    Document {
        id: DocId::parse(id).unwrap(),
        language: Language::from("en"),
        readers: Readers::only(vec![row.reader.clone()]),
        source: format!("{{\"value\":{}}}", row.value).into(),
    }
}

pub(crate) fn key(id: &str) -> DocKey {
    DocKey {
        collection: COLLECTION.into(),
        id: DocId::parse(id).unwrap(),
    }
}

#[async_trait]
impl Builder for Rows {
    async fn affected(&self, _: &SourceName, changes: &[Change], _: &Position) -> Result<Vec<Touch>> {
        self.failure()?;
        let mut keys = BTreeSet::new();
        let mut touches = Vec::new();
        for change in changes {
            match change {
                Change::Row(change) if change.row.table.as_str() == COLLECTION => {
                    keys.insert(key(&change.row.key.parts()[0].to_string()));
                }
                Change::Row(_) => touches.push(Touch::FanOut(FanOut {
                    collection: COLLECTION.into(),
                    fingerprint: String::new(),
                    node: 1,
                    values: vec![],
                    after: None,
                })),
                Change::Table(_) => touches.push(Touch::Scan(COLLECTION.into())),
            }
        }
        touches.dedup();
        touches.extend(keys.into_iter().map(Touch::Document));
        Ok(touches)
    }

    async fn expand(&self, fan_out: &FanOut) -> Result<(Vec<Touch>, Option<FanOut>)> {
        self.failure()?;
        let state = self.state.lock().unwrap();
        let after = fan_out
            .after
            .as_ref()
            .map(|key| key.parts()[0].to_string())
            .unwrap_or_default();
        let ids: Vec<_> = state
            .rows
            .keys()
            .filter(|id| **id > after)
            .take(10)
            .cloned()
            .collect();
        let left = ids.last().filter(|_| ids.len() == 10).map(|last| FanOut {
            after: Some(Key::new(vec![Value::text(last)])),
            ..fan_out.clone()
        });
        Ok((ids.iter().map(|id| Touch::Document(key(id))).collect(), left))
    }

    async fn build(&self, _: &CollectionName, ids: &[DocId]) -> Result<Vec<Built>> {
        let read = {
            let mut state = self.state.lock().unwrap();
            if state.fail_builds > 0 {
                state.fail_builds -= 1;
                return Err(Error::transient("source_away", "the source is away"));
            }
            ids.iter()
                .map(|id| state.rows.get(id.as_str()).cloned())
                .collect::<Vec<_>>()
        };
        // The rows may change while the documents are made of them.
        let us = self.build_us.load(std::sync::atomic::Ordering::Relaxed);
        if us > 0 {
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
        let built = ids.iter().zip(read).map(|(id, row)| match row {
            None => Built::Gone,
            Some(row) if row.poison => Built::Rejected(
                Error::poison("value_misfit", "field `value` does not fit"),
                vec![],
            ),
            Some(row) => Built::Document(self.document(id.as_str(), &row), vec![]),
        });
        Ok(built.collect())
    }

    async fn scan(&self, _: &CollectionName, after: Option<&DocId>, n: usize) -> Result<Vec<DocId>> {
        let state = self.state.lock().unwrap();
        let after = after.map_or("", DocId::as_str);
        let ids = state.rows.keys().filter(|id| id.as_str() > after).take(n);
        Ok(ids.map(|id| DocId::parse(id).unwrap()).collect())
    }

    async fn count(&self, _: &CollectionName) -> Result<u64> {
        Ok(self.state.lock().unwrap().rows.len() as u64)
    }
}

/// The source side, for followers. It is shared through an `Arc` of its own.
pub(crate) struct RowsSource(pub(crate) std::sync::Arc<Rows>);

struct Feed {
    rows: std::sync::Arc<Rows>,
    at: usize,
    /// Nothing was delivered yet: the position is, so that it becomes durable.
    fresh: bool,
}

#[async_trait]
impl Source for RowsSource {
    async fn follow(&self, _: &[Watched], from: Option<&Position>) -> Result<Box<dyn ChangeFeed>> {
        self.0.failure()?;
        let at = match from {
            Some(position) => position.at.parse().unwrap(),
            None => self.0.changes(),
        };
        Ok(Box::new(Feed {
            rows: self.0.clone(),
            at,
            fresh: from.is_none(),
        }))
    }

    async fn head(&self) -> Result<Option<Position>> {
        Ok(Some(Position {
            identity: "rows".into(),
            at: self.0.changes().to_string(),
        }))
    }

    fn reached(&self, position: &Position, head: &Position) -> bool {
        let at = |position: &Position| position.at.parse::<usize>().unwrap();
        at(position) >= at(head)
    }

    fn reader(&self) -> &dyn RowReader {
        self
    }

    async fn check(&self, _: &[Watched]) -> Result<Vec<Finding>> {
        Ok(vec![])
    }

    async fn former(&self, _: &[Watched]) -> Result<Vec<Former>> {
        Ok(vec![])
    }
}

#[async_trait]
impl RowReader for RowsSource {
    async fn tables(&self) -> Result<Vec<TableSchema>> {
        Ok(vec![])
    }

    async fn describe(&self, _: &TableName, _: &Expression) -> Result<Column> {
        Err(Error::fatal(
            "not_used",
            "the tests of this source use no expressions",
        ))
    }

    async fn scan(
        &self,
        _: &TableSchema,
        _: Option<&Expression>,
        _: Option<&Key>,
        _: usize,
    ) -> Result<Vec<Key>> {
        Ok(vec![])
    }

    async fn count(&self, _: &TableName) -> Result<u64> {
        Ok(0)
    }

    async fn snapshot(&self, _: Option<&Position>) -> Result<Box<dyn Snapshot>> {
        Err(Error::fatal(
            "not_used",
            "the builder of these tests reads the rows itself",
        ))
    }
}

#[async_trait]
impl ChangeFeed for Feed {
    async fn next(&mut self) -> Result<ChangeBatch> {
        loop {
            let changed = self.rows.changed.notified();
            self.rows.failure()?;
            let changes: Vec<Change> = self.rows.state.lock().unwrap().changes[self.at..]
                .iter()
                .take(3)
                .cloned()
                .collect();
            if self.fresh || !changes.is_empty() {
                self.fresh = false;
                self.at += changes.len();
                let upto = Position {
                    identity: "rows".into(),
                    at: self.at.to_string(),
                };
                return Ok(ChangeBatch {
                    changes,
                    upto,
                    committed_ms: Some(0),
                });
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
    }

    async fn acknowledge(&mut self, upto: &Position) -> Result<()> {
        self.rows.state.lock().unwrap().acknowledged = upto.at.parse().unwrap();
        Ok(())
    }
}
