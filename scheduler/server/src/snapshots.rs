//! Snapshots are taken on a thread of their own, while the engine goes on.
//!
//! A snapshot is made of a copy of what readers see, in which all that has ended is shared with theirs, so that the engine waits for some
//! milliseconds at most. From time to time it is made of what the disk holds, read again, so that all that was stored is looked at. If
//! that is found damaged, the snapshot is made of the copy, and the damage is covered by it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use muster_store::{Snapshot, SnapshotWriter, StoreError};

use crate::engine_loop::chain;
use crate::error::ServerError;
use crate::heap;
use crate::shared::Shared;

/// One snapshot of so many, the last of them, is made of what the disk holds. A start has just read all of it.
const READ_AGAIN_EVERY: u32 = 8;
/// Changes after which a snapshot is taken at the earliest. To replay them takes less than a second.
const CHANGES_MIN: u64 = 100_000;
/// Bytes of the last snapshot for each change until the next: about half of what a change takes in the journal, so that snapshots of a
/// large state cost less than the journal itself.
const BYTES_PER_CHANGE: u64 = 64;

/// What became of a snapshot.
pub(crate) type Outcome = Result<Snapshot, StoreError>;

/// Says when the next snapshot is due. A record that tells of many attempts counts for each of them: it takes as long to replay.
#[derive(Debug)]
struct Due {
    /// Changes since the last snapshot.
    changes: u64,
    /// How many of them the snapshot under way holds.
    under_way: u64,
    /// How many make the next one due.
    after: u64,
}

impl Due {
    fn stored(&mut self, records: &[Record]) {
        self.changes += records.iter().map(|record| record.event.ran().count().max(1) as u64).sum::<u64>();
    }

    fn is_now(&self) -> bool {
        self.changes >= self.after
    }

    fn came_to(&mut self, outcome: &Outcome) {
        match outcome {
            Ok(snapshot) => {
                self.changes -= self.under_way;
                self.after = CHANGES_MIN.max(snapshot.bytes / BYTES_PER_CHANGE);
            }
            // The journal is whole without it: a failure costs time at the next start, and nothing else.
            Err(_) => self.after = self.changes + CHANGES_MIN,
        }
    }
}

/// Takes snapshots, one at a time.
pub(crate) struct Snapshots {
    due: Due,
    requests: SyncSender<Timestamp>,
    outcomes: Receiver<Outcome>,
    is_under_way: bool,
    _thread: JoinHandle<()>,
}

impl Snapshots {
    /// Starts the thread. There are so many records since the last snapshot.
    pub fn start(writer: SnapshotWriter, shared: Arc<Shared>, since: u64) -> Result<Self, ServerError> {
        let (requests, asked) = sync_channel::<Timestamp>(1);
        let (tell, outcomes) = sync_channel(1);
        let mut taker = Taker { writer, shared, taken: 0 };
        let take = move || {
            for at in asked {
                if tell.send(taker.take(at)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(take);
        let doing = "start the thread for snapshots";
        let thread = thread.map_err(|source| ServerError::System { doing, source })?;
        let due = Due { changes: since, under_way: 0, after: CHANGES_MIN };
        Ok(Self { due, requests, outcomes, is_under_way: false, _thread: thread })
    }

    /// These records were stored, and readers know of them.
    pub fn stored(&mut self, records: &[Record]) {
        self.due.stored(records);
    }

    /// Asks for a snapshot if one is due and none under way.
    pub fn request_if_due(&mut self, at: Timestamp) {
        if self.due.is_now() {
            self.request(at);
        }
    }

    fn request(&mut self, at: Timestamp) {
        if !self.is_under_way {
            self.is_under_way = self.requests.try_send(at).is_ok();
            self.due.under_way = self.due.changes;
        }
    }

    /// What became of the snapshot under way, if it has come to its end.
    pub fn outcome(&mut self) -> Option<Outcome> {
        if !self.is_under_way {
            return None;
        }
        match self.outcomes.try_recv() {
            Err(TryRecvError::Empty) => None,
            received => self.came_to(received.ok()),
        }
    }

    /// Waits for the snapshot under way, if there is one.
    pub fn wait(&mut self) -> Option<Outcome> {
        let waited = if self.is_under_way { self.outcomes.recv().ok() } else { None };
        self.came_to(waited)
    }

    fn came_to(&mut self, outcome: Option<Outcome>) -> Option<Outcome> {
        self.is_under_way = false;
        if let Some(outcome) = &outcome {
            self.due.came_to(outcome);
        }
        outcome
    }
}

struct Taker {
    writer: SnapshotWriter,
    shared: Arc<Shared>,
    /// How many were begun.
    taken: u32,
}

impl Taker {
    fn take(&mut self, at: Timestamp) -> Outcome {
        let started = Instant::now();
        self.taken = self.taken.wrapping_add(1);
        let reads_again = self.taken.is_multiple_of(READ_AGAIN_EVERY);
        let (state, seq) = match reads_again {
            true => self.read_again(),
            false => self.shared.copy_with_seq(),
        };
        let read_ms = started.elapsed().as_millis();
        let snapshot = self.writer.write(&state, seq, at)?;
        drop(state);
        heap::give_back();
        let whole_ms = started.elapsed().as_millis();
        tracing::info!(seq, bytes = snapshot.bytes, reads_again, read_ms, whole_ms, "a snapshot was taken");
        Ok(snapshot)
    }

    fn read_again(&mut self) -> (State, u64) {
        self.writer.state_on_disk().unwrap_or_else(|error| {
            tracing::error!(
                error = %chain(&error),
                "the journal cannot be read again; the snapshot is taken of what is in memory, so that nothing is lost"
            );
            self.shared.copy_with_seq()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use muster_core::cluster::ClusterConfig;
    use muster_core::event::{Event, Ran, Usage, Verdict};
    use muster_core::ids::{JobId, TaskIndex};
    use muster_store::Store;

    use super::*;

    fn held(seq: u64) -> Record {
        let event = serde_json::json!({"type": "node_held", "node": 0, "reason": format!("reason {seq}")});
        Record { at: Timestamp(seq), event: serde_json::from_value(event).unwrap() }
    }

    /// A new store with one record, and the state that it makes.
    fn configured(path: &Path) -> (Store, State) {
        let (mut store, _) = Store::open(path).unwrap();
        let node = serde_json::json!({"name": "n1", "cores": 1, "memory_bytes": 1, "wrap_cores": false});
        let nodes = vec![serde_json::from_value(node).unwrap()];
        let config = Arc::new(ClusterConfig { nodes, ..ClusterConfig::default() });
        let record = Record { at: Timestamp(1), event: Event::Configured { config } };
        let mut state = State::new();
        state.evolve(&record.event, record.at);
        store.append(&[record], &[]).unwrap();
        (store, state)
    }

    #[test]
    fn snapshots_hold_what_was_stored_and_one_in_eight_is_made_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.db");
        let (mut store, mut state) = configured(&path);
        let shared = Arc::new(Shared::new(state.clone(), store.last_seq()));
        let mut snapshots =
            Snapshots::start(store.snapshot_writer().unwrap(), Arc::clone(&shared), 0).unwrap();
        let mut next = held(2);
        for taken in 0..18 {
            // Readers are one record behind the disk.
            let seq = 2 * taken + 3;
            let (first, second) = (next, held(seq));
            next = held(seq + 1);
            store.append(&[first.clone(), second.clone()], &[]).unwrap();
            state.evolve(&first.event, first.at);
            shared.publish(&[first], &state);
            snapshots.request(Timestamp(seq));
            let behind = u64::from(!(taken + 1).is_multiple_of(8));
            assert_eq!(snapshots.wait().unwrap().unwrap().seq, seq - behind, "after {taken}");
            state.evolve(&second.event, second.at);
            shared.publish(&[second], &state);
            let (_, on_disk) = Store::open(&copy_of(&path, folder.path(), seq)).unwrap();
            assert_eq!((&on_disk.state, on_disk.replayed), (&state, behind));
        }
    }

    /// What a crash at this instant would leave.
    fn copy_of(path: &Path, folder: &Path, seq: u64) -> PathBuf {
        let copy = folder.join(format!("copy-{seq}.db"));
        let beside = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        std::fs::copy(path, &copy).unwrap();
        std::fs::copy(beside(path), beside(&copy)).unwrap();
        copy
    }

    #[test]
    fn damage_on_the_disk_is_covered_by_what_is_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.db");
        let (mut store, mut state) = configured(&path);
        let shared = Arc::new(Shared::new(state.clone(), store.last_seq()));
        let mut snapshots =
            Snapshots::start(store.snapshot_writer().unwrap(), Arc::clone(&shared), 0).unwrap();
        let mut happen = |records: &[Record]| {
            store.append(records, &[]).unwrap();
            records.iter().for_each(|record| state.evolve(&record.event, record.at));
            shared.publish(records, &state);
        };
        for seq in 2..9 {
            happen(&[held(seq)]);
            snapshots.request(Timestamp(seq));
            assert_eq!(snapshots.wait().unwrap().unwrap().seq, seq);
        }
        // The eighth reads what is behind the seventh, and finds the damage.
        happen(&(9..13).map(held).collect::<Vec<_>>());
        let other = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(other.execute("UPDATE journal SET at_us = 9 WHERE seq = 10", []).unwrap(), 1);
        snapshots.request(Timestamp(13));
        let snapshot = snapshots.wait().unwrap().unwrap();
        assert_eq!((snapshot.seq, snapshots.outcome().is_none()), (12, true));
        drop((store, snapshots, other));
        let (_, recovered) = Store::open(&path).unwrap();
        assert_eq!((recovered.state, recovered.replayed), (state, 0));
    }

    #[test]
    fn a_record_of_many_attempts_counts_for_each_of_them() {
        let mut due = Due { changes: 10, under_way: 0, after: CHANGES_MIN };
        let ran = |index| Ran {
            index: TaskIndex(index),
            attempt: 1,
            started_at: Timestamp(1),
            usage: Usage::default(),
        };
        let many = Event::AttemptsRan {
            job: JobId(1),
            verdict: Verdict::Exited { code: 0 },
            ran: (0..1000).map(ran).collect(),
        };
        let many = Record { at: Timestamp(1), event: many };
        due.stored(&[held(1), many.clone(), held(2)]);
        assert_eq!((due.changes, due.is_now()), (1012, false));
        due.stored(&vec![many; 99]);
        assert!(due.is_now());
        due.under_way = due.changes;
        due.stored(&[held(3)]);
        let bytes = 100 * BYTES_PER_CHANGE * CHANGES_MIN;
        due.came_to(&Ok(Snapshot { seq: 1, bytes }));
        assert_eq!((due.changes, due.after), (1, 100 * CHANGES_MIN));
        let full = StoreError::Full { place: Path::new("/").into() };
        due.came_to(&Err(full));
        assert_eq!((due.changes, due.after), (1, CHANGES_MIN + 1));
    }
}
