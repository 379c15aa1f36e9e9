//! Where Java is: `JAVA_HOME`, then the `PATH`, then the system's folder of virtual machines. The tests' search nodes
//! run on it; each of them takes some versions and refuses others.

use std::ffi::OsStr;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Linux's packages put virtual machines.
const PACKAGED: &str = "/usr/lib/jvm";

/// A Java that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Java {
    /// Its major version.
    pub(crate) version: u32,
    /// Its folder, with `bin/java` in it.
    pub(crate) home: PathBuf,
}

impl Java {
    /// The program.
    pub(crate) fn program(&self) -> PathBuf {
        program(&self.home)
    }
}

/// Every Java there is, those that were chosen first. Each is asked for its version, so a broken one is left out.
pub(crate) fn find(chosen: Option<&Path>, path: &OsStr) -> Vec<Java> {
    let on_path = std::env::split_paths(path).filter_map(|folder| {
        // A link leads to the folder of all programs.
        let target = folder.join("java").canonicalize().ok()?;
        Some(target.parent()?.parent()?.to_path_buf())
    });
    let mut packaged: Vec<PathBuf> = fs::read_dir(PACKAGED)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    packaged.sort();
    let mut found: Vec<Java> = Vec::new();
    for home in chosen
        .map(Path::to_path_buf)
        .into_iter()
        .chain(on_path)
        .chain(packaged)
    {
        let Ok(home) = home.canonicalize() else {
            continue;
        };
        if found.iter().any(|known| known.home == home) {
            continue;
        }
        if let Some(version) = asked(&home) {
            found.push(Java { version, home });
        }
    }
    found
}

/// The first of them whose version lies in the range, as [`find`] orders them.
pub(crate) fn fitting(all: &[Java], versions: &RangeInclusive<u32>) -> Option<Java> {
    all.iter().find(|java| versions.contains(&java.version)).cloned()
}

fn program(home: &Path) -> PathBuf {
    home.join("bin")
        .join(format!("java{}", std::env::consts::EXE_SUFFIX))
}

fn asked(home: &Path) -> Option<u32> {
    let program = program(home);
    if !program.is_file() {
        return None;
    }
    let said = Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    major(&String::from_utf8_lossy(&said.stderr))
}

/// The major version in `openjdk version "17.0.15" 2025-04-15`; `1.8.0` is 8.
fn major(said: &str) -> Option<u32> {
    let (_, quoted) = said.split_once('"')?;
    let (version, _) = quoted.split_once('"')?;
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let first = parts.next()?.parse().ok()?;
    match first {
        1 => parts.next()?.parse().ok(),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_said() {
        let cases = [
            ("openjdk version \"17.0.15\" 2025-04-15\nmore", Some(17)),
            ("openjdk version \"25\" 2025-09-16 LTS", Some(25)),
            ("java version \"1.8.0_392\"", Some(8)),
            ("openjdk version \"24-ea\" 2025-03-18", Some(24)),
            ("no java here", None),
        ];
        for (said, expected) in cases {
            assert_eq!(major(said), expected, "{said}");
        }
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        let java = |version: u32| Java {
            version,
            home: PathBuf::from(format!("/jdk-{version}")),
        };
        let all = [java(25), java(17), java(21)];
        assert_eq!(fitting(&all, &(21..=99)), Some(java(25)));
        assert_eq!(fitting(&all, &(11..=23)), Some(java(17)));
        assert_eq!(fitting(&all, &(8..=11)), None);
    }
}
