//! How the former values of watched columns become known: by what each table that holds rows puts into the log.
//!
//! Only the leaves of a partitioned table count: the root's own replica identity is ignored by Postgres. A generated
//! column is never brought, whatever the identity.

use std::collections::HashMap;
use std::sync::Arc;

use instep_core::{Former, Means, Result, Watched};

use super::{ask, json, number};
use crate::postgres::connect::Session;
use crate::postgres::schema::{Identity, Leaf, Schema, Table};
use crate::postgres::{Database, quoted};

/// The longest name that Postgres keeps.
const LONGEST_NAME: usize = 63;

/// What a leaf's identity could be made of.
#[derive(Default)]
struct Possible {
    /// Columns that may hold NULL, and generated ones.
    nullable: Vec<String>,
    generated: Vec<String>,
    /// Indexes that can be a replica identity: name and columns.
    indexes: Vec<(String, Vec<String>)>,
}

/// By what a leaf brings them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bringing<'a> {
    Index(&'a str),
    Full,
    Nothing,
}

/// Of each table, by its tables as they are now.
pub(in crate::postgres) async fn former(
    database: &Arc<Database>,
    watched: &[Watched],
) -> Result<Vec<Former>> {
    let session = database.session().await?;
    let schema = Schema::read(&session, &Default::default()).await?;
    let moving = watched.iter().filter(|watched| moves(watched));
    let tables = moving.filter_map(|watched| schema.table(watched.table.as_str()));
    let leaves: Vec<u32> = tables
        .flat_map(|table| &table.leaves)
        .map(|leaf| leaf.oid)
        .collect();
    let possible = look(&session, &leaves).await?;
    session.give_back();
    let of = |watched: &Watched| judge(watched, schema.table(watched.table.as_str()), &possible);
    Ok(watched.iter().map(of).collect())
}

/// Whether it has columns beside its key by which its rows lead up.
fn moves(watched: &Watched) -> bool {
    watched.columns.iter().any(|column| !watched.key.contains(column))
}

fn judge(watched: &Watched, table: Option<&Table>, possible: &HashMap<u32, Possible>) -> Former {
    let former = |means, cheaper| Former {
        table: watched.table.clone(),
        means,
        cheaper,
    };
    if !moves(watched) {
        return former(Means::Brought("the primary key".to_owned()), None);
    }
    let leaves = table.map_or(&[][..], |table| &table.leaves);
    let nothing = Possible::default();
    let possible = |leaf: &Leaf| possible.get(&leaf.oid).unwrap_or(&nothing);
    let generated = |leaf: &Leaf| {
        watched
            .columns
            .iter()
            .any(|column| possible(leaf).generated.contains(column))
    };
    if leaves.is_empty() || leaves.iter().any(generated) {
        return former(Means::Recorded, None);
    }
    let brought: Vec<Bringing<'_>> = leaves.iter().map(|leaf| bringing(leaf, watched)).collect();
    let better = leaves
        .iter()
        .zip(&brought)
        .filter_map(|(leaf, now)| better(leaf, *now, watched, possible(leaf)));
    let better: Vec<String> = better.collect();
    let cheaper = (!better.is_empty()).then(|| better.join(";\n"));
    let means = match brought.contains(&Bringing::Nothing) {
        true => Means::Recorded,
        false => Means::Brought(shown(&brought)),
    };
    former(means, cheaper)
}

fn bringing<'a>(leaf: &'a Leaf, watched: &Watched) -> Bringing<'a> {
    match &leaf.identity {
        Identity::Full => Bringing::Full,
        Identity::Index(columns, name) if needed(watched).all(|column| columns.contains(column)) => {
            Bringing::Index(name)
        }
        Identity::Index(..) | Identity::Default(_) | Identity::Nothing => Bringing::Nothing,
    }
}

/// The columns that a change must bring: the key says which row it was.
fn needed(watched: &Watched) -> impl Iterator<Item = &String> {
    let others = watched
        .columns
        .iter()
        .filter(|column| !watched.key.contains(column));
    watched.key.iter().chain(others)
}

fn shown(brought: &[Bringing<'_>]) -> String {
    match brought {
        [Bringing::Index(name)] => format!("replica identity index {name}"),
        all if all.iter().all(|by| *by == Bringing::Full) => "replica identity full".to_owned(),
        all if all.contains(&Bringing::Full) => {
            "replica identities of the partitions, some of them full".to_owned()
        }
        _ => "replica identity indexes of the partitions".to_owned(),
    }
}

/// The statements by which a leaf would bring them at less cost than now.
fn better(leaf: &Leaf, now: Bringing<'_>, watched: &Watched, possible: &Possible) -> Option<String> {
    let table = format!("{}.{}", quoted(&leaf.namespace), quoted(&leaf.name));
    let nullable = needed(watched).any(|column| possible.nullable.contains(column));
    match (now, nullable) {
        (Bringing::Index(_), _) | (Bringing::Full, true) => None,
        (Bringing::Nothing, true) => {
            let why = "/* a column may be NULL, so no index will do: whole former rows go to the WAL */";
            Some(format!("alter table {table} replica identity full {why}"))
        }
        (Bringing::Nothing | Bringing::Full, false) => {
            let covers = |columns: &[String]| needed(watched).all(|column| columns.contains(column));
            let fitting = possible.indexes.iter().filter(|(_, columns)| covers(columns));
            if let Some((name, _)) = fitting.min_by_key(|(_, columns)| columns.len()) {
                return Some(format!(
                    "alter table {table} replica identity using index {}",
                    quoted(name)
                ));
            }
            let columns: Vec<String> = needed(watched).map(|column| quoted(column)).collect();
            let name = quoted(&index_name(leaf));
            Some(format!(
                "create unique index concurrently {name} on {table} ({});\nalter table {table} replica identity using index {name}",
                columns.join(", ")
            ))
        }
    }
}

/// A name that Postgres does not cut, and that no other table's index has.
fn index_name(leaf: &Leaf) -> String {
    let name = format!("{}_instep", leaf.name);
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let end = format!("_{}_instep", leaf.oid);
    let mut cut = LONGEST_NAME - end.len();
    while !leaf.name.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{end}", &leaf.name[..cut])
}

/// Looks at all leaves at once.
async fn look(session: &Session, leaves: &[u32]) -> Result<HashMap<u32, Possible>> {
    if leaves.is_empty() {
        return Ok(HashMap::new());
    }
    let oids: Vec<String> = leaves.iter().map(u32::to_string).collect();
    let sql = format!(
        "select l.oid, a.nullable, a.generated, i.indexes \
         from unnest('{{{oids}}}'::oid[]) l (oid) \
         left join lateral (select json_agg(a.attname) filter (where not a.attnotnull) as nullable, \
             json_agg(a.attname) filter (where a.attgenerated <> '') as generated \
           from pg_attribute a where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped) a on true \
         left join lateral (select json_agg(json_build_array(c.relname, k.names)) as indexes \
           from pg_index i join pg_class c on c.oid = i.indexrelid \
           cross join lateral (select json_agg(a.attname order by n.place) as names, \
               bool_and(coalesce(a.attnotnull, false)) as whole \
             from unnest(i.indkey::int2[]) with ordinality n (attnum, place) \
             left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = n.attnum and n.attnum > 0 \
             where n.place <= i.indnkeyatts) k \
           where i.indrelid = l.oid and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null \
             and i.indexprs is null and k.whole) i on true",
        oids = oids.join(",")
    );
    let mut all = HashMap::new();
    for line in ask(session, &sql).await? {
        let possible = Possible {
            nullable: json(&line, 1)?,
            generated: json(&line, 2)?,
            indexes: json(&line, 3)?,
        };
        all.insert(number(&line, 0)?, possible);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_fit_and_differ() {
        let leaf = |oid, name: String| Leaf {
            oid,
            filenode: 0,
            namespace: "public".into(),
            name,
            identity: Identity::Nothing,
        };
        assert_eq!(index_name(&leaf(7, "note".into())), "note_instep");
        let long = "é".repeat(31);
        let (one, other) = (index_name(&leaf(7, long.clone())), index_name(&leaf(8, long)));
        assert!(
            one.len() <= LONGEST_NAME && other.len() <= LONGEST_NAME && one != other,
            "{one} {other}"
        );
    }
}
