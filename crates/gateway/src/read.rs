//! Reads documents by id: `_doc` and `_mget`.
//!
//! Guarantees: a document the caller may not read answers as one that does not exist, byte for byte; every item of an
//! `_mget` is authorised by itself, and a refused one does not fail the others.

use instep_core::request::SourceFilter;
use instep_core::{CollectionName, DocId, Error, GetRequest, Result, SetName, Stored, Visibility};
use instep_elastic::{GetAnswer, GetOutcome, Hydration, render_get, render_mget};

use crate::answer::Gateway;
use crate::asked::Asked;
use crate::failure::Failure;

/// Groups of one `_mget` that differ in name or source filter: each is a call to the engine.
const MAX_GROUPS: usize = 64;

/// A document that was found and may be read.
struct Found {
    collection: CollectionName,
    logical: String,
    source: Option<std::sync::Arc<str>>,
}

/// Whether a document by this id was found.
pub(crate) enum Read {
    /// The answer's body.
    Found(String),
    /// The answer's body, of status 404.
    Missing(String),
}

impl Gateway {
    /// Answers `_doc/<id>`.
    pub(crate) async fn document(&self, asked: &Asked) -> Result<Read, Failure> {
        asked.without_body()?;
        let call = instep_elastic::parse_get(&asked.params)?;
        let id = asked.document()?;
        let name = asked.names.as_deref().unwrap_or_default();
        let set = (self.parts.active)();
        let (visibility, mut found) = self
            .get(
                &set,
                asked,
                name,
                std::slice::from_ref(&id),
                &call.source,
                call.options.hydrate,
            )
            .await?;
        let Some(found) = found.pop().flatten() else {
            let missing = GetAnswer {
                index: name,
                id: &id,
                outcome: GetOutcome::Missing,
            };
            return Ok(Read::Missing(render_get(&missing, &call.options)));
        };
        let rows = if call.options.hydrate.is_on() {
            let wanted = [(&found.collection, &id)];
            Some(self.rows_told(&visibility, &wanted, call.options.hydrate).await?)
        } else {
            None
        };
        let answer = GetAnswer {
            index: &found.logical,
            id: &id,
            outcome: GetOutcome::Found {
                source: found.source.as_deref(),
                row: rows
                    .as_ref()
                    .map(|rows| rows.first().and_then(|row| row.as_deref())),
            },
        };
        Ok(Read::Found(render_get(&answer, &call.options)))
    }

    /// Answers `_mget`.
    pub(crate) async fn documents(&self, asked: &Asked) -> Result<String, Failure> {
        let call = instep_elastic::parse_mget(&asked.body, &asked.params)?;
        let mut groups: Vec<(&str, &SourceFilter, Vec<usize>)> = Vec::new();
        let mut names = Vec::with_capacity(call.items.len());
        for (at, item) in call.items.iter().enumerate() {
            let name = item
                .collection
                .as_deref()
                .or(asked.names.as_deref())
                .ok_or_else(|| {
                    Error::invalid(
                        "action_request_validation_exception",
                        format!("index is missing for doc {at}"),
                    )
                })?;
            names.push(name);
            match groups
                .iter_mut()
                .find(|(known, source, _)| *known == name && **source == item.source)
            {
                Some((_, _, places)) => places.push(at),
                None => groups.push((name, &item.source, vec![at])),
            }
            if groups.len() > MAX_GROUPS {
                return Err(Error::invalid(
                    "illegal_argument_exception",
                    format!("the documents of one request have more than {MAX_GROUPS} different [_index] and [_source]"),
                )
                .into());
            }
        }

        let set = (self.parts.active)();
        let mut outcomes: Vec<Result<Option<Found>, usize>> = Vec::new();
        outcomes.resize_with(call.items.len(), || Ok(None));
        let mut refused: Vec<Error> = Vec::new();
        let mut seen_as = Visibility::of(None, &[]);
        for (name, source, places) in groups {
            let ids: Vec<DocId> = places.iter().map(|at| call.items[*at].id.clone()).collect();
            match self
                .get(&set, asked, name, &ids, source, call.options.hydrate)
                .await
            {
                Ok((visibility, found)) => {
                    seen_as = visibility;
                    for (at, found) in places.into_iter().zip(found) {
                        outcomes[at] = Ok(found);
                    }
                }
                // A name that is wrong is told with its items; what the service failed at fails the request.
                Err(failure) if failure.status().is_client_error() => {
                    for at in places {
                        outcomes[at] = Err(refused.len());
                    }
                    refused.push(failure.into_error());
                }
                Err(failure) => return Err(failure),
            }
        }

        let mut rows = vec![None; call.items.len()];
        if call.options.hydrate.is_on() {
            let shown: Vec<(usize, &CollectionName)> = outcomes
                .iter()
                .enumerate()
                .filter_map(|(at, outcome)| match outcome {
                    Ok(Some(found)) => Some((at, &found.collection)),
                    Ok(None) | Err(_) => None,
                })
                .collect();
            let wanted: Vec<(&CollectionName, &DocId)> = shown
                .iter()
                .map(|(at, collection)| (*collection, &call.items[*at].id))
                .collect();
            let read = self.rows_told(&seen_as, &wanted, call.options.hydrate).await?;
            for ((at, _), row) in shown.into_iter().zip(read) {
                rows[at] = row;
            }
        }

        let answers: Vec<GetAnswer<'_>> = outcomes
            .iter()
            .enumerate()
            .map(|(at, outcome)| GetAnswer {
                index: match outcome {
                    Ok(Some(found)) => &found.logical,
                    Ok(None) | Err(_) => names[at],
                },
                id: &call.items[at].id,
                outcome: match outcome {
                    Ok(Some(found)) => GetOutcome::Found {
                        source: found.source.as_deref(),
                        row: call.options.hydrate.is_on().then(|| rows[at].as_deref()),
                    },
                    Ok(None) => GetOutcome::Missing,
                    Err(error) => GetOutcome::Failed(&refused[*error]),
                },
            })
            .collect();
        Ok(render_mget(&answers, &call.options))
    }

    /// Reads documents of one collection, and how the caller sees it.
    async fn get(
        &self,
        set: &SetName,
        asked: &Asked,
        name: &str,
        ids: &[DocId],
        source: &SourceFilter,
        hydrate: Hydration,
    ) -> Result<(Visibility, Vec<Option<Found>>), Failure> {
        let (collection, indexes) = self.indexes_of_one(set, asked, name)?;
        if hydrate.is_on() {
            self.hydrate(&collection)?;
        }
        let request = GetRequest {
            ids: ids.to_vec(),
            source: source.clone(),
        };
        let authorized = self.parts.policy.get(&asked.principal, &collection, request)?;
        let names = indexes.logical();
        let inside = |error| Failure::inside(error, &names);
        let granted = indexes.granted(&authorized);
        let read = self
            .parts
            .search
            .get(&granted, &authorized)
            .await
            .map_err(inside)?;
        if read.len() != ids.len() {
            let message = format!("the engine answered {} of {} documents", read.len(), ids.len());
            return Err(inside(Error::fatal("get_mismatch", message)));
        }
        let mut found = Vec::with_capacity(read.len());
        for (id, document) in ids.iter().zip(read) {
            let Some((index, stored)) = document else {
                found.push(None);
                continue;
            };
            let partition = indexes.partition(&index).map_err(inside)?;
            check(&stored, id, authorized.visibility()).map_err(inside)?;
            found.push(Some(Found {
                collection: collection.clone(),
                logical: partition.logical(),
                source: (!source.none).then(|| source.apply(stored.source)),
            }));
        }
        Ok((authorized.visibility().clone(), found))
    }

    async fn rows_told(
        &self,
        visibility: &Visibility,
        wanted: &[(&CollectionName, &DocId)],
        how: Hydration,
    ) -> Result<Vec<Option<String>>, Failure> {
        self.rows(visibility, wanted, how)
            .await
            .map_err(|error| Failure::inside(error, &Default::default()))
    }
}

/// What the engine promised, looked at once more: the document is the one that was asked for, and may be read.
fn check(stored: &Stored, id: &DocId, visibility: &Visibility) -> Result<()> {
    if stored.id == *id && visibility.admits(&stored.readers) {
        return Ok(());
    }
    Err(Error::fatal(
        "engine_broke_visibility",
        "the engine answered with a document that was not asked for or may not be read",
    ))
}
