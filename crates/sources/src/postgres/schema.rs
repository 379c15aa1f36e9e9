//! The tables of a Postgres database, as its catalog describes them.
//!
//! Guarantees: what is listed are the ordinary and the partitioned tables that our role may read, with the columns that
//! it may read, partitions under their root alone; all of it is one state of the catalog.

use std::collections::{HashMap, HashSet};

use instep_core::{Column, Error, Expression, ForeignKey, Result, TableName, TableSchema};

use super::connect::{Line, Session};
use super::{computed, value};

/// The tables that we may read, sorted by name.
pub(super) struct Schema {
    tables: Vec<Table>,
    /// By oid, partitions of any depth among them: the place in `tables`.
    places: HashMap<u32, usize>,
}

/// One table.
pub(super) struct Table {
    /// What the rest of the product knows of it.
    pub(super) schema: TableSchema,
    /// Its number in `pg_class`.
    pub(super) oid: u32,
    /// Its schema, unquoted.
    pub(super) namespace: String,
    /// Its name there, unquoted.
    pub(super) name: String,
    /// What its columns' values are, column by column of `schema`.
    pub(super) types: Vec<value::Type>,
    /// The types' numbers in `pg_type`, likewise.
    pub(super) type_oids: Vec<u32>,
    /// Whether it holds rows itself.
    pub(super) kind: Kind,
    /// What holds its rows: the table itself, or the leaves of its partitions.
    pub(super) leaves: Vec<Leaf>,
}

/// Whether a table holds rows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does.
    Plain,
    /// Its partitions do.
    Partitioned,
}

/// A table that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its number in `pg_class`.
    pub(super) oid: u32,
    /// The file of its rows: another one after TRUNCATE and after a rewrite.
    pub(super) filenode: u32,
    /// Its schema, unquoted.
    pub(super) namespace: String,
    /// Its name there, unquoted.
    pub(super) name: String,
    /// What changes bring of a row's former state.
    pub(super) identity: Identity,
}

/// A table's replica identity: what the change of a row brings of its former state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nothing: without a primary key, or told so.
    Nothing,
    /// The primary key's columns.
    Default(Vec<String>),
    /// An index's columns, and its name.
    Index(Vec<String>, String),
    /// All columns.
    Full,
}

impl Schema {
    /// Reads the catalog; expressions that the server takes are columns of their tables, too. The session must be outside
    /// a transaction, and is again when this has succeeded.
    pub(super) async fn read(session: &Session, computed: &computed::Wanted) -> Result<Schema> {
        let mut found = Found::default();
        let sql = format!("{BEGIN}; {RELATIONS}; {PARTITIONS}; {COLUMNS}; {INDEXES}; {FOREIGN_KEYS}");
        session
            .each(&sql, |statement, line| found.take(statement, line))
            .await?;
        let mut types = value::Catalogue::read(session, &[]).await?;
        session.execute("commit").await?;
        let mut schema = found.schema(&mut types);
        if !computed.is_empty() {
            schema.compute(session, computed).await?;
        }
        Ok(schema)
    }

    /// Adds expressions to the columns of their tables. One that the server does not take any more is left out, and is
    /// missed by whoever asks for it.
    async fn compute(&mut self, session: &Session, computed: &computed::Wanted) -> Result<()> {
        let mut numbers = Vec::new();
        for (name, sql) in computed {
            let Some(at) = self.tables.iter().position(|table| table.schema.name == *name) else {
                continue;
            };
            match computed::type_of(session, &self.tables[at], sql).await {
                Ok(number) => numbers.push((at, sql, number)),
                Err(error) if error.is_transient() && error.code() != "schema_changed" => return Err(error),
                Err(error) => {
                    tracing::debug!(table = %name, code = error.code(), "an expression cannot be computed")
                }
            }
        }
        let oids: Vec<u32> = numbers.iter().map(|(.., number)| *number).collect();
        session.execute("begin").await?;
        let mut types = value::Catalogue::read(session, &oids).await?;
        session.execute("commit").await?;
        for (at, sql, number) in numbers {
            let kind = types.of(number, -1);
            let table = &mut self.tables[at];
            table.schema.columns.push(Column {
                name: Expression::parse(sql)?.column(),
                kind: kind.kind(),
                declared: kind.name().to_owned(),
                nullable: true,
            });
            table.types.push(kind);
            table.type_oids.push(number);
        }
        Ok(())
    }

    /// All tables, sorted by name.
    pub(super) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The table of this name: `schema.table`.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        let at = self
            .tables
            .binary_search_by(|table| table.schema.name.as_str().cmp(name));
        at.ok().map(|at| &self.tables[at])
    }

    /// The table that holds this one's rows: itself, or the root of a partition at any depth.
    pub(super) fn table_of(&self, oid: u32) -> Option<&Table> {
        self.places.get(&oid).map(|at| &self.tables[*at])
    }
}

impl Table {
    /// The file of its rows, when it has one.
    pub(super) fn file(&self) -> Option<u32> {
        match self.leaves.as_slice() {
            [leaf] if leaf.oid == self.oid && leaf.filenode != 0 => Some(leaf.filenode),
            _ => None,
        }
    }

    /// Whether a column is an expression.
    pub(super) fn is_computed(&self, at: usize) -> bool {
        Expression::of_column(&self.schema.columns[at].name).is_some()
    }

    /// A column as SQL spells it.
    pub(super) fn spelled(&self, at: usize) -> String {
        let name = &self.schema.columns[at].name;
        match Expression::of_column(name) {
            Some(sql) => format!("({sql})"),
            None => super::quoted(name),
        }
    }

    /// The place of the column of this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.schema.columns.iter().position(|column| column.name == name)
    }
}

/// A table's name as configuration and messages spell it: `schema.table`, a part in double quotes where it needs them.
pub(super) fn table_name(namespace: &str, name: &str) -> TableName {
    let part = |part: &str| match part.contains(['.', '"']) || part.is_empty() {
        true => super::quoted(part),
        false => part.to_owned(),
    };
    TableName::from(format!("{}.{}", part(namespace), part(name)))
}

/// Compiling a catalog query costs more than it saves.
const BEGIN: &str = "begin isolation level repeatable read read only; set local jit = off";

/// Ordinary and partitioned tables outside the system's and temporary schemas, partitions among them.
const RELATIONS: &str = "
    select c.oid, n.nspname, c.relname, c.relkind, c.relreplident, c.relispartition,
           coalesce(pg_catalog.pg_relation_filenode(c.oid), 0),
           pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_any_column_privilege(c.oid, 'select'),
           pg_catalog.has_table_privilege(c.oid, 'select')
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence <> 't'
      and n.nspname <> 'information_schema' and pg_catalog.left(n.nspname, 3) <> 'pg_'";

/// Each partition and what it is a part of.
const PARTITIONS: &str = "
    select i.inhrelid, i.inhparent
    from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where c.relispartition and c.relkind in ('r', 'p')";

/// The columns of all tables that are no partitions, a domain spelled as the type it is based on. A privilege on single
/// columns is looked up where there is any.
const COLUMNS: &str = "
    with recursive domain (oid, base, modifier) as (
        select t.oid, t.typbasetype, t.typtypmod from pg_catalog.pg_type t where t.typtype = 'd'
        union all
        select d.oid, t.typbasetype, t.typtypmod
        from domain d join pg_catalog.pg_type t on t.oid = d.base and t.typtype = 'd')
    select a.attrelid, a.attname, a.atttypid, a.atttypmod,
           pg_catalog.format_type(coalesce(d.base, a.atttypid), coalesce(d.modifier, a.atttypmod))
               || case when d.oid = e.typelem then '[]' else '' end
               || coalesce(' collate ' || pg_catalog.quote_ident(l.collname), ''),
           a.attnotnull, a.attacl is not null and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')
    from pg_catalog.pg_attribute a
         join pg_catalog.pg_class c on c.oid = a.attrelid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         left join pg_catalog.pg_type e on e.oid = a.atttypid and e.typcategory = 'A' and e.typelem <> 0
         left join (domain d join pg_catalog.pg_type b on b.oid = d.base and b.typtype <> 'd')
             on d.oid = coalesce(e.typelem, a.atttypid)
         left join pg_catalog.pg_collation l on l.oid = a.attcollation and not l.collisdeterministic
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition
      and n.nspname <> 'information_schema' and pg_catalog.left(n.nspname, 3) <> 'pg_'
      and a.attnum > 0 and not a.attisdropped
    order by a.attrelid, a.attnum";

/// The columns of the indexes that find any row by equal values, one line for each; of a partition only those of its
/// identity.
const INDEXES: &str = "
    select i.indrelid, i.indexrelid, ic.relname, i.indisprimary, i.indisprimary and i.indimmediate, i.indisreplident,
           a.attname
    from pg_catalog.pg_index i
         join pg_catalog.pg_class c on c.oid = i.indrelid
         join pg_catalog.pg_class ic on ic.oid = i.indexrelid
         join pg_catalog.pg_am m on m.oid = ic.relam
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality k (attnum, place)
         left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum <> 0
    where c.relkind in ('r', 'p') and c.relpersistence <> 't'
      and n.nspname <> 'information_schema' and pg_catalog.left(n.nspname, 3) <> 'pg_'
      and i.indisvalid and i.indpred is null and m.amname in ('btree', 'hash') and k.place <= i.indnkeyatts
      and (i.indisprimary or i.indisreplident or not c.relispartition)
    order by i.indrelid, i.indexrelid, k.place";

/// The columns of foreign keys, one line for each. Those that a partition inherited have a parent.
const FOREIGN_KEYS: &str = "
    select f.oid, f.conrelid, f.confrelid, a.attname, b.attname
    from pg_catalog.pg_constraint f
         join pg_catalog.pg_class c on c.oid = f.conrelid
         cross join lateral rows from (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.confkey))
                            with ordinality k (own, other, place)
         join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.own
         join pg_catalog.pg_attribute b on b.attrelid = f.confrelid and b.attnum = k.other
    where f.contype = 'f' and f.conparentid = 0 and not c.relispartition
    order by f.conrelid, f.conname, f.oid, k.place";

/// What the catalog's statements returned.
#[derive(Default)]
struct Found {
    relations: Vec<Relation>,
    /// From a partition to what it is a part of.
    parents: HashMap<u32, u32>,
    columns: HashMap<u32, Vec<FoundColumn>>,
    indexes: HashMap<u32, Vec<Index>>,
    foreign_keys: Vec<FoundForeignKey>,
}

struct Relation {
    oid: u32,
    namespace: String,
    name: String,
    kind: Kind,
    identity: char,
    partition: bool,
    filenode: u32,
    readable: bool,
    /// All columns are readable by a privilege on the table.
    whole: bool,
}

struct FoundColumn {
    name: String,
    oid: u32,
    modifier: i32,
    declared: String,
    nullable: bool,
    /// By a privilege on the column.
    granted: bool,
}

struct Index {
    oid: u32,
    name: String,
    primary: bool,
    /// The primary key, and checked at once: only then does it identify rows in the log.
    immediate_primary: bool,
    identity: bool,
    columns: Vec<String>,
    /// An expression was met: the columns after it lead nowhere.
    ended: bool,
}

struct FoundForeignKey {
    oid: u32,
    table: u32,
    referenced: u32,
    columns: Vec<(String, String)>,
}

impl Found {
    fn take(&mut self, statement: usize, line: Line) -> Result<()> {
        match statement {
            0 => self.relations.push(Relation {
                oid: number(&line, 0)?,
                namespace: line.text(1)?.to_owned(),
                name: line.text(2)?.to_owned(),
                kind: match line.text(3)? {
                    "p" => Kind::Partitioned,
                    _ => Kind::Plain,
                },
                identity: line.text(4)?.chars().next().unwrap_or('n'),
                partition: truth(&line, 5)?,
                filenode: number(&line, 6)?,
                readable: truth(&line, 7)?,
                whole: truth(&line, 8)?,
            }),
            1 => {
                self.parents.insert(number(&line, 0)?, number(&line, 1)?);
            }
            2 => self
                .columns
                .entry(number(&line, 0)?)
                .or_default()
                .push(FoundColumn {
                    name: line.text(1)?.to_owned(),
                    oid: number(&line, 2)?,
                    modifier: number(&line, 3)?,
                    declared: line.text(4)?.to_owned(),
                    nullable: !truth(&line, 5)?,
                    granted: truth(&line, 6)?,
                }),
            3 => self.take_index(&line)?,
            _ => {
                let oid = number(&line, 0)?;
                if self.foreign_keys.last().is_none_or(|last| last.oid != oid) {
                    self.foreign_keys.push(FoundForeignKey {
                        oid,
                        table: number(&line, 1)?,
                        referenced: number(&line, 2)?,
                        columns: Vec::new(),
                    });
                }
                let key = self.foreign_keys.last_mut().expect("it was just put there");
                key.columns
                    .push((line.text(3)?.to_owned(), line.text(4)?.to_owned()));
            }
        }
        Ok(())
    }

    fn take_index(&mut self, line: &Line) -> Result<()> {
        let oid = number(line, 1)?;
        let indexes = self.indexes.entry(number(line, 0)?).or_default();
        if indexes.last().is_none_or(|last| last.oid != oid) {
            indexes.push(Index {
                oid,
                name: line.text(2)?.to_owned(),
                primary: truth(line, 3)?,
                immediate_primary: truth(line, 4)?,
                identity: truth(line, 5)?,
                columns: Vec::new(),
                ended: false,
            });
        }
        let index = indexes.last_mut().expect("it was just put there");
        match line.get(6)? {
            Some(column) if !index.ended => index.columns.push(column.to_owned()),
            _ => index.ended = true,
        }
        Ok(())
    }

    fn schema(mut self, types: &mut value::Catalogue) -> Schema {
        let mut leaves: HashMap<u32, Vec<Leaf>> = HashMap::new();
        for relation in &self.relations {
            if relation.kind == Kind::Plain {
                leaves
                    .entry(self.root(relation.oid))
                    .or_default()
                    .push(self.leaf(relation));
            }
        }
        let mut tables: Vec<Table> = Vec::new();
        let relations = std::mem::take(&mut self.relations);
        let listed = |relation: &&Relation| relation.readable && !relation.partition;
        for relation in relations.iter().filter(listed) {
            let leaves = leaves.remove(&relation.oid).unwrap_or_default();
            tables.push(self.table(relation, leaves, types));
        }
        tables.sort_by(|a, b| a.schema.name.cmp(&b.schema.name));
        let mut places: HashMap<u32, usize> = HashMap::new();
        places.extend(tables.iter().enumerate().map(|(at, table)| (table.oid, at)));
        self.add_foreign_keys(&mut tables, &places);
        for partition in self.parents.keys() {
            if let Some(at) = places.get(&self.root(*partition)).copied() {
                places.insert(*partition, at);
            }
        }
        Schema { tables, places }
    }

    /// What a relation is a part of in the end: itself unless it is a partition.
    fn root(&self, mut oid: u32) -> u32 {
        while let Some(parent) = self.parents.get(&oid) {
            oid = *parent;
        }
        oid
    }

    fn leaf(&self, relation: &Relation) -> Leaf {
        let indexes = self.indexes.get(&relation.oid).map_or(&[][..], Vec::as_slice);
        let index = |wanted: fn(&&Index) -> bool| indexes.iter().find(wanted);
        let identity = match relation.identity {
            'd' => index(|index| index.immediate_primary).map_or(Identity::Nothing, |index| {
                Identity::Default(index.columns.clone())
            }),
            'i' => index(|index| index.identity).map_or(Identity::Nothing, |index| {
                Identity::Index(index.columns.clone(), index.name.clone())
            }),
            'f' => Identity::Full,
            _ => Identity::Nothing,
        };
        Leaf {
            oid: relation.oid,
            filenode: relation.filenode,
            namespace: relation.namespace.clone(),
            name: relation.name.clone(),
            identity,
        }
    }

    fn table(&mut self, relation: &Relation, leaves: Vec<Leaf>, types: &mut value::Catalogue) -> Table {
        let mut columns = self.columns.remove(&relation.oid).unwrap_or_default();
        columns.retain(|column| relation.whole || column.granted);
        let kinds: Vec<value::Type> = columns
            .iter()
            .map(|column| types.of(column.oid, column.modifier))
            .collect();
        let type_oids = columns.iter().map(|column| column.oid).collect();
        let indexes = self.indexes.remove(&relation.oid).unwrap_or_default();
        let primary = indexes.iter().find(|index| index.primary);
        let mut seen = HashSet::new();
        let schema = TableSchema {
            name: table_name(&relation.namespace, &relation.name),
            primary_key: primary.map(|index| index.columns.clone()).unwrap_or_default(),
            columns: columns
                .into_iter()
                .zip(&kinds)
                .map(|(column, kind)| Column {
                    name: column.name,
                    kind: kind.kind(),
                    declared: column.declared,
                    nullable: column.nullable,
                })
                .collect(),
            foreign_keys: Vec::new(),
            indexes: indexes
                .into_iter()
                .map(|index| index.columns)
                .filter(|columns| !columns.is_empty() && seen.insert(columns.clone()))
                .collect(),
        };
        Table {
            schema,
            oid: relation.oid,
            namespace: relation.namespace.clone(),
            name: relation.name.clone(),
            types: kinds,
            type_oids,
            kind: relation.kind,
            leaves,
        }
    }

    /// Those between tables that are listed.
    fn add_foreign_keys(&mut self, tables: &mut [Table], places: &HashMap<u32, usize>) {
        for key in self.foreign_keys.drain(..) {
            let (Some(at), Some(other)) = (places.get(&key.table), places.get(&key.referenced)) else {
                continue;
            };
            let table = tables[*other].schema.name.clone();
            let (columns, referenced) = key.columns.into_iter().unzip();
            tables[*at].schema.foreign_keys.push(ForeignKey {
                columns,
                table,
                referenced,
            });
        }
    }
}

fn number<T: std::str::FromStr>(line: &Line, at: usize) -> Result<T> {
    let text = line.text(at)?;
    text.parse().map_err(|_| {
        Error::fatal(
            "bad_answer",
            "the database's catalog answered something that is no number",
        )
    })
}

fn truth(line: &Line, at: usize) -> Result<bool> {
    Ok(line.text(at)? == "t")
}
