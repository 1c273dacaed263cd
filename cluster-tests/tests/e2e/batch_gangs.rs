//! What becomes of a multi-instance task when something of it fails: all of it ends on all nodes, and a retry is one of all of it.

use serde_json::Value;

use crate::batch_people::Service;
use crate::support::PATIENCE;

const NODES: [&str; 2] = ["node01", "node02"];

/// Runs them one after another, on both nodes of a pool of their own.
pub fn failures(service: &Service) {
    service.good("muster batch pool delete farm");
    service.good("until muster batch pool create farm --class main --nodes 2 --mpi --wait >made 2>&1; do sleep 0.2; done");
    service.good("muster batch job create gangs --pool farm");
    a_coordination_command_fails(service);
    the_application_ends_while_ranks_sleep(service);
    the_whole_set_is_tried_again(service);
    a_node_is_lost(service);
    service.good("muster batch job delete gangs");
}

fn add(service: &Service, id: &str, options: &str, coordination: &str, command: &str) {
    service.bench.write("coordinate.sh", coordination);
    service.bench.write("apply.sh", command);
    // Each task has copies of its own, for the files are written again for the next.
    let copies = format!("cp coordinate.sh {id}-coordinate.sh && cp apply.sh {id}-apply.sh");
    let work = service.bench.work.display();
    service.good(&format!(
        "{copies} && muster batch task add gangs {id} --instances 2 --coordination '/bin/sh {work}/{id}-coordinate.sh' \
         {options} -- /bin/sh {work}/{id}-apply.sh {work}"
    ));
}

/// The task, once it has ended.
fn ended(service: &Service, id: &str) -> Value {
    let mut task = Value::Null;
    service.bench.until(&format!("{id} has ended"), PATIENCE, || {
        task = service.json(&format!("muster batch task show gangs {id} --json"));
        task["state"] == "completed"
    });
    task["executionInfo"].take()
}

/// Each part that is not the first has ended with it.
fn parts(service: &Service, id: &str) -> Vec<Value> {
    let parts = service.json(&format!("muster batch task parts gangs {id} --json"));
    parts["parts"].as_array().unwrap().clone()
}

fn a_coordination_command_fails(service: &Service) {
    // It fails on one of the nodes alone, and not on the primary's.
    let coordination = "test $AZ_BATCH_IS_CURRENT_NODE_MASTER = true || exit 3";
    add(service, "coordination", "", coordination, "touch $1/applied");
    let info = ended(service, "coordination");
    assert_eq!(info["failureInfo"]["code"], "CoordinationCommandFailed", "{info}");
    assert_eq!(info["result"], "failure");
    assert!(!service.bench.work.join("applied").exists(), "the application command must not run");
    service.bench.await_clean(&NODES);
}

fn the_application_ends_while_ranks_sleep(service: &Service) {
    let command = "mpirun -np 2 --host $AZ_BATCH_HOST_LIST --map-by ppr:1:node sleep 1000 &\n\
                   mpirun -np 2 --host $AZ_BATCH_HOST_LIST --map-by ppr:1:node true || exit 9\nexit 5";
    add(service, "sleepers", "", "sleep 1000 & true", command);
    let info = ended(service, "sleepers");
    assert_eq!(
        (&info["exitCode"], &info["failureInfo"]["code"]),
        (&5.into(), &"FailureExitCode".into()),
        "{info}"
    );
    assert_eq!(parts(service, "sleepers")[0]["state"], "completed");
    service.bench.await_clean(&NODES);
}

fn the_whole_set_is_tried_again(service: &Service) {
    let work = service.bench.work.display();
    let coordination = format!("hostname >> {work}/coordinated");
    add(service, "again", "--retries 2", &coordination, "echo x >> $1/tries; test $(wc -l < $1/tries) -gt 1");
    let info = ended(service, "again");
    assert_eq!((&info["exitCode"], &info["retryCount"]), (&0.into(), &1.into()), "{info}");
    let coordinated = std::fs::read_to_string(service.bench.work.join("coordinated")).unwrap();
    let mut hosts: Vec<&str> = coordinated.split_whitespace().collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["node01", "node01", "node02", "node02"], "each try is coordinated on both nodes");
}

fn a_node_is_lost(service: &Service) {
    let bench = &service.bench;
    let command = "echo x >> $1/losses; test $(wc -l < $1/losses) -gt 1 || exec sleep 1000";
    add(service, "lost", "", "true", command);
    bench.await_file("losses");
    let task = service.json("muster batch task show gangs lost --json");
    let primary = task["nodeInfo"]["nodeId"].as_str().unwrap();
    let other = NODES.into_iter().find(|node| *node != primary).unwrap();
    bench.site.cluster.power_off(other).unwrap();
    bench.until("the task waits again", PATIENCE, || {
        service.json("muster batch task show gangs lost --json")["state"] == "active"
    });
    bench.await_clean(&[primary]);
    bench.site.cluster.power_on(other).unwrap();
    // What the cluster does by itself counts neither as a retry nor as a requeue.
    let info = ended(service, "lost");
    assert_eq!(
        (&info["exitCode"], &info["retryCount"], &info["requeueCount"]),
        (&0.into(), &0.into(), &0.into()),
        "{info}"
    );
    let tries = std::fs::read_to_string(bench.work.join("losses")).unwrap();
    assert_eq!(tries.lines().count(), 2);
}
