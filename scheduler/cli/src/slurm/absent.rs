//! Slurm's commands that Muster has no part in: each says what does the same.

use std::process::ExitCode;

use super::connect::version;
use super::fault::{self, Fault, print};

fn run(name: &str, instead: &str, words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "-V" || word == "--version") {
        return fault::end(print(&version()).map(|()| ExitCode::SUCCESS));
    }
    fault::end(Err(Fault::Said(format!("{name}: error: this command is not supported: {instead}"))))
}

pub(super) fn strigger(words: &[String]) -> ExitCode {
    let instead =
        "`--mail-type` and the site's mail program tell of jobs, and the site's health check of nodes";
    run("strigger", instead, words)
}
