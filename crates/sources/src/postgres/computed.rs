//! Expressions among a table's columns: the type of each, and whether its value is the row's alone.
//!
//! Functions count by what Postgres says of their volatility. Some that it calls stable depend on nothing but settings
//! that readers fix ([`super::value::SETTINGS`]); those are taken, too.

use std::collections::BTreeSet;

use instep_core::{Error, Expression, Result, TableName};

use super::connect::Session;
use super::read::relation;
use super::schema::Table;
use super::{literal, quoted};

/// Every expression that was asked for, with its table.
pub(super) type Wanted = BTreeSet<(TableName, String)>;

/// Functions that Postgres calls stable, or some forms of which it does, and whose value depends on nothing but the row and
/// settings that readers fix. `age` is none: with one argument it depends on the day.
const AS_GOOD_AS_IMMUTABLE: &[&str] = &[
    "array_to_string",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "timezone",
];

/// The number of an expression's type. Nothing is computed, so no row can make it fail. `checks_sql` asks the same inside a
/// read.
pub(super) fn type_sql(table: &Table, expression: &str) -> String {
    // Behind `offset` the planner sees no constants that it could compute with.
    format!(
        "(select pg_catalog.pg_typeof(case when pg_catalog.pg_backend_pid() < 0 then ({expression}) end)::oid \
         from (select (null::{}).* offset 0) {})",
        relation(table),
        quoted(&table.name)
    )
}

/// The number of an expression's type, as the server says now.
pub(super) async fn type_of(session: &Session, table: &Table, expression: &str) -> Result<u32> {
    let lines = session
        .query(&format!("select {}", type_sql(table, expression)))
        .await?;
    let number = lines.first().map(|line| line.text(0)).transpose()?;
    number.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Error::fatal(
            "bad_answer",
            "the database did not say what type an expression has",
        )
    })
}

/// Refuses an expression that calls a function whose value may change while the row does not, or that is none of one row.
pub(super) async fn require_deterministic(session: &Session, expression: &Expression) -> Result<()> {
    let names: Vec<String> = expression.calls().iter().map(|name| literal(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "select proname, pg_catalog.bool_and(provolatile = 'i' and prokind = 'f' and not proretset), \
         pg_catalog.bool_or(prokind = 'f' and not proretset) \
         from pg_catalog.pg_proc where proname in ({}) group by proname",
        names.join(",")
    );
    for line in session.query(&sql).await? {
        let (name, is_immutable, is_of_one_row) = (line.text(0)?, line.text(1)? == "t", line.text(2)? == "t");
        if !is_of_one_row {
            return Err(Error::invalid(
                "bad_expression",
                format!("`{name}` computes with several rows, or returns several"),
            )
            .with_remedy("join the rows as a field of their own"));
        }
        if !is_immutable && !AS_GOOD_AS_IMMUTABLE.contains(&name) {
            return Err(Error::invalid(
                "bad_expression",
                format!("the value of `{name}` may change while the row does not, and nothing would say so"),
            )
            .with_remedy(
                "use functions all of whose forms Postgres calls immutable, or keep the value in a column",
            ));
        }
    }
    Ok(())
}
