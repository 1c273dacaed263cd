//! Tables of recurring jobs, as the client API speaks of them.

use muster_core::cron::Schedule;
use muster_core::ids::JobRef;
use serde::{Deserialize, Serialize};

use crate::api::{CancelAnswer, SubmitRequest};
use crate::client::Client;
use crate::error::ClientError;
use crate::query::with_query;

/// A table that is to be a user's from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrontabRequest {
    /// The table as it was written.
    pub text: String,
    /// What it says, in the order of its lines.
    pub entries: Vec<CronEntryRequest>,
}

/// An entry of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CronEntryRequest {
    /// The first line that says something of it, from 1.
    pub first_line: u32,
    /// The line with its time and its command.
    pub last_line: u32,
    /// When it runs.
    pub schedule: Schedule,
    /// What runs.
    pub job: SubmitRequest,
}

/// A user's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrontabView {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// Login name of its owner.
    pub user: String,
    /// The table as it was written; absent if there is none.
    pub text: Option<String>,
    /// Its entries, in the order of their lines.
    pub entries: Vec<CronEntryView>,
}

/// An entry of a user's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronEntryView {
    /// The first line that says something of it, from 1.
    pub first_line: u32,
    /// The line with its time and its command.
    pub last_line: u32,
    /// When it runs, as it was written.
    pub schedule: String,
    /// The name of its jobs.
    pub name: String,
    /// The job that waits or runs; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// For which instant that was made, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_us: Option<u64>,
    /// Why it makes no more jobs, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

impl Client {
    /// The table of recurring jobs of the caller; an admin may ask for that of another user.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn crontab(&mut self, user: Option<&str>) -> Result<CrontabView, ClientError> {
        self.get(with_query("/v1/crontab", &[("user", user.map(str::to_owned))]))
    }

    /// Sets a table as a whole, or nothing of it. Jobs of the one before that wait are cancelled.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what is wrong with which line; otherwise as every route.
    pub fn set_crontab(
        &mut self,
        user: Option<&str>,
        request: &CrontabRequest,
    ) -> Result<CrontabView, ClientError> {
        self.post(with_query("/v1/crontab", &[("user", user.map(str::to_owned))]), request)
    }

    /// Removes a table. Jobs of it that wait are cancelled; removing none is well.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403 or 404; otherwise as every route.
    pub fn remove_crontab(&mut self, user: Option<&str>) -> Result<(), ClientError> {
        self.delete(with_query("/v1/crontab", &[("user", user.map(str::to_owned))]))
    }

    /// Cancels a recurring job, and with it the entry of the table that made it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403, 404 or 409; otherwise as every route.
    pub fn stop_cron(&mut self, job: JobRef) -> Result<CancelAnswer, ClientError> {
        self.post(format!("/v1/jobs/{job}/cancel?cron=true"), &serde_json::json!({}))
    }
}
