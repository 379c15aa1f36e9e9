//! Real search nodes, which `cargo xtask test` starts once for all tests; see `cargo xtask node`.

use std::io::Write;

/// A product that tests run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// OpenSearch 3.
    Opensearch,
    /// OpenSearch 2.
    Opensearch2,
    /// Elasticsearch 7.10.
    Elasticsearch,
}

impl Node {
    /// All of them.
    pub const ALL: [Node; 3] = [Node::Opensearch, Node::Opensearch2, Node::Elasticsearch];

    /// Its address, `http://127.0.0.1:…`; `None` where it does not run, after a line that the summary of the tests shows.
    pub fn url(self) -> Option<String> {
        let url = self.quietly();
        if url.is_none() {
            let line =
                format!("SKIPPED the tests on {self:?}: no such node runs (cargo xtask test starts one)");
            // The harness does not capture this.
            let _shown = writeln!(std::io::stderr(), "{line}");
        }
        url
    }

    /// The first node that runs.
    pub fn any() -> Option<String> {
        let url = Node::ALL.into_iter().find_map(Node::quietly);
        if url.is_none() {
            let line = "SKIPPED the tests on a search node: none runs (cargo xtask test starts them)";
            let _shown = writeln!(std::io::stderr(), "{line}");
        }
        url
    }

    #[allow(clippy::disallowed_methods, reason = "what cargo xtask test tells the tests")]
    fn quietly(self) -> Option<String> {
        let name = match self {
            Node::Opensearch => "INSTEP_TEST_OPENSEARCH",
            Node::Opensearch2 => "INSTEP_TEST_OPENSEARCH2",
            Node::Elasticsearch => "INSTEP_TEST_ELASTICSEARCH",
        };
        std::env::var(name).ok().filter(|url| !url.is_empty())
    }
}
