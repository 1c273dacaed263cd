//! Chores: commands that make nodes ready for the work of others, and clean up after it.
//!
//! A pool's start task runs on each node that is lent to the pool. A job's preparation task runs on a node before the first task
//! of the job there, and its release task at the job's end on each node where the preparation ran.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::exit::Failure;
use super::ids::{BatchJobKey, BatchPoolKey, FoldedId};
use super::spec::Retries;
use crate::ids::NodeId;
use crate::spec::User;
use crate::staging::Staging;

/// Id of a job's preparation task of which nothing else is said.
pub const PREPARATION_ID: &str = "jobpreparation";
/// Id of a job's release task of which nothing else is said.
pub const RELEASE_ID: &str = "jobrelease";
/// How long a release task may run, by default and at most, in seconds.
pub const RELEASE_MAX_S: u64 = 900;
/// The folder of a start task, below the node's root for work.
pub const STARTUP_FOLDER: &str = "startup";

/// A chore as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoreSpec {
    /// Whom it runs as: who said it.
    pub user: User,
    /// Its id, as typed; empty for a start task, which has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its command line.
    pub command: Box<str>,
    /// How long an attempt may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_clock_max_s: Option<u64>,
    /// How often it is tried again.
    pub retries: Retries,
    /// Whether tasks wait until it has succeeded.
    pub waits: bool,
    /// Whether it runs again after a restart of its node, although it has succeeded there before.
    pub reruns: bool,
    /// Its files: what is brought, and how long they are kept.
    #[serde(default)]
    pub staging: Staging,
    /// The container in which it runs, if it runs in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Variables of its command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
}

/// Whose chore it is, and which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "chore", rename_all = "snake_case")]
pub enum ChoreOf {
    /// A pool's start task.
    Start {
        /// The pool.
        pool: FoldedId,
    },
    /// A job's preparation task.
    Preparation {
        /// The job.
        job: FoldedId,
    },
    /// A job's release task.
    Release {
        /// The job.
        job: FoldedId,
    },
}

/// Names a chore on a node. Those of one node follow each other in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChoreKey {
    /// The node.
    pub node: NodeId,
    /// The account.
    pub account: Arc<str>,
    /// Whose and which.
    pub of: ChoreOf,
}

impl ChoreKey {
    /// A pool's start task on a node.
    #[must_use]
    pub fn start(pool: &BatchPoolKey, node: NodeId) -> Self {
        Self { node, account: Arc::clone(&pool.account), of: ChoreOf::Start { pool: pool.pool.clone() } }
    }

    /// A job's preparation task on a node.
    #[must_use]
    pub fn preparation(job: &BatchJobKey, node: NodeId) -> Self {
        Self { node, account: Arc::clone(&job.account), of: ChoreOf::Preparation { job: job.job.clone() } }
    }

    /// A job's release task on a node.
    #[must_use]
    pub fn release(job: &BatchJobKey, node: NodeId) -> Self {
        Self { node, account: Arc::clone(&job.account), of: ChoreOf::Release { job: job.job.clone() } }
    }

    /// The job that it is of, if it is of one.
    #[must_use]
    pub fn job_key(&self) -> Option<BatchJobKey> {
        match &self.of {
            ChoreOf::Start { .. } => None,
            ChoreOf::Preparation { job } | ChoreOf::Release { job } => {
                Some(BatchJobKey { account: Arc::clone(&self.account), job: job.clone() })
            }
        }
    }
}

/// What becomes of a chore whose job of the cluster has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ChoreOutcome {
    /// It is over.
    Ended {
        /// The exit code of its command, if that came to an end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// Its command failed, and is tried again.
    Retried,
    /// Its node failed under it: it runs again when the node is back.
    Again,
}
