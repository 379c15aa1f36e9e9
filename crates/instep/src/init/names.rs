//! Names in a written configuration: what a table or column may be called, and how TOML spells it.

use std::collections::HashSet;

use instep_core::name::checked;

use crate::config::resolve::is_field_name;

/// The names of one object's fields.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// Columns whose own names are kept for them.
    reserved: HashSet<String>,
}

impl Names {
    /// Keeps a name that needs no change for the column that has it.
    pub(super) fn reserve(&mut self, column: &str) {
        if is_field_name(column) {
            self.reserved.insert(column.to_owned());
        }
    }

    /// A field's name that is free: the wanted one, or the nearest to it.
    pub(super) fn field(&mut self, wanted: &str) -> String {
        if self.reserved.remove(wanted) {
            self.taken.insert(wanted.to_owned());
            return wanted.to_owned();
        }
        let plain: String = wanted
            .chars()
            .map(|c| match c {
                '.' | '*' | ',' | '^' => '_',
                c if c.is_control() => '_',
                c => c,
            })
            .collect();
        let plain = plain
            .trim_start_matches(|c: char| c == '_' || c.is_whitespace())
            .trim_end();
        let plain = if plain.is_empty() { "field" } else { plain };
        let free = |name: &str| !self.taken.contains(name) && !self.reserved.contains(name);
        let name = std::iter::once(plain.to_owned())
            .chain((2..).map(|number| format!("{plain}_{number}")))
            .find(|name| free(name))
            .expect("numbers do not end");
        self.taken.insert(name.clone());
        name
    }
}

/// A collection's name that is free, for a table of this name.
pub(super) fn collection_name(table: &str, taken: &mut HashSet<String>) -> String {
    let plain: String = table
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '_'
            }
        })
        .take(56)
        .collect();
    let plain = plain.trim_matches('_');
    let plain = match checked("collection", plain) {
        Ok(()) => plain.to_owned(),
        Err(_) => format!("table_{plain}").trim_end_matches('_').to_owned(),
    };
    let name = std::iter::once(plain.clone())
        .chain((2..).map(|number| format!("{plain}_{number}")))
        .find(|name| !taken.contains(name))
        .expect("numbers do not end");
    taken.insert(name.clone());
    name
}

/// What a foreign key's column is called after: `seller_id` after the seller.
pub(super) fn stem(column: &str, table: &str) -> String {
    let stem = ["_id", "_fk", "_key", "_no", "_ID", "Id", "ID"]
        .into_iter()
        .find_map(|end| column.strip_suffix(end))
        .filter(|stem| !stem.is_empty());
    stem.unwrap_or(if column.eq_ignore_ascii_case("id") {
        table
    } else {
        column
    })
    .to_owned()
}

/// Whether a column's name says that it should not be searched.
pub(super) fn looks_secret(column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    [
        "password",
        "passwd",
        "secret",
        "token",
        "salt",
        "api_key",
        "apikey",
        "private_key",
        "credential",
        "_hash",
    ]
    .into_iter()
    .any(|part| column.contains(part))
}

/// A string of TOML in one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key of TOML.
pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}
