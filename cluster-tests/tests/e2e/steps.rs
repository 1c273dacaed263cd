//! Direct launch: `srun` and `muster run` inside allocations, with real MPIs and without mpirun.

use muster_client::api::JobDetail;

use crate::support::{Bench, json_in, numbers};

/// A rank that puts a value, waits for all others, and reads theirs.
const PMI_2_CLIENT: &str = r#"
import os, socket
s = socket.socket(fileno=int(os.environ["PMI_FD"]))
f = s.makefile("rwb")
def say(data): f.write(data); f.flush()
def ask(text):
    say(b"%6d%s" % (len(text), text.encode()))
    answer = f.read(int(f.read(6))).decode()
    return dict(pair.split("=", 1) for pair in answer.split(";") if pair)
say(b"cmd=init pmi_version=2 pmi_subversion=0\n")
assert f.readline() == b"cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n"
me = ask("cmd=fullinit;pmijobid=x;pmirank=%s;threaded=FALSE;" % os.environ["PMI_RANK"])
rank, size = int(me["rank"]), int(me["size"])
assert ask("cmd=info-getjobattr;key=PMI_process_mapping;")["value"] == "(vector,(0,2,2))"
ask("cmd=kvs-put;key=k%d;value=v%d;" % (rank, rank))
assert ask("cmd=kvs-fence;")["cmd"] == "kvs-fence-response"
values = [ask("cmd=kvs-get;jobid=;srcid=%d;key=k%d;" % (r, r))["value"] for r in range(size)]
print(rank, "of", str(size) + ":", *values)
ask("cmd=finalize;")
"#;

/// Makes the folder of Slurm's names and gives the lines before which scripts find them.
fn faces(bench: &Bench) -> String {
    let faces = bench.work.join("faces");
    let made =
        bench.site.run("ann", &bench.work, &["generate", "slurm-links", faces.to_str().unwrap()]).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    format!("PATH=\"{}:{}:$PATH\"\n", faces.display(), bench.site.staged.bin.display())
}

/// Runs a script on an allocation and gives back what it wrote.
pub fn script(bench: &Bench, options: &[&str], body: &str) -> (JobDetail, String) {
    let job = bench.submit(&[options, &["-t2"]].concat(), &format!("{}{body}", faces(bench)));
    let detail = bench.complete(job);
    let output = bench.output(&detail);
    (detail, output)
}

/// Each rank of a report is on a CPU of its own, among those that the kernel gave to its node.
pub fn check_report(output: &str, world: u64, nodes: usize) {
    let report = json_in(output);
    assert_eq!(report["ranks"], world, "{report}");
    let mut used = Vec::new();
    let mut hosts = Vec::new();
    for rank in report["rank"].as_array().unwrap() {
        assert_eq!(rank["bound_as_told"], true, "{rank}");
        let host = rank["host"].as_str().unwrap().to_owned();
        used.push((host.clone(), numbers(rank["cpus"].as_str().unwrap())));
        hosts.push(host);
    }
    used.sort();
    used.dedup();
    hosts.sort();
    hosts.dedup();
    assert_eq!((used.len() as u64, hosts.len()), (world, nodes), "{report}");
}

#[test]
fn both_mpis_are_one_world_without_mpirun_and_each_rank_is_on_its_own_core() {
    let Some(bench) = Bench::up("stm", 2, 2) else { return };
    for (name, options, world, nodes) in [
        ("whole", "", 4, 2),
        ("one", "-N1 -n2", 2, 1),
        ("alone", "-n1", 1, 1),
        ("cyclic", "-n4 -m cyclic", 4, 2),
    ] {
        for mpi in ["mpich", "ompi"] {
            let body = format!(
                "srun {options} \"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks {world}"
            );
            let (_, output) = script(&bench, &["-N2", "--ntasks-per-node=2"], &body);
            eprintln!("{mpi} {name}");
            check_report(&output, if world == 1 { 1 } else { world }, nodes);
        }
    }
    // No MPI here has a client of PMI-2, so a program speaks it itself.
    bench.write("pmi2.py", PMI_2_CLIENT);
    let (_, output) =
        script(&bench, &["-N2", "--ntasks-per-node=2"], "srun --mpi=pmi2 python3 pmi2.py | sort");
    assert_eq!(
        output,
        "0 of 4: v0 v1 v2 v3\n1 of 4: v0 v1 v2 v3\n2 of 4: v0 v1 v2 v3\n3 of 4: v0 v1 v2 v3\n"
    );
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn ends_are_told_as_slurm_tells_them() {
    let Some(bench) = Bench::up("ste", 2, 4) else { return };
    let body = r#"
try() { echo "== $*"; "$@" 2>&1; echo "rc $?"; }
try srun -n2 -N1 false
try srun -n4 bash -c 'sleep 0.$SLURM_PROCID; exit $SLURM_PROCID'
try srun -N1 -n1 nosuchprogram
try srun -N1 -n1 bash -c 'kill -9 $$'
try srun -n 99 true
try srun -w elsewhere true
try srun --bogus true
try srun --bb=x true
try srun -K -N2 -n2 bash -c '[ $SLURM_PROCID = 1 ] && exit 7; sleep 1000'
try srun --mpi=pmix -n2 "$MUSTER_MPI_TASKS/mpich/rank-report"
try srun --jobid=999999 true
try srun --version
for mpi in ompi mpich; do
srun -n4 -N2 bash -c "[ \$SLURM_PROCID != 3 ] || exit 5; exec $MUSTER_MPI_TASKS/$mpi/rank-report"; echo "$mpi without one: $?"
done
srun -n4 -N2 bash -c '[ $SLURM_PROCID = 3 ] && exit 5; sleep 0.3; echo alone'; echo "no mpi: $?"
"#;
    let (_, output) = script(&bench, &["-N2", "--ntasks-per-node=4"], body);
    for said in [
        "srun: error: node01: tasks 0-1: Exited with exit code 1\nrc 1",
        "srun: error: node02: task 3: Exited with exit code 3\nrc 3",
        "slurmstepd: error: execve(): nosuchprogram: No such file or directory",
        "srun: error: node01: task 0: Exited with exit code 2\nrc 2",
        "srun: error: node01: task 0: Killed\nsrun: Force Terminated StepId=",
        "rc 137",
        "More processors requested than permitted: 99 ranks, and 8 fit on 2 nodes\nrc 1",
        "elsewhere is not in this allocation\nrc 1",
        "srun: unrecognized option '--bogus'\nTry \"srun --help\" for more information\nrc 255",
        "Muster has no burst buffers",
        "srun: error: node02: task 1: Exited with exit code 7\n",
        "rc 7",
        "is linked with MPICH or a library of its kind, which --mpi=pmix cannot start",
        "task 3: ended before MPI_Init, for which the others wait",
        "ompi without one: 5",
        "mpich without one: 5",
        "alone\nalone\nalone\n",
        "no mpi: 5",
        "Unable to confirm allocation for job 999999: Invalid job id specified",
        "slurm 23.11.0 (Muster ",
    ] {
        assert!(output.contains(said), "{said:?} is not in:\n{output}");
    }
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn output_input_and_variables_go_where_they_should() {
    let Some(bench) = Bench::up("sto", 2, 4) else { return };
    let body = r#"
srun -l -N2 -n4 bash -c 'echo "r$SLURM_PROCID l$SLURM_LOCALID n$SLURM_NODEID of $SLURM_NTASKS $SLURM_STEP_NODELIST $SLURM_STEP_TASKS_PER_NODE $SLURMD_NODENAME"' | sort
echo input | srun -n2 -N1 -l cat | sort
echo first | srun -n2 -N1 -l -i 1 cat
printf 'no input' | srun -n1 -N1 -i none cat
srun -n3 -o 'out.%t' -e 'err.%N' bash -c 'echo o$SLURM_PROCID; echo e$SLURM_PROCID >&2'
cat out.0 out.1 out.2
srun -n2 -N1 -o one.txt bash -c 'echo o; echo e >&2'
sort one.txt | uniq -c | tr -s ' '
srun -n2 -N1 -o none bash -c 'echo unseen; echo seen >&2' 2>&1
printf '0 echo zero %%t %%o\n* echo other %%t %%o\n' > multi.conf
srun -l -n3 -N1 --multi-prog multi.conf | sort
env -i PATH="$PATH" MUSTER_ATTEMPT_DIR="$MUSTER_ATTEMPT_DIR" SLURM_JOB_ID=$SLURM_JOB_ID bash -uc 'srun -n1 -N1 --cpus-per-task=2 bash -uc "echo bare \$SLURM_CPUS_PER_TASK"'
FOO=1 srun -n1 -N1 --export=NONE,BAR=2 /bin/bash -c 'echo "foo ${FOO-unset} bar $BAR"'
srun -n1 -N1 -D /usr pwd
ulimit -s 4096; srun -n1 -N1 bash -c 'echo stack $(ulimit -s)'
muster run -n2 -N1 -l echo native | sort
srun -n1 -N1 --pty bash -c 'test -t 0 && test -t 1 && echo a terminal'
srun -n2 -N1 -W1 bash -c '[ $SLURM_PROCID = 0 ] || sleep 1000' 2>/dev/null; echo waited $?
muster run --dry-run -n3 true
"#;
    let (_, output) = script(&bench, &["-N2", "--ntasks-per-node=4"], body);
    for said in [
        "0: r0 l0 n0 of 4 node[01-02] 3,1 node01\n",
        "3: r3 l0 n1 of 4 node[01-02] 3,1 node02\n",
        "0: input\n1: input\n1: first\n",
        "o0\no1\no2\n",
        " 2 e\n 2 o\n",
        "seen\nseen\n0: zero 0 0\n1: other 1 0\n2: other 2 1\n",
        "bare 2\n",
        "foo unset bar 2\n/usr\nstack 4096\n",
        "0: native\n1: native\n",
        "a terminal",
        "waited 137\n",
        "node01: cores 0-3 of the allocation there\n  rank 0: cores 0-1\n",
    ] {
        assert!(output.contains(said), "{said:?} is not in:\n{output}");
    }
    assert!(!output.contains("no input") && !output.contains("unseen"), "{output}");
    let errors = std::fs::read_to_string(bench.work.join("err.node02")).unwrap();
    assert!(errors.starts_with('e'), "{errors}");
}

#[test]
fn steps_share_the_allocation_wait_for_cores_and_leave_nothing_behind() {
    let Some(bench) = Bench::up("sts", 2, 4) else { return };
    // Each exact step waits for all others, so that all must run at once; the one without room waits for them.
    let body = r#"
for i in 1 2 3 4; do
  srun --exact -n1 -N1 -w node01 bash -c "touch here.$i; while [ \$(ls here.? | wc -l) -lt 4 ]; do sleep 0.05; done; grep Cpus_allowed_list /proc/self/status; while [ ! -e go ]; do sleep 0.05; done" &
done
while [ $(ls here.? 2>/dev/null | wc -l) -lt 4 ]; do sleep 0.05; done
srun -I -n1 -w node01 true 2> busy.txt; echo immediate $?
srun --overlap -n1 -w node01 echo beside
srun -n1 -w node01 bash -c 'ls go && echo after' 2> waited.txt &
while ! grep -qs retrying waited.txt; do sleep 0.05; done
touch go
wait
cat busy.txt waited.txt
srun -n1 -N1 bash -c 'setsid sleep 1000 & echo left'
srun -n2 -N2 bash -c 'trap "echo got usr1; exit 3" USR1; touch ready.$SLURM_PROCID; while :; do sleep 0.05; done' &
while [ ! -e ready.0 ] || [ ! -e ready.1 ]; do sleep 0.05; done
kill -USR1 $!; wait $!; echo signalled $?
srun -n2 -N2 bash -c 'touch killed.$SLURM_PROCID; sleep 1000' &
while [ ! -e killed.0 ] || [ ! -e killed.1 ]; do sleep 0.05; done
kill -KILL $!; wait $! 2>/dev/null; echo starter $?
srun -N2 -n2 echo again
"#;
    let (_, output) = script(&bench, &["-N2", "--ntasks-per-node=4"], body);
    for said in [
        "immediate 1\n",
        "beside\n",
        "after\n",
        "Requested nodes are busy",
        "step creation temporarily disabled, retrying (Requested nodes are busy)",
        "srun: Step created for StepId=",
        "left\n",
        "signalled 3\n",
        "starter 137\n",
        "again\nagain\n",
    ] {
        assert!(output.contains(said), "{said:?} is not in:\n{output}");
    }
    // The shells may say between the lines that the signal has ended their sleep.
    assert_eq!(output.matches("got usr1\n").count(), 2, "{output}");
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn srun_and_salloc_make_an_allocation_where_there_is_none() {
    let Some(bench) = Bench::up("stx", 2, 2) else { return };
    faces(&bench);
    let run = |words: &[&str], input: &str| {
        use std::io::Write as _;
        let face = bench.work.join("faces").join(words[0]);
        let mut command = bench.site.cluster.exec("head", Some("ann")).unwrap();
        command.args(["/usr/bin/env", "-C"]).arg(&bench.work).arg(face).args(&words[1..]);
        command
            .env("MUSTER_SOCKET", bench.site.socket())
            .env("MUSTER_MPI_TASKS", &bench.site.staged.mpi_tasks);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let program = bench.site.staged.mpi_tasks.join("mpich/rank-report");
    let (code, out, err) = run(&["srun", "-N2", "-n4", program.to_str().unwrap(), "--json"], "");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    check_report(&out, 4, 2);
    let (code, out, err) = run(&["srun", "-n2", "-N1", "-l", "bash", "-c", "cat; exit 4"], "hello\n");
    assert_eq!(code, Some(4), "{out}{err}");
    assert!(out.contains("0: hello\n") && out.contains("1: hello\n"), "{out}{err}");
    assert!(err.contains("tasks 0-1: Exited with exit code 4\n"), "{err}");
    let (code, out, err) =
        run(&["salloc", "-N2", "-n2", "bash", "-c", "faces/srun hostname | sort; exit 7"], "");
    assert_eq!((code, out.as_str()), (Some(7), "node01\nnode02\n"), "{err}");
    assert!(err.contains("Granted job allocation "), "{err}");
    let (code, _, err) = run(&["srun", "-N9", "true"], "");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("srun: error: Unable to allocate resources: "), "{err}");
    bench.await_clean(&["node01", "node02"]);
}

/// A step whose daemons hang in a tree of three levels does all that one without does.
#[test]
fn a_tree_of_daemons_carries_everything() {
    let Some(bench) = Bench::up("qtr", 7, 2) else { return };
    let hosts: Vec<String> = (1..=7).map(|node| format!("node{node:02}")).collect();
    for mpi in ["mpich", "ompi"] {
        let body = format!(
            "MUSTER_TREE_WIDTH=2 srun \"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks 14"
        );
        let (_, output) = script(&bench, &["-N7", "--ntasks-per-node=2"], &body);
        eprintln!("{mpi}");
        check_report(&output, 14, 7);
    }
    let body = r#"
export MUSTER_TREE_WIDTH=2
echo input | srun -l cat | sort -n
echo first | srun -l -i 5 cat
srun -n7 -N7 bash -c 'trap "echo got usr1; exit 3" USR1; touch ready.$SLURM_PROCID; while :; do sleep 0.05; done' &
while [ $(ls ready.? 2>/dev/null | wc -l) -lt 7 ]; do sleep 0.05; done
kill -USR1 $!; wait $!; echo signalled $?
srun -n7 -N7 bash -c 'touch killed.$SLURM_PROCID; sleep 1000' &
while [ $(ls killed.? 2>/dev/null | wc -l) -lt 7 ]; do sleep 0.05; done
kill -KILL $!; wait $! 2>/dev/null; echo starter $?
muster run --tree-width 2 -n7 -N7 bash -c 'echo $PPID > daemon.$SLURM_NODEID
  [ $SLURM_NODEID = 3 ] || exec sleep 1000
  while [ ! -s daemon.1 ]; do sleep 0.05; done; touch ask; sleep 1000' 2> lost.txt &
while [ ! -e ask ]; do sleep 0.05; done
srun --overlap -w node02 -n1 bash -c 'kill -9 $(cat daemon.1)'
wait $!; echo lost $?
cat lost.txt
muster run --tree-width 2 -N7 -n7 -K bash -c '[ $SLURM_PROCID = 6 ] && exit 7; sleep 1000'; echo failed $?
muster run --tree-width 0 true 2>&1
srun -N7 -n7 echo again
"#;
    let (_, output) = script(&bench, &["-N7", "--ntasks-per-node=2"], body);
    for said in [
        "0: input\n",
        "13: input\n",
        "5: first\n",
        "signalled 3\n",
        "starter 137\n",
        "lost 1\n",
        "muster run: error: 2 of 7 nodes failed:\n",
        "  node02  ",
        "its step daemon was lost\n",
        "failed 7\n",
        "--tree-width cannot be '0': a number from 1 to 65533 is wanted",
    ] {
        assert!(output.contains(said), "{said:?} is not in:\n{output}");
    }
    assert_eq!(output.matches("got usr1\n").count(), 7, "{output}");
    assert_eq!(output.matches("again\n").count(), 7, "{output}");
    bench.await_clean(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
}
