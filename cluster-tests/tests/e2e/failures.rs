//! Whatever fails in a gang, all of it is gone from every host within seconds, and the user reads why.

use muster_client::api::{JobDetail, TaskState};
use muster_core::ids::JobId;
use nix::sys::signal::Signal;

use crate::support::{ANN, Bench, PATIENCE, mpich_prologue};

const NODES: [&str; 4] = ["node01", "node02", "node03", "node04"];
/// Options of a gang on all nodes that is not tried again.
const GANG: [&str; 5] = ["-N4", "--ntasks-per-node=2", "-t5", "--no-requeue", "--export=ALL"];

fn open_mpi(mode: &str) -> String {
    format!("exec mpirun \"$MUSTER_MPI_TASKS/ompi/misbehave\" --rank 5 --mode {mode}")
}

fn mpich(mode: &str) -> String {
    format!("{}exec mpiexec \"$MUSTER_MPI_TASKS/mpich/misbehave\" --rank 5 --mode {mode}", mpich_prologue())
}

/// A gang of 8 ranks of which one never reaches the barrier: it runs until something ends it. All of them have been through
/// MPI_Init: Open MPI's mpirun waits for ever at times if a rank dies while it is being connected to its daemon.
fn hanging(bench: &Bench, body: &str) -> JobId {
    let job = bench.submit(&GANG, body);
    for node in NODES {
        bench.await_processes(node, "misbehave", 2);
    }
    let running = |detail: &JobDetail| detail.summary.state == TaskState::Running;
    let detail = bench.site.wait_until(job, PATIENCE, running).unwrap();
    bench.until("a rank speaks", PATIENCE, || !bench.output(&detail).is_empty());
    job
}

#[test]
fn ranks_that_fail_end_the_gang_with_their_exit_code() {
    let Some(bench) = Bench::up("fail", 4, 8) else { return };
    let cases: [(&str, String, &[u32]); 6] = [
        ("exit 7, Open MPI", open_mpi("exit:7"), &[7]),
        ("abort 5, Open MPI", open_mpi("abort:5"), &[5]),
        ("segfault, Open MPI", open_mpi("segfault"), &[139]),
        // Not an exit without MPI_Finalize: Hydra hands on another code at times, and hangs at others.
        ("abort 5, MPICH", mpich("abort:5"), &[5]),
        ("segfault, MPICH", mpich("segfault"), &[11, 139, 255]),
        ("fork away, Open MPI", open_mpi("fork-away"), &[0]),
    ];
    for (what, body, codes) in cases {
        let options: Vec<&str> =
            GANG.iter().map(|&option| if option == "-t5" { "-t1" } else { option }).collect();
        let detail = bench.wait(bench.submit(&options, &body));
        let code = detail.task_list[0].exit_code;
        // Now and then Hydra does not end after a rank has died: then the time limit ends the gang.
        let hydra_hung = what.ends_with("MPICH") && detail.summary.state == TaskState::TimedOut;
        let told = code.is_some_and(|code| codes.contains(&code));
        assert!(told || hydra_hung, "{what}: {}", bench.describe(&detail));
    }
    bench.await_clean(&NODES);
}

#[test]
fn a_killed_rank_a_killed_mpirun_and_a_cancel_leave_nothing() {
    let Some(bench) = Bench::up("kill", 4, 8) else { return };
    for body in [open_mpi("hang"), mpich("hang")] {
        let job = hanging(&bench, &body);
        let ranks = bench.await_processes("node03", "misbehave", 2);
        bench.kill(&ranks[0]);
        let detail = bench.wait(job);
        assert_eq!(detail.summary.state, TaskState::Failed, "{}", bench.describe(&detail));
        bench.await_clean(&NODES);
    }
    for (body, launcher) in [(open_mpi("hang"), "mpirun"), (mpich("hang"), "mpiexec")] {
        let job = hanging(&bench, &body);
        // The script was replaced by the launcher, so the launcher's end is the script's.
        let launcher = bench.await_processes("node01", launcher, 1);
        bench.kill(&launcher[0]);
        let detail = bench.wait(job);
        assert_eq!(detail.task_list[0].signal, Some(9), "{}", bench.describe(&detail));
        bench.await_clean(&NODES);
    }
    let job = hanging(&bench, &open_mpi("hang"));
    let output = bench.site.run(ANN, &bench.work, &["cancel", &job.to_string()]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bench.wait(job).summary.state, TaskState::Cancelled);
    bench.await_clean(&NODES);
}

#[test]
fn a_time_limit_ends_a_gang_that_ignores_sigterm() {
    let Some(bench) = Bench::up_with("time", 4, 8, "kill_grace_ms = 500") else { return };
    let body = format!("trap '' TERM\n{}", open_mpi("hang").replace("exec ", ""));
    let job = bench.submit(&["-N4", "--ntasks-per-node=2", "-t", "0:03"], &body);
    let detail = bench.wait(job);
    assert_eq!(detail.summary.state, TaskState::TimedOut, "{}", bench.describe(&detail));
    assert!(detail.task_list[0].reason.contains("time limit"), "{}", detail.task_list[0].reason);
    bench.await_clean(&NODES);
}

#[test]
fn a_killed_remote_daemon_ends_the_gang_whether_or_not_hydra_notices() {
    let Some(bench) = Bench::up("proxy", 4, 8) else { return };
    for (body, daemon) in [(mpich("hang"), "hydra_pmi_proxy"), (open_mpi("hang"), "orted")] {
        let job = hanging(&bench, &body);
        let daemons = bench.await_processes("node03", daemon, 1);
        bench.kill(&daemons[0]);
        let detail = bench.wait(job);
        assert!(detail.summary.state.is_finished());
        assert_ne!(detail.summary.state, TaskState::Completed);
        if daemon == "hydra_pmi_proxy" {
            // Which of its connections Hydra first reads the end of decides: mostly it waits for ever and the remote
            // shell tells of the loss; when the proxy's control connection comes first, mpiexec gives up by itself
            // before the remote shell's line is through.
            let said = format!("{}\n{}", detail.task_list[0].reason, bench.output(&detail));
            let told = said.contains("node03") && said.contains("signal 9");
            let noticed = said.contains("exit code 255") && said.contains("[mpiexec@node01] control_cb");
            assert!(told || noticed, "{said}");
        }
        bench.await_clean(&NODES);
    }
}

#[test]
fn a_silently_cut_link_ends_the_gang_on_both_sides_of_the_cut() {
    let Some(bench) = Bench::up("cut", 4, 8) else { return };
    for body in [open_mpi("hang"), mpich("hang")] {
        let job = hanging(&bench, &body);
        bench.site.cluster.cut("node03").unwrap();
        // The host that was cut off cleans up by itself: nobody can tell it to.
        bench.await_clean(&NODES);
        let detail = bench.wait(job);
        assert_eq!(detail.summary.state, TaskState::NodeFailed, "{}", bench.describe(&detail));
        assert!(detail.task_list[0].reason.contains("node03"), "{}", detail.task_list[0].reason);
        bench.site.cluster.heal("node03").unwrap();
        bench.site.await_nodes_up().unwrap();
    }
    // The node that came back works again.
    bench.complete(bench.submit(&["-N4", "-n4", "-t1"], "mpirun \"$MUSTER_MPI_TASKS/ompi/allreduce\""));
}

#[test]
fn a_host_that_loses_power_ends_the_gang_and_the_task_is_tried_again_elsewhere() {
    let Some(bench) = Bench::up("power", 4, 8) else { return };
    let job = hanging(&bench, &open_mpi("hang"));
    bench.site.cluster.power_off("node03").unwrap();
    let detail = bench.wait(job);
    assert!(
        matches!(detail.summary.state, TaskState::NodeFailed | TaskState::Failed),
        "{}",
        bench.describe(&detail)
    );
    bench.await_clean(&["node01", "node02", "node04"]);

    // A task that may be tried again goes on, on the nodes that are left.
    let body = "if [ ! -e first ]; then touch first; sleep 1000; fi\nmpirun hostname";
    let again = bench.submit(&["-N2", "-n2", "-t5", "--requeue"], body);
    let first = bench.running(again).task_list[0].shares[1].node.clone();
    bench.await_file("first");
    bench.site.cluster.power_off(&first).unwrap();
    let detail = bench.complete(again);
    assert_eq!(detail.task_list[0].attempt, 2);
    assert!(detail.task_list[0].shares.iter().all(|share| share.node != first && share.node != "node03"));

    // Hosts that come back are bootstrapped again and take work.
    for host in ["node03", first.as_str()] {
        bench.site.cluster.power_on(host).unwrap();
    }
    bench.site.await_nodes_up().unwrap();
    bench.complete(bench.submit(&["-N4", "-n4", "-t1"], "mpirun hostname"));
}

#[test]
fn a_frozen_host_is_given_up_and_what_it_held_is_gone_when_it_thaws() {
    let Some(bench) = Bench::up("frost", 2, 4) else { return };
    let body = "if [ ! -e first ]; then touch first; sleep 1000; fi\nhostname";
    let job = bench.submit(&["-t5", "--requeue"], body);
    let node = bench.running(job).task_list[0].shares[0].node.clone();
    bench.await_file("first");
    bench.site.cluster.freeze(&node).unwrap();
    let detail = bench.complete(job);
    assert_eq!(detail.task_list[0].attempt, 2);
    assert_ne!(detail.task_list[0].shares[0].node, node);
    bench.site.cluster.thaw(&node).unwrap();
    bench.site.await_nodes_up().unwrap();
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn a_task_that_takes_more_memory_than_it_was_given_is_told_so() {
    let Some(bench) = Bench::up("oom", 1, 2) else { return };
    // Tail keeps a line without an end in memory.
    let body = "set -o pipefail\nhead -c 500M /dev/zero | tail -n 1 > /dev/null";
    let job = bench.submit(&["--mem=50M", "-t2"], body);
    let detail = bench.wait(job);
    assert_eq!(detail.summary.state, TaskState::OutOfMemory, "{}", bench.describe(&detail));
    bench.await_clean(&["node01"]);
}

#[test]
fn a_killed_supervisor_ends_its_attempt_and_nothing_else() {
    let Some(bench) = Bench::up("super", 2, 4) else { return };
    let other = bench.submit(&["-t5"], "while [ ! -e go ]; do sleep 0.05; done");
    let job = bench.submit(&["-N2", "-n2", "-t5", "--no-requeue"], "mpirun sleep 1000");
    bench.running(other);
    bench.await_processes("node02", "sleep", 1);
    // What a remote daemon leaves behind belongs to the attempt's supervisor, the nearest one above it.
    let all = bench.site.cluster.processes("node02").unwrap();
    let mut process = bench.await_processes("node02", "sleep", 1)[0].clone();
    while process.cmdline.get(1).is_none_or(|word| word != "supervise") {
        let parent = all.iter().find(|other| other.pid == process.parent);
        process = parent.unwrap_or_else(|| panic!("no supervisor above {process:?} among {all:#?}")).clone();
    }
    let supervisor = process;
    bench.site.cluster.kill(supervisor.pid, Signal::SIGKILL).unwrap();
    let detail = bench.wait(job);
    assert!(detail.summary.state.is_finished() && detail.summary.state != TaskState::Completed);
    bench.write("go", "");
    bench.complete(other);
    bench.await_clean(&["node01", "node02"]);
}
