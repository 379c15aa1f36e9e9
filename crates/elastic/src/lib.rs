//! The only crate that knows Elasticsearch JSON: requests to the closed types of `instep_core`, answers back to text.
//!
//! Guarantees: a clause, key or parameter that is not in the [`capabilities`] table is an error that names it and the
//! place where it stands; nothing is read and dropped. JSON is strict: no duplicate keys, nothing after the end, no
//! byte order mark. Leaves to others: HTTP, names of indexes, authorisation, and whether a field exists.
//!
//! With the feature `cluster` it is also the engine over HTTP, `Cluster`, which speaks that JSON to OpenSearch and
//! Elasticsearch.

mod aggregation;
mod capability;
#[cfg(feature = "cluster")]
mod cluster;
mod document;
mod filter_path;
mod json;
mod notation;
mod number;
mod params;
mod place;
mod query;
mod render;
mod render_aggregation;
mod render_error;
mod search;
mod sort;
mod source_filter;
#[cfg(test)]
mod tests;
mod write;

pub use capability::{Clause, Endpoint, Parameter, capabilities};
#[cfg(feature = "cluster")]
pub use cluster::{Cluster, ClusterOptions, Credentials};
pub use document::{GetCall, MgetCall, MgetItem, parse_get, parse_mget};
pub use filter_path::FilterPath;
pub use params::Params;
pub use render::{
    Answered, GetAnswer, GetOutcome, render_count, render_get, render_info, render_mget, render_search,
};
pub use render_error::render_error;
pub use search::{Hydration, ResponseOptions, SearchCall, parse_count, parse_search};
