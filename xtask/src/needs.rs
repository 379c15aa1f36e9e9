//! What the tests need beyond Rust: named first, then installed from the system's packages where that is possible.
//!
//! Nothing is installed without consent: a person is asked, `--yes` answers for them, and where nobody can be asked
//! (a pipe, `CI=true`) starting the task is taken as consent, unless `--no-install` says otherwise.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{self, Failure};
use crate::surroundings::{Audience, Surroundings};

/// Something a test needs that cargo does not bring.
pub(crate) struct Need {
    name: &'static str,
    purpose: &'static str,
    probe: Probe,
    /// The system packages (Debian's names) that bring it.
    packages: &'static [&'static str],
    /// What the packages would do unasked, and how they are kept from it.
    restraint: Option<&'static Restraint>,
}

/// How to see whether a need is met.
enum Probe {
    /// A command that succeeds.
    Succeeds(&'static [&'static str]),
    /// One of these files is there: programs that are in nobody's path.
    Exists(&'static [&'static str]),
    /// Postgres's programs are found.
    Postgres,
    /// A Java is found that some search node runs on.
    Java,
}

/// Keeps packages from more than bringing their files.
struct Restraint {
    /// The package that brings the setting to change, installed first.
    package: &'static str,
    /// A shell script that runs between that package and the others.
    before: &'static str,
    /// A shell script that undoes `before`, whether or not the others could be installed.
    after: &'static str,
}

/// Installing Postgres on Debian creates a cluster and starts it at every boot; the tests want the programs alone.
const NO_CLUSTER: Restraint = Restraint {
    package: "postgresql-common",
    before: "cd /etc/postgresql-common && cp -p createcluster.conf createcluster.conf.before-instep \
             && pg_conftool /etc/postgresql-common/createcluster.conf set create_main_cluster off",
    after: "cd /etc/postgresql-common && mv createcluster.conf.before-instep createcluster.conf",
};

/// Installing pgbouncer on Debian starts it, at every boot too; the tests want the program alone.
const NO_POOLER: Restraint = Restraint {
    package: "postgresql-common",
    before: "[ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\\n# before-instep\\nexit 101\\n' > /usr/sbin/policy-rc.d \
             && chmod +x /usr/sbin/policy-rc.d; }",
    after: "! grep -qs before-instep /usr/sbin/policy-rc.d || rm /usr/sbin/policy-rc.d; \
            [ ! -e /etc/init.d/pgbouncer ] || update-rc.d pgbouncer disable",
};

/// Builds the bundled SQLite; nothing works without it.
pub(crate) const C_COMPILER: Need = Need {
    name: "a C compiler",
    purpose: "builds the bundled SQLite",
    probe: Probe::Succeeds(&["cc", "--version"]),
    packages: &["gcc", "libc6-dev"],
    restraint: None,
};

/// Runs the official search clients against the gateway; without it their tests are skipped.
pub(crate) const PYTHON: Need = Need {
    name: "Python 3 with venv",
    purpose: "runs the official search clients",
    probe: Probe::Succeeds(&["python3", "-c", "import venv, ensurepip"]),
    packages: &["python3", "python3-venv"],
    restraint: None,
};

/// Is the source of the tests of following Postgres, in servers that the tests start and remove; without it they are
/// skipped.
pub(crate) const POSTGRES: Need = Need {
    name: "Postgres",
    purpose: "is followed by tests, no service",
    probe: Probe::Postgres,
    packages: &["postgresql"],
    restraint: Some(&NO_CLUSTER),
};

/// Stands between instep and Postgres in tests of reading through a pooler; without it they are skipped.
pub(crate) const POOLER: Need = Need {
    name: "pgbouncer",
    purpose: "pools connections in tests",
    probe: Probe::Exists(&[
        "/usr/sbin/pgbouncer",
        "/usr/bin/pgbouncer",
        "/opt/homebrew/bin/pgbouncer",
    ]),
    packages: &["pgbouncer"],
    restraint: Some(&NO_POOLER),
};

/// Makes the certificates of tests of TLS; without it they are skipped.
pub(crate) const OPENSSL: Need = Need {
    name: "the openssl program",
    purpose: "makes certificates for tests",
    probe: Probe::Succeeds(&["openssl", "version"]),
    packages: &["openssl"],
    restraint: None,
};

/// Runs the search nodes that the tests index into and search; without it their tests are skipped.
pub(crate) const JAVA: Need = Need {
    name: "Java 17 or newer",
    purpose: "runs search nodes for tests",
    probe: Probe::Java,
    packages: &["default-jre-headless"],
    restraint: None,
};

/// Fetches the search nodes; without it their tests are skipped, unless an earlier run fetched them.
pub(crate) const MAVEN: Need = Need {
    name: "Maven",
    purpose: "fetches search nodes for tests",
    probe: Probe::Succeeds(&["mvn", "--version"]),
    packages: &["maven"],
    restraint: None,
};

/// What to do about missing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Install without a question.
    Given,
    /// Ask the person at the terminal.
    Ask,
    /// Leave the system as it is.
    Refused,
}

impl Consent {
    /// A refusal wins over everything, `--yes` over the question, and a machine cannot be asked.
    pub(crate) fn decide(yes: bool, no_install: bool, audience: Audience) -> Self {
        match (no_install, yes, audience) {
            (true, _, _) => Self::Refused,
            (false, true, _) | (false, false, Audience::Machine) => Self::Given,
            (false, false, Audience::Person) => Self::Ask,
        }
    }
}

impl Need {
    /// Whether the machine has it now.
    pub(crate) fn is_met(&self, around: &Surroundings) -> bool {
        match self.probe {
            Probe::Succeeds(line) => succeeds(line),
            Probe::Exists(places) => places.iter().any(|place| Path::new(place).is_file()),
            Probe::Postgres => around.postgres().is_some(),
            Probe::Java => around.javas().iter().any(|java| java.version >= 17),
        }
    }
}

/// Names every need and its state, then installs the missing ones if there is consent and a way.
///
/// A need that is still missing afterwards is not an error here: the caller knows which ones it can do without.
pub(crate) fn provide(around: &Surroundings, needs: &[&Need], consent: Consent) -> Result<(), Failure> {
    eprintln!("needed beyond Rust:");
    let mut missing = Vec::new();
    for need in needs {
        let met = need.is_met(around);
        eprintln!(
            "  {:<20} {:<34} {}",
            need.name,
            format!("({})", need.purpose),
            if met { "present" } else { "MISSING" }
        );
        if !met {
            missing.push(*need);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let Some(installer) = Installer::find() else {
        eprintln!(
            "cannot install them here (no apt-get, or neither root nor sudo); by hand: {}",
            packages.join(" ")
        );
        return Ok(());
    };
    let agreed = match consent {
        Consent::Given => true,
        Consent::Refused => false,
        Consent::Ask => ask(&format!("install {} with apt-get?", packages.join(" "))),
    };
    if agreed {
        let restraints: Vec<&Restraint> = missing.iter().filter_map(|need| need.restraint).collect();
        installer.install(&packages, &restraints)
    } else {
        Ok(())
    }
}

/// How system packages are installed on this machine.
#[derive(Clone, Copy)]
enum Installer {
    Root,
    Sudo,
}

impl Installer {
    fn find() -> Option<Self> {
        if !succeeds(&["apt-get", "--version"]) {
            return None;
        }
        let id = Command::new("id").arg("-u").stdin(Stdio::null()).output().ok()?;
        if id.stdout.trim_ascii() == b"0" {
            return Some(Self::Root);
        }
        // Without `-n` a task nobody watches would wait for a password for ever.
        let works = succeeds(&["sudo", "-n", "true"]);
        works.then_some(Self::Sudo)
    }

    fn install(self, packages: &[&str], restraints: &[&Restraint]) -> Result<(), Failure> {
        // The lists of a fresh container are empty, so they are fetched first.
        command::run("package lists", &mut self.apt_get(&["update", "-qq"]))?;
        let mut imposed = Vec::new();
        let mut outcome = Ok(());
        for restraint in restraints {
            outcome = self.impose(restraint);
            if outcome.is_err() {
                break;
            }
            imposed.push(restraint);
        }
        if outcome.is_ok() {
            outcome = self.bring("packages", packages);
        }
        for restraint in imposed {
            let undone = command::run("undo", &mut self.as_root(&["sh", "-c", restraint.after]));
            outcome = outcome.and(undone);
        }
        outcome
    }

    fn impose(self, restraint: &Restraint) -> Result<(), Failure> {
        self.bring(restraint.package, &[restraint.package])?;
        command::run("files only", &mut self.as_root(&["sh", "-c", restraint.before]))
    }

    fn bring(self, name: &str, packages: &[&str]) -> Result<(), Failure> {
        let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
        arguments.extend(packages);
        command::run(name, &mut self.apt_get(&arguments))
    }

    fn apt_get(self, arguments: &[&str]) -> Command {
        let mut command = self.as_root(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command.args(arguments);
        command
    }

    fn as_root(self, line: &[&str]) -> Command {
        let mut command = match self {
            Self::Root => Command::new(line[0]),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", line[0]]);
                sudo
            }
        };
        command.args(&line[1..]).stdin(Stdio::null());
        command
    }
}

fn ask(question: &str) -> bool {
    eprint!("{question} [Y/n] ");
    // A prompt that cannot be shown is answered below like any other: by what is read, or no.
    let _shown = std::io::stderr().flush();
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(0) | Err(_) => false,
        Ok(_) => is_yes(&answer),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes")
}

fn succeeds(line: &[&str]) -> bool {
    let (program, arguments) = line.split_first().expect("a probe has a program");
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_decided_by_refusal_then_yes_then_audience() {
        let cases = [
            (false, false, Audience::Person, Consent::Ask),
            (false, false, Audience::Machine, Consent::Given),
            (true, false, Audience::Person, Consent::Given),
            (true, true, Audience::Person, Consent::Refused),
            (false, true, Audience::Machine, Consent::Refused),
        ];
        for (yes, no_install, audience, expected) in cases {
            assert_eq!(
                Consent::decide(yes, no_install, audience),
                expected,
                "{yes} {no_install} {audience:?}"
            );
        }
    }

    #[test]
    fn only_a_clear_yes_or_the_default_installs() {
        for (answer, expected) in [
            ("\n", true),
            (" Y\n", true),
            ("yes\n", true),
            ("n\n", false),
            ("what?\n", false),
        ] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_probe_tells_present_from_missing() {
        assert!(succeeds(&["true"]));
        assert!(!succeeds(&["false"]));
        assert!(!succeeds(&["no-such-program-here"]));
    }
}
