//! The steps that nodes tell of: those that run are kept in memory, and those that have ended become rows of the
//! accounting.
//!
//! Nothing is decided by a step, so that the engine does not know of them. Nodes say everything again in each new session,
//! and a row that is there is written again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use muster_client::api::{StepUsageView, StepView, TaskState};
use muster_core::ids::{AttemptKey, JobId, Timestamp};
use muster_core::plan::Plan;
use muster_core::state::State;
use muster_store::{HistoryRow, StepRow};
use muster_wire::v1;
use muster_wire::v1::step_end::Cause;

use crate::view;

/// Most steps of one attempt that are known to run. More than cores it has do not, except such that share them.
const RUNNING_MAX: usize = 10_000;

/// Most characters of a name, and of a host list.
const TEXT_CHARS_MAX: usize = 64 << 10;

/// The steps that run.
#[derive(Debug, Default)]
pub struct RunningSteps(Mutex<HashMap<AttemptKey, BTreeMap<u32, StepView>>>);

impl RunningSteps {
    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptKey, BTreeMap<u32, StepView>>> {
        self.0.lock().expect("no code panics under this lock")
    }

    /// Takes what a node says of an attempt's steps, if that attempt is its. Gives the rows of those that have ended.
    pub fn take(
        &self,
        state: &State,
        node: &str,
        key: AttemptKey,
        records: Vec<v1::StepRecord>,
    ) -> Vec<HistoryRow> {
        if !is_its(state, node, key) {
            tracing::warn!(node, %key, "steps of an attempt that is not this node's were passed over");
            return Vec::new();
        }
        let runs = state.live_attempt(key.task).is_some_and(|live| live.attempt == key.attempt);
        let mut all = self.lock();
        let mut rows = Vec::new();
        for record in records {
            let step = view(key, record);
            if step.finished_at_us.is_some() {
                if let Some(running) = all.get_mut(&key) {
                    running.remove(&step.step);
                }
                rows.extend(row(key, &step));
            } else if runs {
                let running = all.entry(key).or_default();
                if running.len() < RUNNING_MAX {
                    running.insert(step.step, step);
                }
            }
        }
        rows
    }

    /// An attempt has ended, and with it those of its steps whose end nobody has told.
    pub fn end(&self, key: AttemptKey, at: Timestamp) -> Vec<HistoryRow> {
        let left = self.lock().remove(&key).unwrap_or_default();
        let ended = left.into_values().map(|step| StepView {
            state: TaskState::NodeFailed,
            finished_at_us: Some(at.0),
            ..step
        });
        ended.filter_map(|step| row(key, &step)).collect()
    }

    /// The steps that run, of the jobs that are wanted.
    pub fn of(&self, is_wanted: impl Fn(JobId) -> bool) -> Vec<StepView> {
        let all = self.lock();
        let wanted = all.iter().filter(|(key, _)| is_wanted(key.task.job));
        wanted.flat_map(|(_, steps)| steps.values().cloned()).collect()
    }
}

/// Whether an attempt has, or had, its primary on a node. Of one that was followed by another nothing is known any more.
fn is_its(state: &State, node: &str, key: AttemptKey) -> bool {
    let Some(job) = state.jobs.get(&key.task.job) else { return false };
    let Some(task) = view::task(state, &Plan::default(), job, key.task.index) else { return false };
    let primary = task.shares.first().filter(|_| task.attempt == key.attempt);
    key.attempt >= 1 && key.attempt <= task.attempt && primary.is_none_or(|share| share.node == node)
}

fn view(key: AttemptKey, record: v1::StepRecord) -> StepView {
    let short = |text: String| match text.chars().count() {
        0..=TEXT_CHARS_MAX => text,
        _ => text.chars().take(TEXT_CHARS_MAX).collect(),
    };
    let mut view = StepView {
        job: key.task.job.0,
        task: key.task.index.0,
        attempt: key.attempt,
        step: record.step,
        name: short(record.name),
        state: TaskState::Running,
        node_list: short(record.nodes),
        nodes: record.node_count,
        ranks: record.ranks,
        cores: record.cores,
        started_at_us: record.started_at_us,
        finished_at_us: None,
        exit_code: None,
        signal: None,
        usage: None,
    };
    if let Some(end) = record.end {
        view.state = match end.cause() {
            Cause::Cancelled | Cause::Unspecified => TaskState::Cancelled,
            Cause::TimeLimit => TaskState::TimedOut,
            Cause::NodeLost => TaskState::NodeFailed,
            Cause::Ranks if end.code == 0 && end.signal == 0 => TaskState::Completed,
            Cause::Ranks => TaskState::Failed,
        };
        view.finished_at_us = Some(end.ended_at_us);
        view.exit_code = Some(end.code);
        view.signal = Some(end.signal).filter(|signal| *signal != 0);
        view.usage = end.usage.map(usage);
    }
    view
}

fn usage(used: v1::StepUsage) -> StepUsageView {
    StepUsageView {
        ranks: used.ranks,
        user_us: used.user_us,
        system_us: used.system_us,
        cpu_min_us: used.cpu_min_us,
        cpu_min_rank: used.cpu_min_rank,
        cpu_min_node: used.cpu_min_node,
        memory_peak_bytes: used.memory_peak_bytes,
        memory_peak_rank: used.memory_peak_rank,
        memory_peak_node: used.memory_peak_node,
        memory_sum_bytes: used.memory_sum_bytes,
        read_bytes: used.read_bytes,
        written_bytes: used.written_bytes,
    }
}

fn row(key: AttemptKey, step: &StepView) -> Option<HistoryRow> {
    let usage = step.usage.clone().unwrap_or_default();
    Some(HistoryRow::Step(Box::new(StepRow {
        attempt: key,
        step: step.step,
        name: step.name.clone(),
        state: step.state.word().to_owned(),
        exit_code: step.exit_code.unwrap_or_default(),
        signal: step.signal.unwrap_or_default(),
        nodes: step.node_list.clone(),
        ranks: step.ranks,
        cores: step.cores,
        started_us: step.started_at_us,
        ended_us: step.finished_at_us.unwrap_or_default(),
        cpu_time_us: usage.user_us + usage.system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        view: serde_json::to_string(step).ok()?,
    })))
}
