//! Rows as a tree: the root rows of some documents and what is joined to each, for showing rows beside hits.

use std::sync::Arc;

use instep_core::{CollectionName, DocId, NodeId, Readers, Result, ResultExt, Value};

use super::{Assembler, away, keys, roots};
use crate::load::Loaded;
use crate::plan::Plan;
use crate::render;

/// A row, and the rows joined to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowTree {
    /// Its node in the collection's join tree.
    pub node: NodeId,
    /// The columns that were read, as [`Assembler::columns_read`] names them.
    pub values: Vec<Value>,
    /// For each node below this one its rows, in the join's order.
    pub joined: Vec<(NodeId, Vec<RowTree>)>,
}

/// A root row with what is joined to it, and who may read the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootTree {
    /// The rows.
    pub tree: RowTree,
    /// Its readers by the same rows. What cannot be understood admits nobody.
    pub readers: Readers,
}

/// Which rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsOf {
    /// The root's, as far as its columns are declared as fields.
    Root,
    /// All that a document is built from.
    Joined,
}

impl Assembler {
    /// The rows of these documents as they are now: one entry for each id, in their order, by one fetch for each node of the
    /// join tree that is wanted or names readers. All are from one snapshot, unless they are too much for memory at once.
    /// `None` where there is no such row.
    pub async fn trees(
        &self,
        collection: &CollectionName,
        ids: &[DocId],
        wanted: RowsOf,
    ) -> Result<Vec<Option<RootTree>>> {
        let plan = self.plan(collection)?;
        let of_rows = self.plan_of_rows(plan, wanted)?;
        let mut found = Vec::with_capacity(ids.len());
        let mut open = vec![ids];
        while let Some(ids) = open.pop() {
            match self.trees_at_once(&of_rows, ids).await {
                Ok(trees) => found.extend(trees),
                Err(error) if error.code() == "too_much" && ids.len() > 1 => {
                    let (first, rest) = ids.split_at(ids.len() / 2);
                    open.extend([rest, first]);
                }
                // It has no document either.
                Err(error) if error.code() == "too_much" => found.push(None),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn trees_at_once(&self, plan: &Plan, ids: &[DocId]) -> Result<Vec<Option<RootTree>>> {
        let wanted = keys(&plan.collection.root, ids);
        let known = self.known_with_columns(plan).await?;
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        let loaded = Loaded::read(plan, &mut *snapshot, wanted, &known.caseless(plan))
            .await
            .context(|| format!("reading the rows of `{}`", plan.collection.name))?;
        drop(snapshot);
        let roots = roots(plan, &loaded);
        let tree = |id: &DocId| {
            let at = *roots.get(id)?;
            // What hangs on a condition that cannot be computed is no document either.
            loaded.require_conditions(plan, at).ok()?;
            let readers = render::readers(plan, &loaded, at);
            Some(RootTree {
                tree: tree(plan, &loaded, 0, at),
                readers: readers.unwrap_or_else(|_| Readers::nobody()),
            })
        };
        Ok(ids.iter().map(tree).collect())
    }

    /// The columns that are read of each node's table, by node.
    pub fn columns_read(&self, collection: &CollectionName, wanted: RowsOf) -> Result<Vec<Vec<String>>> {
        let plan = self.plan_of_rows(self.plan(collection)?, wanted)?;
        Ok(plan.fetches.iter().map(|fetch| fetch.columns.clone()).collect())
    }

    fn plan_of_rows(&self, plan: &Arc<Plan>, wanted: RowsOf) -> Result<Arc<Plan>> {
        match wanted {
            RowsOf::Root => Plan::of_rows(&plan.collection).map(Arc::new),
            RowsOf::Joined => Ok(plan.clone()),
        }
    }
}

fn tree(plan: &Plan, loaded: &Loaded, node: NodeId, at: u32) -> RowTree {
    let below = plan.collection.nodes.iter().enumerate();
    let below = below.filter(|(_, below)| below.parent == Some(node));
    let joined = below.map(|(id, _)| {
        let rows = loaded.children(id, at).iter();
        (id, rows.map(|at| tree(plan, loaded, id, *at)).collect())
    });
    RowTree {
        node,
        values: loaded.row(node, at).to_vec(),
        joined: joined.collect(),
    }
}
