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
    let Some(bench) = Bench::up("fst", 2, 2) else { return };
    bench.write("input.txt", "from a folder\n");
    std::fs::create_dir(bench.work.join("web")).unwrap();
    bench.write("web/data.txt", "from a server\n");
    let _server = WebServer::start(&bench, &bench.work.join("web"));
    std::fs::create_dir(bench.work.join("tree")).unwrap();
    bench.write("tree/inner.txt", "from a tree\n");

    brings_and_takes(&bench);
    says_what_is_missing(&bench);
    keeps_conditions(&bench);
    is_stopped_while_it_brings(&bench);
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
