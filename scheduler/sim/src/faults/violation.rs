//! What the checkers watch for.

use std::sync::Arc;

use muster_core::ids::{AttemptKey, JobId};
use muster_core::state::Broken;

/// A promise that was broken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Violation {
    /// The state contradicts itself.
    #[error("an invariant of the state does not hold")]
    Invariant(#[source] Broken),
    /// Replaying the journal gives another state.
    #[error("replaying {records} records {from} gives another state")]
    ReplayDiffers {
        /// What they were replayed over.
        from: &'static str,
        /// How many.
        records: usize,
    },
    /// What passes look at no longer follows from the state.
    #[error("what the planner keeps no longer follows from the state")]
    PlannerDiffers,
    /// The state cannot be written or read.
    #[error("the snapshot cannot be written and read again")]
    Snapshot(#[source] Arc<serde_json::Error>),
    /// Two attempts really held the same core.
    #[error("node {node}: {first} and {second} held the same core")]
    CoreTwice {
        /// The node.
        node: String,
        /// One.
        first: AttemptKey,
        /// The other.
        second: AttemptKey,
    },
    /// A script was started twice in one attempt.
    #[error("{key} was started twice")]
    StartedTwice {
        /// The attempt.
        key: AttemptKey,
    },
    /// A gang was started although an instance did not stand.
    #[error("{key} was started although node {node} was not prepared")]
    StartedAlone {
        /// The attempt.
        key: AttemptKey,
        /// The node.
        node: String,
    },
    /// An attempt was given a node that gets no new work.
    #[error("{key} was placed on node {node}, which is held")]
    PlacedOnHeld {
        /// The node.
        node: String,
        /// The attempt.
        key: AttemptKey,
    },
    /// A script was started although its job still had to wait for something.
    #[error("{key} was started before its job was free to start")]
    StartedEarly {
        /// The attempt.
        key: AttemptKey,
    },
    /// A script was started although as many of its user's tasks run in its quality of service as may.
    #[error("{key} was started beyond the limit of its quality of service")]
    TooManyRun {
        /// The attempt.
        key: AttemptKey,
    },
    /// A recurring job was started before its instant, or beside another one of its entry.
    #[error("{key} recurs, and was started before its instant or beside another")]
    RecursWrongly {
        /// The attempt.
        key: AttemptKey,
    },
    /// An attempt was ended for a job that had no right over it.
    #[error("{key} gave way to a job that had no right over it")]
    NoRight {
        /// The attempt.
        key: AttemptKey,
    },
    /// A script was started on other nodes or cores than its job wished.
    #[error("{key} was started on nodes that do not follow each other, or on cores with too few threads")]
    OutOfPlace {
        /// The attempt.
        key: AttemptKey,
    },
    /// Something accepted never came to its end.
    #[error("{waiting} tasks still wait and {live} are still live after {steps} calm steps; {why}")]
    NeverEnds {
        /// What the first of those that wait waits for, or where the first of those that live stands.
        why: String,
        /// Waiting tasks.
        waiting: u64,
        /// Live attempts.
        live: usize,
        /// Steps.
        steps: u64,
    },
    /// An accepted job is not known any more.
    #[error("job {job} was accepted and is lost")]
    JobLost {
        /// The job.
        job: JobId,
    },
}
