//! What a job's script reads about its job in Slurm's words, beside what MPI launchers need.

use std::collections::BTreeMap;

use muster_wire::v1;

use super::Supervisor;
use crate::user::Account;

/// Variables that are set only where the submission asked for what they say; it says so by setting them.
const ONLY_IF_ASKED: [&str; 3] = ["SLURM_NTASKS", "SLURM_NPROCS", "SLURM_CPUS_PER_TASK"];
/// The variables by which the programs of GPUs' makers see which devices they may use, as Slurm sets them.
const VISIBLE_GPUS: [&str; 4] =
    ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL"];

impl Supervisor {
    /// Adds them to an environment that has the allocation's in it already.
    pub(super) fn add_job_words(
        &self,
        all: &mut BTreeMap<String, String>,
        work: &v1::Work,
        account: &Account,
    ) {
        for name in ONLY_IF_ASKED.into_iter().filter(|name| !work.environment.contains_key(*name)) {
            all.remove(name);
        }
        let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        let texts = [
            ("SLURM_CLUSTER_NAME", &self.prepare.cluster),
            ("SLURM_JOB_ACCOUNT", &work.account),
            ("SLURM_JOB_QOS", &work.qos),
        ];
        for (name, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
            set(name, value.clone());
        }
        if let Some(group) = &account.group {
            set("SLURM_JOB_GROUP", group.clone());
        }
        if let Some(bounds) = &self.prepare.bounds {
            set("SLURM_ARRAY_TASK_MIN", bounds.min.to_string());
            set("SLURM_ARRAY_TASK_MAX", bounds.max.to_string());
            set("SLURM_ARRAY_TASK_STEP", bounds.step.to_string());
        }
        let Some(here) = self.prepare.members.get(self.prepare.instance as usize) else { return };
        set("HOSTNAME", here.host.clone());
        set("SLURM_TOPOLOGY_ADDR", here.host.clone());
        set("SLURM_TOPOLOGY_ADDR_PATTERN", "node".to_owned());
        if self.is_primary() {
            set("ENVIRONMENT", "BATCH".to_owned());
            // The script's process fills it in.
            set("SLURM_TASK_PID", String::new());
        }
        let gpus = gpus(here);
        if !gpus.is_empty() {
            let list = gpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            set("SLURM_GPUS_ON_NODE", gpus.len().to_string());
            set("SLURM_JOB_GPUS", list.clone());
            VISIBLE_GPUS.iter().for_each(|name| set(name, list.clone()));
        }
    }
}

/// The numbers of the GPUs that the allocation holds on a node.
fn gpus(member: &v1::Member) -> Vec<u32> {
    let gpus = member.devices.iter().filter(|devices| devices.name == "gpu");
    let mut numbers: Vec<u32> = gpus.flat_map(|devices| devices.numbers.iter().copied()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_of_all_types_are_counted_together() {
        let devices = |name: &str, numbers: &[u32]| v1::Devices {
            name: name.into(),
            numbers: numbers.to_vec(),
            ..v1::Devices::default()
        };
        let member = v1::Member {
            devices: vec![devices("gpu", &[4]), devices("nic", &[0]), devices("gpu", &[1, 2])],
            ..v1::Member::default()
        };
        assert_eq!(gpus(&member), [1, 2, 4]);
        assert!(gpus(&v1::Member::default()).is_empty());
    }
}
