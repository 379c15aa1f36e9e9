//! The tables: whether they are ones whose changes and rows can be had, their keys, columns and indexes.

use instep_core::{Finding, Result, TableName, TableSchema, Watched};
use serde::Deserialize;

use super::{ask, error, json, listed, number, of_error, ok, truth, unreadable, wanted, warning};
use crate::postgres::connect::{Line, Session};
use crate::postgres::followed::{Catalog, spelled};
use crate::postgres::publication;
use crate::postgres::quoted;
use crate::postgres::schema::{Identity, Kind, Schema, Table};

/// What the catalog says of a relation of a followed table's name, to the role that reads.
pub(super) struct Seen {
    kind: char,
    /// The root, of a partition.
    root: Option<String>,
    temporary: bool,
    /// Our role may use its schema.
    pub(super) usable: bool,
    /// Our role may read the whole of it.
    pub(super) selectable: bool,
    /// Our role may read some column.
    pub(super) any_selectable: bool,
    /// Row security applies to our role, and no policy shows it all rows.
    hides_rows: bool,
    has_key: bool,
    /// Tables that inherit from it.
    heirs: Vec<String>,
    /// Itself, or those of its parts, that are unlogged, and those that are foreign.
    unlogged: Vec<String>,
    foreign: Vec<String>,
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    generated: bool,
    selectable: bool,
}

impl Seen {
    /// Whether it can be followed as far as its kind goes.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p') && self.root.is_none() && !self.temporary
    }

    pub(super) fn may_select(&self, name: &str) -> bool {
        self.column(name).is_none_or(|column| column.selectable)
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Looks at all of them, in their order; `None` for one that does not exist.
pub(super) async fn look(session: &Session, watched: &[Watched]) -> Result<Vec<Option<Seen>>> {
    let sql = format!(
        "with recursive {wanted}, \
         found as (select w.at, c.*, n.oid as namespace_oid from wanted w join pg_namespace n on n.nspname = w.namespace \
           join pg_class c on c.relnamespace = n.oid and c.relname = w.name), \
         tree (at, oid) as (select at, oid from found \
           union all select t.at, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid \
             join pg_class c on c.oid = i.inhrelid and c.relispartition), \
         parts as (select t.at, c.relkind, c.relpersistence, format('%I.%I', n.nspname, c.relname) as name from tree t \
           join pg_class c on c.oid = t.oid join pg_namespace n on n.oid = c.relnamespace), \
         odd as (select at, json_agg(name order by name) filter (where relpersistence = 'u') as unlogged, \
             json_agg(name order by name) filter (where relkind = 'f') as remote \
           from parts group by at) \
         select f.at, f.relkind, case when f.relispartition then pg_partition_root(f.oid)::regclass::text end, \
           f.relpersistence = 't', has_schema_privilege(f.namespace_oid, 'usage'), has_table_privilege(f.oid, 'select'), \
           has_any_column_privilege(f.oid, 'select'), \
           row_security_active(f.oid) and not ( \
             exists (select from pg_policy y where y.polrelid = f.oid and y.polpermissive and y.polcmd in ('r', '*') \
               and pg_get_expr(y.polqual, y.polrelid) = 'true' and exists (select from unnest(y.polroles) r (oid) \
                 where r.oid = 0 or pg_has_role(r.oid, 'usage'))) \
             and not exists (select from pg_policy y where y.polrelid = f.oid and not y.polpermissive \
               and y.polcmd in ('r', '*'))), \
           exists (select from pg_index i where i.indrelid = f.oid and i.indisprimary), \
           (select json_agg(format('%I.%I', n.nspname, c.relname) order by n.nspname, c.relname) from pg_inherits i \
             join pg_class c on c.oid = i.inhrelid and not c.relispartition join pg_namespace n on n.oid = c.relnamespace \
             where i.inhparent = f.oid), \
           o.unlogged, o.remote, \
           (select json_agg(json_build_object('name', a.attname, 'generated', a.attgenerated <> '', \
               'selectable', has_column_privilege(f.oid, a.attnum, 'select'))) \
             from pg_attribute a where a.attrelid = f.oid and a.attnum > 0 and not a.attisdropped) \
         from found f left join odd o on o.at = f.at",
        wanted = wanted(watched)
    );
    let mut all: Vec<Option<Seen>> = watched.iter().map(|_| None).collect();
    for line in ask(session, &sql).await? {
        let at: usize = number(&line, 0)?;
        *all.get_mut(at).ok_or_else(unreadable)? = Some(seen(&line)?);
    }
    Ok(all)
}

fn seen(line: &Line) -> Result<Seen> {
    Ok(Seen {
        kind: line.text(1)?.chars().next().ok_or_else(unreadable)?,
        root: line.get(2)?.map(str::to_owned),
        temporary: truth(line, 3)?,
        usable: truth(line, 4)?,
        selectable: truth(line, 5)?,
        any_selectable: truth(line, 6)?,
        hides_rows: truth(line, 7)?,
        has_key: truth(line, 8)?,
        heirs: json(line, 9)?,
        unlogged: json(line, 10)?,
        foreign: json(line, 11)?,
        columns: json(line, 12)?,
    })
}

/// Each table; `seen` is in the order of `watched`.
pub(super) fn check(
    watched: &[Watched],
    seen: &[Option<Seen>],
    schema: &Schema,
    catalog: Option<&Catalog>,
    role: &str,
    findings: &mut Vec<Finding>,
) {
    for (at, (wanted, seen)) in watched.iter().zip(seen).enumerate() {
        let before = findings.len();
        let name = wanted.table.as_str();
        match seen {
            None => findings.push(error(
                "table_missing",
                name,
                "the table does not exist",
                "create it, or correct the configuration (names have their schema, as public.t)",
            )),
            Some(seen) if !seen.is_table() => findings.push(no_table(name, seen)),
            Some(seen) => {
                rows(wanted, seen, role, findings);
                columns(wanted, seen, findings);
                let published = catalog.and_then(|catalog| catalog.tables.get(at)?.as_ref());
                if let Some(published) = published.filter(|_| seen.has_key)
                    && let Err(error) = publication::require_identity(wanted, published)
                {
                    findings.push(of_error(&error, name));
                }
                if let Some(table) = schema.table(name) {
                    identity(wanted, table, findings);
                    indexes(wanted, table, watched, findings);
                }
            }
        }
        if findings.len() == before {
            findings.push(ok("table", name, "the table can be followed and read"));
        }
    }
}

/// What is no table, or none of its own.
fn no_table(name: &str, seen: &Seen) -> Finding {
    let (code, what, remedy) = match (seen.kind, &seen.root) {
        ('r' | 'p', Some(root)) => {
            let message =
                format!("this is a partition of {root}: partitions are followed and read through their root");
            return error(
                "partition",
                name,
                message,
                format!("name {root} in the configuration"),
            );
        }
        ('v', _) => (
            "view",
            "this is a view, and a view has no changes: the log holds those of the tables behind it",
            "name the tables that it reads in the configuration, joined there",
        ),
        ('m', _) => (
            "materialized_view",
            "this is a materialized view, whose changes are not in the stream",
            "name the tables that it reads in the configuration, or let the application keep a table in its place",
        ),
        ('f', _) => (
            "foreign_table",
            "this is a foreign table: its changes happen in another server's log",
            "make the server that it lies on a source of its own",
        ),
        ('r' | 'p', None) => (
            "temporary_table",
            "this is a temporary table: it belongs to one session, and its changes are not in the log",
            "name a table that stays",
        ),
        _ => ("no_table", "this is not a table", "name a table"),
    };
    error(code, name, what, remedy)
}

/// Whether all rows and all changes of it can be had.
fn rows(wanted: &Watched, seen: &Seen, role: &str, findings: &mut Vec<Finding>) {
    let (name, table) = (wanted.table.as_str(), spelled(&wanted.table));
    if !seen.has_key {
        findings.push(error(
            "no_primary_key",
            name,
            "the table has no primary key, so its rows cannot be named",
            format!("alter table {table} add primary key (…), or leave the table out of every collection"),
        ));
    }
    if !seen.unlogged.is_empty() {
        let set: Vec<String> = seen
            .unlogged
            .iter()
            .map(|part| format!("alter table {part} set logged"))
            .collect();
        findings.push(error(
            "unlogged",
            name,
            format!(
                "{} unlogged: changes are not in the log, and a crash empties it",
                are(&seen.unlogged, name)
            ),
            set.join("; "),
        ));
    }
    if !seen.foreign.is_empty() {
        findings.push(error(
            "foreign_partition",
            name,
            format!(
                "partitions are foreign tables, whose changes happen in another server's log: {}",
                listed(&seen.foreign)
            ),
            "detach them, or leave the table out of every collection",
        ));
    }
    if seen.hides_rows {
        findings.push(error(
            "row_security",
            name,
            format!("row security hides rows of the table from role `{role}`: they would look deleted"),
            format!(
                "create policy {} on {table} for select to {} using (true)",
                quoted("instep_reads_all"),
                quoted(role)
            ),
        ));
    }
    if !seen.heirs.is_empty() {
        findings.push(warning(
            "inheritance",
            name,
            format!(
                "tables inherit from it: {}; their rows are neither read nor followed with it",
                listed(&seen.heirs)
            ),
            "turn them into partitions, or make collections of them, too",
        ));
    }
}

fn are(parts: &[String], name: &str) -> String {
    match parts {
        [one] if one == name => "the table is".to_owned(),
        parts => format!("partitions are ({})", listed(parts)),
    }
}

fn columns(wanted: &Watched, seen: &Seen, findings: &mut Vec<Finding>) {
    for (column, in_key) in wanted
        .key
        .iter()
        .map(|c| (c, true))
        .chain(wanted.columns.iter().map(|c| (c, false)))
    {
        let subject = format!("{}.{column}", wanted.table);
        match (seen.column(column), in_key) {
            (None, _) => findings.push(error(
                "column_missing",
                &subject,
                "the column does not exist",
                "add it, or correct the configuration",
            )),
            (Some(Column { generated: true, .. }), true) => findings.push(error(
                "generated_key",
                &subject,
                "the key holds a generated column, whose values are not in the stream: each change would touch the whole table",
                "declare a primary key of ordinary columns",
            )),
            (Some(Column { generated: true, .. }), false) => findings.push(warning(
                "generated_column",
                &subject,
                "rows are joined by a generated column, whose values are not in the stream: they are read from the row, and \
                 former ones are not known from it",
                "join by the columns that it is made from, where the configuration can say so",
            )),
            (Some(Column { generated: false, .. }), _) => {}
        }
    }
}

/// A replica identity that does not name the row: what its deletes mean cannot be known from the stream.
fn identity(wanted: &Watched, table: &Table, findings: &mut Vec<Finding>) {
    let mut strange = Vec::new();
    let mut set = Vec::new();
    for leaf in &table.leaves {
        if let Identity::Index(columns, _) = &leaf.identity
            && !wanted.key.iter().all(|column| columns.contains(column))
        {
            let part = format!("{}.{}", quoted(&leaf.namespace), quoted(&leaf.name));
            set.push(format!("alter table {part} replica identity default"));
            strange.push(part);
        }
    }
    if strange.is_empty() {
        return;
    }
    findings.push(warning(
        "identity_without_key",
        wanted.table.as_str(),
        format!(
            "the replica identity's index does not hold the primary key, in {}: a delete does not say which row is gone, so \
             each one makes the collections of this table be scanned",
            listed(&strange)
        ),
        set.join("; "),
    ));
}

fn indexes(wanted: &Watched, table: &Table, watched: &[Watched], findings: &mut Vec<Finding>) {
    for columns in unindexed(&table.schema, wanted, watched) {
        findings.push(warning(
            "missing_index",
            &format!("{}.{}", wanted.table, columns.join(",")),
            "rows are looked up by these columns, and no index leads with them: each look-up reads the whole table",
            create_index(table, &columns),
        ));
    }
}

fn create_index(table: &Table, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let columns = columns.join(", ");
    let on = |namespace: &str, name: &str| format!("{}.{} ({columns})", quoted(namespace), quoted(name));
    let own = on(&table.namespace, &table.name);
    match table.kind {
        Kind::Plain => format!("create index concurrently on {own}"),
        // The root's takes those of the partitions as its own.
        Kind::Partitioned => {
            let parts = table.leaves.iter().map(|leaf| on(&leaf.namespace, &leaf.name));
            let mut statements: Vec<String> = parts
                .map(|part| format!("create index concurrently on {part}"))
                .collect();
            statements.push(format!("create index on {own}"));
            statements.join("; ")
        }
    }
}

/// The columns by which rows are looked up and that no index leads with.
fn unindexed(table: &TableSchema, wanted: &Watched, watched: &[Watched]) -> Vec<Vec<String>> {
    let is_watched = |name: &TableName| watched.iter().any(|other| other.table == *name);
    let involved = |column: &String| wanted.columns.contains(column) || wanted.key.contains(column);
    let mut sought: Vec<Vec<String>> = table
        .foreign_keys
        .iter()
        .filter(|key| is_watched(&key.table) && key.columns.iter().all(involved))
        .map(|key| key.columns.clone())
        .collect();
    let in_foreign_key = |column: &String| sought.iter().any(|columns| columns.contains(column));
    let alone = wanted.columns.iter().filter(|column| !in_foreign_key(column));
    let alone: Vec<Vec<String>> = alone.map(|column| vec![column.clone()]).collect();
    sought.extend(alone);
    sought.sort();
    sought.dedup();
    // The order of the leading columns does not matter for equality; columns before it that are sought as well do no harm.
    sought.retain(|columns| {
        !table.indexes.iter().any(|index| {
            let leading = index.iter().take_while(|column| columns.contains(column)).count();
            leading == columns.len() || (columns.len() == 1 && follows_watched(index, &columns[0], wanted))
        })
    });
    sought
}

/// Whether a column of a composite join stands in this index behind nothing but other columns of joins.
fn follows_watched(index: &[String], column: &String, wanted: &Watched) -> bool {
    let Some(at) = index.iter().position(|indexed| indexed == column) else {
        return false;
    };
    at > 0
        && wanted.columns.contains(column)
        && index[..at].iter().all(|before| wanted.columns.contains(before))
}
