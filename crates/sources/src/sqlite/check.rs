//! `check`: every prerequisite of following and reading, met or not, with the statement that mends it.

use std::sync::Arc;

use rusqlite::TransactionBehavior;

use instep_core::{ColumnKind, Finding, Result, Severity, TableName, Watched};

use super::capture::{self, State};
use super::schema::{Schema, Table, create_index};
use super::{Database, failed, feed, quoted};

const MIGRATION: &str = "rename the table, create it with the key, copy the rows, drop the former table";

/// Looks at everything; an error only where the database cannot be read at all.
pub(super) fn check(database: &Arc<Database>, watched: &[Watched]) -> Result<Vec<Finding>> {
    let reader = database.reader()?;
    let schema = reader.schema()?;
    let path = database.path.display().to_string();
    let mut findings = vec![ok("database_readable", &path, "the database can be read")];
    findings.push(journal_mode(feed::rollback_journal(reader.connection())?, &path));
    findings.push(write_access(database, &path));
    for wanted in watched {
        check_table(&reader, &schema, wanted, watched, &mut findings)?;
    }
    findings.push(match capture::state(reader.connection(), &schema, watched)? {
        State::InPlace => ok("triggers", &path, "all watched tables have their triggers"),
        State::Damaged => Finding {
            severity: Severity::Ok,
            code: "triggers".into(),
            subject: path,
            message: "some watched tables have no triggers yet: they are created when following starts"
                .into(),
            remedy: None,
        },
        // Named table by table above.
        State::Vanished(_) => return Ok(findings),
    });
    Ok(findings)
}

fn journal_mode(rollback: bool, subject: &str) -> Finding {
    match rollback {
        false => ok(
            "journal_mode",
            subject,
            "the journal mode is WAL: readers and writers do not wait for each other",
        ),
        true => warning(
            "journal_mode",
            subject,
            "the database keeps a rollback journal, so a read of ours can make the application's commit wait, or fail \
             with `database is locked` when it has no busy timeout",
            "pragma journal_mode = wal",
        ),
    }
}

/// Begins to write and takes it back.
fn write_access(database: &Database, subject: &str) -> Finding {
    let attempt = || -> Result<()> {
        let mut connection = database.writer()?;
        let doing = "beginning to write";
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| failed(error, doing))?;
        transaction.rollback().map_err(|error| failed(error, doing))
    };
    match attempt() {
        Ok(()) => ok("write_access", subject, "the change table and the triggers can be written"),
        Err(error) if error.is_transient() => warning(
            "write_access",
            subject,
            "the application holds a write lock, so writing could not be tried",
            "check again when the application's transaction is over",
        ),
        Err(error) => Finding {
            severity: Severity::Error,
            code: "write_access".into(),
            subject: subject.to_owned(),
            message: format!("the database cannot be written: {}", error.message()),
            remedy: Some("let this user write the database file and its directory: triggers and a change table are needed".into()),
        },
    }
}

fn check_table(
    reader: &super::Reader,
    schema: &Schema,
    wanted: &Watched,
    watched: &[Watched],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let name = wanted.table.as_str();
    let Some(table) = schema.details(name) else {
        findings.push(error(
            "table_missing",
            name,
            "the table does not exist",
            "create it, or correct the configuration",
        ));
        return Ok(());
    };
    let before = findings.len();
    for column in wanted.key.iter().chain(&wanted.columns) {
        if table.schema.column(column).is_none() {
            let subject = format!("{name}.{column}");
            findings.push(error(
                "column_missing",
                &subject,
                "the column does not exist",
                "add it, or correct the configuration",
            ));
        }
    }
    if table.schema.primary_key.is_empty() {
        findings.push(error(
            "no_primary_key",
            name,
            "the table has no primary key, so its rows cannot be named",
            &format!("declare one ({MIGRATION}), or leave the table out of every collection"),
        ));
    }
    if findings.len() > before {
        return Ok(());
    }
    check_key(reader, table, findings)?;
    for columns in unindexed(table, wanted, watched) {
        findings.push(warning(
            "missing_index",
            &format!("{name}.{}", columns.join(",")),
            "rows are looked up by these columns, and no index leads with them: each look-up reads the whole table",
            &create_index(name, &columns),
        ));
    }
    for index in &table.unique_expressions {
        findings.push(warning(
            "unique_expression",
            &format!("{name}.{index}"),
            "rows that `insert or replace` or `update or replace` removes because of this unique index over an \
             expression are not noticed",
            "delete such rows by a statement of their own, or run `instep verify --repair` after it",
        ));
    }
    if findings.len() == before {
        findings.push(ok("table", name, "the table can be followed and read"));
    }
    Ok(())
}

fn check_key(reader: &super::Reader, table: &Table, findings: &mut Vec<Finding>) -> Result<()> {
    let name = table.schema.name.as_str();
    for column in &table.schema.primary_key {
        let Some(described) = table.schema.column(column) else {
            continue;
        };
        let subject = format!("{name}.{column}");
        if described.kind == ColumnKind::Any {
            findings.push(warning(
                "typeless_key",
                &subject,
                "the key column has no type, so 1 and '1' are two rows and one document",
                &format!("declare the column's type ({MIGRATION})"),
            ));
        }
        if !described.nullable {
            continue;
        }
        let column = quoted(column);
        let sql = format!("select count(*) from {} where {column} is null", quoted(name));
        let nulls: i64 = reader
            .connection()
            .query_row(&sql, [], |row| row.get(0))
            .map_err(|error| failed(error, "looking for NULL in keys"))?;
        if nulls > 0 {
            findings.push(warning(
                "null_key",
                &subject,
                &format!("{nulls} rows have NULL in their primary key, so they cannot become documents of their own"),
                &format!("give them a key, and declare the column `not null` ({MIGRATION})"),
            ));
        }
    }
    Ok(())
}

/// The columns by which rows are looked up and that no index leads with.
fn unindexed(table: &Table, wanted: &Watched, watched: &[Watched]) -> Vec<Vec<String>> {
    let is_watched = |name: &TableName| watched.iter().any(|other| other.table == *name);
    let involved = |column: &String| wanted.columns.contains(column) || wanted.key.contains(column);
    let mut sought: Vec<Vec<String>> = table
        .schema
        .foreign_keys
        .iter()
        .filter(|key| is_watched(&key.table) && key.columns.iter().all(involved))
        .map(|key| key.columns.clone())
        .collect();
    let in_foreign_key = |column: &String| sought.iter().any(|columns| columns.contains(column));
    let alone: Vec<Vec<String>> = wanted
        .columns
        .iter()
        .filter(|column| !in_foreign_key(column))
        .map(|column| vec![column.clone()])
        .collect();
    sought.extend(alone);
    sought.sort();
    sought.dedup();
    // The order of the leading columns does not matter for equality; columns before it that are sought as well do no harm.
    sought.retain(|columns| {
        !table.schema.indexes.iter().any(|index| {
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

fn ok(code: &str, subject: &str, message: &str) -> Finding {
    finding(Severity::Ok, code, subject, message, None)
}

fn warning(code: &str, subject: &str, message: &str, remedy: &str) -> Finding {
    finding(Severity::Warning, code, subject, message, Some(remedy))
}

fn error(code: &str, subject: &str, message: &str, remedy: &str) -> Finding {
    finding(Severity::Error, code, subject, message, Some(remedy))
}

fn finding(severity: Severity, code: &str, subject: &str, message: &str, remedy: Option<&str>) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        subject: subject.to_owned(),
        message: message.to_owned(),
        remedy: remedy.map(str::to_owned),
    }
}
