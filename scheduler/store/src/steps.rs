//! Accounting of steps: one row for each that has ended.

use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex};
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::error::StoreError;
use crate::history::{EachRow, SqliteReader, unsigned};
use crate::schema::{failed, signed};

/// A step that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepRow {
    /// The attempt that it ran in.
    pub attempt: AttemptKey,
    /// Its number there.
    pub step: u32,
    /// Its name.
    pub name: String,
    /// How it ended, as the client API names it.
    pub state: String,
    /// The highest exit code of its ranks.
    pub exit_code: u32,
    /// The signal that killed a rank, if it ended so; 0 if not.
    pub signal: u32,
    /// Its host list.
    pub nodes: String,
    /// Its ranks.
    pub ranks: u32,
    /// Its cores, all nodes together.
    pub cores: u64,
    /// When it began, in microseconds since 1970.
    pub started_us: u64,
    /// When it ended, in microseconds since 1970.
    pub ended_us: u64,
    /// CPU time of all ranks, in microseconds.
    pub cpu_time_us: u64,
    /// Largest memory of one rank, in bytes.
    pub memory_peak_bytes: u64,
    /// What the client API answers for it, as JSON.
    pub view: String,
}

/// The jobs whose steps are read: from the first number to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobSpan {
    /// The first.
    pub first: JobId,
    /// The last.
    pub last: JobId,
}

/// The table, which databases of earlier releases get at the next start; the same for both databases.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS step_history (
    job               BIGINT NOT NULL,
    task              BIGINT NOT NULL,
    attempt           BIGINT NOT NULL,
    step              BIGINT NOT NULL,
    name              TEXT NOT NULL,
    state             TEXT NOT NULL,
    exit_code         BIGINT NOT NULL,
    signal            BIGINT NOT NULL,
    nodes             TEXT NOT NULL,
    ranks             BIGINT NOT NULL,
    cores             BIGINT NOT NULL,
    started_us        BIGINT NOT NULL,
    ended_us          BIGINT NOT NULL,
    cpu_time_us       BIGINT NOT NULL,
    memory_peak_bytes BIGINT NOT NULL,
    view              TEXT NOT NULL,
    PRIMARY KEY (job, task, attempt, step)
);";

pub(crate) const COLUMNS: &str = "job, task, attempt, step, name, state, exit_code, signal, nodes, ranks, cores, \
     started_us, ended_us, cpu_time_us, memory_peak_bytes, view";

pub(crate) fn write(connection: &Connection, row: &StepRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT OR REPLACE INTO step_history ({COLUMNS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
    ))?;
    statement.execute(params![
        signed(row.attempt.task.job.0),
        row.attempt.task.index.0,
        row.attempt.attempt,
        row.step,
        row.name,
        row.state,
        row.exit_code,
        row.signal,
        row.nodes,
        row.ranks,
        signed(row.cores),
        signed(row.started_us),
        signed(row.ended_us),
        signed(row.cpu_time_us),
        signed(row.memory_peak_bytes),
        row.view,
    ])?;
    Ok(())
}

impl SqliteReader {
    pub fn steps(&self, jobs: JobSpan, limit: usize) -> Result<Vec<StepRow>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM step_history WHERE job BETWEEN ?1 AND ?2 \
                     ORDER BY job, task, attempt, step LIMIT ?3"
                ))?
                .query_map(
                    params![signed(jobs.first.0), signed(jobs.last.0), signed(limit as u64)],
                    step_row,
                )?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(failed(&self.path, "read the history of steps"))
    }

    pub fn each_step(&self, each: EachRow<'_, StepRow>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of steps");
        // What an earlier release has left, and no start has touched since, has no such table.
        if !self.connection.table_exists(None, "step_history").map_err(&failed)? {
            return Ok(());
        }
        let sql = format!("SELECT {COLUMNS} FROM step_history ORDER BY job, task, attempt, step");
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            each(step_row(row).map_err(&failed)?)?;
        }
        Ok(())
    }
}

fn step_row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        attempt: key(row.get(0)?, row.get(1)?, row.get(2)?),
        step: row.get(3)?,
        name: row.get(4)?,
        state: row.get(5)?,
        exit_code: row.get(6)?,
        signal: row.get(7)?,
        nodes: row.get(8)?,
        ranks: row.get(9)?,
        cores: unsigned(row.get(10)?),
        started_us: unsigned(row.get(11)?),
        ended_us: unsigned(row.get(12)?),
        cpu_time_us: unsigned(row.get(13)?),
        memory_peak_bytes: unsigned(row.get(14)?),
        view: row.get(15)?,
    })
}

/// The attempt of a row.
pub(crate) fn key(job: i64, task: u32, attempt: u32) -> AttemptKey {
    AttemptKey { task: TaskId { job: JobId(unsigned(job)), index: TaskIndex(task) }, attempt }
}
