//! Places of files: `JOB/TASK/PATH` in a task's folder, `store:CONTAINER/NAME` in the store.

use muster_batch::query::encode;

use super::task;
use crate::error::CliError;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Task { job: String, task: String, path: String },
    Store { container: String, name: String },
}

impl Place {
    pub fn read(text: &str) -> Result<Self, CliError> {
        let bad = || CliError::BatchPlace { place: text.to_owned() };
        if let Some(rest) = text.strip_prefix("store:") {
            let (container, name) = rest.split_once('/').unwrap_or((rest, ""));
            if container.is_empty() {
                return Err(bad());
            }
            return Ok(Self::Store { container: container.to_owned(), name: name.to_owned() });
        }
        let mut parts = text.splitn(3, '/');
        let (Some(job), Some(task)) = (parts.next(), parts.next()) else { return Err(bad()) };
        if job.is_empty() || task.is_empty() {
            return Err(bad());
        }
        let path = parts.next().unwrap_or_default().trim_matches('/').to_owned();
        Ok(Self::Task { job: job.to_owned(), task: task.to_owned(), path })
    }

    /// The name without folders, for a copy.
    pub fn own_name(&self) -> &str {
        let (path, whole) = match self {
            Self::Task { path, task, .. } => (path, task),
            Self::Store { name, container } => (name, container),
        };
        path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(whole)
    }
}

/// The address of a file of a task.
pub(super) fn file_path(job: &str, task: &str, path: &str) -> String {
    format!("{}/files/{}", task::path(job, task), encode(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_a_task_or_in_the_store() {
        let task =
            |path: &str| Place::Task { job: "film".to_owned(), task: "7".to_owned(), path: path.to_owned() };
        assert_eq!(Place::read("film/7").unwrap(), task(""));
        assert_eq!(Place::read("film/7/wd/a b").unwrap(), task("wd/a b"));
        let store = Place::read("store:in/a/b").unwrap();
        assert_eq!(store, Place::Store { container: "in".to_owned(), name: "a/b".to_owned() });
        assert_eq!((store.own_name(), task("").own_name(), task("wd/x").own_name()), ("b", "7", "x"));
        for wrong in ["film", "", "/7", "film/", "store:", "store:/x"] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
    }
}
