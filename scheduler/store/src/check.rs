//! Says whether everything that is stored is in order, without changing anything.

use std::collections::HashMap;
use std::path::Path;

use muster_core::ids::{JobId, TaskId, TaskIndex};
use muster_core::state::{Job, State};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde::Serialize;

use crate::damage::Damage;
use crate::error::StoreError;
use crate::history::{HistoryReader, Reader, SqliteReader, TaskRow};
use crate::lock;
use crate::place::Place;
use crate::read::{Source, SqliteSource};
use crate::schema::{self, Layout, failed};
use crate::survey::{Kind, Survey, replay};

/// Findings of one kind that are listed one by one.
const LISTED_MAX: usize = 100;

/// Something that is not in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// Something that was stored is not as it was stored.
    #[error("{what}")]
    Damage {
        /// What.
        what: Damage,
    },
    /// SQLite finds fault with its file.
    #[error("SQLite's own check: {message}")]
    Sqlite {
        /// What it says.
        message: String,
    },
    /// The older snapshot and the records after it do not give the newer snapshot.
    #[error(
        "the snapshot at record {older} and the records since do not add up to the one at record {newer}"
    )]
    Snapshots {
        /// The last record that the older one covers.
        older: u64,
        /// The last record that the newer one covers.
        newer: u64,
    },
    /// The state cannot be.
    #[error("an invariant of the state does not hold: {message}")]
    Invariant {
        /// Which one.
        message: String,
    },
    /// A job or task and its row of the accounting disagree.
    #[error("the accounting of {subject} {problem}")]
    Accounting {
        /// The job or task.
        subject: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// There are more findings like the ones before.
    #[error("and {count} more of the accounting")]
    More {
        /// How many.
        count: u64,
    },
}

/// A snapshot in a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    /// The last record that it covers.
    pub seq: u64,
    /// Whether it is as it was written.
    pub whole: bool,
}

/// What the whole part of a database adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateReport {
    /// The last record in it.
    pub seq: u64,
    /// The snapshot under it; 0 without.
    pub snapshot_seq: u64,
    /// Jobs in memory.
    pub jobs: usize,
    /// Live attempts.
    pub live: usize,
    /// Waiting tasks.
    pub waiting: u64,
    /// The id that the next job will have.
    pub next_job: u64,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// The database.
    pub database: String,
    /// Version of its tables.
    pub schema_version: u32,
    /// The snapshots, the newest first.
    pub snapshots: Vec<SnapshotReport>,
    /// How many records are whole.
    pub records: u64,
    /// The last record that is known to have been acknowledged.
    pub acknowledged: Option<u64>,
    /// What the whole part adds up to; none if no snapshot is whole and the records do not reach back to the first.
    pub state: Option<StateReport>,
    /// What is not in order.
    pub findings: Vec<Finding>,
}

/// A database that is looked at and not changed, at one instant even if a controller runs on it.
pub(crate) struct Looking {
    pub reader: HistoryReader,
    pub layout: Layout,
    pub survey: Survey,
}

/// The same of a SQLite database.
pub(crate) struct LookingAtFile {
    pub reader: SqliteReader,
    pub layout: Layout,
    pub survey: Survey,
}

impl LookingAtFile {
    /// Opens the database and reads all of it.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NoDatabase { place: path.into() });
        }
        // Read before the journal, which may grow meanwhile.
        let acknowledged = lock::acknowledged(path);
        let reader = SqliteReader::open(path)?;
        let connection = &reader.connection;
        let failed = failed(path, "read the database");
        // The write-ahead log stays as it is: it may be what is damaged.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&failed)?;
        connection.execute_batch("BEGIN").map_err(&failed)?;
        let layout = schema::layout(connection, path)?;
        let survey = Survey::take(&SqliteSource::new(connection, path, layout), acknowledged)?;
        Ok(Self { reader, layout, survey })
    }
}

impl Looking {
    /// Opens the database and reads all of it.
    pub fn at(place: &Place) -> Result<Self, StoreError> {
        match place {
            Place::Sqlite(path) => {
                let LookingAtFile { reader, layout, survey } = LookingAtFile::at(path)?;
                Ok(Self { reader: HistoryReader(Reader::Sqlite(reader)), layout, survey })
            }
            Place::Postgres(server) => {
                let reader = crate::postgres::Reader::open(server)?;
                let acknowledged = reader.begin()?;
                let survey = Survey::take(&reader, Some(acknowledged))?;
                Ok(Self { reader: HistoryReader(Reader::Postgres(reader)), layout: Layout::V2, survey })
            }
        }
    }

    /// The database, for reading it again.
    pub fn source(&self) -> Box<dyn Source + '_> {
        match &self.reader.0 {
            Reader::Sqlite(reader) => {
                Box::new(SqliteSource::new(&reader.connection, &reader.path, self.layout))
            }
            Reader::Postgres(reader) => Box::new(reader),
        }
    }

    /// Version of the tables.
    pub fn schema_version(&self) -> u32 {
        if self.layout.has_checksums() { 2 } else { 1 }
    }
}

/// Reads everything in the database: SQLite's own check, every checksum, every record; adds the records up,
/// and compares what they give with the invariants of the state, with the newer snapshot, and with the accounting.
/// A controller may run on it meanwhile.
///
/// # Errors
/// [`StoreError::NoDatabase`], [`StoreError::NewerSchema`]; [`StoreError::Corrupt`] if not even the names of the
/// tables can be read.
pub fn check(place: impl Into<Place>) -> Result<Report, StoreError> {
    let place = place.into();
    let looking = Looking::at(&place)?;
    let survey = &looking.survey;
    let mut findings: Vec<Finding> =
        survey.damage().into_iter().map(|what| Finding::Damage { what }).collect();
    if let Reader::Sqlite(reader) = &looking.reader.0 {
        findings.extend(sqlite_findings(&reader.connection, &reader.path)?);
    }
    let mut state_report = None;
    if let Some((base, last)) = survey.best() {
        let from = survey.state_of(base);
        let state = replay(&*looking.source(), from, (base, last))?;
        findings.extend(snapshot_finding(&looking)?);
        if let Err(broken) = state.check_invariants() {
            findings.push(Finding::Invariant { message: broken.to_string() });
        }
        match accounting_findings(&looking.reader, &state) {
            Ok(found) => findings.extend(found),
            Err(StoreError::Corrupt { .. }) => {
                findings.push(Finding::Damage {
                    what: Damage::Unreadable {
                        table: "job_history, task_history, step_history, attempt_history, away_history",
                    },
                });
            }
            Err(error) => return Err(error),
        }
        state_report = Some(StateReport {
            seq: last,
            snapshot_seq: base,
            jobs: state.jobs.len(),
            live: state.live_count(),
            waiting: state.waiting_count(),
            next_job: state.next_job,
        });
    }
    let whole = |(seq, state): &(u64, Result<_, _>)| SnapshotReport { seq: *seq, whole: state.is_ok() };
    let records =
        survey.runs.iter().filter(|run| run.kind == Kind::Whole).map(|run| run.last - run.first + 1);
    Ok(Report {
        version: 1,
        database: place.to_string(),
        schema_version: looking.schema_version(),
        snapshots: survey.snapshots.iter().map(whole).collect(),
        records: records.sum(),
        acknowledged: survey.acknowledged,
        state: state_report,
        findings,
    })
}

pub(crate) fn sqlite_findings(connection: &Connection, path: &Path) -> Result<Vec<Finding>, StoreError> {
    let read = || {
        let mut statement = connection.prepare(&format!("PRAGMA integrity_check({LISTED_MAX})"))?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
    };
    match read().map_err(failed(path, "check the database")) {
        Ok(messages) => {
            let faults = messages.into_iter().filter(|message| message != "ok");
            Ok(faults.map(|message| Finding::Sqlite { message }).collect())
        }
        Err(StoreError::Corrupt { source, .. }) => Ok(vec![Finding::Sqlite { message: source.to_string() }]),
        Err(error) => Err(error),
    }
}

/// Compares the newest snapshot with what the one before it and the records between them give.
fn snapshot_finding(looking: &Looking) -> Result<Option<Finding>, StoreError> {
    let survey = &looking.survey;
    let [(newer, Ok(expected)), (older, Ok(from))] = survey.snapshots.as_slice() else { return Ok(None) };
    let between = |run: &&crate::survey::Run| run.first <= older + 1 && run.last >= *newer;
    if !survey.runs.iter().filter(|run| run.kind == Kind::Whole).any(|run| between(&run)) {
        return Ok(None);
    }
    let found = replay(&*looking.source(), from.clone(), (*older, *newer))?;
    let differs = found != *expected;
    Ok(differs.then_some(Finding::Snapshots { older: *older, newer: *newer }))
}

/// Compares the jobs in memory with their rows.
fn accounting_findings(reader: &HistoryReader, state: &State) -> Result<Vec<Finding>, StoreError> {
    let mut found = Vec::new();
    let mut more = 0;
    let mut add = |subject: String, problem: &'static str| {
        if found.len() < LISTED_MAX {
            found.push(Finding::Accounting { subject, problem });
        } else {
            more += 1;
        }
    };
    for job in state.jobs.values() {
        if let Some(problem) = job_problem(reader, job)? {
            add(format!("job {}", job.id), problem);
        }
        let rows = reader.tasks(job.id, usize::MAX)?;
        for (index, problem) in task_problems(job, &rows) {
            add(format!("task {}", TaskId { job: job.id, index }), problem);
        }
    }
    if let Some(newest) = reader.jobs(JobId(u64::MAX), None, 1)?.first()
        && newest.job.0 >= state.next_job
    {
        add(format!("job {}", newest.job), "is there, and no record has made such a job");
    }
    found.extend((more > 0).then_some(Finding::More { count: more }));
    Ok(found)
}

fn job_problem(reader: &HistoryReader, job: &Job) -> Result<Option<&'static str>, StoreError> {
    let row = reader.job(job.id)?;
    Ok(match (row, job.finished_at) {
        (None, None) => None,
        (None, Some(_)) => Some("is missing: the job has ended"),
        (Some(_), None) => Some("is there although the job has not ended"),
        (Some(row), Some(ended)) => {
            let is_same = row.uid == job.spec.user.uid
                && row.name == job.spec.name
                && row.submitted_us == job.submitted_at.0
                && row.ended_us == ended.0;
            (!is_same).then_some("tells of another job, or of another end")
        }
    })
}

fn task_problems(job: &Job, rows: &[TaskRow]) -> Vec<(TaskIndex, &'static str)> {
    let (single, ranges): (Vec<&TaskRow>, Vec<&TaskRow>) =
        rows.iter().partition(|row| row.span.first == row.span.last);
    let by_index: HashMap<u32, &TaskRow> = single.iter().map(|row| (row.span.first, *row)).collect();
    let row_of = |index: TaskIndex| {
        let range = || ranges.iter().copied().find(|row| row.span.contains(index));
        by_index.get(&index.0).copied().or_else(range)
    };
    let mut found = Vec::new();
    for (index, finished) in &job.finished {
        match row_of(*index) {
            None => found.push((*index, "is missing: the task has ended")),
            Some(row) if row.ended_us != finished.at.0 => found.push((*index, "tells of another end")),
            Some(_) => {}
        }
    }
    for row in single {
        let index = TaskIndex(row.span.first);
        if !job.finished.contains_key(&index) {
            found.push((index, "is there although the task has not ended"));
        }
    }
    found
}
