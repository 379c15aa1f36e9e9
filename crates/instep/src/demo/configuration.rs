//! The demo's configuration file, from its template.

/// What differs from one demo to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The address of the source, as a configuration names it.
    pub(crate) source: &'a str,
    pub(crate) listen: &'a str,
    /// The secrets of the keys, or where to read them.
    pub(crate) buyer: &'a str,
    pub(crate) dealer: &'a str,
    pub(crate) seller: &'a str,
    pub(crate) staff: &'a str,
}

/// The text of the demo's configuration.
pub(crate) fn configuration(setup: Setup<'_>) -> String {
    let values = [
        ("source", setup.source),
        ("listen", setup.listen),
        ("buyer", setup.buyer),
        ("dealer", setup.dealer),
        ("seller", setup.seller),
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

    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::Arc;

    use instep_core::{Mapping, Source};
    use instep_sources::SqliteSource;
    use rusqlite::Connection;
    use toml::Table;

    use super::super::market::write;
    use super::*;
    use crate::config::{Config, Schemas};

    fn rendered() -> Table {
        configuration(Setup {
            source: r#"sqlite:C:\cars "of" the day@home.sqlite"#,
            listen: "127.0.0.1:0",
            buyer: "b",
            dealer: "d",
            seller: "x",
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
        for (name, secret) in [("buyer", "b"), ("dealer", "d"), ("seller", "x"), ("staff", "s")] {
            assert_eq!(config["key"][name]["secret"].as_str(), Some(secret));
        }
    }

    /// The configuration and the schema fit: every table, column, key and type.
    #[tokio::test]
    async fn it_resolves_against_the_market() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("market.sqlite");
        write(&mut Connection::open(&path).unwrap(), 1, 1).unwrap();
        let text = configuration(Setup {
            source: &format!("sqlite:{}", path.display()),
            listen: "127.0.0.1:0",
            buyer: "buyer-0123456789",
            dealer: "dealer-0123456789",
            seller: "seller-0123456789",
            staff: "staff-0123456789",
        });
        let config = Config::parse(Path::new("instep.toml"), text, &|_| None).unwrap();
        let source: Arc<dyn Source> = Arc::new(SqliteSource::open("market".into(), &path).unwrap());
        let mut schemas = Schemas::from([("market".into(), source.reader().tables().await.unwrap())]);
        let sources = HashMap::from([("market".into(), source)]);
        let collections = config.resolved(&sources, &mut schemas).await.unwrap();
        let names: Vec<&str> = collections
            .iter()
            .map(|collection| collection.name.as_str())
            .collect();
        assert_eq!(names, ["ad", "manufacturer", "seller"]);
        let mapping = Mapping::of(&collections[0], &collections[0].language.all()[0]);
        for (path, kind) in [
            ("title", "text"),
            ("lang", "keyword"),
            ("price", "decimal"),
            ("published", "date"),
            ("car.km", "long"),
            ("car.power_hp", "integer"),
            ("car.model.manufacturer.name", "text"),
            ("seller.city", "text"),
            ("tags", "keyword"),
        ] {
            assert_eq!(mapping.fields[path].name(), kind, "{path}");
        }
    }
}
