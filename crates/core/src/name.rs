//! Names: one newtype for each kind of thing that has one.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                $name(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                $name(name.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// A source, as the configuration calls it (`[source.shop]`).
    SourceName
);
name!(
    /// A table as its source spells it: `artwork`, or `public.artwork` where the source has schemas.
    TableName
);
name!(
    /// A collection, as the configuration calls it (`[collection.product]`).
    CollectionName
);
name!(
    /// A generation of physical indexes.
    SetName
);
name!(
    /// A place to index, as the configuration calls it; `embedded` without one.
    ClusterName
);
name!(
    /// A physical index of one set; callers of the gateway never see or name one.
    IndexName
);
name!(
    /// A language as a lower-case BCP 47 tag: `en`, `sv`, `sv-se`; `unspecified` where a document has none.
    Language
);

impl Language {
    /// The language of documents whose language is not known.
    pub fn unspecified() -> Self {
        Language::from("unspecified")
    }
}

impl IndexName {
    /// The physical index of a collection's documents in one language, inside a set:
    /// `documents-<set>-<collection>-<language>[-<region>]`.
    pub fn physical(set: &SetName, collection: &CollectionName, language: &Language) -> Self {
        IndexName::from(format!("documents-{set}-{collection}-{language}"))
    }
}

/// Checks a name that a person chose: 1 to 64 of `a-z`, `0-9`, `_`, starting with a letter.
///
/// A `-` is not allowed: it separates a collection from its language in `product-sv`.
pub fn checked(kind: &str, name: &str) -> Result<()> {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts && rest && name.len() <= 64 {
        return Ok(());
    }
    Err(
        Error::invalid("bad_name", format!("`{name}` cannot be the name of a {kind}"))
            .with_remedy("use 1 to 64 of a-z, 0-9 and _, starting with a letter"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_choose() {
        for good in ["a", "product", "tate_2", &"x".repeat(64)] {
            assert!(checked("collection", good).is_ok(), "{good}");
        }
        for bad in ["", "A", "_all", "1a", "a-b", "a.b", "é", "a b", &"x".repeat(65)] {
            assert!(checked("collection", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn physical_names() {
        let index = IndexName::physical(&"a".into(), &"product".into(), &"sv-se".into());
        assert_eq!(index.as_str(), "documents-a-product-sv-se");
    }
}
