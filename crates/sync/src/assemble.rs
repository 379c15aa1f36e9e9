//! The builder over any source: routes changes to documents and builds documents from rows.

mod explain;
mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use instep_core::{
    Builder, Built, Change, ChangeLog, Collection, CollectionName, DocId, Document, Error, FanOut, Fault,
    Fetch, Former, Key, Node, NodeId, Position, Result, ResultExt, RowChange, RowKey, Snapshot, Source,
    SourceName, TableName, TableSchema, Touch, Value, Watched,
};

use crate::clock::{Clock, SystemClock};
use crate::known::Known;
use crate::load::Loaded;
use crate::plan::Plan;
use crate::render;
use crate::route::{FAN_OUT, Found, Frontier};

pub use explain::{Explained, Fetched, Reached, RowRead};
pub use rows::{RootTree, RowTree, RowsOf};

/// Builds the documents of some collections from the sources they live in. Holds their definitions, and what was
/// learned of the sources.
pub struct Assembler {
    plans: BTreeMap<CollectionName, Arc<Plan>>,
    sources: HashMap<SourceName, Arc<dyn Source>>,
    /// Of each source; nothing for those that nobody asked.
    known: RwLock<HashMap<SourceName, Arc<Known>>>,
    /// Collections whose changes could not be looked up: said once.
    broken: RwLock<BTreeSet<CollectionName>>,
    fan_out: usize,
    clock: Arc<dyn Clock>,
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
            known: RwLock::default(),
            broken: RwLock::default(),
            fan_out: FAN_OUT,
            clock: Arc::new(SystemClock),
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

    /// Asks a source how the former values of its tables become known: which reads are recorded from now on. Collections
    /// whose documents were built without a record that is needed now are scanned: what they were built with is written
    /// down in the log. Until it was asked, all reads are recorded that might have to be.
    ///
    /// A [`crate::Follower`] that was given this assembler calls it whenever it starts to follow.
    pub async fn learn(&self, source: &SourceName, log: &dyn ChangeLog) -> Result<Vec<Former>> {
        let reader = self.source_named(source)?;
        let formers = reader.former(&self.watched(source)).await?;
        let known = Known::by(&formers);
        let tables = known.tables();
        let memo = format!("recorded/{source}");
        let written = log.memo(&memo).await?;
        let before: BTreeSet<TableName> = written
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        // Recording comes first: what is built from now on is on record when the scans are done.
        self.known_mut(|all| all.insert(source.clone(), Arc::new(known)));
        if tables == before {
            return Ok(formers);
        }
        let is_new = |plan: &&Arc<Plan>| {
            let nodes = plan.collection.nodes.iter().zip(&plan.fetches);
            let mut needed = nodes.filter(|(_, fetch)| fetch.moves);
            needed.any(|(node, _)| tables.contains(&node.table) && !before.contains(&node.table))
        };
        // What is not built yet will be built with its record.
        let sets = log.status().await?;
        let is_begun = |plan: &&Arc<Plan>| {
            let mut scans = sets.iter().flat_map(|set| &set.scans);
            let name = &plan.collection.name;
            scans.any(|scan| scan.collection == *name && (scan.finished || scan.after.is_some()))
        };
        let scans: Vec<Touch> = self
            .plans_of(source)
            .filter(is_new)
            .filter(is_begun)
            .map(|plan| Touch::Scan(plan.collection.name.clone()))
            .collect();
        if !scans.is_empty() {
            tracing::info!(%source, "reads are recorded for more tables than before: their collections are scanned");
            log.append(source, None, &scans).await?;
        }
        let text = serde_json::to_string(&tables).expect("names are JSON");
        log.set_memo(&memo, Some(&text)).await?;
        Ok(formers)
    }

    /// The definition of a collection.
    pub fn collection(&self, name: &CollectionName) -> Result<&Collection> {
        self.plan(name).map(|plan| &plan.collection)
    }

    /// The recorded rows that a document is built from, of which its texts are not read. Where even the keys are too much,
    /// none: then only a change of its root row tries it again.
    async fn reads_of(&self, plan: &Plan, id: &DocId) -> Result<Vec<RowKey>> {
        let keys_alone = Plan::of_keys(&plan.collection)?;
        let known = self.known_with_columns(&keys_alone).await?;
        let Some(recorded) = known.recorded(&keys_alone) else {
            return Ok(Vec::new());
        };
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        let wanted = keys(&plan.collection.root, std::slice::from_ref(id));
        let caseless = known.caseless(&keys_alone);
        match Loaded::read(&keys_alone, &mut *snapshot, wanted, &caseless).await {
            Ok(loaded) => {
                let root = roots(&keys_alone, &loaded).get(id).copied();
                Ok(root.map_or_else(Vec::new, |at| loaded.reads(&keys_alone, &recorded, at)))
            }
            Err(error) if error.code() == "too_much" => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The documents of these ids as their rows are in one snapshot.
    async fn build_at_once(&self, plan: &Plan, ids: &[DocId]) -> Result<Vec<Built>> {
        let keys = keys(&plan.collection.root, ids);
        let known = self.known_with_columns(plan).await?;
        let recorded = known.recorded(plan);
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        let loaded = Loaded::read(plan, &mut *snapshot, keys, &known.caseless(plan))
            .await
            .context(|| format!("building `{}`", plan.collection.name))?;
        drop(snapshot);
        let roots = roots(plan, &loaded);
        let mut buffer = Vec::new();
        let now_ms = self.clock.now_ms();
        let reads = |at| {
            recorded
                .as_ref()
                .map_or_else(Vec::new, |nodes| loaded.reads(plan, nodes, at))
        };
        let built = ids.iter().map(|id| match roots.get(id) {
            Some(at) if is_purged(plan, &loaded, *at, now_ms) => Built::Gone,
            Some(at) => match document(plan, &loaded, id, *at, &mut buffer) {
                Ok(document) => Built::Document(document, reads(*at)),
                Err(error) => Built::Rejected(error, reads(*at)),
            },
            None if id.is_stand_in() => Built::Rejected(unnameable(), Vec::new()),
            None => Built::Gone,
        });
        Ok(built.collect())
    }

    /// The collections that live in a source, by name.
    pub fn collections_of(&self, source: &SourceName) -> Vec<CollectionName> {
        let names = self.plans_of(source).map(|plan| plan.collection.name.clone());
        names.collect()
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

    fn source_named(&self, name: &SourceName) -> Result<&Arc<dyn Source>> {
        self.sources
            .get(name)
            .ok_or_else(|| Error::invalid("unknown_source", format!("there is no source `{name}`")))
    }

    fn known(&self, source: &SourceName) -> Arc<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(source).cloned().unwrap_or_default()
    }

    fn known_mut<T>(&self, change: impl FnOnce(&mut HashMap<SourceName, Arc<Known>>) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a source, its columns included: they decide when joined values are equal.
    async fn known_with_columns(&self, plan: &Plan) -> Result<Arc<Known>> {
        let known = self.known(&plan.collection.source);
        if known.knows_columns() || plan.collection.nodes.len() == 1 {
            return Ok(known);
        }
        let tables = self.source(plan).reader().tables().await.map_err(away)?;
        Ok(self.known_mut(|all| {
            let known = all.entry(plan.collection.source.clone()).or_default();
            Arc::make_mut(known).learn_columns(&tables);
            known.clone()
        }))
    }

    /// What changes ask for in one collection, as far as the changes themselves tell.
    fn asked<'c>(&self, plan: &Plan, known: &Known, changes: &'c [Change], asked: &mut Asked<'c>) {
        for (id, node) in plan.collection.nodes.iter().enumerate() {
            let own = node.own_columns();
            for change in changes {
                match change {
                    Change::Row(change) if change.row.table == node.table => {
                        if change.former_unknown && plan.fetches[id].moves {
                            if !known.records(plan, id) {
                                asked.unrecorded.insert(node.table.clone());
                                asked.scans.insert(plan.collection.name.clone());
                            }
                            asked.rows.insert(&change.row);
                        }
                        match (id, image(change, node, &own)) {
                            (0, _) => asked.roots.push(&change.row.key),
                            (_, Some(tuple)) => {
                                asked.frontier.entry(id).or_default().insert(tuple);
                            }
                            // No row is found by NULL.
                            (_, None) if change.row.key.parts().iter().any(Value::is_null) => {}
                            (_, None) => {
                                asked.unknown.entry(id).or_default().insert(&change.row.key);
                            }
                        }
                    }
                    Change::Table(table) if *table == node.table => {
                        asked.scans.insert(plan.collection.name.clone());
                    }
                    Change::Row(_) | Change::Table(_) => {}
                }
            }
        }
    }

    /// A table whose reads are not recorded had a change without former values: the source knows less than it said.
    fn record(&self, source: &SourceName, tables: &BTreeSet<TableName>) {
        for table in tables {
            let is_new =
                self.known_mut(|all| Arc::make_mut(all.entry(source.clone()).or_default()).record(table));
            if is_new {
                tracing::warn!(%source, %table, "the source no longer brings the former values of this table: its collections are scanned, and reads are recorded from now on");
            }
        }
    }

    /// What the definition needs is not there, or may not be read: this collection is scanned once it is. Said when it
    /// begins and when it ends.
    fn report(&self, collection: &CollectionName, broken: Option<&Error>) {
        let was = self
            .broken
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(collection);
        match broken {
            Some(error) if !was => {
                tracing::warn!(%collection, code = error.code(), "changes cannot be looked up, so the collection is scanned instead: {error}");
            }
            None if was => tracing::info!(%collection, "changes are looked up again"),
            Some(_) | None => return,
        }
        let mut all = self.broken.write().unwrap_or_else(PoisonError::into_inner);
        match broken {
            Some(_) => all.insert(collection.clone()),
            None => all.remove(collection),
        };
    }
}

/// A source that cannot be asked at all is away, whoever has to mend it: that is nothing of one collection.
fn away(error: Error) -> Error {
    if !is_of_the_definition(&error) {
        return error;
    }
    let away = Error::transient("source_away", format!("{error} ({})", error.code()));
    match error.remedy().map(str::to_owned) {
        Some(remedy) => away.with_remedy(remedy).with_source(error),
        None => away.with_source(error),
    }
}

/// What changes ask for before anything is looked up.
#[derive(Default)]
struct Asked<'c> {
    /// Keys of touched root rows.
    roots: Vec<&'c Key>,
    /// Tuples to climb from.
    frontier: Frontier,
    /// Rows whose tuples have to be read first, by node.
    unknown: BTreeMap<NodeId, BTreeSet<&'c Key>>,
    /// Rows whose former documents are to be found by what was recorded.
    rows: BTreeSet<&'c RowKey>,
    scans: BTreeSet<CollectionName>,
    /// Tables that brought no former values, though their reads are not recorded.
    unrecorded: BTreeSet<TableName>,
}

/// Whether a failure to read is one of what the collection's definition names (a table or a column is gone, or must not
/// be read), rather than of a source that is away.
pub(crate) fn is_of_the_definition(error: &Error) -> bool {
    matches!(error.code(), "schema_changed" | "permission_denied")
        || match error.fault() {
            Fault::Transient | Fault::Poison => false,
            Fault::Fatal
            | Fault::Invalid
            | Fault::Unauthenticated
            | Fault::Denied
            | Fault::NotFound
            | Fault::Conflict => true,
        }
}

#[async_trait]
impl Builder for Assembler {
    async fn affected(&self, source: &SourceName, changes: &[Change], upto: &Position) -> Result<Vec<Touch>> {
        let reader = self.source_named(source)?;
        let known = self.known(source);
        let mut found = Found::by_changes(self.fan_out);
        let mut snapshot: Option<Box<dyn Snapshot>> = None;
        let (mut rows, mut scans, mut unrecorded) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for plan in self.plans_of(source) {
            let mut asked = Asked::default();
            self.asked(plan, &known, changes, &mut asked);
            rows.extend(asked.rows);
            scans.extend(asked.scans);
            unrecorded.extend(asked.unrecorded);
            asked.roots.into_iter().for_each(|key| found.root(plan, key));
            if asked.frontier.is_empty() && asked.unknown.is_empty() {
                continue;
            }
            let opened = opened(&mut snapshot, &**reader, upto).await?;
            match climb(&mut found, plan, opened, asked.frontier, asked.unknown).await {
                Ok(()) => self.report(&plan.collection.name, None),
                Err(error) if is_of_the_definition(&error) || error.fault() == Fault::Poison => {
                    self.report(&plan.collection.name, Some(&error));
                    scans.insert(plan.collection.name.clone());
                    // A statement that failed may have ended it.
                    snapshot = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.record(source, &unrecorded);
        let named = rows
            .into_iter()
            .filter(|row| !row.key.parts().iter().any(Value::is_null));
        Ok(found
            .touches()
            .chain(named.cloned().map(Touch::Row))
            .chain(scans.into_iter().map(Touch::Scan))
            .collect())
    }

    async fn expand(&self, fan_out: &FanOut) -> Result<(Vec<Touch>, Option<FanOut>)> {
        let plan = match self.plans.get(&fan_out.collection) {
            Some(plan) if plan.fingerprint == fan_out.fingerprint => plan,
            // The definition it was made under is gone, and the collection is scanned under the new one.
            Some(_) | None => return Ok((Vec::new(), None)),
        };
        let snapshot = self.source(plan).reader().snapshot(None).await;
        let mut snapshot = snapshot.map_err(away)?;
        let mut found = Found::by_chunk(self.fan_out);
        match found.expand(plan, &mut *snapshot, fan_out).await {
            Ok(left) => Ok((found.touches().collect(), left)),
            Err(error) if is_of_the_definition(&error) => {
                self.report(&fan_out.collection, Some(&error));
                Ok((vec![Touch::Scan(fan_out.collection.clone())], None))
            }
            Err(error) => Err(error),
        }
    }

    async fn build(&self, collection: &CollectionName, ids: &[DocId]) -> Result<Vec<Built>> {
        let plan = self.plan(collection)?;
        let mut built = Vec::with_capacity(ids.len());
        let mut open = vec![ids];
        while let Some(ids) = open.pop() {
            match self.build_at_once(plan, ids).await {
                Ok(some) => built.extend(some),
                // Together they are too much for memory; one that is so alone is a dead letter.
                Err(error) if error.code() == "too_much" => match ids {
                    [id] => {
                        let reads = self.reads_of(plan, id).await?;
                        // As it is after what is on record: what was too much may have gone in between.
                        match self.build_at_once(plan, ids).await {
                            Ok(some) => built.extend(some),
                            Err(error) if error.code() == "too_much" => {
                                built.push(Built::Rejected(error.with_remedy(TOO_MUCH), reads));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    ids => {
                        let (first, rest) = ids.split_at(ids.len() / 2);
                        open.extend([rest, first]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(built)
    }

    fn records(&self, collection: &CollectionName) -> bool {
        self.plans.get(collection).is_some_and(|plan| {
            let known = self.known(&plan.collection.source);
            (0..plan.fetches.len()).any(|node| known.records(plan, node))
        })
    }

    async fn scan(&self, collection: &CollectionName, after: Option<&DocId>, n: usize) -> Result<Vec<DocId>> {
        let plan = self.plan(collection)?;
        let root = &plan.collection.root;
        if after.is_some_and(DocId::is_stand_in) {
            // Only the last page ends in a stand-in: see below.
            return Ok(Vec::new());
        }
        let reader = self.source(plan).reader();
        let condition = plan.collection.nodes[0].condition.as_ref();
        let mut condition = condition.map(|condition| condition.expression());
        let mut after = after.and_then(|id| root.key_of(id));
        let mut ids: Vec<DocId> = Vec::new();
        loop {
            let keys = match reader.scan(root, condition.as_ref(), after.as_ref(), n).await {
                // Some row fails it: all are enumerated, and judged one by one.
                Err(error) if error.fault() == Fault::Poison && condition.is_some() => {
                    condition = None;
                    continue;
                }
                keys => keys?,
            };
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
    loaded.require_conditions(plan, at)?;
    let readers = render::readers(plan, loaded, at)?;
    render::source(plan, loaded, at, buffer)?;
    let source = std::str::from_utf8(buffer).expect("JSON is UTF-8");
    Ok(Document {
        id: id.clone(),
        language: match plan.language {
            Some(column) => plan.collection.language.of(&loaded.row(0, at)[column]),
            None => plan.collection.language.of(&Value::Null),
        },
        readers,
        source: source.into(),
    })
}

/// What to do about a document whose rows alone are too much.
const TOO_MUCH: &str = "leave its largest texts out of the collection, or narrow its joins with `where`";

/// Whether the row was soft-deleted so long ago that its document is to go.
fn is_purged(plan: &Plan, loaded: &Loaded, at: u32, now_ms: i64) -> bool {
    let purge = plan.purged_by.zip(plan.collection.purge.as_ref());
    purge.is_some_and(|(column, purge)| purge.is_due(&loaded.row(0, at)[column], now_ms))
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

/// Finds what lies above these rows.
async fn climb(
    found: &mut Found,
    plan: &Plan,
    snapshot: &mut dyn Snapshot,
    mut frontier: Frontier,
    unknown: BTreeMap<NodeId, BTreeSet<&Key>>,
) -> Result<()> {
    for (id, keys) in unknown {
        let node = &plan.collection.nodes[id];
        let rows = snapshot.fetch(&by_key(node, node.own_columns(), keys)).await?;
        let tuples = rows.iter().map(<[Value]>::to_vec);
        frontier.entry(id).or_default().extend(tuples);
    }
    found.climb(plan, snapshot, frontier).await
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
