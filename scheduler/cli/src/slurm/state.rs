//! States, reasons and exit codes of tasks in Slurm's words.

use muster_client::api::{EndView, TaskLine, TaskState};

/// A state of Slurm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// Such as `PENDING`.
    pub long: &'static str,
    /// Such as `PD`.
    pub short: &'static str,
    /// Ours that is shown so; none if nothing ever is.
    pub ours: Option<TaskState>,
}

const fn name(long: &'static str, short: &'static str, ours: Option<TaskState>) -> Name {
    Name { long, short, ours }
}

/// Every state that Slurm's commands take, in the order in which they list them.
pub(super) const NAMES: [Name; 24] = [
    name("PENDING", "PD", Some(TaskState::Waiting)),
    name("RUNNING", "R", Some(TaskState::Running)),
    name("SUSPENDED", "S", None),
    name("COMPLETED", "CD", Some(TaskState::Completed)),
    name("CANCELLED", "CA", Some(TaskState::Cancelled)),
    name("FAILED", "F", Some(TaskState::Failed)),
    name("TIMEOUT", "TO", Some(TaskState::TimedOut)),
    name("NODE_FAIL", "NF", Some(TaskState::NodeFailed)),
    name("PREEMPTED", "PR", Some(TaskState::Preempted)),
    name("BOOT_FAIL", "BF", None),
    name("DEADLINE", "DL", Some(TaskState::Deadline)),
    name("OUT_OF_MEMORY", "OOM", Some(TaskState::OutOfMemory)),
    name("COMPLETING", "CG", Some(TaskState::Ending)),
    name("CONFIGURING", "CF", Some(TaskState::Preparing)),
    name("RESIZING", "RS", None),
    name("RESV_DEL_HOLD", "RD", None),
    name("REQUEUED", "RQ", None),
    name("REQUEUE_FED", "RF", None),
    name("REQUEUE_HOLD", "RH", None),
    name("REVOKED", "RV", None),
    name("SIGNALING", "SI", None),
    name("SPECIAL_EXIT", "SE", None),
    name("STAGE_OUT", "SO", None),
    name("STOPPED", "ST", None),
];

/// Slurm's name of a state.
pub(super) fn of(state: TaskState) -> Name {
    NAMES.into_iter().find(|name| name.ours == Some(state)).unwrap_or(NAMES[0])
}

/// The state that a word means: long or short, in any case.
pub(super) fn find(word: &str) -> Option<Name> {
    NAMES
        .into_iter()
        .find(|name| word.eq_ignore_ascii_case(name.long) || word.eq_ignore_ascii_case(name.short))
}

/// The names that a message lists.
pub(super) fn known() -> String {
    NAMES.map(|name| name.long).join(",")
}

/// Why a task waits, or how it ended, as Slurm's reason.
pub(super) fn reason(line: &TaskLine) -> &'static str {
    match line.state {
        TaskState::Waiting => waiting_reason(&line.reason_code),
        TaskState::Completed | TaskState::Running | TaskState::Preparing => "None",
        _ => match &line.end {
            Some(EndView::Exited { code: 1.. } | EndView::Signalled { .. }) => "NonZeroExitCode",
            Some(EndView::OutOfMemory) => "OutOfMemory",
            Some(EndView::TimedOut) => "TimeLimit",
            Some(EndView::Deadline) => "DeadLine",
            Some(EndView::Unfulfillable) => "DependencyNeverSatisfied",
            Some(EndView::LaunchFailed) => "JobLaunchFailure",
            Some(EndView::NodeFailed) => "NodeDown",
            Some(
                EndView::Requeued
                | EndView::Exited { code: 0 }
                | EndView::Cancelled { .. }
                | EndView::Preempted,
            )
            | None => "None",
        },
    }
}

/// Slurm's reason for one of ours ([`muster_core::plan::Reason::code`]). Clients have closed lists of reasons, so that
/// only plain words are used.
pub(super) fn waiting_reason(code: &str) -> &'static str {
    match code {
        "resources" | "preempting" => "Resources",
        "priority" => "Priority",
        "nodes_away" | "reserved" => "ReqNodeNotAvail",
        "array_throttle" => "JobArrayTaskLimit",
        "licenses" => "Licenses",
        "qos_limit" => "QOSMaxJobsPerUserLimit",
        "delayed" | "begin_time" => "BeginTime",
        "held_by_user" => "JobHeldUser",
        "held_by_admin" => "JobHeldAdmin",
        "dependency" => "Dependency",
        "dependency_never_satisfied" => "DependencyNeverSatisfied",
        "deadline" => "DeadLine",
        "reservation" => "Reservation",
        "reservation_over" => "ReservationDeleted",
        "pool_gone" | "pool_down" => "PartitionDown",
        "pool_inactive" => "PartitionInactive",
        "never_fits" => "PartitionConfig",
        _ => "None",
    }
}

/// The exit code and the signal that scontrol shows.
pub(super) fn exit(line: &TaskLine) -> (u32, u32) {
    /// What a step ends with whose memory was used up.
    const OUT_OF_MEMORY: u32 = 125;
    /// What a job ends with whose files cannot be opened.
    const CANNOT_OPEN: u32 = 53;
    const SIGTERM: u32 = 15;
    let has_run = line.started_at_us.is_some();
    match &line.end {
        Some(EndView::Exited { code }) => (*code, 0),
        Some(EndView::Signalled { signal }) => (0, *signal),
        Some(EndView::OutOfMemory) => (0, OUT_OF_MEMORY),
        Some(EndView::LaunchFailed) => (0, CANNOT_OPEN),
        Some(EndView::NodeFailed) => (1, 0),
        Some(EndView::TimedOut | EndView::Deadline | EndView::Cancelled { .. } | EndView::Preempted)
            if has_run =>
        {
            (0, SIGTERM)
        }
        _ => (0, 0),
    }
}

/// The exit code and the signal that sacct shows for a job: what Muster itself ended has none.
pub(super) fn accounting_exit(line: &TaskLine) -> (u32, u32) {
    match &line.end {
        Some(EndView::TimedOut | EndView::Deadline | EndView::Cancelled { .. } | EndView::Preempted) => {
            (0, 0)
        }
        _ => exit(line),
    }
}

/// The state that sacct shows for the script of a job.
pub(super) fn batch(line: &TaskLine) -> &'static str {
    match &line.end {
        Some(
            EndView::Signalled { .. }
            | EndView::LaunchFailed
            | EndView::TimedOut
            | EndView::Deadline
            | EndView::Cancelled { .. }
            | EndView::Preempted
            | EndView::NodeFailed,
        ) if line.state.is_finished() => "CANCELLED",
        _ => of(line.state).long,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_found_by_both_names_in_any_case() {
        assert_eq!(find("pd"), find("Pending"));
        assert_eq!(find("oom").unwrap().ours, Some(TaskState::OutOfMemory));
        assert!(find("BOGUS").is_none() && find("3").is_none());
        for state in TaskState::ALL {
            assert_eq!(of(state).ours, Some(state));
        }
        assert!(known().starts_with("PENDING,RUNNING,SUSPENDED,") && known().ends_with("STAGE_OUT,STOPPED"));
    }
}
