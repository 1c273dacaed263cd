//! Accounting: what ended, for users and for their accountants.

use std::path::{Path, PathBuf};

use muster_core::ids::{JobId, TaskIndex};
use rusqlite::types::Value;
use rusqlite::{
    CachedStatement, Connection, OpenFlags, OptionalExtension as _, Row, Transaction, params,
    params_from_iter,
};
use serde::Serialize;

use crate::error::StoreError;
use crate::place::Place;
use crate::schema::{failed, set_up_reader, signed};
use crate::steps::{self, JobSpan, StepRow};
use crate::usage::{self, AttemptRow, AwayRow};

/// A row for one of the accounting tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryRow {
    /// A job ended.
    Job(Box<JobRow>),
    /// A task, or a range of an array, ended.
    Task(Box<TaskRow>),
    /// A step ended.
    Step(Box<StepRow>),
    /// An attempt ended, and its task waits again.
    Attempt(Box<AttemptRow>),
    /// A node takes no work any more.
    Away(Box<AwayRow>),
    /// A node takes work again.
    Back {
        /// Its name.
        node: String,
        /// When, in microseconds since 1970.
        at_us: u64,
    },
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRow {
    /// The job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Login name of its owner.
    pub user: String,
    /// User id of its owner.
    pub uid: u32,
    /// The pool.
    pub pool: String,
    /// How it ended, as the client API names it.
    pub state: String,
    /// How many tasks it had.
    pub tasks: u64,
    /// When it was accepted, in microseconds since 1970.
    pub submitted_us: u64,
    /// When its first task started, in microseconds since 1970.
    pub started_us: Option<u64>,
    /// When its last task ended, in microseconds since 1970.
    pub ended_us: u64,
    /// What the client API answers for it, as JSON, without its tasks.
    pub detail: String,
}

/// Tasks that ended in the same way at the same instant: one, or a cancelled range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TaskSpan {
    /// The first.
    pub first: u32,
    /// The last; the first again for a single task.
    pub last: u32,
    /// The distance between them, at least 1.
    pub step: u32,
}

impl TaskSpan {
    /// One task.
    #[must_use]
    pub fn one(index: TaskIndex) -> Self {
        Self { first: index.0, last: index.0, step: 1 }
    }

    /// Whether the task is one of them.
    #[must_use]
    pub fn contains(&self, index: TaskIndex) -> bool {
        (self.first..=self.last).contains(&index.0) && (index.0 - self.first).is_multiple_of(self.step.max(1))
    }
}

/// A task that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskRow {
    /// The job.
    pub job: JobId,
    /// Which of its tasks.
    pub span: TaskSpan,
    /// How many attempts there were.
    pub attempts: u32,
    /// The job's name.
    pub name: String,
    /// Login name of the owner.
    pub user: String,
    /// User id of the owner.
    pub uid: u32,
    /// The pool.
    pub pool: String,
    /// How it ended, as the client API names it.
    pub state: String,
    /// Exit code of the script.
    pub exit_code: Option<u32>,
    /// Signal that ended the script.
    pub signal: Option<u32>,
    /// How it ended, a sentence.
    pub reason: String,
    /// Host list of the last attempt.
    pub nodes: String,
    /// Cores of the last attempt, all nodes together.
    pub cores: u64,
    /// When the job was accepted, in microseconds since 1970.
    pub submitted_us: u64,
    /// When the script started, in microseconds since 1970.
    pub started_us: Option<u64>,
    /// When it ended, in microseconds since 1970.
    pub ended_us: u64,
    /// CPU time of the last attempt, in microseconds.
    pub cpu_time_us: u64,
    /// Largest memory of one node, in bytes.
    pub memory_peak_bytes: u64,
    /// What the client API answers for it beyond that, as JSON; none for tasks that never started. In rows of earlier releases, all that
    /// it answers.
    pub view: Option<String>,
}

/// Writes rows within the transaction of the records that they come from. A row that is there already is
/// written again: the same facts make the same row.
pub(crate) fn write(connection: &Connection, rows: &[HistoryRow]) -> rusqlite::Result<()> {
    // Tasks come by thousands: what adds them is looked for once.
    let mut tasks = None;
    for row in rows {
        match row {
            HistoryRow::Job(row) => write_job(connection, row)?,
            HistoryRow::Task(row) => {
                let inserter = match &mut tasks {
                    Some(inserter) => inserter,
                    None => tasks.insert(task_inserter(connection)?),
                };
                write_task(inserter, row)?;
            }
            HistoryRow::Step(row) => steps::write(connection, row)?,
            HistoryRow::Attempt(row) => usage::write_attempt(connection, row)?,
            HistoryRow::Away(row) => usage::write_away(connection, row)?,
            HistoryRow::Back { node, at_us } => usage::write_back(connection, node, *at_us)?,
        }
    }
    Ok(())
}

fn write_job(connection: &Connection, row: &JobRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO job_history \
         (job, name, user, uid, pool, state, tasks, submitted_us, started_us, ended_us, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    statement.execute(params![
        signed(row.job.0),
        row.name,
        row.user,
        row.uid,
        row.pool,
        row.state,
        signed(row.tasks),
        signed(row.submitted_us),
        row.started_us.map(signed),
        signed(row.ended_us),
        row.detail,
    ])?;
    Ok(())
}

fn task_inserter(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(
        "INSERT OR REPLACE INTO task_history \
         (job, task, task_last, task_step, attempts, name, user, uid, pool, state, exit_code, signal, reason, \
          nodes, cores, submitted_us, started_us, ended_us, cpu_time_us, memory_peak_bytes, view) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
    )
}

fn write_task(inserter: &mut CachedStatement<'_>, row: &TaskRow) -> rusqlite::Result<()> {
    inserter.execute(params![
        signed(row.job.0),
        row.span.first,
        row.span.last,
        row.span.step,
        row.attempts,
        row.name,
        row.user,
        row.uid,
        row.pool,
        row.state,
        row.exit_code,
        row.signal,
        row.reason,
        row.nodes,
        signed(row.cores),
        signed(row.submitted_us),
        row.started_us.map(signed),
        signed(row.ended_us),
        signed(row.cpu_time_us),
        signed(row.memory_peak_bytes),
        row.view,
    ])?;
    Ok(())
}

/// Copies what can be read of the accounting into another database. Gives how many rows, and whether that is all.
pub(crate) fn copy(from: &Connection, to: &Transaction<'_>, path: &Path) -> Result<(u64, bool), StoreError> {
    let (mut copied, mut whole) = (0, true);
    for (table, columns, key) in [
        ("job_history", JOB_COLUMNS, "job"),
        ("task_history", TASK_COLUMNS, "job {}, task"),
        ("step_history", steps::COLUMNS, "job {}, task {}, attempt {}, step"),
        ("attempt_history", usage::ATTEMPT_COLUMNS, "job {}, task {}, attempt"),
        ("away_history", usage::AWAY_COLUMNS, "node {}, since_us"),
    ] {
        // Databases of earlier releases have fewer tables.
        if let Ok(false) = from.table_exists(None, table) {
            continue;
        }
        let count = columns.split(',').count();
        let marks = vec!["?"; count].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})");
        // From both ends, up to what cannot be read.
        for order in ["ASC", "DESC"] {
            let key = key.replace("{}", order);
            let select = format!("SELECT {columns} FROM {table} ORDER BY {key} {order}");
            let mut read = || -> rusqlite::Result<()> {
                let mut statement = from.prepare(&select)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let values = (0..count).map(|i| row.get::<_, Value>(i)).collect::<Result<Vec<_>, _>>()?;
                    copied += to.prepare_cached(&insert)?.execute(params_from_iter(values))? as u64;
                }
                Ok(())
            };
            match read().map_err(failed(path, "copy the accounting")) {
                Ok(()) => break,
                Err(StoreError::Corrupt { .. }) => whole = false,
                Err(error) => return Err(error),
            }
        }
    }
    Ok((copied, whole))
}

/// What is told of a row that was read.
pub(crate) type EachRow<'a, R> = &'a mut dyn FnMut(R) -> Result<(), StoreError>;

/// A period of the accounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period<'a> {
    /// Its first instant, in microseconds since 1970.
    pub since_us: u64,
    /// Its last one.
    pub until_us: u64,
    /// Only jobs of this user; of all without.
    pub user: Option<&'a str>,
}

/// Reads the accounting tables beside the writer, on a connection of its own that cannot write.
#[derive(Debug)]
pub struct HistoryReader(pub(crate) Reader);

#[derive(Debug)]
pub(crate) enum Reader {
    Sqlite(SqliteReader),
    Postgres(crate::postgres::Reader),
}

impl HistoryReader {
    /// Opens the database that a [`crate::Store`] made.
    ///
    /// # Errors
    /// [`StoreError::Database`] if there is none or it cannot be read.
    pub fn open(place: impl Into<Place>) -> Result<Self, StoreError> {
        Ok(Self(match place.into() {
            Place::Sqlite(path) => Reader::Sqlite(SqliteReader::open(&path)?),
            Place::Postgres(server) => Reader::Postgres(crate::postgres::Reader::open(&server)?),
        }))
    }

    /// A job that has ended.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it cannot be read.
    pub fn job(&self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.job(job),
            Reader::Postgres(reader) => reader.job(job),
        }
    }

    /// The jobs that ended before job `below`, newest first, at most `limit`; of one user, if one is named.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they cannot be read.
    pub fn jobs(&self, below: JobId, user: Option<&str>, limit: usize) -> Result<Vec<JobRow>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.jobs(below, user, limit),
            Reader::Postgres(reader) => reader.jobs(below, user, limit),
        }
    }

    /// The tasks of a job that have ended, by index, at most `limit` rows.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they cannot be read.
    pub fn tasks(&self, job: JobId, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.tasks(job, limit),
            Reader::Postgres(reader) => reader.tasks(job, limit),
        }
    }

    /// The jobs that were there at some instant of a period and have ended since, with their tasks that have ended; by
    /// job and index, at most `limit` of each.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they cannot be read.
    pub fn period(
        &self,
        period: &Period<'_>,
        limit: usize,
    ) -> Result<(Vec<JobRow>, Vec<TaskRow>), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.period(period, limit),
            Reader::Postgres(reader) => reader.period(period, limit),
        }
    }

    /// The steps that have ended of these jobs, by job, task, attempt and number, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they cannot be read.
    pub fn steps(&self, jobs: JobSpan, limit: usize) -> Result<Vec<StepRow>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.steps(jobs, limit),
            Reader::Postgres(reader) => reader.steps(jobs, limit),
        }
    }

    /// One task of a job, if it has ended.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it cannot be read.
    pub fn task(&self, job: JobId, index: TaskIndex) -> Result<Option<TaskRow>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.task(job, index),
            Reader::Postgres(reader) => reader.task(job, index),
        }
    }

    pub(crate) fn each_job(&self, each: EachRow<'_, JobRow>) -> Result<(), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.each_job(each),
            Reader::Postgres(reader) => reader.each_job(each),
        }
    }

    pub(crate) fn each_task(&self, each: EachRow<'_, TaskRow>) -> Result<(), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.each_task(each),
            Reader::Postgres(reader) => reader.each_task(each),
        }
    }

    pub(crate) fn each_step(&self, each: EachRow<'_, StepRow>) -> Result<(), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.each_step(each),
            Reader::Postgres(reader) => reader.each_step(each),
        }
    }
}

/// Reads a SQLite database's tables, on a connection that cannot write.
#[derive(Debug)]
pub(crate) struct SqliteReader {
    pub connection: Connection,
    pub path: PathBuf,
}

const JOB_COLUMNS: &str =
    "job, name, user, uid, pool, state, tasks, submitted_us, started_us, ended_us, detail";
const TASK_COLUMNS: &str = "job, task, task_last, task_step, attempts, name, user, uid, pool, state, exit_code, \
     signal, reason, nodes, cores, submitted_us, started_us, ended_us, cpu_time_us, memory_peak_bytes, view";

impl SqliteReader {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(failed(path, "open the history"))?;
        set_up_reader(&connection, path)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    pub fn job(&self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!("SELECT {JOB_COLUMNS} FROM job_history WHERE job = ?1"))?
                .query_row([signed(job.0)], job_row)
                .optional()
        };
        read().map_err(failed(&self.path, "read a job's history"))
    }

    pub fn jobs(&self, below: JobId, user: Option<&str>, limit: usize) -> Result<Vec<JobRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {JOB_COLUMNS} FROM job_history WHERE job < ?1 AND (?2 IS NULL OR user = ?2) \
                     ORDER BY job DESC LIMIT ?3"
                ))?
                .query_map(params![signed(below.0), user, signed(limit as u64)], job_row)?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(failed(&self.path, "read the history of jobs"))
    }

    pub fn tasks(&self, job: JobId, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {TASK_COLUMNS} FROM task_history WHERE job = ?1 ORDER BY task LIMIT ?2"
                ))?
                .query_map(params![signed(job.0), signed(limit as u64)], task_row)?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(failed(&self.path, "read the history of tasks"))
    }

    pub fn period(
        &self,
        period: &Period<'_>,
        limit: usize,
    ) -> Result<(Vec<JobRow>, Vec<TaskRow>), StoreError> {
        let failed = failed(&self.path, "read the history of a period");
        const WHERE: &str = "WHERE ended_us >= ?1 AND submitted_us <= ?2 AND (?3 IS NULL OR user = ?3)";
        let (since, until, limit) = (signed(period.since_us), signed(period.until_us), signed(limit as u64));
        let values = params![since, until, period.user, limit];
        let jobs = || {
            let sql = format!("SELECT {JOB_COLUMNS} FROM job_history {WHERE} ORDER BY job LIMIT ?4");
            self.connection.prepare_cached(&sql)?.query_map(values, job_row)?.collect::<Result<Vec<_>, _>>()
        };
        let tasks = || {
            let sql = format!(
                "SELECT {TASK_COLUMNS} FROM task_history WHERE job IN (SELECT job FROM job_history {WHERE}) \
                 ORDER BY job, task LIMIT ?4"
            );
            self.connection.prepare_cached(&sql)?.query_map(values, task_row)?.collect::<Result<Vec<_>, _>>()
        };
        Ok((jobs().map_err(&failed)?, tasks().map_err(&failed)?))
    }

    pub fn task(&self, job: JobId, index: TaskIndex) -> Result<Option<TaskRow>, StoreError> {
        let read = || -> rusqlite::Result<Option<TaskRow>> {
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {TASK_COLUMNS} FROM task_history WHERE job = ?1 AND task <= ?2 AND task_last >= ?2 \
                 ORDER BY task DESC"
            ))?;
            let rows = statement.query_map(params![signed(job.0), index.0], task_row)?;
            for row in rows {
                let row = row?;
                if row.span.contains(index) {
                    return Ok(Some(row));
                }
            }
            Ok(None)
        };
        read().map_err(failed(&self.path, "read a task's history"))
    }

    fn each_job(&self, each: EachRow<'_, JobRow>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of jobs");
        let sql = format!("SELECT {JOB_COLUMNS} FROM job_history ORDER BY job");
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([], job_row).map_err(&failed)?;
        rows.into_iter().try_for_each(|row| each(row.map_err(&failed)?))
    }

    fn each_task(&self, each: EachRow<'_, TaskRow>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of tasks");
        let sql = format!("SELECT {TASK_COLUMNS} FROM task_history ORDER BY job, task");
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([], task_row).map_err(&failed)?;
        rows.into_iter().try_for_each(|row| each(row.map_err(&failed)?))
    }
}

/// Numbers were written from unsigned ones, so that none is negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        job: JobId(unsigned(row.get(0)?)),
        name: row.get(1)?,
        user: row.get(2)?,
        uid: row.get(3)?,
        pool: row.get(4)?,
        state: row.get(5)?,
        tasks: unsigned(row.get(6)?),
        submitted_us: unsigned(row.get(7)?),
        started_us: row.get::<_, Option<i64>>(8)?.map(unsigned),
        ended_us: unsigned(row.get(9)?),
        detail: row.get(10)?,
    })
}

fn task_row(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        job: JobId(unsigned(row.get(0)?)),
        span: TaskSpan { first: row.get(1)?, last: row.get(2)?, step: row.get(3)? },
        attempts: row.get(4)?,
        name: row.get(5)?,
        user: row.get(6)?,
        uid: row.get(7)?,
        pool: row.get(8)?,
        state: row.get(9)?,
        exit_code: row.get(10)?,
        signal: row.get(11)?,
        reason: row.get(12)?,
        nodes: row.get(13)?,
        cores: unsigned(row.get(14)?),
        submitted_us: unsigned(row.get(15)?),
        started_us: row.get::<_, Option<i64>>(16)?.map(unsigned),
        ended_us: unsigned(row.get(17)?),
        cpu_time_us: unsigned(row.get(18)?),
        memory_peak_bytes: unsigned(row.get(19)?),
        view: row.get(20)?,
    })
}
