//! Waiting for what happens on a site.

use std::time::{Duration, Instant};

use muster_client::api::{JobDetail, NodeView};
use muster_core::ids::{JobId, JobRef};

use super::{NODES_UP_LIMIT, Site, SiteError, files};

/// How often the list of nodes is asked for: the API has no call that waits for nodes.
const NODES_INTERVAL: Duration = Duration::from_millis(20);

impl Site {
    /// Waits until every node takes work, but for those that are off until somebody wants them.
    ///
    /// # Errors
    /// [`SiteError::NodesDown`] with the nodes that do not, and the end of the controller's log.
    pub fn await_nodes_up(&self) -> Result<(), SiteError> {
        let away = |node: &NodeView| !matches!(node.state.as_str(), "idle" | "mixed" | "full" | "off");
        self.await_nodes(NODES_UP_LIMIT, |nodes| !nodes.iter().any(away))
    }

    /// Waits until the nodes are as `wanted`.
    ///
    /// # Errors
    /// [`SiteError::NodesDown`] after `limit`.
    pub fn await_nodes(
        &self,
        limit: Duration,
        wanted: impl Fn(&[NodeView]) -> bool,
    ) -> Result<(), SiteError> {
        let until = Instant::now() + limit;
        let mut client = self.client()?;
        loop {
            let nodes = client.nodes()?.nodes;
            if wanted(&nodes) {
                return Ok(());
            }
            if Instant::now() > until {
                let say = |node: &NodeView| format!("{} is {}: {}", node.name, node.state, node.reason);
                let missing = nodes.iter().map(say).collect::<Vec<_>>().join("; ");
                return Err(SiteError::NodesDown { missing, log: files::tail(&self.controller_log()) });
            }
            std::thread::sleep(NODES_INTERVAL);
        }
    }

    /// Waits until a job is as `wanted`, by the API's call that waits for changes.
    ///
    /// # Errors
    /// [`SiteError::Late`] after `limit`, with what is known of the job.
    pub fn wait_until(
        &self,
        job: JobId,
        limit: Duration,
        wanted: impl Fn(&JobDetail) -> bool,
    ) -> Result<JobDetail, SiteError> {
        let until = Instant::now() + limit;
        let target = JobRef { job, task: None };
        let mut client = self.client()?;
        let mut detail = client.job(target)?;
        loop {
            if wanted(&detail) {
                return Ok(detail);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SiteError::late(&detail));
            }
            detail = client.wait_change(target, Some(detail.version), left)?;
        }
    }
}
