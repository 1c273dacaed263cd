//! `scontrol show config`: what clients read of it.

use super::Shown;
use crate::slurm::connect::SLURM_VERSION;
use crate::slurm::fault::Fault;
use muster_client::api::FINISHED_SHOWN_S;

/// The settings, in the order of their names.
pub(super) fn text(shown: &mut Shown<'_>) -> Result<String, Fault> {
    let ping = shown.client.ping().map_err(Fault::client(shown.doing))?;
    let (major, minor, micro) = SLURM_VERSION;
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // One more than the largest index that an array may have.
    let max_array = u64::from(muster_core::spec::ARRAY_INDEX_MAX) + 1;
    let licenses = shown.client.licenses().map_err(Fault::client(shown.doing))?.licenses;
    let licenses: Vec<String> = licenses.iter().map(|one| format!("{}:{}", one.name, one.total)).collect();
    let licenses = if licenses.is_empty() { "(null)".to_owned() } else { licenses.join(",") };
    let settings = [
        ("AccountingStorageEnforce", "none".to_owned()),
        ("AccountingStorageTRES", "cpu,mem,node,billing".to_owned()),
        ("AccountingStorageType", "accounting_storage/muster".to_owned()),
        ("ClusterName", ping.cluster.clone()),
        ("DisableRootJobs", "No".to_owned()),
        ("EnforcePartLimits", "ALL".to_owned()),
        ("InactiveLimit", "0 sec".to_owned()),
        ("JobAcctGatherType", "jobacct_gather/cgroup".to_owned()),
        ("JobRequeue", "1".to_owned()),
        ("KillOnBadExit", "1".to_owned()),
        ("KillWait", "5 sec".to_owned()),
        ("Licenses", licenses),
        ("MaxArraySize", max_array.to_string()),
        ("MinJobAge", format!("{FINISHED_SHOWN_S} sec")),
        ("OverTimeLimit", "0 min".to_owned()),
        ("PreemptMode", "REQUEUE".to_owned()),
        ("PriorityType", "priority/multifactor".to_owned()),
        ("ProctrackType", "proctrack/cgroup".to_owned()),
        ("PrologFlags", "(null)".to_owned()),
        ("ReturnToService", "1".to_owned()),
        ("SchedulerParameters", "(null)".to_owned()),
        ("SchedulerType", "sched/backfill".to_owned()),
        ("SelectType", "select/cons_tres".to_owned()),
        ("SelectTypeParameters", "CR_CORE_MEMORY".to_owned()),
        ("SlurmUser", "root(0)".to_owned()),
        ("SlurmctldHost[0]", host.clone()),
        ("SlurmctldParameters", "(null)".to_owned()),
        ("SLURM_VERSION", format!("{major}.{minor:02}.{micro}")),
        ("TopologyPlugin", "topology/tree".to_owned()),
    ];
    let mut out = format!("Configuration data as of {}\n", shown.times.instant(Some(shown.times.now_us), ""));
    for (name, value) in settings {
        out.push_str(&format!("{name:<23} = {value}\n"));
    }
    out.push_str(&format!("\nSlurmctld(primary) at {} is UP\n", host.split('.').next().unwrap_or_default()));
    Ok(out)
}
