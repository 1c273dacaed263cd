//! Slurm's commands that Muster has no part in: each says what does the same.

use std::process::ExitCode;

use super::connect::version;
use super::fault::{self, Fault, print};

/// What to do instead of each.
const INSTEAD: [(&str, &str); 4] = [
    (
        "sattach",
        "`muster logs -f JOB` follows the output of a script; that of a step goes to whoever started it",
    ),
    (
        "sbcast",
        "copy the file with a step of one rank a node, such as `srun --ntasks-per-node=1 cp FILE /tmp`",
    ),
    ("sreport", "`sacct -a -P` lists what ran, and `muster shares` what accounts and users have used"),
    (
        "strigger",
        "`--mail-type` and the site's mail program tell of jobs, and the site's health check of nodes",
    ),
];

fn run(name: &str, words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "-V" || word == "--version") {
        return fault::end(print(&version()).map(|()| ExitCode::SUCCESS));
    }
    let instead = INSTEAD.iter().find(|(absent, _)| *absent == name).map_or("", |(_, instead)| instead);
    fault::end(Err(Fault::Said(format!("{name}: error: this command is not supported: {instead}"))))
}

pub(super) fn sattach(words: &[String]) -> ExitCode {
    run("sattach", words)
}

pub(super) fn sbcast(words: &[String]) -> ExitCode {
    run("sbcast", words)
}

pub(super) fn sreport(words: &[String]) -> ExitCode {
    run("sreport", words)
}

pub(super) fn strigger(words: &[String]) -> ExitCode {
    run("strigger", words)
}
