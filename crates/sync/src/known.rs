//! What the builder knows of a source besides the definitions: how former values become known, and which columns
//! ignore case.
//!
//! Learned when a source is followed, and never needed to be complete: what is not known yet is taken for the case that
//! costs more and is right.

use std::collections::BTreeSet;

use instep_core::{Equality, Former, Means, NodeId, TableName, TableSchema};

use crate::plan::Plan;

/// What is known of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The tables whose reads are recorded; `None` while nobody asked: all of them.
    recorded: Option<BTreeSet<TableName>>,
    /// Columns that ignore case; `None` while nobody asked.
    caseless: Option<BTreeSet<(TableName, String)>>,
}

impl Known {
    /// By what the source says of its tables. Schemas are asked for again.
    pub(crate) fn by(formers: &[Former]) -> Self {
        let recorded = formers.iter().filter_map(|former| match former.means {
            Means::Brought(_) => None,
            Means::Recorded => Some(former.table.clone()),
        });
        Known {
            recorded: Some(recorded.collect()),
            caseless: None,
        }
    }

    /// The tables whose reads are recorded, as far as the source said so.
    pub(crate) fn tables(&self) -> BTreeSet<TableName> {
        self.recorded.clone().unwrap_or_default()
    }

    /// From now on, reads of this table are recorded. Returns whether they were not before.
    pub(crate) fn record(&mut self, table: &TableName) -> bool {
        self.recorded
            .as_mut()
            .is_some_and(|tables| tables.insert(table.clone()))
    }

    /// Whether reads of this node's rows are recorded: a change may leave unknown which documents they were part of.
    pub(crate) fn records(&self, plan: &Plan, node: NodeId) -> bool {
        let table = &plan.collection.nodes[node].table;
        plan.fetches[node].moves && self.recorded.as_ref().is_none_or(|tables| tables.contains(table))
    }

    /// The nodes of a collection whose reads are recorded; `None` when there are none.
    pub(crate) fn recorded(&self, plan: &Plan) -> Option<RecordedNodes> {
        let nodes = &plan.collection.nodes;
        let recorded: Vec<bool> = (0..nodes.len()).map(|node| self.records(plan, node)).collect();
        if !recorded.contains(&true) {
            return None;
        }
        let mut leads = recorded.clone();
        // A parent comes before its children.
        for (id, node) in nodes.iter().enumerate().rev() {
            if let Some(parent) = node.parent.filter(|_| leads[id]) {
                leads[parent] = true;
            }
        }
        Some(RecordedNodes { recorded, leads })
    }

    pub(crate) fn knows_columns(&self) -> bool {
        self.caseless.is_some()
    }

    /// Takes over what the schemas say.
    pub(crate) fn learn_columns(&mut self, tables: &[TableSchema]) {
        let of_table = |table: &TableSchema| {
            let caseless = table
                .columns
                .iter()
                .filter(|column| column.equality() == Equality::Caseless);
            let name = table.name.clone();
            caseless
                .map(|column| (name.clone(), column.name.clone()))
                .collect::<Vec<_>>()
        };
        self.caseless = Some(tables.iter().flat_map(of_table).collect());
    }

    /// For each node and each pair of its join, whether the comparison ignores case: the node's own column decides, by
    /// which its rows are fetched.
    pub(crate) fn caseless(&self, plan: &Plan) -> Vec<Vec<bool>> {
        let ignores = |table: &TableName, column: &String| {
            let caseless = self.caseless.as_ref().filter(|known| !known.is_empty());
            caseless.is_some_and(|known| known.contains(&(table.clone(), column.clone())))
        };
        let of_node = |node: &instep_core::Node| {
            let own = node.on.iter().map(|(_, own)| ignores(&node.table, own));
            own.collect()
        };
        plan.collection.nodes.iter().map(of_node).collect()
    }
}

/// The nodes of a collection whose reads are recorded.
#[derive(Debug)]
pub(crate) struct RecordedNodes {
    /// For each node.
    pub(crate) recorded: Vec<bool>,
    /// For each node, whether it or one below it is.
    pub(crate) leads: Vec<bool>,
}
