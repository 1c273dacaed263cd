//! Tasks of one instance, from the prepare to the forget, with the real agent.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::controller::Controller;
use common::node::Node;
use common::work::{Task, user};
use common::{eventually, is_root};
use muster_wire::v1::gone::How;
use muster_wire::v1::{DeclaredDevices, Devices, Exited, Gone, ResourceLimit, Welcome};

fn exited(gone: &Gone) -> Exited {
    match &gone.how {
        Some(How::Exited(exited)) => *exited,
        other => panic!("{other:?}"),
    }
}

async fn one_node() -> (Controller, Node) {
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, "node01");
    let hello = controller.hello("node01").await;
    assert!(hello.held.is_empty());
    assert!(!hello.topology.unwrap().cores.is_empty());
    assert_eq!(hello.address, "127.0.0.1");
    (controller, node)
}

#[tokio::test]
async fn a_script_runs_to_its_exit_and_is_forgotten() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    for (script, code, signal) in [
        ("#!/bin/sh\necho hello\n", 0, 0),
        ("#!/bin/sh\nexit 7\n", 7, 0),
        ("#!/bin/sh\nkill -SEGV $$\n", 0, 11),
    ] {
        let task = Task::new("node01", script);
        let gone = controller.run("node01", &task.prepare).await;
        let end = exited(&gone);
        assert_eq!((end.code, end.signal, end.out_of_memory), (code, signal, false), "{script}");
        assert!(gone.started_at_us > 0 && gone.ended_at_us >= gone.started_at_us);
        assert!(!node.run.join("attempts").join(task.name()).exists());
        assert!(node.attempt(&task.name()).exists());
        controller.forget("node01", task.key()).await;
        eventually("the record is forgotten", || !node.attempt(&task.name()).exists()).await;
        if code == 0 && signal == 0 {
            assert_eq!(task.output(), "hello\n");
        }
    }
}

#[tokio::test]
async fn a_task_opens_the_devices_that_it_holds_and_no_others() {
    if !is_root() {
        return;
    }
    let files = ["/dev/zero", "/dev/full"].map(str::to_owned).to_vec();
    let declared = DeclaredDevices { name: "gpu".into(), count: 2, files };
    let welcome = Welcome { declared_devices: vec![declared], ..Welcome::default() };
    let mut controller = Controller::start_with(welcome).await;
    let _node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let script = r#"#!/bin/sh
for device in zero full null; do
    head -c1 /dev/$device > copy 2> said && echo $device: open || sed "s/.*: /$device: /" said
done
"#;
    for (numbers, opened) in [
        (vec![], "zero: Operation not permitted\nfull: Operation not permitted\nnull: open\n"),
        (vec![1], "zero: Operation not permitted\nfull: open\nnull: open\n"),
        (vec![0, 1], "zero: open\nfull: open\nnull: open\n"),
    ] {
        let mut task = Task::new("node01", script);
        task.prepare.members[0].devices = vec![Devices { name: "gpu".into(), kind: String::new(), numbers }];
        let gone = controller.run("node01", &task.prepare).await;
        assert_eq!(exited(&gone).code, 0);
        assert_eq!(task.output(), opened);
    }
}

#[tokio::test]
async fn a_script_runs_as_its_user_with_what_was_submitted() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let script = r#"#!/bin/sh
echo "$(id -u) $(id -g) $(id -G)"
umask; pwd; ulimit -n
echo "$1|$GREETING|$HOME|$USER|$SLURM_JOB_ID|$SLURM_NODELIST|$MUSTER_NODE"
grep -c . "$MUSTER_HOSTFILE"
taskset -cp $$ | sed 's/.*: //'
cat
echo oops >&2
"#;
    let mut task = Task::new("node01", script);
    std::fs::write(task.path("in"), "from input\n").unwrap();
    let (input, errors) = (task.path("in"), task.path("err"));
    let mut work = task.work();
    work.arguments = vec!["an argument".into()];
    work.environment.insert("GREETING".into(), "good day".into());
    work.environment.insert("HOME".into(), "/submitted".into());
    work.stdin_path = input.to_str().unwrap().into();
    work.stderr_path = errors.to_str().unwrap().into();
    work.limits.push(ResourceLimit { name: "nofile".into(), soft: 123 });
    drop(work);
    let gone = controller.run("node01", &task.prepare).await;
    assert_eq!(exited(&gone).code, 0);
    let job = task.key().job;
    let expected = format!(
        "65534 65534 65534\n0027\n{}\n123\nan argument|good day|/submitted|nobody|{job}|node01|node01\n1\n0\nfrom input\n",
        task.folder.path().display()
    );
    assert_eq!(task.output(), expected);
    assert_eq!(std::fs::read_to_string(task.path("err")).unwrap(), "oops\n");
    use std::os::unix::fs::MetadataExt;
    let made = std::fs::metadata(task.path("out")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (65534, 0o640));
}

#[tokio::test]
async fn output_is_appended_only_when_asked_for() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    for (append, expected) in [(false, "new\n"), (true, "old\nnew\n")] {
        let mut task = Task::new("node01", "#!/bin/sh\necho new\n");
        std::fs::write(task.path("out"), "old\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(task.path("out"), std::fs::Permissions::from_mode(0o666)).unwrap();
        task.work().append = append;
        controller.run("node01", &task.prepare).await;
        assert_eq!(task.output(), expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_said_before_it_runs() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let mut cases: Vec<(Task, &str, bool)> = Vec::new();
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.work().working_directory = "/no/such/folder".into();
    cases.push((task, "cannot enter the working directory /no/such/folder", false));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.work().working_directory = "/root".into();
    cases.push((task, "user nobody cannot enter the working directory /root: Permission denied", false));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.work().stdout_path = "/etc/out".into();
    cases.push((task, "cannot write the output file /etc/out", false));
    let task = Task::new("node01", "#!/no/such/shell\n");
    cases.push((task, "cannot run the script's interpreter /no/such/shell", false));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.prepare.members[0].cores = vec![4711];
    cases.push((task, "core 4711", true));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.prepare.members_packed = b"none".to_vec().into();
    cases.push((task, "the members of the gang: they cannot be unpacked", true));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.prepare.work.push(b"\xff\xff".to_vec().into());
    cases.push((task, "what the task is to do cannot be read: failed to decode", true));
    let mut task = Task::new("node01", "#!/bin/sh\n");
    task.prepare.user.as_mut().unwrap().uid = 4711;
    cases.push((task, "uid 65534 on this node, but the job was submitted with uid 4711", true));
    for (task, sentence, node_at_fault) in cases {
        controller.prepare("node01", &task.prepare).await;
        match controller.gone("node01", task.key()).await.how {
            Some(How::PrepareFailed(failed)) => {
                assert!(failed.reason.contains(sentence), "{}", failed.reason);
                assert_eq!(failed.node_at_fault, node_at_fault, "{}", failed.reason);
            }
            other => panic!("{other:?}"),
        }
        assert!(!node.run.join("attempts").join(task.name()).exists());
    }
}

#[tokio::test]
async fn a_stop_leaves_nothing_of_a_tree_that_does_not_want_to_go() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let script = "#!/bin/sh
trap '' TERM
(setsid sh -c 'trap \"\" TERM; sleep 1000 & echo $! >deep; wait' &) &
while [ ! -s deep ]; do :; done
echo up >ready
while :; do sleep 1000; done
";
    let task = Task::new("node01", script);
    controller.launch("node01", &task.prepare).await;
    controller.running("node01", task.key()).await;
    eventually("the tree stands", || task.path("ready").exists()).await;
    // The shell's own sleep is the last to be there.
    eventually("all four run", || node.processes(&task.name()).len() >= 4).await;
    let inside = node.processes(&task.name());
    controller.stop("node01", task.key(), 100).await;
    let gone = controller.gone("node01", task.key()).await;
    assert!(matches!(gone.how, Some(How::Stopped(_))), "{gone:?}");
    for pid in inside {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    assert!(node.processes(&task.name()).is_empty());
    // Said once more, and for an attempt that nobody knows.
    controller.stop("node01", task.key(), 0).await;
    assert_eq!(controller.gone("node01", task.key()).await, gone);
    let unknown = muster_wire::v1::AttemptKey { job: 999_999, task: 0, attempt: 1 };
    controller.stop("node01", unknown, 0).await;
    assert!(matches!(controller.gone("node01", unknown).await.how, Some(How::Stopped(_))));
}

#[tokio::test]
async fn a_script_that_obeys_has_its_grace() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let script = "#!/bin/sh\ntrap 'echo saved; exit 0' TERM\necho up >ready\nwhile :; do sleep 0.01; done\n";
    let task = Task::new("node01", script);
    controller.launch("node01", &task.prepare).await;
    eventually("the script is up", || task.path("ready").exists()).await;
    let asked = std::time::Instant::now();
    controller.stop("node01", task.key(), 20_000).await;
    let gone = controller.gone("node01", task.key()).await;
    assert!(matches!(gone.how, Some(How::Stopped(_))), "{gone:?}");
    // The shell may say too that its `sleep` was terminated.
    assert!(task.output().ends_with("saved\n"), "{}", task.output());
    assert!(asked.elapsed().as_secs() < 10, "the end of the script ends the grace");
}

#[tokio::test]
async fn too_much_memory_is_told_as_such() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let script = "#!/usr/bin/env python3\nx = bytearray(200_000_000)\n";
    let mut task = Task::new("node01", script);
    task.prepare.memory_bytes = 50_000_000;
    task.work().environment.insert("PATH".into(), "/usr/bin:/bin".into());
    let gone = controller.run("node01", &task.prepare).await;
    let end = exited(&gone);
    assert!(end.out_of_memory, "{end:?}");
    assert_eq!(end.signal, 9, "{end:?}");
    assert!(gone.usage.unwrap().memory_peak_bytes > 10_000_000);
}

/// The folder of the process's group in the hierarchy that limits the number of processes (cgroups(7)).
fn pids_group(pid: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    // Each line is ID:CONTROLLERS:PATH; where there are no controllers it is the one of cgroup v2.
    let lines = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let folder = |(controllers, path): (&str, &str)| {
        let is = |fields: &[&str]| match controllers {
            "" => fields[2] == "cgroup2",
            _ => fields[2] == "cgroup" && fields[3].split(',').any(|option| option == controllers),
        };
        let mount = mounts.lines().find(|line| is(&line.split(' ').collect::<Vec<_>>()))?;
        let folder = PathBuf::from(mount.split(' ').nth(1)?).join(path.trim_start_matches('/'));
        folder.join("pids.max").exists().then_some(folder)
    };
    lines.filter_map(folder).next().expect("the number of processes is limited")
}

#[tokio::test]
async fn a_task_that_forks_without_end_leaves_room_for_others() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let script = "#!/usr/bin/env python3
import os, time
open('pid.new', 'w').write(str(os.getpid()))
os.rename('pid.new', 'pid')
while not os.path.exists('go'):
    time.sleep(0.01)
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
except BlockingIOError:
    open('refused', 'w').close()
time.sleep(1000)
";
    let mut bomb = Task::new("node01", script);
    bomb.work().environment.insert("PATH".into(), "/usr/bin:/bin".into());
    controller.launch("node01", &bomb.prepare).await;
    eventually("it is there", || bomb.path("pid").exists()).await;
    let group = pids_group(&std::fs::read_to_string(bomb.path("pid")).unwrap());
    let limit = || std::fs::read_to_string(group.join("pids.max")).unwrap();
    let limit: u64 = limit().trim().parse().expect("it has a limit");
    let all = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    assert!(2 * limit <= all.trim().parse().unwrap(), "half of the node's at most, not {limit}");
    // That many would take minutes and gigabytes: fewer show the same.
    std::fs::write(group.join("pids.max"), "60").unwrap();
    std::fs::write(bomb.path("go"), "").unwrap();
    eventually("it gets no more", || bomb.path("refused").exists()).await;
    let gone = controller.run("node01", &Task::new("node01", "#!/bin/sh\nexit 3\n").prepare).await;
    assert_eq!(exited(&gone).code, 3);
    controller.stop("node01", bomb.key(), 100).await;
    controller.gone("node01", bomb.key()).await;
    assert!(node.processes(&bomb.name()).is_empty());
}

#[tokio::test]
async fn processor_time_is_counted() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let script = "#!/bin/sh\ni=0\nwhile [ $i -lt 100000 ]; do i=$((i+1)); done\n";
    let gone = controller.run("node01", &Task::new("node01", script).prepare).await;
    assert!(gone.usage.unwrap().cpu_time_us > 10_000, "{gone:?}");
}

#[tokio::test]
async fn root_may_run_tasks_if_the_controller_says_so() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let task = Task::of(user("root"), &[("node01", &[0])], "#!/bin/sh\nid -u\n");
    controller.run("node01", &task.prepare).await;
    assert_eq!(task.output(), "0\n");
}

#[tokio::test]
async fn a_prepare_or_go_that_is_said_twice_runs_once() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let task = Task::new("node01", "#!/bin/sh\necho once >>count\n");
    controller.prepare("node01", &task.prepare).await;
    controller.prepare("node01", &task.prepare).await;
    let endpoint = controller.ready("node01", task.key()).await;
    let go = muster_wire::v1::Go { key: Some(task.key()), peers: vec![endpoint] };
    controller.go("node01", go.clone()).await;
    controller.go("node01", go.clone()).await;
    let first = controller.gone("node01", task.key()).await;
    controller.prepare("node01", &task.prepare).await;
    assert_eq!(controller.gone("node01", task.key()).await, first);
    controller.go("node01", go).await;
    assert_eq!(controller.gone("node01", task.key()).await, first);
    assert_eq!(std::fs::read_to_string(task.path("count")).unwrap(), "once\n");
}

#[tokio::test]
async fn a_start_takes_milliseconds() {
    if !is_root() {
        return;
    }
    let (mut controller, _node) = one_node().await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let task = Task::new("node01", "#!/bin/sh\n:\n");
        let begun = std::time::Instant::now();
        controller.launch("node01", &task.prepare).await;
        controller.running("node01", task.key()).await;
        times.push(begun.elapsed());
        controller.gone("node01", task.key()).await;
    }
    times.sort();
    println!("prepare to running: median {:?}, all {times:?}", times[10]);
    // Wide enough for a busy machine: it is to notice a wait of a timer's length, not a slow disk.
    assert!(times[10].as_millis() < 200, "{times:?}");
}

#[tokio::test]
async fn many_tasks_at_once_all_come_to_their_end() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let tasks: Vec<Task> =
        (0..40).map(|number| Task::new("node01", &format!("#!/bin/sh\nexit {number}\n"))).collect();
    let begun = std::time::Instant::now();
    for task in &tasks {
        controller.prepare("node01", &task.prepare).await;
    }
    for task in &tasks {
        let endpoint = controller.ready("node01", task.key()).await;
        let go = muster_wire::v1::Go { key: Some(task.key()), peers: vec![endpoint] };
        controller.go("node01", go).await;
    }
    for (number, task) in (0..).zip(&tasks) {
        assert_eq!(exited(&controller.gone("node01", task.key()).await).code, number);
    }
    println!("{} tasks in {:?}", tasks.len(), begun.elapsed());
    // The supervisors that have nothing to do go after a while, and are waited for: only two are left.
    eventually("two children are left", || node.children().len() == 2).await;
}

#[tokio::test]
async fn a_supervisor_holds_one_attempt_after_the_other() {
    if !is_root() {
        return;
    }
    let (mut controller, node) = one_node().await;
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..9 {
        // The script's parent is its supervisor. What the script leaves behind must not stand in the way of the next one.
        let task =
            Task::new("node01", &format!("#!/bin/sh\nsetsid sleep 1000 &\necho $PPID\nexit {number}\n"));
        assert_eq!(exited(&controller.run("node01", &task.prepare).await).code, number);
        let pid = task.output().trim().parse::<i32>().unwrap();
        assert!(node.children().contains(&pid));
        seen.insert(pid);
    }
    // A new one is started while one is busy, and one may not be free yet when the next attempt comes.
    assert!(seen.len() <= 4, "{seen:?}");
}
