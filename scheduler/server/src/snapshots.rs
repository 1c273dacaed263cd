//! Snapshots are taken on a thread of their own, while the engine goes on.
//!
//! A snapshot is made of what the disk holds, read again: copying the state in memory would hold the engine up for as
//! long as that takes, and so all that was stored is looked at from time to time. If it is found damaged, the snapshot
//! is made of the state in memory, and the damage is covered by it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use muster_core::ids::Timestamp;
use muster_store::{Snapshot, SnapshotWriter, StoreError};

use crate::engine_loop::chain;
use crate::error::ServerError;
use crate::heap;
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
    let (state, seq) = writer.state_on_disk().unwrap_or_else(|error| {
        tracing::error!(
            error = %chain(&error),
            "the journal cannot be read again; the snapshot is taken of what is in memory, so that nothing is lost"
        );
        shared.copy_with_seq()
    });
    let read_ms = started.elapsed().as_millis();
    let snapshot = writer.write(&state, seq, at)?;
    drop(state);
    heap::give_back();
    let whole_ms = started.elapsed().as_millis();
    tracing::info!(seq, bytes = snapshot.bytes, read_ms, whole_ms, "a snapshot was taken");
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_core::cluster::ClusterConfig;
    use muster_core::event::{Event, Record};
    use muster_core::state::State;
    use muster_store::Store;

    use super::*;

    fn held(seq: u64) -> Record {
        let event = serde_json::json!({"type": "node_held", "node": 0, "reason": format!("reason {seq}")});
        Record { at: Timestamp(seq), event: serde_json::from_value(event).unwrap() }
    }

    #[test]
    fn damage_on_the_disk_is_covered_by_what_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.db");
        let (mut store, _) = Store::open(&path).unwrap();
        let node = serde_json::json!({"name": "n1", "cores": 1, "memory_bytes": 1, "wrap_cores": false});
        let nodes = vec![serde_json::from_value(node).unwrap()];
        let config = Arc::new(ClusterConfig { nodes, ..ClusterConfig::default() });
        let mut records = vec![Record { at: Timestamp(1), event: Event::Configured { config } }];
        records.extend((2..6).map(held));
        store.append(&records, &[]).unwrap();
        let mut state = State::new();
        records.iter().for_each(|record| state.evolve(&record.event, record.at));
        let shared = Arc::new(Shared::new(state.clone(), store.last_seq()));
        let mut snapshots = Snapshots::start(store.snapshot_writer().unwrap(), shared).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute("UPDATE journal SET at_us = 9 WHERE seq = 3", []).unwrap();
        snapshots.request(Timestamp(7));
        let snapshot = snapshots.wait().unwrap().unwrap();
        assert_eq!((snapshot.seq, snapshots.outcome().is_none()), (5, true));
        drop((store, snapshots, other));
        let (_, recovered) = Store::open(&path).unwrap();
        assert_eq!((recovered.state, recovered.replayed), (state, 0));
    }
}
