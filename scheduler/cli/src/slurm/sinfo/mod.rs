//! The face `sinfo`.

use std::process::ExitCode;

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    let _ = words;
    ExitCode::FAILURE
}
