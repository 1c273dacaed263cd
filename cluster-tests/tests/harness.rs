//! The virtual cluster itself: what it must do so that the tests that run on it can be believed.
//!
//! These tests need root. Without it they fail, unless `MUSTER_TEST_SKIP_CLUSTER=1` says that this is meant.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use muster_cluster_tests::{
    ClusterError, ClusterOptions, LinkState, PowerState, ProcessInfo, VirtualCluster, list, require_root,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// For how long a test waits for something that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether to go on: true for root, false when the tests are told to be skipped.
fn may_run() -> bool {
    if let Err(error) = require_root() {
        let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
        assert!(skip, "{error}; or set MUSTER_TEST_SKIP_CLUSTER=1 to leave these tests out");
        return false;
    }
    true
}

/// A cluster of two nodes with a name of its own, so that tests run side by side.
fn up(tag: &str) -> VirtualCluster {
    up_with(tag, &[])
}

fn up_with(tag: &str, users: &[&str]) -> VirtualCluster {
    let users = users.iter().map(|&user| user.to_owned()).collect();
    VirtualCluster::up(&ClusterOptions { hosts: 2, users, ..ClusterOptions::named(&name(tag)) }).unwrap()
}

/// A cluster name that no other run of these tests on this machine uses.
fn name(tag: &str) -> String {
    format!("{tag}{:x}", std::process::id())
}

fn run(cluster: &VirtualCluster, host: &str, user: Option<&str>, words: &[&str]) -> Output {
    cluster.exec(host, user).unwrap().args(words).output().unwrap()
}

/// The standard output of a program that must succeed.
fn say(cluster: &VirtualCluster, host: &str, words: &[&str]) -> String {
    let output = run(cluster, host, None, words);
    assert!(output.status.success(), "{words:?} on {host}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Waits for something about which the system sends no event to an outsider.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not so after {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every trace of a cluster that can be found on the machine.
fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |dir: &Path, is_ours: &dyn Fn(&str) -> bool| {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_ours) {
                found.push(entry.path().display().to_string());
            }
        }
    };
    let prefixed = |entry: &str| entry.starts_with(&format!("{name}-"));
    look(Path::new("/run/netns"), &prefixed);
    look(Path::new("/etc/netns"), &prefixed);
    look(Path::new("/run/muster-cluster"), &|entry| entry == name);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        look(&hierarchy.path(), &|entry| entry == format!("vcluster-{name}"));
    }
    look(Path::new("/sys/fs/cgroup"), &|entry| entry == format!("vcluster-{name}"));
    found.extend(processes_naming(name).into_iter().map(|pid| format!("process {pid}")));
    let links = Command::new("/usr/sbin/ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    found.extend(links.lines().filter(|line| line.contains(&format!("{name}-"))).map(str::to_owned));
    found
}

/// The processes of which an argument is exactly `name`, as it is for everything that the harness starts.
fn processes_naming(name: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names_it = |pid: &i32| {
        let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text.split(|&byte| byte == 0).any(|word| word == name.as_bytes())
    };
    pids.filter(names_it).collect()
}

fn find<'a>(processes: &'a [ProcessInfo], word: &str) -> Option<&'a ProcessInfo> {
    processes.iter().find(|process| process.cmdline.iter().any(|argument| argument == word))
}

/// Starts `sleep SECONDS` in a host and waits until it runs; the number makes it recognisable.
fn start_sleep(cluster: &VirtualCluster, host: &str, seconds: &str) -> (Child, ProcessInfo) {
    let child = cluster.exec(host, None).unwrap().args(["sleep", seconds]).spawn().unwrap();
    let mut found = None;
    eventually("the sleep runs", || {
        found = find(&cluster.processes(host).unwrap(), seconds).filter(|p| p.cmdline[0] == "sleep").cloned();
        found.is_some()
    });
    (child, found.unwrap())
}

/// Tries to open a connection from `head` to a host's sshd; gives the outcome in one word.
fn connect(cluster: &VirtualCluster, to: &str) -> String {
    let script = format!(
        "import socket\n\
         try:\n    s = socket.create_connection(('{to}', 22), 1.5); s.settimeout(1.5)\n    \
         print('greeted' if s.recv(3) == b'SSH' else 'mute')\n\
         except ConnectionRefusedError: print('refused')\n\
         except TimeoutError: print('silence')\n"
    );
    say(cluster, "head", &["/usr/bin/python3", "-c", &script])
}

/// The lines that a program prints, each of which must come in time.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(output: ChildStdout) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _test_has_ended = sender.send(line);
            }
        });
        Self(receiver)
    }

    fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).unwrap()
    }
}

/// The exit code of a program that must end in time.
fn code_of(child: &mut Child) -> Option<i32> {
    eventually("the program ends", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().code()
}

#[test]
fn root_of_the_head_reaches_every_host_by_ssh_with_strict_host_keys() {
    if !may_run() {
        return;
    }
    let cluster = up("s");
    let strict = ["ssh", "-o", "StrictHostKeyChecking=yes", "-o", "PasswordAuthentication=no"];
    for host in ["head", "node01", "node02"] {
        assert_eq!(say(&cluster, "head", &[&strict[..], &[host, "hostname"]].concat()), host);
    }
    assert_eq!(cluster.nodes().collect::<Vec<_>>(), ["node01", "node02"]);

    // The same with another host's key in its place must be refused, else the check above proves nothing.
    let etc = format!("/etc/netns/{}-head/ssh/ssh_known_hosts", cluster.name());
    let known = fs::read_to_string(&etc).unwrap();
    let swapped = known.replace("node01,", "nodeXX,").replace("node02,", "node01,");
    fs::write(&etc, swapped).unwrap();
    let refused = run(&cluster, "head", None, &["ssh", "node01", "true"]);
    assert_eq!(refused.status.code(), Some(255), "ssh took a wrong host key");
    cluster.down().unwrap();
}

#[test]
fn hosts_have_names_directories_processes_and_cgroups_of_their_own() {
    if !may_run() {
        return;
    }
    let cluster = up("o");
    assert_eq!(say(&cluster, "node01", &["hostname"]), "node01");
    for dir in ["/run/muster", "/var/lib/muster", "/dev/shm"] {
        say(&cluster, "node01", &["touch", &format!("{dir}/mine")]);
        assert_eq!(say(&cluster, "node02", &["ls", dir]), "", "{dir} is common to two hosts");
    }
    assert_eq!(say(&cluster, "node01", &["cat", "/proc/1/comm"]), "muster-cluster");
    let groups = say(&cluster, "node01", &["cat", "/proc/self/cgroup"]);
    assert!(!groups.contains("vcluster"), "the host sees where it is: {groups}");

    // What a host makes in a hierarchy is its own subtree's, and its controllers can be used.
    let hierarchy = if Path::new("/sys/fs/cgroup/cgroup.procs").exists() { "" } else { "/unified" };
    let group = format!("/sys/fs/cgroup{hierarchy}/probe");
    say(&cluster, "node01", &["mkdir", &group]);
    let outside = format!("/sys/fs/cgroup{hierarchy}/vcluster-{}/node01/probe", cluster.name());
    assert!(Path::new(&outside).is_dir(), "{outside} is not there");
    assert!(!Path::new(&group).exists(), "the group was made outside of the host's subtree");
    if Path::new("/sys/fs/cgroup/cpuset/cpuset.cpus").exists() {
        let set = "mkdir /sys/fs/cgroup/cpuset/one && cd /sys/fs/cgroup/cpuset/one && cat ../cpuset.mems > cpuset.mems \
                   && echo 0 > cpuset.cpus && echo $$ > cgroup.procs && nproc";
        assert_eq!(say(&cluster, "node01", &["sh", "-c", set]), "1");
    }
    cluster.down().unwrap();
}

#[test]
fn programs_run_as_other_users_and_their_ends_come_back() {
    if !may_run() {
        return;
    }
    let cluster = up_with("u", &["alice"]);
    let output =
        run(&cluster, "node01", Some("alice"), &["sh", "-c", "id -un; id -Gn; cd; pwd -P; echo $USER"]);
    let home = format!("/run/muster-cluster/{}/home/alice", cluster.name());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("alice\nalice\n{home}\nalice\n"));
    assert!(
        !fs::read_to_string("/etc/passwd").unwrap().contains("alice"),
        "the machine's own users were changed"
    );
    // Homes are on the shared file system, as on a real cluster.
    run(&cluster, "node01", Some("alice"), &["touch", &format!("{home}/note")]);
    assert_eq!(say(&cluster, "node02", &["stat", "-c", "%U", &format!("{home}/note")]), "alice");
    let spied = run(&cluster, "node01", Some("alice"), &["cat", cluster.bootstrap_key().to_str().unwrap()]);
    assert!(!spied.status.success(), "an ordinary user can read root's key");

    assert_eq!(run(&cluster, "node01", Some("alice"), &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&cluster, "node01", None, &["sh", "-c", "kill -SEGV $$"]).status.code(), Some(139));
    assert_eq!(run(&cluster, "node01", None, &["/no/such/program"]).status.code(), Some(127));
    assert_eq!(run(&cluster, "node01", None, &["/etc/hosts"]).status.code(), Some(126));
    let unknown = run(&cluster, "node01", Some("mallory"), &["true"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("no user `mallory`"));
    cluster.down().unwrap();
}

#[test]
fn a_program_in_a_host_gets_the_signals_of_its_starter_and_ends_with_it() {
    if !may_run() {
        return;
    }
    let cluster = up_with("g", &["alice"]);
    let script = "trap 'echo got it; exit 3' TERM; echo set; while :; do sleep 1000 & wait $!; done";
    let mut command = cluster.exec("node01", Some("alice")).unwrap();
    let mut child = command.args(["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    assert_eq!(lines.next(), "set");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(lines.next(), "got it");
    assert_eq!(code_of(&mut child), Some(3));

    let (mut child, sleep) = start_sleep(&cluster, "node01", "98761");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the program ends with its starter", || {
        !cluster.processes("node01").unwrap().iter().any(|process| process.pid == sleep.pid)
    });
    // sshd's children, too, can be ended politely.
    let blocked = say(&cluster, "head", &["ssh", "node01", "grep SigBlk /proc/self/status"]);
    assert!(blocked.ends_with("\t0000000000000000"), "{blocked}");
    cluster.down().unwrap();
}

#[test]
fn processes_are_listed_with_their_environment_and_can_be_killed() {
    if !may_run() {
        return;
    }
    let cluster = up_with("p", &["alice"]);
    let mut command = cluster.exec("node02", Some("alice")).unwrap();
    let mut child = command.args(["sleep", "98762"]).env("MUSTER_PROBE", "42").spawn().unwrap();
    let mut found = None;
    eventually("the sleep is listed", || {
        found =
            find(&cluster.processes("node02").unwrap(), "98762").filter(|p| p.cmdline[0] == "sleep").cloned();
        found.is_some()
    });
    let sleep = found.unwrap();
    assert_eq!(sleep.cmdline, ["sleep", "98762"]);
    assert!(sleep.environ.contains(&"MUSTER_PROBE=42".to_owned()), "{:?}", sleep.environ);
    assert!(sleep.uid >= 1000, "uid {}", sleep.uid);
    assert!(sleep.inner_pid < sleep.pid, "{sleep:?} was not seen from outside");
    assert!(
        find(&cluster.processes("node01").unwrap(), "98762").is_none(),
        "hosts see one another's processes"
    );

    let own = i32::try_from(std::process::id()).unwrap();
    let refused = cluster.kill(own, Signal::SIGKILL);
    assert!(matches!(refused, Err(ClusterError::ForeignProcess { .. })), "{refused:?}");
    cluster.kill(sleep.pid, Signal::SIGKILL).unwrap();
    assert_eq!(code_of(&mut child), Some(128 + 9));
    cluster.down().unwrap();
}

#[test]
fn orphans_are_collected_by_process_1() {
    if !may_run() {
        return;
    }
    let cluster = up("r");
    // The shell ends before its child does, which then belongs to process 1 and ends as an orphan.
    let orphan = say(&cluster, "node01", &["sh", "-c", "sleep 0.1 >/dev/null 2>&1 & echo $!"]);
    eventually("the orphan is collected", || {
        !cluster.processes("node01").unwrap().iter().any(|process| process.inner_pid.to_string() == orphan)
    });
    cluster.down().unwrap();
}

#[test]
fn powering_off_ends_everything_at_once_and_powering_on_gives_an_empty_host() {
    if !may_run() {
        return;
    }
    let cluster = up("x");
    let (mut child, _) = start_sleep(&cluster, "node01", "98763");
    say(&cluster, "node01", &["touch", "/var/lib/muster/before"]);
    // One that left its session and ignores the polite signals.
    say(&cluster, "node01", &["sh", "-c", "trap '' TERM HUP; setsid sleep 98764 >/dev/null 2>&1 &"]);
    let before: Vec<i32> = cluster.processes("node01").unwrap().iter().map(|process| process.pid).collect();
    assert!(before.len() >= 4, "process 1, sshd and two sleeps: {before:?}");

    cluster.power_off("node01").unwrap();
    for pid in before {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} lives on");
    }
    assert_eq!(code_of(&mut child), Some(128 + 9));
    assert!(cluster.processes("node01").unwrap().is_empty());
    assert!(matches!(cluster.exec("node01", None), Err(ClusterError::HostIsOff { .. })));
    assert_eq!(connect(&cluster, "node01"), "refused");
    cluster.power_off("node01").unwrap();

    cluster.power_on("node01").unwrap();
    assert!(matches!(cluster.power_on("node01"), Err(ClusterError::HostIsOn { .. })));
    assert_eq!(say(&cluster, "head", &["ssh", "node01", "ls /var/lib/muster; hostname"]), "node01");
    cluster.down().unwrap();
}

#[test]
fn a_cut_host_is_silent_until_it_is_healed() {
    if !may_run() {
        return;
    }
    let cluster = up("c");
    assert_eq!(connect(&cluster, "node01"), "greeted");
    cluster.cut("node01").unwrap();
    let status = cluster.status().unwrap();
    assert_eq!((status[1].link, status[2].link), (LinkState::Cut, LinkState::Up));
    assert_eq!(connect(&cluster, "node01"), "silence");
    assert_eq!(connect(&cluster, "node02"), "greeted");
    // The host itself goes on.
    assert_eq!(say(&cluster, "node01", &["hostname"]), "node01");
    cluster.heal("node01").unwrap();
    // The first packet after a healing can still be lost to the neighbour table.
    eventually("the host answers again", || connect(&cluster, "node01") == "greeted");
    cluster.down().unwrap();
}

#[test]
fn a_frozen_host_accepts_connections_and_says_nothing_until_it_is_thawed() {
    if !may_run() {
        return;
    }
    let cluster = up("f");
    cluster.freeze("node01").unwrap();
    assert_eq!(cluster.status().unwrap()[1].power, PowerState::Frozen);
    assert_eq!(connect(&cluster, "node01"), "silence");
    cluster.thaw("node01").unwrap();
    assert_eq!(cluster.status().unwrap()[1].power, PowerState::On);
    assert_eq!(connect(&cluster, "node01"), "greeted");
    // A frozen host can be taken down, too.
    cluster.freeze("node02").unwrap();
    let name = cluster.name().to_owned();
    cluster.down().unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn taking_a_cluster_down_leaves_nothing() {
    if !may_run() {
        return;
    }
    let cluster = up_with("d", &["alice"]);
    let name = cluster.name().to_owned();
    let (mut child, _) = start_sleep(&cluster, "node01", "98765");
    say(&cluster, "node02", &["sh", "-c", "mkdir -p /sys/fs/cgroup/*/a/b 2>/dev/null; true"]);
    assert!(traces(&name).len() > 10, "the search for traces finds too little: {:?}", traces(&name));
    cluster.down().unwrap();
    child.wait().unwrap();
    assert_eq!(traces(&name), Vec::<String>::new());
    assert!(matches!(VirtualCluster::attach(&name), Err(ClusterError::NoSuchCluster { .. })));
}

#[test]
fn dropping_a_cluster_takes_it_down_and_keeping_it_does_not() {
    if !may_run() {
        return;
    }
    let dropped = up("k");
    let name = dropped.name().to_owned();
    drop(dropped);
    assert_eq!(traces(&name), Vec::<String>::new());

    up("k").keep().unwrap();
    let attached = VirtualCluster::attach(&name).unwrap();
    assert_eq!(say(&attached, "node02", &["hostname"]), "node02");
    drop(attached);
    assert!(
        list().unwrap().iter().any(|state| state.name == name),
        "an attached handle took the cluster down"
    );
    VirtualCluster::remove(&name).unwrap();
    // The processes of a kept cluster have no parent of ours; whoever collects them may be late.
    eventually("nothing is left", || traces(&name).is_empty());
}

#[test]
fn clusters_stand_side_by_side_and_a_taken_name_is_refused() {
    if !may_run() {
        return;
    }
    let (first, second) = (up("m"), up("n"));
    assert_ne!(first.state().subnet, second.state().subnet);
    assert_eq!(say(&first, "head", &["ssh", "node01", "hostname"]), "node01");
    assert_eq!(say(&second, "head", &["ssh", "node01", "hostname"]), "node01");

    let again = VirtualCluster::up(&ClusterOptions::named(first.name())).unwrap_err();
    assert!(again.to_string().contains("muster-cluster down --name"), "{again}");
    let options = ClusterOptions { subnet: Some(first.state().subnet), ..ClusterOptions::named(&name("q")) };
    assert!(matches!(VirtualCluster::up(&options), Err(ClusterError::SubnetTaken { .. })));
    // Neither refusal may have touched the cluster that was there.
    assert_eq!(say(&first, "node01", &["hostname"]), "node01");

    first.down().unwrap();
    assert_eq!(say(&second, "head", &["ssh", "node02", "hostname"]), "node02");
    second.down().unwrap();
}

#[test]
fn a_start_that_fails_half_way_leaves_nothing() {
    if !may_run() {
        return;
    }
    let name = name("h");
    // A directory where one of the last hosts' files must go makes the start fail after most of the work.
    let obstacle = format!("/etc/netns/{name}-node02");
    fs::create_dir_all(&obstacle).unwrap();
    let error = VirtualCluster::up(&ClusterOptions { hosts: 2, ..ClusterOptions::named(&name) }).unwrap_err();
    assert!(error.to_string().contains(&obstacle), "{error}");
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn a_cluster_ends_with_its_maker_even_if_that_is_killed() {
    if !may_run() {
        return;
    }
    let name = name("t");
    let mut maker = Command::new(env!("CARGO_BIN_EXE_muster-cluster"))
        .args(["run", "--name", &name, "--hosts", "1", "--", "sh", "-c", "echo up; sleep 98766"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(Lines::of(maker.stdout.take().unwrap()).next(), "up");
    maker.kill().unwrap();
    assert_eq!(maker.wait().unwrap().signal(), Some(9));
    eventually("the guard has taken the cluster down", || traces(&name).is_empty());
}

#[test]
fn a_stale_cluster_can_be_removed() {
    if !may_run() {
        return;
    }
    let name = name("l");
    up("l").keep().unwrap();
    // All of its processes are killed from outside, as by a clumsy admin.
    for pid in processes_naming(&name) {
        // Process 1 of a host may have ended with its holder already.
        let _ended = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let attached = VirtualCluster::attach(&name).unwrap();
    eventually("all hosts are off", || {
        attached.status().unwrap().iter().all(|host| host.power == PowerState::Off)
    });
    VirtualCluster::remove(&name).unwrap();
    eventually("nothing is left", || traces(&name).is_empty());
}
