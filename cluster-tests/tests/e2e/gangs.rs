//! MPI simply works: results, placement, pinning.

use muster_client::api::JobDetail;

use crate::support::{Bench, json_in, mpich_prologue, numbers};

#[test]
fn the_stencil_equals_the_serial_one_on_1_2_and_4_nodes_for_both_mpis() {
    let Some(bench) = Bench::up("st", 4, 8) else { return };
    // One after another: dozens of spinning ranks on two cores starve the hosts themselves.
    for nodes in ["1", "2", "4"] {
        let options = ["-N", nodes, "--ntasks-per-node=2", "-t", "2"];
        let open_mpi = "mpirun \"$MUSTER_MPI_TASKS/ompi/stencil\" --nx 200 --ny 150 --steps 50".to_owned();
        let mpich = format!(
            "{}mpiexec \"$MUSTER_MPI_TASKS/mpich/stencil\" --nx 200 --ny 150 --steps 50",
            mpich_prologue()
        );
        for (mpi, body) in [("Open MPI", open_mpi), ("MPICH", mpich)] {
            let detail = bench.complete(bench.submit(&options, &body));
            let output = bench.output(&detail);
            assert!(
                output.contains("passed") && output.contains(" 0 cells differ"),
                "{mpi} on {nodes}: {output}"
            );
            let hosts: usize = nodes.parse().unwrap();
            assert_eq!(detail.task_list[0].shares.len(), hosts, "{mpi} on {nodes} nodes");
        }
    }
}

/// Each rank's mask, as the kernel says it, is exactly its own core of the allocation.
fn check_pinning(bench: &Bench, detail: &JobDetail, world: u64) -> Vec<(String, u32)> {
    let report = json_in(&bench.output(detail));
    assert_eq!(report["ranks"], world, "{report}");
    let mut used: Vec<(String, u32)> = Vec::new();
    for rank in report["rank"].as_array().unwrap() {
        let host = rank["host"].as_str().unwrap();
        let share = detail.task_list[0].shares.iter().find(|share| share.node == host);
        let share = share.unwrap_or_else(|| panic!("{host} was not allocated: {report}"));
        let mask = numbers(rank["cpus"].as_str().unwrap());
        assert_eq!(mask.len(), 1, "one core for each rank: {rank}");
        assert!(numbers(&share.cores).contains(&mask[0]), "{rank} is outside {}", share.cores);
        let place = (host.to_owned(), mask[0]);
        assert!(!used.contains(&place), "two ranks share {place:?}");
        used.push(place);
    }
    for share in &detail.task_list[0].shares {
        let ranks = used.iter().filter(|(host, _)| *host == share.node).count();
        assert_eq!(ranks, share.ranks as usize, "ranks on {}", share.node);
    }
    used
}

#[test]
fn ranks_are_pinned_to_exactly_the_cores_that_were_allocated() {
    let Some(bench) = Bench::up("pin", 4, 2) else { return };
    let open_mpi = "mpirun \"$MUSTER_MPI_TASKS/ompi/rank-report\" --json";
    let mpich = format!("{}mpiexec \"$MUSTER_MPI_TASKS/mpich/rank-report\" --json", mpich_prologue());
    for body in [open_mpi, &mpich] {
        let job = bench.submit(&["-N4", "--ntasks-per-node=2", "-t2"], body);
        check_pinning(&bench, &bench.complete(job), 8);
    }
}

#[test]
fn two_gangs_on_the_same_nodes_at_the_same_time_share_no_core() {
    let Some(bench) = Bench::up("two", 4, 2) else { return };
    // Each gang stays until the other one has reported, so that both are there at the same time.
    let wait = |mine: &str, other: &str| format!("touch {mine}\nwhile [ ! -e {other} ]; do sleep 0.05; done");
    let open_mpi = format!("mpirun \"$MUSTER_MPI_TASKS/ompi/rank-report\" --json\n{}", wait("a", "b"));
    let mpich = format!(
        "{}mpiexec \"$MUSTER_MPI_TASKS/mpich/rank-report\" --json\n{}",
        mpich_prologue(),
        wait("b", "a")
    );
    let options = ["-N4", "--ntasks-per-node=1", "-t2"];
    let (first, second) = (bench.submit(&options, &open_mpi), bench.submit(&options, &mpich));
    let (first, second) = (bench.complete(first), bench.complete(second));
    let mut used = check_pinning(&bench, &first, 4);
    used.extend(check_pinning(&bench, &second, 4));
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 8, "eight ranks on eight cores of four nodes: {used:?}");
}

#[test]
fn real_workloads_of_others_run_unchanged() {
    let Some(bench) = Bench::up("real", 2, 4) else { return };
    let body = "mpirun --map-by node sh -c 'echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE on $(hostname)'";
    let detail = bench.complete(bench.submit(&["-N2", "--ntasks-per-node=2", "-t2"], body));
    let output = bench.output(&detail);
    for rank in 0..4 {
        assert!(output.contains(&format!("rank {rank} of 4 on node0{}", 1 + rank % 2)), "{output}");
    }
}
