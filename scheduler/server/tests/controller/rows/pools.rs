//! Pools, and what makes their nodes ready.

use muster_wire::v1;
use serde_json::json;

use super::Farm;

#[test]
fn pool() {
    let farm = Farm::of(1);
    let made = farm.post(
        "/pools",
        json!({ "id": "Pool", "vmSize": "main", "targetDedicatedNodes": 0, "displayName": "x" }),
    );
    assert!(made.status == 201 && made.headers["location"].ends_with("/pools/pool"), "{made:?}");
    assert_eq!(
        farm.try_post("/pools", json!({ "id": "POOL", "vmSize": "main" })).refused(),
        (409, "PoolExists")
    );
    let unknown = farm.try_post("/pools", json!({ "id": "b", "vmSize": "huge" }));
    assert_eq!(unknown.property(), ("InvalidPropertyValue", "vmSize"));
    let shown = farm.get("/pools/pool").json;
    assert_eq!(
        (&shown["id"], &shown["displayName"], &shown["state"]),
        (&json!("Pool"), &json!("x"), &json!("active"))
    );
    let body = json!({ "displayName": "y" });
    assert_eq!(farm.ask("PATCH", "/pools/pool", Some(&body), &[]).status, 200);
    assert_eq!(farm.get("/pools/pool").json["displayName"], "y");
    assert_eq!(farm.get("/pools?$filter=vmSize%20eq%20%27main%27").ids(), ["Pool"]);
    assert_eq!(farm.ask("HEAD", "/pools/pool", None, &[]).status, 200);
    assert_eq!(farm.delete("/pools/pool").status, 202);
    farm.until("the pool is gone", |farm| farm.get("/pools/pool").status == 404);
    assert_eq!(farm.ask("HEAD", "/pools/pool", None, &[]).status, 404);
}

#[test]
fn pool_image() {
    let farm = Farm::without_nodes();
    let images = farm.get("/supportedimages?$filter=verificationType%20eq%20%27verified%27").json;
    let image = images["value"]
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["imageReference"]["offer"] == "ubuntuserver" && image["osType"] == "linux");
    let image = image.unwrap();
    let machine =
        json!({ "imageReference": image["imageReference"], "nodeAgentSKUId": image["nodeAgentSKUId"] });
    farm.post("/pools", json!({ "id": "p", "vmSize": "main", "virtualMachineConfiguration": machine }));
    assert_eq!(farm.get("/pools/p").json["virtualMachineConfiguration"], machine);
}

#[test]
fn low_priority() {
    let farm = Farm::of(2);
    let body = json!({ "id": "p", "vmSize": "main", "targetLowPriorityNodes": 2 });
    farm.post("/pools", body);
    farm.until("it has two", |farm| farm.get("/pools/p").json["currentLowPriorityNodes"] == 2);
    assert_eq!(farm.get("/pools/p/nodes/n01").json["isDedicated"], false);
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "stay", json!({}));
    farm.task("j", "b", "stay", json!({}));
    farm.task_is("j", "b", "running");
    // A pool with dedicated nodes has one back; the task there waits again, which no counter counts.
    farm.pool("q", 1, json!({}));
    farm.until("a node is preempted", |farm| {
        farm.get("/nodecounts").json.to_string().contains("\"preempted\":1")
    });
    let waits = |farm: &Farm| ["a", "b"].into_iter().find(|task| farm.task_state("j", task) == "active");
    farm.until("a task waits", |farm| waits(farm).is_some());
    let info = farm.show_task("j", waits(&farm).unwrap())["executionInfo"].clone();
    assert_eq!((&info["retryCount"], &info["requeueCount"]), (&json!(0), &json!(0)));
}

#[test]
fn resize() {
    // Of three nodes one never comes.
    let farm = Farm::of_some(3, 2);
    farm.pool("p", 1, json!({}));
    let resize = |body| farm.try_post("/pools/p/resize", body);
    let short = resize(json!({ "targetDedicatedNodes": 2, "resizeTimeout": "PT1M" }));
    assert_eq!(short.property(), ("InvalidPropertyValue", "resizeTimeout"));
    assert_eq!(resize(json!({ "targetDedicatedNodes": 3 })).status, 202);
    farm.until("it has what there is", |farm| farm.get("/pools/p").json["currentDedicatedNodes"] == 2);
    assert_eq!(resize(json!({ "targetDedicatedNodes": 1 })).refused(), (409, "PoolBeingResized"));
    assert_eq!(farm.try_post("/pools/p/stopresize", json!({})).status, 202);
    let stopped = farm.get("/pools/p").json;
    assert_eq!(
        (&stopped["allocationState"], &stopped["resizeErrors"][0]["code"]),
        (&json!("steady"), &json!("ResizeStopped"))
    );
    farm.post("/pools/p/resize", json!({ "targetDedicatedNodes": 0 }));
    farm.until("it has none", |farm| farm.get("/pools/p/nodes").ids().is_empty());
}

#[test]
fn node_deallocation_option() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.task("j", "requeued", "stay", json!({}));
    farm.task_is("j", "requeued", "running");
    farm.post("/pools/p/resize", json!({ "targetDedicatedNodes": 0, "nodeDeallocationOption": "requeue" }));
    let task = farm.task_is("j", "requeued", "active");
    assert_eq!(
        (&task["executionInfo"]["requeueCount"], &task["executionInfo"]["retryCount"]),
        (&json!(1), &json!(0))
    );
    farm.until("it is steady", |farm| farm.get("/pools/p").json["allocationState"] == "steady");
    farm.post("/pools/p/resize", json!({ "targetDedicatedNodes": 1 }));
    farm.task_is("j", "requeued", "running");
    farm.until("it is steady", |farm| farm.get("/pools/p").json["allocationState"] == "steady");
    farm.post("/pools/p/resize", json!({ "targetDedicatedNodes": 0, "nodeDeallocationOption": "terminate" }));
    let task = farm.task_is("j", "requeued", "completed");
    assert_eq!(task["executionInfo"]["failureInfo"]["code"], "TaskEnded");
    farm.until("it is steady", |farm| farm.get("/pools/p").json["allocationState"] == "steady");
    let wrong =
        farm.try_post("/pools/p/resize", json!({ "targetDedicatedNodes": 1, "nodeDeallocationOption": "x" }));
    assert_eq!(wrong.property(), ("InvalidPropertyValue", "nodeDeallocationOption"));
}

#[test]
fn remove_nodes() {
    let farm = Farm::of(2);
    farm.pool("p", 2, json!({}));
    let unknown = farm.try_post("/pools/p/removenodes", json!({ "nodeList": ["n09"] }));
    assert_eq!(unknown.refused(), (404, "NodeNotFound"));
    farm.post("/pools/p/removenodes", json!({ "nodeList": ["n01"] }));
    farm.until("the other is left", |farm| farm.get("/pools/p/nodes").ids() == ["n02"]);
    assert_eq!(farm.get("/pools/p").json["targetDedicatedNodes"], 1);
}

#[test]
fn autoscale() {
    let farm = Farm::of(1);
    let formula = "$TargetDedicatedNodes = 1";
    farm.post(
        "/pools",
        json!({ "id": "p", "vmSize": "main", "enableAutoScale": true, "autoScaleFormula": formula }),
    );
    farm.until("it has a node", |farm| farm.get("/pools/p").json["currentDedicatedNodes"] == 1);
    let pool = farm.get("/pools/p").json;
    assert!(pool["autoScaleRun"]["results"].as_str().unwrap().contains("$TargetDedicatedNodes=1"), "{pool}");
    let both = json!({ "id": "b", "vmSize": "main", "enableAutoScale": true, "autoScaleFormula": formula, "targetDedicatedNodes": 1 });
    assert_eq!(farm.try_post("/pools", both).property(), ("InvalidPropertyValue", "targetDedicatedNodes"));
    let run = farm
        .post("/pools/p/evaluateautoscale", json!({ "autoScaleFormula": "$TargetDedicatedNodes = 2 * 3" }));
    assert!(run.json["results"].as_str().unwrap().contains("$TargetDedicatedNodes=6"), "{run:?}");
    let wrong =
        farm.try_post("/pools/p/evaluateautoscale", json!({ "autoScaleFormula": "$TargetDedicatedNodes =" }));
    assert_eq!(wrong.refused(), (400, "AutoScalingFormulaSyntaxError"));
    let soon = json!({ "autoScaleFormula": formula, "autoScaleEvaluationInterval": "PT1M" });
    assert_eq!(farm.try_post("/pools/p/enableautoscale", soon).status, 400, "5 minutes are the least");
    // What nodes use, a formula sees, and so do the statistics; a node that is of no use to formulas is not believed.
    let used = v1::NodeUse {
        period_ms: 1_000,
        cpu_hundredths: 9_000,
        memory_bytes: 1 << 30,
        network_in_bytes: 1 << 20,
        disk_reads: u64::MAX,
        ..v1::NodeUse::default()
    };
    let tried = |formula: &str| {
        let run = farm.post("/pools/p/evaluateautoscale", json!({ "autoScaleFormula": formula }));
        run.json["results"].as_str().unwrap_or_default().to_owned()
    };
    farm.until("the formula sees how busy the node is", |farm| {
        farm.say_used(used);
        tried("$TargetDedicatedNodes = 1; $busy = $CPUPercent").contains("$busy=90")
    });
    let many = tried(
        "$TargetDedicatedNodes = 1; $samples = $CPUPercent.Count(); $memory = $MemoryBytes; $there = $WallClockSeconds > 0; \
         $believed = $DiskReadOps < 1e12",
    );
    for expected in ["$samples=1", "$memory=1024", "$there=1", "$believed=1"] {
        assert!(many.split(';').any(|result| result == expected), "{expected}: {many}");
    }
    let stats = farm.get("/pools/p?$expand=stats").json["stats"]["resourceStats"].clone();
    assert!((89.0..=90.0).contains(&stats["avgCPUPercentage"].as_f64().unwrap()), "{stats}");
    assert_eq!((&stats["peakMemoryGiB"], &stats["diskWriteIOps"]), (&json!(1.0), &json!(0)), "{stats}");
    assert!(stats["networkReadGiB"].as_f64().unwrap() > 0.0, "{stats}");
    farm.post("/pools/p/disableautoscale", json!({}));
    assert_eq!(farm.get("/pools/p").json["enableAutoScale"], false);
}

#[test]
fn start_task() {
    let mut farm = Farm::of(1);
    let start = json!({ "commandLine": "exit 1", "maxTaskRetryCount": 1, "waitForSuccess": true });
    farm.pool("p", 1, json!({ "startTask": start }));
    farm.until("it has failed", |farm| farm.get("/pools/p/nodes/n01").json["state"] == "starttaskfailed");
    let info = farm.get("/pools/p/nodes/n01").json["startTaskInfo"].clone();
    assert_eq!(
        (&info["result"], &info["exitCode"], &info["retryCount"]),
        (&json!("failure"), &json!(1), &json!(1))
    );
    assert_eq!(farm.prepared("lab/p/startup").len(), 2);
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "true", json!({}));
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/a/why").json["code"], "noNodes");
    // A change of it is for the next start of the node.
    let body = json!({ "startTask": { "commandLine": "true" } });
    assert_eq!(farm.ask("PATCH", "/pools/p", Some(&body), &[]).status, 200);
    farm.lose("n01");
    farm.until("the node is away", |farm| farm.get("/pools/p/nodes/n01").json["state"] == "unknown");
    farm.play_after_boot("n01");
    farm.task_is("j", "a", "completed");
    assert_eq!(farm.get("/pools/p/nodes/n01").json["startTaskInfo"]["result"], "success");
}

#[test]
fn application_packages() {
    let farm = Farm::without_nodes();
    assert_eq!(farm.get("/applications").ids(), Vec::<&str>::new());
    assert_eq!(farm.get("/applications/blender").refused(), (404, "ApplicationNotFound"));
    assert_eq!(farm.delete("/applications/blender/versions/4").status, 404);
    let undigested = farm.ask("PUT", "/applications/blender/versions/4", None, &[]);
    assert_eq!(undigested.refused(), (400, "InvalidQueryParameterValue"), "what comes must be signed");
    let packages = json!([{ "applicationId": "blender", "version": "4" }]);
    let body = json!({ "id": "p", "vmSize": "main", "applicationPackageReferences": packages });
    assert_eq!(farm.try_post("/pools", body).refused(), (409, "InvalidApplicationPackageReferences"));
    farm.job("j", "p", json!({}));
    let task = json!({ "id": "a", "commandLine": "true", "applicationPackageReferences": packages });
    assert_eq!(farm.try_post("/jobs/j/tasks", task).refused(), (409, "InvalidApplicationPackageReferences"));
}

#[test]
fn mounts() {
    let farm = Farm::without_nodes();
    let with = |mount| {
        farm.try_post("/pools", json!({ "id": "p", "vmSize": "main", "mountConfiguration": [mount] }))
    };
    let unlisted =
        with(json!({ "nfsMountConfiguration": { "source": "store:/data", "relativeMountPath": "data" } }));
    assert_eq!(
        unlisted.property(),
        ("InvalidPropertyValue", "mountConfiguration.nfsMountConfiguration.source"),
        "the site lists what may be mounted"
    );
    let cloud = with(json!({ "azureFileShareConfiguration": { "accountName": "a" } }));
    assert_eq!(
        cloud.property(),
        ("UnsupportedProperty", "mountConfiguration[0].azureFileShareConfiguration")
    );
}

#[test]
fn inter_node_communication() {
    let farm = Farm::of(2);
    farm.pool("alone", 1, json!({}));
    farm.job("j", "alone", json!({}));
    let gang =
        json!({ "multiInstanceSettings": { "numberOfInstances": 2, "coordinationCommandLine": "true" } });
    farm.task("j", "gang", "true", gang.clone());
    let why = farm.get("/muster/v1/jobs/j/tasks/gang/why").json;
    assert_eq!((&why["code"], &why["forEver"]), (&json!("neverFits"), &json!(true)));
    let failed = farm.get("/muster/v1/jobs/j/events").json;
    assert_eq!(failed["value"][0]["operationName"], "TaskScheduleFailEvent", "{failed}");
    farm.delete("/pools/alone");
    farm.until("the pool is gone", |farm| farm.get("/pools/alone").status == 404);
    farm.pool("together", 2, json!({ "enableInterNodeCommunication": true }));
    farm.job("k", "together", json!({}));
    farm.task("k", "gang", "stay", gang);
    farm.task_is("k", "gang", "running");
    let parts = farm.get("/jobs/k/tasks/gang/subtasksinfo").json;
    assert_eq!((&parts["value"][0]["id"], &parts["value"][0]["state"]), (&json!(1), &json!("running")));
    let placed = farm.get("/muster/v1/jobs/k/tasks/gang/placement").json;
    let instances = placed["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 2);
    assert_eq!(instances[1]["ranks"][0], json!({ "rank": 4, "cores": "0" }), "ranks go on over the nodes");
    assert_eq!(farm.get("/jobs/j/tasks/gang/subtasksinfo").json["value"], json!([]));
}

#[test]
fn task_slots() {
    let farm = Farm::of(1);
    let many = farm.try_post("/pools", json!({ "id": "q", "vmSize": "main", "taskSlotsPerNode": 5 }));
    assert_eq!(many.property(), ("InvalidPropertyValue", "taskSlotsPerNode"), "a node has 4 cores");
    farm.pool("p", 1, json!({ "taskSlotsPerNode": 4 }));
    farm.job("j", "p", json!({}));
    farm.task("j", "three", "stay", json!({ "requiredSlots": 3 }));
    farm.task("j", "two", "stay", json!({ "requiredSlots": 2 }));
    farm.task("j", "one", "stay", json!({}));
    farm.task_is("j", "three", "running");
    farm.task_is("j", "one", "running");
    assert_eq!(farm.task_state("j", "two"), "active");
    let node = farm.get("/pools/p/nodes/n01").json;
    assert_eq!((&node["runningTasksCount"], &node["runningTaskSlotsCount"]), (&json!(2), &json!(4)));
    let slots = farm.get("/jobs/j/taskcounts").json["taskSlotCounts"].clone();
    assert_eq!((&slots["running"], &slots["active"]), (&json!(4), &json!(2)));
    farm.task("j", "five", "true", json!({ "requiredSlots": 5 }));
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/five/why").json["code"], "neverFits");
}

#[test]
fn fill_type() {
    let farm = Farm::of(2);
    for (fill, nodes) in [("pack", 1), ("spread", 2)] {
        farm.pool(
            fill,
            2,
            json!({ "taskSlotsPerNode": 2, "taskSchedulingPolicy": { "nodeFillType": fill } }),
        );
        farm.job(fill, fill, json!({}));
        for task in ["a", "b"] {
            farm.task(fill, task, "stay", json!({}));
            farm.task_is(fill, task, "running");
        }
        let of = |task: &str| farm.show_task(fill, task)["nodeInfo"]["nodeId"].clone();
        assert_eq!(1 + usize::from(of("a") != of("b")), nodes, "{fill}");
        farm.delete(&format!("/jobs/{fill}"));
        farm.delete(&format!("/pools/{fill}"));
        farm.until("the pool is gone", |farm| farm.get("/pools").ids().is_empty());
    }
}

#[test]
fn node_scheduling() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.post(
        "/pools/p/nodes/n01/disablescheduling",
        json!({ "nodeDisableSchedulingOption": "taskcompletion" }),
    );
    assert_eq!(farm.get("/pools/p/nodes/n01").json["state"], "offline");
    let twice = farm.try_post("/pools/p/nodes/n01/disablescheduling", json!({}));
    assert_eq!(twice.refused(), (409, "NodeAlreadyInTargetSchedulingState"));
    farm.task("j", "a", "true", json!({}));
    assert_eq!(farm.task_state("j", "a"), "active");
    farm.post("/pools/p/nodes/n01/enablescheduling", json!({}));
    farm.task_is("j", "a", "completed");
}

#[test]
fn node_user_remote_login() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    let login = farm.get("/pools/p/nodes/n01/remoteloginsettings").json;
    assert_eq!(login, json!({ "remoteLoginIPAddress": "127.0.0.1", "remoteLoginPort": 22 }));
    let user = farm.try_post("/pools/p/nodes/n01/users", json!({ "name": "ann" }));
    assert_eq!(user.refused(), (409, "OperationNotValidOnNode"));
    assert_eq!(farm.try_post("/pools/p/nodes/n09/reboot", json!({})).refused(), (404, "NodeNotFound"));
}
