//! The face `srun`: a step inside an allocation.

mod options;

use std::process::ExitCode;

use muster_core::notation::parse_time_s;
use muster_step::client;

use self::options::{Key, TABLE};
use super::connect::VERSION;
use super::getopt::{self, Line, Order};
use super::outside::{self, Outside};
use super::wrong::{self, FAILED, Wrong};
use super::{job_options, salloc};
use crate::out::tell;
use crate::step::{BadStep, Place, StepOptions, error_status};
use crate::submit::Opt;

/// Slurm's exit code for a command line that cannot be read.
const BAD_USAGE: u8 = 255;

const FACE: &str = "srun";

/// Beginnings of variables that stand for options of the job.
const PREFIX: &str = "SLURM_";

const USAGE: &str = "Usage: srun [OPTIONS...] executable [args...]";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    let line = match getopt::read(words, TABLE, Order::ProgramLast) {
        Ok(line) => line,
        Err(error) => {
            tell(&format!("srun: {error}"));
            tell("Try \"srun --help\" for more information");
            return ExitCode::from(BAD_USAGE);
        }
    };
    match read(&line) {
        Ok(Wanted::Step(options)) if !client::is_inside() => match outside_of_one(&options, &line, words) {
            Ok(code) => ExitCode::from(code),
            Err(wrong) => {
                wrong.tell(FACE);
                ExitCode::from(if wrong.code == FAILED { error_status() } else { wrong.code })
            }
        },
        Ok(Wanted::Step(options)) => step(*options, &line.words),
        Ok(Wanted::Text(text)) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            tell(&format!("srun: error: {wrong}"));
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// What a command line asks for.
enum Wanted {
    Step(Box<StepOptions>),
    Text(String),
}

fn step(options: StepOptions, words: &[String]) -> ExitCode {
    let quiet = options.quiet;
    let (plan, warnings) = match options.plan("srun", words) {
        Ok(planned) => planned,
        Err(BadStep::NoCommand) => {
            tell(&format!("srun: fatal: {}", BadStep::NoCommand));
            return ExitCode::from(error_status());
        }
        Err(error) => {
            tell(&format!("srun: error: {error}"));
            return ExitCode::from(error_status());
        }
    };
    for warning in warnings.iter().filter(|_| !quiet) {
        tell(&format!("srun: Warning: {warning}"));
    }
    match client::run(&plan) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tell(&format!("srun: error: {error}"));
            ExitCode::from(error_status())
        }
    }
}

/// Outside of an allocation: one is made, and the same command line is run in it.
fn outside_of_one(options: &StepOptions, line: &Line<Key>, words: &[String]) -> Result<u8, Wrong> {
    if let Some(job) = options.job {
        let text = format!("Unable to confirm allocation for job {job}: Invalid job id specified");
        return Err(Wrong::error(FAILED, text).and("steps are started from inside their allocation"));
    }
    let Some(program) = line.words.first() else {
        tell(&format!("{FACE}: fatal: {}", BadStep::NoCommand));
        return Ok(error_status());
    };
    let of_job = line.options.iter().filter_map(|(key, value)| {
        let name = key.name_for_jobs()?;
        Some(value.as_ref().map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}")))
    });
    let said = job_options::read(&of_job.collect::<Vec<_>>()).map_err(|bad| wrong::of_line(FACE, &bad))?;
    let request = outside::request(FACE, PREFIX, &said, salloc::file_name(program))?;
    Outside {
        face: FACE,
        request,
        words: outside::under_name(FACE, words)?,
        terminal: options.pty,
        quiet: options.quiet || said.layer.has(Opt::Quiet),
        says_granted: false,
        patience: options.immediate.then_some(std::time::Duration::ZERO),
        error_status: error_status(),
    }
    .run()
}

/// Reads the options one after the other; the later of two counts.
fn read(line: &Line<Key>) -> Result<Wanted, String> {
    let mut all = StepOptions::default();
    for (key, value) in &line.options {
        match key {
            Key::Help | Key::Usage => return Ok(Wanted::Text(help())),
            Key::Version => return Ok(Wanted::Text(VERSION.trim_end().to_owned())),
            _ => {}
        }
        let text = value.as_deref().unwrap_or_default();
        if *key == Key::Mpi && text == "list" {
            let kinds: Vec<String> =
                muster_step::options::MPI_KINDS.iter().map(|kind| format!("\t{kind}")).collect();
            return Ok(Wanted::Text(format!("MPI plugin types are...\n{}", kinds.join("\n"))));
        }
        take(&mut all, *key, text)?;
    }
    Ok(Wanted::Step(Box::new(all)))
}

/// Takes one option.
fn take(all: &mut StepOptions, key: Key, text: &str) -> Result<(), String> {
    use muster_step::options;
    let count = |option| options::count(option, text).map(Some).map_err(|error| error.to_string());
    let owned = || Some(text.to_owned());
    let seconds = |option: &str| text.parse::<u64>().map_err(|_| format!("Invalid {option} specification"));
    match key {
        Key::Ntasks => all.ntasks = count("--ntasks")?,
        Key::Nodes => all.nodes = Some(options::nodes(text).map_err(|error| error.to_string())?),
        Key::NtasksPerNode => all.tasks_per_node = count("--ntasks-per-node")?,
        Key::CpusPerTask => all.cores_per_task = count("--cpus-per-task")?,
        Key::Nodelist => all.nodelist = owned(),
        Key::Exclude => all.exclude = owned(),
        Key::Relative => {
            all.relative =
                Some(text.parse().map_err(|_| format!("Invalid --relative specification '{text}'"))?);
        }
        Key::Exact => all.exact = Some(true),
        Key::Overlap => all.overlap = Some(true),
        Key::Exclusive => (all.exact, all.overlap) = (Some(true), Some(false)),
        Key::Overcommit => all.overcommit = Some(true),
        Key::Distribution => all.distribution = owned(),
        Key::Immediate => all.immediate = true,
        Key::Mpi => {
            let kind = options::mpi(text);
            all.mpi =
                kind.map_err(|_| format!("Invalid MPI type '{text}', --mpi=list for acceptable types"))?;
        }
        Key::CpuBind => all.cpu_bind = owned(),
        Key::Input => all.stdin = owned(),
        Key::Output => all.stdout = owned(),
        Key::Error => all.stderr = owned(),
        Key::OpenMode => {
            let known = matches!(text.chars().next(), Some('a' | 'A' | 't' | 'T'));
            all.append = Some(text.starts_with(['a', 'A']));
            return if known { Ok(()) } else { Err("Invalid --open-mode specification".to_owned()) };
        }
        Key::Label => all.label = Some(true),
        Key::Unbuffered => all.unbuffered = Some(true),
        Key::Pty => all.pty = true,
        Key::MultiProg => all.multi_prog = true,
        Key::KillOnBadExit => all.kill_on_bad_exit = Some(text != "0"),
        Key::Wait => all.wait_s = Some(seconds("--wait")?),
        Key::Time => {
            all.time_limit_s = match text.to_ascii_lowercase().as_str() {
                "infinite" | "unlimited" | "0" => None,
                _ => Some(parse_time_s(text).map_err(|_| "Invalid --time specification".to_owned())?),
            };
        }
        Key::QuitOnInterrupt => all.quit_on_interrupt = true,
        Key::Quiet => all.quiet = true,
        Key::Verbose => all.verbose = true,
        Key::TestOnly => all.dry_run = true,
        Key::JobName => all.job_name = owned(),
        Key::JobId => {
            all.job = Some(text.parse().map_err(|_| format!("Invalid --jobid specification '{text}'"))?);
        }
        Key::Chdir => all.directory = Some(text.into()),
        Key::Export => all.export = owned(),
        Key::Bcast => all.bcast = Some(Place::of(text)),
        Key::Compress => match text {
            "" | "lz4" | "none" => all.compress = Some(text.to_owned()),
            _ => return Err(format!("--compress cannot be '{text}': lz4 or none is wanted")),
        },
        Key::SendLibs if text != "no" => {
            return Err("not supported: --send-libs: libraries are not sent to nodes; put them where all nodes see them"
                .to_owned());
        }
        Key::SendLibs | Key::BcastExclude => {}
        Key::OfTheJob(_) | Key::Help | Key::Usage | Key::Version => {}
        Key::Refused(instead) => return Err(format!("not supported: {instead}")),
    }
    Ok(())
}

fn help() -> String {
    let mut text = format!("{USAGE}\n\nOptions (srun(1) says what they mean):\n");
    for opt in TABLE.iter().filter(|opt| !matches!(opt.key, Key::OfTheJob(_) | Key::Refused(_))) {
        let short = opt.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let long: Vec<String> = opt.long.iter().map(|long| format!("--{long}")).collect();
        let value = match opt.takes {
            getopt::Takes::Nothing => "",
            getopt::Takes::Value => "=VALUE",
            getopt::Takes::Maybe => "[=VALUE]",
        };
        text.push_str(&format!("  {short}{}{value}\n", long.join(", ")));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the published table: the options between backquotes, and what is said of them.
    fn rows() -> Vec<(Vec<String>, String)> {
        let text = include_str!("../../../../../docs/slurm-compatibility.md");
        let table = text.split("| option of srun |").nth(1).unwrap().split("\n\n").next().unwrap();
        let row = |line: &str| {
            let cells: Vec<&str> = line.split(" | ").collect();
            let options = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (options, cells[1].trim().to_owned())
        };
        table.lines().skip(2).map(row).collect()
    }

    #[test]
    fn each_option_of_the_published_table_is_taken_or_refused_as_it_says() {
        let rows = rows();
        assert!(rows.len() > 30, "{rows:?}");
        for (options, how) in rows {
            for option in options {
                let words: Vec<String> = option.split(' ').chain(["true"]).map(str::to_owned).collect();
                let line = getopt::read(&words, TABLE, Order::ProgramLast);
                let line = line.unwrap_or_else(|error| panic!("{option}: {error}"));
                assert_eq!(line.words, ["true"], "{option}");
                match (read(&line), how.as_str()) {
                    (Ok(_), "works" | "differs") => {}
                    (Err(said), "refused") => assert!(said.starts_with("not supported: "), "{said}"),
                    (Ok(_), _) => panic!("{option} is taken, and not {how}"),
                    (Err(said), _) => panic!("{option} is refused, and not {how}: {said}"),
                }
            }
        }
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_right() {
        for (words, said) in [
            ("-n x true", "a number of at least 1 is wanted"),
            ("-N 4-2 true", "a count of nodes such as 2"),
            ("-t nonsense true", "Invalid --time specification"),
            ("--mpi=bogus true", "Invalid MPI type 'bogus', --mpi=list for acceptable types"),
            ("--open-mode=x true", "Invalid --open-mode specification"),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let line = getopt::read(&words, TABLE, Order::ProgramLast).unwrap();
            match read(&line) {
                Err(error) => assert!(error.contains(said), "{error}"),
                Ok(_) => panic!("{words:?} is taken"),
            }
        }
    }
}
