//! The commands: one file for each subject.

pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod inspect;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod rescan;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod touch;
pub(crate) mod trace;
pub(crate) mod verify;

use std::path::Path;
use std::time::Duration;

use instep_core::{CollectionName, DocId, Error, Result, SetName};

use crate::config::Config;

/// Reads a configuration, `${VAR}` from this process's environment.
pub(crate) fn configuration(path: &Path) -> Result<Config> {
    Config::load(path, &environment)
}

/// A variable of this process's environment.
#[allow(clippy::disallowed_methods, reason = "the configuration resolves ${VAR}")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns when the process is asked to stop: SIGINT or SIGTERM.
pub(crate) async fn asked_to_stop() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!("SIGTERM cannot be waited for: {error}");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// The set of this name, or all that are configured.
pub(crate) fn sets(config: &Config, wanted: Option<&str>) -> Result<Vec<SetName>> {
    let all: Vec<SetName> = config.sets.iter().map(|set| set.name.clone()).collect();
    let Some(wanted) = wanted else { return Ok(all) };
    match all.iter().find(|set| set.as_str() == wanted) {
        Some(set) => Ok(vec![set.clone()]),
        None => Err(unknown(
            "unknown_set",
            &format!("there is no index set `{wanted}`"),
            &all,
        )),
    }
}

/// The collection of this name.
pub(crate) fn collection(config: &Config, wanted: &str) -> Result<CollectionName> {
    let sources = config.sources.iter();
    let all: Vec<CollectionName> = sources
        .flat_map(|source| config.collections_of(&source.name))
        .collect();
    match all.iter().find(|name| name.as_str() == wanted) {
        Some(name) => Ok(name.clone()),
        None => Err(unknown(
            "unknown_collection",
            &format!("there is no collection `{wanted}`"),
            &all,
        )),
    }
}

/// The id of a document, as a person names it.
pub(crate) fn document_id(key: &str) -> Result<DocId> {
    DocId::parse(key).map_err(|error| {
        Error::invalid(
            "bad_id",
            format!("a document has no such key: {}", error.message()),
        )
    })
}

/// A name that is not there, with those that are.
pub(crate) fn unknown(code: &'static str, message: &str, names: &[impl std::fmt::Display]) -> Error {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let remedy = match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    };
    Error::invalid(code, message).with_remedy(remedy)
}

/// A moment as people read it.
pub(crate) fn moment(ms: Option<i64>) -> String {
    let text = ms.and_then(|ms| instep_core::date::format(ms, None, 0).ok());
    text.unwrap_or_else(|| "not known".to_owned())
}

/// A text as a shell takes it for one word.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:@/+=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// A number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let refused =
        || format!("`{text}` is not a duration; write a number and s, m, h or d, such as 90s or 7d");
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| refused())?;
    let seconds = number.checked_mul(seconds).ok_or_else(refused)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7_200),
            ("7d", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "s",
            "7",
            "7w",
            "-1s",
            "1.5h",
            "7 d",
            "9999999999999999999d",
            "7é",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_of_a_shell() {
        for (text, expected) in [
            ("7", "7"),
            ("a,b", "a,b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("a\\,b", "'a\\,b'"),
            ("$(rm)", "'$(rm)'"),
        ] {
            assert_eq!(word(text), expected, "{text}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment(Some(1_700_000_000_000)), "2023-11-14T22:13:20.000Z");
        assert_eq!(moment(None), "not known");
    }
}
