//! Hydra's own daemon on the primary.
//!
//! Hydra starts the proxies of other nodes through the remote shell, which tells when it loses one, but its proxy
//! on the primary by a plain fork. When that one is killed, mpiexec waits for ever and its ranks run on. A proxy
//! that ends in the ordinary way is followed by its mpiexec at once; so an mpiexec that still lives some seconds after
//! its proxy is stuck.
//!
//! No event tells of a process that starts in a cgroup, so the few processes of the primary are looked through now
//! and then; from then on the kernel tells.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Event;
use super::end::LOST_GRACE;
use super::events::RemoteLost;
use crate::containment::Group;
use crate::process::ProcessId;

/// How often new daemons are looked for. One that is killed before it is found is found by nobody.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same where every look goes through all processes of the node.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The beginnings of the daemons' names, as far as the kernel keeps them (15 bytes).
const DAEMONS: [&str; 2] = ["hydra_pmi_proxy", "hydra_bstrap_pr"];

/// Looks for daemons for as long as the attempt lives.
pub(super) async fn watch(group: Group, host: String, events: mpsc::Sender<Event>) {
    let mut known: HashSet<i32> = HashSet::new();
    let pause = if matches!(group, Group::Subreaper(_)) { SWEEP_EVERY } else { LOOK_EVERY };
    while !events.is_closed() {
        tokio::time::sleep(pause).await;
        let daemons: HashSet<i32> = group.processes().into_iter().filter(|pid| is_daemon(*pid)).collect();
        for pid in daemons.difference(&known) {
            let parent = crate::process::parent_of(*pid).and_then(ProcessId::of);
            if let Some((daemon, launcher)) = ProcessId::of(*pid).zip(parent) {
                tokio::task::spawn_local(follow(daemon, launcher, host.clone(), events.clone()));
            }
        }
        known = daemons;
    }
}

fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn is_daemon(pid: i32) -> bool {
    let name = name_of(pid);
    DAEMONS.iter().any(|daemon| name.starts_with(daemon))
}

/// Waits for the end of a daemon, and then for that of its launcher.
async fn follow(daemon: ProcessId, launcher: ProcessId, host: String, events: mpsc::Sender<Event>) {
    let (daemon_name, launcher_name) = (name_of(daemon.pid), name_of(launcher.pid));
    daemon.ended().await;
    if tokio::time::timeout(LOST_GRACE, launcher.ended()).await.is_err() {
        let detail = format!("{daemon_name} ended, but {launcher_name} still waits for it");
        let _ = events.send(Event::LauncherStuck(RemoteLost { host, detail })).await;
    }
}
