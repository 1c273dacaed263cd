//! Whole steps on this host: the starter in this process, real step daemons, real ranks, connections over the loopback.
//! The test stands in for the supervisor only, which places steps and starts daemons.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_step::client::{MultiProg, Plan, Programs, Redirect, run_at};
use muster_step::frames::{CpuBind, Wireup};
use muster_step::place::{Ledger, Node};
use muster_step::words::{Answer, Ask, DaemonStart, StepRequest};
use muster_step::{StepError, auth, tree};

const JOB: u64 = 7;

/// A step of `sh -c SCRIPT` whose output goes to the file `out` in the folder.
fn plan(folder: &Path, script: &str) -> Plan {
    Plan {
        name: "srun",
        request: StepRequest::default(),
        programs: Programs::One(["/bin/bash", "-c", script].map(str::to_owned).to_vec()),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("OWN".into(), "mine".into())],
        directory: folder.display().to_string(),
        wireup: Wireup::Auto,
        bind: CpuBind::None,
        stdin: Redirect::Nothing,
        stdout: Redirect::File("out".into()),
        stderr: Some(Redirect::Own),
        append: false,
        label: false,
        unbuffered: false,
        pty: false,
        kill_on_bad_exit: false,
        wait: Duration::ZERO,
        time_limit: None,
        quit_on_interrupt: false,
        quiet: true,
        verbose: false,
        dry_run: false,
        job_name: "test".into(),
        step_name: "program".into(),
        job: None,
        tree_width: tree::WIDTH,
        error_status: 1,
        bcast: None,
        show_bindings: None,
        relayed: false,
    }
}

/// Places one step on nodes that all are this host, and starts its daemons. `spoil` changes what a daemon is told.
fn supervise(
    stream: UnixStream,
    nodes: Vec<Node>,
    spoil: impl Fn(&mut DaemonStart) + Send + 'static,
) -> JoinHandle<Vec<Child>> {
    std::thread::spawn(move || {
        let mut to = stream.try_clone().unwrap();
        let mut say = move |answer: &Answer| writeln!(to, "{}", serde_json::to_string(answer).unwrap());
        let hosts = nodes.iter().map(|node| node.host.clone()).collect();
        say(&Answer::Allocation { job: JOB, address: "127.0.0.1".into(), supervisor_pid: 0, hosts }).unwrap();
        let mut line = String::new();
        let mut from = BufReader::new(stream);
        from.read_line(&mut line).unwrap();
        let Ask::Create { request, port, tree_width, .. } = serde_json::from_str(&line).unwrap() else {
            panic!("{line}")
        };
        let placement = match Ledger::new(nodes, 1).begin(0, &request) {
            Ok(placement) => placement,
            Err(refused) => {
                say(&Answer::Refused { reason: refused.to_string() }).unwrap();
                return Vec::new();
            }
        };
        let key = auth::step_key("secret", 0, "nonce");
        say(&Answer::Placed { step: 0, key: key.clone(), placement: placement.clone() }).unwrap();
        let deeper: Vec<u32> = tree::deeper(placement.nodes.len() as u32, tree_width).collect();
        let mut lines = Vec::new();
        let mut daemon = |(position, node): (u32, &muster_step::place::NodePlacement)| {
            let mut start = DaemonStart {
                job: JOB,
                step: 0,
                instance: node.instance,
                host: node.host.clone(),
                starter: ("127.0.0.1".into(), port),
                listens: deeper.contains(&position),
                key: key.clone(),
                attempt_dir: "/nowhere".into(),
                cores: vec![4, 5],
                cpus: vec![vec![0], vec![0]],
                cores_wrap: true,
            };
            spoil(&mut start);
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_muster-step"));
            command.stdin(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::null());
            if start.listens {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                command.stdout(Stdio::from(OwnedFd::from(listener)));
                let (instance, address) = (node.instance, "127.0.0.1".to_owned());
                say(&Answer::Listens { instance, address, port }).unwrap();
            }
            let child = command.spawn().unwrap();
            ours.write_all(&serde_json::to_vec(&start).unwrap()).unwrap();
            ours.shutdown(std::net::Shutdown::Write).unwrap();
            lines.push(ours);
            child
        };
        let daemons = (0..).zip(&placement.nodes).map(&mut daemon).collect();
        // Once the starter has left, nobody waits any longer to be connected to.
        from.read_to_string(&mut line).unwrap();
        daemons
    })
}

fn node(number: u32, ranks: u32) -> Node {
    Node { host: format!("n{number}"), cores: 2, ranks }
}

/// Runs a step to its end, and makes sure that its daemons have ended as well.
fn run(plan: &Plan, nodes: Vec<Node>) -> Result<u8, StepError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let supervisor = supervise(theirs, nodes, |_| {});
    let status = run_at(plan, ours);
    for mut daemon in supervisor.join().unwrap() {
        daemon.wait().unwrap();
    }
    status
}

/// The lines that all ranks have written, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("out")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn ranks_know_who_they_are_and_the_highest_status_counts() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURMD_NODENAME $SLURM_STEP_NODELIST $OWN \
                  $MUSTER_RANK_CORES $(( SLURM_TASK_PID == $$ )); exit $SLURM_PROCID";
    let plan = plan(folder.path(), script);
    assert_eq!(run(&plan, vec![node(1, 2), node(2, 1)]).unwrap(), 2);
    let right = ["0 0 0 n1 n[1-2] mine 4-5 1", "1 1 0 n1 n[1-2] mine 4-5 1", "2 0 1 n2 n[1-2] mine 4-5 1"];
    // Two ranks of one node have a core each.
    let cores = |line: &str| line.replace("4-5", "4").replace("mine 5", "mine 4");
    let found: Vec<String> = lines(folder.path()).iter().map(|line| cores(line)).collect();
    assert_eq!(found, right.map(cores));
}

/// A rank that puts its own value, waits for all, and reads the last one's.
const PMI_1_CLIENT: &str = r#"
say() { printf '%s\n' "$1" >&$PMI_FD; read -r -u $PMI_FD answer; }
say 'cmd=init pmi_version=1 pmi_subversion=1'
say "cmd=put kvsname=k key=k$PMI_RANK value=v$PMI_RANK"
say 'cmd=barrier_in'
say "cmd=get kvsname=k key=k$((PMI_SIZE - 1))"
echo "$PMI_RANK ${answer##*value=}"
[ -n "$LEAVE" ] && [ $PMI_RANK = 0 ] && exit 0
[ -n "$LEAVE" ] && sleep 1000
say 'cmd=finalize'
"#;

#[test]
fn what_ranks_put_is_known_to_all_nodes_after_a_barrier() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), PMI_1_CLIENT);
    assert_eq!(run(&plan, vec![node(1, 2), node(2, 2), node(3, 1)]).unwrap(), 0);
    assert_eq!(lines(folder.path()), ["0 v4", "1 v4", "2 v4", "3 v4", "4 v4"]);
}

#[test]
fn a_rank_that_leaves_without_the_last_word_of_its_mpi_ends_the_step_on_all_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), PMI_1_CLIENT);
    plan.environment.push(("LEAVE".into(), "1".into()));
    assert_eq!(run(&plan, vec![node(1, 1), node(2, 1)]).unwrap(), 1);
}

#[test]
fn the_first_failure_ends_the_step_if_that_is_wished_and_what_was_killed_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let script = "[ $SLURM_PROCID = 1 ] && exit 3; exec sleep 1000";
    let mut plan = plan(folder.path(), script);
    plan.kill_on_bad_exit = true;
    assert_eq!(run(&plan, vec![node(1, 1), node(2, 1)]).unwrap(), 3);
}

#[test]
fn what_ranks_leave_behind_goes_with_the_step() {
    let folder = tempfile::tempdir().unwrap();
    // It has a session of its own, holds the output open, and has lost its parent.
    let plan = plan(folder.path(), "setsid sleep 1000 & echo $!");
    assert_eq!(run(&plan, vec![node(1, 1)]).unwrap(), 0);
    let pid = &lines(folder.path())[0];
    assert!(!Path::new("/proc").join(pid).exists(), "process {pid} lives on");
}

#[test]
fn all_ranks_get_all_of_the_input_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), "input\n".repeat(100_000)).unwrap();
    let mut plan = plan(folder.path(), "wc -l");
    plan.stdin = Redirect::File("in".into());
    assert_eq!(run(&plan, vec![node(1, 2), node(2, 1)]).unwrap(), 0);
    assert_eq!(lines(folder.path()), ["100000"; 3]);
    // So little that it comes together with the launch.
    std::fs::write(folder.path().join("in"), "input\n").unwrap();
    assert_eq!(run(&plan, vec![node(1, 2)]).unwrap(), 0);
    assert_eq!(lines(folder.path()), ["1"; 2]);
}

#[test]
fn each_rank_may_have_its_own_program_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), "");
    plan.programs = Programs::Multi(MultiProg::parse("0 echo zero %t\n* echo other %t %o", &[]).unwrap());
    plan.stdout = Redirect::File("own.%t".into());
    assert_eq!(run(&plan, vec![node(1, 2), node(2, 1)]).unwrap(), 0);
    let text = |rank| std::fs::read_to_string(folder.path().join(format!("own.{rank}"))).unwrap();
    assert_eq!((text(0), text(2)), ("zero 0\n".into(), "other 2 1\n".into()));
}

#[test]
fn what_cannot_run_and_what_does_not_fit_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), "");
    plan.programs = Programs::One(vec!["no-such-program".into()]);
    assert_eq!(run(&plan, vec![node(1, 1)]).unwrap(), 2);
    plan.request.ntasks = Some(5);
    match run(&plan, vec![node(1, 1)]) {
        Err(StepError::Refused { job: JOB, reason }) => assert!(reason.contains("5 ranks"), "{reason}"),
        other => panic!("{other:?}"),
    }
    plan.job = Some(8);
    let (ours, theirs) = UnixStream::pair().unwrap();
    writeln!(
        &theirs,
        "{}",
        serde_json::to_string(&Answer::Allocation {
            job: JOB,
            address: "127.0.0.1".into(),
            supervisor_pid: 0,
            hosts: Vec::new()
        })
        .unwrap()
    )
    .unwrap();
    assert!(matches!(run_at(&plan, ours), Err(StepError::OtherJob { job: 8, here: JOB })));
}

#[test]
fn a_daemon_that_does_not_know_the_key_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan(folder.path(), "touch started");
    plan.time_limit = Some(Duration::from_secs(1));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let supervisor = supervise(theirs, vec![node(1, 1)], |start| start.key = "guess".into());
    assert_eq!(run_at(&plan, ours).unwrap(), 1);
    for mut daemon in supervisor.join().unwrap() {
        assert!(!daemon.wait().unwrap().success());
    }
    assert!(!folder.path().join("started").exists());
}

/// Seven nodes in a tree of which each node speaks with at most two below: three levels.
fn deep(folder: &Path, script: &str) -> (Plan, Vec<Node>) {
    let mut plan = plan(folder, script);
    plan.tree_width = 2;
    (plan, (1..=7).map(|number| node(number, 2)).collect())
}

#[test]
fn a_tree_of_daemons_carries_barriers_output_input_and_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, nodes) = deep(folder.path(), PMI_1_CLIENT);
    assert_eq!(run(&plan, nodes).unwrap(), 0);
    let mut right: Vec<String> = (0..14).map(|rank| format!("{rank} v13")).collect();
    right.sort();
    assert_eq!(lines(folder.path()), right);

    std::fs::write(folder.path().join("in"), "input\n".repeat(100_000)).unwrap();
    let (mut plan, nodes) = deep(folder.path(), "wc -l; exit $SLURM_PROCID");
    plan.stdin = Redirect::File("in".into());
    assert_eq!(run(&plan, nodes).unwrap(), 13);
    assert_eq!(lines(folder.path()), ["100000"; 14]);

    // More than fits into all buffers on the way, from the farthest ranks as well.
    let (plan, nodes) = deep(folder.path(), "seq 200000");
    assert_eq!(run(&plan, nodes).unwrap(), 0);
    let written = lines(folder.path());
    assert_eq!(written.len(), 14 * 200_000);
    assert!(written.chunk_by(|one, other| one == other).all(|same| same.len() == 14));
}

#[test]
fn a_daemon_in_the_middle_that_dies_ends_the_step_and_all_below_it() {
    let folder = tempfile::tempdir().unwrap();
    // The third node hangs below the second, which hangs below the first: its rank kills the daemon of the second.
    let script = "echo $PPID > daemon.$SLURM_NODEID; echo $$; \
                  [ $SLURM_PROCID = 4 ] || exec sleep 1000; \
                  while [ ! -s daemon.1 ]; do sleep 0.01; done; kill -9 $(cat daemon.1); exec sleep 1000";
    let (plan, nodes) = deep(folder.path(), script);
    assert_eq!(run(&plan, nodes).unwrap(), 1);
    // The kernel kills the ranks of the dead daemon; whoever their new parent is takes their status when it likes.
    let state = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).filter(|state| *state != 'Z')
    };
    let until = Instant::now() + Duration::from_secs(10);
    for pid in lines(folder.path()) {
        while let Some(state) = state(&pid) {
            assert!(Instant::now() < until, "process {pid} lives on: {state}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_tree_of_which_one_node_never_comes_ends_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut plan, nodes) = deep(folder.path(), "touch started.$SLURM_PROCID; exec sleep 1000");
    plan.time_limit = Some(Duration::from_secs(1));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let supervisor = supervise(theirs, nodes, |start| {
        if start.host == "n3" {
            start.key = "guess".into();
        }
    });
    assert_eq!(run_at(&plan, ours).unwrap(), 1);
    for mut daemon in supervisor.join().unwrap() {
        daemon.wait().unwrap();
    }
    assert!(!folder.path().join("started.4").exists());
}
