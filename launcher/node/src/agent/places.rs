//! Where supervisors may keep a folder and cgroups between two tasks of an array.
//!
//! A supervisor removes its place itself. That of one which was killed meanwhile is removed here; so that an agent that starts
//! anew knows of it too, each has a file with its name in the folder `places` of the agent's.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::shared::Shared;
use crate::attempt::group;
use crate::containment::Containment;
use crate::error::{NodeError, Result};
use crate::process::ProcessId;

/// The places of this node.
#[derive(Debug, Clone)]
pub(super) struct Places {
    notes: PathBuf,
    attempts: PathBuf,
    containment: Containment,
}

/// Where one supervisor holds the tasks of one job.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The job.
    pub job: u64,
    /// The folder of its tasks, one after another.
    pub run: PathBuf,
    /// Their private folder.
    pub private: Shared,
    /// The cores of the last of them.
    pub cores: Vec<u32>,
    places: Places,
}

impl Places {
    /// The places that are noted in one folder, of attempts whose private folders are in the other.
    pub fn new(notes: PathBuf, attempts: PathBuf, containment: Containment) -> Self {
        Self { notes, attempts, containment }
    }

    fn place(&self, job: u64, run: PathBuf) -> Place {
        let private = Shared::new(self.attempts.join(run.file_name().unwrap_or_default()));
        Place { job, run, private, cores: Vec::new(), places: self.clone() }
    }

    /// Notes that a supervisor may keep a folder.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that cannot be noted.
    pub fn note(&self, job: u64, run: &Path) -> Result<Place> {
        let place = self.place(job, run.to_owned());
        let note = place.note();
        let written = match std::fs::write(&note, run.as_os_str().as_encoded_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.notes);
                made.and_then(|()| std::fs::write(&note, run.as_os_str().as_encoded_bytes()))
            }
            written => written,
        };
        written.map_err(NodeError::file("write", note))?;
        Ok(place)
    }

    /// The places that an agent before has noted.
    pub fn noted(&self) -> Vec<Place> {
        let notes = std::fs::read_dir(&self.notes).into_iter().flatten().flatten();
        let place = |note: std::fs::DirEntry| {
            let run = PathBuf::from(std::fs::read_to_string(note.path()).ok()?);
            // One whose agent was killed while it wrote was not in use yet.
            (run.is_absolute() && run.file_name()? == note.file_name()).then(|| self.place(0, run))
        };
        notes.filter_map(place).collect()
    }
}

impl Place {
    fn note(&self) -> PathBuf {
        self.places.notes.join(self.run.file_name().unwrap_or_default())
    }

    /// Nothing is there any more.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.note());
    }

    /// Removes what a supervisor has left there, once it has ended.
    pub async fn clear(self, supervisor: Option<ProcessId>) {
        if let Some(process) = supervisor {
            process.ended().await;
        }
        let group = group(&self.places.containment, &self.run);
        if let Err(error) = group.end().await {
            tracing::error!(error = error.sentence(), "what a supervisor has left cannot be ended");
        }
        group.remove().await;
        let _ = std::fs::remove_dir_all(&self.run);
        self.forget();
    }
}
