//! What is told of an attempt's steps, for their accounting.
//!
//! A step that is over soon costs one record, and all records of a while are told together: thousands of small steps
//! are a few messages.

use std::time::Duration;

use muster_step::place::{NodePlacement, Placement};
use muster_step::slurm_nodelist;
use muster_step::words::{EndCause, StepEnd};
use muster_wire::v1::step_end::Cause;
use muster_wire::v1::{self, StepRecord};
use tokio::time::Instant;

use crate::attempt::AttemptDir;
use crate::process::now_us;
use crate::step_log::Writer;

/// How often news of steps are told, and how long a step runs before it is told of before its end.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is told of one step.
#[derive(Debug)]
pub(super) struct Record {
    record: StepRecord,
    begun: Instant,
    /// Whether it was told that it runs.
    written: bool,
    /// The nodes with their ranks.
    ranks_of: Vec<(String, Vec<u32>)>,
}

impl Record {
    /// A step that begins.
    pub fn new(step: u32, name: String, placement: &Placement) -> Self {
        let hosts: Vec<&str> = placement.nodes.iter().map(|node| node.host.as_str()).collect();
        let ranks = |node: &NodePlacement| node.tasks.iter().map(|task| task.rank).collect();
        let record = StepRecord {
            step,
            name,
            started_at_us: now_us(),
            nodes: slurm_nodelist(&hosts),
            node_count: hosts.len() as u32,
            ranks: placement.ntasks,
            cores: placement.nodes.iter().map(|node| node.cores.len() as u64).sum(),
            end: None,
        };
        let ranks_of = placement.nodes.iter().map(|node| (node.host.clone(), ranks(node))).collect();
        Self { record, begun: Instant::now(), written: false, ranks_of }
    }

    /// The node of a rank; an empty name if there is no such rank.
    fn node_of(&self, rank: u32) -> String {
        let found = self.ranks_of.iter().find(|(_, ranks)| ranks.contains(&rank));
        found.map(|(host, _)| host.clone()).unwrap_or_default()
    }

    /// Whether it was told that the step runs.
    pub fn is_written(&self) -> bool {
        self.written
    }

    /// The starter says how the step has ended.
    pub fn end(&mut self, end: &StepEnd) {
        let cause = match end.cause {
            EndCause::Ranks => Cause::Ranks,
            EndCause::Cancelled => Cause::Cancelled,
            EndCause::TimeLimit => Cause::TimeLimit,
            EndCause::NodeLost => Cause::NodeLost,
        };
        let used = &end.usage;
        let usage = v1::StepUsage {
            ranks: used.ranks,
            user_us: used.user_us,
            system_us: used.system_us,
            cpu_min_us: used.cpu_min_us,
            cpu_min_rank: used.cpu_min_rank,
            memory_peak_bytes: used.memory_peak_bytes,
            memory_peak_rank: used.memory_peak_rank,
            memory_sum_bytes: used.memory_sum_bytes,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
            cpu_min_node: self.node_of(used.cpu_min_rank),
            memory_peak_node: self.node_of(used.memory_peak_rank),
        };
        self.record.end = Some(v1::StepEnd {
            ended_at_us: now_us(),
            cause: cause as i32,
            code: end.code.into(),
            signal: end.signal.into(),
            usage: Some(usage),
        });
    }
}

/// The records of an attempt.
#[derive(Debug)]
pub(super) struct Records {
    log: Writer,
    /// Whether a time is set at which news are told.
    pub due: bool,
}

impl Records {
    /// None yet.
    pub fn new(dir: &AttemptDir) -> Self {
        Self { log: Writer::new(dir), due: false }
    }

    /// How long the record of all is.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// A step is over. One whose starter has not said how was ended with its starter.
    pub fn write_end(&mut self, mut record: Record) {
        record.record.end.get_or_insert_with(|| v1::StepEnd {
            ended_at_us: now_us(),
            cause: Cause::Cancelled as i32,
            ..v1::StepEnd::default()
        });
        self.write(&record.record);
    }

    /// A step runs; that is told if it has done so for a while.
    pub fn write_running(&mut self, record: &mut Record) {
        if !record.written && record.begun.elapsed() >= TELL_EVERY {
            record.written = true;
            self.write(&record.record);
        }
    }

    fn write(&mut self, record: &StepRecord) {
        if let Err(error) = self.log.write(record) {
            tracing::warn!(error = error.sentence(), step = record.step, "a step cannot be recorded");
        }
    }
}
