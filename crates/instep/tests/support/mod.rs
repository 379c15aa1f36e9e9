//! What several tests need: the product as a process, HTTP, the Tate data.

pub mod http;
pub mod product;
pub mod tate;
