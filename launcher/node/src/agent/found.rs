//! What an agent finds that starts: the attempts of the one before it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use muster_wire::v1::AttemptKey;

use super::registry::{Held, Registry, order, told};
use super::shared::Shared;
use super::supervisors;
use crate::attempt::{AttemptDir, AttemptState, UNFINISHED, parse_key};
use crate::error::{NodeError, Result};
use crate::state_log::StateLog;
use crate::step_log::Reader;

impl Registry {
    /// Takes up all attempts that it finds.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if their folder cannot be made or listed.
    pub(super) fn find_attempts(&mut self) -> Result<()> {
        let mut places = self.places.noted();
        let folder = self.node.dir.attempts();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(NodeError::file("create the folder", &folder))?;
        let entries = std::fs::read_dir(&folder).map_err(NodeError::file("list", &folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            match name.to_str().and_then(parse_key) {
                Some(key) => {
                    for run in self.find_in(key, &entry.path()) {
                        places.retain(|place| place.run != run);
                    }
                }
                // An agent was killed before it had given the attempt to anybody.
                None if name.to_str().is_some_and(|name| name.ends_with(UNFINISHED)) => {
                    let _ = std::fs::remove_dir_all(entry.path());
                }
                None => {
                    tracing::warn!(path = %entry.path().display(), "no attempt's folder; it is left alone")
                }
            }
        }
        // The supervisors that waited there have ended with the agent before, or are about to.
        for place in places {
            tokio::spawn(place.clear(None));
        }
        Ok(())
    }

    /// Takes up the attempt, or the attempts, of a private folder that was made for this one. The answer is the folders of those that
    /// have not ended.
    fn find_in(&mut self, first: AttemptKey, folder: &Path) -> Vec<PathBuf> {
        let log = StateLog::of(folder);
        if !log.exists() {
            let dir = AttemptDir::own(&self.node.dir.attempts(), &first);
            let state = dir.load();
            return self.find(first, dir, None, state).into_iter().collect();
        }
        // That it cannot be read is no reason to end what is held there.
        let found = log.read().unwrap_or_else(|error| vec![(first, Err(error))]);
        let shared = Shared::found(folder.to_owned(), found.iter().map(|(key, _)| *key).collect());
        let runs = found
            .into_iter()
            .filter_map(|(key, state)| self.find(key, shared.dir(&key), Some(shared.clone()), state));
        runs.collect()
    }

    /// Takes up an attempt. The answer is its folder, if it has not ended.
    fn find(
        &mut self,
        key: AttemptKey,
        dir: AttemptDir,
        shared: Option<Shared>,
        state: Result<AttemptState>,
    ) -> Option<PathBuf> {
        let state = state.unwrap_or_else(|error| {
            tracing::warn!(attempt = %key, error = error.sentence(), "an attempt without a state");
            self.unknown_state(key, 0, &dir)
        });
        let mut held = Held {
            steps: Reader::new(&dir),
            dir: dir.clone(),
            shared,
            may_have_folder: true,
            leaves_nothing: state.report.leaves_nothing,
            report: told(state.report.clone()),
            supervisor: None,
        };
        let same_boot = state.boot_id == self.node.boot_id;
        let run = (!held.is_gone()).then(|| state.run.clone());
        if !held.is_gone() {
            // A state that cannot be read, perhaps because another version wrote it, is no reason to end the attempt:
            // whoever listens at its socket holds it.
            let is_held = || {
                state.supervisor.watch().is_some()
                    || std::os::unix::net::UnixStream::connect(dir.control()).is_ok()
            };
            if same_boot && is_held() {
                held.supervisor = Some(supervisors::adopt(dir, &state, self.events.clone()));
            } else {
                let boot_id = self.node.boot_id.clone();
                tokio::spawn(supervisors::clear_up(dir, state, boot_id, self.events.clone()));
            }
        }
        self.held.insert(order(&key), held);
        run
    }
}
