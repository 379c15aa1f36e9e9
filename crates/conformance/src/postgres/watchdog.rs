//! Ends every server when this process ends, however it ends.
//!
//! Values in statics are not dropped, and `kill -9` runs no destructor. So a shell waits beside us for the end of a
//! pipe whose other end only this process holds; then it stops what still runs below our folder and removes it.

use std::io::PipeWriter;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::binaries::{self, Account};

/// Stops and removes everything below the folder `$1` once standard input ends.
///
/// A process counts as ours when its command line names our folder, since the number in a stale file may have gone to
/// another. A server that was just being started may appear after the first look, so it looks until nothing comes back.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
cat >/dev/null
ours() {
  line=$(tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || ps -p "$1" -o args= 2>/dev/null)
  case $line in *"$2"*) return 0 ;; esac
  return 1
}
tries=0
while [ "$tries" -lt 20 ]; do
  for file in "$1"/*/data/postmaster.pid; do
    pid=
    [ -f "$file" ] && read -r pid <"$file"
    [ -n "$pid" ] && ours "$pid" "$1" || continue
    kill -QUIT "$pid"
    kill -CONT "$pid"
    waited=0
    while ours "$pid" "$1" && [ "$waited" -lt 100 ]; do
      sleep 0.1
      waited=$((waited + 1))
    done
    ours "$pid" "$1" && kill -KILL "$pid"
  done
  rm -rf "$1"
  sleep 0.3
  [ -e "$1" ] || exit 0
  tries=$((tries + 1))
done
"#;

/// The folder for all servers of this process, watched over.
pub(super) struct Watched {
    pub(super) folder: PathBuf,
    pub(super) account: Account,
    _shell: Child,
    /// Closed by the system when this process ends, and by nobody before.
    _alive: PipeWriter,
}

/// The folder of this process; made on the first call.
pub(super) fn watched() -> &'static Watched {
    static WATCHED: OnceLock<Watched> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let (folder, account) = binaries::new_folder();
        let (reader, alive) = std::io::pipe().expect("a pipe can be made");
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(&folder)
            .current_dir("/")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that the terminal's Ctrl-C ends the tests and not their watchdog.
            .process_group(0)
            .spawn()
            .expect("a shell can be started");
        Watched {
            folder,
            account,
            _shell: shell,
            _alive: alive,
        }
    })
}
