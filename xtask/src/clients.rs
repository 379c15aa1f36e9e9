//! The official Python search clients, each version in its own folder below the target directory.
//!
//! A folder appears only when its installation is complete, so an interrupted run leaves nothing half-made behind, and
//! a later run finds it ready. Folders are kept per Python version, because compiled modules belong to one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::command::{self, Failure};
use crate::needs::Consent;

/// The variable that names the interpreter the clients were installed for.
pub(crate) const INTERPRETER_VARIABLE: &str = "INSTEP_PYTHON";

/// The clients that the gateway is tested with.
const CLIENTS: [Client; 4] = [
    Client {
        variable: "INSTEP_PY_ES7",
        folder: "elasticsearch-7",
        requirement: "elasticsearch==7.*",
    },
    Client {
        variable: "INSTEP_PY_ES8",
        folder: "elasticsearch-8",
        requirement: "elasticsearch==8.*",
    },
    Client {
        variable: "INSTEP_PY_ES9",
        folder: "elasticsearch-9",
        requirement: "elasticsearch==9.*",
    },
    Client {
        variable: "INSTEP_PY_OS",
        folder: "opensearch-py",
        requirement: "opensearch-py",
    },
];

struct Client {
    /// Tells the tests the folder to put on `PYTHONPATH`.
    variable: &'static str,
    folder: &'static str,
    requirement: &'static str,
}

/// What could be installed, and what could not, with the reason.
#[derive(Default)]
pub(crate) struct Installed {
    /// Environment variables for the tests.
    pub(crate) variables: Vec<(&'static str, PathBuf)>,
    /// Names and versions, for the summary.
    pub(crate) versions: Vec<String>,
    /// One line for each client that is missing.
    pub(crate) missing: Vec<String>,
}

/// Installs the clients that are not there yet below `target`, with the `python3` on the path.
///
/// A client that cannot be installed (no network, say) is reported as missing and is no failure of the others.
/// Without consent only those are used that an earlier run installed.
pub(crate) fn install(target: &Path, consent: Consent) -> Installed {
    let mut installed = Installed::default();
    let (python, home) = match environment(target, consent) {
        Ok(found) => found,
        Err(failure) => {
            installed.missing.push(format!(
                "of any version: no virtual environment ({})",
                failure.what()
            ));
            return installed;
        }
    };
    for client in &CLIENTS {
        let folder = home.join(client.folder);
        match client.install(&python, &folder, consent) {
            Ok(()) => {
                installed.versions.push(version(&folder, client));
                installed.variables.push((client.variable, folder));
            }
            Err(failure) => installed
                .missing
                .push(format!("{}: {}", client.requirement, failure.what())),
        }
    }
    installed.variables.push((INTERPRETER_VARIABLE, python));
    installed
}

/// The interpreter of a virtual environment below `target`, made when absent or broken, and the folder beside it.
fn environment(target: &Path, consent: Consent) -> Result<(PathBuf, PathBuf), Failure> {
    let version =
        output(Command::new("python3").args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]))?;
    let home = target.join("python").join(version.trim());
    let venv = home.join("venv");
    let python = venv.join("bin").join("python");
    let works = output(Command::new(&python).args(["-m", "pip", "--version"])).is_ok();
    if !works {
        refuse_without(consent)?;
        fs::create_dir_all(&home)
            .map_err(|error| Failure::new(format!("cannot create {}: {error}", home.display())))?;
        // `--clear` also replaces an environment whose base interpreter was upgraded away.
        command::run(
            "virtual environment",
            Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv),
        )?;
    }
    Ok((python, home))
}

impl Client {
    fn install(&self, python: &Path, folder: &Path, consent: Consent) -> Result<(), Failure> {
        if folder.is_dir() {
            return Ok(());
        }
        refuse_without(consent)?;
        let unfinished = folder.with_extension("unfinished");
        let io =
            |error: std::io::Error| Failure::new(format!("cannot install to {}: {error}", folder.display()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(io)?;
        }
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--target",
        ])
        .arg(&unfinished)
        .arg(self.requirement)
        .stdin(Stdio::null());
        command::run("pip install", &mut pip)?;
        fs::rename(&unfinished, folder).map_err(io)
    }
}

fn refuse_without(consent: Consent) -> Result<(), Failure> {
    match consent {
        Consent::Given | Consent::Ask => Ok(()),
        Consent::Refused => Err(Failure::new("not installed yet, and installing was declined")),
    }
}

/// The installed name and version, read from the metadata folder pip leaves (`elasticsearch-7.17.12.dist-info`).
fn version(folder: &Path, client: &Client) -> String {
    let package = client
        .requirement
        .split("==")
        .next()
        .expect("split yields at least one part");
    let prefix = format!("{}-", package.replace('-', "_"));
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let version = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(".dist-info")?.strip_prefix(&prefix)?.to_owned())
    });
    format!(
        "{package} {}",
        version.max().unwrap_or_else(|| "of unknown version".to_owned())
    )
}

fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| command::not_started(&command::line(command), &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(format!("{} ({said})", output.status)).repeat_with(command::line(command)))
    }
}
