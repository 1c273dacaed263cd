//! `muster batch file`.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use muster_batch_client::service::Listing;
use muster_batch_client::{BatchClientError, Service, Store};
use serde_json::{Value, json};

use super::listing::at;
use super::place::{Place, file_path};
use super::{Common, gone, progress, task};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::text::tame;

/// Longest time for which an address is signed, in hours.
const HOURS_MAX: i64 = 24 * 366;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the files of a task, or of a container of the store
    #[command(
        after_help = "Examples:\n  muster batch file list film/7\n  muster batch file list -r film/7\n  \
        muster batch file list store:job-film/out/"
    )]
    List {
        /// JOB/TASK, or store:CONTAINER[/PREFIX]
        place: String,
        /// With everything in folders (the store has no folders)
        #[arg(short, long)]
        recursive: bool,
    },
    /// Print a file
    #[command(after_help = "Examples:\n  muster batch file cat film/7/stdout.txt\n  \
        muster batch file cat store:job-film/out/report.txt")]
    Cat {
        /// JOB/TASK/PATH, or store:CONTAINER/NAME
        place: String,
    },
    /// Copy a file here, or a folder with everything in it
    #[command(after_help = "Examples:\n  muster batch file download film/7/wd results\n  \
        muster batch file download store:job-film/out/ results   a / at the end: all below it")]
    Download {
        /// JOB/TASK[/PATH], or store:CONTAINER/NAME
        place: String,
        /// Where to; its own name in this folder without
        #[arg(value_name = "DESTINATION")]
        to: Option<PathBuf>,
    },
    /// Copy files into the store
    #[command(after_help = "Examples:\n  muster batch file upload scene.pov store:scenes/\n  \
        muster batch file upload *.pov store:scenes/   the container is made if it is not there")]
    Upload {
        /// Files, and at last store:CONTAINER/ or store:CONTAINER/NAME
        #[arg(required = true, num_args = 2.., value_name = "FILE... PLACE")]
        words: Vec<String>,
    },
    /// Remove a file of a task, or of the store
    Delete {
        /// JOB/TASK/PATH, or store:CONTAINER/NAME
        place: String,
        /// With everything in it
        #[arg(short, long)]
        recursive: bool,
    },
    /// Print a signed address of the store: whoever has it may read what it names
    #[command(after_help = "Examples:\n  muster batch file url store:scenes/scene.pov --hours 48\n  \
        muster batch file url store:scenes --write   for all of the container, and to write there as well")]
    Url {
        /// store:CONTAINER[/NAME]
        place: String,
        /// For how long it is valid
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=HOURS_MAX))]
        hours: i64,
        /// It allows to write into the container as well
        #[arg(long)]
        write: bool,
    },
}

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, CliError> {
    let service = common.connect()?;
    match command {
        Command::List { place, recursive } => list(&service, common, &Place::read(place)?, *recursive),
        Command::Cat { place } => {
            cat(&service, &Place::read(place)?)?;
            Ok(Exit::Ok.into())
        }
        Command::Download { place, to } => {
            let place = Place::read(place)?;
            let count = get(&service, &place, to.as_deref())?;
            common.done(&format!("{count} files are here"), || Ok(json!({ "files": count })))
        }
        Command::Upload { words } => upload(&service, common, words),
        Command::Delete { place, recursive } => {
            match Place::read(place)? {
                Place::Task { job, task, path } if !path.is_empty() => {
                    service.delete(&file_path(&job, &task, &path), *recursive)?;
                }
                Place::Store { container, name } if !name.is_empty() => {
                    let store = Store::of(&service);
                    match recursive {
                        false => store.delete(&container, &name)?,
                        true => {
                            let blobs = store.list(&container, &name)?;
                            blobs.iter().try_for_each(|blob| store.delete(&container, &blob.name))?;
                        }
                    }
                }
                _ => return Err(CliError::BatchPlace { place: place.clone() }),
            }
            common.done(&format!("deleted: {place}"), || Ok(gone("file", place)))
        }
        Command::Url { place, hours, write } => {
            let Place::Store { container, name } = Place::read(place)? else {
                return Err(CliError::BatchPlace { place: place.clone() });
            };
            let (store, valid) = (Store::of(&service), jiff::SignedDuration::from_hours(*hours));
            let url = match (name.is_empty(), write) {
                (false, false) => store.blob_url(&container, &name, valid),
                (false, true) => return Err(CliError::BatchUsage("--write is for whole containers")),
                (true, write) => {
                    let permissions = muster_batch::storage::Permissions {
                        read: true,
                        list: true,
                        create: *write,
                        write: *write,
                        delete: false,
                    };
                    store.container_url(&container, permissions, valid)
                }
            };
            common.done(&url, || Ok(json!({ "url": url })))
        }
    }
}

fn list(service: &Service, common: &Common, place: &Place, recursive: bool) -> Result<ExitCode, CliError> {
    let (rows, lines) = match place {
        Place::Store { container, name } => {
            let blobs = Store::of(service).list(container, name)?;
            let lines =
                blobs.iter().map(|blob| line(blob.bytes, false, &blob.last_modified, &blob.name)).collect();
            (serde_json::to_value(&blobs).unwrap_or_default(), lines)
        }
        Place::Task { job, task, path } => {
            let rows = files(service, job, task, path, recursive)?;
            let of = |row: &Value| {
                let bytes = at(row, "properties/contentLength").parse().unwrap_or(0);
                let changed = super::listing::when(row, "properties/lastModified");
                line(bytes, row["isDirectory"] == true, &changed, &at(row, "name"))
            };
            let lines: String = rows.iter().map(of).collect();
            (Value::Array(rows), lines)
        }
    };
    if common.json {
        print_json(&json!({ "files": rows }))?;
    } else {
        print(&lines)?;
    }
    Ok(Exit::Ok.into())
}

fn line(bytes: u64, directory: bool, changed: &str, name: &str) -> String {
    let (kind, slash) = if directory { ("d", "/") } else { ("-", "") };
    format!("{kind} {bytes:>12} {changed:29} {}{slash}\n", tame(name))
}

/// What lies in a task's folder below a path.
fn files(
    service: &Service,
    job: &str,
    task: &str,
    path: &str,
    recursive: bool,
) -> Result<Vec<Value>, BatchClientError> {
    // The protocol lists the task's whole folder, or its first level alone.
    let deep = recursive || !path.is_empty();
    let more: &[(&str, &str)] = if deep { &[("recursive", "true")] } else { &[] };
    let filter = (!path.is_empty()).then(|| format!("startswith(name, '{}')", path.replace('\'', "''")));
    let listing = Listing { filter, ..Listing::default() };
    let mut rows = service.list(&format!("{}/files", task::path(job, task)), &listing, more)?;
    let below = format!("{path}/");
    rows.retain(|row| {
        let name = at(row, "name");
        let rest = name.strip_prefix(&below);
        path.is_empty() || name == path || rest.is_some_and(|rest| recursive || !rest.contains('/'))
    });
    Ok(rows)
}

fn cat(service: &Service, place: &Place) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let brought = match place {
        Place::Task { job, task, path } => {
            service.read_file(&file_path(job, task, path), &mut out, |_| ()).map(|_| ())
        }
        Place::Store { container, name } => Store::of(service).download(container, name, &mut out, |_| ()),
    };
    brought.map_err(|error| match error {
        BatchClientError::Output(source) => CliError::Output(source),
        error => error.into(),
    })
}

/// Copies a file or folder here, and says how many files it had.
fn get(service: &Service, place: &Place, to: Option<&Path>) -> Result<u64, CliError> {
    let to = match to {
        Some(to) if to.is_dir() => to.join(place.own_name()),
        Some(to) => to.to_owned(),
        None => place.own_name().into(),
    };
    match place {
        Place::Store { container, name } if name.is_empty() || name.ends_with('/') => {
            below(service, container, name, &to)
        }
        Place::Store { container, name } => {
            write(&to, |file| Store::of(service).download(container, name, file, |_| ()))?;
            Ok(1)
        }
        Place::Task { job, task, path } => {
            let rows = files(service, job, task, path, true)?;
            let mut count = 0;
            for row in rows.iter().filter(|row| row["isDirectory"] != true) {
                let name = at(row, "name");
                let rest = name.strip_prefix(path.as_str()).unwrap_or(&name).trim_start_matches('/');
                let Some(to) = inside(&to, rest) else { continue };
                write(&to, |file| service.read_file(&file_path(job, task, &name), file, |_| ()).map(|_| ()))?;
                count += 1;
            }
            if count == 0 {
                // What is not there has the service's own words.
                service.get(&file_path(job, task, path))?;
            }
            Ok(count)
        }
    }
}

/// Copies all blobs below a prefix into a folder here, and says how many there were.
pub(super) fn below(service: &Service, container: &str, prefix: &str, to: &Path) -> Result<u64, CliError> {
    let store = Store::of(service);
    let blobs = store.list(container, prefix)?;
    let bar = progress::of_bytes(blobs.iter().map(|blob| blob.bytes).sum());
    let mut count = 0;
    for blob in &blobs {
        let Some(to) = inside(to, &blob.name[prefix.len()..]) else { continue };
        bar.set_message(tame(&blob.name));
        write(&to, |file| store.download(container, &blob.name, file, |bytes| bar.inc(bytes)))?;
        count += 1;
    }
    bar.finish_and_clear();
    Ok(count)
}

/// A path in a folder here; what others say is not trusted to stay there.
fn inside(folder: &Path, below: &str) -> Option<PathBuf> {
    if below.is_empty() {
        return Some(folder.to_owned());
    }
    let is_plain = Path::new(below).components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| folder.join(below))
}

/// Writes a file beside its place, and renames it into it when it is whole.
fn write(
    to: &Path,
    fill: impl FnOnce(&mut dyn std::io::Write) -> Result<(), BatchClientError>,
) -> Result<(), CliError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| CliError::File { action, path, source }
    };
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make the folder", parent))?;
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = BufWriter::new(File::create(&part).map_err(failed("write", &part))?);
    let filled = fill(&mut file).map_err(|error| match error {
        BatchClientError::Output(source) => CliError::File { action: "write", path: part.clone(), source },
        error => error.into(),
    });
    let whole = filled.and_then(|()| std::io::Write::flush(&mut file).map_err(failed("write", &part)));
    let renamed = whole.and_then(|()| std::fs::rename(&part, to).map_err(failed("write", to)));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    renamed
}

fn upload(service: &Service, common: &Common, words: &[String]) -> Result<ExitCode, CliError> {
    let Some((place, files)) = words.split_last() else {
        return Err(CliError::BatchUsage("name files, and at last store:CONTAINER/"));
    };
    let Place::Store { container, name } = Place::read(place)? else {
        return Err(CliError::BatchPlace { place: place.clone() });
    };
    let is_folder = name.is_empty() || name.ends_with('/');
    if files.len() > 1 && !is_folder {
        return Err(CliError::BatchUsage(
            "several files need a place that ends with /, such as store:scenes/",
        ));
    }
    let store = Store::of(service);
    store.make_container(&container)?;
    let mut made = Vec::new();
    for file in files {
        let path = Path::new(file);
        let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let blob = if is_folder { format!("{name}{own}") } else { name.clone() };
        let bytes = std::fs::metadata(path).map_or(0, |data| data.len());
        let bar = progress::of_bytes(bytes);
        bar.set_message(own);
        store.upload(path, &container, &blob, |bytes| bar.inc(bytes))?;
        bar.finish_and_clear();
        made.push(format!("store:{container}/{blob}"));
    }
    common.done(&made.join("\n"), || Ok(json!({ "files": made })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        let folder = Path::new("/x");
        assert_eq!(inside(folder, "a/b"), Some(PathBuf::from("/x/a/b")));
        assert_eq!(inside(folder, ""), Some(PathBuf::from("/x")));
        for wrong in ["../a", "a/../../b", "/etc/passwd"] {
            assert_eq!(inside(folder, wrong), None, "{wrong}");
        }
    }
}
