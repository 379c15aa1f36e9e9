//! Development tasks, run as `cargo xtask <task>`.
//!
//! Every task names what it runs, so that each line can be repeated by hand. What a task needs beyond Rust is
//! [`needs`]'s subject; running and timing commands is [`command`]'s.

mod bench;
mod ci;
mod clients;
mod command;
mod java;
mod needs;
mod node;
mod postgres;
mod surroundings;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::surroundings::Surroundings;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Development tasks of instep",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all tests, after naming and installing what they need beyond Rust.
    Test(test::Options),
    /// Check format, lints, licences and docs, then run all tests; stops at the first failure.
    Ci(ci::Options),
    /// Look up known vulnerabilities of the dependencies (needs the network).
    Advisories,
    /// Start a real search node on loopback and leave it running, or stop it.
    Node(node::Options),
    /// Measure, in a release build; prints figures with the limits they are held to.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let around = Surroundings::look();
    let outcome = match task {
        Task::Test(options) => test::run(&around, &options),
        Task::Ci(options) => ci::run(&around, &options),
        Task::Advisories => ci::advisories(&around),
        Task::Node(options) => node::run(&around, &options),
        Task::Bench(options) => bench::run(&around, &options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}
