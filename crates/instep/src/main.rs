//! The instep command.

use std::process::ExitCode;

fn main() -> ExitCode {
    instep::cli::run()
}
