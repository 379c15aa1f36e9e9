//! The values that rows are asked by: as a condition, and without those that the server refuses.

use std::fmt::Write;
use std::ops::Range;

use instep_core::{ColumnKind, Error, Result, Value};

use super::super::schema::Table;
use super::super::{Database, locked};
use super::view::View;
use super::{list, literal};

/// The most statements that look for values which the server refuses.
const MOST_SIEVES: usize = 1_000;

/// The tuples to match, column by column, each value as text that its column's type takes.
pub(super) struct Tuples<'a> {
    table: &'a Table,
    by: Vec<usize>,
    columns: Vec<Vec<Vec<u8>>>,
    pub(super) count: usize,
    /// Whether there is anything else than integers, which are judged without the server.
    pub(super) doubtful: bool,
}

impl<'a> Tuples<'a> {
    /// Without those that no row can have.
    pub(super) fn of(database: &Database, table: &'a Table, by: Vec<usize>, values: &[Vec<Value>]) -> Self {
        let any_bytes = locked(&database.reading).any_bytes;
        let mut tuples = Tuples {
            table,
            columns: vec![Vec::with_capacity(values.len()); by.len()],
            by,
            count: 0,
            doubtful: false,
        };
        for tuple in values {
            let written = tuple
                .iter()
                .zip(&tuples.by)
                .map(|(value, at)| literal::written(value, &table.types[*at], any_bytes));
            let Some(written) = written.collect::<Option<Vec<_>>>() else {
                continue;
            };
            tuples.doubtful |= tuple.iter().any(|value| !matches!(value, Value::Int(_)));
            tuples.count += 1;
            for (column, text) in tuples.columns.iter_mut().zip(written) {
                column.push(text);
            }
        }
        tuples
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// That a row is one of these, in a form that an index on the columns serves.
    pub(super) fn condition(&self, range: Range<usize>, sql: &mut String) {
        if let ([at], false) = (&self.by[..], self.has_arrays()) {
            let _ = write!(sql, "{} = any (", list(self.table, &[*at]));
            self.array(0, range, sql);
            sql.push(')');
            return;
        }
        let _ = write!(sql, "({}) in (select ", list(self.table, &self.by));
        for (place, at) in self.by.iter().enumerate() {
            let cast = self.table.types[*at].sql();
            let _ = write!(sql, "{}u.c{place}::{cast}", if place > 0 { "," } else { "" });
        }
        sql.push_str(" from rows from (");
        for place in 0..self.by.len() {
            sql.push_str(if place > 0 {
                ",pg_catalog.unnest("
            } else {
                "pg_catalog.unnest("
            });
            self.array(place, range.clone(), sql);
            sql.push(')');
        }
        sql.push_str(") u (");
        for place in 0..self.by.len() {
            let _ = write!(sql, "{}c{place}", if place > 0 { "," } else { "" });
        }
        sql.push_str("))");
    }

    /// Whether some index begins with one of the matched columns.
    pub(super) fn have_index(&self) -> bool {
        let schema = &self.table.schema;
        let matched = |name: &String| self.by.iter().any(|at| schema.columns[*at].name == *name);
        let begins = |index: &Vec<String>| index.first().is_some_and(matched);
        schema.indexes.iter().any(begins)
    }

    fn has_arrays(&self) -> bool {
        self.by.iter().any(|at| self.is_array(*at))
    }

    /// There is no array of arrays.
    fn is_array(&self, at: usize) -> bool {
        self.table.types[at].kind() == ColumnKind::Array
    }

    /// A column's values as an array of its type; as texts where the type is an array itself.
    fn array(&self, place: usize, range: Range<usize>, sql: &mut String) {
        literal::array(self.columns[place][range].iter().map(Vec::as_slice), sql);
        let at = self.by[place];
        match self.is_array(at) {
            true => sql.push_str("::pg_catalog.text[]"),
            false => {
                let _ = write!(sql, "::{}[]", self.table.types[at].sql());
            }
        }
    }

    /// Those whose values the server takes: found by halves.
    pub(super) async fn sieved(&self, view: &mut View) -> Result<Tuples<'a>> {
        let mut good = Vec::new();
        let mut open: Vec<_> = std::iter::once(0..self.count).collect();
        let mut statements = 0;
        while let Some(range) = open.pop() {
            statements += 1;
            if statements > MOST_SIEVES {
                let message =
                    "too many of the values that rows are asked by are no values of their columns' types";
                return Err(Error::fatal("bad_value", message));
            }
            if view.accepts(&self.values_sql(range.clone())).await? {
                good.push(range);
            } else if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                open.extend([range.start..middle, middle..range.end]);
            }
        }
        let part = |column: &Vec<Vec<u8>>| {
            let parts = good.iter().flat_map(|range| &column[range.clone()]);
            parts.cloned().collect()
        };
        Ok(Tuples {
            columns: self.columns.iter().map(part).collect(),
            count: good.iter().map(Range::len).sum(),
            table: self.table,
            by: self.by.clone(),
            doubtful: self.doubtful,
        })
    }

    /// Fails when a value is refused, and returns little.
    fn values_sql(&self, range: Range<usize>) -> String {
        let mut sql = String::from("select ");
        for (place, at) in self.by.iter().enumerate() {
            if place > 0 {
                sql.push(',');
            }
            match self.is_array(*at) {
                false => {
                    sql.push_str("pg_catalog.cardinality(");
                    self.array(place, range.clone(), &mut sql);
                    sql.push(')');
                }
                true => {
                    let _ = write!(
                        sql,
                        "(select count(x::{}) from pg_catalog.unnest(",
                        self.table.types[*at].sql()
                    );
                    self.array(place, range.clone(), &mut sql);
                    sql.push_str(") x)");
                }
            }
        }
        sql
    }
}
