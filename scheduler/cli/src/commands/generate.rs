//! `muster generate`: man pages and completions, for those who package it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, GenerateWhat};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::print_bytes;

pub(crate) fn run(what: &GenerateWhat) -> Result<ExitCode, CliError> {
    match what {
        GenerateWhat::Man { directory } => man(directory)?,
        GenerateWhat::Completions { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "muster", &mut bytes);
            print_bytes(&bytes)?;
        }
    }
    Ok(Exit::Ok.into())
}

fn man(directory: &Path) -> Result<(), CliError> {
    let failed =
        |source| CliError::File { action: "write man pages into", path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}
