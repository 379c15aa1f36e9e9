//! Policy: the only maker of [`Authorized`] requests. An engine accepts nothing else.

use crate::document::Visibility;
use crate::error::{Error, Fault, Result};
use crate::name::CollectionName;
use crate::request::{GetRequest, SearchRequest};

/// A caller, as authentication found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who; `None` for the anonymous caller.
    pub subject: Option<String>,
    /// Groups the caller belongs to.
    pub units: Vec<String>,
    /// What the caller may do.
    pub scopes: Scopes,
}

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Collections that may be searched.
    pub search: Grant,
    /// See operational state: status and metrics.
    pub operate: bool,
    /// See every document of the granted collections, whatever its readers.
    pub read_all: bool,
}

/// Which collections a scope covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// None.
    #[default]
    Nothing,
    /// All, also those added later.
    All,
    /// These.
    Only(Vec<CollectionName>),
}

impl Grant {
    /// Whether it covers this collection.
    pub fn covers(&self, collection: &CollectionName) -> bool {
        match self {
            Grant::Nothing => false,
            Grant::All => true,
            Grant::Only(names) => names.contains(collection),
        }
    }
}

impl Principal {
    /// A caller without a key: sees public documents of public collections.
    pub fn anonymous() -> Self {
        Principal {
            subject: None,
            units: Vec::new(),
            scopes: Scopes {
                search: Grant::All,
                operate: false,
                read_all: false,
            },
        }
    }
}

/// A request that was authorised: the request, the collections it may read, and which of their documents.
///
/// Private fields: only [`Policy`] makes one.
#[derive(Clone, Debug)]
pub struct Authorized<T> {
    request: T,
    collections: Vec<CollectionName>,
    visibility: Visibility,
}

impl<T> Authorized<T> {
    /// The request, as far as it was granted.
    pub fn request(&self) -> &T {
        &self.request
    }

    /// The collections it may read; only their indexes may be handed to the engine with it.
    pub fn collections(&self) -> &[CollectionName] {
        &self.collections
    }

    /// Which documents it may see.
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }
}

/// Who may read what: the collections there are, and which of them are public.
#[derive(Clone, Debug)]
pub struct Policy {
    collections: Vec<(CollectionName, bool)>,
}

impl Policy {
    /// A policy over these collections; `true` marks a public one.
    pub fn new(mut collections: Vec<(CollectionName, bool)>) -> Self {
        collections.sort();
        Policy { collections }
    }

    /// Authorises a search of these collections. Sub-requests that would show documents outside the caller's view are
    /// changed so that they cannot ([`crate::query::Aggregation::restrict`]).
    pub fn search(
        &self,
        principal: &Principal,
        collections: &[CollectionName],
        mut request: SearchRequest,
    ) -> Result<Authorized<SearchRequest>> {
        let visibility = self.visibility(principal, collections)?;
        if visibility != Visibility::Everything {
            request
                .aggregations
                .iter_mut()
                .for_each(|(_, aggregation)| aggregation.restrict());
        }
        Ok(Authorized {
            request,
            collections: collections.to_vec(),
            visibility,
        })
    }

    /// Authorises reading documents of a collection by id.
    pub fn get(
        &self,
        principal: &Principal,
        collection: &CollectionName,
        request: GetRequest,
    ) -> Result<Authorized<GetRequest>> {
        let collections = vec![collection.clone()];
        let visibility = self.visibility(principal, &collections)?;
        Ok(Authorized {
            request,
            collections,
            visibility,
        })
    }

    /// The collections this caller may name: the granted ones, and for the anonymous caller the public ones.
    pub fn granted(&self, principal: &Principal) -> Vec<CollectionName> {
        self.collections
            .iter()
            .filter(|(name, public)| self.grants(principal, name, *public))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn grants(&self, principal: &Principal, name: &CollectionName, public: bool) -> bool {
        principal.scopes.search.covers(name) && (public || principal.subject.is_some())
    }

    fn visibility(&self, principal: &Principal, collections: &[CollectionName]) -> Result<Visibility> {
        for name in collections {
            // A collection that may not be read and one that does not exist answer alike.
            let known = self.collections.iter().find(|(known, _)| known == name);
            if !known.is_some_and(|(_, public)| self.grants(principal, name, *public)) {
                return Err(Self::unknown(principal, name));
            }
        }
        if principal.scopes.read_all {
            return Ok(Visibility::Everything);
        }
        Ok(Visibility::of(principal.subject.as_deref(), &principal.units))
    }

    /// The answer for a collection that does not exist or may not be known to exist.
    pub fn unknown(principal: &Principal, name: &CollectionName) -> Error {
        let error = Error::new(
            Fault::NotFound,
            "index_not_found_exception",
            format!("no such index [{name}]"),
        );
        match principal.subject {
            Some(_) => error,
            None => error.with_remedy(
                "send an API key, if you have one: this caller is anonymous and sees public collections only",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::document::Readers;

    fn caller(subject: &str, search: Grant) -> Principal {
        Principal {
            subject: Some(subject.into()),
            units: vec!["dealers".into()],
            scopes: Scopes {
                search,
                ..Scopes::default()
            },
        }
    }

    #[test]
    fn who_may_name_what() {
        let policy = Policy::new(vec![("ad".into(), false), ("seller".into(), true)]);
        let names = |principal: &Principal| {
            policy
                .granted(principal)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&Principal::anonymous()), ["seller"]);
        assert_eq!(names(&caller("ann", Grant::All)), ["ad", "seller"]);
        assert_eq!(names(&caller("ann", Grant::Only(vec!["ad".into()]))), ["ad"]);
        assert_eq!(names(&caller("ann", Grant::Nothing)), Vec::<String>::new());
    }

    #[test]
    fn hidden_and_absent_collections_answer_alike() {
        let policy = Policy::new(vec![("ad".into(), false)]);
        let ask = |name: &str| {
            policy
                .search(&Principal::anonymous(), &[name.into()], SearchRequest::default())
                .unwrap_err()
        };
        assert_eq!(
            ask("ad").to_string().replace("[ad]", "[x]"),
            ask("none").to_string().replace("[none]", "[x]")
        );
        assert_eq!(ask("ad").code(), ask("none").code());
    }

    #[test]
    fn readers_are_the_subject_and_the_units() {
        let policy = Policy::new(vec![("ad".into(), false)]);
        let authorized = policy
            .search(
                &caller("ann", Grant::All),
                &["ad".into()],
                SearchRequest::default(),
            )
            .unwrap();
        let visible = authorized.visibility();
        for (readers, seen) in [
            (Readers::Public, true),
            (Readers::only(vec![]), false),
            (Readers::only(vec!["dealers".into()]), true),
            (Readers::only(vec!["ann".into()]), true),
            (
                Readers::only(vec!["an".into(), "annn".into(), "Ann".into()]),
                false,
            ),
        ] {
            assert_eq!(visible.admits(&readers), seen, "{readers:?}");
        }
    }
}
