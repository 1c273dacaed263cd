//! The face `scontrol`.

mod change;
mod update;

use std::process::ExitCode;

use super::fault;

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    match words.split_first().and_then(|(keyword, rest)| change::run(keyword, rest)) {
        Some(done) => fault::end(done),
        None => ExitCode::FAILURE,
    }
}
