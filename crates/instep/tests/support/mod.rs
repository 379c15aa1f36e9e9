//! What several tests need: the product as a process, HTTP, a small shop, the Tate data.

pub mod http;
pub mod product;
pub mod shop;
pub mod state;
pub mod tate;
