//! `muster help`.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, HelpArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::print;

pub(crate) fn run(args: &HelpArgs) -> Result<ExitCode, CliError> {
    let mut command = Cli::command();
    command.build();
    let text = match args.topic.as_deref() {
        None => command.render_long_help().ansi().to_string(),
        Some("exit-codes") => Exit::help(),
        Some(topic) => match command.find_subcommand_mut(topic) {
            Some(found) => found.render_long_help().ansi().to_string(),
            None => return Err(CliError::NoHelp { topic: topic.to_owned() }),
        },
    };
    print(&text)?;
    Ok(Exit::Ok.into())
}
