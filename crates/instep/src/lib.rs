//! Keeps a search index in step with your database, and serves secure, typed search on top of it.
//!
//! This crate is what users depend on: the configuration, the wiring of all parts, and the command line.

pub mod cli;
pub mod config;
pub mod operations;
pub mod running;
pub mod wiring;

mod check;
mod command;
mod definitions;
mod demo;
mod following;
mod hydrate;
mod init;
mod output;
mod purging;
mod serving;
mod touching;
