//! `state.log` in a private folder that several attempts share: their states, one record after another.
//!
//! A record is a line: a checksum, what it says, and of which attempts. It is written by one write(2) at the end of the file, so that
//! a reader sees all of it or nothing, and begins with a line's end, so that one that was cut off, by a full disk or a loss of power,
//! takes nothing else with it. Like `state.json` the file is not forced to the disk, and for the same reason.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use muster_wire::v1::AttemptKey;

use crate::attempt::{AttemptState, parse_key};
use crate::error::{NodeError, Result};

/// The file's name.
pub const NAME: &str = "state.log";

/// How long the file may become before what is forgotten is left out of it.
pub const BYTES_MAX: u64 = 256 << 10;

/// What an attempt's state is called in messages.
const KIND: &str = "attempt's state";

const STATE: &str = "state";
const FORGOTTEN: &str = "forgotten";

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLog(PathBuf);

/// The file, open for records of one attempt after another.
#[derive(Debug)]
pub struct OpenLog {
    log: StateLog,
    file: File,
}

/// What is written at once.
#[derive(Debug, Default)]
pub struct Records(Vec<u8>);

/// An attempt that was not forgotten, and its state, if that can be read.
pub type Found = (AttemptKey, Result<AttemptState>);

impl Records {
    fn add(&mut self, body: &[u8]) {
        let sum = format!("\n{:08x} ", crc32fast::hash(body));
        self.0.extend_from_slice(sum.as_bytes());
        self.0.extend_from_slice(body);
        self.0.push(b'\n');
    }

    /// An attempt is in this state now.
    ///
    /// # Errors
    ///
    /// [`NodeError::Malformed`] if it cannot be put into words.
    pub fn state(&mut self, key: AttemptKey, state: &AttemptState) -> Result<()> {
        let mut body = format!("{STATE} {key} ").into_bytes();
        serde_json::to_writer(&mut body, state).map_err(|source| NodeError::Malformed {
            kind: KIND,
            path: NAME.into(),
            source,
        })?;
        self.add(&body);
        Ok(())
    }

    /// The controller has told to forget these attempts.
    pub fn forgotten(&mut self, keys: &[AttemptKey]) {
        if keys.is_empty() {
            return;
        }
        let mut body = FORGOTTEN.to_owned();
        for key in keys {
            body.push(' ');
            body.push_str(&key.to_string());
        }
        self.add(body.as_bytes());
    }

    /// What the file is to hold.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl StateLog {
    /// That of a folder.
    pub fn of(folder: &Path) -> Self {
        Self(folder.join(NAME))
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    fn open(self) -> Result<OpenLog> {
        let file = OpenOptions::new().append(true).open(&self.0);
        let file = file.map_err(NodeError::file("open", &self.0))?;
        Ok(OpenLog { log: self, file })
    }

    /// Replaces the file by one that holds the last state of each attempt that was not forgotten.
    fn leave_out_forgotten(&self) -> Result<()> {
        let text = std::fs::read(&self.0).map_err(NodeError::file("read", &self.0))?;
        let mut records = Records::default();
        for body in newest(&text).values() {
            records.add(body);
        }
        let new = self.0.with_extension("log.new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut file = file.map_err(NodeError::file("create", &new))?;
        file.write_all(&records.0).map_err(NodeError::file("write", &new))?;
        std::fs::rename(&new, &self.0).map_err(NodeError::file("replace", &self.0))
    }

    /// The attempts that were not forgotten, each in its last state.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the file cannot be read.
    pub fn read(&self) -> Result<Vec<Found>> {
        let text = std::fs::read(&self.0).map_err(NodeError::file("read", &self.0))?;
        let found = |((job, task, attempt), body): (&(u64, u32, u32), &&[u8])| {
            let key = AttemptKey { job: *job, task: *task, attempt: *attempt };
            let json = body.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
            let state = serde_json::from_slice(json);
            (key, state.map_err(|source| NodeError::Malformed { kind: KIND, path: self.0.clone(), source }))
        };
        Ok(newest(&text).iter().map(found).collect())
    }

    /// The last state of an attempt.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], [`NodeError::Malformed`] if the state cannot be read, and [`NodeError::File`] if there is none.
    pub fn read_one(&self, key: &AttemptKey) -> Result<AttemptState> {
        let found = self.read()?.into_iter().find(|(found, _)| found == key);
        let none = || NodeError::file("find the attempt in", &self.0)(std::io::ErrorKind::NotFound.into());
        found.ok_or_else(none)?.1
    }
}

impl OpenLog {
    /// That of a folder: the one that is there already, if it is, and else one that is opened and stays there.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be opened.
    pub fn of<'a>(there: &'a mut Option<Self>, folder: &Path) -> Result<&'a mut Self> {
        let open = match there.take().filter(|open| open.log.0.parent() == Some(folder)) {
            Some(open) => open,
            None => StateLog::of(folder).open()?,
        };
        Ok(there.insert(open))
    }

    /// Adds records.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if they cannot be written as a whole.
    pub fn append(&mut self, records: &Records) -> Result<()> {
        // It was made anew meanwhile.
        if self.look()?.nlink() == 0 {
            *self = self.log.clone().open()?;
        }
        self.write(records)
    }

    /// As [`Self::append`]. A file that has become too long is made anew first, without what was forgotten: nobody else may be about
    /// to write.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_within_limit(&mut self, records: &Records) -> Result<()> {
        if self.look()?.len() > BYTES_MAX {
            self.log.leave_out_forgotten()?;
            *self = self.log.clone().open()?;
        }
        self.write(records)
    }

    fn look(&self) -> Result<std::fs::Metadata> {
        self.file.metadata().map_err(NodeError::file("look at", &self.log.0))
    }

    fn write(&mut self, records: &Records) -> Result<()> {
        match self.file.write(&records.0) {
            Ok(written) if written == records.0.len() => Ok(()),
            Ok(_) => {
                Err(NodeError::file("write all of", &self.log.0)(std::io::ErrorKind::StorageFull.into()))
            }
            Err(error) => Err(NodeError::file("write", &self.log.0)(error)),
        }
    }
}

/// The last state's record of each attempt that was not forgotten.
fn newest(text: &[u8]) -> BTreeMap<(u64, u32, u32), &[u8]> {
    let mut newest = BTreeMap::new();
    for body in text.split(|byte| *byte == b'\n').filter_map(checked) {
        let mut words = body.split(|byte| *byte == b' ');
        let kind = words.next().unwrap_or_default();
        let mut keys = words.map_while(|word| parse_key(std::str::from_utf8(word).ok()?));
        if kind == STATE.as_bytes() {
            if let Some(key) = keys.next() {
                newest.insert((key.job, key.task, key.attempt), body);
            }
        } else if kind == FORGOTTEN.as_bytes() {
            for key in keys {
                newest.remove(&(key.job, key.task, key.attempt));
            }
        }
    }
    newest
}

/// What a line says, if it is whole.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, body) = line.split_at_checked(8)?;
    let body = body.strip_prefix(b" ")?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    (sum == crc32fast::hash(body)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(task: u32) -> AttemptKey {
        AttemptKey { job: 12, task, attempt: 1 }
    }

    fn records(task: u32, steps_bytes: u64, forgotten: &[AttemptKey]) -> Records {
        let mut records = Records::default();
        records.forgotten(forgotten);
        records.state(key(task), &AttemptState::of_test(key(task), steps_bytes)).unwrap();
        records
    }

    /// A new file, and the folder that holds it.
    fn log() -> (tempfile::TempDir, StateLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = StateLog::of(folder.path());
        std::fs::write(folder.path().join(NAME), records(0, 0, &[]).as_bytes()).unwrap();
        (folder, log)
    }

    fn append(log: &StateLog, records: &Records) {
        log.clone().open().unwrap().append(records).unwrap();
    }

    fn found(log: &StateLog) -> Vec<(u32, u64)> {
        let found = log.read().unwrap();
        found.into_iter().map(|(key, state)| (key.task, state.unwrap().report.steps_bytes)).collect()
    }

    #[test]
    fn each_attempt_has_its_last_state_until_it_is_forgotten() {
        let (_folder, log) = log();
        append(&log, &records(1, 1, &[]));
        append(&log, &records(0, 2, &[]));
        assert_eq!(found(&log), [(0, 2), (1, 1)]);
        assert_eq!(log.read_one(&key(1)).unwrap(), AttemptState::of_test(key(1), 1));
        append(&log, &records(2, 3, &[key(0), key(1)]));
        assert_eq!(found(&log), [(2, 3)]);
        assert!(matches!(log.read_one(&key(1)), Err(NodeError::File { .. })));
    }

    #[test]
    fn a_record_that_was_cut_off_or_changed_takes_no_other_with_it() {
        let whole = records(1, 1, &[]).0;
        for length in 0..whole.len() - 1 {
            let (folder, log) = log();
            let mut file = OpenOptions::new().append(true).open(folder.path().join(NAME)).unwrap();
            file.write_all(&whole[..length]).unwrap();
            assert_eq!(found(&log), [(0, 0)], "{length} bytes");
            append(&log, &records(2, 2, &[]));
            assert_eq!(found(&log), [(0, 0), (2, 2)], "{length} bytes");
        }
        // As a loss of power may leave it.
        let (folder, log) = log();
        append(&log, &records(1, 1, &[]));
        let mut text = std::fs::read(folder.path().join(NAME)).unwrap();
        let at = text.len() - whole.len() / 2;
        text[at] = 0;
        std::fs::write(folder.path().join(NAME), text).unwrap();
        assert_eq!(found(&log), [(0, 0)]);
    }

    #[test]
    fn a_state_of_another_version_is_an_attempt_without_a_state() {
        let (_folder, log) = log();
        let mut records = Records::default();
        records.add(b"state 12_7.1 {\"of\":\"another version\"}");
        records.add(b"something that only another version says");
        append(&log, &records);
        let found = log.read().unwrap();
        assert_eq!(found.iter().map(|(key, _)| key.task).collect::<Vec<_>>(), [0, 7]);
        assert!(matches!(found[1].1, Err(NodeError::Malformed { .. })));
    }

    #[test]
    fn the_file_does_not_grow_beyond_its_limit_and_holds_what_is_not_forgotten() {
        let (folder, log) = log();
        let length = || std::fs::metadata(folder.path().join(NAME)).unwrap().len();
        let mut longest = 0;
        // That of the agent, and that of a supervisor, which does not know that the file is made anew.
        let mut open = log.clone().open().unwrap();
        let mut other = None;
        for task in 1..2000 {
            let forgotten = if task > 2 { vec![key(task - 1)] } else { Vec::new() };
            open.append_within_limit(&records(task, 0, &forgotten)).unwrap();
            OpenLog::of(&mut other, folder.path()).unwrap().append(&records(task, 1, &[])).unwrap();
            longest = longest.max(length());
        }
        assert!(longest > BYTES_MAX && longest < BYTES_MAX + 1000, "{longest}");
        assert!(length() < longest);
        assert_eq!(found(&log), [(0, 0), (1, 1), (1999, 1)]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // Another folder has another one.
        let (elsewhere, log) = self::log();
        OpenLog::of(&mut other, elsewhere.path()).unwrap().append(&records(9, 9, &[])).unwrap();
        assert_eq!(found(&log), [(0, 0), (9, 9)]);
    }
}
