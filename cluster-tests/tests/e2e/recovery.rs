//! What survives: agents and the controller are killed under running work.

use std::os::unix::fs::PermissionsExt as _;

use muster_client::api::TaskState;
use nix::sys::signal::Signal;

use crate::support::{ANN, Bench, PATIENCE};

#[test]
fn a_killed_agent_stops_nothing_and_its_successor_delivers_the_result() {
    let Some(bench) = Bench::up("agent", 2, 4) else { return };
    let body = "mpirun -np 2 sh -c 'touch up-$OMPI_COMM_WORLD_RANK; while [ ! -e go ]; do sleep 0.05; done'";
    let job = bench.submit(&["-N2", "-n2", "-t5"], body);
    bench.await_file("up-0");
    bench.await_file("up-1");
    for node in ["node01", "node02"] {
        let all = bench.site.cluster.processes(node).unwrap();
        let is =
            |p: &&muster_cluster_tests::ProcessInfo| p.cmdline.get(1).is_some_and(|word| word == "agent");
        let agent = all.iter().find(is).unwrap_or_else(|| panic!("no agent on {node} among {all:#?}"));
        bench.site.cluster.kill(agent.pid, Signal::SIGKILL).unwrap();
    }
    // The script ends while nobody listens, or after the new agents came: both must be delivered.
    bench.write("go", "");
    let detail = bench.complete(job);
    assert_eq!(detail.task_list[0].attempt, 1, "the attempt went on");
    bench.site.await_nodes_up().unwrap();
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn a_killed_controller_knows_everything_again_and_what_ran_runs_on() {
    let Some(bench) = Bench::up("ctl", 2, 4) else { return };
    let finished = bench.complete(bench.submit(&["-t1"], "exit 0")).summary.job;
    let body = "mpirun -np 2 sh -c 'touch up-$OMPI_COMM_WORLD_RANK; while [ ! -e go ]; do sleep 0.05; done'";
    let running = bench.submit(&["-N2", "-n2", "-t5"], body);
    bench.await_file("up-1");
    // Six cores are left for eight that wait or run; half of the array must outlive the controller.
    let array = bench.submit(
        &["--array=0-99", "-t5", "-o", "/dev/null"],
        "sleep 0.05; echo x >> array-$SLURM_ARRAY_TASK_ID",
    );
    bench.site.kill_controller().unwrap();
    let away = bench
        .site
        .muster(ANN, &bench.work)
        .unwrap()
        .args(["queue"])
        .env("MUSTER_RETRY_S", "0")
        .output()
        .unwrap();
    assert_eq!(
        away.status.code(),
        Some(3),
        "a controller that is away has an exit code of its own: {away:?}"
    );
    bench.site.start_controller().unwrap();
    let known = bench.site.job(muster_core::ids::JobId(finished)).unwrap();
    assert_eq!(known.summary.state, TaskState::Completed);
    bench.write("go", "");
    let detail = bench.complete(running);
    assert_eq!(detail.task_list[0].attempt, 1, "the attempt went on");
    bench.complete(array);
    for index in 0..100 {
        let text = std::fs::read_to_string(bench.work.join(format!("array-{index}"))).unwrap();
        assert_eq!(text, "x\n", "task {index} ran exactly once");
    }
    let next = bench.submit(&["-t1"], "true");
    assert!(next > array, "ids go on");
    bench.complete(next);
}

#[test]
fn a_node_whose_health_check_fails_is_drained_until_it_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (script, hot) = (folder.path().join("health.sh"), folder.path().join("hot"));
    let text = format!(
        "#!/bin/sh\n! grep -qx $MUSTER_NODE {} 2>/dev/null || {{ echo $MUSTER_NODE is hot; exit 1; }}\n",
        hot.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let health = format!("[health]\nprogram = {script:?}\ninterval_s = 1\n");
    let Some(bench) = Bench::up_with("hlth", 2, 2, &health) else { return };
    std::fs::write(&hot, "node01\n").unwrap();
    bench.until("node01 is drained", PATIENCE, || {
        let nodes = bench.site.nodes().unwrap();
        assert_ne!(nodes[1].state, "drained", "{nodes:?}");
        nodes[0].state == "drained" && nodes[0].reason == "its health check fails: node01 is hot"
    });
    let job = bench.complete(bench.submit(&["-n2", "-t5"], "true"));
    assert_eq!(job.task_list[0].shares[0].node, "node02");
    let gang = bench.submit(&["-N2", "-t5"], "true");
    std::fs::remove_file(&hot).unwrap();
    bench.complete(gang);
}

#[test]
fn a_controller_that_is_stopped_in_good_order_comes_back_the_same() {
    let Some(bench) = Bench::up("stop", 1, 2) else { return };
    let first = bench.submit(&["-t5"], "while [ ! -e go ]; do sleep 0.05; done");
    bench.running(first);
    let before = bench.site.job(first).unwrap();
    bench.site.stop_controller().unwrap();
    bench.site.start_controller().unwrap();
    bench.site.await_nodes_up().unwrap();
    let after = bench.site.job(first).unwrap();
    assert_eq!(after.summary, before.summary);
    bench.write("go", "");
    bench.complete(first);
}
