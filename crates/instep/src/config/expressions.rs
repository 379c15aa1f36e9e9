//! Expressions of the file: each is shown to the database whose rows it is computed from, before anything is resolved.
//!
//! What the database says of one stands among the columns of its table from then on.

use std::collections::HashMap;
use std::sync::Arc;

use instep_core::{Expression, Result, Source, SourceName, TableName};

use crate::config::joins::{Meant, meant};
use crate::config::problem::Problem;
use crate::config::raw::{At, RawCollection, RawField};
use crate::config::resolve::Schemas;

/// What an expression is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Value,
    Condition,
}

/// An expression, and the table it is computed from, as the file names it.
type Named<'a> = (&'a At<String>, &'a At<String>, Use);

/// Describes every expression of these collections whose source is among `sources`. What the tables are is looked up in
/// `schemas`; a table that is not there is left to whoever resolves the collection.
pub(crate) async fn describe(
    collections: impl Iterator<Item = (SourceName, &RawCollection)>,
    sources: &HashMap<SourceName, Arc<dyn Source>>,
    schemas: &mut Schemas,
) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (name, raw) in collections {
        let (Some(source), Some(tables)) = (sources.get(&name), schemas.get_mut(&name)) else {
            continue;
        };
        for (table, sql, purpose) in named(raw) {
            let table: TableName = match meant(tables, table.get_ref()) {
                Meant::Table(table) => table.name.clone(),
                Meant::Nothing | Meant::Several(_) => continue,
            };
            let parsed = match purpose {
                Use::Value => Expression::parse(sql.get_ref()),
                Use::Condition => Expression::condition(sql.get_ref()),
            };
            let described = match parsed {
                Ok(expression) => source.reader().describe(&table, &expression).await,
                Err(error) => Err(error),
            };
            match described {
                Ok(column) => {
                    let known = tables.iter_mut().find(|known| known.name == table);
                    let known = known.expect("it was found above");
                    if known.column(&column.name).is_none() {
                        known.columns.push(column);
                    }
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    let message = format!("`{}` over table `{table}`: {error}", sql.get_ref());
                    let problem = Problem::new(sql.span(), message);
                    problems.push(match error.remedy() {
                        Some(remedy) => problem.help(remedy.to_owned()),
                        None => problem,
                    });
                }
            }
        }
    }
    Ok(problems)
}

/// The expressions of a collection.
fn named(raw: &RawCollection) -> Vec<Named<'_>> {
    let mut found: Vec<Named<'_>> = Vec::new();
    if let Some(condition) = &raw.condition {
        found.push((&raw.root, condition, Use::Condition));
    }
    let joins = raw.fields.values().filter_map(|field| match field.get_ref() {
        RawField::Type(_) => None,
        RawField::Table(table) => Some(&**table),
    });
    for join in joins.chain(raw.reader_joins()) {
        if let (Some(table), Some(condition)) = (&join.table, &join.condition) {
            found.push((table, condition, Use::Condition));
        }
    }
    for (name, field) in &raw.fields {
        let RawField::Table(field) = field.get_ref() else {
            continue;
        };
        if let (Some(sql), Some(table)) = (&field.sql, owner(raw, name.get_ref())) {
            found.push((table, sql, Use::Value));
        }
    }
    found
}

/// The table of the object that a field belongs to.
fn owner<'a>(raw: &'a RawCollection, field: &str) -> Option<&'a At<String>> {
    let Some((object, _)) = field.rsplit_once('.') else {
        return Some(&raw.root);
    };
    let found = raw.fields.iter().find(|(name, _)| name.get_ref() == object)?;
    match found.1.get_ref() {
        RawField::Type(_) => None,
        RawField::Table(table) => table.table.as_ref(),
    }
}
