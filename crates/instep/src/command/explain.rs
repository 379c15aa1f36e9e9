//! `explain`: why a document is what it is, or is not there; and which documents a change touches.

use std::path::Path;
use std::process::ExitCode;

use instep_core::{
    Built, ChangeLog, Collection, DocId, DocKey, Document, Error, IndexName, Key, Readers, Result, Seq,
    SetName, SetState, SetStatus, SourceName, Stored, TableSchema, Trouble, Value as Cell, Visibility,
};
use instep_sync::{Explained, Reached, RowRead};
use serde_json::{Value, json};

use crate::check;
use crate::command::trace::drawn_ms;
use crate::command::{configuration, document_id, moment, pause, sets, unknown, word};
use crate::config::KeyConfig;
use crate::output::Output;
use crate::wiring::{self, Access, Parts};

/// Documents that `explain change` names for each way.
const NAMED: usize = 20;

/// Rows and statements of `explain doc` that are said in words; JSON has them all.
const SAID: usize = 50;

/// What of a document is explained.
pub(crate) struct Wanted {
    pub(crate) collection: String,
    pub(crate) key: String,
    pub(crate) set: Option<String>,
    /// Show the rows' values, and the documents.
    pub(crate) values: bool,
}

/// `instep explain doc <collection> <key>`: also beside a running process.
pub(crate) async fn doc(path: &Path, wanted: Wanted, output: &Output) -> Result<ExitCode> {
    let parts = Parts::open(configuration(path)?, Access::Guest).await?;
    let collection = collection(&parts, &wanted.collection)?;
    let key = DocKey {
        collection: collection.name.clone(),
        id: document_id(&wanted.key)?,
    };
    let explained = parts.assembler.explain(&key.collection, &key.id).await?;
    let known = parts.log.status().await?;
    let mut states = Vec::new();
    for set in sets(&parts.config, wanted.set.as_deref())? {
        let status = known.iter().find(|status| status.set == set);
        states.push(State::of(&parts, collection, &key, &set, status, &explained).await?);
    }
    let doc = Doc {
        parts: &parts,
        collection,
        key: &key,
        explained: &explained,
        states: &states,
        values: wanted.values,
    };
    output.result(&doc.text(), &doc.json());
    Ok(ExitCode::SUCCESS)
}

fn collection<'a>(parts: &'a Parts, wanted: &str) -> Result<&'a Collection> {
    let mut all = parts.collections.iter();
    all.find(|known| known.name.as_str() == wanted).ok_or_else(|| {
        let names: Vec<_> = parts.collections.iter().map(|known| &known.name).collect();
        unknown(
            "unknown_collection",
            &format!("there is no collection `{wanted}`"),
            &names,
        )
    })
}

/// Whether a set holds what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The engine holds what would be built now.
    InStep,
    /// It holds something else.
    Differs,
    /// It holds nothing, and should.
    Missing,
    /// It holds a document that should not be there.
    LeftOver,
    /// It holds nothing, as it should.
    Absent,
}

impl Verdict {
    fn of(built: &Built, held: Option<&Stored>) -> Self {
        match (built, held) {
            (Built::Document(document, _), Some(held)) if is_equal(document, held) => Verdict::InStep,
            (Built::Document(..), Some(_)) => Verdict::Differs,
            (Built::Document(..), None) => Verdict::Missing,
            (Built::Gone | Built::Rejected(..), Some(_)) => Verdict::LeftOver,
            (Built::Gone | Built::Rejected(..), None) => Verdict::Absent,
        }
    }

    /// As JSON and as words have it.
    fn name(self) -> (&'static str, &'static str) {
        match self {
            Verdict::InStep => ("in_step", "in step: it equals what would be built now"),
            Verdict::Differs => ("differs", "it differs from what would be built now"),
            Verdict::Missing => ("missing", "it is missing"),
            Verdict::LeftOver => ("left_over", "it is there, and should not be"),
            Verdict::Absent => ("absent", "it is not there, as it should be"),
        }
    }
}

fn is_equal(document: &Document, held: &Stored) -> bool {
    document.source == held.source && document.readers == held.readers
}

/// A reason why a document is not there, or not as its rows say, and what to do.
struct Reason {
    code: &'static str,
    message: String,
    next: Option<String>,
}

impl Reason {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Reason {
            code,
            message: message.into(),
            next: None,
        }
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// A document in one set.
struct State {
    set: SetName,
    keeps_documents: bool,
    held: Option<Stored>,
    verdict: Verdict,
    because: Vec<Reason>,
}

impl State {
    async fn of(
        parts: &Parts,
        collection: &Collection,
        key: &DocKey,
        set: &SetName,
        status: Option<&SetStatus>,
        explained: &Explained,
    ) -> Result<State> {
        let engine = &parts.engine_of(set)?.engine;
        let keeps_documents = engine.capabilities().stores;
        let mut held = None;
        if keeps_documents && !key.id.is_stand_in() {
            let there = engine.indexes().await?;
            let mut languages = collection.language.all();
            // Where it belongs comes first.
            if let Built::Document(document, _) = &explained.built {
                languages.sort_by_key(|language| *language != document.language);
            }
            for language in languages {
                let index = IndexName::physical(set, &collection.name, &language);
                if held.is_none() && there.contains(&index) {
                    held = engine
                        .read(&index, std::slice::from_ref(&key.id))
                        .await?
                        .pop()
                        .flatten();
                }
            }
        }
        let verdict = Verdict::of(&explained.built, held.as_ref());
        let mut because = because_of_rows(collection, key, explained);
        match status {
            Some(status) => because.extend(because_of_set(parts, collection, key, status, verdict).await?),
            None => because.push(
                Reason::new(
                    "never_indexed",
                    format!("nothing was ever indexed into set {set}"),
                )
                .next("instep serve, or instep sync --once"),
            ),
        }
        Ok(State {
            set: set.clone(),
            keeps_documents,
            held,
            verdict,
            because,
        })
    }
}

/// Why the rows make no document.
fn because_of_rows(collection: &Collection, key: &DocKey, explained: &Explained) -> Vec<Reason> {
    match &explained.built {
        Built::Document(..) => Vec::new(),
        Built::Rejected(error, _) => {
            let reason = Reason::new("refused", format!("its rows make no document: {error}"));
            vec![match error.remedy() {
                Some(remedy) => reason.next(remedy),
                None => reason,
            }]
        }
        // The root is read first; a row that came and is not among those of the document does not meet the condition.
        Built::Gone if explained.fetches.first().is_none_or(|root| root.rows == 0) => vec![Reason::new(
            "row_gone",
            format!("table {} has no row {}", collection.root.name, key.id),
        )],
        Built::Gone if explained.purged => vec![purged(collection)],
        Built::Gone => vec![unmet_condition(collection)],
    }
}

/// The root row is there, and makes no document: the collection's `where` condition that it does not meet is named here.
fn unmet_condition(collection: &Collection) -> Reason {
    let condition = collection.nodes[0].condition.as_ref();
    Reason::new(
        "condition_not_met",
        format!(
            "the row is there, but does not meet the condition of collection {}: {}",
            collection.name,
            condition.map_or("", |condition| condition.sql())
        ),
    )
}

/// The root row is there, and was soft-deleted long ago.
fn purged(collection: &Collection) -> Reason {
    let purge = collection.purge.as_ref().expect("it was purged by it");
    let days = purge.after.as_secs() / (24 * 60 * 60);
    Reason::new(
        "purged",
        format!(
            "the row was soft-deleted more than {days} days ago, by its {}",
            purge.column
        ),
    )
}

/// What of a set and of the log keeps a document from being as its rows say.
async fn because_of_set(
    parts: &Parts,
    collection: &Collection,
    key: &DocKey,
    status: &SetStatus,
    verdict: Verdict,
) -> Result<Vec<Reason>> {
    let (log, set) = (&parts.log, &status.set);
    let mut because = Vec::new();
    let known = log.trouble_of(set, std::slice::from_ref(key)).await?;
    because.extend(
        known
            .into_iter()
            .flatten()
            .map(|trouble| in_trouble(key, &trouble)),
    );
    if let Some(seq) = log.entry_of(key).await?.filter(|seq| *seq > status.position) {
        because.push(pending(seq, status.position));
    }
    let scans = status
        .scans
        .iter()
        .filter(|scan| scan.collection == collection.name);
    if let Some(scan) = scans.into_iter().find(|scan| !scan.finished)
        && verdict != Verdict::InStep
    {
        because.push(Reason::new(
            "scan_not_finished",
            format!("the collection is being scanned: {} documents so far", scan.done),
        ));
    }
    for paused in log.paused().await? {
        if paused.holds(&collection.name, &collection.source) {
            because.push(
                Reason::new(
                    "paused",
                    format!(
                        "{} is paused since {}",
                        paused.what,
                        moment(Some(paused.since_ms))
                    ),
                )
                .next(format!("instep resume {}", pause::spelled(&paused.what))),
            );
        }
    }
    let halted = instep_sync::halted_collections(&**log, std::slice::from_ref(status)).await?;
    for (_, _, problem) in halted.iter().filter(|(_, name, _)| *name == collection.name) {
        because.push(Reason::new(
            "collection_halted",
            format!("the collection stands still: {}", problem.line()),
        ));
    }
    match &status.state {
        SetState::Following => {}
        SetState::Paused => because.push(Reason::new("set_paused", format!("set {set} is paused"))),
        SetState::Halted(why) => because.push(
            Reason::new("set_halted", format!("set {set} is halted: {why}"))
                .next("mend it, then start instep again"),
        ),
        SetState::Retiring => {
            because.push(Reason::new("set_retiring", format!("set {set} is being removed")))
        }
    }
    let is_off = matches!(verdict, Verdict::Differs | Verdict::Missing | Verdict::LeftOver);
    if because.is_empty() && is_off && check::in_use(&parts.config.state).is_none() {
        because.push(
            Reason::new(
                "not_running",
                "nothing runs now: what changed since is not taken in",
            )
            .next("instep serve, or instep sync --once"),
        );
    }
    if because.is_empty() && is_off {
        because.push(
            Reason::new(
                "unknown",
                "nothing is on its way: a change may have arrived just now, otherwise this is drift",
            )
            .next("ask again; then instep verify --repair"),
        );
    }
    Ok(because)
}

fn in_trouble(key: &DocKey, trouble: &Trouble) -> Reason {
    let why = format!(
        "{} ({}), attempts: {}",
        trouble.reason, trouble.code, trouble.attempts
    );
    match trouble.next_ms {
        None => Reason::new("dead_letter", format!("it is a dead letter: {why}")).next(format!(
            "mend its rows; or instep dead retry {} {}",
            key.collection,
            word(key.id.as_str())
        )),
        Some(next) => Reason::new(
            "retry_pending",
            format!("it failed and is tried again at {}: {why}", moment(Some(next))),
        ),
    }
}

fn pending(seq: Seq, position: Seq) -> Reason {
    Reason::new(
        "pending",
        format!("it was touched and waits to be built: number {seq}, the set is at {position}"),
    )
}

/// Who sees a document: everybody, or which of the configuration's keys, and why not the others.
struct Seen {
    public: bool,
    /// Each with why it does not see it.
    keys: Vec<(String, Option<&'static str>)>,
}

impl Seen {
    fn text(&self) -> String {
        if self.public {
            return "everybody".to_owned();
        }
        let key = |(name, hidden): &(String, Option<&'static str>)| match hidden {
            None => format!("key {name}"),
            Some(why) => format!("not key {name} ({why})"),
        };
        match self.keys.is_empty() {
            true => "nobody: there are no keys".to_owned(),
            false => self.keys.iter().map(key).collect::<Vec<_>>().join(", "),
        }
    }

    fn json(&self) -> Value {
        let key = |(name, hidden): &(String, Option<&'static str>)| {
            (
                name.clone(),
                json!({ "sees": hidden.is_none(), "why_not": hidden }),
            )
        };
        json!({ "public": self.public, "keys": Value::Object(self.keys.iter().map(key).collect()) })
    }
}

/// Why a key does not see a document with these readers; `None` where it does.
fn hidden(key: &KeyConfig, collection: &Collection, readers: &Readers) -> Option<&'static str> {
    if !key.scopes.search.covers(&collection.name) {
        return Some("its scopes do not cover the collection");
    }
    if key.scopes.read_all {
        return None;
    }
    let caller = Visibility::of(Some(&key.subject), &key.units);
    match readers {
        _ if caller.admits(readers) => None,
        Readers::Only { allow, .. } if caller.admits(&Readers::of(allow.clone(), Vec::new())) => {
            Some("denied")
        }
        Readers::Public | Readers::Only { .. } => Some("not among its readers"),
    }
}

/// What is said of a document.
struct Doc<'a> {
    parts: &'a Parts,
    collection: &'a Collection,
    key: &'a DocKey,
    explained: &'a Explained,
    states: &'a [State],
    values: bool,
}

impl Doc<'_> {
    /// Who sees the document that would be built now; `None` where none would.
    fn seen(&self) -> Option<Seen> {
        let Built::Document(document, _) = &self.explained.built else {
            return None;
        };
        let keys = self.parts.config.keys.iter();
        let verdict = |key: &KeyConfig| (key.name.clone(), hidden(key, self.collection, &document.readers));
        Some(Seen {
            public: document.readers == Readers::Public,
            keys: keys.map(verdict).collect(),
        })
    }

    /// The statements, each with how many rows it brought.
    fn statements(&self) -> Vec<(String, usize)> {
        let mut sources = self.parts.config.sources.iter();
        let source = sources.find(|source| source.name == self.collection.source);
        let fetches = self.explained.fetches.iter();
        let said = fetches.filter_map(|fetched| {
            let statement = wiring::select(&source?.url, &fetched.fetch);
            Some((statement, fetched.rows))
        });
        said.collect()
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.key);
        let rows = &self.explained.rows;
        if !rows.is_empty() {
            text.push_str("rows it comes from:\n");
        }
        for row in rows.iter().take(SAID) {
            text.push_str(&format!("    {}: {} {}\n", row.alias, row.table, named(&row.key)));
            if self.values {
                for (column, value) in &row.columns {
                    text.push_str(&format!("        {column} = {}\n", spelled(value)));
                }
            }
        }
        if rows.len() > SAID {
            text.push_str(&format!("    and {} more\n", rows.len() - SAID));
        }
        text.push_str("read by:\n");
        for (statement, count) in self.statements() {
            text.push_str(&format!("    {statement}; -- {count} rows\n"));
        }
        if self.values
            && let Built::Document(document, _) = &self.explained.built
        {
            text.push_str(&format!("would be built now: {}\n", document.source));
        }
        if let Some(seen) = self.seen() {
            text.push_str(&format!("seen by: {}\n", seen.text()));
        }
        for state in self.states {
            text.push_str(&format!("set {}: {}\n", state.set, said(state)));
            if let Some(held) = &state.held {
                text.push_str(&format!(
                    "    written under ticket {} of {}\n",
                    held.ticket.0,
                    moment(Some(drawn_ms(held.ticket)))
                ));
                if self.values {
                    text.push_str(&format!("    held: {}\n", held.source));
                }
            }
            for reason in &state.because {
                text.push_str(&format!("    {}\n", reason.message));
                if let Some(next) = &reason.next {
                    text.push_str(&format!("        next: {next}\n"));
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.explained.rows.iter().map(|row| self.row(row));
        let statements = self.statements().into_iter();
        let statements = statements.map(|(statement, rows)| json!({ "sql": statement, "rows": rows }));
        let built = match &self.explained.built {
            Built::Document(document, _) => {
                let mut built = json!({ "becomes": "document" });
                if self.values {
                    built["source"] = parsed(&document.source);
                }
                built
            }
            Built::Gone => json!({ "becomes": "nothing" }),
            Built::Rejected(error, _) => json!({
                "becomes": "refused", "code": error.code(), "reason": error.to_string(),
            }),
        };
        json!({
            "collection": self.key.collection,
            "key": self.key.id.as_str(),
            "rows": rows.collect::<Vec<_>>(),
            "statements": statements.collect::<Vec<_>>(),
            "built": built,
            "readers": self.seen().map(|seen| seen.json()),
            "sets": self.states.iter().map(|state| self.state(state)).collect::<Vec<_>>(),
        })
    }

    fn row(&self, row: &RowRead) -> Value {
        let mut shown = json!({ "alias": row.alias, "table": row.table, "key": named(&row.key) });
        if self.values {
            let columns = row.columns.iter();
            let columns = columns.map(|(column, value)| (column.clone(), json!(spelled(value))));
            shown["columns"] = Value::Object(columns.collect());
        }
        shown
    }

    fn state(&self, state: &State) -> Value {
        let held = state.held.as_ref().map(|held| {
            let mut shown = json!({ "ticket": held.ticket, "written_ms": drawn_ms(held.ticket) });
            if self.values {
                shown["source"] = parsed(&held.source);
            }
            shown
        });
        let because = state
            .because
            .iter()
            .map(|reason| json!({ "code": reason.code, "message": reason.message, "next": reason.next }));
        json!({
            "set": state.set,
            "state": if state.keeps_documents { state.verdict.name().0 } else { "not_kept" },
            "held": held,
            "because": because.collect::<Vec<_>>(),
        })
    }
}

fn said(state: &State) -> &'static str {
    match state.keeps_documents {
        true => state.verdict.name().1,
        false => "its engine keeps no documents",
    }
}

/// A document's JSON; as text should it be none.
fn parsed(source: &str) -> Value {
    serde_json::from_str(source).unwrap_or_else(|_| json!(source))
}

/// A row's key as an `_id` is written.
fn named(key: &Key) -> String {
    DocId::naming(key).to_string()
}

fn spelled(value: &Cell) -> String {
    match value.is_null() {
        true => "null".to_owned(),
        false => value.to_string(),
    }
}

/// `instep explain change <table> <key>`: also beside a running process.
pub(crate) async fn change(
    path: &Path,
    table: &str,
    key: &str,
    source: Option<&str>,
    output: &Output,
) -> Result<ExitCode> {
    let parts = Parts::open(configuration(path)?, Access::Guest).await?;
    let (source, schema) = table_named(&parts, table, source).await?;
    let id = document_id(key)?;
    let key = schema.key_of(&id).ok_or_else(|| {
        let columns = schema.primary_key.join(", ");
        Error::invalid(
            "bad_key",
            format!("a key of table `{}` has the columns {columns}", schema.name),
        )
        .with_remedy("write a key of several columns with commas between them, in that order")
    })?;
    let reached = parts
        .assembler
        .reached(&source, &schema.name, &key, NAMED)
        .await?;
    let row = instep_core::RowKey {
        table: schema.name.clone(),
        key,
    };
    let recorded = parts.log.readers_of(&row, NAMED).await?;
    let change = Change {
        source: &source,
        schema: &schema,
        id: &id,
        reached: &reached,
        recorded: &recorded,
    };
    output.result(&change.text(), &change.json());
    Ok(ExitCode::SUCCESS)
}

/// The table of this name in the one source that has it, in full or without its schema.
async fn table_named(parts: &Parts, wanted: &str, source: Option<&str>) -> Result<(SourceName, TableSchema)> {
    if let Some(source) = source.filter(|source| !parts.sources.contains_key(*source)) {
        let names: Vec<_> = parts.sources.keys().collect();
        return Err(unknown(
            "unknown_source",
            &format!("there is no source `{source}`"),
            &names,
        ));
    }
    let mut found = Vec::new();
    let mut names = Vec::new();
    for (name, opened) in &parts.sources {
        if source.is_some_and(|source| source != name.as_str()) {
            continue;
        }
        for table in opened.reader().tables().await? {
            let full = table.name.as_str();
            let short = crate::config::on::parts(full).pop().unwrap_or_default();
            if full == wanted || short == wanted {
                found.push((name.clone(), table));
            } else {
                names.push(table.name.to_string());
            }
        }
    }
    // One that is called so in full is meant before one in another schema.
    if found.len() > 1
        && found
            .iter()
            .filter(|(_, table)| table.name.as_str() == wanted)
            .count()
            == 1
    {
        found.retain(|(_, table)| table.name.as_str() == wanted);
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(unknown(
            "unknown_table",
            &format!("there is no table `{wanted}`"),
            &names,
        )),
        _ => {
            let names: Vec<String> = found
                .iter()
                .map(|(source, table)| format!("{} in source {source}", table.name))
                .collect();
            Err(
                Error::invalid("ambiguous_table", format!("several tables are called `{wanted}`"))
                    .with_remedy(format!(
                        "name one in full, or its source with --source: {}",
                        names.join(", ")
                    )),
            )
        }
    }
}

/// What is said of a change.
struct Change<'a> {
    source: &'a SourceName,
    schema: &'a TableSchema,
    id: &'a DocId,
    reached: &'a [Reached],
    recorded: &'a [DocKey],
}

impl Change<'_> {
    fn text(&self) -> String {
        let mut text = format!(
            "a change of {} {} in source {} touches\n",
            self.schema.name, self.id, self.source
        );
        if self.reached.is_empty() {
            text.push_str("    nothing: no collection reads this table\n");
        }
        for reached in self.reached {
            let path = reached.path.join(" -> ");
            let count = match reached.more {
                true => format!("more than {}", reached.count),
                false => reached.count.to_string(),
            };
            let there = if reached.is_there {
                ""
            } else {
                " (there is no such row now)"
            };
            text.push_str(&format!(
                "    {} documents of {} along {path}{there}\n",
                count, reached.collection
            ));
            if reached.fan_outs > 0 {
                text.push_str(&format!(
                    "        in {} fan-outs: walks in chunks, behind single changes\n",
                    reached.fan_outs
                ));
            }
            let ids: Vec<&str> = reached.documents.iter().map(DocId::as_str).collect();
            if !ids.is_empty() {
                let dots = if reached.count > ids.len() as u64 {
                    " …"
                } else {
                    ""
                };
                text.push_str(&format!("        {}{dots}\n", ids.join(" ")));
            }
        }
        if !self.recorded.is_empty() {
            let names: Vec<String> = self.recorded.iter().map(ToString::to_string).collect();
            text.push_str(&format!(
                "    and what is on record to have been built from it: {}\n",
                names.join(" ")
            ));
        }
        text
    }

    fn json(&self) -> Value {
        let reached = self.reached.iter().map(|reached| {
            json!({
                "collection": reached.collection,
                "path": reached.path,
                "row_is_there": reached.is_there,
                "count": reached.count,
                "more": reached.more,
                "fan_outs": reached.fan_outs,
                "documents": reached.documents.iter().map(DocId::as_str).collect::<Vec<_>>(),
            })
        });
        let recorded = self.recorded.iter();
        let recorded = recorded.map(|key| json!({ "collection": key.collection, "key": key.id.as_str() }));
        json!({
            "source": self.source,
            "table": self.schema.name,
            "key": self.id.as_str(),
            "touches": reached.collect::<Vec<_>>(),
            "recorded": recorded.collect::<Vec<_>>(),
        })
    }
}
