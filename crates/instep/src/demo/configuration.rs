//! The demo's configuration file, from its template.

/// What differs from one demo to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The address of the source, as a configuration names it.
    pub(crate) source: &'a str,
    pub(crate) listen: &'a str,
    /// The secrets of the three keys, or where to read them.
    pub(crate) buyer: &'a str,
    pub(crate) dealer: &'a str,
    pub(crate) staff: &'a str,
}

/// The text of the demo's configuration.
pub(crate) fn configuration(setup: Setup<'_>) -> String {
    let values = [
        ("source", setup.source),
        ("listen", setup.listen),
        ("buyer", setup.buyer),
        ("dealer", setup.dealer),
        ("staff", setup.staff),
    ];
    let mut out = String::with_capacity(4_096);
    let mut rest = include_str!("config.toml");
    while let Some((before, name, after)) = next_slot(rest) {
        let (_, value) = values
            .iter()
            .find(|(known, _)| *known == name)
            .expect("the template has no slots but these; a test renders it");
        out.push_str(before);
        out.push_str(&toml::Value::String((*value).to_owned()).to_string());
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Splits at the first `@name@`.
fn next_slot(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('@')?;
    let (name, after) = rest.split_once('@')?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rusqlite::Connection;
    use toml::{Table, Value};

    use super::super::market::write;
    use super::*;

    fn rendered() -> Table {
        configuration(Setup {
            source: r#"sqlite:C:\cars "of" the day@home.sqlite"#,
            listen: "127.0.0.1:0",
            buyer: "b",
            dealer: "d",
            staff: "s",
        })
        .parse()
        .unwrap()
    }

    #[test]
    fn values_arrive_as_they_were_given() {
        let config = rendered();
        assert_eq!(
            config["source"]["market"]["url"].as_str(),
            Some(r#"sqlite:C:\cars "of" the day@home.sqlite"#)
        );
        assert_eq!(config["server"]["listen"].as_str(), Some("127.0.0.1:0"));
        for (name, secret) in [("buyer", "b"), ("dealer", "d"), ("staff", "s")] {
            assert_eq!(config["key"][name]["secret"].as_str(), Some(secret));
        }
    }

    fn has_column(database: &Connection, table: &str, column: &str) -> bool {
        database
            .query_row(
                "SELECT count(*) FROM pragma_table_info(?) WHERE name = ?",
                [table, column],
                |row| row.get::<_, u32>(0),
            )
            .unwrap()
            == 1
    }

    #[test]
    fn every_table_and_column_it_names_exists() {
        let mut database = Connection::open_in_memory().unwrap();
        write(&mut database, 1, 1).unwrap();
        for (name, collection) in rendered()["collection"].as_table().unwrap() {
            let root = collection["root"].as_str().unwrap();
            if let Some(condition) = collection.get("where").and_then(Value::as_str) {
                database
                    .prepare(&format!("SELECT 1 FROM {root} WHERE {condition}"))
                    .unwrap();
            }
            let own = [
                collection.get("readers"),
                collection
                    .get("language")
                    .and_then(|language| language.get("column")),
            ];
            for column in own.into_iter().flatten() {
                assert!(
                    has_column(&database, root, column.as_str().unwrap()),
                    "{name}: {column}"
                );
            }
            for (field, definition) in collection["fields"].as_table().unwrap() {
                let Some(table) = definition.get("table").and_then(Value::as_str) else {
                    assert!(has_column(&database, root, field), "{name}.{field}");
                    continue;
                };
                let single = ["values", "order"]
                    .map(|key| definition.get(key))
                    .into_iter()
                    .flatten();
                let several = definition
                    .get("fields")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                for column in single.chain(several) {
                    assert!(
                        has_column(&database, table, column.as_str().unwrap()),
                        "{name}.{field}: {column}"
                    );
                }
                if let Some(through) = definition.get("through").and_then(Value::as_str) {
                    assert!(
                        has_column(&database, through, &format!("{table}_id")),
                        "{name}.{field}: {through}"
                    );
                }
            }
        }
    }
}
