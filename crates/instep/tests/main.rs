//! The product from the outside: the built binary, real HTTP, real clients, real data. One module for each subject.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod clients;
mod clusters;
mod commands;
mod conditions;
mod dead;
mod demo;
mod faults;
mod hydrate;
mod languages;
mod pause;
mod postgres;
mod readme;
mod search;
mod sets;
mod support;
mod tate;
mod why;
