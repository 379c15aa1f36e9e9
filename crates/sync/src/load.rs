//! Reads the rows of a batch of documents: one fetch for each node of the join tree, level by level, all in one snapshot.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use instep_core::{
    Condition, Error, Fetch, Key, Node, NodeId, Result, ResultExt, RowKey, Rows, Snapshot, Value,
};

use crate::alike::canonical;
use crate::known::RecordedNodes;
use crate::plan::{Chain, NodeFetch, Plan};

/// The rows of a batch, linked: from a row of a node to the rows of its children.
pub(crate) struct Loaded {
    nodes: Vec<Linked>,
    /// A condition could not be computed for some row.
    uncomputed: bool,
}

/// The rows of one node, and which of them belong to each row of the parent node.
#[derive(Default)]
struct Linked {
    rows: Rows,
    /// Row numbers, grouped by what they are joined by, and in the join's order.
    order: Vec<u32>,
    /// Where each group starts in `order`, and where the last one ends.
    starts: Vec<u32>,
    /// For each row of the parent node the number of its group. Parent rows that are alike share one.
    groups: Vec<Option<u32>>,
}

impl Loaded {
    /// Reads the root rows with these distinct keys and everything joined to them. NULL joins nothing. A node of the
    /// tree is read once; not at all where nothing is to be joined. `caseless`: for each node and each pair of its join,
    /// whether it ignores case.
    pub(crate) async fn read(
        plan: &Plan,
        snapshot: &mut dyn Snapshot,
        keys: Vec<Vec<Value>>,
        caseless: &[Vec<bool>],
    ) -> Result<Loaded> {
        let root = &plan.collection.nodes[0];
        let mut uncomputed = false;
        let mut meeting = |rows: &mut Rows, wanted: &NodeFetch| {
            if let Some(at) = wanted.condition {
                uncomputed |= rows.iter().any(|row| matches!(row[at], Value::Bytes(_)));
                rows.retain(|row| may_meet(&row[at]));
            }
        };
        let wanted = &plan.fetches[0];
        let mut rows = match keys.is_empty() {
            true => Rows::new(wanted.columns.len()),
            false => snapshot.fetch(&wanted.of(root, root.key.clone(), keys)).await?,
        };
        meeting(&mut rows, wanted);
        let all = &plan.collection.nodes;
        let mut nodes: Vec<Option<Linked>> = all.iter().map(|_| None).collect();
        nodes[0] = Some(Linked {
            rows,
            ..Linked::default()
        });
        // Level by level, so that what needs no other of a level's rows is asked for at once.
        let mut above: Vec<NodeId> = vec![0];
        while !above.is_empty() {
            let is_next = |id: &NodeId| all[*id].parent.is_some_and(|parent| above.contains(&parent));
            let level: Vec<NodeId> = (0..all.len()).filter(is_next).collect();
            let mut asked: Vec<(NodeId, Joined, usize)> = Vec::with_capacity(level.len());
            let mut fetches = Vec::with_capacity(level.len());
            for id in &level {
                let (node, wanted) = (&all[*id], &plan.fetches[*id]);
                let parent = nodes[node.parent.expect("it has one")].as_ref();
                let parent = parent.expect("what is above was read");
                if !plan.needed[*id] {
                    nodes[*id] = Some(Linked::nothing(wanted, parent.rows.len()));
                    continue;
                }
                let (joined, values) = Joined::of(&parent.rows, &wanted.parent, &caseless[*id]);
                match values.is_empty() {
                    true => {
                        let rows = Rows::new(wanted.columns.len());
                        nodes[*id] = Some(joined.link(rows, 0, wanted, &caseless[*id])?);
                    }
                    false => {
                        asked.push((*id, joined, values.len()));
                        fetches.push(wanted.of(node, node.own_columns(), values));
                    }
                }
            }
            let answered = match fetches.is_empty() {
                true => Vec::new(),
                false => snapshot.fetch_all(&fetches).await?,
            };
            for ((id, joined, groups), mut rows) in asked.into_iter().zip(answered) {
                let wanted = &plan.fetches[id];
                meeting(&mut rows, wanted);
                let linked = joined.link(rows, groups, wanted, &caseless[id]);
                nodes[id] = Some(linked.context(|| format!("reading table `{}`", all[id].table))?);
            }
            above = level;
        }
        let nodes: Option<Vec<Linked>> = nodes.into_iter().collect();
        let nodes = nodes.expect("every node hangs on the root");
        Ok(Loaded { nodes, uncomputed })
    }

    /// Refuses a root row whose document hangs on a condition that the database could not compute.
    pub(crate) fn require_conditions(&self, plan: &Plan, root: u32) -> Result<()> {
        if !self.uncomputed {
            return Ok(());
        }
        let mut found: Vec<Vec<u32>> = Vec::with_capacity(self.nodes.len());
        for (id, node) in plan.collection.nodes.iter().enumerate() {
            let rows: Vec<u32> = match node.parent {
                None => vec![root],
                Some(parent) => {
                    let groups = found[parent].iter().map(|at| self.nodes[id].group(*at));
                    groups.flatten().copied().collect()
                }
            };
            if let Some(at) = plan.fetches[id].condition
                && rows
                    .iter()
                    .any(|row| matches!(self.row(id, *row)[at], Value::Bytes(_)))
            {
                let message = format!("the condition of `{}` cannot be computed for a row", node.alias);
                return Err(Error::poison("uncomputed", message)
                    .with_remedy("mend the row, or a condition that takes every row"));
            }
            found.push(rows);
        }
        Ok(())
    }

    /// The root rows, in no particular order.
    pub(crate) fn roots(&self) -> &Rows {
        &self.nodes[0].rows
    }

    /// All rows of a node, in no particular order.
    pub(crate) fn rows(&self, node: NodeId) -> &Rows {
        &self.nodes[node].rows
    }

    /// The rows of a node that belong to a row of its parent, in the join's order.
    pub(crate) fn children(&self, node: NodeId, parent: u32) -> &[u32] {
        self.nodes[node].group(parent)
    }

    /// A row of a node.
    pub(crate) fn row(&self, node: NodeId, at: u32) -> &[Value] {
        self.nodes[node].rows.row(at as usize)
    }

    /// The rows of recorded nodes that belong to a root row's document, each once. Rows that cannot be named are left
    /// out: no change names them either.
    pub(crate) fn reads(&self, plan: &Plan, nodes: &RecordedNodes, root: u32) -> Vec<RowKey> {
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.len()];
        found[0].push(root);
        let mut reads = Vec::new();
        for (id, node) in plan.collection.nodes.iter().enumerate().skip(1) {
            if !nodes.leads[id] {
                continue;
            }
            let parent = node.parent.expect("only the root has no parent");
            let groups = found[parent].iter().map(|at| self.nodes[id].group(*at));
            let mut rows: Vec<u32> = groups.flatten().copied().collect();
            rows.sort_unstable();
            rows.dedup();
            if nodes.recorded[id] {
                let columns = &plan.fetches[id].key;
                let key = |at: &u32| {
                    let row = self.row(id, *at);
                    Key::new(columns.iter().map(|at| row[*at].clone()).collect::<Vec<_>>())
                };
                let keys = rows.iter().map(key);
                let named = keys.filter(|key| !key.parts().iter().any(Value::is_null));
                reads.extend(named.map(|key| RowKey {
                    table: node.table.clone(),
                    key,
                }));
            }
            found[id] = rows;
        }
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// The rows at the end of a chain that starts at a row of the object's node, in order.
    pub(crate) fn follow(&self, chain: &Chain, from: u32) -> Cow<'_, [u32]> {
        if let [node] = chain.nodes[..] {
            return Cow::Borrowed(self.nodes[node].group(from));
        }
        let mut found = Vec::new();
        self.descend(&chain.nodes, from, &mut found);
        if !chain.order.is_empty() {
            let node = chain.end();
            found.sort_by(|a, b| compare(&chain.order, self.row(node, *a), self.row(node, *b)));
        }
        Cow::Owned(found)
    }

    fn descend(&self, nodes: &[NodeId], from: u32, found: &mut Vec<u32>) {
        let Some((first, rest)) = nodes.split_first() else {
            found.push(from);
            return;
        };
        for at in self.nodes[*first].group(from) {
            self.descend(rest, *at, found);
        }
    }
}

impl Linked {
    /// Of a node that is not read.
    fn nothing(wanted: &NodeFetch, parents: usize) -> Self {
        Linked {
            rows: Rows::new(wanted.columns.len()),
            groups: vec![None; parents],
            ..Linked::default()
        }
    }

    /// The rows that belong to a row of the parent node.
    fn group(&self, parent: u32) -> &[u32] {
        let Some(group) = self.groups[parent as usize].map(|group| group as usize) else {
            return &[];
        };
        &self.order[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}

/// Whether a row meets a condition, by its value; one that could not be computed is judged later.
fn may_meet(condition: &Value) -> bool {
    Condition::holds(condition) || matches!(condition, Value::Bytes(_))
}

impl NodeFetch {
    fn of(&self, node: &Node, by: Vec<String>, values: Vec<Vec<Value>>) -> Fetch {
        Fetch {
            table: node.table.clone(),
            columns: self.columns.clone(),
            by,
            values,
            page: None,
        }
    }
}

/// What the rows of a parent node join by: tuples, distinct as the join compares them, numbered.
struct Joined {
    numbers: Numbers,
    /// For each row of the parent the number of its tuple; `None` when a part of it is NULL.
    groups: Vec<Option<u32>>,
}

/// The number of each tuple.
enum Numbers {
    /// Of one integer each, as nearly all are: sorted, so that the place is the number and nothing is hashed.
    Integers(Vec<i64>),
    Tuples(HashMap<Vec<Value>, u32>),
}

impl Joined {
    /// Numbers the tuples of these columns, and lists them in order of their numbers, each as one of its rows spells it.
    fn of(rows: &Rows, columns: &[usize], caseless: &[bool]) -> (Self, Vec<Vec<Value>>) {
        Self::of_integers(rows, columns).unwrap_or_else(|| Self::of_tuples(rows, columns, caseless))
    }

    fn of_integers(rows: &Rows, columns: &[usize]) -> Option<(Self, Vec<Vec<Value>>)> {
        let [column] = *columns else {
            return None;
        };
        let mut places = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            match &row[column] {
                Value::Int(integer) => places.push((*integer, at)),
                Value::Null => {}
                Value::Bool(_)
                | Value::Double(_)
                | Value::Decimal(_)
                | Value::Text(_)
                | Value::Bytes(_)
                | Value::Json(_) => return None,
            }
        }
        places.sort_unstable();
        let mut groups = vec![None; rows.len()];
        let mut integers: Vec<i64> = Vec::with_capacity(places.len());
        for (integer, at) in places {
            if integers.last() != Some(&integer) {
                integers.push(integer);
            }
            groups[at] = Some(small(integers.len() - 1));
        }
        let values = integers
            .iter()
            .map(|integer| vec![Value::Int(*integer)])
            .collect();
        let numbers = Numbers::Integers(integers);
        Some((Joined { numbers, groups }, values))
    }

    fn of_tuples(rows: &Rows, columns: &[usize], caseless: &[bool]) -> (Self, Vec<Vec<Value>>) {
        let mut numbers: HashMap<Vec<Value>, u32> = HashMap::with_capacity(rows.len());
        let mut values = Vec::new();
        let mut groups = Vec::with_capacity(rows.len());
        let mut tuple = Vec::with_capacity(columns.len());
        for row in rows.iter() {
            if columns.iter().any(|at| row[*at].is_null()) {
                groups.push(None);
                continue;
            }
            alike(row, columns, caseless, &mut tuple);
            let number = numbers.get(&tuple).copied().unwrap_or_else(|| {
                let number = small(values.len());
                numbers.insert(tuple.clone(), number);
                values.push(columns.iter().map(|at| row[*at].clone()).collect());
                number
            });
            groups.push(Some(number));
        }
        let numbers = Numbers::Tuples(numbers);
        (Joined { numbers, groups }, values)
    }

    /// Groups the joined rows by the tuple they belong to, of which there are so many.
    fn link(self, rows: Rows, tuples: usize, wanted: &NodeFetch, caseless: &[bool]) -> Result<Linked> {
        let numbers = self.numbers.of_rows(&rows, &wanted.own, caseless)?;
        // Counted first, so that each row goes straight to its place.
        let mut starts = vec![0; tuples + 1];
        numbers
            .iter()
            .for_each(|number| starts[*number as usize + 1] += 1);
        for group in 0..tuples {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut order = vec![0; rows.len()];
        for (at, number) in (0..).zip(numbers) {
            let place = &mut next[number as usize];
            order[*place as usize] = at;
            *place += 1;
        }
        for group in starts.windows(2) {
            let group = &mut order[group[0] as usize..group[1] as usize];
            if group.len() > 1 {
                group.sort_unstable_by(|a, b| in_order(wanted, rows.row(*a as usize), rows.row(*b as usize)));
            }
        }
        Ok(Linked {
            rows,
            order,
            starts,
            groups: self.groups,
        })
    }
}

impl Numbers {
    /// The number of each row, by these columns of it.
    fn of_rows(&self, rows: &Rows, columns: &[usize], caseless: &[bool]) -> Result<Vec<u32>> {
        let mut tuple = Vec::with_capacity(columns.len());
        let number = |row: &[Value]| match self {
            Numbers::Integers(integers) => match canonical(&row[columns[0]], false) {
                Value::Int(integer) => integers.binary_search(&integer).ok().map(small),
                Value::Null
                | Value::Bool(_)
                | Value::Double(_)
                | Value::Decimal(_)
                | Value::Text(_)
                | Value::Bytes(_)
                | Value::Json(_) => None,
            },
            Numbers::Tuples(numbers) => {
                alike(row, columns, caseless, &mut tuple);
                numbers.get(&tuple).copied()
            }
        };
        rows.iter().map(number).collect::<Option<_>>().ok_or_else(|| {
            Error::fatal(
                "join_mismatch",
                "a joined row's columns equal none of the values that were asked for",
            )
            .with_remedy("give both sides of the join the same type and the same collation")
        })
    }
}

/// A row's values of these columns, in the form by which the join compares them.
fn alike(row: &[Value], columns: &[usize], caseless: &[bool], tuple: &mut Vec<Value>) {
    tuple.clear();
    let columns = columns.iter().zip(caseless);
    tuple.extend(columns.map(|(at, caseless)| canonical(&row[*at], *caseless)));
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a batch has fewer than 2^32 rows")
}

/// The join's order, then the key's. The whole rows last: where the source gives two rows one key, their order is
/// still not its choice.
fn in_order(wanted: &NodeFetch, a: &[Value], b: &[Value]) -> Ordering {
    let by_key = || {
        wanted
            .key
            .iter()
            .map(|column| a[*column].cmp(&b[*column]))
            .find(|order| *order != Ordering::Equal)
    };
    compare(&wanted.order, a, b).then_with(|| by_key().unwrap_or_else(|| a.cmp(b)))
}

fn compare(order: &[(usize, bool)], a: &[Value], b: &[Value]) -> Ordering {
    let by = |(column, descending): &(usize, bool)| {
        let ordering = a[*column].cmp(&b[*column]);
        if *descending { ordering.reverse() } else { ordering }
    };
    order
        .iter()
        .map(by)
        .find(|ordering| *ordering != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}
