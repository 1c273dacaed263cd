//! Tasks, their files, and what follows from their ends.

use serde_json::json;

use super::Farm;

/// A service with a pool of one node of so many slots, and a job `j`.
fn with_job(slots: u32, job: serde_json::Value) -> Farm {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({ "taskSlotsPerNode": slots }));
    farm.job("j", "p", job);
    farm
}

#[test]
fn task() {
    let farm = with_job(1, json!({}));
    farm.task("j", "Task", "echo 'a b' c", json!({ "displayName": "x" }));
    let task = farm.task_is("j", "task", "completed");
    assert_eq!(
        (&task["id"], &task["displayName"], &task["commandLine"]),
        (&json!("Task"), &json!("x"), &json!("echo 'a b' c"))
    );
    let command = &farm.prepared("lab/j/Task")[0].1.staging.clone().unwrap().command;
    assert_eq!(*command, ["echo", "a b", "c"], "no shell reads it");
    let again = farm.try_post("/jobs/j/tasks", json!({ "id": "TASK", "commandLine": "true" }));
    assert_eq!(again.refused(), (409, "TaskExists"));
    let open = farm.try_post("/jobs/j/tasks", json!({ "id": "b", "commandLine": "echo 'a" }));
    assert_eq!(open.property(), ("InvalidPropertyValue", "commandLine"));
    let tasks = json!({ "value": [{ "id": "task", "commandLine": "true" }, { "id": "c", "commandLine": "true" }, { "id": "d" }] });
    let added = farm.post("/jobs/j/addtaskcollection", tasks).json;
    let of = |i: usize| (added["value"][i]["status"].clone(), added["value"][i]["error"]["code"].clone());
    assert_eq!(of(0), (json!("clienterror"), json!("TaskExists")));
    assert_eq!(of(1).0, "success");
    assert_eq!(of(2), (json!("clienterror"), json!("MissingRequiredProperty")));
    let many: Vec<_> = (0..101).map(|i| json!({ "id": format!("t{i}"), "commandLine": "true" })).collect();
    assert_eq!(farm.try_post("/jobs/j/addtaskcollection", json!({ "value": many })).status, 400);
}

#[test]
fn task_constraints() {
    let farm = with_job(1, json!({ "constraints": { "maxTaskRetryCount": 9 } }));
    farm.task(
        "j",
        "a",
        "exit 1",
        json!({ "constraints": { "maxTaskRetryCount": 1, "retentionTime": "PT1H" } }),
    );
    let task = farm.task_is("j", "a", "completed");
    assert_eq!(
        (&task["executionInfo"]["retryCount"], &task["executionInfo"]["result"]),
        (&json!(1), &json!("failure"))
    );
    assert_eq!(farm.prepared("lab/j/a")[0].1.staging.as_ref().unwrap().retention_s, 3600);
    farm.task(
        "j",
        "long",
        "stay",
        json!({ "constraints": { "maxWallClockTime": "PT1S", "maxTaskRetryCount": 0 } }),
    );
    let task = farm.task_is("j", "long", "completed");
    assert_eq!(task["executionInfo"]["failureInfo"]["code"], "TaskEnded");
    // Files that cannot be brought are not tried again.
    farm.task("j", "lacks", "lacks BlobNotFound", json!({}));
    let task = farm.task_is("j", "lacks", "completed");
    assert_eq!(
        (&task["executionInfo"]["retryCount"], &task["executionInfo"]["failureInfo"]["code"]),
        (&json!(0), &json!("BlobNotFound"))
    );
    let body = json!({ "constraints": { "maxTaskRetryCount": 3 } });
    assert_eq!(farm.ask("PUT", "/jobs/j/tasks/a", Some(&body), &[]).refused(), (409, "TaskCompleted"));
    farm.job("k", "none", json!({}));
    farm.task("k", "a", "true", json!({}));
    assert_eq!(farm.ask("PUT", "/jobs/k/tasks/a", Some(&body), &[]).status, 200);
    assert_eq!(farm.show_task("k", "a")["constraints"]["maxTaskRetryCount"], 3);
}

#[test]
fn system_requeue() {
    let mut farm = Farm::of(2);
    farm.pool("p", 2, json!({}));
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "stay", json!({}));
    let node = farm.task_is("j", "a", "running")["nodeInfo"]["nodeId"].as_str().unwrap().to_owned();
    farm.lose(&node);
    farm.until("it runs elsewhere", |farm| {
        let task = farm.show_task("j", "a");
        task["state"] == "running" && task["nodeInfo"]["nodeId"] != node.as_str()
    });
    let info = farm.show_task("j", "a")["executionInfo"].clone();
    assert_eq!((&info["retryCount"], &info["requeueCount"]), (&json!(0), &json!(0)), "neither counts it");
    let events = farm.get("/muster/v1/jobs/j/events").json;
    assert_eq!(
        (&events["value"][1]["operationName"], &events["value"][1]["properties"]["cause"]),
        (&json!("TaskRequeueEvent"), &json!("system"))
    );
}

#[test]
fn dependencies() {
    let farm = with_job(4, json!({ "usesTaskDependencies": true }));
    farm.job("plain", "p", json!({}));
    let on = |ids: serde_json::Value| json!({ "id": "x", "commandLine": "true", "dependsOn": ids });
    let refused = farm.try_post("/jobs/plain/tasks", on(json!({ "taskIds": ["a"] })));
    assert_eq!(refused.refused(), (400, "TaskDependenciesNotSpecifiedOnJob"));
    let long: Vec<String> = (0..2000).map(|i| format!("{i:060}")).collect();
    assert_eq!(
        farm.try_post("/jobs/j/tasks", on(json!({ "taskIds": long }))).refused(),
        (400, "TaskDependencyListTooLong")
    );
    farm.task(
        "j",
        "after",
        "true",
        json!({ "dependsOn": { "taskIds": ["first"], "taskIdRanges": [{ "start": 1, "end": 2 }] } }),
    );
    farm.task("j", "first", "true", json!({}));
    farm.task("j", "001", "true", json!({}));
    farm.task_is("j", "001", "completed");
    assert_eq!(farm.task_state("j", "after"), "active");
    farm.task("j", "2", "true", json!({}));
    farm.task_is("j", "after", "completed");
    farm.task("j", "bad", "exit 1", json!({}));
    farm.task("j", "never", "true", json!({ "dependsOn": { "taskIds": ["bad"] } }));
    farm.task_is("j", "bad", "completed");
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/never/why").json["forEver"], true);
}

#[test]
fn exit_conditions() {
    let farm = with_job(4, json!({ "usesTaskDependencies": true }));
    let exits = json!({
        "exitCodes": [{ "code": 3, "exitOptions": { "dependencyAction": "satisfy" } }],
        "exitCodeRanges": [{ "start": 2, "end": 4, "exitOptions": { "dependencyAction": "block" } }],
        "preProcessingError": { "dependencyAction": "satisfy" },
        "default": { "dependencyAction": "satisfy" },
    });
    for (task, command) in
        [("three", "exit 3"), ("four", "exit 4"), ("nine", "exit 9"), ("lacks", "lacks BlobNotFound")]
    {
        farm.task("j", task, command, json!({ "exitConditions": exits }));
        let after = format!("after-{task}");
        farm.task("j", &after, "true", json!({ "dependsOn": { "taskIds": [task] } }));
    }
    for after in ["after-three", "after-nine", "after-lacks"] {
        farm.task_is("j", after, "completed");
    }
    assert_eq!(farm.task_is("j", "four", "completed")["executionInfo"]["exitCode"], 4);
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/after-four/why").json["code"], "dependencyNever");
}

#[test]
fn resource_files() {
    let farm = with_job(1, json!({}));
    let files = json!([
        { "httpUrl": "http://store/c/in.txt?sig=secret", "filePath": "data/in.txt", "fileMode": "0640" },
        { "storageContainerUrl": "http://store/c?sig=secret", "blobPrefix": "scene/", "filePath": "scene" },
    ]);
    farm.task("j", "a", "true", json!({ "resourceFiles": files }));
    farm.task_is("j", "a", "completed");
    let inputs = farm.prepared("lab/j/a")[0].1.staging.clone().unwrap().inputs;
    assert_eq!((inputs[0].to.as_str(), inputs[0].mode, inputs.len()), ("data/in.txt", Some(0o640), 2));
    let shown = farm.show_task("j", "a").to_string();
    assert!(shown.contains("http://store/c/in.txt?...") && !shown.contains("secret"), "{shown}");
    for (wrong, property) in [
        (
            json!({ "httpUrl": "http://s/x", "storageContainerUrl": "http://s/c", "filePath": "x" }),
            "resourceFiles[0].httpUrl",
        ),
        (json!({ "httpUrl": "http://s/x", "filePath": "../x" }), "resourceFiles[0].filePath"),
        (json!({ "httpUrl": "http://s/x", "filePath": "x", "fileMode": "9" }), "resourceFiles[0].fileMode"),
    ] {
        let task = json!({ "id": "b", "commandLine": "true", "resourceFiles": [wrong] });
        assert_eq!(farm.try_post("/jobs/j/tasks", task).property(), ("InvalidPropertyValue", property));
    }
    let auto =
        json!({ "id": "b", "commandLine": "true", "resourceFiles": [{ "autoStorageContainerName": "C" }] });
    let refused = farm.try_post("/jobs/j/tasks", auto);
    assert_eq!(refused.property(), ("InvalidPropertyValue", "resourceFiles[0].autoStorageContainerName"));
}

#[test]
fn output_files() {
    let farm = with_job(1, json!({}));
    let output = |condition: &str| {
        json!([{
            "filePattern": "**/*.png",
            "destination": { "container": { "containerUrl": "http://store/out?sig=secret", "path": "frames" } },
            "uploadOptions": { "uploadCondition": condition },
        }])
    };
    farm.task("j", "a", "keeps FileUploadContainerNotFound", json!({ "outputFiles": output("taskSuccess") }));
    let task = farm.task_is("j", "a", "completed");
    assert_eq!(task["executionInfo"]["failureInfo"]["code"], "FileUploadContainerNotFound");
    assert!(!task.to_string().contains("secret"));
    let outputs = farm.prepared("lab/j/a")[0].1.staging.clone().unwrap().outputs;
    assert_eq!((outputs[0].pattern.as_str(), outputs[0].path.as_str()), ("**/*.png", "frames"));
    let wrong = json!({ "id": "b", "commandLine": "true", "outputFiles": output("never") });
    let refused = farm.try_post("/jobs/j/tasks", wrong);
    assert_eq!(refused.property(), ("InvalidPropertyValue", "outputFiles[0].uploadOptions.uploadCondition"));
}

#[test]
fn task_authentication_token() {
    let farm = with_job(1, json!({}));
    farm.job("other", "p", json!({}));
    farm.task("j", "a", "stay", json!({ "authenticationTokenSettings": { "access": ["job"] } }));
    farm.task_is("j", "a", "running");
    let token = farm.variable("lab/j/a", "AZ_BATCH_AUTHENTICATION_TOKEN").unwrap();
    let new = json!({ "id": "b", "commandLine": "true" });
    let bearer = format!("Bearer {token}");
    let ask =
        |method: &str, target: &str, body| farm.ask(method, target, body, &[("authorization", &bearer)]);
    assert_eq!(ask("GET", "/jobs/J", None).status, 200);
    assert_eq!(ask("POST", "/jobs/j/tasks", Some(&new)).status, 201);
    assert_eq!(ask("GET", "/muster/v1/jobs/j/tasks/b/why", None).status, 200);
    assert_eq!(ask("GET", "/muster/v1/jobs/j/events", None).status, 200);
    for others in [
        "/jobs/other",
        "/pools",
        "/muster/v1/events",
        "/muster/v1/jobs/other/events",
        "/muster/v1/openapi.json",
    ] {
        assert_eq!(ask("GET", others, None).refused(), (403, "InsufficientAccountPermissions"), "{others}");
    }
    farm.end_those_that_stay(0);
    farm.task_is("j", "a", "completed");
    assert_eq!(ask("GET", "/jobs/j", None).refused(), (403, "AuthenticationFailed"), "it ends with its task");
    assert!(!farm.show_task("j", "a").to_string().contains(&token));
}

#[test]
fn affinity() {
    let farm = Farm::of(2);
    farm.pool("p", 2, json!({ "taskSlotsPerNode": 2 }));
    farm.job("j", "p", json!({}));
    for (task, node) in [("a", "n02"), ("b", "n02"), ("c", "n01")] {
        farm.task("j", task, "stay", json!({ "affinityInfo": { "affinityId": node } }));
        assert_eq!(farm.task_is("j", task, "running")["nodeInfo"]["affinityId"], node);
    }
    // It is a wish: where there is no room, another node will do.
    farm.task("j", "d", "stay", json!({ "affinityInfo": { "affinityId": "n02" } }));
    assert_eq!(farm.task_is("j", "d", "running")["nodeInfo"]["nodeId"], "n01");
}

#[test]
fn identities() {
    let farm = with_job(1, json!({}));
    let identity =
        json!({ "userIdentity": { "autoUser": { "scope": "pool", "elevationLevel": "nonadmin" } } });
    farm.task("j", "one", "true", identity.clone());
    assert_eq!(farm.task_is("j", "one", "completed")["userIdentity"], identity["userIdentity"]);
    let body = json!({ "id": "two", "commandLine": "true" });
    assert_eq!(farm.ask_as_other("POST", "/jobs/j/tasks", Some(&body)).status, 201);
    farm.task_is("j", "two", "completed");
    let user = |name: &str| farm.prepared(name)[0].1.user.clone().unwrap().name;
    assert_eq!(
        (user("lab/j/one"), user("lab/j/two")),
        ("nobody".to_owned(), "daemon".to_owned()),
        "work runs as the key's user"
    );
}

#[test]
fn containers() {
    let farm = Farm::of(2);
    let with = |images: &[&str]| {
        let containers = json!({ "type": "dockerCompatible", "containerImageNames": images });
        json!({ "virtualMachineConfiguration": { "nodeAgentSKUId": "x", "containerConfiguration": containers } })
    };
    farm.pool("p", 1, with(&["debian:12"]));
    farm.until("the node has the image", |farm| {
        farm.get("/pools/p/nodes").json["value"][0]["state"] == "idle"
    });
    assert_eq!(
        farm.get("/pools/p").json["virtualMachineConfiguration"],
        with(&["debian:12"])["virtualMachineConfiguration"]
    );
    farm.job("j", "p", json!({}));
    let settings = json!({
        "imageName": "10.0.0.1:5000/tool:1", "workingDirectory": "containerImageDefault",
        "containerRunOptions": "--rm --env A=1 --read-only -v /srv/listed/data:/data:ro --entrypoint ''",
    });
    farm.task("j", "a", "true", json!({ "containerSettings": settings }));
    assert_eq!(farm.task_is("j", "a", "completed")["containerSettings"], settings);
    let staging = farm.prepared("lab/j/a")[0].1.staging.clone().unwrap();
    let told = staging.container.unwrap();
    let image = told.image.unwrap();
    assert_eq!(
        (image.name.as_str(), image.plain_http, image.problem.as_str()),
        ("10.0.0.1:5000/tool:1", true, "")
    );
    assert_eq!(
        (told.environment, told.entrypoint, told.read_only),
        (vec!["A=1".to_owned()], Some(String::new()), true)
    );
    assert_eq!(told.directory, Some(muster_wire::v1::container::Directory::ImageDirectory(true)));
    let volume = &told.volumes[0];
    assert_eq!(
        (volume.source.as_str(), volume.target.as_str(), volume.read_only),
        ("/srv/listed/data", "/data", true)
    );
    // A task that says nothing of a container runs in none, also in such a pool.
    farm.task("j", "b", "true", json!({}));
    farm.task_is("j", "b", "completed");
    assert!(farm.prepared("lab/j/b")[0].1.staging.clone().unwrap().container.is_none());
    // A node that cannot have an image is good for nothing, and says why.
    farm.pool("q", 1, with(&["missing"]));
    farm.until("the node is unusable", |farm| {
        farm.get("/pools/q/nodes").json["value"][0]["state"] == "unusable"
    });
    let node = &farm.get("/pools/q/nodes").json["value"][0];
    assert_eq!(node["errors"][0]["code"], "ContainerInvalidImage");
    let images = farm.get("/supportedimages").json;
    assert_eq!(images["value"][0]["capabilities"], json!(["DockerCompatible"]), "clients look for it");
    // What the site does not list, and what would give more rights, is refused.
    let invalid = "InvalidPropertyValue";
    let mut unlisted = with(&["evil.example/x"]);
    unlisted["id"] = "r".into();
    unlisted["vmSize"] = "main".into();
    let place = "virtualMachineConfiguration.containerConfiguration.containerImageNames";
    assert_eq!(farm.try_post("/pools", unlisted).property(), (invalid, place));
    let task = |name: &str, value: serde_json::Value| {
        let mut settings = json!({ "imageName": "debian" });
        settings[name] = value;
        farm.try_post(
            "/jobs/j/tasks",
            json!({ "id": "c", "commandLine": "true", "containerSettings": settings }),
        )
    };
    let settings = |name: &str| format!("containerSettings.{name}");
    for (name, value) in [
        ("imageName", json!("evil.example/x")),
        ("containerRunOptions", json!("--privileged")),
        ("containerRunOptions", json!("-v /etc:/host-etc")),
    ] {
        assert_eq!(task(name, value).property(), (invalid, settings(name).as_str()));
    }
    let secret = task("registry", json!({ "registryServer": "docker.io", "username": "a", "password": "b" }));
    assert_eq!(secret.property(), ("UnsupportedProperty", settings("registry.username").as_str()));
    farm.delete("/pools/q");
    farm.until("the pool is gone", |farm| farm.get("/pools/q").status == 404);
    farm.pool("plain", 1, json!({}));
    farm.job("k", "plain", json!({}));
    let body = json!({ "id": "a", "commandLine": "true", "containerSettings": { "imageName": "debian" } });
    assert_eq!(farm.try_post("/jobs/k/tasks", body).property(), (invalid, "containerSettings"));
}

#[test]
fn terminate_delete_reactivate() {
    let farm = with_job(1, json!({}));
    farm.task("j", "a", "stay", json!({}));
    farm.task_is("j", "a", "running");
    assert_eq!(farm.try_post("/jobs/j/tasks/a/reactivate", json!({})).refused(), (409, "TaskNotCompleted"));
    assert_eq!(farm.try_post("/jobs/j/tasks/a/terminate", json!({})).status, 204);
    let task = farm.task_is("j", "a", "completed");
    assert_eq!(task["executionInfo"]["failureInfo"]["code"], "TaskEnded");
    assert_eq!(farm.try_post("/jobs/j/tasks/a/terminate", json!({})).refused(), (409, "TaskCompleted"));
    assert_eq!(farm.try_post("/jobs/j/tasks/a/reactivate", json!({})).status, 204);
    farm.task_is("j", "a", "running");
    farm.end_those_that_stay(0);
    farm.task_is("j", "a", "completed");
    assert_eq!(farm.try_post("/jobs/j/tasks/a/reactivate", json!({})).refused(), (409, "TaskSucceeded"));
    assert_eq!(farm.delete("/jobs/j/tasks/a").status, 200);
    assert_eq!(farm.get("/jobs/j/tasks/a").refused(), (404, "TaskNotFound"));
}

#[test]
fn node_and_task_files() {
    let farm = with_job(1, json!({}));
    farm.task("j", "a", "true", json!({}));
    farm.task_is("j", "a", "completed");
    farm.world.files.lock().unwrap().insert("stdout.txt".to_owned(), b"0123456789".to_vec());
    farm.world.files.lock().unwrap().insert("wd/out dir/a.txt".to_owned(), b"inner".to_vec());
    let listed = farm.get("/jobs/j/tasks/a/files?recursive=true&$filter=startswith(name,%27wd/%27)").json;
    assert_eq!(listed["value"][0]["name"], "wd/out dir/a.txt");
    assert_eq!(farm.get("/jobs/j/tasks/a/files/wd%2Fout%20dir%2Fa.txt").text, "inner");
    let path = "/jobs/j/tasks/a/files/stdout.txt";
    let part = farm.ask("GET", path, None, &[("ocp-range", "bytes=2-5")]);
    assert_eq!((part.status, part.text.as_str()), (200, "2345"), "not 206, at which clients fail");
    assert_eq!(farm.ask("GET", path, None, &[("ocp-range", "bytes=99-")]).refused(), (416, "InvalidRange"));
    let head = farm.ask("HEAD", path, None, &[]);
    assert_eq!(
        (head.headers["content-length"].as_str(), head.headers["ocp-batch-file-mode"].as_str()),
        ("10", "0640")
    );
    assert_eq!(farm.get("/pools/p/nodes/n01/files/stdout.txt").text, "0123456789");
    assert_eq!(farm.ask_as_other("GET", path, None).refused(), (403, "InsufficientAccountPermissions"));
    assert_eq!(farm.delete(path).status, 200);
    assert_eq!(farm.get(path).refused(), (404, "FileNotFound"));
}

#[test]
fn retention() {
    let farm = with_job(1, json!({}));
    farm.task("j", "a", "true", json!({}));
    assert_eq!(farm.task_is("j", "a", "completed")["constraints"]["retentionTime"], "P7D");
    assert_eq!(farm.prepared("lab/j/a")[0].1.staging.as_ref().unwrap().retention_s, 7 * 86_400);
    *farm.world.are_cleaned.lock().unwrap() = true;
    assert_eq!(farm.get("/jobs/j/tasks/a/files/stdout.txt").refused(), (409, "TaskFilesCleanedup"));
    farm.job("k", "none", json!({}));
    farm.task("k", "a", "true", json!({}));
    assert_eq!(farm.get("/jobs/k/tasks/a/files").refused(), (409, "TaskFilesUnavailable"));
}
