//! What indexes were made with, and what an edited definition changes of it.
//!
//! For each set and collection a memo in the state holds the definition that its documents follow, and the fields that its
//! indexes have: those of all definitions since they were made, so that going back to a former definition adds nothing. An
//! edited definition that only adds is applied: the indexes get its fields, and every document is built again while search
//! goes on. One that contradicts what is there, or would show it to whom it no longer names, is refused before anything is
//! written.

use std::collections::BTreeMap;

use instep_core::{
    ChangeLog, Collection, CollectionName, Error, FieldType, Language, Mapping, ReadersFrom, ReadersRule,
    Result, SetName, SourceName, TableName,
};
use instep_sync::{SignalledLog, definition_memo, remake_memo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Config, EngineConfig};

/// What is remembered of a collection in a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    fingerprint: String,
    source: SourceName,
    root: TableName,
    key: Vec<String>,
    /// The fields of its indexes, one for each language.
    mappings: Vec<Mapping>,
    /// The parts of the definition that say what is in a document and who reads it, by what a person calls them.
    parts: BTreeMap<String, Value>,
}

/// What applying a definition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// There is nothing yet: its indexes are made and filled.
    New,
    /// The indexes follow it already.
    Unchanged,
    /// The indexes serve it, with new fields perhaps; every document is built again.
    Rebuilt,
    /// The indexes contradict it.
    Refused,
    /// They do, and are to be emptied and filled again: a person said so.
    Remade,
}

/// What an edited definition changes in a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) set: SetName,
    pub(crate) collection: CollectionName,
    pub(crate) effect: Effect,
    /// What is different, a line each.
    pub(crate) changes: Vec<String>,
    /// What contradicts the indexes, a line each.
    pub(crate) contradictions: Vec<String>,
}

impl Known {
    fn of(collection: &Collection) -> Self {
        let root = &collection.nodes[0];
        let mut parts = BTreeMap::from([
            ("where".to_owned(), json!(root.condition)),
            ("readers".to_owned(), readers(collection)),
            ("language".to_owned(), json!(collection.language)),
            ("purge".to_owned(), json!(collection.purge)),
        ]);
        for node in &collection.nodes[1..] {
            let name = format!("join `{}`", node.alias);
            // Several may be called so.
            let entry = parts.entry(name).or_insert_with(|| json!([]));
            entry.as_array_mut().expect("it was made so").push(json!(node));
        }
        for field in &collection.fields {
            parts.insert(format!("field `{}`", field.name), json!(field.content));
        }
        let languages = collection.language.all();
        let mapping = |language: &Language| Mapping::of(collection, language);
        Known {
            fingerprint: collection.fingerprint(),
            source: collection.source.clone(),
            root: collection.root.name.clone(),
            key: collection.root.primary_key.clone(),
            mappings: languages.iter().map(mapping).collect(),
            parts,
        }
    }

    /// What indexes have that followed `former` and follow this now.
    fn after(mut self, former: &Known) -> Self {
        for mapping in &former.mappings {
            if let Some(own) = self
                .mappings
                .iter_mut()
                .find(|own| own.language == mapping.language)
            {
                let mut fields = mapping.fields.clone();
                fields.append(&mut own.fields);
                own.fields = fields;
            }
        }
        self
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("names and values are JSON")
    }

    fn changes(&self, former: &Known) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, part) in &self.parts {
            match former.parts.get(name) {
                None => changes.push(format!("{name}: new")),
                Some(known) if known != part => changes.push(format!("{name}: changed")),
                Some(_) => {}
            }
        }
        let gone = former.parts.keys().filter(|name| !self.parts.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name}: gone")));
        if changes.is_empty() && self.fingerprint != former.fingerprint {
            changes.push("the order of its fields: changed".to_owned());
        }
        changes
    }

    fn contradictions(&self, former: &Known) -> Vec<String> {
        let mut found = Vec::new();
        let mut differs = |what: &str, now: String, was: String| {
            if now != was {
                found.push(format!("its {what} is `{now}`, and was `{was}`"));
            }
        };
        differs("source", self.source.to_string(), former.source.to_string());
        differs("root", self.root.to_string(), former.root.to_string());
        differs("key", self.key.join(", "), former.key.join(", "));
        if self.parts.get("readers") != former.parts.get("readers") {
            found.push(
                "who reads it is different: what is indexed shows it to whom the former definition names"
                    .to_owned(),
            );
        }
        for known in &former.mappings {
            if self
                .mappings
                .iter()
                .all(|mapping| mapping.language != known.language)
            {
                let language = &known.language;
                found.push(format!(
                    "`{language}` is none of its languages any more: its documents there would not be found"
                ));
            }
        }
        for mapping in &self.mappings {
            let Some(known) = former
                .mappings
                .iter()
                .find(|known| known.language == mapping.language)
            else {
                continue;
            };
            for (path, kind) in &mapping.fields {
                match known.fields.get(path) {
                    Some(was) if was != kind => {
                        found.push(format!(
                            "field `{path}` is {}, and was {}",
                            named(kind),
                            named(was)
                        ));
                    }
                    Some(_) => {}
                    None if known.is_taken(path) => {
                        found.push(format!(
                            "field `{path}` cannot be beside the fields there are: one lies in the other"
                        ));
                    }
                    None => {}
                }
            }
        }
        found.dedup();
        found
    }
}

/// Who may read a document, without the numbers of nodes, which count the joins of fields.
fn readers(collection: &Collection) -> Value {
    let from = |from: &ReadersFrom| match from {
        ReadersFrom::Joined {
            node,
            column,
            subject,
        } => {
            let mut way = Vec::new();
            let mut at = Some(*node).filter(|node| *node > 0);
            while let Some(node) = at.map(|at| &collection.nodes[at]) {
                way.push(json!([node.table, node.on, node.condition]));
                at = node.parent.filter(|parent| *parent > 0);
            }
            json!({ "way": way, "column": column, "subject": subject })
        }
        ReadersFrom::Array(_) | ReadersFrom::Subject(_) => json!(from),
    };
    match &collection.readers {
        ReadersRule::Public => json!("public"),
        ReadersRule::Rows { allow, deny } => json!({
            "allow": allow.iter().map(from).collect::<Vec<_>>(),
            "deny": deny.iter().map(from).collect::<Vec<_>>(),
        }),
    }
}

fn named(kind: &FieldType) -> String {
    match kind {
        FieldType::Text { analyzer, keyword } => {
            let keyword = if *keyword { "" } else { ", without .keyword" };
            format!("text ({analyzer}{keyword})")
        }
        other => {
            let kind = serde_json::to_value(other).expect("a type is JSON");
            match (kind["type"].as_str(), kind["scale"].as_u64()) {
                (Some(kind), Some(scale)) => format!("{kind} ({scale} digits)"),
                (Some(kind), None) => kind.to_owned(),
                (None, _) => kind.to_string(),
            }
        }
    }
}

/// What these definitions change, set by set. Without a state everything is new.
pub(crate) async fn differences(
    config: &Config,
    collections: &[Collection],
    log: Option<&SignalledLog>,
) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for set in stored(config) {
        for collection in collections {
            let former = match log {
                Some(log) => known(log, set, &collection.name).await?,
                None => None,
            };
            let remade = match log {
                Some(log) => log.memo(&remake_memo(set, &collection.name)).await?,
                None => None,
            };
            // It was said of a definition, and holds for that one alone.
            let fingerprint = collection.fingerprint();
            let remade = remade.is_some_and(|leave| leave.lines().next() == Some(&fingerprint));
            found.push(difference(set, collection, former.as_ref(), remade));
        }
    }
    Ok(found)
}

fn difference(set: &SetName, collection: &Collection, former: Option<&Known>, remade: bool) -> Difference {
    let now = Known::of(collection);
    let (effect, changes, contradictions) = match former {
        None => (Effect::New, Vec::new(), Vec::new()),
        Some(former) => {
            let contradictions = now.contradictions(former);
            let effect = match (
                remade,
                contradictions.is_empty(),
                now.fingerprint == former.fingerprint,
            ) {
                (true, ..) => Effect::Remade,
                (false, false, _) => Effect::Refused,
                (false, true, true) => Effect::Unchanged,
                (false, true, false) => Effect::Rebuilt,
            };
            (effect, now.changes(former), contradictions)
        }
    };
    Difference {
        set: set.clone(),
        collection: collection.name.clone(),
        effect,
        changes,
        contradictions,
    }
}

/// Refuses definitions that contradict what is indexed, and remembers the others; the indexes are made to fit afterwards.
/// The leave to remake an index that was given for another definition is taken back.
pub(crate) async fn settle(config: &Config, collections: &[Collection], log: &SignalledLog) -> Result<()> {
    let differences = differences(config, collections, Some(log)).await?;
    let refused = |difference: &&Difference| difference.effect == Effect::Refused;
    let refused: Vec<&Difference> = differences.iter().filter(refused).collect();
    if !refused.is_empty() {
        return Err(contradicted(&refused));
    }
    for Difference {
        set,
        collection,
        effect,
        ..
    } in &differences
    {
        if *effect == Effect::Remade {
            // Remembered once the index is emptied: see [`leave_to_remake`].
            continue;
        }
        log.set_memo(&remake_memo(set, collection), None).await?;
        if *effect == Effect::Unchanged {
            continue;
        }
        let definition = collections.iter().find(|known| known.name == *collection);
        let mut now = Known::of(definition.expect("the difference is of one of them"));
        if *effect == Effect::Rebuilt
            && let Some(former) = known(log, set, collection).await?
        {
            now = now.after(&former);
        }
        log.set_memo(&definition_memo(set, collection), Some(&now.text()))
            .await?;
    }
    Ok(())
}

/// What the memo says that lets an index be remade: of which definition, and what is then remembered of it.
pub(crate) fn leave_to_remake(collection: &Collection) -> String {
    let known = Known::of(collection);
    format!("{}\n{}", known.fingerprint, known.text())
}

fn contradicted(refused: &[&Difference]) -> Error {
    let lines = refused.iter().map(|difference| {
        let Difference { set, collection, .. } = difference;
        format!(
            "`{collection}` in set `{set}`: {}",
            difference.contradictions.join("; ")
        )
    });
    let lines: Vec<String> = lines.collect();
    let Difference { set, collection, .. } = refused[0];
    Error::invalid(
        "definition_contradicted",
        format!(
            "an edited definition contradicts what is indexed: {}",
            lines.join("; ")
        ),
    )
    .with_remedy(ways_on(set, collection))
}

/// What may be done about a definition that contradicts an index.
pub(crate) fn ways_on(set: &SetName, collection: &CollectionName) -> String {
    format!(
        "go back to the former definition, or give the field another name; or let the index be emptied and filled again at \
         the next start, with search finding a part meanwhile: instep plan --remake {collection} --set {set}"
    )
}

/// The sets that keep documents.
fn stored(config: &Config) -> impl Iterator<Item = &SetName> {
    let keeps = |set: &&crate::config::SetConfig| {
        let cluster = config.clusters.iter().find(|cluster| cluster.name == set.cluster);
        cluster.is_some_and(|cluster| !matches!(cluster.engine, EngineConfig::Null))
    };
    config.sets.iter().filter(keeps).map(|set| &set.name)
}

async fn known(log: &SignalledLog, set: &SetName, collection: &CollectionName) -> Result<Option<Known>> {
    let text = log.memo(&definition_memo(set, collection)).await?;
    // What another version wrote is learnt anew.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
