//! Which documents a change touches: climbs from a touched row up the join tree to the root rows above it.
//!
//! A row names its parents by its own join columns; the rows above are looked up in the source, level by level, many
//! rows in one fetch. A row with more parents than [`FAN_OUT`] becomes a fan-out instead, and so does every row that is
//! left when a call has found its fill: memory never holds all that a change may reach.

use std::collections::{BTreeMap, BTreeSet};

use instep_core::{
    ColumnKind, DocId, DocKey, Equality, FanOut, Fetch, Key, NodeId, Page, Result, Snapshot, Touch, Value,
};

use crate::plan::Plan;

/// A row with more rows above it than this is expanded in chunks of as many, in the second lane.
pub(crate) const FAN_OUT: usize = 1_000;

/// So many times a fan-out's limit is what changes may reach directly …
const MOST_OF_CHANGES: usize = 100;

/// … and what one chunk of a fan-out may: a chunk keeps the live changes waiting.
const MOST_OF_A_CHUNK: usize = 10;

/// The most rows whose parents are looked up in one fetch.
const TOGETHER: usize = 500;

/// What was found: touched documents, and fan-outs.
pub(crate) struct Found {
    documents: BTreeSet<DocKey>,
    fan_outs: Vec<FanOut>,
    /// A row with more rows above it is fanned out.
    limit: usize,
    /// How many more rows may be reached before all others are fanned out.
    left: usize,
}

/// Tuples of a node's own join columns whose parents are still to be found, by node.
pub(crate) type Frontier = BTreeMap<NodeId, BTreeSet<Vec<Value>>>;

impl Found {
    /// What changes reach, with fan-outs of rows that have more than `limit` rows above them.
    pub(crate) fn by_changes(limit: usize) -> Self {
        Self::new(limit, MOST_OF_CHANGES)
    }

    /// What one chunk of a fan-out reaches.
    pub(crate) fn by_chunk(limit: usize) -> Self {
        Self::new(limit, MOST_OF_A_CHUNK)
    }

    fn new(limit: usize, times: usize) -> Self {
        Found {
            documents: BTreeSet::new(),
            fan_outs: Vec::new(),
            limit,
            left: limit.saturating_mul(times),
        }
    }

    pub(crate) fn root(&mut self, plan: &Plan, key: &Key) {
        self.documents.insert(DocKey {
            collection: plan.collection.name.clone(),
            id: DocId::naming(key),
        });
    }

    /// The documents in order, then the fan-outs.
    pub(crate) fn touches(self) -> impl Iterator<Item = Touch> {
        let documents = self.documents.into_iter().map(Touch::Document);
        documents.chain(self.fan_outs.into_iter().map(Touch::FanOut))
    }

    /// Climbs until the frontier is empty: from the deepest node up, so that each node's rows are looked up together.
    pub(crate) async fn climb(
        &mut self,
        plan: &Plan,
        snapshot: &mut dyn Snapshot,
        mut frontier: Frontier,
    ) -> Result<()> {
        while let Some((node, tuples)) = frontier.pop_last() {
            let step = Step::of(plan, node);
            let tuples: Vec<_> = tuples
                .into_iter()
                .filter(|tuple| !tuple.iter().any(Value::is_null))
                .collect();
            let (named, tuples): (Vec<_>, Vec<_>) =
                tuples.into_iter().partition(|tuple| step.names_the_root(tuple));
            named
                .into_iter()
                .for_each(|tuple| self.root(plan, &Key::new(tuple)));
            self.look_up(&step, snapshot, &tuples, &mut frontier).await?;
        }
        Ok(())
    }

    /// Finds the parents of these tuples, as many together as have at most `limit` of them.
    async fn look_up(
        &mut self,
        step: &Step<'_>,
        snapshot: &mut dyn Snapshot,
        tuples: &[Vec<Value>],
        frontier: &mut Frontier,
    ) -> Result<()> {
        let mut waiting = tuples;
        let mut size = TOGETHER;
        while !waiting.is_empty() && self.left > 0 {
            let (now, later) = waiting.split_at(size.min(waiting.len()));
            let rows = snapshot
                .fetch(&step.fetch(now.to_vec(), None, self.limit + 1))
                .await?;
            if rows.len() <= self.limit {
                self.arrive(step, &rows, frontier);
                waiting = later;
                if rows.len() <= self.limit / 4 {
                    size = (size * 2).min(TOGETHER);
                }
            } else if now.len() == 1 {
                self.fan_outs.extend(now.iter().map(|tuple| step.fan_out(tuple)));
                waiting = later;
            } else {
                size = now.len() / 2;
            }
        }
        self.fan_outs
            .extend(waiting.iter().map(|tuple| step.fan_out(tuple)));
        Ok(())
    }

    /// One chunk of a fan-out. Returns what is left of it.
    pub(crate) async fn expand(
        &mut self,
        plan: &Plan,
        snapshot: &mut dyn Snapshot,
        fan_out: &FanOut,
    ) -> Result<Option<FanOut>> {
        let step = Step::of(plan, fan_out.node);
        let rows = snapshot
            .fetch(&step.fetch(vec![fan_out.values.clone()], fan_out.after.clone(), self.limit))
            .await?;
        let mut frontier = Frontier::new();
        self.arrive(&step, &rows, &mut frontier);
        self.climb(plan, snapshot, frontier).await?;
        let last = rows
            .len()
            .checked_sub(1)
            .filter(|_| rows.len() == self.limit)
            .map(|last| step.key(rows.row(last)));
        Ok(last.map(|after| FanOut {
            after: Some(after),
            ..fan_out.clone()
        }))
    }

    /// Rows of the parent were reached: touched documents, or rows to climb further from.
    fn arrive(&mut self, step: &Step<'_>, rows: &instep_core::Rows, frontier: &mut Frontier) {
        self.left = self.left.saturating_sub(rows.len());
        for row in rows.iter() {
            match step.parent {
                0 => self.root(step.plan, &step.key(row)),
                parent => {
                    let tuples = frontier.entry(parent).or_default();
                    tuples.insert(row[step.key.len()..].to_vec());
                }
            }
        }
    }
}

/// One level up: from a node to its parent.
struct Step<'a> {
    plan: &'a Plan,
    node: NodeId,
    parent: NodeId,
    by: Vec<String>,
    /// The parent's key, then its own join columns.
    columns: Vec<String>,
    key: Vec<String>,
}

impl<'a> Step<'a> {
    fn of(plan: &'a Plan, node: NodeId) -> Self {
        let nodes = &plan.collection.nodes;
        let parent = nodes[node].parent.expect("the root is never climbed from");
        let key = nodes[parent].key.clone();
        let columns = key.iter().cloned().chain(nodes[parent].own_columns()).collect();
        Step {
            plan,
            node,
            parent,
            by: nodes[node].parent_columns(),
            columns,
            key,
        }
    }

    /// Whether a tuple of the node's join columns is the root's key, spelled as the root's row spells it: no need to
    /// look anything up.
    fn names_the_root(&self, tuple: &[Value]) -> bool {
        if self.parent != 0 || self.by != self.key {
            return false;
        }
        let root = &self.plan.collection.root;
        let is_spelled_so = |(column, value): (&String, &Value)| {
            let column = root.column(column);
            match value {
                Value::Int(_) => column.is_none_or(|column| match column.kind {
                    ColumnKind::Integer | ColumnKind::Any | ColumnKind::Boolean => true,
                    ColumnKind::Double
                    | ColumnKind::Decimal
                    | ColumnKind::Text
                    | ColumnKind::Keyword
                    | ColumnKind::Date
                    | ColumnKind::Json
                    | ColumnKind::Array
                    | ColumnKind::Bytes => false,
                }),
                Value::Text(_) => column.is_none_or(|column| column.equality() == Equality::Bytes),
                Value::Bool(_) | Value::Bytes(_) | Value::Json(_) => true,
                Value::Null | Value::Double(_) | Value::Decimal(_) => false,
            }
        };
        self.key.iter().zip(tuple).all(is_spelled_so)
    }

    fn fetch(&self, values: Vec<Vec<Value>>, after: Option<Key>, limit: usize) -> Fetch {
        Fetch {
            table: self.plan.collection.nodes[self.parent].table.clone(),
            columns: self.columns.clone(),
            by: self.by.clone(),
            values,
            page: Some(Page {
                key: self.key.clone(),
                after,
                limit,
            }),
        }
    }

    fn fan_out(&self, tuple: &[Value]) -> FanOut {
        FanOut {
            collection: self.plan.collection.name.clone(),
            fingerprint: self.plan.fingerprint.clone(),
            node: self.node,
            values: tuple.to_vec(),
            after: None,
        }
    }

    fn key(&self, row: &[Value]) -> Key {
        Key::new(&row[..self.key.len()])
    }
}
