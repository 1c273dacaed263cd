//! The face `salloc`: an allocation, and a command in it.
//!
//! The command runs on the allocation's first node, as Slurm has it with `use_interactive_step`: there `srun`, `mpirun` and the
//! allocation's variables mean the allocation.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use super::connect::version;
use super::job_options;
use super::outside::{self, Outside};
use super::wrong::{self, FAILED, Wrong};
use crate::out::print;
use crate::submit::Opt;

const FACE: &str = "salloc";

/// Beginnings of variables that stand for options.
const PREFIX: &str = "SALLOC_";

const USAGE: &str = "\
Usage: salloc [OPTIONS(as sbatch's)...] [command [args...]]

Makes an allocation and runs the command on its first node; without one, your shell. The options of jobs are those of
sbatch, see sbatch --help. The allocation ends with the command, and salloc with its exit code.
";

/// Options of salloc alone that change nothing here.
const WITHOUT_MEANING: [&str; 5] = ["--bell", "--no-bell", "-K", "--kill-command", "--immediate"];

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    match allocate(words) {
        Ok(code) => ExitCode::from(code),
        Err(wrong) => {
            wrong.tell(FACE);
            let said = std::env::var("SLURM_EXIT_ERROR").ok().and_then(|code| code.parse().ok());
            ExitCode::from(said.unwrap_or(wrong.code))
        }
    }
}

fn allocate(words: &[String]) -> Result<u8, Wrong> {
    match words.first().map(String::as_str) {
        Some("-h" | "--help" | "--usage") => return say(USAGE),
        Some("-V" | "--version") => return say(&version()),
        _ => {}
    }
    let mut immediate = false;
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if !word.starts_with('-') {
            rest.push(word.clone());
            rest.extend(words.by_ref().cloned());
        } else if name == "--no-shell" {
            let text =
                "--no-shell: an allocation ends with its command here; submit a job that sleeps instead";
            return Err(Wrong::error(FAILED, text));
        } else if name == "--immediate" || word.starts_with("-I") {
            immediate = true;
        } else if !WITHOUT_MEANING.contains(&name) {
            rest.push(word.clone());
        }
    }
    let said = job_options::read(&rest).map_err(|bad| wrong::of_line(FACE, &bad))?;
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let is_interactive = said.words.is_empty();
    let command = if is_interactive { vec![shell, "-i".to_owned()] } else { said.words.clone() };
    let name = if is_interactive { "interactive" } else { file_name(&command[0]) };
    let request = outside::request(FACE, PREFIX, &said, name)?;
    Outside {
        face: FACE,
        request,
        words: command.clone(),
        terminal: std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        quiet: said.layer.has(Opt::Quiet),
        says_granted: true,
        patience: immediate.then_some(Duration::ZERO),
        error_status: FAILED,
    }
    .run()
}

fn say(text: &str) -> Result<u8, Wrong> {
    print(text).map(|()| 0).map_err(|error| Wrong::error(FAILED, error))
}

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(path)
}
