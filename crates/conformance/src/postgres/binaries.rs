//! Where Postgres's programs are, and the account they run under.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs a server cannot be run or driven without.
const REQUIRED: [&str; 5] = ["initdb", "pg_ctl", "postgres", "pg_basebackup", "psql"];

/// Where Debian's packages put each major version.
const PACKAGED: &str = "/usr/lib/postgresql";

/// A folder with the programs of one Postgres version.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

/// The Postgres of this machine: the folder that `INSTEP_POSTGRES` names, else the first one on the `PATH` that is
/// complete, else the newest packaged version.
///
/// # Panics
/// When `INSTEP_POSTGRES` names a folder without Postgres: a wrong setting is not the same as none.
pub fn available() -> Option<Binaries> {
    if let Some(folder) = variable("INSTEP_POSTGRES") {
        let found = Binaries::at(Path::new(&folder));
        return Some(found.expect("INSTEP_POSTGRES names a folder with Postgres's programs"));
    }
    let path = variable("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find_map(|folder| {
        // A link to one program leads to the folder of all.
        let target = folder.join("postgres").canonicalize().ok()?;
        Binaries::at(target.parent()?)
    });
    on_path.or_else(newest_packaged)
}

/// [`available`]; without Postgres, says on standard error that `test` is skipped.
pub fn or_skip(test: &str) -> Option<Binaries> {
    let found = available();
    if found.is_none() {
        // In one piece, or the lines of tests beside this one come in between. Nobody is left to tell when standard
        // error is closed.
        let line = format!("SKIPPED {test}: Postgres is missing\n");
        let _told = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

impl Binaries {
    fn at(folder: &Path) -> Option<Self> {
        let complete = REQUIRED.iter().all(|program| folder.join(program).is_file());
        complete.then(|| Self {
            folder: folder.to_path_buf(),
        })
    }

    /// The file of a program (`pgbench`, `pg_recvlogical`); whether it is there is the caller's to see.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// A command that runs a program without input, and without the `PG…` variables of whoever runs the tests.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

fn newest_packaged() -> Option<Binaries> {
    let versions = std::fs::read_dir(PACKAGED).ok()?.flatten();
    let mut found: Vec<(u32, Binaries)> = versions
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, Binaries::at(&entry.path().join("bin"))?))
        })
        .collect();
    found.sort_by_key(|(version, _)| *version);
    found.pop().map(|(_, binaries)| binaries)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the variables are what cargo xtask test tells the tests"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Who owns the servers' files and runs their processes: ourselves, or somebody else when we are root, whom Postgres
/// refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// The account for a process whose files belong to `uid`.
    pub(super) fn beside(uid: u32) -> Self {
        if uid != 0 {
            return Self::Ourselves;
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("the list of users is readable");
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| find_user(&users, name))
            .expect("root cannot run Postgres, and there is neither a user postgres nor nobody")
    }

    /// Has the command run under this account.
    pub(super) fn run(self, command: &mut Command) -> &mut Command {
        match self {
            Self::Ourselves => command,
            Self::Other { uid, gid } => command.uid(uid).gid(gid),
        }
    }

    /// Gives a file or folder to this account.
    pub(super) fn own(self, path: &Path) {
        match self {
            Self::Ourselves => {}
            Self::Other { uid, gid } => {
                chown(path, Some(uid), Some(gid)).expect("root may give its files away");
            }
        }
    }
}

fn find_user(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        found.then_some(Account::Other { uid, gid })
    })
}

/// A new empty folder that any account can reach, and the account that owns it.
///
/// Nothing removes the folder: [`super::watchdog`] does when this process has ended.
pub(super) fn new_folder() -> (PathBuf, Account) {
    let chosen = std::env::temp_dir();
    let parent = if is_open_to_all(&chosen) {
        chosen
    } else {
        PathBuf::from("/tmp")
    };
    let folder = tempfile::Builder::new()
        .prefix("instep-pg-")
        .tempdir_in(parent)
        .expect("a temporary folder can be made")
        .keep();
    let account = Account::beside(folder.metadata().expect("the folder was just made").uid());
    set_mode(&folder, 0o755);
    account.own(&folder);
    (folder, account)
}

/// Whether every account can get into the folder.
fn is_open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|part| {
        part.as_os_str() == OsStr::new("")
            || part
                .metadata()
                .is_ok_and(|about| about.permissions().mode() & 0o001 != 0)
    })
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .expect("the mode of our own file can be set");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_runs_postgres_as_somebody_else() {
        assert_eq!(Account::beside(1000), Account::Ourselves);
        let users =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:a,,:/v:/bin/sh\n";
        let found = find_user(users, "postgres");
        assert_eq!(found, Some(Account::Other { uid: 101, gid: 104 }));
        assert_eq!(find_user(users, "nobody"), None);
    }
}
