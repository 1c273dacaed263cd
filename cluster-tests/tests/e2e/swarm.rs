//! Gangs and a swarm of tasks on the same nodes, counted exactly.

use crate::support::{Bench, Ledger, mpich_prologue};

/// What each job writes about itself: where, on which cores, from when to when.
const BEGIN: &str = "from=$(date +%s%N)";
const END: &str = "echo $MUSTER_NODE $MUSTER_CORES $from $(date +%s%N) >";

#[test]
fn twenty_mpi_jobs_and_a_thousand_tasks_finish_with_exact_counts_and_no_core_twice() {
    let Some(bench) = Bench::up("mix", 4, 2) else { return };
    std::fs::create_dir(bench.work.join("ledger")).unwrap();
    // The directory was made by root: it must be ann's to write.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(bench.work.join("ledger"), mode).unwrap();
    let swarm = bench.submit(
        &["--array=0-999", "-t5", "-o", "/dev/null"],
        &format!("{BEGIN}\n{END} ledger/swarm-$SLURM_ARRAY_TASK_ID"),
    );
    let mut gangs = Vec::new();
    for i in 0..20 {
        let report = format!("{BEGIN}\nset -e\n");
        let run = if i % 2 == 0 {
            "mpirun \"$MUSTER_MPI_TASKS/ompi/rank-report\" --expect-ranks 4".to_owned()
        } else {
            format!("{}mpiexec \"$MUSTER_MPI_TASKS/mpich/rank-report\" --expect-ranks 4", mpich_prologue())
        };
        let body = format!("{report}{run}\n{END} ledger/gang-{i}");
        gangs.push(bench.submit(&["-N2", "--ntasks-per-node=2", "-t5"], &body));
    }
    let mut ledger = Ledger::default();
    let read = |name: String| {
        let text = std::fs::read_to_string(bench.work.join("ledger").join(&name)).unwrap();
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.len(), 4, "{name}: {text:?}");
        words
    };
    for (i, gang) in gangs.into_iter().enumerate() {
        let detail = bench.complete(gang);
        let words = read(format!("gang-{i}"));
        // The primary wrote for the gang: its script began before the first rank and ended after the last.
        for share in &detail.task_list[0].shares {
            let (from, to) = (words[2].parse().unwrap(), words[3].parse().unwrap());
            ledger.add(&share.node, &share.cores, from, to, &format!("gang {i}"));
        }
    }
    let detail = bench.complete(swarm);
    assert_eq!(detail.summary.tasks.values().sum::<u64>(), 1000);
    assert_eq!(detail.task_list.len(), 1000);
    assert!(detail.task_list.iter().all(|task| task.attempt == 1), "none was tried twice");
    for index in 0..1000 {
        let words = read(format!("swarm-{index}"));
        ledger.add(
            &words[0],
            &words[1],
            words[2].parse().unwrap(),
            words[3].parse().unwrap(),
            &index.to_string(),
        );
    }
    let files = std::fs::read_dir(bench.work.join("ledger")).unwrap().count();
    assert_eq!(files, 1020, "every job wrote once");
    ledger.check();
    let nodes = bench.site.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.cores_free == node.cores), "everything is free again");
}
