//! `filter_path`: parts of an answer by dotted paths. `*` stands for any characters of one step, `**` for any steps,
//! a leading `-` takes away.

use instep_core::Result;

use crate::json::{Json, shown};
use crate::place::Place;

/// The paths of a `filter_path` parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterPath {
    includes: Vec<Vec<String>>,
    excludes: Vec<Vec<String>>,
}

const MOST_PATHS: usize = 64;
const MOST_STEPS: usize = 32;

impl FilterPath {
    pub(crate) fn parse(place: &Place<'_>) -> Result<Self> {
        let mut filter = FilterPath {
            includes: Vec::new(),
            excludes: Vec::new(),
        };
        let written = place.text()?;
        for path in written.split(',') {
            let (path, into) = match path.strip_prefix('-') {
                Some(path) => (path, &mut filter.excludes),
                None => (path, &mut filter.includes),
            };
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            if path.contains('\\') || steps.len() > MOST_STEPS || steps.iter().any(String::is_empty) {
                return Err(place.illegal(format!("[{}] is no path of [filter_path]", shown(path))));
            }
            into.push(steps);
        }
        if filter.includes.len() + filter.excludes.len() > MOST_PATHS {
            return Err(place.illegal(format!("[filter_path] takes at most [{MOST_PATHS}] paths")));
        }
        Ok(filter)
    }

    /// The parts of an answer that the paths name; `{}` when there are none.
    pub(crate) fn apply(&self, json: Json) -> Json {
        let mut json = json;
        if !self.includes.is_empty() {
            let paths: Vec<&[String]> = self.includes.iter().map(Vec::as_slice).collect();
            json = keep(json, &paths).unwrap_or(Json::Object(Vec::new()));
        }
        if !self.excludes.is_empty() {
            let paths: Vec<&[String]> = self.excludes.iter().map(Vec::as_slice).collect();
            json = take_away(json, &paths).unwrap_or(Json::Object(Vec::new()));
        }
        json
    }
}

/// Where paths stand below a key.
struct Below<'a> {
    /// One of them ends here.
    ends: bool,
    paths: Vec<&'a [String]>,
}

fn below<'a>(paths: &[&'a [String]], key: &str) -> Below<'a> {
    let mut found = Below {
        ends: false,
        paths: Vec::new(),
    };
    for path in paths {
        step(path, key, &mut found);
    }
    found.paths.sort_unstable();
    found.paths.dedup();
    found
}

fn step<'a>(path: &'a [String], key: &str, found: &mut Below<'a>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if first == "**" {
        found.paths.push(path);
        found.ends |= rest.is_empty();
        step(rest, key, found);
    } else if fits(first, key) {
        found.ends |= rest.is_empty();
        found.paths.push(rest);
    }
}

/// Whether a pattern with `*` fits the whole text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

fn keep(json: Json, paths: &[&[String]]) -> Option<Json> {
    match json {
        Json::Object(members) => {
            let kept: Vec<(String, Json)> = members
                .into_iter()
                .filter_map(|(key, value)| {
                    let below = below(paths, &key);
                    let value = if below.ends {
                        Some(value)
                    } else {
                        keep(value, &below.paths)
                    };
                    value.map(|value| (key, value))
                })
                .collect();
            (!kept.is_empty()).then_some(Json::Object(kept))
        }
        Json::Array(items) => {
            let kept: Vec<Json> = items.into_iter().filter_map(|item| keep(item, paths)).collect();
            (!kept.is_empty()).then_some(Json::Array(kept))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => None,
    }
}

fn take_away(json: Json, paths: &[&[String]]) -> Option<Json> {
    match json {
        Json::Object(members) => {
            let was_empty = members.is_empty();
            let kept: Vec<(String, Json)> = members
                .into_iter()
                .filter_map(|(key, value)| {
                    let below = below(paths, &key);
                    let value = if below.ends {
                        None
                    } else {
                        take_away(value, &below.paths)
                    };
                    value.map(|value| (key, value))
                })
                .collect();
            (was_empty || !kept.is_empty()).then_some(Json::Object(kept))
        }
        Json::Array(items) => {
            let was_empty = items.is_empty();
            let kept: Vec<Json> = items
                .into_iter()
                .filter_map(|item| take_away(item, paths))
                .collect();
            (was_empty || !kept.is_empty()).then_some(Json::Array(kept))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) => Some(json),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::write;

    const ANSWER: &str = r#"{"took":1,"_shards":{"total":1,"failed":0},"hits":{"total":{"value":1},"hits":[{"_id":"7","_source":{"a":{"b":1.0,"c":2},"d":[]}},{"_id":"8","_source":{}}]}}"#;

    #[test]
    fn paths() {
        let cases = [
            ("took", r#"{"took":1}"#),
            ("hits.hits._id", r#"{"hits":{"hits":[{"_id":"7"},{"_id":"8"}]}}"#),
            (
                "hits.hits._source.a.*",
                r#"{"hits":{"hits":[{"_source":{"a":{"b":1.0,"c":2}}}]}}"#,
            ),
            ("_sh*.f*d", r#"{"_shards":{"failed":0}}"#),
            ("**.b", r#"{"hits":{"hits":[{"_source":{"a":{"b":1.0}}}]}}"#),
            ("hits.**.value,took", r#"{"took":1,"hits":{"total":{"value":1}}}"#),
            ("nothing", "{}"),
            ("-hits,-_shards.total", r#"{"took":1,"_shards":{"failed":0}}"#),
            ("_shards,-**.total", r#"{"_shards":{"failed":0}}"#),
        ];
        for (paths, expected) in cases {
            let json = Json::Text(paths.to_owned());
            let filter = FilterPath::parse(&Place::root(&json)).unwrap();
            let kept = filter.apply(Json::own(ANSWER).unwrap());
            assert_eq!(write::compact(&kept), expected, "{paths}");
        }
        for wrong in ["", "a..b", ",a", "a\\.b", "-"] {
            let json = Json::Text(wrong.to_owned());
            assert!(FilterPath::parse(&Place::root(&json)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn stars() {
        let cases = [
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*ba", "aba", false),
            ("*b*", "abc", true),
            ("*b*d", "abc", false),
            ("a*b*c", "aXbYbZc", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
