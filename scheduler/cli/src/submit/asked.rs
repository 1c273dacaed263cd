//! The variables by which a script reads what was asked for, as Slurm sets them: only where it was asked for.
//!
//! They go with the job's environment. Those that the allocation can say better (`SLURM_NTASKS`, `SLURM_CPUS_PER_TASK`)
//! get their values on the node; here it is only said that they are wanted.

use std::collections::BTreeMap;

use muster_core::notation::parse_size_bytes;
use muster_core::spec::{Memory, Request};

use super::layer::Layer;
use super::options::Opt;

/// Adds them to a job's environment.
pub(super) fn add(environment: &mut BTreeMap<String, String>, layer: &Layer, request: &Request) {
    let mut set = |name: &str, value: String| drop(environment.insert(format!("SLURM_{name}"), value));
    let says = |option: Opt| layer.get(option).map(|said| said.value.clone());
    if [Opt::Ntasks, Opt::NtasksPerNode, Opt::NtasksPerGpu].iter().any(|option| layer.has(*option)) {
        set("NTASKS", request.ranks.to_string());
        set("NPROCS", request.ranks.to_string());
    }
    let as_said = [
        ("NTASKS_PER_NODE", Opt::NtasksPerNode),
        ("NTASKS_PER_CORE", Opt::NtasksPerCore),
        ("CPUS_PER_TASK", Opt::CpusPerTask),
        ("GPUS", Opt::Gpus),
        ("GPUS_PER_NODE", Opt::GpusPerNode),
        ("GPUS_PER_TASK", Opt::GpusPerTask),
        ("NTASKS_PER_GPU", Opt::NtasksPerGpu),
        ("CPUS_PER_GPU", Opt::CpusPerGpu),
        ("DISTRIBUTION", Opt::Distribution),
        ("HINT", Opt::Hint),
        ("JOB_RESERVATION", Opt::Reservation),
        ("JOB_DEPENDENCY", Opt::Dependency),
    ];
    for (name, option) in as_said {
        if let Some(value) = says(option) {
            set(name, value);
        }
    }
    let per_gpu = layer.get(Opt::MemPerGpu).and_then(|said| parse_size_bytes(&said.value).ok());
    match (per_gpu, request.memory) {
        (Some(bytes), _) => set("MEM_PER_GPU", mebibytes(bytes)),
        (None, Memory::PerNodeBytes(bytes)) => set("MEM_PER_NODE", mebibytes(bytes)),
        (None, Memory::PerCoreBytes(bytes)) => set("MEM_PER_CPU", mebibytes(bytes)),
        (None, Memory::PoolDefault | Memory::WholeNode) => {}
    }
    if let Some(mode) = says(Opt::OpenMode) {
        set("OPEN_MODE", mode.chars().take(1).collect());
    }
    if layer.has(Opt::GetUserEnv) || layer.has(Opt::Export) {
        set("GET_USER_ENV", "1".to_owned());
    }
    set("PRIO_PROCESS", "0".to_owned());
}

fn mebibytes(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_said() {
        let mut layer = Layer::default();
        let mut said = BTreeMap::new();
        add(&mut said, &layer, &Request::default());
        assert_eq!(said.into_iter().collect::<Vec<_>>(), [("SLURM_PRIO_PROCESS".into(), "0".into())]);
        for (option, value) in [
            (Opt::NtasksPerNode, "3"),
            (Opt::CpusPerTask, "2"),
            (Opt::OpenMode, "append"),
            (Opt::Distribution, "cyclic"),
        ] {
            layer.say(option, value, Origin::CommandLine { option: format!("{option:?}") });
        }
        let request = Request { ranks: 6, memory: Memory::PerCoreBytes(5 << 20), ..Request::default() };
        let mut said = BTreeMap::new();
        add(&mut said, &layer, &request);
        for (name, value) in [
            ("SLURM_NTASKS", "6"),
            ("SLURM_NPROCS", "6"),
            ("SLURM_NTASKS_PER_NODE", "3"),
            ("SLURM_CPUS_PER_TASK", "2"),
            ("SLURM_MEM_PER_CPU", "5"),
            ("SLURM_OPEN_MODE", "a"),
            ("SLURM_DISTRIBUTION", "cyclic"),
        ] {
            assert_eq!(said.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!said.contains_key("SLURM_MEM_PER_NODE") && !said.contains_key("SLURM_HINT"));
    }
}
