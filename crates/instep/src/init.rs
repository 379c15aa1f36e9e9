//! Writes a first configuration from a database's own schema.
//!
//! Guarantees: what is written parses, and resolves against the same schema, as long as one table has a primary key;
//! names that cannot be names of fields or collections are mapped, and what is left out is said in a comment. Leaves to
//! a person who may read what, and which of the joins are wanted.

mod names;

use std::collections::HashSet;
use std::fmt::Write;

use instep_core::{Column, ColumnKind, ForeignKey, TableName, TableSchema};

use crate::config::joins::{alike, down, spell_on, up};
use crate::config::kind::declared_scale;
use crate::config::on::{parts, plain, short, spell};
use crate::config::resolve::is_field_name;
use crate::config::{is_postgres, without_password};
use names::{Names, collection_name, key, looks_secret, quoted, stem};

const DOCUMENTS: &str = "documents of their own, perhaps many";
const READERS: &str = "has readers of its own, whom nobody would ask here";
const MANY: &str = "one join of many";
/// What belongs to an entry that is a comment.
const WITH: &str = "with the join above";

/// Joins inside joins are written to this depth.
const DEPTH: usize = 2;
/// Beyond so many joins of one collection, the rest are written as comments.
const JOINS: usize = 24;

/// What else may be said of a Postgres source.
const POSTGRES: [&str; 4] = [
    "# password_file = \"main.password\"      # a file with the password alone, in place of one in the environment",
    "# root_certificate = \"ca.pem\"           # who signed the server's certificate; with ?sslmode=verify-full in the url",
    "# stream_url = \"postgres://…\"           # the database itself, where url leads to a pooler or a replica",
    "# slot = \"instep_main\"                  # what `instep check --sql` and following create; and publication = \"…\"",
];

/// The text of a configuration for the database at this address. `tables` are all its tables. A password in the address
/// is not repeated: a variable of the environment stands in its place.
pub(crate) fn configuration(url: &str, tables: &[TableSchema]) -> String {
    let sketch = Sketch::new(tables);
    let mut out = String::new();
    line(
        &mut out,
        "# A configuration of instep, written from the database's schema: a start to cut down, not an end.",
    );
    line(
        &mut out,
        "# Check it with `instep check`. The keys that exist: `instep config schema`.",
    );
    line(&mut out, "");
    line(&mut out, "[source.main]");
    line(&mut out, &format!("url = {}", quoted(&without_password(url))));
    if is_postgres(url) {
        for option in POSTGRES {
            line(&mut out, option);
        }
    }
    line(&mut out, "");
    line(&mut out, "# [server]");
    line(
        &mut out,
        "# listen = \"127.0.0.1:9200\"          # an address that others can reach needs a key",
    );
    line(&mut out, "");
    line(
        &mut out,
        "# Without keys, callers are anonymous: they are served on this machine only, and see public collections.",
    );
    line(&mut out, "# [key.reader]");
    line(
        &mut out,
        "# secret  = \"${INSTEP_KEY}\"           # from the environment, or file:<path>",
    );
    line(
        &mut out,
        "# subject = \"reader\"                  # a document is seen by whom its readers name",
    );
    line(&mut out, "# units   = [\"everyone\"]");
    line(&mut out, "# scopes  = [\"search\"]");
    if tables.is_empty() {
        line(&mut out, "");
        line(&mut out, &format!("# {NO_TABLE}."));
    }
    let mut collections = HashSet::new();
    for (table, role) in tables.iter().zip(&sketch.roles) {
        line(&mut out, "");
        let name = quoted(table.name.as_str());
        match role {
            Role::WithoutKey => line(
                &mut out,
                &format!("# Table {name} is left out: it has no primary key, so its rows cannot be named."),
            ),
            Role::Link => line(
                &mut out,
                &format!("# Table {name} only links others: it is joined through."),
            ),
            Role::Child => {
                line(
                    &mut out,
                    &format!(
                        "# Table {name} is joined to the tables it belongs to. As documents of its own:"
                    ),
                );
                let text = sketch.collection(table, &collection_name(&sketch.base(table), &mut collections));
                text.lines()
                    .for_each(|text| line(&mut out, format!("# {text}").trim_end()));
            }
            Role::Root => out
                .push_str(&sketch.collection(table, &collection_name(&sketch.base(table), &mut collections))),
        }
    }
    out
}

/// What is said of a database that shows no table.
pub(crate) const NO_TABLE: &str = "the database has no table that can be read: in Postgres, a role needs usage on the schemas \
                                   and select on the tables";

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// What a table is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Its rows are documents.
    Root,
    /// Its rows belong to rows of another table, and nothing belongs to them.
    Child,
    /// It has nothing but two foreign keys.
    Link,
    /// It cannot be read.
    WithoutKey,
}

/// Pairs (column above, column below).
type Pairs = Vec<(String, String)>;

struct Sketch<'a> {
    tables: &'a [TableSchema],
    roles: Vec<Role>,
}

/// A field of a collection.
struct Entry {
    path: String,
    value: String,
    /// Why it is written as a comment.
    commented: Option<&'static str>,
}

/// A collection while it is written.
struct Draft {
    entries: Vec<Entry>,
    joins: usize,
}

/// A join, as far as it is decided.
struct Join<'a> {
    table: &'a TableSchema,
    options: String,
    /// Columns of the joined table by which it was reached: they are not followed back.
    back: Vec<String>,
    commented: Option<&'static str>,
}

impl<'a> Sketch<'a> {
    fn new(tables: &'a [TableSchema]) -> Self {
        let mut sketch = Sketch {
            tables,
            roles: Vec::new(),
        };
        sketch.roles = tables.iter().map(|table| sketch.judge(table)).collect();
        sketch
    }

    /// What a collection of a table is called after: its name, with its schema's where another table has it too.
    fn base(&self, table: &TableSchema) -> String {
        let name = short(table);
        let parts = parts(table.name.as_str());
        let elsewhere = |other: &TableSchema| other.name != table.name && short(other) == name;
        match parts[0] != "public" && self.tables.iter().any(elsewhere) {
            true => parts.join("_"),
            false => name,
        }
    }

    fn judge(&self, table: &TableSchema) -> Role {
        if table.primary_key.is_empty() {
            return Role::WithoutKey;
        }
        let keys: Vec<_> = self
            .keys(table)
            .into_iter()
            .filter(|(_, to)| to.name != table.name)
            .collect();
        let others = self.tables.iter().filter(|other| other.name != table.name);
        let referenced = others
            .flat_map(|other| &other.foreign_keys)
            .any(|key| key.table == table.name);
        let in_a_key = |column: &Column| {
            let mut linked = keys.iter().flat_map(|(key, _)| &key.columns);
            table.primary_key.contains(&column.name) || linked.any(|name| *name == column.name)
        };
        let required = |key: &ForeignKey| {
            let mut columns = key.columns.iter().filter_map(|name| table.column(name));
            columns.all(|column| !column.nullable || table.primary_key.contains(&column.name))
        };
        if referenced {
            Role::Root
        } else if keys.len() == 2 && self.keys(table).len() == 2 && table.columns.iter().all(in_a_key) {
            Role::Link
        } else if keys.iter().any(|(key, _)| required(key)) {
            Role::Child
        } else {
            Role::Root
        }
    }

    /// The foreign keys that can be followed, each once, with the tables they lead to.
    fn keys<'b>(&self, table: &'b TableSchema) -> Vec<(&'b ForeignKey, &'a TableSchema)> {
        let mut found: Vec<(&ForeignKey, &TableSchema)> = Vec::new();
        for key in &table.foreign_keys {
            let Some(to) = self
                .tables
                .iter()
                .find(|to| to.name == key.table && !to.primary_key.is_empty())
            else {
                continue;
            };
            let holds = key.columns.len() == key.referenced.len()
                && !key.columns.is_empty()
                && pairs(key)
                    .iter()
                    .all(|(own, theirs)| alike(table, own, to, theirs));
            let known = found.iter().any(|(known, _)| same_way(known, key));
            if holds && !known {
                found.push((key, to));
            }
        }
        found
    }

    fn collection(&self, table: &'a TableSchema, name: &str) -> String {
        let readers = readers(table);
        let mut draft = Draft {
            entries: Vec::new(),
            joins: 0,
        };
        let mut used = Names::default();
        let joined: Vec<&String> = self
            .keys(table)
            .into_iter()
            .flat_map(|(key, _)| &key.columns)
            .collect();
        let own: Vec<&Column> = table
            .columns
            .iter()
            .filter(|column| readers.is_none_or(|readers| readers.name != column.name))
            .filter(|column| table.primary_key.contains(&column.name) || !joined.contains(&&column.name))
            .collect();
        own.iter().for_each(|column| used.reserve(&column.name));
        for column in &own {
            let path = used.field(&column.name);
            let from = (path != column.name).then_some(column.name.as_str());
            draft.entries.push(Entry {
                path,
                value: typed(column, from)
                    .unwrap_or_else(|| format!("{{ type = \"keyword\", from = {} }}", quoted(&column.name))),
                commented: match column.kind {
                    ColumnKind::Bytes => Some("bytes are not searched"),
                    _ if looks_secret(&column.name) => Some("looks like a secret"),
                    ColumnKind::Boolean
                    | ColumnKind::Integer
                    | ColumnKind::Double
                    | ColumnKind::Decimal
                    | ColumnKind::Text
                    | ColumnKind::Keyword
                    | ColumnKind::Date
                    | ColumnKind::Json
                    | ColumnKind::Array
                    | ColumnKind::Any => None,
                },
            });
        }
        self.to_one(table, "", &[], &[&table.name], &mut used, &mut draft);
        self.links(table, &mut used, &mut draft);
        self.children(table, &mut used, &mut draft);
        if draft.entries.iter().all(|entry| entry.commented.is_some()) {
            // The key's own columns are of kinds that are left out; a collection needs a field.
            if let Some(entry) = draft.entries.first_mut() {
                entry.commented = None;
            }
        }

        let mut out = String::new();
        let _ = writeln!(out, "[collection.{name}]");
        let _ = writeln!(out, "root     = {}", quoted(table.name.as_str()));
        match readers {
            Some(column) => {
                let what = if column.kind == ColumnKind::Array {
                    "an array"
                } else {
                    "a JSON array"
                };
                let _ = writeln!(out, "readers  = {:<24} # {what}: who may read each document", quoted(&column.name));
            }
            None => out.push_str("public   = true                     # EVERYBODY MAY READ IT. Decide: keep this, or readers = \"<column>\"\n"),
        }
        out.push_str("# language = \"en\"                   # picks the analyzer of text; without it, words as they are\n");
        let _ = writeln!(out, "[collection.{name}.fields]");
        let width = draft
            .entries
            .iter()
            .map(|entry| key(&entry.path).chars().count())
            .max()
            .unwrap_or(0)
            .min(32);
        for Entry {
            path,
            value,
            commented,
        } in draft.entries
        {
            let path = key(&path);
            let _ = match commented {
                None => writeln!(out, "{path:<width$} = {value}"),
                Some(why) => writeln!(out, "# {path:<width$} = {value} # {why}"),
            };
        }
        out
    }

    /// Joins along the table's own foreign keys, and from there on.
    fn to_one(
        &self,
        table: &TableSchema,
        prefix: &str,
        back: &[String],
        trail: &[&TableName],
        used: &mut Names,
        draft: &mut Draft,
    ) {
        for (foreign, to) in self.keys(table) {
            let is_self = to.name == table.name && trail.len() == 1;
            if foreign.columns == back || (trail.contains(&&to.name) && !is_self) {
                continue;
            }
            let base = match foreign.columns.as_slice() {
                [only] => stem(only, &short(to)),
                _ => short(to),
            };
            let field = used.field(&base);
            let mut options = format!("table = {}", quoted(to.name.as_str()));
            if down(table, to).len() != 1 {
                let alias = alias(&field, prefix, &[table]);
                let on = spell_on(&full(table), &spell(&alias), &pairs(foreign));
                let _ = write!(options, ", as = {}, on = {}", quoted(&alias), quoted(&on));
            }
            let join = Join {
                table: to,
                options,
                back: Vec::new(),
                commented: None,
            };
            let trail: Vec<&TableName> = trail.iter().copied().chain([&to.name]).collect();
            self.join(join, &format!("{prefix}{field}"), &trail, false, draft);
        }
    }

    /// Joins through tables that only link.
    fn links(&self, table: &TableSchema, used: &mut Names, draft: &mut Draft) {
        for (link, role) in self.tables.iter().zip(&self.roles) {
            let keys = self.keys(link);
            let (Role::Link, [a, b]) = (role, keys.as_slice()) else {
                continue;
            };
            for ((near, from), (far, to)) in [(a, b), (b, a)] {
                if from.name != table.name {
                    continue;
                }
                let base = match far.columns.as_slice() {
                    [only] if to.name == table.name => stem(only, &short(to)),
                    _ => short(to),
                };
                let field = used.field(&base);
                let mut options = format!(
                    "table = {}, through = {}",
                    quoted(to.name.as_str()),
                    quoted(link.name.as_str())
                );
                if up(link, table).len() != 1 || down(link, to).len() != 1 {
                    let alias = alias(&field, "", &[table, link]);
                    let first: Pairs = pairs(near)
                        .into_iter()
                        .map(|(own, theirs)| (theirs, own))
                        .collect();
                    let on = format!(
                        "{} and {}",
                        spell_on(&full(table), &full(link), &first),
                        spell_on(&full(link), &spell(&alias), &pairs(far))
                    );
                    let _ = write!(options, ", as = {}, on = {}", quoted(&alias), quoted(&on));
                }
                options.push_str(", many = true");
                let join = Join {
                    table: to,
                    options,
                    back: Vec::new(),
                    commented: None,
                };
                self.join(join, &field, &[&table.name, &to.name], true, draft);
            }
        }
    }

    /// Joins of the tables whose rows belong to this one's.
    fn children(&self, table: &TableSchema, used: &mut Names, draft: &mut Draft) {
        for (child, role) in self.tables.iter().zip(&self.roles) {
            let commented = match role {
                Role::Child => None,
                Role::Root => Some(DOCUMENTS),
                Role::Link | Role::WithoutKey => continue,
            };
            let keys: Vec<_> = self
                .keys(child)
                .into_iter()
                .filter(|(_, to)| to.name == table.name)
                .collect();
            for (foreign, _) in &keys {
                let base = match (keys.len(), foreign.columns.as_slice()) {
                    (1, _) => short(child),
                    (_, columns) => format!("{}_by_{}", short(child), columns.join("_")),
                };
                let field = used.field(&base);
                let mut options = format!("table = {}", quoted(child.name.as_str()));
                if up(child, table).len() != 1 {
                    let alias = alias(&field, "", &[table]);
                    let lifted: Pairs = pairs(foreign)
                        .into_iter()
                        .map(|(own, theirs)| (theirs, own))
                        .collect();
                    let on = spell_on(&full(table), &spell(&alias), &lifted);
                    let _ = write!(options, ", as = {}, on = {}", quoted(&alias), quoted(&on));
                }
                options.push_str(", many = true");
                let back = foreign.columns.clone();
                let join = Join {
                    table: child,
                    options,
                    back,
                    commented,
                };
                self.join(join, &field, &[&table.name, &child.name], false, draft);
            }
        }
    }

    /// Writes a join: its columns, and what lies behind it.
    fn join(&self, join: Join<'a>, path: &str, trail: &[&TableName], values: bool, draft: &mut Draft) {
        let Join {
            table,
            options,
            back,
            commented,
        } = join;
        let foreign: Vec<&String> = table.foreign_keys.iter().flat_map(|key| &key.columns).collect();
        let wanted: Vec<&Column> = table
            .columns
            .iter()
            .filter(|column| table.primary_key.contains(&column.name) || !foreign.contains(&&column.name))
            .filter(|column| !back.contains(&column.name) && !looks_secret(&column.name))
            .filter(|column| column.kind != ColumnKind::Bytes)
            .filter(|column| readers(table).is_none_or(|readers| readers.name != column.name))
            .collect();
        let (listed, apart): (Vec<&Column>, Vec<&Column>) =
            wanted.iter().copied().partition(|column| is_listed(column));
        if wanted.is_empty() {
            return;
        }
        let commented = commented
            .or((draft.joins >= JOINS).then_some(MANY))
            .or(readers(table).map(|_| READERS));
        draft.joins += usize::from(commented.is_none());
        let texts: Vec<&&Column> = wanted
            .iter()
            .filter(|column| !table.primary_key.contains(&column.name))
            .collect();
        let one_text = |column: &&&Column| matches!(column.kind, ColumnKind::Text | ColumnKind::Keyword);
        if let ([only], true) = (texts.as_slice(), values && texts.iter().all(one_text)) {
            draft.entries.push(Entry {
                path: path.to_owned(),
                value: format!("{{ {options}, values = {} }}", quoted(&only.name)),
                commented,
            });
            return;
        }
        let fields = listed
            .iter()
            .map(|column| quoted(&column.name))
            .collect::<Vec<_>>()
            .join(", ");
        let fields = if listed.is_empty() {
            String::new()
        } else {
            format!(", fields = [{fields}]")
        };
        let value = format!("{{ {options}{fields} }}");
        draft.entries.push(Entry {
            path: path.to_owned(),
            value,
            commented,
        });
        let mut used = Names::default();
        listed.iter().for_each(|column| used.reserve(&column.name));
        listed.iter().for_each(|column| drop(used.field(&column.name)));
        for column in apart {
            let field = used.field(&column.name);
            let from = (field != column.name).then_some(column.name.as_str());
            if let Some(value) = typed(column, from) {
                let commented = commented.map(|_| WITH);
                draft.entries.push(Entry {
                    path: format!("{path}.{field}"),
                    value,
                    commented,
                });
            }
        }
        if commented.is_none() && trail.len() <= DEPTH {
            self.to_one(table, &format!("{path}."), &back, trail, &mut used, draft);
        }
    }
}

/// The column that, by its name and kind, says who may read a row.
fn readers(table: &TableSchema) -> Option<&Column> {
    table.columns.iter().find(|column| {
        let fits = matches!(
            column.kind,
            ColumnKind::Text | ColumnKind::Keyword | ColumnKind::Json | ColumnKind::Array
        );
        let named = matches!(column.name.as_str(), "readers" | "acl_readers");
        named && fits && !table.primary_key.contains(&column.name)
    })
}

/// Whether a join's `fields` can list the column: its name is a field's, and a type follows from it.
fn is_listed(column: &Column) -> bool {
    let derived = match column.kind {
        ColumnKind::Decimal => declared_scale(column).is_some(),
        ColumnKind::Any | ColumnKind::Bytes => false,
        ColumnKind::Boolean
        | ColumnKind::Integer
        | ColumnKind::Double
        | ColumnKind::Text
        | ColumnKind::Keyword
        | ColumnKind::Date
        | ColumnKind::Json
        | ColumnKind::Array => true,
    };
    derived && is_field_name(&column.name)
}

/// The definition of a field of this column; `None` for bytes.
fn typed(column: &Column, from: Option<&str>) -> Option<String> {
    let mut options = String::new();
    let kind = match column.kind {
        ColumnKind::Boolean => "boolean",
        ColumnKind::Integer => "long",
        ColumnKind::Double => "double",
        ColumnKind::Decimal => {
            let _ = write!(options, ", scale = {}", declared_scale(column).unwrap_or(4));
            "decimal"
        }
        ColumnKind::Text => "text",
        ColumnKind::Keyword | ColumnKind::Any => "keyword",
        ColumnKind::Date => "date",
        ColumnKind::Json => "flattened",
        ColumnKind::Array => {
            options.push_str(", array = true");
            "keyword"
        }
        ColumnKind::Bytes => return None,
    };
    if let Some(from) = from {
        let _ = write!(options, ", from = {}", quoted(from));
    }
    Some(match options.is_empty() {
        true => format!("\"{kind}\""),
        false => format!("{{ type = \"{kind}\"{options} }}"),
    })
}

fn pairs(key: &ForeignKey) -> Pairs {
    key.columns
        .iter()
        .cloned()
        .zip(key.referenced.iter().cloned())
        .collect()
}

fn same_way(a: &ForeignKey, b: &ForeignKey) -> bool {
    let sorted = |key: &ForeignKey| {
        let mut pairs = pairs(key);
        pairs.sort();
        pairs
    };
    a.table == b.table && sorted(a) == sorted(b)
}

/// A name for the joined table that `on` cannot mistake for one of these.
fn alias(field: &str, prefix: &str, others: &[&TableSchema]) -> String {
    let above = prefix
        .trim_end_matches('.')
        .rsplit('.')
        .next()
        .unwrap_or_default();
    let taken = |name: &str| {
        name == above
            || others
                .iter()
                .any(|table| name == short(table) || name == plain(table) || name == table.name.as_str())
    };
    let mut name = field.to_owned();
    while taken(&name) {
        name.push('_');
    }
    name
}

/// A table's whole name as `on` reads it back.
fn full(table: &TableSchema) -> String {
    let spelled = parts(table.name.as_str())
        .iter()
        .map(|part| spell(part))
        .collect::<Vec<_>>();
    spelled.join(".")
}

#[cfg(test)]
mod tests;
