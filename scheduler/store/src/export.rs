//! Writes everything as JSON lines, for other programs and for keeping.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use muster_core::event::Record;
use muster_core::state::State;
use serde::Serialize;

use crate::check::Looking;
use crate::error::StoreError;
use crate::history::{JobRow, TaskRow};
use crate::read::{self, Which};
use crate::schema::failed;

/// Version of the form of the lines.
const EXPORT_VERSION: u32 = 1;

/// One line.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    MusterStore {
        version: u32,
        schema_version: u32,
        acknowledged: Option<u64>,
    },
    Snapshot {
        seq: u64,
        state: &'a State,
    },
    Record {
        seq: u64,
        record: &'a Record,
    },
    Job(&'a JobRow),
    Task(&'a TaskRow),
    /// In place of what is not whole.
    Damaged {
        what: &'static str,
        seq: u64,
    },
    /// The last line: whoever does not find it has not got everything.
    End {
        lines: u64,
        damaged: u64,
    },
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Lines.
    pub lines: u64,
    /// Records and snapshots that are not whole, and that a line only names.
    pub damaged: u64,
}

struct Out<'a, W> {
    to: W,
    path: &'a Path,
    done: Exported,
}

impl<W: Write> Out<'_, W> {
    fn line(&mut self, line: &Line<'_>) -> Result<(), StoreError> {
        let encode = |source: serde_json::Error| match source.io_error_kind() {
            Some(kind) => self::write_error(self.path, kind.into()),
            None => StoreError::Encode { what: "a line", source },
        };
        serde_json::to_writer(&mut self.to, line).map_err(encode)?;
        self.to.write_all(b"\n").map_err(|source| write_error(self.path, source))?;
        self.done.lines += 1;
        self.done.damaged += u64::from(matches!(line, Line::Damaged { .. }));
        Ok(())
    }
}

fn write_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File { doing: "write the export of", path: path.to_owned(), source }
}

/// Writes snapshots, records and accounting as JSON lines. The first line names the form's version; the last one says
/// how many lines there are. A controller may run meanwhile: all lines are of one instant. The cluster's secret is
/// not exported; what users submitted is, with their environments.
///
/// # Errors
/// [`StoreError::File`] if it cannot be written, other variants if the database cannot be read.
pub fn export(path: &Path, to: impl Write) -> Result<Exported, StoreError> {
    let looking = Looking::at(path)?;
    let (survey, connection) = (&looking.survey, looking.connection());
    let mut out = Out { to, path, done: Exported::default() };
    let schema_version = if survey.layout.has_checksums() { 2 } else { 1 };
    let acknowledged = survey.acknowledged;
    out.line(&Line::MusterStore { version: EXPORT_VERSION, schema_version, acknowledged })?;
    for (seq, state) in survey.snapshots.iter().rev() {
        out.line(&match state {
            Ok(state) => Line::Snapshot { seq: *seq, state },
            Err(_) => Line::Damaged { what: "snapshot", seq: *seq },
        })?;
    }
    read::records(connection, path, survey.layout, Which::After(0), |seq, record| {
        out.line(&match &record {
            Ok(record) => Line::Record { seq, record },
            Err(_) => Line::Damaged { what: "record", seq },
        })?;
        Ok(ControlFlow::Continue(()))
    })?;
    looking.reader.each_job(|row| out.line(&Line::Job(&row)))?;
    looking.reader.each_task(|row| out.line(&Line::Task(&row)))?;
    let (lines, damaged) = (out.done.lines + 1, out.done.damaged);
    out.line(&Line::End { lines, damaged })?;
    out.to.flush().map_err(|source| write_error(path, source))?;
    Ok(out.done)
}

impl crate::history::HistoryReader {
    fn each_job(&self, mut each: impl FnMut(JobRow) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of jobs");
        let sql = format!("SELECT {} FROM job_history ORDER BY job", crate::history::JOB_COLUMNS);
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([], crate::history::job_row).map_err(&failed)?;
        rows.into_iter().try_for_each(|row| each(row.map_err(&failed)?))
    }

    fn each_task(&self, mut each: impl FnMut(TaskRow) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let failed = failed(&self.path, "read the history of tasks");
        let sql = format!("SELECT {} FROM task_history ORDER BY job, task", crate::history::TASK_COLUMNS);
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([], crate::history::task_row).map_err(&failed)?;
        rows.into_iter().try_for_each(|row| each(row.map_err(&failed)?))
    }
}
