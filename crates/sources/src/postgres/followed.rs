//! What the stream does not tell: that a followed table was made anew, left the publication for a while, got or lost
//! partitions, or had its values rewritten by a change of its definition or of its types'.
//!
//! All of that leaves traces in the catalog. The state of every followed table is kept in the position, and compared
//! when following starts and every few seconds: a difference behind which rows may have changed unseen is reported as
//! a touch of the whole table. A table that is away keeps its last state, so that it is compared when it is back.

use std::collections::BTreeMap;
use std::fmt;

use instep_core::{Error, Result, TableName, Watched};

use super::connect::{Line, Session};
use super::lsn::Lsn;
use super::{literal, quoted};

/// Followed tables as they were when they were last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Followed {
    tables: BTreeMap<u64, Known>,
}

/// What is known of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    oid: u32,
    /// What puts it into the publication.
    published: u64,
    /// The oids of its partitions.
    leaves: u64,
    /// The highest column number, dropped columns included, and what the columns up to it are.
    columns: u32,
    shape: u64,
    /// The highest oid of an enum's label among its types: those that come later change no value.
    labels: u32,
    /// The files that hold its rows, and which transactions wrote the definitions of its columns. A statement that
    /// rewrites values and leaves their type as it is changes both; what changes only one of them rewrites no value.
    files: u64,
    written: u64,
    /// Names that columns had once and none has now.
    gone: Vec<u64>,
    /// It came into the publication while transactions ran that may have written it before: their changes may be
    /// missing from the stream. Once no transaction below this one runs, the table is touched as a whole. 0 of a table
    /// that is away: under another name, or unlogged, its changes are not ours, so it is touched when it is back.
    unsettled: Option<u64>,
    /// The columns themselves; not in the position.
    detail: Vec<Column>,
}

/// A column as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    number: u32,
    /// Empty when it was dropped.
    name: String,
    /// Type, modifier, what generates it, and the attributes of the composite types in it.
    kind: String,
    /// The transaction that wrote its definition.
    version: String,
    /// The labels of the enums in it, by their oids.
    labels: Vec<(u32, String)>,
}

/// The catalog's answer.
#[derive(Debug)]
pub(super) struct Catalog {
    /// In the order of the watched tables; `None` for one that does not exist.
    pub(super) tables: Vec<Option<Seen>>,
    /// The publication, where it exists.
    pub(super) publication: Option<Publication>,
    /// Whoever reads must have replayed up to here to see the tables like this.
    pub(super) at: Lsn,
    /// The oldest transaction that runs, and the first that has not begun.
    pub(super) running: std::ops::Range<u64>,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) oid: u32,
    /// Changes with its options.
    version: u64,
    /// Whether it publishes inserts, updates, deletes and truncations.
    pub(super) complete: bool,
    /// `publish_via_partition_root`.
    pub(super) via_root: bool,
}

/// A table as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    oid: u32,
    pub(super) partitioned: bool,
    pub(super) unlogged: bool,
    /// Whether the publication holds it.
    pub(super) covered: bool,
    /// Whether updates and deletes may be published: without a usable replica identity they fail in the application.
    pub(super) identified: bool,
    /// A row filter withholds changes.
    pub(super) filtered: bool,
    /// Column lists of the publication, of the table or its partitions.
    lists: Vec<Vec<String>>,
    entries: String,
    leaves: String,
    files: String,
    columns: Vec<Column>,
}

impl Seen {
    /// Whether its changes are in the stream, or may be put there.
    fn is_followed(&self) -> bool {
        !self.unlogged && (self.covered || self.identified)
    }

    /// The first of these columns that the table does not have.
    pub(super) fn lacks<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Option<&'a String> {
        let has = |name: &String| self.columns.iter().any(|column| column.name == *name);
        names.into_iter().find(|name| !has(name))
    }

    /// The first of these columns that the publication withholds.
    pub(super) fn hides<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Option<&'a String> {
        let hidden = |name: &String| self.lists.iter().any(|list| !list.contains(name));
        names.into_iter().find(|name| hidden(name))
    }
}

/// What became of the tables between two looks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Rows of these may have changed unseen.
    pub(super) touched: Vec<TableName>,
    /// Something is different: what readers know of the schema is out of date.
    pub(super) any: bool,
}

/// Looks at the tables. One statement, one state of the catalog.
pub(super) async fn look(session: &Session, sql: &str, watched: usize) -> Result<Catalog> {
    let mut catalog = Catalog {
        tables: std::iter::repeat_with(|| None).take(watched).collect(),
        publication: None,
        at: Lsn::default(),
        running: 0..0,
    };
    for line in session.query(sql).await? {
        catalog.at = number(&line, 0, |text| text.parse().ok())?;
        let bound = |at| number(&line, at, |text| text.parse().ok());
        catalog.running = bound(1)?..bound(2)?;
        if let Some(oid) = line.get(3)? {
            let flag = |at| Ok::<_, Error>(line.text(at)? == "t");
            catalog.publication = Some(Publication {
                oid: oid.parse().map_err(|_| unreadable())?,
                version: hash(line.text(4)?),
                complete: flag(5)?,
                via_root: flag(6)?,
            });
        }
        if line.get(7)?.is_some() {
            let at: usize = number(&line, 7, |text| text.parse().ok())?;
            let place = catalog.tables.get_mut(at).ok_or_else(unreadable)?;
            *place = Some(seen(&line)?);
        }
    }
    Ok(catalog)
}

fn seen(line: &Line) -> Result<Seen> {
    let flag = |at| Ok::<_, Error>(line.get(at)? == Some("t"));
    type Described = (u32, String, String, String, Option<Vec<(u32, String)>>);
    let columns: Vec<Described> =
        serde_json::from_str(line.get(16)?.unwrap_or("[]")).map_err(|_| unreadable())?;
    let column = |(number, name, kind, version, labels): Described| Column {
        number,
        name,
        kind,
        version,
        labels: labels.unwrap_or_default(),
    };
    Ok(Seen {
        oid: number(line, 8, |text| text.parse().ok())?,
        partitioned: flag(9)?,
        unlogged: flag(10)?,
        covered: flag(11)?,
        identified: flag(12)?,
        filtered: flag(13)?,
        lists: serde_json::from_str(line.get(14)?.unwrap_or("[]")).map_err(|_| unreadable())?,
        entries: line.get(15)?.unwrap_or_default().to_owned(),
        columns: columns.into_iter().map(column).collect(),
        leaves: line.get(17)?.unwrap_or_default().to_owned(),
        files: line.get(18)?.unwrap_or_default().to_owned(),
    })
}

fn number<T>(line: &Line, at: usize, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    read(line.text(at)?).ok_or_else(unreadable)
}

fn unreadable() -> Error {
    Error::fatal(
        "bad_answer",
        "the catalog of the database says what it never should",
    )
}

/// Types with a lower oid come with Postgres and never change.
const FIRST_OF_USERS: u32 = 16_384;

/// The statement that looks at these tables. `version`: the server's, as a number.
pub(super) fn sql(watched: &[Watched], publication: &str, version: u32) -> String {
    let mut wanted = String::new();
    for (at, watched) in watched.iter().enumerate() {
        let (namespace, name) = split(&watched.table);
        let comma = if at == 0 { "" } else { ", " };
        wanted += &format!(
            "{comma}({at}, {}::name, {}::name)",
            literal(&namespace),
            literal(&name)
        );
    }
    if watched.is_empty() {
        wanted = "(-1, ''::name, ''::name)".to_owned();
    }
    let (by_schema, schema_entry) = match version >= 150_000 {
        true => (
            "exists (select from pg_catalog.pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = f.namespace)",
            "(select pg_catalog.string_agg(s.oid::text, ',' order by s.oid) from pg_catalog.pg_publication_namespace s \
              where s.pnpubid = p.oid and s.pnnspid = f.namespace)",
        ),
        false => ("false", "null"),
    };
    let publication = literal(publication);
    // `to_jsonb` of a catalog's row reads columns that only later versions have. Partitions come from `pg_inherits`,
    // not from the functions that lock them: a migration of the application must not be waited for here.
    format!(
        "with recursive wanted (at, namespace, name) as (values {wanted}), \
         found as (select w.at, c.oid, c.relkind, c.relpersistence, c.relnamespace as namespace \
           from wanted w \
           join pg_catalog.pg_namespace n on n.nspname = w.namespace \
           join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')), \
         tree (at, oid, relkind) as (select at, oid, relkind from found \
           union all \
           select t.at, c.oid, c.relkind from tree t \
           join pg_catalog.pg_inherits i on i.inhparent = t.oid and not i.inhdetachpending \
           join pg_catalog.pg_class c on c.oid = i.inhrelid \
           where t.relkind = 'p'), \
         used (at, number, oid) as (select f.at, a.attnum, a.atttypid from found f \
             join pg_catalog.pg_attribute a on a.attrelid = f.oid and a.attnum > 0 and a.atttypid >= {FIRST_OF_USERS} \
           union \
           select u.at, u.number, part.oid from used u join pg_catalog.pg_type t on t.oid = u.oid \
           cross join lateral (select t.typbasetype as oid union all select t.typelem \
             union all select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid) \
             union all select a.atttypid from pg_catalog.pg_attribute a \
               where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) part \
           where part.oid >= {FIRST_OF_USERS}), \
         p as (select p.*, p.xmin::text as version from pg_catalog.pg_publication p where p.pubname = {publication}), \
         state as (select f.at, f.oid, f.relkind = 'p' as partitioned, \
             (select pg_catalog.bool_or(c.relpersistence <> 'p') from tree t \
               join pg_catalog.pg_class c on c.oid = t.oid where t.at = f.at) as unlogged, \
             coalesce(p.puballtables, false) \
               or exists (select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid and r.prrelid = f.oid) \
               or {by_schema} as covered, \
             (select coalesce(pg_catalog.bool_and(c.relreplident = 'f' \
                 or (c.relreplident = 'd' and exists (select from pg_catalog.pg_index i where i.indrelid = c.oid \
                       and i.indisprimary and i.indisvalid and i.indimmediate)) \
                 or (c.relreplident = 'i' and exists (select from pg_catalog.pg_index i where i.indrelid = c.oid \
                       and i.indisreplident and i.indisvalid and i.indimmediate))), true) \
               from tree t join pg_catalog.pg_class c on c.oid = t.oid \
               where t.at = f.at and t.relkind <> 'p') as identified, \
             coalesce(e.filtered, false) as filtered, e.lists, \
             pg_catalog.concat_ws(' ', e.entries, {schema_entry}) as entries, \
             (select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, \
                 case when a.attisdropped then '' else a.attname end, \
                 pg_catalog.concat_ws(' ', a.atttypid, a.atttypmod, a.attgenerated, \
                   case when a.attgenerated <> '' then (select d.oid from pg_catalog.pg_attrdef d \
                     where d.adrelid = a.attrelid and d.adnum = a.attnum) end, \
                   (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', u.oid, c.attnum, \
                         pg_catalog.quote_ident(c.attname), c.atttypid, c.atttypmod), ' ' order by u.oid, c.attnum) \
                     from used u join pg_catalog.pg_type y on y.oid = u.oid and y.typtype = 'c' \
                     join pg_catalog.pg_attribute c on c.attrelid = y.typrelid and c.attnum > 0 and not c.attisdropped \
                     where u.at = f.at and u.number = a.attnum)), \
                 a.xmin::text, \
                 (select pg_catalog.json_agg(pg_catalog.json_build_array(e.oid::int8, e.enumlabel) order by e.oid) \
                   from used u join pg_catalog.pg_enum e on e.enumtypid = u.oid \
                   where u.at = f.at and u.number = a.attnum)) order by a.attnum) \
               from pg_catalog.pg_attribute a where a.attrelid = f.oid and a.attnum > 0) as columns, \
             (select pg_catalog.string_agg(t.oid::text, ',' order by t.oid) from tree t \
               where t.at = f.at and t.relkind <> 'p' and f.relkind = 'p') as leaves, \
             (select pg_catalog.string_agg(c.relfilenode::text, ',' order by c.oid) from tree t \
               join pg_catalog.pg_class c on c.oid = t.oid where t.at = f.at and t.relkind <> 'p') as files \
           from found f left join p on true \
           left join lateral (select \
               pg_catalog.bool_or(pg_catalog.to_jsonb(r) ->> 'prqual' is not null) as filtered, \
               pg_catalog.json_agg((select pg_catalog.json_agg(a.attname) from pg_catalog.pg_attribute a \
                   where a.attrelid = r.prrelid \
                     and pg_catalog.to_jsonb(r) -> 'prattrs' @> pg_catalog.to_jsonb(a.attnum))) \
                 filter (where pg_catalog.to_jsonb(r) ->> 'prattrs' is not null) as lists, \
               pg_catalog.string_agg(r.oid::text, ',' order by r.oid) as entries \
             from pg_catalog.pg_publication_rel r join tree t on t.oid = r.prrelid \
             where r.prpubid = p.oid and t.at = f.at) e on true) \
         select pg_catalog.pg_current_wal_insert_lsn(), \
           pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()), \
           pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()), \
           p.oid, p.version, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate, p.pubviaroot, \
           s.at, s.oid, s.partitioned, s.unlogged, s.covered, s.identified, s.filtered, s.lists::text, s.entries, \
           s.columns::text, s.leaves, s.files \
         from (select 1) one left join p on true left join state s on true"
    )
}

impl Followed {
    /// As a position has it. What cannot be read is not known.
    pub(super) fn parse(text: &str) -> Followed {
        let known = |entry: &str| {
            let (main, gone) = entry.split_once('-').unwrap_or((entry, ""));
            let mut parts = main.split('.').map(|part| u64::from_str_radix(part, 16).ok());
            let mut part = || parts.next().flatten();
            let name = part()?;
            let known = Known {
                oid: u32::try_from(part()?).ok()?,
                published: part()?,
                leaves: part()?,
                columns: u32::try_from(part()?).ok()?,
                shape: part()?,
                labels: u32::try_from(part()?).ok()?,
                files: part()?,
                written: part()?,
                unsettled: part(),
                gone: gone
                    .split('-')
                    .filter_map(|name| u64::from_str_radix(name, 16).ok())
                    .collect(),
                detail: Vec::new(),
            };
            Some((name, known))
        };
        Followed {
            tables: text.split(';').filter_map(known).collect(),
        }
    }

    /// Compares with what is there now, and takes it over.
    pub(super) fn renew(&mut self, watched: &[Watched], catalog: &Catalog, new: Newcomers) -> Difference {
        let mut difference = Difference::default();
        let mut renewed = BTreeMap::new();
        let version = catalog
            .publication
            .as_ref()
            .map_or(0, |publication| publication.version);
        for (watched, seen) in watched.iter().zip(&catalog.tables) {
            let name = hash(watched.table.as_str());
            let before = self.tables.remove(&name);
            let Some(seen) = seen.as_ref().filter(|seen| seen.is_followed()) else {
                if let Some(mut known) = before {
                    difference.any |= known.unsettled.is_none();
                    known.unsettled.get_or_insert(0);
                    renewed.insert(name, known);
                }
                continue;
            };
            let mut now = Known::of(seen, version);
            let mut touched = false;
            match &before {
                None => {
                    now.unsettled = match new {
                        Newcomers::Complete => None,
                        Newcomers::Missed => Some(catalog.running.end),
                    };
                }
                Some(before) => {
                    now.unsettled = before.unsettled;
                    if before.published != now.published {
                        now.unsettled = Some(catalog.running.end);
                    }
                    touched |= before.oid != now.oid;
                    touched |= before.leaves != now.leaves;
                    // In this order: the second forgets what the first compares.
                    touched |= now.rewritten(before);
                    touched |= now.reshaped(before);
                }
            }
            if now.unsettled.is_some_and(|until| catalog.running.start >= until) {
                now.unsettled = None;
                touched = true;
            }
            difference.any |= before.as_ref() != Some(&now);
            if touched {
                difference.touched.push(watched.table.clone());
            }
            renewed.insert(name, now);
        }
        self.tables = renewed;
        difference
    }

    /// Whether a table waits for transactions that may have written it unseen.
    pub(super) fn is_unsettled(&self) -> bool {
        self.tables
            .values()
            .any(|known| known.unsettled.is_some_and(|until| until > 0))
    }
}

/// What is to be thought of tables that were not followed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomers {
    /// All their changes are delivered.
    Complete,
    /// They may have been written before, and by transactions that still run: they are touched as a whole.
    Missed,
}

impl Known {
    fn of(seen: &Seen, version: u64) -> Known {
        let columns = seen.columns.last().map_or(0, |column| column.number);
        let labels = seen.columns.iter().flat_map(|column| &column.labels);
        let labels = labels.map(|(oid, _)| *oid).max().unwrap_or_default();
        Known {
            oid: seen.oid,
            published: hash(&format!("{version:x} {}", seen.entries)),
            leaves: hash(&seen.leaves),
            columns,
            shape: shape(&seen.columns, columns, labels),
            labels,
            files: hash(&seen.files),
            written: written(&seen.columns, columns),
            gone: Vec::new(),
            unsettled: None,
            detail: seen.columns.clone(),
        }
    }

    /// Whether values may have been rewritten since under definitions that say the same.
    fn rewritten(&self, before: &Known) -> bool {
        self.files != before.files && written(&self.detail, before.columns) != before.written
    }

    /// Whether values may have changed since, by the definition of the columns. Columns that were only added, dropped
    /// or renamed change none, until a name comes back: remembers the names that went.
    fn reshaped(&mut self, before: &Known) -> bool {
        self.gone.clone_from(&before.gone);
        if before.detail.is_empty() {
            // Of the columns themselves only a digest is known.
            let last = before.columns;
            let came_back = self
                .detail
                .iter()
                .any(|column| column.number > last && self.gone.contains(&hash(&column.name)));
            self.gone
                .retain(|name| self.detail.iter().all(|column| hash(&column.name) != *name));
            return came_back || shape(&self.detail, last, before.labels) != before.shape;
        }
        let mut touched = false;
        for column in self.detail.iter().filter(|column| !column.name.is_empty()) {
            match before.detail.iter().find(|before| before.name == column.name) {
                Some(before) => touched |= before.differs(column),
                None => touched |= self.gone.contains(&hash(&column.name)),
            }
        }
        let went = |column: &&Column| {
            !column.name.is_empty() && self.detail.iter().all(|now| now.name != column.name)
        };
        let went: Vec<u64> = before
            .detail
            .iter()
            .filter(went)
            .map(|column| hash(&column.name))
            .collect();
        self.gone
            .retain(|name| self.detail.iter().all(|column| hash(&column.name) != *name));
        self.gone.extend(went);
        touched
    }
}

impl Column {
    /// Whether a value that was under this definition may be another under that one.
    fn differs(&self, now: &Column) -> bool {
        self.number != now.number
            || self.kind != now.kind
            || self.labels.iter().any(|label| !now.labels.contains(label))
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, known)) in self.tables.iter().enumerate() {
            let separator = if at == 0 { "" } else { ";" };
            write!(
                f,
                "{separator}{name:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}.{:x}",
                known.oid,
                known.published,
                known.leaves,
                known.columns,
                known.shape,
                known.labels,
                known.files,
                known.written
            )?;
            if let Some(until) = known.unsettled {
                write!(f, ".{until:x}")?;
            }
            for name in &known.gone {
                write!(f, "-{name:x}")?;
            }
        }
        Ok(())
    }
}

fn shape(columns: &[Column], last: u32, last_label: u32) -> u64 {
    let mut text = String::new();
    for column in columns.iter().filter(|column| column.number <= last) {
        let Column {
            number,
            name,
            kind,
            labels,
            ..
        } = column;
        text += &format!("{number} {} {name} {kind};", name.len());
        for (oid, label) in labels.iter().filter(|(oid, _)| *oid <= last_label) {
            text += &format!("{oid} {} {label};", label.len());
        }
    }
    hash(&text)
}

fn written(columns: &[Column], last: u32) -> u64 {
    let known = columns.iter().filter(|column| column.number <= last);
    let versions: Vec<&str> = known.map(|column| column.version.as_str()).collect();
    hash(&versions.join(" "))
}

/// 48 bits of FNV-1a: positions are read by later versions of ours, so it must never change.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix) >> 16
}

/// A table's schema and name. Parts that hold a dot or a double quote are quoted in its name.
pub(super) fn split(table: &TableName) -> (String, String) {
    let text = table.as_str();
    let mut parts = vec![String::new()];
    let mut inside = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut().expect("there is always one");
        match letter {
            '"' if inside && letters.peek() == Some(&'"') => {
                letters.next();
                last.push('"');
            }
            '"' => inside = !inside,
            '.' if !inside => parts.push(String::new()),
            other => last.push(other),
        }
    }
    let name = parts.pop().expect("there is always one");
    let namespace = match parts.is_empty() {
        true => "public".to_owned(),
        false => parts.join("."),
    };
    (namespace, name)
}

/// A table as SQL spells it.
pub(super) fn spelled(table: &TableName) -> String {
    let (namespace, name) = split(table);
    format!("{}.{}", quoted(&namespace), quoted(&name))
}

#[cfg(test)]
#[path = "followed/tests.rs"]
mod tests;
