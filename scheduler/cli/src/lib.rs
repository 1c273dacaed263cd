//! The command `muster`: what users and admins type.
//!
//! [`run`] is the whole program. Each command has a file of its own under `commands`; [`exit`] holds the exit
//! codes of all of them, [`error`] their messages.
// A job as Slurm's commands write it in JSON has more fields than the macro of serde_json expands by default.
#![recursion_limit = "256"]

pub mod cli;
pub mod commands;
mod crontab;
pub mod error;
pub mod exit;
pub mod later;
mod look;
mod migrate;
mod out;
pub mod slurm;
mod step;
mod submit;
mod table;
mod text;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use cli::{Cli, Command};
use error::CliError;
use exit::Exit;
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use submit::{Meaning, find_long, find_short};

/// Runs a command line and says how it ended. Its first word is the program's name: `muster`, or that of one of Slurm's
/// commands.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((program, words)) = arguments.split_first()
        && let Some(face) = slurm::Face::of_program(program)
    {
        return face.run(words);
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&arguments, &error),
    };
    let name = cli.command.name();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(CliError::Output(source)) if source.kind() == io::ErrorKind::BrokenPipe => end_by_sigpipe(),
        Err(error) => {
            out::tell(&format!("muster {name}: {error}"));
            error.exit().into()
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Submit(args) => commands::submit::run(*args.0),
        Command::Run(args) => commands::run::run(*args.0),
        Command::Queue(args) => commands::queue::run(&args.0),
        Command::Show(args) => commands::show::run(&args.0),
        Command::Why(args) => commands::why::run(&args.0),
        Command::Priority(args) => commands::priority::run(&args.0),
        Command::Steps(args) => commands::steps::run(&args.0),
        Command::Shares(args) => commands::shares::run(&args.0),
        Command::Cron(args) => commands::cron::run(&args.0),
        Command::Cancel(args) => commands::cancel::run(&args.0),
        Command::Signal(args) => commands::reach::signal(&args.0),
        Command::Requeue(args) => commands::reach::requeue(&args.0),
        Command::Update(args) => commands::update::run(&args.0),
        Command::Hold(args) => commands::hold::hold(&args.0),
        Command::Release(args) => commands::hold::release(&args.0),
        Command::Files(args) => commands::files::run(&args.0),
        Command::Logs(args) => commands::logs::run(&args.0),
        Command::Wait(args) => commands::wait::run(&args.0),
        Command::Layout(args) => commands::layout::run(&args.0),
        Command::Nodes(args) => commands::nodes::run(&args.0),
        Command::Node(args) => commands::node::run(&args.0),
        Command::Reservation(args) => commands::reservation::run(&args.0),
        Command::Pools(args) => commands::pools::run(&args.0),
        Command::Licenses(args) => commands::licenses::run(&args.0),
        Command::Batch(args) => commands::batch::run(&args.0),
        Command::Ping(args) => commands::ping::run(&args.0),
        Command::Config(args) => commands::config::run(&args.0.action),
        Command::Migrate(args) => commands::migrate::run(&args.0),
        Command::Attach(args) => commands::attach::run(&args.0),
        Command::Help(args) => commands::help::run(&args.0),
        Command::Generate(args) => commands::generate::run(&args.0.what),
    }
}

/// Prints what clap found, with a better sentence for options that people know from Slurm.
fn refuse_usage(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    let is_submit = arguments.get(1).is_some_and(|word| word == "submit");
    if is_submit
        && error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && let Some(right) = slurm_option(option)
    {
        let option = option.split('=').next().unwrap_or(option).to_owned();
        let error = CliError::Unsupported { place: "command line".to_owned(), option, right };
        out::tell(&format!("muster submit: {error}"));
        return Exit::Usage.into();
    }
    // Help and version are "errors" of clap's as well, with 0.
    match error.print() {
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => end_by_sigpipe(),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8)),
    }
}

/// What to do instead of an option of Slurm that Muster does not have.
fn slurm_option(option: &str) -> Option<&'static str> {
    let known = match option.strip_prefix("--") {
        Some(long) => match find_long(long.split('=').next().unwrap_or(long)) {
            submit::Found::One(known) => known,
            _ => return None,
        },
        None => find_short(option.strip_prefix('-')?.chars().next()?)?,
    };
    match known.meaning {
        Meaning::Refused(right) => Some(right),
        Meaning::Ignored(why) => Some(why),
        Meaning::SoAnyway => Some("that is so anyway; take it out"),
        Meaning::Set(_) => None,
    }
}

/// Lets this process outlive the SIGTERM that ends the job in which it may run: what it asks for is that end, and whoever
/// called it is to hear that it was granted.
fn outlive_sigterm() {
    // SAFETY: the signal is ignored, so no handler runs.
    let _ = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
}

/// Ends as every other tool does whose reader has gone: by SIGPIPE, without a word.
pub(crate) fn end_by_sigpipe() -> ExitCode {
    // SAFETY: the default action is set, so no handler runs; this is the only thread that still does anything.
    let reset = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    if reset.is_ok() {
        let _ = raise(Signal::SIGPIPE);
    }
    // Reached only if SIGPIPE is blocked.
    Exit::Io.into()
}
