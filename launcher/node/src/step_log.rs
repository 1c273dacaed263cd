//! `steps.log` in an attempt's private folder: the record of its steps, which the supervisor writes and the agent reads.
//!
//! Each record is a [`StepRecord`] with its length before it. One that tells more of a step replaces the one before.
//! The file outlives agents and supervisors that are killed; like the attempt's state it is not forced to the disk.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use muster_wire::v1::StepRecord;
use prost::Message;

use crate::attempt::AttemptDir;
use crate::error::{NodeError, Result};

/// Most records of an attempt. Steps that come later run as well, and leave none.
pub const RECORDS_MAX: u32 = 200_000;

/// How much is read at once: some thousand records, and more than the longest, which tells of all nodes of a large gang.
const READ_BYTES: u64 = 1 << 20;

/// Writes the records of an attempt.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    records: u32,
}

impl Writer {
    /// Nothing is made before the first record.
    pub fn new(dir: &AttemptDir) -> Self {
        Self { path: dir.steps(), file: None, bytes: 0, records: 0 }
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a record, if there is room for more.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be written.
    pub fn write(&mut self, record: &StepRecord) -> Result<()> {
        if self.records >= RECORDS_MAX {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            empty => {
                let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
                empty.insert(opened.map_err(NodeError::file("open", &self.path))?)
            }
        };
        let bytes = record.encode_length_delimited_to_vec();
        file.write_all(&bytes).map_err(NodeError::file("write", &self.path))?;
        self.bytes += bytes.len() as u64;
        self.records += 1;
        if self.records == RECORDS_MAX {
            tracing::warn!(records = RECORDS_MAX, "no more steps of this attempt are recorded");
        }
        Ok(())
    }
}

/// Reads the records of an attempt, while they are written and later.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    offset: u64,
}

impl Reader {
    /// Begins with the first record.
    pub fn new(dir: &AttemptDir) -> Self {
        Self { path: dir.steps(), offset: 0 }
    }

    /// Begins again.
    pub fn rewind(&mut self) {
        self.offset = 0;
    }

    /// Some of the records that were added, in their order; none if there are no more. Those that are not whole yet, or
    /// not what they should be, are left where they are.
    pub fn read(&mut self) -> Vec<StepRecord> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(READ_BYTES).read_to_end(&mut bytes)
        });
        if read.is_err() {
            // An attempt without steps has no such file.
            return Vec::new();
        }
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let mut after = rest;
            match StepRecord::decode_length_delimited(&mut after) {
                Ok(record) => records.push(record),
                Err(_) => break,
            }
            self.offset += (rest.len() - after.len()) as u64;
            rest = after;
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::v1::AttemptKey;

    const KEY: AttemptKey = AttemptKey { job: 12, task: 3, attempt: 1 };

    /// The folder of an attempt, which is there.
    fn attempt(attempts: &tempfile::TempDir) -> AttemptDir {
        let dir = AttemptDir::own(attempts.path(), &KEY);
        std::fs::create_dir(dir.path()).unwrap();
        dir
    }

    #[test]
    fn what_is_written_is_read_once_and_again_after_a_rewind() {
        let folder = tempfile::tempdir().unwrap();
        let dir = attempt(&folder);
        let (mut writer, mut reader) = (Writer::new(&dir), Reader::new(&dir));
        assert_eq!(reader.read(), []);
        let record = |step| StepRecord { step, name: "hostname".into(), ..StepRecord::default() };
        for step in 0..3 {
            writer.write(&record(step)).unwrap();
        }
        assert_eq!(reader.read(), [record(0), record(1), record(2)]);
        assert_eq!(reader.read(), []);
        // What is not whole yet waits for its rest.
        let whole = record(3).encode_length_delimited_to_vec();
        let mut file = OpenOptions::new().append(true).open(dir.steps()).unwrap();
        file.write_all(&whole[..4]).unwrap();
        assert_eq!(reader.read(), []);
        file.write_all(&whole[4..]).unwrap();
        assert_eq!(reader.read(), [record(3)]);
        reader.rewind();
        assert_eq!(reader.read().len(), 4);
        assert!(writer.bytes() > 0);
    }

    #[test]
    fn there_is_a_limit_on_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(&attempt(&folder));
        writer.records = RECORDS_MAX - 1;
        writer.write(&StepRecord::default()).unwrap();
        let bytes = writer.bytes();
        writer.write(&StepRecord { step: 7, ..StepRecord::default() }).unwrap();
        assert_eq!(writer.bytes(), bytes);
    }
}
