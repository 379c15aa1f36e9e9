//! `cargo xtask ci`: what must hold before a change is merged, cheapest first, and `cargo xtask advisories`.
//!
//! Stops at the first failure and prints the command that repeats it. Only looking up advisories needs the network
//! each time, and its answer changes without a change of ours, so it is a task of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::command::{self, Failure};
use crate::surroundings::Surroundings;
use crate::test;

/// The version of cargo-deny whose configuration `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

#[derive(Args)]
pub(crate) struct Options {
    /// Run only these steps; all of them without any.
    #[arg(value_enum, value_name = "STEP")]
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt finds nothing to change.
    Format,
    /// clippy has no warning in any target.
    Clippy,
    /// Licences, banned crates and their sources are as `deny.toml` says.
    Deny,
    /// The documentation builds without a warning.
    Docs,
    /// `cargo xtask test`, and no Postgres is a failure.
    Test,
}

/// Runs the steps in their order.
pub(crate) fn run(around: &Surroundings, options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    for step in Step::value_variants() {
        if options.steps.is_empty() || options.steps.contains(step) {
            step.run(around)?;
        }
    }
    eprintln!("\nall steps passed in {}", command::duration(started.elapsed()));
    Ok(())
}

/// Looks the dependencies up in the advisory database.
pub(crate) fn advisories(around: &Surroundings) -> Result<(), Failure> {
    command::run("advisories", &mut cargo_deny(around, &["check", "advisories"])?)
}

impl Step {
    fn run(self, around: &Surroundings) -> Result<(), Failure> {
        match self {
            Self::Format => command::run("format", &mut around.cargo(&["fmt", "--all", "--check"])),
            Self::Clippy => {
                let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
                command::run("clippy", &mut around.cargo(&arguments))
            }
            Self::Deny => {
                let mut check = cargo_deny(
                    around,
                    &["check", "--hide-inclusion-graph", "licenses", "bans", "sources"],
                )?;
                command::run("licences and bans", &mut check)
            }
            Self::Docs => {
                let mut docs = around.cargo(&["doc", "--workspace", "--no-deps"]);
                command::run("docs", docs.env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Test => test::run(around, &test::Options::before_merging()),
        }
    }
}

/// A cargo-deny command; installs the tool below the target directory when it is not there.
fn cargo_deny(around: &Surroundings, arguments: &[&str]) -> Result<Command, Failure> {
    let program = tool(around)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&around.root)
        .stdin(Stdio::null());
    Ok(command)
}

fn tool(around: &Surroundings) -> Result<PathBuf, Failure> {
    let tools = around.target.join("tools");
    let program = tools
        .join("bin")
        .join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    let installed = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let current = installed.is_ok_and(|said| said.stdout.trim_ascii().ends_with(CARGO_DENY.as_bytes()));
    if !current {
        let mut install = around.cargo(&[
            "install",
            "--locked",
            "--force",
            "cargo-deny",
            "--version",
            CARGO_DENY,
        ]);
        // A target directory of its own: its artefacts are of no use to the workspace, and are removed afterwards.
        let build = tools.join("build");
        install.arg("--root").arg(&tools).env("CARGO_TARGET_DIR", &build);
        command::run("install cargo-deny", &mut install)?;
        if let Err(error) = std::fs::remove_dir_all(&build) {
            eprintln!("warning: cannot remove {}: {error}", build.display());
        }
    }
    Ok(program)
}
