//! `dead`: documents that cannot be indexed, listed by reason, collection and age; tried again, or taken off the list.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use instep_core::{
    ChangeLog, CollectionName, DeadFilter, DeadLetter, DocId, DocKey, Error, Result, SetName, SourceName,
    Touch,
};
use instep_sync::SignalledLog;
use serde_json::{Value, json};

use crate::check;
use crate::cli::Configured;
use crate::command::{collection, configuration, document_id, moment, sets, word};
use crate::config::Config;
use crate::output::Output;
use crate::wiring::{Access, Parts, now_ms};

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Dead {
    /// One line for each: document, reason, attempts, since when.
    List {
        #[command(flatten)]
        configured: Configured,
        #[command(flatten)]
        chosen: Chosen,
        /// Show so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Everything that is known of each: the failure, the rows on record, the next step.
    Show {
        #[command(flatten)]
        configured: Configured,
        #[command(flatten)]
        chosen: Chosen,
        /// Show so many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Try them again now: the running server does it at once, otherwise the next `instep serve` or `instep sync --once`.
    Retry {
        #[command(flatten)]
        configured: Configured,
        #[command(flatten)]
        chosen: Chosen,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
    /// Take them off the list. Their documents stay out of the index until a row of theirs changes, which tries them
    /// again.
    Discard {
        #[command(flatten)]
        configured: Configured,
        #[command(flatten)]
        chosen: Chosen,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Why; stands in the log beside each document.
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
}

/// Which dead letters are meant: one document, or those that meet every condition.
#[derive(Debug, Args)]
pub(crate) struct Chosen {
    /// The collection of one document …
    #[arg(value_name = "COLLECTION", requires = "key", conflicts_with = "collection")]
    of: Option<String>,
    /// … and its key: its `_id`.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// With this reason, a code as `instep status` counts them.
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// Of this collection.
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// In trouble for longer than this: 90s, 15m, 2h, 7d.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    older_than: Option<Duration>,
    /// Only in this index set.
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
}

/// Letters that are read at once.
const PAGE: usize = 1_000;

/// Documents that an answer names.
const NAMED: usize = 100;

/// `instep dead …`: also beside a running process.
pub(crate) async fn run(what: Dead, output: &Output) -> Result<ExitCode> {
    match what {
        Dead::List {
            configured,
            chosen,
            limit,
        } => {
            let letters = Letters::open(&configured, &chosen)?.of(limit).await?;
            let answer = letters.json(false);
            output.result(&letters.table(), &answer);
        }
        Dead::Show {
            configured,
            chosen,
            limit,
        } => {
            let letters = Letters::open(&configured, &chosen)?.of(limit).await?;
            if letters.total == 0
                && let (Some(of), Some(key)) = (&chosen.of, &chosen.key)
            {
                return Err(no_dead_letter(of, key));
            }
            output.result(&letters.text(), &letters.json(true));
        }
        Dead::Retry {
            configured,
            chosen,
            all,
        } => {
            chosen.require_a_choice(all)?;
            let letters = Letters::open(&configured, &chosen)?;
            letters.retry(output).await?;
        }
        Dead::Discard {
            configured,
            chosen,
            all,
            because,
        } => {
            chosen.require_a_choice(all)?;
            let letters = Letters::open(&configured, &chosen)?;
            letters.discard(&because, output).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Chosen {
    /// What changes all of them has to be said.
    fn require_a_choice(&self, all: bool) -> Result<()> {
        let chooses = self.key.is_some()
            || self.reason.is_some()
            || self.collection.is_some()
            || self.older_than.is_some()
            || self.set.is_some();
        if all || chooses {
            return Ok(());
        }
        Err(
            Error::invalid("nothing_chosen", "which dead letters are meant is not said").with_remedy(
                "name a document (<collection> <key>), a condition (--reason, --collection, --older-than, --set), or --all",
            ),
        )
    }
}

/// The dead letters that are meant, not read yet.
struct Letters {
    config: Config,
    log: SignalledLog,
    sets: Vec<SetName>,
    filter: DeadFilter,
    document: Option<DocKey>,
}

/// Dead letters that were read.
struct Found {
    letters: Vec<Letter>,
    /// How many there are, those that were not read included.
    total: u64,
    now_ms: i64,
}

struct Letter {
    set: SetName,
    dead: DeadLetter,
    /// The rows it is on record to have been built from: the table, and the key as an `_id` is written.
    rows: Vec<(String, String)>,
}

impl Letters {
    fn open(configured: &Configured, chosen: &Chosen) -> Result<Letters> {
        let config = configuration(&configured.config)?;
        let sets = sets(&config, chosen.set.as_deref())?;
        let named = |name: &Option<String>| name.as_deref().map(|name| collection(&config, name)).transpose();
        let document = match (named(&chosen.of)?, &chosen.key) {
            (Some(collection), Some(key)) => Some(DocKey {
                collection,
                id: document_id(key)?,
            }),
            (Some(_), None) | (None, _) => None,
        };
        let older = chosen.older_than.map(|age| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            now().saturating_sub(age)
        });
        let filter = DeadFilter {
            code: chosen.reason.clone(),
            collection: match &document {
                Some(document) => Some(document.collection.clone()),
                None => named(&chosen.collection)?,
            },
            before_ms: older,
        };
        let log = Parts::log(&config, Access::Guest)?;
        Ok(Letters {
            config,
            log,
            sets,
            filter,
            document,
        })
    }

    /// The next letters of a set.
    async fn page(&self, set: &SetName, after: Option<&DocKey>) -> Result<Vec<DeadLetter>> {
        let read = self.log.dead_letters(set, &self.filter, after, PAGE).await;
        match read {
            // A set that nothing was indexed into yet.
            Err(error) if error.code() == "unknown_set" => Ok(Vec::new()),
            read => read,
        }
    }

    fn is_meant(&self, letter: &DeadLetter) -> bool {
        let document = self.document.as_ref();
        document.is_none_or(|document| letter.trouble.key == *document)
    }

    /// The first `limit` of them, and how many there are.
    async fn of(&self, limit: usize) -> Result<Found> {
        let mut found = Found {
            letters: Vec::new(),
            total: 0,
            now_ms: now(),
        };
        for set in &self.sets {
            let mut after = None;
            loop {
                let page = self.page(set, after.as_ref()).await?;
                after = page.last().map(|letter| letter.trouble.key.clone());
                for dead in page.into_iter().filter(|letter| self.is_meant(letter)) {
                    found.total += 1;
                    if found.letters.len() >= limit {
                        continue;
                    }
                    let rows = self.log.reads_of(set, &dead.trouble.key).await?;
                    let named = |row: instep_core::RowKey| {
                        (row.table.to_string(), DocId::naming(&row.key).to_string())
                    };
                    found.letters.push(Letter {
                        set: set.clone(),
                        dead,
                        rows: rows.into_iter().map(named).collect(),
                    });
                }
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn retry(&self, output: &Output) -> Result<()> {
        let mut documents: BTreeSet<DocKey> = BTreeSet::new();
        for set in &self.sets {
            let mut after = None;
            loop {
                let page = self.page(set, after.as_ref()).await?;
                after = page.last().map(|letter| letter.trouble.key.clone());
                let meant = page.into_iter().filter(|letter| self.is_meant(letter));
                let new: BTreeSet<DocKey> = meant
                    .map(|letter| letter.trouble.key)
                    .filter(|key| !documents.contains(key))
                    .collect();
                self.touch(&new).await?;
                documents.extend(new);
                if after.is_none() {
                    break;
                }
            }
        }
        self.require_the_document(documents.len())?;
        let running = check::in_use(&self.config.state).is_some();
        let next = match running {
            true => "the running process builds them now; `instep dead list` shows what fails again",
            false => "nothing runs now: the next `instep serve` or `instep sync --once` builds them",
        };
        let text = match documents.len() {
            0 => "there are no such dead letters".to_owned(),
            count => format!("{count} touched, to be tried again\n{next}"),
        };
        let named: Vec<Value> = documents.iter().take(NAMED).map(document_json).collect();
        output.result(
            &text,
            &json!({ "retried": documents.len(), "documents": named, "running": running }),
        );
        Ok(())
    }

    /// Touches documents like a change of their rows.
    async fn touch(&self, documents: &BTreeSet<DocKey>) -> Result<()> {
        let mut by_source: BTreeMap<&SourceName, Vec<Touch>> = BTreeMap::new();
        for key in documents {
            if let Some(source) = self.source_of(&key.collection) {
                by_source
                    .entry(source)
                    .or_default()
                    .push(Touch::Document(key.clone()));
            }
        }
        for (source, touches) in by_source {
            self.log.append(source, None, &touches).await?;
        }
        Ok(())
    }

    fn source_of(&self, wanted: &CollectionName) -> Option<&SourceName> {
        let mut sources = self.config.sources.iter().map(|source| &source.name);
        sources.find(|source| self.config.collections_of(source).contains(wanted))
    }

    async fn discard(&self, because: &str, output: &Output) -> Result<()> {
        let mut discarded = 0;
        for set in &self.sets {
            let mut after = None;
            loop {
                let page = self.page(set, after.as_ref()).await?;
                after = page.last().map(|letter| letter.trouble.key.clone());
                let meant: Vec<DeadLetter> =
                    page.into_iter().filter(|letter| self.is_meant(letter)).collect();
                let keys: Vec<DocKey> = meant.iter().map(|letter| letter.trouble.key.clone()).collect();
                discarded += self.log.discard(set, &keys).await?;
                for letter in &meant {
                    let trouble = &letter.trouble;
                    tracing::warn!(%set, document = %trouble.key, code = trouble.code, because, "a dead letter was discarded");
                }
                if after.is_none() {
                    break;
                }
            }
        }
        self.require_the_document(usize::try_from(discarded).unwrap_or(usize::MAX))?;
        let text = match discarded {
            0 => "there are no such dead letters".to_owned(),
            count => format!("{count} discarded; the next change of a row of theirs tries them again"),
        };
        output.result(&text, &json!({ "discarded": discarded, "because": because }));
        Ok(())
    }

    /// A document that was named has to be a dead letter.
    fn require_the_document(&self, found: usize) -> Result<()> {
        match &self.document {
            Some(document) if found == 0 => {
                Err(no_dead_letter(document.collection.as_str(), document.id.as_str()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn no_dead_letter(collection: &str, key: &str) -> Error {
    Error::not_found(
        "no_dead_letter",
        format!("{collection}/{key} is no dead letter, or not one that meets the conditions"),
    )
    .with_remedy("instep dead list shows those there are")
}

impl Found {
    fn table(&self) -> String {
        if self.letters.is_empty() {
            return "there are no dead letters, or none that meet the conditions".to_owned();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["document", "set", "reason", "attempts", "since"]);
        for letter in &self.letters {
            let trouble = &letter.dead.trouble;
            table.add_row([
                trouble.key.to_string(),
                letter.set.to_string(),
                trouble.code.clone(),
                trouble.attempts.to_string(),
                moment(letter.dead.since_ms),
            ]);
        }
        let mut text: String = table
            .to_string()
            .lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect();
        text.push_str(&self.more());
        text.push_str("next: instep dead show <collection> <key>\n");
        text
    }

    fn more(&self) -> String {
        match self.total - self.letters.len() as u64 {
            0 => String::new(),
            more => format!("and {more} more\n"),
        }
    }

    fn text(&self) -> String {
        if self.letters.is_empty() {
            return "there are no dead letters, or none that meet the conditions".to_owned();
        }
        let mut text = String::new();
        for letter in &self.letters {
            let DeadLetter {
                trouble,
                since_ms,
                last_ms,
            } = &letter.dead;
            text.push_str(&format!("{} in set {}\n", trouble.key, letter.set));
            text.push_str(&format!("    {} ({})\n", trouble.reason, trouble.code));
            text.push_str(&format!(
                "    attempts: {}, in trouble since {}{}, last tried {}\n",
                trouble.attempts,
                moment(*since_ms),
                since_ms.map_or(String::new(), |since| format!(" ({})", age(self.now_ms - since))),
                moment(*last_ms)
            ));
            let rows: Vec<String> = letter
                .rows
                .iter()
                .map(|(table, key)| format!("{table} {key}"))
                .collect();
            if !rows.is_empty() {
                text.push_str(&format!("    rows on record: {}\n", rows.join(", ")));
            }
            text.push_str(&format!("    next: {}\n\n", next_step(&trouble.key)));
        }
        text.push_str(&self.more());
        text
    }

    fn json(&self, with_rows: bool) -> Value {
        let letters = self.letters.iter().map(|letter| {
            let trouble = &letter.dead.trouble;
            let mut shown = json!({
                "set": letter.set,
                "collection": trouble.key.collection,
                "key": trouble.key.id.as_str(),
                "code": trouble.code,
                "reason": trouble.reason,
                "attempts": trouble.attempts,
                "since_ms": letter.dead.since_ms,
                "last_ms": letter.dead.last_ms,
                "next": next_step(&trouble.key),
            });
            if with_rows {
                let rows = letter.rows.iter();
                shown["rows"] = rows
                    .map(|(table, key)| json!({ "table": table, "key": key }))
                    .collect();
            }
            shown
        });
        json!({ "dead_letters": letters.collect::<Vec<_>>(), "total": self.total })
    }
}

/// What a person can do about a dead letter.
fn next_step(key: &DocKey) -> String {
    if key.id.is_stand_in() {
        return "give the row a key that can be named; then `instep dead discard` takes this off the list"
            .to_owned();
    }
    format!(
        "mend its rows, whose next change tries it again, or the definition; or try now: instep dead retry {} {}",
        key.collection,
        word(key.id.as_str())
    )
}

fn document_json(key: &DocKey) -> Value {
    json!({ "collection": key.collection, "key": key.id.as_str() })
}

fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// How long ago, in the largest unit.
fn age(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (ms, expected) in [
            (-5, "0 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(age(ms), expected);
        }
    }
}
