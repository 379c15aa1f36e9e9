//! What answers at an address: product, version, and which cluster.

use std::fmt;

use instep_core::{Error, Result};
use serde::Deserialize;

/// The oldest Elasticsearch that is served: writes through an alias alone came with it.
const LEAST_ELASTICSEARCH: (u32, u32) = (7, 10);

/// What a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    kind: Kind,
    major: u32,
    minor: u32,
    number: String,
    /// The cluster's own id.
    pub(crate) cluster: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Opensearch,
    Elasticsearch,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Opensearch => "opensearch",
            Kind::Elasticsearch => "elasticsearch",
        };
        write!(f, "{name} {}", self.number)
    }
}

impl Product {
    /// Reads the answer of `/`.
    pub(crate) fn read(body: &[u8]) -> Result<Product> {
        #[derive(Deserialize)]
        struct Root {
            cluster_uuid: Option<String>,
            tagline: Option<String>,
            version: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            number: String,
            distribution: Option<String>,
            build_type: Option<String>,
        }
        let foreign = || {
            Error::fatal(
                "not_a_cluster",
                "what answers is neither OpenSearch nor Elasticsearch",
            )
            .with_remedy("check the cluster's url in the configuration")
        };
        let root: Root = serde_json::from_slice(body).map_err(|_| foreign())?;
        if root.version.build_type.as_deref() == Some("instep") {
            return Err(
                Error::fatal("not_a_cluster", "what answers is a search API of instep").with_remedy(
                    "check the cluster's url, or have instep listen elsewhere: [server] listen = \"…\"",
                ),
            );
        }
        let kind = match (root.version.distribution.as_deref(), root.tagline.as_deref()) {
            (Some("opensearch"), _) => Kind::Opensearch,
            (None, Some("You Know, for Search")) => Kind::Elasticsearch,
            (Some(_) | None, _) => return Err(foreign()),
        };
        let mut parts = root
            .version
            .number
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if kind == Kind::Elasticsearch && (major, minor) < LEAST_ELASTICSEARCH {
            let message = format!("Elasticsearch {} is too old", root.version.number);
            return Err(
                Error::fatal("cluster_too_old", message).with_remedy("7.10 is the oldest that is served")
            );
        }
        let cluster = root.cluster_uuid.filter(|uuid| uuid != "_na_");
        Ok(Product {
            kind,
            major,
            minor,
            number: root.version.number,
            cluster: cluster.ok_or_else(|| {
                Error::transient("cluster_forming", "the cluster has no manager yet")
                    .with_remedy("it goes on by itself once the cluster has one")
            })?,
        })
    }

    /// By what a score of words is multiplied so that it is the one of OpenSearch 3, whose BM25 has no factor k1 + 1.
    pub(crate) fn lexical_factor(&self) -> f32 {
        match self.kind {
            Kind::Opensearch if self.major >= 3 => 1.0,
            Kind::Opensearch | Kind::Elasticsearch => 1.0 / 2.2,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn products_are_told_apart() {
        let elasticsearch = |number: &str| {
            format!(
                r#"{{"cluster_uuid":"u","version":{{"number":"{number}","build_flavor":"default"}},"tagline":"You Know, for Search"}}"#
            )
        };
        let opensearch = r#"{"cluster_uuid":"u","version":{"distribution":"opensearch","number":"3.8.0"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#;
        let cases = [
            (elasticsearch("7.10.2"), Ok("elasticsearch 7.10.2")),
            (elasticsearch("9.1.0"), Ok("elasticsearch 9.1.0")),
            (elasticsearch("7.9.3"), Err("cluster_too_old")),
            (opensearch.to_owned(), Ok("opensearch 3.8.0")),
            (opensearch.replace("\"u\"", "\"_na_\""), Err("cluster_forming")),
            (crate::render_info("1"), Err("not_a_cluster")),
            ("<html>".to_owned(), Err("not_a_cluster")),
            (r#"{"version":{"number":"1.0"}}"#.to_owned(), Err("not_a_cluster")),
        ];
        for (body, expected) in cases {
            let product = Product::read(body.as_bytes());
            let found = product.as_ref().map(ToString::to_string).map_err(Error::code);
            assert_eq!(found, expected.map(str::to_owned), "{body}");
        }
        assert_eq!(
            Product::read(opensearch.as_bytes()).unwrap().lexical_factor(),
            1.0
        );
    }
}
