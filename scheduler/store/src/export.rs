//! Writes everything as JSON lines, for other programs and for keeping.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use muster_core::event::Record;
use muster_core::state::State;
use serde::Serialize;

use crate::check::Looking;
use crate::error::StoreError;
use crate::history::{JobRow, TaskRow};
use crate::place::Place;
use crate::read::Which;
use crate::steps::StepRow;
use crate::usage::{AttemptRow, AwayRow};

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
    Step(&'a StepRow),
    Attempt(&'a AttemptRow),
    Away(&'a AwayRow),
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

struct Out<W> {
    to: W,
    /// What is exported, for errors.
    of: PathBuf,
    done: Exported,
}

impl<W: Write> Out<W> {
    fn line(&mut self, line: &Line<'_>) -> Result<(), StoreError> {
        if let Err(source) = serde_json::to_writer(&mut self.to, line) {
            return Err(match source.io_error_kind() {
                Some(kind) => self.failed(kind.into()),
                None => StoreError::Encode { what: "a line", source },
            });
        }
        self.to.write_all(b"\n").map_err(|source| self.failed(source))?;
        self.done.lines += 1;
        self.done.damaged += u64::from(matches!(line, Line::Damaged { .. }));
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> StoreError {
        StoreError::File { doing: "write the export of", path: self.of.clone(), source }
    }
}

/// Writes snapshots, records and accounting as JSON lines. The first line names the form's version; the last one says
/// how many lines there are. A controller may run meanwhile: all lines are of one instant. The cluster's secret is
/// not exported; what users submitted is, with their environments.
///
/// # Errors
/// [`StoreError::File`] if it cannot be written, other variants if the database cannot be read.
pub fn export(place: impl Into<Place>, to: impl Write) -> Result<Exported, StoreError> {
    let place = place.into();
    let looking = Looking::at(&place)?;
    let survey = &looking.survey;
    let mut out = Out { to, of: place.to_string().into(), done: Exported::default() };
    let schema_version = looking.schema_version();
    let acknowledged = survey.acknowledged;
    out.line(&Line::MusterStore { version: EXPORT_VERSION, schema_version, acknowledged })?;
    for (seq, state) in survey.snapshots.iter().rev() {
        out.line(&match state {
            Ok(state) => Line::Snapshot { seq: *seq, state },
            Err(_) => Line::Damaged { what: "snapshot", seq: *seq },
        })?;
    }
    looking.source().records(Which::After(0), &mut |seq, record| {
        out.line(&match &record {
            Ok(record) => Line::Record { seq, record },
            Err(_) => Line::Damaged { what: "record", seq },
        })?;
        Ok(ControlFlow::Continue(()))
    })?;
    looking.reader.each_job(&mut |row| out.line(&Line::Job(&row)))?;
    looking.reader.each_task(&mut |row| out.line(&Line::Task(&row)))?;
    looking.reader.each_step(&mut |row| out.line(&Line::Step(&row)))?;
    looking.reader.each_attempt(&mut |row| out.line(&Line::Attempt(&row)))?;
    looking.reader.each_away(&mut |row| out.line(&Line::Away(&row)))?;
    let (lines, damaged) = (out.done.lines + 1, out.done.damaged);
    out.line(&Line::End { lines, damaged })?;
    out.to.flush().map_err(|source| out.failed(source))?;
    Ok(out.done)
}
