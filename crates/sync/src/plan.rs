//! A collection, compiled for building: which columns each node's fetch returns and where each is found in a row.

use instep_core::{
    Collection, Content, Error, Expression, Field, Language, Languages, Node, NodeId, ReadersFrom,
    ReadersRule, Result,
};

/// A collection and the fetches that build it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) collection: Collection,
    pub(crate) fingerprint: String,
    /// One for each node, in the nodes' order.
    pub(crate) fetches: Vec<NodeFetch>,
    /// The documents' shape, columns and nodes resolved to places.
    pub(crate) shape: Vec<Slot>,
    pub(crate) readers: ReadersSlot,
    /// Where the document's language stands in the root's row; `None` where all have one.
    pub(crate) language: Option<usize>,
    /// Whether each node is read at all; what is not read has no rows.
    pub(crate) needed: Vec<bool>,
    /// Where the moment of the soft delete stands in the root's row, by which documents are purged.
    pub(crate) purged_by: Option<usize>,
}

/// What is read of one node's table, and where in a row it stands.
#[derive(Debug)]
pub(crate) struct NodeFetch {
    pub(crate) columns: Vec<String>,
    /// The primary key's columns.
    pub(crate) key: Vec<usize>,
    /// The columns that the join to the parent compares.
    pub(crate) own: Vec<usize>,
    /// The columns of the parent's fetch that the join compares.
    pub(crate) parent: Vec<usize>,
    /// The order of the rows of one parent: a column, and whether it descends.
    pub(crate) order: Vec<(usize, bool)>,
    /// Where it stands whether a row meets the node's condition; `None` where there is none.
    pub(crate) condition: Option<usize>,
    /// A row can come under another parent and keep its key: not all columns by which it is joined are part of the key.
    pub(crate) moves: bool,
}

/// A field of an object.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The name as JSON writes it inside an object: `"name":`.
    pub(crate) prefix: String,
    /// The dotted path, for messages.
    pub(crate) path: String,
    pub(crate) content: SlotContent,
}

/// What a field holds, columns and nodes resolved.
#[derive(Debug)]
pub(crate) enum SlotContent {
    Column {
        at: usize,
        kind: instep_core::FieldType,
        array: bool,
        /// It is an expression, which a row may fail.
        computed: bool,
    },
    Json {
        at: usize,
        fields: Vec<Field>,
    },
    Joined {
        chain: Chain,
        many: bool,
        fields: Vec<Slot>,
    },
    Values {
        chain: Chain,
        many: bool,
        at: usize,
        kind: instep_core::FieldType,
    },
}

/// The way from an object's node down to a joined one.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The nodes below the object's, the joined one last.
    pub(crate) nodes: Vec<NodeId>,
    /// The order of what is found through a link table, where a column of the joined table gives it: a column of the
    /// joined node, and whether it descends. The links' own order stands where it is empty.
    pub(crate) order: Vec<(usize, bool)>,
}

impl Chain {
    /// The joined node.
    pub(crate) fn end(&self) -> NodeId {
        *self.nodes.last().expect("a join leads somewhere")
    }
}

/// Where a document's readers stand.
#[derive(Debug)]
pub(crate) enum ReadersSlot {
    Public,
    Rows {
        allow: Vec<ReadersPart>,
        deny: Vec<ReadersPart>,
    },
}

/// Where some of a document's readers stand.
#[derive(Debug)]
pub(crate) struct ReadersPart {
    pub(crate) from: ReadersFrom,
    /// The way to the joined rows; `None` for a column of the root.
    pub(crate) chain: Option<Chain>,
    /// The column, of the joined rows or the root.
    pub(crate) at: usize,
}

impl Plan {
    /// Compiles a collection. An error names what does not hold together: a bug of whoever resolved it.
    pub(crate) fn new(collection: Collection) -> Result<Plan> {
        for (at, node) in collection.nodes.iter().enumerate() {
            if (at == 0) != node.parent.is_none() || node.parent.is_some_and(|parent| parent >= at) {
                return Err(broken(
                    &collection,
                    &format!("node `{}` does not follow its parent", node.alias),
                ));
            }
        }
        let mut columns = Columns::of(&collection.nodes);
        let shape = columns.slots(&collection, "", 0, &collection.fields)?;
        let readers = match &collection.readers {
            ReadersRule::Public => ReadersSlot::Public,
            ReadersRule::Rows { allow, deny } => ReadersSlot::Rows {
                allow: columns.readers(&collection, allow)?,
                deny: columns.readers(&collection, deny)?,
            },
        };
        let language = collection.language.column().map(|column| columns.at(0, column));
        let purge = collection.purge.as_ref();
        let purged_by = purge.map(|purge| columns.at(0, &purge.column));
        let fetches = collection
            .nodes
            .iter()
            .enumerate()
            .map(|(id, node)| columns.fetch(id, node))
            .collect::<Vec<_>>();
        let fetches = fetches
            .into_iter()
            .zip(columns.0)
            .map(|(fetch, columns)| NodeFetch { columns, ..fetch })
            .collect();
        Ok(Plan {
            fingerprint: collection.fingerprint(),
            fetches,
            shape,
            readers,
            language,
            purged_by,
            needed: vec![true; collection.nodes.len()],
            collection,
        })
    }

    /// The same for the root's row alone, as far as it is shown, and for who may read it.
    pub(crate) fn of_rows(collection: &Collection) -> Result<Plan> {
        let mut shown = collection.clone();
        shown.fields.retain(|field| match &field.content {
            Content::Column { column, .. } => Expression::of_column(column).is_none(),
            Content::Json { .. } => true,
            Content::Joined { .. } | Content::Values { .. } => false,
        });
        let mut plan = Plan::new(shown)?;
        plan.needed.fill(false);
        let mut wanted = vec![0];
        if let ReadersRule::Rows { allow, deny } = &collection.readers {
            wanted.extend(allow.iter().chain(deny).filter_map(|from| match from {
                ReadersFrom::Joined { node, .. } => Some(*node),
                ReadersFrom::Array(_) | ReadersFrom::Subject(_) => None,
            }));
        }
        while let Some(node) = wanted.pop() {
            plan.needed[node] = true;
            wanted.extend(collection.nodes[node].parent);
        }
        Ok(plan)
    }

    /// The same for the keys of all rows that a document is built from: what its texts are too large for.
    pub(crate) fn of_keys(collection: &Collection) -> Result<Plan> {
        let mut bare = collection.clone();
        bare.fields.clear();
        bare.readers = ReadersRule::Public;
        bare.language = Languages::Fixed(Language::unspecified());
        bare.purge = None;
        Plan::new(bare)
    }
}

/// The columns wanted of each node so far.
struct Columns(Vec<Vec<String>>);

impl Columns {
    fn of(nodes: &[Node]) -> Self {
        Columns(nodes.iter().map(|node| node.key.clone()).collect())
    }

    /// Where a column of a node stands in its fetch; added when it is new.
    fn at(&mut self, node: NodeId, column: &str) -> usize {
        let wanted = &mut self.0[node];
        wanted.iter().position(|have| have == column).unwrap_or_else(|| {
            wanted.push(column.to_owned());
            wanted.len() - 1
        })
    }

    fn fetch(&mut self, id: NodeId, node: &Node) -> NodeFetch {
        let key = node.key.iter().map(|column| self.at(id, column)).collect();
        let own = node.on.iter().map(|(_, own)| self.at(id, own)).collect();
        let parent = node.parent.map_or_else(Vec::new, |up| {
            node.on.iter().map(|(theirs, _)| self.at(up, theirs)).collect()
        });
        let order = node
            .order
            .iter()
            .map(|by| (self.at(id, &by.column), by.descending))
            .collect();
        NodeFetch {
            columns: Vec::new(),
            key,
            own,
            parent,
            order,
            condition: node
                .condition
                .as_ref()
                .map(|condition| self.at(id, &condition.expression().column())),
            moves: node.on.iter().any(|(_, own)| !node.key.contains(own)),
        }
    }

    fn chain(&mut self, collection: &Collection, from: NodeId, to: NodeId) -> Result<Chain> {
        let mut nodes = Vec::new();
        let mut at = to;
        while at != from {
            nodes.push(at);
            let parent = collection.nodes.get(at).and_then(|node| node.parent);
            at = parent
                .ok_or_else(|| broken(collection, &format!("node {to} does not lie below node {from}")))?;
        }
        nodes.reverse();
        let order: &[_] = if nodes.len() > 1 {
            &collection.nodes[to].order
        } else {
            &[]
        };
        let order = order
            .iter()
            .map(|by| (self.at(to, &by.column), by.descending))
            .collect();
        Ok(Chain { nodes, order })
    }

    fn readers(&mut self, collection: &Collection, from: &[ReadersFrom]) -> Result<Vec<ReadersPart>> {
        let part = |from: &ReadersFrom| {
            let (chain, at) = match from {
                ReadersFrom::Array(column) | ReadersFrom::Subject(column) => (None, self.at(0, column)),
                ReadersFrom::Joined { node, column, .. } => {
                    let chain = self.chain(collection, 0, *node)?;
                    (Some(chain), self.at(*node, column))
                }
            };
            let from = from.clone();
            Ok(ReadersPart { from, chain, at })
        };
        from.iter().map(part).collect()
    }

    fn slots(
        &mut self,
        collection: &Collection,
        above: &str,
        from: NodeId,
        fields: &[Field],
    ) -> Result<Vec<Slot>> {
        fields
            .iter()
            .map(|field| self.slot(collection, above, from, field))
            .collect()
    }

    fn slot(&mut self, collection: &Collection, above: &str, from: NodeId, field: &Field) -> Result<Slot> {
        let path = format!("{above}{}", field.name);
        let content = match &field.content {
            Content::Column { column, kind, array } => SlotContent::Column {
                at: self.at(from, &guarded(&collection.nodes[from], column)),
                kind: kind.clone(),
                array: *array,
                computed: Expression::of_column(column).is_some(),
            },
            Content::Json { column, fields } => SlotContent::Json {
                at: self.at(from, column),
                fields: fields.clone(),
            },
            Content::Joined { node, many, fields } => SlotContent::Joined {
                chain: self.chain(collection, from, *node)?,
                many: *many,
                fields: self.slots(collection, &format!("{path}."), *node, fields)?,
            },
            Content::Values {
                node,
                many,
                column,
                kind,
            } => SlotContent::Values {
                chain: self.chain(collection, from, *node)?,
                many: *many,
                at: self.at(*node, column),
                kind: kind.clone(),
            },
        };
        let name = serde_json::to_string(&field.name).expect("text is JSON");
        Ok(Slot {
            prefix: format!("{name}:"),
            path,
            content,
        })
    }
}

/// An expression over rows of a node that has a condition is computed for rows that meet it: it need not take others.
fn guarded(node: &Node, column: &str) -> String {
    match (Expression::of_column(column), &node.condition) {
        (Some(sql), Some(condition)) => {
            let sql = format!("case when {} then ({sql}) end", condition.expression());
            let guarded = Expression::parse(&sql).expect("it is made of two expressions");
            guarded.column()
        }
        (Some(_) | None, _) => column.to_owned(),
    }
}

fn broken(collection: &Collection, what: &str) -> Error {
    Error::fatal(
        "bad_collection",
        format!("collection `{}`: {what}", collection.name),
    )
}
