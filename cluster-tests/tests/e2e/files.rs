//! Files of tasks: brought before the start, taken away after the end, on real nodes.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use muster_client::api::TaskState;

use crate::support::{ANN, Bench};

/// A plain HTTP server of a folder on the head, until it is dropped.
struct WebServer(Child);

impl WebServer {
    fn start(bench: &Bench, folder: &Path) -> Self {
        let mut command: Command = bench.site.cluster.exec("head", Some(ANN)).unwrap();
        command.args(["/usr/bin/env", "-C"]).arg(folder);
        command.args(["/usr/bin/python3", "-m", "http.server", "8099"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self(child);
        bench.until("the web server answers", crate::support::PATIENCE, || {
            let mut probe = bench.site.cluster.exec("head", Some(ANN)).unwrap();
            let code = "import urllib.request; urllib.request.urlopen('http://head:8099/').read()";
            probe.args(["/usr/bin/python3", "-c", code]).stderr(Stdio::null()).status().unwrap().success()
        });
        server
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn files_come_before_the_start_and_go_after_the_end() {
    let Some(bench) = Bench::up_as("fst", 2, 2, |options| options.cluster.users.push("bob".to_owned()))
    else {
        return;
    };
    bench.write("input.txt", "from a folder\n");
    std::fs::create_dir(bench.work.join("web")).unwrap();
    bench.write("web/data.txt", "from a server\n");
    let _server = WebServer::start(&bench, &bench.work.join("web"));
    std::fs::create_dir(bench.work.join("tree")).unwrap();
    bench.write("tree/inner.txt", "from a tree\n");

    brings_and_takes(&bench);
    shows_files(&bench);
    keeps_gangs_waiting(&bench);
    says_what_is_missing(&bench);
    keeps_conditions(&bench);
    is_stopped_while_it_brings(&bench);
    begins_anew_after_its_supervisor(&bench);
}

fn brings_and_takes(bench: &Bench) {
    let job = bench.submit(
        &[
            "-n1",
            "-t1",
            "--stage-in=http://head:8099/data.txt=in/data.txt",
            "--stage-in=input.txt",
            "--stage-in=tree",
            "--stage-out=**/*.out=results",
            "--stage-out=../std*.txt=results/logs/",
            "--stage-out=one.bin=results/renamed.bin,if=success",
        ],
        "set -e
         test \"$PWD\" = \"$MUSTER_TASK_DIR/wd\"
         mkdir -p d; cat in/data.txt input.txt tree/inner.txt > d/all.out
         head -c 3000000 /dev/zero > one.bin
         stat -c %a in/data.txt; id -un; echo to stderr >&2; ps -eo args | grep -c '[m]uster-stage' || true",
    );
    let detail = bench.complete(job);
    let read =
        |name: &str| std::fs::read_to_string(bench.work.join("results").join(name)).unwrap_or_default();
    assert_eq!(
        read("d/all.out"),
        "from a server\nfrom a folder\nfrom a tree\n",
        "{}",
        bench.describe(&detail)
    );
    assert_eq!(read("logs/stdout.txt"), "770\nann\n0\n");
    assert_eq!(read("logs/stderr.txt"), "to stderr\n");
    assert_eq!(std::fs::metadata(bench.work.join("results/renamed.bin")).unwrap().len(), 3_000_000);
}

/// The files of a task while it runs and after, for its user and for nobody else.
fn shows_files(bench: &Bench) {
    let job = bench.submit(
        &["-n1", "-t1", "--stage-keep=1", "--stage-in=tree"],
        "echo first; mkdir -p d; echo inner > 'd/a b'; ln -s /etc/passwd link; head -c 700000 /dev/zero > big
         touch $HOME/work/shown; while [ ! -e $HOME/work/go ]; do sleep 0.05; done; echo last",
    );
    bench.await_file("shown");
    let files = |user: &str, words: &[&str]| {
        bench.site.run(user, Path::new("/"), &[&["files"], words].concat()).unwrap()
    };
    let text = |words: &[&str]| {
        let output = files(ANN, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let place = |path: &str| format!("{}{path}", job.0);
    let listed = text(&["ls", "-r", &place("")]);
    let names: Vec<&str> =
        listed.lines().map(|line| line.splitn(6, ' ').last().unwrap().trim_start()).collect();
    assert!(
        listed.contains("wd/d/a b") && listed.contains("700000") && listed.contains("wd/tree/inner.txt"),
        "{listed}"
    );
    assert!(!names.iter().any(|name| name.contains("link")), "{listed}");
    assert_eq!(text(&["cat", &place("/stdout.txt")]), "first\n");
    assert_eq!(text(&["cat", &place("/wd/d/a b")]), "inner\n");
    let got = bench.work.join("got");
    text(&["get", &place("/wd"), got.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(got.join("big")).unwrap().len(), 700_000);
    assert_eq!(std::fs::read_to_string(got.join("d/a b")).unwrap(), "inner\n");
    text(&["rm", "-r", &place("/wd/d")]);
    for (user, path, part) in [
        ("bob", "/stdout.txt", "belongs to user ann"),
        (ANN, "/wd/link", "wd/link"),
        (ANN, "/wd/d/a b", "No such file"),
        (ANN, "/../../../etc/passwd", "does not stay"),
    ] {
        let output = files(user, &["cat", &place(path)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{path}: {said}");
    }
    bench.write("go", "");
    bench.complete(job);
    assert_eq!(text(&["cat", &place("/stdout.txt")]), "first\nlast\n", "it is kept after the end");
    let logs = bench.site.run(ANN, &bench.work, &["logs", &place("")]).unwrap();
    assert_eq!(String::from_utf8_lossy(&logs.stdout), "first\nlast\n", "{logs:?}");
}

/// The coordination command runs on all nodes of a gang, and the command once all have succeeded.
fn keeps_gangs_waiting(bench: &Bench) {
    let coordinate = |command: &str| {
        let staging = serde_json::json!({
            "folder": "workitems/render/job-1/frame7",
            "common_inputs": [{ "source": { "http": { "url": "http://head:8099/data.txt" } } }],
            "inputs": [{ "source": { "http": { "url": "http://head:8099/data.txt" } }, "path": "own.txt", "mode": 0o640 }],
            "coordination": ["/bin/sh", "-c", command],
            "command": ["sh", "-c", "cat $AZ_BATCH_TASK_SHARED_DIR/data.txt own.txt; env | grep -E '^(AZ_BATCH|CCP)' | sort; pwd"],
            "retention_s": 60,
        });
        let request = serde_json::json!({
            "name": "gang", "script": "#!/bin/sh\nfalse\n", "working_directory": "/tmp", "umask": 0o022,
            "request": { "nodes": 2, "ranks": 2, "cores_per_rank": 1, "memory": "pool_default", "exclusive": false },
            "time_limit_s": 60, "staging": staging,
        });
        bench.write("request.json", &request.to_string());
        let post = "import http.client, socket, sys, os
c = http.client.HTTPConnection('x'); c.sock = socket.socket(socket.AF_UNIX); c.sock.connect(os.environ['MUSTER_SOCKET'])
c.request('POST', '/v1/jobs', open(sys.argv[1]).read()); print(c.getresponse().read().decode())";
        let mut command = bench.site.cluster.exec("head", Some(ANN)).unwrap();
        let file = bench.work.join("request.json");
        let output = command
            .args(["/usr/bin/python3", "-c", post])
            .arg(file)
            .env("MUSTER_SOCKET", bench.site.socket())
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer: serde_json::Value =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}: {output:?}"));
        muster_core::ids::JobId(answer["job"].as_u64().unwrap_or_else(|| panic!("{answer}")))
    };
    // Each node says that it is there, in the folder that both see, and counts as done when the other one is there too.
    let meet = format!(
        "test -e \"$AZ_BATCH_TASK_DIR/data.txt\" && cd {} && touch met-$(hostname) && echo coordinated && \
         while [ $(ls met-* | wc -l) -lt 2 ]; do sleep 0.05; done",
        bench.work.display()
    );
    let job = coordinate(&meet);
    let detail = bench.complete(job);
    let cat = |path: &str| {
        let output =
            bench.site.run(ANN, &bench.work, &["files", "cat", &format!("{}/{path}", job.0)]).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = cat("stdout.txt");
    let dir = "/var/lib/muster/work/workitems/render/job-1/frame7";
    for part in [
        "coordinated\nfrom a server\nfrom a server\n",
        "AZ_BATCH_IS_CURRENT_NODE_MASTER=true\n",
        &format!("AZ_BATCH_TASK_WORKING_DIR={dir}/wd\n"),
        "AZ_BATCH_NODE_SHARED_DIR=/var/lib/muster/work/shared\n",
        &format!("\n{dir}/wd\n"),
    ] {
        assert!(said.contains(part), "{part} in {said}\n{}", bench.describe(&detail));
    }
    let hosts = said.lines().find_map(|line| line.strip_prefix("AZ_BATCH_HOST_LIST=")).unwrap();
    let addresses: Vec<std::net::IpAddr> = hosts.split(',').map(|text| text.parse().unwrap()).collect();
    assert_eq!(addresses.len(), 2, "{hosts}");
    assert!(said.contains(&format!("CCP_NODES=2 {} 1 {} 1\n", addresses[0], addresses[1])), "{said}");
    // One that fails on one node alone ends the whole gang, whose command never runs.
    let job = coordinate("test \"$AZ_BATCH_IS_CURRENT_NODE_MASTER\" = true");
    let detail = bench.wait(job);
    let task = &detail.task_list[0];
    assert_eq!((task.state, task.attempt), (TaskState::Failed, 1), "{}", bench.describe(&detail));
    assert!(
        task.reason.contains("CoordinationCommandFailed") && task.reason.contains("exit code 1"),
        "{}",
        task.reason
    );
    bench.await_clean(&["node01", "node02"]);
}

fn says_what_is_missing(bench: &Bench) {
    for (source, code) in [
        ("http://head:8099/none.txt", "BlobNotFound"),
        ("/root/secret", "BlobAccessDenied"),
        ("http://head:1/none.txt", "BlobDownloadMiscError"),
    ] {
        let job = bench.submit(&["-n1", "-t1", &format!("--stage-in={source}")], "touch ran");
        let detail = bench.wait(job);
        let task = &detail.task_list[0];
        assert_eq!(task.state, TaskState::Failed, "{source}: {}", bench.describe(&detail));
        assert!(task.reason.contains(code), "{source}: {}", task.reason);
        assert_eq!(task.attempt, 1, "it is not tried again");
    }
    assert!(!bench.work.join("ran").exists());
    let list = bench.site.client().unwrap().nodes().unwrap();
    assert!(list.nodes.iter().all(|node| node.reason.is_empty()), "no node is at fault");
    // A result that cannot be taken away is a failure of the task, which has succeeded otherwise.
    let job = bench.submit(&["-n1", "-t1", "--stage-out=a=/root/no"], "echo x > a");
    let detail = bench.wait(job);
    assert_eq!(detail.task_list[0].state, TaskState::Failed, "{}", bench.describe(&detail));
    assert!(detail.task_list[0].reason.contains("FileUploadAccessDenied"), "{}", detail.task_list[0].reason);
}

fn keeps_conditions(bench: &Bench) {
    for (exit, there) in [("0", "good"), ("3", "bad")] {
        let out = format!("cond{exit}");
        let job = bench.submit(
            &[
                "-n1",
                "-t1",
                &format!("--stage-out=good={out}/,if=success"),
                &format!("--stage-out=bad={out}/,if=failure"),
                &format!("--stage-out=always={out}/"),
            ],
            &format!("touch good bad always; exit {exit}"),
        );
        bench.wait(job);
        let mut found: Vec<String> = std::fs::read_dir(bench.work.join(&out))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, ["always", there]);
    }
}

/// Bringing a file from a pipe that nobody writes never ends by itself.
fn is_stopped_while_it_brings(bench: &Bench) {
    nix::unistd::mkfifo(&bench.work.join("web/pipe"), nix::sys::stat::Mode::from_bits_truncate(0o666))
        .unwrap();
    let job = bench.submit(&["-n1", "-t1", "--stage-in=http://head:8099/pipe"], "true");
    let stages = || {
        bench
            .processes("node01")
            .iter()
            .chain(&bench.processes("node02"))
            .any(|p| p.cmdline[0].ends_with("muster-stage"))
    };
    bench.until("it is being brought", crate::support::PATIENCE, stages);
    let cancelled = bench.site.run(ANN, &bench.work, &["cancel", &job.0.to_string()]).unwrap();
    assert!(cancelled.status.success(), "{cancelled:?}");
    let detail = bench.wait(job);
    assert_eq!(detail.task_list[0].state, TaskState::Cancelled, "{}", bench.describe(&detail));
    bench.await_clean(&["node01", "node02"]);
}

/// The next attempt on the same node finds the folder free, and empty.
fn begins_anew_after_its_supervisor(bench: &Bench) {
    let job = bench.submit(
        &["-n1", "-t2", "-w", "node01", "--stage-keep=1"],
        "ls; touch left; [ -n \"$SLURM_RESTART_COUNT\" ] && exit; touch $HOME/work/first; sleep 300",
    );
    bench.await_file("first");
    let all = bench.site.cluster.processes("node01").unwrap();
    for process in all.iter().filter(|process| process.cmdline.iter().any(|word| word == "supervise")) {
        bench.kill(process);
    }
    let detail = bench.complete(job);
    assert_eq!(detail.task_list[0].attempt, 2);
    let shown =
        bench.site.run(ANN, Path::new("/"), &["files", "cat", &format!("{}/stdout.txt", job.0)]).unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "", "{shown:?}");
}
