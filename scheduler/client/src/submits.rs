//! Submitting jobs: what is asked for, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::eligibility::Eligibility;
use muster_core::spec::{ArraySpec, MailWish, Request, SignalWish};
use muster_core::staging::Staging;
use serde::{Deserialize, Serialize};

/// A job to submit. The user is the caller; umask, limits and environment are the caller's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// The job's name.
    pub name: String,
    /// The pool; the default pool without.
    #[serde(default)]
    pub pool: Option<String>,
    /// The text of the script.
    pub script: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where it runs; absolute.
    pub working_directory: String,
    /// Pattern of the standard input.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Pattern of the standard output.
    #[serde(default)]
    pub stdout: Option<String>,
    /// Pattern of the standard error.
    #[serde(default)]
    pub stderr: Option<String>,
    /// Whether output files are appended to.
    #[serde(default)]
    pub append: bool,
    /// The file mode creation mask.
    pub umask: u32,
    /// Soft limits by lower-case name of setrlimit(2).
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// The host on which it is submitted.
    #[serde(default)]
    pub submit_host: String,
    /// What each task needs.
    pub request: Request,
    /// Time limit of one attempt, in seconds.
    #[serde(default)]
    pub time_limit_s: Option<u64>,
    /// The elements of an array.
    #[serde(default)]
    pub array: Option<ArraySpec>,
    /// Whether a task is queued again when a node fails under it.
    #[serde(default = "yes")]
    pub requeue: bool,
    /// Higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// When its tasks may start.
    #[serde(default, skip_serializing_if = "Eligibility::is_default")]
    pub eligibility: Eligibility,
    /// The account that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// A signal some time before the time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalWish>,
    /// What the user says about the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The path of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command line that submits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submit_line: Option<String>,
    /// By how much the user lowers the priority; `priority` has it in already.
    #[serde(default)]
    pub nice: i32,
    /// A label of the site's own bookkeeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wckey: Option<String>,
    /// Whom to tell of what becomes of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailWish>,
    /// Licences that each task holds while it runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<String, u32>,
    /// Files that are brought to the tasks and taken away from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Arc<Staging>>,
    /// A key that makes a repeated request harmless.
    #[serde(default)]
    pub request_key: Option<String>,
    /// Check everything, store nothing.
    #[serde(default)]
    pub test_only: bool,
}

impl SubmitRequest {
    /// A job of one task on one core that runs a script, with nothing else wished for.
    #[must_use]
    pub fn of(name: &str, script: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: None,
            script: script.to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            working_directory: "/".to_owned(),
            stdin: None,
            stdout: None,
            stderr: None,
            append: false,
            umask: 0o022,
            limits: BTreeMap::new(),
            submit_host: String::new(),
            request: Request::default(),
            time_limit_s: None,
            array: None,
            requeue: true,
            priority: 0,
            eligibility: Eligibility::default(),
            account: None,
            qos: None,
            reservation: None,
            signal: None,
            comment: None,
            command: None,
            submit_line: None,
            nice: 0,
            wckey: None,
            mail: None,
            licenses: BTreeMap::new(),
            staging: None,
            request_key: None,
            test_only: false,
        }
    }
}

fn yes() -> bool {
    true
}

/// The job that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitAnswer {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// Its id; absent when only a test was asked for.
    pub job: Option<u64>,
    /// What would become of it, where only a test was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestView>,
    /// What the submitter should know although the job was taken, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What would become of a job that was only tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestView {
    /// The id that it would have.
    pub job: u64,
    /// Its pool.
    pub pool: String,
    /// When it would start at the latest if nothing else were submitted, in microseconds since 1970; none if that cannot be
    /// told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_us: Option<u64>,
    /// Cores that it would get.
    pub cores: u64,
    /// Host list of its nodes; empty if its start cannot be told.
    pub node_list: String,
}
