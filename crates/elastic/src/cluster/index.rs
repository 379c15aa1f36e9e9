//! Making indexes, changing them in place, dropping them.
//!
//! An index carries a note in its mapping's `_meta`: the layout, the fields it was made for, the ids that the cluster
//! gave to itself and to the index, and who fills it. An index without the note, or whose note tells other ids, was not
//! made here or was restored over the one that was; one that another fills would be overwritten by two. Both are refused
//! by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use instep_core::{Ensured, Error, FieldType, IndexName, Mapping, Result, Settings};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Inner;
use super::client::{Answer, Call};
use super::fault;
use super::fields::{Known, LAYOUT, WRITE_ALIASES, properties, write_alias};
use super::request::LONGEST_PATH;

/// Fields that an index may have without being asked.
const FIELDS_BY_DEFAULT: usize = 1_000;

/// What a cluster does with members that no field names: it refuses the document.
const DYNAMIC: &str = "strict";

/// How long a cluster may take to say how its indexes are.
const LOOKED_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// How long the mapping of an index is taken for what it was: another process may extend it.
const BELIEVED: std::time::Duration = std::time::Duration::from_secs(30);

/// What an index says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    layout: u32,
    mapping: Mapping,
    /// The ids of the cluster and of the index; without them it was not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    /// Who fills it; nobody yet in an index that is older than this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

/// An index as the cluster describes it.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    aliases: Map<String, Value>,
    mappings: Mappings,
    settings: BTreeMap<String, Value>,
}

/// The settings of an index.
#[derive(Deserialize)]
struct Settled {
    settings: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Mappings {
    #[serde(rename = "_meta")]
    meta: Option<Meta>,
    #[serde(rename = "_source")]
    source: Option<Map<String, Value>>,
    dynamic: Option<Value>,
}

#[derive(Deserialize)]
struct Meta {
    instep: Option<Note>,
}

fn body(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

impl Inner {
    /// See [`instep_core::Engine::ensure`].
    pub(crate) async fn ensure(
        &self,
        index: &IndexName,
        mapping: &Mapping,
        settings: &Settings,
    ) -> Result<Ensured> {
        check_name(index)?;
        let wanted = flat(settings);
        durable(&wanted)?;
        if let Some(described) = self.describe(index).await? {
            return self.fit(index, mapping, &wanted, described).await;
        }
        // It is not there: is it the same cluster?
        self.client.doubt();
        let mut all = Map::new();
        if let Some(most) = most_fields(mapping.fields.len()) {
            all.insert("index.mapping.total_fields.limit".to_owned(), json!(most));
        }
        all.extend(wanted);
        let note = Note {
            layout: LAYOUT,
            mapping: mapping.clone(),
            cluster: None,
            index: None,
            owner: self.owner(),
        };
        let made = json!({
            "settings": all,
            "aliases": {write_alias(index.as_str()): {}},
            "mappings": {"dynamic": DYNAMIC, "_meta": {"instep": note}, "properties": properties(&mapping.fields)},
        });
        let answer = self.client.call(Call::put(index.as_str(), body(&made))).await?;
        self.done(&answer, index, "making")?;
        match self.describe(index).await? {
            // Templates of the cluster's have their say in what was made.
            Some(described) if described.keeps().is_err() => {
                self.drop_index(index).await?;
                described.keeps()?;
            }
            Some(described) => {
                self.sign(index, note, &described).await?;
                self.learn(index, mapping.clone(), &described);
            }
            None => return Err(fault::missing(index.as_str())),
        }
        Ok(Ensured::Created)
    }

    /// Changes an index that exists so that it serves, where that is possible.
    async fn fit(
        &self,
        index: &IndexName,
        mapping: &Mapping,
        settings: &Map<String, Value>,
        described: Described,
    ) -> Result<Ensured> {
        let mut note = self.ours(index, &described).await?;
        described.keeps()?;
        if note.layout != LAYOUT {
            return Ok(Ensured::Outdated);
        }
        if note.mapping.language != mapping.language {
            return Ok(Ensured::NeedsNewIndex);
        }
        let mut new: BTreeMap<String, FieldType> = BTreeMap::new();
        for (path, kind) in &mapping.fields {
            match note.mapping.fields.get(path) {
                Some(known) if known == kind => {}
                Some(_) => return Ok(Ensured::NeedsNewIndex),
                None if note.mapping.is_taken(path) => return Ok(Ensured::NeedsNewIndex),
                None => {
                    new.insert(path.clone(), kind.clone());
                }
            }
        }
        if !self.set(index, settings, &described.settings).await? {
            return Ok(Ensured::NeedsNewIndex);
        }
        if !described.aliases.contains_key(&write_alias(index.as_str())) {
            self.name(index).await?;
        }
        let extended = !new.is_empty();
        // A template of the cluster's may have said otherwise since, or another version of ours.
        let is_strict = described
            .mappings
            .dynamic
            .as_ref()
            .is_some_and(|dynamic| dynamic == DYNAMIC);
        if extended || !is_strict {
            note.mapping
                .fields
                .extend(new.iter().map(|(path, kind)| (path.clone(), kind.clone())));
            if let Some(most) = most_fields(note.mapping.fields.len())
                && !settings.contains_key("index.mapping.total_fields.limit")
            {
                let raised = Map::from_iter([("index.mapping.total_fields.limit".to_owned(), json!(most))]);
                self.set(index, &raised, &described.settings).await?;
            }
            let change =
                json!({"dynamic": DYNAMIC, "_meta": {"instep": note}, "properties": properties(&new)});
            let answer = self
                .client
                .call(Call::put(format!("{index}/_mapping"), body(&change)))
                .await?;
            self.done(&answer, index, "extending")?;
        }
        if note.index.is_none() || (note.owner.is_none() && self.owner().is_some()) {
            self.sign(index, note.clone(), &described).await?;
        }
        self.learn(index, note.mapping, &described);
        Ok(if extended {
            Ensured::Extended
        } else {
            Ensured::Unchanged
        })
    }

    /// Makes the alias through which an index is written to.
    pub(crate) async fn name(&self, index: &IndexName) -> Result<()> {
        let path = format!("{index}/_alias/{}", write_alias(index.as_str()));
        let answer = self.client.call(Call::put(path, "{}")).await?;
        self.done(&answer, index, "naming")
    }

    /// The note of an index, if it is the one that was made here.
    async fn ours(&self, index: &IndexName, described: &Described) -> Result<Note> {
        let note = described
            .mappings
            .meta
            .as_ref()
            .and_then(|meta| meta.instep.clone());
        let note = note.ok_or_else(|| fault::replaced(index.as_str()))?;
        let product = self.client.product().await?;
        let same = |said: &Option<String>, is: Option<&str>| said.is_none() || said.as_deref() == is;
        if !same(&note.cluster, Some(&product.cluster)) || !same(&note.index, described.uuid()) {
            return Err(fault::replaced(index.as_str()));
        }
        self.owned(index, &note)?;
        Ok(note)
    }

    /// Refuses an index that another fills.
    fn owned(&self, index: &IndexName, note: &Note) -> Result<()> {
        match (&note.owner, self.owner()) {
            (Some(other), Some(own)) if *other != own => Err(fault::of_another(index.as_str())),
            _ => Ok(()),
        }
    }

    fn owner(&self) -> Option<String> {
        Some(self.owner.clone()).filter(|owner| !owner.is_empty())
    }

    /// Writes the ids of cluster and index into the note of an index that was just made.
    async fn sign(&self, index: &IndexName, mut note: Note, described: &Described) -> Result<()> {
        note.cluster = Some(self.client.product().await?.cluster.clone());
        note.index = described.uuid().map(str::to_owned);
        note.owner = note.owner.or_else(|| self.owner());
        let change = json!({"_meta": {"instep": note}});
        let answer = self
            .client
            .call(Call::put(format!("{index}/_mapping"), body(&change)))
            .await?;
        self.done(&answer, index, "signing")
    }

    /// Changes settings that differ; `false` where one cannot be changed while the index lives.
    async fn set(
        &self,
        index: &IndexName,
        wanted: &Map<String, Value>,
        current: &BTreeMap<String, Value>,
    ) -> Result<bool> {
        let differing: Map<String, Value> = wanted
            .iter()
            .filter(|(name, value)| current.get(*name).map(as_text) != Some(as_text(value)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if differing.is_empty() {
            return Ok(true);
        }
        let change = Value::Object(differing);
        let answer = self
            .client
            .call(Call::put(format!("{index}/_settings"), body(&change)))
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        let fixed = ["non dynamic", "static setting", "final "];
        if answer.status == 400 && fixed.iter().any(|word| text.contains(word)) {
            return Ok(false);
        }
        self.done(&answer, index, "changing the settings of")?;
        Ok(true)
    }

    async fn describe(&self, index: &IndexName) -> Result<Option<Described>> {
        let path = format!("{index}?flat_settings=true&expand_wildcards=all");
        let answer = self.client.call(Call::get(path)).await?;
        if answer.status == 404 && fault::Told::read(&answer.body).is("index_not_found_exception") {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(fault::of_administration(
                answer.status,
                &answer.body,
                &format!("looking at index `{index}`"),
            ));
        }
        let mut all: BTreeMap<String, Described> = serde_json::from_slice(&answer.body)
            .map_err(|_| fault::unreadable("does not describe an index"))?;
        // An alias of this name would be answered with the index behind it.
        match all.remove(index.as_str()) {
            Some(described) => Ok(Some(described)),
            None => Err(fault::replaced(index.as_str())),
        }
    }

    /// See [`instep_core::Engine::look`]: by the settings alone, which are short.
    pub(crate) async fn look(&self, indexes: &[IndexName]) -> Result<()> {
        for index in indexes {
            check_name(index)?;
        }
        let mut rest = indexes;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(fitting(rest));
            rest = others;
            let list: Vec<&str> = some.iter().map(IndexName::as_str).collect();
            let path = format!(
                "{}/_settings?flat_settings=true&expand_wildcards=all",
                list.join("%2C")
            );
            let answer = self
                .client
                .call(Call::get(path).hurried().within(LOOKED_WITHIN))
                .await?;
            if !answer.is_success() {
                let told = fault::Told::read(&answer.body);
                if answer.status == 404 && told.is("index_not_found_exception") {
                    let gone = some.iter().find(|index| told.says(&format!("[{index}]")));
                    return Err(fault::missing(gone.unwrap_or(&some[0]).as_str()));
                }
                // What is no answer of a cluster says nothing about indexes: whatever it is, it may pass.
                let strange = || fault::unreadable("tells no settings of indexes");
                return Err(fault::of_everyone(answer.status, &told).unwrap_or_else(strange));
            }
            let mut all: BTreeMap<String, Settled> = serde_json::from_slice(&answer.body)
                .map_err(|_| fault::unreadable("tells no settings of indexes"))?;
            if all.is_empty() {
                return Err(fault::unreadable("tells no settings of indexes"));
            }
            for index in some {
                // An alias of this name would be answered with the index behind it.
                let settled = all.remove(index.as_str());
                let settled = settled.ok_or_else(|| fault::replaced(index.as_str()))?;
                self.check_state(index, &settled.settings)?;
            }
        }
        Ok(())
    }

    /// Whether an index with these settings is the one that is known, open, and takes writes.
    fn check_state(&self, index: &IndexName, settings: &BTreeMap<String, Value>) -> Result<()> {
        let says = |name: &str, text: &str| settings.get(name).is_some_and(|value| as_text(value) == text);
        let known = self.known().get(index).and_then(|known| known.uuid.clone());
        if known.is_some_and(|known| !says("index.uuid", &known)) {
            return Err(fault::replaced(index.as_str()));
        }
        if says("index.verified_before_close", "true") {
            return Err(fault::closed());
        }
        let blocks = ["read_only_allow_delete", "read_only", "write"];
        match blocks
            .iter()
            .any(|block| says(&format!("index.blocks.{block}"), "true"))
        {
            true => Err(fault::read_only()),
            false => Ok(()),
        }
    }

    /// What is known of an index; `NotFound` where there is none.
    pub(crate) async fn known_of(&self, index: &IndexName) -> Result<Arc<Known>> {
        let known = self.known().get(index).cloned();
        if let Some(known) = known.filter(|known| known.since.elapsed() < BELIEVED) {
            return Ok(known);
        }
        check_name(index)?;
        let Some(described) = self.describe(index).await? else {
            self.forget(index);
            return Err(instep_core::Error::not_found(
                "index_not_found_exception",
                format!("no such index [{index}]"),
            ));
        };
        let note = self.ours(index, &described).await?;
        Ok(self.learn(index, note.mapping, &described))
    }

    fn learn(&self, index: &IndexName, mapping: Mapping, described: &Described) -> Arc<Known> {
        let known = Arc::new(Known {
            mapping,
            uuid: described.uuid().map(str::to_owned),
            since: Instant::now(),
        });
        self.known().insert(index.clone(), Arc::clone(&known));
        known
    }

    pub(crate) fn forget(&self, index: &IndexName) {
        self.known().remove(index);
    }

    /// See [`instep_core::Engine::drop_index`].
    pub(crate) async fn drop_index(&self, index: &IndexName) -> Result<()> {
        check_name(index)?;
        self.forget(index);
        if self.owner().is_some()
            && let Some(described) = self.describe(index).await?
            && let Some(Meta { instep: Some(note) }) = &described.mappings.meta
        {
            self.owned(index, note)?;
        }
        let answer = self
            .client
            .call(Call::head_or_delete(Method::DELETE, index.as_str()))
            .await?;
        if answer.status == 404 && fault::Told::read(&answer.body).is("index_not_found_exception") {
            return Ok(());
        }
        self.done(&answer, index, "dropping")
    }

    /// See [`instep_core::Engine::indexes`]: those that were made here.
    pub(crate) async fn indexes(&self) -> Result<Vec<IndexName>> {
        let path = format!("_alias/{WRITE_ALIASES}?expand_wildcards=all");
        let answer = self.client.call(Call::get(path)).await?;
        // Of aliases that are not there, and no other 404: what is no answer of a cluster says nothing about indexes.
        let told = fault::Told::read(&answer.body);
        if answer.status == 404 && (told.says("alias") && told.says("missing")) {
            return Ok(Vec::new());
        }
        if !answer.is_success() {
            return Err(fault::of_administration(
                answer.status,
                &answer.body,
                "listing indexes",
            ));
        }
        let all: BTreeMap<String, Value> =
            serde_json::from_slice(&answer.body).map_err(|_| fault::unreadable("lists no indexes"))?;
        let mut names: Vec<IndexName> = all
            .into_iter()
            .filter(|(name, value)| value["aliases"].get(write_alias(name)).is_some())
            .map(|(name, _)| IndexName::from(name))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Checks that the cluster did what it was asked for.
    fn done(&self, answer: &Answer, index: &IndexName, doing: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Acknowledged {
            acknowledged: bool,
        }
        if !answer.is_success() {
            if fault::Told::read(&answer.body).is("resource_already_exists_exception") {
                return Err(Error::transient(
                    "index_made_twice",
                    format!("index `{index}` was made by another process at the same time"),
                ));
            }
            let what = format!("{doing} index `{index}`");
            return Err(fault::of_administration(answer.status, &answer.body, &what));
        }
        match serde_json::from_slice(&answer.body) {
            Ok(Acknowledged { acknowledged: true }) => Ok(()),
            Ok(Acknowledged { acknowledged: false }) => Err(Error::transient(
                "engine_slow",
                format!("{doing} index `{index}`: not every host has done so yet"),
            )),
            Err(_) => Err(fault::unreadable("acknowledges nothing")),
        }
    }
}

impl Described {
    /// Whether documents stay in it, as they were written.
    fn keeps(&self) -> Result<()> {
        durable(&self.settings)?;
        let source = self.mappings.source.iter().flatten();
        for (option, value) in source {
            let whole = match option.as_str() {
                "enabled" => as_text(value) == "true",
                "includes" | "excludes" => value.as_array().is_some_and(Vec::is_empty),
                "mode" => as_text(value) == "stored",
                _ => true,
            };
            if !whole {
                return Err(unsafe_setting(
                    &format!("_source.{option}"),
                    &as_text(value),
                    "a cluster does not keep documents as they were written",
                ));
            }
        }
        Ok(())
    }

    fn uuid(&self) -> Option<&str> {
        self.settings.get("index.uuid").and_then(Value::as_str)
    }
}

/// The limit on fields that an index of so many of ours needs, where it is not the cluster's own: a text has two.
fn most_fields(ours: usize) -> Option<usize> {
    (2 * ours > FIELDS_BY_DEFAULT - 100).then_some(2 * ours + 100)
}

/// Settings with their full names, one level deep.
fn flat(settings: &Settings) -> Map<String, Value> {
    fn each(name: &str, value: &Value, into: &mut Map<String, Value>) {
        match value {
            Value::Object(members) => {
                for (member, value) in members {
                    each(&format!("{name}.{member}"), value, into);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                into.insert(name.to_owned(), value.clone());
            }
        }
    }
    let mut all = Map::new();
    for (name, value) in settings {
        let name = match name.as_str() {
            "index" => name.clone(),
            name if name.starts_with("index.") => name.to_owned(),
            name => format!("index.{name}"),
        };
        each(&name, value, &mut all);
    }
    all
}

/// What is written must stay written, and as it was written, whatever the settings say.
fn durable<'a>(settings: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Result<()> {
    for (name, value) in settings {
        let value = as_text(value);
        let why = match (name.as_str(), value.as_str()) {
            ("index.translog.durability", value) if value != "request" => {
                "a cluster loses what it has acknowledged"
            }
            ("index.mapping.source.mode", "synthetic" | "disabled")
            | ("index.mode", "logsdb" | "time_series") => {
                "a cluster does not keep documents as they were written"
            }
            ("index.default_pipeline" | "index.final_pipeline", value) if value != "_none" => {
                "a cluster rewrites documents"
            }
            _ => continue,
        };
        return Err(unsafe_setting(name, &value, why));
    }
    Ok(())
}

fn unsafe_setting(name: &str, value: &str, why: &str) -> Error {
    Error::invalid("unsafe_setting", format!("with {name} = {value} {why}"))
        .with_remedy("leave it out of the settings, and of the cluster's index templates")
}

/// How many of these indexes, one at least, an address can name.
fn fitting(indexes: &[IndexName]) -> usize {
    let mut length = 0;
    let fits = |index: &&IndexName| {
        length += index.as_str().len() + 3;
        length <= LONGEST_PATH
    };
    indexes.iter().take_while(fits).count().max(1)
}

/// A setting as a cluster shows it.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// Refuses what a cluster would read as more than a name.
pub(crate) fn check_name(index: &IndexName) -> Result<()> {
    let name = index.as_str();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > 200 || name.starts_with(['-', '_']) || !name.bytes().all(plain) {
        return Err(Error::invalid(
            "bad_index_name",
            format!("`{name}` cannot be the name of an index"),
        )
        .with_remedy("use up to 200 of a-z, 0-9, - and _, starting with a letter or digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_flat_and_full() {
        let settings: Settings = [
            ("number_of_replicas", json!(0)),
            ("index.refresh_interval", json!("5s")),
            ("analysis", json!({"analyzer": {"a": {"type": "keyword"}}})),
            ("index", json!({"codec": "best_compression"})),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let expected = json!({
            "index.number_of_replicas": 0,
            "index.refresh_interval": "5s",
            "index.analysis.analyzer.a.type": "keyword",
            "index.codec": "best_compression",
        });
        assert_eq!(Value::Object(flat(&settings)), expected);
        for (name, value) in [
            ("translog", json!({"durability": "async"})),
            ("mapping.source.mode", json!("synthetic")),
            ("index.mode", json!("logsdb")),
            ("default_pipeline", json!("enrich")),
        ] {
            let unsafe_one: Settings = [(name.to_owned(), value)].into();
            assert!(durable(&flat(&unsafe_one)).is_err(), "{name}");
        }
        assert!(durable(&flat(&settings)).is_ok());
    }

    #[test]
    fn names_are_plain() {
        for good in ["documents-main-product-en", "a", "1_b-c"] {
            assert!(check_name(&good.into()).is_ok(), "{good}");
        }
        for bad in ["", "A", "a*", "a,b", "_all", "-a", "a/b", "a?x", "<a>"] {
            assert!(check_name(&bad.into()).is_err(), "{bad}");
        }
    }
}
