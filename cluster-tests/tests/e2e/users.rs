//! Work runs as the user who submitted it, with their groups, limits, umask and working directory.

use muster_client::api::TaskState;

use crate::support::{ANN, Bench};

#[test]
fn work_runs_as_its_user_with_groups_umask_limits_and_directory() {
    let Some(bench) = Bench::up("user", 1, 2) else { return };
    let mut id = bench.site.cluster.exec("node01", Some(ANN)).unwrap();
    let id = id.arg("id").output().unwrap();
    let body = "id; umask; pwd; ulimit -S -n; echo $HOME $USER $FROM_ANN; touch made";
    bench.write("who.sh", &format!("#!/bin/bash\n{body}\n"));
    // The submitting shell has a mask, a limit and a variable of its own.
    let muster = bench.site.staged.bin.join("muster");
    let shell = format!(
        "cd {work} && umask 027 && ulimit -S -n 321 && export FROM_ANN=hello && export MUSTER_SOCKET={socket} && \
         {muster} submit --parsable -t1 who.sh",
        work = bench.work.display(),
        socket = bench.site.socket().display(),
        muster = muster.display(),
    );
    let output = bench
        .site
        .cluster
        .exec("head", Some(ANN))
        .unwrap()
        .args(["/bin/bash", "-c", &shell])
        .output()
        .unwrap();
    let job = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
    let detail = bench.complete(muster_core::ids::JobId(job));
    let text = bench.output(&detail);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], String::from_utf8_lossy(&id.stdout).trim());
    assert_eq!(lines[1], "0027");
    assert_eq!(lines[2], bench.work.to_str().unwrap());
    assert_eq!(lines[3], "321");
    assert!(lines[4].ends_with("ann hello"), "{text}");
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let made = std::fs::metadata(bench.work.join("made")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o640);
    assert_eq!(made.uid(), std::fs::metadata(&bench.work).unwrap().uid());
}

#[test]
fn root_may_not_submit_unless_the_configuration_says_so() {
    let Some(bench) = Bench::up("root", 1, 2) else { return };
    bench.write("job.sh", "#!/bin/sh\ntrue\n");
    let refused = bench.site.submit("root", &bench.work, &["job.sh"]).unwrap_err().to_string();
    assert!(refused.contains("root may not submit"), "{refused}");
    assert!(bench.site.client().unwrap().jobs(&Default::default()).unwrap().jobs.is_empty());
}

#[test]
fn what_only_the_node_can_know_is_told_in_the_tasks_state() {
    let Some(bench) = Bench::up("late", 2, 2) else { return };
    let job = bench.submit(&["-t1", "-o", "/root/forbidden.out"], "true");
    let detail = bench.wait(job);
    assert_eq!(detail.summary.state, TaskState::Failed);
    assert!(detail.task_list[0].reason.contains("/root/forbidden.out"), "{}", detail.task_list[0].reason);
    // A program of the other MPI would be N worlds of size one, or an obscure abort.
    let body = "mpirun \"$MUSTER_MPI_TASKS/mpich/rank-report\" --expect-ranks 2";
    let mismatch = bench.wait(bench.submit(&["-N2", "-n2", "-t1"], body));
    assert_eq!(mismatch.summary.state, TaskState::Failed, "{}", bench.describe(&mismatch));
    assert!(bench.output(&mismatch).contains("is linked with MPICH"), "{}", bench.output(&mismatch));
    let nodes = bench.site.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.reason.is_empty()), "no node was at fault: {nodes:?}");
}
