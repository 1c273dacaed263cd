//! The supervisor's connections to agents: each is told every report, and may say go, signal and stop.

use std::path::Path;
use std::time::Duration;

use muster_wire::v1::{InstanceReport, ToNode, to_node::Body};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Event;
use crate::error::{NodeError, Result};
use crate::frame;

/// How long the last report waits for an agent to take it. It lies on the disk as well.
const LAST_REPORT_WITHIN: Duration = Duration::from_secs(2);

/// The task that owns all connections.
pub(super) struct Connections(tokio::task::JoinHandle<()>);

impl Connections {
    /// Waits until all agents have the last report. The report's sender must be gone already.
    pub(super) async fn finish(self) {
        let _ = tokio::time::timeout(LAST_REPORT_WITHIN, self.0).await;
    }
}

/// Serves the agent that started this supervisor, and those that come later.
///
/// # Errors
///
/// [`NodeError::File`] if the socket cannot be made.
pub(super) fn serve(
    path: &Path,
    first: UnixStream,
    report: watch::Receiver<InstanceReport>,
    events: mpsc::Sender<Event>,
) -> Result<Connections> {
    let listener = UnixListener::bind(path).map_err(NodeError::file("listen at", path))?;
    Ok(Connections(tokio::spawn(async move {
        let mut agents = JoinSet::new();
        agents.spawn(talk(first, report.clone(), events.clone()));
        let mut ended = report.clone();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((agent, _)) = accepted {
                        agents.spawn(talk(agent, report.clone(), events.clone()));
                    }
                }
                // An error means that the sender is gone: the attempt has ended.
                changed = ended.changed() => if changed.is_err() { break },
            }
            while agents.try_join_next().is_some() {}
        }
        while agents.join_next().await.is_some() {}
    })))
}

async fn talk(
    mut agent: UnixStream,
    mut report: watch::Receiver<InstanceReport>,
    events: mpsc::Sender<Event>,
) {
    let (mut from, mut to) = agent.split();
    // Reading a frame cannot be interrupted without losing bytes, so it has its own arm, which lives on across
    // the reports.
    let hear = async {
        while let Ok(Some(message)) = frame::read::<ToNode>(&mut from).await {
            let event = match message.body {
                Some(Body::Go(go)) => Event::Go(go),
                Some(Body::Stop(stop)) => Event::Stop(stop),
                Some(Body::Signal(signal)) => Event::Signal(signal),
                other => {
                    tracing::warn!(message = ?other.map(|_| "unexpected"), "the agent said something unknown");
                    continue;
                }
            };
            if events.send(event).await.is_err() {
                break;
            }
        }
    };
    let tell = async {
        loop {
            let newest = report.borrow_and_update().clone();
            if frame::write(&mut to, &newest).await.is_err() || report.changed().await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = async { hear.await; std::future::pending::<()>().await } => {}
        () = tell => {}
    }
}
