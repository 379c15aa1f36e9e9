//! Where a task runs: the workspace, the target directory, the real data, and whether anyone can answer a question.
//!
//! The only module of `xtask` that reads the environment; the others take what they need from [`Surroundings`].

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::Failure;
use crate::java::{self, Java};
use crate::postgres;

/// What the tasks know of the machine, read once at the start.
pub(crate) struct Surroundings {
    /// The workspace's root, absolute.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, absolute; everything a task installs goes below it.
    pub(crate) target: PathBuf,
    /// The folder of real data sets, absolute, when there is one.
    pub(crate) data: Option<PathBuf>,
    /// Whether a person is there to answer.
    pub(crate) audience: Audience,
    cargo: OsString,
    /// The folder of Postgres's programs that was asked for.
    postgres: Option<PathBuf>,
    /// The folder of the Java that was asked for.
    java: Option<PathBuf>,
    path: OsString,
}

/// Who watches the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Someone at a terminal, who can be asked.
    Person,
    /// A pipe, a log or a continuous integration job.
    Machine,
}

impl Surroundings {
    pub(crate) fn look() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask lies in the workspace")
            .to_path_buf();
        let target = match variable("CARGO_TARGET_DIR") {
            Some(folder) => env::current_dir()
                .expect("the current directory is readable")
                .join(folder),
            None => root.join("target"),
        };
        let data = match variable("INSTEP_DATA") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => root.parent().map(|beside| beside.join("shared").join("data")),
        };
        let in_ci = variable("CI").is_some_and(|value| value == "true" || value == "1");
        let on_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self {
            root,
            target,
            data: data
                .filter(|folder| folder.is_dir())
                .and_then(|folder| folder.canonicalize().ok()),
            audience: if on_terminal && !in_ci {
                Audience::Person
            } else {
                Audience::Machine
            },
            cargo: variable("CARGO").unwrap_or_else(|| OsString::from("cargo")),
            postgres: variable("INSTEP_POSTGRES").map(PathBuf::from),
            java: variable("JAVA_HOME").map(PathBuf::from),
            path: variable("PATH").unwrap_or_default(),
        }
    }

    /// The folder of Postgres's programs, looked for at each call because it may have been installed since.
    pub(crate) fn postgres(&self) -> Option<PathBuf> {
        postgres::find(self.postgres.as_deref(), &self.path)
    }

    /// Every Java there is, looked for at each call because one may have been installed since.
    pub(crate) fn javas(&self) -> Vec<Java> {
        java::find(self.java.as_deref(), &self.path)
    }

    /// Refuses an `INSTEP_POSTGRES` without Postgres: to search or to install something else is not what was asked for.
    pub(crate) fn check_postgres(&self) -> Result<(), Failure> {
        match &self.postgres {
            Some(folder) if self.postgres().is_none() => Err(Failure::new(format!(
                "INSTEP_POSTGRES names {}, where Postgres's programs are not",
                folder.display()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// A cargo command in the workspace's root, with the target directory fixed and no standard input.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null());
        command
    }
}

/// A variable of the environment; an empty one counts as absent.
#[allow(
    clippy::disallowed_methods,
    reason = "xtask has no configuration file; the environment is its only input"
)]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
