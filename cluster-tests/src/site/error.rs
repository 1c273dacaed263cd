//! What can go wrong with a site.

use std::path::PathBuf;

use muster_client::ClientError;
use muster_client::api::{JobDetail, JobSummary};

use crate::ClusterError;

/// What can go wrong with a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The hosts.
    #[error("the virtual cluster failed")]
    Cluster(#[from] ClusterError),
    /// The client API.
    #[error("the controller's API failed")]
    Client(#[from] ClientError),
    /// A file of the site.
    #[error("{}: cannot be used", path.display())]
    Files {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A binary that was not built.
    #[error("{} is missing: run `make build mpi-tasks` first", path.display())]
    NotBuilt {
        /// Where it should be.
        path: PathBuf,
    },
    /// A program that could not be run.
    #[error("{program} could not be run")]
    Spawn {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A pipe.
    #[error("a pipe to the controller failed")]
    Pipe(#[source] std::io::Error),
    /// The controller did not come up.
    #[error("the controller did not come up; the end of its log:\n{log}")]
    Controller {
        /// The last lines.
        log: String,
    },
    /// No controller runs in `head`.
    #[error("no controller runs in head")]
    NoController,
    /// Nodes that did not come up.
    #[error("nodes did not come up: {missing}; the end of the controller's log:\n{log}")]
    NodesDown {
        /// Which, with their reasons.
        missing: String,
        /// The last lines.
        log: String,
    },
    /// A submit that was refused.
    #[error("the submit was refused with exit code {code:?}: {message}")]
    Refused {
        /// Exit code of the command.
        code: Option<i32>,
        /// What it said.
        message: String,
    },
    /// Something that did not happen in time.
    #[error("job {job} did not get there in time; it is {seen}")]
    Late {
        /// The job.
        job: u64,
        /// Its state and reason.
        seen: String,
    },
}

impl SiteError {
    /// [`SiteError::Late`], with what is known of the job.
    pub(super) fn late(detail: &JobDetail) -> Self {
        let JobSummary { job, state, reason, .. } = &detail.summary;
        Self::Late { job: *job, seen: format!("{state:?}: {reason}") }
    }
}
