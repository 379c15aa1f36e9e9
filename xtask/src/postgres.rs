//! Where Postgres's programs are; the tests run servers of their own with them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs that the tests cannot do without.
const REQUIRED: [&str; 5] = ["initdb", "pg_ctl", "postgres", "pg_basebackup", "psql"];

/// Where Debian's packages put each major version; not on the `PATH`.
const PACKAGED: &str = "/usr/lib/postgresql";

/// The folder of programs: the chosen one, else the first complete one on the `PATH`, else the newest packaged.
pub(crate) fn find(chosen: Option<&Path>, path: &OsStr) -> Option<PathBuf> {
    if let Some(folder) = chosen {
        return is_complete(folder).then(|| folder.to_path_buf());
    }
    let on_path = std::env::split_paths(path).find_map(|folder| {
        // A link to one program leads to the folder of all.
        let target = folder.join("postgres").canonicalize().ok()?;
        let folder = target.parent()?;
        is_complete(folder).then(|| folder.to_path_buf())
    });
    on_path.or_else(|| newest(Path::new(PACKAGED)))
}

/// What the programs say of their version.
pub(crate) fn version(folder: &Path) -> String {
    let said = Command::new(folder.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    said.map_or_else(
        |error| error.to_string(),
        |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
    )
}

fn newest(packaged: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(packaged).ok()?.flatten();
    versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            is_complete(&folder).then_some((version, folder))
        })
        .max()
        .map(|(_, folder)| folder)
}

fn is_complete(folder: &Path) -> bool {
    REQUIRED.iter().all(|program| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(folder: &Path, programs: &[&str]) {
        fs::create_dir_all(folder).expect("the folder can be made");
        for program in programs {
            fs::write(folder.join(program), "").expect("the file can be written");
        }
    }

    #[test]
    fn the_newest_complete_version_is_taken_by_number() {
        let root = std::env::temp_dir().join(format!("instep-xtask-postgres-{}", std::process::id()));
        install(&root.join("9/bin"), &REQUIRED);
        install(&root.join("15/bin"), &REQUIRED);
        install(&root.join("17/bin"), &["psql"]);
        let found = newest(&root);
        let chosen = find(Some(&root.join("9/bin")), OsStr::new(""));
        let incomplete = find(Some(&root.join("17/bin")), OsStr::new(""));
        let on_path = find(None, root.join("9/bin").as_os_str());
        let real = root.canonicalize().expect("the folder is there");
        fs::remove_dir_all(&root).expect("the folder can be removed");
        assert_eq!(found, Some(root.join("15/bin")));
        assert_eq!(chosen, Some(root.join("9/bin")));
        assert_eq!(incomplete, None);
        assert_eq!(on_path, Some(real.join("9/bin")));
    }
}
