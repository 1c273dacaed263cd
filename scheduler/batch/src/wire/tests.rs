//! What bodies say, and what is wrong with them.

use muster_core::batch::{DependencyAction, FoldedId, JobAction, PoolLifetime, Retries, Targets};
use muster_core::event::Usage;
use muster_core::ids::Timestamp;
use muster_core::spec::User;
use muster_core::staging::{InputSource, UploadCondition};
use muster_core::state::{BatchStats, Metered};
use serde_json::{Value, json};

use super::{
    read_job, read_pool, read_resize, read_schedule, read_task, show_metered, show_stats, without_secrets,
};
use crate::error::{BatchError, ErrorCode};

pub(super) fn user() -> User {
    User { name: "ann".to_owned(), uid: 1000, gid: 1000 }
}

/// The code of a refusal, and the property that it names.
pub(super) fn code<T: std::fmt::Debug>(read: Result<T, BatchError>) -> (ErrorCode, String) {
    let error = read.unwrap_err();
    let name = error.values.iter().find(|value| value.key == "PropertyName");
    (error.code, name.map(|name| name.value.clone()).unwrap_or_default())
}

#[test]
fn a_task_says_what_it_needs_and_what_follows_from_its_end() {
    let body = json!({
        "id": "Render", "commandLine": "render 7", "displayName": "x", "requiredSlots": 2,
        "constraints": { "maxWallClockTime": "PT10M", "retentionTime": "PT1H", "maxTaskRetryCount": -1 },
        "environmentSettings": [{ "name": "A", "value": "b" }],
        "resourceFiles": [
            { "httpUrl": "http://store/c/in.txt?sig=secret", "filePath": "data/in.txt", "fileMode": "0640" },
            { "storageContainerUrl": "http://store/c?sig=secret", "blobPrefix": "scene/", "filePath": "." },
        ],
        "outputFiles": [{
            "filePattern": "*.png",
            "destination": { "container": { "containerUrl": "http://store/out?sig=secret", "path": "frames" } },
            "uploadOptions": { "uploadCondition": "taskSuccess" },
        }],
        "dependsOn": { "taskIds": ["a"], "taskIdRanges": [{ "start": 1, "end": 9 }] },
        "exitConditions": {
            "exitCodes": [{ "code": 3, "exitOptions": { "dependencyAction": "Satisfy" } }],
            "exitCodeRanges": [{ "start": 4, "end": 8, "exitOptions": { "jobAction": "disable" } }],
            "default": { "jobAction": "terminate" },
        },
    });
    let (task, shape) = read_task(&body, &user()).unwrap();
    assert_eq!((task.id.as_str(), &*task.command, shape.slots), ("Render", "render 7", 2));
    assert_eq!(task.depends.unwrap().ranges[0].end, 9);
    assert_eq!((shape.wall_clock_max_s, shape.retries), (Some(600), Some(Retries::Unlimited)));
    assert_eq!((shape.staging.retention_s, shape.staging.inputs[0].mode), (3600, Some(0o640)));
    assert!(
        matches!(&shape.staging.inputs[1].source, InputSource::Container { prefix, .. } if prefix == "scene/")
    );
    assert_eq!(shape.staging.inputs[1].path, None);
    assert_eq!(shape.staging.outputs[0].condition, UploadCondition::Success);
    assert_eq!(shape.exits.codes[0].1.dependency, Some(DependencyAction::Satisfy));
    assert_eq!(shape.exits.ranges[0].2.job, Some(JobAction::Disable));
    // What is only kept has neither what thousands of tasks differ in nor anything twice.
    let mut said: Value = serde_json::from_str(&shape.said).unwrap();
    assert!(said["id"].is_null() && said["commandLine"].is_null() && said["displayName"] == "x");
    without_secrets(&mut said);
    assert!(!said.to_string().contains("secret"), "{said}");
    assert_eq!(said["resourceFiles"][0]["httpUrl"], "http://store/c/in.txt?...");
}

#[test]
fn what_is_wrong_with_a_task_is_told_with_its_place() {
    let with = |name: &str, value: Value| {
        let mut body = json!({ "id": "a", "commandLine": "true" });
        body[name] = value;
        code(read_task(&body, &user()))
    };
    use ErrorCode::{InvalidPropertyValue as Wrong, MissingRequiredProperty as Missing};
    assert_eq!(with("commandLine", Value::Null), (Missing, "commandLine".to_owned()));
    assert_eq!(with("requiredSlots", json!("2")), (Wrong, "requiredSlots".to_owned()));
    assert_eq!(
        with("constraints", json!({ "maxWallClockTime": "10" })),
        (Wrong, "constraints.maxWallClockTime".to_owned())
    );
    assert_eq!(
        with("resourceFiles", json!([{ "filePath": "x" }])),
        (Wrong, "resourceFiles[0].httpUrl".to_owned())
    );
    let out = json!([{ "httpUrl": "http://s/a", "filePath": "../x" }]);
    assert_eq!(with("resourceFiles", out), (Wrong, "resourceFiles[0].filePath".to_owned()));
    assert_eq!(
        with("environmentSettings", json!([{ "name": "A=B" }])),
        (Wrong, "environmentSettings[0].name".to_owned())
    );
    assert_eq!(with("containerSettings", json!({})), (Missing, "containerSettings.imageName".to_owned()));
    assert_eq!(
        with("multiInstanceSettings", json!({ "numberOfInstances": 2 })),
        (Missing, "multiInstanceSettings.coordinationCommandLine".to_owned())
    );
    assert_eq!(with("dependsOn", json!({ "taskIds": [1] })), (Wrong, "dependsOn.taskIds".to_owned()));
    let none = json!({ "id": "a", "commandLine": "true", "applicationPackageReferences": [] });
    assert!(read_task(&none, &user()).is_ok(), "an empty list is as good as none");
}

#[test]
fn pools_and_jobs_are_read_with_the_defaults_of_the_protocol() {
    let pool = read_pool(&json!({ "id": "P", "vmSize": "main", "resizeTimeout": "PT5M" }), &user()).unwrap();
    assert_eq!((pool.spec.slots_per_node, pool.spec.inter_node), (1, false));
    assert_eq!((pool.target, pool.timeout_s, pool.scaling), (Targets::default(), 300, None));
    let mut scaled = json!({ "id": "P", "vmSize": "main", "enableAutoScale": true });
    assert_eq!(
        code(read_pool(&scaled, &user())),
        (ErrorCode::MissingRequiredProperty, "autoScaleFormula".to_owned())
    );
    scaled["autoScaleFormula"] = "$TargetDedicatedNodes = 1".into();
    assert_eq!(read_pool(&scaled, &user()).unwrap().scaling.unwrap().interval_s, 900);
    scaled["targetDedicatedNodes"] = 1.into();
    assert_eq!(code(read_pool(&scaled, &user())).1, "targetDedicatedNodes");
    let idle = json!({ "id": "P", "vmSize": "main", "autoScaleFormula": "$TargetDedicatedNodes = 1" });
    assert_eq!(code(read_pool(&idle, &user())).1, "autoScaleFormula");
    let lower = json!({ "id": "P", "vmSize": "main", "targetLowPriorityNodes": 2 });
    let lower = read_pool(&lower, &user()).unwrap().target;
    assert_eq!((lower.dedicated, lower.low_priority), (None, Some(2)));
    let resize = |body: Value| read_resize(FoldedId::of("P"), &body);
    assert!(resize(json!({ "targetLowPriorityNodes": 0 })).is_ok());
    assert_eq!(code(resize(json!({}))).1, "targetDedicatedNodes");
    assert_eq!(code(resize(json!({ "targetLowPriorityNodes": -1 }))).1, "targetLowPriorityNodes");
    let job = read_job(&json!({ "id": "J", "poolInfo": { "poolId": "P" }, "maxParallelTasks": -1 }), &user())
        .unwrap();
    assert_eq!((job.pool.as_str(), job.running_max, job.retries), ("p", None, Retries::AtMost(0)));
    assert_eq!(code(read_job(&json!({ "id": "J" }), &user())).1, "poolInfo");
    let ends = json!({ "id": "J", "poolInfo": { "poolId": "P" }, "onAllTasksComplete": "TerminateJob" });
    assert!(read_job(&ends, &user()).unwrap().terminate_when_complete);
}

#[test]
fn a_job_may_bring_a_pool_that_scales_itself_and_lives_as_long_as_its_schedule() {
    let with = |more: Value| {
        let mut pool = json!({ "vmSize": "main", "enableAutoScale": true });
        pool["autoScaleFormula"] = "$TargetDedicatedNodes = 1".into();
        let mut own = json!({ "poolLifetimeOption": "jobSchedule", "autoPoolIdPrefix": "x", "pool": pool });
        more.as_object().unwrap().iter().for_each(|(name, value)| own[name] = value.clone());
        read_job(&json!({ "id": "J", "poolInfo": { "autoPoolSpecification": own } }), &user())
    };
    let own = with(json!({})).unwrap().auto_pool.unwrap();
    assert_eq!((own.lifetime, own.keep_alive, own.target), (PoolLifetime::Schedule, false, 0));
    assert_eq!(own.scaling.unwrap().interval_s, 900);
    let kept = with(json!({ "poolLifetimeOption": "job", "keepAlive": true })).unwrap().auto_pool.unwrap();
    assert_eq!((kept.lifetime, kept.keep_alive), (PoolLifetime::Job, true));
    let path = "poolInfo.autoPoolSpecification.poolLifetimeOption";
    assert_eq!(code(with(json!({ "poolLifetimeOption": "day" }))).1, path);
}

#[test]
fn chores_say_what_makes_nodes_ready() {
    let start = json!({
        "commandLine": "setup", "maxTaskRetryCount": -1, "waitForSuccess": false,
        "resourceFiles": [{ "httpUrl": "http://store/c/tool?sig=secret", "filePath": "tool" }],
        "environmentSettings": [{ "name": "A", "value": "b" }],
    });
    let pool = read_pool(&json!({ "id": "P", "vmSize": "main", "startTask": start }), &user()).unwrap().spec;
    let read = pool.start.as_ref().unwrap();
    assert_eq!((&*read.command, read.retries, read.waits), ("setup", Retries::Unlimited, false));
    assert_eq!((read.staging.inputs.len(), read.user.name.as_str()), (1, "ann"));
    let job = |more: Value| {
        let mut body = json!({ "id": "J", "poolInfo": { "poolId": "P" } });
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        read_job(&body, &user())
    };
    let both = job(json!({
        "jobPreparationTask": {
            "commandLine": "before", "rerunOnNodeRebootAfterSuccess": false,
            "constraints": { "maxTaskRetryCount": 2, "maxWallClockTime": "PT1M", "retentionTime": "PT1H" },
        },
        "jobReleaseTask": { "id": "After", "commandLine": "after" },
    }))
    .unwrap();
    let (before, after) = (both.preparation.unwrap(), both.release.unwrap());
    assert_eq!((before.id.as_str(), before.reruns, before.waits), ("jobpreparation", false, true));
    assert_eq!((before.wall_clock_max_s, before.staging.retention_s), (Some(60), 3600));
    assert_eq!((after.id.as_str(), after.wall_clock_max_s), ("After", Some(900)));
    let boxed = job(
        json!({ "jobPreparationTask": { "commandLine": "a", "containerSettings": { "imageName": "X" } } }),
    );
    assert_eq!(
        code(boxed),
        (ErrorCode::InvalidPropertyValue, "jobPreparationTask.containerSettings.imageName".to_owned())
    );
    assert_eq!(code(job(json!({ "jobPreparationTask": {} }))).1, "jobPreparationTask.commandLine");
}

#[test]
fn a_manager_task_is_made_with_its_job_and_tokens_are_for_the_job_alone() {
    let with = |manager: Value| {
        read_job(&json!({ "id": "J", "poolInfo": { "poolId": "P" }, "jobManagerTask": manager }), &user())
    };
    let manager =
        with(json!({ "id": "Boss", "commandLine": "plan", "requiredSlots": 2 })).unwrap().manager.unwrap();
    assert_eq!((manager.task.id.as_str(), manager.ends_job), ("Boss", true));
    assert!(manager.shape.exclusive && manager.shape.token && manager.shape.slots == 2);
    let light = json!({ "id": "B", "commandLine": "b", "killJobOnCompletion": false, "runExclusive": false,
        "allowLowPriorityNode": false });
    let light = with(light).unwrap().manager.unwrap();
    assert!(
        !light.ends_job
            && !light.shape.exclusive
            && light.shape.dedicated
            && !light.shape.said.contains("runExclusive")
    );
    assert_eq!(code(with(json!({ "id": "B" }))).1, "jobManagerTask.commandLine");
    let token = |access: Value| {
        let settings = json!({ "access": access });
        read_task(&json!({ "id": "T", "commandLine": "t", "authenticationTokenSettings": settings }), &user())
    };
    assert!(token(json!(["Job"])).unwrap().1.token && !token(json!([])).unwrap().1.token);
    assert_eq!(code(token(json!(["pool"]))).1, "authenticationTokenSettings.access");
}

#[test]
fn a_schedule_says_when_its_jobs_are_made_and_what_they_are_like() {
    let with = |schedule: Value| {
        let job = json!({ "poolInfo": { "poolId": "P" }, "priority": 5 });
        read_schedule(&json!({ "id": "S", "schedule": schedule, "jobSpecification": job }), &user())
    };
    let times = json!({
        "doNotRunUntil": "2027-01-31T02:00:00Z", "doNotRunAfter": "2027-02-28T02:00:00.5Z",
        "startWindow": "PT5M", "recurrenceInterval": "P1D",
    });
    let read = with(times).unwrap();
    assert_eq!((read.times.window_s, read.times.interval_s), (Some(300), Some(86_400)));
    assert_eq!(read.times.not_before.unwrap().seconds(), 1_801_360_800);
    assert_eq!((read.id.as_str(), read.job.priority), ("S", 5));
    assert_eq!(code(with(json!({ "doNotRunUntil": "tomorrow" }))).1, "schedule.doNotRunUntil");
    assert_eq!(code(read_schedule(&json!({ "id": "S" }), &user())).1, "jobSpecification");
    let job = json!({ "jobManagerTask": { "id": "m" }, "poolInfo": { "poolId": "P" } });
    let job = read_schedule(&json!({ "id": "S", "jobSpecification": job }), &user());
    assert_eq!(code(job).1, "jobManagerTask.commandLine");
}

#[test]
fn statistics_have_the_units_of_the_protocol() {
    let used = Usage {
        cpu_time_us: 3_500_000,
        cpu_system_us: 500_000,
        read_bytes: 3 << 29,
        read_operations: 7,
        ..Usage::default()
    };
    let stats = BatchStats { used, wall_us: 60_000_000, retries: 2, succeeded: 5, ..BatchStats::default() };
    let shown = show_stats(&stats, "http://h/jobs/j", Timestamp(0), Timestamp(90_000_000));
    assert_eq!((&shown["userCPUTime"], &shown["kernelCPUTime"]), (&json!("PT3S"), &json!("PT0.500000S")));
    assert_eq!((&shown["wallClockTime"], &shown["waitTime"]), (&json!("PT1M"), &json!("PT0S")));
    assert_eq!((&shown["readIOGiB"], &shown["readIOps"]), (&json!(1.5), &json!(7)));
    assert_eq!((&shown["numSucceededTasks"], &shown["numTaskRetries"]), (&json!(5), &json!(2)));
    assert_eq!(shown["lastUpdateTime"], "1970-01-01T00:01:30Z");
    let metered = Metered { pool: "P".to_owned(), home: "main".to_owned(), core_ms: 9_000_000 };
    let hour = show_metered(2, &metered);
    assert_eq!((&hour["totalCoreHours"], &hour["endTime"]), (&json!(2.5), &json!("1970-01-01T03:00:00Z")));
}
