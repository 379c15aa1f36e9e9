//! The publication: what it lacks, whether we may complete it, and what it does to tables that are not ours.

use instep_core::{Finding, Result, Watched};

use super::server::Server;
use super::{ask, error, json, listed, of_error, ok, truth, unreadable, wanted, warning};
use crate::postgres::connect::Session;
use crate::postgres::followed::Catalog;
use crate::postgres::{Database, literal, publication, quoted};

/// What concerns rights and other people's tables.
struct About {
    may_create: bool,
    /// The publication is our role's, or there is none.
    is_owner: bool,
    all_tables: bool,
    /// By the place of the followed table: whether our role owns it.
    owned: Vec<bool>,
    /// Published tables whose updates and deletes fail: `schema.table`, and of which followed table it is a part.
    refused: Vec<(String, Option<usize>)>,
}

pub(super) async fn check(
    database: &Database,
    watched: &[Watched],
    session: &Session,
    server: &Server,
    catalog: &Catalog,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let name = &database.publication;
    let about = look(session, name, watched).await?;
    findings.push(match publication::missing(database, watched, catalog) {
        Ok(None) => ok(
            "publication",
            name,
            "the publication holds all followed tables, with every kind of change",
        ),
        Ok(Some(statement)) => incomplete(name, watched, server, catalog, &about, statement),
        Err(error) => of_error(&error, name),
    });
    if about.all_tables {
        findings.push(warning(
            "publication_for_all_tables",
            name,
            "the publication is for all tables: changes of tables that nobody searches go through the stream, and a table \
             without a replica identity, also one that is made later, cannot be updated",
            format!(
                "make one for the followed tables alone, name it in the configuration, and rescan; then: drop publication {}",
                quoted(name)
            ),
        ));
    }
    let (ours, others): (Vec<_>, Vec<_>) = about.refused.into_iter().partition(|(_, at)| at.is_some());
    let names =
        |tables: Vec<(String, Option<usize>)>| tables.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let remedy = |table: &str| {
        format!(
            "declare primary keys; or, for each: alter table {table} replica identity full, or: alter publication {} drop \
             table {table}",
            quoted(name)
        )
    };
    let what = "are published and have no usable replica identity: Postgres refuses the application's updates and deletes";
    let (ours, others) = (names(ours), names(others));
    if let Some(first) = ours.first() {
        let message = format!("followed tables {what}: {}", listed(&ours));
        findings.push(error("published_without_identity", name, message, remedy(first)));
    }
    if let Some(first) = others.first() {
        let message = format!("tables that are not followed {what}: {}", listed(&others));
        findings.push(warning(
            "published_without_identity",
            name,
            message,
            remedy(first),
        ));
    }
    Ok(())
}

/// A publication that does not exist, or lacks tables.
fn incomplete(
    name: &str,
    watched: &[Watched],
    server: &Server,
    catalog: &Catalog,
    about: &About,
    statement: String,
) -> Finding {
    let exists = catalog.publication.is_some();
    let mut strange = Vec::new();
    for ((watched, seen), owned) in watched.iter().zip(&catalog.tables).zip(&about.owned) {
        let Some(seen) = seen else { continue };
        let published = exists && seen.covered;
        if !published && !seen.unlogged && seen.identified && !owned {
            strange.push(watched.table.to_string());
        }
    }
    let (state, done) = match exists {
        true => (
            "the publication lacks followed tables",
            "they are added when following starts",
        ),
        false => (
            "the publication does not exist yet",
            "it is made when following starts",
        ),
    };
    let mut why = Vec::new();
    match exists {
        true if !about.is_owner => why.push("does not own the publication".to_owned()),
        false if !about.may_create => {
            why.push(format!("may not create in the database `{}`", server.database))
        }
        true | false => {}
    }
    if !strange.is_empty() {
        why.push(format!("does not own {}", listed(&strange)));
    }
    match why.is_empty() {
        true => ok("publication", name, format!("{state}: {done}")),
        false => error(
            "publication",
            name,
            format!(
                "{state}, and role `{}` cannot mend that: it {}",
                server.role,
                why.join(", and ")
            ),
            statement,
        ),
    }
}

async fn look(session: &Session, publication: &str, watched: &[Watched]) -> Result<About> {
    let sql = format!(
        "with recursive {wanted}, p as (select * from pg_publication where pubname = {name}), \
         found as (select w.at, c.oid, c.relowner from wanted w join pg_namespace n on n.nspname = w.namespace \
           join pg_class c on c.relnamespace = n.oid and c.relname = w.name), \
         tree (at, oid) as (select at, oid from found \
           union all select t.at, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid \
             join pg_class c on c.oid = i.inhrelid and c.relispartition) \
         select has_database_privilege(current_database(), 'create'), \
           coalesce((select pg_has_role(p.pubowner, 'usage') from p), true), \
           coalesce((select p.puballtables from p), false), \
           (select json_agg(f.at) from found f where pg_has_role(f.relowner, 'usage')), \
           (select json_agg(json_build_array(format('%I.%I', n.nspname, c.relname), t.at) order by n.nspname, c.relname) \
            from p cross join lateral pg_get_publication_tables(p.pubname::text) g \
            join pg_class c on c.oid = g.relid join pg_namespace n on n.oid = c.relnamespace \
            left join tree t on t.oid = c.oid \
            where c.relkind = 'r' and (p.pubupdate or p.pubdelete) and not (c.relreplident = 'f' \
              or c.relreplident = 'd' and exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary \
                and i.indisvalid and i.indimmediate) \
              or c.relreplident = 'i' and exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident \
                and i.indisvalid and i.indimmediate)))",
        wanted = wanted(watched),
        name = literal(publication),
    );
    let lines = ask(session, &sql).await?;
    let line = lines.first().ok_or_else(unreadable)?;
    let owned: Vec<usize> = json(line, 3)?;
    Ok(About {
        may_create: truth(line, 0)?,
        is_owner: truth(line, 1)?,
        all_tables: truth(line, 2)?,
        owned: (0..watched.len()).map(|at| owned.contains(&at)).collect(),
        refused: json(line, 4)?,
    })
}
