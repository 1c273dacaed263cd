//! What is kept of a run that failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_cluster_tests::site::repository;

use super::work::{NODES, Yard};

/// Copies everything that tells what happened to where it outlives the cluster.
pub fn keep(yard: &Yard, seed: u64) -> PathBuf {
    let dir = repository().join("target/violence").join(seed.to_string());
    let _not_there = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let copy = |from: &Path, name: &str| {
        if let Err(error) = std::fs::copy(from, dir.join(name)) {
            println!("{} is not kept: {error}", from.display());
        }
    };
    copy(&yard.site.controller_log(), "musterd.log");
    copy(&yard.ledger(), "ledger");
    for host in NODES {
        copy(&yard.site.cluster.log_path(host), &format!("{host}.log"));
        // A host that was left cut or frozen tells nothing; one that is off has nothing to tell.
        let _maybe_cut = yard.site.cluster.thaw(host);
        let Ok(mut command) = yard.site.cluster.exec(host, None) else { continue };
        let script = "cd /var/lib/muster && tail -n 5000 *.log* attempts/*/* 2>/dev/null; ps axww -o pid,ppid,stat,user,args";
        if let Ok(output) = command.args(["/bin/sh", "-c", script]).output() {
            std::fs::write(dir.join(format!("{host}-agent.log")), output.stdout).unwrap();
        }
    }
    let journal = Command::new(yard.site.staged.bin.join("musterd"))
        .arg("--config")
        .arg(yard.site.config_path())
        .args(["store", "export", "-"])
        .output();
    if let Ok(output) = journal {
        std::fs::write(dir.join("journal.jsonl"), output.stdout).unwrap();
    }
    dir
}
