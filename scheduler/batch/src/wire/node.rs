//! Nodes of pools.

use muster_core::batch::{FoldedId, NodeMove};
use muster_core::state::{BatchPool, Node, NodeStatus, Power, Seat, SetupRun, State};
use serde_json::{Value, json};

use super::pool::said;
use super::{chore, iso, without_secrets};

/// The state of a node as the protocol calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`as_str` has the protocol's own words")]
pub enum NodeWord {
    Idle,
    Running,
    Creating,
    Starting,
    WaitingForStartTask,
    StartTaskFailed,
    LeavingPool,
    Preempted,
    Offline,
    Unknown,
    Unusable,
}

impl NodeWord {
    /// As the protocol writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::WaitingForStartTask => "waitingforstarttask",
            Self::StartTaskFailed => "starttaskfailed",
            Self::LeavingPool => "leavingpool",
            Self::Preempted => "preempted",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
            Self::Unusable => "unusable",
        }
    }
}

/// The state of a node of a pool.
#[must_use]
pub fn node_word(pool: &BatchPool, node: &Node, seat: &Seat) -> NodeWord {
    match seat.at {
        NodeMove::Leaving | NodeMove::Back => NodeWord::LeavingPool,
        NodeMove::Claimed if matches!(node.power, Some(Power::PoweringUp { called: false, .. })) => {
            NodeWord::Creating
        }
        NodeMove::Preempted => NodeWord::Preempted,
        // No seat is on its way like this.
        NodeMove::LentLow => NodeWord::Starting,
        NodeMove::Claimed => NodeWord::Starting,
        NodeMove::Lent if !node.is_up() => NodeWord::Unknown,
        NodeMove::Lent if node.is_drained() => NodeWord::Unusable,
        NodeMove::Lent if !seat.is_set_up() => match seat.setup.as_ref().map(SetupRun::errors) {
            Some([_, ..]) => NodeWord::Unusable,
            _ => NodeWord::Starting,
        },
        NodeMove::Lent if !seat.is_started(pool) => match &seat.start {
            Some(start) if start.is_over() => NodeWord::StartTaskFailed,
            _ => NodeWord::WaitingForStartTask,
        },
        NodeMove::Lent if !node.attempts.is_empty() => NodeWord::Running,
        NodeMove::Lent if !seat.enabled => NodeWord::Offline,
        NodeMove::Lent => NodeWord::Idle,
    }
}

/// A node of a pool, as clients see it.
#[must_use]
pub fn show_node(
    state: &State,
    (pool_id, pool): (&FoldedId, &BatchPool),
    node: &Node,
    seat: &Seat,
    base: &str,
) -> Value {
    let id = &node.name;
    let (since, address) = match &node.status {
        NodeStatus::Up { since, hardware, .. } => (Some(*since), hardware.address.clone()),
        NodeStatus::Down { since, .. } => (Some(*since), String::new()),
        NodeStatus::Unknown => (None, String::new()),
    };
    // What runs on a node that was taken back is of others.
    let is_there = seat.at != NodeMove::Preempted;
    let attempts = || node.attempts.iter().filter(|_| is_there);
    let slots: u32 = attempts()
        .filter_map(|key| state.batch_task(state.batch_task_of(key.task.job)?))
        .map(|(job, task)| job.shape(task).slots)
        .sum();
    let mut shown = json!({
        "id": id,
        "url": format!("{base}/pools/{pool_id}/nodes/{id}"),
        "state": node_word(pool, node, seat).as_str(),
        "schedulingState": if seat.enabled { "enabled" } else { "disabled" },
        "stateTransitionTime": iso(seat.since),
        "allocationTime": iso(seat.since),
        "ipAddress": address,
        "affinityId": id,
        "vmSize": pool.spec.home,
        "isDedicated": !seat.low,
        "totalTasksRun": 0,
        "totalTasksSucceeded": 0,
        "runningTasksCount": attempts().count(),
        "runningTaskSlotsCount": slots,
        "recentTasks": [],
        "endpointConfiguration": { "inboundEndpoints": [] },
    });
    if let Some(since) = since {
        shown["lastBootTime"] = iso(since).into();
    }
    if let Some(start) = &seat.start {
        shown["startTaskInfo"] = chore::show_run(start);
    }
    if let Some(start) = said(&pool.spec.said).remove("startTask") {
        shown["startTask"] = start;
        without_secrets(&mut shown["startTask"]);
    }
    let why =
        node.why_no_work().filter(|_| is_there).map(|why| json!({ "code": "NodeNotReady", "message": why }));
    let errors = seat.setup.iter().flat_map(SetupRun::errors);
    let errors = errors.map(|error| json!({ "code": error.code, "message": error.message }));
    let errors: Vec<Value> = why.into_iter().chain(errors).collect();
    if !errors.is_empty() {
        shown["errors"] = errors.into();
    }
    shown
}
