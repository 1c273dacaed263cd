//! Steps: parallel launches inside allocations, as listings show them.

use std::net::IpAddr;

use muster_core::ids::JobRef;
use serde::{Deserialize, Serialize};

use crate::api::TaskState;
use crate::changes::ReachedAnswer;
use crate::client::Client;
use crate::error::ClientError;

/// Most steps of one list.
pub const STEPS_MAX: usize = 200_000;

/// A step. Those that were over within a second are known when they have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Its job.
    pub job: u64,
    /// The task that it belongs to.
    pub task: u32,
    /// Which of that task's attempts, from 1.
    pub attempt: u32,
    /// Its number in the attempt, from 0.
    pub step: u32,
    /// Its name: its program's, if it was given none.
    pub name: String,
    /// [`TaskState::Running`], or how it ended.
    pub state: TaskState,
    /// Host list.
    pub node_list: String,
    /// Nodes.
    pub nodes: u32,
    /// Ranks.
    pub ranks: u32,
    /// Cores, all nodes together.
    pub cores: u64,
    /// When it began, in microseconds since 1970.
    pub started_at_us: u64,
    /// When it ended, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_us: Option<u64>,
    /// The highest exit code of its ranks, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
    /// The signal that killed a rank, if that is how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u32>,
    /// What its ranks have used, once it has ended and if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<StepUsageView>,
}

/// What the ranks of a step have used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepUsageView {
    /// How many ranks this tells of.
    pub ranks: u32,
    /// CPU time in programs, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Least CPU time of a rank, in microseconds.
    pub cpu_min_us: u64,
    /// The rank that had it.
    pub cpu_min_rank: u32,
    /// The node of that rank.
    pub cpu_min_node: String,
    /// Largest memory of one rank, in bytes.
    pub memory_peak_bytes: u64,
    /// The rank that had it.
    pub memory_peak_rank: u32,
    /// The node of that rank.
    pub memory_peak_node: String,
    /// The largest memories of all ranks, added up, in bytes.
    pub memory_sum_bytes: u64,
    /// Read from disks, in bytes.
    pub read_bytes: u64,
    /// Written to disks, in bytes.
    pub written_bytes: u64,
}

/// A signal to the ranks of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSignalRequest {
    /// Its number; without one the step is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}

/// Where somebody waits who looks on at a step: its starter calls there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepAttachRequest {
    /// Addresses of their host.
    pub hosts: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// With this key both sides prove themselves.
    pub key: String,
}

impl Client {
    /// Has the starter of a step of a running task call somebody who looks on. A step that is not there is no error: it
    /// may just have ended, and nobody calls.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403, 404 or 409; otherwise as every route.
    pub fn attach_step(
        &mut self,
        job: JobRef,
        step: u32,
        request: &StepAttachRequest,
    ) -> Result<ReachedAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/steps/{step}/attach"), request)
    }

    /// Signals the ranks of a step of a running task; ends the step without a signal's number. A step that is not there
    /// is no error: it may just have ended.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403, 404 or 409; otherwise as every route.
    pub fn signal_step(
        &mut self,
        job: JobRef,
        step: u32,
        signal: Option<u8>,
    ) -> Result<ReachedAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/steps/{step}/signal"), &StepSignalRequest { signal })
    }
}
