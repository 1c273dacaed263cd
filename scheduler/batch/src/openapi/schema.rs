//! The schemas of bodies. Those of things in lists have the properties that lists may be shortened to.

use serde_json::{Map, Value, json};

use crate::error::ErrorCode;
use crate::odata::List;
use crate::wire::EVENT_NAMES;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are JSON's own, or say it themselves")]
pub enum Kind {
    Text,
    Integer,
    Number,
    Flag,
    /// A date with a time, in UTC.
    Instant,
    /// Such as `PT1H30M`.
    Duration,
    Url,
    /// One of several words, in any case of letters.
    Words(&'static [&'static str]),
    /// An object of a schema.
    One(&'static str),
    /// A list of objects of a schema.
    Many(&'static str),
    Texts,
    /// Whatever the client says: it is kept, and shown again.
    Any,
}

use Kind::{Any, Duration, Flag, Instant, Integer, Many, Number, One, Text, Texts, Url, Words};

impl Kind {
    pub(super) fn schema(self) -> Value {
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        match self {
            Text => json!({ "type": "string" }),
            Integer => json!({ "type": "integer" }),
            Number => json!({ "type": "number" }),
            Flag => json!({ "type": "boolean" }),
            Instant => json!({ "type": "string", "format": "date-time" }),
            Duration => json!({ "type": "string", "format": "duration" }),
            Url => json!({ "type": "string", "format": "uri" }),
            Words(words) => json!({ "type": "string", "enum": words }),
            One(name) => reference(name),
            Many(name) => json!({ "type": "array", "items": reference(name) }),
            Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Any => json!({}),
        }
    }
}

/// A schema: its name, its properties, and those that must be there.
type Schema = (&'static str, &'static [(&'static str, Kind)], &'static [&'static str]);

const DEALLOCATION: Kind = Words(&["requeue", "terminate", "taskcompletion", "retaineddata"]);
const ON_ALL: Kind = Words(&["noaction", "terminatejob"]);
const ON_FAILURE: Kind = Words(&["noaction", "performexitoptionsjobaction"]);

/// What is asked for, and the parts of it and of what is shown.
#[rustfmt::skip]
const SCHEMAS: &[Schema] = &[
    // Pools.
    ("NewPool", &[
        ("id", Text), ("displayName", Text), ("vmSize", Text), ("virtualMachineConfiguration", One("VirtualMachineConfiguration")), ("networkConfiguration", Any),
        ("resizeTimeout", Duration), ("targetDedicatedNodes", Integer), ("targetLowPriorityNodes", Integer), ("enableAutoScale", Flag),
        ("autoScaleFormula", Text), ("autoScaleEvaluationInterval", Duration), ("enableInterNodeCommunication", Flag),
        ("startTask", One("StartTask")), ("taskSlotsPerNode", Integer), ("taskSchedulingPolicy", One("TaskSchedulingPolicy")),
        ("userAccounts", Any), ("metadata", Many("NameValue")), ("applicationPackageReferences", Many("ApplicationPackageReference")),
        ("mountConfiguration", Many("MountConfiguration")),
    ], &["id", "vmSize"]),
    ("PoolChange", &[
        ("displayName", Text), ("virtualMachineConfiguration", One("VirtualMachineConfiguration")), ("networkConfiguration", Any), ("startTask", One("StartTask")),
        ("taskSchedulingPolicy", One("TaskSchedulingPolicy")), ("userAccounts", Any), ("metadata", Many("NameValue")), ("applicationPackageReferences", Many("ApplicationPackageReference")),
        ("mountConfiguration", Many("MountConfiguration")),
    ], &[]),
    ("VirtualMachineConfiguration", &[
        ("imageReference", Any), ("nodeAgentSKUId", Text), ("containerConfiguration", One("ContainerConfiguration")),
    ], &[]),
    ("ContainerConfiguration", &[
        ("type", Words(&["dockerCompatible", "criCompatible"])), ("containerImageNames", Texts), ("containerRegistries", Many("ContainerRegistry")),
    ], &[]),
    ("ContainerRegistry", &[("registryServer", Text)], &[]),
    ("ContainerSettings", &[
        ("imageName", Text), ("containerRunOptions", Text), ("registry", One("ContainerRegistry")),
        ("workingDirectory", Words(&["taskWorkingDirectory", "containerImageDefault"])),
    ], &["imageName"]),
    ("ApplicationPackageReference", &[("applicationId", Text), ("version", Text)], &["applicationId"]),
    ("MountConfiguration", &[("nfsMountConfiguration", One("NfsMount"))], &["nfsMountConfiguration"]),
    ("NfsMount", &[("source", Text), ("relativeMountPath", Text), ("mountOptions", Text)], &["source", "relativeMountPath"]),
    ("ApplicationChange", &[("defaultVersion", Text)], &[]),
    ("Resize", &[
        ("targetDedicatedNodes", Integer), ("targetLowPriorityNodes", Integer), ("resizeTimeout", Duration), ("nodeDeallocationOption", DEALLOCATION),
    ], &[]),
    ("Removal", &[("nodeList", Texts), ("resizeTimeout", Duration), ("nodeDeallocationOption", DEALLOCATION)], &["nodeList"]),
    ("Scaling", &[("autoScaleFormula", Text), ("autoScaleEvaluationInterval", Duration)], &[]),
    ("Trial", &[("autoScaleFormula", Text)], &["autoScaleFormula"]),
    ("NodeDisable", &[("nodeDisableSchedulingOption", DEALLOCATION)], &[]),
    ("TaskSchedulingPolicy", &[("nodeFillType", Words(&["spread", "pack"]))], &[]),
    ("StartTask", &[
        ("commandLine", Text), ("containerSettings", One("ContainerSettings")), ("resourceFiles", Many("ResourceFile")), ("environmentSettings", Many("NameValue")), ("userIdentity", Any),
        ("maxTaskRetryCount", Integer), ("waitForSuccess", Flag),
    ], &["commandLine"]),
    // Jobs.
    ("NewJob", &[
        ("id", Text), ("displayName", Text), ("priority", Integer), ("allowTaskPreemption", Flag), ("maxParallelTasks", Integer), ("constraints", One("JobConstraints")),
        ("jobManagerTask", One("JobManagerTask")), ("jobPreparationTask", One("JobPreparationTask")), ("jobReleaseTask", One("JobReleaseTask")),
        ("commonEnvironmentSettings", Many("NameValue")), ("poolInfo", One("PoolInfo")), ("onAllTasksComplete", ON_ALL),
        ("onTaskFailure", ON_FAILURE), ("usesTaskDependencies", Flag), ("networkConfiguration", Any), ("metadata", Many("NameValue")),
    ], &["id", "poolInfo"]),
    ("JobSpecification", &[
        ("displayName", Text), ("priority", Integer), ("allowTaskPreemption", Flag), ("maxParallelTasks", Integer), ("constraints", One("JobConstraints")),
        ("jobManagerTask", One("JobManagerTask")), ("jobPreparationTask", One("JobPreparationTask")), ("jobReleaseTask", One("JobReleaseTask")),
        ("commonEnvironmentSettings", Many("NameValue")), ("poolInfo", One("PoolInfo")), ("onAllTasksComplete", ON_ALL),
        ("onTaskFailure", ON_FAILURE), ("usesTaskDependencies", Flag), ("networkConfiguration", Any), ("metadata", Many("NameValue")),
    ], &["poolInfo"]),
    ("JobChange", &[
        ("displayName", Text), ("priority", Integer), ("allowTaskPreemption", Flag), ("maxParallelTasks", Integer), ("constraints", One("JobConstraints")),
        ("poolInfo", One("PoolInfo")), ("onAllTasksComplete", ON_ALL), ("onTaskFailure", ON_FAILURE), ("networkConfiguration", Any),
        ("metadata", Many("NameValue")),
    ], &[]),
    ("JobDisable", &[("disableTasks", Words(&["requeue", "terminate", "wait"]))], &["disableTasks"]),
    ("JobTerminate", &[("terminateReason", Text)], &[]),
    ("JobConstraints", &[("maxWallClockTime", Duration), ("maxTaskRetryCount", Integer)], &[]),
    ("PoolInfo", &[("poolId", Text), ("autoPoolSpecification", One("AutoPoolSpecification"))], &[]),
    ("AutoPoolSpecification", &[
        ("autoPoolIdPrefix", Text), ("poolLifetimeOption", Words(&["job", "jobschedule"])), ("keepAlive", Flag), ("pool", One("PoolSpecification")),
    ], &["poolLifetimeOption", "pool"]),
    ("PoolSpecification", &[
        ("displayName", Text), ("vmSize", Text), ("virtualMachineConfiguration", One("VirtualMachineConfiguration")), ("networkConfiguration", Any),
        ("resizeTimeout", Duration), ("targetDedicatedNodes", Integer), ("targetLowPriorityNodes", Integer),
        ("enableAutoScale", Flag), ("autoScaleFormula", Text), ("autoScaleEvaluationInterval", Duration),
        ("enableInterNodeCommunication", Flag), ("startTask", One("StartTask")), ("taskSlotsPerNode", Integer),
        ("taskSchedulingPolicy", One("TaskSchedulingPolicy")), ("userAccounts", Any), ("metadata", Many("NameValue")), ("applicationPackageReferences", Many("ApplicationPackageReference")),
        ("mountConfiguration", Many("MountConfiguration")),
    ], &["vmSize"]),
    ("JobManagerTask", &[
        ("id", Text), ("displayName", Text), ("commandLine", Text), ("containerSettings", One("ContainerSettings")), ("resourceFiles", Many("ResourceFile")), ("outputFiles", Many("OutputFile")),
        ("environmentSettings", Many("NameValue")), ("constraints", One("TaskConstraints")), ("requiredSlots", Integer), ("killJobOnCompletion", Flag),
        ("userIdentity", Any), ("runExclusive", Flag), ("authenticationTokenSettings", One("AuthenticationTokenSettings")), ("allowLowPriorityNode", Flag),
        ("applicationPackageReferences", Many("ApplicationPackageReference")),
    ], &["id", "commandLine"]),
    ("JobPreparationTask", &[
        ("id", Text), ("commandLine", Text), ("containerSettings", One("ContainerSettings")), ("resourceFiles", Many("ResourceFile")), ("environmentSettings", Many("NameValue")),
        ("constraints", One("TaskConstraints")), ("waitForSuccess", Flag), ("userIdentity", Any), ("rerunOnNodeRebootAfterSuccess", Flag),
    ], &["commandLine"]),
    ("JobReleaseTask", &[
        ("id", Text), ("commandLine", Text), ("containerSettings", One("ContainerSettings")), ("resourceFiles", Many("ResourceFile")), ("environmentSettings", Many("NameValue")),
        ("maxWallClockTime", Duration), ("retentionTime", Duration), ("userIdentity", Any),
    ], &["commandLine"]),
    // Tasks.
    ("NewTask", &[
        ("id", Text), ("displayName", Text), ("commandLine", Text), ("containerSettings", One("ContainerSettings")), ("exitConditions", One("ExitConditions")), ("resourceFiles", Many("ResourceFile")),
        ("outputFiles", Many("OutputFile")), ("environmentSettings", Many("NameValue")), ("affinityInfo", One("AffinityInformation")), ("constraints", One("TaskConstraints")),
        ("requiredSlots", Integer), ("userIdentity", Any), ("multiInstanceSettings", One("MultiInstanceSettings")), ("dependsOn", One("TaskDependencies")),
        ("authenticationTokenSettings", One("AuthenticationTokenSettings")),
        ("applicationPackageReferences", Many("ApplicationPackageReference")),
    ], &["id", "commandLine"]),
    ("AffinityInformation", &[("affinityId", Text)], &["affinityId"]),
    ("TaskCollection", &[("value", Many("NewTask"))], &["value"]),
    ("TaskChange", &[("constraints", One("TaskConstraints"))], &[]),
    ("TaskConstraints", &[("maxWallClockTime", Duration), ("retentionTime", Duration), ("maxTaskRetryCount", Integer)], &[]),
    ("TaskDependencies", &[("taskIds", Texts), ("taskIdRanges", Many("TaskIdRange"))], &[]),
    ("TaskIdRange", &[("start", Integer), ("end", Integer)], &["start", "end"]),
    ("MultiInstanceSettings", &[
        ("numberOfInstances", Integer), ("coordinationCommandLine", Text), ("commonResourceFiles", Many("ResourceFile")),
    ], &["coordinationCommandLine"]),
    ("AuthenticationTokenSettings", &[("access", Texts)], &[]),
    ("ExitConditions", &[
        ("exitCodes", Many("ExitCodeMapping")), ("exitCodeRanges", Many("ExitCodeRangeMapping")), ("preProcessingError", One("ExitOptions")),
        ("fileUploadError", One("ExitOptions")), ("default", One("ExitOptions")),
    ], &[]),
    ("ExitCodeMapping", &[("code", Integer), ("exitOptions", One("ExitOptions"))], &["code"]),
    ("ExitCodeRangeMapping", &[("start", Integer), ("end", Integer), ("exitOptions", One("ExitOptions"))], &["start", "end"]),
    ("ExitOptions", &[("jobAction", Words(&["none", "disable", "terminate"])), ("dependencyAction", Words(&["satisfy", "block"]))], &[]),
    ("ResourceFile", &[
        ("httpUrl", Url), ("storageContainerUrl", Url), ("autoStorageContainerName", Text), ("blobPrefix", Text), ("filePath", Text), ("fileMode", Text),
    ], &[]),
    ("OutputFile", &[("filePattern", Text), ("destination", One("OutputDestination")), ("uploadOptions", One("UploadOptions"))],
        &["filePattern", "destination", "uploadOptions"]),
    ("OutputDestination", &[("container", One("OutputContainer"))], &["container"]),
    ("OutputContainer", &[("containerUrl", Url), ("path", Text), ("uploadHeaders", Many("NameValue"))], &["containerUrl"]),
    ("UploadOptions", &[("uploadCondition", Words(&["tasksuccess", "taskfailure", "taskcompletion"]))], &["uploadCondition"]),
    ("NameValue", &[("name", Text), ("value", Text)], &["name"]),
    // Job schedules.
    ("NewJobSchedule", &[
        ("id", Text), ("displayName", Text), ("schedule", One("Recurrence")), ("jobSpecification", One("JobSpecification")), ("metadata", Many("NameValue")),
    ], &["id", "jobSpecification"]),
    ("JobScheduleChange", &[
        ("schedule", One("Recurrence")), ("jobSpecification", One("JobSpecification")), ("metadata", Many("NameValue")),
    ], &[]),
    ("Recurrence", &[
        ("doNotRunUntil", Instant), ("doNotRunAfter", Instant), ("startWindow", Duration), ("recurrenceInterval", Duration),
    ], &[]),
    // What is shown beside the things of lists.
    ("AutoScaleRun", &[("timestamp", Instant), ("results", Text), ("error", One("Problem"))], &["timestamp"]),
    ("Problem", &[("code", Text), ("message", Text)], &["code"]),
    ("TaskCountsResult", &[("taskCounts", One("Counts")), ("taskSlotCounts", One("Counts"))], &["taskCounts", "taskSlotCounts"]),
    ("Counts", &[("active", Integer), ("running", Integer), ("completed", Integer), ("succeeded", Integer), ("failed", Integer)],
        &["active", "running", "completed", "succeeded", "failed"]),
    ("TaskAddResult", &[
        ("status", Words(&["success", "clienterror", "servererror"])), ("taskId", Text), ("eTag", Text), ("lastModified", Instant), ("location", Url),
        ("error", One("Error")),
    ], &["status", "taskId"]),
    ("Subtask", &[
        ("id", Integer), ("nodeInfo", One("NodeInfo")), ("startTime", Instant), ("endTime", Instant), ("exitCode", Integer),
        ("failureInfo", One("FailureInfo")), ("state", Words(&["preparing", "running", "completed"])), ("stateTransitionTime", Instant),
        ("result", Words(&["success", "failure"])),
    ], &["id", "state"]),
    ("NodeInfo", &[
        ("affinityId", Text), ("nodeId", Text), ("nodeUrl", Url), ("poolId", Text), ("taskRootDirectory", Text), ("taskRootDirectoryUrl", Url),
    ], &[]),
    ("FailureInfo", &[("category", Words(&["usererror", "servererror"])), ("code", Text), ("message", Text), ("details", Any)], &["category", "code"]),
    ("TaskExecution", &[
        ("startTime", Instant), ("endTime", Instant), ("exitCode", Integer), ("failureInfo", One("FailureInfo")), ("retryCount", Integer),
        ("lastRetryTime", Instant), ("requeueCount", Integer), ("lastRequeueTime", Instant), ("result", Words(&["success", "failure"])),
    ], &["retryCount", "requeueCount"]),
    ("ChoreExecution", &[
        ("state", Words(&["running", "completed"])), ("startTime", Instant), ("endTime", Instant), ("exitCode", Integer), ("failureInfo", One("FailureInfo")),
        ("retryCount", Integer), ("lastRetryTime", Instant), ("result", Words(&["success", "failure"])), ("taskRootDirectory", Text), ("taskRootDirectoryUrl", Url),
    ], &["state", "startTime"]),
    ("JobExecution", &[("startTime", Instant), ("endTime", Instant), ("poolId", Text), ("terminateReason", Text), ("schedulingError", Any)], &["startTime"]),
    ("ScheduleExecution", &[("nextRunTime", Instant), ("recentJob", Any), ("endTime", Instant)], &[]),
    ("Image", &[
        ("nodeAgentSKUId", Text), ("imageReference", Any), ("osType", Text), ("capabilities", Texts), ("verificationType", Text),
    ], &["nodeAgentSKUId", "imageReference"]),
    ("PoolNodeCounts", &[("poolId", Text), ("dedicated", Any), ("lowPriority", Any)], &["poolId", "dedicated", "lowPriority"]),
    ("PoolUsageMetrics", &[
        ("poolId", Text), ("startTime", Instant), ("endTime", Instant), ("vmSize", Text), ("totalCoreHours", Number),
    ], &["poolId", "startTime", "endTime", "vmSize", "totalCoreHours"]),
    ("PoolStatistics", &[
        ("url", Url), ("startTime", Instant), ("lastUpdateTime", Instant), ("usageStats", One("UsageStatistics")), ("resourceStats", One("ResourceStatistics")),
    ], &["url", "startTime", "lastUpdateTime", "usageStats"]),
    ("UsageStatistics", &[("startTime", Instant), ("lastUpdateTime", Instant), ("dedicatedCoreTime", Duration)],
        &["startTime", "lastUpdateTime", "dedicatedCoreTime"]),
    ("ResourceStatistics", &[
        ("startTime", Instant), ("lastUpdateTime", Instant), ("avgCPUPercentage", Number), ("avgMemoryGiB", Number), ("peakMemoryGiB", Number),
        ("avgDiskGiB", Number), ("peakDiskGiB", Number), ("diskReadIOps", Integer), ("diskWriteIOps", Integer), ("diskReadGiB", Number),
        ("diskWriteGiB", Number), ("networkReadGiB", Number), ("networkWriteGiB", Number),
    ], &[
        "startTime", "lastUpdateTime", "avgCPUPercentage", "avgMemoryGiB", "peakMemoryGiB", "avgDiskGiB", "peakDiskGiB", "diskReadIOps", "diskWriteIOps",
        "diskReadGiB", "diskWriteGiB", "networkReadGiB", "networkWriteGiB",
    ]),
    ("Application", &[
        ("id", Text), ("displayName", Text), ("versions", Texts), ("defaultVersion", Text), ("packages", Many("Package")),
    ], &["id", "versions"]),
    ("Package", &[("version", Text), ("sha256", Text), ("bytes", Integer), ("added", Instant)], &["version", "sha256", "bytes"]),
    ("RemoteLogin", &[("remoteLoginIPAddress", Text), ("remoteLoginPort", Integer)], &["remoteLoginIPAddress", "remoteLoginPort"]),
    ("File", &[("name", Text), ("url", Url), ("isDirectory", Flag), ("properties", One("FileProperties"))], &["name", "isDirectory"]),
    ("FileProperties", &[
        ("contentLength", Text), ("contentType", Text), ("creationTime", Instant), ("lastModified", Instant), ("fileMode", Text),
    ], &["contentLength", "lastModified"]),
    // The service's own.
    ("EventPage", &[("value", Many("Event")), ("next", Text), ("more", Flag), ("lostUpTo", Text)], &["value", "next", "more"]),
    ("Event", &[("id", Text), ("time", Instant), ("operationName", Words(&EVENT_NAMES)), ("properties", Any)],
        &["id", "time", "operationName", "properties"]),
    ("Why", &[
        ("jobId", Text), ("taskId", Text), ("state", Text), ("code", Text), ("sentences", Texts), ("forEver", Flag), ("clusterJob", Integer),
        ("expectedStartTime", Instant), ("cluster", Any),
    ], &["jobId", "taskId", "state", "code", "sentences", "forEver"]),
    ("Placement", &[
        ("jobId", Text), ("taskId", Text), ("state", Text), ("clusterJob", Integer), ("attempt", Integer), ("instances", Many("PlacedInstance")),
    ], &["jobId", "taskId", "state", "instances"]),
    ("PlacedInstance", &[
        ("instance", Integer), ("nodeId", Text), ("cores", Text), ("memoryBytes", Integer), ("devices", Texts), ("ranks", Many("PlacedRank")),
    ], &["instance", "nodeId"]),
    ("PlacedRank", &[("rank", Integer), ("cores", Text)], &["rank", "cores"]),
];

/// The lists whose things have a schema of their own, with what is there in each of them.
const SHOWN: [(&str, List, &[&str]); 6] = [
    ("Pool", List::Pools, &["id", "url", "eTag", "state", "allocationState", "vmSize"]),
    ("Node", List::Nodes, &["id", "url", "state", "schedulingState"]),
    ("Job", List::Jobs, &["id", "url", "eTag", "state", "poolInfo", "executionInfo"]),
    ("Task", List::Tasks, &["id", "url", "eTag", "state", "commandLine", "executionInfo"]),
    ("JobSchedule", List::Schedules, &["id", "url", "eTag", "state", "jobSpecification"]),
    ("PreparationAndReleaseStatus", List::PreparationAndRelease, &["poolId", "nodeId"]),
];

/// What the properties of shown things are, where a schema of what is asked for does not say it.
#[rustfmt::skip]
const PROPERTIES: &[(&str, Kind)] = &[
    ("allocationState", Words(&["steady", "resizing", "stopping"])), ("allocationStateTransitionTime", Instant),
    ("autoScaleRun", One("AutoScaleRun")), ("creationTime", Instant), ("currentDedicatedNodes", Integer), ("currentLowPriorityNodes", Integer),
    ("eTag", Text), ("lastModified", Instant), ("previousState", Text), ("previousStateTransitionTime", Instant), ("resizeErrors", Many("Problem")),
    ("stateTransitionTime", Instant), ("url", Url), ("stats", Any), ("nodeInfo", One("NodeInfo")), ("affinityId", Text), ("allocationTime", Instant),
    ("ipAddress", Text), ("isDedicated", Flag), ("lastBootTime", Instant), ("recentTasks", Any), ("runningTaskSlotsCount", Integer),
    ("runningTasksCount", Integer), ("schedulingState", Words(&["enabled", "disabled"])), ("startTaskInfo", One("ChoreExecution")),
    ("totalTasksRun", Integer), ("totalTasksSucceeded", Integer), ("endpointConfiguration", Any), ("errors", Many("Problem")),
    ("jobPreparationTaskExecutionInfo", One("ChoreExecution")), ("jobReleaseTaskExecutionInfo", One("ChoreExecution")),
    ("nodeId", Text), ("nodeUrl", Url), ("poolId", Text), ("nodeAgentInfo", Any), ("virtualMachineInfo", Any),
    ("ipv6Address", Text),
];

/// Properties of lists that the protocol knows and that nothing here has.
const NOT_SHOWN: [&str; 9] = [
    "applicationLicenses",
    "certificateReferences",
    "cloudServiceConfiguration",
    "currentNodeCommunicationMode",
    "identity",
    "resourceTags",
    "targetNodeCommunicationMode",
    "ipv6Address",
    "virtualMachineInfo",
];

fn kind(list: List, name: &str) -> Kind {
    match (list, name) {
        (List::Jobs, "state") => {
            return Words(&["active", "disabling", "disabled", "terminating", "completed", "deleting"]);
        }
        (List::Pools, "state") => return Words(&["active", "deleting"]),
        (List::Pools, "stats") => return One("PoolStatistics"),
        (List::Tasks, "state") => return Words(&["active", "preparing", "running", "completed"]),
        (List::Schedules, "state") => {
            return Words(&["active", "disabled", "terminating", "completed", "deleting"]);
        }
        (_, "state") => return Text,
        (List::Jobs, "executionInfo") => return One("JobExecution"),
        (List::Tasks, "executionInfo") => return One("TaskExecution"),
        (List::Schedules, "executionInfo") => return One("ScheduleExecution"),
        _ => {}
    }
    let asked = match list {
        List::Pools | List::Nodes => "NewPool",
        List::Jobs => "NewJob",
        List::Schedules => "NewJobSchedule",
        _ => "NewTask",
    };
    let of_request =
        SCHEMAS.iter().find(|(schema, ..)| *schema == asked).map(|(_, properties, _)| *properties);
    let all = of_request.into_iter().flatten().chain(PROPERTIES);
    all.clone().find(|(property, _)| *property == name).map_or(Any, |(_, kind)| *kind)
}

fn object(properties: impl Iterator<Item = (&'static str, Kind)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        properties.map(|(name, kind)| (name.to_owned(), kind.schema())).collect();
    let mut shown = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        shown["required"] = json!(required);
    }
    shown
}

/// All schemas by their names.
pub(super) fn all() -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (name, properties, required) in SCHEMAS {
        all.insert((*name).to_owned(), object(properties.iter().copied(), required));
    }
    for (name, list, required) in SHOWN {
        let shown = list.selectable().iter().filter(|property| !NOT_SHOWN.contains(property));
        // A list may have been shortened, and then has what was asked for alone.
        let mut schema = object(shown.map(|property| (*property, kind(list, property))), &[]);
        schema["description"] = format!("Without $select it has at least {}.", required.join(", ")).into();
        all.insert(name.to_owned(), schema);
    }
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    all.insert(
        "Error".to_owned(),
        json!({
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "odata.metadata": { "type": "string" },
                "code": { "type": "string", "enum": codes },
                "message": {
                    "type": "object",
                    "properties": { "lang": { "type": "string" }, "value": { "type": "string" } },
                },
                "values": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "key": { "type": "string" }, "value": { "type": "string" } },
                } },
            },
        }),
    );
    Value::Object(all)
}

#[cfg(test)]
mod tests;
