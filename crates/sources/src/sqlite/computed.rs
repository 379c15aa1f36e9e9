//! Expressions among a table's columns: whether SQLite takes them, and whether their value is the row's alone.

use rusqlite::{Connection, ErrorCode};

use instep_core::{Column, ColumnKind, Error, Expression, Result, TableSchema};

use super::quoted;

/// The column as which an expression is tried.
const TRIED: &str = "instep expression";

/// Tries an expression as a generated column of an empty copy of its table: SQLite itself refuses there what reads other
/// rows, and functions whose value may change.
pub(super) fn describe(table: &TableSchema, expression: &Expression) -> Result<Column> {
    tried(table, expression).map_err(|error| {
        let text = match error {
            rusqlite::Error::SqliteFailure(_, Some(text)) => text,
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            other => other.to_string(),
        };
        Error::invalid(
            "bad_expression",
            text.replace("generated columns", "an expression"),
        )
    })?;
    Ok(Column {
        name: expression.column(),
        kind: ColumnKind::Any,
        declared: String::new(),
        nullable: true,
    })
}

fn tried(table: &TableSchema, expression: &Expression) -> rusqlite::Result<()> {
    let columns = table
        .columns
        .iter()
        .map(|column| format!("{} {},", quoted(&column.name), plain(&column.declared)));
    let (name, columns, tried) = (
        quoted(table.name.as_str()),
        columns.collect::<String>(),
        quoted(TRIED),
    );
    let copy = Connection::open_in_memory()?;
    copy.execute_batch(&format!(
        "create table {name} ({columns} {tried} as ({expression})); insert into {name} default values;"
    ))?;
    // Some functions tell only when they run.
    copy.query_row(&format!("select {tried} from {name}"), [], |_| Ok(()))
}

/// A declared type without what follows it.
fn plain(declared: &str) -> &str {
    declared.split(" collate ").next().unwrap_or_default()
}

/// Whether a statement failed for what is in a row, rather than for what the statement is or where it runs.
pub(super) fn is_of_a_row(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(code, message) = error else {
        return false;
    };
    let is_definition = |message: &String| message.starts_with("no such ");
    matches!(
        code.code,
        ErrorCode::Unknown | ErrorCode::TooBig | ErrorCode::TypeMismatch
    ) && !message.as_ref().is_some_and(is_definition)
}
