//! The product from the outside: the built binary, real HTTP, real clients, real data. One module for each subject.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod awkward;
mod both;
mod clients;
mod clusters;
mod commands;
mod conditions;
mod dead;
mod definitions;
mod demo;
mod faults;
mod hydrate;
mod languages;
mod market;
mod mishaps;
mod pause;
mod postgres;
mod purge;
mod readers;
mod readme;
mod roads;
mod search;
mod sets;
mod sizes;
mod support;
mod tate;
mod why;
