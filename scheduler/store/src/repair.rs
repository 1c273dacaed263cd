//! Makes a database that can be opened of one that is damaged, and says what is lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::event::{Event, Record};
use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use muster_core::spec::IndexRange;
use muster_core::state::State;
use rusqlite::Connection;
use serde::Serialize;

use crate::check::{Finding, LookingAtFile, sqlite_findings};
use crate::damage::Damage;
use crate::error::StoreError;
use crate::history;
use crate::lock::{Lock, beside, private_file};
use crate::read::{Source as _, SqliteSource, Which};
use crate::schema::{self, failed};
use crate::snapshot::{SqliteWriter, Turn};
use crate::survey::replay;

/// Jobs and attempts that are listed one by one.
const LISTED_MAX: usize = 1000;

/// What a repair keeps and gives up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairPlan {
    /// Version of this form.
    pub version: u32,
    /// The database.
    pub database: PathBuf,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The snapshot that is gone on from; 0 is the empty state before the first record.
    pub snapshot_seq: u64,
    /// The last record that is kept.
    pub last_kept: u64,
    /// The first and the last record that are given up; none if all are kept.
    pub given_up: Option<(u64, u64)>,
    /// How many of those cannot be read, so that nobody knows what they said.
    pub unknown: u64,
    /// Jobs that the readable ones of those accepted: their users were shown these ids, and the jobs are gone.
    pub jobs_gone: Vec<JobId>,
    /// Jobs about which the readable ones said something else.
    pub jobs_changed: Vec<JobId>,
    /// Attempts about which the readable ones said something, as `JOB_INDEX.ATTEMPT`: they may have been started.
    pub attempts: Vec<String>,
    /// Whether there are more than are listed.
    pub more: bool,
    /// The id that the next job will have; none that may have been shown is given again.
    pub next_job: u64,
}

/// A repair that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was kept and given up.
    #[serde(flatten)]
    pub plan: RepairPlan,
    /// The folder with the files as they were.
    pub copy: PathBuf,
    /// Rows of the accounting that were kept.
    pub history_rows: u64,
    /// Whether all of them could be read.
    pub history_whole: bool,
}

/// A damaged database, locked.
pub struct Repair {
    lock: Lock,
    path: PathBuf,
    looking: LookingAtFile,
    secret: [u8; 32],
    state: State,
    /// The number after which records go on.
    seq: u64,
    plan: RepairPlan,
}

impl Repair {
    /// Looks at a database and says what a repair would do; none if nothing is damaged. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a controller runs on it; [`StoreError::BeyondRepair`] if a backup is the only way;
    /// [`StoreError::UnknownVersion`] or [`StoreError::BrokenRecord`] if a newer musterd wrote it.
    pub fn plan(path: &Path) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Err(StoreError::NoDatabase { place: path.into() });
        }
        let lock = Lock::take(path)?;
        let looking = LookingAtFile::at(path)?;
        let damage = looking.survey.damage();
        let mut findings: Vec<Finding> =
            damage.iter().map(|what| Finding::Damage { what: what.clone() }).collect();
        let connection = &looking.reader.connection;
        findings.extend(sqlite_findings(connection, path)?);
        if findings.is_empty() {
            return Ok(None);
        }
        let source = SqliteSource::new(connection, path, looking.layout);
        if source.layout.has_checksums() {
            refuse_newer(&source, &damage)?;
        }
        let secret = schema::secret(connection, path, source.layout)?;
        let (base, last_kept) =
            looking.survey.best().ok_or_else(|| StoreError::BeyondRepair { path: path.to_owned() })?;
        let from = looking.survey.state_of(base);
        let mut state = replay(&source, from, (base, last_kept))?;
        let seq = looking.survey.highest().max(looking.survey.acknowledged.unwrap_or(0));
        let mut lost = Lost::default();
        let read = source.records(Which::Down, &mut |seq, record| {
            if seq <= last_kept {
                return Ok(ControlFlow::Break(()));
            }
            if let Ok(record) = record {
                lost.add(&record);
            }
            Ok(ControlFlow::Continue(()))
        });
        match read {
            Ok(()) | Err(StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        // Each of them may have accepted a job.
        state.next_job += seq - last_kept;
        state.check_invariants().map_err(|source| StoreError::Invariant { path: path.to_owned(), source })?;
        let plan = RepairPlan {
            version: 1,
            database: path.to_owned(),
            findings,
            snapshot_seq: base,
            last_kept,
            given_up: (seq > last_kept).then_some((last_kept + 1, seq)),
            unknown: seq - last_kept - lost.records,
            jobs_gone: lost.gone.iter().copied().take(LISTED_MAX).collect(),
            jobs_changed: lost.changed.difference(&lost.gone).copied().take(LISTED_MAX).collect(),
            attempts: lost.attempts.iter().take(LISTED_MAX).map(ToString::to_string).collect(),
            more: [lost.gone.len(), lost.changed.len(), lost.attempts.len()].iter().any(|n| *n > LISTED_MAX),
            next_job: state.next_job,
        };
        Ok(Some(Self { lock, path: path.to_owned(), looking, secret, state, seq, plan }))
    }

    /// What would be done.
    #[must_use]
    pub fn planned(&self) -> &RepairPlan {
        &self.plan
    }

    /// Copies the files into the folder `copy`, which must not exist, and puts a new database in their place.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::Full`] or [`StoreError::Database`]; the files are then as they were, or as
    /// in the copy.
    pub fn carry_out(self, copy: &Path) -> Result<Repaired, StoreError> {
        self.copy_to(copy)?;
        let new = beside(&self.path, ".repaired");
        remove_database(&new)?;
        let (history_rows, history_whole) = self.write(&new)?;
        let Self { lock, path, looking, seq, plan, .. } = self;
        drop(looking);
        // Without the old log, which SQLite would take for the new database's.
        for suffix in ["-wal", "-shm"] {
            remove(&beside(&path, suffix))?;
        }
        fs::rename(&new, &path).map_err(file("move", &new))?;
        sync(path.parent().unwrap_or(Path::new(".")))?;
        lock.acknowledge(seq);
        lock.sync();
        Ok(Repaired { plan, copy: copy.to_owned(), history_rows, history_whole })
    }

    fn copy_to(&self, folder: &Path) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(file("make the folder", folder))?;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let from = beside(&self.path, suffix);
            let Some(name) = from.file_name().filter(|_| from.exists()) else { continue };
            let to = folder.join(name);
            fs::copy(&from, &to).map_err(file("copy", &from))?;
            sync(&to)?;
        }
        sync(folder)
    }

    /// Writes what is kept into a new database.
    fn write(&self, new: &Path) -> Result<(u64, bool), StoreError> {
        private_file(new)?;
        let mut connection = Connection::open(new).map_err(failed(new, "open the new database"))?;
        schema::set_up_writer(&connection, new)?;
        schema::make(&mut connection, new, &self.secret)?;
        let mut writer = SqliteWriter::open(new, Arc::new(Turn::default()))?;
        writer.write(&self.state, self.seq, Timestamp(0))?;
        drop(writer);
        let transaction = connection.transaction().map_err(failed(new, "copy the accounting"))?;
        let kept = history::copy(&self.looking.reader.connection, &transaction, &self.path)?;
        transaction.commit().map_err(failed(new, "copy the accounting"))?;
        drop(connection);
        sync(new)?;
        Ok(kept)
    }
}

/// A record that a newer musterd wrote is no damage, and must not be given up for it.
fn refuse_newer(source: &SqliteSource<'_>, damage: &[Damage]) -> Result<(), StoreError> {
    for damage in damage {
        let mut newer = None;
        match damage {
            Damage::UnknownSnapshot { seq } => {
                let fault = source.snapshot(*seq)?.err();
                newer = fault.and_then(|fault| fault.not_damage("snapshot", source.place(), *seq));
            }
            Damage::UnknownRecord { seq } => {
                let which = Which::After(seq - 1);
                source.records(which, &mut |seq, record| {
                    let fault = record.err();
                    newer = fault.and_then(|fault| fault.not_damage("journal record", source.place(), seq));
                    Ok(ControlFlow::Break(()))
                })?;
            }
            _ => {}
        }
        if let Some(error) = newer {
            return Err(error);
        }
    }
    Ok(())
}

/// What records that are given up said.
#[derive(Default)]
struct Lost {
    records: u64,
    gone: BTreeSet<JobId>,
    changed: BTreeSet<JobId>,
    attempts: BTreeSet<AttemptKey>,
}

impl Lost {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        self.changed.extend(record.event.job());
        match &record.event {
            Event::JobSubmitted { job, .. } => {
                self.gone.insert(*job);
            }
            Event::AttemptPlaced { key, .. }
            | Event::InstanceReady { key, .. }
            | Event::AttemptGo { key }
            | Event::AttemptRunning { key, .. }
            | Event::AttemptEnding { key, .. }
            | Event::InstanceGone { key, .. }
            | Event::InstanceLost { key, .. }
            | Event::AttemptRan { key, .. }
            | Event::AttemptEnded { key, .. } => {
                self.attempts.insert(*key);
            }
            Event::AttemptsRan { job, ran, .. } => {
                self.attempts.extend(ran.iter().map(|ran| ran.key(*job)));
            }
            Event::LineMade { behind, indices } => {
                let indices = indices.iter().flat_map(IndexRange::indices);
                let task = |index| TaskId { index: TaskIndex(index), ..behind.task };
                self.attempts.extend(indices.map(|index| AttemptKey { task: task(index), attempt: 1 }));
            }
            _ => {}
        }
    }
}

fn file(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::File { doing, path: path.to_owned(), source }
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(file("sync", path))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn remove_database(path: &Path) -> Result<(), StoreError> {
    ["", "-wal", "-shm"].iter().try_for_each(|suffix| remove(&beside(path, suffix)))
}
