//! From a row's change to what the product calls one: images of key and watched columns.
//!
//! Guarantees: an image holds only what the stream brought and what could be read; a former value that is not known is
//! said to be unknown; a row that cannot be named makes its whole table touched. Nothing is guessed: NULL in a key's
//! old image means nothing.

use std::collections::HashMap;

use instep_core::{Change, Error, Key, Result, RowChange, RowKey, TableName, Value, Watched};

use crate::postgres::pgoutput::{self, Datum, Message, Old, Tuple};
use crate::postgres::schema::{Schema, Table};
use crate::postgres::value::Type;

/// About how much memory a change takes beside its texts.
const CHANGE_BYTES: usize = 200;

/// The watched tables by name.
pub(super) type Tables = HashMap<TableName, Watched>;

/// What the changes of a relation mean.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing.
    Unwatched,
    /// Rows of a watched table that cannot be named: it was dropped since, or its key is not what is configured.
    Unnamed(TableName),
    /// Rows of a watched table.
    Rows(Plan),
}

/// How a relation's tuples become images of a table's rows.
#[derive(Debug)]
pub(super) struct Plan {
    table: TableName,
    /// How many of the columns are the key; they come first.
    key: usize,
    columns: Vec<Column>,
    /// For each column of the relation the one of `columns` that it is.
    places: Vec<Option<usize>>,
    /// Identity FULL: all columns are marked, and each change brings all.
    full: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// `None` where the table has no such column any more.
    values: Option<Type>,
    identity: bool,
}

/// What is known of a column in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell<'a> {
    Unknown,
    Null,
    Text(&'a [u8]),
}

/// Changes that were made, and about how many bytes they take.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) changes: Vec<Change>,
    pub(super) bytes: usize,
    /// Tables that this transaction touched as a whole: once is enough.
    tables: Vec<TableName>,
}

impl Made {
    /// All rows of this table may have been touched.
    pub(super) fn table(&mut self, name: &TableName) {
        if !self.tables.contains(name) {
            self.tables.push(name.clone());
            self.push(Change::Table(name.clone()), 0);
        }
    }

    fn push(&mut self, change: Change, bytes: usize) {
        self.changes.push(change);
        self.bytes += CHANGE_BYTES + bytes;
    }
}

impl Known {
    /// By the relation as it was when its rows changed, and the tables as they are.
    pub(super) fn of(relation: &pgoutput::Relation<'_>, schema: &Schema, watched: &Tables) -> Known {
        let Some(table) = schema.table_of(relation.oid) else {
            // Dropped since, or never ours to read.
            let name = TableName::from(spelled(&relation.namespace, &relation.name));
            return match watched.contains_key(&name) {
                true => Known::Unnamed(name),
                false => Known::Unwatched,
            };
        };
        let Some(watched) = watched.get(&table.schema.name) else {
            return Known::Unwatched;
        };
        Plan::of(relation, table, watched).map_or_else(|| Known::Unnamed(watched.table.clone()), Known::Rows)
    }

    /// The watched table that it leads to.
    pub(super) fn table(&self) -> Option<&TableName> {
        match self {
            Known::Unwatched => None,
            Known::Unnamed(table) => Some(table),
            Known::Rows(plan) => Some(&plan.table),
        }
    }

    /// Adds what a change of a row of this relation means.
    pub(super) fn row(&self, message: &Message<'_>, made: &mut Made) -> Result<()> {
        match self {
            Known::Unwatched => Ok(()),
            Known::Unnamed(table) => {
                made.table(table);
                Ok(())
            }
            Known::Rows(plan) => plan.row(message, made),
        }
    }
}

/// A table's name in the product: `schema.table`, a part in double quotes where it would be misread.
fn spelled(namespace: &str, name: &str) -> String {
    let part = |part: &str| match part.contains(['.', '"']) {
        true => crate::postgres::quoted(part),
        false => part.to_owned(),
    };
    format!("{}.{}", part(namespace), part(name))
}

impl Plan {
    /// `None` when a key column is missing.
    fn of(relation: &pgoutput::Relation<'_>, table: &Table, watched: &Watched) -> Option<Plan> {
        let values = |name: &str| {
            let at = table
                .schema
                .columns
                .iter()
                .position(|column| column.name == name)?;
            table.types.get(at).cloned()
        };
        let of_relation = |name: &str| relation.columns.iter().find(|column| column.name == name);
        let others = watched.columns.iter().filter(|name| !watched.key.contains(name));
        let columns: Vec<Column> = watched
            .key
            .iter()
            .chain(others)
            .map(|name| Column {
                name: name.clone(),
                values: values(name).filter(|_| of_relation(name).is_some()),
                identity: of_relation(name).is_some_and(|column| column.identity),
            })
            .collect();
        let key = watched.key.len();
        if columns[..key].iter().any(|column| column.values.is_none()) {
            return None;
        }
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let places = relation
            .columns
            .iter()
            .map(|column| place(&column.name))
            .collect();
        Some(Plan {
            table: watched.table.clone(),
            key,
            columns,
            places,
            full: relation.identity == b'f',
        })
    }

    fn row(&self, message: &Message<'_>, made: &mut Made) -> Result<()> {
        match message {
            Message::Insert { new, .. } => self.emit(&self.cells(*new)?, Former::Known, made),
            Message::Update { old, new, .. } => self.update(*old, *new, made)?,
            Message::Delete { old, .. } => self.emit(&self.old(*old)?, Former::IfComplete, made),
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Relation(_)
            | Message::Truncate(_)
            | Message::Nothing => {}
        }
        Ok(())
    }

    fn update(&self, old: Option<Old<'_>>, new: Tuple<'_>, made: &mut Made) -> Result<()> {
        let mut new = self.cells(new)?;
        let old = match old {
            Some(old) => self.old(old)?,
            // Nothing of the identity changed. (With FULL there is always an old row.)
            None => {
                let mut same = vec![Cell::Unknown; new.len()];
                for ((same, new), column) in same.iter_mut().zip(&new).zip(&self.columns) {
                    if column.identity && !self.full {
                        *same = *new;
                    }
                }
                same
            }
        };
        for (new, old) in new.iter_mut().zip(&old) {
            if *new == Cell::Unknown {
                *new = *old;
            }
        }
        let (old_key, old_rest) = old.split_at(self.key);
        if old_key.contains(&Cell::Unknown) {
            // Which row it was before is not known: an identity that does not hold the whole key.
            made.table(&self.table);
        } else if old_rest.contains(&Cell::Unknown) {
            if old_key != &new[..self.key] {
                self.emit(&old, Former::Unknown, made);
            }
            self.emit(&new, Former::Unknown, made);
        } else if old == new {
            self.emit(&new, Former::Known, made);
        } else {
            let at = made.changes.len();
            self.emit(&old, Former::IfComplete, made);
            // A former value that could not be read is not known.
            let unknown = made.changes[at..]
                .iter()
                .any(|change| matches!(change, Change::Row(row) if row.former_unknown));
            let former = if unknown { Former::Unknown } else { Former::Known };
            self.emit(&new, former, made);
        }
        Ok(())
    }

    /// The cells of a tuple.
    fn cells<'a>(&self, tuple: Tuple<'a>) -> Result<Vec<Cell<'a>>> {
        if tuple.len() != self.places.len() {
            return Err(Error::fatal(
                "protocol",
                format!(
                    "a row of `{}` has not as many values as columns were announced",
                    self.table
                ),
            ));
        }
        let mut cells = vec![Cell::Unknown; self.columns.len()];
        for (place, datum) in self.places.iter().zip(tuple.iter()) {
            if let Some(place) = place {
                cells[*place] = match datum {
                    Datum::Null => Cell::Null,
                    Datum::Unchanged => Cell::Unknown,
                    Datum::Text(text) => Cell::Text(text),
                };
            }
        }
        Ok(cells)
    }

    /// The cells of a row before its change.
    fn old<'a>(&self, old: Old<'a>) -> Result<Vec<Cell<'a>>> {
        let mut cells = self.cells(old.tuple())?;
        match old {
            Old::Full(_) => {}
            // The identity's columns are never NULL: NULL stands for what was not sent.
            Old::Key(_) => {
                for cell in &mut cells {
                    if *cell == Cell::Null {
                        *cell = Cell::Unknown;
                    }
                }
            }
        }
        Ok(cells)
    }

    /// Adds one image; the whole table where the row cannot be named.
    fn emit(&self, cells: &[Cell<'_>], former: Former, made: &mut Made) {
        let (key_columns, columns) = self.columns.split_at(self.key);
        let (key_cells, cells) = cells.split_at(self.key);
        let mut bytes = 0;
        let parts = key_columns.iter().zip(key_cells).map(|(column, cell)| {
            let part = column.value(*cell, &mut bytes);
            part.filter(|part| !part.is_null())
        });
        let Some(parts) = parts.collect::<Option<Vec<Value>>>() else {
            made.table(&self.table);
            return;
        };
        let mut complete = true;
        let mut image = Vec::with_capacity(columns.len());
        for (column, cell) in columns.iter().zip(cells) {
            match column.value(*cell, &mut bytes) {
                Some(value) => image.push((column.name.clone(), value)),
                None => complete = false,
            }
        }
        let change = RowChange {
            row: RowKey {
                table: self.table.clone(),
                key: Key::new(parts),
            },
            columns: image,
            former_unknown: match former {
                Former::Known => false,
                Former::Unknown => true,
                Former::IfComplete => !complete,
            },
        };
        made.push(Change::Row(change), bytes);
    }
}

/// Whether the documents of the row's former state can be found by the images.
#[derive(Clone, Copy, Debug)]
enum Former {
    Known,
    Unknown,
    /// When this image has all watched columns.
    IfComplete,
}

impl Column {
    /// `None` when the value is not known or cannot be read.
    fn value(&self, cell: Cell<'_>, bytes: &mut usize) -> Option<Value> {
        let text = match cell {
            Cell::Unknown => return None,
            Cell::Null => None,
            Cell::Text(text) => Some(std::str::from_utf8(text).ok()?),
        };
        *bytes += self.name.len() + text.map_or(0, str::len);
        self.values.as_ref()?.read(text).ok()
    }
}
