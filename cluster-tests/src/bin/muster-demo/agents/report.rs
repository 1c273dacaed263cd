//! What is measured, as it is told.

use serde::Serialize;

/// Everything that was measured; what was left out is missing.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub agents: u32,
    pub waiting_tasks: u32,
    /// Until the controller listens for the first time, certificates made.
    pub start_s: f64,
    pub registration: Registration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gang: Option<Gang>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deaf: Option<Deaf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    pub memory_peak_mib: f64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Registration {
    pub seconds: f64,
    pub cpu_us_per_node: f64,
    pub memory_kib_per_node: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Rest {
    pub seconds: f64,
    pub heartbeats_per_s: f64,
    /// Of one core.
    pub cpu_percent: f64,
    pub memory_mib: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Gang {
    pub nodes: u32,
    /// From the submit until all agents were told to prepare.
    pub prepared_s: f64,
    /// Until all were told to go.
    pub told_to_go_s: f64,
    /// Until the controller says that it runs.
    pub running_s: f64,
    /// CPU time of the controller until then.
    pub launch_cpu_s: f64,
    /// From the cancel until all agents were told that its end is durable.
    pub ended_s: f64,
    /// CPU time of the controller for all of it.
    pub cpu_s: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Swarms {
    pub tasks: u32,
    pub many: Swarm,
    pub one: Swarm,
    /// The rate with many agents over that with one.
    pub ratio: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Swarm {
    pub agents: u32,
    pub slots: u32,
    pub tasks_per_s: f64,
    pub cpu_us_per_task: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Deaf {
    pub agents: u32,
    /// Of a single task, from its submit until its end is durable.
    pub median_ms_before: f64,
    pub p99_ms_before: f64,
    pub median_ms: f64,
    pub p99_ms: f64,
    pub memory_kib_per_deaf_agent: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub killed: u32,
    pub cut: u32,
    pub node_timeout_s: u64,
    /// Until all nodes whose agent was killed are down.
    pub killed_down_s: f64,
    pub cut_down_s: f64,
    /// Of a single task meanwhile.
    pub median_ms: f64,
    pub p99_ms: f64,
    pub cpu_s: f64,
    /// Until all are back.
    pub back_s: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Restart {
    pub running_tasks: u64,
    /// From the kill until the controller listens again.
    pub listens_s: f64,
    /// Until all agents have a session again.
    pub back_s: f64,
    pub cpu_s: f64,
}

pub(super) fn say_swarm(what: &str, swarm: &Swarm) {
    println!(
        "{:36} {:.0} tasks/s, {:.0} us of CPU time each",
        format!("{what} on {} slots", swarm.slots),
        swarm.tasks_per_s,
        swarm.cpu_us_per_task
    );
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(super) fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
