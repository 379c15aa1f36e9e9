//! The publication: what of the database enters the stream.
//!
//! One that is missing is made; to one that is ours by its name, tables are added, never removed. One that a person made
//! is used as it is, and refused by name where it withholds what following needs. A table whose updates could not be
//! published is never added: Postgres would refuse the application's updates.

use instep_core::{Error, Result, TableName, Watched};

use super::connect::Session;
use super::followed::{Catalog, Seen, spelled};
use super::{Database, quoted};

/// How long a statement of ours waits for a lock of the application's.
pub(super) const LOCK_TIMEOUT: &str = "set lock_timeout = '5s'";

/// The statements that make it.
pub(super) fn create_sql(name: &str, watched: &[Watched]) -> Vec<String> {
    let tables: Vec<String> = watched.iter().map(|watched| only(&watched.table)).collect();
    vec![LOCK_TIMEOUT.into(), create(name, &tables)]
}

/// Without the tables that inherit from it, whose rows are not its own; partitions always come along.
fn only(table: &TableName) -> String {
    format!("only {}", spelled(table))
}

fn create(name: &str, tables: &[String]) -> String {
    match tables.is_empty() {
        true => format!("create publication {}", quoted(name)),
        false => format!(
            "create publication {} for table {}",
            quoted(name),
            tables.join(", ")
        ),
    }
}

fn add(name: &str, tables: &[String]) -> String {
    format!(
        "alter publication {} add table {}",
        quoted(name),
        tables.join(", ")
    )
}

/// The statement that the publication lacks, if any, for the tables that are there and have a replica identity. Refuses
/// a publication that withholds what is needed.
pub(super) fn missing(database: &Database, watched: &[Watched], catalog: &Catalog) -> Result<Option<String>> {
    let name = &database.publication;
    let mut tables = Vec::new();
    for (watched, seen) in watched.iter().zip(&catalog.tables) {
        let Some(seen) = seen else { continue };
        let covered = catalog.publication.is_some() && seen.covered;
        if covered || seen.unlogged || !seen.identified {
            continue;
        }
        tables.push(only(&watched.table));
    }
    let Some(publication) = &catalog.publication else {
        return Ok(Some(create(name, &tables)));
    };
    let narrow = |message: String, remedy: String| {
        Err(Error::fatal("publication_narrow", message).with_remedy(remedy))
    };
    if !publication.complete {
        return narrow(
            format!("the publication `{name}` does not publish every kind of change"),
            format!(
                "alter publication {} set (publish = 'insert, update, delete, truncate')",
                quoted(name)
            ),
        );
    }
    for (watched, seen) in watched.iter().zip(&catalog.tables) {
        let (table, Some(seen)) = (&watched.table, seen) else {
            continue;
        };
        if seen.partitioned && publication.via_root {
            return narrow(
                format!(
                    "the publication `{name}` publishes the partitions of `{table}` as their root, which hides \
                     truncations of one partition"
                ),
                format!(
                    "alter publication {} set (publish_via_partition_root = false)",
                    quoted(name)
                ),
            );
        }
        let publish = |what: &str| {
            let set = format!(
                "drop table {0}; alter publication {1} add table {0}",
                spelled(table),
                quoted(name)
            );
            (
                format!("the publication `{name}` {what} of table `{table}`"),
                format!("alter publication {} {set}", quoted(name)),
            )
        };
        if seen.filtered {
            let (message, remedy) = publish("has a row filter that withholds rows");
            return narrow(message, remedy);
        }
        if let Some(column) = seen.hides(watched.key.iter().chain(&watched.columns)) {
            let (message, remedy) = publish(&format!("withholds the column `{column}`"));
            return narrow(message, remedy);
        }
    }
    if tables.is_empty() {
        return Ok(None);
    }
    if !database.publication_is_ours {
        return narrow(
            format!("the publication `{name}` lacks followed tables"),
            add(name, &tables),
        );
    }
    Ok(Some(add(name, &tables)))
}

/// Refuses to publish a table whose updates Postgres could not publish. One that is published already is the
/// application's own affair.
pub(super) fn require_identity(watched: &Watched, seen: &Seen) -> Result<()> {
    if seen.identified || seen.covered {
        return Ok(());
    }
    let table = &watched.table;
    let message = format!(
        "table `{table}` (or a partition of it) has no usable replica identity: once it is published, Postgres would refuse \
         the application's updates and deletes, so it is not"
    );
    Err(Error::fatal("no_replica_identity", message).with_remedy(format!(
        "declare a primary key that is not deferrable, then: alter table {} replica identity default",
        spelled(table)
    )))
}

/// Runs a statement of [`missing`].
pub(super) async fn complete(session: &Session, statement: &str, database: &Database) -> Result<()> {
    tracing::info!(source = %database.name, "{statement}");
    let sql = format!("{LOCK_TIMEOUT}; set default_transaction_read_only = off");
    session.execute(&sql).await?;
    let done = session.execute(statement).await;
    done.map_err(|error| without_right(error, database))
}

/// A missing right is nothing that passes: a person with the rights has to set up what we may not.
pub(super) fn without_right(error: Error, database: &Database) -> Error {
    match error.code() {
        "permission_denied" => {
            Error::fatal("set_up_needed", error.message().to_owned()).with_remedy(format!(
                "run as a role with the rights what `instep check --sql` prints for source `{}`",
                database.name
            ))
        }
        _ => error,
    }
}
