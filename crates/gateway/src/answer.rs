//! Answers searches and counts.
//!
//! The one way to an engine: names become partitions the caller may see, `Policy` makes the request an authorised one,
//! and the physical indexes are derived from what it grants.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use instep_core::request::{SearchResponse, TotalHits};
use instep_core::{
    Authorized, CollectionName, DocId, Error, IndexName, Result, SearchRequest, SetName, TrackTotalHits,
    Visibility,
};
use instep_elastic::{Answered, Hydration, render_count, render_search};

use crate::asked::Asked;
use crate::failure::Failure;
use crate::names::{self, Partition};
use crate::parts::{Hydrate, Parts};
use crate::permits::Permits;

/// What all requests share.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Gateway>);

impl Deref for Shared {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

/// The gateway.
pub(crate) struct Gateway {
    pub(crate) parts: Parts,
    pub(crate) permits: Permits,
}

/// The physical indexes of one request, each with the partition it holds; of one set.
pub(crate) struct Indexes(BTreeMap<IndexName, Partition>);

impl Indexes {
    fn of(set: &SetName, partitions: BTreeSet<Partition>) -> Self {
        Indexes(
            partitions
                .into_iter()
                .map(|partition| {
                    let index = IndexName::physical(set, &partition.collection, &partition.language);
                    (index, partition)
                })
                .collect(),
        )
    }

    /// The collections they belong to.
    pub(crate) fn collections(&self) -> Vec<CollectionName> {
        let names: BTreeSet<&CollectionName> =
            self.0.values().map(|partition| &partition.collection).collect();
        names.into_iter().cloned().collect()
    }

    /// Those of the collections that were granted: all that an engine may be given with the request.
    pub(crate) fn granted<T>(&self, authorized: &Authorized<T>) -> Vec<IndexName> {
        self.0
            .iter()
            .filter(|(_, partition)| authorized.collections().contains(&partition.collection))
            .map(|(index, _)| index.clone())
            .collect()
    }

    /// The partition an index holds. An engine that answers from an index it was not given has failed.
    pub(crate) fn partition(&self, index: &IndexName) -> Result<&Partition> {
        self.0.get(index).ok_or_else(|| {
            Error::fatal(
                "foreign_index",
                format!("the engine answered from {index}, which was not asked"),
            )
        })
    }

    /// What callers call each index.
    pub(crate) fn logical(&self) -> BTreeMap<IndexName, String> {
        self.0
            .iter()
            .map(|(index, partition)| (index.clone(), partition.logical()))
            .collect()
    }
}

impl Gateway {
    /// The indexes that a list of names stands for, in the set that is active now.
    fn indexes(&self, asked: &Asked) -> Result<Indexes> {
        let names = names::parse(asked.names.as_deref())?;
        let partitions = names::resolve(
            &names,
            &self.parts.collections,
            &self.parts.policy,
            &asked.principal,
        )?;
        Ok(Indexes::of(&(self.parts.active)(), partitions))
    }

    /// The indexes of one collection, by a name that must be exact.
    pub(crate) fn indexes_of_one(
        &self,
        set: &SetName,
        asked: &Asked,
        name: &str,
    ) -> Result<(CollectionName, Indexes)> {
        let name = names::parse_single(name)?;
        let partitions = names::resolve(
            &[name],
            &self.parts.collections,
            &self.parts.policy,
            &asked.principal,
        )?;
        let collection = partitions
            .first()
            .map(|partition| partition.collection.clone())
            .expect("an exact name stands for a partition, or was not found");
        Ok((collection, Indexes::of(set, partitions)))
    }

    /// Answers `_search`.
    pub(crate) async fn search(&self, asked: &Asked) -> Result<String, Failure> {
        let indexes = self.indexes(asked)?;
        let call = instep_elastic::parse_search(&asked.body, &asked.params, asked.now_ms)?;
        let collections = indexes.collections();
        if call.options.hydrate.is_on() {
            for collection in &collections {
                self.hydrate(collection)?;
            }
        }
        let authorized = self
            .parts
            .policy
            .search(&asked.principal, &collections, call.request.clone())?;
        let names = indexes.logical();
        let inside = |error| Failure::inside(error, &names);
        let response = self.ask(&indexes, &authorized).await.map_err(inside)?;
        let rows = if call.options.hydrate.is_on() {
            let mut wanted = Vec::with_capacity(response.hits.len());
            for hit in &response.hits {
                let partition = indexes.partition(&hit.index).map_err(inside)?;
                wanted.push((&partition.collection, &hit.id));
            }
            Some(
                self.rows(authorized.visibility(), &wanted, call.options.hydrate)
                    .await
                    .map_err(inside)?,
            )
        } else {
            None
        };
        let answered = Answered {
            took_ms: asked.took_ms(),
            indexes: names.len(),
            logical_name: &|index| names.get(index).map_or("", String::as_str),
            rows: rows.as_deref(),
        };
        Ok(render_search(&call, &response, &answered))
    }

    /// Answers `_count`.
    pub(crate) async fn count(&self, asked: &Asked) -> Result<String, Failure> {
        let indexes = self.indexes(asked)?;
        let call = instep_elastic::parse_count(&asked.body, &asked.params, asked.now_ms)?;
        let authorized =
            self.parts
                .policy
                .search(&asked.principal, &indexes.collections(), call.request.clone())?;
        let names = indexes.logical();
        let response = self
            .ask(&indexes, &authorized)
            .await
            .map_err(|error| Failure::inside(error, &names))?;
        Ok(render_count(&call, &response, names.len()))
    }

    /// Asks the engine; where no index is searched nothing is found.
    async fn ask(&self, indexes: &Indexes, authorized: &Authorized<SearchRequest>) -> Result<SearchResponse> {
        let granted = indexes.granted(authorized);
        if granted.is_empty() {
            let counted = authorized.request().track_total_hits != TrackTotalHits::No;
            return Ok(SearchResponse {
                total: counted.then_some(TotalHits {
                    value: 0,
                    exact: true,
                }),
                max_score: None,
                hits: Vec::new(),
                aggregations: Vec::new(),
            });
        }
        let response = self.parts.search.search(&granted, authorized).await?;
        for hit in &response.hits {
            indexes.partition(&hit.index)?;
        }
        Ok(response)
    }

    /// The reader of a collection's rows.
    pub(crate) fn hydrate(&self, collection: &CollectionName) -> Result<&Arc<dyn Hydrate>> {
        self.parts
            .collections
            .iter()
            .find(|served| served.name == *collection)
            .and_then(|served| served.hydrate.as_ref())
            .ok_or_else(|| {
                Error::invalid(
                    "illegal_argument_exception",
                    format!("[hydrate] is not supported for [{collection}]: its rows cannot be read here"),
                )
            })
    }

    /// The current rows of documents the caller was shown, in their order: one call for each collection.
    pub(crate) async fn rows(
        &self,
        visibility: &Visibility,
        wanted: &[(&CollectionName, &DocId)],
        how: Hydration,
    ) -> Result<Vec<Option<String>>> {
        let mut by_collection: BTreeMap<&CollectionName, Vec<usize>> = BTreeMap::new();
        for (at, (collection, _)) in wanted.iter().enumerate() {
            by_collection.entry(collection).or_default().push(at);
        }
        let mut rows = vec![None; wanted.len()];
        for (collection, places) in by_collection {
            let ids: Vec<DocId> = places.iter().map(|at| wanted[*at].1.clone()).collect();
            let read = self
                .hydrate(collection)?
                .rows(collection, &ids, visibility, how)
                .await?;
            if read.len() != ids.len() {
                let message = format!("{} rows were read for {} documents", read.len(), ids.len());
                return Err(Error::fatal("hydrate_mismatch", message));
            }
            for (at, row) in places.into_iter().zip(read) {
                rows[at] = row.map(|row| row.get().to_owned());
            }
        }
        Ok(rows)
    }
}
