//! Why a document is what it is, and what a change would touch: the builder's own work, shown to people.
//!
//! Both read the rows as they are now, in one snapshot, by the same code that builds and routes. Nothing is written.

use std::collections::BTreeSet;

use async_trait::async_trait;
use instep_core::{
    Builder, Built, CollectionName, DocId, DocKey, Expression, FanOut, Fetch, Key, NodeId, Result, ResultExt,
    Rows, Snapshot, SourceName, TableName, Touch, Value,
};

use super::{Assembler, away, by_key, is_purged, keys, roots};
use crate::load::Loaded;
use crate::plan::Plan;
use crate::route::{Found, Frontier};

/// Documents that are counted before a change counts as one that touches more.
const COUNTED: usize = 100_000;

/// A document as it would be built now, and what it would be built from.
#[derive(Debug)]
pub struct Explained {
    /// Its row is there, and was soft-deleted so long ago that it makes no document.
    pub purged: bool,
    /// What becomes of it.
    pub built: Built,
    /// The rows, the root's first, then join by join in the order of the definition.
    pub rows: Vec<RowRead>,
    /// What was asked of the source for them, in that order. A table that nothing leads to was not asked.
    pub fetches: Vec<Fetched>,
}

/// A row that a document is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowRead {
    /// What the definition calls the join; the root has its table's name.
    pub alias: String,
    /// Its table.
    pub table: TableName,
    /// Its key.
    pub key: Key,
    /// The columns that were read, with their values.
    pub columns: Vec<(String, Value)>,
}

/// A fetch, and how many rows it brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What was asked for.
    pub fetch: Fetch,
    /// How many rows came.
    pub rows: usize,
}

/// What a change of one row touches along one way through a collection's joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The collection.
    pub collection: CollectionName,
    /// The aliases from the root down to the table of the row.
    pub path: Vec<String>,
    /// Whether the row is there now: one that is gone leads nowhere, but for the root's own.
    pub is_there: bool,
    /// Some of the documents, in order.
    pub documents: Vec<DocId>,
    /// How many they are.
    pub count: u64,
    /// They are more than `count`: no more are counted.
    pub more: bool,
    /// Walks in chunks that such a change starts, because more rows lead up than fit a batch.
    pub fan_outs: u64,
}

impl Assembler {
    /// What a document would be built from now, and what of that.
    pub async fn explain(&self, collection: &CollectionName, id: &DocId) -> Result<Explained> {
        let plan = self.plan(collection)?;
        let known = self.known_with_columns(plan).await?;
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = Recording {
            inner: snapshot.map_err(away)?,
            fetches: Vec::new(),
        };
        let wanted = keys(&plan.collection.root, std::slice::from_ref(id));
        let loaded = Loaded::read(plan, &mut snapshot, wanted, &known.caseless(plan)).await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            // Too much for memory: the builder says what becomes of it.
            Err(error) if error.code() == "too_much" => {
                let fetches = snapshot.fetches;
                let mut built = self.build(collection, std::slice::from_ref(id)).await?;
                return Ok(Explained {
                    built: built.pop().unwrap_or(Built::Gone),
                    purged: false,
                    rows: Vec::new(),
                    fetches,
                });
            }
            Err(error) => return Err(error.context(format!("reading the rows of `{collection}`"))),
        };
        let rows = plan
            .collection
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(node, _)| rows_of(plan, &loaded, node))
            .collect();
        let fetches = snapshot.fetches;
        let now_ms = self.clock.now_ms();
        let purged = roots(plan, &loaded)
            .get(id)
            .is_some_and(|at| is_purged(plan, &loaded, *at, now_ms));
        // By the builder itself, so that this cannot say anything else.
        let mut built = self.build(collection, std::slice::from_ref(id)).await?;
        Ok(Explained {
            built: built.pop().unwrap_or(Built::Gone),
            purged,
            rows,
            fetches,
        })
    }

    /// Which documents a change of this row would touch, by the way that leads to them; `named` of them by their ids.
    /// Where the row came from before the change is not known here.
    pub async fn reached(
        &self,
        source: &SourceName,
        table: &TableName,
        key: &Key,
        named: usize,
    ) -> Result<Vec<Reached>> {
        let mut all = Vec::new();
        let snapshot = self.source_named(source)?.reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        for plan in self.plans_of(source) {
            let nodes = plan.collection.nodes.iter().enumerate();
            for (node, _) in nodes.filter(|(_, node)| node.table == *table) {
                let found = self.reached_from(plan, node, &mut *snapshot, key, named).await;
                all.push(found.context(|| format!("looking up `{}`", plan.collection.name))?);
            }
        }
        Ok(all)
    }

    async fn reached_from(
        &self,
        plan: &Plan,
        node: NodeId,
        snapshot: &mut dyn Snapshot,
        key: &Key,
        named: usize,
    ) -> Result<Reached> {
        let table = &plan.collection.nodes[node];
        let wanted = by_key(table, table.own_columns(), BTreeSet::from([key]));
        // Of the root no columns but the key's are needed, which a fetch may not leave out.
        let wanted = match node {
            0 => Fetch {
                columns: table.key.clone(),
                ..wanted
            },
            _ => wanted,
        };
        let rows = snapshot.fetch(&wanted).await?;
        let mut counted = Counted::default();
        if node == 0 {
            counted.documents.insert(DocKey {
                collection: plan.collection.name.clone(),
                id: DocId::naming(key),
            });
        } else {
            let mut found = Found::by_changes(self.fan_out);
            let tuples = rows.iter().map(<[Value]>::to_vec).collect();
            let frontier = Frontier::from([(node, tuples)]);
            found.climb(plan, snapshot, frontier).await?;
            counted.add(found.touches());
            counted.direct_fan_outs = counted.fan_outs.len() as u64;
            counted.expand(self.fan_out, plan, snapshot).await?;
        }
        Ok(Reached {
            collection: plan.collection.name.clone(),
            path: path(plan, node),
            is_there: !rows.is_empty(),
            count: counted.documents.len() as u64,
            more: counted.more,
            fan_outs: counted.direct_fan_outs,
            documents: counted
                .documents
                .into_iter()
                .take(named)
                .map(|key| key.id)
                .collect(),
        })
    }
}

/// Documents that were found, and the walks that are left.
#[derive(Default)]
struct Counted {
    documents: BTreeSet<DocKey>,
    fan_outs: Vec<FanOut>,
    direct_fan_outs: u64,
    more: bool,
}

impl Counted {
    fn add(&mut self, touches: impl Iterator<Item = Touch>) {
        for touch in touches {
            match touch {
                Touch::Document(key) => {
                    self.documents.insert(key);
                }
                Touch::FanOut(fan_out) => self.fan_outs.push(fan_out),
                Touch::Row(_) | Touch::Scan(_) => {}
            }
        }
    }

    async fn expand(&mut self, limit: usize, plan: &Plan, snapshot: &mut dyn Snapshot) -> Result<()> {
        while let Some(fan_out) = self.fan_outs.pop() {
            if self.documents.len() >= COUNTED {
                self.more = true;
                return Ok(());
            }
            let mut found = Found::by_chunk(limit);
            let left = found.expand(plan, snapshot, &fan_out).await?;
            self.add(found.touches());
            self.fan_outs.extend(left);
        }
        Ok(())
    }
}

/// The rows of a node; of a batch of one document, all of them are its own.
fn rows_of(plan: &Plan, loaded: &Loaded, node: NodeId) -> Vec<RowRead> {
    let definition = &plan.collection.nodes[node];
    let fetch = &plan.fetches[node];
    let row = |row: &[Value]| RowRead {
        alias: definition.alias.clone(),
        table: definition.table.clone(),
        key: Key::new(fetch.key.iter().map(|at| row[*at].clone()).collect::<Vec<_>>()),
        columns: fetch
            .columns
            .iter()
            .map(|column| shown(column))
            .zip(row.iter().cloned())
            .collect(),
    };
    loaded.rows(node).iter().map(row).collect()
}

/// A column's name, an expression's text.
fn shown(column: &str) -> String {
    Expression::of_column(column).unwrap_or(column).to_owned()
}

/// The aliases from the root down to a node.
fn path(plan: &Plan, node: NodeId) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = Some(node);
    while let Some(id) = at {
        path.push(plan.collection.nodes[id].alias.clone());
        at = plan.collection.nodes[id].parent;
    }
    path.reverse();
    path
}

/// A snapshot that remembers what it was asked.
struct Recording {
    inner: Box<dyn Snapshot>,
    fetches: Vec<Fetched>,
}

#[async_trait]
impl Snapshot for Recording {
    async fn fetch(&mut self, wanted: &Fetch) -> Result<Rows> {
        let rows = self.inner.fetch(wanted).await?;
        self.fetches.push(Fetched {
            fetch: wanted.clone(),
            rows: rows.len(),
        });
        Ok(rows)
    }
}
