//! The lists of the protocol, and what each may be filtered and shortened by.

/// A property that a list may be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`path` has the protocol's own names")]
pub enum Property {
    Id,
    Name,
    State,
    PoolId,
    NodeId,
    OsType,
    VerificationType,
    NodeAgentSkuId,
    VmSize,
    AllocationState,
    EnableAutoScale,
    EnableInterNodeCommunication,
    CreationTime,
    LastModified,
    StateTransitionTime,
    AllocationStateTransitionTime,
    LastBootTime,
    AllocationTime,
    ExecutionPoolId,
    ExecutionStartTime,
    ExecutionEndTime,
    ExecutionExitCode,
    ExecutionResult,
    ScheduleDoNotRunUntil,
    ScheduleDoNotRunAfter,
    StartTaskState,
    StartTaskResult,
    StartTaskExitCode,
    StartTaskStartTime,
    StartTaskEndTime,
    PreparationState,
    PreparationResult,
    PreparationExitCode,
    PreparationStartTime,
    PreparationEndTime,
    ReleaseState,
    ReleaseResult,
    ReleaseExitCode,
    ReleaseStartTime,
    ReleaseEndTime,
}

/// What a property's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, of which the case of letters does not count.
    Text,
    Instant,
    Number,
    Boolean,
}

impl Property {
    /// The name as it is written in a filter.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.described().0
    }

    pub(super) fn kind(self) -> Kind {
        self.described().1
    }

    fn described(self) -> (&'static str, Kind) {
        use Kind::{Boolean, Instant, Number, Text};
        match self {
            Self::Id => ("id", Text),
            Self::Name => ("name", Text),
            Self::State => ("state", Text),
            Self::PoolId => ("poolId", Text),
            Self::NodeId => ("nodeId", Text),
            Self::OsType => ("osType", Text),
            Self::VerificationType => ("verificationType", Text),
            Self::NodeAgentSkuId => ("nodeAgentSKUId", Text),
            Self::VmSize => ("vmSize", Text),
            Self::AllocationState => ("allocationState", Text),
            Self::EnableAutoScale => ("enableAutoScale", Boolean),
            Self::EnableInterNodeCommunication => ("enableInterNodeCommunication", Boolean),
            Self::CreationTime => ("creationTime", Instant),
            Self::LastModified => ("lastModified", Instant),
            Self::StateTransitionTime => ("stateTransitionTime", Instant),
            Self::AllocationStateTransitionTime => ("allocationStateTransitionTime", Instant),
            Self::LastBootTime => ("lastBootTime", Instant),
            Self::AllocationTime => ("allocationTime", Instant),
            Self::ExecutionPoolId => ("executionInfo/poolId", Text),
            Self::ExecutionStartTime => ("executionInfo/startTime", Instant),
            Self::ExecutionEndTime => ("executionInfo/endTime", Instant),
            Self::ExecutionExitCode => ("executionInfo/exitCode", Number),
            Self::ExecutionResult => ("executionInfo/result", Text),
            Self::ScheduleDoNotRunUntil => ("schedule/doNotRunUntil", Instant),
            Self::ScheduleDoNotRunAfter => ("schedule/doNotRunAfter", Instant),
            Self::StartTaskState => ("startTaskInfo/state", Text),
            Self::StartTaskResult => ("startTaskInfo/result", Text),
            Self::StartTaskExitCode => ("startTaskInfo/exitCode", Number),
            Self::StartTaskStartTime => ("startTaskInfo/startTime", Instant),
            Self::StartTaskEndTime => ("startTaskInfo/endTime", Instant),
            Self::PreparationState => ("jobPreparationTaskExecutionInfo/state", Text),
            Self::PreparationResult => ("jobPreparationTaskExecutionInfo/result", Text),
            Self::PreparationExitCode => ("jobPreparationTaskExecutionInfo/exitCode", Number),
            Self::PreparationStartTime => ("jobPreparationTaskExecutionInfo/startTime", Instant),
            Self::PreparationEndTime => ("jobPreparationTaskExecutionInfo/endTime", Instant),
            Self::ReleaseState => ("jobReleaseTaskExecutionInfo/state", Text),
            Self::ReleaseResult => ("jobReleaseTaskExecutionInfo/result", Text),
            Self::ReleaseExitCode => ("jobReleaseTaskExecutionInfo/exitCode", Number),
            Self::ReleaseStartTime => ("jobReleaseTaskExecutionInfo/startTime", Instant),
            Self::ReleaseEndTime => ("jobReleaseTaskExecutionInfo/endTime", Instant),
        }
    }
}

/// Which operators a property takes in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operators {
    /// `eq`.
    Equal,
    /// `eq` and `ne`.
    Equality,
    /// `eq`, `ne`, `gt`, `ge`, `lt` and `le`.
    Ordering,
    /// `startswith`.
    Prefix,
    /// The six, and `startswith`.
    OrderingAndPrefix,
}

impl Operators {
    /// What is allowed, for people.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Equal => "eq",
            Self::Equality => "eq and ne",
            Self::Ordering => "eq, ne, gt, ge, lt and le",
            Self::Prefix => "startswith",
            Self::OrderingAndPrefix => "eq, ne, gt, ge, lt, le and startswith",
        }
    }
}

/// A list that the protocol has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// Images that nodes may have.
    SupportedImages,
    /// Nodes of a pool.
    Nodes,
    /// Counts of nodes, by pool.
    NodeCounts,
    /// What pools have used, by hour.
    UsageMetrics,
    /// Files of a task or of a node.
    Files,
    /// Jobs that a schedule has made.
    JobsOfSchedule,
    /// Job schedules.
    Schedules,
    /// Jobs.
    Jobs,
    /// Pools.
    Pools,
    /// Tasks of a job.
    Tasks,
    /// Preparation and release tasks of a job.
    PreparationAndRelease,
    /// Applications.
    Applications,
}

use Operators::{Equal, Equality, Ordering, OrderingAndPrefix, Prefix};
use Property as P;

/// What jobs are filtered by, but for their ids.
const JOBS: [(Property, Operators); 7] = [
    (P::State, Equality),
    (P::StateTransitionTime, Ordering),
    (P::CreationTime, Ordering),
    (P::LastModified, Ordering),
    (P::ExecutionStartTime, Ordering),
    (P::ExecutionEndTime, Ordering),
    (P::ExecutionPoolId, OrderingAndPrefix),
];

impl List {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::SupportedImages,
        Self::Nodes,
        Self::NodeCounts,
        Self::UsageMetrics,
        Self::Files,
        Self::JobsOfSchedule,
        Self::Schedules,
        Self::Jobs,
        Self::Pools,
        Self::Tasks,
        Self::PreparationAndRelease,
        Self::Applications,
    ];

    /// What it is filtered by, and how.
    #[must_use]
    pub fn filterable(self) -> &'static [(Property, Operators)] {
        match self {
            Self::SupportedImages => {
                &[(P::OsType, Equality), (P::VerificationType, Equality), (P::NodeAgentSkuId, Equality)]
            }
            Self::Nodes => &[
                (P::State, Equality),
                (P::StateTransitionTime, Ordering),
                (P::LastBootTime, Ordering),
                (P::AllocationTime, Ordering),
                (P::StartTaskState, Equal),
                (P::StartTaskResult, Equality),
                (P::StartTaskExitCode, Ordering),
                (P::StartTaskStartTime, Ordering),
                (P::StartTaskEndTime, Ordering),
            ],
            Self::NodeCounts | Self::UsageMetrics => &[(P::PoolId, Equal)],
            Self::Files => &[(P::Name, Prefix)],
            Self::JobsOfSchedule => &JOBS,
            Self::Jobs => {
                &[(P::Id, OrderingAndPrefix), JOBS[0], JOBS[1], JOBS[2], JOBS[3], JOBS[4], JOBS[5], JOBS[6]]
            }
            Self::Schedules => &[
                (P::Id, OrderingAndPrefix),
                (P::State, Equality),
                (P::StateTransitionTime, Ordering),
                (P::CreationTime, Ordering),
                (P::LastModified, Ordering),
                (P::ExecutionEndTime, Ordering),
                (P::ScheduleDoNotRunUntil, Ordering),
                (P::ScheduleDoNotRunAfter, Ordering),
            ],
            Self::Pools => &[
                (P::Id, OrderingAndPrefix),
                (P::State, Equality),
                (P::StateTransitionTime, Ordering),
                (P::CreationTime, Ordering),
                (P::LastModified, Ordering),
                (P::AllocationState, Equality),
                (P::AllocationStateTransitionTime, Ordering),
                (P::EnableAutoScale, Equality),
                (P::EnableInterNodeCommunication, Equality),
                (P::VmSize, OrderingAndPrefix),
            ],
            Self::Tasks => &[
                (P::Id, OrderingAndPrefix),
                (P::State, Equality),
                (P::StateTransitionTime, Ordering),
                (P::CreationTime, Ordering),
                (P::LastModified, Ordering),
                (P::ExecutionStartTime, Ordering),
                (P::ExecutionEndTime, Ordering),
                (P::ExecutionExitCode, Ordering),
                (P::ExecutionResult, Equality),
            ],
            Self::PreparationAndRelease => &[
                (P::PoolId, Equality),
                (P::NodeId, Equality),
                (P::PreparationState, Equality),
                (P::PreparationStartTime, Ordering),
                (P::PreparationEndTime, Ordering),
                (P::PreparationExitCode, Ordering),
                (P::PreparationResult, Equality),
                (P::ReleaseState, Equality),
                (P::ReleaseStartTime, Ordering),
                (P::ReleaseEndTime, Ordering),
                (P::ReleaseExitCode, Ordering),
                (P::ReleaseResult, Equality),
            ],
            Self::Applications => &[],
        }
    }

    /// Whether `$expand=stats` may be asked of it.
    #[must_use]
    pub fn has_stats(self) -> bool {
        matches!(self, Self::Pools | Self::Jobs | Self::JobsOfSchedule | Self::Schedules | Self::Tasks)
    }

    /// The properties that `$select` may name; none where a list cannot be shortened.
    #[must_use]
    pub fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::SupportedImages
            | Self::NodeCounts
            | Self::UsageMetrics
            | Self::Files
            | Self::Applications => &[],
            Self::Pools => &POOL,
            Self::Jobs | Self::JobsOfSchedule => &JOB,
            Self::Schedules => &SCHEDULE,
            Self::Tasks => &TASK,
            Self::Nodes => &NODE,
            Self::PreparationAndRelease => &[
                "jobPreparationTaskExecutionInfo",
                "jobReleaseTaskExecutionInfo",
                "nodeId",
                "nodeUrl",
                "poolId",
            ],
        }
    }
}

#[rustfmt::skip]
const POOL: [&str; 39] = [
    "allocationState", "allocationStateTransitionTime", "applicationLicenses", "applicationPackageReferences",
    "autoScaleEvaluationInterval", "autoScaleFormula", "autoScaleRun", "certificateReferences",
    "cloudServiceConfiguration", "creationTime", "currentDedicatedNodes", "currentLowPriorityNodes",
    "currentNodeCommunicationMode", "displayName", "eTag", "enableAutoScale", "enableInterNodeCommunication",
    "id", "identity", "lastModified", "metadata", "mountConfiguration", "networkConfiguration", "resizeErrors",
    "resizeTimeout", "resourceTags", "startTask", "state", "stateTransitionTime", "stats",
    "targetDedicatedNodes", "targetLowPriorityNodes", "targetNodeCommunicationMode", "taskSchedulingPolicy",
    "taskSlotsPerNode", "url", "userAccounts", "virtualMachineConfiguration", "vmSize",
];
#[rustfmt::skip]
const JOB: [&str; 26] = [
    "allowTaskPreemption", "commonEnvironmentSettings", "constraints", "creationTime", "displayName", "eTag",
    "executionInfo", "id", "jobManagerTask", "jobPreparationTask", "jobReleaseTask", "lastModified",
    "maxParallelTasks", "metadata", "networkConfiguration", "onAllTasksComplete", "onTaskFailure", "poolInfo",
    "previousState", "previousStateTransitionTime", "priority", "state", "stateTransitionTime", "stats", "url",
    "usesTaskDependencies",
];
#[rustfmt::skip]
const SCHEDULE: [&str; 15] = [
    "creationTime", "displayName", "eTag", "executionInfo", "id", "jobSpecification", "lastModified",
    "metadata", "previousState", "previousStateTransitionTime", "schedule", "state", "stateTransitionTime",
    "stats", "url",
];
#[rustfmt::skip]
const TASK: [&str; 27] = [
    "affinityInfo", "applicationPackageReferences", "authenticationTokenSettings", "commandLine", "constraints",
    "containerSettings", "creationTime", "dependsOn", "displayName", "eTag", "environmentSettings",
    "executionInfo", "exitConditions", "id", "lastModified", "multiInstanceSettings", "nodeInfo", "outputFiles",
    "previousState", "previousStateTransitionTime", "requiredSlots", "resourceFiles", "state",
    "stateTransitionTime", "stats", "url", "userIdentity",
];
#[rustfmt::skip]
const NODE: [&str; 24] = [
    "affinityId", "allocationTime", "certificateReferences", "endpointConfiguration", "errors", "id",
    "ipAddress", "ipv6Address", "isDedicated", "lastBootTime", "nodeAgentInfo", "recentTasks",
    "runningTaskSlotsCount", "runningTasksCount", "schedulingState", "startTask", "startTaskInfo", "state",
    "stateTransitionTime", "totalTasksRun", "totalTasksSucceeded", "url", "virtualMachineInfo", "vmSize",
];
