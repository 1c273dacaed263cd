//! `--stage-in` and `--stage-out`: files that are brought to a task's node and taken away from it.

use std::path::Path;
use std::sync::Arc;

use muster_core::staging::{
    InputFile, InputSource, OutputDestination, OutputFile, RelativePath, Staging, StoreUrl, UploadCondition,
};

use super::layer::{LIST_BREAK, Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// Largest file of entries, in bytes.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// What the options say together; none of them, no staging.
pub(super) fn read(layer: &Layer, folder: &Path) -> Result<Option<Arc<Staging>>, CliError> {
    if ![Opt::StageIn, Opt::StageOut, Opt::StageKeep].into_iter().any(|option| layer.has(option)) {
        return Ok(None);
    }
    let mut staging = Staging::default();
    if let Some(said) = layer.get(Opt::StageIn) {
        staging.inputs =
            entries(said)?.iter().map(|text| input(said, text, folder)).collect::<Result<_, _>>()?;
    }
    if let Some(said) = layer.get(Opt::StageOut) {
        staging.outputs =
            entries(said)?.iter().map(|text| output(said, text, folder)).collect::<Result<_, _>>()?;
    }
    if let Some(said) = layer.get(Opt::StageKeep) {
        staging.retention_s = super::build::time_limit_s(said)?;
    }
    Ok(Some(Arc::new(staging)))
}

/// The entries of an option: as they are written, or one on each line of a file that is named after an `@`, which keeps
/// signatures out of the command line.
fn entries(said: &Said) -> Result<Vec<String>, CliError> {
    let mut all = Vec::new();
    for entry in said.value.split(LIST_BREAK) {
        let Some(path) = entry.strip_prefix('@') else {
            all.push(entry.to_owned());
            continue;
        };
        let failed = |source| CliError::ListFile { origin: said.origin.clone(), path: path.into(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > LIST_BYTES_MAX {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        all.extend(lines.map(str::to_owned));
    }
    Ok(all)
}

fn wrong(said: &Said, text: &str, why: String) -> CliError {
    CliError::Staging { origin: said.origin.clone(), entry: shown(text).to_owned(), why }
}

/// An entry without what may be secret.
fn shown(text: &str) -> &str {
    text.split('?').next().unwrap_or_default()
}

/// `SOURCE`, `SOURCE=NAME` or `SOURCE=>NAME`: an address with a `?` has a `=` of its own.
fn input(said: &Said, text: &str, folder: &Path) -> Result<InputFile, CliError> {
    let bad = |why: String| wrong(said, text, why);
    let (source, name) = match (text.rsplit_once("=>"), text.contains('?')) {
        (Some((source, name)), _) => (source, Some(name)),
        (None, true) => (text, None),
        (None, false) => text.rsplit_once('=').map_or((text, None), |(source, name)| (source, Some(name))),
    };
    let path = name.map(|name| RelativePath::try_from(name.trim_end_matches('/').to_owned()));
    let path = path.transpose().map_err(|error| bad(error.to_string()))?;
    let source = match local(source, folder) {
        Some(path) => InputSource::Path { path },
        None if shown(source).ends_with('/') => {
            InputSource::Container { url: url(source).map_err(bad)?, prefix: String::new() }
        }
        None => InputSource::Http { url: url(source).map_err(bad)? },
    };
    Ok(InputFile { source, path, mode: None })
}

/// `PATTERN=DESTINATION[,if=success|failure|always]`.
fn output(said: &Said, text: &str, folder: &Path) -> Result<OutputFile, CliError> {
    let bad = |why: &str| wrong(said, text, why.to_owned());
    let (text, condition) = match text.rsplit_once(",if=") {
        None => (text, UploadCondition::Always),
        Some((text, "success")) => (text, UploadCondition::Success),
        Some((text, "failure")) => (text, UploadCondition::Failure),
        Some((text, "always")) => (text, UploadCondition::Always),
        Some(_) => return Err(bad("write if=success, if=failure or if=always")),
    };
    let (pattern, to) = text
        .split_once('=')
        .ok_or_else(|| bad("write PATTERN=DESTINATION, such as *.csv=/home/ann/results/"))?;
    let is_folder = pattern.contains(['*', '?', '[']) || shown(to).ends_with('/');
    let (destination, path) = match local(to, folder) {
        Some(path) if is_folder => (OutputDestination::Path { path }, String::new()),
        Some(path) => {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let folder = if folder.is_empty() { "/" } else { folder };
            (OutputDestination::Path { path: folder.to_owned() }, name.to_owned())
        }
        None => {
            let (container, path) = in_container(to).ok_or_else(|| {
                bad("an address must name a container, such as https://HOST/ACCOUNT/CONTAINER/ or s3://BUCKET/")
            })?;
            let url = url(&container).map_err(|why| wrong(said, text, why))?;
            (OutputDestination::Container { url }, path)
        }
    };
    let path = match (path.is_empty() || is_folder, pattern.rsplit('/').next()) {
        // A folder, and a file that keeps its name in it.
        (true, Some(name)) if !pattern.contains(['*', '?', '[']) => [path.trim_matches('/'), name]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/"),
        _ => path,
    };
    Ok(OutputFile { pattern: pattern.to_owned(), destination, path, headers: Default::default(), condition })
}

/// A path of the node, absolute; none for an address.
fn local(text: &str, folder: &Path) -> Option<String> {
    let path = match text.split_once("://") {
        Some(("file", path)) => path,
        Some(_) => return None,
        None => text,
    };
    Some(folder.join(path).to_string_lossy().trim_end_matches('/').to_owned())
}

fn url(text: &str) -> Result<StoreUrl, String> {
    StoreUrl::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// The container of an address, and the rest of its path.
fn in_container(address: &str) -> Option<(String, String)> {
    let (before, query) = address.split_once('?').map_or((address, None), |(a, b)| (a, Some(b)));
    let (scheme, rest) = before.split_once("://")?;
    let mut parts = rest.split('/');
    let host = parts.next().filter(|host| !host.is_empty())?;
    // The account is in the host's name in the cloud, and the first part of the path elsewhere.
    let containers = match (scheme, host.contains(".blob.")) {
        ("s3", _) => 0,
        (_, true) => 1,
        (_, false) => 2,
    };
    let mut container = format!("{scheme}://{host}");
    for _ in 0..containers {
        let part = parts.next().filter(|part| !part.is_empty())?;
        container = format!("{container}/{part}");
    }
    if let Some(query) = query {
        container = format!("{container}?{query}");
    }
    Some((container, parts.collect::<Vec<_>>().join("/")))
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn said(value: &str) -> Said {
        Said { value: value.to_owned(), origin: Origin::CommandLine { option: "--stage".to_owned() } }
    }

    fn read_in(text: &str) -> Result<InputFile, CliError> {
        input(&said(text), text, Path::new("/home/ann"))
    }

    fn read_out(text: &str) -> Result<OutputFile, CliError> {
        output(&said(text), text, Path::new("/home/ann"))
    }

    #[test]
    fn inputs_are_files_folders_addresses_and_containers() {
        for (text, source, path) in [
            ("data.csv", "Path { path: \"/home/ann/data.csv\" }", None),
            ("/a/b=c/d", "Path { path: \"/a/b\" }", Some("c/d")),
            ("file:///a/b/", "Path { path: \"/a/b\" }", None),
            ("http://h/a.txt", "Http { url: StoreUrl(http://h/a.txt) }", None),
            ("http://h/a.txt=b", "Http { url: StoreUrl(http://h/a.txt) }", Some("b")),
            ("https://h/a?sig=x%3D", "Http { url: StoreUrl(https://h/a?...) }", None),
            ("https://h/a?sig=x=>b/c", "Http { url: StoreUrl(https://h/a?...) }", Some("b/c")),
            ("s3://b/p/", "Container { url: StoreUrl(s3://b/p/), prefix: \"\" }", None),
            (
                "https://h/a/c/?sig=x=>in/",
                "Container { url: StoreUrl(https://h/a/c/?...), prefix: \"\" }",
                Some("in"),
            ),
        ] {
            let read = read_in(text).unwrap();
            assert_eq!(format!("{:?}", read.source), source, "{text}");
            assert_eq!(read.path.as_ref().map(RelativePath::as_str), path, "{text}");
        }
        for (text, why) in [("a=../b", "stays in the task's folder"), ("ftp://h/a?SECRET", "https://")] {
            let message = read_in(text).unwrap_err().to_string();
            assert!(message.contains(why) && !message.contains("SECRET"), "{message}");
        }
    }

    #[test]
    fn outputs_are_patterns_with_places() {
        for (text, destination, path) in [
            ("*.csv=results", "Path { path: \"/home/ann/results\" }", ""),
            ("a/r.csv=results/", "Path { path: \"/home/ann/results\" }", "r.csv"),
            ("r.csv=/x/new.csv", "Path { path: \"/x\" }", "new.csv"),
            ("**/*.csv=s3://b/runs/1", "Container { url: StoreUrl(s3://b) }", "runs/1"),
            ("r.csv=s3://b/runs/r1.csv", "Container { url: StoreUrl(s3://b) }", "runs/r1.csv"),
            ("r.csv=s3://b/runs/", "Container { url: StoreUrl(s3://b) }", "runs/r.csv"),
            ("r.csv=https://h:1/a/c?sig=x", "Container { url: StoreUrl(https://h:1/a/c?...) }", "r.csv"),
            ("*.txt=https://a.blob.x/c/d?sig=x", "Container { url: StoreUrl(https://a.blob.x/c?...) }", "d"),
        ] {
            let read = read_out(text).unwrap();
            assert_eq!(format!("{:?}", read.destination), destination, "{text}");
            assert_eq!(read.path, path, "{text}");
            assert_eq!(read.condition, UploadCondition::Always);
        }
        assert_eq!(read_out("a=b,if=failure").unwrap().condition, UploadCondition::Failure);
        for (text, why) in
            [("a", "PATTERN=DESTINATION"), ("a=b,if=x", "if=success"), ("a=https://h/?SECRET", "container")]
        {
            let message = read_out(text).unwrap_err().to_string();
            assert!(message.contains(why) && !message.contains("SECRET"), "{message}");
        }
    }

    #[test]
    fn entries_come_from_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        std::fs::write(&file, "# a remark\na=b\n\n c \n").unwrap();
        let list = format!("x{LIST_BREAK}@{}", file.display());
        assert_eq!(entries(&said(&list)).unwrap(), ["x", "a=b", "c"]);
        assert!(entries(&said("@/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
