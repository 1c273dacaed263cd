//! `muster generate`: man pages, completions and the links of Slurm's names, for those who package it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use clap::CommandFactory;

use crate::cli::{Cli, GenerateWhat};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::print_bytes;
use crate::slurm::FACES;

pub(crate) fn run(what: &GenerateWhat) -> Result<ExitCode, CliError> {
    match what {
        GenerateWhat::Man { directory } => man(directory)?,
        GenerateWhat::Completions { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "muster", &mut bytes);
            print_bytes(&bytes)?;
        }
        GenerateWhat::SlurmLinks { directory } => slurm_links(directory)?,
    }
    Ok(Exit::Ok.into())
}

fn man(directory: &Path) -> Result<(), CliError> {
    let failed =
        |source| CliError::File { action: "write man pages into", path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}

/// Makes the links anew: those that point elsewhere are replaced, other files are left and are an error.
fn slurm_links(directory: &Path) -> Result<(), CliError> {
    let program =
        env::current_exe().map_err(|source| CliError::System { action: "find this program", source })?;
    fs::create_dir_all(directory).map_err(|source| CliError::File {
        action: "make",
        path: directory.to_owned(),
        source,
    })?;
    for face in FACES {
        let link = directory.join(face.name);
        if fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(&link).map_err(|source| CliError::File {
                action: "replace",
                path: link.clone(),
                source,
            })?;
        }
        let made = symlink(&program, &link);
        made.map_err(|source| CliError::File { action: "make the link", path: link, source })?;
    }
    Ok(())
}
