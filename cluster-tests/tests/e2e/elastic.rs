//! Nodes that are there only while a pool of the batch service wants them: programs of the site switch real hosts on and off.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_cluster_tests::VirtualCluster;
use nix::sys::stat::Mode;

use crate::batch_people::Service;
use crate::support::PATIENCE;

const NODE: &str = "node02";

/// The programs ask whoever has the power over hosts, through a pipe, and wait for the answer. What they start may have huge pages.
fn programs(folder: &Path) -> String {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    for pipe in ["asked", "answer"] {
        nix::unistd::mkfifo(&folder.join(pipe), Mode::S_IRWXU).unwrap();
    }
    for verb in ["up", "down"] {
        let program = folder.join(verb);
        let dir = folder.display();
        let text = format!(
            "#!/bin/sh\nset -e\ntest \"$1\" = \"$MUSTER_NODE\"\n\
             if grep -q '^THP_enabled:.*0' /proc/self/status; then echo 'no huge pages' >&2; exit 1; fi\n\
             echo {verb} \"$1\" > {dir}/asked\nread -r said < {dir}/answer\n\
             test \"$said\" = done || {{ echo \"$said\" >&2; exit 1; }}\n"
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!(
        "[[elastic]]\nnodes = \"{NODE}\"\nup = \"{}\"\ndown = \"{}\"\nidle_s = 1\n",
        folder.join("up").display(),
        folder.join("down").display()
    )
}

/// Switches hosts on and off as the programs ask; the first time that one is to come there is no room. Gives back what was
/// asked for.
fn hypervisor(cluster: &VirtualCluster, folder: &Path) -> Vec<String> {
    let (asked, mut answer) = (BufReader::new(open(folder, "asked")), open(folder, "answer"));
    let mut all = Vec::new();
    for line in asked.lines() {
        let line = line.unwrap();
        let said = match line.split_once(' ') {
            Some(("up", _)) if all.is_empty() => "no room in the cloud",
            Some(("up", node)) => {
                cluster.power_on(node).unwrap();
                "done"
            }
            Some(("down", node)) => {
                cluster.power_off(node).unwrap();
                "done"
            }
            _ => break,
        };
        all.push(line);
        writeln!(answer, "{said}").unwrap();
    }
    all
}

/// A pipe that never waits for who is at its other end.
fn open(folder: &Path, pipe: &str) -> File {
    File::options().read(true).write(true).open(folder.join(pipe)).unwrap()
}

/// Lets the hypervisor come to its end, also when the test fails.
struct End(File);

impl Drop for End {
    fn drop(&mut self) {
        writeln!(self.0, "end").unwrap();
    }
}

fn state(service: &Service) -> (String, String) {
    let nodes = service.json("muster nodes --json");
    let node = nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == NODE).unwrap();
    (node["state"].as_str().unwrap().to_owned(), node["reason"].as_str().unwrap().to_owned())
}

#[test]
fn nodes_come_when_a_pool_wants_them_and_go_when_nobody_does() {
    let Some(service) = Service::up_with("els", 2, programs) else { return };
    let cluster = &service.bench.site.cluster;
    cluster.power_off(NODE).unwrap();
    assert_eq!(state(&service).0, "off");
    let sinfo = service.good("sinfo -h -n node02 -o '%T %t'");
    assert_eq!(sinfo.trim(), "idle~ idle~");
    std::thread::scope(|threads| {
        let asked = threads.spawn(|| hypervisor(cluster, service.folder.path()));
        let end = End(open(service.folder.path(), "asked"));
        service.good("muster batch pool create farm --class main --nodes 2 --slots 4");
        service.bench.until("the node was given up", PATIENCE, || {
            let (word, reason) = state(&service);
            word == "off" && reason.contains("no room in the cloud")
        });
        let root = service.bench.site.run("root", Path::new("/"), &["nodes", "resume", NODE]).unwrap();
        assert!(root.status.success(), "{root:?}");
        service.bench.until("the pool has its nodes", PATIENCE, || {
            let pools = service.json("muster batch pool list --json");
            pools["pools"][0]["currentDedicatedNodes"] == 2
        });
        service.good("muster batch job create work --pool farm");
        service.good("for i in 1 2 3 4 5 6 7 8; do muster batch task add work t$i -- /bin/sh -c 'hostname; sleep 1'; done");
        service.good("muster batch job wait work");
        let on = |task: &str| service.good(&format!("muster batch file cat work/{task}/stdout.txt"));
        let hosts: Vec<String> = (1..9).map(|i| on(&format!("t{i}"))).collect();
        assert!(hosts.iter().any(|host| host.trim() == NODE), "{hosts:?}");
        service.good("muster batch job delete work && muster batch pool delete farm");
        service.bench.until("the node is off", PATIENCE, || state(&service).0 == "off");
        assert!(cluster.processes(NODE).unwrap().is_empty(), "the host is off");
        drop(end);
        let asked = asked.join().unwrap();
        assert_eq!(asked, ["up node02", "down node02", "up node02", "down node02"]);
    });
}
