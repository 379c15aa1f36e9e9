//! Names that callers use: `<collection>`, `<collection>-<language>`, lists, wildcards.
//!
//! Guarantees: what comes out is a set of partitions that exist and that the caller may name; a name that is hidden
//! and one that does not exist answer alike; nothing a caller writes becomes part of a physical name. Leaves
//! authorisation itself to `Policy`, and physical names to whoever knows the active set.

use std::collections::BTreeSet;

use instep_core::source_filter::fits;
use instep_core::{CollectionName, Error, Language, Policy, Principal, Result};

use crate::parts::Served;

/// The longest list of names, in bytes, decoded.
const MAX_BYTES: usize = 4_096;

/// A collection's documents in one language: what lies in one physical index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) collection: CollectionName,
    pub(crate) language: Language,
}

impl Partition {
    /// What callers call it, and read as a hit's `_index`: the collection, and its language where it has one.
    pub(crate) fn logical(&self) -> String {
        if self.language == Language::unspecified() {
            self.collection.to_string()
        } else {
            format!("{}-{}", self.collection, self.language)
        }
    }

    /// Whether a caller may mean it by this name.
    fn is_called(&self, name: &str) -> bool {
        match name.strip_prefix(self.collection.as_str()) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('-') == Some(self.language.as_str()),
            None => false,
        }
    }
}

/// One name of a list, checked for its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `_all` or `*`.
    All,
    /// A name with `*` in it.
    Pattern(String),
    /// A name that must exist.
    Exact(String),
}

/// Checks the form of a list of names. No list at all means every collection.
pub(crate) fn parse(list: Option<&str>) -> Result<Vec<Name>> {
    let Some(list) = list else {
        return Ok(vec![Name::All]);
    };
    if list.len() > MAX_BYTES {
        return Err(invalid(
            "a list of names",
            &format!("must not be longer than {MAX_BYTES} bytes"),
        ));
    }
    list.split(',').map(parse_one).collect()
}

/// Checks the form of a name that must stand for one collection: no list, no wildcard.
pub(crate) fn parse_single(name: &str) -> Result<Name> {
    match parse_one(name)? {
        Name::Exact(name) => Ok(Name::Exact(name)),
        Name::All | Name::Pattern(_) => {
            Err(invalid(name, "must name one collection here, without wildcards"))
        }
    }
}

fn parse_one(name: &str) -> Result<Name> {
    if matches!(name, "_all" | "*") {
        return Ok(Name::All);
    }
    let refused = |c: char| {
        c.is_control()
            || c.is_whitespace()
            || matches!(
                c,
                ':' | '<' | '>' | '\\' | '/' | '?' | '"' | '|' | '#' | ',' | '%'
            )
    };
    let wrong = if name.is_empty() {
        "must not be empty"
    } else if name.len() > 255 {
        "must not be longer than 255 bytes"
    } else if name.starts_with('-') {
        "must not start with '-': names cannot be excluded from a list"
    } else if name.starts_with('_') || name.starts_with('+') {
        "must not start with '_' or '+'"
    } else if name.starts_with('.') || name.contains("..") {
        "must not start with '.' or contain '..'"
    } else if name.contains(':') {
        "must not contain ':': other clusters cannot be named"
    } else if name.contains('<') || name.contains('>') {
        "must not contain '<' or '>': names are not computed from dates"
    } else if name.chars().any(refused) {
        "must not contain control characters, white space or any of \\ / ? \" | # , %"
    } else if name.chars().any(char::is_uppercase) {
        "must be lower-case"
    } else if name.contains('*') {
        return Ok(Name::Pattern(name.to_owned()));
    } else {
        return Ok(Name::Exact(name.to_owned()));
    };
    Err(invalid(name, wrong))
}

/// The form of a name is wrong. Control characters are written escaped, so that the message is one line.
fn invalid(name: &str, wrong: &str) -> Error {
    let shown: String = name.chars().take(255).flat_map(char::escape_debug).collect();
    Error::invalid(
        "invalid_index_name_exception",
        format!("invalid index name [{shown}], {wrong}"),
    )
    .with_remedy(
        "name a collection, a collection and its language as in `product-sv`, a list of them, or `_all`",
    )
}

/// The partitions that these names stand for, among those the caller may name. A pattern may fit none; an exact name
/// that stands for none is not found.
pub(crate) fn resolve(
    names: &[Name],
    served: &[Served],
    policy: &Policy,
    principal: &Principal,
) -> Result<BTreeSet<Partition>> {
    let granted = policy.granted(principal);
    let visible: Vec<Partition> = served
        .iter()
        .filter(|served| granted.contains(&served.name))
        .flat_map(Served::partitions)
        .collect();
    let mut found = BTreeSet::new();
    for name in names {
        let mut known = false;
        let fitting = visible.iter().filter(|partition| match name {
            Name::All => true,
            Name::Pattern(pattern) => {
                fits(pattern, partition.collection.as_str()) || fits(pattern, &partition.logical())
            }
            Name::Exact(name) => partition.is_called(name),
        });
        for partition in fitting {
            known = true;
            found.insert(partition.clone());
        }
        if let (Name::Exact(name), false) = (name, known) {
            return Err(Policy::unknown(principal, &name.as_str().into()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use instep_core::{Fault, Grant, Scopes};
    use proptest::prelude::*;

    use super::*;

    fn served() -> Vec<Served> {
        let collection = |name: &str, languages: &[&str]| Served {
            name: name.into(),
            languages: languages
                .iter()
                .map(|language| Language::from(*language))
                .collect(),
            hydrate: None,
        };
        vec![
            collection("ad", &["en", "sv", "unspecified"]),
            collection("product", &["sv-se"]),
            collection("productline", &["unspecified"]),
            collection("secret", &["en"]),
        ]
    }

    fn policy() -> Policy {
        Policy::new(vec![
            ("ad".into(), true),
            ("product".into(), true),
            ("productline".into(), true),
            ("secret".into(), false),
        ])
    }

    fn ask(list: &str) -> Result<Vec<String>> {
        let found = resolve(&parse(Some(list))?, &served(), &policy(), &Principal::anonymous())?;
        Ok(found
            .iter()
            .map(|partition| format!("{}/{}", partition.collection, partition.language))
            .collect())
    }

    #[test]
    fn names_and_what_they_stand_for() {
        let everything = "ad/en ad/sv ad/unspecified product/sv-se productline/unspecified";
        for (list, expected) in [
            ("ad", "ad/en ad/sv ad/unspecified"),
            ("ad-sv", "ad/sv"),
            ("ad-unspecified", "ad/unspecified"),
            ("product-sv-se", "product/sv-se"),
            ("product", "product/sv-se"),
            ("ad-sv,ad-sv,ad-en", "ad/en ad/sv"),
            ("ad-sv,productline", "ad/sv productline/unspecified"),
            ("_all", everything),
            ("*", everything),
            ("*,ad", everything),
            ("prod*", "product/sv-se productline/unspecified"),
            ("product*", "product/sv-se productline/unspecified"),
            ("*-sv", "ad/sv"),
            ("a*-*n", "ad/en"),
            ("se*", ""),
            ("documents-*", ""),
        ] {
            assert_eq!(ask(list).unwrap().join(" "), expected, "{list}");
        }
    }

    #[test]
    fn names_that_do_not_exist_or_are_hidden() {
        for list in [
            "none",
            "secret",
            "secret-en",
            "secret-sv",
            "ad-de",
            "ad-",
            "product-sv",
            "ad,none",
            "documents-a-ad-en",
            "a",
            "adx",
            "é",
        ] {
            let error = ask(list).unwrap_err();
            let named = list.rsplit(',').next().unwrap();
            assert_eq!(error.fault(), Fault::NotFound, "{list}");
            assert_eq!(error.message(), format!("no such index [{named}]"), "{list}");
        }
    }

    #[test]
    fn names_of_a_wrong_form() {
        for list in [
            "",
            "ad,",
            ",ad",
            "-ad",
            "ad,-product",
            "*,-secret",
            "_secret",
            "+ad",
            ".kibana",
            "..",
            "a..b",
            "Ad",
            "ad,B",
            "cluster:ad",
            "*:*",
            "<ad-{now/d}>",
            "a b",
            "a\nb",
            "a\0b",
            "a/b",
            "a\\b",
            "a?",
            "a#b",
            "a|b",
            "a\"b",
            "É",
            "ad%2e",
        ] {
            let error = ask(list).unwrap_err();
            assert_eq!(error.fault(), Fault::Invalid, "{list}");
            assert_eq!(error.code(), "invalid_index_name_exception", "{list}");
            assert!(!error.to_string().contains(['\n', '\0']), "{list}");
        }
        assert!(ask(&"a".repeat(256)).is_err());
        assert!(ask(&["ad"; 3_000].join(",")).is_err());
        for name in ["*", "_all", "a*", "a,b", ""] {
            assert_eq!(parse_single(name).unwrap_err().fault(), Fault::Invalid, "{name}");
        }
    }

    #[test]
    fn a_key_widens_what_names_find() {
        let staff = Principal {
            subject: Some("clerk".into()),
            units: vec![],
            scopes: Scopes {
                search: Grant::Only(vec!["secret".into()]),
                ..Scopes::default()
            },
        };
        let ask = |list: &str| resolve(&parse(Some(list)).unwrap(), &served(), &policy(), &staff);
        assert_eq!(ask("_all").unwrap().len(), 1);
        assert_eq!(ask("secret-en").unwrap().len(), 1);
        assert!(ask("ad").is_err());
    }

    proptest! {
        /// Whatever a caller writes: a refusal, or partitions that are granted.
        #[test]
        fn any_text_is_safe(list in "[-a-z*,_.:<>A-Z /]{0,12}|(ad|secret|prod|\\*|-|,|_all|en){0,5}|.{0,12}") {
            match ask(&list) {
                Ok(found) => {
                    for partition in found {
                        prop_assert!(!partition.starts_with("secret"), "{list} found {partition}");
                    }
                }
                Err(error) => prop_assert!(matches!(error.fault(), Fault::Invalid | Fault::NotFound)),
            }
        }
    }
}
