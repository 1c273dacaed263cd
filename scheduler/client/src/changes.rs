//! Changing what was accepted, and reaching what runs.

use muster_core::ids::{JobId, JobRef};
use muster_core::spec::{Request, SignalTo};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::ClientError;

/// A signal to what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Its number.
    pub signal: u8,
    /// Who of each attempt gets it.
    pub to: SignalTo,
}

/// How what runs is to be put back into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequeueRequest {
    /// Whether the job is held then.
    #[serde(default)]
    pub hold: bool,
}

/// How many running tasks a command reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedAnswer {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// How many.
    pub tasks: u64,
}

/// What is to change of a job; what is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobUpdate {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its time limit, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// Its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// By how much its user lowers its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// What its user says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether its tasks are queued again when a node fails under them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue: Option<bool>,
    /// How many of the array's elements may run at once; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// Its pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The account that is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its quality of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses; empty is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// The instant before which it does not start, in microseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_us: Option<u64>,
    /// What it depends on, as `--dependency` writes it; empty is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependency: Option<String>,
    /// What each task needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

/// A job's script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptAnswer {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// Its text.
    pub script: String,
}

impl Client {
    /// The script of a job that has not been forgotten: for its owner and admins.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn script(&mut self, job: JobRef) -> Result<ScriptAnswer, ClientError> {
        self.get(format!("/v1/jobs/{job}/script"))
    }

    /// Signals the running attempts of a job or task.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403, 404 or 409; otherwise as every route.
    pub fn signal(&mut self, job: JobRef, signal: u8, to: SignalTo) -> Result<ReachedAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/signal"), &SignalRequest { signal, to })
    }

    /// Puts the live tasks of a job, or one of them, back into the queue.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403, 404 or 409; otherwise as every route.
    pub fn requeue(&mut self, job: JobRef, hold: bool) -> Result<ReachedAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/requeue"), &RequeueRequest { hold })
    }

    /// Changes a job.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 400, 403, 404 or 409; otherwise as every route.
    pub fn update_job(&mut self, job: JobId, update: &JobUpdate) -> Result<(), ClientError> {
        self.post(format!("/v1/jobs/{job}/update"), update).map(|_: serde_json::Value| ())
    }
}
