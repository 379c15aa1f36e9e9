//! Runs commands: prints each as a line that can be pasted into a shell, times it, and turns a failure into one that
//! says how to repeat it.

use std::fmt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Why a task stopped, with the command that shows it again.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    repeat: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            repeat: None,
        }
    }

    /// What failed, without the line that repeats it.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Names the command line that shows this failure again.
    pub(crate) fn repeat_with(mut self, line: impl Into<String>) -> Self {
        self.repeat = Some(line.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "failed: {}", self.what)?;
        match &self.repeat {
            Some(line) => write!(out, "\nrepeat: {line}"),
            None => Ok(()),
        }
    }
}

/// Runs a command to its end with its output passed through, and prints what ran and how long it took.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<(), Failure> {
    let line = line(command);
    announce(name, &line);
    let started = Instant::now();
    let status = command.status().map_err(|error| not_started(&line, &error))?;
    close(name, &line, status, started.elapsed())
}

/// Prints the head of a step: its name and the line that runs.
pub(crate) fn announce(name: &str, line: &str) {
    eprintln!("\n── {name}: {line}");
}

/// Prints the foot of a step; a status other than success becomes a failure that names the line to repeat.
pub(crate) fn close(name: &str, line: &str, status: ExitStatus, took: Duration) -> Result<(), Failure> {
    if status.success() {
        eprintln!("── {name}: done in {}", duration(took));
        Ok(())
    } else {
        Err(Failure::new(format!("{name} after {} ({status})", duration(took))).repeat_with(line))
    }
}

/// A command that could not even start: its program is missing, say.
pub(crate) fn not_started(line: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start it: {error}")).repeat_with(line)
}

/// The command as one line for a POSIX shell, with the variables that matter in front.
pub(crate) fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        // The target directory is the caller's own choice already, or cargo's default.
        let value = value.filter(|_| name != "CARGO_TARGET_DIR")?;
        Some(format!("{}={}", name.display(), quoted(&value.to_string_lossy())))
    });
    let program = std::path::Path::new(command.get_program());
    let program = match program.file_stem() {
        Some(stem) if stem == "cargo" => "cargo".to_owned(),
        _ => quoted(&program.to_string_lossy()),
    };
    let arguments = command
        .get_args()
        .map(|argument| quoted(&argument.to_string_lossy()));
    variables
        .chain([program])
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A time span for people: `0.4 s`, `12.3 s`, `4 min 05 s`.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    if seconds < 60 {
        format!("{:.1} s", span.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command
            .args(["doc", "it's here", ""])
            .env("RUSTDOCFLAGS", "-D warnings")
            .env("CARGO_TARGET_DIR", "/t");
        assert_eq!(
            line(&command),
            r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s here' ''"
        );
    }

    #[test]
    fn durations_read_well() {
        let cases = [
            (400, "0.4 s"),
            (59_940, "59.9 s"),
            (60_000, "1 min 00 s"),
            (245_000, "4 min 05 s"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn a_failing_command_says_how_to_repeat_it() {
        let failure = run("probe", Command::new("sh").args(["-c", "exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("probe") && failure.contains("exit status: 3"),
            "{failure}"
        );
        assert!(failure.ends_with("repeat: sh -c 'exit 3'"), "{failure}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run("probe", &mut Command::new("no-such-program-here"))
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("cannot start") && failure.contains("no-such-program-here"),
            "{failure}"
        );
    }
}
