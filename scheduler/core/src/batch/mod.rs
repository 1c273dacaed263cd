//! The batch service: pools to which nodes are lent, jobs, and tasks with dependencies, exit conditions and retries.
//!
//! These are the values of it; the state keeps them (`state/batch`), and the engine decides about them (`engine/batch`). A task that
//! may run is made into an ordinary job of one task, which is queued and placed as any other.

mod chore;
mod command;
mod container;
mod event;
mod exit;
mod ids;
mod image;
mod mount;
mod package;
mod scaling;
mod schedule;
mod setup;
mod spec;
mod used;

pub use self::chore::{
    ChoreKey, ChoreOf, ChoreOutcome, ChoreSpec, PREPARATION_ID, RELEASE_ID, RELEASE_MAX_S, STARTUP_FOLDER,
};
pub use self::command::{
    Added, BatchCaller, BatchCommand, BatchInput, BatchRefusal, BatchReply, Condition, Deallocation, Disable,
    Target, Targets,
};
pub use self::container::{
    BadOptions, Container, ContainerDirectory, IMAGES_PER_POOL_MAX, PoolContainers, VOLUMES_MAX, Volume,
};
pub use self::event::{BatchEvent, EndWish, NodeMove, Outcome, ResizeError, SchedulingError};
pub use self::exit::{
    DependencyAction, ExitAction, ExitConditions, FailedIn, Failure, FailureCategory, JobAction,
};
pub use self::ids::{BatchJobKey, BatchPoolKey, BatchTaskKey, FoldedId, ID_CHARS_MAX, ScheduleKey, is_id};
pub use self::image::{BadImage, ImageName, ImageSource};
pub use self::mount::{BadMount, MOUNTS_FOLDER, MOUNTS_PER_POOL_MAX, Mount, MountSource};
pub use self::package::{
    APPLICATIONS_FOLDER, APPLICATIONS_PER_ACCOUNT_MAX, Application, BadDigest, FoundPackage,
    PACKAGE_REFERENCES_MAX, Package, PackageDigest, PackageReference, VERSIONS_PER_APPLICATION_MAX,
    find_package, is_version,
};
pub use self::scaling::{PoolSample, ScaleRun, Scaling};
pub use self::schedule::{
    SCHEDULE_TIME_MIN_S, SchedulePhase, ScheduleSpec, ScheduleTimes, job_of_schedule, task_folder,
};
pub use self::setup::{MOUNT_ERROR, NodeSetup, PACKAGE_ERROR, PoolSetup, SETUP_ERRORS_MAX, SetupError};
pub use self::spec::{
    AutoPool, BatchJobSpec, BatchPoolSpec, DependsOn, IdRange, Manager, MultiInstance, NewTask, PoolLifetime,
    Retries, TaskShape,
};
pub use self::used::{
    Flows, NodeReading, NodeUse, PoolReadings, PoolTotals, PoolUse, USED_EVERY_S, USED_PERIOD_MS_MAX,
};

/// Pools of one account.
pub const POOLS_PER_ACCOUNT_MAX: usize = 500;
/// Jobs of one account that have not completed.
pub const ACTIVE_JOBS_PER_ACCOUNT_MAX: usize = 1_000;
/// Jobs of one account, completed ones as well.
pub const JOBS_PER_ACCOUNT_MAX: usize = 100_000;
/// Tasks of one job.
pub const TASKS_PER_JOB_MAX: usize = 1_000_000;
/// Tasks of one collection.
pub const TASKS_PER_COLLECTION_MAX: usize = 100;
/// Characters of all the ids that a task depends on.
pub const DEPENDENCY_CHARS_MAX: usize = 64_000;
/// Ranges that a task may depend on.
pub const DEPENDENCY_RANGES_MAX: usize = 1_000;
/// Nodes of one request to remove nodes.
pub const NODES_PER_REMOVAL_MAX: usize = 100;
/// Characters of the beginning of an automatic pool's id.
pub const AUTO_POOL_PREFIX_CHARS_MAX: usize = 20;
/// Slots of a node.
pub const SLOTS_PER_NODE_MAX: u32 = 256;
/// The lowest and highest priority are this far from 0.
pub const PRIORITY_MAX: i32 = 1_000;
/// The shortest time for a resize, in seconds.
pub const RESIZE_TIMEOUT_MIN_S: u64 = 300;
/// The time for a resize of which nothing is said, in seconds.
pub const RESIZE_TIMEOUT_S: u64 = 900;
/// The shortest time between two evaluations of a pool's formula, in seconds.
pub const SCALING_INTERVAL_MIN_S: u64 = 300;
/// The longest one, in seconds.
pub const SCALING_INTERVAL_MAX_S: u64 = 168 * 3600;
/// The one of which nothing is said, in seconds.
pub const SCALING_INTERVAL_S: u64 = 900;
/// How long a task may live, in seconds.
pub const TASK_LIFE_MAX_S: u64 = 180 * 86_400;
/// Largest text of settings that are only kept, in bytes.
pub const SAID_BYTES_MAX: usize = 1 << 20;
