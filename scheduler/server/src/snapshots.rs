//! Snapshots are taken on a thread of their own, of a copy of the durable state, while the engine goes on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use muster_core::ids::Timestamp;
use muster_store::{Snapshot, SnapshotWriter, StoreError};

use crate::error::ServerError;
use crate::shared::Shared;

/// What became of a snapshot.
pub(crate) type Outcome = Result<Snapshot, StoreError>;

/// Takes snapshots, one at a time.
pub(crate) struct Snapshots {
    requests: SyncSender<Timestamp>,
    outcomes: Receiver<Outcome>,
    is_under_way: bool,
    _thread: JoinHandle<()>,
}

impl Snapshots {
    /// Starts the thread.
    pub fn start(mut writer: SnapshotWriter, shared: Arc<Shared>) -> Result<Self, ServerError> {
        let (requests, asked) = sync_channel::<Timestamp>(1);
        let (tell, outcomes) = sync_channel(1);
        let take = move || {
            for at in asked {
                if tell.send(take(&mut writer, &shared, at)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(take);
        let doing = "start the thread for snapshots";
        let thread = thread.map_err(|source| ServerError::System { doing, source })?;
        Ok(Self { requests, outcomes, is_under_way: false, _thread: thread })
    }

    /// Asks for a snapshot, unless one is under way.
    pub fn request(&mut self, at: Timestamp) {
        if !self.is_under_way {
            self.is_under_way = self.requests.try_send(at).is_ok();
        }
    }

    /// What became of the snapshot under way, if it has come to its end.
    pub fn outcome(&mut self) -> Option<Outcome> {
        if !self.is_under_way {
            return None;
        }
        match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) => None,
            received => {
                self.is_under_way = false;
                received.ok()
            }
        }
    }

    /// Waits for the snapshot under way, if there is one.
    pub fn wait(&mut self) -> Option<Outcome> {
        let waited = if self.is_under_way { self.outcomes.recv().ok() } else { None };
        self.is_under_way = false;
        waited
    }
}

fn take(writer: &mut SnapshotWriter, shared: &Shared, at: Timestamp) -> Outcome {
    let started = Instant::now();
    let (state, seq) = shared.copy_with_seq();
    let copy_ms = started.elapsed().as_millis();
    let snapshot = writer.write(&state, seq, at)?;
    let whole_ms = started.elapsed().as_millis();
    tracing::info!(seq, bytes = snapshot.bytes, copy_ms, whole_ms, "a snapshot was taken");
    Ok(snapshot)
}
