//! Rows as a tree: the root rows of some documents and what is joined to each, for showing rows beside hits.

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

impl Assembler {
    /// The rows of these documents as they are now: one entry for each id, in their order, all from one snapshot, by one
    /// fetch for each node of the join tree. `None` where there is no such row.
    pub async fn trees(&self, collection: &CollectionName, ids: &[DocId]) -> Result<Vec<Option<RootTree>>> {
        let plan = self.plan(collection)?;
        let wanted = keys(&plan.collection.root, ids);
        let known = self.known_with_columns(plan).await?;
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        let loaded = Loaded::read(plan, &mut *snapshot, wanted, &known.caseless(plan))
            .await
            .context(|| format!("reading the rows of `{collection}`"))?;
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

    /// The columns that are read of each node's table, by node: those that documents need.
    pub fn columns_read(&self, collection: &CollectionName) -> Result<Vec<Vec<String>>> {
        let plan = self.plan(collection)?;
        Ok(plan.fetches.iter().map(|fetch| fetch.columns.clone()).collect())
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
