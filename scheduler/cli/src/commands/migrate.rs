//! `muster migrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::CliError;
use crate::exit::Exit;
use crate::migrate::migrate;
use crate::out::{print, tell};

/// Arguments of `muster migrate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster migrate /etc/slurm/slurm.conf                      print a configuration, and what has no equivalent\n  muster migrate /etc/slurm/slurm.conf -o muster.toml       write it into a file\n\ntopology.conf and gres.conf are read from the same folder. The result passes muster config check."
)]
pub struct MigrateArgs {
    /// Slurm's configuration
    file: PathBuf,
    /// Write the configuration here rather than to the standard output; a file that is there is left alone
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &MigrateArgs) -> Result<ExitCode, CliError> {
    let migrated = migrate(&args.file)?;
    for note in &migrated.notes {
        tell(note);
    }
    let named = args.output.clone().unwrap_or_else(|| PathBuf::from("muster.toml"));
    // What comes out is right, or the message says which part of it is not.
    let checked = muster_config::parse(&named, &migrated.text);
    match &args.output {
        None => print(&migrated.text)?,
        Some(path) => {
            let failed = |source| CliError::File { action: "write", path: path.clone(), source };
            let mut file = std::fs::File::create_new(path).map_err(failed)?;
            std::io::Write::write_all(&mut file, migrated.text.as_bytes()).map_err(failed)?;
        }
    }
    checked.map_err(|errors| CliError::Config { path: named, source: errors })?;
    Ok(Exit::Ok.into())
}
