//! What the fields of sacct and sstat show of a step.

use muster_client::api::{StepView, TaskState};

use super::fields::Units;
use crate::slurm::state;
use crate::slurm::time::long_span;

/// What was used, by field: of a step that runs, or whose starter was killed, it is not known.
pub(in crate::slurm) fn used(name: &str, step: &StepView, units: Units) -> String {
    let Some(usage) = &step.usage else { return String::new() };
    let ranks = u64::from(usage.ranks.max(1));
    let cpu_us = usage.user_us + usage.system_us;
    match name {
        "AveCPU" => long_span(cpu_us / ranks / 1_000_000),
        "AveDiskRead" => units.size(usage.read_bytes / ranks, 0),
        "AveDiskWrite" => units.size(usage.written_bytes / ranks, 0),
        "AveRSS" => units.size(usage.memory_sum_bytes / ranks, 0),
        "MaxRSS" => units.size(usage.memory_peak_bytes, 0),
        "MaxRSSNode" => usage.memory_peak_node.clone(),
        "MaxRSSTask" => usage.memory_peak_rank.to_string(),
        "MinCPU" => long_span(usage.cpu_min_us / 1_000_000),
        "MinCPUNode" => usage.cpu_min_node.clone(),
        "MinCPUTask" => usage.cpu_min_rank.to_string(),
        "SystemCPU" => super::fields::cpu_time(usage.system_us),
        "TotalCPU" => super::fields::cpu_time(cpu_us),
        "UserCPU" => super::fields::cpu_time(usage.user_us),
        "TRESUsageInAve" => tres(cpu_us / ranks, usage.read_bytes / ranks, usage.memory_sum_bytes / ranks),
        "TRESUsageInMax" => format!("mem={}", kib(usage.memory_peak_bytes)),
        "TRESUsageInMaxNode" => format!("mem={}", usage.memory_peak_node),
        "TRESUsageInMaxTask" => format!("mem={}", usage.memory_peak_rank),
        "TRESUsageInMin" => format!("cpu={}", long_span(usage.cpu_min_us / 1_000_000)),
        "TRESUsageInMinNode" => format!("cpu={}", usage.cpu_min_node),
        "TRESUsageInMinTask" => format!("cpu={}", usage.cpu_min_rank),
        "TRESUsageInTot" => tres(cpu_us, usage.read_bytes, usage.memory_sum_bytes),
        "TRESUsageOutAve" => format!("fs/disk={}", usage.written_bytes / ranks),
        "TRESUsageOutTot" => format!("fs/disk={}", usage.written_bytes),
        _ => String::new(),
    }
}

fn tres(cpu_us: u64, read_bytes: u64, memory_bytes: u64) -> String {
    format!("cpu={},fs/disk={read_bytes},mem={}", long_span(cpu_us / 1_000_000), kib(memory_bytes))
}

fn kib(bytes: u64) -> String {
    format!("{}K", bytes >> 10)
}

/// Its state.
pub(in crate::slurm) fn state(step: &StepView) -> &'static str {
    state::of(step.state).long
}

/// Its exit code and the signal.
pub(in crate::slurm) fn exit(step: &StepView) -> (u32, u32) {
    /// How Slurm ends what was cancelled.
    const SIGTERM: u32 = 15;
    let known = (step.exit_code.unwrap_or(0), step.signal.unwrap_or(0));
    match step.state {
        TaskState::Cancelled | TaskState::TimedOut if known == (0, 0) => (0, SIGTERM),
        _ => known,
    }
}

/// The highest exit code of a task's steps.
pub(in crate::slurm) fn derived_exit<'a>(steps: impl Iterator<Item = &'a StepView>) -> (u32, u32) {
    steps.map(exit).max().unwrap_or((0, 0))
}

/// The CPU time of all its ranks, in microseconds.
pub(super) fn cpu_us(step: &StepView) -> u64 {
    let usage = step.usage.clone().unwrap_or_default();
    usage.user_us + usage.system_us
}

#[cfg(test)]
mod tests {
    use muster_client::api::StepUsageView;

    use super::*;

    #[test]
    fn what_a_step_has_used_is_shown_for_its_ranks() {
        let usage = StepUsageView {
            ranks: 4,
            user_us: 6_000_000,
            system_us: 2_000_000,
            memory_peak_bytes: 3 << 20,
            memory_peak_rank: 2,
            memory_peak_node: "n2".into(),
            memory_sum_bytes: 8 << 20,
            ..StepUsageView::default()
        };
        let step = StepView { usage: Some(usage), ..running() };
        let texts = ["AveCPU", "MaxRSS", "AveRSS", "MaxRSSNode", "MaxRSSTask", "TRESUsageInTot", "MaxPages"];
        let said = texts.map(|name| used(name, &step, Units::Exact));
        assert_eq!(said, ["00:00:02", "3M", "2M", "n2", "2", "cpu=00:00:08,fs/disk=0,mem=8192K", ""]);
        assert_eq!(used("MaxRSS", &running(), Units::Exact), "");
    }

    #[test]
    fn the_exit_of_a_job_follows_from_those_of_its_steps() {
        let ended = |code, signal| StepView { exit_code: Some(code), signal, ..running() };
        assert_eq!(derived_exit([ended(0, None), ended(3, None), ended(1, None)].iter()), (3, 0));
        assert_eq!(derived_exit(std::iter::empty()), (0, 0));
        let cancelled = StepView { state: TaskState::Cancelled, ..ended(0, None) };
        assert_eq!(exit(&cancelled), (0, 15));
        assert_eq!(exit(&ended(0, Some(9))), (0, 9));
    }

    fn running() -> StepView {
        StepView {
            job: 1,
            task: 0,
            attempt: 1,
            step: 0,
            name: "a.out".into(),
            state: TaskState::Running,
            node_list: "n[1-2]".into(),
            nodes: 2,
            ranks: 4,
            cores: 4,
            started_at_us: 1,
            finished_at_us: None,
            exit_code: None,
            signal: None,
            usage: None,
        }
    }
}
