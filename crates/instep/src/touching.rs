//! Touching documents by a condition over their rows.

use instep_core::{
    ChangeLog, Collection, DocId, DocKey, Error, Expression, Fault, Key, Result, ResultExt, Source,
    TableSchema, Touch,
};
use instep_sync::SignalledLog;

/// Keys read, and documents touched, at once.
const CHUNK: usize = 2_000;

/// Touches the documents of the root rows that meet a condition, as many as are there when the walk comes by.
pub(crate) async fn touch_rows(
    source: &dyn Source,
    log: &SignalledLog,
    collection: &Collection,
    condition: &Expression,
) -> Result<u64> {
    let table = &collection.root;
    source
        .reader()
        .describe(&table.name, condition)
        .await
        .context(|| format!("`{condition}` over table `{}`", table.name))?;
    let mut touched = 0;
    let mut after = None;
    loop {
        let keys = keys(source, table, condition, after.as_ref()).await?;
        let ids = keys.iter().map(DocId::naming);
        let mut documents: Vec<DocKey> = ids
            .map(|id| DocKey {
                collection: collection.name.clone(),
                id,
            })
            .collect();
        documents.sort();
        documents.dedup();
        touched += documents.len() as u64;
        let touches: Vec<Touch> = documents.into_iter().map(Touch::Document).collect();
        if !touches.is_empty() {
            log.append(&collection.source, None, &touches).await?;
        }
        if keys.len() < CHUNK {
            return Ok(touched);
        }
        after = keys.into_iter().last();
    }
}

async fn keys(
    source: &dyn Source,
    table: &TableSchema,
    condition: &Expression,
    after: Option<&Key>,
) -> Result<Vec<Key>> {
    let keys = source.reader().scan(table, Some(condition), after, CHUNK).await;
    keys.map_err(|error| match error.fault() {
        Fault::Poison => Error::invalid("uncomputed", error.to_string())
            .with_remedy("write a condition that takes every row of the table"),
        _ => error,
    })
}
