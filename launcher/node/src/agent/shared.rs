//! Private folders that several attempts share, as the agent looks after them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_wire::v1::AttemptKey;

use crate::attempt::{AttemptDir, AttemptState};
use crate::error::Result;
use crate::state_log::{OpenLog, Records};

/// How many attempts have a folder together that the controller has not told to forget. A further one has its own.
const HELD_MAX: usize = 64;

/// One such folder. It goes with the last that has a hold of it, unless there are attempts in it that are not forgotten.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    in_it: Mutex<InIt>,
}

#[derive(Debug, Default)]
struct InIt {
    is_made: bool,
    /// Once something was written that is not the first.
    log: Option<OpenLog>,
    held: Vec<AttemptKey>,
    /// What the next record is to say of those before.
    forgotten: Vec<AttemptKey>,
}

impl Shared {
    /// A folder that is made with its first attempt.
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Folder { path, in_it: Mutex::default() }))
    }

    /// One that an agent before has made, with these attempts.
    pub fn found(path: PathBuf, held: Vec<AttemptKey>) -> Self {
        let in_it = InIt { is_made: true, held, ..InIt::default() };
        Self(Arc::new(Folder { path, in_it: Mutex::new(in_it) }))
    }

    /// Whether it may have one more attempt.
    pub fn has_room(&self) -> bool {
        self.0.in_it().held.len() < HELD_MAX
    }

    /// What the folder is to one of its attempts.
    pub fn dir(&self, key: &AttemptKey) -> AttemptDir {
        AttemptDir::shared(&self.0.path, key)
    }

    /// Writes down a further attempt, whose supervisor is not yet told of it and has no other.
    ///
    /// # Errors
    ///
    /// [`crate::NodeError::File`] if that cannot be written.
    pub fn add(&self, key: AttemptKey, state: &AttemptState) -> Result<()> {
        let mut in_it = self.0.in_it();
        if in_it.is_made {
            let mut records = Records::default();
            records.forgotten(&in_it.forgotten);
            records.state(key, state)?;
            OpenLog::of(&mut in_it.log, &self.0.path)?.append_within_limit(&records)?;
            in_it.forgotten.clear();
        } else {
            self.dir(&key).create(state)?;
            in_it.is_made = true;
        }
        in_it.held.push(key);
        Ok(())
    }

    /// The controller has told to forget an attempt. That is written with the next one: an agent that starts before finds it once
    /// more, and is told so again. One that leaves nothing has no file of its own.
    ///
    /// # Errors
    ///
    /// Those of the files that only this attempt has.
    pub fn forget(&self, key: &AttemptKey, leaves_nothing: bool) -> std::io::Result<()> {
        let mut in_it = self.0.in_it();
        in_it.held.retain(|held| held != key);
        in_it.forgotten.push(*key);
        if leaves_nothing { Ok(()) } else { self.dir(key).remove() }
    }
}

impl Folder {
    fn in_it(&self) -> MutexGuard<'_, InIt> {
        self.in_it.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let in_it = self.in_it();
        if in_it.is_made && in_it.held.is_empty() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "attempts' folder cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_log::StateLog;

    fn key(task: u32) -> AttemptKey {
        AttemptKey { job: 12, task, attempt: 1 }
    }

    fn tasks(path: &Path) -> Vec<u32> {
        StateLog::of(path).read().unwrap().into_iter().map(|(key, _)| key.task).collect()
    }

    #[test]
    fn a_folder_goes_when_all_in_it_is_forgotten_and_nobody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("12_0.1");
        let place = Shared::new(path.clone());
        for task in 0..3 {
            place.add(key(task), &AttemptState::of_test(key(task), 0)).unwrap();
        }
        let (held, log) = (place.clone(), place.dir(&key(1)).log());
        std::fs::write(&log, "a line\n").unwrap();
        std::fs::write(place.dir(&key(2)).steps(), "steps").unwrap();
        held.forget(&key(0), true).unwrap();
        held.forget(&key(1), false).unwrap();
        assert!(!log.exists() && place.dir(&key(2)).steps().exists());
        assert_eq!(tasks(&path), [0, 1, 2], "it is written with the next one");
        place.add(key(3), &AttemptState::of_test(key(3), 0)).unwrap();
        assert_eq!(tasks(&path), [2, 3]);
        drop(place);
        drop(held);
        assert_eq!(tasks(&path), [2, 3], "they are not forgotten");

        let found = Shared::found(path.clone(), vec![key(2), key(3)]);
        found.forget(&key(3), true).unwrap();
        found.forget(&key(2), false).unwrap();
        assert!(path.exists());
        drop(found);
        assert!(!path.exists());
        // One that was never made takes nothing with it.
        std::fs::create_dir(&path).unwrap();
        drop(Shared::new(path.clone()));
        assert!(path.exists());
    }

    #[test]
    fn there_is_a_limit_on_those_that_are_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let place = Shared::new(folder.path().join("12_0.1"));
        for task in 0..HELD_MAX as u32 {
            assert!(place.has_room());
            place.add(key(task), &AttemptState::of_test(key(task), 0)).unwrap();
        }
        assert!(!place.has_room());
        place.forget(&key(7), true).unwrap();
        assert!(place.has_room());
    }
}
