//! `muster node up` and `muster node down`: agents come to nodes over SSH, by whoever may, and go again.

use std::path::Path;
use std::process::Output;

use muster_client::api::TaskState;
use serde_json::Value;

use crate::support::{ANN, Bench};

/// Who logs in to nodes without being root there.
const OPS: &str = "ops";

/// The nodes on which ops may become root: node04 without a password, node05 with one.
const SUDOERS: &str = "root ALL=(ALL:ALL) ALL\nops node04=(root) NOPASSWD: ALL\nops node05=(root) ALL\n";

struct Admin<'a>(&'a Bench);

/// What one command did, node by node.
struct Report {
    code: Option<i32>,
    nodes: Vec<Value>,
}

impl Admin<'_> {
    fn run(&self, words: &str) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.0.site.run("root", Path::new("/"), &words).unwrap()
    }

    fn report(&self, words: &str) -> Report {
        let output = self.run(&format!("{words} --json"));
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        Report { code: output.status.code(), nodes: report["nodes"].as_array().unwrap().clone() }
    }

    fn folder(&self, node: &str) -> String {
        let mut command = self.0.site.cluster.exec(node, None).unwrap();
        let output = command.args(["/bin/ls", "-A", "/var/lib/muster"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn sshd_log(&self, node: &str) -> String {
        let name = self.0.site.cluster.name();
        std::fs::read_to_string(format!("/run/muster-cluster/{name}/hosts/{node}/host.log")).unwrap()
    }
}

impl Report {
    /// What was done on each node, and what failed there.
    fn summary(&self) -> Vec<String> {
        let word = |node: &Value| match node["ok"].as_bool() {
            Some(true) => node["did"].as_str().unwrap().to_owned(),
            _ => format!("{}: {}", node["failure"]["step"].as_str().unwrap(), self.error(node)),
        };
        self.nodes.iter().map(word).collect()
    }

    fn error(&self, node: &Value) -> String {
        node["failure"]["error"].as_str().unwrap_or_default().to_owned()
    }

    fn all(&self, did: &str) {
        assert_eq!(self.code, Some(0), "{:#?}", self.summary());
        assert!(self.nodes.iter().all(|node| node["did"] == did), "{:#?}", self.summary());
    }
}

#[test]
fn nodes_are_brought_up_replaced_under_running_work_and_taken_down() {
    let Some(bench) = Bench::up_as("nup", 5, 2, |options| {
        options.by_controller = false;
        options.cluster.users.push(OPS.to_owned());
        options.cluster.sudoers = Some(SUDOERS.to_owned());
    }) else {
        return;
    };
    let admin = Admin(&bench);
    refuses_whoever_may_not(&bench, &admin);
    reports_each_failure_and_brings_up_the_rest(&bench, &admin);
    becomes_root_by_sudo_and_jumps(&bench, &admin);
    changes_nothing_where_nothing_has_changed(&bench, &admin);
    replaces_and_stops_under_running_work(&bench, &admin);
}

fn refuses_whoever_may_not(bench: &Bench, admin: &Admin<'_>) {
    let refused = bench.site.run(ANN, &bench.work, &["node", "up", "node01"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("only root on the controller's host may have"), "{said}");
    assert_eq!(admin.run("node up node[05-06]").status.code(), Some(4), "there is no node06");

    let check = admin.report("node up node[01-05] --check");
    check.all("started");
    assert!(check.nodes.iter().all(|node| node["uploaded"] == true), "{:#?}", check.nodes);
    assert_eq!(admin.folder("node01"), "", "a check changes nothing");
}

fn reports_each_failure_and_brings_up_the_rest(bench: &Bench, admin: &Admin<'_>) {
    let mut command = bench.site.cluster.exec("head", None).unwrap();
    let known = command.args(["/bin/cat", "/etc/ssh/ssh_known_hosts"]).output().unwrap().stdout;
    let known = String::from_utf8(known).unwrap();
    // node04 is known by the key of node01, and node05 does not answer.
    let key = |node: &str| known.lines().find(|line| line.starts_with(node)).unwrap().to_owned();
    let wrong = key("node01").replacen("node01", "node04", 1);
    let lines: Vec<String> = ["node01", "node02", "node03", "node05"].map(key).into();
    bench.write("known_hosts", &format!("{}\n{wrong}\n", lines.join("\n")));
    bench.site.cluster.cut("node05").unwrap();
    let file = bench.work.join("known_hosts");
    let up = admin.report(&format!(
        "node up node[01-05] --known-hosts {} --connect-timeout 2 --fan-out 3",
        file.display()
    ));
    bench.site.cluster.heal("node05").unwrap();
    assert_eq!(up.code, Some(10), "{:#?}", up.summary());
    assert!(
        up.nodes[..3].iter().all(|node| node["did"] == "started" && node["uploaded"] == true),
        "{:#?}",
        up.summary()
    );
    let summary = up.summary();
    assert!(
        summary[3].starts_with("verify the host key: ") && summary[3].contains("does not match"),
        "{summary:#?}"
    );
    assert!(
        up.nodes[3]["failure"]["detail"].as_str().unwrap().starts_with("presents SHA256:"),
        "{summary:#?}"
    );
    assert!(
        summary[4].starts_with("connect: ") && summary[4].contains("did not answer in time"),
        "{summary:#?}"
    );
    assert_eq!(admin.folder("node04"), "", "nothing is sent to a host that is not trusted");
    let states: Vec<String> = bench.site.nodes().unwrap().into_iter().map(|node| node.state).collect();
    assert_eq!(states[..3], ["idle", "idle", "idle"]);

    let text = admin.run(&format!("node up node[03-04] --known-hosts {}", file.display()));
    let text = String::from_utf8(text.stdout).unwrap();
    for part in [
        "2 nodes: 1 already up, 1 failed\n",
        "NODES   FAILED TO            WHY\n",
        "\nnode04 presents SHA256:",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

fn becomes_root_by_sudo_and_jumps(bench: &Bench, admin: &Admin<'_>) {
    let plain = admin.report("node up node04 --user ops");
    assert_eq!(plain.code, Some(10));
    assert!(plain.summary()[0].contains("make the programs' folder"), "{:#?}", plain.summary());
    let up = admin.report("node up node[04-05] --user ops --sudo");
    let summary = up.summary();
    assert_eq!((up.code, up.nodes[0]["did"].as_str()), (Some(10), Some("started")), "{summary:#?}");
    assert!(summary[1].starts_with("become root: ") && summary[1].contains("NOPASSWD"), "{summary:#?}");
    assert_eq!(admin.folder("node05"), "");

    let lost = admin.report("node up node05 --jump ops@node02:7777,node03");
    assert!(lost.summary()[0].contains("the jump host `node02` cannot be used"), "{:#?}", lost.summary());
    admin.report("node up node05 --jump ops@node02,node03").all("started");
    assert!(admin.sshd_log("node02").contains("Accepted publickey for ops"));
    bench.site.await_nodes_up().unwrap();
}

fn changes_nothing_where_nothing_has_changed(bench: &Bench, admin: &Admin<'_>) {
    let agents = |bench: &Bench| {
        ["node01", "node05"].map(|node| {
            let all = bench.site.cluster.processes(node).unwrap();
            all.iter().find(|p| p.cmdline.get(1).is_some_and(|word| word == "agent")).unwrap().pid
        })
    };
    let before = agents(bench);
    admin.report("node up node[01-05]").all("unchanged");
    admin.report("node up node[01-05] --check").all("unchanged");
    // The same by a key that an SSH agent holds.
    let line = format!(
        "ssh-add -q {} && exec {} node up node[01-05] --agent",
        bench.site.cluster.bootstrap_key().display(),
        bench.site.staged.bin.join("muster").display()
    );
    let mut command = bench.site.cluster.exec("head", None).unwrap();
    command.args(["/usr/bin/ssh-agent", "/bin/sh", "-c", &line]).env("MUSTER_SOCKET", bench.site.socket());
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5 nodes: 5 already up\n", "{output:?}");
    assert_eq!(agents(bench), before);
}

fn replaces_and_stops_under_running_work(bench: &Bench, admin: &Admin<'_>) {
    let body = "mpirun -np 2 sh -c 'touch up-$OMPI_COMM_WORLD_RANK; while [ ! -e go ]; do sleep 0.05; done'";
    let job = bench.submit(&["-N2", "-n2", "-t5", "-w", "node[01-02]"], body);
    bench.await_file("up-0");
    bench.await_file("up-1");
    let attempt = bench.running(job).task_list[0].attempt;
    // Another version: the same programs, and bytes after their end that nobody reads.
    let newer = bench.site.cluster.shared_dir().join("newer");
    std::fs::create_dir(&newer).unwrap();
    for program in ["muster-node", "muster-rank", "muster-rsh", "muster-stage", "muster-step"] {
        std::fs::copy(bench.site.staged.bin.join(program), newer.join(program)).unwrap();
    }
    let mut text = std::fs::read(newer.join("muster-node")).unwrap();
    text.extend_from_slice(b"newer");
    std::fs::write(newer.join("muster-node"), text).unwrap();
    let newer = newer.display();
    admin.report(&format!("node up node[01-02] --programs {newer} --check")).all("replaced");
    admin.report(&format!("node up node[01-02] --programs {newer}")).all("replaced");

    // Where work runs nothing is stopped, and an idle node is.
    let down = admin.report("node down node[02-03]");
    let summary = down.summary();
    assert_eq!((down.code, down.nodes[1]["did"].as_str()), (Some(10), Some("stopped")), "{summary:#?}");
    assert!(summary[0].starts_with("drain: ") && summary[0].contains("still runs there"), "{summary:#?}");
    bench.write("go", "");
    let detail = bench.complete(job);
    assert_eq!(detail.task_list[0].attempt, attempt, "the attempt went on under another agent");
    bench.await_clean(&["node01", "node02"]);

    admin.report("node down node[02-03]").nodes.iter().zip(["stopped", "absent"]).for_each(|(node, did)| {
        assert_eq!(node["did"], did, "{node}");
    });
    admin.report("node up node[02-03]").all("started");
    let back = |node: usize| bench.site.nodes().unwrap()[node].state.clone();
    assert_eq!([back(1), back(2)], ["idle", "idle"], "what node down drained, node up gives work again");

    let job = bench.submit(&["-n1", "-t5", "-w", "node04", "--no-requeue"], "touch held; sleep 600");
    bench.await_file("held");
    admin.report("node down node04 --force").all("stopped");
    let ended = bench.wait(job);
    assert_eq!(ended.task_list[0].state, TaskState::NodeFailed, "{}", bench.describe(&ended));
}
