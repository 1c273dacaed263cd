//! What was used in a period: attempts that ended, whether or not another one followed, and nodes that were away.
//!
//! The last attempt of a task is in `task_history`. Those before it, and the times in which a node took no work, have tables
//! of their own. All of them are read in pages, so that no reader keeps others from theirs for long.

use muster_core::ids::{AttemptKey, JobId};
use rusqlite::{Connection, params};
use serde::Serialize;

use crate::error::StoreError;
use crate::history::{EachRow, HistoryReader, Reader, SqliteReader, unsigned};
use crate::schema::{failed, signed};
use crate::steps::key;

/// An attempt that ended, and after which its task waited again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// The attempt.
    pub attempt: AttemptKey,
    /// Login name of the owner.
    pub user: String,
    /// The account that is charged, if there is one.
    pub account: Option<String>,
    /// The pool.
    pub pool: String,
    /// Cores, all nodes together.
    pub cores: u64,
    /// When its script started, or when it was placed if it came to nothing, in microseconds since 1970.
    pub started_us: u64,
    /// When nothing of it was left.
    pub ended_us: u64,
    /// What the client API answered for the task then, as JSON.
    pub view: String,
}

/// A time in which a node takes no work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AwayRow {
    /// The node's name.
    pub node: String,
    /// Since when, in microseconds since 1970.
    pub since_us: u64,
    /// Until when; none while that is not known.
    pub until_us: Option<u64>,
    /// Why.
    pub reason: String,
}

/// For how long a node took no work within a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwayTime {
    /// The node's name.
    pub node: String,
    /// For so long, in microseconds.
    pub away_us: u64,
    /// Whether it takes none still.
    pub is_open: bool,
}

/// Where a page of usage goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// After this task of a job that ended at this instant.
    Task {
        /// When its job ended, in microseconds since 1970.
        job_ended_us: u64,
        /// The job.
        job: JobId,
        /// The task; none if all of them are to come.
        task: Option<u32>,
    },
    /// After this earlier attempt.
    Attempt {
        /// When it ended, in microseconds since 1970.
        ended_us: u64,
        /// Which one; none if all that ended then are to come.
        attempt: Option<AttemptKey>,
    },
}

/// What one attempt used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedRow {
    /// The attempt; of a task that had none, its number is 0.
    pub attempt: AttemptKey,
    /// Login name of the owner.
    pub user: String,
    /// The account that was charged, if there was one.
    pub account: Option<String>,
    /// The pool.
    pub pool: String,
    /// Cores, all nodes together.
    pub cores: u64,
    /// When its script started, in microseconds since 1970; if none did, `view` may know when it was placed.
    pub started_us: Option<u64>,
    /// When nothing of it was left.
    pub ended_us: u64,
    /// What the client API answered for the task, as JSON, where that was asked for or is needed.
    pub view: Option<String>,
}

/// A page of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePage {
    /// What was used.
    pub rows: Vec<UsedRow>,
    /// Where the next page goes on; none after the last one.
    pub next: Option<After>,
}

/// Which attempts a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageQuery {
    /// The end of the period, in microseconds since 1970: what was submitted later is left out.
    pub until_us: u64,
    /// Whether rows have their `view`.
    pub views: bool,
    /// Most rows of a page.
    pub limit: usize,
}

/// The tables, which databases of earlier releases get at the next start; the same for both databases.
pub(crate) const TABLES: &str = r#"CREATE TABLE IF NOT EXISTS attempt_history (
    job        BIGINT NOT NULL,
    task       BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    "user"     TEXT NOT NULL,
    account    TEXT,
    pool       TEXT NOT NULL,
    cores      BIGINT NOT NULL,
    started_us BIGINT NOT NULL,
    ended_us   BIGINT NOT NULL,
    view       TEXT NOT NULL,
    PRIMARY KEY (job, task, attempt)
);
CREATE INDEX IF NOT EXISTS attempt_history_by_end ON attempt_history (ended_us);
CREATE TABLE IF NOT EXISTS away_history (
    node     TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    until_us BIGINT NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (node, since_us)
);"#;

/// The end of a time that has not ended.
pub(crate) const OPEN: i64 = i64::MAX;

pub(crate) const ATTEMPT_COLUMNS: &str =
    r#"job, task, attempt, "user", account, pool, cores, started_us, ended_us, view"#;
pub(crate) const AWAY_COLUMNS: &str = "node, since_us, until_us, reason";

/// Last attempts, by the end of their jobs. `{account}` is how the database looks into a text of JSON.
const TASKS: &str = r#"SELECT j.job, t.task, t.attempts, t."user", {account}, t.pool, t.cores, t.started_us, t.ended_us,
     CASE WHEN {views} OR t.started_us IS NULL THEN t.view END, j.ended_us
     FROM job_history j JOIN task_history t ON t.job = j.job
     WHERE j.ended_us >= {p1} AND (j.ended_us > {p1} OR j.job > {p2} OR (j.job = {p2} AND t.task > {p3}))
     AND j.submitted_us < {p4} AND t.cores > 0 ORDER BY j.ended_us, j.job, t.task LIMIT {p5}"#;

/// Earlier attempts, by their end.
const ATTEMPTS: &str = r#"SELECT job, task, attempt, "user", account, pool, cores, started_us, ended_us, view, ended_us
     FROM attempt_history WHERE ended_us >= {p1} AND (ended_us > {p1} OR job > {p2}
     OR (job = {p2} AND (task > {p3} OR (task = {p3} AND attempt > {p4}))))
     AND started_us < {p5} ORDER BY ended_us, job, task, attempt LIMIT {p6}"#;

/// The question for a page, and its parameters.
pub(crate) fn question(after: After, query: &UsageQuery, mark: char, account: &str) -> (String, Vec<i64>) {
    let (sql, parameters) = match after {
        After::Task { job_ended_us, job, task } => {
            let task = task.map_or(-1, i64::from);
            (TASKS, vec![signed(job_ended_us), signed(job.0), task, signed(query.until_us)])
        }
        After::Attempt { ended_us, attempt } => {
            let (job, task, number) = match attempt {
                Some(key) => (signed(key.task.job.0), key.task.index.0.into(), key.attempt.into()),
                None => (-1, -1, -1),
            };
            (ATTEMPTS, vec![signed(ended_us), job, task, number, signed(query.until_us)])
        }
    };
    let mut sql =
        sql.replace("{account}", account).replace("{views}", if query.views { "true" } else { "false" });
    let parameters: Vec<i64> = parameters.into_iter().chain([signed(query.limit as u64)]).collect();
    for place in 1..=parameters.len() {
        sql = sql.replace(&format!("{{p{place}}}"), &format!("{mark}{place}"));
    }
    (sql, parameters)
}

/// Where the page after these rows goes on; the second of each pair is the instant that they are ordered by.
pub(crate) fn page(rows: Vec<(UsedRow, u64)>, after: After, limit: usize) -> UsagePage {
    let next = rows.last().filter(|_| rows.len() == limit).map(|(row, ended_us)| match after {
        After::Task { .. } => After::Task {
            job_ended_us: *ended_us,
            job: row.attempt.task.job,
            task: Some(row.attempt.task.index.0),
        },
        After::Attempt { .. } => After::Attempt { ended_us: *ended_us, attempt: Some(row.attempt) },
    });
    UsagePage { rows: rows.into_iter().map(|(row, _)| row).collect(), next }
}

pub(crate) fn write_attempt(connection: &Connection, row: &AttemptRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT OR REPLACE INTO attempt_history ({ATTEMPT_COLUMNS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    ))?;
    statement.execute(params![
        signed(row.attempt.task.job.0),
        row.attempt.task.index.0,
        row.attempt.attempt,
        row.user,
        row.account,
        row.pool,
        signed(row.cores),
        signed(row.started_us),
        signed(row.ended_us),
        row.view,
    ])?;
    Ok(())
}

pub(crate) fn write_away(connection: &Connection, row: &AwayRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT OR REPLACE INTO away_history ({AWAY_COLUMNS}) VALUES (?1, ?2, ?3, ?4)"
    ))?;
    statement.execute(params![
        row.node,
        signed(row.since_us),
        row.until_us.map_or(OPEN, signed),
        row.reason,
    ])?;
    Ok(())
}

pub(crate) fn write_back(connection: &Connection, node: &str, at_us: u64) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare_cached("UPDATE away_history SET until_us = ?2 WHERE node = ?1 AND until_us = ?3")?;
    statement.execute(params![node, signed(at_us), OPEN])?;
    Ok(())
}

impl HistoryReader {
    /// A page of what attempts used whose job, or which themselves, ended at the instant of `after` or later.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it cannot be read.
    pub fn usage(&self, after: After, query: &UsageQuery) -> Result<UsagePage, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.usage(after, query),
            Reader::Postgres(reader) => reader.usage(after, query),
        }
    }

    /// For how long nodes took no work within a period, which has ended by now.
    ///
    /// # Errors
    /// [`StoreError::Database`] if it cannot be read.
    pub fn away(&self, since_us: u64, until_us: u64) -> Result<Vec<AwayTime>, StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.away(since_us, until_us),
            Reader::Postgres(reader) => reader.away(since_us, until_us),
        }
    }

    pub(crate) fn each_attempt(&self, each: EachRow<'_, AttemptRow>) -> Result<(), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.each_attempt(each),
            Reader::Postgres(reader) => reader.each_attempt(each),
        }
    }

    pub(crate) fn each_away(&self, each: EachRow<'_, AwayRow>) -> Result<(), StoreError> {
        match &self.0 {
            Reader::Sqlite(reader) => reader.each_away(each),
            Reader::Postgres(reader) => reader.each_away(each),
        }
    }
}

impl SqliteReader {
    pub fn usage(&self, after: After, query: &UsageQuery) -> Result<UsagePage, StoreError> {
        let (sql, parameters) = question(after, query, '?', "j.detail ->> '$.account'");
        let read = || {
            self.connection
                .prepare_cached(&sql)?
                .query_map(rusqlite::params_from_iter(parameters), |row| {
                    let used = UsedRow {
                        attempt: key(row.get(0)?, row.get(1)?, row.get(2)?),
                        user: row.get(3)?,
                        account: row.get(4)?,
                        pool: row.get(5)?,
                        cores: unsigned(row.get(6)?),
                        started_us: row.get::<_, Option<i64>>(7)?.map(unsigned),
                        ended_us: unsigned(row.get(8)?),
                        view: row.get(9)?,
                    };
                    Ok((used, unsigned(row.get(10)?)))
                })?
                .collect::<Result<Vec<_>, _>>()
        };
        let rows = read().map_err(failed(&self.path, "read what was used"))?;
        Ok(page(rows, after, query.limit))
    }

    pub fn away(&self, since_us: u64, until_us: u64) -> Result<Vec<AwayTime>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT node, sum(min(until_us, ?2) - max(since_us, ?1)), max(until_us) FROM away_history \
                     WHERE until_us > ?1 AND since_us < ?2 GROUP BY node ORDER BY node",
                )?
                .query_map(params![signed(since_us), signed(until_us)], |row| {
                    Ok(AwayTime {
                        node: row.get(0)?,
                        away_us: unsigned(row.get(1)?),
                        is_open: row.get::<_, i64>(2)? == OPEN,
                    })
                })?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(failed(&self.path, "read when nodes were away"))
    }

    pub fn each_attempt(&self, each: EachRow<'_, AttemptRow>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of attempts");
        // What an earlier release has left, and no start has touched since, has no such table.
        if !self.connection.table_exists(None, "attempt_history").map_err(&failed)? {
            return Ok(());
        }
        let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM attempt_history ORDER BY job, task, attempt");
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            each(attempt_row(row).map_err(&failed)?)?;
        }
        Ok(())
    }

    pub fn each_away(&self, each: EachRow<'_, AwayRow>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read when nodes were away");
        if !self.connection.table_exists(None, "away_history").map_err(&failed)? {
            return Ok(());
        }
        let sql = format!("SELECT {AWAY_COLUMNS} FROM away_history ORDER BY node, since_us");
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let mut rows = statement.query([]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            each(away_row(row).map_err(&failed)?)?;
        }
        Ok(())
    }
}

/// The end that a number stands for.
pub(crate) fn until(number: i64) -> Option<u64> {
    (number != OPEN).then(|| unsigned(number))
}

fn away_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<AwayRow> {
    Ok(AwayRow {
        node: row.get(0)?,
        since_us: unsigned(row.get(1)?),
        until_us: until(row.get(2)?),
        reason: row.get(3)?,
    })
}

fn attempt_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        attempt: key(row.get(0)?, row.get(1)?, row.get(2)?),
        user: row.get(3)?,
        account: row.get(4)?,
        pool: row.get(5)?,
        cores: unsigned(row.get(6)?),
        started_us: unsigned(row.get(7)?),
        ended_us: unsigned(row.get(8)?),
        view: row.get(9)?,
    })
}
