//! The builder over any source: routes changes to documents and builds documents from rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use instep_core::{
    Builder, Built, Change, Collection, CollectionName, DocId, Document, Error, FanOut, Fetch, Key, Node,
    Position, Result, ResultExt, RowChange, Snapshot, Source, SourceName, TableSchema, Touch, Value, Watched,
};

use crate::load::Loaded;
use crate::plan::Plan;
use crate::render;
use crate::route::{FAN_OUT, Found, Frontier};

/// Builds the documents of some collections from the sources they live in. Holds no state besides their definitions.
pub struct Assembler {
    plans: BTreeMap<CollectionName, Arc<Plan>>,
    sources: HashMap<SourceName, Arc<dyn Source>>,
    fan_out: usize,
}

impl Assembler {
    /// A builder of these collections. Every collection's source must be among the sources.
    pub fn new(sources: HashMap<SourceName, Arc<dyn Source>>, collections: Vec<Collection>) -> Result<Self> {
        let mut plans = BTreeMap::new();
        for collection in collections {
            if !sources.contains_key(&collection.source) {
                let message = format!(
                    "collection `{}` names the unknown source `{}`",
                    collection.name, collection.source
                );
                return Err(Error::invalid("unknown_source", message));
            }
            plans.insert(collection.name.clone(), Arc::new(Plan::new(collection)?));
        }
        Ok(Assembler {
            plans,
            sources,
            fan_out: FAN_OUT,
        })
    }

    /// The same builder; a row with more than `limit` rows above it, at least 1, is fanned out. For tests, which need
    /// a small one.
    #[doc(hidden)]
    #[must_use]
    pub fn with_fan_out(mut self, limit: usize) -> Self {
        self.fan_out = limit.max(1);
        self
    }

    /// What the source has to watch for all collections that live in it, one entry for each table.
    pub fn watched(&self, source: &SourceName) -> Vec<Watched> {
        let mut tables: BTreeMap<_, Watched> = BTreeMap::new();
        for watched in self.plans_of(source).flat_map(|plan| plan.collection.watched()) {
            let entry = tables.entry(watched.table.clone()).or_insert_with(|| Watched {
                columns: vec![],
                ..watched.clone()
            });
            entry.columns.extend(watched.columns);
            entry.columns.sort();
            entry.columns.dedup();
        }
        tables.into_values().collect()
    }

    /// The definition of a collection.
    pub fn collection(&self, name: &CollectionName) -> Result<&Collection> {
        self.plan(name).map(|plan| &plan.collection)
    }

    /// Each collection with its fingerprint, by name.
    pub fn fingerprints(&self) -> Vec<(CollectionName, String)> {
        self.plans
            .iter()
            .map(|(name, plan)| (name.clone(), plan.fingerprint.clone()))
            .collect()
    }

    fn plan(&self, name: &CollectionName) -> Result<&Arc<Plan>> {
        self.plans
            .get(name)
            .ok_or_else(|| Error::invalid("unknown_collection", format!("there is no collection `{name}`")))
    }

    fn plans_of<'a>(&'a self, source: &'a SourceName) -> impl Iterator<Item = &'a Arc<Plan>> {
        self.plans
            .values()
            .filter(move |plan| plan.collection.source == *source)
    }

    fn source(&self, plan: &Plan) -> &Arc<dyn Source> {
        &self.sources[&plan.collection.source]
    }
}

#[async_trait]
impl Builder for Assembler {
    async fn affected(&self, source: &SourceName, changes: &[Change], upto: &Position) -> Result<Vec<Touch>> {
        let reader = self
            .sources
            .get(source)
            .ok_or_else(|| Error::invalid("unknown_source", format!("there is no source `{source}`")))?;
        let mut touches = Vec::new();
        let mut found = Found::by_changes(self.fan_out);
        let mut snapshot: Option<Box<dyn Snapshot>> = None;
        for plan in self.plans_of(source) {
            let mut frontier = Frontier::new();
            for (id, node) in plan.collection.nodes.iter().enumerate() {
                let own = node.own_columns();
                let mut unknown = BTreeSet::new();
                for change in changes {
                    match change {
                        Change::Row(change) if change.row.table == node.table => {
                            match (id, image(change, node, &own)) {
                                (0, _) => found.root(plan, &change.row.key),
                                (_, Some(tuple)) => {
                                    frontier.entry(id).or_default().insert(tuple);
                                }
                                (_, None) => {
                                    unknown.insert(&change.row.key);
                                }
                            }
                        }
                        Change::Table(table) if *table == node.table => {
                            touches.push(Touch::Scan(plan.collection.name.clone()))
                        }
                        Change::Row(_) | Change::Table(_) => {}
                    }
                }
                // No row is found by NULL.
                unknown.retain(|key| !key.parts().iter().any(Value::is_null));
                if !unknown.is_empty() {
                    let snapshot = opened(&mut snapshot, &**reader, upto).await?;
                    let rows = snapshot.fetch(&by_key(node, own, unknown)).await?;
                    frontier
                        .entry(id)
                        .or_default()
                        .extend(rows.iter().map(<[Value]>::to_vec));
                }
            }
            if frontier.values().any(|tuples| !tuples.is_empty()) {
                found
                    .climb(plan, opened(&mut snapshot, &**reader, upto).await?, frontier)
                    .await?;
            }
        }
        touches.dedup();
        touches.extend(found.documents.into_iter().map(Touch::Document));
        touches.extend(found.fan_outs.into_iter().map(Touch::FanOut));
        Ok(touches)
    }

    async fn expand(&self, fan_out: &FanOut) -> Result<(Vec<Touch>, Option<FanOut>)> {
        let plan = match self.plans.get(&fan_out.collection) {
            Some(plan) if plan.fingerprint == fan_out.fingerprint => plan,
            // The definition it was made under is gone, and the collection is scanned under the new one.
            Some(_) | None => return Ok((Vec::new(), None)),
        };
        let mut snapshot = self.source(plan).reader().snapshot(None).await?;
        let mut found = Found::by_chunk(self.fan_out);
        let left = found.expand(plan, &mut *snapshot, fan_out).await?;
        let documents = found.documents.into_iter().map(Touch::Document);
        Ok((
            documents
                .chain(found.fan_outs.into_iter().map(Touch::FanOut))
                .collect(),
            left,
        ))
    }

    async fn build(&self, collection: &CollectionName, ids: &[DocId]) -> Result<Vec<Built>> {
        let plan = self.plan(collection)?;
        let keys = keys(&plan.collection.root, ids);
        let mut snapshot = self.source(plan).reader().snapshot(None).await?;
        let loaded = Loaded::read(plan, &mut *snapshot, keys)
            .await
            .context(|| format!("building `{collection}`"))?;
        drop(snapshot);
        let roots = roots(plan, &loaded);
        let mut buffer = Vec::new();
        let built = ids.iter().map(|id| match roots.get(id) {
            Some(at) => {
                document(plan, &loaded, id, *at, &mut buffer).map_or_else(Built::Rejected, Built::Document)
            }
            None if id.is_stand_in() => Built::Rejected(unnameable()),
            None => Built::Gone,
        });
        Ok(built.collect())
    }

    async fn scan(&self, collection: &CollectionName, after: Option<&DocId>, n: usize) -> Result<Vec<DocId>> {
        let plan = self.plan(collection)?;
        let root = &plan.collection.root;
        if after.is_some_and(DocId::is_stand_in) {
            // Only the last page ends in a stand-in: see below.
            return Ok(Vec::new());
        }
        let reader = self.source(plan).reader();
        let mut after = after.and_then(|id| root.key_of(id));
        let mut ids: Vec<DocId> = Vec::new();
        loop {
            let keys = reader.scan(root, after.as_ref(), n).await?;
            for key in &keys {
                ids.push(DocId::naming(key));
                // A page ends in an id that the next one can start from: a stand-in does not tell its row's key.
                if ids.len() >= n && ids.last().is_some_and(|last| !last.is_stand_in()) {
                    return Ok(ids);
                }
            }
            if keys.len() < n {
                return Ok(ids);
            }
            after = keys.last().cloned();
        }
    }

    async fn count(&self, collection: &CollectionName) -> Result<u64> {
        let plan = self.plan(collection)?;
        self.source(plan).reader().count(&plan.collection.root.name).await
    }
}

/// The distinct keys that these ids name, sorted: the source finds neighbours faster.
fn keys(root: &TableSchema, ids: &[DocId]) -> Vec<Vec<Value>> {
    let mut keys: Vec<Vec<Value>> = ids
        .iter()
        .filter(|id| !id.is_stand_in())
        .filter_map(|id| root.key_of(id))
        .map(|key| key.parts().to_vec())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The root rows by their ids. Should a source give two rows one id, the choice is not left to their order.
fn roots(plan: &Plan, loaded: &Loaded) -> HashMap<DocId, u32> {
    let key = &plan.fetches[0].key;
    let mut roots = HashMap::with_capacity(loaded.roots().len());
    for (at, row) in (0..).zip(loaded.roots().iter()) {
        let id = DocId::naming(&Key::new(
            key.iter().map(|column| row[*column].clone()).collect::<Vec<_>>(),
        ));
        let least = roots.entry(id).or_insert(at);
        if row < loaded.row(0, *least) {
            *least = at;
        }
    }
    roots
}

fn document(plan: &Plan, loaded: &Loaded, id: &DocId, at: u32, buffer: &mut Vec<u8>) -> Result<Document> {
    let readers = render::readers(plan, loaded, at)?;
    render::source(plan, loaded, at, buffer)?;
    let source = std::str::from_utf8(buffer).expect("JSON is UTF-8");
    Ok(Document {
        id: id.clone(),
        language: plan.collection.language.clone(),
        readers,
        source: source.into(),
    })
}

fn unnameable() -> Error {
    let message = format!(
        "the row's key has a NULL part or is longer than {} bytes, so the document cannot be named",
        DocId::MAX_BYTES
    );
    Error::poison("bad_id", message).with_remedy("give the row a shorter key without NULL")
}

/// The values of these columns of the node in an image, or `None` when it does not have all of them. The row's key is
/// part of every image.
fn image(change: &RowChange, node: &Node, columns: &[String]) -> Option<Vec<Value>> {
    let in_key = |column: &String| {
        let at = node.key.iter().position(|part| part == column)?;
        change.row.key.parts().get(at)
    };
    let value = |column: &String| {
        let named = change.columns.iter().find(|(name, _)| name == column);
        named.map(|(_, value)| value).or_else(|| in_key(column)).cloned()
    };
    columns.iter().map(value).collect()
}

fn by_key(node: &Node, columns: Vec<String>, keys: BTreeSet<&Key>) -> Fetch {
    Fetch {
        table: node.table.clone(),
        columns,
        by: node.key.clone(),
        values: keys.into_iter().map(|key| key.parts().to_vec()).collect(),
        page: None,
    }
}

/// Opens the snapshot of a batch when it is first needed.
async fn opened<'a>(
    snapshot: &'a mut Option<Box<dyn Snapshot>>,
    source: &dyn Source,
    upto: &Position,
) -> Result<&'a mut dyn Snapshot> {
    if snapshot.is_none() {
        *snapshot = Some(source.reader().snapshot(Some(upto)).await?);
    }
    Ok(&mut **snapshot.as_mut().expect("it was just opened"))
}
