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
        "More processors requested than permitted: 99 ranks, and 6 fit on 3 nodes\ntoo many 1\n",
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
{ until grep -q read own; do sleep 0.05; done; } | srun -N3 -n3 -J reached bash -c 'trap "echo got usr1" USR1; until read -t 0; do echo tick; sleep 0.1; done; read line; echo read $line' > own 2>&1
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

/// A program that lies on the first node only: each host has a folder of its own over the same path.
#[test]
fn a_program_is_sent_to_all_nodes_and_goes_with_its_step() {
    let Some(bench) = Bench::up("mbc", 4, 2) else { return };
    let hosts: Vec<String> = (1..=4).map(|node| format!("node{node:02}")).collect();
    for host in &hosts {
        let mut mount = bench.site.cluster.exec(host, None).unwrap();
        let mounted = mount.args(["/bin/mount", "-t", "tmpfs", "-o", "mode=1777", "own", "/mnt"]).output();
        let mounted = mounted.unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    }
    let body = r#"
each() { srun -N4 -n4 bash -c "$1"; }
work=$PWD
printf '#!/bin/bash\necho "ran $0 on $SLURMD_NODENAME $*, $(stat -c "%%a %%U" $0)"\n' > /mnt/prog; chmod 755 /mnt/prog
each 'mkdir /mnt/to'
cd /mnt
echo "== not there"; srun -n4 -N4 ./prog 2>&1 | grep -c 'No such file'
echo "== default"; srun -l --bcast ./prog a b | sort; each 'ls -A /mnt' | sort | uniq -c
echo "== tree"; muster run --tree-width 1 -n8 --bcast=/mnt/to/ ./prog | sort -u; srun -l -N4 -n4 bash -c 'ls -A to' | sort
echo "== named"; SLURM_BCAST=to/prog srun -N4 -n4 ./prog | sort; srun --compress -N4 -n4 --bcast=to/prog ./prog 2>&1 | sort
echo "== one has no folder"; each '[ $SLURM_NODEID != 2 ] || rm -r to'
srun -N4 -n4 --bcast=to/ ./prog; echo "rc $?"
srun -N4 -n4 --bcast /mnt; echo "a folder $?"
srun -N4 -n4 --bcast nosuch; echo "no file $?"
srun --send-libs --bcast ./prog; echo "libs $?"
echo "== mpi"; cp $MUSTER_MPI_TASKS/mpich/rank-report .
srun --bcast -N4 -n8 ./rank-report --json --expect-ranks 8 > $work/report.json; echo "mpi $?"
echo "== sbcast"; head -c 20000000 /dev/urandom > data; touch -d @1000000 data
sbcast -p data /mnt/copy; echo "sbcast $?"
each 'sha256sum copy' | sort -u | wc -l; each 'stat -c "%Y %s" copy' | sort | uniq -c
sbcast data /mnt/copy 2>&1; sbcast -f data /mnt/copy; echo "forced $?"
each 'ls -A /mnt' | sort | uniq -c
"#;
    let (_, output) = script(&bench, &["-N4", "--ntasks-per-node=2"], body);
    let ran = |place: &str, words: &str| -> String {
        hosts
            .iter()
            .map(|host| format!("ran {} on {host} {words}, 700 ann\n", place.replace("HOST", host)))
            .collect()
    };
    let twice = |line: (usize, &String)| {
        let (place, host) = line;
        let line = |rank: usize| format!("{rank}: ran /mnt/slurm_bcast_1.2_{host} on {host} a b, 700 ann\n");
        line(2 * place) + &line(2 * place + 1)
    };
    let listed: String = (0..4).map(|rank| format!("{rank}: slurm_bcast_1.4_{}\n", hosts[rank])).collect();
    let named = ran("/mnt/to/prog", "");
    for said in [
        "== not there\n3\n".to_owned(),
        format!(
            "== default\n{}      1 prog\n      4 to\n",
            hosts.iter().enumerate().map(twice).collect::<String>()
        ),
        format!("== tree\n{}{listed}", ran("/mnt/to/slurm_bcast_1.4_HOST", "")),
        format!("== named\n{named}{named}srun: Warning: --compress: the program is sent as it is\n"),
        "srun: error: /mnt/to/slurm_bcast_1.9_node03 cannot be created: No such file or directory\nrc 1\n"
            .into(),
        "srun: error: --bcast cannot be '/mnt': a regular file is wanted\na folder 1\n".into(),
        "cannot find nosuch: No such file or directory (os error 2)\nno file 1\n".into(),
        "libraries are not sent to nodes; put them where all nodes see them\nlibs 255\n".into(),
        "mpi 0\n== sbcast\nsbcast 0\n1\n      4 1000000 20000000\n".into(),
        "sbcast: error: /mnt/copy cannot be put in its place: File exists\nforced 0\n".into(),
        "      4 copy\n      1 data\n      1 prog\n      1 rank-report\n      3 to\n".into(),
    ] {
        assert!(output.contains(&said), "{said:?} is not in:\n{output}");
    }
    assert_eq!(output.matches("slurm_bcast_1.9").count(), 1, "no rank has started anywhere:\n{output}");
    check_report(&std::fs::read_to_string(bench.work.join("report.json")).unwrap(), 8, 4);
    bench.await_clean(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
}
