//! Reads journal, snapshots and accounting.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use muster_core::ids::{JobId, TaskIndex};
use muster_core::state::State;
use postgres::Row;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::ToSql;

use super::schema;
use super::server::Server;
use super::session::{Purpose, Session, failed};
use crate::checksum::{Checksum, Head};
use crate::error::StoreError;
use crate::history::{EachRow, JobRow, Period, TaskRow, TaskSpan, unsigned};
use crate::place::Place;
use crate::read::{Each, Fault, Source, Which, decode_record, decode_snapshot};
use crate::schema::signed;
use crate::steps::{self, JobSpan, StepRow};
use crate::usage::{self, After, AttemptRow, AwayRow, AwayTime, UsagePage, UsageQuery, UsedRow};

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

const JOB_COLUMNS: &str =
    r#"job, name, "user", uid, pool, state, tasks, submitted_us, started_us, ended_us, detail"#;
const TASK_COLUMNS: &str = r#"job, task, task_last, task_step, attempts, name, "user", uid, pool, state, exit_code,
     signal, reason, nodes, cores, submitted_us, started_us, ended_us, cpu_time_us, memory_peak_bytes, view"#;

/// A connection that only reads.
#[derive(Debug)]
pub(crate) struct Reader {
    server: Server,
    place: Place,
    session: RefCell<Session>,
    /// Whether [`Reader::begin`] has begun something: another connection would not read of the same instant.
    has_begun: Cell<bool>,
}

impl Reader {
    /// Connects to a database in which a controller has made its tables.
    pub fn open(server: &Server) -> Result<Self, StoreError> {
        let session =
            Session::open(server, Purpose::Read).map_err(failed(server, "connect to the database"))?;
        let (server, place, session) = (server.clone(), server.into(), RefCell::new(session));
        let reader = Self { server, place, session, has_begun: Cell::new(false) };
        if !schema::is_there(reader.session.borrow_mut().client(), &reader.server)? {
            return Err(StoreError::NoDatabase { place: reader.place });
        }
        Ok(reader)
    }

    /// Makes everything that is read from now on be of one instant. Gives the number of the last record that was
    /// acknowledged by then.
    pub fn begin(&self) -> Result<u64, StoreError> {
        let mut session = self.session.borrow_mut();
        let failed = failed(&self.server, "read the database");
        session.client().batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map_err(&failed)?;
        self.has_begun.set(true);
        schema::check_version(session.client(), &self.server)?;
        let row = session.client().query_opt("SELECT acknowledged FROM leader", &[]).map_err(&failed)?;
        let broken = || StoreError::BrokenMeta { place: self.place.clone(), key: "leader" };
        row.map(|row| unsigned(row.get(0))).ok_or_else(broken)
    }

    /// The cluster's secret.
    pub fn secret(&self) -> Result<[u8; 32], StoreError> {
        schema::secret(self.session.borrow_mut().client(), &self.server)
    }

    /// Asks, over another connection if this one is broken.
    fn query(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut session = self.session.borrow_mut();
        let failed = failed(&self.server, doing);
        match session.client().query(sql, parameters) {
            Err(error) if !self.has_begun.get() && session.is_broken(&error) => {
                *session = Session::open(&self.server, Purpose::Read).map_err(&failed)?;
                session.client().query(sql, parameters).map_err(&failed)
            }
            answer => answer.map_err(&failed),
        }
    }

    /// Reads rows one after another.
    fn each(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: Parameters<'_>,
        mut each: impl FnMut(&Row) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut session = self.session.borrow_mut();
        let failed = failed(&self.server, doing);
        let parameters = parameters.iter().copied();
        let mut rows = session.client().query_raw(sql, parameters).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            if each(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    pub fn job(&self, job: JobId) -> Result<Option<JobRow>, StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM job_history WHERE job = $1");
        let rows = self.query("read a job's history", &sql, &[&signed(job.0)])?;
        Ok(rows.first().map(job_row))
    }

    pub fn jobs(&self, below: JobId, user: Option<&str>, limit: usize) -> Result<Vec<JobRow>, StoreError> {
        let sql = format!(
            r#"SELECT {JOB_COLUMNS} FROM job_history WHERE job < $1 AND ($2::text IS NULL OR "user" = $2)
               ORDER BY job DESC LIMIT $3"#
        );
        let parameters: Parameters<'_> = &[&signed(below.0), &user, &signed(limit as u64)];
        Ok(self.query("read the history of jobs", &sql, parameters)?.iter().map(job_row).collect())
    }

    pub fn tasks(&self, job: JobId, limit: usize) -> Result<Vec<TaskRow>, StoreError> {
        let sql = format!("SELECT {TASK_COLUMNS} FROM task_history WHERE job = $1 ORDER BY task LIMIT $2");
        let parameters: Parameters<'_> = &[&signed(job.0), &signed(limit as u64)];
        Ok(self.query("read the history of tasks", &sql, parameters)?.iter().map(task_row).collect())
    }

    pub fn period(
        &self,
        period: &Period<'_>,
        limit: usize,
    ) -> Result<(Vec<JobRow>, Vec<TaskRow>), StoreError> {
        const WHERE: &str =
            r#"WHERE ended_us >= $1 AND submitted_us <= $2 AND ($3::text IS NULL OR "user" = $3)"#;
        let (doing, limit) = ("read the history of a period", signed(limit as u64));
        let (since, until) = (signed(period.since_us), signed(period.until_us));
        let parameters: Parameters<'_> = &[&since, &until, &period.user, &limit];
        let jobs = format!("SELECT {JOB_COLUMNS} FROM job_history {WHERE} ORDER BY job LIMIT $4");
        let tasks = format!(
            "SELECT {TASK_COLUMNS} FROM task_history WHERE job IN (SELECT job FROM job_history {WHERE}) \
             ORDER BY job, task LIMIT $4"
        );
        let jobs = self.query(doing, &jobs, parameters)?.iter().map(job_row).collect();
        let tasks = self.query(doing, &tasks, parameters)?.iter().map(task_row).collect();
        Ok((jobs, tasks))
    }

    pub fn steps(&self, jobs: JobSpan, limit: usize) -> Result<Vec<StepRow>, StoreError> {
        let sql = format!(
            "SELECT {} FROM step_history WHERE job BETWEEN $1 AND $2 ORDER BY job, task, attempt, step LIMIT $3",
            steps::COLUMNS
        );
        let parameters: Parameters<'_> =
            &[&signed(jobs.first.0), &signed(jobs.last.0), &signed(limit as u64)];
        Ok(self.query("read the history of steps", &sql, parameters)?.iter().map(step_row).collect())
    }

    pub fn task(&self, job: JobId, index: TaskIndex) -> Result<Option<TaskRow>, StoreError> {
        let sql = format!(
            "SELECT {TASK_COLUMNS} FROM task_history WHERE job = $1 AND task <= $2 AND task_last >= $2 \
             ORDER BY task DESC"
        );
        let rows = self.query("read a task's history", &sql, &[&signed(job.0), &i64::from(index.0)])?;
        Ok(rows.iter().map(task_row).find(|row| row.span.contains(index)))
    }

    pub fn each_job(&self, each: EachRow<'_, JobRow>) -> Result<(), StoreError> {
        let sql = format!("SELECT {JOB_COLUMNS} FROM job_history ORDER BY job");
        let go_on = |row: &Row| each(job_row(row)).map(ControlFlow::Continue);
        self.each("read the history of jobs", &sql, &[], go_on)
    }

    pub fn each_task(&self, each: EachRow<'_, TaskRow>) -> Result<(), StoreError> {
        let sql = format!("SELECT {TASK_COLUMNS} FROM task_history ORDER BY job, task");
        let go_on = |row: &Row| each(task_row(row)).map(ControlFlow::Continue);
        self.each("read the history of tasks", &sql, &[], go_on)
    }
}

impl Reader {
    pub fn usage(&self, after: After, query: &UsageQuery) -> Result<UsagePage, StoreError> {
        let (sql, numbers) = usage::question(after, query, '$', "j.detail::json ->> 'account'");
        let parameters: Vec<&(dyn ToSql + Sync)> =
            numbers.iter().map(|number| number as &(dyn ToSql + Sync)).collect();
        let rows = self.query("read what was used", &sql, &parameters)?;
        let used = |row: &Row| {
            let used = UsedRow {
                attempt: steps::key(row.get(0), small(row, 1), small(row, 2)),
                user: row.get(3),
                account: row.get(4),
                pool: row.get(5),
                cores: unsigned(row.get(6)),
                started_us: row.get::<_, Option<i64>>(7).map(unsigned),
                ended_us: unsigned(row.get(8)),
                view: row.get(9),
            };
            (used, unsigned(row.get(10)))
        };
        Ok(usage::page(rows.iter().map(used).collect(), after, query.limit))
    }

    pub fn away(&self, since_us: u64, until_us: u64) -> Result<Vec<AwayTime>, StoreError> {
        let sql = "SELECT node, sum(least(until_us, $2) - greatest(since_us, $1))::bigint, max(until_us) \
                   FROM away_history WHERE until_us > $1 AND since_us < $2 GROUP BY node ORDER BY node";
        let rows = self.query("read when nodes were away", sql, &[&signed(since_us), &signed(until_us)])?;
        let time = |row: &Row| AwayTime {
            node: row.get(0),
            away_us: unsigned(row.get(1)),
            is_open: row.get::<_, i64>(2) == usage::OPEN,
        };
        Ok(rows.iter().map(time).collect())
    }

    /// Whether a table is there that no controller of an earlier release has made.
    fn has_table(&self, doing: &'static str, name: &str) -> Result<bool, StoreError> {
        let there = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1";
        Ok(!self.query(doing, there, &[&name])?.is_empty())
    }

    pub fn each_attempt(&self, each: EachRow<'_, AttemptRow>) -> Result<(), StoreError> {
        let doing = "read the history of attempts";
        if !self.has_table(doing, "attempt_history")? {
            return Ok(());
        }
        let sql =
            format!("SELECT {} FROM attempt_history ORDER BY job, task, attempt", usage::ATTEMPT_COLUMNS);
        let go_on = |row: &Row| each(attempt_row(row)).map(ControlFlow::Continue);
        self.each(doing, &sql, &[], go_on)
    }

    pub fn each_away(&self, each: EachRow<'_, AwayRow>) -> Result<(), StoreError> {
        let doing = "read when nodes were away";
        if !self.has_table(doing, "away_history")? {
            return Ok(());
        }
        let sql = format!("SELECT {} FROM away_history ORDER BY node, since_us", usage::AWAY_COLUMNS);
        let go_on = |row: &Row| each(away_row(row)).map(ControlFlow::Continue);
        self.each(doing, &sql, &[], go_on)
    }

    pub fn each_step(&self, each: EachRow<'_, StepRow>) -> Result<(), StoreError> {
        let doing = "read the history of steps";
        if !self.has_table(doing, "step_history")? {
            return Ok(());
        }
        let sql = format!("SELECT {} FROM step_history ORDER BY job, task, attempt, step", steps::COLUMNS);
        let go_on = |row: &Row| each(step_row(row)).map(ControlFlow::Continue);
        self.each(doing, &sql, &[], go_on)
    }
}

impl Source for Reader {
    fn place(&self) -> &Place {
        &self.place
    }

    fn records(&self, which: Which, each: Each<'_>) -> Result<(), StoreError> {
        let (after, order) = match which {
            Which::After(seq) => (signed(seq), "ASC"),
            Which::Down => (i64::MIN, "DESC"),
        };
        let sql =
            format!("SELECT seq, at_us, version, body, crc FROM journal WHERE seq > $1 ORDER BY seq {order}");
        self.each("read the journal", &sql, &[&after], |row| {
            let head = Head { seq: row.get(0), at_us: row.get(1), version: row.get(2) };
            let body: &str = row.get(3);
            let is_whole = Checksum::of(head).with(body.as_bytes()).value() == row.get::<_, i64>(4);
            let record =
                if is_whole { decode_record(head.version, body.as_bytes()) } else { Err(Fault::Changed) };
            each(head.seq.unsigned_abs(), record)
        })
    }

    fn snapshot_seqs(&self) -> Result<Vec<u64>, StoreError> {
        let rows = self.query("read the snapshots", "SELECT seq FROM snapshot ORDER BY seq DESC", &[])?;
        Ok(rows.iter().map(|row| unsigned(row.get(0))).collect())
    }

    fn snapshot(&self, seq: u64) -> Result<Result<State, Fault>, StoreError> {
        let (doing, seq) = ("read a snapshot", signed(seq));
        let sql = "SELECT at_us, version, bytes, crc FROM snapshot WHERE seq = $1";
        let rows = self.query(doing, sql, &[&seq])?;
        let Some(row) = rows.first() else { return Ok(Err(Fault::Changed)) };
        let head = Head { seq, at_us: row.get(0), version: row.get(1) };
        let (size, crc): (i64, i64) = (row.get(2), row.get(3));
        let mut body = Vec::new();
        self.each(doing, "SELECT body FROM snapshot_part WHERE seq = $1 ORDER BY part", &[&seq], |row| {
            body.extend_from_slice(row.get(0));
            Ok(ControlFlow::Continue(()))
        })?;
        let is_whole = Checksum::of(head).with(&body).value() == crc && i64::try_from(body.len()) == Ok(size);
        Ok(if is_whole { decode_snapshot(head.version, &body) } else { Err(Fault::Changed) })
    }
}

/// A number that was written from one of 32 bits.
fn small(row: &Row, column: usize) -> u32 {
    u32::try_from(row.get::<_, i64>(column)).unwrap_or(0)
}

fn job_row(row: &Row) -> JobRow {
    JobRow {
        job: JobId(unsigned(row.get(0))),
        name: row.get(1),
        user: row.get(2),
        uid: small(row, 3),
        pool: row.get(4),
        state: row.get(5),
        tasks: unsigned(row.get(6)),
        submitted_us: unsigned(row.get(7)),
        started_us: row.get::<_, Option<i64>>(8).map(unsigned),
        ended_us: unsigned(row.get(9)),
        detail: row.get(10),
    }
}

fn task_row(row: &Row) -> TaskRow {
    let optional =
        |column: usize| row.get::<_, Option<i64>>(column).and_then(|value| u32::try_from(value).ok());
    TaskRow {
        job: JobId(unsigned(row.get(0))),
        span: TaskSpan { first: small(row, 1), last: small(row, 2), step: small(row, 3) },
        attempts: small(row, 4),
        name: row.get(5),
        user: row.get(6),
        uid: small(row, 7),
        pool: row.get(8),
        state: row.get(9),
        exit_code: optional(10),
        signal: optional(11),
        reason: row.get(12),
        nodes: row.get(13),
        cores: unsigned(row.get(14)),
        submitted_us: unsigned(row.get(15)),
        started_us: row.get::<_, Option<i64>>(16).map(unsigned),
        ended_us: unsigned(row.get(17)),
        cpu_time_us: unsigned(row.get(18)),
        memory_peak_bytes: unsigned(row.get(19)),
        view: row.get(20),
    }
}

fn attempt_row(row: &Row) -> AttemptRow {
    AttemptRow {
        attempt: steps::key(row.get(0), small(row, 1), small(row, 2)),
        user: row.get(3),
        account: row.get(4),
        pool: row.get(5),
        cores: unsigned(row.get(6)),
        started_us: unsigned(row.get(7)),
        ended_us: unsigned(row.get(8)),
        view: row.get(9),
    }
}

fn away_row(row: &Row) -> AwayRow {
    AwayRow {
        node: row.get(0),
        since_us: unsigned(row.get(1)),
        until_us: usage::until(row.get(2)),
        reason: row.get(3),
    }
}

fn step_row(row: &Row) -> StepRow {
    StepRow {
        attempt: steps::key(row.get(0), small(row, 1), small(row, 2)),
        step: small(row, 3),
        name: row.get(4),
        state: row.get(5),
        exit_code: small(row, 6),
        signal: small(row, 7),
        nodes: row.get(8),
        ranks: small(row, 9),
        cores: unsigned(row.get(10)),
        started_us: unsigned(row.get(11)),
        ended_us: unsigned(row.get(12)),
        cpu_time_us: unsigned(row.get(13)),
        memory_peak_bytes: unsigned(row.get(14)),
        view: row.get(15),
    }
}
