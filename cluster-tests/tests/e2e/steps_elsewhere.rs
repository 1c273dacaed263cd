//! Steps that begin on other nodes than the allocation's first: `srun` inside of a rank.

use crate::steps::{check_report, script};
use crate::support::{Bench, PATIENCE};

/// Outer ranks hold one core of each node, so that inner steps have the other, or share with `--overlap`.
#[test]
fn a_step_begins_on_any_node_of_the_allocation() {
    let Some(bench) = Bench::up("mel", 3, 2) else { return };
    bench.write(
        "inner.sh",
        r#"until [ $SLURM_NODEID = 1 ] || [ -e done.node02 ]; do sleep 0.05; done
exec > inner.$SLURMD_NODENAME 2>&1
srun -l --overlap -N3 -n3 bash -c 'echo on $SLURMD_NODENAME as $SLURM_NODEID of $SLURM_NNODES' | sort
echo input | srun -N1 -n1 -w node01 cat
srun -n99 true; echo "too many $?"
srun -I --exact -c2 -n1 -w node01 true; echo "no room $?"
muster run --overlap -n1 -N1 bash -c 'exit 7'; echo "failed $?"
muster run --overlap -n1 -N1 -w node01 muster run --overlap -n1 -N1 -w node02 bash -c 'echo deep on $SLURMD_NODENAME'
env -u MUSTER_ATTEMPT_DIR srun --jobid=$SLURM_JOB_ID -n1 true; echo "outside $?"
touch done.$SLURMD_NODENAME
until [ -e done.node03 ]; do sleep 0.05; done
"#,
    );
    let body = r#"
srun --exact -c1 -N3 -n3 bash -c '[ $SLURM_NODEID = 0 ] || exec bash inner.sh
until [ -e done.node03 ]; do sleep 0.05; done'
cat inner.node02; echo; cat inner.node03
mpirun --host node02 -n 1 srun -N1 -n1 -w node03 bash -c 'echo from mpirun on $SLURMD_NODENAME'
"#;
    let (_, output) = script(&bench, &["-N3", "--ntasks-per-node=2"], body);
    for said in [
        "0: on node01 as 0 of 3\n1: on node02 as 1 of 3\n2: on node03 as 2 of 3\ninput\n",
        "More processors requested than permitted: 99 ranks, and 3 fit on 3 nodes\ntoo many 1\n",
        "steps are started from inside their allocation\noutside 1\n",
        "Requested nodes are busy\nno room 1\n",
        "failed 7\n",
        "deep on node02\n",
    ] {
        assert_eq!(output.matches(said).count(), 2, "{said:?} is not there twice:\n{output}");
    }
    assert!(output.contains("from mpirun on node03\n"), "{output}");
    for (mpi, node) in [("mpich", 1), ("ompi", 2)] {
        let body = format!(
            "srun --overlap -N3 -n3 bash -c '[ $SLURM_NODEID = {node} ] || exit 0\n\
             exec srun --overlap -N3 -n6 \"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks 6'"
        );
        let (_, output) = script(&bench, &["-N3", "--ntasks-per-node=2"], &body);
        eprintln!("{mpi}");
        check_report(&output, 6, 3);
    }
    reached_and_ended(&bench);
    bench.await_clean(&["node01", "node02", "node03"]);
}

/// A step that began elsewhere is listed, signalled, looked on and ended as any other, and goes with its starter.
fn reached_and_ended(bench: &Bench) {
    let faces = bench.make_faces();
    bench.write(
        "inner.sh",
        r#"[ $SLURM_NODEID = 1 ] || exec sleep 300
{ until grep -q read own; do sleep 0.05; done; } | srun -N3 -n3 -J reached bash -c 'trap "echo got usr1" USR1; while ! read -t 0.1 line; do echo tick; done; echo read $line' > own 2>&1
echo "ended ${PIPESTATUS[1]}" >> own
srun -N3 -n3 -J killed sleep 400 &
while [ ! -e kill ]; do sleep 0.05; done
kill -KILL $!; wait $!
srun -N3 -n3 echo again >> own 2>&1
touch over
"#,
    );
    let body = format!(
        "export PATH={}:$PATH\nsrun --exact -c1 -N3 -n3 bash inner.sh &\nuntil [ -e over ]; do sleep 0.05; done\n",
        faces.display()
    );
    let job = bench.submit(&["-N3", "--ntasks-per-node=2", "-t3"], &body);
    let own = || std::fs::read_to_string(bench.work.join("own")).unwrap_or_default();
    let ask = |line: &str| {
        let output = bench.shell(&faces, &bench.work, line).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {error}\n{}", own());
        String::from_utf8(output.stdout).unwrap()
    };
    bench.until("the step is listed", PATIENCE, || {
        own().contains("tick") && ask("squeue -h -s").contains(&format!("{job}.1 "))
    });
    ask(&format!("scancel -s USR1 {job}.1"));
    bench.until("all ranks have the signal", PATIENCE, || own().matches("got usr1").count() == 3);
    let seen = ask(&format!("echo word | sattach {job}.1"));
    assert_eq!(seen.matches("read word\n").count(), 3, "{seen}");
    bench.until("the next is listed", PATIENCE, || ask("squeue -h -s").contains(&format!("{job}.2 ")));
    bench.write("kill", "");
    bench.complete(job);
    assert!(own().contains("ended 0\n") && own().ends_with("again\nagain\nagain\n"), "{}", own());
    let accounts = ask(&format!("sacct -nP -j {job}.1,{job}.2,{job}.3 -o JobID,JobName,State,NodeList"));
    assert_eq!(
        accounts.lines().collect::<Vec<_>>(),
        [
            format!("{job}.1|reached|COMPLETED|node[01-03]"),
            format!("{job}.2|killed|CANCELLED|node[01-03]"),
            format!("{job}.3|echo|COMPLETED|node[01-03]"),
        ]
    );
}
