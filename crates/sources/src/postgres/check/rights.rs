//! What the role that reads may read.

use std::collections::BTreeMap;

use instep_core::{Finding, Watched};

use super::tables::Seen;
use super::{error, ok};
use crate::postgres::followed::{spelled, split};
use crate::postgres::quoted;

/// Schemas and tables; `seen` is in the order of `watched`.
pub(super) fn check(watched: &[Watched], seen: &[Option<Seen>], role: &str, findings: &mut Vec<Finding>) {
    let before = findings.len();
    let mut schemas: BTreeMap<String, bool> = BTreeMap::new();
    for (watched, seen) in watched.iter().zip(seen) {
        let Some(seen) = seen else { continue };
        let (namespace, _) = split(&watched.table);
        schemas.insert(namespace, seen.usable);
    }
    for (schema, _) in schemas.iter().filter(|(_, usable)| !**usable) {
        findings.push(error(
            "schema_usage",
            schema,
            format!("role `{role}` may not use the schema"),
            format!("grant usage on schema {} to {}", quoted(schema), quoted(role)),
        ));
    }
    for (watched, seen) in watched.iter().zip(seen) {
        let Some(seen) = seen.as_ref().filter(|seen| seen.is_table()) else {
            continue;
        };
        let mut wanted = watched.key.iter().chain(&watched.columns);
        let may = seen.selectable || seen.any_selectable && wanted.all(|column| seen.may_select(column));
        if !may {
            findings.push(error(
                "table_select",
                watched.table.as_str(),
                format!("role `{role}` may not read the table"),
                format!(
                    "grant select on table {} to {}",
                    spelled(&watched.table),
                    quoted(role)
                ),
            ));
        }
    }
    if findings.len() == before {
        findings.push(ok("rights", role, "the role may read all tables that are needed"));
    }
}
