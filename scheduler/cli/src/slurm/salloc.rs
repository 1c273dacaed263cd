//! The face `salloc`: an allocation, and a command in it.
//!
//! The command runs on the allocation's first node, as Slurm has it with `use_interactive_step`: there `srun`, `mpirun` and the
//! allocation's variables mean the allocation.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use super::connect::version;
use super::getopt::{self, Line, Order, Takes};
use super::job_options::{self, BadLine, Place, Said};
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

/// An option of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// Of jobs.
    Job(Place),
    /// Wait for no allocation that is not to be had at once.
    Immediate,
    /// Changes nothing here.
    Ignored,
    /// Refused.
    NoShell,
}

/// The options of jobs, and those of salloc alone.
fn table() -> Vec<getopt::Opt<Key>> {
    let own = |key, short, long, takes| getopt::Opt { key, short, long, takes };
    let of_jobs = job_options::table().into_iter().map(|opt| getopt::Opt {
        key: Key::Job(opt.key),
        short: opt.short,
        long: opt.long,
        takes: opt.takes,
    });
    let own = [
        own(Key::Ignored, None, &["bell", "no-bell"][..], Takes::Nothing),
        own(Key::Ignored, Some('K'), &["kill-command"], Takes::Maybe),
        own(Key::Immediate, Some('I'), &["immediate"], Takes::Maybe),
        own(Key::NoShell, None, &["no-shell"], Takes::Nothing),
    ];
    own.into_iter().chain(of_jobs).collect()
}

/// What a command line asks for.
struct Wanted {
    said: Said,
    /// Whether nothing is waited for.
    immediate: bool,
}

fn read(words: &[String]) -> Result<Wanted, Wrong> {
    let bad = |bad| wrong::of_line(FACE, &bad);
    let line =
        getopt::read(words, &table(), Order::ProgramLast).map_err(|error| bad(BadLine::Option(error)))?;
    let mut immediate = false;
    let mut of_job = Line { options: Vec::new(), words: line.words };
    for (key, value) in line.options {
        match key {
            Key::Job(place) => of_job.options.push((place, value)),
            Key::Immediate => immediate = true,
            Key::Ignored => {}
            Key::NoShell => {
                let text =
                    "--no-shell: an allocation ends with its command here; submit a job that sleeps instead";
                return Err(Wrong::error(FAILED, text));
            }
        }
    }
    Ok(Wanted { said: job_options::said(of_job).map_err(bad)?, immediate })
}

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
    let Wanted { said, immediate } = read(words)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Wanted, Wrong> {
        read(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_of_salloc_and_of_jobs_stand_in_any_order() {
        let wanted = words("-n 4 --bell -K -I5 -J name -t 10 program -n 9 --no-shell").unwrap();
        assert!(wanted.immediate);
        assert_eq!(wanted.said.words, ["program", "-n", "9", "--no-shell"]);
        let value = |option| wanted.said.layer.get(option).map(|said| said.value.as_str());
        assert_eq!((value(Opt::Ntasks), value(Opt::JobName)), (Some("4"), Some("name")));
        for line in ["-n 4 --no-shell", "--no-shell -n 4"] {
            assert!(words(line).is_err_and(|wrong| wrong.code == FAILED), "{line}");
        }
    }
}
