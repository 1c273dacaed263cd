//! `muster files`: the files of a task on its node, while it runs and for as long as they are kept.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use muster_client::Client;
use muster_client::api::FileView;
use muster_core::ids::{JobRef, TaskIndex};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_bytes, print_json};

/// Arguments of `muster files`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster files ls 12              what is in the folder of job 12\n  \
    muster files cat 12/stdout.txt  what it has written so far\n  \
    muster files get 12_3/wd out    copies the working directory of task 3 into out")]
pub struct FilesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List a folder
    Ls {
        /// Task, and a path in its folder
        #[arg(value_name = "JOB[_TASK][/PATH]")]
        place: String,
        /// With everything in folders
        #[arg(short, long)]
        recursive: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a file
    Cat {
        /// Task, and the path of a file in its folder
        #[arg(value_name = "JOB[_TASK]/PATH")]
        place: String,
    },
    /// Copy a file, or a folder with everything in it, here
    Get {
        /// Task, and a path in its folder
        #[arg(value_name = "JOB[_TASK][/PATH]")]
        place: String,
        /// Where to; its own name in this folder without
        #[arg(value_name = "DESTINATION")]
        to: Option<PathBuf>,
    },
    /// Remove a file or folder
    Rm {
        /// Task, and a path in its folder
        #[arg(value_name = "JOB[_TASK]/PATH")]
        place: String,
        /// With everything in it
        #[arg(short, long)]
        recursive: bool,
    },
}

/// A path in the folder of a task.
struct Place {
    task: JobRef,
    path: String,
}

impl Place {
    fn read(text: &str) -> Result<Self, CliError> {
        let (job, path) = text.split_once('/').unwrap_or((text, ""));
        let job: JobRef = job.parse()?;
        // A job without an array has one task, whose index is 0.
        let task = JobRef { task: job.task.or(Some(TaskIndex(0))), ..job };
        Ok(Self { task, path: path.trim_matches('/').to_owned() })
    }

    /// Everything in the folder, or the file itself.
    fn list(&self, client: &mut Client, recursive: bool) -> Result<Vec<FileView>, CliError> {
        let mut all: Vec<FileView> = Vec::new();
        loop {
            let after = all.last().map(|last| last.path.clone()).unwrap_or_default();
            let page = client.files(self.task, &self.path, recursive, &after)?;
            all.extend(page.files);
            if !page.more {
                return Ok(all);
            }
        }
    }
}

pub(crate) fn run(args: &FilesArgs) -> Result<ExitCode, CliError> {
    let mut client = connect()?;
    match &args.command {
        Command::Ls { place, recursive, json } => {
            let files = Place::read(place)?.list(&mut client, *recursive)?;
            if *json {
                print_json(&files)?;
            } else {
                print(&files.iter().map(line).collect::<String>())?;
            }
        }
        Command::Cat { place } => {
            let place = Place::read(place)?;
            copy(&mut client, place.task, &place.path, print_bytes)?;
        }
        Command::Get { place, to } => get(&mut client, &Place::read(place)?, to.as_deref())?,
        Command::Rm { place, recursive } => {
            let place = Place::read(place)?;
            client.delete_file(place.task, &place.path, *recursive)?;
        }
    }
    Ok(Exit::Ok.into())
}

fn line(file: &FileView) -> String {
    let at = jiff::Timestamp::from_microsecond(i64::try_from(file.changed_at_us).unwrap_or(0))
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default();
    let (kind, slash) = if file.directory { ("d", "/") } else { ("-", "") };
    format!("{kind} {:>12} {at} {}{slash}\n", file.bytes, file.path)
}

/// Takes a file part by part.
fn copy(
    client: &mut Client,
    task: JobRef,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut at = 0;
    loop {
        let part = client.file_part(task, path, at)?;
        if part.is_empty() {
            return Ok(());
        }
        take(&part)?;
        at += part.len() as u64;
    }
}

fn get(client: &mut Client, place: &Place, to: Option<&Path>) -> Result<(), CliError> {
    let own_name = place.path.rsplit('/').next().filter(|name| !name.is_empty());
    let own_name = own_name.map_or_else(|| place.task.to_string(), str::to_owned);
    let to = match to {
        Some(to) if to.is_dir() => to.join(own_name),
        Some(to) => to.to_owned(),
        None => own_name.into(),
    };
    let files = place.list(client, true)?;
    let is_file = files.len() == 1 && files[0].path == place.path && !files[0].directory;
    if is_file {
        return fetch(client, place.task, &place.path, &to);
    }
    make_folder(&to)?;
    for file in &files {
        // What a node says is not trusted to stay in the folder here.
        if Path::new(&file.path).components().any(|part| !matches!(part, Component::Normal(_))) {
            continue;
        }
        let (from, to) = (format!("{}/{}", place.path, file.path), to.join(&file.path));
        match file.directory {
            true => make_folder(&to)?,
            false => fetch(client, place.task, &from, &to)?,
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), CliError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(CliError::File { action: "make the folder", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn fetch(client: &mut Client, task: JobRef, from: &str, to: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::File { action: "write", path: to.to_owned(), source };
    let mut file = File::create(to).map_err(failed)?;
    copy(client, task, from, |bytes| file.write_all(bytes).map_err(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_task_and_a_path() {
        for (text, task, path) in [
            ("12", "12_0", ""),
            ("12/", "12_0", ""),
            ("12_3/wd/a b", "12_3", "wd/a b"),
            ("7/stdout.txt", "7_0", "stdout.txt"),
        ] {
            let place = Place::read(text).unwrap();
            assert_eq!((place.task.to_string().as_str(), place.path.as_str()), (task, path), "{text}");
        }
        assert!(Place::read("x/y").is_err());
    }
}
