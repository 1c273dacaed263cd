//! Jobs, what goes before and after their tasks, and schedules.

use serde_json::json;

use super::Farm;

#[test]
fn job() {
    let farm = Farm::of(1);
    farm.job("Job", "later", json!({ "displayName": "x" }));
    assert_eq!(
        farm.try_post("/jobs", json!({ "id": "JOB", "poolInfo": { "poolId": "p" } })).refused(),
        (409, "JobExists")
    );
    assert_eq!(
        farm.try_post("/jobs", json!({ "id": "b", "poolInfo": {} })).property(),
        ("InvalidPropertyValue", "poolInfo")
    );
    farm.task("job", "a", "true", json!({}));
    assert_eq!(farm.task_state("job", "a"), "active", "its pool need not be there yet");
    farm.pool("later", 1, json!({}));
    farm.task_is("job", "a", "completed");
    let body = json!({ "priority": 5 });
    assert_eq!(farm.ask("PATCH", "/jobs/job", Some(&body), &[]).status, 200);
    let job = farm.get("/jobs/job").json;
    assert_eq!((&job["priority"], &job["displayName"], &job["id"]), (&json!(5), &json!("x"), &json!("Job")));
    assert_eq!(farm.get("/jobs?$filter=state%20eq%20%27active%27&maxresults=1").ids(), ["Job"]);
    farm.post("/jobs/job/terminate", json!({ "terminateReason": "enough" }));
    assert_eq!(farm.job_is("job", "completed")["executionInfo"]["terminateReason"], "enough");
    assert_eq!(
        farm.try_post("/jobs/job/tasks", json!({ "id": "b", "commandLine": "true" })).refused(),
        (409, "JobCompleted")
    );
    farm.delete("/jobs/job");
    farm.until("the job is gone", |farm| farm.get("/jobs/job").status == 404);
}

#[test]
fn job_priority() {
    let farm = Farm::of(1);
    for (priority, told) in [(1001, "OutOfRangePriority"), (-1001, "OutOfRangePriority")] {
        let body = json!({ "id": "x", "poolInfo": { "poolId": "p" }, "priority": priority });
        assert_eq!(farm.try_post("/jobs", body).refused(), (400, told));
    }
    farm.job("low", "p", json!({ "priority": -5 }));
    farm.job("high", "p", json!({ "priority": 5 }));
    farm.task("low", "a", "true", json!({}));
    farm.task("high", "b", "true", json!({}));
    farm.pool("p", 1, json!({}));
    farm.task_is("low", "a", "completed");
    assert_eq!(farm.order(), ["lab/high/b", "lab/low/a"]);
    // Tasks of a job that allows it make room for those of a higher priority.
    farm.job("yields", "p", json!({ "allowTaskPreemption": true }));
    assert_eq!(farm.get("/jobs/yields").json["allowTaskPreemption"], true);
    farm.task("yields", "c", "stay", json!({}));
    farm.task_is("yields", "c", "running");
    farm.task("high", "d", "stay", json!({}));
    farm.task_is("high", "d", "running");
    assert_eq!(farm.task_state("yields", "c"), "active");
}

#[test]
fn max_parallel_tasks() {
    let farm = Farm::of(1);
    let zero = json!({ "id": "x", "poolInfo": { "poolId": "p" }, "maxParallelTasks": 0 });
    assert_eq!(farm.try_post("/jobs", zero).property(), ("InvalidPropertyValue", "maxParallelTasks"));
    farm.pool("p", 1, json!({ "taskSlotsPerNode": 4 }));
    farm.job("j", "p", json!({ "maxParallelTasks": 2 }));
    for task in ["a", "b", "c"] {
        farm.task("j", task, "stay", json!({}));
    }
    farm.task_is("j", "b", "running");
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/c/why").json["code"], "maxParallelTasks");
    let body = json!({ "maxParallelTasks": -1 });
    farm.ask("PATCH", "/jobs/j", Some(&body), &[]);
    farm.task_is("j", "c", "running");
}

#[test]
fn job_constraints() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("tries", "p", json!({ "constraints": { "maxTaskRetryCount": 2 } }));
    farm.task("tries", "a", "exit 1", json!({}));
    assert_eq!(farm.task_is("tries", "a", "completed")["executionInfo"]["retryCount"], 2);
    farm.job("short", "p", json!({ "constraints": { "maxWallClockTime": "PT1S" } }));
    farm.task("short", "a", "stay", json!({}));
    let reason = farm.job_is("short", "completed")["executionInfo"]["terminateReason"].clone();
    assert_eq!(reason, "MaxWallClockTimeExpiry");
    let task = farm.show_task("short", "a");
    assert!(
        task["state"] == "active" || task["executionInfo"]["failureInfo"]["code"] == "TaskEnded",
        "{task}"
    );
}

#[test]
fn on_all_tasks_complete() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "completed");
    assert_eq!(farm.get("/jobs/j").json["state"], "active");
    let body = json!({ "onAllTasksComplete": "terminatejob" });
    farm.ask("PATCH", "/jobs/j", Some(&body), &[]);
    assert_eq!(farm.job_is("j", "completed")["executionInfo"]["terminateReason"], "AllTasksComplete");
}

#[test]
fn on_task_failure() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    let disables = json!({ "exitConditions": { "default": { "jobAction": "disable" } } });
    farm.job("plain", "p", json!({}));
    let mut body = json!({ "id": "a", "commandLine": "exit 1" });
    body["exitConditions"] = disables["exitConditions"].clone();
    assert_eq!(farm.try_post("/jobs/plain/tasks", body).status, 400, "the job acts on no failure");
    farm.job("ends", "p", json!({ "onTaskFailure": "performexitoptionsjobaction" }));
    farm.task("ends", "a", "exit 1", json!({}));
    assert_eq!(farm.job_is("ends", "completed")["executionInfo"]["terminateReason"], "TaskFailed");
    farm.job("rests", "p", json!({ "onTaskFailure": "performexitoptionsjobaction" }));
    farm.task("rests", "a", "exit 1", disables);
    farm.job_is("rests", "disabled");
}

#[test]
fn job_manager_task() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({ "taskSlotsPerNode": 4 }));
    farm.job("j", "p", json!({ "jobManagerTask": { "id": "Boss", "commandLine": "stay" } }));
    farm.task_is("j", "boss", "running");
    let placed = farm.get("/muster/v1/jobs/j/tasks/boss/placement").json;
    assert_eq!(placed["instances"][0]["cores"], "0-3", "it has its node alone");
    farm.task("j", "a", "true", json!({}));
    farm.end_those_that_stay(0);
    assert_eq!(farm.job_is("j", "completed")["executionInfo"]["terminateReason"], "JMComplete");
    let start = farm.get("/muster/v1/jobs/j/events").json;
    assert_eq!(start["value"][0]["properties"]["taskType"], "JobManager", "{start}");
}

#[test]
fn job_preparation() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({ "jobPreparationTask": { "commandLine": "stay" } }));
    let taken = farm.try_post("/jobs/j/tasks", json!({ "id": "JobPreparation", "commandLine": "true" }));
    assert_eq!(taken.refused(), (409, "TaskIdSameAsJobPreparationTask"));
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "preparing");
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/a/why").json["code"], "preparing");
    farm.end_those_that_stay(0);
    farm.task_is("j", "a", "completed");
    assert_eq!(farm.order(), ["lab/j/jobpreparation", "lab/j/a"]);
    // Where it fails, the node gets none of the job's tasks.
    farm.job("k", "p", json!({ "jobPreparationTask": { "commandLine": "exit 1" } }));
    farm.task("k", "a", "true", json!({}));
    farm.until("it has failed", |farm| {
        farm.get("/muster/v1/jobs/k/tasks/a/why").json["code"] == "notPrepared"
    });
    assert_eq!(farm.task_state("k", "a"), "active");
    let failed = farm.get("/muster/v1/jobs/k/events").json;
    let names: Vec<_> =
        failed["value"].as_array().unwrap().iter().map(|event| &event["operationName"]).collect();
    assert_eq!(names, ["SpecialTaskStartEvent", "SpecialTaskCompleteEvent", "TaskScheduleFailEvent"]);
    assert_eq!(failed["value"][2]["properties"]["schedulingError"]["code"], "JobPreparationTaskFailed");
}

#[test]
fn job_release() {
    let farm = Farm::of(1);
    let alone =
        json!({ "id": "x", "poolInfo": { "poolId": "p" }, "jobReleaseTask": { "commandLine": "true" } });
    assert_eq!(farm.try_post("/jobs", alone).status, 400, "it needs a preparation task");
    let long = json!({
        "id": "x", "poolInfo": { "poolId": "p" }, "jobPreparationTask": { "commandLine": "true" },
        "jobReleaseTask": { "commandLine": "true", "maxWallClockTime": "PT16M" },
    });
    assert_eq!(farm.try_post("/jobs", long).status, 400, "15 minutes is the most");
    farm.pool("p", 1, json!({}));
    let chores = json!({ "jobPreparationTask": { "commandLine": "true" }, "jobReleaseTask": { "commandLine": "exit 1" } });
    farm.job("j", "p", chores);
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "completed");
    farm.post("/jobs/j/terminate", json!({}));
    farm.job_is("j", "completed");
    assert_eq!(farm.order(), ["lab/j/jobpreparation", "lab/j/a", "lab/j/jobrelease"]);
}

#[test]
fn preparation_and_release_status() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("plain", "p", json!({}));
    let none = farm.get("/jobs/plain/jobpreparationandreleasetaskstatus");
    assert_eq!(none.refused(), (409, "JobPreparationTaskNotSpecified"));
    let chores = json!({ "jobPreparationTask": { "commandLine": "true" }, "jobReleaseTask": { "commandLine": "exit 4" } });
    farm.job("j", "p", chores);
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "completed");
    farm.post("/jobs/j/terminate", json!({}));
    farm.job_is("j", "completed");
    let rows = farm.get("/jobs/j/jobpreparationandreleasetaskstatus").json;
    let row = &rows["value"][0];
    assert_eq!(row["nodeId"], "n01");
    assert_eq!(row["jobPreparationTaskExecutionInfo"]["result"], "success");
    let release = &row["jobReleaseTaskExecutionInfo"];
    assert_eq!((&release["result"], &release["exitCode"]), (&json!("failure"), &json!(4)));
}

#[test]
fn common_environment() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    let pair = |name: &str, value: &str| json!({ "name": name, "value": value });
    farm.job("j", "p", json!({ "commonEnvironmentSettings": [pair("A", "job"), pair("B", "job")] }));
    farm.task("j", "a", "true", json!({ "environmentSettings": [pair("B", "task")] }));
    farm.task_is("j", "a", "completed");
    let of = |name: &str| farm.variable("lab/j/a", name).unwrap_or_default();
    assert_eq!((of("A"), of("B")), ("job".to_owned(), "task".to_owned()));
    let own =
        [of("AZ_BATCH_ACCOUNT_NAME"), of("AZ_BATCH_POOL_ID"), of("AZ_BATCH_JOB_ID"), of("AZ_BATCH_TASK_ID")];
    assert_eq!(own, ["lab", "p", "j", "a"]);
}

#[test]
fn job_schedule() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    let like =
        json!({ "poolInfo": { "poolId": "p" }, "jobManagerTask": { "id": "boss", "commandLine": "true" } });
    let often = json!({ "id": "s", "schedule": { "recurrenceInterval": "PT1S" }, "jobSpecification": like });
    assert_eq!(farm.try_post("/jobschedules", often).status, 400);
    let made = farm.post("/jobschedules", json!({ "id": "Once", "jobSpecification": like }));
    assert_eq!(made.status, 201);
    let same = farm.try_post("/jobs", json!({ "id": "once", "poolInfo": { "poolId": "p" } }));
    assert_eq!(same.refused(), (409, "JobScheduleWithSameIdExists"));
    farm.until("it has completed", |farm| farm.get("/jobschedules/once").json["state"] == "completed");
    assert_eq!(farm.get("/jobschedules/once/jobs").ids(), ["Once:job-1"]);
    assert_eq!(farm.get("/jobs/Once%3Ajob-1").json["state"], "completed");
    let late = json!({ "id": "later", "schedule": { "doNotRunUntil": "2099-01-01T00:00:00Z" }, "jobSpecification": like });
    farm.post("/jobschedules", late);
    assert_eq!(farm.get("/jobschedules/later").json["executionInfo"]["nextRunTime"], "2099-01-01T00:00:00Z");
    assert_eq!(farm.try_post("/jobschedules/later/disable", json!({})).status, 204);
    assert_eq!(farm.get("/jobschedules/later").json["state"], "disabled");
    assert_eq!(farm.try_post("/jobschedules/later/enable", json!({})).status, 204);
    farm.post("/jobschedules/later/terminate", json!({}));
    farm.until("it has completed", |farm| farm.get("/jobschedules/later").json["state"] == "completed");
    assert_eq!(farm.ask("HEAD", "/jobschedules/later", None, &[]).status, 200);
    assert_eq!(farm.delete("/jobschedules/later").status, 202);
    farm.until("it is gone", |farm| farm.get("/jobschedules").ids() == ["Once"]);
}

#[test]
fn auto_pool() {
    let farm = Farm::of(1);
    let brings = |keep: bool| {
        json!({ "autoPoolSpecification": {
            "autoPoolIdPrefix": "mine", "poolLifetimeOption": "job", "keepAlive": keep,
            "pool": { "vmSize": "main", "targetDedicatedNodes": 1 },
        } })
    };
    let both = json!({ "id": "x", "poolInfo": { "poolId": "p", "autoPoolSpecification": brings(false)["autoPoolSpecification"] } });
    assert_eq!(farm.try_post("/jobs", both).property(), ("InvalidPropertyValue", "poolInfo"));
    farm.post("/jobs", json!({ "id": "j", "poolInfo": brings(false), "onAllTasksComplete": "noaction" }));
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "completed");
    let pool = farm.get("/jobs/j").json["executionInfo"]["poolId"].as_str().unwrap().to_owned();
    assert!(pool.starts_with("mine-") && farm.get("/pools").ids() == [pool.as_str()], "{pool}");
    farm.post("/jobs/j/terminate", json!({}));
    farm.until("its pool is gone", |farm| farm.get("/pools").ids().is_empty());
}

#[test]
fn disable_enable_job() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "stay", json!({}));
    farm.task_is("j", "a", "running");
    let moved = json!({ "poolInfo": { "poolId": "q" } });
    assert_eq!(farm.ask("PATCH", "/jobs/j", Some(&moved), &[]).status, 409, "only while it is disabled");
    farm.post("/jobs/j/disable", json!({ "disableTasks": "requeue" }));
    farm.job_is("j", "disabled");
    assert_eq!(farm.show_task("j", "a")["executionInfo"]["requeueCount"], 1);
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/a/why").json["code"], "jobDisabled");
    assert_eq!(
        farm.ask("PATCH", "/jobs/j", Some(&json!({ "poolInfo": { "poolId": "p" } })), &[]).status,
        200
    );
    farm.post("/jobs/j/enable", json!({}));
    farm.task_is("j", "a", "running");
    farm.post("/jobs/j/disable", json!({ "disableTasks": "wait" }));
    assert_eq!(farm.get("/jobs/j").json["state"], "disabling");
    farm.end_those_that_stay(0);
    farm.job_is("j", "disabled");
    assert_eq!(farm.task_state("j", "a"), "completed");
}
