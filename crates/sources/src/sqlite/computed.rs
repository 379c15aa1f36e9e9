//! Expressions among a table's columns: whether SQLite takes them, and whether their value is the row's alone.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use instep_core::{Column, ColumnKind, Error, Expression, Result, TableSchema};

use super::quoted;

/// The column as which an expression is tried.
const TRIED: &str = "instep expression";

/// Functions that take the time where they are given none.
const CLOCKS: [&str; 6] = ["date", "time", "datetime", "julianday", "unixepoch", "strftime"];

/// A name in double quotes that names no column is an error, and no text.
pub(super) fn strict(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    Ok(())
}

/// Tries an expression as a generated column of an empty copy of its table: SQLite itself refuses there what reads other
/// rows, and functions whose value may change.
pub(super) fn describe(table: &TableSchema, expression: &Expression) -> Result<Column> {
    let refused = |what: String| Err(Error::invalid("bad_expression", what));
    if let Some(clock) = expression
        .bare_calls()
        .iter()
        .find(|name| CLOCKS.contains(&name.as_str()))
    {
        return refused(format!("`{clock}` without a moment is another one each time"));
    }
    if expression.has_brackets() {
        return refused("names in an expression are quoted with double quotes, not brackets".to_owned());
    }
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
    strict(&copy)?;
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
