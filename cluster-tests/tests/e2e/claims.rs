//! Who gives way to whom, on real processes: preemption, reservations, and nodes that admins take down.

use std::time::Duration;

use muster_client::api::TaskState;

use crate::support::{ANN, Bench, PATIENCE};

const NODES: [&str; 2] = ["node01", "node02"];
const QUALITIES: &str = "
[[qos]]
name = \"low\"
preempt = \"requeue\"
grace = \"0:30\"

[[qos]]
name = \"high\"
preempts = [\"low\"]
";

/// Runs a command as an admin.
fn admin(bench: &Bench, args: &[&str]) {
    let output = bench.site.run("root", std::path::Path::new("/"), args).unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_gang_saves_its_work_gives_way_and_goes_on_afterwards() {
    let Some(bench) = Bench::up_with("claim", 2, 4, QUALITIES) else { return };
    let gang = ["-N2", "--ntasks-per-node=4", "-t5", "--export=ALL"];
    // The first attempt runs until it is told to leave; the second one finds what it has saved.
    let low = bench.submit(
        &[&gang[..], &["--qos=low"]].concat(),
        "[ -e saved ] && exec mpirun hostname\n\
         trap 'echo $SLURM_JOB_ID > saved; exit 0' TERM\n\
         mpirun \"$MUSTER_MPI_TASKS/ompi/misbehave\" --rank 5 --mode hang &\n\
         wait",
    );
    for node in NODES {
        bench.await_processes(node, "misbehave", 4);
    }
    let high = bench.submit(&[&gang[..], &["--qos=high"]].concat(), "exec mpirun hostname");
    let high = bench.complete(high);
    assert_eq!(bench.output(&high).lines().count(), 8, "{}", bench.describe(&high));
    let low = bench.complete(low);
    let task = &low.task_list[0];
    assert_eq!((task.attempt, task.preempted), (2, 1), "{}", bench.describe(&low));
    assert!(bench.work.join("saved").exists(), "it was given the time to save its work");
    assert!(task.started_at_us > high.task_list[0].finished_at_us, "it went on after the other");
    bench.await_clean(&NODES);
}

#[test]
fn maintenance_is_kept_free_and_a_node_taken_down_lets_go() {
    let Some(bench) = Bench::up("admin", 2, 2) else { return };
    let window = ["--start", "now+30minutes", "--duration", "1:00:00", "--maintenance", "--nodes", "node01"];
    admin(&bench, &[&["reservation", "create", "--name", "disks"], &window[..]].concat());
    let long = bench.submit(&["-n2", "-t60"], "exec sleep 600");
    let placed = bench.running(long);
    assert_eq!(placed.summary.node_list, "node02", "an hour on node01 would run into the window");
    let short = bench.complete(bench.submit(&["-n2", "-t5"], "true"));
    assert_eq!(short.task_list[0].shares[0].node, "node01", "five minutes would not");

    admin(&bench, &["nodes", "down", "node02", "--reason", "it smokes"]);
    let waits = |detail: &muster_client::api::JobDetail| detail.summary.state == TaskState::Waiting;
    let waiting = bench.site.wait_until(long, PATIENCE, waits).unwrap();
    assert_eq!(waiting.task_list.len(), 0, "nothing of it is live");
    bench.await_clean(&NODES);
    admin(&bench, &["reservation", "delete", "disks"]);
    let again = |detail: &muster_client::api::JobDetail| {
        detail.task_list.first().is_some_and(|task| task.attempt == 2 && task.started_at_us.is_some())
    };
    let again = bench.site.wait_until(long, PATIENCE, again).unwrap();
    assert_eq!(again.summary.node_list, "node01");

    admin(&bench, &["nodes", "resume", "node02"]);
    let third = bench.complete(bench.submit(&["-n2", "-t5"], "true"));
    assert_eq!(third.task_list[0].shares[0].node, "node02");
    let output = bench.site.run(ANN, &bench.work, &["cancel", &long.to_string()]).unwrap();
    assert!(output.status.success());
    bench.until("the cancelled job has ended", Duration::from_secs(60), || {
        bench.site.job(long).unwrap().summary.state == TaskState::Cancelled
    });
    bench.await_clean(&NODES);
}
